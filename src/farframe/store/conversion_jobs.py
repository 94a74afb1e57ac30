"""The queue of conversion jobs: what waits, which service does it, how far it is. One row a conversion until its end.

A job belongs to the replica that claimed it. It is free again when that replica is not in the list of living ones any
more, or says that it runs no jobs. Claiming is one conditional update, so that no two replicas run a job at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, exists, insert, or_, select, update

from farframe.store.conversions import UNFINISHED
from farframe.store.database import Database
from farframe.store.schema import conversion_jobs, conversions, replicas

_CANDIDATES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A claimed job with what its conversion says. ``sealed`` holds the signatures; ``attempts`` counts this one."""

    key: str
    sealed: bytes
    attempts: int
    account_id: str
    conversion_id: str
    settings_json: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is: the stage's name, and the fraction of the whole."""

    stage: str
    fraction: float


class ConversionJobStore:
    """Queries about jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: str, sealed: bytes, now: int) -> None:
        """Put a job at the end of the queue."""
        async with self._database.write() as connection:
            await connection.execute(insert(conversion_jobs).values(key=key, sealed=sealed, created_at=now, attempts=0))

    async def claim(self, replica_id: str) -> JobRow | None:
        """The oldest free job, which belongs to the replica from now on."""
        jobs = conversion_jobs.c
        free = or_(jobs.replica_id.is_(None), ~exists().where(replicas.c.id == jobs.replica_id))
        query = (
            select(jobs.key, jobs.replica_id, jobs.attempts)
            .where(free, or_(jobs.replica_id.is_(None), jobs.replica_id != replica_id))
            .order_by(jobs.created_at, jobs.key)
            .limit(_CANDIDATES)
        )
        async with self._database.read() as connection:
            candidates = (await connection.execute(query)).all()
        for key, former, attempts in candidates:
            async with self._database.write() as connection:
                taken = await connection.execute(
                    update(conversion_jobs)
                    .where(
                        jobs.key == key,
                        jobs.attempts == attempts,
                        jobs.replica_id.is_(None) if former is None else jobs.replica_id == former,
                    )
                    .values(replica_id=replica_id, attempts=attempts + 1)
                )
                if taken.rowcount != 1:
                    continue
                row = (
                    await connection.execute(
                        select(
                            jobs.key,
                            jobs.sealed,
                            jobs.attempts,
                            conversions.c.account_id,
                            conversions.c.id.label("conversion_id"),
                            conversions.c.settings_json,
                            conversions.c.status,
                        )
                        .join(conversions, conversions.c.key == jobs.key)
                        .where(jobs.key == key)
                    )
                ).one()
                return JobRow(**row._mapping)
        return None

    async def free_all_of(self, replica_id: str) -> None:
        """The replica has just started: whatever it did before it does no more."""
        async with self._database.write() as connection:
            await connection.execute(
                update(conversion_jobs).where(conversion_jobs.c.replica_id == replica_id).values(replica_id=None)
            )

    async def hand_back(self, key: str, replica_id: str, *, uncounted: bool) -> None:
        """Free a job. ``uncounted``: nothing went wrong, the attempt does not count."""
        jobs = conversion_jobs.c
        async with self._database.write() as connection:
            await connection.execute(
                update(conversion_jobs)
                .where(jobs.key == key, jobs.replica_id == replica_id)
                .values(replica_id=None, attempts=jobs.attempts - (1 if uncounted else 0))
            )

    async def report(self, key: str, replica_id: str, stage: str, fraction: float) -> None:
        """How far a job of the replica is."""
        jobs = conversion_jobs.c
        async with self._database.write() as connection:
            await connection.execute(
                update(conversion_jobs)
                .where(jobs.key == key, jobs.replica_id == replica_id)
                .values(stage=stage, fraction=fraction)
            )

    async def progress(self, key: str) -> JobProgress | None:
        """How far a job is, if there is one and it has said so."""
        jobs = conversion_jobs.c
        async with self._database.read() as connection:
            row = (await connection.execute(select(jobs.stage, jobs.fraction).where(jobs.key == key))).first()
        if row is None or row.stage is None:
            return None
        return JobProgress(stage=row.stage, fraction=row.fraction)

    async def remove(self, key: str) -> None:
        """The conversion has ended."""
        async with self._database.write() as connection:
            await connection.execute(delete(conversion_jobs).where(conversion_jobs.c.key == key))

    async def standing(self, replica_id: str) -> set[str]:
        """The keys of the replica's jobs whose conversion has not ended."""
        query = (
            select(conversion_jobs.c.key)
            .join(conversions, conversions.c.key == conversion_jobs.c.key)
            .where(conversion_jobs.c.replica_id == replica_id, conversions.c.status.in_(UNFINISHED))
        )
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def all_keys(self) -> set[str]:
        """The keys of all jobs, whoever does them."""
        async with self._database.read() as connection:
            return set((await connection.execute(select(conversion_jobs.c.key))).scalars())

    async def remove_ended(self) -> None:
        """Take jobs off the queue whose conversion has ended otherwise, and that nobody runs."""
        ended = select(conversions.c.key).where(conversions.c.status.not_in(UNFINISHED))
        async with self._database.write() as connection:
            await connection.execute(
                delete(conversion_jobs).where(conversion_jobs.c.replica_id.is_(None), conversion_jobs.c.key.in_(ended))
            )

    async def lost(self, before: int) -> list[str]:
        """Unfinished conversions, created before that time, that are in no queue: a service ended between the two."""
        query = select(conversions.c.key).where(
            conversions.c.status.in_(UNFINISHED),
            conversions.c.created_at < before,
            ~exists().where(conversion_jobs.c.key == conversions.c.key),
        )
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())
