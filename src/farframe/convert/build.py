"""From a model in memory (or mapped) to an ``.arrAsset``: graphs of clusters, coded textures, one file.

Small parts are built many at a time, large ones in blocks that meet at locked borders and are joined by a last build
over their coarse levels (:mod:`farframe.convert.blocks`). Both are spread over processes.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from farframe import __version__
from farframe.asset.budget import Progress, no_progress
from farframe.asset.container import AssetWriter, SpooledPage, Texels
from farframe.asset.format import (
    GROUP_DTYPE,
    HAS_COLOR,
    INSTANCE_DTYPE,
    NODE_DTYPE,
    NONE,
    PART_DTYPE,
    TEXTURE_SLOTS,
    TRIANGLES,
    SceneGraphMode,
)
from farframe.asset.model import Material, MetadataValue, Model, Part, Texture
from farframe.asset.pages import streams_of
from farframe.convert.blocks import (
    BLOCK_TRIANGLES,
    Block,
    SortedTriangles,
    build_block,
    join_blocks,
    sort_into_blocks,
)
from farframe.convert.build_textures import Role, encoded_texture, texture_role
from farframe.convert.clusters import Built, Cluster, Grid, Surface, SurfaceStyle
from farframe.convert.parallel import Workers, core_count
from farframe.protocol.errors import FarframeError, Result

if TYPE_CHECKING:
    from farframe.convert.points import PointCloud

GENERATOR = f"Farframe {__version__}"
MAX_GRID = 1 << 22
"""Steps of a part's grid along its largest side: places in a block are whole numbers in single precision."""

MIN_GRID = 1 << 14
STEPS_PER_EDGE = 64
"""Steps of the grid in a short edge of the surface: what is lost by snapping is far below what simplification moves."""

SAMPLED_EDGES = 100_000
BLOCK_BYTES_PER_TRIANGLE = 600
"""What building a block takes, about, with all copies."""

MIN_BLOCK_TRIANGLES = 100_000
"""However little memory may be used: the more blocks, the more borders."""

SMALL_MODEL = 150_000
"""Indices up to which processes are not worth their start."""

SMALL_TEXTURES = 1 << 18
"""Pixels up to which processes are not worth their start."""

PART_COST = 300
"""What a part costs beside its triangles, in triangles."""

THIN_TRIANGLES = 1_000
"""Raised lettering and labels have few triangles; thin parts with more (belts, sheet metal) are worth simplifying."""

THIN = 1 / 40
"""A part is thin if its thickness is below this share of its largest extent."""

THIN_ERROR = 0.1
"""The error up to which a thin part's level is as good as any, in parts of its thickness: surfaces that lie closely
over one another stay in order. Single points may be off by several times the error."""

THIN_EXTENT_ERROR = 1 / 16
"""A thin part's further levels claim no less than this error, in parts of its largest extent."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build. ``workers``: processes, 0 for one per core. ``memory_bytes``: what the build may use, about.
    ``metadata``: by node, what the asset keeps. ``recentering_offset``: what was subtracted from all positions."""

    workers: int = 0
    memory_bytes: int = 4 << 30
    scene_graph_mode: SceneGraphMode = "dynamic"
    recentering_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    compress_textures: bool = True
    metadata: Mapping[int, Mapping[str, MetadataValue]] = field(default_factory=dict)
    collision: bool = True


@dataclass(kw_only=True)
class BuildReport:
    """What was built: counts of the whole asset, ``levels`` of the deepest part, ``bytes`` of the file, ``seconds`` by
    step, and the largest resident memory of this process and of any of its workers, in bytes."""

    triangles: int = 0
    points: int = 0
    clusters: int = 0
    groups: int = 0
    pages: int = 0
    levels: int = 0
    bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0


def build_asset(
    source: Model | PointCloud, path: Path, options: BuildOptions, progress: Progress = no_progress
) -> BuildReport:
    """Build ``source`` into the file ``path``, which appears when it is whole.

    ``progress`` is called often and may raise to give up. Raises FileCorrupt for positions that are no numbers,
    ``OSError`` as it comes.
    """
    report = BuildReport()
    with AssetWriter(path, generator=GENERATOR) as writer:
        if isinstance(source, Model):
            _build_model(source, writer, options, progress, report, path.parent)
        else:
            _build_cloud(source, writer, options, progress, report, path.parent)
        report.pages = writer.page_count
    report.peak_memory = max(_peak_memory(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _RSS_UNIT)
    return report


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    with contextlib.suppress(OSError, ValueError):
        # Resource usage would count what the process was before it became this program.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _build_cloud(
    cloud: PointCloud,
    writer: AssetWriter,
    options: BuildOptions,
    progress: Progress,
    report: BuildReport,
    folder: Path,
) -> None:
    from farframe.convert.octree import build_points

    built = build_points(cloud, cast(Any, writer), options, progress, folder=folder)
    report.points, report.clusters, report.groups = built.points, built.clusters, built.groups
    report.levels, report.bytes, report.seconds = built.levels, built.bytes, built.seconds


