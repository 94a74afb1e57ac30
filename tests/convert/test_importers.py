"""OBJ, STL, PLY and FBX files: generated ones with known contents, and real ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from farframe.asset.budget import Budget, no_progress
from farframe.asset.model import Model
from farframe.convert import meshes, phong
from farframe.convert.colors import linear_color, linear_from_srgb, srgb_from_linear
from farframe.convert.importers import Imported, import_file, recognise
from farframe.convert.importers.stl import FACET_DTYPE
from farframe.convert.overrides import MaterialOverrides, decode_overrides
from farframe.convert.settings import ConversionSettings
from farframe.convert.textures_lookup import find_texture
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

CUBE = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
FACES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
"""A cube's corners, and its quads, counter-clockwise as seen from outside."""


def read(
    path: Path, overrides: MaterialOverrides | None = None, limits: LoadLimits | None = None, **settings: Any
) -> Imported:
    return import_file(
        path,
        path.parent,
        ConversionSettings(**settings),
        Budget(limits or LoadLimits()),
        no_progress,
        overrides=overrides,
    )


def check(model: Model) -> None:
    """What every importer's model must be."""
    for part in model.parts:
        level = part.levels[0]
        indices = model.indices[level.first_index : level.first_index + level.index_count]
        vertices = model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]
        assert len(indices) % 3 == 0 and indices.max() < part.vertex_count
        assert np.allclose(vertices["position"].min(axis=0), part.bounds_min)
        assert np.allclose(vertices["position"].max(axis=0), part.bounds_max)
        assert np.isfinite(vertices["uv0"]).all() and 0 <= part.material < len(model.materials)
    for material in model.materials:
        for slot in (material.base_color_texture, material.normal_texture, material.metallic_roughness_texture):
            assert slot is None or slot.texture < len(model.textures)


def facing(model: Model) -> float:
    """The least cosine between a triangle's own normal and its vertices'."""
    part = model.parts[0]
    triangles = model.indices[: part.levels[0].index_count].reshape(-1, 3)
    place = model.vertices["position"][triangles].astype(float)
    normals = np.cross(place[:, 1] - place[:, 0], place[:, 2] - place[:, 0])
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    return float(np.einsum("tk,tck->tc", normals, model.vertices["normal"][triangles][..., :3] / 127.0).min())


def cube_triangles() -> Any:
    """(12, 3, 3) corners."""
    quads = CUBE[np.array(FACES)]
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def assert_cube(imported: Imported) -> None:
    model = imported.model
    check(model)
    assert model.triangle_count == 12 and imported.info.faces == 12
    assert model.bounds_min == (0.0, 0.0, 0.0) and model.bounds_max == (1.0, 1.0, 1.0)
    # Sharp edges: three normals at each of the eight corners, and every triangle looks outwards.
    assert len(model.vertices) == 24 and facing(model) > 0.99
    outwards = np.einsum("ij,ij->i", model.vertices["position"] - 0.5, model.vertices["normal"][:, :3] / 127.0)
    assert np.allclose(outwards, 0.5)


def write_stl(path: Path, corners: Any, attribute: int = 0, head: bytes = b"") -> Path:
    facets = np.zeros(len(corners), FACET_DTYPE)
    facets["corners"], facets["attribute"] = corners, attribute
    path.write_bytes(head.ljust(80, b"\0") + struct.pack("<I", len(corners)) + facets.tobytes())
    return path


def test_stl_binary_and_ascii(tmp_path: Path) -> None:
    corners = cube_triangles()
    imported = read(write_stl(tmp_path / "cube.stl", corners, head=b"solid that is binary"))
    assert_cube(imported)
    assert imported.info.format_version == "binary" and imported.gamma_vertex
    lines = ["solid cube"]
    for triangle in corners:
        lines += [" facet normal 0 0 0", "  outer loop"]
        lines += [f"   vertex {x:g} {y:.3e} {z:f}" for x, y, z in triangle] + ["  endloop", " endfacet"]
    (tmp_path / "ascii.stl").write_text("\n".join([*lines, "endsolid cube"]))
    imported = read(tmp_path / "ascii.stl")
    assert_cube(imported)
    assert imported.info.format_version == "ascii"


