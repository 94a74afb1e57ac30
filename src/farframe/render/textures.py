"""Textures on their way to the device, and on it: mip chains, filtered in linear light, and what materials name."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.asset.textures_file import BLOCK_SIZES, TextureData
from farframe.protocol.errors import FarframeError, Result

CHUNK_BYTES = 8 << 20
"""Bytes per step of an upload: a few milliseconds, so that frames can be drawn in between."""


@dataclass(slots=True, eq=False)
class TextureResource:
    """A texture on the device. Made by :meth:`Engine.upload_texture`, freed by :meth:`Engine.release_texture`.

    ``cube``: six faces; ``srgb``: whether its colours are encoded so, ``None`` where its file does not say and it
    depends on what they are used for; ``channels``: how many hold anything; ``size_bytes`` on the device.

    Devices decode sRGB or do not as the texture's format says. What is used for colours and for numbers is there in
    two forms, of which the second is a copy made on the device at its first use.
    """

    name: str
    device: Any
    forms: dict[bool, Any]
    width: int
    height: int
    cube: bool
    srgb: bool | None
    channels: int
    format: str
    levels: int
    size_bytes: int
    released: bool = False
    used: set[bool] = field(default_factory=set)

    def view(self, *, color: bool) -> Any:
        """What a shader binds that reads colours, or plain numbers."""
        srgb = (color if self.srgb is None else self.srgb) and self.format in SRGB_FORMATS
        if srgb not in self.forms:
            self.forms[srgb] = self._copy(srgb)
            if not self.used:
                self.forms.pop(not srgb).destroy()
            else:
                self.size_bytes *= 2
        self.used.add(srgb)
        return self.forms[srgb].create_view(dimension="cube" if self.cube else "2d")

    def _copy(self, srgb: bool) -> Any:
        source = self.forms[not srgb]
        faces = 6 if self.cube else 1
        copy = _create(self.device, self.name, self.format, (self.width, self.height, faces), self.levels, srgb=srgb)
        encoder = self.device.create_command_encoder()
        for level in range(self.levels):
            width, height = max(self.width >> level, 1), max(self.height >> level, 1)
            if self.format in BLOCK_SIZES:
                width, height = -(-width // 4) * 4, -(-height // 4) * 4
            encoder.copy_texture_to_texture(
                {"texture": source, "mip_level": level}, {"texture": copy, "mip_level": level}, (width, height, faces)
            )
        self.device.queue.submit([encoder.finish()])
        return copy

    def destroy(self) -> None:
        """Free it."""
        for texture in self.forms.values():
            texture.destroy()
        self.forms.clear()
        self.released = True
        self.size_bytes = 0


def _create(device: Any, name: str, kind: str, size: tuple[int, int, int], levels: int, *, srgb: bool) -> Any:
    usage = wgpu.TextureUsage
    return device.create_texture(
        label=name,
        size=size,
        format=kind + "-srgb" if srgb else kind,
        mip_level_count=levels,
        usage=usage.TEXTURE_BINDING | usage.COPY_DST | usage.COPY_SRC,
    )


def upload_steps(device: Any, data: TextureData) -> Generator[float | TextureResource, None, None]:
    """Bring a texture onto the device in steps: yields the share done, at last the resource.

    Blocks whose format is not the device's to read, or whose full size is not in whole blocks, must have been decoded
    (:meth:`TextureData.decoded`). Raises ``ExceedsMemoryLimit`` before the first step where the device takes no such
    size. Closing the iterator early frees what was uploaded.
    """
    side = int(device.limits["max-texture-dimension-2d"])
    if max(data.width, data.height) > side:
        raise FarframeError(
            Result.EXCEEDS_MEMORY_LIMIT,
            f"The texture {data.name!r} of {data.width} x {data.height} texels is larger than this device's {side}.",
            next_step="Scale it down.",
        )
    srgb = data.srgb is not False and data.format in SRGB_FORMATS
    size = (data.width, data.height, data.faces)
    texture = _create(device, data.name, data.format, size, len(data.levels), srgb=srgb)
    complete = False
    try:
        done, total = 0, max(1, data.size_bytes)
        blocks = data.format in BLOCK_SIZES
        for level, content in enumerate(data.levels):
            width, height = data.level_size(level)
            if blocks:
                width, height = -(-width // 4) * 4, -(-height // 4) * 4
            rows = height // 4 if blocks else height
            row_bytes = len(content) // (rows * data.faces)
            step = max(1, CHUNK_BYTES // row_bytes)
            memory = memoryview(content)
            for face in range(data.faces):
                for first in range(0, rows, step):
                    last = min(rows, first + step)
                    chunk = memory[(face * rows + first) * row_bytes : (face * rows + last) * row_bytes]
                    unit = 4 if blocks else 1
                    device.queue.write_texture(
                        {"texture": texture, "mip_level": level, "origin": (0, first * unit, face)},
                        chunk,
                        {"bytes_per_row": row_bytes},
                        (width, (last - first) * unit, 1),
                    )
                    done += len(chunk)
                    yield min(done / total, 0.99)
        complete = True
    finally:
        if not complete:
            texture.destroy()
    yield TextureResource(
        name=data.name,
        device=device,
        forms={srgb: texture},
        width=data.width,
        height=data.height,
        cube=data.cube,
        srgb=data.srgb,
        channels=data.channels,
        format=data.format,
        levels=len(data.levels),
        size_bytes=data.size_bytes,
    )


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
