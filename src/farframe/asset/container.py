"""Reading and writing ``.arrAsset`` files (:mod:`farframe.asset.format`).

:class:`Asset` trusts nothing: whatever a file says is checked when it is opened or, for pages, when they are decoded,
so that nobody else needs to. :class:`AssetWriter` takes parts as they are finished, in any order, and keeps in memory
only tables: pages go to a spool beside the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farframe.asset.animation import MAX_BYTES, Animations, decode_animations, encode_animations
from farframe.asset.format import (
    CLUSTER_DTYPE,
    GROUP_DTYPE,
    HEAD,
    INSTANCE_DTYPE,
    MAGIC,
    MAX_CLUSTER_POINTS,
    MAX_CLUSTER_TRIANGLES,
    MAX_PAGE_BYTES,
    NODE_DTYPE,
    NONE,
    PAGE_DTYPE,
    PART_DTYPE,
    POINTS,
    TEXTURE_SLOTS,
    TRIANGLES,
    VERSION,
    AssetIndex,
    MipLevel,
    SceneGraphMode,
    Section,
    TextureEntry,
    TextureFormat,
)
from farframe.asset.meshopt import CodecError, decode_rows, encode_rows
from farframe.asset.model import VERTEX_DTYPE, Filter, Material, MetadataValue, TextureSlot, Wrap
from farframe.asset.pages import EncodedPage, Page, PageContent, decode_page, decoded_bytes, encode_page
from farframe.asset.rows import stacked
from farframe.asset.source import ByteSource
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

MAX_INDEX_BYTES = 256 << 20
MAX_TEXTURE_SIZE = 65_536
MAX_MAGNITUDE = 1e30
"""Metres beyond which no coordinate may lie: their squares stay finite in single precision's range of exponents."""

PAGE_TARGET_BYTES = 512 << 10
"""Pages of small parts are packed together until they take this much decoded: about 128 KB coded."""

BLOCK_BYTES = {"bc1-rgba-unorm": 8, "bc5-rg-unorm": 16, "bc7-rgba-unorm": 16, "rgba8unorm": 4}
"""Bytes of a block of 4 by 4 pixels, or of a pixel."""

_decoder = msgspec.msgpack.Decoder(AssetIndex)
_TABLES = (
    ("parts", PART_DTYPE),
    ("groups", GROUP_DTYPE),
    ("clusters", CLUSTER_DTYPE),
    ("pages", PAGE_DTYPE),
    ("instances", INSTANCE_DTYPE),
    ("nodes", NODE_DTYPE),
)


@dataclass(slots=True)
class Texels:
    """A coded texture, with the members of :class:`farframe.asset.format.TextureEntry`; ``mips`` are the bytes of the
    levels, full size first, each ``max(1, size >> level)`` texels wide and high, in whole blocks."""

    name: str
    format: TextureFormat
    srgb: bool
    width: int
    height: int
    wrap_u: Wrap = "repeat"
    wrap_v: Wrap = "repeat"
    mag_filter: Filter = "linear"
    min_filter: Filter = "linear"
    mipmaps: bool = True
    mips: list[bytes] = field(default_factory=list)


def corrupt(name: str, what: str) -> FarframeError:
    """The error for an asset that says something that cannot be."""
    return FarframeError(
        Result.FILE_CORRUPT,
        f"{name} is no sound asset: {what}.",
        next_step="Convert the model again, or copy the file again.",
    )


