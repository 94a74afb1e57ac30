"""Accounts as operators manage them: made with two keys, shown, given new keys, deleted.

What an account key opens ends with it: tokens name the key that they go back to and its generation. Deleting an account
voids everything it has, ends its sessions and lets its uploads expire. Its id is never given again, and what it used
stays in the books.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from farframe.auth.secrets import hash_account_key, new_account_key
from farframe.fleet.base import Fleet
from farframe.service.clock import Clock
from farframe.service.revocation import Revocations
from farframe.service.sessions import SessionEngine
from farframe.store.accounts import PRIMARY, SECONDARY, AccountRow
from farframe.store.store import Store
from farframe.wire.errors import BadRequest, Conflict, NotFound, ResourceMissing
from farframe.wire.ids import new_account_id, normalize_account_id
from farframe.wire.operators import Account, AccountKey
from farframe.wire.times import format_utc_time

log = structlog.get_logger("farframe.service")

MAX_NAME_LENGTH = 200
RESERVED_NAME = "default"
_SWEEP_MICROSECONDS = 10_000_000
_REVOCATIONS_KEPT_MICROSECONDS = 2 * 24 * 3600 * 1_000_000

KeyListener = Callable[[str, int, str], Awaitable[None]]
"""Told of an account's new key: account id, serial, key."""


class Accounts:
    """Manages accounts. :meth:`sweep` is one of the scheduler's jobs."""

    def __init__(
        self,
        store: Store,
        sessions: SessionEngine,
        revocations: Revocations,
        fleet: Fleet,
        clock: Clock,
        *,
        wake_scheduler: Callable[[], None],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._revocations = revocations
        self._fleet = fleet
        self._clock = clock
        self._wake_scheduler = wake_scheduler
        self.on_key: KeyListener | None = None
        """Who keeps keys besides their owners: the connection file of this folder."""

    async def create(self, name: str, account_id: str | None) -> Account:
        """A new account with both keys, which are told here and never again. Raises BadRequest, Conflict."""
        if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise BadRequest(f"The name must be 1 to {MAX_NAME_LENGTH} printable characters.")
        if name == RESERVED_NAME:
            raise BadRequest(f"The name {RESERVED_NAME} is that of the account that the service makes for itself.")
        chosen = new_account_id() if account_id is None else normalize_account_id(account_id)
        if chosen is None:
            raise BadRequest("The accountId value must be a UUID.")
        if not await self._store.accounts.create(chosen, name, self._clock.now()):
            raise Conflict("The account id is taken, or was that of an account that has been deleted.")
        keys = [await self._set_key(chosen, serial) for serial in (PRIMARY, SECONDARY)]
        log.info("account.created", account=chosen)
        account = await self.get(chosen)
        account.keys = keys
        return account

    async def get(self, account_id: str) -> Account:
        """An account. Raises NotFound."""
        return await self._describe(await self._row(account_id))

    async def page(self, after: tuple[int, str] | None, count: int) -> tuple[list[Account], tuple[int, str] | None]:
        """Accounts, oldest first, and where the next page begins."""
        rows = await self._store.accounts.page(after=after, count=count + 1)
        page = rows[:count]
        following = (page[-1].created_at, page[-1].id) if len(rows) > count else None
        return [await self._describe(row) for row in page], following

    async def regenerate_key(self, account_id: str, serial: int) -> AccountKey:
        """A new primary (1) or secondary (2) key; the former one and its tokens are void, the other is untouched."""
        row = await self._row(account_id)
        if serial not in (PRIMARY, SECONDARY):
            raise BadRequest("The serial of a key is 1 (primary) or 2 (secondary).")
        key = await self._set_key(row.id, serial)
        log.info("account.key_regenerated", account=row.id, serial=serial, generation=key.generation)
        return key

    async def revoke_tokens(self, account_id: str) -> None:
        """Make every token of the account void, those from an identity provider too. Its keys stay. Raises NotFound."""
        row = await self._row(account_id)
        await self._store.accounts.revoke_tokens(row.id, self._clock.now())
        await self._changed(row.id)
        log.info("account.tokens_revoked", account=row.id)

    async def delete(self, account_id: str) -> None:
        """Delete an account and end what it has. Raises NotFound."""
        row = await self._row(account_id)
        if not await self._store.accounts.mark_deleted(row.id, self._clock.now()):
            raise self._missing(row.id)
        await self._changed(row.id)
        await self._end_sessions(row.id)
        await self._end_conversions(row.id)
        await self._store.uploads.expire_all_of(row.id, self._clock.now())
        self._wake_scheduler()
        log.info("account.deleted", account=row.id)

    async def sweep(self, now: int) -> int:
        """End what a deletion left that did not come to its end, here or in another service."""
        for account_id in await self._store.accounts.deleted_with_sessions():
            await self._end_sessions(account_id)
        for account_id in await self._store.conversions.unfinished_of_deleted():
            await self._end_conversions(account_id)
        await self._store.accounts.forget_revocations(now - _REVOCATIONS_KEPT_MICROSECONDS)
        return now + _SWEEP_MICROSECONDS

    async def _end_sessions(self, account_id: str) -> None:
        while True:
            sessions, following = await self._sessions.page(account_id, None)
            for session in sessions:
                try:
                    await self._sessions.stop(account_id, session.id)
                except ResourceMissing:  # pragma: no cover - forgotten in this very moment
                    continue
            if following is None:
                return

    async def _end_conversions(self, account_id: str) -> None:
        await self._store.conversions.fail_all_of(
            account_id, "AccountDeleted", "The account was deleted before the conversion ended.", self._clock.now()
        )

    async def _set_key(self, account_id: str, serial: int) -> AccountKey:
        key = new_account_key()
        now = self._clock.now()
        generation = await self._store.accounts.set_key(account_id, serial, hash_account_key(key), now)
        await self._changed(account_id)
        if self.on_key is not None:
            await self.on_key(account_id, serial, key)
        return AccountKey(serial=serial, creation_time=format_utc_time(now), generation=generation, key=key)

    async def _changed(self, account_id: str) -> None:
        self._revocations.forget(account_id)
        if account_id in self._fleet.account_ids():
            await self._revocations.tell(self._fleet, account_id)

    async def _describe(self, row: AccountRow) -> Account:
        keys = await self._store.accounts.keys(row.id)
        return Account(
            account_id=row.id,
            name=row.name,
            creation_time=format_utc_time(row.created_at),
            keys=[
                AccountKey(serial=key.serial, creation_time=format_utc_time(key.created_at), generation=key.generation)
                for key in keys
            ],
        )

    async def _row(self, account_id: str) -> AccountRow:
        normalized = normalize_account_id(account_id)
        row = await self._store.accounts.get(normalized) if normalized is not None else None
        if row is None:
            raise self._missing(account_id if normalized is not None else "of that id")
        return row

    @staticmethod
    def _missing(account_id: str) -> NotFound:
        return NotFound(f"There is no account {account_id}.", code="AccountNotFound")
