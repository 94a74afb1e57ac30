"""Readers of designers' files: each makes a model (or a point cloud) and tells what it found and what it left out.

:func:`import_file` picks the reader, by content first and extension second. The readers' libraries are imported when
they are needed. All input is hostile: every failure is a :class:`~farframe.protocol.errors.FarframeError`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farframe.asset.budget import Budget, Progress
from farframe.asset.model import MetadataValue
from farframe.convert.errors import ConversionWarning
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError, Result

MESH_EXTENSIONS = (".gltf", ".glb", ".fbx", ".obj", ".stl", ".ply")
POINT_EXTENSIONS = (".ply", ".xyz", ".e57", ".las", ".laz")
POINT_KINDS = ("ply", "xyz", "e57", "las")


@dataclass(slots=True, kw_only=True)
class InputInfo:
    """What the source file says of itself, and how much is in it (``inputInfo`` and ``inputStatistics``).

    Counts are those of the file, before anything was merged or left out; faces are triangles, or points.
    """

    extension: str
    format: str
    format_version: str = ""
    generator: str = ""
    meshes: int = 0
    faces: int = 0
    vertices: int = 0
    materials: int = 0
    faces_smallest_mesh: int = 0
    faces_biggest_mesh: int = 0
    nodes: int = 0
    mesh_usages: int = 0
    max_node_depth: int = 0


@dataclass(slots=True)
class Imported:
    """What an importer made of a file.

    ``model``: a :class:`~farframe.asset.model.Model`, or a point cloud. ``node_metadata``: by node index, the keys that
    the settings keep.

    ``gamma_material`` and ``gamma_vertex``: whether colours of this format are usually sRGB. Materials' and vertices'
    colours are as in the file, except that an importer that computes with colours has made ``material_colors_linear``.
    ``sidedness_known``: the format says which materials are double-sided. ``maps_ignored``: the importer has left out
    the maps that the overrides ignore.
    """

    model: Any
    info: InputInfo
    node_metadata: dict[int, dict[str, MetadataValue]] = field(default_factory=dict)
    warnings: list[ConversionWarning] = field(default_factory=list)
    gamma_material: bool = False
    gamma_vertex: bool = False
    material_colors_linear: bool = False
    sidedness_known: bool = False
    maps_ignored: bool = False


def import_file(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides | None = None,
) -> Imported:
    """Read the file at ``path`` with what it refers to inside ``folder``.

    ``overrides`` are asked only for the texture maps that are to be ignored.

    Raises :class:`FarframeError`: ``FILE_NOT_FOUND``, ``FILE_CORRUPT``, ``NOT_SUPPORTED``, ``EXCEEDS_MEMORY_LIMIT``.
    """
    kind = recognise(path)
    reader: Any
    if kind == "gltf":
        from farframe.convert.importers.gltf import import_gltf as reader
    elif kind == "fbx":
        from farframe.convert.importers.fbx import import_fbx as reader
    elif kind == "obj":
        from farframe.convert.importers.obj import import_obj as reader
    elif kind == "stl":
        from farframe.convert.importers.stl import import_stl as reader
    elif kind == "ply" and _has_polygons(path):
        from farframe.convert.importers.ply import import_ply as reader
    elif kind in POINT_KINDS:
        # Readers of points have large libraries: they are imported by name, when one of them is needed.
        reader = getattr(importlib.import_module(f"farframe.convert.importers.points_{kind}"), f"import_{kind}_points")
    else:
        raise FarframeError(
            Result.NOT_SUPPORTED,
            f"Files of the kind {kind or path.suffix!r} are not read.",
            next_step=f"Use one of {', '.join(dict.fromkeys(MESH_EXTENSIONS + POINT_EXTENSIONS))}.",
        )
    found: Imported = reader(path, folder, settings, budget, progress, overrides=overrides or MaterialOverrides([]))
    return found


def _has_polygons(path: Path) -> bool:
    from farframe.convert.importers.ply import read_header

    return read_header(path).is_mesh


def recognise(path: Path) -> str:
    """Which reader a file is for: ``gltf``, ``fbx``, ``obj``, ``stl``, ``ply``, ``xyz``, ``e57``, ``las`` or ``""``."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        raise FarframeError(
            Result.FILE_NOT_FOUND,
            f"{path.name} cannot be opened.",
            next_step="Check the name and upload what is missing.",
        ) from None
    for magic, kind in (
        (b"glTF", "gltf"),
        (b"Kaydara FBX Binary", "fbx"),
        (b"ASTM-E57", "e57"),
        (b"LASF", "las"),
        (b"ply\n", "ply"),
        (b"ply\r", "ply"),
    ):
        if head.startswith(magic):
            return kind
    extension = path.suffix.lower()
    return {".glb": "gltf", ".laz": "las"}.get(
        extension, extension[1:] if extension in MESH_EXTENSIONS + POINT_EXTENSIONS else ""
    )
