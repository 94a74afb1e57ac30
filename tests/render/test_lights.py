"""Lights against what falls onto a surface by formula, and the lists of those that reach each part of a view."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farframe.asset.model import Material
from farframe.protocol.records import FieldOfView, View
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.frame import rotation_matrix, viewports
from farframe.render.lights import LEAST_IRRADIANCE, light_grid, pack_lights, prepare_light_image, reach_of
from farframe.scene.lights import Light, LightKind, PlacedLight
from tests.render.shapes import ModelBuilder, look_at, plane, sphere

SIZE = 129
DOWN = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
"""Axes of an entity whose -Z looks down."""
WALL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""Of one whose -Z looks at the wall z = 0 from in front of it."""
FRONT = View((0.0, 0.0, 4.0), (0.0, 0.0, 0.0, 1.0), FieldOfView.symmetric(2 * math.atan(0.5), 1.0), 0.1, 50.0)
"""Sees the wall from x = -2 to 2."""
FLAT = replace(FRONT, fov=FieldOfView.extent(4.0, 1.0), orthographic=True)


@pytest.fixture
def wall(engine: Engine) -> Any:
    """A function that makes a scene of one wall in z = 0 that no sky lights."""
    resources = []

    def make(material: Material | None = None) -> RenderScene:
        builder = ModelBuilder()
        builder.place(builder.part(plane(8.0), material or Material(base_color=(0.8, 0.8, 0.8, 1.0), metallic=0.0)))
        resources.append(engine.upload(builder.build()))
        scene = RenderScene()
        scene.add(resources[-1], np.eye(4))
        scene.environment_intensity = scene.light_intensity = 0.0
        scene.background = (0.0, 0.0, 0.0)
        return scene

    yield make
    for resource in resources:
        engine.release(resource)


def draw(engine: Engine, scene: RenderScene, view: View = FRONT) -> np.ndarray:
    frame = engine.render(FrameInput((view,), SIZE + 1, SIZE + 1, Quality(samples=1), scene))
    pixels = frame.pixels[..., :3].astype(float) / 255
    frame.release()
    return pixels


def at(pixels: np.ndarray, x: float, y: float) -> np.ndarray:
    """What is seen at a place of the wall."""
    return pixels[int((0.5 - y / 4) * (SIZE + 1)), int((0.5 + x / 4) * (SIZE + 1))]


def place_of(x: float, y: float) -> tuple[float, float]:
    """The place of the wall in the middle of the pixel that :func:`at` looks at."""
    return (
        ((int((0.5 + x / 4) * (SIZE + 1)) + 0.5) / (SIZE + 1) - 0.5) * 4,
        (0.5 - (int((0.5 - y / 4) * (SIZE + 1)) + 0.5) / (SIZE + 1)) * 4,
    )


def displayed(radiance: np.ndarray) -> np.ndarray:
    """sRGB from 0 to 1 of linear RGB (3,), by the Khronos PBR Neutral tone mapper."""
    low = radiance.min()
    color = radiance - (low - 6.25 * low * low if low < 0.08 else 0.04)
    peak = color.max()
    if peak >= 0.76:
        new_peak = 1 - 0.24**2 / (peak + 0.24 - 0.76)
        g = 1 - 1 / (0.15 * (peak - new_peak) + 1)
        color = color * new_peak / peak * (1 - g) + new_peak * g
    color = np.clip(color, 0, 1)
    return np.where(color <= 0.0031308, color * 12.92, 1.055 * color ** (1 / 2.4) - 0.055)


def linear(pixel: np.ndarray) -> np.ndarray:
    """Radiance of a displayed grey below the shoulder."""
    color = np.where(pixel <= 0.04045, pixel / 12.92, ((pixel + 0.055) / 1.055) ** 2.4)
    return np.where(color < 0.04, np.sqrt(color / 6.25), color + 0.04)


