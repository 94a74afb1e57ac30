"""A plain model is drawn as soon as it is read, and converted meanwhile; whatever happens to that is nobody's harm."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from farframe.asset.loading import ModelLoader
from farframe.protocol.errors import FarframeError
from farframe.protocol.link import FetchPolicy, LoadLimits
from farframe.render import AssetResource, Engine, FrameInput, ModelResource, Quality, RenderedFrame, RenderScene
from farframe.server import models as models_module
from farframe.server.models import LoadedModel, ModelStore
from farframe.server.refinement import convert_in_background, worth_converting
from tests.asset.conftest import GltfBuilder
from tests.render.shapes import look_at, sphere
from tests.server.test_models import ASSIGN, config

WAIT_SECONDS = 120.0
HANGING = "import sys, time; sys.stdin.readline(); time.sleep(1000)"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        engine = Engine.create("cpu")
    except FarframeError:
        engine = Engine.create("auto")
    yield engine
    engine.close()


class Frames:
    """A frame loop without frames: jobs run at once, in order."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.scene = engine, RenderScene()

    async def engine(self) -> Engine:
        return self._engine

    async def run(self, job: Callable[[Engine], Any]) -> Any:
        await asyncio.sleep(0)
        return job(self._engine)

    def triangles(self) -> int:
        """What a picture from far away draws, once all has come that it needs."""
        view = look_at((0, 0, 40.0), aspect=1.0)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            frame = self._engine.render(FrameInput((view,), 128, 128, Quality(samples=1), self.scene))
            frame.release()
            if self._engine.residency.idle:
                return frame.triangles
            assert time.monotonic() < deadline
            self._engine.residency.upload()


class Place:
    """A store over real parts, and the folders in which it leaves things."""

    def __init__(self, store: ModelStore, frames: Frames, uri: str, temporary: Path) -> None:
        self.store, self.frames, self.uri, self.temporary = store, frames, uri, temporary

    async def load(self) -> LoadedModel:
        return await self.store.load(self.uri, ASSIGN, lambda stage, share: None)

    def processes(self) -> list[psutil.Process]:
        """The conversions that run."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if Path(process.cwd()).is_relative_to(self.temporary):
                    found.append(process)
            except psutil.Error:
                pass
        return found

    async def process(self) -> psutil.Process:
        """The conversion, once it runs."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := self.processes()):
                await asyncio.sleep(0.01)
        return found[0]


