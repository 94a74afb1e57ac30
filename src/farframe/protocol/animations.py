"""Playing what a model's file says of how its nodes move. ``docs/protocol.md`` is the same for people.

    scene.getAnimations    AnimationsParams    AnimationsResult

and a command of ``scene.apply``, :class:`SetAnimation`.
"""

from __future__ import annotations

from typing import Literal

from farframe.protocol.messages import Message

PlayState = Literal["stopped", "playing", "paused"]
Loop = Literal["once", "repeat", "pingPong"]

MAX_SPEED = 1000.0


class SetAnimation(Message, tag_field="op", tag="setAnimation"):
    """Play, pause or stop one of the animations of the model whose root is ``id``; what is absent stays.

    ``clip``: which, from 0. ``time``: seconds from its beginning, ``speed``: seconds of it per second, negative
    backwards. ``weight``: how much of it is seen, 0 to 1, beside others that are played. ``reclaim``: it moves nodes
    from now on that the device has moved itself.
    """

    id: int
    clip: int = 0
    state: PlayState | None = None
    time: float | None = None
    speed: float | None = None
    loop: Loop | None = None
    weight: float | None = None
    reclaim: bool = False


class AnimationsParams(Message):
    """``scene.getAnimations``: of the model whose root is ``entity``; from clip ``first`` on."""

    entity: int
    first: int = 0


class AnimationInfo(Message):
    """An animation: ``duration`` in seconds, how many nodes it moves, and how it is being played at present."""

    name: str
    duration: float
    nodes: int
    state: PlayState = "stopped"
    time: float = 0.0
    speed: float = 1.0
    loop: Loop = "repeat"
    weight: float = 1.0


class AnimationsResult(Message):
    """The animations from the first that was asked for, as many as fit; ``more``: there are others."""

    animations: list[AnimationInfo]
    more: bool = False
