"""Image-based light as the arrays that the surface shader reads, and a photo studio made in code. ``sky`` has others.

The studio is a function from direction to radiance (:func:`studio_radiance`): dim walls, a large overhead softbox, a
key and a fill at the sides and narrow strips that draw the long highlights product photographs live from. From it come

* ``irradiance``: nine spherical harmonics for the diffuse part (Ramamoorthi and Hanrahan 2001), and
* ``texels``: octahedral maps of the radiance prefiltered by GGX, one per step of perceptual roughness, for the
  specular part (the split sum of Karis 2013), sampled with filtered importance sampling (Krivanek and Colbert 2008).

Octahedral maps in a 2D array are read with one bilinear fetch; a cube map costs a CPU adapter several times that.
Eight bits hold the range because they store square roots, scaled per layer, or where a sun shines by neighbourhoods
(the scale is in alpha).
Directions are unit vectors, right-handed, +Y up. Radiance has no unit: 1 is the white of the picture at exposure 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LAYERS = 16
"""Steps of perceptual roughness from 0 to 1."""
SIZE = 256
"""Texels along an edge of an octahedral map: a softbox' edge in a chrome part is then about as sharp as a real one."""
RANGE = 4.0
"""The greatest radiance that the eight bits can hold, unless an environment says otherwise."""
GREATEST_RANGE = 256.0
"""More is not told apart: a non-metal that mirrors four percent of it is white many times over."""


@dataclass(frozen=True, slots=True)
class Softbox:
    """A rectangular lamp seen from the origin. ``extent`` is its half width and height in tangents of angles."""

    direction: tuple[float, float, float]
    extent: tuple[float, float]
    color: tuple[float, float, float]
    softness: float = 0.08


STUDIO: tuple[Softbox, ...] = (
    Softbox((0.10, 1.00, 0.15), (0.95, 0.75), (0.98, 0.98, 1.00), 0.18),
    Softbox((0.75, 0.62, 0.85), (0.42, 0.55), (2.60, 2.52, 2.40), 0.10),
    Softbox((-1.00, 0.35, 0.45), (0.22, 0.85), (1.75, 1.80, 1.92), 0.08),
    Softbox((0.55, 0.28, -1.00), (0.20, 0.80), (1.90, 1.90, 1.95), 0.08),
    Softbox((-0.75, 0.45, -0.80), (0.30, 0.45), (1.05, 1.07, 1.12), 0.10),
    Softbox((1.00, 0.10, -0.15), (0.12, 0.60), (1.10, 1.08, 1.06), 0.08),
    Softbox((-0.35, 0.08, 1.00), (0.10, 0.50), (0.75, 0.75, 0.75), 0.08),
)
"""The lamps: overhead, key, cool edge strip, rim strips, fill. Found by looking at pictures."""

_CEILING = np.array((0.22, 0.225, 0.24), np.float32)
_HORIZON = np.array((0.155, 0.155, 0.16), np.float32)
_FLOOR = np.array((0.20, 0.195, 0.19), np.float32)


def _smoothstep(low: float, high: float, value: Floats) -> Floats:
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def studio_radiance(directions: Floats) -> Floats:
    """Radiance (n, 3) of the studio from unit ``directions`` (n, 3)."""
    height = directions[:, 1]
    up = _smoothstep(-0.02, 0.9, height)[:, None]
    down = _smoothstep(0.02, 0.75, -height)[:, None]
    radiance = _HORIZON + up * (_CEILING - _HORIZON) + down * (_FLOOR - _HORIZON)
    # The floor falls dark just below the horizon: the line that makes polished metal read as metal.
    radiance = radiance * (1.0 - 0.55 * np.exp(-(((height + 0.14) / 0.13) ** 2)))[:, None]
    for box in STUDIO:
        radiance = radiance + box_radiance(box, directions)
    return np.asarray(radiance, np.float32)


