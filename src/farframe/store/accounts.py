"""Accounts, their two keys, what makes tokens void, the tokens of operators, and the keys that tokens are signed with.

A token names the key that it came from and that key's generation. Setting a key anew raises its generation, so the
tokens of the former one are void at once without any list of them; a deleted account has no keys at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from farframe.store.database import Database
from farframe.store.direct import Direct, Statement
from farframe.store.schema import account_keys, accounts, operator_tokens, sessions, signing_keys, token_revocations

PRIMARY, SECONDARY = 1, 2


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account. Times in microseconds since 1970 UTC."""

    id: str
    name: str
    created_at: int
    deleted_at: int | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key of an account: what is kept of it and how often it has been set. ``created_at`` in microseconds."""

    serial: int
    generation: int
    created_at: int
    hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccountState:
    """What decides about an account's tokens: its keys' generations by serial, and the time, in microseconds since
    1970 UTC, before which all tokens are void."""

    generations: Mapping[int, int]
    tokens_not_before: int


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """A key for tokens, as PEM. ``created_at`` in microseconds since 1970 UTC."""

    id: str
    private_pem: str = field(repr=False)
    created_at: int = 0


_KEYS = Statement(
    """
    SELECT k.serial, k.generation, k.created_at, k.hash
    FROM account_keys AS k JOIN accounts AS a ON a.id = k.account_id
    WHERE k.account_id = :account_id AND a.deleted_at IS NULL
    ORDER BY k.serial
    """
)
_STATE = Statement(
    """
    SELECT k.serial, k.generation, (
        SELECT max(r.issued_before) FROM token_revocations AS r WHERE r.account_id = a.id AND r.key_serial IS NULL
    )
    FROM accounts AS a LEFT JOIN account_keys AS k ON k.account_id = a.id
    WHERE a.id = :account_id AND a.deleted_at IS NULL
    """
)


class AccountStore:
    """Queries about accounts. Deleted ones stay as rows, so that their ids are never used again, and are not found."""

    def __init__(self, database: Database, direct: Direct) -> None:
        self._database = database
        self._direct = direct

    async def first(self, name: str | None = None) -> AccountRow | None:
        """The oldest account, of that name if one is given."""
        query = select(accounts).where(accounts.c.deleted_at.is_(None)).order_by(accounts.c.created_at, accounts.c.id)
        if name is not None:
            query = query.where(accounts.c.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(query.limit(1))).first()
        return AccountRow(**row._mapping) if row is not None else None

    async def get(self, account_id: str) -> AccountRow | None:
        """The account of that id."""
        query = select(accounts).where(accounts.c.id == account_id, accounts.c.deleted_at.is_(None))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return AccountRow(**row._mapping) if row is not None else None

    async def page(self, *, after: tuple[int, str] | None, count: int) -> list[AccountRow]:
        """Up to ``count`` accounts, oldest first, from behind ``after`` (time of creation, id)."""
        query = select(accounts).where(accounts.c.deleted_at.is_(None))
        if after is not None:
            same_time = and_(accounts.c.created_at == after[0], accounts.c.id > after[1])
            query = query.where(or_(accounts.c.created_at > after[0], same_time))
        query = query.order_by(accounts.c.created_at, accounts.c.id).limit(count)
        async with self._database.read() as connection:
            return [AccountRow(**row._mapping) for row in await connection.execute(query)]

    async def create(self, account_id: str, name: str, now: int) -> bool:
        """Add an account, without keys. False if there is, or was, one of that id."""
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(accounts).values(id=account_id, name=name, created_at=now))
        except IntegrityError:
            return False
        return True

    async def mark_deleted(self, account_id: str, now: int) -> bool:
        """Delete an account: its keys go, its tokens are void. False if there is none."""
        async with self._database.write() as connection:
            result = await connection.execute(
                update(accounts)
                .where(accounts.c.id == account_id, accounts.c.deleted_at.is_(None))
                .values(deleted_at=now)
            )
            if result.rowcount == 1:
                await connection.execute(delete(account_keys).where(account_keys.c.account_id == account_id))
        return result.rowcount == 1

    async def set_key(self, account_id: str, serial: int, key_hash: bytes, now: int) -> int:
        """Set the account's primary (1) or secondary (2) key; a former one and its tokens stop being valid. Returns
        the key's generation."""
        which = and_(account_keys.c.account_id == account_id, account_keys.c.serial == serial)
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(account_keys)
                .where(which)
                .values(hash=key_hash, created_at=now, generation=account_keys.c.generation + 1)
            )
            if changed.rowcount == 0:
                await connection.execute(
                    insert(account_keys).values(account_id=account_id, serial=serial, hash=key_hash, created_at=now)
                )
            generation = await connection.scalar(select(account_keys.c.generation).where(which))
        return int(generation or 1)

    async def keys(self, account_id: str) -> list[KeyRow]:
        """The account's keys by serial; none for an unknown or deleted account."""
        rows = await self._direct.rows(_KEYS, {"account_id": account_id})
        return [KeyRow(serial, generation, created_at, bytes(kept)) for serial, generation, created_at, kept in rows]

    async def key_hashes(self, account_id: str) -> list[bytes]:
        """What is kept of the account's keys; empty for an unknown account."""
        return [key.hash for key in await self.keys(account_id)]

    async def revoke_tokens(self, account_id: str, now: int) -> None:
        """Make all tokens void that the account has got until now, whatever they came from."""
        async with self._database.write() as connection:
            await connection.execute(insert(token_revocations).values(account_id=account_id, issued_before=now))

    async def state(self, account_id: str) -> AccountState | None:
        """What decides about the account's tokens; nothing for an unknown or deleted account."""
        rows = await self._direct.rows(_STATE, {"account_id": account_id})
        if not rows:
            return None
        generations = {serial: generation for serial, generation, _ in rows if serial is not None}
        return AccountState(generations=generations, tokens_not_before=int(rows[0][2] or 0))

    async def deleted_with_sessions(self) -> list[str]:
        """Deleted accounts that have sessions in Starting or Ready all the same."""
        query = (
            select(accounts.c.id)
            .join(sessions, sessions.c.account_id == accounts.c.id)
            .where(accounts.c.deleted_at.is_not(None), sessions.c.status.in_(("Starting", "Ready")))
            .distinct()
        )
        async with self._database.read() as connection:
            return [str(row.id) for row in await connection.execute(query)]

    async def forget_revocations(self, before: int) -> int:
        """Delete revocations of tokens that have long expired. Returns how many."""
        async with self._database.write() as connection:
            result = await connection.execute(
                delete(token_revocations).where(token_revocations.c.issued_before < before)
            )
        return result.rowcount


