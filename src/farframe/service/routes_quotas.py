"""Accounts' limits: shown to their administrators, shown to and set by operators."""

from __future__ import annotations

import msgspec
from litestar import Response, get, put
from litestar.handlers import HTTPRouteHandler

from farframe.auth.roles import Permission
from farframe.service.access import Access
from farframe.service.accounts import Accounts
from farframe.service.exchange import NO_STORE, AnyRequest, json_response, path_values, read_body
from farframe.service.frontier import decode_segment
from farframe.service.quotas import Quotas
from farframe.wire.errors import BadRequest
from farframe.wire.quotas import QuotaReport, SetQuotas

_MAX_VALUE = 2**53 - 1
"""The largest integer that every JSON reader takes."""


def quota_routes(access: Access, quotas: Quotas, accounts: Accounts) -> list[HTTPRouteHandler]:
    """``GET .../quotas`` for an account's administrators, ``GET`` and ``PUT`` for operators."""

    async def report(account_id: str) -> Response[bytes]:
        answer = QuotaReport(
            account_id=account_id, quotas=await quotas.of(account_id), own=sorted(await quotas.own(account_id))
        )
        return json_response(answer, headers=NO_STORE)

    async def known(request: AnyRequest) -> str:
        (account,) = path_values(request, "account")
        return (await accounts.get(decode_segment(account))).account_id

    @get("/accounts/{account:str}/quotas")
    async def get_quotas(request: AnyRequest) -> Response[bytes]:
        (account,) = path_values(request, "account")
        caller = access.extension(request, account, permission=Permission.MANAGE_ACCOUNT)
        return await report(caller.account_id)

    @get("/operator/accounts/{account:str}/quotas")
    async def get_account_quotas(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        return await report(await known(request))

    @put("/operator/accounts/{account:str}/quotas")
    async def set_account_quotas(request: AnyRequest) -> Response[bytes]:
        await access.operator(request)
        account_id = await known(request)
        try:
            wanted = msgspec.json.decode(await read_body(request), type=SetQuotas)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadRequest(f"The request body is not valid: {error}.") from None
        try:
            # All or nothing: a name that does not exist must not leave half of them set.
            for name, value in wanted.quotas.items():
                quotas.check(name, value)
                if value is not None and value > _MAX_VALUE:
                    raise ValueError(f"a quota is at most {_MAX_VALUE}")
        except ValueError as error:
            text = str(error)
            raise BadRequest(f"{text[:1].upper()}{text[1:]}.") from None
        for name, value in wanted.quotas.items():
            await quotas.set(account_id, name, value)
        return await report(account_id)

    return [get_quotas, get_account_quotas, set_account_quotas]
