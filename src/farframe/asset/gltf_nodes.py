"""The node hierarchy of a glTF file: the scene that is shown, transforms, instances."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from farframe.asset.gltf_reading import Step, clean_name
from farframe.asset.gltf_source import corrupt
from farframe.asset.model import Node
from farframe.protocol.errors import FarframeError, Result

MAX_NODE_DEPTH = 1_000


class NodeReader(Step):
    """Reads the nodes of the scene that is shown."""

    def hierarchy(self) -> tuple[NDArray[np.int32], list[Node], NDArray[np.int32], list[int]]:
        """The nodes of the scene that is shown, parents before children.

        Returns each node's parent (or -1), the nodes, their depth (roots 0), and their indices in the file.
        """
        document = self._document
        count = len(document.nodes)
        parent_in_file = np.full(count, -1, dtype=np.int64)
        for index, node in enumerate(document.nodes):
            for child in node.children:
                if child >= count:
                    corrupt(f"$.nodes[{index}].children names node {child}, which does not exist.")
                if parent_in_file[child] >= 0:
                    corrupt(f"$.nodes[{child}] has two parents.")
                parent_in_file[child] = index
        roots = self._scene_roots(parent_in_file)

        order: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        level, level_parents, depth = roots, [-1] * len(roots), 0
        while level:
            if depth > MAX_NODE_DEPTH:
                raise FarframeError(
                    Result.EXCEEDS_MEMORY_LIMIT,
                    f"The nodes are nested more than {MAX_NODE_DEPTH:,} levels deep.",
                    next_step="Flatten the node hierarchy.",
                )
            first = len(order)
            order.extend(level)
            parents.extend(level_parents)
            depths.extend([depth] * len(level))
            next_level: list[int] = []
            next_parents: list[int] = []
            for place, index in enumerate(level, start=first):
                children = document.nodes[index].children
                next_level.extend(children)
                next_parents.extend([place] * len(children))
            level, level_parents, depth = next_level, next_parents, depth + 1
        self._budget.take_bytes(len(order) * 600, "its nodes")
        matrices = self._local_matrices(order)
        nodes = [
            Node(clean_name(document.nodes[index].name), parent, matrices[place])
            for place, (index, parent) in enumerate(zip(order, parents, strict=True))
        ]
        return np.array(parents, dtype=np.int32), nodes, np.array(depths, dtype=np.int32), order

    def _scene_roots(self, parent_in_file: NDArray[np.int64]) -> list[int]:
        document = self._document
        if not document.scenes:
            roots: list[int] = np.flatnonzero(parent_in_file < 0).tolist()
            if len(parent_in_file) and not roots:
                corrupt("The nodes' children form a cycle.")
            return roots
        scene = document.scene or 0
        if scene >= len(document.scenes):
            corrupt(f"$.scene is {scene}, which does not exist.")
        if len(document.scenes) > 1:
            self._warn(f"Scene {scene} is shown; {len(document.scenes) - 1} other scenes are left out.")
        seen: set[int] = set()
        for root in document.scenes[scene].nodes:
            if root >= len(parent_in_file):
                corrupt(f"$.scenes[{scene}].nodes names node {root}, which does not exist.")
            # Every node has one parent at most, so what is reached from parentless roots is a tree, never a cycle.
            if parent_in_file[root] >= 0 or root in seen:
                corrupt(f"$.scenes[{scene}].nodes names node {root}, which is another node's child or named twice.")
            seen.add(root)
        return list(document.scenes[scene].nodes)

    def _local_matrices(self, order: list[int]) -> NDArray[np.float64]:
        """(n, 4, 4) local matrices of the file's nodes ``order``."""
        nodes = [self._document.nodes[index] for index in order]
        matrices = _matrices(
            np.array([node.translation or (0.0, 0.0, 0.0) for node in nodes]).reshape(-1, 3),
            np.array([node.rotation or (0.0, 0.0, 0.0, 1.0) for node in nodes]).reshape(-1, 4),
            np.array([node.scale or (1.0, 1.0, 1.0) for node in nodes]).reshape(-1, 3),
        )
        given = [place for place, node in enumerate(nodes) if node.matrix is not None]
        if given:
            # Stored column by column.
            stored = np.array([nodes[place].matrix for place in given]).reshape(-1, 4, 4)
            matrices[given] = stored.transpose(0, 2, 1)
        wrong = ~np.isfinite(matrices).all(axis=(1, 2))
        wrong |= np.abs(matrices[:, 3] - (0.0, 0.0, 0.0, 1.0)).max(axis=1, initial=0.0) > 1e-6
        if wrong.any():
            corrupt(f"$.nodes[{order[int(np.argmax(wrong))]}] has a transform that is not an affine one.")
        return matrices

    def instances(
        self, nodes: list[Node], file_nodes: list[int], mesh_uses: list[int | None], world: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Make each instance of EXT_mesh_gpu_instancing a node below its node, which then shows nothing itself.

        Adds to ``nodes`` and ``mesh_uses``; returns the world matrices of all nodes.
        """
        worlds = [world]
        for place, index in enumerate(file_nodes):
            described = self._document.nodes[index].extensions.EXT_mesh_gpu_instancing
            if described is None or mesh_uses[place] is None:
                continue
            where = f"$.nodes[{index}].extensions.EXT_mesh_gpu_instancing.attributes"
            given = [
                (name, size, described.attributes[name])
                for name, size in (("TRANSLATION", 3), ("ROTATION", 4), ("SCALE", 3))
                if name in described.attributes
            ]
            counts = {self._source.accessor(accessor).count for _, _, accessor in given}
            if len(counts) != 1:
                corrupt(f"{where} do not have one number of instances.")
            count = counts.pop()
            if len(nodes) + count > self._limits.max_nodes:
                raise FarframeError(
                    Result.EXCEEDS_MEMORY_LIMIT,
                    f"The model has more than {self._limits.max_nodes:,} nodes, repeated meshes counted.",
                    next_step="Repeat fewer meshes, or ask the operator to raise the limit.",
                )
            self._budget.take_bytes(count * 1_000, "its nodes")
            values = {
                name: self._source.floats(accessor, (size,), f"{where}.{name}").astype(np.float64)
                for name, size, accessor in given
            }
            matrices = _matrices(
                values.get("TRANSLATION", np.zeros((count, 3))),
                values.get("ROTATION", np.tile([0.0, 0.0, 0.0, 1.0], (count, 1))),
                values.get("SCALE", np.ones((count, 3))),
            )
            if not np.isfinite(matrices).all():
                corrupt(f"{where} hold a transform that is not a number.")
            name = nodes[place].name
            nodes.extend(Node(f"{name}[{number}]", place, matrix) for number, matrix in enumerate(matrices))
            mesh_uses.extend([mesh_uses[place]] * count)
            mesh_uses[place] = None
            with np.errstate(all="ignore"):
                worlds.append(world[place] @ matrices)
        return np.concatenate(worlds)


def _matrices(
    translation: NDArray[np.float64], rotation: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 4, 4): scale, then rotation by a quaternion xyzw (of any length but 0), then translation."""
    with np.errstate(all="ignore"):
        x, y, z, w = (rotation / np.sqrt((rotation * rotation).sum(axis=1, keepdims=True))).T
    matrices = np.zeros((len(translation), 4, 4))
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 0, 2] = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - z * w),
        2 * (x * z + y * w),
    )
    matrices[:, 1, 0], matrices[:, 1, 1], matrices[:, 1, 2] = (
        2 * (x * y + z * w),
        1 - 2 * (x * x + z * z),
        2 * (y * z - x * w),
    )
    matrices[:, 2, 0], matrices[:, 2, 1], matrices[:, 2, 2] = (
        2 * (x * z - y * w),
        2 * (y * z + x * w),
        1 - 2 * (x * x + y * y),
    )
    matrices[:, :3, :3] *= scale[:, None, :]
    matrices[:, :3, 3] = translation
    matrices[:, 3, 3] = 1.0
    return matrices


def world_matrices(nodes: list[Node], parents: NDArray[np.int32], depths: NDArray[np.int32]) -> NDArray[np.float64]:
    """(n, 4, 4): each node's space to model space; level by level, all nodes of a level at once."""
    world = np.array([node.matrix for node in nodes]).reshape(-1, 4, 4)
    if len(nodes):
        starts = np.searchsorted(depths, np.arange(int(depths[-1]) + 2))
        with np.errstate(all="ignore"):
            for first, end in itertools.pairwise(starts[1:]):
                world[first:end] = world[parents[first:end]] @ world[first:end]
    return world
