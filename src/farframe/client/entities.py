"""Entities as the device holds them: what it sets is there at once, and goes to the server by itself.

The server never changes them. What it refuses is told by :meth:`Scene.flush`, :meth:`Scene.batch` or
:meth:`Scene.on_failure`; what can be seen to be wrong here is raised at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farframe.client.dressed import Dressed
from farframe.client.errors import RequestError
from farframe.protocol import scene as wire
from farframe.protocol.errors import Result
from farframe.protocol.messages import Bounds

if TYPE_CHECKING:
    from farframe.client.loads import LoadedModel
    from farframe.client.materials import Material
    from farframe.client.scene import Scene

Vector3 = tuple[float, float, float]
Vector4 = tuple[float, float, float, float]

STATES = {
    "hidden": 1,
    "selected": 2,
    "see_through": 4,
    "tint": 8,
    "disable_collision": 16,
    "cut_plane_mask": 64,
    "shell": 128,
    "transparency_writes_depth": 256,
}
"""The states of a subtree and their numbers on the wire."""


class _Keep(Enum):
    KEEP = 0


KEEP = _Keep.KEEP
"""Leave it as it is."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an entity forces upon itself and all below it: ``True`` or ``False``, or ``None`` to inherit.

    The nearest force on the way up to the root wins, for each state on its own. ``hidden``: not drawn, but still hit by
    rays; ``selected``: outlined; ``tint``: linear RGB, and how much of it is seen, 0 to 1 (``False``: no tint);
    ``disable_collision``: not hit by rays; ``cut_plane_mask``: 0 to 255, which planes cut it (``False``: all).
    """

    hidden: bool | None = None
    selected: bool | None = None
    see_through: bool | None = None
    tint: Vector4 | Literal[False] | None = None
    disable_collision: bool | None = None
    cut_plane_mask: int | Literal[False] | None = None
    shell: bool | None = None
    transparency_writes_depth: bool | None = None


NO_OVERRIDES = Overrides()


class Entity(Dressed):
    """A named transform in the scene, with all that hangs below it. Made by :class:`Scene`.

    ``position`` (metres, double), ``rotation`` (unit quaternion x, y, z, w) and ``scale`` are relative to the parent.
    """

    __slots__ = ("_alive", "_children", "_enabled", "_flags", "_name", "_overrides", "_parent", "_row", "_scene", "id")

    def __init__(self, scene: Scene, identifier: int, row: int, name: str, parent: Entity | None, flags: int) -> None:
        self.id = identifier
        """Names the entity on the wire."""
        self._scene = scene
        self._row = row
        self._name = name
        self._parent = parent
        self._children: dict[Entity, None] = {}
        self._enabled = not flags & wire.IS_DISABLED
        self._flags = flags
        self._overrides = NO_OVERRIDES
        self._alive = True

    def __repr__(self) -> str:
        return f"Entity({self.id}, {self._name!r}{'' if self._alive else ', destroyed'})"

    # Structure --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """For people and for :meth:`Scene.find`; any number of entities may have the same."""
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._scene._rename(self, value)

    @property
    def parent(self) -> Entity | None:
        """What it hangs below. Setting it keeps the local transform.

        Raises RequestError: CyclicReference, ObjectStatic, InvalidId.
        """
        return self._parent

    @parent.setter
    def parent(self, value: Entity | None) -> None:
        self._scene._reparent(self, value)

    @property
    def children(self) -> tuple[Entity, ...]:
        """What hangs directly below it."""
        return tuple(self._children)

    def descendants(self) -> Iterator[Entity]:
        """The entity itself and all below it, parents first."""
        waiting = [self]
        while waiting:
            entity = waiting.pop()
            yield entity
            waiting.extend(reversed(entity._children))

    def find(self, name: str) -> Entity | None:
        """The first with that name among the entity and all below it."""
        return next((entity for entity in self.descendants() if entity._name == name), None)

    def destroy(self) -> None:
        """Take it and all below it out. The root of a model takes the model with it. Twice is fine."""
        if self._alive:
            self._scene._destroy(self)

    @property
    def valid(self) -> bool:
        """Whether it has not been destroyed."""
        return self._alive

    @property
    def has_mesh(self) -> bool:
        """Whether a model draws something at it."""
        return bool(self._flags & wire.IS_MESH)

    @property
    def is_point_cloud(self) -> bool:
        """Whether what is drawn at it are points."""
        return bool(self._flags & wire.IS_CLOUD)

    @property
    def is_static(self) -> bool:
        """Whether it is a part of a model that was converted so that parts cannot be moved."""
        return bool(self._flags & wire.IS_STATIC)

    @property
    def model(self) -> LoadedModel | None:
        """The model whose root it is."""
        return self._scene._models.get(self.id)

    # Transform and states ---------------------------------------------------------------------------------------

    @property
    def position(self) -> Vector3:
        """Relative to the parent, metres."""
        x, y, z = self._scene._store.position[self._row].tolist()
        return (x, y, z)

    @position.setter
    def position(self, value: ArrayLike) -> None:
        self._scene._place((self,), np.array([self._row]), {"position": np.asarray(value, np.float64)[None]})

    @property
    def rotation(self) -> Vector4:
        """Unit quaternion x, y, z, w. Any length but zero may be set."""
        x, y, z, w = self._scene._store.rotation[self._row].tolist()
        return (x, y, z, w)

    @rotation.setter
    def rotation(self, value: ArrayLike) -> None:
        self._scene._place((self,), np.array([self._row]), {"rotation": np.asarray(value, np.float64)[None]})

    @property
    def scale(self) -> Vector3:
        """One factor for each axis."""
        x, y, z = self._scene._store.scale[self._row].tolist()
        return (x, y, z)

    @scale.setter
    def scale(self, value: ArrayLike) -> None:
        array = np.asarray(value, np.float64)
        self._scene._place((self,), np.array([self._row]), {"scale": np.broadcast_to(array, (3,))[None]})

    @property
    def enabled(self) -> bool:
        """Whether it and all below it are drawn and hit by rays; beats every override."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._scene._enable(self, bool(value))

    @property
    def overrides(self) -> Overrides:
        """What it forces upon itself and all below it."""
        return self._overrides

    def override(
        self,
        *,
        hidden: bool | _Keep | None = KEEP,
        selected: bool | _Keep | None = KEEP,
        see_through: bool | _Keep | None = KEEP,
        tint: Vector4 | Literal[False] | _Keep | None = KEEP,
        disable_collision: bool | _Keep | None = KEEP,
        cut_plane_mask: int | Literal[False] | _Keep | None = KEEP,
        shell: bool | _Keep | None = KEEP,
        transparency_writes_depth: bool | _Keep | None = KEEP,
    ) -> None:
        """Force states upon the entity and all below it, or (``None``) let it inherit again; see :class:`Overrides`.

        What is not given stays. Raises ValueError for a colour or mask out of range.
        """
        changes: dict[str, Any] = {
            name: value
            for name, value in (
                ("hidden", hidden),
                ("selected", selected),
                ("see_through", see_through),
                ("tint", tint),
                ("disable_collision", disable_collision),
                ("cut_plane_mask", cut_plane_mask),
                ("shell", shell),
                ("transparency_writes_depth", transparency_writes_depth),
            )
            if value is not KEEP
        }
        self._scene._override((self,), changes)

    # Queries ----------------------------------------------------------------------------------------------------

    async def bounds(self, space: Literal["world", "local"] = "world") -> Bounds | None:
        """The box of all that is drawn at it and below, or ``None`` for nothing, after everything set so far."""
        return await self._scene._bounds(self, space)

    async def metadata(self) -> dict[str, bool | int | float | str]:
        """What the model's file says about it, and about nothing below it."""
        return await self._scene._metadata(self)


