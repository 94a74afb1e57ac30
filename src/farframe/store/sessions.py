"""Sessions. Every change of a status is one conditional update: it names the status that it expects, and says whether
it took place. So a stop, an expiry, a failure and a late "ready" can meet in any order; one of them wins, and a final
status stays.

    Starting ──► Ready ──► Expired
       │  └────────┬─────► Error
       └───────────┴─────► Stopped
"""

# ruff: noqa: S608 - what is put into statements here are other constants of this file, never values

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy import delete as sql_delete

from farframe.store.database import Database
from farframe.store.direct import Direct, Row, Statement
from farframe.store.quotas import SessionQuota, check_active, check_time, lock_account
from farframe.store.schema import sessions
from farframe.store.usage import record_sessions

STARTING, READY, STOPPED, ERROR, EXPIRED = "Starting", "Ready", "Stopped", "Error", "Expired"
ACTIVE = (STARTING, READY)

EXPIRED_AT_A_TIME = 50
FORGOTTEN_AT_A_TIME = 200
"""As many as one transaction changes: who else writes waits for milliseconds, however many there are in all."""

_MINUTE = 60_000_000
_LONGEST_LIFE = 25 * 60 * _MINUTE


class SessionRow(msgspec.Struct, frozen=True):
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
    ready_at: int | None = None
    expires_at: int | None = None
    ended_at: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    server_id: str | None = None
    pid: int | None = None
    hostname: str | None = None
    handshake_port: int | None = None
    inspector_port: int | None = None
    teraflops: float | None = None
    replica_id: str | None = None
    """The service that supervises the session's server."""
    relay_url: str | None = None
    """``https://host:port`` at which services reach the server's handshake."""
    link_path: str | None = None
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

    def __init__(self, database: Database, direct: Direct) -> None:
        self._database = database
        self._direct = direct
        self._creating = asyncio.Lock()
        self._side_by_side = 0
        """How many creations run that did not wait for each other."""
        self._none_left = asyncio.Event()
        self.region = "local"
        """What usage records name as their region."""

    async def create(
        self, new: NewSession, *, limit: int, refusal: Refusal, quota: SessionQuota | None = None
    ) -> Creation | None:
        """Add a session, unless its id is taken in the account: then the present one is returned.

        No more than ``limit`` sessions of one size are active at a time on one replica. One beyond that is added as
        well, and fails in the same transaction with ``refusal``. Raises :class:`QuotaReached`, without a trace, if the
        account's ``quota`` does not allow another session. Returns ``None`` if there is no such account, or if it is
        being deleted: of a creation and a deletion that meet, the second one sees what the first one did.
        """
        values = {
            "key": new.key,
            "account_id": new.account_id,
            "id": new.id,
            "size": new.size,
            "lease_minutes": new.lease_minutes,
            "created_at": new.created_at,
            "replica_id": new.replica_id,
            "capacity": limit,
            "final": 1,
            "error_code": refusal.code,
            "error_message": refusal.message,
        }
        statement = _CREATE if new.replica_id is not None else _CREATE_UNSUPERVISED
        for _ in range(_ATTEMPTS):
            if quota is not None:
                status = await self._create_within(quota, new, statement, values)
            else:
                status = await self._create_side_by_side(statement, values)
            if status is not None:
                return Creation(session=_starting(new), created=True, admitted=status == STARTING)
            present = await self.get(new.account_id, new.id)
            if present is not None:
                return Creation(session=present, created=False, admitted=True)
            if not await self._direct.rows(_ACCOUNT_LIVES, {"account_id": new.account_id}):
                return None
            if quota is None and not self._database.is_sqlite:
                # The last servers: those who count now wait for each other.
                async with self._alone():
                    status = _first(await self._direct.change(statement, values))
                if status is not None:
                    return Creation(session=_starting(new), created=True, admitted=status == STARTING)
        raise RuntimeError("a session that was in the way of another was gone each time that it was looked at")

    async def _create_side_by_side(self, statement: Statement, values: dict[str, object]) -> str | None:
        """Add a session; returns its status, or nothing if it cannot be, or if that cannot be known without waiting.

        A replica's sessions are created by that replica alone, so all who count them are here. Two statements of
        PostgreSQL that run at a time do not see each other's sessions: each leaves room for all that had begun before
        it, so that together they never pass the limit, and their commits share one wait for the disk. SQLite runs one
        at a time anyway.
        """
        if self._database.is_sqlite:
            return _first(await self._direct.change(statement, values))
        if self._creating.locked():
            return None
        room = int(str(values["capacity"])) - self._side_by_side
        self._side_by_side += 1
        try:
            return _first(await self._direct.change(statement, {**values, "capacity": room, "final": 0}))
        finally:
            self._side_by_side -= 1
            if self._side_by_side == 0:
                self._none_left.set()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """While no other session is created by this replica."""
        async with self._creating:
            while self._side_by_side:
                self._none_left.clear()
                await self._none_left.wait()
            yield

    async def _create_within(
        self, quota: SessionQuota, new: NewSession, statement: Statement, values: dict[str, object]
    ) -> str | None:
        async with self._alone(), self._database.write() as connection:
            await lock_account(connection, new.account_id)
            present = select(sessions.c.key).where(sessions.c.account_id == new.account_id, sessions.c.id == new.id)
            if (await connection.execute(present)).first() is not None:
                return None  # which counts towards nothing
            if quota.active is not None:
                await check_active(connection, new.account_id, new.size, quota.active)
            await check_time(connection, new.account_id, quota, new.lease_minutes * _MINUTE)
            row = (await connection.execute(text(statement.text), values)).first()
        return str(row[0]) if row is not None else None

    async def get(self, account_id: str, session_id: str) -> SessionRow | None:
        """The session of that id, in any status."""
        rows = await self._direct.rows(_BY_NAME, {"account_id": account_id, "id": session_id})
        return SessionRow(*rows[0]) if rows else None

    async def by_key(self, key: str) -> SessionRow | None:
        """The session of that key."""
        return await self._one(sessions.c.key == key)

    async def list_active(
        self, account_id: str, *, after: Position | None, count: int, now: int = 0
    ) -> list[SessionRow]:
        """Up to ``count`` sessions in Starting or Ready, oldest first, without those whose lease is over at ``now``."""
        values = {
            "account_id": account_id,
            "created_at": after.created_at if after is not None else _BEFORE_ALL,
            "key": after.key if after is not None else "",
            "count": count,
            "now": now,
        }
        return [SessionRow(*row) for row in await self._direct.rows(_ACTIVE_PAGE, values)]

    async def all_active(self) -> list[SessionRow]:
        """Every session in Starting or Ready, of all accounts."""
        async with self._database.read() as connection:
            result = await connection.execute(select(sessions).where(sessions.c.status.in_(ACTIVE)))
            return [_row(row) for row in result]

    async def mark_ready(self, key: str, server: ServerColumns, now: int, *, owner: str | None = None) -> int | None:
        """Starting to Ready; the lease begins. Returns when it ends, or ``None`` if the session is not in Starting, or
        not that replica's."""
        values = {
            "key": key,
            "now": now,
            "owner": owner,
            "server_id": server.server_id,
            "pid": server.pid,
            "hostname": server.hostname,
            "handshake_port": server.handshake_port,
            "inspector_port": server.inspector_port,
            "teraflops": server.teraflops,
            "relay_url": server.relay_url,
            "link_path": server.link_path,
        }
        rows = await self._direct.change(_READY if owner is None else _READY_OF_OWNER, values)
        return int(rows[0][0]) if rows else None

    async def stop(self, account_id: str, session_id: str, now: int) -> str | None:
        """Starting or Ready to Stopped, by the session's id. Returns its key, or ``None`` if there is none, if it has
        ended already, or if its lease is over, which makes it Expired."""
        values = {"account_id": account_id, "id": session_id, "now": now, "region": self.region}
        rows = await self._direct.change(_STOP, values)
        return str(rows[0][0]) if rows else None

    async def mark_stopped(self, key: str, now: int) -> bool:
        """Starting or Ready to Stopped. False if the session has ended already."""
        return await self._change(key, ACTIVE, status=STOPPED, ended_at=_not_before_ready(now))

    async def mark_error(self, key: str, code: str, message: str, now: int, *, owner: str | None = None) -> bool:
        """Starting or Ready to Error. False if the session has ended already, or is not that replica's."""
        return await self._change(
            key, ACTIVE, owner, status=ERROR, ended_at=_not_before_ready(now), error_code=code, error_message=message
        )

    async def expire_due(self, now: int, *, count: int = EXPIRED_AT_A_TIME) -> list[SessionRow]:
        """Ready to Expired, for sessions whose lease has run out, ``count`` at most: those that ran out first. Returns
        those that this call changed; ask again while they are as many."""
        due = and_(sessions.c.status == READY, sessions.c.expires_at <= now)
        async with self._database.write() as connection:
            # What another replica has in hand is left to it.
            look = select(sessions).where(due).order_by(sessions.c.expires_at).limit(count)
            rows = [_row(row) for row in await connection.execute(look.with_for_update(skip_locked=True))]
            if not rows:
                return []
            keys = [row.key for row in rows]
            await connection.execute(
                update(sessions)
                .where(sessions.c.key.in_(keys), due)
                .values(status=EXPIRED, ended_at=sessions.c.expires_at)
            )
            await record_sessions(connection, keys, self.region)
        return rows

    async def expire(self, key: str, now: int) -> bool:
        """Ready to Expired, for one session whose lease has run out. False if it is not so."""
        condition = and_(sessions.c.key == key, sessions.c.status == READY, sessions.c.expires_at <= now)
        async with self._database.write() as connection:
            result = await connection.execute(
                update(sessions).where(condition).values(status=EXPIRED, ended_at=sessions.c.expires_at)
            )
            if result.rowcount == 1:
                await record_sessions(connection, [key], self.region)
        return result.rowcount == 1

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
        ((value,),) = await self._direct.rows(_NEXT_EXPIRY, {})
        return int(value) if value is not None else None

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

    async def forget_ended(self, before: int, *, count: int = FORGOTTEN_AT_A_TIME) -> int:
        """Delete sessions that were created before that time and have ended, ``count`` at most. Returns how many it
        were; ask again while they are as many."""
        # By the index of ends. No session lives much longer than the longest lease; one that did goes later.
        old = (
            select(sessions.c.key)
            .where(sessions.c.ended_at < before + _LONGEST_LIFE, sessions.c.created_at < before)
            .order_by(sessions.c.ended_at)
            .limit(count)
        )
        async with self._database.write() as connection:
            result = await connection.execute(sql_delete(sessions).where(sessions.c.key.in_(old)))
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


