"""What was converted looks like what it was converted from, for every real model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.budget import Budget, no_progress
from farframe.asset.container import Asset
from farframe.asset.model import Model
from farframe.asset.source import FileSource
from farframe.convert.importers import import_file
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.pipeline import convert_model, prepare_model
from farframe.convert.points import PointCloud
from farframe.convert.settings import ConversionSettings
from farframe.protocol.link import LoadLimits
from farframe.protocol.records import View
from farframe.render import Engine, RenderScene
from tests.render.shapes import look_at
from tests.render.test_assets import draw, settle

SIDE = 320
DIRECTIONS = ((0.7, 0.45, 1.0), (-1.0, 0.2, 0.3))
MESHES = (
    "2CylinderEngine.glb",
    "Duck.glb",
    "BoxTextured/BoxTextured.gltf",
    "cube_binary.ply",
    "phong_cube.fbx",
    "spider.fbx",
)
COLOR_MEAN = 4.0
"""Levels of 255, over the pixels that the model covers: textures are block-compressed and edges are simplified, and
normals that a coarser triangle spans shade its flat neighbours a little."""
COLOR_TILE = 18.0
"""The same for the mean of any tile of 16 x 16 pixels: nothing of that size is missing or has another colour."""
OUTLINE = 0.012
"""Pixels that only one of the two pictures covers, as a share of those that both do."""


def convert(source: Path, folder: Path) -> Asset:
    convert_model(source.parent, source.name, folder, "converted", LoadLimits(), no_progress, workers=1)
    return Asset.open(FileSource(folder / "converted.arrAsset"), LoadLimits())


def view_of(low: NDArray[np.float64], high: NDArray[np.float64], direction: tuple[float, float, float]) -> View:
    """All of the box, from that side."""
    center, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    away = np.array(direction) / np.linalg.norm(direction)
    distance = radius / np.sin(np.radians(35.0) / 2)
    return look_at(
        tuple(center + away * distance), tuple(center), aspect=1.0, near=distance / 100, far=distance + 3 * radius
    )


def picture(engine: Engine, scene: RenderScene, view: View) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """RGB, and which pixels something covers, be it transparent."""
    frame = draw(engine, scene, view, side=SIDE, depth=True)
    assert frame.depth is not None
    color = frame.pixels[..., :3].astype(np.int64)
    tinted = np.abs(color - color[0, 0]).max(axis=2) > 8  # the corner shows the background
    return color, np.isfinite(frame.depth) | tinted


def tiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.reshape(SIDE // 16, 16, SIDE // 16, 16, -1).mean(axis=(1, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_a_converted_mesh_looks_as_before(engine: Engine, models_folder: Path, tmp_path: Path, name: str) -> None:
    source = models_folder / name
    asset = convert(source, tmp_path)
    settings = ConversionSettings()
    imported = import_file(source, source.parent, settings, Budget(LoadLimits()), no_progress)
    prepare_model(imported, settings, MaterialOverrides([]))
    model = imported.model
    assert isinstance(model, Model)
    before, after = engine.upload(model), engine.open_asset(asset)
    first, second = RenderScene(), RenderScene()
    for scene, resource in ((first, before), (second, after)):
        scene.background = (0.02, 0.02, 0.3)
        scene.add(resource, np.eye(4))
    for direction in DIRECTIONS:
        view = view_of(np.array(model.bounds_min), np.array(model.bounds_max), direction)
        settle(engine, second, view, cut_error=0.5, side=SIDE)
        (color, covered), (shown, there) = picture(engine, first, view), picture(engine, second, view)
        both = covered & there
        assert both.sum() > SIDE * SIDE / 20, "the view shows next to nothing"
        outline = np.count_nonzero(covered != there) / both.sum()
        off = np.abs(color - shown).max(axis=2)
        tile = np.abs(tiles(color.astype(np.float64)) - tiles(shown.astype(np.float64))).max()
        assert off[both].mean() <= COLOR_MEAN, (off[both].mean(), tile, outline)
        assert tile <= COLOR_TILE and outline <= OUTLINE, (off[both].mean(), tile, outline)
    engine.release(before)
    engine.release(after)
    asset.close()


@pytest.mark.slow
def test_a_converted_scan_shows_its_points(engine: Engine, models_folder: Path, tmp_path: Path) -> None:
    """Each point, projected by hand, has a drawn pixel near it, and nothing is drawn elsewhere."""
    source = models_folder / "pond.ply"
    asset = convert(source, tmp_path)
    cloud = import_file(source, tmp_path, ConversionSettings(), Budget(LoadLimits()), no_progress).model
    assert isinstance(cloud, PointCloud)
    resource, scene = engine.open_asset(asset), RenderScene()
    scene.background = (0.0, 0.0, 0.0)
    scene.add(resource, np.eye(4))
    low, high = cloud.world_bounds()
    position = cloud.points["position"].astype(np.float64) @ cloud.matrix[:3, :3].T + cloud.matrix[:3, 3]
    for direction in DIRECTIONS:
        view = view_of(low, high, direction)
        settle(engine, scene, view, cut_error=0.5, side=SIDE)
        _, there = picture(engine, scene, view)
        column, row = project(view, position)
        expected = np.zeros((SIDE, SIDE), bool)
        expected[row, column] = True
        assert expected.sum() > 2_000
        missing = np.count_nonzero(expected & ~grown(there, 1)) / expected.sum()
        surplus = np.count_nonzero(there & ~grown(expected, 3)) / there.sum()
        assert missing <= 0.01 and surplus <= 0.01, (missing, surplus)
    engine.release(resource)
    asset.close()


def project(view: View, position: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of the pixels of (n, 3) positions."""
    x, y, z, w = view.orientation
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    seen = (position - np.array(view.position)) @ turn
    half = np.tan(np.radians(35.0) / 2)
    plane = seen[:, :2] / -seen[:, 2:] / half
    column = ((plane[:, 0] + 1) / 2 * SIDE).astype(np.int64)
    row = ((1 - plane[:, 1]) / 2 * SIDE).astype(np.int64)
    inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
    return column[inside], row[inside]


def grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """All pixels within ``by`` of one of the mask."""
    padded = np.pad(mask, by)
    result = np.zeros_like(mask)
    for down in range(2 * by + 1):
        for right in range(2 * by + 1):
            result |= padded[down : down + SIDE, right : right + SIDE]
    return result
