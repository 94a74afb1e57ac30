"""One-time links: they let a browser in without ever showing it an account key."""

from __future__ import annotations

from collections import OrderedDict, deque

from farframe.auth.secrets import hash_code, new_code
from farframe.auth.tokens import NO_ORIGIN, Origin, Role, TokenIssuer
from farframe.service.clock import Clock
from farframe.store.links import LinkState, LinkStore
from farframe.wire.errors import BadRequest, Gone, NotFound, TooManyRequests
from farframe.wire.extensions import RedeemedLink
from farframe.wire.times import format_utc_time

LINK_LIFETIME_SECONDS = 600
TOKEN_LIFETIME_SECONDS = 3600
MAX_FAILURES = 10
FAILURE_WINDOW_SECONDS = 60
MAX_WATCHED_CALLERS = 4096
_KEEP_MICROSECONDS = 24 * 3600 * 1_000_000
_UPKEEP_MICROSECONDS = 3600 * 1_000_000


class FailureLimiter:
    """Refuses callers who failed too often in the last minute. Remembers a bounded number of callers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[int]] = OrderedDict()

    def check(self, caller: str) -> None:
        """Raises :class:`TooManyRequests` if the caller has to wait."""
        failures = self._failures.get(caller)
        if failures is None:
            return
        now = self._clock.now()
        window = FAILURE_WINDOW_SECONDS * 1_000_000
        while failures and failures[0] <= now - window:
            failures.popleft()
        if len(failures) >= MAX_FAILURES:
            seconds = -(-(failures[0] + window - now) // 1_000_000)
            raise TooManyRequests(
                f"Too many links that do not work came from your address. Try again in {seconds} s.",
                retry_after_seconds=seconds,
            )

    def note(self, caller: str) -> None:
        """The caller failed."""
        self._failures.setdefault(caller, deque(maxlen=MAX_FAILURES)).append(self._clock.now())
        self._failures.move_to_end(caller)
        while len(self._failures) > MAX_WATCHED_CALLERS:
            self._failures.popitem(last=False)


class Links:
    """Makes and redeems one-time links. :meth:`expire` is one of the scheduler's jobs."""

    def __init__(self, store: LinkStore, issuer: TokenIssuer, clock: Clock) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._limiter = FailureLimiter(clock)

    async def create(
        self,
        account_id: str,
        session_id: str | None = None,
        *,
        role: Role = Role.CLIENT,
        origin: Origin = NO_ORIGIN,
    ) -> tuple[str, int]:
        """A code, and when it expires in microseconds since 1970 UTC. Only a digest of it is kept."""
        code, now = new_code(), self._clock.now()
        expires_at = now + LINK_LIFETIME_SECONDS * 1_000_000
        await self._store.add(
            hash_code(code),
            account_id,
            session_id,
            now=now,
            expires_at=expires_at,
            key_serial=origin.key_serial,
            key_generation=origin.key_generation,
            role=role.value,
            actor=origin.actor,
        )
        return code, expires_at

    async def redeem(self, code: str, caller: str, endpoint: str) -> RedeemedLink:
        """A token of the link's role for one hour, once. ``caller`` is the address that failures are counted by."""
        self._limiter.check(caller)
        if not code or not code.isascii() or len(code) > 256:
            self._limiter.note(caller)
            raise BadRequest("The code of a link is required.")
        outcome = await self._store.redeem(hash_code(code), self._clock.now())
        if outcome.state is LinkState.REDEEMED:
            role = Role(outcome.role or Role.CLIENT)  # links of former versions have none
            token, expires_at = self._issuer.issue(
                outcome.account_id,
                role,
                session_id=outcome.session_id,
                lifetime_seconds=TOKEN_LIFETIME_SECONDS,
                origin=Origin(outcome.key_serial, outcome.key_generation, outcome.actor),
            )
            return RedeemedLink(
                access_token=token,
                account_id=outcome.account_id,
                expires_at=format_utc_time(expires_at * 1_000_000),
                endpoint=endpoint,
                session_id=outcome.session_id,
                role=role.value,
            )
        self._limiter.note(caller)
        advice = "Ask for a new one: farframe view prints one."
        if outcome.state is LinkState.USED:
            raise Gone(f"This link has been used already; a link works once. {advice}", code="LinkUsed")
        if outcome.state is LinkState.EXPIRED:
            raise Gone(f"This link has expired; a link works for ten minutes. {advice}", code="LinkExpired")
        raise NotFound(f"This link does not exist. {advice}", code="LinkNotFound")

    async def expire(self, now: int) -> int | None:
        """Forget links that have been dead for a day; until then they can say why they do not work."""
        await self._store.forget_expired(now - _KEEP_MICROSECONDS)
        return now + _UPKEEP_MICROSECONDS
