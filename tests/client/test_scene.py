"""The device's entities and the server's, with everything but the network between them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from farframe.asset.model import Material, Node
from farframe.client import ConnectionLostError, LoadedModel, Overrides, RequestError, Result, SceneFailure
from farframe.client.components import PointLight
from farframe.client.entities import STATES, Entity
from farframe.client.materials import Texture
from farframe.client.scene import Scene
from farframe.protocol import animations, appearance, messages
from farframe.protocol.appearance import TextureInfo
from farframe.protocol.errors import FarframeError
from farframe.protocol.messages import Bounds, Incoming
from farframe.render.scene import RenderScene
from farframe.server import scene_values
from farframe.server.look_requests import LookRequests
from farframe.server.scene_looks import texture_info
from farframe.server.scene_requests import SceneRequests
from farframe.server.scene_world import SceneWorld, model_tree
from tests.render.shapes import ModelBuilder, box
from tests.server.test_scene_looks import resource


class Models:
    """The server's store of models, as far as entities need it: jobs run at once."""

    def __init__(self) -> None:
        self.world = SceneWorld(RenderScene())

    async def settle(self) -> None:
        """Nothing takes time here."""

    async def run(self, job: Callable[[SceneWorld], Any]) -> Any:
        return job(self.world)


class Loopback:
    """A connection without a network: every message is encoded and decoded as on the wire.

    ``lose``: says which records are lost; ``hold``: batches are answered only when it is set again.
    """

    def __init__(self) -> None:
        self.models = Models()
        self.requests = SceneRequests(self.models, self._forget)  # type: ignore[arg-type]
        self.looks = LookRequests(self.requests)
        self.sent: list[tuple[str, Any]] = []
        self.records: list[bytes] = []
        self.lose: Callable[[], bool] = lambda: False
        self.gone: list[LoadedModel] = []
        self.freed: list[int] = []
        self.changes = 0
        self.broken: Exception | None = None
        self._loads = 0

    async def call(self, method: str, params: Any, kind: Any) -> Any:
        if self.broken is not None:
            raise self.broken
        raw = msgspec.Raw(msgspec.json.encode(params))
        assert len(raw) < messages.MAX_CONTROL_MESSAGE_BYTES
        self.sent.append((method, params))
        handlers = {**self.requests.methods, **self.requests.reading_methods, **self.looks.reading_methods}
        handler = handlers[method]
        try:
            result = await handler(Incoming(method=method, id=1, params=raw))
            if self.broken is not None:
                raise self.broken  # it was done, and the answer was lost
        except FarframeError as error:
            raise RequestError(error.result, error.message) from None
        encoded = msgspec.json.encode(result)
        assert len(encoded) < messages.MAX_CONTROL_MESSAGE_BYTES
        return msgspec.json.decode(encoded, type=kind)

    def send_record(self, data: bytes) -> None:
        if not self.lose():
            self.records.append(data)

    async def load(self, model: str | os.PathLike[str], progress: Any, parent: int) -> LoadedModel:
        for _ in range(3):
            await asyncio.sleep(0)
        await self.requests.settle()
        built = grid(int(str(model)))
        world = self.models.world
        handle = world._scene.add(resource(built), np.eye(4))
        entry = world.add_model(handle, model_tree(built), parent)
        self._loads += 1
        box_of_all = Bounds(min=(0.0, 0.0, 0.0), max=(1.0, 1.0, 1.0))
        return LoadedModel(
            self._loads,
            built.name,
            str(model),
            box_of_all,
            1,
            1,
            1,
            1,
            0,
            root_entity=entry.first,
            entity_count=entry.count,
        )

    async def load_texture(self, texture: str | os.PathLike[str], kind: Any, progress: Any) -> TextureInfo:
        await asyncio.sleep(0)
        await self.requests.settle()
        textures = self.models.world.looks.textures
        cube = kind == "cube"
        found = textures.want(str(texture), cube=cube) or textures.add(
            str(texture), cube=cube, width=8, height=8, levels=1, size_bytes=256
        )
        return texture_info(found)

    async def _forget(self, handles: list[int]) -> None:
        self.freed += handles
        for handle in handles:
            self.models.world._scene.remove(handle)
            self.models.world.remove_model(handle)

    def changed(self) -> None:
        self.changes += 1

    def model_gone(self, model: LoadedModel) -> None:
        self.gone.append(model)

    async def arrive(self, records: list[bytes] | None = None) -> None:
        """Let records arrive at the server."""
        waiting, self.records = (self.records, []) if records is None else (records, self.records)
        for data in waiting:
            self.requests.on_record(data)
        await self.requests.settle()


def grid(parts: int) -> Any:
    """Boxes in a row, an entity each: they show two meshes in turn."""
    builder = ModelBuilder("grid")
    meshes = [builder.part(box(), Material("even")), builder.part(box(), Material("odd"))]
    for number in range(parts):
        builder.place(meshes[number % 2], (float(number), 0, 0))
    built = builder.build()
    built.nodes = [Node(f"part {number}", -1, np.eye(4)) for number in range(parts)]
    for number, node in enumerate(built.nodes):
        node.matrix[0, 3] = number
    built.instance_node = np.arange(parts, dtype=np.int32)
    return built


