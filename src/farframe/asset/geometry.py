"""Vertex arithmetic that readers share: packing, flat normals, tangents, bounds. Numpy, no loops over vertices.

Counter-clockwise triangles face the viewer, as in glTF. Positions are (n, 3) float32, indices (m,) uint32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]

MAX_EXACT_INSTANCES = 1_000
"""How many instances :func:`instance_bounds` looks at vertex by vertex; real models need a few dozen."""

CREASE_COSINE = 0.819
"""Triangles that meet at more than 35 degrees are not shaded as one surface."""

MAX_AROUND = 64
"""How many vertices, or triangles, of one place are compared with each other."""


def compact(indices: Indices, vertex_count: int) -> tuple[Indices, NDArray[np.intp] | None]:
    """Leave out the vertices that ``indices`` do not use.

    Returns the indices into the vertices kept and which those are in ascending order, or ``None`` if all are used.
    Costs time in proportion to the indices alone when they use few of many vertices.
    """
    if len(indices) * 8 < vertex_count:
        few, inverse = np.unique(indices, return_inverse=True)
        return inverse.astype(np.uint32).reshape(-1), few.astype(np.intp)
    used = np.zeros(vertex_count, dtype=bool)
    used[indices] = True
    kept = np.flatnonzero(used)
    if len(kept) == vertex_count:
        return indices, None
    renumbered = np.empty(vertex_count, dtype=np.uint32)
    renumbered[kept] = np.arange(len(kept), dtype=np.uint32)
    return renumbered[indices], kept


def strip_to_triangles(indices: Indices) -> Indices:
    """A triangle strip as a list, windings as the specification says (3.7.2.1); triangles of no area left out."""
    if len(indices) < 3:
        return indices[:0]
    first = np.arange(len(indices) - 2)
    odd = first & 1
    triangles = np.stack([indices[first], indices[first + 1 + odd], indices[first + 2 - odd]], axis=1)
    return _without_degenerate(triangles)


def fan_to_triangles(indices: Indices) -> Indices:
    """A triangle fan as a list, windings as the specification says (3.7.2.1); triangles of no area left out."""
    if len(indices) < 3:
        return indices[:0]
    hub = np.broadcast_to(indices[0], len(indices) - 2)
    return _without_degenerate(np.stack([indices[1:-1], indices[2:], hub], axis=1))


def _without_degenerate(triangles: Indices) -> Indices:
    a, b, c = triangles.T
    return np.ascontiguousarray(triangles[(a != b) & (b != c) & (c != a)]).reshape(-1)


def normalized_rows(vectors: NDArray[Any], fallback: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> Floats:
    """Each row (x, y, z) with length 1; ``fallback`` where it has no usable direction."""
    rows = vectors.astype(np.float64)
    with np.errstate(all="ignore"):
        # Scaled by its largest member first, so that tiny and huge vectors keep their direction.
        largest = np.abs(rows).max(axis=1, keepdims=True) if len(rows) else np.empty((0, 1))
        rows /= largest
        rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        rows[bad] = fallback
    return rows.astype(np.float32)


def face_normals(positions: Floats, indices: Indices) -> NDArray[np.float64]:
    """(triangles, 3): each triangle's normal, as long as twice its area."""
    corners = positions[indices].reshape(-1, 3, 3).astype(np.float64)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def smooth_normals(positions: Floats, indices: Indices) -> Floats:
    """A normal for each vertex: the mean over its triangles, weighted by area."""
    faces = face_normals(positions, indices)
    corners = indices.reshape(-1, 3)
    total = np.zeros((len(positions), 3))
    for axis in range(3):
        for corner in range(3):
            total[:, axis] += np.bincount(corners[:, corner], weights=faces[:, axis], minlength=len(positions))
    return normalized_rows(total)


