"""Which way to a render server: WebRTC where UDP gets through, one WebSocket where only HTTPS does.

    way          carries                     tried                                       given up after
    -----------  --------------------------  ------------------------------------------  -----------------------------
    webrtc       SRTP and SCTP over UDP      first; TURN servers of the service help     2.2 s without a path
    websocket    all of it over one socket   then; straight to the render server         1.2 s without an answer
                                             then through the service                    8 s

A session takes one device at a time, so ways are tried one after the other, and one that was given up is taken back
at the server before the next begins. What the render server *refuses* (another device is there, a wrong token) no other
way would change: only what did not get through is tried another way. A path for WebRTC or TURN that were asked for is
waited for longer, 10 s at first, as there is no other way. The way that worked is remembered for some
minutes, so that a device which comes back does not wait for what failed before.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from farframe.client._handshake import NO_WISH, Handshake, Wish, host_of, say_goodbye, shake_hands
from farframe.client._transport import Transport, TransportFactory, TransportHandler
from farframe.client.errors import FarframeClientError, HandshakeError, ServiceUnreachableError
from farframe.client.frame import Picture
from farframe.client.ways import Way, WayChoice
from farframe.protocol.errors import Result
from farframe.wire.extensions import IceServers

if TYPE_CHECKING:
    from farframe.client._http import ServiceHttp
    from farframe.client.session import Relayed, SessionProperties
    from farframe.stream.aiortc_hooks import TurnServer
    from farframe.stream.jitter import AssembledFrame

PATH_SECONDS = 2.2
"""Without a path for so long, UDP does not get through. Paths are found within two or three round trips."""

ASKED_PATH_SECONDS = 10.0
"""The same where WebRTC or TURN was asked for: no other way waits to be tried, and a busy machine may need longer.
Devices that come back try again soon instead, as the line may be good again by then."""

UNLIKELY_PATH_SECONDS = 1.5
"""The same where the render server's TCP port could not be reached."""

CONNECT_SECONDS = 10.0
"""With a path, for DTLS and SCTP to be made."""

PATH_POLL_SECONDS = 0.02
DIRECT_SOCKET_SECONDS = 1.2
RELAYED_SOCKET_SECONDS = 8.0

ICE_TIMEOUT = httpx.Timeout(2.0)
MAX_TURN_SERVERS = 4

_ANOTHER_WAY_HELPS = frozenset({Result.HANDSHAKE_FAILED, Result.VIDEO_CODEC_NOT_AVAILABLE, Result.NOT_SUPPORTED})


@dataclass(slots=True)
class Found:
    """A connection that is made: its transport, what ends it at the server (WebRTC only), and the way it took."""

    transport: Transport
    handshake: Handshake | None
    way: Way


class PathNotFoundError(HandshakeError):
    """WebRTC did not get through. ``unreachable``: nor could the render server's TCP port be reached."""

    def __init__(self, unreachable: bool, message: str, *, next_step: str) -> None:
        super().__init__(Result.HANDSHAKE_FAILED, message, next_step=next_step)
        self.unreachable = unreachable


class _Gate:
    """What a transport says while it may still be given up: all but its end reaches the connection."""

    def __init__(self, handler: TransportHandler) -> None:
        self._handler = handler
        self.open = False
        self.closed: str | None = None

    def on_control(self, text: str) -> None:
        self._handler.on_control(text)

    def on_frame_record(self, data: bytes) -> None:
        self._handler.on_frame_record(data)

    def on_picture(self, picture: Picture) -> None:
        self._handler.on_picture(picture)

    def on_access_unit(self, frame: AssembledFrame) -> None:
        self._handler.on_access_unit(frame)

    def on_closed(self, reason: str) -> None:
        self.closed = reason
        if self.open:
            self._handler.on_closed(reason)

    def let_through(self) -> None:
        self.open = True
        if self.closed is not None:
            self._handler.on_closed(self.closed)


