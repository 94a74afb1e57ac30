"""Conversions. Every change of a status is one conditional update, as with sessions; a final status stays.

    NotStarted ──► Running ──► Succeeded
         └────────────┴──────► Failed

No secret is among the columns: ``settings_json`` is the settings in their normal form, without signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, and_, case, delete, func, insert, literal, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from farframe.store.database import Database
from farframe.store.quotas import QuotaReached, lock_account
from farframe.store.schema import accounts, conversions
from farframe.store.usage import record_conversion

NOT_STARTED, RUNNING, SUCCEEDED, FAILED = "NotStarted", "Running", "Succeeded", "Failed"
UNFINISHED = (NOT_STARTED, RUNNING)
FORGOTTEN_AT_A_TIME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionRow:
    """A conversion as kept. Times in microseconds since 1970 UTC. ``key`` is unique over all accounts and time."""

    key: str
    account_id: str
    id: str
    created_at: int
    settings_json: str
    status: str
    started_at: int | None
    ended_at: int | None
    error_code: str | None
    error_message: str | None
    output_uri: str | None
    bytes_read: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConversion:
    """What a conversion starts from."""

    key: str
    account_id: str
    id: str
    created_at: int
    settings_json: str


class ConversionStore:
    """Queries about conversions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.region = "local"
        """What usage records name as their region."""

    async def create(self, new: NewConversion, *, limit: int | None) -> tuple[ConversionRow, bool] | None:
        """Add a conversion, unless its id is taken in the account: then the present one is returned.

        Returns it and whether it is new; ``None`` if there is no such account, or not any more. Raises
        :class:`QuotaReached` if the account has ``limit`` unfinished ones.
        """
        try:
            return await self._create(new, limit)
        except IntegrityError:
            # Another process took the id between our look and our insert.
            present = await self.get(new.account_id, new.id)
            if present is None:
                raise
            return present, False

    async def _create(self, new: NewConversion, limit: int | None) -> tuple[ConversionRow, bool] | None:
        named = _named(new.account_id, new.id)
        async with self._database.write() as connection:
            # A deletion waits for this, or this for the deletion, which ends what it finds.
            await lock_account(connection, new.account_id)
            lives = select(accounts.c.id).where(accounts.c.id == new.account_id, accounts.c.deleted_at.is_(None))
            if (await connection.execute(lives)).first() is None:
                return None
            present = (await connection.execute(select(conversions).where(named))).first()
            if present is not None:
                return _row(present), False
            if limit is not None:
                busy = await connection.scalar(
                    select(func.count())
                    .select_from(conversions)
                    .where(conversions.c.account_id == new.account_id, conversions.c.status.in_(UNFINISHED))
                )
                if (busy or 0) >= limit:
                    raise QuotaReached("conversions", used=busy or 0, limit=limit)
            await connection.execute(
                insert(conversions).values(
                    key=new.key,
                    account_id=new.account_id,
                    id=new.id,
                    created_at=new.created_at,
                    settings_json=new.settings_json,
                    status=NOT_STARTED,
                )
            )
            row = (await connection.execute(select(conversions).where(conversions.c.key == new.key))).one()
            return _row(row), True

    async def get(self, account_id: str, conversion_id: str) -> ConversionRow | None:
        """The conversion of that id, in any status."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(conversions).where(_named(account_id, conversion_id)))).first()
        return _row(row) if row is not None else None

    async def page(self, account_id: str, *, after: tuple[int, str] | None, count: int) -> list[ConversionRow]:
        """Up to ``count`` conversions in any status, oldest first, from behind ``after`` (time of creation, key)."""
        columns = conversions.c
        query = (
            select(conversions)
            .where(columns.account_id == account_id)
            .order_by(columns.created_at, columns.key)
            .limit(count)
        )
        if after is not None:
            query = query.where(tuple_(columns.created_at, columns.key) > tuple_(*after))
        async with self._database.read() as connection:
            return [_row(row) for row in await connection.execute(query)]

    async def unfinished(self) -> list[ConversionRow]:
        """Every conversion in NotStarted or Running, of all accounts, oldest first."""
        query = (
            select(conversions)
            .where(conversions.c.status.in_(UNFINISHED))
            .order_by(conversions.c.created_at, conversions.c.key)
        )
        async with self._database.read() as connection:
            return [_row(row) for row in await connection.execute(query)]

    async def mark_running(self, key: str, now: int) -> bool:
        """NotStarted to Running. False if it is not in NotStarted."""
        return await self._change(key, (NOT_STARTED,), status=RUNNING, started_at=now)

    async def mark_succeeded(self, key: str, output_uri: str, bytes_read: int, now: int) -> bool:
        """Running to Succeeded. False if it is not in Running."""
        return await self._change(
            key,
            (RUNNING,),
            status=SUCCEEDED,
            ended_at=_not_before_start(now),
            output_uri=output_uri,
            bytes_read=bytes_read,
        )

    async def mark_failed(self, key: str, code: str, message: str, now: int) -> bool:
        """NotStarted or Running to Failed. False if it has ended already."""
        return await self._change(
            key, UNFINISHED, status=FAILED, ended_at=_not_before_start(now), error_code=code, error_message=message
        )

    async def fail_all_of(self, account_id: str, code: str, message: str, now: int) -> int:
        """NotStarted or Running to Failed, for every such conversion of the account. Returns how many."""
        unfinished = select(conversions.c.key).where(
            conversions.c.account_id == account_id, conversions.c.status.in_(UNFINISHED)
        )
        async with self._database.read() as connection:
            keys = list((await connection.execute(unfinished)).scalars())
        return sum([await self.mark_failed(key, code, message, now) for key in keys])

    async def unfinished_of_deleted(self) -> list[str]:
        """Deleted accounts that have conversions in NotStarted or Running all the same."""
        query = (
            select(accounts.c.id)
            .join(conversions, conversions.c.account_id == accounts.c.id)
            .where(accounts.c.deleted_at.is_not(None), conversions.c.status.in_(UNFINISHED))
            .distinct()
        )
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def forget_ended(self, before: int, *, count: int = FORGOTTEN_AT_A_TIME) -> int:
        """Delete conversions that were created before that time and have ended, ``count`` at most. Returns how many."""
        old = (
            select(conversions.c.key)
            .where(conversions.c.status.in_((SUCCEEDED, FAILED)), conversions.c.created_at < before)
            .limit(count)
        )
        async with self._database.write() as connection:
            result = await connection.execute(delete(conversions).where(conversions.c.key.in_(old)))
        return result.rowcount

    async def _change(self, key: str, expected: Sequence[str], **values: object) -> bool:
        async with self._database.write() as connection:
            result = await connection.execute(
                update(conversions).where(conversions.c.key == key, conversions.c.status.in_(expected)).values(**values)
            )
            changed = bool(result.rowcount == 1)
            if changed and "ended_at" in values:
                await record_conversion(connection, key, self.region)
        return changed


def _named(account_id: str, conversion_id: str) -> ColumnElement[bool]:
    return and_(conversions.c.account_id == account_id, conversions.c.id == conversion_id)


def _not_before_start(now: int) -> ColumnElement[int]:
    """``now``, or the start if that is later: see the same of sessions."""
    return case((conversions.c.started_at > now, conversions.c.started_at), else_=literal(now, BigInteger))


def _row(row: object) -> ConversionRow:
    return ConversionRow(**row._mapping)  # type: ignore[attr-defined]
