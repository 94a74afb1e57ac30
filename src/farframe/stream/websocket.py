"""A device that came by one WebSocket, where networks let nothing but HTTPS through.

    control text  ┐                                      ┌ control text, poses
    frame records ┼► urgent ─┐                            │ acknowledgements ► SocketRate ► target rate, backlog
    pictures      ┘► pictures ┴► one writer ► socket ► ... └ keyframe requests

TCP delivers all or nothing, so nothing is ever dropped once it has been handed over; what keeps the delay small is to
hand over less. Two things say how much a line carries:

* every picture is acknowledged by the device with the time at which it had arrived. What its way took beyond the
  shortest way of the last half minute is what lies in queues; the time from the arrival of the picture before it, or
  from its own start where that was later, is what the line worked on it. Bytes by that time are what the line carries,
  and that time by all time says how much room it has (:class:`SocketRate`: the delay-based control of
  draft-ietf-rmcat-gcc-02 and the packet trains of RFC 5136, with pictures for packets);
* while a picture is under way for too long, or pictures wait in front of the socket, :attr:`WebSocketDevice.backlog`
  tells the frame loop to draw none. A frame that was not drawn costs nothing; the next one shows the newest pose.

The kernel is told to keep little that it has not sent (``TCP_NOTSENT_LOWAT``), for what lies there is late already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from farframe.protocol import socket_stream
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.socket_stream import (
    ACKNOWLEDGEMENT_TYPE,
    FIRST_OWN_TYPE,
    KEYFRAME_REQUEST_TYPE,
    MAX_DEVICE_MESSAGE_BYTES,
    NORMAL_CLOSE_CODES,
    PictureRecord,
)
from farframe.stream.device import MAX_BITRATE, DeviceHandler
from farframe.stream.encoder import EncodedFrame
from farframe.stream.sender import SenderStatistics
from farframe.stream.submission import FrameInbox

__all__ = ["ChannelClosed", "MessageChannel", "SocketRate", "WebSocketDevice", "limit_unsent"]

logger = logging.getLogger(__name__)

START_BITRATE = 6_000_000
MIN_TARGET_BITRATE = 250_000
MAX_CONTROL_BACKLOG_BYTES = 4 * 1024 * 1024
MAX_RECORD_BACKLOG_BYTES = 16 * 1024
MAX_MESSAGES_PER_SECOND = 1000
"""Poses, acknowledgements and requests of a device at 120 frames a second are far fewer."""

MAX_UNACKNOWLEDGED = 60
STALLED_SECONDS = 10.0
"""A device that acknowledges no picture for so long does not read, whatever else it says."""

MAX_UNDERWAY_SECONDS = 0.15
"""What a picture may take beyond the shortest way before no further one is drawn."""

FIRST_UNDERWAY_SECONDS = 0.5
"""The same before the first acknowledgement, when nothing is known of the way."""

KEYFRAME_INTERVAL_SECONDS = 0.3
NOT_SENT_BYTES = 32 * 1024
CLOSE_SECONDS = 1.0

BASE_WINDOW_SECONDS = 15.0
"""The shortest way is that of the present and the former window, so that it follows clocks that drift apart."""

DELIVERY_WINDOW_SECONDS = 0.5
QUEUE_CONGESTED_SECONDS = 0.06
QUEUE_CALM_SECONDS = 0.04
BUSY_SHARE = 0.8
ROOMY_SHARE = 0.6
BACK_OFF = 0.85
CUT_PAUSE_SECONDS = 0.2
CLIMB_PER_SECOND = 0.08
FAST_CLIMB_PER_SECOND = 0.4
FAST_CLIMB_AFTER_SECONDS = 1.5
USED_SHARE = 0.4
"""A rate that was not used says nothing about a higher one."""

_CLIMB_STEP_SECONDS = 0.5
_BITRATE_STEP = 0.02


class ChannelClosed(Exception):  # noqa: N818 - an event: the other side is gone
    """A WebSocket that ended; ``code`` as in RFC 6455, 1006 if it broke."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the WebSocket ended with code {code}")
        self.code = code


class MessageChannel(Protocol):
    """A WebSocket that is open, from whatever makes WebSockets."""

    async def receive(self) -> str | bytes:
        """The next message. Raises :class:`ChannelClosed`."""

    async def send(self, message: str | bytes) -> None:
        """Send a message; returns when little of it still waits. Raises :class:`ChannelClosed`."""

    async def close(self, code: int) -> None:
        """Close it; what waits is still sent, as far as the other side takes it."""