def test_stl_colours_of_both_conventions(tmp_path: Path) -> None:
    corners = cube_triangles()
    red_viscam = 0x8000 | (31 << 10)
    imported = read(write_stl(tmp_path / "a.stl", corners, red_viscam))
    assert (imported.model.vertices["color"] == (255, 0, 0, 255)).all()
    red_magics = 31
    imported = read(write_stl(tmp_path / "b.stl", corners, red_magics, b"COLOR=" + bytes((1, 2, 3, 255))))
    assert (imported.model.vertices["color"] == (255, 0, 0, 255)).all()
    imported = read(write_stl(tmp_path / "c.stl", corners, 0x8000, b"COLOR=" + bytes((1, 2, 3, 255))))
    assert (imported.model.vertices["color"] == (1, 2, 3, 255)).all()
    assert (read(write_stl(tmp_path / "d.stl", corners)).model.vertices["color"] == 255).all()


def test_stl_leaves_out_triangles_that_are_not_finite(tmp_path: Path) -> None:
    corners = cube_triangles()
    corners[3, 1, 2] = np.nan
    imported = read(write_stl(tmp_path / "a.stl", corners))
    assert imported.model.triangle_count == 11 and "1 triangles" in imported.warnings[0].details["import warning"]


def test_a_sphere_is_shaded_smooth_and_welded(tmp_path: Path) -> None:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 33), np.linspace(0, 2 * np.pi, 65)[:-1], indexing="ij")
    grid = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), -np.sin(theta) * np.sin(phi)], axis=-1)
    a, b = grid[:-1], grid[1:]
    c, d = np.roll(b, -1, axis=1), np.roll(a, -1, axis=1)
    triangles = np.concatenate([np.stack([a, b, c], 2).reshape(-1, 3, 3), np.stack([a, c, d], 2).reshape(-1, 3, 3)])
    vertices = read(write_stl(tmp_path / "sphere.stl", triangles)).model.vertices
    assert len(vertices) < 33 * 66
    assert np.einsum("ij,ij->i", vertices["position"], vertices["normal"][:, :3] / 127.0).min() > 0.99


def ply_text(order: str, faces: list[tuple[int, ...]], extra: str = "", comment: str = "") -> bytes:
    head = (
        f"ply\nformat {order} 1.0\n{comment}element vertex 8\nproperty double x\nproperty double y\nproperty double z\n"
    )
    head += (
        f"{extra}element face {len(faces)}\nproperty list uchar int vertex_indices\nproperty uchar flag\nend_header\n"
    )
    return head.encode()


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_of_quads_and_triangles(tmp_path: Path, order: str) -> None:
    faces = [*FACES[:3], *((f[0], f[1], f[2]) for f in FACES[3:]), *((f[0], f[2], f[3]) for f in FACES[3:])]
    data = ply_text(order, faces)
    if order == "ascii":
        data += "".join(f"{x} {y} {z}\n" for x, y, z in CUBE).encode()
        data += "".join(f"{len(f)} {' '.join(map(str, f))} 9\n" for f in faces).encode()
    else:
        mark = "<" if "little" in order else ">"
        data += CUBE.astype(f"{mark}f8").tobytes()
        for face in faces:
            data += struct.pack(f"{mark}B{len(face)}iB", len(face), *face, 9)
    (tmp_path / "a.ply").write_bytes(data)
    imported = read(tmp_path / "a.ply")
    assert_cube(imported)
    assert imported.info.vertices == 8 and imported.info.nodes == 1