_ATTEMPTS = 3
_BEFORE_ALL = -(2**62)
_COLUMNS = ", ".join(SessionRow.__struct_fields__)


def _create_statement(mine: str) -> Statement:
    """The insert of a session: of an account that lives, in Starting, or if no server is left for it in Error, or not
    at all unless that is ``final``."""

    def text_of(lock: str) -> str:
        return f"""
            INSERT INTO sessions (
                key, account_id, id, size, status, created_lease_minutes, lease_minutes, created_at, ended_at,
                error_code, error_message, replica_id
            )
            SELECT
                CAST(:key AS VARCHAR), a.id, CAST(:id AS VARCHAR), CAST(:size AS VARCHAR),
                CASE WHEN busy.number < CAST(:capacity AS BIGINT) THEN 'Starting' ELSE 'Error' END,
                CAST(:lease_minutes AS INTEGER), CAST(:lease_minutes AS INTEGER), CAST(:created_at AS BIGINT),
                CASE WHEN busy.number < CAST(:capacity AS BIGINT) THEN NULL ELSE CAST(:created_at AS BIGINT) END,
                CASE WHEN busy.number < CAST(:capacity AS BIGINT) THEN NULL ELSE CAST(:error_code AS VARCHAR) END,
                CASE WHEN busy.number < CAST(:capacity AS BIGINT) THEN NULL ELSE CAST(:error_message AS TEXT) END,
                CAST(:replica_id AS VARCHAR)
            FROM accounts AS a, (
                SELECT count(*) AS number FROM sessions
                WHERE {mine} AND status IN ('Starting', 'Ready') AND size = CAST(:size AS VARCHAR)
            ) AS busy
            WHERE a.id = CAST(:account_id AS VARCHAR) AND a.deleted_at IS NULL
                AND (CAST(:final AS INTEGER) = 1 OR busy.number < CAST(:capacity AS BIGINT)) {lock}
            ON CONFLICT DO NOTHING
            RETURNING status
        """

    return Statement(text_of(""), postgresql=text_of("FOR SHARE OF a"))


