"""Accounts, keys, roles and tokens: who may do what, and how they lose it."""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from farframe.auth.roles import PERMISSIONS, Permission
from farframe.auth.secrets import hash_account_key, new_operator_token
from farframe.auth.tokens import Origin, Role, SigningKey, export_jwks, new_signing_key
from farframe.service.identity import ensure_account, ensure_operator_token, ensure_signing_keys
from farframe.service.keyring import KEY_LEAD_SECONDS
from farframe.wire.errors import Unauthorized
from farframe.wire.sessions import SessionSettings, SessionSize

OTHER = "00000000-0000-4000-8000-000000000000"
CONVERSION = {
    "settings": {
        "inputLocation": {"storageContainerUri": "https://storage.example/in", "relativeInputAssetPath": "a.glb"},
        "outputLocation": {"storageContainerUri": "https://storage.example/out"},
    }
}


@pytest.fixture
async def operator(world: Any) -> dict[str, str]:
    token = new_operator_token()
    await world.store.operators.set_token("here:/data", hash_account_key(token), 1)
    return {"Authorization": f"Bearer {token}"}


async def create_account(world: Any, operator: dict[str, str], name: str = "acme", **more: str) -> Any:
    response = await world.http.post("/operator/accounts", headers=operator, json={"name": name, **more})
    assert response.status_code == 201, response.text
    return response.json()


async def token_of(world: Any, account: str, key: str) -> str | None:
    response = await world.http.get(f"/Accounts/{account}/token", headers={"Authorization": f"Bearer {account}:{key}"})
    if response.status_code == 401:
        assert response.content == b""
        return None
    token: str = response.json()["AccessToken"]
    return token


async def sessions_status(world: Any, account: str, token: str) -> int:
    response = await world.http.get(
        f"/accounts/{account}/sessions?api-version=2021-01-01", headers={"Authorization": f"Bearer {token}"}
    )
    status: int = response.status_code
    return status


# Operators' interface --------------------------------------------------------------------------------------------


async def test_an_account_has_two_keys_that_are_told_once(world: Any, operator: dict[str, str]) -> None:
    made = await create_account(world, operator)
    assert [key["serial"] for key in made["keys"]] == [1, 2]
    for key in made["keys"]:
        assert await token_of(world, made["accountId"], key["key"])
    shown = await world.http.get(f"/operator/accounts/{made['accountId']}", headers=operator)
    assert shown.json()["name"] == "acme"
    assert all("key" not in key for key in shown.json()["keys"])
    hashes = await world.store.accounts.key_hashes(made["accountId"])
    assert len(hashes) == 2
    for kept in hashes:
        assert not any(key["key"].encode() in kept for key in made["keys"])


async def test_one_key_changes_without_an_outage_of_the_other(world: Any, operator: dict[str, str]) -> None:
    made = await create_account(world, operator)
    account, (first, second) = made["accountId"], (key["key"] for key in made["keys"])
    by_first, by_second = await token_of(world, account, first), await token_of(world, account, second)
    assert by_first and by_second
    response = await world.http.post(f"/operator/accounts/{account}/keys/1/regenerate", headers=operator)
    assert (response.json()["serial"], response.json()["generation"]) == (1, 2)
    assert await sessions_status(world, account, by_first) == 401
    assert await sessions_status(world, account, by_second) == 200
    assert await token_of(world, account, first) is None
    assert await token_of(world, account, second)
    fresh = await token_of(world, account, response.json()["key"])
    assert fresh and await sessions_status(world, account, fresh) == 200


