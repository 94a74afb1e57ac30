"""A proxy on the loopback interface through which a storage client reaches checked addresses only.

The client for object stores resolves names and connects on its own, out of our reach. It is given this proxy: each
connection, redirects included, passes through :class:`~farframe.storage.network.CheckedBackend`, which judges the
address that it then connects to. TLS goes through unread (``CONNECT``), from the client to the storage. Plain http is
for listed networks only; one request a connection.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpcore

from farframe.storage.network import CheckedBackend, Network, RefusedAddressError, Resolver, system_resolver

CONNECT_TIMEOUT_SECONDS = 10.0
IDLE_SECONDS = 300.0
_HEAD_BYTES = 128 * 1024
_CHUNK_BYTES = 256 * 1024


class Gate:
    """An async context manager; :attr:`url` is for the client, and holds a password of its own."""

    def __init__(self, allowed_networks: Sequence[Network], resolver: Resolver = system_resolver) -> None:
        self._secure = CheckedBackend(allowed_networks, resolver)
        self._plain = CheckedBackend(allowed_networks, resolver, only_listed=True)
        self._password = secrets.token_urlsafe(24)
        self._credentials = b"Basic " + base64.b64encode(f"farframe:{self._password}".encode())
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = False
        """Whether an address was refused."""

    @property
    def url(self) -> str:
        """The proxy's URL, a secret."""
        if self._server is None:
            raise RuntimeError("the gate is closed")
        port = self._server.sockets[0].getsockname()[1]
        return f"http://farframe:{self._password}@127.0.0.1:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._pass(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError, httpcore.NetworkError, httpcore.TimeoutException):
            pass
        except asyncio.CancelledError:
            # Only __aexit__ cancels, and asks for no more than an end; the server would report a cancellation.
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(IDLE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        request, *lines = head[:-4].split(b"\r\n")
        headers = [
            (name.strip().lower(), value.strip(), line) for line in lines for name, _, value in [line.partition(b":")]
        ]
        given = next((value for name, value, _ in headers if name == b"proxy-authorization"), b"")
        if not secrets.compare_digest(given, self._credentials):
            await _answer(writer, b"407 Proxy Authentication Required")
            return
        method, _, rest = request.partition(b" ")
        target, _, version = rest.rpartition(b" ")
        tunnel = method == b"CONNECT"
        try:
            parts = urlsplit(f"//{target.decode('ascii')}" if tunnel else target.decode("ascii"))
            host, port = parts.hostname, parts.port or (443 if tunnel else 80)
        except ValueError:
            host, port = None, 0
        if not host or not (tunnel or parts.scheme == "http"):
            await _answer(writer, b"400 Bad Request")
            return
        try:
            backend = self._secure if tunnel else self._plain
            stream = await backend.connect_tcp(host, port, timeout=CONNECT_TIMEOUT_SECONDS)
        except RefusedAddressError:
            self.refused = True
            await _answer(writer, b"403 Forbidden")
            return
        except (httpcore.NetworkError, httpcore.TimeoutException):
            await _answer(writer, b"502 Bad Gateway")
            return
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                kept = [line for name, _, line in headers if not name.startswith(b"proxy-") and name != b"connection"]
                first = b" ".join((method, path.encode("ascii"), version))
                await stream.write(b"\r\n".join((first, *kept, b"Connection: close", b"", b"")))
            await _pump(reader, writer, stream)
        finally:
            await stream.aclose()


async def _answer(writer: asyncio.StreamWriter, status: bytes) -> None:
    writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: httpcore.AsyncNetworkStream
) -> None:
    """Bytes both ways, until the storage has said all, or the client is gone."""

    async def upwards() -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await stream.write(chunk, timeout=IDLE_SECONDS)

    async def downwards() -> None:
        while chunk := await stream.read(_CHUNK_BYTES, timeout=IDLE_SECONDS):
            writer.write(chunk)
            await writer.drain()

    tasks = {asyncio.create_task(upwards()), asyncio.create_task(downwards())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
