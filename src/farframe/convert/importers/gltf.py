"""glTF files through the reader of :mod:`farframe.asset.gltf`, with ``extras`` of nodes and the file's statistics."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from farframe.asset.budget import Budget, Progress
from farframe.asset.format import MetadataValue
from farframe.asset.gltf import read_gltf
from farframe.asset.gltf_source import MAX_JSON_BYTES, map_file
from farframe.asset.model import Model
from farframe.convert.errors import ConversionWarning
from farframe.convert.importers import Imported, InputInfo
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings

MAX_METADATA_TEXT = 4_096
"""Characters of one metadata value that are kept."""


class _Asset(msgspec.Struct, gc=False):
    version: str = ""
    generator: str = ""


class _Node(msgspec.Struct, gc=False):
    name: str = ""
    mesh: int | None = None
    children: tuple[int, ...] = ()
    extras: msgspec.Raw = msgspec.Raw(b"{}")


class _Scene(msgspec.Struct, gc=False):
    nodes: tuple[int, ...] = ()


class _Sketch(msgspec.Struct):
    """The members of a glTF file that say what it is and how its nodes hang together."""

    asset: _Asset
    nodes: tuple[_Node, ...] = ()
    scenes: tuple[_Scene, ...] = ()
    scene: int = 0
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
    model = read_gltf(path, budget.limits, progress)
    sketch = _sketch(path)
    imported = Imported(
        model=model,
        info=model_info(model, path, "glTF2 Importer", sketch.asset.version, sketch.asset.generator),
        warnings=[ConversionWarning.left_out(text) for text in model.warnings],
        sidedness_known=True,
    )
    imported.info.materials = len(sketch.materials)
    if settings.metadata_keys:
        order = _node_order(sketch)
        if [sketch.nodes[each].name[:1_024] for each in order] == [node.name for node in model.nodes[: len(order)]]:
            for place, index in enumerate(order):
                kept = kept_metadata(_extras(sketch.nodes[index]), settings)
                if kept:
                    imported.node_metadata[place] = kept
        else:
            imported.warnings.append(ConversionWarning.left_out("The nodes' metadata could not be matched to nodes."))
    return imported


def kept_metadata(values: dict[str, Any], settings: ConversionSettings) -> dict[str, MetadataValue]:
    """Those of a node's values that the settings keep: booleans, integers, floats and text."""
    return {
        key: value[:MAX_METADATA_TEXT] if isinstance(value, str) else value
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
        # What the reader does not look at may be of any shape: then there is no generator and no metadata.
        return _Sketch(asset=_Asset("2.0"))


def _extras(node: _Node) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(node.extras)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _node_order(sketch: _Sketch) -> list[int]:
    """The file's nodes in the order in which the reader lists them: level by level from the scene's roots."""
    count = len(sketch.nodes)
    if sketch.scenes:
        level = list(sketch.scenes[min(max(sketch.scene, 0), len(sketch.scenes) - 1)].nodes)
    else:
        is_child = np.zeros(count, dtype=bool)
        for node in sketch.nodes:
            is_child[[each for each in node.children if 0 <= each < count]] = True
        level = np.flatnonzero(~is_child).tolist()
    order: list[int] = []
    while level and len(order) <= count:
        level = [each for each in level if 0 <= each < count]
        order.extend(level)
        level = [child for each in level for child in sketch.nodes[each].children]
    return order
