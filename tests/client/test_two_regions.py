"""Two services in two regions, each with an authority of its own, that share accounts in one PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from farframe.client import ConnectionInfo, RemoteRenderingClient, ServiceUnreachableError
from tests.faults.harness import Replica

pytestmark = pytest.mark.slow


@pytest.fixture
async def regions(postgres_url: str, tmp_path: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """North, which knows of south, of south under a wrong root, and of one that is down."""
    south = Replica(tmp_path / "south", postgres_url, FARFRAME_REGION="south")
    north = None
    try:
        await south.start()
        url = south.connection["endpoint"]
        ca = south.folder / "certificates" / "ca.pem"
        north = Replica(
            tmp_path / "north",
            postgres_url,
            FARFRAME_REGION="north",
            FARFRAME_REGIONS=f"south={url},stranger={url},gone=https://localhost:1",
            FARFRAME_REGION_CA_FILES=f"south={ca}",
        )
        north.folder.mkdir()
        shutil.copy(south.folder / "connection.json", north.folder)
        await north.start()
        yield north, south
    finally:
        for service in (north, south):
            if service is not None and service.process is not None and service.process.returncode is None:
                await service.terminate()
        for service in (north, south):
            if service is not None:
                service.clean_up()


async def farframe(folder: Path, *words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "farframe.cli", "--connection", str(folder / "connection.json"), *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_regions_are_measured_and_chosen(regions: tuple[Replica, Replica]) -> None:
    north, south = regions
    home = ConnectionInfo.from_file(north.folder)
    async with RemoteRenderingClient(home) as client:
        measured = {region.name: region for region in await client.latency()}
        for name in ("north", "south"):
            assert measured[name].error == ""
            assert measured[name].round_trip
            assert measured[name].throughput
        assert "is not trusted" in measured["stranger"].error
        assert "Nothing answers" in measured["gone"].error
        assert (await client.nearest_region()).name in ("north", "south")

        session = await client.create_session(session_id="in-the-south", region="south")
        await session.wait_until_ready()
        await session.stop()
        ca = south.folder / "certificates" / "ca.pem"
        async with await client.in_region("stranger", ca_bundle=ca) as other:
            assert (await other.get_session("in-the-south")).status == "Stopped"
        with pytest.raises(ServiceUnreachableError, match="not trusted"):
            await client.create_session(region="stranger")
    # A service that is told of by one that is not trusted is not trusted either.
    async with RemoteRenderingClient(replace(home, ca_bundle=ca)) as client:
        with pytest.raises(ServiceUnreachableError, match="not trusted"):
            await client.create_session(region="south")


async def test_the_command_line_takes_a_region(regions: tuple[Replica, Replica]) -> None:
    north, south = regions
    code, out, err = await farframe(north.folder, "session", "create", "far", "--region", "south", "--json")
    assert code == 0, err
    assert json.loads(out)["status"] == "Ready"
    assert f"In the region south, at {south.connection['endpoint']}." in err
    code, out, _ = await farframe(north.folder, "session", "list", "--region", "south")
    assert "far " in out
    code, out, _ = await farframe(north.folder, "session", "stop", "far", "--region", "south")
    assert (code, "Stopped" in out) == (0, True)
    code, out, err = await farframe(north.folder, "session", "create", "near", "--region", "best", "--no-wait")
    assert code == 0, err
    code, out, err = await farframe(north.folder, "session", "create", "--region", "mars")
    assert (code, out) == (1, "")
    assert "There is no region mars." in err
    code, out, _ = await farframe(north.folder, "latency")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert "Mbit/s" in lines["north"]
    assert "Mbit/s" in lines["south"]
    assert sum(line.endswith(" best") for line in lines.values()) == 1
    assert "not trusted" in lines["stranger"]
