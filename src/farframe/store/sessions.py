"""Sessions. Every change of a status is one conditional update: it names the status that it expects, and says whether
it took place. So a stop, an expiry, a failure and a late "ready" can meet in any order; one of them wins, and a final
status stays.

    Starting ──► Ready ──► Expired
       │  └────────┬─────► Error
       └───────────┴─────► Stopped
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError

from farframe.store.database import Database
from farframe.store.lookup import Lookup, Reader
from farframe.store.quotas import SessionQuota, check_active, check_time, lock_account
from farframe.store.schema import replicas, sessions
from farframe.store.usage import record_sessions

STARTING, READY, STOPPED, ERROR, EXPIRED = "Starting", "Ready", "Stopped", "Error", "Expired"
ACTIVE = (STARTING, READY)

_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session as kept. Times in microseconds since 1970 UTC, leases in minutes.

    ``key`` is unique over all accounts and time; ``id`` was chosen by the caller. ``expires_at`` is set with ``Ready``.
    """

    key: str
    account_id: str
    id: str
    size: str
    status: str
    created_lease_minutes: int
    lease_minutes: int
    created_at: int
    ready_at: int | None
    expires_at: int | None
    ended_at: int | None
    error_code: str | None
    error_message: str | None
    server_id: str | None
    pid: int | None
    hostname: str | None
    handshake_port: int | None
    inspector_port: int | None
    teraflops: float | None
    replica_id: str | None
    """The service that supervises the session's server."""
    relay_url: str | None
    """``https://host:port`` at which services reach the server's handshake."""
    link_path: str | None
    """The Unix socket by which a service that takes over finds the server again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """What a session starts from."""

    key: str
    account_id: str
    id: str
    size: str
    lease_minutes: int
    created_at: int
    replica_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerColumns:
    """What is kept of the server that serves a session. ``teraflops`` in 10^12 operations a second."""

    server_id: str
    pid: int
    hostname: str
    handshake_port: int
    inspector_port: int
    teraflops: float
    relay_url: str | None = None
    link_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How a session ends that finds no server: the error's code and message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """``session`` as it was created or found. ``admitted`` is false when there was no server left for a new one, which
    then is in ``Error`` already although ``session`` still says ``Starting``."""

    session: SessionRow
    created: bool
    admitted: bool


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list of sessions, ordered by creation."""

    created_at: int
    key: str


