"""The stream's WebSocket through the service, against a small WebSocket server in a render server's place."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from farframe.auth.certificates import client_ssl_context, server_ssl_context
from farframe.auth.tokens import Role
from farframe.fleet.fake import FakeFleet
from farframe.protocol import socket_stream
from farframe.service import stream_relay

PATIENCE_SECONDS = 60.0


@dataclass
class RenderServer:
    """Takes sockets as a render server does, says back what it hears, and remembers who came."""

    sockets: list[ServerConnection] = field(default_factory=list)
    heard: list[str | bytes] = field(default_factory=list)
    ended: list[int | None] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in socket:
                await self.reading.wait()
                self.heard.append(message)
                await socket.send(message)
        self.ended.append(socket.close_code)


@dataclass
class Relay:
    world: Any
    server: RenderServer
    tls: ssl.SSLContext

    def url(self, session: str = "s", secure: bool = True) -> str:
        base = self.world.endpoint if secure else self.world.http_url
        return f"ws{base.removeprefix('http')}/accounts/{self.world.account}/sessions/{session}/stream"

    def open(self, token: str | None = None, session: str = "s", secure: bool = True, **options: Any) -> connect:
        names = socket_stream.subprotocols(self.world.token() if token is None else token)
        return connect(
            self.url(session, secure),
            subprotocols=names,
            ssl=self.tls if secure else None,
            proxy=None,
            compression=None,
            **options,
        )


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def relayed(make_world: Any, certificates: Any, **settings: Any) -> AsyncIterator[Relay]:
    server = RenderServer()
    server.reading.set()
    async with serve(
        server,
        "127.0.0.1",
        0,
        ssl=server_ssl_context(certificates),
        subprotocols=[socket_stream.SUBPROTOCOL],
        compression=None,
    ) as listening:
        fleet = FakeFleet()
        port = listening.sockets[0].getsockname()[1]
        fleet.template = replace(fleet.template, relay_url=f"https://127.0.0.1:{port}")
        async with make_world(fleet, **settings) as world:
            await world.create()
            yield Relay(world, server, client_ssl_context(certificates.ca))


async def refusal(socket: ClientConnection) -> tuple[str, int]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        message = json.loads(await socket.recv())
        await socket.wait_closed()
    assert message["method"] == "session.ending"
    assert message["params"]["message"]
    return message["params"]["reason"], socket.close_code or 0


@pytest.mark.parametrize("secure", [True, False])
async def test_messages_go_both_ways(make_world: Any, certificates: Any, secure: bool) -> None:
    async with relayed(make_world, certificates) as relay, relay.open(secure=secure) as socket:
        assert socket.subprotocol == "farframe.1"
        assert socket.response is not None and socket.response.headers["ms-cv"]
        large = bytes(range(256)) * 4000
        async with asyncio.timeout(PATIENCE_SECONDS):
            for message in ("hello", large, b"\1pose"):
                await socket.send(message)
                assert await socket.recv() == message
        asked = relay.server.sockets[0].request
        assert asked is not None and asked.path == "/stream"
        assert socket_stream.token_of(asked.headers["sec-websocket-protocol"].split(", "))
        assert "cookie" not in asked.headers and "authorization" not in asked.headers
        assert relay.world.service.stream_relays.open == 1


async def test_both_sides_end_together(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as relay:
        async with relay.open() as socket:
            await eventually(lambda: len(relay.server.sockets) == 1)
        await eventually(lambda: relay.server.ended == [1000])
        async with relay.open() as socket:
            await eventually(lambda: len(relay.server.sockets) == 2)
            await relay.server.sockets[1].close(4409, "")
            async with asyncio.timeout(PATIENCE_SECONDS):
                await socket.wait_closed()
            assert socket.close_code == 4409
        async with relay.open() as socket:
            await eventually(lambda: len(relay.server.sockets) == 3)
            socket.transport.abort()
            await eventually(lambda: len(relay.server.ended) == 3)
        async with relay.open() as socket:
            await eventually(lambda: len(relay.server.sockets) == 4)
            relay.server.sockets[3].transport.abort()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await socket.wait_closed()
        await eventually(lambda: relay.world.service.stream_relays.open == 0)


async def test_who_may_not_hears_why_and_reaches_nothing(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as relay:
        world = relay.world
        await world.create("other")
        other_session = world.token(Role.CLIENT, session="other")
        for token, reason in (
            ("nonsense", ("AuthenticationFailed", 4401)),
            (world.token(account="00000000-0000-4000-8000-000000000001"), ("AuthenticationFailed", 4403)),
            (other_session, ("AuthenticationFailed", 4403)),
        ):
            async with relay.open(token) as socket:
                assert await refusal(socket) == reason
        async with relay.open(session="missing") as socket:
            assert await refusal(socket) == ("SessionNotReady", 4404)
        await world.call("POST", "/s/:stop")
        async with relay.open() as socket:
            assert await refusal(socket) == ("SessionNotReady", 4409)
        assert relay.server.sockets == []


async def test_a_server_that_is_gone(make_world: Any, certificates: Any) -> None:
    fleet = FakeFleet()
    fleet.template = replace(fleet.template, relay_url="https://127.0.0.1:9")
    async with make_world(fleet) as world:
        await world.create()
        relay = Relay(world, RenderServer(), client_ssl_context(certificates.ca))
        async with relay.open() as socket:
            assert await refusal(socket) == ("Fail", 4502)
        await eventually(lambda: world.service.stream_relays.open == 0)


async def test_pages_of_other_sites_are_refused(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates, cors_origins=["https://allowed.example"]) as relay:
        async with relay.open(origin="https://evil.example") as socket:
            assert (await refusal(socket))[1] == 4403
        assert relay.server.sockets == []
        async with relay.open(origin="https://allowed.example"):
            await eventually(lambda: len(relay.server.sockets) == 1)
        async with relay.open(origin=relay.world.http_url, secure=False):
            await eventually(lambda: len(relay.server.sockets) == 2)


async def test_a_plain_request_is_told_what_is_spoken_here(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as relay:
        world = relay.world
        path = f"/accounts/{world.account}/sessions/s/stream"
        answer = await world.http.get(path, headers=world.headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (426, "UpgradeRequired")
        assert (await world.http.get(path)).status_code == 401


def upgrade(path: str, **changes: str) -> bytes:
    headers = {
        "Host": "x",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Sec_WebSocket_Protocol": ""}, b"401"),
        ({"Sec_WebSocket_Protocol": "chat, farframe.bearer.TOKEN"}, b"401"),
        ({"Sec_WebSocket_Version": "12"}, b"400"),
        ({"Sec_WebSocket_Key": "short"}, b"400"),
        ({"Sec_WebSocket_Key": ""}, b"400"),
    ],
)
async def test_upgrades_of_other_kinds(
    make_world: Any, certificates: Any, changes: dict[str, str], status: bytes
) -> None:
    async with relayed(make_world, certificates) as relay:
        token = relay.world.token()
        wanted = {"Sec_WebSocket_Protocol": "farframe.1, farframe.bearer.TOKEN"} | changes
        wanted = {name: value.replace("TOKEN", token) for name, value in wanted.items()}
        path = f"/accounts/{relay.world.account}/sessions/s/stream"
        port = int(relay.world.http_url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(upgrade(path, **wanted))
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] == status
        assert b"ms-cv" in answer or status == b"400"
        assert relay.server.sockets == []


async def test_other_addresses_answer_upgrades_as_they_answer_requests(world: Any) -> None:
    port = int(world.http_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(upgrade("/nothing/here"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"NotFound"' in answer


async def test_nothing_is_smuggled_past_the_answer(make_world: Any, certificates: Any) -> None:
    """Bytes right behind the upgrade's head reach no render server as a request."""
    async with relayed(make_world, certificates) as relay:
        names = "farframe.1, farframe.bearer." + relay.world.token()
        path = f"/accounts/{relay.world.account}/sessions/s/stream"
        port = int(relay.world.http_url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(upgrade(path, Sec_WebSocket_Protocol=names) + b"DELETE /whep/x HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: relay.world.service.stream_relays.open == 0)
        assert relay.server.heard == []
        assert all(socket.request.path == "/stream" for socket in relay.server.sockets if socket.request)


async def test_a_side_that_does_not_read_holds_the_other_back(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as relay, relay.open(write_limit=1 << 16) as socket:
        relay.server.reading.clear()
        chunk = bytes(200_000)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await socket.send(chunk)
                sent += 1

        task = asyncio.create_task(flood())
        # Held back is what stands still for many looks in a row: a machine that is busy elsewhere stands still for one.
        before, looks = 0, 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while looks < 10 or sent == 0:
                looks = looks + 1 if sent == before else 0
                before = sent
                await asyncio.sleep(0.1)
        # What is under way lies in the kernels' buffers and in bounded ones: far less than a flood without end.
        assert 0 < sent * len(chunk) < 40_000_000
        relay.server.reading.set()
        heard = asyncio.create_task(drain(socket))
        await eventually(lambda: sent > before)
        task.cancel()
        heard.cancel()
        await asyncio.gather(task, heard, return_exceptions=True)


async def drain(socket: ClientConnection) -> None:
    async for _ in socket:
        pass


async def test_no_more_streams_than_the_limit(make_world: Any, certificates: Any) -> None:
    async with relayed(make_world, certificates) as relay:
        relay.world.service.stream_relays._per_account = 1
        async with relay.open():
            await eventually(lambda: len(relay.server.sockets) == 1)
            async with relay.open() as second:
                assert (await refusal(second))[1] == 4429
        await eventually(lambda: relay.world.service.stream_relays.open == 0)
        async with relay.open():
            await eventually(lambda: len(relay.server.sockets) == 2)


async def test_a_silent_device_is_let_go(make_world: Any, certificates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_relay, "IDLE_SECONDS", 0.2)
    async with relayed(make_world, certificates) as relay, relay.open() as socket:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await socket.wait_closed()
        await eventually(lambda: len(relay.server.ended) == 1)
