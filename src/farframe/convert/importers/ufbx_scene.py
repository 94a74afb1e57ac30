"""What FBX and OBJ have in common: both are read by ufbx, whose scene becomes a model here.

A warning to whoever changes this: the binding (ufbx 0.0.5) hands out *elements* (nodes, meshes, materials, textures)
without counting the reference, from the second time on. So everything that returns an element goes through :func:`pin`;
what goes past it crashes later, elsewhere. Nor does the garbage collector survive its objects. Therefore all of this
runs in a child process without one (:mod:`farframe.convert.importers.isolation`), which ends when the model is made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ufbx  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from farframe.asset import geometry
from farframe.asset.budget import Budget, Progress
from farframe.asset.model import Material, MetadataValue
from farframe.convert import meshes
from farframe.convert.importers import InputInfo
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError, Result

MAX_DEPTH = 1_000
MAX_METADATA_TEXT = 4_096

Element = TypeVar("Element")

_increment = ctypes.pythonapi.Py_IncRef
_increment.argtypes = [ctypes.py_object]
_increment.restype = None


def pin(element: Element) -> Element:
    """Keep an element's wrapper alive for good, and return it. See the top of this module."""
    _increment(element)
    return element


def pinned(elements: Any) -> list[Any]:
    """All elements of a list of ufbx."""
    return [pin(elements[index]) for index in range(len(elements))]


def load_scene(path: Path, budget: Budget, **options: Any) -> Any:
    """The scene of a file. Raises :class:`FarframeError`."""
    size = path.stat().st_size
    budget.take_bytes(size * 3, "its scene")
    try:
        scene = ufbx.load_file(
            str(path),
            ignore_animation=True,
            skip_skin_vertices=True,
            load_external_files=False,
            node_depth_limit=MAX_DEPTH,
            # What an untextured name looks like must not depend on broken bytes in it.
            unicode_error_handling=ufbx.UnicodeErrorHandling.REPLACEMENT_CHARACTER,
            **options,
        )
    except (ufbx.UnsupportedVersionError, ufbx.UnrecognizedFileFormatError):
        raise FarframeError(
            Result.NOT_SUPPORTED, f"{path.name} is not of a version that is read.", next_step="Export it as FBX 2020."
        ) from None
    except (ufbx.OutOfMemoryError, ufbx.MemoryLimitError, ufbx.AllocationLimitError, ufbx.NodeDepthLimitError) as error:
        raise FarframeError(
            Result.EXCEEDS_MEMORY_LIMIT,
            f"The file is too large or too deep to be read ({_text(error)}).",
            next_step="Make the model smaller, or ask the operator to raise the limit.",
        ) from None
    except (ufbx.UfbxError, ValueError, UnicodeError) as error:
        raise meshes.corrupt(f"The file is broken: {_text(error)}.") from None
    return pin(scene)


def _text(error: Exception) -> str:
    return ascii(str(error) or type(error).__name__)[1:200].rstrip("'")


def node_metadata(node: Any, settings: ConversionSettings) -> dict[str, MetadataValue]:
    """Those of a node's properties that the settings keep."""
    found: dict[str, MetadataValue] = {}
    properties = node.props
    values = properties.props
    for index in range(len(values)):
        value = values[index]
        name = value.name
        if not settings.keeps(name):
            continue
        match value.type:
            case ufbx.PropType.BOOLEAN:
                found[name] = bool(value.value_int)
            case ufbx.PropType.INTEGER:
                found[name] = int(value.value_int)
            case ufbx.PropType.NUMBER | ufbx.PropType.DISTANCE:
                found[name] = float(value.value_vec4.x)
            case ufbx.PropType.STRING:
                found[name] = value.value_str[:MAX_METADATA_TEXT]
    return found


def matrix_of(matrix: Any) -> NDArray[np.float64]:
    """ufbx's (3, 4) columns as a (4, 4) matrix."""
    result = np.eye(4)
    for column, vector in enumerate((matrix.c0, matrix.c1, matrix.c2, matrix.c3)):
        result[:3, column] = vector.x, vector.y, vector.z
    return result


