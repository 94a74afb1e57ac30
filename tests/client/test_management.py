from __future__ import annotations

import asyncio

import httpx
import pytest

from farframe.client import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RemoteRenderingClient,
    ServiceError,
    ServiceUnreachableError,
    SessionFailedError,
    TooManyRequestsError,
)
from tests.client.conftest import ACCOUNT, ENDPOINT, FakeService, connection_info, error

SESSIONS = f"/accounts/{ACCOUNT}/sessions"


async def test_a_session_lives(client: RemoteRenderingClient, service: FakeService) -> None:
    session = await client.create_session(size="Premium", lease_minutes=20, session_id="demo")
    assert (session.id, session.status, session.size) == ("demo", "Starting", "Premium")
    assert session.properties.creation_time.microsecond == 123456
    looks = []
    await session.wait_until_ready(progress=lambda now: looks.append(now.status))
    assert looks[0] == "Starting"
    assert looks[-1] == "Ready"
    assert (session.properties.hostname, session.properties.handshake_port) == ("render.test", 50051)
    await session.extend(30)
    assert session.properties.lease_minutes == 30
    assert [item.id async for item in client.list_sessions()] == ["demo"]
    await session.stop()
    assert session.status == "Stopped"
    assert [item async for item in client.list_sessions()] == []
    assert service.tokens == 1


async def test_ids_are_made_up_and_quoted(client: RemoteRenderingClient, service: FakeService) -> None:
    first, second = await client.create_session(), await client.create_session()
    assert first.id != second.id
    with pytest.raises(NotFoundError, match="a b/c"):
        await client.get_session("a b/c")
    assert service.requests[-1].url.raw_path.startswith(b"/accounts/" + ACCOUNT.encode() + b"/sessions/a%20b%2Fc?")


async def test_pages_are_followed_on_the_same_host_only(client: RemoteRenderingClient, service: FakeService) -> None:
    session = await client.create_session(session_id="one")
    item = {**service.sessions[session.id]}
    link = f"{ENDPOINT}{SESSIONS}?api-version=2021-01-01&skiptoken=x"
    service.answers[("GET", SESSIONS)] = [
        httpx.Response(200, json={"sessions": [{**item, "id": "zero"}], "@nextLink": link}),
        httpx.Response(200, json={"sessions": [], "@nextLink": link}),
    ]
    assert [item.id async for item in client.list_sessions()] == ["zero", "one"]
    service.answers[("GET", SESSIONS)] = [
        httpx.Response(200, json={"sessions": [], "@nextLink": "https://evil.test/accounts"})
    ]
    before = len(service.requests)
    with pytest.raises(ServiceError, match="another host"):
        [item async for item in client.list_sessions()]
    assert len(service.requests) == before + 1


async def test_a_token_is_renewed_before_it_expires(client: RemoteRenderingClient, service: FakeService) -> None:
    service.token_seconds = 600
    await client.create_session()
    client._http.clock = lambda: __import__("time").time() + 500
    await client.create_session()
    assert service.tokens == 2


async def test_many_calls_share_one_token_request(client: RemoteRenderingClient, service: FakeService) -> None:
    await asyncio.gather(*(client.create_session() for _ in range(8)))
    assert service.tokens == 1


async def test_a_refused_token_is_replaced_once(client: RemoteRenderingClient, service: FakeService) -> None:
    await client.create_session(session_id="demo")
    path = f"{SESSIONS}/demo"
    service.answers[("GET", path)] = [httpx.Response(401)]
    assert (await client.get_session("demo")).id == "demo"
    assert service.tokens == 2
    service.answers[("GET", path)] = [httpx.Response(401), httpx.Response(401)]
    with pytest.raises(AuthenticationError):
        await client.get_session("demo")
    assert service.tokens == 3


