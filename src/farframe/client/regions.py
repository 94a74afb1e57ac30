"""Which region is the nearest: measured from here, since no map knows a network."""

from __future__ import annotations

import asyncio
import ssl
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from farframe.client._http import ServiceHttp, translate
from farframe.client.connection_file import ConnectionInfo
from farframe.client.errors import ConnectionFileError, ServiceError
from farframe.wire.regions import Region, RegionList

ROUNDS = 7
PAYLOAD_BYTES = 512 * 1024
TIMEOUT_SECONDS = 5.0
MAX_REGIONS = 64


@dataclass(frozen=True, slots=True)
class RegionLatency:
    """What was measured. ``round_trip`` in seconds, the median on a connection that was open; ``throughput`` in bits a
    second, towards here. Both ``None`` with an ``error`` if the region did not answer."""

    name: str
    endpoint: str
    round_trip: float | None = None
    throughput: float | None = None
    error: str = ""


async def fetch_regions(http: httpx.AsyncClient, endpoint: str) -> RegionList:
    """The regions that the service at ``endpoint`` knows. Raises ServiceError, ServiceUnreachableError."""
    try:
        response = await http.get(f"{endpoint}/regions", timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
        regions = msgspec.json.decode(response.content, type=RegionList)
    except httpx.HTTPStatusError as error:
        raise ServiceError(
            "The service does not know of regions.",
            status=error.response.status_code,
            next_step="Check that the endpoint in the connection file is a Farframe service.",
        ) from error
    except httpx.HTTPError as error:
        raise translate(error, endpoint) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ServiceError(
            f"The list of regions cannot be read: {error}.", status=200, next_step="Check the endpoint."
        ) from error
    return RegionList(region=regions.region, regions=regions.regions[:MAX_REGIONS])


async def measure(
    http: httpx.AsyncClient,
    name: str,
    endpoint: str,
    *,
    throughput: bool = True,
    now: Callable[[], float] = time.perf_counter,
) -> RegionLatency:
    """Measure the way to one region; never raises for what the network or the other side does."""
    if urlsplit(endpoint).scheme != "https" and urlsplit(endpoint).hostname not in ("localhost", "127.0.0.1", "::1"):
        return RegionLatency(name, endpoint, error="its URL is not https")
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS * 2):
            url = f"{endpoint}/latency"
            (await http.get(url)).raise_for_status()  # opens the connection
            times = []
            for _ in range(ROUNDS):
                begun = now()
                (await http.get(url)).raise_for_status()
                times.append(now() - begun)
            round_trip = statistics.median(times)
            speed = None
            if throughput:
                begun = now()
                payload = await http.get(url, params={"bytes": PAYLOAD_BYTES})
                payload.raise_for_status()
                # The request's own way there and back is not the payload's.
                speed = 8 * len(payload.content) / max(now() - begun - round_trip, 1e-6)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        return RegionLatency(name, endpoint, error=f"It answered with status {status}: it cannot be measured.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return RegionLatency(name, endpoint, error=translate(error, endpoint).message)
    except (TimeoutError, ssl.SSLError) as error:
        return RegionLatency(name, endpoint, error=str(error) or "It did not answer in time.")
    return RegionLatency(name, endpoint, round_trip, speed)


def best(measured: list[RegionLatency]) -> RegionLatency | None:
    """The region with the shortest round trip, if any answered: a picture is late before it is coarse."""
    reached = [region for region in measured if region.round_trip is not None]
    return min(reached, key=lambda region: region.round_trip or 0.0, default=None)


def connection_in(home: ConnectionInfo, region: Region, ca_bundle: Path | None = None) -> ConnectionInfo:
    """How the account of ``home`` calls the service of another region.

    Trusted there is ``ca_bundle`` alone; else the roots that the home service names; else whom home trusts, and the
    system, since a region that names none is one that systems know or that shares home's authority.
    """
    if ca_bundle is not None:
        trust = replace(home, ca_bundle=ca_bundle, ca_certificates="", trust_system=False)
    elif region.ca_certificates:
        trust = replace(home, ca_bundle=None, ca_certificates=region.ca_certificates, trust_system=False)
    else:
        trust = replace(home, trust_system=True)
    endpoint = region.endpoint.rstrip("/")
    return replace(trust, endpoint=endpoint, sts_endpoint=endpoint, http_url=None, console_url=None, region=region.name)


async def measure_all(http: ServiceHttp, *, throughput: bool = True) -> list[RegionLatency]:
    """All regions that the service knows, measured one after the other so that none disturbs another."""
    home = http.connection
    regions = await fetch_regions(http.http, home.endpoint)
    result = []
    for region in regions.regions:
        if region.name == regions.region:
            # The service's own region is measured the way by which it is known to answer.
            result.append(await measure(http.http, region.name, home.endpoint, throughput=throughput))
            continue
        try:
            other = ServiceHttp(connection_in(home, region), transport=http.transport)
        except ConnectionFileError as error:
            result.append(RegionLatency(region.name, region.endpoint, error=error.message))
            continue
        try:
            result.append(await measure(other.http, region.name, region.endpoint, throughput=throughput))
        finally:
            if http.transport is None:
                await other.close()
    return result
