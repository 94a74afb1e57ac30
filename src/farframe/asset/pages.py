"""What is in a page: vertices on the part's grid and triangles, or points, and how they are coded.

    header (:data:`HEADER`) | positions | normals | tangents | uv0 | uv1 | colors | indices

Each stream is coded by meshoptimizer (vertex codec; index codec for the last) and may be empty: then the vertices have
the standard value. Positions are 3 int32 of the part's grid. UV sets are 2 int32 in steps of 2**-18 where the page's
header says so, else 2 float32. Normals, tangents and colours are 4 bytes as in
:data:`~farframe.asset.model.VERTEX_DTYPE`. Indices count from the page's first vertex in the file; decoded, from their
cluster's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.format import (
    HAS_COLOR,
    HAS_NORMAL,
    HAS_TANGENT,
    HAS_UV0,
    HAS_UV1,
    MAX_PAGE_BYTES,
    POINT_DTYPE,
    POINTS,
    TRIANGLES,
)
from farframe.asset.meshopt import CodecError, decode_rows, decode_triangles, encode_rows, encode_triangles
from farframe.asset.model import VERTEX_DTYPE

HEADER = struct.Struct("<HH7I")
"""Kind (triangles or points), flags, and the coded bytes of the seven streams."""

UV0_FIXED, UV1_FIXED = 1, 2
UV_STEP = 2.0**-18
_FIRST = 64
_PIECE = 1 << 18
UV_LIMIT = 8191.0
"""UV coordinates up to here fit the fixed steps; a quarter of a texel of the largest texture is far above a step."""


@dataclass(slots=True)
class PageContent:
    """A page before it is coded.

    ``grid`` is (n, 3) int32, each vertex' place in steps of its part's grid. ``vertices`` is (n,) of
    :data:`~farframe.asset.model.VERTEX_DTYPE`, whose positions do not matter; for points ``colors`` (n, 4) uint8 takes
    its place. ``indices`` (m,) uint32 count from the page's first vertex.
    """

    grid: NDArray[np.int32]
    vertices: NDArray[np.void] | None
    indices: NDArray[np.uint32]
    colors: NDArray[np.uint8] | None = None

    @property
    def kind(self) -> int:
        """Triangles or points."""
        return POINTS if self.vertices is None else TRIANGLES

    @property
    def decoded_bytes(self) -> int:
        """What the page takes once it is decoded."""
        return decoded_bytes(self.kind, len(self.grid), len(self.indices))


@dataclass(slots=True)
class EncodedPage:
    """A page as it lies in the file, with its counts. ``cluster_count`` of the part's clusters, in order, are in it."""

    data: bytes
    vertex_count: int
    index_count: int
    cluster_count: int


@dataclass(frozen=True, slots=True)
class Page:
    """A decoded page: ``vertices`` (n,) of VERTEX_DTYPE or, of point clouds, POINT_DTYPE, in part space; ``indices``
    (m,) uint32 from each cluster's first vertex, all of them checked."""

    vertices: NDArray[np.void]
    indices: NDArray[np.uint32]


def decoded_bytes(kind: int, vertex_count: int, index_count: int) -> int:
    """What a page of so many vertices (or points) and indices takes once it is decoded."""
    return vertex_count * (POINT_DTYPE if kind == POINTS else VERTEX_DTYPE).itemsize + index_count * 4


def streams_of(vertices: NDArray[np.void], among: int = -1) -> int:
    """Which streams, ``among`` some, differ from the standard anywhere, as flags of :mod:`farframe.asset.format`."""
    flags = 0
    for flag, name, standard in (
        (HAS_NORMAL, "normal", 0),
        (HAS_TANGENT, "tangent", 0),
        (HAS_UV0, "uv0", 0),
        (HAS_UV1, "uv1", 0),
        (HAS_COLOR, "color", 255),
    ):
        if not among & flag:
            continue
        column = vertices[name]
        # Piece by piece: a column may be a large mapped one, and mostly its beginning tells.
        if (column[:_FIRST] != standard).any() or any(
            bool((column[first : first + _PIECE] != standard).any()) for first in range(_FIRST, len(column), _PIECE)
        ):
            flags |= flag
    return flags


