"""Rate control against weather, on a simulated clock: bounds on queues, rates and gaps in simulated time."""

from __future__ import annotations

import random

import pytest

from tests.stream.simulated_line import SimulatedStream


def test_an_open_line_is_used_up_to_the_ceiling_within_two_seconds() -> None:
    stream = SimulatedStream()
    begin = stream.clock.now
    stream.run(5)
    assert stream.mean_target(begin + 2, begin + 5) > 11_000_000
    assert stream.longest_gap(begin + 0.5, begin + 5) < 0.1
    assert stream.keyframes == 1


@pytest.mark.parametrize("queue_seconds", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("delay_seconds", [0.005, 0.03])
def test_a_narrowing_line_stops_the_picture_briefly_and_a_widening_one_is_used(
    queue_seconds: float, delay_seconds: float
) -> None:
    stream = SimulatedStream()
    begin = stream.clock.now
    stream.down.delay_seconds = stream.back.delay_seconds = delay_seconds
    stream.down.queue_seconds = queue_seconds
    stream.down.bits_per_second = 8e6
    stream.run(10)
    assert 5_000_000 < stream.mean_target(begin + 3, begin + 10) < 8_000_000
    assert stream.longest_queue(begin + 3, begin + 10) < 0.15
    stream.down.bits_per_second = 1.5e6
    stream.run(10)
    # What has entered the line's own queue must drain before anything new arrives.
    assert stream.longest_gap(begin + 10, begin + 11.5) < max(0.5, queue_seconds + 0.1)
    assert 1_000_000 < stream.mean_target(begin + 11.5, begin + 20) < 1_500_000
    assert stream.longest_queue(begin + 11.5, begin + 20) < 0.15
    assert stream.longest_gap(begin + 11.5, begin + 20) < 0.15
    stream.down.bits_per_second = 8e6
    stream.run(10)
    assert stream.mean_target(begin + 23, begin + 30) > 5_000_000
    assert stream.longest_gap(begin + 20, begin + 30) < 0.2


def test_a_line_that_vanishes_for_three_seconds_is_back_within_half_a_second() -> None:
    stream = SimulatedStream()
    begin = stream.clock.now
    stream.down.delay_seconds = stream.back.delay_seconds = 0.01
    stream.run(5)
    sent = stream.sender.statistics.bytes_sent
    stream.down.down = stream.back.down = True
    stream.run(3)
    assert stream.congestion.silent
    assert stream.sender.statistics.bytes_sent - sent < 600_000, "nothing is poured into a line that is gone"
    stream.down.down = stream.back.down = False
    stream.run(5)
    first = min(frame.arrived_at for frame in stream.shown if frame.arrived_at > begin + 8)
    assert first < begin + 8.5
    assert stream.longest_gap(first + 0.001, begin + 13) < 0.2
    assert stream.mean_target(begin + 9, begin + 13) > 9_000_000


def test_a_line_that_vanishes_while_a_frame_is_given_up_in_the_middle_is_found_again() -> None:
    """The frame's cut leaves a gap in the numbers; what is sent into the silence must not be looked for in it."""
    stream = SimulatedStream()
    stream.down.bits_per_second = 4e6
    stream.run(2)
    waiting = stream.sender._pacer._frames
    while not waiting or waiting[0].first:
        stream.run(0.001)
    stream.down.down = stream.back.down = True
    stream.sender._restart(stream.clock.now)
    stream._keyframe_wanted = False  # nobody has one to give for a while
    stream.run(3)
    assert stream.congestion.silent
    stream._wish_keyframe()
    stream.run(1)
    stream.down.down = stream.back.down = False
    seen = len(stream.shown)
    stream.run(4)
    assert not stream.congestion.silent
    assert len(stream.shown) > seen + 30


@pytest.mark.parametrize("rate", [1e6, 2e6, 4e6])
def test_a_picture_that_moves_after_a_rest_takes_no_more_than_the_line_was_found_to_carry(rate: float) -> None:
    """An encoder that forgot how much motion takes sends frames of more than twice their share for a while."""
    stream = SimulatedStream(start_bitrate=int(rate))
    stream.down.bits_per_second = 1.1 * rate
    stream.down.delay_seconds = stream.back.delay_seconds = 0.01
    stream.run(8)
    stream.content_bitrate = 40_000
    stream.run(4)
    begin = stream.clock.now
    stream.content_bitrate, stream.overshoot = 1e9, 2.5
    stream.run(0.5)
    stream.overshoot = 1.0
    stream.run(1.5)
    assert stream.longest_queue(begin, begin + 2) < 0.13
    assert stream.longest_gap(begin, begin + 2) < 0.2
    assert stream.down.dropped == 0


@pytest.mark.slow
def test_jitter_is_no_congestion() -> None:
    stream = SimulatedStream()
    chance = random.Random(3)
    stream.down.jitter = stream.back.jitter = lambda: chance.expovariate(1 / 0.008)
    stream.down.delay_seconds = stream.back.delay_seconds = 0.02
    begin = stream.clock.now
    stream.run(20)
    assert stream.mean_target(begin + 5, begin + 20) > 8_000_000


def test_a_still_scene_neither_lowers_the_rate_nor_keeps_one_that_the_line_lost() -> None:
    stream = SimulatedStream()
    stream.down.bits_per_second = 8e6
    stream.down.delay_seconds = stream.back.delay_seconds = 0.01
    begin = stream.clock.now
    stream.run(10)
    stream.content_bitrate = 40_000
    stream.run(60)
    assert stream.mean_target(begin + 60, begin + 70) > 5_000_000
    stream.down.bits_per_second = 2e6
    stream.run(25)
    assert stream.mean_target(begin + 93, begin + 95) < 4_000_000
    stream.content_bitrate = 1e9
    stream.run(5)
    assert stream.longest_gap(begin + 95, begin + 100) < 0.4
    assert 1_300_000 < stream.mean_target(begin + 97, begin + 100) < 2_000_000


@pytest.mark.slow
def test_five_percent_of_loss_at_fifty_milliseconds_freezes_nothing_and_lowers_nothing() -> None:
    stream = SimulatedStream()
    chance = random.Random(3)
    stream.down.loses = stream.back.loses = lambda index: chance.random() < 0.05
    stream.down.delay_seconds = stream.back.delay_seconds = 0.025
    begin = stream.clock.now
    stream.run(30)
    assert stream.longest_gap(begin + 1, begin + 30) < 0.25
    latencies = stream.latencies(begin + 1, begin + 30)
    assert latencies[int(0.95 * len(latencies))] < 0.2
    assert stream.mean_target(begin + 3, begin + 30) > 9_000_000
    assert stream.keyframes == 1
    statistics = stream.sender.statistics
    assert statistics.packets_retransmitted < 0.15 * statistics.packets_sent


@pytest.mark.slow
def test_bursts_of_loss_are_repaired() -> None:
    stream = SimulatedStream()
    stream.down.delay_seconds = stream.back.delay_seconds = 0.02
    stream.down.loses = lambda index: index > 500 and index % 700 < 15
    begin = stream.clock.now
    stream.run(20)
    assert stream.longest_gap(begin + 1, begin + 20) < 0.25
    assert stream.mean_target(begin + 5, begin + 20) > 8_000_000


def test_a_collapse_by_loss_alone_is_answered_without_a_queue_to_see() -> None:
    stream = SimulatedStream()
    begin = stream.clock.now
    stream.down.delay_seconds = stream.back.delay_seconds = 0.02
    stream.down.queue_seconds = 0.02
    stream.down.bits_per_second = 3e6
    stream.run(10)
    assert 1_500_000 < stream.mean_target(begin + 3, begin + 10) < 3_000_000
    assert stream.longest_gap(begin + 3, begin + 10) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("parts_per_million", [-300, 300])
def test_a_receiver_whose_clock_runs_wrong_is_no_congestion(parts_per_million: int) -> None:
    stream = SimulatedStream(receiver_clock=lambda now: 5000.0 + now * (1 + parts_per_million / 1e6))
    begin = stream.clock.now
    stream.run(30)
    assert stream.mean_target(begin + 2, begin + 30) > 11_000_000
    assert stream.congestion.decreases == 0


@pytest.mark.slow
def test_a_delay_that_drifts_slowly_does_not_starve_the_stream() -> None:
    """A competing stream fills the queue by 2 ms a second, and lets go."""
    stream = SimulatedStream()
    begin = stream.clock.now
    stream.down.delay_seconds = stream.back.delay_seconds = 0.02
    stream.down.jitter = lambda: 0.002 * ((stream.clock.now - begin) % 15)
    stream.run(30)
    assert stream.mean_target(begin + 2, begin + 30) > 8_000_000


def test_reports_that_are_lost_doubled_late_or_garbage_do_no_harm() -> None:
    stream = SimulatedStream()
    chance = random.Random(5)
    stream.down.bits_per_second = 5e6
    stream.down.delay_seconds = stream.back.delay_seconds = 0.02
    stream.back.loses = lambda index: chance.random() < 0.2
    stream.back.jitter = lambda: chance.random() * 0.12
    stream.back.reorders = True
    stream.feedback_twice = True
    # A report about packets that were never sent, one cut short, one of another version, and noise.
    stream.garbage = [
        bytes.fromhex("8fcd0005000000010000000270000008000001000008aabb"),
        bytes.fromhex("8fcd000400000001000000020001ffff0000010020ff"),
        bytes.fromhex("4fcd0005000000010000000200010008000001002008aabb"),
        chance.randbytes(60),
    ]
    begin = stream.clock.now
    stream.run(20)
    assert 3_000_000 < stream.mean_target(begin + 3, begin + 20) < 5_000_000
    assert stream.longest_gap(begin + 1, begin + 20) < 0.3
    assert stream.longest_queue(begin + 3, begin + 20) < 0.2


def test_a_keyframe_request_is_answered_without_a_burst() -> None:
    """On a narrow line: the keyframe, five frames' worth, leaves at a pace that the line's queue takes."""
    stream = SimulatedStream(start_bitrate=2_000_000)
    begin = stream.clock.now
    stream.down.bits_per_second = 2e6
    stream.down.queue_seconds = 1.0
    stream.run(5)
    stream._wish_keyframe()
    stream.run(2)
    assert stream.keyframes == 2
    assert stream.longest_queue(begin + 5, begin + 7) < 0.2


@pytest.mark.slow
def test_a_busy_machine_that_delivers_in_lumps_at_ten_frames_a_second_is_no_narrow_line() -> None:
    """Both ends share two cores with others: whatever arrives waits for the next time the receiver gets to run."""
    stream = SimulatedStream()
    chance = random.Random(11)
    stalls = [0.0]

    def wait() -> float:
        now = stream.clock.now
        while stalls[-1] < now:
            stalls.append(stalls[-1] + chance.expovariate(1 / 0.06) if stalls[-1] else now)
        return stalls[-1] - now

    stream.down.jitter = wait
    stream.down.bits_per_second = 8e6
    stream.down.delay_seconds = stream.back.delay_seconds = 0.01
    stream.frames_per_second = 10
    begin = stream.clock.now
    stream.run(40)
    assert stream.mean_target(begin + 5, begin + 40) > 4_000_000


def test_a_line_that_narrows_below_the_little_that_is_sent_is_noticed() -> None:
    stream = SimulatedStream()
    stream.content_bitrate = 2_500_000
    stream.down.delay_seconds = stream.back.delay_seconds = 0.01
    stream.run(5)
    stream.down.bits_per_second = 1e6
    begin = stream.clock.now
    stream.run(10)
    assert stream.longest_gap(begin, begin + 2) < 0.6
    assert stream.mean_target(begin + 2, begin + 10) < 1_000_000
    assert stream.longest_queue(begin + 2, begin + 10) < 0.2
