"""Skies: what lights a scene from all sides, from the pixels of an image or made by code for a built-in name.

The built-in ones bear the names that Azure Remote Rendering has. None is a photograph: each is a function from
direction to radiance that has the light of the place its name tells of, its colours, the directions and sizes of its
sources, and its horizon. Clear skies are those of Preetham, Shirley and Smits ("A Practical Analytic Model for
Daylight", 1999). All are as bright as the studio, give or take what the hour asks for, so that one exposure suits all.

Making one takes a second or two of CPU: do it on a thread of its own, give the result to the scene when it is there,
and frames go on meanwhile. Directions are unit vectors, +Y up; a radiance of 1 is the white of the picture.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.render.environment import (
    SIZE,
    Environment,
    Floats,
    Radiance,
    Softbox,
    box_radiance,
    cube_radiance,
    equirectangular_radiance,
    octahedral_map,
    prefiltered,
    solid_angles,
    studio,
)
from farframe.render.lights import linear_pixels
from farframe.scene.effects import SkyKind

Color = tuple[float, float, float]
PREFIX = "builtin://"
LUMINANCE = np.array((0.2126, 0.7152, 0.0722), np.float32)
MAX_TEXELS = 64 * 1024 * 1024
"""Of an image that is to become a sky."""


def prepare_environment(pixels: NDArray[Any], kind: SkyKind) -> Environment:
    """The environment that an image shows: a panorama (h, w, c), see
    :func:`~farframe.render.environment.equirectangular_radiance`, or the faces (6, h, w, c) of a cube map, see
    :func:`~farframe.render.environment.cube_radiance`; a panorama may stand alone in a first axis of 1.

    Floats are linear radiance, uint8 is sRGB. From any thread. Raises ``ValueError`` for what is neither.
    """
    if kind is SkyKind.EQUIRECTANGULAR and pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    fits = pixels.ndim == 4 and len(pixels) == 6 if kind is SkyKind.CUBE_MAP else pixels.ndim == 3
    if kind is SkyKind.BUILT_IN or not fits or 0 in pixels.shape:
        raise ValueError("a sky is a panorama (h, w, c) or the faces (6, h, w, c) of a cube map")
    if pixels.size > MAX_TEXELS * 4:
        raise ValueError(f"a sky has at most {MAX_TEXELS} texels")
    linear = linear_pixels(pixels)
    radiance = cube_radiance(linear) if kind is SkyKind.CUBE_MAP else equirectangular_radiance(linear)
    return prefiltered(octahedral_map(radiance, SIZE))


def _mix(low: NDArray[Any], high: NDArray[Any], share: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(low + (high - low) * share)


def _step(low: float, high: float, value: NDArray[Any]) -> NDArray[Any]:
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


@cache
def _lattice() -> Floats:
    return np.random.default_rng(20).random((32, 32, 32), np.float32)


def _noise(point: Floats) -> Floats:
    """Smooth noise from 0 to 1 at points (n, 3): random numbers on a lattice, blended."""
    lattice = _lattice()
    cell = np.floor(point)
    t = point - cell
    t = t * t * (3.0 - 2.0 * t)
    cell = cell.astype(np.int64)
    total = np.zeros(len(point), np.float32)
    for corner in range(8):
        offset = np.array((corner & 1, corner >> 1 & 1, corner >> 2 & 1))
        x, y, z = ((cell + offset) & 31).T
        total += lattice[x, y, z] * np.abs(1.0 - offset - t).prod(axis=1)
    return total


def _clouds(point: Floats) -> Floats:
    """Noise of four octaves, from 0 to 1."""
    octaves = [_noise(point * np.float32(2.0**octave)) / np.float32(2.0 ** (octave + 1)) for octave in range(4)]
    return np.asarray(sum(octaves) / np.float32(0.9375), np.float32)


def _unit(vector: tuple[float, float, float]) -> Floats:
    array = np.array(vector, np.float32)
    return np.asarray(array / np.linalg.norm(array), np.float32)


@dataclass(frozen=True, slots=True)
class Sun:
    """A disc of light and the glow around it. ``share``: how much of all the light that comes from the sky it gives."""

    direction: tuple[float, float, float]
    color: Color
    share: float
    radius_degrees: float = 1.0
    glow: float = 0.0


_PEREZ = {
    "Y": ((0.1787, -1.4630), (-0.3554, 0.4275), (-0.0227, 5.3251), (0.1206, -2.5771), (-0.0670, 0.3703)),
    "x": ((-0.0193, -0.2592), (-0.0665, 0.0008), (-0.0004, 0.2125), (-0.0641, -0.8989), (-0.0033, 0.0452)),
    "y": ((-0.0167, -0.2608), (-0.0950, 0.0092), (-0.0079, 0.2102), (-0.0441, -1.6537), (-0.0109, 0.0529)),
}
"""Slope over turbidity and value at 0 of the five coefficients of luminance and chromaticity."""
_TO_RGB = np.array([[3.2405, -1.5371, -0.4985], [-0.9693, 1.8760, 0.0416], [0.0556, -0.2040, 1.0572]])


def clear_sky(directions: Floats, sun: Floats, turbidity: float) -> Floats:
    """Radiance (n, 3) of a clear sky without its sun, in thousands of candela a square metre; below the horizon that
    of the horizon."""
    cosine = np.maximum(directions[:, 1], 0.02).astype(np.float64)
    gamma_cosine = np.clip(directions @ sun, -1.0, 1.0).astype(np.float64)
    gamma, sun_angle = np.arccos(gamma_cosine), float(np.arccos(np.clip(sun[1], 0.0, 1.0)))
    chi = (4.0 / 9.0 - turbidity / 120.0) * (np.pi - 2.0 * sun_angle)
    powers = np.array([sun_angle**3, sun_angle**2, sun_angle, 1.0])
    turbidities = np.array([turbidity**2, turbidity, 1.0])
    zenith = {
        "Y": (4.0453 * turbidity - 4.9710) * np.tan(chi) - 0.2155 * turbidity + 2.4192,
        "x": turbidities
        @ np.array(
            [
                [0.00166, -0.00375, 0.00209, 0.0],
                [-0.02903, 0.06377, -0.03202, 0.00394],
                [0.11693, -0.21196, 0.06052, 0.25886],
            ]
        )
        @ powers,
        "y": turbidities
        @ np.array(
            [
                [0.00275, -0.00610, 0.00317, 0.0],
                [-0.04214, 0.08970, -0.04153, 0.00516],
                [0.15346, -0.26756, 0.06670, 0.26688],
            ]
        )
        @ powers,
    }
    value = {}
    for name, rows in _PEREZ.items():
        a, b, c, d, e = (slope * turbidity + constant for slope, constant in rows)
        here = (1 + a * np.exp(b / cosine)) * (1 + c * np.exp(d * gamma) + e * gamma_cosine**2)
        there = (1 + a * np.exp(b)) * (1 + c * np.exp(d * sun_angle) + e * np.cos(sun_angle) ** 2)
        value[name] = zenith[name] * here / there
    luminance, x, y = np.maximum(value["Y"], 0.0), value["x"], np.maximum(value["y"], 1e-3)
    xyz = np.stack([x / y * luminance, luminance, (1.0 - x - y) / y * luminance], axis=1)
    return np.asarray(np.maximum(xyz @ _TO_RGB.T, 0.0), np.float32)


@dataclass(frozen=True, slots=True)
class Sky:
    """A built-in sky: colours of zenith, horizon and ground, or a clear sky of that ``turbidity`` in the place of the
    first two. ``clouds``: how much of them, and their colour. ``skyline``: what stands along the horizon, up to
    which sine of the elevation, how ragged, and its colour; ``lamps``: what shines beside a sun; ``level``: mean
    radiance of all directions."""

    zenith: Color
    horizon: Color
    ground: Color
    level: float = 0.42
    turbidity: float = 0.0
    sun: Sun | None = None
    lamps: tuple[Softbox, ...] = ()
    clouds: float = 0.0
    cloud_color: Color = (1.0, 1.0, 1.0)
    skyline: tuple[float, float, Color] | None = None
    grain: float = 0.0
    """How much walls, ground and trees are mottled."""


def _row(
    count: int, start: tuple[float, float, float], step: tuple[float, float, float], extent: tuple[float, float],
    color: Color,
) -> tuple[Softbox, ...]:  # fmt: skip
    """Lamps in a row, at places relative to the eye."""
    places = [tuple(np.add(start, np.multiply(step, index)).tolist()) for index in range(count)]
    return tuple(
        Softbox((place[0], place[1], place[2]), _seen(extent, place), color, 0.06)
        for place in places
    )  # fmt: skip


def _seen(extent: tuple[float, float], place: Any) -> tuple[float, float]:
    distance = float(np.linalg.norm(place))
    return extent[0] / distance, extent[1] / distance


_COLD, _WARM, _DAY = (0.86, 0.95, 1.0), (1.0, 0.72, 0.42), (0.92, 0.97, 1.0)


def _times(color: Color, factor: float) -> Color:
    return (color[0] * factor, color[1] * factor, color[2] * factor)


SKIES: dict[str, Sky] = {
    # A workshop: two long rows of cold tubes overhead, daylight through its open door, a grey floor.
    "Autoshop": Sky(
        (0.16, 0.165, 0.17), (0.22, 0.215, 0.21), (0.19, 0.19, 0.2), grain=0.15,
        lamps=(
            *_row(5, (-1.3, 2.2, -4.0), (0.0, 0.0, 2.0), (0.16, 0.75), _times(_COLD, 9.0)),
            *_row(5, (1.3, 2.2, -4.0), (0.0, 0.0, 2.0), (0.16, 0.75), _times(_COLD, 9.0)),
            Softbox((0.1, 0.12, -1.0), (0.55, 0.32), _times(_DAY, 2.2), 0.04),
        ),
    ),
    # Brick, rust and three bulbs; a small high window.
    "BoilerRoom": Sky(
        (0.09, 0.07, 0.055), (0.15, 0.1, 0.07), (0.08, 0.065, 0.055), level=0.3, grain=0.5,
        lamps=(
            Softbox((0.7, 0.8, 0.4), (0.09, 0.09), _times(_WARM, 26.0), 0.3),
            Softbox((-0.9, 0.5, -0.5), (0.07, 0.07), _times(_WARM, 26.0), 0.3),
            Softbox((-0.2, 0.9, 1.2), (0.06, 0.06), _times(_WARM, 22.0), 0.3),
            Softbox((-0.3, 0.55, -1.0), (0.2, 0.13), _times(_DAY, 2.6), 0.05),
        ),
    ),
    # A dark studio with coloured softboxes.
    "ColorfulStudio": Sky(
        (0.1, 0.1, 0.12), (0.09, 0.09, 0.1), (0.07, 0.07, 0.08),
        lamps=(
            Softbox((0.05, 1.0, 0.1), (0.7, 0.5), (1.0, 1.0, 1.05), 0.12),
            Softbox((1.0, 0.35, 0.3), (0.45, 0.75), (3.2, 0.45, 1.5), 0.1),
            Softbox((-1.0, 0.3, 0.35), (0.4, 0.75), (0.25, 1.5, 3.2), 0.1),
            Softbox((0.15, 0.25, -1.0), (0.6, 0.4), (3.0, 1.9, 0.3), 0.1),
            Softbox((-0.25, 0.2, 1.0), (0.25, 0.5), (0.7, 2.2, 0.9), 0.1),
        ),
    ),
    # A great dim hall: its gate open to the day, rows of lamps high up, strips of light in the roof.
    "Hangar": Sky(
        (0.1, 0.105, 0.115), (0.17, 0.175, 0.185), (0.2, 0.195, 0.19), grain=0.2,
        lamps=(
            Softbox((0.0, 0.2, -1.0), (1.15, 0.3), _times(_DAY, 2.6), 0.03),
            *_row(4, (-4.5, 8.0, -9.0), (0.0, 0.0, 6.0), (0.5, 0.5), _times((1.0, 0.93, 0.8), 11.0)),
            *_row(4, (4.5, 8.0, -9.0), (0.0, 0.0, 6.0), (0.5, 0.5), _times((1.0, 0.93, 0.8), 11.0)),
            Softbox((0.0, 1.0, 0.0), (0.1, 1.6), _times(_DAY, 1.4), 0.1),
        ),
    ),
    # A plant's hall: tall windows along one side, greenish walls, pipes in front of them.
    "IndustrialPipeAndValve": Sky(
        (0.13, 0.14, 0.13), (0.19, 0.2, 0.175), (0.14, 0.135, 0.12), grain=0.4,
        lamps=(
            *_row(6, (4.0, 1.6, -6.5), (0.0, 0.0, 2.6), (0.75, 1.5), _times(_DAY, 3.4)),
            Softbox((-1.0, 0.8, 0.2), (0.05, 0.5), _times(_COLD, 7.0), 0.1),
            Softbox((-0.6, 1.0, -0.7), (0.05, 0.35), _times(_COLD, 7.0), 0.1),
        ),
    ),
    # A wooden lodge, glazed to the bush on two sides.
    "Lebombo": Sky(
        (0.3, 0.21, 0.13), (0.27, 0.19, 0.12), (0.24, 0.16, 0.1), grain=0.3,
        lamps=(
            *_row(3, (-2.6, 0.7, -3.0), (2.6, 0.0, 0.0), (1.1, 1.0), (2.0, 2.15, 2.2)),
            *_row(2, (3.2, 0.7, -1.4), (0.0, 0.0, 2.6), (1.1, 1.0), (1.8, 2.0, 1.9)),
            Softbox((-1.0, 0.5, 0.6), (0.12, 0.14), _times(_WARM, 4.5), 0.3),
        ),
    ),
    # A camp at night: lamps on posts, a last blue in the sky.
    "SataraNight": Sky(
        (0.006, 0.01, 0.028), (0.025, 0.028, 0.05), (0.02, 0.016, 0.012), level=0.16, grain=0.6,
        skyline=(0.16, 0.14, (0.012, 0.014, 0.012)),
        lamps=(
            Softbox((0.8, 0.42, -0.6), (0.055, 0.055), _times((1.0, 0.66, 0.34), 60.0), 0.4),
            Softbox((-0.9, 0.3, 0.5), (0.04, 0.04), _times((1.0, 0.7, 0.4), 55.0), 0.4),
            Softbox((-0.3, 0.2, -1.0), (0.03, 0.03), _times((0.85, 0.95, 1.0), 50.0), 0.4),
        ),
    ),
    # A park on a summer's day: sun through a blue sky, trees around a lawn.
    "SunnyVondelpark": Sky(
        (0, 0, 0), (0, 0, 0), (0.09, 0.15, 0.045), turbidity=2.6, level=0.5, grain=0.6, clouds=0.25,
        sun=Sun((0.55, 0.85, 0.45), (1.0, 0.96, 0.88), 0.5, glow=0.15), skyline=(0.3, 0.3, (0.055, 0.1, 0.03)),
    ),
    # Dry grassland under a clear sky, the sun half up.
    "Syferfontein": Sky(
        (0, 0, 0), (0, 0, 0), (0.26, 0.2, 0.11), turbidity=2.2, level=0.5, grain=0.35,
        sun=Sun((-0.75, 0.5, -0.5), (1.0, 0.88, 0.7), 0.5, glow=0.2), skyline=(0.03, 0.03, (0.16, 0.14, 0.09)),
    ),
    # A bridge among brick houses, under a bright cover of clouds.
    "TearsOfSteelBridge": Sky(
        (0.72, 0.76, 0.82), (0.95, 0.95, 0.93), (0.17, 0.155, 0.14), clouds=0.8, cloud_color=(1.15, 1.13, 1.1),
        grain=0.4, sun=Sun((0.5, 0.75, -0.6), (1.0, 0.95, 0.86), 0.14, 4.0, 0.4),
        skyline=(0.34, 0.34, (0.2, 0.13, 0.095)),
    ),
    # The sun goes down over the lagoon.
    "VeniceSunset": Sky(
        (0.2, 0.22, 0.36), (1.0, 0.56, 0.28), (0.2, 0.15, 0.14), clouds=0.45, cloud_color=(1.0, 0.52, 0.4), grain=0.2,
        sun=Sun((-0.35, 0.1, -1.0), (1.0, 0.52, 0.2), 0.42, 1.2, 1.2), skyline=(0.05, 0.06, (0.07, 0.05, 0.055)),
    ),
    # A path in the woods: trees high all around, a soft sky in the gap above.
    "WhippleCreekRegionalPark": Sky(
        (0.95, 1.0, 1.02), (0.8, 0.9, 0.75), (0.11, 0.085, 0.05), clouds=0.4, grain=0.9,
        skyline=(0.78, 0.5, (0.075, 0.12, 0.03)),
        sun=Sun((0.3, 0.9, 0.25), (1.0, 0.95, 0.8), 0.2, 3.0, 0.3),
    ),
    # Snow and ice under a pale winter's sky.
    "WinterRiver": Sky(
        (0.5, 0.62, 0.85), (0.9, 0.92, 0.95), (0.74, 0.8, 0.9), clouds=0.35, level=0.5, grain=0.15,
        sun=Sun((0.8, 0.3, 0.55), (1.0, 0.9, 0.75), 0.28, 1.2, 0.5), skyline=(0.12, 0.12, (0.09, 0.085, 0.09)),
    ),
}  # fmt: skip
"""By name, without ``builtin://``. Found by looking at pictures."""

