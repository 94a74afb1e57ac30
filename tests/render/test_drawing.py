"""The engine's promises that pictures do not show: what is not drawn, what is not made anew, what is freed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from farframe.asset.model import VERTEX_DTYPE, Material, Model
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.records import View
from farframe.render import Engine, FrameInput, Quality, RenderedFrame, RenderScene
from tests.render.shapes import ModelBuilder, box, look_at, plane, sphere

FAST = Quality(samples=1)
Placed = Callable[[Model], RenderScene]


@pytest.fixture
def placed(engine: Engine) -> Any:
    """Uploads models and places them in a scene of their own; frees them afterwards."""
    resources = []

    def place(model: Model, matrix: np.ndarray | None = None) -> RenderScene:
        resource = engine.upload(model)
        resources.append(resource)
        scene = RenderScene()
        scene.add(resource, np.eye(4) if matrix is None else matrix)
        return scene

    yield place
    for resource in resources:
        engine.release(resource)


def shoot(engine: Engine, scene: RenderScene, *views: View, quality: Quality = FAST, depth: bool = False, **size: int):
    frame = engine.render(
        FrameInput(views, size.get("width", 160), size.get("height", 90), quality, scene, read_depth=depth)
    )
    copy = RenderedFrame(
        pixels=frame.pixels.copy(),
        depth=None if frame.depth is None else frame.depth.copy(),
        **{
            name: getattr(frame, name)
            for name in RenderedFrame.__dataclass_fields__
            if name not in ("pixels", "depth", "_release")
        },
    )
    frame.release()
    return copy


def red_box(material: Material | None = None) -> Model:
    builder = ModelBuilder()
    builder.place(builder.part(box(), material or Material(base_color=(1, 0, 0, 1), unlit=True)))
    return builder.build()


def row_of_spheres(count: int, **part: Any) -> Model:
    builder = ModelBuilder()
    for index in range(count):
        color = (0.2 + 0.6 * index / count, 0.4, 0.5, 1.0)
        number = builder.part(sphere(0.4, 12, 6), Material(base_color=color, metallic=0.0), **part)
        builder.place(number, (index % 32 - 16, index // 32 - 16, 0))
    return builder.build()


def test_parts_outside_the_view_are_not_drawn(engine: Engine, placed: Placed) -> None:
    builder = ModelBuilder()
    part = builder.part(sphere(0.5), Material())
    for x in (-100, -50, 0, 50, 100):
        builder.place(part, (x, 0, 0))
    scene = placed(builder.build())
    seen = shoot(engine, scene, look_at((0, 0, 5)))
    assert (seen.draws, seen.triangles) == (1, 64 * 32 * 2)
    away = shoot(engine, scene, look_at((0, 0, 5), (0, 0, 10)))
    assert (away.draws, away.triangles) == (0, 0)
    beyond = shoot(engine, scene, look_at((0, 0, 200), far=150.0))
    assert beyond.draws == 0


def test_coarser_levels_draw_fewer_triangles(engine: Engine, placed: Placed) -> None:
    builder = ModelBuilder()
    vertices, indices = sphere()
    coarse = np.ascontiguousarray(indices.reshape(-1, 3)[::4].reshape(-1))
    part = builder.part((vertices, indices), Material(), coarser=[(coarse, 0.02)])
    builder.place(part, (0, 0, 0))
    builder.place(part, (0, 0, -90))
    scene = placed(builder.build())
    view = look_at((0, 0, 6), far=200.0)
    full = shoot(engine, scene, view)
    assert (full.triangles, full.reduced_parts, full.draws) == (2 * len(indices) // 3, 0, 2)
    # At 90 px high and 35 degrees 2 cm project to 0.6 px at 5 m and to 0.03 px at 95 m.
    reduced = shoot(engine, scene, view, quality=Quality(1, 1.0, 0.3))
    assert (reduced.triangles, reduced.reduced_parts) == ((len(indices) + len(coarse)) // 3, 1)
    both = shoot(engine, scene, view, quality=Quality(1, 1.0, 1.0))
    assert (both.triangles, both.reduced_parts) == (2 * len(coarse) // 3, 2)


def test_what_is_smaller_than_the_allowed_error_is_left_out(engine: Engine, placed: Placed) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(sphere(0.01), Material()), (0, 0, -50))
    scene = placed(builder.build())
    assert shoot(engine, scene, look_at((0, 0, 5))).draws == 1
    assert shoot(engine, scene, look_at((0, 0, 5)), quality=Quality(1, 1.0, 1.0)).draws == 0


@pytest.mark.parametrize("samples", [1, 4])
def test_depth_is_right_to_the_millimetre(engine: Engine, placed: Placed, samples: int) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(plane(2.0), Material()), (0, 0, -3.25))
    scene = placed(builder.build())
    view = look_at((0, 0, 0), (0, 0, -1), degrees=90, near=0.05, far=1000.0)
    depth = shoot(engine, scene, view, quality=Quality(samples), depth=True).depth
    assert depth.shape == (90, 160)
    # Along the view axis, so the same everywhere on the plane, not only in the middle.
    hit = np.isfinite(depth)
    assert hit[45, 80]
    assert not hit[45, 2]
    assert np.abs(depth[hit] - 3.25).max() < 0.001
    assert hit.mean() == pytest.approx((2.0 / 3.25) ** 2 * 9 / 16, rel=0.03)


def test_depth_far_from_the_origin(engine: Engine, placed: Placed) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(plane(2.0), Material()))
    away = np.eye(4)
    away[:3, 3] = (4.0e6, 100.0, -7.0e6)
    scene = placed(builder.build(), away)
    view = look_at((4.0e6, 100.0, -7.0e6 + 2.5), (4.0e6, 100.0, -7.0e6), degrees=60)
    depth = shoot(engine, scene, view, depth=True).depth
    assert depth[45, 80] == pytest.approx(2.5, abs=0.001)


def test_two_views_side_by_side(engine: Engine, placed: Placed) -> None:
    scene = placed(red_box())
    scene.background = (0.0, 0.0, 0.0)
    near, away = look_at((0, 0, 5), aspect=80 / 90), look_at((0, 0, 5), (0, 0, 10), aspect=80 / 90)
    frame = shoot(engine, scene, near, away)
    left, right = frame.pixels[:, :80], frame.pixels[:, 80:]
    assert tuple(left[45, 40]) == (255, 0, 0, 255)
    assert not right[..., :3].any()
    assert frame.draws == 1
    mirrored = shoot(engine, scene, away, near)
    np.testing.assert_array_equal(mirrored.pixels[:, 80:], left)
    alone = shoot(engine, scene, near, width=80)
    np.testing.assert_array_equal(alone.pixels, left)


def test_colors_are_exact_srgb(engine: Engine, placed: Placed) -> None:
    # Unlit surfaces and the background keep their colour: linear 0.5 is 188 in sRGB, 0.2 is 124, 0.02 is 39.
    scene = placed(red_box(Material(base_color=(0.5, 0.2, 0.02, 1.0), unlit=True)))
    scene.background = (0.2, 0.5, 0.02)
    pixels = shoot(engine, scene, look_at((0, 0, 5))).pixels
    np.testing.assert_allclose(pixels[45, 80, :3], (188, 124, 39), atol=1)
    np.testing.assert_allclose(pixels[2, 2, :3], (124, 188, 39), atol=1)


def test_scale_draws_fewer_pixels(engine: Engine, placed: Placed) -> None:
    scene = placed(red_box())
    frame = shoot(engine, scene, look_at((0, 0, 5)), quality=Quality(1, 0.5, 0.0), width=320, height=180)
    assert (frame.width, frame.height, frame.pixels.shape) == (160, 90, (90, 160, 4))


def test_draw_calls_do_not_grow_with_the_parts(engine: Engine, placed: Placed, monkeypatch: pytest.MonkeyPatch) -> None:
    from wgpu.backends.wgpu_native import GPURenderPassEncoder, extras

    calls = {"any": 0, "indirect": 0}
    original = extras.multi_draw_indexed_indirect

    def counted(*arguments: Any, **named: Any) -> None:
        calls["indirect"] += 1
        original(*arguments, **named)

    monkeypatch.setattr(extras, "multi_draw_indexed_indirect", counted)
    for name in (
        "draw",
        "draw_indexed",
        "draw_indexed_indirect",
        "set_pipeline",
        "set_bind_group",
        "set_vertex_buffer",
    ):
        method = getattr(GPURenderPassEncoder, name)

        def tallied(*arguments: Any, method: Any = method, **named: Any) -> Any:
            calls["any"] += 1
            return method(*arguments, **named)

        monkeypatch.setattr(GPURenderPassEncoder, name, tallied)

    def counts(parts: int) -> tuple[int, int]:
        scene = placed(row_of_spheres(parts))
        calls.update(any=0, indirect=0)
        assert shoot(engine, scene, look_at((0, 0, 60))).draws == parts
        return calls["any"], calls["indirect"]

    few, many = counts(10), counts(1000)
    assert few == many
    assert many[1] == 1


def test_frames_create_nothing(engine: Engine, placed: Placed, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first frame of a size: no pipeline, shader, buffer, texture or bind group."""
    scene = placed(row_of_spheres(20))
    views = [look_at((np.sin(a) * 9, 1, np.cos(a) * 9)) for a in (0.0, 0.1, 0.2, 0.3)]
    qualities = (FAST, Quality(), Quality(1, 0.5, 1.0))
    for quality in qualities:
        shoot(engine, scene, views[0], quality=quality)
    made = engine.pipelines.created
    created: list[str] = []
    device = type(engine._device)
    for name in dir(device):
        if name.startswith("create_") and name != "create_command_encoder":
            monkeypatch.setattr(device, name, lambda *a, name=name, **k: created.append(name))
    for view in views:
        for quality in qualities:
            shoot(engine, scene, view, quality=quality)
    assert created == []
    assert engine.pipelines.created == made