def box_radiance(box: Softbox, directions: Floats) -> Floats:
    """Radiance (n, 3) of one lamp from unit ``directions`` (n, 3): a rounded rectangle whose cloth is a little darker
    towards its rim."""
    axis = np.array(box.direction, np.float32)
    axis /= np.linalg.norm(axis)
    reference = np.array((0, 1, 0) if abs(axis[1]) < 0.9 else (0, 0, 1), np.float32)
    right = np.cross(reference, axis)
    right /= np.linalg.norm(right)
    upward = np.cross(axis, right)
    forward = directions @ axis
    facing = np.maximum(forward, 1e-3)
    u = np.abs(directions @ right) / facing / box.extent[0]
    v = np.abs(directions @ upward) / facing / box.extent[1]
    distance = (u**6 + v**6) ** (1.0 / 6.0)
    mask = 1.0 - _smoothstep(1.0 - box.softness, 1.0 + box.softness, distance)
    falloff = 1.0 - 0.25 * np.minimum(distance, 1.0) ** 2
    return np.asarray((mask * falloff * (forward > 0))[:, None] * np.array(box.color, np.float32), np.float32)


def octahedral_directions(size: int) -> Floats:
    """The unit directions (size, size, 3) of a map's texels; the border texels lie exactly on the fold."""
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    x, z = np.meshgrid(axis, axis)
    y = 1.0 - np.abs(x) - np.abs(z)
    below = y < 0
    fold_x = np.where(below, (1.0 - np.abs(z)) * np.where(x >= 0, 1.0, -1.0), x)
    fold_z = np.where(below, (1.0 - np.abs(x)) * np.where(z >= 0, 1.0, -1.0), z)
    directions = np.stack([fold_x, y, fold_z], axis=-1)
    return np.asarray(directions / np.linalg.norm(directions, axis=-1, keepdims=True), np.float32)


def _lookup(image: Floats, directions: Floats) -> Floats:
    """The values (n, 3) of an octahedral map (s, s, 3) in unit ``directions`` (n, 3), bilinear."""
    size = image.shape[0]
    scaled = directions / np.abs(directions).sum(axis=1, keepdims=True)
    x, y, z = scaled.T
    below = y < 0
    u = np.where(below, (1.0 - np.abs(z)) * np.where(x >= 0, 1.0, -1.0), x)
    v = np.where(below, (1.0 - np.abs(x)) * np.where(z >= 0, 1.0, -1.0), z)
    column = np.clip((u * 0.5 + 0.5) * (size - 1), 0.0, size - 1.001).astype(np.float32)
    row = np.clip((v * 0.5 + 0.5) * (size - 1), 0.0, size - 1.001).astype(np.float32)
    left, top = column.astype(np.int64), row.astype(np.int64)
    fraction_x, fraction_y = (column - left)[:, None], (row - top)[:, None]
    flat = image.reshape(-1, 3)
    corner = top * size + left
    upper = flat[corner] * (1.0 - fraction_x) + flat[corner + 1] * fraction_x
    lower = flat[corner + size] * (1.0 - fraction_x) + flat[corner + size + 1] * fraction_x
    return np.asarray(upper * (1.0 - fraction_y) + lower * fraction_y, np.float32)


def _resample(image: Floats, size: int) -> Floats:
    """An octahedral map (s, s, 3) at ``size`` by a tent filter; border texels stay on the fold."""
    old = image.shape[0]
    if old == size:
        return image
    position = np.linspace(0.0, old - 1.0, size)
    width = max(1.0, old / size)
    matrix = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(old)) / width).astype(np.float32)
    matrix /= matrix.sum(axis=1, keepdims=True)
    rows = np.tensordot(matrix, image, axes=(1, 0))
    return np.ascontiguousarray(np.moveaxis(np.tensordot(matrix, rows, axes=(1, 1)), 0, 1), np.float32)


def _frames(normals: Floats) -> tuple[Floats, Floats]:
    """Two unit tangents (n, 3) at each unit normal (Duff et al. 2017)."""
    x, y, z = normals.T
    sign = np.where(z >= 0, 1.0, -1.0).astype(np.float32)
    a = -1.0 / (sign + z)
    b = x * y * a
    first = np.stack([1.0 + sign * x * x * a, sign * b, -sign * x], axis=1)
    second = np.stack([b, sign + y * y * a, -y], axis=1)
    return np.asarray(first, np.float32), np.asarray(second, np.float32)


