"""The stream over one WebSocket, without a network: the rate on a simulated line, the device on a channel in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from farframe.protocol import socket_stream
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.socket_stream import Acknowledgement, PictureRecord
from farframe.stream import websocket
from farframe.stream.encoder import EncodedFrame
from farframe.stream.websocket import MIN_TARGET_BITRATE, ChannelClosed, SocketRate, WebSocketDevice

FRAME_SECONDS = 1 / 30
DEVICE_AHEAD_SECONDS = 1234.5


class Line:
    """A TCP connection that carries ``bits_per_second`` after ``delay_seconds``, on a simulated clock."""

    def __init__(self, rate: SocketRate, bits_per_second: float, delay_seconds: float) -> None:
        self.rate = rate
        self.bits_per_second = bits_per_second
        self.delay_seconds = delay_seconds
        self.now = 100.0
        self.free_at = 0.0
        self.number = 0
        self.skipped = 0
        self.queues: list[float] = []
        self.acknowledgements: deque[tuple[float, int, float]] = deque()

    def run(self, seconds: float, share: float = 1.0) -> None:
        """Frames at 30 a second that use ``share`` of the target, skipped as the frame loop skips them."""
        end = self.now + seconds
        while self.now < end:
            while self.acknowledgements and self.acknowledgements[0][0] <= self.now:
                at, number, arrived = self.acknowledgements.popleft()
                assert self.rate.on_acknowledgement(number, arrived + DEVICE_AHEAD_SECONDS, at)
                self.queues.append(self.rate.queue_seconds)
            oldest = self.rate.oldest_sent_at
            if oldest is not None and self.now - oldest > self.rate.patience_seconds:
                self.skipped += 1
            else:
                size = int(self.rate.target_bitrate * share * FRAME_SECONDS / 8)
                self.number += 1
                self.rate.on_sent(self.number, size, self.now)
                self.free_at = max(self.free_at, self.now) + size * 8 / self.bits_per_second
                arrived = self.free_at + self.delay_seconds
                self.acknowledgements.append((arrived + self.delay_seconds, self.number, arrived))
            self.now += FRAME_SECONDS


@pytest.mark.parametrize("delay_seconds", [0.001, 0.025, 0.1])
def test_the_rate_finds_a_narrow_line(delay_seconds: float) -> None:
    line = Line(SocketRate(12_000_000), 1_500_000, delay_seconds)
    line.run(4.0)
    line.queues.clear()
    line.run(10.0)
    assert 0.5 * 1_500_000 < line.rate.target_bitrate < 1.1 * 1_500_000
    assert sorted(line.queues)[len(line.queues) // 2] < 0.06
    assert max(line.queues) < 0.3


def test_a_line_that_narrows_and_widens_again() -> None:
    line = Line(SocketRate(12_000_000), 10_000_000, 0.02)
    line.run(6.0)
    assert line.rate.target_bitrate > 7_000_000
    line.bits_per_second = 1_500_000
    line.run(2.0)
    assert line.rate.target_bitrate < 1_700_000
    skipped = line.skipped
    line.run(4.0)
    assert line.skipped - skipped <= 12
    line.bits_per_second = 10_000_000
    line.run(6.0)
    assert line.rate.target_bitrate > 5_000_000


def test_a_scene_at_rest_does_not_push_the_rate() -> None:
    line = Line(SocketRate(12_000_000), 8_000_000, 0.02)
    line.run(20.0, share=0.05)
    assert line.rate.target_bitrate == websocket.START_BITRATE


def test_a_device_that_pauses_costs_little() -> None:
    """Its own hiccup looks like a queue; that little was sent must not be taken for what the line carries."""
    line = Line(SocketRate(12_000_000), 50_000_000, 0.005)
    line.run(2.0, share=0.1)
    line.free_at = line.now + 0.1
    line.run(0.5, share=0.1)
    assert line.rate.target_bitrate > 0.6 * websocket.START_BITRATE


def test_a_lying_device_moves_the_rate_within_its_limits() -> None:
    rate = SocketRate(12_000_000)
    for number in range(1, 400):
        rate.on_sent(number, 20_000, number * 0.03)
        rate.on_acknowledgement(number, (-1) ** number * 1e12, number * 0.03 + 0.01)
        assert MIN_TARGET_BITRATE <= rate.target_bitrate <= 12_000_000
    assert not rate.on_acknowledgement(5, 0.0, 20.0)
    assert not rate.on_acknowledgement(4_000_000_000, 0.0, 20.0)


class Handler:
    def __init__(self) -> None:
        self.controls: list[str] = []
        self.poses: list[bytes] = []
        self.closed: list[str] = []
        self.keyframe_requests = 0
        self.connected = asyncio.Event()

    def on_control(self, text: str) -> None:
        self.controls.append(text)

    def on_pose(self, data: bytes) -> None:
        self.poses.append(data)

    def on_connected(self) -> None:
        self.connected.set()

    def on_keyframe_request(self) -> None:
        self.keyframe_requests += 1

    def on_bitrate(self, bits_per_second: int) -> None:
        pass

    def on_closed(self, reason: str) -> None:
        self.closed.append(reason)


@dataclass
class Channel:
    """A WebSocket in memory. While ``blocked``, nothing is taken, as from a device that does not read."""

    incoming: asyncio.Queue[str | bytes | int] = field(default_factory=asyncio.Queue)
    sent: list[str | bytes] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> str | bytes:
        message = await self.incoming.get()
        if isinstance(message, int):
            raise ChannelClosed(message)
        return message

    async def send(self, message: str | bytes) -> None:
        await self.open.wait()
        self.sent.append(message)

    async def close(self, code: int) -> None:
        self.closed.append(code)

    def pictures(self) -> list[PictureRecord]:
        return [socket_stream.decode_picture(item) for item in self.sent if isinstance(item, bytes) and item[0] == 240]


@dataclass
class Rig:
    channel: Channel
    handler: Handler
    device: WebSocketDevice
    task: asyncio.Task[None]
    time: list[float]


@pytest.fixture
async def rig() -> Rig:
    time = [50.0]
    channel, handler = Channel(), Handler()
    channel.open.set()
    device = WebSocketDevice(channel, handler, clock=lambda: time[0])
    rig = Rig(channel, handler, device, asyncio.create_task(device.run()), time)
    async with asyncio.timeout(60):
        await handler.connected.wait()
    yield rig
    await device.close()
    await rig.task


def frame(pts: int, *, keyframe: bool = False, size: int = 100) -> EncodedFrame:
    return EncodedFrame(b"\0\0\0\1" + b"x" * size, pts, keyframe, 0.0, 0.0)


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_pictures_records_and_messages_leave_in_order(rig: Rig, eventually: Eventually) -> None:
    rig.device.send_video(frame(0))
    await eventually(lambda: rig.handler.keyframe_requests == 1)
    assert rig.channel.sent == []
    rig.device.send_control("hello")
    rig.device.send_frame_record(b"\2record")
    rig.device.send_video(frame(3000, keyframe=True))
    rig.device.send_video(frame((1 << 32) + 6000))
    await eventually(lambda: len(rig.channel.sent) == 4)
    assert rig.channel.sent[:2] == ["hello", b"\2record"]
    first, second = rig.channel.pictures()
    assert (first.number, first.rtp_timestamp, first.keyframe) == (1, 3000, True)
    assert (second.number, second.rtp_timestamp, second.keyframe) == (2, 6000, False)
    assert rig.device.backlog == 0


async def test_what_a_device_says_arrives(rig: Rig, eventually: Eventually) -> None:
    rig.channel.incoming.put_nowait("text")
    rig.channel.incoming.put_nowait(b"\1pose")
    rig.channel.incoming.put_nowait(socket_stream.encode_keyframe_request())
    rig.channel.incoming.put_nowait(socket_stream.encode_keyframe_request())
    await eventually(lambda: rig.device.statistics.keyframes_asked_for == 2)
    assert rig.handler.controls == ["text"]
    assert rig.handler.poses == [b"\1pose"]
    assert rig.handler.keyframe_requests == 1, "a second request within 0.3 s"


async def test_a_picture_that_stays_under_way_stops_the_drawing(rig: Rig, eventually: Eventually) -> None:
    rig.device.send_video(frame(0, keyframe=True))
    await eventually(lambda: len(rig.channel.sent) == 1)
    assert rig.device.backlog == 0
    rig.time[0] += 0.6
    assert rig.device.backlog >= 2
    rig.channel.incoming.put_nowait(socket_stream.encode_acknowledgement(Acknowledgement(1, 77)))
    await eventually(lambda: rig.device.backlog == 0)
    assert rig.device.statistics.round_trip_seconds == pytest.approx(0.6)


async def test_a_device_that_does_not_read_is_bounded(rig: Rig, eventually: Eventually) -> None:
    rig.channel.open.clear()
    rig.device.send_video(frame(0, keyframe=True))
    rig.device.send_video(frame(3000))
    await eventually(lambda: rig.device.backlog >= 2)
    for _ in range(2000):
        rig.device.send_frame_record(b"\2" + b"r" * 99)
    assert rig.device._urgent_bytes <= websocket.MAX_RECORD_BACKLOG_BYTES + 100
    for _ in range(50):
        rig.device.send_control("x" * 100_000)
    assert rig.handler.closed == [Result.CONNECTION_LOST]
    assert rig.device._urgent_bytes <= websocket.MAX_CONTROL_BACKLOG_BYTES


async def test_a_device_that_acknowledges_nothing_is_let_go(rig: Rig, eventually: Eventually) -> None:
    rig.device.send_video(frame(0, keyframe=True))
    await eventually(lambda: len(rig.channel.sent) == 1)
    rig.time[0] += websocket.STALLED_SECONDS + 1
    await eventually(lambda: rig.handler.closed == [Result.CONNECTION_LOST])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xf0" + b"x" * 30,
        b"\xf1\1",
        b"\xf1\2" + bytes(14),
        b"\xf2\1\0",
        b"\xff" * 64,
    ],
)
async def test_garbage_ends_the_connection(rig: Rig, eventually: Eventually, message: bytes) -> None:
    rig.channel.incoming.put_nowait(message)
    await eventually(lambda: rig.handler.closed == [Result.PROTOCOL_ERROR])


async def test_a_flood_ends_the_connection(rig: Rig, eventually: Eventually) -> None:
    for _ in range(websocket.MAX_MESSAGES_PER_SECOND + 1):
        rig.channel.incoming.put_nowait("x")
    await eventually(lambda: rig.handler.closed == [Result.PROTOCOL_ERROR])
    assert len(rig.handler.controls) == websocket.MAX_MESSAGES_PER_SECOND


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, Result.DISCONNECT_REQUEST), (1001, Result.DISCONNECT_REQUEST), (1006, Result.CONNECTION_LOST)],
)
async def test_how_it_ended_is_told(rig: Rig, eventually: Eventually, code: int, reason: Result) -> None:
    rig.channel.incoming.put_nowait(code)
    await eventually(lambda: rig.handler.closed == [reason])
    await rig.device.close()
    await rig.task
    assert rig.channel.closed == [1000]
    assert not rig.device.connected


async def test_messages_that_wait_still_leave_at_the_end(rig: Rig) -> None:
    rig.device.send_control("the end")
    await rig.device.close()
    await rig.task
    assert rig.channel.sent == ["the end"]
    rig.device.send_control("too late")
    rig.device.send_video(frame(0, keyframe=True))
    await asyncio.sleep(0)
    assert rig.channel.sent == ["the end"]


def test_records_of_other_kinds_and_versions_are_refused() -> None:
    picture = socket_stream.encode_picture(PictureRecord(7, 9, True, b"data"))
    assert socket_stream.decode_picture(picture) == PictureRecord(7, 9, True, b"data")
    for damaged in (picture[:12], b"", b"\xf1" + picture[1:]):
        with pytest.raises(FarframeError) as caught:
            socket_stream.decode_picture(damaged)
        assert caught.value.result is Result.PROTOCOL_ERROR
    with pytest.raises(FarframeError) as caught:
        socket_stream.decode_picture(b"\xf0\2" + picture[2:])
    assert caught.value.result is Result.PROTOCOL_VERSION_MISMATCH


def test_tokens_stand_among_the_subprotocols() -> None:
    assert socket_stream.token_of(socket_stream.subprotocols("a.b.c")) == "a.b.c"
    assert socket_stream.token_of(["farframe.1"]) == ""
    assert socket_stream.token_of(["chat", "farframe.bearer.a"]) is None
