"""Regions and the endpoint to measure the way to them."""

from __future__ import annotations

from pathlib import Path
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


async def test_roots_of_other_regions_are_told_without_what_lies_beside_them(
    make_world: Any, certificates: Any, tmp_path: Path
) -> None:
    file = tmp_path / "south.pem"
    file.write_bytes(certificates.key.read_bytes() + certificates.ca.read_bytes())
    others = {"south": "https://south.example.net", "north": "https://north.example.net"}
    async with make_world(regions=others, region_ca_files={"south": str(file)}) as world:
        text = (await world.http.get("/regions")).text
        _, north, south = (await world.http.get("/regions")).json()["regions"]
    assert "caCertificates" not in north
    assert south["caCertificates"] == certificates.ca.read_text()
    assert "PRIVATE" not in text


async def test_pages_of_allowed_origins_are_told_once(make_world: Any) -> None:
    origin = "https://app.example.net"
    async with make_world(cors_origins=(origin,)) as world:
        for path in ("/latency", "/regions"):
            answer = await world.http.get(path, headers={"Origin": origin})
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        listed = await world.http.get("/openapi.json", headers={"Origin": origin})
        assert listed.headers.get_list("access-control-allow-origin") == [origin]