def test_ply_colours_normals_and_texture(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 3), 200, np.uint8)).save(tmp_path / "skin.png")
    floats, bytes_ = ("nx", "ny", "nz"), ("red", "green", "blue")
    extra = "".join(f"property float {each}\n" for each in floats) + "".join(f"property uchar {e}\n" for e in bytes_)
    extra += "property float s\nproperty float t\n"
    head = ply_text("ascii", [(0, 1, 2)], extra, "comment TextureFile skin.png\n")
    rows = "".join(f"{x} {y} {z} 0 2 0 10 20 30 0.25 0.75\n" for x, y, z in CUBE)
    (tmp_path / "a.ply").write_bytes(head + rows.encode() + b"3 0 1 2 0\n")
    model = read(tmp_path / "a.ply").model
    check(model)
    vertex = model.vertices[0]
    assert vertex["normal"].tolist()[:3] == [0, 127, 0] and vertex["color"].tolist() == [10, 20, 30, 255]
    assert vertex["uv0"].tolist() == [0.25, 0.25], "v runs down the image here"
    assert model.textures[0].name == "skin.png" and model.textures[0].srgb
    ignored = decode_overrides(b'[{"name": "PLY", "ignoreTextureMaps": ["AlbedoMap"]}]')
    assert read(tmp_path / "a.ply", ignored).model.textures == []


def write_obj(folder: Path, mtl: str = "", faces: str = "", uv: str = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n") -> Path:
    text = "mtllib lib/some materials.mtl\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in CUBE) + uv + "usemtl paint\n"
    text += faces or "".join("f " + " ".join(f"{v + 1}/{c + 1}" for c, v in enumerate(f)) + "\n" for f in FACES)
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "lib" / "some materials.mtl").write_text("newmtl paint\n" + mtl)
    path = folder / "cube.obj"
    path.write_text(text)
    return path


def test_obj_with_its_library(tmp_path: Path) -> None:
    imported = read(write_obj(tmp_path, "Kd 0.5 0.25 1\nNs 98\nd 0.5\nKe 1 0 0\n"))
    assert_cube(imported)
    material = imported.model.materials[0]
    assert material.name == "paint" and material.alpha_mode == "blend" and material.metallic == 0.0
    assert material.base_color == pytest.approx((0.21404, 0.05088, 1.0, 0.5), abs=1e-4)
    assert material.roughness == pytest.approx(np.sqrt(2 / 100))
    assert "emits" in imported.warnings[0].details["import warning"]
    assert {tuple(each) for each in imported.model.vertices["uv0"].tolist()} == {(0, 1), (1, 1), (1, 0), (0, 0)}
    linear = read(tmp_path / "cube.obj", gamma_to_linear_material=False).model.materials[0]
    assert linear.base_color[:3] == pytest.approx((0.5, 0.25, 1.0))


def test_obj_physical_values_and_maps(tmp_path: Path) -> None:
    for name, value in (("color", 50), ("rough", 60), ("metal", 70), ("alpha", 80), ("bump", 90)):
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    mtl = "Kd 1 1 1\nPr 0.5\nPm 0.25\nmap_Kd C:\\work\\color.png\nmap_Pr rough.png\n"
    mtl += "map_Pm metal.png\nmap_d alpha.png\nbump bump.png\n"
    model = read(write_obj(tmp_path, mtl)).model
    check(model)
    material = model.materials[0]
    slots = (material.base_color_texture, material.metallic_roughness_texture, material.normal_texture)
    color, mixed, normal = (model.textures[slot.texture] for slot in slots if slot is not None)
    assert color.pixels[0, 0].tolist() == [50, 50, 50, 80] and color.srgb and material.alpha_mode == "blend"
    assert mixed.pixels[0, 0].tolist() == [255, 60, 70, 255] and not mixed.srgb
    assert normal.pixels[0, 0].tolist() == [128, 128, 255, 255], "a flat height is a flat normal map"
    assert (material.roughness, material.metallic) == (1.0, 1.0)
    assert np.abs(model.vertices["tangent"][:, :3]).max() == 127


def test_obj_what_is_missing_is_told(tmp_path: Path) -> None:
    path = write_obj(tmp_path, "Kd 1 1 1\nmap_Kd gone.png\n")
    warnings = [each for each in read(path).warnings if each.code == "4004"]
    assert warnings[0].details["texture"] == "gone.png" and warnings[0].details["material"] == "paint"
    (tmp_path / "lib" / "some materials.mtl").unlink()
    texts = [each.details.get("import warning", "") for each in read(path).warnings]
    assert any("some materials.mtl" in each for each in texts)


