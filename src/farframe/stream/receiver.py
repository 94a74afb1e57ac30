"""A device's side of the connection, for Python: offer, receive and decode video, exchange messages.

    create_offer -> (WHEP) -> accept_answer -> frames(), on_control, on_frame_record -> close

Decoding runs on a thread of its own; everything else, callbacks included, on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import av
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    pack_remb_fci,
)

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.aiortc_hooks import MAX_MESSAGE_BYTES, MediaTransport, TransportConfig, TurnServer
from farframe.stream.feedback import FeedbackBuilder
from farframe.stream.flexfec import FlexFecDecoder
from farframe.stream.jitter import AssembledFrame, Assembly, FrameAssembler
from farframe.stream.negotiation import (
    DEFAULT_MAX_MESSAGE_BYTES,
    SCTP_PORT,
    Answer,
    answer_setup,
    build_offer,
    parse_answer,
)
from farframe.stream.packets import RtpPacket, blank_extensions, original_packet, parse_packet

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 15.0
REPORT_INTERVAL_SECONDS = 0.5
FEEDBACK_INTERVAL_SECONDS = 0.05
"""Between two transport-wide reports, while packets arrive."""

POLL_INTERVAL_SECONDS = 0.02
MAX_UNDECODED_FRAMES = 60
"""A decoder that is so many frames behind starts anew at a keyframe."""

MAX_UNREAD_FRAMES = 4
"""Decoded frames that wait for :meth:`ReceiverTransport.frames`; the oldest is dropped for a newer one."""

MAX_POSE_BACKLOG_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One picture. ``rtp_timestamp`` has 32 bits and a 90 kHz clock, as in the frame records; times are
    ``time.monotonic`` seconds, ``received_at`` of the frame's last packet."""

    rtp_timestamp: int
    picture: av.VideoFrame
    received_at: float
    decoded_at: float


@dataclass(slots=True)
class ReceiverStatistics:
    """Counts since the connection began."""

    packets_received: int = 0
    bytes_received: int = 0
    packets_missed: int = 0
    packets_restored: int = 0
    """By forward error correction."""
    frames_decoded: int = 0
    keyframes_asked_for: int = 0
    estimated_bitrate: int | None = None