async def test_what_came_from_a_key_ends_with_it(world: Any, operator: dict[str, str]) -> None:
    made = await create_account(world, operator)
    account, key = made["accountId"], made["keys"][0]["key"]
    token = await token_of(world, account, key)
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/accounts/{account}/sessions/s"
    version = "?api-version=2021-01-01"
    await world.http.put(path + version, headers=headers, json={"maxLeaseTimeMinutes": 5, "size": "Standard"})
    session_token = (await world.http.post(f"{path}/token", headers=headers)).json()["accessToken"]
    inspector = (await world.http.post(f"{path}/inspector-link", headers=headers)).json()["url"].partition("#token=")[2]
    links = [
        (await world.http.post(f"/accounts/{account}/viewer-links", headers=headers)).json()["url"].partition("=")[2]
        for _ in range(2)
    ]
    early = (await world.http.post("/viewer-links/redeem", json={"code": links[0]})).json()["accessToken"]
    for good in (session_token, inspector, early):
        response = await world.http.get(path + version, headers={"Authorization": f"Bearer {good}"})
        assert response.status_code == 200
    await world.http.post(f"/operator/accounts/{account}/keys/1/regenerate", headers=operator)
    late = (await world.http.post("/viewer-links/redeem", json={"code": links[1]})).json()["accessToken"]
    for void in (session_token, inspector, early, late):
        response = await world.http.get(path + version, headers={"Authorization": f"Bearer {void}"})
        assert response.status_code == 401


async def test_deleting_an_account_ends_what_it_has(world: Any, operator: dict[str, str]) -> None:
    made = await create_account(world, operator)
    account, key = made["accountId"], made["keys"][0]["key"]
    token = await token_of(world, account, key)
    headers = {"Authorization": f"Bearer {token}"}
    await world.http.put(
        f"/accounts/{account}/sessions/s?api-version=2021-01-01",
        headers=headers,
        json={"maxLeaseTimeMinutes": 5, "size": "Standard"},
    )
    await world.http.put(f"/accounts/{account}/uploads/u/a.glb", headers=headers, content=b"x")
    assert (await world.http.delete(f"/operator/accounts/{account}", headers=operator)).status_code == 204
    assert token and await sessions_status(world, account, token) == 401
    assert await token_of(world, account, key) is None
    row = await world.store.sessions.get(account, "s")
    assert row.status == "Stopped"

    async def uploads_gone() -> bool:
        return (account, "u") not in await world.store.uploads.all_ids()

    await world.until(uploads_gone)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/keys/1/regenerate"), ("POST", "/revoke-tokens")):
        response = await world.http.request(method, f"/operator/accounts/{account}{path}", headers=operator)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "AccountNotFound")
    again = await world.http.post("/operator/accounts", headers=operator, json={"name": "heir", "accountId": account})
    assert again.status_code == 409, "an id is never given again: old tokens must not open a new account"


async def test_no_session_is_made_in_an_account_that_has_been_deleted_meanwhile(
    world: Any, operator: dict[str, str]
) -> None:
    account = (await create_account(world, operator))["accountId"]
    await world.store.accounts.mark_deleted(account, world.clock.now())
    settings = SessionSettings(size=SessionSize.STANDARD, lease_minutes=5)
    with pytest.raises(Unauthorized):  # the token was looked at before
        await world.service.sessions.create(account, "late", settings)
    assert await world.store.sessions.get(account, "late") is None
    assert world.fleet.assigned == []


async def test_sessions_that_a_deletion_left_are_ended(world: Any, operator: dict[str, str]) -> None:
    """A service can die between the deletion of an account and the end of its sessions."""
    account = (await create_account(world, operator))["accountId"]
    settings = SessionSettings(size=SessionSize.STANDARD, lease_minutes=5)
    await world.service.sessions.create(account, "left", settings)
    await world.store.accounts.mark_deleted(account, world.clock.now())
    world.clock.advance(seconds=11)

    async def stopped() -> bool:
        return (await world.store.sessions.get(account, "left")).status == "Stopped"

    await world.until(stopped)
    records = [row async for batch in world.store.usage.records(account, 0, 2**62) for row in batch]
    assert [row.ended_at - row.started_at for row in records] == [11_000_000]


