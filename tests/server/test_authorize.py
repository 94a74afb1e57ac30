"""Who may connect to a render server: tokens that are checked without asking anybody."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from farframe.auth.roles import Permission
from farframe.auth.tokens import Origin, Role, TokenIssuer, export_jwks, new_signing_key
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import (
    Assign,
    NewTokenRules,
    ServerConfig,
    TokenRules,
    decode_to_server,
    encode_line,
)
from farframe.server.process import RenderServer

ACCOUNT = str(uuid.UUID(int=3))
KEY, NEXT_KEY = new_signing_key(), new_signing_key()
RULES = TokenRules(token_keys=export_jwks([KEY]), key_generations={1: 4, 2: 1})


def token(
    role: Role = Role.CLIENT, *, account: str = ACCOUNT, session: str | None = None, generation: int = 4,
    key: object = KEY, now: float | None = None,
) -> str:  # fmt: skip
    issuer = TokenIssuer(key, "farframe", lambda: now or time.time())  # type: ignore[arg-type]
    return "Bearer " + issuer.issue(account, role, session_id=session, origin=Origin(1, generation))[0]


@pytest.fixture
def server() -> Iterator[RenderServer]:
    config = ServerConfig(
        server_id="s", link_path="", certificate_file="", key_file="", token_keys=export_jwks([KEY]),
        token_issuer="farframe",
    )  # fmt: skip
    with socket.socket(socket.AF_UNIX) as link:
        made = RenderServer(config, link)
        assign = Assign(
            session_key="k",
            session_id="mine",
            account_id=ACCOUNT,
            size="Standard",
            uploads_folder="",
            token_rules=RULES,
        )
        hear(made, assign)
        yield made


def hear(server: RenderServer, message: Assign | NewTokenRules) -> None:
    """What the link does with a line."""
    heard = decode_to_server(encode_line(message))
    assert isinstance(heard, Assign | NewTokenRules)
    server._use_token_rules(heard.token_rules)
    if isinstance(heard, Assign):
        server._assignment = heard


def refused(server: RenderServer, authorization: str) -> bool:
    try:
        server.authorize(authorization)
    except FarframeError as error:
        assert error.result is Result.AUTHENTICATION_FAILED
        return True
    return False


def test_tokens_that_open_the_session(server: RenderServer) -> None:
    for good in (token(), token(Role.ADMINISTRATOR), token(session="mine")):
        assert not refused(server, good)


def test_tokens_that_do_not(server: RenderServer) -> None:
    bad = {
        "another account's": token(account=str(uuid.UUID(int=4))),
        "another session's": token(session="other"),
        "another key's": token(key=NEXT_KEY),
        "a former key's": token(generation=3),
        "one of a key to come": token(generation=5),
        "an expired one": token(now=time.time() - 25 * 3600),
        "none": "",
        "nonsense": "Bearer x",
    }
    for why, authorization in bad.items():
        assert refused(server, authorization), why


def test_a_viewer_may_watch_and_nothing_else(server: RenderServer) -> None:
    held = token(Role.VIEWER)
    assert server.authorize(held, Permission.WATCH).role is Role.VIEWER
    with pytest.raises(FarframeError) as refusal:
        server.authorize(held)
    assert refusal.value.result is Result.WATCHING_ONLY
    with pytest.raises(FarframeError) as refusal:
        server.authorize(held, Permission.DIAGNOSE)
    assert refusal.value.result is Result.AUTHENTICATION_FAILED
    with pytest.raises(FarframeError) as refusal:
        server.authorize(token(Role.VIEWER, session="other"), Permission.WATCH)
    assert refusal.value.result is Result.AUTHENTICATION_FAILED


def test_a_revoked_token_opens_no_session_that_is_running(server: RenderServer) -> None:
    held = token(session="mine")
    assert not refused(server, held)
    hear(server, NewTokenRules(token_rules=TokenRules(token_keys=export_jwks([KEY]), key_generations={1: 5, 2: 1})))
    assert refused(server, held)
    assert not refused(server, token(generation=5))


def test_all_tokens_of_an_account_can_be_revoked(server: RenderServer) -> None:
    held = token(now=time.time() - 10)
    assert not refused(server, held)
    revoked_at = round((time.time() - 5) * 1_000_000)
    rules = TokenRules(
        token_keys=export_jwks([KEY]), key_generations=RULES.key_generations, tokens_not_before=revoked_at
    )
    hear(server, NewTokenRules(token_rules=rules))
    assert refused(server, held)
    assert not refused(server, token())


def test_signing_keys_change_while_a_server_runs(server: RenderServer) -> None:
    both = TokenRules(token_keys=export_jwks([NEXT_KEY, KEY]), key_generations=RULES.key_generations)
    hear(server, NewTokenRules(token_rules=both))
    assert not refused(server, token())
    assert not refused(server, token(key=NEXT_KEY))
    only = TokenRules(token_keys=export_jwks([NEXT_KEY]), key_generations=RULES.key_generations)
    hear(server, NewTokenRules(token_rules=only))
    assert refused(server, token())
