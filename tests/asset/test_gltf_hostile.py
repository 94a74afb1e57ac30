"""Whatever bytes come in, the reader answers with a model or a typed error: never a traceback, never a blow-up."""

from __future__ import annotations

import copy
import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from farframe.asset.gltf import read_gltf
from farframe.asset.model import Model
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

LIMITS = LoadLimits(max_memory_bytes=64 * 1024**2, max_seconds=20)
ALLOWED = {
    Result.FILE_CORRUPT,
    Result.FILE_NOT_FOUND,
    Result.NOT_SUPPORTED,
    Result.EXCEEDS_MEMORY_LIMIT,
}

_FUZZ = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_or_refuse(path) -> Model | FarframeError:
    """The model, checked to be consistent, or the typed error."""
    try:
        model = read_gltf(path, LIMITS)
    except FarframeError as error:
        assert error.result in ALLOWED
        assert error.message
        return error
    for part in model.parts:
        level = part.levels[0]
        indices = model.indices[level.first_index : level.first_index + level.index_count]
        assert len(indices) == level.index_count > 0
        assert int(indices.max()) < part.vertex_count
        assert 0 <= part.material < len(model.materials)
    for field in ("position", "uv0", "uv1"):
        assert np.isfinite(model.vertices[field]).all()
    assert np.isfinite(model.instance_matrix).all()
    return model


def split_glb(data):
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[20 + length :]


