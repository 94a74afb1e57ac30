"""The scene of a connection, as the device holds it: entities, what is set of them, and how that reaches the server.

    root = await connection.scene.load_model("builtin://Engine")
    root.position = (0, 1, 0)                               there at once, sent with the loop's next turn
    async with connection.scene.batch():                    sent together, shown in one frame, failures raised here
        root.children[0].override(hidden=True)

Everything set within one turn of the event loop goes out as one batch. The server takes batches in order and never
answers back with state of its own, so nothing here waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from farframe.client._overrides import bits_of, check_overrides, overrides_of
from farframe.client._placement import carried
from farframe.client._store import BITS, Store
from farframe.client._store import checked as check_numbers
from farframe.client.animations import Animation
from farframe.client.entities import STATES, Entity, Group, Overrides, Vector3, Vector4, require
from farframe.client.errors import ConnectionLostError, RequestError, RuntimeConnectionError
from farframe.client.looks import Appearance, Looks
from farframe.client.materials import Texture
from farframe.client.queries import Overlaps, vector
from farframe.client.queries import params as overlap_params
from farframe.protocol import animations, queries
from farframe.protocol import scene as wire
from farframe.protocol.appearance import DestroyTexture, FirstParams, TextureInfo, TexturesResult
from farframe.protocol.errors import Result
from farframe.protocol.messages import Bounds, Message, T

if TYPE_CHECKING:
    from farframe.client.loads import LoadCallback, LoadedModel

MAX_NAME_CHARACTERS = 1024
MAX_IN_FLIGHT = 16
"""Batches that have been sent and not answered."""
MESSAGE_BYTES = 160_000
ENTITIES_PER_COMMAND = 1500
"""So that a message stays below what the control channel takes."""
MOST_BATCH_BYTES = wire.MAX_BATCH_BYTES * 9 // 10
"""Of commands, so that their messages stay below what the server keeps of a batch."""
REST_SECONDS = 0.15
"""After so long without anything new, what was streamed is made sure of."""
KEPT_FAILURES = 1000


@dataclass(frozen=True, slots=True)
class SceneFailure:
    """A command that the server refused: ``result`` and a sentence."""

    result: Result
    message: str


@dataclass(frozen=True, slots=True)
class RayHit:
    """Where a ray met something. World space, metres; ``normal``: unit, of the surface; ``sub_part``: which of the
    entity's parts, from 0; ``kind``: the ``front`` or ``back`` of a triangle, or a ``point``; ``corners`` of the
    triangle, counter-clockwise seen from its front, where they were asked for."""

    entity: Entity
    sub_part: int
    position: Vector3
    normal: Vector3
    distance: float
    kind: Literal["front", "back", "point"]
    corners: tuple[Vector3, Vector3, Vector3] | None = None


@dataclass(frozen=True, slots=True)
class RayHits(Sequence[RayHit]):
    """The hits of a ray by distance. ``complete`` is false when the server could not look at all geometry in time."""

    hits: tuple[RayHit, ...]
    complete: bool

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, index: Any) -> Any:
        return self.hits[index]


@dataclass(slots=True, eq=False)
class _Message:
    """Commands that go out together. ``batch``: all messages that take effect with it; ``number``: rises with
    each time that commands are queued; ``again``: it may have been done before."""

    commands: list[msgspec.Raw]
    sequence: int
    number: int
    again: bool = False
    batch: list[_Message] = field(default_factory=list)


def _reaches(messages: Iterable[_Message], last: int) -> bool:
    """Whether messages in order begin with one that was queued by then."""
    first = next(iter(messages), None)
    return first is not None and first.number <= last


def _joined(messages: list[_Message]) -> list[_Message]:
    for message in messages:
        message.batch = messages
    return messages


_DONE_BEFORE = frozenset({Result.ALREADY_EXISTS, Result.INVALID_ID, Result.INVALID_PARENT_ID, Result.CYCLIC_REFERENCE})


class Link(Protocol):
    """What a scene needs of its connection."""

    async def call(self, method: str, params: Message, kind: type[T]) -> T:
        """Ask the server, without a limit of time: while the connection lives it answers."""
        ...

    def send_record(self, data: bytes) -> None:
        """Send a record that may be lost."""
        ...

    async def load(self, model: str | os.PathLike[str], progress: LoadCallback | None, parent: int) -> LoadedModel:
        """Load a model."""
        ...

    async def load_texture(
        self, texture: str | os.PathLike[str], kind: Literal["2d", "cube"], progress: LoadCallback | None
    ) -> TextureInfo:
        """Load a texture."""
        ...

    def changed(self) -> None:
        """What is drawn differs from now on."""
        ...

    def model_gone(self, model: LoadedModel) -> None:
        """A model is in the scene no more."""
        ...


class Scene(Appearance):
    """The entities of a connection, and how they look. ``connection.scene`` is it; see the module."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._store = Store()
        self._entities: dict[int, Entity] = {}
        self._roots: dict[Entity, None] = {}
        self._models: dict[int, LoadedModel] = {}
        self._scattered = False
        self._next_id = 1
        self._destroyed = 0
        self._structure: list[wire.Command] = []
        self._looks = Looks(self._enqueue)
        self._switched: dict[Entity, None] = {}
        self._restyled: dict[Entity, None] = {}
        self._sequence = 0
        self._scheduled: asyncio.Handle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._held = 0
        self._outgoing: deque[_Message] = deque()
        self._unanswered: dict[_Message, None] = {}
        """Sent, and their batch not answered, in order."""
        self._in_flight: set[asyncio.Task[None]] = set()
        self._queued = 0
        self._moved_on = asyncio.Event()
        self._orphans: set[int] = set()
        self._new_failures: list[tuple[int, SceneFailure]] = []
        """With the number of what was queued."""
        self._error: RuntimeConnectionError | None = None
        self._callbacks: list[Callable[[SceneFailure], None]] = []

    # What is there ----------------------------------------------------------------------------------------------

    @property
    def roots(self) -> tuple[Entity, ...]:
        """The entities without a parent, oldest first."""
        return tuple(self._roots)

    def __len__(self) -> int:
        return len(self._entities)

    def __iter__(self) -> Iterator[Entity]:
        for root in self.roots:
            yield from root.descendants()

    def get(self, identifier: int) -> Entity | None:
        """The entity with that id."""
        return self._entities.get(identifier)

    def find(self, name: str) -> Entity | None:
        """The first with that name, roots first."""
        return next((entity for entity in self if entity.name == name), None)

    def find_all(self, name: str) -> list[Entity]:
        """All with that name."""
        return [entity for entity in self if entity.name == name]

    def group(self, entities: Sequence[Entity]) -> Group:
        """Entities whose transforms and states are set together, by arrays."""
        for entity in entities:
            require(entity)
        return Group(self, entities)

    # What makes and takes ---------------------------------------------------------------------------------------

    def create(
        self,
        name: str = "",
        *,
        parent: Entity | None = None,
        position: Vector3 = (0.0, 0.0, 0.0),
        rotation: Vector4 = (0.0, 0.0, 0.0, 1.0),
        scale: Vector3 = (1.0, 1.0, 1.0),
        enabled: bool = True,
    ) -> Entity:
        """Make an entity. It is there at once. Raises RequestError: StringTooLong, InvalidId (of the parent)."""
        _check_name(name)
        if parent is not None:
            require(parent)
        row = self._store.allocate(1)
        entity = Entity(self, self._next_id, int(row[0]), name, parent, 0 if enabled else wire.IS_DISABLED)
        try:
            values = {"position": [position], "rotation": [rotation], "scale": [scale]}
            checked = {key: check_numbers(key, np.asarray(value, np.float64), 1) for key, value in values.items()}
        except ValueError:
            self._store.free(row.tolist())
            raise
        for key, value in checked.items():
            getattr(self._store, key)[row] = value
        self._next_id += 1
        self._add(entity)
        self._structure.append(
            wire.Create(
                id=entity.id,
                parent=0 if parent is None else parent.id,
                name=name,
                position=entity.position,
                rotation=entity.rotation,
                scale=entity.scale,
                enabled=enabled,
            )
        )
        self._schedule()
        return entity

    async def load_model(
        self,
        model: str | os.PathLike[str],
        *,
        parent: Entity | None = None,
        progress: LoadCallback | None = None,
    ) -> Entity:
        """Load a model and return its root; its nodes hang below it, as far as its ``sceneGraphMode`` has them.

        ``model``, ``progress``, cancelling and errors as in :meth:`RuntimeConnection.load_model`. Loading the same
        again gives another instance. ``destroy()`` of the root takes the model out.
        """
        if parent is not None:
            require(parent)
        await self._send_first()
        loaded = await self._link.load(model, progress, 0 if parent is None else parent.id)
        last = loaded.root_entity + loaded.entity_count - 1
        try:
            await self._mirror(loaded.root_entity, last)
            of_model = [(loaded.root_entity, loaded.entity_count)]
            await self._looks.fetch(self._link.call, loaded.root_entity, last, of_model)
        except asyncio.CancelledError:
            # Nobody would know of it.
            self._queue([wire.Destroy(id=loaded.root_entity)])
            self._link.model_gone(loaded)
            raise
        root = self._entities[loaded.root_entity]
        self._models[root.id] = loaded
        return root

    async def load_texture(
        self,
        texture: str | os.PathLike[str],
        *,
        kind: Literal["2d", "cube"] = "2d",
        progress: LoadCallback | None = None,
    ) -> Texture:
        """Load a texture (DDS, KTX2, PNG, JPEG or HDR) from a URI that the render server reads or a path on this
        machine, as of :meth:`load_model`. The same URI gives the same texture for as long as that lives.

        Raises RequestError: FileNotFound, FileDownloadFailed, FileCorrupt, InvalidUri, InvalidParam (a file of the
        other kind), ExceedsMemoryLimit.
        """
        await self._send_first()
        self._looks.loading += 1
        try:
            return self._looks.add_texture(await self._link.load_texture(texture, kind, progress))
        finally:
            self._looks.loading -= 1
            self._schedule_orphans()

    def _discard_texture(self, info: TextureInfo) -> None:
        """Take a texture out that nobody here knows: its load was given up, or its answer was lost."""
        known = self._looks.textures.get(info.id)
        if info.wanted and (known is None or not known.valid):
            self._orphans.add(info.id)
            self._schedule_orphans()

    async def _discard_unknown_textures(self) -> None:
        """As :meth:`_discard_texture`, with all that the server has."""
        await self._send_first()
        at = 1
        while at:
            page = await self._link.call("scene.getTextures", FirstParams(first=at), TexturesResult)
            for info in page.textures:
                self._discard_texture(info)
            at = page.next if page.next > at else 0

    def _schedule_orphans(self) -> None:
        # The same URI gives the same texture: while one is loading it may be this one.
        if self._orphans and not self._looks.loading:
            self._schedule()

    def _destroy_orphans(self) -> None:
        if not self._orphans or self._looks.loading:
            return
        unknown = sorted(self._orphans - {texture.id for texture in self.textures})
        self._orphans.clear()
        if unknown:
            # One that was destroyed meanwhile is gone already, which is no failure that anybody should hear of.
            self._queue([DestroyTexture(id=number) for number in unknown], again=True)

    async def restore(self, models: Sequence[LoadedModel] = ()) -> None:
        """Take over what is in the scene at the server: for a connection that came back to it."""
        self._drop(list(self._roots))
        self._models = {model.root_entity: model for model in models}
        self._scattered = True  # by whoever was there before, as far as is known here
        await self._mirror(1, (1 << 32) - 1)
        ranges = [(model.root_entity, model.entity_count) for model in models]
        await self._looks.restore(self._link.call, self._entities, ranges)
        own = [identifier for identifier in self._entities if identifier < wire.FIRST_MODEL_ENTITY]
        self._next_id = max([self._next_id - 1, *own]) + 1

    async def _mirror(self, first: int, last: int) -> None:
        """Make local entities of those at the server that have ids in a range."""
        tables: list[wire.EntityTable] = []
        at = first
        while at:
            page = await self._link.call(
                "scene.getEntities", wire.EntitiesParams(first=at, last=last), wire.EntitiesResult
            )
            tables.append(await asyncio.to_thread(wire.unpack_entities, page.count, page.data))
            if page.next and page.next <= at:
                raise RequestError(Result.PROTOCOL_ERROR, "The server's pages of entities do not go on.")
            at = page.next
        above: dict[Entity, int] = {}
        for table in tables:
            rows = self._store.allocate(len(table.names))
            self._store.position[rows] = table.position
            self._store.rotation[rows], self._store.scale[rows] = table.rotation, table.scale
            self._store.id[rows] = table.id
            self._store.static[rows] = table.flags & wire.IS_STATIC != 0
            for place, (identifier, row, name, parent, flags, on, off) in enumerate(
                zip(
                    table.id.tolist(),
                    rows.tolist(),
                    table.names,
                    table.parent.tolist(),
                    table.flags.tolist(),
                    table.on.tolist(),
                    table.off.tolist(),
                    strict=True,
                )
            ):
                entity = Entity(self, identifier, row, name, None, flags)
                if on or off:
                    entity._overrides = overrides_of(on, off, table.tint[place].tolist(), int(table.mask[place]))
                self._entities[identifier] = entity
                above[entity] = parent
        for entity, parent in above.items():
            entity._parent = self._entities.get(parent)
            (self._roots if entity._parent is None else entity._parent._children)[entity] = None

    # Queries ----------------------------------------------------------------------------------------------------

    async def cast_ray(
        self,
        start: ArrayLike,
        end: ArrayLike,
        *,
        policy: Literal["closestHits", "closestHit", "anyHit"] = "closestHits",
        max_hits: int = 0,
        corners: bool = False,
    ) -> RayHits:
        """What a ray from ``start`` to ``end`` (world, metres) meets, at full detail, whatever is drawn.

        ``closestHits``: all by distance, at most ``max_hits`` (0: 1,024); ``closestHit``: the nearest; ``anyHit``: one.
        Hidden entities are hit, too; disabled ones and those with ``disable_collision`` are not. With ``corners`` the
        nearest 256 hits tell their triangles. Raises ValueError, RequestError (InvalidParam).
        """
        await self._send_first()
        params = wire.CastRayParams(
            start=vector(start), end=vector(end), policy=policy, max_hits=max_hits, corners=corners
        )
        result = await self._link.call("scene.castRay", params, wire.CastRayResult)
        hits = [
            RayHit(entity, hit.sub_part, hit.position, hit.normal, hit.distance, hit.kind, hit.corners)
            for hit in result.hits
            if (entity := self._entities.get(hit.entity)) is not None
        ]
        return RayHits(tuple(hits), result.complete)

    async def overlap_box(
        self, low: ArrayLike, high: ArrayLike, *, geometry: bool = False, max_results: int = 0
    ) -> Overlaps:
        """The parts that a box along the world's axes overlaps, from its lowest to its highest corner, metres.

        By the parts' own boxes, turned as they are, or with ``geometry`` by their triangles and points, at full detail.
        At most ``max_results`` (0: 8,192). As for rays, hidden entities count. Raises RequestError (InvalidParam).
        """
        return await self._overlap(queries.BoxShape(min=vector(low), max=vector(high)), geometry, max_results)

    async def overlap_sphere(
        self, center: ArrayLike, radius: float, *, geometry: bool = False, max_results: int = 0
    ) -> Overlaps:
        """The parts that a ball overlaps; see :meth:`overlap_box`."""
        shape = queries.SphereShape(center=vector(center), radius=float(radius))
        return await self._overlap(shape, geometry, max_results)

    async def overlap_oriented_box(
        self,
        center: ArrayLike,
        half_size: ArrayLike,
        rotation: Vector4 = (0.0, 0.0, 0.0, 1.0),
        *,
        geometry: bool = False,
        max_results: int = 0,
    ) -> Overlaps:
        """The parts that a box overlaps that ``rotation`` (quaternion x, y, z, w) turns; see :meth:`overlap_box`."""
        shape = queries.OrientedBoxShape(center=vector(center), half_size=vector(half_size), rotation=rotation)
        return await self._overlap(shape, geometry, max_results)

    async def _overlap(self, shape: queries.Shape, geometry: bool, max_results: int) -> Overlaps:
        await self._send_first()
        asked = overlap_params(shape, geometry, max_results)
        result = await self._link.call("scene.findOverlaps", asked, queries.FindOverlapsResult)
        return Overlaps.of(result, self._entities.get)

    async def animations(self, model: Entity) -> tuple[Animation, ...]:
        """The animations that the file of a model has, by its root; none for another entity. They are played by the
        server; see :class:`Animation`."""
        require(model)
        await self._send_first()
        found: list[Animation] = []
        while True:
            asked = animations.AnimationsParams(entity=model.id, first=len(found))
            page = await self._link.call("scene.getAnimations", asked, animations.AnimationsResult)
            found += [Animation(self, model, len(found) + place, info) for place, info in enumerate(page.animations)]
            if not page.more or not page.animations:
                return tuple(found)

    # Sending ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """What is set inside goes out together at the end, is shown by one frame, and is waited for.

        Raises RequestError for the first command that the server refused; the others were done. However large it is,
        one frame shows all of it, up to 65,536 commands or 43 MB; half a million transforms, set by groups, fit in.
        """
        self._send()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        await self.flush()

    async def flush(self) -> None:
        """Send what was set and wait until the server has done it, what was streamed included; what is set later waits
        for itself.

        Raises RequestError for the first command of it that was refused and that no call has told of, and why the
        connection ended.
        """
        self._make_sure()
        last = self._queued
        while self._error is None and (_reaches(self._unanswered, last) or _reaches(self._outgoing, last)):
            await self._moved_on.wait()
        failures = [failure for number, failure in self._new_failures if number <= last]
        self._new_failures = [(number, failure) for number, failure in self._new_failures if number > last]
        if self._error is not None:
            raise self._error.again()
        if failures:
            more = f" {len(failures) - 1} more were refused." if len(failures) > 1 else ""
            raise RequestError(failures[0].result, failures[0].message + more)

    def on_failure(self, callback: Callable[[SceneFailure], None]) -> None:
        """Have ``callback`` called, in the event loop, for each command that the server refuses."""
        self._callbacks.append(callback)

    def _enqueue(self, command: wire.Command) -> None:
        if isinstance(command, animations.SetAnimation):
            self._scattered = True
        self._structure.append(command)
        self._schedule()

    def _schedule(self) -> None:
        """Send with the next turn of the event loop, so that everything of this turn goes together."""
        if self._scheduled is None and not self._held:
            self._scheduled = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Make messages of what was set, and send them."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if self._held:
            return
        commands, self._structure = self._structure, []
        self._looks.sent()
        for value in (True, False):
            ids = [entity.id for entity in self._switched if entity._enabled is value]
            commands += [wire.SetEnabled(enabled=value, ids=wire.pack(part, "u4")) for part in _parts(ids)]
        self._switched.clear()
        commands += self._transforms()
        commands += self._states()
        if commands:
            self._queue(commands)
        self._destroy_orphans()

    async def _send_first(self) -> None:
        """Send what was set before something is asked. Messages are worked on in the order in which they are sent."""
        self._send()
        last = self._queued
        while self._error is None and _reaches(self._outgoing, last):
            await self._moved_on.wait()
        # Deliveries are tasks, which send in their first step.
        await asyncio.sleep(0)

    def _transforms(self) -> list[wire.Command]:
        store = self._store
        rows = np.flatnonzero(store.moved)
        commands: list[wire.Command] = []
        masks = store.moved[rows]
        for mask in np.unique(masks).tolist():
            some = rows[masks == mask]
            for start in range(0, len(some), ENTITIES_PER_COMMAND):
                part = some[start : start + ENTITIES_PER_COMMAND]
                commands.append(
                    wire.SetTransforms(
                        ids=wire.pack(store.id[part], "u4"),
                        positions=wire.pack(store.position[part], "f8") if mask & wire.HAS_POSITION else None,
                        rotations=wire.pack(store.rotation[part], "f4") if mask & wire.HAS_ROTATION else None,
                        scales=wire.pack(store.scale[part], "f4") if mask & wire.HAS_SCALE else None,
                    )
                )
        store.moved[rows] = 0
        return commands

    def _states(self) -> list[wire.Command]:
        alike: dict[Overrides, list[int]] = {}
        for entity in self._restyled:
            alike.setdefault(entity._overrides, []).append(entity.id)
        self._restyled.clear()
        commands: list[wire.Command] = []
        for overrides, ids in alike.items():
            on, off = bits_of(overrides)
            commands += [
                wire.SetStates(
                    ids=wire.pack(part, "u4"),
                    on=on,
                    off=off,
                    inherit=sum(STATES.values()) & ~(on | off),
                    tint=overrides.tint or None,
                    mask=overrides.cut_plane_mask if on & STATES["cut_plane_mask"] else None,
                )
                for part in _parts(ids)
            ]
        return commands

    def _queue(self, commands: list[wire.Command], *, again: bool = False) -> None:
        """Make messages of commands. Those of a batch take effect together, however many messages it takes, up to what
        the server keeps of one. ``again``: they may have been done before."""
        self._sequence = (self._sequence + 1) % (1 << 32) or 1
        self._queued += 1
        batch: list[_Message] = []
        message: list[msgspec.Raw] = []
        size = batch_size = batch_commands = 0
        for raw in wire.encode_commands(commands):
            length = len(raw)
            if message and (size + length > MESSAGE_BYTES or len(message) >= wire.MAX_COMMANDS):
                batch.append(_Message(message, self._sequence, self._queued, again))
                message, size = [], 0
            if batch_commands >= wire.MAX_BATCH_COMMANDS or batch_size + length > MOST_BATCH_BYTES:
                rest = [_Message(message, self._sequence, self._queued, again)] if message else []
                self._outgoing += _joined([*batch, *rest])
                batch, message, size, batch_size, batch_commands = [], [], 0, 0, 0
            message.append(raw)
            size += length + 1
            batch_size += length + 1
            batch_commands += 1
        self._outgoing += _joined([*batch, _Message(message, self._sequence, self._queued, again)])
        self._pump()

    def _pump(self) -> None:
        while self._error is None and self._outgoing and len(self._in_flight) < MAX_IN_FLIGHT:
            message = self._outgoing.popleft()
            self._unanswered[message] = None
            task = asyncio.get_running_loop().create_task(self._deliver(message), name="farframe scene")
            self._in_flight.add(task)
            task.add_done_callback(self._delivered)
        self._announce()

    def _announce(self) -> None:
        """Wake all who wait for something to be sent or answered, or for the end; later ones wait for the next time."""
        moved_on, self._moved_on = self._moved_on, asyncio.Event()
        moved_on.set()

    def _delivered(self, task: asyncio.Task[None]) -> None:
        if task in self._in_flight:  # and not of a line before
            self._in_flight.discard(task)
            self._pump()

    async def _deliver(self, message: _Message) -> None:
        more = message is not message.batch[-1]
        params = wire.ApplyParams(commands=message.commands, sequence=message.sequence, more=more)
        try:
            result = await self._link.call("scene.apply", params, wire.ApplyResult)
        except RequestError as error:
            if not more:
                self._done(message)
                self._failed(message, SceneFailure(error.result, str(error)))
            return
        except RuntimeConnectionError as error:
            # Whether it was done is not known: it is kept in case the connection comes back.
            self._error = error
            return
        if more:
            return  # it may have to be sent again with the rest
        self._done(message)
        for failure in result.failures:
            try:
                name = Result(failure.result)
            except ValueError:
                name = Result.FAIL
            if not (message.again and name in _DONE_BEFORE):
                self._failed(message, SceneFailure(name, failure.message or "A command was refused."))
        self._link.changed()

    def _done(self, last: _Message) -> None:
        """A batch has been answered."""
        for message in last.batch:
            self._unanswered.pop(message, None)

    async def resumed(self) -> None:
        """The connection has come back to its scene: send what was not answered once more, in order, and go on.

        What had been done already is done again, or refused for that reason, which changes nothing in the end.
        """
        self._send_again()

    def _send_again(self) -> None:
        """See :meth:`resumed`. All in one step: who waits for an answer must not think that it has come, and what is
        asked next must not overtake what is sent again."""
        former, self._in_flight = self._in_flight, set()
        for task in former:
            task.cancel()
        self._error = None
        for message in self._unanswered:
            message.again = True
        self._outgoing.extendleft(reversed(self._unanswered))
        self._unanswered.clear()
        self._pump()
        self._make_sure()

    def _failed(self, message: _Message, failure: SceneFailure) -> None:
        if len(self._new_failures) < KEPT_FAILURES:
            self._new_failures.append((message.number, failure))
        for callback in self._callbacks:
            callback(failure)

    async def close(self, error: RuntimeConnectionError | None = None) -> None:
        """The connection has ended: nothing is sent any more, and who waits for an answer is told why: ``error``."""
        if self._error is None:
            self._error = error or ConnectionLostError(Result.DISCONNECT_REQUEST, "The scene was closed.")
        for timer in (self._scheduled, self._rest):
            if timer is not None:
                timer.cancel()
        self._scheduled = self._rest = None
        self._outgoing.clear()
        self._unanswered.clear()
        self._announce()
        tasks = list(self._in_flight)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What entities ask for --------------------------------------------------------------------------------------

    def _add(self, entity: Entity) -> None:
        self._store.id[entity._row] = entity.id
        self._entities[entity.id] = entity
        (self._roots if entity._parent is None else entity._parent._children)[entity] = None

    def _rename(self, entity: Entity, name: str) -> None:
        require(entity)
        _check_name(name)
        entity._name = name
        self._structure.append(wire.SetName(id=entity.id, name=name))
        self._schedule()

    def _reparent(self, entity: Entity, parent: Entity | None) -> None:
        require(entity)
        if entity.is_static:
            raise _static(entity)
        above = parent
        if parent is not None:
            require(parent)
        while above is not None:
            if above is entity:
                raise RequestError(Result.CYCLIC_REFERENCE, f"{entity!r} would become its own ancestor.")
            above = above._parent
        if parent is entity._parent:
            return
        self._note_moved(np.array([entity._row]))
        (self._roots if entity._parent is None else entity._parent._children).pop(entity)
        entity._parent = parent
        (self._roots if parent is None else parent._children)[entity] = None
        self._structure.append(wire.SetParent(id=entity.id, parent=0 if parent is None else parent.id))
        self._schedule()

    def _destroy(self, entity: Entity) -> None:
        # What was set of it before need not be sent any more, but what was made must be.
        self._drop([entity])
        self._structure.append(wire.Destroy(id=entity.id))
        self._schedule()

    def _drop(self, entities: list[Entity]) -> None:
        """Forget entities and all below them."""
        for top in entities:
            gone = list(top.descendants())
            self._looks.forget(gone)
            (self._roots if top._parent is None else top._parent._children).pop(top, None)
            for entity in gone:
                entity._alive = False
                self._entities.pop(entity.id, None)
                self._switched.pop(entity, None)
                self._restyled.pop(entity, None)
                model = self._models.pop(entity.id, None)
                if model is not None:
                    self._link.model_gone(model)
            self._store.free([entity._row for entity in gone])
        self._destroyed += 1

    def _boxes(self, models: Sequence[LoadedModel]) -> list[Bounds]:
        """Where models are by now, world space: what their files hold, carried along with their roots. What was moved
        within them is not counted, see ``_scattered``."""
        chains: list[list[int]] = []
        for model in models:
            chain: list[int] = []
            entity = self._entities.get(model.root_entity)
            while entity is not None:
                chain.append(entity._row)
                entity = entity._parent
            chains.append(chain)
        return carried([model.bounds for model in models], chains, self._store)

    def _note_moved(self, rows: NDArray[np.int64]) -> None:
        """Remember whether any parts have been moved that are no roots."""
        if not self._scattered:
            ids = self._store.id[rows]
            parts = ids[ids >= wire.FIRST_MODEL_ENTITY]
            self._scattered = bool(len(parts)) and not np.isin(parts, list(self._models)).all()

    def _forget_model(self, model: LoadedModel | None) -> None:
        """A model was unloaded, or all were (``None``), by the connection."""
        if model is None:
            self._scattered = False
            self._models.clear()
            self._drop(list(self._roots))
            # What has not been sent concerns nothing that is still there.
            self._structure.clear()
            self._orphans.clear()
            self._looks.clear()
        elif (root := self._entities.get(model.root_entity)) is not None:
            self._models.pop(root.id, None)
            self._drop([root])

    def _enable(self, entity: Entity, enabled: bool) -> None:
        require(entity)
        if entity._enabled is not enabled:
            entity._enabled = enabled
            self._switched[entity] = None
            self._schedule()

    def _place(
        self,
        entities: Sequence[Entity],
        rows: NDArray[np.int64],
        changes: dict[str, NDArray[np.float64]],
        *,
        streaming: bool = False,
    ) -> None:
        if len(entities) == 1:
            require(entities[0])
        if not changes or not len(rows):
            return
        store = self._store
        fixed = store.static[rows]
        if fixed.any():
            raise _static(entities[int(np.argmax(fixed))])
        checked = {name: check_numbers(name, value, len(rows)) for name, value in changes.items()}
        bits = 0
        for name, value in checked.items():
            getattr(store, name)[rows] = value
            bits |= BITS[name]
        self._note_moved(rows)
        if streaming and not self._structure and not self._held:
            self._stream(rows, bits)
        else:
            store.moved[rows] |= bits
            self._schedule()

    def _stream(self, rows: NDArray[np.int64], bits: int) -> None:
        """Send the transforms of these rows in records that may be lost."""
        store = self._store
        position, rotation, scale = (bool(bits & bit) for bit in BITS.values())
        most = min(wire.transforms_per_record(position=position, rotation=rotation, scale=scale), 1024)
        self._sequence = (self._sequence + 1) % (1 << 32) or 1
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            record = wire.TransformsRecord(
                self._sequence,
                store.id[part],
                store.position[part] if position else None,
                store.rotation[part].astype(np.float32) if rotation else None,
                store.scale[part].astype(np.float32) if scale else None,
            )
            self._link.send_record(wire.encode_transforms(record))
        store.streamed[rows] |= bits
        self._link.changed()
        if self._rest is not None:
            self._rest.cancel()
        self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._make_sure)

    def _make_sure(self) -> None:
        """Nothing has been streamed for a while: send the last of it in a way that does not lose it."""
        if self._rest is not None:
            self._rest.cancel()
        self._rest = None
        store = self._store
        rows = np.flatnonzero(store.streamed)
        store.moved[rows] |= store.streamed[rows]
        store.streamed[rows] = 0
        self._send()

    def _override(self, entities: Sequence[Entity], changes: dict[str, Any]) -> None:
        check_overrides(changes)
        for entity in entities:
            require(entity)
        made: dict[Overrides, Overrides] = {}
        for entity in entities:
            old = entity._overrides
            new = made.get(old)
            if new is None:
                new = made[old] = replace(old, **changes)
            if new != old:
                entity._overrides = new
                self._restyled[entity] = None
        if self._restyled:
            self._schedule()

    async def _bounds(self, entity: Entity, space: Literal["world", "local"]) -> Bounds | None:
        require(entity)
        await self._send_first()
        result = await self._link.call(
            "scene.getBounds", wire.BoundsParams(entity=entity.id, space=space), wire.BoundsResult
        )
        return result.bounds

    async def _metadata(self, entity: Entity) -> dict[str, bool | int | float | str]:
        require(entity)
        await self._send_first()
        found: dict[str, bool | int | float | str] = {}
        after = ""
        while True:
            params = wire.MetadataParams(entity=entity.id, after=after)
            result = await self._link.call("scene.getMetadata", params, wire.MetadataResult)
            found.update(result.metadata)
            if not result.more or not result.metadata:
                return found
            after = max(result.metadata)


def _parts(ids: list[int]) -> list[list[int]]:
    size = 8 * ENTITIES_PER_COMMAND
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_CHARACTERS:
        raise RequestError(
            Result.STRING_TOO_LONG,
            f"A name of {len(name)} characters is too long.",
            next_step=f"Use at most {MAX_NAME_CHARACTERS}.",
        )


def _static(entity: Entity) -> RequestError:
    return RequestError(
        Result.OBJECT_STATIC,
        f"{entity!r} is part of a model that was converted with sceneGraphMode static.",
        next_step="Move the model's root, or convert it with sceneGraphMode dynamic.",
    )
