"""Lights that stand in a scene, as tables on the device: each fragment goes through those that reach its cell alone.

    scene.lights --pack--> rows of LIGHT_DTYPE: directional ones first, then those whose sphere some view meets
                 --list--> by view, a grid of cells (tiles of the picture times slices of depth): which rows reach each

A light without a cutoff ends where its irradiance falls to :data:`LEAST_IRRADIANCE`, smoothly (the window of Karis
2013), so what lights cost depends on how many reach what is seen. A scene without lights has no rows, and its surfaces
are drawn by shaders that know nothing of all this. Positions are relative to the placement's origin. Pure numpy but for
:class:`LightTables`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.protocol.records import View
from farframe.render.environment import cube_to_octahedral, encode_roots
from farframe.render.frame import VIEW_DTYPE, Viewport, rotation_matrix
from farframe.render.pipelines import LightFeature
from farframe.scene.lights import LightKind, PlacedLight

LIGHT_DTYPE = np.dtype(
    [
        ("position", "<f4", 3),
        ("fade", "<f4"),
        ("color", "<f4", 3),
        ("radius", "<f4"),
        ("direction", "<f4", 3),
        ("exponent", "<f4"),
        ("tube", "<f4", 3),
        ("image", "<f4"),
        ("cutoff", "<f4", 2),
        ("cone", "<f4", 2),
        ("right", "<f4", 3),
        ("spread", "<f4"),
        ("up", "<f4", 3),
        ("half_tube", "<f4"),
    ]
)
"""The structure ``Light`` of ``shaders/lights.wgsl``, 112 bytes."""

LEAST_IRRADIANCE = 0.002
"""What a light may still add, exposure included, where it ends: a white surface gets an eighth of a step of 8 bits."""
TILE_PIXELS = 64
SLICES = 12
MAX_ENTRIES = 400_000
"""In all lists of a picture. Where more lights reach more cells, cells are made larger."""
IMAGE_SIZE = 256
"""Texels along the edges of projected images on the device."""
MAX_IMAGES = 64
"""Projected images on the device at a time, 256 kB each; lights beyond shine without theirs."""


@dataclass(frozen=True, slots=True, eq=False)
class LightImage:
    """What a light projects, made by :func:`prepare_light_image`. ``texels``: (IMAGE_SIZE, IMAGE_SIZE, 4) uint8 roots;
    ``peak``: the factor of their squares; ``around``: it was a cube map, for point lights, else for spot lights."""

    texels: NDArray[np.uint8]
    peak: float
    around: bool


def linear_pixels(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Linear RGB (..., 3) float32 of an image: uint8 is taken for sRGB, floats for linear already; grey (..., 1) or
    (..., 2) and RGBA (..., 4) are taken, their alpha is not. Raises ``ValueError`` for other shapes."""
    if not 1 <= pixels.shape[-1] <= 4:
        raise ValueError("an image has one to four channels")
    color = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    if color.dtype == np.uint8:
        share = np.arange(256) / 255.0
        table = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(np.float32)
        return np.asarray(table[color], np.float32)
    linear = np.nan_to_num(np.asarray(color, np.float32), nan=0.0, posinf=6e4, neginf=0.0)
    return np.clip(linear, 0.0, 6e4)


def resized(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """An image (h, w, 3) at another size, by a tent as wide as a texel of the coarser of both."""

    def matrix(old: int, new: int) -> NDArray[np.float32]:
        position = (np.arange(new) + 0.5) * old / new - 0.5
        away = np.abs(position[:, None] - np.arange(old)) / max(1.0, old / new)
        weight = np.maximum(0.0, 1.0 - away)
        return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float32)

    rows = np.tensordot(matrix(image.shape[0], height), image, axes=(1, 0))
    columns = np.tensordot(matrix(image.shape[1], width), rows, axes=(1, 1))
    return np.ascontiguousarray(np.moveaxis(columns, 0, 1), np.float32)


