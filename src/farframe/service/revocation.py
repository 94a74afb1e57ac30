"""Which tokens are void although their signature and their times are good.

The store decides: a token's key must still have the generation that the token names, its account must exist, and its
tokens must not have been revoked altogether. This process keeps what it has read for :data:`KEEP_SECONDS` at most and
drops it when it makes a change itself; so one service is exact, and of several on one database the others follow within
that time. Render servers, which check tokens without asking, are told as often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from farframe.auth.tokens import TokenClaims, is_revoked
from farframe.fleet.base import Fleet
from farframe.protocol.link import TokenRules
from farframe.service.clock import Clock
from farframe.store.accounts import AccountStore

KEEP_SECONDS = 2
"""How long another service's change may stay unseen."""

MAX_ACCOUNTS = 10_000
_SECOND = 1_000_000
_NEVER = 2**62


class Revocations:
    """Knows which tokens are good. :meth:`tell_servers` is one of the scheduler's jobs."""

    def __init__(self, accounts: AccountStore, clock: Clock, jwks: Callable[[], str]) -> None:
        """``jwks`` gives the public keys of tokens, for render servers."""
        self._accounts = accounts
        self._clock = clock
        self._jwks = jwks
        self._kept: OrderedDict[str, tuple[int, TokenRules | None]] = OrderedDict()
        """When it was read, and what."""
        self._changes = 0

    async def allows(self, claims: TokenClaims) -> bool:
        """Whether a verified token is good."""
        rules = await self._rules(claims.account_id)
        return rules is not None and not is_revoked(claims, rules)

    async def rules_for_server(self, account_id: str) -> TokenRules:
        """What a render server of that account needs to know."""
        rules = await self._rules(account_id)
        if rules is None:
            return TokenRules(token_keys=self._jwks(), tokens_not_before=_NEVER)
        return TokenRules(
            token_keys=self._jwks(),
            key_generations=rules.key_generations,
            tokens_not_before=rules.tokens_not_before,
        )

    def forget(self, account_id: str) -> None:
        """Read anew what decides about that account's tokens: it has changed."""
        self._changes += 1
        self._kept.pop(account_id, None)

    async def tell(self, fleet: Fleet, account_id: str) -> None:
        """Tell the account's render servers at once."""
        fleet.set_token_rules(account_id, await self.rules_for_server(account_id))

    def telling(self, fleet: Fleet) -> Callable[[int], Awaitable[int]]:
        """The scheduler's job that keeps render servers informed of keys and of other services' changes."""

        async def tell_servers(now: int) -> int:
            for account_id in sorted(fleet.account_ids()):
                await self.tell(fleet, account_id)
            return now + KEEP_SECONDS * _SECOND

        return tell_servers

    async def _rules(self, account_id: str) -> TokenRules | None:
        now = self._clock.now()
        kept = self._kept.get(account_id)
        if kept is not None and 0 <= now - kept[0] < KEEP_SECONDS * _SECOND:
            return kept[1]
        changes = self._changes
        state = await self._accounts.state(account_id)
        rules = None
        if state is not None:
            rules = TokenRules(key_generations=dict(state.generations), tokens_not_before=state.tokens_not_before)
        if changes == self._changes:
            # Otherwise something changed while we read: this answer may stand, but not for later ones.
            self._kept[account_id] = (now, rules)
            self._kept.move_to_end(account_id)
            if len(self._kept) > MAX_ACCOUNTS:
                self._kept.popitem(last=False)
        return rules
