"""Conversions and quotas in the store, on both databases, also when many ask at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from farframe.store.conversions import NewConversion
from farframe.store.quotas import QuotaReached, SessionQuota
from farframe.store.sessions import NewSession, Refusal, ServerColumns
from farframe.store.store import Store

MINUTE = 60_000_000
REFUSAL = Refusal(code="Full", message="full")
SERVER = ServerColumns(server_id="s", pid=1, hostname="h", handshake_port=50000, inspector_port=50001, teraflops=1.0)


async def session(store: Store, key: str, quota: SessionQuota, *, account: str = "a", lease: int = 10) -> Any:
    new = NewSession(key=key, account_id=account, id=f"id-{key}", size="Standard", lease_minutes=lease, created_at=0)
    return await store.sessions.create(new, limit=1000, refusal=REFUSAL, quota=quota)


async def conversion(store: Store, key: str, *, limit: int | None = None, account: str = "a", at: int = 0) -> Any:
    new = NewConversion(key=key, account_id=account, id=f"id-{key}", created_at=at, settings_json="{}")
    return await store.conversions.create(new, limit=limit)


async def test_many_at_a_time_never_pass_a_quota(store: Store) -> None:
    quota = SessionQuota(active=3)
    made = await asyncio.gather(*(session(store, f"s{i}", quota) for i in range(12)), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in made) == 3
    assert all(isinstance(one, QuotaReached) for one in made if isinstance(one, BaseException))
    made = await asyncio.gather(*(conversion(store, f"c{i}", limit=3) for i in range(12)), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in made) == 3
    minutes = SessionQuota(microseconds=35 * MINUTE)
    made = await asyncio.gather(
        *(session(store, f"b{i}", minutes, account="b") for i in range(12)), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in made) == 3, "three leases of ten minutes fit into 35"


async def test_session_time_counts_records_of_the_month_and_leases_that_run(store: Store) -> None:
    month = 1_000_000 * MINUTE
    quota = SessionQuota(microseconds=30 * MINUTE, begin=month)
    # Ended: four minutes in Ready, one of them before the month began.
    await session(store, "old", quota)
    await store.sessions.mark_ready("old", SERVER, month - MINUTE)
    await store.sessions.mark_stopped("old", month + 3 * MINUTE)
    # Runs: a lease of 12 minutes, two of them before the month began.
    await session(store, "runs", quota, lease=12)
    await store.sessions.mark_ready("runs", SERVER, month - 2 * MINUTE)
    with pytest.raises(QuotaReached) as caught:
        await session(store, "new", quota, lease=18)
    assert (caught.value.used, caught.value.limit) == (13 * MINUTE, 30 * MINUTE)
    assert (await session(store, "new", quota, lease=17)).created
    assert not (await session(store, "new", quota, lease=17)).created, "what exists is not counted again"
    with pytest.raises(QuotaReached):
        await store.sessions.extend("runs", 13, month, quota)
    row = await store.sessions.by_key("runs")
    assert row is not None
    assert (row.lease_minutes, row.expires_at) == (12, month + 10 * MINUTE), "a refused extension leaves no trace"
    await store.sessions.mark_stopped("new", month)
    assert await store.sessions.extend("runs", 13, month, quota)


async def test_conversions_change_their_status_once(store: Store) -> None:
    row, created = await conversion(store, "c")
    assert (row.status, created) == ("NotStarted", True)
    assert not (await conversion(store, "c"))[1]
    assert not await store.conversions.mark_succeeded("c", "uri", 1, 5), "it has not begun"
    assert await store.conversions.mark_running("c", 5)
    assert not await store.conversions.mark_running("c", 6)
    outcomes = await asyncio.gather(
        *(store.conversions.mark_failed("c", "X", "x", 9) for _ in range(4)),
        *(store.conversions.mark_succeeded("c", "uri", 1, 9) for _ in range(4)),
    )
    assert sum(outcomes) == 1
    records = [one async for batch in store.usage.records("a", 0, 100) for one in batch]
    assert [(one.kind, one.started_at, one.ended_at) for one in records] == [("conversion", 5, 9)]
    assert await store.conversions.unfinished() == []


async def test_pages_of_conversions(store: Store) -> None:
    for index in range(7):
        await conversion(store, f"c{index}", at=index // 2)
    await conversion(store, "other", account="b")
    keys: list[str] = []
    after = None
    while page := await store.conversions.page("a", after=after, count=3):
        keys += [row.key for row in page]
        after = (page[-1].created_at, page[-1].key)
    assert keys == [f"c{index}" for index in range(7)]
    assert len(await store.conversions.unfinished()) == 8


async def test_quotas_of_accounts(store: Store) -> None:
    await store.quotas.set("a", "conversions", 3)
    await store.quotas.set("a", "conversions", 4)
    await store.quotas.set("a", "stored_bytes", 5_000_000_000_000)
    assert await store.quotas.of("a") == {"conversions": 4, "stored_bytes": 5_000_000_000_000}
    assert await store.quotas.of("b") == {}
    await store.quotas.set("a", "conversions", None)
    assert await store.quotas.of("a") == {"stored_bytes": 5_000_000_000_000}


async def test_a_deleted_account_gets_no_conversion_and_keeps_none_that_waits(store: Store) -> None:
    for key in ("queued", "runs", "done"):
        await conversion(store, key)
    await conversion(store, "other", account="b")
    for key in ("runs", "done"):
        await store.conversions.mark_running(key, 5)
    await store.conversions.mark_succeeded("done", "uri", 1, 7)
    assert await store.conversions.unfinished_of_deleted() == []
    assert await store.accounts.mark_deleted("a", 8)
    assert await conversion(store, "late") is None
    assert await store.conversions.unfinished_of_deleted() == ["a"]
    assert await store.conversions.fail_all_of("a", "AccountDeleted", "Gone.", 9) == 2
    assert await store.conversions.unfinished_of_deleted() == []
    assert [row.key for row in await store.conversions.unfinished()] == ["other"]
    assert not await store.conversions.mark_succeeded("runs", "uri", 1, 10), "its worker comes too late"
    records = [one async for batch in store.usage.records(None, 0, 100) for one in batch]
    assert sorted((one.source_key, one.started_at, one.ended_at) for one in records) == [("done", 5, 7), ("runs", 5, 9)]


async def test_of_conversions_and_a_deletion_that_meet_none_is_left(store: Store) -> None:
    for number in range(10):
        account = f"account-{number}"
        await store.accounts.create(account, "n", 1)
        first = asyncio.gather(*(conversion(store, f"{account}-{i}", account=account) for i in range(4)))

        async def delete(account: str = account) -> int:
            assert await store.accounts.mark_deleted(account, 2)
            return await store.conversions.fail_all_of(account, "AccountDeleted", "Gone.", 3)

        assert await delete() == sum(made is not None for made in await first)
    assert await store.conversions.unfinished() == []


async def test_history_is_forgotten_and_leases_expire_some_at_a_time(store: Store) -> None:
    none = SessionQuota()
    for index in range(5):
        await session(store, f"s{index}", none, lease=0)
        await store.sessions.mark_ready(f"s{index}", SERVER, 10 + index)
        await conversion(store, f"c{index}")
    await conversion(store, "unfinished")
    await store.conversions.mark_running("unfinished", 5)
    for index in range(5):
        await store.conversions.mark_failed(f"c{index}", "X", "x", 20)
    assert await store.sessions.list_active("a", after=None, count=9, now=14) == [], "their leases are over"
    seen = [row.key for row in await store.sessions.list_active("a", after=None, count=9, now=12)]
    assert seen == ["s3", "s4"]
    assert await store.sessions.expire("s2", 100)
    assert not await store.sessions.expire("s2", 100)
    assert not await store.sessions.expire("s3", 12)
    batches = [await store.sessions.expire_due(100, count=2) for _ in range(3)]
    assert [[row.key for row in batch] for batch in batches] == [["s0", "s1"], ["s3", "s4"], []]
    records = [one async for batch in store.usage.records(None, 0, 2**60) for one in batch]
    assert len(records) == 5
    for forget, counts in ((store.sessions.forget_ended, [2, 2, 1, 0]), (store.conversions.forget_ended, [2, 2, 1, 0])):
        assert await forget(0, count=2) == 0, "they were created at that time, not before it"
        assert [await forget(1, count=2) for _ in counts] == counts
    assert [row.key for row in await store.conversions.unfinished()] == ["unfinished"]
    assert len([one async for batch in store.usage.records(None, 0, 2**60) for one in batch]) == 5
