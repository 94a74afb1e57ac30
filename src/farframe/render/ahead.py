"""Pipelines for what may come, made while nobody waits for a picture.

A model is loaded with the pipelines that draw it as it is. Tints, outlines, cuts and their caps, shells, what is
see-through and lights need others, and the picture that first shows one of these would stand still while it is
compiled: for 15 ms of CPU where the driver keeps compiled shaders on disk, for 100 ms and more where it does not. So
each is drawn once beforehand, an instance of each kind for each of them, in steps that a loop at rest does one by one.

It is done at rest and not by a thread because the expensive half, on lavapipe, is done by the device's one queue when a
pipeline first draws: frames would wait behind it whatever thread had asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from farframe.protocol.errors import FarframeError
from farframe.render.pipelines import Variant
from farframe.render.placement import Resource
from farframe.render.scene import RenderScene
from farframe.render.warmup import (
    PLAIN_MATERIALS,
    SAMPLE_COUNTS,
    draw_small,
    excerpt,
    instance_kinds,
    triangle_model,
    usual_materials,
    with_inside,
)
from farframe.scene.effects import CutPlane, PlacedCutPlane
from farframe.scene.lights import Light, LightKind, PlacedLight
from farframe.scene.states import State

if TYPE_CHECKING:
    from farframe.render.engine import Engine

ROWS = np.zeros(1, np.int64)
"""The scenes that are drawn have one instance."""

MOST_VARIANTS = 64
"""A model with more kinds of surfaces than this gets only the first of them prepared."""


def _in_state(state: State) -> Callable[[RenderScene, int], None]:
    def put(scene: RenderScene, handle: int) -> None:
        scene.update_instances(handle, ROWS, states=np.array([int(state)], np.uint32))

    return put


def _tinted(scene: RenderScene, handle: int) -> None:
    scene.update_instances(handle, ROWS, tint=np.array([[1.0, 0.0, 0.0, 0.5]], np.float32))


def _cut(count: int) -> Callable[[RenderScene, int], None]:
    def put(scene: RenderScene, handle: int) -> None:
        normals = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))[:count]
        scene.cut_planes = tuple(PlacedCutPlane(CutPlane(), normal, 0.0) for normal in normals)

    return put


def _closed(count: int) -> Callable[[RenderScene, int], None]:
    def put(scene: RenderScene, handle: int) -> None:
        # The first one lies across the view: only a cap that is seen is drawn.
        normals = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0))[:count]
        scene.cut_planes = tuple(PlacedCutPlane(CutPlane(capped=True), normal, 0.0) for normal in normals)

    return put


def _lit(kind: LightKind) -> Callable[[RenderScene, int], None]:
    def put(scene: RenderScene, handle: int) -> None:
        scene.lights = (PlacedLight(Light(kind), (0.0, 0.0, 2.0)),)

    return put


OCCASIONS: dict[str, Callable[[RenderScene, int], None]] = {
    "selected": _in_state(State.SELECTED),
    "tinted": _tinted,
    "see-through": _in_state(State.SEE_THROUGH),
    "shell": _in_state(State.SHELL),
    "cut": _cut(1),
    "cut twice": _cut(2),
    "cut and closed": _closed(1),
    "cut twice and closed": _closed(2),
    "lit": _lit(LightKind.POINT),
    "lit by a spot": _lit(LightKind.SPOT),
}
"""What may happen to an instance that its model was not primed for, by name: changes to a scene in which it is alone,
the most frequent first."""


class Ahead:
    """What is still to be made for an engine. Render thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._work: deque[Iterator[None]] = deque()
        self._done: set[tuple[Variant, str, int]] = set()

    def add(self, resource: Resource) -> None:
        """Prepare for what may happen to a model."""
        self._work.append(self._prepare(resource))

    def add_usual(self) -> None:
        """Prepare for what may happen to the plainest materials, of which most models are, before there is a model."""
        self._work.append(self._prepare_usual())

    def step(self) -> bool:
        """Do one step; whether there is more to do."""
        while self._work:
            try:
                next(self._work[0])
            except StopIteration:
                self._work.popleft()
            except FarframeError:
                # A pipeline that cannot be made beforehand is somebody's who asks for it, not everybody's.
                self._work.popleft()
            else:
                return True
        return False

    def _prepare_usual(self) -> Iterator[None]:
        resource = self._engine.upload(triangle_model(usual_materials()[:PLAIN_MATERIALS]))
        try:
            yield from self._prepare(resource)
        finally:
            self._engine.release(resource)

    def _prepare(self, resource: Resource) -> Iterator[None]:
        rows, mirrored = instance_kinds(resource)
        kinds: dict[Variant, int] = {}
        for row, flipped in zip(rows.tolist(), mirrored.tolist(), strict=True):
            variant = resource.variant(int(resource.instance_part[row]), mirrored=flipped)
            if not variant.points and len(kinds) < MOST_VARIANTS:
                kinds.setdefault(variant, row)
        for name, happen in OCCASIONS.items():
            for variant, row in kinds.items():
                for samples in SAMPLE_COUNTS:
                    if resource.released:
                        return
                    if (variant, name, samples) in self._done:
                        continue
                    self._done.add((variant, name, samples))
                    scene = RenderScene()
                    # Which parts have an inside is not looked for before something is cut: any may be one.
                    alone = with_inside(excerpt(resource, np.array([row])))
                    happen(scene, scene.add(alone, np.eye(4)))
                    draw_small(self._engine, scene, 3.0, samples, read_depth=False)
                    yield
