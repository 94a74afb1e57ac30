"""Which clusters of an asset a view draws: the cut through its graph of groups, for all seen instances at once.

The rule is that of :mod:`farframe.asset.format`. A group is *refined* (what it consumes is drawn, not what it produced)
if its error, projected from the nearest point of its box, is above the limit, its box meets the view, and the page of
what it consumes is resident. Error, box and residency of a group imply those of every coarser group above it, so

* a group can only be refined if any one of the groups above it is: one of them is taken as its parent, and the walk
  goes down that tree from the coarsest groups, level by level, and never sees what lies below a group that is fine;
* where there are only a few thousand groups, all of them are looked at at once, for the same answer;
* the clusters drawn are what refined groups consume, as far as it is no output of a group that is refined as well, and
  the roots by the same rule. Nothing is decided per triangle, and nothing in Python per cluster.

Boxes and distances are those of the part's space, to which eye and planes are transformed; a group outside of the view
counts as fine, because what is not seen need not be detailed. Pure numpy, no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.format import NONE, POINTS

if TYPE_CHECKING:
    from farframe.asset.container import Asset

FLAT_GROUPS = 1 << 12
"""Up to so many groups are looked at all at once: a step of the walk costs as much as a thousand groups do."""

ROOT_PRIORITY = 1e6
"""Pages that hold the coarsest clusters come before all others: a part without them is not seen at all."""

Index = NDArray[np.int64]


@dataclass(slots=True)
class Rows:
    """A list of lists as two arrays: ``items[start[i] : start[i + 1]]``."""

    start: Index
    items: Index

    @classmethod
    def by(cls, owner: NDArray[Any], count: int, items: NDArray[Any] | None = None) -> Rows:
        """The positions (or ``items``) sorted by their owner, 0 to ``count``; owners outside of that are left out."""
        positions = np.flatnonzero((owner >= 0) & (owner < count))
        order = positions[np.argsort(owner[positions], kind="stable")]
        start = np.searchsorted(owner[order], np.arange(count + 1)).astype(np.int64)
        return cls(start, (order if items is None else items[order]).astype(np.int64))

    def expand(self, of: NDArray[Any]) -> tuple[Index, Index]:
        """All items of the lists ``of``, and for each which entry of ``of`` it comes from."""
        return expand(self.start[of], self.start[of + 1], self.items)


def expand(first: NDArray[Any], last: NDArray[Any], items: Index | None = None) -> tuple[Index, Index]:
    """The numbers in the ranges from ``first`` to ``last`` (or ``items`` at them), and which range each is from."""
    count = (last - first).astype(np.int64)
    origin = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(origin)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    return (place if items is None else items[place]), origin


@dataclass(slots=True)
class CutTables:
    """An asset's graph, as a structure of arrays. p parts, g groups, c clusters.

    ``part_error``: the greatest error of a part's groups; ``roots``: by part, clusters that nothing replaces; ``tops``:
    by part, groups without a parent; ``children``: by group, the groups whose parent it is, ``parent`` (g,) or -1;
    ``consumed``: by group.
    Groups: ``low``, ``high`` (g, 3), ``error`` (g,) float32; ``page`` (g,). Clusters: ``center``, ``extent``, ``axis``
    (c, 3), ``radius``, ``cutoff`` (c,) float32, ``producer`` (c,) or -1, and where the cluster lies in its page.
    """

    part_error: NDArray[np.float32]
    part_first_group: Index
    part_group_count: Index
    part_points: NDArray[np.bool_]
    roots: Rows
    tops: Rows
    parent: Index
    children: Rows
    consumed: Rows
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    error: NDArray[np.float32]
    page: Index
    center: NDArray[np.float32]
    extent: NDArray[np.float32]
    radius: NDArray[np.float32]
    axis: NDArray[np.float32]
    cutoff: NDArray[np.float32]
    producer: Index
    cluster_page: Index
    first_vertex: Index
    first_index: Index
    vertex_count: Index
    index_count: Index
    point_size: NDArray[np.float32]
    """(c,) metres, the largest point of a cluster of points whose page is or was resident."""


def cut_tables(asset: Asset) -> CutTables:
    """The tables of an asset. What the file says was checked when it was opened."""
    parts, groups, clusters = asset.parts, asset.groups, asset.clusters
    count = len(groups)
    producer = np.where(clusters["producer"] == NONE, -1, clusters["producer"].astype(np.int64))
    consumer = np.where(clusters["consumer"] == NONE, -1, clusters["consumer"].astype(np.int64))
    parent = np.full(count, -1, np.int64)
    inner = (producer >= 0) & (consumer >= 0)
    parent[producer[inner]] = consumer[inner]
    group_part = groups["part"].astype(np.int64)
    part_error = np.zeros(len(parts), np.float32)
    np.maximum.at(part_error, group_part, groups["error"])
    cluster_part = clusters["part"].astype(np.int64)
    low, high = clusters["bounds_min"], clusters["bounds_max"]
    extent = (high - low) * np.float32(0.5)
    cone = clusters["cone"].astype(np.float32) / np.float32(127.0)
    return CutTables(
        part_error=part_error,
        part_first_group=parts["first_group"].astype(np.int64),
        part_group_count=parts["group_count"].astype(np.int64),
        part_points=np.asarray(parts["kind"] == POINTS, np.bool_),
        roots=Rows.by(np.where(consumer < 0, cluster_part, -1), len(parts)),
        tops=Rows.by(np.where(parent < 0, group_part, -1), len(parts)),
        parent=parent,
        children=Rows.by(parent, count),
        consumed=Rows.by(consumer, count),
        low=np.ascontiguousarray(groups["bounds_min"]),
        high=np.ascontiguousarray(groups["bounds_max"]),
        error=np.ascontiguousarray(groups["error"]),
        page=groups["page"].astype(np.int64),
        center=np.ascontiguousarray(low + extent),
        extent=np.ascontiguousarray(extent),
        radius=np.sqrt(np.einsum("ij,ij->i", extent, extent)),
        axis=np.ascontiguousarray(cone[:, :3]),
        cutoff=np.ascontiguousarray(cone[:, 3]),
        producer=producer,
        cluster_page=asset.page_of_cluster.astype(np.int64),
        first_vertex=clusters["first_vertex"].astype(np.int64),
        first_index=clusters["first_index"].astype(np.int64),
        vertex_count=clusters["vertex_count"].astype(np.int64),
        index_count=clusters["index_count"].astype(np.int64),
        point_size=np.zeros(len(clusters), np.float32),
    )


@dataclass(slots=True)
class PageState:
    """What of an asset's pages is on the device. P pages.

    ``resident`` (P,) bool; ``vertex``, ``index`` (P,): where a resident page begins in the pools; ``used`` (P,): the
    number of the last picture that needed it; ``priority`` (P,) float32: how much the present picture misses a page
    that is not resident (0: it does not), in pixels of error.
    """

    resident: NDArray[np.bool_]
    vertex: Index
    index: Index
    used: Index
    priority: NDArray[np.float32]

    @classmethod
    def empty(cls, pages: int) -> PageState:
        """Nothing is resident."""
        return cls(
            np.zeros(pages, np.bool_),
            np.zeros(pages, np.int64),
            np.zeros(pages, np.int64),
            np.full(pages, -1, np.int64),
            np.zeros(pages, np.float32),
        )


@dataclass(slots=True)
class Seen:
    """Instances of one asset that a view may see, v of them, in float32.

    ``part`` (v,); ``eye`` (v, 3) and ``planes`` (v, 6, 4) in the part's space (planes need not be normalised, and
    lie outwards by what rounding may cost: see :func:`slackened`);
    ``nearest`` (v,): no point of the instance is nearer to the eye, metres, above zero; ``least``, ``most`` (v,): the
    least and greatest stretch of the instance's matrix; ``one_sided`` (v,): triangles that face away are not drawn.
    ``forward`` (v, 3), of an orthographic view: the direction of its rays, which the instance's matrix makes a unit;
    ``nearest`` is 1 then, and errors project alike at any distance.
    """

    part: Index
    eye: NDArray[np.float32]
    planes: NDArray[np.float32]
    nearest: NDArray[np.float32]
    least: NDArray[np.float32]
    most: NDArray[np.float32]
    one_sided: NDArray[np.bool_]
    forward: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Cut:
    """What to draw: k clusters. ``cluster`` (k,), ``seen`` (k,) row of :class:`Seen`, ``distance`` (k,) metres.

    ``visited`` counts the groups that were looked at; ``missing`` the pages that a sharper picture needs.
    """

    cluster: Index
    seen: Index
    distance: NDArray[np.float32]
    visited: int = 0
    missing: int = 0


def cut(
    tables: CutTables,
    pages: PageState,
    seen: Seen,
    *,
    pixels_per_radian: float,
    pixel_error: float,
    wanted_error: float,
    picture: int,
) -> Cut:
    """The clusters to draw for at most ``pixel_error`` pixels of error, as far as pages are resident.

    ``wanted_error`` (no more than ``pixel_error``) is what pages are asked for: those of the picture that comes when
    everything rests. Marks in ``pages`` what ``picture`` used and what it misses.
    """
    count = len(seen.part)
    scale = seen.most * np.float32(pixels_per_radian)
    part_count = tables.part_group_count[seen.part]
    base = np.cumsum(part_count) - part_count
    refined = np.zeros(int(part_count.sum()), np.bool_)
    offset = base - tables.part_first_group[seen.part]
    # Whole instances first: where even the greatest error of all is small enough, no group is looked at.
    deep = np.flatnonzero(tables.part_error[seen.part] * scale > np.float32(wanted_error) * seen.nearest)
    # In single precision too, a group that is refined has a parent that is: all at once is as good as step by step.
    flat = int(part_count[deep].sum()) <= FLAT_GROUPS
    if flat:
        first = tables.part_first_group[seen.part[deep]]
        group, origin = expand(first, first + part_count[deep])
    else:
        group, origin = tables.tops.expand(seen.part[deep])
    row = deep[origin]
    chosen_group: list[Index] = []
    chosen_row: list[Index] = []
    visited = 0
    while len(group):
        visited += len(group)
        ratio = _projected(tables, seen, group, row, scale)
        keep = np.flatnonzero(ratio > wanted_error)
        if len(keep):
            keep = keep[_meets(tables.low, tables.high, seen, group[keep], row[keep])]
        group, row, ratio = group[keep], row[keep], ratio[keep]
        page = tables.page[group]
        there = pages.resident[page]
        pages.used[page[there]] = picture
        absent = np.flatnonzero(~there)
        if len(absent):
            # What depends on a page that is missing itself is asked for when that is there.
            parent = tables.parent[group[absent]]
            absent = absent[(parent < 0) | pages.resident[tables.page[parent]]]
            np.maximum.at(pages.priority, page[absent], ratio[absent])
        group, row, ratio = group[there], row[there], ratio[there]
        drawn = ratio > pixel_error
        chosen_group.append(group[drawn])
        chosen_row.append(row[drawn])
        refined[offset[row[drawn]] + group[drawn]] = True
        if flat:
            break
        group, origin = tables.children.expand(group)
        row = row[origin]
    root, root_row = tables.roots.expand(seen.part)
    if chosen_group:
        inner, origin = tables.consumed.expand(np.concatenate(chosen_group))
        cluster = np.concatenate([root, inner])
        owner = np.concatenate([root_row, np.concatenate(chosen_row)[origin]])
    else:
        cluster, owner = root, root_row
    producer = tables.producer[cluster]
    replaced = np.zeros(len(cluster), np.bool_)
    some = np.flatnonzero(producer >= 0)
    replaced[some] = refined[offset[owner[some]] + producer[some]]
    keep = np.flatnonzero(~replaced)
    cluster, owner = cluster[keep], owner[keep]
    cluster, owner, distance = _cull(tables, seen, cluster, owner)
    page = tables.cluster_page[cluster]
    there = pages.resident[page]
    pages.used[page[there]] = picture
    if not there.all():
        absent = np.flatnonzero(~there)
        size = tables.radius[cluster[absent]] / np.maximum(distance[absent], np.float32(1e-6))
        np.maximum.at(pages.priority, page[absent], (ROOT_PRIORITY * (1.0 + size)).astype(np.float32))
        cluster, owner, distance = cluster[there], owner[there], distance[there]
    assert count or not len(cluster)
    return Cut(cluster, owner, distance, visited, int(np.count_nonzero(pages.priority)))


def _projected(
    tables: CutTables, seen: Seen, group: Index, row: Index, scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The error of groups in pixels, from the nearest point of their boxes. Never falls from a group to a coarser one:
    every step of the calculation, rounding included, is monotone in the box and in the error."""
    if seen.forward is not None:
        return np.asarray(tables.error[group] * scale[row], np.float32)
    eye = seen.eye[row]
    away = np.maximum(np.maximum(tables.low[group] - eye, eye - tables.high[group]), np.float32(0.0))
    away *= away
    distance = np.sqrt(away[:, 0] + away[:, 1] + away[:, 2]) * seen.least[row]
    return np.asarray(tables.error[group] * scale[row] / np.maximum(distance, seen.nearest[row]), np.float32)


