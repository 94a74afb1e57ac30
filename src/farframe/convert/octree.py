"""The levels of detail of a point cloud: an octree, built out of core, in the groups and clusters of an asset.

    leaf        at most MAX_CLUSTER_POINTS points of the cloud itself
    inner node  a well-spread sample of what its children hold: one point per occupied voxel of a grid over the node,
                the one nearest to the voxel's middle, with the mean colour; at most MAX_CLUSTER_POINTS of them

An inner node is a *group* of :mod:`farframe.asset.format`: it consumes its children's clusters and produces its sample.
Its error is the sample's spacing, the voxel's side. As nodes replace their children (and do not add to them, as
Potree's do), the rule that selects clusters of triangles selects points, too.

The cloud is first scattered into the cells of a coarse octree, each small enough for memory, by counting; cells are
then sorted along a Morton curve and turned into nodes from the finest up, on all cores. What is held is a few cells,
a histogram, the rows of the tables (about 100 bytes for each 2,000 points) and the samples of the nodes above them.

The fourth byte of a point's colour becomes its size, see :func:`size_codes`.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Progress
from farframe.asset.container import AssetWriter
from farframe.asset.format import (
    CLUSTER_DTYPE,
    GROUP_DTYPE,
    HAS_COLOR,
    INSTANCE_DTYPE,
    MAX_CLUSTER_POINTS,
    NODE_DTYPE,
    NONE,
    PART_DTYPE,
    POINTS,
)
from farframe.asset.model import Material
from farframe.asset.pages import EncodedPage, PageContent, encode_page
from farframe.convert.points import BLOCK_POINTS, PointCloud

if TYPE_CHECKING:
    from farframe.convert.build import BuildOptions

GRID_BITS = 23
"""The part's grid has at most two to this many steps along the longest side of the cloud, as 32-bit floats do."""
STEPS_PER_SPACING, COARSEST_STEP = 256.0, 2.0**-12
"""A grid that is finer than this against the mean spacing, or than a quarter of a millimetre where that is coarser
still than the floats are, would only code noise."""
SORTED_BITS = 10
"""Levels that one sort of 32-bit Morton codes covers."""
SCATTERED_BITS = 7
"""Levels of the histogram by which a cloud that is too large for memory is scattered: two million cells."""
BYTES_PER_POINT = 160
"""What building the nodes over a point takes at most, all arrays counted."""
FINEST_VOXELS, FIRST_VOXELS = 128, 48
"""Most voxels along a node, and how many are tried first. A flat surface fills about ``voxels ** 2`` of them."""
SIZE_STEPS, SIZE_OFFSET = 8.0, 20.0
"""Codes of a size per factor of two, and the power of two that code 0 stands for: 2 ** -20 m, a micrometre."""
OVERLAP, SAMPLE_OVERLAP = 1.6, 1.2
"""How much larger than their mean spacing points are drawn, so that gaps close: those of the cloud, which may lie at
random, and those of a sample, which lie well spread."""

_RECORD = np.dtype([("grid", "<i4", 3), ("color", "u1", 4)])


@dataclass(frozen=True, slots=True)
class PointReport:
    """What was built: counts, bytes (of the coded pages, or of the file), the graph's depth, and seconds per step."""

    points: int
    clusters: int
    groups: int
    pages: int
    levels: int
    bytes: int
    seconds: dict[str, float]
    part: int


def size_codes(spacing: NDArray[np.floating[Any]] | float) -> NDArray[np.uint8]:
    """Bytes for sizes in metres: ``size = 2 ** (code / 8 - 20)``, rounded up, from a micrometre to 3.7 km."""
    exponent = np.log2(np.maximum(np.asarray(spacing, np.float64), 2.0**-SIZE_OFFSET)) + SIZE_OFFSET
    return np.asarray(np.clip(np.ceil(exponent * SIZE_STEPS - 1e-6), 0, 255), np.uint8)


def _spread_table() -> NDArray[np.uint32]:
    """(1024,) uint32: the bits of a number, three places apart."""
    number = np.arange(1 << SORTED_BITS, dtype=np.uint32)
    spread = np.zeros_like(number)
    for bit in range(SORTED_BITS):
        spread |= ((number >> np.uint32(bit)) & np.uint32(1)) << np.uint32(3 * bit)
    return spread