async def test_all_tokens_can_be_revoked_at_once(world: Any, operator: dict[str, str]) -> None:
    made = await create_account(world, operator)
    account = made["accountId"]
    token = await token_of(world, account, made["keys"][0]["key"])
    foreign = world.service.issuer.issue(account, Role.CLIENT, origin=Origin(actor="oidc:idp:eve"))[0]
    assert token
    assert [await sessions_status(world, account, one) for one in (token, foreign)] == [200, 200]
    world.clock.advance(seconds=1)
    response = await world.http.post(f"/operator/accounts/{account}/revoke-tokens", headers=operator)
    assert response.status_code == 204
    assert [await sessions_status(world, account, one) for one in (token, foreign)] == [401, 401]
    world.clock.advance(seconds=1)
    fresh = await token_of(world, account, made["keys"][0]["key"])
    assert fresh and await sessions_status(world, account, fresh) == 200


async def test_accounts_page_by_page(world: Any, operator: dict[str, str]) -> None:
    made = {(await create_account(world, operator, f"n{index}"))["accountId"] for index in range(55)}
    seen: list[str] = []
    url = "/operator/accounts"
    pages = 0
    while url:
        body = (await world.http.get(url, headers=operator)).json()
        seen += [account["accountId"] for account in body["accounts"]]
        url = body.get("@nextLink")
        pages += 1
    assert pages == 2
    assert len(seen) == len(set(seen)) == 56
    assert made < set(seen)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"name":""}',
        b'{"name":"a\\nb"}',
        b'{"name":"default"}',
        b'{"name":1}',
        b'{"name":"a","x":1}',
        b'{"name":"a","accountId":"../x"}',
        b'{"name":"' + b"a" * 300 + b'"}',
    ],
)
async def test_bad_accounts(world: Any, operator: dict[str, str], body: bytes) -> None:
    response = await world.http.post("/operator/accounts", headers=operator, content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "BadRequest")


@pytest.mark.parametrize("serial", ["0", "3", "x", "01", "1%0a", "-1"])
async def test_bad_serials(world: Any, operator: dict[str, str], serial: str) -> None:
    response = await world.http.post(f"/operator/accounts/{world.account}/keys/{serial}/regenerate", headers=operator)
    assert response.status_code == 400
    assert await token_of(world, world.account, world.key)


OPERATOR_ROUTES = [
    ("GET", "/operator/accounts"),
    ("POST", "/operator/accounts"),
    ("GET", "/operator/accounts/x"),
    ("DELETE", "/operator/accounts/x"),
    ("POST", "/operator/accounts/x/keys/1/regenerate"),
    ("POST", "/operator/accounts/x/revoke-tokens"),
    ("GET", "/operator/audit"),
    ("GET", "/operator/usage"),
    ("GET", "/operator/prices"),
    ("POST", "/operator/prices"),
]


@pytest.mark.parametrize(("method", "path"), OPERATOR_ROUTES)
async def test_only_operators_operate(world: Any, operator: dict[str, str], method: str, path: str) -> None:
    strangers = [
        {},
        world.bearer(),
        {"Authorization": f"Bearer {world.account}:{world.key}"},
        {"Authorization": f"Bearer {new_operator_token()}"},
        {"Authorization": "Bearer ffo_"},
        {"Authorization": operator["Authorization"] + "x"},
        {"Authorization": operator["Authorization"].replace("Bearer", "Basic")},
    ]
    for headers in strangers:
        response = await world.http.request(method, path.replace("x", world.account), headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "Unauthorized")
    assert await world.store.accounts.get(world.account)


async def test_an_operator_s_token_opens_no_account(world: Any, operator: dict[str, str]) -> None:
    assert (await world.call("GET", headers=operator)).status_code == 401
    assert (await world.http.get(f"/accounts/{world.account}/token", headers=operator)).status_code == 401


# Forged, foreign and worn-out tokens ------------------------------------------------------------------------------