def assert_same(scene: Scene, world: SceneWorld) -> None:
    """The server has what the device has, and nothing else."""
    graph = world.graph
    entities = list(scene)
    assert len(graph) == len(scene) == len(entities)
    for entity in entities:
        slot = graph.slot(entity.id)
        above = int(graph.parent[slot])
        assert (int(graph.id[above]) if above >= 0 else 0) == (entity.parent.id if entity.parent else 0)
        assert graph.name(slot) == entity.name
        assert bool(graph.enabled[slot]) is entity.enabled
        np.testing.assert_allclose(graph.position[slot], entity.position)
        np.testing.assert_allclose(graph.rotation[slot], entity.rotation, atol=1e-6)
        np.testing.assert_allclose(graph.scale[slot], entity.scale, rtol=1e-6, atol=1e-30)
        for name, bit in STATES.items():
            value = getattr(entity.overrides, name)
            assert bool(graph.force_on[slot] & bit) is (value is not None and value is not False), name
            assert bool(graph.force_off[slot] & bit) is (value is False), name
        if entity.overrides.tint:
            np.testing.assert_allclose(graph.tint[slot], entity.overrides.tint, rtol=1e-6)
    assert_looks_same(scene, world)


def assert_looks_same(scene: Scene, world: SceneWorld) -> None:
    """Materials, textures, components and effects are the same on both sides."""
    looks = world.looks
    told = {info.id: (info.kind, info.values) for info in looks.told_materials(1, (1 << 32) - 1).materials}
    known = {material.id: (material.kind, material._values) for material in scene.materials}
    table, ranks = looks.sub_parts(world.meshes, appearance.SubPartsParams(), 1 << 20)
    # A device that came back knows those materials of models that something is made of still.
    needed = {*looks.materials.made, *table.material.tolist()}
    assert needed <= known.keys() and known == {identifier: told[identifier] for identifier in known}
    assert {texture.id for texture in scene.textures} == looks.textures._wanted
    lights = {
        (light.entity.id, light.kind): light._values
        for entity in scene
        for light in entity.lights
    }  # fmt: skip
    assert lights == {
        (entity, scene_values.light_info(entity, light).kind): scene_values.light_values(light)
        for (entity, _), light in looks.components.lights.items()
    }
    planes = {entity.id: entity.cut_plane._values for entity in scene if entity.cut_plane is not None}
    assert planes == {
        entity: scene_values.cut_plane_values(plane) for entity, plane in looks.components.cut_planes.items()
    }  # fmt: skip
    for name, group in scene._looks.settings.items():
        assert group._values == getattr(looks.effects, name), name
    assert (scene.point_size, scene.single_sided) == (looks.effects.point_size, looks.effects.single_sided)
    assert (scene.sky.id if isinstance(scene.sky, Texture) else 0) == looks.effects.sky.texture
    server = {
        (entity, rank): (override or replaced or material)
        for entity, rank, material, replaced, override in zip(
            table.entity.tolist(), ranks.tolist(), table.material.tolist(), table.replaced.tolist(),
            table.override.tolist(), strict=True,
        )
    }  # fmt: skip
    assert server == {
        (entity.id, rank): material.id
        for entity in scene
        for rank, material in enumerate(entity.used_materials)
        if material is not None
    }


@pytest.fixture
def link() -> Loopback:
    return Loopback()


async def test_what_is_set_is_there_at_once_and_goes_out_as_one_batch(link: Loopback) -> None:
    scene = Scene(link)
    parent = scene.create("parent", position=(1, 2, 3))
    child = scene.create("child", parent=parent)
    child.position = (4, 5, 6)
    child.scale = 2
    child.rotation = (0, 0, 3, 4)
    parent.override(hidden=True, tint=(1, 0, 0, 0.5))
    parent.enabled = False
    assert child.position == (4, 5, 6) and child.scale == (2, 2, 2) and child.rotation == (0, 0, 0.6, 0.8)
    assert parent.children == (child,) and scene.find("child") is child and scene.roots == (parent,)
    assert not link.sent
    await scene.flush()
    assert [method for method, _ in link.sent] == ["scene.apply"]
    assert_same(scene, link.models.world)
    assert link.changes == 1
    await scene.flush()
    assert len(link.sent) == 1


async def test_without_waiting_it_goes_out_with_the_next_turn(link: Loopback) -> None:
    scene = Scene(link)
    scene.create("a")
    for _ in range(5):
        await asyncio.sleep(0)
    assert_same(scene, link.models.world)


