"""Transparency that does not depend on order: against an exact reference, in any order, with any number of samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.model import Material
from farframe.asset.source import FileSource
from farframe.asset.srgb import linear_of_srgb
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.link import LoadLimits
from farframe.render import AssetResource, Engine, FrameInput, ModelResource, Quality, RenderScene, layers
from farframe.scene.effects import Effects, ZFightingSettings
from farframe.scene.materials import ColorTransparency, MaterialFlag, MaterialKind, MaterialState
from farframe.scene.states import State
from tests.render.shapes import ModelBuilder, look_at, plane

SIZE, DEGREES, DISTANCE = 120, 24.0, 6.0
VIEW = look_at((0, 0, DISTANCE), aspect=1.0, degrees=DEGREES)
BACKGROUND = (0.15, 0.2, 0.3)
GLASS = MaterialState(
    kind=MaterialKind.COLOR,
    flags=MaterialFlag.DOUBLE_SIDED,
    albedo_color=(0.2, 0.8, 0.4, 0.5),
    color_transparency=ColorTransparency.ALPHA_BLEND,
)


class Panes:
    """``count`` squares of glass at random, most of which go through each other."""

    def __init__(self, count: int, seed: int = 3) -> None:
        random = np.random.default_rng(seed)
        self.turn = np.linalg.qr(random.normal(size=(count, 3, 3)))[0]
        self.turn[:, :, 2] *= np.sign(np.linalg.det(self.turn))[:, None]
        self.middle = random.uniform(-0.7, 0.7, (count, 3))
        self.color = random.uniform(0.0, 1.0, (count, 3))
        self.alpha = random.uniform(0.1, 0.9, count)

    def scene(self, engine: Engine, order: NDArray[np.int64]) -> tuple[RenderScene, object]:
        """The panes as parts of a model, in that order, each with a material of its own."""
        builder = ModelBuilder()
        part = builder.part(plane(1.0), Material(unlit=True))
        for pane in order:
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = self.turn[pane], self.middle[pane]
            builder.instances.append((part, matrix))
        resource = engine.upload(builder.build())
        scene = RenderScene()
        scene.background = BACKGROUND
        # Which of surfaces in the same place is seen is not to be settled by their order here.
        scene.effects = Effects(z_fighting=ZFightingSettings(enabled=False))
        handle = scene.add(resource, np.eye(4))
        for pane in order.tolist():
            color = (*self.color[pane].tolist(), float(self.alpha[pane]))
            scene.set_material(pane + 1, state(color))
        scene.update_instances(handle, np.arange(len(order)), material=(order + 1).astype(np.uint32))
        return scene, resource

    def exact(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Linear light of each pixel's middle, composed from back to front, and where no edge is near."""
        across = (np.arange(SIZE) + 0.5 - SIZE / 2) / (SIZE / 2) * np.tan(np.radians(DEGREES / 2))
        ray = np.stack(np.broadcast_arrays(across[None], -across[:, None], -1.0), axis=-1)
        count = len(self.alpha)
        depth = np.full((count, SIZE, SIZE), np.inf)
        sure = np.ones((SIZE, SIZE), np.bool_)
        eye = np.array([0.0, 0.0, DISTANCE])
        for pane in range(count):
            normal = self.turn[pane][:, 2]
            with np.errstate(divide="ignore", invalid="ignore"):
                t = ((self.middle[pane] - eye) @ normal) / (ray @ normal)
            place = (eye + t[..., None] * ray - self.middle[pane]) @ self.turn[pane]
            reach = np.abs(place[..., :2]).max(axis=-1)
            inside = (reach <= 1.0) & (t > 0.05)
            depth[pane][inside] = t[inside]
            # Nowhere within a pixel is there an edge if that is farther away than what a pixel changes.
            sure &= np.abs(reach - 1.0) > np.abs(np.gradient(reach)).sum(axis=0)
        order = np.argsort(-depth, axis=0, kind="stable")
        near = np.sort(depth, axis=0)
        with np.errstate(invalid="ignore"):
            sure &= ~((np.diff(near, axis=0) < 1e-4) & np.isfinite(near[1:])).any(axis=0)
        light = np.broadcast_to(np.array(BACKGROUND), (SIZE, SIZE, 3)).copy()
        for layer in order:
            there = np.isfinite(np.take_along_axis(depth, layer[None], axis=0)[0])
            alpha = np.where(there, self.alpha[layer], 0.0)[..., None]
            light = light * (1.0 - alpha) + self.color[layer] * alpha
        return light, sure