def generate_tangents(
    positions: Floats, normals: Floats, uvs: Floats, indices: Indices
) -> tuple[Floats, Indices, NDArray[np.intp] | None]:
    """Tangents for a normal texture that is read at ``uvs`` (n, 2).

    Like MikkTSpace (Mikkelsen 2008), which the specification names, in what decides the picture: each corner's tangent
    is the direction of growing u in the plane of its vertex' normal, corners are weighted by their angle, and mirrored
    and unmirrored triangles never share a tangent. Unlike it, corners are joined only where the file shares the vertex
    (MikkTSpace also joins vertices that are equal), and the sums run in another order: vectors differ in the last bits.

    Returns (n', 4) tangents whose w makes ``cross(normal, tangent) * w`` point to falling v (up in the image, as glTF
    normal textures want it), the indices into the vertices, and for each vertex which of the old ones it is: vertices
    between mirrored and unmirrored triangles are doubled. ``None`` instead of that map if no vertex was.
    """
    corners = indices.reshape(-1, 3)
    place = positions[corners].astype(np.float64)
    edge_1, edge_2 = place[:, 1] - place[:, 0], place[:, 2] - place[:, 0]
    uv = uvs[corners].astype(np.float64)
    delta_1, delta_2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    with np.errstate(all="ignore"):
        area = delta_1[:, 0] * delta_2[:, 1] - delta_1[:, 1] * delta_2[:, 0]
        # In glTF v runs down the image: an unmirrored triangle has a negative area in (u, v).
        mirrored = area > 0.0
        sign = np.where(mirrored, 1.0, -1.0)[:, None]
        direction = (edge_1 * delta_2[:, 1:] - edge_2 * delta_1[:, 1:]) * sign
        usable = (area != 0.0) & np.isfinite(direction).all(axis=1) & (np.abs(direction).max(axis=1, initial=0.0) > 0)

    # Double the vertices that triangles of both kinds use.
    count = len(positions)
    seen_mirrored = np.zeros(count, dtype=bool)
    seen_mirrored[corners[usable & mirrored]] = True
    seen_plain = np.zeros(count, dtype=bool)
    seen_plain[corners[usable & ~mirrored]] = True
    doubled = np.flatnonzero(seen_mirrored & seen_plain)
    source: NDArray[np.intp] | None = None
    out = corners
    if len(doubled):
        twin = np.arange(count, dtype=np.uint32)
        twin[doubled] = count + np.arange(len(doubled), dtype=np.uint32)
        out = corners.copy()
        out[usable & mirrored] = twin[corners[usable & mirrored]]
        source = np.concatenate([np.arange(count, dtype=np.intp), doubled])
    total_count = count + len(doubled)

    all_normals = (normals if source is None else normals[source]).astype(np.float64)
    total = np.zeros((total_count, 3))
    used = out[usable]
    used_place = place[usable]
    used_direction = direction[usable]
    for corner in range(3):
        here = used[:, corner]
        normal = all_normals[here]
        to_next = used_place[:, (corner + 1) % 3] - used_place[:, corner]
        to_last = used_place[:, (corner + 2) % 3] - used_place[:, corner]
        weighted = _in_plane(used_direction, normal)
        with np.errstate(all="ignore"):
            cosine = np.einsum("ij,ij->i", _in_plane(to_next, normal), _in_plane(to_last, normal))
            weighted *= np.arccos(np.clip(cosine, -1.0, 1.0))[:, None]
        weighted[~np.isfinite(weighted).all(axis=1)] = 0.0
        for axis in range(3):
            total[:, axis] += np.bincount(here, weights=weighted[:, axis], minlength=total_count)

    tangents = np.empty((total_count, 4), dtype=np.float32)
    tangents[:, :3] = normalized_rows(total)
    lost = np.flatnonzero(~(np.einsum("ij,ij->i", total, total) > 0.0))
    if len(lost):
        tangents[lost, :3] = any_perpendicular(all_normals[lost])
    tangents[:, 3] = 1.0
    tangents[:count, 3][seen_mirrored & ~seen_plain] = -1.0
    tangents[count:, 3] = -1.0
    return tangents, np.ascontiguousarray(out).reshape(-1), source