_CREATE = _create_statement("replica_id = CAST(:replica_id AS VARCHAR)")
_CREATE_UNSUPERVISED = _create_statement("replica_id IS NULL")
_ACCOUNT_LIVES = Statement("SELECT 1 FROM accounts WHERE id = :account_id AND deleted_at IS NULL")
_BY_NAME = Statement(f"SELECT {_COLUMNS} FROM sessions WHERE account_id = :account_id AND id = :id")
_NEXT_EXPIRY = Statement("SELECT min(expires_at) FROM sessions WHERE status = 'Ready'")


def _page_of(status: str) -> str:
    return f"""
        SELECT * FROM (
            SELECT {_COLUMNS} FROM sessions
            WHERE account_id = :account_id AND status = '{status}' AND (created_at, key) > (:created_at, :key)
                AND (expires_at IS NULL OR expires_at > :now)
            ORDER BY created_at, key LIMIT :count
        ) AS {status.lower()}
    """


# By each status on its own, which an index has in the right order: a page costs the same however many there are.
_ACTIVE_PAGE = Statement(f"{_page_of(STARTING)} UNION ALL {_page_of(READY)} ORDER BY created_at, key LIMIT :count")


def _ready_statement(condition: str) -> Statement:
    return Statement(
        f"""
        UPDATE sessions SET
            status = 'Ready', ready_at = CAST(:now AS BIGINT),
            expires_at = CAST(:now AS BIGINT) + CAST(lease_minutes AS BIGINT) * {_MINUTE},
            server_id = :server_id, pid = :pid, hostname = :hostname, handshake_port = :handshake_port,
            inspector_port = :inspector_port, teraflops = :teraflops, relay_url = :relay_url, link_path = :link_path
        WHERE key = :key AND status = 'Starting' {condition}
        RETURNING expires_at
        """
    )