def forge(claims: dict[str, Any], key: Any, algorithm: str, **header: Any) -> str:
    return jwt.encode({"alg": algorithm, "typ": "JWT", **header}, claims, key, algorithms=[algorithm])


def unsigned(claims: dict[str, Any], algorithm: str = "none") -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."


def signed_by_hand(claims: dict[str, Any], secret: bytes) -> str:
    """HS256 with a public key as the secret, which libraries refuse to make."""
    text = unsigned(claims, "HS256")[:-1]
    digest = hmac.new(secret, text.encode(), "sha256").digest()
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


async def test_forged_tokens_open_nothing(world: Any, signing_key: SigningKey) -> None:
    now = int(world.clock.now() / 1_000_000)
    good = {
        "iss": "farframe", "aud": "farframe", "sub": world.account, "role": "Administrator",
        "exp": now + 600, "nbf": now - 60, "iat": now, "jti": "x",
    }  # fmt: skip
    ours = RSAKey.import_key(signing_key.private_pem)
    kid = signing_key.key_id
    assert await sessions_status(world, world.account, forge(good, ours, "RS256", kid=kid)) == 200
    stranger = new_signing_key()
    wrong = RSAKey.import_key(stranger.private_pem)
    public = json.loads(export_jwks([signing_key]))["keys"][0]
    pem = RSAKey.import_key(signing_key.private_pem).as_pem(private=False)
    forged = {
        "wrong key": forge(good, wrong, "RS256", kid=kid),
        "wrong key, own kid": forge(good, wrong, "RS256", kid=stranger.key_id),
        "alg none": unsigned(good),
        "alg None": unsigned(good, "None"),
        "HS256 with the public key": signed_by_hand(good, pem),
        "HS256 with the modulus": forge(good, OctKey.import_key(public["n"].encode()), "HS256", kid=kid),
        "RS512": forge(good, ours, "RS512", kid=kid),
        "expired": forge({**good, "exp": now - 1}, ours, "RS256", kid=kid),
        "not yet": forge({**good, "nbf": now + 100}, ours, "RS256", kid=kid),
        "another issuer": forge({**good, "iss": "evil"}, ours, "RS256", kid=kid),
        "another audience": forge({**good, "aud": ["farframe"]}, ours, "RS256", kid=kid),
        "unknown role": forge({**good, "role": "Root"}, ours, "RS256", kid=kid),
        "bent key": forge({**good, "key": "1", "gen": 1}, ours, "RS256", kid=kid),
        "key without generation": forge({**good, "key": 1}, ours, "RS256", kid=kid),
        "generation to come": forge({**good, "key": 1, "gen": 2}, ours, "RS256", kid=kid),
        "a key that is not there": forge({**good, "key": 2, "gen": 1}, ours, "RS256", kid=kid),
        "no iat": forge({k: v for k, v in good.items() if k != "iat"}, ours, "RS256", kid=kid),
        "embedded key": forge(good, wrong, "RS256", jwk=wrong.as_dict(private=False)),
    }
    token = forge(good, ours, "RS256", kid=kid)
    head, body, signature = token.split(".")
    forged["another body"] = f"{head}.{unsigned({**good, 'role': 'Client'}).split('.')[1]}.{signature}"
    forged["no signature"] = f"{head}.{body}."
    for why, text in forged.items():
        assert await sessions_status(world, world.account, text) == 401, why


