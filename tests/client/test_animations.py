"""Animations as a program plays them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from farframe.client.animations import Animation
from farframe.client.entities import Entity
from farframe.client.errors import RequestError
from farframe.client.scene import Scene
from farframe.protocol.errors import Result
from tests.client.test_scene import Loopback
from tests.scene.test_animation import turning


async def start() -> tuple[Loopback, Scene, Entity, tuple[Animation, ...]]:
    """A model of two cubes; animations move the first along x, the second along y."""
    link = Loopback()
    scene = Scene(link)
    root = await scene.load_model("2")
    world = link.models.world
    world.playback.add_model(next(iter(world._models)), turning(), root.id + 1)
    return link, scene, root, await scene.animations(root)


def drawn(link: Loopback, entity: Entity) -> Any:
    graph = link.models.world.graph
    return np.round(graph.world[graph.slot(entity.id)][:, 3], 6).tolist()


async def test_what_a_file_has_is_played_by_the_server() -> None:
    link, scene, root, (along, up) = await start()
    first, second = root.children
    assert (along.name, along.duration, along.node_count, along.state) == ("clip 0", 2.0, 1, "stopped")
    along.play(speed=2.0, loop="once")
    up.seek(1.0)
    await scene.flush()
    assert (along.state, along.speed, along.loop, up.state) == ("playing", 2.0, "once", "paused")
    playback = link.models.world.playback
    assert playback.moving
    playback.advance(10.0)
    playback.advance(10.5)
    assert drawn(link, first) == [5, 0, 0] and drawn(link, second) == [0, 1, 0]
    assert first.position == (0, 0, 0), "the program's own stays"
    (again, _) = await scene.animations(root)
    assert (again.state, again.told_time, again.loop) == ("playing", 1.0, "once")
    along.pause()
    up.weight = 0.5
    await scene.flush()
    assert not playback.moving and drawn(link, second) == [0, 0.5, 3.5]
    along.stop()
    up.stop()
    await scene.flush()
    assert drawn(link, first) == [0, 0, 0]


async def test_what_the_program_sets_is_its_own_until_it_is_given_back() -> None:
    link, scene, root, (along, _) = await start()
    first = root.children[0]
    along.seek(2.0)
    first.position = (0, 0, 9)
    await scene.flush()
    assert drawn(link, first) == [0, 0, 9]
    along.reclaim()
    await scene.flush()
    assert drawn(link, first) == [10, 0, 0] and first.position == (0, 0, 9)


async def test_what_cannot_be_is_raised_at_once() -> None:
    _, scene, root, (along, _) = await start()
    for options in ({"time": 2.5}, {"time": -1.0}, {"speed": 2000.0}, {"weight": 2.0}, {"loop": "twice"}):
        with pytest.raises(ValueError):
            along.play(**options)  # type: ignore[arg-type]
    assert along.state == "stopped"
    assert not await scene.animations(root.children[0])
    root.destroy()
    with pytest.raises(RequestError) as caught:
        along.play()
    assert caught.value.result is Result.INVALID_ID