async def find_way(
    http: ServiceHttp,
    session: SessionProperties,
    handler: TransportHandler,
    *,
    relayed: Relayed,
    way: WayChoice,
    make_transport: TransportFactory,
    wish: Wish = NO_WISH,
) -> Found:
    """Connect by the best way there is, or by the one that is asked for.

    Raises HandshakeError, AuthenticationError, ServiceUnreachableError; then nothing is left.
    """
    place = f"{http.connection.endpoint} {session.hostname}"
    remembered = http.ways.of(place) if way == "auto" else None
    order: list[str] = ["webrtc", "websocket"]
    if way != "auto":
        order = ["websocket" if way == "websocket" else "webrtc"]
    elif remembered == "websocket":
        order.reverse()
    failure: FarframeClientError | None = None
    for kind in order:
        reason = _reason(kind, way, remembered, failure)
        try:
            if kind == "webrtc":
                found = await _by_webrtc(http, session, handler, relayed, reason, make_transport, wish, way)
            else:
                # What could not be reached a second ago is not asked again.
                skip = relayed == "auto" and isinstance(failure, PathNotFoundError) and failure.unreachable
                found = await _by_websocket(
                    http, session, handler, True if skip else relayed, reason, wish.subprotocols
                )
        except (HandshakeError, ServiceUnreachableError) as error:
            if not _another_way_may_help(error):
                raise
            failure = failure or error
            continue
        if way == "auto":
            http.ways.worked(place, kind)
        return found
    assert failure is not None
    raise failure


def _another_way_may_help(error: HandshakeError | ServiceUnreachableError) -> bool:
    if isinstance(error, HandshakeError):
        return error.result in _ANOTHER_WAY_HELPS
    # An offer that may have arrived holds the session's one place for some seconds.
    return not isinstance(error.__cause__, httpx.HTTPError) or isinstance(
        error.__cause__, httpx.ConnectError | httpx.ConnectTimeout
    )


def _reason(kind: str, way: WayChoice, remembered: str | None, failure: FarframeClientError | None) -> str:
    if way != "auto":
        return "It was asked for."
    if failure is not None:
        name = "The WebSocket" if kind == "webrtc" else "WebRTC"
        return f"{name} failed: {failure.message}"
    if remembered == kind and kind == "websocket":
        return "WebRTC did not get through here some minutes ago."
    return "UDP gets through."


async def _by_webrtc(
    http: ServiceHttp,
    session: SessionProperties,
    handler: TransportHandler,
    relayed: Relayed,
    reason: str,
    make_transport: TransportFactory,
    wish: Wish,
    way: WayChoice,
) -> Found:
    servers = () if way == "webrtc" else await turn_servers(http, session)
    if way == "turn" and not servers:
        raise HandshakeError(
            Result.HANDSHAKE_FAILED,
            "The service names no TURN server.",
            next_step="Ask its operator for one, or take another way.",
        )
    gate = _Gate(handler)
    transport = make_transport(gate)
    handshake: Handshake | None = None
    try:
        if servers:
            transport.use_turn(servers, relay_only=way == "turn")
        offer = await transport.create_offer()
        handshake = await shake_hands(http, session, offer, relayed, wish)
        limit = UNLIKELY_PATH_SECONDS if handshake.unreachable else PATH_SECONDS
        if way != "auto" and not wish.resume:
            limit = ASKED_PATH_SECONDS
        connecting = asyncio.ensure_future(transport.accept_answer(handshake.answer_sdp))
        try:
            async with asyncio.timeout(limit):
                while not connecting.done() and not transport.path_found:
                    await asyncio.wait([connecting], timeout=PATH_POLL_SECONDS)
            async with asyncio.timeout(CONNECT_SECONDS):
                await connecting
        except TimeoutError:
            raise PathNotFoundError(
                handshake.unreachable,
                f"No UDP path to the render server was found within {limit:g} seconds.",
                next_step="Check that its UDP ports can be reached from here.",
            ) from None
        finally:
            if not connecting.done():
                connecting.cancel()
                await asyncio.gather(connecting, return_exceptions=True)
    except BaseException:
        # In this order: the place must be free before the next way asks for it.
        if handshake is not None:
            await say_goodbye(http, handshake)
        await transport.close()
        raise
    gate.let_through()
    if transport.path_relayed:
        direct = "It was asked for." if way == "turn" else "UDP gets through to the TURN server only."
        return Found(transport, handshake, Way("turn", handshake.relayed, direct))
    return Found(transport, handshake, Way("webrtc", handshake.relayed, reason))


