"""What a render server answers over HTTPS: handshakes on one port, the inspector on another.

    handshake port                                    inspector port
    POST    /whep        offer -> answer, 201         GET /            the inspector's page, without secrets
    POST    /whep?watch  the same, to watch           GET /ledger      frames as JSON lines, kept ones first
    DELETE  /whep/{id}   end it, 200
    DELETE  /whep        give up the scene that is
                         kept for a lost device
    OPTIONS /whep        for browsers                 GET /log         log lines as JSON lines, likewise
    (WebSocket) /stream  the whole stream over it

All but the page want ``Authorization: Bearer`` with a token for this session's account; the WebSocket wants the token
among its subprotocols, for that is all that browsers let a page say in an upgrade. A resume secret comes in the header
``Farframe-Resume``, or in a subprotocol as well; never in an address.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog
from litestar import Litestar, MediaType, Request, Response, WebSocket, delete, get, post, route, websocket
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.response import Stream
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from farframe.auth.roles import Permission
from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.socket_stream import (
    CLOSE_CODE_BASE,
    SUBPROTOCOL,
    WATCH_SUBPROTOCOL,
    resume_secret_of,
    token_of,
)
from farframe.server.places import Wishes
from farframe.stream.websocket import ChannelClosed, WebSocketDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from farframe.auth.tokens import TokenClaims
    from farframe.server.ledger import Feed, Ledger
    from farframe.server.log import LogEvent
    from farframe.stream.device import Device, DeviceHandler

log = structlog.get_logger("farframe.connection")

MAX_OFFER_BYTES = 64 * 1024
RESUME_HEADER = "Farframe-Resume"

STATUS = {
    Result.AUTHENTICATION_FAILED: 401,
    Result.OTHER_SESSION_CONNECTED: 409,
    Result.SESSION_NOT_READY: 409,
    Result.VIDEO_CODEC_NOT_AVAILABLE: 406,
    Result.HANDSHAKE_FAILED: 400,
    Result.INVALID_PARAM: 400,
    Result.INVALID_ID: 404,
    Result.NOT_SUPPORTED: 405,
    Result.WATCHING_ONLY: 403,
    Result.NOTHING_TO_RESUME: 410,
    Result.TOO_MANY_SPECTATORS: 409,
}
"""HTTP status by result; anything else is a 500."""

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_ASSET = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class Handshakes(Protocol):
    """Who decides about devices; the server process."""

    def authorize(self, authorization: str, permission: Permission = Permission.RENDER) -> TokenClaims:
        """What the token in the header says. Raises :class:`FarframeError` unless it is good for that here."""

    async def connect(self, offer_sdp: str, wishes: Wishes) -> tuple[str, str]:
        """Take a device's offer; returns the resource's id and the answer. Raises :class:`FarframeError`."""

    async def attach(self, make_device: Callable[[DeviceHandler, int], Device], wishes: Wishes) -> None:
        """Take a device that came by a WebSocket; ``make_device`` is given its handler and the highest bit rate.
        Raises :class:`FarframeError`."""

    async def disconnect(self, resource_id: str) -> None:
        """End a device's connection. Raises :class:`FarframeError` (InvalidId) for another one."""

    async def give_up(self, claims: TokenClaims, secret: str) -> None:
        """Keep the scene no longer for a device that was lost. Raises :class:`FarframeError`."""


def error_response(error: FarframeError) -> Response[Any]:
    """The body that every refusal has: the error tree of the REST contract plus the next step."""
    body = {"error": {"code": str(error.result), "message": str(error)}}
    status = STATUS.get(error.result, 500)
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'} if status == 401 else {}
    return Response(body, status_code=status, headers=headers, media_type="application/json; charset=utf-8")


def _on_farframe_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    assert isinstance(error, FarframeError)
    return error_response(error)


def _on_http_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The framework's own refusals (unknown path, wrong method), in our words."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "NotFound", 405: "MethodNotAllowed", 413: "PayloadTooLarge"}.get(status, "BadRequest")
    if status >= 500:
        code = "InternalServerError"
    body = {"error": {"code": code, "message": "This server answers only its handshake and its inspector."}}
    return Response(body, status_code=status, media_type="application/json; charset=utf-8")


_HANDLERS: dict[Any, Any] = {FarframeError: _on_farframe_error, HTTPException: _on_http_error}


def permission_for(wishes: Wishes) -> Permission:
    """What a token must be good for."""
    return Permission.WATCH if wishes.watch else Permission.RENDER


