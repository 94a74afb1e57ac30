"""Triangle meshes while they are being built, and how their corners get normals.

A mesh is an indexed set of triangles in millimetres, counter-clockwise seen from outside. Primitives share vertices
wherever faces touch; creases are found at the very end by :func:`shade`, so that no primitive has to duplicate
vertices for its sharp edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

FLAT_WEIGHT = 1000.0
"""Weight of faces that are flat by design: a bevel's shared corners take their normal, which is what lets a single
bevel segment shade like a rounded edge ("face-weighted normals")."""

BEVEL_WEIGHT = 0.01
"""Weight of bevel faces: they bend between their flat neighbours and never bend these."""


@dataclass(slots=True)
class Mesh:
    """Triangles under construction.

    ``positions``: (n, 3) millimetres. ``triangles``: (m, 3) indices into them. ``weights``: (m,) how much each face
    pulls its corners' normals, times its area. ``tags``: (m,) a small number per face by which a mesh can be split
    between materials. ``colors``: (n, 4) linear RGBA from 0 to 1.
    """

    positions: Array
    triangles: Integers
    weights: Array
    tags: Integers
    colors: Array

    @classmethod
    def of(cls, positions: ArrayLike, triangles: ArrayLike, weights: ArrayLike | float = 1.0, tag: int = 0) -> Mesh:
        """Make a white mesh from positions (n, 3) and triangles (m, 3); a single weight holds for all faces."""
        points = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        faces = np.asarray(triangles, dtype=np.int64).reshape(-1, 3)
        face_weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), (len(faces),)).copy()
        return cls(points, faces, face_weights, np.full(len(faces), tag, dtype=np.int64), np.ones((len(points), 4)))

    def transformed(self, matrix: ArrayLike) -> Mesh:
        """Apply a (4, 4) matrix to column vectors; a mirroring matrix also turns the winding, so outside stays out."""
        m = np.asarray(matrix, dtype=np.float64)
        faces = self.triangles if np.linalg.det(m[:3, :3]) > 0 else self.triangles[:, ::-1]
        return Mesh(self.positions @ m[:3, :3].T + m[:3, 3], faces, self.weights, self.tags, self.colors)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """Shift by millimetres."""
        return Mesh(self.positions + np.array([x, y, z]), self.triangles, self.weights, self.tags, self.colors)

    def turned(self, axis: str, degrees: float) -> Mesh:
        """Turn about an axis ("x", "y" or "z") through the origin, counter-clockwise seen from its positive end."""
        return self.transformed(rotation(axis, degrees))

    def tinted(self, tint: Callable[[Array], Array]) -> Mesh:
        """Colour vertices by position: ``tint`` maps (n, 3) millimetres to (n, 3) linear RGB."""
        colors = np.ones((len(self.positions), 4))
        colors[:, :3] = tint(self.positions)
        return Mesh(self.positions, self.triangles, self.weights, self.tags, colors)

    def only(self, tag: int) -> Mesh:
        """The faces with this tag (all vertices stay; :func:`shade` drops unused ones)."""
        keep = self.tags == tag
        return Mesh(self.positions, self.triangles[keep], self.weights[keep], self.tags[keep], self.colors)

    def volume(self) -> float:
        """Enclosed volume in cubic millimetres by the divergence theorem; negative if the mesh is inside out."""
        a, b, c = (self.positions[self.triangles[:, k]] for k in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)

    def outward(self) -> Mesh:
        """The same closed mesh, turned inside out if it was so, and free of faces without area."""
        a, b, c = (self.positions[self.triangles[:, k]] for k in range(3))
        keep = np.einsum("ij,ij->i", *(2 * [np.cross(b - a, c - a)])) > 1e-14
        faces = self.triangles[keep] if self.volume() >= 0 else self.triangles[keep][:, ::-1]
        return Mesh(self.positions, faces, self.weights[keep], self.tags[keep], self.colors)

    def welded(self) -> Mesh:
        """Join vertices that lie within a nanometre's rounding of each other, such as the pole of a lathe."""
        keys = np.round(self.positions * 1e6).astype(np.int64)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return Mesh(
            self.positions[first], inverse.reshape(-1)[self.triangles], self.weights, self.tags, self.colors[first]
        )


def join(meshes: Iterable[Mesh]) -> Mesh:
    """Put meshes into one without welding them: each stays a closed body of its own."""
    parts = list(meshes)
    offsets = np.cumsum([0] + [len(part.positions) for part in parts[:-1]])
    return Mesh(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.triangles + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.tags for part in parts]),
        np.concatenate([part.colors for part in parts]),
    )


