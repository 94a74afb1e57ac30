"""Commands and records on the entities of a scene, as they come from a device: against a simple model, and hostile."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from farframe.asset.model import Material, Node
from farframe.protocol import scene as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.render.scene import RenderScene
from farframe.scene.graph import FIRST_MODEL_ID, Graph
from farframe.scene.states import State
from farframe.scene.transforms import compose
from farframe.server.scene_world import SceneWorld, model_tree
from tests.render.shapes import ModelBuilder, box


@dataclass(eq=False)
class Resource:
    """What the renderer's scene reads of a resource."""

    instance_part: np.ndarray
    instance_matrix: np.ndarray
    released: bool = False


def model(parts: int = 4) -> Any:
    """A row of boxes, each under a node of its own, the second half below the first."""
    builder = ModelBuilder("row")
    part = builder.part(box(), Material())
    for number in range(parts):
        builder.place(part, (2.0 * number, 0, 0))
    built = builder.build()
    built.nodes = [
        Node(f"part {number}", -1 if number < parts // 2 else number - parts // 2, np.eye(4)) for number in range(parts)
    ]
    for node in built.nodes:
        node.matrix[0, 3] = 2.0 * built.nodes.index(node) if node.parent < 0 else float(parts // 2) * 2.0
    built.instance_node = np.arange(parts, dtype=np.int32)
    return built


def world_with_model(parts: int = 4) -> tuple[SceneWorld, int, int]:
    built = model(parts)
    scene = RenderScene()
    world = SceneWorld(scene)
    handle = scene.add(Resource(built.instance_part, built.instance_matrix), np.eye(4))  # type: ignore[arg-type]
    entry = world.add_model(handle, model_tree(built))
    return world, handle, entry.first


def send(world: SceneWorld, *commands: wire.Command, sequence: int = 0) -> list[tuple[int, Result]]:
    """A batch as it goes over the wire; what was refused."""
    params = wire.ApplyParams(commands=wire.encode_commands(list(commands)), sequence=sequence)
    params = msgspec.json.decode(msgspec.json.encode(params), type=wire.ApplyParams)
    outcome = world.apply(wire.decode_commands(params), params.sequence)
    return [(index, error.result) for index, error in outcome.failures]


def test_a_model_stands_where_its_file_puts_it_and_its_parts_follow_their_entities() -> None:
    world, handle, first = world_with_model()
    placed = world._scene.entries[handle]
    np.testing.assert_array_equal(placed.world[:, 0, 3], (0, 2, 4, 6))
    assert not send(world, wire.SetTransform(id=first + 1, position=(0.0, 5.0, 0.0)))
    np.testing.assert_allclose(placed.world[:, 1, 3], (5, 0, 5, 0), atol=1e-12)
    assert not send(world, wire.SetStates(id=first + 1, on=State.HIDDEN), wire.SetStates(id=first + 3, off=1))
    assert placed.visible.tolist() == [False, True, True, True]
    assert not send(world, wire.SetEnabled(id=first, enabled=False))
    assert not placed.visible.any()
    assert not send(
        world,
        wire.SetEnabled(id=first, enabled=True),
        wire.SetStates(ids=wire.pack([first + 2, first + 4], "u4"), on=State.USE_TINT_COLOR, tint=(1.0, 0.0, 0.0, 0.5)),
    )
    np.testing.assert_allclose(placed.tint[:, 3], (0, 0.5, 0, 0.5))
    assert world.bounds(first, local=False) == ((-1.0, -1.0, -1.0), (7.0, 6.0, 1.0))


def test_what_a_plain_model_says_about_its_nodes_is_told_of_its_entities() -> None:
    built = model()
    built.metadata = {2: {"mass": 1.5, "Part": "7-11"}}
    scene = RenderScene()
    world = SceneWorld(scene)
    handle = scene.add(Resource(built.instance_part, built.instance_matrix), np.eye(4))  # type: ignore[arg-type]
    first = world.add_model(handle, model_tree(built)).first
    # The model's own entity comes before those of its nodes.
    assert [dict(world.metadata(first + place)) for place in range(5)] == [
        {},
        {},
        {},
        {"mass": 1.5, "Part": "7-11"},
        {},
    ]


def test_one_refused_command_does_not_keep_the_others_from_being_done() -> None:
    world = SceneWorld(RenderScene())
    refused = send(
        world,
        wire.Create(id=1),
        wire.Create(id=1),
        wire.Create(id=2, parent=9),
        wire.Create(id=3, parent=1),
        wire.SetParent(id=1, parent=3),
        wire.SetName(id=3, name="x" * 2000),
        wire.Destroy(id=77),
        wire.SetEnabled(enabled=False),
        wire.SetTransforms(ids=wire.pack([1, 3], "u4"), positions=wire.pack([0.0] * 3, "f8")),
        wire.SetTransform(id=3, position=(1.0, 2.0, 3.0)),
    )
    assert refused == [
        (1, Result.ALREADY_EXISTS),
        (2, Result.INVALID_PARENT_ID),
        (4, Result.CYCLIC_REFERENCE),
        (5, Result.STRING_TOO_LONG),
        (6, Result.INVALID_ID),
        (7, Result.INVALID_ID),
        (8, Result.INVALID_PARAM),
    ]
    np.testing.assert_array_equal(world.graph.position[world.graph.slot(3)], (1, 2, 3))


@pytest.mark.parametrize(
    "command",
    [
        b"7",
        b"{}",
        b'{"op":"explode","id":1}',
        b'{"op":"create","id":"one"}',
        b'{"op":"create","id":5,"position":[0,0]}',
        b'{"op":"create","id":5,"position":[0,0,1e999]}',
        b'{"op":"create","id":99999999999999999999999}',
        b'{"op":"setTransforms","ids":"not base64!"}',
        b'{"op":"setTransforms","ids":"AAAA"}',
        b'{"op":"setStates","id":1,"on":32}',
        b'{"op":"setStates","id":1,"on":-1}',
        b'{"op":"setStates","id":1,"on":1,"off":1}',
        b'{"op":"setStates","id":1,"tint":[2,0,0,0]}',
        b'{"op":"setStates","id":1,"mask":256}',
        b'{"op":"create","id":2147483648}',
        b'{"op":"create","id":-1}',
        b"[" * 100,
    ],
)
def test_malformed_commands_are_refused_one_by_one(command: bytes) -> None:
    world = SceneWorld(RenderScene())
    assert not send(world, wire.Create(id=1))
    commands = wire.decode_commands(wire.ApplyParams(commands=[msgspec.Raw(command)]))
    ((index, error),) = world.apply(commands).failures
    assert index == 0 and error.result in (Result.INVALID_PARAM, Result.INVALID_ID)
    assert len(world.graph) == 1


def test_too_many_commands_are_no_batch() -> None:
    with pytest.raises(FarframeError) as caught:
        wire.decode_commands(wire.ApplyParams(commands=[msgspec.Raw(b"{}")] * (wire.MAX_COMMANDS + 1)))
    assert caught.value.result is Result.INVALID_PARAM


def test_destroying_the_root_tells_which_model_goes() -> None:
    world, handle, first = world_with_model()
    assert not send(world, wire.Create(id=1), wire.SetParent(id=first, parent=1), wire.Create(id=2, parent=first + 2))
    outcome = world.apply([wire.Destroy(id=1)])
    assert outcome.gone == [handle]
    assert not world._scene.entries[handle].visible.any()
    assert not len(world.graph)
    world._scene.remove(handle)
    world.remove_model(handle)
    assert not len(world.meshes)


def test_a_part_that_is_destroyed_is_drawn_no_more() -> None:
    world, handle, first = world_with_model()
    outcome = world.apply([wire.Destroy(id=first + 2)])
    assert not outcome.gone
    assert world._scene.entries[handle].visible.tolist() == [True, False, True, False]
    world.replace_model(handle, model_tree(model()))
    assert world._scene.entries[handle].visible.tolist() == [True, False, True, False]


def test_a_swapped_resource_stands_as_the_entities_do() -> None:
    world, handle, first = world_with_model()
    send(world, wire.SetTransform(id=first, position=(0.0, 9.0, 0.0)), wire.SetStates(id=first + 1, on=State.HIDDEN))
    built = model()
    world._scene.replace(handle, Resource(built.instance_part, built.instance_matrix))  # type: ignore[arg-type]
    world.replace_model(handle, model_tree(built))
    placed = world._scene.entries[handle]
    np.testing.assert_allclose(placed.world[:, 1, 3], 9.0)
    assert placed.visible.tolist() == [False, True, False, True]


def test_records_move_what_exists_and_the_later_one_wins() -> None:
    world, _, first = world_with_model()
    slot = world.graph.slot(first)

    def record(sequence: int, x: float, ids: list[int]) -> wire.TransformsRecord:
        positions = np.tile([x, 0.0, 0.0], (len(ids), 1))
        return wire.decode_transforms(
            wire.encode_transforms(wire.TransformsRecord(sequence, np.uint32(ids), positions))
        )

    world.apply_transforms([record(5, 5.0, [first, 12345])])
    assert world.graph.position[slot, 0] == 5.0
    world.apply_transforms([record(4, 4.0, [first])])
    assert world.graph.position[slot, 0] == 5.0
    send(world, wire.SetTransform(id=first, position=(3.0, 0.0, 0.0)), sequence=3)
    assert world.graph.position[slot, 0] == 5.0
    send(world, wire.SetTransform(id=first, position=(6.0, 0.0, 0.0)), sequence=6)
    assert world.graph.position[slot, 0] == 6.0
    world.apply_transforms([record(7, math.nan, [first]), record(8, 8.0, [first])])
    assert world.graph.position[slot, 0] == 8.0


def test_records_round_trip_and_hostile_ones_are_refused() -> None:
    generator = np.random.default_rng(2)
    whole = wire.TransformsRecord(
        7,
        np.arange(1, 6, dtype=np.uint32),
        generator.normal(size=(5, 3)),
        generator.normal(size=(5, 4)).astype(np.float32),
        generator.normal(size=(5, 3)).astype(np.float32),
    )
    data = wire.encode_transforms(whole)
    back = wire.decode_transforms(data)
    assert back.sequence == 7
    for name in ("ids", "positions", "rotations", "scales"):
        np.testing.assert_array_equal(getattr(back, name), getattr(whole, name))
    many = wire.transforms_per_record(position=True, rotation=True, scale=False)
    assert many > 1400
    for bad in (b"", data[:-1], data + b"x", b"\x03\x02" + data[2:], data[:2] + b"\x08" + data[3:], data[:2] + b"\x00"):
        with pytest.raises(FarframeError) as caught:
            wire.decode_transforms(bad)
        assert caught.value.result is Result.PROTOCOL_ERROR
    shuffled = random.Random(4)
    for _ in range(300):
        garbage = bytearray(data)
        for _ in range(shuffled.randrange(1, 6)):
            garbage[shuffled.randrange(len(garbage))] = shuffled.randrange(256)
        try:
            SceneWorld(RenderScene()).apply_transforms([wire.decode_transforms(bytes(garbage))])
        except FarframeError as error:
            assert error.result is Result.PROTOCOL_ERROR


def test_entities_are_told_in_pages_that_add_up() -> None:
    world, _, first = world_with_model(40)
    send(
        world,
        wire.Create(id=3, name="ä" * 100, position=(1.0, 2.0, 3.0), enabled=False),
        wire.SetParent(id=first, parent=3),
        wire.SetStates(id=first + 5, on=State.SELECTED, off=State.HIDDEN),
    )
    at, seen = 1, []
    while at:
        table, at = world.entities(at, (1 << 32) - 1, 7)
        back = wire.unpack_entities(len(table.names), wire.pack_entities(table))
        seen += list(zip(back.id.tolist(), back.parent.tolist(), back.names, back.flags.tolist(), strict=True))
        assert len(back.names) <= 7
    assert [row[0] for row in seen] == [3, *range(first, first + 41)]
    assert seen[0] == (3, 0, "ä" * 100, wire.IS_DISABLED)
    assert seen[1][1] == 3 and seen[2][1] == first and seen[2][3] == wire.IS_MESH
    table, _ = world.entities(first + 5, first + 5, 7)
    assert table.on.tolist() == [State.SELECTED] and table.off.tolist() == [State.HIDDEN]
    for bad in (b"", b"garbage", wire.pack_entities(table)[:-3]):
        with pytest.raises(FarframeError):
            wire.unpack_entities(1, bad)
    with pytest.raises(FarframeError):
        wire.unpack_entities(2, wire.pack_entities(table))


def test_a_model_without_room_or_parent_is_refused_before_anything_is_made() -> None:
    world = SceneWorld(RenderScene())
    tree = model_tree(model())
    with pytest.raises(FarframeError) as caught:
        world.check_model(tree, 5)
    assert caught.value.result is Result.INVALID_PARENT_ID
    world.graph = Graph(max_entities=3)
    with pytest.raises(FarframeError) as caught:
        world.check_model(tree, 0)
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT


# Random commands against a simple model ----------------------------------------------------------------------------


@dataclass
class Plain:
    """An entity of the simple model."""

    parent: int
    position: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    enabled: bool = True
    forced: dict[int, bool] = field(default_factory=dict)


@dataclass
class PlainScene:
    """The scene in the simplest way that can be right: dictionaries, and a walk up to the root for every question."""

    entities: dict[int, Plain] = field(default_factory=dict)

    def above(self, entity: int) -> list[int]:
        """The entity and all above it."""
        found = []
        while entity:
            found.append(entity)
            entity = self.entities[entity].parent
        return found

    def apply(self, command: wire.Command) -> Result | None:
        if isinstance(command, wire.Create):
            if command.id in self.entities:
                return Result.ALREADY_EXISTS
            if command.parent and command.parent not in self.entities:
                return Result.INVALID_PARENT_ID
            self.entities[command.id] = Plain(command.parent, command.position or (0.0,) * 3)
            return None
        if command.id not in self.entities:
            return Result.INVALID_ID
        entity = self.entities[command.id]
        if isinstance(command, wire.Destroy):
            for other in [other for other in self.entities if command.id in self.above(other)]:
                del self.entities[other]
        elif isinstance(command, wire.SetParent):
            if command.parent and command.parent not in self.entities:
                return Result.INVALID_PARENT_ID
            if command.parent and command.id in self.above(command.parent):
                return Result.CYCLIC_REFERENCE
            entity.parent = command.parent
        elif isinstance(command, wire.SetTransform):
            entity.position = command.position or entity.position
            entity.scale = command.scale or entity.scale
        elif isinstance(command, wire.SetEnabled):
            entity.enabled = command.enabled
        elif isinstance(command, wire.SetStates):
            for bit in (1, 2, 4, 16):
                if command.on & bit:
                    entity.forced[bit] = True
                if command.off & bit:
                    entity.forced[bit] = False
                if command.inherit & bit:
                    entity.forced.pop(bit, None)
        return None

    def world(self, entity: int) -> np.ndarray:
        matrix = np.eye(4)
        for name in reversed(self.above(entity)):
            item = self.entities[name]
            local = np.eye(4)
            local[:3] = compose(np.array([item.position]), np.array([[0, 0, 0, 1.0]]), np.array([item.scale]))[0]
            matrix = matrix @ local
        return matrix[:3]

    def states(self, entity: int) -> int:
        result = 0
        for bit in (1, 2, 4, 16):
            for name in self.above(entity):
                forced = self.entities[name].forced.get(bit)
                if forced is not None:
                    result |= bit * forced
                    break
        return result


IDS = st.integers(1, 9)
PARENTS = st.integers(0, 9)
VECTORS = st.tuples(*[st.floats(-100, 100)] * 3)
SCALES = st.tuples(*[st.floats(-2, 2)] * 3)


@st.composite
def states(draw: st.DrawFn) -> wire.SetStates:
    bits = {bit: draw(st.sampled_from(["on", "off", "inherit", "keep"])) for bit in (1, 2, 4, 16)}
    return wire.SetStates(
        id=draw(IDS),
        **{name: sum(bit for bit, kind in bits.items() if kind == name) for name in ("on", "off", "inherit")},
    )


COMMANDS = st.one_of(
    st.builds(wire.Create, id=IDS, parent=PARENTS, position=st.none() | VECTORS),
    st.builds(wire.Destroy, id=IDS),
    st.builds(wire.SetParent, id=IDS, parent=PARENTS),
    st.builds(wire.SetTransform, id=IDS, position=st.none() | VECTORS, scale=st.none() | SCALES),
    st.builds(wire.SetEnabled, id=IDS, enabled=st.booleans()),
    states(),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(COMMANDS, min_size=1, max_size=12), max_size=8))
def test_random_batches_do_what_the_simple_model_does(batches: list[list[wire.Command]]) -> None:
    world, plain = SceneWorld(RenderScene()), PlainScene()
    for batch in batches:
        expected = [(index, result) for index, command in enumerate(batch) if (result := plain.apply(command))]
        assert send(world, *batch) == expected
        graph = world.graph
        assert len(graph) == len(plain.entities)
        for entity, item in plain.entities.items():
            slot = graph.slot(entity)
            np.testing.assert_allclose(graph.world[slot], plain.world(entity), rtol=1e-9, atol=1e-9)
            assert graph.effective_states[slot] == plain.states(entity)
            assert graph.effective_enabled[slot] == all(plain.entities[up].enabled for up in plain.above(entity))
            above = int(graph.parent[slot])
            assert (int(graph.id[above]) if above >= 0 else 0) == item.parent
            children = {int(graph.id[child]) for child in graph.children(slot)}
            assert children == {name for name, other in plain.entities.items() if other.parent == entity}
    assert all(entity < FIRST_MODEL_ID for entity in plain.entities)
