"""Outlines around what is selected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.model import Material, Model, Texture, TextureSlot
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.bands import render_in_bands
from farframe.render.outlines import WIDTH_PIXELS, opacity
from farframe.scene.effects import OutlineSettings
from farframe.scene.states import State
from tests.render.effects import draw, opened, square_on
from tests.render.shapes import ModelBuilder, look_at, plane, sphere

GREY = Material(base_color=(0.2, 0.2, 0.2, 1.0), unlit=True)
RED = Material(base_color=(0.5, 0.0, 0.0, 1.0), unlit=True)
YELLOW = np.array([255, 255, 0])
SIZE = 128


def select(scene: RenderScene, handle: int, *rows: int) -> None:
    scene.update_instances(handle, np.array(rows), states=np.full(len(rows), int(State.SELECTED), np.uint32))


def squares(*places: tuple[float, float, float], half: float = 0.25) -> Model:
    builder = ModelBuilder()
    part = builder.part(plane(half), GREY)
    for place in places:
        builder.place(part, place)
    return builder.build()


def is_line(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (pixels[..., 0] > 200) & (pixels[..., 1] > 200) & (pixels[..., 2] < 100)


@pytest.mark.parametrize("samples", [1, 4])
def test_a_line_of_two_pixels_runs_around_the_silhouette(
    engine: Engine, tmp_path: Path, kind: str, samples: int
) -> None:
    with opened(engine, squares((0, 0, 0)), kind, tmp_path) as resource:
        scene = RenderScene()
        scene.background = (0.0, 0.0, 0.0)
        handle = scene.add(resource, np.eye(4))
        plain = draw(engine, scene, square_on(2.0), SIZE, samples=samples)
        select(scene, handle, 0)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=samples)
    # The picture is 2 m wide on 128 pixels: the square of half a metre covers pixels 48 to 79.
    row = pixels[64, :, :3]
    assert WIDTH_PIXELS == 2.0
    np.testing.assert_allclose(row[[46, 47, 80, 81]], np.tile(YELLOW, (4, 1)), atol=1)
    np.testing.assert_array_equal(row[48:80], plain[64, 48:80, :3], "what is selected keeps its look")
    np.testing.assert_array_equal(row[:45], plain[64, :45, :3])
    np.testing.assert_array_equal(row[83:], plain[64, 83:, :3])
    np.testing.assert_array_equal(pixels[46:48, 60, :3], np.tile(YELLOW, (2, 1)))


def test_one_line_runs_around_all_that_is_selected_together(engine: Engine, tmp_path: Path, kind: str) -> None:
    model = squares((-0.25, 0, 0), (0.25, 0, 0), (0, 0.5, -0.5))
    with opened(engine, model, kind, tmp_path) as resource:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        select(scene, handle, 0, 1)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)
    lines = is_line(pixels)
    assert lines[64, 30:32].all() and lines[64, 96:98].all()
    assert not lines[50:78, 34:94].any(), "none where the two meet, and none around the third"
    assert not lines[20, 40:88].any()


def test_lines_are_seen_over_what_hides_the_selected(engine: Engine, tmp_path: Path, kind: str) -> None:
    model = squares((0, 0, 0), (0, 0, 0.5))
    with opened(engine, model, kind, tmp_path) as resource:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        scene.update_instances(handle, np.array([1]), world=np.array([[[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 1, 0.5]]]))
        select(scene, handle, 0)
        lines = is_line(draw(engine, scene, square_on(2.0), SIZE, samples=1))
        assert lines[64, 46:48].all() and lines[64, 80:82].all()
        scene.update_instances(handle, np.array([0]), visible=np.array([False]))
        assert not is_line(draw(engine, scene, square_on(2.0), SIZE, samples=1)).any(), "hidden parts have none"


def test_lines_keep_their_width_in_smaller_pictures(engine: Engine) -> None:
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = RenderScene()
        select(scene, scene.add(resource, np.eye(4)), 0)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1, scale=0.5)
    assert pixels.shape[0] == 64
    assert is_line(pixels)[32].sum() == 2, "one of these pixels is two of what is shown"


def test_colour_and_pulse(engine: Engine) -> None:
    settings = OutlineSettings(color=(0.0, 1.0, 0.0), pulse_rate_hz=2.0, pulse_intensity=0.75)
    assert opacity(settings, 0.0) == opacity(settings, 0.5) == 1.0
    assert opacity(settings, 0.25) == pytest.approx(0.25)
    assert opacity(replace(settings, pulse_intensity=0.0), 0.25) == 1.0
    with opened(engine, squares((0, 0, 0))) as resource:
        scene = RenderScene()
        scene.background = (0.0, 0.0, 0.0)
        scene.effects = replace(scene.effects, outline=settings)
        select(scene, scene.add(resource, np.eye(4)), 0)
        bright = draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, 47, :3]
        scene.advance(0.25)
        assert scene.moving
        faint = draw(engine, scene, square_on(2.0), SIZE, samples=1)[64, 47, :3]
    np.testing.assert_array_equal(bright, (0, 255, 0))
    np.testing.assert_allclose(faint, (0, 137, 0), atol=1)  # a quarter of linear light


def test_each_of_two_views_has_its_own_lines(engine: Engine) -> None:
    # The selected square reaches out of the left view at its right edge, and is not in the right view at all.
    with opened(engine, squares((1.0, 0, 0))) as resource:
        scene = RenderScene()
        select(scene, scene.add(resource, np.eye(4)), 0)
        away = look_at((0, 0, 4), (0, 0, 8), aspect=1.0)
        frame = engine.render(FrameInput((square_on(2.0), away), 2 * SIZE, SIZE, Quality(samples=1), scene))
        lines = is_line(frame.pixels)
        frame.release()
    assert lines[64, 110:112].all()
    assert not lines[64, 112:].any(), "none along the edge of a view, none in the other view"


def test_masks_cut_the_silhouette(engine: Engine, tmp_path: Path, kind: str) -> None:
    texels = np.full((64, 64, 4), 255, np.uint8)
    texels[:, :32, 3] = 0
    builder = ModelBuilder(textures=[Texture(texels, srgb=True, mag_filter="nearest", min_filter="nearest")])
    builder.place(builder.part(plane(0.25), replace(GREY, alpha_mode="mask", base_color_texture=TextureSlot(0))))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = RenderScene()
        select(scene, scene.add(resource, np.eye(4)), 0)
        lines = is_line(draw(engine, scene, square_on(2.0), SIZE, samples=1))
    assert not lines[64, 46:62].any()
    assert lines[64, 62:64].all() and lines[64, 80:82].all()


@pytest.mark.parametrize("selected", [True, False])
def test_bands_are_the_whole_picture(engine: Engine, selected: bool) -> None:
    builder = ModelBuilder()
    part = builder.part(sphere(0.7), RED)
    for x in (-1, 0, 1):
        builder.place(part, (x, 0.3 * x, 0))
    with opened(engine, builder.build()) as resource:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        if selected:
            select(scene, handle, 0, 2)
        frame = FrameInput((look_at((0, 0.2, 4)),), 320, 180, Quality(), scene)
        whole = engine.render(frame)
        banded = render_in_bands(engine, frame, 5, lambda: False)
        assert banded is not None
        difference = np.abs(whole.pixels.astype(int) - banded.pixels)
        assert is_line(whole.pixels).any() == selected
        assert (difference.max(axis=2) > 8).mean() < 0.002
        whole.release()


def test_nothing_is_paid_where_nothing_is_selected(engine: Engine) -> None:
    with opened(engine, squares((0, 0, 0), (0.6, 0, 0))) as resource:
        scene = RenderScene()
        handle = scene.add(resource, np.eye(4))
        before = draw(engine, scene, square_on(2.0), SIZE, samples=1)
        made = engine.pipelines.created
        scene.effects = replace(scene.effects, outline=OutlineSettings(pulse_rate_hz=1.0, pulse_intensity=1.0))
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1), before)
        assert engine.pipelines.created == made and not scene.moving
        select(scene, handle, 0)
        assert (draw(engine, scene, square_on(2.0), SIZE, samples=1) != before).any()
        made = engine.pipelines.created
        scene.update_instances(handle, np.array([0, 1]), states=np.zeros(2, np.uint32))
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1), before)
        assert engine.pipelines.created == made


def test_lines_of_curves_are_smooth(engine: Engine) -> None:
    """How much line there is along a circle, by direction, hardly varies: no steps, no gaps."""
    builder = ModelBuilder()
    builder.place(builder.part(sphere(0.5, slices=96, stacks=64), GREY))
    with opened(engine, builder.build()) as resource:
        scene = RenderScene()
        scene.background = (0.0, 0.0, 0.0)
        scene.effects = replace(scene.effects, outline=OutlineSettings(color=(1.0, 0.0, 0.0)))
        select(scene, scene.add(resource, np.eye(4)), 0)
        pixels = draw(engine, scene, square_on(2.0), 256, samples=1)
    red = np.where(pixels[..., 1] < 10, pixels[..., 0] / 255.0, 0.0) ** 2.2
    y, x = np.mgrid[0:256, 0:256] - 127.5
    angle = np.floor((np.arctan2(y, x) + np.pi) / (2 * np.pi) * 36).astype(int).clip(0, 35)
    weight = np.bincount(angle.ravel(), red.ravel(), 36)
    assert weight.min() > 0.75 * weight.max() > 0
