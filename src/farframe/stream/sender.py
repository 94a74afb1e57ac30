"""Encoded frames out as RTP, and what comes back: NACK, PLI, FIR, REMB, receiver reports.

Runs on the event loop's thread; never blocks and never awaits. RTP time stamps begin at zero, so a packet's time stamp
is its frame's ``pts`` modulo 2^32, which is what a browser reports as ``rtpTimestamp`` for a shown frame.

Pacing: a burst of what the line carries in 50 ms (at least 12 KiB) goes out at once, the rest of a large frame at 2.5
times the target rate (at least 8 Mbit/s), so that a keyframe does not overrun a receiver's buffers. Ordinary frames fit
into the burst and are never delayed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    unpack_remb_fci,
)

from farframe.stream.encoder import EncodedFrame
from farframe.stream.negotiation import VideoCodec
from farframe.stream.packets import build_packet, one_byte_extension, packetize
from farframe.stream.rate import RateController, RetransmissionBudget

HISTORY_PACKETS = 2048
KEYFRAME_INTERVAL_SECONDS = 0.3
"""Least time between two keyframes that a device asks for."""

REPORT_INTERVAL_SECONDS = 1.0
BURST_SECONDS = 0.05
MIN_BURST_BYTES = 12 * 1024
PACE_FACTOR = 2.5
MIN_PACE_BITS_PER_SECOND = 8_000_000
PACE_STEP_SECONDS = 0.002

_NTP_EPOCH_SECONDS = 2_208_988_800
"""From 1900, where NTP counts from, to 1970."""

_ROUND_TRIP_SMOOTHING = 0.15


@dataclass(slots=True)
class SenderStatistics:
    """Counts since the connection began, and the newest reports."""

    frames_sent: int = 0
    packets_sent: int = 0
    bytes_sent: int = 0
    packets_retransmitted: int = 0
    packets_asked_for: int = 0
    keyframes_asked_for: int = 0
    loss: float = 0.0
    """Share of packets lost, 0 to 1, by the newest receiver report."""
    round_trip_seconds: float | None = None
    estimated_bitrate: int | None = None
    """The device's own estimate (REMB) in bits per second."""


@dataclass(slots=True)
class _Queued:
    payload: bytes
    timestamp: int
    marker: bool


