"""Part instances that move, hide and take colour one by one: what is written over looks as what is built anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.model import Material, Model
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.link import LoadLimits
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.scene import JOURNAL_ENTRIES
from tests.render.shapes import ModelBuilder, box, look_at, sphere

VIEW = look_at((0, 3, 14))


def balls(count: int = 7) -> Model:
    builder = ModelBuilder()
    red = builder.part(sphere(slices=48, stacks=24), Material(base_color=(0.7, 0.1, 0.1, 1), metallic=0.2))
    blue = builder.part(box(0.8), Material(base_color=(0.1, 0.2, 0.7, 1), roughness=0.4))
    for number in range(count):
        builder.place((red, blue)[number % 2], ((number - count // 2) * 2.0, 0, 0))
    return builder.build()


def picture(engine: Engine, scene: RenderScene) -> NDArray[np.uint8]:
    for _ in range(200):
        frame = engine.render(FrameInput((VIEW,), 480, 270, Quality(samples=1), scene))
        pixels = frame.pixels.copy()
        frame.release()
        if engine.residency.idle:
            return pixels
        engine.residency.upload()
    raise AssertionError("pages do not come")


@pytest.fixture(params=["model", "asset"])
def resource(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path):
    if request.param == "model":
        resource = engine.upload(balls())
        yield resource
        engine.release(resource)
        return
    path = tmp_path / "balls.arrAsset"
    build_asset(balls(), path, BuildOptions(workers=1))
    asset = Asset.open(FileSource(path), LoadLimits())
    resource = engine.open_asset(asset)
    yield resource
    engine.release(resource)
    asset.close()


def moved(resource, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    world = resource.instance_matrix[rows, :3].copy()
    turn = np.array([[0.6, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.6]])
    world[:, :, :3] = 0.7 * turn @ world[:, :, :3]
    world[:, 1, 3] += np.linspace(1.0, 2.0, len(rows))
    return world


CHANGES = {
    "hidden": lambda resource, rows: {"visible": np.zeros(len(rows), np.bool_)},
    "tinted": lambda resource, rows: {"tint": np.tile(np.float32([0, 1, 0, 0.5]), (len(rows), 1))},
    "moved": lambda resource, rows: {"world": moved(resource, rows)},
    "mirrored": lambda resource, rows: {"world": moved(resource, rows) * [[-1, 1, 1, 1]]},
    "uneven": lambda resource, rows: {"world": resource.instance_matrix[rows, :3] * [[1.4, 0.3, 1, 1]]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_written_over_looks_as_what_is_built_anew(engine: Engine, resource, change: str) -> None:
    rows = np.array([0, 2, 3, 6])
    values = CHANGES[change](resource, rows)
    scene, other = RenderScene(), RenderScene()
    handle = scene.add(resource, np.eye(4))
    before = picture(engine, scene)
    version = scene.version
    scene.update_instances(handle, rows, **values)
    assert scene.version > version
    after = picture(engine, scene)
    assert (after != before).any(axis=2).mean() > 0.01, "something is seen of it"
    other.update_instances(other.add(resource, np.eye(4)), rows, **values)
    np.testing.assert_array_equal(after, picture(engine, other))
    plain = RenderScene()
    plain.add(resource, np.eye(4))
    scene.update_instances(
        handle,
        rows,
        world=resource.instance_matrix[rows, :3],
        visible=np.ones(len(rows), np.bool_),
        tint=np.zeros((len(rows), 4), np.float32),
    )
    np.testing.assert_array_equal(picture(engine, scene), before)


def test_a_pure_tint_is_seen_as_it_is(engine: Engine, resource) -> None:
    scene = RenderScene()
    handle = scene.add(resource, np.eye(4))
    count = len(resource.instance_part)
    scene.update_instances(handle, np.arange(count), tint=np.tile(np.float32([1, 0.5, 0, 1]), (count, 1)))
    np.testing.assert_allclose(picture(engine, scene)[135, 240], (255, 188, 0, 255), atol=1)


def test_more_changes_than_the_journal_holds_are_not_missed(engine: Engine, resource) -> None:
    scene = RenderScene()
    handle = scene.add(resource, np.eye(4))
    picture(engine, scene)
    rows = np.arange(len(resource.instance_part))
    scene.update_instances(handle, rows, visible=np.zeros(len(rows), np.bool_))
    for _ in range(JOURNAL_ENTRIES + 5):
        scene.update_instances(handle, rows[:1], tint=np.zeros((1, 4), np.float32))
    np.testing.assert_array_equal(picture(engine, scene), picture(engine, RenderScene()))


def test_changes_of_models_that_are_gone_are_passed_over(engine: Engine, resource) -> None:
    scene = RenderScene()
    first, second = scene.add(resource, np.eye(4)), scene.add(resource, np.eye(4))
    picture(engine, scene)
    scene.update_instances(first, np.array([0]), visible=np.zeros(1, np.bool_))
    scene.remove(first)
    only = picture(engine, scene)
    scene.move(second, np.diag([0.5, 0.5, 0.5, 1.0]))
    assert (picture(engine, scene) != only).any()
    with pytest.raises(KeyError):
        scene.update_instances(first, np.array([0]), visible=np.zeros(1, np.bool_))
