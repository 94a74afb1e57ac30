"""Pixels to the texture formats that graphics devices sample: a chain of mip levels, each coded in 4 x 4 blocks.

    role            format                                        bits per texel
    color           BC1 where that does, else BC7                 4 or 8
    color_alpha     BC7 (like color if all texels are opaque)     8
    mask            BC1 where that does, else BC7                 4 or 8
    normal          BC5: x in R, y in G; z = sqrt(1 - x² - y²)    8

"Where that does" is measured: an opaque texture is coded as BC1, which takes hardly any time, decoded again, and kept
if the peak signal-to-noise ratio of each channel is good enough (:data:`QUALITIES`). Textures of up to
:data:`MAX_PLAIN_TEXELS` texels (palettes, gradients, icons) stay RGBA: blocks would blur them and save nothing. A
texture of one colour becomes one texel.

Mip levels are made by exact area averages: of linear light where the texture is sRGB, weighted by alpha where there is
alpha (so that the colour behind transparent texels does not bleed), and of unit vectors for normals.

WebGPU wants sizes that are multiples of 4: other sizes are resampled to the next multiples, or stay RGBA up to
:data:`MAX_ODD_TEXELS` texels.

BC1 and BC7 come from etcpak (bc7enc for BC7). BC5 is coded here, since that is a few lines of numpy and 3 dB better
than etcpak's: endpoints are the least-squares fit of the block's values, or their extremes where that is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import etcpak
import numpy as np
from numpy.typing import NDArray

from farframe.asset.blocks import BlockFormat, decode_blocks
from farframe.asset.container import Texels
from farframe.asset.model import Texture
from farframe.asset.srgb import linear_of_srgb, srgb_of_linear

Role = Literal["color", "color_alpha", "normal", "mask"]
Quality = Literal["fast", "normal", "high"]
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

MAX_PLAIN_TEXELS = 32 * 32
"""Texels up to which a texture stays RGBA."""

MAX_ODD_TEXELS = 128 * 128
"""Texels up to which a texture stays RGBA if its size is no multiple of 4."""

BAND_ROWS = 256
"""Rows of a level that are worked on at a time; bounds the memory that goes into floating-point pixels."""

_BAND_BLOCKS = 1 << 14
_SIDE = 4


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """``bc1_decibels``: what each channel must reach for BC1 to do. ``partitions``: how many partitions BC7's mode 1
    (and 7, with alpha) tries; 0 leaves modes 5 and 6, four times as fast and 2 dB worse."""

    bc1_decibels: float
    partitions: int


QUALITIES: dict[Quality, QualitySettings] = {
    "fast": QualitySettings(36.0, 0),
    "normal": QualitySettings(38.0, 16),
    "high": QualitySettings(42.0, 64),
}


def compress_texture(texture: Texture, role: Role, quality: Quality = "normal") -> Texels:
    """Code a texture for what it is used as (see the module).

    Works on one thread and holds the interpreter's lock while it codes, a band of rows at a time: run several in
    processes. Needs about twice the texture's bytes beside it. Normals must not be sRGB: raises ``ValueError``, as it
    does for textures without pixels.
    """
    pixels = texture.pixels
    if pixels.ndim != 3 or pixels.shape[2] != 4 or 0 in pixels.shape or pixels.dtype != np.uint8:
        raise ValueError("a texture has (height, width, 4) bytes")
    if texture.srgb and role == "normal":
        raise ValueError("the texture of role normal is sRGB")
    settings = QUALITIES[quality]
    encoded = Texels(
        texture.name,
        "rgba8unorm",
        texture.srgb,
        pixels.shape[1],
        pixels.shape[0],
        texture.wrap_u,
        texture.wrap_v,
        texture.mag_filter,
        texture.min_filter,
        texture.mipmaps,
    )
    opaque = role != "color_alpha" or bool((pixels[..., 3] == 255).all())
    if _is_uniform(pixels, opaque):
        encoded.width = encoded.height = 1
        encoded.mips = [_with_alpha(pixels[:1, :1], opaque).tobytes()]
        return encoded
    height, width = pixels.shape[:2]
    odd = width % _SIDE or height % _SIDE
    average = _Average(texture.srgb, role, opaque)
    if width * height <= (MAX_ODD_TEXELS if odd else MAX_PLAIN_TEXELS):
        encoded.mips = [
            _with_alpha(level, opaque).tobytes() for level in _levels(pixels, average, all_levels=texture.mipmaps)
        ]
        return encoded
    if odd:
        width, height = _next_multiple(width), _next_multiple(height)
        pixels = average.resample(pixels, width, height)
        encoded.width, encoded.height = width, height
    levels = _levels(pixels, average, all_levels=texture.mipmaps)
    if role == "normal":
        encoded.format = "bc5-rg-unorm"
        encoded.mips = [encode_bc5(_padded(level)) for level in levels]
        return encoded
    levels = [_with_alpha(_padded(level), opaque) for level in levels]
    if opaque:
        first = _in_bands(levels[0], _bc1)
        if _worst_channel(levels[0], "bc1-rgba-unorm", first) >= settings.bc1_decibels:
            encoded.format = "bc1-rgba-unorm"
            encoded.mips = [first] + [_in_bands(level, _bc1) for level in levels[1:]]
            return encoded
    encoded.format = "bc7-rgba-unorm"
    parameters = etcpak.BC7CompressBlockParams()
    parameters.init_linear_weights()
    parameters.m_max_partitions = settings.partitions
    encoded.mips = [
        _in_bands(level, lambda data, width, height: etcpak.compress_bc7(data, width, height, parameters))
        for level in levels
    ]
    return encoded


def _bc1(data: bytes, width: int, height: int) -> bytes:
    return etcpak.compress_bc1(data, width, height)


def _in_bands(pixels: Pixels, encode: Callable[[bytes, int, int], bytes]) -> bytes:
    """Code a level a band of rows at a time, so that other threads get their turn in between."""
    height, width = pixels.shape[:2]
    rows = max(_SIDE, _BAND_BLOCKS * 16 // width // _SIDE * _SIDE)
    parts = []
    for first in range(0, height, rows):
        band = pixels[first : first + rows]
        parts.append(encode(band.tobytes(), width, len(band)))
    return b"".join(parts)


def decibels(wanted: Pixels, found: Pixels) -> list[float]:
    """The peak signal-to-noise ratio of each channel of two pictures; infinity where they are equal."""
    ratios = []
    for channel in range(wanted.shape[2]):
        total = 0
        for first in range(0, len(wanted), BAND_ROWS):
            rows = slice(first, first + BAND_ROWS)
            difference = wanted[rows, :, channel].astype(np.int32) - found[rows, :, channel]
            total += int((difference * difference).sum(dtype=np.int64))
        squared = total / (wanted.shape[0] * wanted.shape[1])
        ratios.append(float("inf") if squared == 0 else 10.0 * float(np.log10(255.0**2 / squared)))
    return ratios


def _worst_channel(pixels: Pixels, texture_format: BlockFormat, data: bytes) -> float:
    """The lowest peak signal-to-noise ratio among red, green and blue of coded pixels."""
    decoded = decode_blocks(texture_format, data, pixels.shape[1], pixels.shape[0])
    return min(decibels(pixels[..., :3], decoded[..., :3]))


def _is_uniform(pixels: Pixels, opaque: bool) -> bool:
    """Whether all texels are equal; alpha does not count for opaque textures."""
    channels = 3 if opaque else 4
    # Most textures differ within the first row: then the rest is not looked at.
    if (pixels[0, :, :channels] != pixels[0, 0, :channels]).any():
        return False
    return bool((pixels[..., :channels] == pixels[0, 0, :channels]).all())


def _with_alpha(pixels: Pixels, opaque: bool) -> Pixels:
    """The pixels, with alpha 255 if they are opaque."""
    if not opaque:
        return np.ascontiguousarray(pixels)
    result = np.array(pixels)
    result[..., 3] = 255
    return result


def _next_multiple(size: int) -> int:
    return -(-size // _SIDE) * _SIDE


def _padded(pixels: Pixels) -> Pixels:
    """The pixels with their last row and column repeated up to whole blocks."""
    height, width = pixels.shape[:2]
    below, right = -height % _SIDE, -width % _SIDE
    if not below and not right:
        return pixels
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")


def _levels(pixels: Pixels, average: _Average, *, all_levels: bool) -> list[Pixels]:
    """All mip levels down to one texel, or the first alone."""
    levels = [pixels]
    while all_levels and max(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        levels.append(average.halve(levels[-1], max(1, width // 2), max(1, height // 2)))
    return levels


class _Average:
    """How texels of a role are averaged: converted into the space in which sums mean something, and back."""

    def __init__(self, srgb: bool, role: Role, opaque: bool) -> None:
        self._enter: Callable[[Pixels], Floats]
        self._leave: Callable[[Floats], Pixels]
        if role == "normal":
            self._enter, self._leave = _vectors, _from_vectors
        else:
            self._enter = lambda pixels: _linear(pixels, srgb, opaque)
            self._leave = lambda values: _from_linear(values, srgb, opaque)

    def halve(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """The next mip level, of the given size."""
        source_height, source_width = pixels.shape[:2]
        if source_height != 2 * height:
            return self._leave(cv2.resize(self._enter(pixels), (width, height), interpolation=cv2.INTER_AREA))
        result = np.empty((height, width, 4), np.uint8)
        for first in range(0, height, BAND_ROWS):
            end = min(first + BAND_ROWS, height)
            band = self._enter(pixels[2 * first : 2 * end])
            if source_width == 2 * width:
                columns = band[:, 0::2] + band[:, 1::2]
                smaller = (columns[0::2] + columns[1::2]) * np.float32(0.25)
            else:
                smaller = cv2.resize(band, (width, end - first), interpolation=cv2.INTER_AREA)
            result[first:end] = self._leave(smaller)
        return result

    def resample(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """The pixels at a slightly larger size (by at most 3 texels a side).

        In bands of rows: a row of the result lies within one row of where it would be without resampling, plus what
        the size grew by, so that many rows more at each end of a band make it exact.
        """
        source_height, source_width = pixels.shape[:2]
        columns = _positions(width, source_width)
        rows = _positions(height, source_height)
        result = np.empty((height, width, 4), np.uint8)
        for first in range(0, height, BAND_ROWS):
            end = min(first + BAND_ROWS, height)
            low = max(int(np.floor(rows[first])), 0)
            high = min(int(np.floor(rows[end - 1])) + 2, source_height)
            band = self._enter(pixels[low:high])
            map_x = np.broadcast_to(columns, (end - first, width)).astype(np.float32)
            map_y = np.broadcast_to((rows[first:end] - low)[:, None], (end - first, width)).astype(np.float32)
            result[first:end] = self._leave(_sample(band, map_x, map_y))
        return result


def _positions(size: int, source_size: int) -> NDArray[np.float64]:
    """Where each texel's centre of the resampled row lies among the source's texels."""
    centers: NDArray[np.float64] = np.arange(size, dtype=np.float64) + 0.5
    centers *= source_size / size
    centers -= 0.5
    return centers


def _sample(values: Floats, map_x: Floats, map_y: Floats) -> Floats:
    """Bilinear samples, edges repeated. OpenCV's own remap rounds positions to 1/32 and sides to 32,767."""
    height, width = values.shape[:2]
    left = np.clip(np.floor(map_x[0]).astype(np.intp), 0, width - 1)
    right = np.minimum(left + 1, width - 1)
    top = np.clip(np.floor(map_y[:, 0]).astype(np.intp), 0, height - 1)
    bottom = np.minimum(top + 1, height - 1)
    across = np.clip(map_x[0] - left, 0.0, 1.0).astype(np.float32)[None, :, None]
    down = np.clip(map_y[:, 0] - top, 0.0, 1.0).astype(np.float32)[:, None, None]
    rows = values[top] * (1.0 - down) + values[bottom] * down
    result: Floats = rows[:, left] * (1.0 - across) + rows[:, right] * across
    return result


