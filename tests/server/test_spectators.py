"""What devices that watch get, and what they cannot do: without network."""

from __future__ import annotations

import pytest

from farframe.protocol.errors import FarframeError, Result
from farframe.server.spectators import KEYFRAME_INTERVAL_SECONDS
from tests.server.devices import World, until


async def test_who_watches_gets_the_frames_of_who_drives_uncopied() -> None:
    world = World()
    driver, _ = await world.drive()
    watchers = [(await world.watch())[0] for _ in range(2)]
    await world.frames.draw()
    assert [len(watcher.frames) for watcher in watchers] == [0, 0], "nothing before a keyframe"
    key = await world.frames.draw(keyframe=True)
    delta = await world.frames.draw()
    for watcher in watchers:
        assert [frame.data for frame in watcher.frames] == [key.data, delta.data]
        assert all(sent.data is made.data for sent, made in zip(watcher.frames, [key, delta], strict=True))
        assert [record.rtp_timestamp for record in watcher.records] == [frame.pts for frame in watcher.frames]
        assert {(record.pose_id, record.client_time_us) for record in watcher.records} == {(0, 0)}
    assert len(driver.frames) == 3
    assert {record.pose_id for record in driver.records} == {77}


async def test_who_watches_is_told_what_there_is_to_see() -> None:
    world = World()
    early, told = await world.watch()
    assert (told["role"], told["driver"], told["scene"]["models"]) == ("viewer", False, [])
    assert "resumeSecret" not in told
    driver, _ = await world.drive(width=400, height=300)
    assert len(early.told("driver.joined")) == 1
    assert early.told("video.changed")[0]["width"] == 400
    await driver.call("scene.loadModel", uri="x")
    await driver.call("video.configure", width=500)
    assert early.told("video.changed")[1]["width"] == 500
    _, told = await world.watch()
    assert told.get("driver", True) and told["video"]["width"] == 500
    assert [model["modelId"] for model in told["scene"]["models"]] == [1]
    assert (await early.call("scene.describe"))["models"][0]["modelId"] == 1
    assert (await early.call("statistics.get"))["models"] == 1


@pytest.mark.parametrize(
    "method", ["video.configure", "scene.loadModel", "scene.clear", "scene.unloadModel", "scene.apply", "no.such"]
)
async def test_who_watches_cannot_drive(method: str) -> None:
    world = World()
    await world.drive()
    watcher, _ = await world.watch()
    answer = await watcher.call(method, uri="x", width=64, modelId=1)
    assert answer["error"]["result"] == "WatchingOnly"
    assert world.scenes[0].models == [] and world.frames.video.width != 64


async def test_what_who_watches_sends_reaches_neither_pose_nor_rate_nor_keyframes() -> None:
    world = World()
    driver, _ = await world.drive()
    watcher, _ = await world.watch()
    await world.frames.draw(keyframe=True)
    poses, rate = len(world.frames.poses), world.frames.bitrate
    watcher.pose(5)
    watcher.handler.on_bitrate(100_000)
    assert (len(world.frames.poses), world.frames.bitrate) == (poses, rate)
    for _ in range(199):
        watcher.pose(6)
    await world.gone(watcher)
    assert watcher.told("session.ending")[0]["reason"] == "ProtocolError"
    assert world.places.connected and not driver.closed


async def test_methods_wait_for_the_opening() -> None:
    world = World()
    watcher = world.handshake_to_watch()
    watcher.connect()
    assert (await watcher.call("statistics.get"))["error"]["result"] == "ProtocolError"
    assert (await watcher.call("connection.ping", clientTimeMicroseconds=1))["clientTimeMicroseconds"] == 1
    assert (await watcher.call("connection.open", protocol=99))["error"]["result"] == "ProtocolVersionMismatch"


async def test_only_so_many_may_watch_and_none_takes_the_place() -> None:
    world = World(spectators=2)
    first, _ = await world.watch()
    await world.watch()
    with pytest.raises(FarframeError) as caught:
        world.handshake_to_watch()
    assert caught.value.result is Result.TOO_MANY_SPECTATORS and caught.value.retryable
    await world.drive()
    first.vanish()
    await world.gone(first)
    await world.watch()


async def test_nobody_may_watch_where_the_operator_says_so() -> None:
    with pytest.raises(FarframeError) as caught:
        World(spectators=0).handshake_to_watch()
    assert caught.value.result is Result.TOO_MANY_SPECTATORS


