"""The interface description served at ``/openapi.json``: the contract's routes and our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from farframe import __version__
from farframe.service.access import Access
from farframe.service.description_page import STYLE, render
from farframe.service.exchange import AnyRequest, content_response, json_response
from farframe.wire import conversions, extensions, operators, quotas, regions, sessions, usage
from farframe.wire.errors import ErrorResponse
from farframe.wire.versions import API_VERSIONS

_SHAPES: tuple[Any, ...] = (
    sessions.Session,
    sessions.SessionList,
    sessions.CreateSession,
    sessions.UpdateSession,
    conversions.Conversion,
    conversions.ConversionList,
    conversions.ConversionProgress,
    conversions.CreateConversion,
    extensions.AccessToken,
    extensions.UploadedFile,
    extensions.UploadList,
    extensions.CreateSessionToken,
    extensions.SessionToken,
    extensions.CreateViewerLink,
    extensions.IceServers,
    extensions.Link,
    extensions.RedeemLink,
    extensions.RedeemedLink,
    regions.RegionList,
    usage.UsageReport,
    usage.NewPrice,
    usage.Price,
    usage.PriceList,
    quotas.QuotaReport,
    quotas.SetQuotas,
    operators.CreateAccount,
    operators.Account,
    operators.AccountKey,
    operators.AccountList,
    operators.AuditList,
    ErrorResponse,
)

_PARAMETERS: dict[str, dict[str, Any]] = {
    "account_id": {"in": "path", "schema": {"type": "string", "format": "uuid"}},
    "accountId": {"in": "path", "schema": {"type": "string", "format": "uuid"}},
    "session_id": {"in": "path", "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"}},
    "conversion_id": {"in": "path", "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"}},
    "serial": {"in": "path", "schema": {"enum": ["1", "2"]}, "description": "1 primary, 2 secondary."},
    "upload_id": {"in": "path", "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}},
    "path": {"in": "path", "schema": {"type": "string"}, "description": "May hold slashes."},
    "resource_id": {"in": "path", "schema": {"type": "string"}},
}
_VERSION = {"name": "api-version", "in": "query", "required": True, "schema": {"enum": list(API_VERSIONS)}}
_SKIP_TOKEN = {"name": "skiptoken", "in": "query", "schema": {"type": "string"}}

_WATCH = {
    "name": "watch",
    "in": "query",
    "schema": {"type": "string"},
    "description": "If it is there: watch what the driving device sees.",
}

_FROM = {"name": "from", "in": "query", "schema": {"type": "string"}, "description": "A date or time, UTC."}
_TO = {"name": "to", "in": "query", "schema": {"type": "string"}, "description": "A date or time, UTC."}
_BY = {"name": "by", "in": "query", "schema": {"type": "string"}, "description": "Like day,size."}

_CONTRACT, _OWN, _OPERATOR, _SERVICE = "contract", "extension", "operator", "service"


_LIMITED: dict[str, Any] = {
    "description": "Too many requests; no body.",
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Whole seconds."}},
}
_LIMITED_WITH_BODY: dict[str, Any] = {
    **_LIMITED,
    "description": "Too many requests.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
}
_REFUSED: dict[str, Any] = {
    "description": "Without a body: the token is not for this. With one: a limit of the account, or storage that "
    "cannot be accessed.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
}


def describe() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    _, components = msgspec.json.schema_components(_SHAPES, ref_template="#/components/schemas/{name}")
    sdp = {"application/sdp": {"schema": {"type": "string"}}}
    session = "/accounts/{account_id}/sessions/{session_id}"
    paths: dict[str, dict[str, Any]] = {
        "/Accounts/{accountId}/token": {
            "get": _operation(
                "getToken",
                "An access token of 24 hours for an account's key. The path is matched in any letter case.",
                {"200": _json("AccessToken"), "401": "Not this account's key.", "429": _LIMITED},
                tag="token",
                security=[{"accountKey": []}],
            )
        },
        "/accounts/{account_id}/sessions": {
            "get": _operation(
                "listSessions",
                "Sessions in Starting or Ready, oldest first, 50 a page.",
                {"200": _json("SessionList"), "400": _json("ErrorResponse"), "401": None, "403": None, "429": _LIMITED},
                extra=[_SKIP_TOKEN],
            )
        },
        session: {
            "put": _operation(
                "createSession",
                "Lease a render server. The same id with the same settings gives the session that is there.",
                {
                    "200": _json("Session"),
                    "201": _json("Session"),
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": _REFUSED,
                    "409": _json("ErrorResponse"),
                    "429": _LIMITED,
                },
                body=_content("CreateSession"),
            ),
            "get": _operation(
                "getSession",
                "A session in any status.",
                {
                    "200": _json("Session"),
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": None,
                    "404": None,
                    "429": _LIMITED,
                },
            ),
            "patch": _operation(
                "updateSession",
                "Set a longer total lease.",
                {
                    "200": _json("Session"),
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": _REFUSED,
                    "404": None,
                    "422": _json("ErrorResponse"),
                    "429": _LIMITED,
                },
                body=_content("UpdateSession"),
            ),
        },
        f"{session}/:stop": {
            "post": _operation(
                "stopSession",
                "End a session.",
                {
                    "204": "Stopped.",
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": None,
                    "404": None,
                    "429": _LIMITED,
                },
            )
        },
        "/accounts/{account_id}/conversions": {
            "get": _operation(
                "listConversions",
                "Conversions in every status, oldest first, 50 a page. Needs the role Administrator.",
                {
                    "200": _json("ConversionList"),
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": None,
                    "429": _LIMITED,
                },
                extra=[_SKIP_TOKEN],
            )
        },
        "/accounts/{account_id}/conversions/{conversion_id}": {
            "put": _operation(
                "createConversion",
                "Convert an asset. The same id with the same settings, signatures aside, gives the one that is there.",
                {
                    "200": _json("Conversion"),
                    "201": _json("Conversion"),
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": _REFUSED,
                    "409": _json("ErrorResponse"),
                    "429": _LIMITED,
                },
                body=_content("CreateConversion"),
            ),
            "get": _operation(
                "getConversion",
                "A conversion in any status.",
                {
                    "200": _json("Conversion"),
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": None,
                    "404": None,
                    "429": _LIMITED,
                },
            ),
        },
        "/accounts/{account_id}/conversions/{conversion_id}/progress": {
            "get": _operation(
                "getConversionProgress",
                "How far a conversion is.",
                {"200": _json("ConversionProgress"), **_errors("400", "401", "403", "404", "429")},
                tag=_OWN,
            )
        },
        f"{session}/token": {
            "post": _operation(
                "createSessionToken",
                "A short-lived token for this session only, so that a device never holds the account's rights.",
                {"201": _json("SessionToken"), **_errors("400", "401", "403", "404", "409", "429")},
                tag=_OWN,
                body=_content("CreateSessionToken", required=False),
            )
        },
        "/accounts/{account_id}/usage": {
            "get": _operation(
                "getUsage",
                "What the account used and what it costs, by day and size.",
                {"200": _json("UsageReport"), **_errors("400", "401", "403", "429")},
                tag=_OWN,
                extra=[_FROM, _TO, _BY],
            )
        },
        "/accounts/{account_id}/quotas": {
            "get": _operation(
                "getQuotas",
                "The account's limits.",
                {"200": _json("QuotaReport"), **_errors("401", "403", "429")},
                tag=_OWN,
            )
        },
        "/operator/accounts": {
            "get": _operation(
                "listAccounts",
                "All accounts, oldest first, 50 a page.",
                {"200": _json("AccountList"), **_errors("400", "401")},
                tag=_OPERATOR,
                extra=[_SKIP_TOKEN],
            ),
            "post": _operation(
                "createAccount",
                "A new account with both keys, which are told in this answer only.",
                {"201": _json("Account"), **_errors("400", "401", "409")},
                tag=_OPERATOR,
                body=_content("CreateAccount"),
            ),
        },
        "/operator/accounts/{account_id}": {
            "get": _operation(
                "getAccount", "An account.", {"200": _json("Account"), **_errors("401", "404")}, tag=_OPERATOR
            ),
            "delete": _operation(
                "deleteAccount",
                "End an account: its tokens, its keys, its sessions.",
                {"204": "Deleted.", **_errors("401", "404")},
                tag=_OPERATOR,
            ),
        },
        "/operator/accounts/{account_id}/keys/{serial}/regenerate": {
            "post": _operation(
                "regenerateKey",
                "A new key in the place of one of the two. Tokens of the former key are void; the other key serves on.",
                {"200": _json("AccountKey"), **_errors("400", "401", "404")},
                tag=_OPERATOR,
            )
        },
        "/operator/accounts/{account_id}/revoke-tokens": {
            "post": _operation(
                "revokeTokens",
                "Void every token that the account has.",
                {"204": "Revoked.", **_errors("401", "404")},
                tag=_OPERATOR,
            )
        },
        "/operator/accounts/{account_id}/quotas": {
            "get": _operation(
                "getAccountQuotas",
                "An account's limits.",
                {"200": _json("QuotaReport"), **_errors("401", "404")},
                tag=_OPERATOR,
            ),
            "put": _operation(
                "setAccountQuotas",
                "Set some of an account's limits: -1 for none, null for the service's default.",
                {"200": _json("QuotaReport"), **_errors("400", "401", "404")},
                tag=_OPERATOR,
                body=_content("SetQuotas"),
            ),
        },
        "/operator/audit": {
            "get": _operation(
                "readAudit",
                "Who did what, newest first, 200 a page.",
                {"200": _json("AuditList"), **_errors("400", "401")},
                tag=_OPERATOR,
                extra=[
                    _SKIP_TOKEN,
                    _FROM,
                    _TO,
                    {"name": "account", "in": "query", "schema": {"type": "string", "format": "uuid"}},
                    {"name": "action", "in": "query", "schema": {"type": "string"}},
                ],
            )
        },
        "/operator/usage": {
            "get": _operation(
                "getAllUsage",
                "What all accounts used and what it costs.",
                {"200": _json("UsageReport"), **_errors("400", "401")},
                tag=_OPERATOR,
                extra=[_FROM, _TO, _BY],
            )
        },
        "/operator/prices": {
            "get": _operation(
                "getPrices",
                "Every price that was ever valid.",
                {"200": _json("PriceList"), **_errors("401")},
                tag=_OPERATOR,
            ),
            "post": _operation(
                "addPrice",
                "A price from some time on. Totals that exist never change.",
                {"201": _json("Price"), **_errors("400", "401", "409")},
                tag=_OPERATOR,
                body=_content("NewPrice"),
            ),
        },
        "/regions": {
            "get": _operation(
                "getRegions",
                "The region of this service, and those that it knows.",
                {"200": _json("RegionList")},
                tag=_SERVICE,
                security=[],
            )
        },
        "/latency": {
            "get": _operation(
                "getLatency",
                "Next to nothing, to measure the round trip with; or that many random bytes, for the throughput.",
                {"200": "Random bytes.", "204": "Nothing.", **_errors("400")},
                tag=_SERVICE,
                extra=[{"name": "bytes", "in": "query", "schema": {"type": "integer"}, "description": "1 to 1048576."}],
                security=[],
            )
        },
        "/.well-known/jwks.json": {
            "get": _operation(
                "getKeys",
                "The public keys that access tokens are signed with.",
                {"200": "A JSON Web Key Set."},
                tag=_SERVICE,
                security=[],
            )
        },
        "/health/live": {
            "get": _operation("getLive", "The process answers.", {"200": "It does."}, tag=_SERVICE, security=[])
        },
        "/health/ready": {
            "get": _operation(
                "getReady",
                "The service can serve.",
                {"200": "It can.", "503": "It cannot; the body names what is missing."},
                tag=_SERVICE,
                security=[],
            )
        },
        "/openapi.json": {
            "get": _operation("getDescription", "This document.", {"200": "OpenAPI 3.1."}, tag=_SERVICE, security=[])
        },
        "/docs": {
            "get": _operation("getDocs", "This document as a page.", {"200": "HTML."}, tag=_SERVICE, security=[])
        },
        f"{session}/whep": {
            "post": _operation(
                "connect",
                "The WHEP handshake, relayed to the session's render server: an SDP offer for an SDP answer.",
                {
                    "201": {
                        "description": "The answer. Location names what DELETE ends the connection with.",
                        "content": sdp,
                        "headers": {"Location": {"schema": {"type": "string"}}},
                    },
                    **_errors("400", "401", "403", "404", "409", "410", "502"),
                },
                tag=_OWN,
                body={"required": True, "content": sdp},
                extra=[_WATCH],
            ),
            "delete": _operation(
                "giveUpScene",
                "Give up the scene that is kept for a device that was lost.",
                {"200": "It is free.", **_errors("401", "403", "404", "409", "502")},
                tag=_OWN,
            ),
        },
        f"{session}/whep/{{resource_id}}": {
            "delete": _operation(
                "disconnect",
                "End a connection.",
                {"200": "Ended.", **_errors("401", "403", "404", "409", "502")},
                tag=_OWN,
            )
        },
        f"{session}/stream": {
            "get": _operation(
                "openStream",
                "The whole stream over one WebSocket, relayed to the session's render server. The token stands among "
                "the subprotocols: farframe.1 and farframe.bearer.TOKEN.",
                {
                    "101": "The stream begins.",
                    **_errors("401", "403", "404", "409", "426", "429", "502"),
                },
                tag=_OWN,
            )
        },
        f"{session}/ice": {
            "get": _operation(
                "getIceServers",
                "TURN servers for a device of this session, with credentials that run out.",
                {"200": _json("IceServers"), **_errors("401", "403", "404", "409")},
                tag=_OWN,
            )
        },
        f"{session}/inspector-link": {
            "post": _operation(
                "createInspectorLink",
                "A link into the inspector of the session's render server, with a token in its fragment.",
                {"201": _json("Link"), **_errors("401", "403", "404", "409")},
                tag=_OWN,
            )
        },
        "/accounts/{account_id}/uploads": {
            "get": _operation(
                "listUploads",
                "Uploaded files, oldest first, 50 a page.",
                {"200": _json("UploadList"), **_errors("400", "401", "403")},
                tag=_OWN,
                extra=[_SKIP_TOKEN],
            )
        },
        "/accounts/{account_id}/uploads/{upload_id}/{path}": {
            "put": _operation(
                "putUpload",
                "Store a file that render servers load as upload://{upload_id}/{path}.",
                {
                    "200": _json("UploadedFile"),
                    "201": _json("UploadedFile"),
                    **_errors("400", "401", "403", "409", "413", "507"),
                },
                tag=_OWN,
                body={
                    "required": True,
                    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                },
            )
        },
        "/accounts/{account_id}/uploads/{upload_id}": {
            "delete": _operation(
                "deleteUpload",
                "Delete all files of an upload.",
                {"204": "Deleted.", **_errors("400", "401", "403", "404")},
                tag=_OWN,
            )
        },
        "/accounts/{account_id}/viewer-links": {
            "post": _operation(
                "createViewerLink",
                "A link that opens the viewer, or the console, once, within ten minutes. Needs the role Administrator.",
                {"201": _json("Link"), **_errors("400", "401", "403", "404")},
                tag=_OWN,
                body=_content("CreateViewerLink", required=False),
            )
        },
        "/viewer-links/redeem": {
            "post": _operation(
                "redeemViewerLink",
                "A token of role Client for the code of a one-time link.",
                {"200": _json("RedeemedLink"), **_errors("400", "404", "410", "429")},
                tag=_OWN,
                body=_content("RedeemLink"),
                security=[],
            )
        },
    }
    for path, item in paths.items():
        names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
        item["parameters"] = [{"name": name, "required": True, **_PARAMETERS[name]} for name in names]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Farframe",
            "version": __version__,
            "description": "Token endpoint and session operations as the official Azure Remote Rendering clients "
            "use them, and Farframe's own routes beside them.",
        },
        "tags": [
            {"name": "token", "description": "Keys for tokens."},
            {"name": _CONTRACT, "description": "The data plane of the contract."},
            {"name": _OWN, "description": "Farframe's own."},
            {"name": _OPERATOR, "description": "For the operators of the service."},
            {"name": _SERVICE, "description": "About the service itself."},
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "operatorToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The operatorToken of operator.json in the service's data folder.",
                },
                "accountKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "{accountId}:{accountKey}, literally, after the word Bearer.",
                },
            },
        },
        "security": [{"accessToken": []}],
    }


def description_routes(access: Access, page_headers: Mapping[str, str]) -> list[HTTPRouteHandler]:
    """``GET /openapi.json``, and the same as a page at ``/docs``."""
    document = describe()
    page = render(document).encode("utf-8")
    headers = {**page_headers, "cache-control": "no-cache"}

    @get("/docs")
    async def get_docs(request: AnyRequest) -> Response[bytes]:
        access.public(request)
        return content_response(page, "text/html; charset=utf-8", headers=headers)

    @get("/docs/style.css")
    async def get_docs_style(request: AnyRequest) -> Response[bytes]:
        return content_response(STYLE.encode("utf-8"), "text/css; charset=utf-8", headers=headers)

    @get("/openapi.json")
    async def get_description(request: AnyRequest) -> Response[bytes]:
        access.public(request)
        return json_response(document, headers={"cache-control": "no-cache"})

    return [get_description, get_docs, get_docs_style]


def _operation(
    name: str,
    summary: str,
    responses: Mapping[str, dict[str, Any] | str | None],
    *,
    tag: str = _CONTRACT,
    body: dict[str, Any] | None = None,
    extra: list[dict[str, Any]] | None = None,
    security: list[dict[str, list[str]]] | None = None,
) -> dict[str, Any]:
    if tag in (_OPERATOR, _OWN) or (tag == _SERVICE and name not in ("getLive", "getReady")):
        responses = {**responses, "429": _LIMITED_WITH_BODY}
    described = {
        status: value if isinstance(value, dict) else {"description": value or "No body."}
        for status, value in responses.items()
    }
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "tags": [tag], "responses": described}
    parameters = [*([_VERSION] if tag == _CONTRACT else []), *(extra or [])]
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = body
    if security is None and tag == _OPERATOR:
        security = [{"operatorToken": []}]
    if security is not None:
        operation["security"] = security
    return operation


def _json(name: str) -> dict[str, Any]:
    return {"description": name, **_body_of(name)}


def _content(name: str, *, required: bool = True) -> dict[str, Any]:
    return {"required": required, **_body_of(name)}


def _body_of(name: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _errors(*statuses: str) -> dict[str, dict[str, Any] | str | None]:
    return {status: _LIMITED_WITH_BODY if status == "429" else _json("ErrorResponse") for status in statuses}
