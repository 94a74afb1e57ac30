"""Limits of accounts: what an operator has set for one, else the service's defaults.

A limit that is reached is a 403 with a code of its own, not a 429: official clients repeat a 429 four times, and a
quota does not go away by waiting a second. What may go away by waiting is the matter of ``rates``.
"""

from __future__ import annotations

from datetime import UTC, datetime

from farframe.service.config import NO_LIMIT, ServiceConfig
from farframe.store.quotas import QuotaReached, QuotaStore, SessionQuota
from farframe.wire.errors import QuotaExceeded
from farframe.wire.times import MICROSECONDS_PER_MINUTE

SESSIONS_STANDARD = "sessions.standard"
SESSIONS_PREMIUM = "sessions.premium"
SESSION_MINUTES = "session_minutes"
CONVERSIONS = "conversions"
STORED_BYTES = "stored_bytes"

QUOTA_NAMES = (SESSIONS_STANDARD, SESSIONS_PREMIUM, SESSION_MINUTES, CONVERSIONS, STORED_BYTES)
"""What can be limited: active sessions of each size, minutes in Ready a calendar month (UTC), unfinished conversions,
bytes of uploads."""


class Quotas:
    """The limits in force."""

    def __init__(self, config: ServiceConfig, store: QuotaStore) -> None:
        self._store = store
        self._defaults = {
            SESSIONS_STANDARD: config.quota_sessions.get("standard", NO_LIMIT),
            SESSIONS_PREMIUM: config.quota_sessions.get("premium", NO_LIMIT),
            SESSION_MINUTES: config.quota_session_minutes,
            CONVERSIONS: config.quota_conversions,
            STORED_BYTES: config.upload_quota_bytes,
        }

    async def of(self, account_id: str) -> dict[str, int | None]:
        """All limits of an account by name; ``None`` where there is none."""
        own = await self._store.of(account_id)
        values = {name: own.get(name, default) for name, default in self._defaults.items()}
        return {name: value if value >= 0 else None for name, value in values.items()}

    async def limit(self, account_id: str, name: str) -> int | None:
        """One limit of an account; ``None`` if there is none."""
        return (await self.of(account_id))[name]

    async def for_sessions(self, account_id: str, size: str, now: int) -> SessionQuota | None:
        """What limits another session of that size, or a longer lease; ``None`` if nothing does."""
        limits = await self.of(account_id)
        active, minutes = limits[f"sessions.{size.lower()}"], limits[SESSION_MINUTES]
        if active is None and minutes is None:
            return None
        return SessionQuota(
            active=active,
            microseconds=minutes * MICROSECONDS_PER_MINUTE if minutes is not None else None,
            begin=month_begin(now),
        )

    async def own(self, account_id: str) -> set[str]:
        """Which limits an operator has set for the account."""
        return set(await self._store.of(account_id))

    def check(self, name: str, value: int | None) -> None:
        """Raises ``ValueError`` for a limit that :meth:`set` would not take."""
        if name not in QUOTA_NAMES:
            raise ValueError(f"there is no quota {name[:64]}; there are {', '.join(QUOTA_NAMES)}")
        if value is not None and value < NO_LIMIT:
            raise ValueError("a quota is a number, or -1 for no limit")

    async def set(self, account_id: str, name: str, value: int | None) -> None:
        """Set a limit of one account: -1 for none, ``None`` for the default. Raises ``ValueError`` as :meth:`check`."""
        self.check(name, value)
        await self._store.set(account_id, name, value)


def month_begin(now: int) -> int:
    """The first moment of the calendar month (UTC), both in microseconds since 1970 UTC."""
    moment = datetime.fromtimestamp(now // 1_000_000, UTC)
    return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1_000_000


def session_refusal(reached: QuotaReached, size: str) -> QuotaExceeded:
    """The answer for a session, or a longer lease, that the account's limits do not allow."""
    if reached.name == "active":
        return QuotaExceeded(
            f"The account has {reached.used} active {size} sessions, and {reached.limit} are allowed at a time. "
            "Stop a session, wait for one to end, or use another size.",
            code="SessionQuotaExceeded",
        )
    left = max(0, reached.limit - reached.used) // MICROSECONDS_PER_MINUTE
    return QuotaExceeded(
        f"The account may use {reached.limit // MICROSECONDS_PER_MINUTE} session minutes a month. {left} are left, "
        "counting the leases of active sessions in full. Use a shorter lease, stop a session, or wait for next month.",
        code="SessionMinutesExceeded",
    )
