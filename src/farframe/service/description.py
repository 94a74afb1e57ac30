"""The interface description served at ``/openapi.json``: the contract's routes and our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from farframe import __version__
from farframe.service.exchange import AnyRequest, json_response
from farframe.wire import extensions, sessions
from farframe.wire.errors import ErrorResponse
from farframe.wire.versions import API_VERSIONS

_SHAPES: tuple[Any, ...] = (
    sessions.Session,
    sessions.SessionList,
    sessions.CreateSession,
    sessions.UpdateSession,
    extensions.AccessToken,
    extensions.UploadedFile,
    extensions.UploadList,
    extensions.CreateViewerLink,
    extensions.Link,
    extensions.RedeemLink,
    extensions.RedeemedLink,
    ErrorResponse,
)

_PARAMETERS: dict[str, dict[str, Any]] = {
    "account_id": {"in": "path", "schema": {"type": "string", "format": "uuid"}},
    "accountId": {"in": "path", "schema": {"type": "string", "format": "uuid"}},
    "session_id": {"in": "path", "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"}},
    "upload_id": {"in": "path", "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}},
    "path": {"in": "path", "schema": {"type": "string"}, "description": "May hold slashes."},
    "resource_id": {"in": "path", "schema": {"type": "string"}},
}
_VERSION = {"name": "api-version", "in": "query", "required": True, "schema": {"enum": list(API_VERSIONS)}}
_SKIP_TOKEN = {"name": "skiptoken", "in": "query", "schema": {"type": "string"}}

_CONTRACT, _OWN = "contract", "extension"


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
                {"200": _json("AccessToken"), "401": "Not this account's key."},
                tag="token",
                security=[{"accountKey": []}],
            )
        },
        "/accounts/{account_id}/sessions": {
            "get": _operation(
                "listSessions",
                "Sessions in Starting or Ready, oldest first, 50 a page.",
                {"200": _json("SessionList"), "400": _json("ErrorResponse"), "401": None, "403": None},
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
                    "403": None,
                    "409": _json("ErrorResponse"),
                },
                body=_content("CreateSession"),
            ),
            "get": _operation(
                "getSession",
                "A session in any status.",
                {"200": _json("Session"), "400": _json("ErrorResponse"), "401": None, "403": None, "404": None},
            ),
            "patch": _operation(
                "updateSession",
                "Set a longer total lease.",
                {
                    "200": _json("Session"),
                    "400": _json("ErrorResponse"),
                    "401": None,
                    "403": None,
                    "404": None,
                    "422": _json("ErrorResponse"),
                },
                body=_content("UpdateSession"),
            ),
        },
        f"{session}/:stop": {
            "post": _operation(
                "stopSession", "End a session.", {"204": "Stopped.", "401": None, "403": None, "404": None}
            )
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
                    **_errors("400", "401", "403", "404", "409", "502"),
                },
                tag=_OWN,
                body={"required": True, "content": sdp},
            )
        },
        f"{session}/whep/{{resource_id}}": {
            "delete": _operation(
                "disconnect",
                "End a connection.",
                {"200": "Ended.", **_errors("401", "403", "404", "409", "502")},
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
                {"200": _json("UploadList"), **_errors("401", "403")},
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
                "A link that opens the viewer once, within ten minutes. Needs the role Administrator.",
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
            "use them, and Farframe's own routes beside them. docs/rest.md explains the latter with examples.",
        },
        "tags": [
            {"name": "token", "description": "Keys for tokens."},
            {"name": _CONTRACT, "description": "The data plane of the contract."},
            {"name": _OWN, "description": "Farframe's own."},
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "accountKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "{accountId}:{accountKey}, literally, after the word Bearer.",
                },
            },
        },
        "security": [{"accessToken": []}],
    }


def description_routes() -> list[HTTPRouteHandler]:
    """``GET /openapi.json``."""
    document = describe()

    @get("/openapi.json")
    async def get_description(request: AnyRequest) -> Response[bytes]:
        return json_response(document, headers={"cache-control": "no-cache"})

    return [get_description]


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
    return {status: _json("ErrorResponse") for status in statuses}
