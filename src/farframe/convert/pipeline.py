"""One conversion, from a folder with a designer's file to ``N.arrAsset`` and ``N.info.json``.

    settings, overrides -> import -> colours -> overrides -> scale, axis, recentre -> merge materials -> build -> info

What is said in errors and warnings goes into the result file (:mod:`farframe.convert.result`), which the caller writes
also when this fails. Runs in a confined process: the input is hostile.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from farframe.asset.budget import Budget, Progress
from farframe.asset.format import MAGIC
from farframe.asset.model import Model
from farframe.convert import materials, transform
from farframe.convert.errors import (
    INPUT_NOT_FOUND,
    INTERNAL,
    LIMITS_EXCEEDED,
    NAME_NOT_ALLOWED,
    NO_EFFECT,
    OUTPUT_NOT_WRITTEN,
    ConversionFailed,
    ConversionWarning,
    from_farframe_error,
)
from farframe.convert.importers import Imported, import_file
from farframe.convert.info import info_contents
from farframe.convert.overrides import MaterialOverrides, read_overrides
from farframe.convert.points import PointCloud
from farframe.convert.result import write_json
from farframe.convert.settings import ConversionSettings, read_settings, settings_as_used
from farframe.protocol.errors import FarframeError
from farframe.protocol.link import LoadLimits

MAX_PATH_LENGTH = 178
"""Characters of an input file's path below the container, prefix included."""

IMPORT_SHARE = 0.4
"""How much of the progress bar is for reading; building has the rest."""

POINT_SETTINGS = frozenset({"scaling", "recenterToOrigin", "axis", "gammaToLinearVertex", "generateCollisionMesh"})
"""What settings mean something to point clouds."""

Build = Callable[..., Any]
"""``build(source, path, options, progress) -> report``: :func:`farframe.convert.build.build_asset`, or a test's."""

ImportFile = Callable[..., Imported]


@dataclass(slots=True)
class ConversionOutcome:
    """What a conversion wrote, and what its result file should warn of. ``report`` is the builder's own."""

    asset: Path
    info: Path
    info_contents: dict[str, Any]
    warnings: list[ConversionWarning] = field(default_factory=list)
    report: Any = None


def convert_model(
    input_folder: Path,
    relative_path: str,
    output_folder: Path,
    base_name: str,
    limits: LoadLimits,
    progress: Progress,
    *,
    build: Build | None = None,
    workers: int = 0,
) -> ConversionOutcome:
    """Convert ``relative_path`` inside ``input_folder``; write ``base_name`` with its endings into ``output_folder``.

    ``workers``: processes that build, 0 for one per core. Raises :class:`ConversionFailed` and nothing else, but for
    what ends a process.
    """
    warnings: list[ConversionWarning] = []
    try:
        return _convert(
            input_folder, relative_path, output_folder, base_name, limits, progress, build, workers, warnings
        )
    except ConversionFailed as error:
        error.warnings = warnings
        raise
    except FarframeError as error:
        failure = from_farframe_error(error)
        failure.warnings = warnings
        raise failure from error
    except MemoryError:
        details = {
            "problem": f"The conversion needs more than {limits.max_memory_bytes:,} bytes of memory.",
            "next step": "Split the model, or ask the operator to raise the limit.",
        }
        raise ConversionFailed(LIMITS_EXCEEDED, details=details) from None
    except OSError as error:
        details = {"problem": f"A file could not be read or written: {os.strerror(error.errno or 0)}."}
        raise ConversionFailed(OUTPUT_NOT_WRITTEN, details=details) from error
    except Exception as error:
        details = {"problem": f"{type(error).__name__}: the conversion's log says more."}
        raise ConversionFailed(INTERNAL, details=details) from error


def check_names(paths: Iterable[str]) -> None:
    """Refuse paths (with ``/``, prefix included) that are too long, or of which one is a file and a folder at once.

    Raises :class:`ConversionFailed` with the path.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        if len(path) > MAX_PATH_LENGTH:
            problem = f"The path has {len(path)} characters; {MAX_PATH_LENGTH} are allowed, prefix included."
            raise ConversionFailed(NAME_NOT_ALLOWED, details={"path": path, "problem": problem})
        files.add(path)
        for match in re.finditer("/", path):
            folders.add(path[: match.start()])
    both = files & folders
    if both:
        problem = "A file and a folder of the same name lie side by side."
        raise ConversionFailed(NAME_NOT_ALLOWED, details={"path": min(both), "problem": problem})


def prepare_model(
    imported: Imported, settings: ConversionSettings, overrides: MaterialOverrides
) -> tuple[tuple[float, float, float], list[ConversionWarning]]:
    """Everything between importer and builder, on the imported model in place.

    Returns the translation back to the original place, and warnings.
    """
    model = imported.model
    assert isinstance(model, Model)
    warnings: list[ConversionWarning] = []
    if _chosen(settings.gamma_to_linear_material, imported.gamma_material) and not imported.material_colors_linear:
        materials.colors_to_linear(model)
    if _chosen(settings.gamma_to_linear_vertex, imported.gamma_vertex):
        materials.vertex_colors_to_linear(model)
    materials.apply_settings(model, settings, sidedness_known=imported.sidedness_known)
    warnings += materials.override_materials(model, overrides, ignore_maps=not imported.maps_ignored)
    transform.scale_model(model, settings.scaling)
    warnings += materials.apply_vertex_formats(model, settings.vertex)
    transform.apply_axis(model, settings.axis)
    offset = transform.recenter(model) if settings.recenter_to_origin else (0.0, 0.0, 0.0)
    if settings.deduplicate_materials:
        materials.deduplicate(model)
    warnings += materials.limit_materials(model)
    if settings.scene_graph_mode == "none":
        transform.flatten(model)
    return offset, warnings


def prepare_points(
    cloud: PointCloud, settings: ConversionSettings
) -> tuple[tuple[float, float, float], list[ConversionWarning]]:
    """Scale, axes and origin of a point cloud, in place; its importer has seen to the colours.

    Returns the translation back to the original place, and warnings for settings that points do not know.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = transform.axis_matrix(settings.axis) * settings.scaling
    cloud.matrix = matrix @ cloud.matrix
    offset = (0.0, 0.0, 0.0)
    if settings.recenter_to_origin:
        low, high = cloud.world_bounds()
        if (low <= high).all():
            center = (low + high) * 0.5
            cloud.matrix[:3, 3] -= center
            offset = (float(center[0]), float(center[1]), float(center[2]))
    used = set(settings_as_used(settings)) - POINT_SETTINGS
    text = "Point clouds do not know this setting."
    return offset, [ConversionWarning(NO_EFFECT, {"property": name, "problem": text}) for name in sorted(used)]


