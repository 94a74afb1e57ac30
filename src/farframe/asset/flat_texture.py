"""A texture in a file between the sandbox and the server: a head that says what it is, then the bytes of its levels.

The sandbox is not trusted: what it wrote is held against what such a texture must have before any of it is used.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from farframe.asset.images import MAX_IMAGE_SIDE
from farframe.asset.textures_file import BLOCK_SIZES, MAX_TEXTURE_BYTES, TEXEL_SIZES, TextureData, level_bytes
from farframe.protocol.errors import FarframeError, Result

_MAGIC = b"FFTEX001"
_LENGTH = struct.Struct("<I")
_MAX_HEAD_BYTES = 65_536
_MAX_NAME_CHARACTERS = 4096


class _Head(msgspec.Struct, frozen=True):
    """What a texture is but for its texels."""

    name: str
    format: str
    width: int
    height: int
    faces: int
    levels: int
    srgb: bool | None


def write_flat_texture(texture: TextureData, path: Path) -> None:
    """Write a texture to a new file."""
    head = _Head(
        texture.name[:_MAX_NAME_CHARACTERS],
        texture.format,
        texture.width,
        texture.height,
        texture.faces,
        len(texture.levels),
        texture.srgb,
    )
    encoded = msgspec.msgpack.encode(head)
    with path.open("xb") as file:
        file.write(_MAGIC + _LENGTH.pack(len(encoded)) + encoded)
        for level in texture.levels:
            file.write(level)


def read_flat_texture(file: BinaryIO) -> TextureData:
    """The texture in a file that :func:`write_flat_texture` wrote, from its beginning. Raises FileCorrupt."""
    try:
        file.seek(0)
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("another kind of file")
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        if length > _MAX_HEAD_BYTES:
            raise ValueError("a head too large")
        head = msgspec.msgpack.decode(file.read(length), type=_Head)
        if (
            (head.format not in BLOCK_SIZES and head.format not in TEXEL_SIZES)
            or head.faces not in (1, 6)
            or not 0 < min(head.width, head.height) <= max(head.width, head.height) <= MAX_IMAGE_SIDE
            or not 0 < head.levels <= max(head.width, head.height).bit_length()
        ):
            raise ValueError("no such texture")
        sizes = [
            head.faces * level_bytes(head.format, max(head.width >> level, 1), max(head.height >> level, 1))
            for level in range(head.levels)
        ]
        if sum(sizes) > MAX_TEXTURE_BYTES:
            raise ValueError("too large")
        levels = tuple(file.read(size) for size in sizes)
        if [len(level) for level in levels] != sizes or file.read(1):
            raise ValueError("another size")
    except (OSError, ValueError, struct.error, msgspec.MsgspecError):
        raise FarframeError(Result.FILE_CORRUPT, "The texture could not be read.", next_step="Save it again.") from None
    return TextureData(head.name, head.format, head.width, head.height, head.faces, levels, head.srgb)
