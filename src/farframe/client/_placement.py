"""Where models are by now, as far as the device knows: boxes of their roots, carried along. Pure maths on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farframe.client._store import Store
from farframe.protocol.messages import Bounds

FARTHEST_METERS = 1e12
"""Farther off nothing can be looked at; numbers beyond it would only overflow."""


def carried(boxes: Sequence[Bounds], chains: Sequence[Sequence[int]], store: Store) -> list[Bounds]:
    """World-space boxes, metres, around ``boxes`` that stand in the spaces of entities.

    ``chains``: for each box the rows in ``store`` of its entity, of that one's parent, and so on; none for a box that
    stands in the world. Boxes are turned as wholes, so what is inside may fill less of the result.
    """
    if not boxes:
        return []
    low = np.array([box.min for box in boxes], np.float64)
    high = np.array([box.max for box in boxes], np.float64)
    linear = np.tile(np.eye(3), (len(boxes), 1, 1))
    moved = np.zeros((len(boxes), 3))
    with np.errstate(over="ignore", invalid="ignore"):
        for level in range(max(map(len, chains))):
            some = np.array([number for number, chain in enumerate(chains) if level < len(chain)])
            rows = np.array([chains[number][level] for number in some])
            axes = _rotations(store.rotation[rows]) * store.scale[rows][:, None, :]
            linear[some] = axes @ linear[some]
            moved[some] = (axes @ moved[some][:, :, None])[:, :, 0] + store.position[rows]
        middle = (linear @ ((low + high) / 2)[:, :, None])[:, :, 0] + moved
        half = (np.abs(linear) @ ((high - low) / 2)[:, :, None])[:, :, 0]
        low, high = (
            np.clip(np.nan_to_num(end), -FARTHEST_METERS, FARTHEST_METERS) for end in (middle - half, middle + half)
        )
    return [Bounds(min=(a, b, c), max=(d, e, f)) for a, b, c, d, e, f in np.hstack([low, high]).tolist()]


def _rotations(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) matrices of (n, 4) unit quaternions x, y, z, w."""
    x, y, z, w = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
