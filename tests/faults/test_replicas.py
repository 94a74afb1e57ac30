"""Two services on one PostgreSQL: either does everything, and one that dies is inherited by the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.harness import Load, Replica, check_books, rows_of, until

pytestmark = pytest.mark.slow


async def test_a_dead_replica_is_inherited(postgres_url: str, tmp_path: Path) -> None:
    first = Replica(tmp_path / "first", postgres_url, FARFRAME_REPLICA_TIMEOUT_SECONDS="3")
    second = Replica(tmp_path / "second", postgres_url, FARFRAME_REPLICA_TIMEOUT_SECONDS="3")
    try:
        await first.start()
        second.folder.mkdir()
        shutil.copy(first.folder / "connection.json", second.folder)
        await second.start()
        assert second.connection["accountId"] == first.connection["accountId"]
        base = f"/accounts/{first.connection['accountId']}/sessions"
        load = Load(1)
        async with first.client() as client:
            for name in ("a", "b", "c"):
                answer = await client.put(f"{base}/{name}", json={"maxLeaseTimeMinutes": 60, "size": "Standard"})
                assert answer.status_code == 201, answer.text
                load.tried[name] = {"size": "Standard"}
                load.answered[name] = answer.json()["creationTime"]

        async def ready() -> bool:
            return all(row.status == "Ready" for row in await rows_of(postgres_url))

        await until(ready, 30, "all ready")
        # Stopped by the other one: the server ends all the same.
        async with second.client() as client:
            assert (await client.post(f"{base}/c/:stop")).status_code == 204
        load.stopping.add("c")
        load.stopped.add("c")

        async def two_serve() -> bool:
            return len(first.servers()) == 3  # a, b and the one that waits

        await until(two_serve, 30, "the server of a session that another replica stopped is ended")
        before = {row.key: row.pid for row in await rows_of(postgres_url) if row.status == "Ready"}
        await first.kill()
        mine = (second.folder / "replica-id").read_text().strip()

        async def inherited() -> bool:
            return all(row.replica_id == mine for row in await rows_of(postgres_url) if row.status == "Ready")

        await until(inherited, 40, "the other replica has the sessions")
        await load.check_answers(second)
        assert {row.key: row.pid for row in await rows_of(postgres_url) if row.status == "Ready"} == before
        # The dead one returns: what is no longer its own it leaves alone.
        await first.start()
        await load.check_answers(first)
        assert set(before.values()) <= {process.pid for process in first.servers()}
        await first.terminate()
        await load.check_answers(second)
        assert {process.pid for process in first.servers()} == set(before.values())
        await second.terminate()
        assert first.servers() == second.servers() == []
        await check_books(postgres_url)
    finally:
        first.clean_up()
        second.clean_up()
