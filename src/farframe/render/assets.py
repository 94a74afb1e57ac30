"""An ``.arrAsset`` on the device: its tables for selection, its textures, and which of its pages are resident."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.asset.blocks import BLOCK_BYTES, decode_blocks
from farframe.asset.format import HAS_COLOR, NONE, POINTS, TextureEntry
from farframe.asset.model import Material, TextureSlot
from farframe.protocol.errors import FarframeError, Result
from farframe.render.cut import CutTables, PageState, cut_tables, expand
from farframe.render.pipelines import OWN_SLOTS, Variant
from farframe.render.points import cluster_sizes
from farframe.render.resources import PartTables, Uploader, material_factors
from farframe.render.solids import ALONE, MOST_TRIANGLES, solid_parts

if TYPE_CHECKING:
    from farframe.asset.container import Asset
    from farframe.asset.pages import Page

ROOT_BYTES = 48 << 20
"""What is read of the coarsest pages before an asset is shown; the rest of them is streamed like all others."""
SMALL_MIP_BYTES = 16 << 10
"""Mip levels up to this size are read before an asset is shown."""


@dataclass(slots=True)
class PreparedAsset:
    """What can be made of an asset without a device: made by :func:`prepare_asset` on any thread."""

    asset: Asset
    tables: CutTables
    parents: tuple[NDArray[np.int64], NDArray[np.int64]]
    root_pages: dict[int, Page]
    mips: dict[tuple[int, int], bytes]
    solid: NDArray[np.uint8]
    """(p,) which parts have an inside, and how, see ``solids``."""


def prepare_asset(asset: Asset) -> PreparedAsset:
    """Read what an asset's first picture needs: tables, coarsest pages, small mip levels. Blocks on the source.

    Raises what reading raises.
    """
    tables = cut_tables(asset)
    starts, parents = asset.page_parents
    wanted = np.unique(tables.cluster_page[tables.roots.items]) if len(tables.roots.items) else np.zeros(0, np.int64)
    pages: dict[int, Page] = {}
    taken = 0
    # Pages are sorted from coarse to fine, so what a page depends on comes before it.
    for page in wanted.tolist():
        if taken >= ROOT_BYTES:
            break
        if not all(int(parent) in pages for parent in parents[starts[page] : starts[page + 1]]):
            continue
        pages[page] = asset.decode_page(page, asset.read_page(page))
        taken += pages[page].vertices.nbytes + pages[page].indices.nbytes
    mips = {
        (number, level): asset.read_mip(number, level)
        for number, texture in enumerate(asset.index.textures)
        for level, mip in enumerate(texture.mips)
        if mip.size <= SMALL_MIP_BYTES
    }
    solid = _solid_parts(asset, tables, pages)
    return PreparedAsset(asset, tables, (starts.astype(np.int64), parents.astype(np.int64)), pages, mips, solid)


def _solid_parts(asset: Asset, tables: CutTables, pages: dict[int, Page]) -> NDArray[np.uint8]:
    """(p,) which parts have an inside, and how, by their coarsest clusters. Parts of which not all of these are in
    ``pages`` count as solid if they are drawn with one side."""
    count = len(asset.parts)
    single = np.array([not material.double_sided for material in asset.index.materials] or [False], np.bool_)
    material = np.minimum(asset.parts["material"].astype(np.int64), len(single) - 1)
    solid = np.where(single[material] & ~tables.part_points, ALONE, 0).astype(np.uint8)
    cluster, part = tables.roots.expand(np.arange(count))
    unknown = np.zeros(count, np.bool_)
    unknown[part[~np.isin(tables.cluster_page[cluster], list(pages))]] = True
    triangles = np.bincount(part, tables.index_count[cluster] // 3, count)
    small = np.argsort(triangles, kind="stable")
    unknown[small[np.cumsum(triangles[small]) > MOST_TRIANGLES]] = True
    chosen = ~unknown[part] & ~tables.part_points[part]
    cluster, part = cluster[chosen], part[chosen]
    if not len(cluster):
        return solid
    numbers = {page: number for number, page in enumerate(pages)}
    first_vertex = np.cumsum([0, *(len(page.vertices) for page in pages.values())])
    first_index = np.cumsum([0, *(len(page.indices) for page in pages.values())])
    # Pages of points have rows of another kind, of which nothing is asked.
    positions = np.concatenate([page.vertices["position"] for page in pages.values()])
    indices = np.concatenate([page.indices for page in pages.values()])
    number = np.array([numbers[page] for page in tables.cluster_page[cluster].tolist()], np.int64)
    start = first_index[number] + tables.first_index[cluster]
    place, owner = expand(start, start + tables.index_count[cluster])
    base = first_vertex[number] + tables.first_vertex[cluster]
    corners = (indices[place].astype(np.int64) + base[owner]).reshape(-1, 3)
    rows = asset.instances
    found = solid_parts(positions, corners, part[owner[::3]], rows["part"], rows["matrix"], count)
    looked_at = np.unique(part)
    solid[looked_at] = found[looked_at]
    return solid


@dataclass(slots=True, eq=False)
class AssetTexture:
    """A texture of which the small levels come first. ``first`` is the finest level of an unbroken row up to the
    coarsest that is there; ``len(entry.mips)`` while there is none."""

    entry: TextureEntry
    texture: Any
    decoded: bool
    there: set[int] = field(default_factory=set)

    @property
    def first(self) -> int:
        """See the class."""
        level = len(self.entry.mips)
        while level - 1 in self.there:
            level -= 1
        return level


@dataclass(slots=True, eq=False)
class AssetResource:
    """An asset on the device. Made by :meth:`Engine.open_asset`, freed by :meth:`Engine.release`.

    Has the members of :class:`~farframe.render.resources.ModelResource` that placement and drawing use; ``pages`` is
    its residency, ``dependants`` (P,) how many resident pages depend on a page, ``root_page`` (P,) which of them hold
    the coarsest clusters.
    """

    asset: Asset
    tables: CutTables
    pages: PageState
    page_parents: tuple[NDArray[np.int64], NDArray[np.int64]]
    page_kind: NDArray[np.int64]
    root_page: NDArray[np.bool_]
    dependants: NDArray[np.int64]
    parts: PartTables
    instance_part: NDArray[np.int32]
    instance_matrix: NDArray[np.float64]
    factors: NDArray[np.float32]
    texture_set: NDArray[np.int64]
    uploader: Uploader
    solid: NDArray[np.uint8]
    """(p,) which parts have an inside, and how, see ``solids``."""
    textures: list[AssetTexture] = field(default_factory=list)
    texture_keys: list[tuple[int, ...]] = field(default_factory=list)
    texture_sets: list[Any] = field(default_factory=list)
    failures: dict[tuple[int, int], int] = field(default_factory=dict)
    size_bytes: int = 0
    released: bool = False

    @property
    def name(self) -> str:
        """The asset's name."""
        return self.asset.index.name

    @property
    def materials(self) -> list[Material]:
        """The asset's materials."""
        return self.asset.index.materials

    @property
    def triangle_count(self) -> int:
        """Triangles of all instances at full detail."""
        counts = np.where(self.tables.part_points, 0, self.asset.parts["triangles"].astype(np.int64))
        return int(counts[self.instance_part].sum()) if len(self.instance_part) else 0

    def variant(self, part: int, *, mirrored: bool) -> Variant:
        """The pipeline variant that draws a part."""
        if self.tables.part_points[part]:
            return Variant(points=True, unlit=True)
        number = int(self.parts.material[part])
        material, flat = self.materials[number], self.normal_xy(number)
        return Variant.of(material, vertex_color=bool(self.parts.vertex_color[part]), mirrored=mirrored, normal_xy=flat)

    def normal_xy(self, material: int) -> bool:
        """Whether the normal map of a material has two channels."""
        normal = self.materials[material].normal_texture
        return normal is not None and self.textures[normal.texture].entry.format == "bc5-rg-unorm"

    def texture_binding(self, uploader: Uploader, number: int) -> tuple[Any, Any] | None:
        """A view of the levels of a texture that are there, and its sampler; ``None`` while there is none."""
        texture = self.textures[number]
        levels = len(texture.entry.mips) - texture.first
        if not levels:
            return None
        view = texture.texture.create_view(base_mip_level=texture.first, mip_level_count=levels)
        return view, uploader.sampler(texture.entry)

    def texture_state(self, number: int) -> int:
        """Changes whenever levels of a texture come."""
        return self.textures[number].first

    def parents_of(self, page: int) -> list[int]:
        """The pages on which a page depends directly."""
        starts, parents = self.page_parents
        found: list[int] = parents[starts[page] : starts[page + 1]].tolist()
        return found

    def set_resident(self, page: int, content: Page, vertex: int, index: int, picture: int) -> None:
        """A page lies in the pools from these rows on."""
        state = self.pages
        state.resident[page] = True
        state.vertex[page], state.index[page], state.used[page] = vertex, index, picture
        self.dependants[self.parents_of(page)] += 1
        if self.page_kind[page] == POINTS:
            row = self.asset.pages[page]
            first = int(row["first_cluster"])
            rows = slice(first, first + int(row["cluster_count"]))
            self.tables.point_size[rows] = cluster_sizes(content.vertices, self.tables.first_vertex[rows])

    def set_absent(self, page: int) -> None:
        """A page lies in the pools no more."""
        self.pages.resident[page] = False
        self.dependants[self.parents_of(page)] -= 1

    def missing_mips(self) -> list[tuple[float, tuple[int, int]]]:
        """Priority and (texture, level) of each texture's next finer level."""
        return [
            (4.0 / max(1.0, mip.size / 262_144), (number, level))
            for number, texture in enumerate(self.textures)
            if (level := texture.first - 1) >= 0
            for mip in (texture.entry.mips[level],)
        ]

    def level_data(self, number: int, level: int, data: bytes | None = None) -> bytes:
        """A level in the form that the device takes; reads it if its bytes are not given. For worker threads."""
        texture = self.textures[number]
        entry = texture.entry
        if data is None:
            data = self.asset.read_mip(number, level)
        if not texture.decoded or entry.format == "rgba8unorm":
            return data
        width, height = max(entry.width >> level, 1), max(entry.height >> level, 1)
        return decode_blocks(entry.format, data, width, height).tobytes()

    def write_mip(self, number: int, level: int, data: bytes) -> None:
        """Put a level onto the device, and let the shaders see it once those below are there."""
        texture = self.textures[number]
        if level in texture.there:
            return
        before = texture.first
        self.uploader.write_level(texture, level, data)
        texture.there.add(level)
        if texture.first != before:
            self.bind(number)

    def bind(self, number: int | None = None) -> None:
        """Make the bind groups anew that hold texture ``number``, or all."""
        for row, key in enumerate(self.texture_keys):
            if number is None or number in key:
                self.texture_sets[row] = self.uploader.asset_texture_set(self, key)

    def destroy(self) -> None:
        """Free the textures. The pages belong to :class:`~farframe.render.streaming.Residency`."""
        self.released = True
        for texture in self.textures:
            texture.texture.destroy()
        self.textures.clear()
        self.texture_sets.clear()
        self.size_bytes = 0


