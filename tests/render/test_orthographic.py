"""Views whose rays are parallel: sizes and depths by ruler, and the same cut at any distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from farframe.asset.model import Material
from farframe.protocol.records import FieldOfView, View
from farframe.render import Engine, FrameInput, Quality, RenderedFrame, RenderScene
from farframe.render.bands import band_view
from farframe.render.frame import view_projection
from farframe.render.visibility import frustum_planes
from tests.render.shapes import ModelBuilder, box, look_at, sphere

FLAT = View((0.0, 0.0, 10.0), (0.0, 0.0, 0.0, 1.0), FieldOfView.extent(4.0, 2.0), 1.0, 21.0, True)
"""Sees 8 by 4 metres."""


def shoot(engine: Engine, scene: RenderScene, view: View, quality: Quality | None = None) -> RenderedFrame:
    return engine.render(FrameInput((view,), 320, 160, quality or Quality(samples=1), scene, read_depth=True))


@pytest.fixture
def boxes(engine: Engine):
    builder = ModelBuilder()
    number = builder.part(box(0.5), Material(base_color=(1, 0, 0, 1), unlit=True))
    builder.place(number, (-2.0, 0.0, 5.0))
    builder.place(number, (2.0, 1.0, -8.0))
    resource = engine.upload(builder.build())
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    scene.background = (0.0, 0.0, 0.0)
    yield scene
    engine.release(resource)


def test_what_is_far_is_as_large_as_what_is_near(engine: Engine, boxes: RenderScene) -> None:
    frame = shoot(engine, boxes, FLAT)
    red = frame.pixels[..., 0] > 128
    assert frame.depth is not None
    # 40 pixels are a metre; the picture's middle is the axis.
    assert red.sum() == 2 * 40 * 40
    assert red[60:100, 60:100].all() and red[20:60, 220:260].all()
    assert frame.depth[80, 80] == pytest.approx(4.5, abs=1e-4)
    assert frame.depth[40, 240] == pytest.approx(17.5, abs=1e-4)
    assert np.isinf(frame.depth[80, 240])
    frame.release()


def test_off_the_axis_and_from_the_side(engine: Engine, boxes: RenderScene) -> None:
    shifted = replace(FLAT, fov=FieldOfView(-3.0, 5.0, 3.0, -1.0))
    frame = shoot(engine, boxes, shifted)
    red = frame.pixels[..., 0] > 128
    assert red[100:140, 20:60].all() and red[60:100, 180:220].all() and red.sum() == 2 * 40 * 40
    frame.release()
    side = look_at((20.0, 0.0, 0.0), (0.0, 0.0, 0.0), far=50.0)
    side = replace(side, fov=FieldOfView.extent(20.0, 2.0), orthographic=True)
    frame = shoot(engine, boxes, side)
    _, columns = np.nonzero(frame.pixels[..., 0] > 128)
    # Seen from +X, +Z lies on the left, and 8 pixels are a metre.
    assert (columns.min(), columns.max()) == (160 - 44, 160 + 67)
    frame.release()


def test_what_lies_outside_is_not_drawn(engine: Engine, boxes: RenderScene) -> None:
    away = replace(FLAT, position=(8.0, 0.0, 10.0))
    frame = shoot(engine, boxes, away)
    assert frame.draws == 0
    frame.release()
    planes = frustum_planes(view_projection(FLAT, np.zeros(3)))
    inside = np.array([[3.9, 1.9, 8.9, 1], [-3.9, -1.9, -10.9, 1]])
    outside = np.array([[4.1, 0, 0, 1], [0, -2.1, 0, 1], [0, 0, 9.1, 1], [0, 0, -11.1, 1]])
    assert (inside @ planes.T >= 0).all()
    assert (outside @ planes.T < 0).any(axis=1).all()


def test_detail_does_not_depend_on_distance(engine: Engine) -> None:
    builder = ModelBuilder()
    vertices, indices = sphere(1.0, 48, 24)
    part = builder.part((vertices, indices), Material(), coarser=((indices[: len(indices) // 4], 0.05),))
    builder.place(part, (0, 0, 0))
    resource = engine.upload(builder.build())
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    triangles = set()
    for distance in (5.0, 500.0, 50_000.0):
        view = replace(FLAT, position=(0.0, 0.0, distance), near=0.5, far=1e5)
        frame = shoot(engine, scene, view, Quality(samples=1, pixel_error=3.0))
        triangles.add(frame.triangles)
        frame.release()
    assert triangles == {len(indices) // 3 // 4}, "0.05 m are two pixels at 40 pixels a metre"
    frame = shoot(engine, scene, FLAT, Quality(samples=1, pixel_error=1.0))
    assert frame.triangles == len(indices) // 3
    frame.release()
    engine.release(resource)


def test_bands_are_parts_of_the_picture(engine: Engine, boxes: RenderScene) -> None:
    upper = band_view(FLAT, 0.0, 0.25)
    assert upper.tangents == pytest.approx((-4.0, 4.0, 2.0, 1.0))


def test_hidden_surfaces_are_left_out_and_no_pixel_changes(engine: Engine) -> None:
    builder = ModelBuilder()
    wall = builder.part(box(1.0), Material(base_color=(0.5, 0.5, 0.5, 1)))
    builder.place(wall, (0, 0, 4), (4, 2, 0.1))
    ball = builder.part(sphere(0.3), Material(base_color=(1, 0, 0, 1)))
    for index in range(20):
        builder.place(ball, (index % 5 - 2, index // 5 * 0.8 - 1.2, 0))
    builder.place(ball, (0.0, 0.0, 6.0))
    resource = engine.upload(builder.build())
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    plain = shoot(engine, scene, FLAT)
    engine.occlusion_culling = True
    shoot(engine, scene, FLAT).release()
    culled = shoot(engine, scene, FLAT)
    engine.occlusion_culling = False
    assert culled.hidden_triangles >= 20 * 3000
    assert (culled.pixels == plain.pixels).all()
    for frame in (plain, culled):
        frame.release()
    engine.release(resource)


def test_light_is_seen_under_the_same_angle_all_over_a_flat_picture(engine: Engine) -> None:
    """A mirror of parallel rays shows one direction of the sky everywhere: a plain colour."""
    builder = ModelBuilder()
    builder.place(builder.part(box(1.0), Material(base_color=(1, 1, 1, 1), metallic=1.0, roughness=0.0)), scale=3.0)
    resource = engine.upload(builder.build())
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    frame = shoot(engine, scene, replace(FLAT, fov=FieldOfView.extent(2.0, 2.0)))
    assert np.ptp(frame.pixels[..., :3].reshape(-1, 3), axis=0).max() == 0
    frame.release()
    frame = shoot(engine, scene, replace(FLAT, fov=FieldOfView.symmetric(0.4, 2.0), orthographic=False))
    assert np.ptp(frame.pixels[..., :3].reshape(-1, 3), axis=0).max() > 0
    frame.release()
    engine.release(resource)
