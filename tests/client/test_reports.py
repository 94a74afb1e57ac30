"""What a device tells about frames, and how its clock follows the server's."""

from __future__ import annotations

import random

import pytest

from farframe.client._clock import ClockAlignment
from farframe.client._reports import FrameReporter
from farframe.protocol.records import MAX_REPORTED_FRAMES, ReportedFrame


def stamps(reporter: FrameReporter) -> list[int]:
    report = reporter.take()
    return [] if report is None else [frame.rtp_timestamp for frame in report.frames]


def test_each_frame_is_told_twice_and_nothing_without_new_frames() -> None:
    reporter = FrameReporter(ClockAlignment())
    assert not reporter.waiting
    assert stamps(reporter) == []
    reporter.add(ReportedFrame(1))
    reporter.add(ReportedFrame(2))
    assert stamps(reporter) == [1, 2]
    assert stamps(reporter) == []
    reporter.add(ReportedFrame(3))
    assert stamps(reporter) == [1, 2, 3]
    reporter.add(ReportedFrame(4))
    assert stamps(reporter) == [3, 4]


def test_a_report_has_a_largest_size() -> None:
    reporter = FrameReporter(ClockAlignment())
    for index in range(50):
        reporter.add(ReportedFrame(index))
    assert len(stamps(reporter)) == 50
    for index in range(50, 150):
        reporter.add(ReportedFrame(index))
    told = stamps(reporter)
    assert told == list(range(150 - MAX_REPORTED_FRAMES, 150))


def test_a_report_carries_the_clock() -> None:
    clock = ClockAlignment()
    reporter = FrameReporter(clock)
    reporter.add(ReportedFrame(1))
    report = reporter.take()
    assert report is not None
    assert report.clock_offset_us is None
    clock.add(1_000, 501_500, 2_000)
    reporter.add(ReportedFrame(2))
    report = reporter.take()
    assert report is not None
    assert (report.clock_offset_us, report.round_trip_us) == (500_000, 1_000)


def pinged(drift: float, seconds: int, jitter_us: float, seed: int) -> tuple[ClockAlignment, float]:
    """A clock after pings once a second over ways with jitter, and how far its offset is off at the end."""
    chance = random.Random(seed)
    clock = ClockAlignment()
    sent = true = 0.0
    for second in range(seconds):
        sent = second * 1e6
        there, back = (5_000 + chance.expovariate(1) * jitter_us for _ in range(2))
        server = sent + there + 40e6 + drift * (sent + there)
        clock.add(int(sent), int(server), int(sent + there + back))
        true = 40e6 + drift * (sent + there + back)
    assert clock.offset_us is not None
    return clock, clock.offset_us - true


@pytest.mark.parametrize("drift", [0.0, 50e-6, -100e-6])
def test_the_offset_follows_a_clock_that_drifts(drift: float) -> None:
    for seed in range(20):
        clock, error_us = pinged(drift, 300, jitter_us=2_000, seed=seed)
        assert abs(error_us) < 1_500, "without drift it would lag by up to 6 ms"
        assert clock.drift == pytest.approx(drift, abs=60e-6)


def test_jitter_is_not_taken_for_drift_at_the_beginning() -> None:
    clock, error_us = pinged(0.0, 8, jitter_us=20_000, seed=1)
    assert clock.drift == 0
    assert abs(error_us) < 20_000


def test_an_answer_before_its_question_is_no_exchange() -> None:
    clock = ClockAlignment()
    clock.add(1_000, 5, 900)
    assert not clock.aligned
    assert clock.offset_us is None
    assert clock.round_trip_us is None
    assert clock.to_device(7) is None
