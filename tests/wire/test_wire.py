"""Shapes, ids, times and the rules for bodies, without any I/O."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.wire import errors
from farframe.wire.errors import BadRequest, ErrorDetail, UnprocessableEntity, WireError
from farframe.wire.extensions import AccessToken, RedeemedLink
from farframe.wire.ids import is_valid_id, new_account_id, normalize_account_id
from farframe.wire.sessions import Session, SessionList, SessionSize, SessionStatus, parse_create, parse_update
from farframe.wire.times import format_session_time, format_utc_time, whole_minutes

ALPHABET = string.ascii_letters + string.digits + "_-"


@given(st.text(ALPHABET, min_size=1, max_size=256))
def test_valid_ids(value: str) -> None:
    assert is_valid_id(value)


@given(st.text(max_size=300))
def test_an_id_is_valid_exactly_if_it_keeps_the_rules(value: str) -> None:
    assert is_valid_id(value) == (1 <= len(value) <= 256 and all(character in ALPHABET for character in value))


@pytest.mark.parametrize("value", ["", "a\n", "a" * 257, "ä", "a/b", "a b", "٣"])
def test_invalid_ids(value: str) -> None:
    assert not is_valid_id(value)


def test_account_ids_compare_without_case() -> None:
    account = new_account_id()
    assert normalize_account_id(account.upper()) == account
    for bad in ("", "x", account + "\n", account.replace("-", ""), "{" + account + "}"):
        assert normalize_account_id(bad) is None


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_times_survive_the_round_trip(microseconds: int) -> None:
    text = format_session_time(microseconds)
    assert text.endswith("+00:00")
    fraction = re.search(r"\.(\d+)", text)
    assert fraction is None or not fraction[1].endswith("0")
    moment = datetime.fromisoformat(text)
    assert round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) == microseconds
    assert datetime.fromisoformat(format_utc_time(microseconds)) == moment


def test_minutes_are_rounded_down() -> None:
    assert [whole_minutes(value) for value in (-1, 0, 59_999_999, 60_000_000, 119_999_999)] == [0, 0, 0, 1, 1]


def test_session_members_in_order_and_absent_without_a_value() -> None:
    session = Session(
        id="demo-1",
        creation_time="2024-05-01T08:00:00.1234567+00:00",
        elapsed_time_minutes=0,
        max_lease_time_minutes=15,
        size=SessionSize.STANDARD,
        status=SessionStatus.STARTING,
    )
    assert msgspec.json.encode(session).decode() == (
        '{"id":"demo-1","creationTime":"2024-05-01T08:00:00.1234567+00:00","elapsedTimeMinutes":0,'
        '"maxLeaseTimeMinutes":15,"size":"Standard","status":"Starting"}'
    )
    session.arr_inspector_port, session.handshake_port = 50052, 50051
    session.elapsed_time_minutes, session.hostname = 3, "render7.example.net"
    session.status, session.teraflops = SessionStatus.READY, 8.1
    assert msgspec.json.encode(session).decode() == (
        '{"id":"demo-1","creationTime":"2024-05-01T08:00:00.1234567+00:00","arrInspectorPort":50052,'
        '"handshakePort":50051,"elapsedTimeMinutes":3,"hostname":"render7.example.net","maxLeaseTimeMinutes":15,'
        '"size":"Standard","status":"Ready","teraflops":8.1}'
    )
    session.error = ErrorDetail(code="c", message="m")
    assert msgspec.json.encode(session).endswith(b'"teraflops":8.1,"error":{"code":"c","message":"m"}}')


def test_lists_and_links() -> None:
    assert msgspec.json.encode(SessionList(sessions=[])) == b'{"sessions":[]}'
    assert msgspec.json.encode(SessionList(sessions=[], next_link="u")) == b'{"sessions":[],"@nextLink":"u"}'
    assert msgspec.json.encode(AccessToken(access_token="a.b.c")) == b'{"AccessToken":"a.b.c"}'
    link = RedeemedLink(access_token="t", account_id="a", expires_at="e", endpoint="p")
    assert set(msgspec.to_builtins(link)) == {"accessToken", "accountId", "expiresAt", "endpoint"}


@given(st.integers(0, 1440), st.sampled_from(["Standard", "standard", "PREMIUM", "premium"]))
def test_create_bodies(lease: int, size: str) -> None:
    settings = parse_create(msgspec.json.encode({"maxLeaseTimeMinutes": lease, "size": size, "other": None}))
    assert (settings.lease_minutes, settings.size.lower()) == (lease, size.lower())


@pytest.mark.parametrize("size", ["Tiny", 7, True, {"a": [1]}])
def test_a_size_that_is_none_is_shown_as_it_was_sent(size: object) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_create(msgspec.json.encode({"maxLeaseTimeMinutes": 5, "size": size}))
    shown = size if isinstance(size, str) else msgspec.json.encode(size).decode()
    assert f"VM size: {shown}. Use" in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_body_or_a_bad_request(body: bytes) -> None:
    for parse in (parse_create, parse_update):
        try:
            parse(body)
        except (BadRequest, UnprocessableEntity) as error:
            assert msgspec.json.decode(error.body())["error"]["message"]


def test_error_bodies() -> None:
    assert BadRequest("No.").body() == b'{"error":{"code":"BadRequest","message":"No."}}'
    for bodiless in (errors.TokenRefused(), errors.Unauthorized(), errors.Forbidden(), errors.ResourceMissing()):
        assert bodiless.body() == b""


def test_only_a_rate_limit_says_retry_after() -> None:
    waiting = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, WireError)
        and "retry_after" in str(kind.__init__.__annotations__)
    ]
    assert {kind.status for kind in waiting} == {429}
    assert set(waiting) == {errors.TooManyRequests, errors.RateLimited}
    assert errors.TooManyRequests("Slow.", retry_after_seconds=0).headers == {"retry-after": "1"}
