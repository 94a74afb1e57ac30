"""PLY point clouds: ASCII and binary of both byte orders, read in blocks, so that a file may be larger than memory.

Positions are ``x y z``; colours ``red green blue``, ``r g b``, ``diffuse_...`` or ``ambient_...``, 8 or 16 bits or
floats from 0 to 1; without colours an ``intensity`` becomes one. Other properties are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget, Progress
from farframe.convert.importers import Imported
from farframe.convert.importers.ply import Element, Header, read_header
from farframe.convert.importers.point_files import color_map, corrupt, imported_points, plain, spool
from farframe.convert.importers.points_xyz import numbers
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.points import BLOCK_POINTS, ColorMap, PointSpool
from farframe.convert.settings import ConversionSettings

_COLORS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("ambient_red", "ambient_green", "ambient_blue"),
)
_INTENSITIES = ("intensity", "scalar_intensity", "scalar_Intensity", "reflectance")
_TEXT_BLOCK = 16 << 20


def import_ply_points(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides,
) -> Imported:
    """Read a PLY file without polygons."""
    header = read_header(path)
    element = next((each for each in header.elements if each.name == "vertex"), None)
    names = {each.name for each in element.properties} if element else set()
    if element is None or not {"x", "y", "z"} <= names:
        raise corrupt("The PLY file has no vertices with x, y and z.")
    if any(each.count_kind for each in element.properties):
        raise corrupt("The vertices of the PLY file have lists, which points do not have.")
    columns = _Columns(element, color_map(settings))
    warnings = [f"Points have no colour and no intensity in {path.name}: they are white."] if columns.white else []
    with path.open("rb") as file, spool(path, settings, budget) as points:
        file.seek(header.size)
        if header.order:
            _read_binary(file, header, element, columns, points, progress)
        else:
            _read_text(file, header, element, columns, points, progress)
        cloud = points.finish()
    cloud.source_format = "Stanford Polygon Library"
    cloud.format_version = "1.0"
    cloud.generator = plain(header.comments[0].partition(" ")[2]) if header.comments else ""
    return imported_points(cloud, path, settings, warnings)


class _Columns:
    """Which properties of a vertex are what, and how to append blocks of them. ``white``: there is nothing to show."""

    def __init__(self, element: Element, colors: ColorMap) -> None:
        self._kinds = {each.name: each.kind for each in element.properties}
        self._colors = colors
        self._color = next((names for names in _COLORS if set(names) <= self._kinds.keys()), None)
        self._intensity = next((name for name in _INTENSITIES if name in self._kinds), None)
        self.white = self._color is None and self._intensity is None

    def append(self, points: PointSpool, table: dict[str, NDArray[np.generic]]) -> None:
        """Add a block: (n,) values by property."""
        positions = np.stack([table[name].astype(np.float64) for name in ("x", "y", "z")], axis=1)
        if self._color is not None:
            kind = self._kinds[self._color[0]]
            values = np.stack([table[name].astype(np.float64) for name in self._color], axis=1)
            if kind[0] == "f":
                colors = self._colors.from_unit(values)
            elif kind in ("u2", "i2"):
                colors = self._colors.from_words(values)
            else:
                colors = self._colors.from_bytes(values)
            points.append(positions, colors)
        elif self._intensity is not None:
            scale = {"f": 65535.0}.get(self._kinds[self._intensity][0], 1.0)
            values = np.nan_to_num(table[self._intensity].astype(np.float64) * scale, nan=0.0)
            points.append_intensity(positions, np.clip(values, 0, 65535).astype(np.uint16))
        else:
            points.append(positions)


def _short(read: int, element: Element) -> Exception:
    return corrupt(f"The PLY file says that it has {element.count:,} points and ends after {read:,}.")


def _read_binary(
    file: IO[bytes], header: Header, element: Element, columns: _Columns, points: PointSpool, progress: Progress
) -> None:
    for each in header.elements:
        if each is element:
            break
        if any(one.count_kind for one in each.properties):
            raise corrupt(f"The PLY file has lists ({each.name[:40]!a}) before its points.")
        file.seek(each.count * sum(np.dtype(one.kind).itemsize for one in each.properties), 1)
    row = np.dtype([(each.name, header.order + each.kind) for each in element.properties])
    done = 0
    while done < element.count:
        wanted = min(BLOCK_POINTS, element.count - done)
        data = file.read(wanted * row.itemsize)
        rows = np.frombuffer(data, row, len(data) // row.itemsize)
        columns.append(points, {name: rows[name] for name in row.names or ()})
        done += len(rows)
        if len(rows) < wanted:
            raise _short(done, element)
        progress("reading", done / element.count)


def _read_text(
    file: IO[bytes], header: Header, element: Element, columns: _Columns, points: PointSpool, progress: Progress
) -> None:
    for each in header.elements:
        if each is element:
            break
        for _ in range(each.count):
            if not file.readline(1 << 20):
                raise _short(0, element)
    width = len(element.properties)
    done = 0
    rest = b""
    while done < element.count:
        data = file.read(_TEXT_BLOCK)
        block, newline, tail = (rest + data).rpartition(b"\n")
        rest = tail
        if not data:
            block, rest = (block + newline + tail), b""
            if not block.strip():
                raise _short(done, element)
        elif not newline:
            raise corrupt("The PLY file has a line of more than 16 MB.")
        # What follows the points belongs to other elements, whose lines are of other lengths.
        lines = block.split(b"\n")
        lines = [line for line in lines if line.strip()][: element.count - done]
        values = numbers(b"\n".join(lines))
        if values is None or len(values) != width * len(lines):
            raise corrupt("The PLY file has a point whose values are not as many as it says, or no numbers.")
        table = values.reshape(-1, width)
        columns.append(points, {one.name: table[:, i] for i, one in enumerate(element.properties)})
        done += len(lines)
        progress("reading", done / element.count)