class SessionStore:
    """Queries about sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader = Reader(database)
        self.region = "local"
        """What usage records name as their region."""

    async def create(
        self, new: NewSession, *, limit: int, refusal: Refusal, quota: SessionQuota | None = None
    ) -> Creation:
        """Add a session, unless its id is taken in the account: then the present one is returned.

        No more than ``limit`` sessions of one size are active at a time on one replica. One beyond that is added as
        well, and fails in the same transaction with ``refusal``. Raises :class:`QuotaReached`, without a trace, if the
        account's ``quota`` does not allow another session.
        """
        try:
            return await self._create(new, limit, refusal, quota)
        except IntegrityError:
            # Another process took the id between our look and our insert.
            present = await self.get(new.account_id, new.id)
            if present is None:
                raise
            return Creation(session=present, created=False, admitted=True)

    async def _create(self, new: NewSession, limit: int, refusal: Refusal, quota: SessionQuota | None) -> Creation:
        async with self._database.write() as connection:
            present = (await connection.execute(select(sessions).where(_named(new.account_id, new.id)))).first()
            if present is not None:
                return Creation(session=_row(present), created=False, admitted=True)
            if quota is not None:
                await lock_account(connection, new.account_id)
                if quota.active is not None:
                    await check_active(connection, new.account_id, new.size, quota.active)
                await check_time(connection, new.account_id, quota, new.lease_minutes * _MINUTE)
            if new.replica_id is not None:
                # Creations on one replica wait for each other, so that together they keep to the limit.
                mine = select(replicas.c.id).where(replicas.c.id == new.replica_id)
                await connection.execute(mine.with_for_update())
            busy = await connection.scalar(
                select(func.count())
                .select_from(sessions)
                .where(
                    sessions.c.replica_id == new.replica_id,
                    sessions.c.status.in_(ACTIVE),
                    sessions.c.size == new.size,
                )
            )
            await connection.execute(
                insert(sessions).values(
                    key=new.key,
                    account_id=new.account_id,
                    id=new.id,
                    size=new.size,
                    status=STARTING,
                    created_lease_minutes=new.lease_minutes,
                    lease_minutes=new.lease_minutes,
                    created_at=new.created_at,
                    replica_id=new.replica_id,
                )
            )
            row = (await connection.execute(select(sessions).where(sessions.c.key == new.key))).one()
            admitted = (busy or 0) < limit
            if not admitted:
                await connection.execute(
                    update(sessions)
                    .where(sessions.c.key == new.key)
                    .values(
                        status=ERROR,
                        ended_at=new.created_at,
                        error_code=refusal.code,
                        error_message=refusal.message,
                    )
                )
            return Creation(session=_row(row), created=True, admitted=admitted)

    async def get(self, account_id: str, session_id: str) -> SessionRow | None:
        """The session of that id, in any status."""
        found = await self._reader.first(_BY_NAME, account_id=account_id, session_id=session_id)
        return SessionRow(**found) if found is not None else None

    async def close(self) -> None:
        """Close what reads the short way."""
        await self._reader.close()

    async def by_key(self, key: str) -> SessionRow | None:
        """The session of that key."""
        return await self._one(sessions.c.key == key)

    async def list_active(self, account_id: str, *, after: Position | None, count: int) -> list[SessionRow]:
        """Up to ``count`` sessions in Starting or Ready, oldest first."""
        query = (
            select(sessions)
            .where(sessions.c.account_id == account_id, sessions.c.status.in_(ACTIVE))
            .order_by(sessions.c.created_at, sessions.c.key)
            .limit(count)
        )
        if after is not None:
            same_time = and_(sessions.c.created_at == after.created_at, sessions.c.key > after.key)
            query = query.where(or_(sessions.c.created_at > after.created_at, same_time))
        async with self._database.read() as connection:
            return [_row(row) for row in await connection.execute(query)]

    async def all_active(self) -> list[SessionRow]:
        """Every session in Starting or Ready, of all accounts."""
        async with self._database.read() as connection:
            result = await connection.execute(select(sessions).where(sessions.c.status.in_(ACTIVE)))
            return [_row(row) for row in result]

    async def mark_ready(self, key: str, server: ServerColumns, now: int, *, owner: str | None = None) -> bool:
        """Starting to Ready; the lease begins. False if the session is not in Starting, or not that replica's."""
        return await self._change(
            key,
            (STARTING,),
            owner,
            status=READY,
            ready_at=now,
            expires_at=now + cast(sessions.c.lease_minutes, BigInteger) * literal(_MINUTE, BigInteger),
            server_id=server.server_id,
            pid=server.pid,
            hostname=server.hostname,
            handshake_port=server.handshake_port,
            inspector_port=server.inspector_port,
            teraflops=server.teraflops,
            relay_url=server.relay_url,
            link_path=server.link_path,
        )

    async def mark_stopped(self, key: str, now: int) -> bool:
        """Starting or Ready to Stopped. False if the session has ended already."""
        return await self._change(key, ACTIVE, status=STOPPED, ended_at=_not_before_ready(now))

    async def mark_error(self, key: str, code: str, message: str, now: int, *, owner: str | None = None) -> bool:
        """Starting or Ready to Error. False if the session has ended already, or is not that replica's."""
        return await self._change(
            key, ACTIVE, owner, status=ERROR, ended_at=_not_before_ready(now), error_code=code, error_message=message
        )

    async def expire_due(self, now: int) -> list[SessionRow]:
        """Ready to Expired, for each session whose lease has run out. Returns those that this call changed."""
        due = and_(sessions.c.status == READY, sessions.c.expires_at <= now)
        async with self._database.write() as connection:
            # What another replica has in hand is left to it.
            look = select(sessions).where(due).with_for_update(skip_locked=True)
            rows = [_row(row) for row in await connection.execute(look)]
            expired = []
            for row in rows:
                result = await connection.execute(
                    update(sessions)
                    .where(sessions.c.key == row.key, due)
                    .values(status=EXPIRED, ended_at=sessions.c.expires_at)
                )
                if result.rowcount == 1:
                    expired.append(row)
            await record_sessions(connection, [row.key for row in expired], self.region)
        return expired

    async def count_active(self) -> list[tuple[str, str, int]]:
        """How many sessions are in Starting and in Ready, by size: (status, size, count)."""
        query = (
            select(sessions.c.status, sessions.c.size, func.count())
            .where(sessions.c.status.in_(ACTIVE))
            .group_by(sessions.c.status, sessions.c.size)
        )
        async with self._database.read() as connection:
            return [(status, size, int(count)) for status, size, count in await connection.execute(query)]

    async def next_expiry(self) -> int | None:
        """When the next lease runs out, if any runs."""
        found = await self._reader.first(_NEXT_EXPIRY, status=READY)
        value: int | None = None if found is None else found["expires_at"]
        return value

    async def extend(self, key: str, lease_minutes: int, now: int, quota: SessionQuota | None = None) -> bool:
        """Set a longer total lease. False if the session has ended, its lease is over or the new one is not longer.

        Raises :class:`QuotaReached` if the account's ``quota`` does not allow it.
        """
        condition = and_(
            sessions.c.key == key,
            sessions.c.status.in_(ACTIVE),
            sessions.c.lease_minutes < lease_minutes,
            or_(sessions.c.expires_at.is_(None), sessions.c.expires_at > now),
        )
        async with self._database.write() as connection:
            result = await connection.execute(
                update(sessions)
                .where(condition)
                .values(lease_minutes=lease_minutes, expires_at=sessions.c.ready_at + lease_minutes * _MINUTE)
            )
            if result.rowcount == 1 and quota is not None and quota.microseconds is not None:
                account_id = (
                    await connection.execute(select(sessions.c.account_id).where(sessions.c.key == key))
                ).scalar_one()
                await lock_account(connection, account_id)
                await check_time(connection, account_id, quota, 0)  # the new lease is among those that run by now
        return result.rowcount == 1

    async def forget_ended(self, before: int) -> int:
        """Delete sessions that were created before that time and have ended. Returns how many."""
        async with self._database.write() as connection:
            result = await connection.execute(
                sql_delete(sessions).where(
                    sessions.c.status.not_in(ACTIVE), sessions.c.ended_at.is_not(None), sessions.c.created_at < before
                )
            )
        return result.rowcount

    async def _one(self, condition: ColumnElement[bool]) -> SessionRow | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(sessions).where(condition))).first()
        return _row(row) if row is not None else None

    async def _change(self, key: str, expected: Sequence[str], owner: str | None = None, **values: object) -> bool:
        condition = and_(sessions.c.key == key, sessions.c.status.in_(expected))
        if owner is not None:
            condition = and_(condition, sessions.c.replica_id == owner)
        async with self._database.write() as connection:
            result = await connection.execute(update(sessions).where(condition).values(**values))
            if result.rowcount == 1 and "ended_at" in values:
                # The end and its record are one: neither can be lost without the other.
                await record_sessions(connection, [key], self.region)
        return result.rowcount == 1


_NEXT_EXPIRY = Lookup(
    select(func.min(sessions.c.expires_at).label("expires_at")).where(sessions.c.status == bindparam("status"))
)
_BY_NAME = Lookup(
    select(sessions).where(sessions.c.account_id == bindparam("account_id"), sessions.c.id == bindparam("session_id"))
)


def _named(account_id: str, session_id: str) -> ColumnElement[bool]:
    return and_(sessions.c.account_id == account_id, sessions.c.id == session_id)


def _not_before_ready(now: int) -> ColumnElement[int]:
    """``now``, or the moment of ``Ready`` if that is later: the caller looked at the clock before it waited for the
    row, which another one made ready meanwhile; and a machine's clock can be set back."""
    return case((sessions.c.ready_at > now, sessions.c.ready_at), else_=literal(now, BigInteger))


def _row(row: object) -> SessionRow:
    return SessionRow(**row._mapping)  # type: ignore[attr-defined]