def join_glb(document: bytes, rest: bytes) -> bytes:
    document += b" " * (-len(document) % 4)
    body = struct.pack("<I4s", len(document), b"JSON") + document + rest
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def places(value, path=()):
    """All places in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 3, 4, 255, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**64, 10**30]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "VEC4", "../x", "data:", "data:;base64,AAAA", "data:;base64,!", "\x00", "é" * 300, "\ud800"]),
    st.sampled_from([[], {}, [[]], [0], [1, 2, 3], [1e300] * 16, {"extensions": None}]),
)


def mutated_json(quad_glb, tmp_path, data):
    document, rest = split_glb(quad_glb.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([each for each in places(document) if each]))
        target = document
        for step in path[:-1]:
            target = target[step]
        if data.draw(st.booleans()):
            target[path[-1]] = copy.deepcopy(data.draw(ODD_VALUES))  # later steps change it in place
        elif isinstance(target, dict):
            del target[path[-1]]
        else:
            target.append(target[path[-1]])
        if not isinstance(document, dict) or not document:
            break
    broken = tmp_path / "broken.glb"
    broken.write_bytes(join_glb(json.dumps(document).encode(), rest))
    read_or_refuse(broken)


def mutated_bytes(quad_glb, tmp_path, data):
    content = bytearray(quad_glb.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.glb"
    broken.write_bytes(content)
    read_or_refuse(broken)


@seed(1)
@settings(_FUZZ, max_examples=150)
@given(data=st.data())
def test_mutated_json(sound_glb, tmp_path, data):
    mutated_json(sound_glb, tmp_path, data)


@seed(1)
@settings(_FUZZ, max_examples=150)
@given(data=st.data())
def test_mutated_bytes(sound_glb, tmp_path, data):
    mutated_bytes(sound_glb, tmp_path, data)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(_FUZZ, max_examples=20_000)
@given(data=st.data())
def test_mutated_json_soak(sound_glb, tmp_path, data):
    mutated_json(sound_glb, tmp_path, data)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(_FUZZ, max_examples=20_000)
@given(data=st.data())
def test_mutated_bytes_soak(sound_glb, tmp_path, data):
    mutated_bytes(sound_glb, tmp_path, data)


@seed(1)
@settings(_FUZZ, max_examples=100)
@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda b: b"glTF\2\0\0\0" + b)))
def test_any_bytes(tmp_path, content):
    path = tmp_path / "any.glb"
    path.write_bytes(content)
    assert isinstance(read_or_refuse(path), FarframeError)


def test_every_truncation_of_a_small_file(sound_glb, tmp_path):
    content = sound_glb.read_bytes()
    path = tmp_path / "cut.glb"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        error = read_or_refuse(path)
        assert isinstance(error, FarframeError)
        assert error.result is Result.FILE_CORRUPT


def test_truncations_of_a_real_file(models_folder, tmp_path):
    content = (models_folder / "2CylinderEngine.glb").read_bytes()
    path = tmp_path / "cut.glb"
    for length in range(0, len(content), 1_000):
        path.write_bytes(content[:length])
        error = read_or_refuse(path)
        assert isinstance(error, FarframeError)
        assert error.result is Result.FILE_CORRUPT


def test_truncated_but_with_an_honest_header(models_folder, tmp_path):
    content = (models_folder / "Duck.glb").read_bytes()
    path = tmp_path / "cut.glb"
    for length in range(20, len(content), 1_000):
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, length) + content[12:length])
        assert isinstance(read_or_refuse(path), FarframeError)


def test_a_huge_texture_claim_is_refused_without_being_allocated(tmp_path, gltf, encode_image):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 23_170, 23_170, 8, 6, 0, 0, 0)
    claim = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    texture = gltf.texture(claim)
    gltf.material(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    gltf.node(mesh=gltf.mesh({**gltf.quad(), "material": 0}))
    path = gltf.write_glb(tmp_path / "a.glb")
    tracemalloc.start()
    try:
        with pytest.raises(FarframeError) as caught:
            read_gltf(path, LoadLimits())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT
    assert peak < 50_000_000


def test_a_broken_picture_is_corrupt(tmp_path, gltf, encode_image):
    whole = encode_image(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for image in (whole[:100], whole[: len(whole) // 2], b"GIF89a" + bytes(30), b"", b"\xff\xd8\xff\xe0" + bytes(20)):
        gltf.json.pop("images", None)
        gltf.json.pop("textures", None)
        gltf.json["materials"] = [{"emissiveTexture": {"index": gltf.texture(image)}}]
        error = read_or_refuse(gltf.write_glb(tmp_path / "a.glb"))
        assert isinstance(error, FarframeError)
        assert error.result is Result.FILE_CORRUPT


def test_total_pixels_are_limited(tmp_path, gltf, encode_image):
    for _ in range(3):
        gltf.material(emissiveTexture={"index": gltf.texture(encode_image(np.zeros((32, 32, 3), dtype=np.uint8)))})
    path = gltf.write_glb(tmp_path / "a.glb")
    assert isinstance(read_gltf(path, LoadLimits(max_total_texture_pixels=3 * 1024)), Model)
    with pytest.raises(FarframeError) as caught:
        read_gltf(path, LoadLimits(max_total_texture_pixels=3 * 1024 - 1))
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT


@pytest.mark.parametrize("accessor", [{"count": 2**40}, {"count": 2**40, "sparse": {"count": 0}}])
def test_elements_out_of_nothing_are_counted_before_they_are_made(tmp_path, gltf, accessor):
    view = gltf.view(bytes(4))
    if "sparse" in accessor:
        indices = {"bufferView": view, "componentType": 5121}
        accessor["sparse"] = {"count": 0, "indices": indices, "values": {"bufferView": view}}
    gltf.json["accessors"].append({"componentType": 5126, "type": "VEC3", **accessor})
    gltf.node(mesh=gltf.mesh({"attributes": {"POSITION": 0}}))
    error = read_or_refuse(gltf.write_glb(tmp_path / "a.glb"))
    assert isinstance(error, FarframeError)
    assert error.result is Result.EXCEEDS_MEMORY_LIMIT


def test_many_uses_of_one_large_accessor_cost_only_what_they_use(tmp_path, gltf):
    place = gltf.accessor(np.random.default_rng(1).random((100_000, 3)))
    normal = gltf.accessor(np.tile([0.0, 0.0, 1.0], (100_000, 1)))
    triples = [gltf.accessor([i, i + 1, i + 2], "u4") for i in range(200)]
    attributes = {"POSITION": place, "NORMAL": normal}
    gltf.node(mesh=gltf.mesh(*({"attributes": attributes, "indices": each} for each in triples)))
    model = read_or_refuse(gltf.write_glb(tmp_path / "a.glb"))
    assert isinstance(model, Model)
    assert len(model.vertices) == 600


def test_triangles_of_all_instances_are_limited(tmp_path, gltf):
    mesh = gltf.mesh(gltf.quad())
    for _ in range(10):
        gltf.node(mesh=mesh)
    path = gltf.write_glb(tmp_path / "a.glb")
    assert read_gltf(path, LoadLimits(max_triangles=20)).triangle_count == 20
    with pytest.raises(FarframeError) as caught:
        read_gltf(path, LoadLimits(max_triangles=19))
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT


def test_deeply_nested_json_is_corrupt(tmp_path):
    path = tmp_path / "a.gltf"
    path.write_bytes(b'{"asset":{"version":"2.0"},"extras":' + b"[" * 500_000 + b"]" * 500_000 + b"}")
    assert read_or_refuse(path).result is Result.FILE_CORRUPT


def test_errors_name_the_place(tmp_path, gltf):
    gltf.node(mesh=gltf.mesh(gltf.quad()))
    gltf.json["accessors"][1]["count"] = "four"
    error = read_or_refuse(gltf.write_glb(tmp_path / "a.glb"))
    assert "$.accessors[1].count" in error.message
    gltf.json["accessors"][1]["count"] = 5
    error = read_or_refuse(gltf.write_glb(tmp_path / "a.glb"))
    assert "$.accessors[1]" in error.message


@pytest.mark.parametrize(
    "view",
    [
        {"byteOffset": 2**40},
        {"byteLength": 2**40},
        {"byteLength": 8},
        {"byteStride": 4},
        {"byteStride": 252},
        {"buffer": 7},
    ],
)
def test_ranges_of_bytes_are_checked(tmp_path, gltf, view):
    gltf.node(mesh=gltf.mesh(gltf.quad()))
    gltf.json["bufferViews"][0].update(view)
    error = read_or_refuse(gltf.write_glb(tmp_path / "a.glb"))
    assert isinstance(error, FarframeError)
    assert error.result is Result.FILE_CORRUPT