_SPREAD = _spread_table()


def _morton(cells: NDArray[np.int32]) -> NDArray[np.uint32]:
    """(n,) codes of (n, 3) cells below 1024."""
    return _SPREAD[cells[:, 0]] << np.uint32(2) | _SPREAD[cells[:, 1]] << np.uint32(1) | _SPREAD[cells[:, 2]]


def _radix_order(codes: NDArray[np.uint32]) -> NDArray[np.intp]:
    """The order that sorts 32-bit codes: two passes over 16 bits, for which numpy has a radix sort."""
    order = np.argsort((codes & np.uint32(0xFFFF)).astype(np.uint16), kind="stable")
    return np.asarray(order[np.argsort((codes >> np.uint32(16)).astype(np.uint16)[order], kind="stable")], np.intp)


_OCTANTS = np.array([[(octant >> 2) & 1, (octant >> 1) & 1, octant & 1] for octant in range(8)], np.int64)
"""(8, 3): which half of a cell along x, y and z an octant of the Morton curve lies in."""


@dataclass(slots=True)
class _Node:
    """Points that stand for a cell: of the cloud (``producer`` is NONE) or the sample that a group produced.

    ``low`` and ``high``: (3,) int32, the grid box of all points of the cloud in the cell; ``error``: the sample's
    spacing in grid steps; ``depth``: groups from here to the finest.
    """

    records: NDArray[np.void]
    producer: int
    error: float
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    depth: int


@dataclass(slots=True)
class _Graph:
    """Groups and their pages in the order in which they were made: a group follows those whose output it consumes.

    ``clusters``: per group, rows of (low, high, producer, first point, points).
    """

    step: float
    errors: list[float] = field(default_factory=list)
    boxes: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = field(default_factory=list)
    clusters: list[list[tuple[NDArray[np.int32], NDArray[np.int32], int, int, int]]] = field(default_factory=list)
    pages: list[tuple[bytes, int]] = field(default_factory=list)

    def leaf(self, records: NDArray[np.void]) -> _Node:
        """A node of points as they came."""
        grid = records["grid"]
        return _Node(records, NONE, 0.0, grid.min(axis=0), grid.max(axis=0), 0)

    def merge(self, children: list[_Node], corner: NDArray[np.int64], bits: int) -> _Node:
        """The node above ``children``, whose cell has its lower corner at ``corner`` and sides of ``2 ** bits``."""
        if len(children) == 1:
            return children[0]
        records = np.concatenate([child.records for child in children])
        chosen, voxel = _sample(records, corner, bits)
        error = max(voxel, *(child.error for child in children))
        low = np.min([child.low for child in children], axis=0)
        high = np.max([child.high for child in children], axis=0)
        group = self.add(children, records, error, low, high)
        chosen["color"][:, 3] = size_codes(error * self.step * SAMPLE_OVERLAP)
        return _Node(chosen, group, error, low, high, 1 + max(child.depth for child in children))

    def add(
        self,
        children: list[_Node],
        records: NDArray[np.void],
        error: float,
        low: NDArray[np.int32],
        high: NDArray[np.int32],
    ) -> int:
        """A group that consumes ``children``; its number. Neighbouring leaves share clusters while they fit."""
        rows = []
        first = last = 0
        producer = NONE
        for child in children:
            start, last = last, last + len(child.records)
            if child.producer == NONE:
                spacing = min(_leaf_spacing(child), error) * self.step * OVERLAP
                records["color"][start:last, 3] = size_codes(spacing)
            if start and (child.producer != NONE or producer != NONE or last - first > MAX_CLUSTER_POINTS):
                rows.append(_cluster(records, producer, first, start))
                first = start
            producer = child.producer
        rows.append(_cluster(records, producer, first, last))
        self.errors.append(error)
        self.boxes.append((low, high))
        self.clusters.append(rows)
        self.pages.append((_code(records), len(records)))
        return len(self.errors) - 1


