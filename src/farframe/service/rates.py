"""Rate limits: a bucket of tokens for each account, operator or address, and operation.

A bucket holds as many tokens as the operation may be called in a minute, and fills at that rate; a call takes one. The
buckets are in this process: of several replicas each counts on its own.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

from farframe.service.clock import Clock

DEFAULT_RATES: Mapping[str, int] = {
    "token": 600,
    "create": 600,
    "get": 12_000,
    "list": 1_200,
    "update": 1_200,
    "stop": 1_200,
    "convert": 600,
    "other": 6_000,
    "operator": 1_200,
    "public": 3_000,
    "refused": 120,
}
"""Calls a minute. A get every two seconds is 30 a minute and device: there is room for 400 that poll one account.

``operator`` counts by operator; ``public`` (callers without a credential) and ``refused`` (wrong credentials) count by
address; the others by account."""

MAX_BUCKETS = 65_536
_MINUTE = 60_000_000


class RateLimits:
    """Counts calls. Remembers a bounded number of buckets: those that were used last."""

    def __init__(self, rates: Mapping[str, int], clock: Clock) -> None:
        """``rates`` in calls a minute by operation; 0 means no limit, what is missing has its default."""
        self._rates = {**DEFAULT_RATES, **rates}
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        """Tokens left, and when that was so."""

    def take(self, account_id: str, operation: str) -> int:
        """Count a call. Returns 0 if it may go on, else after how many whole seconds to try again."""
        rate = self._rates.get(operation, self._rates["other"])
        if rate == 0:
            return 0
        now = self._clock.now()
        key = (account_id, operation)
        tokens, counted_at = self._buckets.pop(key, (float(rate), now))
        # The clock can be set back; then nothing comes in, and nothing is lost.
        tokens = min(float(rate), tokens + max(0, now - counted_at) * rate / _MINUTE)
        wait = 0 if tokens >= 1 else max(1, math.ceil((1 - tokens) * 60 / rate))
        self._buckets[key] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return wait