async def test_a_wrong_key_is_told_without_showing_it(service: FakeService) -> None:
    transport = httpx.MockTransport(service.handle)
    async with RemoteRenderingClient(connection_info(account_key="wrong-key"), transport=transport) as client:
        with pytest.raises(AuthenticationError, match="accountKey") as caught:
            await client.create_session()
    assert "wrong-key" not in str(caught.value)
    assert "wrong-key" not in repr(client._http)


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (error(400, "BadRequest", "No."), InvalidRequestError, "BadRequest"),
        (error(409, "Conflict", "Taken."), ConflictError, "Conflict"),
        (error(422, "UnprocessableEntity", "Not larger."), InvalidRequestError, "UnprocessableEntity"),
        (error(507, "InsufficientStorage", "Full. Make room."), InvalidRequestError, "InsufficientStorage"),
        (httpx.Response(404), NotFoundError, ""),
        (httpx.Response(418, content=b"<html>" * 100), ServiceError, ""),
    ],
)
async def test_errors_have_kinds(
    client: RemoteRenderingClient, service: FakeService, answer: httpx.Response, kind: type[ServiceError], code: str
) -> None:
    service.answers[("PUT", f"{SESSIONS}/demo")] = [answer]
    with pytest.raises(kind) as caught:
        await client.create_session(session_id="demo")
    assert (caught.value.status, caught.value.code) == (answer.status_code, code)
    if code == "InsufficientStorage":
        assert str(caught.value) == "Full. Make room.", "one advice is enough"
    assert len(service.seen("PUT")) == 1


async def test_what_is_safe_is_tried_again_with_growing_waits(
    client: RemoteRenderingClient, service: FakeService
) -> None:
    waits: list[float] = []

    async def note_wait(seconds: float) -> None:
        waits.append(seconds)

    client._http.sleep = note_wait
    client._http.jitter = lambda: 1.0
    service.answers[("PUT", f"{SESSIONS}/demo")] = [
        httpx.Response(503),
        httpx.ReadError("gone"),
        error(429, "TooManyRequests", "Slowly.", **{"Retry-After": "7"}),
    ]
    assert (await client.create_session(session_id="demo")).id == "demo"
    assert waits == [0.25, 0.5, 7.0]


async def test_what_is_not_safe_is_sent_once(client: RemoteRenderingClient, service: FakeService) -> None:
    session = await client.create_session(session_id="demo")
    service.answers[("PATCH", f"{SESSIONS}/demo")] = [httpx.Response(503), httpx.Response(503)]
    with pytest.raises(ServiceError):
        await session.extend(20)
    assert len(service.seen("PATCH")) == 1


async def test_patience_ends(client: RemoteRenderingClient, service: FakeService) -> None:
    service.answers[("GET", SESSIONS)] = [error(429, "TooManyRequests", "No.", **{"Retry-After": "2"})] * 9
    with pytest.raises(TooManyRequestsError) as caught:
        [item async for item in client.list_sessions()]
    assert caught.value.retry_after_seconds == 2
    assert len(service.seen("GET", SESSIONS)) == 4


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError("refused"), "farframe up"),
        (httpx.ReadTimeout("slow"), "in time"),
        (httpx.RemoteProtocolError("It ended."), r"broke: It ended\. Try again"),
    ],
)
async def test_no_answer_is_one_kind_of_error(
    client: RemoteRenderingClient, service: FakeService, failure: Exception, words: str
) -> None:
    service.answers[("GET", SESSIONS)] = [failure] * 9
    with pytest.raises(ServiceUnreachableError, match=words) as caught:
        [item async for item in client.list_sessions()]
    assert caught.value.__cause__ is failure


async def test_an_answer_that_is_no_session_is_an_error(client: RemoteRenderingClient, service: FakeService) -> None:
    service.answers[("GET", f"{SESSIONS}/demo")] = [httpx.Response(200, json={"id": 4})]
    with pytest.raises(ServiceError, match="cannot be read"):
        await client.get_session("demo")


async def test_a_session_that_fails_says_why(client: RemoteRenderingClient, service: FakeService) -> None:
    session = await client.create_session(session_id="demo")
    service.sessions["demo"].update(status="Error", error={"code": "StartFailed", "message": "No adapter."})
    with pytest.raises(SessionFailedError, match="No adapter") as caught:
        await session.wait_until_ready()
    assert (caught.value.session_status, caught.value.code) == ("Error", "StartFailed")
    assert session.properties.error is not None
    assert session.properties.error.message == "No adapter."