def _model_bounds(model: Model | PointCloud) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    if isinstance(model, Model):
        return model.bounds_min, model.bounds_max
    low, high = model.world_bounds()
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def _convert(
    input_folder: Path,
    relative_path: str,
    output_folder: Path,
    base_name: str,
    limits: LoadLimits,
    progress: Progress,
    build: Build | None,
    workers: int,
    warnings: list[ConversionWarning],
) -> ConversionOutcome:
    path = _input_file(input_folder, relative_path)
    if not base_name or base_name != Path(base_name).name or "\0" in base_name:
        raise ConversionFailed(NAME_NOT_ALLOWED, details={"path": base_name, "problem": "This is no file name."})
    settings, found = read_settings(path)
    warnings += found
    overrides = read_overrides(path, input_folder, settings)
    budget = Budget(limits)
    imported = import_file(
        path,
        input_folder,
        settings,
        budget,
        lambda stage, fraction: progress(stage, IMPORT_SHARE * fraction),
        overrides=overrides,
    )
    warnings += imported.warnings
    if settings.vertex.color1 != "NONE":
        warnings.append(ConversionWarning.left_out("vertex.color1: a second vertex colour is not used."))
    model = imported.model
    if isinstance(model, Model):
        offset, found = prepare_model(imported, settings, overrides)
    else:
        offset, found = prepare_points(model, settings)
    warnings += found
    budget.check_time()

    report, parts, instances, asset = _build(
        model, imported, output_folder / f"{base_name}.arrAsset", settings, offset, limits, workers, build, progress
    )
    bounds_min, bounds_max = _model_bounds(model)
    contents = info_contents(
        input_name=Path(relative_path).name,
        output_name=asset.name,
        settings=settings,
        info=imported.info,
        content_hash=content_hash(asset),
        parts=parts,
        instances=instances,
        recentering_offset=offset,
        bounds_min=bounds_min,
        bounds_max=bounds_max,
    )
    info = write_json(output_folder / f"{base_name}.info.json", contents)
    progress("done", 1.0)
    return ConversionOutcome(asset, info, contents, warnings, report)


def _build(
    model: Any,
    imported: Imported,
    asset: Path,
    settings: ConversionSettings,
    offset: tuple[float, float, float],
    limits: LoadLimits,
    workers: int,
    build: Build | None,
    progress: Progress,
) -> tuple[Any, int, int, Path]:
    def on_progress(stage: str, fraction: float) -> None:
        progress(stage, IMPORT_SHARE + (0.99 - IMPORT_SHARE) * fraction)

    metadata = {} if settings.scene_graph_mode == "none" else imported.node_metadata
    options: Any = {
        "workers": workers,
        "memory_bytes": limits.max_memory_bytes,
        "scene_graph_mode": settings.scene_graph_mode,
        "recentering_offset": offset,
        "metadata": metadata,
        "collision": settings.generate_collision_mesh,
    }
    if build is None:
        # By name: the builder starts processes and compiles helpers when it is imported, which tests of this need not.
        builder: Any = importlib.import_module("farframe.convert.build")
        build, options = builder.build_asset, builder.BuildOptions(**options)
    report = build(model, asset, options, on_progress)
    if isinstance(model, Model):
        return report, len(model.parts), len(model.instance_part), asset
    return report, 1, 1, asset


def content_hash(asset: Path) -> str:
    """16 hex digits over what is drawn: the asset's own, or those of the whole file if it is none of ours."""
    with asset.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    # Files that a test's builder makes are no assets: only now is what reads them needed.
    from farframe.asset.container import Asset
    from farframe.asset.source import FileSource

    source = FileSource(asset)
    try:
        return Asset.open(source, LoadLimits()).index.content_hash
    finally:
        source.close()


def _input_file(folder: Path, relative_path: str) -> Path:
    details = {
        "problem": "Could not find the asset file in the input folder.",
        "path": relative_path,
        "next step": "Check relativeInputAssetPath: it is counted from the prefix.",
    }
    if len(relative_path) > MAX_PATH_LENGTH:
        check_names([relative_path])
    if not relative_path or "\0" in relative_path or relative_path.startswith(("/", "\\")):
        raise ConversionFailed(INPUT_NOT_FOUND, details=details)
    path = folder / relative_path
    try:
        inside = path.resolve().is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise ConversionFailed(INPUT_NOT_FOUND, details=details)
    return path


def _chosen(setting: bool | None, usual: bool) -> bool:
    return usual if setting is None else setting
