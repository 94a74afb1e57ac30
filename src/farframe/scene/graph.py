"""The entities of a scene: a forest of named transforms with states, as a structure of arrays.

The device commands it; nothing here changes by itself. Every command touches only what it names; then
:meth:`Graph.update` brings all that depends on it up to date at once: world matrices, whether an entity is enabled,
the states it inherits. That is done level by level from the roots down, in numpy, for the subtrees that changed: what
a command costs does not depend on how many parts it concerns, and a frame without changes costs nothing.

    id      names an entity on the wire: 1 to 2^31 - 1 are the device's to choose, the rest are given to loaded models
    slot    the entity's row in the arrays; used again after it was destroyed
    0       as a parent's id: none. Roots have the parent slot -1

All that comes from a device may be hostile: every method checks what it is given before it changes anything, so a
command is done whole or not at all. What is refused is raised as :class:`FarframeError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.scene.states import ALL_CUT_PLANES, ALL_STATES, State
from farframe.scene.transforms import IDENTITY, compose, multiply

Slots = NDArray[np.int64]

FIRST_MODEL_ID = 1 << 31
"""Ids from here on are given to the entities of loaded models; below they are the device's to choose."""
MAX_ID = (1 << 32) - 1
MAX_ENTITIES = 1 << 20
MAX_DEPTH = 1024
MAX_NAME_CHARACTERS = 1024
MAX_COORDINATE = 1e15
"""Metres from the parent's origin, and the greatest factor of a scale."""

POSITION, ROTATION, SCALE = 0, 1, 2
"""The columns of a transform's sequence numbers."""

_HALF = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class Changes:
    """What :meth:`Graph.update` found: slots whose world matrix changed, and those that are drawn differently."""

    moved: Slots
    restyled: Slots

    @property
    def any(self) -> bool:
        """Whether anything changed."""
        return bool(len(self.moved) or len(self.restyled))


NO_CHANGES = Changes(np.zeros(0, np.int64), np.zeros(0, np.int64))


def invalid_id(entity: int) -> FarframeError:
    """No entity has that id."""
    return FarframeError(Result.INVALID_ID, f"No entity has the id {entity}.")


def _invalid(message: str) -> FarframeError:
    return FarframeError(Result.INVALID_PARAM, message)


