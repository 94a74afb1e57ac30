"""Conversion settings and material overrides: every property, its default, its errors, and the published schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.convert.errors import OVERRIDES_INVALID, SETTINGS_INVALID, ConversionFailed
from farframe.convert.overrides import (
    MAX_EXPRESSIONS,
    MaterialOverride,
    decode_overrides,
    read_overrides,
)
from farframe.convert.overrides import (
    TAKES as OVERRIDE_TAKES,
)
from farframe.convert.settings import (
    TAKES,
    ConversionSettings,
    VertexSettings,
    decode_settings,
    read_settings,
    settings_as_used,
)

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
SETTINGS_SCHEMA = json.loads((SCHEMAS / "conversion-settings.schema.json").read_text())
OVERRIDES_SCHEMA = json.loads((SCHEMAS / "material-overrides.schema.json").read_text())

GOOD = {
    "scaling": [0.01, 3],
    "recenterToOrigin": [True, False],
    "opaqueMaterialDefaultSidedness": ["SingleSided", "DoubleSided"],
    "material-override": ["other.json"],
    "gammaToLinearMaterial": [True, False],
    "gammaToLinearVertex": [True, False],
    "sceneGraphMode": ["none", "static", "dynamic"],
    "generateCollisionMesh": [False],
    "unlitMaterials": [True],
    "deduplicateMaterials": [False],
    "fbxAssumeMetallic": [False],
    "axis": [["+x", "+z", "-y"], ["default", "default", "default"], ["-x", "+y", "-z"]],
    "vertex": [{}, {"position": "16_16_16_16_FLOAT", "color0": "NONE", "normal": "AUTO", "texcoord1": "16_16_FLOAT"}],
    "metadataKeys": [[], ["PartNumber", "ABC*"]],
}
BAD = {
    "scaling": [0, -1, "1", None, 1e30],
    "recenterToOrigin": [1, "true"],
    "opaqueMaterialDefaultSidedness": ["doublesided", True],
    "material-override": [1],
    "gammaToLinearMaterial": ["yes"],
    "gammaToLinearVertex": [0],
    "sceneGraphMode": ["Dynamic", None],
    "generateCollisionMesh": [None],
    "unlitMaterials": [2],
    "deduplicateMaterials": ["false"],
    "fbxAssumeMetallic": [[]],
    "axis": [["Default", "+y", "+z"], ["+x", "+y"], "+x"],
    "vertex": [{"position": "8_8"}, {"colour": "NONE"}, []],
    "metadataKeys": ["a", [1], [""]],
}


def test_defaults_are_the_documented_ones() -> None:
    settings = decode_settings(b"{}")
    assert settings == ConversionSettings()
    assert settings.scaling == 1.0 and not settings.recenter_to_origin
    assert settings.opaque_material_default_sidedness == "DoubleSided"
    assert settings.gamma_to_linear_material is None and settings.gamma_to_linear_vertex is None
    assert settings.scene_graph_mode == "dynamic" and settings.generate_collision_mesh
    assert not settings.unlit_materials and settings.deduplicate_materials and settings.fbx_assume_metallic
    assert settings.axis == ("+x", "+y", "+z")
    assert settings.vertex == VertexSettings(
        position="32_32_32_FLOAT",
        color0="8_8_8_8_UNSIGNED_NORMALIZED",
        color1="NONE",
        normal="8_8_8_8_SIGNED_NORMALIZED",
        tangent="8_8_8_8_SIGNED_NORMALIZED",
        binormal="8_8_8_8_SIGNED_NORMALIZED",
        texcoord0="32_32_FLOAT",
        texcoord1="32_32_FLOAT",
    )
    assert settings_as_used(settings) == {}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_good_values_pass_struct_and_schema(name: str, value: Any) -> None:
    decode_settings(json.dumps({name: value}).encode())
    jsonschema.validate({name: value}, SETTINGS_SCHEMA)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values_are_refused_with_the_property_and_what_it_takes(name: str, value: Any) -> None:
    with pytest.raises(ConversionFailed) as caught:
        decode_settings(json.dumps({name: value}).encode(), "box.ConversionSettings.json")
    assert caught.value.code == SETTINGS_INVALID
    details = caught.value.details
    assert details["file"] == "box.ConversionSettings.json" and details["property"].startswith(name)
    assert details["takes"] and details["problem"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: value}, SETTINGS_SCHEMA)


def test_an_axis_named_twice_is_refused() -> None:
    with pytest.raises(ConversionFailed) as caught:
        decode_settings(b'{"axis": ["+x", "-x", "+z"]}')
    assert caught.value.details["property"] == "axis" and "each axis once" in caught.value.details["takes"]


def test_an_unknown_property_is_refused_by_name() -> None:
    with pytest.raises(ConversionFailed) as caught:
        decode_settings(b'{"scale": 2}')
    assert caught.value.details["property"] == "scale" and "scaling" in caught.value.details["takes"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ConversionFailed) as caught:
        decode_settings(data)
    assert caught.value.code == SETTINGS_INVALID


def test_structs_schemas_and_explanations_name_the_same_properties() -> None:
    names = {each.encode_name for each in msgspec.structs.fields(ConversionSettings)}
    assert names == set(SETTINGS_SCHEMA["properties"]) == {each for each in TAKES if "." not in each}
    streams = {each.encode_name for each in msgspec.structs.fields(VertexSettings)}
    assert streams == set(SETTINGS_SCHEMA["properties"]["vertex"]["properties"])
    assert streams == {each.removeprefix("vertex.") for each in TAKES if "." in each}
    overrides = {each.encode_name for each in msgspec.structs.fields(MaterialOverride)}
    assert overrides == set(OVERRIDES_SCHEMA["items"]["properties"]) == {e for e in OVERRIDE_TAKES if "." not in e}


def test_schema_defaults_are_the_structs() -> None:
    defaults = ConversionSettings()
    for field in msgspec.structs.fields(ConversionSettings):
        described = SETTINGS_SCHEMA["properties"][field.encode_name]
        if "default" in described:
            value = json.loads(msgspec.json.encode(getattr(defaults, field.name)))
            assert value == ({} if field.encode_name == "vertex" else described["default"])
    for field in msgspec.structs.fields(VertexSettings):
        described = SETTINGS_SCHEMA["properties"]["vertex"]["properties"][field.encode_name]
        assert getattr(VertexSettings(), field.name) == described["default"]


def test_the_settings_file_lies_beside_the_model_and_the_deprecated_name_is_honoured(tmp_path: Path) -> None:
    model = tmp_path / "box.fbx"
    assert read_settings(model) == (ConversionSettings(), [])
    (tmp_path / "conversionSettings.json").write_text('{"scaling": 2}')
    settings, warnings = read_settings(model)
    assert settings.scaling == 2.0 and "box.ConversionSettings.json" in warnings[0].details["deprecated"]
    (tmp_path / "box.ConversionSettings.json").write_bytes(b'\xef\xbb\xbf{"scaling": 3}')
    settings, warnings = read_settings(model)
    assert settings.scaling == 3.0 and not warnings


def test_metadata_keys_match_exactly_or_by_their_beginning() -> None:
    settings = decode_settings(b'{"metadataKeys": ["Part", "ABC*"]}')
    assert [settings.keeps(each) for each in ("Part", "Part1", "ABC", "ABCD", "xABC")] == [
        True,
        False,
        True,
        True,
        False,
    ]


# Material overrides


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "a"},
        {"name": "a", "albedoColor": {"r": 0, "g": 0.5, "b": 1}},
        {"name": "a", "albedoColor": {"r": 0, "g": 0.5, "b": 1, "a": 1}},
        {"name": "a", "albedoColor": {"a": 0.3}},
        {"name": "a.*", "nameMatching": "regex", "ignoreTextureMaps": ["NormalMap", "OpacityMap"]},
        {"name": "a", "roughness": 1, "metalness": 0, "normalMapScale": 2, "transparent": True, "unlit": False},
        {"name": "a", "alphaClipEnabled": True, "alphaClipThreshold": 0.1, "useVertexColor": False},
        {"name": "a", "isDoubleSided": False, "transparencyWritesDepth": True},
        {"name": "a", "textureCoordinateScale": [1, 2], "textureCoordinateOffset": [0.5, 0]},
    ],
)
def test_good_overrides_pass_struct_and_schema(entry: dict[str, Any]) -> None:
    decode_overrides(json.dumps([entry]).encode())
    jsonschema.validate([entry], OVERRIDES_SCHEMA)


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({}, "[0]"),
        ({"name": ""}, "[0].name"),
        ({"name": "a", "roughness": 1.5}, "[0].roughness"),
        ({"name": "a", "nameMatching": "glob"}, "[0].nameMatching"),
        ({"name": "a", "albedoColor": {"r": 1}}, "[0].albedoColor"),
        ({"name": "a", "albedoColor": {"r": 1, "a": 1}}, "[0].albedoColor"),
        ({"name": "a", "albedoColor": {}}, "[0].albedoColor"),
        ({"name": "a", "ignoreTextureMaps": ["GlossMap"]}, "[0].ignoreTextureMaps"),
        ({"name": "a", "color": 1}, "[0].color"),
    ],
)
def test_bad_overrides_are_refused_by_their_place(entry: dict[str, Any], where: str) -> None:
    with pytest.raises(ConversionFailed) as caught:
        decode_overrides(json.dumps([entry]).encode())
    assert caught.value.code == OVERRIDES_INVALID
    assert caught.value.details["property"].startswith(where)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([entry], OVERRIDES_SCHEMA)


def test_one_entry_applies_the_exact_one_first_then_the_first_expression() -> None:
    entries = [
        {"name": "wood.*", "nameMatching": "regex", "roughness": 0.1},
        {"name": "wo+d1", "nameMatching": "regex", "roughness": 0.2},
        {"name": "wood1", "roughness": 0.3},
        {"name": "wood1", "roughness": 0.4},
    ]
    overrides = decode_overrides(json.dumps(entries).encode())

    def roughness(name: str) -> float | None:
        found = overrides.of(name)
        return None if found is None else found.roughness

    assert [roughness(each) for each in ("wood1", "wood2", "wooood1", "softwood", "wood")] == [0.3, 0.1, 0.2, None, 0.1]


def test_an_expression_that_is_not_valid_is_named() -> None:
    for expression in ("(", "a(?=b)", r"(a)\1", "a{1000000}"):
        with pytest.raises(ConversionFailed) as caught:
            decode_overrides(json.dumps([{"name": expression, "nameMatching": "regex"}]).encode())
        assert caught.value.details["property"] == "[0].name"


def test_expressions_that_stall_others_do_not_stall_this() -> None:
    overrides = decode_overrides(json.dumps([{"name": "(a+)+$", "nameMatching": "regex"}]).encode())
    # A backtracking matcher would need 2 ** 1000 steps for this.
    assert overrides.of("a" * 1_000 + "b") is None


def test_there_are_not_too_many_expressions() -> None:
    entries = [{"name": f"a{index}.*", "nameMatching": "regex"} for index in range(MAX_EXPRESSIONS + 1)]
    with pytest.raises(ConversionFailed):
        decode_overrides(json.dumps(entries).encode())


def test_the_overrides_file_that_the_settings_name_must_lie_inside(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    model = folder / "box.fbx"
    (tmp_path / "outside.json").write_text('[{"name": "a"}]')
    (folder / "named.json").write_text('[{"name": "b"}]')
    (folder / "box.MaterialOverrides.json").write_text('[{"name": "c"}]')
    assert read_overrides(model, folder, ConversionSettings()).of("c") is not None
    named = ConversionSettings(material_override="named.json")
    assert read_overrides(model, folder, named).of("b") is not None
    (folder / "link.json").symlink_to(tmp_path / "outside.json")
    for name in ("../outside.json", str(tmp_path / "outside.json"), "link.json", "missing.json", "a\0b"):
        with pytest.raises(ConversionFailed):
            read_overrides(model, folder, ConversionSettings(material_override=name))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda each: (
            st.lists(each, max_size=4) | st.dictionaries(st.sampled_from([*GOOD, "name", "x"]), each, max_size=4)
        ),
    )
)
def test_any_json_is_decoded_or_refused(document: Any) -> None:
    data = json.dumps(document).encode()
    for decode in (decode_settings, decode_overrides):
        try:
            decode(data)
        except ConversionFailed as error:
            assert error.details
