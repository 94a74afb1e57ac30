"""Capped cuts: what is solid is closed where a plane goes through, by the plane itself, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farframe.asset.model import Material, Model
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.bands import render_in_bands
from farframe.render.caps import hatch, seen_caps
from farframe.render.cut_planes import CutPlanes
from farframe.render.solids import TOGETHER, closed, solid_parts_of
from farframe.scene.effects import CutPlane, DebugSettings, PlacedCutPlane, SingleSidedMode
from farframe.scene.lights import Light, LightKind, PlacedLight
from farframe.scene.materials import MaterialFlag, MaterialState
from farframe.scene.states import State
from tests.render.effects import black_scene, draw, draw_with_depth, opened, parallel, square_on
from tests.render.shapes import ModelBuilder, box, look_at, plane, sphere

GREY = Material(base_color=(0.2, 0.2, 0.2, 1.0), unlit=True)
RED = Material(base_color=(0.5, 0.0, 0.0, 1.0), unlit=True)
GREEN = Material(base_color=(0.0, 0.4, 0.0, 1.0), unlit=True)
SIZE = 128
BLACK, GREY_SEEN, RED_SEEN, GREEN_SEEN = (0, 0, 0), (124, 124, 124), (187, 0, 0), (0, 170, 0)


def cut(normal: tuple[float, float, float], offset: float, **settings: object) -> PlacedCutPlane:
    """A capped plane without lines, unless it says otherwise."""
    return PlacedCutPlane(CutPlane(**({"capped": True, "cap_hatching": 0.0} | settings)), normal, offset)  # type: ignore[arg-type]


def one(
    shape: tuple[np.ndarray, np.ndarray], material: Material = GREY, place: tuple[float, float, float] = (0, 0, 0)
) -> Model:
    builder = ModelBuilder()
    builder.place(builder.part(shape, material), place)
    return builder.build()


@pytest.mark.parametrize("mode", list(SingleSidedMode))
def test_a_box_that_is_cut_is_closed_by_the_plane(
    engine: Engine, tmp_path: Path, kind: str, way: str, mode: SingleSidedMode
) -> None:
    """Colour and depth are the plane's, to the pixel, and what is inside of the box is not seen."""
    builder = ModelBuilder()
    builder.place(builder.part(box(0.5), GREY))
    builder.place(builder.part(box(0.1), RED), (0, 0, -0.3))
    builder.place(builder.part(plane(0.4), GREEN), (0.0, 0.7, 0.3))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.effects = replace(scene.effects, single_sided=mode)
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.125),)
        draw(engine, scene, square_on(2.0), SIZE)
        pixels, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.125, capped=False),)
        open_pixels, _ = draw_with_depth(engine, scene, square_on(2.0), SIZE)
    # The front would be at 9.5 m. At 9.875 m a metre is 64 * 10 / 9.875 pixels wide: the cap ends 32.4 from the middle.
    cap = np.zeros((SIZE, SIZE), np.bool_)
    cap[32:96, 32:96] = True
    assert (pixels[cap][:, :3] == GREY_SEEN).all()
    np.testing.assert_allclose(depth[cap], 9.875, rtol=1e-4)
    assert not pixels[110:, :, :3].any()
    assert (pixels[10, 64, :3] == BLACK).all(), "what lies wholly beyond is gone"
    assert tuple(open_pixels[64, 64, :3]) == RED_SEEN, "without a cap one looks inside"


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("lines", ["outline", "edges"])
def test_lines_run_where_they_do_on_a_shorter_box(engine: Engine, lines: str, samples: int) -> None:
    """The outline of what is selected goes around its cap, and an edge lies where the cap meets the sides."""
    view = look_at((1.0, 0.8, 3.0), aspect=1.0)
    builder = ModelBuilder()
    builder.place(builder.part(box(0.5), GREY), (0, 0, -0.3), (1.0, 1.0, 0.4))
    with opened(engine, one(box(0.5))) as whole, opened(engine, builder.build()) as short:
        scene = black_scene()
        pictures = {}
        for name, resource, planes in (("cut", whole, (cut((0.0, 0.0, 1.0), -0.1),)), ("short", short, ())):
            scene.cut_planes = planes
            handle = scene.add(resource, np.eye(4))
            scene.effects = replace(scene.effects, debug=DebugSettings(edges=False))
            plain = draw(engine, scene, view, SIZE, samples=samples)
            if lines == "edges":
                scene.effects = replace(scene.effects, debug=DebugSettings(edges=True))
            else:
                scene.update_instances(handle, np.array([0]), states=np.array([int(State.SELECTED)], np.uint32))
            pictures[name] = draw(engine, scene, view, SIZE, samples=samples)
            assert (np.abs(pictures[name].astype(int) - plain).max(axis=2) > 24).sum() > 100, "there are lines"
            scene.remove(handle)
    apart = np.abs(pictures["cut"].astype(int) - pictures["short"]).max(axis=2)
    # Where the two surfaces' depths round differently a pixel of a line may differ.
    assert (apart > 24).sum() <= 4