def _in_plane(vectors: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vectors without their part along the unit normals, with length 1 (0 where nothing is left)."""
    flat = vectors - normals * np.einsum("ij,ij->i", vectors, normals)[:, None]
    length = np.sqrt(np.einsum("ij,ij->i", flat, flat))[:, None]
    unit: NDArray[np.float64] = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    return unit


def any_perpendicular(normals: NDArray[Any]) -> Floats:
    """(n, 3) unit vectors at right angles to the unit ``normals`` (Duff et al. 2017, without branches)."""
    x, y, z = normals.astype(np.float64).T
    sign = np.where(z >= 0.0, 1.0, -1.0)
    a = -1.0 / (sign + z)
    return normalized_rows(np.stack([1.0 + sign * x * x * a, sign * x * y * a, -sign * x], axis=1), (1.0, 0.0, 0.0))


def pack_directions(directions: Floats) -> NDArray[np.int8]:
    """(n, 3 or 4) members in -1..1 as (n, 4) signed normalised bytes; a missing w is 0."""
    packed = np.zeros((len(directions), 4), dtype=np.int8)
    packed[:, : directions.shape[1]] = np.rint(directions * np.float32(127.0)).astype(np.int8)
    return packed


def pack_colors(colors: Floats) -> NDArray[np.uint8]:
    """(n, 3 or 4) linear colours, clipped to 0..1, as (n, 4) unsigned normalised bytes; a missing alpha is 1."""
    packed = np.full((len(colors), 4), 255, dtype=np.uint8)
    clipped = np.clip(np.nan_to_num(colors, nan=0.0), 0.0, 1.0)
    packed[:, : colors.shape[1]] = np.rint(clipped * np.float32(255.0)).astype(np.uint8)
    return packed


def box_of_boxes(
    bounds_min: NDArray[np.float64], bounds_max: NDArray[np.float64], matrices: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The axis-aligned boxes (n, 3) of boxes (n, 3) that are moved by matrices (n, 4, 4) (Arvo 1990)."""
    center, half = (bounds_min + bounds_max) * 0.5, (bounds_max - bounds_min) * 0.5
    moved = np.einsum("nij,nj->ni", matrices[:, :3, :3], center) + matrices[:, :3, 3]
    reach = np.einsum("nij,nj->ni", np.abs(matrices[:, :3, :3]), half)
    return moved - reach, moved + reach


def instance_bounds(
    positions: list[Floats],
    part_min: NDArray[np.float64],
    part_max: NDArray[np.float64],
    instance_part: NDArray[np.int32],
    instance_matrix: NDArray[np.float64],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The tight axis-aligned box of all instances in model space; ``min > max`` where there is none.

    ``positions`` are each part's (n, 3), ``part_min`` and ``part_max`` their boxes (parts, 3). Only instances whose
    moved box reaches out of what is known so far have their vertices looked at: few, however many there are. After
    :data:`MAX_EXACT_INSTANCES` of them the moved boxes of the others count, which may be looser. Boxes of parts that
    are only turned by right angles, scaled and moved are taken as they are.
    """
    if not len(instance_part):
        return (1.0, 1.0, 1.0), (-1.0, -1.0, -1.0)
    box_min, box_max = box_of_boxes(part_min[instance_part], part_max[instance_part], instance_matrix)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    # Turned by right angles or not at all, a box is as tight as before.
    straight = (np.count_nonzero(instance_matrix[:, :3, :3], axis=2) <= 1).all(axis=1)
    if straight.any():
        low, high = box_min[straight].min(axis=0), box_max[straight].max(axis=0)
    left = np.flatnonzero(~straight)
    # Boxes are computed in another order than vertices: a hair of slack, or no instance would ever count as inside.
    slack = 1e-9 * max(float(np.abs(box_min).max()), float(np.abs(box_max).max()))
    for _ in range(MAX_EXACT_INSTANCES):
        with np.errstate(invalid="ignore"):
            excess = np.maximum(low - box_min[left], box_max[left] - high).max(axis=1)
        outside = excess > slack
        left, excess = left[outside], excess[outside]
        if not len(left):
            break
        pick = int(np.argmax(excess))
        if np.isinf(excess[pick]):
            # Nothing is known yet: the one that reaches lowest is as good a beginning as any.
            pick = int(np.argmin(box_min[left].sum(axis=1)))
        chosen = left[pick]
        moved = (
            positions[instance_part[chosen]].astype(np.float64) @ instance_matrix[chosen, :3, :3].T
            + instance_matrix[chosen, :3, 3]
        )
        low, high = np.minimum(low, moved.min(axis=0)), np.maximum(high, moved.max(axis=0))
        left = np.delete(left, pick)
    if len(left):
        low, high = np.minimum(low, box_min[left].min(axis=0)), np.maximum(high, box_max[left].max(axis=0))
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def creased_normals(
    place: NDArray[np.intp], corners: NDArray[np.intp], faces: NDArray[np.float64], unit: NDArray[np.float32]
) -> NDArray[np.float32]:
    """For each of ``corners`` (numbers of corners) the mean normal of the triangles in its place, up to a crease.

    ``place`` says for every corner where it is; three corners in a row are a triangle. ``faces`` are the triangles'
    normals, as long as twice their area, ``unit`` the same with length 1.
    """
    # All pairs of such a corner and a triangle that touches its place.
    order, starts = by_number(place, int(place.max(initial=0)) + 1)
    here = place[corners]
    begin, end = starts[here], starts[here + 1]
    # At the tip of a cone of a million triangles all pairs would be too many: each keeps its own normal there.
    crowded = end - begin > MAX_AROUND
    touching = end - begin
    if crowded.any():
        rank = np.empty(len(order), dtype=np.intp)
        rank[order] = np.arange(len(order))
        begin = np.where(crowded, rank[corners], begin)
        touching[crowded] = 1
    pair = np.repeat(np.arange(len(corners)), touching)
    start = np.repeat(begin - (np.cumsum(touching) - touching), touching)
    other = order[start + np.arange(len(pair))] // 3
    own = unit.take((corners // 3)[pair], axis=0)
    smooth = np.einsum("ij,ij->i", unit.take(other, axis=0), own) > CREASE_COSINE
    pair = pair[smooth]
    touched = faces.take(other[smooth], axis=0)
    # Weighted by area, a face keeps its shade where slivers adjoin it.
    return normalized_rows(np.stack([np.bincount(pair, touched[:, axis], len(corners)) for axis in range(3)], axis=1))


def by_number(numbers: NDArray[Any], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order that sorts ``numbers`` (all below ``count``), equal ones as they come, and where each number begins
    in it: (count + 1,)."""
    starts = np.zeros(count + 1, np.intp)
    np.cumsum(np.bincount(numbers, minlength=count), out=starts[1:])
    # Numbers of 16 bits are sorted by counting, many times as fast.
    narrow = numbers.astype(np.uint16) if count <= 1 << 16 else numbers
    return np.argsort(narrow, kind="stable"), starts
