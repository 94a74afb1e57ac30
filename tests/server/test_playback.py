"""Animations in a scene: what is drawn and asked about follows them; the frame loop draws while they are played."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from farframe.asset.animation import Animations, Clip
from farframe.asset.model import Material, Node
from farframe.protocol import animations
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming
from farframe.render import RenderScene
from farframe.server.geometry import Geometry
from farframe.server.ray_casts import cast, find_candidates, ray_of
from farframe.server.scene_requests import SceneRequests
from farframe.server.scene_world import SceneWorld, model_tree
from tests.render.shapes import ModelBuilder, box


def lift() -> Any:
    """A cube of half size 1 that goes from y = 0 to y = 10 in two seconds, and one at x = 20 that stands."""
    builder = ModelBuilder("lift")
    cube = builder.part(box(), Material())
    builder.place(cube)
    builder.place(cube, (20, 0, 0))
    built = builder.build()
    built.nodes = [Node("car", -1, np.eye(4)), Node("house", -1, np.eye(4))]
    built.nodes[1].matrix[0, 3] = 20.0
    built.instance_node = np.array([0, 1], np.int32)
    clip = Clip("up", 2.0, np.zeros(1, np.int32), np.zeros(1, np.uint8), np.ones(1, np.uint8), np.array([0, 2]),
                np.array([0.0, 2.0], np.float32), np.array([[0, 0, 0, 0], [0, 10, 0, 0]], np.float32))  # fmt: skip
    built.animations = Animations(np.zeros(1, np.int32), np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1.0]]), [clip])
    return built


@pytest.fixture
def place() -> tuple[RenderScene, SceneWorld, int]:
    scene = RenderScene()
    world = SceneWorld(scene)
    built = lift()
    resource: Any = SimpleNamespace(
        model=built, released=False, instance_part=built.instance_part, instance_matrix=built.instance_matrix
    )
    entry = world.add_model(scene.add(resource, np.eye(4)), model_tree(built))
    return scene, world, entry.first


def drawn(scene: RenderScene) -> list[float]:
    (placed,) = scene.entries.values()
    return placed.world[:, 1, 3].tolist()


def play(world: SceneWorld, root: int, **options: Any) -> None:
    assert not world.apply([animations.SetAnimation(id=root, **options)]).failures


def test_a_frame_is_due_while_it_is_played_and_none_when_it_rests(place: Any) -> None:
    scene, world, root = place
    scene.advance(1.0)
    version = scene.version
    scene.advance(2.0)
    assert not scene.moving and scene.version == version
    play(world, root, state="playing")
    assert scene.moving
    for number in range(1, 6):
        scene.advance(10.0 + number / 10)
        assert scene.version > version
        version = scene.version
    assert drawn(scene) == [pytest.approx(2.0), 0.0]
    (change,) = list(scene.changes_since(scene.journal_end - 1) or ())
    assert change.rows.tolist() == [0], "only what moves is written anew"
    play(world, root, state="paused")
    version = scene.version
    scene.advance(12.0)
    assert not scene.moving and scene.version == version and drawn(scene) == [pytest.approx(2.0), 0.0]


def test_an_animation_that_ends_lets_the_loop_rest(place: Any) -> None:
    scene, world, root = place
    play(world, root, state="playing", loop="once")
    scene.advance(1.0)
    scene.advance(9.0)
    assert drawn(scene)[0] == pytest.approx(10.0) and not scene.moving


def test_bounds_and_rays_follow_what_is_drawn(place: Any) -> None:
    _, world, root = place
    play(world, root, state="paused", time=2.0)
    assert world.bounds(root + 1, local=False) == ((-1.0, 9.0, -1.0), (1.0, 11.0, 1.0))
    ray = ray_of(wire.CastRayParams(start=(0.1, 10.2, 5.0), end=(0.1, 10.2, -5.0)))
    hits, _ = cast(Geometry(), ray, find_candidates(world, ray))
    assert [hit.candidate.entity for hit in hits] == [root + 1, root + 1]
    table, _ = world.entities(1, 2**32 - 1, 10)
    assert table.position[list(table.id).index(root + 1)].tolist() == [0, 0, 0], "the device's own stays"


def test_a_device_that_moves_a_node_wins_and_others_stay_played(place: Any) -> None:
    scene, world, root = place
    play(world, root, state="playing")
    world.apply([wire.SetTransform(id=root + 1, position=(0.0, -4.0, 0.0))])
    scene.advance(1.0)
    scene.advance(2.0)
    assert drawn(scene)[0] == -4.0
    play(world, root, reclaim=True)
    assert drawn(scene)[0] == pytest.approx(5.0)
    world.apply([wire.SetTransform(id=root, position=(0.0, 100.0, 0.0))])
    assert drawn(scene) == [pytest.approx(105.0), 100.0]
    play(world, root, state="stopped")
    assert drawn(scene) == [96.0, 100.0]


def test_a_model_that_is_replaced_by_a_finer_one_plays_on(place: Any) -> None:
    scene, world, root = place
    play(world, root, state="paused", time=1.0)
    built = lift()
    resource: Any = SimpleNamespace(
        model=built, released=False, instance_part=built.instance_part, instance_matrix=built.instance_matrix
    )
    handle = next(iter(scene.entries))
    scene.replace(handle, resource)
    world.replace_model(handle, model_tree(built))
    assert drawn(scene) == [pytest.approx(5.0), 0.0]


def test_what_is_gone_is_not_played(place: Any) -> None:
    scene, world, root = place
    play(world, root, state="playing")
    handle = next(iter(scene.entries))
    world.apply([wire.Destroy(id=root)])
    scene.advance(1.0)
    scene.remove(handle)
    world.remove_model(handle)
    assert not scene.moving
    (failure,) = world.apply([animations.SetAnimation(id=root, state="playing")]).failures
    assert failure[1].result is Result.INVALID_ID


class Models:
    def __init__(self, world: SceneWorld) -> None:
        self.world = world

    async def run(self, job: Any) -> Any:
        return job(self.world)


async def test_a_device_asks_what_there_is(place: Any, tmp_path: Path) -> None:
    _, world, root = place

    async def forget(handles: list[int]) -> None:
        return None

    requests = SceneRequests(Models(world), forget)  # type: ignore[arg-type]

    async def ask(**params: Any) -> Any:
        raw = msgspec.Raw(msgspec.json.encode(animations.AnimationsParams(**params)))
        message = Incoming(method="scene.getAnimations", id=1, params=raw)
        return await requests.reading_methods["scene.getAnimations"](message)

    play(world, root, state="paused", time=0.5, speed=-2.0, loop="pingPong", weight=0.5)
    answer = await ask(entity=root)
    (found,) = answer.animations
    assert (found.name, found.duration, found.nodes, found.state) == ("up", 2.0, 1, "paused")
    assert (found.time, found.speed, found.loop, found.weight, answer.more) == (0.5, -2.0, "pingPong", 0.5, False)
    assert not (await ask(entity=root + 1)).animations and not (await ask(entity=root, first=1)).animations
    with pytest.raises(FarframeError):
        await ask(entity=77)
    with pytest.raises(FarframeError):
        await ask(entity=root, first=-1)
