"""The stream's WebSocket through this service, so that one HTTPS port is enough for a device.

    device ══ wss://service/accounts/A/sessions/S/stream ══ this service ══ wss://render-server/stream ══ render server

The upgrade is judged as the request that it is: it runs through the application like any other (credentials, limits,
audit, metrics), and its route says where the stream leads (:class:`StreamUpgrade`). From the render server's ``101`` on
bytes are passed on as they are, both ways, without a look at frames and messages: that costs no more than decrypting
and encrypting them. What one side does not take is not read from the other, so a relayed stream holds little more than
:data:`BUFFER_BYTES` a side; when one side ends, the other does.

Nothing that a device sends reaches the render server before its ``101``, so nothing can be smuggled past the route.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import msgspec
import structlog
import uvicorn
from litestar.types import Message as AsgiMessage
from litestar.types import Receive, Scope, Send
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.http11 import Request as SocketRequest
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from farframe.protocol import messages
from farframe.protocol.errors import Result
from farframe.protocol.socket_stream import CLOSE_CODE_BASE, SUBPROTOCOL, token_of
from farframe.wire.errors import TooManyRequests

log = structlog.get_logger("farframe.service")

BUFFER_BYTES = 64 * 1024
"""What a side may have unsent before the other is not read any more."""

MAX_HEAD_BYTES = 16 * 1024
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""For the render server to say 101."""

IDLE_SECONDS = 30.0
"""A device says something every second; one that is silent for so long is gone."""

MAX_STREAMS = 512
MAX_STREAMS_PER_ACCOUNT = 64
MAX_BODY_BYTES = 64 * 1024

UPGRADE = "farframe_upgrade"
"""Where a request's scope keeps its :class:`StreamUpgrade`, if it is one."""

_RESULTS = {
    401: Result.AUTHENTICATION_FAILED,
    403: Result.AUTHENTICATION_FAILED,
    404: Result.SESSION_NOT_READY,
    409: Result.SESSION_NOT_READY,
}


class StreamRelays:
    """Counts the streams that are relayed, of all and of each account."""

    def __init__(self, limit: int = MAX_STREAMS, per_account: int = MAX_STREAMS_PER_ACCOUNT) -> None:
        self._limit = limit
        self._per_account = per_account
        self._by_account: dict[str, int] = {}

    @property
    def open(self) -> int:
        """Streams that are relayed now."""
        return sum(self._by_account.values())

    def take(self, account_id: str) -> Callable[[], None]:
        """Count one more; the function gives it back. Raises :class:`TooManyRequests`."""
        mine = self._by_account.get(account_id, 0)
        if self.open >= self._limit or mine >= self._per_account:
            raise TooManyRequests(
                "Too many streams are relayed at once. Connect to the render server directly, or try again later.",
                retry_after_seconds=5,
            )
        self._by_account[account_id] = mine + 1
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if given_back:
                return
            given_back = True
            left = self._by_account[account_id] - 1
            if left:
                self._by_account[account_id] = left
            else:
                del self._by_account[account_id]

        return give_back


@dataclass(slots=True)
class StreamUpgrade:
    """A request that wants to become a WebSocket. The route that lets it sets all of these."""

    session_id: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """The name that the certificate must be for."""
    give_back: Callable[[], None] = lambda: None


def upgrade_of(scope: Any) -> StreamUpgrade | None:
    """The upgrade that a request's scope is, or ``None`` for a plain request."""
    found = scope.get(UPGRADE)
    return found if isinstance(found, StreamUpgrade) else None


