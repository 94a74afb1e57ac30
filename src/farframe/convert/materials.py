"""What becomes of materials between importer and builder: overrides, colour space, sidedness, merging of equals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farframe.asset.format import TEXTURE_SLOTS
from farframe.asset.model import Material, Model, Texture, TextureSlot
from farframe.convert.colors import LINEAR_BYTES, linear_color
from farframe.convert.errors import NO_EFFECT, TOO_MANY_MATERIALS, ConversionWarning
from farframe.convert.overrides import MaterialOverride, MaterialOverrides
from farframe.convert.settings import ConversionSettings, VertexSettings

MAX_MATERIALS = 65_535
CHUNK = 1 << 20

ERROR_MATERIAL = Material(name="Too many materials", base_color=(1.0, 0.0, 0.0, 1.0), unlit=True, double_sided=True)
"""What stands for materials beyond :data:`MAX_MATERIALS`: plain red, as in Azure Remote Rendering."""

_SLOTS_OF_MAP: dict[str, tuple[str, ...]] = {
    "AlbedoMap": ("base_color_texture",),
    "DiffuseMap": ("base_color_texture",),
    "EmissiveMap": ("emissive_texture",),
    "NormalMap": ("normal_texture",),
    "OcclusionMap": ("occlusion_texture",),
    "MetallicRoughnessMap": ("metallic_roughness_texture",),
}


def override_materials(model: Model, overrides: MaterialOverrides, *, ignore_maps: bool) -> list[ConversionWarning]:
    """Apply ``overrides`` to the model's materials, in place.

    ``ignore_maps``: the importer has built the textures without looking at ``ignoreTextureMaps``.
    """
    warnings: list[ConversionWarning] = []
    used_entries: set[int] = set()
    editor = _TextureEditor(model.textures)
    for index, material in enumerate(model.materials):
        entry = overrides.of(material.name)
        if entry is None:
            continue
        used_entries.add(id(entry))
        model.materials[index] = _overridden(material, entry)
        if ignore_maps:
            _ignore_maps(model.materials[index], frozenset(entry.ignore_texture_maps), editor)
        if entry.use_vertex_color is False:
            _whiten(model, [index])
        if entry.texture_coordinate_scale is not None or entry.texture_coordinate_offset is not None:
            _move_uvs(model, index, entry.texture_coordinate_scale or (1, 1), entry.texture_coordinate_offset or (0, 0))
    for entry in overrides.entries:
        if id(entry) not in used_entries:
            warnings.append(
                ConversionWarning(NO_EFFECT, {"material override": entry.name, "problem": "No material has this name."})
            )
    return warnings


def colors_to_linear(model: Model) -> None:
    """Take the materials' colours for sRGB, in place."""
    for material in model.materials:
        material.base_color = linear_color(material.base_color)
        material.emissive = linear_color(material.emissive)


def vertex_colors_to_linear(model: Model) -> None:
    """Take the vertices' colours for sRGB, in place; alpha stays."""
    colors = model.vertices["color"]
    for begin in range(0, len(colors), CHUNK):
        chunk = colors[begin : begin + CHUNK]
        chunk[:, :3] = LINEAR_BYTES[chunk[:, :3]]


def apply_settings(model: Model, settings: ConversionSettings, *, sidedness_known: bool) -> None:
    """``opaqueMaterialDefaultSidedness`` (unless the format tells it itself) and ``unlitMaterials``, in place."""
    for material in model.materials:
        if not sidedness_known and material.alpha_mode == "opaque":
            material.double_sided = settings.opaque_material_default_sidedness == "DoubleSided"
        if settings.unlit_materials:
            material.unlit = True


