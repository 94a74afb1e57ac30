"""A device's side of the stream over one WebSocket, for Python: acknowledge, decode, exchange messages.

    received -> on_control, on_frame_record, on_frame ...   (whoever owns the socket calls and sends)

No socket here: messages come in by :meth:`WebSocketReceiver.received` and go out by the ``send`` that it was given, so
that any WebSocket library will do. Decoding runs on a thread of its own, all else on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from farframe.protocol import socket_stream
from farframe.protocol.errors import FarframeError
from farframe.protocol.socket_stream import FIRST_OWN_TYPE, PICTURE_TYPE, Acknowledgement
from farframe.stream.jitter import AssembledFrame
from farframe.stream.receiver import DecodedFrame, Decoder, ReceiverStatistics

KEYFRAME_REQUEST_INTERVAL_SECONDS = 0.3


class WebSocketReceiver:
    """Takes what a render server sends over a WebSocket.

    ``send`` takes bytes to send; ``on_control`` takes text, ``on_frame_record`` bytes, ``on_frame`` a
    :class:`DecodedFrame`; ``on_access_unit``, if given, every access unit as it arrives, before it is decoded.
    ``clock`` gives seconds that only count up; its times stand in :class:`DecodedFrame` and in acknowledgements.
    """

    def __init__(
        self,
        *,
        send: Callable[[bytes], None],
        on_control: Callable[[str], None],
        on_frame_record: Callable[[bytes], None],
        on_frame: Callable[[DecodedFrame], None],
        on_access_unit: Callable[[AssembledFrame], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.statistics = ReceiverStatistics()
        self._send = send
        self._on_control = on_control
        self._on_frame_record = on_frame_record
        self._on_frame = on_frame
        self._on_access_unit = on_access_unit
        self._clock = clock
        self._needs_keyframe = True
        self._asked_at = float("-inf")
        self._closed = False
        self._decoder = Decoder(asyncio.get_running_loop(), clock, self._decoded, self._decoder_failed)
        self._decoder.start()

    def received(self, message: str | bytes) -> None:
        """Take a message. Records that are none of this protocol's are dropped."""
        if self._closed:
            return
        if isinstance(message, str):
            self._on_control(message)
        elif message[:1] < bytes([FIRST_OWN_TYPE]):
            self._on_frame_record(message)
        elif message[0] == PICTURE_TYPE:
            try:
                self._picture(socket_stream.decode_picture(message))
            except FarframeError:
                return

    def _picture(self, picture: socket_stream.PictureRecord) -> None:
        now = self._clock()
        self._send(socket_stream.encode_acknowledgement(Acknowledgement(picture.number, int(now * 1e6))))
        self.statistics.packets_received += 1
        self.statistics.bytes_received += len(picture.data)
        if self._needs_keyframe and not picture.keyframe:
            self._ask_for_keyframe()
            return
        self._needs_keyframe = False
        frame = AssembledFrame(picture.data, picture.rtp_timestamp, now)
        if self._on_access_unit is not None:
            self._on_access_unit(frame)
        if not self._decoder.submit(frame):
            self._decoder_failed()

    def _ask_for_keyframe(self) -> None:
        now = self._clock()
        if now - self._asked_at >= KEYFRAME_REQUEST_INTERVAL_SECONDS and not self._closed:
            self._asked_at = now
            self.statistics.keyframes_asked_for += 1
            self._send(socket_stream.encode_keyframe_request())

    def request_keyframe(self) -> None:
        """Ask the server for a keyframe, at most every 0.3 s."""
        self._ask_for_keyframe()

    def _decoded(self, frame: DecodedFrame) -> None:
        if not self._closed:
            self.statistics.frames_decoded += 1
            self._on_frame(frame)

    def _decoder_failed(self) -> None:
        self._needs_keyframe = True
        self._ask_for_keyframe()

    async def close(self) -> None:
        """End the decoder and its thread. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._decoder.stop()
