"""What a ray meets: candidates in the render thread, by boxes; then geometry on a worker thread, at full detail.

Whatever level is drawn, the answer is that of the finest: of assets the clusters that nothing finer made are looked at,
and their pages read if the ray meets the clusters' boxes. No frame waits for any of it.

    entity     drawn or hidden; enabled, and not DisableCollision                      SceneWorld
    instance   its box in the world                                                    SceneWorld
    cluster    its box in the part's space                                             here
    triangle   of the pages that hold such clusters, one page in memory at a time      here
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from farframe.asset.format import POINTS
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.render import AssetResource, ModelResource
from farframe.render.points import SIZE_OFFSET, SIZE_STEPS
from farframe.scene.graph import MAX_COORDINATE
from farframe.scene.rays import boxes_met, points_met, triangles_met
from farframe.scene.states import State
from farframe.scene.transforms import invert

if TYPE_CHECKING:
    from farframe.server.scene_world import SceneWorld

log = structlog.get_logger("farframe.scene")

Array = NDArray[np.float64]

SECONDS = 2.0
"""After so long the hits that were found are the answer, which says that it is not complete."""
KEPT_HITS = 4 * wire.MAX_HITS
"""Hits that are kept while more are looked for; the farthest go."""


@dataclass(frozen=True, slots=True)
class Ray:
    """From ``start`` along ``along`` (3,), world space, metres; the most hits wanted."""

    start: Array
    along: Array
    most: int

    @property
    def length(self) -> float:
        """Metres."""
        return float(np.linalg.norm(self.along))


@dataclass(slots=True)
class Candidate:
    """An instance whose box the ray meets, at ``enters``: its geometry, and its way into the world."""

    entity: int
    sub_part: int
    resource: Any
    part: int
    inverse: Array
    enters: float


@dataclass(slots=True)
class Hit:
    """Where the ray met an instance, ``t`` of its length from the start."""

    t: float
    candidate: Candidate
    normal: Array
    kind: Literal["front", "back", "point"]


def ray_of(params: wire.CastRayParams) -> Ray:
    """The ray that is asked for. Raises InvalidParam."""
    start, end = np.array(params.start), np.array(params.end)
    if not (np.isfinite([start, end]).all() and np.abs([start, end]).max() <= MAX_COORDINATE):
        raise FarframeError(Result.INVALID_PARAM, "A ray has finite ends within the world.")
    if np.linalg.norm(end - start) < 1e-12:
        raise FarframeError(Result.INVALID_PARAM, "A ray has a length.", next_step="Choose an end away from its start.")
    if not 0 <= params.max_hits <= wire.MAX_HITS:
        raise FarframeError(Result.INVALID_PARAM, f"maxHits lies between 0 and {wire.MAX_HITS}.")
    most = 1 if params.policy != "closestHits" else params.max_hits or wire.MAX_HITS
    return Ray(start, end - start, most)


def find_candidates(world: SceneWorld, ray: Ray) -> list[Candidate]:
    """The instances whose boxes the ray meets, nearest first. Render thread."""
    graph, meshes = world.graph, world.meshes
    slot = meshes.slot
    states = graph.effective_states[slot]
    rows = np.flatnonzero(
        (slot >= 0) & graph.effective_enabled[slot] & (states & np.uint16(int(State.DISABLE_COLLISION)) == 0)
        if len(slot)
        else np.zeros(0, np.bool_)
    )
    center, extent = meshes.world_boxes(graph, rows)
    with np.errstate(all="ignore"):
        enters = boxes_met(ray.start, ray.along, center - extent, center + extent)
    met = np.flatnonzero(np.isfinite(enters))
    rows, enters = rows[met], enters[met]
    inverse, regular = invert(meshes.world(graph, rows))
    found: list[Candidate] = []
    for place in np.argsort(enters, kind="stable").tolist():
        row = int(rows[place])
        resource = world.resource(int(meshes.handle[row]))
        if resource is None or not regular[place]:
            continue
        number = int(meshes.number[row])
        found.append(
            Candidate(
                entity=int(graph.id[slot[row]]),
                sub_part=int(np.count_nonzero(meshes.slot[:row] == slot[row])),
                resource=resource,
                part=int(resource.instance_part[number]),
                inverse=inverse[place],
                enters=float(enters[place]),
            )
        )
    return found


def cast(ray: Ray, candidates: list[Candidate], *, any_hit: bool = False) -> tuple[list[Hit], bool]:
    """The hits among candidates by distance, and whether all of them were looked at. A worker thread."""
    deadline = time.monotonic() + SECONDS
    hits: list[Hit] = []
    complete = True
    for candidate in candidates:
        if len(hits) >= ray.most and (any_hit or candidate.enters > hits[ray.most - 1].t):
            break
        if time.monotonic() > deadline:
            complete = False
            break
        start = candidate.inverse[:, :3] @ ray.start + candidate.inverse[:, 3]
        along = candidate.inverse[:, :3] @ ray.along
        try:
            complete &= _look_at(candidate, start, along, hits, ray.most, deadline)
        except (FarframeError, OSError, ValueError) as error:
            # The model was unloaded meanwhile, or where it lies does not answer.
            log.info("ray.unreadable", entity=candidate.entity, error=str(error))
            complete = False
        hits.sort(key=lambda hit: hit.t)
        del hits[max(ray.most, 1) :]
    return hits, complete


def _look_at(candidate: Candidate, start: Array, along: Array, hits: list[Hit], most: int, deadline: float) -> bool:
    """Add the hits on one instance; whether all of it was looked at."""
    resource = candidate.resource
    if isinstance(resource, ModelResource):
        model = resource.model
        part = model.parts[candidate.part]
        level = part.levels[0]
        indices = model.indices[level.first_index : level.first_index + level.index_count].astype(np.int64)
        positions = model.vertices["position"][part.first_vertex : part.first_vertex + part.vertex_count]
        _triangles(candidate, start, along, positions[indices].reshape(-1, 3, 3), hits)
        return True
    assert isinstance(resource, AssetResource)
    asset, tables = resource.asset, resource.tables
    clusters = asset.clusters
    mine = np.flatnonzero((clusters["part"] == candidate.part) & (tables.producer < 0))
    low = clusters["bounds_min"][mine].astype(np.float64)
    high = clusters["bounds_max"][mine].astype(np.float64)
    of_points = bool(asset.parts["kind"][candidate.part] == POINTS)
    margin = float(asset.parts["step"][candidate.part])
    if of_points and len(mine):
        # Points reach as far out of their box as they are large; that is not known before they are read.
        margin = float(np.max(high - low)) * 0.5
    enters = boxes_met(start, along, low - margin, high + margin)
    met = np.argsort(enters, kind="stable")
    met = met[np.isfinite(enters[met])]
    page, content = -1, None
    for place in met.tolist():
        if len(hits) >= most and enters[place] > sorted(hit.t for hit in hits)[most - 1]:
            break
        if time.monotonic() > deadline:
            return False
        cluster = int(mine[place])
        if int(tables.cluster_page[cluster]) != page:
            page = int(tables.cluster_page[cluster])
            content = asset.decode_page(page, asset.read_page(page))
        assert content is not None
        row = clusters[cluster]
        first, count = int(row["first_vertex"]), int(row["vertex_count"])
        vertices = content.vertices[first : first + count]
        if of_points:
            sizes = np.exp2(vertices["color"][:, 3].astype(np.float64) / SIZE_STEPS - SIZE_OFFSET)
            _, t = points_met(start, along, vertices["position"].astype(np.float64), sizes * 0.5)
            hits += [Hit(float(at), candidate, -along, "point") for at in np.sort(t)[:most].tolist()]
            continue
        begin = int(row["first_index"])
        indices = content.indices[begin : begin + int(row["index_count"])].astype(np.int64)
        _triangles(candidate, start, along, vertices["position"][indices].reshape(-1, 3, 3), hits)
    return True


def _triangles(candidate: Candidate, start: Array, along: Array, corners: NDArray[Any], hits: list[Hit]) -> None:
    _, t, normals = triangles_met(start, along, corners.astype(np.float64))
    order = np.argsort(t, kind="stable")[:KEPT_HITS]
    # Neighbours share their edges: a ray through one meets both, at the same place.
    last: tuple[float, bool] | None = None
    for place in order.tolist():
        front = bool(normals[place] @ along < 0.0)
        if last is not None and last[1] is front and t[place] - last[0] < 1e-9:
            continue
        last = (float(t[place]), front)
        hits.append(Hit(float(t[place]), candidate, normals[place], "front" if front else "back"))


def told(ray: Ray, hit: Hit) -> wire.RayHit:
    """A hit as the device is told of it."""
    position = ray.start + hit.t * ray.along
    # Normals go the way of planes: by the transposed inverse.
    normal = -ray.along if hit.kind == "point" else hit.candidate.inverse[:, :3].T @ hit.normal
    length = float(np.linalg.norm(normal))
    normal = normal / length if length > 0.0 else -ray.along / ray.length
    return wire.RayHit(
        entity=hit.candidate.entity,
        sub_part=hit.candidate.sub_part,
        position=(float(position[0]), float(position[1]), float(position[2])),
        normal=(float(normal[0]), float(normal[1]), float(normal[2])),
        distance=hit.t * ray.length,
        kind=hit.kind,
    )
