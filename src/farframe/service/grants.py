"""What somebody's credentials are good for, whatever kind they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from farframe.auth.tokens import TOKEN_LIFETIME_SECONDS, Origin, Role


@dataclass(frozen=True, slots=True)
class Grant:
    """The token that credentials yield: its role, what it goes back to, and how long it lives."""

    role: Role
    origin: Origin
    lifetime_seconds: int = TOKEN_LIFETIME_SECONDS


Exchange = Callable[[str, str], Awaitable[Grant | None]]
"""What a token of an identity provider is good for in an account, if for anything."""
