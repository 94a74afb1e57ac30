"""The scheduler: what is due runs, what failed is tried again, periodic jobs are left alone in between."""

from __future__ import annotations

import asyncio

from farframe.service.clock import ManualClock
from farframe.service.scheduler import Scheduler


async def reach(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_jobs_run_when_due_and_after_a_wake() -> None:
    clock = ManualClock()
    calls: dict[str, list[int]] = {"plain": [], "periodic": [], "broken": []}

    async def plain(now: int) -> int | None:
        calls["plain"].append(now)
        return None

    async def periodic(now: int) -> int | None:
        calls["periodic"].append(now)
        return now + 60_000_000

    async def broken(now: int) -> int | None:
        calls["broken"].append(now)
        raise RuntimeError("again")

    scheduler = Scheduler(clock)
    scheduler.add(plain)
    scheduler.add(periodic, periodic=True)
    scheduler.start()
    await reach(lambda: calls["plain"] and calls["periodic"])
    scheduler.wake()
    await reach(lambda: len(calls["plain"]) == 2)
    assert len(calls["periodic"]) == 1
    clock.advance(seconds=60)
    await reach(lambda: len(calls["periodic"]) == 2)
    await scheduler.stop()

    scheduler = Scheduler(clock)
    scheduler.add(broken)
    scheduler.start()
    await reach(lambda: calls["broken"])
    clock.advance(seconds=5)
    await reach(lambda: len(calls["broken"]) == 2)
    await scheduler.stop()
    await Scheduler(clock).stop()
