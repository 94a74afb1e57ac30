"""``/stream`` of the handshake listener: who is let in, what is refused and how, what hostile peers can do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
import websockets
from websockets.asyncio.client import ClientConnection, connect

from farframe.protocol import socket_stream
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.socket_stream import MAX_DEVICE_MESSAGE_BYTES, Acknowledgement
from farframe.server.web import BoundedWebSocket, handshake_app
from farframe.stream.device import Device, DeviceHandler
from farframe.stream.encoder import EncodedFrame
from farframe.stream.websocket import limit_unsent

TOKEN = "a.b.c"
PATIENCE_SECONDS = 60.0


@dataclass
class Handshakes:
    """A server process that takes one device, and remembers what it does."""

    device: Device | None = None
    controls: list[str] = field(default_factory=list)
    poses: list[bytes] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    connected: bool = False

    def authorize(self, authorization: str, *_: object) -> Any:
        if authorization != f"Bearer {TOKEN}":
            raise FarframeError(Result.AUTHENTICATION_FAILED, "The token is wrong.")

    async def connect(self, offer_sdp: str, *_: object) -> tuple[str, str]:
        raise AssertionError("nobody offers here")

    async def disconnect(self, resource_id: str) -> None:
        raise AssertionError("nobody deletes here")

    async def attach(self, make_device: Callable[[DeviceHandler, int], Device], *_: object) -> None:
        if self.device is not None:
            raise FarframeError(Result.OTHER_SESSION_CONNECTED, "Another device is connected.")
        self.device = make_device(self, 8_000_000)

    def on_control(self, text: str) -> None:
        self.controls.append(text)

    def on_pose(self, data: bytes) -> None:
        self.poses.append(data)

    def on_connected(self) -> None:
        self.connected = True

    def on_keyframe_request(self) -> None:
        pass

    def on_bitrate(self, bits_per_second: int) -> None:
        pass

    def on_closed(self, reason: str) -> None:
        self.closed.append(reason)


@dataclass
class Server:
    handshakes: Handshakes
    url: str
    port: int


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    handshakes = Handshakes()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    limit_unsent(listener)
    config = uvicorn.Config(
        handshake_app(handshakes),
        ws=BoundedWebSocket,
        ws_max_size=MAX_DEVICE_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    web = uvicorn.Server(config)
    web.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(web.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    await eventually(lambda: web.started)
    yield Server(handshakes, f"ws://127.0.0.1:{port}/stream", port)
    if handshakes.device is not None:
        await handshakes.device.close()
    web.should_exit = True
    web.force_exit = True
    await task
    listener.close()


Open = Callable[..., Awaitable[ClientConnection]]


@pytest.fixture
async def open_socket(server: Server) -> AsyncIterator[Open]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(token: str = TOKEN, **options: Any) -> ClientConnection:
            names = socket_stream.subprotocols(token) if token else [socket_stream.SUBPROTOCOL]
            return await stack.enter_async_context(
                connect(server.url, subprotocols=names, compression=None, proxy=None, **options)
            )

        yield make


async def refusal(opened: ClientConnection) -> tuple[str, int]:
    """The reason that was told, and the code that the socket was closed with."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        message = json.loads(await opened.recv())
        await opened.wait_closed()
    assert message["method"] == "session.ending"
    assert message["params"]["message"]
    return message["params"]["reason"], opened.close_code or 0


async def test_a_device_streams(server: Server, open_socket: Open) -> None:
    opened = await open_socket()
    assert opened.subprotocol == "farframe.1"
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert json.loads(await opened.recv())["method"] == "connection.attached"
    handshakes = server.handshakes
    await eventually(lambda: handshakes.connected)
    assert handshakes.device is not None and handshakes.device.way == "websocket"
    await opened.send("hello")
    await opened.send(b"\1pose")
    await eventually(lambda: handshakes.poses == [b"\1pose"] and handshakes.controls == ["hello"])
    handshakes.device.send_control("answer")
    handshakes.device.send_frame_record(b"\2record")
    handshakes.device.send_video(EncodedFrame(b"picture", 3000, True, 0.0, 0.0))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [await opened.recv(), await opened.recv()] == ["answer", b"\2record"]
        picture = socket_stream.decode_picture(await opened.recv())
    assert (picture.number, picture.rtp_timestamp, picture.keyframe, picture.data) == (1, 3000, True, b"picture")
    await opened.send(socket_stream.encode_acknowledgement(Acknowledgement(1, 5)))
    await eventually(lambda: handshakes.device.statistics.round_trip_seconds is not None)
    await opened.close()
    await eventually(lambda: handshakes.closed == [Result.DISCONNECT_REQUEST])