def test_polygons_are_cut_exactly(tmp_path: Path) -> None:
    # An arrow head, whose fan around the first corner would cover what is outside, and a star of ten corners.
    angles = np.arange(10) * np.pi / 5
    star = np.stack([np.cos(angles), np.sin(angles), np.zeros(10)], 1) * np.where(np.arange(10) % 2, 0.3, 1.0)[:, None]
    arrow = np.array([[2.0, 0, 0], [0, 1, 0], [0.5, 0, 0], [0, -1, 0]])
    for polygon in (star, np.roll(star, 1, axis=0), arrow, np.roll(arrow, 1, axis=0), np.roll(arrow, 2, axis=0)):
        for turned in (polygon, polygon[:, [1, 2, 0]], polygon[:, [2, 0, 1]], polygon[:, [0, 2, 1]][::-1]):
            corners, _, inexact = meshes.triangulate(
                turned, np.arange(len(turned)), np.array([0]), np.array([len(turned)])
            )
            normals = np.cross(
                turned[corners[:, 1]] - turned[corners[:, 0]], turned[corners[:, 2]] - turned[corners[:, 0]]
            )
            following = np.roll(turned, -1, axis=0)
            area = np.linalg.norm(np.cross(turned, following).sum(axis=0))
            assert inexact == 0 and len(corners) == len(turned) - 2
            assert np.linalg.norm(normals, axis=1).sum() == pytest.approx(area), "no overlap, nothing outside"


# Textures


def test_the_longest_suffix_of_a_path_wins_and_nothing_leads_out(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "maps" / "wood").mkdir(parents=True)
    for name in ("maps/wood/a.png", "wood.png", "maps/a.png"):
        (folder / name).write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")

    def found(stored: str) -> str | None:
        path = find_texture(stored, folder, folder)
        return None if path is None else path.relative_to(folder.resolve()).as_posix()

    assert found("C:\\Users\\me\\maps\\wood\\a.png") == "maps/wood/a.png"
    assert found("/home/me/maps/a.png") == "maps/a.png"
    assert found("maps/wood/../a.png") is None
    assert found("../in/wood.png") == "wood.png" and found("./wood.png") == "wood.png"
    for stored in (
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "maps",
        "",
        "a\0",
        "x" * 5_000,
        "//",
        "C:",
    ):
        assert found(stored) is None


# FBX


def test_phong_formulas_by_hand() -> None:
    """D = (0.5, 0.25, 0.125), S = (0.2, 0.1, 0.05), shininess 20, worked out on paper."""
    albedo, metalness, roughness = phong.phong_to_metallic(
        np.array([0.5, 0.25, 0.125]), np.array([0.2, 0.1, 0.05]), np.array(20.0)
    )
    # SI = 0.0425 + 0.07154 + 0.003605 = 0.117645
    assert float(roughness) == pytest.approx((2 / (20 * 0.117645 + 2)) ** 0.5)
    # DB = 0.07475 + 0.0366875 + 0.00178125 = 0.11321875; SB = 0.01196 + 0.00587 + 0.000285 = 0.018115; SS = 0.2
    # B = 0.11321875 * 0.8 / 0.96 + 0.018115 - 0.08 = 0.0324639583; C = 0.04 - 0.018115 = 0.021885
    # B^2 - 4 A C = 0.00105391 - 0.0035016 < 0, so M = clamp(-B / 0.08) = 0
    assert float(metalness) == 0.0
    # M = 0: albedo = D * 0.8 / 0.96
    assert albedo == pytest.approx((0.5 / 1.2, 0.25 / 1.2, 0.125 / 1.2))


