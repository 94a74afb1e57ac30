"""Finding free capacity: short clusters of packets sent faster than the rate, and what their spacing on arrival says.

As in libwebrtc a cluster takes what media there is and is filled up with packets of the newest frame, sent once more as
retransmissions, so that filling is of use where packets get lost. No I/O, the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from farframe.stream.transmissions import PacketResult

CLUSTER_SECONDS = 0.02
MIN_CLUSTER_PACKETS = 8
MIN_CLUSTER_BYTES = 9000
MIN_SHARE = 0.8
"""Of a cluster's bytes and packets that must arrive for it to count."""

SATURATED_SHARE = 0.9
"""Arriving slower than this share of the rate at which it was sent, a cluster has met the line's limit."""

UTILISATION = 0.85
"""Of a limit that was met; the rest stays free."""

FIRST_FACTORS = (2.0, 4.0)
"""Of the rate at the start: the first clusters."""

STEP_FACTOR = 2.0
INTERVAL_SECONDS = 1.0
"""Between two clusters while nothing is wrong."""

QUIET_INTERVAL_SECONDS = 5.0
"""The same while next to nothing is sent: the estimate is only kept fresh."""

CHECK_INTERVAL_SECONDS = 10.0
"""The same where the rate is the ceiling and little is sent."""

AGAIN_SECONDS = 0.2
"""After a cluster that shows less than was thought, until it is repeated."""

FAILED_FACTOR = 2.0
MAX_INTERVAL_SECONDS = 3.0
CALM_SECONDS = 0.6
"""No cluster so soon after congestion."""

HARDLY_SECONDS = 0.015
PAUSE_SECONDS = 0.01
PAUSE_FACTOR = 4.0
TIMEOUT_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Probe:
    """A cluster to send: ``size`` bytes at ``bitrate`` bits per second. ``cluster`` marks its packets."""

    cluster: int
    bitrate: float
    size: int


@dataclass(slots=True)
class _Flying:
    probe: Probe
    begun_at: float
    results: list[PacketResult] = field(default_factory=list)