@pytest.mark.parametrize("samples", [1, 4])
def test_a_cap_looks_as_the_face_of_a_shorter_box(engine: Engine, samples: int) -> None:
    """Lit by sky, sun and lamps: the same picture as of a matt box that ends where the other is cut."""
    matt = Material(base_color=(0.6, 0.2, 0.1, 1.0), roughness=0.7, metallic=0.0)
    scene = RenderScene()
    scene.lights = (
        PlacedLight(Light(LightKind.POINT, color=(0.2, 0.4, 1.0), intensity=3.0, radius=0.1), (0.3, 0.2, 1.5)),
        PlacedLight(Light(LightKind.POINT, color=(1.0, 0.4, 0.1), intensity=2.0), (-0.8, 0.6, 1.0)),
    )
    view = look_at((1.0, 0.8, 3.0), aspect=1.0)
    builder = ModelBuilder()
    builder.place(builder.part(box(0.5), matt), (0, 0, -0.3), (1.0, 1.0, 0.4))
    with opened(engine, one(box(0.5), matt)) as whole, opened(engine, builder.build()) as short:
        scene.cut_planes = (cut((0.0, 0.0, 1.0), -0.1),)
        handle = scene.add(whole, np.eye(4))
        capped = draw(engine, scene, view, SIZE, samples=samples)
        scene.remove(handle)
        scene.cut_planes = ()
        scene.add(short, np.eye(4))
        expected = draw(engine, scene, view, SIZE, samples=samples)
    difference = np.abs(capped.astype(int) - expected)[..., :3].max(axis=2)
    assert (expected[60:68, 60:68, 0] > 100).all()
    # Eight bits of the part's colour pass through halves; along the edges rounding decides of single samples.
    assert (difference > 3).mean() < 0.004
    assert np.median(difference[40:80, 40:80]) <= 1


def test_only_what_is_inside_is_closed(engine: Engine, tmp_path: Path, kind: str) -> None:
    """Where the plane goes through the hollow of a body its front behind the hollow is seen, in its own place."""
    builder = ModelBuilder()
    post, slab = builder.part(box(0.25), GREY), builder.part(box(0.1), RED)
    builder.place(post, (-0.5, 0, 0))
    builder.place(slab, (0.5, 0, -0.5), (2.5, 2.5, 1.0))
    model = builder.build()
    # One part of two bodies: its box reaches through the plane, the slab lies behind.
    with opened(engine, model, kind, tmp_path) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0),)
        pixels, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
    assert tuple(pixels[64, 32, :3]) == GREY_SEEN and tuple(pixels[64, 96, :3]) == RED_SEEN
    np.testing.assert_allclose(depth[64, [32, 96]], (10.0, 10.4), rtol=1e-4)


