"""What a ray meets: candidates in the render thread, by boxes; then geometry on a worker thread, at full detail.

Whatever level is drawn, the answer is that of the finest, see :mod:`farframe.server.geometry`. No frame waits for it.

    entity     drawn or hidden; enabled, and not DisableCollision                      SceneWorld
    instance   its box in the world                                                    SceneWorld
    cluster    its box in the part's space, by pages                                   geometry
    triangle   of the pages that hold such clusters, nearest first                     here

Through 10 million triangles a ray meets boxes of some 10,000 (14 pages), which takes 5 ms of processor time when the
pages are in memory: half of it the triangles. Embree finds hits in a microsecond once it has built a tree, but building
one over a page of 11,770 triangles takes it 15 ms, numpy 2.6 ms to look at all of them; and its single precision moves
hits. As pages come and go with what is kept, numpy it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from farframe.protocol import messages
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.scene.graph import MAX_COORDINATE
from farframe.scene.rays import boxes_met, points_met, triangles_met
from farframe.scene.states import State
from farframe.scene.transforms import invert
from farframe.server.geometry import Geometry, Piece, Rows

if TYPE_CHECKING:
    from farframe.server.scene_world import SceneWorld

log = structlog.get_logger("farframe.scene")

Array = NDArray[np.float64]
Kind = Literal["front", "back", "point"]

SECONDS = 2.0
"""After so long the hits that were found are the answer, which says that it is not complete."""
SAME_PLACE = 1e-9
"""Neighbours share their edges: a ray through one meets both. Closer than this share of the ray they are one hit."""
FRONT, BACK, POINT = 0, 1, 2
_KINDS: tuple[Kind, Kind, Kind] = ("front", "back", "point")


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
    """Where the ray met an instance, ``t`` of its length from the start; ``corners`` (3, 3) of the triangle in the
    part's space, without meaning for points."""

    t: float
    candidate: Candidate
    normal: Array
    kind: Kind
    corners: Array


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


def solid_rows(world: SceneWorld) -> Rows:
    """The rows of instances that queries look at: of entities that are enabled and do not force collision off, hidden
    or not. Render thread."""
    graph, slot = world.graph, world.meshes.slot
    if not len(slot):
        return np.zeros(0, np.int64)
    solid = graph.effective_enabled[slot] & (
        graph.effective_states[slot] & np.uint16(int(State.DISABLE_COLLISION)) == 0
    )
    return np.flatnonzero((slot >= 0) & solid)


def find_candidates(world: SceneWorld, ray: Ray) -> list[Candidate]:
    """The instances whose boxes the ray meets, nearest first. Render thread."""
    graph, meshes = world.graph, world.meshes
    rows = solid_rows(world)
    low, high = meshes.boxes(graph)
    with np.errstate(all="ignore"):
        enters = boxes_met(ray.start, ray.along, low[rows], high[rows])
    met = np.flatnonzero(np.isfinite(enters))
    rows, enters = rows[met], enters[met]
    inverse, regular = invert(meshes.world(graph, rows))
    found: list[Candidate] = []
    for place in np.argsort(enters, kind="stable").tolist():
        row = int(rows[place])
        resource = world.resource(int(meshes.handle[row]))
        if resource is None or not regular[place] or not Geometry.solid(resource):
            continue
        found.append(
            Candidate(
                entity=int(graph.id[meshes.slot[row]]),
                sub_part=int(meshes.sub_part[row]),
                resource=resource,
                part=int(resource.instance_part[int(meshes.number[row])]),
                inverse=inverse[place],
                enters=float(enters[place]),
            )
        )
    return found


def cast(
    geometry: Geometry, ray: Ray, candidates: Sequence[Candidate], *, any_hit: bool = False
) -> tuple[list[Hit], bool]:
    """The hits among candidates by distance, and whether all of them were looked at. A worker thread."""
    search = _Search(geometry, ray, any_hit)
    complete = True
    for candidate in candidates:
        if search.enough(candidate.enters):
            break
        if time.monotonic() > search.deadline:
            complete = False
            break
        try:
            complete &= search.look_at(candidate)
        except (FarframeError, OSError, ValueError) as error:
            # The model was unloaded meanwhile, or where it lies does not answer.
            log.info("ray.unreadable", entity=candidate.entity, error=str(error))
            complete = False
    return search.hits(), complete


