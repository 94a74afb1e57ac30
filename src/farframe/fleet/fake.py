"""A fleet without servers, for tests: each assignment's outcome is scripted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

from farframe.fleet.base import Assignment, EndReason, FleetListener, ServerFacts

Outcome = Literal["warm", "cold", "raise"]
"""``warm``: a server at once. ``cold``: later, by :meth:`FakeFleet.make_ready` or :meth:`FakeFleet.lose`. ``raise``:
the fleet itself fails."""


@dataclass
class FakeFleet:
    """A :class:`farframe.fleet.base.Fleet` that does as it is told.

    ``script`` holds the outcomes of the next assignments; when it is empty, ``default`` applies. ``assigned`` and
    ``released`` record the calls. ``template`` is what servers report; ports count up from its ports.
    """

    default: Outcome = "warm"
    script: deque[Outcome] = field(default_factory=deque)
    template: ServerFacts = field(
        default_factory=lambda: ServerFacts(
            server_id="fake",
            pid=0,
            hostname="localhost",
            handshake_port=50051,
            inspector_port=50052,
            teraflops=0.25,
            adapter="fake",
            adapter_kind="cpu",
            encoder="fake",
            relay_url="https://127.0.0.1:50051",
        )
    )
    assigned: list[Assignment] = field(default_factory=list)
    released: list[tuple[str, EndReason]] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.listener: FleetListener | None = None
        self._living: dict[str, ServerFacts] = {}
        self._count = 0

    async def start(self, listener: FleetListener) -> None:
        """Remember whom to tell."""
        self.listener = listener

    async def assign(self, assignment: Assignment) -> ServerFacts | None:
        """Record the assignment and act out its outcome."""
        self.assigned.append(assignment)
        outcome = self.script.popleft() if self.script else self.default
        if outcome == "raise":
            raise RuntimeError("the fake fleet was told to fail")
        if outcome == "cold":
            return None
        return self._start_server(assignment.session_key)

    async def release(self, session_key: str, reason: EndReason) -> None:
        """Record the release; the server is gone afterwards."""
        self.released.append((session_key, reason))
        self._living.pop(session_key, None)

    def facts(self, session_key: str) -> ServerFacts | None:
        """The facts of a living server."""
        return self._living.get(session_key)

    async def stop(self) -> None:
        """End all servers."""
        self.stopped = True
        self._living.clear()

    def key_of(self, session_id: str) -> str:
        """The key of the newest assignment of that session id."""
        return next(a.session_key for a in reversed(self.assigned) if a.session_id == session_id)

    async def make_ready(self, session_key: str) -> None:
        """A cold server has come up."""
        assert self.listener is not None
        await self.listener.server_ready(session_key, self._start_server(session_key))

    async def lose(self, session_key: str, code: str = "ServerDied", message: str = "The server died.") -> None:
        """A server has failed to start, or died."""
        assert self.listener is not None
        self._living.pop(session_key, None)
        await self.listener.server_lost(session_key, code, message)

    def _start_server(self, session_key: str) -> ServerFacts:
        offset = 2 * self._count
        self._count += 1
        facts = replace(
            self.template,
            server_id=f"{self.template.server_id}-{self._count}",
            handshake_port=self.template.handshake_port + offset,
            inspector_port=self.template.inspector_port + offset,
        )
        self._living[session_key] = facts
        return facts
