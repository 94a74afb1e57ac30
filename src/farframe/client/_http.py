"""HTTP to the service and to render servers: the token, retries, and the one place that translates HTTP's errors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from farframe import __version__
from farframe.client.connection_file import ConnectionInfo
from farframe.client.errors import (
    AuthenticationError,
    ConflictError,
    FarframeClientError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ServiceError,
    ServiceUnreachableError,
    TooManyRequestsError,
)
from farframe.client.ways import Memory
from farframe.wire.errors import ErrorDetail, ErrorResponse
from farframe.wire.extensions import AccessToken

API_VERSION = "2021-01-01"
MAX_ATTEMPTS = 4
FIRST_RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 10.0
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
TOKEN_MARGIN_SECONDS = 120.0
"""A token with less time left is replaced before the next request."""

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
MAX_ERROR_BODY_BYTES = 64 * 1024

BodyFactory = Callable[[], AsyncIterator[bytes]]
"""Makes the body anew for each attempt."""


class _TokenClaims(msgspec.Struct):
    exp: float


def translate(error: httpx.HTTPError | httpx.InvalidURL, url: str) -> ServiceUnreachableError:
    """The error for a request that got no usable answer."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ServiceUnreachableError(
                f"The certificate of {where} is not trusted: {cause.verify_message}.",
                next_step="Let caBundle in the connection file name the service's own ca.pem.",
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return ServiceUnreachableError(
            f"{where} did not answer in time.", next_step="Check that the service runs and the network reaches it."
        )
    if isinstance(error, httpx.ConnectError):
        return ServiceUnreachableError(
            f"Nothing answers at {where}.",
            next_step="Start the service with `farframe up`, or check the address in the connection file.",
        )
    what = str(error).rstrip(".") or type(error).__name__
    return ServiceUnreachableError(f"The conversation with {where} broke: {what}.", next_step="Try again.")


_KINDS: Mapping[int, tuple[type[ServiceError], str]] = {
    400: (InvalidRequestError, ""),
    401: (AuthenticationError, "Check accountId and accountKey in the connection file."),
    403: (PermissionDeniedError, "Use a connection file of the account that owns it."),
    404: (NotFoundError, "Check the id; `farframe session list` shows what is running."),
    409: (ConflictError, "Choose another id, or the same settings."),
    413: (InvalidRequestError, "Send a smaller file, or ask the operator for a higher limit."),
    422: (InvalidRequestError, ""),
    429: (TooManyRequestsError, "Wait a moment and try again."),
    507: (InvalidRequestError, ""),
}

_PHRASES: Mapping[int, str] = {
    401: "The service does not accept this account's key or token.",
    403: "The account may not do that.",
    404: "It does not exist.",
    429: "The service is asked too often.",
}


def error_of(response: httpx.Response, what: str) -> ServiceError:
    """The error for an answer of 400 and above; ``what`` says what was tried, as in "The session demo"."""
    status = response.status_code
    detail = ErrorDetail(code="", message="")
    if response.content and len(response.content) <= MAX_ERROR_BODY_BYTES:
        # A proxy in between may answer with a page of its own.
        with contextlib.suppress(msgspec.DecodeError, UnicodeError):
            detail = msgspec.json.decode(response.content, type=ErrorResponse).error
    kind, step = _KINDS.get(status, (ServiceError, "See the service's log." if status >= 500 else ""))
    message = detail.message or _PHRASES.get(status, f"The service answered with status {status}.")
    if status == 404 and not detail.message and what:
        message = f"{what} does not exist."
    if kind is TooManyRequestsError:
        return TooManyRequestsError(
            message, status=status, code=detail.code, next_step=step, retry_after_seconds=retry_after(response)
        )
    return kind(message, status=status, code=detail.code, next_step=step)


