"""Account keys and one-time codes: how they are made, kept and compared.

Both hold 256 bits from the operating system's random generator. A slow password hash protects secrets that can be
guessed by trying; 2**256 values cannot, however fast the hash. So each is kept as a salted BLAKE2b digest, which costs
microseconds on a request, and a stolen store yields nothing that can be used. The salt keeps equal secrets from showing
as equal digests. One-time codes are looked up by digest, hence their digest takes no salt.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

KEY_PREFIX = "ffk_"
"""Account keys start so: people and secret scanners recognise them."""

CODE_PREFIX = "ffl_"
"""Codes of one-time links start so."""

OPERATOR_PREFIX = "ffo_"
"""The tokens of operators start so."""

MAX_SECRET_LENGTH = 512
"""Longer input is refused before it is hashed."""

_SALT_BYTES = 16
_DIGEST_BYTES = 32


def new_account_key() -> str:
    """A fresh account key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def new_code() -> str:
    """A fresh code for a one-time link."""
    return CODE_PREFIX + secrets.token_urlsafe(32)


def new_operator_token() -> str:
    """A fresh token for an operator."""
    return OPERATOR_PREFIX + secrets.token_urlsafe(32)


def hash_account_key(key: str) -> bytes:
    """What to keep of an account key: salt and digest, 48 bytes."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return salt + _digest(key, salt)


def account_key_matches(key: str, kept: bytes) -> bool:
    """Whether ``key`` is the one that :func:`hash_account_key` made ``kept`` of; takes the same time either way."""
    if len(key) > MAX_SECRET_LENGTH or len(kept) != _SALT_BYTES + _DIGEST_BYTES:
        return False
    return hmac.compare_digest(_digest(key, kept[:_SALT_BYTES]), kept[_SALT_BYTES:])


def hash_code(code: str) -> bytes:
    """What to keep of a one-time link's code, and how to find it again: 32 bytes."""
    return _digest(code[:MAX_SECRET_LENGTH], b"")


def _digest(secret: str, salt: bytes) -> bytes:
    data = secret.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, salt=salt, person=b"farframe").digest()


DECOY = hash_account_key(new_account_key())
"""Compared with when an account does not exist, so that its absence does not show in the time."""
