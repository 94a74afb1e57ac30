"""Rows of the wire contract that no other test holds: what the official scripts and the other SDKs send, byte by byte.

The requests are raw: they stand for clients that do not run here (PowerShell scripts, .NET, Java, JavaScript).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.service.test_contract import JSON, SUPPORTED, cached, check_common
from tests.service.test_conversions import HeldQueue, body, put

PREVIEW = "2021-01-01-preview"
READY = [
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
STOPPED = ["id", "creationTime", "elapsedTimeMinutes", "maxLeaseTimeMinutes", "size", "status", "teraflops"]
STARTING = ["id", "creationTime", "elapsedTimeMinutes", "maxLeaseTimeMinutes", "size", "status"]


async def test_a_whole_session_as_the_scripts_send_it(world: Any) -> None:
    # TLS 1.2, no api-version for the token, JSON content type on everything, lower-case sizes, the preview version.
    tls = ssl.create_default_context(cafile=str(world.ca))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    typed = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=world.endpoint, verify=tls, trust_env=False, timeout=60) as client:
        answer = await client.get(
            f"/accounts/{world.account}/token",
            headers={**typed, "Authorization": f"Bearer {world.account}:{world.key}"},
        )
        headers = {**typed, "Authorization": f"Bearer {answer.json()['AccessToken']}"}
        path = f"/accounts/{world.account}/sessions/script-1"
        query = f"?api-version={PREVIEW}"
        content = json.dumps({"maxLeaseTimeMinutes": 4, "size": "premium", "models": [], "extra": ""}, indent=4)
        created = await client.put(path + query, content=content, headers=headers)
        assert created.status_code == 201
        assert created.json()["size"] == "Premium"
        again = await client.put(path + query, content=content.replace("premium", "Premium"), headers=headers)
        assert again.status_code == 200, "a difference in case is no conflict"
        got = await client.get(path + query, headers=headers)
        assert (got.status_code, got.json()["status"]) == (200, "Ready")
        listed = await client.get(f"/accounts/{world.account}/sessions{query}", headers=headers)
        assert [session["id"] for session in listed.json()["sessions"]] == ["script-1"]
        longer = await client.patch(path + query, content='{"maxLeaseTimeMinutes": 5}', headers=headers)
        assert longer.json()["maxLeaseTimeMinutes"] == 5
        stopped = await client.post(f"{path}/:stop{query}", headers=headers)
        assert (stopped.status_code, stopped.content) == (204, b"")
        assert (await client.get(path + query, headers=headers)).json()["status"] == "Stopped"


@pytest.mark.parametrize("nothing", ["", None])
async def test_what_the_scripts_leave_open_is_null_or_empty(make_world: Any, nothing: str | None) -> None:
    async with make_world(linked_storage=("acct.blob.example.net",), conversion_queue=HeldQueue()) as world:
        content = body(
            in_storageContainerReadListSas=nothing,
            out_storageContainerWriteSas=nothing,
            in_blobPrefix=nothing,
            out_blobPrefix=nothing,
            out_outputAssetFilename=nothing,
        )
        assert (await put(world, "c", content)).status_code == 201
        # The create body of a session has no optional members: nothing there is a 400.
        empty = await world.call("PUT", "/s", json={"maxLeaseTimeMinutes": nothing, "size": "standard"})
        assert (empty.status_code, empty.json()["error"]["code"]) == (400, "BadRequest")


async def test_members_and_their_order_in_each_status(world: Any) -> None:
    created = await world.create()
    assert list(created.json()) == STARTING
    ready = await world.until_status("Ready")
    assert list(ready) == READY
    for name in ("arrInspectorPort", "handshakePort"):
        assert type(ready[name]) is int
        assert 49152 <= ready[name] <= 65534
    assert "/" not in ready["hostname"]
    assert ":" not in ready["hostname"]
    await world.call("POST", "/s/:stop")
    stopped = await world.show()
    assert list(stopped) == STOPPED
    for value in (created.json(), ready, stopped):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?\+00:00", value["creationTime"])
        assert datetime.fromisoformat(value["creationTime"]).utcoffset() is not None
    assert stopped["creationTime"] == ready["creationTime"]


async def test_expired_is_readable_and_not_listed(world: Any) -> None:
    await world.create(lease=3)
    await world.until_status("Ready")
    world.clock.advance(minutes=3)
    assert (await world.show())["status"] == "Expired"
    assert (await world.show())["elapsedTimeMinutes"] == 3
    assert (await world.call("GET")).text == '{"sessions":[]}', "@nextLink is absent on the last page"


async def test_ids_that_clients_send_are_not_echoed(world: Any) -> None:
    sent = {
        **world.headers,
        "x-ms-client-request-id": "11111111-2222-4333-8444-555555555555",
        "x-ms-return-client-request-id": "true",
        "X-MRC-CV": "AAAAAAAAAAAAAAAAAAAAAA",
    }
    await world.create()
    answer = await world.call("GET", "/s", headers=sent)
    check_common(answer, data_plane=True)
    assert "x-ms-client-request-id" not in answer.headers
    assert not answer.headers["ms-cv"].startswith("AAAA")
    for name in ("location", "operation-location", "azure-asyncoperation"):
        assert name not in answer.headers


async def test_accept_and_empty_content_length(world: Any) -> None:
    await world.create()
    stopped = await world.call("POST", "/s/:stop", headers={**world.headers, "Accept": "*/*", "Content-Length": "0"})
    assert stopped.status_code == 204
    assert "content-length" not in stopped.headers
    assert "content-type" not in stopped.headers
    assert stopped.headers["api-supported-versions"] == SUPPORTED
    plain = await world.call("GET", "/s", headers={**world.headers, "Accept": "text/plain"})
    assert plain.headers["content-type"] == JSON


async def test_a_stop_is_a_segment_of_its_own(world: Any) -> None:
    await world.create()
    wrong = await world.call("POST", "/s:stop")
    assert wrong.status_code in (404, 405)
    assert (await world.show())["status"] == "Ready"
    encoded = await world.call("POST", "/s/%3Astop")
    assert encoded.status_code == 204


async def test_page_links_survive_every_client(make_world: Any) -> None:
    # aiohttp rewrites percent-encoding, Python's SDK expands URL templates: neither may find anything to touch.
    async with make_world(servers={"standard": 60}, conversion_queue=HeldQueue(), quota_conversions=-1) as world:
        for index in range(51):
            await world.create(f"s{index}")
            await put(world, f"c{index}")
        for kind in ("sessions", "conversions"):
            page = (await world.http.get(world.path(kind=kind, version=PREVIEW), headers=world.headers)).json()
            link = page["@nextLink"]
            assert len(page[kind]) == 50
            path, _, query = link.partition("?")
            assert path == f"{world.http_url}/accounts/{world.account}/{kind}"
            assert re.fullmatch(r"api-version=2021-01-01-preview&skiptoken=[A-Za-z0-9._~-]+", query)
            last = await world.http.get(link, headers=world.headers)
            assert len(last.json()[kind]) == 1
            assert ("@nextLink" in last.json()) == (kind == "conversions")
            assert (await world.http.get(link)).status_code == 401, "the link needs the bearer token"


async def test_a_token_is_read_with_the_standard_alphabet(world: Any) -> None:
    for _ in range(20):
        answer = await world.http.get(
            f"/Accounts/{world.account}/token", headers={"Authorization": f"Bearer {world.account}:{world.key}"}
        )
        assert not cached(answer)
        header, payload, _ = answer.json()["AccessToken"].split(".")
        claims = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True))
        assert claims["exp"] - world.clock.now() / 1e6 > 23 * 3600
        assert json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["alg"] == "RS256"


async def test_repeated_puts_side_by_side(make_world: Any) -> None:
    async with make_world(servers={"standard": 4}) as world:
        answers = await asyncio.gather(*(world.create("same") for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
        assert len((await world.call("GET")).json()["sessions"]) == 1


async def test_there_is_no_delete_and_no_cancel(world: Any) -> None:
    await world.create()
    await put(world)
    for method, path in (
        ("DELETE", world.path("/s")),
        ("DELETE", world.path("/c", kind="conversions")),
        ("PATCH", world.path("/c", kind="conversions")),
        ("POST", world.path("/c/:stop", kind="conversions")),
        ("POST", world.path("/c/:cancel", kind="conversions")),
    ):
        answer = await world.http.request(method, path, headers=world.headers)
        assert answer.status_code in (404, 405)
        assert answer.headers["content-type"] == JSON


async def test_a_body_too_large_is_labelled_as_json(world: Any) -> None:
    content = body(in_storageContainerReadListSas="s" * 70_000)
    answer = await put(world, content=content)
    assert answer.status_code == 413
    check_common(answer, data_plane=True)
