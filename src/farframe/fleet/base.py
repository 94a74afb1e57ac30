"""The seam between the control plane and wherever render servers come from.

A fleet turns an :class:`Assignment` into a render server that serves that session and nobody else, tells its listener
how that went, and ends the server on release. All methods return at once; what happens later goes to the listener.

    assign ──► listener.server_ready ──► (release | listener.server_lost)
          └──► listener.server_lost      (could not start)
    adopt  ──► (release | leave | listener.server_lost)      after another service had the server
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from farframe.protocol.link import Heartbeat, TokenRules

EndReason = Literal["SessionStopped", "SessionExpired"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A session that wants a server. ``session_key`` is unique over all accounts and time (a UUID)."""

    session_key: str
    session_id: str
    account_id: str
    size: str
    uploads_folder: str
    token_rules: TokenRules | None = None


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the control plane tells callers about a server, and where it reaches the server itself."""

    server_id: str
    pid: int
    hostname: str
    handshake_port: int
    inspector_port: int
    teraflops: float
    adapter: str
    adapter_kind: str
    encoder: str
    relay_url: str
    """``https://host:port`` at which this process reaches the handshake."""
    link_path: str = ""
    """Where a service that takes over finds the server again; empty where that cannot be."""


class FleetListener(Protocol):
    """The control plane's side. Calls come in the event loop and must not raise."""

    async def server_ready(self, session_key: str, facts: ServerFacts) -> None:
        """The server is up and accepts devices of this session."""

    async def server_lost(self, session_key: str, code: str, message: str) -> None:
        """The server could not start, died or stopped answering; nothing of it is left."""


class Fleet(Protocol):
    """Where render servers come from."""

    async def start(self, listener: FleetListener) -> None:
        """Begin; warm servers are prepared in the background."""

    async def assign(self, assignment: Assignment) -> ServerFacts | None:
        """Give the session a server. Returns its facts if a warm one is taken, else ``None`` and tells the listener
        later. Never blocks on a start. After a returned fact ``server_ready`` is not called."""

    async def release(self, session_key: str, reason: EndReason) -> None:
        """The session ended: the device is told why, then the server ends. Returns when the stream has ended or after
        a second, whichever is first. Unknown keys are fine."""

    def facts(self, session_key: str) -> ServerFacts | None:
        """The server of a session that is ready, if it still lives."""

    def heartbeat(self, session_key: str) -> Heartbeat | None:
        """What the server of a session last said about its stream, if it has said anything."""

    def session_keys(self) -> list[str]:
        """The sessions that have a server here or wait for one that is being started."""

    async def adopt(self, assignment: Assignment, link_path: str) -> ServerFacts | None:
        """Take over the living server of a session that another service, or an earlier run of this one, supervised.
        Returns its facts, or ``None`` if it is gone or out of reach; the listener is told nothing then."""

    def can_reach(self, link_path: str) -> bool:
        """Whether a server at that path could be adopted from here; if so it may still be gone."""

    def leave(self, session_key: str) -> None:
        """Forget a server that another service supervises now, without ending it."""

    async def clear_left_behind(self, keep: Collection[str]) -> None:
        """End the servers that an earlier run left behind and nobody adopted, but those with a link path in
        ``keep``, which are somebody else's. After :meth:`start` and the adoptions."""

    def account_ids(self) -> set[str]:
        """The accounts whose sessions have a server here."""

    def set_token_rules(self, account_id: str, rules: TokenRules) -> None:
        """Tell the account's servers which tokens are good now; those that know already are not told again."""

    async def stop(self, *, keep_sessions: bool = False) -> None:
        """End every server and wait until none is left. With ``keep_sessions`` those that serve a session live on, for
        as long as they are configured to wait, and can be adopted."""
