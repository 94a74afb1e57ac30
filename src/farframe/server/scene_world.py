"""The entities of a place's scene and what is drawn of them. Belongs to the render thread: everything here is called
between two frames, by jobs of the frame loop, so a frame shows all of a batch or nothing of it.

    Graph                 entities: transforms, structure, states           farframe.scene.graph
    Meshes                which part instances hang on them                 farframe.scene.meshes
    Looks                 materials, lights, cut planes, effects            farframe.server.scene_looks
    RenderScene           the same instances, as they are drawn             farframe.render.scene

The way is always the same: commands change the graph, the graph finds what follows, and what changed of instances is
handed to the renderer's scene in one go for each model.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farframe.protocol import scene as wire
from farframe.protocol.animations import SetAnimation
from farframe.protocol.errors import FarframeError, Result
from farframe.scene.animation import Playback, Track
from farframe.scene.graph import FIRST_MODEL_ID, Graph
from farframe.scene.meshes import Meshes, Tree, bounds, tree_of
from farframe.scene.states import State
from farframe.server.scene_looks import Looks

if TYPE_CHECKING:
    from farframe.asset.container import Asset
    from farframe.asset.model import Model
    from farframe.render import RenderScene

_SINGLE = np.zeros(1, np.int64)
UNBOUNDED = 1e30
"""A box that reaches farther than this is none."""


def model_tree(model: Model) -> Tree:
    """The entities of a plain model. Any thread."""
    parts = model.parts
    low = np.array([part.bounds_min for part in parts], np.float64).reshape(-1, 3)
    high = np.array([part.bounds_max for part in parts], np.float64).reshape(-1, 3)
    part = model.instance_part
    matrices = np.array([node.matrix for node in model.nodes], np.float64).reshape(-1, 4, 4)
    return tree_of(
        model.name,
        [(node.name, node.parent) for node in model.nodes],
        matrices[:, :3],
        model.instance_node,
        model.instance_matrix[:, :3],
        (low[part] + high[part]) / 2.0,
        np.maximum((high[part] - low[part]) / 2.0, 0.0),
        np.zeros(len(part), np.bool_),
        model.metadata,
        part=part,
        material=np.array([item.material for item in parts], np.int64),
        material_count=len(model.materials),
        animations=model.animations,
    )


def asset_tree(asset: Asset) -> Tree:
    """The entities of an asset, as far as its ``sceneGraphMode`` has them. Blocks on its source. Any thread."""
    from farframe.asset.format import POINTS

    index = asset.index
    part = asset.instances["part"].astype(np.int64)
    low, high = asset.parts["bounds_min"].astype(np.float64), asset.parts["bounds_max"].astype(np.float64)
    return tree_of(
        index.name,
        list(zip(index.node_names, asset.nodes["parent"].tolist(), strict=True)),
        asset.nodes["matrix"],
        asset.instances["node"],
        asset.instances["matrix"],
        (low[part] + high[part]) / 2.0,
        np.maximum((high[part] - low[part]) / 2.0, 0.0),
        np.asarray(asset.parts["kind"][part] == POINTS, np.bool_),
        {int(node): values for node, values in index.metadata.items()},
        part=part,
        material=asset.parts["material"],
        material_count=len(index.materials),
        mode=index.scene_graph_mode,
        animations=asset.read_animations(),
    )


@dataclass(slots=True)
class ModelEntities:
    """A model's entities: ids from ``first`` on, ``count`` of them, the root first; ``metadata`` by place."""

    first: int
    count: int
    metadata: Mapping[int, Mapping[str, Any]]


@dataclass(slots=True)
class Applied:
    """What came of a batch: which commands failed and why; models whose root was destroyed, by handle."""

    failures: list[tuple[int, FarframeError]]
    gone: list[int]


class Arrivals:
    """Records of transforms that have come and not been taken in. A clockwork of the renderer's scene: a frame takes
    them right before it is drawn, after it has taken its pose, so it shows all that came before that pose.

    ``records`` is filled by the event loop and emptied by the render thread.
    """

    def __init__(self, world: SceneWorld) -> None:
        self._world = world
        self.records: deque[wire.TransformsRecord] = deque()

    @property
    def moving(self) -> bool:
        """Whether any has come."""
        return bool(self.records)

    def advance(self, seconds: float) -> None:
        """Take in what has come."""
        self.take()

    def take(self) -> None:
        """Take in what has come, in the order in which it did. Render thread."""
        taken: list[wire.TransformsRecord] = []
        with contextlib.suppress(IndexError):  # the other side has cleared it
            for _ in range(len(self.records)):
                taken.append(self.records.popleft())
        if taken:
            self._world.apply_transforms(taken)