def _cluster(
    records: NDArray[np.void], producer: int, first: int, last: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], int, int, int]:
    grid = records["grid"][first:last]
    return grid.min(axis=0), grid.max(axis=0), producer, first, last - first


def _code(records: NDArray[np.void]) -> bytes:
    grid = np.ascontiguousarray(records["grid"])
    return encode_page(PageContent(grid, None, np.empty(0, np.uint32), np.ascontiguousarray(records["color"])))


def _voxels(relative: NDArray[np.int32], count: int, bits: int) -> NDArray[np.int32]:
    """(n,) int32: in which of ``count ** 3`` voxels of a cell with sides of ``2 ** bits`` points lie."""
    cells = relative * np.int32(count) >> np.int32(bits)
    return np.asarray((cells[:, 0] * np.int32(count) + cells[:, 1]) * np.int32(count) + cells[:, 2], np.int32)


def _occupied(relative: NDArray[np.int32], count: int, bits: int) -> int:
    flags = np.zeros(count**3, np.bool_)
    flags[_voxels(relative, count, bits)] = True
    return int(np.count_nonzero(flags))


def _sample(records: NDArray[np.void], corner: NDArray[np.int64], bits: int) -> tuple[NDArray[np.void], float]:
    """A spread sample of a cell's points, and the side of its voxels in grid steps.

    The grid is the finest that keeps at most half of the points, and no more than a cluster holds.
    """
    relative = records["grid"] - corner.astype(np.int32)
    target = max(1, min(MAX_CLUSTER_POINTS, len(records) // 2))
    best, count = 1, FIRST_VOXELS
    fails = FINEST_VOXELS + 1
    for _ in range(8):
        occupied = _occupied(relative, count, bits)
        if occupied <= target:
            best = count
        else:
            fails = count
        # Between the square that a surface fills and the cube that a volume does; then narrowed down.
        guess = int(count * (target / occupied) ** 0.45)
        count = min(max(guess, best + 1), fails - 1)
        if count <= best or 0.9 * target < occupied <= target:
            break
    voxel = _voxels(relative, best, bits).astype(np.int64)
    inside = (relative.astype(np.float32) * np.float32(best / 2.0**bits)) % np.float32(1.0) - np.float32(0.5)
    distance = np.einsum("ij,ij->i", inside, inside)
    # Voxel (21 bits), distance from its middle (16) and the point's number (20) sort as one number.
    keys = np.sort(voxel << 36 | (distance * np.float32(65535 / 0.76)).astype(np.int64) << 20 | np.arange(len(records)))
    index = keys & 0xFFFFF
    starts = np.flatnonzero(np.diff(keys >> 36, prepend=-1))
    chosen = records[index[starts]]
    sums = np.add.reduceat(records["color"][index, :3].astype(np.int32), starts, axis=0)
    counts = np.diff(starts, append=len(records))[:, None]
    chosen["color"][:, :3] = (sums + counts // 2) // counts
    return chosen, 2.0**bits / best


def _leaf_spacing(node: _Node) -> float:
    """Grid steps between neighbours, as if the leaf's points lay on a surface: the root of the area for each.

    The area is that of the occupied voxels of a grid fine enough for a few points in each (box counting).
    """
    count = len(node.records)
    extent = int((node.high - node.low).max()) + 1
    if count < 16:
        return float("inf")
    bits = (extent - 1).bit_length()
    relative = node.records["grid"] - node.low
    voxels = max(1, int((count / 4.0) ** 0.5))
    while True:
        occupied = _occupied(relative, voxels, bits)
        if occupied * 6 >= count or voxels >= FINEST_VOXELS // 2:
            return float((2.0**bits / voxels) * (occupied / count) ** 0.5)
        voxels = min(2 * voxels, FINEST_VOXELS // 2)


def _subtree(graph: _Graph, records: NDArray[np.void], corner: NDArray[np.int64], bits: int) -> _Node:
    """The node over points in memory, all within the cell at ``corner`` with sides of ``2 ** bits``."""
    if len(records) <= MAX_CLUSTER_POINTS:
        return graph.leaf(records)
    if bits == 0:
        # All in one place: there is nothing left to tell them apart by but their order.
        pieces = np.array_split(np.arange(len(records)), 8)
        return graph.merge([_subtree(graph, records[piece], corner, 0) for piece in pieces], corner, 0)
    levels = min(bits, SORTED_BITS)
    cells = (records["grid"] - corner.astype(np.int32)) >> np.int32(bits - levels)
    codes = _morton(cells)
    order = _radix_order(codes)
    return _descend(graph, records[order], codes[order], corner, bits, levels)


def _descend(
    graph: _Graph,
    records: NDArray[np.void],
    codes: NDArray[np.uint32],
    corner: NDArray[np.int64],
    bits: int,
    levels: int,
) -> _Node:
    """As :func:`_subtree`, of points sorted by Morton codes that still tell ``levels`` of the cell's levels apart."""
    if len(records) <= MAX_CLUSTER_POINTS:
        return graph.leaf(records)
    if levels == 0:
        return _subtree(graph, records, corner, bits)
    shift = 3 * (levels - 1)
    base = int(codes[0]) >> (shift + 3) << (shift + 3)
    edges = np.searchsorted(codes, np.array([base + (octant << shift) for octant in range(1, 8)], np.uint32))
    bounds = [0, *edges.tolist(), len(codes)]
    children = [
        _descend(
            graph,
            records[first:last],
            codes[first:last],
            corner + (_OCTANTS[octant] << (bits - 1)),
            bits - 1,
            levels - 1,
        )
        for octant, (first, last) in enumerate(itertools.pairwise(bounds))
        if last > first
    ]
    return graph.merge(children, corner, bits)


def _grid(side: float, count: int) -> tuple[float, int]:
    """Step of the grid for a cloud of ``count`` points whose longest side is ``side`` metres, and the bits of a place
    on it.

    The step is a power of two, so that its multiples are exact.
    """
    side = max(side, 2.0**-SIZE_OFFSET)
    wanted = min(side / count**0.5 / STEPS_PER_SPACING, COARSEST_STEP)
    # One bit is left over, for the origin is rounded down.
    finest = 2.0 ** (math.ceil(math.log2(side)) + 1 - GRID_BITS)
    step = max(2.0 ** math.floor(math.log2(wanted)), finest)
    return step, max(1, min(GRID_BITS, math.ceil(math.log2(side / step + 2.0))))


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell whose points lie one after the other in a file: ``first`` and ``count``, corner and bits in grid steps."""

    first: int
    count: int
    corner: NDArray[np.int64]
    bits: int


class _Builder:
    """Builds the graph of one cloud. ``memory_points``: how many points may be in work at a time, over all workers."""

    def __init__(
        self, cloud: PointCloud, folder: Path, *, workers: int, memory_points: int, told: Callable[[int], None]
    ) -> None:
        self._cloud = cloud
        self._folder = folder
        self._workers = workers
        self._limit = max(4 * MAX_CLUSTER_POINTS, memory_points // (workers + 1))
        self._told = told
        low, high = cloud.bounds_min, cloud.bounds_max
        self.step, self._bits = _grid(float(np.max(high - low)), len(cloud.points))
        self.origin = np.floor(low / self.step) * self.step
        self.graph = _Graph(self.step)
        self._spool: IO[bytes] = (folder / "pages").open("w+b")
        self._spooled: list[tuple[int, int]] = []
        self.bytes = 0

    def _records(self, first: int, last: int) -> NDArray[np.void]:
        """Points of the cloud on the grid."""
        points = self._cloud.block(first, last)
        records = np.empty(len(points), _RECORD)
        steps = np.rint((points["position"].astype(np.float64) - self.origin) / self.step)
        records["grid"] = np.clip(steps, 0, (1 << self._bits) - 1)
        records["color"] = points["color"]
        return records

    def build(self) -> _Node:
        """The root. Its points are not in any page yet."""
        whole = _Cell(0, len(self._cloud.points), np.zeros(3, np.int64), self._bits)
        with ThreadPoolExecutor(self._workers, "octree") as pool:
            return self._cell(whole, self._records, 0, pool)

    def _cell(
        self,
        cell: _Cell,
        read: Callable[[int, int], NDArray[np.void]],
        depth: int,
        pool: ThreadPoolExecutor,
    ) -> _Node:
        """The node over a cell of any size; ``read`` gives its points."""
        if cell.count <= self._limit:
            return self._take(*self._in_memory(read, cell))
        if cell.bits == 0:
            return self._same_place(cell, read)
        levels = min(cell.bits, SCATTERED_BITS)
        shift = cell.bits - levels

        def bins(records: NDArray[np.void]) -> NDArray[np.uint32]:
            return _morton((records["grid"] - cell.corner.astype(np.int32)) >> np.int32(shift))

        histogram = np.zeros(8**levels, np.int64)
        for first, last in _blocks(cell.first, cell.count):
            histogram += np.bincount(bins(read(first, last)), minlength=8**levels)
        sums = [histogram]
        for _ in range(levels):
            sums.insert(0, sums[0].reshape(-1, 8).sum(axis=1))
        cells: list[_Cell] = []
        of_bin = np.zeros(8**levels, np.uint32)

        def plan(level: int, code: int, corner: NDArray[np.int64]) -> None:
            """Split until cells fit, in the curve's order."""
            count = int(sums[level][code])
            bits = cell.bits - level
            if not count:
                return
            if count <= self._limit or level == levels:
                width = 8 ** (levels - level)
                of_bin[code * width : (code + 1) * width] = len(cells)
                first = cells[-1].first + cells[-1].count if cells else 0
                cells.append(_Cell(first, count, corner, bits))
                return
            for octant in range(8):
                plan(level + 1, 8 * code + octant, corner + (_OCTANTS[octant] << (bits - 1)))

        plan(0, 0, cell.corner)
        path = self._folder / f"cells-{depth}"
        self._scatter(path, cell, cells, read, lambda records: of_bin[bins(records)])

        def read_scattered(first: int, last: int) -> NDArray[np.void]:
            return np.fromfile(path, _RECORD, last - first, offset=first * _RECORD.itemsize)

        nodes = self._nodes(cells, read_scattered, depth, pool)

        def assemble(level: int, code: int, corner: NDArray[np.int64]) -> _Node | None:
            count = int(sums[level][code])
            bits = cell.bits - level
            if not count:
                return None
            if count <= self._limit or level == levels:
                return next(nodes)
            children = []
            for octant in range(8):
                child = assemble(level + 1, 8 * code + octant, corner + (_OCTANTS[octant] << (bits - 1)))
                if child is not None:
                    children.append(child)
            node = self.graph.merge(children, corner, bits)
            self._flush()
            return node

        root = assemble(0, 0, cell.corner)
        assert root is not None
        path.unlink()
        return root

    @staticmethod
    def _scatter(
        path: Path,
        cell: _Cell,
        cells: list[_Cell],
        read: Callable[[int, int], NDArray[np.void]],
        cell_of: Callable[[NDArray[np.void]], NDArray[np.uint32]],
    ) -> None:
        """Write the points of ``cell`` into a file, those of each of ``cells`` one after the other."""
        ends = np.array([small.first for small in cells], np.int64)
        with path.open("wb", buffering=0) as file:
            for first, last in _blocks(cell.first, cell.count):
                records = read(first, last)
                numbers = cell_of(records)
                order = _radix_order(numbers)
                records, numbers = records[order], numbers[order]
                starts = np.flatnonzero(np.diff(numbers.astype(np.int64), prepend=-1))
                for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(numbers)], strict=True):
                    number = int(numbers[start])
                    data = records[start:end].tobytes()
                    if os.pwrite(file.fileno(), data, int(ends[number]) * _RECORD.itemsize) < len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    ends[number] += end - start

    def _nodes(
        self,
        cells: list[_Cell],
        read: Callable[[int, int], NDArray[np.void]],
        depth: int,
        pool: ThreadPoolExecutor,
    ) -> Iterator[_Node]:
        """The nodes of ``cells`` in order; as many as there are workers are made at the same time."""
        waiting: deque[tuple[_Cell, Future[tuple[_Graph, _Node, int]] | None]] = deque()
        rest = iter(cells)
        while True:
            while len(waiting) <= self._workers:
                cell = next(rest, None)
                if cell is None:
                    break
                fits = cell.count <= self._limit
                waiting.append((cell, pool.submit(self._in_memory, read, cell) if fits else None))
            if not waiting:
                return
            cell, future = waiting.popleft()
            yield self._cell(cell, read, depth + 1, pool) if future is None else self._take(*future.result())

    def _in_memory(self, read: Callable[[int, int], NDArray[np.void]], cell: _Cell) -> tuple[_Graph, _Node, int]:
        """Runs on any thread: a graph of its own over a cell that fits into memory."""
        graph = _Graph(self.step)
        node = _subtree(graph, read(cell.first, cell.first + cell.count), cell.corner, cell.bits)
        if node.producer == NONE:
            node.records = node.records.copy()
        return graph, node, cell.count

    def _same_place(self, cell: _Cell, read: Callable[[int, int], NDArray[np.void]]) -> _Node:
        """More points in one place of the grid than fit into memory: runs of them, eight at a time."""
        nodes = []
        for first, last in _blocks(cell.first, cell.count, self._limit):
            piece = _Cell(first, last - first, cell.corner, 0)
            nodes.append(self._take(*self._in_memory(read, piece)))
        while len(nodes) > 1:
            nodes = [self.graph.merge(nodes[i : i + 8], cell.corner, 0) for i in range(0, len(nodes), 8)]
            self._flush()
        return nodes[0]

    def _take(self, graph: _Graph, node: _Node, count: int) -> _Node:
        """Add the groups of a cell to those that there are."""
        offset = len(self.graph.errors)
        self.graph.errors += graph.errors
        self.graph.boxes += graph.boxes
        for rows in graph.clusters:
            self.graph.clusters.append(
                [
                    (low, high, producer if producer == NONE else producer + offset, first, points)
                    for low, high, producer, first, points in rows
                ]
            )
        self.graph.pages += graph.pages
        self._flush()
        if node.producer != NONE:
            node.producer += offset
        self._told(count)
        return node

    def _flush(self) -> None:
        """Move coded pages to the spool."""
        for data, points in self.graph.pages:
            self._spool.write(data)
            self._spooled.append((len(data), points))
            self.bytes += len(data)
        self.graph.pages.clear()

    def pages(self, root: _Node) -> Iterator[EncodedPage]:
        """The pages from coarse to fine: the root's own, then those of the groups from the last one made."""
        if root.producer == NONE:
            spacing = _leaf_spacing(root)
            fallback = float((root.high - root.low).max()) / max(1.0, len(root.records) ** 0.5)
            spacing = fallback if spacing == float("inf") else spacing
            root.records["color"][:, 3] = size_codes(spacing * self.step * OVERLAP)
        data = _code(root.records)
        self.bytes += len(data)
        yield EncodedPage(data, len(root.records), 0, 1)
        self._spool.flush()
        end = self._spool.tell()
        for group in range(len(self._spooled) - 1, -1, -1):
            size, points = self._spooled[group]
            end -= size
            self._spool.seek(end)
            yield EncodedPage(self._spool.read(size), points, 0, len(self.graph.clusters[group]))

    def close(self) -> None:
        """Let go of the spool."""
        self._spool.close()

    def tables(self, root: _Node) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Groups in order, and clusters by page. Page 0 is the root's; group ``i`` of ``n`` is in page ``n - i``."""
        graph = self.graph
        count = len(graph.errors)
        groups = np.zeros(count, GROUP_DTYPE)
        if count:
            boxes = np.array(graph.boxes)
            groups["bounds_min"], groups["bounds_max"] = self._positions(boxes[:, 0]), self._positions(boxes[:, 1])
            groups["error"] = np.array(graph.errors) * self.step
            groups["page"] = count - np.arange(count)
        root_grid = root.records["grid"]
        rows = [(root_grid.min(axis=0), root_grid.max(axis=0), root.producer, 0, len(root.records))]
        consumers = [NONE]
        for group in range(count - 1, -1, -1):
            rows += graph.clusters[group]
            consumers += [group] * len(graph.clusters[group])
        clusters = np.zeros(len(rows), CLUSTER_DTYPE)
        clusters["bounds_min"] = self._positions(np.array([row[0] for row in rows]))
        clusters["bounds_max"] = self._positions(np.array([row[1] for row in rows]))
        clusters["producer"] = [row[2] for row in rows]
        clusters["consumer"] = consumers
        clusters["first_vertex"] = [row[3] for row in rows]
        clusters["vertex_count"] = [row[4] for row in rows]
        clusters["cone"] = (0, 0, 0, 127)
        return groups, clusters

    def _positions(self, grid: NDArray[np.int32]) -> NDArray[np.float32]:
        """Positions as whoever decodes a page computes them, so that boxes contain their points to the last bit."""
        return (self.origin + self.step * grid).astype(np.float32)


def _blocks(first: int, count: int, size: int = BLOCK_POINTS) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``size``."""
    for start in range(first, first + count, size):
        yield start, min(start + size, first + count)


def build_points(
    cloud: PointCloud, writer: AssetWriter, options: BuildOptions, progress: Progress, *, folder: Path | None = None
) -> PointReport:
    """Build ``cloud`` into a whole asset: one part under one node, which has the cloud's matrix.

    The memory of ``options`` is what the process may use; this asks for a quarter of it. See :func:`build_octree`.
    """
    report = build_octree(
        cloud,
        writer,
        workers=options.workers,
        memory_bytes=options.memory_bytes // 4,
        folder=folder,
        progress=lambda stage, share: progress(stage, 0.9 * share),
    )
    nodes = np.zeros(1, NODE_DTYPE)
    nodes["matrix"], nodes["parent"] = cloud.matrix[:3], -1
    instances = np.zeros(1, INSTANCE_DTYPE)
    instances["matrix"] = cloud.matrix[:3]
    low, high = cloud.world_bounds()
    size = writer.finish(
        name=cloud.name,
        nodes=nodes,
        node_names=[cloud.name],
        instances=instances,
        materials=[Material(name="points", unlit=True)],
        bounds_min=(float(low[0]), float(low[1]), float(low[2])),
        bounds_max=(float(high[0]), float(high[1]), float(high[2])),
        metadata=options.metadata,
        scene_graph_mode=options.scene_graph_mode,
        recentering_offset=options.recentering_offset,
        collision=options.collision,
        warnings=cloud.warnings,
    )
    progress("octree", 1.0)
    return dataclasses.replace(report, bytes=size)


def build_octree(
    cloud: PointCloud,
    writer: AssetWriter,
    *,
    material: int = 0,
    workers: int = 0,
    memory_bytes: int = 1 << 30,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> PointReport:
    """Build the levels of ``cloud`` and add them to ``writer`` as one part, in the cloud's own space.

    ``workers``: threads, 0 for one per core. ``memory_bytes``: about what may be used, besides the tables.
    ``folder``: where the temporary files go, which take about 1.5 times what the cloud does. An empty cloud is a
    ``ValueError``.
    """
    total = len(cloud.points)
    if not total:
        raise ValueError("a cloud without points has no octree")
    workers = workers or os.cpu_count() or 1
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress("octree", done / total)

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="octree-", dir=folder) as temporary:
        builder = _Builder(
            cloud,
            Path(temporary),
            workers=workers,
            memory_points=memory_bytes // BYTES_PER_POINT,
            told=told,
        )
        try:
            root = builder.build()
            groups, clusters = builder.tables(root)
            built = time.perf_counter()
            row: NDArray[np.void] = np.zeros((), PART_DTYPE)
            row["bounds_min"], row["bounds_max"] = builder._positions(root.low), builder._positions(root.high)
            row["origin"], row["step"] = builder.origin, builder.step
            row["material"], row["kind"], row["streams"] = material, POINTS, HAS_COLOR
            row["group_count"] = len(groups)
            row["triangles"] = row["vertices"] = total
            part = writer.add_part(row, groups, clusters, builder.pages(root))
            end = time.perf_counter()
            return PointReport(
                points=total,
                clusters=len(clusters),
                groups=len(groups),
                pages=len(groups) + 1,
                levels=root.depth + 1,
                bytes=builder.bytes,
                seconds={"octree": built - start, "write": end - built},
                part=part,
            )
        finally:
            builder.close()
