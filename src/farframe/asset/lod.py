"""Levels of detail: for each part, index ranges of fewer and fewer triangles over its vertices and a few more.

meshoptimizer simplifies (edge collapse by quadrics, Garland and Heckbert 1997, with attributes as in Hoppe 1999); this
module decides how far, and orders triangles for the vertex cache. A level is made from the one before it, so its error
is at most the sum of the steps' errors: that sum is what ``Level.error`` says. meshoptimizer's own figure is no strict
bound (single points may be off by one and a half times as much), which is fine for choosing a level by pixels.

    1. Where neither textures nor colours could be torn: simplify the welded surface, then give each corner the vertex
       there whose normal fits the new triangle best. CAD parts are full of creases, where several vertices meet in each
       place; kept as seams they hold on to their triangles (on the built-in engine twice as many at one pixel). Where
       no vertex fits - a triangle now spans a flat face and the chamfer around it, say - the corner gets a vertex of
       its own, with the mean normal of the triangles about it up to a crease, weighted by area.
    2. Elsewhere simplify with normals, along seams as meshoptimizer does it.

Lettering, labels and other thin parts that lie on something would sink into it long before they are a pixel off, and a
whole word missing shows more than anything. They stay in full until they are small as a whole.

The library is called by ctypes directly: the ``meshoptimizer`` package's wrappers copy their arguments, and the one for
attributes declares no argument types. Foreign calls release the interpreter lock, so parts are spread over threads.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Progress, no_progress
from farframe.asset.geometry import MAX_AROUND, creased_normals, pack_directions
from farframe.asset.meshopt import foreign
from farframe.asset.model import Level, Material, Model, Part

MIN_PART_TRIANGLES = 64
"""Parts with fewer triangles cost next to nothing to draw in full: they get no levels."""

MIN_LEVEL_TRIANGLES = 32
STEP = 1 / 3
"""The share of triangles that a level keeps of the one before: steps of a half cost a third more time to build."""

MIN_GAIN = 0.75
"""A level that keeps more than this share of the one before is not worth its memory."""

MAX_LEVELS = 12
MAX_RELATIVE_ERROR = 0.25
"""The error that a part's coarsest level may have, in parts of its largest extent."""

NORMAL_WEIGHT = 0.1
"""How much a normal that is off counts against a position that is off (in extents of the part). More keeps shading
closer and makes the errors, and so the triangles drawn, grow."""

FITTING_COSINE = 0.906
"""A corner takes a vertex whose normal is within 25 degrees of its triangle's. Fifteen look no better and add half
as many vertices again."""

SAMPLED_TRIANGLES = 256
"""How many triangles decide whether a part's normals follow its surface."""

THIN_TRIANGLES = 1_000
"""Raised lettering and labels have few triangles; thin parts with more (belts, sheet metal) are worth simplifying."""

THIN = 1 / 40
"""A part is thin if its thickness is below this share of its largest extent."""

THIN_ERROR = 0.1
"""The error up to which a thin part's level is as good as any, in parts of its thickness: surfaces that lie closely
over one another stay in order. Single points may be off by several times the error."""

THIN_EXTENT_ERROR = 1 / 16
"""A thin part's further levels claim no less than this error, in parts of its largest extent."""

_SPARSE = 1 << 1
_ERROR_ABSOLUTE = 1 << 2
_PRUNE = 1 << 3

_UINTS = ctypes.c_void_p
_FLOATS = ctypes.c_void_p


_simplify_with_attributes = foreign(
    "meshopt_simplifyWithAttributes",
    ctypes.c_size_t,
    _UINTS,  # destination
    _UINTS,  # indices
    ctypes.c_size_t,
    _FLOATS,  # positions
    ctypes.c_size_t,
    ctypes.c_size_t,
    _FLOATS,  # attributes
    ctypes.c_size_t,
    _FLOATS,  # weights
    ctypes.c_size_t,
    ctypes.c_void_p,  # locks
    ctypes.c_size_t,
    ctypes.c_float,
    ctypes.c_uint,
    ctypes.POINTER(ctypes.c_float),
)
_simplify = foreign(
    "meshopt_simplify",
    ctypes.c_size_t,
    _UINTS,
    _UINTS,
    ctypes.c_size_t,
    _FLOATS,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_float,
    ctypes.c_uint,
    ctypes.POINTER(ctypes.c_float),
)
_optimize_vertex_cache = foreign("meshopt_optimizeVertexCache", None, _UINTS, _UINTS, ctypes.c_size_t, ctypes.c_size_t)
_generate_vertex_remap = foreign(
    "meshopt_generateVertexRemap",
    ctypes.c_size_t,
    _UINTS,
    _UINTS,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
)