def retry_after(response: httpx.Response) -> float | None:
    """Whole seconds of a ``Retry-After`` header, or ``None``."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None


def token_expiry(token: str) -> float | None:
    """When a JSON web token expires, seconds since the epoch, or ``None`` if it does not say. Nothing is verified."""
    parts = token.split(".")
    if len(parts) < 3:
        return None
    payload = parts[1].replace("-", "+").replace("_", "/")
    try:
        claims = base64.b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(claims, type=_TokenClaims, strict=False).exp
    except (ValueError, msgspec.DecodeError):
        return None


@dataclass(slots=True)
class ServiceHttp:
    """Requests to one service with one account. ``sleep``, ``clock`` and ``jitter`` are injected by tests.

    Requests that may safely be sent twice are tried up to :data:`MAX_ATTEMPTS` times; others only when the connection
    could not be made at all. A 401 drops the cached token and is tried once with a fresh one.
    """

    connection: ConnectionInfo
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    transport: httpx.AsyncBaseTransport | None = None
    ways: Memory = field(default_factory=Memory, repr=False)
    http: httpx.AsyncClient = field(init=False, repr=False)
    _former: list[httpx.AsyncClient] = field(init=False, repr=False)
    _token: str = field(init=False, default="", repr=False)
    _token_expires: float = field(init=False, default=0.0)
    _token_lock: asyncio.Lock = field(init=False, default_factory=asyncio.Lock, repr=False)

    def __post_init__(self) -> None:
        self.http = self._new_client()
        self._former = []

    def _new_client(self) -> httpx.AsyncClient:
        # A proxy in the environment is for the world outside, never for this machine itself.
        direct: dict[str, None] = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
        return httpx.AsyncClient(
            verify=self.connection.ssl_context(),
            timeout=TIMEOUT,
            headers={"User-Agent": f"farframe/{__version__}", "Accept": "application/json"},
            mounts=direct,
            transport=self.transport,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.http.aclose()
        await self._close_former()

    async def begin_anew(self) -> None:
        """Make new connections from now on: after the network has changed the idle ones lead nowhere, and who asks over
        one of them waits in vain. What is under way is left alone until this is called again."""
        await self._close_former()
        self._former.append(self.http)
        self.http = self._new_client()

    async def _close_former(self) -> None:
        former, self._former = self._former, []
        for client in former:
            await client.aclose()

    def account_url(self, path: str, **query: str) -> str:
        """The URL of ``path`` below this account, with the API's version."""
        account = quote(self.connection.account_id, safe="")
        parameters = httpx.QueryParams({"api-version": API_VERSION, **query})
        return f"{self.connection.endpoint}/accounts/{account}/{path}?{parameters}"

    async def token(self) -> str:
        """A token with some time left; fetched at most once at a time. Raises AuthenticationError and the like."""
        if self.connection.access_token:
            return self.connection.access_token
        async with self._token_lock:
            if self._token and self.clock() < self._token_expires - TOKEN_MARGIN_SECONDS:
                return self._token
            connection = self.connection
            url = f"{connection.sts_endpoint}/Accounts/{quote(connection.account_id, safe='')}/token"
            pair = f"Bearer {connection.account_id}:{connection.account_key}"
            response = await self._attempt("GET", url, headers={"Authorization": pair}, idempotent=True)
            if response.status_code != 200:
                raise error_of(response, f"The account {connection.account_id}")
            try:
                token = msgspec.json.decode(response.content, type=AccessToken).access_token
            except (msgspec.DecodeError, UnicodeError) as error:
                raise ServiceError(
                    "The token endpoint answered with something that is no token.",
                    status=200,
                    next_step="Check stsEndpoint in the connection file.",
                ) from error
            self._token = token
            self._token_expires = token_expiry(token) or self.clock() + 2 * TOKEN_MARGIN_SECONDS
            return token

    def forget_token(self, token: str) -> None:
        """Drop a token that was refused, unless it has been replaced meanwhile."""
        if self._token == token:
            self._token = ""

    async def request(
        self,
        method: str,
        url: str,
        *,
        what: str = "",
        json: Any = None,
        content: bytes | None = None,
        body: BodyFactory | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: httpx.Timeout | None = None,
        accept_errors: bool = False,
        attempts: int = MAX_ATTEMPTS,
    ) -> httpx.Response:
        """Send a request with this account's token and return its answer; try at most ``attempts`` times.

        Raises ServiceError for 400 and above unless ``accept_errors``, ServiceUnreachableError without an answer.
        """
        if idempotent is None:
            idempotent = method in ("GET", "HEAD", "PUT", "DELETE")
        sent = dict(headers or {})
        if json is not None:
            content = msgspec.json.encode(json)
            sent["Content-Type"] = "application/json"
        for last in (False, True):
            token = await self.token()
            sent["Authorization"] = f"Bearer {token}"
            response = await self._attempt(
                method,
                url,
                headers=sent,
                content=content,
                body=body,
                idempotent=idempotent,
                timeout=timeout,
                attempts=attempts,
            )
            if response.status_code != 401 or last or self.connection.access_token:
                break
            self.forget_token(token)
        if response.status_code >= 400 and not accept_errors:
            raise error_of(response, what)
        return response

    async def _attempt(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        idempotent: bool,
        content: bytes | None = None,
        body: BodyFactory | None = None,
        timeout: httpx.Timeout | None = None,
        attempts: int = MAX_ATTEMPTS,
    ) -> httpx.Response:
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            wait = min(FIRST_RETRY_SECONDS * 2 ** (attempt - 1), MAX_RETRY_SECONDS) * (0.5 + self.jitter() / 2)
            try:
                response = await self.http.request(
                    method, url, headers=headers, content=body() if body else content, timeout=timeout or TIMEOUT
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if last or not _may_repeat(error, idempotent):
                    raise translate(error, url) from error
            else:
                if last or not idempotent or response.status_code not in TRANSIENT_STATUSES:
                    return response
                wait = min(retry_after(response) or wait, MAX_RETRY_SECONDS)
            await self.sleep(wait)
        raise FarframeClientError("The request was not sent.")  # pragma: no cover - the loop always returns or raises


def _may_repeat(error: httpx.HTTPError | httpx.InvalidURL, idempotent: bool) -> bool:
    """Whether the same request may be sent again after it got no answer."""
    if isinstance(error, httpx.ConnectError):
        # Nothing listens: the next attempt finds the same. A broken handshake or a name that does not resolve, too.
        return False
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return True
    return idempotent and isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)
