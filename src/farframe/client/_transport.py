"""The seam between a runtime connection and the network. Tests put a transport of their own here.

Which transport a connection gets is decided in ``client/_ways.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from farframe.client.errors import ConnectionLostError
from farframe.client.frame import Picture
from farframe.protocol.errors import Result

if TYPE_CHECKING:
    from farframe.stream.aiortc_hooks import TurnServer
    from farframe.stream.jitter import AssembledFrame


class TransportHandler(Protocol):
    """The connection's side. All calls come in the event loop."""

    def on_control(self, text: str) -> None:
        """A message on the control channel."""

    def on_frame_record(self, data: bytes) -> None:
        """A record on the frames channel."""

    def on_picture(self, picture: Picture) -> None:
        """A decoded picture."""

    def on_access_unit(self, frame: AssembledFrame) -> None:
        """A whole coded frame, in order, before it is decoded."""

    def on_closed(self, reason: str) -> None:
        """The other side said goodbye (``DisconnectRequest``) or fell silent (``ConnectionLost``).

        Not called after :meth:`Transport.close`.
        """


class Transport(Protocol):
    """Pictures and messages of one connection, on the device's side, whatever carries them."""

    def send_control(self, text: str) -> None:
        """Send a message on the control channel. Raises ConnectionLostError when it is closed."""

    def send_pose(self, data: bytes) -> None:
        """Send a record on the pose channel. Does nothing when the transport is closed."""

    def request_keyframe(self) -> None:
        """Ask for a picture that can be decoded by itself. Does nothing when the transport is closed."""

    async def close(self) -> None:
        """End it; nothing is left."""


class OfferingTransport(Transport, Protocol):
    """A transport that is made by an offer and an answer: WebRTC."""

    @property
    def path_found(self) -> bool:
        """Whether there is a path to the server; the connection is then being made, or is."""

    @property
    def path_relayed(self) -> bool:
        """Whether that path goes by way of a TURN server."""

    def use_turn(self, servers: tuple[TurnServer, ...], *, relay_only: bool) -> None:
        """Use these TURN servers, besides other paths or instead of them. Before :meth:`create_offer`."""

    async def create_offer(self) -> str:
        """The SDP offer, with all candidates."""

    async def accept_answer(self, answer_sdp: str) -> None:
        """Take the server's answer and connect; returns when the control channel is open. Raises HandshakeError."""


class Unconnected:
    """The transport of a connection that has none yet."""

    def send_control(self, text: str) -> None:
        """Nobody is there. Raises ConnectionLostError."""
        raise ConnectionLostError(Result.CONNECTION_LOST, "The connection has not been made.")

    def send_pose(self, data: bytes) -> None:
        """Nobody is there."""

    def request_keyframe(self) -> None:
        """Nobody is there."""

    async def close(self) -> None:
        """There is nothing to end."""


TransportFactory = Callable[[TransportHandler], OfferingTransport]