@pytest.mark.parametrize("token", ["", "wrong", "a.b.c.d"])
async def test_without_the_token_nothing_is_attached(server: Server, open_socket: Open, token: str) -> None:
    assert await refusal(await open_socket(token)) == ("AuthenticationFailed", 4401)
    assert server.handshakes.device is None


async def test_the_second_device_is_refused(server: Server, open_socket: Open) -> None:
    await open_socket()
    await eventually(lambda: server.handshakes.connected)
    assert await refusal(await open_socket()) == ("OtherSessionConnected", 4409)
    assert server.handshakes.closed == []


@pytest.mark.parametrize("names", [None, ["chat"]])
async def test_other_protocols_are_refused_before_the_upgrade(server: Server, names: list[str] | None) -> None:
    with pytest.raises(websockets.InvalidStatus):
        async with connect(server.url, subprotocols=names, proxy=None):
            pass
    assert server.handshakes.device is None


async def test_a_lost_connection_is_told_from_one_that_was_closed(server: Server, open_socket: Open) -> None:
    opened = await open_socket()
    await eventually(lambda: server.handshakes.connected)
    opened.transport.abort()
    await eventually(lambda: server.handshakes.closed == [Result.CONNECTION_LOST])


async def test_the_end_says_why(server: Server, open_socket: Open) -> None:
    opened = await open_socket()
    await eventually(lambda: server.handshakes.connected)
    assert server.handshakes.device is not None
    server.handshakes.device.send_control("why")
    await server.handshakes.device.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await opened.recv()
        assert await opened.recv() == "why"
        await opened.wait_closed()
    assert opened.close_code == 1000


@pytest.mark.parametrize("message", [b"\xf9what", b"\xf1", b"\xf0" + bytes(40), b""])
async def test_garbage_ends_it(server: Server, open_socket: Open, message: bytes) -> None:
    opened = await open_socket()
    await eventually(lambda: server.handshakes.connected)
    await opened.send(message)
    await eventually(lambda: server.handshakes.closed == [Result.PROTOCOL_ERROR])


async def test_messages_that_are_too_large_end_it(server: Server, open_socket: Open) -> None:
    opened = await open_socket()
    await eventually(lambda: server.handshakes.connected)
    with contextlib.suppress(websockets.ConnectionClosed):
        await opened.send("x" * (MAX_DEVICE_MESSAGE_BYTES + 1))
    await eventually(lambda: len(server.handshakes.closed) == 1)
    assert server.handshakes.controls == []
    await opened.wait_closed()
    assert opened.close_code == 1009


async def test_messages_in_endless_pieces_end_it(server: Server, open_socket: Open) -> None:
    opened = await open_socket()
    await eventually(lambda: server.handshakes.connected)

    async def pieces() -> AsyncIterator[str]:
        while True:
            yield "x" * 16384

    with contextlib.suppress(websockets.ConnectionClosed):
        await opened.send(pieces())
    await eventually(lambda: len(server.handshakes.closed) == 1)
    assert server.handshakes.controls == []


async def test_unmasked_frames_end_it(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: farframe.1, farframe.bearer.a.b.c\r\n\r\n"
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head
        assert b"a.b.c" not in head
        writer.write(b"\x81\x05hello")
        await reader.read()
    writer.close()
    await eventually(lambda: len(server.handshakes.closed) == 1)
    assert server.handshakes.controls == []


async def test_pings_of_a_peer_that_does_not_read_do_not_pile_up(server: Server, open_socket: Open) -> None:
    opened = await open_socket()
    await eventually(lambda: server.handshakes.connected)
    opened.transport.pause_reading()
    masked_ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
    async with asyncio.timeout(60):
        while not server.handshakes.closed:
            opened.transport.write(masked_ping * 500)
            await asyncio.sleep(0)
            if opened.transport.get_write_buffer_size() > 1 << 20:
                await asyncio.sleep(0.01)
    assert server.handshakes.closed == [Result.CONNECTION_LOST]
