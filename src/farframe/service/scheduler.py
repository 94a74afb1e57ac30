"""One task for everything that happens at a certain time: leases that run out, uploads whose time is over, upkeep.

Each job does what is due and says when it wants to be called next. A session has no timer of its own, so ten thousand
sessions cost one query.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from farframe.service.clock import Clock

log = structlog.get_logger("farframe.service")

Job = Callable[[int], Awaitable[int | None]]
"""Called with the time; does what is due; returns when the next thing is due, or ``None``."""

_RETRY_AFTER_MICROSECONDS = 5_000_000


@dataclass(slots=True)
class _Entry:
    job: Job
    periodic: bool
    deadline: int | None


class Scheduler:
    """Runs jobs when they are due. :meth:`wake` when a deadline may have changed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[_Entry] = []
        self._wake = asyncio.Event()
        self._waiting = False
        self._waits_until: int | None = None
        self._announced: int | None = None
        """The first of what came up while the jobs ran, some of which may not have seen it."""
        self._task: asyncio.Task[None] | None = None

    def add(self, job: Job, *, periodic: bool = False) -> None:
        """Run this job as well; before :meth:`start`. A periodic one is called only when it said so, the others after
        each :meth:`wake` too, because their deadlines may have moved.
        """
        self._entries.append(_Entry(job, periodic, self._clock.now()))

    def start(self) -> None:
        """Begin, in a task of its own."""
        self._task = asyncio.create_task(self._run(), name="scheduler")

    def wake(self, due: int | None = None) -> None:
        """Look at the deadlines again. With ``due``, the time at which something new is due, only if that is before
        anything that is waited for."""
        if due is None:
            self._wake.set()
            return
        self._announced = due if self._announced is None else min(due, self._announced)
        if self._waiting and (self._waits_until is None or due < self._waits_until):
            self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether the task runs."""
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            self._listen()
            for entry in self._entries:
                if not entry.periodic or (entry.deadline is not None and entry.deadline <= self._clock.now()):
                    entry.deadline = await self._call(entry.job)
            deadlines = [entry.deadline for entry in self._entries if entry.deadline is not None]
            if self._announced is not None:
                deadlines.append(self._announced)
            self._waiting, self._waits_until = True, min(deadlines, default=None)
            await self._clock.wait_until(self._waits_until, self._wake)
            self._waiting = False

    def _listen(self) -> None:
        # Before the deadlines are read: a change after that wakes us again.
        self._wake.clear()
        self._announced = None

    async def _call(self, job: Job) -> int | None:
        now = self._clock.now()
        try:
            return await job(now)
        except Exception:
            log.exception("scheduler.job_failed", job=getattr(job, "__qualname__", repr(job)))
            return now + _RETRY_AFTER_MICROSECONDS
