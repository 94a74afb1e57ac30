"""FBX files of 2011 to 2020 (and older ones that ufbx knows), binary and ASCII: Phong materials to metallic-roughness.

The file's unit becomes metres and its axes +Y up; both are worked into geometry and transforms. Roles of textures:
AmbientColor is occlusion, NormalMap a normal map, Bump becomes one; diffuse, specular, specular factor, shininess and
transparency feed the formulas of :mod:`farframe.convert.phong`, pixel by pixel. Emissive, reflection, displacement and
the properties that programs add for their own physically based materials are left out, with a warning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import ufbx  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from farframe.asset.budget import Budget, Progress
from farframe.asset.model import Material, Model, Part, Texture, TextureSlot, Wrap
from farframe.convert import phong
from farframe.convert.colors import linear_from_srgb, srgb_from_linear
from farframe.convert.errors import ConversionWarning
from farframe.convert.importers import Imported
from farframe.convert.importers.isolation import in_child
from farframe.convert.importers.ufbx_scene import SceneReader, load_scene, pin, pinned, plain_material
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings
from farframe.convert.textures_lookup import TextureFiles

_ROWS = 256
"""Rows of pixels that the formulas are computed for at a time."""

Pixels = NDArray[np.uint8]


@in_child
def import_fbx(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    overrides: MaterialOverrides,
) -> Imported:
    """Read an FBX file. Colours of materials come out linear; ``gammaToLinearMaterial`` is on by default."""
    scene = load_scene(
        path,
        budget,
        target_axes=ufbx.axes_right_handed_y_up,
        target_unit_meters=1.0,
        space_conversion=ufbx.SpaceConversion.MODIFY_GEOMETRY,
        geometry_transform_handling=ufbx.GeometryTransformHandling.MODIFY_GEOMETRY,
        inherit_mode_handling=ufbx.InheritModeHandling.COMPENSATE,
        generate_missing_normals=True,
        file_format=ufbx.FileFormat.FBX,
    )
    progress("reading", 0.1)
    files = TextureFiles(path.parent, folder, budget)
    materials = FbxMaterials(scene, files, settings, overrides, budget)
    reader, model = read_model(scene, path.stem, materials, settings, budget, progress)
    about = scene.metadata
    info = reader.info(path, "Autodesk FBX Importer", str(int(about.version)), str(about.creator))
    return Imported(
        model=model,
        info=info,
        node_metadata=reader.metadata,
        warnings=[*(ConversionWarning.left_out(text) for text in model.warnings), *files.warnings],
        gamma_material=True,
        gamma_vertex=True,
        material_colors_linear=True,
        maps_ignored=True,
    )


class FbxMaterials:
    """Phong materials, one after the other, with the textures that they make."""

    def __init__(
        self,
        scene: Any,
        files: TextureFiles,
        settings: ConversionSettings,
        overrides: MaterialOverrides,
        budget: Budget,
    ) -> None:
        self.materials: list[Material] = []
        self.textures: list[Texture] = []
        self.warnings: dict[str, None] = {}
        self.uv_transforms: dict[int, NDArray[np.float64]] = {}
        self._files = files
        self._settings = settings
        self._overrides = overrides
        self._budget = budget
        self._linear = settings.gamma_to_linear_material is not False
        self._uv_sets: dict[str, int] = {}
        for mesh in pinned(scene.meshes):
            sets = mesh.uv_sets
            for index in range(len(sets)):
                self._uv_sets.setdefault(sets[index].name, index)
        self._made: dict[object, int] = {}

    def tangents_for(self, material: int) -> int | None:
        """The UV set of a material's normal texture."""
        slot = self.materials[material].normal_texture
        return None if slot is None else slot.uv_set

    def add_plain(self) -> int:
        """The material of faces that have none; its index."""
        self.materials.append(plain_material())
        return len(self.materials) - 1

    def drop_plain_if_unused(self, parts: list[Part]) -> None:
        """Leave the last material, the plain one, out again if nothing is shown with it."""
        if all(part.material < len(self.materials) - 1 for part in parts):
            self.materials.pop()

    def add(self, source: Any) -> None:
        """The next material."""
        name: str = source.name[:1_024]
        maps = source.fbx
        ignored = self._overrides.ignored_maps(name)
        lambert = source.shader_type == ufbx.ShaderType.FBX_LAMBERT
        if source.shader_type not in (
            ufbx.ShaderType.FBX_LAMBERT,
            ufbx.ShaderType.FBX_PHONG,
            ufbx.ShaderType.BLENDER_PHONG,
            ufbx.ShaderType.UNKNOWN,
        ):
            self._warn(f"Material {name[:80]!a}: its program's own properties are left out, its Phong ones used.")
        diffuse = self._color(maps.diffuse_color) * self._number(maps.diffuse_factor, 1.0)
        specular_factor = self._number(maps.specular_factor, 1.0)
        specular = np.zeros(3) if lambert else self._color(maps.specular_color) * specular_factor
        shininess = 0.0 if lambert else self._number(maps.specular_exponent, 0.0)
        diffuse, specular = np.clip(diffuse, 0.0, 1.0), np.clip(specular, 0.0, 1.0)
        shininess = min(max(shininess, 0.0), 1e6)
        alpha = self._alpha(source)

        index = len(self.materials)
        uses: list[Any] = []

        def image(texture_map: Any, *map_names: str) -> Pixels | None:
            if ignored & set(map_names):
                return None
            texture = pin(texture_map.texture)
            if texture is None or not texture_map.texture_enabled:
                return None
            pixels, file_texture = self._read(texture, name)
            if pixels is not None:
                uses.append(file_texture)
            return pixels

        diffuse_image = image(maps.diffuse_color, "DiffuseMap", "AlbedoMap")
        color_uses = list(uses)
        specular_image = None if lambert else image(maps.specular_color, "SpecularMap")
        factor_image = None if lambert else image(maps.specular_factor, "SpecularMap")
        shininess_image = None if lambert else image(maps.specular_exponent, "ShininessMap")
        opacity_image = image(maps.transparency_color, "OpacityMap")
        if opacity_image is None:
            opacity_image = image(maps.transparency_factor, "OpacityMap")
        metallic_uses = list(uses)
        occlusion_image = image(maps.ambient_color, "OcclusionMap")
        normal_image = image(maps.normal_map, "NormalMap")
        bump_image = image(maps.bump, "BumpMap") if normal_image is None else None
        for what, texture_map in (
            ("emissive", maps.emission_color),
            ("reflection", maps.reflection_color),
            ("displacement", maps.displacement),
        ):
            if pin(texture_map.texture) is not None:
                self._warn(f"Material {name[:80]!a}: the {what} map is left out.")
        if (
            maps.emission_color.has_value
            and self._color(maps.emission_color).max() * self._number(maps.emission_factor, 1.0) > 1e-3
        ):
            self._warn(f"Material {name[:80]!a}: its emissive colour is left out.")

        material = Material(name=name, alpha_mode="blend" if alpha < 1.0 - 1e-6 else "opaque")
        formula_images = [diffuse_image, specular_image, factor_image, shininess_image]
        if all(each is None for each in formula_images) and opacity_image is None:
            if not self._settings.fbx_assume_metallic and phong.is_ambiguous(diffuse, specular):
                _, _, roughness = phong.phong_to_metallic(diffuse, specular, np.array(shininess))
                albedo, metalness = diffuse, np.zeros(())
            else:
                albedo, metalness, roughness = phong.phong_to_metallic(diffuse, specular, np.array(shininess))
            material.base_color = (float(albedo[0]), float(albedo[1]), float(albedo[2]), alpha)
            material.metallic, material.roughness = float(metalness), float(roughness)
        else:
            self._textured(
                material,
                (diffuse_image, specular_image, factor_image, shininess_image, opacity_image),
                diffuse,
                specular,
                specular_factor,
                shininess,
                alpha,
                (color_uses or metallic_uses),
            )
        uv = self._uv_set(uses)
        if occlusion_image is not None:
            material.occlusion_texture = TextureSlot(
                self._texture(occlusion_image, False, uses[-1], ("occlusion",)), uv
            )
        if normal_image is not None or bump_image is not None:
            strength = self._number(maps.bump_factor, 1.0)
            pixels = normal_image
            key: tuple[object, ...] = ("normal",)
            if pixels is None and bump_image is not None:
                if phong.looks_like_normals(bump_image):
                    pixels = bump_image
                else:
                    self._budget.take_bytes(bump_image.nbytes, "its normal maps")
                    pixels = phong.normals_from_height(bump_image, strength if strength > 0 else 1.0)
                    key = ("bump", strength)
            assert pixels is not None
            material.normal_texture = TextureSlot(self._texture(pixels, False, uses[-1], key), uv)
        transforms = [_uv_matrix(each) for each in uses]
        transform = next((each for each in transforms if each is not None), None)
        if transform is not None:
            if any(each is None or not np.array_equal(transform, each) for each in transforms):
                self._warn(f"Material {name[:80]!a}: its textures are moved differently; all follow the first.")
            self.uv_transforms[index] = transform
        self.materials.append(material)

    def _textured(
        self,
        material: Material,
        images: tuple[Pixels | None, ...],
        diffuse: NDArray[np.float64],
        specular: NDArray[np.float64],
        specular_factor: float,
        shininess: float,
        alpha: float,
        uses: list[Any],
    ) -> None:
        """Run the formulas for every pixel; factors stay 1 where a texture holds the value."""
        key = ("phong", *(id(each) for each in images), diffuse.tobytes(), specular.tobytes(), shininess, self._linear)
        present = [each for each in images if each is not None]
        height = max(each.shape[0] for each in present)
        width = max(each.shape[1] for each in present)
        sized = [None if each is None else resized(each, width, height) for each in images]
        diffuse_image, specular_image, factor_image, shininess_image, opacity_image = sized
        self._budget.take_bytes(width * height * 8, "its textures")
        color = np.empty((height, width, 4), np.uint8)
        metallic = np.empty((height, width, 4), np.uint8)
        metallic[..., 0] = metallic[..., 3] = 255
        for begin in range(0, height, _ROWS):
            rows = slice(begin, begin + _ROWS)
            shape = color[rows].shape[:2]
            d = np.broadcast_to(diffuse, (*shape, 3))
            if diffuse_image is not None:
                d = self._linear_pixels(diffuse_image[rows])
            s = np.broadcast_to(specular, (*shape, 3))
            if specular_image is not None:
                s = self._linear_pixels(specular_image[rows]) * specular_factor
            if factor_image is not None:
                s = s / max(specular_factor, 1e-6) * (factor_image[rows][..., :3].mean(axis=-1) / 255.0)[..., None]
            exponent = np.full(shape, shininess)
            if shininess_image is not None:
                exponent = shininess_image[rows][..., :3].mean(axis=-1) / 255.0 * max(shininess, 1.0)
            albedo, metalness, roughness = phong.phong_to_metallic(np.clip(d, 0.0, 1.0), np.clip(s, 0.0, 1.0), exponent)
            color[rows][..., :3] = np.rint(srgb_from_linear(albedo) * 255.0)
            metallic[rows][..., 1] = np.rint(roughness * 255.0)
            metallic[rows][..., 2] = np.rint(metalness * 255.0)
            self._budget.check_time()
        color[..., 3] = 255
        if opacity_image is not None:
            own = opacity_image[..., 3]
            # An image with an alpha channel means that; one without says by its brightness what is transparent.
            color[..., 3] = own if bool((own < 255).any()) else 255 - opacity_image[..., :3].mean(axis=-1)
            material.alpha_mode = "blend"
            alpha = 1.0
        uv = self._uv_set(uses)
        sampler = uses[0] if uses else None
        constant_color = bool((color[..., :3] == color[0, 0, :3]).all()) and opacity_image is None
        if constant_color:
            red, green, blue = linear_from_srgb(color[0, 0, :3] / 255.0).tolist()
            material.base_color = (red, green, blue, alpha)
        else:
            material.base_color = (1.0, 1.0, 1.0, alpha)
            material.base_color_texture = TextureSlot(self._texture(color, True, sampler, (*key, "color")), uv)
        if bool((metallic == metallic[0, 0]).all()):
            material.roughness, material.metallic = (metallic[0, 0, 1:3] / 255.0).tolist()
        else:
            material.roughness = material.metallic = 1.0
            material.metallic_roughness_texture = TextureSlot(
                self._texture(metallic, False, sampler, (*key, "metallic")), uv
            )

    def _linear_pixels(self, pixels: Pixels) -> NDArray[np.float64]:
        # A texture's colours are sRGB whatever the setting for materials' colours says.
        return linear_from_srgb(pixels[..., :3] / 255.0)

    def _color(self, found: Any) -> NDArray[np.float64]:
        value = found.value_vec4
        color = np.nan_to_num(np.array([value.x, value.y, value.z]), nan=0.0, posinf=1.0, neginf=0.0)
        return linear_from_srgb(color) if self._linear else np.maximum(color, 0.0)

    def _number(self, found: Any, default: float) -> float:
        value = float(found.value_vec4.x) if found.has_value else default
        return value if np.isfinite(value) else default

    def _alpha(self, source: Any) -> float:
        """Opacity, else what the transparent colour (times its factor) leaves, else what the factor leaves.

        Only what the file itself defines counts: programs' templates hold values that mean nothing.
        """
        properties = source.props
        values = properties.props
        defined = {}
        for index in range(len(values)):
            value = values[index]
            if value.name in ("Opacity", "TransparentColor", "TransparencyFactor"):
                defined[value.name] = value.value_vec4
        factor = float(defined["TransparencyFactor"].x) if "TransparencyFactor" in defined else None
        if "Opacity" in defined:
            alpha = float(defined["Opacity"].x)
        elif "TransparentColor" in defined:
            color = defined["TransparentColor"]
            # Without a factor of its own the template's applies, as ufbx has looked it up.
            scale = factor if factor is not None else self._number(source.fbx.transparency_factor, 0.0)
            alpha = 1.0 - scale * (color.x + color.y + color.z) / 3.0
        else:
            alpha = 1.0 - (factor or 0.0)
        return min(max(alpha, 0.0), 1.0) if np.isfinite(alpha) else 1.0

    def _read(self, texture: Any, material: str) -> tuple[Pixels | None, Any]:
        """The pixels of a file texture; of layers and graphs, those of the first file in them."""
        if texture.type != ufbx.TextureType.FILE:
            inside = pinned(texture.file_textures)
            self._warn(f"Material {material[:80]!a}: of a layered texture the first image is used.")
            if not inside:
                return None, texture
            texture = inside[0]
        content = texture.content
        stored = texture.relative_filename or texture.absolute_filename or texture.filename
        return self._files.read(stored, material, content or b""), texture

    def _texture(self, pixels: Pixels, srgb: bool, source: Any, key: tuple[object, ...]) -> int:
        # Pixels as read from a file are one array, kept by the files; those that were made are told apart by the key.
        made_of: object = id(pixels) if len(key) == 1 else str(source.filename) if source is not None else ""
        full_key = (*key, made_of, srgb)
        if full_key not in self._made:
            wraps: tuple[Wrap, Wrap] = ("repeat", "repeat")
            if source is not None:
                wraps = _wrap(source.wrap_u), _wrap(source.wrap_v)
            self._made[full_key] = len(self.textures)
            name = "" if source is None else Path(str(source.filename).replace("\\", "/")).name[:1_024]
            self.textures.append(Texture(pixels, srgb, wraps[0], wraps[1], name=name))
        return self._made[full_key]

    def _uv_set(self, uses: list[Any]) -> int:
        found = self._uv_sets.get(str(uses[0].uv_set), 0) if uses else 0
        return found if found < 2 else 0

    def _warn(self, message: str) -> None:
        self.warnings.setdefault(message)


