"""The routes of the contract: the token endpoint and the five session operations."""

from __future__ import annotations

from urllib.parse import quote

from litestar import Response, get, patch, post, put
from litestar.handlers import HTTPRouteHandler

from farframe.auth.roles import Permission
from farframe.auth.secrets import DECOY, account_key_matches
from farframe.auth.tokens import Origin, Role, TokenIssuer
from farframe.service.access import Access, bearer, credentials_of, query_value, valid_id
from farframe.service.addresses import Addresses
from farframe.service.exchange import (
    NO_STORE,
    AnyRequest,
    content_response,
    empty_response,
    json_response,
    path_values,
    read_body,
)
from farframe.service.frontier import JSON_CONTENT_TYPE, decode_segment
from farframe.service.grants import Exchange, Grant
from farframe.service.keyring import JWKS_MAX_AGE_SECONDS, Keyring
from farframe.service.rates import RateLimits
from farframe.service.sessions import SessionEngine
from farframe.store.accounts import AccountStore
from farframe.wire.errors import RateLimited, TokenRefused
from farframe.wire.extensions import AccessToken
from farframe.wire.ids import normalize_account_id
from farframe.wire.sessions import SessionList, parse_create, parse_update


def token_routes(
    access: Access, accounts: AccountStore, issuer: TokenIssuer, limits: RateLimits, exchange: Exchange | None = None
) -> list[HTTPRouteHandler]:
    """``GET /Accounts/{accountId}/token``: an account's key, or an identity provider's token, for one of ours."""

    @get("/accounts/{account:str}/token")
    async def get_token(request: AnyRequest) -> Response[bytes]:
        (account,) = path_values(request, "account")
        # An unknown account, a wrong key and another account's key all look the same, also in time.
        credential = bearer(request) or ""
        account_id = normalize_account_id(decode_segment(account))
        if account_id is not None and exchange is not None and ":" not in credential and credential.count(".") == 2:
            granted = await exchange(account_id, credential)
            if granted is not None and await accounts.get(account_id) is None:
                granted = None
        else:
            granted = await _by_account_key(accounts, account_id, credential)
        if account_id is None or granted is None:
            access.refused(request)
            raise TokenRefused
        credentials_of(request.scope).actor = str(granted.origin)
        # Counted only now: a stranger who knows an account's id must not use up its calls.
        wait = limits.take(account_id, "token")
        if wait:
            raise RateLimited(retry_after_seconds=wait)
        token, _ = issuer.issue(
            account_id, granted.role, lifetime_seconds=granted.lifetime_seconds, origin=granted.origin
        )
        return json_response(AccessToken(access_token=token), headers=NO_STORE)

    return [get_token]


def key_routes(access: Access, keyring: Keyring) -> list[HTTPRouteHandler]:
    """``GET /.well-known/jwks.json``: the public keys of tokens, for anybody who wants to check one."""

    @get("/.well-known/jwks.json")
    async def get_keys(request: AnyRequest) -> Response[bytes]:
        access.public(request)
        headers = {"cache-control": f"public, max-age={JWKS_MAX_AGE_SECONDS}"}
        return content_response(keyring.jwks.encode(), JSON_CONTENT_TYPE, 200, headers)

    return [get_keys]


async def _by_account_key(accounts: AccountStore, account_id: str | None, credential: str) -> Grant | None:
    claimed_id, _, key = credential.partition(":")
    own = account_id is not None and normalize_account_id(claimed_id.strip()) == account_id
    kept = await accounts.keys(account_id or "") if own else []
    # Both keys are always compared, and something even if there is none.
    matches = [row for row in kept if account_key_matches(key, row.hash)]
    if not kept:
        account_key_matches(key, DECOY)
    if not matches:
        return None
    return Grant(Role.ADMINISTRATOR, Origin(matches[0].serial, matches[0].generation))


def session_routes(access: Access, engine: SessionEngine, addresses: Addresses) -> list[HTTPRouteHandler]:
    """Create, get, list, update and stop."""

    @put("/accounts/{account:str}/sessions/{session_id:str}")
    async def create_session(request: AnyRequest) -> Response[bytes]:
        account, session_id = path_values(request, "account", "session_id")
        caller = access.contract(request, account, operation="create")
        name = valid_id(session_id)
        settings = parse_create(await read_body(request))
        session, created = await engine.create(caller.account_id, name, settings)
        return json_response(session, 201 if created else 200)

    @get("/accounts/{account:str}/sessions/{session_id:str}")
    async def get_session(request: AnyRequest) -> Response[bytes]:
        account, session_id = path_values(request, "account", "session_id")
        caller = access.contract(request, account, session_id, operation="get", permission=Permission.READ_SESSIONS)
        return json_response(await engine.get(caller.account_id, valid_id(session_id)), headers=NO_STORE)

    @get("/accounts/{account:str}/sessions")
    async def list_sessions(request: AnyRequest) -> Response[bytes]:
        (account,) = path_values(request, "account")
        caller = access.contract(request, account, operation="list", permission=Permission.READ_SESSIONS)
        sessions, skip_token = await engine.page(caller.account_id, query_value(request, "skiptoken"))
        next_link = None
        if skip_token is not None:
            version = quote(query_value(request, "api-version") or "", safe="")
            base = addresses.base(request.scope)
            next_link = f"{base}/accounts/{caller.account_id}/sessions?api-version={version}&skiptoken={skip_token}"
        return json_response(SessionList(sessions=sessions, next_link=next_link), headers=NO_STORE)

    @patch("/accounts/{account:str}/sessions/{session_id:str}")
    async def update_session(request: AnyRequest) -> Response[bytes]:
        account, session_id = path_values(request, "account", "session_id")
        caller = access.contract(request, account, session_id, operation="update")
        name = valid_id(session_id)
        lease_minutes = parse_update(await read_body(request))
        return json_response(await engine.extend(caller.account_id, name, lease_minutes))

    @post("/accounts/{account:str}/sessions/{session_id:str}/:stop")
    async def stop_session(request: AnyRequest) -> Response[bytes]:
        account, session_id = path_values(request, "account", "session_id")
        caller = access.contract(request, account, session_id, operation="stop", permission=Permission.STOP_SESSIONS)
        await engine.stop(caller.account_id, valid_id(session_id))
        return empty_response(204)

    return [create_session, get_session, list_sessions, update_session, stop_session]
