"""Skies against what GGX and the cosine make of the same radiance, integrated the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from farframe.asset.model import Material
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render import environment as surround
from farframe.render.environment import (
    LAYERS,
    SIZE,
    Environment,
    cube_radiance,
    decoded,
    equirectangular_radiance,
    octahedral_map,
    solid_angles,
)
from farframe.render.sky import BUILTIN_SKIES, SKIES, builtin_environment, prepare_environment, sky_map
from farframe.scene.effects import SkyKind
from tests.render.shapes import ModelBuilder, look_at, sphere


def unit(*vector: float) -> np.ndarray:
    return np.array(vector, np.float64) / np.linalg.norm(vector)


def test_directions_of_a_panorama_are_those_that_are_written_down() -> None:
    image = np.zeros((64, 128, 3), np.float32)
    image[:, 62:66, 0] = 1.0  # the middle column: -Z
    image[:, 94:98, 1] = 1.0  # right of it: +X
    image[:4, :, 2] = 1.0  # above
    radiance = equirectangular_radiance(image)
    looked = radiance(np.array([[0, 0, -1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], np.float32))
    assert looked[:3, :3] == pytest.approx(np.array([[1, 0, 0], [0, 1, 0], [looked[2, 0], looked[2, 1], 1]]), abs=1e-4)
    assert looked[3:].max() == 0


def test_faces_of_a_cube_map_are_what_a_view_along_minus_z_calls_them() -> None:
    faces = np.zeros((6, 32, 32, 3), np.float32)
    for face in range(6):
        faces[face] = face + 1.0
    faces[4, :, :16, 1] = 9.0  # the left of what lies in front
    faces[2, 16:, :, 2] = 8.0  # of what is above, the lower half: towards the front
    radiance = cube_radiance(faces)
    directions = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1]], np.float32)
    assert radiance(directions)[:, 0] == pytest.approx(np.arange(1, 7), abs=1e-5)
    sideways = np.array([unit(-0.5, 0, -1), unit(0.5, 0, -1), unit(0, 1, -0.5), unit(0, 1, 0.5)], np.float32)
    looked = radiance(sideways)
    assert looked[0, 1] == pytest.approx(9) and looked[1, 1] == pytest.approx(5)
    assert looked[2, 2] == pytest.approx(8) and looked[3, 2] == pytest.approx(3)


def test_a_cube_map_and_a_panorama_of_the_same_sky_are_the_same_light() -> None:
    image = np.random.default_rng(2).random((16, 32, 3)).astype(np.float32) * 3
    panorama = equirectangular_radiance(image)
    t = (np.arange(64) + 0.5) / 32 - 1
    s, t = np.meshgrid(t, t)
    one = np.ones_like(s)
    # Right, left, up, down, front, back; s runs to the right of each face and t down.
    sides = [(one, -t, s), (-one, -t, -s), (s, one, -t), (s, -one, t), (s, -t, -one), (-s, -t, one)]
    faces = []
    for side in sides:
        directions = np.stack(side, axis=-1).reshape(-1, 3)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        faces.append(panorama(directions.astype(np.float32)).reshape(64, 64, 3))
    a = octahedral_map(panorama, 64)
    b = octahedral_map(cube_radiance(np.stack(faces)), 64)
    assert np.abs(a - b).mean() < 0.02 * a.mean()


def test_solid_angles_cover_the_sphere_evenly() -> None:
    weights, directions = solid_angles(64).reshape(-1), surround.octahedral_directions(64).reshape(-1, 3)
    assert weights.sum() == pytest.approx(4 * math.pi)
    assert weights @ directions == pytest.approx(np.zeros(3), abs=0.004)
    assert np.einsum("n,ni,nj->ij", weights, directions, directions) == pytest.approx(
        np.eye(3) * 4 * math.pi / 3, rel=0.01, abs=0.01
    )


def brute_force(base: np.ndarray, normal: np.ndarray, roughness: float) -> np.ndarray:
    """GGX-weighted mean radiance around a normal, over all texels of the map."""
    directions = surround.octahedral_directions(SIZE).reshape(-1, 3).astype(np.float64)
    cosine = np.maximum(directions @ normal, 0.0)
    half2 = 0.5 * (1.0 + directions @ normal)
    weight = solid_angles(SIZE).reshape(-1) * cosine / (half2 * (roughness**4 - 1.0) + 1.0) ** 2
    return weight @ base.reshape(-1, 3) / weight.sum()


@pytest.mark.parametrize("name", ["Autoshop", "VeniceSunset"])
def test_layers_are_what_integration_over_all_directions_gives(name: str) -> None:
    base, made = sky_map(SKIES[name]).astype(np.float64), builtin_environment(name)
    random = np.random.default_rng(4)
    grid = surround.octahedral_directions(SIZE)
    brightest = np.unravel_index(base.max(axis=2).argmax(), (SIZE, SIZE))
    texels = [brightest, *(tuple(random.integers(2, SIZE - 2, 2)) for _ in range(24))]
    for layer in (3, 4, 6, 9, 12, LAYERS - 1):
        image = decoded(made, layer)
        errors = []
        for row, column in texels:
            want = brute_force(base, grid[row, column].astype(np.float64), layer / (LAYERS - 1))
            want = np.minimum(want, made.range)
            errors.append(np.abs(image[row, column] / want - 1.0).mean())
        assert np.mean(errors[1:]) < (0.06 if layer < 5 else 0.03), layer
        assert errors[0] < 0.12, (layer, "towards the brightest")


def irradiance_at(made: Environment, normal: np.ndarray) -> np.ndarray:
    return surround._basis(np.asarray(normal[None], np.float32))[0] @ made.irradiance


@pytest.mark.parametrize("name", ["Hangar", "Lebombo", "TearsOfSteelBridge"])
def test_diffuse_light_is_the_cosine_weighted_mean(name: str) -> None:
    base, made = sky_map(SKIES[name]).reshape(-1, 3), builtin_environment(name)
    directions, weights = surround.octahedral_directions(SIZE).reshape(-1, 3), solid_angles(SIZE).reshape(-1)
    for normal in (unit(0, 1, 0), unit(1, 0.2, 0), unit(0, 0, -1), unit(-1, 1, 1), unit(0, -1, 0)):
        want = (weights * np.maximum(directions @ normal, 0)) @ base / math.pi
        assert irradiance_at(made, normal) == pytest.approx(want, rel=0.12, abs=0.03)


def test_a_sun_is_kept_whole() -> None:
    """The light of a panorama's one bright spot arrives, on a wall that faces it and in a rough mirror."""
    image = np.zeros((256, 512, 3), np.float32)
    image[80:82, 300:302] = 5000.0
    made = prepare_environment(image, SkyKind.EQUIRECTANGULAR)
    theta, phi = 81 / 256 * math.pi, (301 / 512 - 0.5) * 2 * math.pi
    toward = np.array([math.sin(theta) * math.sin(phi), math.cos(theta), -math.sin(theta) * math.cos(phi)])
    power = 5000.0 * 4 * (math.pi / 256) ** 2 * math.sin(theta)
    assert irradiance_at(made, toward)[0] == pytest.approx(power / math.pi, rel=0.05)
    assert abs(irradiance_at(made, -toward)[0]) < 0.02 * power / math.pi
    grid = surround.octahedral_directions(SIZE)
    row, column = np.unravel_index((grid @ toward).argmax(), (SIZE, SIZE))
    roughness = 10 / (LAYERS - 1)
    angle = np.linspace(0, math.pi / 2, 20001)
    weight = np.cos(angle) / (0.5 * (1 + np.cos(angle)) * (roughness**4 - 1) + 1) ** 2
    norm = 2 * math.pi * np.trapezoid(weight * np.sin(angle), angle)
    want = power / roughness**8 / norm
    assert decoded(made, 10)[row, column, 0] == pytest.approx(want, rel=0.08)