def _uv_matrix(texture: Any) -> NDArray[np.float64] | None:
    """(3, 3) UV to texture space, or ``None`` for the identity."""
    if not texture.has_uv_transform:
        return None
    matrix = texture.uv_to_texture
    found = np.array([[matrix.c0.x, matrix.c1.x, matrix.c3.x], [matrix.c0.y, matrix.c1.y, matrix.c3.y], [0, 0, 1]])
    return found if np.isfinite(found).all() else None


def _wrap(mode: Any) -> Wrap:
    return "clamp" if mode == ufbx.WrapMode.CLAMP else "repeat"


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """The image with so many pixels, which may be its own."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def read_model(
    scene: Any,
    name: str,
    materials: FbxMaterials,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
) -> tuple[SceneReader, Model]:
    """Materials first, since they say which parts need tangents, then everything that uses them."""
    for done, each in enumerate(pinned(scene.materials), start=1):
        materials.add(each)
        budget.check_time()
        progress("textures", 0.1 + 0.2 * done / len(scene.materials))
    reader = SceneReader(
        scene,
        name,
        budget,
        settings,
        tangents_for=materials.tangents_for,
        uv_transform=materials.uv_transforms.get,
        default_material=materials.add_plain(),
    )
    reader.read(progress)
    materials.drop_plain_if_unused(reader.assembler.parts)
    for text in materials.warnings:
        reader.assembler.warn(text)
    return reader, reader.assembler.finish(materials.materials, materials.textures)