class VideoSender:
    """Sends one H.264 stream.

    ``send_rtp`` and ``send_rtcp`` take one packet each; ``on_keyframe_request`` and ``on_bitrate`` are called when the
    device needs a keyframe and when the target rate changes by more than 2 %.
    """

    def __init__(
        self,
        codec: VideoCodec,
        *,
        max_bitrate: int,
        start_bitrate: int | None = None,
        send_rtp: Callable[[bytes], None],
        send_rtcp: Callable[[bytes], None],
        on_keyframe_request: Callable[[], None],
        on_bitrate: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        chooser: random.Random | None = None,
    ) -> None:
        choose = chooser or random.Random()  # noqa: S311 - identifiers, not secrets
        self.ssrc = choose.randrange(1, 1 << 32)
        self.retransmission_ssrc = (self.ssrc + 1) & 0xFFFFFFFF
        self.statistics = SenderStatistics()
        self.rate = RateController(max_bitrate, start=start_bitrate)
        self._codec = codec
        self._send_rtp = send_rtp
        self._send_rtcp = send_rtcp
        self._on_keyframe_request = on_keyframe_request
        self._on_bitrate = on_bitrate
        self._clock = clock
        self._wall_clock = wall_clock
        # The lower half, so that the SRTP roll-over counter is never in doubt at the start.
        self._sequence_number = choose.randrange(1 << 15)
        self._retransmission_number = choose.randrange(1 << 15)
        self._history: list[tuple[int, _Queued] | None] = [None] * HISTORY_PACKETS
        self._budget = RetransmissionBudget()
        self._queue: deque[_Queued] = deque()
        self._queued_frames = 0
        self._allowance_bytes = 0.0
        self._filled_at = clock()
        self._pace_timer: asyncio.TimerHandle | None = None
        self._report_timer: asyncio.TimerHandle | None = None
        self._keyframe_timer: asyncio.TimerHandle | None = None
        self._keyframe_sent_at = float("-inf")
        self._reported_bitrate = self.rate.target_bitrate
        self._last_report: tuple[int, float] | None = None
        self._last_timestamp = 0
        self._last_wall = wall_clock()
        self._playout_delay = (
            one_byte_extension(codec.playout_delay_id, b"\0\0\0") if codec.playout_delay_id else b""
        )  # least and greatest delay of zero: show a frame as soon as it is decoded
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def queued_frames(self) -> int:
        """Frames whose last packet has not been sent yet. May be read from any thread."""
        return self._queued_frames

    def start(self) -> None:
        """Begin to report to the receiver. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._report_timer = self._loop.call_later(REPORT_INTERVAL_SECONDS, self._report)

    def stop(self) -> None:
        """End all timers and forget what is queued."""
        for timer in (self._pace_timer, self._report_timer, self._keyframe_timer):
            if timer is not None:
                timer.cancel()
        self._pace_timer = self._report_timer = self._keyframe_timer = None
        self._queue.clear()
        self._queued_frames = 0
        self._loop = None

    def send(self, frame: EncodedFrame) -> None:
        """Queue a frame and send as much as the pace allows now."""
        if self._loop is None:
            return
        payloads = packetize(frame.data)
        if not payloads:
            return
        timestamp = frame.pts & 0xFFFFFFFF
        last = len(payloads) - 1
        self._queue.extend(_Queued(payload, timestamp, index == last) for index, payload in enumerate(payloads))
        self._queued_frames += bool(payloads)
        self._last_timestamp, self._last_wall = timestamp, self._wall_clock()
        self.statistics.frames_sent += 1
        if frame.keyframe:
            self._keyframe_sent_at = self._clock()
        if self._pace_timer is None:
            self._drain()

    def _drain(self) -> None:
        self._pace_timer = None
        if self._loop is None:
            return
        now = self._clock()
        bits_per_second = max(PACE_FACTOR * self.rate.target_bitrate, MIN_PACE_BITS_PER_SECOND)
        burst = max(BURST_SECONDS * self.rate.target_bitrate / 8, MIN_BURST_BYTES)
        self._allowance_bytes = min(burst, self._allowance_bytes + (now - self._filled_at) * bits_per_second / 8)
        self._filled_at = now
        extensions = self._extensions()
        while self._queue and self._allowance_bytes > 0:
            packet = self._queue.popleft()
            self._queued_frames -= packet.marker
            number = self._sequence_number
            self._sequence_number = (number + 1) & 0xFFFF
            self._history[number % HISTORY_PACKETS] = (number, packet)
            self._transmit(
                build_packet(
                    self._codec.payload_type,
                    packet.marker,
                    number,
                    packet.timestamp,
                    self.ssrc,
                    extensions,
                    packet.payload,
                ),
                now,
            )
        if self._queue:
            self._pace_timer = self._loop.call_later(PACE_STEP_SECONDS, self._drain)

    def _transmit(self, data: bytes, now: float) -> None:
        self._send_rtp(data)
        self._allowance_bytes -= len(data)
        self.rate.on_sent(len(data), now)
        self.statistics.packets_sent += 1
        self.statistics.bytes_sent += len(data)

    def _extensions(self) -> bytes:
        if not self._codec.abs_send_time_id:
            return self._playout_delay
        fraction = int(self._wall_clock() * (1 << 18)) & 0xFFFFFF  # 6.18 fixed point seconds
        return one_byte_extension(self._codec.abs_send_time_id, fraction.to_bytes(3, "big")) + self._playout_delay

    def handle_rtcp(self, data: bytes) -> None:
        """Take a compound RTCP packet from the device; whatever is malformed or for another stream is ignored."""
        try:
            packets = RtcpPacket.parse(data)
        except Exception:  # aiortc lets struct.error and IndexError through for hostile bytes
            return
        now = self._clock()
        for packet in packets:
            if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
                self._on_reports(packet.reports, now)
            elif isinstance(packet, RtcpRtpfbPacket):
                if packet.fmt == RTCP_RTPFB_NACK and packet.media_ssrc == self.ssrc:
                    self._retransmit(packet.lost, now)
            elif isinstance(packet, RtcpPsfbPacket):
                self._on_payload_feedback(packet, now)
        self._announce_bitrate()

    def _on_reports(self, reports: list[object], now: float) -> None:
        for report in reports:
            if getattr(report, "ssrc", None) != self.ssrc:
                continue
            self.statistics.loss = report.fraction_lost / 256  # type: ignore[attr-defined]
            self.rate.on_loss(self.statistics.loss, now)
            if self._last_report is not None and report.lsr == self._last_report[0]:  # type: ignore[attr-defined]
                sample = max(now - self._last_report[1] - report.dlsr / 65536, 0.0)  # type: ignore[attr-defined]
                smoothed = self.statistics.round_trip_seconds
                self.statistics.round_trip_seconds = (
                    sample if smoothed is None else smoothed + _ROUND_TRIP_SMOOTHING * (sample - smoothed)
                )

    def _on_payload_feedback(self, packet: RtcpPsfbPacket, now: float) -> None:
        if packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
            # A PLI names our stream as its media source; a FIR does so in its entries (RFC 5104, 4.3.1).
            if packet.media_ssrc == self.ssrc or self.ssrc.to_bytes(4, "big") == packet.fci[:4]:
                self.statistics.keyframes_asked_for += 1
                self._ask_for_keyframe(now)
        elif packet.fmt == RTCP_PSFB_APP:
            try:
                bitrate, ssrcs = unpack_remb_fci(packet.fci)
            except Exception:  # other application feedback, or a truncated one
                return
            if self.ssrc in ssrcs:
                self.statistics.estimated_bitrate = bitrate
                self.rate.on_remb(bitrate, now)

    def _ask_for_keyframe(self, now: float) -> None:
        wait = self._keyframe_sent_at + KEYFRAME_INTERVAL_SECONDS - now
        if self._loop is None or self._keyframe_timer is not None:
            return
        if wait <= 0:
            self._keyframe_sent_at = now  # counts from the request, so that a burst of PLIs asks once
            self._on_keyframe_request()
        else:
            self._keyframe_timer = self._loop.call_later(wait, self._ask_later, now)

    def _ask_later(self, asked_at: float) -> None:
        self._keyframe_timer = None
        if self._keyframe_sent_at < asked_at:
            self._keyframe_sent_at = self._clock()
            self._on_keyframe_request()

    def _retransmit(self, numbers: list[int], now: float) -> None:
        self.statistics.packets_asked_for += len(numbers)
        round_trip = self.statistics.round_trip_seconds
        for number in numbers:
            entry = self._history[number % HISTORY_PACKETS]
            if entry is None or entry[0] != number:
                continue
            packet = entry[1]
            if not self._budget.allows(number, len(packet.payload), self.rate.target_bitrate, now, round_trip):
                continue
            if self._codec.retransmission_type is None:
                data = build_packet(
                    self._codec.payload_type,
                    packet.marker,
                    number,
                    packet.timestamp,
                    self.ssrc,
                    self._extensions(),
                    packet.payload,
                )
            else:
                data = build_packet(
                    self._codec.retransmission_type,
                    packet.marker,
                    self._retransmission_number,
                    packet.timestamp,
                    self.retransmission_ssrc,
                    self._extensions(),
                    number.to_bytes(2, "big") + packet.payload,
                )
                self._retransmission_number = (self._retransmission_number + 1) & 0xFFFF
            self._transmit(data, now)
            self.statistics.packets_retransmitted += 1

    def _announce_bitrate(self) -> None:
        target = self.rate.target_bitrate
        if abs(target - self._reported_bitrate) > 0.02 * self._reported_bitrate:
            self._reported_bitrate = target
            self._on_bitrate(target)

    def _report(self) -> None:
        if self._loop is None:
            return
        self._report_timer = self._loop.call_later(REPORT_INTERVAL_SECONDS, self._report)
        wall = self._wall_clock()
        ntp = int((wall + _NTP_EPOCH_SECONDS) * (1 << 32))
        # The media clock runs on between frames: what time stamp a frame of this very moment would have.
        timestamp = (self._last_timestamp + int((wall - self._last_wall) * 90_000)) & 0xFFFFFFFF
        info = RtcpSenderInfo(
            ntp_timestamp=ntp,
            rtp_timestamp=timestamp,
            packet_count=self.statistics.packets_sent & 0xFFFFFFFF,
            octet_count=self.statistics.bytes_sent & 0xFFFFFFFF,
        )
        source = RtcpSourceInfo(ssrc=self.ssrc, items=[(1, b"farframe")])
        self._last_report = ((ntp >> 16) & 0xFFFFFFFF, self._clock())
        self._send_rtcp(bytes(RtcpSrPacket(ssrc=self.ssrc, sender_info=info)) + bytes(RtcpSdesPacket(chunks=[source])))
