"""What entities hold in arrays: local transforms of all of them by row, and what of these has still to be sent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from farframe.protocol import scene as wire


class Store:
    """Local transforms of all entities, by row."""

    def __init__(self) -> None:
        self.id = np.zeros(0, np.uint32)
        self.position = np.zeros((0, 3))
        self.rotation = np.zeros((0, 4))
        self.scale = np.zeros((0, 3))
        self.moved = np.zeros(0, np.uint8)
        """Which parts of a transform have still to be sent, as bits; see ``wire.HAS_POSITION``."""
        self.streamed = np.zeros(0, np.uint8)
        """Which were sent in a way that may lose them."""
        self.static = np.zeros(0, np.bool_)
        self._free: list[int] = []
        self._used = 0

    def allocate(self, count: int) -> NDArray[np.int64]:
        """Rows for new entities."""
        taken = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(taken)
        if self._used + fresh > len(self.id):
            capacity = max(64, 2 * len(self.id), self._used + fresh)
            for name in ("id", "position", "rotation", "scale", "moved", "streamed", "static"):
                old = getattr(self, name)
                larger = np.zeros((capacity, *old.shape[1:]), old.dtype)
                larger[: len(old)] = old
                setattr(self, name, larger)
        rows = np.array([*taken, *range(self._used, self._used + fresh)], np.int64)
        self._used += fresh
        self.position[rows], self.rotation[rows], self.scale[rows] = 0.0, (0.0, 0.0, 0.0, 1.0), 1.0
        self.moved[rows] = self.streamed[rows] = 0
        self.static[rows] = False
        return rows

    def free(self, rows: list[int]) -> None:
        """Rows of entities that were destroyed."""
        self.moved[rows] = self.streamed[rows] = 0
        self._free.extend(rows)


BITS = {"position": wire.HAS_POSITION, "rotation": wire.HAS_ROTATION, "scale": wire.HAS_SCALE}


def checked(name: str, value: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Numbers that the server takes, rotations of unit length. Raises ValueError."""
    width = 4 if name == "rotation" else 3
    if value.shape != (count, width):
        raise ValueError(f"{name} has {width} numbers")
    if not np.isfinite(value).all() or (value.size and np.abs(value).max() > 1e15):
        raise ValueError(f"{name} holds a number that is not finite, or too large")
    if name != "rotation":
        return value
    length = np.sqrt(np.einsum("ni,ni->n", value, value))
    if (length < 1e-30).any():
        raise ValueError("a rotation is a quaternion of any length but zero")
    return np.asarray(value / length[:, None], np.float64)
