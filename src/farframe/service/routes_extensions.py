"""Farframe's own routes beside the contract: uploads, the handshake relay, viewer and inspector links."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Iterable
from typing import TypeVar

import httpx
import msgspec
import structlog
from litestar import Response, delete, get, post, put, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from farframe.auth.roles import Permission, covers
from farframe.auth.tokens import Role, TokenIssuer
from farframe.service.access import Access, credentials_of, query_value, valid_id, valid_upload_id
from farframe.service.addresses import Addresses, host_in_url
from farframe.service.clock import Clock, seconds
from farframe.service.exchange import (
    NO_STORE,
    AnyRequest,
    announced_length,
    body_chunks,
    content_response,
    empty_response,
    json_response,
    path_segments,
    path_values,
    read_body,
)
from farframe.service.frontier import decode_segment
from farframe.service.links import TOKEN_LIFETIME_SECONDS, Links
from farframe.service.relays import TurnCredentials
from farframe.service.sessions import SessionEngine
from farframe.service.stream_relay import StreamRelays, upgrade_of
from farframe.service.uploads import Uploads, check_path, listed
from farframe.store.sessions import SessionRow
from farframe.wire.errors import (
    BadGateway,
    BadRequest,
    Conflict,
    NotAllowed,
    NotFound,
    ResourceMissing,
    UpgradeRequired,
)
from farframe.wire.extensions import (
    CreateSessionToken,
    CreateViewerLink,
    IceServers,
    Link,
    RedeemLink,
    SessionToken,
    UploadList,
)
from farframe.wire.ids import is_valid_id
from farframe.wire.sessions import PAGE_SIZE, SessionStatus
from farframe.wire.times import format_utc_time

log = structlog.get_logger("farframe.service")

MAX_OFFER_BYTES = 64 * 1024
MAX_RELAYED_BYTES = 1024 * 1024
MAX_SESSION_TOKEN_MINUTES = 1440
PAGES = {"viewer": "/viewer/", "console": "/"}
"""Where one-time links lead to."""
_RELAYED_HEADERS = ("content-type", "retry-after", "www-authenticate", "link")
T = TypeVar("T")

_RESOURCE_ID = re.compile(r"[A-Za-z0-9_.~-]{1,256}\Z")


def upload_routes(
    access: Access,
    uploads: Uploads,
    addresses: Addresses,
    wake_scheduler: Callable[[], None],
) -> list[HTTPRouteHandler]:
    """Store, list and delete files for render servers to load."""

    @put("/accounts/{account:str}/uploads/{upload_id:str}/{file_path:path}")
    async def put_upload(request: AnyRequest) -> Response[bytes]:
        account, upload_segment = path_values(request, "account", "upload_id")
        caller = access.extension(request, account, permission=Permission.UPLOAD, any_session=True)
        upload_id = valid_upload_id(upload_segment)
        path = check_path([decode_segment(segment) for segment in path_segments(request)[4:]])
        stored = await uploads.put(caller.account_id, upload_id, path, body_chunks(request), announced_length(request))
        wake_scheduler()
        return json_response(stored.file, 201 if stored.created else 200)

    @get("/accounts/{account:str}/uploads")
    async def list_uploads(request: AnyRequest) -> Response[bytes]:
        (account,) = path_values(request, "account")
        caller = access.extension(request, account, permission=Permission.UPLOAD)
        rows, more = await uploads.page(
            caller.account_id, _decode_position(query_value(request, "skiptoken")), PAGE_SIZE
        )
        next_link = None
        if more:
            token = _encode_position((rows[-1].stored_at, rows[-1].upload_id, rows[-1].path))
            next_link = f"{addresses.base(request.scope)}/accounts/{caller.account_id}/uploads?skiptoken={token}"
        answer = UploadList(
            uploads=[listed(row) for row in rows],
            used_bytes=await uploads.used_bytes(caller.account_id),
            quota_bytes=await uploads.quota_bytes(caller.account_id),
            next_link=next_link,
        )
        return json_response(answer, headers=NO_STORE)

    @delete("/accounts/{account:str}/uploads/{upload_id:str}", status_code=200)
    async def delete_upload(request: AnyRequest) -> Response[bytes]:
        account, upload_segment = path_values(request, "account", "upload_id")
        caller = access.extension(request, account, permission=Permission.UPLOAD)
        await uploads.delete(caller.account_id, valid_upload_id(upload_segment))
        return empty_response(204)

    return [put_upload, list_uploads, delete_upload]


def relay_routes(access: Access, engine: SessionEngine, client: httpx.AsyncClient) -> list[HTTPRouteHandler]:
    """The WHEP handshake through this service, so that a browser needs one origin only."""

    async def relay(request: AnyRequest, method: str, row: SessionRow, rest: str, body: bytes) -> Response[bytes]:
        facts = engine.server_of(row)
        if facts is None:
            raise _not_ready(row)
        headers = {
            name: request.headers[name]
            for name in ("authorization", "content-type", "accept", "farframe-resume")
            if name in request.headers
        }
        try:
            answer = await client.request(method, f"{facts.relay_url}/whep{rest}", content=body, headers=headers)
        except httpx.HTTPError as error:
            log.warning("relay.failed", session=row.id, server=facts.server_id, error=type(error).__name__)
            raise BadGateway(
                "The session's render server did not answer. Ask for the session's status, then try again."
            ) from None
        kept = {name: answer.headers[name] for name in _RELAYED_HEADERS if name in answer.headers}
        location = answer.headers.get("location")
        if location is not None:
            # Wherever the server says the resource is: for the caller it is here.
            resource = httpx.URL(location).path.rstrip("/").rpartition("/")[2]
            if _RESOURCE_ID.match(resource):
                kept["location"] = f"/accounts/{row.account_id}/sessions/{row.id}/whep/{resource}"
        content = answer.content if len(answer.content) <= MAX_RELAYED_BYTES else b""
        content_type = kept.pop("content-type", "application/octet-stream")
        return content_response(content, content_type, answer.status_code, kept)

    async def find(request: AnyRequest, permission: Permission) -> SessionRow:
        account, session_segment = path_values(request, "account", "session_id")
        caller = access.extension(request, account, session_segment, permission=permission)
        return await _find(engine, caller.account_id, session_segment)

    @route(
        "/accounts/{account:str}/sessions/{session_id:str}/whep",
        http_method=[HttpMethod.POST, HttpMethod.OPTIONS],
        status_code=200,
    )
    async def post_offer(request: AnyRequest) -> Response[bytes]:
        if request.method == HttpMethod.OPTIONS:
            return empty_response(204, {"allow": "POST, OPTIONS", "accept-post": "application/sdp"})
        watch = query_value(request, "watch") is not None
        # Who may watch and asks to drive is told so by the render server, in its own words.
        row = await find(request, Permission.WATCH)
        return await relay(request, "POST", row, "?watch" if watch else "", await read_body(request, MAX_OFFER_BYTES))

    @delete("/accounts/{account:str}/sessions/{session_id:str}/whep/{resource_id:str}", status_code=200)
    async def delete_resource(request: AnyRequest) -> Response[bytes]:
        row = await find(request, Permission.WATCH)
        (resource,) = path_values(request, "resource_id")
        if not _RESOURCE_ID.match(resource):
            raise BadRequest("The id of the connection is malformed.")
        return await relay(request, "DELETE", row, f"/{resource}", b"")

    @delete("/accounts/{account:str}/sessions/{session_id:str}/whep", status_code=200)
    async def give_up(request: AnyRequest) -> Response[bytes]:
        return await relay(request, "DELETE", await find(request, Permission.RENDER), "", b"")

    return [post_offer, delete_resource, give_up]


def stream_routes(
    access: Access,
    engine: SessionEngine,
    relays: StreamRelays,
    tls: Callable[[str], tuple[ssl.SSLContext | None, str]],
    cors_origins: Iterable[str],
) -> list[HTTPRouteHandler]:
    """The whole stream through this service, over one WebSocket: for networks that let only HTTPS through."""
    origins = frozenset(cors_origins)

    @get("/accounts/{account:str}/sessions/{session_id:str}/stream")
    async def open_stream(request: AnyRequest) -> Response[bytes]:
        account, session_segment = path_values(request, "account", "session_id")
        # Pages of other sites can open WebSockets wherever they like; what holds for requests shall hold for these.
        origin = request.headers.get("origin")
        if origin is not None and origin not in origins and not _is_own(origin, request.headers.get("host", "")):
            raise NotAllowed("Pages of this origin may not use this service; the operator names those that may.")
        caller = access.extension(request, account, session_segment, permission=Permission.WATCH)
        row = await _find(engine, caller.account_id, session_segment)
        upgrade = upgrade_of(request.scope)
        if upgrade is None:
            raise UpgradeRequired("This address speaks WebSocket: ask for an upgrade.")
        facts = engine.server_of(row)
        if facts is None:
            raise _not_ready(row)
        url = httpx.URL(facts.relay_url)
        upgrade.session_id = row.id
        upgrade.host, upgrade.port = url.host, url.port or 443
        upgrade.tls, upgrade.server_name = tls(url.host)
        upgrade.give_back = relays.take(caller.account_id)
        return empty_response(101)

    return [open_stream]


def ice_routes(
    access: Access, engine: SessionEngine, credentials: TurnCredentials, clock: Clock
) -> list[HTTPRouteHandler]:
    """TURN servers, and what opens them for a while, for whoever may open the session."""

    @get("/accounts/{account:str}/sessions/{session_id:str}/ice")
    async def show_ice_servers(request: AnyRequest) -> Response[bytes]:
        account, session_segment = path_values(request, "account", "session_id")
        caller = access.extension(request, account, session_segment, permission=Permission.WATCH)
        row = await _find(engine, caller.account_id, session_segment)
        if SessionStatus(row.status).final:
            raise _not_ready(row)
        now = int(seconds(clock))
        servers, expires = credentials.issue(caller.account_id, row.id, now, int(caller.claims.expires_at) - now)
        told = None if expires is None else format_utc_time(expires * 1_000_000)
        return json_response(IceServers(ice_servers=servers, expires_at=told), headers=NO_STORE)

    return [show_ice_servers]


def _is_own(origin: str, host: str) -> bool:
    """Whether a page of that origin came from where it now calls."""
    return bool(host) and origin.partition("://")[2].lower() == host.lower()


def link_routes(
    access: Access,
    engine: SessionEngine,
    links: Links,
    issuer: TokenIssuer,
    addresses: Addresses,
    clock: Clock,
) -> list[HTTPRouteHandler]:
    """One-time links for the viewer, links into a session's inspector."""

    @post("/accounts/{account:str}/viewer-links")
    async def create_viewer_link(request: AnyRequest) -> Response[bytes]:
        (account,) = path_values(request, "account")
        caller = access.extension(request, account, permission=Permission.MANAGE_ACCOUNT)
        body = await read_body(request)
        wanted = _decode(body, CreateViewerLink) if body.strip() else CreateViewerLink()
        if wanted.session_id is not None:
            if not is_valid_id(wanted.session_id):
                raise BadRequest("The sessionId value must be the id of a session.")
            await _find(engine, caller.account_id, wanted.session_id)
        if wanted.role not in (Role.CLIENT, Role.VIEWER):
            raise BadRequest("The role value must be Client or Viewer.")
        if wanted.page not in PAGES:
            raise BadRequest("The page value must be viewer or console.")
        if wanted.page == "console" and (wanted.session_id is not None or wanted.role != Role.CLIENT):
            raise BadRequest("The console is for the whole account: a link to it has no sessionId and the role Client.")
        code, expires_at = await links.create(
            caller.account_id, wanted.session_id, role=Role(wanted.role), origin=caller.claims.origin
        )
        url = f"{addresses.for_browser(request.scope)}{PAGES[wanted.page]}#link={code}"
        return json_response(Link(url=url, expires_at=format_utc_time(expires_at)), 201, NO_STORE)

    @post("/viewer-links/redeem")
    async def redeem_viewer_link(request: AnyRequest) -> Response[bytes]:
        wanted = _decode(await read_body(request), RedeemLink)
        client = request.scope.get("client")
        redeemed = await links.redeem(wanted.code, client[0] if client else "", addresses.base(request.scope))
        credentials_of(request.scope).actor = f"link:{redeemed.account_id}"
        return json_response(redeemed, headers=NO_STORE)

    @post("/accounts/{account:str}/sessions/{session_id:str}/inspector-link")
    async def create_inspector_link(request: AnyRequest) -> Response[bytes]:
        account, session_segment = path_values(request, "account", "session_id")
        caller = access.extension(request, account, session_segment, permission=Permission.DIAGNOSE)
        row = await _find(engine, caller.account_id, session_segment)
        facts = engine.server_of(row)
        if facts is None:
            raise _not_ready(row)
        # A link never lives longer than the token that it was asked for with.
        lifetime = min(TOKEN_LIFETIME_SECONDS, int(caller.claims.expires_at - seconds(clock)))
        token, expires_at = issuer.issue(
            caller.account_id,
            Role.CLIENT,
            session_id=row.id,
            lifetime_seconds=lifetime,
            origin=caller.claims.origin,
        )
        url = f"https://{host_in_url(facts.hostname)}:{facts.inspector_port}/#token={token}"
        return json_response(Link(url=url, expires_at=format_utc_time(expires_at * 1_000_000)), 201, NO_STORE)

    @post("/accounts/{account:str}/sessions/{session_id:str}/token")
    async def create_session_token(request: AnyRequest) -> Response[bytes]:
        account, session_segment = path_values(request, "account", "session_id")
        caller = access.extension(request, account, session_segment, permission=Permission.SHARE)
        body = await read_body(request)
        wanted = _decode(body, CreateSessionToken) if body.strip() else CreateSessionToken()
        role = _shared_role(wanted.role, caller.claims.role)
        if not 1 <= wanted.minutes <= MAX_SESSION_TOKEN_MINUTES:
            raise BadRequest(f"The minutes value must be from 1 to {MAX_SESSION_TOKEN_MINUTES}.")
        row = await _find(engine, caller.account_id, session_segment)
        if SessionStatus(row.status).final:
            raise Conflict(f"The session has ended ({row.status}). Create another session.", code="SessionEnded")
        # A token never yields one that outlives it.
        lifetime = min(wanted.minutes * 60, int(caller.claims.expires_at - seconds(clock)))
        token, expires_at = issuer.issue(
            caller.account_id, role, session_id=row.id, lifetime_seconds=lifetime, origin=caller.claims.origin
        )
        answer = SessionToken(
            access_token=token,
            account_id=caller.account_id,
            session_id=row.id,
            role=role.value,
            expires_at=format_utc_time(expires_at * 1_000_000),
            endpoint=addresses.base(request.scope),
        )
        return json_response(answer, 201, NO_STORE)

    return [create_viewer_link, redeem_viewer_link, create_inspector_link, create_session_token]


