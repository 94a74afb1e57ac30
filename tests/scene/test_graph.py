"""The entities of a scene: whole or not at all, and what follows from a command follows for all below."""

from __future__ import annotations

import math

import numpy as np
import pytest

from farframe.protocol.errors import FarframeError, Result
from farframe.scene.graph import FIRST_MODEL_ID, MAX_NAME_CHARACTERS, Graph
from farframe.scene.meshes import Meshes, bounds, tree_of
from farframe.scene.states import State
from farframe.scene.transforms import compose, decompose, invert, multiply, stretches

TURN = (0.0, math.sin(math.pi / 4), 0.0, math.cos(math.pi / 4))
"""A quarter about +Y: +X goes to -Z."""


def refused(result: Result, call, *arguments, **named) -> None:
    with pytest.raises(FarframeError) as caught:
        call(*arguments, **named)
    assert caught.value.result is result


def world(graph: Graph, entity: int) -> np.ndarray:
    graph.update()
    return graph.world[graph.slot(entity)]


def test_transforms_are_relative_to_the_parent() -> None:
    graph = Graph()
    graph.create(1, position=(10, 0, 0), rotation=TURN, scale=(2, 2, 2))
    graph.create(2, parent=1, position=(1, 0, 0))
    np.testing.assert_allclose(world(graph, 2)[:, 3], (10, 0, -2), atol=1e-12)
    graph.set_transforms(graph.slots(np.array([1])), position=[(0, 5, 0)])
    np.testing.assert_allclose(world(graph, 2)[:, 3], (0, 5, -2), atol=1e-12)
    graph.set_parent(2, 0)
    np.testing.assert_allclose(world(graph, 2)[:, 3], (1, 0, 0), atol=1e-12)


def test_positions_are_double() -> None:
    graph = Graph()
    graph.create(1, position=(7e9 + 0.001, 0, 0))
    graph.create(2, parent=1, position=(-7e9, 0, 0))
    assert world(graph, 2)[0, 3] == pytest.approx(0.001, abs=1e-6)


def test_what_changed_is_told_once_and_for_the_whole_subtree() -> None:
    graph = Graph()
    for entity, parent in ((1, 0), (2, 1), (3, 2), (4, 0)):
        graph.create(entity, parent=parent)
    assert len(graph.update().moved) == 4
    assert not graph.update().any
    graph.set_transforms(graph.slots(np.array([2])), scale=[(2, 2, 2)])
    changes = graph.update()
    assert sorted(graph.id[changes.moved].tolist()) == [2, 3]
    assert not len(changes.restyled)
    graph.set_enabled(graph.slots(np.array([1])), False)
    assert sorted(graph.id[graph.update().restyled].tolist()) == [1, 2, 3]
    graph.set_enabled(graph.slots(np.array([1])), False)
    assert not graph.update().any, "the same again is no change"


def test_the_nearest_force_wins_for_each_state_on_its_own() -> None:
    graph = Graph()
    for entity, parent in ((1, 0), (2, 1), (3, 2)):
        graph.create(entity, parent=parent)
    one, two, three = (graph.slots(np.array([entity])) for entity in (1, 2, 3))
    graph.set_states(one, on=State.HIDDEN | State.USE_TINT_COLOR, tint=(1, 0, 0, 0.5))
    graph.set_states(two, off=State.HIDDEN, on=State.SELECTED)
    graph.update()
    assert graph.effective_states[three[0]] == State.SELECTED | State.USE_TINT_COLOR
    np.testing.assert_allclose(graph.effective_tint[three[0]], (1, 0, 0, 0.5))
    graph.set_states(three, on=State.HIDDEN | State.USE_TINT_COLOR, tint=(0, 1, 0, 1))
    graph.update()
    assert graph.effective_states[three[0]] == State.HIDDEN | State.SELECTED | State.USE_TINT_COLOR
    np.testing.assert_allclose(graph.effective_tint[three[0]], (0, 1, 0, 1))
    graph.set_states(three, inherit=State.HIDDEN | State.USE_TINT_COLOR)
    graph.set_states(two, off=State.USE_TINT_COLOR)
    graph.update()
    assert graph.effective_states[three[0]] == State.SELECTED
    assert graph.effective_tint[three[0]][3] == 0


