"""By which way a connection's stream travels, and what worked before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

WayChoice = Literal["auto", "webrtc", "turn", "websocket"]
"""``auto``: the best that gets through; the others ask for one (``turn``: WebRTC, but by way of a TURN server only)."""

WayKind = Literal["webrtc", "turn", "websocket"]
REMEMBERED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Way:
    """How a connection's stream travels. ``kind`` is ``webrtc``, ``turn`` (WebRTC by way of a TURN server) or
    ``websocket``; ``relayed`` says whether the service passed on the handshake, or for a WebSocket the whole stream;
    ``reason`` is a sentence for people; ``round_trip_ms`` is the shortest one measured so far, ``None`` before."""

    kind: WayKind
    relayed: bool
    reason: str
    round_trip_ms: float | None = None


@dataclass(slots=True)
class Memory:
    """What worked where, for a while. Kept by the client, so that its connections learn from each other."""

    clock: Callable[[], float] = time.monotonic
    no_turn: bool = False
    """Whether the service has said that it names no TURN servers."""

    _worked: dict[str, tuple[str, float]] = field(default_factory=dict)

    def of(self, place: str) -> str | None:
        """What worked at ``place`` within the last minutes."""
        kind, at = self._worked.get(place, ("", 0.0))
        return kind if kind and self.clock() - at < REMEMBERED_SECONDS else None

    def worked(self, place: str, kind: str) -> None:
        """Note what worked; a way that still works is not noted anew, so that the others get their turn again."""
        if self.of(place) != kind:
            self._worked[place] = (kind, self.clock())
