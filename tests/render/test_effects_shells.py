"""Shells: the nearest surface only, greyed and blended; and what is half transparent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farframe.asset.model import Material, Model, Texture, TextureSlot
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.scene.effects import CutPlane, PlacedCutPlane, ShellSettings
from farframe.scene.states import State
from tests.render.effects import draw, draw_with_depth, opened, square_on
from tests.render.shapes import ModelBuilder, plane, sphere

SIZE = 64
MIDDLE = (32, 32)


def seen(*linear: float) -> list[int]:
    """8-bit sRGB of linear light."""
    value = np.array(linear)
    return np.round(255 * np.where(value > 0.0031308, 1.055 * value ** (1 / 2.4) - 0.055, 12.92 * value)).tolist()


def stack(*layers: tuple[float, tuple[float, float, float]], **material: object) -> Model:
    """Squares that fill the view, each at its z and of its colour."""
    builder = ModelBuilder()
    for z, color in layers:
        settings = {"base_color": (*color, 1.0), "unlit": True} | material
        builder.place(builder.part(plane(2.0), Material(**settings)), (0, 0, z))  # type: ignore[arg-type]
    return builder.build()


def give(scene: RenderScene, handle: int, state: State, *rows: int) -> None:
    scene.update_instances(handle, np.array(rows), states=np.full(len(rows), int(state), np.uint32))


def blue_scene() -> RenderScene:
    scene = RenderScene()
    scene.background = (0.0, 0.0, 0.8)
    return scene


RED, GREEN, WHITE = (0.6, 0.0, 0.0), (0.0, 0.5, 0.0), (1.0, 1.0, 1.0)


@pytest.mark.parametrize("samples", [1, 4])
def test_only_the_nearest_shell_is_seen_over_what_is_opaque(
    engine: Engine, tmp_path: Path, kind: str, samples: int
) -> None:
    with opened(engine, stack((0.2, RED), (0.1, WHITE), (0.0, GREEN)), kind, tmp_path) as resource:
        scene = blue_scene()
        handle = scene.add(resource, np.eye(4))
        scene.effects = replace(scene.effects, shell=ShellSettings(desaturation=0.25, opacity=0.4))
        give(scene, handle, State.SHELL, 0, 1)
        over_green = draw(engine, scene, square_on(2.0), SIZE, samples=samples)[MIDDLE][:3]
        give(scene, handle, State.SHELL, 2)
        over_background = draw(engine, scene, square_on(2.0), SIZE, samples=samples)[MIDDLE][:3]
    grey = 0.2126 * 0.6
    shell = np.array([0.6 * 0.75 + grey * 0.25, grey * 0.25, grey * 0.25])
    np.testing.assert_allclose(over_green, seen(*(0.4 * shell + 0.6 * np.array(GREEN))), atol=2)
    np.testing.assert_allclose(over_background, seen(*(0.4 * shell + [0, 0, 0.6 * 0.8])), atol=2)


def test_shells_behind_what_is_opaque_are_hidden_and_count_for_depth(engine: Engine, tmp_path: Path, kind: str) -> None:
    with opened(engine, stack((0.2, RED), (0.0, GREEN)), kind, tmp_path) as resource:
        scene = blue_scene()
        handle = scene.add(resource, np.eye(4))
        give(scene, handle, State.SHELL, 1)
        np.testing.assert_allclose(draw(engine, scene, square_on(2.0), SIZE)[MIDDLE][:3], seen(*RED), atol=1)
        give(scene, handle, State.SHELL, 0)
        _, depth = draw_with_depth(engine, scene, square_on(2.0), SIZE)
        assert depth[MIDDLE] == pytest.approx(9.8, rel=1e-4)


def test_a_shell_is_of_the_tinted_colour(engine: Engine) -> None:
    with opened(engine, stack((0.0, RED))) as resource:
        scene = blue_scene()
        handle = scene.add(resource, np.eye(4))
        scene.effects = replace(scene.effects, shell=ShellSettings(desaturation=0.0, opacity=1.0))
        give(scene, handle, State.SHELL, 0)
        scene.update_instances(handle, np.array([0]), tint=np.array([[0.0, 0.7, 0.0, 0.5]], np.float32))
        np.testing.assert_allclose(draw(engine, scene, square_on(2.0), SIZE)[MIDDLE][:3], seen(0.3, 0.35, 0), atol=1)


@pytest.mark.parametrize("samples", [1, 4])
def test_blended_and_masked_parts_can_be_shells(engine: Engine, samples: int) -> None:
    texels = np.full((64, 64, 4), 255, np.uint8)
    texels[:, :32, 3] = 0
    builder = ModelBuilder(textures=[Texture(texels, srgb=True, mag_filter="nearest", min_filter="nearest")])
    glass = Material(base_color=(*RED, 0.25), alpha_mode="blend", unlit=True)
    grate = Material(base_color=(*RED, 1), alpha_mode="mask", unlit=True, base_color_texture=TextureSlot(0))
    for material in (glass, grate):
        builder.place(builder.part(plane(2.0), material))
    with opened(engine, builder.build()) as resource:
        scene = blue_scene()
        handle = scene.add(resource, np.eye(4))
        scene.effects = replace(scene.effects, shell=ShellSettings(desaturation=0.0, opacity=0.5))
        give(scene, handle, State.SHELL, 0, 1)
        half = np.array(seen(0.3, 0.0, 0.4))
        scene.update_instances(handle, np.array([0, 1]), visible=np.array([True, False]))
        glassy = draw(engine, scene, square_on(2.0), SIZE, samples=samples)
        np.testing.assert_allclose(glassy[MIDDLE][:3], half, atol=1)
        scene.update_instances(handle, np.array([0, 1]), visible=np.array([False, True]))
        grated = draw(engine, scene, square_on(2.0), SIZE, samples=samples)
    np.testing.assert_allclose(grated[32, 40, :3], half, atol=1)
    np.testing.assert_allclose(grated[32, 20, :3], seen(0, 0, 0.8), atol=1)


def test_lit_shells_are_closed(engine: Engine, tmp_path: Path, kind: str) -> None:
    """The colour is drawn wherever depth was: to the bit the same places, by another pipeline."""
    builder = ModelBuilder()
    part = builder.part(sphere(0.8), Material(base_color=(0.9, 0.9, 0.9, 1), metallic=0.1, roughness=0.4))
    builder.place(part, (0.1, 0, 0))
    with opened(engine, builder.build(), kind, tmp_path) as resource:
        scene = RenderScene()
        scene.background = (0.0, 0.0, 0.0)
        handle = scene.add(resource, np.eye(4))
        scene.effects = replace(scene.effects, shell=ShellSettings(desaturation=0.0, opacity=1.0))
        plain = draw(engine, scene, square_on(2.0), 256, samples=1)
        give(scene, handle, State.SHELL, 0)
        shell = draw(engine, scene, square_on(2.0), 256, samples=1)
    assert plain[..., :3].any(axis=2).sum() > 20_000
    assert np.abs(plain[..., :3].astype(int) - shell[..., :3]).max() <= 1


def test_shells_are_cut(engine: Engine) -> None:
    with opened(engine, stack((0.0, RED))) as resource:
        scene = blue_scene()
        handle = scene.add(resource, np.eye(4))
        scene.effects = replace(scene.effects, shell=ShellSettings(desaturation=0.0, opacity=0.5))
        give(scene, handle, State.SHELL, 0)
        scene.cut_planes = (PlacedCutPlane(CutPlane(), (1.0, 0.0, 0.0), 0.0),)
        pixels = draw(engine, scene, square_on(2.0), SIZE, samples=1)
    np.testing.assert_allclose(pixels[32, 31, :3], seen(0.3, 0, 0.4), atol=1)
    np.testing.assert_allclose(pixels[32, 32, :3], seen(0, 0, 0.8), atol=1)


def test_see_through_lets_half_of_what_is_behind_through(engine: Engine, tmp_path: Path, kind: str) -> None:
    with opened(engine, stack((0.2, RED), (0.0, GREEN)), kind, tmp_path) as resource:
        scene = blue_scene()
        handle = scene.add(resource, np.eye(4))
        give(scene, handle, State.SEE_THROUGH, 0)
        np.testing.assert_allclose(draw(engine, scene, square_on(2.0), SIZE)[MIDDLE][:3], seen(0.3, 0.25, 0), atol=2)
        scene.update_instances(handle, np.array([1]), visible=np.array([False]))
        np.testing.assert_allclose(draw(engine, scene, square_on(2.0), SIZE)[MIDDLE][:3], seen(0.3, 0, 0.4), atol=2)
        scene.update_instances(handle, np.array([0]), tint=np.array([[0.0, 1.0, 0.0, 1.0]], np.float32))
        np.testing.assert_allclose(draw(engine, scene, square_on(2.0), SIZE)[MIDDLE][:3], seen(0, 0.5, 0.4), atol=2)


@pytest.mark.parametrize("state", [State.SHELL, State.SEE_THROUGH])
def test_nothing_is_paid_where_nothing_has_the_state(engine: Engine, state: State) -> None:
    with opened(engine, stack((0.2, RED), (0.0, GREEN))) as resource:
        scene = blue_scene()
        handle = scene.add(resource, np.eye(4))

        def found() -> tuple[int, int]:
            counts = engine.count_visible(FrameInput((square_on(2.0),), SIZE, SIZE, Quality(samples=1), scene))
            return counts.draws, counts.triangles

        before, counted, made = draw(engine, scene, square_on(2.0), SIZE, samples=1), found(), engine.pipelines.created
        scene.effects = replace(scene.effects, shell=ShellSettings(desaturation=1.0, opacity=0.1))
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1), before)
        assert (found(), engine.pipelines.created) == (counted, made)
        give(scene, handle, state, 0)
        assert (draw(engine, scene, square_on(2.0), SIZE, samples=1) != before).any()
        made = engine.pipelines.created
        give(scene, handle, State.NONE, 0)
        np.testing.assert_array_equal(draw(engine, scene, square_on(2.0), SIZE, samples=1), before)
        assert (found(), engine.pipelines.created) == (counted, made)


@pytest.mark.parametrize("state", [State.SHELL, State.SEE_THROUGH, State.SELECTED])
def test_calls_do_not_grow_with_parts(engine: Engine, monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    from farframe.render import passes as module

    calls: list[int] = []
    real = module.extras.multi_draw_indexed_indirect

    def counted(*args: object, count: int, **rest: object) -> None:
        calls.append(count)
        real(*args, count=count, **rest)

    monkeypatch.setattr(module.extras, "multi_draw_indexed_indirect", counted)
    numbers = []
    for parts in (10, 1000):
        builder = ModelBuilder()
        part = builder.part(plane(0.01), Material(base_color=(*RED, 1.0), unlit=True))
        for number in range(parts):
            builder.place(part, (0.02 * (number % 32) - 0.3, 0.02 * (number // 32) - 0.3, 0))
        with opened(engine, builder.build()) as resource:
            scene = blue_scene()
            handle = scene.add(resource, np.eye(4))
            give(scene, handle, state, *range(0, parts, 2))
            calls.clear()
            draw(engine, scene, square_on(2.0), SIZE, samples=1)
            numbers.append(len(calls))
            assert sum(calls) >= parts
    assert numbers[0] == numbers[1]
