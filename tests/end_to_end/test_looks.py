"""What a program sets of how a scene looks, seen in the decoded video of a real render server."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from farframe.client import Entity, RemoteRenderingClient, RequestError, Result, RuntimeConnection, Scene
from tests.end_to_end.harness import RunningService

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 640, 360


def two_boxes(path: Path) -> Path:
    """A file with boxes left and right, 2 m apart and 1 m large, that show the same mesh."""
    points, normals, corners = [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.roll([sign, 0.0, 0.0], axis)
            across, up = np.roll([0.0, 1.0, 0.0], axis), np.cross(normal, np.roll([0.0, 1.0, 0.0], axis))
            first = len(points)
            points += [0.5 * (normal + a * across + b * up) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            normals += [normal] * 4
            corners += [first, first + 1, first + 2, first, first + 2, first + 3]
    vertices, indices = np.array([points, normals], "<f4"), np.array(corners, "<u2")
    uv = np.tile(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], "<f4"), (6, 1))
    blob = vertices.tobytes() + uv.tobytes() + indices.tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": [{"name": name, "mesh": 0, "translation": [x, 0, 0]} for name, x in (("left", -1), ("right", 1))],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0}]}
        ],
        "materials": [{"name": "grey", "pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.5, 1]}}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 24, "type": "VEC3", "min": [-0.5] * 3, "max": [0.5] * 3},
            {"bufferView": 1, "componentType": 5126, "count": 24, "type": "VEC3"},
            {"bufferView": 2, "componentType": 5126, "count": 24, "type": "VEC2"},
            {"bufferView": 3, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": length}
            for offset, length in ((0, 288), (288, 288), (576, 192), (768, 72))
        ],
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    blob += b"\0" * (-len(blob) % 4)
    path.write_bytes(
        struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(blob))
        + struct.pack("<I4s", len(text), b"JSON") + text
        + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    )  # fmt: skip
    return path


@dataclass
class Stage:
    """The boxes, seen from the front."""

    connection: RuntimeConnection
    root: Entity
    left: Entity
    right: Entity

    async def seen(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The colours (3,) in the middle of the left box and of the right one, 0 to 255."""
        await self.connection.scene.flush()
        image = (await self.connection.wait_for_still()).image
        across = round(WIDTH / 4 * 0.9)
        middle = HEIGHT // 2
        return tuple(
            image[middle - 6 : middle + 6, x - 6 : x + 6].reshape(-1, 3).mean(axis=0)
            for x in (WIDTH // 2 - across, WIDTH // 2 + across)
        )  # type: ignore[return-value]


@asynccontextmanager
async def on_stage(service: RunningService, path: Path) -> AsyncIterator[Stage]:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=WIDTH, height=HEIGHT) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(two_boxes(path))
        left, right = root.find("left"), root.find("right")
        assert left is not None and right is not None
        await connection.configure_scene(background=(0.0, 0.0, 0.0))
        # 1 m is a quarter of the picture's height at the boxes' fronts; 2 m apart, 0.9 of a quarter of its width each.
        connection.look_at((0, 0, 4.0), (0, 0, 0), vertical_fov_degrees=53.13)
        yield Stage(connection, root, left, right)


def is_red(color: NDArray[np.float64]) -> bool:
    return bool(color[0] > 150 and color[1:].max() < 70)


def is_green(color: NDArray[np.float64]) -> bool:
    return bool(color[1] > 150 and color[[0, 2]].max() < 70)


def is_grey(color: NDArray[np.float64]) -> bool:
    return bool(color.min() > 40 and np.ptp(color) < 30)


async def test_materials_are_seen_where_they_are_put(service: RunningService, tmp_path: Path) -> None:
    async with on_stage(service, tmp_path / "boxes.glb") as stage:
        scene = stage.connection.scene
        left, right = await stage.seen()
        assert is_grey(left) and is_grey(right)
        assert stage.left.mesh == stage.right.mesh and len(stage.left.materials) == 1
        red = scene.create_material("color", albedo_color=(1, 0, 0, 1))
        stage.left.materials[0] = red
        left, right = await stage.seen()
        assert is_red(left) and is_grey(right)
        stage.left.materials[0] = None
        assert stage.right.mesh is not None
        stage.right.mesh.materials[0] = red
        left, right = await stage.seen()
        assert is_red(left) and is_red(right)
        red.albedo_color = (0, 1, 0, 1)
        left, right = await stage.seen()
        assert is_green(left) and is_green(right)
        red.destroy()
        left, right = await stage.seen()
        assert is_grey(left) and is_grey(right)
        own = stage.left.mesh.materials[0]
        assert own is not None and own.name == "grey" and own.albedo_color == (0.5, 0.5, 0.5, 1.0)
        own.set(albedo_color=(0, 0, 0, 1), emissive_color=(0, 1, 0))
        left, right = await stage.seen()
        assert is_green(left) and is_green(right)
        # Another one of the same wears it, for as long as its model is there.
        other = (await scene.load_model(tmp_path / "boxes.glb")).find("left")
        assert other is not None
        other.materials[0] = own
        stage.root.override(hidden=True)
        left, right = await stage.seen()
        assert is_green(left) and is_grey(right)
        stage.root.destroy()
        left, right = await stage.seen()
        assert is_grey(left) and is_grey(right) and other.materials[0] is None