def reflected(
    point: np.ndarray, eye: np.ndarray, to_light: np.ndarray, irradiance: float, base: float, rough: float
) -> float:
    """Radiance of a non-metal at a point of the wall, lit from one direction."""
    n, v, h = np.array([0, 0, 1.0]), eye - point, None
    v = v / np.linalg.norm(v)
    h = (v + to_light) / np.linalg.norm(v + to_light)
    nl, nv, nh, lh = to_light[2], v[2], h[2], h @ to_light
    a2 = rough**4
    d = a2 / (math.pi * (nh * nh * (a2 - 1) + 1) ** 2)
    visibility = 0.5 / (nl * math.sqrt(nv * nv * (1 - a2) + a2) + nv * math.sqrt(nl * nl * (1 - a2) + a2))
    f = 0.04 + 0.96 * (1 - lh) ** 5
    fit = np.array([-1, -0.0275, -0.572, 0.022]) * rough + np.array([1, 0.0425, 1.04, -0.04])
    a004 = min(fit[0] ** 2, 2 ** (-9.28 * nv)) * fit[0] + fit[1]
    total = -1.04 * a004 + fit[2] + 1.04 * a004 + fit[3]
    gain = 1 + 0.04 * (1 / total - 1)
    return (base / math.pi * (1 - f) + f * d * visibility * gain) * irradiance * (1.0 if n @ to_light > 0 else 0.0)


def expected_at(
    x: float, y: float, position: tuple[float, float, float], intensity: float, *, ends: bool = True
) -> float:
    px, py = place_of(x, y)
    point = np.array([px, py, 0.0])
    to_light = np.array(position) - point
    distance = np.linalg.norm(to_light)
    to_light /= distance
    reach = math.sqrt(intensity / LEAST_IRRADIANCE)
    intensity *= max(1.0 - (distance / reach) ** 4, 0.0) ** 2 if ends else 1.0
    return reflected(point, np.array([0, 0, 4.0]), to_light, intensity * to_light[2] / distance**2, 0.8, 1.0)


POINTS = [(0.0, 0.0), (1.0, 0.5), (-1.5, -1.2), (0.3, 1.7)]


@pytest.mark.parametrize("view", [FRONT, FLAT], ids=["perspective", "orthographic"])
def test_a_point_light_falls_off_with_the_square_of_distance(engine: Engine, wall: Any, view: View) -> None:
    scene = wall()
    scene.lights = (PlacedLight(Light(intensity=3.0), (0.5, 0.25, 1.5)),)
    pixels = draw(engine, scene, view)
    for x, y in POINTS:
        want = displayed(np.full(3, expected_at(x, y, (0.5, 0.25, 1.5), 3.0)))
        # A rough surface's highlight hardly depends on the eye, which an orthographic view has nowhere.
        assert at(pixels, x, y) == pytest.approx(want, abs=(2.5 if view is FRONT else 6) / 255)


def test_a_directional_light_shines_along_its_own_minus_z_from_everywhere(engine: Engine, wall: Any) -> None:
    scene = wall()
    scene.lights = (PlacedLight(Light(LightKind.DIRECTIONAL, (1.0, 0.5, 0.25), 1.5), (1e3, 5.0, -7.0), WALL),)
    pixels = draw(engine, scene)
    px, py = place_of(0.0, 0.0)
    one = reflected(np.array([px, py, 0]), np.array([0, 0, 4.0]), np.array([0, 0, 1.0]), 1.5, 0.8, 1.0)
    assert at(pixels, 0, 0) == pytest.approx(displayed(one * np.array([1, 0.5, 0.25])), abs=2 / 255)
    scene.lights = (PlacedLight(Light(LightKind.DIRECTIONAL, intensity=1.5), (0, 0, 0), DOWN),)
    assert draw(engine, scene).max() == 0


def test_lights_add_up_and_exposure_counts(engine: Engine, wall: Any) -> None:
    scene = wall()
    random = np.random.default_rng(5)
    places = [tuple(random.uniform((-3, -3, 0.5), (3, 3, 2))) for _ in range(150)]
    scene.lights = tuple(PlacedLight(Light(intensity=0.02), place) for place in places)
    scene.exposure = 1.5
    pixels = draw(engine, scene)
    for x, y in POINTS:
        total = sum(expected_at(x, y, place, 0.02 * 1.5) for place in places)
        assert at(pixels, x, y) == pytest.approx(displayed(np.full(3, total)), abs=3 / 255)


