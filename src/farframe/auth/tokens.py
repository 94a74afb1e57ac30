"""Access tokens: JSON Web Tokens signed with RS256.

Claims: ``iss``, ``aud`` (always ``farframe``), ``sub`` (the account id), ``role``, ``exp``, ``nbf``, ``iat``, ``jti``,
``sid`` where the token is good for one session only, ``key`` and ``gen`` (serial and generation of the account key that
it goes back to, if any), and ``act`` (who it was made for, if that is not an account key). All times in seconds since
1970 UTC.

A token is void as soon as its key is set anew, its account deleted, or all of the account's tokens revoked. What
decides about that are the account's :class:`~farframe.protocol.link.TokenRules`; a verifier that has them asks
:func:`is_revoked`.

The official clients decode the payload with the *standard* base64 alphabet, so it must not hold ``-`` or ``_``. A
six-bit group of 62 or 63 in ASCII text comes only from ``>``, ``?``, ``~`` and DEL; claims with any of these are
refused at issue.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import TokenRules

AUDIENCE = "farframe"
ALGORITHM = "RS256"
KEY_BITS = 2048
TOKEN_LIFETIME_SECONDS = 24 * 3600
MAX_TOKEN_LENGTH = 8192
MAX_REMEMBERED_TOKENS = 4096
CLOCK_SKEW_SECONDS = 60
"""``nbf`` lies so far back, for verifiers whose clock is behind."""

_SAFE_CLAIM = re.compile(r"[\x20-\x3d\x40-\x7d]*\Z")
"""ASCII without control characters, ``>``, ``?``, ``~`` and DEL."""


class Role(StrEnum):
    """What a token may do; see :mod:`farframe.auth.roles`."""

    ADMINISTRATOR = "Administrator"
    CLIENT = "Client"
    VIEWER = "Viewer"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a token goes back to: an account key by serial and generation, or ``actor``, somebody from elsewhere.

    A token made with the help of another one, such as a session token, has the origin of that one, and ends with it.
    """

    key_serial: int | None = None
    key_generation: int | None = None
    actor: str | None = None

    def __str__(self) -> str:
        """Who it was, for the audit log."""
        if self.actor:
            return self.actor
        return f"key:{self.key_serial}" if self.key_serial is not None else "service"


NO_ORIGIN = Origin()
"""Tokens that the service makes by itself, such as the one behind the link that it prints at its start."""


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a verified token says. Times in seconds since 1970 UTC; ``session_id`` limits it to one session."""

    account_id: str
    role: Role
    session_id: str | None
    expires_at: int
    issued_at: int = 0
    token_id: str = ""
    origin: Origin = NO_ORIGIN


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


def is_revoked(claims: TokenClaims, rules: TokenRules) -> bool:
    """Whether the account's rules make the token void: its key was set anew or is gone, or it was issued before the
    time that all tokens were revoked.
    """
    if claims.issued_at * 1_000_000 < rules.tokens_not_before:
        return True
    serial = claims.origin.key_serial
    return serial is not None and rules.key_generations.get(serial) != claims.origin.key_generation


class TokenIssuer:
    """Makes tokens with one key at a time. ``now`` gives seconds since 1970 UTC."""

    def __init__(self, key: SigningKey, issuer: str, now: Callable[[], float] = time.time) -> None:
        self.use_key(key)
        self._issuer = issuer
        self._now = now

    def use_key(self, key: SigningKey) -> None:
        """Sign with this key from now on."""
        self._key = RSAKey.import_key(key.private_pem)
        self._key_id = key.key_id

    def issue(
        self,
        account_id: str,
        role: Role = Role.ADMINISTRATOR,
        *,
        session_id: str | None = None,
        lifetime_seconds: int = TOKEN_LIFETIME_SECONDS,
        origin: Origin = NO_ORIGIN,
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
        if origin.key_serial is not None:
            claims["key"] = origin.key_serial
            claims["gen"] = origin.key_generation or 1
        if origin.actor:
            claims["act"] = origin.actor
        for name, value in claims.items():
            if isinstance(value, str) and not _SAFE_CLAIM.match(value):
                raise ValueError(f"the claim {name} holds characters that official clients cannot decode")
        header = {"alg": ALGORITHM, "typ": "JWT", "kid": self._key_id}
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM]), issued_at + lifetime_seconds


class TokenVerifier:
    """Checks tokens against the public keys. Safe to use in any process; needs no network.

    The signatures of tokens seen lately are not checked again, their times always are.
    """

    def __init__(self, jwks_json: str, issuer: str, now: Callable[[], float] = time.time) -> None:
        self._verified: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        self.use_keys(jwks_json)
        self._issuer = issuer
        self._now = now

    def use_keys(self, jwks_json: str) -> None:
        """Take tokens of these keys, and no others, from now on."""
        self._keys = KeySet.import_key_set(json.loads(jwks_json))
        self._verified.clear()

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims of a token with a good signature. Raises what the library raises."""
        # Its whole text decides, by a digest: nothing that could be used is kept.
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            claims = dict(jwt.decode(token, self._keys, algorithms=[ALGORITHM]).claims)
            self._verified[digest] = claims
            if len(self._verified) > MAX_REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(digest)
        return claims

    def verify(self, token: str) -> TokenClaims:
        """What the token says, if it was signed by one of the keys for this issuer and is valid now.

        Raises :class:`FarframeError` with ``AUTHENTICATION_FAILED`` for everything else.
        """
        if not token or len(token) > MAX_TOKEN_LENGTH:
            raise _refused("The access token is missing or malformed.")
        try:
            claims = self._claims(token)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            # The library answers some malformed tokens with plain ValueError, TypeError or KeyError.
            raise _refused("The access token is malformed or was not signed by this service.") from None
        expires_at, not_before, issued_at = claims.get("exp"), claims.get("nbf"), claims.get("iat")
        account_id, session_id, token_id = claims.get("sub"), claims.get("sid"), claims.get("jti")
        serial, generation, actor = claims.get("key"), claims.get("gen"), claims.get("act")
        now = self._now()
        if not isinstance(expires_at, int) or not isinstance(not_before, int) or not isinstance(account_id, str):
            raise _refused("The access token lacks a required claim.")
        if claims.get("iss") != self._issuer or claims.get("aud") != AUDIENCE:
            raise _refused("The access token is for another service.")
        if expires_at <= now:
            raise _refused("The access token has expired.")
        if not_before > now:
            raise _refused("The access token is not valid yet.")
        well_formed = (
            (session_id is None or isinstance(session_id, str))
            and isinstance(issued_at, int)
            and isinstance(token_id, str)
            and (serial is None or (isinstance(serial, int) and isinstance(generation, int)))
            and (actor is None or isinstance(actor, str))
        )
        if not well_formed:
            raise _refused("The access token lacks a required claim.")
        try:
            role = Role(str(claims.get("role")))
        except ValueError:
            raise _refused("The access token names an unknown role.") from None
        return TokenClaims(
            account_id=account_id,
            role=role,
            session_id=session_id,
            expires_at=expires_at,
            issued_at=int(issued_at or 0),
            token_id=str(token_id),
            origin=Origin(serial, generation, actor),
        )


def _refused(message: str) -> FarframeError:
    return FarframeError(
        Result.AUTHENTICATION_FAILED, message, next_step="Get a new access token from the token endpoint."
    )
