"""Sessions: the rules of their life between the store, which keeps them, and the fleet, which serves them.

All changes of a status are conditional updates in the store. Whoever changes it does what follows from it; whoever
comes second does nothing.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from farframe.fleet.base import Assignment, EndReason, Fleet, ServerFacts
from farframe.protocol.link import TokenRules
from farframe.service.clock import Clock
from farframe.service.config import ServiceConfig
from farframe.service.quotas import Quotas, session_refusal
from farframe.store.quotas import QuotaReached
from farframe.store.sessions import READY, NewSession, Position, Refusal, ServerColumns, SessionRow
from farframe.store.store import Store
from farframe.wire.errors import BadRequest, Conflict, ErrorDetail, ResourceMissing, Unauthorized, UnprocessableEntity
from farframe.wire.sessions import PAGE_SIZE, Session, SessionSettings, SessionSize, SessionStatus
from farframe.wire.times import format_session_time, whole_minutes

log = structlog.get_logger("farframe.service")

_POSITION = re.compile(r"1-([0-9]{1,18})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z")


_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SessionEngine:
    """Creates, shows, extends and ends sessions. It is the fleet's listener and one of the scheduler's jobs."""

    def __init__(
        self,
        config: ServiceConfig,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        *,
        uploads_folder: Path,
        due: Callable[[int | None], None],
        replica_id: str,
    ) -> None:
        self.replica_id = replica_id
        """This service, as the store knows it."""
        self._config = config
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._quotas = Quotas(config, store.quotas)
        self._uploads_folder = uploads_folder
        self._due = due
        self._tasks: set[asyncio.Task[Any]] = set()
        self._assigning: set[str] = set()
        self._resuming = asyncio.Lock()
        self.token_rules: Callable[[str], Awaitable[TokenRules]] | None = None
        """Which tokens of an account are good, for its render servers."""

    # Operations ---------------------------------------------------------------------------------------------------

    async def create(self, account_id: str, session_id: str, settings: SessionSettings) -> tuple[Session, bool]:
        """A new session, or the one that has the id already if it was created with the same settings.

        Returns it and whether it is new. A new one always says ``Starting``, also when a warm server took it at once or
        none is left. Raises :class:`Conflict` if the id is taken by other settings, :class:`QuotaExceeded` if the
        account's limits do not allow another session.
        """
        now = self._clock.now()
        new = NewSession(
            key=str(uuid.uuid4()),
            account_id=account_id,
            id=session_id,
            size=settings.size.value,
            lease_minutes=settings.lease_minutes,
            created_at=now,
            replica_id=self.replica_id,
        )
        limit = self._config.limit(settings.size)
        quota = await self._quotas.for_sessions(account_id, settings.size, now)
        try:
            creation = await self._store.sessions.create(
                new, limit=limit, refusal=self._refusal(settings.size, limit), quota=quota
            )
        except QuotaReached as reached:
            raise session_refusal(reached, settings.size) from None
        if creation is None:
            # The account was deleted after this call's token was looked at, which is void by now.
            raise Unauthorized
        row = creation.session
        if not creation.created:
            same_lease = settings.lease_minutes in (row.created_lease_minutes, row.lease_minutes)
            if row.size != settings.size or not same_lease:
                raise Conflict("A resource already exists under the given ID.")
            return self.describe(row), False
        if creation.admitted:
            log.info("session.created", session=session_id, key=row.key, size=row.size)
            # In a task of its own: a caller that hangs up must not leave a session that nobody serves.
            await asyncio.shield(self._spawn(self._assign(row)))
        else:
            log.warning("session.refused", session=session_id, key=row.key, size=row.size, limit=limit)
        return self.describe(row), True

    async def get(self, account_id: str, session_id: str) -> Session:
        """The session in any status. Raises :class:`ResourceMissing`."""
        return self.describe(await self.row(account_id, session_id))

    async def row(self, account_id: str, session_id: str) -> SessionRow:
        """The session as kept, expired if its lease has run out this moment. Raises :class:`ResourceMissing`."""
        row = await self._store.sessions.get(account_id, session_id)
        if row is not None and row.expires_at is not None and row.status == SessionStatus.READY:
            now = self._clock.now()
            if row.expires_at <= now:
                if await self._store.sessions.expire(row.key, now):
                    self._expired(row)
                row = await self._store.sessions.get(account_id, session_id)
        if row is None:
            raise ResourceMissing
        return row

    async def page(self, account_id: str, skip_token: str | None) -> tuple[list[Session], str | None]:
        """Active sessions, oldest first, and the token of the next page if there is one."""
        after = None
        if skip_token is not None:
            match = _POSITION.match(skip_token)
            if match is None:
                raise BadRequest("The skiptoken value is not valid. Follow @nextLink as it is.")
            after = Position(int(match[1]), match[2])
        # Leases that have run out are not listed, though the scheduler may not have got to them yet.
        rows = await self._store.sessions.list_active(
            account_id, after=after, count=PAGE_SIZE + 1, now=self._clock.now()
        )
        page = rows[:PAGE_SIZE]
        more = len(rows) > PAGE_SIZE
        return [self.describe(row) for row in page], f"1-{page[-1].created_at}-{page[-1].key}" if more else None

    async def extend(self, account_id: str, session_id: str, lease_minutes: int) -> Session:
        """Set a longer total lease.

        Raises :class:`ResourceMissing`, :class:`UnprocessableEntity`, :class:`QuotaExceeded`.
        """
        row = await self.row(account_id, session_id)
        now = self._clock.now()
        quota = await self._quotas.for_sessions(account_id, row.size, now)
        try:
            extended = await self._store.sessions.extend(row.key, lease_minutes, now, quota)
        except QuotaReached as reached:
            raise session_refusal(reached, row.size) from None
        if not extended:
            row = await self.row(account_id, session_id)
            if SessionStatus(row.status).final:
                raise UnprocessableEntity(f"The session has ended ({row.status}); its lease cannot be changed.")
            raise UnprocessableEntity(
                f"The maxLeaseTimeMinutes value must be larger than the current value, {row.lease_minutes}."
            )
        self._due(None)
        return await self.get(account_id, session_id)

    async def stop(self, account_id: str, session_id: str) -> None:
        """End a session; fine if it has ended already. Raises :class:`ResourceMissing`."""
        key = await self._store.sessions.stop(account_id, session_id, self._clock.now())
        if key is None:
            row = await self.row(account_id, session_id)  # expired now, if that is why
            key = row.key if await self._store.sessions.mark_stopped(row.key, self._clock.now()) else None
        if key is not None:
            log.info("session.stopped", session=session_id, key=key)
            self._spawn(self.release(key, "SessionStopped"))

    def server_of(self, row: SessionRow) -> ServerFacts | None:
        """The living server of a session in Ready, also if another replica supervises it."""
        if row.status != SessionStatus.READY:
            return None
        facts = self._fleet.facts(row.key)
        if facts is not None or row.replica_id == self.replica_id or row.relay_url is None:
            return facts
        return ServerFacts(
            server_id=row.server_id or "",
            pid=row.pid or 0,
            hostname=row.hostname or "",
            handshake_port=row.handshake_port or 0,
            inspector_port=row.inspector_port or 0,
            teraflops=row.teraflops or 0.0,
            adapter="",
            adapter_kind="",
            encoder="",
            relay_url=row.relay_url,
        )

    def describe(self, row: SessionRow) -> Session:
        """The session as it goes on the wire."""
        status = SessionStatus(row.status)
        ready = status is SessionStatus.READY
        elapsed = 0
        if row.ready_at is not None:
            end = row.ended_at if row.ended_at is not None else self._clock.now()
            if row.expires_at is not None:
                end = min(end, row.expires_at)
            elapsed = whole_minutes(end - row.ready_at)
        error = None
        if status is SessionStatus.ERROR:
            error = ErrorDetail(
                code=row.error_code or "InternalServerError", message=row.error_message or "The session failed."
            )
        return Session(
            id=row.id,
            creation_time=format_session_time(row.created_at),
            arr_inspector_port=row.inspector_port if ready else None,
            handshake_port=row.handshake_port if ready else None,
            elapsed_time_minutes=elapsed,
            hostname=row.hostname if ready else None,
            max_lease_time_minutes=row.lease_minutes,
            size=SessionSize(row.size),
            status=status,
            teraflops=row.teraflops,
            error=error,
        )

    # The fleet's listener -----------------------------------------------------------------------------------------

    async def server_ready(self, session_key: str, facts: ServerFacts) -> None:
        """A server took up the session. If the session has ended meanwhile the server is released again."""
        server = ServerColumns(
            server_id=facts.server_id,
            pid=facts.pid,
            hostname=facts.hostname,
            handshake_port=facts.handshake_port,
            inspector_port=facts.inspector_port,
            teraflops=facts.teraflops,
            relay_url=self._relay_url(facts),
            link_path=facts.link_path or None,
        )
        now = self._clock.now()
        ends_at = await self._store.sessions.mark_ready(session_key, server, now, owner=self.replica_id)
        if ends_at is not None:
            log.info("session.ready", key=session_key, server=facts.server_id, pid=facts.pid)
            self._due(ends_at)
        else:
            self._spawn(self.release(session_key, "SessionStopped"))

    async def server_lost(self, session_key: str, code: str, message: str) -> None:
        """The session's server could not start or is gone: the session fails, unless it has ended."""
        now = self._clock.now()
        if await self._store.sessions.mark_error(session_key, code, message, now, owner=self.replica_id):
            log.error("session.failed", key=session_key, error=code, message=message)

    # Time ---------------------------------------------------------------------------------------------------------

    async def expire(self, now: int) -> int | None:
        """End sessions whose lease has run out, some at a time; returns when the next one will, or ``now`` if it has.

        Between two calls the scheduler's other jobs have their turn, so that a million leases that run out together
        hold up neither them nor anybody who waits for the store.
        """
        expired = await self._store.sessions.expire_due(now)
        for row in expired:
            self._expired(row)
        return await self._store.sessions.next_expiry()

    def _expired(self, row: SessionRow) -> None:
        log.info("session.expired", session=row.id, key=row.key)
        self._spawn(self.release(row.key, "SessionExpired"))

    # Begin and end ------------------------------------------------------------------------------------------------

    async def resume(self, row: SessionRow) -> None:
        """Go on with an active session that an earlier run or another replica had, and that is this replica's now.

        A server that lives is kept, even if this replica then has more than it may: nobody's work is ended for it, and
        nothing is created here until enough of them have ended. A session that waits for its server gets one only
        within the limit, else it fails as it would have at its creation.
        """
        if row.status == SessionStatus.STARTING:
            if await self._admits(row):
                log.info("session.started_again", session=row.id, key=row.key)
                await self._assign(row)
            return
        facts = None
        if row.link_path:
            try:
                facts = await self._fleet.adopt(self._assignment(row), row.link_path)
            except Exception:
                log.exception("session.adopt_failed", key=row.key)
        if facts is not None:
            log.info("session.adopted", session=row.id, key=row.key, server=facts.server_id, pid=facts.pid)
        else:
            await self.server_lost(
                row.key,
                "ServerLost",
                "The service was restarted and the session's render server is gone. Create another session.",
            )

    async def _admits(self, row: SessionRow) -> bool:
        """Whether there is room for a session that an earlier run or another replica admitted; if not, it fails."""
        limit = self._config.limit(SessionSize(row.size))
        async with self._resuming:
            served = set(self._fleet.session_keys()) | self._assigning
            busy = sum(
                other.size == row.size and other.key != row.key and (other.status == READY or other.key in served)
                for other in await self._store.replicas.active_of(self.replica_id)
            )
            if busy < limit:
                self._assigning.add(row.key)  # counted from now on
                return True
        refusal = self._refusal(SessionSize(row.size), limit)
        await self.server_lost(row.key, refusal.code, refusal.message)
        return False

    def busy_keys(self) -> set[str]:
        """Sessions that are just being given a server."""
        return set(self._assigning)

    async def stop_all(self) -> None:
        """End every session of this replica, before the service ends."""
        now = self._clock.now()
        for row in await self._store.replicas.active_of(self.replica_id):
            if await self._store.sessions.mark_stopped(row.key, now):
                log.info("session.stopped", session=row.id, key=row.key, why="shutdown")
                self._spawn(self.release(row.key, "SessionStopped"))
        await self.settle()

    async def settle(self) -> None:
        """Wait for what goes on in the background."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # Within -------------------------------------------------------------------------------------------------------

    def _assignment(self, row: SessionRow) -> Assignment:
        return Assignment(
            session_key=row.key,
            session_id=row.id,
            account_id=row.account_id,
            size=row.size,
            uploads_folder=str(self._uploads_folder / row.account_id),
        )

    def _relay_url(self, facts: ServerFacts) -> str:
        """Where other replicas reach the handshake: by the public name, unless servers are for this machine only."""
        if self._config.host in _LOOPBACK:
            return facts.relay_url
        host = f"[{facts.hostname}]" if ":" in facts.hostname else facts.hostname
        return f"https://{host}:{facts.handshake_port}"

    async def _assign(self, row: SessionRow) -> None:
        self._assigning.add(row.key)
        try:
            await self._assign_now(row)
        finally:
            self._assigning.discard(row.key)

    async def _assign_now(self, row: SessionRow) -> None:
        try:
            assignment = self._assignment(row)
            if self.token_rules is not None:
                assignment = replace(assignment, token_rules=await self.token_rules(row.account_id))
            facts = await self._fleet.assign(assignment)
        except Exception:
            log.exception("session.assign_failed", key=row.key)
            await self.server_lost(
                row.key,
                "ServerStartFailed",
                "No render server could be started. See the service's log, then try again.",
            )
            return
        if facts is not None:
            await self.server_ready(row.key, facts)

    async def release(self, session_key: str, reason: EndReason) -> None:
        """Let the session's server end, if it has one here."""
        try:
            await self._fleet.release(session_key, reason)
        except Exception:
            log.exception("session.release_failed", key=session_key)

    def _refusal(self, size: SessionSize, limit: int) -> Refusal:
        setting = f"servers.{size.value.lower()}"
        if limit == 0:
            message = f"This service has no {size} render servers. Use another size, or raise the setting {setting}."
        else:
            number = "The only" if limit == 1 else f"All {limit}"
            busy = "server is" if limit == 1 else "servers are"
            message = (
                f"{number} {size} render {busy} in use. Stop a session, wait for one to end, use another size, "
                f"or raise the setting {setting}."
            )
        return Refusal(code="NoServerAvailable", message=message)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
