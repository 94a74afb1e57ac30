"""What a render server answers over HTTPS: the WHEP handshake on one port, the inspector on another.

    handshake port                                    inspector port
    POST    /whep        offer -> answer, 201         GET /            the inspector's page, without secrets
    DELETE  /whep/{id}   end it, 200                  GET /ledger      frames as JSON lines, kept ones first
    OPTIONS /whep        for browsers                 GET /log         log lines as JSON lines, likewise

All but the page want ``Authorization: Bearer`` with a token for this session's account.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from litestar import Litestar, MediaType, Request, Response, delete, get, post, route
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException
from litestar.response import Stream

from farframe.protocol.errors import FarframeError, Result

if TYPE_CHECKING:
    from farframe.server.ledger import Feed, Ledger
    from farframe.server.log import LogEvent

MAX_OFFER_BYTES = 64 * 1024

STATUS = {
    Result.AUTHENTICATION_FAILED: 401,
    Result.OTHER_SESSION_CONNECTED: 409,
    Result.SESSION_NOT_READY: 409,
    Result.VIDEO_CODEC_NOT_AVAILABLE: 406,
    Result.HANDSHAKE_FAILED: 400,
    Result.INVALID_PARAM: 400,
    Result.INVALID_ID: 404,
    Result.NOT_SUPPORTED: 405,
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

    def authorize(self, authorization: str) -> None:
        """Raises :class:`FarframeError` unless the header holds a token that may use this session."""

    async def connect(self, offer_sdp: str) -> tuple[str, str]:
        """Take a device's offer; returns the resource's id and the answer. Raises :class:`FarframeError`."""

    async def disconnect(self, resource_id: str) -> None:
        """End a device's connection. Raises :class:`FarframeError` (InvalidId) for another one."""


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


def handshake_app(handshakes: Handshakes) -> Litestar:
    """The WHEP endpoint. Browsers of any origin may use it: what counts is the token, there are no cookies."""

    @post("/whep", status_code=201, media_type="application/sdp", request_max_body_size=MAX_OFFER_BYTES)
    async def offer(request: Request[Any, Any, Any]) -> Response[Any]:
        handshakes.authorize(request.headers.get("authorization", ""))
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/sdp":
            raise FarframeError(
                Result.HANDSHAKE_FAILED, "The offer must be sent as application/sdp.", next_step="Set Content-Type."
            )
        try:
            text = (await request.body()).decode()
        except UnicodeDecodeError:
            raise FarframeError(Result.HANDSHAKE_FAILED, "The offer is not UTF-8 text.") from None
        resource_id, answer = await handshakes.connect(text)
        return Response(
            answer,
            status_code=201,
            media_type="application/sdp",
            headers={"Location": f"/whep/{resource_id}", "Access-Control-Expose-Headers": "Location"},
        )

    @delete("/whep/{resource_id:str}", status_code=200)
    async def end(request: Request[Any, Any, Any], resource_id: str) -> Response[Any]:
        handshakes.authorize(request.headers.get("authorization", ""))
        await handshakes.disconnect(resource_id)
        return Response(b"", status_code=200)

    @route("/whep/{resource_id:str}", http_method=["PATCH"])
    async def trickle(request: Request[Any, Any, Any], resource_id: str) -> Response[Any]:
        handshakes.authorize(request.headers.get("authorization", ""))
        raise FarframeError(
            Result.NOT_SUPPORTED,
            "Candidates cannot be added later: the answer holds all of the server's.",
            next_step="Send the whole offer at once.",
        )

    cors = CORSConfig(
        allow_origins=["*"],
        allow_methods=["POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Location"],
        allow_credentials=False,
        max_age=600,
    )
    return Litestar(
        [offer, end, trickle], exception_handlers=_HANDLERS, cors_config=cors, openapi_config=None, logging_config=None
    )


def inspector_app(handshakes: Handshakes, ledger: Ledger, log_feed: Feed[LogEvent]) -> Litestar:
    """The inspector's page and the two streams that it shows."""
    encoder = msgspec.json.Encoder(enc_hook=str)

    async def lines(feed: Feed[Any]) -> AsyncIterator[bytes]:
        async for entry in feed.listen():
            yield encoder.encode(entry) + b"\n"

    @get("/ledger")
    async def frames(request: Request[Any, Any, Any]) -> Stream:
        handshakes.authorize(request.headers.get("authorization", ""))
        return Stream(lines(ledger.feed), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})

    @get("/log")
    async def log_lines(request: Request[Any, Any, Any]) -> Stream:
        handshakes.authorize(request.headers.get("authorization", ""))
        return Stream(lines(log_feed), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})

    @get("/")
    async def page(request: Request[Any, Any, Any]) -> Response[Any]:
        return _bundled("inspector/index.html")

    @get("/assets/{name:str}")
    async def asset(request: Request[Any, Any, Any], name: str) -> Response[Any]:
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
