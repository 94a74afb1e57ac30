"""Materials of a glTF file and its extensions, as metallic-roughness, and the UVs that parts carry for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farframe.asset import gltf_schema as schema
from farframe.asset.gltf_materials import (
    DIELECTRIC,
    bake_specular_glossiness,
    metallic_of,
    normals_with_z,
    unpack_roughness_metallic_occlusion,
)
from farframe.asset.gltf_reading import Reading, Step, clean_name
from farframe.asset.gltf_textures import TextureReader
from farframe.asset.model import AlphaMode, Material, Texture, TextureSlot

COAT_SHARE = 0.5
"""How far a full clear coat draws the roughness of what is below towards its own: both layers reflect alike."""

GLASS_OPACITY = 0.15
"""What remains visible of a surface that transmits all light: its reflections must be seen."""

UvStream = tuple[int, schema.TextureTransform]
"""A UV set of the file and how it is transformed."""

IDENTITY = schema.TextureTransform()

_ALPHA_MODES: dict[str, AlphaMode] = {"OPAQUE": "opaque", "MASK": "mask", "BLEND": "blend"}


@dataclass(slots=True)
class MaterialPlan:
    """A material with the UV streams that a part that uses it must carry as uv0 and uv1."""

    material: Material
    streams: tuple[UvStream, UvStream]


class MaterialReader(Step):
    """Reads all materials, and with them the textures."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._textures = TextureReader(reading)

    def read(self) -> tuple[list[MaterialPlan], list[Texture]]:
        """All materials (and the specification's default one last, if needed) and the textures that they use."""
        plans = [self._material(index) for index in range(len(self._document.materials))]
        if any(each.material is None for mesh in self._document.meshes for each in mesh.primitives):
            plans.append(MaterialPlan(Material(), ((0, IDENTITY), (1, IDENTITY))))
        return plans, self._textures.finish()

    def _material(self, index: int) -> MaterialPlan:
        described = self._document.materials[index]
        where = f"$.materials[{index}]"
        extensions = described.extensions
        pbr = described.pbr_metallic_roughness
        found: dict[str, tuple[int, UvStream]] = {}
        if extensions.KHR_materials_pbrSpecularGlossiness is not None:
            pbr = self._specular_glossiness(extensions.KHR_materials_pbrSpecularGlossiness, where, found)
        # Most important first: if UV streams run out, the last ones suffer.
        infos: list[tuple[str, schema.TextureInfo | None, bool]] = [
            ("base_color_texture", pbr.base_color_texture, True),
            ("normal_texture", described.normal_texture, False),
            ("metallic_roughness_texture", pbr.metallic_roughness_texture, False),
            ("emissive_texture", described.emissive_texture, True),
            ("occlusion_texture", described.occlusion_texture, False),
        ]
        for slot, info, srgb in infos:
            if info is not None and (place := self._textures.texture(info, srgb, f"{where}.{slot}")) is not None:
                found[slot] = (place, _uv_stream(info))
        if extensions.MSFT_packing_occlusionRoughnessMetallic is not None:
            self._packed_occlusion(extensions.MSFT_packing_occlusionRoughnessMetallic, where, found)
        streams = self._uv_streams([stream for _, stream in found.values()], where)
        slots = {
            slot: TextureSlot(place, streams.index(stream) if stream in streams else 0)
            for slot, (place, stream) in found.items()
        }
        strength = 1.0
        if described.extensions.KHR_materials_emissive_strength is not None:
            strength = described.extensions.KHR_materials_emissive_strength.emissive_strength
        red, green, blue = described.emissive_factor
        normal = described.normal_texture
        occlusion = described.occlusion_texture
        base_color, alpha_mode = _clamped(pbr.base_color_factor), _ALPHA_MODES[described.alpha_mode]
        if extensions.KHR_materials_transmission is not None:
            base_color, alpha_mode = self._transmission(extensions.KHR_materials_transmission, base_color, alpha_mode)
        roughness = _clamp(pbr.roughness_factor)
        coat = extensions.KHR_materials_clearcoat
        if coat is not None and coat.clearcoat_factor > 0.0:
            self._warn("Clear coats are shown as a smoother surface.")
            share = COAT_SHARE * _clamp(coat.clearcoat_factor)
            roughness += min(_clamp(coat.clearcoat_roughness_factor) - roughness, 0.0) * share
        material = Material(
            name=clean_name(described.name),
            base_color=base_color,
            metallic=_clamp(pbr.metallic_factor),
            roughness=roughness,
            emissive=(_positive(red * strength), _positive(green * strength), _positive(blue * strength)),
            normal_scale=normal.scale if normal is not None else 1.0,
            occlusion_strength=_clamp(occlusion.strength) if occlusion is not None else 1.0,
            alpha_mode=alpha_mode,
            alpha_cutoff=described.alpha_cutoff,
            double_sided=described.double_sided,
            unlit=described.extensions.KHR_materials_unlit is not None,
            transparency_writes_depth=False,
            **slots,
        )
        return MaterialPlan(material, streams)

    def _specular_glossiness(
        self, described: schema.SpecularGlossiness, where: str, found: dict[str, tuple[int, UvStream]]
    ) -> schema.MetallicRoughness:
        """The metallic-roughness equivalent. Textures that have to be computed are added to ``found``."""
        where += ".extensions.KHR_materials_pbrSpecularGlossiness"
        red, green, blue, alpha = _clamped(described.diffuse_factor)
        specular_red, specular_green, specular_blue, gloss = _clamped(
            (*described.specular_factor, described.glossiness_factor)
        )
        diffuse, specular = (red, green, blue), (specular_red, specular_green, specular_blue)
        infos = [described.diffuse_texture, described.specular_glossiness_texture]
        if infos[0] is not None and infos[1] is not None and _uv_stream(infos[0]) != _uv_stream(infos[1]):
            self._warn(f"{where} reads its textures with different UVs: the specular-glossiness texture is left out.")
            infos[1] = None
        given = [info for info in infos if info is not None]
        if infos[1] is None and max(specular) <= DIELECTRIC:
            # No metal anywhere: the diffuse texture is the base colour's.
            scale = (1.0 - max(specular)) / (1.0 - DIELECTRIC)
            return schema.MetallicRoughness(
                base_color_factor=(red * scale, green * scale, blue * scale, alpha),
                base_color_texture=infos[0],
                metallic_factor=0.0,
                roughness_factor=1.0 - gloss,
            )
        key = ("specular-glossiness", *[None if info is None else info.index for info in infos])
        places = None
        if given:
            has_diffuse, has_specular = infos[0] is not None, infos[1] is not None

            def make(*pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
                return bake_specular_glossiness(
                    pixels[0] if has_diffuse else None,
                    pixels[-1] if has_specular else None,
                    diffuse,
                    specular,
                    gloss,
                )

            places = self._textures.baked((*key, diffuse, specular, gloss), given, (True, False), make, where)
        if places is not None:
            stream = _uv_stream(given[0])
            found["base_color_texture"] = (places[0], stream)
            found["metallic_roughness_texture"] = (places[1], stream)
            return schema.MetallicRoughness(base_color_factor=(1.0, 1.0, 1.0, alpha))
        color, metallic = metallic_of(np.array(diffuse), np.array(specular))
        return schema.MetallicRoughness(
            base_color_factor=(*color.tolist(), alpha), metallic_factor=float(metallic), roughness_factor=1.0 - gloss
        )

    def _packed_occlusion(
        self, described: schema.PackedOcclusion, where: str, found: dict[str, tuple[int, UvStream]]
    ) -> None:
        """Textures in Microsoft's packings, for what the core's members of the material do not give."""
        where += ".extensions.MSFT_packing_occlusionRoughnessMetallic"
        packed = described.occlusion_roughness_metallic_texture
        place: int | None = None
        if packed is not None:
            place = self._textures.texture(packed, False, where)
        elif (packed := described.roughness_metallic_occlusion_texture) is not None:
            places = self._textures.baked(
                ("packed", packed.index),
                [packed],
                (False,),
                lambda pixels: (unpack_roughness_metallic_occlusion(pixels),),
                where,
            )
            place = None if places is None else places[0]
        if packed is not None and place is not None:
            for slot in ("metallic_roughness_texture", "occlusion_texture"):
                found.setdefault(slot, (place, _uv_stream(packed)))
        normal = described.normal_texture
        if normal is not None and "normal_texture" not in found:
            places = self._textures.baked(
                ("normal", normal.index), [normal], (False,), lambda pixels: (normals_with_z(pixels),), where
            )
            if places is not None:
                found["normal_texture"] = (places[0], _uv_stream(normal))

    def _transmission(
        self, described: schema.Transmission, base_color: schema.Vector4, alpha_mode: AlphaMode
    ) -> tuple[schema.Vector4, AlphaMode]:
        """Base colour and alpha mode of a surface that lets light through: blended, as opaque as it does not."""
        if described.transmission_factor <= 0.0 or alpha_mode == "mask":
            return base_color, alpha_mode
        if described.transmission_texture is not None:
            self._warn("Surfaces that let light through by a texture are shown as if they did not.")
            return base_color, alpha_mode
        self._warn("Surfaces that let light through are shown as transparent, without refraction or colouring.")
        red, green, blue, alpha = base_color
        return (
            red,
            green,
            blue,
            alpha * (1.0 - (1.0 - GLASS_OPACITY) * _clamp(described.transmission_factor)),
        ), "blend"

    def _uv_streams(self, wanted: list[UvStream], where: str) -> tuple[UvStream, UvStream]:
        """What uv0 and uv1 of the material's parts hold: the file's sets 0 and 1 as they are wherever that will do."""
        plain: tuple[UvStream, UvStream] = ((0, IDENTITY), (1, IDENTITY))
        distinct = list(dict.fromkeys(wanted))
        if all(stream in plain for stream in distinct):
            return plain
        if len(distinct) > 2:
            self._warn(f"{where} reads its textures with {len(distinct)} different UVs or transforms: two are kept.")
        second = distinct[1] if len(distinct) > 1 else next(each for each in plain if each != distinct[0])
        return distinct[0], second


def _uv_stream(info: schema.TextureInfo) -> UvStream:
    transform = info.extensions.KHR_texture_transform
    if transform is None:
        return info.tex_coord, IDENTITY
    uv_set = info.tex_coord if transform.tex_coord is None else transform.tex_coord
    return uv_set, schema.TextureTransform(offset=transform.offset, rotation=transform.rotation, scale=transform.scale)


def _clamp(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _clamped(color: schema.Vector4) -> schema.Vector4:
    red, green, blue, alpha = color
    return _clamp(red), _clamp(green), _clamp(blue), _clamp(alpha)


def _positive(value: float) -> float:
    """A light's strength that float16 still holds."""
    return min(max(value, 0.0), 60_000.0)
