"""Playing the animations of models: all channels of a clip at once, in numpy, once per frame.

What is played moves what is *drawn* only: an entity's own transform stays as the device has it. A component (position,
rotation, scale) that the device has set is the device's: nothing that is played moves it, until the device gives it
back. The others are those of the file where no clip says otherwise. Several clips that move the same component are
mixed by their weights; where these add up to less than one, the rest is the file's.

    once        from the beginning to the end, where it pauses       repeat      again and again
    pingPong    there and back, again and again
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.scene.graph import Graph, Slots

Array = NDArray[np.float64]
PlayState = Literal["stopped", "playing", "paused"]
Loop = Literal["once", "repeat", "pingPong"]

POSITION, ROTATION, SCALE = 0, 1, 2
STEP, LINEAR, CUBIC = 0, 1, 2
MAX_SPEED = 1000.0
NEARLY_PARALLEL = 0.9995
"""Between quaternions whose cosine is above this, a straight line is as good as an arc."""

_COLUMNS = (slice(0, 3), slice(3, 7), slice(7, 10))


class ClipData(Protocol):
    """Keys of c channels, as :class:`farframe.asset.animation.Clip` has them."""

    name: str
    duration: float
    row: NDArray[np.int32]
    path: NDArray[np.uint8]
    mode: NDArray[np.uint8]
    first_key: NDArray[np.int64]
    times: NDArray[np.float32]
    values: NDArray[np.float32]

    @property
    def first_value(self) -> NDArray[np.int64]:
        """(c + 1,) where each channel's values begin."""
        ...


class AnimationData(Protocol):
    """The clips of a model, as :class:`farframe.asset.animation.Animations` has them."""

    node: NDArray[np.int32]
    rest: Array

    @property
    def clips(self) -> Any:
        """A sequence of :class:`ClipData`."""
        ...


class Sampler:
    """A clip's values at any time. What does not depend on the time is made once."""

    def __init__(self, clip: ClipData) -> None:
        self.clip = clip
        self._first, self._last = clip.first_key[:-1], clip.first_key[1:] - 1
        self._times = clip.times.astype(np.float64)
        self._value = clip.first_value[:-1]
        self._cubic = clip.mode == CUBIC
        self._stride = np.where(self._cubic, 3, 1)
        # One sorted row of all channels' keys: each channel's lie between its number and the next one's.
        self._span = 2.0 * max(float(self._times.max(initial=0.0)), 1e-6)
        channel = np.repeat(np.arange(len(clip.row)), np.diff(clip.first_key))
        self._sorted = channel + self._times / self._span

    def at(self, seconds: float) -> Array:
        """(c, 4) the values of all channels; rotations unit, of the others the first three count."""
        clip = self.clip
        time = np.clip(seconds, self._times[self._first], self._times[self._last])
        wanted = np.arange(len(time)) + time / self._span
        key = np.searchsorted(self._sorted, wanted, side="right") - 1
        key = np.clip(key, self._first, np.maximum(self._last - 1, self._first))
        following = np.minimum(key + 1, self._last)
        length = self._times[following] - self._times[key]
        share = np.where(length > 0.0, (time - self._times[key]) / np.where(length > 0.0, length, 1.0), 0.0)
        share = np.clip(share, 0.0, 1.0)
        rows = self._value + self._stride * (key - self._first) + self._cubic
        rows_after = self._value + self._stride * (following - self._first) + self._cubic
        before, after = clip.values[rows].astype(np.float64), clip.values[rows_after].astype(np.float64)
        turns = clip.path == ROTATION
        found = before + share[:, None] * (after - before)
        stepped = clip.mode == STEP
        found[stepped] = np.where(share[stepped, None] >= 1.0, after[stepped], before[stepped])
        arcs = turns & (clip.mode == LINEAR)
        if arcs.any():
            found[arcs] = _slerp(before[arcs], after[arcs], share[arcs])
        if self._cubic.any():
            some = self._cubic
            found[some] = _hermite(
                before[some],
                clip.values[rows[some] + 1].astype(np.float64) * length[some, None],
                after[some],
                clip.values[rows_after[some] - 1].astype(np.float64) * length[some, None],
                share[some, None],
            )
        found[turns] = _unit(found[turns])
        return np.asarray(found, np.float64)