@pytest.mark.parametrize("exponent", [1.0, 3.0])
def test_a_spot_is_full_inside_its_inner_cone_and_dark_outside_the_outer(
    engine: Engine, wall: Any, exponent: float
) -> None:
    scene = wall()
    spot = Light(LightKind.SPOT, intensity=6.0, spot_angle_deg=(30.0, 60.0), falloff_exponent=exponent)
    scene.lights = (PlacedLight(spot, (0.0, 0.0, 2.5), WALL),)
    pixels = draw(engine, scene)
    inside = 2.5 * math.tan(math.radians(13))
    assert at(pixels, inside, 0) == pytest.approx(
        displayed(np.full(3, expected_at(inside, 0, (0, 0, 2.5), 6.0))), abs=3 / 255
    )
    assert at(pixels, 2.5 * math.tan(math.radians(32)), 0).max() == 0
    x = 2.5 * math.tan(math.radians(22))
    angle = math.atan(math.hypot(*place_of(x, 0)) / 2.5)
    outer, inner = math.cos(math.radians(30)), math.cos(math.radians(15))
    share = ((math.cos(angle) - outer) / (inner - outer)) ** exponent
    want = displayed(np.full(3, expected_at(x, 0, (0, 0, 2.5), 6.0) * share))
    assert at(pixels, x, 0) == pytest.approx(want, abs=4 / 255)


def test_a_cutoff_lets_light_fade_linearly_to_nothing(engine: Engine, wall: Any) -> None:
    scene = wall()
    light = Light(intensity=3.0, attenuation_cutoff=(1.2, 2.0))
    scene.lights = (PlacedLight(light, (0.0, 0.0, 1.0)),)
    pixels = draw(engine, scene)
    for x in (0.5, 1.1, 1.5):
        distance = math.hypot(*place_of(x, 0), 1.0)
        share = min(max((2.0 - distance) / 0.8, 0.0), 1.0)
        want = displayed(np.full(3, expected_at(x, 0, (0, 0, 1.0), 3.0, ends=False) * share))
        assert at(pixels, x, 0) == pytest.approx(want, abs=3 / 255)
    assert at(pixels, 1.9, 0).max() == 0


