"""How many bits a frame may have, by the pace of frames and by what those before took."""

from __future__ import annotations

import pytest

from farframe.stream.allowance import LEAST_SHARE, MIN_BITRATE, STILL_SECONDS, BitAllowance

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
