"""From a REST call to decoded pixels, with the Python client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from farframe.client import RemoteRenderingClient
from farframe.protocol.records import FrameFlags
from tests.end_to_end.harness import RunningService, difference, spread

pytestmark = pytest.mark.slow


async def test_the_built_in_engine_is_leased_loaded_seen_and_moved(service: RunningService) -> None:
    stages = []
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        session = await client.create_session(size="Standard", lease_minutes=10)
        await session.wait_until_ready()
        async with session.connect(width=640, height=360) as connection:
            empty = await connection.wait_for_still()
            engine = await connection.load_model("builtin://Engine", progress=lambda p: stages.append(p.fraction))
            assert engine.part_count >= 300
            assert engine.triangle_count >= 200_000
            assert stages == sorted(stages)
            assert stages[-1] == 1.0
            connection.look_at_model(engine)
            first = await connection.wait_for_still()
            assert first.image.shape == (360, 640, 3)
            assert first.image.dtype == np.uint8
            assert spread(first.image) > 15
            assert difference(first.image, empty.image) > 5
            pose_id = connection.look_at_model(engine, azimuth_degrees=200)
            second = await connection.wait_for_still()
            assert second.pose_id == pose_id
            assert difference(first.image, second.image) > 5
            assert second.timings is not None
            assert second.timings.total > 0
            assert second.record is not None
            assert (second.record.samples, second.record.reduced_parts) == (4, 0)
            statistics = await connection.statistics()
            assert statistics.server.models == 1
        await session.stop()
        assert (await client.get_session(session.id)).status == "Stopped"


async def test_frames_keep_coming_while_the_camera_moves(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=480, height=270) as connection,
    ):
        engine = await connection.load_model("builtin://Engine")
        shown = set()
        async with asyncio.timeout(60):
            for step in range(200):
                connection.look_at_model(engine, azimuth_degrees=step * 3.0)
                frame = await anext(aiter(connection.frames()))
                if frame.pose_id is not None:
                    shown.add(frame.pose_id)
                if len(shown) > 20:
                    break
                await asyncio.sleep(0.02)
        assert len(shown) > 20


@pytest.mark.parametrize("relayed", [False, True])
async def test_a_real_engine_file_is_uploaded_and_seen(
    service: RunningService, models_folder: Path, relayed: bool
) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=640, height=360, relayed=relayed) as connection,
    ):
        assert connection.relayed is relayed
        backdrop = await connection.wait_for_still()
        model = await connection.load_model(models_folder / "2CylinderEngine.glb")
        assert model.part_count > 20
        connection.look_at_model(model)
        first = await connection.wait_for_still()
        assert spread(first.image) > 10
        assert difference(first.image, backdrop.image) > 3
        connection.look_at_model(model, azimuth_degrees=150)
        second = await connection.wait_for_still()
        assert difference(first.image, second.image) > 3


async def test_nothing_is_drawn_twice_while_nothing_changes(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
    ):
        still = await connection.wait_for_still()
        frames = aiter(connection.frames())
        kept_alive = FrameFlags.KEEP_ALIVE | FrameFlags.STILL
        kinds = []
        async with asyncio.timeout(60):
            while kinds.count(kept_alive) < 2:
                frame = await anext(frames)
                if frame.record is not None and frame.record.frame_id > still.record.frame_id:
                    kinds.append(frame.flags & ~FrameFlags.KEYFRAME)
        refinements = kinds[: kinds.index(kept_alive)]
        assert all(kind == FrameFlags.STILL for kind in refinements)
        assert len(refinements) <= 4
        assert all(kind == kept_alive for kind in kinds[len(refinements) :])


async def test_a_folder_that_is_allowed_and_a_gltf_with_side_files(
    service: RunningService, models_folder: Path
) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
    ):
        uploaded = await connection.load_model(models_folder / "BoxTextured" / "BoxTextured.gltf")
        read = await connection.load_model((models_folder / "BoxTextured" / "BoxTextured.gltf").as_uri())
        assert uploaded.triangle_count == read.triangle_count == 12
        assert uploaded.texture_count == read.texture_count == 1
        await connection.unload_model(uploaded)
        assert (await connection.statistics()).server.models == 1
        await connection.clear()
        assert (await connection.statistics()).server.models == 0


async def test_the_next_device_finds_an_empty_scene(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        async with session.connect(width=320, height=180) as connection:
            model = await connection.load_model("builtin://Engine")
            connection.look_at_model(model)
            view = connection.pose.views
            full = await connection.wait_for_still()
        async with session.connect(width=320, height=180) as connection:
            connection.set_pose(view)
            empty = await connection.wait_for_still()
            assert (await connection.statistics()).server.models == 0
            assert empty.record.triangles == 0
            assert difference(full.image, empty.image) > 5