async def test_another_account_s_things_stay_hidden(world: Any, operator: dict[str, str]) -> None:
    await world.create()
    made = await create_account(world, operator)
    token = await token_of(world, made["accountId"], made["keys"][0]["key"])
    headers = {"Authorization": f"Bearer {token}"}
    attempts = [
        ("GET", "/sessions/s", "api-version=2021-01-01"),
        ("GET", "/sessions", "api-version=2021-01-01"),
        ("PUT", "/sessions/s", "api-version=2021-01-01"),
        ("PATCH", "/sessions/s", "api-version=2021-01-01"),
        ("POST", "/sessions/s/:stop", "api-version=2021-01-01"),
        ("PUT", "/conversions/c", "api-version=2021-01-01"),
        ("GET", "/conversions/c", "api-version=2021-01-01"),
        ("GET", "/conversions", "api-version=2021-01-01"),
        ("POST", "/sessions/s/whep", ""),
        ("DELETE", "/sessions/s/whep/r", ""),
        ("DELETE", "/sessions/s/whep", ""),
        ("POST", "/sessions/s/inspector-link", ""),
        ("POST", "/sessions/s/token", ""),
        ("POST", "/viewer-links", ""),
        ("PUT", "/uploads/u/a", ""),
        ("GET", "/uploads", ""),
        ("DELETE", "/uploads/u", ""),
        ("GET", "/usage", ""),
    ]
    for method, path, query in attempts:
        response = await world.http.request(method, f"/accounts/{world.account}{path}?{query}", headers=headers)
        assert response.status_code == 403, (method, path)
    assert (await world.show())["status"] == "Ready"
    # In one's own account the same ids are simply not there.
    response = await world.http.get(f"/accounts/{made['accountId']}/sessions/s?api-version=2021-01-01", headers=headers)
    assert response.status_code == 404


# Roles ------------------------------------------------------------------------------------------------------------

ROUTES = [
    (Permission.CONVERT, "PUT", "conversions/c", CONVERSION),
    (Permission.READ_CONVERSIONS, "GET", "conversions/c", None),
    (Permission.READ_CONVERSIONS, "GET", "conversions", None),
    (Permission.MANAGE_SESSIONS, "PUT", "sessions/new", {"maxLeaseTimeMinutes": 5, "size": "Standard"}),
    (Permission.MANAGE_SESSIONS, "PATCH", "sessions/s", {"maxLeaseTimeMinutes": 60}),
    (Permission.READ_SESSIONS, "GET", "sessions/s", None),
    (Permission.READ_SESSIONS, "GET", "sessions", None),
    (Permission.WATCH, "DELETE", "sessions/s/whep/r", None),
    (Permission.WATCH, "POST", "sessions/s/whep", None),
    (Permission.RENDER, "DELETE", "sessions/s/whep", None),
    (Permission.WATCH, "GET", "sessions/s/ice", None),
    (Permission.WATCH, "GET", "sessions/s/stream", None),
    (Permission.DIAGNOSE, "POST", "sessions/s/inspector-link", None),
    (Permission.SHARE, "POST", "sessions/s/token", None),
    (Permission.UPLOAD, "PUT", "uploads/u/a", None),
    (Permission.UPLOAD, "GET", "uploads", None),
    (Permission.UPLOAD, "DELETE", "uploads/u", None),
    (Permission.MANAGE_ACCOUNT, "POST", "viewer-links", None),
    (Permission.MANAGE_ACCOUNT, "GET", "usage", None),
    (Permission.STOP_SESSIONS, "POST", "sessions/s/:stop", None),
]


@pytest.mark.parametrize("role", Role)
async def test_a_role_may_do_what_the_table_says(world: Any, role: Role) -> None:
    await world.create()
    for permission, method, path, body in ROUTES:
        response = await world.http.request(
            method,
            f"/accounts/{world.account}/{path}?api-version=2021-01-01",
            headers=world.bearer(role=role),
            json=body,
        )
        # What is wrong with the storage is told only to who may convert.
        denied = response.status_code == 403 and "DelegatedResourceAccessError" not in response.text
        assert denied != (permission in PERMISSIONS[role]), (role, path, response.text)
        assert response.status_code != 401


def test_the_roles_of_the_hosted_service_are_as_they_were() -> None:
    theirs = set(list(Permission)[:7])
    assert PERMISSIONS[Role.ADMINISTRATOR] >= theirs
    assert theirs - PERMISSIONS[Role.CLIENT] == {Permission.CONVERT, Permission.READ_CONVERSIONS}
    assert not PERMISSIONS[Role.VIEWER] & {Permission.RENDER, Permission.MANAGE_SESSIONS, Permission.STOP_SESSIONS}