class Prober:
    """Says when to probe and how fast, and reads the results."""

    def __init__(self, ceiling: float) -> None:
        self._ceiling = ceiling
        self._flying: _Flying | None = None
        self._cluster = 0
        self._planned: list[float] = []
        self._next_at = float("-inf")
        self._calm_until = float("-inf")
        self._interval = INTERVAL_SECONDS
        self._doubts = False
        self.last_result: float | None = None

    def start(self, rate: float) -> None:
        """Plan the first clusters."""
        self._planned = [min(factor * rate, self._ceiling) for factor in FIRST_FACTORS]

    def congested(self, now: float) -> None:
        """The line is overused: no probing for a while, and what flies is not trusted."""
        self._flying = None
        self._planned.clear()
        self._calm_until = now + CALM_SECONDS
        self._next_at = max(self._next_at, self._calm_until)

    def failed(self, now: float) -> None:
        """What a cluster had promised turned out to be too much: wait longer before the next."""
        self._interval = min(self._interval * FAILED_FACTOR, MAX_INTERVAL_SECONDS)
        self._next_at = max(self._next_at, now + self._interval)

    def hint(self, now: float) -> None:
        """Frames arrive as if the line carried far more: look soon, unless the last look deceived."""
        if self._interval <= INTERVAL_SECONDS:
            self._next_at = min(self._next_at, max(now, self._calm_until))

    def again(self, now: float) -> None:
        """Look once more, soon and at the rate itself: what the last cluster showed is not believed yet.

        A line that has become so narrow must have drained that one first, or it drops the next.
        """
        self._next_at = now + AGAIN_SECONDS
        self._doubts = True

    def check(self, now: float, rate: float) -> Probe | None:
        """A cluster at the rate itself, now and then, to see that the line still carries it."""
        if self._busy(now) or now < self._next_at:
            return None
        self._next_at = now + CHECK_INTERVAL_SECONDS
        return self._begin(rate, now)

    def next(self, now: float, rate: float, *, quiet: bool = False) -> Probe | None:
        """The cluster that is due now, if any. ``quiet``: next to nothing is sent."""
        if self._busy(now) or now < self._next_at:
            return None
        doubts, self._doubts = self._doubts, False
        self._next_at = now + (QUIET_INTERVAL_SECONDS if quiet else self._interval)
        if doubts:
            return self._begin(rate, now)
        wanted = self._planned.pop(0) if self._planned else min(STEP_FACTOR * rate, self._ceiling)
        if wanted < 1.1 * rate:
            return None
        return self._begin(wanted, now)

    def _busy(self, now: float) -> bool:
        if self._flying is not None and now - self._flying.begun_at >= TIMEOUT_SECONDS:
            self._flying = None
        return self._flying is not None

    def _begin(self, wanted: float, now: float) -> Probe:
        self._cluster = self._cluster % 0xFFFF + 1
        size = int(max(wanted * CLUSTER_SECONDS / 8, MIN_CLUSTER_BYTES))
        self._flying = _Flying(Probe(self._cluster, wanted, size), now)
        return self._flying.probe

    def take(self, results: Iterable[PacketResult], now: float, base_delay: float | None = None) -> float | None:
        """Look at a report; the rate in bits per second that a finished cluster has shown, else ``None``.

        A cluster that shows more leads to the next at once. ``base_delay`` as in :func:`measure_cluster`.
        """
        flying = self._flying
        if flying is None:
            return None
        flying.results += [result for result in results if result.cluster == flying.probe.cluster]
        arrived = [result for result in flying.results if result.arrived_at is not None]
        if len(arrived) < MIN_SHARE * MIN_CLUSTER_PACKETS:
            return None
        if sum(result.size for result in arrived) < MIN_SHARE * flying.probe.size:
            return None
        shown = measure_cluster(arrived, base_delay)
        self._flying = None
        self.last_result = shown
        if shown is not None and shown >= SATURATED_SHARE * flying.probe.bitrate:
            self._interval = INTERVAL_SECONDS
            if flying.probe.bitrate < self._ceiling:
                self._next_at = now
        return shown


def measure_cluster(arrived: list[PacketResult], base_delay: float | None = None) -> float | None:
    """The rate that these packets of one cluster show, in bits per second; ``None`` where they show nothing.

    ``base_delay`` is the least difference of arrival and sending of late: a cluster that was held up and then delivered
    at once, but whose last packet hardly waited, has met no limit.
    """
    first_sent = min(arrived, key=lambda result: result.sent_at)
    last_sent = max(arrived, key=lambda result: result.sent_at)
    times = sorted((result.arrived_at or 0.0, result.size) for result in arrived)
    sent_seconds = last_sent.sent_at - first_sent.sent_at
    arrival_seconds = times[-1][0] - times[0][0]
    if sent_seconds <= 0 or arrival_seconds <= 0 or sent_seconds > 1 or arrival_seconds > 2:
        return None
    total = sum(result.size for result in arrived)
    sent_rate = (total - last_sent.size) * 8 / sent_seconds
    arrival_rate = (total - times[0][1]) * 8 / arrival_seconds
    if arrival_rate > 2 * sent_rate:
        waited = times[-1][0] - last_sent.sent_at - base_delay if base_delay is not None else float("inf")
        return sent_rate if waited < HARDLY_SECONDS else None
    if arrival_rate < SATURATED_SHARE * sent_rate:
        gaps = sorted(later[0] - earlier[0] for earlier, later in pairwise(times))
        if gaps[-1] > PAUSE_SECONDS and gaps[-1] > PAUSE_FACTOR * gaps[len(gaps) // 2] and len(gaps) > 2:
            # A receiver that did not get to run for a moment: the line's own spacing is in the other gaps.
            rest = max(arrival_seconds - gaps[-1], 1e-4)
            arrival_rate = min((total - times[0][1]) * 8 * (len(gaps) - 1) / len(gaps) / rest, sent_rate)
        return UTILISATION * arrival_rate
    return min(sent_rate, arrival_rate)
