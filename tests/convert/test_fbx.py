"""FBX files that are written here: units, axes, textures' roles, plastic and metal, opacity, metadata."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farframe.asset.model import Material
from farframe.convert import phong
from farframe.protocol.errors import FarframeError, Result
from tests.convert.fbx_files import VERSIONS, Square
from tests.convert.test_importers import check, read

SQUARE = """; FBX 7.4.0 project file
FBXHeaderExtension:  {{
    FBXHeaderVersion: 1003
    FBXVersion: 7400
    Creator: "the tests"
}}
GlobalSettings:  {{
    Version: 1000
    Properties70:  {{
        P: "UpAxis", "int", "Integer", "",{up}
        P: "UpAxisSign", "int", "Integer", "",1
        P: "FrontAxis", "int", "Integer", "",{front}
        P: "FrontAxisSign", "int", "Integer", "",{front_sign}
        P: "CoordAxis", "int", "Integer", "",0
        P: "CoordAxisSign", "int", "Integer", "",1
        P: "UnitScaleFactor", "double", "Number", "",{unit}
    }}
}}
Objects:  {{
    Geometry: 1, "Geometry::", "Mesh" {{
        Vertices: *12 {{ a: 0,0,0,2,0,0,2,0,4,0,0,4 }}
        PolygonVertexIndex: *4 {{ a: 0,1,2,-4 }}
        LayerElementUV: 0 {{
            Version: 101
            Name: "map1"
            MappingInformationType: "ByPolygonVertex"
            ReferenceInformationType: "IndexToDirect"
            UV: *8 {{ a: 0,0,1,0,1,1,0,1 }}
            UVIndex: *4 {{ a: 0,1,2,3 }}
        }}
        LayerElementMaterial: 0 {{
            Version: 101
            Name: ""
            MappingInformationType: "AllSame"
            ReferenceInformationType: "IndexToDirect"
            Materials: *1 {{ a: 0 }}
        }}
        Layer: 0 {{
            Version: 100
            LayerElement:  {{ Type: "LayerElementUV" TypedIndex: 0 }}
            LayerElement:  {{ Type: "LayerElementMaterial" TypedIndex: 0 }}
        }}
    }}
    Model: 2, "Model::square", "Mesh" {{
        Version: 232
        Properties70:  {{
            P: "Lcl Translation", "Lcl Translation", "", "A",10,0,0
            P: "PartNumber", "KString", "", "U", "A-1"
            P: "Weight", "double", "Number", "U",2.5
        }}
    }}
    Material: 3, "Material::paint", "" {{
        Version: 102
        ShadingModel: "{shading}"
        Properties70:  {{
            {properties}
        }}
    }}
    {textures}
}}
Connections:  {{
    C: "OO",1,2
    C: "OO",2,0
    C: "OO",3,2
    {connections}
}}
"""
RED_METAL = (
    'P: "DiffuseColor", "Color", "", "A",0.8,0.1,0.1',
    'P: "SpecularColor", "Color", "", "A",0.9,0.9,0.9',
    'P: "SpecularFactor", "Number", "", "A",1',
    'P: "ShininessExponent", "Number", "", "A",20',
)


def write(
    folder: Path,
    *properties: str,
    textures: dict[str, str] | None = None,
    up: int = 1,
    unit: float = 1.0,
    shading: str = "phong",
) -> Path:
    """A square of 2 by 4 units in the plane y = 0, 10 units along x. ``textures``: files by the property they feed."""
    made = ""
    linked = ""
    for number, (role, file) in enumerate((textures or {}).items(), start=10):
        made += f'Texture: {number}, "Texture::{role}", "" {{ FileName: "{file}" RelativeFilename: "{file}" }}\n'
        linked += f'C: "OP",{number},3, "{role}"\n'
    path = folder / "square.fbx"
    path.write_text(
        SQUARE.format(
            up=up,
            front=2 if up == 1 else 1,
            front_sign=1 if up == 1 else -1,
            unit=unit,
            shading=shading,
            properties="\n".join(properties),
            textures=made,
            connections=linked,
        )
    )
    return path


def material(path: Path, **settings: bool) -> Material:
    """The one material of the file, its colours taken for linear."""
    imported = read(path, gamma_to_linear_material=False, **settings)
    check(imported.model)
    (found,) = imported.model.materials
    assert isinstance(found, Material)
    return found


@pytest.mark.parametrize(("unit", "metres"), [(1.0, 0.01), (100.0, 1.0), (2.54, 0.0254)])
def test_units_become_metres(tmp_path: Path, unit: float, metres: float) -> None:
    model = read(write(tmp_path, unit=unit)).model
    assert np.allclose(model.bounds_min, np.array([10, 0, 0]) * metres)
    assert np.allclose(model.bounds_max, np.array([12, 0, 4]) * metres)
    assert all(np.allclose(node.matrix[:3, :3], np.eye(3)) for node in model.nodes), "no node carries the scale"


def test_z_up_becomes_y_up(tmp_path: Path) -> None:
    model = read(write(tmp_path, up=2, unit=100.0)).model
    assert np.allclose(model.bounds_min, (10, 0, 0)) and np.allclose(model.bounds_max, (12, 4, 0), atol=1e-6)


def test_metadata_of_models(tmp_path: Path) -> None:
    imported = read(write(tmp_path), metadata_keys=("Part*", "Weight"))
    assert list(imported.node_metadata.values()) == [{"PartNumber": "A-1", "Weight": 2.5}]
    assert imported.info.generator == "the tests" and imported.info.mesh_usages == 1


def test_ambiguous_materials_are_metal_or_coloured_plastic(tmp_path: Path) -> None:
    path = write(tmp_path, *RED_METAL)
    metal = material(path)
    albedo, metalness, roughness = phong.phong_to_metallic(np.array([0.8, 0.1, 0.1]), np.full(3, 0.9), np.array(20.0))
    assert metal.metallic == pytest.approx(float(metalness)) and metal.metallic > 0.9
    assert metal.base_color[:3] == pytest.approx(tuple(albedo)) and metal.roughness == pytest.approx(float(roughness))
    plastic = material(path, fbx_assume_metallic=False)
    assert plastic.metallic == 0.0 and plastic.base_color[:3] == pytest.approx((0.8, 0.1, 0.1))


def test_a_lambert_material_has_no_highlight(tmp_path: Path) -> None:
    found = material(write(tmp_path, *RED_METAL, shading="lambert"))
    assert found.roughness == 1.0 and found.metallic < 0.1


@pytest.mark.parametrize(
    ("properties", "alpha"),
    [
        (['P: "Opacity", "double", "Number", "",0.3', 'P: "TransparencyFactor", "Number", "", "A",0.9'], 0.3),
        (['P: "TransparentColor", "Color", "", "A",0.2,0.4,0.6', 'P: "TransparencyFactor", "Number", "", "A",1'], 0.6),
        (['P: "TransparentColor", "Color", "", "A",1,1,1', 'P: "TransparencyFactor", "Number", "", "A",0'], 1.0),
        (['P: "TransparencyFactor", "Number", "", "A",0.25'], 0.75),
        ([], 1.0),
    ],
)
def test_opacity(tmp_path: Path, properties: list[str], alpha: float) -> None:
    found = material(write(tmp_path, *properties))
    assert found.base_color[3] == pytest.approx(alpha)
    assert found.alpha_mode == ("opaque" if alpha == 1.0 else "blend")


def test_roles_of_textures(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 3), 128, np.uint8)
    pixels[:2] = 30
    for name in ("color", "occlusion", "bump"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    textures = {"DiffuseColor": "D:/x/color.png", "AmbientColor": "occlusion.png", "Bump": "bump.png"}
    path = write(tmp_path, *RED_METAL[1:], textures=textures)
    imported = read(path)
    check(imported.model)
    (found,) = imported.model.materials
    assert imported.warnings == []
    assert found.base_color_texture is not None and found.metallic_roughness_texture is not None
    assert found.occlusion_texture is not None and found.normal_texture is not None
    occlusion = imported.model.textures[found.occlusion_texture.texture]
    assert (occlusion.pixels[..., :3] == pixels).all() and not occlusion.srgb
    normal = imported.model.textures[found.normal_texture.texture].pixels
    assert normal[2, 2, 1] != 128 and (normal[..., 0] == 128).all()
    assert np.abs(imported.model.vertices["tangent"][:, :3]).max() == 127


def picture(red: int, alpha: int | None = None) -> bytes:
    """A PNG of one colour but for a corner."""
    pixels = np.full((8, 8, 3 if alpha is None else 4), 40, np.uint8)
    pixels[..., 0] = red
    pixels[0, 0] = 200
    if alpha is not None:
        pixels[..., 3] = alpha
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("binary", [False, True], ids=["ASCII", "binary"])
@pytest.mark.parametrize("year", VERSIONS)
def test_versions_from_2011_to_2020(tmp_path: Path, year: int, binary: bool) -> None:
    """What comes out is the same, whatever product wrote the file: places, instances, materials, metadata, textures."""
    part = ("PartNumber", "KString", "", "U", "A-1"), ("Weight", "double", "Number", "U", 2.5)
    square = Square(VERSIONS[year], unit=2.54, texture="paint.png", media=picture(120), model_properties=part)
    path = square.write(tmp_path / "square.fbx", binary=binary, deflate=year >= 2014)
    imported = read(path, metadata_keys=("*",))
    model = imported.model
    check(model)
    assert imported.info.format_version == str(VERSIONS[year]) and imported.info.generator == "the tests"
    assert (imported.info.mesh_usages, imported.info.meshes, imported.info.faces) == (2, 1, 2)
    assert np.allclose(model.bounds_min, (-0.254, 0, 0)) and np.allclose(model.bounds_max, (0.3048, 0.1016, 0))
    assert len(model.parts) == 1 and len(model.instance_part) == 2
    assert {"PartNumber": "A-1", "Weight": 2.5} in [
        {key: found[key] for key in ("PartNumber", "Weight") if key in found}
        for found in imported.node_metadata.values()
    ]
    (found,) = model.materials
    assert found.name == "paint" and found.base_color_texture is not None and imported.warnings == []
    texture = model.textures[found.base_color_texture.texture]
    expected, _, _ = phong.phong_to_metallic(phong_linear(120, 40, 40), np.zeros(3), np.array(20.0))
    assert np.abs(phong_linear(*texture.pixels[4, 4, :3]) - expected).max() < 0.01


def phong_linear(*channels: int) -> np.ndarray:
    """sRGB bytes as linear numbers."""
    values = np.array(channels) / 255.0
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("binary", [False, True], ids=["ASCII", "binary"])
def test_embedded_media_come_before_files(tmp_path: Path, binary: bool) -> None:
    (tmp_path / "paint.png").write_bytes(picture(250))
    path = Square(7500, texture="paint.png", media=picture(90)).write(tmp_path / "square.fbx", binary=binary)
    model = read(path).model
    inside = model.textures[model.materials[0].base_color_texture.texture].pixels
    path = Square(7500, texture="paint.png").write(tmp_path / "square.fbx", binary=binary)
    model = read(path).model
    beside = model.textures[model.materials[0].base_color_texture.texture].pixels
    assert inside[4, 4, 0] < 150 and beside[4, 4, 0] > 200


@pytest.mark.parametrize("media", [b"no picture at all", picture(90)[:60]])
def test_broken_embedded_media_are_missing_textures(tmp_path: Path, media: bytes) -> None:
    path = Square(7400, texture="paint.png", media=media).write(tmp_path / "square.fbx", binary=True)
    imported = read(path)
    (warning,) = imported.warnings
    assert warning.code == "4004" and warning.details["texture"] == "paint.png"
    assert imported.model.materials[0].base_color_texture is None


@pytest.mark.parametrize("year", [2011, 2020])
def test_of_layered_textures_the_first_is_used_and_told(tmp_path: Path, year: int) -> None:
    for name, red in (("ground.png", 90), ("dirt.png", 250)):
        (tmp_path / name).write_bytes(picture(red))
    square = Square(VERSIONS[year], texture="ground.png", layers=("dirt.png",))
    imported = read(square.write(tmp_path / "square.fbx", binary=year == 2020))
    found = imported.model.materials[0].base_color_texture
    assert found is not None and imported.model.textures[found.texture].pixels[4, 4, 0] < 150
    assert any("layered texture" in warning.details["import warning"] for warning in imported.warnings)


def test_binary_files_that_end_early(tmp_path: Path) -> None:
    whole = Square(7500, texture="paint.png", media=picture(90)).write(tmp_path / "whole.fbx", binary=True).read_bytes()
    for length in range(30, len(whole) - 30, 97):
        path = tmp_path / "cut.fbx"
        path.write_bytes(whole[:length])
        try:
            check(read(path).model)
        except FarframeError as error:
            assert error.result in (Result.FILE_CORRUPT, Result.NOT_SUPPORTED)
