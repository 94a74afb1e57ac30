"""The two models: a CAD engine of 121,496 drawn triangles in 115 instances, and a closed bumpy surface of one million.

Farframe loads them converted, as it is meant to be used. The peers get the very same triangles with normals and colours
as one mesh, which is the cheapest form for them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.scale import surface
from farframe.asset.builtin_engine import build_engine
from farframe.asset.gltf import read_gltf
from farframe.asset.model import Model
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.link import LoadLimits

MESH_TRIANGLES = 1_000_000


def cad_engine() -> Model:
    """``2CylinderEngine.glb`` of the folder that FARFRAME_TEST_MODELS names, else the engine that Farframe carries."""
    folder = os.environ.get("FARFRAME_TEST_MODELS")
    return read_gltf(Path(folder) / "2CylinderEngine.glb", LoadLimits()) if folder else build_engine()


def one_million(folder: Path) -> Model:
    """The closed surface; its arrays are mapped from files in ``folder``."""
    return surface(MESH_TRIANGLES, folder)


def flatten(model: Model) -> dict[str, NDArray[Any]]:
    """All instances at full detail as one mesh: ``positions`` and ``normals`` (n, 3) float32, ``colors`` (n, 3) uint8
    sRGB, ``triangles`` (m, 3) uint32."""
    positions, normals, colors, triangles = [], [], [], []
    first = 0
    for number, matrix in zip(model.instance_part, model.instance_matrix, strict=True):
        part = model.parts[number]
        vertices = model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]
        level = part.levels[0]
        corners = model.indices[level.first_index : level.first_index + level.index_count].reshape(-1, 3)
        positions.append(vertices["position"] @ matrix[:3, :3].T + matrix[:3, 3])
        turned = vertices["normal"][:, :3].astype(np.float64) @ np.linalg.inv(matrix[:3, :3])
        normals.append(turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9))
        linear = np.array(model.materials[part.material].base_color[:3]) * (vertices["color"][:, :3] / 255)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
        colors.append(np.rint(np.clip(encoded, 0, 1) * 255))
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        triangles.append((corners[:, ::-1] if mirrored else corners) + first)
        first += len(vertices)
    return {
        "positions": np.concatenate(positions).astype(np.float32),
        "normals": np.concatenate(normals).astype(np.float32),
        "colors": np.concatenate(colors).astype(np.uint8),
        "triangles": np.concatenate(triangles).astype(np.uint32),
    }


def write(model: Model, folder: Path, name: str) -> tuple[Path, Path]:
    """The peers' mesh and Farframe's asset."""
    mesh, asset = folder / f"{name}.npz", folder / f"{name}.arrAsset"
    np.savez(mesh, **flatten(model))
    build_asset(model, asset, BuildOptions())
    return mesh, asset
