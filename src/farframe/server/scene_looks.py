"""How a place's scene looks: materials, textures, lights, cut planes, effects. Belongs to the render thread, as all of
:mod:`farframe.server.scene_world`, whose commands on looks are done here.

    Materials, Textures   what there is, and who uses it          farframe.scene.resources
    Dressing              what each part instance is drawn with   farframe.scene.dressing
    Components            lights and cut planes                   farframe.scene.components
    RenderScene           the same, as it is drawn                farframe.render.scene

A texture's pixels, and skies, come from elsewhere (:mod:`farframe.server.textures`): here only their ids count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farframe.protocol import appearance as wire
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.scene import unpack
from farframe.render.materials import state_of
from farframe.scene.components import Components
from farframe.scene.dressing import Dressing
from farframe.scene.effects import SkyKind
from farframe.scene.graph import MAX_ID, Changes, Graph
from farframe.scene.lights import Light
from farframe.scene.materials import MaterialState
from farframe.scene.meshes import Meshes, Tree
from farframe.scene.resources import (
    FIRST_MODEL_MATERIAL,
    Materials,
    Texture,
    Textures,
    invalid_material,
)
from farframe.server import scene_values as values

if TYPE_CHECKING:
    from farframe.render import RenderScene

Rows = NDArray[np.int64]

PAGE_BYTES = 96 * 1024
"""About what an answer's list may take, before it is split."""
MATERIAL_BYTES, COMPONENT_BYTES = 1100, 600
"""What one of them may take in an answer, without its name."""


