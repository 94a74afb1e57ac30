"""The Python client's choice of a way: order, memory, refusals, and which TURN servers it takes."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from farframe.client import HandshakeError, RemoteRenderingClient, Result, ServiceUnreachableError, Session
from farframe.client import _ways as ways
from farframe.client._transport import TransportHandler, Unconnected
from farframe.client._ways import Found, find_way, stream_urls, turn_servers
from farframe.client.ways import REMEMBERED_SECONDS, Memory, Way
from tests.client.conftest import ACCOUNT, FakeService

ICE = f"/accounts/{ACCOUNT}/sessions/demo/ice"


class Nobody:
    """A connection that hears nothing."""

    def on_control(self, text: str) -> None:
        raise AssertionError(text)

    on_frame_record = on_picture = on_access_unit = on_closed = on_control


@pytest.fixture
async def session(client: RemoteRenderingClient, service: FakeService) -> Session:
    service.polls_until_ready = 0
    session = await client.create_session(session_id="demo")
    await session.wait_until_ready()
    return session


Outcome = Exception | None


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Outcome]:
    """What each way comes to; ``None`` is a connection. The ways that were tried stand in the list ``tried``."""
    outcomes: dict[str, Outcome] = {"webrtc": None, "websocket": None}

    def attempt(kind: str) -> Callable[..., object]:
        async def go(
            http: object, properties: object, handler: object, relayed: object, reason: str, *_: object
        ) -> Found:
            outcome = outcomes[kind]
            if outcome is not None:
                raise outcome
            return Found(Unconnected(), None, Way(kind, relayed is True, reason))  # type: ignore[arg-type]

        return go

    monkeypatch.setattr(ways, "_by_webrtc", attempt("webrtc"))
    monkeypatch.setattr(ways, "_by_websocket", attempt("websocket"))
    return outcomes


def refused(result: Result) -> HandshakeError:
    return HandshakeError(result, f"It is {result}.")


async def find(session: Session, **options: object) -> Way:
    def make(handler: TransportHandler) -> object:
        raise AssertionError("nothing is made here")

    values = {"relayed": "auto", "way": "auto", "make_transport": make, **options}
    return (await find_way(session.client._http, session.properties, Nobody(), **values)).way  # type: ignore[arg-type]


async def test_webrtc_comes_first(session: Session, outcomes: dict[str, Outcome]) -> None:
    assert await find(session) == Way("webrtc", False, "UDP gets through.")


async def test_the_websocket_is_next_and_is_remembered(session: Session, outcomes: dict[str, Outcome]) -> None:
    outcomes["webrtc"] = refused(Result.HANDSHAKE_FAILED)
    assert (await find(session)).reason == "WebRTC failed: It is HandshakeFailed."
    outcomes["webrtc"] = None
    assert (await find(session)).reason == "WebRTC did not get through here some minutes ago."
    # When that fails in its turn, WebRTC is tried again.
    outcomes["websocket"] = ServiceUnreachableError("No WebSocket.")
    assert await find(session) == Way("webrtc", False, "The WebSocket failed: No WebSocket.")


@pytest.mark.parametrize(
    "result", [Result.OTHER_SESSION_CONNECTED, Result.AUTHENTICATION_FAILED, Result.SESSION_NOT_READY]
)
async def test_a_refusal_is_final(session: Session, outcomes: dict[str, Outcome], result: Result) -> None:
    outcomes["webrtc"] = refused(result)
    with pytest.raises(HandshakeError) as caught:
        await find(session)
    assert caught.value.result is result


async def test_the_first_failure_is_told(session: Session, outcomes: dict[str, Outcome]) -> None:
    outcomes["webrtc"] = refused(Result.VIDEO_CODEC_NOT_AVAILABLE)
    outcomes["websocket"] = ServiceUnreachableError("No WebSocket.")
    with pytest.raises(HandshakeError, match="VideoCodecNotAvailable"):
        await find(session)


async def test_an_offer_that_may_have_arrived_is_followed_by_nothing(
    session: Session, outcomes: dict[str, Outcome]
) -> None:
    slow = ServiceUnreachableError("It did not answer.")
    slow.__cause__ = httpx.ReadTimeout("slow")
    outcomes["webrtc"] = slow
    with pytest.raises(ServiceUnreachableError):
        await find(session)
    slow.__cause__ = httpx.ConnectTimeout("never sent")
    assert (await find(session)).kind == "websocket"


async def test_what_could_not_be_reached_is_not_asked_again(session: Session, outcomes: dict[str, Outcome]) -> None:
    outcomes["webrtc"] = ways.PathNotFoundError(True, "No path.", next_step="")
    assert (await find(session)).relayed
    session.client._http.ways = Memory()
    outcomes["webrtc"] = ways.PathNotFoundError(False, "No path.", next_step="")
    assert not (await find(session)).relayed


async def test_a_way_that_is_asked_for_is_the_only_one(session: Session, outcomes: dict[str, Outcome]) -> None:
    assert (await find(session, way="websocket")).reason == "It was asked for."
    outcomes["webrtc"] = refused(Result.HANDSHAKE_FAILED)
    with pytest.raises(HandshakeError):
        await find(session, way="webrtc")


def test_memory_fades() -> None:
    now = [0.0]
    memory = Memory(clock=lambda: now[0])
    assert memory.of("here") is None
    memory.worked("here", "websocket")
    now[0] = REMEMBERED_SECONDS - 1
    memory.worked("here", "websocket")  # still works: not noted anew
    assert (memory.of("here"), memory.of("there")) == ("websocket", None)
    now[0] = REMEMBERED_SECONDS + 1
    assert memory.of("here") is None


async def test_where_the_socket_is_opened(session: Session) -> None:
    http, properties = session.client._http, session.properties
    direct = ("wss://render.test:50051/stream", False)
    relayed = (f"wss://farframe.test:8443/accounts/{ACCOUNT}/sessions/demo/stream", True)
    assert stream_urls(http, properties, "auto") == [direct, relayed]
    assert stream_urls(http, properties, False) == [direct]
    assert stream_urls(http, properties, True) == [relayed]


async def test_turn_servers_and_what_they_must_look_like(session: Session, service: FakeService) -> None:
    answer = {
        "iceServers": [
            {
                "urls": [
                    "turn:a.test:1234?transport=udp",
                    "turn:a.test?transport=tcp",
                    "turns:a.test",
                    "stun:a.test",
                    "turn:../etc",
                ],
                "username": "5:name",
                "credential": "secret",
            }
        ]
    }
    service.answers[("GET", ICE)] = [httpx.Response(200, json=answer)]
    found = await turn_servers(session.client._http, session.properties)
    seen = [(server.host, server.port, server.transport, server.tls is not None) for server in found]
    assert seen == [("a.test", 1234, "udp", False), ("a.test", 3478, "tcp", False), ("a.test", 5349, "tcp", True)]
    assert {server.username for server in found} == {"5:name"}
    assert "secret" not in repr(found)


@pytest.mark.parametrize("answer", [httpx.Response(404), httpx.Response(200, content=b"{"), httpx.ConnectError("gone")])
async def test_a_service_without_an_answer_has_no_turn_servers(
    session: Session, service: FakeService, answer: httpx.Response | Exception
) -> None:
    service.answers[("GET", ICE)] = [answer]
    assert await turn_servers(session.client._http, session.properties) == ()


async def test_a_service_that_has_none_is_asked_once(session: Session, service: FakeService) -> None:
    service.answers[("GET", ICE)] = [httpx.Response(200, json={"iceServers": []})]
    for _ in range(2):
        assert await turn_servers(session.client._http, session.properties) == ()
    assert len(service.seen("GET", "/ice")) == 1
