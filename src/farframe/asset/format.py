"""The layout of an ``.arrAsset``, version 1. ``docs/asset-format.md`` tells it to people.

    Head (64 bytes) | index (MessagePack: names, materials, nodes' names, sections) | sections: tables | pages, mips

An asset is read by byte ranges: head, index and tables first (they say everything but the triangles), then pages of
triangles or points and mip levels of textures, each only when a view needs it. All numbers are little-endian. Part
space, right-handed, +Y up, metres. Tables are coded by meshoptimizer's vertex codec.

Level of detail is a directed acyclic graph. A *cluster* is at most :data:`MAX_CLUSTER_TRIANGLES` triangles (or
:data:`MAX_CLUSTER_POINTS` points). A *group* is one step of simplification: the clusters that it *consumes* (its
children, finer) were merged, simplified with a locked border, and cut into the clusters that it *produces* (coarser).

    cluster.producer   the group whose output the cluster is;   NONE for the full surface
    cluster.consumer   the group that replaces it by coarser;   NONE for a root

``good(group)`` says that the group's output may be seen: its ``error``, projected from the nearest point of its box,
is below the limit. Errors and boxes of a group contain those of the groups whose output it consumes, so where it is
``good`` they are, too, and exactly one of all ways through the graph is drawn, without cracks:

    draw cluster  <=>  (producer is NONE or good(producer)) and (consumer is NONE or not good(consumer))

A *page* is what is fetched, decoded and evicted at a time. All clusters that one group consumes lie in one page (so
there is no half of a step), and a page may be used when the pages of the groups that its own clusters' consumers
produced are: ``good'(group) = good(group) or group.page is not resident``. With that, every state of loading draws a
closed surface.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec
import numpy as np

from farframe.asset.model import Filter, Material, MetadataValue, Wrap

MAGIC = b"\x8fFFASSET"
VERSION = 1
HEAD = struct.Struct("<8sIIQQQI20x")
"""Magic, version, flags (0), bytes in the whole file, offset and bytes of the index, CRC-32 of the index."""

NONE = 0xFFFF_FFFF
MAX_CLUSTER_TRIANGLES = 512
MAX_CLUSTER_POINTS = 4096
MAX_PAGE_BYTES = 4 << 20
"""No page is larger, coded or decoded, so that a view never waits for one; most are about 128 KB coded."""

TRIANGLES, POINTS = 0, 1
HAS_COLOR, HAS_UV0, HAS_UV1, HAS_TANGENT, HAS_NORMAL = 1, 2, 4, 8, 16
"""Streams of a part's vertices that differ from the standard (white, zero, zero, zero, zero)."""

TEXTURE_SLOTS = (
    "base_color_texture",
    "metallic_roughness_texture",
    "normal_texture",
    "occlusion_texture",
    "emissive_texture",
)
"""A material's members that may name a texture."""

PART_DTYPE = np.dtype(
    [
        ("bounds_min", "<f4", 3),
        ("bounds_max", "<f4", 3),
        ("origin", "<f8", 3),
        ("step", "<f8"),
        ("material", "<u4"),
        ("kind", "<u2"),
        ("streams", "<u2"),
        ("first_group", "<u4"),
        ("group_count", "<u4"),
        ("triangles", "<u8"),
        ("vertices", "<u8"),
    ]
)
"""Triangles with one material, or points. ``triangles`` (or points) and ``vertices`` count the full surface. Positions
lie on a grid, ``origin + step * integer``, the same for all clusters, so that neighbours meet exactly."""

GROUP_DTYPE = np.dtype(
    [("bounds_min", "<f4", 3), ("bounds_max", "<f4", 3), ("error", "<f4"), ("part", "<u4"), ("page", "<u4")]
)
"""``error`` in metres, how far the output lies from the full surface; the box holds all that the group simplified, down
to the full surface; ``page`` holds the clusters that it consumes. Sorted by part; a group follows the groups whose
output it consumes."""

