"""Transport-wide reports: what is built is read back; what is hostile is refused before it costs anything."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.stream.feedback import (
    MAX_STATUSES,
    RTCP_TRANSPORT_FEEDBACK,
    TRANSPORT_FEEDBACK_FORMAT,
    ArrivalClock,
    FeedbackBuilder,
    TransportFeedback,
    parse_feedback,
    split_compound,
)


def read(data: bytes | None) -> TransportFeedback:
    assert data is not None and len(data) % 4 == 0
    [(kind, form, payload)] = split_compound(data)
    assert (kind, form) == (RTCP_TRANSPORT_FEEDBACK, TRANSPORT_FEEDBACK_FORMAT)
    return parse_feedback(payload)


def test_a_report_written_by_hand_is_read() -> None:
    """Base 1, 7 packets, reference 2 (128 ms), report 9: a run of 3 that arrived, then a vector with a large delta."""
    payload = bytes.fromhex("00000001 00000002 0001 0007 000002 09 2003 e400 04 08 0c fff8 10".replace(" ", ""))
    feedback = parse_feedback(payload)
    assert (feedback.base_sequence, feedback.count) == (1, 9)
    milliseconds = [None if at is None else round((at - 0.128) * 1e3, 2) for at in feedback.arrivals]
    assert milliseconds == [1.0, 3.0, 6.0, 4.0, 8.0, None, None]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3)), min_size=1, max_size=80), st.integers(0, 0xFFFF))
def test_what_is_built_is_read_back(steps: list[tuple[int, float]], first: int) -> None:
    builder = FeedbackBuilder()
    expected: dict[int, float] = {}
    number, now = first, 1000.0
    for gap, delay in steps:
        number, now = number + 1 + gap, now + delay / 10
        builder.add(number & 0xFFFF, now)
        expected[number] = now
    found: dict[int, float] = {}
    base = first
    while (data := builder.build(1, 2, now)) is not None:
        feedback = read(data)
        base += (feedback.base_sequence - base) & 0xFFFF
        for offset, at in enumerate(feedback.arrivals):
            if at is not None:
                found[base + offset] = at
    modulus = ArrivalClock.MODULUS_SECONDS
    assert found.keys() == expected.keys()
    assert all(abs(found[key] - expected[key] % modulus) < 0.0003 for key in expected)


def test_reports_follow_each_other_without_a_gap_and_tell_of_late_packets() -> None:
    builder = FeedbackBuilder()
    for number in (1, 2, 5):
        builder.add(number, 10.0)
    first = read(builder.build(1, 2, 10.0))
    assert [at is not None for at in first.arrivals] == [True, True, False, False, True]
    assert builder.build(1, 2, 10.0) is None
    builder.add(7, 10.1)
    second = read(builder.build(1, 2, 10.1))
    assert (second.base_sequence, len(second.arrivals), second.count) == (6, 2, 1)
    builder.add(4, 10.2)
    third = read(builder.build(1, 2, 10.2))
    assert third.base_sequence == 4
    assert [at is not None for at in third.arrivals] == [True, True, False, True]


def test_a_jump_of_numbers_begins_anew() -> None:
    builder = FeedbackBuilder()
    builder.add(10, 1.0)
    builder.add(30_000, 1.1)
    feedback = read(builder.build(1, 2, 1.1))
    assert feedback.base_sequence == 30_000 and len(feedback.arrivals) == 1


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "00000001000000020001",
        "000000010000000200010000000002092003",  # no packets
        "0000000100000002000180000000020920030102",  # too many
        "00000001000000020001000800000209200801",  # times are missing
        "000000010000000200010008000002096008aabb",  # a reserved status
        "000000010000000200010008000002090000",  # an empty run
        "0000000100000002000100080000020940010f",  # half a large time
    ],
)
def test_malformed_reports_are_refused(payload: str) -> None:
    with pytest.raises(ValueError):
        parse_feedback(bytes.fromhex(payload))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for _, _, payload in split_compound(data):
        try:
            feedback = parse_feedback(payload)
        except ValueError:
            continue
        assert len(feedback.arrivals) <= MAX_STATUSES


def test_a_compound_packet_ends_where_it_stops_to_be_one() -> None:
    builder = FeedbackBuilder()
    builder.add(1, 1.0)
    report = builder.build(1, 2, 1.0)
    assert report is not None
    assert len(list(split_compound(report + report))) == 2
    assert len(list(split_compound(report + b"\x8f\xcd\xff\xff1234"))) == 1
    assert len(list(split_compound(report * 100))) < 100
    noise = random.Random(1).randbytes(1000)
    assert len(list(split_compound(bytes([noise[0] & 0x3F]) + noise[1:]))) == 0


def test_arrival_times_wrap() -> None:
    clock = ArrivalClock()
    modulus = ArrivalClock.MODULUS_SECONDS
    assert clock.unwrap(modulus - 1.0) == modulus - 1.0
    assert clock.unwrap(0.5) == pytest.approx(modulus + 0.5)
    assert clock.unwrap(modulus - 0.25) == pytest.approx(modulus - 0.25), "an older one may come after it"
    assert clock.unwrap(1.0) == pytest.approx(modulus + 1.0)
