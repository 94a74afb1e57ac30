"""A fleet without servers, for tests: each assignment's outcome is scripted."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

from farframe.fleet.base import Assignment, EndReason, FleetListener, ServerFacts
from farframe.protocol.link import Heartbeat, TokenRules

Outcome = Literal["warm", "cold", "raise"]
"""``warm``: a server at once. ``cold``: later, by :meth:`FakeFleet.make_ready` or :meth:`FakeFleet.lose`. ``raise``:
the fleet itself fails."""


@dataclass
class FakeFleet:
    """A :class:`farframe.fleet.base.Fleet` that does as it is told.

    ``script`` holds the outcomes of the next assignments; when it is empty, ``default`` applies. ``assigned`` and
    ``released`` record the calls. ``template`` is what servers report; ports count up from its ports. ``adoptable``
    holds the link paths at which :meth:`adopt` finds a living server.
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
    adoptable: set[str] = field(default_factory=set)
    adopted: list[tuple[str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    token_rules: dict[str, TokenRules] = field(default_factory=dict)
    """What servers were last told about tokens, by account."""
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    """What servers are said to have said, by session key."""
    kept: set[str] | None = None
    """What :meth:`clear_left_behind` was told to keep."""

    def __post_init__(self) -> None:
        self.listener: FleetListener | None = None
        self._living: dict[str, ServerFacts] = {}
        self._waiting: set[str] = set()
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
            self._waiting.add(assignment.session_key)
            return None
        return self._start_server(assignment.session_key)

    async def release(self, session_key: str, reason: EndReason) -> None:
        """Record the release; the server is gone afterwards."""
        self.released.append((session_key, reason))
        self._living.pop(session_key, None)
        self._waiting.discard(session_key)

    def facts(self, session_key: str) -> ServerFacts | None:
        """The facts of a living server."""
        return self._living.get(session_key)

    def heartbeat(self, session_key: str) -> Heartbeat | None:
        """What a test said that a living server says."""
        return self.heartbeats.get(session_key) if session_key in self._living else None

    def session_keys(self) -> list[str]:
        """The sessions that have a server or wait for one."""
        return [*self._living, *(key for key in self._waiting if key not in self._living)]

    async def adopt(self, assignment: Assignment, link_path: str) -> ServerFacts | None:
        """Take over the server at that path if the test said that there is one."""
        if link_path not in self.adoptable:
            return None
        self.adoptable.discard(link_path)
        self.adopted.append((assignment.session_key, link_path))
        return self._start_server(assignment.session_key, link_path)

    def can_reach(self, link_path: str) -> bool:
        """Whether the test said that there is a server."""
        return link_path in self.adoptable

    def leave(self, session_key: str) -> None:
        """Forget a server."""
        self.left.append(session_key)
        self._living.pop(session_key, None)
        self._waiting.discard(session_key)

    async def clear_left_behind(self, keep: Collection[str]) -> None:
        """Record what was to be kept."""
        self.kept = set(keep)

    def account_ids(self) -> set[str]:
        """The accounts of living servers."""
        return {item.account_id for item in self.assigned if item.session_key in self._living}

    def set_token_rules(self, account_id: str, rules: TokenRules) -> None:
        """Record the rules."""
        self.token_rules[account_id] = rules

    async def stop(self, *, keep_sessions: bool = False) -> None:
        """End all servers, or leave those that serve a session to be adopted by their link paths."""
        self.stopped = True
        if keep_sessions:
            self.adoptable.update(facts.link_path for facts in self._living.values())
        self._living.clear()
        self._waiting.clear()

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
        self._waiting.discard(session_key)
        await self.listener.server_lost(session_key, code, message)

    def _start_server(self, session_key: str, link_path: str | None = None) -> ServerFacts:
        offset = 2 * self._count
        self._count += 1
        facts = replace(
            self.template,
            server_id=f"{self.template.server_id}-{self._count}",
            handshake_port=self.template.handshake_port + offset,
            inspector_port=self.template.inspector_port + offset,
            link_path=link_path or f"/fake/{session_key}.sock",
        )
        self._waiting.discard(session_key)
        self._living[session_key] = facts
        return facts