def test_warm_up_compiles_what_usual_models_need(engine: Engine, placed: Placed) -> None:
    engine.warm_up()
    made = engine.pipelines.created
    builder = ModelBuilder()
    for material in (
        Material(),
        Material(double_sided=True),
        Material(alpha_mode="blend"),
        Material(unlit=True),
        Material(emissive=(1, 1, 1)),
    ):
        builder.place(builder.part(sphere(0.5, 8, 4), material))
    scene = placed(builder.build())
    for samples in (1, 4):
        shoot(engine, scene, look_at((0, 0, 5)), quality=Quality(samples), depth=True)
    assert engine.pipelines.created == made


def test_releasing_a_model_frees_its_memory(engine: Engine) -> None:
    before = engine.model_bytes
    model = row_of_spheres(50)
    resource = engine.upload(model)
    assert engine.model_bytes - before >= model.vertices.nbytes + model.indices.nbytes
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    assert shoot(engine, scene, look_at((0, 0, 60))).draws == 50
    engine.release(resource)
    engine.release(resource)
    assert resource.released
    assert resource.vertices is None
    assert engine.model_bytes == before
    # A scene that still places it draws without it.
    assert shoot(engine, scene, look_at((0, 0, 60))).draws == 0


def test_an_upload_that_is_given_up_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from farframe.render import resources

    monkeypatch.setattr(resources, "CHUNK_BYTES", 4096)
    before = engine.model_bytes
    steps = engine.upload_steps(row_of_spheres(50))
    shares = [next(steps) for _ in range(5)]
    assert shares == sorted(shares)
    assert 0.0 < shares[0] < shares[-1] < 1.0
    shoot(engine, RenderScene(), look_at((0, 0, 5)))
    steps.close()
    assert engine.model_bytes == before


