"""Metering: immutable records of what was used, and the price lists that they are valued by.

A record holds facts and no money: who, what kind and size, from when to when. It is written in the transaction that
ends the session or the conversion, so that neither exists without the other, and its source has one record at most.

    |---- Starting ----|------------- Ready -------------|  Stopped, Error, Expired
                       ready_at                           min(ended_at, expires_at)
                       └──────────── one record ─────────┘

A price applies to the records that *began* while it was valid, also to the part of them that lies after its end. A
price is added only where it values no record that exists already, and is never changed: so no total ever changes.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, case, func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from farframe.store.database import Database
from farframe.store.schema import conversions, prices, sessions, usage_records

SESSION, CONVERSION = "session", "conversion"
KINDS = (SESSION, CONVERSION)

_BATCH = 1000


class PriceRefused(Exception):  # noqa: N818 - an answer to the operator rather than a fault
    """A price that would change totals, or that overlaps another one; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What was used, from ``started_at`` up to ``ended_at`` in microseconds since 1970 UTC.

    ``size`` is the size of the render server for kind ``session``, and ``""`` for kind ``conversion``, whose size is
    ``bytes``: what it read.
    """

    key: str
    kind: str
    source_key: str
    account_id: str
    size: str
    region: str
    started_at: int
    ended_at: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """A price in millionths of ``currency`` a minute, for records that began in ``valid_from`` to ``valid_until``."""

    id: str
    kind: str
    size: str
    currency: str
    micros_per_minute: int
    valid_from: int
    valid_until: int | None


async def record_sessions(connection: AsyncConnection, keys: Sequence[str], region: str) -> None:
    """Write the records of sessions that the open transaction has just ended. Those that were never ready get none."""
    # Without the lease's end as a limit, a service that was down would bill for its own absence.
    over_lease = and_(sessions.c.expires_at.is_not(None), sessions.c.expires_at < sessions.c.ended_at)
    end = case((over_lease, sessions.c.expires_at), else_=sessions.c.ended_at)
    for first in range(0, len(keys), _BATCH):
        facts = select(
            sessions.c.key,
            literal(SESSION),
            sessions.c.key,
            sessions.c.account_id,
            sessions.c.size,
            literal(region),
            sessions.c.ready_at,
            end,
            literal(0, BigInteger),
        ).where(
            sessions.c.key.in_(keys[first : first + _BATCH]),
            sessions.c.ready_at.is_not(None),
            sessions.c.ended_at.is_not(None),
        )
        await connection.execute(insert(usage_records).from_select(_RECORD_COLUMNS, facts))


async def record_conversion(connection: AsyncConnection, key: str, region: str) -> None:
    """Write the record of a conversion that the open transaction has just ended. One that never ran gets none."""
    facts = select(
        conversions.c.key,
        literal(CONVERSION),
        conversions.c.key,
        conversions.c.account_id,
        literal(""),
        literal(region),
        conversions.c.started_at,
        conversions.c.ended_at,
        func.coalesce(conversions.c.bytes_read, 0),
    ).where(conversions.c.key == key, conversions.c.started_at.is_not(None), conversions.c.ended_at.is_not(None))
    await connection.execute(insert(usage_records).from_select(_RECORD_COLUMNS, facts))


_RECORD_COLUMNS = ["key", "kind", "source_key", "account_id", "size", "region", "started_at", "ended_at", "bytes"]


class UsageStore:
    """Queries about usage and prices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def records(self, account_id: str | None, begin: int, end: int) -> AsyncIterator[list[UsageRow]]:
        """Batches of the records that overlap ``begin`` up to ``end``, in no order; of all accounts for ``None``."""
        query = select(usage_records).where(usage_records.c.started_at < end, usage_records.c.ended_at > begin)
        if account_id is not None:
            query = query.where(usage_records.c.account_id == account_id)
        last = ""
        while True:
            # Page by page by the key: a long report holds no transaction open and no table in memory.
            page = query.where(usage_records.c.key > last).order_by(usage_records.c.key).limit(_BATCH)
            async with self._database.read() as connection:
                rows = [UsageRow(**row._mapping) for row in await connection.execute(page)]
            if rows:
                yield rows
            if len(rows) < _BATCH:
                return
            last = rows[-1].key

    async def session_microseconds(self, account_id: str, begin: int, end: int, now: int) -> int:
        """How long the account's sessions were or are in ``Ready`` between two times; those that still run count up to
        ``now``.
        """
        ended = _clipped(usage_records.c.started_at, usage_records.c.ended_at, begin, end)
        until = case((sessions.c.expires_at < now, sessions.c.expires_at), else_=literal(now, BigInteger))
        running = _clipped(sessions.c.ready_at, until, begin, end)
        async with self._database.read() as connection:
            used: Any = await connection.scalar(
                select(func.coalesce(func.sum(ended), 0)).where(
                    usage_records.c.account_id == account_id,
                    usage_records.c.kind == SESSION,
                    usage_records.c.started_at < end,
                    usage_records.c.ended_at > begin,
                )
            )
            more: Any = await connection.scalar(
                select(func.coalesce(func.sum(running), 0)).where(
                    sessions.c.account_id == account_id, sessions.c.status == "Ready", sessions.c.ready_at < end
                )
            )
        return int(used or 0) + int(more or 0)

    async def prices(self) -> list[PriceRow]:
        """Every price that was ever valid, by kind, size, currency and beginning."""
        query = select(prices).order_by(prices.c.kind, prices.c.size, prices.c.currency, prices.c.valid_from)
        async with self._database.read() as connection:
            return [PriceRow(**row._mapping) for row in await connection.execute(query)]

    async def add_price(
        self, *, kind: str, size: str, currency: str, micros_per_minute: int, valid_from: int
    ) -> PriceRow:
        """Add a price; the one that was valid so far ends where it begins. Raises :class:`PriceRefused`."""
        same = and_(prices.c.kind == kind, prices.c.size == size, prices.c.currency == currency)
        async with self._database.write() as connection:
            if await connection.scalar(
                select(func.count()).select_from(prices).where(same, prices.c.valid_from >= valid_from)
            ):
                raise PriceRefused("A price for this begins at that time or later. Let the new one begin after it.")
            if await connection.scalar(
                select(func.count())
                .select_from(usage_records)
                .where(
                    usage_records.c.kind == kind,
                    usage_records.c.size == size,
                    usage_records.c.started_at >= valid_from,
                )
            ):
                raise PriceRefused(
                    "Usage since that time is recorded already, and its total must not change. "
                    "Let the price begin later."
                )
            await connection.execute(
                update(prices)
                .where(same, or_(prices.c.valid_until.is_(None), prices.c.valid_until > valid_from))
                .values(valid_until=valid_from)
            )
            row = PriceRow(
                id=str(uuid.uuid4()),
                kind=kind,
                size=size,
                currency=currency,
                micros_per_minute=micros_per_minute,
                valid_from=valid_from,
                valid_until=None,
            )
            await connection.execute(
                insert(prices).values(
                    id=row.id,
                    kind=kind,
                    size=size,
                    currency=currency,
                    micros_per_minute=micros_per_minute,
                    valid_from=valid_from,
                    valid_until=None,
                )
            )
        return row


def _clipped(start: ColumnElement[Any], end: ColumnElement[Any], low: int, high: int) -> ColumnElement[Any]:
    """The length of the part of an interval that lies between ``low`` and ``high``, in SQL."""
    first = case((start < low, literal(low, BigInteger)), else_=start)
    last = case((end > high, literal(high, BigInteger)), else_=end)
    return case((last > first, last - first), else_=literal(0, BigInteger))
