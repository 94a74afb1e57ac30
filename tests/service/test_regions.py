"""Regions and the endpoint to measure the way to them."""

from __future__ import annotations

from typing import Any

import pytest


async def test_regions(make_world: Any) -> None:
    others = {"south": "https://south.example.net", "north": "https://north.example.net:8443"}
    async with make_world(region="here", regions=others) as world:
        answer = (await world.http.get("/regions")).json()
        assert answer["region"] == "here"
        assert [entry["name"] for entry in answer["regions"]] == ["here", "north", "south"]
        assert answer["regions"][0]["endpoint"] == world.endpoint
        assert answer["regions"][1]["endpoint"] == "https://north.example.net:8443"


async def test_latency(world: Any) -> None:
    response = await world.http.get("/latency")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["cache-control"] == "no-store"
    payload = await world.http.get("/latency?bytes=300001")
    assert len(payload.content) == 300_001
    assert payload.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("value", ["0", "-1", "1048577", "9" * 40, "x", "", "１"])
async def test_payloads_are_limited(world: Any, value: str) -> None:
    assert (await world.http.get("/latency", params={"bytes": value})).status_code == 400