def encode_page(content: PageContent, among: int = -1) -> bytes:
    """Code a page, whose streams are ``among`` some. Raises ``ValueError`` if it is larger than a page may be."""
    if content.decoded_bytes > MAX_PAGE_BYTES:
        raise ValueError("a page is too large")
    streams = [encode_rows(content.grid.astype("<i4", copy=False).reshape(-1, 3).view(_row(12)).reshape(-1))]
    flags = 0
    if content.vertices is None:
        assert content.colors is not None
        streams += [b"", b"", b"", b"", encode_rows(_rows(content.colors, 4)), b""]
    else:
        vertices = content.vertices
        present = streams_of(vertices, among)
        for flag, name in ((HAS_NORMAL, "normal"), (HAS_TANGENT, "tangent")):
            streams.append(encode_rows(_rows(vertices[name], 4)) if present & flag else b"")
        for flag, name, fixed in ((HAS_UV0, "uv0", UV0_FIXED), (HAS_UV1, "uv1", UV1_FIXED)):
            if not present & flag:
                streams.append(b"")
                continue
            uv = np.ascontiguousarray(vertices[name])
            if float(np.abs(uv).max()) <= UV_LIMIT:
                flags |= fixed
                uv = np.rint(uv.astype(np.float64) / UV_STEP).astype("<i4")
            streams.append(encode_rows(_rows(uv, 8)))
        streams.append(encode_rows(_rows(vertices["color"], 4)) if present & HAS_COLOR else b"")
        streams.append(encode_triangles(content.indices))
    data = HEADER.pack(content.kind, flags, *(len(stream) for stream in streams)) + b"".join(streams)
    if len(data) > MAX_PAGE_BYTES:
        raise ValueError("a page is too large")
    return data


def decode_page(
    data: bytes, kind: int, vertex_count: int, index_count: int
) -> tuple[NDArray[np.int32], NDArray[np.void], NDArray[np.uint32]]:
    """Grid positions (n, 3), vertices (or points) without their positions, and indices from the page's first vertex.

    Raises :class:`~farframe.asset.meshopt.CodecError` for anything that is not as it should be; indices are not checked
    against the vertices. The counts must have been found fair.
    """
    if len(data) < HEADER.size:
        raise CodecError("a page is too short")
    said, flags, *sizes = HEADER.unpack_from(data)
    if said != kind or flags & ~(UV0_FIXED | UV1_FIXED) or HEADER.size + sum(sizes) != len(data):
        raise CodecError("a page's header is wrong")
    view = memoryview(data)
    streams = []
    offset = HEADER.size
    for size in sizes:
        streams.append(view[offset : offset + size])
        offset += size
    grid = decode_rows(streams[0], vertex_count, _row(12)).view("<i4").reshape(-1, 3)
    if kind == POINTS:
        if any(sizes[1:5]) or sizes[6] or index_count:
            raise CodecError("points have no such stream")
        points = np.zeros(vertex_count, POINT_DTYPE)
        points["color"] = decode_rows(streams[5], vertex_count, _row(4)).view("u1").reshape(-1, 4)
        return grid, points, np.empty(0, np.uint32)
    vertices = np.zeros(vertex_count, VERTEX_DTYPE)
    for stream, name, member in ((1, "normal", "i1"), (2, "tangent", "i1"), (5, "color", "u1")):
        if sizes[stream]:
            vertices[name] = decode_rows(streams[stream], vertex_count, _row(4)).view(member).reshape(-1, 4)
        elif name == "color":
            vertices[name] = 255
    for stream, name, fixed in ((3, "uv0", UV0_FIXED), (4, "uv1", UV1_FIXED)):
        if not sizes[stream]:
            continue
        rows = decode_rows(streams[stream], vertex_count, _row(8))
        if flags & fixed:
            vertices[name] = rows.view("<i4").reshape(-1, 2) * UV_STEP
        else:
            uv = rows.view("<f4").reshape(-1, 2)
            if not np.isfinite(uv).all():
                raise CodecError("a texture coordinate is no number")
            vertices[name] = uv
    return grid, vertices, decode_triangles(streams[6], index_count)


def _row(size: int) -> np.dtype[Any]:
    return np.dtype((np.void, size))


def _rows(array: NDArray[Any], size: int) -> NDArray[np.void]:
    """(n, k) numbers as (n,) rows of ``size`` bytes."""
    rows: NDArray[np.void] = np.ascontiguousarray(array).view(_row(size)).reshape(-1)
    return rows
