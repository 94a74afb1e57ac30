"""Textures on their way into an asset: what each is for, its mip levels, coded where a coder is asked for."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from farframe.asset.container import Texels
from farframe.asset.model import Model, Texture

Role = Literal["color", "color_alpha", "normal", "mask"]


def texture_role(model: Model, number: int) -> Role:
    """What the materials use a texture for: normals, colours (with alpha where it shows), or other numbers."""
    role: Role = "mask"
    for material in model.materials:
        if material.normal_texture is not None and material.normal_texture.texture == number:
            return "normal"
        if material.base_color_texture is not None and material.base_color_texture.texture == number:
            if material.alpha_mode != "opaque":
                return "color_alpha"
            role = "color"
        elif material.emissive_texture is not None and material.emissive_texture.texture == number:
            role = "color"
    return role


def encoded_texture(texture: Texture, role: Role, *, compress: bool) -> Texels:
    """The texture as the asset keeps it."""
    if compress:
        from farframe.convert.texture_compression import compress_texture

        return compress_texture(texture, role)
    return plain_texture(texture)


def plain_texture(texture: Texture) -> Texels:
    """The texture as pixels, with mip levels that are means of light, not of its coding."""
    height, width = texture.pixels.shape[:2]
    levels = [np.ascontiguousarray(texture.pixels, np.uint8)]
    if texture.mipmaps:
        light = _decoded(levels[0], texture.srgb)
        while max(light.shape[:2]) > 1:
            light = _halved(light)
            levels.append(_encoded(light, texture.srgb))
    return Texels(
        texture.name,
        "rgba8unorm",
        texture.srgb,
        width,
        height,
        texture.wrap_u,
        texture.wrap_v,
        texture.mag_filter,
        texture.min_filter,
        texture.mipmaps,
        [level.tobytes() for level in levels],
    )


def _halved(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the size, rounded down, by the mean of what falls on each pixel."""
    for axis in (0, 1):
        size = light.shape[axis]
        if size == 1:
            continue
        # The last of an odd number of rows goes to the last pixel, too.
        even = light.take(np.arange(0, size - 1, 2), axis) + light.take(np.arange(1, size, 2), axis)
        even *= np.float32(0.5)
        if size % 2:
            last = [slice(None)] * 3
            last[axis] = slice(-1, None)
            even[tuple(last)] = (even[tuple(last)] * 2 + light.take([size - 1], axis)) / np.float32(3.0)
        light = even
    return light


def _decoded(pixels: NDArray[np.uint8], srgb: bool) -> NDArray[np.float32]:
    values = np.arange(256, dtype=np.float64) / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) if srgb else values
    light = linear.astype(np.float32)[pixels]
    light[..., 3] = pixels[..., 3] * np.float32(1 / 255)
    return light


def _encoded(light: NDArray[np.float32], srgb: bool) -> NDArray[np.uint8]:
    coded = light.copy()
    if srgb:
        color = np.clip(light[..., :3], 0.0, 1.0)
        coded[..., :3] = np.where(color <= 0.0031308, color * 12.92, 1.055 * color ** np.float32(1 / 2.4) - 0.055)
    pixels: NDArray[np.uint8] = np.rint(np.clip(coded, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
    return pixels
