"""Which instances a view sees, at which level, in which order: one vectorised pass over all instances of a scene.

Pure numpy over a structure of arrays, no GPU: the result is the table of indirect draw commands. Distances are metres
relative to the scene's origin (see :class:`Placement`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from farframe.render.cut_planes import CutPlanes
from farframe.render.solids import TOGETHER

COMMAND_FIELDS = 5
"""index count, instance count, first index, base vertex, first instance: the layout of an indexed indirect draw."""

CUT, SHELL, SEE_THROUGH = 1, 2, 4
"""Bits of a style, see ``styles``: touched by a cut plane; drawn as a shell; drawn half transparent, with what is
blended."""
JOINED = 4
"""The style of what is counted for caps and is solid only together with other parts."""
STYLES = 8
"""How many styles there may be."""


@dataclass(slots=True)
class Placement:
    """The instances of a scene. n instances, p parts of all models, L levels, b batches.

    ``center``, ``extent``: (n, 3) float32, world boxes relative to the origin; ``radius``: (n,) of the sphere around;
    ``scale``: (n,) float32, the greatest stretch of the instance's matrix; ``part``: (n,) row of the level tables;
    ``batch``: (n,); ``blended``: (b,) which batches are;
    ``first_index``, ``count``: (p, L) uint32; ``error``: (p, L) float32; ``first_vertex``: (p,) uint32.
    """

    center: NDArray[np.float32]
    extent: NDArray[np.float32]
    radius: NDArray[np.float32]
    scale: NDArray[np.float32]
    part: NDArray[np.int64]
    batch: NDArray[np.int64]
    batch_count: int
    blended: NDArray[np.bool_]
    first_index: NDArray[np.uint32]
    count: NDArray[np.uint32]
    error: NDArray[np.float32]
    first_vertex: NDArray[np.uint32]
    asset: NDArray[np.int64] | None = None
    """(n,) which of the scene's assets an instance belongs to, or -1; ``None`` where there are none."""
    visible: NDArray[np.bool_] | None = None
    """(n,) which instances are drawn at all; ``None``: all."""
    style: NDArray[np.uint8] | None = None
    """(n,) how instances are drawn beyond their material; ``None``: no otherwise."""
    gone: NDArray[np.bool_] | None = None
    """(n,) which instances planes cut away wholly; ``None``: none."""
    mask: NDArray[np.uint32] | None = None
    cuts: CutPlanes | None = None
    """What cuts, if anything does, and (n,) which of it concerns an instance."""
    solid: NDArray[np.uint8] | None = None
    """(n,) which instances have an inside, and how, see ``solids``; ``None``: nobody has asked."""
    capped: NDArray[np.bool_] | None = None
    """(n,) which instances are closed where a plane goes through; ``None``: none."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Commands (j, 4) uint32 for clusters of points, sorted by how they are drawn, and which of them one call draws:
    the kind (see ``points``), the first, and how many. ``points`` counts them."""

    commands: NDArray[np.uint32]
    runs: tuple[tuple[int, int, int], ...]
    points: int


NO_BOXES = np.zeros((0, 2, 3), np.float32)
NO_CLOUD = Cloud(np.zeros((0, 4), np.uint32), (), 0)


@dataclass(slots=True)
class Clusters:
    """Triangles: ``command`` (k, 5) uint32 of k clusters, ``row`` (k,) their instances, ``distance`` (k,) metres,
    ``box`` as in :class:`Selection`. Points: ``cloud``."""

    command: NDArray[np.uint32]
    row: NDArray[np.int64]
    distance: NDArray[np.float32]
    triangles: int
    cloud: Cloud
    box: NDArray[np.float32]


Cutter = Callable[[NDArray[np.int64], NDArray[np.float32]], Clusters]
"""From rows of instances of assets that a view may see, and the nearest distance of each, to their clusters."""


