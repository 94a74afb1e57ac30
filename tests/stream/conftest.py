"""A device handler that remembers, a connected pair of transports on loopback, and a bad line between them."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.stream.device import DeviceTransport, TransportConfig
from farframe.stream.encoder import H264Encoder
from farframe.stream.receiver import ReceiverTransport

PATIENCE_SECONDS = 60.0

Address = tuple[str, int]


async def _eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until a condition holds, or fail."""
    return _eventually


@dataclass
class RememberingHandler:
    """Keeps all that a device did."""

    controls: list[str] = field(default_factory=list)
    poses: list[bytes] = field(default_factory=list)
    bitrates: list[int] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    keyframe_requests: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    def on_control(self, text: str) -> None:
        self.controls.append(text)

    def on_pose(self, data: bytes) -> None:
        self.poses.append(data)

    def on_connected(self) -> None:
        self.connected.set()

    def on_keyframe_request(self) -> None:
        self.keyframe_requests += 1

    def on_bitrate(self, bits_per_second: int) -> None:
        self.bitrates.append(bits_per_second)

    def on_closed(self, reason: str) -> None:
        self.closed.append(reason)


@pytest.fixture
def make_handler() -> Callable[[], RememberingHandler]:
    return RememberingHandler


def _moving_picture(width: int, height: int, index: int) -> NDArray[np.uint8]:
    """A busy picture that moves by some pixels per index: each frame takes several packets."""
    random = np.random.default_rng(7)
    coarse = random.integers(0, 255, (height // 8, width // 8, 4), dtype=np.uint8)
    picture = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
    return np.ascontiguousarray(np.roll(picture, index * 5, axis=1))


@pytest.fixture
def moving_picture() -> Callable[[int, int, int], NDArray[np.uint8]]:
    return _moving_picture


class _Port(asyncio.DatagramProtocol):
    def __init__(self, line: NarrowLine, towards_server: bool) -> None:
        self.line = line
        self.towards_server = towards_server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.line.carry(data, addr, self.towards_server)


class NarrowLine:
    """A UDP proxy that loses, delays and narrows, by a seed: for machines whose kernel cannot (tc netem).

    It carries datagrams between one device and a server's port on 127.0.0.1.

    ``loss`` (0 to 1) and ``delay_seconds`` hold for either direction, ``bits_per_second`` and ``queue_seconds`` (what
    does not fit into the queue is dropped) only for what the server sends; of that, ``loses`` drops what it likes.
    """

    def __init__(
        self,
        *,
        loss: float = 0.0,
        delay_seconds: float = 0.0,
        bits_per_second: float | None = None,
        queue_seconds: float = 0.2,
        seed: int = 1,
        loses: Callable[[bytes], bool] = lambda data: False,
    ) -> None:
        self.loss = loss
        self.loses = loses
        self.delay_seconds = delay_seconds
        self.bits_per_second = bits_per_second
        self.queue_seconds = queue_seconds
        self.carried = 0
        self.dropped = 0
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._device: Address | None = None
        self._server: Address | None = None

    async def open(self, answer: str) -> str:
        """The same answer, with this line's port instead of the server's."""
        match = re.search(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+)", answer)
        assert match
        self._server = ("127.0.0.1", int(match[1]))
        loop = asyncio.get_running_loop()
        self._outside, _ = await loop.create_datagram_endpoint(lambda: _Port(self, True), ("127.0.0.1", 0))
        self._inside, _ = await loop.create_datagram_endpoint(lambda: _Port(self, False), ("127.0.0.1", 0))
        return answer.replace(f"127.0.0.1 {match[1]} ", f"127.0.0.1 {self._outside.get_extra_info('sockname')[1]} ")

    def carry(self, data: bytes, source: Address, towards_server: bool) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        at = now + self.delay_seconds
        if towards_server:
            self._device = source
        elif self.bits_per_second is not None:
            self._free_at = max(self._free_at, now)
            if self._free_at - now > self.queue_seconds:
                self.dropped += 1
                return
            self._free_at += len(data) * 8 / self.bits_per_second
            at += self._free_at - now
        if self._random.random() < self.loss or (not towards_server and self.loses(data)):
            self.dropped += 1
            return
        self.carried += 1
        if at <= now:
            self._deliver(data, towards_server)
        else:
            loop.call_at(at, self._deliver, data, towards_server)

    def _deliver(self, data: bytes, towards_server: bool) -> None:
        transport, target = (self._inside, self._server) if towards_server else (self._outside, self._device)
        if target is not None and not transport.is_closing():
            transport.sendto(data, target)

    def close(self) -> None:
        self._outside.close()
        self._inside.close()


def _without_candidates(offer: str) -> str:
    """The same offer, so that the server can only find the device through the line."""
    return re.sub(r"(?m)^a=candidate:.*\r?\n", "", offer)


@dataclass
class Pair:
    """A server's and a device's transport, connected."""

    handler: RememberingHandler
    device: DeviceTransport
    receiver: ReceiverTransport
    encoder: H264Encoder
    sent: list[int] = field(default_factory=list)
    line: NarrowLine | None = None

    async def send(self, count: int, *, pts_step: int = 3000, interval: float = 0.004) -> None:
        """Send ``count`` further frames; keyframes where the device asks for one, and at the very beginning."""
        for _ in range(count):
            index = len(self.sent)
            pts = index * pts_step
            picture = _moving_picture(self.encoder.width, self.encoder.height, index)
            wanted, self.handler.keyframe_requests = self.handler.keyframe_requests, 0
            self.device.send_video(self.encoder.encode(picture, pts, keyframe=index == 0 or wanted > 0))
            self.sent.append(pts)
            await asyncio.sleep(interval)  # lets the loop run; nothing depends on how long

    async def close(self) -> None:
        await self.receiver.close()
        await self.device.close()
        self.encoder.close()
        if self.line is not None:
            self.line.close()


@pytest.fixture
def make_line() -> type[NarrowLine]:
    return NarrowLine


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Pair]]]:
    """Make connected pairs; they are closed after the test."""
    pairs: list[Pair] = []

    async def make(
        *, config: TransportConfig | None = None, line: NarrowLine | None = None, **receiver_arguments: object
    ) -> Pair:
        handler = RememberingHandler()
        receiver = ReceiverTransport(bind_host="127.0.0.1", **receiver_arguments)  # type: ignore[arg-type]
        try:
            offer = await receiver.create_offer()
            if line is not None:
                offer = _without_candidates(offer)
            device = await DeviceTransport.accept(offer, config or TransportConfig(), handler)
        except BaseException:
            await receiver.close()
            raise
        pair = Pair(handler, device, receiver, H264Encoder(640, 360, bitrate=8_000_000, max_bitrate=12_000_000))
        pair.line = line
        pairs.append(pair)
        await receiver.accept_answer(device.answer_sdp if line is None else await line.open(device.answer_sdp))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await handler.connected.wait()
        return pair

    yield make
    for pair in pairs:
        await pair.close()