def _meets(
    low: NDArray[np.float32], high: NDArray[np.float32], seen: Seen, item: Index, row: Index
) -> NDArray[np.bool_]:
    """Which boxes are not wholly outside of one of the planes. Nested boxes give nested answers: of each box only the
    corner furthest inside counts."""
    planes = seen.planes[row]
    normal = planes[:, :, :3]
    corner = np.where(normal >= 0.0, high[item][:, None, :], low[item][:, None, :])
    reach = normal * corner
    inside = reach[..., 0] + reach[..., 1] + reach[..., 2] + planes[:, :, 3] >= 0.0
    return np.asarray(inside.all(axis=1), np.bool_)


def slackened(planes: NDArray[np.float64], reach: NDArray[np.float64]) -> NDArray[np.float32]:
    """Planes (v, 6, 4) moved outwards by what single precision may cost for coordinates up to ``reach`` (v, 3), by the
    same amount for all boxes of a part, so that nested boxes keep giving nested answers."""
    moved = planes.copy()
    moved[:, :, 3] += 4e-6 * ((np.abs(planes[:, :, :3]) * reach[:, None, :]).sum(axis=2) + np.abs(planes[:, :, 3]))
    return moved.astype(np.float32)


def _cull(tables: CutTables, seen: Seen, cluster: Index, owner: Index) -> tuple[Index, Index, NDArray[np.float32]]:
    """Leave out clusters outside of the view and those of which only the backs are seen; distances of the rest."""
    center, extent = tables.center[cluster], tables.extent[cluster]
    inside = _meets(center - extent, center + extent, seen, np.arange(len(cluster)), owner)
    offset = center - seen.eye[owner]
    # Facing away is a question of sides of planes, which no affine map changes: it is answered in the part's space.
    cutoff = tables.cutoff[cluster]
    if seen.forward is None:
        distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        facing = np.einsum("ij,ij->i", offset, tables.axis[cluster])
        away = facing >= cutoff * distance + tables.radius[cluster] * np.float32(1.0001)
    else:
        forward = seen.forward[owner]
        length = np.sqrt(np.einsum("ij,ij->i", forward, forward))
        distance = np.einsum("ij,ij->i", offset, forward) / np.maximum(length, np.float32(1e-30))
        facing = np.einsum("ij,ij->i", forward, tables.axis[cluster])
        away = facing >= cutoff * length * np.float32(1.0001)
    away &= cutoff < np.float32(1.0)
    keep = np.flatnonzero(inside & ~(away & seen.one_sided[owner]))
    return cluster[keep], owner[keep], distance[keep] * seen.most[owner[keep]]
