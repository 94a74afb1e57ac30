from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.blocks import decode_blocks, level_bytes
from farframe.asset.container import Texels
from farframe.asset.model import Texture
from farframe.convert.texture_compression import (
    MAX_ODD_TEXELS,
    MAX_PLAIN_TEXELS,
    Role,
    compress_texture,
    decibels,
    encode_bc5,
)

Pixels = NDArray[np.uint8]


def smooth(height: int, width: int, seed: int = 1) -> Pixels:
    """A photo-like picture: waves of many lengths, opaque."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.full((height, width, 4), 255, np.uint8)
    for channel in range(3):
        value = np.zeros((height, width))
        for _ in range(12):
            fx, fy, phase = random.normal(0, 0.07), random.normal(0, 0.07), random.uniform(0, 6.3)
            value += np.sin(fx * x + fy * y + phase)
        pixels[..., channel] = np.clip(128 + 15 * value, 0, 255)
    return pixels


def shade(height: int, width: int) -> Pixels:
    """A gradient along one line in colour space, as BC1 holds well."""
    y, x = np.mgrid[0:height, 0:width]
    value = (x + y) / (height + width)
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[..., :3] = (value[..., None] * [200, 180, 160] + 20).astype(np.uint8)
    return pixels


def normals(height: int, width: int) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    vectors = np.dstack([0.4 * np.sin(x / 17), 0.4 * np.cos(y / 19), np.ones((height, width))])
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[..., :3] = np.rint((vectors + 1) * 127.5)
    return pixels


def level(encoded: Texels, number: int) -> Pixels:
    """A level's pixels, decoded."""
    width, height = max(1, encoded.width >> number), max(1, encoded.height >> number)
    data = encoded.mips[number]
    assert len(data) == level_bytes(encoded.format, width, height)
    if encoded.format == "rgba8unorm":
        return np.frombuffer(data, np.uint8).reshape(height, width, 4)
    return decode_blocks(encoded.format, data, width, height)


@pytest.mark.parametrize(
    ("role", "srgb", "make", "wanted", "least"),
    [
        ("color", True, smooth, "bc7-rgba-unorm", 41.0),
        ("color", True, shade, "bc1-rgba-unorm", 38.0),
        ("mask", False, smooth, "bc7-rgba-unorm", 41.0),
        ("mask", False, shade, "bc1-rgba-unorm", 38.0),
    ],
)
def test_the_format_follows_from_the_role_and_what_the_picture_needs(role, srgb, make, wanted, least):
    pixels = make(96, 128)
    encoded = compress_texture(Texture(pixels, srgb, wrap_u="mirror", min_filter="nearest", name="it"), role)
    assert (encoded.format, encoded.srgb, encoded.width, encoded.height) == (wanted, srgb, 128, 96)
    assert (encoded.wrap_u, encoded.wrap_v, encoded.min_filter, encoded.name) == ("mirror", "repeat", "nearest", "it")
    assert len(encoded.mips) == 8
    assert min(decibels(pixels, level(encoded, 0))[:3]) >= least


def test_alpha_is_kept_for_the_role_that_has_it_and_opaque_for_others():
    pixels = smooth(64, 64)
    pixels[..., 3] = smooth(64, 64, 2)[..., 0]
    with_alpha = compress_texture(Texture(pixels, True), "color_alpha")
    assert with_alpha.format == "bc7-rgba-unorm"
    assert min(decibels(pixels, level(with_alpha, 0))) > 30
    without = compress_texture(Texture(pixels, True), "color")
    assert level(without, 0)[..., 3].min() >= 254


def test_an_opaque_picture_costs_no_alpha():
    assert compress_texture(Texture(shade(64, 64), True), "color_alpha").format == "bc1-rgba-unorm"


def test_normals_keep_x_and_y_to_within_a_few_steps_on_all_levels():
    pixels = normals(128, 128)
    encoded = compress_texture(Texture(pixels, False), "normal")
    assert encoded.format == "bc5-rg-unorm"
    assert min(decibels(pixels, level(encoded, 0))[:2]) > 45
    small = level(encoded, 2)
    mean = (pixels[..., :2].reshape(32, 4, 32, 4, 2).astype(float) / 127.5 - 1).mean(axis=(1, 3))
    z = (pixels[..., 2].reshape(32, 4, 32, 4).astype(float) / 127.5 - 1).mean(axis=(1, 3))
    unit = mean / np.sqrt((mean**2).sum(axis=2) + z**2)[..., None]
    assert np.abs(small[..., :2] / 127.5 - 1 - unit).max() < 0.03


@pytest.mark.parametrize("role", ["color", "color_alpha", "normal", "mask"])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (3, 300), (129, 130), (200, 333), (4, 4096)])
def test_every_size_has_all_its_levels(role: Role, size: tuple[int, int]):
    height, width = size
    pixels = smooth(height, width)
    pixels[..., 3] = 200
    encoded = compress_texture(Texture(pixels, role.startswith("color")), role)
    if encoded.format != "rgba8unorm":
        assert encoded.width % 4 == 0 and encoded.height % 4 == 0
        assert 0 <= encoded.width - width < 4 and 0 <= encoded.height - height < 4
        assert width * height > MAX_PLAIN_TEXELS
        assert width * height > MAX_ODD_TEXELS or (width % 4 == 0 and height % 4 == 0)
    else:
        assert (encoded.width, encoded.height) == (width, height)
    assert len(encoded.mips) == max(encoded.width, encoded.height).bit_length()
    for number in range(len(encoded.mips)):
        level(encoded, number)


