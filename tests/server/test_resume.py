"""Who gets the place of a session, for whom it is kept, and who is kept out: without network."""

from __future__ import annotations

import asyncio

import pytest

from farframe.protocol.errors import FarframeError, Result
from farframe.server.places import Wishes
from tests.server.devices import FakeDevice, World, until


def refusal(world: World, resume: str = "") -> FarframeError:
    with pytest.raises(FarframeError) as caught:
        world.places.take(Wishes(resume=resume))
    return caught.value


async def lose(world: World, device: FakeDevice) -> None:
    device.vanish()
    await world.gone(device)


async def test_a_device_that_was_lost_finds_everything_as_it_was() -> None:
    world = World()
    first, told = await world.drive(width=800, height=450)
    assert not told.get("resumed") and "scene" not in told
    assert len(told["resumeSecret"]) >= 43
    assert told["resumeGraceSeconds"] == 30
    await first.call("video.configure", maxBitrate=900_000)
    await first.call("scene.loadModel", uri="x")
    first.pose(41, x=2.5)
    await lose(world, first)
    (scene,) = world.scenes
    assert scene.models == [1] and scene.cleared == 0
    assert world.frames.stream is None, "nothing is drawn for nobody"
    assert world.states == [(True, ""), (False, "ConnectionLost")]
    second, told = await world.drive(resume=told["resumeSecret"], width=800, height=450)
    assert told["resumed"] is True
    assert [model["modelId"] for model in told["scene"]["models"]] == [1]
    assert told["video"] == {"width": 800, "height": 450, "maxFramesPerSecond": 60, "maxBitrate": 900_000}
    assert world.frames.opened == 2, "a stream that begins anew begins with a keyframe"
    restored = world.frames.poses[-1]
    assert (restored.pose_id, restored.views[0].position[0]) == (0, 2.5)
    await second.call("scene.loadModel", uri="x")
    assert scene.models == [1, 2] and len(world.scenes) == 1


async def test_the_same_secret_works_again_and_again_until_the_scene_is_gone() -> None:
    world = World()
    device, told = await world.drive()
    secret = told["resumeSecret"]
    for _ in range(3):
        await lose(world, device)
        device, told = await world.drive(resume=secret)
        assert told["resumeSecret"] == secret and told["resumed"]
    device.say_goodbye()
    await world.gone(device)
    assert refusal(world, secret).result is Result.NOTHING_TO_RESUME
    _, told = await world.drive()
    assert told["resumeSecret"] != secret
    assert refusal(world, secret).result is Result.OTHER_SESSION_CONNECTED


@pytest.mark.parametrize("leave", ["goodbye", "close", "delete", "nonsense"])
async def test_leaving_empties_the_scene_at_once(leave: str) -> None:
    world = World()
    device, _ = await world.drive()
    await device.call("scene.loadModel", uri="x")
    if leave == "goodbye":
        device.say_goodbye()
    elif leave == "close":
        await device.call("connection.close")
    elif leave == "delete":
        assert await world.places.leave(device.handler.resource_id)
    else:
        for _ in range(200):
            device.handler.on_control("nonsense")
    await world.gone(device)
    assert world.scenes[0].cleared == 1 and world.scenes[0].models == []
    assert world.places.place is None and device.closed
    await world.drive()


async def test_who_leaves_while_taken_for_lost_leaves_for_good() -> None:
    """A busy machine lets a device be silent for too long; then it says goodbye, and is gone when that is answered."""
    world = World()
    device, _ = await world.drive()
    await device.call("scene.loadModel", uri="x")
    going_on = asyncio.Event()

    async def close_slowly() -> None:
        await going_on.wait()
        device.closed = True

    device.close = close_slowly  # type: ignore[method-assign]
    device.vanish()
    leaving = asyncio.create_task(world.places.leave(device.handler.resource_id))
    await asyncio.sleep(0)
    assert not leaving.done()
    going_on.set()
    assert await leaving
    assert world.places.place is None and world.scenes[0].cleared == 1
    await world.drive()


async def test_a_grace_time_of_nothing_keeps_nothing() -> None:
    world = World(grace=0)
    device, told = await world.drive()
    assert "resumeSecret" not in told
    await lose(world, device)
    assert world.scenes[0].cleared == 1
    assert world.places.place is None


async def test_the_grace_time_ends() -> None:
    world = World(grace=0.05)
    device, told = await world.drive()
    await lose(world, device)
    await until(lambda: world.places.place is None)
    assert world.scenes[0].cleared == 1
    assert refusal(world, told["resumeSecret"]).result is Result.NOTHING_TO_RESUME


async def test_others_are_told_until_when_the_scene_is_kept() -> None:
    world = World()
    device, _ = await world.drive()
    await lose(world, device)
    world.clock += 12
    error = refusal(world)
    assert error.result is Result.OTHER_SESSION_CONNECTED and error.retryable
    assert "until 12:00:30 UTC, 18 s from now" in error.message
    assert "Administrator" in error.next_step