def _slerp(first: Array, second: Array, share: Array) -> Array:
    first, second = _unit(first), _unit(second)
    cosine = np.einsum("ni,ni->n", first, second)
    second = np.where(cosine[:, None] < 0.0, -second, second)
    cosine = np.minimum(np.abs(cosine), 1.0)
    angle = np.arccos(cosine)
    sine = np.where(cosine < NEARLY_PARALLEL, np.sin(angle), 1.0)
    straight = cosine >= NEARLY_PARALLEL
    one = np.where(straight, 1.0 - share, np.sin((1.0 - share) * angle) / sine)
    other = np.where(straight, share, np.sin(share * angle) / sine)
    return np.asarray(one[:, None] * first + other[:, None] * second, np.float64)


def _hermite(first: Array, out: Array, second: Array, into: Array, share: Array) -> Array:
    square, cube = share * share, share * share * share
    return np.asarray(
        (2 * cube - 3 * square + 1) * first
        + (cube - 2 * square + share) * out
        + (3 * square - 2 * cube) * second
        + (cube - square) * into,
        np.float64,
    )


def _unit(quaternions: Array) -> Array:
    length = np.sqrt(np.einsum("ni,ni->n", quaternions, quaternions))
    identity = np.array([0.0, 0.0, 0.0, 1.0])
    with np.errstate(all="ignore"):
        unit = quaternions / length[:, None]
    # Splines may pass through nothing.
    return np.where((length > 1e-12)[:, None], unit, identity)


@dataclass(slots=True)
class Track:
    """How one clip is played."""

    sampler: Sampler
    state: PlayState = "stopped"
    time: float = 0.0
    speed: float = 1.0
    loop: Loop = "repeat"
    weight: float = 1.0

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.sampler.clip.duration

    @property
    def shown_time(self) -> float:
        """Seconds from the clip's beginning. ``time`` of one that goes there and back runs to twice its duration."""
        duration = self.duration
        return 2.0 * duration - self.time if self.loop == "pingPong" and self.time > duration else self.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if self.state != "playing":
            return
        time, duration = self.time + seconds * self.speed, self.duration
        if self.loop == "once":
            self.time = min(max(time, 0.0), duration)
            if (time >= duration and self.speed > 0.0) or (time <= 0.0 and self.speed < 0.0):
                self.state = "paused"
            return
        period = duration * (2.0 if self.loop == "pingPong" else 1.0)
        self.time = time % period if period > 0.0 else 0.0


@dataclass(slots=True)
class _Player:
    """The animations of one model. ``entity`` (a,) ids and ``slot`` (a,) rows of the nodes that are moved."""

    data: AnimationData
    entity: NDArray[np.int64]
    slot: Slots
    tracks: list[Track]
    posed: bool = False
    changed: bool = False
    rest: Array = field(default_factory=lambda: np.zeros((0, 10)))

    @property
    def playing(self) -> bool:
        return any(track.state == "playing" and track.speed != 0.0 for track in self.tracks)

    @property
    def shown(self) -> list[Track]:
        return [track for track in self.tracks if track.state != "stopped"]

    def mixed(self) -> Array:
        """(a, 10) position, rotation and scale of the nodes as all clips that are shown have them."""
        total = np.zeros((len(self.rest), 10))
        weight = np.zeros((len(self.rest), 3))
        for track in self.shown:
            clip = track.sampler.clip
            values = track.sampler.at(track.shown_time)
            for path, columns in enumerate(_COLUMNS):
                mine = clip.path == path
                row = clip.row[mine]
                found = values[mine, : columns.stop - columns.start]
                if path == ROTATION:
                    # Quaternions stand for the same turn as their opposites: mixed are those on one side.
                    away = np.einsum("ni,ni->n", found, self.rest[row, columns]) < 0.0
                    found = np.where(away[:, None], -found, found)
                total[row, columns] += track.weight * found
                weight[row, path] += track.weight
        for path, columns in enumerate(_COLUMNS):
            share = weight[:, path, None]
            total[:, columns] = np.where(
                share > 1.0,
                total[:, columns] / np.maximum(share, 1.0),
                total[:, columns] + (1.0 - share) * self.rest[:, columns],
            )
        total[:, 3:7] = _unit(total[:, 3:7])
        return total


