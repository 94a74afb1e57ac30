"""Accounts, their two keys, and the keys that tokens are signed with."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select

from farframe.store.database import Database
from farframe.store.schema import account_keys, accounts, signing_keys

PRIMARY, SECONDARY = 1, 2


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account. ``created_at`` in microseconds since 1970 UTC."""

    id: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """A key for tokens, as PEM."""

    id: str
    private_pem: str = field(repr=False)


class AccountStore:
    """Queries about accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def first(self) -> AccountRow | None:
        """The oldest account, which is the default one."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(accounts).order_by(accounts.c.created_at, accounts.c.id))).first()
        return AccountRow(row.id, row.name, row.created_at) if row is not None else None

    async def create(self, account_id: str, name: str, now: int) -> None:
        """Add an account, without keys."""
        async with self._database.write() as connection:
            await connection.execute(insert(accounts).values(id=account_id, name=name, created_at=now))

    async def set_key(self, account_id: str, serial: int, key_hash: bytes, now: int) -> None:
        """Set the account's primary (1) or secondary (2) key; a former one stops being valid."""
        async with self._database.write() as connection:
            await connection.execute(
                delete(account_keys).where(account_keys.c.account_id == account_id, account_keys.c.serial == serial)
            )
            await connection.execute(
                insert(account_keys).values(account_id=account_id, serial=serial, hash=key_hash, created_at=now)
            )

    async def key_hashes(self, account_id: str) -> list[bytes]:
        """What is kept of the account's keys; empty for an unknown account."""
        async with self._database.read() as connection:
            query = select(account_keys.c.hash).where(account_keys.c.account_id == account_id)
            return [bytes(value) for value in (await connection.execute(query)).scalars()]


class SigningKeyStore:
    """Queries about the keys that tokens are signed with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def active(self) -> list[SigningKeyRow]:
        """Keys that tokens may be signed with, newest first."""
        async with self._database.read() as connection:
            query = (
                select(signing_keys)
                .where(signing_keys.c.retired_at.is_(None))
                .order_by(signing_keys.c.created_at.desc(), signing_keys.c.id)
            )
            return [SigningKeyRow(row.id, row.private_pem) for row in await connection.execute(query)]

    async def add(self, key: SigningKeyRow, now: int) -> None:
        """Add a key."""
        async with self._database.write() as connection:
            await connection.execute(
                insert(signing_keys).values(id=key.id, private_pem=key.private_pem, created_at=now)
            )