async def test_nothing_but_the_secret_opens_the_place() -> None:
    world = World()
    other, elsewhere = World(), (await World().drive())[1]["resumeSecret"]
    device, told = await world.drive()
    secret: str = told["resumeSecret"]
    wrong = [
        "x", secret[:-1], secret + "x", secret.upper(), secret[::-1], " " + secret, "é" * 43, "\udcff", "x" * 100_000,
        elsewhere, str(other), device.handler.resource_id,
    ]  # fmt: skip
    for attempt in wrong:
        assert refusal(world, attempt).result is Result.OTHER_SESSION_CONNECTED, attempt[:50]
    await lose(world, device)
    for attempt in wrong:
        assert refusal(world, attempt).result is Result.OTHER_SESSION_CONNECTED, attempt[:50]
    assert world.scenes[0].cleared == 0
    _, told = await world.drive(resume=secret)
    assert told["resumed"]


async def test_secrets_are_shown_nowhere() -> None:
    world = World()
    _, told = await world.drive()
    secret = told["resumeSecret"]
    assert secret not in repr(world.places.place)
    assert secret not in repr(Wishes(resume=secret))
    for attempt in ("x", ""):
        assert secret not in str(refusal(world, attempt))


async def test_a_device_that_comes_back_takes_over_from_itself_at_once() -> None:
    world = World()
    first, told = await world.drive()
    world.scenes[0].go_on.clear()
    loading = asyncio.create_task(first.call("scene.loadModel", uri="x"))
    await world.scenes[0].loading.wait()
    second, told = await world.drive(resume=told["resumeSecret"])
    assert told["resumed"] and told["scene"]["models"] == []
    await world.gone(first)
    assert first.closed
    assert [item["reason"] for item in first.told("session.ending")] == ["OtherSessionConnected"]
    world.scenes[0].go_on.set()
    await asyncio.sleep(0)
    assert world.scenes[0].models == [], "what the old connection was still loading leaves nothing behind"
    loading.cancel()
    assert world.places.connected and world.scenes[0].cleared == 0
    assert world.frames.stream is not None, "the end of the old connection leaves the new stream alone"
    await second.call("scene.loadModel", uri="x")
    # What the old transport still says changes nothing.
    first.handler.on_closed("ConnectionLost")
    first.pose(9)
    assert world.places.connected


async def test_a_device_that_fails_to_come_back_may_try_again() -> None:
    world = World()
    device, told = await world.drive()
    await lose(world, device)
    attempt = world.handshake(resume=told["resumeSecret"])
    attempt.handler.on_closed("HandshakeFailed")
    await world.gone(attempt)
    # It gives one way in back before it tries another.
    attempt = world.handshake(resume=told["resumeSecret"])
    assert await world.places.leave(attempt.handler.resource_id)
    assert world.scenes[0].cleared == 0
    _, told = await world.drive(resume=told["resumeSecret"])
    assert told["resumed"]


async def test_a_first_handshake_that_fails_keeps_nothing() -> None:
    world = World()
    attempt = world.handshake()
    attempt.handler.on_closed("HandshakeFailed")
    await world.gone(attempt)
    assert world.places.place is None


async def test_a_silent_device_is_lost_not_gone() -> None:
    world = World()
    device, _ = await world.drive()
    device.silent_since = -1e9
    await world.gone(device)
    assert world.places.place is not None and not world.places.connected
    assert device.told("session.ending") == []


async def test_an_administrator_or_the_device_gives_the_scene_up() -> None:
    for secretly in (False, True):
        world = World()
        device, told = await world.drive()
        with pytest.raises(FarframeError) as caught:
            await world.places.give_up()
        assert caught.value.result is Result.OTHER_SESSION_CONNECTED
        await lose(world, device)
        for wrong in ("", "x", told["resumeSecret"][:-1]):
            with pytest.raises(FarframeError) as caught:
                await world.places.give_up(wrong)
            assert caught.value.result is Result.AUTHENTICATION_FAILED
        await world.places.give_up(told["resumeSecret"] if secretly else None)
        assert world.scenes[0].cleared == 1
        with pytest.raises(FarframeError) as caught:
            await world.places.give_up()
        assert caught.value.result is Result.INVALID_ID
        await world.drive()


async def test_nobody_comes_in_while_the_scene_is_emptied() -> None:
    world = World()
    device, told = await world.drive()
    world.scenes[0].clearing.clear()
    device.say_goodbye()
    await until(lambda: world.frames.closed == 1 and device.closed)
    await until(lambda: world.places._emptying is not None)
    assert refusal(world).result is Result.OTHER_SESSION_CONNECTED
    assert refusal(world, told["resumeSecret"]).result is Result.NOTHING_TO_RESUME
    world.scenes[0].clearing.set()
    await world.gone(device)
    await world.drive()


async def test_the_end_of_the_session_ends_the_grace() -> None:
    world = World()
    device, _ = await world.drive()
    await lose(world, device)
    await world.places.end("SessionExpired", "The lease ran out.")
    assert world.states[-1] == (False, "SessionExpired")


async def test_the_end_of_the_session_is_told_and_keeps_nothing() -> None:
    world = World()
    device, _ = await world.drive()
    await world.places.end("SessionStopped", "It was stopped.")
    assert device.told("session.ending") == [{"reason": "SessionStopped", "message": "It was stopped."}]
    assert world.places.place is None and world.scenes[0].cleared == 1


async def test_the_device_may_give_up_before_the_server_knows_that_it_was_lost() -> None:
    world = World()
    device, told = await world.drive()
    await world.places.give_up(told["resumeSecret"])
    assert device.closed and world.scenes[0].cleared == 1 and world.places.place is None
    assert refusal(world, told["resumeSecret"]).result is Result.NOTHING_TO_RESUME
