"""How many bits a frame may have, by the pace of frames and by what those before took."""

from __future__ import annotations

import math

import pytest

from farframe.stream.allowance import (
    LEAST_SHARE,
    MIN_BITRATE,
    MOVING_QUANTIZER,
    QUANTIZER_PER_DOUBLING,
    STILL_SECONDS,
    BitAllowance,
)

RATE = 2_000_000


def share(allowance: BitAllowance, told: int) -> float:
    """Bits for one frame."""
    return told / allowance.frames_per_second


@pytest.mark.parametrize("pace", [60, 30, 15])
def test_any_pace_of_frames_gets_the_same_rate(pace: int) -> None:
    allowance = BitAllowance(60, 12_000_000)
    spent = 0.0
    for index in range(300):
        bits = share(allowance, allowance.rate(index / pace, RATE))
        allowance.spent(int(bits))
        spent += bits if index >= 100 else 0
    assert spent / (200 / pace) == pytest.approx(RATE, rel=0.05)


def test_a_pause_does_not_make_the_next_frame_larger() -> None:
    allowance = BitAllowance(60, 12_000_000)
    for index in range(100):
        before = allowance.rate(index / 30, RATE)
    assert allowance.rate(100.0, RATE) == before


def test_a_frame_at_rest_may_take_more() -> None:
    allowance = BitAllowance(60, 12_000_000)
    for index in range(100):
        allowance.rate(index / 30, RATE)
    told = allowance.rate(100 / 30, RATE, still=True)
    assert share(allowance, told) == pytest.approx(RATE * STILL_SECONDS, rel=0.05)


def test_a_frame_that_took_too_much_makes_the_next_ones_smaller_until_it_is_paid_off() -> None:
    allowance = BitAllowance(60, 12_000_000)
    for index in range(100):
        usual = allowance.rate(index / 30, RATE)
    allowance.spent(RATE // 4)  # a quarter of a second's worth
    told = [allowance.rate((100 + index) / 30, RATE) for index in range(10)]
    assert told[0] < 0.6 * usual
    assert told == sorted(told)
    assert told[-1] == pytest.approx(usual, rel=0.05)
    assert allowance.debt_bits == 0


def test_however_large_the_debt_a_frame_gets_a_part() -> None:
    allowance = BitAllowance(60, 12_000_000)
    for index in range(100):
        usual = allowance.rate(index / 30, RATE)
    allowance.spent(100 * RATE)
    assert allowance.rate(100 / 30, RATE) == pytest.approx(LEAST_SHARE * usual, rel=0.05)


def test_the_limits_hold() -> None:
    allowance = BitAllowance(60, 1_000_000)
    assert allowance.rate(0, 1_000_000_000, still=True) == allowance.ceiling == 5_000_000
    assert allowance.rate(1, 1) == MIN_BITRATE


def encoded(allowance: BitAllowance, seconds: float, bits_at: float, *, still: bool = False) -> tuple[float, float]:
    """A frame of an encoder that spends what it is told, on a picture that takes ``bits_at`` at the quantizer that
    looks right in motion: its bits and its quantizer."""
    bits = share(allowance, allowance.rate(seconds, 12_000_000, still=still))
    quantizer = MOVING_QUANTIZER - QUANTIZER_PER_DOUBLING * math.log2(bits / bits_at)
    allowance.spent(int(bits), quantizer=quantizer)
    return bits, quantizer


def test_a_moving_picture_takes_no_more_than_looks_right_however_much_the_line_carries() -> None:
    allowance = BitAllowance(60, 12_000_000)
    for index in range(60):
        bits, quantizer = encoded(allowance, index / 30, 100_000)
    assert MOVING_QUANTIZER - 3 < quantizer < MOVING_QUANTIZER
    assert bits < 130_000
    for index in range(60, 66):
        bits, quantizer = encoded(allowance, index / 30, 300_000)
    assert quantizer < MOVING_QUANTIZER, "a picture that becomes richer gets what it needs within a few frames"
    bits, quantizer = encoded(allowance, 66 / 30, 100_000, still=True)
    assert bits > 900_000, "a picture at rest may have all of the rate"


def test_frames_that_are_sent_now_and_then_do_not_make_motion_coarse() -> None:
    """While nothing moves, the same picture is sent again each second, and takes next to nothing."""
    allowance = BitAllowance(60, 12_000_000)
    for index in range(60):
        before, _ = encoded(allowance, index / 30, 100_000)
    for second in range(60):
        allowance.rate(10.0 + second, 12_000_000)
        allowance.spent(500, quantizer=16.0)
    after, _ = encoded(allowance, 71.0, 100_000)
    assert after == pytest.approx(before, rel=0.1)


def test_an_encoder_that_does_not_tell_its_quantizer_has_the_rate() -> None:
    allowance = BitAllowance(60, 12_000_000)
    for index in range(60):
        told = allowance.rate(index / 30, 12_000_000)
        allowance.spent(int(share(allowance, told)))
    assert share(allowance, told) == pytest.approx(400_000, rel=0.1)
