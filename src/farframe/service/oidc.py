"""Tokens of identity providers (OpenID Connect) in exchange for ours: Entra ID, Keycloak, any with discovery.

A provider's token is taken if

* its ``iss`` is that of a configured provider and its ``aud`` holds one of the audiences set for it,
* it was signed with a key that the provider publishes now, by an asymmetric algorithm that is allowed for it; ``none``
  and the ``HS`` family never are,
* the present time lies between ``nbf`` and ``exp``, with a little leeway; ``exp`` and ``sub`` must be there,
* one of the provider's rules matches its claims and names the account that is asked for.

The first rule that does so gives the role. All refusals are the same empty 401; the log says why, without the token.
Keys are read by discovery (``/.well-known/openid-configuration``), kept, and read again when a token names one that is
not among them, but not more often than every :data:`REFRESH_PAUSE_SECONDS`: strangers can name as many as they like.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import ssl
import string
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from farframe.auth.tokens import Origin, Role
from farframe.service.config import OIDC_ALGORITHMS, OidcProvider, OidcRule
from farframe.service.grants import Grant
from farframe.wire.ids import normalize_account_id

log = structlog.get_logger("farframe.service")

MAX_PROVIDER_TOKEN_LENGTH = 16 * 1024
MAX_DOCUMENT_BYTES = 512 * 1024
MAX_KEYS = 100
FETCH_TIMEOUT_SECONDS = 10.0
KEYS_KEPT_SECONDS = 3600.0
REFRESH_PAUSE_SECONDS = 10.0
DISCOVERY_PATH = "/.well-known/openid-configuration"

_MAX_SUBJECT_LENGTH = 120
_PLAIN = string.ascii_letters + string.digits + "-._@|/:"


class _Refused(Exception):  # noqa: N818 - an outcome, not a fault of ours
    """The provider's token is not taken; the text is for the log."""


class Provider:
    """One identity provider and the keys that it publishes."""

    def __init__(
        self, settings: OidcProvider, now: Callable[[], float], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """``now`` gives seconds since 1970 UTC; ``transport`` replaces the network, for tests."""
        self.settings = settings
        self._now = now
        self._transport = transport
        self._keys: list[dict[str, Any]] = []
        self._read_at = -math.inf
        self._tried_at = -math.inf
        self._lock = asyncio.Lock()

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that this provider made for us and that is good now. Raises _Refused."""
        header = _part(token, 0)
        algorithm = header.get("alg")
        if algorithm not in (self.settings.algorithms or OIDC_ALGORITHMS):
            raise _Refused("its algorithm is not allowed")
        key = await self._key(header.get("kid"), algorithm)
        try:
            claims = dict(jwt.decode(token, KeySet.import_key_set({"keys": [key]}), algorithms=[algorithm]).claims)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise _Refused("its signature is not good") from None
        self._check(claims)
        return claims

    def _check(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._now(), self.settings.leeway_seconds
        audience = claims.get("aud")
        named = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        if claims.get("iss") != self.settings.issuer:
            raise _Refused("it is of another issuer")
        if not any(one in self.settings.audiences for one in named if isinstance(one, str)):
            raise _Refused("it is for another audience")
        expires_at = _time(claims, "exp")
        if expires_at is None:
            raise _Refused("it never expires")
        if expires_at + leeway <= now:
            raise _Refused("it has expired")
        for name in ("nbf", "iat"):
            moment = _time(claims, name)
            if moment is not None and moment - leeway > now:
                raise _Refused("it is not valid yet")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise _Refused("it names no subject")

    async def _key(self, kid: object, algorithm: str) -> dict[str, Any]:
        """The published key that the token names, or the only one that fits if it names none."""
        if self._now() - self._read_at > KEYS_KEPT_SECONDS:
            await self._refresh()
        found = self._find(kid, algorithm)
        if found is None:
            await self._refresh()
            found = self._find(kid, algorithm)
        if found is None:
            raise _Refused("its key is not among those of the provider")
        return found

    def _find(self, kid: object, algorithm: str) -> dict[str, Any] | None:
        fitting = [key for key in self._keys if key["kty"] == _key_type(algorithm)]
        fitting = [key for key in fitting if key.get("alg", algorithm) == algorithm]
        if kid is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.get("kid") == kid), None)

    async def _refresh(self) -> None:
        """Read the provider's keys, unless that was tried only just now. Keeps the former ones if it fails."""
        async with self._lock:
            now = self._now()
            if 0 <= now - self._tried_at < REFRESH_PAUSE_SECONDS:
                return
            self._tried_at = now
            try:
                self._keys = await self._fetch_keys()
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, ValueError) as error:
                log.warning("oidc.keys_not_read", provider=self.settings.name, error=f"{type(error).__name__}: {error}")
                return
            self._read_at = now
            log.info("oidc.keys_read", provider=self.settings.name, count=len(self._keys))

    async def _fetch_keys(self) -> list[dict[str, Any]]:
        context = ssl.create_default_context()
        if self.settings.ca_file:
            await asyncio.to_thread(context.load_verify_locations, self.settings.ca_file)
        async with httpx.AsyncClient(
            verify=context, timeout=FETCH_TIMEOUT_SECONDS, follow_redirects=False, transport=self._transport
        ) as client:
            issuer = self.settings.issuer
            description = await _fetch_json(client, issuer.rstrip("/") + DISCOVERY_PATH)
            if description.get("issuer") != issuer:
                raise ValueError("the provider describes itself as another issuer")
            address = description.get("jwks_uri")
            if not isinstance(address, str) or not _is_safe(address, issuer):
                raise ValueError("the provider's jwks_uri is not an https URL")
            published = (await _fetch_json(client, address)).get("keys")
        if not isinstance(published, list) or len(published) > MAX_KEYS:
            raise ValueError("the provider publishes no list of keys")
        # Symmetric keys and those for encryption are no business of ours, and may be there.
        return [
            key
            for key in published
            if isinstance(key, dict) and key.get("kty") in ("RSA", "EC") and key.get("use", "sig") == "sig"
        ]


