"""Probes: what clusters show, when they are sent, and what is not believed."""

from __future__ import annotations

import pytest

from farframe.stream.acknowledged import AcknowledgedBitrate
from farframe.stream.delay_trend import DelayTrend, Usage
from farframe.stream.feedback import TransportFeedback
from farframe.stream.probing import INTERVAL_SECONDS, QUIET_INTERVAL_SECONDS, Probe, Prober, measure_cluster
from farframe.stream.transmissions import PacketResult, TransmissionLog


def cluster(probe: Probe, line: float, *, lost: int = 0) -> list[PacketResult]:
    """What becomes of a probe on a line of so many bits per second."""
    count = -(-probe.size // 1200)
    results, free = [], 0.0
    for index in range(count):
        sent = 50.0 + index * 9600 / probe.bitrate
        free = max(free, sent) + 9600 / line
        arrived = None if index < lost else free + 500.0
        results.append(PacketResult(index, 1200, sent, probe.cluster, arrived))
    return results


@pytest.mark.parametrize(("line", "shown"), [(50e6, 4e6), (3e6, 0.85 * 3e6), (1e6, 0.85 * 1e6)])
def test_a_cluster_shows_its_own_rate_or_the_lines(line: float, shown: float) -> None:
    assert measure_cluster(cluster(Probe(1, 4e6, 20_000), line)) == pytest.approx(shown, rel=0.05)


def test_packets_held_up_and_delivered_at_once_show_nothing() -> None:
    results = [PacketResult(i, 1200, i * 0.003, 1, 10.0 + i * 0.0001) for i in range(10)]
    assert measure_cluster(results) is None


def test_a_cluster_that_shows_more_leads_to_the_next_at_once() -> None:
    prober = Prober(12e6)
    first = prober.next(1.0, 1.5e6)
    assert first is not None and first.bitrate == 3e6
    assert prober.next(1.1, 1.5e6) is None, "one at a time"
    assert prober.take(cluster(first, 50e6), 1.2) == pytest.approx(3e6, rel=0.05)
    second = prober.next(1.2, 3e6)
    assert second is not None and second.bitrate == 6e6
    assert prober.take(cluster(second, 4e6), 1.3) == pytest.approx(3.4e6, rel=0.05)
    assert prober.next(1.4, 3.4e6) is None
    assert prober.next(1.3 + INTERVAL_SECONDS, 3.4e6) is not None


def test_a_cluster_most_of_which_is_lost_shows_nothing_and_is_given_up() -> None:
    prober = Prober(12e6)
    probe = prober.next(1.0, 2e6)
    assert probe is not None
    assert prober.take(cluster(probe, 50e6, lost=6), 1.2) is None
    assert prober.next(1.5, 2e6) is None
    assert prober.next(4.0, 2e6) is not None


def test_at_the_ceiling_there_is_nothing_more_to_look_for() -> None:
    prober = Prober(12e6)
    probe = prober.check(1.0, 12e6)
    assert probe is not None
    assert prober.take(cluster(probe, 50e6), 1.2) == pytest.approx(12e6, rel=0.05)
    assert prober.check(10.9, 12e6) is None
    assert prober.check(11.1, 12e6) is not None


def test_broken_promises_and_quiet_scenes_make_probes_rarer() -> None:
    prober = Prober(12e6)
    prober.congested(1.0)
    assert prober.next(1.1, 2e6) is None
    prober.failed(1.0)
    assert prober.next(1.0 + 1.5 * INTERVAL_SECONDS, 2e6) is None
    assert prober.next(1.0 + 2 * INTERVAL_SECONDS, 2e6) is not None
    quiet = Prober(12e6)
    assert quiet.next(1.0, 2e6, quiet=True) is not None
    assert quiet.next(1.0 + 0.9 * QUIET_INTERVAL_SECONDS, 2e6, quiet=True) is None


def test_a_queue_that_grows_is_seen_and_one_that_drains_too() -> None:
    trend, now, delay = DelayTrend(), 100.0, 0.02
    seen = []
    for step in range(120):
        slope = 0.3 if 30 <= step < 60 else (-0.3 if 60 <= step < 90 else 0.0)
        arrivals = []
        for _ in range(4):
            now += 0.01
            delay += 0.01 * slope
            arrivals.append((now, now + delay + 7000.0))
        seen.append(trend.update(arrivals, now))
    assert set(seen[:30]) == {Usage.NORMAL}
    assert Usage.OVERUSED in seen[30:45]
    assert Usage.UNDERUSED in seen[60:85]
    assert set(seen[100:]) == {Usage.NORMAL}


def test_a_standing_queue_counts_even_when_it_no_longer_grows() -> None:
    trend, now = DelayTrend(), 100.0
    for step in range(200):
        now += 0.02
        usage = trend.update([(now, now + (0.1 if step > 40 else 0.0))], now)
        if step == 100:
            assert trend.queue_seconds == pytest.approx(0.1)
            assert usage is Usage.OVERUSED


def test_the_acknowledged_rate_follows_what_arrives() -> None:
    rate = AcknowledgedBitrate()
    assert rate.recent is None
    at = 5.0
    for _ in range(500):
        at += 0.002
        rate.add(at, 1000)
    assert rate.recent == pytest.approx(4e6, rel=0.1)
    for _ in range(60):
        at += 0.008
        rate.add(at, 1000)
    assert rate.recent == pytest.approx(1e6, rel=0.1)
    assert rate.steady is not None and rate.steady == pytest.approx(1e6, rel=0.2)


def test_the_log_tells_each_fate_once_and_counts_what_is_on_its_way() -> None:
    log = TransmissionLog(65_530)
    for index in range(10):
        assert log.next_number == (65_530 + index) & 0xFFFF
        log.add(100, 1.0 + index * 0.01, media=index)
    assert log.in_flight_bytes == 1000
    first = log.report(TransportFeedback(65_530, 0, (5.0, None, 5.02, None, 5.04, 5.05)))
    assert [(r.media, r.arrived_at) for r in first] == [(0, 5.0), (1, None), (2, 5.02), (3, None), (4, 5.04), (5, 5.05)]
    assert log.in_flight_bytes == 400
    again = log.report(TransportFeedback(65_530, 0, (5.0, None, 5.02, None, 5.04, 5.05)))
    assert again == []
    late = log.report(TransportFeedback(65_531, 1, (5.06,)))
    assert [(r.media, r.arrived_at) for r in late] == [(1, 5.06)]
    assert log.report(TransportFeedback(200, 2, (6.0,) * 4000)) == [], "never sent"
    tail = log.report(TransportFeedback(2, 3, (None, 5.1)))
    assert [(r.media, r.arrived_at) for r in tail] == [(9, 5.1)], "too close to one that arrived to be called lost"
    assert log.in_flight_bytes == 0
