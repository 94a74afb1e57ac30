"""The five session operations and their rules."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from farframe.auth.tokens import Role
from farframe.fleet.fake import FakeFleet
from farframe.wire.sessions import SessionSettings, SessionSize

STARTING = {"id", "creationTime", "elapsedTimeMinutes", "maxLeaseTimeMinutes", "size", "status"}


async def test_create_says_starting_and_the_next_get_says_ready(world: Any) -> None:
    created = await world.create("demo-1", 15)
    assert created.status_code == 201
    body = created.json()
    assert list(body) == ["id", "creationTime", "elapsedTimeMinutes", "maxLeaseTimeMinutes", "size", "status"]
    assert body["status"] == "Starting"
    assert body["elapsedTimeMinutes"] == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?\+00:00", body["creationTime"])

    ready = await world.show("demo-1")
    assert list(ready) == [
        "id",
        "creationTime",
        "arrInspectorPort",
        "handshakePort",
        "elapsedTimeMinutes",
        "hostname",
        "maxLeaseTimeMinutes",
        "size",
        "status",
        "teraflops",
    ]
    assert ready["status"] == "Ready"
    assert ready["handshakePort"] == 50051
    assert ready["arrInspectorPort"] == 50052
    assert ready["hostname"] == "localhost"
    assert ready["teraflops"] == 0.25


async def test_a_cold_server_comes_later(make_world: Any) -> None:
    async with make_world(FakeFleet(default="cold")) as world:
        await world.create()
        assert (await world.show())["status"] == "Starting"
        await world.fleet.make_ready(world.fleet.key_of("s"))
        assert (await world.show())["status"] == "Ready"


async def test_the_same_settings_again_are_the_same_session(world: Any) -> None:
    await world.create("s", 10)
    again = await world.create("s", 10, "sTANDARD")
    assert again.status_code == 200
    assert again.json()["status"] == "Ready"
    assert len(world.fleet.assigned) == 1


async def test_other_settings_under_the_same_id_conflict(world: Any) -> None:
    await world.create("s", 10)
    for lease, size in ((11, "Standard"), (10, "Premium")):
        other = await world.create("s", lease, size)
        assert other.status_code == 409
        assert other.json()["error"]["code"] == "Conflict"
    assert (await world.show())["maxLeaseTimeMinutes"] == 10


async def test_after_an_extension_both_leases_are_the_same_settings(world: Any) -> None:
    await world.create("s", 10)
    await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": 20})
    assert (await world.create("s", 10)).status_code == 200
    assert (await world.create("s", 20)).status_code == 200
    assert (await world.create("s", 15)).status_code == 409


async def test_a_stopped_session_answers_for_its_settings(world: Any) -> None:
    await world.create("s", 10)
    await world.call("POST", "/s/:stop")
    again = await world.create("s", 10)
    assert again.status_code == 200
    assert again.json()["status"] == "Stopped"
    assert (await world.create("s", 11)).status_code == 409


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"maxLeaseTimeMinutes":-1,"size":"Standard"}', "The maxLeaseTimeMinutes value cannot be negative."),
        (b'{"maxLeaseTimeMinutes":1441,"size":"Standard"}', "1440"),
        (b'{"maxLeaseTimeMinutes":1e400,"size":"Standard"}', "JSON"),
        (b'{"maxLeaseTimeMinutes":10.5,"size":"Standard"}', "integer"),
        (b'{"maxLeaseTimeMinutes":"10","size":"Standard"}', "integer"),
        (b'{"maxLeaseTimeMinutes":true,"size":"Standard"}', "integer"),
        (b'{"maxLeaseTimeMinutes":null,"size":"Standard"}', "required"),
        (b'{"size":"Standard"}', "required"),
        (b'{"maxLeaseTimeMinutes":10}', "size"),
        (b'{"maxLeaseTimeMinutes":10,"size":"Tiny"}', "Tiny"),
        (b'{"maxLeaseTimeMinutes":10,"size":5}', "size"),
        (b"[]", "object"),
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[" * 60000, "JSON"),
        (b"\xff\xfe", "JSON"),
    ],
)
async def test_bad_create_requests(world: Any, body: bytes, words: str) -> None:
    response = await world.call("PUT", "/s", content=body)
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    error = response.json()["error"]
    assert error["code"] == "BadRequest"
    assert set(error) == {"code", "message"}
    assert words in error["message"]
    assert (await world.call("GET", "/s")).status_code == 404


async def test_unknown_members_and_extreme_leases_are_fine(world: Any) -> None:
    body = {"maxLeaseTimeMinutes": 1440, "size": "premium", "colour": "red", "nested": {"a": [1]}}
    response = await world.call("PUT", "/long", json=body)
    assert response.status_code == 201
    assert response.json()["size"] == "Premium"


async def test_a_body_that_is_too_large(world: Any) -> None:
    response = await world.call("PUT", "/s", content=b" " * 70_000)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "PayloadTooLarge"

    async def endless() -> Any:
        for _ in range(20):
            yield b" " * 10_000

    response = await world.call("PUT", "/s", content=endless())
    assert response.status_code == 413


async def test_update(world: Any) -> None:
    await world.create("s", 10)
    response = await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": 20})
    assert response.status_code == 200
    assert response.json()["maxLeaseTimeMinutes"] == 20
    assert response.json()["status"] == "Ready"
    for lease in (20, 19, 0, -5, 1441):
        refused = await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": lease})
        assert refused.status_code == 422, lease
        assert refused.json()["error"]["code"] == "UnprocessableEntity"
    assert (await world.call("PATCH", "/s", content=b"x")).status_code == 400
    assert (await world.call("PATCH", "/nobody", json={"maxLeaseTimeMinutes": 20})).status_code == 404
    await world.call("POST", "/s/:stop")
    assert (await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": 30})).status_code == 422


async def test_update_while_starting(make_world: Any) -> None:
    async with make_world(FakeFleet(default="cold")) as world:
        await world.create("s", 4)
        response = await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": 5})
        assert response.status_code == 200
        assert response.json()["status"] == "Starting"
        await world.fleet.make_ready(world.fleet.key_of("s"))
        world.clock.advance(minutes=4.5)
        assert (await world.show())["status"] == "Ready"
        world.clock.advance(minutes=0.5)
        await world.until_status("Expired")


async def test_stop(world: Any) -> None:
    await world.create()
    key = world.fleet.key_of("s")
    world.clock.advance(minutes=2.9)
    response = await world.call("POST", "/s/:stop")
    assert response.status_code == 204
    assert response.content == b""
    assert "content-type" not in response.headers
    assert "content-length" not in response.headers
    stopped = await world.show()
    assert set(stopped) == STARTING | {"teraflops"}
    assert stopped["status"] == "Stopped"
    assert stopped["elapsedTimeMinutes"] == 2
    world.clock.advance(minutes=60)
    assert (await world.show())["elapsedTimeMinutes"] == 2
    await world.service.sessions.settle()
    assert world.fleet.released == [(key, "SessionStopped")]
    assert (await world.call("POST", "/s/:stop")).status_code == 204
    assert (await world.call("POST", "/nobody/:stop")).status_code == 404


async def test_a_server_that_comes_up_after_the_stop_is_released(make_world: Any) -> None:
    async with make_world(FakeFleet(default="cold")) as world:
        await world.create()
        key = world.fleet.key_of("s")
        await world.call("POST", "/s/:stop")
        await world.fleet.make_ready(key)
        await world.service.sessions.settle()
        assert (await world.show())["status"] == "Stopped"
        assert world.fleet.facts(key) is None


async def test_unknown_session_has_no_body(world: Any) -> None:
    response = await world.call("GET", "/nobody")
    assert response.status_code == 404
    assert response.content == b""
    assert "content-type" not in response.headers


async def test_expiry(world: Any) -> None:
    await world.create("s", 3)
    key = world.fleet.key_of("s")
    world.clock.advance(minutes=2.99)
    assert (await world.show())["elapsedTimeMinutes"] == 2

    # Without any request: the scheduler alone must see it.
    world.clock.advance(minutes=0.01)
    async with asyncio.timeout(60):
        while not world.fleet.released:
            await asyncio.sleep(0.005)
    assert world.fleet.released == [(key, "SessionExpired")]
    expired = await world.show()
    assert expired["status"] == "Expired"
    assert expired["elapsedTimeMinutes"] == 3
    assert (await world.call("GET")).json() == {"sessions": []}
    assert (await world.call("POST", "/s/:stop")).status_code == 204
    assert (await world.show())["status"] == "Expired"


async def test_the_lease_counts_from_ready(make_world: Any) -> None:
    async with make_world(FakeFleet(default="cold")) as world:
        await world.create("s", 5)
        world.clock.advance(minutes=30)
        assert (await world.show())["status"] == "Starting"
        await world.fleet.make_ready(world.fleet.key_of("s"))
        world.clock.advance(minutes=4)
        assert (await world.show())["elapsedTimeMinutes"] == 4


async def test_a_lease_of_nothing_expires_at_once(world: Any) -> None:
    assert (await world.create("s", 0)).status_code == 201
    assert (await world.until_status("Expired"))["elapsedTimeMinutes"] == 0


async def test_an_extension_moves_the_expiry(world: Any) -> None:
    await world.create("s", 1)
    await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": 3})
    world.clock.advance(minutes=2)
    assert (await world.show())["status"] == "Ready"
    world.clock.advance(minutes=1)
    await world.until_status("Expired")


async def test_a_lost_server_is_an_error(world: Any) -> None:
    await world.create()
    await world.fleet.lose(world.fleet.key_of("s"), "ServerDied", "It died.")
    session = await world.show()
    assert session["status"] == "Error"
    assert session["error"] == {"code": "ServerDied", "message": "It died."}
    assert "hostname" not in session
    assert (await world.call("POST", "/s/:stop")).status_code == 204
    assert (await world.show())["status"] == "Error"


async def test_a_fleet_that_fails_is_an_error(make_world: Any) -> None:
    async with make_world(FakeFleet(script=deque(["raise"]))) as world:
        assert (await world.create()).status_code == 201
        session = await world.show()
        assert session["status"] == "Error"
        assert session["error"]["code"] == "ServerStartFailed"


async def test_no_server_left(make_world: Any) -> None:
    async with make_world(servers={"standard": 1, "premium": 1}) as world:
        await world.create("one")
        refused = await world.create("two")
        assert refused.status_code == 201
        assert refused.json()["status"] == "Starting"
        session = await world.show("two")
        assert session["status"] == "Error"
        assert session["error"]["code"] == "NoServerAvailable"
        assert "servers.standard" in session["error"]["message"]
        await world.create("three", size="Premium")
        assert (await world.show("three"))["status"] == "Ready"
        await world.call("POST", "/one/:stop")
        await world.create("four")
        assert (await world.show("four"))["status"] == "Ready"


async def test_concurrent_creates_never_exceed_the_limit(make_world: Any) -> None:
    async with make_world(servers={"standard": 3}) as world:
        await asyncio.gather(*(world.create(f"s{i}") for i in range(12)))
        sessions = [await world.show(f"s{i}") for i in range(12)]
        assert sorted(s["status"] for s in sessions) == ["Error"] * 9 + ["Ready"] * 3


async def test_concurrent_creates_of_one_id_make_one_session(world: Any) -> None:
    responses = await asyncio.gather(*(world.create() for _ in range(8)))
    assert sorted(r.status_code for r in responses) == [200] * 7 + [201]
    assert len(world.fleet.assigned) == 1


async def test_list_pages(make_world: Any) -> None:
    async with make_world(servers={"standard": 200}) as world:
        names = [f"s{i:03d}" for i in range(105)]
        settings = SessionSettings(lease_minutes=60, size=SessionSize.STANDARD)
        for name in names:
            await world.service.sessions.create(world.account, name, settings)
            world.clock.advance(seconds=1)
        await world.call("POST", "/s000/:stop")
        seen: list[str] = []
        url, pages = world.path(), 0
        while url:
            response = await world.http.get(url, headers=world.headers)
            assert response.status_code == 200
            body = response.json()
            seen += [session["id"] for session in body["sessions"]]
            pages += 1
            url = body.get("@nextLink")
            assert ("@nextLink" in body) == (pages < 3)
            if url:
                parts = urlsplit(url)
                assert f"{parts.scheme}://{parts.netloc}" == world.http_url
                assert re.fullmatch(r"[A-Za-z0-9._~-]+", parse_qs(parts.query)["skiptoken"][0])
        assert seen == names[1:]
        assert pages == 3


async def test_a_bad_page_token(world: Any) -> None:
    for token in ("x", "1-2-3", "1-" + "9" * 30 + "-" + "0" * 36):
        response = await world.http.get(world.path() + f"&skiptoken={token}", headers=world.headers)
        assert response.status_code == 400


async def test_a_next_link_leads_back_the_way_the_caller_came(make_world: Any) -> None:
    async with make_world(servers={"standard": 60}, public_url="https://render.example.net") as world:
        for i in range(51):
            settings = SessionSettings(lease_minutes=60, size=SessionSize.STANDARD)
            await world.service.sessions.create(world.account, f"s{i}", settings)
        for host, expected in (
            ("other.example.net:81", "http://other.example.net:81"),
            ("render.example.net", "https://render.example.net"),
        ):
            response = await world.call("GET", headers={**world.headers, "Host": host})
            assert response.json()["@nextLink"].startswith(f"{expected}/accounts/")
        bad = await world.call("GET", headers={**world.headers, "Host": "bad host{}"})
        assert bad.status_code == 400


async def test_restart_adopts_starts_again_or_fails(make_world: Any) -> None:
    async with make_world(FakeFleet(script=deque(["warm", "warm", "cold"]))) as first:
        for name in ("lives", "gone"):
            await first.create(name)
        await first.create("starting", size="Premium")
        link = f"/fake/{first.fleet.key_of('lives')}.sock"
        # What kill -9 leaves behind: the books as they are, no word to anybody.
        async with make_world(FakeFleet(adoptable={link})) as second:
            assert (await second.show("lives"))["status"] == "Ready"
            assert (await second.show("starting"))["status"] == "Ready", "it was answered, so it gets a server"
            gone = await second.show("gone")
            assert gone["status"] == "Error"
            assert gone["error"]["code"] == "ServerLost"
            assert second.fleet.adopted == [(first.fleet.key_of("lives"), link)]
            assert [item.session_id for item in second.fleet.assigned] == ["starting"]
            assert link in second.fleet.kept


async def test_shutdown_stops_every_session(make_world: Any) -> None:
    async with make_world() as world:
        await world.create()
        key, fleet = world.fleet.key_of("s"), world.fleet
    assert fleet.released == [(key, "SessionStopped")]
    assert fleet.stopped
    async with make_world() as again:
        assert (await again.show())["status"] == "Stopped"


async def test_a_token_for_one_session(world: Any) -> None:
    await world.create("mine")
    await world.create("other")
    headers = world.bearer(role=Role.CLIENT, session="mine")
    assert (await world.call("GET", "/mine", headers=headers)).status_code == 200
    for method, rest in (("GET", "/other"), ("GET", ""), ("PUT", "/mine"), ("POST", "/other/:stop")):
        response = await world.call(method, rest, headers=headers)
        assert response.status_code == 403
        assert response.content == b""
    assert (await world.call("POST", "/mine/:stop", headers=headers)).status_code == 204


async def test_both_versions_and_any_letter_case(world: Any) -> None:
    await world.create("S1")
    for version in ("2021-01-01", "2021-01-01-preview"):
        path = f"/Accounts/{world.account.upper()}/SESSIONS/S1?API-Version={version}"
        response = await world.http.get(path, headers=world.headers)
        assert response.status_code == 200
    assert (await world.call("GET", "/s1")).status_code == 404, "ids are case-sensitive"
    stop = await world.http.post(f"/ACCOUNTS/{world.account}/Sessions/S1/:STOP?api-version=2021-01-01",
                                 headers=world.headers)  # fmt: skip
    assert stop.status_code == 204


@pytest.mark.parametrize(
    ("version", "code"), [(None, "ApiVersionUnspecified"), ("2020-01-01", "UnsupportedApiVersion")]
)
async def test_api_version(world: Any, version: str | None, code: str) -> None:
    response = await world.http.get(world.path("/s", version), headers=world.headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    # Strangers do not even learn that.
    assert (await world.http.get(world.path("/s", version))).status_code == 401


@pytest.mark.parametrize(
    "raw", ["a%20b%2Fc", "a.b", "a%00", "%2e%2e", "a+b", "ä", "x" * 257, "a%0A", "%FF", "a:b", "%25"]
)
async def test_ids_are_checked_on_the_raw_path(world: Any, raw: str) -> None:
    url = f"{world.http_url}{world.path('/' + raw)}"
    for method in ("PUT", "GET", "PATCH"):
        response = await world.http.request(
            method, httpx.URL(url), headers=world.headers, content=b'{"maxLeaseTimeMinutes":5,"size":"Standard"}'
        )
        assert response.status_code == 400, (method, raw)
        assert response.json()["error"]["code"] == "BadRequest"
        assert response.headers["api-supported-versions"]
    stop = await world.http.post(f"{world.http_url}{world.path('/' + raw + '/:stop')}", headers=world.headers)
    assert stop.status_code == 400


async def test_the_longest_id(world: Any) -> None:
    name = "A" * 200 + "-_9" + "z" * 53
    assert len(name) == 256
    assert (await world.create(name)).status_code == 201
    assert (await world.show(name))["id"] == name


async def test_encoded_letters_mean_the_same(world: Any) -> None:
    await world.create("abc")
    assert (await world.call("GET", "/%61bc")).status_code == 200
    assert (await world.call("POST", "/abc/%3Astop")).status_code == 204


async def test_a_full_disk_is_told_and_nothing_stays_half_made(world: Any) -> None:
    await world.create("before")
    writer = world.store.sessions._direct._writer
    # SQLite's own limit of pages fails as a disk without room does: room for one more page is soon used.
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    free = writer.execute("PRAGMA freelist_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 1}")
    for number in range(1000 + 100 * free):
        response = await world.create(f"s{number}")
        if response.status_code != 201:
            break
    assert response.status_code == 507
    assert response.json()["error"]["code"] == "InsufficientStorage"
    assert "make room" in response.json()["error"]["message"]
    assert (await world.call("GET", f"/s{number}")).status_code == 404
    assert (await world.show("before"))["status"] == "Ready"
    writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert (await world.create(f"s{number}")).status_code == 201
