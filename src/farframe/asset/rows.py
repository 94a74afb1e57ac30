"""Rows of fixed-size records, moved as bytes: numpy moves structured ones member by member, ten times as slowly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def words(rows: NDArray[np.void]) -> NDArray[np.uint32]:
    """(n,) rows whose size is a multiple of four bytes as the numbers (n, k) that they are made of: a view."""
    return rows.view(np.uint32).reshape(len(rows), -1)


def gathered(rows: NDArray[np.void], which: NDArray[Any]) -> NDArray[np.void]:
    """``rows[which]``, for rows as above."""
    taken: NDArray[np.void] = words(rows).take(which, axis=0).view(rows.dtype).reshape(-1)
    return taken


def stacked(arrays: Sequence[NDArray[np.void]], dtype: np.dtype[Any]) -> NDArray[np.void]:
    """All rows of contiguous arrays of one dtype, after each other; of one array that itself, of none an empty one."""
    if len(arrays) == 1:
        return arrays[0]
    return np.frombuffer(bytearray().join([array.data for array in arrays]), dtype)
