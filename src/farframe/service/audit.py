"""The audit log: who did what, to what, with what outcome. Written here for every route, in one place.

    who        what                                                              written
    ---------  ----------------------------------------------------------------  ------------------------------------
    operators  everything but reading                                            before the answer is sent
    accounts   everything that changes something or lets somebody in             within moments, many at a time
    anybody    what was refused (401, 403), reading included                     likewise, at most so many a minute

Rows are added and never changed; the database refuses the rest. Nothing of a request gets in but its path, whose
control characters are written out, so that no entry can look like two.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import structlog
from litestar.types import HTTPScope

from farframe.auth.masking import one_line
from farframe.service.access import Credentials, credentials_of
from farframe.service.clock import Clock
from farframe.service.frontier import decode_segment
from farframe.store.audit import AuditEntry, AuditStore
from farframe.wire.ids import normalize_account_id

log = structlog.get_logger("farframe.service")

MAX_WAITING = 2000
"""With so many entries not written yet, requests wait for the log rather than the log losing entries."""

MAX_STRANGERS_A_MINUTE = 120
"""Refusals of callers without valid credentials beyond this are counted, not listed: they cost their sender nothing."""

_BATCH = 500
_MINUTE = 60_000_000
_RETRY_SECONDS = 1.0

_ACCOUNT_ACTIONS = {
    ("GET", "token"): "token.issue",
    ("PUT", "sessions"): "session.create",
    ("PATCH", "sessions"): "session.extend",
    ("PUT", "conversions"): "conversion.create",
    ("PUT", "uploads"): "upload.store",
    ("DELETE", "uploads"): "upload.delete",
    ("POST", "viewer-links"): "link.create",
}
_SESSION_ACTIONS = {
    ("POST", ":stop"): "session.stop",
    ("POST", "whep"): "session.connect",
    ("DELETE", "whep"): "session.disconnect",
    ("POST", "inspector-link"): "session.inspect",
    ("POST", "token"): "session.token",
}
_OPERATOR_ACTIONS = {
    ("POST", "accounts", 2): "account.create",
    ("DELETE", "accounts", 3): "account.delete",
    ("POST", "accounts", 4): "account.revoke-tokens",
    ("POST", "accounts", 6): "account.regenerate-key",
    ("POST", "prices", 2): "price.add",
}


def action_of(method: str, segments: Sequence[str]) -> tuple[str, bool]:
    """What a request does, and whether that goes into the log even if it was not refused."""
    if segments[:1] == ["operator"]:
        kind = segments[1] if len(segments) > 1 else ""
        action = _OPERATOR_ACTIONS.get((method, kind, len(segments)))
        return action or ("operator.read" if method == "GET" else "operator.change"), method != "GET"
    if segments[:2] == ["viewer-links", "redeem"]:
        return "link.redeem", True
    if segments[:1] == ["accounts"] and len(segments) > 2:
        action = _ACCOUNT_ACTIONS.get((method, segments[2]))
        if len(segments) > 4 and segments[2] == "sessions":
            action = _SESSION_ACTIONS.get((method, segments[4]))
        return action or f"{_noun(segments[2])}.read", action is not None
    return "other", False


def _noun(segment: str) -> str:
    return {"sessions": "session", "conversions": "conversion", "uploads": "upload"}.get(segment, "account")


def outcome_of(status: int) -> str:
    """``ok``, ``refused`` for want of a right, or ``failed`` for any other reason."""
    if status < 400:
        return "ok"
    return "refused" if status in (401, 403) else "failed"


class Audit:
    """Writes the log. :meth:`start` before the first request, :meth:`stop` after the last."""

    def __init__(self, store: AuditStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: list[AuditEntry] = []
        self._arrived = asyncio.Event()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._strangers = 0
        self._strangers_since = 0

    def start(self) -> None:
        """Begin to write what :meth:`note` brings."""
        self._task = asyncio.create_task(self._run(), name="audit")

    async def stop(self) -> None:
        """Write what is left and end."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.flush()

    async def on_answer(self, scope: HTTPScope, segments: Sequence[str], status: int, vector: str) -> None:
        """Note a request that is about to be answered, if it belongs into the log."""
        action, changes = action_of(scope["method"], segments)
        outcome = outcome_of(status)
        if scope["method"] == "OPTIONS" or action == "other" or not (changes or outcome == "refused"):
            return
        credentials = credentials_of(scope)
        known = credentials.operator is not None or credentials.actor is not None
        known = known or (credentials.claims is not None and not credentials.revoked)
        if outcome == "refused" and not known and not self._admits_stranger():
            return
        client = scope.get("client")
        await self.note(
            AuditEntry(
                at=self._clock.now(),
                actor=one_line(_actor(credentials)),
                role=_role(credentials),
                account_id=_account(segments, credentials),
                action=action,
                target=one_line("/" + "/".join(decode_segment(segment) for segment in segments)),
                outcome=outcome,
                correlation=vector,
                address=one_line(client[0]) if client else None,
            ),
            now=segments[0] == "operator",
        )

    async def note(self, entry: AuditEntry, *, now: bool = False) -> None:
        """Add an entry; with ``now`` it is in the log when this returns."""
        self._waiting.append(entry)
        if now or len(self._waiting) >= MAX_WAITING:
            try:
                await self.flush()
            except Exception:
                # What was done is done, and its answer is due; the entry is tried again.
                log.exception("audit.write_failed", waiting=len(self._waiting))
        if self._waiting:
            self._arrived.set()

    async def flush(self) -> None:
        """Write everything that waits."""
        async with self._writing:
            while self._waiting:
                batch = self._waiting[:_BATCH]
                await self._store.add(batch)
                del self._waiting[: len(batch)]

    def _admits_stranger(self) -> bool:
        now = self._clock.now()
        if not 0 <= now - self._strangers_since < _MINUTE:
            dropped = self._strangers - MAX_STRANGERS_A_MINUTE
            if dropped > 0:
                log.warning("audit.refusals_not_listed", count=dropped)
            self._strangers, self._strangers_since = 0, now
        self._strangers += 1
        return self._strangers <= MAX_STRANGERS_A_MINUTE

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            try:
                await self.flush()
            except Exception:
                log.exception("audit.write_failed", waiting=len(self._waiting))
                await asyncio.sleep(_RETRY_SECONDS)
                self._arrived.set()


def _actor(credentials: Credentials) -> str:
    if credentials.operator is not None:
        return f"operator:{credentials.operator}"
    if credentials.claims is not None:
        session = f" session:{credentials.claims.session_id}" if credentials.claims.session_id is not None else ""
        return f"{credentials.claims.origin}{session}"
    return credentials.actor or "unknown"


def _role(credentials: Credentials) -> str:
    if credentials.operator is not None:
        return "Operator"
    return credentials.claims.role.value if credentials.claims is not None else ""


def _account(segments: Sequence[str], credentials: Credentials) -> str | None:
    """The account that it was done to: from the path, or what the route found."""
    if credentials.account_id is not None:
        return credentials.account_id
    position = 2 if segments[0] == "operator" else 1
    named = segments[position - 1 : position] == ["accounts"] and len(segments) > position
    return normalize_account_id(decode_segment(segments[position])) if named else None
