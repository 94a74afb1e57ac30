"""Requests about entities: in order, whatever waits, and nothing is lost when a device cancels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message
from farframe.render.scene import RenderScene
from farframe.server.scene_requests import MAX_WAITING_RECORDS, SceneRequests
from farframe.server.scene_world import SceneWorld


class Models:
    """Jobs wait in a queue until the test lets a frame pass, as in the render thread."""

    def __init__(self) -> None:
        self.world = SceneWorld(RenderScene())
        self.jobs: list[tuple[Callable[[SceneWorld], Any], asyncio.Future[Any]]] = []

    async def settle(self) -> None:
        """Nothing takes time here."""

    async def run(self, job: Callable[[SceneWorld], Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.jobs.append((job, future))
        return await future

    async def frame(self) -> None:
        await turns()
        jobs, self.jobs = self.jobs, []
        for job, future in jobs:
            try:
                future.set_result(job(self.world))
            except FarframeError as error:
                future.set_exception(error)
        await turns()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Device:
    """Asks as a device does: without waiting for answers."""

    def __init__(self) -> None:
        self.models = Models()
        self.forgotten: list[int] = []
        self.requests = SceneRequests(self.models, self._forget)  # type: ignore[arg-type]

    async def _forget(self, handles: list[int]) -> None:
        self.forgotten += handles

    def ask(self, method: str, params: Message) -> asyncio.Task[Any]:
        raw = msgspec.Raw(msgspec.json.encode(params))
        handler = {**self.requests.methods, **self.requests.reading_methods}[method]
        return asyncio.ensure_future(handler(Incoming(method=method, id=1, params=raw)))  # type: ignore[arg-type]

    def apply(self, *commands: wire.Command) -> asyncio.Task[Any]:
        return self.ask("scene.apply", wire.ApplyParams(commands=wire.encode_commands(list(commands))))


async def test_questions_are_answered_after_the_batches_before_them() -> None:
    device = Device()
    first = device.apply(wire.Create(id=1, name="first"))
    page = device.ask("scene.getEntities", wire.EntitiesParams())
    second = device.apply(wire.SetName(id=1, name="second"))
    later = device.ask("scene.getEntities", wire.EntitiesParams())
    bounds = device.ask("scene.getBounds", wire.BoundsParams(entity=1))
    for _ in range(3):
        await device.models.frame()
        await asyncio.sleep(0.05)
    assert (await first).applied == (await second).applied == 1
    names = []
    for task in (page, later):
        result = await task
        names.append(wire.unpack_entities(result.count, result.data).names)
    assert names == [["first"], ["second"]]
    assert (await bounds).bounds is None


async def test_a_batch_that_was_sent_is_done_even_if_it_is_cancelled() -> None:
    device = Device()
    task = device.apply(wire.Create(id=1))
    await turns()
    task.cancel()
    await device.models.frame()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 in device.models.world.graph
    await device.requests.settle()


async def test_a_batch_of_several_messages_is_done_at_once_when_the_last_has_come() -> None:
    device = Device()

    def part(*commands: wire.Command, more: bool = True) -> asyncio.Task[Any]:
        params = wire.ApplyParams(commands=wire.encode_commands(list(commands)), more=more)
        return device.ask("scene.apply", params)

    assert (await part(wire.Create(id=1), wire.Create(id=1))).applied == 0
    assert (await part(wire.Create(id=2))).applied == 0
    assert not device.models.jobs
    last = part(wire.Create(id=2), wire.Create(id=3), more=False)
    await device.models.frame()
    result = await last
    assert result.applied == 3 and [failure.index for failure in result.failures] == [1, 3]
    assert (await part(wire.Create(id=4))).applied == 0
    device.requests.disconnect()
    alone = part(wire.Create(id=5), more=False)
    await device.models.frame()
    assert (await alone).applied == 1 and 4 not in device.models.world.graph


async def test_a_batch_that_is_too_large_is_refused_whole_and_holds_no_memory() -> None:
    device = Device()
    commands = wire.encode_commands([wire.SetName(id=1, name="x")]) * wire.MAX_COMMANDS

    async def send(*, more: bool) -> Result | None:
        try:
            await device.ask("scene.apply", wire.ApplyParams(commands=commands, more=more))
        except FarframeError as error:
            return error.result
        return None

    results = [await send(more=True) for _ in range(20)]
    most = wire.MAX_BATCH_COMMANDS // wire.MAX_COMMANDS
    assert results == [None] * most + [Result.INVALID_PARAM] * (20 - most)
    assert not device.requests._begun.commands
    assert await send(more=False) is Result.INVALID_PARAM
    task = device.apply(wire.Create(id=1))
    await device.models.frame()
    assert (await task).applied == 1


async def test_unknown_entities_and_wrong_parameters_are_typed_errors() -> None:
    device = Device()
    for method, params, result in (
        ("scene.getBounds", wire.BoundsParams(entity=9), Result.INVALID_ID),
        ("scene.getMetadata", wire.MetadataParams(entity=9), Result.INVALID_ID),
        ("scene.getBounds", wire.EntitiesParams(), Result.INVALID_PARAM),
        ("scene.apply", wire.ApplyParams(commands=[], sequence=-1), Result.INVALID_PARAM),
    ):
        task = device.ask(method, params)
        await device.models.frame()
        with pytest.raises(FarframeError) as caught:
            await task
        assert caught.value.result is result


async def test_a_flood_of_records_waits_in_bounded_space_and_the_newest_count() -> None:
    device = Device()
    made = device.apply(wire.Create(id=1))
    await device.models.frame()
    await made
    for number in range(1, 20 * MAX_WAITING_RECORDS):
        record = wire.TransformsRecord(number, np.array([1], np.uint32), np.array([[number, 0.0, 0.0]]))
        device.requests.on_record(wire.encode_transforms(record))
        await asyncio.sleep(0)
    assert len(device.models.jobs) == 1
    assert len(device.requests._records) <= MAX_WAITING_RECORDS
    await device.models.frame()
    assert device.models.world.graph.position[device.models.world.graph.slot(1), 0] == 20 * MAX_WAITING_RECORDS - 1
    with pytest.raises(FarframeError):
        device.requests.on_record(b"\x03garbage")
    await device.requests.settle()


async def test_failures_of_a_large_batch_fit_into_an_answer() -> None:
    device = Device()
    task = device.apply(*[wire.Destroy(id=number + 1) for number in range(wire.MAX_COMMANDS)])
    await device.models.frame()
    result = await task
    assert result.applied == 0 and len(result.failures) == wire.MAX_COMMANDS
    assert len(msgspec.json.encode(result)) < 256 * 1024
