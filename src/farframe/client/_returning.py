"""What a connection needs to survive a loss: a line that can be replaced, the pace of attempts, a look at the route.

interrupted ──► attempt ──► attempt … ──► resumed
                    └── refused for good, session over, or too late: ended
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from farframe.client._transport import TransportHandler
from farframe.client.frame import Picture
from farframe.protocol.errors import Result

if TYPE_CHECKING:
    from farframe.stream.jitter import AssembledFrame

FIRST_PAUSES_SECONDS = (0.0, 0.15, 0.3, 0.6, 1.2)
PAUSE_SECONDS = 2.0
"""Between attempts: a network that changes is back within moments, one that stays away is not asked all the time."""

ATTEMPT_SECONDS = 8.0
ROUTE_INTERVAL_SECONDS = 0.3
PROOF_SECONDS = 0.6
"""How soon a ping must be answered after the network has changed: else the connection is made anew."""

WATCHER_PATIENCE_SECONDS = 30.0
"""How long a device that watches tries to come back."""

REFUSED = frozenset(
    {
        Result.AUTHENTICATION_FAILED,
        Result.NOTHING_TO_RESUME,
        Result.OTHER_SESSION_CONNECTED,
        Result.PROTOCOL_VERSION_MISMATCH,
        Result.WATCHING_ONLY,
        Result.INVALID_PARAM,
    }
)
"""What no further attempt would change."""


def pauses() -> Iterator[float]:
    """Seconds to wait before each attempt, for ever."""
    return itertools.chain(FIRST_PAUSES_SECONDS, itertools.repeat(PAUSE_SECONDS))


class LineOwner(TransportHandler, Protocol):
    """The connection: hears what its present line says."""

    def is_on(self, line: Line) -> bool:
        """Whether that is its present line."""


class Line:
    """Passes on what one transport says, for as long as it is the connection's: a former one has nothing to say."""

    def __init__(self, owner: LineOwner) -> None:
        self._owner = owner

    def on_control(self, text: str) -> None:
        """A message on the control channel."""
        if self._owner.is_on(self):
            self._owner.on_control(text)

    def on_frame_record(self, data: bytes) -> None:
        """A record on the frames channel."""
        if self._owner.is_on(self):
            self._owner.on_frame_record(data)

    def on_picture(self, picture: Picture) -> None:
        """A decoded picture."""
        if self._owner.is_on(self):
            self._owner.on_picture(picture)

    def on_access_unit(self, frame: AssembledFrame) -> None:
        """A coded frame."""
        if self._owner.is_on(self):
            self._owner.on_access_unit(frame)

    def on_closed(self, reason: str) -> None:
        """The other side said goodbye or fell silent."""
        if self._owner.is_on(self):
            self._owner.on_closed(reason)


class Route:
    """By which of this machine's addresses packets to a host leave. It changes when the network does."""

    def __init__(self, hosts: list[str]) -> None:
        self._hosts = hosts
        self._peer: tuple[int, str] | None = None

    async def resolve(self) -> None:
        """Find out the host's address, once; the first of the hosts that has one counts."""
        loop = asyncio.get_running_loop()
        for host in self._hosts:
            with contextlib.suppress(OSError):
                found = await loop.getaddrinfo(host, 443, type=socket.SOCK_DGRAM)
                if found:
                    self._peer = (found[0][0], str(found[0][4][0]))
                    return

    def address(self) -> str | None:
        """This machine's address on the way there, ``None`` while there is no way. Sends nothing."""
        if self._peer is None:
            return None
        family, peer = self._peer
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((peer, 443))
                return str(probe.getsockname()[0])
        except OSError:
            return None