# Session tokens ---------------------------------------------------------------------------------------------------


async def session_token(world: Any, body: Any = None, headers: Any = None, name: str = "s") -> Any:
    return await world.http.post(
        f"/accounts/{world.account}/sessions/{name}/token", headers=headers or world.headers, json=body
    )


async def test_a_session_token_opens_one_session_only(world: Any) -> None:
    await world.create()
    await world.create("other")
    made = await session_token(world, {"minutes": 5})
    assert made.status_code == 201
    body = made.json()
    assert set(body) == {"accessToken", "accountId", "sessionId", "role", "expiresAt", "endpoint"}
    assert (body["role"], body["sessionId"]) == ("Client", "s")
    headers = {"Authorization": f"Bearer {body['accessToken']}"}
    assert (await world.call("GET", "/s", headers=headers)).status_code == 200
    for method, path in (("GET", "/other"), ("GET", ""), ("PUT", "/third"), ("POST", "/other/:stop")):
        assert (await world.call(method, path, headers=headers)).status_code == 403
    assert (await session_token(world, None, headers, "other")).status_code == 403
    world.clock.advance(minutes=5)
    assert (await world.call("GET", "/s", headers=headers)).status_code == 401


async def test_a_session_token_gives_no_more_than_its_maker_has(world: Any) -> None:
    await world.create()
    assert (await session_token(world, {"role": "Administrator"})).status_code == 400
    viewer = world.bearer(role=Role.VIEWER)
    assert (await session_token(world, {"role": "Client"}, viewer)).status_code == 403
    assert (await session_token(world, None, viewer)).json()["role"] == "Viewer"
    short = (await session_token(world, {"minutes": 1})).json()
    again = (await session_token(world, {"minutes": 60}, {"Authorization": f"Bearer {short['accessToken']}"})).json()
    assert again["expiresAt"] <= short["expiresAt"], "tokens cannot prolong each other"


@pytest.mark.parametrize("body", [{"minutes": 0}, {"minutes": 1441}, {"minutes": "x"}, {"role": "Root"}, []])
async def test_bad_session_tokens(world: Any, body: Any) -> None:
    await world.create()
    assert (await session_token(world, body)).status_code == 400


async def test_no_token_for_a_session_that_is_not(world: Any) -> None:
    assert (await session_token(world)).status_code == 404
    await world.create()
    await world.call("POST", "/s/:stop")
    assert (await session_token(world)).status_code == 409


# Render servers ---------------------------------------------------------------------------------------------------


async def test_render_servers_hear_of_changed_keys_at_once(world: Any, operator: dict[str, str]) -> None:
    await world.create()
    assignment = world.fleet.assigned[0]
    assert assignment.token_rules.key_generations == {1: 1}
    assert json.loads(assignment.token_rules.token_keys)["keys"]
    await world.http.post(f"/operator/accounts/{world.account}/keys/1/regenerate", headers=operator)
    assert world.fleet.token_rules[world.account].key_generations == {1: 2}


async def test_render_servers_hear_of_what_another_service_changed(world: Any) -> None:
    await world.create()
    await world.store.accounts.set_key(world.account, 1, b"x" * 48, world.clock.now())
    world.clock.advance(seconds=3)

    async def told() -> bool:
        rules = world.fleet.token_rules.get(world.account)
        return rules is not None and rules.key_generations == {1: 2}

    await world.until(told)


async def test_another_service_s_change_is_seen_within_seconds(world: Any) -> None:
    token = await token_of(world, world.account, world.key)
    assert token and await sessions_status(world, world.account, token) == 200
    await world.store.accounts.set_key(world.account, 1, b"x" * 48, world.clock.now())
    world.clock.advance(seconds=3)
    assert await sessions_status(world, world.account, token) == 401


