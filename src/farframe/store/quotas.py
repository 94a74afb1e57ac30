"""Limits of single accounts, where an operator has set them, and how much of them is in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, case, cast, delete, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from farframe.store.database import Database
from farframe.store.direct import Direct, Statement
from farframe.store.schema import account_quotas, accounts, sessions, usage_records

_ACTIVE = ("Starting", "Ready")
_MINUTE = 60_000_000


class QuotaReached(Exception):  # noqa: N818 - an outcome, not a fault
    """The account's limit ``name`` does not allow it. Both numbers in the unit of the limit."""

    def __init__(self, name: str, *, used: int, limit: int) -> None:
        super().__init__(f"{name}: {used} of {limit} in use")
        self.name = name
        self.used = used
        self.limit = limit


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuota:
    """What limits an account's sessions; ``None`` where nothing does.

    ``active`` is how many of one size may be active; ``microseconds`` how long sessions may be in Ready from
    ``begin`` on (the present month's first moment, in microseconds since 1970 UTC). Leases that run count in full, so
    that the limit holds whatever happens later.
    """

    active: int | None = None
    microseconds: int | None = None
    begin: int = 0


async def lock_account(connection: AsyncConnection, account_id: str) -> None:
    """Make who counts towards the account's limits wait for each other until the transaction ends."""
    # Weak enough not to hold up inserts that refer to the account. SQLite has one writer at a time anyway.
    await connection.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True))


async def check_active(connection: AsyncConnection, account_id: str, size: str, limit: int) -> None:
    """Raises :class:`QuotaReached` if the account has ``limit`` active sessions of that size."""
    busy = await connection.scalar(
        select(func.count())
        .select_from(sessions)
        .where(sessions.c.account_id == account_id, sessions.c.size == size, sessions.c.status.in_(_ACTIVE))
    )
    if (busy or 0) >= limit:
        raise QuotaReached("active", used=busy or 0, limit=limit)


async def check_time(connection: AsyncConnection, account_id: str, quota: SessionQuota, new: int) -> None:
    """Raises :class:`QuotaReached` if past use, leases that run and ``new`` microseconds exceed the limit together."""
    if quota.microseconds is None:
        return
    used = await connection.scalar(
        select(
            func.coalesce(func.sum(_since(usage_records.c.started_at, usage_records.c.ended_at, quota.begin)), 0)
        ).where(
            usage_records.c.account_id == account_id,
            usage_records.c.kind == "session",
            usage_records.c.ended_at > quota.begin,
        )
    )
    lease = cast(sessions.c.lease_minutes, BigInteger) * literal(_MINUTE, BigInteger)
    running = case(
        (sessions.c.expires_at.is_(None), lease),
        else_=_since(sessions.c.ready_at, sessions.c.expires_at, quota.begin),
    )
    committed = await connection.scalar(
        select(func.coalesce(func.sum(running), 0)).where(
            sessions.c.account_id == account_id, sessions.c.status.in_(_ACTIVE)
        )
    )
    total = int(used or 0) + int(committed or 0)
    if total + new > quota.microseconds:
        raise QuotaReached("time", used=total, limit=quota.microseconds)


def _since(start: ColumnElement[Any], end: ColumnElement[Any], begin: int) -> ColumnElement[Any]:
    """How much of an interval lies behind ``begin``, in SQL."""
    first = case((start < begin, literal(begin, BigInteger)), else_=start)
    return case((end > first, end - first), else_=literal(0, BigInteger))


_OF_ACCOUNT = Statement("SELECT name, value FROM account_quotas WHERE account_id = :account_id")


class QuotaStore:
    """Queries about accounts' own limits; what is not here is the service's default."""

    def __init__(self, database: Database, direct: Direct) -> None:
        self._database = database
        self._direct = direct

    async def of(self, account_id: str) -> dict[str, int]:
        """The account's own limits, by name."""
        rows = await self._direct.rows(_OF_ACCOUNT, {"account_id": account_id})
        return {name: int(value) for name, value in rows}

    async def set(self, account_id: str, name: str, value: int | None) -> None:
        """Set one limit of an account; ``None`` goes back to the service's default."""
        present = and_(account_quotas.c.account_id == account_id, account_quotas.c.name == name)
        async with self._database.write() as connection:
            await lock_account(connection, account_id)
            await connection.execute(delete(account_quotas).where(present))
            if value is not None:
                await connection.execute(insert(account_quotas).values(account_id=account_id, name=name, value=value))
