"""kill -9 of the service at seeded random moments under load, on both stores: nothing is lost, doubled or immortal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.harness import Load, Replica, check_books, rows_of, until

SAMPLE_KILLS = 3
SOAK_KILLS = 200
CALLERS = 4


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [20_260])
async def test_a_service_that_is_killed(database_source: Path | str, tmp_path: Path, seed: int) -> None:
    await kill_and_restart(database_source, tmp_path, seed, SAMPLE_KILLS)


@pytest.mark.soak
async def test_a_service_that_is_killed_200_times(database_source: Path | str, tmp_path: Path) -> None:
    await kill_and_restart(database_source, tmp_path, 1, SOAK_KILLS)


async def kill_and_restart(source: Path | str, tmp_path: Path, seed: int, kills: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    url = source if isinstance(source, str) else ""
    source = url or folder / "farframe.db"
    replica, load = Replica(folder, url), Load(seed)
    try:
        await replica.start()
        for _ in range(kills):
            callers = [asyncio.create_task(load.run(replica)) for _ in range(CALLERS)]
            await asyncio.sleep(load.random.uniform(0.05, 2.0))  # the moment is the experiment
            assert not any(caller.done() for caller in callers), [caller.exception() for caller in callers]
            await replica.kill()
            await asyncio.gather(*callers)
            await replica.start()
            await load.check_answers(replica)
            # Some restarts are cut short as well.
            if load.random.random() < 0.3:
                await replica.kill()
                await replica.start()

        async def settled() -> bool:
            rows = await rows_of(source)
            ready = [row for row in rows if row.status == "Ready"]
            return not any(row.status == "Starting" for row in rows) and len(replica.servers()) == len(ready) + 1

        await until(settled, 60, "every session has its server, one waits, and there is no other")
        pids = {process.pid for process in replica.servers()}
        assert {row.pid for row in await rows_of(source) if row.status == "Ready"} <= pids
        await load.check_answers(replica, everything=True)
        await replica.terminate()
        assert replica.servers() == []
        await check_books(source)
    finally:
        replica.clean_up()
