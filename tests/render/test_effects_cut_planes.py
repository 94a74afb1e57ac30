"""Cut planes: what lies beyond them is not there, and what they do not touch does not know of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farframe.asset.model import Material, Model
from farframe.convert.points import PointCloud
from farframe.render import Engine, FrameInput, Quality
from farframe.render.bands import render_in_bands
from farframe.render.cut_planes import CutPlanes
from farframe.scene.effects import CutPlane, PlacedCutPlane, SingleSidedMode
from farframe.scene.states import State
from tests.render.effects import black_scene, draw, draw_with_depth, opened, parallel, square_on
from tests.render.shapes import ModelBuilder, box, look_at, plane, sphere

GREY = Material(base_color=(0.2, 0.2, 0.2, 1.0), unlit=True)
RED = Material(base_color=(0.5, 0.0, 0.0, 1.0), unlit=True)
SIZE = 128
BLACK, GREY_SEEN, RED_SEEN = (0, 0, 0), (124, 124, 124), (187, 0, 0)


def cut(normal: tuple[float, float, float], offset: float, **settings: object) -> PlacedCutPlane:
    return PlacedCutPlane(CutPlane(**settings), normal, offset)  # type: ignore[arg-type]


def squares(*places: tuple[float, float, float], half: float = 0.25, material: Material = GREY) -> Model:
    builder = ModelBuilder()
    part = builder.part(plane(half), material)
    for place in places:
        builder.place(part, place)
    return builder.build()


@pytest.mark.parametrize("samples", [1, 4])
def test_what_lies_beyond_is_gone_to_the_pixel(
    engine: Engine, tmp_path: Path, kind: str, way: str, samples: int
) -> None:
    # 2 m on 128 pixels: the square covers pixels 48 to 79, and x = 0.125 lies between 71 and 72.
    with opened(engine, squares((0, 0, 0)), kind, tmp_path) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.125),)
        right = draw(engine, scene, square_on(2.0), SIZE, samples=samples)[..., :3]
        scene.cut_planes = (cut((0.0, -1.0, 0.0), 0.0),)
        below = draw(engine, scene, square_on(2.0), SIZE, samples=samples)[..., :3]
    expected = np.zeros((SIZE, SIZE, 3), np.uint8)
    expected[48:80, 48:72] = GREY_SEEN
    np.testing.assert_array_equal(right, expected)
    expected[:] = 0
    expected[48:64, 48:80] = GREY_SEEN
    np.testing.assert_array_equal(below, expected)


def test_cut_edges_are_antialiased(engine: Engine) -> None:
    if not engine.pipelines.clips:
        pytest.skip("this device does not clip triangles at planes")
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.5 / 64),)  # in the middle of pixel 64
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=4)
    # Half of 0.2 in linear light.
    np.testing.assert_allclose(pixels[60, 63:66, 0], (124, 89, 0), atol=1)


def test_what_is_behind_is_seen_where_something_is_cut(engine: Engine, tmp_path: Path, kind: str, way: str) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(plane(0.25), GREY), (0, 0, 0.1))
    builder.place(builder.part(plane(2.0), RED), (0, 0, -0.1))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.0),)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)[..., :3]
        np.testing.assert_array_equal(pixels[64, 90], BLACK)
        # The wall is cut only by planes of which the mask shares a bit with its own.
        scene.update_instances(handle, np.array([1]), mask=np.array([0x02], np.uint32))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.0, filter_mask=0xFD),)
        for culling in (False, True):
            engine.occlusion_culling = culling
            pixels, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
            engine.occlusion_culling = False
            np.testing.assert_array_equal(pixels[64, 60, :3], GREY_SEEN)
            np.testing.assert_array_equal(pixels[64, 70, :3], RED_SEEN)
            np.testing.assert_allclose(depth[64, [60, 70]], (9.9, 10.1), rtol=1e-4)


def test_what_is_wholly_beyond_is_not_drawn_and_what_is_not_touched_pays_nothing(
    engine: Engine, tmp_path: Path, kind: str
) -> None:
    with opened(engine, squares((-0.6, 0, 0), (0, 0, 0), (0.6, 0, 0)), kind, tmp_path) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        plain = draw(engine, scene, square_on(2.0), SIZE, samples=1)
        made = engine.pipelines.created

        def counts() -> tuple[int, int]:
            found = engine.count_visible(FrameInput((square_on(2.0),), SIZE, SIZE, Quality(samples=1), scene))
            return found.draws, found.triangles

        assert counts() == (3, 6)
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 2.0),)
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1), plain)
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.3),)
        assert counts() == (2, 4)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)
        np.testing.assert_array_equal(pixels[:, :82], plain[:, :82])
        assert not pixels[:, 82:, :3].any()
        assert engine.pipelines.created == made, "none was cut through"
        scene.cut_planes = (cut((1.0, 0.0, 0.0), -3.0),)
        assert counts() == (0, 0)
        scene.cut_planes = ()
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1), plain)


def test_clusters_beyond_a_plane_are_not_drawn(engine: Engine, tmp_path: Path) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(sphere(0.8, 256, 128), Material(base_color=(0.7, 0.2, 0.2, 1))))
    view = look_at((0, 0, 4), aspect=1.0)
    with opened(engine, builder.build(), "asset", tmp_path) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        draw(engine, scene, view, 600, samples=1, cut_error=0.05)
        scene.effects = replace(scene.effects, single_sided=SingleSidedMode.NORMAL)
        whole = engine.count_visible(FrameInput((view,), 600, 600, Quality(samples=1, cut_error=0.05), scene))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), -0.4),)
        part = engine.count_visible(FrameInput((view,), 600, 600, Quality(samples=1, cut_error=0.05), scene))
    # A quarter of the surface is left, in whole clusters.
    assert whole.draws > 50
    assert 0.2 * whole.triangles < part.triangles < 0.5 * whole.triangles


def test_eight_planes_cut_and_further_ones_do_not(engine: Engine, way: str) -> None:
    places = tuple(((column - 1.5) * 0.4, 0.4 * (row - 1), 0.0) for row in range(3) for column in range(4))
    with opened(engine, squares(*places, half=0.15)) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        masks = np.array([1 << number if number < 8 else 0x80 for number in range(12)], np.uint32)
        masks[9:] = 0
        scene.update_instances(handle, np.arange(12), mask=masks)
        # Each plane cuts the right half of its own square; the eighth passes by square 8, the ninth would cut it.
        scene.cut_planes = tuple(
            cut((1.0, 0.0, 0.0), places[number][0], filter_mask=1 << min(number, 7)) for number in range(9)
        )
        lit = draw(engine, scene, square_on(2.0), SIZE, samples=1)[..., 0] > 0
    for number, (x, y, _) in enumerate(places):
        row, column = round(64 - y * 64), round(64 + x * 64)
        assert lit[row, column - 5]
        assert lit[row, column + 5] == (number >= 8), number


def test_planes_of_mask_zero_and_disabled_ones_do_nothing(engine: Engine) -> None:
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        plain = draw(engine, scene, square_on(2.0), SIZE, samples=1)
        off = [cut((1.0, 0.0, 0.0), 0.0, enabled=False), cut((1.0, 0.0, 0.0), 0.0, filter_mask=0)]
        scene.cut_planes = tuple(off)
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1), plain)
        scene.cut_planes = (*off * 6, cut((1.0, 0.0, 0.0), 0.0))
        assert (draw(engine, scene, square_on(2.0), SIZE, samples=1) != plain).any(), "nor do they count"


def test_the_fade_colour(engine: Engine, tmp_path: Path, kind: str) -> None:
    with opened(engine, squares((0, 0, 0), (0, 0.7, 0)), kind, tmp_path) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.update_instances(handle, np.array([1]), mask=np.array([0x01], np.uint32))
        settings = {"fade_color": (0.0, 1.0, 0.0, 0.5), "fade_length": 0.25, "filter_mask": 0x02}
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.125, **settings),)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)[..., :3]
        # At pixel 55 the plane is (72 - 55.5) / 64 m away: 1 - 16.5 / 16 of the way is below zero; at 63, 8.5 / 16.
        share = 0.5 * (1.0 - 8.5 / 16.0)
        linear = np.array([0.2 * (1 - share), 0.2 * (1 - share) + share, 0.2 * (1 - share)])
        expected = np.round(255 * (1.055 * linear ** (1 / 2.4) - 0.055))
        np.testing.assert_array_equal(pixels[64, 55], GREY_SEEN)
        np.testing.assert_allclose(pixels[64, 63], expected, atol=2)
        np.testing.assert_array_equal(pixels[64, 73], BLACK)
        np.testing.assert_array_equal(pixels[64 - 45, 71], GREY_SEEN, "not concerned")
        # A plane that has passed by still colours what is near it.
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.3125, **settings),)
        assert draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, 79, 1] > 150


@pytest.mark.parametrize("mode", list(SingleSidedMode))
def test_backs_in_cuts(engine: Engine, tmp_path: Path, kind: str, mode: SingleSidedMode) -> None:
    builder = ModelBuilder()
    part = builder.part(box(0.25), GREY)
    builder.place(part, (-0.5, 0, 0))
    builder.place(part, (0.5, 0, 0))
    lid = builder.part(plane(0.25), RED)
    builder.place(lid, (0, 0.7, 0), (1, 1, -1))  # mirrored; turned away below
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        away = np.array([[[-1.0, 0, 0, 0], [0, 1, 0, 0.7], [0, 0, -1, 0]]])
        scene.update_instances(handle, np.array([2]), world=away)
        scene.update_instances(handle, np.array([1]), mask=np.array([0x01], np.uint32))
        scene.effects = replace(scene.effects, single_sided=mode)
        # The front of the left box is cut off: one looks onto the back of its rear wall.
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0, filter_mask=0x02),)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)[..., :3]
    assert bool(pixels[64, 32].any()) == (mode != SingleSidedMode.NORMAL)
    assert pixels[64, 96].any()
    assert bool(pixels[64 - 45, 64].any()) == (mode == SingleSidedMode.ALWAYS_DOUBLE_SIDED)


def test_outlines_follow_the_cut(engine: Engine) -> None:
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.update_instances(handle, np.array([0]), states=np.array([int(State.SELECTED)], np.uint32))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.0),)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, :, :3]
    yellow = np.flatnonzero((pixels == (255, 255, 0)).all(axis=1))
    np.testing.assert_array_equal(yellow, [46, 47, 64, 65])


def test_far_from_the_origin(engine: Engine, way: str) -> None:
    """Planes are 64-bit until they are relative to an origin near the eye."""
    far = np.array([5e6, 0.0, 3e6])
    place = np.eye(4)
    place[:3, 3] = far
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = black_scene()
        scene.add(resource, place)
        scene.cut_planes = (cut((1.0, 0.0, 0.0), far[0] + 0.125),)
        view = square_on(2.0)
        view = replace(view, position=tuple(np.array(view.position) + far))
        pixels = draw(engine, scene, view, SIZE, samples=1)
    np.testing.assert_array_equal(np.flatnonzero(pixels[64, :, 0]), np.arange(48, 72))


def test_bands_are_the_whole_picture(engine: Engine) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(sphere(0.9), Material(base_color=(0.6, 0.3, 0.1, 1))))
    with opened(engine, builder.build()) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.6, 0.8), 0.2, fade_color=(1.0, 1.0, 0.0, 1.0)),)
        frame = FrameInput((look_at((0, 0.2, 4)),), 320, 180, Quality(), scene)
        whole = engine.render(frame)
        banded = render_in_bands(engine, frame, 5, lambda: False)
        assert banded is not None and whole.pixels[..., :3].any()
        difference = np.abs(whole.pixels.astype(int) - banded.pixels)
        assert (difference.max(axis=2) > 8).mean() < 0.002
        whole.release()


def test_boxes_against_planes() -> None:
    planes = CutPlanes.of([cut((1.0, 0.0, 0.0), 10.0, fade_color=(1, 0, 0, 1), fade_length=0.5)], np.array([9.0, 0, 0]))
    center = np.array([[0.0, 0, 0], [0.4, 0, 0], [0.9, 0, 0], [1.2, 0, 0], [1.2, 0, 0]], np.float32)
    extent = np.full((5, 3), 0.15, np.float32)
    gone, touched = planes.test(center, extent, np.array([255, 255, 255, 255, 0], np.uint32))
    np.testing.assert_array_equal(gone, [False, False, False, True, False])
    np.testing.assert_array_equal(touched, [False, True, True, False, False])


def test_points_beyond_a_plane_are_gone(engine: Engine, tmp_path: Path) -> None:
    across = (np.arange(200) + 0.5) / 200 - 0.5
    positions = np.stack([*np.meshgrid(across, across), np.zeros((200, 200))], axis=-1).reshape(-1, 3)
    colors = np.full((len(positions), 3), 255, np.uint8)
    cloud = PointCloud.from_arrays("wall", positions, colors)
    with opened(engine, cloud, "asset", tmp_path) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        for width in (1.5, 6.0):  # squares, then dots
            plain = draw(engine, scene, square_on(width), SIZE, samples=1)[..., 0] > 0
            scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.1),)
            pixels = draw(engine, scene, square_on(width), SIZE, samples=1)[..., 0] > 0
            edge = 64 + 0.1 / width * SIZE
            np.testing.assert_array_equal(pixels[:, : int(edge - 2)], plain[:, : int(edge - 2)])
            assert plain[64, int(edge + 3)] and not pixels[:, int(edge + 3) :].any()
            scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.1, fade_color=(1, 0, 0, 1), fade_length=10.0),)
            near = draw(engine, scene, square_on(width), SIZE, samples=1)[64, int(edge - 3)]
            assert near[0] > 250 and near[1] < 100
            scene.cut_planes = (cut((1.0, 0.0, 0.0), -2.0),)
            found = engine.count_visible(FrameInput((square_on(width),), SIZE, SIZE, Quality(samples=1), scene))
            assert found.points == 0
            scene.cut_planes = (cut((1.0, 0.0, 0.0), -2.0, filter_mask=0x10),)
            scene.update_instances(handle, np.array([0]), mask=np.array([0x0F], np.uint32))
            np.testing.assert_array_equal(draw(engine, scene, square_on(width), SIZE, samples=1)[..., 0] > 0, plain)
            scene.update_instances(handle, np.array([0]), mask=np.array([0xFF], np.uint32))
            scene.cut_planes = ()


def test_parallel_rays(engine: Engine, way: str) -> None:
    view = parallel(2.0)
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.update_instances(handle, np.array([0]), states=np.array([int(State.SELECTED)], np.uint32))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.125, fade_color=(0.0, 1.0, 0.0, 1.0), fade_length=0.25),)
        row = draw(engine, scene, view, SIZE, samples=1)[64, :, :3]
    np.testing.assert_array_equal(np.flatnonzero((row == (255, 255, 0)).all(axis=1)), [46, 47, 72, 73])
    np.testing.assert_array_equal(row[55], GREY_SEEN)
    share = 1.0 - 8.5 / 16.0
    linear = np.array([0.2 * (1 - share), 0.2 * (1 - share) + share, 0.2 * (1 - share)])
    np.testing.assert_allclose(row[63], np.round(255 * (1.055 * linear ** (1 / 2.4) - 0.055)), atol=2)


def test_each_of_two_views_is_cut(engine: Engine) -> None:
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.0),)
        views = (square_on(2.0), square_on(4.0))
        frame = engine.render(FrameInput(views, 2 * SIZE, SIZE, Quality(samples=1), scene))
        lit = frame.pixels[64, :, 0] > 0
        frame.release()
    np.testing.assert_array_equal(np.flatnonzero(lit), [*range(48, 64), *range(128 + 56, 128 + 64)])


def test_many_instances_are_told_apart_at_once(engine: Engine) -> None:
    """Fifty thousand masks, and calls that do not grow with them."""
    builder = ModelBuilder()
    part = builder.part(plane(0.004), GREY)
    matrices = np.tile(np.eye(4), (50_000, 1, 1))
    matrices[:, 0, 3], matrices[:, 1, 3] = (np.stack(np.divmod(np.arange(50_000), 224)) - 112) * 0.009
    builder.place(part)
    model = builder.build()
    model.instance_part = np.zeros(50_000, np.int32)
    model.instance_node = np.zeros(50_000, np.int32)
    model.instance_matrix = matrices
    with opened(engine, model) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        everything = np.arange(50_000)
        mask = np.where(matrices[:, 1, 3] > 0, 1, 2).astype(np.uint32)
        scene.update_instances(handle, everything, mask=mask)
        scene.cut_planes = (cut((1.0, 0.0, 0.0), 0.0, filter_mask=1),)
        pixels = draw(engine, scene, square_on(2.2), SIZE, samples=1)[..., 0] > 0
        found = engine.count_visible(FrameInput((square_on(2.2),), SIZE, SIZE, Quality(samples=1), scene))
    beyond = (matrices[:, 0, 3] > 0.0041) & (mask == 1)
    assert found.draws == 50_000 - np.count_nonzero(beyond)
    assert pixels[:62, 2:62].mean() > 0.5 and not pixels[8:62, 66:].any() and pixels[66:, 66:].mean() > 0.5