_READY = _ready_statement("")
_READY_OF_OWNER = _ready_statement("AND replica_id = :owner")

_STOP_CHANGE = """
    UPDATE sessions SET
        status = 'Stopped',
        ended_at = CASE WHEN ready_at > CAST(:now AS BIGINT) THEN ready_at ELSE CAST(:now AS BIGINT) END
    WHERE account_id = :account_id AND id = :id AND status IN ('Starting', 'Ready')
        AND (expires_at IS NULL OR expires_at > CAST(:now AS BIGINT))
    RETURNING key, size, ready_at, ended_at
"""
# The end and its record are one: neither can be lost without the other.
_STOP_RECORD = (
    "INSERT INTO usage_records (key, kind, source_key, account_id, size, region, started_at, ended_at, bytes)"
    " SELECT {key}, 'session', {key}, {account_id}, {size}, CAST(:region AS VARCHAR), {ready_at}, {ended_at}, 0 "
)
_STOP = Statement(
    _STOP_CHANGE,
    columns=("key", "size", "ready_at", "ended_at"),
    then=_STOP_RECORD.format(
        key=":key", account_id=":account_id", size=":size", ready_at=":ready_at", ended_at=":ended_at"
    )
    + "WHERE :ready_at IS NOT NULL",
    postgresql=f"""
        WITH ended AS ({_STOP_CHANGE}), billed AS (
            {
        _STOP_RECORD.format(key="key", account_id=":account_id", size="size", ready_at="ready_at", ended_at="ended_at")
    }
            FROM ended WHERE ready_at IS NOT NULL
        )
        SELECT key, size, ready_at, ended_at FROM ended
    """,
)


def _first(rows: Sequence[Row]) -> str | None:
    return str(rows[0][0]) if rows else None


def _starting(new: NewSession) -> SessionRow:
    """The session as it was added."""
    return SessionRow(
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


def _not_before_ready(now: int) -> ColumnElement[int]:
    """``now``, or the moment of ``Ready`` if that is later: the caller looked at the clock before it waited for the
    row, which another one made ready meanwhile; and a machine's clock can be set back."""
    return case((sessions.c.ready_at > now, sessions.c.ready_at), else_=literal(now, BigInteger))


def _row(row: object) -> SessionRow:
    return SessionRow(**row._mapping)  # type: ignore[attr-defined]
