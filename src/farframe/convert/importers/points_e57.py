"""E57 point clouds (ASTM E2807), read in blocks by libE57Format through pye57.

All scans of ``data3D`` are brought into the file's coordinate system by their poses and become one cloud. Cartesian
and spherical coordinates are read; points that are marked as invalid are left out. Without colours the intensity
becomes a shade of grey. Pictures (``images2D``) are left out.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pye57 import libe57

from farframe.asset.budget import Budget, Progress
from farframe.asset.model import MetadataValue
from farframe.convert.importers import Imported
from farframe.convert.importers.point_files import color_map, corrupt, imported_points, plain, spool
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.points import BLOCK_POINTS, ColorMap, PointCloud, PointSpool
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError

MAX_XML_BYTES = 64 << 20
MAX_SCANS = 10_000
MAX_DESCRIBED_SCANS = 100
_HEAD = struct.Struct("<8sIIQQQQ")
_PAGE, _PAYLOAD = 1024, 1020
"""Each page of a file ends with four bytes of checksum."""
_CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
_SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
_COLORS = ("colorRed", "colorGreen", "colorBlue")


def import_e57_points(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides,
) -> Imported:
    """Read an E57 file."""
    check_xml(path)
    warnings: list[str] = []
    try:
        file = libe57.ImageFile(str(path), "r")
        try:
            cloud = _read(file, path, settings, budget, progress, warnings)
        finally:
            file.close()
    except (FarframeError, MemoryError):
        raise
    except Exception as error:
        raise corrupt(f"The E57 file cannot be read: {plain(error)[:200]}.") from None
    return imported_points(cloud, path, settings, warnings)


def check_xml(path: Path) -> None:
    """Refuse files whose XML is missing, too large, or defines entities (which can grow without bounds)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise corrupt("The E57 file is shorter than its header.")
        magic, major, _, length, offset, xml_length, page = _HEAD.unpack(head)
        if magic != b"ASTM-E57" or major != 1:
            raise corrupt("The file is no E57 file of version 1.")
        if page != _PAGE or length != size:
            raise corrupt(f"The E57 file says that it has {length:,} bytes, and has {size:,}.")
        if xml_length > MAX_XML_BYTES or offset + xml_length > size:
            raise corrupt("The E57 file says that its XML is where there is nothing, or too large.")
        first = offset // _PAGE
        file.seek(first * _PAGE)
        pages = file.read((-(-(offset % _PAGE + xml_length) // _PAYLOAD) + 1) * _PAGE)
    xml = b"".join(pages[i : i + _PAYLOAD] for i in range(0, len(pages), _PAGE))
    xml = xml[offset % _PAGE : offset % _PAGE + xml_length]
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", xml, re.IGNORECASE) or b"\0" in xml:
        raise corrupt("The XML of the E57 file defines entities, which no scanner does.")


def _read(
    file: Any, path: Path, settings: ConversionSettings, budget: Budget, progress: Progress, warnings: list[str]
) -> PointCloud:
    root = file.root()
    if not root.isDefined("data3D"):
        raise corrupt("The E57 file has no scans.")
    scans = _child(root, "data3D", libe57.VectorNode)
    count = scans.childCount()
    if not 0 < count <= MAX_SCANS:
        raise corrupt(f"The E57 file has {count:,} scans; 1 to {MAX_SCANS:,} are read.")
    nodes = [_child(scans, index, libe57.StructureNode) for index in range(count)]
    tables = [_points_node(node, index) for index, node in enumerate(nodes)]
    # A cloud is coloured by one rule: by intensity only if no scan has colours.
    colored = any(_fields(table) >= set(_COLORS) for table in tables)
    total = sum(max(1, table.childCount()) for table in tables)
    done = 0
    with spool(path, settings, budget) as points:
        for index, (node, table) in enumerate(zip(nodes, tables, strict=True)):
            scan = _Scan(file, node, table, index, color_map(settings), colored=colored)
            for read in scan.blocks(points):
                budget.check_time()
                progress("reading", min(1.0, (done + read) / total))
            done += max(1, table.childCount())
            warnings += scan.warnings
        cloud = points.finish()
    if root.isDefined("images2D") and _child(root, "images2D", libe57.VectorNode).childCount():
        warnings.append("Pictures in the E57 file are left out.")
    cloud.source_format = "E57"
    cloud.format_version = f"{_number(root, 'versionMajor', 1):g}.{_number(root, 'versionMinor', 0):g}"
    cloud.generator = _text(root, "e57LibraryVersion")
    values: dict[str, MetadataValue] = {"scans": count, "coordinateMetadata": _text(root, "coordinateMetadata")}
    for index, node in enumerate(nodes[:MAX_DESCRIBED_SCANS]):
        for key in ("name", "description", "sensorVendor", "sensorModel", "sensorSerialNumber"):
            values[f"scan{index}.{key}"] = _text(node, key)
        values[f"scan{index}.points"] = int(tables[index].childCount())
    cloud.metadata |= {key: value for key, value in values.items() if value != ""}
    return cloud


def _child(node: Any, name: str | int, kind: Any) -> Any:
    child = node[name]
    if not isinstance(child, kind):
        raise corrupt(f"{name!a} in the E57 file is not what it should be.")
    return child


def _points_node(scan: Any, index: int) -> Any:
    if not scan.isDefined("points"):
        raise corrupt(f"Scan {index} of the E57 file has no points.")
    return _child(scan, "points", libe57.CompressedVectorNode)


def _fields(table: Any) -> set[str]:
    prototype = libe57.StructureNode(table.prototype())
    return {prototype[index].elementName() for index in range(prototype.childCount())}


def _text(node: Any, name: str) -> str:
    if not node.isDefined(name):
        return ""
    child = node[name]
    return plain(child.value()) if isinstance(child, libe57.StringNode) else ""


def _number(node: Any, path: str, default: float) -> float:
    """A number below ``node``; ``default`` if there is none."""
    if not node.isDefined(path):
        return default
    child = node[path]
    value = child.scaledValue() if isinstance(child, libe57.ScaledIntegerNode) else child.value()
    number = float(value) if isinstance(value, int | float) else default
    return number if np.isfinite(number) else default


class _Scan:
    """One scan: its points, its pose, and the ranges of its values."""

    def __init__(self, file: Any, node: Any, table: Any, index: int, colors: ColorMap, *, colored: bool) -> None:
        self.warnings: list[str] = []
        self._file = file
        self._table = table
        self._index = index
        self._colors = colors
        fields = _fields(table)
        if set(_CARTESIAN) <= fields:
            self._axes, invalid = _CARTESIAN, "cartesianInvalidState"
        elif set(_SPHERICAL) <= fields:
            self._axes, invalid = _SPHERICAL, "sphericalInvalidState"
        else:
            raise corrupt(f"Scan {index} of the E57 file has neither Cartesian nor spherical coordinates.")
        self._invalid = invalid if invalid in fields else None
        self._colored = colored
        self._own_colors = colored and set(_COLORS) <= fields
        self._intensity = "intensity" if not colored and "intensity" in fields else None
        if colored and not self._own_colors:
            self.warnings.append(f"Scan {index} has no colours, as others have: its points are white.")
        self._limits = {name: self._limits_of(node, name) for name in (*_COLORS, "intensity") if name in fields}
        self._rotation, self._translation = _pose(node)

    def _limits_of(self, node: Any, name: str) -> tuple[float, float] | None:
        """The range of a field: as the scan says, or as the field's type does."""
        group = "intensityLimits" if name == "intensity" else "colorLimits"
        low = _number(node, f"{group}/{name}Minimum", float("nan"))
        high = _number(node, f"{group}/{name}Maximum", float("nan"))
        if not high > low:
            field = libe57.StructureNode(self._table.prototype())[name]
            if isinstance(field, libe57.IntegerNode):
                low, high = float(field.minimum()), float(field.maximum())
            elif isinstance(field, libe57.ScaledIntegerNode):
                low, high = float(field.scaledMinimum()), float(field.scaledMaximum())
        return (low, high) if high > low else None

    def blocks(self, points: PointSpool) -> Any:
        """Add the points block by block; yields how many have been read."""
        names = [*self._axes]
        names += _COLORS if self._own_colors else ()
        names += [each for each in (self._intensity, self._invalid) if each]
        expected = int(self._table.childCount())
        size = max(1, min(BLOCK_POINTS, expected))
        data = {name: np.empty(size, np.float64) for name in names}
        buffers = libe57.VectorSourceDestBuffer()
        for name, array in data.items():
            buffers.append(libe57.SourceDestBuffer(self._file, name, array, size, True, True))
        if self._intensity and self._limits["intensity"] is None:
            self._limits["intensity"] = self._measured(size)
        reader = self._table.reader(buffers)
        done = 0
        try:
            while count := reader.read():
                self._append(points, {name: array[:count] for name, array in data.items()})
                done += count
                yield done
        finally:
            reader.close()
        if done < expected:
            raise corrupt(f"Scan {self._index} says that it has {expected:,} points and ends after {done:,}.")

    def _measured(self, size: int) -> tuple[float, float]:
        """The range of intensities that tell no range: found by reading them once."""
        array = np.empty(size, np.float64)
        buffers = libe57.VectorSourceDestBuffer()
        buffers.append(libe57.SourceDestBuffer(self._file, "intensity", array, size, True, True))
        reader = self._table.reader(buffers)
        low, high = np.inf, -np.inf
        try:
            while count := reader.read():
                known = array[:count][np.isfinite(array[:count])]
                low, high = min(low, known.min(initial=np.inf)), max(high, known.max(initial=-np.inf))
        finally:
            reader.close()
        return (float(low), float(high)) if high > low else (0.0, 1.0)

    def _append(self, points: PointSpool, data: dict[str, NDArray[np.float64]]) -> None:
        first, second, third = (data[name] for name in self._axes)
        if self._axes is _SPHERICAL:
            flat = first * np.cos(third)
            positions = np.stack([flat * np.cos(second), flat * np.sin(second), first * np.sin(third)], axis=1)
        else:
            positions = np.stack([first, second, third], axis=1)
        with np.errstate(all="ignore"):
            positions = positions @ self._rotation.T + self._translation
        if self._invalid:
            # 1: only the direction is known; 2: nothing is.
            positions[data[self._invalid] != 0] = np.nan
        if self._own_colors:
            unit = np.stack([self._unit(name, data[name]) for name in _COLORS], axis=1)
            points.append(positions, self._colors.from_unit(unit))
        elif self._intensity:
            words = np.rint(self._unit("intensity", data["intensity"]) * 65535.0)
            points.append_intensity(positions, np.clip(np.nan_to_num(words), 0, 65535).astype(np.uint16))
        elif self._colored:
            points.append(positions)
        else:
            points.append_intensity(positions, np.full(len(positions), 65535, np.uint16))

    def _unit(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values brought to 0 to 1."""
        low, high = self._limits[name] or (0.0, 255.0 if name in _COLORS else 1.0)
        if name in _COLORS:
            low = 0.0
        return np.asarray((values - low) / (high - low), np.float64)


def _pose(node: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation (3, 3) and translation (3,) of a scan: the identity if it tells none, or none that is a rotation."""
    quaternion = np.array([_number(node, f"pose/rotation/{axis}", float(axis == "w")) for axis in "wxyz"])
    translation = np.array([_number(node, f"pose/translation/{axis}", 0.0) for axis in "xyz"])
    length = float(np.linalg.norm(quaternion))
    if not 1e-9 < length < 1e9:
        return np.eye(3), translation
    w, x, y, z = quaternion / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return rotation, translation
