"""How much arrives: the rate that the device's reports confirm. No I/O; times of arrival are the receiver's."""

from __future__ import annotations

from collections import deque

SHORT_SECONDS = 0.15
LONG_SECONDS = 0.5
MIN_PACKETS = 8
PAUSE_SECONDS = 0.04
"""A busy line makes no such pauses between two packets."""


class AcknowledgedBitrate:
    """The rate at which bytes arrived, over the last 150 ms (to lower the rate by) and over the last half second."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque()
        self._first: float | None = None

    def add(self, arrived_at: float, size: int) -> None:
        """A packet arrived."""
        if self._first is None:
            self._first = arrived_at
        if self._arrivals and not -LONG_SECONDS < arrived_at - self._arrivals[-1][0] < 10.0:
            self._arrivals.clear()  # another clock
            self._first = arrived_at
        self._arrivals.append((arrived_at, size))
        while self._arrivals and self._arrivals[0][0] < self._arrivals[-1][0] - LONG_SECONDS:
            self._arrivals.popleft()

    @property
    def recent(self) -> float | None:
        """Bits per second of the last 150 ms, of as much more as it takes to hold some packets; ``None`` so far."""
        return self._rate(SHORT_SECONDS)

    @property
    def steady(self) -> float | None:
        """Bits per second of the last half second; ``None`` so far."""
        return self._rate(LONG_SECONDS)

    @property
    def continuous(self) -> bool:
        """Whether packets have come without a pause for 150 ms, as from a line that is busy all the time."""
        if not self._arrivals:
            return False
        later = end = self._arrivals[-1][0]
        for arrived_at, _ in reversed(self._arrivals):
            if later - arrived_at > PAUSE_SECONDS:
                return False
            if end - arrived_at > SHORT_SECONDS:
                return True
            later = arrived_at
        return False

    def _rate(self, seconds: float) -> float | None:
        if len(self._arrivals) < MIN_PACKETS or self._first is None:
            return None
        end = self._arrivals[-1][0]
        total = 0
        begin = end
        for count, (arrived_at, size) in enumerate(reversed(self._arrivals)):
            if end - arrived_at > seconds and count >= MIN_PACKETS:
                break
            begin = min(begin, arrived_at)
            total += size
        # The first packet of a burst ends the pause before it, so the whole window counts.
        whole = min(seconds, max(end - self._first, seconds / 3))
        span = max(end - begin, whole)
        return total * 8 / span
