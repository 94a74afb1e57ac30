"""A device handler that remembers, and a connected pair of transports on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.stream.device import DeviceTransport, TransportConfig
from farframe.stream.encoder import H264Encoder
from farframe.stream.receiver import ReceiverTransport

PATIENCE_SECONDS = 15.0


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


@dataclass
class Pair:
    """A server's and a device's transport, connected."""

    handler: RememberingHandler
    device: DeviceTransport
    receiver: ReceiverTransport
    encoder: H264Encoder
    sent: list[int] = field(default_factory=list)

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


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Pair]]]:
    """Make connected pairs; they are closed after the test."""
    pairs: list[Pair] = []

    async def make(*, config: TransportConfig | None = None, **receiver_arguments: object) -> Pair:
        handler = RememberingHandler()
        receiver = ReceiverTransport(bind_host="127.0.0.1", **receiver_arguments)  # type: ignore[arg-type]
        try:
            offer = await receiver.create_offer()
            device = await DeviceTransport.accept(offer, config or TransportConfig(), handler)
        except BaseException:
            await receiver.close()
            raise
        pair = Pair(handler, device, receiver, H264Encoder(640, 360, bitrate=8_000_000, max_bitrate=12_000_000))
        pairs.append(pair)
        await receiver.accept_answer(device.answer_sdp)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await handler.connected.wait()
        return pair

    yield make
    for pair in pairs:
        await pair.close()