def _prefilter_smooth(pyramid: list[Floats], roughness: float, size: int, samples: int) -> Floats:
    """Radiance (size, size, 3) filtered by a narrow GGX lobe along the normal: filtered importance sampling."""
    alpha2 = roughness**4
    normals = octahedral_directions(size).reshape(-1, 3)
    first, second = _frames(normals)
    total = np.zeros_like(normals)
    weights = 0.0
    for index in range(samples):
        u = (index + 0.5) / samples
        phi = 2.0 * np.pi * ((index * 0.6180339887498949) % 1.0)
        cos_half2 = (1.0 - u) / (1.0 + (alpha2 - 1.0) * u)
        cos_light = 2.0 * cos_half2 - 1.0
        if cos_light <= 0.0:
            continue
        sin_light = np.sqrt(max(0.0, 1.0 - cos_light * cos_light))
        density = alpha2 / (np.pi * (cos_half2 * (alpha2 - 1.0) + 1.0) ** 2) / 4.0
        texels = pyramid[0].shape[0] ** 2 / (4.0 * np.pi) / (samples * density)
        level = min(int(0.5 * np.log2(max(texels, 1.0)) + 1.0), len(pyramid) - 1)
        directions = (
            normals * np.float32(cos_light)
            + first * np.float32(sin_light * np.cos(phi))
            + second * np.float32(sin_light * np.sin(phi))
        )
        total += _lookup(pyramid[level], directions) * np.float32(cos_light)
        weights += cos_light
    return np.asarray((total / np.float32(weights)).reshape(size, size, 3), np.float32)


def _prefilter_rough(roughness: list[float], size: int) -> list[Floats]:
    """Radiance (size, size, 3) filtered by wide GGX lobes, by plain quadrature over the sphere: no noise at all."""
    sources = _fibonacci_sphere(4096)
    # Four evaluations around each source direction: lamps' edges are sharper than the quadrature's spacing.
    first, second = _frames(sources)
    radiance = np.zeros_like(sources)
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        shifted = sources + first * np.float32(x * 0.014) + second * np.float32(y * 0.014)
        radiance += 0.25 * studio_radiance(
            np.asarray(shifted / np.linalg.norm(shifted, axis=1, keepdims=True), np.float32)
        )
    cosine = np.maximum(octahedral_directions(size).reshape(-1, 3) @ sources.T, 0.0)
    half2 = 0.5 * (1.0 + cosine)
    layers = []
    for value in roughness:
        alpha2 = np.float32(value**4)
        weight = cosine / np.square(half2 * (alpha2 - np.float32(1.0)) + np.float32(1.0))
        layers.append(((weight @ radiance) / weight.sum(axis=1, keepdims=True)).reshape(size, size, 3))
    return layers


def _basis(directions: Floats) -> Floats:
    """The nine basis polynomials (n, 9) in the order of the shader, without their factors."""
    x, y, z = directions.T
    one = np.ones_like(x)
    return np.stack([one, y, z, x, x * y, y * z, 3.0 * z * z - 1.0, x * z, x * x - y * y], axis=1)


_NORMALISATION = np.array(
    [0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274], np.float64
)
_COSINE_LOBE = np.array([np.pi] + [2.0 * np.pi / 3.0] * 3 + [np.pi / 4.0] * 5, np.float64)


def irradiance_harmonics(radiance: Floats, directions: Floats) -> NDArray[np.float64]:
    """Coefficients (9, 3): with :func:`_basis` at a normal they give irradiance / pi, all factors folded in.

    ``radiance`` and ``directions`` are (n, 3), the directions spread evenly over the sphere.
    """
    projection = (4.0 * np.pi / len(directions)) * (
        _basis(directions).T.astype(np.float64) @ radiance.astype(np.float64)
    )
    factors = _NORMALISATION**2 * _COSINE_LOBE / np.pi
    return np.asarray(projection * factors[:, None], np.float64)


@lru_cache(maxsize=4)
def _harmonics_rotation(radians: float) -> NDArray[np.float64]:
    """The (9, 9) matrix that turns coefficients about +Y, found by fitting a turned basis."""
    directions = _fibonacci_sphere(64).astype(np.float64)
    c, s = np.cos(radians), np.sin(radians)
    x, y, z = directions.T
    turned_back = np.stack([c * x - s * z, y, s * x + c * z], axis=1)
    basis = _basis(np.asarray(directions, np.float32)).astype(np.float64)
    turned = _basis(np.asarray(turned_back, np.float32)).astype(np.float64)
    return np.asarray(np.linalg.lstsq(basis, turned, rcond=None)[0], np.float64)