@pytest.fixture
async def place(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    vertices, indices = sphere(1.0, 320, 160)
    gltf = GltfBuilder()
    primitive = {
        "attributes": {
            "POSITION": gltf.accessor(vertices["position"]),
            "NORMAL": gltf.accessor((vertices["normal"][:, :3] / 127).astype(np.float32)),
        },
        "indices": gltf.accessor(indices, "u4"),
    }
    gltf.node(mesh=gltf.mesh(primitive))
    path = gltf.write_glb(tmp_path / "ball.glb")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(models_module, "worth_converting", lambda triangles, kind: worth_converting(triangles, "CPU"))
    settings = msgspec.structs.replace(
        config(), fetch=FetchPolicy(allowed_folders=(str(tmp_path),)), load=LoadLimits(max_memory_bytes=2 << 30)
    )
    frames = Frames(engine)
    async with ModelLoader(tmp_path / "work") as loader:
        yield Place(ModelStore(settings, frames, loader, "fake"), frames, path.as_uri(), temporary)  # type: ignore[arg-type]
    assert not list(temporary.iterdir())


def run_instead(monkeypatch: pytest.MonkeyPatch, script: str, seconds: float = WAIT_SECONDS) -> None:
    """Have another program do the conversion."""

    async def convert(flat: Path, asset: Path, limits: LoadLimits) -> None:
        limits = msgspec.structs.replace(limits, max_seconds=seconds)
        await convert_in_background(flat, asset, limits, command=(sys.executable, "-c", script))

    monkeypatch.setattr(models_module, "convert_in_background", convert)


async def test_a_plain_model_is_drawn_at_once_and_later_as_an_asset(place: Place, engine: Engine) -> None:
    before = engine.model_bytes
    loaded = await place.load()
    assert isinstance(loaded.resource, ModelResource)
    told, plain = loaded.to_result(1, "x"), loaded.resource
    whole = place.frames.triangles()
    assert whole > 90_000, "drawn as it is"
    version = place.frames.scene.version
    assert loaded.refinement is not None
    await asyncio.wait_for(loaded.refinement, WAIT_SECONDS)
    assert isinstance(loaded.resource, AssetResource)
    assert plain.released and place.frames.scene.version > version
    assert [entry.resource for entry in place.frames.scene.entries.values()] == [loaded.resource]
    assert place.frames.triangles() < whole / 5
    assert loaded.to_result(1, "x") == told
    assert not place.processes() and not list(place.temporary.iterdir())
    await place.store.remove([loaded])
    assert engine.model_bytes == before and not place.frames.scene.entries
    assert loaded.asset is not None and loaded.asset.source.size == 0


async def test_unloading_meanwhile_leaves_neither_process_nor_file(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = engine.model_bytes
    run_instead(monkeypatch, HANGING)
    first, second = await place.load(), await place.load()
    process = await place.process()
    # The second waits for its turn; it has files, and no process yet.
    assert len(list(place.temporary.iterdir())) == 2 and len(place.processes()) == 1
    await place.store.remove([first, second])
    assert not process.is_running()
    assert not list(place.temporary.iterdir()) and not place.frames.scene.entries
    assert engine.model_bytes == before


async def test_unloading_before_the_conversion_begins(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, HANGING)
    await place.store.remove([await place.load()])
    assert not list(place.temporary.iterdir()) and not place.processes()


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
async def test_unloading_while_the_asset_is_opened(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    before = engine.model_bytes
    loaded = await place.load()
    converted = asyncio.Event()

    async def convert(flat: Path, asset: Path, limits: LoadLimits) -> None:
        await convert_in_background(flat, asset, limits)
        converted.set()

    monkeypatch.setattr(models_module, "convert_in_background", convert)
    await asyncio.wait_for(converted.wait(), WAIT_SECONDS)
    for _ in range(steps):
        await asyncio.sleep(0)
    await place.store.remove([loaded])
    assert engine.model_bytes == before and not place.frames.scene.entries


@pytest.mark.parametrize(
    "script", ["import os; os.abort()", "raise SystemExit(3)", "import sys; sys.stdin.read()", HANGING]
)
async def test_a_conversion_that_fails_leaves_the_model(
    place: Place, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    run_instead(monkeypatch, script, seconds=0.5 if script is HANGING else WAIT_SECONDS)
    loaded = await place.load()
    assert loaded.refinement is not None
    await loaded.refinement
    assert isinstance(loaded.resource, ModelResource) and place.frames.triangles() > 90_000
    assert not place.processes() and not list(place.temporary.iterdir())
    await place.store.remove([loaded])


async def test_an_operator_who_does_not_want_it(place: Place) -> None:
    place.store._config = msgspec.structs.replace(place.store._config, background_conversion=False)
    loaded = await place.load()
    assert loaded.refinement is None and loaded.workspace is None
    assert not place.processes() and not list(place.temporary.iterdir())
    await place.store.remove([loaded])


def test_small_models_are_not_worth_it() -> None:
    assert worth_converting(20_000, "CPU") and not worth_converting(19_999, "CPU")
    assert not worth_converting(100_000, "DiscreteGPU") and worth_converting(1_000_000, "DiscreteGPU")


async def test_the_picture_is_no_coarser_for_a_moment_when_the_asset_takes_the_models_place(place: Place) -> None:
    def picture() -> RenderedFrame:
        view = look_at((0, 0, 2.2), aspect=1.0)
        frame = place.frames._engine.render(
            FrameInput((view,), 512, 512, Quality(samples=1, cut_error=0.2), place.frames.scene)
        )
        frame.release()
        return frame

    loaded = await place.load()
    picture()
    assert loaded.refinement is not None
    await asyncio.wait_for(asyncio.shield(loaded.refinement), WAIT_SECONDS)
    assert isinstance(loaded.resource, AssetResource)
    assert len(loaded.resource.pages.resident) > 4, "an asset of few pages is there at once"
    first = picture().triangles
    assert not loaded.resource.pages.priority.any(), "the first picture misses pages"
    deadline = time.monotonic() + WAIT_SECONDS
    engine = place.frames._engine
    while not engine.residency.idle:
        assert time.monotonic() < deadline
        engine.residency.upload()
        picture()
    assert picture().triangles == first
