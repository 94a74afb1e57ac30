"""The animations that a model's file brings along, as a program plays them; :meth:`Scene.animations` finds them.

    (rise, *_) = await connection.scene.animations(model)
    rise.play(loop="pingPong", speed=0.5)

What is played moves what is drawn only: entities keep their own transforms. What the program sets of an entity that is
played is the program's, until :meth:`Animation.reclaim`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from farframe.client.entities import Entity, require
from farframe.protocol import animations as wire

if TYPE_CHECKING:
    from farframe.client.scene import Scene

Loop = Literal["once", "repeat", "pingPong"]
State = Literal["stopped", "playing", "paused"]


class Animation:
    """One animation of a model. What is set goes out with the next batch, as all of the scene.

    ``state``, ``speed``, ``loop`` and ``weight`` are what was set last; one that plays ``once`` pauses by itself.
    """

    def __init__(self, scene: Scene, root: Entity, index: int, info: wire.AnimationInfo) -> None:
        self._scene = scene
        self._root = root
        self._index = index
        self.name = info.name
        self.duration = info.duration
        """Seconds."""
        self.node_count = info.nodes
        """How many nodes it moves."""
        self._state: State = info.state
        self._speed = info.speed
        self._loop: Loop = info.loop
        self._weight = info.weight
        self.told_time = info.time
        """Seconds from its beginning, when the server was asked for it."""

    def __repr__(self) -> str:
        return f"Animation({self.name!r}, {self.duration:g} s, {self._state})"

    @property
    def state(self) -> State:
        """``stopped``: it moves nothing; ``playing``; ``paused``: it holds its nodes where they are."""
        return self._state

    def play(
        self,
        *,
        time: float | None = None,
        speed: float | None = None,
        loop: Loop | None = None,
        weight: float | None = None,
    ) -> None:
        """Play it from ``time`` (seconds; from where it is, if none is given), at ``speed`` (negative: backwards).

        ``loop``: ``once``, ``repeat`` (how it begins) or ``pingPong``; ``weight``: how much of it is seen, 0 to 1,
        beside others that move the same nodes. What is not given stays. Raises ValueError for what cannot be.
        """
        self._set("playing", time=time, speed=speed, loop=loop, weight=weight)

    def pause(self) -> None:
        """Let it stand where it is."""
        self._set("paused")

    def stop(self) -> None:
        """Let its nodes go back to where they are, and it to its beginning."""
        self._set("stopped")

    def seek(self, time: float) -> None:
        """Go to ``time``, seconds from its beginning; one that is stopped is paused there."""
        self._set("paused" if self._state == "stopped" else None, time=time)

    @property
    def speed(self) -> float:
        """Seconds of it per second."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        self._set(None, speed=value)

    @property
    def loop(self) -> Loop:
        """What comes after its end."""
        return self._loop

    @loop.setter
    def loop(self, value: Loop) -> None:
        self._set(None, loop=value)

    @property
    def weight(self) -> float:
        """How much of it is seen, 0 to 1."""
        return self._weight

    @weight.setter
    def weight(self, value: float) -> None:
        self._set(None, weight=value)

    def reclaim(self) -> None:
        """Let the model's animations move again what the program has set of the nodes that they move."""
        require(self._root)
        self._scene._enqueue(wire.SetAnimation(id=self._root.id, clip=self._index, reclaim=True))

    def _set(
        self,
        state: State | None,
        *,
        time: float | None = None,
        speed: float | None = None,
        loop: Loop | None = None,
        weight: float | None = None,
    ) -> None:
        require(self._root)
        for name, value, low, high in (
            ("time", time, 0.0, self.duration),
            ("speed", speed, -wire.MAX_SPEED, wire.MAX_SPEED),
            ("weight", weight, 0.0, 1.0),
        ):
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} lies between {low:g} and {high:g}")
        if loop is not None and loop not in ("once", "repeat", "pingPong"):
            raise ValueError(f"there is no loop {loop!r}")
        self._state = self._state if state is None else state
        self._speed = self._speed if speed is None else float(speed)
        self._loop = self._loop if loop is None else loop
        self._weight = self._weight if weight is None else float(weight)
        command = wire.SetAnimation(
            id=self._root.id, clip=self._index, state=state, time=time, speed=speed, loop=loop, weight=weight
        )
        self._scene._enqueue(command)