def _shared_role(name: str | None, own: Role) -> Role:
    """The role of a session token: a client's or a viewer's, and no more than one's own."""
    if name is None:
        return Role.CLIENT if covers(own, Role.CLIENT) else Role.VIEWER
    if name not in (Role.CLIENT, Role.VIEWER):
        raise BadRequest("The role value must be Client or Viewer.")
    if not covers(own, Role(name)):
        raise NotAllowed(f"A token of the role {own} cannot make one of the role {name}.")
    return Role(name)


async def _find(engine: SessionEngine, account_id: str, session_segment: str) -> SessionRow:
    name = valid_id(session_segment)
    try:
        return await engine.row(account_id, name)
    except ResourceMissing:
        raise NotFound(f"There is no session {name}.", code="SessionNotFound") from None


def _not_ready(row: SessionRow) -> Conflict:
    advice = "Wait until it is Ready." if row.status == "Starting" else "Create another session."
    return Conflict(f"The session has no render server; its status is {row.status}. {advice}", code="SessionNotReady")


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        # The decoder names members and types, never values.
        raise BadRequest(f"The request body is not valid: {error}.") from None


def _encode_position(position: tuple[int, str, str]) -> str:
    """A page token of unreserved characters only: HTTP clients rewrite the others."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode("ascii").rstrip("=")


def _decode_position(token: str | None) -> tuple[int, str, str] | None:
    if token is None:
        return None
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=tuple[int, str, str])
    except (ValueError, UnicodeError, msgspec.DecodeError):
        raise BadRequest("The skiptoken value is not valid. Follow @nextLink as it is.") from None
