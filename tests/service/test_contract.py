"""What every answer carries and which bodies never get out: the contract's tables, line by line."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import msgspec
import pytest

from farframe.auth.tokens import Role
from farframe.service.frontier import new_correlation_vector

VECTOR = re.compile(r"[A-Za-z0-9+/]{22}\.0")
SUPPORTED = "2021-01-01-preview, 2021-01-01"
JSON = "application/json; charset=utf-8"


def check_common(response: Any, *, data_plane: bool) -> None:
    assert VECTOR.fullmatch(response.headers["ms-cv"])
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers.get("api-supported-versions") == (SUPPORTED if data_plane else None)
    if response.content:
        assert response.headers["content-type"] == JSON
        assert int(response.headers["content-length"]) == len(response.content)
    else:
        assert "content-type" not in response.headers
    for never in ("retry-after", "server", "etag", "x-ms-request-id", "access-control-allow-origin"):
        assert never not in response.headers


def cached(response: Any) -> bool:
    stored = (response.headers.get("cache-control"), response.headers.get("pragma"))
    assert stored in (("no-store,no-cache", "no-cache"), (None, None))
    return stored == (None, None)


async def test_headers_of_the_data_plane(world: Any) -> None:
    created = await world.create()
    got = await world.call("GET", "/s")
    listed = await world.call("GET")
    updated = await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": 20})
    stopped = await world.call("POST", "/s/:stop")
    for response in (created, got, listed, updated, stopped):
        check_common(response, data_plane=True)
        assert "location" not in response.headers
        assert "www-authenticate" not in response.headers
    assert [cached(response) for response in (created, got, listed, updated, stopped)] == [
        True,
        False,
        False,
        True,
        True,
    ]
    assert len({response.headers["ms-cv"] for response in (created, got, listed, updated, stopped)}) == 5


async def test_headers_of_errors(world: Any) -> None:
    await world.create()
    responses = {
        400: await world.create("bad", -1),
        401: await world.call("GET", "/s", headers={}),
        403: await world.call("GET", "/s", headers=world.bearer(account="00000000-0000-4000-8000-000000000000")),
        404: await world.call("GET", "/nobody"),
        409: await world.create("s", 11),
        422: await world.call("PATCH", "/s", json={"maxLeaseTimeMinutes": 1}),
    }
    for status, response in responses.items():
        assert response.status_code == status
        check_common(response, data_plane=True)
        assert cached(response)
        assert (response.headers.get("www-authenticate") == 'Bearer error="invalid_token"') == (status == 401)
        assert bool(response.content) == (status in (400, 409, 422))


async def test_token(world: Any) -> None:
    for path in (f"/Accounts/{world.account}/token", f"/accounts/{world.account.upper()}/TOKEN"):
        response = await world.http.get(
            path + "?api-version=2019-02-28-preview",
            headers={"Authorization": f"Bearer {world.account}:{world.key}", "X-MRC-CV": "x"},
        )
        assert response.status_code == 200
        check_common(response, data_plane=False)
        assert not cached(response)
        assert list(response.json()) == ["AccessToken"]
        token = response.json()["AccessToken"]
        assert world.service.access is not None
        got = await world.call("GET", headers={"Authorization": f"Bearer {token}"})
        assert got.status_code == 200


async def test_token_refusals_all_look_the_same(world: Any) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    attempts = [
        (world.account, None),
        (world.account, "Bearer"),
        (world.account, f"Bearer {world.account}:wrong"),
        (world.account, f"Bearer {world.account}:"),
        (world.account, f"Bearer {world.account}"),
        (world.account, f"Bearer :{world.key}"),
        (world.account, f"Basic {world.account}:{world.key}"),
        (world.account, f"Bearer {other}:{world.key}"),
        (other, f"Bearer {other}:{world.key}"),
        (other, f"Bearer {world.account}:{world.key}"),
        ("nonsense", f"Bearer nonsense:{world.key}"),
        (world.account, f"Bearer {world.token()}"),
    ]
    for account, credential in attempts:
        headers = {"Authorization": credential} if credential else {}
        response = await world.http.get(f"/Accounts/{account}/token", headers=headers)
        assert response.status_code == 401, credential
        check_common(response, data_plane=False)
        assert response.headers["content-length"] == "0"
        assert "www-authenticate" not in response.headers


async def test_both_keys_are_good(world: Any) -> None:
    from farframe.auth.secrets import hash_account_key

    await world.store.accounts.set_key(world.account, 2, hash_account_key("second"), 1)
    for key in (world.key, "second"):
        response = await world.http.get(
            f"/accounts/{world.account}/token", headers={"Authorization": f"Bearer {world.account}:{key}"}
        )
        assert response.status_code == 200


async def test_data_plane_refusals(world: Any) -> None:
    token = world.token()
    for credential in (
        "Bearer",
        "Bearer x",
        f"Basic {token}",
        f"Bearer {token}x",
        f"Bearer {world.account}:{world.key}",
    ):
        response = await world.call("PUT", "/a b", headers={"Authorization": credential}, content=b"{")
        assert response.status_code == 401
        assert response.content == b""
    double = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert (await world.call("GET", headers=double)).status_code == 401


async def test_expired_tokens(world: Any) -> None:
    headers = world.bearer()
    assert (await world.call("GET", headers=headers)).status_code == 200
    world.clock.advance(minutes=24 * 60)
    assert (await world.call("GET", headers=headers)).status_code == 401


async def test_the_client_role_may_run_sessions(world: Any) -> None:
    world.headers = world.bearer(role=Role.CLIENT)
    assert (await world.create()).status_code == 201
    assert (await world.call("GET")).status_code == 200
    assert (await world.call("POST", "/s/:stop")).status_code == 204


UNKNOWN = [
    ("GET", "/nothing/here", 404),
    ("GET", "/accounts", 404),
    ("GET", "/accounts/x/y", 404),
    ("GET", "/accounts//token", 404),
    ("DELETE", "/accounts/x/sessions/y", 405),
    ("POST", "/accounts/x/token", 405),
    ("POST", "/", 405),
    ("TRACE", "/", 405),
    ("PUT", "/openapi.json", 405),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), UNKNOWN)
async def test_what_does_not_exist(world: Any, method: str, path: str, status: int) -> None:
    response = await world.http.request(method, f"{world.http_url}{path}", headers=world.headers)
    assert response.status_code == status, response.text
    check_common(response, data_plane="sessions" in path)
    error = response.json()["error"]
    assert error["code"] == {404: "NotFound", 405: "MethodNotAllowed"}[status]
    assert "litestar" not in response.text.lower()
    if status == 405:
        assert all(allowed in error["message"] for allowed in response.headers["allow"].split(", "))
        assert not error["message"].endswith(" is.")


async def test_a_bug_is_an_internal_server_error_without_details(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_arguments: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(world.service.sessions, "get", broken)
    response = await world.call("GET", "/s")
    assert response.status_code == 500
    check_common(response, data_plane=True)
    assert response.json() == {
        "error": {"code": "InternalServerError", "message": "An internal server error occurred."}
    }


async def raw(world: Any, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.http_url.rsplit(":", 1)[1]))
    try:
        writer.write(data)
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http(world: Any, data: bytes) -> None:
    answer = await raw(world, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0].startswith("http/1.1 40")
    assert f"content-type: {JSON}" in lines
    assert any(VECTOR.fullmatch(line.removeprefix("ms-cv: ")) or line.startswith("ms-cv: ") for line in lines)
    assert "x-content-type-options: nosniff" in lines
    assert set(msgspec.json.decode(body)["error"]) == {"code", "message"}


async def test_endless_headers(world: Any) -> None:
    # What still lies in the pipe when the service hangs up can make the system drop the answer.
    with contextlib.suppress(ConnectionResetError):
        answer = await raw(world, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300_000)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"headers are too large" in answer
    assert (await world.call("GET")).status_code == 200


async def test_a_websocket_is_just_a_request(world: Any) -> None:
    answer = await raw(
        world,
        b"GET /nothing HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_strangers_get_no_cross_origin_headers(world: Any) -> None:
    response = await world.call("GET", headers={**world.headers, "Origin": "https://evil.example"})
    check_common(response, data_plane=True)


async def test_configured_origins(make_world: Any) -> None:
    async with make_world(cors_origins=("https://app.example",)) as world:
        origin = {"Origin": "https://app.example"}
        preflight = await world.http.request(
            "OPTIONS", world.path("/s"), headers={**origin, "Access-Control-Request-Method": "PUT"}
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        # A page that comes back after a loss says so in a header of its own.
        assert "Farframe-Resume" in preflight.headers["access-control-allow-headers"]
        response = await world.call("GET", headers={**world.headers, **origin})
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        assert "MS-CV" in response.headers["access-control-expose-headers"]
        refused = await world.call("GET", headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        other = await world.call("GET", headers={**world.headers, "Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_the_description_covers_every_route(world: Any) -> None:
    document = (await world.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path in (
        "/Accounts/{accountId}/token",
        "/accounts/{account_id}/sessions",
        "/accounts/{account_id}/sessions/{session_id}",
        "/accounts/{account_id}/sessions/{session_id}/:stop",
        "/accounts/{account_id}/uploads/{upload_id}/{path}",
        "/viewer-links/redeem",
    ):
        assert path in document["paths"]
    text = msgspec.json.encode(document).decode()
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in document["components"]["schemas"]


def test_correlation_vectors() -> None:
    vectors = {new_correlation_vector() for _ in range(200)}
    assert len(vectors) == 200
    assert all(VECTOR.fullmatch(vector) for vector in vectors)
