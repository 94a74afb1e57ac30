"""What a glTF's nodes say about themselves becomes the model's metadata, within limits."""

from __future__ import annotations

import json

import pytest

from farframe.asset import gltf_metadata
from farframe.asset.flat import read_flat, write_flat
from farframe.asset.gltf import read_gltf
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

LIMITS = LoadLimits()
EXTRAS = {"Part": "7-11", "mass": 1.5, "count": -3, "spare": True, "list": [1], "other": {"x": 1}, "nothing": None}
KEPT = {"Part": "7-11", "mass": 1.5, "count": -3, "spare": True}


def with_raw_extras(path, gltf, *raw):
    """A file with nodes of which the ``extras`` are that text, as it is."""
    for place in range(len(raw)):
        gltf.node(extras=f"extras {place}")
    text = json.dumps(gltf.json)
    for place, each in enumerate(raw):
        text = text.replace(f'"extras {place}"', each)
    path.write_text(text)
    return path


def test_values_are_kept_by_node_and_survive_the_flat_file(tmp_path, gltf):
    gltf.node(children=[2])
    gltf.node(extras=EXTRAS)
    gltf.node(root=False, extras={"below": "yes"})
    gltf.node(extras={"only": []})
    model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
    # Level by level: the three roots, then the child.
    assert model.metadata == {1: KEPT, 3: {"below": "yes"}}
    assert type(model.metadata[1]["spare"]) is bool and type(model.metadata[1]["count"]) is int
    write_flat(model, tmp_path / "model.flat")
    assert read_flat(tmp_path / "model.flat").metadata == model.metadata


def test_nodes_that_are_not_shown_say_nothing(tmp_path, gltf):
    gltf.node(root=False, extras={"a": 1})
    gltf.node(extras={"b": 2})
    assert read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS).metadata == {0: {"b": 2}}


def test_only_wanted_keys_are_kept(tmp_path, gltf):
    gltf.node(extras=EXTRAS)
    path = gltf.write_glb(tmp_path / "a.glb")
    assert read_gltf(path, LIMITS, keeps=lambda key: key == "mass").metadata == {0: {"mass": 1.5}}
    assert read_gltf(path, LIMITS, keeps=lambda key: False).metadata == {}


@pytest.mark.parametrize(
    "raw", ["7", '"text"', "[1, 2]", "null", "true", "{}", '{"": null}', "1e999", "[" * 500 + "]" * 500]
)
def test_extras_that_are_no_object_of_values_say_nothing(tmp_path, gltf, raw):
    model = read_gltf(with_raw_extras(tmp_path / "a.gltf", gltf, raw, '{"a": 1}'), LIMITS)
    assert model.metadata == {1: {"a": 1}}


def test_values_out_of_every_range_are_bounded(tmp_path, gltf):
    digits = "9" * 100_000
    raw = f'{{"huge": {digits}, "endless": 1e999, "large": 36893488147419103232, "long": "{"x" * 5_000}", "ok": 1}}'
    model = read_gltf(with_raw_extras(tmp_path / "a.gltf", gltf, raw), LIMITS)
    assert model.metadata == {0: {"large": 2.0**65, "long": "x" * gltf_metadata.MAX_TEXT_LENGTH, "ok": 1}}
    assert type(model.metadata[0]["large"]) is float


def test_what_passes_a_limit_is_left_out_with_a_warning(tmp_path, gltf, monkeypatch):
    monkeypatch.setattr(gltf_metadata, "MAX_NODE_VALUES", 3)
    monkeypatch.setattr(gltf_metadata, "MAX_NODE_BYTES", 400)
    monkeypatch.setattr(gltf_metadata, "MAX_MODEL_BYTES", 300)
    gltf.node(extras={"k" * 257: 1, **{f"v{number}": number for number in range(5)}})
    gltf.node(extras={"big": "y" * 500})
    for _ in range(5):
        gltf.node(extras={"text": "z" * 100})
    model = read_gltf(gltf.write_glb(tmp_path / "a.glb"), LIMITS)
    assert model.metadata == {0: {"v0": 0, "v1": 1, "v2": 2}} | {place: {"text": "z" * 100} for place in (2, 3)}
    assert sum("xtras" in warning for warning in model.warnings) == 3


def test_memory_for_extras_is_the_budgets(tmp_path, gltf):
    raw = "{" + ",".join(f'"{number:x}":0' for number in range(60_000)) + "}"
    path = with_raw_extras(tmp_path / "a.gltf", gltf, raw)
    assert len(read_gltf(path, LIMITS).metadata[0]) == gltf_metadata.MAX_NODE_VALUES
    with pytest.raises(FarframeError) as caught:
        read_gltf(path, LoadLimits(max_memory_bytes=8_000_000))
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT and "extras" in caught.value.message