def test_an_odd_size_is_resampled_in_place():
    pixels = shade(203, 301)
    encoded = compress_texture(Texture(pixels, True), "color", "high")
    assert (encoded.width, encoded.height) == (304, 204)
    found = level(encoded, 0)
    for v, u in ((0.1, 0.1), (0.5, 0.5), (0.9, 0.3)):
        wanted = pixels[int(v * 203), int(u * 301)].astype(int)
        assert np.abs(found[int(v * 204), int(u * 304)].astype(int) - wanted).max() <= 4


def test_bands_of_rows_join_without_a_seam(monkeypatch: pytest.MonkeyPatch):
    pixels = smooth(202, 150)
    whole = compress_texture(Texture(pixels, True), "color")
    monkeypatch.setattr("farframe.convert.texture_compression.BAND_ROWS", 16)
    monkeypatch.setattr("farframe.convert.texture_compression._BAND_BLOCKS", 64)
    assert compress_texture(Texture(pixels, True), "color").mips == whole.mips


def test_mips_average_light_not_codes():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:, ::2, :3] = 255
    assert level(compress_texture(Texture(pixels, True), "color"), 1)[0, 0].tolist() == [188, 188, 188, 255]
    assert level(compress_texture(Texture(pixels, False), "mask"), 1)[0, 0].tolist() == [128, 128, 128, 255]


def test_the_colour_of_transparent_texels_does_not_bleed():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, 0::2] = (200, 10, 20, 255)
    pixels[:, 1::2] = (0, 255, 255, 0)
    found = level(compress_texture(Texture(pixels, True), "color_alpha"), 1)[3, 3].astype(int)
    assert np.abs(found - [200, 10, 20, 128]).max() <= 1


def test_hidden_colours_survive_where_everything_is_transparent():
    pixels = smooth(32, 32)
    pixels[..., 3] = 0
    found = level(compress_texture(Texture(pixels, True), "color_alpha"), 1)
    mean = pixels[..., :3].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(found[..., :3] - mean).max() < 8
    assert found[..., 3].max() == 0


def test_one_colour_is_one_texel():
    pixels = np.full((2048, 2048, 4), 77, np.uint8)
    encoded = compress_texture(Texture(pixels, True), "color")
    assert (encoded.width, encoded.height, encoded.mips) == (1, 1, [bytes([77, 77, 77, 255])])
    encoded = compress_texture(Texture(pixels, True), "color_alpha")
    assert encoded.mips == [bytes([77, 77, 77, 77])]


def test_a_palette_is_kept_exactly():
    pixels = np.random.default_rng(3).integers(0, 256, (4, 256, 4), dtype=np.uint8)
    encoded = compress_texture(Texture(pixels, True), "color_alpha")
    assert encoded.format == "rgba8unorm"
    assert (level(encoded, 0) == pixels).all()


def test_without_mipmaps_there_is_one_level():
    assert len(compress_texture(Texture(smooth(64, 64), True, mipmaps=False), "color").mips) == 1


def test_better_quality_is_better():
    pixels = smooth(128, 128, 5)
    found = [
        min(decibels(pixels, level(compress_texture(Texture(pixels, True), "color", quality), 0))[:3])
        for quality in ("fast", "normal", "high")
    ]
    assert found[0] < found[1] <= found[2] + 0.1


def test_bc5_holds_every_single_value_and_every_pair():
    values = np.arange(256, dtype=np.uint8)
    pixels = np.zeros((4, 1024, 4), np.uint8)
    pixels[..., 0] = np.repeat(values, 4)
    pixels[..., 1] = np.where(np.arange(1024) % 4 < 2, np.repeat(values, 4), 255)
    found = decode_blocks("bc5-rg-unorm", encode_bc5(pixels), 1024, 4)
    assert (found[..., :2] == pixels[..., :2]).all()


def test_what_is_no_texture_is_refused():
    with pytest.raises(ValueError, match="sRGB"):
        compress_texture(Texture(shade(8, 8), True), "normal")
    with pytest.raises(ValueError, match="bytes"):
        compress_texture(Texture(np.empty((0, 0, 4), np.uint8), True), "color")


def test_a_mask_that_is_srgb_is_averaged_as_light():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, ::2, :3] = 255
    assert level(compress_texture(Texture(pixels, True), "mask"), 1)[0, 0, 0] == 188


def test_blocks_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match="no level"):
        decode_blocks("bc7-rgba-unorm", bytes(31), 8, 4)
    with pytest.raises(ValueError, match="no level"):
        decode_blocks("bc1-rgba-unorm", b"", 0, 4)


@pytest.mark.parametrize("texture_format", ["bc1-rgba-unorm", "bc5-rg-unorm", "bc7-rgba-unorm"])
def test_any_bytes_are_some_picture(texture_format):
    random = np.random.default_rng(9)
    for width, height in ((1, 1), (5, 3), (64, 64)):
        data = random.bytes(level_bytes(texture_format, width, height))
        assert decode_blocks(texture_format, data, width, height).shape == (height, width, 4)
