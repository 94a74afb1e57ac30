"""Scale, axes and origin of a model: what the settings ``scaling``, ``axis`` and ``recenterToOrigin`` mean.

``scaling`` is worked into vertices and into the translations of all nodes, so that no node gains a scale. ``axis`` and
recentring go into the roots' transforms (and so into all instances): vertices stay as precise as they came.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from farframe.asset import geometry
from farframe.asset.model import Model, Node
from farframe.convert.settings import Axis

Matrix = NDArray[np.float64]
Vector = tuple[float, float, float]

CHUNK = 1 << 20
"""Vertices that are worked on at a time: what is mapped from a file never lies in memory as a whole."""


def axis_matrix(axis: tuple[Axis, Axis, Axis]) -> Matrix:
    """(3, 3): row i picks, with its sign, the source's axis that becomes x, y or z."""
    matrix = np.zeros((3, 3))
    for row, name in enumerate(axis):
        sign, letter = ("+", "xyz"[row]) if name == "default" else (name[0], name[1])
        matrix[row, "xyz".index(letter)] = 1.0 if sign == "+" else -1.0
    return matrix


def scale_model(model: Model, factor: float) -> None:
    """Scale ``model`` uniformly, in place: positions, translations, boxes and errors."""
    if factor == 1.0:
        return
    positions = model.vertices["position"]
    for begin in range(0, len(positions), CHUNK):
        positions[begin : begin + CHUNK] *= np.float32(factor)
    for part in model.parts:
        part.bounds_min, part.bounds_max = _scaled(part.bounds_min, factor), _scaled(part.bounds_max, factor)
        part.levels = tuple(replace(level, error=level.error * factor) for level in part.levels)
    for node in model.nodes:
        node.matrix = node.matrix.copy()
        node.matrix[:3, 3] *= factor
    if model.animations is not None:
        model.animations.scale(factor)
    model.instance_matrix = model.instance_matrix.copy()
    model.instance_matrix[:, :3, 3] *= factor
    model.bounds_min, model.bounds_max = _scaled(model.bounds_min, factor), _scaled(model.bounds_max, factor)


def move_roots(model: Model, matrix: Matrix) -> None:
    """Put ``matrix`` (4, 4), a rotation that may mirror, before all of the model, in place; bounds are found again."""
    _place_roots(model, matrix)
    model.instance_matrix = np.ascontiguousarray(matrix @ model.instance_matrix)
    _find_bounds(model)


def apply_axis(model: Model, axis: tuple[Axis, Axis, Axis]) -> None:
    """Turn (or mirror) the model as ``axis`` says, in place."""
    matrix = np.eye(4)
    matrix[:3, :3] = axis_matrix(axis)
    if not np.array_equal(matrix, np.eye(4)):
        move_roots(model, matrix)


def recenter(model: Model) -> Vector:
    """Move the model's box to the origin, in place. Returns the way back: the centre where it was, in metres."""
    if not len(model.instance_part):
        return 0.0, 0.0, 0.0
    center = (np.array(model.bounds_min) + np.array(model.bounds_max)) * 0.5
    matrix = np.eye(4)
    matrix[:3, 3] = -center
    _place_roots(model, matrix)
    model.instance_matrix = np.ascontiguousarray(matrix @ model.instance_matrix)
    model.bounds_min = _vector(np.array(model.bounds_min) - center)
    model.bounds_max = _vector(np.array(model.bounds_max) - center)
    return _vector(center)


def _place_roots(model: Model, matrix: Matrix) -> None:
    for node in model.nodes:
        if node.parent < 0:
            node.matrix = matrix @ node.matrix
    if model.animations is not None:
        roots = np.array([node.parent < 0 for node in model.nodes], np.bool_)
        model.animations.move_roots(matrix, roots[model.animations.node])


def flatten(model: Model) -> None:
    """One node for everything, in place: the scene graph mode ``none``. Nothing is left that could move by itself."""
    model.animations = None
    model.nodes = [Node(model.name, -1, np.eye(4))]
    model.instance_node = np.zeros(len(model.instance_part), dtype=np.int32)


def _find_bounds(model: Model) -> None:
    # Seen as one read-only column, not copied: parts are ranges of it.
    positions = model.vertices["position"]
    part_min = np.array([part.bounds_min for part in model.parts], dtype=np.float64).reshape(-1, 3)
    part_max = np.array([part.bounds_max for part in model.parts], dtype=np.float64).reshape(-1, 3)
    model.bounds_min, model.bounds_max = geometry.instance_bounds(
        [positions[part.first_vertex : part.first_vertex + part.vertex_count] for part in model.parts],
        part_min,
        part_max,
        model.instance_part,
        model.instance_matrix,
    )


def _scaled(vector: Vector, factor: float) -> Vector:
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