def test_every_name_has_its_own_light() -> None:
    assert len(BUILTIN_SKIES) == 15 and len(set(BUILTIN_SKIES)) == 15
    assert builtin_environment("builtin://DefaultSky") is builtin_environment("TearsOfSteelBridge")
    with pytest.raises(KeyError):
        builtin_environment("builtin://Nowhere")
    night, sunset, shop = (builtin_environment(name) for name in ("SataraNight", "VeniceSunset", "Autoshop"))
    assert night.irradiance[0].mean() < 0.5 * shop.irradiance[0].mean()
    to_sun = irradiance_at(sunset, unit(-0.35, 0.1, -1.0))
    away = irradiance_at(sunset, unit(0.35, 0.1, 1.0))
    assert to_sun[0] > 2.5 * to_sun[2], "a low sun is warm"
    assert to_sun.sum() > 3 * away.sum()


def test_hostile_images_are_refused_or_tamed() -> None:
    for shape in ((4, 4), (0, 8, 3), (5, 4, 4, 3), (4, 8, 7)):
        with pytest.raises(ValueError):
            prepare_environment(np.zeros(shape, np.float32), SkyKind.EQUIRECTANGULAR)
    with pytest.raises(ValueError):
        prepare_environment(np.zeros((4, 8, 3), np.float32), SkyKind.CUBE_MAP)
    image = np.ones((8, 16, 3), np.float32)
    image[2, 3] = (np.nan, np.inf, -np.inf)
    made = prepare_environment(image[None], SkyKind.EQUIRECTANGULAR)
    assert np.isfinite(made.irradiance).all()


def test_a_scene_is_lit_by_the_environment_it_is_given(engine: Engine) -> None:
    """A chrome ball mirrors what lies behind the eye, a white one shows the mean light."""
    image = np.full((32, 64, 3), 0.2, np.float32)
    image[:, :16] = (0.1, 0.5, 0.1)
    image[:, 48:] = (0.5, 0.1, 0.1)  # both halves of what lies around +Z, the side behind the eye
    made = prepare_environment(image, SkyKind.EQUIRECTANGULAR)
    builder = ModelBuilder()
    builder.place(builder.part(sphere(1.0), Material(base_color=(1, 1, 1, 1), metallic=1.0, roughness=0.0)))
    resource = engine.upload(builder.build())
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    scene.light_intensity = 0.0

    def shoot() -> np.ndarray:
        view = look_at((0, 0, 6), aspect=1.0)
        frame = engine.render(FrameInput((view,), 96, 96, Quality(samples=1), scene))
        pixels = frame.pixels[..., :3].astype(float)
        frame.release()
        return pixels

    studio = shoot()
    scene.environment = made
    pixels = shoot()
    right, left = pixels[48, 54], pixels[48, 41]
    # Seen in a mirror the right half of what is behind the eye lies on the right: +X.
    assert right[0] > 2 * right[1] and left[1] > 2 * left[0]
    scene.environment_intensity = 0.25
    assert shoot()[48, 54, 0] < 0.7 * right[0]
    scene.environment_intensity, scene.environment = 1.0, None
    assert (shoot() == studio).all()
    engine.release(resource)
