"""Tokens: what the official client's decoder takes, what the verifier refuses, and account keys."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from azure.mixedreality.authentication._utils import retrieve_jwt_expiration_timestamp
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from farframe.auth.secrets import DECOY, account_key_matches, hash_account_key, hash_code, new_account_key, new_code
from farframe.auth.tokens import (
    Role,
    SigningKey,
    TokenIssuer,
    TokenVerifier,
    export_jwks,
    new_signing_key,
)
from farframe.protocol.errors import FarframeError, Result

KEY = new_signing_key()
OTHER_KEY = new_signing_key()
ACCOUNT = str(uuid.UUID(int=7))
NOW = 1_750_000_000.0


def issuer(key: SigningKey = KEY, name: str = "farframe", now: float = NOW) -> TokenIssuer:
    return TokenIssuer(key, name, lambda: now)


def verifier(now: float = NOW, keys: tuple[SigningKey, ...] = (KEY,)) -> TokenVerifier:
    return TokenVerifier(export_jwks(keys), "farframe", lambda: now)


def test_round_trip() -> None:
    token, expires_at = issuer().issue(ACCOUNT)
    claims = verifier().verify(token)
    assert (claims.account_id, claims.role, claims.session_id) == (ACCOUNT, Role.ADMINISTRATOR, None)
    assert claims.expires_at == expires_at == NOW + 24 * 3600
    token, _ = issuer().issue(ACCOUNT, Role.CLIENT, session_id="s-1", lifetime_seconds=60)
    claims = verifier().verify(token)
    assert (claims.role, claims.session_id, claims.expires_at) == (Role.CLIENT, "s-1", NOW + 60)


def test_a_token_names_what_the_contract_asks_for() -> None:
    header, payload, _ = issuer().issue(ACCOUNT)[0].split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "RS256"
    claims = json.loads(base64.b64decode(payload + "=="))
    assert set(claims) == {"iss", "aud", "sub", "role", "exp", "nbf", "iat", "jti"}


SAFE = "".join(chr(code) for code in range(0x20, 0x7E) if chr(code) not in ">?~")


@given(st.uuids(), st.text(SAFE, max_size=60), st.sampled_from(Role), st.integers(0, 4_000_000_000))
def test_the_official_client_can_decode_every_payload(account: Any, session: str, role: Role, now: int) -> None:
    token, expires_at = issuer(now=now).issue(str(account), role, session_id=session)
    payload = token.split(".")[1]
    assert "-" not in payload
    assert "_" not in payload
    assert retrieve_jwt_expiration_timestamp(token) == expires_at


@pytest.mark.parametrize("bad", ["a>b", "why?", "~", "\x7f", "ä", "\n"])
def test_claims_that_it_could_not_decode_are_refused_at_issue(bad: str) -> None:
    with pytest.raises(ValueError, match="sid"):
        issuer().issue(ACCOUNT, session_id=bad)


def refused(token: str, check: TokenVerifier | None = None) -> FarframeError:
    with pytest.raises(FarframeError) as caught:
        (check or verifier()).verify(token)
    assert caught.value.result is Result.AUTHENTICATION_FAILED
    assert caught.value.next_step
    return caught.value


def test_time() -> None:
    token, _ = issuer().issue(ACCOUNT, lifetime_seconds=100)
    verifier(NOW + 99).verify(token)
    assert "expired" in str(refused(token, verifier(NOW + 100)))
    verifier(NOW - 60).verify(token)
    assert "not valid yet" in str(refused(token, verifier(NOW - 61)))


def test_other_signers_and_other_services() -> None:
    refused(issuer(OTHER_KEY).issue(ACCOUNT)[0])
    assert "another service" in str(refused(issuer(name="elsewhere").issue(ACCOUNT)[0]))
    both = verifier(keys=(OTHER_KEY, KEY))
    for key in (KEY, OTHER_KEY):
        assert both.verify(issuer(key).issue(ACCOUNT)[0]).account_id == ACCOUNT


def test_forgeries() -> None:
    token, _ = issuer().issue(ACCOUNT)
    header, payload, signature = token.split(".")
    claims = json.loads(base64.b64decode(payload + "=="))
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    refused(f"{none}.{payload}.")
    refused(f"{header}.{payload}.")
    refused(f"{header}.{payload}x.{signature}")
    # The public key taken for a shared secret, the classic confusion of algorithms.
    public = RSAKey.import_key(KEY.private_pem).as_pem(private=False)
    secret = OctKey.import_key(base64.urlsafe_b64encode(public).decode())
    refused(jwt.encode({"alg": "HS256", "kid": KEY.key_id}, claims, secret))
    own = RSAKey.import_key(KEY.private_pem)
    for change in (
        {"role": "King"},
        {"role": None},
        {"sub": 5},
        {"exp": "later"},
        {"sid": 5},
        {"aud": "x"},
        {"nbf": None},
    ):
        refused(jwt.encode({"alg": "RS256", "kid": KEY.key_id}, {**claims, **change}, own))


@given(
    st.one_of(st.text(max_size=200), st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}"))
)
def test_garbage(token: str) -> None:
    refused(token)


def test_a_huge_token() -> None:
    refused("a" * 10_000_000)


def test_secrets_do_not_show() -> None:
    assert "PRIVATE" not in repr(KEY)
    assert "PRIVATE" not in export_jwks([KEY])
    assert '"d"' not in export_jwks([KEY])


def test_account_keys() -> None:
    key = new_account_key()
    kept = hash_account_key(key)
    assert key.startswith("ffk_")
    assert account_key_matches(key, kept)
    assert kept != hash_account_key(key), "salted"
    assert key.encode() not in kept
    for wrong in ("", key[:-1], key + "x", new_account_key(), "x" * 1_000_000, "\udc80"):
        assert not account_key_matches(wrong, kept)
    assert not account_key_matches(key, DECOY)
    assert not account_key_matches(key, b"")
    code = new_code()
    assert hash_code(code) == hash_code(code) != hash_code(new_code())
