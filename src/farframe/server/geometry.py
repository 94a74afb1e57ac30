"""The finest geometry of what is in the scene, for questions about it: boxes first, then pages, read when needed.

Whatever level is drawn, what is here is the full surface: of assets the clusters that nothing finer made. Everything
here runs in worker threads and touches neither the render thread nor what it has on the graphics device.

    part       its box                      in memory
    run        clusters of a part that lie in one page, their box                  tables made once for each asset
    cluster    its box                      in memory
    triangles  of a page                    read, checked and decoded when a cluster in it matters; kept for a while

What is kept of pages are positions and indices, at most :data:`KEPT_BYTES` of them; the oldest go.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.format import NONE, POINT_DTYPE, POINTS
from farframe.asset.model import Model
from farframe.render.points import SIZE_OFFSET, SIZE_STEPS

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

KEPT_BYTES = 128 << 20
"""What decoded pages may take that are kept for the next question: some 1,000 of them, 8 million triangles."""
READERS = 4
"""Pages that are read and decoded at a time, and ahead of where they are looked at."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The finest clusters of an asset's parts. Of each part they follow one another by page; those in one page are a
    run. All boxes in part space, and of points so large that the points' own size is inside.

    ``cluster`` (k,) rows of the asset's table, ``low``, ``high`` (k, 3); runs ``first`` (r + 1,) into those, ``page``
    (r,), ``run_low``, ``run_high`` (r, 3); ``part_first`` (p + 1,) into the runs.
    """

    cluster: Rows
    low: Array
    high: Array
    first: Rows
    page: Rows
    run_low: Array
    run_high: Array
    part_first: Rows

    @classmethod
    def of(cls, asset: Asset) -> Runs:
        """The runs of an asset."""
        clusters, parts = asset.clusters, asset.parts
        mine = np.flatnonzero(clusters["producer"] == NONE)
        part = clusters["part"][mine].astype(np.int64)
        page = asset.page_of_cluster[mine].astype(np.int64)
        order = np.lexsort((mine, page, part))
        mine, part, page = mine[order], part[order], page[order]
        low = clusters["bounds_min"][mine].astype(np.float64)
        high = clusters["bounds_max"][mine].astype(np.float64)
        margin = parts["step"][part].copy()
        cloud = np.flatnonzero(parts["kind"][part] == POINTS)
        if len(cloud):
            # A point reaches half its size out of its box. Sizes are not known before a page is read, but the format
            # bounds them by the error of what replaces the cluster; where nothing does, the box is all there is.
            consumer = clusters["consumer"][mine[cloud]]
            replaced = consumer != NONE
            reach = np.sqrt(((high[cloud] - low[cloud]) ** 2).sum(axis=1))
            reach[replaced] = asset.groups["error"][consumer[replaced]]
            margin[cloud] += reach
        low -= margin[:, None]
        high += margin[:, None]
        count = len(mine)
        fresh = np.ones(count, np.bool_)
        fresh[1:] = (part[1:] != part[:-1]) | (page[1:] != page[:-1])
        first = np.flatnonzero(fresh)
        return cls(
            cluster=mine,
            low=low,
            high=high,
            first=np.append(first, count),
            page=page[first],
            run_low=np.minimum.reduceat(low, first) if count else np.zeros((0, 3)),
            run_high=np.maximum.reduceat(high, first) if count else np.zeros((0, 3)),
            part_first=np.searchsorted(part[first], np.arange(len(parts) + 1)),
        )


@dataclass(frozen=True, slots=True)
class DecodedPage:
    """Of a page what queries need: ``positions`` (n, 3) float32 in part space; ``indices`` (m,) uint16 from each
    cluster's first vertex, for triangles; ``size`` (n,) uint8 codes of sizes, for points."""

    positions: NDArray[np.float32]
    indices: NDArray[np.uint16]
    size: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.positions.nbytes + self.indices.nbytes + self.size.nbytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Some geometry of a part, in part space: ``corners`` (n, 3, 3) of triangles, or ``points`` (n, 3) with their
    ``radius`` (n,)."""

    corners: Array
    points: Array
    radius: Array


_NO_CORNERS, _NO_POINTS, _NO_RADIUS = np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros(0)


def _triangles(corners: NDArray[Any]) -> Piece:
    return Piece(np.asarray(corners, np.float64).reshape(-1, 3, 3), _NO_POINTS, _NO_RADIUS)


class PartGeometry:
    """The geometry of one part of a resource."""

    def boxes(self) -> tuple[Array, Array]:
        """Lowest and highest corners (r, 3) of its runs, in part space."""
        raise NotImplementedError

    def box_of(self, runs: Rows) -> tuple[Array, Array, Rows]:
        """Lowest and highest corners (c, 3) of the clusters of some runs (n,), and where each run's begin (n + 1,)."""
        raise NotImplementedError

    def pieces(self, chosen: Sequence[tuple[int, Rows]]) -> Iterator[Piece]:
        """For each run, in this order, the geometry of the clusters that are named as :meth:`box_of` counts them,
        within the run. Raises FarframeError and OSError for what cannot be read, ValueError for what was closed."""
        raise NotImplementedError