class OperatorStore:
    """Queries about the tokens of operators, one a data folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_token(self, name: str, token_hash: bytes, now: int) -> None:
        """Keep the digest of that folder's token; a former one stops being valid."""
        async with self._database.write() as connection:
            await connection.execute(delete(operator_tokens).where(operator_tokens.c.name == name))
            await connection.execute(insert(operator_tokens).values(name=name, hash=token_hash, created_at=now))

    async def token_hashes(self) -> dict[str, bytes]:
        """What is kept of the tokens, by the folder that each was made for."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(operator_tokens.c.name, operator_tokens.c.hash))
            return {row.name: bytes(row.hash) for row in rows}


class SigningKeyStore:
    """Queries about the keys that tokens are signed with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def active(self) -> list[SigningKeyRow]:
        """Keys whose tokens are good, newest first."""
        async with self._database.read() as connection:
            query = (
                select(signing_keys)
                .where(signing_keys.c.retired_at.is_(None))
                .order_by(signing_keys.c.created_at.desc(), signing_keys.c.id)
            )
            return [SigningKeyRow(row.id, row.private_pem, row.created_at) for row in await connection.execute(query)]

    async def add(self, key: SigningKeyRow, now: int, *, unless_newer_than: int | None = None) -> bool:
        """Add a key, unless there is one that was made after ``unless_newer_than``: another service was first."""
        async with self._database.write() as connection:
            newest = await connection.scalar(
                select(func.max(signing_keys.c.created_at)).where(signing_keys.c.retired_at.is_(None))
            )
            if unless_newer_than is not None and newest is not None and newest > unless_newer_than:
                return False
            await connection.execute(
                insert(signing_keys).values(id=key.id, private_pem=key.private_pem, created_at=now)
            )
        return True

    async def forget(self, key_id: str) -> None:
        """Delete a key whose tokens have all expired."""
        async with self._database.write() as connection:
            await connection.execute(delete(signing_keys).where(signing_keys.c.id == key_id))
