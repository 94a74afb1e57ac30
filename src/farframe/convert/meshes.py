"""Triangles from any format to the parts of a model: triangulation, welding, normals, packing. Numpy, no loops over
vertices; what loops over polygons does so for concave ones with more than four corners only.

Polygons are runs of corners; a *corner* is a polygon's use of a vertex. Counter-clockwise polygons face the viewer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from meshoptimizer.utils import generate_vertex_remap
from numpy.typing import NDArray

from farframe.asset import geometry
from farframe.asset.budget import Budget
from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part, Texture
from farframe.protocol.errors import FarframeError, Result

MAX_COORDINATE = 1e15
"""Metres from the origin beyond which positions are taken for broken."""

CREASE_DEGREES = 30.0
"""Where a format gives no normals, triangles that meet at less than this are shaded as one smooth surface."""

MAX_SMOOTH_VALENCE = 64
"""Corners at one vertex that are compared with each other; where more meet at a crease, each triangle stays flat."""

MAX_EAR_CORNERS = 1_000
"""Corners of a concave polygon that is still cut exactly; the work grows with their square."""

SPILL_BYTES = 256 * 1024**2
"""Arrays from this size on lie in an unlinked temporary file instead of in memory."""

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]


def new_array(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(count,) zeros: in memory, or mapped from an unlinked temporary file if they are many."""
    size = count * dtype.itemsize
    if size < SPILL_BYTES:
        return np.zeros(count, dtype=dtype)
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return np.memmap(file, dtype=dtype, mode="r+", shape=(count,))


def corrupt(message: str) -> FarframeError:
    """A file that is broken, and what is wrong with it."""
    return FarframeError(Result.FILE_CORRUPT, message, next_step="Export the model again.")


def weld_rows(rows: NDArray[Any]) -> tuple[Indices, int]:
    """For each row of (n, k) the number of its value, counted in order of first use, and how many values there are."""
    count = len(rows)
    remap = np.zeros(count, dtype=np.uint32)
    if not count:
        return remap, 0
    packed = np.ascontiguousarray(rows)
    # Rows as bytes: equal is what is equal bit by bit. The hash table wants sizes in multiples of 4.
    size = packed.itemsize * (packed.shape[1] if packed.ndim > 1 else 1)
    if size % 4:
        raise ValueError("rows must be a multiple of 4 bytes long")
    order = np.arange(count, dtype=np.uint32)
    unique = generate_vertex_remap(remap, order, count, packed.view(np.uint8).reshape(count, size), count, size)
    return remap, int(unique)


def first_rows(remap: Indices, unique: int) -> NDArray[np.intp]:
    """For each value of :func:`weld_rows` a row that has it."""
    first = np.empty(unique, dtype=np.intp)
    # Written backwards, so that the first one stays.
    first[remap[::-1]] = np.arange(len(remap) - 1, -1, -1)
    return first


