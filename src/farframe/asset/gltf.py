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

    bytes -> GltfSource (container, JSON, buffers; gltf_source.py)
          -> materials and textures (gltf_material_reader.py, gltf_textures.py)
          -> nodes and their metadata (gltf_nodes.py, gltf_metadata.py) -> parts (gltf_parts.py) -> Model

A part is a primitive: primitives that are equal in the file become one part with several instances. Missing normals
become flat ones, missing tangents are generated where a normal texture needs them (geometry.py). What is left out
(skins, morph targets, cameras, lights, points, lines, other extensions) is told in ``Model.warnings``.

The input is hostile: every failure is a :class:`~farframe.protocol.errors.FarframeError` with ``FILE_CORRUPT``,
``FILE_NOT_FOUND``, ``NOT_SUPPORTED`` or ``EXCEEDS_MEMORY_LIMIT``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from farframe.asset import geometry
from farframe.asset.budget import Budget, Progress, no_progress
from farframe.asset.gltf_animations import AnimationReader
from farframe.asset.gltf_material_reader import MaterialReader
from farframe.asset.gltf_metadata import MetadataReader
from farframe.asset.gltf_nodes import NodeReader, world_matrices
from farframe.asset.gltf_parts import MAX_COORDINATE, PartReader
from farframe.asset.gltf_reading import Reading, Step, shown
from farframe.asset.gltf_source import GltfSource, corrupt, not_supported
from farframe.asset.model import VERTEX_DTYPE, Model
from farframe.asset.rows import stacked
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

MAX_WARNINGS = 100


def read_gltf(
    path: Path,
    limits: LoadLimits,
    progress: Progress | None = None,
    *,
    keeps: Callable[[str], bool] | None = None,
) -> Model:
    """Read the glTF 2.0 file at ``path``; what it is is decided by its first bytes, not by its name.

    ``progress`` is called with a stage's name and the fraction of the whole that is done; ``keeps`` says which keys of
    the nodes' ``extras`` become metadata, without it all do. Raises
    :class:`FarframeError`: ``FILE_NOT_FOUND`` (the file or one that it refers to), ``FILE_CORRUPT`` with the JSON path,
    ``NOT_SUPPORTED`` naming the extension that the file requires, ``EXCEEDS_MEMORY_LIMIT`` for what is over ``limits``.
    """
    try:
        return _ModelReader(path, limits, progress or no_progress, keeps).read()
    except MemoryError:
        raise FarframeError(
            Result.EXCEEDS_MEMORY_LIMIT,
            "The model does not fit into the memory that is allowed.",
            next_step="Make the model smaller, or ask the operator to raise the limit.",
        ) from None


class _ModelReader(Step):
    """The reading of one file. Used once."""

    def __init__(self, path: Path, limits: LoadLimits, progress: Progress, keeps: Callable[[str], bool] | None) -> None:
        budget = Budget(limits)
        self._reading = Reading(GltfSource(path, budget), budget, limits, progress)
        super().__init__(self._reading)
        self._name = path.stem
        self._keeps = keeps

    def read(self) -> Model:
        """The model."""
        self._check_requirements()
        self._progress("reading", 0.05)
        plans, textures = MaterialReader(self._reading).read()
        hierarchy = NodeReader(self._reading)
        parents, nodes, depth_of, file_nodes = hierarchy.hierarchy()
        mesh_uses = [self._document.nodes[index].mesh for index in file_nodes]
        metadata = MetadataReader(self._reading).read(file_nodes, self._keeps)
        animations = AnimationReader(self._reading).read(file_nodes)
        geometries, parts, mesh_parts = PartReader(self._reading).read(mesh_uses, plans)
        world = world_matrices(nodes, parents, depth_of)
        world = hierarchy.instances(nodes, file_nodes, mesh_uses, world)

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
        vertices = stacked([each.vertices for each in geometries], VERTEX_DTYPE)
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
            animations=animations,
            metadata=metadata,
        )

    def _check_requirements(self) -> None:
        document = self._document
        version = document.asset.min_version or document.asset.version
        if version.split(".")[0] != "2" or (document.asset.min_version not in (None, "2.0")):
            not_supported(f"The file needs glTF {shown(version)}; 2.0 is read.", "Export the model as glTF 2.0.")
        for extension in document.extensions_required:
            if extension not in SUPPORTED_EXTENSIONS | DISPENSABLE_EXTENSIONS:
                not_supported(
                    f"The file requires the glTF extension {shown(extension)}, which is not read.",
                    "Export the model without it.",
                )
        for extension in document.extensions_used:
            if extension not in SUPPORTED_EXTENSIONS:
                self._warn(f"The extension {shown(extension)} is left out.")
        for what, found in (
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
