"""What the routes share: reading bodies within limits, making answers, turning foreign errors into ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import HTTPResponseStartEvent, Receive, Scope, Send

from farframe.service.frontier import JSON_CONTENT_TYPE, canonical_segments
from farframe.store.database import lacks_room
from farframe.wire.errors import (
    BadRequest,
    InsufficientStorage,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    WireError,
)

log = structlog.get_logger("farframe.service")

AnyRequest = Request[Any, Any, Any]

MAX_JSON_BYTES = 64 * 1024
BODY_SECONDS = 30.0
"""What a small body may take in all."""

BODY_IDLE_SECONDS = 60.0
"""How long an upload may pause."""

NO_STORE: Mapping[str, str] = {"cache-control": "no-store,no-cache", "pragma": "no-cache"}


class ClientGone(Exception):  # noqa: N818 - an event, not an error of ours
    """The caller hung up before its request was complete."""


def path_values(request: AnyRequest, *names: str) -> tuple[str, ...]:
    """The named parts of the path, as canonical segments."""
    return tuple(str(request.path_params[name]) for name in names)


def path_segments(request: AnyRequest) -> list[str]:
    """The canonical segments of the path as it came; the framework drops empty ones, a slash at the end included."""
    return canonical_segments(request.scope["raw_path"])


async def body_chunks(request: AnyRequest) -> AsyncIterator[bytes]:
    """The request's body as it arrives. Raises :class:`ClientGone` if it ends early."""
    while True:
        try:
            async with asyncio.timeout(BODY_IDLE_SECONDS):
                message = await request.receive()
        except TimeoutError:
            raise BadRequest("The request's body did not arrive in time.") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        if message["type"] != "http.request":
            continue
        if message["body"]:
            yield message["body"]
        if not message["more_body"]:
            return


async def read_body(request: AnyRequest, limit: int = MAX_JSON_BYTES) -> bytes:
    """The whole body. Raises :class:`PayloadTooLarge` as soon as it is known to exceed ``limit`` bytes."""
    announced = announced_length(request)
    if announced is not None and announced > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in body_chunks(request):
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise BadRequest("The request's body did not arrive in time.") from None
    return bytes(body)


def announced_length(request: AnyRequest) -> int | None:
    """The length that the request's header announces, in bytes."""
    value = request.headers.get("content-length")
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


class Answer(Response[bytes]):
    """An answer that is complete as it is. The framework's own puts media type, charset, cookies and lengths together
    for each answer, in a fifth of a request's time; here two messages are all there is to make.
    """

    def __init__(self, content: bytes, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        # Not the framework's own: it would make what is not used.
        self.content = content
        self.status_code = self._status = status
        self._content_type = content_type
        self._headers = headers

    def to_asgi_response(self, *_arguments: Any, **_named: Any) -> Any:
        """Itself, which is an ASGI application."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        if self._status not in (204, 304):
            pairs.append((b"content-type", self._content_type.encode("latin-1")))
            pairs.append((b"content-length", b"%d" % len(self.content)))
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": self._status,
            "headers": pairs,
        }
        await send(start)
        await send({"type": "http.response.body", "body": self.content, "more_body": False})


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """An answer with a JSON body."""
    return Answer(msgspec.json.encode(value), status, JSON_CONTENT_TYPE, headers or {})


def empty_response(status: int = 204, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """An answer without a body."""
    return Answer(b"", status, JSON_CONTENT_TYPE, headers or {})


def content_response(
    content: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """An answer with any content. Texts without a charset are in UTF-8."""
    if content_type.startswith("text/") and "charset" not in content_type:
        content_type = f"{content_type}; charset=utf-8"
    return Answer(content, status, content_type, headers or {})


def error_response(error: WireError) -> Response[bytes]:
    """An answer that is an error."""
    return Answer(error.body(), error.status, JSON_CONTENT_TYPE, error.headers)


def on_exception(request: AnyRequest, error: Exception) -> Response[bytes]:
    """The one place where exceptions become answers; nothing of their text gets out unless it is ours."""
    return error_response(_translate(request, error))


def _translate(request: AnyRequest, error: Exception) -> WireError:
    if isinstance(error, WireError):
        return error
    if isinstance(error, ClientGone):
        log.debug("request.abandoned", method=request.method, path=request.scope["path"])
        return BadRequest("The request ended before its body was complete.")
    if isinstance(error, NotFoundException):
        return NotFound("There is nothing at this address. /openapi.json describes what there is.")
    if isinstance(error, MethodNotAllowedException):
        allowed = dict(error.headers or {}).get("allow", "")
        here = " and ".join(allowed.rsplit(", ", 1))
        return MethodNotAllowed(
            f"{request.method} is not allowed here. What is allowed: {here}.", headers={"allow": allowed}
        )
    if isinstance(error, HTTPException) and 400 <= error.status_code < 500:
        return BadRequest("The request was malformed.")
    log.error("request.failed", method=request.method, path=request.scope["path"], exc_info=error)
    if lacks_room(error):
        return InsufficientStorage("The disk of the service's database is full. Ask its operator to make room.")
    return InternalServerError()


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than the {limit} bytes that are allowed here.")