def state(color: tuple[float, ...], flags: MaterialFlag = MaterialFlag.DOUBLE_SIDED) -> MaterialState:
    return MaterialState(
        kind=MaterialKind.COLOR,
        flags=flags,
        albedo_color=(color[0], color[1], color[2], color[3]),
        color_transparency=ColorTransparency.ALPHA_BLEND,
    )


def picture(engine: Engine, scene: RenderScene, samples: int = 1, **more: object) -> NDArray[np.uint8]:
    frame = engine.render(FrameInput((VIEW,), SIZE, SIZE, Quality(samples=samples), scene, **more))  # type: ignore[arg-type]
    pixels = frame.pixels.copy()
    frame.release()
    return pixels


@pytest.mark.parametrize("samples", [1, 4])
def test_many_layers_that_go_through_each_other_are_exact(engine: Engine, samples: int) -> None:
    panes = Panes(40)
    exact, sure = panes.exact()
    assert sure.mean() > 0.15
    scene, resource = panes.scene(engine, np.arange(40))
    found = linear_of_srgb(np.ascontiguousarray(picture(engine, scene, samples)[..., :3]))
    engine.release(resource)
    error = np.abs(found - exact)[sure]
    # Half a step of sRGB is up to 0.0044 of linear light near white; the rest are half floats.
    assert error.max() < 0.007
    assert error.mean() < 0.002


@pytest.mark.parametrize("samples", [1, 4])
def test_the_order_of_parts_makes_no_difference(engine: Engine, samples: int) -> None:
    panes = Panes(24, seed=8)
    random = np.random.default_rng(1)
    pictures = []
    for order in (np.arange(24), np.arange(24)[::-1].copy(), random.permutation(24)):
        scene, resource = panes.scene(engine, order)
        pictures.append(picture(engine, scene, samples))
        engine.release(resource)
    np.testing.assert_array_equal(pictures[1], pictures[0])
    np.testing.assert_array_equal(pictures[2], pictures[0])
    assert pictures[0][..., :3].std() > 20