def test_phong_metal_by_hand() -> None:
    """D = 0, S = (0.9, 0.6, 0.3): all that is there is reflection."""
    albedo, metalness, roughness = phong.phong_to_metallic(np.zeros(3), np.array([0.9, 0.6, 0.3]), np.array(0.0))
    # SB = 0.24219 + 0.21132 + 0.01026 = 0.46377; B = 0.38377; C = -0.42377
    # M = (-0.38377 + sqrt(0.14727942 + 0.0678032)) / 0.08 = (-0.38377 + 0.46377) / 0.08 = 1
    assert float(metalness) == pytest.approx(1.0) and float(roughness) == 1.0
    assert albedo == pytest.approx((0.9, 0.6, 0.3))


def test_phong_takes_images() -> None:
    diffuse, specular = np.random.default_rng(1).random((2, 5, 7, 3))
    shininess = np.full((5, 7), 3.0)
    albedo, metalness, roughness = phong.phong_to_metallic(diffuse, specular, shininess)
    for row, column in ((0, 0), (4, 6)):
        one = phong.phong_to_metallic(diffuse[row, column], specular[row, column], np.array(3.0))
        assert np.allclose(albedo[row, column], one[0])
        assert np.allclose((metalness[row, column], roughness[row, column]), one[1:])
    assert albedo.min() >= 0 and albedo.max() <= 1


def test_phong_cube(models_folder: Path) -> None:
    """Diffuse (1, 0.5, 0.5) * 0.5, specular (0.25, 0.25, 0.5) * 0.5, shininess 10, opacity 0.5; a centimetre wide."""
    imported = read(models_folder / "phong_cube.fbx")
    check(imported.model)
    assert np.allclose(imported.model.bounds_max, 0.005) and np.allclose(imported.model.bounds_min, -0.005)
    assert len(imported.model.vertices) == 24 and facing(imported.model) > 0.99
    diffuse = np.array(linear_color((1.0, 0.5, 0.5))) * 0.5
    specular = np.array(linear_color((0.25, 0.25, 0.5))) * 0.5
    albedo, metalness, roughness = phong.phong_to_metallic(diffuse, specular, np.array(10.0))
    (material,) = imported.model.materials
    assert material.base_color == pytest.approx((*albedo, 0.5), abs=1e-6) and material.alpha_mode == "blend"
    assert material.metallic == pytest.approx(float(metalness)) and material.roughness == pytest.approx(
        float(roughness)
    )
    assert imported.info.format_version == "7400" and "FBX SDK" in imported.info.generator
    assert "emissive" in imported.warnings[0].details["import warning"]


def test_phong_cube_without_gamma(models_folder: Path) -> None:
    imported = read(models_folder / "phong_cube.fbx", gamma_to_linear_material=False)
    # SI = 0.2125 * 0.125 + 0.7154 * 0.125 + 0.0721 * 0.25 = 0.1340125
    assert imported.model.materials[0].roughness == pytest.approx((2 / (10 * 0.1340125 + 2)) ** 0.5)
    # DB = 0.07475 + 0.0366875 + 0.007125 = 0.1185625... with D = (0.5, 0.25, 0.25); M comes out as 0:
    # albedo = D (1 - 0.25) / 0.96
    assert imported.model.materials[0].base_color[:3] == pytest.approx((0.390625, 0.1953125, 0.1953125))


def test_spider(models_folder: Path) -> None:
    imported = read(models_folder / "spider.fbx")
    check(imported.model)
    assert imported.info.nodes == 22 and imported.info.meshes == 19 and imported.info.vertices == 762
    assert {each.name for each in imported.model.materials} <= {"BeinTex", "Skin", "Augentex", "HLeibTex", "Brusttex"}
    assert all(each.base_color[3] == 1.0 and each.alpha_mode == "opaque" for each in imported.model.materials)
    missing = [each.details["texture"] for each in imported.warnings if each.code == "4004"]
    assert len(missing) == 4 and any(each.endswith("SpiderTex.jpg") for each in missing)