ALIASES = {"DefaultSky": "TearsOfSteelBridge"}
BUILTIN_SKIES = tuple(PREFIX + name for name in ("Studio", *SKIES, *ALIASES))
"""All that :func:`builtin_environment` knows."""


def sky_radiance(sky: Sky) -> Radiance:
    """The function from unit directions (n, 3) to radiance (n, 3) of a built-in sky, before it is brought to its level
    and without the disc of its sun."""
    zenith, horizon, ground = (np.array(color, np.float32) for color in (sky.zenith, sky.horizon, sky.ground))
    sun = None if sky.sun is None else _unit(sky.sun.direction)

    def radiance(directions: Floats) -> Floats:
        height = directions[:, 1]
        result: NDArray[Any]
        if sky.turbidity:
            assert sun is not None
            result = clear_sky(directions, sun, sky.turbidity) * np.float32(0.05)
        else:
            result = _mix(zenith, horizon, (1.0 - np.clip(height, 0.0, 1.0)[:, None]) ** 2.5)
        if sun is not None and sky.sun is not None and sky.sun.glow:
            away = np.arccos(np.clip(directions @ sun, -1.0, 1.0))
            glow = np.exp(-away / 0.08) + 0.25 * np.exp(-away / 0.35)
            result = result + (sky.sun.glow * glow)[:, None] * np.array(sky.sun.color, np.float32)
        if sky.clouds:
            flat = directions[:, (0, 2)] / (np.maximum(height, 0.0) + 0.12)[:, None]
            cover = _clouds(np.column_stack([flat, np.zeros_like(height)]).astype(np.float32) * np.float32(1.4))
            dense = _step(0.75 - 0.5 * sky.clouds, 1.05 - 0.5 * sky.clouds, cover) * min(2.0 * sky.clouds, 1.0)
            shade = 0.8 + 0.4 * _noise(directions * np.float32(7.0))
            cloud: NDArray[Any] = shade[:, None] * np.array(sky.cloud_color, np.float32)
            if sky.turbidity:
                cloud = cloud * float(result[height > 0.1].mean() * 1.8 if (height > 0.1).any() else 1.0)
            result = _mix(result, cloud, (dense * _step(0.0, 0.1, height))[:, None])
        mottle = 1.0 + sky.grain * (2.0 * _clouds(directions * np.float32(9.0)) - 1.0)
        if sky.skyline is not None:
            top, ragged, color = sky.skyline
            level = np.maximum(np.hypot(directions[:, 0], directions[:, 2]), 1e-3)
            around = np.column_stack([directions[:, 0] / level, np.zeros_like(height), directions[:, 2] / level])
            edge = top + ragged * (_clouds(np.asarray(around * 2.7, np.float32)) - 0.6) * 1.6
            edge = edge + 0.25 * ragged * (_noise(directions * np.float32(24.0)) - 0.5)
            solid = _step(-0.012, 0.012, edge - height)[:, None]
            result = _mix(result, mottle[:, None] * np.array(color, np.float32), solid)
        below = _step(-0.02, 0.02, -height)[:, None]
        shaded = (mottle * (0.75 + 0.25 * np.clip(-height * 2.0, 0.0, 1.0)))[:, None]
        result = _mix(result, ground * shaded, below)
        if sky.skyline is None and sky.lamps:
            result = result * mottle[:, None]
        for lamp in sky.lamps:
            result = result + box_radiance(lamp, directions)
        return np.asarray(result, np.float32)

    return radiance


