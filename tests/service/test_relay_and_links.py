"""The handshake relay against a small WHEP server of its own, one-time links and inspector links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from farframe.auth.certificates import ensure_certificates, server_ssl_context
from farframe.auth.tokens import Role
from farframe.fleet.fake import FakeFleet
from farframe.service.listeners import Listener, bind


@dataclass
class WhepServer:
    """Answers like a render server and remembers what it was asked."""

    calls: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 201
    headers: list[tuple[bytes, bytes]] = field(
        default_factory=lambda: [(b"content-type", b"application/sdp"), (b"location", b"/whep/abc123")]
    )
    body: bytes = b"v=0 answer"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        path = scope["path"] + (f"?{query}" if query else "")
        self.calls.append((scope["method"], path, headers, body))
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


@asynccontextmanager
async def relayed(make_world: Any, certificates: Any) -> AsyncIterator[tuple[Any, WhepServer]]:
    server = WhepServer()
    listener = Listener(server, bind("127.0.0.1", 0, ""), server_ssl_context(certificates))
    await listener.start()
    fleet = FakeFleet()
    fleet.template = replace(fleet.template, relay_url=f"https://127.0.0.1:{listener.port}")
    try:
        async with make_world(fleet) as world:
            yield world, server
    finally:
        await listener.stop()


def whep(world: Any, rest: str = "", session: str = "s") -> str:
    return f"/accounts/{world.account}/sessions/{session}/whep{rest}"


async def test_an_offer_and_its_end(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as (world, server):
        await world.create()
        headers = {**world.headers, "Content-Type": "application/sdp"}
        answer = await world.http.post(whep(world), content=b"v=0 offer", headers=headers)
        assert answer.status_code == 201
        assert answer.content == b"v=0 answer"
        assert answer.headers["content-type"] == "application/sdp"
        assert answer.headers["location"] == whep(world, "/abc123")
        assert answer.headers["ms-cv"]
        method, path, seen, body = server.calls[0]
        assert (method, path, body) == ("POST", "/whep", b"v=0 offer")
        assert seen["authorization"] == headers["Authorization"]
        assert seen["content-type"] == "application/sdp"
        server.status, server.headers, server.body = 200, [], b""
        end = await world.http.delete(answer.headers["location"], headers=world.headers)
        assert end.status_code == 200
        assert server.calls[1][:2] == ("DELETE", "/whep/abc123")


@pytest.mark.parametrize("location", [b"https://render7.example:50051/whep/abc123", b"abc123", b"/whep/abc123/"])
async def test_any_form_of_location(make_world: Any, certificates: Any, location: bytes) -> None:
    async with relayed(make_world, certificates) as (world, server):
        await world.create()
        server.headers = [(b"location", location)]
        answer = await world.http.post(whep(world), content=b"o", headers=world.headers)
        assert answer.headers["location"] == whep(world, "/abc123")


async def test_wishes_go_along_and_a_secret_stays_out_of_the_address(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as (world, server):
        await world.create()
        headers = {**world.headers, "Content-Type": "application/sdp", "Farframe-Resume": "s3cret"}
        await world.http.post(whep(world) + "?watch&x=1", content=b"o", headers=headers)
        method, path, seen, _ = server.calls[0]
        assert (method, path) == ("POST", "/whep?watch")
        assert seen["farframe-resume"] == "s3cret"
        server.status, server.headers, server.body = 200, [], b""
        assert (await world.http.delete(whep(world), headers=world.headers)).status_code == 200
        assert server.calls[1][:2] == ("DELETE", "/whep")


async def test_refusals_of_the_server_come_through(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as (world, server):
        await world.create()
        server.status = 409
        server.headers = [(b"content-type", b"application/json; charset=utf-8"), (b"set-cookie", b"a=b")]
        server.body = b'{"error":{"code":"OtherSessionConnected","message":"Another device is connected."}}'
        answer = await world.http.post(whep(world), content=b"o", headers=world.headers)
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "OtherSessionConnected"
        assert "set-cookie" not in answer.headers


async def test_sessions_that_are_not_ready(make_world: Any) -> None:
    async with make_world(FakeFleet(default="cold")) as world:
        missing = await world.http.post(whep(world), content=b"o", headers=world.headers)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "SessionNotFound")
        await world.create()
        starting = await world.http.post(whep(world), content=b"o", headers=world.headers)
        assert (starting.status_code, starting.json()["error"]["code"]) == (409, "SessionNotReady")
        assert "Wait" in starting.json()["error"]["message"]
        await world.call("POST", "/s/:stop")
        for response in (
            await world.http.post(whep(world), content=b"o", headers=world.headers),
            await world.http.delete(whep(world, "/x"), headers=world.headers),
            await world.http.post(f"/accounts/{world.account}/sessions/s/inspector-link", headers=world.headers),
        ):
            assert (response.status_code, response.json()["error"]["code"]) == (409, "SessionNotReady")
            assert "Stopped" in response.json()["error"]["message"]


async def test_a_server_that_does_not_answer(make_world: Any, certificates: Any, tmp_path: Any) -> None:
    async with relayed(make_world, certificates) as (world, _server):
        await world.create()
        # Taken, so that nobody else answers there, and not listened on.
        deaf = bind("127.0.0.1", 0, "")
        port = deaf.getsockname()[1]
        stranger = ensure_certificates(tmp_path / "stranger", [])
        listener = Listener(WhepServer(), bind("127.0.0.1", 0, ""), server_ssl_context(stranger))
        await listener.start()
        key = world.fleet.key_of("s")
        for relay_port in (port, listener.port):
            world.fleet._living[key] = replace(world.fleet.facts(key), relay_url=f"https://127.0.0.1:{relay_port}")
            answer = await world.http.post(whep(world), content=b"o", headers=world.headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "RenderServerUnreachable")
        await listener.stop()
        deaf.close()


async def test_who_may_connect(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as (world, server):
        await world.create()
        await world.create("other")
        assert (await world.http.post(whep(world), content=b"o")).status_code == 401
        mine = world.bearer(role=Role.CLIENT, session="s")
        assert (await world.http.post(whep(world), content=b"o", headers=mine)).status_code == 201
        assert (await world.http.post(whep(world, session="other"), content=b"o", headers=mine)).status_code == 403
        huge = await world.http.post(whep(world), content=b"o" * 70_000, headers=world.headers)
        assert huge.status_code == 413
        strange = await world.http.delete(whep(world, "/a%2F..%2Fb"), headers=world.headers)
        assert strange.status_code == 400
        options = await world.http.request("OPTIONS", whep(world))
        assert options.status_code == 204
        assert options.headers["accept-post"] == "application/sdp"
        assert len(server.calls) == 1


async def redeem(world: Any, code: str) -> Any:
    return await world.http.post("/viewer-links/redeem", json={"code": code})


async def make_link(world: Any, **body: Any) -> Any:
    return await world.http.post(f"/accounts/{world.account}/viewer-links", json=body, headers=world.headers)


async def test_a_link_works_once(world: Any) -> None:
    made = await make_link(world)
    assert made.status_code == 201
    url = urlsplit(made.json()["url"])
    assert f"{url.scheme}://{url.netloc}" == world.http_url
    assert url.path == "/viewer/"
    assert url.query == "", "what is in the fragment never reaches a server's log"
    code = url.fragment.removeprefix("link=")
    answer = await redeem(world, code)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"accessToken", "accountId", "expiresAt", "endpoint"}
    assert (body["accountId"], body["endpoint"]) == (world.account, world.http_url)
    token = {"Authorization": f"Bearer {body['accessToken']}"}
    assert (await world.call("GET", headers=token)).status_code == 200
    again = await redeem(world, code)
    assert (again.status_code, again.json()["error"]["code"]) == (410, "LinkUsed")
    assert "used already" in again.json()["error"]["message"]
    # The token is no administrator's: it cannot prolong itself by links.
    more = await world.http.post(f"/accounts/{world.account}/viewer-links", headers=token)
    assert (more.status_code, more.json()["error"]["code"]) == (403, "Forbidden")
    world.clock.advance(minutes=60)
    assert (await world.call("GET", headers=token)).status_code == 401


async def test_a_link_to_the_console_is_for_the_whole_account(world: Any) -> None:
    made = await make_link(world, page="console")
    assert made.status_code == 201
    url = urlsplit(made.json()["url"])
    assert (url.path, url.query) == ("/", "")
    body = (await redeem(world, url.fragment.removeprefix("link="))).json()
    assert (body.get("role", "Client"), "sessionId" in body) == ("Client", False)
    await world.create()
    for wrong in ({"page": "console", "sessionId": "s"}, {"page": "console", "role": "Viewer"}, {"page": "inspector"}):
        refused = await make_link(world, **wrong)
        assert refused.status_code == 400, wrong


async def test_a_link_for_one_session(world: Any) -> None:
    unknown = await make_link(world, sessionId="nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "SessionNotFound")
    await world.create()
    made = await make_link(world, sessionId="s")
    body = (await redeem(world, made.json()["url"].split("link=")[1])).json()
    assert body["sessionId"] == "s"
    token = {"Authorization": f"Bearer {body['accessToken']}"}
    assert (await world.call("GET", "/s", headers=token)).status_code == 200
    assert (await world.call("GET", headers=token)).status_code == 403


async def test_links_over_https_lead_back_over_https_only_for_others(make_world: Any) -> None:
    async with make_world(public_url="https://render.example.net") as world:
        made = await world.https.post(
            f"/accounts/{world.account}/viewer-links", headers={**world.headers, "Host": "render.example.net"}
        )
        assert made.json()["url"].startswith("https://render.example.net/viewer/#link=")


async def test_a_link_expires(world: Any) -> None:
    code = (await make_link(world)).json()["url"].split("link=")[1]
    world.clock.advance(minutes=10)
    answer = await redeem(world, code)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "LinkExpired")


async def test_only_a_digest_is_kept(world: Any) -> None:
    code = (await make_link(world)).json()["url"].split("link=")[1]
    for file in world.folder.glob("farframe.db*"):
        assert code.encode() not in file.read_bytes()


async def test_many_failures_have_to_wait(world: Any) -> None:
    code = (await make_link(world)).json()["url"].split("link=")[1]
    statuses = [(await redeem(world, f"wrong-{i}")).status_code for i in range(12)]
    assert statuses == [404] * 10 + [429] * 2
    limited = await redeem(world, code)
    assert limited.status_code == 429
    assert 1 <= int(limited.headers["retry-after"]) <= 60
    world.clock.advance(seconds=61)
    assert (await redeem(world, code)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"code":5}', b'{"code":""}', b'{"code":"\xc3\xa4"}'])
async def test_bad_redeem_bodies(world: Any, body: bytes) -> None:
    response = await world.http.post("/viewer-links/redeem", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "BadRequest"


async def test_inspector_link(world: Any) -> None:
    await world.create()
    short = world.service.issuer.issue(world.account, Role.CLIENT, session_id="s", lifetime_seconds=90)[0]
    response = await world.http.post(
        f"/accounts/{world.account}/sessions/s/inspector-link", headers={"Authorization": f"Bearer {short}"}
    )
    assert response.status_code == 201
    url = urlsplit(response.json()["url"])
    assert (url.scheme, url.netloc, url.path) == ("https", "localhost:50052", "/")
    token = {"Authorization": f"Bearer {url.fragment.removeprefix('token=')}"}
    assert (await world.call("GET", "/s", headers=token)).status_code == 200
    assert (await world.call("GET", headers=token)).status_code == 403
    world.clock.advance(seconds=90)
    assert (await world.call("GET", "/s", headers=token)).status_code == 401, "no longer than what it came from"


async def test_concurrent_redeems(world: Any) -> None:
    code = (await make_link(world)).json()["url"].split("link=")[1]
    statuses = await asyncio.gather(*(redeem(world, code) for _ in range(5)))
    assert sorted(answer.status_code for answer in statuses) == [200, 410, 410, 410, 410]