def test_spider_with_a_texture_found_by_its_name(models_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "spider.fbx").write_bytes((models_folder / "spider.fbx").read_bytes())
    (tmp_path / "OBJ").mkdir()
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, :2], pixels[:, 2:] = (200, 100, 50), (30, 60, 90)
    # PNG under a name that says JPEG: contents decide.
    Image.fromarray(pixels).save(tmp_path / "OBJ" / "SpiderTex.jpg", "PNG")
    imported = read(tmp_path / "spider.fbx")
    check(imported.model)
    material = next(each for each in imported.model.materials if each.name == "HLeibTex")
    assert material.base_color_texture is not None
    made = imported.model.textures[material.base_color_texture.texture]
    albedo, _, _ = phong.phong_to_metallic(linear_from_srgb(np.array([200, 100, 50]) / 255), np.zeros(3), np.array(0.0))
    assert np.abs(made.pixels[0, 0, :3] - srgb_from_linear(albedo) * 255).max() <= 0.5
    ignored = decode_overrides(b'[{"name": "HLeibTex", "ignoreTextureMaps": ["DiffuseMap"]}]')
    assert read(tmp_path / "spider.fbx", ignored).model.textures == []


def test_fbx_metadata_and_repeated_reading(models_folder: Path) -> None:
    for _ in range(20):
        imported = read(models_folder / "phong_cube.fbx", metadata_keys=("Default*", "currentUVSet", "RotationActive"))
        assert list(imported.node_metadata.values()) == [
            {"DefaultAttributeIndex": 0, "RotationActive": True, "currentUVSet": "map1"}
        ]


def test_plastic_or_metal() -> None:
    red = np.array([0.8, 0.1, 0.1])
    assert phong.is_ambiguous(red, np.full(3, 0.8)) and not phong.is_ambiguous(red, np.full(3, 0.1))
    assert not phong.is_ambiguous(np.full(3, 0.5), np.full(3, 0.8))


def test_bump_maps_become_normal_maps() -> None:
    ramp = np.zeros((8, 8, 4), np.uint8)
    ramp[..., :3] = (np.arange(8) * 20)[None, :, None]
    normals = phong.normals_from_height(ramp)[4, 4].astype(int)
    assert normals[0] < 110 and abs(normals[1] - 128) <= 1, "rising to the right leans to the left"
    normals = phong.normals_from_height(np.ascontiguousarray(ramp.transpose(1, 0, 2)))[4, 4].astype(int)
    assert abs(normals[0] - 128) <= 1 and normals[1] > 145, "rising downwards leans up"
    assert phong.looks_like_normals(phong.normals_from_height(ramp)) and not phong.looks_like_normals(ramp)


# Recognising, limits


def test_contents_decide_before_extensions(tmp_path: Path, models_folder: Path) -> None:
    for name, data, kind in (
        ("a.obj", b"glTF\2\0\0\0", "gltf"),
        ("a.stl", b"Kaydara FBX Binary  \0", "fbx"),
        ("a.bin", b"ply\nformat", "ply"),
        ("a.glb", b"LASF", "las"),
        ("a.STL", b"solid", "stl"),
        ("a.laz", b"", "las"),
        ("a.txt", b"x", ""),
    ):
        (tmp_path / name).write_bytes(data)
        assert recognise(tmp_path / name) == kind
    (tmp_path / "cube.stl").write_bytes((models_folder / "cube_binary.ply").read_bytes())
    assert_cube(read(tmp_path / "cube.stl"))


def test_limits_hold_for_every_format(tmp_path: Path) -> None:
    paths = [write_stl(tmp_path / "a.stl", cube_triangles()), write_obj(tmp_path)]
    data = ply_text("binary_little_endian", FACES)  # type: ignore[arg-type]
    data += CUBE.astype("<f8").tobytes() + b"".join(struct.pack("<B4iB", 4, *face, 0) for face in FACES)
    (tmp_path / "a.ply").write_bytes(data)
    for path in [*paths, tmp_path / "a.ply"]:
        read(path)
        for limits in (LoadLimits(max_triangles=11), LoadLimits(max_memory_bytes=500)):
            with pytest.raises(FarframeError) as caught:
                read(path, limits=limits)
            assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT
