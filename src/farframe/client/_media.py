"""The real transport: :class:`farframe.stream.receiver.ReceiverTransport` behind the client's seam.

Here, and only here, the stream's errors become this package's errors.
"""

from __future__ import annotations

import time

from farframe.client._transport import TransportHandler
from farframe.client.errors import ConnectionLostError, HandshakeError, RequestError
from farframe.client.frame import Picture
from farframe.protocol.errors import FarframeError, Result
from farframe.stream.aiortc_hooks import TurnServer
from farframe.stream.receiver import DecodedFrame, ReceiverTransport

US_PER_SECOND = 1e6


class MediaTransport:
    """WebRTC. Times of pictures are on the clock of :func:`farframe.client._clock.now_us`."""

    def __init__(self, handler: TransportHandler) -> None:
        self._handler = handler
        self._receiver = ReceiverTransport(
            on_control=handler.on_control,
            on_frame_record=handler.on_frame_record,
            on_frame=self._on_frame,
            on_closed=handler.on_closed,
            clock=time.perf_counter,
        )
        self._receiver.on_access_unit = handler.on_access_unit

    def use_turn(self, servers: tuple[TurnServer, ...], *, relay_only: bool) -> None:
        """Use these TURN servers, besides other paths or instead of them. Before :meth:`create_offer`."""
        self._receiver.use_turn(servers, relay_only=relay_only)

    @property
    def path_relayed(self) -> bool:
        """Whether the path goes by way of a TURN server."""
        return self._receiver.path_relayed

    async def create_offer(self) -> str:
        """The SDP offer, with all candidates. Raises HandshakeError when no socket or no TURN server can be used."""
        try:
            return await self._receiver.create_offer()
        except FarframeError as error:
            raise HandshakeError(error.result, error.message, next_step=error.next_step) from error
        except OSError as error:
            raise HandshakeError(
                Result.HANDSHAKE_FAILED,
                f"No socket for media could be opened: {error.strerror or error}.",
                next_step="Check this machine's network.",
            ) from error

    async def accept_answer(self, answer_sdp: str) -> None:
        """Connect; returns when the control channel is open. Raises HandshakeError."""
        try:
            await self._receiver.accept_answer(answer_sdp)
        except FarframeError as error:
            raise HandshakeError(error.result, error.message, next_step=error.next_step) from error

    def send_control(self, text: str) -> None:
        """Send on the control channel. Raises ConnectionLostError, RequestError (too large)."""
        try:
            self._receiver.send_control(text)
        except FarframeError as error:
            kind = ConnectionLostError if error.result is Result.CONNECTION_LOST else RequestError
            raise kind(error.result, error.message, next_step=error.next_step or "Connect again.") from error

    def send_pose(self, data: bytes) -> None:
        """Send on the pose channel; a record that does not fit now is dropped, as the channel may do anyway."""
        self._receiver.send_pose(data)

    def request_keyframe(self) -> None:
        """Ask for a picture that can be decoded by itself."""
        self._receiver.request_keyframe()

    async def close(self) -> None:
        """End it; nothing is left."""
        await self._receiver.close()

    @property
    def path_found(self) -> bool:
        """Whether a path to the render server was found, although the connection may not be made yet."""
        return self._receiver.path_found

    def _on_frame(self, frame: DecodedFrame) -> None:
        self._handler.on_picture(picture_of(frame))


def picture_of(frame: DecodedFrame) -> Picture:
    """A decoded frame as the client has it, with times in microseconds."""
    return Picture(
        frame.picture,
        frame.rtp_timestamp,
        received_us=int(frame.received_at * US_PER_SECOND),
        decoded_us=int(frame.decoded_at * US_PER_SECOND),
    )