def test_coplanar_layers_are_composed_alike_in_any_order(engine: Engine) -> None:
    """Equal depths: chance must not decide, and none must be lost."""
    pictures = []
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        panes = Panes(3)
        panes.turn[:] = np.eye(3)
        panes.middle[:] = 0.0
        panes.alpha[:] = 0.5
        panes.color[:] = [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
        scene, resource = panes.scene(engine, np.array(order))
        pictures.append(picture(engine, scene))
        engine.release(resource)
    np.testing.assert_array_equal(pictures[1], pictures[0])
    np.testing.assert_array_equal(pictures[2], pictures[0])
    left = linear_of_srgb(np.ascontiguousarray(pictures[0][SIZE // 2, SIZE // 2, :3]))
    np.testing.assert_allclose(left[2], 0.125 * BACKGROUND[2], atol=0.003)


@pytest.mark.parametrize("samples", [1, 4])
def test_too_few_nodes_cost_time_and_change_nothing(
    engine: Engine, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, resource = Panes(24).scene(engine, np.arange(24))
    before = picture(engine, scene, samples)
    wanted = engine._passes.layers.wanted
    assert wanted > 20_000
    lists = layers.Layers(engine._device, engine.pipelines)
    monkeypatch.setattr(engine._passes, "layers", lists)
    monkeypatch.setattr(layers, "FIRST_NODES", 1000)
    np.testing.assert_array_equal(picture(engine, scene, samples), before)
    assert lists.capacity > wanted, "they grew"
    lists = layers.Layers(engine._device, engine.pipelines)
    lists._most = wanted // 5
    monkeypatch.setattr(engine._passes, "layers", lists)
    np.testing.assert_array_equal(picture(engine, scene, samples), before)
    assert lists.capacity == wanted // 5
    assert 0 < lists.wanted <= lists.capacity, "the last band had enough of them"
    engine.release(resource)


def test_two_views_and_bands_are_composed_alike(engine: Engine) -> None:
    scene, resource = Panes(12).scene(engine, np.arange(12))
    single = picture(engine, scene)
    frame = engine.render(FrameInput((VIEW, VIEW), 2 * SIZE, SIZE, Quality(samples=1), scene))
    np.testing.assert_array_equal(frame.pixels[:, :SIZE], single)
    np.testing.assert_array_equal(frame.pixels[:, SIZE:], single)
    frame.release()
    engine.release(resource)


@pytest.mark.parametrize("kind", ["model", "asset"])
def test_a_converted_material_that_writes_depth_does(engine: Engine, tmp_path: Path, kind: str) -> None:
    builder = ModelBuilder()
    glass = Material(base_color=(1, 0, 0, 0.4), alpha_mode="blend", transparency_writes_depth=True)
    builder.place(builder.part(plane(2.0), glass), (0, 0, 1.0))
    builder.place(builder.part(plane(2.0), replace(glass, transparency_writes_depth=False)), (0, 0, 2.0))
    if kind == "model":
        resource: AssetResource | ModelResource = engine.upload(builder.build())
    else:
        build_asset(builder.build(), tmp_path / "glass.arrAsset", BuildOptions(workers=1))
        resource = engine.open_asset(Asset.open(FileSource(tmp_path / "glass.arrAsset"), LoadLimits()))
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    frame = engine.render(FrameInput((VIEW,), SIZE, SIZE, Quality(samples=1), scene, read_depth=True))
    assert frame.depth is not None
    assert frame.depth[SIZE // 2, SIZE // 2] == pytest.approx(5.0, abs=1e-2)
    frame.release()
    engine.release(resource)
    if isinstance(resource, AssetResource):
        resource.asset.close()


class TestDepth:
    @pytest.fixture
    def scene(self, engine: Engine) -> Iterator[tuple[RenderScene, int]]:
        """Two panes of glass, 1 and 0.4 before an opaque wall that fills the left half."""
        builder = ModelBuilder()
        part = builder.part(plane(2.0), Material(unlit=True))
        wall = builder.part(plane(1.0), Material(unlit=True))
        builder.place(part, (0, 0, 1.0))
        builder.place(part, (0, 0, 0.4))
        builder.place(wall, (-1.0, 0, 0))
        resource = engine.upload(builder.build())
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        scene.set_material(1, state((1, 0, 0, 0.3)))
        scene.set_material(2, state((0, 0, 1, 0.3)))
        scene.update_instances(handle, np.arange(2), material=np.array([1, 2], np.uint32))
        yield scene, handle
        engine.release(resource)

    def depths(self, engine: Engine, scene: RenderScene, samples: int) -> tuple[float, float]:
        """Metres at the middle of the wall and beside it."""
        frame = engine.render(FrameInput((VIEW,), SIZE, SIZE, Quality(samples=samples), scene, read_depth=True))
        assert frame.depth is not None
        found = float(frame.depth[SIZE // 2, SIZE // 4]), float(frame.depth[SIZE // 2, 3 * SIZE // 4])
        frame.release()
        return found

    @pytest.mark.parametrize("samples", [1, 4])
    def test_only_what_is_told_to_counts_for_depth(
        self, engine: Engine, scene: tuple[RenderScene, int], samples: int
    ) -> None:
        drawn, handle = scene
        before = picture(engine, drawn, samples)
        assert self.depths(engine, drawn, samples) == (pytest.approx(6.0, abs=1e-3), np.inf)
        writes = MaterialFlag.DOUBLE_SIDED | MaterialFlag.TRANSPARENCY_WRITES_DEPTH
        drawn.set_material(2, state((0, 0, 1, 0.3), writes))
        assert self.depths(engine, drawn, samples) == pytest.approx((5.6, 5.6), abs=1e-3)
        drawn.set_material(1, state((1, 0, 0, 0.3), writes))
        assert self.depths(engine, drawn, samples) == pytest.approx((5.0, 5.0), abs=1e-3)
        np.testing.assert_array_equal(picture(engine, drawn, samples), before)
        drawn.set_material(1, state((1, 0, 0, 0.3)))
        drawn.set_material(2, state((0, 0, 1, 0.3)))
        counts = np.array([int(State.TRANSPARENCY_WRITES_DEPTH)], np.uint32)
        drawn.update_instances(handle, np.array([0]), states=counts)
        assert self.depths(engine, drawn, samples) == pytest.approx((5.0, 5.0), abs=1e-3)
        drawn.update_instances(handle, np.array([0]), states=counts * 0)
        assert self.depths(engine, drawn, samples) == (pytest.approx(6.0, abs=1e-3), np.inf)