def sky_map(sky: Sky) -> Floats:
    """The octahedral map (SIZE, SIZE, 3) of a built-in sky, at its level and with its sun, which is a soft disc."""
    base = octahedral_map(sky_radiance(sky), SIZE, taps=2)
    angle = solid_angles(SIZE)[..., None]
    if sky.sun is not None:
        direction, width = _unit(sky.sun.direction), np.radians(sky.sun.radius_degrees)

        def disc(directions: Floats) -> Floats:
            away = np.arccos(np.clip(directions @ direction, -1.0, 1.0))
            return np.asarray(np.repeat(1.0 - _step(0.7 * width, 1.3 * width, away)[:, None], 3, axis=1), np.float32)

        shape = octahedral_map(disc, SIZE, taps=4)
        shape = shape * np.array(sky.sun.color, np.float32)
        light, own = float((base * angle @ LUMINANCE).sum()), float((shape * angle @ LUMINANCE).sum())
        base = base + shape * np.float32(light * sky.sun.share / (1.0 - sky.sun.share) / own)
    mean = float((base * angle @ LUMINANCE).sum()) / (4.0 * np.pi)
    return np.asarray(base * np.float32(sky.level / mean), np.float32)


_making = threading.Lock()
_made: dict[str, Environment] = {}


def builtin_environment(uri: str) -> Environment:
    """The environment of a built-in name, with ``builtin://`` or without. From any thread; kept for the process once it
    is made. Raises ``KeyError`` for a name that is none of :data:`BUILTIN_SKIES`."""
    name = uri.removeprefix(PREFIX)
    name = ALIASES.get(name, name)
    if name == "Studio":
        return studio()
    sky = SKIES[name]
    with _making:
        if name not in _made:
            _made[name] = prefiltered(sky_map(sky))
        return _made[name]