_Indices = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Made:
    """``levels``: level 0 in a better order, then the further ones, as indices and absolute errors. ``added``: the
    vertices that follow the part's own, for these levels."""

    levels: list[tuple[_Indices, float]]
    added: NDArray[np.void]


def build_levels(
    model: Model,
    progress: Progress | None = None,
    *,
    max_seconds: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> Model:
    """The model with, for every part of :data:`MIN_PART_TRIANGLES` or more, levels of detail.

    Level 0 keeps its triangles but not their order. Levels that parts had before are made anew. Errors are in metres of
    the part's space and rise from level to level. Each part keeps its vertices; some that only further levels use may
    follow them. When ``max_seconds`` are over, the parts not reached stay without
    levels and a warning says so: levels only make drawing cheaper.
    """
    report = progress or no_progress
    deadline = clock() + max_seconds
    order = sorted(
        (index for index, part in enumerate(model.parts) if part.levels[0].index_count >= MIN_PART_TRIANGLES * 3),
        key=lambda index: -model.parts[index].levels[0].index_count,
    )
    total = sum(model.parts[index].levels[0].index_count for index in order) or 1
    made: dict[int, _Made] = {}
    done = 0
    late = False
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        # Few are submitted at a time, so that the deadline is looked at between parts.
        running: dict[Future[_Made], int] = {}
        waiting = iter(order)
        while True:
            while len(running) < 2 * (os.cpu_count() or 1) and not late:
                index = next(waiting, None)
                if index is None:
                    break
                running[pool.submit(_part_levels, model, model.parts[index], deadline, clock)] = index
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                index = running.pop(future)
                made[index] = future.result()
                done += model.parts[index].levels[0].index_count
            late = clock() > deadline
            report("levels", min(done / total, 1.0))
    report("levels", 1.0)
    result = _with_levels(model, made)
    if late and len(made) < len(order):
        result.warnings.append(f"{len(order) - len(made)} parts have no levels of detail: building them took too long.")
    return result


def _with_levels(model: Model, made: dict[int, _Made]) -> Model:
    """The model with new index ranges: each part's levels one after the other, in the order of the parts."""
    chunks: list[_Indices] = []
    parts: list[Part] = []
    first = 0
    for index, part in enumerate(model.parts):
        source = part.levels[0]
        ranges = (
            made[index].levels
            if index in made
            else [(model.indices[source.first_index : source.first_index + source.index_count], source.error)]
        )
        levels = []
        for indices, error in ranges:
            chunks.append(indices)
            levels.append(Level(first, len(indices), error))
            first += len(indices)
        parts.append(replace(part, levels=tuple(levels)))
    joined = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.uint32)
    vertices = model.vertices
    if any(len(each.added) for each in made.values()):
        pieces: list[NDArray[np.void]] = []
        first = 0
        for index, part in enumerate(parts):
            pieces.append(model.vertices[part.first_vertex : part.first_vertex + part.vertex_count])
            if index in made:
                pieces.append(made[index].added)
                part.vertex_count += len(made[index].added)
            part.first_vertex = first
            first += part.vertex_count
        vertices = np.concatenate(pieces)
    return replace(model, vertices=vertices, indices=joined, parts=parts, warnings=list(model.warnings))


