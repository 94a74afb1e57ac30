"""Texture files to what a graphics device takes: DDS, KTX2, PNG, JPEG, WebP and Radiance HDR. Pure data, no GPU.

    file                what becomes of it
    DDS                 BC1 to BC7 as they are; uncompressed ones as 8-bit or half-float channels; 2D and cube maps
    KTX2                the same by Vulkan's formats, plain or packed by Zstandard or zlib; Basis Universal as RGBA
    PNG, JPEG, WebP     RGBA, 8 bits
    HDR                 RGBA, half floats (Radiance's RGBE, flat or run-length coded; Ward, "Real Pixels", 1991)

Files come from anywhere: sizes are looked at before memory is taken, and no number of a file is believed before it was
held against the bytes that are there. Row 0 is at the top. Faces of cube maps are +X, -X, +Y, -Y, +Z, -Z.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import texture2ddecoder
import zstandard
from numpy.typing import NDArray

from farframe.asset.bc6h import decode_bc6h
from farframe.asset.budget import Budget
from farframe.asset.images import MAX_IMAGE_SIDE, EncodedImage
from farframe.asset.srgb import linear_of_srgb, srgb_of_linear
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

BLOCK_SIZES: dict[str, int] = {
    "bc1-rgba-unorm": 8,
    "bc2-rgba-unorm": 16,
    "bc3-rgba-unorm": 16,
    "bc4-r-unorm": 8,
    "bc5-rg-unorm": 16,
    "bc6h-rgb-ufloat": 16,
    "bc6h-rgb-float": 16,
    "bc7-rgba-unorm": 16,
}
"""Bytes of a block of 4 x 4 texels."""
TEXEL_SIZES: dict[str, int] = {"r8unorm": 1, "rg8unorm": 2, "rgba8unorm": 4, "rgba16float": 8}
"""Bytes of a texel of formats without blocks."""
CHANNELS: dict[str, int] = {"r8unorm": 1, "bc4-r-unorm": 1, "rg8unorm": 2, "bc5-rg-unorm": 2}
"""Channels of formats that do not have all."""

MAX_TEXTURE_BYTES = 3 << 29
"""What one texture may take on the device, levels and faces included: 16,384 x 16,384 of RGBA with all its levels."""
MAX_FLOAT_NUMBERS = 1 << 26
"""Numbers of a level that are worked on as floats at a time."""
_CUBE_FACES = 6
Texels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TextureData:
    """A texture in memory, ready for a device.

    ``format`` is WebGPU's name, without "-srgb"; ``levels``: bytes of each mip level from the full size down, all
    ``faces`` (1 or 6) one after the other; ``srgb``: whether colours are encoded so, ``None`` where the file does not
    say and it depends on what they are used for.
    """

    name: str
    format: str
    width: int
    height: int
    faces: int
    levels: tuple[bytes, ...]
    srgb: bool | None = None

    @property
    def cube(self) -> bool:
        """Whether it is a cube map."""
        return self.faces == _CUBE_FACES

    @property
    def channels(self) -> int:
        """How many channels hold anything."""
        return CHANNELS.get(self.format, 4)

    @property
    def size_bytes(self) -> int:
        """Bytes on the device."""
        return sum(map(len, self.levels))

    def level_size(self, level: int) -> tuple[int, int]:
        """Width and height of a level."""
        return max(self.width >> level, 1), max(self.height >> level, 1)

    def decoded(self, formats: Container[str]) -> TextureData:
        """The same without blocks if its format is one of ``formats``: 8 bits, or halves where the blocks are of halves
        (BC6H). Takes about a second for 20 million texels, of BC6H for 3 million.

        Raises ``ExceedsMemoryLimit`` where it would take more than :data:`MAX_TEXTURE_BYTES` without blocks.
        """
        if self.format not in formats or self.format not in BLOCK_SIZES:
            return self
        halves = self.format.startswith("bc6h")
        plain = "rgba16float" if halves else {1: "r8unorm", 2: "rg8unorm"}.get(self.channels, "rgba8unorm")
        sizes = [self.level_size(level) for level in range(len(self.levels))]
        if self.faces * sum(level_bytes(plain, *size) for size in sizes) > MAX_TEXTURE_BYTES:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"{self.name} is too large for a device that does not read its blocks.",
                next_step="Scale it down.",
            )
        levels = []
        for level in range(len(self.levels)):
            pixels = self._decode(level)
            if halves:
                pixels = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
            levels.append(pixels.tobytes())
        return replace(self, format=plain, levels=tuple(levels))

    def pixels(self, level: int = 0) -> NDArray[np.float32]:
        """(faces, height, width, 4) linear colours of a level, alpha as it is. An sRGB texture, and one of 8 bits that
        does not say what it is, is taken for sRGB."""
        width, height = self.level_size(level)
        values = self._decode(level) if self.format in BLOCK_SIZES else self._plain(level)
        result = np.ones((self.faces, height, width, 4), np.float32)
        count = values.shape[-1]
        if values.dtype == np.uint8:
            shown = values.astype(np.float32) / 255.0
            if self.srgb is not False:
                shown[..., :3] = linear_of_srgb(values[..., :3]).astype(np.float32)
            values = shown
        result[..., :count] = values
        if count == 1:
            result[..., 1:3] = values
        elif count == 2:
            result[..., 2] = 0.0
        return result

    def _plain(self, level: int) -> Texels:
        width, height = self.level_size(level)
        kind = np.float16 if self.format == "rgba16float" else np.uint8
        return np.frombuffer(self.levels[level], kind).reshape(self.faces, height, width, -1)

    def _decode(self, level: int) -> Texels:
        """(faces, height, width, channels) of a level of blocks: bytes, or three channels of halves."""
        width, height = self.level_size(level)
        data = self.levels[level]
        step = len(data) // self.faces
        faces = [self._decode_face(data[step * face : step * (face + 1)], width, height) for face in range(self.faces)]
        return np.stack(faces)

    def _decode_face(self, data: bytes, width: int, height: int) -> Texels:
        if self.format.startswith("bc6h"):
            return decode_bc6h(data, width, height, signed=self.format == "bc6h-rgb-float")
        if self.format == "bc2-rgba-unorm":
            return _decode_bc2(data, width, height)
        decode = getattr(texture2ddecoder, f"decode_{self.format[:3]}")
        # The decoders write blue first.
        bgra = np.frombuffer(decode(data, width, height), np.uint8).reshape(height, width, 4)
        return np.ascontiguousarray(bgra[..., [2, 1, 0, 3]][..., : self.channels])


def level_bytes(texture_format: str, width: int, height: int) -> int:
    """Bytes of one face of a level."""
    if texture_format in BLOCK_SIZES:
        return ((width + 3) // 4) * ((height + 3) // 4) * BLOCK_SIZES[texture_format]
    return width * height * TEXEL_SIZES[texture_format]


def read_texture(data: bytes, name: str, *, cube: bool | None = None, limits: LoadLimits | None = None) -> TextureData:
    """Read a texture file, whichever it is. ``cube``: a cube map is wanted, or a 2D texture; ``None``: either.

    Levels are made for images that have none (half the size each, an average in linear light where they are colours),
    not for blocks. Raises ``FileCorrupt``, ``NotSupported``, ``InvalidParam`` for the wrong kind, and
    ``ExceedsMemoryLimit`` before memory is taken.
    """
    reader = _Reader(name, limits or LoadLimits())
    try:
        if data[:4] == b"DDS ":
            found = reader.dds(data)
        elif data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n":
            found = reader.ktx2(data)
        elif data[:2] == b"#?":
            found = reader.radiance(data)
        elif data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")):
            found = reader.image(data)
        else:
            raise reader.broken()
    except (struct.error, ValueError, IndexError, zlib.error, zstandard.ZstdError):
        raise reader.broken() from None
    except MemoryError:
        raise FarframeError(
            Result.EXCEEDS_MEMORY_LIMIT, f"{name} does not fit into memory.", next_step="Scale the texture down."
        ) from None
    if cube is not None and cube != found.cube:
        has, wanted = ("a cube map", "a 2D texture") if found.cube else ("a 2D texture", "a cube map")
        raise FarframeError(
            Result.INVALID_PARAM, f"{name} is {has}, not {wanted}.", next_step=f"Load it as {has}, or convert it."
        )
    return found


# DXGI_FORMAT: our format, sRGB (None: it does not say), how the texels are stored where they are not as ours.
_DXGI: dict[int, tuple[str, bool | None, str]] = {
    2: ("rgba16float", False, "f4x4"),
    6: ("rgba16float", False, "f4x3"),
    10: ("rgba16float", False, ""),
    11: ("rgba8unorm", False, "u2x4"),
    16: ("rgba16float", False, "f4x2"),
    24: ("rgba8unorm", False, "rgb10a2"),
    26: ("rgba16float", False, "r11g11b10"),
    28: ("rgba8unorm", False, ""),
    29: ("rgba8unorm", True, ""),
    34: ("rgba16float", False, "f2x2"),
    41: ("rgba16float", False, "f4x1"),
    49: ("rg8unorm", False, ""),
    54: ("rgba16float", False, "f2x1"),
    56: ("r8unorm", False, "u2x1"),
    61: ("r8unorm", False, ""),
    67: ("rgba16float", False, "rgb9e5"),
    71: ("bc1-rgba-unorm", False, ""),
    72: ("bc1-rgba-unorm", True, ""),
    74: ("bc2-rgba-unorm", False, ""),
    75: ("bc2-rgba-unorm", True, ""),
    77: ("bc3-rgba-unorm", False, ""),
    78: ("bc3-rgba-unorm", True, ""),
    80: ("bc4-r-unorm", False, ""),
    83: ("bc5-rg-unorm", False, ""),
    87: ("rgba8unorm", False, "bgra"),
    88: ("rgba8unorm", False, "bgrx"),
    91: ("rgba8unorm", True, "bgra"),
    93: ("rgba8unorm", True, "bgrx"),
    95: ("bc6h-rgb-ufloat", False, ""),
    96: ("bc6h-rgb-float", False, ""),
    98: ("bc7-rgba-unorm", False, ""),
    99: ("bc7-rgba-unorm", True, ""),
}
# Four letters, or a number of Direct3D 9: a DXGI_FORMAT. What they hold they do not say.
_FOUR_CC: dict[bytes, int] = {
    b"DXT1": 71,
    b"DXT2": 74,
    b"DXT3": 74,
    b"DXT4": 77,
    b"DXT5": 77,
    b"ATI1": 80,
    b"BC4U": 80,
    b"ATI2": 83,
    b"BC5U": 83,
    struct.pack("<I", 36): 11,
    struct.pack("<I", 111): 54,
    struct.pack("<I", 112): 34,
    struct.pack("<I", 113): 10,
    struct.pack("<I", 114): 41,
    struct.pack("<I", 115): 16,
    struct.pack("<I", 116): 2,
}
# VkFormat: the DXGI_FORMAT of the same texels.
_VULKAN: dict[int, int] = {
    9: 61, 16: 49, 37: 28, 43: 29, 44: 87, 50: 91, 64: 24, 70: 56, 76: 54, 83: 34, 91: 11, 97: 10, 100: 41, 103: 16,
    106: 6, 109: 2, 122: 26, 123: 67, 131: 71, 132: 72, 133: 71, 134: 72, 135: 74, 136: 75, 137: 77, 138: 78,
    139: 80, 141: 83, 143: 95, 144: 96, 145: 98, 146: 99,
}  # fmt: skip
_VK_RGB8 = {23: False, 29: True}
"""Three bytes a texel, which no device takes: VkFormat, and whether they are sRGB."""
_STORED_BYTES = {
    "f4x4": 16, "f4x3": 12, "f4x2": 8, "f4x1": 4, "f2x2": 4, "f2x1": 2, "u2x4": 8, "u2x1": 2, "rgb10a2": 4,
    "r11g11b10": 4, "rgb9e5": 4, "bgra": 4, "bgrx": 4, "rgb": 3,
}  # fmt: skip


class _Reader:
    """Reads one file."""

    def __init__(self, name: str, limits: LoadLimits) -> None:
        self._name = name
        self._limits = limits

    def broken(self) -> FarframeError:
        """What is said of bytes that are no texture."""
        return FarframeError(
            Result.FILE_CORRUPT,
            f"{self._name} is a broken texture, or neither DDS, KTX2, PNG, JPEG, WebP nor HDR.",
            next_step="Export the texture again, as one of these.",
        )

    def _unsupported(self, what: str) -> FarframeError:
        return FarframeError(
            Result.NOT_SUPPORTED,
            f"{self._name} is {what}, which cannot be drawn.",
            next_step="Save it as a 2D texture or cube map of RGBA, of half floats, or of BC1 to BC7.",
        )

    def _check_size(self, width: int, height: int, faces: int, size: int) -> None:
        if width < 1 or height < 1:
            raise ValueError("no texels")
        pixels = width * height * faces
        if max(width, height) > MAX_IMAGE_SIDE or pixels > self._limits.max_texture_pixels or size > MAX_TEXTURE_BYTES:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"{self._name} has {faces} x {width} x {height} texels; a side may have {MAX_IMAGE_SIDE:,}, a texture "
                f"{self._limits.max_texture_pixels:,}, and {MAX_TEXTURE_BYTES >> 20:,} MB on the device.",
                next_step="Scale the texture down.",
            )
        if faces == _CUBE_FACES and width != height:
            raise ValueError("faces of a cube are squares")

    def image(self, data: bytes) -> TextureData:
        """PNG, JPEG, WebP."""
        image = EncodedImage(data, self._name, Budget(self._limits))
        self._check_size(image.width, image.height, 1, image.width * image.height * 4)
        return _with_levels(TextureData(self._name, "rgba8unorm", image.width, image.height, 1, ()), image.decode())

    def dds(self, data: bytes) -> TextureData:
        """Microsoft's DirectDraw surface, with or without the newer header."""
        size, _, height, width, _, depth, levels = struct.unpack_from("<7I", data, 4)
        pf_size, pf_flags, four_cc, bits, *masks = struct.unpack_from("<2I4s5I", data, 76)
        caps2 = struct.unpack_from("<I", data, 112)[0]
        if size != 124 or pf_size != 32:
            raise ValueError("not a header")
        start = 128
        faces = _CUBE_FACES if caps2 & 0x200 else 1
        if caps2 & 0x200 and caps2 & 0xFC00 != 0xFC00:
            raise self._unsupported("a cube map without some of its faces")
        if caps2 & 0x20_0000 and depth > 1:
            raise self._unsupported("a volume texture")
        stored = ""
        srgb: bool | None
        if pf_flags & 4 and four_cc == b"DX10":
            number, dimension, misc, count = struct.unpack_from("<4I", data, start)
            start += 20
            faces = _CUBE_FACES if misc & 4 else 1
            if dimension != 3 or count != 1:
                raise self._unsupported("an array, a volume or a line of texels")
            if number not in _DXGI:
                raise self._unsupported(f"a DDS texture of DXGI format {number}")
            kind, srgb, stored = _DXGI[number]
        elif pf_flags & 4:
            if four_cc not in _FOUR_CC:
                raise self._unsupported("a DDS texture of an unknown format")
            kind, _, stored = _DXGI[_FOUR_CC[four_cc]]
            srgb = None if kind.endswith("unorm") else False
        else:
            return self._masked(data[start:], width, height, faces, levels, pf_flags, bits, masks)
        return self._levels_by_face(data, start, (kind, srgb, stored), width, height, faces, max(levels, 1))

    def _level_count(self, width: int, height: int, count: int) -> int:
        if not 1 <= count <= max(width, height).bit_length():
            raise ValueError("more levels than there can be")
        return count

    def _levels_by_face(
        self,
        data: bytes,
        start: int,
        kind: tuple[str, bool | None, str],
        width: int,
        height: int,
        faces: int,
        count: int,
    ) -> TextureData:
        """Of files that hold all levels of the first face, then those of the next."""
        name, srgb, stored = kind
        self._check_size(width, height, faces, faces * level_bytes(name, width, height))
        count = self._level_count(width, height, count)
        parts: list[list[bytes]] = [[] for _ in range(count)]
        for _ in range(faces):
            for level in range(count):
                across, down = max(width >> level, 1), max(height >> level, 1)
                length = across * down * _STORED_BYTES[stored] if stored else level_bytes(name, across, down)
                chunk = data[start : start + length]
                if len(chunk) != length:
                    raise ValueError("truncated")
                parts[level].append(_converted(chunk, stored, name))
                start += length
        texture = TextureData(self._name, name, width, height, faces, tuple(map(b"".join, parts)), srgb)
        return _completed(texture)

    def _masked(
        self,
        data: bytes,
        width: int,
        height: int,
        faces: int,
        levels: int,
        flags: int,
        bits: int,
        masks: list[int],
    ) -> TextureData:
        """Uncompressed texels whose channels are told by masks of bits."""
        if bits not in (8, 16, 24, 32):
            raise self._unsupported(f"a DDS texture of {bits} bits a texel")
        self._check_size(width, height, faces, faces * width * height * 4)
        count = self._level_count(width, height, max(levels, 1))
        step = bits // 8
        if flags & 0x20000 and masks[0] and not masks[3]:
            wanted, name = masks[:1], "r8unorm"
        elif flags & 0x20000:
            wanted, name = [masks[0], masks[0], masks[0], masks[3]], "rgba8unorm"
        else:
            wanted, name = [*masks[:3], masks[3] if flags & 1 or flags & 2 else 0], "rgba8unorm"
        parts: list[list[bytes]] = [[] for _ in range(count)]
        start = 0
        for _ in range(faces):
            for level in range(count):
                texels = max(width >> level, 1) * max(height >> level, 1)
                raw = np.frombuffer(data, np.uint8, texels * step, start).reshape(texels, step)
                start += texels * step
                value = np.zeros(texels, np.uint32)
                for byte in range(step):
                    value |= raw[:, byte].astype(np.uint32) << np.uint32(8 * byte)
                channels = [_channel(value, mask, 255 if number == 3 else 0) for number, mask in enumerate(wanted)]
                parts[level].append(np.stack(channels, axis=1).tobytes())
        return _completed(TextureData(self._name, name, width, height, faces, tuple(map(b"".join, parts))))

    def ktx2(self, data: bytes) -> TextureData:
        """Khronos' container, version 2."""
        head = struct.unpack_from("<12s9I4I2Q", data)
        vk_format, _, width, height, depth, layers, faces, levels, scheme = head[1:10]
        if depth or layers > 1 or faces not in (1, _CUBE_FACES) or not height:
            raise self._unsupported("an array, a volume or a line of texels")
        count = self._level_count(width, height, max(levels, 1))
        self._check_size(width, height, faces, 0)
        if vk_format == 0:
            return self._basis(data, width, height, faces, count)
        if vk_format in _VK_RGB8:
            name, srgb, stored = "rgba8unorm", _VK_RGB8[vk_format], "rgb"
        elif vk_format in _VULKAN:
            name, found, stored = _DXGI[_VULKAN[vk_format]]
            srgb = bool(found)
        else:
            raise self._unsupported(f"a KTX2 texture of Vulkan format {vk_format}")
        self._check_size(width, height, faces, faces * level_bytes(name, width, height))
        content = []
        for level in range(count):
            offset, length, _ = struct.unpack_from("<3Q", data, 80 + 24 * level)
            across, down = max(width >> level, 1), max(height >> level, 1)
            texels = across * down * _STORED_BYTES[stored] if stored else level_bytes(name, across, down)
            if offset + length > len(data):
                raise ValueError("truncated")
            content.append(_converted(_unpacked(data[offset : offset + length], scheme, texels * faces), stored, name))
        return _completed(TextureData(self._name, name, width, height, faces, tuple(content), srgb))

    def _basis(self, data: bytes, width: int, height: int, faces: int, count: int) -> TextureData:
        # As slow to load as all the rest together, and seldom needed.
        import opengl_basisu

        self._check_size(width, height, faces, faces * width * height * 4)
        for level in range(count):
            offset, length, _ = struct.unpack_from("<3Q", data, 80 + 24 * level)
            if offset + length > len(data):
                raise ValueError("truncated")
        try:
            texture = opengl_basisu.open(data)
            if (texture.width, texture.height, texture.faces) != (width, height, faces) or texture.layers != 1:
                raise self.broken()
            levels = tuple(
                b"".join(
                    np.asarray(texture.transcode(opengl_basisu.Target.RGBA8, level, face).data, np.uint8).tobytes()
                    for face in range(faces)
                )
                for level in range(min(count, texture.levels))
            )
        except opengl_basisu.BasisuError:
            raise self.broken() from None
        return _completed(TextureData(self._name, "rgba8unorm", width, height, faces, levels, bool(texture.srgb)))

    def radiance(self, data: bytes) -> TextureData:
        """A Radiance picture of RGBE texels, first row at the top."""
        head = re.match(rb"#\?[^\n]*\n(?:[^\n]*\n){0,99}?\n(-Y|\+Y) (\d{1,6}) \+X (\d{1,6})\n", data[:65_536])
        if head is None or b"32-bit_rle_xyze" in head[0]:
            raise self._unsupported("an HDR picture other than of RGBE texels in rows")
        height, width = int(head[2]), int(head[3])
        self._check_size(width, height, 1, width * height * 8)
        # A run codes at most 127 texels by two bytes, so a file of few bytes cannot claim many.
        if width * height * 4 > (len(data) - head.end()) * 64:
            raise ValueError("truncated")
        texels = _radiance_rows(memoryview(data)[head.end() :], width, height)
        scale = np.ldexp(np.float32(1.0), texels[..., 3].astype(np.int32) - 136)
        colors = np.ones((height, width, 4), np.float32)
        colors[..., :3] = (texels[..., :3] + np.float32(0.5)) * np.where(texels[..., 3:] > 0, scale[..., None], 0.0)
        if head[1] == b"+Y":
            colors = colors[::-1]
        half = np.minimum(colors, 65_504.0).astype(np.float16)
        return _with_levels(TextureData(self._name, "rgba16float", width, height, 1, (), False), half)


