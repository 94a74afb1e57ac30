"""Collects parts, nodes and instances while the engine is put together, and writes the :class:`Model`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farframe.asset.builtin.mesh import Array, Mesh, Shaded, shade
from farframe.asset.builtin.palette import MATERIALS
from farframe.asset.model import VERTEX_DTYPE, Level, Model, Node, Part

MILLIMETRE = 0.001


@dataclass(frozen=True, slots=True)
class Piece:
    """A part in stock: the numbers of its primitives (one per material) in the assembly."""

    parts: tuple[int, ...]


@dataclass(slots=True)
class Assembly:
    """Parts in stock and where they are placed.

    Nodes are numbers; node 0 is the root. A piece is made once with :meth:`piece` and placed as often as needed.
    Matrices are (4, 4) in millimetres and must be rigid.
    """

    name: str
    _shaded: list[Shaded] = field(default_factory=list)
    _part_materials: list[int] = field(default_factory=list)
    _materials: list[str] = field(default_factory=list)
    _nodes: list[tuple[str, int, Array]] = field(default_factory=list)
    _instances: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._nodes.append((self.name, -1, np.eye(4)))

    def group(self, name: str, parent: int = 0, matrix: ArrayLike | None = None) -> int:
        """Add a node without geometry and return its number."""
        self._nodes.append((name, parent, np.eye(4) if matrix is None else np.asarray(matrix, dtype=np.float64)))
        return len(self._nodes) - 1

    def piece(self, *bodies: tuple[Mesh, str], crease: float = 38.0) -> Piece:
        """Put a piece in stock, made of meshes with the names of their materials (see ``palette``).

        ``crease``: edges sharper than so many degrees stay crisp.
        """
        numbers = []
        for mesh, material in bodies:
            if material not in self._materials:
                self._materials.append(material)
            self._part_materials.append(self._materials.index(material))
            self._shaded.append(shade(mesh, crease))
            numbers.append(len(self._shaded) - 1)
        return Piece(tuple(numbers))

    def place(self, name: str, piece: Piece, parent: int, matrix: ArrayLike | None = None) -> int:
        """Place a piece under a node of its own and return that node's number."""
        node = self.group(name, parent, matrix)
        self._instances.extend((part, node) for part in piece.parts)
        return node

    def add(self, name: str, parent: int, *bodies: tuple[Mesh, str], crease: float = 38.0) -> int:
        """Make a piece that occurs once and place it where it was modelled."""
        return self.place(name, self.piece(*bodies, crease=crease), parent)

    def build(self) -> Model:
        """Write the model in metres, shifted so that its bounding box is centred on the origin."""
        vertices: list[NDArray[np.void]] = []
        indices: list[NDArray[np.uint32]] = []
        parts: list[Part] = []
        first_vertex = first_index = 0
        for shaded, material in zip(self._shaded, self._part_materials, strict=True):
            block = _vertices(shaded)
            low, high = block["position"].min(axis=0), block["position"].max(axis=0)
            index = shaded.triangles.reshape(-1).astype(np.uint32)
            parts.append(
                Part(
                    first_vertex=first_vertex,
                    vertex_count=len(block),
                    levels=(Level(first_index, len(index), 0.0),),
                    material=material,
                    bounds_min=_triple(low),
                    bounds_max=_triple(high),
                )
            )
            vertices.append(block)
            indices.append(index)
            first_vertex += len(block)
            first_index += len(index)

        instance_part = np.array([part for part, _ in self._instances], dtype=np.int32)
        instance_node = np.array([node for _, node in self._instances], dtype=np.int32)
        local = np.stack([matrix for _, _, matrix in self._nodes])
        local[:, :3, 3] *= MILLIMETRE
        low, high = self._bounds(vertices, instance_part, _worlds(self._nodes, local)[instance_node])
        local[0, :3, 3] = -(low + high) / 2
        world = _worlds(self._nodes, local)
        half = (high - low) / 2
        return Model(
            name=self.name,
            vertices=np.concatenate(vertices),
            indices=np.concatenate(indices),
            parts=parts,
            materials=[replace(MATERIALS[name]) for name in self._materials],
            textures=[],
            nodes=[Node(name, parent, matrix) for (name, parent, _), matrix in zip(self._nodes, local, strict=True)],
            instance_part=instance_part,
            instance_node=instance_node,
            instance_matrix=world[instance_node],
            bounds_min=_triple(-half),
            bounds_max=_triple(half),
        )

    def _bounds(
        self, vertices: list[NDArray[np.void]], instance_part: NDArray[np.int32], matrices: Array
    ) -> tuple[Array, Array]:
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for part, matrix in zip(instance_part, matrices, strict=True):
            points = vertices[part]["position"] @ matrix[:3, :3].T + matrix[:3, 3]
            low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
        return low, high


def _worlds(nodes: list[tuple[str, int, Array]], local: Array) -> Array:
    world = local.copy()
    for number, (_, parent, _) in enumerate(nodes):
        if parent >= 0:
            world[number] = world[parent] @ local[number]
    return world


def _triple(values: ArrayLike) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in np.asarray(values))
    return (x, y, z)


def _vertices(shaded: Shaded) -> NDArray[np.void]:
    """Vertices in the renderer's format. No material has a normal map, so any tangent across the normal will do."""
    block = np.zeros(len(shaded.positions), dtype=VERTEX_DTYPE)
    block["position"] = shaded.positions * MILLIMETRE
    block["normal"][:, :3] = np.round(shaded.normals * 127)
    smallest = np.eye(3)[np.argmin(np.abs(shaded.normals), axis=1)]
    tangent = np.cross(smallest, shaded.normals)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    block["tangent"][:, :3] = np.round(tangent * 127)
    block["tangent"][:, 3] = 127
    block["color"] = np.round(np.clip(shaded.colors, 0.0, 1.0) * 255)
    return block