CLUSTER_DTYPE = np.dtype(
    [
        ("bounds_min", "<f4", 3),
        ("bounds_max", "<f4", 3),
        ("part", "<u4"),
        ("producer", "<u4"),
        ("consumer", "<u4"),
        ("first_vertex", "<u4"),
        ("first_index", "<u4"),
        ("vertex_count", "<u2"),
        ("index_count", "<u2"),
        ("cone", "i1", 4),
    ]
)
"""Rows sorted by page. First vertex and index count within the decoded page; indices count from the cluster's first
vertex. ``cone``: axis and cutoff as signed normalised numbers; all triangles face away from an eye for which
``dot(normalize(center - eye), axis) >= cutoff + radius / distance``; cutoff 127 means that none may be culled."""

PAGE_DTYPE = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u4"),
        ("crc", "<u4"),
        ("vertex_count", "<u4"),
        ("index_count", "<u4"),
        ("first_cluster", "<u4"),
        ("cluster_count", "<u4"),
    ]
)
"""Where a page lies in the file. Pages are sorted from coarse to fine: a page follows those that it depends on."""

INSTANCE_DTYPE = np.dtype([("matrix", "<f8", (3, 4)), ("part", "<u4"), ("node", "<u4")])
"""A part under a node. ``matrix``: part space to model space, the upper rows, for column vectors."""

NODE_DTYPE = np.dtype([("matrix", "<f8", (3, 4)), ("parent", "<i4"), ("reserved", "<u4")])
"""Local matrix and parent (-1 for roots, else an earlier row)."""

POINT_DTYPE = np.dtype([("position", "<f4", 3), ("color", "u1", 4)])
"""One decoded point: part space metres, linear colour RGB; the fourth byte is its size, the spacing to its neighbours
on its level, ``2 ** (byte / 8 - 20)`` metres of part space."""

TextureFormat = Literal["bc1-rgba-unorm", "bc5-rg-unorm", "bc7-rgba-unorm", "rgba8unorm"]
"""As WebGPU names them, without ``-srgb``, which :attr:`TextureEntry.srgb` says."""

SceneGraphMode = Literal["none", "static", "dynamic"]


class Section(msgspec.Struct, frozen=True, gc=False):
    """A table: ``count`` rows, ``size`` bytes at ``offset``, with their CRC-32."""

    offset: int
    size: int
    count: int
    crc: int


class MipLevel(msgspec.Struct, frozen=True, gc=False):
    """``size`` bytes at ``offset``: tightly packed rows of blocks (or pixels)."""

    offset: int
    size: int
    crc: int


class TextureEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A texture; ``mips`` from the full size (level 0) down. Row 0 is at the top."""

    name: str = ""
    format: TextureFormat
    srgb: bool
    width: int
    height: int
    mips: list[MipLevel]
    wrap_u: Wrap = "repeat"
    wrap_v: Wrap = "repeat"
    mag_filter: Filter = "linear"
    min_filter: Filter = "linear"
    mipmaps: bool = True


class AssetIndex(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of an asset that is no table and no bulk data.

    ``metadata``: by node index (as text), the kept keys and values. ``recentering_offset``: metres, what was subtracted
    from all positions. ``content_hash``: 16 hex digits over what is drawn. ``animations``: how nodes move
    by themselves, ``count`` clips, coded as :mod:`farframe.asset.animation` tells; readers that do not know it show
    the model at rest.
    """

    name: str
    generator: str
    scene_graph_mode: SceneGraphMode = "dynamic"
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    recentering_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    content_hash: str = ""
    collision: bool = True
    parts: Section
    groups: Section
    clusters: Section
    pages: Section
    instances: Section
    nodes: Section
    node_names: list[str]
    materials: list[Material]
    textures: list[TextureEntry]
    metadata: dict[str, dict[str, MetadataValue]] = {}
    warnings: list[str] = []
    animations: Section | None = None
