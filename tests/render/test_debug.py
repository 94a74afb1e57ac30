"""Counters, edges and wireframe in the picture itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from farframe.asset.model import Material
from farframe.protocol.records import FieldOfView, View
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.bands import render_in_bands
from farframe.render.debug import FrameMeter, counters, rasterise
from farframe.scene.effects import DebugSettings, Effects
from tests.render.shapes import ModelBuilder, box, look_at, plane, sphere

FLAT = View((0.0, 0.0, 10.0), (0.0, 0.0, 0.0, 1.0), FieldOfView.extent(4.0, 2.0), 1.0, 21.0, True)
"""Sees 8 by 4 metres, 40 pixels each."""
NEAR = replace(FLAT, fov=FieldOfView.symmetric(0.394791, 2.0), orthographic=False)
"""Sees the same at the distance of 10 metres."""


@pytest.fixture
def scene(engine: Engine) -> Iterator[RenderScene]:
    scene = RenderScene()
    scene.background = (1.0, 1.0, 1.0)
    yield scene
    for placed in list(scene.entries.values()):
        engine.release(placed.resource)


def place(engine: Engine, scene: RenderScene, *meshes: tuple, turn: np.ndarray | None = None) -> None:
    builder = ModelBuilder()
    for mesh, position in meshes:
        builder.place(builder.part(mesh, Material(base_color=(0.9, 0.9, 0.9, 1.0), unlit=True)), position)
    matrix = np.eye(4)
    if turn is not None:
        matrix[:3, :3] = turn
    scene.add(engine.upload(builder.build()), matrix)


def draw(
    engine: Engine, scene: RenderScene, view: View = FLAT, samples: int = 1, bands: int = 1, **debug: bool
) -> np.ndarray:
    scene.effects = Effects(debug=DebugSettings(**debug))
    wanted = FrameInput((view,), 320, 160, Quality(samples=samples), scene)
    frame = engine.render(wanted) if bands == 1 else render_in_bands(engine, wanted, bands, lambda: False)
    assert frame is not None
    pixels = frame.pixels[..., :3].astype(int)
    frame.release()
    return pixels


def about_x(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("view", [FLAT, NEAR], ids=["parallel", "perspective"])
def test_edges_lie_where_a_box_folds_and_ends_and_nowhere_else(
    engine: Engine, scene: RenderScene, view: View, samples: int
) -> None:
    place(engine, scene, (box(1.0), (0, 0, 0)), turn=about_x(45.0))
    # Four samples spread a line that lies between two pixels over both.
    limit = 160 if samples == 1 else 210
    dark = draw(engine, scene, view, samples, edges=True)[..., 0] < limit
    plain = draw(engine, scene, view, samples)[..., 0] < limit
    assert not plain.any()
    # The fold in the middle lies at y = 0: the rows around it are dark from side to side.
    assert dark[78:82, 125:195].any(axis=0).all()
    rows = np.flatnonzero(dark[:, 160])
    assert len(rows) <= 8, "the silhouette above and below, and the fold: lines of two pixels at most"
    assert np.abs(rows - 79.5).min() < 2 and rows.min() < 30 and rows.max() > 130
    flat = np.ones_like(dark)
    flat[76:84] = flat[:27] = flat[133:] = False
    flat[:, :124] = flat[:, 196:] = False
    assert not (dark & flat)[:, 124:196].any(), "flat faces stay clean"
    assert not dark[:, :80].any() and not dark[:, 240:].any()


@pytest.mark.parametrize("view", [FLAT, NEAR], ids=["parallel", "perspective"])
def test_smooth_and_grazing_surfaces_have_no_lines_of_their_own(engine: Engine, scene: RenderScene, view: View) -> None:
    place(engine, scene, (sphere(1.5, 128, 64), (0, 0, 0)))
    dark = draw(engine, scene, view, edges=True)[..., 0] < 200
    row, column = np.mgrid[:160, :320]
    away = np.hypot(row - 79.5, column - 159.5)
    assert not dark[away < 54].any()
    around = dark[(away > 56) & (away < 62)]
    assert around.mean() > 0.12, "its silhouette is drawn"
    scene.clear()
    place(engine, scene, (plane(40.0), (0, 0, 0)), turn=about_x(-86.0))
    low = replace(view, position=(0.0, 0.5, 10.0))
    # Below, the near clip distance ends it: there it has a line.
    assert not (draw(engine, scene, low, edges=True)[84:120, 4:-4, 0] < 200).any()


def test_a_wall_behind_has_no_line_beside_that_of_what_stands_before_it(engine: Engine, scene: RenderScene) -> None:
    place(engine, scene, (plane(8.0), (0, 0, -3)), (plane(1.0), (0, 0, 2)))
    dark = draw(engine, scene, edges=True)[..., 0] < 160
    assert np.flatnonzero(dark[80]).tolist() == [120, 199], "one pixel each, on the near surface"


def test_two_views_and_bands_have_the_same_edges_as_a_picture_of_one(engine: Engine, scene: RenderScene) -> None:
    place(engine, scene, (box(1.0), (0, 0, 0)), turn=about_x(30.0))
    whole = draw(engine, scene, edges=True)
    assert (draw(engine, scene, edges=True, bands=5) == whole).all()
    half = FrameInput((FLAT, FLAT), 640, 160, Quality(samples=1), scene)
    frame = engine.render(half)
    both = frame.pixels[..., :3].astype(int)
    frame.release()
    assert (both[:, :320] == whole).all() and (both[:, 320:] == whole).all()


def test_a_wireframe_shows_the_lines_of_triangles_and_what_is_behind_them(engine: Engine, scene: RenderScene) -> None:
    if not engine.pipelines.draws_lines:
        pytest.skip("this device does not draw triangles as lines")
    place(engine, scene, (plane(1.0), (0, 0, 0)))
    scene.background = (0.0, 0.0, 0.0)
    drawn = draw(engine, scene, wireframe=True)[..., 0] > 0
    # Two triangles in 80 by 80 pixels: four sides and the diagonal from the upper left to the lower right.
    assert drawn.sum() < 600
    diagonal = np.arange(5, 75)
    near = [drawn[40 + i, 120 + i - 1 : 120 + i + 2].any() for i in diagonal]
    assert all(near)
    assert not drawn[50:60, 165:190].any()
    assert (draw(engine, scene)[..., 0] > 0).sum() == 80 * 80


def test_counters_stand_in_the_upper_left_corner_and_tell_what_is_drawn(engine: Engine, scene: RenderScene) -> None:
    place(engine, scene, (box(0.5), (2.5, 0, 0)))
    plain = draw(engine, scene)
    counted = draw(engine, scene, polygon_count=True)
    changed = np.argwhere((counted != plain).any(axis=2))
    assert changed[:, 0].max() < 40 and changed[:, 1].max() < 160
    text = rasterise(("12 triangles",), 9)
    height, width = text.shape
    plate = counted[4 : 4 + height, 4 : 4 + width, 0]
    light = 0.5 + 0.5 * text / 255.0  # white text on a plate that halves the white behind it
    want = 255.0 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert text.max() > 150
    assert np.abs(plate - want).max() <= 2, "the very text, pixel by pixel"
    assert (draw(engine, scene, polygon_count=True, bands=5) == counted).all()
    both = draw(engine, scene, polygon_count=True, frame_count=True)
    assert (both != counted).any()


def test_the_meter_counts_pictures_and_their_rate() -> None:
    meter = FrameMeter()
    assert meter.per_second == 0.0
    for index in range(200):
        meter.add(index / 50)
    assert meter.count == 200
    assert meter.per_second == pytest.approx(50.0)
    settings = DebugSettings(frame_count=True, polygon_count=True)
    assert counters(settings, meter, 1234567, 0) == ("Frame 200   50.0 per second", "1,234,567 triangles")
    assert counters(DebugSettings(polygon_count=True), meter, 1, 20000) == ("1 triangles   20,000 points",)
    assert counters(DebugSettings(), meter, 1, 1) == ()


def test_what_is_off_is_not_made(scene: RenderScene) -> None:
    engine = Engine.create("auto")
    engine.occlusion_culling = False
    place(engine, scene, (box(0.5), (0, 0, 0)))
    draw(engine, scene)
    made = engine.pipelines.created
    draw(engine, scene)
    assert engine.pipelines.created == made
    draw(engine, scene, edges=True, polygon_count=True)
    assert engine.pipelines.created == made + 2
    scene.clear()
    engine.close()


def test_the_lines_of_a_distant_view_are_those_of_a_near_one(engine: Engine, scene: RenderScene) -> None:
    """Depth of single precision suffices: no noise a hundred thousand times farther away."""
    place(engine, scene, (box(1.0), (0, 0, 0)), turn=about_x(45.0))
    for view in (
        look_at((0, 0, 60.0), aspect=2.0, degrees=4.0, near=0.01, far=1e5),
        look_at((0, 0, 9.0), aspect=2.0, degrees=26.0, near=0.01, far=1e5),
    ):
        dark = draw(engine, scene, view, edges=True)[..., 0] < 160
        inside = dark[36:72, 130:190]
        assert not inside.any()
        assert dark[78:82, 130:190].any(axis=0).all()