def test_hollows_and_things_in_them_stay(engine: Engine) -> None:
    """A tube: the wall is closed, and through the bore one sees what is in it."""
    outer, inner = box(0.5), box(0.3)
    vertices = np.concatenate([outer[0], inner[0]])
    indices = np.concatenate([outer[1], inner[1].reshape(-1, 3)[:, ::-1].reshape(-1) + len(outer[0])]).astype(np.uint32)
    builder = ModelBuilder()
    builder.place(builder.part((vertices, indices), GREY))
    builder.place(builder.part(box(0.1), RED), (0, 0, -0.15))
    with opened(engine, builder.build()) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0),)
        pixels, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
    assert tuple(pixels[64, 64 + 25, :3]) == GREY_SEEN and tuple(pixels[64, 64, :3]) == RED_SEEN
    np.testing.assert_allclose(depth[64, [64 + 25, 64, 64 + 12]], (10.0, 10.05, 10.3), rtol=1e-4)


@pytest.mark.parametrize("double_sided", [False, True])
def test_what_has_no_inside_is_not_closed(engine: Engine, tmp_path: Path, kind: str, double_sided: bool) -> None:
    """Whatever the file says of sides: an open box shows its inside, a closed one does not."""
    material = replace(GREY, double_sided=double_sided)
    vertices, indices = box(0.25)
    builder = ModelBuilder()
    builder.place(builder.part((vertices, indices[6:]), material), (-0.5, 0, 0))  # without its front
    builder.place(builder.part((vertices, indices), material), (0.5, 0, 0))
    builder.place(builder.part((vertices, indices), replace(material, alpha_mode="blend")), (0.0, 0.6, 0))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0),)
        draw(engine, scene, square_on(2.0), SIZE)
        _, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
    np.testing.assert_allclose(depth[64, [32, 96]], (10.25, 10.0), rtol=1e-4)
    assert np.isinf(depth[64 - 38, 64]), "what is seen through does not count for depth, nor has it caps"


def test_states_without_caps(engine: Engine) -> None:
    with opened(engine, one(box(0.25))) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0),)
        for state in (State.SEE_THROUGH, State.SHELL):
            scene.update_instances(handle, np.array([0]), states=np.array([int(state)], np.uint32))
            pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, 64, :3]
            scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0, capped=False),)
            np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, 64, :3], pixels)
            scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0),)
        scene.effects = replace(scene.effects, debug=DebugSettings(wireframe=True))
        scene.update_instances(handle, np.array([0]), states=np.array([0], np.uint32))
        assert not draw(engine, scene, square_on(2.0), SIZE, samples=1)[70, 60, :3].any(), "lines hide nothing"


def test_several_planes_close_a_corner(engine: Engine, way: str) -> None:
    """Each plane's cap ends where the other cuts it off, and the ray's last plane is the one that is seen."""
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.25), cut((0.6, 0.0, 0.8), 0.1))
        pixels, depth = draw_with_depth(engine, scene, parallel(2.0), SIZE)
    x = (np.arange(SIZE) + 0.5) / 64 - 1.0
    inside = np.abs(x) < 0.5
    z = np.minimum(0.25, (0.1 - 0.6 * x) / 0.8)
    inside &= z > -0.5
    np.testing.assert_allclose(depth[64, inside], (10.0 - z)[inside], atol=2e-3)
    assert (pixels[64, inside, :3] == GREY_SEEN).all() and not pixels[64, ~inside, :3].any()


def test_a_slice_is_closed_on_the_side_that_is_seen(engine: Engine, way: str) -> None:
    """Between two planes nothing of the surface may be left on a ray; its cap is there all the same."""
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.1), cut((0.0, 0.0, -1.0), 0.1))
        for view in (square_on(2.0), parallel(2.0)):
            pixels, depth = draw_with_depth(engine, scene, view, SIZE)
            assert tuple(pixels[64, 64, :3]) == GREY_SEEN
            np.testing.assert_allclose(depth[64, 64], 9.9, rtol=1e-4)


