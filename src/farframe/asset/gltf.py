"""glTF 2.0 files (``.glb``, ``.gltf`` with buffers and images beside it or in data URIs) to a model.

Reads core glTF 2.0: all component types, normalised, sparse and interleaved accessors, triangle lists, strips and fans,
the node hierarchy of the default scene, metallic-roughness materials, two UV sets, vertex colours. Of the extensions:

* geometry: KHR_mesh_quantization (which needs nothing beyond the above), KHR_draco_mesh_compression,
  EXT_meshopt_compression and KHR_meshopt_compression (gltf_compression.py), EXT_mesh_gpu_instancing (each instance
  becomes a node, after all nodes of the file);
* textures: KHR_texture_basisu and EXT_texture_webp (images.py), KHR_texture_transform (worked into the UVs; one
  material may read its textures with two different sets or transforms);
* materials: KHR_materials_unlit, KHR_materials_emissive_strength, KHR_materials_pbrSpecularGlossiness and
  MSFT_packing_occlusionRoughnessMetallic (gltf_materials.py), in a simpler form KHR_materials_clearcoat and
  KHR_materials_transmission.

    bytes -> GltfSource (container, JSON, buffers; gltf_source.py) -> materials and textures -> parts -> nodes -> Model

A part is a primitive: primitives that are equal in the file become one part with several instances. Missing normals
become flat ones, missing tangents are generated where a normal texture needs them (geometry.py). What is left out
(animations, skins, morph targets, cameras, lights, points, lines, other extensions) is told in ``Model.warnings``.

The input is hostile: every failure is a :class:`~farframe.protocol.errors.FarframeError` with ``FILE_CORRUPT``,
``FILE_NOT_FOUND``, ``NOT_SUPPORTED`` or ``EXCEEDS_MEMORY_LIMIT``.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset import geometry
from farframe.asset import gltf_schema as schema
from farframe.asset.budget import Budget, Progress, no_progress
from farframe.asset.gltf_compression import DracoGeometry, decode_draco
from farframe.asset.gltf_materials import (
    DIELECTRIC,
    bake_specular_glossiness,
    metallic_of,
    normals_with_z,
    unpack_roughness_metallic_occlusion,
)
from farframe.asset.gltf_source import GltfSource, corrupt, not_supported
from farframe.asset.images import EncodedImage
from farframe.asset.model import (
    VERTEX_DTYPE,
    AlphaMode,
    Level,
    Material,
    Model,
    Node,
    Part,
    Texture,
    TextureSlot,
    Wrap,
)
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

SUPPORTED_EXTENSIONS = frozenset(
    {
        "EXT_mesh_gpu_instancing",
        "EXT_meshopt_compression",
        "EXT_texture_webp",
        "KHR_draco_mesh_compression",
        "KHR_materials_clearcoat",
        "KHR_materials_emissive_strength",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_transmission",
        "KHR_materials_unlit",
        "KHR_mesh_quantization",
        "KHR_meshopt_compression",
        "KHR_texture_basisu",
        "KHR_texture_transform",
        "MSFT_packing_occlusionRoughnessMetallic",
    }
)
"""Extensions that are read."""

DISPENSABLE_EXTENSIONS = frozenset(
    {
        "KHR_lights_punctual",
        "KHR_materials_anisotropy",
        "KHR_materials_dispersion",
        "KHR_materials_ior",
        "KHR_materials_iridescence",
        "KHR_materials_sheen",
        "KHR_materials_specular",
        "KHR_materials_variants",
        "KHR_materials_volume",
        "KHR_xmp_json_ld",
    }
)
"""Extensions that are left out with a warning even if a file requires them: the model is the same without."""

COAT_SHARE = 0.5
"""How far a full clear coat draws the roughness of what is below towards its own: both layers reflect alike."""

GLASS_OPACITY = 0.15
"""What remains visible of a surface that transmits all light: its reflections must be seen."""

MAX_NODE_DEPTH = 1_000
MAX_NAME_LENGTH = 1_024
MAX_WARNINGS = 100
MAX_COORDINATE = 1e15
"""Metres from the origin beyond which positions are taken for broken: their squares must fit into float32."""

_ALPHA_MODES: dict[str, AlphaMode] = {"OPAQUE": "opaque", "MASK": "mask", "BLEND": "blend"}
_WRAPS: dict[int, Wrap] = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
_NORMALIZED = {5120: 127, 5121: 255, 5122: 32_767, 5123: 65_535}
"""The integer that stands for 1, by component type."""

_TOPOLOGIES = {0: "points", 1: "lines", 2: "line loops", 3: "line strips"}

_UvStream = tuple[int, schema.TextureTransform]
"""A UV set of the file and how it is transformed."""

_IDENTITY = schema.TextureTransform()


def read_gltf(path: Path, limits: LoadLimits, progress: Progress | None = None) -> Model:
    """Read the glTF 2.0 file at ``path``; what it is is decided by its first bytes, not by its name.

    ``progress`` is called with a stage's name and the fraction of the whole that is done. Raises
    :class:`FarframeError`: ``FILE_NOT_FOUND`` (the file or one that it refers to), ``FILE_CORRUPT`` with the JSON path,
    ``NOT_SUPPORTED`` naming the extension that the file requires, ``EXCEEDS_MEMORY_LIMIT`` for what is over ``limits``.
    """
    try:
        return _Reader(path, limits, progress or no_progress).read()
    except MemoryError:
        raise FarframeError(
            Result.EXCEEDS_MEMORY_LIMIT,
            "The model does not fit into the memory that is allowed.",
            next_step="Make the model smaller, or ask the operator to raise the limit.",
        ) from None


@dataclass(slots=True)
class _MaterialPlan:
    """A material with the UV streams that a part that uses it must carry as uv0 and uv1."""

    material: Material
    streams: tuple[_UvStream, _UvStream]


@dataclass(slots=True)
class _Geometry:
    """One part's arrays; ``indices`` begin at 0."""

    vertices: NDArray[np.void]
    indices: NDArray[np.uint32]