def apply_vertex_formats(model: Model, vertex: VertexSettings) -> list[ConversionWarning]:
    """The streams' formats, in place: ``NONE`` resets a stream, 16 bits round it."""
    vertices = model.vertices
    warnings: list[ConversionWarning] = []
    lost_positions = False
    for begin in range(0, len(vertices), CHUNK):
        chunk = vertices[begin : begin + CHUNK]
        if vertex.position == "16_16_16_16_FLOAT":
            positions = chunk["position"]
            lost_positions |= bool(np.abs(positions).max(initial=0.0) > 65_504)
            if not lost_positions:
                chunk["position"] = positions.astype(np.float16)
        for name, stream in (("uv0", vertex.texcoord0), ("uv1", vertex.texcoord1)):
            if stream == "NONE":
                chunk[name] = 0.0
            elif stream == "16_16_FLOAT":
                chunk[name] = np.clip(chunk[name], -65_504, 65_504).astype(np.float16)
        if vertex.color0 == "NONE":
            chunk["color"] = 255
        if vertex.tangent == "NONE":
            chunk["tangent"] = (127, 0, 0, 127)
        if vertex.normal == "NONE":
            chunk["normal"] = 0
    for material in model.materials:
        if vertex.tangent == "NONE":
            material.normal_texture = None
        if vertex.normal == "NONE":
            # Light falls on nothing that has no direction.
            material.unlit = True
    for name in ("normal", "tangent", "binormal"):
        if getattr(vertex, name) == "16_16_16_16_FLOAT":
            problem = "Directions are kept in 8 bits a component; 16 bits are not stored."
            warnings.append(ConversionWarning(NO_EFFECT, {"property": f"vertex.{name}", "problem": problem}))
    if lost_positions:
        warnings.append(
            ConversionWarning(
                NO_EFFECT, {"property": "vertex.position", "problem": "Positions beyond 65,504 m need 32 bits."}
            )
        )
    if vertex.position == "16_16_16_16_FLOAT":
        for part in model.parts:
            places = vertices["position"][part.first_vertex : part.first_vertex + part.vertex_count]
            if len(places):
                part.bounds_min = tuple(places.min(axis=0).tolist())
                part.bounds_max = tuple(places.max(axis=0).tolist())
    return warnings


def deduplicate(model: Model) -> None:
    """Merge materials that look the same, whatever they are called, in place; the first one's name stays."""
    textures = _equal_textures(model.textures)
    first: dict[object, int] = {}
    target: list[int] = []
    kept: list[Material] = []
    for material in model.materials:
        for slot_name in TEXTURE_SLOTS:
            slot: TextureSlot | None = getattr(material, slot_name)
            if slot is not None:
                setattr(material, slot_name, TextureSlot(textures[slot.texture], slot.uv_set))
        values = dataclasses.astuple(dataclasses.replace(material, name=""))
        if values not in first:
            first[values] = len(kept)
            kept.append(material)
        target.append(first[values])
    model.materials = kept
    for part in model.parts:
        part.material = target[part.material]
    drop_unused_textures(model)


def limit_materials(model: Model) -> list[ConversionWarning]:
    """Put one red error material in the place of all beyond :data:`MAX_MATERIALS`, in place."""
    surplus = len(model.materials) - MAX_MATERIALS
    if surplus <= 0:
        return []
    model.materials = [*model.materials[: MAX_MATERIALS - 1], dataclasses.replace(ERROR_MATERIAL)]
    for part in model.parts:
        part.material = min(part.material, MAX_MATERIALS - 1)
    drop_unused_textures(model)
    text = f"{surplus + 1:,} materials beyond {MAX_MATERIALS - 1:,} are shown in red."
    return [ConversionWarning(TOO_MANY_MATERIALS, {"materials": text})]


def drop_unused_textures(model: Model) -> None:
    """Leave out textures that no material uses, in place."""
    used = sorted({slot.texture for each in model.materials for name in TEXTURE_SLOTS if (slot := getattr(each, name))})
    if len(used) == len(model.textures):
        return
    place = {texture: index for index, texture in enumerate(used)}
    model.textures = [model.textures[index] for index in used]
    for material in model.materials:
        for name in TEXTURE_SLOTS:
            kept: TextureSlot | None = getattr(material, name)
            if kept is not None:
                setattr(material, name, TextureSlot(place[kept.texture], kept.uv_set))