def test_masks_choose_the_plane_that_closes(engine: Engine, way: str) -> None:
    builder = ModelBuilder()
    part = builder.part(box(0.25), GREY)
    for x in (-0.6, 0.0, 0.6):
        builder.place(part, (x, 0, 0))
    with opened(engine, builder.build()) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.update_instances(handle, np.arange(3), mask=np.array([1, 2, 3], np.uint32))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.1, filter_mask=1), cut((0.0, 0.0, 1.0), -0.1, filter_mask=2))
        _, depth = draw_with_depth(engine, scene, parallel(2.0), SIZE)
    np.testing.assert_allclose(depth[64, [64 - 38, 64, 64 + 38]], (9.9, 10.1, 10.1), rtol=1e-4)


def test_planes_without_a_cap_stay_open_beside_those_with_one(engine: Engine) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(box(0.25), GREY), (-0.5, 0, 0))
    builder.place(builder.part(box(0.25), GREY), (0.5, 0, 0))
    with opened(engine, builder.build()) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.update_instances(handle, np.arange(2), mask=np.array([1, 2], np.uint32))
        scene.cut_planes = (
            cut((0.0, 0.0, 1.0), 0.0, filter_mask=1, capped=False),
            cut((0.0, 0.0, 1.0), 0.0, filter_mask=2),
        )
        _, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
    np.testing.assert_allclose(depth[64, [32, 96]], (10.25, 10.0), rtol=1e-4)


def test_from_behind_there_is_no_cap(engine: Engine) -> None:
    """The eye in what is left sees surfaces, and those that are cut away behind the plane are not there."""
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, -1.0), 0.0),)
        for view in (square_on(2.0), parallel(2.0)):
            _, depth = draw_with_depth(engine, scene, view, SIZE)
            np.testing.assert_allclose(depth[64, 64], 9.5, rtol=1e-4)
    planes = CutPlanes.of(scene.cut_planes, np.zeros(3))
    assert seen_caps(planes, square_on(2.0), np.zeros(3)) == seen_caps(planes, parallel(2.0), np.zeros(3)) == ()
    planes = CutPlanes.of([cut((0.0, 0.0, 1.0), 0.0), cut((1.0, 0.0, 0.0), 0.5)], np.zeros(3))
    assert seen_caps(planes, square_on(2.0), np.zeros(3)) == (0,)


def test_colours(engine: Engine) -> None:
    """The part's own, a tint, its texture's mean, a colour of the cap's own; of two bodies in one place the mean."""
    from farframe.asset.model import Texture, TextureSlot

    builder = ModelBuilder()
    builder.textures.append(Texture(np.array([[[255, 0, 0, 255], [0, 255, 0, 255]]] * 2, np.uint8), srgb=True))
    places = (-0.75, -0.25, 0.25, 0.75)
    part = builder.part(box(0.2), GREY)
    builder.place(part, (places[0], 0, 0))
    builder.place(part, (places[1], 0, 0))
    builder.place(builder.part(box(0.2), Material(unlit=True, base_color_texture=TextureSlot(0))), (places[2], 0, 0))
    builder.place(part, (places[3], 0, 0))
    builder.place(builder.part(box(0.2), RED), (places[3], 0, 0))
    with opened(engine, builder.build()) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.update_instances(handle, np.array([1]), tint=np.array([[0.0, 0.0, 0.5, 1.0]], np.float32))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0),)
        columns = [round(64 + 64 * x) for x in places]
        seen = draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, columns, :3]
        # Half red and half green in linear light; the mean of square roots of (0.2, 0.2, 0.2) and (0.5, 0, 0).
        two = (((0.2**0.5 + 0.5**0.5) / 2) ** 2, 0.2 / 4, 0.2 / 4)
        expected = [GREY_SEEN, (0, 0, 188), (188, 188, 0), [255 * (1.055 * v ** (1 / 2.4) - 0.055) for v in two]]
        np.testing.assert_allclose(seen, expected, atol=2)
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0, cap_color=(0.0, 0.4, 0.0, 1.0)),)
        seen = draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, columns[:3], :3]
        np.testing.assert_allclose(seen, [GREEN_SEEN] * 3, atol=1)


