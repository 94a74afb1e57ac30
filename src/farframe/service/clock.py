"""Time, as the service sees it: microseconds since 1970 UTC, and waiting for a moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

_LONGEST_WAIT_SECONDS = 30.0
"""The wall clock can be set, and a machine can sleep: look again at least this often."""


class Clock(Protocol):
    """What the service asks of a clock."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""

    async def wait_until(self, deadline: int | None, wake: asyncio.Event) -> None:
        """Return when ``deadline`` has come or ``wake`` is set, whichever is first."""


def seconds(clock: Clock) -> float:
    """The present time in seconds since 1970 UTC."""
    return clock.now() / 1_000_000


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    async def wait_until(self, deadline: int | None, wake: asyncio.Event) -> None:
        """Return when ``deadline`` has come or ``wake`` is set, whichever is first."""
        while not wake.is_set():
            remaining = _LONGEST_WAIT_SECONDS if deadline is None else (deadline - self.now()) / 1_000_000
            if remaining <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), min(remaining, _LONGEST_WAIT_SECONDS))


class ManualClock:
    """A clock for tests, which stands still until it is moved."""

    def __init__(self, start: int = 1_750_000_000_000_000) -> None:
        self._now = start
        self._moved = asyncio.Event()

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return self._now

    def advance(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Move time on and wake those who wait for it."""
        self._now += round((minutes * 60 + seconds) * 1_000_000)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait_until(self, deadline: int | None, wake: asyncio.Event) -> None:
        """Return when ``deadline`` has come or ``wake`` is set, whichever is first."""
        while not wake.is_set() and (deadline is None or self._now < deadline):
            waits = [asyncio.ensure_future(wake.wait()), asyncio.ensure_future(self._moved.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
