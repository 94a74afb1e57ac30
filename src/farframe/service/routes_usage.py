"""Usage and prices: an account's own for its administrator, everybody's for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from farframe.service.access import Access, query_value
from farframe.service.exchange import NO_STORE, AnyRequest, json_response, path_values, read_body
from farframe.service.metering import Metering
from farframe.wire.errors import BadRequest
from farframe.wire.usage import NewPrice, PriceList

OperatorCheck = Callable[[AnyRequest], Awaitable[object]]
"""Raises the refusal of a caller who is no operator."""


def usage_routes(access: Access, metering: Metering) -> list[HTTPRouteHandler]:
    """``GET /accounts/{account}/usage``."""

    @get("/accounts/{account:str}/usage")
    async def get_usage(request: AnyRequest) -> Response[bytes]:
        (account,) = path_values(request, "account")
        caller = access.extension(request, account)
        return json_response(await _report(metering, request, caller.account_id), headers=NO_STORE)

    return [get_usage]


def operator_usage_routes(operator: OperatorCheck, metering: Metering, prefix: str) -> list[HTTPRouteHandler]:
    """``GET usage`` of all accounts, ``GET prices`` and ``POST prices`` below ``prefix``."""

    @get(f"{prefix}/usage")
    async def get_all_usage(request: AnyRequest) -> Response[bytes]:
        await operator(request)
        return json_response(await _report(metering, request, None), headers=NO_STORE)

    @get(f"{prefix}/prices")
    async def get_prices(request: AnyRequest) -> Response[bytes]:
        await operator(request)
        return json_response(PriceList(prices=await metering.prices()), headers=NO_STORE)

    @post(f"{prefix}/prices")
    async def add_price(request: AnyRequest) -> Response[bytes]:
        await operator(request)
        try:
            new = msgspec.json.decode(await read_body(request), type=NewPrice)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise BadRequest(f"The price cannot be read: {error}.") from None
        return json_response(await metering.add_price(new), 201)

    return [get_all_usage, get_prices, add_price]


async def _report(metering: Metering, request: AnyRequest, account_id: str | None) -> object:
    return await metering.report(
        account_id, query_value(request, "from"), query_value(request, "to"), query_value(request, "by")
    )
