"""Models for tests, made of spheres, boxes and planes with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part, Texture
from farframe.protocol.records import FieldOfView, View


def vertices_from(
    position: NDArray, normal: NDArray, uv: NDArray | None = None, tangent: NDArray | None = None
) -> NDArray[np.void]:
    vertices = np.zeros(len(position), VERTEX_DTYPE)
    vertices["position"] = position
    vertices["normal"][:, :3] = np.rint(normal * 127)
    vertices["tangent"][:, 3] = 127
    if tangent is None:
        vertices["tangent"][:, 0] = 127
    else:
        vertices["tangent"][:, :3] = np.rint(tangent * 127)
    if uv is not None:
        vertices["uv0"] = vertices["uv1"] = uv
    vertices["color"] = 255
    return vertices


def sphere(radius: float = 1.0, slices: int = 64, stacks: int = 32) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """Vertices and indices; u runs around, v from the north pole down."""
    u, v = np.meshgrid(np.linspace(0, 1, slices + 1), np.linspace(0, 1, stacks + 1))
    phi, theta = 2 * np.pi * u, np.pi * v
    normal = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), -np.sin(theta) * np.sin(phi)], -1).reshape(-1, 3)
    tangent = np.stack([-np.sin(phi), np.zeros_like(phi), -np.cos(phi)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(stacks), np.arange(slices), indexing="ij")
    a = row * (slices + 1) + column
    b = a + slices + 1
    indices = np.stack([a, b, a + 1, a + 1, b, b + 1], -1).reshape(-1).astype(np.uint32)
    uv = np.stack([u, v], -1).reshape(-1, 2)
    return vertices_from(normal * radius, normal, uv, tangent), indices


def plane(half: float = 1.0) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """A square in z = 0 that faces +Z; uv (0, 0) at its upper left corner."""
    position = np.array([[-1, 1, 0], [-1, -1, 0], [1, -1, 0], [1, 1, 0]], float) * half
    uv = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], float)
    return vertices_from(position, np.tile([0.0, 0, 1], (4, 1)), uv), np.array([0, 1, 2, 0, 2, 3], np.uint32)


def box(half: float = 1.0) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """A cube with flat faces."""
    face, face_indices = plane(half)
    vertices, indices = [], []
    turns = [
        np.eye(3), np.diag([-1.0, 1, -1]), np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]),
        np.array([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]]), np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
        np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    ]  # fmt: skip
    for turn in turns:
        position = (face["position"] + np.array([0, 0, half])) @ turn.T
        vertices.append(vertices_from(position, np.tile(turn[:, 2], (4, 1)), face["uv0"], np.tile(turn[:, 0], (4, 1))))
        indices.append(face_indices + 4 * len(indices))
    return np.concatenate(vertices), np.concatenate(indices).astype(np.uint32)


@dataclass
class ModelBuilder:
    """Collects parts and instances into a Model."""

    name: str = "test"
    materials: list[Material] = field(default_factory=list)
    textures: list[Texture] = field(default_factory=list)
    vertices: list[NDArray[np.void]] = field(default_factory=list)
    indices: list[NDArray[np.uint32]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    instances: list[tuple[int, NDArray]] = field(default_factory=list)

    def part(
        self,
        mesh: tuple[NDArray[np.void], NDArray[np.uint32]],
        material: Material,
        coarser: Sequence[tuple[NDArray[np.uint32], float]] = (),
    ) -> int:
        vertices, indices = mesh
        first_vertex = sum(map(len, self.vertices))
        levels = []
        for level_indices, error in [(indices, 0.0), *coarser]:
            levels.append(Level(sum(map(len, self.indices)), len(level_indices), error))
            self.indices.append(level_indices)
        self.vertices.append(vertices)
        self.materials.append(material)
        low, high = vertices["position"].min(0), vertices["position"].max(0)
        self.parts.append(
            Part(first_vertex, len(vertices), tuple(levels), len(self.materials) - 1, tuple(low), tuple(high))
        )
        return len(self.parts) - 1

    def place(self, part: int, position: Sequence[float] = (0, 0, 0), scale: float | Sequence[float] = 1.0) -> None:
        matrix = np.eye(4)
        matrix[:3, :3] = np.diag(np.broadcast_to(scale, 3))
        matrix[:3, 3] = position
        self.instances.append((part, matrix))

    def build(self) -> Model:
        count = len(self.instances)
        empty = np.zeros(0, VERTEX_DTYPE)
        return Model(
            name=self.name,
            vertices=np.concatenate(self.vertices) if self.vertices else empty,
            indices=np.concatenate(self.indices) if self.indices else np.zeros(0, np.uint32),
            parts=self.parts,
            materials=self.materials,
            textures=self.textures,
            nodes=[Node("root", -1, np.eye(4))],
            instance_part=np.array([part for part, _ in self.instances], np.int32),
            instance_node=np.zeros(count, np.int32),
            instance_matrix=np.array([matrix for _, matrix in self.instances]).reshape(count, 4, 4),
            bounds_min=(-1.0, -1.0, -1.0),
            bounds_max=(1.0, 1.0, 1.0),
        )


def look_at(
    eye: Sequence[float],
    target: Sequence[float] = (0, 0, 0),
    *,
    degrees: float = 35.0,
    aspect: float = 16 / 9,
    near: float = 0.05,
    far: float = 100.0,
) -> View:
    """A view from ``eye`` to ``target``, upright."""
    forward = np.subtract(target, eye).astype(float)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    m = np.stack([right, up, -forward], axis=1)
    w = np.sqrt(max(0.0, 1 + m[0, 0] + m[1, 1] + m[2, 2])) / 2
    x = np.copysign(np.sqrt(max(0.0, 1 + m[0, 0] - m[1, 1] - m[2, 2])) / 2, m[2, 1] - m[1, 2])
    y = np.copysign(np.sqrt(max(0.0, 1 - m[0, 0] + m[1, 1] - m[2, 2])) / 2, m[0, 2] - m[2, 0])
    z = np.copysign(np.sqrt(max(0.0, 1 - m[0, 0] - m[1, 1] + m[2, 2])) / 2, m[1, 0] - m[0, 1])
    return View(
        tuple(map(float, eye)),
        (float(x), float(y), float(z), float(w)),
        FieldOfView.symmetric(np.radians(degrees), aspect),
        near,
        far,
    )