class _Search:
    """The nearest hits found so far, as arrays in order of ``t``."""

    def __init__(self, geometry: Geometry, ray: Ray, any_hit: bool) -> None:
        self._geometry = geometry
        self._ray = ray
        self._any_hit = any_hit
        self.deadline = time.monotonic() + SECONDS
        self._candidates: list[Candidate] = []
        self._t = np.zeros(0)
        self._kind = np.zeros(0, np.int64)
        self._normal = np.zeros((0, 3))
        self._corners = np.zeros((0, 3, 3))
        self._owner = np.zeros(0, np.int64)

    def enough(self, enters: float) -> bool:
        """Whether what the ray enters only there can be left out."""
        most = self._ray.most
        return len(self._t) >= most and (self._any_hit or enters > float(self._t[most - 1]))

    def look_at(self, candidate: Candidate) -> bool:
        """Add the hits on one instance; whether all of it was looked at."""
        start = candidate.inverse[:, :3] @ self._ray.start + candidate.inverse[:, 3]
        along = candidate.inverse[:, :3] @ self._ray.along
        part = self._geometry.part(candidate.resource, candidate.part)
        runs = np.flatnonzero(np.isfinite(boxes_met(start, along, *part.boxes())))
        low, high, first = part.box_of(runs)
        enters = boxes_met(start, along, low, high)
        chosen: list[tuple[float, int, Rows]] = []
        for run, begin, end in zip(runs.tolist(), first[:-1].tolist(), first[1:].tolist(), strict=True):
            of_run = enters[begin:end]
            places = np.flatnonzero(np.isfinite(of_run))
            if len(places):
                chosen.append((float(of_run[places].min()), run, places))
        chosen.sort(key=lambda each: each[0])
        self._candidates.append(candidate)
        pieces = part.pieces([(run, places) for _, run, places in chosen])
        for nearest, _, _ in chosen:
            if self.enough(nearest):
                return True
            if time.monotonic() > self.deadline:
                return False
            self._add(next(pieces), start, along)
        return True

    def _add(self, piece: Piece, start: Array, along: Array) -> None:
        if len(piece.points):
            _, t = points_met(start, along, piece.points, piece.radius)
            kind, normal = np.full(len(t), POINT), np.broadcast_to(-along, (len(t), 3))
            corners = np.zeros((len(t), 3, 3))
        else:
            rows, t, normal = triangles_met(start, along, piece.corners)
            corners = piece.corners[rows].astype(np.float64)
            kind = np.where(normal @ along < 0.0, FRONT, BACK)
        if not len(t):
            return
        owner = np.full(len(t), len(self._candidates) - 1)
        t, kind = np.concatenate([self._t, t]), np.concatenate([self._kind, kind])
        normal, owner = np.concatenate([self._normal, normal]), np.concatenate([self._owner, owner])
        corners = np.concatenate([self._corners, corners])
        # Hits on one side of one instance in one place are one; points are told one by one.
        order = np.lexsort((t, kind, owner))
        same = np.zeros(len(order), np.bool_)
        same[1:] = (
            (np.diff(owner[order]) == 0)
            & (np.diff(kind[order]) == 0)
            & (np.diff(t[order]) < SAME_PLACE)
            & (kind[order][1:] != POINT)
        )
        keep = np.sort(order[~same])
        keep = keep[np.argsort(t[keep], kind="stable")[: self._ray.most]]
        self._t, self._kind, self._normal, self._owner = t[keep], kind[keep], normal[keep], owner[keep]
        self._corners = corners[keep]

    def hits(self) -> list[Hit]:
        """What was found, by distance."""
        return [
            Hit(t, self._candidates[owner], normal, _KINDS[kind], corners)
            for t, owner, normal, kind, corners in zip(
                self._t.tolist(), self._owner.tolist(), self._normal, self._kind.tolist(), self._corners, strict=True
            )
        ]


def told(ray: Ray, hit: Hit, *, corners: bool = False) -> wire.RayHit:
    """A hit as the device is told of it, with the ``corners`` of its triangle or without."""
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
        corners=_corners(hit) if corners and hit.kind != "point" else None,
    )


def _corners(hit: Hit) -> tuple[messages.Vector3, messages.Vector3, messages.Vector3]:
    """Of the triangle that was hit, world space."""
    matrix, _ = invert(hit.candidate.inverse[None])
    first, second, third = (hit.corners @ matrix[0, :, :3].T + matrix[0, :, 3]).tolist()
    return (tuple(first), tuple(second), tuple(third))
