"""The hierarchy of clusters of one surface: a directed acyclic graph of groups (Karis, "Nanite", SIGGRAPH 2021).

    1. Vertices are put on the part's grid, equal ones joined, triangles sorted along a curve through space and cut into
       clusters.
    2. Per level, neighbouring clusters are grouped (by the borders that they share). What several groups touch is
       locked, each group is simplified to a half (meshoptimizer: edge collapse by quadrics with attributes) and cut
       into clusters again. Where that does not help, loose pieces are left out, the smallest first; they count as an
       error of their size. A group's error adds its step's to its children's as independent errors add; its box holds
       theirs. Groups that cannot be simplified try again on the next level, with other neighbours.
    3. That ends when one small cluster is left, or nothing moves any more.

Vertices are joined in three ways. A *place* is a position on the grid: borders and locks are about places, so that
neighbours meet exactly whatever their normals are. A *joint* is a place with its texture coordinates and colour: what
is simplified. A *wedge* is a whole vertex: a joint has one for each normal that meets there. Creases of CAD parts
would, kept as seams, hold on to their triangles; so joints are simplified, and each corner then takes the wedge whose
normal fits its new triangle best, or a new one where none does.

All positions here are numbers of the grid (:mod:`farframe.asset.format`); errors and boxes come out in metres.
"""

from __future__ import annotations

import bisect
import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.format import (
    CLUSTER_DTYPE,
    GROUP_DTYPE,
    HAS_COLOR,
    HAS_UV0,
    HAS_UV1,
    MAX_CLUSTER_TRIANGLES,
    NONE,
)
from farframe.asset.geometry import MAX_AROUND, by_number, creased_normals, pack_directions
from farframe.asset.meshopt import foreign
from farframe.asset.model import VERTEX_DTYPE
from farframe.asset.pages import EncodedPage, PageContent, encode_page, streams_of
from farframe.asset.rows import gathered, stacked, words

GROUP_SIZE = 8
"""Clusters that are merged at a time, about; the library may take up to 11."""

CACHE_SIZE = 16
"""Vertices that a graphics processor keeps, about, for the order of triangles."""

PAGE_BYTES = 512 << 10
"""A page is closed when its clusters take this much decoded: about 128 KB coded."""

SHARED_PAGE_BYTES = 256 << 10
"""Surfaces that take no more than this share pages with others."""

MIN_TRIANGLES = 64
"""Surfaces of fewer triangles are not simplified further: they cost next to nothing."""

MIN_GAIN = 0.85
"""A group that keeps more than this share of its triangles is stuck."""

MAX_KEPT = 0.97
"""Levels that keep more than this share of the triangles are the last."""

MAX_RELATIVE_ERROR = 0.25
"""How far one step may move a surface, in parts of the whole part's extent."""

EDGE_ERRORS = (0.15, 0.4)
USUAL_FACTOR = 2.0
"""How far a step may move a surface of many groups, in edges of its triangles: so many times what is usual on that
level, but within these bounds (usual are 0.03 to 0.3). A group that would move further is held by what is locked around
it, and its error would be claimed by all that is coarser, everywhere; on the next level it has other neighbours."""

SAMPLED_FACES = 8
"""Of so many triangles one is looked at to see how long edges are."""

MANY_GROUPS = 8
"""Levels of fewer groups are near the top, where triangles are as large as what they stand for. What is left to another
build is not at its top, however few groups there are."""

HELD_SHARE = 0.8
"""After a level that keeps more than this share of its triangles, the next one may move as far as it must."""

NORMAL_WEIGHT = 2.0
"""A normal that is off by 1 counts as much as a place that is off by two of a triangle's edges: with less, flat faces
take on the shade of the bevels beside them (rounded boxes differ twice as much from the full model at 0.5, in as many
triangles; closed surfaces without flat parts do not care)."""

UV_WEIGHT = 0.25
"""A texture that slides by a metre counts as much as a surface that moves by a quarter of one."""

COLOR_WEIGHT = 1.0
FITTING_COSINE = 0.906
"""A corner takes a wedge whose normal is within 25 degrees of its triangle's."""

_SIZE, _POINTER, _FLOAT = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_float
_ERROR_ABSOLUTE = 1 << 2

_simplify = foreign(
    "meshopt_simplifyWithAttributes",
    _SIZE,
    _POINTER,  # destination
    _POINTER,  # indices
    _SIZE,
    _POINTER,  # positions
    _SIZE,
    _SIZE,
    _POINTER,  # attributes
    _SIZE,
    _POINTER,  # weights
    _SIZE,
    _POINTER,  # locks
    _SIZE,
    _FLOAT,
    ctypes.c_uint,
    ctypes.POINTER(_FLOAT),
)
_partition = foreign("meshopt_partitionClusters", _SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE, _SIZE)
_spatial_sort = foreign("meshopt_spatialSortTriangles", None, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE)
_cache_order = foreign("meshopt_optimizeVertexCacheFifo", None, _POINTER, _POINTER, _SIZE, _SIZE, ctypes.c_uint)
_fetch_remap = foreign("meshopt_optimizeVertexFetchRemap", _SIZE, _POINTER, _POINTER, _SIZE, _SIZE)
_vertex_remap = foreign("meshopt_generateVertexRemap", _SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE)
_extent = foreign("meshopt_simplifyScale", _FLOAT, _POINTER, _SIZE, _SIZE)