@dataclass(frozen=True, slots=True)
class Run:
    """Commands that one call draws: ``count`` of them from ``first`` on, all of ``batch`` and of one style."""

    batch: int
    first: int
    count: int
    style: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """What a view draws. ``commands``: (v, 5) uint32, runs of ``opaque``, then of ``blended``, then of ``shells``;
    ``box``: (v, 2, 3) float32 centre and half size of what each draws, relative to the placement's origin."""

    commands: NDArray[np.uint32]
    opaque: tuple[Run, ...]
    blended: tuple[Run, ...]
    triangles: int
    reduced_parts: int
    cloud: Cloud = NO_CLOUD
    box: NDArray[np.float32] = field(default_factory=lambda: NO_BOXES)
    shells: tuple[Run, ...] = ()
    caps: Selection | None = None
    """All of what is to be closed where planes go through, as ``opaque``, hidden and cut away or not, see ``caps``."""

    @property
    def opaque_count(self) -> int:
        """How many of the commands are opaque: the first ones."""
        return sum(run.count for run in self.opaque)

    def only(self, keep: NDArray[np.bool_], *, cloud: bool = True) -> Selection:
        """The commands for which ``keep`` (v,) is true, in the same order, with or without the points."""
        groups = (self.opaque, self.blended, self.shells)
        runs: list[tuple[Run, ...]] = []
        start = first = 0
        for group in groups:
            count = sum(run.count for run in group)
            styled = np.repeat(
                np.array([run.batch * STYLES + run.style for run in group], np.int64), [run.count for run in group]
            )
            styled = styled[keep[start : start + count]]
            runs.append(_runs(styled, first))
            start, first = start + count, first + len(styled)
        commands = self.commands[keep]
        return Selection(
            commands=commands,
            opaque=runs[0],
            blended=runs[1],
            shells=runs[2],
            triangles=int(commands[:, 0].sum(dtype=np.int64)) // 3,
            reduced_parts=self.reduced_parts,
            cloud=self.cloud if cloud else NO_CLOUD,
            box=self.box[keep],
        )

    @property
    def points(self) -> int:
        """Points drawn."""
        return self.cloud.points


def frustum_planes(view_projection: NDArray[np.float64]) -> NDArray[np.float64]:
    """The six planes (6, 4) of a (4, 4) reversed-Z view projection; inside is where ``n . p + d >= 0``, n is unit."""
    x, y, z, w = view_projection
    planes = np.stack([w + x, w - x, w + y, w - y, z, w - z])
    return np.asarray(planes / np.linalg.norm(planes[:, :3], axis=1, keepdims=True), np.float64)


def select(
    placement: Placement,
    planes: NDArray[np.float64],
    eye: NDArray[np.float64],
    *,
    near: float,
    pixels_per_radian: float,
    pixel_error: float,
    cutter: Cutter | None = None,
    forward: NDArray[np.float64] | None = None,
) -> Selection:
    """Cull, choose levels and sort.

    ``planes``: (6, 4) and ``eye``: (3,), relative to the placement's origin. ``pixels_per_radian``: drawn pixels that
    a small angle covers in the middle of the picture. With ``pixel_error`` > 0 each instance is drawn at its coarsest
    level whose error projects to no more than that many pixels, and not at all if it is smaller than that as a whole.
    ``cutter`` gives the commands for the instances of assets. An orthographic view has a ``forward``, the unit
    direction (3,) of its rays; ``pixels_per_radian`` is then the pixels of a metre, at any distance.
    """
    normals = planes[:, :3].astype(np.float32)
    reach = placement.extent @ np.abs(normals).T
    inside = placement.center @ normals.T + planes[:, 3].astype(np.float32) + reach >= 0.0
    seen = inside.all(axis=1)
    if placement.gone is not None:
        seen &= ~placement.gone
    visible = np.flatnonzero(seen if placement.visible is None else seen & placement.visible)
    offset = placement.center[visible] - eye.astype(np.float32)
    if forward is None:
        distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
    else:
        distance = offset @ forward.astype(np.float32)

    def nearest_of(rows: NDArray[np.int64], distance: NDArray[np.float32]) -> NDArray[np.float32]:
        if forward is not None:
            return np.ones(len(rows), np.float32)
        return np.asarray(np.maximum(distance - placement.radius[rows], np.float32(near)), np.float32)

    clusters = None
    if cutter is not None and placement.asset is not None:
        of_asset = placement.asset[visible] >= 0
        rows = visible[of_asset]
        clusters = cutter(rows, nearest_of(rows, distance[of_asset]))
        visible, distance = visible[~of_asset], distance[~of_asset]
    part = placement.part[visible]
    level = np.zeros(len(visible), np.int64)
    if pixel_error > 0.0 and len(visible):
        allowed = nearest_of(visible, distance) * np.float32(pixel_error / pixels_per_radian)
        large = np.flatnonzero(2.0 * placement.radius[visible] > allowed)
        visible, distance, part, allowed = visible[large], distance[large], part[large], allowed[large]
        good = placement.error[part] * placement.scale[visible][:, None] <= allowed[:, None]
        level = np.maximum(good.sum(axis=1) - 1, 0)
    count = placement.count[part, level]
    some = np.flatnonzero(count)
    if len(some) != len(count):
        visible, distance, part, level, count = visible[some], distance[some], part[some], level[some], count[some]
    commands = np.empty((len(visible), COMMAND_FIELDS), np.uint32)
    commands[:, 0] = count
    commands[:, 1] = 1
    commands[:, 2] = placement.first_index[part, level]
    commands[:, 3] = placement.first_vertex[part]
    commands[:, 4] = visible
    triangles = int(count.sum(dtype=np.int64)) // 3
    box = np.stack([placement.center[visible], placement.extent[visible]], axis=1)
    caps = _caps(placement, visible, commands, clusters)
    if clusters is not None:
        clusters = _uncut(placement, clusters)
        visible = np.concatenate([visible, clusters.row])
        distance = np.concatenate([distance, clusters.distance])
        commands = np.concatenate([commands, clusters.command])
        box = np.concatenate([box, clusters.box])
        triangles += clusters.triangles
    order, runs = _order(placement, visible, distance)
    return Selection(
        commands=commands[order],
        opaque=runs[0],
        blended=runs[1],
        shells=runs[2],
        caps=caps,
        triangles=triangles,
        reduced_parts=int(np.count_nonzero(level)),
        cloud=NO_CLOUD if clusters is None else clusters.cloud,
        box=box[order],
    )


