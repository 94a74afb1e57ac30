"""Texture files of every kind, made here byte by byte, and such as no one should send."""

from __future__ import annotations

import io
import struct
import zlib

import etcpak
import numpy as np
import pytest
import zstandard
from PIL import Image

from farframe.asset.srgb import linear_of_srgb
from farframe.asset.textures_file import MAX_TEXTURE_BYTES, TextureData, level_bytes, read_texture
from farframe.protocol.errors import FarframeError, Result

RANDOM = np.random.default_rng(2)
RGBA = RANDOM.integers(0, 256, (8, 16, 4), np.uint8)
SMOOTH = np.uint8(np.stack(np.meshgrid(np.arange(16) * 12, np.arange(16) * 15), -1))


def dds(
    data: bytes,
    width: int,
    height: int,
    *,
    four_cc: bytes = b"",
    dxgi: int = 0,
    levels: int = 1,
    masks: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0),
    flags: int = 0x41,
    cube: bool = False,
) -> bytes:
    pixel_format = struct.pack("<2I4s5I", 32, 4 if four_cc or dxgi else flags, four_cc or b"DX10", *masks)
    if not (four_cc or dxgi):
        pixel_format = struct.pack("<2I4s5I", 32, flags, b"\0\0\0\0", *masks)
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, height, width, 0, 0, levels) + pixel_format
    head += struct.pack("<4I4x", 0x1000, 0xFE00 if cube else 0, 0, 0)
    if dxgi:
        head += struct.pack("<5I", dxgi, 3, 4 if cube else 0, 1, 0)
    return head + data