class _Bounds(ctypes.Structure):
    """What the library says of a cluster: a sphere, and the cone of its normals, rounded to the safe side."""

    _fields_ = (
        ("sphere", _FLOAT * 4),
        ("apex", _FLOAT * 3),
        ("axis", _FLOAT * 3),
        ("cutoff", _FLOAT),
        ("cone", ctypes.c_int8 * 4),
    )


_cluster_bounds = foreign("meshopt_computeClusterBounds", _Bounds, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE)

_Ids = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a part's places are: ``origin + step * integer``, metres."""

    origin: NDArray[np.float64]
    step: float

    def snap(self, positions: NDArray[np.float32]) -> NDArray[np.int32]:
        """The nearest places of (n, 3) positions."""
        return np.rint((positions.astype(np.float64) - self.origin) / self.step).astype(np.int32)

    def metres(self, places: NDArray[Any]) -> NDArray[np.float32]:
        """Places in part space, as readers compute them. Monotone, so boxes stay boxes."""
        return (self.origin + self.step * places.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class SurfaceStyle:
    """What a part's look asks of its simplification.

    ``keep_uv`` and ``keep_color``: whether they may be seen, and so matter. ``extent``: the part's largest side, in
    metres. A level whose error exceeds ``thin_error`` claims at least ``thin_floor``: lettering and labels would sink
    into what they lie on long before they are a pixel off.
    """

    keep_uv: bool
    keep_color: bool
    extent: float
    thin_error: float = np.inf
    thin_floor: float = 0.0


@dataclass(slots=True)
class Cluster:
    """Triangles as wedges (3k,); the group that made them, its error, and a box of what they stand for (grid)."""

    corners: _Ids
    producer: int
    error: float
    low: NDArray[np.int64]
    high: NDArray[np.int64]


@dataclass(slots=True)
class Built:
    """A finished graph.

    Rows are as :class:`~farframe.asset.container.AssetWriter` takes them; ``page`` in groups counts pages from 0. Small
    surfaces have no page but ``content``, to share one. ``rest``: the clusters that no group replaces, if they were
    left for another build.
    """

    groups: NDArray[np.void]
    clusters: NDArray[np.void]
    pages: list[EncodedPage]
    content: PageContent | None = None
    rest: list[Cluster] = field(default_factory=list)
    levels: int = 0


@dataclass(slots=True)
class _Packed:
    """Some clusters as a page holds them."""

    content: PageContent
    rows: NDArray[np.void]


class Surface:
    """One part's (or one block's) vertices, joined, and its triangles.

    ``vertices`` (n,) of VERTEX_DTYPE, ``indices`` (3m,) into them; ``streams``: those that differ from the standard, if
    they are known. Triangles without area on the grid are left out.
    """

    def __init__(
        self,
        vertices: NDArray[np.void],
        indices: NDArray[Any],
        grid: Grid,
        style: SurfaceStyle,
        streams: int | None = None,
    ) -> None:
        rows = np.array(vertices, VERTEX_DTYPE)
        # The grid's numbers take the place of the positions: rows are then equal if their places are.
        self._place_view(rows)[:] = grid.snap(rows["position"])
        wedge = self._take(rows, grid, style, streams)
        corners = wedge.take(indices).reshape(-1, 3)
        first, second, third = np.ascontiguousarray(self.place.take(corners).T)
        sound = (first != second) & (second != third) & (third != first)
        self.corners: _Ids = np.ascontiguousarray(corners if sound.all() else corners[sound]).reshape(-1)
        self._describe()

    @classmethod
    def of_clusters(cls, rows: NDArray[np.void], clusters: list[Cluster], grid: Grid, style: SurfaceStyle) -> Surface:
        """A surface of clusters that others built, whose corners count among ``rows``: vertices with places instead of
        positions, as :attr:`rows`. The clusters' corners are numbered anew."""
        surface = cls.__new__(cls)
        wedge = surface._take(rows, grid, style)
        for cluster in clusters:
            cluster.corners = wedge[cluster.corners]
        surface.corners = (
            np.concatenate([cluster.corners for cluster in clusters]) if clusters else np.empty(0, np.uint32)
        )
        surface._describe()
        return surface

    def _take(self, rows: NDArray[np.void], grid: Grid, style: SurfaceStyle, streams: int | None = None) -> _Ids:
        """Join equal vertices, which have places instead of positions; for each its wedge."""
        self.grid = grid
        self.style = style
        self.streams = streams_of(rows) if streams is None else streams
        wedge, rows = _joined(rows)
        self.rows = rows
        """(w,) of VERTEX_DTYPE; the first 12 bytes hold the place as int32."""
        places = np.ascontiguousarray(self._place_view(rows))
        self.place, _ = _joined(places.view(np.dtype((np.void, 12))).reshape(-1))
        self.joint = self.place
        columns = [
            name for name, kept in (("uv0", style.keep_uv), ("uv1", style.keep_uv), ("color", style.keep_color)) if kept
        ]
        columns = [name for name in columns if self.streams & _STREAM[name]]
        if columns:
            key = [
                places,
                *(np.ascontiguousarray(rows[name]).view(np.int32).reshape(len(rows), -1) for name in columns),
            ]
            packed = np.concatenate(key, axis=1)
            self.joint, _ = _joined(packed.view(np.dtype((np.void, 4 * packed.shape[1]))).reshape(-1))
        self.places = places.astype(np.float32)
        """(w, 3): where each wedge is, on the grid, whose numbers fit."""
        self.normals = _unit_normals(rows)
        self.count = len(rows)
        """How many wedges there are; the arrays may have room for more."""
        return wedge

    @staticmethod
    def _place_view(rows: NDArray[np.void]) -> NDArray[np.int32]:
        view: NDArray[np.int32] = rows.view(_PLACED)["place"]
        return view

    def _describe(self) -> None:
        """Decide from the triangles which attributes count, and how."""
        rows, style = self.rows, self.style
        joints = int(self.joint.max(initial=0)) + 1
        columns: list[NDArray[np.float32]] = []
        self._uv_columns = 0
        self._creased = len(rows) > 1.05 * joints
        if not self._creased:
            columns.append(self.normals)
        if style.keep_uv:
            both = [rows[name] for name in ("uv0", "uv1") if self.streams & _STREAM[name]]
            columns += both
            self._uv_columns = 2 * len(both)
        self._colored = style.keep_color and len(rows) > 0 and bool((rows["color"] != rows["color"][:1]).any())
        if self._colored:
            columns.append(rows["color"].astype(np.float32) * np.float32(1 / 255))
        self._attributes = np.empty((joints, sum(column.shape[1] for column in columns)), np.float32)
        if columns:
            self._attributes[self.joint] = np.concatenate(columns, axis=1)
        self._steps_per_uv = self._texture_scale() if self._uv_columns else 0.0

    @functools.cached_property
    def _side_and_truth(self) -> tuple[float, bool]:
        """On which side of its triangles the surface's normals are (1 or -1), and whether they follow it at all."""
        triangles = self.corners.reshape(-1, 3)
        sample = triangles[:: len(triangles) // 256 + 1].reshape(-1)
        faces, length = _faces(self.places, sample)
        corners = self.normals[sample].reshape(-1, 3, 3)
        with np.errstate(invalid="ignore", divide="ignore"):
            fit = np.einsum("tki,ti->t", corners, faces) / (3.0 * length)
        agreeing, opposed = (int(np.count_nonzero(sign * fit > FITTING_COSINE)) for sign in (1, -1))
        return -1.0 if opposed > agreeing else 1.0, 2 * max(agreeing, opposed) > int(np.count_nonzero(length))

    def open_places(self) -> NDArray[np.bool_]:
        """The places on open edges: where each place's edges that leave and that come do not cancel out.

        Neighbours count as random numbers whose sums are compared; that two sums are equal by chance is as unlikely as
        a fault of memory. Sums of so few 40-bit numbers are exact.
        """
        places = int(self.place.max(initial=0)) + 1
        marks = np.random.default_rng(0x5EED).integers(1, 1 << 40, places).astype(np.float64)
        corners = self.place[self.corners].reshape(-1, 3)
        balance = np.zeros(places)
        for side in range(3):
            begin, end = corners[:, side], corners[:, (side + 1) % 3]
            balance += np.bincount(begin, marks[end], places)
            balance -= np.bincount(end, marks[begin], places)
        flags: NDArray[np.bool_] = balance != 0.0
        return flags

    def _texture_scale(self) -> float:
        """How many steps of the grid a unit of texture coordinates is long, about."""
        triangles = self.corners.reshape(-1, 3)
        sample = triangles[:: len(triangles) // 4096 + 1].reshape(-1)
        _, twice_area = _faces(self.places, sample)
        uv = self.rows["uv0"][sample].reshape(-1, 3, 2).astype(np.float64)
        a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
        flat = float(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum())
        return float(np.sqrt(twice_area.sum() / flat)) if flat > 0.0 else 0.0

    def weights(self, triangles: int, extent: float) -> NDArray[np.float32]:
        """How much attributes count, in parts of a group's extent (steps), for a group of so many triangles."""
        edge = 1.0 / np.sqrt(max(triangles, 1))
        found: list[float] = []
        if not self._creased:
            found += [NORMAL_WEIGHT * edge] * 3
        found += [UV_WEIGHT * self._steps_per_uv / max(extent, 1.0)] * self._uv_columns
        if self._colored:
            found += [COLOR_WEIGHT * edge] * 4
        return np.array(found, np.float32)

    def first_clusters(self) -> list[Cluster]:
        """The full surface, cut into clusters."""
        count = len(self.corners)
        if not count:
            return []
        ordered = np.empty(count, np.uint32)
        positions = self.places
        _spatial_sort(ordered.ctypes.data, self.corners.ctypes.data, count, positions.ctypes.data, len(positions), 12)
        self.corners = ordered
        return self._cut(ordered, NONE, 0.0, None, None)

    def _cut(
        self,
        corners: _Ids,
        producer: int,
        error: float,
        low: NDArray[np.int64] | None,
        high: NDArray[np.int64] | None,
    ) -> list[Cluster]:
        """Sorted triangles as clusters of equal size. Without a box each gets its own."""
        triangles = len(corners) // 3
        pieces = -(-triangles // MAX_CLUSTER_TRIANGLES)
        ends = (np.arange(pieces + 1) * triangles // pieces) * 3
        if low is None or high is None:
            places = np.ascontiguousarray(self.places.take(corners, axis=0).T)
            lows = np.minimum.reduceat(places, ends[:-1], axis=1).T.astype(np.int64)
            highs = np.maximum.reduceat(places, ends[:-1], axis=1).T.astype(np.int64)
        else:
            lows, highs = np.broadcast_to(low, (pieces, 3)), np.broadcast_to(high, (pieces, 3))
        return [Cluster(corners[ends[i] : ends[i + 1]], producer, error, lows[i], highs[i]) for i in range(pieces)]

    def build(
        self,
        clusters: list[Cluster],
        *,
        first_group: int = 0,
        locked: NDArray[np.bool_] | None = None,
        max_levels: int = 64,
        keep_rest: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> Built:
        """Levels over ``clusters``. ``first_group`` is the number of the first group that is made; ``locked`` (places)
        may not move at any level. With ``keep_rest`` the coarsest clusters are handed back and not put on pages.
        ``check`` is called between groups and may raise."""
        builder = _Levels(self, first_group, check)
        return builder.run(clusters, locked, max_levels, keep_rest)

    def add_wedges(self, rows: NDArray[np.void], joint: NDArray[Any], place: NDArray[Any]) -> _Ids:
        """New vertices, in old places; their numbers."""
        first, end = self.count, self.count + len(rows)
        if end > len(self.rows):
            # Room for as many again, so that not every addition copies everything.
            room = end - len(self.rows) + len(self.rows) // 2
            self.rows = stacked([self.rows, np.empty(room, VERTEX_DTYPE)], VERTEX_DTYPE)
            self.joint = np.concatenate([self.joint, np.empty(room, np.uint32)])
            self.place = np.concatenate([self.place, np.empty(room, np.uint32)])
            self.places = np.concatenate([self.places, np.empty((room, 3), np.float32)])
            self.normals = np.concatenate([self.normals, np.empty((room, 3), np.float32)])
        words(self.rows)[first:end] = words(rows)
        self.joint[first:end] = joint
        self.place[first:end] = place
        self.places[first:end] = self._place_view(rows)
        self.normals[first:end] = _unit_normals(rows)
        self.count = end
        return np.arange(first, end, dtype=np.uint32)


_STREAM = {"uv0": HAS_UV0, "uv1": HAS_UV1, "color": HAS_COLOR}
_PLACED = np.dtype({"names": ["place"], "formats": [("<i4", 3)], "offsets": [0], "itemsize": VERTEX_DTYPE.itemsize})


class _Levels:
    """The work of :meth:`Surface.build`."""

    def __init__(self, surface: Surface, first_group: int, check: Callable[[], None]) -> None:
        self._surface = surface
        self._first_group = first_group
        self._check = check
        self._joint_scratch = np.zeros(int(surface.joint.max(initial=0)) + 1, np.int32)
        self._wedge_scratch = np.zeros(len(surface.rows) + 1024, np.int32)
        self._group_rows: list[NDArray[np.void]] = []
        self._open: list[_Packed] = []
        self._open_bytes = 0
        self._pages: list[EncodedPage] = []
        self._cluster_rows: list[NDArray[np.void]] = []

    def run(self, clusters: list[Cluster], locked: NDArray[np.bool_] | None, max_levels: int, keep_rest: bool) -> Built:
        surface = self._surface
        places = int(surface.place.max(initial=0)) + 1
        levels = 0
        limit = surface.style.extent * MAX_RELATIVE_ERROR / surface.grid.step
        patient = True
        while levels < max_levels and clusters:
            total = sum(len(cluster.corners) for cluster in clusters) // 3
            if total < MIN_TRIANGLES:
                break
            lengths = np.array([len(cluster.corners) for cluster in clusters])
            all_places = surface.place.take(np.concatenate([cluster.corners for cluster in clusters]))
            groups = _grouped(lengths, all_places, places)
            lock = np.zeros(places, np.uint8) if locked is None else locked.astype(np.uint8)
            if len(groups) > 1:
                _lock_shared(lock, lengths, groups, all_places)
            del all_places
            left: list[Cluster] = []
            usual: list[float] = []
            held = patient and (len(groups) >= MANY_GROUPS or keep_rest)
            made = 0
            for members in groups:
                self._check()
                children = [clusters[i] for i in members]
                produced = self._step(children, lock, limit, usual if held else None)
                if produced is None:
                    left += children
                else:
                    left += produced
                    made += 1
            if not made and not held:
                break
            clusters = left
            levels += bool(made)
            # Few groups that get on are no reason to try all others over and over.
            kept = sum(len(cluster.corners) for cluster in clusters) // 3 / total
            if kept > MAX_KEPT and not held:
                break
            patient = kept <= HELD_SHARE
            # A page must not hold groups of two levels, unless it holds all coarser ones: it could need itself.
            if sum(len(cluster.corners) for cluster in clusters) // 3 > 2 * GROUP_SIZE * MAX_CLUSTER_TRIANGLES:
                self._close_page()
        if not keep_rest and clusters:
            for start in range(0, len(clusters), GROUP_SIZE):
                self._put(clusters[start : start + GROUP_SIZE], NONE)
        content = None
        # What begins with other groups belongs to a part that has pages already.
        if not self._pages and not self._first_group and not keep_rest and self._open_bytes <= SHARED_PAGE_BYTES:
            content, rows = self._taken()
            self._cluster_rows.append(rows)
        self._close_page()
        return Built(
            stacked(self._group_rows, GROUP_DTYPE),
            stacked(self._cluster_rows, CLUSTER_DTYPE),
            self._pages,
            content,
            clusters if keep_rest else [],
            levels + 1,
        )

    def _step(
        self, children: list[Cluster], lock: NDArray[np.uint8], limit: float, usual: list[float] | None
    ) -> list[Cluster] | None:
        """Simplify some clusters as one group; ``None`` if that does not get anywhere.

        ``limit``: how far the surface may move, in steps; ``usual``: how far others of the level did, in edges, sorted;
        this one's is added.
        """
        surface = self._surface
        corners = np.concatenate([child.corners for child in children])
        triangles = len(corners) // 3
        if triangles < MIN_TRIANGLES:
            return None
        wedge_local, wedges = _compact(corners, self._wedges_scratch())[1:]
        # Joints by their wedges, which are fewer than the corners, and appear in the same order.
        wedge_joints = surface.joint.take(wedges)
        first, joint_of, unique = _compact(wedge_joints, self._joint_scratch)
        local = joint_of.take(wedge_local)
        some = wedges.take(first)
        positions = surface.places.take(some, axis=0)
        extent = float(_extent(positions.ctypes.data, len(positions), 12))
        attributes = surface._attributes.take(unique, axis=0)
        weights = surface.weights(triangles, extent)
        edge = 1.0
        if usual is not None:
            # A group's extent would not do: some are of pieces that lie far apart.
            _, twice_area = _faces(positions, local.reshape(-1, 3)[::SAMPLED_FACES].reshape(-1))
            edge = max(float(np.sqrt(0.5 * twice_area.mean())), 1.0)
            least, most = EDGE_ERRORS
            bound = USUAL_FACTOR * usual[len(usual) // 2] if len(usual) >= MANY_GROUPS else most
            limit = min(limit, min(max(bound, least), most) * edge)
        some_places = surface.place.take(some)
        locks = lock.take(some_places)
        share = 0.5 if len(children) > 1 else 1 / 3
        target = max(int(triangles * share), 32) * 3
        out = np.empty(len(corners), np.uint32)
        error = _FLOAT(0.0)
        columns = attributes.shape[1]
        count = _simplify(
            out.ctypes.data,
            local.ctypes.data,
            len(local),
            positions.ctypes.data,
            len(positions),
            12,
            attributes.ctypes.data if columns else None,
            4 * columns,
            weights.ctypes.data if columns else None,
            columns,
            locks.ctypes.data,
            target,
            limit,
            _ERROR_ABSOLUTE,
            ctypes.byref(error),
        )
        moved = float(error.value)
        if usual is not None:
            bisect.insort(usual, moved / edge)
        if count > MIN_GAIN * len(corners) or count < 3:
            lasting = _without_specks(some_places.take(local), positions.take(local, axis=0), lock, target)
            if lasting is None:
                return None
            kept, moved = lasting
            out = np.ascontiguousarray(local[kept])
            count = len(out)
        simpler = np.empty(count, np.uint32)
        _spatial_sort(simpler.ctypes.data, out.ctypes.data, count, positions.ctypes.data, len(positions), 12)
        if len(wedges) == len(unique):
            result = some.take(simpler)
        else:
            result = self._fit(simpler, positions, wedges, joint_of, some)
        own = moved * surface.grid.step
        worst = max(child.error for child in children)
        group_error = float(np.hypot(worst, own))
        if group_error > surface.style.thin_error:
            group_error = max(group_error, surface.style.thin_floor)
        # As the file says it, so that what is compared with it later is never a rounding smaller.
        group_error = max(float(np.float32(group_error)), worst)
        low = np.min([child.low for child in children], axis=0)
        high = np.max([child.high for child in children], axis=0)
        group = self._first_group + len(self._group_rows)
        row = np.zeros(1, GROUP_DTYPE)
        row["bounds_min"], row["bounds_max"] = surface.grid.metres(low), surface.grid.metres(high)
        row["error"] = group_error
        row["page"] = self._put(children, group, (wedge_local, wedges))
        self._group_rows.append(row)
        return surface._cut(result, group, group_error, low, high)

    def _wedges_scratch(self) -> NDArray[np.int32]:
        if len(self._wedge_scratch) < len(self._surface.rows):
            self._wedge_scratch = np.zeros(len(self._surface.rows) * 3 // 2, np.int32)
        return self._wedge_scratch

    def _fit(
        self,
        simpler: _Ids,
        positions: NDArray[np.float32],
        wedges: _Ids,
        joint_of: _Ids,
        some: _Ids,
    ) -> _Ids:
        """For each corner the wedge of its joint whose normal fits the corner's triangle best, or a new one.

        ``simpler`` are local numbers of joints, whose first wedges ``some`` are; ``joint_of`` is that of each wedge.
        """
        surface = self._surface
        # Wedges sorted by their joint's local number.
        order, starts = by_number(joint_of, len(some))
        by_joint = wedges.take(order)
        faces, length = _faces(positions, simpler)
        side, true_normals = surface._side_and_truth
        faces *= side
        unit = (faces / np.where(length > 0.0, length, 1.0)[:, None]).astype(np.float32)
        at_corner = np.repeat(unit, 3, axis=0)
        begin, end = starts[simpler], starts[simpler + 1]
        best = by_joint[begin]
        best_fit = np.einsum("ij,ij->i", surface.normals.take(best, axis=0), at_corner)
        for step in range(1, min(int((end - begin).max(initial=0)), MAX_AROUND)):
            more = np.flatnonzero(begin + step < end)
            candidates = by_joint[begin[more] + step]
            fit = np.einsum("ij,ij->i", surface.normals.take(candidates, axis=0), at_corner.take(more, axis=0))
            better = fit > best_fit[more]
            best[more[better]] = candidates[better]
            best_fit[more[better]] = fit[better]
        misfits = np.flatnonzero((best_fit < FITTING_COSINE) & np.repeat(length > 0.0, 3))
        if not len(misfits) or not true_normals or not surface._creased:
            return best
        normals = pack_directions(creased_normals(simpler.astype(np.intp), misfits, faces, unit))
        x, y, z = normals[:, :3].T.astype(np.int64) + 128
        key = (simpler[misfits].astype(np.int64) << 24) + (x << 16) + (y << 8) + z
        _, chosen, which = np.unique(key, return_index=True, return_inverse=True)
        models = best[misfits[chosen]]
        rows = gathered(surface.rows, models)
        rows["normal"] = normals[chosen]
        added = surface.add_wedges(rows, surface.joint[models], surface.place[models])
        best[misfits] = added[which.reshape(-1)]
        return best

    def _put(self, clusters: list[Cluster], consumer: int, compact: tuple[_Ids, _Ids] | None = None) -> int:
        """Put clusters, all that one group consumes, on a page; its number. ``compact``: see :meth:`_pack`.

        A page's groups always come before those that consume what they make, so no two pages can need each other.
        """
        packed = self._pack(clusters, consumer, compact)
        size = packed.content.decoded_bytes
        if self._open_bytes and self._open_bytes + size > PAGE_BYTES:
            self._close_page()
        self._open.append(packed)
        self._open_bytes += size
        return len(self._pages)

    def _close_page(self) -> None:
        if not self._open:
            return
        joined, rows = self._taken()
        data = encode_page(joined, self._surface.streams)
        self._pages.append(EncodedPage(data, len(joined.grid), len(joined.indices), len(rows)))
        self._cluster_rows.append(rows)

    def _taken(self) -> tuple[PageContent, NDArray[np.void]]:
        """What is on the open page, which then is empty."""
        contents = [packed.content for packed in self._open]
        rows = stacked([packed.rows for packed in self._open], CLUSTER_DTYPE)
        self._open, self._open_bytes = [], 0
        return contents[0] if len(contents) == 1 else _concatenated(contents), rows

    def _pack(self, clusters: list[Cluster], consumer: int, compact: tuple[_Ids, _Ids] | None) -> _Packed:
        """Clusters as a page holds them: each with vertices of its own, in the order of use.

        ``compact``: the numbers of all corners' wedges among those that occur, and these, if they are known.
        """
        surface = self._surface
        count = len(clusters)
        counts = np.array([len(cluster.corners) for cluster in clusters])
        if compact is None:
            corners = np.concatenate([cluster.corners for cluster in clusters])
            compact = _compact(corners, self._wedges_scratch())[1:]
        local, wedges = compact
        # A vertex that several clusters use becomes one for each. They are numbered as they come, so by cluster.
        if count > 1:
            local = np.repeat(np.arange(count, dtype=np.uint32) * np.uint32(len(wedges)), counts) + local
        slots = count * len(wedges)
        number = np.empty(slots, np.uint32)
        vertex_count = _fetch_remap(number.ctypes.data, local.ctypes.data, len(local), slots)
        indices = number.take(local)
        ordered = np.empty_like(indices)
        _cache_order(ordered.ctypes.data, indices.ctypes.data, len(indices), vertex_count, CACHE_SIZE)
        remap = np.empty(vertex_count, np.uint32)
        _fetch_remap(remap.ctypes.data, ordered.ctypes.data, len(ordered), vertex_count)
        indices = remap.take(ordered)
        used = np.flatnonzero(number != NONE)
        slot = np.empty(vertex_count, np.intp)
        slot[remap.take(number.take(used))] = used
        if count > 1:
            owner = slot // len(wedges)
            vertex_counts = np.bincount(owner, minlength=count)
            slot -= owner * len(wedges)
        else:
            vertex_counts = np.array([vertex_count])
        sources = wedges.take(slot)
        vertices = gathered(surface.rows, sources)
        positions = surface.places.take(sources, axis=0)
        starts = np.cumsum(vertex_counts) - vertex_counts
        columns = np.ascontiguousarray(positions.T)
        rows = np.zeros(count, CLUSTER_DTYPE)
        rows["bounds_min"] = surface.grid.metres(np.minimum.reduceat(columns, starts, axis=1).T)
        rows["bounds_max"] = surface.grid.metres(np.maximum.reduceat(columns, starts, axis=1).T)
        rows["producer"] = [cluster.producer for cluster in clusters]
        rows["consumer"] = consumer
        rows["vertex_count"] = vertex_counts
        rows["index_count"] = counts
        rows["cone"] = _cones(positions, indices, counts)
        content = PageContent(np.ascontiguousarray(Surface._place_view(vertices)), vertices, indices)
        return _Packed(content, rows)


def _unit_normals(rows: NDArray[np.void]) -> NDArray[np.float32]:
    normals: NDArray[np.float32] = rows["normal"][:, :3].astype(np.float32) * np.float32(1 / 127)
    return normals


def _joined(rows: NDArray[Any]) -> tuple[_Ids, NDArray[Any]]:
    """Equal rows as one: for each its number among the different ones, and those, in order of appearance."""
    rows = np.ascontiguousarray(rows)
    count, size = len(rows), rows.dtype.itemsize
    remap = np.empty(count, np.uint32)
    if not count:
        return remap, rows
    unique = _vertex_remap(remap.ctypes.data, None, count, rows.ctypes.data, count, size)
    if unique == count:
        return remap, rows
    first = np.empty(unique, np.intp)
    first[remap[::-1]] = np.arange(count - 1, -1, -1)
    return remap, rows[first]


def _compact(values: NDArray[Any], scratch: NDArray[np.int32]) -> tuple[NDArray[np.intp], _Ids, NDArray[Any]]:
    """Numbers from 0 for different values, in order of appearance: where each appears first, the numbers, the values.

    ``scratch`` is as long as the largest value and may hold anything: nothing in proportion to it is done.
    """
    here = np.arange(len(values), dtype=np.int32)
    scratch[values[::-1]] = here[::-1]
    first_of = scratch.take(values)
    is_first = first_of == here
    number = np.cumsum(is_first, dtype=np.uint32) - np.uint32(1)
    first = np.flatnonzero(is_first)
    return first, number.take(first_of), values.take(first)


def _without_specks(
    corners: _Ids, places: NDArray[np.float32], lock: NDArray[np.uint8], target: int
) -> tuple[NDArray[np.bool_], float] | None:
    """Which corners to keep so that about ``target`` are left, leaving out the smallest loose pieces as a whole.

    ``corners`` (3k,) are places' numbers, ``places`` (3k, 3) where they are. Pieces that touch a locked place stay, and
    so does the largest of all. The second result is the size of the largest piece left out, in steps: that far is the
    surface from what is drawn for it. ``None`` if there is too little to leave out.
    """
    _, unique = np.unique(corners, return_inverse=True)
    triangles = unique.reshape(-1, 3)
    label = np.arange(int(triangles.max()) + 1)
    while True:
        joined = label.copy()
        np.minimum.at(joined, triangles.reshape(-1), np.repeat(label[triangles].min(axis=1), 3))
        joined = joined[joined]
        if (joined == label).all():
            break
        label = joined
    piece = label[triangles[:, 0]]
    order = np.argsort(piece, kind="stable")
    starts = np.flatnonzero(np.diff(piece[order], prepend=-1))
    boxes = places.reshape(-1, 3, 3)
    low = np.minimum.reduceat(boxes.min(axis=1)[order], starts)
    high = np.maximum.reduceat(boxes.max(axis=1)[order], starts)
    size = np.linalg.norm(high - low, axis=1)
    touching: NDArray[np.uint8] = lock[corners].reshape(-1, 3).max(axis=1)
    held = np.maximum.reduceat(touching[order], starts).astype(bool)
    held[np.argmax(size)] = True
    counts = np.diff(starts, append=len(piece))
    loose = np.flatnonzero(~held)
    loose = loose[np.argsort(size[loose], kind="stable")]
    excess = len(piece) - target // 3
    gone = loose[: int(np.searchsorted(np.cumsum(counts[loose]), excess)) + 1]
    if int(counts[gone].sum()) < (1.0 - MIN_GAIN) * len(piece):
        return None
    keep = np.ones(len(starts), bool)
    keep[gone] = False
    kept = np.empty(len(piece), bool)
    kept[order] = np.repeat(keep, counts)
    return np.repeat(kept, 3), float(size[gone].max())


def _grouped(lengths: NDArray[np.intp], all_places: _Ids, places: int) -> list[NDArray[np.intp]]:
    """Which clusters are simplified together: neighbours, by the places on their borders.

    ``lengths``: how many corners each cluster has; ``all_places``: those of all corners; ``places``: their count.
    """
    count = len(lengths)
    if count <= GROUP_SIZE + 3:
        return [np.arange(count)]
    owner = np.repeat(np.arange(count, dtype=np.int32), lengths)
    border = _shared(all_places, owner, np.zeros(places, np.uint8))
    at_border = border.take(all_places).view(bool)
    numbers = np.cumsum(border, dtype=np.uint32) - np.uint32(1)
    ids = np.ascontiguousarray(numbers[all_places[at_border]])
    counts = np.bincount(owner[at_border], minlength=count).astype(np.uint32)
    partition = np.empty(count, np.uint32)
    made = _partition(
        partition.ctypes.data,
        ids.ctypes.data,
        len(ids),
        counts.ctypes.data,
        count,
        int(numbers[-1]) + 1 if border.any() else 1,
        GROUP_SIZE,
    )
    order = np.argsort(partition, kind="stable")
    groups = np.split(order, np.searchsorted(partition[order], np.arange(1, made)))
    # Loose pieces have no neighbours by their borders: they go with others that are near, as the order of clusters is.
    groups.sort(key=lambda group: int(group[0]))
    merged: list[NDArray[np.intp]] = []
    small: list[NDArray[np.intp]] = []
    for group in groups:
        if 2 * len(group) >= GROUP_SIZE:
            merged.append(group)
            continue
        small.append(group)
        if sum(len(each) for each in small) >= GROUP_SIZE:
            merged.append(np.concatenate(small))
            small = []
    if small:
        merged.append(np.concatenate(small))
    return merged


def _shared(values: _Ids, owner: NDArray[np.int32], flags: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Set the flags of the values that several owners have."""
    last = np.empty(len(flags), np.int32)
    last[values] = owner
    flags[values[last.take(values) != owner]] = 1
    return flags


def _lock_shared(
    lock: NDArray[np.uint8], lengths: NDArray[np.intp], groups: list[NDArray[np.intp]], all_places: _Ids
) -> None:
    """Lock the places that several groups touch. The rest as of :func:`_grouped`."""
    group_of = np.empty(len(lengths), np.int32)
    for number, members in enumerate(groups):
        group_of[members] = number
    _shared(all_places, np.repeat(group_of, lengths), lock)


def _concatenated(contents: list[PageContent]) -> PageContent:
    if not contents:
        return PageContent(np.empty((0, 3), np.int32), np.empty(0, VERTEX_DTYPE), np.empty(0, np.uint32))
    vertices = [content.vertices for content in contents if content.vertices is not None]
    firsts = np.cumsum([0, *(len(each) for each in vertices)])
    return PageContent(
        np.concatenate([content.grid for content in contents]),
        stacked(vertices, VERTEX_DTYPE),
        np.concatenate(
            [content.indices + np.uint32(first) for content, first in zip(contents, firsts[:-1], strict=True)]
        ),
    )


def _faces(positions: NDArray[Any], corners: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each triangle's normal, as long as twice its area, and that length."""
    x, y, z = positions.take(corners, axis=0).astype(np.float64).reshape(-1, 3, 3).transpose(2, 1, 0)
    faces = np.empty((len(corners) // 3, 3))
    (ux, vx), (uy, vy), (uz, vz) = x[1:] - x[0], y[1:] - y[0], z[1:] - z[0]
    faces[:, 0] = uy * vz - uz * vy
    faces[:, 1] = uz * vx - ux * vz
    faces[:, 2] = ux * vy - uy * vx
    return faces, np.sqrt(np.einsum("ij,ij->i", faces, faces))


def _cones(positions: NDArray[np.float32], indices: _Ids, counts: NDArray[np.intp]) -> NDArray[np.int8]:
    """(n, 4): axis and cutoff of the cone of each cluster's normals, rounded so that none is culled too early."""
    cones = np.zeros((len(counts), 4), np.int8)
    begin, places, count = indices.ctypes.data, positions.ctypes.data, len(positions)
    for number, length in enumerate(counts.tolist()):
        cones[number] = _cluster_bounds(begin, length, places, count, 12).cone[:]
        begin += 4 * length
    cones[cones[:, 3] == 127, :3] = 0
    return cones
