"""A point cloud on disk, in the one form that all readers of scans produce and the octree takes.

Points live in a memory-mapped file, so a cloud may be larger than memory; nothing here holds more than a block of them.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget
from farframe.asset.format import POINT_DTYPE
from farframe.asset.model import MetadataValue
from farframe.protocol.errors import FarframeError, Result

BLOCK_POINTS = 1 << 20
"""Points that are read, changed or sorted at a time."""

FARTHEST_METERS = 1e12
"""What lies farther away than this is no measurement, and would leave 32-bit floats no precision for the rest."""


class Descriptor:
    """A file descriptor that is closed when nobody refers to it any more."""

    def __init__(self, number: int) -> None:
        self.number = os.dup(number)

    def __del__(self) -> None:
        os.close(self.number)


@dataclass(slots=True)
class PointCloud:
    """Points and where they belong.

    ``points``: (n,) of :data:`~farframe.asset.format.POINT_DTYPE`, usually memory-mapped. Positions are the file's
    coordinates less ``origin`` (3,) float64, so that 32-bit floats are precise far from zero. Colours are linear; the
    fourth byte is 255 here (in an asset it is the point's size). ``bounds_min`` and ``bounds_max``: (3,) float64 of
    the positions as stored; an empty cloud has ``bounds_min > bounds_max``. ``matrix``: (4, 4) float64, stored
    positions to model space, for column vectors; it starts as the translation by ``origin``, and axes, scale and
    recentring are multiplied on from the left. ``file``: what is mapped; it has no name and goes with the cloud.
    """

    name: str
    points: NDArray[np.void]
    origin: NDArray[np.float64]
    bounds_min: NDArray[np.float64]
    bounds_max: NDArray[np.float64]
    matrix: NDArray[np.float64]
    source_format: str = ""
    format_version: str = ""
    generator: str = ""
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    file: Descriptor | None = field(default=None, repr=False)

    @classmethod
    def from_arrays(
        cls, name: str, positions: NDArray[np.floating[Any]], colors: NDArray[np.uint8] | None = None
    ) -> PointCloud:
        """A cloud in memory of (n, 3) finite positions in metres and (n, 3) linear colours (white if there are
        none)."""
        positions = np.asarray(positions, np.float64).reshape(-1, 3)
        origin = (positions.min(axis=0) + positions.max(axis=0)) / 2.0 if len(positions) else np.zeros(3)
        points = np.full(len(positions), 255, POINT_DTYPE)
        points["position"] = positions - origin
        points["color"] = 255
        if colors is not None:
            points["color"][:, :3] = colors
        low, high = _bounds(points["position"])
        return cls(name, points, origin, low, high, _translation(origin))

    def world_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper corner, (3,) float64 each, of the bounds' box under ``matrix``."""
        if (self.bounds_min > self.bounds_max).any():
            return self.bounds_min, self.bounds_max
        center = self.matrix[:3, :3] @ (self.bounds_min + self.bounds_max) / 2.0 + self.matrix[:3, 3]
        extent = np.abs(self.matrix[:3, :3]) @ (self.bounds_max - self.bounds_min) / 2.0
        return center - extent, center + extent

    def block(self, first: int, last: int) -> NDArray[np.void]:
        """Points from ``first`` to ``last`` (exclusive) in memory of their own.

        A mapped file is read and not touched through its mapping: pages of a mapping count as this process' memory
        until the system takes them back.
        """
        if self.file is not None:
            size = POINT_DTYPE.itemsize
            data = os.pread(self.file.number, (last - first) * size, first * size)
            if len(data) == (last - first) * size:
                return np.frombuffer(data, POINT_DTYPE)
        return np.array(self.points[first:last])


def _translation(origin: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    return matrix


def _bounds(positions: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not len(positions):
        return np.full(3, np.inf), np.full(3, -np.inf)
    return positions.min(axis=0).astype(np.float64), positions.max(axis=0).astype(np.float64)


def srgb_to_linear_table(entries: int) -> NDArray[np.uint8]:
    """(entries,) uint8: the linear value, 0 to 255, of sRGB values given as 0 to ``entries - 1`` (IEC 61966-2-1)."""
    value = np.arange(entries) / (entries - 1)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.rint(linear * 255.0), np.uint8)


def linear_table(entries: int) -> NDArray[np.uint8]:
    """(entries,) uint8: values from 0 to ``entries - 1`` brought to 0 to 255."""
    return np.asarray(np.rint(np.arange(entries) * (255.0 / (entries - 1))), np.uint8)


class ColorMap:
    """Brings the colours of files to linear bytes: 8 or 16 bits a channel, or floats from 0 to 1.

    ``gamma``: the file's colours are sRGB; else they are linear already.
    """

    def __init__(self, *, gamma: bool) -> None:
        table = srgb_to_linear_table if gamma else linear_table
        self._bytes, self._words = table(256), table(65536)

    def from_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values from 0 to 255."""
        return np.asarray(self._bytes[np.clip(values, 0, 255).astype(np.uint8)])

    def from_words(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values from 0 to 65,535."""
        return np.asarray(self._words[np.clip(values, 0, 65535).astype(np.uint16)])

    def from_unit(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values from 0 to 1; what is no number is black."""
        scaled = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=1.0, neginf=0.0)
        return np.asarray(self._words[np.rint(np.clip(scaled, 0.0, 1.0) * 65535.0).astype(np.uint16)])


class PointSpool:
    """Writes a cloud block by block to a temporary file without a name; :meth:`finish` maps what was written.

    Points that are not finite, or absurdly far away, are left out and counted. A reader that finds intensities
    instead of colours gives them as 16-bit numbers to :meth:`append_intensity`; their range is known only at the end,
    when they become shades of grey in place.
    """

    def __init__(self, *, name: str, budget: Budget, colors: ColorMap, folder: Path | None = None) -> None:
        self.count = 0
        self.left_out = 0
        self._name = name
        self._budget = budget
        self._colors = colors
        self._origin: NDArray[np.float64] | None = None
        self._low = np.full(3, np.inf)
        self._high = np.full(3, -np.inf)
        self._intensities: NDArray[np.int64] | None = None
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="points-", dir=folder)  # noqa: SIM115

    def __enter__(self) -> PointSpool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, positions: NDArray[Any], colors: NDArray[np.uint8] | None = None) -> None:
        """Add (n, 3) positions in metres and (n, 3) linear colours; white if there are none."""
        self._append(positions, colors, None)

    def append_intensity(self, positions: NDArray[Any], intensities: NDArray[np.uint16]) -> None:
        """Add (n, 3) positions and (n,) intensities. All blocks of a cloud have them, or none."""
        self._append(positions, None, intensities)

    def _append(
        self, positions: NDArray[Any], colors: NDArray[np.uint8] | None, intensities: NDArray[np.uint16] | None
    ) -> None:
        self._budget.check_time()
        positions = np.asarray(positions, np.float64).reshape(-1, 3)
        # A comparison with what is no number is false, so this refuses NaN and infinity, too.
        kept = (np.abs(positions) < FARTHEST_METERS).all(axis=1)
        if not kept.all():
            self.left_out += int(np.count_nonzero(~kept))
            positions = positions[kept]
            colors = None if colors is None else colors[kept]
            intensities = None if intensities is None else intensities[kept]
        if not len(positions):
            return
        if self._origin is None:
            # Whole metres, so that a translation by the origin keeps the decimals that the file had.
            self._origin = np.rint((positions.min(axis=0) + positions.max(axis=0)) / 2.0)
        rows = np.empty(len(positions), POINT_DTYPE)
        rows["position"] = positions - self._origin
        rows["color"] = 255
        if colors is not None:
            rows["color"][:, :3] = colors
        if intensities is not None:
            if self._intensities is None:
                self._intensities = np.zeros(65536, np.int64)
            self._intensities += np.bincount(intensities, minlength=65536)
            rows["color"][:, 0] = intensities & 255
            rows["color"][:, 1] = intensities >> 8
        low, high = _bounds(rows["position"])
        np.minimum(self._low, low, out=self._low)
        np.maximum(self._high, high, out=self._high)
        self._write(rows)
        self.count += len(rows)

    def _write(self, rows: NDArray[np.void]) -> None:
        try:
            self._file.write(rows.tobytes())
        except OSError as error:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"There is no room on the disk for the points of {self._name}: {error.strerror}.",
                next_step="Give the conversion more disk, or split the scan.",
            ) from None

    def finish(self) -> PointCloud:
        """The cloud, mapped. Raises FileCorrupt if there is not a single usable point."""
        if not self.count:
            raise FarframeError(
                Result.FILE_CORRUPT,
                f"{self._name} has no point with a usable position.",
                next_step="Check that the export wrote points.",
            )
        if self._intensities is not None:
            self._color_by_intensity(self._intensities)
        self._file.flush()
        points = np.memmap(self._file, POINT_DTYPE, "r", shape=(self.count,))
        origin = np.zeros(3) if self._origin is None else self._origin
        cloud = PointCloud(
            self._name,
            points,
            origin,
            self._low,
            self._high,
            _translation(origin),
            file=Descriptor(self._file.fileno()),
        )
        if self.left_out:
            cloud.warnings.append(
                f"{self.left_out:,} of {self.count + self.left_out:,} points have no usable position and were left out."
            )
        return cloud

    def _color_by_intensity(self, histogram: NDArray[np.int64]) -> None:
        """Grey by intensity: the range that 98 in 100 points use, so that a few mirrors do not darken all."""
        sums = np.cumsum(histogram)
        low = int(np.searchsorted(sums, 0.01 * sums[-1], side="right"))
        high = int(np.searchsorted(sums, 0.99 * sums[-1]))
        if high <= low:
            low, high = 0, max(high, 1)
        grey = self._colors.from_unit((np.arange(65536) - low) / (high - low))
        size = POINT_DTYPE.itemsize
        for first in range(0, self.count, BLOCK_POINTS):
            self._budget.check_time()
            self._file.seek(first * size)
            data = bytearray(self._file.read(min(BLOCK_POINTS, self.count - first) * size))
            color = np.frombuffer(data, POINT_DTYPE)["color"]
            color[:, :3] = grey[color[:, 0].astype(np.uint16) | color[:, 1].astype(np.uint16) << 8][:, None]
            self._file.seek(first * size)
            self._file.write(data)