def _overridden(material: Material, entry: MaterialOverride) -> Material:
    result = dataclasses.replace(material)
    color = entry.albedo_color
    if color is not None:
        red, green, blue, alpha = result.base_color
        if color.r is not None and color.g is not None and color.b is not None:
            red, green, blue = color.r, color.g, color.b
        result.base_color = (red, green, blue, alpha if color.a is None else color.a)
    if entry.roughness is not None:
        result.roughness = entry.roughness
    if entry.metalness is not None:
        result.metallic = entry.metalness
    if entry.normal_map_scale is not None:
        result.normal_scale = entry.normal_map_scale
    if entry.alpha_clip_threshold is not None:
        result.alpha_cutoff = entry.alpha_clip_threshold
    if entry.alpha_clip_enabled is not None and result.alpha_mode != "blend":
        result.alpha_mode = "mask" if entry.alpha_clip_enabled else "opaque"
    if entry.transparent is not None:
        if entry.transparent:
            result.alpha_mode = "blend"
        elif result.alpha_mode == "blend":
            result.alpha_mode = "mask" if entry.alpha_clip_enabled else "opaque"
    if entry.is_double_sided is not None:
        result.double_sided = entry.is_double_sided
    if entry.unlit is not None:
        result.unlit = entry.unlit
    if entry.transparency_writes_depth is not None:
        result.transparency_writes_depth = entry.transparency_writes_depth
    return result


def _ignore_maps(material: Material, maps: frozenset[str], editor: _TextureEditor) -> None:
    for name in maps:
        for slot_name in _SLOTS_OF_MAP.get(name, ()):
            setattr(material, slot_name, None)
    both = material.metallic_roughness_texture
    if both is not None and maps & {"RoughnessMap", "MetalnessMap"}:
        channels = [channel for name, channel in (("RoughnessMap", 1), ("MetalnessMap", 2)) if name in maps]
        material.metallic_roughness_texture = (
            None if len(channels) == 2 else TextureSlot(editor.filled(both.texture, channels[0]), both.uv_set)
        )
    color = material.base_color_texture
    if color is not None and "OpacityMap" in maps:
        material.base_color_texture = TextureSlot(editor.filled(color.texture, 3), color.uv_set)


class _TextureEditor:
    """Makes copies of textures with one channel set to 1, each once."""

    def __init__(self, textures: list[Texture]) -> None:
        self._textures = textures
        self._made: dict[tuple[int, int], int] = {}

    def filled(self, texture: int, channel: int) -> int:
        """The index of the copy of ``texture`` whose ``channel`` is 1 everywhere."""
        key = (texture, channel)
        if key not in self._made:
            source = self._textures[texture]
            pixels = source.pixels.copy()
            pixels[..., channel] = 255
            self._made[key] = len(self._textures)
            self._textures.append(dataclasses.replace(source, pixels=pixels))
        return self._made[key]


def _ranges(model: Model, materials: Sequence[int]) -> list[slice]:
    wanted = set(materials)
    return [
        slice(part.first_vertex, part.first_vertex + part.vertex_count)
        for part in model.parts
        if part.material in wanted
    ]


def _whiten(model: Model, materials: Sequence[int]) -> None:
    for each in _ranges(model, materials):
        model.vertices["color"][each] = 255


def _move_uvs(model: Model, material: int, scale: tuple[float, float], offset: tuple[float, float]) -> None:
    for each in _ranges(model, [material]):
        for name in ("uv0", "uv1"):
            moved = model.vertices[name][each] * np.array(scale, np.float32) + np.array(offset, np.float32)
            model.vertices[name][each] = np.nan_to_num(moved, nan=0.0, posinf=0.0, neginf=0.0)


def _equal_textures(textures: list[Texture]) -> list[int]:
    """For each texture the first one that is the same in every pixel and parameter."""
    first: dict[object, list[int]] = {}
    target: list[int] = []
    for index, texture in enumerate(textures):
        key = (
            texture.pixels.shape,
            texture.srgb,
            texture.wrap_u,
            texture.wrap_v,
            texture.mag_filter,
            texture.min_filter,
            texture.mipmaps,
        )
        same = next((each for each in first.get(key, []) if _same_pixels(textures[each].pixels, texture.pixels)), None)
        if same is None:
            first.setdefault(key, []).append(index)
        target.append(index if same is None else same)
    return target


def _same_pixels(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    # Most that differ do so in the first row: the whole is compared only where that is equal.
    return one is other or bool(np.array_equal(one[:1], other[:1]) and np.array_equal(one, other))
