"""Frames from packets: complete on the marker, in order, and what happens when packets are missing."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest

from farframe.stream.jitter import FrameAssembler
from farframe.stream.packets import RtpPacket

KEY = b"\x67\x42\x00\x1f"
REST = b"\x41\x9a\x00\x01"


def frame(number: int, count: int = 3, *, key: bool = False, first: int | None = None) -> list[RtpPacket]:
    begin = number * count if first is None else first
    return [
        RtpPacket(
            102,
            index == count - 1,
            (begin + index) & 0xFFFF,
            number * 3000 & 0xFFFFFFFF,
            1,
            (KEY if key and index == 0 else REST) + bytes([number & 0xFF, index]),
        )
        for index in range(count)
    ]


def test_a_frame_is_complete_with_its_marker_not_with_the_next_frame() -> None:
    assembler = FrameAssembler()
    packets = frame(0, key=True)
    assert not assembler.push(packets[0], 0.0).frames
    assert not assembler.push(packets[1], 0.0).frames
    done = assembler.push(packets[2], 0.5)
    assert [(f.timestamp, f.received_at) for f in done.frames] == [(0, 0.5)]
    assert not done.missing and not done.keyframe_needed


def test_any_order_within_reach_gives_the_same_frames() -> None:
    choose = random.Random(1)
    packets = [packet for number in range(40) for packet in frame(number, key=number == 0)]
    shuffled = [packets[0], *sorted(packets[1:], key=lambda p: p.sequence_number + choose.uniform(0, 12))]
    assembler = FrameAssembler()
    stamps = [f.timestamp for packet in shuffled for f in assembler.push(packet, 0.0).frames]
    assert stamps == [number * 3000 for number in range(40)]


def test_sequence_numbers_and_time_stamps_wrap() -> None:
    assembler = FrameAssembler()
    begin = (1 << 32) // 3000 - 1
    stamps = []
    for step in range(6):
        for packet in frame(begin + step, key=step == 0, first=65536 - 5 + 3 * step):
            stamps += [f.timestamp for f in assembler.push(packet, 0.0).frames]
    assert stamps == [(begin + step) * 3000 for step in range(6)]


def test_a_gap_is_asked_for_once_then_repeated_and_filled() -> None:
    assembler = FrameAssembler()
    for packet in frame(0, key=True):
        assembler.push(packet, 0.0)
    first, second, third = frame(1)
    assembler.push(first, 0.01)
    assert assembler.push(third, 0.01).missing == [second.sequence_number]
    assert assembler.poll(0.02).missing == []
    assert assembler.poll(0.13).missing == [second.sequence_number]
    done = assembler.push(second, 0.14)
    assert [f.timestamp for f in done.frames] == [3000]
    assert not assembler.waits


def test_the_round_trip_sets_the_pace_of_requests() -> None:
    for round_trip, early, late in ((0.1, 0.14, 0.16), (0.001, 0.03, 0.05)):
        assembler = FrameAssembler()
        assembler.round_trip_seconds = round_trip
        for packet in frame(0, key=True) + frame(1)[:1] + frame(2)[:1]:
            assembler.push(packet, 0.0)
        assert assembler.poll(early).missing == []
        assert assembler.poll(late).missing == [4, 5]


def test_what_never_comes_is_given_up_for_a_keyframe() -> None:
    assembler = FrameAssembler()
    for packet in frame(0, key=True) + frame(1)[:1] + frame(2) + frame(3):
        assembler.push(packet, 0.0)
    assert assembler.poll(0.4).frames == []
    given_up = assembler.poll(0.6)
    assert given_up.keyframe_needed and not given_up.frames
    results = [assembler.push(packet, 0.7) for packet in frame(4) + frame(5, key=True) + frame(6)]
    assert [f.timestamp for result in results for f in result.frames] == [15000, 18000]


def test_time_in_which_the_program_stood_still_gives_nothing_up() -> None:
    assembler = FrameAssembler()
    late = frame(1)
    for packet in frame(0, key=True) + late[:1] + frame(2):
        assembler.push(packet, 0.0)
    assembler.stood_still(2.0)
    waiting = assembler.poll(2.1)
    assert waiting.missing and not waiting.keyframe_needed
    results = [assembler.push(packet, 2.2) for packet in late[1:]]
    assert [each.timestamp for result in results for each in result.frames] == [3000, 6000]
    assert not assembler.poll(2.3).keyframe_needed


def test_a_whole_keyframe_ends_the_wait_for_what_is_before_it() -> None:
    assembler = FrameAssembler()
    for packet in frame(0, key=True) + frame(1)[:1] + frame(2):
        assembler.push(packet, 0.0)
    results = [assembler.push(packet, 0.05) for packet in frame(3, key=True)]
    assert [f.timestamp for result in results for f in result.frames] == [9000]
    assert not assembler.waits


def test_joining_in_the_middle_asks_for_a_keyframe() -> None:
    assembler = FrameAssembler()
    asked = [assembler.push(packet, 0.0).keyframe_needed for packet in frame(7)]
    assert any(asked)
    assert not assembler.poll(0.1).keyframe_needed
    assert assembler.poll(0.3).keyframe_needed


def test_duplicates_and_late_packets_are_ignored() -> None:
    assembler = FrameAssembler()
    packets = frame(0, key=True)
    stamps = [
        f.timestamp for packet in packets + packets + frame(1) + packets for f in assembler.push(packet, 0.0).frames
    ]
    assert stamps == [0, 3000]


def test_a_jump_far_ahead_starts_anew_and_keeps_memory_bounded() -> None:
    assembler = FrameAssembler()
    for packet in frame(0, key=True):
        assembler.push(packet, 0.0)
    result = assembler.push(frame(5000)[0], 1.0)
    assert result.missing == []
    assert result.keyframe_needed


@pytest.mark.parametrize("seed", range(12))
def test_every_frame_is_there_the_moment_its_last_packet_is(seed: int) -> None:
    """Whatever is lost, delayed or swapped, as long as it is repaired: no frame waits for a packet of the next one.

    A simulated line on a simulated clock: lost packets come again a round trip after they were asked for, or are lost
    again. A frame can be decoded once all packets up to its marker have come, and that is when it must be handed over.
    """
    choose = random.Random(seed)
    loss, jitter, round_trip = choose.choice([0.0, 0.05, 0.2]), choose.choice([0.0, 0.004, 0.03]), 0.05
    assembler = FrameAssembler()
    assembler.round_trip_seconds = round_trip
    order = itertools.count()
    line: list[tuple[float, int, RtpPacket | None]] = []
    packets: dict[int, RtpPacket] = {}
    ends: dict[int, int] = {}
    number = 0
    for index in range(120):
        count = 1 if choose.random() < 0.2 else choose.randrange(2, 12)
        for packet in frame(index, count, key=index == 0, first=number):
            packets[packet.sequence_number] = packet
            # Not the very first: a stream begins where its first packet says.
            at = index / 30 + (choose.uniform(0, jitter) if index else 0.0)
            if index == 0 or index == 119 or choose.random() >= loss:
                heapq.heappush(line, (at, next(order), packet))
        number += count
        ends[index * 3000] = number
    arrived: dict[int, float] = {}
    done: dict[int, float] = {}
    asked: dict[int, list[float]] = {}
    heapq.heappush(line, (0.0, next(order), None))
    while line:
        now, _, packet = heapq.heappop(line)
        if packet is None:
            result = assembler.poll(now)
            if len(done) < len(ends):
                heapq.heappush(line, (now + 0.02, next(order), None))
        else:
            arrived.setdefault(packet.sequence_number, now)
            result = assembler.push(packet, now)
        for lost in result.missing:
            asked.setdefault(lost, []).append(now)
            if choose.random() >= loss or len(asked[lost]) > 2:
                heapq.heappush(line, (now + round_trip, next(order), packets[lost]))
        for complete in result.frames:
            assert complete.received_at == now
            done[complete.timestamp] = now
        assert now < 60, "it must come to an end"
    assert list(done) == list(ends), "all frames, in order"
    for timestamp, end in ends.items():
        assert done[timestamp] == max(arrived[sequence] for sequence in range(end))
    for times in asked.values():
        assert all(later - earlier >= 1.5 * round_trip for earlier, later in itertools.pairwise(times))


def test_a_packet_that_was_asked_for_is_not_asked_for_again_when_it_comes_by_itself() -> None:
    assembler = FrameAssembler()
    for packet in frame(0, key=True):
        assembler.push(packet, 0.0)
    first, second, third = frame(1)
    assembler.push(first, 0.01)
    assert assembler.push(third, 0.01).missing == [second.sequence_number]
    assembler.push(second, 0.02)  # it was only late
    assert assembler.poll(5.0).missing == []
    assert assembler.push(second, 5.0).frames == [], "the answer to the request, too late, is one too many"
