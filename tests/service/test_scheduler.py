"""The scheduler: what is due runs, what failed is tried again, periodic jobs are left alone in between."""

from __future__ import annotations

import asyncio

from farframe.service.clock import ManualClock
from farframe.service.scheduler import Scheduler


async def reach(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(60):
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


async def test_what_comes_up_wakes_only_if_it_is_first_and_is_never_missed() -> None:
    clock = ManualClock()
    start = clock.now()
    calls: list[int] = []
    due: list[int | None] = [start + 30_000_000]
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def job(now: int) -> int | None:
        seen = due[0]
        calls.append((now - start) // 1_000_000)
        busy.set()
        await go_on.wait()
        return seen

    scheduler = Scheduler(clock)
    scheduler.add(job)
    scheduler.start()
    await busy.wait()
    # While the job runs, which has looked already: kept for the next time.
    due[0] = start + 10_000_000
    scheduler.wake(due[0])
    go_on.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert calls == [0]
    scheduler.wake(start + 20_000_000)
    for _ in range(20):
        await asyncio.sleep(0)
    assert calls == [0], "nothing new is first"
    due[0] = start + 40_000_000
    clock.advance(seconds=10)
    await reach(lambda: calls == [0, 10])
    due[0] = start + 15_000_000
    scheduler.wake(due[0])
    await reach(lambda: calls == [0, 10, 10])
    due[0] = None
    clock.advance(seconds=5)
    await reach(lambda: calls == [0, 10, 10, 15])
    scheduler.wake(start + 90_000_000)
    await reach(lambda: calls == [0, 10, 10, 15, 15])
    await scheduler.stop()