def test_an_empty_model_draws_nothing(engine: Engine, placed: Placed) -> None:
    model = ModelBuilder().build()
    assert len(model.vertices) == 0
    frame = shoot(engine, placed(model), look_at((0, 0, 5)))
    assert (frame.draws, frame.triangles) == (0, 0)
    # The backdrop is there all the same.
    assert frame.pixels[..., :3].min() > 100


def test_overflowing_matrices_only_hide_their_instance(engine: Engine, placed: Placed) -> None:
    model = red_box()
    model.instance_part = np.zeros(4, np.int32)
    model.instance_node = np.zeros(4, np.int32)
    model.instance_matrix = np.tile(np.eye(4), (4, 1, 1))
    model.instance_matrix[1, 0, 0] = 1e300
    model.instance_matrix[2, :3, 3] = np.inf
    model.instance_matrix[3, :3, :3] = 0.0
    scene = placed(model)
    scene.background = (0.0, 0.0, 0.0)
    for quality in (FAST, Quality(1, 1.0, 2.0)):
        frame = shoot(engine, scene, look_at((0, 0, 5)), quality=quality)
        assert frame.draws >= 1
        assert tuple(frame.pixels[45, 80]) == (255, 0, 0, 255)


def test_a_band_with_one_sample_shows_its_part_of_the_backdrop(engine: Engine) -> None:
    from dataclasses import replace

    whole = FrameInput((look_at((0, 0, 5)),), 160, 120, FAST, RenderScene())
    upper = engine.render(replace(whole, height=60, first_row=0, full_height=120))
    lower = engine.render(replace(whole, height=60, first_row=60, full_height=120))
    complete = engine.render(whole)
    both = np.concatenate([upper.pixels, lower.pixels]).astype(int)
    # The dither differs, the gradient does not.
    assert np.abs(both - complete.pixels).max() <= 2
    for frame in (upper, lower, complete):
        frame.release()


def test_many_instances_of_one_part(engine: Engine, placed: Placed) -> None:
    builder = ModelBuilder()
    builder.part(box(0.3), Material(metallic=0.0))
    model = builder.build()
    count = 60_000
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, 3] = np.random.default_rng(1).uniform(-100, 100, (count, 3))
    model.instance_part = np.zeros(count, np.int32)
    model.instance_node = np.zeros(count, np.int32)
    model.instance_matrix = matrices
    frame = shoot(engine, placed(model), look_at((0, 0, 700), far=1000.0))
    assert frame.draws == count
    assert frame.triangles == count * 12


