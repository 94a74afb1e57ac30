"""Parts of a glTF file: primitives as vertices and triangles, each once however many nodes show it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset import geometry
from farframe.asset import gltf_schema as schema
from farframe.asset.gltf_compression import DracoGeometry, decode_draco
from farframe.asset.gltf_material_reader import IDENTITY, MaterialPlan
from farframe.asset.gltf_reading import Reading, Step
from farframe.asset.gltf_source import corrupt
from farframe.asset.model import VERTEX_DTYPE, Level, Part

MAX_COORDINATE = 1e15
"""Metres from the origin beyond which positions are taken for broken: their squares must fit into float32."""

_NORMALIZED = {5120: 127, 5121: 255, 5122: 32_767, 5123: 65_535}
"""The integer that stands for 1, by component type."""

_TOPOLOGIES = {0: "points", 1: "lines", 2: "line loops", 3: "line strips"}


@dataclass(slots=True)
class Geometry:
    """One part's arrays; ``indices`` begin at 0."""

    vertices: NDArray[np.void]
    indices: NDArray[np.uint32]


class PartReader(Step):
    """Reads the parts of all meshes that are shown."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._floats: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._stored_triangles = 0

    def read(
        self, mesh_uses: list[int | None], plans: list[MaterialPlan]
    ) -> tuple[list[Geometry], list[Part], dict[int, list[int]]]:
        """The parts of all meshes that nodes use, and which of them each mesh has."""
        document = self._document
        meshes = sorted({mesh for mesh in mesh_uses if mesh is not None})
        for mesh in meshes:
            if mesh >= len(document.meshes):
                corrupt(f"A node names $.meshes[{mesh}], which does not exist.")
        total = sum(len(document.meshes[mesh].primitives) for mesh in meshes)
        geometries: list[Geometry] = []
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

    def _geometry(self, primitive: schema.Primitive, plan: MaterialPlan, where: str) -> Geometry | None:
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
        return Geometry(vertices, indices)

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
            if transform != IDENTITY:
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
