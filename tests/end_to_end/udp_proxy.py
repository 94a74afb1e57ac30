"""A UDP path between a browser and a render server that a test can cut or narrow."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from playwright.async_api import Page, Route

CANDIDATE = re.compile(r"^(a=candidate:\S+ 1 udp \d+ )(\S+) (\d+)( typ host.*)$", re.M)


class UdpProxy:
    """Passes packets between whoever speaks to it and the server, as far as it is allowed to.

    ``cut``: none at all. ``bytes_per_second``: at most so many towards the device; what is too much is lost.
    """

    def __init__(self, host: str, port: int) -> None:
        self.cut = False
        self.bytes_per_second: float | None = None
        self.passed = 0
        self.lost = 0
        self._server = (host, port)
        self._sockets: dict[Any, asyncio.DatagramTransport] = {}
        self._front: asyncio.DatagramTransport | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._tokens = 0.0
        self._filled_at = time.monotonic()

    async def start(self) -> int:
        """Begin; the port that stands for the server's."""
        proxy = self

        class Front(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, source: Any) -> None:
                proxy._from_device(data, source)

        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(Front, local_addr=("127.0.0.1", 0))
        return int(self._front.get_extra_info("sockname")[1])

    def stop(self) -> None:
        for transport in (self._front, *self._sockets.values()):
            if transport is not None:
                transport.close()

    def _from_device(self, data: bytes, source: Any) -> None:
        if self.cut:
            return
        known = self._sockets.get(source)
        if known is not None:
            known.sendto(data)
            return
        task = asyncio.create_task(self._open(source, data))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, source: Any, data: bytes) -> None:
        proxy = self

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: Any) -> None:
                proxy._to_device(data, source)

            def error_received(self, error: Exception) -> None:
                """The server's socket is gone: packets are lost, as on any line."""

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Back, remote_addr=self._server)
        first = self._sockets.setdefault(source, transport)
        if first is not transport:
            transport.close()
        first.sendto(data)

    def _to_device(self, data: bytes, source: Any) -> None:
        if self.cut or self._front is None:
            return
        # What keeps the connection together is small and gets through: it is pictures that are too much.
        if self.bytes_per_second is not None and len(data) > 300:
            now = time.monotonic()
            room = self.bytes_per_second / 4
            self._tokens = min(room, self._tokens + (now - self._filled_at) * self.bytes_per_second)
            self._filled_at = now
            if self._tokens < len(data):
                self.lost += 1
                return
            self._tokens -= len(data)
        self.passed += 1
        self._front.sendto(data, source)


class Paths:
    """The paths of one page: each handshake gets one of its own, which the page takes for the render server."""

    def __init__(self, page: Page) -> None:
        self.proxies: list[UdpProxy] = []
        self.handshakes: list[dict[str, str]] = []
        self.urls: list[str] = []
        self.cut = False
        """Whether new paths are dead, too, and handshakes fail."""
        self._page = page

    async def set_up(self) -> None:
        await self._page.route(re.compile(r"/whep(\?.*)?$"), self._handshake)

    async def _handshake(self, route: Route) -> None:
        if route.request.method != "POST":
            await route.continue_()
            return
        if self.cut:
            await route.abort()
            return
        self.urls.append(route.request.url)
        self.handshakes.append(await route.request.all_headers())
        answer = await route.fetch()
        text = await answer.text()
        found = [(match[2], int(match[3])) for match in CANDIDATE.finditer(text)]
        if answer.status != 201:
            await route.fulfill(response=answer)
            return
        host, port = found[0]
        proxy = UdpProxy(host, port)
        self.proxies.append(proxy)
        own = await proxy.start()
        seen = 0

        def through(match: re.Match[str]) -> str:
            nonlocal seen
            seen += 1
            return f"{match[1]}127.0.0.1 {own}{match[4]}" if seen == 1 else "a=x-left-out"

        await route.fulfill(response=answer, body=CANDIDATE.sub(through, text))

    def stop(self) -> None:
        for proxy in self.proxies:
            proxy.stop()
