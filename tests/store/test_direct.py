"""The short way to the databases: what is committed is seen, what fails leaves nothing, and nobody is waited for."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from farframe.store.database import Database
from farframe.store.direct import Direct, Statement
from farframe.store.schema import accounts, usage_records
from farframe.store.sessions import NewSession, Refusal, ServerColumns
from farframe.store.store import Store

MINUTE = 60_000_000
REFUSAL = Refusal(code="NoServerAvailable", message="none")
SERVER = ServerColumns(server_id="s", pid=1, hostname="h", handshake_port=50000, inspector_port=50001, teraflops=1.5)
ADD = Statement("INSERT INTO accounts (id, name, created_at) VALUES (:id, :name, :created_at) RETURNING id")
NAMES = Statement("SELECT name FROM accounts WHERE created_at >= :least ORDER BY name")
RENAME = Statement("UPDATE accounts SET name = :name WHERE id = :id RETURNING name")


@pytest.fixture
async def database(database_source: Path | str) -> AsyncIterator[Database]:
    database = await Database.open(database_source)
    yield database
    await database.close()


@pytest.fixture
async def direct(database: Database) -> AsyncIterator[Direct]:
    direct = Direct(database)
    yield direct
    await direct.close()


async def names(direct: Direct) -> list[str]:
    return [name for (name,) in await direct.rows(NAMES, {"least": 0})]


def test_parameters_are_numbered_by_their_first_use_and_casts_are_left_alone() -> None:
    statement = Statement("SELECT :b::text, :a, :b")
    assert (statement.numbered, statement.order) == ("SELECT $1::text, $2, $1", ["b", "a"])


def test_two_steps_need_a_text_for_postgresql() -> None:
    with pytest.raises(ValueError, match="of its own"):
        Statement("SELECT 1", then="SELECT 2")


async def test_both_ways_see_what_the_other_one_wrote(database: Database, direct: Direct) -> None:
    rows = await direct.change(ADD, {"id": "a", "name": "first", "created_at": 1})
    assert [tuple(row) for row in rows] == [("a",)]
    async with database.write() as connection:
        await connection.execute(insert(accounts).values(id="b", name="second", created_at=2))
    assert await names(direct) == ["first", "second"]
    assert await direct.change(RENAME, {"id": "nobody", "name": "x"}) == []


async def test_a_statement_that_fails_leaves_nothing_and_the_next_one_works(direct: Direct) -> None:
    await direct.change(ADD, {"id": "a", "name": "first", "created_at": 1})
    twice = [{"id": identity, "name": "more", "created_at": 2} for identity in ("b", "a")]
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        await direct.change_many(ADD, twice)
    assert await names(direct) == ["first"]
    await direct.change_many(ADD, twice[:1])
    assert await names(direct) == ["first", "more"]


async def test_an_end_that_cannot_be_recorded_did_not_take_place(store: Store, database: Database) -> None:
    new = NewSession(key="k", account_id="a", id="s", size="Standard", lease_minutes=10, created_at=0)
    await store.sessions.create(new, limit=1, refusal=REFUSAL)
    await store.sessions.mark_ready("k", SERVER, 10)
    async with database.write() as connection:
        record = {"key": "x", "kind": "session", "source_key": "k", "account_id": "a", "size": "Standard"}
        await connection.execute(insert(usage_records).values(region="r", started_at=1, ended_at=2, **record))
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        await store.sessions.stop("a", "s", 20)
    row = await store.sessions.get("a", "s")
    assert row is not None and (row.status, row.ended_at) == ("Ready", None)


async def test_a_stop_by_name_bills_what_was_used_and_leaves_leases_that_are_over(store: Store) -> None:
    for key, lease in (("used", 10), ("over", 1), ("waits", 10)):
        new = NewSession(key=key, account_id="a", id=f"id-{key}", size="Standard", lease_minutes=lease, created_at=0)
        await store.sessions.create(new, limit=9, refusal=REFUSAL)
    assert await store.sessions.mark_ready("used", SERVER, 10) == 10 + 10 * MINUTE
    assert await store.sessions.mark_ready("over", SERVER, 10) == 10 + MINUTE
    now = 10 + MINUTE
    assert await store.sessions.stop("a", "id-used", now) == "used"
    assert await store.sessions.stop("a", "id-used", now) is None
    assert await store.sessions.stop("a", "id-over", now) is None, "it expires instead"
    assert await store.sessions.stop("a", "id-waits", now) == "waits"
    assert await store.sessions.stop("b", "id-waits", now) is None
    records = [record async for batch in store.usage.records(None, 0, 2**60) for record in batch]
    assert [(record.source_key, record.started_at, record.ended_at, record.size) for record in records] == [
        ("used", 10, now, "Standard")
    ]


async def test_of_a_creation_and_a_deletion_that_meet_no_session_is_left(store: Store) -> None:
    for number in range(20):
        account = f"account-{number}"
        await store.accounts.create(account, "n", 1)

        async def create(i: int, account: str = account) -> bool:
            new = NewSession(
                key=f"{account}-{i}", account_id=account, id=f"s{i}", size="Standard", lease_minutes=1, created_at=0
            )
            return await store.sessions.create(new, limit=1000, refusal=REFUSAL) is not None

        async def delete(account: str = account) -> list[str]:
            assert await store.accounts.mark_deleted(account, 2)
            page = await store.sessions.list_active(account, after=None, count=100)
            return [row.id for row in page]

        first, second = asyncio.gather(*(create(i) for i in range(3))), asyncio.gather(*(create(i) for i in (3, 4)))
        seen = await delete()
        made = [f"s{i}" for i, there in enumerate([*await first, *await second]) if there]
        assert sorted(seen) == made, "whoever deletes sees every session that was made, and none is made afterwards"


async def test_another_process_that_writes_is_waited_for(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "x.db")
    direct = Direct(database)
    await direct.change(ADD, {"id": "a", "name": "first", "created_at": 1})
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE accounts SET name = 'other'")
    waiting = asyncio.create_task(direct.change(RENAME, {"id": "a", "name": "mine"}))
    cancelled = asyncio.create_task(direct.change(RENAME, {"id": "a", "name": "never"}))
    read = await asyncio.wait_for(direct.rows(NAMES, {"least": 0}), 60)
    assert [name for (name,) in read] == ["first"], "who reads waits for nobody"
    assert not waiting.done()
    cancelled.cancel()
    threading.Timer(0.05, other.execute, ["COMMIT"]).start()
    await asyncio.wait_for(waiting, 60)
    assert (await asyncio.gather(cancelled, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert await names(direct) == ["mine"]
    other.close()
    await direct.close()
    await database.close()


async def test_a_cancelled_wait_for_another_process_leaves_no_transaction(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "x.db")
    direct = Direct(database)
    await direct.change(ADD, {"id": "a", "name": "first", "created_at": 1})
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(direct.change(RENAME, {"id": "a", "name": "mine"}))
    async with asyncio.timeout(60):
        while not any(thread.name.startswith("asyncio") for thread in threading.enumerate()):
            await asyncio.sleep(0)
    waiting.cancel()
    threading.Timer(0.05, other.execute, ["COMMIT"]).start()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await names(direct) == ["first"]
    other.execute("UPDATE accounts SET name = 'free'")
    assert await names(direct) == ["free"]
    other.close()
    await direct.close()
    await database.close()


async def test_the_log_is_copied_into_the_file_while_writing_goes_on(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "x.db")
    direct = Direct(database)
    await direct.change(ADD, {"id": "a", "name": "first", "created_at": 1})
    for number in range(3000):
        await direct.change(RENAME, {"id": "a", "name": str(number)})
        if number % 100 == 0:
            await asyncio.sleep(0.01)  # lets the copying run
    log = tmp_path / "x.db-wal"
    assert log.stat().st_size < 3000 * 4096, "each commit writes a page and more"
    await direct.close()
    await database.close()


async def test_connections_that_the_server_ended_are_replaced(postgres_url: str) -> None:
    database = await Database.open(postgres_url)
    direct = Direct(database)
    await direct.change(ADD, {"id": "a", "name": "first", "created_at": 1})
    async with database.write() as connection:
        await connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await names(direct) == ["first"]
    assert [tuple(row) for row in await direct.change(RENAME, {"id": "a", "name": "again"})] == [("again",)]
    await direct.close()
    await database.close()