def _radiance_rows(data: memoryview, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 4) RGBE: rows of four planes of runs, or flat texels."""
    rows = np.zeros((height, 4, width), np.uint8)
    place = 0
    for row in range(height):
        if not (8 <= width < 32_768 and bytes(data[place : place + 2]) == b"\2\2"):
            flat = np.frombuffer(data, np.uint8, (height - row) * width * 4, place)
            rows[row:] = flat.reshape(height - row, width, 4).transpose(0, 2, 1)
            break
        if data[place + 2] << 8 | data[place + 3] != width:
            raise ValueError("a row of another width")
        place += 4
        for plane in rows[row]:
            done = 0
            while done < width:
                count = data[place]
                if count > 128:
                    count -= 128
                    if done + count > width:
                        raise ValueError("a run beyond its row")
                    plane[done : done + count] = data[place + 1]
                    place += 2
                else:
                    if not 0 < count <= width - done or place + 1 + count > len(data):
                        raise ValueError("a run beyond its row")
                    plane[done : done + count] = np.frombuffer(data, np.uint8, count, place + 1)
                    place += 1 + count
                done += count
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


def _unpacked(data: bytes, scheme: int, size: int) -> bytes:
    """A level of a KTX2 file as it was before it was packed: exactly ``size`` bytes."""
    if scheme == 2:
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data) if _zstd_fits(data, size) else b""
    elif scheme == 3:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(data, size + 1)
    elif scheme:
        raise ValueError("an unknown way of packing")
    if len(data) != size:
        raise ValueError("a level of another size")
    return data


def _zstd_fits(data: bytes, size: int) -> bool:
    """Whether a frame says that it holds ``size`` bytes; nothing is unpacked that does not say how much it is."""
    return bool(zstandard.get_frame_parameters(data).content_size == size)


def _channel(value: NDArray[np.uint32], mask: int, default: int) -> NDArray[np.uint8]:
    """The bits of ``mask`` as a number from 0 to 255."""
    if not mask:
        return np.full(len(value), default, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    return ((((value & np.uint32(mask)) >> np.uint32(shift)).astype(np.uint64) * 255 + most // 2) // most).astype(
        np.uint8
    )


def _converted(data: bytes, stored: str, name: str) -> bytes:
    """Texels as our formats have them."""
    if not stored:
        return data
    if stored in ("bgra", "bgrx"):
        texels = np.frombuffer(data, np.uint8).reshape(-1, 4)[:, [2, 1, 0, 3]].copy()
        if stored == "bgrx":
            texels[:, 3] = 255
        return texels.tobytes()
    if stored == "rgb":
        texels = np.full((len(data) // 3, 4), 255, np.uint8)
        texels[:, :3] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return texels.tobytes()
    if stored.startswith("u2"):
        return (np.frombuffer(data, "<u2") >> 8).astype(np.uint8).tobytes()
    if stored == "rgb10a2":
        value = np.frombuffer(data, "<u4")
        masks = (0x3FF, 0x3FF << 10, 0x3FF << 20, 3 << 30)
        return np.stack([_channel(value, mask, 255) for mask in masks], axis=1).tobytes()
    if stored[0] == "f":
        count = int(stored[-1])
        floats = np.frombuffer(data, f"<{stored[:2]}").reshape(-1, count).astype(np.float32)
    else:
        value = np.frombuffer(data, "<u4")
        floats = _shared_exponent(value) if stored == "rgb9e5" else _small_floats(value)
        count = 3
    result = np.zeros((len(floats), 4), np.float32)
    result[:, :count] = floats
    if count < 4:
        result[:, 3] = 1.0
    if count == 1:
        result[:, 1:3] = floats
    return np.nan_to_num(np.clip(result, -65_504.0, 65_504.0)).astype(np.float16).tobytes()


def _shared_exponent(value: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Three numbers of nine bits with one exponent of five (DXGI_FORMAT_R9G9B9E5_SHAREDEXP)."""
    scale = np.ldexp(np.float32(1.0), (value >> 27).astype(np.int32) - 24)
    return np.stack([((value >> shift) & 0x1FF).astype(np.float32) * scale for shift in (0, 9, 18)], axis=1)