# Signing keys -----------------------------------------------------------------------------------------------------


async def jwks(world: Any) -> list[str]:
    response = await world.http.get("/.well-known/jwks.json")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=300"
    for key in response.json()["keys"]:
        assert set(key) == {"kty", "kid", "use", "alg", "n", "e"}, "public halves only"
    return [key["kid"] for key in response.json()["keys"]]


async def test_signing_keys_take_turns(make_world: Any, signing_key: SigningKey) -> None:
    async with make_world(signing_key_days=1.0) as world:
        from farframe.store.accounts import SigningKeyRow

        row = SigningKeyRow(signing_key.key_id, signing_key.private_pem)
        await world.store.signing_keys.add(row, world.clock.now())
        tend = world.service.keyring.tend
        await tend(world.clock.now())
        old = world.token()
        assert await jwks(world) == [signing_key.key_id]

        world.clock.advance(minutes=24 * 60)
        await tend(world.clock.now())
        published = await jwks(world)
        assert len(published) == 2, "the next key is known before it is used"
        before = world.token()
        world.clock.advance(seconds=KEY_LEAD_SECONDS + 1)
        await tend(world.clock.now())
        after = world.token()

        def kid(token: str) -> str:
            head = token.split(".")[0]
            name: str = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
            return name

        assert kid(old) == kid(before) == signing_key.key_id != kid(after)
        for token in (before, after):
            assert await sessions_status(world, world.account, token) == 200
        world.clock.advance(minutes=24 * 60 - KEY_LEAD_SECONDS / 60 - 2)
        assert await sessions_status(world, world.account, before) == 200, "it verifies until its tokens have expired"
        world.clock.advance(minutes=20)
        await tend(world.clock.now())
        assert signing_key.key_id not in await jwks(world)


async def test_a_start_signs_with_the_right_key(tmp_path: Path, world: Any) -> None:
    first = await ensure_signing_keys(world.store, world.clock)
    assert await ensure_signing_keys(world.store, world.clock) == first
    await world.service.keyring.tend(world.clock.now() + 40 * 24 * 3600 * 1_000_000)
    assert len(await world.store.signing_keys.active()) >= 1


# The folder's own files --------------------------------------------------------------------------------------------


async def test_a_start_never_takes_over_an_operator_s_account(tmp_path: Path, world: Any) -> None:
    account, _ = await ensure_account(world.store, tmp_path, world.clock)
    await world.store.accounts.create(str(uuid.UUID(int=5)), "acme", 2)
    await world.store.accounts.set_key(str(uuid.UUID(int=5)), 1, b"k" * 48, 2)
    await world.store.accounts.mark_deleted(account, 3)
    fresh, _ = await ensure_account(world.store, tmp_path, world.clock)
    assert fresh not in (account, str(uuid.UUID(int=5)))
    assert await world.store.accounts.key_hashes(str(uuid.UUID(int=5))) == [b"k" * 48]


async def test_a_lost_operator_s_token_is_replaced(tmp_path: Path, world: Any) -> None:
    from farframe.service.identity import OperatorFile, write_operator_file

    token = await ensure_operator_token(world.store, tmp_path, world.clock)
    write_operator_file(tmp_path, OperatorFile(endpoint="e", operator_token=token, ca_bundle="c"))
    assert (tmp_path / "operator.json").stat().st_mode & 0o777 == 0o600
    assert await ensure_operator_token(world.store, tmp_path, world.clock) == token
    (tmp_path / "operator.json").unlink()
    fresh = await ensure_operator_token(world.store, tmp_path, world.clock)
    assert fresh != token
    lost = await world.http.get("/operator/accounts", headers={"Authorization": f"Bearer {token}"})
    assert lost.status_code == 401
    found = await world.http.get("/operator/accounts", headers={"Authorization": f"Bearer {fresh}"})
    assert found.status_code == 200
