"""A sender, a receiver and the line between them on a simulated clock: minutes of weather in a second, all alike."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aiortc.rtp import RTCP_PSFB_PLI, RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket

from farframe.stream.encoder import EncodedFrame
from farframe.stream.feedback import FeedbackBuilder
from farframe.stream.flexfec import FlexFecDecoder
from farframe.stream.jitter import Assembly, FrameAssembler
from farframe.stream.negotiation import OFFERED_CODEC
from farframe.stream.packets import blank_extensions, original_packet, parse_packet
from farframe.stream.sender import VideoSender

FEEDBACK_SECONDS = 0.05
FRAMES_PER_SECOND = 30


class _Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class SimulatedClock:
    """Time that passes when :meth:`run` says so, and callbacks in its order."""

    def __init__(self) -> None:
        self.now = 100.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, _Handle, Callable[..., object], tuple[object, ...]]] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Any:
        handle = _Handle()
        heapq.heappush(self._due, (self.now + max(delay, 0.0), next(self._order), handle, callback, args))
        return handle

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            at, _, handle, callback, args = heapq.heappop(self._due)
            self.now = at
            if not handle.cancelled:
                callback(*args)
        self.now = end


@dataclass
class Line:
    """One direction: ``loses`` is asked for each packet (its index and size), before the queue."""

    clock: SimulatedClock
    deliver: Callable[[bytes], None]
    bits_per_second: float | None = None
    queue_seconds: float = 0.2
    delay_seconds: float = 0.0
    jitter: Callable[[], float] = lambda: 0.0
    loses: Callable[[int], bool] = lambda index: False
    down: bool = False
    reorders: bool = False
    carried: int = 0
    dropped: int = 0
    queue_delays: list[tuple[float, float]] = field(default_factory=list)
    _free_at: float = 0.0
    _last_arrival: float = 0.0
    _index: int = 0

    def send(self, data: bytes) -> None:
        index, self._index = self._index, self._index + 1
        now = self.clock.now
        if self.down or self.loses(index):
            self.dropped += 1
            return
        at = now
        if self.bits_per_second is not None:
            self._free_at = max(self._free_at, now)
            if self._free_at - now > self.queue_seconds:
                self.dropped += 1
                return
            self._free_at += (len(data) + 40) * 8 / self.bits_per_second
            at = self._free_at
        self.queue_delays.append((now, at - now))
        at += self.delay_seconds + self.jitter()
        if not self.reorders:
            at = max(at, self._last_arrival)
            self._last_arrival = at
        self.carried += 1
        self.clock.call_later(at - now, self.deliver, data)


@dataclass
class Shown:
    """A frame that arrived whole."""

    index: int
    sent_at: float
    arrived_at: float


class SimulatedStream:
    """A :class:`VideoSender` with a model of an encoder, a line either way, and what the Python receiver does."""

    def __init__(
        self,
        *,
        seed: int = 1,
        start_bitrate: int = 6_000_000,
        max_bitrate: int = 12_000_000,
        receiver_clock: Callable[[float], float] = lambda now: now,
        takes_parities: bool = True,
        repeats: bool = True,
    ) -> None:
        """``takes_parities``: forward error correction is agreed. ``repeats``: what is sent again arrives."""
        self.clock = SimulatedClock()
        self._random = random.Random(seed)
        self._receiver_clock = receiver_clock
        self.down = Line(self.clock, self._arrived)
        self.back = Line(self.clock, self._reported)
        self.content_bitrate = 100_000_000.0
        """What the picture would take at most: little for a still one."""
        self.overshoot = 1.0
        """By what the encoder's frames are larger than it was told."""
        self.frames_per_second = float(FRAMES_PER_SECOND)
        self.shown: list[Shown] = []
        self.targets: list[tuple[float, int]] = []
        self.keyframes = 0
        self.garbage: list[bytes] = []
        self.feedback_twice = False
        self._keyframe_wanted = True
        self._sent_at: list[float] = []
        self._assembler = FrameAssembler()
        self._feedback = FeedbackBuilder()
        self._repeats = repeats
        self._codec = OFFERED_CODEC if takes_parities else replace(OFFERED_CODEC, protection_type=None)
        self.sender = VideoSender(
            self._codec,
            max_bitrate=max_bitrate,
            start_bitrate=start_bitrate,
            send_rtp=self.down.send,
            send_rtcp=lambda data: None,
            on_keyframe_request=self._wish_keyframe,
            on_bitrate=lambda bits: None,
            clock=self.clock,
            wall_clock=self.clock,
            chooser=random.Random(seed),
        )
        changing = (self._codec.transport_sequence_id, self._codec.abs_send_time_id)
        self.protection = FlexFecDecoder(self.sender.ssrc, lambda data: blank_extensions(data, changing))
        assert self.sender.congestion is not None
        self.congestion = self.sender.congestion
        self.sender.start(self.clock)
        self.clock.call_later(0.0, self._draw)
        self.clock.call_later(FEEDBACK_SECONDS, self._feed_back)
        self.clock.call_later(0.02, self._poll)
        self.clock.call_later(0.05, self._sample)

    def run(self, seconds: float) -> None:
        self.clock.run(seconds)

    # The server's side

    def _wish_keyframe(self) -> None:
        self._keyframe_wanted = True

    def _draw(self) -> None:
        self.clock.call_later(1 / self.frames_per_second, self._draw)
        if self.sender.queued_frames >= 2:
            return
        rate = min(self.sender.target_bitrate, self.content_bitrate)
        keyframe, self._keyframe_wanted = self._keyframe_wanted, False
        size = self.overshoot * rate / 8 / FRAMES_PER_SECOND * self._random.uniform(0.75, 1.25)
        if keyframe:
            self.keyframes += 1
            size = max(5 * size, 12_000)
        body = self._random.randbytes(max(int(size), 20)).replace(b"\0", b"\1")
        data = b"\0\0\0\1\x41" + body
        if keyframe:
            data = b"\0\0\0\1\x67abcd\0\0\0\1\x68ab\0\0\0\1\x65" + body
        index = len(self._sent_at)
        self._sent_at.append(self.clock.now)
        self.sender.send(EncodedFrame(data, index * 3000, keyframe, 0.0, 0.0))

    def _reported(self, data: bytes) -> None:
        self.sender.handle_rtcp(data)

    def _sample(self) -> None:
        self.clock.call_later(0.05, self._sample)
        self.targets.append((self.clock.now, self.sender.target_bitrate))

    # The device's side

    def _arrived(self, data: bytes) -> None:
        now = self._receiver_clock(self.clock.now)
        codec = self._codec
        packet = parse_packet(data, codec.abs_send_time_id, codec.transport_sequence_id)
        assert packet.transport_sequence is not None
        self._feedback.add(packet.transport_sequence, now)
        restored = []
        if packet.payload_type == codec.protection_type:
            restored = self.protection.add_parity(packet.sequence_number, packet.payload)
        else:
            if packet.payload_type == codec.retransmission_type:
                if not self._repeats:
                    return
                data = original_packet(data, packet, codec.payload_type, self.sender.ssrc)
                packet = parse_packet(data)
            restored = self.protection.add_packet(packet.sequence_number, data)
            self._handle(self._assembler.push(packet, self.clock.now))
        for _, data in restored:
            self._handle(self._assembler.push(parse_packet(data), self.clock.now))

    def _handle(self, assembly: Assembly) -> None:
        for frame in assembly.frames:
            index = frame.timestamp // 3000
            self.shown.append(Shown(index, self._sent_at[index], self.clock.now))
        if assembly.missing:
            packet = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=self.sender.ssrc)
            packet.lost = assembly.missing
            self.back.send(bytes(packet))
        if assembly.keyframe_needed:
            self.back.send(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=self.sender.ssrc)))

    def _poll(self) -> None:
        self.clock.call_later(0.02, self._poll)
        if self._sent_at:
            self._assembler.round_trip_seconds = 2 * self.down.delay_seconds
            if self._assembler._next is not None:
                self._handle(self._assembler.poll(self.clock.now))

    def _feed_back(self) -> None:
        self.clock.call_later(FEEDBACK_SECONDS, self._feed_back)
        report = self._feedback.build(1, self.sender.ssrc, self._receiver_clock(self.clock.now))
        if report is not None:
            for _ in range(1 + self.feedback_twice):
                self.back.send(report)
        for data in self.garbage:
            self.back.send(data)

    # What came of it

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time between two frames that arrived within these seconds of the clock, or around them."""
        times = [frame.arrived_at for frame in self.shown]
        inside = [at for at in times if since <= at <= until]
        before = max((at for at in times if at < since), default=since)
        marks = [before, *inside, until]
        return max(later - earlier for earlier, later in itertools.pairwise(marks))

    def latencies(self, since: float, until: float) -> list[float]:
        """Sorted seconds from handing a frame over to its last packet's arrival."""
        return sorted(f.arrived_at - f.sent_at for f in self.shown if since <= f.sent_at <= until)

    def mean_target(self, since: float, until: float) -> float:
        values = [rate for at, rate in self.targets if since <= at <= until]
        return sum(values) / len(values)

    def longest_queue(self, since: float, until: float) -> float:
        return max((delay for at, delay in self.down.queue_delays if since <= at <= until), default=0.0)
