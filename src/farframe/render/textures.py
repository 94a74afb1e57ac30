"""Textures on their way to the device, and on it: mip chains, filtered in linear light, and what materials name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class TextureResource:
    """A texture on the device. Made by :meth:`Engine.upload_texture`, freed by :meth:`Engine.release_texture`.

    ``cube``: six faces; ``srgb``: whether its colours are encoded so, ``None`` where its file does not say and it
    depends on what they are used for; ``channels``: how many hold anything; ``size_bytes`` on the device.
    """

    name: str
    texture: Any
    width: int
    height: int
    cube: bool
    srgb: bool | None
    channels: int
    format: str
    levels: int
    size_bytes: int
    released: bool = False

    def view(self, *, color: bool) -> Any:
        """What a shader binds, that reads colours or plain numbers."""
        srgb = color if self.srgb is None else self.srgb
        kind = self.format + "-srgb" if srgb and self.format in SRGB_FORMATS else self.format
        return self.texture.create_view(format=kind, dimension="cube" if self.cube else "2d")

    def destroy(self) -> None:
        """Free it."""
        self.texture.destroy()
        self.released = True
        self.size_bytes = 0


SRGB_FORMATS = frozenset({"rgba8unorm", "bc1-rgba-unorm", "bc2-rgba-unorm", "bc3-rgba-unorm", "bc7-rgba-unorm"})
"""Formats of which the device knows a form that decodes sRGB."""


@cache
def _decode_table() -> NDArray[np.uint16]:
    """sRGB byte to linear, 16 bits."""
    value = np.arange(256) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.rint(linear * 65535.0).astype(np.uint16)


@cache
def _encode_table() -> NDArray[np.uint8]:
    """Linear, 16 bits, to sRGB byte."""
    linear = np.arange(65536) / 65535.0
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1.0 / 2.4) - 0.055)
    return np.rint(value * 255.0).astype(np.uint8)


def mip_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """(width, height) of each level from the full size down to 1 x 1."""
    sizes = [(width, height)]
    while sizes[-1] != (1, 1):
        width, height = sizes[-1]
        sizes.append((max(1, width // 2), max(1, height // 2)))
    return sizes


def mip_chain(pixels: NDArray[np.uint8], *, srgb: bool) -> Iterator[NDArray[np.uint8]]:
    """The levels (h, w, 4) uint8 of a texture, full size first; each is the area average of the one before.

    sRGB colours are averaged in linear light at 16 bits; alpha and data textures as they are.
    """
    height, width = pixels.shape[:2]
    yield pixels
    wide: NDArray[np.uint16] = np.empty(pixels.shape, np.uint16)
    if srgb:
        wide[..., :3] = _decode_table()[pixels[..., :3]]
    else:
        wide[..., :3] = pixels[..., :3].astype(np.uint16) * 257
    wide[..., 3] = pixels[..., 3].astype(np.uint16) * 257
    for size in mip_sizes(width, height)[1:]:
        wide = np.asarray(cv2.resize(wide, size, interpolation=cv2.INTER_AREA), np.uint16).reshape(size[1], size[0], 4)
        level = np.empty(wide.shape, np.uint8)
        if srgb:
            level[..., :3] = _encode_table()[wide[..., :3]]
        else:
            level[..., :3] = (wide[..., :3].astype(np.uint32) + 128) // 257
        level[..., 3] = (wide[..., 3].astype(np.uint32) + 128) // 257
        yield level