def rotate_harmonics(coefficients: NDArray[np.float64], radians: float) -> NDArray[np.float64]:
    """The coefficients (9, 3) of the environment turned about +Y by ``radians``, counter-clockwise from above."""
    return np.asarray(_harmonics_rotation(radians) @ coefficients, np.float64)


def _fibonacci_sphere(count: int) -> Floats:
    index = np.arange(count) + 0.5
    y = 1.0 - 2.0 * index / count
    radius = np.sqrt(1.0 - y * y)
    phi = np.pi * (1.0 + 5.0**0.5) * index
    return np.asarray(np.stack([np.cos(phi) * radius, y, np.sin(phi) * radius], axis=1), np.float32)


def _encode(layer: Floats) -> NDArray[np.uint8]:
    """A layer (s, s, 3) as RGBA bytes: value = (rgb * a)^2 * RANGE."""
    scale = min(1.0, float(np.sqrt(layer.max() / RANGE)))
    alpha = np.ceil(scale * 255.0) / 255.0
    root = np.sqrt(np.clip(layer, 0.0, RANGE) / RANGE) / alpha
    # Half a step of noise that does not repeat from texel to texel hides the steps in slow gradients.
    noise = np.random.default_rng(7).random(layer.shape, np.float32) - 0.5
    encoded = np.empty((*layer.shape[:2], 4), np.uint8)
    encoded[..., :3] = np.clip(np.rint(root * 255.0 + 0.5 * noise), 0, 255).astype(np.uint8)
    encoded[..., 3] = round(alpha * 255.0)
    return encoded


def encode_roots(image: Floats, peak: float) -> NDArray[np.uint8]:
    """Linear colours (h, w, 3) up to ``peak`` as RGBA bytes: value = (rgb * a)^2 * peak, a is 1."""
    encoded = np.full((*image.shape[:2], 4), 255, np.uint8)
    encoded[..., :3] = np.rint(np.sqrt(np.clip(image / np.float32(peak), 0.0, 1.0)) * 255.0)
    return encoded


def _neighbourhood(image: NDArray[np.float32], *, greatest: bool) -> NDArray[np.float32]:
    """The greatest or the mean value of each 3 x 3 texels of (h, w)."""
    padded = np.pad(image, 1, mode="edge")
    rows = np.stack([padded[:-2], padded[1:-1], padded[2:]])
    row = rows.max(axis=0) if greatest else rows.mean(axis=0)
    columns = np.stack([row[:, :-2], row[:, 1:-1], row[:, 2:]])
    return np.asarray(columns.max(axis=0) if greatest else columns.mean(axis=0), np.float32)


def _encode_bright(layer: Floats, peak: float) -> NDArray[np.uint8]:
    """A layer (s, s, 3) whose range one scale cannot span, as RGBA bytes: value = (rgb * a)^2 * peak.

    The shader blends the four texels around a direction before it multiplies: the scale must change slowly. It is
    that of the brightest texel around, blurred no further than that reaches.
    """
    root = np.sqrt(np.clip(layer / np.float32(peak), 0.0, 1.0))
    scale = root.max(axis=2)
    for _ in range(4):
        scale = _neighbourhood(scale, greatest=True)
    for _ in range(4):
        scale = _neighbourhood(scale, greatest=False)
    alpha = np.clip(np.ceil(scale * 255.0), 1.0, 255.0)
    noise = np.random.default_rng(7).random(layer.shape, np.float32) - 0.5
    encoded = np.empty((*layer.shape[:2], 4), np.uint8)
    color = np.rint(root * (255.0 * 255.0 / alpha)[..., None] + 0.5 * noise)
    encoded[..., :3] = np.clip(color, 0, 255).astype(np.uint8)
    encoded[..., 3] = alpha.astype(np.uint8)
    return encoded


def decoded(environment: Environment, layer: int) -> Floats:
    """The radiance (SIZE, SIZE, 3) that a layer of an environment stands for, texel by texel."""
    texels = environment.texels[layer].astype(np.float32) / np.float32(255.0)
    return np.asarray((texels[..., :3] * texels[..., 3:]) ** 2 * np.float32(environment.range), np.float32)


Radiance = Callable[[Floats], Floats]
"""From unit directions (n, 3) to radiance (n, 3)."""


