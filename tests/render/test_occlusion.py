"""What is hidden is left out, and no pixel changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.model import Material, Model
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.link import LoadLimits
from farframe.protocol.records import View
from farframe.render import Engine, FrameInput, Quality, RenderedFrame, RenderScene
from farframe.render.frame import view_projection
from farframe.render.occlusion import LEAST_TRIANGLES, PLAIN_PICTURES, TILE, DepthGrid, OcclusionGovernor
from tests.render.shapes import ModelBuilder, box, look_at, plane, sphere

WIDTH, HEIGHT = 328, 232
"""Not a whole number of tiles high."""


def test_what_the_grid_hides_lies_behind_every_pixel_that_it_covers() -> None:
    random = np.random.default_rng(11)
    view = look_at((0.5, 0.3, 4.0), near=0.1, far=50.0)
    matrix = view_projection(view, np.zeros(3))
    width, height = 161, 90
    hidden = tested = 0
    for _ in range(20):
        # Depths as of walls from 2 to 8 metres away, in patches, with holes of nothing.
        patches = np.repeat(np.repeat(random.uniform(2.0, 8.0, (9, 17)), 10, axis=0), 10, axis=1)[:height, :width]
        depth = (0.1 / patches).astype(np.float32)
        depth[random.uniform(size=depth.shape) < 0.0005] = 0.0
        padded = np.pad(depth, ((0, -height % TILE), (0, -width % TILE)), mode="edge")
        finest = padded.reshape(padded.shape[0] // TILE, TILE, -1, TILE).min(axis=(1, 3))
        grid = DepthGrid.of(finest, matrix, np.zeros(3), (0, 0), (width, height))
        center = random.uniform((-3.0, -2.0, -5.0), (3.0, 2.0, 5.0), (200, 3)).astype(np.float32)
        extent = random.uniform(0.01, 0.6, (200, 3)).astype(np.float32)
        answers = grid.hides(center, extent)
        tested += len(answers)
        hidden += int(answers.sum())
        for at in np.flatnonzero(answers):
            corners = center[at] + extent[at] * np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
            clip = np.concatenate([corners, np.ones((8, 1))], axis=1) @ matrix.T
            assert (clip[:, 3] > 0.0).all()
            x = (clip[:, 0] / clip[:, 3] + 1.0) * width / 2
            y = (1.0 - clip[:, 1] / clip[:, 3]) * height / 2
            left, right = np.clip([x.min(), x.max() + 1.0], 0, width).astype(int)
            top, bottom = np.clip([y.min(), y.max() + 1.0], 0, height).astype(int)
            covered = depth[top:bottom, left:right]
            if not covered.size:
                continue  # a pixel outside of the view, which is as good as hidden
            assert float((clip[:, 2] / clip[:, 3]).max()) < float(covered.min())
    assert 100 < hidden < tested - 100, "these boxes tell nothing"


def test_boxes_that_the_view_does_not_see_are_not_hidden() -> None:
    view = look_at((0.0, 0.0, 4.0), near=0.1, far=50.0)
    wall = np.full((12, 12), 0.05, np.float32)
    grid = DepthGrid.of(wall, view_projection(view, np.zeros(3)), np.zeros(3), (0, 0), (96, 96))
    center = np.array([[0, 0, -4], [0, 0, 3], [0, 0, 4], [0, 0, 8], [90, 0, -4]], np.float32)
    assert grid.hides(center, np.full((5, 3), 0.2, np.float32)).tolist() == [True, False, False, False, False]


def test_culling_goes_on_only_while_it_pays_and_is_tried_again() -> None:
    governor = OcclusionGovernor()
    assert not governor.wanted(LEAST_TRIANGLES - 1)
    while governor.wanted(200_000):
        governor.observe_culled(200_000, 1_000, 0.004)
    for _ in range(PLAIN_PICTURES - 1):
        governor.observe_plain(200_000, 0.05)
        assert not governor.wanted(200_000)
    governor.observe_plain(200_000, 0.05)
    assert governor.wanted(200_000), "the view may have changed: it has to be tried again"
    for _ in range(3 * PLAIN_PICTURES):
        assert governor.wanted(200_000)
        governor.observe_culled(200_000, 150_000, 0.004)


def closed_assembly() -> Model:
    """A shell with windows in two sides, full of balls, with a pane of glass and a label."""
    builder = ModelBuilder()
    metal = Material(base_color=(0.6, 0.6, 0.65, 1.0), metallic=0.3, roughness=0.5)
    wall = builder.part(box(), metal)
    for axis in range(3):
        for side in (-1.0, 1.0):
            position, scale = np.zeros(3), np.ones(3)
            position[axis], scale[axis] = side, 0.02
            # No two faces lie in the same plane: there the order of drawing would show.
            scale[(axis + 1) % 3] = 1.0 - 0.013 * (axis + 1)
            if axis == 0:
                scale[1] = 0.6  # the windows
            builder.place(wall, position, scale)
    ball = builder.part(sphere(0.22, 96, 48), Material(base_color=(0.8, 0.3, 0.2, 1.0), roughness=0.4))
    for x in (-0.6, 0.0, 0.6):
        for y in (-0.6, 0.0, 0.6):
            for z in (-0.6, 0.0, 0.6):
                builder.place(ball, (x, y, z))
    pane = builder.part(plane(0.5), Material(base_color=(0.2, 0.5, 0.9, 0.4), alpha_mode="blend"))
    builder.place(pane, (0.1, 0.2, 1.3))
    return builder.build()


def draw(engine: Engine, scene: RenderScene, views: tuple[View, ...], samples: int, *, culled: bool) -> RenderedFrame:
    engine.occlusion_culling = culled
    try:
        quality = Quality(samples=samples, cut_error=0.5)
        frame = engine.render(FrameInput(views, WIDTH, HEIGHT, quality, scene, read_depth=True))
    finally:
        engine.occlusion_culling = False
    assert frame.depth is not None
    copied = replace(frame, pixels=frame.pixels.copy(), depth=frame.depth.copy())
    frame.release()
    return copied


@pytest.fixture(scope="module")
def assembly() -> Model:
    return closed_assembly()


@pytest.fixture(params=["model", "asset"])
def scene(
    request: pytest.FixtureRequest, engine: Engine, assembly: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RenderScene]:
    """The assembly, turned, as a plain model and as an asset of which everything is resident."""
    if request.param == "model":
        resource = engine.upload(assembly)
    else:
        path = Path(tmp_path_factory.mktemp("assembly")) / "assembly.arrAsset"
        build_asset(assembly, path, BuildOptions(workers=1))
        asset = Asset.open(FileSource(path), LoadLimits())
        resource = engine.open_asset(asset)
        for page in range(len(asset.pages)):
            if not resource.pages.resident[page]:
                assert engine.residency.place(resource, page, asset.decode_page(page, asset.read_page(page)))
    scene = RenderScene()
    turn = np.eye(4)
    turn[:3, :3] = [[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]]
    scene.add(resource, turn)
    yield scene
    engine.release(resource)


def views_around(count: int) -> Iterator[View]:
    """Steps along a path, some small and some wide, with one in the middle of it all."""
    random = np.random.default_rng(2)
    at = np.array([0.4, 0.5, 3.0])
    for number in range(count):
        at = at + random.normal(size=3) * (0.08 if number % 4 else 1.5)
        distance = np.linalg.norm(at)
        at *= np.clip(distance, 1.6, 4.0) / distance
        eye = (0.05, 0.3, 0.1) if number == count // 2 else tuple(at.tolist())
        yield look_at(eye, (0.0, 0.0, -0.1), near=0.02, far=30.0)


def assert_same(culled: RenderedFrame, plain: RenderedFrame) -> None:
    """The same depth in every pixel; and the same colour. With several samples lavapipe takes the colour of a fragment
    at the middle of those samples that are still free, so that on silhouettes the order of drawing shows a little."""
    assert plain.depth is not None and culled.depth is not None
    assert differing(culled.depth, plain.depth) == 0
    off = np.abs(culled.pixels.astype(np.int16) - plain.pixels).max(axis=2)
    assert off.max() <= (0 if plain.samples == 1 else 12)
    assert np.count_nonzero(off) <= (0 if plain.samples == 1 else 0.002 * off.size)


def differing(a: NDArray[np.generic], b: NDArray[np.generic]) -> int:
    return int(np.count_nonzero(a != b))


@pytest.mark.parametrize("samples", [1, 4])
def test_pictures_are_the_same_with_and_without_what_is_hidden(
    engine: Engine, scene: RenderScene, samples: int
) -> None:
    hidden = []
    for view in views_around(14):
        culled = draw(engine, scene, (view,), samples, culled=True)
        # The grids that the next picture guesses from are those of the culled one: drawing plainly forgets them.
        memory = engine._passes.occlusion[scene]
        grids = memory.grids
        plain = draw(engine, scene, (view,), samples, culled=False)
        memory.grids = grids
        assert_same(culled, plain)
        assert culled.triangles + culled.hidden_triangles == plain.triangles
        hidden.append(culled.hidden_triangles / plain.triangles)
    assert max(hidden) > 0.3, f"hardly anything was hidden: {hidden}"


def test_two_views_are_culled_each_by_its_own_depth(engine: Engine, scene: RenderScene) -> None:
    left = look_at((2.2, 0.4, 2.0), near=0.02, far=30.0)
    right = look_at((-0.1, 0.2, 0.0), (0.3, 0.1, -1.0), near=0.02, far=30.0)
    for _ in range(2):
        culled = draw(engine, scene, (left, right), 1, culled=True)
    plain = draw(engine, scene, (left, right), 1, culled=False)
    assert_same(culled, plain)
    assert culled.hidden_triangles > 0


def test_frames_that_cull_create_nothing(engine: Engine, scene: RenderScene) -> None:
    view = look_at((2.2, 0.4, 2.0), near=0.02, far=30.0)
    draw(engine, scene, (view,), 1, culled=True)
    created = engine.pipelines.created
    draw(engine, scene, (view,), 1, culled=True)
    assert engine.pipelines.created == created
