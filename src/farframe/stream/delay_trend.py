"""Whether a queue grows on the way to the device: the delay-based detector of draft-ietf-rmcat-gcc-02. No I/O.

Packets are grouped by the moment of sending (5 ms); the one-way delay's change from group to group is accumulated and
smoothed, and its slope over the last 20 groups is found by least squares. This *trendline* estimator is the one that
libwebrtc uses in place of the draft's Kalman filter (Carlucci et al., "Congestion Control for Web Real-Time
Communication", IEEE/ACM Transactions on Networking 25(5), 2017, describes both); its constants are used here. The slope
is compared with the draft's adaptive threshold (section 5.4), so that a competing stream that fills the queue itself
does not starve ours.

Beside the slope, which needs some groups to be sure, a *standing queue* counts: when even the fastest packet of a
report came ``STANDING_QUEUE_SECONDS`` later than the fastest one of the last ten seconds, and the queue does not
shrink, the line is overused, whatever the slope.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

GROUP_SECONDS = 0.005
MAX_BURST_SECONDS = 0.1
WINDOW_GROUPS = 20
MIN_GROUPS = 8
"""Before so many groups a slope is not looked at."""

SMOOTHING = 0.9
GAIN = 4.0
MAX_SAMPLES = 60
THRESHOLD_START_MS = 12.5
THRESHOLD_UP = 0.0087
THRESHOLD_DOWN = 0.039
THRESHOLD_RANGE_MS = (6.0, 600.0)
MAX_ADAPT_OFFSET_MS = 15.0
OVERUSE_MS = 10.0
BASE_WINDOW_SECONDS = 10.0
STANDING_QUEUE_SECONDS = 0.06
SHRINKING_SECONDS = 0.004
"""By so much at least from report to report a queue must shrink to count as draining."""

JUMP_SECONDS = 3.0
"""A change of delay from group to group that is no queue but another clock or path: all is forgotten."""


class Usage(Enum):
    """What the delays say of the line."""

    NORMAL = "normal"
    OVERUSED = "overused"
    UNDERUSED = "underused"
    """A queue drains."""


@dataclass(slots=True)
class _Group:
    first_sent: float
    last_sent: float
    first_arrival: float
    last_arrival: float


class DelayTrend:
    """Fed with what arrived; says how the line is used. Times are seconds; sender's and receiver's clocks may
    differ."""

    def __init__(self) -> None:
        self.usage = Usage.NORMAL
        self.queue_seconds = 0.0
        """How much later than the fastest of the last ten seconds the packets of the newest two reports came, at
        least."""
        self.standing_since: float | None = None
        """When a queue of more than ``STANDING_QUEUE_SECONDS`` was first seen that is still there."""
        self._base: deque[tuple[float, float]] = deque()
        self._newest_delay: float | None = None
        self._reset_slope()

    def _reset_slope(self) -> None:
        self._previous: _Group | None = None
        self._group: _Group | None = None
        self._samples = 0
        self._accumulated_ms = 0.0
        self._smoothed_ms = 0.0
        self._points: deque[tuple[float, float]] = deque(maxlen=WINDOW_GROUPS)
        self._origin: float | None = None
        self._threshold_ms = THRESHOLD_START_MS
        self._threshold_at: float | None = None
        self._overuse_ms = -1.0
        self._overuse_count = 0
        self._trend = 0.0
        self._slope_usage = Usage.NORMAL

    @property
    def base_delay(self) -> float | None:
        """The least difference of arrival and sending of late, seconds from an arbitrary origin."""
        return self._base[0][1] if self._base else None

    def update(self, arrivals: Sequence[tuple[float, float]], now: float, *, busy: bool = True) -> Usage:
        """Take the packets of one report, ``(sent_at, arrived_at)`` in the order of sending. ``busy``: whether packets
        have lately come without a pause, as they do from a queue; without that none stands, however late they are."""
        if not arrivals:
            return self.usage
        self._slope_usage = Usage.NORMAL
        for sent_at, arrived_at in arrivals:
            self._add(sent_at, arrived_at)
        grows = self._update_queue(min(arrived - sent for sent, arrived in arrivals), now, busy=busy)
        stands = self.queue_seconds > STANDING_QUEUE_SECONDS and grows and self._slope_usage is not Usage.UNDERUSED
        if self._slope_usage is Usage.OVERUSED or stands:
            self.usage = Usage.OVERUSED
        else:
            self.usage = self._slope_usage
        return self.usage

    def _update_queue(self, delay: float, now: float, *, busy: bool) -> bool:
        """Follow the least delay; whether the queue has not shrunk since the report before."""
        if self._base and abs(delay - self._base[-1][1]) > JUMP_SECONDS:
            self._base.clear()
            self._newest_delay = None
        while self._base and self._base[0][0] < now - BASE_WINDOW_SECONDS:
            self._base.popleft()
        while self._base and self._base[-1][1] >= delay:
            self._base.pop()
        self._base.append((now, delay))
        # A receiver that did not get to run delays one report; a queue stands in the next one, too.
        before, self._newest_delay = self._newest_delay, delay
        queue = min(delay, before if before is not None else delay) - self._base[0][1]
        queue = max(queue, 0.0) if busy else 0.0
        grows = queue > self.queue_seconds - SHRINKING_SECONDS
        self.queue_seconds = queue
        if queue <= STANDING_QUEUE_SECONDS:
            self.standing_since = None
        elif self.standing_since is None:
            self.standing_since = now
        return grows

    def _add(self, sent_at: float, arrived_at: float) -> None:
        group = self._group
        if group is None:
            self._group = _Group(sent_at, sent_at, arrived_at, arrived_at)
            return
        if sent_at < group.first_sent:
            return
        if self._belongs(group, sent_at, arrived_at):
            group.last_sent = max(group.last_sent, sent_at)
            group.last_arrival = max(group.last_arrival, arrived_at)
            return
        previous = self._previous
        if previous is not None:
            sent_delta = group.last_sent - previous.last_sent
            arrival_delta = group.last_arrival - previous.last_arrival
            if abs(arrival_delta - sent_delta) > JUMP_SECONDS:
                self._reset_slope()
            elif arrival_delta >= 0:
                self._step(sent_delta * 1e3, arrival_delta * 1e3, group.last_arrival)
        self._previous = group if self._group is not None else None
        self._group = _Group(sent_at, sent_at, arrived_at, arrived_at)

    @staticmethod
    def _belongs(group: _Group, sent_at: float, arrived_at: float) -> bool:
        if sent_at - group.first_sent <= GROUP_SECONDS:
            return True
        # What was sent apart and arrived at once was held up together, and says nothing about a queue's growth.
        arrival_delta = arrived_at - group.last_arrival
        return (
            arrival_delta - (sent_at - group.last_sent) < 0
            and arrival_delta <= GROUP_SECONDS
            and arrived_at - group.first_arrival < MAX_BURST_SECONDS
        )

    def _step(self, sent_ms: float, arrival_ms: float, arrived_at: float) -> None:
        self._samples = min(self._samples + 1, MAX_SAMPLES)
        if self._origin is None:
            self._origin = arrived_at
        self._accumulated_ms += arrival_ms - sent_ms
        self._smoothed_ms = SMOOTHING * self._smoothed_ms + (1 - SMOOTHING) * self._accumulated_ms
        self._points.append(((arrived_at - self._origin) * 1e3, self._smoothed_ms))
        slope = _slope(self._points) if len(self._points) >= MIN_GROUPS else 0.0
        self._detect(slope, sent_ms, arrived_at)

    def _detect(self, slope: float, sent_ms: float, arrived_at: float) -> None:
        trend = self._samples * slope * GAIN
        if trend > self._threshold_ms:
            # The first time, half of the span since the group before is counted.
            self._overuse_ms = sent_ms / 2 if self._overuse_ms < 0 else self._overuse_ms + sent_ms
            self._overuse_count += 1
            if self._overuse_ms > OVERUSE_MS and self._overuse_count > 1 and slope >= self._trend:
                self._overuse_ms = 0.0
                self._overuse_count = 0
                self._slope_usage = Usage.OVERUSED
        else:
            self._overuse_ms = -1.0
            self._overuse_count = 0
            if trend < -self._threshold_ms:
                if self._slope_usage is not Usage.OVERUSED:
                    self._slope_usage = Usage.UNDERUSED
            elif self._slope_usage is Usage.UNDERUSED:
                self._slope_usage = Usage.NORMAL
        self._trend = slope
        self._adapt(trend, arrived_at)

    def _adapt(self, trend: float, arrived_at: float) -> None:
        last, self._threshold_at = self._threshold_at, arrived_at
        size = abs(trend)
        if last is None or size > self._threshold_ms + MAX_ADAPT_OFFSET_MS:
            return  # a spike, as of a route that changed, must not deafen the detector
        factor = THRESHOLD_DOWN if size < self._threshold_ms else THRESHOLD_UP
        elapsed_ms = min((arrived_at - last) * 1e3, 100.0)
        threshold = self._threshold_ms + factor * (size - self._threshold_ms) * elapsed_ms
        self._threshold_ms = min(max(threshold, THRESHOLD_RANGE_MS[0]), THRESHOLD_RANGE_MS[1])


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line of least squares; 0 where all abscissas are equal."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
