"""Who calls, and what may they do: bearer tokens on the way in.

What a role may do is in :mod:`farframe.auth.roles`; a token with a session id may do so with that session only. Routes
of the contract answer refusals without a body, as described; our own explain them.

Each request goes through :meth:`Access.prepare` before its route: what takes a look into the store happens there, so
that the checks of the routes themselves never wait. A request that did not go through it has no credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farframe.auth.roles import Permission, may
from farframe.auth.secrets import MAX_SECRET_LENGTH, OPERATOR_PREFIX, account_key_matches
from farframe.auth.tokens import Role, TokenClaims, TokenVerifier
from farframe.protocol.errors import FarframeError
from farframe.service.exchange import AnyRequest
from farframe.service.frontier import decode_segment
from farframe.service.rates import RateLimits
from farframe.service.revocation import Revocations
from farframe.store.accounts import OperatorStore
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


@dataclass(slots=True)
class Credentials:
    """What is known of a request's caller, for its route and for the audit log. ``problem`` says why ``claims`` are
    missing; ``operator`` names the data folder that an operator's token was made for."""

    problem: str = "An access token is required: send it as Authorization: Bearer TOKEN."
    claims: TokenClaims | None = None
    token: str = field(default="", repr=False)
    revoked: bool = False
    operator: str | None = None
    actor: str | None = None
    """Set by routes that let somebody in by other means: who it was, for the audit log."""
    account_id: str | None = None
    """Set by routes whose path does not name the account that something was done to."""


CREDENTIALS = "farframe_credentials"
"""Where a request's scope keeps them."""


def credentials_of(scope: Mapping[str, Any]) -> Credentials:
    """What is known of the caller of a request."""
    found = scope.get(CREDENTIALS)
    return found if isinstance(found, Credentials) else Credentials()


class Access:
    """Checks callers. Authentication comes before validation: strangers learn nothing about what exists."""

    def __init__(
        self,
        verifier: TokenVerifier,
        limits: RateLimits,
        revocations: Revocations,
        operators: OperatorStore,
        strangers: RateLimits | None = None,
    ) -> None:
        """``strangers`` counts callers by address, apart from ``limits``, whose accounts they must not push out."""
        self._verifier = verifier
        self._limits = limits
        self._strangers = strangers or limits
        self._revocations = revocations
        self._operators = operators

    async def prepare(self, request: AnyRequest) -> None:
        """Find out who calls: before the route, for every request."""
        known = request.scope.get(CREDENTIALS)
        credentials = known if isinstance(known, Credentials) else Credentials()
        request.scope[CREDENTIALS] = credentials  # type: ignore[literal-required]
        token = bearer(request)
        if token is None or token.startswith(OPERATOR_PREFIX):
            return
        try:
            claims = self._verifier.verify(token)
        except FarframeError as error:
            credentials.problem = str(error)
            return
        credentials.claims, credentials.token = claims, token
        credentials.revoked = not await self._revocations.allows(claims)

    async def operator(self, request: AnyRequest) -> str:
        """The data folder that the operator's token was made for. Raises :class:`Unauthenticated` for all others."""
        token = bearer(request) or ""
        found = None
        if token.startswith(OPERATOR_PREFIX) and len(token) <= MAX_SECRET_LENGTH:
            for name, kept in (await self._operators.token_hashes()).items():
                if account_key_matches(token, kept):
                    found = name
        if found is None:
            self.refused(request, body=True)
            raise Unauthenticated("This is for operators: send the operatorToken of operator.json as a bearer token.")
        credentials_of(request.scope).operator = found
        wait = self._limits.take(found, "operator")
        if wait:
            raise TooManyRequests(
                f"This operator calls the service too often. Try again in {wait} s.", retry_after_seconds=wait
            )
        return found

    def public(self, request: AnyRequest) -> None:
        """Count a call of a route that asks for no credential. Raises :class:`TooManyRequests`."""
        self._stranger(request, "public", body=True)

    def refused(self, request: AnyRequest, *, body: bool = False) -> None:
        """Count a wrong credential; a right one from the same address is not held up by it. Raises
        :class:`RateLimited`, or :class:`TooManyRequests` where the answer is to have a ``body``.
        """
        self._stranger(request, "refused", body=body)

    def _stranger(self, request: AnyRequest, operation: str, *, body: bool) -> None:
        client = request.scope.get("client")
        wait = self._strangers.take(client[0] if client else "", operation)
        if wait and body:
            raise TooManyRequests(
                f"Too many such calls come from your address. Try again in {wait} s.", retry_after_seconds=wait
            )
        if wait:
            raise RateLimited(retry_after_seconds=wait)

    def contract(
        self,
        request: AnyRequest,
        account: str,
        session: str | None = None,
        *,
        operation: str,
        permission: Permission = Permission.MANAGE_SESSIONS,
    ) -> Caller:
        """A caller of a route of the contract, whose ``api-version`` is checked as well.

        ``session`` is the session in the path, as a canonical segment; ``operation`` names the rate limit that the call
        counts towards; ``permission`` is what the caller's role must have. Raises bodiless 401, 403 and 429 answers.
        """
        caller = self._caller(request, account, session, lambda _message: Unauthorized(), Forbidden)
        if not may(caller.claims.role, permission):
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
        permission: Permission = Permission.MANAGE_ACCOUNT,
        any_session: bool = False,
    ) -> Caller:
        """A caller of a route of our own. ``permission`` is what the caller's role must have; with
        ``any_session`` a token for one session is good enough on a route that names none.
        """
        caller = self._caller(request, account, session, Unauthenticated, NotAllowed, any_session=any_session)
        if not may(caller.claims.role, permission):
            roles = " or ".join(role.value for role in Role if may(role, permission))
            raise NotAllowed(f"This needs a token of the role {roles}; this one has the role {caller.claims.role}.")
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
        credentials = credentials_of(request.scope)
        claims = credentials.claims
        if claims is None:
            raise unauthenticated(credentials.problem)
        if normalize_account_id(decode_segment(account)) != claims.account_id:
            raise forbidden("The access token is for another account.")
        if credentials.revoked:
            raise unauthenticated("The access token has been revoked. Get a new one from the token endpoint.")
        if claims.session_id is not None and not any_session:
            if session is None:
                raise forbidden("The access token is for one session only.")
            if decode_segment(session) != claims.session_id:
                raise forbidden("The access token is for another session.")
        return Caller(account_id=claims.account_id, claims=claims, token=credentials.token)


def bearer(request: AnyRequest) -> str | None:
    """What follows ``Bearer`` in the Authorization header, if there is exactly one such header."""
    values = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, rest = values[0].decode("latin-1").partition(" ")
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
