"""Access tokens: JSON Web Tokens signed with RS256.

Claims: ``iss``, ``aud`` (always ``farframe``), ``sub`` (the account id), ``role``, ``exp``, ``nbf``, ``iat``, ``jti``,
and ``sid`` where the token is good for one session only. All times in seconds since 1970 UTC.

The official clients decode the payload with the *standard* base64 alphabet, so it must not hold ``-`` or ``_``. A
six-bit group of 62 or 63 in ASCII text comes only from ``>``, ``?``, ``~`` and DEL; claims with any of these are
refused at issue.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from farframe.protocol.errors import FarframeError, Result

AUDIENCE = "farframe"
ALGORITHM = "RS256"
KEY_BITS = 2048
TOKEN_LIFETIME_SECONDS = 24 * 3600
MAX_TOKEN_LENGTH = 8192
CLOCK_SKEW_SECONDS = 60
"""``nbf`` lies so far back, for verifiers whose clock is behind."""

_SAFE_CLAIM = re.compile(r"[\x20-\x3d\x40-\x7d]*\Z")
"""ASCII without control characters, ``>``, ``?``, ``~`` and DEL."""


class Role(StrEnum):
    """What a token may do. An administrator manages the account; a client runs and uses sessions."""

    ADMINISTRATOR = "Administrator"
    CLIENT = "Client"


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a verified token says. ``expires_at`` in seconds since 1970 UTC; ``session_id`` limits it to one session."""

    account_id: str
    role: Role
    session_id: str | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key for tokens, as PEM, and the id that tokens name it by."""

    key_id: str
    private_pem: str = field(repr=False)


def new_signing_key() -> SigningKey:
    """A fresh RSA key; takes some tenths of a second."""
    key = RSAKey.generate_key(KEY_BITS)
    return SigningKey(key_id=key.thumbprint(), private_pem=key.as_pem(private=True).decode("ascii"))


def export_jwks(keys: Sequence[SigningKey]) -> str:
    """The public halves as a JSON Web Key Set, for verifiers."""
    exported = []
    for key in keys:
        public = RSAKey.import_key(key.private_pem).as_dict(private=False)
        exported.append({**public, "kid": key.key_id, "use": "sig", "alg": ALGORITHM})
    return json.dumps({"keys": exported})


class TokenIssuer:
    """Makes tokens with one key. ``now`` gives seconds since 1970 UTC."""

    def __init__(self, key: SigningKey, issuer: str, now: Callable[[], float] = time.time) -> None:
        self._key = RSAKey.import_key(key.private_pem)
        self._key_id = key.key_id
        self._issuer = issuer
        self._now = now

    def issue(
        self,
        account_id: str,
        role: Role = Role.ADMINISTRATOR,
        *,
        session_id: str | None = None,
        lifetime_seconds: int = TOKEN_LIFETIME_SECONDS,
    ) -> tuple[str, int]:
        """A token and when it expires, in seconds since 1970 UTC.

        Raises ``ValueError`` for claims that would not survive the official clients' decoder.
        """
        issued_at = int(self._now())
        claims: dict[str, str | int] = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": account_id,
            "role": role.value,
            "exp": issued_at + lifetime_seconds,
            "nbf": issued_at - CLOCK_SKEW_SECONDS,
            "iat": issued_at,
            "jti": str(uuid.uuid4()),
        }
        if session_id is not None:
            claims["sid"] = session_id
        for name, value in claims.items():
            if isinstance(value, str) and not _SAFE_CLAIM.match(value):
                raise ValueError(f"the claim {name} holds characters that official clients cannot decode")
        header = {"alg": ALGORITHM, "typ": "JWT", "kid": self._key_id}
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM]), issued_at + lifetime_seconds


class TokenVerifier:
    """Checks tokens against the public keys. Safe to use in any process; needs no network."""

    def __init__(self, jwks_json: str, issuer: str, now: Callable[[], float] = time.time) -> None:
        self._keys = KeySet.import_key_set(json.loads(jwks_json))
        self._issuer = issuer
        self._now = now

    def verify(self, token: str) -> TokenClaims:
        """What the token says, if it was signed by one of the keys for this issuer and is valid now.

        Raises :class:`FarframeError` with ``AUTHENTICATION_FAILED`` for everything else.
        """
        if not token or len(token) > MAX_TOKEN_LENGTH:
            raise _refused("The access token is missing or malformed.")
        try:
            claims = jwt.decode(token, self._keys, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            # The library answers some malformed tokens with plain ValueError, TypeError or KeyError.
            raise _refused("The access token is malformed or was not signed by this service.") from None
        expires_at, not_before = claims.get("exp"), claims.get("nbf")
        account_id, session_id = claims.get("sub"), claims.get("sid")
        now = self._now()
        if not isinstance(expires_at, int) or not isinstance(not_before, int) or not isinstance(account_id, str):
            raise _refused("The access token lacks a required claim.")
        if claims.get("iss") != self._issuer or claims.get("aud") != AUDIENCE:
            raise _refused("The access token is for another service.")
        if expires_at <= now:
            raise _refused("The access token has expired.")
        if not_before > now:
            raise _refused("The access token is not valid yet.")
        if session_id is not None and not isinstance(session_id, str):
            raise _refused("The access token lacks a required claim.")
        try:
            role = Role(str(claims.get("role")))
        except ValueError:
            raise _refused("The access token names an unknown role.") from None
        return TokenClaims(account_id=account_id, role=role, session_id=session_id, expires_at=expires_at)


def _refused(message: str) -> FarframeError:
    return FarframeError(
        Result.AUTHENTICATION_FAILED, message, next_step="Get a new access token from the token endpoint."
    )
