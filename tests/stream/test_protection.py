"""How much error correction there is, and what it saves: on a simulated clock, by seeded patterns of loss."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from farframe.stream.protection import LossHistory, ProtectedBlocks, parities_for
from farframe.stream.transmissions import PacketResult
from tests.stream.simulated_line import SimulatedStream
from tests.stream.test_flexfec import packet


def losing(share: float, seed: int = 3, burst: int = 1) -> Callable[[int], bool]:
    chance, left = random.Random(seed), [0]

    def loses(index: int) -> bool:
        if left[0] == 0 and chance.random() < share / burst:
            left[0] = burst
        left[0] -= left[0] > 0
        return left[0] > 0 if burst > 1 else False

    return loses if burst > 1 else lambda index: chance.random() < share


def results(pattern: str, first: int = 0) -> list[PacketResult]:
    """One result for each character; an ``x`` was lost."""
    return [
        PacketResult(first + at, 1200, 0.0, 0, None if mark == "x" else 1.0, first + at)
        for at, mark in enumerate(pattern)
    ]


def test_a_line_that_loses_nothing_gets_no_parities() -> None:
    stream = SimulatedStream()
    stream.down.delay_seconds = stream.back.delay_seconds = 0.05
    stream.run(10)
    assert stream.sender.statistics.packets_parity == 0


def test_a_narrow_line_whose_queue_overflows_gets_hardly_any() -> None:
    stream = SimulatedStream()
    stream.down.bits_per_second = 2e6
    stream.down.delay_seconds = stream.back.delay_seconds = 0.03
    stream.run(15)
    assert stream.down.dropped > 0
    statistics = stream.sender.statistics
    assert statistics.packets_parity < 0.03 * statistics.packets_sent


def test_where_sending_again_is_quick_there_are_none() -> None:
    stream = SimulatedStream()
    stream.down.loses = losing(0.05)
    stream.down.delay_seconds = stream.back.delay_seconds = 0.005
    stream.run(10)
    assert stream.sender.statistics.packets_parity == 0
    assert stream.sender.statistics.packets_retransmitted > 0


def test_parities_bring_back_what_nobody_repeats() -> None:
    """Nothing that is sent again arrives; the first and the last packets of frames, and of keyframes, are lost too."""
    stream = SimulatedStream(repeats=False)
    stream.down.delay_seconds = stream.back.delay_seconds = 0.03
    stream.down.loses = lambda index: index % 23 == 0
    stream.run(3)
    begin, shown = stream.clock.now, len(stream.shown)
    stream._wish_keyframe()
    stream.run(10)
    assert stream.protection.restored > 100
    assert len(stream.shown) - shown > 0.9 * 10 * 30
    assert stream.longest_gap(begin + 0.1, begin + 10) < 1.0


@pytest.mark.slow
def test_they_shorten_the_tail_at_five_percent_and_fifty_milliseconds() -> None:
    tails, middles, repeated = [], [], []
    for takes in (False, True):
        stream = SimulatedStream(takes_parities=takes)
        stream.down.loses, stream.back.loses = losing(0.05), losing(0.05, 4)
        stream.down.delay_seconds = stream.back.delay_seconds = 0.025
        begin = stream.clock.now
        stream.run(20)
        latencies = stream.latencies(begin + 3, begin + 20)
        middles.append(latencies[len(latencies) // 2])
        tails.append(latencies[int(0.95 * len(latencies))])
        repeated.append(stream.sender.statistics.packets_retransmitted)
        statistics = stream.sender.statistics
        assert statistics.packets_parity < 0.3 * statistics.packets_sent
        assert stream.mean_target(begin + 3, begin + 20) > 8_500_000
    assert middles[1] < 0.5 * middles[0]
    assert tails[1] < 0.7 * tails[0]
    assert repeated[1] < 0.6 * repeated[0]


@pytest.mark.slow
def test_bursts_get_as_many_as_they_take() -> None:
    tails = []
    for takes in (False, True):
        stream = SimulatedStream(takes_parities=takes)
        stream.down.loses = losing(0.02, burst=6)
        stream.down.delay_seconds = stream.back.delay_seconds = 0.04
        begin = stream.clock.now
        stream.run(20)
        latencies = stream.latencies(begin + 3, begin + 20)
        tails.append(latencies[int(0.95 * len(latencies))])
    assert tails[1] < 0.8 * tails[0]


def test_they_end_when_the_loss_ends() -> None:
    stream = SimulatedStream()
    stream.down.delay_seconds = stream.back.delay_seconds = 0.03
    stream.down.loses = losing(0.05)
    stream.run(5)
    assert stream.sender.statistics.packets_parity > 50
    stream.down.loses = lambda index: False
    stream.run(5)
    before = stream.sender.statistics.packets_parity
    stream.run(5)
    assert stream.sender.statistics.packets_parity == before


def test_parities_follow_the_round_trip_the_loss_and_the_size() -> None:
    assert parities_for(40, 0.05, 1, None) == 0
    assert parities_for(40, 0.0, 1, 0.1) == 0
    assert parities_for(40, 0.5, 1, 0.1) == 0, "that much loss wants fewer bits, not more"
    assert parities_for(40, 0.05, 1, 0.015) == 0
    assert 0 < parities_for(40, 0.05, 1, 0.03) < parities_for(40, 0.05, 1, 0.05) == parities_for(40, 0.05, 1, 0.3)
    assert parities_for(40, 0.01, 1, 0.1) < parities_for(40, 0.05, 1, 0.1) < parities_for(40, 0.1, 1, 0.1) <= 12
    assert parities_for(40, 0.01, 6, 0.1) > 6
    assert [parities_for(count, 0.2, 9, 0.1) for count in (1, 2, 5, 10)] == [1, 1, 1, 3]


def test_losses_are_counted_by_share_and_by_length() -> None:
    history = LossHistory()
    history.add(results("." * 500), 1.0, congested=False)
    assert (history.share, history.burst) == (0.0, 1)
    history.add(results("x" + "." * 50 + "x", 500), 1.1, congested=False)
    assert history.share == 0.0, "two may be chance"
    history.add(results((("." * 19) + "x") * 20, 552), 1.5, congested=False)
    assert history.share == pytest.approx(22 / 952, abs=0.02)
    assert history.burst == 1
    history.add(results("." * 300, 952), 5.3, congested=False)
    history.add(results(("." * 90 + "x" * 6) * 4, 1252), 6.0, congested=False)
    assert history.burst == 6
    history.add(results("." * 300, 1636), 12.0, congested=False)
    assert (history.share, history.burst) == (0.0, 1)


def test_what_a_standing_queue_drops_does_not_count() -> None:
    history = LossHistory()
    history.add(results("..x" * 100), 1.0, congested=True)
    assert history.share == 0.0


def blocks_of(count: int, parities: int) -> tuple[ProtectedBlocks, list[tuple[int, int]]]:
    blocks = ProtectedBlocks(1)
    blocks.begin()
    for number in range(65_530, 65_530 + count):
        blocks.add(number & 0xFFFF, packet(number & 0xFFFF, b"abcd"))
    names = [name for name, _ in blocks.close(parities)]
    for index, name in enumerate(names):
        blocks.sent(name, 1000 + index)
    return blocks, names


def test_only_what_is_known_to_be_restored_is_not_sent_again() -> None:
    blocks, names = blocks_of(12, 1)
    assert len(names) == 1
    blocks.lost(65_531)
    assert not blocks.restored(65_531) and not blocks.hopeless(65_531), "the parity may have arrived, or not"
    blocks.report(1000, True)
    assert blocks.restored(65_531)
    blocks.lost(3)
    assert not blocks.restored(65_531) and blocks.hopeless(65_531), "one parity, two losses"
    assert blocks.hopeless(4000), "in no block"


def test_a_parity_that_is_lost_itself_gives_no_hope() -> None:
    blocks, _ = blocks_of(12, 1)
    blocks.lost(65_531)
    blocks.report(1000, False)
    assert blocks.hopeless(65_531) and not blocks.restored(65_531)


def test_old_blocks_are_forgotten() -> None:
    blocks = ProtectedBlocks(1)
    for frame in range(500):
        blocks.begin()
        for number in range(frame * 10, frame * 10 + 10):
            blocks.add(number & 0xFFFF, packet(number & 0xFFFF, b"x"))
        for index, (name, _) in enumerate(blocks.close(2)):
            blocks.sent(name, (2 * frame + index) & 0xFFFF)
    assert len(blocks._of_packet) == 640 and len(blocks._of_transmission) == 128
