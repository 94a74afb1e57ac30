"""Surfaces in the same place: one of them is seen, from wherever one looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.model import Material
from farframe.protocol.records import FieldOfView
from farframe.render import Engine, RenderScene
from farframe.render.occlusion import ROUNDING
from farframe.render.z_fighting import LEVELS, STEP, bias_scale, depth_biases
from farframe.scene.effects import ZFightingSettings
from tests.render.effects import draw, draw_with_depth, opened, square_on
from tests.render.shapes import ModelBuilder, look_at, plane, vertices_from

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def tiles(half: float, cells: int, seed: int) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """A square in z = 0 of irregular triangles."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-half, half, cells + 1), np.linspace(-half, half, cells + 1))
    position = np.stack([x, y, np.zeros_like(x)], axis=-1)
    position[1:-1, 1:-1, :2] += random.uniform(-0.4, 0.4, (cells - 1, cells - 1, 2)) * half / cells
    row, column = np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij")
    corner = (row * (cells + 1) + column).ravel()
    around = [corner, corner + 1, corner + cells + 1, corner + 1, corner + cells + 2, corner + cells + 1]
    normal = np.tile([0.0, 0.0, 1.0], ((cells + 1) ** 2, 1))
    return vertices_from(position.reshape(-1, 3), normal), np.stack(around, axis=1).ravel().astype(np.uint32)


def colored(color: tuple[float, float, float]) -> Material:
    return Material(base_color=(*color, 1.0), unlit=True)


def eyes(count: int, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places in front of a square that was turned, from 12 degrees above its plane on."""
    random = np.random.default_rng(7)
    height = random.uniform(np.radians(12), np.radians(80), count)
    around = random.uniform(0, 2 * np.pi, count)
    local = np.stack([np.cos(height) * np.cos(around), np.cos(height) * np.sin(around), np.sin(height)], axis=1)
    return np.asarray((local * random.uniform(1.5, 6.0, (count, 1))) @ turn.T)


def shares(
    engine: Engine,
    scene: RenderScene,
    turn: NDArray[np.float64],
    place: NDArray[np.float64],
    *,
    orthographic: bool = False,
) -> list[float]:
    """By view, how much of what both squares cover is green."""
    found = []
    for eye in eyes(12, turn):
        view = look_at(eye + place, place, aspect=1.0)
        if orthographic:
            view = replace(view, fov=FieldOfView(-1.5, 1.5, 1.5, -1.5), orthographic=True)
        pixels = draw(engine, scene, view, 160, samples=1)
        red, green = pixels[..., 0] == 255, pixels[..., 1] == 255
        assert (red & green).sum() == 0 and (red | green).sum() > 100
        found.append(float(green.sum() / (red | green).sum()))
    return found


@pytest.mark.parametrize(("offset", "orthographic"), [(0.0, False), (30.0, False), (0.0, True)])
def test_one_of_two_is_seen_from_everywhere(
    engine: Engine, tmp_path: Path, kind: str, offset: float, orthographic: bool
) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(tiles(1.0, 6, 1), colored(RED)))
    builder.place(builder.part(tiles(1.0, 7, 2), colored(GREEN)))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = turn, offset * np.array([0.6, -0.2, 0.5])
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = RenderScene()
        scene.background = (0.0, 0.0, 0.0)
        scene.add(resource, place)
        calm = shares(engine, scene, turn, place[:3, 3], orthographic=orthographic)
        scene.effects = replace(scene.effects, z_fighting=ZFightingSettings(enabled=False))
        fighting = shares(engine, scene, turn, place[:3, 3], orthographic=orthographic)
    assert sum(0.02 < share < 0.98 for share in fighting) > 6, "they do fight"
    assert min(calm) > 0.99 or max(calm) < 0.01, "one of them wins, and always the same"


def test_a_part_that_is_there_twice_does_not_flicker(engine: Engine) -> None:
    """The same model in the same place, and the second as if it had been moved there: other rounding."""
    first, second = ModelBuilder(), ModelBuilder()
    first.place(first.part(tiles(1.0, 5, 1), colored(RED)), (0.1, 0.2, 0.3))
    second.place(second.part(tiles(3.0, 5, 1), colored(GREEN)), scale=1 / 3)
    place = np.eye(4)
    place[:3, 3] = (0.1, 0.2, 0.3)
    with opened(engine, first.build()) as one, opened(engine, second.build()) as other:
        scene = RenderScene()
        scene.background = (0.0, 0.0, 0.0)
        scene.add(one, np.eye(4))
        scene.add(other, place)
        calm = shares(engine, scene, np.eye(3), place[:3, 3])
    assert min(calm) > 0.99 or max(calm) < 0.01


def test_the_smaller_one_is_seen(engine: Engine, tmp_path: Path, kind: str) -> None:
    """A label in its ground's plane is seen; one half a millimetre behind it, from two metres, is not."""
    builder = ModelBuilder()
    builder.place(builder.part(tiles(0.2, 3, 1), colored(GREEN)))
    builder.place(builder.part(tiles(1.0, 4, 2), colored(RED)))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        for eye in ((0.0, 0.0, 2.0), (1.2, 0.4, 1.5), (-1.0, 1.0, 0.5)):
            middle = draw(engine, scene, look_at(eye, aspect=1.0), 64, samples=1)[31:34, 31:34]
            assert (middle[..., :3] == (0, 255, 0)).all()
        behind = np.array([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -0.0005]]])
        scene.update_instances(handle, np.array([0]), world=behind)
        middle = draw(engine, scene, look_at((0, 0, 2), aspect=1.0), 64, samples=1)[31:34, 31:34]
        assert (middle[..., :3] == (255, 0, 0)).all()


