"""What live edits of materials touch, and what they leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from farframe.asset.model import Material
from farframe.asset.textures_file import TextureData
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.placement import ScenePlacement
from farframe.render.scene import MATERIAL_JOURNAL_ENTRIES
from farframe.scene.materials import MaterialFlag, MaterialState
from tests.render.shapes import ModelBuilder, box, look_at

COUNT = 3000
PLAIN = MaterialState(albedo_color=(0.2, 0.4, 0.8, 1.0))
GLASS = replace(PLAIN, flags=PLAIN.flags | MaterialFlag.TRANSPARENT, albedo_color=(0.2, 0.4, 0.8, 0.5))
VIEW = look_at((0, 0, 60), aspect=1.0)


@pytest.fixture
def many(engine: Engine) -> Iterator[tuple[RenderScene, int, object]]:
    builder = ModelBuilder()
    parts = [builder.part(box(0.3), Material(base_color=(0.5, 0.1 * n, 0.2, 1))) for n in range(5)]
    for number in range(COUNT):
        builder.place(parts[number % 5], (number % 60 - 30, number // 60 - 25, 0))
    resource = engine.upload(builder.build())
    scene = RenderScene()
    yield scene, scene.add(resource, np.eye(4)), resource
    engine.release(resource)


def draw(engine: Engine, scene: RenderScene) -> ScenePlacement:
    engine.render(FrameInput((VIEW,), 64, 64, Quality(samples=1), scene)).release()
    return engine._placements[scene]


class Writes:
    """Counts the bytes that go to the device, and the Python calls for batches."""

    def __init__(self, placement: ScenePlacement, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = self.builds = self.batches = 0
        write, build, batch = placement._write_rows, placement._build, placement._batch

        def write_rows(rows: np.ndarray) -> None:
            self.rows += len(rows)
            write(rows)

        def build_anew(*arguments: object) -> None:
            self.builds += 1
            build(*arguments)  # type: ignore[arg-type]

        def one_batch(*arguments: object) -> int:
            self.batches += 1
            return batch(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(placement, "_write_rows", write_rows)
        monkeypatch.setattr(placement, "_build", build_anew)
        monkeypatch.setattr(placement, "_batch", one_batch)

    def reset(self) -> None:
        self.rows = self.builds = self.batches = 0


def test_edits_write_rows_and_build_nothing(
    engine: Engine, many: tuple[RenderScene, int, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, handle, _ = many
    placement = draw(engine, scene)
    writes = Writes(placement, monkeypatch)
    half = np.arange(0, COUNT, 2)
    scene.set_material(7, PLAIN)
    scene.update_instances(handle, half, material=np.full(len(half), 7, np.uint32))
    draw(engine, scene)
    assert (writes.builds, writes.rows) == (0, len(half))
    assert writes.batches <= 2, "Python for each kind of instance, not for each"
    draw(engine, scene)
    made = engine.pipelines.created
    writes.reset()
    scene.set_material(7, replace(PLAIN, roughness=0.3, emissive_color=(0.0, 0.0, 0.0)))
    draw(engine, scene)
    assert (writes.builds, writes.rows, engine.pipelines.created) == (0, len(half), made)
    np.testing.assert_allclose(placement._rows["surface"][half, 1], 0.3)
    untouched = np.arange(1, COUNT, 2)
    assert (placement._rows["surface"][untouched, 1] == 1.0).all()
    writes.reset()
    scene.set_material(7, GLASS)
    draw(engine, scene)
    assert (writes.builds, writes.rows) == (0, len(half))
    assert writes.batches <= 2
    scene.set_material(7, PLAIN)
    draw(engine, scene)
    made = engine.pipelines.created
    writes.reset()
    scene.set_material(7, GLASS)
    draw(engine, scene)
    assert (writes.builds, engine.pipelines.created) == (0, made), "what was transparent once costs no pipeline"


def test_many_materials_of_one_look_are_one_batch(
    engine: Engine, many: tuple[RenderScene, int, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, handle, _ = many
    placement = draw(engine, scene)
    before = len(placement.batches)
    for number in range(200):
        scene.set_material(number + 1, replace(PLAIN, albedo_color=(number / 200, 0.5, 0.5, 1.0)))
    rows = np.arange(COUNT)
    scene.update_instances(handle, rows, material=(rows % 200 + 1).astype(np.uint32))
    draw(engine, scene)
    assert len(placement.batches) <= before + 1
    np.testing.assert_allclose(placement._rows["base_color"][:, 0], rows % 200 / 200, atol=1e-6)


def test_edits_of_what_nobody_uses_touch_nothing(
    engine: Engine, many: tuple[RenderScene, int, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, handle, _ = many
    writes = Writes(draw(engine, scene), monkeypatch)
    scene.set_material(5, PLAIN)
    scene.set_texture(6, None)
    scene.update_instances(handle, np.zeros(0, np.int64), material=np.zeros(0, np.uint32))
    draw(engine, scene)
    assert (writes.rows, writes.builds, writes.batches) == (0, 0, 0)


def test_more_edits_than_the_journal_holds_are_not_missed(
    engine: Engine, many: tuple[RenderScene, int, object]
) -> None:
    scene, handle, _ = many
    scene.set_material(1, PLAIN)
    scene.update_instances(handle, np.arange(COUNT), material=np.ones(COUNT, np.uint32))
    draw(engine, scene)
    scene.set_material(1, replace(PLAIN, roughness=0.25))
    for _ in range(MATERIAL_JOURNAL_ENTRIES + 3):
        scene.set_material(2, GLASS)
    placement = draw(engine, scene)
    np.testing.assert_allclose(placement._rows["surface"][:, 1], 0.25)


def test_extras_reach_the_device_with_the_edit(engine: Engine, many: tuple[RenderScene, int, object]) -> None:
    """A row of the storage buffer is written when a number changes that stands only there."""
    scene, handle, _ = many
    scene.background = (0.0, 0.0, 0.0)
    scene.set_material(1, replace(PLAIN, flags=PLAIN.flags | MaterialFlag.FADE_TO_BLACK, fade_out=0.9))
    scene.update_instances(handle, np.arange(COUNT), material=np.ones(COUNT, np.uint32))

    def light() -> float:
        frame = engine.render(FrameInput((VIEW,), 64, 64, Quality(samples=1), scene))
        mean = float(frame.pixels[..., :3].mean())
        frame.release()
        return mean

    bright = light()
    scene.set_material(1, replace(PLAIN, flags=PLAIN.flags | MaterialFlag.FADE_TO_BLACK, fade_out=0.1))
    assert light() < 0.6 * bright


def test_textures_count_as_memory_and_are_given_back(engine: Engine) -> None:
    before = engine.model_bytes
    texture = engine.upload_texture(TextureData("t", "rgba8unorm", 64, 64, 1, (bytes(64 * 64 * 4),)))
    assert engine.model_bytes == before + 64 * 64 * 4
    steps = engine.upload_texture_steps(TextureData("t", "rgba8unorm", 64, 64, 1, (bytes(64 * 64 * 4),)))
    assert 0.0 < next(steps) < 1.0  # type: ignore[operator]
    steps.close()
    engine.release_texture(texture)
    engine.release_texture(texture)
    assert engine.model_bytes == before
    assert texture.released