class SceneReader:
    """Makes parts, nodes and instances of a ufbx scene.

    ``materials``: the model's, in the scene's order and one more for what has none. ``uv_of``: for a material, the UV
    set that its normal texture is read with, or ``None``. ``smooth``: normals that are missing are computed with
    creases (else ufbx has generated them).
    """

    def __init__(
        self,
        scene: Any,
        name: str,
        budget: Budget,
        settings: ConversionSettings,
        *,
        tangents_for: Callable[[int], int | None],
        uv_transform: Callable[[int], NDArray[np.float64] | None],
        default_material: int,
    ) -> None:
        self.assembler = meshes.ModelAssembler(name, budget)
        self.metadata: dict[int, dict[str, MetadataValue]] = {}
        self.scene = scene
        self._budget = budget
        self._settings = settings
        self._tangents_for = tangents_for
        self._uv_transform = uv_transform
        self._default_material = default_material
        self._faces: list[int] = []
        self._vertices = 0
        self._usages = 0
        self._depth = 0

    def read(self, progress: Progress) -> None:
        """Read all nodes with their meshes."""
        scene = self.scene
        mesh_list = pinned(scene.meshes)
        counts: dict[int, list[int]] = {}
        for mesh in mesh_list:
            self._vertices += int(mesh.num_vertices)
        parts: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        place_of: dict[int, int] = {}
        worlds: dict[int, NDArray[np.float64]] = {}
        nodes = pinned(scene.nodes)
        hidden = 0
        for done, node in enumerate(nodes):
            world = matrix_of(node.node_to_world)
            parent = None if node.is_root else pin(node.parent)
            parent_place = -1 if parent is None else place_of.get(int(parent.typed_id), -1)
            local = world
            if parent is not None and parent_place >= 0:
                above = worlds[int(parent.typed_id)]
                if abs(np.linalg.det(above[:3, :3])) > 1e-30:
                    local = np.asarray(np.linalg.solve(above, world), dtype=np.float64)
                else:
                    local = matrix_of(node.node_to_parent)
            name = self.assembler.name if node.is_root else node.name
            place = self.assembler.add_node(name, parent_place, local)
            place_of[int(node.typed_id)], worlds[int(node.typed_id)] = place, world
            self._depth = max(self._depth, int(node.node_depth))
            if self._settings.metadata_keys and (kept := node_metadata(node, self._settings)):
                self.metadata[place] = kept
            mesh = pin(node.mesh) if node.attrib_type == ufbx.ElementType.MESH else None
            if mesh is None:
                continue
            hidden += not node.visible
            number = int(mesh.typed_id)
            used = tuple(
                self._default_material if each is None else int(each.typed_id)
                for each in pinned(node.materials if len(node.materials) else mesh.materials)
            )
            key = (number, used)
            if key not in parts:
                if number not in counts:
                    counts[number] = []
                first = len(self.assembler.parts)
                self._add_mesh(mesh, used)
                parts[key] = list(range(first, len(self.assembler.parts)))
                if not counts[number]:
                    counts[number] = [self.assembler.parts[each].levels[0].index_count // 3 for each in parts[key]]
                    self._faces += counts[number]
            self._usages += len(parts[key])
            for part in parts[key]:
                self.assembler.add_instance(part, place)
            progress("geometry", 0.3 + 0.7 * (done + 1) / len(nodes))
        if hidden:
            self.assembler.warn(f"{hidden:,} hidden nodes are shown.")
        self._tell_what_is_left_out()

    def info(self, path: Path, format_name: str, version: str, generator: str) -> InputInfo:
        """The statistics of what was read."""
        return InputInfo(
            extension=path.suffix.lower(),
            format=format_name,
            format_version=version,
            generator=generator[:1_024],
            meshes=len(self._faces),
            faces=sum(self._faces),
            vertices=self._vertices,
            materials=len(self.scene.materials),
            faces_smallest_mesh=min(self._faces, default=0),
            faces_biggest_mesh=max(self._faces, default=0),
            nodes=len(self.assembler.nodes),
            mesh_usages=self._usages,
            max_node_depth=self._depth,
        )

    def _tell_what_is_left_out(self) -> None:
        scene = self.scene
        for what, found in (
            ("animation stack", scene.anim_stacks),
            ("skin", scene.skin_deformers),
            ("blend shape", scene.blend_shapes),
            ("cache", scene.cache_deformers),
            ("camera", scene.cameras),
            ("light", scene.lights),
            ("line", scene.line_curves),
            ("NURBS curve", scene.nurbs_curves),
            ("NURBS surface", scene.nurbs_surfaces),
            ("procedural geometry", scene.procedural_geometries),
        ):
            count = len(found)
            if count:
                self.assembler.warn(f"{count:,} {what}{'s' if count > 1 else ''} left out.")
        told = scene.metadata.warnings
        for index in range(len(told)):
            warning = told[index]
            self.assembler.warn(f"The reader says: {warning.description} ({max(1, int(warning.count)):,}).")

    def _add_mesh(self, mesh: Any, used: tuple[int, ...]) -> None:
        """The parts of a mesh, one for each material of its faces."""
        if not mesh.vertex_position.exists or not int(mesh.num_faces):
            return
        self._budget.take_bytes(int(mesh.num_indices) * 200, "its corners")
        faces = np.array(mesh.faces, dtype=np.int64).reshape(-1, 2)
        positions, corner_vertex = self._stream(mesh.vertex_position, 3)
        if positions is None:
            return
        # Equal places are one vertex, whatever the file says: else levels of detail would tear them apart.
        welded, count = meshes.weld_rows(positions + np.float32(0.0))
        positions = positions[meshes.first_rows(welded, count)]
        corner_vertex = welded[corner_vertex]
        with np.errstate(invalid="ignore"):
            if not np.abs(positions[corner_vertex]).max(initial=0.0) < meshes.MAX_COORDINATE:
                raise meshes.corrupt("The file holds coordinates that are infinite, not numbers or beyond reach.")
        if int(mesh.num_line_faces) or int(mesh.num_point_faces):
            self.assembler.warn("Faces of less than three corners are left out.")
        triangles, polygon, inexact = meshes.triangulate(positions, corner_vertex, faces[:, 0], faces[:, 1])
        if inexact:
            self.assembler.warn(f"{inexact:,} polygons that cross themselves were cut as they came.")
        if not len(triangles):
            return
        self._budget.check_triangles(len(triangles))
        normals, normal_of = self._stream(mesh.vertex_normal, 3)
        colors, color_of = self._stream(mesh.vertex_color, 4)
        uv_sets = mesh.uv_sets
        if len(uv_sets) > 2:
            self.assembler.warn(f"{len(uv_sets) - 2} UV sets of a mesh are left out: two are kept.")
        uvs = [self._stream(uv_sets[index].vertex_uv, 2) for index in range(min(2, len(uv_sets)))]
        uvs += [(None, corner_vertex)] * (2 - len(uvs))
        face_material = np.fromiter(mesh.face_material, np.int64, len(mesh.face_material))
        slot = face_material[polygon] if len(face_material) == len(faces) else np.zeros(len(triangles), np.int64)
        slot = np.where((slot >= 0) & (slot < len(used)), slot, len(used))
        materials = np.array([*used, self._default_material])[slot]
        for material in np.unique(materials).tolist():
            corners = triangles[materials == material].reshape(-1)
            self._add_part(corners, material, positions, corner_vertex, (normals, normal_of), uvs, (colors, color_of))
        self._budget.give_bytes(int(mesh.num_indices) * 200)

    def _add_part(
        self,
        corners: NDArray[np.int64],
        material: int,
        positions: NDArray[np.float32],
        corner_vertex: NDArray[Any],
        normals: tuple[NDArray[np.float32] | None, NDArray[Any]],
        uvs: list[tuple[NDArray[np.float32] | None, NDArray[Any]]],
        colors: tuple[NDArray[np.float32] | None, NDArray[Any]],
    ) -> None:
        vertex = corner_vertex[corners]
        if normals[0] is None:
            unit = meshes.crease_normals(positions, vertex.reshape(-1, 3))
        else:
            raw = normals[0][normals[1][corners]]
            unit = geometry.normalized_rows(raw)
            with np.errstate(all="ignore"):
                bad = ~(np.abs(raw).max(axis=1) > 1e-12) | ~np.isfinite(raw).all(axis=1)
            if bad.any():
                self.assembler.warn("Normals without a direction were computed from the triangles.")
                unit[bad] = meshes.crease_normals(positions, vertex.reshape(-1, 3))[bad]
        packed_normals = np.rint(unit * 32_767).astype(np.int16)
        transform = self._uv_transform(material)
        sets: list[NDArray[np.float32] | None] = []
        for values, of in uvs:
            if values is None:
                sets.append(None)
                continue
            found = values[of[corners]].astype(np.float64)
            if transform is not None:
                found = found @ transform[:2, :2].T + transform[:2, 2]
            # v runs up the image in these formats, and down everywhere here.
            found[:, 1] = 1.0 - found[:, 1]
            sets.append(found.astype(np.float32))
        bytes_of_colors: NDArray[np.uint8] | None = None
        if colors[0] is not None:
            raw = np.nan_to_num(colors[0][colors[1][corners]], nan=0.0)
            bytes_of_colors = np.rint(np.clip(raw, 0.0, 1.0) * 255.0).astype(np.uint8)
        remap, chosen = meshes.weld_corners(positions, vertex, [packed_normals, *sets, bytes_of_colors])
        self.assembler.add_part(
            positions[vertex[chosen]],
            remap,
            material,
            normals=unit[chosen],
            uv0=None if sets[0] is None else sets[0][chosen],
            uv1=None if sets[1] is None else sets[1][chosen],
            colors=None if bytes_of_colors is None else bytes_of_colors[chosen],
            tangents_for=self._tangents_for(material),
        )

    def _stream(self, stream: Any, width: int) -> tuple[NDArray[np.float32] | None, NDArray[Any]]:
        """An attribute's values (n, width) and each corner's number of them; copied: the scene owns the originals."""
        if not stream.exists:
            return None, np.empty(0, np.uint32)
        with np.errstate(over="ignore"):
            values = np.array(stream.values, dtype=np.float64).reshape(-1, width).astype(np.float32)
        indices = np.fromiter(stream.indices, np.uint32, len(stream.indices))
        if not len(values) or (len(indices) and int(indices.max()) >= len(values)):
            raise meshes.corrupt("A mesh refers to vertices that it does not have.")
        return values, indices


def plain_material() -> Material:
    """What faces without a material are shown with."""
    return Material(name="Default", base_color=(0.6, 0.6, 0.6, 1.0), metallic=0.0, roughness=0.6)
