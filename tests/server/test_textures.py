"""Textures from a URI onto a device, which here is pretended: read in the real sandbox, shared, and freed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from farframe.asset.flat_texture import read_flat_texture, write_flat_texture
from farframe.asset.loading import ModelLoader
from farframe.asset.textures_file import BLOCK_SIZES, TextureData
from farframe.protocol import appearance as looks
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import FetchPolicy, LoadLimits
from farframe.render.scene import RenderScene
from farframe.server.scene_world import SceneWorld
from farframe.server.textures import TextureStore
from tests.asset.test_textures_file import dds


@dataclass(eq=False)
class Resource:
    """A texture on the pretended device."""

    data: TextureData
    released: bool = False


@dataclass
class Engine:
    """As much of an engine as textures need."""

    model_bytes: int = 0
    decoded_texture_formats: frozenset[str] = frozenset()
    resources: list[Resource] = field(default_factory=list)

    def upload_texture_steps(self, data: TextureData) -> Any:
        yield 0.5
        self.resources.append(Resource(data))
        yield self.resources[-1]

    def release_texture(self, resource: Resource) -> None:
        resource.released = True


class Frames:
    """Runs jobs, and lets a test wait before one."""

    def __init__(self) -> None:
        self.scene = RenderScene()
        self.engine = Engine()
        self.hold: asyncio.Event | None = None

    async def run(self, job: Callable[[Any], Any]) -> Any:
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        return job(self.engine)


@dataclass
class Config:
    fetch: FetchPolicy
    load: LoadLimits


class Place:
    """A store, its world and a folder with files that it may read."""

    def __init__(self, folder: Path, loader: ModelLoader, limits: LoadLimits) -> None:
        self.folder = folder
        self.frames = Frames()
        self.world = SceneWorld(self.frames.scene)
        config = Config(FetchPolicy(allowed_folders=[str(folder)]), limits)
        self.store = TextureStore(config, self.frames, loader, self.world)  # type: ignore[arg-type]
        self.progress: list[tuple[str, float]] = []

    def picture(self, name: str = "red.png", size: tuple[int, int] = (8, 4)) -> str:
        Image.new("RGB", size, (255, 0, 0)).save(self.folder / name)
        return (self.folder / name).as_uri()

    async def load(self, uri: str, *, cube: bool = False) -> Any:
        return await self.store.load(uri, ASSIGNMENT, lambda *step: self.progress.append(step), cube=cube)

    async def refused(self, uri: str, result: Result, *, cube: bool = False) -> None:
        with pytest.raises(FarframeError) as caught:
            await self.load(uri, cube=cube)
        assert caught.value.result is result

    async def apply(self, *commands: Any) -> None:
        assert not self.world.apply(list(commands)).failures
        await asyncio.sleep(0)
        await self.store.settle()


class _Assignment:
    uploads_folder = ""


ASSIGNMENT: Any = _Assignment()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with ModelLoader(tmp_path / "workspace") as loader:
        folder = tmp_path / "files"
        folder.mkdir()
        place = Place(folder, loader, LoadLimits())
        yield place
        place.world.clear()
        await asyncio.sleep(0)
        await place.store.settle()
        assert all(resource.released for resource in place.frames.engine.resources)


async def test_a_texture_is_loaded_once_for_all_who_want_it_and_freed_when_nobody_does(place: Place) -> None:
    uri = place.picture()
    first, second = await asyncio.gather(place.load(uri), place.load(uri))
    assert first is second and (first.width, first.height, first.cube) == (8, 4, False)
    assert first.size_bytes == place.frames.engine.resources[0].data.size_bytes
    stages = [stage for stage, _ in place.progress]
    assert stages[0] == "read" and stages[-1] == "upload"
    assert [fraction for _, fraction in place.progress] == sorted(fraction for _, fraction in place.progress)
    (resource,) = place.frames.engine.resources
    assert place.frames.scene.textures[first.id] is resource
    await place.apply(looks.CreateMaterial(id=1, set={"albedoMap": first.id}), looks.DestroyTexture(id=first.id))
    assert not resource.released
    await place.apply(looks.DestroyMaterial(id=1))
    assert resource.released and not place.frames.scene.textures and not place.store._files
    again = await place.load(uri)
    assert again.id != first.id


async def test_what_cannot_be_loaded_is_refused_with_its_name_and_leaves_nothing(place: Place) -> None:
    uri = place.picture()
    (place.folder / "broken.png").write_bytes((place.folder / "red.png").read_bytes()[:40])
    (place.folder / "text.png").write_text("no picture")
    await place.refused((place.folder / "none.png").as_uri(), Result.FILE_NOT_FOUND)
    await place.refused("file:///etc/passwd", Result.INVALID_URI)
    await place.refused("builtin://Engine", Result.INVALID_URI)
    await place.refused("https://127.0.0.1:9/red.png", Result.INVALID_URI)
    await place.refused((place.folder / "broken.png").as_uri(), Result.FILE_CORRUPT)
    await place.refused((place.folder / "text.png").as_uri(), Result.FILE_CORRUPT)
    await place.refused(uri, Result.INVALID_PARAM, cube=True)
    place.frames.engine.model_bytes = place.store._config.load.max_scene_bytes
    await place.refused(uri, Result.EXCEEDS_MEMORY_LIMIT)
    assert not place.frames.engine.resources and not place.store._turns
    assert not list((place.folder.parent / "workspace").glob("*"))


async def test_a_load_that_is_cancelled_leaves_nothing(place: Place) -> None:
    uri = place.picture()
    for turns in (1, 20, 200):
        task = asyncio.create_task(place.load(uri))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    place.frames.hold = asyncio.Event()
    place.frames.hold.set()

    def halfway(engine: Any = place.frames.engine) -> bool:
        return bool(engine.resources)

    task = asyncio.create_task(place.load(uri))
    async with asyncio.timeout(60):
        while not halfway():
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    await place.store.settle()
    assert all(resource.released for resource in place.frames.engine.resources)
    assert not place.frames.scene.textures and not place.store._files and not len(place.world.looks.textures)


async def test_what_a_light_projects_is_made_ready_and_forgotten(place: Place) -> None:
    texture = await place.load(place.picture(size=(2048, 1024)))
    await place.apply(
        wire.Create(id=1), looks.SetLight(id=1, kind="spot", set={"projectedTexture": texture.id})
    )  # fmt: skip
    image = place.frames.scene.light_images[texture.id]
    red = image.texels.reshape(-1, 4)[:, :3].astype(float)
    assert not image.around and red[:, 0].min() > 200 and red[:, 1:].max() == 0
    await place.apply(looks.RemoveLight(id=1, kind="spot"))
    assert not place.frames.scene.light_images


@pytest.mark.parametrize("reads_blocks", [True, False])
async def test_skies_are_made_of_blocks_of_halves(place: Place, reads_blocks: bool) -> None:
    if not reads_blocks:
        place.frames.engine.decoded_texture_formats = frozenset(BLOCK_SIZES)
    # All texels at the beginning of a line that is told with 16 bits: red 4, a half of 0x4400.
    red = (0x4400 << 6) // 31 + 1
    high = sum(((red >> (15 - bit)) & 1) << (39 + bit) for bit in range(6))
    block = (0x0F | (red & 0x3FF) << 5 | high).to_bytes(16, "little")
    (place.folder / "sky.dds").write_bytes(dds(block * 32, 32, 16, dxgi=95))
    texture = await place.load((place.folder / "sky.dds").as_uri())
    kind = "bc6h-rgb-ufloat" if reads_blocks else "rgba16float"
    assert place.frames.engine.resources[0].data.format == kind
    assert place.frames.engine.resources[0].data.pixels()[0, 3, 5].tolist() == [4.0, 0.0, 0.0, 1.0]
    await place.apply(looks.SetEffects(set={"sky": {"texture": texture.id}}))
    assert place.frames.scene.environment is not None


async def test_skies_are_made_ready_and_only_the_last_one_wanted_stays(place: Place) -> None:
    texture = await place.load(place.picture(size=(64, 32)))
    scene = place.frames.scene
    await place.apply(looks.SetEffects(set={"sky": {"texture": texture.id}}))
    red = scene.environment
    assert red is not None
    place.world.apply([looks.SetEffects(set={"sky": {"texture": 0, "uri": "builtin://VeniceSunset"}})])
    await place.apply(looks.SetEffects(set={"sky": {"uri": "builtin://Studio"}}))
    assert scene.environment is None
    await place.apply(looks.SetEffects(set={"outline": {"color": [1, 0, 0]}}))
    assert scene.environment is None
    await place.apply(looks.SetEffects(set={"sky": {"texture": texture.id}}), looks.DestroyTexture(id=texture.id))
    assert scene.environment is not None and texture.id in scene.textures
    failures = place.world.apply([looks.SetEffects(set={"sky": {"uri": "builtin://Nowhere", "texture": 0}})]).failures
    assert [error.result for _, error in failures] == [Result.FILE_NOT_FOUND]


def flat(tmp_path: Path) -> tuple[TextureData, Path]:
    data = TextureData("a", "rgba8unorm", 4, 2, 1, (bytes(range(32)), bytes(8), bytes(4)), srgb=True)
    path = tmp_path / "a.texture"
    write_flat_texture(data, path)
    return data, path


def test_a_flat_texture_comes_back_as_it_was(tmp_path: Path) -> None:
    data, path = flat(tmp_path)
    with path.open("rb") as file:
        assert read_flat_texture(file) == data
        assert read_flat_texture(file) == data
    np.testing.assert_array_equal(data.pixels(2).shape, (1, 1, 1, 4))


def test_a_flat_texture_that_lies_is_refused(tmp_path: Path) -> None:
    _, path = flat(tmp_path)
    whole = path.read_bytes()
    lies = [whole[:-1], whole + b"x", b"", whole[:20], b"x" + whole[1:]]
    lies += [whole.replace(b"rgba8unorm", b"rgba9unorm"), whole.replace(b"\xa5faces\x01", b"\xa5faces\x02")]
    lies += [whole[:position] + b"\xff" + whole[position + 1 :] for position in range(8, 60)]
    refused = 0
    for lie in lies:
        path.write_bytes(lie)
        with path.open("rb") as file:
            try:
                read_flat_texture(file)
            except FarframeError as error:
                assert error.result is Result.FILE_CORRUPT
                refused += 1
    assert refused > 10
