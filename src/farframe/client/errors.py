"""What can go wrong for a caller of this package.

    FarframeClientError
    ├── ConnectionFileError            the connection file is missing, unreadable or wrong
    ├── LocalFileError                 a local model cannot be read or sent
    ├── ServiceUnreachableError        no answer: wrong address, not running, not trusted, timed out
    ├── ServiceError                   the service answered with an error: .status, .code
    │   ├── InvalidRequestError        400, 413, 422
    │   ├── AuthenticationError        401
    │   ├── PermissionDeniedError      403
    │   ├── NotFoundError              404
    │   ├── ConflictError              409
    │   └── TooManyRequestsError       429: .retry_after_seconds
    ├── SessionFailedError             a session ended before it was ready: .session_status, .code
    └── RuntimeConnectionError         between device and render server: .result, .retryable
        ├── HandshakeError             the connection could not be made
        ├── RequestError               the render server refused or failed a request
        ├── RequestTimeoutError        the render server did not answer in time
        ├── ConnectionLostError        the render server went silent
        └── SessionEndedError          the session was stopped or expired, or the server said goodbye: .reason

``str(error)`` is one sentence about what happened and one about what to do next. Foreign errors (HTTP, TLS, JSON)
are translated in one place each: ``_http`` for REST and the handshake, ``_rpc`` for the control channel. The
original stays reachable as ``__cause__``. No error ever carries a key or a token.
"""

from __future__ import annotations

from typing import Self

from farframe.protocol.errors import RETRYABLE, Result


class FarframeClientError(Exception):
    """Base of all errors of this package. ``message`` says what happened, ``next_step`` what to do about it."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()


class ConnectionFileError(FarframeClientError):
    """The connection file is missing, unreadable or holds something else."""


class LocalFileError(FarframeClientError):
    """A local file does not exist, cannot be read or written, or refers to files that may not be sent."""


class ServiceUnreachableError(FarframeClientError):
    """The service did not answer, or its certificate is not trusted."""


class ServiceError(FarframeClientError):
    """The service answered with an error: ``status`` is the HTTP status, ``code`` the stable name of the error."""

    def __init__(self, message: str, *, status: int, code: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.status = status
        self.code = code


class InvalidRequestError(ServiceError):
    """The service refused the request's values."""


class AuthenticationError(ServiceError):
    """The account key is wrong, or the token is no longer accepted."""


class PermissionDeniedError(ServiceError):
    """The account may not do that."""


class NotFoundError(ServiceError):
    """What was asked for does not exist."""


class ConflictError(ServiceError):
    """It exists already with other settings, or is in use."""


class TooManyRequestsError(ServiceError):
    """The service asks for patience; ``retry_after_seconds`` says for how long, if it said so."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        next_step: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, next_step=next_step)
        self.retry_after_seconds = retry_after_seconds


class SessionFailedError(FarframeClientError):
    """A session ended, or did not become ready in time. ``session_status`` as in ``Session.status``."""

    def __init__(self, message: str, *, session_status: str, code: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.session_status = session_status
        self.code = code


class RuntimeConnectionError(FarframeClientError):
    """Something between this device and its render server; ``result`` is the stable name of what happened."""

    def __init__(self, result: Result, message: str, *, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.result = result

    @property
    def retryable(self) -> bool:
        """Whether the same call can succeed later without any change by the caller."""
        return self.result in RETRYABLE

    def again(self) -> Self:
        """The same error as a new object: one that is raised in several places must not share its traceback."""
        return type(self)(self.result, self.message, next_step=self.next_step)


class HandshakeError(RuntimeConnectionError):
    """The connection could not be made."""


class RequestError(RuntimeConnectionError):
    """The render server refused or failed a request."""


class RequestTimeoutError(RuntimeConnectionError):
    """The render server did not answer a request in time."""


class ConnectionLostError(RuntimeConnectionError):
    """The render server has not been heard for too long, or the connection broke."""


class SessionEndedError(RuntimeConnectionError):
    """The server ended the connection. ``reason`` is ``SessionStopped``, ``SessionExpired`` or another result."""

    @property
    def reason(self) -> Result:
        """Why the connection ended."""
        return self.result
