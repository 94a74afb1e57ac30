"""Pieces of the renderer that need no device."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from farframe.asset.model import Material, TextureSlot
from farframe.protocol.errors import FarframeError, Result
from farframe.render import environment
from farframe.render.device import AdapterInfo, choose_adapter
from farframe.render.frame import projection_matrix, view_projection
from farframe.render.pipelines import Variant, preprocess
from farframe.render.textures import mip_chain, mip_sizes
from farframe.render.visibility import Placement, frustum_planes, select
from tests.render.shapes import look_at

CPU = AdapterInfo("llvmpipe", "CPU", "Vulkan")
CPU_GL = AdapterInfo("llvmpipe", "CPU", "OpenGL")
INTEGRATED = AdapterInfo("Iris", "IntegratedGPU", "Vulkan")
DISCRETE = AdapterInfo("RTX", "DiscreteGPU", "Vulkan")


def test_a_cpu_adapter_is_never_taken_while_a_gpu_is_there() -> None:
    assert choose_adapter([CPU, INTEGRATED, DISCRETE], "auto") == 2
    assert choose_adapter([CPU, INTEGRATED], "auto") == 1
    assert choose_adapter([CPU_GL, CPU], "auto") == 1
    assert choose_adapter([DISCRETE, CPU], "cpu") == 1
    assert choose_adapter([CPU, DISCRETE], "gpu") == 1


@pytest.mark.parametrize(
    ("adapters", "choice"), [([CPU], "gpu"), ([DISCRETE], "cpu"), ([], "auto"), ([CPU_GL], "auto")]
)
def test_no_adapter_is_an_error_that_says_what_to_do(adapters: list[AdapterInfo], choice: str) -> None:
    with pytest.raises(FarframeError) as caught:
        choose_adapter(adapters, choice)
    assert caught.value.result is Result.DEVICE_LOST
    assert "Install" in caught.value.next_step


def test_reversed_z() -> None:
    view = look_at((0, 0, 0), (0, 0, -1), near=0.1, far=50.0)
    for distance, expected in ((0.1, 1.0), (50.0, 0.0)):
        clip = projection_matrix(view) @ np.array([0, 0, -distance, 1.0])
        assert clip[2] / clip[3] == pytest.approx(expected, abs=1e-12)


def placement(centers: np.ndarray, radius: float, batch: np.ndarray, first_blend: int) -> Placement:
    count = len(centers)
    return Placement(
        center=centers.astype(np.float32),
        extent=np.full((count, 3), radius / np.sqrt(3), np.float32),
        radius=np.full(count, radius, np.float32),
        scale=np.ones(count, np.float32),
        part=np.zeros(count, np.int64),
        batch=batch,
        batch_count=int(batch.max()) + 1,
        blended=np.arange(batch.max() + 1) >= first_blend,
        first_index=np.array([[0]], np.uint32),
        count=np.array([[3]], np.uint32),
        error=np.array([[0]], np.float32),
        first_vertex=np.array([7], np.uint32),
    )


def choose(table: Placement, eye: tuple[float, float, float] = (0, 0, 5)):
    view = look_at(eye, far=1000.0)
    planes = frustum_planes(view_projection(view, np.zeros(3)))
    return select(table, planes, np.array(eye, float), near=0.05, pixels_per_radian=500.0, pixel_error=0.0)


def test_culling_agrees_with_projecting_points() -> None:
    generator = np.random.default_rng(3)
    points = generator.uniform(-30, 30, (4000, 3))
    seen = set(choose(placement(points, 1e-6, np.zeros(4000, np.int64), 1)).commands[:, 4].tolist())
    matrix = view_projection(look_at((0, 0, 5), far=1000.0), np.zeros(3))
    clip = np.c_[points, np.ones(4000)] @ matrix.T
    inside = (np.abs(clip[:, :2]) <= clip[:, 3:]).all(1) & (clip[:, 2] >= 0) & (clip[:, 2] <= clip[:, 3])
    assert seen == set(np.flatnonzero(inside).tolist())


def test_opaque_front_to_back_within_batches_blended_by_batches() -> None:
    z = np.array([-30.0, -10, -20, -5, -15, -25, -8, -12])
    centers = np.stack([np.zeros(8), np.zeros(8), z], axis=1)
    result = choose(placement(centers, 0.5, np.array([0, 0, 1, 1, 2, 2, 3, 3]), 2))
    assert result.commands[:, 4].tolist() == [3, 2, 1, 0, 4, 5, 6, 7]
    assert [(run.batch, run.first, run.count) for run in result.opaque] == [(1, 0, 2), (0, 2, 2)]
    assert [(run.batch, run.first, run.count) for run in result.blended] == [(2, 4, 2), (3, 6, 2)]
    assert set(result.commands[:, 3].tolist()) == {7}


def test_variants_hold_no_more_than_the_material_needs() -> None:
    plain = Variant.of(Material(), vertex_color=False, mirrored=False)
    assert plain == Variant()
    assert not plain.textured
    unlit = Material(unlit=True, normal_texture=TextureSlot(0), emissive=(1, 1, 1))
    assert Variant.of(unlit, vertex_color=False, mirrored=False) == Variant(unlit=True)
    dark = Material(emissive_texture=TextureSlot(0))
    assert not Variant.of(dark, vertex_color=False, mirrored=False).textured
    second = Material(base_color_texture=TextureSlot(3, uv_set=1), alpha_mode="mask")
    flags = Variant.of(second, vertex_color=True, mirrored=True).flags(4)
    assert flags["BASE_COLOR_UV"] == "uv1"
    assert {"UV1", "ALPHA_TO_COVERAGE", "MIRRORED", "VERTEX_COLOR"} <= flags.keys()
    assert "UV0" not in flags


def test_preprocessor() -> None:
    source = "a\n#ifdef X\nb SIZE\n#ifndef Y\nc\n#else\nd\n#endif\n#else\ne\n#endif\nf"
    assert preprocess(source, {"X": "", "SIZE": "4"}) == "a\nb 4\nc\nf"
    assert preprocess(source, {"X": "", "Y": ""}) == "a\nb SIZE\nd\nf"
    assert preprocess(source, {}) == "a\ne\nf"
    with pytest.raises(ValueError, match="#endif"):
        preprocess("#ifdef X", {})


def test_mip_chain_averages_light_not_bytes() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[::2, :, :3] = 255
    pixels[..., 3] = (0, 255, 0, 255)
    levels = list(mip_chain(pixels, srgb=True))
    assert [level.shape[:2] for level in levels] == [(4, 4), (2, 2), (1, 1)]
    # Half of white's light is 188 in sRGB; alpha is no colour.
    assert levels[1][..., :3].tolist() == [[[188] * 3] * 2] * 2
    assert abs(int(levels[2][0, 0, 3]) - 128) <= 1
    assert abs(int(next(iter(list(mip_chain(pixels, srgb=False))[1:]))[0, 0, 0]) - 128) <= 1


def test_mip_sizes_of_odd_textures() -> None:
    assert mip_sizes(5, 3) == [(5, 3), (2, 1), (1, 1)]
    assert [level.shape[:2] for level in mip_chain(np.zeros((3, 5, 4), np.uint8), srgb=True)] == [
        (3, 5),
        (1, 2),
        (1, 1),
    ]


def test_irradiance_of_a_uniform_environment_is_its_radiance() -> None:
    sphere = environment._fibonacci_sphere(4096)
    harmonics = environment.irradiance_harmonics(np.full_like(sphere, 0.7), sphere)
    np.testing.assert_allclose(environment._basis(sphere[:50]) @ harmonics, 0.7, atol=2e-3)


def test_rotated_harmonics_turn_with_the_environment() -> None:
    harmonics = environment.studio().irradiance
    turned = environment.rotate_harmonics(harmonics, np.pi / 2)
    # A quarter turn about +Y brings what was at +Z to +X.
    at_z = environment._basis(np.array([[0, 0, 1]], np.float32)) @ harmonics
    at_x = environment._basis(np.array([[1, 0, 0]], np.float32)) @ turned
    np.testing.assert_allclose(at_x, at_z, atol=1e-4)


def test_prefiltering_keeps_the_environment_s_light() -> None:
    """The layers get smoother with roughness, and lose or add no light."""
    texels = environment.studio().texels.astype(np.float64) / 255
    layers = (texels[..., :3] * texels[..., 3:]) ** 2 * environment.RANGE
    directions = environment.octahedral_directions(environment.SIZE).reshape(-1, 3)
    # A texel covers less of the sphere towards the octahedron's corners: its weight is 1 / |p|^3 = (|x|+|y|+|z|)^3.
    weight = np.abs(directions).sum(axis=1) ** 3
    means = np.array([np.average(layer.reshape(-1, 3), axis=0, weights=weight) for layer in layers])
    np.testing.assert_allclose(means[:8], np.broadcast_to(means[0], (8, 3)), rtol=0.06)
    spread = layers.reshape(len(layers), -1, 3).std(axis=1).mean(axis=1)
    assert (np.diff(spread[1:]) < 0).all()


def test_octahedral_border_has_no_seam() -> None:
    """Texels that the fold brings together are equal, so bilinear reads need no second fetch."""
    texels = environment.studio().texels.astype(int)
    for edge in (texels[:, 0], texels[:, -1], texels[:, :, 0], texels[:, :, -1]):
        assert np.abs(edge - edge[:, ::-1]).max() <= 2


def test_bilinear_cv2_takes_sixteen_bits() -> None:
    """The mip chain relies on area resizing of 16-bit pictures with four channels."""
    wide = np.full((2, 2, 4), 40_000, np.uint16)
    assert cv2.resize(wide, (1, 1), interpolation=cv2.INTER_AREA).tolist() == [[[40_000] * 4]]
