"""Large buffers in which the pages of all assets lie, and which part of them is free.

One buffer of vertices, one of indices and one of points serve all assets of a device, so that a budget of memory is one
for all of them. A pool begins small and doubles when it must, by a copy on the device; it never shrinks before it is
empty.
"""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

FIRST_ROWS = 1 << 16
"""Rows of a pool when it is first used."""


class RangeAllocator:
    """Ranges of rows out of ``capacity``: the first gap that is large enough; neighbouring gaps become one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free_rows = capacity
        self._first: list[int] = [0] if capacity else []
        self._count: list[int] = [capacity] if capacity else []

    def allocate(self, count: int) -> int | None:
        """The first row of ``count`` rows that are now taken; ``None`` if there is no gap of that size."""
        if count == 0:
            return 0
        for position, gap in enumerate(self._count):
            if gap >= count:
                first = self._first[position]
                if gap == count:
                    del self._first[position], self._count[position]
                else:
                    self._first[position] += count
                    self._count[position] -= count
                self.free_rows -= count
                return first
        return None

    def free(self, first: int, count: int) -> None:
        """Give rows back. Raises ``ValueError`` for rows that are free already."""
        if count == 0:
            return
        position = bisect.bisect_left(self._first, first)
        before, after = position - 1, position
        if (before >= 0 and self._first[before] + self._count[before] > first) or (
            after < len(self._first) and first + count > self._first[after]
        ):
            raise ValueError("these rows are free already")
        self.free_rows += count
        self._first.insert(position, first)
        self._count.insert(position, count)
        if position + 1 < len(self._first) and first + count == self._first[position + 1]:
            self._count[position] += self._count[position + 1]
            del self._first[position + 1], self._count[position + 1]
        if before >= 0 and self._first[before] + self._count[before] == first:
            self._count[before] += self._count[position]
            del self._first[position], self._count[position]

    def grow(self, capacity: int) -> None:
        """More rows at the end."""
        added, start = capacity - self.capacity, self.capacity
        self.capacity = capacity
        self.free(start, added)


class Pool:
    """A buffer of rows of ``row_bytes`` that grows up to ``limit_bytes``. ``usage`` as for a buffer."""

    def __init__(self, device: Any, label: str, row_bytes: int, usage: int, limit_bytes: int) -> None:
        self._device = device
        self._label = label
        self._usage = usage | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        self._limit_rows = max(limit_bytes // row_bytes, 1)
        self.row_bytes = row_bytes
        self.ranges = RangeAllocator(0)
        self.buffer: Any = None
        self.version = 0
        """Changes with the buffer, which bind groups must follow."""

    @property
    def used_bytes(self) -> int:
        """What allocated rows take."""
        return (self.ranges.capacity - self.ranges.free_rows) * self.row_bytes

    @property
    def size_bytes(self) -> int:
        """What the buffer takes."""
        return self.ranges.capacity * self.row_bytes

    def allocate(self, count: int) -> int | None:
        """The first of ``count`` rows, growing the buffer if it may; ``None`` if there is no room."""
        first = self.ranges.allocate(count)
        while first is None:
            capacity = min(max(2 * self.ranges.capacity, FIRST_ROWS), self._limit_rows)
            if capacity <= self.ranges.capacity:
                return None
            self._resize(capacity)
            first = self.ranges.allocate(count)
        return first

    def _resize(self, capacity: int) -> None:
        size = -(-capacity * self.row_bytes // 4) * 4
        buffer = self._device.create_buffer(label=self._label, size=size, usage=self._usage)
        if self.buffer is not None:
            encoder = self._device.create_command_encoder()
            encoder.copy_buffer_to_buffer(self.buffer, 0, buffer, 0, self.buffer.size)
            self._device.queue.submit([encoder.finish()])
            self.buffer.destroy()
        self.buffer = buffer
        self.ranges.grow(capacity)
        self.version += 1

    def write(self, first: int, rows: NDArray[Any]) -> None:
        """Put rows at their place."""
        data = np.ascontiguousarray(rows).view(np.uint8).reshape(-1)
        if len(data):
            self._device.queue.write_buffer(self.buffer, first * self.row_bytes, data)

    def free(self, first: int, count: int) -> None:
        """Give rows back; the last one to go takes the buffer along."""
        self.ranges.free(first, count)
        if self.buffer is not None and self.ranges.free_rows == self.ranges.capacity:
            self.destroy()

    def destroy(self) -> None:
        """Free the buffer."""
        if self.buffer is not None:
            self.buffer.destroy()
            self.buffer = None
            self.ranges = RangeAllocator(0)
            self.version += 1