def prepare_light_image(pixels: NDArray[Any]) -> LightImage:
    """What a spot light projects, from (h, w, c), or a point light, from the faces (6, h, w, c) of a cube map in the
    order +X -X +Y -Y +Z -Z. See :func:`linear_pixels`. From any thread. Raises ``ValueError`` for other shapes."""
    if pixels.ndim not in (3, 4) or 0 in pixels.shape or (pixels.ndim == 4 and len(pixels) != 6):
        raise ValueError("a light projects an image (h, w, c) or the faces (6, h, w, c) of a cube map")
    linear = linear_pixels(pixels)
    around = pixels.ndim == 4
    image = cube_to_octahedral(linear, IMAGE_SIZE) if around else resized(linear, IMAGE_SIZE, IMAGE_SIZE)
    peak = max(float(image.max()), 1e-6)
    return LightImage(encode_roots(image, peak), peak, around)


def reach_of(placed: PlacedLight, exposure: float) -> float:
    """From how far a point or spot light can be seen on a surface, in metres."""
    light = placed.light
    peak = light.intensity * max(light.color) * exposure
    if peak <= 0.0:
        return 0.0
    if light.attenuation_cutoff[1] > 0.0:
        return light.attenuation_cutoff[1] + 0.5 * light.length
    return math.sqrt(peak / LEAST_IRRADIANCE) + light.radius + 0.5 * light.length


@dataclass(frozen=True, slots=True)
class PackedLights:
    """Rows of lights, and where they are. ``everywhere``: how many directional ones come first; ``center`` (n, 3) and
    ``reach`` (n,): spheres around all that each of the others lights, float64, of the n rows that follow."""

    rows: NDArray[np.void]
    everywhere: int
    center: NDArray[np.float64]
    reach: NDArray[np.float64]


def pack_lights(
    lights: Sequence[PlacedLight], origin: NDArray[np.float64], exposure: float, layers: Mapping[int, tuple[int, float]]
) -> PackedLights:
    """The rows of all lights that shine. ``layers``: by texture id, the layer of a projected image and its peak."""
    shining = [
        placed
        for placed in lights
        if placed.light.enabled and placed.light.intensity * max(placed.light.color) * exposure > 0.0
    ]
    shining.sort(key=lambda placed: placed.light.kind is not LightKind.DIRECTIONAL)
    rows = np.zeros(len(shining), LIGHT_DTYPE)
    everywhere = 0
    centers, reaches = [], []
    for row, placed in zip(rows, shining, strict=True):
        light = placed.light
        right, up, back = (np.array(axis, np.float64) for axis in placed.axes)
        color = np.array(light.color) * (light.intensity * exposure)
        row["direction"], row["cone"], row["exponent"], row["image"] = -back, (0.0, 1.0), 1.0, -1.0
        if light.kind is LightKind.DIRECTIONAL:
            everywhere += 1
            row["color"] = color
            continue
        position = np.array(placed.position) - origin
        center, reach = position, reach_of(placed, exposure)
        if light.projected_texture in layers:
            layer, peak = layers[light.projected_texture]
            row["image"], color = layer, color * peak
        row["position"], row["color"], row["radius"] = position, color, light.radius
        row["right"], row["up"] = right, up
        start, end = light.attenuation_cutoff
        if end > 0.0:
            row["cutoff"] = (end, 1.0 / max(end - start, 1e-6))
        else:
            row["fade"] = reach**-4.0
        if light.kind is LightKind.SPOT:
            inner, outer = (math.radians(angle) / 2.0 for angle in light.spot_angle_deg)
            factor = 1.0 / max(math.cos(inner) - math.cos(outer), 1e-4)
            row["cone"] = (factor, -math.cos(outer) * factor)
            row["exponent"] = light.falloff_exponent
            row["spread"] = 1.0 / max(math.tan(min(outer, 1.55)), 1e-6)
            # The sphere around a cone: through its tip and rim, or around its rim where it is wide.
            if outer < math.pi / 4:
                reach /= 2.0 * math.cos(outer)
                center = position - back * reach
            else:
                center = position - back * (reach * math.cos(outer))
                reach *= math.sin(outer)
            reach += light.radius
        else:
            row["tube"], row["half_tube"] = right * (light.length / 2.0), light.length / 2.0
        centers.append(center)
        reaches.append(reach)
    return PackedLights(rows, everywhere, np.array(centers).reshape(-1, 3), np.array(reaches))