class Graph:
    """See the module. The arrays have ``capacity`` rows; rows of no entity hold anything.

    ``parent`` (slot or -1), ``position`` (3), ``rotation`` (4, unit, xyzw), ``scale`` (3) are local; ``world`` (3, 4),
    ``effective_enabled``, ``effective_states``, ``effective_tint`` (4, linear RGB and weight) and ``effective_mask``
    are what :meth:`update` makes of them. Read only.
    """

    def __init__(self, *, max_entities: int = MAX_ENTITIES, max_depth: int = MAX_DEPTH) -> None:
        self._max_entities = max_entities
        self._max_depth = max_depth
        self._free: list[int] = []
        self._used = 0
        self._slot_of: dict[int, int] = {}
        self._children: dict[int, dict[int, None]] = {}
        self._names: list[str] = []
        self._next_model_id = FIRST_MODEL_ID
        self._sorted: tuple[NDArray[np.int64], Slots] | None = None
        self._levels: list[Slots] | None = None
        self._dirty = False
        self._columns: dict[str, Any] = {
            "id": 0,
            "parent": -1,
            "position": (0.0, 0.0, 0.0),
            "rotation": (0.0, 0.0, 0.0, 1.0),
            "scale": (1.0, 1.0, 1.0),
            "local": IDENTITY,
            "world": IDENTITY,
            "enabled": True,
            "static": False,
            "height": 0,
            "force_on": 0,
            "force_off": 0,
            "tint": (1.0, 1.0, 1.0, 1.0),
            "mask": ALL_CUT_PLANES,
            "effective_enabled": True,
            "effective_states": 0,
            "effective_tint": (0.0, 0.0, 0.0, 0.0),
            "effective_mask": ALL_CUT_PLANES,
            "sequence": (0, 0, 0),
            "own": 0,
            "_stale": True,
            "_moved": True,
            "_restyled": True,
        }
        self.id = np.zeros(0, np.int64)
        self.parent = np.zeros(0, np.int64)
        self.position = np.zeros((0, 3))
        self.rotation = np.zeros((0, 4))
        self.scale = np.zeros((0, 3))
        self.local = np.zeros((0, 3, 4))
        self.world = np.zeros((0, 3, 4))
        self.enabled = np.zeros(0, np.bool_)
        self.static = np.zeros(0, np.bool_)
        self.height = np.zeros(0, np.int32)
        """Levels below an entity, at most: it may have had more before."""
        self.force_on = np.zeros(0, np.uint16)
        self.force_off = np.zeros(0, np.uint16)
        self.tint = np.zeros((0, 4), np.float32)
        self.mask = np.zeros(0, np.uint8)
        self.effective_enabled = np.zeros(0, np.bool_)
        self.effective_states = np.zeros(0, np.uint16)
        self.effective_tint = np.zeros((0, 4), np.float32)
        self.effective_mask = np.zeros(0, np.uint8)
        self.sequence = np.zeros((0, 3), np.uint32)
        self.own = np.zeros(0, np.uint8)
        """Which parts of the transform the device has set, a bit for each column of ``sequence``."""
        self._stale = np.zeros(0, np.bool_)
        self._moved = np.zeros(0, np.bool_)
        self._restyled = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self._slot_of)

    def __contains__(self, entity: int) -> bool:
        return entity in self._slot_of

    # Looking up -------------------------------------------------------------------------------------------------

    def slot(self, entity: int) -> int:
        """The row of an entity. Raises InvalidId."""
        try:
            return self._slot_of[entity]
        except KeyError:
            raise invalid_id(entity) from None

    def slots(self, entities: NDArray[np.integer[Any]]) -> Slots:
        """The rows (n,) of many entities. Raises InvalidId for the first that does not exist."""
        found = self.find_slots(entities)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            raise invalid_id(int(entities[missing[0]]))
        return found

    def find_slots(self, entities: NDArray[np.integer[Any]]) -> Slots:
        """The rows (n,) of many entities, -1 for those that do not exist."""
        if self._sorted is None and len(entities) * 16 < len(self._slot_of):
            find = self._slot_of.get
            return np.array([find(entity, -1) for entity in entities.tolist()], np.int64)
        if self._sorted is None:
            ids = np.fromiter(self._slot_of.keys(), np.int64, len(self._slot_of))
            rows = np.fromiter(self._slot_of.values(), np.int64, len(self._slot_of))
            order = np.argsort(ids)
            self._sorted = (ids[order], rows[order])
        ids, rows = self._sorted
        if not len(ids):
            return np.full(len(entities), -1, np.int64)
        wanted = entities.astype(np.int64)
        place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        return np.where(ids[place] == wanted, rows[place], -1)

    def name(self, slot: int) -> str:
        """An entity's name."""
        return self._names[slot]

    def children(self, slot: int) -> list[int]:
        """The rows of an entity's children, in the order in which they came."""
        return list(self._children.get(slot, ()))

    def subtree(self, slot: int) -> Slots:
        """The rows of an entity and all below it, itself first."""
        found = [slot]
        for item in found:
            found.extend(self._children.get(item, ()))
        return np.array(found, np.int64)

    def depth(self, slot: int) -> int:
        """Levels above an entity; 0 for a root."""
        count = 0
        parent = int(self.parent[slot])
        while parent >= 0:
            count += 1
            parent = int(self.parent[parent])
        return count

    # Structure --------------------------------------------------------------------------------------------------

    def create(
        self,
        entity: int,
        *,
        parent: int = 0,
        name: str = "",
        position: ArrayLike | None = None,
        rotation: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        enabled: bool = True,
    ) -> int:
        """Make an entity with an id that the device chose; its slot.

        Raises InvalidParam, AlreadyExists, InvalidParentId, StringTooLong, ExceedsMemoryLimit.
        """
        if not 0 < entity < FIRST_MODEL_ID:
            raise FarframeError(
                Result.INVALID_PARAM,
                f"{entity} is no id that a device may choose.",
                next_step=f"Choose one from 1 to {FIRST_MODEL_ID - 1}.",
            )
        if entity in self._slot_of:
            raise FarframeError(Result.ALREADY_EXISTS, f"There is already an entity {entity}.")
        above = self._parent_slot(parent)
        self._check_name(name)
        values = self._checked(position, rotation, scale, 1)
        depth = 0 if above < 0 else self.depth(above) + 1
        self._check_depth(depth)
        slot = int(self._allocate(1)[0])
        self.id[slot], self.parent[slot], self.enabled[slot] = entity, above, enabled
        for array, value in zip((self.position, self.rotation, self.scale), values, strict=True):
            if value is not None:
                array[slot] = value[0]
        self._names[slot] = name
        self._slot_of[entity] = slot
        self._attach(slot, above, 0)
        self._structure_changed()
        return slot

    def reserve(self, count: int) -> None:
        """Whether ``count`` more entities would fit. Raises ExceedsMemoryLimit."""
        if len(self._slot_of) + count > self._max_entities:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"A scene holds at most {self._max_entities:,} entities.",
                next_step="Destroy some first, or convert models with sceneGraphMode none.",
            )

    def add_tree(
        self,
        parents: NDArray[np.integer[Any]],
        names: Sequence[str],
        position: NDArray[np.float64],
        rotation: NDArray[np.float64],
        scale: NDArray[np.float64],
        *,
        parent: int = 0,
        static: bool = False,
    ) -> int:
        """Make the entities of a model, with ids that count up from the one that is returned.

        ``parents`` (k,) rows of the tree, each above its own row, -1 for what hangs below ``parent`` (an id or 0): the
        first row only. With ``static`` all but the first can neither be moved nor reparented. Names that are too long
        are cut. Raises InvalidParentId, ExceedsMemoryLimit.
        """
        count = len(parents)
        if count < 1 or parents[0] != -1 or (count > 1 and not ((parents[1:] >= 0).all())):
            raise ValueError("a tree has one root, its first row")
        above = self._parent_slot(parent)
        self.reserve(count)
        if self._next_model_id + count - 1 > MAX_ID:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT, "All ids of this connection are used.", next_step="Connect anew."
            )
        rows = np.asarray(parents, np.int64)
        # Lists, since single numbers in arrays cost several times as much.
        ups: list[int] = rows.tolist()
        level, tall = [0] * count, [0] * count
        for row, up in enumerate(ups):
            if up >= row:
                raise ValueError("a parent comes before its children")
            if up >= 0:
                level[row] = level[up] + 1
        self._check_depth((0 if above < 0 else self.depth(above) + 1) + max(level))
        for row in range(count - 1, 0, -1):
            up = ups[row]
            tall[up] = max(tall[up], tall[row] + 1)
        first = self._next_model_id
        self._next_model_id += count
        slots = self._allocate(count)
        self.id[slots] = np.arange(first, first + count)
        self.parent[slots] = np.where(rows < 0, above, slots[np.maximum(rows, 0)])
        self.position[slots], self.rotation[slots], self.scale[slots] = position, rotation, scale
        self.static[slots[1:]] = static
        self.height[slots] = tall
        listed = slots.tolist()
        for slot, name in zip(listed, names, strict=True):
            self._names[slot] = name[:MAX_NAME_CHARACTERS]
        self._slot_of.update(zip(range(first, first + count), listed, strict=True))
        for slot, up in zip(listed[1:], ups[1:], strict=True):
            self._children.setdefault(listed[up], {})[slot] = None
        self._attach(listed[0], above, tall[0])
        self._structure_changed()
        return first

    def destroy(self, entity: int) -> Slots:
        """Take an entity and all below it out; the slots that were theirs. Raises InvalidId."""
        slot = self.slot(entity)
        gone = self.subtree(slot)
        self._detach(slot)
        for row in gone.tolist():
            self._children.pop(row, None)
            self._names[row] = ""
            del self._slot_of[int(self.id[row])]
        self.id[gone] = 0
        self.parent[gone] = -1
        self._free.extend(reversed(gone.tolist()))
        self._structure_changed()
        return gone

    def set_parent(self, entity: int, parent: int) -> None:
        """Hang an entity below another one, or below none (0); its local transform stays as it is.

        Raises InvalidId, InvalidParentId, CyclicReference, ObjectStatic, ExceedsMemoryLimit (too deep).
        """
        slot = self.slot(entity)
        above = self._parent_slot(parent)
        if self.static[slot]:
            raise _static(entity)
        up, depth = above, 0
        while up >= 0:
            if up == slot:
                raise FarframeError(Result.CYCLIC_REFERENCE, f"The entity {entity} would become its own ancestor.")
            up, depth = int(self.parent[up]), depth + 1
        if depth + int(self.height[slot]) >= self._max_depth:
            self._measure(slot)
        self._check_depth(depth + int(self.height[slot]))
        self._detach(slot)
        self.parent[slot] = above
        self._attach(slot, above, int(self.height[slot]))
        self._moved[slot] = self._restyled[slot] = True
        self._structure_changed()

    def clear(self) -> None:
        """Take everything out. Ids of models go on from where they were."""
        self._free = list(range(self._used - 1, -1, -1))
        self._slot_of.clear()
        self._children.clear()
        self._names = [""] * self._used
        self.id[:] = 0
        self.parent[:] = -1
        self._structure_changed()

    # What entities have -----------------------------------------------------------------------------------------

    def set_name(self, entity: int, name: str) -> None:
        """Raises InvalidId, StringTooLong."""
        slot = self.slot(entity)
        self._check_name(name)
        self._names[slot] = name

    def set_enabled(self, slots: Slots, enabled: bool) -> None:
        """Draw and hit the subtrees of these entities, or neither."""
        changed = slots[self.enabled[slots] != enabled]
        if len(changed):
            self.enabled[changed] = enabled
            self._restyled[changed] = True
            self._dirty = True

    def set_transforms(
        self,
        slots: Slots,
        *,
        position: ArrayLike | None = None,
        rotation: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        sequence: int | None = None,
        skip_static: bool = False,
    ) -> None:
        """Place entities anew, relative to their parents. ``position``, ``scale`` (n, 3), ``rotation`` (n, 4) of any
        length but zero; what is not given stays.

        ``sequence``: counts up (modulo 2^32) with each message of transforms; what a later one has already set is left.
        Raises InvalidParam, and ObjectStatic unless ``skip_static``.
        """
        values = self._checked(position, rotation, scale, len(slots))
        fixed = self.static[slots]
        if fixed.any():
            if not skip_static:
                raise _static(int(self.id[slots[np.argmax(fixed)]]))
            slots = slots[~fixed]
            values = tuple(None if value is None else value[~fixed] for value in values)  # type: ignore[assignment]
        touched = False
        for column, (array, value) in enumerate(zip((self.position, self.rotation, self.scale), values, strict=True)):
            if value is None:
                continue
            rows, placed = slots, value
            if sequence is not None:
                number = np.uint32(sequence)
                newer = (number - self.sequence[rows, column]) < _HALF
                rows, placed = rows[newer], placed[newer]
                self.sequence[rows, column] = number
            array[rows] = placed
            self.own[rows] |= np.uint8(1 << column)
            self._stale[rows] = self._moved[rows] = True
            touched = touched or bool(len(rows))
        self._dirty = self._dirty or touched

    def pose(self, slots: Slots, position: Any, rotation: Any, scale: Any) -> None:
        """Draw entities elsewhere than they are: their local matrix is made of these (n, 3), unit (n, 4) and (n, 3),
        until :meth:`unpose`, or until their own transform is set."""
        with np.errstate(all="ignore"):
            self.local[slots] = compose(position, rotation, scale)
        self._stale[slots] = False
        self._moved[slots] = True
        self._dirty = self._dirty or bool(len(slots))

    def unpose(self, slots: Slots) -> None:
        """Draw entities where they are."""
        self._stale[slots] = self._moved[slots] = True
        self._dirty = self._dirty or bool(len(slots))

    def unsettled(self, slots: Slots) -> bool:
        """Whether the transform of any of these was set since the last :meth:`update`, or :meth:`pose`."""
        return bool(self._stale[slots].any())

    def forget_sequences(self) -> None:
        """Whoever moves entities from now on counts anew."""
        self.sequence[:] = 0

    def set_states(
        self,
        slots: Slots,
        *,
        on: int = 0,
        off: int = 0,
        inherit: int = 0,
        tint: ArrayLike | None = None,
        mask: int | None = None,
    ) -> None:
        """Force states on or off for entities and what is below them, or let them inherit; others stay as they are.

        ``on``, ``off``, ``inherit``: bits of :class:`State`, each in one of them at most. ``tint``: linear RGB and
        weight, each 0 to 1; ``mask``: 0 to 255. Raises InvalidParam.
        """
        if (on | off | inherit) & ~ALL_STATES or min(on, off, inherit) < 0:
            raise _invalid("There is no such state.")
        if on & off or on & inherit or off & inherit:
            raise _invalid("A state cannot be forced on and off, or forced and inherited, at once.")
        color = None
        if tint is not None:
            color = _numbers(tint, "tint", (4,))
            if color.min() < 0.0 or color.max() > 1.0:
                raise _invalid("The numbers of a tint lie between 0 and 1.")
        if mask is not None and not 0 <= mask <= ALL_CUT_PLANES:
            raise _invalid("A cut-plane mask lies between 0 and 255.")
        clear = np.uint16(ALL_STATES & ~(on | off | inherit))
        self.force_on[slots] = (self.force_on[slots] & clear) | np.uint16(on)
        self.force_off[slots] = (self.force_off[slots] & clear) | np.uint16(off)
        if color is not None:
            self.tint[slots] = color
        if mask is not None:
            self.mask[slots] = mask
        self._restyled[slots] = True
        self._dirty = self._dirty or bool(len(slots))

    # Bringing up to date ----------------------------------------------------------------------------------------

    def update(self) -> Changes:
        """Make world matrices and inherited states follow; which slots changed, since the last call.

        An entity that was made since then counts as changed in both ways.
        """
        if not self._dirty:
            return NO_CHANGES
        self._dirty = False
        levels = self._levels if self._levels is not None else self._ordered()
        stale = np.flatnonzero(self._stale[: self._used])
        with np.errstate(all="ignore"):  # what overflows is drawn nowhere
            self.local[stale] = compose(self.position[stale], self.rotation[stale], self.scale[stale])
            self._stale[stale] = False
            for number, rows in enumerate(levels):
                if number:
                    above = self.parent[rows]
                    self._moved[rows] |= self._moved[above]
                    self._restyled[rows] |= self._restyled[above]
                self._place(rows[self._moved[rows]], root=number == 0)
                self._style(rows[self._restyled[rows]], root=number == 0)
        alive = self.id[: self._used] != 0
        moved = np.flatnonzero(self._moved[: self._used] & alive)
        restyled = np.flatnonzero(self._restyled[: self._used] & alive)
        self._moved[: self._used] = False
        self._restyled[: self._used] = False
        return Changes(moved, restyled)

    def _place(self, rows: Slots, *, root: bool) -> None:
        if len(rows):
            self.world[rows] = self.local[rows] if root else multiply(self.world[self.parent[rows]], self.local[rows])

    def _style(self, rows: Slots, *, root: bool) -> None:
        if not len(rows):
            return
        on, off = self.force_on[rows], self.force_off[rows]
        if root:
            enabled: Any = True
            states: Any = np.zeros(len(rows), np.uint16)
            tint: Any = np.zeros((len(rows), 4), np.float32)
            mask: Any = np.full(len(rows), ALL_CUT_PLANES, np.uint8)
        else:
            above = self.parent[rows]
            enabled = self.effective_enabled[above]
            states, tint = self.effective_states[above], self.effective_tint[above]
            mask = self.effective_mask[above]
        self.effective_enabled[rows] = enabled & self.enabled[rows]
        self.effective_states[rows] = (states & ~(on | off)) | on
        tinted, cleared = _has(on, State.USE_TINT_COLOR), _has(off, State.USE_TINT_COLOR)
        self.effective_tint[rows] = np.where(
            tinted[:, None], self.tint[rows], np.where(cleared[:, None], np.float32(0.0), tint)
        )
        masked, unmasked = _has(on, State.USE_CUT_PLANE_FILTER_MASK), _has(off, State.USE_CUT_PLANE_FILTER_MASK)
        self.effective_mask[rows] = np.where(
            masked, self.mask[rows], np.where(unmasked, np.uint8(ALL_CUT_PLANES), mask)
        )

    def _ordered(self) -> list[Slots]:
        """The slots of all entities by level, roots first. Depths by doubling the distance to the known ancestor."""
        rows = np.flatnonzero(self.id[: self._used] != 0)
        depth = np.zeros(self._used, np.int64)
        ancestor = self.parent[: self._used].copy()
        inner = rows[ancestor[rows] >= 0]
        depth[inner] = 1
        while len(inner):
            up = ancestor[inner]
            step, further = depth[up], ancestor[up]
            depth[inner] += step
            ancestor[inner] = further
            inner = inner[further >= 0]
        order = rows[np.argsort(depth[rows], kind="stable")]
        counts = np.bincount(depth[order]) if len(order) else np.zeros(0, np.int64)
        self._levels = np.split(order, np.cumsum(counts)[:-1]) if len(order) else []
        return self._levels

    # Small things -----------------------------------------------------------------------------------------------

    def _parent_slot(self, parent: int) -> int:
        if parent == 0:
            return -1
        slot = self._slot_of.get(parent)
        if slot is None:
            raise FarframeError(Result.INVALID_PARENT_ID, f"No entity has the id {parent}, which is to be the parent.")
        return slot

    def _allocate(self, count: int) -> Slots:
        """Slots for ``count`` entities, set to the standard values of new ones. Raises ExceedsMemoryLimit."""
        self.reserve(count)
        taken = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(taken)
        if self._used + fresh > len(self.id):
            self._grow(max(64, 2 * len(self.id), self._used + fresh))
        slots = np.array([*taken, *range(self._used, self._used + fresh)], np.int64)
        self._used += fresh
        self._names.extend([""] * fresh)
        for column, value in self._columns.items():
            getattr(self, column)[slots] = value
        return slots

    def _grow(self, capacity: int) -> None:
        for column in self._columns:
            old = getattr(self, column)
            larger = np.zeros((capacity, *old.shape[1:]), old.dtype)
            larger[: len(old)] = old
            setattr(self, column, larger)

    def _attach(self, slot: int, above: int, height: int) -> None:
        if above < 0:
            return
        self._children.setdefault(above, {})[slot] = None
        while above >= 0 and self.height[above] <= height:
            height += 1
            self.height[above] = height
            above = int(self.parent[above])

    def _detach(self, slot: int) -> None:
        above = int(self.parent[slot])
        if above >= 0:
            siblings = self._children[above]
            del siblings[slot]
            if not siblings:
                del self._children[above]

    def _measure(self, slot: int) -> None:
        """Find an entity's true height."""
        level, height = [slot], -1
        while level:
            height += 1
            level = [child for row in level for child in self._children.get(row, ())]
        self.height[slot] = height

    def _structure_changed(self) -> None:
        self._sorted = None
        self._levels = None
        self._dirty = True

    def _check_depth(self, depth: int) -> None:
        if depth >= self._max_depth:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"Entities may be nested at most {self._max_depth} deep.",
                next_step="Attach it further up.",
            )

    @staticmethod
    def _check_name(name: str) -> None:
        if len(name) > MAX_NAME_CHARACTERS:
            raise FarframeError(
                Result.STRING_TOO_LONG,
                f"A name of {len(name):,} characters is too long.",
                next_step=f"Use at most {MAX_NAME_CHARACTERS}.",
            )

    @staticmethod
    def _checked(
        position: ArrayLike | None, rotation: ArrayLike | None, scale: ArrayLike | None, count: int
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """The parts of ``count`` transforms as arrays, rotations of unit length. Raises InvalidParam."""
        places = None if position is None else _numbers(position, "position", (count, 3))
        sizes = None if scale is None else _numbers(scale, "scale", (count, 3))
        if rotation is None:
            return places, None, sizes
        turns = _numbers(rotation, "rotation", (count, 4))
        largest = np.abs(turns).max(axis=1) if len(turns) else np.zeros(0)
        if (largest < 1e-30).any():
            raise _invalid("A rotation is a quaternion of any length but zero.")
        turns = turns / largest[:, None]
        turns = turns / np.sqrt(np.einsum("ni,ni->n", turns, turns))[:, None]
        return places, turns, sizes


def _has(states: NDArray[np.uint16], state: State) -> NDArray[np.bool_]:
    return np.asarray(states & np.uint16(int(state)) != 0, np.bool_)


def _static(entity: int) -> FarframeError:
    return FarframeError(
        Result.OBJECT_STATIC,
        f"The entity {entity} is part of a model that was converted with sceneGraphMode static.",
        next_step="Move the model's root, or convert it with sceneGraphMode dynamic.",
    )


def _numbers(value: ArrayLike, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, np.float64)
        if array.size == int(np.prod(shape)) and array.ndim <= len(shape):
            array = array.reshape(shape)
    except (TypeError, ValueError, OverflowError):
        raise _invalid(f"{name} does not hold numbers.") from None
    if array.shape != shape:
        raise _invalid(f"{name} has the wrong number of values.")
    if not np.isfinite(array).all():
        raise _invalid(f"{name} holds a number that is not finite.")
    if len(array) and np.abs(array).max() > MAX_COORDINATE:
        raise _invalid(f"{name} holds a number larger than {MAX_COORDINATE:g}.")
    return array


def ids_of(graph: Graph, slots: Iterable[int]) -> list[int]:
    """The ids of entities by their slots."""
    return [int(graph.id[slot]) for slot in slots]
