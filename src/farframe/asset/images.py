"""PNG, JPEG, WebP and KTX2 (Basis Universal) bytes to RGBA pixels, with the size looked at before anything is decoded.

Of KTX2 files those are read that glTF allows (KHR_texture_basisu): one two-dimensional image in ETC1S or UASTC, with
BasisLZ or Zstandard on top; the full size alone is decoded, since levels are made anew.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from farframe.asset.budget import Budget
from farframe.protocol.errors import FarframeError, Result

_KTX2_MAGIC = b"\xabKTX 20\xbb\r\n\x1a\n"
_KTX2_HEAD = struct.Struct("<12s9I4I2Q")
_KTX2_LEVEL = struct.Struct("<3Q")
_BASIS_LZ, _ZSTANDARD = 1, 2
_MAX_KTX2_LEVELS = 32

MAX_IMAGE_SIDE = 16_384
"""Pixels along one side: what graphics devices take at most."""

_DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    PillowImage.DecompressionBombError,
)
"""What Pillow raises for broken bytes; it has no one error of its own."""


class EncodedImage:
    """An image whose header has been read and charged to a budget; the pixels have not been decoded yet."""

    def __init__(self, data: bytes, name: str, budget: Budget) -> None:
        self.name = name
        # The plugins are called directly: Pillow's own opener guesses among many formats and guards the size by a
        # process-wide setting; here two formats are allowed and the limits come with the call.
        try:
            if data[:12] == _KTX2_MAGIC:
                self._data: bytes | None = data
                self.width, self.height = _ktx2_size(data, name)
            elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
                # The plugin makes room for the pixels as soon as it is asked for the size.
                self._data = data
                self.width, self.height = _webp_size(data)
            else:
                self._data = None
                if data[:8] == b"\x89PNG\r\n\x1a\n":
                    self._image: PillowImage.Image = PngImagePlugin.PngImageFile(io.BytesIO(data))
                elif data[:3] == b"\xff\xd8\xff":
                    self._image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
                else:
                    raise FarframeError(
                        Result.FILE_CORRUPT,
                        f"{name} is neither PNG, JPEG, WebP nor KTX2.",
                        next_step="Convert the texture to PNG.",
                    )
                self.width, self.height = self._image.size
        except _DECODE_ERRORS:
            raise self._broken() from None
        if self.width < 1 or self.height < 1:
            raise self._broken()
        budget.take_image(self.width, self.height, name)
        if max(self.width, self.height) > MAX_IMAGE_SIDE:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"{name} has {self.width} x {self.height} pixels; a side may have {MAX_IMAGE_SIDE:,}.",
                next_step="Scale the texture down.",
            )

    def decode(self) -> NDArray[np.uint8]:
        """(height, width, 4) RGBA, row 0 at the top. Releases the interpreter lock while it decodes."""
        try:
            if self._data is not None and self._data[:4] != b"RIFF":
                return self._decode_ktx2(self._data)
            image = self._image if self._data is None else WebPImagePlugin.WebPImageFile(io.BytesIO(self._data))
            if image.size != (self.width, self.height):
                raise self._broken()
            if image.mode.startswith("I"):
                # 16 bits of grey: Pillow's own conversion would clip instead of scale.
                grey = np.asarray(image, dtype=np.int64)
                pixels = np.empty((self.height, self.width, 4), dtype=np.uint8)
                pixels[..., :3] = (np.clip(grey, 0, 65_535) >> 8).astype(np.uint8)[..., None]
                pixels[..., 3] = 255
                return pixels
            return np.array(image.convert("RGBA"), dtype=np.uint8)
        except _DECODE_ERRORS:
            raise self._broken() from None
        except MemoryError:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT, f"{self.name} does not fit into memory.", next_step="Scale it down."
            ) from None

    def _decode_ktx2(self, data: bytes) -> NDArray[np.uint8]:
        # As slow to load as all the rest together, and seldom needed.
        import opengl_basisu

        try:
            texture = opengl_basisu.open(data)
            if (texture.width, texture.height, texture.faces) != (self.width, self.height, 1):
                raise self._broken()
            return np.asarray(texture.transcode(opengl_basisu.Target.RGBA8).data, np.uint8)
        except opengl_basisu.BasisuError:
            raise self._broken() from None

    def _broken(self) -> FarframeError:
        return FarframeError(
            Result.FILE_CORRUPT, f"{self.name} is a broken image.", next_step="Export the texture again."
        )


def _ktx2_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of a KTX2 file, refused unless it is one two-dimensional Basis Universal image whose levels lie
    in the file and claim no more bytes than their size allows (KTX 2.0 specification, 3)."""
    _, vk_format, _, width, height, depth, layers, faces, levels, scheme, *_ = _KTX2_HEAD.unpack_from(data)
    if vk_format != 0 or depth != 0 or layers != 0 or faces != 1 or scheme > _ZSTANDARD or levels > _MAX_KTX2_LEVELS:
        raise FarframeError(
            Result.NOT_SUPPORTED,
            f"{name} is a KTX2 texture other than a Basis Universal image.",
            next_step="Encode the texture as ETC1S or UASTC (KHR_texture_basisu), or as PNG.",
        )
    for level in range(max(levels, 1)):
        offset, size, uncompressed = _KTX2_LEVEL.unpack_from(data, _KTX2_HEAD.size + level * _KTX2_LEVEL.size)
        blocks = (((width >> level) + 3) // 4 or 1) * (((height >> level) + 3) // 4 or 1)
        if offset + size > len(data) or (scheme != _BASIS_LZ and uncompressed > blocks * 16):
            raise ValueError("a level that cannot be")
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file, from its first chunk (RFC 9649)."""
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        raise ValueError("truncated")
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L" and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    raise ValueError("no WebP")
