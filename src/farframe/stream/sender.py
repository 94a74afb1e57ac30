"""Encoded frames out as RTP, and what comes back: transport-wide feedback, NACK, PLI, FIR, REMB, receiver reports.

Runs on the event loop's thread; never blocks and never awaits. RTP time stamps begin at zero, so a packet's time stamp
is its frame's ``pts`` modulo 2^32, which is what a browser reports as ``rtpTimestamp`` for a shown frame.

The rate, the pace and how much may be on its way come from :mod:`farframe.stream.congestion` where transport-wide
feedback is agreed, else from REMB and loss (:mod:`farframe.stream.rate`). Order and pace are
:mod:`farframe.stream.pacer`'s.

Where the line loses packets and is long, parities follow each frame (:mod:`farframe.stream.protection`,
:mod:`farframe.stream.flexfec`) if the device takes them; what they are known to have restored is not sent again.

Repairing is not always the shortest way. When so much was lost that sending it again would take ``RESTART_SECONDS`` at
the rate that the line now has, or frames have waited that long, or the line was gone, what waits is thrown away and the
stream starts anew with a keyframe; packets from before a keyframe are never sent again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

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

from farframe.stream.congestion import CongestionController
from farframe.stream.delay_trend import STANDING_QUEUE_SECONDS
from farframe.stream.encoder import EncodedFrame
from farframe.stream.feedback import (
    RTCP_TRANSPORT_FEEDBACK,
    TRANSPORT_FEEDBACK_FORMAT,
    parse_feedback,
    split_compound,
)
from farframe.stream.flexfec import MAX_BLOCK_PACKETS
from farframe.stream.negotiation import VideoCodec
from farframe.stream.pacer import STEP_SECONDS, Pacer, QueuedPacket
from farframe.stream.packets import build_packet, one_byte_extension, packetize
from farframe.stream.protection import LossHistory, ProtectedBlocks, parities_for
from farframe.stream.rate import RateController, RetransmissionBudget
from farframe.stream.transmissions import PacketResult

HISTORY_PACKETS = 2048
KEYFRAME_INTERVAL_SECONDS = 0.3
"""Least time between two keyframes that a device asks for."""

REPORT_INTERVAL_SECONDS = 1.0
TICK_SECONDS = 0.04
HEARTBEAT_SECONDS = 0.1
"""Between two packets into a line that says nothing."""

RESTART_SECONDS = 0.3
RESTART_INTERVAL_SECONDS = 1.0
MAX_QUEUE_SECONDS = 0.6
"""A frame that waits longer is not sent any more."""

COLLAPSE_SHARE = 0.5
"""A rate that falls below this share at once: what is on its way has no room any more."""

DOUBLED_ABOVE_LOSS = 0.01
"""Where more is lost, what is sent again is sent twice, ``DOUBLED_AFTER_SECONDS`` apart: a second round trip costs more
than a second copy of the few packets that need it."""

DOUBLED_AFTER_SECONDS = 0.012

TAIL_SECONDS = 0.025
"""There, too, a frame's last packet goes once more so long after it, if nothing else has: what else the frame lost is
then reported, instead of being noticed with the next frame."""

MIN_FILLING_BYTES = 500
REMB_PACE_FACTOR = 2.5
REMB_MIN_PACE = 8_000_000
"""Bits per second, where only REMB tells of the line."""

UNLIMITED = 1 << 30

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
    """What the line carries in bits per second, by transport-wide feedback or by the device's own estimate (REMB)."""
    packets_filling: int = 0
    """Packets sent once more to look for free capacity, not because they were lost."""
    packets_parity: int = 0
    """Packets of forward error correction."""
    frames_dropped: int = 0
    """Frames that were not sent, because the stream started anew at a keyframe."""
    restarts: int = 0
    """How often it did."""
    queue_seconds: float = 0.0
    """How long the queue on the line is, by the newest report."""


