"""What moves by itself: a frame is due at every turn while anything does, and none when all rests."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from farframe.render.scene import RenderScene
from farframe.scene.effects import OutlineSettings, ZFightingSettings
from farframe.scene.states import State


class Clock:
    """Moves until it is told to rest."""

    def __init__(self) -> None:
        self.moving = False
        self.times: list[float] = []

    def advance(self, seconds: float) -> None:
        self.times.append(seconds)


def one_part() -> Any:
    return SimpleNamespace(instance_part=np.zeros(1, np.int32), instance_matrix=np.eye(4)[None])


def test_time_only_grows_and_what_rests_is_left_alone() -> None:
    scene, clock = RenderScene(), Clock()
    scene.add_clockwork(clock)
    before = scene.version
    scene.advance(5.0)
    scene.advance(4.0)
    assert (scene.time, scene.moving, scene.version, clock.times) == (5.0, False, before, [])
    clock.moving = True
    scene.advance(6.0)
    assert scene.moving and clock.times == [6.0] and scene.version > before


def test_an_outline_pulses_only_where_something_is_selected() -> None:
    scene = RenderScene()
    handle = scene.add(one_part(), np.eye(4))
    scene.effects = replace(scene.effects, outline=OutlineSettings(pulse_rate_hz=1.0, pulse_intensity=0.5))
    assert not scene.moving
    scene.update_instances(handle, np.array([0]), states=np.array([int(State.SELECTED)], np.uint32))
    assert scene.moving
    scene.effects = replace(scene.effects, outline=OutlineSettings(pulse_rate_hz=1.0))
    assert not scene.moving


def test_highlighting_of_z_fighting_moves() -> None:
    scene = RenderScene()
    scene.effects = replace(scene.effects, z_fighting=ZFightingSettings(enabled=True, highlighting=True))
    assert scene.moving
    scene.effects = replace(scene.effects, z_fighting=ZFightingSettings(enabled=False, highlighting=True))
    assert not scene.moving