def make_resource(prepared: PreparedAsset, device: Any, uploader: Uploader) -> AssetResource:
    """The resource, without its pages. Raises ExceedsMemoryLimit for a texture larger than the device takes."""
    asset, tables = prepared.asset, prepared.tables
    parts = asset.parts
    count = len(parts)
    low, high = parts["bounds_min"].astype(np.float64), parts["bounds_max"].astype(np.float64)
    materials = asset.index.materials
    # A part of points may name no material: it is never looked up, but the row must exist.
    material = np.where(parts["material"] == NONE, 0, parts["material"]).astype(np.int64)
    material = np.minimum(material, max(len(materials) - 1, 0))
    factors = material_factors(materials) if materials else np.ones((1, 12), np.float32)
    matrix = np.zeros((len(asset.instances), 4, 4))
    matrix[:, :3] = asset.instances["matrix"]
    matrix[:, 3, 3] = 1.0
    first_clusters = asset.pages["first_cluster"].astype(np.int64)
    page_kind = asset.parts["kind"][asset.clusters["part"][first_clusters]].astype(np.int64)
    root_page = np.zeros(len(asset.pages), np.bool_)
    root_page[tables.cluster_page[tables.roots.items]] = True
    resource = AssetResource(
        asset=asset,
        tables=tables,
        pages=PageState.empty(len(asset.pages)),
        page_parents=prepared.parents,
        page_kind=page_kind,
        root_page=root_page,
        dependants=np.zeros(len(asset.pages), np.int64),
        parts=PartTables(
            center=(low + high) / 2.0,
            extent=np.maximum((high - low) / 2.0, 0.0),
            first_index=np.zeros((count, 1), np.uint32),
            count=np.ones((count, 1), np.uint32),
            error=np.zeros((count, 1), np.float32),
            first_vertex=np.zeros(count, np.uint32),
            material=material,
            vertex_color=np.asarray((parts["streams"] & HAS_COLOR) != 0, np.bool_),
        ),
        instance_part=asset.instances["part"].astype(np.int32),
        instance_matrix=matrix,
        factors=factors,
        texture_set=np.full(max(len(materials), 1), -1, np.int64),
        uploader=uploader,
        solid=prepared.solid,
    )
    side = int(device.limits["max-texture-dimension-2d"])
    complete = False
    try:
        for entry in asset.index.textures:
            if max(entry.width, entry.height) > side:
                raise FarframeError(
                    Result.EXCEEDS_MEMORY_LIMIT,
                    f"The texture {entry.name!r} of {entry.width} x {entry.height} pixels is larger than this "
                    f"device's {side}.",
                    next_step="Scale it down.",
                )
            resource.textures.append(uploader.make_asset_texture(entry))
            decoded = resource.textures[-1].decoded
            resource.size_bytes += (
                sum(mip.size for mip in entry.mips) if not decoded else entry.width * entry.height * 5
            )
        _key_textures(resource)
        for (number, level), data in prepared.mips.items():
            resource.write_mip(number, level, resource.level_data(number, level, data))
        resource.bind()
        complete = True
    finally:
        if not complete:
            resource.destroy()
    return resource


def _key_textures(resource: AssetResource) -> None:
    """One key for each distinct set of textures."""
    keys: dict[tuple[int, ...], int] = {}
    for index, material in enumerate(resource.materials):
        if not Variant.of(material, vertex_color=False, mirrored=False).textured:
            continue
        slots: list[TextureSlot | None] = [getattr(material, f"{name}_texture") for name in OWN_SLOTS]
        key = tuple(-1 if slot is None else slot.texture for slot in slots)
        if key not in keys:
            keys[key] = len(keys)
            resource.texture_keys.append(key)
            resource.texture_sets.append(None)
        resource.texture_set[index] = keys[key]


def texture_usage() -> int:
    """How textures of assets are used."""
    return int(wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST)


def level_layout(texture: AssetTexture, level: int) -> tuple[int, int, int]:
    """Bytes per row, and width and height, in whole blocks if it is of blocks on the device, of a level."""
    entry = texture.entry
    width, height = max(entry.width >> level, 1), max(entry.height >> level, 1)
    if texture.decoded or entry.format == "rgba8unorm":
        return width * 4, width, height
    across, down = (width + 3) // 4, (height + 3) // 4
    return across * BLOCK_BYTES[entry.format], across * 4, down * 4