def test_a_mirror_shows_a_ball_as_large_and_as_bright_as_it_is(engine: Engine, wall: Any) -> None:
    scene = wall(Material(base_color=(1, 1, 1, 1), metallic=1.0, roughness=0.05))
    radius, intensity = 0.5, 0.3
    scene.lights = (PlacedLight(Light(intensity=intensity, radius=radius), (0.0, 0.0, 2.0)),)
    row = linear(draw(engine, scene)[SIZE // 2, :, 0])
    # The mirrored eye stands 6 m from the ball: its disc covers the wall up to 4 m * tan(asin(r / 6)).
    edge = 4.0 * math.tan(math.asin(radius / 6.0))
    bright = np.flatnonzero(row > row.max() / 2)
    assert (bright[-1] - bright[0] + 1) * 4 / (SIZE + 1) / 2 == pytest.approx(edge, rel=0.1)
    assert row[SIZE // 2] == pytest.approx(intensity / (math.pi * radius**2), rel=0.12)


def test_a_tube_lights_as_the_line_of_points_it_is(engine: Engine, wall: Any) -> None:
    scene = wall()
    scene.lights = (PlacedLight(Light(intensity=3.0, length=3.0), (0.0, 0.4, 1.0)),)
    pixels = draw(engine, scene)
    for x, y in POINTS:
        px, py = place_of(x, y)
        along = np.linspace(-1.5, 1.5, 2001)
        d2 = (along - px) ** 2 + (0.4 - py) ** 2 + 1.0
        irradiance = float(np.mean(3.0 / d2**1.5))
        got = linear(at(pixels, x, y)[0])
        assert got == pytest.approx(irradiance * 0.8 / math.pi, rel=0.12, abs=0.006)


def test_a_mirror_shows_a_tube_as_bright_as_it_is(engine: Engine, wall: Any) -> None:
    scene = wall(Material(base_color=(1, 1, 1, 1), metallic=1.0, roughness=0.05))
    scene.lights = (PlacedLight(Light(intensity=0.3, radius=0.15, length=2.0), (0.0, 0.0, 2.0)),)
    pixels = linear(draw(engine, scene)[..., 0])
    middle = SIZE // 2
    # Its surface shines 0.3 / (2 r l + pi r^2) across, and its mirror image is as long as the tube itself.
    assert pixels[middle, middle] == pytest.approx(0.3 / (2 * 0.15 * 2.0 + math.pi * 0.15**2), rel=0.15)
    bright = pixels > pixels[middle, middle] / 2
    assert bright[middle].sum() > 6 * bright[:, middle].sum()


def test_a_spot_projects_its_image_upright_as_seen_from_the_light(engine: Engine, wall: Any) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:], image[32:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    scene = wall()
    spot = Light(LightKind.SPOT, intensity=8.0, spot_angle_deg=(80.0, 90.0), projected_texture=7)
    scene.lights = (PlacedLight(spot, (0.0, 0.0, 2.0), WALL),)
    plain = draw(engine, scene)
    scene.light_images = {7: prepare_light_image(image)}
    pixels = draw(engine, scene)
    for corner, (x, y) in enumerate(((-0.7, 0.7), (0.7, 0.7), (-0.7, -0.7))):
        color = at(pixels, x, y)
        assert color[corner] > 0.5 and np.delete(color, corner).max() < 0.05, (x, y)
    assert at(pixels, 0.7, -0.7).max() == 0
    assert at(plain, 0.7, -0.7).min() > 0.5


def test_a_point_light_projects_a_cube_map_by_its_own_axes(engine: Engine, wall: Any) -> None:
    faces = np.zeros((6, 16, 16, 3), np.float32)
    faces[4, :, :8, 0] = faces[4, :, 8:, 1] = 1.0  # in front: red on the left, green on the right
    faces[2, ..., 2] = 1.0  # above: blue
    scene = wall()
    scene.light_images = {3: prepare_light_image(faces)}
    light = Light(intensity=8.0, projected_texture=3)
    scene.lights = (PlacedLight(light, (0.0, 0.0, 1.5), WALL),)
    pixels = draw(engine, scene)
    assert np.argmax(at(pixels, -0.5, 0)) == 0 and np.argmax(at(pixels, 0.5, 0)) == 1
    assert np.argmax(at(pixels, 0.0, 1.9)) == 2
    # Turned so that what was above lies in front.
    scene.lights = (PlacedLight(light, (0.0, 0.0, 1.5), ((1, 0, 0), (0, 0, -1), (0, 1, 0))),)
    assert np.argmax(at(draw(engine, scene), 0, 0)) == 2


def test_an_image_of_the_wrong_kind_is_not_projected(engine: Engine, wall: Any) -> None:
    scene = wall()
    scene.lights = (PlacedLight(Light(intensity=3.0, projected_texture=1), (0, 0, 2.0)),)
    plain = draw(engine, scene)
    scene.light_images = {1: prepare_light_image(np.zeros((8, 8, 3), np.uint8))}
    assert (draw(engine, scene) == plain).all()
    with pytest.raises(ValueError):
        prepare_light_image(np.zeros((5, 8, 8, 3), np.uint8))


def test_without_lights_that_reach_anything_no_shader_knows_of_them(engine: Engine, wall: Any) -> None:
    # A material of which no other test makes a pipeline.
    scene = wall(Material(base_color=(0.5, 0.5, 0.5, 1.0), double_sided=True, emissive=(0.01, 0.0, 0.0)))
    scene.environment_intensity = scene.light_intensity = 1.0
    before = draw(engine, scene)
    made = engine.pipelines.created
    away = Light(intensity=5.0, attenuation_cutoff=(1.0, 2.0))
    scene.lights = (PlacedLight(away, (0, 0, 30.0)), PlacedLight(Light(enabled=False), (0, 0, 1)))
    assert (draw(engine, scene) == before).all()
    assert engine.pipelines.created == made
    scene.lights = (PlacedLight(Light(), (0, 0, 1)),)
    assert draw(engine, scene).mean() > before.mean() + 0.05
    assert engine.pipelines.created == made + 1


def test_unlit_surfaces_do_not_care(engine: Engine, wall: Any) -> None:
    scene = wall(Material(base_color=(0.2, 0.4, 0.6, 1.0), unlit=True))
    before = draw(engine, scene)
    scene.lights = (PlacedLight(Light(), (0, 0, 1)),)
    assert (draw(engine, scene) == before).all()


def test_far_from_the_origin_light_is_the_same(engine: Engine) -> None:
    builder = ModelBuilder()
    builder.place(builder.part(sphere(1.0), Material(base_color=(0.8, 0.6, 0.4, 1.0), metallic=0.0, roughness=0.4)))
    resource = engine.upload(builder.build())
    pictures = []
    for shift in (np.zeros(3), np.array([6.0e6, -2.0e6, 1.0e6])):
        scene = RenderScene()
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        scene.add(resource, matrix)
        scene.lights = (PlacedLight(Light(intensity=8.0, radius=0.2), tuple(shift + 1.5)),)
        pictures.append(draw(engine, scene, look_at(tuple(shift + np.array([0, 0, 4])), tuple(shift), aspect=1.0)))
    engine.release(resource)
    assert np.abs(pictures[0] - pictures[1]).max() <= 2 / 255


@pytest.mark.parametrize("orthographic", [False, True])
def test_every_light_is_in_the_lists_of_all_cells_it_reaches(orthographic: bool) -> None:
    random = np.random.default_rng(11)
    view = look_at((3.0, 2.0, 6.0), (0.0, 0.0, 0.0), aspect=16 / 9)
    if orthographic:
        view = replace(view, fov=FieldOfView.extent(6.0, 16 / 9), orthographic=True)
    port = viewports(1, 1280, 720)[0]
    lights = []
    for index in range(200):
        kind = (LightKind.POINT, LightKind.SPOT)[index % 2]
        axes = np.linalg.qr(random.normal(size=(3, 3)))[0].T
        light = Light(
            kind,
            intensity=10.0 ** random.uniform(-4, 1),
            attenuation_cutoff=(0.0, random.uniform(0.2, 3)) if index % 3 == 0 else (0.0, 0.0),
            spot_angle_deg=(10.0, random.uniform(20, 170)),
            length=random.uniform(0, 1) if kind is LightKind.POINT else 0.0,
        )
        lights.append(PlacedLight(light, tuple(random.uniform(-5, 5, 3)), tuple(map(tuple, axes))))
    origin = np.array([1.0, 0.5, -2.0])
    packed = pack_lights(lights, origin, 1.0, {})
    grid = light_grid(packed, view, port, origin)
    rotation, eye = rotation_matrix(view.orientation), np.array(view.position) - origin
    left, right, up, down = view.tangents
    count = 3000
    across, along = random.uniform(0, 1, (2, count))
    depth = np.exp(random.uniform(math.log(view.near), math.log(20.0), count))
    scale = 1.0 if orthographic else depth
    local = np.stack([(left + (right - left) * across) * scale, (up + (down - up) * along) * scale, -depth], axis=1)
    away = (eye + local @ rotation.T)[:, None] - (np.array([placed.position for placed in lights]) - origin)
    distance = np.linalg.norm(away, axis=2)
    lit = distance < np.array([reach_of(placed, 1.0) for placed in lights]) * 0.999
    cosine = -np.einsum("pli,li->pl", away, np.array([placed.axes[2] for placed in lights])) / distance
    outer = [placed.light.spot_angle_deg[1] / 2 if placed.light.kind is LightKind.SPOT else 180.0 for placed in lights]
    lit &= cosine > np.cos(np.radians(outer)) + 1e-6
    layer = np.clip(np.log2(depth) * grid.scale + grid.bias, 0, grid.slices - 1).astype(int)
    line, column = (along * 720 / grid.tile).astype(int), (across * 1280 / grid.tile).astype(int)
    cell = (layer * grid.lines + line) * grid.columns + column
    found = np.zeros_like(lit)
    for point, number in enumerate(cell):
        found[point, grid.rows[grid.start[number] : grid.start[number + 1]]] = True
    checked, misses, listed = lit.sum(), (lit & ~found).sum(), found.sum()
    assert checked > 5000
    assert misses == 0
    assert listed < 0.6 * found.size, "lists that hold nearly all lights spare nothing"


def test_many_lights_that_reach_everything_keep_the_lists_short() -> None:
    lights = [PlacedLight(Light(intensity=1e3), (0.0, 0.0, -5.0)) for _ in range(1024)]
    packed = pack_lights(lights, np.zeros(3), 1.0, {})
    view = View((0, 0, 0), (0, 0, 0, 1), FieldOfView.symmetric(1.0, 16 / 9))
    assert len(light_grid(packed, view, viewports(1, 1920, 1080)[0], np.zeros(3)).rows) <= 1024 * 12 * 32
