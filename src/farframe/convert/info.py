"""``N.info.json``: what was converted, how, and what came out. Field names as applications of ARR know them."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from farframe.convert.importers import InputInfo
from farframe.convert.settings import ConversionSettings, settings_as_used

Vector = tuple[float, float, float]


def tool_version() -> str:
    """The program's version as a hexadecimal number, two digits for each of its three members."""
    members = metadata.version("farframe").split(".")[:3]
    digits = ["".join(character for character in member if character.isdigit()) or "0" for member in members]
    return "".join(f"{min(int(each), 255):02x}" for each in digits)


def info_contents(
    *,
    input_name: str,
    output_name: str,
    settings: ConversionSettings,
    info: InputInfo,
    content_hash: str,
    parts: int,
    instances: int,
    recentering_offset: Vector,
    bounds_min: Vector,
    bounds_max: Vector,
) -> dict[str, Any]:
    """The info file's contents; lengths in metres. ``content_hash``: 16 hex digits over what is drawn."""
    input_info = {
        "sourceAssetExtension": info.extension,
        "sourceAssetFormat": info.format,
        "sourceAssetFormatVersion": info.format_version,
    }
    if info.generator:
        input_info["sourceAssetGenerator"] = info.generator
    return {
        "files": {"input": input_name, "output": output_name},
        "conversionSettings": settings_as_used(settings),
        "inputInfo": input_info,
        "inputStatistics": {
            "numMeshes": info.meshes,
            "numFaces": info.faces,
            "numVertices": info.vertices,
            "numMaterial": info.materials,
            "numFacesSmallestMesh": info.faces_smallest_mesh,
            "numFacesBiggestMesh": info.faces_biggest_mesh,
            "numNodes": info.nodes,
            "numMeshUsagesInScene": info.mesh_usages,
            "maxNodeDepth": info.max_node_depth,
        },
        "outputInfo": {"conversionToolVersion": tool_version(), "conversionHash": content_hash},
        "outputStatistics": {
            "numMeshPartsCreated": parts,
            "numMeshPartsInstanced": instances,
            "recenteringOffset": list(recentering_offset),
            "boundingBox": {"min": list(bounds_min), "max": list(bounds_max)},
        },
    }
