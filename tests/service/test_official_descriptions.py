"""The official API descriptions against the running service, with generated requests, authentication on.

Schemathesis makes requests that fit the descriptions and requests that do not. Whatever comes: no answer above 499, no
body or header that breaks the description, and no status that it does not name but those of ``ADDITIONS``, each of
which cites its line of the wire contract.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

from tests.service.test_contract import JSON, SUPPORTED, VECTOR
from tests.service.test_conversions import body as conversion_body

FOLDER = Path(__file__).parent / "swagger"

_VERSION_LINE = '§4 "Missing or unknown api-version: … 400 with ApiVersionUnspecified … or UnsupportedApiVersion"'
_ID_LINE = '§1 "Session and conversion ids: [A-Za-z0-9_-], 1 to 256 characters … refuse with 400 BadRequest"'
_UPDATE_LINE = '§5.4 "400 is not among them, but Python copes with it"'
_LINK_LINE = '§6.3 "here the last page carries an explicit null"'

ADDITIONS: dict[tuple[str, int], tuple[str, ...]] = {
    ("RemoteRendering_GetConversion", 400): (_VERSION_LINE, _ID_LINE),
    ("RemoteRendering_ListConversions", 400): (_VERSION_LINE,),
    ("RemoteRendering_GetSession", 400): (_VERSION_LINE, _ID_LINE),
    ("RemoteRendering_UpdateSession", 400): (_VERSION_LINE, _ID_LINE, _UPDATE_LINE),
    ("RemoteRendering_StopSession", 400): (_VERSION_LINE, _ID_LINE),
    ("RemoteRendering_ListSessions", 400): (_VERSION_LINE,),
}
"""Answers that the description does not name, and the lines of the contract that do. Bodies are ErrorResponse."""

SCHEMA_ADDITIONS = {("conversion_list", "@nextLink"): _LINK_LINE}
"""Members that may be null although the description does not say so."""

SETTINGS = hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def load(name: str, *, additions: bool = True) -> Any:
    """A description, without its examples, which are files of their own."""
    document = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    for path in document["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict):
                operation.pop("x-ms-examples", None)
    if additions:
        for (definition, member), _line in SCHEMA_ADDITIONS.items():
            if definition in document["definitions"]:
                document["definitions"][definition]["properties"][member]["x-nullable"] = True
    return schemathesis.openapi.from_dict(document)


def operations(name: str) -> dict[str, Any]:
    found = [result.ok() for result in load(name).get_all_operations() if isinstance(result, Ok)]
    return {operation.definition.raw["operationId"]: operation for operation in found}


MANAGED = operations("mr-arr-2021-01-01")
TOKENS = operations("mr-sts")
_BAD_IDS = ["a%20b%2Fc", "x" * 257, "%25", "%C3%BC", "a:stop"]
IDS = st.sampled_from(["known", "other", "third", *_BAD_IDS])
NEW_IDS = st.sampled_from(["fresh-1", "fresh-2", "fresh-3", "known", *_BAD_IDS])


def improve(case: Any, account: str, data: st.DataObject) -> None:
    """Left alone, chance would never find the account, the version, a resource that exists or a container's URI."""

    def mostly() -> bool:
        return data.draw(st.integers(0, 5)) < 5

    path = case.path_parameters or {}
    for parameter in ("account_id", "accountId"):
        if parameter in path and mostly():
            path[parameter] = account
    for parameter in ("session_id", "conversion_id"):
        if parameter in path and mostly():
            path[parameter] = data.draw(NEW_IDS if case.method.upper() == "PUT" else IDS)
    if case.operation in MANAGED.values() and mostly():
        case.query = {**(case.query or {}), "api-version": "2021-01-01"}
    if isinstance(case.headers, Mapping):
        case.headers = {name: value for name, value in case.headers.items() if name.lower() != "authorization"}
    settings = case.body.get("settings") if isinstance(case.body, dict) else None
    if isinstance(settings, dict) and mostly():
        for place, signature in (
            ("inputLocation", "storageContainerReadListSas"),
            ("outputLocation", "storageContainerWriteSas"),
        ):
            if isinstance(settings.get(place), dict):
                settings[place]["storageContainerUri"] = "https://acct.blob.example.net/container"
                settings[place][signature] = "sig"
                settings[place].pop("outputAssetFilename", None)
                if not settings[place].get("relativeInputAssetPath", "box.fbx"):
                    settings[place]["relativeInputAssetPath"] = "box.fbx"
    if isinstance(case.body, dict) and isinstance(case.body.get("maxLeaseTimeMinutes"), int) and mostly():
        case.body["maxLeaseTimeMinutes"] = data.draw(st.integers(0, 2000))