def ktx2(levels: list[bytes], vk_format: int, width: int, height: int, *, faces: int = 1, scheme: int = 0) -> bytes:
    packed = {0: lambda b: b, 2: zstandard.compress, 3: zlib.compress}[scheme]
    head = struct.pack(
        "<12s9I4I2Q", b"\xabKTX 20\xbb\r\n\x1a\n", vk_format, 1, width, height, 0, 0, faces, len(levels), scheme,
        0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    offset = len(head) + 24 * len(levels)
    table, body = b"", b""
    for level in levels:
        content = packed(level)
        table += struct.pack("<3Q", offset + len(body), len(content), len(level))
        body += content
    return head + table + body


def pixels_of(texture: TextureData, level: int = 0) -> np.ndarray:
    width, height = texture.level_size(level)
    return np.frombuffer(texture.levels[level], np.uint8).reshape(texture.faces, height, width, -1)


class TestUncompressed:
    def test_masks_in_any_order_and_width(self) -> None:
        bgra = RGBA[..., [2, 1, 0, 3]]
        masks = (32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        np.testing.assert_array_equal(pixels_of(read_texture(dds(bgra.tobytes(), 16, 8, masks=masks), "t"))[0], RGBA)
        rgb = np.ascontiguousarray(bgra[..., :3]).tobytes()
        found = pixels_of(read_texture(dds(rgb, 16, 8, masks=(24, *masks[1:4], 0), flags=0x40), "t"))[0]
        np.testing.assert_array_equal(found[..., :3], RGBA[..., :3])
        assert (found[..., 3] == 255).all()
        r5g6b5 = np.uint16([0xF800, 0x07E0, 0x001F, 0x8410]).tobytes()
        found = pixels_of(read_texture(dds(r5g6b5, 4, 1, masks=(16, 0xF800, 0x07E0, 0x001F, 0), flags=0x40), "t"))
        np.testing.assert_array_equal(found[0, 0, :3, :3], np.eye(3) * 255)
        np.testing.assert_allclose(found[0, 0, 3, :3].astype(int), [132, 130, 132], atol=1)

    def test_luminance_is_one_channel(self) -> None:
        grey = np.ascontiguousarray(RGBA[..., 0])
        found = read_texture(dds(grey.tobytes(), 16, 8, masks=(8, 0xFF, 0, 0, 0), flags=0x20000), "t")
        assert (found.format, found.channels, len(found.levels)) == ("r8unorm", 1, 5)
        np.testing.assert_array_equal(pixels_of(found)[0, ..., 0], grey)

    def test_half_and_whole_floats(self) -> None:
        values = RANDOM.uniform(0.0, 40.0, (4, 4, 4)).astype(np.float32)
        values[0, 0] = (np.nan, 1e30, -2.0, 1.0)
        whole = read_texture(dds(values.tobytes(), 4, 4, dxgi=2), "t")
        assert whole.format == "rgba16float"
        found = whole.pixels()[0]
        np.testing.assert_allclose(found[1:], values[1:], rtol=1e-3)
        np.testing.assert_allclose(found[0, 0], (0.0, 65_504.0, -2.0, 1.0))
        half = read_texture(dds(values[1:].astype(np.float16).tobytes(), 4, 3, dxgi=10), "t")
        np.testing.assert_allclose(half.pixels()[0], values[1:], rtol=1e-3)

    def test_small_floats(self) -> None:
        # 1.0, 0.5 and 2.0 of 11, 11 and 10 bits; 1.0, 0.5 and 0.25 of nine bits with an exponent of 16.
        packed = (15 << 6) | (14 << 6) << 11 | (16 << 5) << 22
        found = read_texture(dds(struct.pack("<I", packed), 1, 1, dxgi=26), "t").pixels()[0, 0, 0]
        np.testing.assert_allclose(found, (1.0, 0.5, 2.0, 1.0))
        shared = 256 | 128 << 9 | 64 << 18 | 16 << 27
        found = read_texture(dds(struct.pack("<I", shared), 1, 1, dxgi=67), "t").pixels()[0, 0, 0]
        np.testing.assert_allclose(found, (1.0, 0.5, 0.25, 1.0))

    def test_levels_of_faces_come_face_by_face(self) -> None:
        faces = [[np.full(4 * size * size, 10 * face + size, np.uint8) for size in (4, 2, 1)] for face in range(6)]
        data = b"".join(level.tobytes() for face in faces for level in face)
        found = read_texture(dds(data, 4, 4, dxgi=28, levels=3, cube=True), "t", cube=True)
        assert (found.cube, len(found.levels)) == (True, 3)
        for level, size in enumerate((4, 2, 1)):
            np.testing.assert_array_equal(pixels_of(found, level)[:, 0, 0, 0], 10 * np.arange(6) + size)


class TestBlocks:
    @pytest.mark.parametrize(
        ("dxgi", "four_cc", "name", "encode", "tolerance"),
        [
            (71, b"DXT1", "bc1-rgba-unorm", etcpak.compress_bc1, 12),
            (77, b"DXT5", "bc3-rgba-unorm", etcpak.compress_bc3, 12),
            (98, b"", "bc7-rgba-unorm", etcpak.compress_bc7, 6),
        ],
    )
    def test_colors(self, dxgi: int, four_cc: bytes, name: str, encode: object, tolerance: int) -> None:
        image = np.full((16, 16, 4), 255, np.uint8)
        image[..., :2] = SMOOTH
        # etcpak takes blue first.
        data = bytes(encode(np.ascontiguousarray(image[..., [2, 1, 0, 3]]).tobytes(), 16, 16))  # type: ignore[operator]
        if dxgi == 98:
            data = bytes(encode(image.tobytes(), 16, 16))  # type: ignore[operator]
        for file, srgb in ((dds(data, 16, 16, dxgi=dxgi), False), (dds(data, 16, 16, dxgi=dxgi + 1), True)):
            found = read_texture(file, "t")
            assert (found.format, found.srgb, found.levels) == (name, srgb, (data,))
        plain = found.decoded({name})
        assert plain.format == "rgba8unorm"
        decoded = pixels_of(plain)[0].astype(int)
        error = min(
            np.abs(decoded - image).mean(), np.abs(decoded[..., [2, 1, 0, 3]] - image).mean() if dxgi != 98 else np.inf
        )
        assert error < tolerance
        if four_cc:
            assert read_texture(dds(data, 16, 16, four_cc=four_cc), "t").srgb is None
        assert found.decoded({"bc5-rg-unorm"}) is found

    def test_alpha_of_four_bits(self) -> None:
        """BC2: a block of one colour, and alpha that rises by 17 from texel to texel."""
        nibbles = np.arange(16, dtype=np.uint8)
        alpha = (nibbles[0::2] | nibbles[1::2] << 4).tobytes()
        color = struct.pack("<2HI", 0xF800, 0xF800, 0)
        found = read_texture(dds(alpha + color, 4, 4, four_cc=b"DXT3"), "t").decoded({"bc2-rgba-unorm"})
        np.testing.assert_array_equal(pixels_of(found)[0, ..., 3].reshape(-1), nibbles * 17)
        np.testing.assert_array_equal(pixels_of(found)[0, 0, 0, :3], (255, 0, 0))

    def test_one_and_two_channels(self) -> None:
        ramp = struct.pack("<2B6x", 200, 10)
        one = read_texture(dds(ramp, 4, 4, dxgi=80), "t")
        two = read_texture(dds(ramp + struct.pack("<2B6x", 50, 10), 4, 4, dxgi=83), "t")
        assert (one.channels, two.channels) == (1, 2)
        np.testing.assert_array_equal(pixels_of(one.decoded({one.format}))[0, 2, 2], (200,))
        np.testing.assert_array_equal(pixels_of(two.decoded({two.format}))[0, 2, 2], (200, 50))

    @pytest.mark.parametrize(("dxgi", "name"), [(95, "bc6h-rgb-ufloat"), (96, "bc6h-rgb-float")])
    def test_blocks_of_half_floats_become_halves(self, dxgi: int, name: str) -> None:
        # One line, both ends of 10 bits, all texels at its beginning: 1/4 of the range is 64 of 256 (red only).
        bits = 3 | 256 << 5
        block = bits.to_bytes(16, "little")
        found = read_texture(dds(block, 4, 4, dxgi=dxgi), "t")
        assert found.format == name
        plain = found.decoded({name})
        assert (plain.format, plain.channels, len(plain.levels[0])) == ("rgba16float", 4, 4 * 4 * 8)
        # 256 of 10 bits is 0x4020 of 16, of which 31/64 are the half's bits (31/32 of 15 bits with a sign).
        code = (0x4020 * 31) >> 6 if dxgi == 95 else (((256 << 15) + 0x4000) >> 9) * 31 >> 5
        red = float(np.uint16(code).view(np.float16))
        np.testing.assert_array_equal(plain.pixels(), np.broadcast_to((red, 0.0, 0.0, 1.0), (1, 4, 4, 4)))
        np.testing.assert_array_equal(found.pixels(), plain.pixels())

    def test_what_would_be_too_large_without_blocks_is_refused(self) -> None:
        level = bytes(16) * 4096 * 4096
        huge = TextureData("t", "bc6h-rgb-ufloat", 16384, 16384, 1, (level,))
        with pytest.raises(FarframeError) as caught:
            huge.decoded({huge.format})
        assert caught.value.result == Result.EXCEEDS_MEMORY_LIMIT


class TestKtx2:
    @pytest.mark.parametrize("scheme", [0, 2, 3])
    def test_levels_packed_or_not(self, scheme: int) -> None:
        levels = [RGBA.tobytes(), RGBA[::2, ::2].tobytes()]
        found = read_texture(ktx2(levels, 43, 16, 8, scheme=scheme), "t")
        assert (found.format, found.srgb, found.levels) == ("rgba8unorm", True, tuple(levels))

    def test_three_bytes_a_texel_and_cubes(self) -> None:
        rgb = np.ascontiguousarray(RGBA[:4, :4, :3])
        found = read_texture(ktx2([rgb.tobytes() * 6], 23, 4, 4, faces=6), "t", cube=True)
        np.testing.assert_array_equal(pixels_of(found)[5, ..., :3], rgb)

    def test_a_bomb_is_not_unpacked(self) -> None:
        bomb = ktx2([bytes(1 << 26)], 37, 8, 8, scheme=2)
        assert len(bomb) < 1 << 16
        for file in (bomb, ktx2([bytes(1 << 26)], 37, 8, 8, scheme=3)):
            with pytest.raises(FarframeError) as caught:
                read_texture(file, "t")
            assert caught.value.result == Result.FILE_CORRUPT


class TestImages:
    def test_png_and_jpeg_get_levels_in_linear_light(self) -> None:
        checker = np.zeros((8, 8, 4), np.uint8)
        checker[..., 3] = 255
        checker[..., 0] = np.indices((8, 8)).sum(axis=0) % 2 * 255
        stream = io.BytesIO()
        Image.fromarray(checker).save(stream, "PNG")
        found = read_texture(stream.getvalue(), "t", cube=False)
        assert (found.format, found.srgb, len(found.levels)) == ("rgba8unorm", None, 4)
        np.testing.assert_array_equal(pixels_of(found)[0], checker)
        # The mean of black and white light is 188 in sRGB, not 128.
        np.testing.assert_allclose(pixels_of(found, 1)[0, ..., 0].astype(int), 188, atol=1)
        grey = checker.copy()
        grey[..., 1] = grey[..., 2] = grey[..., 0]
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "PNG")
        # Numbers, of roughness say, are averaged as they are.
        np.testing.assert_allclose(pixels_of(read_texture(stream.getvalue(), "t"), 1)[..., 0].astype(int), 128, atol=1)
        stream = io.BytesIO()
        Image.fromarray(np.full((9, 5, 3), 77, np.uint8)).save(stream, "JPEG")
        assert read_texture(stream.getvalue(), "t").level_size(1) == (2, 4)

    @pytest.mark.parametrize("width", [5, 64])
    def test_radiance_flat_and_in_runs(self, width: int) -> None:
        texels = RANDOM.integers(0, 256, (3, width, 4), np.uint8)
        texels[..., 3] = RANDOM.integers(120, 136, (3, width))
        texels[1, :, :] = (10, 20, 30, 128)
        texels[0, :, 0] = 3
        body = b""
        for row in texels:
            if width < 8:
                body += row.tobytes()
                continue
            body += struct.pack(">2BH", 2, 2, width)
            for channel in row.T:
                if (channel == channel[0]).all():
                    body += bytes([128 + 60, channel[0], 128 + width - 60, channel[0]])
                else:
                    body += bytes([40]) + channel[:40].tobytes() + bytes([width - 40]) + channel[40:].tobytes()
        file = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 3 +X %d\n" % width + body
        found = read_texture(file, "t")
        expected = (texels[..., :3] + 0.5) * 2.0 ** (texels[..., 3:].astype(float) - 136)
        assert (found.format, found.srgb) == ("rgba16float", False)
        np.testing.assert_allclose(found.pixels()[0, ..., :3], expected, rtol=2e-3, atol=1e-6)

    def test_pixels_are_linear(self) -> None:
        stream = io.BytesIO()
        Image.fromarray(RGBA).save(stream, "PNG")
        found = read_texture(stream.getvalue(), "t").pixels()[0]
        np.testing.assert_allclose(found[..., :3], linear_of_srgb(RGBA[..., :3]), atol=1e-6)
        np.testing.assert_allclose(found[..., 3], RGBA[..., 3] / 255, atol=1e-6)


class TestHostile:
    @pytest.mark.parametrize(
        "file",
        [
            b"",
            b"DDS ",
            b"#?RADIANCE\n\n-Y 4 +X 4\n",
            b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(20),
            dds(b"", 16, 16, dxgi=28),
            dds(bytes(64), 4, 4, dxgi=28, levels=9),
            dds(bytes(64), 0, 4, dxgi=28),
            dds(bytes(512), 4, 8, dxgi=28, cube=True),
            b"#?RADIANCE\n\n-Y 9 +X 9\n\2\2\0\x09" + bytes([0] * 900),
            b"#?RADIANCE\n\n-Y 9 +X 9\n\2\2\0\x09" + bytes([255] * 900),
            ktx2([bytes(100)], 37, 16, 8),
        ],
    )
    def test_broken_files(self, file: bytes) -> None:
        with pytest.raises(FarframeError) as caught:
            read_texture(file, "t")
        assert caught.value.result == Result.FILE_CORRUPT

    @pytest.mark.parametrize(
        "file", [b"", b"glTF" + bytes(40), b"GIF89a" + bytes(40), b"II*\0" + bytes(40)], ids=["", "glTF", "GIF", "TIFF"]
    )
    def test_other_files_are_told_what_a_texture_may_be(self, file: bytes) -> None:
        with pytest.raises(FarframeError, match="neither DDS, KTX2, PNG, JPEG, WebP nor HDR") as caught:
            read_texture(file, "t")
        assert caught.value.result == Result.FILE_CORRUPT

    @pytest.mark.parametrize(
        "file",
        [
            dds(b"", 65_536, 65_536, dxgi=28),
            dds(b"", 16_384, 16_384, dxgi=2),
            b"#?RADIANCE\n\n-Y 99999 +X 99999\n",
            ktx2([b""], 37, 20_000, 4),
        ],
    )
    def test_sizes_are_refused_before_memory_is_taken(self, file: bytes) -> None:
        with pytest.raises(FarframeError) as caught:
            read_texture(file, "t")
        assert caught.value.result == Result.EXCEEDS_MEMORY_LIMIT

    def test_what_cannot_be_drawn(self) -> None:
        for file in (dds(bytes(64), 4, 4, dxgi=30), ktx2([bytes(64)], 1000, 4, 4), dds(b"", 4, 4, four_cc=b"UYVY")):
            with pytest.raises(FarframeError) as caught:
                read_texture(file, "t")
            assert caught.value.result == Result.NOT_SUPPORTED

    def test_the_wrong_kind(self) -> None:
        flat = dds(RGBA[:4, :4].tobytes(), 4, 4, dxgi=28)
        with pytest.raises(FarframeError) as caught:
            read_texture(flat, "t", cube=True)
        assert caught.value.result == Result.INVALID_PARAM

    def test_noise_never_ends_in_another_error(self) -> None:
        files = [dds(RGBA.tobytes(), 16, 8, dxgi=28), ktx2([RGBA.tobytes()], 37, 16, 8, scheme=2)]
        files.append(b"#?RADIANCE\n\n-Y 8 +X 16\n" + RGBA.tobytes())
        for file in files:
            for _ in range(150):
                broken = bytearray(file[: int(RANDOM.integers(1, len(file)))] if RANDOM.random() < 0.3 else file)
                for place in RANDOM.integers(0, min(len(broken), 200), 4):
                    broken[place] = int(RANDOM.integers(0, 256))
                try:
                    read_texture(bytes(broken), "t")
                except FarframeError as error:
                    assert error.result in (
                        Result.FILE_CORRUPT, Result.NOT_SUPPORTED, Result.EXCEEDS_MEMORY_LIMIT
                    )  # fmt: skip

    def test_the_limit_lets_the_largest_texture_in(self) -> None:
        side = 16_384
        levels = sum(level_bytes("rgba8unorm", side >> level, side >> level) for level in range(15))
        assert levels <= MAX_TEXTURE_BYTES