@dataclass(slots=True)
class _Textures:
    """The model's textures in the making: which of the file's images they need, and what is to be made of them.

    ``plain``: texture and image. ``baked``: textures, images, and what makes the ones' pixels of the others'.
    """

    made: list[Texture] = field(default_factory=list)
    places: dict[tuple[int, bool], int] = field(default_factory=dict)
    places_of_baked: dict[Hashable, tuple[int, ...]] = field(default_factory=dict)
    images: dict[int, EncodedImage] = field(default_factory=dict)
    plain: list[tuple[int, int]] = field(default_factory=list)
    baked: list[tuple[tuple[int, ...], list[int], Callable[..., tuple[NDArray[np.uint8], ...]]]] = field(
        default_factory=list
    )


class _Reader:
    """The reading of one file. Used once."""

    def __init__(self, path: Path, limits: LoadLimits, progress: Progress) -> None:
        self._progress = progress
        self._limits = limits
        self._budget = Budget(limits)
        self._warnings: dict[str, None] = {}
        self._source = GltfSource(path, self._budget)
        self._document = self._source.document
        self._name = path.stem
        self._floats: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._stored_triangles = 0
        self._textures = _Textures()

    def read(self) -> Model:
        """The model."""
        self._check_requirements()
        self._progress("reading", 0.05)
        plans, textures = self._materials()
        parents, nodes, depth_of, file_nodes = self._hierarchy()
        mesh_uses = [self._document.nodes[index].mesh for index in file_nodes]
        geometries, parts, mesh_parts = self._parts(mesh_uses, plans)
        world = _world_matrices(nodes, parents, depth_of)
        world = self._instances(nodes, file_nodes, mesh_uses, world)

        instance_part: list[int] = []
        instance_node: list[int] = []
        for node, mesh in enumerate(mesh_uses):
            if mesh is not None:
                instance_part.extend(mesh_parts[mesh])
                instance_node.extend([node] * len(mesh_parts[mesh]))
        self._budget.take_bytes(len(instance_part) * 160, "its instances")
        part_array = np.array(instance_part, dtype=np.int32)
        node_array = np.array(instance_node, dtype=np.int32)
        matrices = world[node_array]

        triangles = np.array([part.levels[0].index_count // 3 for part in parts], dtype=np.int64)
        self._budget.check_triangles(int(triangles[part_array].sum()) if len(part_array) else 0)
        part_min = np.array([part.bounds_min for part in parts], dtype=np.float64).reshape(-1, 3)
        part_max = np.array([part.bounds_max for part in parts], dtype=np.float64).reshape(-1, 3)
        if len(part_array):
            with np.errstate(all="ignore"):
                low, high = geometry.box_of_boxes(part_min[part_array], part_max[part_array], matrices)
            if not (np.isfinite(matrices).all() and np.abs(low).max() < MAX_COORDINATE > np.abs(high).max()):
                corrupt("The nodes' transforms move parts out of every sensible range.")
        bounds_min, bounds_max = geometry.instance_bounds(
            [each.vertices["position"] for each in geometries], part_min, part_max, part_array, matrices
        )
        total_bytes = sum(each.vertices.nbytes + each.indices.nbytes for each in geometries)
        self._budget.take_bytes(total_bytes, "its geometry")
        vertices = (
            np.concatenate([each.vertices for each in geometries]) if geometries else np.empty(0, dtype=VERTEX_DTYPE)
        )
        indices = np.concatenate([each.indices for each in geometries]) if geometries else np.empty(0, dtype=np.uint32)
        if not len(part_array):
            self._warn("The model shows no triangles.")
        self._progress("geometry", 1.0)
        return Model(
            name=self._name,
            vertices=vertices,
            indices=indices,
            parts=parts,
            materials=[plan.material for plan in plans],
            textures=textures,
            nodes=nodes,
            instance_part=part_array,
            instance_node=node_array,
            instance_matrix=np.ascontiguousarray(matrices),
            bounds_min=bounds_min,
            bounds_max=bounds_max,
            warnings=list(self._warnings)[:MAX_WARNINGS],
        )

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message)

    def _check_requirements(self) -> None:
        document = self._document
        version = document.asset.min_version or document.asset.version
        if version.split(".")[0] != "2" or (document.asset.min_version not in (None, "2.0")):
            not_supported(f"The file needs glTF {_shown(version)}; 2.0 is read.", "Export the model as glTF 2.0.")
        for extension in document.extensions_required:
            if extension not in SUPPORTED_EXTENSIONS | DISPENSABLE_EXTENSIONS:
                not_supported(
                    f"The file requires the glTF extension {_shown(extension)}, which is not read.",
                    "Export the model without it.",
                )
        for extension in document.extensions_used:
            if extension not in SUPPORTED_EXTENSIONS:
                self._warn(f"The extension {_shown(extension)} is left out.")
        for what, found in (
            ("animation", document.animations),
            ("skin", document.skins),
            ("camera", document.cameras),
        ):
            if found:
                self._warn(f"{len(found)} {what}{'s' if len(found) > 1 else ''} left out.")
        if len(document.nodes) > self._limits.max_nodes:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model has {len(document.nodes):,} nodes; {self._limits.max_nodes:,} are allowed.",
                next_step="Merge nodes, or ask the operator to raise the limit.",
            )

    # Materials and textures

    def _materials(self) -> tuple[list[_MaterialPlan], list[Texture]]:
        """All materials (and the specification's default one last, if needed) and the textures that they use."""
        plans = [self._material(index) for index in range(len(self._document.materials))]
        if any(each.material is None for mesh in self._document.meshes for each in mesh.primitives):
            plans.append(_MaterialPlan(Material(), ((0, _IDENTITY), (1, _IDENTITY))))
        wanted = self._textures
        pixels = self._decode_images(wanted.images)
        for place, image in wanted.plain:
            wanted.made[place].pixels = pixels[image]
        for places, images, make in wanted.baked:
            for place, made in zip(places, make(*[pixels[image] for image in images]), strict=True):
                wanted.made[place].pixels = made
            self._budget.check_time()
        return plans, wanted.made

    def _texture(self, info: schema.TextureInfo, srgb: bool, where: str) -> int | None:
        """The model's texture for a reference (named ``where`` in errors), or ``None`` if it is left out."""
        wanted = self._textures
        key = (info.index, srgb)
        if key not in wanted.places:
            image = self._image_of(info.index, where)
            if image is None:
                return None
            wanted.places[key] = len(wanted.made)
            wanted.plain.append((len(wanted.made), image))
            wanted.made.append(self._texture_without_pixels(info.index, srgb))
        return wanted.places[key]

    def _baked(
        self,
        key: Hashable,
        infos: list[schema.TextureInfo],
        results: tuple[bool, ...],
        make: Callable[..., tuple[NDArray[np.uint8], ...]],
        where: str,
    ) -> tuple[int, ...] | None:
        """Textures that are made of others' pixels: one for each of ``results`` (sRGB or not), read as the first of
        ``infos`` is. ``make`` gets the pixels of all of ``infos``. ``None`` if one of those is left out."""
        wanted = self._textures
        if key not in wanted.places_of_baked:
            images = [image for info in infos if (image := self._image_of(info.index, where)) is not None]
            if len(images) < len(infos):
                return None
            width = max(wanted.images[image].width for image in images)
            height = max(wanted.images[image].height for image in images)
            places = tuple(range(len(wanted.made), len(wanted.made) + len(results)))
            for srgb in results:
                self._budget.take_image(width, height, f"A texture of {where}")
                wanted.made.append(self._texture_without_pixels(infos[0].index, srgb))
            wanted.baked.append((places, images, make))
            wanted.places_of_baked[key] = places
        return wanted.places_of_baked[key]

    def _image_of(self, index: int, where: str) -> int | None:
        """The image of a texture, its head read, or ``None`` with a warning if only an unknown extension names one."""
        if index >= len(self._document.textures):
            corrupt(f"{where} names $.textures[{index}], which does not exist.")
        texture = self._document.textures[index]
        source = texture.source
        for extension in (texture.extensions.KHR_texture_basisu, texture.extensions.EXT_texture_webp):
            if extension is not None and extension.source is not None:
                source = extension.source
                break
        if source is None:
            self._warn("A texture in a format other than PNG, JPEG, WebP or KTX2 is left out.")
            return None
        if source >= len(self._document.images):
            corrupt(f"$.textures[{index}] names $.images[{source}], which does not exist.")
        if source not in self._textures.images:
            self._textures.images[source] = self._encoded_image(source)
        return source

    def _texture_without_pixels(self, index: int, srgb: bool) -> Texture:
        described = self._document.textures[index]
        sampler = schema.Sampler()
        if described.sampler is not None:
            if described.sampler >= len(self._document.samplers):
                corrupt(f"$.textures[{index}].sampler is {described.sampler}, which does not exist.")
            sampler = self._document.samplers[described.sampler]
        return Texture(
            pixels=np.empty((0, 0, 4), dtype=np.uint8),
            srgb=srgb,
            wrap_u=_WRAPS[sampler.wrap_s],
            wrap_v=_WRAPS[sampler.wrap_t],
            mag_filter="nearest" if sampler.mag_filter == 9728 else "linear",
            min_filter="nearest" if sampler.min_filter in (9728, 9984, 9986) else "linear",
            mipmaps=sampler.min_filter not in (9728, 9729),
            name=_clean_name(described.name),
        )

    def _encoded_image(self, index: int) -> EncodedImage:
        where = f"$.images[{index}]"
        image = self._document.images[index]
        if image.buffer_view is not None:
            data, _ = self._source.view(image.buffer_view, where)
        elif image.uri is not None:
            data = self._source.uri_bytes(image.uri, where)
        else:
            corrupt(f"{where} has neither a uri nor a buffer view.")
        self._budget.take_bytes(len(data), f"image {index}")
        return EncodedImage(
            data.tobytes(), f"Image {index} ({_shown(image.name or image.uri or 'embedded')})", self._budget
        )

    def _decode_images(self, images: dict[int, EncodedImage]) -> dict[int, NDArray[np.uint8]]:
        """Pixels by image index, decoded in several threads."""
        pixels: dict[int, NDArray[np.uint8]] = {}
        with ThreadPoolExecutor(max_workers=min(len(images), os.cpu_count() or 1) or 1) as pool:
            try:
                decoded = pool.map(EncodedImage.decode, images.values())
                for done, (index, result) in enumerate(zip(images, decoded, strict=True), start=1):
                    pixels[index] = result
                    self._progress("textures", 0.05 + 0.35 * done / len(images))
                    self._budget.check_time()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return pixels

    def _material(self, index: int) -> _MaterialPlan:
        described = self._document.materials[index]
        where = f"$.materials[{index}]"
        extensions = described.extensions
        pbr = described.pbr_metallic_roughness
        found: dict[str, tuple[int, _UvStream]] = {}
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
            if info is not None and (place := self._texture(info, srgb, f"{where}.{slot}")) is not None:
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
            name=_clean_name(described.name),
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
            **slots,
        )
        return _MaterialPlan(material, streams)

    def _specular_glossiness(
        self, described: schema.SpecularGlossiness, where: str, found: dict[str, tuple[int, _UvStream]]
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

            places = self._baked((*key, diffuse, specular, gloss), given, (True, False), make, where)
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
        self, described: schema.PackedOcclusion, where: str, found: dict[str, tuple[int, _UvStream]]
    ) -> None:
        """Textures in Microsoft's packings, for what the core's members of the material do not give."""
        where += ".extensions.MSFT_packing_occlusionRoughnessMetallic"
        packed = described.occlusion_roughness_metallic_texture
        place: int | None = None
        if packed is not None:
            place = self._texture(packed, False, where)
        elif (packed := described.roughness_metallic_occlusion_texture) is not None:
            places = self._baked(
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
            places = self._baked(
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

    def _uv_streams(self, wanted: list[_UvStream], where: str) -> tuple[_UvStream, _UvStream]:
        """What uv0 and uv1 of the material's parts hold: the file's sets 0 and 1 as they are wherever that will do."""
        plain: tuple[_UvStream, _UvStream] = ((0, _IDENTITY), (1, _IDENTITY))
        distinct = list(dict.fromkeys(wanted))
        if all(stream in plain for stream in distinct):
            return plain
        if len(distinct) > 2:
            self._warn(f"{where} reads its textures with {len(distinct)} different UVs or transforms: two are kept.")
        second = distinct[1] if len(distinct) > 1 else next(each for each in plain if each != distinct[0])
        return distinct[0], second

    # The node hierarchy

    def _hierarchy(self) -> tuple[NDArray[np.int32], list[Node], NDArray[np.int32], list[int]]:
        """The nodes of the scene that is shown, parents before children.

        Returns each node's parent (or -1), the nodes, their depth (roots 0), and their indices in the file.
        """
        document = self._document
        count = len(document.nodes)
        parent_in_file = np.full(count, -1, dtype=np.int64)
        for index, node in enumerate(document.nodes):
            for child in node.children:
                if child >= count:
                    corrupt(f"$.nodes[{index}].children names node {child}, which does not exist.")
                if parent_in_file[child] >= 0:
                    corrupt(f"$.nodes[{child}] has two parents.")
                parent_in_file[child] = index
        roots = self._scene_roots(parent_in_file)

        order: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        level, level_parents, depth = roots, [-1] * len(roots), 0
        while level:
            if depth > MAX_NODE_DEPTH:
                raise FarframeError(
                    Result.EXCEEDS_MEMORY_LIMIT,
                    f"The nodes are nested more than {MAX_NODE_DEPTH:,} levels deep.",
                    next_step="Flatten the node hierarchy.",
                )
            first = len(order)
            order.extend(level)
            parents.extend(level_parents)
            depths.extend([depth] * len(level))
            next_level: list[int] = []
            next_parents: list[int] = []
            for place, index in enumerate(level, start=first):
                children = document.nodes[index].children
                next_level.extend(children)
                next_parents.extend([place] * len(children))
            level, level_parents, depth = next_level, next_parents, depth + 1
        self._budget.take_bytes(len(order) * 600, "its nodes")
        matrices = self._local_matrices(order)
        nodes = [
            Node(_clean_name(document.nodes[index].name), parent, matrices[place])
            for place, (index, parent) in enumerate(zip(order, parents, strict=True))
        ]
        return np.array(parents, dtype=np.int32), nodes, np.array(depths, dtype=np.int32), order

    def _scene_roots(self, parent_in_file: NDArray[np.int64]) -> list[int]:
        document = self._document
        if not document.scenes:
            roots: list[int] = np.flatnonzero(parent_in_file < 0).tolist()
            if len(parent_in_file) and not roots:
                corrupt("The nodes' children form a cycle.")
            return roots
        scene = document.scene or 0
        if scene >= len(document.scenes):
            corrupt(f"$.scene is {scene}, which does not exist.")
        if len(document.scenes) > 1:
            self._warn(f"Scene {scene} is shown; {len(document.scenes) - 1} other scenes are left out.")
        seen: set[int] = set()
        for root in document.scenes[scene].nodes:
            if root >= len(parent_in_file):
                corrupt(f"$.scenes[{scene}].nodes names node {root}, which does not exist.")
            # Every node has one parent at most, so what is reached from parentless roots is a tree, never a cycle.
            if parent_in_file[root] >= 0 or root in seen:
                corrupt(f"$.scenes[{scene}].nodes names node {root}, which is another node's child or named twice.")
            seen.add(root)
        return list(document.scenes[scene].nodes)

    def _local_matrices(self, order: list[int]) -> NDArray[np.float64]:
        """(n, 4, 4) local matrices of the file's nodes ``order``."""
        nodes = [self._document.nodes[index] for index in order]
        matrices = _matrices(
            np.array([node.translation or (0.0, 0.0, 0.0) for node in nodes]).reshape(-1, 3),
            np.array([node.rotation or (0.0, 0.0, 0.0, 1.0) for node in nodes]).reshape(-1, 4),
            np.array([node.scale or (1.0, 1.0, 1.0) for node in nodes]).reshape(-1, 3),
        )
        given = [place for place, node in enumerate(nodes) if node.matrix is not None]
        if given:
            # Stored column by column.
            stored = np.array([nodes[place].matrix for place in given]).reshape(-1, 4, 4)
            matrices[given] = stored.transpose(0, 2, 1)
        wrong = ~np.isfinite(matrices).all(axis=(1, 2))
        wrong |= np.abs(matrices[:, 3] - (0.0, 0.0, 0.0, 1.0)).max(axis=1, initial=0.0) > 1e-6
        if wrong.any():
            corrupt(f"$.nodes[{order[int(np.argmax(wrong))]}] has a transform that is not an affine one.")
        return matrices

    def _instances(
        self, nodes: list[Node], file_nodes: list[int], mesh_uses: list[int | None], world: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Make each instance of EXT_mesh_gpu_instancing a node below its node, which then shows nothing itself.

        Adds to ``nodes`` and ``mesh_uses``; returns the world matrices of all nodes.
        """
        worlds = [world]
        for place, index in enumerate(file_nodes):
            described = self._document.nodes[index].extensions.EXT_mesh_gpu_instancing
            if described is None or mesh_uses[place] is None:
                continue
            where = f"$.nodes[{index}].extensions.EXT_mesh_gpu_instancing.attributes"
            given = [
                (name, size, described.attributes[name])
                for name, size in (("TRANSLATION", 3), ("ROTATION", 4), ("SCALE", 3))
                if name in described.attributes
            ]
            counts = {self._source.accessor(accessor).count for _, _, accessor in given}
            if len(counts) != 1:
                corrupt(f"{where} do not have one number of instances.")
            count = counts.pop()
            if len(nodes) + count > self._limits.max_nodes:
                raise FarframeError(
                    Result.EXCEEDS_MEMORY_LIMIT,
                    f"The model has more than {self._limits.max_nodes:,} nodes, repeated meshes counted.",
                    next_step="Repeat fewer meshes, or ask the operator to raise the limit.",
                )
            self._budget.take_bytes(count * 1_000, "its nodes")
            values = {
                name: self._source.floats(accessor, (size,), f"{where}.{name}").astype(np.float64)
                for name, size, accessor in given
            }
            matrices = _matrices(
                values.get("TRANSLATION", np.zeros((count, 3))),
                values.get("ROTATION", np.tile([0.0, 0.0, 0.0, 1.0], (count, 1))),
                values.get("SCALE", np.ones((count, 3))),
            )
            if not np.isfinite(matrices).all():
                corrupt(f"{where} hold a transform that is not a number.")
            name = nodes[place].name
            nodes.extend(Node(f"{name}[{number}]", place, matrix) for number, matrix in enumerate(matrices))
            mesh_uses.extend([mesh_uses[place]] * count)
            mesh_uses[place] = None
            with np.errstate(all="ignore"):
                worlds.append(world[place] @ matrices)
        return np.concatenate(worlds)

    # Parts

    def _parts(
        self, mesh_uses: list[int | None], plans: list[_MaterialPlan]
    ) -> tuple[list[_Geometry], list[Part], dict[int, list[int]]]:
        """The parts of all meshes that nodes use, and which of them each mesh has."""
        document = self._document
        meshes = sorted({mesh for mesh in mesh_uses if mesh is not None})
        for mesh in meshes:
            if mesh >= len(document.meshes):
                corrupt(f"A node names $.meshes[{mesh}], which does not exist.")
        total = sum(len(document.meshes[mesh].primitives) for mesh in meshes)
        geometries: list[_Geometry] = []
        parts: list[Part] = []
        by_key: dict[Any, int | None] = {}
        mesh_parts: dict[int, list[int]] = {}
        first_vertex = first_index = done = 0
        for mesh in meshes:
            mesh_parts[mesh] = []
            for number, primitive in enumerate(document.meshes[mesh].primitives):
                done += 1
                draco = primitive.extensions.KHR_draco_mesh_compression
                key = (
                    tuple(sorted(primitive.attributes.items())),
                    primitive.indices,
                    primitive.mode,
                    primitive.material,
                    None if draco is None else (draco.buffer_view, tuple(sorted(draco.attributes.items()))),
                )
                if key not in by_key:
                    where = f"$.meshes[{mesh}].primitives[{number}]"
                    material = primitive.material
                    if material is None:
                        material = len(document.materials)
                    elif material >= len(document.materials):
                        corrupt(f"{where}.material is {material}, which does not exist.")
                    made = self._geometry(primitive, plans[material], where)
                    by_key[key] = None if made is None else len(parts)
                    if made is not None:
                        place = made.vertices["position"]
                        low, high = place.min(axis=0).tolist(), place.max(axis=0).tolist()
                        level = Level(first_index, len(made.indices), 0.0)
                        geometries.append(made)
                        parts.append(
                            Part(first_vertex, len(made.vertices), (level,), material, tuple(low), tuple(high))
                        )
                        first_vertex += len(made.vertices)
                        first_index += len(made.indices)
                    self._budget.check_time()
                    self._progress("geometry", 0.4 + 0.6 * done / total)
                part = by_key[key]
                if part is not None:
                    mesh_parts[mesh].append(part)
        return geometries, parts, mesh_parts

    def _geometry(self, primitive: schema.Primitive, plan: _MaterialPlan, where: str) -> _Geometry | None:
        """A primitive's vertices and triangles, or ``None`` with a warning if it has none."""
        attributes = primitive.attributes
        if primitive.mode < 4:
            self._warn(f"Primitives of {_TOPOLOGIES[primitive.mode]} are left out.")
            return None
        if "POSITION" not in attributes:
            self._warn("Primitives without positions are left out.")
            return None
        if primitive.targets:
            self._warn("Morph targets are left out.")
        if "JOINTS_0" in attributes:
            self._warn("Skinned meshes are shown in the pose in which they were bound.")
        draco = primitive.extensions.KHR_draco_mesh_compression
        compressed = None if draco is None else self._draco(draco, where)

        def values_of(semantic: str, components: tuple[int, ...]) -> NDArray[np.float32]:
            name = f"{where}.attributes.{semantic}"
            if draco is not None and compressed is not None and semantic in draco.attributes:
                return self._draco_attribute(
                    compressed, draco.attributes[semantic], attributes[semantic], components, name
                )
            return self._attribute(attributes[semantic], components, name)

        positions = values_of("POSITION", (3,))
        count = len(positions)
        indices = self._triangles(primitive, count, where) if compressed is None else compressed.indices
        if not len(indices):
            self._warn("Primitives without triangles are left out.")
            return None
        self._stored_triangles += len(indices) // 3
        self._budget.check_triangles(self._stored_triangles)
        self._budget.take_bytes(len(indices) * 4 + 2_000, "its triangles")

        indices, kept = geometry.compact(indices, count)
        used = count if kept is None else len(kept)
        self._budget.take_bytes(used * VERTEX_DTYPE.itemsize, "its vertices")
        # The attributes' floats, the corners of flat shading and the sums of tangents, while this part is worked on.
        working_bytes = used * 64 + len(indices) * (60 if "NORMAL" in attributes else 250)
        self._budget.take_bytes(working_bytes, "its vertices")

        def rows(semantic: str, components: tuple[int, ...]) -> NDArray[np.float32] | None:
            if semantic not in attributes:
                return None
            values = values_of(semantic, components)
            if len(values) != count:
                corrupt(f"{where}.attributes.{semantic} has {len(values):,} elements, POSITION has {count:,}.")
            return values if kept is None else values[kept]

        if kept is not None:
            positions = positions[kept]
        with np.errstate(invalid="ignore"):
            if not np.abs(positions).max() < MAX_COORDINATE:
                corrupt(
                    f"{where}.attributes.POSITION holds coordinates that are infinite, not numbers or beyond reach."
                )
        normals = rows("NORMAL", (3,))
        tangents = rows("TANGENT", (4,)) if normals is not None else None
        colors = rows("COLOR_0", (3, 4))
        uvs = [rows(f"TEXCOORD_{stream[0]}", (2,)) for stream in plan.streams]

        if normals is None:
            # Flat shading (specification, 3.7.2.1): every triangle has vertices of its own.
            positions = positions[indices]
            colors = None if colors is None else colors[indices]
            uvs = [None if uv is None else uv[indices] for uv in uvs]
            normals = np.repeat(
                geometry.normalized_rows(
                    geometry.face_normals(positions, np.arange(len(indices), dtype=np.uint32)), (0.0, 1.0, 0.0)
                ),
                3,
                axis=0,
            )
            indices = np.arange(len(indices), dtype=np.uint32)
            self._budget.take_bytes((len(indices) - used) * VERTEX_DTYPE.itemsize, "its vertices")
        else:
            normals = self._usable_normals(normals, positions, indices)
        uvs = [self._usable_uvs(uv, stream[1]) for uv, stream in zip(uvs, plan.streams, strict=True)]

        slot = plan.material.normal_texture
        source: NDArray[np.intp] | None = None
        if tangents is not None:
            tangents = self._usable_tangents(tangents, normals)
        elif slot is not None and (uv := uvs[slot.uv_set]) is not None:
            tangents, indices, source = geometry.generate_tangents(positions, normals, uv, indices)
            if source is not None:
                self._budget.take_bytes((len(source) - len(positions)) * VERTEX_DTYPE.itemsize, "its vertices")

        vertices = np.zeros(len(positions) if source is None else len(source), dtype=VERTEX_DTYPE)
        for member, values in (
            ("position", positions),
            ("normal", geometry.pack_directions(normals)),
            ("uv0", uvs[0]),
            ("uv1", uvs[1]),
            ("color", None if colors is None else geometry.pack_colors(colors)),
        ):
            if values is not None:
                vertices[member] = values if source is None else values[source]
        if colors is None:
            vertices["color"] = 255
        if tangents is None:
            vertices["tangent"] = (127, 0, 0, 127)
        else:
            vertices["tangent"] = geometry.pack_directions(tangents)
        self._budget.give_bytes(working_bytes)
        return _Geometry(vertices, indices)

    def _draco(self, draco: schema.Draco, where: str) -> DracoGeometry:
        """A primitive's compressed geometry, all of its indices checked."""
        name = f"{where}.extensions.KHR_draco_mesh_compression"
        data, _ = self._source.view(draco.buffer_view, name)
        self._budget.take_bytes(len(data), name)
        decoded = decode_draco(data.tobytes(), len(draco.attributes), self._budget, name)
        self._budget.give_bytes(len(data))
        return decoded

    def _draco_attribute(
        self, decoded: DracoGeometry, identity: int, accessor: int, components: tuple[int, ...], where: str
    ) -> NDArray[np.float32]:
        """A decoded attribute as floats; the accessor says whether its integers are normalised."""
        described = self._source.accessor(accessor)
        values = decoded.attributes.get(identity)
        if values is None or values.shape[1] not in components:
            corrupt(f"{where} names the Draco attribute {identity}, which does not exist or is not fit for it.")
        floats = np.ascontiguousarray(values, dtype=np.float32)
        if described.normalized and described.component_type in _NORMALIZED:
            floats = np.maximum(floats * np.float32(1.0 / _NORMALIZED[described.component_type]), np.float32(-1.0))
        return floats

    def _attribute(self, accessor: int, components: tuple[int, ...], where: str) -> NDArray[np.float32]:
        """An accessor as floats, decoded once however many primitives use it."""
        width = {"VEC2": 2, "VEC3": 3, "VEC4": 4}.get(self._source.accessor(accessor).type, 0)
        key = (accessor, width)
        if width not in components or key not in self._floats:
            self._floats[key] = self._source.floats(accessor, components, where)
        return self._floats[key]

    def _triangles(self, primitive: schema.Primitive, vertex_count: int, where: str) -> NDArray[np.uint32]:
        """A primitive's triangles as a list of indices, all of them checked."""
        if primitive.indices is None:
            self._budget.take_bytes(vertex_count * 4, "its triangles")
            indices = np.arange(vertex_count, dtype=np.uint32)
        else:
            indices = self._source.indices(primitive.indices, f"{where}.indices")
            if len(indices) and int(indices.max()) >= vertex_count:
                corrupt(f"{where}.indices names vertex {int(indices.max()):,} of {vertex_count:,}.")
        if primitive.mode == 5:
            return geometry.strip_to_triangles(indices)
        if primitive.mode == 6:
            return geometry.fan_to_triangles(indices)
        if len(indices) % 3:
            self._warn("A list of triangles ends within a triangle, which is left out.")
        return indices[: len(indices) // 3 * 3]

    def _usable_normals(
        self, normals: NDArray[np.float32], positions: NDArray[np.float32], indices: NDArray[np.uint32]
    ) -> NDArray[np.float32]:
        """Unit normals; those that the file gives no direction for are computed from the triangles."""
        with np.errstate(all="ignore"):
            bad = ~(np.abs(normals).max(axis=1) > 1e-12) | ~np.isfinite(normals).all(axis=1)
        unit = geometry.normalized_rows(normals)
        if bad.any():
            self._warn("Normals without a direction were computed from the triangles.")
            unit[bad] = geometry.smooth_normals(positions, indices)[bad]
        return unit

    def _usable_tangents(self, tangents: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit tangents with a handedness of 1 or -1."""
        directions = tangents[:, :3]
        with np.errstate(all="ignore"):
            bad = ~(np.abs(directions).max(axis=1) > 1e-12) | ~np.isfinite(directions).all(axis=1)
        result = np.empty((len(tangents), 4), dtype=np.float32)
        result[:, :3] = geometry.normalized_rows(directions)
        result[:, 3] = np.where(tangents[:, 3] < 0, -1.0, 1.0)
        if bad.any():
            result[bad, :3] = geometry.any_perpendicular(normals[bad])
        return result

    def _usable_uvs(
        self, uvs: NDArray[np.float32] | None, transform: schema.TextureTransform
    ) -> NDArray[np.float32] | None:
        """Finite UVs, moved by the texture's transform (scale, then rotation, then offset)."""
        if uvs is None:
            return None
        with np.errstate(all="ignore"):
            if transform != _IDENTITY:
                u, v = uvs[:, 0] * transform.scale[0], uvs[:, 1] * transform.scale[1]
                cosine, sine = math.cos(transform.rotation), math.sin(transform.rotation)
                # v runs down, so this is counter-clockwise as seen on the image.
                uvs = np.stack(
                    [cosine * u + sine * v + transform.offset[0], cosine * v - sine * u + transform.offset[1]], axis=1
                ).astype(np.float32)
            bad = ~np.isfinite(uvs)
        if bad.any():
            self._warn("UVs that are not numbers were set to 0.")
            uvs = np.where(bad, np.float32(0.0), uvs)
        return uvs


def _matrices(
    translation: NDArray[np.float64], rotation: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 4, 4): scale, then rotation by a quaternion xyzw (of any length but 0), then translation."""
    with np.errstate(all="ignore"):
        x, y, z, w = (rotation / np.sqrt((rotation * rotation).sum(axis=1, keepdims=True))).T
    matrices = np.zeros((len(translation), 4, 4))
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 0, 2] = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - z * w),
        2 * (x * z + y * w),
    )
    matrices[:, 1, 0], matrices[:, 1, 1], matrices[:, 1, 2] = (
        2 * (x * y + z * w),
        1 - 2 * (x * x + z * z),
        2 * (y * z - x * w),
    )
    matrices[:, 2, 0], matrices[:, 2, 1], matrices[:, 2, 2] = (
        2 * (x * z - y * w),
        2 * (y * z + x * w),
        1 - 2 * (x * x + y * y),
    )
    matrices[:, :3, :3] *= scale[:, None, :]
    matrices[:, :3, 3] = translation
    matrices[:, 3, 3] = 1.0
    return matrices


def _world_matrices(nodes: list[Node], parents: NDArray[np.int32], depths: NDArray[np.int32]) -> NDArray[np.float64]:
    """(n, 4, 4): each node's space to model space; level by level, all nodes of a level at once."""
    world = np.array([node.matrix for node in nodes]).reshape(-1, 4, 4)
    if len(nodes):
        starts = np.searchsorted(depths, np.arange(int(depths[-1]) + 2))
        with np.errstate(all="ignore"):
            for first, end in itertools.pairwise(starts[1:]):
                world[first:end] = world[parents[first:end]] @ world[first:end]
    return world


def _uv_stream(info: schema.TextureInfo) -> _UvStream:
    transform = info.extensions.KHR_texture_transform
    if transform is None:
        return info.tex_coord, _IDENTITY
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


def _clean_name(name: str) -> str:
    """A name from the file, cut where it is too long to be one."""
    return name[:MAX_NAME_LENGTH]


def _shown(text: str) -> str:
    """Text from the file, short enough for an error message."""
    return ascii(text if len(text) <= 80 else text[:80] + "...")
