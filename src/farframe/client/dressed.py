"""What entities have beside their transform: materials, lights, a cut plane. A part of :class:`Entity`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from farframe.client.components import Component, CutPlane, DirectionalLight, Light, PointLight, SpotLight
from farframe.client.materials import EntityMaterials, Material, Mesh

if TYPE_CHECKING:
    from farframe.client.entities import Entity
    from farframe.client.looks import Looks
    from farframe.client.scene import Scene

K = TypeVar("K", bound=Component)


class Dressed:
    """See the module."""

    __slots__ = ()

    if TYPE_CHECKING:
        _scene: Scene

    @property
    def _looks(self) -> Looks:
        return self._scene._looks

    @property
    def mesh(self) -> Mesh | None:
        """What it shows, shared with others perhaps; ``None`` for nothing. Loaded by :meth:`Scene.load_model`."""
        entity = cast("Entity", self)
        table, _, _ = self._looks.parts_of(entity)
        return None if table is None else Mesh(self._looks, entity)

    @property
    def materials(self) -> EntityMaterials:
        """What its sub-parts are drawn with in place of the mesh's, on this entity alone: ``materials[0] = red``, and
        ``None`` for the mesh's own again. Numbers are those of :attr:`RayHit.sub_part`."""
        return EntityMaterials(self._looks, cast("Entity", self))

    @property
    def used_materials(self) -> tuple[Material | None, ...]:
        """What its sub-parts are drawn with; ``None`` for points."""
        mesh = self.mesh
        if mesh is None:
            return ()
        return tuple(own or shared for own, shared in zip(self.materials, mesh.materials, strict=True))

    def component(self, kind: type[K]) -> K | None:
        """Its light or cut plane of that kind, if it has one."""
        return cast("K | None", self._looks.components_of(cast("Entity", self)).get(kind))

    @property
    def components(self) -> tuple[Component, ...]:
        """Its lights and its cut plane."""
        return tuple(self._looks.components_of(cast("Entity", self)).values())

    @property
    def lights(self) -> tuple[Light, ...]:
        """Its lights, at most one of each kind."""
        return tuple(component for component in self.components if isinstance(component, Light))

    @property
    def point_light(self) -> PointLight | None:
        """Its point light, if it has one."""
        return self.component(PointLight)

    @property
    def spot_light(self) -> SpotLight | None:
        """Its spot light, if it has one."""
        return self.component(SpotLight)

    @property
    def directional_light(self) -> DirectionalLight | None:
        """Its directional light, if it has one."""
        return self.component(DirectionalLight)

    @property
    def cut_plane(self) -> CutPlane | None:
        """Its cut plane, if it has one."""
        return self.component(CutPlane)

    def add_point_light(self, **values: Any) -> PointLight:
        """Let it shine to all sides; ``values``: properties of :class:`PointLight`.

        Raises RequestError (AlreadyExists, InvalidId), ValueError, TypeError.
        """
        return self._add(PointLight(self._looks, cast("Entity", self)), values)

    def add_spot_light(self, **values: Any) -> SpotLight:
        """Let it shine along its -Z; ``values``: properties of :class:`SpotLight`. Raises as for other lights."""
        return self._add(SpotLight(self._looks, cast("Entity", self)), values)

    def add_directional_light(self, **values: Any) -> DirectionalLight:
        """Let it shine everywhere along its -Z; ``values``: properties of :class:`DirectionalLight`. Raises as for
        other lights."""
        return self._add(DirectionalLight(self._looks, cast("Entity", self)), values)

    def add_cut_plane(self, **values: Any) -> CutPlane:
        """Cut away what lies beyond it; ``values``: properties of :class:`CutPlane`. Raises as for lights."""
        return self._add(CutPlane(self._looks, cast("Entity", self)), values)

    def _add(self, component: K, values: dict[str, Any]) -> K:
        self._looks.add_component(component, values)
        return component
