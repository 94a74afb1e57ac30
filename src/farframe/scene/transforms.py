"""Transforms as arrays: position, rotation, scale and the affine matrices that they make. Pure numpy, n at a time.

Right-handed, metres; rotations are unit quaternions (x, y, z, w); an affine matrix is (3, 4), the upper rows of the
(4, 4) one, and acts on column vectors: ``matrix[:, :3] @ p + matrix[:, 3]``. All in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

IDENTITY = np.eye(4)[:3]
SINGULAR = 1e-14
"""A matrix whose determinant is below this share of the product of its columns' lengths has no inverse."""


def compose(position: Array, rotation: Array, scale: Array) -> Array:
    """(n, 3, 4) matrices that scale, then rotate, then move. ``position``, ``scale`` (n, 3); ``rotation`` (n, 4)."""
    x, y, z, w = rotation.T
    sx, sy, sz = scale.T
    result = np.empty((len(position), 3, 4))
    result[:, 0, 0] = (1 - 2 * (y * y + z * z)) * sx
    result[:, 0, 1] = 2 * (x * y - z * w) * sy
    result[:, 0, 2] = 2 * (x * z + y * w) * sz
    result[:, 1, 0] = 2 * (x * y + z * w) * sx
    result[:, 1, 1] = (1 - 2 * (x * x + z * z)) * sy
    result[:, 1, 2] = 2 * (y * z - x * w) * sz
    result[:, 2, 0] = 2 * (x * z - y * w) * sx
    result[:, 2, 1] = 2 * (y * z + x * w) * sy
    result[:, 2, 2] = (1 - 2 * (x * x + y * y)) * sz
    result[:, :, 3] = position
    return result


def decompose(matrix: Array) -> tuple[Array, Array, Array]:
    """Position (n, 3), rotation (n, 4) and scale (n, 3) of (n, 3, 4) matrices.

    A mirror becomes a negative scale in x. Shear, which no such triple can hold, is lost: what is left are the columns'
    lengths and the rotation nearest to their directions (by Gram-Schmidt). A direction without length keeps its axis.
    """
    linear = matrix[:, :, :3]
    scale = np.sqrt(np.einsum("nij,nij->nj", linear, linear))
    mirrored = np.linalg.det(linear) < 0.0
    some = scale > 0.0
    axes = np.where(some[:, None, :], linear / np.where(some, scale, 1.0)[:, None, :], np.eye(3))
    scale[mirrored, 0] *= -1.0
    axes[mirrored, :, 0] *= -1.0
    first = axes[:, :, 0]
    second = axes[:, :, 1] - first * np.einsum("ni,ni->n", first, axes[:, :, 1])[:, None]
    length = np.sqrt(np.einsum("ni,ni->n", second, second))
    flat = length < 1e-9
    if flat.any():
        # Parallel columns: any direction across the first will do.
        other = np.eye(3)[np.argmin(np.abs(first[flat]), axis=1)]
        second[flat] = np.cross(first[flat], other)
        length[flat] = np.sqrt(np.einsum("ni,ni->n", second[flat], second[flat]))
    second /= length[:, None]
    third = np.cross(first, second)
    return matrix[:, :, 3].copy(), quaternions(np.stack([first, second, third], axis=2)), scale


def quaternions(rotation: Array) -> Array:
    """(n, 4) unit quaternions of (n, 3, 3) rotation matrices (Shepperd 1978: the largest component first)."""
    m = rotation
    trace = m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2]
    squares = np.stack(
        [
            1 + 2 * m[:, 0, 0] - trace,
            1 + 2 * m[:, 1, 1] - trace,
            1 + 2 * m[:, 2, 2] - trace,
            1 + trace,
        ],
        axis=1,
    )
    largest = np.argmax(squares, axis=1)
    result = np.empty((len(m), 4))
    a, b, c = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    ab, ac, bc = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    for index, row in enumerate(
        (
            (squares[:, 0], ab, ac, a),
            (ab, squares[:, 1], bc, b),
            (ac, bc, squares[:, 2], c),
            (a, b, c, squares[:, 3]),
        )
    ):
        some = largest == index
        result[some] = np.stack(row, axis=1)[some]
    return np.asarray(result / np.sqrt(np.einsum("ni,ni->n", result, result))[:, None], np.float64)


def multiply(first: Array, second: Array) -> Array:
    """(n, 3, 4) matrices ``first @ second``."""
    result = np.matmul(first[:, :, :3], second)
    result[:, :, 3] += first[:, :, 3]
    return np.asarray(result, np.float64)


def invert(matrix: Array) -> tuple[Array, NDArray[np.bool_]]:
    """(n, 3, 4) inverses, zeros where there is none, and where there is one, (n,)."""
    linear = matrix[:, :, :3]
    a, b, c = linear[:, :, 0], linear[:, :, 1], linear[:, :, 2]
    bc, ca, ab = _cross(b, c), _cross(c, a), _cross(a, b)
    determinant = np.einsum("ni,ni->n", a, bc)
    lengths = np.sqrt(np.einsum("nij,nij->nj", linear, linear)).prod(axis=1)
    regular = np.isfinite(determinant) & (np.abs(determinant) > SINGULAR * lengths)
    result = np.zeros_like(matrix)
    adjugate = np.stack([bc, ca, ab], axis=1)
    result[regular, :, :3] = adjugate[regular] / determinant[regular, None, None]
    result[:, :, 3] = -np.einsum("nij,nj->ni", result[:, :, :3], np.where(regular[:, None], matrix[:, :, 3], 0.0))
    return result, np.asarray(regular, np.bool_)


def _cross(a: Array, b: Array) -> Array:
    """``np.cross`` without its overhead for small arrays."""
    return np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=1,
    )


def boxes(matrix: Array, center: Array, extent: Array) -> tuple[Array, Array]:
    """Middle and half size (n, 3) of the boxes around boxes that were moved by (n, 3, 4) matrices."""
    linear = matrix[:, :, :3]
    moved = np.einsum("nij,nj->ni", linear, center) + matrix[:, :, 3]
    return moved, np.einsum("nij,nj->ni", np.abs(linear), extent)


def stretches(matrix: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
    """Least and greatest stretch (n,) of (n, 3, 4) matrices: their extreme singular values.

    Rotations with one scale for all directions, which nearly all are, need no decomposition.
    """
    linear = np.asarray(matrix[:, :, :3], np.float64)
    gram = np.einsum("nki,nkj->nij", linear, linear)
    square = (gram[:, 0, 0] + gram[:, 1, 1] + gram[:, 2, 2]) / 3.0
    off = np.abs(gram - square[:, None, None] * np.eye(3)).max(axis=(1, 2))
    least = np.sqrt(square)
    most = least.copy()
    uneven = ~(off <= 1e-9 * square) & np.isfinite(square)
    if uneven.any():
        values = np.linalg.svd(linear[uneven], compute_uv=False)
        least[uneven], most[uneven] = values[:, 2], values[:, 0]
    return least, most
