"""The store: migrations, conditional changes that race, limits, expiry, one-time links."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from farframe.store import database
from farframe.store.database import Database, StoreError
from farframe.store.links import LinkState
from farframe.store.schema import metadata
from farframe.store.sessions import NewSession, Position, Refusal, ServerColumns
from farframe.store.store import Store

MINUTE = 60_000_000
REFUSAL = Refusal(code="NoServerAvailable", message="none")
SERVER = ServerColumns(server_id="s", pid=1, hostname="h", handshake_port=50000, inspector_port=50001, teraflops=1.5)


async def add(store: Store, key: str, *, account: str = "a", lease: int = 10, limit: int = 1000, at: int = 0) -> Any:
    new = NewSession(key=key, account_id=account, id=f"id-{key}", size="Standard", lease_minutes=lease, created_at=at)
    return await store.sessions.create(new, limit=limit, refusal=REFUSAL)


async def status(store: Store, key: str) -> str:
    row = await store.sessions.by_key(key)
    assert row is not None
    return row.status


async def test_the_migrations_make_the_tables_that_the_queries_know(database_source: Path | str) -> None:
    database = await Database.open(database_source)
    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
    await database.close()
    assert differences == []


async def test_opening_again_keeps_everything(database_source: Path | str) -> None:
    for expected in (None, "a"):
        store = await Store.open(database_source)
        first = await store.accounts.first()
        assert (first.id if first else None) == expected
        if first is None:
            await store.accounts.create("a", "n", 1)
        await store.close()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 500)
    with pytest.raises(StoreError, match="Restore it"):
        await Store.open(tmp_path / "x.db")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (sqlite3.SQLITE_FULL, "Make room"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "Let the service's user"),
        (sqlite3.SQLITE_BUSY, "End the program"),
        (sqlite3.SQLITE_CORRUPT, "Restore it"),
    ],
)
async def test_only_a_broken_file_is_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def fail(_connection: object) -> None:
        reason = sqlite3.OperationalError("so it is")
        reason.sqlite_errorcode = code
        raise OperationalError("CREATE TABLE", (), reason)

    monkeypatch.setattr(database, "migrate", fail)
    with pytest.raises(StoreError, match=f"so it is. {advice}") as caught:
        await Database.open(tmp_path / "farframe.db")
    assert ("move it away" in str(caught.value)) is (code == sqlite3.SQLITE_CORRUPT)


async def test_a_database_of_a_newer_version(database_source: Path | str) -> None:
    database = await Database.open(database_source)
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    await database.close()
    with pytest.raises(StoreError, match="newer version"):
        await Store.open(database_source)


@pytest.mark.parametrize(
    "url",
    ["mysql://root:geheim@localhost/x", "postgresql://u:geheim@localhost", "geheim", "postgresql://u:geheim@:x/y"],
)
async def test_a_url_of_no_postgresql_database_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreError, match="must look like postgresql://") as caught:
        await Store.open(url)
    assert "geheim" not in str(caught.value)


async def test_a_postgresql_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Check the setting database_url") as caught:
        await Store.open(f"postgresql://u:geheim@/x?host={tmp_path}")
    assert "geheim" not in str(caught.value)


async def test_services_that_start_at_the_same_time_migrate_once(postgres_url: str) -> None:
    stores = await asyncio.gather(*(Store.open(postgres_url) for _ in range(4)))
    await asyncio.gather(*(store.close() for store in stores))


async def test_ids_are_unique_per_account(store: Store) -> None:
    assert (await add(store, "k1")).created
    again = await store.sessions.create(
        NewSession(key="k2", account_id="a", id="id-k1", size="Premium", lease_minutes=1, created_at=5),
        limit=9,
        refusal=REFUSAL,
    )
    assert not again.created
    assert again.session.key == "k1"
    other = await store.sessions.create(
        NewSession(key="k3", account_id="b", id="id-k1", size="Standard", lease_minutes=1, created_at=5),
        limit=9,
        refusal=REFUSAL,
    )
    assert other.created


async def test_the_limit_counts_active_sessions_of_a_size(store: Store) -> None:
    for key in ("k1", "k2"):
        assert (await add(store, key, limit=2)).admitted
    refused = await add(store, "k3", limit=2, account="b")
    assert (refused.created, refused.admitted, refused.session.status) == (True, False, "Starting")
    row = await store.sessions.by_key("k3")
    assert row is not None
    assert (row.status, row.error_code) == ("Error", "NoServerAvailable")
    await store.sessions.mark_stopped("k1", 5)
    assert (await add(store, "k4", limit=2)).admitted


CHANGES = ["ready", "stop", "error", "expire"]


async def change(store: Store, name: str, key: str, now: int) -> bool:
    match name:
        case "ready":
            return await store.sessions.mark_ready(key, SERVER, now) is not None
        case "stop":
            return await store.sessions.mark_stopped(key, now)
        case "error":
            return await store.sessions.mark_error(key, "c", "m", now)
        case _:
            return any(row.key == key for row in await store.sessions.expire_due(now))


async def test_of_changes_that_race_exactly_one_ends_the_session(store: Store) -> None:
    for i in range(20):
        key = f"k{i}"
        await add(store, key, lease=0)
        await store.sessions.mark_ready(key, SERVER, 10)
        ends = ["stop", "error", "expire", "stop", "error", "expire"]
        won = await asyncio.gather(*(change(store, name, key, 20) for name in ends))
        assert sum(won) == 1
        expected = {"stop": "Stopped", "error": "Error", "expire": "Expired"}[ends[won.index(True)]]
        assert await status(store, key) == expected


async def test_an_end_is_never_before_the_ready_that_won(store: Store) -> None:
    # The caller of stop read the clock at 9, and then waited for the transaction that wrote Ready at 10.
    for key in ("stopped", "failed"):
        await add(store, key)
        await store.sessions.mark_ready(key, SERVER, 10)
    assert await store.sessions.mark_stopped("stopped", 9)
    assert await store.sessions.mark_error("failed", "Code", "Message.", 9)
    for key in ("stopped", "failed"):
        row = await store.sessions.by_key(key)
        assert row is not None and (row.ready_at, row.ended_at) == (10, 10)
    records = [record async for batch in store.usage.records(None, 0, 100) for record in batch]
    assert [(record.started_at, record.ended_at) for record in records] == [(10, 10)] * 2


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(CHANGES), max_size=8))
def test_a_final_status_stays(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    async def run() -> None:
        store = await Store.open(tmp_path_factory.mktemp("store") / "x.db")
        try:
            await store.accounts.create("a", "n", 1)
            await add(store, "k", lease=0)
            now, before = 10, "Starting"
            for name in names:
                now += 1
                changed = await change(store, name, "k", now)
                after = await status(store, "k")
                assert changed == (after != before)
                if before in ("Stopped", "Error", "Expired"):
                    assert after == before
                before = after
        finally:
            await store.close()

    asyncio.run(run())


async def test_leases(store: Store) -> None:
    await add(store, "k", lease=10)
    assert await store.sessions.next_expiry() is None
    assert await store.sessions.extend("k", 12, 3)
    await store.sessions.mark_ready("k", SERVER, 100)
    assert await store.sessions.next_expiry() == 100 + 12 * MINUTE
    assert not await store.sessions.extend("k", 12, 200)
    assert await store.sessions.extend("k", 13, 200)
    assert not await store.sessions.extend("k", 20, 100 + 13 * MINUTE), "a lease that is over stays over"
    assert await store.sessions.expire_due(100 + 13 * MINUTE - 1) == []
    (row,) = await store.sessions.expire_due(100 + 14 * MINUTE)
    assert row.key == "k"
    ended = await store.sessions.by_key("k")
    assert ended is not None
    assert ended.ended_at == 100 + 13 * MINUTE, "when it was over, not when somebody looked"


async def test_pages_of_active_sessions(store: Store) -> None:
    for i in range(7):
        await add(store, f"k{i}", at=i // 3)
    await store.sessions.mark_stopped("k2", 9)
    await add(store, "other", account="b")
    seen, after = [], None
    while page := await store.sessions.list_active("a", after=after, count=2):
        seen += [row.key for row in page]
        after = Position(page[-1].created_at, page[-1].key)
    assert seen == ["k0", "k1", "k3", "k4", "k5", "k6"]


async def test_old_sessions_are_forgotten_only_when_they_have_ended(store: Store) -> None:
    for key in ("old", "active", "new"):
        await add(store, key, at=100 if key == "new" else 1)
    for key in ("old", "new"):
        await store.sessions.mark_stopped(key, 200)
    assert await store.sessions.forget_ended(50) == 1
    assert await store.sessions.by_key("old") is None
    assert await store.sessions.by_key("active") is not None


async def test_account_keys_can_be_changed_one_by_one(store: Store) -> None:
    await store.accounts.set_key("a", 1, b"1" * 48, 1)
    await store.accounts.set_key("a", 2, b"2" * 48, 1)
    assert sorted(await store.accounts.key_hashes("a")) == [b"1" * 48, b"2" * 48]
    await store.accounts.set_key("a", 1, b"3" * 48, 2)
    assert sorted(await store.accounts.key_hashes("a")) == [b"2" * 48, b"3" * 48]
    assert await store.accounts.key_hashes("nobody") == []


async def test_a_link_is_redeemed_once_however_many_try(store: Store) -> None:
    await store.links.add(b"h" * 32, "a", "s", now=1, expires_at=100)
    results = await asyncio.gather(*(store.links.redeem(b"h" * 32, 50) for _ in range(10)))
    states = [result.state for result in results]
    assert states.count(LinkState.REDEEMED) == 1
    assert states.count(LinkState.USED) == 9
    winner = next(result for result in results if result.state is LinkState.REDEEMED)
    assert (winner.account_id, winner.session_id) == ("a", "s")
    await store.links.add(b"i" * 32, "a", None, now=1, expires_at=100)
    assert (await store.links.redeem(b"i" * 32, 100)).state is LinkState.EXPIRED
    assert (await store.links.redeem(b"j" * 32, 1)).state is LinkState.UNKNOWN
    assert await store.links.forget_expired(101) == 2


async def test_uploads(store: Store) -> None:
    for upload, path, size in (("u1", "a", 3), ("u1", "b/c", 4), ("u2", "a", 5)):
        await store.uploads.put("a", upload, path, size=size, now=1, expires_at=10)
    await store.uploads.put("a", "u1", "a", size=30, now=2, expires_at=20)
    usage = await store.uploads.usage("a")
    assert (usage.bytes, usage.file_count) == (39, 3)
    assert (await store.uploads.usage("b")).bytes == 0
    assert await store.uploads.expired(10) == [("a", "u2")]
    assert await store.uploads.next_expiry() == 10
    page = await store.uploads.page("a", after=None, count=2)
    rest = await store.uploads.page("a", after=(page[-1].stored_at, page[-1].upload_id, page[-1].path), count=9)
    assert [(row.upload_id, row.path, row.bytes) for row in page + rest] == [
        ("u1", "b/c", 4),
        ("u2", "a", 5),
        ("u1", "a", 30),
    ]
    assert await store.uploads.delete("a", "u1")
    assert not await store.uploads.delete("a", "u1")
    assert (await store.uploads.usage("a")).bytes == 5


async def test_services_that_share_a_database_expire_each_session_once(postgres_url: str) -> None:
    first, second = await Store.open(postgres_url), await Store.open(postgres_url)
    try:
        await first.accounts.create("a", "one", 1)
        for i in range(60):
            await add(first, f"k{i}", lease=0)
            await first.sessions.mark_ready(f"k{i}", SERVER, 10)
        rounds = await asyncio.gather(*(store.sessions.expire_due(20) for store in (first, second) * 4))
        expired = [row.key for rows in rounds for row in rows]
        assert sorted(expired) == sorted(f"k{i}" for i in range(60))
    finally:
        await first.close()
        await second.close()


async def test_creations_at_the_same_time_keep_to_the_limit_of_their_replica(store: Store) -> None:
    await store.replicas.announce("r", "", 1)

    async def create(i: int) -> bool:
        new = NewSession(
            key=f"k{i}", account_id="a", id=f"s{i}", size="Standard", lease_minutes=1, created_at=0, replica_id="r"
        )
        return (await store.sessions.create(new, limit=5, refusal=REFUSAL)).admitted

    assert sum(await asyncio.gather(*(create(i) for i in range(20)))) == 5
    other = NewSession(key="o", account_id="a", id="o", size="Standard", lease_minutes=1, created_at=0, replica_id="q")
    assert (await store.sessions.create(other, limit=5, refusal=REFUSAL)).admitted, "another replica has its own"


async def test_only_one_takes_over_from_a_replica_and_only_if_it_is_silent(store: Store) -> None:
    await store.replicas.announce("dead", "", 1)
    new = NewSession(key="k", account_id="a", id="k", size="Standard", lease_minutes=9, created_at=0, replica_id="dead")
    await store.sessions.create(new, limit=5, refusal=REFUSAL)
    assert await store.replicas.beat("dead", 2)
    assert await store.replicas.take_over("dead", 1, "heir", ["k"]) == [], "it was heard of since"
    won = await asyncio.gather(*(store.replicas.take_over("dead", 2, f"heir-{i}", ["k"]) for i in range(6)))
    assert sum(len(keys) for keys in won) == 1
    heir = f"heir-{[bool(keys) for keys in won].index(True)}"
    assert not await store.sessions.mark_ready("k", SERVER, 5, owner="dead"), "it is no longer its own"
    assert not await store.sessions.mark_error("k", "c", "m", 5, owner="dead")
    assert await store.sessions.mark_ready("k", SERVER, 5, owner=heir)
    assert await store.replicas.strays() == [heir]
    assert not await store.replicas.give_up("dead", 1)
    assert await store.replicas.give_up("dead", 2)
    assert not await store.replicas.beat("dead", 3)
