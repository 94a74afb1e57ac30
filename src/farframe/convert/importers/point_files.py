"""What the readers of point clouds have in common: how they begin, how they end, and how they fail."""

from __future__ import annotations

from pathlib import Path

from farframe.asset.budget import Budget
from farframe.convert.errors import ConversionWarning
from farframe.convert.importers import Imported, InputInfo
from farframe.convert.importers.gltf import kept_metadata
from farframe.convert.points import ColorMap, PointCloud, PointSpool
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError, Result

MAX_TEXT = 1_024
"""Characters of a text of the file that are kept."""


def corrupt(message: str) -> FarframeError:
    """A scan that is broken, and what is wrong with it."""
    return FarframeError(Result.FILE_CORRUPT, message, next_step="Export the scan again.")


def color_map(settings: ConversionSettings) -> ColorMap:
    """How colours become linear: they are taken as sRGB unless ``gammaToLinearVertex`` says otherwise."""
    return ColorMap(gamma=settings.gamma_to_linear_vertex is not False)


def spool(path: Path, settings: ConversionSettings, budget: Budget) -> PointSpool:
    """Where the points of ``path`` go, in the folder for temporary files."""
    return PointSpool(name=path.stem, budget=budget, colors=color_map(settings))


def plain(text: object) -> str:
    """Text of a file that people may be shown: printable, and not too long."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return "".join(each for each in shown.strip().strip("\0") if each.isprintable())[:MAX_TEXT]


def imported_points(cloud: PointCloud, path: Path, settings: ConversionSettings, warnings: list[str]) -> Imported:
    """The result of an importer: one cloud under one node."""
    info = InputInfo(
        extension=path.suffix,
        format=cloud.source_format,
        format_version=cloud.format_version,
        generator=cloud.generator,
        meshes=1,
        faces=len(cloud.points),
        vertices=len(cloud.points),
        faces_smallest_mesh=len(cloud.points),
        faces_biggest_mesh=len(cloud.points),
        nodes=1,
        mesh_usages=1,
        max_node_depth=1,
    )
    kept = kept_metadata(dict(cloud.metadata), settings) if settings.metadata_keys else {}
    cloud.warnings += warnings
    return Imported(
        model=cloud,
        info=info,
        node_metadata={0: kept} if kept else {},
        warnings=[ConversionWarning.left_out(text) for text in cloud.warnings],
        gamma_vertex=True,
    )