def limit_unsent(listener: socket.socket) -> None:
    """Have connections that come to ``listener`` keep little unsent in the kernel, where that can be asked for."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and listener.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, option, NOT_SENT_BYTES)


@dataclass(slots=True)
class _Underway:
    number: int
    size_bytes: int
    sent_at: float


@dataclass(slots=True)
class _Arrived:
    at: float
    size_bytes: int
    busy_seconds: float


class _Shortest:
    """The least of the values of the last one to two windows of :data:`BASE_WINDOW_SECONDS`."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._next: float | None = None
        self._since = 0.0

    def add(self, value: float, now: float) -> float:
        """Take a value; returns the least."""
        if self.value is None or self._next is None:
            self.value = self._next = value
            self._since = now
        elif now - self._since > BASE_WINDOW_SECONDS:
            self.value, self._next = self._next, value
            self._since = now
        self.value = min(self.value, value)
        self._next = min(self._next, value)
        return self.value


class SocketRate:
    """How much the line carries, by what a device acknowledges. Seconds of one monotonic clock; no I/O.

    The device's clock is its own: only differences of its times count, and hostile ones only harm itself.
    """

    def __init__(self, ceiling: int, *, start: int = START_BITRATE) -> None:
        self._ceiling = ceiling
        self._target = float(min(start, ceiling))
        self._underway: deque[_Underway] = deque()
        self._arrived: deque[_Arrived] = deque(maxlen=256)
        self._sent: deque[tuple[float, int]] = deque()
        self._shortest_way = _Shortest()
        self._shortest_round_trip = _Shortest()
        self._last_cut = float("-inf")
        self._last_climb: float | None = None
        self.queue_seconds = 0.0
        """What the newest acknowledged picture spent in queues."""
        self.round_trip_seconds: float | None = None
        """From handing a picture over to its acknowledgement, the newest."""

    @property
    def target_bitrate(self) -> int:
        """Bits per second to aim at."""
        return int(self._target)

    @property
    def oldest_sent_at(self) -> float | None:
        """When the oldest picture that is still under way was handed over."""
        return self._underway[0].sent_at if self._underway else None

    @property
    def underway(self) -> int:
        """Pictures that are not acknowledged yet."""
        return len(self._underway)

    @property
    def patience_seconds(self) -> float:
        """How long a picture may be under way before the line counts as full."""
        shortest = self._shortest_round_trip.value
        return FIRST_UNDERWAY_SECONDS if shortest is None else shortest + MAX_UNDERWAY_SECONDS

    def on_sent(self, number: int, size_bytes: int, now: float) -> None:
        """A picture is handed to the socket."""
        self._underway.append(_Underway(number, size_bytes, now))
        self._sent.append((now, size_bytes))
        while self._sent[0][0] < now - 1.0:
            self._sent.popleft()

    def on_acknowledgement(self, number: int, device_seconds: float, now: float) -> bool:
        """Pictures up to ``number`` arrived at ``device_seconds`` of the device's clock. False if that cannot be."""
        newest: _Underway | None = None
        size_bytes = 0
        first_sent_at = self._underway[0].sent_at if self._underway else 0.0
        known = any(picture.number == number for picture in self._underway)
        while known and newest is None:
            picture = self._underway.popleft()
            size_bytes += picture.size_bytes
            if picture.number == number:
                newest = picture
        if newest is None:
            return False
        self.round_trip_seconds = now - newest.sent_at
        self._shortest_round_trip.add(self.round_trip_seconds, now)
        way = device_seconds - newest.sent_at
        shortest = self._shortest_way.add(way, now)
        self.queue_seconds = way - shortest
        begun = first_sent_at + shortest
        if self._arrived:
            begun = max(begun, self._arrived[-1].at)
        self._arrived.append(_Arrived(device_seconds, size_bytes, max(0.0, device_seconds - begun)))
        while self._arrived[0].at < device_seconds - DELIVERY_WINDOW_SECONDS:
            self._arrived.popleft()
        self._steer(now)
        return True

    def _steer(self, now: float) -> None:
        elapsed = 0.0 if self._last_climb is None else min(now - self._last_climb, _CLIMB_STEP_SECONDS)
        self._last_climb = now
        capacity = self.carried_bitrate
        share = self.busy_share
        if self.queue_seconds > QUEUE_CONGESTED_SECONDS:
            # A device that paused for a moment looks like a queue, but not like a line that was busy all along.
            if capacity is not None and share > BUSY_SHARE and now - self._last_cut > CUT_PAUSE_SECONDS:
                floor = float(min(MIN_TARGET_BITRATE, self._ceiling))
                self._target = max(min(self._target, BACK_OFF * capacity), floor)
                self._last_cut = now
        elif self.queue_seconds < QUEUE_CALM_SECONDS and self._sent_bitrate(now) > USED_SHARE * self._target:
            roomy = share < ROOMY_SHARE and now - self._last_cut > FAST_CLIMB_AFTER_SECONDS
            climb = FAST_CLIMB_PER_SECOND if roomy else CLIMB_PER_SECOND if share < BUSY_SHARE else 0.0
            self._target = min(self._target * (1 + climb * elapsed), float(self._ceiling))

    def _sent_bitrate(self, now: float) -> int:
        return sum(size for at, size in self._sent if at > now - 1.0) * 8

    @property
    def carried_bitrate(self) -> int | None:
        """Bits per second that the line carries while it works; ``None`` before it was seen working."""
        busy = sum(item.busy_seconds for item in self._arrived)
        return int(sum(item.size_bytes for item in self._arrived) * 8 / busy) if busy > 0.001 else None

    @property
    def busy_share(self) -> float:
        """How much of the newest half second the line worked, 0 to 1."""
        if not self._arrived:
            return 0.0
        first, last = self._arrived[0], self._arrived[-1]
        span = last.at - first.at + first.busy_seconds
        return min(1.0, sum(item.busy_seconds for item in self._arrived) / max(span, 0.1))


