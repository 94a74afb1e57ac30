"""The HTTP listeners: uvicorn with our own answer to requests that are no HTTP, and limits on what it buffers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from asyncio.events import TimerHandle
from collections.abc import Iterator
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from farframe.service.frontier import JSON_CONTENT_TYPE, new_correlation_vector
from farframe.service.stream_relay import UpgradedConnection
from farframe.wire.errors import BadRequest

log = structlog.get_logger("farframe.service")

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together. A token is one kilobyte."""

HEAD_TIMEOUT_SECONDS = 20.0
"""From the first byte of a request, or the connection, until its headers are complete."""

KEEP_ALIVE_SECONDS = 65
"""Longer than clients' pools keep a connection, so that it is the client who closes."""

GRACE_SECONDS = 3
"""What requests under way get to finish when the service ends."""


class ListenError(Exception):
    """A port cannot be listened on; the message says what to do."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 on one connection. Errors below the application have the same shape as all others."""

    _head_bytes = 0
    _in_head = True
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and expect a request soon."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._cancel_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless the headers of the present request have grown beyond all reason."""
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._head_is_late)

    def on_headers_complete(self) -> None:
        """The headers are there; the application takes over."""
        self._in_head = False
        self._cancel_head_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close."""
        body = BadRequest(msg).body()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            f"content-type: {JSON_CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\nms-cv: {new_correlation_vector()}\r\n"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process, which has two servers and more to end than them."""
        yield


def bind(host: str, port: int, option: str) -> socket.socket:
    """A listening socket's address, taken. Port 0 takes a free one. Raises :class:`ListenError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            advice = f"End the program that uses it, or choose another port with {option}."
        elif error.errno in (errno.EACCES, errno.EPERM):
            advice = f"Ports below 1024 may need rights of their own; choose another one with {option}."
        else:
            advice = "Name an address of this machine; 0.0.0.0 stands for all of them."
        raise ListenError(f"Cannot listen on {host} port {port}: {error.strerror or error}. {advice}") from None
    listener.setblocking(False)
    return listener


class Listener:
    """One server on one bound socket, with TLS if there is a context."""

    def __init__(self, app: Any, bound: socket.socket, tls: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws=UpgradedConnection,
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        config.load()
        config.ssl = tls
        self._server = _Server(config)
        self._socket = bound
        self.port: int = bound.getsockname()[1]
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns when connections are taken."""
        self.task = asyncio.create_task(self._server.serve([self._socket]), name=f"listener-{self.port}")
        while not self._server.started:
            if self.task.done():
                await self.task
                raise ListenError(f"The listener on port {self.port} ended before it served.")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Take no more connections; let requests under way finish for some seconds."""
        self._server.should_exit = True
        if self.task is not None:
            await self.task