async def test_what_was_moved_far_is_seen_from_near(service: RunningService, tmp_path: Path) -> None:
    """Clip distances go with it: its root, the entity that this hangs below, and a part of it."""
    async with on_stage(service, tmp_path / "boxes.glb") as stage:
        connection, scene = stage.connection, stage.connection.scene
        assert stage.root.model is not None
        stage.root.parent = stand = scene.create("stand", position=(0, 1e6, 0))
        stage.root.position = (1e7, 0, 0)
        connection.look_at((1e7, 1e6, 4.0), (1e7, 1e6, 0), vertical_fov_degrees=53.13)
        assert all(map(is_grey, await stage.seen()))
        # Behind the camera, and back again: it follows without being asked.
        stand.position = (0, 1e6, 5e3)
        left, right = await stage.seen()
        assert max(left.max(), right.max()) < 25
        stand.position = (0, 1e6, 0)
        assert all(map(is_grey, await stage.seen()))
        stage.root.parent, stage.root.position = None, (0, 0, 0)
        stage.right.position = (1, 0, -9)
        connection.look_at((1, 0, -5), (1, 0, -9))
        await scene.flush()
        middle = (await connection.wait_for_still()).image[HEIGHT // 2, WIDTH // 2]
        assert is_grey(middle.astype(float))
        connection.look_at_model(stage.root.model)
        assert connection.pose is not None and max(map(abs, connection.pose.views[0].position)) < 10


async def test_a_texture_is_loaded_and_seen(service: RunningService, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "red.png")
    async with on_stage(service, tmp_path / "boxes.glb") as stage:
        scene = stage.connection.scene
        stages: list[str] = []
        texture = await scene.load_texture(tmp_path / "red.png", progress=lambda p: stages.append(p.stage))
        assert (texture.width, texture.height, texture.kind) == (16, 16, "2d")
        assert stages[0] == "send" and stages[-1] == "upload"
        stage.left.materials[0] = scene.create_material("color", albedo_map=texture)
        texture.destroy()
        left, right = await stage.seen()
        assert is_red(left) and is_grey(right)
        with pytest.raises(RequestError) as caught:
            await scene.load_texture("file:///etc/passwd")
        assert caught.value.result is Result.INVALID_URI


async def test_a_cut_plane_follows_its_entity(service: RunningService, tmp_path: Path) -> None:
    async with on_stage(service, tmp_path / "boxes.glb") as stage:
        knife = stage.connection.scene.create("knife")
        plane = knife.add_cut_plane(normal="x")
        left, right = await stage.seen()
        assert is_grey(left) and right.max() < 25
        knife.position = (3, 0, 0)
        left, right = await stage.seen()
        assert is_grey(left) and is_grey(right)
        plane.normal = "negativeX"
        left, right = await stage.seen()
        assert left.max() < 25 and right.max() < 25
        stage.right.override(cut_plane_mask=1)
        plane.filter_mask = 2
        left, right = await stage.seen()
        assert left.max() < 25 and is_grey(right)
        knife.destroy()
        left, right = await stage.seen()
        assert is_grey(left) and is_grey(right)


async def test_a_light_shines_where_its_entity_is(service: RunningService, tmp_path: Path) -> None:
    async with on_stage(service, tmp_path / "boxes.glb") as stage:
        await stage.connection.configure_scene(light_intensity=0.0, environment_intensity=0.0)
        left, right = await stage.seen()
        assert left.max() < 25 and right.max() < 25
        lamp = stage.connection.scene.create("lamp", position=(-1, 0, 2.5))
        light = lamp.add_spot_light(color=(0, 1, 0), intensity=20, spot_angle_deg=(20, 40))
        left, right = await stage.seen()
        assert left[1] > 100 and left[[0, 2]].max() < 60 and right.max() < 25
        lamp.position = (1, 0, 2.5)
        left, right = await stage.seen()
        assert right[1] > 100 and left.max() < 25
        light.enabled = False
        left, right = await stage.seen()
        assert right.max() < 25


async def test_a_sky_lights_the_scene(service: RunningService, tmp_path: Path) -> None:
    Image.new("RGB", (64, 32), (255, 0, 0)).save(tmp_path / "sky.png")
    async with on_stage(service, tmp_path / "boxes.glb") as stage:
        await stage.connection.configure_scene(light_intensity=0.0)
        scene = stage.connection.scene
        scene.sky = await scene.load_texture(tmp_path / "sky.png")
        left, _ = await stage.seen()
        assert left[0] > 3 * left[1:].max()
        scene.sky = "builtin://Studio"
        left, _ = await stage.seen()
        assert is_grey(left)
        scene.sky = "builtin://NoSuchPlace"
        with pytest.raises(RequestError) as caught:
            await scene.flush()
        assert caught.value.result is Result.FILE_NOT_FOUND


async def test_what_was_set_outlives_a_lost_connection_and_goes_with_the_scene(
    service: RunningService, tmp_path: Path
) -> None:
    async with on_stage(service, tmp_path / "boxes.glb") as stage:
        scene = stage.connection.scene
        red = scene.create_material("color", albedo_color=(1, 0, 0, 1))
        stage.left.materials[0] = red
        left, right = await stage.seen()
        assert is_red(left) and is_grey(right)
        back = asyncio.Event()
        stage.connection.on_resumed(back.set)
        transport: Any = stage.connection._transport
        transport._receiver.abandon()
        stage.right.materials[0] = red
        async with asyncio.timeout(60):
            await back.wait()
        left, right = await stage.seen()
        assert is_red(left) and is_red(right)
        red.albedo_color = (0, 1, 0, 1)
        left, right = await stage.seen()
        assert is_green(left) and is_green(right)
        found = Scene(scene._link)
        await found.restore([stage.root.model] if stage.root.model is not None else [])
        assert [material.albedo_color for material in found.materials if not material.is_own] == [(0.0, 1.0, 0.0, 1.0)]
        await stage.connection.clear()
        assert not red.valid and not scene.materials and not len(scene)
        await found.restore()
        assert not found.materials and not len(found)
