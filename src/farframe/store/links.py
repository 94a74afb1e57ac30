"""One-time links: kept as digests, redeemed once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import delete, insert, select, update

from farframe.store.database import Database
from farframe.store.schema import one_time_links


class LinkState(Enum):
    """What came of an attempt to redeem."""

    REDEEMED = "redeemed"
    USED = "used"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Redemption:
    """The outcome; all but ``state`` only when it is ``REDEEMED``. ``key_serial`` and ``key_generation`` name the
    account key that the link goes back to, ``actor`` who asked for it."""

    state: LinkState
    account_id: str = ""
    session_id: str | None = None
    key_serial: int | None = None
    key_generation: int | None = None
    role: str | None = None
    actor: str | None = None


class LinkStore:
    """Queries about one-time links."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        code_hash: bytes,
        account_id: str,
        session_id: str | None,
        *,
        now: int,
        expires_at: int,
        key_serial: int | None = None,
        key_generation: int | None = None,
        role: str | None = None,
        actor: str | None = None,
    ) -> None:
        """Keep a new link."""
        async with self._database.write() as connection:
            await connection.execute(
                insert(one_time_links).values(
                    code_hash=code_hash,
                    account_id=account_id,
                    session_id=session_id,
                    created_at=now,
                    expires_at=expires_at,
                    key_serial=key_serial,
                    key_generation=key_generation,
                    role=role,
                    actor=actor,
                )
            )

    async def redeem(self, code_hash: bytes, now: int) -> Redemption:
        """Use a link. Of any number of attempts exactly one gets ``REDEEMED``."""
        async with self._database.write() as connection:
            result = await connection.execute(
                update(one_time_links)
                .where(
                    one_time_links.c.code_hash == code_hash,
                    one_time_links.c.redeemed_at.is_(None),
                    one_time_links.c.expires_at > now,
                )
                .values(redeemed_at=now)
            )
            row = (
                await connection.execute(select(one_time_links).where(one_time_links.c.code_hash == code_hash))
            ).first()
        if row is None:
            return Redemption(LinkState.UNKNOWN)
        if result.rowcount == 1:
            return Redemption(
                LinkState.REDEEMED,
                row.account_id,
                row.session_id,
                row.key_serial,
                row.key_generation,
                row.role,
                row.actor,
            )
        return Redemption(LinkState.USED if row.redeemed_at is not None else LinkState.EXPIRED)

    async def forget_expired(self, before: int) -> int:
        """Delete links that expired before that time. Returns how many."""
        async with self._database.write() as connection:
            result = await connection.execute(delete(one_time_links).where(one_time_links.c.expires_at < before))
        return result.rowcount
