"""Aligning the device's clock with the server's from ping answers.

As in NTP (RFC 5905, section 8), the offset is taken from the exchange with the shortest round trip of the latest
ones: the less time an exchange took, the less its two ways can differ. Two clocks also drift apart, by some ten
microseconds a second; how fast is taken from the best exchanges of the oldest and of the newest third of the latest
minute, and carries the best exchange's offset to now.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

KEPT_EXCHANGES = 64
MIN_DRIFT_SPAN_US = 10_000_000
"""Two exchanges that lie closer together than this say nothing about drift."""
MAX_DRIFT = 200e-6
"""No quartz is worse; what looks like more is jitter of the network."""


def now_us() -> int:
    """This device's clock: monotonic microseconds."""
    return time.perf_counter_ns() // 1000


class _Exchange(NamedTuple):
    round_trip_us: int
    offset_us: int
    at_us: int


class ClockAlignment:
    """How far the server's clock is ahead of this device's, microseconds."""

    def __init__(self) -> None:
        self._exchanges: deque[_Exchange] = deque(maxlen=KEPT_EXCHANGES)
        self._best: _Exchange | None = None
        self._drift = 0.0

    def add(self, sent_us: int, server_us: int, received_us: int) -> None:
        """Note a ping: when it left and its answer came, here, and what the server's clock said in between."""
        if received_us < sent_us:
            return
        exchange = _Exchange(received_us - sent_us, server_us - (sent_us + received_us) // 2, received_us)
        self._exchanges.append(exchange)
        self._best = min(self._exchanges)
        self._drift = self._find_drift()

    def _find_drift(self) -> float:
        exchanges = list(self._exchanges)
        third = len(exchanges) // 3
        if third == 0:
            return 0.0
        older, newer = min(exchanges[:third]), min(exchanges[-third:])
        span_us = newer.at_us - older.at_us
        if span_us < MIN_DRIFT_SPAN_US:
            return 0.0
        return max(-MAX_DRIFT, min(MAX_DRIFT, (newer.offset_us - older.offset_us) / span_us))

    @property
    def aligned(self) -> bool:
        """Whether there has been an exchange."""
        return self._best is not None

    @property
    def round_trip_us(self) -> int | None:
        """The shortest of the latest round trips."""
        return None if self._best is None else self._best.round_trip_us

    @property
    def drift(self) -> float:
        """Microseconds by which the server's clock gains on this device's each microsecond."""
        return self._drift

    @property
    def offset_us(self) -> int | None:
        """Server time minus device time, at the latest exchange."""
        if self._best is None:
            return None
        return round(self._best.offset_us + self._drift * (self._exchanges[-1].at_us - self._best.at_us))

    def to_device(self, server_us: int) -> int | None:
        """A server time on this device's clock."""
        offset = self.offset_us
        return None if offset is None else server_us - offset