def _linear(pixels: Pixels, srgb: bool, opaque: bool) -> Floats:
    """Linear values, 0 to 1; colours multiplied by alpha where there is any."""
    values = np.empty(pixels.shape, np.float32)
    values[..., :3] = linear_of_srgb(pixels[..., :3]) if srgb else pixels[..., :3] * np.float32(1 / 255)
    values[..., 3] = 1.0 if opaque else pixels[..., 3] * np.float32(1 / 255)
    if not opaque:
        # What is fully transparent still counts a little: its colour is all that there is where nothing else is.
        values[..., :3] *= np.maximum(values[..., 3:], np.float32(1e-4))
    return values


def _from_linear(values: Floats, srgb: bool, opaque: bool) -> Pixels:
    """The bytes of linear values."""
    result = np.empty(values.shape, np.uint8)
    colors = values[..., :3] if opaque else values[..., :3] / np.maximum(values[..., 3:], np.float32(1e-4))
    result[..., :3] = srgb_of_linear(colors) if srgb else np.rint(colors.clip(0.0, 1.0) * 255.0)
    result[..., 3] = 255 if opaque else np.rint(np.clip(values[..., 3], 0.0, 1.0) * 255.0)
    return result


def _vectors(pixels: Pixels) -> Floats:
    """Unit vectors of a normal map (x, y, z and an unused 0)."""
    vectors = pixels.astype(np.float32) * np.float32(2 / 255) - np.float32(1.0)
    vectors[..., 3] = 0.0
    vectors[..., 2] = np.maximum(vectors[..., 2], 0.0)
    length = np.sqrt((vectors * vectors).sum(axis=2, keepdims=True))
    unit: Floats = vectors / np.maximum(length, 1e-6)
    return unit