def _part_levels(model: Model, part: Part, deadline: float, clock: Callable[[], float]) -> _Made:
    """The levels of one part. Runs in a thread of the pool."""
    vertices = model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]
    source = part.levels[0]
    indices = model.indices[source.first_index : source.first_index + source.index_count]
    simplifier = _Simplifier(vertices, model.materials[part.material], indices)
    chain, errors = [indices], [0.0]
    extent = float(np.max(np.array(part.bounds_max) - np.array(part.bounds_min)))
    if not 0.0 < extent < np.inf:
        return _Made([(_cache_order(indices, part.vertex_count), 0.0)], vertices[:0])
    thin_error = np.inf
    if len(indices) <= THIN_TRIANGLES * 3:
        thickness = _thickness(vertices["position"], indices)
        if 0.0 < thickness < THIN * extent:
            thin_error = THIN_ERROR * thickness
    error = 0.0
    while len(chain) < MAX_LEVELS and len(indices) >= MIN_PART_TRIANGLES * 3 and clock() <= deadline:
        target = max(int(len(indices) * STEP) // 3, MIN_LEVEL_TRIANGLES) * 3
        simpler, own = simplifier.simplify(indices, target, extent * MAX_RELATIVE_ERROR - error, sparse=len(chain) > 1)
        if len(simpler) < 3 or len(simpler) > len(indices) * MIN_GAIN:
            break
        error += own
        least = extent * THIN_EXTENT_ERROR if error > thin_error else error
        # Two levels must never claim the same error: the coarser one could then be drawn in place of the finer.
        errors.append(max(error, least, float(np.nextafter(np.float32(errors[-1]), np.float32(np.inf)))))
        indices = simpler
        chain.append(indices)
    drawn, added = simplifier.drawn(chain[1:])
    vertex_count = part.vertex_count + len(added)
    ordered = [_cache_order(level, vertex_count) for level in (chain[0], *drawn)]
    return _Made(list(zip(ordered, errors, strict=True)), added)


def _thickness(positions: NDArray[np.float32], indices: _Indices) -> float:
    """How thick a closed surface is that is much wider than thick, from its volume and area; 0 if it is open."""
    faces, length = _face_normals(positions, indices)
    twice_area = float(length.sum())
    # The area vectors of a closed surface add up to nothing; so its volume is the same from any point.
    if not 0.0 < twice_area < np.inf or float(np.linalg.norm(faces.sum(axis=0))) > 0.01 * twice_area:
        return 0.0
    apex = positions[indices[0]].astype(np.float64)
    six_volumes = float(np.einsum("ij,ij->", positions[indices[::3]] - apex, faces))
    return 2 * abs(six_volumes / 6) / (twice_area / 2)


def _face_normals(positions: NDArray[np.float32], indices: _Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each triangle's normal, as long as twice its area, and that length. Products of 32-bit numbers neither overflow
    nor vanish in 64 bits."""
    x, y, z = positions[indices].astype(np.float64).reshape(-1, 3, 3).transpose(2, 1, 0)
    faces = np.empty((len(x[0]), 3))
    (ux, vx), (uy, vy), (uz, vz) = x[1:] - x[0], y[1:] - y[0], z[1:] - z[0]
    faces[:, 0] = uy * vz - uz * vy
    faces[:, 1] = uz * vx - ux * vz
    faces[:, 2] = ux * vy - uy * vx
    return faces, np.sqrt(np.einsum("ij,ij->i", faces, faces))


class _Simplifier:
    """One part's vertices in the form that the library wants."""

    def __init__(self, vertices: NDArray[np.void], material: Material, indices: _Indices) -> None:
        self._vertices = vertices
        self._positions = np.ascontiguousarray(vertices["position"])
        self._normals = np.ascontiguousarray(vertices["normal"][:, :3], dtype=np.float32) * np.float32(1 / 127)
        self._weights = np.full(3, NORMAL_WEIGHT, dtype=np.float32)
        textured = any(
            slot is not None
            for slot in (
                material.base_color_texture,
                material.metallic_roughness_texture,
                material.normal_texture,
                material.occlusion_texture,
                material.emissive_texture,
            )
        )
        colors = vertices["color"]
        self._may_weld = not textured and bool((colors == colors[:1]).all())
        self._weld: _Indices | None = None
        self._wedges: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
        self._side, self._true_normals = self._normals_and_surface(indices)

    def simplify(self, indices: _Indices, target: int, max_error: float, *, sparse: bool) -> tuple[_Indices, float]:
        """About ``target`` indices (more if ``max_error`` does not allow that) and their distance from ``indices``.

        They are to go on with; :meth:`drawn` makes them ready to be drawn.
        """
        if max_error <= 0.0:
            return indices, 0.0
        if not self._may_weld:
            return self._along_seams(indices, target, max_error, sparse)
        if self._weld is None:
            self._weld = self._weld_positions()
        return self._welded(indices, target, max_error)

    def drawn(self, levels: list[_Indices]) -> tuple[list[_Indices], NDArray[np.void]]:
        """What :meth:`simplify` gave, with a vertex for each corner whose normal fits there; and the vertices that had
        to be added for that, numbered after the part's own."""
        if self._weld is None or not levels:
            return levels, self._vertices[:0]
        # All levels at once: most parts are small, and what each call costs then counts more than what it does.
        indices, added = self._fitting_wedges(
            np.concatenate(levels), np.repeat(np.arange(len(levels)), [len(level) for level in levels])
        )
        ends = np.cumsum([len(level) for level in levels])
        return np.split(indices, ends[:-1]), added

    def _normals_and_surface(self, indices: _Indices) -> tuple[float, bool]:
        """On which side of the part's triangles its normals are (1 or -1), and whether they follow its surface.

        Of some models the triangles face inwards. Of others the normals are made up, all upwards on grass for example:
        there nothing must be put right.
        """
        triangles = indices.reshape(-1, 3)
        sample = triangles[:: len(triangles) // SAMPLED_TRIANGLES + 1].reshape(-1)
        faces, length = _face_normals(self._positions, sample)
        corners = self._normals[sample].reshape(-1, 3, 3)
        with np.errstate(invalid="ignore", divide="ignore"):
            fit = np.einsum("tki,ti->t", corners, faces) / (3.0 * length)
        agreeing, opposed = (int(np.count_nonzero(sign * fit > FITTING_COSINE)) for sign in (1, -1))
        return -1.0 if opposed > agreeing else 1.0, 2 * max(agreeing, opposed) > int(np.count_nonzero(length))

    def _along_seams(self, indices: _Indices, target: int, max_error: float, sparse: bool) -> tuple[_Indices, float]:
        indices = np.ascontiguousarray(indices)
        destination = np.empty(len(indices), dtype=np.uint32)
        error = ctypes.c_float(0.0)
        count = _simplify_with_attributes(
            destination.ctypes.data,
            indices.ctypes.data,
            len(indices),
            self._positions.ctypes.data,
            len(self._positions),
            12,
            self._normals.ctypes.data,
            12,
            self._weights.ctypes.data,
            3,
            None,
            target,
            max_error,
            _ERROR_ABSOLUTE | _PRUNE | (_SPARSE if sparse else 0),
            ctypes.byref(error),
        )
        return destination[:count].copy(), float(error.value)

    def _welded(self, indices: _Indices, target: int, max_error: float) -> tuple[_Indices, float]:
        assert self._weld is not None
        joined = np.ascontiguousarray(self._weld[indices])
        destination = np.empty(len(joined), dtype=np.uint32)
        error = ctypes.c_float(0.0)
        count = _simplify(
            destination.ctypes.data,
            joined.ctypes.data,
            len(joined),
            self._positions.ctypes.data,
            len(self._positions),
            12,
            target,
            max_error,
            _ERROR_ABSOLUTE | _PRUNE | _SPARSE,
            ctypes.byref(error),
        )
        return destination[:count].copy(), float(error.value)

    def _weld_positions(self) -> _Indices:
        """For each vertex the first one in the same place."""
        count = len(self._positions)
        remap = np.empty(count, dtype=np.uint32)
        unique = _generate_vertex_remap(remap.ctypes.data, None, count, self._positions.ctypes.data, count, 12)
        # Remapped numbers are given in the order of first appearance.
        first = np.empty(unique, dtype=np.uint32)
        first[remap[::-1]] = np.arange(count - 1, -1, -1, dtype=np.uint32)
        by_place = np.argsort(remap, kind="stable")
        starts = np.searchsorted(remap[by_place], np.arange(unique + 1))
        self._wedges = (by_place, np.stack([starts[:-1], starts[1:]], axis=1)[remap])
        return first[remap]

    def _fitting_wedges(self, indices: _Indices, level: NDArray[np.intp]) -> tuple[_Indices, NDArray[np.void]]:
        """For each corner the vertex in its place whose normal fits the corner's triangle best, or a new one."""
        assert self._wedges is not None
        by_place, ranges = self._wedges
        faces, length = _face_normals(self._positions, indices)
        faces *= self._side
        unit = (faces / np.where(length > 0.0, length, 1.0)[:, None]).astype(np.float32)
        at_corner = np.repeat(unit, 3, axis=0)
        begin, end = ranges[indices].T
        best = by_place[begin].astype(np.uint32)
        best_fit = np.einsum("ij,ij->i", self._normals[best], at_corner)
        for step in range(1, min(int((end - begin).max(initial=0)), MAX_AROUND)):
            open_corners = np.flatnonzero(begin + step < end)
            candidates = by_place[begin[open_corners] + step]
            fit = np.einsum("ij,ij->i", self._normals[candidates], at_corner[open_corners])
            better = fit > best_fit[open_corners]
            best[open_corners[better]] = candidates[better]
            best_fit[open_corners[better]] = fit[better]
        misfits = np.flatnonzero((best_fit < FITTING_COSINE) & np.repeat(length > 0.0, 3))
        if not len(misfits) or not self._true_normals:
            return best, self._vertices[:0]
        place = level * len(self._positions) + indices
        normals = pack_directions(creased_normals(place, misfits, faces, unit))
        x, y, z = normals[:, :3].T.astype(np.int64) + 128
        key = (indices[misfits].astype(np.int64) << 24) + (x << 16) + (y << 8) + z
        _, first, which = np.unique(key, return_index=True, return_inverse=True)
        added = self._vertices[indices[misfits[first]]]
        added["normal"] = normals[first]
        best[misfits] = which.reshape(-1) + len(self._vertices)
        return best, added


def _cache_order(indices: _Indices, vertex_count: int) -> _Indices:
    """The same triangles in an order that lets a vertex be transformed once for its neighbours."""
    indices = np.ascontiguousarray(indices)
    ordered = np.empty(len(indices), dtype=np.uint32)
    _optimize_vertex_cache(ordered.ctypes.data, indices.ctypes.data, len(indices), vertex_count)
    return ordered