class OidcExchange:
    """Decides what a provider's token is good for. Call it with the account that is asked for."""

    def __init__(
        self,
        providers: tuple[OidcProvider, ...],
        now: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._providers = [Provider(settings, now, transport) for settings in providers]

    async def __call__(self, account_id: str, token: str) -> Grant | None:
        """What the token is good for in that account, if for anything."""
        try:
            return await self._exchange(account_id, token)
        except _Refused as refusal:
            log.info("oidc.refused", account=account_id, reason=str(refusal))
            return None

    async def _exchange(self, account_id: str, token: str) -> Grant:
        if len(token) > MAX_PROVIDER_TOKEN_LENGTH or not token.isascii():
            raise _Refused("it is too long or no token")
        issuer = _part(token, 1).get("iss")
        # Nothing of it is verified yet: it only says whom to ask.
        candidates = [provider for provider in self._providers if provider.settings.issuer == issuer]
        if not candidates:
            raise _Refused("its issuer is not configured")
        refusal = _Refused("")
        for provider in candidates:
            try:
                claims = await provider.claims(token)
                role = _role_for(provider.settings, claims, account_id)
            except _Refused as error:
                refusal = error
                continue
            actor = f"oidc:{provider.settings.name}:{_subject(claims['sub'])}"
            lifetime = provider.settings.token_minutes * 60
            return Grant(role, Origin(actor=actor), lifetime)
        raise refusal


def _role_for(settings: OidcProvider, claims: Mapping[str, Any], account_id: str) -> Role:
    for rule in settings.rules:
        if all(_holds(claims, name, wanted) for name, wanted in rule.when.items()) and account_id in _accounts(
            rule, claims
        ):
            return Role(rule.role)
    raise _Refused("no rule lets it into that account")


def _accounts(rule: OidcRule, claims: Mapping[str, Any]) -> set[str]:
    """The accounts that a matching rule lets into: the one it names, or those in the claim it names."""
    if rule.account:
        return {rule.account.lower()}
    named = (normalize_account_id(value) for value in _texts(_claim(claims, rule.account_claim)))
    return {value for value in named if value is not None}


def _holds(claims: Mapping[str, Any], name: str, wanted: str) -> bool:
    """Whether the claim is that text, or a list that holds it."""
    return wanted in _texts(_claim(claims, name))


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or, if there is none of that name, by its path: ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _texts(value: object) -> list[str]:
    if isinstance(value, bool):
        return ["true" if value else "false"]
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _subject(subject: str) -> str:
    """The subject in characters that a token of ours may hold; a long one by its digest."""
    text = quote(subject, safe=_PLAIN)
    text = text.replace("~", "%7E")
    if len(text) <= _MAX_SUBJECT_LENGTH:
        return text
    return "sha256:" + hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()


def _part(token: str, index: int) -> dict[str, Any]:
    """Header (0) or claims (1) of a token as they stand, nothing verified."""
    parts = token.split(".")
    try:
        if len(parts) != 3:
            raise ValueError
        text = base64.urlsafe_b64decode(parts[index] + "=" * (-len(parts[index]) % 4))
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise _Refused("it is no token") from None
    if not isinstance(value, dict):
        raise _Refused("it is no token")
    return value


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Refused(f"its {name} is no time")
    return float(value)


def _key_type(algorithm: str) -> str:
    return "EC" if algorithm.startswith("ES") else "RSA"


async def _fetch_json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url, headers={"Accept": "application/json"}) as response:
        if response.status_code != 200:
            raise ValueError(f"{url} answered with status {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"{url} answered with too much")
    try:
        value = json.loads(bytes(body))
    except RecursionError:
        raise ValueError(f"{url} answered with something that is no object") from None
    if not isinstance(value, dict):
        raise ValueError(f"{url} answered with something that is no object")
    return value


def _is_safe(address: str, issuer: str) -> bool:
    """Keys come over https; plain only from the very host of an issuer that is plain, which is this machine."""
    parts, own = urlsplit(address), urlsplit(issuer)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == own.scheme == "http" and parts.netloc == own.netloc
