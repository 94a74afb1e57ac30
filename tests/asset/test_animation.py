"""Animations of nodes: read from glTF, scaled and turned with their model, coded and decoded, and never trusted."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from farframe.asset.animation import (
    CUBIC,
    LINEAR,
    MAX_BYTES,
    ROTATION,
    SCALE,
    STEP,
    TRANSLATION,
    Animations,
    Clip,
    decode_animations,
    encode_animations,
)
from farframe.asset.container import Asset
from farframe.asset.flat import read_flat, write_flat
from farframe.asset.format import HEAD, AssetIndex
from farframe.asset.gltf import read_gltf
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.convert.transform import apply_axis, flatten, recenter, scale_model
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits
from farframe.scene.transforms import compose
from tests.asset.conftest import GltfBuilder

HALF = float(np.sqrt(0.5))


def animated(path: Path, **changes: Any) -> Path:
    """A square under two nodes: the upper turns and is scaled in steps, the lower goes along x on a spline."""
    gltf = GltfBuilder()
    mesh = gltf.mesh(gltf.quad())
    gltf.node(name="upper", children=[1], translation=[0, 2, 0], scale=[1, -1, 1])
    gltf.node(root=False, mesh=mesh, name="lower", translation=[1, 0, 0])
    gltf.node(name="unused", root=False)
    turns = gltf.accessor([[0, 0, 0, 1], [0, 0, HALF, HALF]])
    ends = gltf.accessor([0.5, 1.5])
    sizes = gltf.accessor([[1, -1, 1], [2, -2, 2], [3, -3, 3]])
    three = gltf.accessor([0.0, 1.0, 2.0])
    spline = gltf.accessor([[0, 0, 0], [1, 0, 0], [3, 0, 0], [3, 0, 0], [2, 0, 0], [0, 0, 0]])
    gltf.json["animations"] = [
        {
            "name": "all",
            "samplers": [
                {"input": ends, "output": turns},
                {"input": three, "output": sizes, "interpolation": "STEP"},
                {"input": ends, "output": spline, "interpolation": "CUBICSPLINE"},
            ],
            "channels": [
                {"sampler": 0, "target": {"node": 0, "path": "rotation"}},
                {"sampler": 1, "target": {"node": 0, "path": "scale"}},
                {"sampler": 2, "target": {"node": 1, "path": "translation"}},
                {"sampler": 2, "target": {"node": 2, "path": "translation"}},
                {"sampler": 0, "target": {"path": "rotation"}},
                {"sampler": 0, "target": {"node": 0, "path": "weights"}},
            ],
        },
        {"samplers": [], "channels": []},
        {"samplers": [{"input": ends, "output": turns}],
         "channels": [{"sampler": 0, "target": {"node": 1, "path": "rotation"}}]},
    ]  # fmt: skip
    gltf.json.update(changes)
    return gltf.write_glb(path)


def same(one: Animations, other: Animations) -> None:
    np.testing.assert_array_equal(one.node, other.node)
    np.testing.assert_allclose(one.rest, other.rest)
    assert [clip.name for clip in one.clips] == [clip.name for clip in other.clips]
    for first, second in zip(one.clips, other.clips, strict=True):
        assert first.duration == second.duration
        for name in ("row", "path", "mode", "first_key", "times", "values"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


def test_a_files_animations_are_read(tmp_path: Path) -> None:
    model = read_gltf(animated(tmp_path / "a.glb"), LoadLimits())
    found = model.animations
    assert found is not None
    assert [model.nodes[node].name for node in found.node] == ["upper", "lower"]
    np.testing.assert_allclose(found.rest[0], [0, 2, 0, 0, 0, 0, 1, 1, -1, 1])
    assert [clip.name for clip in found.clips] == ["all", "animation 2"]
    first = found.clips[0]
    assert first.duration == 2.0
    assert first.row.tolist() == [0, 0, 1] and first.path.tolist() == [ROTATION, SCALE, TRANSLATION]
    assert first.mode.tolist() == [LINEAR, STEP, CUBIC] and first.first_key.tolist() == [0, 2, 5, 7]
    assert first.first_value.tolist() == [0, 2, 5, 11]
    assert any("weights" in warning for warning in model.warnings)
    assert read_gltf(animated(tmp_path / "none.glb", animations=[]), LoadLimits()).animations is None


def test_they_go_the_way_of_the_model_through_files(tmp_path: Path) -> None:
    model = read_gltf(animated(tmp_path / "a.glb"), LoadLimits())
    assert model.animations is not None
    write_flat(model, tmp_path / "a.flat")
    flat = read_flat(tmp_path / "a.flat").animations
    assert flat is not None
    same(flat, model.animations)
    build_asset(model, tmp_path / "a.arrAsset", BuildOptions(workers=1))
    asset = Asset.open(FileSource(tmp_path / "a.arrAsset"), LoadLimits())
    read = asset.read_animations()
    assert read is not None and asset.index.animations is not None and asset.index.animations.count == 2
    same(read, model.animations)
    asset.close()
    flatten(model)
    build_asset(model, tmp_path / "b.arrAsset", BuildOptions(workers=1))
    still = Asset.open(FileSource(tmp_path / "b.arrAsset"), LoadLimits())
    assert still.read_animations() is None
    still.close()


def test_readers_that_do_not_know_of_animations_read_the_rest(tmp_path: Path) -> None:
    """The version stays: an index without the member is decoded from the same bytes."""
    build_asset(read_gltf(animated(tmp_path / "a.glb"), LoadLimits()), tmp_path / "a.arrAsset", BuildOptions(workers=1))
    data = (tmp_path / "a.arrAsset").read_bytes()
    *_, offset, length, _ = HEAD.unpack_from(data)
    known = [
        (field.name, field.type, field.default) if not field.required else (field.name, field.type)
        for field in msgspec.structs.fields(AssetIndex)
        if field.name not in ("animations", "metadata", "warnings")
    ]
    older = msgspec.defstruct("Older", known, frozen=True, kw_only=True)
    assert msgspec.msgpack.decode(data[offset : offset + length], type=older).name == "a"


def locals_of(animations: Animations, clip: int) -> Any:
    """(k, 3, 4): the local matrices of the first node at the keys of its rotation."""
    data = animations.clips[clip]
    position, scale = np.tile(animations.rest[0, :3], (2, 1)), np.tile(animations.rest[0, 7:], (2, 1))
    rotation = data.values[:2].astype(np.float64)
    return compose(position, rotation / np.linalg.norm(rotation, axis=1, keepdims=True), scale)


@pytest.mark.parametrize("axis", [("+z", "+x", "+y"), ("-x", "+y", "+z"), ("+y", "+x", "+z"), ("-z", "-y", "-x")])
def test_roots_that_are_turned_or_mirrored_move_as_before_in_the_new_place(tmp_path: Path, axis: Any) -> None:
    model = read_gltf(animated(tmp_path / "a.glb"), LoadLimits())
    before = read_gltf(animated(tmp_path / "a.glb"), LoadLimits())
    assert model.animations is not None and before.animations is not None
    root, child = model.nodes[0].matrix.copy(), before.animations.clips[0].values[5:].copy()
    scale_model(model, 2.0)
    apply_axis(model, axis)
    recenter(model)
    change = model.nodes[0].matrix @ np.linalg.inv(root @ np.eye(4))
    change[:3, :3] = model.nodes[0].matrix[:3, :3] @ np.linalg.inv(root[:3, :3])
    change[:3, 3] = model.nodes[0].matrix[:3, 3] - change[:3, :3] @ (2.0 * root[:3, 3])
    expected = locals_of(before.animations, 0)
    expected[:, :, 3] *= 2.0
    moved = change[:3, :3] @ expected
    moved[:, :, 3] += change[:3, 3]
    np.testing.assert_allclose(locals_of(model.animations, 0), moved, atol=1e-5)
    # What is below the root is only scaled.
    np.testing.assert_allclose(model.animations.clips[0].values[5:, :3], 2.0 * child[:, :3], atol=1e-6)
    # Scales keep their size.
    np.testing.assert_allclose(
        np.abs(model.animations.clips[0].values[2:5, :3]), np.abs(before.animations.clips[0].values[2:5, :3])
    )


def test_tangents_of_a_root_turn_and_do_not_move() -> None:
    values = np.array([[0, 0, 0, 0], [1, 2, 3, 0], [1, 0, 0, 0]], np.float32)
    clip = Clip("a", 0.0, np.zeros(1, np.int32), np.array([TRANSLATION], np.uint8), np.array([CUBIC], np.uint8),
                np.array([0, 1]), np.zeros(1, np.float32), values)  # fmt: skip
    animations = Animations(np.zeros(1, np.int32), np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1.0]]), [clip])
    matrix = np.eye(4)
    matrix[:3, 3] = (10, 20, 30)
    animations.move_roots(matrix, np.ones(1, np.bool_))
    np.testing.assert_allclose(clip.values[:, :3], [[0, 0, 0], [11, 22, 33], [1, 0, 0]])


@pytest.mark.parametrize(
    "damage",
    [
        lambda a: a[0]["samplers"][0].update(input=99),
        lambda a: a[0]["channels"][0].update(sampler=7),
        lambda a: a[0]["samplers"][0].update(output=a[0]["samplers"][1]["output"]),
        lambda a: a[0]["samplers"][2].update(interpolation="LINEAR"),
        lambda a: a[0]["samplers"][0].update(input=a[0]["samplers"][0]["output"]),
        lambda a: a[0]["channels"][1].update(a[0]["channels"][0]),
    ],
)
def test_broken_animations_are_told(tmp_path: Path, damage: Any) -> None:
    gltf = GltfBuilder()
    animated(tmp_path / "a.glb")
    del gltf
    path = tmp_path / "a.glb"
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = msgspec.json.decode(data[20 : 20 + length])
    damage(document["animations"])
    text = msgspec.json.encode(document)
    text += b" " * (-len(text) % 4)
    body = len(text).to_bytes(4, "little") + b"JSON" + text + data[20 + length :]
    path.write_bytes(b"glTF" + (2).to_bytes(4, "little") + (12 + len(body)).to_bytes(4, "little") + body)
    with pytest.raises(FarframeError) as caught:
        read_gltf(path, LoadLimits())
    assert caught.value.result is Result.FILE_CORRUPT


@pytest.mark.parametrize("times", [[1.0, 0.5], [0.5, 0.5], [0.5, float("nan")], [-1.0, 1.0], [0.0, 1e30]])
def test_times_that_do_not_grow_are_told(tmp_path: Path, times: list[float]) -> None:
    gltf = GltfBuilder()
    gltf.node(name="a")
    sampler = {"input": gltf.accessor(times), "output": gltf.accessor([[0, 0, 0], [1, 1, 1]])}
    gltf.json["animations"] = [
        {"samplers": [sampler], "channels": [{"sampler": 0, "target": {"node": 0, "path": "translation"}}]}
    ]
    with pytest.raises(FarframeError) as caught:
        read_gltf(gltf.write_glb(tmp_path / "a.glb"), LoadLimits())
    assert caught.value.result is Result.FILE_CORRUPT


def test_coded_animations_are_not_trusted(tmp_path: Path) -> None:
    model = read_gltf(animated(tmp_path / "a.glb"), LoadLimits())
    assert model.animations is not None
    data = encode_animations(model.animations)
    same(decode_animations(data, 2), model.animations)
    with pytest.raises(ValueError):
        decode_animations(data, 1)
    with pytest.raises(ValueError):
        decode_animations(zlib.compress(bytes(MAX_BYTES + 1)), 2)
    plain = bytearray(zlib.decompress(data))
    generator = np.random.default_rng(1)
    sound = 0
    for _ in range(600):
        broken = bytearray(plain)
        for _ in range(int(generator.integers(1, 4))):
            broken[int(generator.integers(len(broken)))] = int(generator.integers(256))
        try:
            found = decode_animations(zlib.compress(bytes(broken), 1), 2)
        except ValueError:
            continue
        sound += 1
        for clip in found.clips:
            assert np.isfinite(clip.values).all() and clip.first_value[-1] == len(clip.values)
            assert (clip.row < 2).all()
    assert sound < 600