def test_disabled_beats_every_override() -> None:
    graph = Graph()
    graph.create(1, enabled=False)
    graph.create(2, parent=1)
    graph.set_states(graph.slots(np.array([2])), off=State.HIDDEN)
    graph.update()
    assert not graph.effective_enabled[graph.slot(2)]


def test_cut_plane_masks_are_inherited_and_all_by_default() -> None:
    graph = Graph()
    graph.create(1)
    graph.create(2, parent=1)
    graph.update()
    assert graph.effective_mask[graph.slot(2)] == 255
    graph.set_states(graph.slots(np.array([1])), on=State.USE_CUT_PLANE_FILTER_MASK, mask=3)
    graph.update()
    assert graph.effective_mask[graph.slot(2)] == 3
    graph.set_states(graph.slots(np.array([2])), off=State.USE_CUT_PLANE_FILTER_MASK)
    graph.update()
    assert graph.effective_mask[graph.slot(2)] == 255


def test_cycles_unknown_ids_and_twice_the_same_id_are_refused_and_change_nothing() -> None:
    graph = Graph()
    graph.create(1)
    graph.create(2, parent=1)
    graph.create(3, parent=2)
    refused(Result.CYCLIC_REFERENCE, graph.set_parent, 1, 3)
    refused(Result.CYCLIC_REFERENCE, graph.set_parent, 1, 1)
    refused(Result.INVALID_PARENT_ID, graph.set_parent, 1, 9)
    refused(Result.INVALID_ID, graph.set_parent, 9, 1)
    refused(Result.ALREADY_EXISTS, graph.create, 2)
    refused(Result.INVALID_PARAM, graph.create, FIRST_MODEL_ID)
    refused(Result.INVALID_PARAM, graph.create, 0)
    refused(Result.STRING_TOO_LONG, graph.create, 4, name="x" * (MAX_NAME_CHARACTERS + 1))
    refused(Result.INVALID_ID, graph.destroy, 9)
    refused(Result.INVALID_ID, graph.slots, np.array([1, 7]))
    assert len(graph) == 3
    assert [graph.depth(graph.slot(entity)) for entity in (1, 2, 3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "values",
    [
        {"position": [(math.nan, 0, 0)]},
        {"position": [(0, math.inf, 0)]},
        {"position": [(0, 1e16, 0)]},
        {"position": [(0, 0)]},
        {"scale": [("a", 0, 0)]},
        {"rotation": [(0, 0, 0, 0)]},
        {"rotation": [(math.nan, 0, 0, 1)]},
    ],
)
def test_numbers_that_are_none_are_refused(values: dict) -> None:
    graph = Graph()
    graph.create(1, position=(1, 2, 3))
    refused(Result.INVALID_PARAM, graph.set_transforms, graph.slots(np.array([1])), **values)
    np.testing.assert_array_equal(graph.position[graph.slot(1)], (1, 2, 3))


def test_rotations_of_any_length_are_made_unit() -> None:
    graph = Graph()
    graph.create(1)
    for length in (1e-20, 1e12):
        graph.set_transforms(graph.slots(np.array([1])), rotation=[np.array(TURN) * length])
        np.testing.assert_allclose(graph.rotation[graph.slot(1)], TURN)


def test_limits_of_number_and_depth() -> None:
    graph = Graph(max_entities=5, max_depth=3)
    for entity, parent in ((1, 0), (2, 1), (3, 2)):
        graph.create(entity, parent=parent)
    refused(Result.EXCEEDS_MEMORY_LIMIT, graph.create, 4, parent=3)
    graph.create(4)
    graph.create(5)
    refused(Result.EXCEEDS_MEMORY_LIMIT, graph.create, 6)
    refused(Result.EXCEEDS_MEMORY_LIMIT, graph.set_parent, 1, 4)
    graph.destroy(3)
    graph.set_parent(1, 4)
    assert graph.depth(graph.slot(2)) == 2


def test_destroying_takes_all_below_and_frees_the_rows() -> None:
    graph = Graph()
    for entity, parent in ((1, 0), (2, 1), (3, 2), (4, 0)):
        graph.create(entity, parent=parent)
    gone = graph.destroy(2)
    assert len(gone) == 2
    assert len(graph) == 2
    refused(Result.INVALID_ID, graph.slot, 3)
    assert graph.children(graph.slot(1)) == []
    graph.create(3, parent=4, position=(1, 1, 1))
    assert graph.slot(3) in gone.tolist()
    np.testing.assert_allclose(world(graph, 3)[:, 3], (1, 1, 1))


def test_later_transforms_win_whatever_comes_first() -> None:
    graph = Graph()
    graph.create(1)
    rows = graph.slots(np.array([1]))
    graph.set_transforms(rows, position=[(2, 0, 0)], sequence=2)
    graph.set_transforms(rows, position=[(1, 0, 0)], scale=[(3, 3, 3)], sequence=1)
    assert graph.position[rows[0], 0] == 2
    assert graph.scale[rows[0], 0] == 3, "what the later one left alone is set"
    graph.set_transforms(rows, position=[(4, 0, 0)], sequence=2)
    assert graph.position[rows[0], 0] == 4, "the same message may speak again"


def test_models_get_ids_of_their_own_that_are_never_used_twice() -> None:
    graph = Graph()
    tree = [np.array([-1, 0, 0]), ["root", "a", "b" * 2000], np.zeros((3, 3)), np.tile([0, 0, 0, 1.0], (3, 1))]
    first = graph.add_tree(*tree, np.ones((3, 3)))
    assert first == FIRST_MODEL_ID
    assert graph.name(graph.slot(first + 1)) == "a"
    assert len(graph.name(graph.slot(first + 2))) == MAX_NAME_CHARACTERS
    graph.destroy(first)
    assert graph.add_tree(*tree, np.ones((3, 3)), static=True) == first + 3
    refused(Result.OBJECT_STATIC, graph.set_parent, first + 4, 0)
    refused(Result.OBJECT_STATIC, graph.set_transforms, graph.slots(np.array([first + 4])), position=[(0, 0, 0)])
    graph.set_transforms(graph.slots(np.array([first + 3])), position=[(1, 0, 0)])
    np.testing.assert_allclose(world(graph, first + 5)[:, 3], (1, 0, 0))
    refused(Result.INVALID_PARENT_ID, graph.add_tree, *tree, np.ones((3, 3)), parent=77)


def test_matrices_are_taken_apart_and_put_together() -> None:
    generator = np.random.default_rng(5)
    count = 500
    rotation = generator.normal(size=(count, 4))
    rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
    rotation[:4] = np.eye(4)
    scale = generator.uniform(0.1, 5, (count, 3))
    scale[::3, 0] *= -1
    matrix = compose(generator.normal(size=(count, 3)), rotation, scale)
    np.testing.assert_allclose(compose(*decompose(matrix)), matrix, atol=1e-12)
    inverse, regular = invert(matrix)
    assert regular.all()
    np.testing.assert_allclose(multiply(inverse, matrix), np.tile(np.eye(4)[:3], (count, 1, 1)), atol=1e-10)
    least, most = stretches(matrix)
    values = np.linalg.svd(matrix[:, :, :3], compute_uv=False)
    np.testing.assert_allclose(least, values[:, 2], rtol=1e-9)
    np.testing.assert_allclose(most, values[:, 0], rtol=1e-9)
    flat = matrix[:1].copy()
    flat[0, :, 2] = 0.0
    assert not invert(flat)[1].any()


def sheared() -> np.ndarray:
    matrix = np.eye(4)[:3]
    matrix[0, 1] = 0.7
    return matrix


def test_a_model_lies_exactly_where_its_file_puts_it_and_moves_as_one() -> None:
    node = np.stack([sheared(), compose(np.ones((1, 3)), np.array([TURN]), np.full((1, 3), 2.0))[0]])
    instance = multiply(node[:1], node[1:])
    tree = tree_of(
        "m", [("outer", -1), ("inner", 0)], node, np.array([1]), instance, np.zeros((1, 3)), np.ones((1, 3)),
        np.zeros(1, bool), {1: {"a": 1}}, part=np.zeros(1, int), material=np.zeros(1, int), material_count=1,
    )  # fmt: skip
    graph, meshes = Graph(), Meshes()
    first = graph.add_tree(tree.parent, tree.names, tree.position, tree.rotation, tree.scale)
    meshes.add(1, graph.slots(first + tree.owner), tree)
    graph.update()
    np.testing.assert_allclose(meshes.world(graph, np.array([0])), instance, atol=1e-12)
    graph.set_transforms(graph.slots(np.array([first])), position=[(5, 0, 0)])
    graph.update()
    np.testing.assert_allclose(meshes.world(graph, np.array([0]))[0, :, 3], instance[0, :, 3] + (5, 0, 0))
    assert tree.metadata == {2: {"a": 1}}
    none = tree_of(
        "m", [("outer", -1), ("inner", 0)], node, np.array([1]), instance, np.zeros((1, 3)), np.ones((1, 3)),
        np.zeros(1, bool), {1: {"a": 1}}, part=np.zeros(1, int), material=np.zeros(1, int), material_count=1,
        mode="none",
    )  # fmt: skip
    assert none.names == ["m"] and none.owner.tolist() == [0] and not none.metadata


def test_bounds_of_a_subtree() -> None:
    box = (np.zeros((2, 3)), np.ones((2, 3)))
    matrices = np.stack([np.eye(4)[:3], np.eye(4)[:3]])
    matrices[1, :, 3] = (10, 0, 0)
    tree = tree_of(
        "m", [("a", -1), ("b", -1)], matrices, np.array([0, 1]), matrices, *box, np.array([False, True]), {},
        part=np.array([1, 0]), material=np.array([5, 3]), material_count=6,
    )  # fmt: skip
    assert tree.material.tolist() == [3, -1]
    graph, meshes = Graph(), Meshes()
    graph.create(1, position=(0, 100, 0), scale=(2, 2, 2))
    first = graph.add_tree(tree.parent, tree.names, tree.position, tree.rotation, tree.scale, parent=1)
    meshes.add(1, graph.slots(first + tree.owner), tree)
    graph.update()
    low, high = bounds(graph, meshes, graph.slot(1), local=False)
    np.testing.assert_allclose((low, high), ((-2, 98, -2), (22, 102, 2)))
    low, high = bounds(graph, meshes, graph.slot(1), local=True)
    np.testing.assert_allclose((low, high), ((-1, -1, -1), (11, 1, 1)))
    low, high = bounds(graph, meshes, graph.slot(first + 2), local=False)
    np.testing.assert_allclose((low, high), ((18, 98, -2), (22, 102, 2)))
    graph.create(2)
    graph.update()
    assert bounds(graph, meshes, graph.slot(2), local=False) is None
    meshes.forget(graph.destroy(first + 2), len(graph.id))
    low, high = bounds(graph, meshes, graph.slot(1), local=True)
    np.testing.assert_allclose((low, high), ((-1, -1, -1), (1, 1, 1)))


def test_fifty_thousand_entities_in_a_chain_of_groups() -> None:
    """All subtrees at once and one leaf: the right ones change, whatever the order of rows."""
    generator = np.random.default_rng(1)
    count = 50_000
    parents = np.array([-1, *(generator.integers(max(0, row - 500), row) for row in range(1, count))])
    graph = Graph()
    first = graph.add_tree(
        parents, [""] * count, generator.normal(size=(count, 3)), np.tile([0, 0, 0, 1.0], (count, 1)),
        np.ones((count, 3)),
    )  # fmt: skip
    assert len(graph.update().moved) == count
    slots = graph.slots(np.arange(first, first + count))
    expected = graph.position[slots].copy()
    for row in range(1, count):
        expected[row] += expected[parents[row]]
    np.testing.assert_allclose(graph.world[slots][:, :, 3], expected, atol=1e-9)
    leaf = int(np.setdiff1d(np.arange(count), parents)[0])
    graph.set_transforms(slots[[leaf]], position=[(0, 0, 0)])
    assert graph.update().moved.tolist() == [slots[leaf]]