async def test_a_batch_holds_back_until_its_end_and_tells_what_was_refused(link: Loopback) -> None:
    scene = Scene(link)
    told: list[SceneFailure] = []
    scene.on_failure(told.append)
    async with scene.batch():
        entity = scene.create("a")
        await asyncio.sleep(0.01)
        assert not link.sent
    assert len(link.sent) == 1
    link.models.world.graph.destroy(entity.id)  # as no server does
    with pytest.raises(RequestError) as caught:
        async with scene.batch():
            entity.position = (1, 0, 0)
    assert caught.value.result is Result.INVALID_ID
    assert [failure.result for failure in told] == [Result.INVALID_ID]
    await scene.flush()


async def test_what_can_be_seen_to_be_wrong_is_raised_at_once_and_changes_nothing(link: Loopback) -> None:
    scene = Scene(link)
    a = scene.create("a")
    b = scene.create("b", parent=a)

    def refused(result: Result, call: Callable[[], Any]) -> None:
        with pytest.raises(RequestError) as caught:
            call()
        assert caught.value.result is result

    refused(Result.CYCLIC_REFERENCE, lambda: setattr(a, "parent", b))
    refused(Result.CYCLIC_REFERENCE, lambda: setattr(a, "parent", a))
    refused(Result.STRING_TOO_LONG, lambda: setattr(a, "name", "x" * 1025))
    refused(Result.STRING_TOO_LONG, lambda: scene.create("x" * 1025))
    for call in (
        lambda: setattr(a, "position", (0, 0)),
        lambda: setattr(a, "position", (0, 0, float("nan"))),
        lambda: setattr(a, "rotation", (0, 0, 0, 0)),
        lambda: scene.create(position=(0, 0, 1e16)),
        lambda: a.override(tint=(2, 0, 0, 1)),
        lambda: a.override(tint=True),
        lambda: a.override(cut_plane_mask=256),
        lambda: a.override(cut_plane_mask=True),
        lambda: a.override(hidden=0),
        lambda: scene.group([a, b]).override(selected="no"),
        lambda: scene.group([a, b]).set(positions=np.zeros((3, 3))),
    ):
        with pytest.raises(ValueError):
            call()
    c = scene.create("c", parent=b)
    b.destroy()
    b.destroy()
    assert not b.valid and not c.valid and not a.children
    refused(Result.INVALID_ID, lambda: setattr(c, "position", (0, 0, 0)))
    refused(Result.INVALID_ID, lambda: setattr(a, "parent", c))
    refused(Result.INVALID_ID, lambda: scene.create(parent=c))
    refused(Result.INVALID_ID, lambda: scene.group([c]))
    await scene.flush()
    assert_same(scene, link.models.world)


async def test_states_are_said_by_what_comparing_arrays_gives(link: Loopback) -> None:
    """``False`` of an array is another object than Python's own, and must not force a state on."""
    scene = Scene(link)
    near, far = scene.create("near"), scene.create("far")
    for entity, hidden in zip((near, far), np.array([1.0, 9.0]) > 5.0, strict=True):
        entity.override(hidden=hidden)
    far.override(cut_plane_mask=np.uint8(3), tint=np.array([1.0, 0.5, 0.0, 1.0]))
    assert near.overrides == Overrides(hidden=False)
    assert far.overrides == Overrides(hidden=True, cut_plane_mask=3, tint=(1.0, 0.5, 0.0, 1.0))
    await scene.flush()
    assert_same(scene, link.models.world)
    graph = link.models.world.graph
    slot = graph.slot(near.id)
    assert (graph.force_on[slot], graph.force_off[slot]) == (0, STATES["hidden"])


@pytest.mark.parametrize("end", [(0, 0), (0, 0, float("nan")), (0, 0, float("inf")), 1.0])
async def test_a_place_of_a_question_is_three_finite_numbers(link: Loopback, end: Any) -> None:
    scene = Scene(link)
    for question in (
        scene.cast_ray((0, 0, 5), end),
        scene.overlap_box((0, 0, 0), end),
        scene.overlap_sphere(end, 1),
        scene.overlap_oriented_box((0, 0, 0), end),
    ):
        with pytest.raises(ValueError, match="three finite numbers"):
            await question


async def test_a_model_is_mirrored_in_pages_and_its_root_takes_it_out(link: Loopback) -> None:
    scene = Scene(link)
    shelf = scene.create("shelf", position=(0, 9, 0))
    root = await scene.load_model("3000", parent=shelf)
    assert root.model is not None and root.name == "grid" and len(root.children) == 3000
    part = root.find("part 7")
    assert part is not None and part.has_mesh and part.position == (7, 0, 0)
    assert_same(scene, link.models.world)
    part.override(hidden=True)
    assert (await part.bounds()) == Bounds(min=(6, 8, -1), max=(8, 10, 1))
    assert (await root.bounds("local")) == Bounds(min=(-1, -1, -1), max=(3000, 1, 1))
    assert await shelf.metadata() == {}
    assert link.models.world._scene.entries[1].visible.sum() == 2999
    shelf.destroy()
    await scene.flush()
    assert link.freed == [1] and [model.model_id for model in link.gone] == [1]
    assert not len(scene) and not len(link.models.world.graph)


