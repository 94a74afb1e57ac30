"""Measuring the way to regions, and choosing one."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from farframe.client.connection_file import ConnectionInfo
from farframe.client.errors import NotFoundError, ServiceUnreachableError
from farframe.client.management import RemoteRenderingClient
from farframe.client.regions import RegionLatency, best, measure
from farframe.wire.regions import Region, RegionList

HOME = "https://home.example.net"


def network(dead: set[str]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host in dead:
            raise httpx.ConnectError("nothing there")
        if request.url.path == "/regions":
            listed = RegionList(
                region="home",
                regions=[Region(name="home", endpoint=HOME), Region(name="far", endpoint="https://far.example.net")],
            )
            return httpx.Response(200, content=msgspec.json.encode(listed))
        return httpx.Response(200 if request.url.query else 204, content=b"x" * int(request.url.params.get("bytes", 0)))

    return httpx.MockTransport(answer)


def client_of(*dead: str) -> RemoteRenderingClient:
    return RemoteRenderingClient(ConnectionInfo(HOME, HOME, "a", "k"), transport=network(set(dead)))


async def test_every_region_is_measured() -> None:
    async with client_of("far.example.net") as client:
        near, far = await client.latency()
    assert near.round_trip is not None
    assert near.throughput is not None
    assert (far.name, far.round_trip, far.error) == ("far", None, "nothing there")


async def test_the_shortest_round_trip_is_the_best() -> None:
    regions = [RegionLatency("a", "x", 0.3, 9e9), RegionLatency("b", "x", 0.1, 1e6), RegionLatency("c", "x", error="e")]
    assert best(regions) is regions[1]
    assert best(regions[2:]) is None


async def test_times_are_medians_without_the_first() -> None:
    moments = iter([0, 9, 10, 11, 20, 22, 30, 31, 40, 41, 50, 52, 60, 61, 70, 75])
    async with httpx.AsyncClient(transport=network(set())) as http:
        measured = await measure(http, "a", HOME, now=lambda: float(next(moments)))
    assert measured.round_trip == 1.0
    assert measured.throughput == 8 * 512 * 1024 / 4.0


async def test_choosing_a_region() -> None:
    async with client_of() as client:
        async with await client.in_region("far") as far:
            assert far.connection.endpoint == far.connection.sts_endpoint == "https://far.example.net"
            assert far.connection.account_id == "a"
        async with await client.in_region("home") as home:
            assert home.connection.endpoint == HOME
        with pytest.raises(NotFoundError, match="far, home"):
            await client.in_region("mars")
    async with client_of("far.example.net") as client, await client.in_region("auto") as chosen:
        assert chosen.connection.endpoint == HOME


async def test_keys_do_not_go_over_plain_http() -> None:
    async with httpx.AsyncClient(transport=network(set())) as http:
        assert (await measure(http, "a", "http://far.example.net")).error == "its URL is not https"


async def test_nothing_answers() -> None:
    async with client_of("home.example.net") as client:
        with pytest.raises(ServiceUnreachableError):
            await client.nearest_region()