class SceneWorld:
    """See the module. ``scene`` is the renderer's; models are known by their handle in it."""

    def __init__(self, scene: RenderScene) -> None:
        self.graph = Graph()
        self.meshes = Meshes()
        self.looks = Looks(scene, self.graph, lambda rows: self._push(rows, dressed=True))
        self.playback = Playback(self.graph, self._sync)
        self.arrivals = Arrivals(self)
        scene.add_clockwork(self.arrivals)
        scene.add_clockwork(self.playback)
        self._scene = scene
        self._models: dict[int, ModelEntities] = {}
        self._roots: dict[int, int] = {}
        self._commands: dict[type, Callable[[Any, int | None, Applied], None]] = {
            wire.Create: self._create,
            wire.Destroy: self._destroy,
            wire.SetParent: lambda command, _s, _a: self.graph.set_parent(command.id, command.parent),
            wire.SetName: lambda command, _s, _a: self.graph.set_name(command.id, command.name),
            wire.SetEnabled: lambda command, _s, _a: self.graph.set_enabled(self._named(command), command.enabled),
            wire.SetTransform: self._set_transform,
            wire.SetTransforms: self._set_transforms,
            wire.SetStates: self._set_states,
            SetAnimation: self._set_animation,
        }

    # Models -----------------------------------------------------------------------------------------------------

    def check_model(self, tree: Tree, parent: int) -> None:
        """Whether a model's entities would fit below ``parent``. Raises InvalidParentId, ExceedsMemoryLimit."""
        if parent and parent not in self.graph:
            raise FarframeError(
                Result.INVALID_PARENT_ID,
                f"No entity has the id {parent}, which is to be the parent.",
                next_step="Keep the parent until the model is loaded.",
            )
        self.graph.reserve(len(tree.parent))
        self.looks.check_model(tree)

    def add_model(self, handle: int, tree: Tree, parent: int = 0) -> ModelEntities:
        """Make the entities of a model that was placed as ``handle`` at the scene's origin.

        Raises as :meth:`check_model`; then nothing was made.
        """
        first = self.graph.add_tree(
            tree.parent, tree.names, tree.position, tree.rotation, tree.scale, parent=parent, static=tree.static
        )
        entry = ModelEntities(first, len(tree.parent), tree.metadata)
        self._models[handle] = entry
        self._roots[first] = handle
        self.meshes.add(handle, self.graph.slots(first + tree.owner), tree)
        self.looks.add_model(handle, tree)
        if tree.animations is not None:
            self.playback.add_model(handle, tree.animations, first + 1)
        # Without a parent it is where the renderer has put it, to the last bit.
        self._sync(fresh=None if parent else handle)
        return entry

    def replace_model(self, handle: int, tree: Tree) -> None:
        """Another resource, with the same nodes, is drawn in a model's place: let it stand as the entities do."""
        entry = self._models.get(handle)
        if entry is None:
            return
        self.meshes.remove(handle)
        owner = np.where(tree.owner < entry.count, tree.owner, 0)
        slots = self.graph.find_slots(entry.first + owner)
        self.meshes.add(handle, slots, tree)
        self.looks.replace_model(handle, tree)
        self._push(np.flatnonzero(self.meshes.handle == handle), moved=True, styled=True, dressed=True)

    def remove_model(self, handle: int) -> None:
        """A model is drawn no more: its entities go, and with them what the device hung below them."""
        self.meshes.remove(handle)
        self.looks.remove_model(handle, self.meshes)
        self.playback.remove_model(handle)
        entry = self._models.pop(handle, None)
        if entry is None:
            return
        self._roots.pop(entry.first, None)
        if entry.first in self.graph:
            self._take_out(entry.first)
        self._sync()

    def clear(self) -> None:
        """Take all entities out; models that are still placed are drawn no more."""
        self.meshes.slot[:] = -1
        self._push(np.arange(len(self.meshes)), styled=True)
        self.graph.clear()
        self.meshes = Meshes()
        self.looks.clear()
        self.playback.clear()
        self._models.clear()
        self._roots.clear()

    # Commands ---------------------------------------------------------------------------------------------------

    def apply(self, commands: Sequence[wire.Command | FarframeError], sequence: int = 0) -> Applied:
        """Do the commands of a batch, in order. A destroyed model is drawn no more, but still has to be freed."""
        outcome = Applied([], [])
        for index, command in enumerate(commands):
            try:
                if isinstance(command, FarframeError):
                    raise command
                on_looks = self.looks.commands.get(type(command))
                if on_looks is not None:
                    on_looks(command, self.meshes)
                else:
                    self._commands[type(command)](command, sequence or None, outcome)
            except FarframeError as error:
                outcome.failures.append((index, error))
        self._sync()
        return outcome

    def apply_transforms(self, records: Sequence[wire.TransformsRecord]) -> None:
        """Move entities. Those that do not exist, cannot be moved, or were moved by something later are passed over.

        Numbers that are none make a record ineffective.
        """
        for record in records:
            slots = self.graph.find_slots(record.ids)
            known = slots >= 0
            try:
                self.graph.set_transforms(
                    slots[known],
                    position=None if record.positions is None else record.positions[known],
                    rotation=None if record.rotations is None else record.rotations[known],
                    scale=None if record.scales is None else record.scales[known],
                    sequence=record.sequence,
                    skip_static=True,
                )
            except FarframeError:
                continue
        self._sync()

    def _named(self, command: wire.SetEnabled | wire.SetStates) -> NDArray[np.int64]:
        """The slots that a command names."""
        ids = wire.unpack(command.ids, "u4", 1)
        if command.id or not len(ids):
            slot = np.array([self.graph.slot(command.id)], np.int64)
            return slot if not len(ids) else np.concatenate([slot, self.graph.slots(ids)])
        return self.graph.slots(ids)

    def _create(self, command: wire.Create, sequence: int | None, outcome: Applied) -> None:
        self.graph.create(
            command.id,
            parent=command.parent,
            name=command.name,
            position=command.position,
            rotation=command.rotation,
            scale=command.scale,
            enabled=command.enabled,
        )

    def _destroy(self, command: wire.Destroy, sequence: int | None, outcome: Applied) -> None:
        for entity in self._take_out(command.id):
            handle = self._roots.pop(entity, None)
            if handle is not None:
                outcome.gone.append(handle)

    def _take_out(self, entity: int) -> list[int]:
        """Destroy an entity and all below it, with all that hangs on them; the ids of those that were models'."""
        ids = self.graph.id[self.graph.subtree(self.graph.slot(entity))]
        gone = self.graph.destroy(entity)
        self._push(self.meshes.forget(gone, len(self.graph.id)), styled=True)
        self.looks.destroyed(ids)
        return [int(identifier) for identifier in ids[ids >= FIRST_MODEL_ID].tolist()]

    def _set_transform(self, command: wire.SetTransform, sequence: int | None, outcome: Applied) -> None:
        slots = _SINGLE.copy()
        slots[0] = self.graph.slot(command.id)
        self.graph.set_transforms(
            slots,
            position=command.position,
            rotation=command.rotation,
            scale=command.scale,
            sequence=sequence,
        )

    def _set_transforms(self, command: wire.SetTransforms, sequence: int | None, outcome: Applied) -> None:
        ids = wire.unpack(command.ids, "u4", 1)
        count = len(ids)
        self.graph.set_transforms(
            self.graph.slots(ids),
            position=None if command.positions is None else wire.unpack(command.positions, "f8", 3, count),
            rotation=None if command.rotations is None else wire.unpack(command.rotations, "f4", 4, count),
            scale=None if command.scales is None else wire.unpack(command.scales, "f4", 3, count),
            sequence=sequence,
        )

    def _set_states(self, command: wire.SetStates, sequence: int | None, outcome: Applied) -> None:
        self.graph.set_states(
            self._named(command),
            on=command.on,
            off=command.off,
            inherit=command.inherit,
            tint=command.tint,
            mask=command.mask,
        )

    def _set_animation(self, command: SetAnimation, sequence: int | None, outcome: Applied) -> None:
        self.graph.slot(command.id)
        self.playback.set(
            self._roots.get(command.id, 0),
            command.clip,
            state=command.state,
            time=command.time,
            speed=command.speed,
            loop=command.loop,
            weight=command.weight,
            reclaim=command.reclaim,
        )

    # What is drawn ----------------------------------------------------------------------------------------------

    def _sync(self, *, fresh: int | None = None) -> None:
        """Let what is drawn follow the entities. ``fresh``: a model that already stands as they do."""
        self.playback.pose()
        changes = self.graph.update()
        self.looks.follow(changes)
        if not changes.any or not len(self.meshes):
            return
        capacity = len(self.graph.id)
        moved = self.meshes.rows_on(changes.moved, capacity)
        self.meshes.move(moved)
        restyled = self.meshes.rows_on(changes.restyled, capacity)
        if fresh is not None:
            moved = moved[self.meshes.handle[moved] != fresh]
            restyled = restyled[self.meshes.handle[restyled] != fresh]
        self._push(moved, moved=True)
        self._push(restyled, styled=True)

    def _push(
        self, rows: NDArray[np.int64], *, moved: bool = False, styled: bool = False, dressed: bool = False
    ) -> None:
        """Hand what changed of these instances, as it is now, to the renderer's scene: where they are, how they are
        shown, what they are made of. What did not change costs nothing there."""
        if not len(rows):
            return
        meshes = self.meshes
        columns: dict[str, NDArray[Any]] = {"world": meshes.world(self.graph, rows)} if moved else {}
        if styled:
            columns |= self._style(meshes.slot[rows])
        handles = meshes.handle[rows]
        for handle in np.unique(handles).tolist():
            mine = np.flatnonzero(handles == handle)
            numbers = meshes.number[rows[mine]]
            changed: dict[str, Any] = {name: column[mine] for name, column in columns.items()}
            if dressed:
                changed["material"] = self.looks.worn(handle, numbers)
            self._scene.update_instances(handle, numbers, **changed)

    def _style(self, slot: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """How what hangs on these entities is shown; -1 is none."""
        graph = self.graph
        states = graph.effective_states[slot].astype(np.uint32)
        tinted = states & np.uint32(int(State.USE_TINT_COLOR)) != 0
        return {
            "visible": (slot >= 0) & graph.effective_enabled[slot] & (states & np.uint32(int(State.HIDDEN)) == 0),
            "tint": np.where(tinted[:, None], graph.effective_tint[slot], 0.0).astype(np.float32),
            "states": states,
            "mask": graph.effective_mask[slot].astype(np.uint32),
        }

    # Queries ----------------------------------------------------------------------------------------------------

    def resource(self, handle: int) -> Any:
        """What a model is drawn from, or ``None`` once it is gone."""
        placed = self._scene.entries.get(handle)
        return None if placed is None or placed.resource.released else placed.resource

    def bounds(self, entity: int, *, local: bool) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Lowest and highest corner of what hangs on an entity and below it. Raises InvalidId."""
        found = bounds(self.graph, self.meshes, self.graph.slot(entity), local=local)
        if found is None or np.abs(np.stack(found)).max() > UNBOUNDED:
            return None
        return tuple(found[0].tolist()), tuple(found[1].tolist())

    def animations(self, entity: int) -> list[Track]:
        """How the animations of the model are played whose root is an entity; none for another. Raises InvalidId."""
        self.graph.slot(entity)
        return self.playback.tracks(self._roots.get(entity, 0))

    def metadata(self, entity: int) -> Mapping[str, Any]:
        """What the file of its model says about an entity. Raises InvalidId."""
        self.graph.slot(entity)
        for entry in self._models.values():
            if entry.first <= entity < entry.first + entry.count:
                return entry.metadata.get(entity - entry.first, {})
        return {}

    def entities(self, first: int, last: int, limit: int) -> tuple[wire.EntityTable, int]:
        """At most ``limit`` entities with ids in a range, ascending, and the id at which to go on, or 0."""
        graph = self.graph
        ids = np.sort(graph.id[(graph.id >= max(first, 1)) & (graph.id <= last)])
        following = int(ids[limit]) if len(ids) > limit else 0
        ids = ids[:limit]
        slots = graph.slots(ids)
        above = graph.parent[slots]
        capacity = len(graph.id)
        flags = np.zeros(capacity, np.uint8)
        some = self.meshes.slot >= 0
        flags[self.meshes.slot[some]] |= wire.IS_MESH
        flags[self.meshes.slot[some & self.meshes.cloud]] |= wire.IS_CLOUD
        flags = flags[slots]
        flags[graph.static[slots]] |= wire.IS_STATIC
        flags[~graph.enabled[slots]] |= wire.IS_DISABLED
        return (
            wire.EntityTable(
                position=graph.position[slots],
                id=ids,
                parent=np.where(above >= 0, graph.id[above], 0),
                rotation=graph.rotation[slots],
                scale=graph.scale[slots],
                tint=graph.tint[slots],
                on=graph.force_on[slots],
                off=graph.force_off[slots],
                flags=flags,
                mask=graph.mask[slots],
                names=[graph.name(slot) for slot in slots.tolist()],
            ),
            following,
        )