def _build_model(
    model: Model, writer: AssetWriter, options: BuildOptions, progress: Progress, report: BuildReport, folder: Path
) -> None:
    clock = time.monotonic
    started = clock()
    progress("clusters", 0.0)
    total = sum(part.levels[0].index_count for part in model.parts) or 1
    done = 0
    numbers = np.zeros(len(model.parts), np.int64)
    count = options.workers or core_count()
    block_size = int(
        np.clip(options.memory_bytes // (2 * count * BLOCK_BYTES_PER_TRIANGLE), MIN_BLOCK_TRIANGLES, BLOCK_TRIANGLES)
    )
    large = [i for i, part in enumerate(model.parts) if part.levels[0].index_count > 3 * 1.5 * block_size]
    with contextlib.ExitStack() as stack:
        sorted_parts: dict[int, _LargePart] = {}
        for number in large:
            part = model.parts[number]
            vertices, indices = part_vertices(model, part), part_indices(model, part)
            material = model.materials[part.material]
            grid, style = grid_and_style(vertices["position"], indices, material, streams_of(vertices))
            triangles = sort_into_blocks(vertices["position"], indices, folder, block_size)
            stack.callback(triangles.path.unlink, missing_ok=True)
            sorted_parts[number] = _LargePart(triangles, grid, style)
        report.seconds["sorting"] = clock() - started
        shared = _Shared(model, sorted_parts)
        batches = _batches(model, frozenset(large), max(min(total // 3 // (8 * count), 200_000), 1))
        workers = stack.enter_context(Workers(_build_batch, shared, count if total > SMALL_MODEL else 1))
        for members, results in zip(batches, workers.map(batches), strict=True):
            for number, (row, built) in zip(members, results, strict=True):
                numbers[number] = add_built(writer, row, built, report)
                done += model.parts[number].levels[0].index_count
            progress("clusters", min(0.8 * done / total, 0.8))
        for number in large:
            numbers[number] = _build_large(
                number, shared, workers.count, writer, report, _Share(progress, 0.8 * done / total, 0.8 / total)
            )
            done += model.parts[number].levels[0].index_count
    report.seconds["clusters"] = clock() - started
    started = clock()
    pixels = sum(texture.pixels.shape[0] * texture.pixels.shape[1] for texture in model.textures)
    roles = [texture_role(model, number) for number in range(len(model.textures))]
    coding = _Coding(model.textures, roles, options.compress_textures)
    with Workers(_encode_texture, coding, min(count, len(roles)) if pixels > SMALL_TEXTURES else 1) as coders:
        for number, texture in enumerate(coders.map(range(len(roles)))):
            writer.add_texture(texture)
            progress("textures", min(0.8 + 0.15 * (number + 1) / len(roles), 0.95))
    report.seconds["textures"] = clock() - started
    started = clock()
    progress("writing", 0.95)
    nodes = np.zeros(len(model.nodes), NODE_DTYPE)
    for index, node in enumerate(model.nodes):
        nodes[index] = (node.matrix[:3], node.parent, 0)
    instances = np.zeros(len(model.instance_part), INSTANCE_DTYPE)
    instances["matrix"] = model.instance_matrix[:, :3]
    instances["part"] = numbers[model.instance_part]
    instances["node"] = model.instance_node
    report.bytes = writer.finish(
        name=model.name,
        nodes=nodes,
        node_names=[node.name for node in model.nodes],
        instances=instances,
        materials=model.materials,
        bounds_min=model.bounds_min,
        bounds_max=model.bounds_max,
        metadata=options.metadata,
        animations=model.animations,
        scene_graph_mode=options.scene_graph_mode,
        recentering_offset=options.recentering_offset,
        collision=options.collision,
        warnings=model.warnings,
    )
    report.seconds["writing"] = clock() - started
    progress("writing", 1.0)


@dataclass(frozen=True, slots=True)
class _LargePart:
    """A part that is built in blocks."""

    triangles: SortedTriangles
    grid: Grid
    style: SurfaceStyle


@dataclass(frozen=True, slots=True)
class _Coding:
    """What those who code textures know when they begin."""

    textures: list[Texture]
    roles: list[Role]
    compress: bool


def _encode_texture(coding: _Coding, number: int) -> Texels:
    return encoded_texture(coding.textures[number], coding.roles[number], compress=coding.compress)


@dataclass(frozen=True, slots=True)
class _Share:
    """The progress of one part of a whole: it begins at ``first``, and each index of it counts ``each``."""

    progress: Progress
    first: float
    each: float

    def tell(self, indices: int) -> None:
        """So many indices are done."""
        self.progress("clusters", min(self.first + self.each * indices, 0.8))


@dataclass(frozen=True, slots=True)
class _Shared:
    """What workers know when they begin."""

    model: Model
    large: dict[int, _LargePart]


def _batches(model: Model, apart: frozenset[int], size: int) -> list[list[int]]:
    """The parts but those ``apart``, in order, in batches of about ``size`` triangles."""
    batches: list[list[int]] = []
    room = 0
    for number, part in enumerate(model.parts):
        if number in apart:
            continue
        # A part costs something, however small it is.
        cost = part.levels[0].index_count // 3 + PART_COST
        if room < cost or not batches:
            batches.append([])
            room = size
        batches[-1].append(number)
        room -= cost
    return batches


def _build_batch(shared: _Shared, members: list[int]) -> list[tuple[NDArray[np.void], Built]]:
    model = shared.model
    results = []
    for number in members:
        part = model.parts[number]
        material = model.materials[part.material]
        results.append(build_part(part_vertices(model, part), part_indices(model, part), material, part.material))
    return results


def _build_one_block(shared: _Shared, task: tuple[int, int]) -> Block:
    number, block = task
    part = shared.large[number]
    vertices = part_vertices(shared.model, shared.model.parts[number])
    return build_block(vertices, part.triangles.read(block), part.grid, part.style)


def _build_large(
    number: int,
    shared: _Shared,
    count: int,
    writer: AssetWriter,
    report: BuildReport,
    progress: _Share,
) -> int:
    """Build a part in blocks and join them; its number in the asset."""
    part = shared.large[number]
    groups: list[NDArray[np.void]] = []
    clusters: list[NDArray[np.void]] = []
    pages: list[SpooledPage] = []
    rows: list[NDArray[np.void]] = []
    rests: list[list[Cluster]] = []
    first_group = levels = streams = 0
    tasks = [(number, block) for block in range(len(part.triangles))]

    def add(built: Built) -> None:
        nonlocal first_group, levels
        built.groups["page"] += len(pages)
        groups.append(built.groups)
        clusters.append(built.clusters)
        pages.extend(writer.spool(page) for page in built.pages)
        first_group += len(built.groups)

    with Workers(_build_one_block, shared, count) as workers:
        for block, made in enumerate(workers.map(tasks)):
            built = made.built
            for end in ("producer", "consumer"):
                named = built.clusters[end] != NONE
                built.clusters[end][named] += first_group
            for cluster in built.rest:
                if cluster.producer != NONE:
                    cluster.producer += first_group
            add(built)
            rows.append(made.rows)
            rests.append(built.rest)
            streams |= made.streams
            levels = max(levels, built.levels)
            progress.tell(int(part.triangles.starts[block + 1]) * 3)
    last = join_blocks(rows, rests, part.grid, part.style, first_group)
    levels += last.levels - 1
    add(last)
    whole = Built(np.concatenate(groups), np.concatenate(clusters), [], levels=levels)
    row = part_row(part.grid, shared.model.parts[number].material, streams, whole)
    return add_built(writer, row, whole, report, pages)


def add_built(
    writer: AssetWriter,
    row: NDArray[np.void],
    built: Built,
    report: BuildReport,
    spooled: list[SpooledPage] | None = None,
) -> int:
    """Hand a part to the writer and count it; its number in the asset."""
    number = writer.add_part(
        row, built.groups, built.clusters, spooled or (built.pages if built.content is None else built.content)
    )
    report.triangles += int(row["triangles"])
    report.groups += len(built.groups)
    report.clusters += len(built.clusters)
    report.levels = max(report.levels, built.levels)
    return number


def part_vertices(model: Model, part: Part) -> NDArray[np.void]:
    """A part's vertices."""
    return model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]


def part_indices(model: Model, part: Part) -> NDArray[np.uint32]:
    """The full surface of a part, from its first vertex."""
    level = part.levels[0]
    return model.indices[level.first_index : level.first_index + level.index_count]


def build_part(
    vertices: NDArray[np.void], indices: NDArray[np.uint32], material: Material, material_number: int
) -> tuple[NDArray[np.void], Built]:
    """One part that fits into memory: its row (PART_DTYPE) and its graph."""
    streams = streams_of(vertices)
    grid, style = grid_and_style(vertices["position"], indices, material, streams)
    surface = Surface(vertices, indices, grid, style, streams)
    built = surface.build(surface.first_clusters())
    return part_row(grid, material_number, surface.streams, built), built


def part_row(grid: Grid, material: int, streams: int, built: Built) -> NDArray[np.void]:
    """The row of a part of triangles."""
    row = np.zeros((), PART_DTYPE)
    row["origin"], row["step"] = grid.origin, grid.step
    row["material"], row["kind"], row["streams"] = material, TRIANGLES, streams
    full = built.clusters["producer"] == NONE
    row["triangles"] = built.clusters["index_count"][full].sum(dtype=np.int64) // 3
    row["vertices"] = built.clusters["vertex_count"][full].sum(dtype=np.int64)
    if full.any():
        row["bounds_min"] = built.clusters["bounds_min"][full].min(axis=0)
        row["bounds_max"] = built.clusters["bounds_max"][full].max(axis=0)
    assert built.groups.dtype == GROUP_DTYPE
    return row


def grid_and_style(
    positions: NDArray[np.float32], indices: NDArray[np.uint32], material: Material, streams: int
) -> tuple[Grid, SurfaceStyle]:
    """Where a part's places are, and what its look asks for. Raises FileCorrupt for positions that are no numbers."""
    if not len(positions) or not len(indices):
        return Grid(np.zeros(3), 1.0), SurfaceStyle(False, False, 1.0)
    columns = np.ascontiguousarray(positions.T)
    low, high = columns.min(axis=1).astype(np.float64), columns.max(axis=1).astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()) or max(np.abs(low).max(), np.abs(high).max()) > 1e18:
        raise FarframeError(
            Result.FILE_CORRUPT,
            "A part has positions that are no numbers, or far out of all range.",
            next_step="Repair it.",
        )
    extent = float((high - low).max())
    triangles = len(indices) // 3
    sample = indices.reshape(-1, 3)[:: triangles // SAMPLED_EDGES + 1]
    sides = columns.take(sample[:, 1], axis=1).astype(np.float64) - columns.take(sample[:, 0], axis=1)
    edges = np.einsum("ij,ij->j", sides, sides)
    edges = edges[edges > 0.0]
    # One in twenty is shorter.
    shorter = len(edges) // 20
    short = float(np.sqrt(np.partition(edges, shorter)[shorter])) if len(edges) else 0.0
    # No finer than the numbers that positions are decoded to.
    finest = max(extent / MAX_GRID, float(max(np.abs(low).max(), np.abs(high).max())) * 2.0**-24, 1e-30)
    step = max(min(short / STEPS_PER_EDGE, extent / MIN_GRID), finest)
    # A power of two: what lies on a coarser binary grid already, stays where it is.
    step = 2.0 ** np.floor(np.log2(step))
    origin = np.floor(low / step) * step
    textured = any(getattr(material, name) is not None for name in TEXTURE_SLOTS)
    thin_error = np.inf
    if triangles <= THIN_TRIANGLES:
        thickness = _thickness(columns, indices)
        if 0.0 < thickness < THIN * extent:
            thin_error = THIN_ERROR * thickness
    return Grid(origin, step), SurfaceStyle(
        textured, bool(streams & HAS_COLOR), extent, thin_error, extent * THIN_EXTENT_ERROR
    )


def _thickness(columns: NDArray[np.float32], indices: NDArray[np.uint32]) -> float:
    """How thick a closed surface is that is much wider than thick, from its volume and area; 0 if it is open.

    ``columns`` (3, n) are x, y and z of its vertices.
    """
    begin, second, third = columns.take(indices, axis=1).astype(np.float64).reshape(3, -1, 3).transpose(2, 0, 1)
    (ux, uy, uz), (vx, vy, vz) = second - begin, third - begin
    faces = np.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx])
    twice_area = float(np.sqrt(np.einsum("ij,ij->j", faces, faces)).sum())
    # The area vectors of a closed surface add up to nothing; so its volume is the same from any point.
    if not 0.0 < twice_area < np.inf or float(np.linalg.norm(faces.sum(axis=1))) > 0.01 * twice_area:
        return 0.0
    six_volumes = float(np.einsum("ij,ij->", begin - begin[:, :1], faces))
    return 2 * abs(six_volumes / 6) / (twice_area / 2)
