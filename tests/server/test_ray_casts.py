"""Rays: what they meet is what the full geometry says, of plain models and of assets, however it was moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farframe.asset.container import Asset
from farframe.asset.format import POINT_DTYPE
from farframe.asset.model import Material, Node
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits
from farframe.render import Engine, RenderScene
from farframe.scene.rays import boxes_met, points_met, triangles_met
from farframe.scene.states import State
from farframe.server.geometry import Geometry
from farframe.server.ray_casts import cast, find_candidates, ray_of, told
from farframe.server.scene_world import SceneWorld, asset_tree, model_tree
from tests.render.shapes import ModelBuilder, box, sphere


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        engine = Engine.create("cpu")
    except FarframeError:
        engine = Engine.create("auto")
    yield engine
    engine.close()


def toys() -> Any:
    """A fine ball of radius 1 at the origin, and a cube of half size 1 at x = 5, each under a node of its own."""
    builder = ModelBuilder("toys")
    ball = builder.part(sphere(slices=160, stacks=80), Material())
    cube = builder.part(box(), Material())
    builder.place(ball)
    builder.place(cube, (5, 0, 0))
    built = builder.build()
    built.nodes = [Node("ball", -1, np.eye(4)), Node("cube", -1, np.eye(4))]
    built.nodes[1].matrix[0, 3] = 5.0
    built.instance_node = np.array([0, 1], np.int32)
    return built


@pytest.fixture(params=["model", "asset"])
def scene(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[tuple[SceneWorld, int]]:
    drawn = RenderScene()
    world = SceneWorld(drawn)
    if request.param == "model":
        model = toys()
        resource: Any = engine.upload(model)
        tree = model_tree(model)
    else:
        path = tmp_path / "toys.arrAsset"
        build_asset(toys(), path, BuildOptions(workers=1))
        asset = Asset.open(FileSource(path), LoadLimits())
        resource = engine.open_asset(asset)
        tree = asset_tree(asset)
    entry = world.add_model(drawn.add(resource, np.eye(4)), tree)
    yield world, entry.first
    engine.release(resource)
    if request.param == "asset":
        resource.asset.close()


def hits(world: SceneWorld, start: Any, end: Any, **options: Any) -> list[wire.RayHit]:
    params = wire.CastRayParams(start=start, end=end, **options)
    ray = ray_of(params)
    found, complete = cast(Geometry(), ray, find_candidates(world, ray), any_hit=params.policy == "anyHit")
    assert complete
    return [told(ray, hit, corners=params.corners) for hit in found]


def test_corners_are_those_of_the_triangle_in_the_world_however_it_was_moved(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    command = wire.SetTransform(id=root + 2, position=(50.0, 3.0, 0.0), rotation=(0.0, 0.6, 0.0, 0.8), scale=(1, 2, 3))
    assert not world.apply([command]).failures
    found = hits(world, (50.0, 3.1, 9.0), (50.2, 3.1, -9.0), corners=True)
    assert [hit.kind for hit in found] == ["front", "back"]
    for hit in found:
        assert hit.corners is not None
        corners = np.array(hit.corners)
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        area = np.linalg.norm(normal)
        np.testing.assert_allclose(normal / area, hit.normal, atol=1e-5)
        assert abs((np.array(hit.position) - corners[0]) @ hit.normal) < 1e-4
        # Where it was hit lies within it: the three triangles with the corners are as large as the whole.
        others = np.roll(corners, -1, axis=0)
        parts = np.linalg.norm(np.cross(corners - hit.position, others - hit.position), axis=1)
        assert parts.sum() == pytest.approx(area, rel=1e-4)


def test_a_ray_through_everything(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    found = hits(world, (-10.0, 0.05, 0.02), (10.0, 0.05, 0.02))
    assert [(hit.entity, hit.kind) for hit in found] == [
        (root + 1, "front"), (root + 1, "back"), (root + 2, "front"), (root + 2, "back"),
    ]  # fmt: skip
    np.testing.assert_allclose([hit.distance for hit in found], (9.0, 11.0, 14.0, 16.0), atol=3e-3)
    np.testing.assert_allclose(found[2].position, (4, 0.05, 0.02), atol=1e-5)
    np.testing.assert_allclose(found[2].normal, (-1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(found[3].normal, (1, 0, 0), atol=1e-6)
    assert found[0].normal[0] < -0.99 and np.linalg.norm(found[0].normal) == pytest.approx(1)
    assert [hit.distance for hit in hits(world, (-10.0, 0.05, 0.02), (10.0, 0.05, 0.02), max_hits=3)] == [
        hit.distance for hit in found[:3]
    ]
    (closest,) = hits(world, (-10.0, 0.05, 0.02), (10.0, 0.05, 0.02), policy="closestHit")
    assert closest == found[0]
    assert len(hits(world, (-10.0, 0.05, 0.02), (10.0, 0.05, 0.02), policy="anyHit")) == 1
    assert closest.corners is None
    assert not hits(world, (-10.0, 1.5, 0.0), (10.0, 1.5, 0.0))
    assert not hits(world, (-10.0, 0.0, 0.0), (-2.0, 0.0, 0.0)), "it ends before"
    (inside,) = hits(world, (0.0, 0.0, 0.0), (0.3, 3.0, 0.2))
    assert inside.kind == "back"


def test_many_rays_meet_the_ball_where_a_ball_is(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    generator = np.random.default_rng(8)
    for _ in range(60):
        start = generator.normal(size=3)
        start *= 4 / np.linalg.norm(start)
        target = generator.uniform(-0.5, 0.5, 3)
        direction = (target - start) / np.linalg.norm(target - start)
        middle = -start @ direction
        expected = middle - np.sqrt(1 - (start @ start - middle**2))
        end = start + direction * (middle + 0.01)
        (hit,) = hits(world, tuple(start.tolist()), tuple(end.tolist()), policy="closestHit")
        assert hit.entity == root + 1 and hit.kind == "front"
        assert hit.distance == pytest.approx(expected, abs=4e-3)
        np.testing.assert_allclose(hit.normal, hit.position, atol=0.05)


def test_rays_follow_what_moves_and_what_is_switched_off(scene: tuple[SceneWorld, int]) -> None:
    world, root = scene
    quarter = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))
    world.apply(
        [
            wire.SetTransform(id=root, position=(0.0, 100.0, 0.0), rotation=quarter),
            wire.SetTransform(id=root + 2, scale=(-3.0, 0.5, 1.0)),
        ]
    )
    found = hits(world, (0.1, 120.0, 0.2), (0.1, 90.0, 0.2))
    assert [(hit.entity, hit.kind) for hit in found] == [
        (root + 2, "front"), (root + 2, "back"), (root + 1, "front"), (root + 1, "back"),
    ]  # fmt: skip
    np.testing.assert_allclose([hit.position[1] for hit in found[:2]], (108, 102), atol=1e-4)
    np.testing.assert_allclose(found[0].normal, (0, 1, 0), atol=1e-6)
    world.apply([wire.SetStates(id=root + 2, on=State.HIDDEN)])
    assert hits(world, (0.1, 120.0, 0.2), (0.1, 90.0, 0.2)) == found, "hidden is still there to be hit"
    world.apply([wire.SetStates(id=root + 2, on=State.DISABLE_COLLISION)])
    assert {hit.entity for hit in hits(world, (0.1, 120.0, 0.2), (0.1, 90.0, 0.2))} == {root + 1}
    world.apply([wire.SetEnabled(id=root, enabled=False)])
    assert not hits(world, (0.1, 120.0, 0.2), (0.1, 90.0, 0.2))


def test_what_was_unloaded_meanwhile_makes_the_answer_incomplete(scene: tuple[SceneWorld, int]) -> None:
    world, _ = scene
    ray = ray_of(wire.CastRayParams(start=(-10.0, 0.05, 0.02), end=(10.0, 0.05, 0.02)))
    candidates = find_candidates(world, ray)
    if not hasattr(candidates[0].resource, "asset"):
        return
    candidates[0].resource.asset.close()
    found, complete = cast(Geometry(), ray, candidates)
    assert not complete and not found


@pytest.mark.parametrize(
    "values",
    [
        {"start": (0.0, 0.0, float("nan")), "end": (1.0, 0.0, 0.0)},
        {"start": (0.0, 0.0, 0.0), "end": (1e300, 0.0, 0.0)},
        {"start": (1.0, 0.0, 0.0), "end": (1.0, 0.0, 0.0)},
        {"start": (1.0, 0.0, 0.0), "end": (2.0, 0.0, 0.0), "max_hits": 1025},
        {"start": (1.0, 0.0, 0.0), "end": (2.0, 0.0, 0.0), "max_hits": -1},
    ],
)
def test_rays_that_are_none_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(FarframeError) as caught:
        ray_of(wire.CastRayParams(**values))
    assert caught.value.result is Result.INVALID_PARAM


def test_boxes_along_axes_and_from_inside() -> None:
    low, high = np.array([[1.0, -1, -1], [1, 2, -1], [-1, -1, -1]]), np.array([[2.0, 1, 1], [2, 3, 1], [1, 1, 1]])
    enters = boxes_met(np.zeros(3), np.array([4.0, 0, 0]), low, high)
    np.testing.assert_array_equal(enters, (0.25, np.inf, 0.0))


def test_points_are_balls() -> None:
    points = np.array([[1.0, 0.05, 0], [2.0, 0.2, 0], [5.0, 0, 0]])
    rows, t = points_met(np.zeros(3), np.array([4.0, 0, 0]), points, np.full(3, 0.1))
    assert rows.tolist() == [0] and t.tolist() == [0.25]
    assert POINT_DTYPE.itemsize == 16


def test_triangles_without_area_are_never_met() -> None:
    corners = np.zeros((2, 3, 3))
    corners[1] = [[1, -1, -1], [1, 1, -1], [1, 0, 1]]
    rows, t, normal = triangles_met(np.zeros(3), np.array([2.0, 0, 0]), corners)
    assert rows.tolist() == [1] and t.tolist() == [0.5] and normal[0, 0] > 0
