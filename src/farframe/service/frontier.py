"""The outermost layer around the web framework: what must hold for every answer, whatever made it.

request                                    answer
-----------------------------------------  ---------------------------------------------------------------
the path is split *before* it is decoded,  MS-CV and X-Content-Type-Options on every one,
so that %2F in an id stays in the id;      api-supported-versions on the data plane;
fixed parts match in any letter case       cross-origin headers for configured origins only;
                                           no body of the framework's or of the HTTP server's own
"""

from __future__ import annotations

import base64
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from urllib.parse import quote, unquote

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from farframe.wire.errors import InternalServerError, WireError
from farframe.wire.versions import SUPPORTED_VERSIONS_HEADER

log = structlog.get_logger("farframe.service")
_standard_log = logging.getLogger("farframe.service")
"""Asked by itself for its level: for a line that nobody wants that is ten times as fast."""

JSON_CONTENT_TYPE = "application/json; charset=utf-8"

_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*\Z")
"""A segment that is the same encoded and decoded."""

_FIXED_SEGMENTS = frozenset(
    {
        "accounts",
        "token",
        "sessions",
        "conversions",
        ":stop",
        "whep",
        "stream",
        "ice",
        "progress",
        "inspector-link",
        "uploads",
        "viewer-links",
        "quotas",
        "redeem",
        "usage",
        "health",
        "regions",
        "latency",
        "live",
        "ready",
    }
)
_EXTENSIONS_OF_A_SESSION = frozenset({"whep", "stream", "ice", "inspector-link", "token", "progress"})
_CORS_METHODS = b"GET, PUT, PATCH, POST, DELETE, OPTIONS"
_CORS_REQUEST_HEADERS = b"Authorization, Content-Type, Farframe-Resume, X-MRC-CV, x-ms-client-request-id"
_CORS_EXPOSED = b"MS-CV, Location, Retry-After, api-supported-versions, WWW-Authenticate"
_CORS_SECONDS = b"600"

RequestObserver = Callable[[str, Sequence[str], int, float], None]
"""Told of each answered request: method, canonical segments, status, seconds."""

RequestTracing = Callable[[HTTPScope, Sequence[str], str, Callable[[], int]], AbstractContextManager[None]]
"""Made for each request from its scope, canonical segments, correlation vector and a look at the status so far."""

RequestAudit = Callable[[HTTPScope, Sequence[str], int, str], Awaitable[None]]
"""Told of each request before its answer begins: scope, canonical segments, status, correlation vector."""


def new_correlation_vector() -> str:
    """A value for ``MS-CV``: 16 random bytes as base64 without padding, and ``.0``."""
    return base64.b64encode(os.urandom(16)).decode("ascii").rstrip("=") + ".0"


def canonical_segments(raw_path: bytes) -> list[str]:
    """The segments of a raw path, fixed parts in lower case, the others encoded in one canonical way.

    A segment is decoded on its own and encoded again, so that none can hold a slash; :func:`decode_segment` gives back
    what the caller meant.
    """
    segments = raw_path.decode("latin-1").split("/")
    while segments and not segments[0]:
        segments.pop(0)
    result: list[str] = []
    for position, segment in enumerate(segments):
        plain = _PLAIN.match(segment) is not None
        decoded = segment if plain else unquote(segment, errors="surrogateescape")
        lower = decoded.lower()
        # Only where a fixed part can stand: accounts/{id}/sessions/{id}/:stop. An upload's path is left alone.
        fixed = lower in _FIXED_SEGMENTS and position % 2 == 0 and position <= 4
        fixed = fixed or (lower in ("redeem", "live", "ready") and position == 1)
        if fixed and not (position == 4 and result[2] == "uploads"):
            result.append(lower)
        else:
            result.append(decoded if plain else quote(decoded, safe="", errors="surrogateescape"))
    return result


def decode_segment(segment: str) -> str:
    """The text of a canonical segment. Bytes that are no UTF-8 come out as lone surrogates."""
    return unquote(segment, errors="surrogateescape") if "%" in segment else segment


def is_data_plane(segments: list[str]) -> bool:
    """Whether the path belongs to the data plane of the contract, rather than to the token endpoint or an extension."""
    if len(segments) < 3 or segments[0] != "accounts" or segments[2] not in ("sessions", "conversions"):
        return False
    return len(segments) < 5 or segments[4] not in _EXTENSIONS_OF_A_SESSION


