"""glTF files through the reader of :mod:`farframe.asset.gltf`, with ``extras`` of nodes and the file's statistics."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec

from farframe.asset.budget import Budget, Progress
from farframe.asset.gltf import read_gltf
from farframe.asset.gltf_metadata import MAX_TEXT_LENGTH
from farframe.asset.gltf_source import MAX_JSON_BYTES, map_file
from farframe.asset.model import MetadataValue, Model
from farframe.convert.errors import ConversionWarning
from farframe.convert.importers import Imported, InputInfo
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings


class _Asset(msgspec.Struct, gc=False):
    version: str = ""
    generator: str = ""


class _Sketch(msgspec.Struct):
    """The members of a glTF file that say what it is."""

    asset: _Asset
    materials: tuple[msgspec.Raw, ...] = ()


def import_gltf(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides,
) -> Imported:
    """Read a ``.gltf`` or ``.glb`` file. Colours of materials are linear, as the specification says."""
    keeps = settings.keeps if settings.metadata_keys else _none
    model = read_gltf(path, budget.limits, progress, keeps=keeps)
    sketch = _sketch(path)
    imported = Imported(
        model=model,
        info=model_info(model, path, "glTF2 Importer", sketch.asset.version, sketch.asset.generator),
        warnings=[ConversionWarning.left_out(text) for text in model.warnings],
        sidedness_known=True,
    )
    imported.info.materials = len(sketch.materials)
    imported.node_metadata = model.metadata
    return imported


def kept_metadata(values: dict[str, Any], settings: ConversionSettings) -> dict[str, MetadataValue]:
    """Those of a node's values that the settings keep: booleans, integers, floats and text."""
    return {
        key: value[:MAX_TEXT_LENGTH] if isinstance(value, str) else value
        for key, value in values.items()
        if isinstance(value, bool | int | float | str) and settings.keeps(key)
    }


def model_info(model: Model, path: Path, format_name: str, version: str = "", generator: str = "") -> InputInfo:
    """The statistics of a model as it was read: each part counts as a mesh."""
    faces = [part.levels[0].index_count // 3 for part in model.parts]
    depths: list[int] = []
    for node in model.nodes:
        depths.append(depths[node.parent] + 1 if node.parent >= 0 else 0)
    return InputInfo(
        extension=path.suffix.lower(),
        format=format_name,
        format_version=version,
        generator=generator[:1_024],
        meshes=len(model.parts),
        faces=sum(faces),
        vertices=sum(part.vertex_count for part in model.parts),
        materials=len(model.materials),
        faces_smallest_mesh=min(faces, default=0),
        faces_biggest_mesh=max(faces, default=0),
        nodes=len(model.nodes),
        mesh_usages=len(model.instance_part),
        max_node_depth=max(depths, default=0),
    )


def _sketch(path: Path) -> _Sketch:
    """The sketch of a file that :func:`read_gltf` has read already, so its outer form is known to be sound."""
    data = map_file(path, path.name)
    if data[:4].tobytes() == b"glTF":
        (length,) = struct.unpack("<I", data[12:16].tobytes())
        data = data[20 : 20 + length]
    text = data[:MAX_JSON_BYTES].tobytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(text, type=_Sketch)
    except msgspec.DecodeError:
        # What the reader does not look at may be of any shape: then there is no generator.
        return _Sketch(asset=_Asset("2.0"))


def _none(key: str) -> bool:
    """Keeps no key."""
    return False
