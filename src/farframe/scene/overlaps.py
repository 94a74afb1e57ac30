"""What a box or a ball overlaps: boxes that were moved, triangles and points. Pure numpy, double precision, many at a
time, and exact but for rounding. What only touches overlaps.

A box of a part is told by ``matrix`` (n, 3, 4), part space to world, with ``center`` and ``extent`` (half sizes, n, 3)
in part space: in the world it is a parallelepiped.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

SLACK = 1e-12
"""Share of the numbers at hand by which rounding may make two things miss each other that touch."""
THINNEST = 1e-9
"""Metres. Boxes have at least this half size, so that a flat one has an inside."""

_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
_EDGES = np.eye(3)


class Shape(Protocol):
    """A convex body in the world."""

    def bounds(self) -> tuple[Array, Array]:
        """Its lowest and highest corner (3,)."""
        ...

    def meets_boxes(self, matrix: Array, center: Array, extent: Array) -> Flags:
        """(n,) whether it overlaps boxes of parts."""
        ...

    def holds_boxes(self, matrix: Array, center: Array, extent: Array) -> Flags:
        """(n,) whether boxes of parts lie wholly in it."""
        ...

    def meets_triangles(self, corners: Array) -> Flags:
        """(n,) whether it overlaps triangles with these ``corners`` (n, 3, 3) in the world."""
        ...

    def holds_points(self, points: Array) -> Flags:
        """(n,) whether points (n, 3) of the world lie in it."""
        ...


@dataclass(frozen=True, slots=True)
class Box:
    """A box around ``center`` (3,) with half sizes ``half`` (3,) along the columns of ``axes`` (3, 3), a rotation."""

    center: Array
    half: Array
    axes: Array

    def bounds(self) -> tuple[Array, Array]:
        """See :class:`Shape`."""
        reach = np.abs(self.axes) @ self.half
        return self.center - reach, self.center + reach

    def meets_boxes(self, matrix: Array, center: Array, extent: Array) -> Flags:
        """By the separating axis theorem: two convex polyhedra miss each other if and only if they do so along a normal
        of a face of either or across an edge of each (Gottschalk, Lin, Manocha, "OBBTree", 1996). Directions come from
        the axes, not the edges, so that flat boxes have them, too; more axes than needed do no harm."""
        # In the frame of this box.
        linear = np.einsum("ji,njk->nik", self.axes, matrix[:, :, :3])
        middle = (np.einsum("nij,nj->ni", matrix[:, :, :3], center) + matrix[:, :, 3] - self.center) @ self.axes
        edges = linear * extent[:, None, :]
        met = np.ones(len(matrix), np.bool_)

        def separate(axis: Array) -> None:
            """``axis`` (n, 3), of any length; those without any separate nothing."""
            reach = np.abs(axis) @ self.half + np.abs(np.einsum("ni,nij->nj", axis, edges)).sum(axis=1)
            apart = np.abs(np.einsum("ni,ni->n", axis, middle))
            np.logical_and(met, apart <= reach + SLACK * (apart + reach), out=met)

        for number in range(3):
            separate(np.broadcast_to(_EDGES[number], middle.shape))
        directions = [_unit(linear[:, :, number]) for number in range(3)]
        for first, second in ((0, 1), (1, 2), (2, 0)):
            separate(np.cross(directions[first], directions[second]))
        for direction in directions:
            for number in range(3):
                separate(np.cross(direction, _EDGES[number]))
        return met

    def holds_boxes(self, matrix: Array, center: Array, extent: Array) -> Flags:
        """See :class:`Shape`."""
        linear = np.einsum("ji,njk->nik", self.axes, matrix[:, :, :3])
        middle = (np.einsum("nij,nj->ni", matrix[:, :, :3], center) + matrix[:, :, 3] - self.center) @ self.axes
        reach = np.abs(middle) + np.einsum("nij,nj->ni", np.abs(linear), extent)
        return np.asarray((reach <= self.half).all(axis=1), np.bool_)

    def meets_triangles(self, corners: Array) -> Flags:
        """In the frame where the box is the cube from -1 to 1, by the separating axis theorem (Akenine-Moeller, "Fast
        3D Triangle-Box Overlap Testing", 2001): three sides, the triangle's plane, and nine pairs of edges."""
        half = np.maximum(self.half, THINNEST)
        a, b, c = np.moveaxis((corners - self.center) @ self.axes / half, 1, 0)
        met = np.ones(len(corners), np.bool_)

        def separate(axis: Array) -> None:
            first, second, third = (np.einsum("ni,ni->n", axis, corner) for corner in (a, b, c))
            low = np.minimum(np.minimum(first, second), third)
            high = np.maximum(np.maximum(first, second), third)
            reach = np.abs(axis).sum(axis=1)
            slack = SLACK * (reach + np.maximum(np.abs(low), np.abs(high)))
            np.logical_and(met, (low <= reach + slack) & (high >= -reach - slack), out=met)

        for number in range(3):
            separate(np.broadcast_to(_EDGES[number], a.shape))
        edges = (b - a, c - b, a - c)
        separate(np.cross(edges[0], edges[1]))
        for edge in edges:
            for number in range(3):
                separate(np.cross(edge, _EDGES[number]))
        return met

    def holds_points(self, points: Array) -> Flags:
        """See :class:`Shape`."""
        offset = np.abs((points - self.center) @ self.axes)
        return np.asarray((offset <= np.maximum(self.half, THINNEST)).all(axis=1), np.bool_)


@dataclass(frozen=True, slots=True)
class Sphere:
    """A ball of ``radius`` metres around ``center`` (3,)."""

    center: Array
    radius: float

    def bounds(self) -> tuple[Array, Array]:
        """See :class:`Shape`."""
        return self.center - self.radius, self.center + self.radius

    def meets_boxes(self, matrix: Array, center: Array, extent: Array) -> Flags:
        """By the nearest point of each box."""
        distance = distances_to_boxes(self.center, matrix, center, extent)
        return np.asarray(distance <= self.radius * (1.0 + SLACK) + THINNEST * SLACK, np.bool_)

    def holds_boxes(self, matrix: Array, center: Array, extent: Array) -> Flags:
        """By the farthest corner of each box."""
        places = center[:, None, :] + _CORNERS * extent[:, None, :]
        corners = np.einsum("nij,ncj->nci", matrix[:, :, :3], places) + matrix[:, None, :, 3] - self.center
        return np.asarray((np.einsum("nci,nci->nc", corners, corners) <= self.radius**2).all(axis=1), np.bool_)

    def meets_triangles(self, corners: Array) -> Flags:
        """By the nearest point of each triangle."""
        near = nearest_on_triangles(self.center, corners) - self.center
        return np.asarray(np.sqrt(np.einsum("ni,ni->n", near, near)) <= self.radius * (1.0 + SLACK), np.bool_)

    def holds_points(self, points: Array) -> Flags:
        """See :class:`Shape`."""
        offset = points - self.center
        return np.asarray(np.einsum("ni,ni->n", offset, offset) <= self.radius**2, np.bool_)


def distances_to_boxes(point: Array, matrix: Array, center: Array, extent: Array) -> Array:
    """(n,) metres from a point of the world to the nearest one of each moved box, 0 inside.

    The nearest point is the least of a convex quadratic function over the cube of the box's own coordinates. Each of
    them is at its lower end, at its upper, or free: of the 27 ways, the best that stays in the cube is it. That holds
    whatever the matrix does, shear and flattening included.
    """
    linear = matrix[:, :, :3] * extent[:, None, :]
    target = point - (np.einsum("nij,nj->ni", matrix[:, :, :3], center) + matrix[:, :, 3])
    best = np.full(len(matrix), np.inf)
    for ends in itertools.product((-1.0, 1.0, None), repeat=3):
        free = [axis for axis, end in enumerate(ends) if end is None]
        rest = target.copy()
        for axis, end in enumerate(ends):
            if end is not None:
                rest -= end * linear[:, :, axis]
        inside = np.ones(len(matrix), np.bool_)
        if free:
            columns = linear[:, :, free]
            gram = np.einsum("nik,nil->nkl", columns, columns)
            scale = np.sqrt(np.einsum("nkk->nk", gram))
            # Without a unique solution the least lies at an end, too, which another of the ways looks at.
            with np.errstate(all="ignore"):
                normed = gram / (scale[:, :, None] * scale[:, None, :])
                solvable = np.isfinite(normed).all(axis=(1, 2))
                solvable[solvable] &= np.abs(np.linalg.det(normed[solvable])) > 1e-12
            inside &= solvable
            share = np.zeros((len(matrix), len(free)))
            if solvable.any():
                right = np.einsum("nik,ni->nk", columns[solvable], rest[solvable])[:, :, None]
                share[solvable] = np.linalg.solve(gram[solvable], right)[:, :, 0]
            inside &= (np.abs(share) <= 1.0).all(axis=1)
            rest -= np.einsum("nik,nk->ni", columns, np.where(inside[:, None], share, 0.0))
        distance = np.sqrt(np.einsum("ni,ni->n", rest, rest))
        best = np.where(inside, np.minimum(best, distance), best)
    return best


def nearest_on_triangles(point: Array, corners: Array) -> Array:
    """(n, 3) the point of each triangle (n, 3, 3) that is nearest to ``point`` (3,).

    By the regions of edges and face (compare Ericson, "Real-Time Collision Detection", 2005, 5.1.5). A triangle
    without area is its edges.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    best = _nearest_on_segment(point, a, b)
    least = _square(best - point)
    for first, second in ((b, c), (c, a)):
        other = _nearest_on_segment(point, first, second)
        square = _square(other - point)
        nearer = square < least
        best[nearer], least[nearer] = other[nearer], square[nearer]
    ab, ac, ap = b - a, c - a, point - a
    normal = np.cross(ab, ac)
    length = _square(normal)
    with np.errstate(all="ignore"):
        v = np.einsum("ni,ni->n", np.cross(ap, ac), normal) / length
        w = np.einsum("ni,ni->n", np.cross(ab, ap), normal) / length
        over = (length > 0.0) & (v >= 0.0) & (w >= 0.0) & (v + w <= 1.0)
    best[over] = (a + v[:, None] * ab + w[:, None] * ac)[over]
    return best


def _nearest_on_segment(point: Array, first: Array, second: Array) -> Array:
    along = second - first
    length = _square(along)
    share = np.einsum("ni,ni->n", point - first, along) / np.where(length > 0.0, length, 1.0)
    return np.asarray(first + np.clip(share, 0.0, 1.0)[:, None] * along, np.float64)


def _square(vectors: Array) -> Array:
    return np.asarray(np.einsum("ni,ni->n", vectors, vectors), np.float64)


def _unit(vectors: Array) -> Array:
    length = np.sqrt(_square(vectors))
    return np.asarray(vectors / np.where(length > 0.0, length, 1.0)[:, None], np.float64)