def octahedral_map(radiance: Radiance, size: int, *, taps: int = 4) -> Floats:
    """The octahedral map (size, size, 3) of a function, each texel the mean of ``taps`` x ``taps`` directions in it.

    They lie evenly in the texel, and each counts by the solid angle that it stands for: so a sun smaller than a texel
    keeps its light wherever in the map it lies.
    """
    step = 2.0 / (size - 1)
    axis = np.linspace(-1.0, 1.0, size)
    total, weights = np.zeros((size * size, 3), np.float64), np.zeros((size * size, 1), np.float64)
    offsets = step * ((np.arange(taps) + 0.5) / taps - 0.5)
    for across in offsets:
        for along in offsets:
            x, z = np.meshgrid(axis + across, axis + along)
            inside = (np.maximum(np.abs(x), np.abs(z)) <= 1.0).reshape(-1, 1)
            y = 1.0 - np.abs(x) - np.abs(z)
            fold_x = np.where(y < 0, (1.0 - np.abs(z)) * np.where(x >= 0, 1.0, -1.0), x)
            fold_z = np.where(y < 0, (1.0 - np.abs(x)) * np.where(z >= 0, 1.0, -1.0), z)
            place = np.stack([fold_x, y, fold_z], axis=-1).reshape(-1, 3)
            length = np.linalg.norm(place, axis=1, keepdims=True)
            weight = np.where(inside, length**-3.0, 0.0)
            total += radiance(np.asarray(place / length, np.float32)) * weight
            weights += weight
    return np.asarray((total / weights).reshape(size, size, 3), np.float32)


def _halved(image: Floats, most: int) -> Floats:
    """An image (..., h, w, 3) at half its size, by means of four, until it is at most ``most`` texels wide."""
    while image.shape[-2] > most and image.shape[-2] % 2 == 0 and image.shape[-3] % 2 == 0:
        rows = image[..., 0::2, :, :] + image[..., 1::2, :, :]
        image = np.float32(0.25) * (rows[..., 0::2, :] + rows[..., 1::2, :])
    return image


def _bilinear(image: Floats, row: Floats, column: Floats, *, wrap: bool) -> Floats:
    """Values (n, 3) of an image (h, w, 3) at coordinates of texels, whose middles are whole numbers."""
    height, width = image.shape[:2]
    row = np.clip(row, 0.0, height - 1.0)
    if not wrap:
        column = np.clip(column, 0.0, width - 1.0)
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = (row - top)[:, None].astype(np.float32), (column - left)[:, None].astype(np.float32)
    below = np.minimum(top + 1, height - 1)
    beside = (left + 1) % width if wrap else np.minimum(left + 1, width - 1)
    left %= width
    upper = image[top, left] * (1 - right) + image[top, beside] * right
    lower = image[below, left] * (1 - right) + image[below, beside] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def equirectangular_radiance(image: Floats) -> Radiance:
    """The radiance of a panorama (h, w, 3): its first row is +Y, its middle column -Z, and +X lies right of that."""
    image = _halved(image, 2048)
    height, width = image.shape[:2]

    def radiance(directions: Floats) -> Floats:
        x, y, z = directions.T
        column = (0.5 + np.arctan2(x, -z) / (2.0 * np.pi)) * width - 0.5
        row = np.arccos(np.clip(y, -1.0, 1.0)) / np.pi * height - 0.5
        return _bilinear(image, row, column, wrap=True)

    return radiance


def cube_radiance(faces: Floats) -> Radiance:
    """The radiance of a cube map's faces (6, s, s, 3): right, left, up, down, front, back, as a view along -Z calls
    them. Files call these +X -X +Y -Y +Z -Z, in a left-handed space whose Z is opposite to ours."""
    faces = np.ascontiguousarray(_halved(faces, 512))
    height, width = faces.shape[1:3]
    stacked = faces.reshape(6 * height, width, 3)

    def radiance(directions: Floats) -> Floats:
        x, y, z = directions[:, 0], directions[:, 1], -directions[:, 2]
        size = np.abs(np.stack([x, y, z], axis=1))
        axis = size.argmax(axis=1)
        major = np.maximum(size.max(axis=1), 1e-12)
        sign = np.stack([x, y, z], axis=1)[np.arange(len(axis)), axis] < 0
        face = 2 * axis + sign
        across = np.choose(face, [-z, z, x, x, x, -x]) / major
        along = np.choose(face, [-y, -y, z, -z, -y, -y]) / major
        column = (across * 0.5 + 0.5) * width - 0.5
        row = np.clip((along * 0.5 + 0.5) * height - 0.5, 0.0, height - 1.0)
        # Half texels at the edges of faces are the faces' own: seams are narrower than what is prefiltered.
        top = np.minimum(np.floor(row), height - 2.0) if height > 1 else np.zeros_like(row)
        column = np.clip(column, 0.0, width - 1.0)
        down = (row - top)[:, None].astype(np.float32)
        upper = _bilinear(stacked, face * height + top, column, wrap=False)
        lower = _bilinear(stacked, face * height + np.minimum(top + 1, height - 1), column, wrap=False)
        return np.asarray(upper * (1 - down) + lower * down, np.float32)

    return radiance