class ModelPart(PartGeometry):
    """A part of a plain model: one run of one cluster, in memory."""

    def __init__(self, model: Model, part: int) -> None:
        self._model = model
        self._part = model.parts[part]

    def boxes(self) -> tuple[Array, Array]:
        """See :class:`PartGeometry`."""
        return np.array([self._part.bounds_min], np.float64), np.array([self._part.bounds_max], np.float64)

    def box_of(self, runs: Rows) -> tuple[Array, Array, Rows]:
        """See :class:`PartGeometry`."""
        low, high = self.boxes()
        return low[runs], high[runs], np.arange(len(runs) + 1)

    def pieces(self, chosen: Sequence[tuple[int, Rows]]) -> Iterator[Piece]:
        """See :class:`PartGeometry`."""
        model, part = self._model, self._part
        for _ in chosen:
            level = part.levels[0]
            indices = model.indices[level.first_index : level.first_index + level.index_count].astype(np.int64)
            positions = model.vertices["position"][part.first_vertex : part.first_vertex + part.vertex_count]
            yield _triangles(positions[indices])


class AssetPart(PartGeometry):
    """A part of an asset."""

    def __init__(self, geometry: Geometry, asset: Asset, runs: Runs, part: int) -> None:
        self._geometry = geometry
        self._asset = asset
        self._runs = runs
        self._first = int(runs.part_first[part])
        self._end = int(runs.part_first[part + 1])
        self._points = bool(asset.parts["kind"][part] == POINTS)

    def boxes(self) -> tuple[Array, Array]:
        """See :class:`PartGeometry`."""
        return self._runs.run_low[self._first : self._end], self._runs.run_high[self._first : self._end]

    def box_of(self, runs: Rows) -> tuple[Array, Array, Rows]:
        """See :class:`PartGeometry`."""
        starts = self._runs.first[self._first + runs]
        counts = self._runs.first[self._first + runs + 1] - starts
        places = _ranges(starts, counts)
        return self._runs.low[places], self._runs.high[places], np.append(0, np.cumsum(counts))

    def pieces(self, chosen: Sequence[tuple[int, Rows]]) -> Iterator[Piece]:
        """See :class:`PartGeometry`."""
        runs, clusters = self._runs, self._asset.clusters
        numbers = [int(runs.page[self._first + run]) for run, _ in chosen]
        for (run, places), page in zip(chosen, self._geometry.pages(self._asset, numbers), strict=True):
            rows = clusters[runs.cluster[int(runs.first[self._first + run]) + places]]
            starts = rows["first_vertex"].astype(np.int64)
            if self._points:
                chosen_vertices = _ranges(starts, rows["vertex_count"].astype(np.int64))
                size = np.exp2(page.size[chosen_vertices].astype(np.float64) / SIZE_STEPS - SIZE_OFFSET)
                yield Piece(_NO_CORNERS, page.positions[chosen_vertices].astype(np.float64), size * 0.5)
                continue
            counts = rows["index_count"].astype(np.int64)
            indices = page.indices[_ranges(rows["first_index"].astype(np.int64), counts)] + np.repeat(starts, counts)
            yield _triangles(page.positions[indices])


