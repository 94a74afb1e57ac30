"""Limits of single accounts, where an operator has set them, and how much of them is in use."""

from __future__ import annotations

from sqlalchemy import and_, delete, insert, select

from farframe.store.database import Database
from farframe.store.schema import account_quotas


class QuotaReached(Exception):  # noqa: N818 - an outcome, not a fault
    """The account's limit does not allow one more. Both numbers in the unit of the limit."""

    def __init__(self, *, used: int, limit: int) -> None:
        super().__init__(f"{used} of {limit} in use")
        self.used = used
        self.limit = limit


class QuotaStore:
    """Queries about accounts' own limits; what is not here is the service's default."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, account_id: str) -> dict[str, int]:
        """The account's own limits, by name."""
        query = select(account_quotas.c.name, account_quotas.c.value).where(account_quotas.c.account_id == account_id)
        async with self._database.read() as connection:
            return {row.name: int(row.value) for row in await connection.execute(query)}

    async def set(self, account_id: str, name: str, value: int | None) -> None:
        """Set one limit of an account; ``None`` goes back to the service's default."""
        present = and_(account_quotas.c.account_id == account_id, account_quotas.c.name == name)
        async with self._database.write() as connection:
            await connection.execute(delete(account_quotas).where(present))
            if value is not None:
                await connection.execute(insert(account_quotas).values(account_id=account_id, name=name, value=value))
