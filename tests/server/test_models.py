"""Loading models for a device: whole or not at all, within limits, with progress that never goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from farframe.asset.container import Asset
from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Part
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import Assign, FetchPolicy, LoadLimits, ServerConfig
from farframe.render import PreparedAsset
from farframe.server.models import ModelStore, names_asset
from farframe.server.models import _Stages as Stages
from tests.render.shapes import ModelBuilder, sphere

ASSIGN = Assign(session_key="k", session_id="s", account_id="a", size="Standard", uploads_folder="")


def config(**limits: int) -> ServerConfig:
    return ServerConfig(
        server_id="x",
        link_path="",
        certificate_file="",
        key_file="",
        token_keys="",
        token_issuer="",
        load=LoadLimits(**limits),
    )


def triangle() -> Model:
    vertices = np.zeros(3, VERTEX_DTYPE)
    part = Part(0, 3, (Level(0, 3, 0.0),), 0, (0.0, 0.0, 0.0), (1.0, 1.0, 0.0))
    return Model(
        name="triangle",
        vertices=vertices,
        indices=np.arange(3, dtype=np.uint32),
        parts=[part],
        materials=[Material()],
        textures=[],
        nodes=[],
        instance_part=np.zeros(1, np.int32),
        instance_node=np.zeros(1, np.int32),
        instance_matrix=np.eye(4)[None],
        bounds_min=(0.0, 0.0, 0.0),
        bounds_max=(1.0, 1.0, 0.0),
    )


@dataclass(eq=False)
class Resource:
    size_bytes: int


@dataclass(eq=False)
class AssetResource(Resource):
    asset: Asset

    @property
    def triangle_count(self) -> int:
        return int(self.asset.parts["triangles"].sum())


class Engine:
    """Uploads in three steps; fails or waits where a test wants it to."""

    def __init__(self) -> None:
        self.resources: set[Resource] = set()
        self.steps = 0
        self.closed_early = 0
        self.fail_at: int | None = None

    @property
    def model_bytes(self) -> int:
        return sum(resource.size_bytes for resource in self.resources)

    def upload_steps(self, model: Model) -> Iterator[float | Resource]:
        complete = False
        try:
            for step in range(3):
                self.steps += 1
                if step == self.fail_at:
                    raise FarframeError(Result.EXCEEDS_MEMORY_LIMIT, "The device is full.")
                yield step / 3
            complete = True
        finally:
            self.closed_early += not complete
        resource = Resource(1000)
        self.resources.add(resource)
        yield resource

    def open_asset_steps(self, prepared: PreparedAsset) -> Iterator[float | AssetResource]:
        yield 0.5
        if self.fail_at is not None:
            raise FarframeError(Result.EXCEEDS_MEMORY_LIMIT, "The device is full.")
        resource = AssetResource(1000, prepared.asset)
        self.resources.add(resource)
        yield resource

    def release(self, resource: Resource) -> None:
        self.resources.discard(resource)


class Scene:
    primitive_limit: int | None = None

    def __init__(self) -> None:
        self.entries: dict[int, Resource] = {}

    def add_clockwork(self, work: Any) -> None:
        """Nothing moves by itself here."""

    def add(self, resource: Resource, matrix: Any) -> int:
        self.entries[len(self.entries) + 1] = resource
        return len(self.entries)

    def remove(self, handle: int) -> None:
        del self.entries[handle]


class Frames:
    def __init__(self) -> None:
        self.engine, self.scene = Engine(), Scene()
        self.before_job: Callable[[], None] | None = None

    async def run(self, job: Callable[[Engine], Any]) -> Any:
        await asyncio.sleep(0)
        if self.before_job is not None:
            self.before_job()
        return job(self.engine)


class Loader:
    async def load(self, source: Path | str, limits: LoadLimits, progress: Callable[[str, float], None]) -> Model:
        for step in ("reading", "textures", "geometry", "levels", "writing", "reading"):
            progress(step, 0.5)
            progress(step, 1.0)
        return triangle()


def store(frames: Frames, **limits: int) -> ModelStore:
    return ModelStore(config(**limits), frames, Loader(), "fake")  # type: ignore[arg-type]


async def test_a_load_tells_its_progress_and_stands_in_the_scene() -> None:
    frames = Frames()
    told: list[tuple[str, float]] = []
    loaded = await store(frames).load("builtin://Engine", ASSIGN, lambda stage, share: told.append((stage, share)))
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[-1] == ("upload", 1.0)
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["read", "simplify", "upload"]
    assert list(frames.scene.entries.values()) == list(frames.engine.resources)
    assert loaded.to_result(7, "https://h/x.glb?sig=secret").uri == "https://h/x.glb"


async def test_what_fails_half_way_leaves_nothing() -> None:
    frames = Frames()
    frames.engine.fail_at = 1
    with pytest.raises(FarframeError, match="full"):
        await store(frames).load("builtin://Engine", ASSIGN, lambda stage, share: None)
    assert not frames.engine.resources
    assert not frames.scene.entries
    assert frames.engine.closed_early == 1


@pytest.mark.parametrize("after", range(1, 8))
async def test_what_is_cancelled_leaves_nothing(after: int) -> None:
    frames = Frames()
    models = store(frames)
    jobs = 0

    def count() -> None:
        nonlocal jobs
        jobs += 1
        if jobs == after:
            task.cancel()

    frames.before_job = count
    task = asyncio.create_task(models.load("builtin://Engine", ASSIGN, lambda stage, share: None))
    try:
        loaded = await task
    except asyncio.CancelledError:
        pass
    else:
        await models.remove([loaded])
    assert not frames.engine.resources
    assert not frames.scene.entries


async def test_a_full_scene_takes_no_more() -> None:
    frames = Frames()
    models = store(frames, max_scene_bytes=1500)
    first = await models.load("builtin://Engine", ASSIGN, lambda stage, share: None)
    frames.engine.resources.add(Resource(500))
    with pytest.raises(FarframeError) as caught:
        await models.load("builtin://Engine", ASSIGN, lambda stage, share: None)
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT
    assert frames.engine.steps == 3, "nothing of the second was uploaded"
    await models.remove([first])


async def test_an_unknown_built_in_model_is_named() -> None:
    with pytest.raises(FarframeError, match="Nope") as caught:
        await store(Frames()).load("builtin://Nope", ASSIGN, lambda stage, share: None)
    assert caught.value.result is Result.FILE_NOT_FOUND
    assert "builtin://Engine" in caught.value.next_step


async def test_an_asset_is_opened_in_place_and_closed_when_it_goes(tmp_path: Path) -> None:
    builder = ModelBuilder("ball")
    builder.place(builder.part(sphere(), Material()))
    path = tmp_path / "any.name"
    build_asset(builder.build(), path, BuildOptions(workers=1))
    settings = msgspec.structs.replace(config(), fetch=FetchPolicy(allowed_folders=(str(tmp_path),)))
    frames = Frames()
    models = ModelStore(settings, frames, Loader(), "fake")  # type: ignore[arg-type]
    told: list[tuple[str, float]] = []
    loaded = await models.load(path.as_uri(), ASSIGN, lambda stage, share: told.append((stage, share)))
    assert loaded.model_name == "ball" and loaded.triangle_count > 3000 and loaded.part_count == 1
    assert told[-1] == ("upload", 1.0) and {stage for stage, _ in told} == {"read", "upload"}
    assert frames.scene.entries and loaded.asset is not None
    assert frames.scene.primitive_limit == 20_000_000
    source = loaded.asset.source
    assert source.size > 0
    await models.remove([loaded])
    assert source.size == 0, "the file is closed"
    assert not frames.scene.entries and not frames.engine.resources

    frames.engine.fail_at = 0
    with pytest.raises(FarframeError, match="full"):
        await models.load(path.as_uri(), ASSIGN, lambda stage, share: None)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FarframeError) as caught:
        await models.load(path.as_uri(), ASSIGN, lambda stage, share: None)
    assert caught.value.result is Result.FILE_CORRUPT
    assert not frames.scene.entries


def test_assets_on_the_web_are_known_by_their_name() -> None:
    assert names_asset("https://host/a/Model.arrAsset?sv=1&sig=x.glb")
    assert not names_asset("https://host/a/model.glb?x=.arrAsset")
    assert not names_asset("file:///a/model.arrAsset")


def test_progress_never_goes_back() -> None:
    told: list[float] = []
    stages = Stages(lambda stage, share: told.append(share))
    for step, fraction in (
        ("geometry", 0.9),
        ("reading", 0.1),
        ("levels", 0.0),
        ("uploading", 2.0),
        ("uploading", 0.1),
    ):
        stages(step, fraction)
    assert told == sorted(set(told))
    assert told[-1] == 1.0