def features_of(rows: NDArray[np.void]) -> LightFeature:
    """What shaders must be able to do for lights of these rows, directional ones aside."""
    found = LightFeature.ANY
    if (rows["radius"] > 0.0).any() or (rows["half_tube"] > 0.0).any() or (rows["image"] >= 0.0).any():
        found |= LightFeature.SHAPES
    if (rows["cone"][:, 0] > 0.0).any():
        found |= LightFeature.CONES
    return found


@dataclass(frozen=True, slots=True)
class LightGrid:
    """The lists of a view. ``start`` (cells + 1,): where each cell's list begins in ``rows``, rows of lights."""

    tile: int
    columns: int
    lines: int
    slices: int
    scale: float
    bias: float
    start: NDArray[np.int64]
    rows: NDArray[np.int64]


def _edges(
    across: NDArray[np.float64], depth: NDArray[np.float64], reach: NDArray[np.float64], orthographic: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Between which tangents (or metres) spheres lie that are ``across`` from the axis and ``depth`` ahead."""
    if orthographic:
        return across - reach, across + reach
    away = np.hypot(across, depth)
    angle = np.arctan2(across, depth)
    half = np.where(away > reach, np.arcsin(np.minimum(reach / np.maximum(away, 1e-12), 1.0)), 2.0 * math.pi)
    limit = math.pi / 2 - 1e-3
    low = np.where(angle - half < -limit, -np.inf, np.tan(np.clip(angle - half, -limit, limit)))
    high = np.where(angle + half > limit, np.inf, np.tan(np.clip(angle + half, -limit, limit)))
    return low, high


def light_grid(
    packed: PackedLights, view: View, port: Viewport, origin: NDArray[np.float64], tile: int = TILE_PIXELS
) -> LightGrid:
    """Which lights reach which cells of a view: ``tile`` pixels wide and high, sliced by the logarithm of depth."""
    rotation = rotation_matrix(view.orientation)
    local = (packed.center - (np.array(view.position) - origin)) @ rotation
    depth, reach = -local[:, 2], packed.reach
    left, right, up, down = view.tangents
    low_x, high_x = _edges(local[:, 0], depth, reach, view.orthographic)
    low_y, high_y = _edges(local[:, 1], depth, reach, view.orthographic)
    near, far = np.maximum(depth - reach, view.near), np.minimum(depth + reach, view.far)
    seen = np.flatnonzero((near < far) & (low_x < right) & (high_x > left) & (low_y < up) & (high_y > down))
    columns, lines = -(-port.width // tile), -(-port.height // tile)
    least = max(float(near[seen].min(initial=view.far)), view.near)
    most = max(float(far[seen].max(initial=view.near)), least * 1.001)
    scale = SLICES / math.log2(most / least)
    bias = -math.log2(least) * scale

    def cells(value: NDArray[np.float64], factor: float, count: int) -> NDArray[np.int64]:
        return np.clip(np.floor(np.nan_to_num(value * factor, posinf=1e9, neginf=-1e9)), 0, count - 1).astype(np.int64)

    pixel = port.width / (right - left) / tile
    first_column, last_column = (cells(edge[seen] - left, pixel, columns) for edge in (low_x, high_x))
    pixel = port.height / (up - down) / tile
    first_line, last_line = (cells(up - edge[seen], pixel, lines) for edge in (high_y, low_y))
    first_slice, last_slice = (cells(np.log2(edge[seen]) * scale + bias, 1.0, SLICES) for edge in (near, far))
    size = np.stack([last_slice - first_slice, last_line - first_line, last_column - first_column], axis=1) + 1
    count = size.prod(axis=1)
    if count.sum() > MAX_ENTRIES and tile < max(port.width, port.height):
        return light_grid(packed, view, port, origin, tile * 2)
    light = np.repeat(np.arange(len(seen)), count)
    place = np.arange(len(light)) - np.repeat(np.cumsum(count) - count, count)
    column = first_column[light] + place % size[light, 2]
    place //= size[light, 2]
    line = first_line[light] + place % size[light, 1]
    layer = first_slice[light] + place // size[light, 1]
    cell = (layer * lines + line) * columns + column
    total = SLICES * lines * columns
    order = np.argsort(cell.astype(np.uint16) if total <= 0x10000 else cell, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=total))])
    return LightGrid(tile, columns, lines, SLICES, scale, bias, start, seen[light[order]] + packed.everywhere)


class LightTables:
    """The buffers and images of lights on a device. ``version`` grows whenever one of them is another object."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.version = 0
        self.rows = self._buffer(LIGHT_DTYPE.itemsize)
        self.lists = self._buffer(16)
        self.images = self._texture(1)
        self._layers: dict[int, tuple[LightImage, int]] = {}

    def _buffer(self, size: int) -> Any:
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST
        return self._device.create_buffer(label="lights", size=size, usage=usage)

    def _texture(self, layers: int) -> Any:
        return self._device.create_texture(
            label="images of lights",
            size=(IMAGE_SIZE, IMAGE_SIZE, layers),
            format="rgba8unorm",
            usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST,
        )

    def update(
        self,
        lights: Sequence[PlacedLight],
        images: Mapping[int, LightImage],
        exposure: float,
        views: tuple[View, ...],
        ports: tuple[Viewport, ...],
        origin: NDArray[np.float64],
        records: NDArray[np.void],
    ) -> LightFeature:
        """Bring lights onto the device, as far as ``views`` see their light, and tell each view's row of
        :data:`~farframe.render.frame.VIEW_DTYPE` in ``records`` where its lists are. Returns what shaders need."""
        if not lights:
            return LightFeature.NONE
        assert records.dtype == VIEW_DTYPE
        packed = pack_lights(lights, origin, exposure, self._image_layers(lights, images))
        grids = [light_grid(packed, view, port, origin) for view, port in zip(views, ports, strict=True)]
        if not packed.everywhere and not any(len(grid.rows) for grid in grids):
            return LightFeature.NONE
        first_cell = 0
        first_entry = sum(len(grid.start) for grid in grids)
        starts, entries = [], []
        for record, grid in zip(records, grids, strict=True):
            record["light_grid"] = (1.0 / grid.tile, grid.columns, grid.scale, grid.bias)
            record["light_cells"] = (first_cell, grid.lines, grid.slices, packed.everywhere)
            starts.append(grid.start + first_entry)
            entries.append(grid.rows)
            first_cell += len(grid.start)
            first_entry += len(grid.rows)
        lists = np.concatenate([*starts, *entries]).astype(np.uint32)
        self.rows = self._filled(self.rows, packed.rows)
        self.lists = self._filled(self.lists, lists)
        return features_of(packed.rows[np.unique(np.concatenate(entries))])

    def _filled(self, buffer: Any, data: NDArray[Any]) -> Any:
        if buffer.size < data.nbytes:
            buffer.destroy()
            buffer = self._buffer(1 << int(data.nbytes - 1).bit_length())
            self.version += 1
        self._device.queue.write_buffer(buffer, 0, data.view(np.uint8))
        return buffer

    def _image_layers(
        self, lights: Sequence[PlacedLight], images: Mapping[int, LightImage]
    ) -> dict[int, tuple[int, float]]:
        """Layers and peaks of the images that ``lights`` project, each of a kind that its light can, on the device."""
        wanted: dict[int, LightImage] = {}
        for placed in lights:
            image = images.get(placed.light.projected_texture)
            if (
                image is not None
                and image.around == (placed.light.kind is LightKind.POINT)
                and placed.light.kind is not LightKind.DIRECTIONAL
                and len(wanted) < MAX_IMAGES
            ):
                wanted[placed.light.projected_texture] = image
        if any(self._layers.get(key, (None,))[0] is not image for key, image in wanted.items()):
            self.images.destroy()
            self.images = self._texture(len(wanted))
            self.version += 1
            self._layers = {}
            for layer, (key, image) in enumerate(wanted.items()):
                self._layers[key] = (image, layer)
                self._device.queue.write_texture(
                    {"texture": self.images, "origin": (0, 0, layer)},
                    image.texels,
                    {"bytes_per_row": IMAGE_SIZE * 4, "rows_per_image": IMAGE_SIZE},
                    (IMAGE_SIZE, IMAGE_SIZE, 1),
                )
        return {key: (self._layers[key][1], image.peak) for key, image in wanted.items()}
