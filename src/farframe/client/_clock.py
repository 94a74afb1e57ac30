"""Aligning the device's clock with the server's from ping answers.

As in NTP (RFC 5905, section 8), the offset is taken from the exchange with the shortest round trip of the latest
ones: the less time an exchange took, the less its two ways can differ.
"""

from __future__ import annotations

import time
from collections import deque

KEPT_EXCHANGES = 16


def now_us() -> int:
    """This device's clock: monotonic microseconds."""
    return time.perf_counter_ns() // 1000


class ClockAlignment:
    """How far the server's clock is ahead of this device's, microseconds."""

    def __init__(self) -> None:
        self._exchanges: deque[tuple[int, int]] = deque(maxlen=KEPT_EXCHANGES)

    def add(self, sent_us: int, server_us: int, received_us: int) -> None:
        """Note a ping: when it left and its answer came, here, and what the server's clock said in between."""
        if received_us >= sent_us:
            self._exchanges.append((received_us - sent_us, server_us - (sent_us + received_us) // 2))

    @property
    def aligned(self) -> bool:
        """Whether there has been an exchange."""
        return bool(self._exchanges)

    @property
    def round_trip_us(self) -> int | None:
        """The shortest of the latest round trips."""
        return min(self._exchanges)[0] if self._exchanges else None

    @property
    def offset_us(self) -> int | None:
        """Server time minus device time."""
        return min(self._exchanges)[1] if self._exchanges else None

    def to_device(self, server_us: int) -> int | None:
        """A server time on this device's clock."""
        offset = self.offset_us
        return None if offset is None else server_us - offset