def test_depth_is_right_to_less_than_a_ten_thousandth(engine: Engine) -> None:
    builder = ModelBuilder()
    part = builder.part(plane(0.05), colored(RED))
    for number in range(20):
        builder.place(part, (0.1 * (number % 5) - 0.2, 0.1 * (number // 5) - 0.15, 0), 1 + 0.01 * number)
    with opened(engine, builder.build()) as resource:
        scene = RenderScene()
        scene.add(resource, np.eye(4))
        _, depth = draw_with_depth(engine, scene, square_on(0.6), 128)
    depth = depth[np.isfinite(depth)]
    np.testing.assert_allclose(depth, 10.0, rtol=LEVELS * STEP + 1e-6)
    assert len(np.unique(np.round(depth / 10.0 / STEP))) > 8, "levels are used"


def test_levels() -> None:
    sizes = np.array([1.0, 5.0, 0.1, 5.0, 0.1, 2.0], np.float32)
    level = np.rint(depth_biases(sizes) / STEP).astype(int)
    assert level[1] != level[3] and level[2] != level[4], "those of one size differ"
    assert max(level[1], level[3]) < level[5] < level[0] < min(level[2], level[4])
    many = np.rint(depth_biases(np.ones(100_000, np.float32)) / STEP)
    assert set(np.unique(many)) == set(range(LEVELS))
    assert LEVELS * STEP < ROUNDING, "what occlusion culling allows for"
    assert depth_biases(np.zeros(0, np.float32)).shape == (0,)


def test_scales_of_views() -> None:
    view = square_on(2.0)
    assert bias_scale(view, ZFightingSettings(enabled=False)) == 0.0
    assert bias_scale(view, ZFightingSettings()) == 1.0


def is_board(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the lit cells of the checkerboard are."""
    return (pixels[..., 0] > 200) & (pixels[..., 2] > 150) & (pixels[..., 1] < 140)


@pytest.mark.parametrize("samples", [1, 4])
def test_highlighting_shows_a_board_that_moves(engine: Engine, tmp_path: Path, kind: str, samples: int) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(tiles(1.0, 4, 2), colored((0.2, 0.2, 0.2))))
    label = builder.part(tiles(0.25, 3, 1), colored(GREEN))
    builder.place(label, (-0.5, 0, 0))
    builder.place(label, (0.5, 0, 0.02))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = RenderScene()
        scene.background = (0.0, 0.0, 0.0)
        scene.add(resource, np.eye(4))
        plain = draw(engine, scene, square_on(2.2), 176, samples=samples)
        scene.effects = replace(scene.effects, z_fighting=ZFightingSettings(highlighting=True))
        assert scene.moving
        pixels = draw(engine, scene, square_on(2.2), 176, samples=samples)
        scene.advance(scene.time + 1.0 / 3.0)
        later = draw(engine, scene, square_on(2.2), 176, samples=samples)
        scene.effects = replace(scene.effects, z_fighting=ZFightingSettings())
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.2), 176, samples=samples), plain)
    # 80 pixels a metre: the label in the ground's plane covers columns 28 to 67 and rows 68 to 107.
    changed = (pixels != plain).any(axis=2)
    assert changed[70:106, 30:66].mean() > 0.95
    assert not changed[:, 70:].any() and not changed[:66].any(), "nowhere else; two centimetres apart is far"
    board = is_board(pixels)
    assert 0.35 < board[70:106, 30:66].mean() < 0.65
    assert (board ^ is_board(later))[70:106, 30:66].mean() > 0.9, "by one cell, and all have changed"