def test_a_model_that_no_device_can_hold_is_refused_before_anything_is_uploaded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = red_box()
    limit = int(engine._device.limits["max-buffer-size"])
    model.vertices = np.lib.stride_tricks.as_strided(
        np.zeros(1, VERTEX_DTYPE), shape=(limit // VERTEX_DTYPE.itemsize + 1,), strides=(0,)
    )
    before = engine.model_bytes
    with pytest.raises(FarframeError) as caught:
        engine.upload(model)
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT
    assert engine.model_bytes == before


def test_a_frame_stays_readable_while_the_next_is_drawn(engine: Engine, placed: Placed) -> None:
    scene = placed(red_box())
    scene.background = (0.0, 0.0, 0.0)
    first = engine.render(FrameInput((look_at((0, 0, 5)),), 160, 90, FAST, scene))
    kept = first.pixels.copy()
    second = engine.render(FrameInput((look_at((0, 0, 50)),), 160, 90, FAST, scene))
    np.testing.assert_array_equal(first.pixels, kept)
    assert (second.pixels != kept).any()
    releasing = threading.Thread(target=first.release)
    releasing.start()
    releasing.join()
    first.release()
    second.release()
    # Far more frames than there are buffers.
    for _ in range(12):
        engine.render(FrameInput((look_at((0, 0, 5)),), 160, 90, FAST, scene)).release()


def test_frames_that_are_never_released_are_an_error(engine: Engine) -> None:
    scene = RenderScene()
    held = []
    with pytest.raises(RuntimeError, match="release"):
        for _ in range(10):
            held.append(engine.render(FrameInput((look_at((0, 0, 5)),), 96, 64, FAST, scene)))
    for frame in held:
        frame.release()
    engine.render(FrameInput((look_at((0, 0, 5)),), 96, 64, FAST, scene)).release()


def test_a_failing_device_is_a_typed_error(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    import wgpu

    def fail(*_: Any, **__: Any) -> None:
        raise wgpu.GPUInternalError("device lost")

    monkeypatch.setattr(type(engine._device), "create_command_encoder", fail)
    with pytest.raises(FarframeError) as caught:
        shoot(engine, RenderScene(), look_at((0, 0, 5)))
    assert caught.value.result is Result.DEVICE_LOST
    assert caught.value.next_step


def test_times_are_in_order(engine: Engine) -> None:
    frame = shoot(engine, RenderScene(), look_at((0, 0, 5)))
    assert frame.draw_start < frame.draw_end < frame.read_back
    assert frame.samples == 1


def test_blended_parts_are_drawn_back_to_front_from_any_side(engine: Engine, placed: Placed) -> None:
    builder = ModelBuilder()
    for z, color in ((-1.0, (1.0, 0.0, 0.0)), (1.0, (0.0, 0.0, 1.0))):
        material = Material(base_color=(*color, 0.75), alpha_mode="blend", unlit=True, double_sided=True)
        builder.place(builder.part(plane(), material), (0, 0, z))
    scene = placed(builder.build())
    front = shoot(engine, scene, look_at((0, 0, 6))).pixels[45, 80].astype(int)
    back = shoot(engine, scene, look_at((0, 0, -6))).pixels[45, 80].astype(int)
    assert front[2] > front[0] + 50
    assert back[0] > back[2] + 50


def test_teraflops_are_measured(engine: Engine) -> None:
    measured = engine.measure_teraflops()
    assert 0.0001 < measured < 10_000


def test_scene_version_grows_with_every_change(engine: Engine) -> None:
    resource = engine.upload(red_box())
    scene = RenderScene()
    versions = [scene.version]

    def note() -> None:
        versions.append(scene.version)

    handle = scene.add(resource, np.eye(4))
    note()
    scene.move(handle, np.diag([2.0, 2, 2, 1]))
    note()
    for name, value in (
        ("light_direction", (0, 1, 0)),
        ("light_color", (1, 1, 1)),
        ("light_intensity", 2.0),
        ("environment_intensity", 0.5),
        ("environment_rotation", 1.0),
        ("exposure", 1.5),
        ("background", (0, 0, 0)),
    ):
        setattr(scene, name, value)
        note()
    scene.remove(handle)
    note()
    scene.clear()
    note()
    assert versions == sorted(set(versions))
    with pytest.raises(KeyError):
        scene.remove(handle)
    with pytest.raises(ValueError, match="matrix"):
        scene.add(resource, np.full((4, 4), np.nan))
    engine.release(resource)


@pytest.mark.parametrize("quality", [(2, 1.0, 0.0), (1, 0.1, 0.0), (1, 1.0, -1.0), (1, 1.0, float("nan"))])
def test_impossible_qualities_are_refused(quality: tuple) -> None:
    with pytest.raises(ValueError, match="quality"):
        Quality(*quality)