def test_lines_are_a_few_pixels_apart_and_stay_where_they_are(engine: Engine) -> None:
    """As far apart from near and from afar, and they do not move when the eye takes the origin along."""
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        far = np.array([3000.0, -20.0, 700.0])
        for offset in (np.zeros(3), far):
            place = np.eye(4)
            place[:3, 3] = offset
            handle = scene.add(resource, place)
            scene.cut_planes = (cut((0.0, 0.0, 1.0), float(offset[2]), cap_hatching=1.0),)
            for width in (1.6, 12.8):
                view = square_on(width)
                view = replace(view, position=tuple(np.array(view.position) + offset))
                size = round(60 * width / 1.6)
                pixels = draw(engine, scene, view, 8 * 60, samples=4)
                row = pixels[240, 240 - 1800 // size : 240 + 1800 // size, 0].astype(float)
                dark = np.count_nonzero((row[1:-1] < 100) & (row[1:-1] <= row[:-2]) & (row[1:-1] < row[2:]))
                # Across the lines 9 to 18 pixels, and as seen along a row 1.41 times that.
                assert len(row) / (18 * 1.42 + 1) - 1 <= dark <= len(row) / (9 * 1.41) + 1
            scene.remove(handle)
    direction = hatch(np.array([0.0, 0.0, 1.0], np.float32), np.array([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(direction, (0.5**0.5, 0.5**0.5, 0.0, 3.0 * 0.5**0.5), atol=1e-6)
    assert not np.isnan(hatch(np.array([0.0, -1.0, 0.0], np.float32), np.zeros(3))).any()


def test_bodies_of_several_parts_are_closed_together(engine: Engine, tmp_path: Path, kind: str) -> None:
    vertices, indices = box(0.5)
    builder = ModelBuilder()
    builder.place(builder.part((vertices, indices[:18]), GREY))
    builder.place(builder.part((vertices, indices[18:]), GREY))
    builder.place(builder.part(plane(0.3), GREY))
    model = builder.build()
    np.testing.assert_array_equal(solid_parts_of(model), [0, 0, 0])  # with a sheet among them
    builder = ModelBuilder()
    builder.place(builder.part((vertices, indices[:18]), GREEN))
    builder.place(builder.part((vertices, indices[18:]), RED))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        np.testing.assert_array_equal(resource.solid, [TOGETHER, TOGETHER])
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.0),)
        draw(engine, scene, square_on(2.0), SIZE)
        pixels, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
    np.testing.assert_allclose(depth[64, [40, 64, 90]], 10.0, rtol=1e-4)
    assert np.ptp(pixels[64, 40:90, :3].astype(int)) < 16, "grey: none of its colours is that of the inside"


def test_which_surfaces_are_closed() -> None:
    def of(vertices: np.ndarray, indices: np.ndarray) -> bool:
        triangles = indices.reshape(-1, 3).astype(np.int64)
        return bool(closed(vertices, triangles, np.zeros(len(triangles), np.int64), 1)[0])

    ball, cube = sphere(1.0), box(1.0)
    turns = np.linspace(0.0, 2 * np.pi, 33)
    ring = np.stack([np.cos(turns), np.sin(turns), np.zeros(33)], axis=1)
    pipe = np.concatenate([ring, ring + np.array([0, 0, 60.0])])
    low = np.arange(32)
    walls = np.stack([low, low + 1, low + 33, low + 33, low + 1, low + 34], axis=1)
    assert of(ball[0]["position"], ball[1]) and of(cube[0]["position"], cube[1])
    assert of(cube[0]["position"] * np.array([100.0, 1.0, 0.001]) + np.array([5000.0, 0, 0]), cube[1]), (
        "a thin strip, far away"
    )
    assert not of(cube[0]["position"], cube[1][6:]) and not of(plane(1.0)[0]["position"], plane(1.0)[1])
    assert not of(pipe, walls), "a pipe without ends"
    assert not of(cube[0]["position"], cube[1].reshape(-1, 3)[:, ::-1]), "inside out"
    assert not of(np.full((3, 3), np.nan), np.array([0, 1, 2]))
    assert not closed(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros(0, np.int64), 2).any()


def test_each_of_two_views_has_its_caps(engine: Engine) -> None:
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.25),)
        behind = look_at((0, 0, -10), degrees=11.4, aspect=1.0)
        frame = engine.render(
            FrameInput((square_on(2.0), behind), 2 * SIZE, SIZE, Quality(samples=1), scene, read_depth=True)
        )
        assert frame.depth is not None
        np.testing.assert_allclose(frame.depth[64, [64, SIZE + 64]], (9.75, 9.5), rtol=1e-4)
        frame.release()


