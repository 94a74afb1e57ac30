"""Sessions: the rules of their life between the store, which keeps them, and the fleet, which serves them.

All changes of a status are conditional updates in the store. Whoever changes it does what follows from it; whoever
comes second does nothing.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from farframe.fleet.base import Assignment, EndReason, Fleet, ServerFacts
from farframe.protocol.link import TokenRules
from farframe.service.clock import Clock
from farframe.service.config import ServiceConfig
from farframe.store.sessions import NewSession, Position, Refusal, ServerColumns, SessionRow
from farframe.store.store import Store
from farframe.wire.errors import BadRequest, Conflict, ErrorDetail, ResourceMissing, UnprocessableEntity
from farframe.wire.sessions import PAGE_SIZE, Session, SessionSettings, SessionSize, SessionStatus
from farframe.wire.times import format_session_time, whole_minutes

log = structlog.get_logger("farframe.service")

_POSITION = re.compile(r"1-([0-9]{1,18})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z")


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
        wake_scheduler: Callable[[], None],
    ) -> None:
        self._config = config
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._uploads_folder = uploads_folder
        self._wake_scheduler = wake_scheduler
        self._tasks: set[asyncio.Task[Any]] = set()
        self.token_rules: Callable[[str], Awaitable[TokenRules]] | None = None
        """Which tokens of an account are good, for its render servers."""

    # Operations ---------------------------------------------------------------------------------------------------

    async def create(self, account_id: str, session_id: str, settings: SessionSettings) -> tuple[Session, bool]:
        """A new session, or the one that has the id already if it was created with the same settings.

        Returns it and whether it is new. A new one always says ``Starting``, also when a warm server took it at once or
        none is left. Raises :class:`Conflict` if the id is taken by other settings.
        """
        now = self._clock.now()
        new = NewSession(
            key=str(uuid.uuid4()),
            account_id=account_id,
            id=session_id,
            size=settings.size.value,
            lease_minutes=settings.lease_minutes,
            created_at=now,
        )
        limit = self._config.limit(settings.size)
        creation = await self._store.sessions.create(new, limit=limit, refusal=self._refusal(settings.size, limit))
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
                await self.expire(now)
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
        await self.expire(self._clock.now())
        rows = await self._store.sessions.list_active(account_id, after=after, count=PAGE_SIZE + 1)
        page = rows[:PAGE_SIZE]
        more = len(rows) > PAGE_SIZE
        return [self.describe(row) for row in page], f"1-{page[-1].created_at}-{page[-1].key}" if more else None

    async def extend(self, account_id: str, session_id: str, lease_minutes: int) -> Session:
        """Set a longer total lease. Raises :class:`ResourceMissing`, :class:`UnprocessableEntity`."""
        row = await self.row(account_id, session_id)
        if not await self._store.sessions.extend(row.key, lease_minutes, self._clock.now()):
            row = await self.row(account_id, session_id)
            if SessionStatus(row.status).final:
                raise UnprocessableEntity(f"The session has ended ({row.status}); its lease cannot be changed.")
            raise UnprocessableEntity(
                f"The maxLeaseTimeMinutes value must be larger than the current value, {row.lease_minutes}."
            )
        self._wake_scheduler()
        return await self.get(account_id, session_id)

    async def stop(self, account_id: str, session_id: str) -> None:
        """End a session; fine if it has ended already. Raises :class:`ResourceMissing`."""
        row = await self.row(account_id, session_id)
        if await self._store.sessions.mark_stopped(row.key, self._clock.now()):
            log.info("session.stopped", session=session_id, key=row.key)
            self._spawn(self._release(row.key, "SessionStopped"))

    def server_of(self, row: SessionRow) -> ServerFacts | None:
        """The living server of a session in Ready."""
        return self._fleet.facts(row.key) if row.status == SessionStatus.READY else None

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
        )
        if await self._store.sessions.mark_ready(session_key, server, self._clock.now()):
            log.info("session.ready", key=session_key, server=facts.server_id, pid=facts.pid)
            self._wake_scheduler()
        else:
            self._spawn(self._release(session_key, "SessionStopped"))

    async def server_lost(self, session_key: str, code: str, message: str) -> None:
        """The session's server could not start or is gone: the session fails, unless it has ended."""
        if await self._store.sessions.mark_error(session_key, code, message, self._clock.now()):
            log.error("session.failed", key=session_key, error=code, message=message)

    # Time ---------------------------------------------------------------------------------------------------------

    async def expire(self, now: int) -> int | None:
        """End the sessions whose lease has run out; returns when the next one will."""
        for row in await self._store.sessions.expire_due(now):
            log.info("session.expired", session=row.id, key=row.key)
            self._spawn(self._release(row.key, "SessionExpired"))
        return await self._store.sessions.next_expiry()

    # Begin and end ------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """After a start: a session that is active in the books and has no living server has failed."""
        for row in await self._store.sessions.all_active():
            if self._fleet.facts(row.key) is None:
                await self.server_lost(
                    row.key,
                    "ServerLost",
                    "The service was restarted and the session's render server is gone. Create another session.",
                )

    async def stop_all(self) -> None:
        """End every session, before the service ends."""
        now = self._clock.now()
        for row in await self._store.sessions.all_active():
            if await self._store.sessions.mark_stopped(row.key, now):
                log.info("session.stopped", session=row.id, key=row.key, why="shutdown")
                self._spawn(self._release(row.key, "SessionStopped"))
        await self.settle()

    async def settle(self) -> None:
        """Wait for what goes on in the background."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # Within -------------------------------------------------------------------------------------------------------

    async def _assign(self, row: SessionRow) -> None:
        assignment = Assignment(
            session_key=row.key,
            session_id=row.id,
            account_id=row.account_id,
            size=row.size,
            uploads_folder=str(self._uploads_folder / row.account_id),
            token_rules=await self.token_rules(row.account_id) if self.token_rules is not None else None,
        )
        try:
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

    async def _release(self, session_key: str, reason: EndReason) -> None:
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
