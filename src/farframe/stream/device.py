"""The server's side of one device: the seam that every way in fulfils, and the one over WebRTC.

    Device            what the server calls, whichever way the device came
    DeviceHandler     what a device makes happen
    DeviceTransport   over WebRTC: answer an offer, send video, exchange messages
                      (over a WebSocket: ``stream/websocket.py``)

    accept -> answer_sdp -> (ICE, DTLS, SCTP) -> handler.on_connected -> send_video ... -> close

Everything but :meth:`Device.send_video` and the read-only properties belongs to the event loop's thread; the handler is
called there, and must not block.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.aiortc_hooks import MAX_MESSAGE_BYTES, MediaTransport, TransportConfig
from farframe.stream.encoder import EncodedFrame
from farframe.stream.negotiation import Offer, answer_setup, build_answer, parse_offer
from farframe.stream.sender import SenderStatistics, VideoSender
from farframe.stream.submission import FrameInbox

__all__ = ["Device", "DeviceHandler", "DeviceTransport", "TransportConfig"]

logger = logging.getLogger(__name__)

GATHER_TIMEOUT_SECONDS = 3.0
CONNECT_TIMEOUT_SECONDS = 10.0
"""A device that has not connected so long after the answer has gone away."""

MAX_BITRATE = 12_000_000
START_BITRATE = 6_000_000
"""Until the device has reported anything."""

MAX_CONTROL_BACKLOG_BYTES = 32 * 1024 * 1024
MAX_RECORD_BACKLOG_BYTES = 16 * 1024


class DeviceHandler(Protocol):
    """What a device makes happen. Called on the event loop's thread."""

    def on_control(self, text: str) -> None:
        """A message on the ``control`` channel; untrusted."""

    def on_pose(self, data: bytes) -> None:
        """A message on the ``pose`` channel; untrusted."""

    def on_connected(self) -> None:
        """Video can be sent from now on; the first frame must be a keyframe."""

    def on_keyframe_request(self) -> None:
        """The next frame must be a keyframe."""

    def on_bitrate(self, bits_per_second: int) -> None:
        """The line carries another rate now."""

    def on_closed(self, reason: str) -> None:
        """The connection ended by itself, for a reason that is the name of a ``Result``. Not called after ``close``."""


class Device(Protocol):
    """One device's connection, over whatever carries it. Fulfilled by :class:`DeviceTransport` (WebRTC) and
    ``stream.websocket.WebSocketDevice``. Only :meth:`send_video` and the properties may be used from other threads.
    """

    @property
    def way(self) -> str:
        """What carries the stream: ``webrtc`` or ``websocket``."""

    @property
    def connected(self) -> bool:
        """Whether video can be sent now."""

    @property
    def last_heard(self) -> float:
        """When the device was last heard, in whatever way, in ``time.monotonic`` seconds."""

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the line carries as far as is known; the encoder should aim at it."""

    @property
    def backlog(self) -> int:
        """Frames that wait to be sent. Draw and encode no further frame while it is 2 or more."""

    @property
    def statistics(self) -> SenderStatistics:
        """Counts and reports of this connection; live, not a copy. What a way does not have stays as it began."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of video that left."""

    def send_video(self, frame: EncodedFrame) -> None:
        """Send a frame, from any thread. Frames are neither encoded again nor dropped: see :attr:`backlog`."""

    def send_control(self, text: str) -> None:
        """Send a control message. Raises :class:`FarframeError` when the device cannot take one of that size."""

    def send_frame_record(self, data: bytes) -> None:
        """Send a frame's record; dropped when the connection does not keep up."""

    async def close(self) -> None:
        """End the connection; the handler hears nothing more. A second call does nothing."""


