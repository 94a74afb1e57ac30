"""What a box or a ball overlaps: parts by their boxes in the render thread; the rest on a worker thread.

instance   its box along the world's axes                                          render thread
instance   its own box, wherever it was turned to                                  here; the answer for bounds
cluster    its own box; one that lies wholly inside settles it                     geometry
triangle   of the pages that hold such clusters, until one overlaps                here
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray

from farframe.protocol import queries
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.scene.graph import MAX_COORDINATE
from farframe.scene.overlaps import Box, Shape, Sphere
from farframe.scene.transforms import compose
from farframe.server.geometry import Geometry, Rows
from farframe.server.ray_casts import solid_rows

if TYPE_CHECKING:
    from farframe.server.scene_world import SceneWorld

log = structlog.get_logger("farframe.scene")

Array = NDArray[np.float64]

SECONDS = 2.0
"""After so long what was found is the answer, which says that it is not complete."""


@dataclass(frozen=True, slots=True)
class Parts:
    """n instances whose boxes along the world's axes meet a shape's: ``entity``, ``sub_part`` (n,), by entity;
    ``matrix`` (n, 3, 4) part space to world, ``center``, ``extent`` (n, 3) the box in part space; ``resource`` and
    ``part`` (n,) in it."""

    entity: Rows
    sub_part: Rows
    matrix: Array
    center: Array
    extent: Array
    resource: list[Any]
    part: list[int]


def shape_of(params: queries.FindOverlapsParams) -> tuple[Shape, int]:
    """The shape that is asked for, and how many parts at most. Raises InvalidParam."""
    asked = params.shape
    numbers = [getattr(asked, name) for name in asked.__struct_fields__]
    flat = np.concatenate([np.atleast_1d(np.asarray(number, np.float64)) for number in numbers])
    if not np.isfinite(flat).all() or np.abs(flat).max() > MAX_COORDINATE:
        raise FarframeError(Result.INVALID_PARAM, "A shape has finite numbers within the world.")
    if not 0 <= params.max_results <= queries.MAX_OVERLAPS:
        raise FarframeError(Result.INVALID_PARAM, f"maxResults lies between 0 and {queries.MAX_OVERLAPS}.")
    most = params.max_results or queries.MAX_OVERLAPS
    if isinstance(asked, queries.SphereShape):
        if asked.radius < 0.0:
            raise FarframeError(Result.INVALID_PARAM, "A ball's radius is not negative.")
        return Sphere(np.array(asked.center), asked.radius), most
    if isinstance(asked, queries.BoxShape):
        low, high = np.array(asked.min), np.array(asked.max)
        if (low > high).any():
            raise FarframeError(
                Result.INVALID_PARAM, "A box's max lies below its min.", next_step="Give the lowest corner as min."
            )
        return Box((low + high) / 2.0, (high - low) / 2.0, np.eye(3)), most
    half, rotation = np.array(asked.half_size), np.array(asked.rotation)
    largest = float(np.abs(rotation).max())
    if (half < 0.0).any() or largest < 1e-30:
        raise FarframeError(
            Result.INVALID_PARAM, "A box has half sizes that are not negative, and a rotation of any length but zero."
        )
    rotation = rotation / largest
    rotation = rotation / np.linalg.norm(rotation)
    axes = compose(np.zeros((1, 3)), rotation[None], np.ones((1, 3)))[0, :, :3]
    return Box(np.array(asked.center), half, axes), most


def find_parts(world: SceneWorld, shape: Shape) -> Parts:
    """The instances whose boxes along the world's axes meet the shape's. Render thread."""
    graph, meshes = world.graph, world.meshes
    rows = solid_rows(world)
    low, high = meshes.boxes(graph)
    shape_low, shape_high = shape.bounds()
    reach = np.maximum(np.abs(shape_low), np.abs(shape_high)) * 1e-12
    with np.errstate(all="ignore"):
        met = (low[rows] <= shape_high + reach).all(axis=1) & (high[rows] >= shape_low - reach).all(axis=1)
    rows = rows[met]
    handles = meshes.handle[rows]
    resources = {handle: world.resource(handle) for handle in np.unique(handles).tolist()}
    there = [handle for handle, resource in resources.items() if resource is not None and Geometry.solid(resource)]
    rows = rows[np.isin(handles, there)]
    rows = rows[np.lexsort((meshes.sub_part[rows], graph.id[meshes.slot[rows]]))]
    resource = [resources[handle] for handle in meshes.handle[rows].tolist()]
    return Parts(
        entity=graph.id[meshes.slot[rows]],
        sub_part=meshes.sub_part[rows],
        matrix=meshes.world(graph, rows),
        center=meshes.center[rows],
        extent=meshes.extent[rows],
        resource=resource,
        part=[
            int(each.instance_part[number]) for each, number in zip(resource, meshes.number[rows].tolist(), strict=True)
        ],
    )


def overlapping(shape: Shape, parts: Parts, geometry: Geometry | None, most: int) -> tuple[tuple[Rows, Rows], bool]:
    """Entities and sub-parts (k,) of those that overlap, one more than ``most`` if there are others, and whether all
    were looked at. By their boxes without ``geometry``, else by their triangles and points. A worker thread."""
    deadline = time.monotonic() + SECONDS
    found: list[int] = []
    complete = True
    with np.errstate(all="ignore"):
        met = np.flatnonzero(shape.meets_boxes(parts.matrix, parts.center, parts.extent))
    if geometry is None:
        found = met[: most + 1].tolist()
    else:
        with np.errstate(all="ignore"):
            held = shape.holds_boxes(parts.matrix[met], parts.center[met], parts.extent[met])
        for row, inside in zip(met.tolist(), held.tolist(), strict=True):
            if len(found) > most:
                break
            if time.monotonic() > deadline:
                complete = False
                break
            try:
                overlaps = inside or _touches(shape, parts, row, geometry, deadline)
            except (FarframeError, OSError, ValueError) as error:
                # The model was unloaded meanwhile, or where it lies does not answer.
                log.info("overlap.unreadable", entity=int(parts.entity[row]), error=str(error))
                overlaps = None
            if overlaps is None:
                complete = False
            elif overlaps:
                found.append(row)
    return (parts.entity[found], parts.sub_part[found]), complete


def _touches(shape: Shape, parts: Parts, row: int, geometry: Geometry, deadline: float) -> bool | None:
    """Whether any triangle or point of an instance overlaps; ``None`` when there was no time to tell."""
    matrix = parts.matrix[row]
    part = geometry.part(parts.resource[row], parts.part[row])

    def boxes_of(low: Array, high: Array) -> tuple[Array, Array, Array]:
        return np.broadcast_to(matrix, (len(low), 3, 4)), (low + high) / 2.0, (high - low) / 2.0

    runs = np.flatnonzero(shape.meets_boxes(*boxes_of(*part.boxes())))
    low, high, first = part.box_of(runs)
    boxes = boxes_of(low, high)
    met = shape.meets_boxes(*boxes)
    chosen = []
    for run, begin, end in zip(runs.tolist(), first[:-1].tolist(), first[1:].tolist(), strict=True):
        places = np.flatnonzero(met[begin:end])
        if len(places):
            chosen.append((run, places))
    # Those first that most of the shape may be in.
    chosen.sort(key=lambda each: -len(each[1]))
    for piece in part.pieces(chosen):
        if len(piece.points):
            if shape.holds_points(piece.points @ matrix[:, :3].T + matrix[:, 3]).any():
                return True
        elif shape.meets_triangles(piece.corners @ matrix[:, :3].T + matrix[:, 3]).any():
            return True
        if time.monotonic() > deadline:
            return None
    return False


def answer_of(found: tuple[Rows, Rows], most: int, *, complete: bool) -> queries.FindOverlapsResult:
    """What the device is told."""
    entity, sub_part = found
    return queries.FindOverlapsResult(
        entities=wire.pack(entity[:most], "u4"),
        sub_parts=wire.pack(sub_part[:most], "u4"),
        more=len(entity) > most,
        complete=complete,
    )