class Frontier:
    """Wraps the application. Handles HTTP only; the service begins and ends elsewhere."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        cors_origins: Iterable[str] = (),
        observe: RequestObserver | None = None,
        audit: RequestAudit | None = None,
    ) -> None:
        self._app = app
        self._observe = observe
        self._tracing: RequestTracing | None = None
        self._audit = audit
        self._cors_origins = frozenset(origin.encode("ascii") for origin in cors_origins)

    def trace_with(self, tracing: RequestTracing) -> None:
        """Let each request from now on run inside such a context."""
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            return
        await self._serve(scope, receive, send)

    async def _serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        scope["raw_path"] = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        segments = canonical_segments(scope["raw_path"])
        scope["path"] = "/" + "/".join(segments)
        vector = new_correlation_vector()
        # Each request has a task and so a context of its own; what it starts inherits it. Every line of the log that
        # belongs to the request can be found by what the caller has in hand.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(ms_cv=vector)
        headers: list[tuple[bytes, bytes]] = [
            (b"ms-cv", vector.encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
        ]
        if is_data_plane(segments):
            headers.append((b"api-supported-versions", SUPPORTED_VERSIONS_HEADER.encode("ascii")))
        origin = self._allowed_origin(scope)
        if origin is not None:
            headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _CORS_EXPOSED),
                (b"vary", b"Origin"),
            ]
        status = 0
        begun_to_answer = False

        async def guarded_send(message: Message) -> None:
            nonlocal status, begun_to_answer
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._audit is not None:
                    await self._audit(scope, segments, status, vector)
                kept = _kept_headers(status, message.get("headers", []))
                # Routes that are open to every origin say so themselves; browsers refuse to be told twice.
                told = {name.lower() for name, _ in kept}
                message["headers"] = [
                    *kept,
                    *(pair for pair in headers if pair[0] != b"access-control-allow-origin" or pair[0] not in told),
                ]
                begun_to_answer = True
            await send(message)

        try:
            if origin is not None and scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method"):
                await _send_preflight(guarded_send)
            elif self._tracing is not None:
                with self._tracing(scope, segments, vector, lambda: status):
                    await self._app(scope, receive, guarded_send)
            else:
                await self._app(scope, receive, guarded_send)
        except Exception as error:
            if not isinstance(error, WireError):
                log.exception("request.failed", method=scope["method"], path=scope["path"])
                error = InternalServerError()
            if begun_to_answer:
                raise  # the answer has begun; closing the connection is all that is left
            await send_error(error, guarded_send)
        finally:
            elapsed = time.perf_counter() - begun
            if self._observe is not None:
                self._observe(scope["method"], segments, status, elapsed)
            if _standard_log.isEnabledFor(logging.DEBUG):
                log.debug(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    milliseconds=round(elapsed * 1000, 1),
                )

    def _allowed_origin(self, scope: Scope) -> bytes | None:
        if not self._cors_origins:
            return None
        origin = _header(scope, b"origin")
        return origin if origin in self._cors_origins else None


async def send_error(error: WireError, send: Send) -> None:
    """Send an error as the answer."""
    body = error.body()
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    if body:
        headers.append((b"content-type", JSON_CONTENT_TYPE.encode("ascii")))
    headers.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", _CORS_METHODS),
        (b"access-control-allow-headers", _CORS_REQUEST_HEADERS),
        (b"access-control-max-age", _CORS_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _kept_headers(status: int, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without what an answer must not have: 204 and 304 carry no length, nothing has no type, and only 429 carries
    ``Retry-After``, because official clients repeat whatever does, also what a render server answered through us."""
    pairs = list(headers)
    bodiless = status in (204, 304)
    empty = bodiless or any(name.lower() == b"content-length" and value == b"0" for name, value in pairs)
    dropped = ({b"content-type"} if empty else set()) | ({b"content-length"} if bodiless else set())
    if status != 429:
        dropped.add(b"retry-after")
    return [(name, value) for name, value in pairs if name.lower() not in dropped]


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


__all__ = [
    "JSON_CONTENT_TYPE",
    "Frontier",
    "canonical_segments",
    "decode_segment",
    "is_data_plane",
    "new_correlation_vector",
    "send_error",
]
