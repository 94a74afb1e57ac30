"""The keys that tokens are signed with: made, put to use, taken out of use.

    made ──(KEY_LEAD_SECONDS)──► signs ──(a newer one signs)──► verifies ──(its last token has expired)──► gone

A new key is published some time before anything is signed with it. So every verifier knows it by then: the other
services on the same store, render servers, and whoever caches ``/.well-known/jwks.json``.
"""

from __future__ import annotations

import asyncio

import structlog

from farframe.auth.tokens import (
    CLOCK_SKEW_SECONDS,
    TOKEN_LIFETIME_SECONDS,
    SigningKey,
    TokenIssuer,
    TokenVerifier,
    export_jwks,
    new_signing_key,
)
from farframe.service.clock import Clock
from farframe.store.accounts import SigningKeyRow, SigningKeyStore

log = structlog.get_logger("farframe.service")

_SECOND = 1_000_000
KEY_LEAD_SECONDS = 600
"""From when a key is published to when it signs."""

LOOK_SECONDS = 60
"""How often each service looks for keys that another one has made."""

JWKS_MAX_AGE_SECONDS = 300
"""How long others may cache the published keys; less than the lead by more than a look."""


class Keyring:
    """Keeps issuer and verifier supplied with the right keys. :meth:`tend` is one of the scheduler's jobs."""

    def __init__(
        self,
        store: SigningKeyStore,
        issuer: TokenIssuer,
        verifier: TokenVerifier,
        clock: Clock,
        *,
        rotation_seconds: float,
        keys: list[SigningKey],
    ) -> None:
        """``keys`` are those that the issuer and the verifier have at the start."""
        self._store = store
        self._issuer = issuer
        self._verifier = verifier
        self._clock = clock
        self._rotation = round(rotation_seconds * _SECOND)
        self._known = [key.key_id for key in keys]
        self._signs = keys[0].key_id
        self.jwks = export_jwks(keys)
        """The public halves of all keys whose tokens are good."""

    async def tend(self, now: int) -> int:
        """Make a key if the newest has served its time, use what there is, forget what nobody needs."""
        rows = await self._store.active()
        if rows:
            if now - rows[0].created_at >= self._rotation:
                fresh = await asyncio.to_thread(new_signing_key)
                row = SigningKeyRow(fresh.key_id, fresh.private_pem)
                if await self._store.add(row, now, unless_newer_than=now - self._rotation):
                    log.info("signing_key.made", kid=fresh.key_id)
                rows = await self._store.active()
            signing, needed = sort_signing_keys(rows, now)
            for row in rows:
                if row not in needed:
                    await self._store.forget(row.id)
                    log.info("signing_key.forgotten", kid=row.id)
            self._use(signing, needed)
        return now + LOOK_SECONDS * _SECOND

    def _use(self, signing: SigningKeyRow, needed: list[SigningKeyRow]) -> None:
        known = [row.id for row in needed]
        if known != self._known:
            self.jwks = export_jwks([SigningKey(row.id, row.private_pem) for row in needed])
            self._verifier.use_keys(self.jwks)
            self._known = known
        if signing.id != self._signs:
            self._issuer.use_key(SigningKey(signing.id, signing.private_pem))
            self._signs = signing.id
            log.info("signing_key.used", kid=signing.id)


def sort_signing_keys(rows: list[SigningKeyRow], now: int) -> tuple[SigningKeyRow, list[SigningKeyRow]]:
    """Of keys, newest first: the one to sign with, and those whose tokens may still be good."""
    ripe = [row for row in rows if row.created_at + KEY_LEAD_SECONDS * _SECOND <= now]
    signing = ripe[0] if ripe else rows[-1]
    needed = []
    successor: SigningKeyRow | None = None
    for row in rows:
        if successor is None:
            needed.append(row)
        else:
            # Another service may look for its keys a little later, and go on signing with the former one until then.
            last_used = successor.created_at + (KEY_LEAD_SECONDS + 2 * LOOK_SECONDS) * _SECOND
            if last_used + (TOKEN_LIFETIME_SECONDS + CLOCK_SKEW_SECONDS) * _SECOND > now:
                needed.append(row)
        successor = row
    return signing, needed
