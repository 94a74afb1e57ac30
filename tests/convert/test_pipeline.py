"""A conversion from folder to folder, and what its settings make of a model."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from farframe.asset.container import Asset
from farframe.asset.model import Material, Model, Texture, TextureSlot
from farframe.asset.source import FileSource
from farframe.convert import materials, transform
from farframe.convert.errors import (
    INPUT_NOT_FOUND,
    INPUT_NOT_VALID,
    INTERNAL,
    LIMITS_EXCEEDED,
    NAME_NOT_ALLOWED,
    OUTPUT_NOT_WRITTEN,
    TITLES,
    ConversionFailed,
    ConversionWarning,
)
from farframe.convert.overrides import TAKES as OVERRIDES_TAKES
from farframe.convert.pipeline import ConversionOutcome, check_names, convert_model, prepare_points
from farframe.convert.points import PointCloud
from farframe.convert.result import write_result
from farframe.convert.settings import TAKES as SETTINGS_TAKES
from farframe.convert.settings import ConversionSettings, VertexSettings
from farframe.protocol.link import LoadLimits


def glb(
    path: Path, *, extras: dict[str, Any] | None = None, material: dict[str, Any] | None = None, **document: Any
) -> Path:
    """A square of 2 m by 4 m, coloured, under two nodes: the upper one is 10 m off, the lower one 1 m further."""
    positions = np.array([[0, 0, 0], [2, 0, 0], [2, 4, 0], [0, 4, 0]], "<f4")
    normals = np.tile(np.array([0, 0, 1], "<f4"), (4, 1))
    colors = np.full((4, 4), 0.5, "<f4")
    indices = np.array([0, 1, 2, 0, 2, 3], "<u4")
    data = b"".join(each.tobytes() for each in (positions, normals, colors, indices))
    described = {
        "asset": {"version": "2.0", "generator": "the tests"},
        "buffers": [{"byteLength": len(data)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 48},
            {"buffer": 0, "byteOffset": 48, "byteLength": 48},
            {"buffer": 0, "byteOffset": 96, "byteLength": 64},
            {"buffer": 0, "byteOffset": 160, "byteLength": 24},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 2, "componentType": 5126, "count": 4, "type": "VEC4"},
            {"bufferView": 3, "componentType": 5125, "count": 6, "type": "SCALAR"},
        ],
        "materials": [{"name": "paint", **(material or {})}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}]}
        ],
        "nodes": [
            {"name": "upper", "translation": [10, 0, 0], "children": [1], "mesh": 0, "extras": extras or {}},
            {"name": "lower", "translation": [0, 0, 1], "mesh": 0},
        ],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
        **document,
    }
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
    return path


class StandIn:
    """A builder that keeps what it is given."""

    model: Any = None
    options: Any = None

    def __call__(self, model: Any, path: Path, options: Any, progress: Any) -> Any:
        self.model, self.options = model, options
        progress("building", 1.0)
        path.write_bytes(b"not an asset")
        return SimpleNamespace()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path / "in", tmp_path / "out"


def convert(
    folders: tuple[Path, Path], name: str = "box.glb", settings: dict[str, Any] | None = None, **options: Any
) -> tuple[ConversionOutcome, StandIn]:
    """Convert with the stand-in for a builder."""
    build = StandIn()
    if settings is not None:
        stem = Path(name).stem
        (folders[0] / f"{stem}.ConversionSettings.json").write_text(json.dumps(settings))
    limits = options.pop("limits", LoadLimits())
    outcome = convert_model(folders[0], name, folders[1], "house", limits, lambda *_: None, build=build, **options)
    return outcome, build


def world(model: Model) -> Any:
    """The vertices of all instances in model space."""
    found = []
    for number, matrix in zip(model.instance_part, model.instance_matrix, strict=True):
        part = model.parts[number]
        places = model.vertices["position"][part.first_vertex : part.first_vertex + part.vertex_count]
        found.append(places.astype(float) @ matrix[:3, :3].T + matrix[:3, 3])
    return np.concatenate(found)


def nodes_agree(model: Model) -> bool:
    """Whether instances lie where the chain of their nodes puts them."""
    for node, matrix in zip(model.instance_node, model.instance_matrix, strict=True):
        expected, index = np.eye(4), int(node)
        while index >= 0:
            expected, index = model.nodes[index].matrix @ expected, model.nodes[index].parent
        if not np.allclose(expected, matrix):
            return False
    return True


def test_gltf_end_to_end_with_the_real_builder(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb")
    stages: list[float] = []
    outcome = convert_model(
        folders[0], "box.glb", folders[1], "house", LoadLimits(), lambda _, fraction: stages.append(fraction), workers=1
    )
    assert outcome.asset == folders[1] / "house.arrAsset" and outcome.warnings == []
    source = FileSource(outcome.asset)
    asset = Asset.open(source, LoadLimits())
    assert len(asset.parts) == 1 and len(asset.instances) == 2
    info = json.loads((folders[1] / "house.info.json").read_text())
    assert info == outcome.info_contents
    assert info["files"] == {"input": "box.glb", "output": "house.arrAsset"}
    assert info["inputInfo"] == {
        "sourceAssetExtension": ".glb",
        "sourceAssetFormat": "glTF2 Importer",
        "sourceAssetFormatVersion": "2.0",
        "sourceAssetGenerator": "the tests",
    }
    assert info["inputStatistics"] == {
        "numMeshes": 1,
        "numFaces": 2,
        "numVertices": 4,
        "numMaterial": 1,
        "numFacesSmallestMesh": 2,
        "numFacesBiggestMesh": 2,
        "numNodes": 2,
        "numMeshUsagesInScene": 2,
        "maxNodeDepth": 1,
    }
    assert info["outputInfo"]["conversionHash"] == asset.index.content_hash
    int(info["outputInfo"]["conversionToolVersion"], 16)
    assert len(info["outputInfo"]["conversionHash"]) == 16
    assert info["outputStatistics"] == {
        "numMeshPartsCreated": 1,
        "numMeshPartsInstanced": 2,
        "recenteringOffset": [0.0, 0.0, 0.0],
        "boundingBox": {"min": [10.0, 0.0, 0.0], "max": [12.0, 4.0, 1.0]},
    }
    assert stages == sorted(stages) and stages[-1] == 1.0
    assert sorted(each.name for each in folders[1].iterdir()) == ["house.arrAsset", "house.info.json"]
    source.close()


def test_scaling_moves_everything_and_no_node_gains_a_scale(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb")
    plain = world(convert(folders)[1].model)
    model = convert(folders, settings={"scaling": 0.5})[1].model
    assert np.allclose(world(model), plain * 0.5) and nodes_agree(model)
    assert np.allclose([np.linalg.det(node.matrix[:3, :3]) for node in model.nodes], 1.0)
    assert model.bounds_max == (6.0, 2.0, 0.5) and model.parts[0].bounds_max == (1.0, 2.0, 0.0)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (["+x", "+z", "-y"], lambda p: np.stack([p[:, 0], p[:, 2], -p[:, 1]], 1)),
        (["-z", "default", "+x"], lambda p: np.stack([-p[:, 2], p[:, 1], p[:, 0]], 1)),
        (["-x", "+y", "+z"], lambda p: p * (-1, 1, 1)),
    ],
)
def test_axis(folders: tuple[Path, Path], axis: list[str], expected: Any) -> None:
    glb(folders[0] / "box.glb")
    plain = world(convert(folders)[1].model)
    model = convert(folders, settings={"axis": axis})[1].model
    places = world(model)
    assert np.allclose(places, expected(plain)) and nodes_agree(model)
    assert np.allclose(model.bounds_min, places.min(axis=0)) and np.allclose(model.bounds_max, places.max(axis=0))


def test_recentring_reports_the_way_back(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb")
    plain = world(convert(folders)[1].model)
    outcome, build = convert(folders, settings={"recenterToOrigin": True, "scaling": 2, "axis": ["+x", "+z", "-y"]})
    offset = outcome.info_contents["outputStatistics"]["recenteringOffset"]
    places = world(build.model)
    assert np.allclose(places.min(axis=0) + places.max(axis=0), 0.0) and nodes_agree(build.model)
    turned = plain[:, [0, 2, 1]] * (1, 1, -1) * 2
    assert np.allclose(places + offset, turned)
    assert build.options["recentering_offset"] == tuple(offset)


def test_scene_graph_modes(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb", extras={"a": 1})
    for mode, nodes in (("none", 1), ("static", 2), ("dynamic", 2)):
        _, build = convert(folders, settings={"sceneGraphMode": mode, "metadataKeys": ["a"]})
        assert len(build.model.nodes) == nodes and build.options["scene_graph_mode"] == mode
        assert build.options["metadata"] == ({} if mode == "none" else {0: {"a": 1}})
        assert len(build.model.instance_part) == 2


def test_metadata_keeps_what_is_asked_for(folders: tuple[Path, Path]) -> None:
    extras = {"Part": "7-11", "mass": 1.5, "count": 3, "spare": True, "list": [1], "other": "x", "nothing": None}
    glb(folders[0] / "box.glb", extras=extras)
    keys = ["Part", "mass", "cou*", "spare", "list", "nothing"]
    _, build = convert(folders, settings={"metadataKeys": keys, "generateCollisionMesh": False})
    assert build.options["metadata"] == {0: {"Part": "7-11", "mass": 1.5, "count": 3, "spare": True}}
    assert build.options["collision"] is False


def test_gamma(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb", material={"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0, 1, 0.25]}})
    _, build = convert(folders)
    assert build.model.materials[0].base_color == (0.5, 0.0, 1.0, 0.25)
    assert (build.model.vertices["color"][0] == 128).all()
    _, build = convert(folders, settings={"gammaToLinearMaterial": True, "gammaToLinearVertex": True})
    assert build.model.materials[0].base_color == pytest.approx((0.21404, 0.0, 1.0, 0.25), abs=1e-4)
    # sRGB 128 is 0.2158 in linear light, 55 of 255; alpha stays.
    assert build.model.vertices["color"][0].tolist() == [55, 55, 55, 128]


def test_sidedness_is_gltfs_own_and_unlit_is_for_all(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb")
    assert not convert(folders)[1].model.materials[0].double_sided
    assert convert(folders, settings={"unlitMaterials": True})[1].model.materials[0].unlit
    for sidedness in ("SingleSided", "DoubleSided"):
        model = fake_model([Material(), Material(alpha_mode="blend")])
        settings = ConversionSettings(opaque_material_default_sidedness=sidedness)  # type: ignore[arg-type]
        materials.apply_settings(model, settings, sidedness_known=False)
        assert [each.double_sided for each in model.materials] == [sidedness == "DoubleSided", False]


def test_overrides_reach_materials_and_vertices(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb")
    entries = [
        {
            "name": "pai.*",
            "nameMatching": "regex",
            "albedoColor": {"r": 0.1, "g": 0.2, "b": 0.3, "a": 0.4},
            "roughness": 0.5,
            "metalness": 0.6,
            "transparent": True,
            "isDoubleSided": True,
            "useVertexColor": False,
            "transparencyWritesDepth": True,
        },
        {"name": "nobody"},
    ]
    (folders[0] / "box.MaterialOverrides.json").write_text(json.dumps(entries))
    outcome, build = convert(folders)
    material = build.model.materials[0]
    assert material.base_color == (0.1, 0.2, 0.3, 0.4) and (material.roughness, material.metallic) == (0.5, 0.6)
    assert material.alpha_mode == "blend" and material.double_sided and material.transparency_writes_depth
    assert (build.model.vertices["color"] == 255).all()
    assert [each.details for each in outcome.warnings] == [
        {"material override": "nobody", "problem": "No material has this name."},
    ]


def test_deprecated_names_are_honoured(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb")
    (folders[0] / "conversionSettings.json").write_text('{"material-override": "o.json"}')
    (folders[0] / "o.json").write_text('[{"name": "paint", "unlit": true}]')
    outcome, build = convert(folders)
    assert build.model.materials[0].unlit and len(outcome.warnings) == 2
    assert all("deprecated" in each.details for each in outcome.warnings)


def fake_model(materials_of_parts: list[Material], textures: list[Texture] | None = None) -> Model:
    """A model of one triangle for each material."""
    from farframe.asset.model import VERTEX_DTYPE, Level, Node, Part

    count = len(materials_of_parts)
    vertices = np.zeros(3 * count, VERTEX_DTYPE)
    vertices["position"] = np.tile(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]]), (count, 1))
    vertices["uv0"] = (0.1, 0.30001)
    vertices["color"] = 7
    return Model(
        name="fake",
        vertices=vertices,
        indices=np.tile(np.arange(3, dtype=np.uint32), count),
        parts=[Part(3 * i, 3, (Level(3 * i, 3, 0.0),), i, (0, 0, 0), (1, 1, 0)) for i in range(count)],
        materials=materials_of_parts,
        textures=textures or [],
        nodes=[Node("root", -1, np.eye(4))],
        instance_part=np.arange(count, dtype=np.int32),
        instance_node=np.zeros(count, np.int32),
        instance_matrix=np.tile(np.eye(4), (count, 1, 1)),
        bounds_min=(0, 0, 0),
        bounds_max=(1, 1, 0),
    )


def texture(value: int) -> Texture:
    return Texture(np.full((2, 2, 4), value, np.uint8), srgb=True, name=str(value))


def test_equal_materials_are_merged_whatever_they_are_called() -> None:
    model = fake_model(
        [
            Material(name="a", base_color_texture=TextureSlot(0)),
            Material(name="b", base_color_texture=TextureSlot(1)),
            Material(name="c", base_color_texture=TextureSlot(2)),
            Material(name="d", base_color_texture=TextureSlot(2), roughness=0.5),
        ],
        [texture(1), texture(1), texture(2)],
    )
    materials.deduplicate(model)
    assert [each.name for each in model.materials] == ["a", "c", "d"]
    assert [part.material for part in model.parts] == [0, 0, 1, 2]
    assert [int(each.pixels[0, 0, 0]) for each in model.textures] == [1, 2]
    assert [each.base_color_texture for each in model.materials] == [TextureSlot(0), TextureSlot(1), TextureSlot(1)]


def test_too_many_materials_become_a_red_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materials, "MAX_MATERIALS", 3)
    model = fake_model([Material(name=str(index), roughness=index / 5) for index in range(5)])
    assert materials.limit_materials(fake_model([Material()] * 3)) == []
    warnings = materials.limit_materials(model)
    assert [each.name for each in model.materials] == ["0", "1", "Too many materials"]
    assert model.materials[-1].base_color == (1.0, 0.0, 0.0, 1.0) and model.materials[-1].unlit
    assert [part.material for part in model.parts] == [0, 1, 2, 2, 2]
    assert warnings[0].code == "4005" and "3 materials" in warnings[0].details["materials"]


def test_ignored_maps_of_formats_with_ready_textures(folders: tuple[Path, Path]) -> None:
    from farframe.convert.overrides import decode_overrides

    mixed = Texture(np.arange(16, dtype=np.uint8).reshape(2, 2, 4), srgb=False)
    slot = TextureSlot(0)
    for maps, check in (
        (["NormalMap"], lambda m, _: m.normal_texture is None and m.base_color_texture == slot),
        (["AlbedoMap", "EmissiveMap"], lambda m, _: m.base_color_texture is None and m.emissive_texture is None),
        (["RoughnessMap", "MetalnessMap"], lambda m, _: m.metallic_roughness_texture is None),
        (["MetallicRoughnessMap"], lambda m, _: m.metallic_roughness_texture is None),
        (["RoughnessMap"], lambda m, t: t[m.metallic_roughness_texture.texture].pixels[..., 1].min() == 255),
        (["OpacityMap"], lambda m, t: t[m.base_color_texture.texture].pixels[..., 3].min() == 255),
    ):
        material = Material(
            name="m",
            base_color_texture=slot,
            normal_texture=slot,
            emissive_texture=slot,
            metallic_roughness_texture=slot,
        )
        model = fake_model([material], [mixed])
        overrides = decode_overrides(json.dumps([{"name": "m", "ignoreTextureMaps": maps}]).encode())
        materials.override_materials(model, overrides, ignore_maps=True)
        assert check(model.materials[0], model.textures), maps
    assert mixed.pixels[0, 0, 1] == 1, "the original is not to be changed"


def test_directions_of_16_bits_are_told() -> None:
    model = fake_model([Material()])
    wanted = "16_16_16_16_FLOAT"
    before = model.vertices.copy()
    warnings = materials.apply_vertex_formats(model, VertexSettings(normal=wanted, tangent="AUTO", binormal=wanted))
    assert [(each.code, each.details["property"]) for each in warnings] == [
        ("4003", "vertex.normal"),
        ("4003", "vertex.binormal"),
    ]
    assert (model.vertices == before).all()


def test_vertex_formats() -> None:
    model = fake_model([Material(normal_texture=TextureSlot(0))], [texture(1)])
    model.vertices["position"][1] = (0.1, 0.2, 0.3)
    settings = VertexSettings(
        position="16_16_16_16_FLOAT", color0="NONE", tangent="NONE", normal="NONE", texcoord0="16_16_FLOAT"
    )
    assert materials.apply_vertex_formats(model, settings) == []
    vertices = model.vertices
    assert (vertices["color"] == 255).all() and (vertices["tangent"] == (127, 0, 0, 127)).all()
    assert (vertices["normal"] == 0).all() and model.materials[0].normal_texture is None
    assert model.materials[0].unlit
    assert vertices["position"][1].tolist() == np.float16([0.1, 0.2, 0.3]).astype(np.float32).tolist()
    assert vertices["uv0"][0].tolist() == np.float16([0.1, 0.30001]).astype(np.float32).tolist()
    far = fake_model([Material()])
    far.vertices["position"][0] = 1e6
    assert materials.apply_vertex_formats(far, settings)[0].details["property"] == "vertex.position"
    assert far.vertices["position"][0, 0] == 1e6


def test_point_clouds_are_moved_by_their_matrix() -> None:
    cloud = PointCloud.from_arrays("scan", np.array([[100.0, 0.0, 2.0], [102.0, 4.0, 8.0]]))
    settings = ConversionSettings(scaling=2.0, axis=("+x", "+z", "-y"), recenter_to_origin=True, unlit_materials=True)
    offset, warnings = prepare_points(cloud, settings)
    assert offset == (202.0, 10.0, -4.0)
    low, high = cloud.world_bounds()
    assert np.allclose(low, (-2, -6, -4)) and np.allclose(high, (2, 6, 4))
    assert [each.details["property"] for each in warnings] == ["unlitMaterials"]


# What goes wrong


def failure(folders: tuple[Path, Path], name: str = "box.glb", **options: Any) -> ConversionFailed:
    with pytest.raises(ConversionFailed) as caught:
        convert(folders, name, **options)
    return caught.value


@pytest.mark.parametrize("name", ["none.glb", "", "../box.glb", "/etc/passwd", "sub", "a\0b", "link.glb"])
def test_an_input_that_is_not_inside_is_not_found(folders: tuple[Path, Path], name: str) -> None:
    glb(folders[0].parent / "box.glb")
    (folders[0] / "sub").mkdir()
    (folders[0] / "link.glb").symlink_to(folders[0].parent / "box.glb")
    error = failure(folders, name)
    assert error.code == INPUT_NOT_FOUND and "Could not find the asset file" in error.details["problem"]
    assert list(folders[1].iterdir()) == []


def test_names_have_limits(folders: tuple[Path, Path]) -> None:
    check_names(["a" * 178, "x/y", "x/z", "x2"])
    for names in (["b/" + "a" * 177], ["x/y", "x"], ["x", "x/y/z"]):
        with pytest.raises(ConversionFailed) as caught:
            check_names(names)
        assert caught.value.code == NAME_NOT_ALLOWED and caught.value.details["path"]
    assert failure(folders, "a" * 200).code == NAME_NOT_ALLOWED


def test_formats_and_content_that_are_not_read(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a.step").write_text("ISO-10303-21;")
    assert failure(folders, "a.step").code == "2004"
    (folders[0] / "broken.glb").write_bytes(b"glTF\2\0\0\0\xff\0\0\0")
    error = failure(folders, "broken.glb")
    assert error.code == INPUT_NOT_VALID and error.title == "The input asset is not valid."
    assert "truncated" in error.details["import error"] and error.details["next step"]


def test_limits_and_faults_end_as_conversion_errors(folders: tuple[Path, Path]) -> None:
    glb(folders[0] / "box.glb")
    assert failure(folders, limits=LoadLimits(max_triangles=1)).code == LIMITS_EXCEEDED
    for error, code in (
        (MemoryError(), LIMITS_EXCEEDED),
        (OSError(28, "x"), OUTPUT_NOT_WRITTEN),
        (ZeroDivisionError("secret"), INTERNAL),
    ):

        def build(*_: Any, error: BaseException = error) -> None:
            raise error

        with pytest.raises(ConversionFailed) as caught:
            convert_model(folders[0], "box.glb", folders[1], "n", LoadLimits(), lambda *_: None, build=build)
        assert caught.value.code == code and "secret" not in str(caught.value)


def test_the_result_file(tmp_path: Path) -> None:
    path = write_result(tmp_path, "house", "id-1")
    assert path.name == "house.result.json"
    assert json.loads(path.read_text()) == [{"conversionId": "id-1"}, {"result": "succeeded"}]
    warning = ConversionWarning("4004", {"texture": "a.png", "material": "wood"})
    write_result(tmp_path, "house", "id-1", [warning])
    assert json.loads(path.read_text())[1:] == [
        {"warning": "4004", "title": "Missing texture", "details": {"texture": "a.png", "material": "wood"}},
        {"result": "succeeded with warnings"},
    ]
    write_result(tmp_path, "house", "id-1", [warning], ConversionFailed(INPUT_NOT_VALID, details={"import error": "x"}))
    assert json.loads(path.read_text())[2:] == [
        {"error": "2007", "title": "The input asset is not valid.", "details": {"import error": "x"}},
        {"result": "failed"},
    ]
    write_result(tmp_path, "house", "id-1", [warning] * 3_000, ConversionFailed(INTERNAL))
    entries = json.loads(path.read_text())
    assert len(entries) == 1_004 and entries[-2]["internal error"] == INTERNAL
    assert [each.name for each in tmp_path.iterdir()] == ["house.result.json"]


def test_the_document_lists_every_code_and_property() -> None:
    text = (Path(__file__).parents[2] / "docs" / "conversion.md").read_text()
    for code, title in TITLES.items():
        assert f"| {code} | {title} |" in text
    for name in [*SETTINGS_TAKES, *OVERRIDES_TAKES]:
        assert f"`{name.rpartition('.')[2]}`" in text or name.startswith("albedoColor."), name


def test_axis_matrices_are_signed_permutations() -> None:
    assert np.array_equal(transform.axis_matrix(("default", "default", "default")), np.eye(3))
    turned = transform.axis_matrix(("+x", "+z", "-y"))
    assert np.linalg.det(turned) == pytest.approx(1.0) and (turned @ (1, 2, 3)).tolist() == [1, 3, -2]
