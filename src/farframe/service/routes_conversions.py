"""The contract's conversion operations: create, get, list; and the progress of one. All need Administrator."""

from __future__ import annotations

from urllib.parse import quote

from litestar import Response, get, put
from litestar.handlers import HTTPRouteHandler

from farframe.auth.roles import Permission
from farframe.service.access import Access, query_value, valid_id
from farframe.service.addresses import Addresses
from farframe.service.conversions import ConversionEngine
from farframe.service.exchange import NO_STORE, AnyRequest, json_response, path_values, read_body
from farframe.wire.conversions import ConversionList, parse_conversion
from farframe.wire.errors import BadRequest, NotFound
from farframe.wire.ids import is_valid_id


def conversion_routes(access: Access, engine: ConversionEngine, addresses: Addresses) -> list[HTTPRouteHandler]:
    """Create, get and list. There is neither a delete nor a cancel."""

    @put("/accounts/{account:str}/conversions/{conversion_id:str}")
    async def create_conversion(request: AnyRequest) -> Response[bytes]:
        account, conversion_id = path_values(request, "account", "conversion_id")
        caller = access.contract(request, account, operation="convert", permission=Permission.CONVERT)
        name = valid_id(conversion_id, "conversion")
        wanted = parse_conversion(await read_body(request))
        conversion, created = await engine.create(caller.account_id, name, wanted)
        return json_response(conversion, 201 if created else 200)

    @get("/accounts/{account:str}/conversions/{conversion_id:str}")
    async def get_conversion(request: AnyRequest) -> Response[bytes]:
        account, conversion_id = path_values(request, "account", "conversion_id")
        caller = access.contract(request, account, operation="get", permission=Permission.READ_CONVERSIONS)
        conversion = await engine.get(caller.account_id, valid_id(conversion_id, "conversion"))
        return json_response(conversion, headers=NO_STORE)

    @get("/accounts/{account:str}/conversions")
    async def list_conversions(request: AnyRequest) -> Response[bytes]:
        (account,) = path_values(request, "account")
        caller = access.contract(request, account, operation="list", permission=Permission.READ_CONVERSIONS)
        conversions, skip_token = await engine.page(caller.account_id, query_value(request, "skiptoken"))
        next_link = None
        if skip_token is not None:
            version = quote(query_value(request, "api-version") or "", safe="")
            base = addresses.base(request.scope)
            next_link = f"{base}/accounts/{caller.account_id}/conversions?api-version={version}&skiptoken={skip_token}"
        # Unlike the list of sessions it says null on the last page, and may be kept.
        return json_response(ConversionList(conversions=conversions, next_link=next_link))

    @get("/accounts/{account:str}/conversions/{conversion_id:str}/progress")
    async def get_progress(request: AnyRequest) -> Response[bytes]:
        account, conversion_id = path_values(request, "account", "conversion_id")
        caller = access.extension(request, account, permission=Permission.READ_CONVERSIONS)
        if not is_valid_id(conversion_id):
            raise BadRequest("The id of the conversion is malformed.")
        progress = await engine.progress(caller.account_id, conversion_id)
        if progress is None:
            raise NotFound("There is no conversion of that id.")
        return json_response(progress, headers=NO_STORE)

    return [create_conversion, get_conversion, list_conversions, get_progress]
