"""The served interface description: it covers every route, is valid, and shows under a strict policy."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import schemathesis

from farframe.auth.tokens import Role
from farframe.service.description import describe

UNDESCRIBED = {("GET", "/docs/style.css"), ("GET", "/"), ("GET", "/{}")}
"""The pages themselves: files for browsers, no interface."""


def normal(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path).lower()


def described() -> set[tuple[str, str]]:
    found = set()
    for path, item in describe()["paths"].items():
        found |= {(method.upper(), normal(path)) for method in item if method != "parameters"}
    return found


def served(world: Any) -> set[tuple[str, str]]:
    found = set()
    for route in world.service.app._app.routes:
        found |= {(method, normal(route.path)) for method in route.methods if method not in ("OPTIONS", "HEAD")}
    return found - UNDESCRIBED


async def test_every_route_is_described_and_every_description_served(world: Any) -> None:
    assert served(world) == described()


async def test_the_document_is_valid(world: Any) -> None:
    document = (await world.http.get("/openapi.json")).json()
    schemathesis.openapi.from_dict(document).validate()
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in document["tags"]}
    schemas = set(document["components"]["schemas"])
    assert set(re.findall(r"#/components/schemas/(\w+)", str(document))) <= schemas
    for item in document["paths"].values():
        for method, operation in item.items():
            if method != "parameters":
                assert set(operation["tags"]) <= tags


def test_limits_are_described_wherever_calls_are_counted() -> None:
    counted = 0
    for path, item in describe()["paths"].items():
        for method, operation in item.items():
            if method == "parameters" or path.startswith("/health/"):
                continue
            headers = operation["responses"].get("429", {}).get("headers", {})
            assert "Retry-After" in headers, (method, path)
            counted += 1
    assert counted > 30


class Page(HTMLParser):
    """What a browser would load, and the anchors that links can go to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


async def test_the_page(world: Any) -> None:
    answer = await world.http.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = Page()
    page.feed(answer.text)
    names = {tag for tag, _ in page.tags}
    assert "script" not in names
    assert "style" not in names
    anchors = {attributes.get("id") for _, attributes in page.tags}
    for _, attributes in page.tags:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        target = attributes.get("href") or attributes.get("src") or "#"
        assert target.startswith(("#", "/")), "nothing from elsewhere"
        assert target == "#" or target.startswith("/") or target[1:] in anchors
    for item in describe()["paths"].values():
        for method, operation in item.items():
            if method != "parameters":
                assert operation["operationId"] in anchors
    style = await world.http.get("/docs/style.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"


async def test_quotas_are_shown_and_set(world: Any) -> None:
    from farframe.auth.secrets import hash_account_key

    operator = {"Authorization": "Bearer ffo_test-of-quotas"}
    await world.store.operators.set_token(world.folder.name, hash_account_key("ffo_test-of-quotas"), 1)
    path = f"/operator/accounts/{world.account}/quotas"
    own = f"/accounts/{world.account}/quotas"
    assert (await world.http.get(path, headers=world.headers)).status_code == 401
    assert (await world.http.get(own, headers=world.bearer(role=Role.CLIENT))).status_code == 403
    answer = await world.http.put(path, json={"quotas": {"conversions": 3, "session_minutes": -1}}, headers=operator)
    assert answer.status_code == 200, answer.text
    assert answer.json()["quotas"]["conversions"] == 3
    assert answer.json()["own"] == ["conversions", "session_minutes"]
    assert (await world.http.get(own, headers=world.headers)).json() == answer.json()
    for wrong in ({"quotas": {"conversions": 9, "nothing": 1}}, {"quotas": {"conversions": -2}}, {"quota": {}}, [], 7):
        refused = await world.http.put(path, json=wrong, headers=operator)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "BadRequest")
    assert (await world.http.get(path, headers=operator)).json()["quotas"]["conversions"] == 3, "all or nothing"
    reset = await world.http.put(path, json={"quotas": {"conversions": None}}, headers=operator)
    assert (reset.json()["quotas"]["conversions"], reset.json()["own"]) == (20, ["session_minutes"])
    unknown = path.replace(world.account, "11111111-2222-4333-8444-555555555555")
    assert (await world.http.get(unknown, headers=operator)).status_code == 404
