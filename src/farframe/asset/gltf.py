"""glTF 2.0 files (``.glb``, ``.gltf`` with buffers and images beside it or in data URIs) to a model.

Reads core glTF 2.0: all component types, normalised, sparse and interleaved accessors, triangle lists, strips and fans,
the node hierarchy of the default scene, metallic-roughness materials, two UV sets, vertex colours. Of the extensions
KHR_mesh_quantization (which needs nothing beyond the above), KHR_materials_unlit, KHR_materials_emissive_strength and
KHR_texture_transform (worked into the UVs; one material may read its textures with two different sets or transforms).

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from farframe.asset import geometry
from farframe.asset import gltf_schema as schema
from farframe.asset.budget import Budget, Progress, no_progress
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
        "KHR_materials_emissive_strength",
        "KHR_materials_unlit",
        "KHR_mesh_quantization",
        "KHR_texture_transform",
    }
)
"""Extensions that a file may require."""

MAX_NODE_DEPTH = 1_000
MAX_NAME_LENGTH = 1_024
MAX_WARNINGS = 100
MAX_COORDINATE = 1e15
"""Metres from the origin beyond which positions are taken for broken: their squares must fit into float32."""

_ALPHA_MODES: dict[str, AlphaMode] = {"OPAQUE": "opaque", "MASK": "mask", "BLEND": "blend"}
_WRAPS: dict[int, Wrap] = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
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

    def read(self) -> Model:
        """The model."""
        self._check_requirements()
        self._progress("reading", 0.05)
        plans, textures = self._materials()
        parents, nodes, depth_of, file_nodes = self._hierarchy()
        mesh_uses = [self._document.nodes[index].mesh for index in file_nodes]
        geometries, parts, mesh_parts = self._parts(mesh_uses, plans)
        world = _world_matrices(nodes, parents, depth_of)

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
            if extension not in SUPPORTED_EXTENSIONS:
                not_supported(
                    f"The file requires the glTF extension {_shown(extension)}, which is not read.",
                    "Export the model without it (without compression, for instance).",
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
        textures: list[Texture] = []
        wanted: dict[tuple[int, bool], int] = {}
        images: dict[int, EncodedImage] = {}

        def texture(info: schema.TextureInfo, srgb: bool, where: str) -> int | None:
            key = (info.index, srgb)
            if key not in wanted:
                source = self._texture_source(info.index, where)
                if source is None:
                    return None
                if source not in images:
                    images[source] = self._encoded_image(source)
                wanted[key] = len(textures)
                textures.append(self._texture_without_pixels(info.index, srgb))
            return wanted[key]

        plans = [self._material(index, texture) for index in range(len(self._document.materials))]
        if any(each.material is None for mesh in self._document.meshes for each in mesh.primitives):
            plans.append(_MaterialPlan(Material(), ((0, _IDENTITY), (1, _IDENTITY))))
        pixels = self._decode_images(images)
        for (index, _), place in wanted.items():
            source = self._texture_source(index, "")
            if source is not None:
                textures[place].pixels = pixels[source]
        return plans, textures

    def _texture_source(self, index: int, where: str) -> int | None:
        """The image of a texture, or ``None`` with a warning if only an extension names one."""
        if index >= len(self._document.textures):
            corrupt(f"{where} names $.textures[{index}], which does not exist.")
        source = self._document.textures[index].source
        if source is None:
            self._warn("A texture in a format other than PNG or JPEG is left out.")
        elif source >= len(self._document.images):
            corrupt(f"$.textures[{index}].source is {source}, which does not exist.")
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

    def _material(self, index: int, texture: _FindTexture) -> _MaterialPlan:
        described = self._document.materials[index]
        where = f"$.materials[{index}]"
        pbr = described.pbr_metallic_roughness
        # Most important first: if UV streams run out, the last ones suffer.
        infos: list[tuple[str, schema.TextureInfo | None, bool]] = [
            ("base_color_texture", pbr.base_color_texture, True),
            ("normal_texture", described.normal_texture, False),
            ("metallic_roughness_texture", pbr.metallic_roughness_texture, False),
            ("emissive_texture", described.emissive_texture, True),
            ("occlusion_texture", described.occlusion_texture, False),
        ]
        found: dict[str, tuple[int, _UvStream]] = {}
        for slot, info, srgb in infos:
            if info is not None and (place := texture(info, srgb, f"{where}.{slot}")) is not None:
                found[slot] = (place, _uv_stream(info))
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
        material = Material(
            name=_clean_name(described.name),
            base_color=_clamped(pbr.base_color_factor),
            metallic=_clamp(pbr.metallic_factor),
            roughness=_clamp(pbr.roughness_factor),
            emissive=(_positive(red * strength), _positive(green * strength), _positive(blue * strength)),
            normal_scale=normal.scale if normal is not None else 1.0,
            occlusion_strength=_clamp(occlusion.strength) if occlusion is not None else 1.0,
            alpha_mode=_ALPHA_MODES[described.alpha_mode],
            alpha_cutoff=described.alpha_cutoff,
            double_sided=described.double_sided,
            unlit=described.extensions.KHR_materials_unlit is not None,
            **slots,
        )
        return _MaterialPlan(material, streams)

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
        count = len(nodes)
        translation = np.array([node.translation or (0.0, 0.0, 0.0) for node in nodes]).reshape(-1, 3)
        rotation = np.array([node.rotation or (0.0, 0.0, 0.0, 1.0) for node in nodes]).reshape(-1, 4)
        scale = np.array([node.scale or (1.0, 1.0, 1.0) for node in nodes]).reshape(-1, 3)
        with np.errstate(all="ignore"):
            x, y, z, w = (rotation / np.sqrt((rotation * rotation).sum(axis=1, keepdims=True))).T
        matrices = np.zeros((count, 4, 4))
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
                key = (
                    tuple(sorted(primitive.attributes.items())),
                    primitive.indices,
                    primitive.mode,
                    primitive.material,
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
        positions = self._attribute(attributes["POSITION"], (3,), f"{where}.attributes.POSITION")
        count = len(positions)
        indices = self._triangles(primitive, count, where)
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
            name = f"{where}.attributes.{semantic}"
            values = self._attribute(attributes[semantic], components, name)
            if len(values) != count:
                corrupt(f"{name} has {len(values):,} elements, POSITION has {count:,}.")
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
        for field, values in (
            ("position", positions),
            ("normal", geometry.pack_directions(normals)),
            ("uv0", uvs[0]),
            ("uv1", uvs[1]),
            ("color", None if colors is None else geometry.pack_colors(colors)),
        ):
            if values is not None:
                vertices[field] = values if source is None else values[source]
        if colors is None:
            vertices["color"] = 255
        if tangents is None:
            vertices["tangent"] = (127, 0, 0, 127)
        else:
            vertices["tangent"] = geometry.pack_directions(tangents)
        self._budget.give_bytes(working_bytes)
        return _Geometry(vertices, indices)

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


class _FindTexture(Protocol):
    """From a reference (sRGB or not, named ``where`` in errors) to the model's texture; ``None``: left out."""

    def __call__(self, info: schema.TextureInfo, srgb: bool, where: str) -> int | None: ...


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
