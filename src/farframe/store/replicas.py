"""The services that share the database, and which of them supervises which session's server.

A replica moves its ``seen_at`` while it lives. One that no longer does is declared dead by another, which takes over
its sessions one by one with conditional updates that fail if the replica was heard of meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, insert, select, update

from farframe.store.database import Database
from farframe.store.schema import replicas, sessions
from farframe.store.sessions import ACTIVE, SessionRow

_KEYS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """A service. Times in microseconds since 1970 UTC, by its own clock."""

    id: str
    url: str
    started_at: int
    seen_at: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a session stands: its status, whose server serves it and by which link."""

    status: str
    replica_id: str | None
    link_path: str | None


class ReplicaStore:
    """Queries about replicas and what they supervise."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, replica_id: str, url: str, now: int) -> None:
        """A replica has started, or finds that it was given up."""
        async with self._database.write() as connection:
            values = {"url": url, "started_at": now, "seen_at": now}
            changed = await connection.execute(update(replicas).where(replicas.c.id == replica_id).values(**values))
            if changed.rowcount == 0:
                await connection.execute(insert(replicas).values(id=replica_id, **values))

    async def beat(self, replica_id: str, now: int) -> bool:
        """The replica lives. False if it was given up and must announce itself again."""
        async with self._database.write() as connection:
            changed = await connection.execute(update(replicas).where(replicas.c.id == replica_id).values(seen_at=now))
        return changed.rowcount == 1

    async def withdraw(self, replica_id: str) -> None:
        """The replica ends and has nothing left to supervise."""
        async with self._database.write() as connection:
            await connection.execute(delete(replicas).where(replicas.c.id == replica_id))

    async def all(self) -> list[ReplicaRow]:
        """Every replica that was not given up."""
        async with self._database.read() as connection:
            result = await connection.execute(select(replicas).order_by(replicas.c.id))
            return [ReplicaRow(**row._mapping) for row in result]

    async def strays(self) -> list[str]:
        """Replicas that are not in the list and are named by active sessions."""
        query = (
            select(sessions.c.replica_id)
            .where(
                sessions.c.status.in_(ACTIVE),
                sessions.c.replica_id.is_not(None),
                sessions.c.replica_id.not_in(select(replicas.c.id)),
            )
            .distinct()
        )
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def active_of(self, replica_id: str | None) -> list[SessionRow]:
        """The sessions in Starting or Ready that the replica supervises, oldest first; ``None`` for those that nobody
        does."""
        query = (
            select(sessions)
            .where(_of(replica_id), sessions.c.status.in_(ACTIVE))
            .order_by(sessions.c.created_at, sessions.c.key)
        )
        async with self._database.read() as connection:
            return [SessionRow(**row._mapping) for row in await connection.execute(query)]

    async def standing(self, keys: Sequence[str]) -> dict[str, Standing]:
        """Where these sessions stand; those that do not exist are not in the answer."""
        found: dict[str, Standing] = {}
        for first in range(0, len(keys), _KEYS_A_QUERY):
            query = select(sessions.c.key, sessions.c.status, sessions.c.replica_id, sessions.c.link_path).where(
                sessions.c.key.in_(keys[first : first + _KEYS_A_QUERY])
            )
            async with self._database.read() as connection:
                for key, status, replica_id, link_path in await connection.execute(query):
                    found[key] = Standing(status, replica_id, link_path)
        return found

    async def link_paths(self) -> set[str]:
        """The link of every active session's server, whoever supervises it."""
        query = select(sessions.c.link_path).where(sessions.c.status.in_(ACTIVE), sessions.c.link_path.is_not(None))
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def take_over(self, former: str | None, seen_at: int | None, heir: str, keys: Iterable[str]) -> list[str]:
        """Make ``heir`` the supervisor of those active sessions. Returns the keys that it got.

        ``seen_at`` is when ``former`` was last heard of, ``None`` if it is not in the list: if that has changed nothing
        happens, because it lives.
        """
        taken = []
        async with self._database.write() as connection:
            if former is not None:
                row = (
                    await connection.execute(
                        select(replicas.c.seen_at).where(replicas.c.id == former).with_for_update()
                    )
                ).first()
                if (row.seen_at if row is not None else None) != seen_at:
                    return []
            for key in keys:
                changed = await connection.execute(
                    update(sessions)
                    .where(sessions.c.key == key, _of(former), sessions.c.status.in_(ACTIVE))
                    .values(replica_id=heir)
                )
                if changed.rowcount == 1:
                    taken.append(key)
        return taken

    async def give_up(self, replica_id: str, seen_at: int) -> bool:
        """Take a dead replica off the list. False if it was heard of meanwhile."""
        async with self._database.write() as connection:
            changed = await connection.execute(
                delete(replicas).where(replicas.c.id == replica_id, replicas.c.seen_at == seen_at)
            )
        return changed.rowcount == 1


def _of(replica_id: str | None) -> ColumnElement[bool]:
    column = sessions.c.replica_id
    return column.is_(None) if replica_id is None else column == replica_id
