"""Azure Remote Rendering's render modes are taken when a connection is opened, told back, and no others are."""

from __future__ import annotations

import pytest

from tests.server.devices import World


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "DepthBasedComposition"),
        ({"renderMode": "Default"}, "DepthBasedComposition"),
        ({"renderMode": "DepthBasedComposition"}, "DepthBasedComposition"),
        ({"renderMode": "TileBasedComposition"}, "TileBasedComposition"),
    ],
)
async def test_render_modes_are_taken_and_told(asked: dict[str, str], told: str) -> None:
    world = World()
    device, opened = await world.drive(**asked)
    assert opened["renderMode"] == told
    assert (await device.call("statistics.get"))["renderMode"] == told
    watcher, seen = await world.watch()
    assert "renderMode" not in seen
    assert "renderMode" not in await watcher.call("statistics.get")


@pytest.mark.parametrize("asked", ["RayTraced", "", "tilebasedcomposition", 1, None, ["TileBasedComposition"]])
async def test_other_render_modes_are_refused_and_the_device_may_ask_again(asked: object) -> None:
    world = World()
    device = world.handshake()
    device.connect()
    assert (await device.open(renderMode=asked))["error"]["result"] == "InvalidParam"
    assert (await device.call("statistics.get"))["error"]["result"] == "ProtocolError"
    assert (await device.open(renderMode="TileBasedComposition"))["renderMode"] == "TileBasedComposition"


async def test_the_render_mode_is_the_connections_not_the_scenes() -> None:
    world = World()
    first, opened = await world.drive(renderMode="TileBasedComposition")
    first.vanish()
    second, opened = await world.drive(resume=opened["resumeSecret"])
    assert opened["resumed"] and opened["renderMode"] == "DepthBasedComposition"
    assert (await second.call("statistics.get"))["renderMode"] == "DepthBasedComposition"
