"""Levels of detail: for each part, index ranges of fewer and fewer triangles over the same vertices.

meshoptimizer simplifies (edge collapse by quadrics, Garland and Heckbert 1997, with attributes as in Hoppe 1999); this
module decides how far, and orders triangles for the vertex cache. A level is made from the one before it, so its error
is at most the sum of the steps' errors: that sum is what ``Level.error`` says. meshoptimizer's own figure is no strict
bound (single points may be off by one and a half times as much), which is fine for choosing a level by pixels.

    1. Where neither textures nor colours could be torn: simplify the welded surface, then give each corner the vertex
       there whose normal fits the new triangle best. CAD parts are full of creases, where several vertices meet in each
       place; kept as seams they hold on to their triangles (on the built-in engine twice as many at one pixel).
    2. Elsewhere simplify with normals, along seams as meshoptimizer does it.

The library is called by ctypes directly: the ``meshoptimizer`` package's wrappers copy their arguments, and the one for
attributes declares no argument types. Foreign calls release the interpreter lock, so parts are spread over threads.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
from meshoptimizer import _loader
from numpy.typing import NDArray

from farframe.asset.budget import Progress, no_progress
from farframe.asset.geometry import face_normals, normalized_rows
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

_SPARSE = 1 << 1
_ERROR_ABSOLUTE = 1 << 2
_PRUNE = 1 << 3

_UINTS = ctypes.c_void_p
_FLOATS = ctypes.c_void_p


def _foreign(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the library as our own object, so that the package's declarations are not changed under it."""
    return ctypes.CFUNCTYPE(result, *arguments)((name, _loader.lib))


_simplify_with_attributes = _foreign(
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
_simplify = _foreign(
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
_optimize_vertex_cache = _foreign("meshopt_optimizeVertexCache", None, _UINTS, _UINTS, ctypes.c_size_t, ctypes.c_size_t)
_generate_vertex_remap = _foreign(
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
_Made = list[tuple[_Indices, float]]
"""Level 0 in a better order, then the further levels: indices and absolute errors."""


def build_levels(
    model: Model,
    progress: Progress | None = None,
    *,
    max_seconds: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> Model:
    """A model with the same vertices and, for every part of :data:`MIN_PART_TRIANGLES` or more, levels of detail.

    Level 0 keeps its triangles but not their order. Levels that parts had before are made anew. Errors are in metres of
    the part's space and rise from level to level. When ``max_seconds`` are over, the parts not reached stay without
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
        ranges = made.get(index) or [
            (model.indices[source.first_index : source.first_index + source.index_count], source.error)
        ]
        levels = []
        for indices, error in ranges:
            chunks.append(indices)
            levels.append(Level(first, len(indices), error))
            first += len(indices)
        parts.append(replace(part, levels=tuple(levels)))
    joined = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.uint32)
    return replace(model, indices=joined, parts=parts, warnings=list(model.warnings))


def _part_levels(model: Model, part: Part, deadline: float, clock: Callable[[], float]) -> _Made:
    """The levels of one part. Runs in a thread of the pool."""
    vertices = model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]
    source = part.levels[0]
    indices = model.indices[source.first_index : source.first_index + source.index_count]
    simplifier = _Simplifier(vertices, model.materials[part.material])
    made: _Made = [(_cache_order(indices, part.vertex_count), 0.0)]
    extent = float(np.max(np.array(part.bounds_max) - np.array(part.bounds_min)))
    if not 0.0 < extent < np.inf:
        return made
    error = 0.0
    while len(made) < MAX_LEVELS and len(indices) >= MIN_PART_TRIANGLES * 3 and clock() <= deadline:
        target = max(int(len(indices) * STEP) // 3, MIN_LEVEL_TRIANGLES) * 3
        simpler, own = simplifier.simplify(indices, target, extent * MAX_RELATIVE_ERROR - error, sparse=len(made) > 1)
        if len(simpler) < 3 or len(simpler) > len(indices) * MIN_GAIN:
            break
        # Two levels must never claim the same error: the coarser one could then be drawn in place of the finer.
        error = max(error + own, float(np.nextafter(np.float32(error), np.float32(np.inf))))
        indices = simpler
        made.append((_cache_order(indices, part.vertex_count), error))
    return made


class _Simplifier:
    """One part's vertices in the form that the library wants."""

    def __init__(self, vertices: NDArray[np.void], material: Material) -> None:
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

    def simplify(self, indices: _Indices, target: int, max_error: float, *, sparse: bool) -> tuple[_Indices, float]:
        """About ``target`` indices (more if ``max_error`` does not allow that) and their distance from ``indices``."""
        if max_error <= 0.0:
            return indices, 0.0
        if not self._may_weld:
            return self._along_seams(indices, target, max_error, sparse)
        if self._weld is None:
            self._weld = self._weld_positions()
        return self._welded(indices, target, max_error)

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
        return self._fitting_wedges(destination[:count]), float(error.value)

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

    def _fitting_wedges(self, indices: _Indices) -> _Indices:
        """For each corner the vertex in its place whose normal fits the corner's triangle best."""
        assert self._wedges is not None
        by_place, ranges = self._wedges
        faces = np.repeat(normalized_rows(face_normals(self._positions, indices)), 3, axis=0)
        begin, end = ranges[indices].T
        best = indices.copy()
        best_fit = np.full(len(indices), -np.inf, dtype=np.float32)
        for step in range(int((end - begin).max(initial=0))):
            open_corners = np.flatnonzero(begin + step < end)
            candidates = by_place[begin[open_corners] + step]
            fit = np.einsum("ij,ij->i", self._normals[candidates], faces[open_corners])
            better = fit > best_fit[open_corners]
            best[open_corners[better]] = candidates[better]
            best_fit[open_corners[better]] = fit[better]
        return best


def _cache_order(indices: _Indices, vertex_count: int) -> _Indices:
    """The same triangles in an order that lets a vertex be transformed once for its neighbours."""
    indices = np.ascontiguousarray(indices)
    ordered = np.empty(len(indices), dtype=np.uint32)
    _optimize_vertex_cache(ordered.ctypes.data, indices.ctypes.data, len(indices), vertex_count)
    return ordered