class Geometry:
    """Keeps the tables of assets and the pages that were read lately. Thread safe; :meth:`close` ends its readers."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._runs: weakref.WeakKeyDictionary[Asset, Runs] = weakref.WeakKeyDictionary()
        self._kept: OrderedDict[tuple[int, int], tuple[weakref.ref[Asset], DecodedPage]] = OrderedDict()
        self._bytes = 0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def kept_bytes(self) -> int:
        """What the pages take that are kept."""
        return self._bytes

    @staticmethod
    def solid(resource: Any) -> bool:
        """Whether queries find what the renderer draws: assets may be converted without that."""
        asset: Asset | None = getattr(resource, "asset", None)
        return asset is None or asset.index.collision

    def part(self, resource: Any, part: int) -> PartGeometry:
        """The geometry of a part of what the renderer draws: a resource with an ``asset``, or with a ``model``."""
        asset: Asset | None = getattr(resource, "asset", None)
        if asset is None:
            return ModelPart(resource.model, part)
        with self._lock:
            runs = self._runs.get(asset)
        if runs is None:
            runs = Runs.of(asset)
            with self._lock:
                self._runs[asset] = runs
        return AssetPart(self, asset, runs, part)

    def pages(self, asset: Asset, numbers: Sequence[int]) -> Iterator[DecodedPage]:
        """Pages, in this order; those that follow are read meanwhile. Who stops listening stops the reading."""
        waiting: dict[int, Future[DecodedPage]] = {}
        try:
            for place, number in enumerate(numbers):
                future = waiting.pop(place, None)
                page = self._find(asset, number) if future is None else None
                # Often the first page is all that is looked at.
                for ahead in range(place + 1, min(place + READERS, len(numbers)) if place else 0):
                    if ahead not in waiting and self._find(asset, numbers[ahead]) is None:
                        waiting[ahead] = self._submit(asset, numbers[ahead])
                if page is None:
                    page = self._read(asset, number) if future is None else future.result()
                yield page
        except CancelledError:
            raise ValueError("the scene was closed") from None
        finally:
            for future in waiting.values():
                future.cancel()

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._kept.clear()
            self._bytes = 0
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, asset: Asset, number: int) -> Future[DecodedPage]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(READERS - 1, thread_name_prefix="geometry")
            pool = self._pool
        return pool.submit(self._read, asset, number)

    def _find(self, asset: Asset, number: int) -> DecodedPage | None:
        with self._lock:
            kept = self._kept.get((id(asset), number))
            if kept is None or kept[0]() is not asset:
                return None
            self._kept.move_to_end((id(asset), number))
            return kept[1]

    def _read(self, asset: Asset, number: int) -> DecodedPage:
        kept = self._find(asset, number)
        if kept is not None:
            return kept
        content = asset.decode_page(number, asset.read_page(number))
        cloud = content.vertices.dtype == POINT_DTYPE
        page = DecodedPage(
            np.ascontiguousarray(content.vertices["position"]),
            content.indices.astype(np.uint16),
            np.ascontiguousarray(content.vertices["color"][:, 3]) if cloud else np.zeros(0, np.uint8),
        )
        with self._lock:
            key = (id(asset), number)
            before = self._kept.pop(key, None)
            if before is not None:
                self._bytes -= before[1].nbytes
            self._kept[key] = (weakref.ref(asset), page)
            self._bytes += page.nbytes
            while self._bytes > self._kept_bytes and self._kept:
                self._bytes -= self._kept.popitem(last=False)[1][1].nbytes
        return page


def _ranges(starts: Rows, counts: Rows) -> Rows:
    """The numbers of ranges that begin at ``starts`` (n,) and hold ``counts`` (n,), one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(starts - (ends - counts), counts), np.int64)
