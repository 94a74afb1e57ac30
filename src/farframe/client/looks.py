"""How a scene looks, as the device holds it, and the commands that make the server's the same.

Commands go into the scene's own list, in the order in which things are done. A change of properties joins the one of
the same object that still waits there: what an object names exists before it is named, so nothing can come between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from farframe.client._live import Live
from farframe.client.components import LIGHTS, Component, CutPlane, Light
from farframe.client.errors import RequestError
from farframe.client.materials import Material, MaterialKind, PartTable, Texture, usable
from farframe.client.settings import (
    CameraSettings,
    DebugSettings,
    OutlineSettings,
    PlainSettings,
    Settings,
    ShellSettings,
    StageSettings,
    ZFightingSettings,
)
from farframe.protocol import appearance as wire
from farframe.protocol import scene as commands
from farframe.protocol.errors import Result
from farframe.protocol.messages import Message, T

if TYPE_CHECKING:
    from farframe.client.entities import Entity

SingleSidedMode = Literal["normal", "dynamicDoubleSiding", "alwaysDoubleSided"]
SINGLE_SIDED_MODES = ("normal", "dynamicDoubleSiding", "alwaysDoubleSided")
OVERRIDES_PER_COMMAND = 4096
SETTINGS: dict[str, type[Settings]] = {
    "outline": OutlineSettings,
    "shell": ShellSettings,
    "z_fighting": ZFightingSettings,
    "camera": CameraSettings,
    "stage": StageSettings,
    "debug": DebugSettings,
}


class Call(Protocol):
    """Asks the server."""

    async def __call__(self, method: str, params: Message, kind: type[T]) -> T:
        """A request and its answer."""
        ...


class Queue(Protocol):
    """Takes commands, and sees to it that they are sent."""

    def __call__(self, command: commands.Command) -> None:
        """Do this after all before."""
        ...


class Looks:
    """See the module. ``queue`` takes commands; ``sent`` is called when those that waited have gone."""

    def __init__(self, queue: Queue) -> None:
        self._enqueue = queue
        self._waiting: dict[Any, dict[str, Any]] = {}
        self._overrides: tuple[wire.OverrideMaterials, list[NDArray[np.int64]]] | None = None
        self._waiting_overrides = 0
        self.loading = 0
        """Textures that are being loaded."""
        self._next_material = 1
        self._begin()

    def _begin(self) -> None:
        self.materials: dict[int, Material] = {}
        self.textures: dict[int, Texture] = {}
        self._parts: dict[int, tuple[PartTable, int, int]] = {}
        self._tables: dict[int, PartTable] = {}
        self._components: dict[int, dict[type[Component], Component]] = {}
        self.settings: dict[str, Settings] = {name: kind(self) for name, kind in SETTINGS.items()}
        self.plain = PlainSettings(self)
        self.single_sided: SingleSidedMode = "dynamicDoubleSiding"
        self.sky: str | Texture = wire.SkyValues().uri

    # What the scene tells ---------------------------------------------------------------------------------------

    def sent(self) -> None:
        """What waited is on its way: later changes are commands of their own."""
        self._waiting.clear()
        self._finish_overrides()

    def _queue(self, command: commands.Command) -> None:
        # An override that comes later must not join those that wait, for it may name what this command makes.
        self._finish_overrides()
        self._enqueue(command)

    def _finish_overrides(self) -> None:
        if self._overrides is not None:
            command, rows = self._overrides
            self._overrides = None
            columns = np.concatenate(rows, axis=1)
            command.ids, command.sub_parts, command.materials = (commands.pack(column, "u4") for column in columns)

    def forget(self, entities: Iterable[Entity]) -> None:
        """Entities are gone."""
        for entity in entities:
            for component in self._components.pop(entity.id, {}).values():
                component._alive = False
                self._waiting.pop(component, None)
            self._parts.pop(entity.id, None)
            table = self._tables.pop(entity.id, None)
            if table is not None:
                self._forget_model(table)

    def _forget_model(self, table: PartTable) -> None:
        """The root of a model is gone: wherever else parts of it hang, they show nothing any more."""
        for identifier in np.unique(table.entity).tolist():
            self._parts.pop(identifier, None)
        own = np.unique(table.material[table.material != 0])
        for identifier in own.tolist():
            material = self.materials.pop(identifier, None)
            if material is not None:
                material._alive = False
                self._waiting.pop(material, None)
        self._take_off(own)

    def _take_off(self, materials: NDArray[np.unsignedinteger[Any]]) -> None:
        """Materials are gone, by id: what wore them has its mesh's own again."""
        for table in self._tables.values():
            for column in (table.replaced, table.override):
                column[np.isin(column, materials)] = 0

    def clear(self) -> None:
        """Everything is as in the beginning, here and at the server."""
        for material in self.materials.values():
            material._alive = False
        for texture in self.textures.values():
            texture._alive = False
        for components in self._components.values():
            for component in components.values():
                component._alive = False
        self._waiting.clear()
        self._overrides = None
        settings, plain = self.settings, self.plain
        self._begin()
        # Whoever holds these objects goes on with them.
        for name, group in settings.items():
            group._values = self.settings[name]._values
        plain._values = self.plain._values
        self.settings, self.plain = settings, plain

    async def fetch(self, call: Call, first: int, last: int, models: Sequence[tuple[int, int]]) -> None:
        """Take over what entities with ids in a range are made of, and the materials of that. ``models``: the ids of
        their roots, and how many entities they have, with ids in a row."""
        tables: list[wire.SubPartTable] = []
        at, skip = first, 0
        while at:
            params = wire.SubPartsParams(first=at, last=last, skip=skip)
            page = await call("scene.getSubParts", params, wire.SubPartsResult)
            tables.append(wire.unpack_sub_parts(page.count, page.data))
            if page.next and (page.next, page.skip) <= (at, skip):
                raise RequestError(Result.PROTOCOL_ERROR, "The server's pages of sub-parts do not go on.")
            at, skip = page.next, page.skip
        names = wire.SUB_PART_COLUMNS
        whole = wire.SubPartTable(*(np.concatenate([getattr(table, name) for table in tables]) for name in names))
        own = whole.material[whole.material != 0]
        if len(own):
            await self._fetch_materials(call, int(own.min()), int(own.max()))
        for root, count in models:
            mine = (whole.entity >= root) & (whole.entity < root + count)
            self._take_over(root, wire.SubPartTable(*(getattr(whole, name)[mine] for name in names)))

    def _take_over(self, root: int, told: wire.SubPartTable) -> None:
        """Keep the sub-parts of a model."""
        table = self._tables[root] = PartTable(told)
        if len(table.entity):
            begins = np.flatnonzero(np.append(True, table.entity[1:] != table.entity[:-1]))
            ends = np.append(begins[1:], len(table.entity))
            places = zip(table.entity[begins].tolist(), begins.tolist(), ends.tolist(), strict=True)
            self._parts.update((entity, (table, begin, end)) for entity, begin, end in places)

    async def _fetch_materials(self, call: Call, first: int, last: int) -> None:
        at = first
        while at:
            page = await call("scene.getMaterials", wire.RangeParams(first=at, last=last), wire.MaterialsResult)
            for info in page.materials:
                self.materials[info.id] = Material(self, info.id, info.kind, info.values)
            if page.next and page.next <= at:
                raise RequestError(Result.PROTOCOL_ERROR, "The server's pages of materials do not go on.")
            at = page.next

    async def restore(self, call: Call, entities: dict[int, Entity], models: Sequence[tuple[int, int]]) -> None:
        """Take over all that is at the server, in place of what is here; ``models`` as of :meth:`fetch`."""
        self.clear()
        at = 1
        while at:
            textures = await call("scene.getTextures", wire.FirstParams(first=at), wire.TexturesResult)
            for texture in textures.textures:
                self.textures[texture.id] = Texture(self, texture)
            at = textures.next if textures.next > at else 0
        await self._fetch_materials(call, 1, wire.FIRST_MODEL_MATERIAL - 1)
        self._next_material = max([self._next_material - 1, *self.materials]) + 1
        await self.fetch(call, 1, (1 << 32) - 1, models)
        at = 1
        while at:
            components = await call("scene.getComponents", wire.FirstParams(first=at), wire.ComponentsResult)
            for light in components.lights:
                if (entity := entities.get(light.entity)) is not None:
                    self._keep(LIGHTS[light.kind](self, entity, light.values))
            for plane in components.cut_planes:
                if (entity := entities.get(plane.entity)) is not None:
                    self._keep(CutPlane(self, entity, plane.values))
            at = components.next if components.next > at else 0
        effects = await call("scene.getEffects", Message(), wire.EffectsValues)
        for name, group in self.settings.items():
            group._values = getattr(effects, name)
        self.plain._values = effects
        self.single_sided = effects.single_sided
        self.sky = self.textures.get(effects.sky.texture, effects.sky.uri)

    # Properties -------------------------------------------------------------------------------------------------

    def edited(self, thing: Live, kind: type[Any], changes: dict[str, Any]) -> None:
        """Properties of a material, a light or a cut plane were set."""
        waiting = self._waiting.get(thing)
        # Of cut planes it counts which was enabled first.
        if waiting is not None and not (isinstance(thing, CutPlane) and "enabled" in changes):
            waiting.update(changes)
            return
        changes = dict(changes)
        if isinstance(thing, Material):
            command: Any = wire.SetMaterial(id=thing.id, set=changes)
        elif isinstance(thing, Light):
            command = wire.SetLight(id=thing.entity.id, kind=thing.kind, set=changes)
        else:
            command = kind(id=cast("Component", thing).entity.id, set=changes)
        self._waiting[thing] = changes
        self._queue(command)

    def set_effects(self, changes: dict[str, Any]) -> None:
        """Members of the settings were set."""
        waiting = self._waiting.get("effects")
        if waiting is None:
            waiting = self._waiting["effects"] = {}
            self._queue(wire.SetEffects(set=waiting))
        for name, value in changes.items():
            if isinstance(value, dict):
                waiting[name] = {**waiting.get(name, {}), **value}
            else:
                waiting[name] = value

    def set_single_sided(self, mode: SingleSidedMode) -> None:
        """How surfaces with one side are drawn. Raises ValueError."""
        if mode not in SINGLE_SIDED_MODES:
            raise ValueError(f"single_sided is one of {', '.join(map(repr, SINGLE_SIDED_MODES))}")
        if mode != self.single_sided:
            self.single_sided = mode
            self.set_effects({"singleSided": mode})

    def set_sky(self, sky: str | Texture) -> None:
        """What lights from all sides. Raises ValueError, RequestError (InvalidId)."""
        if isinstance(sky, str):
            if not sky.startswith("builtin://") or len(sky) > wire.MAX_URI_CHARACTERS:
                raise ValueError("a sky is builtin://..., or a texture that load_texture returned")
            changes: dict[str, Any] = {"uri": sky, "texture": 0}
        else:
            changes = {"texture": usable(self, sky, sky.kind).id}
        self.sky = sky
        self.set_effects({"sky": changes})

    # Materials and textures -------------------------------------------------------------------------------------

    def create_material(self, kind: MaterialKind, values: dict[str, Any]) -> Material:
        """Make a material. Raises ValueError, TypeError, RequestError (InvalidId of a texture)."""
        if kind not in ("pbr", "color"):
            raise ValueError("kind is 'pbr' or 'color'")
        material = Material(self, self._next_material, kind, wire.MaterialValues())
        changes: dict[str, Any] = {}
        self._waiting[material] = changes
        try:
            material.set(**values)
        except BaseException:
            del self._waiting[material]
            raise
        self._next_material += 1
        self.materials[material.id] = material
        self._queue(wire.CreateMaterial(id=material.id, kind=kind, set=changes))
        return material

    def destroy_material(self, material: Material) -> None:
        """Take a material out."""
        material._alive = False
        del self.materials[material.id]
        self._waiting.pop(material, None)
        self._take_off(np.array([material.id], np.uint32))
        self._queue(wire.DestroyMaterial(id=material.id))

    def add_texture(self, info: wire.TextureInfo) -> Texture:
        """A texture was loaded, or was there already."""
        known = self.textures.get(info.id)
        if known is None:
            known = self.textures[info.id] = Texture(self, info)
        known._alive = True
        return known

    def destroy_texture(self, texture: Texture) -> None:
        """A texture is not wanted any more."""
        texture._alive = False
        if not self._names(texture.id):
            del self.textures[texture.id]
        self._queue(wire.DestroyTexture(id=texture.id))

    def _names(self, texture: int) -> bool:
        """Whether anything names a texture."""
        lights = (
            component
            for components in self._components.values()
            for component in components.values()
            if isinstance(component, Light)
        )
        return (
            any(
                texture == getattr(material._values, name) for material in self.materials.values() for name in wire.MAPS
            )
            or any(light._values.projected_texture == texture for light in lights)
            or (isinstance(self.sky, Texture) and self.sky.id == texture)
        )

    def parts_of(self, entity: Entity) -> tuple[PartTable | None, int, int]:
        """Where in which table an entity's sub-parts are."""
        return self._parts.get(entity.id, (None, 0, 0))

    def _wearable(self, material: Material | None, rows: NDArray[np.int64], table: PartTable) -> int:
        if (table.material[rows] == 0).any():
            raise RequestError(Result.NOT_SUPPORTED, "Points have no materials.", next_step="Tint them.")
        if material is None:
            return 0
        if not isinstance(material, Material):
            raise TypeError("a material is what create_material returned, or a model's")
        material._require()
        if material._looks is not self:
            raise RequestError(Result.INVALID_ID, f"{material!r} is none of this scene.")
        return material.id

    def override_materials(self, entity: Entity, numbers: Sequence[int], material: Material | None) -> None:
        """Draw sub-parts of an entity with another material."""
        table, start, _ = self.parts_of(entity)
        if table is None or not len(numbers):
            return
        rows = np.array(numbers, np.int64) + start
        identifier = self._wearable(material, rows, table)
        rows = rows[table.override[rows] != identifier]
        table.override[rows] = identifier
        for begin in range(0, len(rows), OVERRIDES_PER_COMMAND):
            part = rows[begin : begin + OVERRIDES_PER_COMMAND] - start
            if self._overrides is None or self._waiting_overrides + len(part) > OVERRIDES_PER_COMMAND:
                command = wire.OverrideMaterials()
                self._queue(command)
                self._overrides = (command, [])
                self._waiting_overrides = 0
            self._overrides[1].append(np.stack([np.full(len(part), entity.id), part, np.full(len(part), identifier)]))
            self._waiting_overrides += len(part)

    def dress(self, entities: Sequence[Entity], material: Material | None) -> None:
        """Draw all sub-parts of many entities with another material."""
        for entity in entities:
            table, start, stop = self.parts_of(entity)
            if table is not None:
                rows = np.arange(start, stop)
                some = np.flatnonzero(table.material[rows] != 0)
                self.override_materials(entity, some.tolist(), material)

    def set_mesh_material(
        self, entity: Entity, table: PartTable, row: int, number: int, material: Material | None
    ) -> None:
        """Put another material into a mesh."""
        identifier = self._wearable(material, np.array([row]), table)
        table.replaced[table.part == table.part[row]] = identifier
        self._queue(wire.SetMeshMaterial(id=entity.id, sub_part=number, material=identifier))

    # Components -------------------------------------------------------------------------------------------------

    def components_of(self, entity: Entity) -> dict[type[Component], Component]:
        """What hangs on an entity, by kind."""
        return self._components.get(entity.id, {})

    def _keep(self, component: Component) -> None:
        self._components.setdefault(component.entity.id, {})[type(component)] = component

    def add_component(self, component: Component, values: dict[str, Any]) -> None:
        """Hang something on its entity. Raises ValueError, TypeError, RequestError (AlreadyExists, InvalidId)."""
        component._require()
        if type(component) in self.components_of(component.entity):
            raise RequestError(Result.ALREADY_EXISTS, f"{component.entity!r} has a {component._word}.")
        changes: dict[str, Any] = {}
        self._waiting[component] = changes
        try:
            component.set(**values)
        except BaseException:
            del self._waiting[component]
            raise
        self._keep(component)
        if isinstance(component, Light):
            self._queue(wire.SetLight(id=component.entity.id, kind=component.kind, set=changes))
        else:
            self._queue(wire.SetCutPlane(id=component.entity.id, set=changes))

    def remove_component(self, component: Component) -> None:
        """Take something off its entity."""
        component._alive = False
        del self._components[component.entity.id][type(component)]
        self._waiting.pop(component, None)
        if isinstance(component, Light):
            self._queue(wire.RemoveLight(id=component.entity.id, kind=component.kind))
        else:
            self._queue(wire.RemoveCutPlane(id=component.entity.id))