@pytest.mark.parametrize("culling", [False, True])
def test_bands_and_culling_show_the_whole_picture(engine: Engine, culling: bool) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(sphere(0.9), Material(base_color=(0.6, 0.3, 0.1, 1))))
    builder.place(builder.part(sphere(0.3), Material(base_color=(0.1, 0.3, 0.6, 1))), (0.7, 0.5, 0.6))
    with opened(engine, builder.build()) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.6, 0.8), 0.2, cap_hatching=0.5),)
        frame = FrameInput((look_at((0, 0.2, 4)),), 320, 180, Quality(), scene)
        whole = engine.render(frame)
        expected = whole.pixels.copy()
        whole.release()
        engine.occlusion_culling = culling
        for _ in range(3):
            again = engine.render(frame)
            assert (np.abs(expected.astype(int) - again.pixels).max(axis=2) > 8).mean() < 0.002
            again.release()
        engine.occlusion_culling = False
        banded = render_in_bands(engine, frame, 5, lambda: False)
        assert banded is not None
        assert (np.abs(expected.astype(int) - banded.pixels).max(axis=2) > 8).mean() < 0.002


def test_edges_of_caps_are_antialiased(engine: Engine) -> None:
    if not engine.pipelines.clips:
        pytest.skip("this device does not clip triangles at planes")
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.25), cut((1.0, 0.0, 0.0), 0.5 / 64))  # in the middle of pixel 64
        pixels = draw(engine, scene, parallel(2.0), SIZE, samples=4)
    # Half of 0.2 in linear light.
    np.testing.assert_allclose(pixels[60, 63:66, 0], (124, 89, 0), atol=1)


def test_what_is_not_capped_costs_nothing(engine: Engine) -> None:
    """No pipeline, no pass, no question whether anything is solid; until something is cut."""
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.25, capped=False),)
        draw(engine, scene, square_on(2.0), SIZE, samples=1)
        engine._passes.caps._counting.clear()
        engine._passes.caps._drawing.clear()
        draw(engine, scene, square_on(2.0), SIZE, samples=1)
        assert resource._solid is None  # type: ignore[union-attr]
        for plane_of in (
            cut((0.0, 0.0, 1.0), 3.0),
            cut((0.0, 0.0, 1.0), -3.0),
            cut((0.0, 0.0, 1.0), 0.0, filter_mask=0),
        ):
            scene.cut_planes = (plane_of,)
            draw(engine, scene, square_on(2.0), SIZE, samples=1)
            assert not engine._passes.caps._counting and not engine._passes.caps._drawing
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.25),)
        draw(engine, scene, square_on(2.0), SIZE, samples=1)
        made = engine.pipelines.created
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.3),)
        draw(engine, scene, square_on(2.0), SIZE, samples=1)
        assert engine._passes.caps._counting and engine.pipelines.created == made, "frames make none after the first"


def test_a_material_that_becomes_glass_is_closed_no_more(engine: Engine) -> None:
    with opened(engine, one(box(0.5))) as resource:
        scene = black_scene()
        handle = scene.add(resource, np.eye(4))
        scene.cut_planes = (cut((0.0, 0.0, 1.0), 0.25),)
        _, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
        np.testing.assert_allclose(depth[64, 64], 9.75, rtol=1e-4)
        scene.set_material(1, MaterialState(flags=MaterialFlag.TRANSPARENT, albedo_color=(1, 1, 1, 0.5)))
        scene.update_instances(handle, np.array([0]), material=np.array([1], np.uint32))
        _, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
        assert np.isinf(depth[64, 64])