async def test_where_models_are_is_known_when_their_roots_were_moved(link: Loopback) -> None:
    scene = Scene(link)
    assert scene._boxes([]) == []
    stand = scene.create("stand", position=(0, 1e7, 0), scale=(2, 2, 2))
    root, other = await scene.load_model("3", parent=stand), await scene.load_model("2")
    models = []
    for loaded in (root, other):
        box_in_file = await loaded.bounds("local")
        assert loaded.model is not None and box_in_file is not None
        models.append(replace(loaded.model, bounds=box_in_file))
    for position, scale in (((0, 0, 0), 1), ((5, -3, 1e9), -2), ((1, 2, 3), (0.5, 4, -1))):
        root.position, root.scale = position, scale
        for known, entity in zip(scene._boxes(models), (root, other), strict=True):
            truly = await entity.bounds()
            assert truly is not None
            np.testing.assert_allclose(known.min, truly.min, rtol=1e-12)
            np.testing.assert_allclose(known.max, truly.max, rtol=1e-12)
    root.rotation = stand.rotation = (0.2, 0.1, 0.7, 0.6)
    (known, _), truly = scene._boxes(models), await root.bounds()
    assert truly is not None
    # The server has rotations in single precision.
    assert (np.array(known.min) <= np.add(truly.min, 1e-5)).all() and (
        np.array(known.max) >= np.subtract(truly.max, 1e-5)
    ).all()
    assert not scene._scattered
    root.position, root.scale = (1e15, 1e15, 1e15), (1e15, 1e15, 1e15)
    assert all(np.isfinite([*known.min, *known.max]).all() for known in scene._boxes(models))


@pytest.mark.parametrize("how", ["placed", "grouped", "streamed", "hung elsewhere", "played"])
async def test_parts_that_move_within_their_model_are_noticed(link: Loopback, how: str) -> None:
    scene = Scene(link)
    root = await scene.load_model("3")
    part = root.children[0]
    scene.create("own").position = (1, 0, 0)
    scene.group([root]).set(positions=[(0, 0, 5)], streaming=True)
    root.parent = scene.create("stand")
    assert not scene._scattered
    if how == "placed":
        part.scale = 2
    elif how == "hung elsewhere":
        part.parent = None
    elif how == "played":
        scene._enqueue(animations.SetAnimation(id=root.id, clip=0, state="playing"))
    else:
        scene.group([root, part]).set(positions=[(0, 0, 5)], streaming=how == "streamed")
    assert scene._scattered
    scene._forget_model(None)
    assert not scene._scattered
    await scene.close()


async def test_groups_set_thousands_in_one_message(link: Loopback) -> None:
    scene = Scene(link)
    root = await scene.load_model("5000")
    group = scene.group(root.children)
    link.sent.clear()
    positions = np.random.default_rng(1).normal(size=(5000, 3))
    group.positions = positions
    group.override(selected=True)
    await scene.flush()
    assert len(link.sent) <= 5
    np.testing.assert_array_equal(group.positions, positions)
    assert_same(scene, link.models.world)
    root.children[3].destroy()
    with pytest.raises(RequestError, match="destroyed"):
        group.positions = positions
    with pytest.raises(TypeError):
        scene.group(root.children).override(invisible=True)


