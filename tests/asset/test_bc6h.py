"""BC6H blocks: what they mean, held to Mesa's decoder where there is one, and to what it made of the same blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import wgpu
from numpy.typing import NDArray

from farframe.asset.bc6h import _MODES, BLOCK_BYTES, CHUNK_BLOCKS, decode_bc6h
from farframe.protocol.errors import FarframeError
from farframe.render import Engine

SIDE = 224
"""3,136 blocks, as many of each mode, with 224 each."""


def blocks() -> bytes:
    """Blocks of all modes with chance in all other bits."""
    random = np.random.default_rng(6)
    found = random.integers(0, 256, ((SIDE // 4) ** 2, BLOCK_BYTES), np.uint8)
    for place, mode in zip(range(len(found)), list(_MODES) * len(found), strict=False):
        found[place, 0] = (int(found[place, 0]) & (0xFC if mode < 2 else 0xE0)) | mode
    return found.tobytes()


@pytest.mark.parametrize(
    ("signed", "digest"),
    [
        (False, "168d3205591ea6442cd46cb6373e25c4ec1c2f3b6fc1e85d37d428792122173a"),
        (True, "a9a76c1ddfe2fb3252287b560728186f582744c6fa5d449125fbd8b2379ea6c6"),
    ],
)
def test_all_modes_give_what_mesa_gave(signed: bool, digest: str) -> None:
    found = decode_bc6h(blocks(), SIDE, SIDE, signed=signed)
    assert np.isfinite(found).all() and (found < 0).any() == signed
    assert hashlib.sha256(found.astype("<f2").tobytes()).hexdigest() == digest


@pytest.fixture(scope="module")
def device() -> Iterator[object]:
    try:
        engine = Engine.create("cpu")
    except FarframeError:
        engine = Engine.create("auto")
    if "texture-compression-bc" not in engine._device.features:
        engine.close()
        pytest.skip("this adapter reads no blocks")
    yield engine._device
    engine.close()


READ = """
@group(0) @binding(0) var image: texture_2d<f32>;
@group(0) @binding(1) var<storage, read_write> texels: array<vec4f>;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) at: vec3u) {
    texels[at.y * 224u + at.x] = textureLoad(image, vec2i(at.xy), 0);
}
"""


@pytest.mark.parametrize("signed", [False, True])
def test_all_modes_give_what_the_device_reads(device: wgpu.GPUDevice, signed: bool) -> None:
    texture = device.create_texture(
        size=(SIDE, SIDE, 1),
        format="bc6h-rgb-float" if signed else "bc6h-rgb-ufloat",
        usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST,
    )
    layout = {"bytes_per_row": SIDE // 4 * BLOCK_BYTES, "rows_per_image": SIDE // 4}
    device.queue.write_texture({"texture": texture}, blocks(), layout, (SIDE, SIDE, 1))
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
    buffer = device.create_buffer(size=SIDE * SIDE * 16, usage=usage)
    shader = device.create_shader_module(code=READ)
    pipeline = device.create_compute_pipeline(layout="auto", compute={"module": shader, "entry_point": "main"})
    group = device.create_bind_group(
        layout=pipeline.get_bind_group_layout(0),
        entries=[
            {"binding": 0, "resource": texture.create_view()},
            {"binding": 1, "resource": {"buffer": buffer}},
        ],
    )
    encoder = device.create_command_encoder()
    passing = encoder.begin_compute_pass()
    passing.set_pipeline(pipeline)
    passing.set_bind_group(0, group)
    passing.dispatch_workgroups(SIDE // 8, SIDE // 8)
    passing.end()
    device.queue.submit([encoder.finish()])
    read: NDArray[np.float32] = np.frombuffer(device.queue.read_buffer(buffer), np.float32).reshape(SIDE, SIDE, 4)
    np.testing.assert_array_equal(decode_bc6h(blocks(), SIDE, SIDE, signed=signed).astype(np.float32), read[..., :3])
    texture.destroy()
    buffer.destroy()


def test_reserved_modes_are_black() -> None:
    for mode in (0x13, 0x17, 0x1B, 0x1F):
        assert not decode_bc6h(bytes([mode | 0xE0]) + b"\xff" * 15, 4, 4, signed=False).any()


def test_sizes_that_are_no_multiple_of_four_leave_padding_out_and_chunks_leave_no_seam() -> None:
    whole = decode_bc6h(blocks(), SIDE, SIDE, signed=False)
    np.testing.assert_array_equal(
        decode_bc6h(blocks(), SIDE - 1, SIDE - 3, signed=False), whole[: SIDE - 3, : SIDE - 1]
    )
    row = blocks()[: SIDE // 4 * BLOCK_BYTES]
    many = CHUNK_BLOCKS // (SIDE // 4) + 2
    tall = decode_bc6h(row * many, SIDE, 4 * many, signed=False)
    np.testing.assert_array_equal(tall, np.tile(whole[:4], (many, 1, 1)))


@pytest.mark.parametrize(("length", "width", "height"), [(15, 4, 4), (17, 4, 4), (16, 5, 4), (0, 0, 4), (16, 4, -4)])
def test_too_few_or_too_many_bytes_are_refused(length: int, width: int, height: int) -> None:
    with pytest.raises(ValueError, match="no BC6H level"):
        decode_bc6h(bytes(length), width, height, signed=True)