def rotation(axis: str, degrees: float) -> Array:
    """(4, 4) rotation about "x", "y" or "z", counter-clockwise seen from the axis' positive end."""
    k = "xyz".index(axis)
    i, j = (k + 1) % 3, (k + 2) % 3
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def translation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Array:
    """(4, 4) shift by millimetres."""
    matrix = np.eye(4)
    matrix[:3, 3] = (x, y, z)
    return matrix


def facing(origin: ArrayLike, up: ArrayLike, spin: float = 0.0) -> Array:
    """(4, 4) placement of a part built along +Y: its origin goes to ``origin``, its +Y to ``up``, turned by ``spin``
    degrees about its own axis first."""
    y = np.asarray(up, dtype=np.float64)
    y = y / np.linalg.norm(y)
    helper = np.array([1.0, 0.0, 0.0]) if abs(y[0]) < 0.9 else np.array([0.0, 0.0, 1.0])
    z = np.cross(helper, y)
    z /= np.linalg.norm(z)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = np.cross(y, z), y, z, np.asarray(origin)
    turned: Array = matrix @ rotation("y", spin)
    return turned


@dataclass(frozen=True, slots=True)
class Shaded:
    """A mesh with one normal per vertex: ``positions`` (n, 3) mm, ``normals`` (n, 3) unit, ``colors`` (n, 4),
    ``triangles`` (m, 3)."""

    positions: Array
    normals: Array
    colors: Array
    triangles: Integers


def _corner_angles(positions: Array, faces: Integers) -> Array:
    """The inner angles (m, 3) of triangles in radians."""
    p = positions[faces]
    forward = np.roll(p, -1, axis=1) - p
    forward /= np.maximum(np.linalg.norm(forward, axis=2, keepdims=True), 1e-300)
    backward = -np.roll(forward, 1, axis=1)
    angles: Array = np.arccos(np.clip(np.einsum("ijk,ijk->ij", forward, backward), -1.0, 1.0))
    return angles


def shade(mesh: Mesh, crease: float) -> Shaded:
    """Give corners their normals, splitting vertices where faces meet at more than ``crease`` degrees.

    A corner's normal is the mean of the normals of the faces around its vertex that lie within ``crease`` of its own
    face, weighted by the faces' area, their angle at the vertex (or a quad's diagonal would tilt it) and
    :attr:`Mesh.weights`.
    """
    faces = mesh.triangles
    a, b, c = (mesh.positions[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    size = np.linalg.norm(cross, axis=1)
    keep = size > 1e-7
    faces, cross, size = faces[keep], cross[keep], size[keep]
    unit = cross / size[:, None]
    pull = unit * (size * mesh.weights[keep])[:, None]
    angles = _corner_angles(mesh.positions, faces).reshape(-1)

    # Every pair of corners that share a vertex, without a Python loop: corners sorted by vertex form runs, and each
    # corner meets all corners of its run.
    vertex = faces.reshape(-1)
    face = np.repeat(np.arange(len(faces)), 3)
    order = np.argsort(vertex, kind="stable")
    _, run_start, run_length = np.unique(vertex[order], return_index=True, return_counts=True)
    corner_start = np.repeat(run_start, run_length)
    corner_length = np.repeat(run_length, run_length)
    left = np.repeat(np.arange(len(vertex)), corner_length)
    within = np.arange(len(left)) - np.repeat(np.cumsum(corner_length) - corner_length, corner_length)
    right = corner_start[left] + within
    left_face, right_face = face[order[left]], face[order[right]]
    near = np.einsum("ij,ij->i", unit[left_face], unit[right_face]) >= np.cos(np.radians(crease)) - 1e-9
    left, right_face, angle = left[near], right_face[near], angles[order[right[near]]]
    normals = np.stack([np.bincount(left, pull[right_face, k] * angle, len(vertex)) for k in range(3)], axis=1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    own = unit[face[order]]
    normals = np.where(length > 1e-12, normals / np.maximum(length, 1e-12), own)
    # A heavy neighbour must not turn a corner's normal away from its own face's front.
    normals = np.where(np.einsum("ij,ij->i", normals, own)[:, None] > 0.05, normals, own)

    quantized = np.round(normals * 127).astype(np.int64) + 127
    key = ((vertex[order] * 256 + quantized[:, 0]) * 256 + quantized[:, 1]) * 256 + quantized[:, 2]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    corner = np.empty(len(vertex), dtype=np.int64)
    corner[order] = inverse.reshape(-1)
    source = vertex[order][first]
    return Shaded(mesh.positions[source], normals[first], mesh.colors[source], corner.reshape(-1, 3))