async def test_streamed_transforms_may_be_lost_and_the_last_is_made_sure_of(link: Loopback) -> None:
    scene = Scene(link)
    root = await scene.load_model("2500")
    group = scene.group(root.children)
    await scene.flush()
    chance = random.Random(3)
    link.lose = lambda: chance.random() < 0.5
    for step in range(10):
        group.set(positions=group.positions + np.array([0, 1, 0]), rotations=[[0, 0, step, 1]], streaming=True)
        chance.shuffle(link.records)
        await link.arrive(link.records[: len(link.records) // 2])
    assert link.records, "some arrive later than all that is sure"
    async with asyncio.timeout(60):
        while scene._rest is not None:
            await asyncio.sleep(0.02)
    await scene.flush()
    assert_same(scene, link.models.world)
    await link.arrive()
    assert_same(scene, link.models.world)


async def test_a_connection_that_came_back_takes_over_what_is_there(link: Loopback) -> None:
    scene = Scene(link)
    shelf = scene.create("shelf")
    shelf.override(tint=(0, 0, 1, 1), hidden=False, cut_plane_mask=3)
    await scene.load_model("20", parent=shelf)
    scene.create("other", enabled=False)
    await scene.flush()
    model = next(entity.model for entity in scene if entity.model is not None)
    back = Scene(link)
    await back.restore([model])
    assert_same(back, link.models.world)
    found = back.find("shelf")
    assert found is not None
    assert found.overrides == Overrides(tint=(0, 0, 1, 1), hidden=False, cut_plane_mask=3)
    new = back.create("new", parent=found)
    await back.flush()
    assert new.id not in (shelf.id,)
    assert_same(back, link.models.world)


async def test_a_connection_that_has_ended_says_why(link: Loopback) -> None:
    scene = Scene(link)
    scene.create("a")
    link.broken = ConnectionLostError(Result.CONNECTION_LOST, "Gone.")
    with pytest.raises(ConnectionLostError):
        await scene.flush()
    link.broken = None
    await scene.resumed()
    await scene.flush()
    assert_same(scene, link.models.world)
    await scene.close()


class Gate:
    """Has the link do what it is asked, and keep each answer back until it is let go."""

    def __init__(self, link: Loopback) -> None:
        self.kept: list[asyncio.Event] = []
        self._call = link.call
        link.call = self.call  # type: ignore[method-assign]

    async def call(self, method: str, params: Any, kind: Any) -> Any:
        result = await self._call(method, params, kind)
        self.kept.append(asyncio.Event())
        await self.kept[-1].wait()
        return result

    async def until(self, count: int) -> None:
        """Wait until so many answers were kept back."""
        async with asyncio.timeout(60):
            while len(self.kept) < count:
                await asyncio.sleep(0)


async def test_what_is_set_later_waits_for_itself(link: Loopback) -> None:
    scene, gate = Scene(link), Gate(link)
    entity = scene.create("a")
    first = asyncio.create_task(scene.flush())
    await gate.until(1)
    link.models.world.graph.destroy(entity.id)  # as no server does
    entity.position = (1, 0, 0)
    await gate.until(2)
    second = asyncio.create_task(scene.flush())
    await asyncio.sleep(0)
    scene.create("b")
    await gate.until(3)
    # What comes later may be answered, and refused, before.
    gate.kept[1].set()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(first), 0.01)
    gate.kept[0].set()
    await asyncio.wait_for(first, 60)
    with pytest.raises(RequestError) as caught:
        await asyncio.wait_for(second, 60)
    assert caught.value.result is Result.INVALID_ID
    gate.kept[2].set()
    await scene.flush()
    await scene.close()


async def test_a_question_waits_for_what_was_set_before_it_and_not_for_more(link: Loopback) -> None:
    scene, gate = Scene(link), Gate(link)
    entity = scene.create("a")
    for number in range(20):
        entity.position = (number, 0, 0)
        scene._send()
    asking = asyncio.create_task(entity.metadata())
    await gate.until(16)
    for number in range(30):
        entity.position = (number, 1, 0)
        scene._send()
    for number in range(4):
        gate.kept[number].set()
    await gate.until(21)
    assert [method for method, _ in link.sent] == ["scene.apply"] * 20 + ["scene.getMetadata"]
    gate.kept[20].set()
    assert await asyncio.wait_for(asking, 60) == {}
    await scene.close()


async def test_what_a_broken_line_kept_back_is_not_taken_for_done(link: Loopback) -> None:
    scene = Scene(link)
    scene.create("a")
    call, waiting = link.call, asyncio.Event()

    async def waits_for_a_line(method: str, params: Any, kind: Any) -> Any:
        waiting.set()
        await asyncio.Event().wait()

    link.call = waits_for_a_line  # type: ignore[method-assign]
    flushing = asyncio.create_task(scene.flush())
    await waiting.wait()
    link.call = call  # type: ignore[method-assign]
    gate = Gate(link)
    await scene.resumed()
    await gate.until(1)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not flushing.done()
    gate.kept[0].set()
    await asyncio.wait_for(flushing, 60)
    await scene.close()


async def test_who_waits_for_a_scene_that_is_closed_is_told(link: Loopback) -> None:
    scene, gate = Scene(link), Gate(link)
    scene.create("a")
    flushing = asyncio.create_task(scene.flush())
    await gate.until(1)
    await scene.close(ConnectionLostError(Result.CONNECTION_LOST, "Gone."))
    with pytest.raises(ConnectionLostError, match="Gone"):
        await asyncio.wait_for(flushing, 60)


async def test_what_was_streamed_is_done_when_the_server_has_done_all(link: Loopback) -> None:
    scene = Scene(link)
    root = await scene.load_model("3")
    link.lose = lambda: True
    scene.group(root.children).set(positions=[(5, 6, 7)], streaming=True)
    await scene.flush()
    assert_same(scene, link.models.world)
    await scene.close()


async def test_many_structural_changes_are_split_and_stay_in_order(link: Loopback) -> None:
    scene = Scene(link)
    top = scene.create("top")
    for number in range(3500):
        entity = scene.create("x" * (number % 900), parent=top)
        if number % 3 == 0:
            entity.destroy()
    await scene.flush()
    assert_same(scene, link.models.world)


async def test_sub_parts_come_in_pages_that_may_split_an_entity(
    link: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appearance, "SUB_PART_PAGE", 2)
    built = grid(7)
    built.instance_node = np.array([0, 0, 0, 0, 0, 1, 2], np.int32)
    monkeypatch.setattr("tests.client.test_scene.grid", lambda parts: built)
    scene = Scene(link)
    root = await scene.load_model("7")
    assert [len(part.materials) for part in root.children] == [5, 1, 1, 0, 0, 0, 0]
    first = root.children[0]
    red = scene.create_material("color")
    first.materials[3] = red
    first.materials[0:2] = red
    assert list(first.materials) == [red, red, None, red, None] and first.materials[1:3] == (red, None)
    with pytest.raises(IndexError):
        first.materials[5] = red
    await scene.flush()
    assert sum(method == "scene.getSubParts" for method, _ in link.sent) == 4
    assert_same(scene, link.models.world)
    scene.group(root.children).dress(red)
    assert all(material is red for part in root.children for material in part.used_materials)
    await scene.flush()
    assert_same(scene, link.models.world)


async def test_a_texture_that_was_destroyed_is_seen_for_as_long_as_it_is_used(link: Loopback) -> None:
    scene = Scene(link)
    texture = await scene.load_texture("upload://a")
    assert await scene.load_texture("upload://a") is texture
    material = scene.create_material(albedo_map=texture)
    texture.destroy()
    with pytest.raises(RequestError, match="none of this scene"):
        material.normal_map = texture
    assert material.albedo_map is texture and not texture.valid and not scene.textures
    await scene.flush()
    back = Scene(link)
    await back.restore()
    (again,) = back.materials
    assert isinstance(again.albedo_map, Texture) and not again.albedo_map.valid and not back.textures
    assert_same(back, link.models.world)
    again.albedo_map = None
    await back.flush()
    assert [freed.id for freed in link.models.world.looks.freed] == [texture.id]
    # A load whose caller has gone leaves nothing, unless it was there before.
    late = texture_info(link.models.world.looks.textures.add("b", cube=True, width=1, height=1, levels=1, size_bytes=4))
    back._discard_texture(late)
    await back.flush()
    assert not len(link.models.world.looks.textures)


async def test_a_texture_that_nobody_has_is_taken_out_once_none_is_loading(link: Loopback) -> None:
    scene = Scene(link)
    textures = link.models.world.looks.textures

    def at_the_server(uri: str) -> TextureInfo:
        found = textures.want(uri, cube=False)
        return texture_info(found or textures.add(uri, cube=False, width=1, height=1, levels=1, size_bytes=4))

    held, destroyed = await scene.load_texture("held"), await scene.load_texture("named")
    scene.create_material(albedo_map=destroyed)
    destroyed.destroy()
    await scene.flush()
    lost = [at_the_server(uri) for uri in ("lost", "again", "named")]
    # While one is loading it may be this one.
    loading = asyncio.create_task(scene.load_texture("again"))
    while not scene._looks.loading:
        await asyncio.sleep(0)
    await scene._discard_unknown_textures()
    again = await loading
    assert again.id == lost[1].id
    await scene.flush()
    assert textures._wanted == {held.id, again.id}
    # One that its program had destroyed by then is none that anybody should hear of.
    given_up = at_the_server("late")
    textures.unwant(given_up.id)
    scene._discard_texture(given_up)
    scene._discard_texture(texture_info(textures.get(destroyed.id)))
    await scene.flush()
    assert textures._wanted == {held.id, again.id} and again.valid and held.valid
    await scene.close()


async def test_a_load_that_is_given_up_as_its_answer_comes_leaves_no_texture(link: Loopback) -> None:
    scene = Scene(link)
    load = link.load_texture

    async def given_up(texture: Any, kind: Any, progress: Any) -> TextureInfo:
        scene._discard_texture(await load(texture, kind, progress))
        raise asyncio.CancelledError

    link.load_texture = given_up  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await scene.load_texture("upload://a")
    await scene.flush()
    assert not link.models.world.looks.textures._wanted
    await scene.close()


async def test_what_goes_takes_its_materials_and_components_along(link: Loopback) -> None:
    scene = Scene(link)
    root = await scene.load_model("4")
    part, other = root.children[0], root.children[1]
    own = part.mesh.materials[0] if part.mesh is not None else None
    assert own is not None and own.is_own and own.name == "even"
    for call in (lambda: setattr(own, "roughness", 2), lambda: own.set(metalness=0.5, roughness="x")):
        with pytest.raises(ValueError):
            call()
    assert own.metalness == 1.0
    with pytest.raises(TypeError):
        own.set(shininess=1)
    with pytest.raises(RequestError, match="goes with its model"):
        own.destroy()
    twin = own.copy(name="twin")
    other.materials[0] = twin
    with twin.overridden(fade_out=0.25):
        assert twin.fade_out == 0.25
    assert twin.fade_out == 1.0 and twin.name == "twin" and twin.roughness == own.roughness
    third = root.children[2]
    third.materials[0] = own
    again = await scene.load_model("2")
    left, right = again.children
    left.materials[0] = own
    assert right.mesh is not None
    right.mesh.materials[0] = own
    assert left.used_materials == (own,) and right.used_materials == (own,)
    light = part.add_point_light(intensity=3)
    assert part.component(PointLight) is light and part.components == (light,)
    other.parent = None
    await scene.flush()
    assert_same(scene, link.models.world)
    root.destroy()
    assert list(left.materials) == [None] and left.used_materials == (left.mesh.materials[0],)
    assert right.mesh.materials[0] is not None and right.mesh.materials[0].valid
    assert not own.valid and not light.valid and not part.valid and other.valid
    with pytest.raises(RequestError):
        left.materials[0] = own
    assert other.mesh is None and not other.materials
    for refused in (lambda: setattr(own, "roughness", 0.5), lambda: light.set(intensity=1)):
        with pytest.raises(RequestError):
            refused()
    await scene.flush()
    assert_same(scene, link.models.world)


async def test_however_large_a_batch_is_it_is_done_at_once(link: Loopback) -> None:
    scene = Scene(link)
    done: list[int] = []
    apply = link.models.world.apply

    def counted(commands: Any, sequence: int = 0) -> Any:
        done.append(len(commands))
        return apply(commands, sequence)

    link.models.world.apply = counted  # type: ignore[method-assign]
    async with scene.batch():
        top = scene.create("top")
        for number in range(6000):
            scene.create("\0" * 300 if number % 50 == 0 else "plain", parent=top)
    assert done == [6001] and len(link.sent) > 4
    assert_same(scene, link.models.world)
    # A connection that breaks in the middle of a batch, and comes back.
    done.clear()
    link.sent.clear()
    calls = 0
    call = link.call

    async def breaking(method: str, params: Any, kind: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            link.broken = ConnectionLostError(Result.CONNECTION_LOST, "Gone.")
        return await call(method, params, kind)

    link.call = breaking  # type: ignore[method-assign]
    for entity in list(scene):
        entity.name = "renamed " * 20
    with pytest.raises(ConnectionLostError):
        await scene.flush()
    assert not done
    link.requests.disconnect()
    link.broken = None
    await scene.resumed()
    await scene.flush()
    assert done == [6001]
    assert_same(scene, link.models.world)


# Random use, with records lost and late, and connections that break -------------------------------------------------

VECTORS = st.tuples(*[st.floats(-1e6, 1e6)] * 3)
FORCE = st.sampled_from([True, False, None])
STEPS = st.one_of(
    st.tuples(st.just("create"), st.integers(-1, 20), VECTORS),
    st.tuples(st.just("destroy"), st.integers(0, 20)),
    st.tuples(st.just("parent"), st.integers(0, 20), st.integers(-1, 20)),
    st.tuples(st.just("place"), st.integers(0, 20), VECTORS),
    st.tuples(st.just("stream"), st.lists(st.integers(0, 20), min_size=1, max_size=5), VECTORS),
    st.tuples(st.just("enable"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("override"), st.integers(0, 20), FORCE, FORCE),
    st.tuples(
        st.just("tint"), st.integers(0, 20), st.none() | st.just(False) | st.tuples(*[st.floats(0, 1, width=32)] * 4)
    ),
    st.tuples(st.just("rename"), st.integers(0, 20), st.text(max_size=5)),
    st.tuples(st.just("load"), st.integers(-1, 20)),
    st.tuples(st.just("turn")),
    st.tuples(st.just("material"), st.integers(0, 5), st.sampled_from(["pbr", "color"]), st.floats(0, 1)),
    st.tuples(st.just("edit"), st.integers(0, 9), st.floats(0, 1), st.booleans()),
    st.tuples(st.just("unmake"), st.integers(0, 9)),
    st.tuples(st.just("wear"), st.integers(0, 20), st.integers(-1, 9)),
    st.tuples(st.just("mesh"), st.integers(0, 20), st.integers(-1, 9)),
    st.tuples(st.just("texture"), st.integers(0, 3), st.sampled_from(["2d", "cube"])),
    st.tuples(st.just("map"), st.integers(0, 9), st.integers(-1, 5)),
    st.tuples(st.just("untexture"), st.integers(0, 5)),
    st.tuples(st.just("light"), st.integers(0, 20), st.sampled_from(["point", "spot", "directional"]), st.floats(0, 9)),
    st.tuples(st.just("unlight"), st.integers(0, 20), st.integers(0, 2)),
    st.tuples(st.just("plane"), st.integers(0, 20), st.booleans(), st.integers(0, 255)),
    st.tuples(st.just("unplane"), st.integers(0, 20)),
    st.tuples(st.just("effects"), st.integers(0, 20), st.floats(0, 1)),
    st.tuples(st.just("sky"), st.integers(-1, 5)),
    st.tuples(st.just("arrive"), st.integers(0, 3)),
    st.tuples(st.just("break")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("reconnect")),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(STEPS, max_size=60), st.randoms(use_true_random=False))
def test_whatever_is_done_the_server_ends_up_with_what_the_device_has(steps: list[Any], chance: random.Random) -> None:
    asyncio.run(play(steps, chance))


async def play(steps: list[Any], chance: random.Random) -> None:
    link = Loopback()
    link.lose = lambda: chance.random() < 0.4
    scene = Scene(link)

    def pick(number: int) -> Entity | None:
        entities = list(scene)
        return entities[number % len(entities)] if entities and number >= 0 else None

    for step, *values in steps:
        entity = pick(values[0]) if values and isinstance(values[0], int) else None
        if step == "create":
            scene.create(parent=entity, position=values[1])
        elif step == "break":
            link.broken = ConnectionLostError(Result.CONNECTION_LOST, "Gone.")
        elif step == "resume" or (step in ("load", "reconnect") and link.broken is not None):
            await resume(link, scene)
        elif step == "load":
            await scene.load_model("3", parent=entity)
        elif step == "turn":
            await asyncio.sleep(0)
        elif step == "arrive":
            some = link.records[: values[0]]
            chance.shuffle(some)
            del link.records[: values[0]]
            await link.arrive(some)
        elif step == "reconnect":
            await scene.flush()
            if scene._rest is not None:
                scene._make_sure()
                await scene.flush()
            await scene.close()
            link.requests.disconnect()
            models = [root.model for root in scene if root.model is not None]
            scene = Scene(link)
            await scene.restore(models)
            link.records.clear()
        elif step in LOOKS:
            await dress(scene, link, entity, step, values)
        elif step == "stream":
            group = scene.group(list({item for number in values[0] if (item := pick(number)) is not None}))
            group.set(positions=[values[1]], streaming=True)
        elif entity is None:
            continue
        elif step == "destroy":
            entity.destroy()
        elif step == "parent":
            above = pick(values[1])
            if above is not None and entity in _above(above):
                with pytest.raises(RequestError):
                    entity.parent = above
            else:
                entity.parent = above
        elif step == "place":
            entity.position = values[1]
        elif step == "enable":
            entity.enabled = values[1]
        elif step == "override":
            entity.override(hidden=values[1], selected=values[2])
        elif step == "tint":
            entity.override(tint=values[1])
        elif step == "rename":
            entity.name = values[1]
    await resume(link, scene)
    await scene.flush()
    if scene._rest is not None:
        scene._make_sure()
    await scene.flush()
    await link.arrive()
    assert_same(scene, link.models.world)
    await scene.close()


LOOKS = {
    "material", "edit", "unmake", "wear", "mesh", "texture", "map", "untexture", "light", "unlight", "plane", "unplane",
    "effects", "sky",
}  # fmt: skip


async def dress(scene: Scene, link: Loopback, entity: Entity | None, step: str, given: list[Any]) -> None:
    """A step that changes looks."""
    materials, textures = scene.materials, scene.textures
    made = [material for material in materials if not material.is_own]

    def one(items: Any, number: int) -> Any:
        return items[number % len(items)] if items and number >= 0 else None

    material = one(materials, given[0])
    if step == "material":
        scene.create_material(given[1], roughness=given[2], name=str(given[0]))
    elif step == "edit" and material is not None:
        material.set(fade_out=given[1], double_sided=given[2], albedo_color=(given[1], 0, 0, 1))
    elif step == "unmake" and made:
        one(made, given[0]).destroy()
    elif step == "map" and material is not None:
        texture = one(textures, given[1])
        if texture is not None and texture.kind == "cube":
            with pytest.raises(ValueError, match="2D texture"):
                material.normal_map = texture
        else:
            material.normal_map = texture
    elif step == "texture":
        if link.broken is None:
            await scene.load_texture(f"upload://{given[0]}", kind=given[1])
    elif step == "untexture" and textures:
        one(textures, given[0]).destroy()
    elif step == "effects":
        scene.outline.pulse_intensity = given[1]
        scene.debug.set(wireframe=given[0] % 2 == 0, edges=given[1] > 0.5)
        scene.point_size = given[1]
        scene.single_sided = "normal" if given[0] < 9 else "alwaysDoubleSided"
    elif step == "sky":
        scene.sky = one(textures, given[0]) or "builtin://Studio"
    elif entity is None:
        return
    elif step in ("wear", "mesh") and entity.mesh is not None:
        if step == "wear":
            entity.materials[0] = one(materials, given[1])
        else:
            entity.mesh.materials[0] = one(materials, given[1])
    elif step == "light":
        add = {"point": entity.add_point_light, "spot": entity.add_spot_light}.get(
            given[1], entity.add_directional_light
        )
        if any(light.kind == given[1] for light in entity.lights):
            with pytest.raises(RequestError, match="has a"):
                add(intensity=given[2])
            one(entity.lights, 0).set(intensity=given[2], enabled=given[2] > 1)
        else:
            add(intensity=given[2])
    elif step == "unlight" and entity.lights:
        one(entity.lights, given[1]).remove()
    elif step == "plane":
        plane = entity.cut_plane or entity.add_cut_plane()
        plane.set(enabled=given[1], filter_mask=given[2])
    elif step == "unplane" and entity.cut_plane is not None:
        entity.cut_plane.remove()


async def resume(link: Loopback, scene: Scene) -> None:
    """The connection breaks, if it has not, and comes back."""
    link.broken = None
    link.records.clear()
    await scene.resumed()


def _above(entity: Entity | None) -> list[Entity]:
    found = []
    while entity is not None:
        found.append(entity)
        entity = entity.parent
    return found