class Group(Sequence[Entity]):
    """Entities whose transforms and states are set together, by arrays. Made by :meth:`Scene.group`.

    Nothing is done for each entity in Python: thousands may be set with every frame.
    """

    def __init__(self, scene: Scene, entities: Sequence[Entity]) -> None:
        self._scene = scene
        self._entities = tuple(entities)
        self._rows = np.array([entity._row for entity in self._entities], np.int64)
        self._version = scene._destroyed

    def __len__(self) -> int:
        return len(self._entities)

    def __getitem__(self, index: Any) -> Any:
        return self._entities[index]

    @property
    def positions(self) -> NDArray[np.float64]:
        """(n, 3) metres, each relative to its parent. A copy; set all of it."""
        return self._scene._store.position[self._live()]

    @positions.setter
    def positions(self, value: ArrayLike) -> None:
        self.set(positions=value)

    @property
    def rotations(self) -> NDArray[np.float64]:
        """(n, 4) unit quaternions x, y, z, w."""
        return self._scene._store.rotation[self._live()]

    @rotations.setter
    def rotations(self, value: ArrayLike) -> None:
        self.set(rotations=value)

    @property
    def scales(self) -> NDArray[np.float64]:
        """(n, 3)."""
        return self._scene._store.scale[self._live()]

    @scales.setter
    def scales(self, value: ArrayLike) -> None:
        self.set(scales=value)

    def set(
        self,
        *,
        positions: ArrayLike | None = None,
        rotations: ArrayLike | None = None,
        scales: ArrayLike | None = None,
        streaming: bool = False,
    ) -> None:
        """Place all of them anew; what is not given stays. Each array has a row for each entity, or one for all.

        ``streaming``: for what is set with every frame. It goes out at once and is not sent again when it is lost on
        the way, so that it is never late; once nothing new comes, the last of it is made sure of.
        """
        changes: dict[str, NDArray[np.float64]] = {}
        for name, value, width in (("position", positions, 3), ("rotation", rotations, 4), ("scale", scales, 3)):
            if value is not None:
                changes[name] = np.broadcast_to(np.asarray(value, np.float64), (len(self), width))
        self._scene._place(self._entities, self._live(), changes, streaming=streaming)

    def override(self, **changes: Any) -> None:
        """As :meth:`Entity.override`, for each of them."""
        unknown = changes.keys() - STATES.keys()
        if unknown:
            raise TypeError(f"there is no state {min(unknown)!r}")
        self._live()
        self._scene._override(self._entities, changes)

    def dress(self, material: Material | None) -> None:
        """Draw all sub-parts of each of them with ``material``, or (``None``) with their meshes' own again; points stay
        as they are. Raises RequestError (InvalidId, NotSupported for a model's material)."""
        self._live()
        self._scene._looks.dress(self._entities, material)

    def _live(self) -> NDArray[np.int64]:
        if self._version != self._scene._destroyed:
            for entity in self._entities:
                require(entity)
            self._version = self._scene._destroyed
        return self._rows


def require(entity: Entity) -> None:
    """Raises RequestError (InvalidId) for an entity that was destroyed."""
    if not entity._alive:
        raise RequestError(Result.INVALID_ID, f"The entity {entity.id} ({entity._name!r}) was destroyed.")
