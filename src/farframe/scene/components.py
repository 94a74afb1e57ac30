"""What hangs on entities beside meshes: lights and cut planes. They stand where their entities do.

At most one light of each kind and one cut plane for each entity; they go with it. Of a disabled entity nothing shines
or cuts. Everything is placed at once, in numpy, and only when something of it has changed.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.scene.effects import MAX_CUT_PLANES, Axis, CutPlane, PlacedCutPlane
from farframe.scene.graph import Changes, Graph
from farframe.scene.lights import MAX_LIGHTS, Light, LightKind, PlacedLight, Vector3
from farframe.scene.resources import Textures

MAX_CUT_PLANE_COMPONENTS = 1024
"""In one scene, enabled or not."""

_REACH = 1e15
"""Metres from the origin: what lies farther out shines and cuts nowhere."""


class Components:
    """The lights and cut planes of a scene, by the ids of their entities. ``textures``: what lights may project."""

    def __init__(
        self,
        textures: Textures,
        *,
        max_lights: int = MAX_LIGHTS,
        max_cut_planes: int = MAX_CUT_PLANE_COMPONENTS,
    ) -> None:
        self._textures = textures
        self._max_lights = max_lights
        self._max_cut_planes = max_cut_planes
        self._lights: dict[tuple[int, LightKind], Light] = {}
        self._cut_planes: dict[int, CutPlane] = {}
        self._enabled_at: dict[int, int] = {}
        self._clock = itertools.count()
        self._dirty = False
        self._owners: NDArray[np.int64] | None = None

    @property
    def lights(self) -> dict[tuple[int, LightKind], Light]:
        """By entity and kind. Read only."""
        return self._lights

    @property
    def cut_planes(self) -> dict[int, CutPlane]:
        """By entity. Read only."""
        return self._cut_planes

    def set_light(self, entity: int, light: Light) -> None:
        """Give an entity, which exists, a light, or another in its place.

        Raises InvalidParam, ExceedsMemoryLimit, InvalidId (of the texture).
        """
        key = (entity, light.kind)
        before = self._lights.get(key)
        if before is None and len(self._lights) >= self._max_lights:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"A scene holds at most {self._max_lights:,} lights.",
                next_step="Remove some first.",
            )
        if problem := light.problem():
            raise FarframeError(Result.INVALID_PARAM, problem)
        if light.projected_texture:
            if light.kind is LightKind.DIRECTIONAL:
                raise FarframeError(Result.INVALID_PARAM, "A directional light projects no texture.")
            cube = light.kind is LightKind.POINT
            if self._textures.get(light.projected_texture).cube is not cube:
                wanted = "cube map" if cube else "2D texture"
                raise FarframeError(Result.INVALID_PARAM, f"projected_texture must be a {wanted} for such a light.")
        self._textures.exchange(() if before is None else (before.projected_texture,), (light.projected_texture,))
        self._lights[key] = light
        self._changed()

    def remove_light(self, entity: int, kind: LightKind) -> None:
        """Raises InvalidId if there is none."""
        light = self._lights.pop((entity, kind), None)
        if light is None:
            raise FarframeError(Result.INVALID_ID, f"The entity {entity} has no {kind.name.lower()} light.")
        self._textures.exchange((light.projected_texture,), ())
        self._changed()

    def set_cut_plane(self, entity: int, plane: CutPlane) -> None:
        """Give an entity, which exists, a cut plane, or another in its place. Raises InvalidParam,
        ExceedsMemoryLimit."""
        before = self._cut_planes.get(entity)
        if before is None and len(self._cut_planes) >= self._max_cut_planes:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"A scene holds at most {self._max_cut_planes:,} cut planes.",
                next_step="Remove some first.",
            )
        if problem := plane.problem():
            raise FarframeError(Result.INVALID_PARAM, problem)
        if not _counts(plane):
            self._enabled_at.pop(entity, None)
        elif entity not in self._enabled_at:
            self._enabled_at[entity] = next(self._clock)
        self._cut_planes[entity] = plane
        self._changed()

    def remove_cut_plane(self, entity: int) -> None:
        """Raises InvalidId if there is none."""
        if self._cut_planes.pop(entity, None) is None:
            raise FarframeError(Result.INVALID_ID, f"The entity {entity} has no cut plane.")
        self._enabled_at.pop(entity, None)
        self._changed()

    def forget(self, entities: NDArray[np.int64]) -> None:
        """Entities were destroyed, by id, and what they had goes with them."""
        owners = self._ids()
        for entity in owners[np.isin(owners, entities)].tolist():
            for kind in LightKind:
                if (entity, kind) in self._lights:
                    self.remove_light(entity, kind)
            if entity in self._cut_planes:
                self.remove_cut_plane(entity)

    def clear(self) -> None:
        """Forget all."""
        for light in self._lights.values():
            self._textures.exchange((light.projected_texture,), ())
        self._lights.clear()
        self._cut_planes.clear()
        self._enabled_at.clear()
        self._changed()

    def place(
        self, graph: Graph, changes: Changes
    ) -> tuple[tuple[PlacedLight, ...], tuple[PlacedCutPlane, ...]] | None:
        """What shines and what cuts, where it stands; ``None`` if that is as it was. ``graph`` is up to date, with
        ``changes`` since the last call."""
        owners = self._ids()
        if not self._dirty:
            if not len(owners) or not changes.any:
                return None
            touched = np.zeros(len(graph.id), np.bool_)
            touched[changes.moved] = touched[changes.restyled] = True
            if not touched[graph.slots(owners)].any():
                return None
        self._dirty = False
        slots = graph.slots(owners)
        world = graph.world[slots]
        with np.errstate(all="ignore"):
            length = np.sqrt(np.einsum("nij,nij->nj", world[:, :, :3], world[:, :, :3]))
            sound = np.isfinite(length) & (length > 0.0)
            # An axis without length, or beyond all numbers, keeps its direction in the entity's own space.
            axes = np.where(sound[:, None, :], world[:, :, :3] / np.where(sound, length, 1.0)[:, None, :], np.eye(3))
            somewhere = (np.abs(world[:, :, 3]) < _REACH).all(axis=1) & graph.effective_enabled[slots]
        row_of = {entity: row for row, entity in enumerate(owners.tolist())}
        lights = tuple(
            PlacedLight(light, _tuple(world[row, :, 3]), _columns(axes[row]))
            for (entity, _), light in self._lights.items()
            if light.enabled and somewhere[row := row_of[entity]]
        )
        # What is disabled with its entity does not count, so that others have its place.
        active = [entity for entity in self._enabled_at if somewhere[row_of[entity]]]
        active.sort(key=self._enabled_at.__getitem__)
        cut_planes = []
        for entity in active[:MAX_CUT_PLANES]:
            plane, row = self._cut_planes[entity], row_of[entity]
            normal = axes[row, :, plane.normal % 3] * (-1.0 if plane.normal >= Axis.NEGATIVE_X else 1.0)
            cut_planes.append(PlacedCutPlane(plane, _tuple(normal), float(normal @ world[row, :, 3])))
        return lights, tuple(cut_planes)

    def _ids(self) -> NDArray[np.int64]:
        """The entities that have something, ascending."""
        if self._owners is None:
            self._owners = np.array(sorted({entity for entity, _ in self._lights} | self._cut_planes.keys()), np.int64)
        return self._owners

    def _changed(self) -> None:
        self._dirty = True
        self._owners = None


def _counts(plane: CutPlane) -> bool:
    """Whether a plane takes one of the few places."""
    return plane.enabled and plane.filter_mask != 0


def _tuple(values: NDArray[Any]) -> Vector3:
    x, y, z = values.tolist()
    return (x, y, z)


def _columns(axes: NDArray[Any]) -> tuple[Vector3, Vector3, Vector3]:
    return (_tuple(axes[:, 0]), _tuple(axes[:, 1]), _tuple(axes[:, 2]))