class UpgradedConnection(asyncio.Protocol):
    """A connection to a listener whose request asked for a WebSocket; made by uvicorn (its ``ws`` option)."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = config.loaded_app
        self._connections = server_state.connections
        self._tasks = server_state.tasks
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._upstream: _Upstream | None = None
        self._task: asyncio.Task[None] | None = None
        self._upgrade = StreamUpgrade()
        self._idle: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._begun_at = self._loop.time()
        self.received_bytes = 0
        self.sent_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The HTTP protocol hands its connection over."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)
        self._connections.add(self)  # type: ignore[arg-type]  # uvicorn closes what is in there when it ends

    def data_received(self, data: bytes) -> None:
        """First the request's head, as uvicorn puts it together again; then what the device sends."""
        if self._task is None:
            self._task = self._loop.create_task(self._serve(data), name="farframe-relay")
            self._tasks.add(self._task)
            self._task.add_done_callback(self._tasks.discard)
            # Nothing may come before the render server has answered; if it does, it waits where it is.
            assert self._transport is not None
            self._transport.pause_reading()
            return
        self._heard_at = self._loop.time()
        self.received_bytes += len(data)
        if self._upstream is None:
            self.close()  # nobody may send before the upgrade is answered
        else:
            self._upstream.write(data)

    def pause_writing(self) -> None:
        """The device does not take what is sent."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        """It takes more again."""
        if self._upstream is not None:
            self._upstream.resume_reading()

    def eof_received(self) -> None:
        """The device sends nothing more: the end."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The device is gone, so the other side ends, too."""
        self._connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._upstream is not None:
            self._upstream.close()
            log.info(
                "stream.relayed",
                session=self._upgrade.session_id,
                seconds=round(self._loop.time() - self._begun_at, 1),
                to_device_bytes=self.sent_bytes,
                from_device_bytes=self.received_bytes,
            )
        self._upgrade.give_back()

    def shutdown(self) -> None:
        """The listener ends."""
        self.close()

    # The relay

    def close(self) -> None:
        """End it; what was passed on is still sent."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Pass on what the render server sent."""
        if self._transport is not None and not self._transport.is_closing():
            self.sent_bytes += len(data)
            self._transport.write(data)

    def pause_reading(self) -> None:
        """The render server does not take what is sent."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """It takes more again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _serve(self, head: bytes) -> None:
        assert self._transport is not None
        try:
            request = _Head.parse(head)
            names = request.subprotocols
            answer = await self._ask(request, names)
            if answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
                self._refuse(request, names, answer)
                return
            problem = request.problem()
            if problem:
                self._answer(_Answer.of(400, "BadRequest", problem))
                return
            await self._join(request, answer)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("relay.failed", session=self._upgrade.session_id)
            self.close()

    async def _ask(self, request: _Head, names: list[str]) -> _Answer:
        """Let the application judge the upgrade as the request that it is."""
        token = token_of(names)
        headers = request.headers
        if token:
            headers = [pair for pair in headers if pair[0] != b"authorization"]
            headers.append((b"authorization", b"Bearer " + token.encode("latin-1", "replace")))
        path, _, query = request.target.partition(b"?")
        transport = self._transport
        assert transport is not None
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "scheme": "https" if is_ssl(transport) else "http",
            "root_path": "",
            "method": "GET",
            "path": path.decode("ascii", "replace"),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            "state": {},
            UPGRADE: self._upgrade,
        }
        answer = _Answer()
        body_given = False

        async def receive() -> Any:
            nonlocal body_given
            if body_given:
                return {"type": "http.disconnect"}
            body_given = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: AsgiMessage) -> None:
            answer.add(message)

        await self._app(cast(Scope, scope), cast(Receive, receive), cast(Send, send))
        return answer

    async def _join(self, request: _Head, answer: _Answer) -> None:
        assert self._transport is not None
        upgrade = self._upgrade
        upstream = _Upstream(self)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._loop.create_connection(
                    lambda: upstream,
                    upgrade.host,
                    upgrade.port,
                    ssl=upgrade.tls,
                    server_hostname=upgrade.server_name if upgrade.tls is not None else None,
                )
            upstream.write(request.for_render_server(upgrade))
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await upstream.head
        except (OSError, TimeoutError, ssl.SSLError, ValueError) as error:
            upstream.close()
            log.warning("relay.failed", session=upgrade.session_id, error=type(error).__name__)
            text = "The session's render server did not answer. Ask for the session's status, then try again."
            self._refuse(request, request.subprotocols, _Answer.of(502, "BadGateway", text))
            return
        except BaseException:
            upstream.close()
            raise
        self._upstream = upstream
        kept = [(name, value) for name, value in answer.headers if name in (b"ms-cv",)]
        self.write(head.switching(kept))
        self._heard_at = self._loop.time()
        self._watch()
        upstream.pass_on()
        self._transport.resume_reading()

    def _watch(self) -> None:
        if self._loop.time() - self._heard_at > IDLE_SECONDS:
            assert self._transport is not None
            self._transport.abort()
            return
        self._idle = self._loop.call_later(IDLE_SECONDS / 4, self._watch)

    # Refusals

    def _refuse(self, request: _Head, names: list[str], answer: _Answer) -> None:
        """Devices hear it over the socket, for pages are not told what an upgrade was refused with; others as HTTP."""
        transport = self._transport
        assert transport is not None
        if SUBPROTOCOL not in names or request.problem():
            self._answer(answer)
            return
        protocol = ServerProtocol(subprotocols=[Subprotocol(SUBPROTOCOL)])
        response = protocol.accept(SocketRequest(request.target.decode("latin-1"), request.socket_headers()))
        protocol.send_response(response)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            reason = _RESULTS.get(answer.status, Result.FAIL)
            params = messages.EndingParams(reason=str(reason), message=answer.error_message())
            protocol.send_text(messages.encode_notification("session.ending", params).encode())
            protocol.send_close(CLOSE_CODE_BASE + answer.status)
        transport.write(b"".join(protocol.data_to_send()))
        transport.close()

    def _answer(self, answer: _Answer) -> None:
        transport = self._transport
        assert transport is not None
        transport.write(answer.encode())
        transport.close()


