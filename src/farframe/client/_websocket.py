"""The whole stream over one WebSocket (``docs/protocol.md``), behind the client's seam.

Directly to the render server, or through the service where only its port can be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from farframe.client._media import picture_of
from farframe.client._transport import TransportHandler
from farframe.client.errors import ConnectionLostError, HandshakeError, ServiceUnreachableError
from farframe.protocol.errors import Result
from farframe.protocol.socket_stream import (
    CLOSE_CODE_BASE,
    MAX_SERVER_MESSAGE_BYTES,
    NORMAL_CLOSE_CODES,
    SUBPROTOCOL,
    subprotocols,
)
from farframe.stream.websocket_receiver import WebSocketReceiver

CLOSE_SECONDS = 2.0
MAX_UNSENT_BYTES = 1 << 20
MAX_POSE_BACKLOG_BYTES = 16 * 1024

_logger = logging.getLogger("farframe.websockets")
_logger.setLevel(logging.INFO)
"""Below that the library would log upgrades with the token in them."""

_RESULTS = {
    401: Result.AUTHENTICATION_FAILED,
    403: Result.AUTHENTICATION_FAILED,
    404: Result.SESSION_NOT_READY,
    409: Result.OTHER_SESSION_CONNECTED,
}


class WebSocketTransport:
    """A connection over a WebSocket. :meth:`connect` first; times are on the clock of ``farframe.client._clock``."""

    def __init__(self, handler: TransportHandler) -> None:
        self._handler = handler
        self._socket: ClientConnection | None = None
        self._receiver: WebSocketReceiver | None = None
        self._outbox: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._unsent_bytes = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def connect(self, url: str, names: list[str], context: ssl.SSLContext | None, timeout: float) -> None:
        """Open the socket at ``url`` (``wss://``) and wait until a place is given.

        ``names`` are the subprotocols, the token among them; ``timeout`` (seconds) is for reaching the other side.
        Raises ServiceUnreachableError when nothing answers, HandshakeError when the server refuses.
        """
        where = urlsplit(url)
        local = where.hostname in ("localhost", "127.0.0.1", "::1")
        try:
            self._socket = await connect(
                url,
                subprotocols=[Subprotocol(name) for name in names],
                ssl=context,
                proxy=None if local else True,
                compression=None,
                max_size=MAX_SERVER_MESSAGE_BYTES,
                open_timeout=timeout,
                ping_interval=None,
                logger=_logger,
                close_timeout=CLOSE_SECONDS,
            )
        except websockets.InvalidStatus as error:
            status = error.response.status_code
            if status in (404, 405, 426, 501):
                raise ServiceUnreachableError(
                    f"{where.netloc} does not take streams over WebSockets.", next_step="Update the service."
                ) from error
            raise HandshakeError(
                _RESULTS.get(status, Result.HANDSHAKE_FAILED), f"The stream was refused with status {status}."
            ) from error
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            raise ServiceUnreachableError(
                f"No WebSocket could be opened to {where.netloc}: {str(error) or 'no answer in time'}.",
                next_step="Check that the network lets HTTPS through to it.",
            ) from error
        if self._socket.subprotocol != SUBPROTOCOL:
            raise HandshakeError(
                Result.PROTOCOL_VERSION_MISMATCH,
                f"{where.netloc} speaks another protocol over WebSockets.",
                next_step="Update the older side.",
            )
        self._receiver = WebSocketReceiver(
            send=self._post,
            on_control=self._handler.on_control,
            on_frame_record=self._handler.on_frame_record,
            on_frame=lambda frame: self._handler.on_picture(picture_of(frame)),
            on_access_unit=self._handler.on_access_unit,
            clock=time.perf_counter,
        )
        await self._await_place(self._socket)
        self._tasks = [
            asyncio.create_task(self._read(self._socket), name="farframe websocket in"),
            asyncio.create_task(self._write(self._socket), name="farframe websocket out"),
        ]

    async def _await_place(self, socket: ClientConnection) -> None:
        """The server's first words: that a place is given, or why not."""
        try:
            message = await socket.recv()
        except websockets.ConnectionClosed as closed:
            raise _refused(_code(closed), "") from closed
        method, params = _notification(message)
        if method == "session.ending":
            with contextlib.suppress(websockets.ConnectionClosed):
                await socket.wait_closed()
            raise _refused(socket.close_code or 0, str(params.get("message", "")), str(params.get("reason", "")))
        assert self._receiver is not None
        if method != "connection.attached":
            self._receiver.received(message)

    async def _read(self, socket: ClientConnection) -> None:
        assert self._receiver is not None
        try:
            while True:
                self._receiver.received(await socket.recv())
        except websockets.ConnectionClosed as closed:
            if not self._closed:
                normal = _code(closed) in NORMAL_CLOSE_CODES
                self._handler.on_closed(str(Result.DISCONNECT_REQUEST if normal else Result.CONNECTION_LOST))

    async def _write(self, socket: ClientConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):  # _read tells
            while True:
                message = await self._outbox.get()
                await socket.send(message)
                self._unsent_bytes -= len(message)

    def _post(self, message: str | bytes) -> None:
        self._unsent_bytes += len(message)
        self._outbox.put_nowait(message)

    def send_control(self, text: str) -> None:
        """Send a control message. Raises ConnectionLostError when the socket is closed or takes nothing any more."""
        open_now = self._socket is not None and self._socket.close_code is None and not self._closed
        if not open_now or self._unsent_bytes > MAX_UNSENT_BYTES:
            raise ConnectionLostError(
                Result.CONNECTION_LOST, "The connection to the render server is closed.", next_step="Connect again."
            )
        self._post(text)

    def send_pose(self, data: bytes) -> None:
        """Send a pose; dropped where the socket does not keep up, for the next one is newer."""
        if not self._closed and self._unsent_bytes <= MAX_POSE_BACKLOG_BYTES:
            self._post(data)

    def request_keyframe(self) -> None:
        """Ask for a picture that can be decoded by itself."""
        if self._receiver is not None and not self._closed:
            self._receiver.request_keyframe()

    async def close(self) -> None:
        """Close the socket in order; nothing is left."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()
        if self._receiver is not None:
            await self._receiver.close()


def stream_names(token: str, extra: list[str]) -> list[str]:
    """The subprotocols of an upgrade."""
    return [*subprotocols(token), *extra]


def _code(closed: websockets.ConnectionClosed) -> int:
    return closed.rcvd.code if closed.rcvd is not None else 1006


def _notification(message: str | bytes) -> tuple[str, dict[str, Any]]:
    if isinstance(message, str):
        with contextlib.suppress(ValueError, AttributeError):
            content = json.loads(message)
            return str(content.get("method", "")), dict(content.get("params") or {})
    return "", {}


def _refused(code: int, message: str, reason: str = "") -> HandshakeError:
    try:
        result = Result(reason)
    except ValueError:
        result = _RESULTS.get(code - CLOSE_CODE_BASE, Result.HANDSHAKE_FAILED)
    return HandshakeError(result, message or "The render server closed the stream before it began.")
