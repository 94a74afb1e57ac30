"""Everything hostile at the media port of a real render server, while a real device is connected, and after it left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from farframe.client import RemoteRenderingClient
from farframe.client._media import MediaTransport
from farframe.client.runtime import RuntimeConnection
from farframe.stream.aiortc_hooks import UNPROVEN_FACTOR
from tests.end_to_end.harness import start_service
from tests.soak.test_weather import private_memory
from tests.stream.hostile import (
    attack_as_strangers,
    attack_as_the_device,
    kind_of,
    misbehave_as_the_device,
    server_address,
    tap,
)

SOAK = os.environ.get("FARFRAME_SOAK", "") not in ("", "0")
ROUNDS = 8 if SOAK else 1
PACKETS = 20_000 if SOAK else 800
SOURCES = 16 if SOAK else 4
PATIENCE_SECONDS = 120
MAX_GROWTH_BYTES = 16 << 20


def media_of(connection: RuntimeConnection) -> Any:
    """The device's own sockets and keys."""
    transport = connection._transport
    assert isinstance(transport, MediaTransport)
    return transport._receiver._transport


async def goes_on(connection: RuntimeConnection) -> None:
    """Until five new poses were shown."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        frames = connection.frames()
        for step in range(5):
            wanted = connection.look_at_model(azimuth_degrees=7.0 * step)
            async for frame in frames:
                if frame.pose_id == wanted:
                    break


def state(server: psutil.Process) -> tuple[int, int]:
    return server.num_fds(), server.num_threads()


@pytest.mark.slow
@pytest.mark.timeout(3600 if SOAK else 600)
@pytest.mark.parametrize("kind", ["sample", pytest.param("full", marks=pytest.mark.soak)])
async def test_a_server_lives_through_everything_that_can_be_sent_to_its_port(tmp_path: Path, kind: str) -> None:
    if (kind == "full") != SOAK:
        pytest.skip("the other size is run")
    service = start_service(tmp_path / "data")
    try:
        async with (
            RemoteRenderingClient.from_connection_file(service.connection_path) as client,
            client.leased(lease_minutes=60) as lease,
        ):
            server = service.server_of(lease.properties.handshake_port)
            memory = []
            for seed in range(ROUNDS):
                async with lease.connect(width=640, height=360, way="webrtc") as connection:
                    await connection.load_model("builtin://Engine")
                    await goes_on(connection)
                    media = media_of(connection)
                    target = server_address(media)
                    heard = tap(media)
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        while not {"stun", "dtls", "srtcp"} <= {kind_of(packet) for packet in heard.packets}:
                            connection.look_at_model(azimuth_degrees=len(heard.packets))
                            await asyncio.sleep(0.05)
                    before = state(server)
                    traffic = await attack_as_strangers(
                        target, heard.packets, count=PACKETS, sources=SOURCES, seed=seed
                    )
                    assert all(one.returned <= UNPROVEN_FACTOR * one.sent for one in traffic)
                    assert {name for one in traffic for name in one.kinds} <= {"stun"}
                    await attack_as_the_device(media, heard.packets, count=PACKETS, seed=seed)
                    await goes_on(connection)
                    assert connection.ended is None
                    assert state(server)[0] <= before[0]
                    assert state(server)[1] <= before[1] + 1
                # It has gone: the port is closed.
                silent = await attack_as_strangers(target, heard.packets, count=100, sources=2, seed=seed)
                assert [one.returned for one in silent] == [0, 0]
                # One with all its keys, and none of the manners.
                async with lease.connect(width=640, height=360, way="webrtc", reconnect=False) as connection:
                    await misbehave_as_the_device(media_of(connection), count=PACKETS, seed=seed)
                assert server.is_running()
                memory.append(private_memory(server))
            async with lease.connect(width=640, height=360, way="webrtc") as connection:
                await connection.load_model("builtin://Engine")
                await goes_on(connection)
            print(f"server memory by round, MB: {[size >> 20 for size in memory]}")
            assert memory[-1] - memory[len(memory) // 2] <= MAX_GROWTH_BYTES
    finally:
        service.stop()
