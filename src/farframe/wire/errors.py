"""The error tree of the REST interface: one exception per answer, each with its HTTP status and its stable code.

    WireError                      status  code                     body
    -----------------------------  ------  -----------------------  ---------------------------------------
    BadRequest                     400     BadRequest               what is wrong with the request
    ApiVersionUnspecified          400     ApiVersionUnspecified    no ``api-version``
    UnsupportedApiVersion          400     UnsupportedApiVersion    an ``api-version`` that is not served
    TokenRefused                   401     (none)                   token endpoint: wrong account or key
    Unauthorized                   401     (none)                   no valid access token; with a challenge
    Unauthenticated                401     Unauthorized             the same, on an extension: with a body
    Forbidden                      403     (none)                   a valid token of another account
    NotAllowed                     403     Forbidden                a valid token without the right
    DelegatedResourceAccessError   403     DelegatedResourceAccessError  a conversion's storage is not accessible
    QuotaExceeded                  403     QuotaExceeded and others one of the account's limits does not allow it
    ResourceMissing                404     (none)                   no session or conversion of that id
    NotFound                       404     NotFound and others      no such route, upload or link
    MethodNotAllowed               405     MethodNotAllowed
    Conflict                       409     Conflict and others      the id is taken by other settings
    Gone                           410     LinkUsed, LinkExpired    a one-time link that cannot be used again
    PayloadTooLarge                413     PayloadTooLarge, UploadQuotaExceeded, ...
    UnprocessableEntity            422     UnprocessableEntity      a lease that is not larger
    TooManyRequests                429     TooManyRequests          with ``Retry-After``
    RateLimited                    429     (none)                   the same, on a route of the contract
    InternalServerError            500     InternalServerError
    BadGateway                     502     RenderServerUnreachable  the session's server did not answer the relay
    InsufficientStorage            507     InsufficientStorage      the disk is full

The hosted service described some answers without a body; those have none here either. Only :class:`TooManyRequests`
and its kin carry ``Retry-After``: the official clients retry every status that has it.
"""

# ruff: noqa: N818 - each class is named after the answer that it is

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class ErrorDetail(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error object: ``code`` and ``message`` always, the rest only where there is something to say."""

    code: str
    message: str
    details: list[ErrorDetail] | None = None
    target: str | None = None
    inner_error: ErrorDetail | None = msgspec.field(default=None, name="innerError")


class ErrorResponse(msgspec.Struct, kw_only=True):
    """The body of an error answer: ``{"error": {...}}``."""

    error: ErrorDetail


class WireError(Exception):
    """An answer that is an error. ``code`` empty means: an answer without a body."""

    status: int = 500
    code: str = "InternalServerError"

    def __init__(self, message: str = "", *, code: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> bytes:
        """The JSON body, or nothing."""
        if not self.code:
            return b""
        return msgspec.json.encode(ErrorResponse(error=ErrorDetail(code=self.code, message=self.message)))


class BadRequest(WireError):
    """The request is malformed."""

    status = 400
    code = "BadRequest"


class ApiVersionUnspecified(WireError):
    """The query parameter ``api-version`` is missing."""

    status = 400
    code = "ApiVersionUnspecified"

    def __init__(self) -> None:
        super().__init__("An API version is required, but was not specified.")


class UnsupportedApiVersion(WireError):
    """An ``api-version`` that is not served."""

    status = 400
    code = "UnsupportedApiVersion"

    def __init__(self, supported: str) -> None:
        super().__init__(f"The requested api-version is not supported. Use one of: {supported}.")


class TokenRefused(WireError):
    """The token endpoint's 401, which carries neither body nor challenge."""

    status = 401
    code = ""


class Unauthorized(WireError):
    """No valid access token, on a route of the contract."""

    status = 401
    code = ""

    def __init__(self) -> None:
        super().__init__(headers={"www-authenticate": 'Bearer error="invalid_token"'})


class Unauthenticated(WireError):
    """No valid access token, on a route of our own, where a body may explain it."""

    status = 401
    code = "Unauthorized"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": 'Bearer error="invalid_token"'})


class Forbidden(WireError):
    """A valid token that is for another account or another session, on a route of the contract."""

    status = 403
    code = ""


class NotAllowed(WireError):
    """A valid token without the right to do this, on a route of our own."""

    status = 403
    code = "Forbidden"


class DelegatedResourceAccessError(WireError):
    """A conversion's storage cannot be accessed: no signature, and the storage account is not linked."""

    status = 403
    code = "DelegatedResourceAccessError"

    def __init__(self) -> None:
        super().__init__(
            "Error accessing connected storage account due to insufficient permissions. Check if the Mixed Reality "
            "resource has correct permissions assigned. Send a shared access signature for each container, or have "
            "the operator link the storage account."
        )


class QuotaExceeded(WireError):
    """One of the account's limits does not allow it; asking again changes nothing, hence neither 429 nor a retry."""

    status = 403
    code = "QuotaExceeded"


class ResourceMissing(WireError):
    """There is no session or conversion of that id."""

    status = 404
    code = ""


class NotFound(WireError):
    """There is nothing at that address."""

    status = 404
    code = "NotFound"


class MethodNotAllowed(WireError):
    """The address exists, the method does not."""

    status = 405
    code = "MethodNotAllowed"


class Conflict(WireError):
    """The resource's state does not allow this."""

    status = 409
    code = "Conflict"


class Gone(WireError):
    """It existed and cannot be used again."""

    status = 410
    code = "Gone"


class PayloadTooLarge(WireError):
    """The body is larger than allowed."""

    status = 413
    code = "PayloadTooLarge"


class UnprocessableEntity(WireError):
    """The update is well formed and not allowed."""

    status = 422
    code = "UnprocessableEntity"


class UpgradeRequired(WireError):
    """The address speaks WebSocket, not HTTP."""

    status = 426
    code = "UpgradeRequired"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Upgrade": "websocket"})


class TooManyRequests(WireError):
    """Slow down. ``Retry-After`` in whole seconds."""

    status = 429
    code = "TooManyRequests"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message, headers={"retry-after": str(max(1, retry_after_seconds))})


class RateLimited(TooManyRequests):
    """The same on a route of the contract, which describes it without a body."""

    code = ""

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__("", retry_after_seconds=retry_after_seconds)


class InternalServerError(WireError):
    """Something unexpected happened; the log tells what."""

    status = 500
    code = "InternalServerError"

    def __init__(self) -> None:
        super().__init__("An internal server error occurred.")


class BadGateway(WireError):
    """The session's render server did not answer."""

    status = 502
    code = "RenderServerUnreachable"


class InsufficientStorage(WireError):
    """The disk is full."""

    status = 507
    code = "InsufficientStorage"