async def turn_servers(http: ServiceHttp, session: SessionProperties) -> tuple[TurnServer, ...]:
    """The service's TURN servers with credentials for this session; none from services that know of none."""
    from farframe.stream.aiortc_hooks import parse_turn_server

    if http.ways.no_turn:
        return ()
    url = http.account_url(f"sessions/{quote(session.id, safe='')}/ice")
    try:
        response = await http.request("GET", url, timeout=ICE_TIMEOUT, attempts=1)
        told = msgspec.json.decode(response.content, type=IceServers).ice_servers
    except (FarframeClientError, msgspec.DecodeError):
        return ()  # whatever is wrong, the handshake says it better
    http.ways.no_turn = not told
    found = []
    for server in told:
        for uri in server.urls[:MAX_TURN_SERVERS]:
            tls = http.connection.ssl_context() if uri.startswith("turns:") else None
            with contextlib.suppress(ValueError):  # of a kind that only newer clients know
                found.append(parse_turn_server(uri, server.username, server.credential, tls))
    return tuple(found[:MAX_TURN_SERVERS])


def stream_urls(http: ServiceHttp, session: SessionProperties, relayed: Relayed) -> list[tuple[str, bool]]:
    """Where to open the WebSocket, in order, and whether that is through the service."""
    base = http.connection.endpoint
    account = quote(http.connection.account_id, safe="")
    scheme = "wss" if urlsplit(base).scheme == "https" else "ws"
    path = f"/accounts/{account}/sessions/{quote(session.id, safe='')}/stream"
    through_service = (f"{scheme}://{base.partition('://')[2]}{path}", True)
    if relayed is True or session.hostname is None or session.handshake_port is None:
        return [through_service]
    direct = (f"wss://{host_of(session)}:{session.handshake_port}/stream", False)
    return [direct] if relayed is False else [direct, through_service]


async def _by_websocket(
    http: ServiceHttp,
    session: SessionProperties,
    handler: TransportHandler,
    relayed: Relayed,
    reason: str,
    extra_names: list[str],
) -> Found:
    from farframe.client._websocket import WebSocketTransport, stream_names

    failure: FarframeClientError | None = None
    urls = stream_urls(http, session, relayed)
    for url, through_service in urls:
        gate = _Gate(handler)
        transport = WebSocketTransport(gate)
        names = stream_names(await http.token(), extra_names)
        context = http.connection.ssl_context() if url.startswith("wss:") else None
        limit = RELAYED_SOCKET_SECONDS if len(urls) == 1 or through_service else DIRECT_SOCKET_SECONDS
        try:
            await transport.connect(url, names, context, limit)
        except ServiceUnreachableError as error:
            await transport.close()
            failure = failure or error
            continue
        except BaseException:
            await transport.close()
            raise
        gate.let_through()
        if failure is not None:
            reason = f"{reason} The render server's port could not be reached either."
        return Found(transport, None, Way("websocket", through_service, reason))
    assert failure is not None
    raise failure


def with_round_trip(way: Way, round_trip_us: int | None) -> Way:
    """The same way with what was measured since."""
    return way if round_trip_us is None else replace(way, round_trip_ms=round_trip_us / 1000)
