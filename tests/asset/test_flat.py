"""The flat file: everything comes back, nothing broken is believed."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from farframe.asset.flat import VERSION, read_flat, write_flat
from farframe.asset.gltf import read_gltf
from farframe.asset.lod import build_levels
from farframe.asset.model import Model
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

HEAD = struct.Struct("<8sIIQ")


def assert_equal(left: Model, right: Model) -> None:
    for name in ("name", "parts", "materials", "bounds_min", "bounds_max", "warnings"):
        assert getattr(left, name) == getattr(right, name)
    for name in ("vertices", "indices", "instance_part", "instance_node", "instance_matrix"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        assert getattr(left, name).dtype == getattr(right, name).dtype
    for a, b in zip(left.textures, right.textures, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        for name in ("srgb", "wrap_u", "wrap_v", "mag_filter", "min_filter", "mipmaps", "name"):
            assert getattr(a, name) == getattr(b, name)
    for a, b in zip(left.nodes, right.nodes, strict=True):
        assert (a.name, a.parent) == (b.name, b.parent)
        np.testing.assert_array_equal(a.matrix, b.matrix)


@pytest.mark.parametrize("name", ["Duck.glb", "2CylinderEngine.glb", "BoxTextured/BoxTextured.gltf"])
def test_round_trip(models_folder, tmp_path, name):
    model = build_levels(read_gltf(models_folder / name, LoadLimits()))
    path = tmp_path / "model.flat"
    size = write_flat(model, path)
    assert path.stat().st_size == size
    read = read_flat(path)
    path.unlink()
    assert_equal(read, model)
    assert not read.vertices.flags.owndata
    assert not read.vertices.flags.writeable


def test_an_empty_model(tmp_path, gltf):
    model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LoadLimits())
    write_flat(model, tmp_path / "model.flat")
    assert_equal(read_flat(tmp_path / "model.flat"), model)


def test_shared_pixels_are_stored_once(tmp_path, gltf, encode_image):
    texture = gltf.texture(encode_image(np.zeros((256, 256, 3), dtype=np.uint8)))
    gltf.material(emissiveTexture={"index": texture}, normalTexture={"index": texture})
    model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LoadLimits())
    assert len(model.textures) == 2
    assert write_flat(model, tmp_path / "model.flat") < 1.5 * 256 * 256 * 4


def test_an_existing_file_is_not_overwritten(tmp_path, quad_glb):
    model = read_gltf(quad_glb, LoadLimits())
    (tmp_path / "model.flat").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_flat(model, tmp_path / "model.flat")


@pytest.fixture
def flat_file(tmp_path, quad_glb):
    path = tmp_path / "model.flat"
    write_flat(build_levels(read_gltf(quad_glb, LoadLimits())), path)
    return path


def refused(path):
    with pytest.raises(FarframeError) as caught:
        read_flat(path)
    return caught.value.result


def test_missing(tmp_path):
    assert refused(tmp_path / "nothing.flat") is Result.FILE_NOT_FOUND


def test_every_truncation(flat_file):
    content = flat_file.read_bytes()
    # The last array ends before the padding that follows it.
    for length in range(0, len(content) - 64, 3):
        flat_file.write_bytes(content[:length])
        assert refused(flat_file) is Result.FILE_CORRUPT


def test_another_version(flat_file):
    content = flat_file.read_bytes()
    flat_file.write_bytes(content[:8] + struct.pack("<I", VERSION + 1) + content[12:])
    assert refused(flat_file) is Result.FILE_CORRUPT


def with_header(path, change):
    """Write the file again with a changed header, of the same length so that the data stays where it is."""
    content = path.read_bytes()
    magic, version, zero, length = HEAD.unpack_from(content)
    header = json.loads(content[HEAD.size : HEAD.size + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    start = -(-(HEAD.size + length) // 64) * 64
    new_start = -(-(HEAD.size + len(text)) // 64) * 64
    head = HEAD.pack(magic, version, zero, len(text)) + text
    path.write_bytes(head + bytes(new_start - len(head)) + content[start:])


def set_in(*steps, value):
    def change(header):
        target = header
        for step in steps[:-1]:
            target = target[step]
        target[steps[-1]] = value

    return change


def test_an_unchanged_header_is_read(flat_file):
    with_header(flat_file, lambda header: None)
    assert isinstance(read_flat(flat_file), Model)


@pytest.mark.parametrize(
    "change",
    [
        set_in("parts", 0, "first_vertex", value=-1),
        set_in("parts", 0, "vertex_count", value=3),
        set_in("parts", 0, "vertex_count", value=5),
        set_in("parts", 0, "material", value=1),
        set_in("parts", 0, "levels", value=[]),
        set_in("parts", 0, "levels", 0, "first_index", value=-3),
        set_in("parts", 0, "levels", 0, "first_index", value=3),
        set_in("parts", 0, "levels", 0, "index_count", value=5),
        set_in("parts", 0, "levels", 0, "error", value=-1.0),
        set_in("materials", 0, "base_color_texture", "texture", value=1),
        set_in("materials", 0, "base_color_texture", "uv_set", value=2),
        set_in("materials", 0, "alpha_mode", value="glow"),
        set_in("textures", 0, "pixels", value=1),
        set_in("textures", 0, "pixels", value=-1),
        set_in("node_names", value=["one"]),
        set_in("vertices", "shape", value=[2**40]),
        set_in("vertices", "shape", value=[-1]),
        set_in("vertices", "shape", value=[2, 2]),
        set_in("indices", "offset", value=-64),
        set_in("indices", "offset", value=1),
        set_in("indices", "offset", value=2**50),
        set_in("pixels", 0, "shape", value=[0, 4, 4]),
        set_in("pixels", 0, "shape", value=[4, 4, 3]),
        set_in("instance_node", "shape", value=[1]),
        set_in("parts", value=[]),
        set_in("metadata", value={"2": {}}),
        set_in("metadata", value={"-1": {}}),
        set_in("metadata", value={"0": {"a": [1]}}),
        set_in("metadata", value={"²": {"a": 1}}),
    ],
)
def test_wrong_headers(flat_file, change):
    with_header(flat_file, change)
    assert refused(flat_file) is Result.FILE_CORRUPT


@pytest.mark.parametrize("name", ["instance_part", "instance_node", "node_parents", "indices", "node_matrices"])
def test_wrong_numbers_in_arrays(flat_file, name):
    content = bytearray(flat_file.read_bytes())
    length = HEAD.unpack_from(content)[3]
    header = json.loads(content[HEAD.size : HEAD.size + length])
    start = -(-(HEAD.size + length) // 64) * 64 + header[name]["offset"]
    # 0x7ff0... is a large integer and an infinite float.
    content[start : start + 8] = (
        bytes.fromhex("000000000000f07f") if name == "node_matrices" else b"\xff\xff\xff\x7f" * 2
    )
    flat_file.write_bytes(content)
    assert refused(flat_file) is Result.FILE_CORRUPT


@seed(1)
@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_mutated_bytes(flat_file, tmp_path, data):
    content = bytearray(flat_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.flat"
    broken.write_bytes(content)
    try:
        model = read_flat(broken)
    except FarframeError as error:
        assert error.result is Result.FILE_CORRUPT
    else:
        for part in model.parts:
            for level in part.levels:
                assert (
                    model.indices[level.first_index : level.first_index + level.index_count].max() < part.vertex_count
                )
