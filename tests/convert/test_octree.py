"""The octree of point clouds: what the asset promises, for clouds of every shape and at every size of memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.budget import Budget
from farframe.asset.container import Asset
from farframe.asset.format import MAX_CLUSTER_POINTS, NONE
from farframe.asset.source import FileSource
from farframe.convert import octree
from farframe.convert.build import BuildOptions, build_asset
from farframe.convert.octree import size_codes
from farframe.convert.points import ColorMap, PointCloud, PointSpool
from farframe.protocol.link import LoadLimits

SMALL = 4 * 2 * MAX_CLUSTER_POINTS * octree.BYTES_PER_POINT * 4
"""Memory for which clouds of more than 16,384 points are scattered first."""


def shape(name: str, count: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(7)
    flat = generator.random((count, 2)) * 40.0
    match name:
        case "surface":
            return np.column_stack([flat[:, 0], np.sin(flat[:, 0] / 3.0) * np.cos(flat[:, 1] / 2.0), flat[:, 1]])
        case "volume":
            return generator.random((count, 3)) * 10.0
        case "line":
            return np.outer(generator.random(count), [30.0, 0.01, 7.0])
        case "one place":
            return np.tile([[1.0, 2.0, 3.0]], (count, 1))
        case "clumps":
            centers = generator.random((20, 3)) * 100.0
            return centers[generator.integers(20, size=count)] + generator.normal(0.0, 0.02, (count, 3))
        case "outlier":
            points = generator.random((count, 3))
            points[0] = 10_000.0
            return points
    raise ValueError(name)


def build(tmp_path: Path, positions: NDArray[np.float64], memory: int = 1 << 30, workers: int = 2) -> Asset:
    colors = np.random.default_rng(3).integers(0, 256, (len(positions), 3)).astype(np.uint8)
    cloud = PointCloud.from_arrays("cloud", positions, colors)
    build_asset(cloud, tmp_path / "a.arrAsset", BuildOptions(workers=workers, memory_bytes=memory))
    return Asset.open(FileSource(tmp_path / "a.arrAsset"), LoadLimits())


def clusters_with_points(asset: Asset) -> list[tuple[np.void, NDArray[np.void]]]:
    found = []
    for page in range(len(asset.pages)):
        points = asset.decode_page(page, asset.read_page(page)).vertices
        for cluster in asset.clusters_of(page):
            first = int(cluster["first_vertex"])
            found.append((cluster, points[first : first + int(cluster["vertex_count"])]))
    return found


@pytest.mark.parametrize("memory", [1 << 30, SMALL])
@pytest.mark.parametrize("name", ["surface", "volume", "line", "one place", "clumps", "outlier"])
def test_promises(tmp_path: Path, name: str, memory: int) -> None:
    positions = shape(name, 50_000)
    asset = build(tmp_path, positions, memory)
    found = clusters_with_points(asset)
    # Opening has checked boxes of groups, errors that grow, the order of groups and pages. What is left:
    step = float(asset.parts["step"][0])
    matrix = asset.instances["matrix"][0]
    full = np.concatenate([points for cluster, points in found if cluster["producer"] == NONE])
    world = full["position"].astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
    assert len(full) == len(positions)
    for axis in range(3):
        np.testing.assert_allclose(np.sort(world[:, axis]), np.sort(positions[:, axis]), atol=step)
    colors = np.random.default_rng(3).integers(0, 256, (len(positions), 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.sort(full["color"][:, :3], axis=0), np.sort(colors, axis=0))
    roots = 0
    for cluster, points in found:
        assert 0 < len(points) <= MAX_CLUSTER_POINTS
        assert (points["position"] >= cluster["bounds_min"]).all()
        assert (points["position"] <= cluster["bounds_max"]).all()
        roots += cluster["consumer"] == NONE
        for end in ("producer", "consumer"):
            if cluster[end] != NONE:
                group = asset.groups[cluster[end]]
                assert (cluster["bounds_min"] >= group["bounds_min"]).all()
                assert (cluster["bounds_max"] <= group["bounds_max"]).all()
    assert roots == 1
    # Each group has at most half of the points of those that it replaces.
    for number in range(len(asset.groups)):
        consumed = sum(len(points) for cluster, points in found if cluster["consumer"] == number)
        produced = sum(len(points) for cluster, points in found if cluster["producer"] == number)
        assert 0 < produced <= consumed // 2


@pytest.mark.parametrize("count", [1, 2, 100, MAX_CLUSTER_POINTS, MAX_CLUSTER_POINTS + 1])
def test_small_clouds(tmp_path: Path, count: int) -> None:
    asset = build(tmp_path, shape("surface", count))
    assert len(asset.groups) == (count > MAX_CLUSTER_POINTS)
    assert sum(len(points) for cluster, points in clusters_with_points(asset) if cluster["producer"] == NONE) == count


def test_an_empty_cloud_is_no_asset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without points"):
        build(tmp_path, np.empty((0, 3)))
    assert list(tmp_path.iterdir()) == []


def test_samples_are_well_spread(tmp_path: Path) -> None:
    """No point of the cloud is farther from a level's sample than the diagonal of the voxels that its error tells,
    and samples lie closer to that spacing than chance would put them."""
    asset = build(tmp_path, shape("surface", 60_000))
    found = clusters_with_points(asset)
    root = next(points for cluster, points in found if cluster["consumer"] == NONE)["position"].astype(np.float64)
    error = float(asset.groups["error"].max())
    full = np.concatenate([points for cluster, points in found if cluster["producer"] == NONE])["position"]
    for point in full[::997]:
        # Samples of samples: each level moves a point by at most the diagonal of its voxel, and voxels double.
        assert np.linalg.norm(root - point, axis=1).min() <= 2.0 * np.sqrt(3.0) * error
    nearest = []
    for point in root[::37]:
        distance = np.linalg.norm(root - point, axis=1)
        nearest.append(np.partition(distance, 1)[1])
    assert np.median(nearest) > 0.6 * error


def test_any_cut_covers_the_cloud(tmp_path: Path) -> None:
    """Drawn by the rule of the format, at any error each point of the cloud has a drawn one near it."""
    asset = build(tmp_path, shape("surface", 40_000))
    found = clusters_with_points(asset)
    full = np.concatenate([points for cluster, points in found if cluster["producer"] == NONE])["position"]
    errors = asset.groups["error"]
    counts = []
    for limit in [0.0, *np.unique(errors).tolist()]:
        good = errors <= limit
        drawn = [
            points
            for cluster, points in found
            if (cluster["producer"] == NONE or good[cluster["producer"]])
            and (cluster["consumer"] == NONE or not good[cluster["consumer"]])
        ]
        cut = np.concatenate(drawn)["position"]
        counts.append(len(cut))
        for point in full[::1999]:
            assert np.linalg.norm(cut - point, axis=1).min() <= 2.0 * np.sqrt(3.0) * limit + 1e-3
    assert counts[0] == 40_000
    assert counts == sorted(counts, reverse=True)


def test_memory_and_workers_change_nothing_that_is_drawn(tmp_path: Path) -> None:
    """However it was built, all levels have the same spacing and about as many points."""
    positions = shape("clumps", 60_000)
    sums = []
    for memory, workers in ((1 << 30, 1), (SMALL, 1), (SMALL, 3)):
        asset = build(tmp_path, positions, memory, workers)
        sums.append((len(asset.groups), int(asset.pages["vertex_count"].sum()), float(asset.groups["error"].max())))
    assert sums[0] == pytest.approx(sums[1], rel=0.02)
    assert sums[1] == sums[2]


def test_sizes_follow_the_spacing(tmp_path: Path) -> None:
    side = 200
    x, z = np.meshgrid(np.arange(side) * 0.01, np.arange(side) * 0.01)
    asset = build(tmp_path, np.column_stack([x.ravel(), np.zeros(side * side), z.ravel()]))
    for cluster, points in clusters_with_points(asset):
        size = 2.0 ** (points["color"][:, 3] / 8.0 - 20.0)
        if cluster["producer"] == NONE:
            assert 0.01 <= np.median(size) < 0.03
        else:
            error = asset.groups["error"][cluster["producer"]]
            np.testing.assert_allclose(size, error * octree.SAMPLE_OVERLAP, rtol=0.1)


def test_size_codes() -> None:
    assert size_codes(np.array([0.0, 1e-9, 1.0, 1e9])).tolist() == [0, 0, 160, 255]
    sizes = np.geomspace(1e-5, 1e3, 50)
    back = 2.0 ** (size_codes(sizes) / 8.0 - 20.0)
    assert ((back >= sizes * 0.999) & (back <= sizes * 1.1)).all()


def test_a_cloud_on_disk(tmp_path: Path) -> None:
    positions = shape("surface", 30_000) + np.array([500_000.0, 0.0, 4_000_000.0])
    with PointSpool(name="scan", budget=Budget(LoadLimits()), colors=ColorMap(gamma=False)) as spool:
        spool.append(positions[:10_000])
        spool.append(positions[10_000:])
        cloud = spool.finish()
    shares: list[float] = []
    report = build_asset(
        cloud, tmp_path / "a.arrAsset", BuildOptions(memory_bytes=SMALL), lambda stage, share: shares.append(share)
    )
    assert report.points == 30_000
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrAsset"]
    asset = Asset.open(FileSource(tmp_path / "a.arrAsset"), LoadLimits())
    np.testing.assert_allclose(asset.index.bounds_min, positions.min(axis=0), atol=1e-3)
    np.testing.assert_allclose(asset.index.bounds_max, positions.max(axis=0), atol=1e-3)
    assert asset.index.node_names == ["scan"]


def test_a_build_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    class GivenUpError(Exception):
        pass

    def give_up(stage: str, share: float) -> None:
        raise GivenUpError

    cloud = PointCloud.from_arrays("cloud", shape("surface", 30_000))
    with pytest.raises(GivenUpError):
        build_asset(cloud, tmp_path / "a.arrAsset", BuildOptions(memory_bytes=SMALL), give_up)
    assert list(tmp_path.iterdir()) == []