class ReceiverTransport:
    """One connection to a render server.

    ``on_control`` takes text, ``on_frame_record`` bytes, ``on_frame`` a :class:`DecodedFrame` (instead of
    :meth:`frames`), ``on_closed`` the name of a ``Result`` when the connection ends by itself. ``packet_filter`` sees
    every received RTP packet and drops those for which it returns false: for tests of loss.
    """

    def __init__(
        self,
        *,
        bind_host: str = "0.0.0.0",  # noqa: S104 - a client's socket; only the chosen server's packets are heard
        on_control: Callable[[str], None] | None = None,
        on_frame_record: Callable[[bytes], None] | None = None,
        on_frame: Callable[[DecodedFrame], None] | None = None,
        on_closed: Callable[[str], None] | None = None,
        packet_filter: Callable[[RtpPacket], bool] | None = None,
        stun_servers: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_control = on_control
        self.on_frame_record = on_frame_record
        self.on_frame = on_frame
        self.on_closed = on_closed
        self.on_access_unit: Callable[[AssembledFrame], None] | None = None
        """Gets every whole frame in order as it came, before it is decoded; for recording."""
        self.statistics = ReceiverStatistics()
        self._packet_filter = packet_filter
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        config = TransportConfig(bind_host=bind_host, stun_servers=stun_servers)
        self._transport = MediaTransport(config, controlling=True, clock=clock)
        self._transport.on_rtp = self._rtp_received
        self._transport.on_rtcp = self._rtcp_received
        self._transport.on_lost = self._lost
        self._ssrc = random.randrange(1, 1 << 32)  # noqa: S311 - an identifier
        self._answer: Answer | None = None
        self._max_message_bytes = DEFAULT_MAX_MESSAGE_BYTES
        self._assembler = FrameAssembler()
        self._poll_due = 0.0
        self._protection: FlexFecDecoder | None = None
        self._streams: dict[int, StreamStatistics] = {}
        self._estimator = RemoteBitrateEstimator()
        self._feedback = FeedbackBuilder()
        self._feedback_timer: asyncio.TimerHandle | None = None
        self._sender_report: tuple[int, float] | None = None
        self._poll_timer: asyncio.TimerHandle | None = None
        self._report_timer: asyncio.TimerHandle | None = None
        self._channels: dict[str, Any] = {}
        self._control_open = asyncio.Event()
        self._unread: deque[DecodedFrame] = deque(maxlen=MAX_UNREAD_FRAMES)
        self._frame_ready = asyncio.Event()
        self._ended: str | None = None
        self._closed = False
        self._decoder = Decoder(self._loop, clock, self._decoded, self._decoder_failed)

    def use_turn(self, servers: tuple[TurnServer, ...], *, relay_only: bool = False) -> None:
        """Use these TURN servers, besides other paths or instead of them. Before :meth:`create_offer`."""
        self._transport.use_turn(servers, relay_only=relay_only)

    async def create_offer(self) -> str:
        """Bind sockets, create the three data channels, and return the offer."""
        candidates = await self._transport.gather()
        control = self._transport.create_channel("control")
        pose = self._transport.create_channel("pose", ordered=False, max_retransmits=0)
        frames = self._transport.create_channel("frames", ordered=False, max_retransmits=0)
        self._channels = {"control": control, "pose": pose, "frames": frames}
        control.on("open", self._control_open.set)
        control.on("message", self._control_received)
        control.on("close", lambda: self._end(Result.DISCONNECT_REQUEST))
        frames.on("message", self._record_received)
        return build_offer(
            self._transport.parameters("actpass"),
            candidates,
            session_id=secrets.randbelow(1 << 62),
            max_message_bytes=MAX_MESSAGE_BYTES,
        )

    async def accept_answer(self, answer_sdp: str, *, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> None:
        """Connect as the answer says; returns when video flows and the ``control`` channel is open.

        Raises :class:`FarframeError` (HandshakeFailed, VideoCodecNotAvailable) for a bad answer or when no connection
        comes about.
        """
        answer = parse_answer(answer_sdp)
        self._answer = answer
        if answer.protection_ssrc is not None:
            changing = (answer.codec.transport_sequence_id, answer.codec.abs_send_time_id)
            self._protection = FlexFecDecoder(answer.video_ssrc, lambda data: blank_extensions(data, changing))
        self._max_message_bytes = answer.max_message_bytes
        try:
            async with asyncio.timeout(timeout_seconds):
                setup = answer_setup(answer.transport.setup)
                await self._transport.connect(answer.transport, answer.candidates, local_setup=setup)
                await self._transport.open_data(answer.sctp_port or SCTP_PORT, answer.max_message_bytes)
                self._decoder.start()
                self._report_timer = self._loop.call_later(REPORT_INTERVAL_SECONDS, self._report)
                await self._control_open.wait()
        except (TimeoutError, ConnectionError, OSError) as error:
            raise FarframeError(
                Result.HANDSHAKE_FAILED,
                f"No connection to the render server came about: {error or 'no answer in time'}.",
                next_step="Check that its UDP ports can be reached from here.",
            ) from error

    @property
    def path_relayed(self) -> bool:
        """Whether the path goes by way of a TURN server."""
        return self._transport.path_relayed

    @property
    def path_found(self) -> bool:
        """Whether a path to the server was found, although the connection may not be made yet."""
        return self._transport.path_found

    @property
    def last_heard(self) -> float:
        """When the server was last heard, by any packet, in ``time.monotonic`` seconds."""
        return self._transport.last_heard

    def send_control(self, text: str) -> None:
        """Send a message on the ``control`` channel. Raises :class:`FarframeError` (ConnectionLost) when it is gone."""
        channel = self._channels.get("control")
        if self._closed or channel is None or channel.readyState != "open" or not self._transport.connected:
            raise FarframeError(Result.CONNECTION_LOST, "The connection to the render server is closed.")
        size = len(text.encode())
        if self._max_message_bytes and size > self._max_message_bytes:
            raise FarframeError(Result.INVALID_PARAM, f"A message of {size} bytes is too large for the render server.")
        channel.send(text)

    def send_pose(self, data: bytes) -> bool:
        """Send a pose record; false when it was dropped, for the channel is not open or does not keep up."""
        channel = self._channels.get("pose")
        if (
            self._closed
            or channel is None
            or channel.readyState != "open"
            or channel.bufferedAmount > MAX_POSE_BACKLOG_BYTES
            or not self._transport.connected
        ):
            return False
        channel.send(data)
        return True

    def request_keyframe(self) -> None:
        """Ask the server for a keyframe (PLI)."""
        if self._answer is not None:
            self.statistics.keyframes_asked_for += 1
            packet = RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._ssrc, media_ssrc=self._answer.video_ssrc)
            self._transport.send_rtcp(bytes(packet))

    async def frames(self) -> AsyncIterator[DecodedFrame]:
        """Decoded frames in order; ends with the connection. A slow reader misses the oldest ones, never the newest."""
        while True:
            while self._unread:
                yield self._unread.popleft()
            if self._closed or self._ended is not None:
                return
            self._frame_ready.clear()
            await self._frame_ready.wait()

    async def close(self) -> None:
        """End the connection, the decoder and its thread, and close the sockets. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._frame_ready.set()
        for timer in (self._poll_timer, self._report_timer, self._feedback_timer):
            if timer is not None:
                timer.cancel()
        await self._transport.close()
        await self._decoder.stop()

    def abandon(self) -> None:
        """Close the sockets without a word, as a device that loses its power does. For tests; ``close`` afterwards."""
        self._transport.abandon()

    # Media

    def _rtp_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or self._closed:
            return
        try:
            packet = parse_packet(data, answer.codec.abs_send_time_id, answer.codec.transport_sequence_id)
        except ValueError:
            return
        if self._packet_filter is not None and not self._packet_filter(packet):
            return
        self.statistics.packets_received += 1
        self.statistics.bytes_received += len(data)
        self._estimate(packet)
        if packet.transport_sequence is not None:
            self._feedback.add(packet.transport_sequence, self._clock())
            if self._feedback_timer is None:
                self._feedback_timer = self._loop.call_later(FEEDBACK_INTERVAL_SECONDS, self._send_feedback)
        codec, restored = answer.codec, []
        if packet.ssrc == answer.retransmission_ssrc and packet.payload_type == codec.retransmission_type:
            if len(packet.payload) < 2:
                return
            data = original_packet(data, packet, codec.payload_type, answer.video_ssrc)
            number, payload = int.from_bytes(packet.payload[:2], "big"), packet.payload[2:]
            packet = RtpPacket(codec.payload_type, packet.marker, number, packet.timestamp, answer.video_ssrc, payload)
        elif packet.ssrc == answer.video_ssrc and packet.payload_type == codec.payload_type:
            if packet.ssrc not in self._streams:
                self._streams[packet.ssrc] = StreamStatistics(90_000)
            self._streams[packet.ssrc].add(packet)
        elif (
            self._protection is not None
            and packet.ssrc == answer.protection_ssrc
            and packet.payload_type == codec.protection_type
        ):
            with contextlib.suppress(ValueError):
                restored = self._protection.add_parity(packet.sequence_number, packet.payload)
            self._push_restored(restored, answer)
            return
        else:
            return
        if self._protection is not None:
            restored = self._protection.add_packet(packet.sequence_number, data)
        self._handle(self._assembler.push(packet, self._clock()))
        self._push_restored(restored, answer)

    def _push_restored(self, restored: list[tuple[int, bytes]], answer: Answer) -> None:
        """Packets that parities brought back, as if they had come by themselves."""
        for _, data in restored:
            try:
                packet = parse_packet(data)
            except ValueError:
                continue
            if packet.payload_type == answer.codec.payload_type:
                self.statistics.packets_restored += 1
                self._handle(self._assembler.push(packet, self._clock()))

    def _handle(self, assembly: Assembly) -> None:
        for frame in assembly.frames:
            if self.on_access_unit is not None:
                _safely(self.on_access_unit, frame)
            if not self._decoder.submit(frame):
                self._assembler.decoder_failed()
        if assembly.missing and self._answer is not None:
            self.statistics.packets_missed += len(assembly.missing)
            packet = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=self._ssrc, media_ssrc=self._answer.video_ssrc)
            packet.lost = assembly.missing
            self._transport.send_rtcp(bytes(packet))
        if assembly.keyframe_needed:
            self.request_keyframe()
        if self._assembler.waits and self._poll_timer is None and not self._closed:
            self._poll_due = self._clock() + POLL_INTERVAL_SECONDS
            self._poll_timer = self._loop.call_later(POLL_INTERVAL_SECONDS, self._poll)

    def _poll(self) -> None:
        self._poll_timer = None
        if not self._closed:
            self._assembler.round_trip_seconds = self._transport.round_trip_seconds
            now = self._clock()
            if now - self._poll_due > POLL_INTERVAL_SECONDS:
                self._assembler.stood_still(now - self._poll_due)
            self._handle(self._assembler.poll(now))

    def _estimate(self, packet: RtpPacket) -> None:
        if packet.abs_send_time is None:
            return
        estimate = self._estimator.add(
            arrival_time_ms=int(self._clock() * 1000),
            abs_send_time=packet.abs_send_time,
            payload_size=len(packet.payload),
            ssrc=packet.ssrc,
        )
        if estimate is not None:
            self.statistics.estimated_bitrate = estimate[0]
            feedback = RtcpPsfbPacket(
                fmt=RTCP_PSFB_APP, ssrc=self._ssrc, media_ssrc=0, fci=pack_remb_fci(estimate[0], estimate[1])
            )
            self._transport.send_rtcp(bytes(feedback))

    def _send_feedback(self) -> None:
        self._feedback_timer = None
        if self._answer is not None and not self._closed:
            feedback = self._feedback.build(self._ssrc, self._answer.video_ssrc, self._clock())
            if feedback is not None:
                self._transport.send_rtcp(feedback)

    def _rtcp_received(self, data: bytes) -> None:
        try:
            packets = RtcpPacket.parse(data)
        except Exception:  # aiortc lets struct.error and IndexError through for hostile bytes
            return
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and self._answer and packet.ssrc == self._answer.video_ssrc:
                self._sender_report = ((packet.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF, self._clock())

    def _report(self) -> None:
        if self._closed:
            return
        self._report_timer = self._loop.call_later(REPORT_INTERVAL_SECONDS, self._report)
        reports = []
        for ssrc, stream in self._streams.items():
            lsr, dlsr = 0, 0
            if self._sender_report is not None:
                lsr = self._sender_report[0]
                dlsr = min(int((self._clock() - self._sender_report[1]) * 65536), 0xFFFFFFFF)
            reports.append(
                RtcpReceiverInfo(
                    ssrc=ssrc,
                    fraction_lost=stream.fraction_lost,
                    packets_lost=stream.packets_lost,
                    highest_sequence=(stream.cycles + stream.max_seq) & 0xFFFFFFFF,
                    jitter=stream.jitter,
                    lsr=lsr,
                    dlsr=dlsr,
                )
            )
        self._transport.send_rtcp(bytes(RtcpRrPacket(ssrc=self._ssrc, reports=reports)))

    def _decoded(self, frame: DecodedFrame) -> None:
        if self._closed:
            return
        self.statistics.frames_decoded += 1
        if self.on_frame is not None:
            self.on_frame(frame)
        else:
            self._unread.append(frame)
            self._frame_ready.set()

    def _decoder_failed(self) -> None:
        self._assembler.decoder_failed()
        self._handle(self._assembler.poll(self._clock()))

    # Messages and the end

    def _control_received(self, message: str | bytes) -> None:
        if self.on_control is not None and not self._closed:
            _safely(self.on_control, message if isinstance(message, str) else message.decode("utf-8", "replace"))

    def _record_received(self, message: str | bytes) -> None:
        if self.on_frame_record is not None and isinstance(message, bytes) and not self._closed:
            _safely(self.on_frame_record, message)

    def _lost(self, said_goodbye: bool) -> None:
        self._end(Result.DISCONNECT_REQUEST if said_goodbye else Result.CONNECTION_LOST)

    def _end(self, reason: Result) -> None:
        if self._closed or self._ended is not None:
            return
        self._ended = str(reason)
        self._frame_ready.set()
        if self.on_closed is not None:
            _safely(self.on_closed, str(reason))


def _safely(callback: Callable[[Any], None], argument: object) -> None:
    try:
        callback(argument)
    except Exception:
        logger.exception("a receiver's callback failed")


class Decoder:
    """FFmpeg's H.264 decoder on a thread, one frame in, one frame out."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        on_frame: Callable[[DecodedFrame], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._on_frame = on_frame
        self._on_failure = on_failure
        self._queue: queue.SimpleQueue[AssembledFrame | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="farframe-decoder", daemon=True)
        self._thread.start()

    def submit(self, frame: AssembledFrame) -> bool:
        """Queue a frame; false when the decoder is so far behind that it has to start anew at a keyframe."""
        if self._queue.qsize() >= MAX_UNDECODED_FRAMES:
            with contextlib.suppress(queue.Empty):
                while True:
                    self._queue.get_nowait()
            return False
        self._queue.put(frame)
        return True

    async def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stopped = True
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        codec: Any = av.CodecContext.create("h264", "r")
        codec.thread_type = "SLICE"  # frame threads would hold frames back
        while (frame := self._queue.get()) is not None and not self._stopped:
            packet = av.Packet(frame.data)
            packet.pts = frame.timestamp
            try:
                pictures = codec.decode(packet)
            except av.FFmpegError as error:
                logger.info("a frame could not be decoded: %s", error)
                self._post(self._on_failure)
                continue
            for picture in pictures:
                timestamp = (picture.pts if picture.pts is not None else frame.timestamp) & 0xFFFFFFFF
                self._post(self._on_frame, DecodedFrame(timestamp, picture, frame.received_at, self._clock()))

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback, *arguments)