class Appearance:
    """What :class:`Scene` has of how it looks."""

    _looks: Looks

    def create_material(self, kind: MaterialKind = "pbr", **values: Any) -> Material:
        """Make a material: ``pbr``, which is lit, or ``color``, which is not. ``values``: properties of it.

        It is there at once. Raises ValueError, TypeError, RequestError (InvalidId of a texture).
        """
        return self._looks.create_material(kind, values)

    @property
    def materials(self) -> tuple[Material, ...]:
        """All that were made, and those of models that anything is made of."""
        return tuple(self._looks.materials.values())

    @property
    def textures(self) -> tuple[Texture, ...]:
        """Those that were loaded and not destroyed."""
        return tuple(texture for texture in self._looks.textures.values() if texture.valid)

    @property
    def outline(self) -> OutlineSettings:
        """Outlines of what is selected."""
        return cast("OutlineSettings", self._looks.settings["outline"])

    @property
    def shell(self) -> ShellSettings:
        """How shells look."""
        return cast("ShellSettings", self._looks.settings["shell"])

    @property
    def z_fighting(self) -> ZFightingSettings:
        """What is done about surfaces in the same place."""
        return cast("ZFightingSettings", self._looks.settings["z_fighting"])

    @property
    def camera(self) -> CameraSettings:
        """Clip distances in the place of those of poses."""
        return cast("CameraSettings", self._looks.settings["camera"])

    @property
    def stage(self) -> StageSettings:
        """Where the space of the device's poses stands."""
        return cast("StageSettings", self._looks.settings["stage"])

    @property
    def debug(self) -> DebugSettings:
        """What is shown in the picture itself."""
        return cast("DebugSettings", self._looks.settings["debug"])

    @property
    def single_sided(self) -> SingleSidedMode:
        """How surfaces with one side are drawn: ``normal``, ``dynamicDoubleSiding`` (their backs while a cut plane goes
        through) or ``alwaysDoubleSided``."""
        return self._looks.single_sided

    @single_sided.setter
    def single_sided(self, value: SingleSidedMode) -> None:
        self._looks.set_single_sided(value)

    @property
    def sky(self) -> str | Texture:
        """What lights PBR materials from all sides: ``builtin://...``, a cube map, or a 2D texture in spherical
        layout."""
        return self._looks.sky

    @sky.setter
    def sky(self, value: str | Texture) -> None:
        self._looks.set_sky(value)

    @property
    def point_size(self) -> float:
        """Factor on the size of points of point clouds."""
        return self._looks.plain.point_size

    @point_size.setter
    def point_size(self, value: float) -> None:
        self._looks.plain.point_size = value