def triangulate(
    positions: NDArray[Any], corner_vertex: NDArray[Any], begins: NDArray[Any], counts: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Polygons as triangles.

    ``positions`` (n, 3); ``corner_vertex`` (c,): each corner's vertex; polygons are runs of ``counts`` corners from
    ``begins`` on. Returns (t, 3) corners, (t,) the polygon of each triangle, and how many polygons could not be cut
    exactly. Polygons of less than three corners give nothing.
    """
    triangles: list[NDArray[np.int64]] = []
    polygon_of: list[NDArray[np.int64]] = []
    inexact = 0
    begins, counts = begins.astype(np.int64), counts.astype(np.int64)
    for sides in np.unique(counts[counts >= 3]).tolist():
        which = np.flatnonzero(counts == sides)
        corners = begins[which, None] + np.arange(sides)
        if sides == 3:
            triangles.append(corners)
            polygon_of.append(which)
            continue
        fan = np.stack([np.zeros(sides - 2, np.int64), np.arange(1, sides - 1), np.arange(2, sides)], axis=1)
        chosen = np.broadcast_to(fan, (len(which), *fan.shape)).copy()
        bad = ~_fan_is_sound(positions, corner_vertex, corners, fan)
        if bad.any() and sides == 4:
            # The other diagonal of a quad.
            chosen[bad] = ((1, 2, 3), (1, 3, 0))
        elif bad.any():
            for place in np.flatnonzero(bad).tolist():
                ears = None
                if sides <= MAX_EAR_CORNERS:
                    ears = _cut_ears(positions[corner_vertex[corners[place]]].astype(np.float64))
                if ears is None:
                    inexact += 1
                else:
                    chosen[place] = ears
        rows = np.arange(len(which))[:, None, None]
        triangles.append(corners[rows, chosen].reshape(-1, 3))
        polygon_of.append(np.repeat(which, sides - 2))
    if not triangles:
        return np.empty((0, 3), np.int64), np.empty(0, np.int64), 0
    # In the file's order: neighbours stay neighbours.
    all_polygons = np.concatenate(polygon_of)
    order = np.argsort(all_polygons, kind="stable")
    return np.concatenate(triangles)[order], all_polygons[order], inexact


def _fan_is_sound(
    positions: NDArray[Any], corner_vertex: NDArray[Any], corners: NDArray[np.int64], fan: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(polygons,) whether all triangles of the fan around the first corner face the way that the polygon does."""
    place = positions[corner_vertex[corners]].astype(np.float64)
    place = place - place[:, :1]
    with np.errstate(all="ignore"):
        normals = np.cross(place[:, fan[:, 1]], place[:, fan[:, 2]])
        along = np.einsum("ptk,pk->pt", normals, normals.sum(axis=1))
    sound: NDArray[np.bool_] = (along >= 0).all(axis=1)
    return sound


def _cut_ears(place: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """(n, 3) a concave polygon's corners -> (n - 2, 3) triangles by ear clipping (Meisters 1975), or ``None``."""
    following = np.roll(place, -1, axis=0)
    # Newell's normal, and the plane of the two axes that it leans on least.
    normal = np.array([np.sum(np.cross(place, following)[:, axis]) for axis in range(3)])
    drop = int(np.argmax(np.abs(normal)))
    axes = [(1, 2), (2, 0), (0, 1)][drop]
    flat = place[:, axes] * (1.0 if normal[drop] >= 0 else -1.0, 1.0)
    points = flat.tolist()
    left = list(range(len(points)))
    result: list[tuple[int, int, int]] = []

    def area(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
        return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))

    while len(left) > 3:
        for place_in_list in range(len(left)):
            before, here, after = left[place_in_list - 1], left[place_in_list], left[(place_in_list + 1) % len(left)]
            if area(before, here, after) <= 0:
                continue
            others = (each for each in left if each not in (before, here, after))
            if any(
                area(before, here, each) >= 0 and area(here, after, each) >= 0 and area(after, before, each) >= 0
                for each in others
            ):
                continue
            result.append((before, here, after))
            del left[place_in_list]
            break
        else:
            return None
    result.append((left[0], left[1], left[2]))
    return np.array(result, dtype=np.int64)


def crease_normals(positions: Floats, triangles: NDArray[Any]) -> Floats:
    """(t * 3, 3) unit normals of the corners of ``triangles`` (t, 3): smooth but for edges sharper than
    :data:`CREASE_DEGREES`. Vertices must be welded. Weighted by area."""
    flat = triangles.reshape(-1)
    corners = positions[flat].reshape(-1, 3, 3)
    edge_1 = corners[:, 1].astype(np.float64) - corners[:, 0]
    edge_2 = corners[:, 2].astype(np.float64) - corners[:, 0]
    faces = np.cross(edge_1, edge_2)
    longest = np.maximum(np.einsum("ij,ij->i", edge_1, edge_1), np.einsum("ij,ij->i", edge_2, edge_2))
    del corners, edge_1, edge_2
    # Slivers have no direction of their own: they follow their neighbours.
    sliver = ~(np.einsum("ij,ij->i", faces, faces) > (1e-5 * longest) ** 2)
    faces[sliver] = 0.0
    unit = _directions(faces)
    total = np.zeros((len(positions), 3))
    for axis in range(3):
        for corner in range(3):
            total[:, axis] += np.bincount(triangles[:, corner], weights=faces[:, axis], minlength=len(positions))
    mean = _directions(total)
    result: Floats = mean[flat].astype(np.float32)
    # All facets within half the angle of their mean are within the angle of each other.
    lean = np.stack([np.einsum("ij,ij->i", unit, mean[triangles[:, corner]]) for corner in range(3)], axis=1).reshape(
        -1
    )
    lean[np.repeat(sliver, 3)] = 1.0
    sharp = np.zeros(len(positions), dtype=bool)
    sharp[flat[lean < np.cos(np.radians(CREASE_DEGREES / 2))]] = True
    rough = np.flatnonzero(sharp[flat] & ~np.repeat(sliver, 3))
    if not len(rough):
        return result
    rough = rough[np.argsort(flat[rough], kind="stable")]
    vertex = flat[rough]
    starts = np.flatnonzero(np.concatenate([[True], vertex[1:] != vertex[:-1]]))
    valences = np.diff(np.concatenate([starts, [len(rough)]]))
    cosine = np.cos(np.radians(CREASE_DEGREES))
    for valence in np.unique(valences).tolist():
        groups = starts[valences == valence]
        step = max(1, (1 << 20) // (valence * valence))
        for begin in range(0, len(groups), step):
            members = rough[groups[begin : begin + step, None] + np.arange(valence)]
            own = unit[members // 3]
            if valence > MAX_SMOOTH_VALENCE:
                result[members.reshape(-1)] = own.reshape(-1, 3)
                continue
            near = np.einsum("gik,gjk->gij", own, own) > cosine
            summed = np.einsum("gij,gjk->gik", near.astype(np.float64), faces[members // 3])
            smooth = geometry.normalized_rows(summed.reshape(-1, 3), (0.0, 0.0, 0.0)).reshape(own.shape)
            lost = ~(np.abs(smooth).max(axis=2) > 0)
            smooth[lost] = own[lost]
            result[members.reshape(-1)] = smooth.reshape(-1, 3)
    return result


def _directions(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1, up where a row is zero. Sums of faces are far from what squares could overflow or lose."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    found: NDArray[np.float64] = vectors / np.where(length > 0, length, 1.0)[:, None]
    found[~(length > 0)] = (0.0, 1.0, 0.0)
    return found


class ModelAssembler:
    """Collects parts, nodes and instances, and makes the model of them."""

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.warnings: dict[str, None] = {}
        self.parts: list[Part] = []
        self.nodes: list[Node] = []
        self._budget = budget
        self._vertices: list[NDArray[np.void]] = []
        self._indices: list[Indices] = []
        self._instances: list[tuple[int, int]] = []
        self._world: list[NDArray[np.float64]] = []
        self._vertex_count = self._index_count = self._triangles = 0

    def warn(self, message: str) -> None:
        """Tell, once, what is left out or repaired."""
        self.warnings.setdefault(message)

    def add_node(self, name: str, parent: int, matrix: NDArray[np.float64]) -> int:
        """A node under ``parent`` (an earlier one, or -1) with its local (4, 4) matrix. Returns its index."""
        if len(self.nodes) >= self._budget.limits.max_nodes:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model has more than {self._budget.limits.max_nodes:,} nodes.",
                next_step="Merge nodes, or ask the operator to raise the limit.",
            )
        matrix = np.array(matrix, dtype=np.float64)
        with np.errstate(all="ignore"):
            world = self._world[parent] @ matrix if parent >= 0 else matrix
        if not np.isfinite(matrix).all() or not np.abs(world).max() < MAX_COORDINATE:
            raise corrupt(f"The transform of node {name[:80]!a} is not finite or moves it out of every range.")
        self._budget.take_bytes(800, "its nodes")
        self.nodes.append(Node(name[:1_024], parent, matrix))
        self._world.append(world)
        return len(self.nodes) - 1

    def add_instance(self, part: int, node: int) -> None:
        """Show a part under a node."""
        self._budget.take_bytes(160, "its instances")
        self._instances.append((part, node))
        self._triangles += self.parts[part].levels[0].index_count // 3
        self._budget.check_triangles(self._triangles)

    def add_part(
        self,
        positions: Floats,
        indices: Indices,
        material: int,
        *,
        normals: Floats | None,
        uv0: Floats | None = None,
        uv1: Floats | None = None,
        colors: NDArray[np.uint8] | None = None,
        tangents_for: int | None = None,
    ) -> int | None:
        """Triangles (m,) over vertices (n, 3), every index below n; the part's number, or ``None`` if it is empty.

        ``normals`` are unit vectors, flat ones are computed where ``None``; ``colors`` (n, 4) as in the file.
        ``tangents_for``: the UV set that a normal texture is read with, if there is one.
        """
        triangles = indices.reshape(-1, 3)
        a, b, c = triangles.T
        sound = (a != b) & (b != c) & (c != a)
        if not sound.all():
            indices = np.ascontiguousarray(triangles[sound]).reshape(-1)
        if not len(indices):
            return None
        self._budget.take_bytes(len(indices) * 12 + len(positions) * 110, "its triangles")
        indices, kept = geometry.compact(indices, len(positions))
        if kept is not None:
            positions = positions[kept]
            normals, uv0, uv1 = (None if each is None else each[kept] for each in (normals, uv0, uv1))
            colors = None if colors is None else colors[kept]
        with np.errstate(invalid="ignore"):
            if not np.abs(positions).max() < MAX_COORDINATE:
                raise corrupt("The file holds coordinates that are infinite, not numbers or beyond reach.")
        if normals is None:
            normals = geometry.smooth_normals(positions, indices)
        uv0, uv1 = self._usable_uvs(uv0), self._usable_uvs(uv1)
        tangents: Floats | None = None
        source: NDArray[np.intp] | None = None
        uv = (uv0, uv1)[tangents_for] if tangents_for is not None else None
        if uv is not None:
            tangents, indices, source = geometry.generate_tangents(positions, normals, uv, indices)
        vertices = new_array(len(positions) if source is None else len(source), VERTEX_DTYPE)
        for field, values in (
            ("position", positions),
            ("normal", geometry.pack_directions(normals)),
            ("uv0", uv0),
            ("uv1", uv1),
            ("color", colors),
        ):
            if values is not None:
                vertices[field] = values if source is None else values[source]
        if colors is None:
            vertices["color"] = 255
        vertices["tangent"] = (127, 0, 0, 127) if tangents is None else geometry.pack_directions(tangents)
        low, high = positions.min(axis=0).tolist(), positions.max(axis=0).tolist()
        level = Level(self._index_count, len(indices), 0.0)
        self.parts.append(Part(self._vertex_count, len(vertices), (level,), material, tuple(low), tuple(high)))
        self._vertices.append(vertices)
        self._indices.append(np.ascontiguousarray(indices, dtype=np.uint32))
        self._vertex_count += len(vertices)
        self._index_count += len(indices)
        self._budget.check_triangles(self._index_count // 3)
        self._budget.check_time()
        return len(self.parts) - 1

    def finish(self, materials: list[Material], textures: list[Texture]) -> Model:
        """The model. A file that shows nothing is refused: something has gone wrong before."""
        if not self._instances:
            raise corrupt("The file holds no triangles that could be shown.")
        part = np.array([each[0] for each in self._instances], dtype=np.int32)
        node = np.array([each[1] for each in self._instances], dtype=np.int32)
        matrices = np.array([self._world[each] for each in node.tolist()]).reshape(-1, 4, 4)
        part_min = np.array([each.bounds_min for each in self.parts], dtype=np.float64).reshape(-1, 3)
        part_max = np.array([each.bounds_max for each in self.parts], dtype=np.float64).reshape(-1, 3)
        if len(part):
            with np.errstate(all="ignore"):
                low, high = geometry.box_of_boxes(part_min[part], part_max[part], matrices)
            if not (np.abs(low).max() < MAX_COORDINATE and np.abs(high).max() < MAX_COORDINATE):
                raise corrupt("The nodes' transforms move parts out of every sensible range.")
        bounds_min, bounds_max = geometry.instance_bounds(
            [each["position"] for each in self._vertices], part_min, part_max, part, matrices
        )
        return Model(
            name=self.name,
            vertices=self._joined(self._vertices, VERTEX_DTYPE, self._vertex_count),
            indices=self._joined(self._indices, np.dtype(np.uint32), self._index_count),
            parts=self.parts,
            materials=materials,
            textures=textures,
            nodes=self.nodes,
            instance_part=part,
            instance_node=node,
            instance_matrix=np.ascontiguousarray(matrices),
            bounds_min=bounds_min,
            bounds_max=bounds_max,
            warnings=list(self.warnings),
        )

    def _joined(self, pieces: Sequence[NDArray[Any]], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        if len(pieces) == 1:
            return pieces[0]
        self._budget.take_bytes(count * dtype.itemsize, "its geometry")
        result = new_array(count, dtype)
        place = 0
        for piece in pieces:
            result[place : place + len(piece)] = piece
            place += len(piece)
        return result

    def _usable_uvs(self, uvs: Floats | None) -> Floats | None:
        if uvs is None:
            return None
        bad = ~np.isfinite(uvs)
        if bad.any():
            self.warn("UVs that are not numbers were set to 0.")
            uvs = np.where(bad, np.float32(0.0), uvs)
        return uvs


def weld_corners(
    positions: Floats, corner_vertex: NDArray[Any], attributes: Sequence[NDArray[Any] | None]
) -> tuple[Indices, NDArray[np.intp]]:
    """Vertices out of corners: those with the same position number and equal attributes (c, k) become one.

    Returns (c,) each corner's vertex, and for each vertex a corner that has its attributes.
    """
    present = [np.ascontiguousarray(each) for each in attributes if each is not None]
    columns = [np.ascontiguousarray(corner_vertex, dtype=np.uint32).view(np.uint8).reshape(-1, 4)]
    for each in present:
        columns.append(each.view(np.uint8).reshape(len(each), -1))
    rows = np.concatenate(columns, axis=1)
    if rows.shape[1] % 4:
        rows = np.concatenate([rows, np.zeros((len(rows), -rows.shape[1] % 4), np.uint8)], axis=1)
    remap, unique = weld_rows(rows)
    return remap, first_rows(remap, unique)


def single_node(assembler: ModelAssembler, part: int | None) -> None:
    """One node at the origin that shows the part: what formats without a scene have."""
    node = assembler.add_node(assembler.name, -1, np.eye(4))
    if part is not None:
        assembler.add_instance(part, node)
