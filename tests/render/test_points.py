"""Point clouds drawn by the engine: closed surfaces, unlit colours, depth, and commands."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.format import POINT_DTYPE
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.convert.points import PointCloud
from farframe.protocol.link import LoadLimits
from farframe.render import AssetResource, Engine, FrameInput, Quality, RenderScene
from farframe.render.points import DOT, SQUARE, cluster_sizes, point_commands, point_kinds, point_rows
from tests.render.shapes import look_at

SIDE = 200
WAIT_SECONDS = 60.0


def wall(count: int) -> PointCloud:
    """A square of 2 m that faces +Z, its points on a jittered grid; the left half is red, the right half green."""
    random = np.random.default_rng(5)
    side = int(count**0.5)
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    places = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5 + random.uniform(-0.3, 0.3, (side * side, 2))) / side
    positions = np.column_stack([places * 2.0 - 1.0, np.zeros(side * side)])
    colors = np.where(positions[:, :1] < 0.0, [[255, 0, 0]], [[0, 255, 0]]).astype(np.uint8)
    return PointCloud.from_arrays("wall", positions, colors)


def open_cloud(engine: Engine, cloud: PointCloud, path: Path) -> tuple[AssetResource, RenderScene]:
    build_asset(cloud, path, BuildOptions(workers=1))
    resource = engine.open_asset(Asset.open(FileSource(path), LoadLimits()))
    scene = RenderScene()
    scene.background = (0.0, 0.0, 1.0)
    scene.add(resource, np.eye(4))
    return resource, scene


def picture(
    engine: Engine, scene: RenderScene, eye: tuple[float, float, float], *, samples: int = 1, cut_error: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
    """Pixels, depth and the number of points drawn, once all pages are there that the view needs."""
    deadline = time.monotonic() + WAIT_SECONDS
    frame = FrameInput(
        (look_at(eye, aspect=1.0),), SIDE, SIDE, Quality(samples=samples, cut_error=cut_error), scene, read_depth=True
    )
    while True:
        drawn = engine.render(frame)
        assert drawn.depth is not None
        result = drawn.pixels.copy(), drawn.depth.copy(), drawn.points
        drawn.release()
        if engine.residency.idle:
            return result
        assert time.monotonic() < deadline, "the picture does not come to rest"
        time.sleep(0.002)


@pytest.mark.parametrize("distance", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("samples", [1, 4])
def test_a_wall_of_points_is_closed(engine: Engine, tmp_path: Path, distance: float, samples: int) -> None:
    resource, scene = open_cloud(engine, wall(40_000), tmp_path / "a.arrAsset")
    pixels, depth, points = picture(engine, scene, (0.0, 0.0, distance), samples=samples)
    engine.release(resource)
    across = SIDE / 2 / np.tan(np.radians(35.0) / 2) / distance
    half = int(min(across, SIDE / 2) * 0.85)
    middle = slice(SIDE // 2 - half, SIDE // 2 + half)
    inside = pixels[middle, middle]
    background = (inside[..., 2] > 100).mean()
    # The points are jittered: a few gaps are a pixel wider than their mean.
    assert background < 0.01
    left, right = inside[:, : max(1, half - 2)], inside[:, half + 2 :]
    assert (left[..., 0] > 200).mean() > 0.99
    assert (right[..., 1] > 200).mean() > 0.99
    hit = depth[middle, middle][np.isfinite(depth[middle, middle])]
    np.testing.assert_allclose(hit, distance, rtol=1e-3)
    assert points > 0


def test_far_clouds_cost_few_points(engine: Engine, tmp_path: Path) -> None:
    resource, scene = open_cloud(engine, wall(90_000), tmp_path / "a.arrAsset")
    counts = [picture(engine, scene, (0.0, 0.0, distance))[2] for distance in (3.0, 20.0, 80.0)]
    everything = picture(engine, scene, (0.0, 0.0, 20.0), cut_error=0.05)[2]
    engine.release(resource)
    assert counts[0] > 2 * counts[1] > 0
    assert counts[2] <= 4096
    assert everything == 90_000


def test_colors_are_unlit(engine: Engine, tmp_path: Path) -> None:
    cloud = wall(10_000)
    cloud.points["color"][:, :3] = 55
    resource, scene = open_cloud(engine, cloud, tmp_path / "a.arrAsset")
    for intensity in (0.0, 5.0):
        scene.light_intensity = scene.environment_intensity = intensity
        pixels, _, _ = picture(engine, scene, (0.0, 0.0, 3.0))
        # 55 of 255 is linear for 128 of 255 in sRGB.
        assert (
            np.abs(pixels[SIDE // 2 - 5 : SIDE // 2 + 5, SIDE // 2 - 5 : SIDE // 2 + 5, :3].astype(int) - 128).max()
            <= 1
        )
    engine.release(resource)


def test_the_size_of_points(engine: Engine, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    cloud = PointCloud.from_arrays("dust", random.uniform(-1.0, 1.0, (300, 3)))
    resource, scene = open_cloud(engine, cloud, tmp_path / "a.arrAsset")
    covered = []
    for size in (0.0, 0.5, 1.0, 2.0):
        scene.point_size = size
        pixels, _, _ = picture(engine, scene, (0.0, 0.0, 5.0))
        covered.append(int((pixels[..., 0] > 128).sum()))
    engine.release(resource)
    assert 100 < covered[0] <= 300
    assert covered == sorted(covered)
    assert covered[3] > 2 * covered[1]
    with pytest.raises(ValueError, match="size of points"):
        scene.point_size = float("nan")


def test_a_scaled_and_distant_cloud(engine: Engine, tmp_path: Path) -> None:
    """A cloud by another matrix, 10 km from the origin: as closed as it was."""
    cloud = wall(40_000)
    cloud.matrix = np.diag([4.0, 4.0, 4.0, 1.0]) @ cloud.matrix
    cloud.matrix[:3, 3] += (10_000.0, 0.0, 0.0)
    resource, scene = open_cloud(engine, cloud, tmp_path / "a.arrAsset")
    deadline = time.monotonic() + WAIT_SECONDS
    view = look_at((10_000.0, 0.0, 6.0), (10_000.0, 0.0, 0.0), aspect=1.0)
    while True:
        drawn = engine.render(FrameInput((view,), SIDE, SIDE, Quality(samples=1, cut_error=1.0), scene))
        pixels = drawn.pixels.copy()
        drawn.release()
        if engine.residency.idle:
            break
        assert time.monotonic() < deadline
        time.sleep(0.002)
    engine.release(resource)
    assert (pixels[..., 2] > 100).mean() < 0.01


def test_commands() -> None:
    kind = point_kinds(np.array([0.2, 1.0, 3.0]), cpu=True)
    assert kind.tolist() == [DOT, DOT, SQUARE]
    commands = point_commands(np.array([0, 100, 200]), np.array([100, 100, 7]), np.array([0, 1, 2]), kind)
    assert commands.tolist() == [[100, 1, 0, 0], [100, 1, 100, 1], [42, 1, 1200, 2]]
    assert point_rows(np.zeros((2, 3, 4))).nbytes == 2 * 80


def test_cluster_sizes() -> None:
    points = np.zeros(5, POINT_DTYPE)
    points["color"][:, 3] = [160, 152, 0, 168, 160]
    assert cluster_sizes(points, np.array([0, 2, 3])).tolist() == pytest.approx([1.0, 2.0**-20, 2.0])
