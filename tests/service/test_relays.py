"""Credentials for TURN servers: who gets them, what they are, how long they are good."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest

from farframe.auth.tokens import Role
from farframe.service.config import ConfigError, load_config
from farframe.service.relays import TurnCredentials, is_turn_server

SECRET = "the secret that is shared"
SERVERS = ("turn:turn.test:3478?transport=udp", "turns:turn.test:5349?transport=tcp")


def ice(world: Any, session: str = "s") -> str:
    return f"/accounts/{world.account}/sessions/{session}/ice"


async def test_who_may_open_a_session_gets_credentials_that_run_out(make_world: Any) -> None:
    async with make_world(turn_servers=SERVERS, turn_secret=SECRET, turn_minutes=10) as world:
        await world.create()
        answer = await world.http.get(ice(world), headers=world.bearer(role=Role.VIEWER, session="s"))
        assert answer.status_code == 200
        assert "no-store" in answer.headers["cache-control"]
        (server,) = answer.json()["iceServers"]
        assert server["urls"] == list(SERVERS)
        expires, _, name = server["username"].partition(":")
        assert int(expires) == world.clock.now() // 1_000_000 + 600
        assert name and name != "s" and world.account not in name
        digest = hmac.new(SECRET.encode(), server["username"].encode(), hashlib.sha1).digest()
        assert base64.b64decode(server["credential"]) == digest
        assert answer.json()["expiresAt"]
        assert SECRET not in answer.text


async def test_nobody_else_gets_any(make_world: Any) -> None:
    async with make_world(turn_servers=SERVERS, turn_secret=SECRET) as world:
        await world.create()
        assert (await world.http.get(ice(world))).status_code == 401
        other = world.bearer(role=Role.CLIENT, session="other")
        assert (await world.http.get(ice(world), headers=other)).status_code == 403
        stranger = world.bearer(account="00000000-0000-4000-8000-000000000001")
        assert (await world.http.get(ice(world), headers=stranger)).status_code == 403
        missing = await world.http.get(ice(world, "missing"), headers=world.headers)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "SessionNotFound")
        await world.call("POST", "/s/:stop")
        ended = await world.http.get(ice(world), headers=world.headers)
        assert (ended.status_code, ended.json()["error"]["code"]) == (409, "SessionNotReady")


async def test_without_servers_there_are_none(world: Any) -> None:
    await world.create()
    answer = await world.http.get(ice(world), headers=world.headers)
    assert answer.json() == {"iceServers": []}


def test_credentials_never_outlive_the_token() -> None:
    made = TurnCredentials(SERVERS, SECRET, 60)
    servers, expires = made.issue("a", "s", 1000, 90)
    assert expires == 1090
    assert servers[0].username.startswith("1090:")
    assert made.issue("a", "s", 1000, 999_999)[1] == 4600
    assert SECRET not in repr(made)


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("turn:turn.test", True),
        ("turn:turn.test:3478", True),
        ("turns:192.0.2.1:5349?transport=tcp", True),
        ("turn:[2001:db8::1]:3478?transport=udp", True),
        ("stun:turn.test", False),
        ("turn:turn.test?transport=sctp", False),
        ("turn:user@turn.test", False),
        ("turn://turn.test", False),
        ("https://turn.test", False),
    ],
)
def test_what_a_turn_server_looks_like(uri: str, good: bool) -> None:
    assert is_turn_server(uri) is good


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"FARFRAME_TURN_SERVERS": "turn:a"}, "turn_secret"),
        ({"FARFRAME_TURN_SECRET": "x"}, "turn_secret"),
        ({"FARFRAME_TURN_SERVERS": "http://a", "FARFRAME_TURN_SECRET": "x"}, "turn_servers"),
        ({"FARFRAME_TURN_MINUTES": "0"}, "turn_minutes"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config(settings)