class Looks:
    """See the module. ``push`` hands instances, by their rows in ``meshes``, to the renderer's scene once more.

    ``freed`` has the textures that nobody needs any more, until whoever holds them has freed them.
    """

    def __init__(self, scene: RenderScene, graph: Graph, push: Callable[[Rows], None]) -> None:
        self.textures = Textures()
        self.materials = Materials(self.textures)
        self.components = Components(self.textures)
        self.dressing = Dressing(FIRST_MODEL_MATERIAL)
        self.effects = wire.EffectsValues()
        self.freed: list[Texture] = []
        self.on_change: Callable[[], None] = _nobody
        """Is told when textures were freed, or lights or the sky name others."""
        self.skies: frozenset[str] | None = None
        """Names of the skies that are built in; ``None``: whatever begins so."""
        self._scene = scene
        self._graph = graph
        self._push = push
        self._projected: set[int] = set()
        self._lookup: tuple[NDArray[np.int64], Rows] | None = None
        self._told: tuple[NDArray[np.int64], Rows] | None = None
        self.commands: dict[type, Callable[[Any, Meshes], None]] = {
            wire.CreateMaterial: self._create_material,
            wire.SetMaterial: self._set_material,
            wire.DestroyMaterial: self._destroy_material,
            wire.OverrideMaterials: self._override_materials,
            wire.SetMeshMaterial: self._set_mesh_material,
            wire.DestroyTexture: lambda command, _: self.textures.unwant(command.id),
            wire.SetLight: self._set_light,
            wire.RemoveLight: self._remove_light,
            wire.SetCutPlane: self._set_cut_plane,
            wire.RemoveCutPlane: self._remove_cut_plane,
            wire.SetEffects: self._set_effects,
        }

    # Models -----------------------------------------------------------------------------------------------------

    def check_model(self, tree: Tree) -> None:
        """Whether there are ids for a model's materials. Raises ExceedsMemoryLimit."""
        if self.dressing.next_material + tree.material_count > MAX_ID:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT, "All ids of this connection are used.", next_step="Connect anew."
            )

    def add_model(self, handle: int, tree: Tree) -> None:
        """A model was placed."""
        self.dressing.add(handle, tree.part, tree.material, tree.material_count)
        self._forget_order()

    def replace_model(self, handle: int, tree: Tree) -> None:
        """Another resource is drawn in a model's place, with the same materials and instances: both are dressed as they
        were."""
        self._forget_order()
        if handle not in self.dressing:
            return
        clothes = self.dressing[handle]
        if len(tree.part) != len(clothes.part):
            raise ValueError("a model is replaced by one with as many instances")
        for index in range(clothes.materials):
            state = self.materials.edited.get(clothes.first_material + index)
            if state is not None:
                self._scene.set_own_material(handle, index, values.drawn(state))

    def remove_model(self, handle: int, meshes: Meshes) -> None:
        """A model is gone, with its materials: other models that wear them have their meshes' own again."""
        clothes = self.dressing.remove(handle)
        if clothes is not None:
            for other, numbers in self.dressing.undress(clothes.first_material, clothes.materials):
                self._push(_rows_of(meshes, other)[numbers])
            self.materials.forget_own(clothes.first_material, clothes.materials)
            self._forget_order()
            self.collect()

    def clear(self) -> None:
        """Put everything back to how a scene begins."""
        self.dressing.clear()
        self._forget_order()
        for material in self.materials.clear():
            self._scene.set_material(material, None)
        self.components.clear()
        self._set_sky_texture(0)
        self.effects = wire.EffectsValues()
        self._show_effects()
        for texture in self.textures.clear():
            self._free(texture)
        self._scene.lights, self._scene.cut_planes = (), ()
        self._projected = set()
        self.on_change()

    def worn(self, handle: int, numbers: Rows) -> NDArray[np.uint32]:
        """(n,) the materials that instances of a model are drawn with, by id; 0: the file's."""
        return self.dressing[handle].worn(numbers)

    # After commands ---------------------------------------------------------------------------------------------

    def destroyed(self, entities: NDArray[np.int64]) -> None:
        """Entities, by id, are gone."""
        self.components.forget(entities)
        self._forget_order()

    def follow(self, changes: Changes) -> None:
        """Let lights and cut planes stand where their entities do, and forget what nobody needs any more."""
        placed = self.components.place(self._graph, changes)
        if placed is not None:
            self._scene.lights, self._scene.cut_planes = placed
            before, self._projected = self._projected, self.projected()
            if before != self._projected:
                self.on_change()
        self.collect()

    def _forget_order(self) -> None:
        """What hangs on which entity has changed."""
        self._lookup = self._told = None

    def collect(self) -> None:
        """Free what nobody needs any more."""
        for texture in self.textures.take_unused():
            self._free(texture)

    def projected(self) -> set[int]:
        """The textures that lights name."""
        return {light.projected_texture for light in self.components.lights.values() if light.projected_texture}

    def _free(self, texture: Texture) -> None:
        self._scene.set_texture(texture.id, None)
        self.freed.append(texture)
        self.on_change()

    # Materials --------------------------------------------------------------------------------------------------

    def _state(self, material: int) -> MaterialState:
        """The state of any material. Raises InvalidId."""
        if material < FIRST_MODEL_MATERIAL:
            return self.materials.require(material)
        edited = self.materials.edited.get(material)
        if edited is not None:
            return edited
        place = self.dressing.owner(material)
        placed = None if place is None else self._scene.entries.get(place[0])
        if place is None or placed is None:
            raise invalid_material(material)
        index = place[1]
        resource = placed.resource
        parts = resource.parts
        vertex_color = bool(parts.vertex_color[parts.material == index].any())
        return state_of(resource.materials[index], vertex_color=vertex_color)

    def _create_material(self, command: wire.CreateMaterial, meshes: Meshes) -> None:
        state = values.material_state(values.KINDS[command.kind], wire.changed(wire.MaterialValues(), command.set))
        self.materials.create(command.id, state)
        self._scene.set_material(command.id, values.drawn(state))

    def _set_material(self, command: wire.SetMaterial, meshes: Meshes) -> None:
        before = self._state(command.id)
        state = values.material_state(before.kind, wire.changed(values.material_values(before), command.set))
        if command.id < FIRST_MODEL_MATERIAL:
            self.materials.edit(command.id, state)
            self._scene.set_material(command.id, values.drawn(state))
            return
        place = self.dressing.owner(command.id)
        if place is None:
            raise invalid_material(command.id)
        self.materials.edit_own(command.id, before, state)
        self._scene.set_own_material(*place, values.drawn(state))

    def _destroy_material(self, command: wire.DestroyMaterial, meshes: Meshes) -> None:
        self.materials.destroy(command.id)
        for handle, numbers in self.dressing.undress(command.id):
            self._push(_rows_of(meshes, handle)[numbers])
        self._scene.set_material(command.id, None)

    def _wearable(self, materials: NDArray[np.uint32]) -> None:
        """See to it that instances can be drawn with these materials. Raises InvalidId, and has then done nothing."""
        shared: list[tuple[int, tuple[int, int]]] = []
        for material in np.unique(materials).tolist():
            place = self.dressing.owner(material) if material >= FIRST_MODEL_MATERIAL else None
            if place is not None and place[0] in self._scene.entries:
                shared.append((material, place))
            elif material:
                self.materials.require(material)
        for material, place in shared:
            self._scene.share_material(material, *place)

    def _override_materials(self, command: wire.OverrideMaterials, meshes: Meshes) -> None:
        entities = unpack(command.ids, "u4", 1)
        sub_parts = unpack(command.sub_parts, "u4", 1, len(entities))
        materials = unpack(command.materials, "u4", 1, len(entities))
        if command.id or not len(entities):
            numbers = (command.id, command.sub_part, command.material)
            if not all(0 <= number <= MAX_ID for number in numbers):
                raise FarframeError(Result.INVALID_PARAM, "An id is an unsigned 32-bit number.")
            entities = np.append(entities, np.uint32(command.id))
            sub_parts = np.append(sub_parts, np.uint32(command.sub_part))
            materials = np.append(materials, np.uint32(command.material))
        rows = self._rows(meshes, self._graph.slots(entities), sub_parts.astype(np.int64))
        self._wearable(materials)
        handles = meshes.handle[rows]
        for handle in np.unique(handles).tolist():
            mine = handles == handle
            self.dressing.override(handle, meshes.number[rows[mine]], materials[mine])
        self._push(np.unique(rows))

    def _set_mesh_material(self, command: wire.SetMeshMaterial, meshes: Meshes) -> None:
        slots = np.array([self._graph.slot(command.id)], np.int64)
        if not (0 <= command.material <= MAX_ID and 0 <= command.sub_part <= MAX_ID):
            raise FarframeError(Result.INVALID_PARAM, "An id is an unsigned 32-bit number.")
        row = int(self._rows(meshes, slots, np.array([command.sub_part], np.int64))[0])
        self._wearable(np.array([command.material], np.uint32))
        handle = int(meshes.handle[row])
        same = self.dressing.replace(handle, int(meshes.number[row]), command.material)
        # Rows of a model follow one another, in the order of its instances.
        self._push(row - int(meshes.number[row]) + same)

    def _rows(self, meshes: Meshes, slots: Rows, sub_parts: Rows) -> Rows:
        """The rows of sub-parts of entities. Raises InvalidParam, NotSupported for points."""
        if self._lookup is None:
            keys = (meshes.slot << 32) | meshes.sub_part
            order = np.argsort(keys, kind="stable")
            self._lookup = (keys[order], order)
        keys, order = self._lookup
        wanted = (slots << 32) | sub_parts
        place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        found = keys[place] == wanted if len(keys) else np.zeros(len(wanted), np.bool_)
        if not found.all():
            first = int(np.argmin(found))
            raise FarframeError(
                Result.INVALID_PARAM,
                f"The entity {int(self._graph.id[slots[first]])} has no sub-part {int(sub_parts[first])}.",
            )
        rows = order[place]
        if meshes.cloud[rows].any():
            raise FarframeError(Result.NOT_SUPPORTED, "Points have no materials.", next_step="Tint them.")
        return np.asarray(rows, np.int64)

    # Lights, cut planes, effects --------------------------------------------------------------------------------

    def _set_light(self, command: wire.SetLight, meshes: Meshes) -> None:
        self._graph.slot(command.id)
        kind = values.LIGHT_KINDS[command.kind]
        before = self.components.lights.get((command.id, kind), Light(kind))
        light = values.light_of(kind, wire.changed(values.light_values(before), command.set))
        self.components.set_light(command.id, light)

    def _remove_light(self, command: wire.RemoveLight, meshes: Meshes) -> None:
        self._graph.slot(command.id)
        self.components.remove_light(command.id, values.LIGHT_KINDS[command.kind])

    def _set_cut_plane(self, command: wire.SetCutPlane, meshes: Meshes) -> None:
        self._graph.slot(command.id)
        before = self.components.cut_planes.get(command.id)
        told = wire.CutPlaneValues() if before is None else values.cut_plane_values(before)
        self.components.set_cut_plane(command.id, values.cut_plane_of(wire.changed(told, command.set)))

    def _remove_cut_plane(self, command: wire.RemoveCutPlane, meshes: Meshes) -> None:
        self._graph.slot(command.id)
        self.components.remove_cut_plane(command.id)

    def _set_effects(self, command: wire.SetEffects, meshes: Meshes) -> None:
        wanted = wire.changed(self.effects, command.set)
        if problem := values.effects_of(wanted, self._sky_kind(wanted.sky.texture)).problem():
            raise FarframeError(Result.INVALID_PARAM, problem)
        if wanted.sky.uri != self.effects.sky.uri:
            self._check_sky(wanted.sky.uri)
        self._set_sky_texture(wanted.sky.texture)
        sky, self.effects = self.effects.sky, wanted
        self._show_effects()
        if wanted.sky != sky:
            self.on_change()

    def _check_sky(self, uri: str) -> None:
        known = uri in self.skies if self.skies is not None else uri.startswith("builtin://")
        if not known:
            raise FarframeError(
                Result.FILE_NOT_FOUND,
                f"There is no built-in sky {uri[:80]!r}.",
                next_step="Load a texture for a sky of your own.",
            )

    def _sky_kind(self, texture: int) -> SkyKind:
        """Raises InvalidId."""
        if not texture:
            return SkyKind.BUILT_IN
        return SkyKind.CUBE_MAP if self.textures.get(texture).cube else SkyKind.EQUIRECTANGULAR

    def _set_sky_texture(self, texture: int) -> None:
        self.textures.exchange((self.effects.sky.texture,), (texture,))

    def _show_effects(self) -> None:
        self._scene.effects = values.effects_of(self.effects, self._sky_kind(self.effects.sky.texture))
        if self._scene.point_size != self.effects.point_size:
            self._scene.point_size = self.effects.point_size

    # Questions --------------------------------------------------------------------------------------------------

    def told_materials(self, first: int, last: int) -> wire.MaterialsResult:
        """Materials with ids in a range, as many as fit."""
        chosen: list[wire.MaterialInfo] = []
        room = PAGE_BYTES
        for material in self._material_ids(first, last):
            state = self._state(material)
            room -= MATERIAL_BYTES + 6 * len(state.name)
            if room < 0 and chosen:
                return wire.MaterialsResult(materials=chosen, next=material)
            chosen.append(values.material_info(material, state))
        return wire.MaterialsResult(materials=chosen)

    def _material_ids(self, first: int, last: int) -> list[int]:
        made = sorted(material for material in self.materials.made if first <= material <= last)
        for clothes in self.dressing.all():
            begin = clothes.first_material
            made.extend(range(max(first, begin), min(last + 1, begin + clothes.materials)))
        return made

    def told_textures(self, first: int) -> wire.TexturesResult:
        """Textures with ids from ``first`` on, as many as fit."""
        chosen: list[wire.TextureInfo] = []
        room = PAGE_BYTES
        for texture in self.textures:
            if texture.id < first:
                continue
            info = texture_info(texture, wanted=self.textures.wanted(texture.id))
            room -= 200 + 6 * len(info.uri)
            if room < 0 and chosen:
                return wire.TexturesResult(textures=chosen, next=texture.id)
            chosen.append(info)
        return wire.TexturesResult(textures=chosen)

    def sub_parts(
        self, meshes: Meshes, params: wire.SubPartsParams, limit: int
    ) -> tuple[wire.SubPartTable, NDArray[np.int64]]:
        """At most ``limit`` sub-parts of entities with ids in a range, and the one that follows; with (n,) which of its
        entity's each is."""
        if self._told is None:
            rows = np.flatnonzero(meshes.slot >= 0)
            entities = self._graph.id[meshes.slot[rows]]
            order = np.lexsort((meshes.sub_part[rows], entities))
            self._told = (entities[order], rows[order])
        entities, rows = self._told
        begin = int(np.searchsorted(entities, params.first))
        of_first = int(np.searchsorted(entities, params.first, side="right")) - begin
        begin += min(max(params.skip, 0), of_first)
        end = min(int(np.searchsorted(entities, params.last, side="right")), begin + limit + 1)
        rows, entities = rows[begin:end], entities[begin:end]
        ranks = meshes.sub_part[rows]
        table = wire.SubPartTable(entities.astype(np.uint32), *(np.zeros(len(rows), np.uint32) for _ in range(4)))
        handles = meshes.handle[rows]
        for handle in np.unique(handles).tolist():
            mine = handles == handle
            clothes, numbers = self.dressing[handle], meshes.number[rows[mine]]
            table.part[mine] = clothes.first_part + clothes.part[numbers]
            table.material[mine] = clothes.file_material(numbers)
            table.replaced[mine] = clothes.replaced[numbers]
            table.override[mine] = clothes.override[numbers]
        return table, ranks

    def told_components(self, first: int) -> wire.ComponentsResult:
        """Lights and cut planes of entities with ids from ``first`` on, as many as fit."""
        lights: dict[int, list[wire.LightInfo]] = {}
        for (entity, _), light in self.components.lights.items():
            lights.setdefault(entity, []).append(values.light_info(entity, light))
        planes = self.components.cut_planes
        result = wire.ComponentsResult()
        room = PAGE_BYTES // COMPONENT_BYTES
        for entity in sorted(lights.keys() | planes.keys()):
            if entity < first:
                continue
            if room <= 0:
                result.next = entity
                break
            mine = lights.get(entity, [])
            result.lights.extend(mine)
            if entity in planes:
                plane = values.cut_plane_values(planes[entity])
                result.cut_planes.append(wire.CutPlaneInfo(entity=entity, values=plane))
            room -= len(mine) + (entity in planes)
        return result


def _nobody() -> None:
    """Nobody is told."""


def texture_info(texture: Texture, *, wanted: bool = True) -> wire.TextureInfo:
    """What a device is told of a texture. A query may hold a signature."""
    return wire.TextureInfo(
        id=texture.id,
        kind="cube" if texture.cube else "2d",
        uri=texture.uri.partition("?")[0],
        width=texture.width,
        height=texture.height,
        levels=texture.levels,
        size_bytes=texture.size_bytes,
        wanted=wanted,
    )


def _rows_of(meshes: Meshes, handle: int) -> Rows:
    """The rows of a model's instances, in their order."""
    return np.flatnonzero(meshes.handle == handle)