def handshake_app(handshakes: Handshakes) -> Litestar:
    """The WHEP endpoint. Browsers of any origin may use it: what counts is the token, there are no cookies."""

    @post("/whep", status_code=201, media_type="application/sdp", request_max_body_size=MAX_OFFER_BYTES)
    async def offer(request: Request[Any, Any, Any]) -> Response[Any]:
        wishes = Wishes(watch="watch" in request.query_params, resume=request.headers.get(RESUME_HEADER, ""))
        handshakes.authorize(request.headers.get("authorization", ""), permission_for(wishes))
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/sdp":
            raise FarframeError(
                Result.HANDSHAKE_FAILED, "The offer must be sent as application/sdp.", next_step="Set Content-Type."
            )
        try:
            text = (await request.body()).decode()
        except UnicodeDecodeError:
            raise FarframeError(Result.HANDSHAKE_FAILED, "The offer is not UTF-8 text.") from None
        resource_id, answer = await handshakes.connect(text, wishes)
        return Response(
            answer,
            status_code=201,
            media_type="application/sdp",
            headers={"Location": f"/whep/{resource_id}", "Access-Control-Expose-Headers": "Location"},
        )

    @delete("/whep/{resource_id:str}", status_code=200)
    async def end(request: Request[Any, Any, Any]) -> Response[Any]:
        handshakes.authorize(request.headers.get("authorization", ""), Permission.WATCH)
        await handshakes.disconnect(str(request.path_params["resource_id"]))
        return Response(b"", status_code=200)

    @delete("/whep", status_code=200)
    async def give_up(request: Request[Any, Any, Any]) -> Response[Any]:
        claims = handshakes.authorize(request.headers.get("authorization", ""))
        await handshakes.give_up(claims, request.headers.get(RESUME_HEADER, ""))
        return Response(b"", status_code=200)

    @route("/whep/{resource_id:str}", http_method=["PATCH"])
    async def trickle(request: Request[Any, Any, Any]) -> Response[Any]:
        handshakes.authorize(request.headers.get("authorization", ""), Permission.WATCH)
        raise FarframeError(
            Result.NOT_SUPPORTED,
            "Candidates cannot be added later: the answer holds all of the server's.",
            next_step="Send the whole offer at once.",
        )

    @websocket("/stream")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        offered = socket.scope["subprotocols"]
        token = token_of(offered)
        if token is None:
            await socket.close(code=1002)  # before it was accepted: refused as HTTP
            return
        await socket.accept(subprotocols=SUBPROTOCOL)
        channel = SocketChannel(socket)
        device: WebSocketDevice | None = None

        def make_device(handler: DeviceHandler, max_bitrate: int) -> Device:
            nonlocal device
            device = WebSocketDevice(channel, handler, max_bitrate=max_bitrate)
            return device

        try:
            wishes = Wishes(watch=WATCH_SUBPROTOCOL in offered, resume=resume_secret_of(offered))
            handshakes.authorize(f"Bearer {token}", permission_for(wishes))
            await handshakes.attach(make_device, wishes)
        except FarframeError as error:
            await refuse(channel, error)
            return
        assert device is not None
        device.send_control(messages.encode_notification("connection.attached", messages.Message()))
        await device.run()

    cors = CORSConfig(
        allow_origins=["*"],
        allow_methods=["POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", RESUME_HEADER],
        expose_headers=["Location"],
        allow_credentials=False,
        max_age=600,
    )
    return Litestar(
        [offer, end, give_up, trickle, stream],
        exception_handlers=_HANDLERS,
        cors_config=cors,
        openapi_config=None,
        logging_config=None,
    )


class SocketChannel:
    """A WebSocket of the web framework as a ``stream.websocket.MessageChannel``."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes:
        """The next message. Raises :class:`ChannelClosed`."""
        message: Any = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ChannelClosed(message.get("code", 1006))
        text, data = message.get("text"), message.get("bytes")
        return text if text is not None else data or b""

    async def send(self, message: str | bytes) -> None:
        """Send; returns when the socket takes more. Raises :class:`ChannelClosed`."""
        event: Any = {"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message}
        try:
            await self._socket.send(event)
        except (ClientDisconnected, WebSocketDisconnect, RuntimeError):
            raise ChannelClosed(1006) from None

    async def close(self, code: int) -> None:
        """Close it."""
        try:
            await self._socket.send({"type": "websocket.close", "code": code, "reason": ""})
        except (ClientDisconnected, WebSocketDisconnect, RuntimeError):
            return


async def refuse(channel: SocketChannel, error: FarframeError) -> None:
    """Say why over the socket itself, for a page is not told what an upgrade was refused with; then close it."""
    params = messages.EndingParams(reason=str(error.result), message=str(error))
    try:
        await channel.send(messages.encode_notification("session.ending", params))
    except ChannelClosed:
        return
    await channel.close(CLOSE_CODE_BASE + STATUS.get(error.result, 500))


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, but for two things: pings of a peer that reads no pongs would fill the memory with them, and
    upgrades would be logged with the tokens in them where all is logged."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn.debug = False

    def handle_ping(self) -> None:
        """Answer a ping, unless answers pile up already."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()


def inspector_app(handshakes: Handshakes, ledger: Ledger, log_feed: Feed[LogEvent]) -> Litestar:
    """The inspector's page and the two streams that it shows."""
    encoder = msgspec.json.Encoder(enc_hook=str)

    async def lines(feed: Feed[Any]) -> AsyncIterator[bytes]:
        async for entry in feed.listen():
            yield encoder.encode(entry) + b"\n"

    @get("/ledger")
    async def frames(request: Request[Any, Any, Any]) -> Stream:
        handshakes.authorize(request.headers.get("authorization", ""), Permission.DIAGNOSE)
        return Stream(lines(ledger.feed), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})

    @get("/log")
    async def log_lines(request: Request[Any, Any, Any]) -> Stream:
        handshakes.authorize(request.headers.get("authorization", ""), Permission.DIAGNOSE)
        return Stream(lines(log_feed), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})

    @get("/")
    async def page(request: Request[Any, Any, Any]) -> Response[Any]:
        return _bundled("inspector/index.html")

    @get("/assets/{name:str}")
    async def asset(request: Request[Any, Any, Any]) -> Response[Any]:
        name = str(request.path_params["name"])
        if not _ASSET.fullmatch(name):
            raise HTTPException(status_code=404)
        return _bundled(f"assets/{name}")

    return Litestar(
        [frames, log_lines, page, asset], exception_handlers=_HANDLERS, openapi_config=None, logging_config=None
    )


def _bundled(path: str) -> Response[Any]:
    """A file of the web bundle that the package carries."""
    resource = resources.files("farframe").joinpath("web_bundle", *path.split("/"))
    if not resource.is_file():
        raise HTTPException(status_code=404)
    kind = mimetypes.guess_type(path)[0] or MediaType.TEXT
    return Response(resource.read_bytes(), media_type=kind, headers=PAGE_HEADERS)
