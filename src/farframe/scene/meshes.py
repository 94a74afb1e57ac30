"""What hangs on the entities of a scene: the part instances of all loaded models, as a structure of arrays.

An instance follows one entity: ``world = entity's world @ offset``. The offset holds what no position, rotation and
scale can, so that a loaded model lies exactly where its file puts it, shear included, until something moves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.scene.animation import AnimationData
from farframe.scene.graph import Graph
from farframe.scene.transforms import IDENTITY, boxes, decompose, invert, multiply

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tree:
    """The entities of a model, k of them, its root first, and its part instances, i of them.

    ``parent`` (k,) rows, -1 for the root; ``names``; ``position``, ``scale`` (k, 3), ``rotation`` (k, 4);
    ``metadata`` by row. Instances: ``owner`` (i,) rows of entities; ``offset`` (i, 3, 4) part space to entity space;
    ``center``, ``extent`` (i, 3) the part's box in part space; ``cloud`` (i,) whether it is of points; ``part`` (i,)
    which part of the file it shows; ``material`` (i,) of that part, out of ``material_count``, -1 for points.
    ``animations``: how its nodes move by themselves; node 0 is the entity after the root.
    """

    parent: Rows
    names: list[str]
    position: Array
    rotation: Array
    scale: Array
    owner: Rows
    offset: Array
    center: Array
    extent: Array
    cloud: NDArray[np.bool_]
    metadata: Mapping[int, Mapping[str, Any]]
    part: Rows
    material: Rows
    material_count: int
    static: bool = False
    animations: AnimationData | None = None


def tree_of(
    name: str,
    nodes: list[tuple[str, int]],
    matrices: Array,
    instance_node: NDArray[np.integer[Any]],
    instance_matrix: Array,
    center: Array,
    extent: Array,
    cloud: NDArray[np.bool_],
    metadata: Mapping[int, Mapping[str, Any]],
    *,
    part: NDArray[np.integer[Any]],
    material: NDArray[np.integer[Any]],
    material_count: int,
    mode: str = "dynamic",
    animations: AnimationData | None = None,
) -> Tree:
    """The tree of a model with these ``nodes`` (name and parent or -1, parents first) below one root of its own.

    ``matrices`` (n, 3, 4) local; ``instance_node`` (i,), ``instance_matrix`` (i, 3, 4) part space to model space;
    ``center``, ``extent`` (i, 3); ``metadata`` by node; ``part`` (i,); ``material`` by part, any for points, which have
    none. ``mode``: with ``none`` there is only the root; with ``static``
    the others cannot be moved on their own.
    """
    if mode == "none" or not nodes:
        count = 0
        owner = np.zeros(len(instance_node), np.int64)
    else:
        count = len(nodes)
        owner = instance_node.astype(np.int64) + 1
    parent = np.array([-1, *(up + 1 for _, up in nodes[:count])], np.int64)
    position, scale = np.zeros((count + 1, 3)), np.ones((count + 1, 3))
    rotation = np.tile([0.0, 0.0, 0.0, 1.0], (count + 1, 1))
    if count:
        with np.errstate(all="ignore"):
            split = decompose(np.asarray(matrices[:count], np.float64))
        sound = np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in split])
        for array, values in zip((position, rotation, scale), split, strict=True):
            array[1:][sound] = values[sound]
    graph = Graph(max_entities=count + 1, max_depth=count + 2)
    graph.add_tree(parent, [""] * (count + 1), position, rotation, scale)
    graph.update()
    with np.errstate(all="ignore"):
        inverse, regular = invert(graph.world[: count + 1])
        offset = multiply(inverse[owner], np.asarray(instance_matrix, np.float64))
    # Below an entity without volume nothing is seen until it gets some.
    offset[~regular[owner]] = IDENTITY
    return Tree(
        parent=parent,
        names=[name, *(node for node, _ in nodes[:count])],
        position=position,
        rotation=rotation,
        scale=scale,
        owner=owner,
        offset=offset,
        center=center,
        extent=extent,
        cloud=cloud,
        metadata={node + 1: values for node, values in metadata.items() if node < count},
        part=part.astype(np.int64),
        material=np.where(cloud, -1, material[part].astype(np.int64)) if len(part) else np.zeros(0, np.int64),
        material_count=material_count,
        static=mode == "static",
        animations=animations if count else None,
    )


class Meshes:
    """The instances of all models, N of them. ``slot`` (N,) the entity's row, or -1 once that was destroyed;
    ``handle`` (N,) the model, ``number`` (N,) the instance's own in it; ``sub_part`` (N,) which of its
    entity's instances it is, from 0; ``offset``, ``center``, ``extent``, ``cloud`` as in :class:`Tree`. Rows of a model
    follow one another."""

    def __init__(self) -> None:
        self.slot: Rows = np.zeros(0, np.int64)
        self.handle: Rows = np.zeros(0, np.int64)
        self.number: Rows = np.zeros(0, np.int64)
        self.sub_part: Rows = np.zeros(0, np.int64)
        self.offset: Array = np.zeros((0, 3, 4))
        self.center: Array = np.zeros((0, 3))
        self.extent: Array = np.zeros((0, 3))
        self.cloud: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._low: Array = np.zeros((0, 3))
        self._high: Array = np.zeros((0, 3))
        self._moved: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self.slot)

    def add(self, handle: int, slots: Rows, tree: Tree) -> None:
        """The instances of a model; ``slots`` (i,) of the entities that they follow, -1 for none."""
        count = len(slots)
        self.slot = np.concatenate([self.slot, slots])
        self.handle = np.concatenate([self.handle, np.full(count, handle, np.int64)])
        self.number = np.concatenate([self.number, np.arange(count)])
        self.sub_part = np.concatenate([self.sub_part, _ranks(tree.owner)])
        self.offset = np.concatenate([self.offset, tree.offset])
        self.center = np.concatenate([self.center, tree.center])
        self.extent = np.concatenate([self.extent, tree.extent])
        self.cloud = np.concatenate([self.cloud, tree.cloud])
        self._low = np.concatenate([self._low, np.zeros((count, 3))])
        self._high = np.concatenate([self._high, np.zeros((count, 3))])
        self._moved = np.concatenate([self._moved, np.ones(count, np.bool_)])

    def remove(self, handle: int) -> None:
        """Forget a model."""
        keep = self.handle != handle
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[keep])

    def forget(self, slots: Rows, capacity: int) -> Rows:
        """Entities were destroyed: the rows of what hung on them, which follow nothing any more."""
        gone = np.zeros(capacity, np.bool_)
        gone[slots] = True
        rows = np.flatnonzero((self.slot >= 0) & gone[self.slot])
        self.slot[rows] = -1
        return rows

    def rows_on(self, slots: Rows, capacity: int) -> Rows:
        """The rows of what hangs on these entities."""
        wanted = np.zeros(capacity, np.bool_)
        wanted[slots] = True
        return np.flatnonzero((self.slot >= 0) & wanted[self.slot])

    def world(self, graph: Graph, rows: Rows) -> Array:
        """(n, 3, 4) part space to world of rows that follow an entity."""
        with np.errstate(all="ignore"):
            return multiply(graph.world[self.slot[rows]], self.offset[rows])

    def move(self, rows: Rows) -> None:
        """What these rows follow has moved."""
        self._moved[rows] = True

    def boxes(self, graph: Graph) -> tuple[Array, Array]:
        """Lowest and highest corners (N, 3) of the world boxes of all rows; those that follow nothing have any. Only
        what moved since the last call is looked at. Read only; ``graph`` must be up to date."""
        moved = np.flatnonzero(self._moved & (self.slot >= 0))
        if len(moved):
            center, extent = self.world_boxes(graph, moved)
            with np.errstate(all="ignore"):
                self._low[moved], self._high[moved] = center - extent, center + extent
            self._moved[moved] = False
        return self._low, self._high

    def world_boxes(self, graph: Graph, rows: Rows) -> tuple[Array, Array]:
        """Middle and half size (n, 3) of the world boxes of rows that follow an entity."""
        with np.errstate(all="ignore"):
            return boxes(self.world(graph, rows), self.center[rows], self.extent[rows])


_COLUMNS = (
    "slot",
    "handle",
    "number",
    "sub_part",
    "offset",
    "center",
    "extent",
    "cloud",
    "_low",
    "_high",
    "_moved",
)
"""The arrays of :class:`Meshes`."""


def _ranks(owner: Rows) -> Rows:
    """(n,) how many of the rows before have the same owner."""
    order = np.argsort(owner, kind="stable")
    ordered = owner[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(owner) else np.zeros(0, np.int64)
    ranks = np.empty(len(owner), np.int64)
    ranks[order] = np.arange(len(owner)) - np.repeat(begins, np.diff(np.append(begins, len(owner))))
    return ranks


def bounds(graph: Graph, meshes: Meshes, slot: int, *, local: bool) -> tuple[Array, Array] | None:
    """The box, lowest and highest corner (3,), of all that hangs on an entity and below it, or ``None`` for nothing.

    In world space, or with ``local`` in the entity's own, where it is as tight as the parts' own boxes allow. Hidden
    and disabled parts count. ``graph`` must be up to date.
    """
    rows = meshes.rows_on(graph.subtree(slot), len(graph.id))
    matrix = meshes.world(graph, rows)
    if local:
        inverse, regular = invert(graph.world[slot][None])
        if not regular[0]:
            return None
        matrix = multiply(np.broadcast_to(inverse, matrix.shape), matrix)
    with np.errstate(all="ignore"):
        center, extent = boxes(matrix, meshes.center[rows], meshes.extent[rows])
        low, high = center - extent, center + extent
    sound = np.isfinite(low).all(axis=1) & np.isfinite(high).all(axis=1)
    if not sound.any():
        return None
    return low[sound].min(axis=0), high[sound].max(axis=0)
