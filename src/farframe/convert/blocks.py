"""Large parts in blocks: each built alone, with its border locked, and all joined by a last build over what is left.

Blocks are ranges of a curve through space (Morton), so that they are compact. Their triangles are sorted into a file
beside the output, which is read by whoever builds a block: memory is needed for one block per worker and for the coarse
levels of all, whatever the part's size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from farframe.asset.model import VERTEX_DTYPE
from farframe.convert.clusters import Built, Cluster, Grid, Surface, SurfaceStyle

BLOCK_TRIANGLES = 1_000_000
BLOCK_LEVELS = 6
"""Levels that a block gets before it waits for the others: its border, locked, is then about as fine as the rest."""

CELL_BITS = 7
"""Bits per axis of the curve's cells, which lie in one block each."""

CHUNK = 1 << 20
_SPREAD = np.array([sum((cell >> bit & 1) << 3 * bit for bit in range(CELL_BITS)) for cell in range(1 << CELL_BITS)])
"""A cell's number along one axis with its bits three apart: three of these, interleaved, are its code."""


@dataclass(slots=True)
class Block:
    """A block that has been built. ``rows`` (placed wedges) and ``built.rest`` are what the last build goes on with;
    corners there count from 0 within ``rows``."""

    built: Built
    rows: NDArray[np.void]
    streams: int


@dataclass(frozen=True, slots=True)
class SortedTriangles:
    """A part's triangles (3m,) uint32 in a file, block by block: block i has those from ``starts[i]``."""

    path: Path
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def read(self, block: int) -> NDArray[np.uint32]:
        """The corners of a block's triangles."""
        begin, end = (int(each) * 3 for each in self.starts[block : block + 2])
        return np.fromfile(self.path, np.uint32, end - begin, offset=begin * 4)


def sort_into_blocks(
    positions: NDArray[np.float32], indices: NDArray[np.uint32], folder: Path, size: int = BLOCK_TRIANGLES
) -> SortedTriangles:
    """Sort triangles into blocks of about ``size``, in a new file in ``folder``. Both arrays may be mapped."""
    triangles = indices.reshape(-1, 3)
    low, high = positions.min(axis=0).astype(np.float64), positions.max(axis=0).astype(np.float64)
    scale = (1 << CELL_BITS) / max(float((high - low).max()), 1e-30)

    def cells() -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
        for first in range(0, len(triangles), CHUNK):
            some = np.asarray(triangles[first : first + CHUNK])
            # Any of the corners tells as well as the middle where a triangle is.
            cell = np.clip(((positions[some[:, 0]] - low) * scale).astype(np.int32), 0, (1 << CELL_BITS) - 1)
            yield some, _SPREAD[cell[:, 0]] | _SPREAD[cell[:, 1]] << 1 | _SPREAD[cell[:, 2]] << 2

    counts = np.zeros(1 << 3 * CELL_BITS, np.int64)
    for _, code in cells():
        counts += np.bincount(code, minlength=len(counts))
    before = np.cumsum(counts) - counts
    blocks = max(-(-len(triangles) // size), 1)
    block_of_cell = before * blocks // max(len(triangles), 1)
    sizes = np.bincount(block_of_cell, counts, blocks).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".blocks.", delete=False) as file:
        file.truncate(max(len(triangles) * 12, 1))
    path = Path(file.name)
    if len(triangles):
        out = np.memmap(path, np.uint32, "r+", shape=(len(triangles), 3))
        at = starts[:-1].copy()
        for some, code in cells():
            block = block_of_cell[code]
            order = np.argsort(block, kind="stable")
            ordered, block = some[order], block[order]
            for number in np.unique(block):
                begin, end = np.searchsorted(block, [number, number + 1])
                out[at[number] : at[number] + end - begin] = ordered[begin:end]
                at[number] += end - begin
        out.flush()
        del out
    filled = np.flatnonzero(sizes)
    return SortedTriangles(path, np.append(starts[filled], starts[-1]))


def build_block(vertices: NDArray[np.void], corners: NDArray[np.uint32], grid: Grid, style: SurfaceStyle) -> Block:
    """Build one block of a part, whose vertices (n,) of VERTEX_DTYPE may be mapped."""
    local, used = _local(corners)
    surface = Surface(vertices[used], local, grid, style)
    built = surface.build(
        surface.first_clusters(), locked=surface.open_places(), max_levels=BLOCK_LEVELS, keep_rest=True
    )
    # Only what is left goes on.
    lengths = [len(cluster.corners) for cluster in built.rest]
    left = np.concatenate([cluster.corners for cluster in built.rest]) if lengths else np.empty(0, np.uint32)
    local, wedges = _local(left)
    for cluster, piece in zip(built.rest, np.split(local, np.cumsum(lengths)[:-1]), strict=True):
        cluster.corners = piece
    return Block(built, surface.rows[wedges], surface.streams)


def join_blocks(
    rows: list[NDArray[np.void]], rests: list[list[Cluster]], grid: Grid, style: SurfaceStyle, first_group: int
) -> Built:
    """The last build: over the clusters that the blocks left, whose producers count within the part already."""
    clusters = []
    first = 0
    for some, rest in zip(rows, rests, strict=True):
        for cluster in rest:
            cluster.corners = cluster.corners + np.uint32(first)
            clusters.append(cluster)
        first += len(some)
    surface = Surface.of_clusters(np.concatenate(rows) if rows else np.empty(0, VERTEX_DTYPE), clusters, grid, style)
    return surface.build(clusters, first_group=first_group)


def _local(corners: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """Corners as numbers among the vertices that they use, and which those are."""
    if not len(corners):
        return corners.astype(np.uint32), np.empty(0, np.intp)
    lowest, highest = int(corners.min()), int(corners.max())
    span = highest - lowest + 1
    if span > 16 * len(corners):
        few, local = np.unique(corners, return_inverse=True)
        return local.reshape(-1).astype(np.uint32), few.astype(np.intp)
    flags = np.zeros(span, bool)
    moved = corners - np.uint32(lowest)
    flags[moved] = True
    used = np.flatnonzero(flags)
    number = np.empty(span, np.uint32)
    number[used] = np.arange(len(used), dtype=np.uint32)
    return number[moved], used + lowest
