"""Overlaps in a scene: boxes of parts, and their triangles and points, of plain models and of assets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from farframe.asset.container import Asset
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.convert.points import PointCloud
from farframe.protocol import queries
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits
from farframe.render import RenderScene
from farframe.scene.overlaps import Sphere
from farframe.scene.states import State
from farframe.server.geometry import Geometry, Runs
from farframe.server.overlaps import answer_of, find_parts, overlapping, shape_of
from farframe.server.ray_casts import cast, find_candidates, ray_of, told
from farframe.server.scene_world import SceneWorld, asset_tree, model_tree
from tests.server.test_ray_casts import toys


def drawn_from(*, model: Any = None, asset: Any = None) -> Any:
    """What the renderer has of a model, as far as questions need it."""
    if asset is None:
        return SimpleNamespace(
            model=model, released=False, instance_part=model.instance_part, instance_matrix=model.instance_matrix
        )
    part = asset.instances["part"].astype(np.int32)
    matrix = np.tile(np.eye(4), (len(part), 1, 1))
    matrix[:, :3] = asset.instances["matrix"]
    return SimpleNamespace(asset=asset, released=False, instance_part=part, instance_matrix=matrix)


@pytest.fixture(params=["model", "asset"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SceneWorld, int]]:
    """A ball of radius 1 at the origin (entity root + 1), and a cube of half size 1 at x = 5 (root + 2)."""
    drawn = RenderScene()
    world = SceneWorld(drawn)
    if request.param == "model":
        model = toys()
        resource = drawn_from(model=model)
        tree = model_tree(model)
    else:
        build_asset(toys(), tmp_path / "toys.arrAsset", BuildOptions(workers=1))
        asset = Asset.open(FileSource(tmp_path / "toys.arrAsset"), LoadLimits())
        resource = drawn_from(asset=asset)
        tree = asset_tree(asset)
    entry = world.add_model(drawn.add(resource, np.eye(4)), tree)
    yield world, entry.first
    if request.param == "asset":
        resource.asset.close()


def find(world: SceneWorld, shape: queries.Shape, against: Any = "bounds", **options: Any) -> list[int]:
    params = queries.FindOverlapsParams(shape=shape, against=against, **options)
    asked, most = shape_of(params)
    geometry = Geometry() if against == "geometry" else None
    found, complete = overlapping(asked, find_parts(world, asked), geometry, most)
    assert complete
    answer = answer_of(found, most, complete=complete)
    return wire.unpack(answer.entities, "u4", 1).tolist()


def box(low: Any, high: Any) -> queries.BoxShape:
    return queries.BoxShape(min=low, max=high)


def test_bounds_and_triangles_are_different_things(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    corner = box((0.8, 0.8, 0.8), (1.5, 1.5, 1.5))
    assert find(world, corner) == [root + 1], "the ball's box has a corner there"
    assert find(world, corner, "geometry") == []
    assert find(world, box((0.5, 0.5, 0.5), (1.5, 1.5, 1.5)), "geometry") == [root + 1]
    inside = queries.SphereShape(center=(0.0, 0.0, 0.0), radius=0.9)
    assert find(world, inside) == [root + 1]
    assert find(world, inside, "geometry") == [], "within the ball there is no surface"
    assert find(world, queries.SphereShape(center=(3.0, 0.0, 0.0), radius=2.01), "geometry") == [root + 1, root + 2]
    everything = box((-10.0, -10.0, -10.0), (10.0, 10.0, 10.0))
    for against in ("bounds", "geometry"):
        assert find(world, everything, against) == [root + 1, root + 2]
        assert find(world, everything, against, max_results=1) == [root + 1]
        assert find(world, box((20.0, 20.0, 20.0), (30.0, 30.0, 30.0)), against) == []


def test_parts_that_were_turned_are_met_where_their_own_boxes_are(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    eighth = (0.0, 0.0, float(np.sin(np.pi / 8)), float(np.cos(np.pi / 8)))
    world.apply([wire.SetTransform(id=root + 2, rotation=eighth)])
    # The cube stands on an edge: a box around it has empty corners.
    empty = box((6.1, 1.1, -0.5), (6.4, 1.4, 0.5))
    assert find(world, empty) == [] and find(world, empty, "geometry") == []
    assert find(world, box((6.3, -0.1, -0.5), (6.5, 0.1, 0.5))) == [root + 2]
    turned = queries.OrientedBoxShape(center=(6.25, 1.25, 0.0), half_size=(0.2, 1.0, 0.2), rotation=eighth)
    assert find(world, turned) == []
    across = queries.OrientedBoxShape(center=(6.25, 1.25, 0.0), half_size=(1.0, 0.2, 0.2), rotation=eighth)
    assert find(world, across) == [] or find(world, across) == [root + 2]
    assert find(world, queries.OrientedBoxShape(center=(6.0, 1.0, 0.0), half_size=(0.1, 0.6, 0.1))) == [root + 2]


def test_what_is_hidden_is_found_and_what_is_switched_off_is_not(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    everything = box((-10.0, -10.0, -10.0), (10.0, 10.0, 10.0))
    world.apply([wire.SetStates(id=root, on=State.HIDDEN)])
    assert find(world, everything) == [root + 1, root + 2]
    world.apply([wire.SetStates(id=root + 1, on=State.DISABLE_COLLISION)])
    assert find(world, everything) == find(world, everything, "geometry") == [root + 2]
    world.apply([wire.SetEnabled(id=root, enabled=False)])
    assert find(world, everything) == []


def test_boxes_follow_what_moves(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    there, here = box((100.0, -1.0, -1.0), (102.0, 1.0, 1.0)), box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    assert (find(world, there), find(world, here)) == ([], [root + 1])
    world.apply([wire.SetTransform(id=root, position=(100.0, 0.0, 0.0))])
    assert (find(world, there), find(world, here)) == ([root + 1], [])
    world.apply([wire.Destroy(id=root)])
    assert find(world, there) == []


def test_what_was_unloaded_meanwhile_makes_the_answer_incomplete(scene: tuple[SceneWorld, int]) -> None:
    world, _ = scene
    shape = Sphere(np.zeros(3), 1.0)
    parts = find_parts(world, shape)
    if not hasattr(parts.resource[0], "asset"):
        return
    parts.resource[0].asset.close()
    found, complete = overlapping(shape, parts, Geometry(), 10)
    assert not complete and not len(found[0])


@pytest.mark.parametrize(
    "params",
    [
        {"shape": queries.SphereShape(center=(0.0, 0.0, 0.0), radius=-1.0)},
        {"shape": queries.SphereShape(center=(0.0, float("nan"), 0.0), radius=1.0)},
        {"shape": queries.SphereShape(center=(0.0, 1e300, 0.0), radius=1.0)},
        {"shape": queries.BoxShape(min=(0.0, 0.0, 1.0), max=(1.0, 1.0, 0.0))},
        {"shape": queries.OrientedBoxShape(center=(0.0, 0.0, 0.0), half_size=(1.0, -1.0, 1.0))},
        {"shape": queries.OrientedBoxShape(center=(0.0, 0.0, 0.0), half_size=(1.0, 1.0, 1.0), rotation=(0.0,) * 4)},
        {"shape": queries.SphereShape(center=(0.0, 0.0, 0.0), radius=1.0), "max_results": 8193},
        {"shape": queries.SphereShape(center=(0.0, 0.0, 0.0), radius=1.0), "max_results": -1},
    ],
)
def test_shapes_that_are_none_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(FarframeError) as caught:
        shape_of(queries.FindOverlapsParams(**params))
    assert caught.value.result is Result.INVALID_PARAM


class TestPointClouds:
    """A cloud of 60,000 points in a plane, in many clusters and pages, and one in a corner by itself."""

    @pytest.fixture
    def cloud(self, tmp_path: Path) -> Iterator[tuple[SceneWorld, int, Any, Any]]:
        generator = np.random.default_rng(6)
        positions = np.zeros((60_000, 3))
        positions[:, :2] = generator.uniform(-10, 10, (60_000, 2))
        positions[0] = (9.0, 9.0, 5.0)
        build_asset(PointCloud.from_arrays("scan", positions), tmp_path / "scan.arrAsset", BuildOptions(workers=1))
        asset = Asset.open(FileSource(tmp_path / "scan.arrAsset"), LoadLimits())
        resource = drawn_from(asset=asset)
        drawn = RenderScene()
        world = SceneWorld(drawn)
        entry = world.add_model(drawn.add(resource, np.eye(4)), asset_tree(asset))
        yield world, entry.first, positions, asset
        asset.close()

    def test_every_point_is_in_reach_of_its_clusters_box(self, cloud: Any) -> None:
        """What the boxes are made larger by holds each point's own size."""
        _, _, _, asset = cloud
        runs = Runs.of(asset)
        assert len(runs.page) > 3
        for place, cluster in enumerate(runs.cluster.tolist()):
            row = asset.clusters[cluster]
            page = int(asset.page_of_cluster[cluster])
            content = asset.decode_page(page, asset.read_page(page))
            first = int(row["first_vertex"])
            points = content.vertices[first : first + int(row["vertex_count"])]
            radius = np.exp2(points["color"][:, 3].astype(np.float64) / 8 - 20)[:, None] / 2
            assert (points["position"] - radius >= runs.low[place]).all()
            assert (points["position"] + radius <= runs.high[place]).all()

    def test_points_overlap_where_they_are(self, cloud: Any) -> None:
        world, _, _, _ = cloud
        assert find(world, box((8.9, 8.9, 4.9), (9.1, 9.1, 5.1)), "geometry")
        assert not find(world, box((-9.1, -9.1, 4.0), (8.8, 8.8, 5.1)), "geometry")
        assert not find(world, box((-9.1, -9.1, 1.0), (9.5, 9.5, 4.9)), "geometry")
        assert find(world, queries.SphereShape(center=(0.0, 0.0, 1.0), radius=1.01), "geometry")

    def test_rays_meet_points_anywhere_in_a_cloud(self, cloud: Any) -> None:
        world, _, positions, _ = cloud
        geometry = Geometry()
        for index in [0, *range(1, 60_000, 2_503)]:
            x, y, z = positions[index].tolist()
            ray = ray_of(wire.CastRayParams(start=(x, y, 8.0), end=(x, y, -3.0)))
            hits, complete = cast(geometry, ray, find_candidates(world, ray))
            assert complete and hits and {hit.kind for hit in hits} == {"point"}
            distances = [told(ray, hit).distance for hit in hits]
            assert distances == sorted(distances)
            assert min(abs(distance - (8.0 - z)) for distance in distances) < 0.01


def test_the_pages_that_are_kept_stay_within_their_budget(tmp_path: Path) -> None:
    build_asset(toys(), tmp_path / "toys.arrAsset", BuildOptions(workers=1))
    asset = Asset.open(FileSource(tmp_path / "toys.arrAsset"), LoadLimits())
    roomy, tight = Geometry(), Geometry(kept_bytes=1)
    numbers = list(range(len(asset.pages))) * 2
    whole = [page.positions for page in roomy.pages(asset, numbers)]
    assert 0 < roomy.kept_bytes <= sum(page.nbytes for page in whole[: len(asset.pages)]) * 2
    again = [page.positions for page in tight.pages(asset, numbers)]
    assert tight.kept_bytes == 0
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole[0] is whole[len(asset.pages)], "it was kept"
    roomy.close()
    assert roomy.kept_bytes == 0
    asset.close()
