"""Questions about where things are, as a program asks them."""

from __future__ import annotations

import pytest

from farframe.client.errors import RequestError
from farframe.client.scene import Scene
from farframe.protocol.errors import Result
from tests.client.test_scene import Loopback


async def test_parts_that_overlap_are_told_as_entities() -> None:
    """Cubes of half size 1 stand at x = 0, 1, 2, ... 9."""
    scene = Scene(Loopback())
    root = await scene.load_model("10")
    parts = root.children
    found = await scene.overlap_box((3.5, -0.1, -0.1), (4.0, 0.1, 0.1))
    assert found.entities == parts[3:6] and [overlap.sub_part for overlap in found] == [0, 0, 0]
    assert found.complete and not found.more
    assert (await scene.overlap_sphere((0, 0, 3), 2.5)).entities == parts[:3]
    quarter = (0.0, 0.70710678, 0.0, 0.70710678)
    across = await scene.overlap_oriented_box((5, 0, 0), (2.5, 0.1, 0.1), quarter)
    along = await scene.overlap_oriented_box((5, 0, 0), (2.5, 0.1, 0.1))
    assert across.entities == parts[4:7] and along.entities == parts[2:9]
    few = await scene.overlap_box((-100, -100, -100), (100, 100, 100), max_results=4)
    assert few.entities == parts[:4] and few.more


async def test_what_was_set_before_is_there_when_it_is_asked() -> None:
    scene = Scene(Loopback())
    root = await scene.load_model("2")
    root.children[1].position = (50, 0, 0)
    assert (await scene.overlap_sphere((50, 0, 0), 0.5)).entities == (root.children[1],)
    root.override(disable_collision=True)
    assert not await scene.overlap_sphere((50, 0, 0), 0.5)


async def test_shapes_that_are_none_are_refused() -> None:
    scene = Scene(Loopback())
    with pytest.raises(RequestError) as caught:
        await scene.overlap_sphere((0, 0, 0), -1)
    assert caught.value.result is Result.INVALID_PARAM
    with pytest.raises(ValueError):
        await scene.overlap_box((0, 0), (1, 1, 1))
