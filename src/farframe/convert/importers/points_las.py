"""LAS and LAZ point clouds, read in blocks by laspy (with lazrs for LAZ).

Colours are 16 bits a channel by the specification; many programs write 8, which is taken from the values. Points
without colours are shown in grey by their intensity. Points that are marked as withheld are left out.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import laspy
import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget, Progress
from farframe.asset.model import MetadataValue
from farframe.convert.importers import Imported
from farframe.convert.importers.point_files import color_map, corrupt, imported_points, plain, spool
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.points import BLOCK_POINTS, PointCloud
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError

_HEAD = struct.Struct("<4sHH16sBB32s32sHHHIIBHI")
_COUNT_14 = struct.Struct("<Q")
_PLACE = struct.Struct("<q")
_CHUNKS = struct.Struct("<II")
_VLR_BYTES = 54
_COMPRESSED = 0x80
_LEAST_LAZ_BITS = 1 / 64
"""A compressed point takes more bits than this, or the file says more than it holds."""

# It logs what its exceptions say as well.
logging.getLogger("laspy").setLevel(logging.CRITICAL)


def import_las_points(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides,
) -> Imported:
    """Read a LAS or LAZ file."""
    check_header(path)
    try:
        cloud, warnings = _read(path, settings, budget, progress)
    except (FarframeError, MemoryError):
        raise
    except BaseException as error:
        # What the decoder's own language calls a panic is no Exception in this one.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise corrupt(f"The LAS file cannot be read: {plain(error)[:200]}.") from None
    return imported_points(cloud, path, settings, warnings)


def check_header(path: Path) -> None:
    """Refuse headers that promise more than the file can hold, before a library believes them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(375)
    if len(head) < 227:
        raise corrupt("The LAS file is shorter than its header.")
    (magic, _, _, _, major, minor, _, _, _, _, header_size, offset, vlrs, kind, length, count) = _HEAD.unpack_from(head)
    if magic != b"LASF" or major != 1 or minor > 4:
        raise corrupt(f"The file is no LAS file of version 1.0 to 1.4 (it says {major}.{minor}).")
    if minor >= 4:
        if len(head) < 255:
            raise corrupt("The LAS file is shorter than its header.")
        count = max(count, _COUNT_14.unpack_from(head, 247)[0])
    if not 227 <= header_size <= offset <= size:
        raise corrupt("The LAS file says that its points begin where there is nothing.")
    if vlrs * _VLR_BYTES > offset - header_size:
        raise corrupt(f"The LAS file says that it has {vlrs:,} records before its points, which do not fit.")
    room = size - offset
    least = _LEAST_LAZ_BITS if kind & _COMPRESSED else max(1, length) * 8
    if count * least > room * 8:
        raise corrupt(f"The LAS file says that it has {count:,} points and is too short for them.")
    if not count:
        raise corrupt("The LAS file has no points.")
    if kind & _COMPRESSED:
        _check_chunks(path, offset, size, count)


def _check_chunks(path: Path, offset: int, size: int, count: int) -> None:
    """Refuse a table of chunks that is not in the file: the decoder would take memory for as many as it is told."""
    with path.open("rb") as file:
        file.seek(offset)
        place = file.read(_PLACE.size)
        if place == b"\xff" * _PLACE.size:
            # Written to a stream: where the table is stands at the end.
            file.seek(size - _PLACE.size)
            place = file.read(_PLACE.size)
        table = _PLACE.unpack(place)[0] if len(place) == _PLACE.size else -1
        if not offset + _PLACE.size <= table <= size - _CHUNKS.size:
            raise corrupt("The LAZ file says that its table of chunks is where there is nothing.")
        file.seek(table)
        chunks = _CHUNKS.unpack(file.read(_CHUNKS.size))[1]
    if not 0 < chunks <= min(count, size - offset):
        raise corrupt(f"The LAZ file says that it has {chunks:,} chunks, which it is too short for.")


def _read(path: Path, settings: ConversionSettings, budget: Budget, progress: Progress) -> tuple[PointCloud, list[str]]:
    wide = False
    while True:
        with (
            path.open("rb") as file,
            laspy.open(file, closefd=False, read_evlrs=False, laz_backend=laspy.LazBackend.Lazrs) as reader,
            spool(path, settings, budget) as points,
        ):
            header = reader.header
            names = set(header.point_format.dimension_names)
            colored = {"red", "green", "blue"} <= names
            colors = color_map(settings)
            done = withheld = highest = 0
            again = False
            for block in reader.chunk_iterator(BLOCK_POINTS):
                if not len(block):
                    break
                positions = np.stack([np.asarray(block.x), np.asarray(block.y), np.asarray(block.z)], axis=1)
                done += len(block)
                kept: NDArray[np.bool_] | slice = slice(None)
                if "withheld" in names:
                    marked = np.asarray(block.withheld, np.bool_)
                    withheld += int(np.count_nonzero(marked))
                    kept = ~marked if marked.any() else kept
                if colored:
                    values = np.stack([np.asarray(block[name]) for name in ("red", "green", "blue")], axis=1)[kept]
                    block_highest = int(values.max(initial=0))
                    if block_highest > 255 and not wide:
                        wide = True
                        # What came before was read as 8 bits, and was not.
                        again = highest > 0
                    highest = max(highest, block_highest)
                    if again:
                        break
                    points.append(positions[kept], colors.from_words(values) if wide else colors.from_bytes(values))
                else:
                    points.append_intensity(positions[kept], np.asarray(block.intensity, np.uint16)[kept])
                progress("reading", done / header.point_count)
            if again:
                continue
            if done < header.point_count:
                raise corrupt(f"The LAS file says that it has {header.point_count:,} points and ends after {done:,}.")
            cloud = points.finish()
            _describe(cloud, header, path)
            warnings = []
            if withheld:
                warnings.append(f"{withheld:,} points are marked as withheld and were left out.")
            if colored and highest == 0:
                warnings.append("All colours of the scan are black.")
            return cloud, warnings


def _describe(cloud: PointCloud, header: Any, path: Path) -> None:
    """What the scan says of itself."""
    cloud.source_format = "LAZ" if header.are_points_compressed else "LAS"
    cloud.format_version = f"{header.version.major}.{header.version.minor}"
    cloud.generator = plain(header.generating_software)
    values: dict[str, MetadataValue] = {
        "systemIdentifier": plain(header.system_identifier),
        "generatingSoftware": cloud.generator,
        "pointFormat": int(header.point_format.id),
    }
    if header.creation_date is not None:
        values["creationDate"] = header.creation_date.isoformat()
    for record in header.vlrs:
        if record.record_id == 2112 and getattr(record, "string", ""):
            values["coordinateSystem"] = plain(record.string)
    cloud.metadata |= {key: value for key, value in values.items() if value != ""}
