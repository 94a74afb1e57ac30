"""From a model in memory (or mapped) to an ``.arrAsset``: graphs of clusters, coded textures, one file.

Small parts are built many at a time, large ones in blocks that meet at locked borders and are joined by a last build
over their coarse levels (:mod:`farframe.convert.blocks`). Both are spread over processes.
"""

from __future__ import annotations

import importlib
import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from farframe import __version__
from farframe.asset.budget import Progress, no_progress
from farframe.asset.container import AssetWriter
from farframe.asset.format import (
    GROUP_DTYPE,
    HAS_COLOR,
    INSTANCE_DTYPE,
    NODE_DTYPE,
    PART_DTYPE,
    TRIANGLES,
    MetadataValue,
    SceneGraphMode,
)
from farframe.asset.model import Material, Model, Part
from farframe.asset.pages import streams_of
from farframe.convert.build_textures import encoded_texture, texture_role
from farframe.convert.clusters import Built, Grid, Surface, SurfaceStyle
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
            _build_model(source, writer, options, progress, report)
        else:
            _build_cloud(source, writer, options, progress, report, path.parent)
        report.pages = writer.page_count
    report.peak_memory = max(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    ) * (1 if os.uname().sysname == "Darwin" else 1024)
    return report


def _build_cloud(
    cloud: PointCloud,
    writer: AssetWriter,
    options: BuildOptions,
    progress: Progress,
    report: BuildReport,
    folder: Path,
) -> None:
    octree = importlib.import_module("farframe.convert.octree")
    built = octree.build_points(cloud, writer, options, progress, folder=folder)
    report.points, report.clusters, report.groups = built.points, built.clusters, built.groups
    report.levels, report.bytes, report.seconds = built.levels, built.bytes, built.seconds


def _build_model(
    model: Model, writer: AssetWriter, options: BuildOptions, progress: Progress, report: BuildReport
) -> None:
    clock = time.monotonic
    started = clock()
    progress("clusters", 0.0)
    total = sum(part.levels[0].index_count for part in model.parts) or 1
    done = 0
    for part in model.parts:
        indices = part_indices(model, part)
        vertices = model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]
        row, built = build_part(vertices, indices, model.materials[part.material], part.material)
        add_built(writer, row, built, report)
        done += len(indices)
        progress("clusters", 0.8 * done / total)
    report.seconds["clusters"] = clock() - started
    started = clock()
    for number, texture in enumerate(model.textures):
        progress("textures", 0.8 + 0.15 * number / len(model.textures))
        writer.add_texture(encoded_texture(texture, texture_role(model, number), compress=options.compress_textures))
    report.seconds["textures"] = clock() - started
    started = clock()
    progress("writing", 0.95)
    nodes = np.zeros(len(model.nodes), NODE_DTYPE)
    for index, node in enumerate(model.nodes):
        nodes[index] = (node.matrix[:3], node.parent, 0)
    instances = np.zeros(len(model.instance_part), INSTANCE_DTYPE)
    instances["matrix"] = model.instance_matrix[:, :3]
    instances["part"], instances["node"] = model.instance_part, model.instance_node
    report.bytes = writer.finish(
        name=model.name,
        nodes=nodes,
        node_names=[node.name for node in model.nodes],
        instances=instances,
        materials=model.materials,
        bounds_min=model.bounds_min,
        bounds_max=model.bounds_max,
        metadata=options.metadata,
        scene_graph_mode=options.scene_graph_mode,
        recentering_offset=options.recentering_offset,
        collision=options.collision,
        warnings=model.warnings,
    )
    report.seconds["writing"] = clock() - started
    progress("writing", 1.0)


def add_built(writer: AssetWriter, row: NDArray[np.void], built: Built, report: BuildReport) -> None:
    """Hand a part to the writer and count it."""
    writer.add_part(row, built.groups, built.clusters, built.pages if built.content is None else built.content)
    report.triangles += int(row["triangles"])
    report.groups += len(built.groups)
    report.clusters += len(built.clusters)
    report.levels = max(report.levels, built.levels)


def part_indices(model: Model, part: Part) -> NDArray[np.uint32]:
    """The full surface of a part, from its first vertex."""
    level = part.levels[0]
    return model.indices[level.first_index : level.first_index + level.index_count]


def build_part(
    vertices: NDArray[np.void], indices: NDArray[np.uint32], material: Material, material_number: int
) -> tuple[NDArray[np.void], Built]:
    """One part that fits into memory: its row (PART_DTYPE) and its graph."""
    grid, style = grid_and_style(vertices["position"], indices, material, streams_of(vertices))
    surface = Surface(vertices, indices, grid, style)
    built = surface.build(surface.first_clusters())
    return part_row(grid, material_number, surface.streams, built), built


def part_row(grid: Grid, material: int, streams: int, built: Built) -> NDArray[np.void]:
    """The row of a part of triangles."""
    row = np.zeros((), PART_DTYPE)
    row["origin"], row["step"] = grid.origin, grid.step
    row["material"], row["kind"], row["streams"] = material, TRIANGLES, streams
    full = built.clusters["producer"] == 0xFFFF_FFFF
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
    low, high = positions.min(axis=0).astype(np.float64), positions.max(axis=0).astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()) or max(np.abs(low).max(), np.abs(high).max()) > 1e18:
        raise FarframeError(
            Result.FILE_CORRUPT,
            "A part has positions that are no numbers, or far out of all range.",
            next_step="Repair it.",
        )
    extent = float((high - low).max())
    triangles = len(indices) // 3
    sample = indices.reshape(-1, 3)[:: triangles // SAMPLED_EDGES + 1]
    edges = np.linalg.norm(
        positions[sample[:, 1]].astype(np.float64) - positions[sample[:, 0]].astype(np.float64), axis=1
    )
    edges = edges[edges > 0.0]
    short = float(np.percentile(edges, 5)) if len(edges) else 0.0
    # No finer than the numbers that positions are decoded to.
    finest = max(extent / MAX_GRID, float(max(np.abs(low).max(), np.abs(high).max())) * 2.0**-24, 1e-30)
    step = max(min(short / STEPS_PER_EDGE, extent / MIN_GRID), finest)
    # A power of two: what lies on a coarser binary grid already, stays where it is.
    step = 2.0 ** np.floor(np.log2(step))
    origin = np.floor(low / step) * step
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
    thin_error = np.inf
    if triangles <= THIN_TRIANGLES:
        thickness = _thickness(positions, indices)
        if 0.0 < thickness < THIN * extent:
            thin_error = THIN_ERROR * thickness
    return Grid(origin, step), SurfaceStyle(
        textured, bool(streams & HAS_COLOR), extent, thin_error, extent * THIN_EXTENT_ERROR
    )


def _thickness(positions: NDArray[np.float32], indices: NDArray[np.uint32]) -> float:
    """How thick a closed surface is that is much wider than thick, from its volume and area; 0 if it is open."""
    corners = positions[indices].reshape(-1, 3, 3).astype(np.float64)
    apex = corners[0, 0]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice_area = float(np.linalg.norm(faces, axis=1).sum())
    # The area vectors of a closed surface add up to nothing; so its volume is the same from any point.
    if not 0.0 < twice_area < np.inf or float(np.linalg.norm(faces.sum(axis=0))) > 0.01 * twice_area:
        return 0.0
    six_volumes = float(np.einsum("ij,ij->", corners[:, 0] - apex, faces))
    return 2 * abs(six_volumes / 6) / (twice_area / 2)
