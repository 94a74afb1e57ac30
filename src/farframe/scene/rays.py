"""Where a ray meets boxes, triangles and points. Pure numpy, double precision, many at a time.

A ray is ``start + t * along`` for t from 0 to 1, so that t is the same in every space that an affine map leads to:
geometry stays in the space that it is stored in, and the ray is brought there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def boxes_met(start: Array, along: Array, low: Array, high: Array) -> Array:
    """(n,) where a ray enters boxes from ``low`` to ``high`` (n, 3), infinite for those that it misses (slab test).

    ``start``, ``along`` are (3,), or (n, 3) for a ray of its own for each box.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        near = (low - start) / along
        far = (high - start) / along
        # Along a plane of the box: 0 / 0 is on it, which counts as inside.
        flat = np.broadcast_to(along == 0.0, near.shape)
        inside = (low <= start) & (start <= high)
        near = np.where(flat, np.where(inside, -np.inf, np.inf), near)
        far = np.where(flat, np.inf, far)
        first = np.maximum(np.minimum(near, far).max(axis=1), 0.0)
        last = np.minimum(np.maximum(near, far).min(axis=1), 1.0)
    # A little room, so that what lies in a face of its box is not lost to rounding.
    return np.where(first <= last + 1e-9, first, np.inf)


def triangles_met(start: Array, along: Array, corners: Array) -> tuple[NDArray[np.int64], Array, Array]:
    """Which of the triangles (n, 3, 3) a ray meets, k of them, from either side: rows (k,), t (k,), and normals (k, 3),
    not unit, that point to where the corners run counter-clockwise.

    Moeller and Trumbore, "Fast, Minimum Storage Ray/Triangle Intersection", 1997; edges belong to both sides.
    """
    first = corners[:, 0]
    edge1, edge2 = corners[:, 1] - first, corners[:, 2] - first
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        across = np.cross(along, edge2)
        determinant = np.einsum("ni,ni->n", edge1, across)
        inverse = 1.0 / determinant
        offset = start - first
        u = np.einsum("ni,ni->n", offset, across) * inverse
        q = np.cross(offset, edge1)
        v = q @ along * inverse
        t = np.einsum("ni,ni->n", edge2, q) * inverse
        slack = 1e-9
        met = (u >= -slack) & (v >= -slack) & (u + v <= 1.0 + slack) & (t >= 0.0) & (t <= 1.0) & np.isfinite(inverse)
    rows = np.flatnonzero(met)
    return rows, t[rows], np.cross(edge1[rows], edge2[rows])


def points_met(start: Array, along: Array, points: Array, radius: Array) -> tuple[NDArray[np.int64], Array]:
    """Which of the points (n, 3), each a ball of ``radius`` (n,), a ray passes, and t (k,) where it is nearest to
    their middles."""
    length = float(along @ along)
    if length == 0.0:
        return np.zeros(0, np.int64), np.zeros(0)
    offset = points - start
    t = np.clip(offset @ along / length, 0.0, 1.0)
    miss = offset - t[:, None] * along
    rows = np.flatnonzero(np.einsum("ni,ni->n", miss, miss) <= radius * radius)
    return rows, t[rows]
