"""Who calls, and what may they do: bearer tokens on the way in.

A token of role Administrator may do everything with its account; one of role Client may run, watch and use sessions and
upload files; one with a session id may do so with that session only. Routes of the contract answer refusals without a
body, as described; our own explain them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from farframe.auth.tokens import Role, TokenClaims, TokenVerifier
from farframe.protocol.errors import FarframeError
from farframe.service.exchange import AnyRequest
from farframe.service.frontier import decode_segment
from farframe.service.rates import RateLimits
from farframe.wire.errors import (
    ApiVersionUnspecified,
    BadRequest,
    Forbidden,
    NotAllowed,
    RateLimited,
    TooManyRequests,
    Unauthenticated,
    Unauthorized,
    UnsupportedApiVersion,
    WireError,
)
from farframe.wire.ids import is_valid_id, normalize_account_id
from farframe.wire.versions import API_VERSIONS

MAX_UPLOAD_ID_LENGTH = 128
"""An upload id is the host part of a URI, which takes less than other ids."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller who may do what the route does. ``token`` is theirs, for passing on to a render server."""

    account_id: str
    claims: TokenClaims
    token: str


class Access:
    """Checks callers. Authentication comes before validation: strangers learn nothing about what exists."""

    def __init__(self, verifier: TokenVerifier, limits: RateLimits) -> None:
        self._verifier = verifier
        self._limits = limits

    def contract(
        self,
        request: AnyRequest,
        account: str,
        session: str | None = None,
        *,
        operation: str,
        administrator: bool = False,
    ) -> Caller:
        """A caller of a route of the contract, whose ``api-version`` is checked as well.

        ``session`` is the session in the path, as a canonical segment; ``operation`` names the rate limit that the call
        counts towards; ``administrator`` asks for that role. Raises bodiless 401, 403 and 429 answers.
        """
        caller = self._caller(request, account, session, lambda _message: Unauthorized(), Forbidden)
        if administrator and caller.claims.role is not Role.ADMINISTRATOR:
            raise Forbidden
        wait = self._limits.take(caller.account_id, operation)
        if wait:
            raise RateLimited(retry_after_seconds=wait)
        version = _query(request, "api-version")
        if not version:
            raise ApiVersionUnspecified
        if version not in API_VERSIONS:
            raise UnsupportedApiVersion(", ".join(API_VERSIONS))
        return caller

    def extension(
        self,
        request: AnyRequest,
        account: str,
        session: str | None = None,
        *,
        administrator: bool = False,
        any_session: bool = False,
    ) -> Caller:
        """A caller of a route of our own. ``administrator`` asks for that role; with ``any_session`` a token for one
        session is good enough on a route that names none.
        """
        caller = self._caller(request, account, session, Unauthenticated, NotAllowed, any_session=any_session)
        if administrator and caller.claims.role is not Role.ADMINISTRATOR:
            raise NotAllowed("This needs a token of the role Administrator, which account keys yield.")
        wait = self._limits.take(caller.account_id, "other")
        if wait:
            raise TooManyRequests(
                f"The account calls this service too often. Try again in {wait} s.", retry_after_seconds=wait
            )
        return caller

    def _caller(
        self,
        request: AnyRequest,
        account: str,
        session: str | None,
        unauthenticated: Callable[[str], WireError],
        forbidden: Callable[[str], WireError],
        *,
        any_session: bool = False,
    ) -> Caller:
        token = bearer(request)
        if token is None:
            raise unauthenticated("An access token is required: send it as Authorization: Bearer TOKEN.")
        try:
            claims = self._verifier.verify(token)
        except FarframeError as error:
            raise unauthenticated(str(error)) from None
        if normalize_account_id(decode_segment(account)) != claims.account_id:
            raise forbidden("The access token is for another account.")
        if claims.session_id is not None and not any_session:
            if session is None:
                raise forbidden("The access token is for one session only.")
            if decode_segment(session) != claims.session_id:
                raise forbidden("The access token is for another session.")
        return Caller(account_id=claims.account_id, claims=claims, token=token)


def bearer(request: AnyRequest) -> str | None:
    """What follows ``Bearer`` in the Authorization header, if there is exactly one such header."""
    values = request.headers.getall("authorization", [])
    if len(values) != 1:
        return None
    scheme, _, rest = values[0].partition(" ")
    credential = rest.strip()
    return credential if scheme.lower() == "bearer" and credential else None


def valid_id(segment: str, what: str = "session") -> str:
    """The id in a canonical path segment. Raises :class:`BadRequest` for one that breaks the rules."""
    value = decode_segment(segment)
    if not is_valid_id(value):
        raise BadRequest(f"The {what} id must be 1 to 256 characters of A-Z, a-z, 0-9, '_' and '-'.")
    return value


def valid_upload_id(segment: str) -> str:
    """The upload id in a canonical path segment. Raises :class:`BadRequest`."""
    value = decode_segment(segment)
    if not is_valid_id(value) or len(value) > MAX_UPLOAD_ID_LENGTH:
        raise BadRequest(f"The upload id must be 1 to {MAX_UPLOAD_ID_LENGTH} characters of A-Z, a-z, 0-9, '_' and '-'.")
    return value


def query_value(request: AnyRequest, name: str) -> str | None:
    """A query parameter."""
    return _query(request, name)


def _query(request: AnyRequest, name: str) -> str | None:
    # Names in any case, as the hosted service took them.
    return next((value for key, value in request.query_params.multi_items() if key.lower() == name), None)