class DeviceTransport:
    """One device's connection over WebRTC. Made by :meth:`accept`; fulfils :class:`Device`."""

    way = "webrtc"

    def __init__(self, offer: Offer, transport: MediaTransport, handler: DeviceHandler, max_bitrate: int) -> None:
        self.answer_sdp = ""
        self._offer = offer
        self._transport = transport
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._connect_task: asyncio.Task[None] | None = None
        self._channels: dict[str, Any] = {}
        self._waiting_control: list[str] = []
        self._waiting_control_bytes = 0
        self._closed = False
        self._ended = False
        self._sender = VideoSender(
            offer.codec,
            max_bitrate=max_bitrate,
            start_bitrate=START_BITRATE,
            send_rtp=transport.send_rtp,
            send_rtcp=transport.send_rtcp,
            on_keyframe_request=self._keyframe_requested,
            on_bitrate=self._bitrate_changed,
        )
        self._inbox = FrameInbox(
            self._loop,
            accepts=lambda: not self._closed and transport.connected,
            take=self._sender.send,
            ask_for_keyframe=self._keyframe_requested,
        )
        transport.on_rtcp = self._sender.handle_rtcp
        transport.on_channel = self._channel_opened
        transport.on_lost = self._lost

    @classmethod
    async def accept(
        cls,
        offer_sdp: str,
        config: TransportConfig,
        handler: DeviceHandler,
        *,
        max_bitrate: int = MAX_BITRATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> DeviceTransport:
        """Answer an offer; the connection is then made in the background.

        Raises :class:`FarframeError`: VideoCodecNotAvailable when no H.264 that we can send is offered, HandshakeFailed
        for anything else that cannot be answered, Fail when no UDP port is free. Nothing stays open after an error.
        """
        offer = parse_offer(offer_sdp)
        transport = MediaTransport(config, controlling=False, clock=clock)
        try:
            device = cls(offer, transport, handler, max_bitrate)
            async with asyncio.timeout(GATHER_TIMEOUT_SECONDS):
                candidates = await transport.gather()
            setup = answer_setup(offer.transport.setup)
            device.answer_sdp = build_answer(
                offer,
                transport.parameters(setup),
                candidates,
                video_ssrc=device._sender.ssrc,
                retransmission_ssrc=device._sender.retransmission_ssrc,
                protection_ssrc=device._sender.protection_ssrc,
                session_id=secrets.randbelow(1 << 62),
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
        except TimeoutError:
            await transport.close()
            raise FarframeError(
                Result.HANDSHAKE_FAILED, "The server could not gather its addresses in time.", next_step="Try again."
            ) from None
        except BaseException:
            await transport.close()
            raise
        device._connect_task = asyncio.create_task(device._connect(setup), name="farframe-device-connect")
        return device

    async def _connect(self, setup: str) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._transport.connect(self._offer.transport, self._offer.candidates, local_setup=setup)
                await self._transport.open_data(self._offer.sctp_port, self._offer.max_message_bytes)
        except (TimeoutError, ConnectionError, OSError) as error:
            logger.info("a device did not connect: %s", error)
            self._end(Result.HANDSHAKE_FAILED)
            return
        except Exception:
            logger.exception("the connection to a device could not be made")
            self._end(Result.HANDSHAKE_FAILED)
            return
        self._sender.start()
        self._call(self._handler.on_connected)

    # What the server calls

    @property
    def connected(self) -> bool:
        """Whether video can be sent now."""
        return self._transport.connected

    @property
    def last_heard(self) -> float:
        """When the device was last heard, by any packet (checks, reports, messages), in ``time.monotonic`` seconds."""
        return self._transport.last_heard

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the line carries, by the device's reports; the encoder should aim at it."""
        return self._sender.target_bitrate

    @property
    def backlog(self) -> int:
        """Frames that were handed over and are not sent yet. Draw and encode no further frame while it is 2 or more."""
        return self._inbox.waiting + self._sender.queued_frames

    @property
    def statistics(self) -> SenderStatistics:
        """Counts and reports of this connection; live, not a copy."""
        return self._sender.statistics

    @property
    def bytes_sent(self) -> int:
        """Bytes of SRTP packets that were sent."""
        return self._transport.bytes_sent

    def send_video(self, frame: EncodedFrame) -> None:
        """Send a frame, from any thread. Frames are neither encoded again nor dropped: see :attr:`backlog`.

        Only frames before the connection, and before its first keyframe, go nowhere.
        """
        self._inbox.submit(frame)

    def send_control(self, text: str) -> None:
        """Send a message on the ``control`` channel; kept until the device has opened it.

        Raises :class:`FarframeError` when the device cannot take a message of that size.
        """
        if self._closed:
            return
        size = len(text.encode())
        limit = self._offer.max_message_bytes
        if limit and size > limit:
            raise FarframeError(
                Result.NOT_SUPPORTED,
                f"A message of {size} bytes is larger than the {limit} bytes that the device takes.",
                next_step="Ask for less at once.",
            )
        channel = self._channels.get("control")
        if channel is not None and channel.readyState == "open":
            if channel.bufferedAmount + size > MAX_CONTROL_BACKLOG_BYTES:
                self._end(Result.CONNECTION_LOST)
            elif self._transport.connected:
                channel.send(text)
        elif self._waiting_control_bytes + size <= MAX_CONTROL_BACKLOG_BYTES and channel is None:
            self._waiting_control.append(text)
            self._waiting_control_bytes += size

    def send_frame_record(self, data: bytes) -> None:
        """Send a record on the ``frames`` channel; dropped when the channel is not open or not keeping up."""
        channel = self._channels.get("frames")
        if (
            not self._closed
            and channel is not None
            and channel.readyState == "open"
            and channel.bufferedAmount <= MAX_RECORD_BACKLOG_BYTES
            and self._transport.connected
        ):
            channel.send(data)

    async def close(self) -> None:
        """End the connection and close its sockets. The handler hears nothing more. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._sender.stop()
        if self._connect_task is not None and self._connect_task is not asyncio.current_task():
            self._connect_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connect_task
        await self._transport.close()
        self._channels.clear()

    # What happens

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call the handler, unless the server has closed; its errors must not end the transport."""
        if self._closed or self._ended:
            return
        try:
            callback(*arguments)
        except Exception:
            logger.exception("a device handler failed")

    def _channel_opened(self, channel: Any) -> None:
        label = channel.label
        if label not in ("control", "pose", "frames") or label in self._channels:
            channel.close()
            return
        self._channels[label] = channel
        if label == "control":
            channel.on("message", self._control_received)
            channel.on("close", self._control_closed)
            waiting, self._waiting_control = self._waiting_control, []
            for text in waiting:
                channel.send(text)
        elif label == "pose":
            channel.on("message", self._pose_received)

    def _control_received(self, message: str | bytes) -> None:
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        self._call(self._handler.on_control, text)

    def _pose_received(self, message: str | bytes) -> None:
        self._call(self._handler.on_pose, message.encode() if isinstance(message, str) else message)

    def _control_closed(self) -> None:
        self._end(Result.DISCONNECT_REQUEST)

    def _keyframe_requested(self) -> None:
        self._call(self._handler.on_keyframe_request)

    def _bitrate_changed(self, bits_per_second: int) -> None:
        self._call(self._handler.on_bitrate, bits_per_second)

    def _lost(self, said_goodbye: bool) -> None:
        self._end(Result.DISCONNECT_REQUEST if said_goodbye else Result.CONNECTION_LOST)

    def _end(self, reason: Result) -> None:
        """Tell the handler, once. Closing is the server's part, and follows."""
        if self._closed or self._ended:
            return
        self._call(self._handler.on_closed, str(reason))
        self._ended = True