def drive(world: Any, operation: Any, mode: Any, headers: dict[str, str], allowed: set[int] | None = None) -> Counter:
    """Send generated requests of one operation; every answer is checked. Returns how often each status came."""
    seen: Counter = Counter()
    name = operation.definition.raw["operationId"]
    described = {int(status) for status in operation.definition.raw["responses"] if status.isdigit()}
    session = requests.Session()
    session.trust_env = False
    session.headers.clear()

    def check(response: Any) -> None:
        status = response.status_code
        seen[status] += 1
        assert status < 500, response.text
        if allowed is not None:
            assert status in allowed, (status, response.text)
        elif status not in described:
            assert (name, status) in ADDITIONS, (name, status, response.text)
            error = response.json()["error"]
            assert isinstance(error["code"], str)
            assert isinstance(error["message"], str)
        get = {key.lower(): value[0] for key, value in response.headers.items()}.get
        assert VECTOR.fullmatch(get("ms-cv"))
        assert get("x-content-type-options") == "nosniff"
        assert get("retry-after") is None
        assert get("content-type") == (JSON if response.content else None)
        if operation in MANAGED.values():
            assert get("api-supported-versions") == SUPPORTED

    @SETTINGS
    @hypothesis.given(data=st.data())
    def send(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        improve(case, world.account, data)
        response = case.call(base_url=world.http_url, session=session, headers=headers)
        check(response)
        if response.status_code in described:
            checks = [response_headers_conformance]
            if response.content:
                checks += [content_type_conformance, response_schema_conformance]
            else:
                assert "schema" not in operation.definition.raw["responses"][str(response.status_code)]
            case.validate_response(response, checks=checks)

    with session:
        send()
    return seen


ROOMY = {
    "rate_limits": dict.fromkeys(("token", "create", "get", "list", "update", "stop", "convert", "other"), 0),
    "quota_conversions": -1,
    "servers": {"standard": 100_000, "premium": 100_000},
}

WANTED = {
    "RemoteRendering_CreateConversion": {201, 400, 403},
    "RemoteRendering_GetConversion": {200, 400, 403, 404},
    "RemoteRendering_ListConversions": {200, 400, 403},
    "RemoteRendering_CreateSession": {201, 400, 403},
    "RemoteRendering_GetSession": {200, 400, 403, 404},
    "RemoteRendering_UpdateSession": {400, 403, 404, 422},
    "RemoteRendering_StopSession": {204, 400, 403, 404},
    "RemoteRendering_ListSessions": {200, 400, 403},
}
"""Statuses that must come up, else the requests were not what they should be."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MANAGED))
async def test_data_plane(make_world: Any, name: str) -> None:
    async with make_world(**ROOMY) as world:
        await world.create("known")
        await world.http.put(world.path("/known", kind="conversions"), json=conversion_body(), headers=world.headers)
        seen: Counter = Counter()
        for mode in schemathesis.GenerationMode:
            seen += await asyncio.to_thread(drive, world, MANAGED[name], mode, world.headers)
        missing = WANTED[name] - set(seen)
        assert not missing, f"no request led to {missing}; there were {dict(seen)}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MANAGED))
async def test_without_a_good_token_there_is_nothing_but_401(make_world: Any, name: str) -> None:
    async with make_world(**ROOMY) as world:
        for headers in ({}, {"Authorization": f"Bearer {world.account}:{world.key}"}):
            await asyncio.to_thread(drive, world, MANAGED[name], schemathesis.GenerationMode.POSITIVE, headers, {401})
        assert (await world.call("GET")).json() == {"sessions": []}


@pytest.mark.slow
async def test_token_endpoint(make_world: Any) -> None:
    async with make_world(**ROOMY) as world:
        headers = {"Authorization": f"Bearer {world.account}:{world.key}"}
        seen: Counter = Counter()
        for mode in schemathesis.GenerationMode:
            seen += await asyncio.to_thread(drive, world, TOKENS["GetToken"], mode, headers)
        assert {200, 401} <= set(seen)


def test_every_addition_cites_the_contract() -> None:
    for (name, status), lines in ADDITIONS.items():
        assert name in MANAGED
        assert str(status) not in MANAGED[name].definition.raw["responses"], f"{name} {status} is no addition"
        assert lines
        assert all(line.startswith("§") for line in lines)