def _from_vectors(vectors: Floats) -> Pixels:
    """A normal map of vectors, which need not be of unit length."""
    length = np.sqrt((vectors * vectors).sum(axis=2, keepdims=True))
    unit = vectors / np.maximum(length, np.float32(1e-6))
    result: Pixels = np.rint((unit + np.float32(1.0)) * np.float32(127.5)).astype(np.uint8)
    result[..., 3] = 255
    return result


def encode_bc5(pixels: Pixels) -> bytes:
    """R and G of (height, width, 4) pixels as BC5 blocks; sides are multiples of 4."""
    height, width = pixels.shape[:2]
    out = np.empty((height // 4, width // 4, 2), "<u8")
    band = max(1, _BAND_BLOCKS // (width // 4))
    for first in range(0, height // 4, band):
        rows = pixels[4 * first : 4 * (first + band), :, :2]
        count = len(rows) // 4
        blocks = rows.reshape(count, 4, width // 4, 4, 2).transpose(0, 2, 4, 1, 3).reshape(-1, 16)
        out[first : first + count] = _encode_bc4(blocks).reshape(count, width // 4, 2)
    return out.tobytes()


def _encode_bc4(blocks: Pixels) -> NDArray[np.uint64]:
    """(n,) 64-bit words of (n, 16) values, each in the mode of eight values between two endpoints."""
    values = blocks.astype(np.float32)
    low, high = values.min(axis=1), values.max(axis=1)
    steps, error = _bc4_steps(values, low, high)
    # One least-squares fit of both endpoints to the steps found: v = high - (high - low) * step / 7.
    weight = steps * np.float32(1 / 7)
    other = 1.0 - weight
    aa, bb, ab = (other * other).sum(axis=1), (weight * weight).sum(axis=1), (other * weight).sum(axis=1)
    av, bv = (other * values).sum(axis=1), (weight * values).sum(axis=1)
    determinant = aa * bb - ab * ab
    solvable = determinant > 1e-3
    determinant = np.where(solvable, determinant, 1.0)
    fitted_high = np.clip(np.rint((bb * av - ab * bv) / determinant), 0.0, 255.0)
    fitted_low = np.clip(np.rint((aa * bv - ab * av) / determinant), 0.0, 255.0)
    fitted_steps, fitted_error = _bc4_steps(values, fitted_low, fitted_high)
    better = solvable & (fitted_high > fitted_low) & (fitted_error < error)
    low, high = np.where(better, fitted_low, low), np.where(better, fitted_high, high)
    steps = np.where(better[:, None], fitted_steps, steps)
    # Codes: 0 is the first endpoint, 1 the second, 2 to 7 lie between. Equal endpoints (another mode) have code 0 only.
    codes = np.where(steps == 0, 0, np.where(steps == 7, 1, steps + 1)).astype(np.uint64)
    codes[high == low] = 0
    words: NDArray[np.uint64] = high.astype(np.uint64) | low.astype(np.uint64) << np.uint64(8)
    for texel in range(16):
        words |= codes[:, texel] << np.uint64(16 + 3 * texel)
    return words


def _bc4_steps(values: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """For each value the nearest of the eight steps from ``high`` (0) to ``low`` (7), and each block's squared
    error."""
    spread = high - low
    scale = 7.0 / np.maximum(spread, 1.0)
    steps = np.clip(np.rint((high[:, None] - values) * scale[:, None]), 0.0, 7.0)
    difference = values - (high[:, None] - steps * (spread / 7.0)[:, None])
    return steps, (difference * difference).sum(axis=1)
