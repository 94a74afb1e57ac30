"""The methods that command and ask about the entities of a scene, between the control channel and the render thread.

What a device sends is decoded here, in the event loop, and handed to the render thread as it came, one job for each
batch: jobs are done in order and between frames. A batch that has been sent cannot be taken back by cancelling it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog

from farframe.protocol import animations, messages, queries
from farframe.protocol import scene as wire
from farframe.protocol.appearance import SetEffects, SetLight
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message
from farframe.server.geometry import Geometry
from farframe.server.overlaps import answer_of, find_parts, overlapping, shape_of
from farframe.server.ray_casts import cast, find_candidates, ray_of, told
from farframe.server.scene_world import Applied, SceneWorld

if TYPE_CHECKING:
    from farframe.server.models import ModelStore
    from farframe.server.requests import Handler

log = structlog.get_logger("farframe.scene")

T = TypeVar("T")

MAX_WAITING_RECORDS = 64
"""Records of transforms that wait for the render thread; older ones give way, for later ones speak of the same."""
MAX_CASTS = 2
"""Rays that are followed at a time; more wait."""
METADATA_BYTES = 96 * 1024
"""What the metadata in one answer may take."""
ANIMATION_PAGE = 64
"""Animations in one answer; their names have up to 1,024 characters."""
METADATA_NAME_CHARACTERS = 1_024
"""Values with longer names, which no reader of ours makes, are not told."""

METADATA_CHARACTERS = 16_384
"""Longer texts are cut."""


class _Begun:
    """A batch of which not all messages have come."""

    def __init__(self) -> None:
        self.commands: list[wire.Command | FarframeError] = []
        self._bytes = 0
        self._error: FarframeError | None = None

    def add(self, params: wire.ApplyParams, size: int) -> None:
        """Take a message of ``size`` bytes. Raises InvalidParam, from then on for each until the batch has ended."""
        if self._error is not None:
            raise self._error
        try:
            self._bytes += size
            count = len(self.commands) + len(params.commands)
            if count > wire.MAX_BATCH_COMMANDS or self._bytes > wire.MAX_BATCH_BYTES:
                raise FarframeError(
                    Result.INVALID_PARAM,
                    f"A batch of {count:,} commands and {self._bytes:,} bytes is too large.",
                    next_step=f"Send at most {wire.MAX_BATCH_COMMANDS:,} and {wire.MAX_BATCH_BYTES:,} together.",
                )
            self.commands += wire.decode_commands(params)
        except FarframeError as error:
            self._error = error
            self.commands = []
            raise


class SceneRequests:
    """A place's entities. ``forget`` frees the models, by their handles, whose roots a batch destroyed."""

    def __init__(self, models: ModelStore, forget: Callable[[list[int]], Awaitable[None]]) -> None:
        self._models = models
        self._forget = forget
        self._records: deque[wire.TransformsRecord] = deque(maxlen=MAX_WAITING_RECORDS)
        models.world.arrivals.records = self._records
        self._begun = _Begun()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._moving = False
        self._casting = asyncio.Semaphore(MAX_CASTS)
        self._geometry = Geometry()

    @property
    def methods(self) -> Mapping[str, Handler]:
        """What changes the scene."""
        return {"scene.apply": self._apply}

    @property
    def reading_methods(self) -> Mapping[str, Handler]:
        """What only asks."""
        return {
            "scene.getEntities": self._get_entities,
            "scene.getBounds": self._get_bounds,
            "scene.getMetadata": self._get_metadata,
            "scene.castRay": self._cast_ray,
            "scene.findOverlaps": self._find_overlaps,
            "scene.getAnimations": self._get_animations,
        }

    def on_record(self, data: bytes) -> None:
        """A record of transforms. Raises ProtocolError. It is there at once for a frame that is about to be drawn."""
        self._records.append(wire.decode_transforms(data))
        if not self._moving:
            self._moving = True
            self._keep(self._move())

    def disconnect(self) -> None:
        """The connection is gone: the next one counts its transforms anew, and nothing of this one comes late."""
        self._records.clear()
        self._begun = _Begun()
        self._keep(self._forget_sequences())

    async def _forget_sequences(self) -> None:
        with contextlib.suppress(RuntimeError):  # the frame loop has ended
            await self._models.run(lambda world: world.graph.forget_sequences())

    async def settle(self) -> None:
        """Wait until everything that was sent has been done."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def forget_geometry(self) -> None:
        """Free what questions have left in memory."""
        await asyncio.to_thread(self._geometry.close)

    async def run(self, job: Callable[[SceneWorld], T]) -> T:
        """Run ``job`` on the entities, after all jobs of requests that came before. Cancelling does not stop it.

        Each job is a task of its own whose first step queues it, and tasks begin in the order in which they are made.
        """
        return await asyncio.shield(self._keep(self._models.run(job)))

    def _keep(self, work: Awaitable[T]) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _move(self) -> None:
        """Let the render thread take all records that have come until it does."""

        try:
            while self._records:
                await self._models.run(lambda world: world.arrivals.take())
        except RuntimeError as error:
            log.info("scene.too_late", error=str(error))
        finally:
            self._moving = False

    async def _apply(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.ApplyParams)
        batch = self._begun
        if not params.more:
            # Whatever becomes of this message, the next one begins a batch of its own.
            self._begun = _Begun()
        batch.add(params, len(message.params))
        if params.more:
            return wire.ApplyResult(applied=0)
        # As in run: a task whose first step queues the batch.
        return await asyncio.shield(self._keep(self._do(batch.commands, params.sequence)))

    async def _do(self, commands: list[wire.Command | FarframeError], sequence: int) -> wire.ApplyResult:
        outcome: Applied = await self._models.run(lambda world: world.apply(commands, sequence))
        if outcome.gone:
            await self._forget(outcome.gone)
        if any(map(_takes_time, commands)):
            await self._models.settle()
        failures = [
            wire.CommandFailure(index=index, result=str(error.result), message=str(error)[:300])
            for index, error in outcome.failures[: wire.MAX_FAILURES]
        ]
        return wire.ApplyResult(applied=len(commands) - len(outcome.failures), failures=_fitting(failures))

    async def _get_entities(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.EntitiesParams)
        limit = wire.ENTITY_PAGE
        while True:
            count = limit
            table, following = await self.run(
                lambda world: world.entities(params.first, params.last, count)  # noqa: B023 - awaited at once
            )
            data = await asyncio.to_thread(wire.pack_entities, table)
            if len(data) <= wire.ENTITY_PAGE_BYTES or limit == 1:
                return wire.EntitiesResult(count=len(table.names), data=data, next=following)
            limit = max(1, min(limit // 2, len(table.names) * wire.ENTITY_PAGE_BYTES // len(data)))

    async def _get_bounds(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.BoundsParams)
        found = await self.run(lambda world: world.bounds(params.entity, local=params.space == "local"))
        if found is None:
            return wire.BoundsResult()
        low, high = found
        return wire.BoundsResult(bounds=messages.Bounds(min=_vector(low), max=_vector(high)))

    async def _cast_ray(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.CastRayParams)
        ray = ray_of(params)
        candidates = await self.run(lambda world: find_candidates(world, ray))
        async with self._casting:
            hits, complete = await asyncio.to_thread(
                cast, self._geometry, ray, candidates, any_hit=params.policy == "anyHit"
            )
        near = wire.MAX_HITS_WITH_CORNERS if params.corners else 0
        told_hits = [told(ray, hit, corners=place < near) for place, hit in enumerate(hits)]
        return wire.CastRayResult(hits=told_hits, complete=complete)

    async def _find_overlaps(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, queries.FindOverlapsParams)
        shape, most = shape_of(params)
        geometry = self._geometry if params.against == "geometry" else None
        parts = await self.run(lambda world: find_parts(world, shape))
        async with self._casting:
            found, complete = await asyncio.to_thread(overlapping, shape, parts, geometry, most)
        return answer_of(found, most, complete=complete)

    async def _get_animations(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, animations.AnimationsParams)
        if params.first < 0:
            raise FarframeError(Result.INVALID_PARAM, "first is not negative.")

        def look(world: SceneWorld) -> tuple[list[animations.AnimationInfo], int]:
            tracks = world.animations(params.entity)
            chosen = tracks[params.first : params.first + ANIMATION_PAGE]
            return [
                animations.AnimationInfo(
                    name=track.sampler.clip.name,
                    duration=track.duration,
                    nodes=len(set(track.sampler.clip.row.tolist())),
                    state=track.state,
                    time=track.shown_time,
                    speed=track.speed,
                    loop=track.loop,
                    weight=track.weight,
                )
                for track in chosen
            ], len(tracks)

        found, count = await self.run(look)
        return animations.AnimationsResult(animations=found, more=params.first + len(found) < count)

    async def _get_metadata(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, wire.MetadataParams)
        values = await self.run(lambda world: world.metadata(params.entity))
        room = METADATA_BYTES
        chosen: dict[str, Any] = {}
        for name in sorted(values):
            if name <= params.after or len(name) > METADATA_NAME_CHARACTERS:
                continue
            value = values[name]
            if isinstance(value, str):
                value = value[:METADATA_CHARACTERS]
            room -= len(msgspec.json.encode({name: value}))
            if room < 0 and chosen:
                return wire.MetadataResult(metadata=chosen, more=True)
            chosen[name] = value
        return wire.MetadataResult(metadata=chosen)


def _takes_time(command: wire.Command | FarframeError) -> bool:
    """Whether a command names something that is drawn only after it was made ready."""
    if isinstance(command, SetEffects):
        return "sky" in command.set
    return isinstance(command, SetLight) and "projectedTexture" in command.set


def _vector(values: tuple[float, ...]) -> messages.Vector3:
    x, y, z = values
    return (x, y, z)


def _fitting(failures: list[wire.CommandFailure]) -> list[wire.CommandFailure]:
    """Failures without their sentences where these would fill the answer."""
    if len(failures) <= 256:
        return failures
    return [
        failure if place < 256 else wire.CommandFailure(index=failure.index, result=failure.result, message="")
        for place, failure in enumerate(failures)
    ]