class _Upstream(asyncio.Protocol):
    """The connection to the render server."""

    def __init__(self, device: UpgradedConnection) -> None:
        self._device = device
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._passing = False
        self.head: asyncio.Future[_UpgradeAnswer] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self._passing:
            self._device.write(data)
            return
        self._buffer += data
        if self.head.done():
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                self._fail(ValueError("the render server's answer has no end"))
            return
        try:
            answer = _UpgradeAnswer.parse(bytes(self._buffer[:end]))
        except ValueError as error:
            self._fail(error)
            return
        del self._buffer[: end + 4]
        self.head.set_result(answer)
        self.pause_reading()

    def pass_on(self) -> None:
        """Pass on what came after the head, and all that follows."""
        self._passing = True
        if self._buffer:
            self._device.write(bytes(self._buffer))
            self._buffer.clear()
        self.resume_reading()

    def _fail(self, error: Exception) -> None:
        if not self.head.done():
            self.head.set_exception(error)
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(ConnectionError("the render server hung up"))
            with contextlib.suppress(Exception):
                self.head.exception()  # somebody may have stopped waiting
        if self._passing:
            self._device.close()

    def pause_writing(self) -> None:
        self._device.pause_reading()

    def resume_writing(self) -> None:
        self._device.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()


@dataclass(slots=True)
class _Head:
    """A request's head. uvicorn has parsed it once: names are in lower case, lines are whole."""

    target: bytes
    headers: list[tuple[bytes, bytes]]

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
        _, target, _ = lines[0].split(b" ", 2)
        pairs = [line.partition(b": ") for line in lines[1:]]
        return cls(target, [(name, value.strip()) for name, _, value in pairs])

    def values(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    @property
    def subprotocols(self) -> list[str]:
        values = ",".join(self.values(b"sec-websocket-protocol")).split(",")
        return [value.strip() for value in values if value.strip()]

    def problem(self) -> str:
        """What is wrong with the upgrade itself; empty if nothing is."""
        keys = self.values(b"sec-websocket-key")
        try:
            proper = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
        except (binascii.Error, ValueError):
            proper = False
        if not proper or self.values(b"sec-websocket-version") != ["13"]:
            return "This is no WebSocket upgrade of version 13."
        return "" if SUBPROTOCOL in self.subprotocols else f"The subprotocol must be {SUBPROTOCOL}."

    def socket_headers(self) -> Headers:
        headers = Headers()
        for name, value in self.headers:
            if name in (b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version"):
                headers[name.decode("latin-1")] = value.decode("latin-1")
        headers["Sec-WebSocket-Protocol"] = ", ".join(self.subprotocols)
        return headers

    def for_render_server(self, upgrade: StreamUpgrade) -> bytes:
        """The upgrade as this service asks for it: the same key, so that the answer is the device's, and nothing that
        the device could have hidden in other headers."""
        host = f"[{upgrade.host}]" if ":" in upgrade.host else upgrade.host
        lines = [
            "GET /stream HTTP/1.1",
            f"Host: {host}:{upgrade.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {self.values(b'sec-websocket-key')[0]}",
            f"Sec-WebSocket-Protocol: {', '.join(self.subprotocols)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(slots=True)
class _UpgradeAnswer:
    """What a render server answered to an upgrade: that it agrees, and how it proves that it read the key."""

    accept: bytes
    subprotocol: bytes

    @classmethod
    def parse(cls, head: bytes) -> _UpgradeAnswer:
        lines = head.split(b"\r\n")
        parts = lines[0].split(b" ", 2)
        if len(parts) < 2 or parts[1] != b"101":
            raise ValueError("the render server does not agree to the upgrade")
        found = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        return cls(found.get(b"sec-websocket-accept", b""), found.get(b"sec-websocket-protocol", b""))

    def switching(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of the answer to the device."""
        pairs = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", self.accept),
            (b"sec-websocket-protocol", self.subprotocol),
            *headers,
        ]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs if value)
        return b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n"


class _Answer:
    """What the application answered."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    @classmethod
    def of(cls, status: int, code: str, message: str) -> _Answer:
        answer = cls()
        answer.status = status
        answer.body = msgspec.json.encode({"error": {"code": code, "message": message}})
        answer.headers = [(b"content-type", b"application/json; charset=utf-8")]
        return answer

    def add(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message.get("headers", []))
        elif message["type"] == "http.response.body" and len(self.body) <= MAX_BODY_BYTES:
            self.body += message.get("body", b"")

    def error_message(self) -> str:
        """The sentence of an error's body."""
        with contextlib.suppress(msgspec.DecodeError, TypeError, KeyError):
            return str(msgspec.json.decode(self.body)["error"]["message"])
        return f"The service answered with status {self.status}."

    def encode(self) -> bytes:
        """The answer as HTTP, after which the connection ends."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        kept = [pair for pair in self.headers if pair[0] not in (b"content-length", b"connection")]
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode("ascii")
        pairs = [
            *kept,
            (b"content-length", str(len(self.body)).encode("ascii")),
            (b"connection", b"close"),
            (b"date", date),
        ]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs)
        return f"HTTP/1.1 {self.status} {phrase}\r\n".encode("ascii") + lines + b"\r\n" + self.body
