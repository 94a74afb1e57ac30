"""The operators' interface: accounts, their keys, the audit log. Guarded by an operator's token, never by an account's.

POST   /operator/accounts                              a new account with both keys
GET    /operator/accounts                              all of them, 50 a page
GET    /operator/accounts/{account}                    one
DELETE /operator/accounts/{account}                    end it
POST   /operator/accounts/{account}/keys/{n}/regenerate
POST   /operator/accounts/{account}/revoke-tokens
GET    /operator/audit                                 who did what, newest first
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import msgspec
from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler

from farframe.service.access import Access, credentials_of, query_value
from farframe.service.accounts import Accounts
from farframe.service.addresses import Addresses
from farframe.service.exchange import NO_STORE, AnyRequest, empty_response, json_response, path_values, read_body
from farframe.service.frontier import decode_segment
from farframe.store.audit import AuditRow, AuditStore
from farframe.wire.errors import BadRequest
from farframe.wire.ids import normalize_account_id
from farframe.wire.operators import AccountList, AuditList, AuditRecord, CreateAccount
from farframe.wire.sessions import PAGE_SIZE
from farframe.wire.times import format_utc_time

OPERATOR_PREFIX = "/operator"
AUDIT_PAGE_SIZE = 200
_MICROSECONDS = 1_000_000

T = TypeVar("T")


def operator_routes(
    access: Access, accounts: Accounts, audit: AuditStore, addresses: Addresses
) -> list[HTTPRouteHandler]:
    """Manage accounts, read the audit log."""

    def link(request: AnyRequest, path: str, query: dict[str, str]) -> str:
        words = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return f"{addresses.base(request.scope)}{OPERATOR_PREFIX}/{path}?{words}"

    @post(f"{OPERATOR_PREFIX}/accounts")
    async def create_account(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        wanted = _decode(await read_body(request), CreateAccount)
        account = await accounts.create(wanted.name, wanted.account_id)
        credentials_of(request.scope).account_id = account.account_id
        return json_response(account, 201, NO_STORE)

    @get(f"{OPERATOR_PREFIX}/accounts")
    async def list_accounts(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        page, following = await accounts.page(_position(query_value(request, "skiptoken")), PAGE_SIZE)
        next_link = None
        if following is not None:
            next_link = link(request, "accounts", {"skiptoken": f"{following[0]}-{following[1]}"})
        return json_response(AccountList(accounts=page, next_link=next_link), headers=NO_STORE)

    @get(f"{OPERATOR_PREFIX}/accounts/{{account:str}}")
    async def get_account(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        return json_response(await accounts.get(_account(request)), headers=NO_STORE)

    @delete(f"{OPERATOR_PREFIX}/accounts/{{account:str}}", status_code=200)
    async def delete_account(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        await accounts.delete(_account(request))
        return empty_response(204)

    @post(f"{OPERATOR_PREFIX}/accounts/{{account:str}}/keys/{{serial:str}}/regenerate")
    async def regenerate_key(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        (serial,) = path_values(request, "serial")
        number = int(serial) if serial in ("1", "2") else 0
        return json_response(await accounts.regenerate_key(_account(request), number), headers=NO_STORE)

    @post(f"{OPERATOR_PREFIX}/accounts/{{account:str}}/revoke-tokens")
    async def revoke_tokens(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        await accounts.revoke_tokens(_account(request))
        return empty_response(204)

    @get(f"{OPERATOR_PREFIX}/audit")
    async def read_audit(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        account = query_value(request, "account")
        account_id = normalize_account_id(account) if account else None
        if account and account_id is None:
            raise BadRequest("The account value must be the id of an account.")
        rows = await audit.page(
            before_id=_number(query_value(request, "skiptoken")),
            account_id=account_id,
            action=query_value(request, "action") or None,
            since=_moment(query_value(request, "from"), "from"),
            until=_moment(query_value(request, "to"), "to"),
            count=AUDIT_PAGE_SIZE + 1,
        )
        page = rows[:AUDIT_PAGE_SIZE]
        next_link = None
        if len(rows) > AUDIT_PAGE_SIZE:
            kept = {name: query_value(request, name) for name in ("account", "action", "from", "to")}
            query = {name: value for name, value in kept.items() if value}
            next_link = link(request, "audit", {**query, "skiptoken": str(page[-1].id)})
        return json_response(AuditList(records=[_record(row) for row in page], next_link=next_link), headers=NO_STORE)

    return [
        create_account,
        list_accounts,
        get_account,
        delete_account,
        regenerate_key,
        revoke_tokens,
        read_audit,
    ]


def _account(request: AnyRequest) -> str:
    (account,) = path_values(request, "account")
    return decode_segment(account)


def _record(row: AuditRow) -> AuditRecord:
    return AuditRecord(
        id=row.id,
        time=format_utc_time(row.at),
        actor=row.actor,
        role=row.role,
        action=row.action,
        outcome=row.outcome,
        account_id=row.account_id,
        target=row.target,
        correlation=row.correlation,
        address=row.address,
    )


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadRequest(f"The request body is not valid: {error}.") from None


def _position(token: str | None) -> tuple[int, str] | None:
    if token is None:
        return None
    moment, _, account = token.partition("-")
    account_id = normalize_account_id(account)
    if not (moment.isascii() and moment.isdigit() and len(moment) <= 18) or account_id is None:
        raise BadRequest("The skiptoken value is not valid. Follow @nextLink as it is.")
    return int(moment), account_id


def _number(token: str | None) -> int | None:
    if token is None:
        return None
    if not (token.isascii() and token.isdigit() and len(token) <= 18):
        raise BadRequest("The skiptoken value is not valid. Follow @nextLink as it is.")
    return int(token)


def _moment(text: str | None, name: str) -> int | None:
    """A time in ISO 8601 in microseconds since 1970 UTC; without an offset it is UTC."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * _MICROSECONDS)
    except (ValueError, OverflowError):
        raise BadRequest(f"The {name} value must be a date or time like 2026-05-01 or 2026-05-01T08:00:00Z.") from None