class Timers(Protocol):
    """What a sender needs of an event loop."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Call ``callback`` in ``delay`` seconds."""


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
        self.protection_ssrc = (self.ssrc + 2) & 0xFFFFFFFF
        self.statistics = SenderStatistics()
        self.rate = RateController(max_bitrate, start=start_bitrate)
        self.congestion = (
            CongestionController(max_bitrate, start=start_bitrate) if codec.transport_sequence_id else None
        )
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
        self._parity_number = choose.randrange(1 << 15)
        self._history: list[tuple[int, QueuedPacket] | None] = [None] * HISTORY_PACKETS
        self._newest: tuple[int, QueuedPacket] | None = None
        """Not always the number before the next one: a frame that is cut off leaves a gap."""
        self._budget = RetransmissionBudget()
        self._pacer = Pacer(clock())
        self._waiting_since: deque[float] = deque()
        self._filling_back = 0
        self._losses = LossHistory()
        self._blocks = (
            ProtectedBlocks(self.ssrc) if codec.protection_type is not None and self.congestion is not None else None
        )
        self._keyframe_begin: int | None = None
        self._awaits_keyframe = False
        self._urgent = False
        self._lost: deque[tuple[float, int]] = deque()
        self._restarted_at = float("-inf")
        self._heartbeat_at = float("-inf")
        self._tail_sent = -1
        self._tick_timer: asyncio.TimerHandle | None = None
        self._pace_timer: asyncio.TimerHandle | None = None
        self._report_timer: asyncio.TimerHandle | None = None
        self._keyframe_timer: asyncio.TimerHandle | None = None
        self._keyframe_sent_at = float("-inf")
        self._reported_bitrate = self.target_bitrate
        self._last_report: tuple[int, float] | None = None
        self._last_timestamp = 0
        self._last_wall = wall_clock()
        self._playout_delay = (
            one_byte_extension(codec.playout_delay_id, b"\0\0\0") if codec.playout_delay_id else b""
        )  # least and greatest delay of zero: show a frame as soon as it is decoded
        # As they are while parities are made: the transport-wide number is not known yet, and counts as zero.
        self._blank_extensions = (
            one_byte_extension(codec.transport_sequence_id, b"\0\0") + self._playout_delay
            if codec.transport_sequence_id
            else b""
        )
        self._loop: Timers | None = None

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the encoder should aim at."""
        return (self.congestion or self.rate).target_bitrate

    @property
    def queued_frames(self) -> int:
        """Frames whose last packet has not been sent yet. May be read from any thread."""
        return self._pacer.queued_frames

    def start(self, timers: Timers | None = None) -> None:
        """Begin to report to the receiver. ``timers`` is the running event loop unless a test brings its own."""
        self._loop = timers or asyncio.get_running_loop()
        if self.congestion is not None:
            self._tick_timer = self._loop.call_later(TICK_SECONDS, self._tick)
        self._report_timer = self._loop.call_later(REPORT_INTERVAL_SECONDS, self._report)

    def stop(self) -> None:
        """End all timers and forget what is queued."""
        for timer in (self._pace_timer, self._report_timer, self._keyframe_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        self._pace_timer = self._report_timer = self._keyframe_timer = self._tick_timer = None
        self._pacer.drop_frames()
        self._loop = None

    def send(self, frame: EncodedFrame) -> None:
        """Queue a frame and send as much as the pace allows now."""
        if self._loop is None:
            return
        if self._awaits_keyframe and not frame.keyframe:
            self.statistics.frames_dropped += 1
            return
        payloads = packetize(frame.data)
        if not payloads:
            return
        now = self._clock()
        if frame.keyframe:
            # Nothing from before it is of use any more.
            if self._pacer.drop_frames():
                self._skip_number()
            self._waiting_since.clear()
            self._awaits_keyframe = False
            self._keyframe_sent_at = now
        timestamp = frame.pts & 0xFFFFFFFF
        last = len(payloads) - 1
        size = _block_size(len(payloads))
        for index, payload in enumerate(payloads):
            packet = QueuedPacket(payload, timestamp, index == last, index == 0, frame.keyframe)
            packet.closes = index == last or (index + 1) % size == 0
            self._pacer.push(packet)
        self._waiting_since.append(now)
        self._last_timestamp, self._last_wall = timestamp, self._wall_clock()
        self.statistics.frames_sent += 1
        self._look_for_capacity(now)
        if self._pace_timer is None:
            self._drain()

    def _skip_number(self) -> None:
        """A frame was cut off in the middle: a gap in the numbers keeps a receiver from joining it to the next one."""
        self._sequence_number = (self._sequence_number + 1) & 0xFFFF

    def _protect(self, number: int, packet: QueuedPacket) -> None:
        """Take a packet that leaves for the first time into its block; a block that is full is followed by parities."""
        blocks, congestion = self._blocks, self.congestion
        assert blocks is not None and congestion is not None  # the caller has looked
        if packet.first:
            blocks.begin()
        head = (self._codec.payload_type, packet.marker, number, packet.timestamp, self.ssrc)
        blocks.add(number, build_packet(*head, self._blank_extensions, packet.payload))
        if not packet.closes:
            return
        parities, burst = 0, self._losses.burst
        if congestion.queue_seconds <= STANDING_QUEUE_SECONDS:
            parities = parities_for(blocks.size, self._losses.share, burst, congestion.loop_seconds)
        for name, payload in blocks.close(parities, burst > 1):
            self._pacer.push_parity(QueuedPacket(payload, packet.timestamp, False, parity=name))

    def _look_for_capacity(self, now: float) -> None:
        if self.congestion is None or self._codec.retransmission_type is None or self._pacer.cluster:
            return
        probe = self.congestion.take_probe(now)
        if probe is not None:
            self._filling_back = 0
            self._pacer.begin_probe(probe)

    def _drain(self) -> None:
        self._pace_timer = None
        if self._loop is None:
            return
        now = self._clock()
        congestion = self.congestion
        if congestion is None:
            pace, window = max(REMB_PACE_FACTOR * self.rate.target_bitrate, REMB_MIN_PACE), UNLIMITED
            rate = None
        else:
            pace, window, rate = congestion.pacing_bitrate, congestion.window_bytes, congestion.sustained_bitrate
        if self._urgent:
            window = max(window, UNLIMITED)
        self._pacer.refill(pace, now, rate)
        if congestion is None or not congestion.silent:
            while (packet := self._pacer.take(window) or self._filling()) is not None:
                size = self._transmit(packet, now)
                self._pacer.sent(size)
                window -= size
        if self._pacer.waits:
            self._pace_timer = self._loop.call_later(STEP_SECONDS, self._drain)
        elif congestion is not None and congestion.loss > DOUBLED_ABOVE_LOSS and not self._protected:
            self._loop.call_later(TAIL_SECONDS, self._send_tail, self._sequence_number)

    def _send_tail(self, next_number: int) -> None:
        """Send the newest packet once more, unless another has followed."""
        if self._loop is None or next_number != self._sequence_number or self._tail_sent == next_number:
            return
        self._tail_sent = next_number
        self._resend_newest(self._clock())

    def _resend_newest(self, now: float) -> None:
        if self._newest is not None:
            number, newest = self._newest
            self._transmit(
                QueuedPacket(newest.payload, newest.timestamp, newest.marker, again=number, filling=True), now
            )

    def _filling(self) -> QueuedPacket | None:
        """A packet of the newest frame for a probe that wants more; going back in time as it takes more of them."""
        if not self._pacer.needs_filling:
            return None
        last = self._newest[0] if self._newest is not None else 0
        for _ in range(HISTORY_PACKETS):
            self._filling_back += 1
            number = (last + 1 - self._filling_back) & 0xFFFF
            entry = self._history[number % HISTORY_PACKETS]
            if entry is None or entry[0] != number or self._pacer.queued_frames:
                break
            if len(entry[1].payload) >= MIN_FILLING_BYTES:
                old = entry[1]
                return QueuedPacket(old.payload, old.timestamp, old.marker, again=number, filling=True)
        self._pacer.end_probe()
        return None

    def _transmit(self, packet: QueuedPacket, now: float) -> int:
        """Number a packet and send it; its size on the wire without SRTP."""
        if packet.parity is not None:
            return self._transmit_parity(packet, packet.parity, now)
        codec, cluster = self._codec, self._pacer.cluster
        if packet.again is None:
            number = self._sequence_number
            self._sequence_number = (number + 1) & 0xFFFF
            if self._protected:
                self._protect(number, packet)
            self._newest = self._history[number % HISTORY_PACKETS] = (number, packet)
            if packet.first and packet.keyframe:
                self._keyframe_begin = number
            elif self._keyframe_begin is not None and (number - self._keyframe_begin) & 0xFFFF > HISTORY_PACKETS:
                self._keyframe_begin = None  # nothing from before it is kept any more
            if packet.marker:
                self._urgent = False
            if packet.marker and self._waiting_since:
                self._waiting_since.popleft()
        else:
            number = packet.again
        if packet.again is None or codec.retransmission_type is None:
            head = (codec.payload_type, packet.marker, number, packet.timestamp, self.ssrc)
            payload = packet.payload
        else:
            head = (
                codec.retransmission_type,
                packet.marker,
                self._retransmission_number,
                packet.timestamp,
                self.retransmission_ssrc,
            )
            payload = number.to_bytes(2, "big") + packet.payload
            self._retransmission_number = (self._retransmission_number + 1) & 0xFFFF
        data = build_packet(*head, self._extensions(), payload)
        self._send_rtp(data)
        size = len(data)
        if self.congestion is not None:
            repair = packet.again is not None and not packet.filling
            entry = self._history[number % HISTORY_PACKETS]
            if entry is not None and not packet.filling:
                entry[1].copy = self.congestion.log.next_number
            media = None if packet.filling else number
            self.congestion.on_sent(size, now, cluster=cluster, repair=repair, media=media)
        else:
            self.rate.on_sent(size, now)
        self.statistics.packets_sent += 1
        self.statistics.bytes_sent += size
        if packet.filling:
            self.statistics.packets_filling += 1
        elif packet.again is not None:
            self.statistics.packets_retransmitted += 1
        return size

    @property
    def _protected(self) -> bool:
        """Whether the line loses so much that parities may be of use."""
        return self._blocks is not None and self._losses.share > 0

    def _transmit_parity(self, packet: QueuedPacket, name: tuple[int, int], now: float) -> int:
        blocks, congestion, payload_type = self._blocks, self.congestion, self._codec.protection_type
        assert blocks is not None and congestion is not None and payload_type is not None  # else there are no parities
        transmission = congestion.log.next_number
        extension = one_byte_extension(self._codec.transport_sequence_id, transmission.to_bytes(2, "big"))
        data = build_packet(
            payload_type, False, self._parity_number, packet.timestamp, self.protection_ssrc, extension, packet.payload
        )
        self._parity_number = (self._parity_number + 1) & 0xFFFF
        self._send_rtp(data)
        blocks.sent(name, transmission)
        congestion.on_sent(len(data), now, cluster=self._pacer.cluster, repair=True)
        self.statistics.packets_sent += 1
        self.statistics.bytes_sent += len(data)
        self.statistics.packets_parity += 1
        return len(data)

    def _extensions(self) -> bytes:
        codec = self._codec
        if self.congestion is not None:
            number = self.congestion.log.next_number
            return one_byte_extension(codec.transport_sequence_id, number.to_bytes(2, "big")) + self._playout_delay
        if not codec.abs_send_time_id:
            return self._playout_delay
        fraction = int(self._wall_clock() * (1 << 18)) & 0xFFFFFF  # 6.18 fixed point seconds
        return one_byte_extension(codec.abs_send_time_id, fraction.to_bytes(3, "big")) + self._playout_delay

    def _tick(self) -> None:
        """What time brings about: silence, packets lost at the end of a burst, checks of the line, frames too old."""
        if self._loop is None or self.congestion is None:
            return
        self._tick_timer = self._loop.call_later(TICK_SECONDS, self._tick)
        now = self._clock()
        silent = self.congestion.check_silence(now)
        if (silent or self.congestion.tail_is_due(now)) and now - self._heartbeat_at >= HEARTBEAT_SECONDS:
            self._heartbeat_at = now
            self._resend_newest(now)
        if not silent:
            if self._waiting_since and now - self._waiting_since[0] > MAX_QUEUE_SECONDS:
                self._restart(now)
            self._look_for_capacity(now)
            if self._pace_timer is None and self._pacer.waits:
                self._drain()
        self._announce_bitrate()

    def _restart(self, now: float) -> None:
        """Give up what waits and what was lost, and begin anew with a keyframe."""
        self.statistics.restarts += 1
        self.statistics.frames_dropped += self._pacer.queued_frames
        self._restarted_at = now
        if self._pacer.drop_frames():
            self._skip_number()
        self._waiting_since.clear()
        self._lost.clear()
        self._awaits_keyframe = self._urgent = True
        self._ask_for_keyframe(now)

    def handle_rtcp(self, data: bytes) -> None:
        """Take a compound RTCP packet from the device; whatever is malformed or for another stream is ignored."""
        now = self._clock()
        if self.congestion is not None:
            for kind, form, payload in split_compound(data):
                if kind == RTCP_TRANSPORT_FEEDBACK and form == TRANSPORT_FEEDBACK_FORMAT:
                    self._on_feedback(payload, now)
        try:
            packets = RtcpPacket.parse(data)
        except Exception:  # aiortc lets struct.error and IndexError through for hostile bytes
            self._announce_bitrate()
            return
        for packet in packets:
            if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
                self._on_reports(packet.reports, now)
            elif isinstance(packet, RtcpRtpfbPacket):
                if packet.fmt == RTCP_RTPFB_NACK and packet.media_ssrc == self.ssrc:
                    self._retransmit(packet.lost, now)
            elif isinstance(packet, RtcpPsfbPacket):
                self._on_payload_feedback(packet, now)
        self._announce_bitrate()

    def _on_feedback(self, payload: bytes, now: float) -> None:
        congestion = self.congestion
        if congestion is None:
            return
        try:
            feedback = parse_feedback(payload)
        except ValueError:
            return
        was_silent, decreases, rate = congestion.silent, congestion.decreases, congestion.total_bitrate
        results = congestion.on_feedback(feedback, now)
        if self._blocks is not None:
            self._losses.add(results, now, congested=congestion.queue_seconds > STANDING_QUEUE_SECONDS)
            self._follow_parities(self._blocks, results)
        for result in results:
            if result.arrived_at is None:
                self._lost.append((now, result.size))
                if result.media is not None:
                    self._repair_lost(result.media, result.number & 0xFFFF, now)
        while self._lost and self._lost[0][0] < now - RESTART_INTERVAL_SECONDS / 2:
            self._lost.popleft()
        self.statistics.loss = congestion.loss
        self.statistics.estimated_bitrate = congestion.total_bitrate
        self.statistics.queue_seconds = congestion.queue_seconds
        if was_silent and not congestion.silent:
            self._restart(now)
        elif congestion.decreases > decreases and now - self._restarted_at > RESTART_INTERVAL_SECONDS:
            pending = sum(size for _, size in self._lost) + self._pacer.queued_bytes
            if congestion.total_bitrate < COLLAPSE_SHARE * rate:
                pending += congestion.log.in_flight_bytes
            if pending * 8 > RESTART_SECONDS * congestion.total_bitrate:
                self._restart(now)
        if self._pace_timer is None and self._pacer.waits:
            self._drain()

    def _follow_parities(self, blocks: ProtectedBlocks, results: list[PacketResult]) -> None:
        """All of a report, before anything is sent again because of it: parities may have made it good."""
        for result in results:
            if result.media is None:
                blocks.report(result.number & 0xFFFF, result.arrived_at is not None)
            elif result.arrived_at is None:
                entry = self._history[result.media % HISTORY_PACKETS]
                if entry is not None and entry[0] == result.media:
                    blocks.lost(result.media)

    def _on_reports(self, reports: list[object], now: float) -> None:
        for report in reports:
            if getattr(report, "ssrc", None) != self.ssrc:
                continue
            if self.congestion is None:
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
            if self.ssrc in ssrcs and self.congestion is None:
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
        if self._awaits_keyframe:
            return
        if self._blocks is not None:
            for number in numbers:
                self._blocks.lost(number)
        for number in numbers:
            self._repair(number, now)
        if self._pace_timer is None and self._pacer.waits:
            self._drain()

    def _repair_lost(self, number: int, copy: int, now: float) -> None:
        """A report says that this copy of a packet was lost: no need to wait for the device to ask (again)."""
        entry = self._history[number % HISTORY_PACKETS]
        if entry is not None and entry[0] == number and entry[1].copy == copy and not self._awaits_keyframe:
            self._repair(number, now)

    def _repair(self, number: int, now: float) -> None:
        """Queue a packet once more, if it is still of use and the budget allows it."""
        entry = self._history[number % HISTORY_PACKETS]
        if entry is None or entry[0] != number:
            return
        if self._keyframe_begin is not None and (number - self._keyframe_begin) & 0xFFFF >= 0x8000:
            return
        if self._blocks is not None and self._blocks.restored(number):
            return
        packet = entry[1]
        round_trip = self.statistics.round_trip_seconds
        if self.congestion is not None and self.congestion.loop_seconds is not None:
            round_trip = self.congestion.loop_seconds
        if not self._budget.allows(number, len(packet.payload), self.target_bitrate, now, round_trip):
            return
        again = QueuedPacket(packet.payload, packet.timestamp, packet.marker, again=number)
        self._pacer.push_repair(again)
        if self._blocks is not None and not self._blocks.hopeless(number):
            return  # parities may be quicker than this
        if self.congestion is not None and self.congestion.loss > DOUBLED_ABOVE_LOSS and self._loop is not None:
            self._loop.call_later(DOUBLED_AFTER_SECONDS, self._repair_twice, again)

    def _repair_twice(self, packet: QueuedPacket) -> None:
        if self._loop is not None and not self._awaits_keyframe:
            self._pacer.push_repair(packet)
            if self._pace_timer is None:
                self._drain()

    def _announce_bitrate(self) -> None:
        target = self.target_bitrate
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


def _block_size(packets: int) -> int:
    """Into how many packets at most a frame is divided, so that all its blocks are about the same."""
    return -(-packets // -(-packets // MAX_BLOCK_PACKETS))
