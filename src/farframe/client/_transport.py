"""The seam between a runtime connection and the network. Tests put a transport of their own here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from farframe.client.frame import Picture


class TransportHandler(Protocol):
    """The connection's side. All calls come in the event loop."""

    def on_control(self, text: str) -> None:
        """A message on the control channel."""

    def on_frame_record(self, data: bytes) -> None:
        """A record on the frames channel."""

    def on_picture(self, picture: Picture) -> None:
        """A decoded picture."""

    def on_closed(self, reason: str) -> None:
        """The other side said goodbye (``DisconnectRequest``) or fell silent (``ConnectionLost``).

        Not called after :meth:`Transport.close`.
        """


class Transport(Protocol):
    """Media and channels of one connection, on the device's side."""

    async def create_offer(self) -> str:
        """The SDP offer, with all candidates."""

    async def accept_answer(self, answer_sdp: str) -> None:
        """Take the server's answer and connect; returns when the control channel is open. Raises HandshakeError."""

    def send_control(self, text: str) -> None:
        """Send a message on the control channel. Raises ConnectionLostError when it is closed."""

    def send_pose(self, data: bytes) -> None:
        """Send a record on the pose channel. Does nothing when the transport is closed."""

    async def close(self) -> None:
        """End it; nothing is left."""


TransportFactory = Callable[[TransportHandler], Transport]