def _small_floats(value: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Floats of 11, 11 and 10 bits without signs (DXGI_FORMAT_R11G11B10_FLOAT): the upper bits of half floats."""
    red, green, blue = (value & 0x7FF) << 4, ((value >> 11) & 0x7FF) << 4, (value >> 22) << 5
    return np.stack([part.astype(np.uint16).view(np.float16) for part in (red, green, blue)], axis=1).astype(np.float32)


def _decode_bc2(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """BC2: four bits of alpha for each texel, then a BC1 block that always has four colours."""
    across, down = (width + 3) // 4, (height + 3) // 4
    blocks = np.frombuffer(data, np.uint8).reshape(down, across, 16)
    # BC3 has the same block of colours: give it an alpha that does not matter.
    bc3 = blocks.copy()
    bc3[..., :8] = 0
    decoded = np.frombuffer(texture2ddecoder.decode_bc3(bc3.tobytes(), width, height), np.uint8)
    result = decoded.reshape(height, width, 4)[..., [2, 1, 0, 3]].copy()
    nibbles = np.stack([blocks[..., :8] & 15, blocks[..., :8] >> 4], axis=-1).reshape(down, across, 4, 4)
    alpha = nibbles.transpose(0, 2, 1, 3).reshape(4 * down, 4 * across)[:height, :width]
    result[..., 3] = alpha * 17
    return result


def _completed(texture: TextureData) -> TextureData:
    """With all levels, if it is no cube map, has no blocks and came with one only."""
    if (
        len(texture.levels) > 1
        or texture.cube
        or texture.format in BLOCK_SIZES
        or (texture.width, texture.height) == (1, 1)
    ):
        return texture
    kind = np.float16 if texture.format == "rgba16float" else np.uint8
    pixels = np.frombuffer(texture.levels[0], kind).reshape(texture.height, texture.width, -1)
    return _with_levels(texture, pixels)


def _with_levels(texture: TextureData, pixels: Texels) -> TextureData:
    """``texture`` with ``pixels`` (h, w, c) as its full size, and all levels below."""
    levels = [np.ascontiguousarray(pixels).tobytes()]
    as_colors = pixels.dtype == np.uint8 and texture.srgb is not False and _holds_colors(pixels)
    level, count = 1, max(texture.width, texture.height).bit_length()
    coded: Texels = pixels
    while level < count and coded.size > MAX_FLOAT_NUMBERS:
        # Floats of the largest sizes would take gigabytes; what is encoded is averaged as it is.
        coded = _halved(coded, texture.level_size(level))
        levels.append(coded.tobytes())
        level += 1
    shown = coded.astype(np.float32)
    if coded.dtype == np.uint8:
        shown /= 255.0
        if as_colors:
            shown[..., :3] = linear_of_srgb(coded[..., :3])
    for below in range(level, count):
        shown = _halved(shown, texture.level_size(below))
        if coded.dtype == np.uint8:
            numbers = np.rint(shown * 255.0).astype(np.uint8)
            if as_colors:
                numbers[..., :3] = srgb_of_linear(shown[..., :3])
            levels.append(numbers.tobytes())
        else:
            levels.append(shown.astype(np.float16).tobytes())
    return replace(texture, levels=tuple(levels))


def _halved(texels: Texels, size: tuple[int, int]) -> Texels:
    """(h, w, c) averaged to the next level's size."""
    wide = texels.astype(np.float32) if texels.dtype == np.float16 else texels
    resized = np.asarray(cv2.resize(wide, size, interpolation=cv2.INTER_AREA), texels.dtype)
    return resized.reshape(size[1], size[0], -1)


def _holds_colors(pixels: Texels) -> bool:
    """Whether texels look like colours; those of grey textures and of normal maps are numbers."""
    if pixels.shape[-1] < 3:
        return False
    few = np.asarray(pixels[:: max(1, len(pixels) // 256)], np.int32)
    if (few[..., 0] == few[..., 1]).all() and (few[..., 0] == few[..., 2]).all():
        return False
    mean = few[..., :3].reshape(-1, 3).mean(axis=0)
    return not (mean[2] > 180 and abs(mean[0] - 128) < 24 and abs(mean[1] - 128) < 24)
