"""OBJ files with their MTL libraries, read by ufbx.

Diffuse colour and map become the albedo; ``Pr`` and ``Pm`` and their maps are roughness and metalness where the file
has them, else the roughness follows from ``Ns`` as sqrt(2 / (Ns + 2)) and nothing is metal. ``norm`` is a normal map,
``bump`` becomes one, ``d`` and ``map_d`` are opacity. OBJ has no unit: lengths are taken for metres.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import ufbx  # type: ignore[import-untyped, unused-ignore]

from farframe.asset.budget import Budget, Progress
from farframe.asset.gltf_source import map_file
from farframe.asset.model import Material, TextureSlot
from farframe.convert import phong
from farframe.convert.errors import ConversionWarning
from farframe.convert.importers import Imported
from farframe.convert.importers.fbx import FbxMaterials, Pixels, read_model, resized
from farframe.convert.importers.isolation import in_child
from farframe.convert.importers.ufbx_scene import load_scene, pin, plain_material
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings
from farframe.convert.textures_lookup import TextureFiles, find_texture

MAX_LIBRARIES = 100
MAX_LIBRARY_BYTES = 64 * 1024**2

_LIBRARY = re.compile(rb"^[ \t]*mtllib[ \t]+([^\r\n]{1,4096})", re.MULTILINE)


@in_child
def import_obj(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    overrides: MaterialOverrides,
) -> Imported:
    """Read an OBJ file and the material libraries that it names, found as textures are."""
    libraries, warnings = _libraries(path, folder)
    scene = load_scene(path, budget, file_format=ufbx.FileFormat.OBJ, obj_mtl_data=libraries or b"\n")
    progress("reading", 0.1)
    files = TextureFiles(path.parent, folder, budget)
    materials = _ObjMaterials(scene, files, settings, overrides, budget)
    reader, model = read_model(scene, path.stem, materials, settings, budget, progress)
    info = reader.info(path, "Wavefront OBJ Importer", "", "")
    return Imported(
        model=model,
        info=info,
        warnings=[*warnings, *(ConversionWarning.left_out(text) for text in model.warnings), *files.warnings],
        gamma_material=True,
        gamma_vertex=True,
        material_colors_linear=True,
        maps_ignored=True,
    )


def _libraries(path: Path, folder: Path) -> tuple[bytes, list[ConversionWarning]]:
    """The text of all material libraries, one after the other."""
    data = map_file(path, path.name)
    names: dict[bytes, None] = {}
    for match in _LIBRARY.finditer(data.data):
        names.setdefault(match[1].strip())
        if len(names) >= MAX_LIBRARIES:
            break
    texts: list[bytes] = []
    warnings: list[ConversionWarning] = []
    for name in names:
        stored = name.decode("utf-8", "replace")
        found = find_texture(stored, path.parent, folder)
        if found is None or found.stat().st_size > MAX_LIBRARY_BYTES:
            warnings.append(ConversionWarning.left_out(f"The material library {stored[:200]!a} was not found."))
            continue
        texts.append(found.read_bytes())
    return b"\n".join(texts), warnings


class _ObjMaterials(FbxMaterials):
    """Materials of MTL libraries."""

    def add(self, source: Any) -> None:
        """The next material."""
        name: str = source.name[:1_024]
        maps, pbr = source.fbx, source.pbr
        ignored = self._overrides.ignored_maps(name)
        index = len(self.materials)
        if not any(each.has_value for each in (maps.diffuse_color, maps.transparency_factor, maps.specular_exponent)):
            material = plain_material()
            material.name = name
        else:
            red, green, blue = np.clip(self._color(maps.diffuse_color), 0.0, 1.0).tolist()
            alpha = min(max(1.0 - self._number(maps.transparency_factor, 0.0), 0.0), 1.0)
            exponent = min(max(self._number(maps.specular_exponent, 0.0), 0.0), 1e6)
            # ufbx derives a roughness of its own where the file has none.
            stated = self._names(source)
            roughness_of_exponent = (2.0 / (exponent + 2.0)) ** 0.5
            material = Material(
                name=name,
                base_color=(red, green, blue, alpha),
                metallic=min(max(self._number(pbr.metalness, 0.0), 0.0), 1.0),
                roughness=min(max(self._number(pbr.roughness, 1.0), 0.0), 1.0)
                if "Pr" in stated
                else roughness_of_exponent,
                alpha_mode="blend" if alpha < 1.0 - 1e-6 else "opaque",
            )
        used: list[Any] = []

        def image(texture_map: Any, *map_names: str) -> tuple[Pixels, Any] | None:
            texture = pin(texture_map.texture)
            if texture is None or ignored & set(map_names):
                return None
            pixels, texture = self._read(texture, name)
            if pixels is None:
                return None
            used.append(texture)
            return pixels, texture

        diffuse = image(maps.diffuse_color, "DiffuseMap", "AlbedoMap")
        opacity = image(maps.transparency_factor, "OpacityMap")
        if diffuse is not None or opacity is not None:
            self._color_texture(material, diffuse, opacity)
        roughness = image(pbr.roughness, "RoughnessMap")
        metalness = image(pbr.metalness, "MetalnessMap")
        if roughness is not None or metalness is not None:
            self._metallic_texture(material, roughness, metalness)
        normal = image(maps.normal_map, "NormalMap")
        bump = image(maps.bump, "BumpMap") if normal is None else None
        if normal is not None:
            material.normal_texture = TextureSlot(self._texture(normal[0], False, normal[1], ("normal",)))
        elif bump is not None:
            strength = self._number(maps.bump_factor, 1.0)
            if phong.looks_like_normals(bump[0]):
                material.normal_texture = TextureSlot(self._texture(bump[0], False, bump[1], ("normal",)))
            else:
                self._budget.take_bytes(bump[0].nbytes, "its normal maps")
                made = phong.normals_from_height(bump[0], strength if strength > 0 else 1.0)
                material.normal_texture = TextureSlot(self._texture(made, False, bump[1], ("bump", strength)))
        if pin(maps.emission_color.texture) is not None or self._color(maps.emission_color).max() > 1e-3:
            self._warn(f"Material {name[:80]!a}: what it emits is left out.")
        if pin(maps.displacement.texture) is not None:
            self._warn(f"Material {name[:80]!a}: the displacement map is left out.")
        self.materials.append(material)
        assert index == len(self.materials) - 1

    def _names(self, source: Any) -> set[str]:
        """The properties that the file itself states."""
        properties = source.props
        values = properties.props
        return {values[index].name for index in range(len(values))}

    def _color_texture(
        self, material: Material, diffuse: tuple[Pixels, Any] | None, opacity: tuple[Pixels, Any] | None
    ) -> None:
        given = [each for each in (diffuse, opacity) if each is not None]
        height = max(each[0].shape[0] for each in given)
        width = max(each[0].shape[1] for each in given)
        if opacity is None:
            assert diffuse is not None
            material.base_color_texture = TextureSlot(self._texture(diffuse[0], True, diffuse[1], ("color",)))
            return
        self._budget.take_bytes(width * height * 8, "its textures")
        pixels = np.full((height, width, 4), 255, np.uint8)
        if diffuse is not None:
            pixels[..., :3] = resized(diffuse[0], width, height)[..., :3]
        mask = resized(opacity[0], width, height)
        own = mask[..., 3]
        pixels[..., 3] = own if bool((own < 255).any()) else mask[..., :3].mean(axis=-1)
        key = ("color and opacity", str(given[0][1].filename), str(opacity[1].filename))
        material.base_color_texture = TextureSlot(self._texture(pixels, True, given[0][1], key))
        material.base_color = (*material.base_color[:3], 1.0)
        material.alpha_mode = "blend"

    def _metallic_texture(
        self, material: Material, roughness: tuple[Pixels, Any] | None, metalness: tuple[Pixels, Any] | None
    ) -> None:
        given = [each for each in (roughness, metalness) if each is not None]
        height = max(each[0].shape[0] for each in given)
        width = max(each[0].shape[1] for each in given)
        self._budget.take_bytes(width * height * 8, "its textures")
        pixels = np.full((height, width, 4), 255, np.uint8)
        if roughness is not None:
            pixels[..., 1] = resized(roughness[0], width, height)[..., 0]
            material.roughness = 1.0
        if metalness is not None:
            pixels[..., 2] = resized(metalness[0], width, height)[..., 0]
            material.metallic = 1.0
        key = ("metallic", *(str(each[1].filename) for each in given), roughness is None, metalness is None)
        material.metallic_roughness_texture = TextureSlot(self._texture(pixels, False, given[0][1], key))