async def test_waiting_ends(client: RemoteRenderingClient, service: FakeService) -> None:
    service.polls_until_ready = 10_000
    session = await client.create_session(session_id="demo")
    with pytest.raises(SessionFailedError, match="not ready"):
        await session.wait_until_ready(timeout=0.25)
    assert service.sessions["demo"]["status"] == "Starting"


async def test_a_lease_is_given_back_after_use(client: RemoteRenderingClient, service: FakeService) -> None:
    async with client.leased(session_id="demo") as session:
        assert session.status == "Ready"
    assert service.sessions["demo"]["status"] == "Stopped"


async def test_a_lease_is_given_back_after_an_error(client: RemoteRenderingClient, service: FakeService) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.leased(session_id="demo"):
            raise ZeroDivisionError
    assert service.sessions["demo"]["status"] == "Stopped"


async def test_a_lease_is_given_back_when_its_user_is_cancelled_twice(
    client: RemoteRenderingClient, service: FakeService
) -> None:
    stopping, go_on = asyncio.Event(), asyncio.Event()
    plain = client._stop

    async def slow_stop(session_id: str) -> None:
        stopping.set()
        await go_on.wait()
        await plain(session_id)

    client._stop = slow_stop
    inside = asyncio.Event()

    async def use() -> None:
        async with client.leased(session_id="demo"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await asyncio.wait_for(inside.wait(), 60)
    task.cancel()
    await asyncio.wait_for(stopping.wait(), 60)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert service.sessions["demo"]["status"] == "Stopped"


async def test_a_lease_whose_creation_is_cancelled_is_given_back(
    client: RemoteRenderingClient, service: FakeService
) -> None:
    created = asyncio.Event()
    handle = service.handle

    async def created_but_not_answered(request: httpx.Request) -> httpx.Response:
        answer = await handle(request)
        if request.method == "PUT":
            created.set()
            await asyncio.Event().wait()
        return answer

    client._http.http._transport.handler = created_but_not_answered

    async def use() -> None:
        async with client.leased(session_id="demo"):
            raise AssertionError("never inside")

    task = asyncio.create_task(use())
    await asyncio.wait_for(created.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert service.sessions["demo"]["status"] == "Stopped"


async def test_a_refused_lease_stops_nobody_elses_session(client: RemoteRenderingClient, service: FakeService) -> None:
    await client.create_session(session_id="demo")
    service.answers[("PUT", f"{SESSIONS}/demo")] = [error(409, "Conflict", "Taken.")]
    with pytest.raises(ConflictError):
        async with client.leased(session_id="demo"):
            raise AssertionError("never inside")
    assert service.sessions["demo"]["status"] == "Starting"


async def test_a_viewer_link_is_a_secret(client: RemoteRenderingClient) -> None:
    link = await client.create_viewer_link("demo")
    assert link.url.endswith("#demo")
    assert link.expires_at.year == 2031
    assert "#demo" not in repr(link)


async def test_a_link_to_the_console(client: RemoteRenderingClient) -> None:
    assert (await client.create_console_link()).url.endswith("#console")


async def test_an_inspector_link_is_a_secret(client: RemoteRenderingClient) -> None:
    session = await client.create_session(session_id="demo")
    with pytest.raises(ConflictError, match="no render server"):
        await session.create_inspector_link()
    await session.wait_until_ready()
    link = await session.create_inspector_link()
    assert link.url == "https://render.test:50052/#token=a.b.c"
    assert link.expires_at.year == 2031
    assert "a.b.c" not in repr(link)


async def test_connecting_too_early_says_what_to_wait_for(client: RemoteRenderingClient, service: FakeService) -> None:
    service.polls_until_ready = 100
    session = await client.create_session(session_id="demo")
    with pytest.raises(SessionFailedError, match="wait_until_ready"):
        async with session.connect():
            raise AssertionError("never inside")
