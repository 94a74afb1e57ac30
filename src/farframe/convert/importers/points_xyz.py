"""Text point clouds (``.xyz``): a point a line, ``x y z``, ``x y z i``, ``x y z r g b`` or ``x y z i r g b``.

Values are separated by blanks, tabs, commas or semicolons; a decimal comma is not understood. Colours are from 0 to
255, or from 0 to 1 where the first block of lines says so by fractions. Lines that are no numbers are left out and
counted: a header or a comment does not break a scan, as it did in Azure Remote Rendering. A lone number at the top,
the count of a ``.pts`` file, is left out, too.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget, Progress
from farframe.convert.importers import Imported
from farframe.convert.importers.point_files import color_map, corrupt, imported_points, spool
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.points import ColorMap, PointSpool
from farframe.convert.settings import ConversionSettings

BLOCK_BYTES = 16 << 20
MAX_LINE_BYTES = 1 << 20
MOST_BAD_LINES = 0.1
"""A larger share of lines that are no points means that the file is something else."""
_WIDTHS = {3: (None, None), 4: (3, None), 6: (None, 3), 7: (3, 4)}
"""By numbers in a line: the columns of the intensity and of red."""
_SEPARATORS = bytes.maketrans(b",;\t\r", b"    ")


def numbers(text: bytes) -> NDArray[np.float64] | None:
    """All numbers of a text that are separated by white space, or ``None`` if there is anything else."""
    if not text.strip():
        return np.empty(0, np.float64)
    with warnings.catch_warnings():
        # It tells of what it does not understand by a warning only, and returns what came before.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def import_xyz_points(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides,
) -> Imported:
    """Read a text file of points."""
    reader = _Reader(color_map(settings))
    size = max(1, path.stat().st_size)
    with path.open("rb") as file, spool(path, settings, budget) as points:
        rest = b""
        done = 0
        while data := file.read(BLOCK_BYTES):
            done += len(data)
            block, _, rest = (rest + data).rpartition(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise corrupt("The file has a line of more than 1 MB: it is no list of points.")
            reader.read(block, points)
            progress("reading", done / size)
        reader.read(rest, points)
        reader.check()
        cloud = points.finish()
    cloud.source_format = "XYZ"
    told = []
    if reader.bad:
        told.append(f"{reader.bad:,} lines are no points and were left out, the first of them {reader.first_bad!a}.")
    if reader.white:
        told.append(f"Points have no colour and no intensity in {path.name}: they are white.")
    return imported_points(cloud, path, settings, told)


class _Reader:
    """Reads blocks of whole lines. ``bad``: lines that were left out; ``white``: there are no colours."""

    def __init__(self, colors: ColorMap) -> None:
        self.bad = 0
        self.first_bad = ""
        self._good = 0
        self._width = 0
        self._unit: bool | None = None
        self._colors = colors

    @property
    def white(self) -> bool:
        """Whether lines are positions only."""
        return self._width == 3

    def read(self, block: bytes, points: PointSpool) -> None:
        """Add the points of a block."""
        block = block.translate(_SEPARATORS)
        if b"\0" in block:
            raise corrupt("The file holds zero bytes: it is no text.")
        if not block.strip():
            return
        table = self._table(block)
        if table is None:
            table = self._line_by_line(block)
        self._good += len(table)
        if not len(table):
            self.check()
            return
        intensity, red = _WIDTHS[self._width]
        positions = table[:, :3]
        if red is not None:
            values = table[:, red : red + 3]
            if self._unit is None:
                known = values[np.isfinite(values)]
                self._unit = bool(len(known) and known.max() <= 1.0 and (known % 1.0 != 0.0).any())
            points.append(positions, self._colors.from_unit(values) if self._unit else self._bytes(values))
        elif intensity is not None:
            values = np.nan_to_num(table[:, intensity], nan=0.0)
            if self._unit is None:
                self._unit = bool(values.max() <= 1.0)
            scaled = values * 65535.0 if self._unit else values
            points.append_intensity(positions, np.clip(scaled, 0, 65535).astype(np.uint16))
        else:
            points.append(positions)

    def _bytes(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        return self._colors.from_bytes(np.nan_to_num(values, nan=0.0))

    def check(self) -> None:
        """Give up on a file of which too little is points."""
        if self.bad > 100 and self.bad > MOST_BAD_LINES * (self.bad + self._good):
            raise corrupt(
                f"{self.bad:,} of {self.bad + self._good:,} lines are no points, the first of them {self.first_bad!a}."
            )

    def _table(self, block: bytes) -> NDArray[np.float64] | None:
        """The whole block at once, if all its lines are alike."""
        lines = block.count(b"\n") + 1
        values = numbers(block)
        if values is None or len(values) % lines:
            return None
        width = len(values) // lines
        if width != self._width and (self._width or width not in _WIDTHS):
            return None
        # As many numbers as there should be does not mean that each line has its share of them.
        if not _same_width(block, width):
            return None
        self._width = width
        return values.reshape(-1, width)

    def _line_by_line(self, block: bytes) -> NDArray[np.float64]:
        rows = []
        for line in block.split(b"\n"):
            if not line.strip():
                continue
            values = numbers(line)
            if values is not None and not self._width and len(values) in _WIDTHS:
                self._width = len(values)
            if values is None or len(values) != self._width:
                self.bad += 1
                self.first_bad = self.first_bad or line[:40].decode("ascii", "replace").strip()
                continue
            rows.append(values)
        self.check()
        return np.array(rows, np.float64).reshape(-1, max(self._width, 3))


def _same_width(block: bytes, width: int) -> bool:
    """Whether every line of ``block`` has ``width`` words, counted without a loop over lines."""
    text = np.frombuffer(block, np.uint8)
    newline = text == 10
    blank = newline | (text == 32) | (text == 11) | (text == 12)
    begins = ~blank
    begins[1:] &= blank[:-1]
    ends = np.append(np.flatnonzero(newline), len(text))
    words = np.cumsum(begins, dtype=np.int64)
    counts = np.diff(words[ends - 1], prepend=0) if ends[0] > 0 else np.empty(0)
    return bool(len(counts) and (counts == width).all())