def mip_size(texture_format: str, width: int, height: int) -> int:
    """Bytes of one mip level of so many pixels."""
    if texture_format == "rgba8unorm":
        return width * height * 4
    return ((width + 3) // 4) * ((height + 3) // 4) * BLOCK_BYTES[texture_format]


class Asset:
    """An opened, checked asset. Tables are read-only arrays of the dtypes of :mod:`farframe.asset.format`.

    Thread safe: after :meth:`open` nothing changes, and the source may be read from any thread.
    """

    def __init__(
        self,
        source: ByteSource,
        index: AssetIndex,
        tables: Mapping[str, NDArray[np.void]],
    ) -> None:
        self.source = source
        self.name = source.name
        self.index = index
        self.parts = tables["parts"]
        self.groups = tables["groups"]
        self.clusters = tables["clusters"]
        self.pages = tables["pages"]
        self.instances = tables["instances"]
        self.nodes = tables["nodes"]
        for table in tables.values():
            table.flags.writeable = False

    @classmethod
    def open(cls, source: ByteSource, limits: LoadLimits) -> Asset:
        """Read and check all but pages and textures. Blocks on the source.

        Raises FileCorrupt for what is no sound asset, NotSupported for a newer version, ExceedsMemoryLimit for one
        beyond ``limits``, and whatever the source raises.
        """
        name = source.name
        if source.size < HEAD.size:
            raise corrupt(name, "it is too short")
        magic, version, flags, size, offset, length, crc = HEAD.unpack(source.read(0, HEAD.size))
        if magic != MAGIC:
            raise corrupt(name, "it does not begin as one")
        if version != VERSION or flags:
            raise FarframeError(
                Result.NOT_SUPPORTED,
                f"{name} is of version {version} of the asset format; this server reads version {VERSION}.",
                next_step="Convert the model again with a converter of the server's version.",
            )
        if size != source.size:
            raise corrupt(name, f"it has {source.size:,} bytes and should have {size:,}")
        if length > min(MAX_INDEX_BYTES, size) or offset > size - length:
            raise corrupt(name, "its index is out of range")
        data = source.read(offset, length)
        if zlib.crc32(data) != crc:
            raise corrupt(name, "its index was changed")
        try:
            index = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise corrupt(name, "its index cannot be read") from None
        budget = limits.max_memory_bytes
        for table, dtype in _TABLES:
            section: Section = getattr(index, table)
            if min(section.offset, section.size, section.count) < 0 or section.offset + section.size > size:
                raise corrupt(name, f"its {table} are out of range")
            budget -= section.count * dtype.itemsize + section.size
            if section.count >= NONE:
                raise corrupt(name, f"it has too many {table}")
        if budget < 0 or index.nodes.count > limits.max_nodes:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The tables of {name} are larger than allowed.",
                next_step="Make the model smaller, or ask the operator to raise the limit.",
            )
        tables = {}
        for table, dtype in _TABLES:
            section = getattr(index, table)
            coded = source.read(section.offset, section.size)
            if zlib.crc32(coded) != section.crc:
                raise corrupt(name, f"its {table} were changed")
            try:
                tables[table] = decode_rows(coded, section.count, dtype)
            except CodecError:
                raise corrupt(name, f"its {table} cannot be read") from None
        asset = cls(source, index, tables)
        asset._check_index(limits)
        with np.errstate(all="ignore"):
            asset._check_tables()
        return asset

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def read_page(self, page: int) -> bytes:
        """The coded bytes of a page, found unchanged. Blocks on the source."""
        row = self.pages[page]
        data = self.source.read(int(row["offset"]), int(row["size"]))
        if zlib.crc32(data) != int(row["crc"]):
            raise corrupt(self.name, f"page {page} was changed")
        return data

    def read_pages(self, first: int, count: int) -> list[bytes]:
        """The coded bytes of ``count`` pages, found unchanged; one read where they lie behind each other in the file.
        Blocks on the source."""
        rows = self.pages[first : first + count]
        offsets, sizes = rows["offset"].astype(np.int64), rows["size"].astype(np.int64)
        if count < 2 or bool((offsets[1:] != offsets[:-1] + sizes[:-1]).any()):
            return [self.read_page(page) for page in range(first, first + count)]
        data = self.source.read(int(offsets[0]), int(sizes.sum()))
        found = [data[begin : begin + size] for begin, size in zip(offsets - offsets[0], sizes, strict=True)]
        for page, (each, crc) in enumerate(zip(found, rows["crc"].tolist(), strict=True), first):
            if zlib.crc32(each) != crc:
                raise corrupt(self.name, f"page {page} was changed")
        return found

    def decode_page(self, page: int, data: bytes) -> Page:
        """The triangles (or points) of a page, in its parts' space. Raises FileCorrupt."""
        row = self.pages[page]
        clusters = self.clusters_of(page)
        parts = self.parts[clusters["part"]]
        kind = int(parts["kind"][0])
        try:
            grid, vertices, indices = decode_page(data, kind, int(row["vertex_count"]), int(row["index_count"]))
        except CodecError as error:
            raise corrupt(self.name, f"page {page} cannot be read ({error})") from None
        counts = clusters["vertex_count"].astype(np.int64)
        if len(np.unique(clusters["part"])) == 1:
            vertices["position"] = parts["origin"][0] + parts["step"][0] * grid
        else:
            vertices["position"] = (
                np.repeat(parts["origin"], counts, axis=0) + np.repeat(parts["step"], counts)[:, None] * grid
            )
        if len(indices):
            index_counts = clusters["index_count"].astype(np.int64)
            indices = indices - np.repeat(clusters["first_vertex"], index_counts)
            # What lay before the first vertex has become a huge number.
            if bool((indices >= np.repeat(clusters["vertex_count"], index_counts)).any()):
                raise corrupt(self.name, f"page {page} has triangles between clusters")
        return Page(vertices, indices)

    def clusters_of(self, page: int) -> NDArray[np.void]:
        """The rows of the clusters in a page."""
        row = self.pages[page]
        first = int(row["first_cluster"])
        return self.clusters[first : first + int(row["cluster_count"])]

    def read_mip(self, texture: int, level: int) -> bytes:
        """One mip level of a texture, found unchanged. Blocks on the source."""
        mip = self.index.textures[texture].mips[level]
        data = self.source.read(mip.offset, mip.size)
        if zlib.crc32(data) != mip.crc:
            raise corrupt(self.name, f"level {level} of texture {texture} was changed")
        return data

    def read_animations(self) -> Animations | None:
        """How its nodes move by themselves, if they do. Blocks on the source; raises FileCorrupt."""
        section = self.index.animations
        if section is None:
            return None
        if min(section.offset, section.size) < 0 or section.size > MAX_BYTES:
            raise corrupt(self.name, "its animations are out of range")
        if section.offset + section.size > self.source.size:
            raise corrupt(self.name, "its animations are out of range")
        data = self.source.read(section.offset, section.size)
        if zlib.crc32(data) != section.crc:
            raise corrupt(self.name, "its animations were changed")
        try:
            return decode_animations(data, len(self.nodes))
        except ValueError as error:
            raise corrupt(self.name, f"it has {error}") from None

    @cached_property
    def page_parents(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which pages a page depends on: ``parents[starts[i] : starts[i + 1]]``, all of them before page i."""
        pairs = _page_pairs(self.groups, self.clusters, self.page_of_cluster)
        starts = np.searchsorted(pairs[:, 0], np.arange(len(self.pages) + 1))
        return starts.astype(np.intp), pairs[:, 1].astype(np.intp)

    @cached_property
    def page_of_cluster(self) -> NDArray[np.intp]:
        """For each cluster the page that it is in."""
        return np.repeat(np.arange(len(self.pages)), self.pages["cluster_count"])

    def _require(self, sound: Any, what: str) -> None:
        if not bool(sound):
            raise corrupt(self.name, what)

    def _check_index(self, limits: LoadLimits) -> None:
        index = self.index
        require = self._require
        require(len(index.node_names) == len(self.nodes), "its nodes' names are not as many as its nodes")
        require(
            all(
                math.isfinite(value) and abs(value) <= MAX_MAGNITUDE
                for value in (*index.bounds_min, *index.bounds_max, *index.recentering_offset)
            ),
            "its bounds are no numbers",
        )
        pixels = 0
        for texture in index.textures:
            width, height = texture.width, texture.height
            require(0 < width <= MAX_TEXTURE_SIZE and 0 < height <= MAX_TEXTURE_SIZE, "a texture has an odd size")
            require(0 < len(texture.mips) <= max(width, height).bit_length(), "a texture has too many mip levels")
            pixels += width * height
            if width * height > limits.max_texture_pixels or pixels > limits.max_total_texture_pixels:
                raise FarframeError(
                    Result.EXCEEDS_MEMORY_LIMIT,
                    f"The textures of {self.name} have more pixels than allowed.",
                    next_step="Scale the textures down, or ask the operator to raise the limit.",
                )
            for level, mip in enumerate(texture.mips):
                right = mip_size(texture.format, max(width >> level, 1), max(height >> level, 1))
                require(mip.size == right, "a mip level has the wrong size")
                require(0 <= mip.offset <= self.source.size - mip.size, "a mip level is out of range")
        for material in index.materials:
            self._check_material(material)
        for key in index.metadata:
            require(key.isascii() and key.isdigit() and len(key) < 10, "its metadata names no node")
            require(int(key) < len(self.nodes), "its metadata names no node")

    def _check_material(self, material: Material) -> None:
        numbers = (
            *material.base_color,
            material.metallic,
            material.roughness,
            *material.emissive,
            material.normal_scale,
            material.occlusion_strength,
            material.alpha_cutoff,
        )
        self._require(all(math.isfinite(number) for number in numbers), "a material's number is none")
        for name in TEXTURE_SLOTS:
            slot: TextureSlot | None = getattr(material, name)
            if slot is not None:
                self._require(0 <= slot.texture < len(self.index.textures), "a material names no texture")
                self._require(slot.uv_set in (0, 1), "a material names no UV set")

    def _check_tables(self) -> None:
        parts, groups, clusters, pages = self.parts, self.groups, self.clusters, self.pages
        require = self._require
        # Bounds and frames.
        for table, what in ((parts, "part"), (groups, "group"), (clusters, "cluster")):
            low, high = table["bounds_min"], table["bounds_max"]
            require((np.abs(low) <= MAX_MAGNITUDE).all() and (np.abs(high) <= MAX_MAGNITUDE).all(), f"a {what} is lost")
            require((low <= high).all(), f"a {what} has no size")
        require((np.abs(parts["origin"]) <= MAX_MAGNITUDE).all(), "a part is lost")
        require(((parts["step"] > 0) & (parts["step"] <= MAX_MAGNITUDE / 2.0**33)).all(), "a part has an odd grid")
        require((parts["kind"] <= POINTS).all(), "a part is of an unknown kind")
        triangles = parts["kind"] == TRIANGLES
        require((parts["material"][triangles] < len(self.index.materials)).all(), "a part names no material")
        require(
            (np.cumsum(parts["group_count"], dtype=np.int64) - parts["group_count"] == parts["first_group"]).all()
            and int(parts["group_count"].sum(dtype=np.int64)) == len(groups),
            "its parts' groups are wrong",
        )
        require((groups["part"] == np.repeat(np.arange(len(parts)), parts["group_count"])).all(), "a group is astray")
        require(((groups["error"] >= 0) & (groups["error"] <= MAX_MAGNITUDE)).all(), "a group's error is no number")
        # Pages.
        cluster_count = pages["cluster_count"].astype(np.int64)
        require(
            (cluster_count > 0).all() and int(cluster_count.sum()) == len(clusters), "its pages' clusters are wrong"
        )
        require((np.cumsum(cluster_count) - cluster_count == pages["first_cluster"]).all(), "a page is astray")
        sizes = pages["size"].astype(np.int64)
        require((sizes <= MAX_PAGE_BYTES).all(), "a page is too large")
        require((pages["offset"] <= self.source.size - sizes).all(), "a page is out of range")
        # Clusters.
        part = clusters["part"].astype(np.int64)
        require((part < len(parts)).all(), "a cluster belongs to no part")
        page = self.page_of_cluster
        first_of_page = pages["first_cluster"].astype(np.int64)
        kind = parts["kind"][part]
        require(
            (kind == kind[first_of_page][page]).all() if len(clusters) else True, "a page mixes points and triangles"
        )
        vertex_count = clusters["vertex_count"].astype(np.int64)
        index_count = clusters["index_count"].astype(np.int64)
        require((vertex_count > 0).all(), "a cluster is empty")
        solid = kind == TRIANGLES
        require(
            ((index_count % 3 == 0) & (index_count > 0) & (index_count <= 3 * MAX_CLUSTER_TRIANGLES))[solid].all(),
            "a cluster's triangles cannot be",
        )
        require(
            ((index_count == 0) & (vertex_count <= MAX_CLUSTER_POINTS))[~solid].all(), "a cluster's points cannot be"
        )
        for count, first, total in (
            (vertex_count, clusters["first_vertex"], pages["vertex_count"]),
            (index_count, clusters["first_index"], pages["index_count"]),
        ):
            before = np.cumsum(count) - count
            at_page = before[first_of_page]
            require((before - at_page[page] == first).all(), "a cluster is astray in its page")
            require(
                (np.append(at_page[1:], count.sum()) - at_page == total).all() if len(pages) else True,
                "a page's counts are wrong",
            )
        decoded = np.where(
            kind[first_of_page] == POINTS,
            decoded_bytes(POINTS, 1, 0) * pages["vertex_count"].astype(np.int64),
            decoded_bytes(TRIANGLES, 1, 0) * pages["vertex_count"].astype(np.int64)
            + 4 * pages["index_count"].astype(np.int64),
        )
        require((decoded <= MAX_PAGE_BYTES).all(), "a page is too large")
        full = clusters["producer"] == NONE
        primitives = np.where(solid, index_count // 3, vertex_count)
        total = np.bincount(part[full], primitives[full], len(parts)).astype(np.int64)
        require((total == parts["triangles"].astype(np.int64)).all(), "a part's triangles are not as many as it says")
        # The graph.
        for end in ("producer", "consumer"):
            named = clusters[end] != NONE
            group = clusters[end][named].astype(np.int64)
            require((group < len(groups)).all(), "a cluster names no group")
            require((groups["part"][group] == part[named]).all(), "a cluster names another part's group")
            if end == "consumer":
                require((groups["page"][group] == page[named]).all(), "a group's clusters are in several pages")
                require((np.bincount(group, minlength=len(groups)) > 0).all(), "a group replaces nothing")
        inner = (clusters["producer"] != NONE) & (clusters["consumer"] != NONE)
        finer, coarser = clusters["producer"][inner], clusters["consumer"][inner]
        require((finer < coarser).all(), "its groups turn in a circle")
        fine, coarse = groups[finer], groups[coarser]
        require((fine["error"] <= coarse["error"]).all(), "a coarser group claims a smaller error")
        require(
            (fine["bounds_min"] >= coarse["bounds_min"]).all() and (fine["bounds_max"] <= coarse["bounds_max"]).all(),
            "a coarser group's box does not hold a finer one's",
        )
        pairs = _page_pairs(groups, clusters, page)
        require((pairs[:, 1] < pairs[:, 0]).all(), "a page comes before one that it depends on")
        # The scene.
        nodes, instances = self.nodes, self.instances
        require((np.abs(nodes["matrix"]) <= MAX_MAGNITUDE).all(), "a node's matrix is no number")
        require(
            ((nodes["parent"] >= -1) & (nodes["parent"] < np.arange(len(nodes)))).all(), "its nodes turn in a circle"
        )
        require((np.abs(instances["matrix"]) <= MAX_MAGNITUDE).all(), "an instance's matrix is no number")
        require((instances["part"] < len(parts)).all(), "an instance names no part")
        require((instances["node"] < len(nodes)).all(), "an instance names no node")


def _page_pairs(
    groups: NDArray[np.void], clusters: NDArray[np.void], page_of_cluster: NDArray[np.intp]
) -> NDArray[np.int64]:
    """(n, 2): pages, and the pages that they depend on, sorted, each pair once; a page never on itself."""
    made = clusters["producer"] != NONE
    dependent = groups["page"][clusters["producer"][made]].astype(np.int64)
    needed = page_of_cluster[made].astype(np.int64)
    apart = dependent != needed
    keys = np.unique((dependent[apart] << 32) | needed[apart])
    return np.stack([keys >> 32, keys & 0xFFFF_FFFF], axis=1)


@dataclass(frozen=True, slots=True)
class SpooledPage:
    """A page whose bytes lie in the writer's spool."""

    offset: int
    size: int
    crc: int
    vertex_count: int
    index_count: int
    cluster_count: int


class AssetWriter:
    """Writes an asset part by part, then all tables; the file appears under its name only when it is whole.

    Not thread safe. Use it as a context manager: what was begun and not finished is removed.
    """

    def __init__(self, path: Path, *, generator: str) -> None:
        self._path = path
        self._generator = generator
        self._spool_path = path.with_name(f".{path.name}.{os.getpid()}.spool")
        self._partial_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._spool = self._spool_path.open("w+b")
        self._spooled = 0
        self._hash = hashlib.blake2b(digest_size=8)
        self._parts: list[NDArray[np.void]] = []
        self._groups: list[NDArray[np.void]] = []
        self._clusters: list[NDArray[np.void]] = []
        self._pages: list[NDArray[np.void]] = []
        self._group_count = 0
        self._page_count = 0
        self._textures: list[tuple[TextureEntry, list[tuple[int, int, int]]]] = []
        # Small parts whose page has not been filled yet, by kind: contents and their clusters.
        self._open: dict[int, list[tuple[PageContent, NDArray[np.void], NDArray[np.void]]]] = {}
        self._open_bytes: dict[int, int] = {}

    def __enter__(self) -> AssetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Remove what has been written, unless it was finished."""
        self._spool.close()
        for path in (self._spool_path, self._partial_path):
            with contextlib.suppress(OSError):
                path.unlink()

    @property
    def page_count(self) -> int:
        """Pages written so far."""
        return self._page_count

    def add_texture(self, texture: Texels) -> int:
        """Add a coded texture and return its number."""
        mips = []
        for data in texture.mips:
            offset = self._append(data)
            mips.append((offset, len(data), zlib.crc32(data)))
        entry = TextureEntry(
            name=texture.name,
            format=texture.format,
            srgb=texture.srgb,
            width=texture.width,
            height=texture.height,
            mips=[],
            wrap_u=texture.wrap_u,
            wrap_v=texture.wrap_v,
            mag_filter=texture.mag_filter,
            min_filter=texture.min_filter,
            mipmaps=texture.mipmaps,
        )
        self._textures.append((entry, mips))
        return len(self._textures) - 1

    def add_part(
        self,
        row: NDArray[np.void],
        groups: NDArray[np.void],
        clusters: NDArray[np.void],
        pages: Iterable[EncodedPage | SpooledPage] | PageContent,
    ) -> int:
        """Add a part and return its number.

        ``row`` is one row (shape ()) of PART_DTYPE, ``groups`` and ``clusters`` are the part's. Numbers in them count
        within the part: ``producer`` and ``consumer`` its groups, ``page`` its pages; ``part``, ``first_group``,
        ``first_vertex`` and ``first_index`` are filled in here. Clusters are sorted by page. ``pages`` are all pages,
        or the content of the only one, which then is packed with others'. Pages may have been handed over before, by
        :meth:`spool`, so that they need not be held.
        """
        number = len(self._parts)
        part = np.array(row, PART_DTYPE).reshape(1).copy()
        part["first_group"], part["group_count"] = self._group_count, len(groups)
        self._parts.append(part)
        groups, clusters = groups.copy(), clusters.copy()
        groups["part"] = number
        clusters["part"] = number
        for end in ("producer", "consumer"):
            named = clusters[end] != NONE
            clusters[end][named] += self._group_count
        self._group_count += len(groups)
        self._groups.append(groups)
        if isinstance(pages, PageContent):
            if not len(clusters):
                return number
            taken = self._open_bytes.get(pages.kind, 0)
            if taken and taken + pages.decoded_bytes > PAGE_TARGET_BYTES:
                self._flush(pages.kind)
                taken = 0
            self._open.setdefault(pages.kind, []).append((pages, clusters, groups))
            self._open_bytes[pages.kind] = taken + pages.decoded_bytes
            return number
        groups["page"] += self._page_count
        done = 0
        for page in pages:
            self._add_page(page, clusters[done : done + page.cluster_count])
            done += page.cluster_count
        if done != len(clusters):
            raise ValueError("the pages do not hold all clusters")
        return number

    def _flush(self, kind: int) -> None:
        waiting = self._open.pop(kind, [])
        self._open_bytes.pop(kind, None)
        if not waiting:
            return
        contents = [content for content, _, _ in waiting]
        firsts = np.cumsum([0, *(len(content.grid) for content in contents)])
        joined = PageContent(
            np.concatenate([content.grid for content in contents]),
            None if kind == POINTS else stacked([_vertices(content) for content in contents], VERTEX_DTYPE),
            np.concatenate(
                [content.indices + np.uint32(first) for content, first in zip(contents, firsts[:-1], strict=True)]
            ),
            np.concatenate([_colors(content) for content in contents]) if kind == POINTS else None,
        )
        clusters = stacked([each for _, each, _ in waiting], CLUSTER_DTYPE)
        for _, _, groups in waiting:
            groups["page"] = self._page_count
        self._add_page(EncodedPage(encode_page(joined), len(joined.grid), len(joined.indices), len(clusters)), clusters)

    def spool(self, page: EncodedPage) -> SpooledPage:
        """Put a page's bytes away until its part is added."""
        return SpooledPage(
            self._append(page.data),
            len(page.data),
            zlib.crc32(page.data),
            page.vertex_count,
            page.index_count,
            page.cluster_count,
        )

    def _add_page(self, page: EncodedPage | SpooledPage, clusters: NDArray[np.void]) -> None:
        if isinstance(page, EncodedPage):
            page = self.spool(page)
        for count, first in (("vertex_count", "first_vertex"), ("index_count", "first_index")):
            counts = clusters[count].astype(np.int64)
            clusters[first] = np.cumsum(counts) - counts
        row = np.zeros(1, PAGE_DTYPE)
        row["offset"], row["size"], row["crc"] = page.offset, page.size, page.crc
        row["vertex_count"], row["index_count"] = page.vertex_count, page.index_count
        row["cluster_count"] = len(clusters)
        self._pages.append(row)
        self._clusters.append(clusters)
        self._page_count += 1

    def _append(self, data: bytes) -> int:
        offset = self._spooled
        self._spool.write(data)
        self._spooled += len(data)
        self._hash.update(data)
        return offset

    def finish(
        self,
        *,
        name: str,
        nodes: NDArray[np.void],
        node_names: Sequence[str],
        instances: NDArray[np.void],
        materials: Sequence[Material],
        bounds_min: tuple[float, float, float],
        bounds_max: tuple[float, float, float],
        metadata: Mapping[int, Mapping[str, MetadataValue]] | None = None,
        animations: Animations | None = None,
        scene_graph_mode: SceneGraphMode = "dynamic",
        recentering_offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        collision: bool = True,
        warnings: Sequence[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> int:
        """Write the file and return its bytes. ``nodes`` and ``instances`` are rows of NODE_DTYPE and INSTANCE_DTYPE.

        ``check`` is called between pages and may raise to give up. ``OSError`` as it comes.
        """
        for kind in list(self._open):
            self._flush(kind)
        groups = stacked(self._groups, GROUP_DTYPE)
        clusters = stacked(self._clusters, CLUSTER_DTYPE)
        pages = stacked(self._pages, PAGE_DTYPE)
        groups, clusters, pages = _coarse_to_fine(groups, clusters, pages)
        tables = {
            "parts": stacked(self._parts, PART_DTYPE),
            "groups": groups,
            "clusters": clusters,
            "pages": pages,
            "instances": np.asarray(instances, INSTANCE_DTYPE),
            "nodes": np.asarray(nodes, NODE_DTYPE),
        }
        for table in ("parts", "groups", "clusters", "instances", "nodes"):
            self._hash.update(tables[table].tobytes())
        self._hash.update(msgspec.msgpack.encode(list(materials)))
        moving = b"" if animations is None else encode_animations(animations)
        self._hash.update(moving)

        def index(sections: Mapping[str, Section], mips_at: int, moving_at: int) -> bytes:
            return msgspec.msgpack.encode(
                AssetIndex(
                    name=name,
                    generator=self._generator,
                    scene_graph_mode=scene_graph_mode,
                    bounds_min=bounds_min,
                    bounds_max=bounds_max,
                    recentering_offset=recentering_offset,
                    content_hash=self._hash.hexdigest(),
                    collision=collision,
                    node_names=list(node_names),
                    materials=list(materials),
                    textures=[
                        msgspec.structs.replace(entry, mips=next_mips)
                        for (entry, _), next_mips in zip(self._textures, mip_rows(mips_at), strict=True)
                    ],
                    metadata={str(node): dict(values) for node, values in (metadata or {}).items()},
                    warnings=list(warnings),
                    animations=None
                    if animations is None
                    else Section(moving_at, len(moving), len(animations.clips), zlib.crc32(moving)),
                    **sections,
                )
            )

        def mip_rows(offset: int) -> list[list[MipLevel]]:
            rows = []
            for _, mips in self._textures:
                levels = []
                for _, size, crc in mips:
                    levels.append(MipLevel(offset, size, crc))
                    offset += size
                rows.append(levels)
            return rows

        # Offsets depend on the index' length and it on them: written with the largest it is as long as it can get.
        huge = Section(1 << 40, 1 << 40, NONE, NONE)
        tables_at = _aligned(HEAD.size + len(index({table: huge for table, _ in _TABLES}, 1 << 40, 1 << 40)))
        pages_at = tables_at
        coded: dict[str, bytes] = {}
        # Where pages lie depends on how long their own table is: it gets room enough for any offsets.
        for table, _ in _TABLES:
            if table != "pages":
                coded[table] = encode_rows(tables[table])
                pages_at += _aligned(len(coded[table]))
        sizes = pages["size"].astype(np.uint64)
        room = _aligned(len(encode_rows(pages)) + len(pages) * 8 + 1024)
        spooled_at = pages["offset"].copy()
        pages["offset"] = np.cumsum(sizes) - sizes + np.uint64(_aligned(pages_at + room))
        coded["pages"] = encode_rows(pages)
        if len(coded["pages"]) > room:
            raise ValueError("the pages' table outgrew its room")
        sections = {}
        offset = tables_at
        for table, dtype in _TABLES:
            data = coded[table]
            sections[table] = Section(offset, len(data), len(tables[table]), zlib.crc32(data))
            offset += room if table == "pages" else _aligned(len(data))
            assert dtype == tables[table].dtype
        data_at = _aligned(pages_at + room)
        mips_at = data_at + int(sizes.sum())
        moving_at = mips_at + sum(length for _, mips in self._textures for _, length, _ in mips)
        encoded = index(sections, mips_at, moving_at)
        size = moving_at + len(moving)
        with self._partial_path.open("xb") as file:
            file.write(HEAD.pack(MAGIC, VERSION, 0, size, HEAD.size, len(encoded), zlib.crc32(encoded)))
            file.write(encoded)
            for table, _ in _TABLES:
                file.seek(sections[table].offset)
                file.write(coded[table])
            file.seek(data_at)
            for at, length in zip(spooled_at.tolist(), sizes.tolist(), strict=True):
                check()
                self._copy(at, length, file)
            for _, mips in self._textures:
                for at, length, _ in mips:
                    check()
                    self._copy(at, length, file)
            file.write(moving)
            file.truncate(size)
            file.flush()
            os.fsync(file.fileno())
        self._partial_path.replace(self._path)
        self.abandon()
        return size

    def _copy(self, offset: int, length: int, file: Any) -> None:
        self._spool.seek(offset)
        file.write(self._spool.read(length))


def _vertices(content: PageContent) -> NDArray[np.void]:
    assert content.vertices is not None
    return np.asarray(content.vertices, VERTEX_DTYPE)


def _colors(content: PageContent) -> NDArray[np.uint8]:
    assert content.colors is not None
    return content.colors


def _aligned(offset: int) -> int:
    return -(-offset // 64) * 64


def _coarse_to_fine(
    groups: NDArray[np.void], clusters: NDArray[np.void], pages: NDArray[np.void]
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.void]]:
    """The tables with pages sorted so that each follows those that it depends on, by how far down they are."""
    counts = pages["cluster_count"].astype(np.int64)
    pages["first_cluster"] = np.cumsum(counts) - counts
    page_of_cluster = np.repeat(np.arange(len(pages)), counts)
    pairs = _page_pairs(groups, clusters, page_of_cluster)
    depth = np.zeros(len(pages), np.int64)
    for _ in range(len(pages) + 1):
        deeper = depth.copy()
        np.maximum.at(deeper, pairs[:, 0], depth[pairs[:, 1]] + 1)
        if (deeper == depth).all():
            break
        depth = deeper
    else:
        raise ValueError("pages depend on each other in a circle")
    order = np.argsort(depth, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    groups = groups.copy()
    groups["page"] = place[groups["page"]]
    clusters = clusters[np.argsort(place[page_of_cluster], kind="stable")]
    pages = pages[order]
    counts = pages["cluster_count"].astype(np.int64)
    pages["first_cluster"] = np.cumsum(counts) - counts
    return groups, clusters, pages