def cube_to_octahedral(faces: Floats, size: int) -> Floats:
    """A cube map (6, s, s, 3) as an octahedral map (size, size, 3); see :func:`cube_radiance`."""
    return octahedral_map(cube_radiance(faces), size, taps=2)


def solid_angles(size: int) -> NDArray[np.float64]:
    """The solid angles (size, size) of an octahedral map's texels; they add up to the sphere's."""
    axis = np.linspace(-1.0, 1.0, size)
    x, z = np.meshgrid(axis, axis)
    y = 1.0 - np.abs(x) - np.abs(z)
    fold_x = np.where(y < 0, 1.0 - np.abs(z), np.abs(x))
    fold_z = np.where(y < 0, 1.0 - np.abs(x), np.abs(z))
    # All faces of the octahedron are equally far from its middle, so only the distance of the texel counts.
    angle = (fold_x**2 + y**2 + fold_z**2) ** -1.5
    edge = np.ones(size)
    edge[[0, -1]] = 0.5
    angle *= edge[:, None] * edge[None, :]
    return np.asarray(angle * (4.0 * np.pi / angle.sum()), np.float64)


SOURCES = 64
"""Along an edge of the map in which light is gathered for the rough layers: 4,096 directions."""


def _gathered(base: Floats) -> tuple[Floats, Floats, Floats]:
    """A map (s, s, 3) as fewer directions (k, 3) with their radiance (k, 3) and solid angles (k,); no light is lost."""
    size = base.shape[0]
    angle = solid_angles(size).reshape(-1)
    cell = np.minimum(np.arange(size) * SOURCES // size, SOURCES - 1)
    number = (cell[:, None] * SOURCES + cell[None, :]).reshape(-1)

    def sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(number, values, SOURCES * SOURCES), np.float64)

    weight = sums(angle)
    directions = octahedral_directions(size).reshape(-1, 3)
    mean = np.stack([sums(angle * directions[:, axis]) for axis in range(3)], axis=1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    flat = base.reshape(-1, 3)
    light = np.stack([sums(angle * flat[:, channel]) for channel in range(3)], axis=1) / weight[:, None]
    return mean.astype(np.float32), light.astype(np.float32), weight.astype(np.float32)


def _prefilter_gathered(base: Floats, roughness: list[float], size: int) -> list[Floats]:
    """Radiance (size, size, 3) filtered by wide GGX lobes: a sum over the whole sphere, without noise."""
    sources, light, angle = _gathered(base)
    layers = []
    cosine = np.maximum(octahedral_directions(size).reshape(-1, 3) @ sources.T, 0.0)
    half2 = 0.5 * (1.0 + cosine)
    weighted = cosine * angle
    for value in roughness:
        alpha2 = np.float32(value**4)
        weight = weighted / np.square(half2 * (alpha2 - np.float32(1.0)) + np.float32(1.0))
        layers.append(((weight @ light) / weight.sum(axis=1, keepdims=True)).reshape(size, size, 3))
    return layers


BRIGHT_TEXELS = 600
"""How many of the brightest texels count one by one in the smooth layers: suns and lamps, which sampling would turn
into specks."""
SUN_BAND = 0.8
"""Factor on their last five harmonics. Without it a light from one direction would be 1/16 too strong in front and
shine as much from behind; so it is right in both places."""


def _split_bright(base: Floats) -> tuple[Floats, Floats, Floats]:
    """A map (s, s, 3) as what remains of it where its brightest texels are cut off, the directions (k, 3) of those, and
    the radiance times solid angle (k, 3) that was cut off."""
    size = base.shape[0]
    bright = base.max(axis=2).reshape(-1)
    chosen = np.argpartition(bright, -BRIGHT_TEXELS - 1)[-BRIGHT_TEXELS - 1 :]
    limit = max(float(bright[chosen].min()), 2.0 * float(bright.mean()))
    chosen = chosen[bright[chosen] > limit]
    flat = base.reshape(-1, 3).copy()
    kept = flat[chosen] * (limit / bright[chosen])[:, None]
    excess = (flat[chosen] - kept) * solid_angles(size).reshape(-1)[chosen, None]
    flat[chosen] = kept
    directions = octahedral_directions(size).reshape(-1, 3)[chosen]
    return flat.reshape(size, size, 3), directions, np.asarray(excess, np.float32)


def _lobes(directions: Floats, light: Floats, roughness: float, size: int) -> Floats:
    """What single directions (k, 3) with radiance times solid angle (k, 3) add to a map filtered by a GGX lobe."""
    alpha2 = np.float32(roughness**4)
    angle = np.linspace(0.0, np.pi / 2, 20001)
    half2 = 0.5 * (1.0 + np.cos(angle))
    weight = np.cos(angle) / np.square(half2 * (alpha2 - 1.0) + 1.0)
    norm = 2.0 * np.pi * np.trapezoid(weight * np.sin(angle), angle)
    cosine = np.maximum(octahedral_directions(size).reshape(-1, 3) @ directions.T, 0.0)
    weight = cosine / np.square(np.float32(0.5) * (1.0 + cosine) * (alpha2 - np.float32(1.0)) + np.float32(1.0))
    return np.asarray((weight @ light / np.float32(norm)).reshape(size, size, 3), np.float32)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Environment:
    """``texels``: (LAYERS, SIZE, SIZE, 4) uint8: radiance is (rgb * a)^2 * ``range``. ``irradiance``: (9, 3) float64.

    Two of them are equal only if they are the same.
    """

    texels: NDArray[np.uint8]
    irradiance: NDArray[np.float64]
    range: float = RANGE


def prefiltered(base: Floats) -> Environment:
    """The environment whose radiance is the octahedral map ``base`` (SIZE, SIZE, 3). About a second of CPU."""
    even, bright, light = _split_bright(base)
    pyramid = [even, _resample(even, 128), _resample(even, 64)]
    roughness = [layer / (LAYERS - 1) for layer in range(LAYERS)]
    smooth = [
        _prefilter_smooth(pyramid, value, 128, 64) + _lobes(bright, light, value, 128) for value in roughness[2:5]
    ]
    middle = _prefilter_gathered(base, roughness[5:8], 64)
    rough = _prefilter_gathered(base, roughness[8:], 32)
    peak = float(np.clip(base.max(), RANGE, GREATEST_RANGE))
    # GGX at the first step is narrower than a texel.
    layers = [_encode_bright(_resample(layer, SIZE), peak) for layer in (base, base, *smooth, *middle, *rough)]
    directions = octahedral_directions(base.shape[0]).reshape(-1, 3)
    weight = solid_angles(base.shape[0]).reshape(-1, 1) * (len(directions) / (4.0 * np.pi))
    irradiance = irradiance_harmonics(np.asarray(even.reshape(-1, 3) * weight, np.float32), directions)
    if len(bright):
        sun = irradiance_harmonics(np.asarray(light * (len(bright) / (4.0 * np.pi)), np.float32), bright)
        sun[4:] *= SUN_BAND
        irradiance += sun
    return Environment(np.stack(layers), irradiance, peak)


@cache
def studio() -> Environment:
    """The built-in studio. Takes about a second of CPU the first time in a process."""
    base = studio_radiance(octahedral_directions(SIZE).reshape(-1, 3)).reshape(SIZE, SIZE, 3)
    pyramid = [base, _resample(base, 128), _resample(base, 64)]
    roughness = [layer / (LAYERS - 1) for layer in range(LAYERS)]
    smooth = [_prefilter_smooth(pyramid, value, 128, 32) for value in roughness[2:5]]
    rough = _prefilter_rough(roughness[5:], 32)
    # GGX at the first step is narrower than a texel.
    layers = [_encode(_resample(layer, SIZE)) for layer in (base, base, *smooth, *rough)]
    sphere = _fibonacci_sphere(32768)
    return Environment(np.stack(layers), irradiance_harmonics(studio_radiance(sphere), sphere))