async def test_all_of_them_cause_one_keyframe_now_and_then() -> None:
    world = World(spectators=8)
    driver, _ = await world.drive()
    watchers = [(await world.watch())[0] for _ in range(8)]
    await until(lambda: world.frames.keyframes == 1)
    await world.frames.draw(keyframe=True)
    for _ in range(50):
        for watcher in watchers:
            watcher.handler.on_keyframe_request()
        await world.frames.draw()
    assert world.frames.keyframes == 1
    assert all(len(watcher.frames) == 51 for watcher in watchers), "who only asks is not cut off meanwhile"
    assert len(driver.frames) == 51


async def test_a_keyframe_of_the_driving_device_serves_all() -> None:
    world = World()
    await world.drive()
    watcher, _ = await world.watch()
    await world.frames.draw(keyframe=True)
    watcher.handler.on_keyframe_request()
    await world.frames.draw()
    await world.frames.draw(keyframe=True)
    await world.frames.draw()
    assert [frame.keyframe for frame in watcher.frames] == [True, False, True, False]
    assert world.frames.keyframes == 1, "the one that was asked for on joining"


async def test_a_line_that_is_full_gets_nothing_until_a_keyframe_and_slows_nobody() -> None:
    world = World()
    driver, _ = await world.drive()
    slow, _ = await world.watch()
    quick, _ = await world.watch()
    await world.frames.draw(keyframe=True)
    slow.backlog = 50
    for _ in range(10):
        await world.frames.draw()
    assert (len(slow.frames), len(quick.frames), len(driver.frames)) == (1, 11, 11)
    await world.frames.draw(keyframe=True)
    assert len(slow.frames) == 1, "not even a keyframe while frames still wait"
    slow.backlog = 0
    await world.frames.draw()
    assert len(slow.frames) == 1
    await world.frames.draw(keyframe=True)
    await world.frames.draw()
    assert (len(slow.frames), len(quick.frames), len(driver.frames)) == (3, 15, 15)


async def test_a_line_that_carries_less_than_the_stream_skips_to_keyframes() -> None:
    world = World()
    await world.drive()
    slow, _ = await world.watch()
    slow.target_bitrate = 1_000_000
    await world.frames.draw(keyframe=True)
    for _ in range(60):
        world.clock += 1 / 30
        await world.frames.draw(size=20_000)  # 4.8 Mbit/s
    # It is given a second to show what it carries; then it is spared.
    assert 1 < len(slow.frames) < 40
    before = len(slow.frames)
    await world.frames.draw(keyframe=True, size=20_000)
    assert len(slow.frames) == before + 1


async def test_one_that_keeps_falling_behind_asks_ever_more_rarely() -> None:
    world = World()
    await world.drive()
    slow, _ = await world.watch()
    await until(lambda: world.frames.keyframes == 1)
    await world.frames.draw(keyframe=True)
    waits = []
    for _ in range(6):
        slow.backlog = 50
        await world.frames.draw()
        slow.backlog = 0
        spectator = slow.handler
        waited = 0.0
        while not spectator.wants_keyframe:
            world.clock += 0.5
            waited += 0.5
        waits.append(waited)
        await world.frames.draw(keyframe=True)
    assert waits[0] == KEYFRAME_INTERVAL_SECONDS
    assert waits == sorted(waits) and waits[-1] == 32.0


async def test_time_goes_on_when_another_device_drives() -> None:
    world = World()
    first, _ = await world.drive()
    watcher, _ = await world.watch()
    await world.frames.draw(keyframe=True)
    await world.frames.draw()
    first.say_goodbye()
    await world.gone(first)
    (left,) = watcher.told("driver.left")
    assert (left["reason"], left.get("mayReturn", False)) == ("DisconnectRequest", False)
    assert (await watcher.call("scene.describe"))["models"] == []
    world.clock += 2.0
    await world.drive()
    await world.frames.draw(keyframe=True)
    times = [frame.pts for frame in watcher.frames]
    assert times == [0, 3000, 3000 + 180_000]
    assert [record.rtp_timestamp for record in watcher.records] == times


async def test_who_watches_hears_that_the_device_may_come_back() -> None:
    world = World()
    driver, told = await world.drive()
    watcher, _ = await world.watch()
    driver.vanish()
    await world.gone(driver)
    assert watcher.told("driver.left")[0]["mayReturn"] is True
    await world.drive(resume=told["resumeSecret"])
    assert len(watcher.told("driver.joined")) == 1


async def test_the_end_of_the_session_is_told() -> None:
    world = World()
    await world.drive()
    watchers = [(await world.watch())[0] for _ in range(2)]
    await world.audience.end("SessionStopped", "It was stopped.")
    for watcher in watchers:
        assert watcher.told("session.ending") == [{"reason": "SessionStopped", "message": "It was stopped."}]
        assert watcher.closed
    assert world.audience.count == 0