class Playback:
    """What is being played in a scene. A clockwork of the renderer's scene; ``on_moved`` is called when it has moved
    something. Render thread."""

    def __init__(self, graph: Graph, on_moved: Callable[[], None]) -> None:
        self._graph = graph
        self._on_moved = on_moved
        self._players: dict[int, _Player] = {}
        self._last: float | None = None

    def add_model(self, handle: int, data: AnimationData, first: int) -> None:
        """A model was added, whose node 0 is the entity ``first``. Nothing of it is played yet."""
        entity = first + data.node.astype(np.int64)
        rest = data.rest.copy()
        rest[:, 3:7] = _unit(rest[:, 3:7])
        self._players[handle] = _Player(
            data, entity, self._graph.slots(entity), [Track(Sampler(clip)) for clip in data.clips], rest=rest
        )

    def remove_model(self, handle: int) -> None:
        """A model is gone."""
        self._players.pop(handle, None)

    def clear(self) -> None:
        """Everything is gone."""
        self._players.clear()

    def tracks(self, handle: int) -> list[Track]:
        """The animations of a model, which may have none."""
        player = self._players.get(handle)
        return [] if player is None else player.tracks

    def set(
        self,
        handle: int,
        clip: int,
        *,
        state: PlayState | None = None,
        time: float | None = None,
        speed: float | None = None,
        loop: Loop | None = None,
        weight: float | None = None,
        reclaim: bool = False,
    ) -> None:
        """Play, pause or stop one; what is not given stays. Whole or not at all. Raises InvalidParam."""
        player = self._players.get(handle)
        if player is None or not 0 <= clip < len(player.tracks):
            raise _invalid(f"The model has no animation {clip}.")
        track = player.tracks[clip]
        for name, value, low, high in (
            ("time", time, 0.0, track.duration),
            ("speed", speed, -MAX_SPEED, MAX_SPEED),
            ("weight", weight, 0.0, 1.0),
        ):
            if value is not None and not low <= value <= high:
                raise _invalid(f"{name} lies between {low:g} and {high:g}.")
        if loop is not None and loop != track.loop:
            track.time, track.loop = track.shown_time, loop
        if state == "stopped" and track.state != "stopped":
            track.time = 0.0
        if state == "playing" and track.state != "playing" and track.loop == "once" and time is None:
            # What has come to its end begins anew.
            forwards = track.speed if speed is None else speed
            if forwards >= 0.0 and track.time >= track.duration:
                track.time = 0.0
            elif forwards < 0.0 and track.time <= 0.0:
                track.time = track.duration
        track.state = track.state if state is None else state
        track.time = track.time if time is None else time
        track.speed = track.speed if speed is None else speed
        track.weight = track.weight if weight is None else weight
        if reclaim:
            self._graph.own[self._living(player)] = 0
        player.changed = True

    # Time -------------------------------------------------------------------------------------------------------

    @property
    def moving(self) -> bool:
        """Whether anything is being played. What is not lets no time pass."""
        playing = any(player.playing for player in self._players.values())
        if not playing:
            self._last = None
        return playing

    def advance(self, seconds: float) -> None:
        """Come to a time."""
        passed = 0.0 if self._last is None else max(0.0, seconds - self._last)
        self._last = seconds
        for player in self._players.values():
            if player.playing:
                for track in player.tracks:
                    track.advance(passed)
                player.changed = True
        self._on_moved()

    def pose(self) -> None:
        """Let the graph have what is played, before it is brought up to date. What rests costs next to nothing."""
        graph = self._graph
        for player in self._players.values():
            if not player.posed and not player.changed:
                continue
            if not player.changed and not graph.unsettled(player.slot):
                continue
            player.changed = False
            alive = graph.id[player.slot] == player.entity
            if not player.shown:
                if player.posed:
                    graph.unpose(player.slot[alive])
                player.posed = False
                continue
            player.posed = True
            slot, pose = player.slot[alive], player.mixed()[alive]
            own = graph.own[slot]
            for path, (columns, mine) in enumerate(
                zip(_COLUMNS, (graph.position, graph.rotation, graph.scale), strict=True)
            ):
                kept = own & np.uint8(1 << path) != 0
                pose[kept, columns] = mine[slot[kept]]
            graph.pose(slot, pose[:, 0:3], pose[:, 3:7], pose[:, 7:10])

    def _living(self, player: _Player) -> Slots:
        return np.asarray(player.slot[self._graph.id[player.slot] == player.entity], np.int64)


def _invalid(message: str) -> FarframeError:
    return FarframeError(Result.INVALID_PARAM, message)
