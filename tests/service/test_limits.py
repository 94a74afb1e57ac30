"""Quotas and rate limits: what is refused, how, and what is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from farframe.auth.secrets import hash_account_key
from farframe.service.clock import ManualClock
from farframe.service.quotas import CONVERSIONS, SESSION_MINUTES, SESSIONS_STANDARD, STORED_BYTES, month_begin
from farframe.service.rates import MAX_BUCKETS, RateLimits
from tests.service.test_contract import check_common
from tests.service.test_conversions import HeldQueue, put

OTHER = "11111111-2222-4333-8444-555555555555"
MONTH_MINUTES = 31 * 24 * 60


def refused(answer: Any, code: str) -> str:
    assert answer.status_code == 403, answer.text
    check_common(answer, data_plane=True)
    error = answer.json()["error"]
    assert error["code"] == code
    return str(error["message"])


async def test_sessions_at_a_time_by_size(make_world: Any) -> None:
    async with make_world(servers={"standard": 9, "premium": 9}, quota_sessions={"standard": 2}) as world:
        assert (await world.create("a")).status_code == 201
        assert (await world.create("b")).status_code == 201
        assert "2 active Standard sessions" in refused(await world.create("c"), "SessionQuotaExceeded")
        assert (await world.call("GET", "/c")).status_code == 404
        assert (await world.create("a")).status_code == 200, "a repeated request takes no further session"
        assert (await world.create("p", size="premium")).status_code == 201
        await world.call("POST", "/a/:stop")
        assert (await world.create("c")).status_code == 201
        await world.service.quotas.set(world.account, SESSIONS_STANDARD, 3)
        assert (await world.create("d")).status_code == 201
        await world.service.quotas.set(world.account, SESSIONS_STANDARD, 0)
        refused(await world.create("e"), "SessionQuotaExceeded")
        await world.service.quotas.set(world.account, SESSIONS_STANDARD, -1)
        assert (await world.create("e")).status_code == 201
        await world.service.quotas.set(world.account, SESSIONS_STANDARD, None)
        refused(await world.create("f"), "SessionQuotaExceeded")


async def test_quotas_are_each_accounts_own(make_world: Any) -> None:
    async with make_world(servers={"standard": 9}, quota_sessions={"standard": 1}) as world:
        await world.store.accounts.create(OTHER, "other", 1)
        assert (await world.create("a")).status_code == 201
        path = world.path("/a").replace(world.account, OTHER)
        content = {"maxLeaseTimeMinutes": 5, "size": "Standard"}
        answer = await world.http.put(path, json=content, headers=world.bearer(account=OTHER))
        assert answer.status_code == 201


async def test_side_by_side_requests_do_not_pass_a_quota(make_world: Any) -> None:
    async with make_world(servers={"standard": 30}, quota_sessions={"standard": 3}) as world:
        answers = await asyncio.gather(*(world.create(f"s{index}") for index in range(12)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [403] * 9


async def test_session_minutes(make_world: Any) -> None:
    async with make_world(servers={"standard": 9}, quota_session_minutes=30) as world:
        assert (await world.create("a", 10)).status_code == 201
        await world.until_status("Ready", "a")
        message = refused(await world.create("b", 21), "SessionMinutesExceeded")
        assert "30 session minutes a month. 20 are left" in message
        assert (await world.create("b", 15)).status_code == 201
        await world.until_status("Ready", "b")
        # A longer lease is counted like a new one, and a refused one changes nothing.
        too_long = await world.call("PATCH", "/b", json={"maxLeaseTimeMinutes": 21})
        refused(too_long, "SessionMinutesExceeded")
        assert (await world.show("b"))["maxLeaseTimeMinutes"] == 15
        assert (await world.call("PATCH", "/b", json={"maxLeaseTimeMinutes": 20})).status_code == 200
        world.clock.advance(minutes=4)
        await world.call("POST", "/a/:stop")
        assert (await world.create("c", 6)).status_code == 201, "what a stop saved can be used again"
        refused(await world.create("d", 1), "SessionMinutesExceeded")
        assert (await world.call("PATCH", "/c", json={"maxLeaseTimeMinutes": 3})).status_code == 422
        # All of it ends, and the next month begins.
        world.clock.advance(minutes=MONTH_MINUTES)
        world.headers = world.bearer()
        assert (await world.create("d", 30)).status_code == 201


async def test_conversions_at_a_time(make_world: Any) -> None:
    queue = HeldQueue()
    async with make_world(quota_conversions=2, conversion_queue=queue) as world:
        assert [(await put(world, name)).status_code for name in ("a", "b")] == [201, 201]
        assert "2 unfinished conversions" in refused(await put(world, "c"), "ConversionQuotaExceeded")
        assert (await put(world, "a")).status_code == 200
        await queue.book.started(queue.jobs[0].key)
        refused(await put(world, "c"), "ConversionQuotaExceeded")
        await queue.book.failed(queue.jobs[0].key, "X", "x")
        assert (await put(world, "c")).status_code == 201
        await world.service.quotas.set(world.account, CONVERSIONS, -1)
        assert (await put(world, "d")).status_code == 201


async def test_stored_bytes(make_world: Any) -> None:
    async with make_world(upload_quota_bytes=100) as world:
        path = f"/accounts/{world.account}/uploads"
        assert (await world.http.put(f"{path}/u/a", content=b"x" * 90, headers=world.headers)).status_code == 201
        full = await world.http.put(f"{path}/u/b", content=b"x" * 20, headers=world.headers)
        assert (full.status_code, full.json()["error"]["code"]) == (413, "UploadQuotaExceeded")
        await world.service.quotas.set(world.account, STORED_BYTES, 200)
        assert (await world.http.put(f"{path}/u/b", content=b"x" * 20, headers=world.headers)).status_code == 201
        assert (await world.http.get(path, headers=world.headers)).json()["quotaBytes"] == 200


async def test_quotas_have_names(world: Any) -> None:
    with pytest.raises(ValueError, match="there is no quota sesions"):
        await world.service.quotas.set(world.account, "sesions", 1)
    with pytest.raises(ValueError, match="-1 for no limit"):
        await world.service.quotas.set(world.account, SESSION_MINUTES, -2)
    assert await world.service.quotas.of(world.account) == {
        "sessions.standard": None,
        "sessions.premium": None,
        "session_minutes": None,
        "conversions": 20,
        "stored_bytes": 5_000_000_000,
    }


def test_months() -> None:
    assert month_begin(1_750_000_000_000_000) == 1_748_736_000_000_000  # 2025-06-15 and 2025-06-01, both UTC


# Rate limits ----------------------------------------------------------------------------------------------------------


async def test_too_many_requests(make_world: Any) -> None:
    async with make_world(rate_limits={"get": 3, "token": 2, "other": 1}) as world:
        await world.create()
        assert [(await world.call("GET", "/s")).status_code for _ in range(3)] == [200] * 3
        limited = await world.call("GET", "/s")
        assert (limited.status_code, limited.content) == (429, b"")
        assert limited.headers["retry-after"] == "20"
        assert limited.headers["api-supported-versions"]
        assert "content-type" not in limited.headers
        # Each operation and each account has a bucket of its own.
        assert (await world.call("GET")).status_code == 200
        await world.store.accounts.create(OTHER, "other", 1)
        path = world.path("/s").replace(world.account, OTHER)
        assert (await world.http.get(path, headers=world.bearer(account=OTHER))).status_code == 404
        world.clock.advance(seconds=19.5)
        again = await world.call("GET", "/s")
        assert (again.status_code, again.headers["retry-after"]) == (429, "1")
        world.clock.advance(seconds=0.5)
        assert (await world.call("GET", "/s")).status_code == 200

        key = {"Authorization": f"Bearer {world.account}:{world.key}"}
        token_path = f"/Accounts/{world.account}/token"
        for _ in range(20):  # a stranger cannot use up the account's calls
            wrong = await world.http.get(token_path, headers={"Authorization": f"Bearer {world.account}:wrong"})
            assert wrong.status_code == 401
        assert [(await world.http.get(token_path, headers=key)).status_code for _ in range(3)] == [200, 200, 429]

        uploads = f"/accounts/{world.account}/uploads"
        assert (await world.http.get(uploads, headers=world.headers)).status_code == 200
        limited = await world.http.get(uploads, headers=world.headers)
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "60")
        assert limited.json()["error"]["code"] == "TooManyRequests"


async def test_wrong_keys_wait_by_address_and_right_ones_do_not(make_world: Any) -> None:
    async with make_world(rate_limits={"refused": 3}) as world:
        path = f"/Accounts/{world.account}/token"
        wrong = {"Authorization": f"Bearer {world.account}:wrong"}
        assert [(await world.http.get(path, headers=wrong)).status_code for _ in range(4)] == [401, 401, 401, 429]
        limited = await world.http.get(path, headers=wrong)
        assert (limited.headers["retry-after"], limited.content) == ("20", b"")
        right = {"Authorization": f"Bearer {world.account}:{world.key}"}
        assert (await world.http.get(path, headers=right)).status_code == 200, "others behind the address go on"
        operator = await world.http.get("/operator/accounts", headers={"Authorization": "Bearer ffo_guessed"})
        assert (operator.status_code, operator.headers["retry-after"]) == (429, "20")
        assert operator.json()["error"]["code"] == "TooManyRequests"
        world.clock.advance(seconds=20)
        assert (await world.http.get(path, headers=wrong)).status_code == 401


async def test_operators_are_limited_each_on_their_own(make_world: Any) -> None:
    async with make_world(rate_limits={"operator": 2}) as world:
        first, second = ({"Authorization": f"Bearer ffo_{name}"} for name in ("first", "second"))
        for name in ("first", "second"):
            await world.store.operators.set_token(name, hash_account_key(f"ffo_{name}"), 1)
        for path in ("accounts", "audit"):
            assert (await world.http.get(f"/operator/{path}", headers=first)).status_code == 200
        for path in ("accounts", "audit", "prices", "usage", f"accounts/{world.account}/quotas"):
            limited = await world.http.get(f"/operator/{path}", headers=first)
            assert (limited.status_code, limited.headers["retry-after"]) == (429, "30"), path
        assert (await world.http.get("/operator/accounts", headers=second)).status_code == 200


async def test_what_is_public_is_limited_by_address(make_world: Any) -> None:
    async with make_world(rate_limits={"public": 5}) as world:
        for path in ("/regions", "/latency", "/latency?bytes=9", "/openapi.json", "/.well-known/jwks.json"):
            assert (await world.http.get(path)).status_code in (200, 204), path
        for path in ("/regions", "/latency", "/latency?bytes=9", "/openapi.json", "/.well-known/jwks.json", "/docs"):
            limited = await world.http.get(path)
            assert (limited.status_code, limited.headers["retry-after"]) == (429, "12"), path
        assert (await world.http.get("/health/live")).status_code == 200, "probes are not counted"
        assert (await world.call("GET")).status_code == 200


async def test_strangers_are_not_counted(make_world: Any) -> None:
    async with make_world(rate_limits={"list": 1}) as world:
        for headers in ({}, world.bearer(account=OTHER), {"Authorization": "Bearer x"}):
            for _ in range(3):
                assert (await world.call("GET", headers=headers)).status_code in (401, 403)
        assert (await world.call("GET")).status_code == 200


async def test_defaults_have_room_for_pollers(world: Any) -> None:
    # Fifty clients of one account that poll as fast as the official ones can be told to, once a second for a minute.
    limits, clock = world.service.limits, world.clock
    for _ in range(60):
        assert [limits.take(world.account, "get") for _ in range(50)] == [0] * 50
        clock.advance(seconds=1)


def test_buckets() -> None:
    clock = ManualClock()
    limits = RateLimits({"get": 60, "list": 0}, clock)
    assert [limits.take("a", "get") for _ in range(61)] == [0] * 60 + [1]
    clock.advance(seconds=3)
    assert [limits.take("a", "get") for _ in range(4)] == [0, 0, 0, 1]
    clock.advance(minutes=10)
    assert [limits.take("a", "get") for _ in range(61)] == [0] * 60 + [1], "a bucket overflows when it is full"
    clock.advance(seconds=-30)
    assert limits.take("a", "get") == 1, "a clock that is set back neither fills nor empties"
    assert {limits.take("a", "list") for _ in range(10_000)} == {0}


def test_memory_is_bounded() -> None:
    limits = RateLimits({"get": 1}, ManualClock())
    for index in range(MAX_BUCKETS + 10):
        limits.take(str(index), "get")
    assert len(limits._buckets) == MAX_BUCKETS
    assert limits.take(str(MAX_BUCKETS + 9), "get") == 60


async def test_retry_after_is_for_429_only(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from farframe.service import frontier

    kept = dict(frontier._kept_headers(503, [(b"retry-after", b"5"), (b"x", b"y")]))
    assert kept == {b"x": b"y"}
    assert (b"retry-after", b"5") in frontier._kept_headers(429, [(b"retry-after", b"5")])