class WebSocketDevice:
    """One device's connection over a WebSocket; fulfils ``stream.device.Device``. :meth:`run` is its life."""

    way = "websocket"

    def __init__(
        self,
        channel: MessageChannel,
        handler: DeviceHandler,
        *,
        max_bitrate: int = MAX_BITRATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.statistics = SenderStatistics()
        self._channel = channel
        self._handler = handler
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._rate = SocketRate(max_bitrate, start=min(START_BITRATE, max_bitrate))
        self._told_bitrate = self._rate.target_bitrate
        self._urgent: deque[str | bytes] = deque()
        self._urgent_bytes = 0
        self._pictures: deque[EncodedFrame] = deque()
        self._something = asyncio.Event()
        self._finished = asyncio.Event()
        self._sending = False
        self._inbox = FrameInbox(
            self._loop,
            accepts=lambda: self.connected,
            take=self._queue_picture,
            ask_for_keyframe=lambda: self._call(self._handler.on_keyframe_request),
        )
        self._number = 0
        self._oldest_sent_at: float | None = None
        self._patience = FIRST_UNDERWAY_SECONDS
        self._last_keyframe_request = float("-inf")
        self._running = False
        self._closed = False
        self._ended = False
        self._close_code = 1000
        self._bytes_sent = 0
        self._last_heard = clock()
        self._second_from = clock()
        self._messages_this_second = 0

    @property
    def connected(self) -> bool:
        """Whether video can be sent now."""
        return self._running and not self._closed and not self._ended

    @property
    def last_heard(self) -> float:
        """When the device sent its last message, in ``time.monotonic`` seconds."""
        return self._last_heard

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the line carries, by the device's acknowledgements."""
        return self._rate.target_bitrate

    @property
    def bytes_sent(self) -> int:
        """Bytes of pictures that were handed to the socket."""
        return self._bytes_sent

    @property
    def backlog(self) -> int:
        """Frames that wait; 2 more while a picture has been under way for longer than the line should take."""
        waiting = self._inbox.waiting + len(self._pictures) + self._sending
        oldest = self._oldest_sent_at
        if oldest is not None and self._clock() - oldest > self._patience:
            waiting += 2
        return waiting

    async def run(self) -> None:
        """Carry messages both ways until the device goes, or :meth:`close`. Never raises for what a device does."""
        self._running = True
        writer = asyncio.create_task(self._write(), name="farframe-websocket-write")
        reader = asyncio.create_task(self._read(), name="farframe-websocket-read")
        watch = asyncio.create_task(self._watch(), name="farframe-websocket-watch")
        self._call(self._handler.on_connected)
        try:
            await self._finished.wait()
        finally:
            for task in (writer, reader, watch):
                task.cancel()
            await asyncio.gather(writer, reader, watch, return_exceptions=True)
            self._running = False
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._flush()
                    await self._channel.close(self._close_code)

    async def close(self) -> None:
        """End the connection; messages that wait are still sent, pictures are not. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._pictures.clear()
        self._finished.set()

    # Out

    def send_video(self, frame: EncodedFrame) -> None:
        """Send a frame, from any thread; see :attr:`backlog`."""
        self._inbox.submit(frame)

    def _queue_picture(self, frame: EncodedFrame) -> None:
        self._pictures.append(frame)
        self._something.set()

    def send_control(self, text: str) -> None:
        """Send a control message. A device that does not read them is let go."""
        if self._closed or self._ended:
            return
        size = len(text.encode())
        if self._urgent_bytes + size > MAX_CONTROL_BACKLOG_BYTES:
            self._end(Result.CONNECTION_LOST)
            return
        self._queue_urgent(text, size)

    def send_frame_record(self, data: bytes) -> None:
        """Send a frame's record; dropped when the connection does not keep up."""
        if self.connected and self._urgent_bytes <= MAX_RECORD_BACKLOG_BYTES:
            self._queue_urgent(data, len(data))

    def _queue_urgent(self, message: str | bytes, size: int) -> None:
        self._urgent.append(message)
        self._urgent_bytes += size
        self._something.set()

    async def _write(self) -> None:
        try:
            while True:
                await self._flush()
                if self._pictures:
                    await self._send_picture()
                    continue
                self._something.clear()
                await self._something.wait()
        except ChannelClosed as closed:
            self._gone(closed)

    async def _flush(self) -> None:
        while self._urgent:
            message = self._urgent[0]
            await self._channel.send(message)
            self._urgent.popleft()
            self._urgent_bytes -= len(message.encode()) if isinstance(message, str) else len(message)

    async def _send_picture(self) -> None:
        self._sending = True
        frame = self._pictures.popleft()
        self._number += 1
        message = socket_stream.encode_picture(PictureRecord(self._number, frame.pts, frame.keyframe, frame.data))
        self._rate.on_sent(self._number, len(message), self._clock())
        self._note_underway()
        try:
            await self._channel.send(message)
        finally:
            self._sending = False
        self._bytes_sent += len(message)
        self.statistics.frames_sent += 1
        self.statistics.bytes_sent += len(message)
        if self._rate.underway > MAX_UNACKNOWLEDGED * 4:
            self._end(Result.CONNECTION_LOST)

    def _note_underway(self) -> None:
        oldest = self._rate.oldest_sent_at
        # Very many at once is no line that is merely long.
        crowded = self._rate.underway > MAX_UNACKNOWLEDGED
        self._oldest_sent_at = float("-inf") if crowded else oldest
        self._patience = self._rate.patience_seconds

    async def _watch(self) -> None:
        """Let a device go that reads nothing, however lively it is otherwise."""
        while True:
            await asyncio.sleep(1.0)
            oldest = self._rate.oldest_sent_at
            if oldest is not None and self._clock() - oldest > STALLED_SECONDS:
                self._end(Result.CONNECTION_LOST)

    # In

    async def _read(self) -> None:
        try:
            while not self._ended:
                message = await self._channel.receive()
                self._last_heard = self._clock()
                if self._too_many(self._last_heard) or not self._take(message):
                    self._close_code = 1008
                    self._end(Result.PROTOCOL_ERROR)
        except ChannelClosed as closed:
            self._gone(closed)

    def _too_many(self, now: float) -> bool:
        if now - self._second_from >= 1.0:
            self._second_from, self._messages_this_second = now, 0
        self._messages_this_second += 1
        return self._messages_this_second > MAX_MESSAGES_PER_SECOND

    def _take(self, message: str | bytes) -> bool:
        """Work on a message; false if it is none of this protocol's."""
        if isinstance(message, str):
            self._call(self._handler.on_control, message)
            return True
        if not message or len(message) > MAX_DEVICE_MESSAGE_BYTES:
            return False
        try:
            if message[0] < FIRST_OWN_TYPE:
                self._call(self._handler.on_pose, message)
            elif message[0] == ACKNOWLEDGEMENT_TYPE:
                self._acknowledged(socket_stream.decode_acknowledgement(message))
            elif message[0] == KEYFRAME_REQUEST_TYPE:
                socket_stream.decode_keyframe_request(message)
                self._keyframe_requested()
            else:
                return False
        except FarframeError:
            return False
        return True

    def _acknowledged(self, record: socket_stream.Acknowledgement) -> None:
        # A number that was acknowledged before, or never sent, is ignored.
        if not self._rate.on_acknowledgement(record.number, record.device_time_us / 1e6, self._clock()):
            return
        self.statistics.round_trip_seconds = self._rate.round_trip_seconds
        carried = self._rate.carried_bitrate
        self.statistics.estimated_bitrate = carried
        self._note_underway()
        target = self._rate.target_bitrate
        if abs(target - self._told_bitrate) > _BITRATE_STEP * self._told_bitrate:
            self._told_bitrate = target
            self._call(self._handler.on_bitrate, target)

    def _keyframe_requested(self) -> None:
        now = self._clock()
        self.statistics.keyframes_asked_for += 1
        if now - self._last_keyframe_request >= KEYFRAME_INTERVAL_SECONDS:
            self._last_keyframe_request = now
            self._call(self._handler.on_keyframe_request)

    # The end

    def _gone(self, closed: ChannelClosed) -> None:
        self._end(Result.DISCONNECT_REQUEST if closed.code in NORMAL_CLOSE_CODES else Result.CONNECTION_LOST)

    def _end(self, reason: Result) -> None:
        """Tell the handler, once; closing is the server's part, and follows."""
        if self._closed or self._ended:
            return
        self._call(self._handler.on_closed, str(reason))
        self._ended = True

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call the handler, unless the server has closed; its errors must not end the transport."""
        if self._closed or self._ended:
            return
        try:
            callback(*arguments)
        except Exception:
            logger.exception("a device handler failed")