def _caps(
    placement: Placement, rows: NDArray[np.int64], commands: NDArray[np.uint32], clusters: Clusters | None
) -> Selection | None:
    """What draws the surfaces of which caps are made, instance by instance, and of these all that is in view."""
    if placement.capped is None:
        return None
    if clusters is not None:
        rows, commands = np.concatenate([rows, clusters.row]), np.concatenate([commands, clusters.command])
    some = np.flatnonzero(placement.capped[rows])
    if not len(some):
        return None
    assert placement.solid is not None
    joined = placement.solid[rows[some]] == TOGETHER
    styled = placement.batch[rows[some]] * STYLES + np.where(joined, JOINED, CUT)
    order = np.lexsort((rows[some], styled))
    commands = commands[some[order]]
    triangles = int(commands[:, 0].sum(dtype=np.int64)) // 3
    return Selection(commands, _runs(styled[order], 0), (), triangles, 0)


def _uncut(placement: Placement, clusters: Clusters) -> Clusters:
    """Without those that planes cut away wholly, of instances that they cut through."""
    if placement.cuts is None or placement.mask is None or placement.style is None:
        return clusters
    some = np.flatnonzero(placement.style[clusters.row] & CUT)
    gone, _ = placement.cuts.test(clusters.box[some, 0], clusters.box[some, 1], placement.mask[clusters.row[some]])
    if not gone.any():
        return clusters
    left = np.ones(len(clusters.row), np.bool_)
    left[some[gone]] = False
    command = clusters.command[left]
    triangles = int(command[:, 0].sum(dtype=np.int64)) // 3
    return Clusters(command, clusters.row[left], clusters.distance[left], triangles, clusters.cloud, clusters.box[left])


def _order(
    placement: Placement, rows: NDArray[np.int64], distance: NDArray[np.float32]
) -> tuple[NDArray[np.int64], list[tuple[Run, ...]]]:
    """Drawing order: opaque batches one by one, each front to back, the nearest batch first; then what is blended,
    batch by batch: its order makes no difference to the picture; then shells likewise. Each batch by styles."""
    batch = placement.batch[rows]
    blended = placement.blended[batch]
    styled = batch * STYLES
    shell = np.zeros(len(rows), np.bool_)
    if placement.style is not None:
        style = placement.style[rows]
        styled += style
        shell = style & SHELL != 0
        blended = (blended | (style & SEE_THROUGH != 0)) & ~shell
    opaque = np.flatnonzero(~(blended | shell))
    solid = styled[opaque]
    nearest = np.full(placement.batch_count * STYLES, np.inf, np.float32)
    np.minimum.at(nearest, solid, distance[opaque])
    rank = np.empty(len(nearest), np.int64)
    rank[np.argsort(nearest, kind="stable")] = np.arange(len(nearest))
    order = [opaque[np.lexsort((distance[opaque], rank[solid]))]]
    for group in (blended, shell):
        rest = np.flatnonzero(group)
        order.append(rest[np.argsort(styled[rest], kind="stable")])
    firsts = np.cumsum([0, *map(len, order)]).tolist()
    return np.concatenate(order), [_runs(styled[some], first) for some, first in zip(order, firsts, strict=False)]


def _runs(styled: NDArray[np.int64], offset: int) -> tuple[Run, ...]:
    """The runs of equal numbers in ``styled``, of batch and style, whose first command is number ``offset``."""
    if not len(styled):
        return ()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(styled)) + 1])
    ends = np.append(starts[1:], len(styled))
    return tuple(
        Run(int(styled[start]) // STYLES, offset + int(start), int(end - start), int(styled[start]) % STYLES)
        for start, end in zip(starts, ends, strict=True)
    )
