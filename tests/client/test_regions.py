"""Measuring the way to regions, and choosing one."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest

from farframe.client.connection_file import ConnectionInfo
from farframe.client.errors import ConnectionFileError, NotFoundError, ServiceUnreachableError
from farframe.client.management import RemoteRenderingClient
from farframe.client.regions import RegionLatency, best, connection_in, measure
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
    assert (far.name, far.round_trip, far.error) == ("far", None, "Nothing answers at https://far.example.net.")


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


async def test_sessions_are_created_where_one_says() -> None:
    asked: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"AccessToken": "a.b.c"})
        if "/sessions/" in request.url.path:
            if request.url.path.endswith(":stop"):
                return httpx.Response(204)
            session = {"id": "s", "creationTime": "2026-05-01T08:00:00Z", "size": "Standard", "status": "Ready"}
            return httpx.Response(201, json={**session, "elapsedTimeMinutes": 0, "maxLeaseTimeMinutes": 10})
        if request.url.host == "home.example.net" and request.url.path == "/latency":
            raise httpx.ConnectError("down")
        return await network(set()).handle_async_request(request)

    async with RemoteRenderingClient(
        ConnectionInfo(HOME, HOME, "a", "k"), transport=httpx.MockTransport(answer)
    ) as client:
        session = await client.create_session(session_id="s", region="far")
        await session.stop()
        async with client.leased(session_id="s", region="best"):
            pass
        await client.create_session(session_id="s")
    hosts = [request.url.host for request in asked if "/sessions/" in request.url.path]
    assert hosts == ["far.example.net"] * 5 + ["home.example.net"]


def test_whom_to_trust_elsewhere(tmp_path: Path) -> None:
    bundle = tmp_path / "home.pem"
    home = ConnectionInfo(HOME, HOME, "a", "k", ca_bundle=bundle)
    plain = connection_in(home, Region(name="far", endpoint="https://far.example.net/"))
    assert (plain.endpoint, plain.ca_bundle, plain.trust_system) == ("https://far.example.net", bundle, True)
    named = Region(name="far", endpoint="https://far.example.net", ca_certificates="PEM")
    told = connection_in(home, named)
    assert (told.ca_bundle, told.ca_certificates, told.trust_system) == (None, "PEM", False)
    given = connection_in(home, named, tmp_path / "far.pem")
    assert (given.ca_bundle, given.ca_certificates, given.trust_system) == (tmp_path / "far.pem", "", False)
    with pytest.raises(ConnectionFileError, match="region_ca_files"):
        told.ssl_context()


async def test_keys_do_not_go_over_plain_http() -> None:
    async with httpx.AsyncClient(transport=network(set())) as http:
        assert (await measure(http, "a", "http://far.example.net")).error == "its URL is not https"


async def test_nothing_answers() -> None:
    async with client_of("home.example.net") as client:
        with pytest.raises(ServiceUnreachableError):
            await client.nearest_region()
