"""The benchmark's bad network: the same weather each time, and no more of it than was asked for."""

from __future__ import annotations

import itertools
import random

from benchmarks.network_proxy import Condition, Direction, LossPattern, Proxy


def direction(seed: int = 1) -> Direction:
    return Direction(LossPattern(seed), random.Random(seed))


def test_the_pattern_of_losses_depends_on_the_seed_only() -> None:
    first, second, other = LossPattern(3), LossPattern(3), LossPattern(4)
    losses = [first.loses(0.05, 1) for _ in range(4000)]
    assert losses == [second.loses(0.05, 1) for _ in range(4000)]
    assert losses != [other.loses(0.05, 1) for _ in range(4000)]
    assert 0.04 < sum(losses) / 4000 < 0.06


def test_bursts_have_their_length_and_their_share() -> None:
    pattern = LossPattern(3)
    losses = [pattern.loses(0.02, 6) for _ in range(100_000)]
    runs = sum(later and not earlier for earlier, later in itertools.pairwise(losses))
    assert 0.015 < sum(losses) / len(losses) < 0.025
    assert 5 < sum(losses) / runs < 7


def test_a_cap_fills_a_queue_that_overflows_and_order_is_kept() -> None:
    line = direction()
    condition = Condition(bits_per_second=1e6, queue_seconds=0.1, delay_seconds=0.01, jitter_seconds=0.005)
    times = [line.passes(1222, condition, 50.0, capped=True) for _ in range(100)]
    kept = [at for at in times if at is not None]
    assert len(kept) == 11
    assert line.overflowed == 89
    assert kept == sorted(kept)
    assert 0.11 < max(kept) - 50.0 < 0.2
    assert line.passes(1222, condition, 51.0, capped=True) is not None
    assert direction().passes(1222, condition, 50.0, capped=False) is not None


def test_weather_begins_when_it_is_told_to_and_changes_in_time() -> None:
    now = [100.0]
    proxy = Proxy(("127.0.0.1", 9), [Condition(at=5, down=True), Condition(at=0, loss=0.5)], 1, lambda: now[0])
    try:
        assert proxy._condition(now[0]) == Condition()
        proxy.begin()
        assert proxy._condition(104.0).loss == 0.5
        assert proxy._condition(105.0).down
    finally:
        proxy.close()
