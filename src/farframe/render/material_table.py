"""All materials of a scene on the device as rows of numbers, and the looks that they have.

Instances name a material by its slot here. A model's own materials, edited forms of them, and materials of the scene
are alike in that. Slots live until the placement is built anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from farframe.asset.model import Material
from farframe.render.materials import (
    EXTRAS_DTYPE,
    Look,
    extras_of,
    factors_of,
    is_gone,
    look_of,
    own_look,
    state_of,
)
from farframe.render.pipelines import Pipelines, Variant
from farframe.render.resources import Uploader
from farframe.scene.materials import MaterialState

if TYPE_CHECKING:
    from farframe.render.materials import OwnTexture
    from farframe.render.placement import Resource
    from farframe.render.scene import RenderScene
    from farframe.render.textures import TextureResource

NOWHERE = -1
"""In place of a slot: there is no such material."""


class MaterialTable:
    """See the module. m slots: ``factors`` (m, 12) float32 in the order of the instance's row, ``look`` (m,) index into
    ``looks``, ``gone`` (m,) nothing of it is seen; rows beyond ``count`` are empty."""

    def __init__(self, device: Any, pipelines: Pipelines, uploader: Uploader) -> None:
        self._device = device
        self._pipelines = pipelines
        self._uploader = uploader
        self.count = 0
        self.factors: NDArray[np.float32] = np.zeros((64, 12), np.float32)
        self.look: NDArray[np.int64] = np.zeros(64, np.int64)
        self.gone: NDArray[np.bool_] = np.zeros(64, np.bool_)
        self.looks: list[Look] = []
        self._extras: NDArray[np.void] = np.zeros(64, EXTRAS_DTYPE)
        self._numbers: dict[Look, int] = {}
        self._scene_slots: dict[int, int] = {}
        self._own_slots: dict[int, int] = {}
        self._edited_slots: dict[tuple[int, int], int] = {}
        self._states: dict[int, _Form] = {}
        self._buffer: Any = None
        self._group: Any = None
        self._dirty: tuple[int, int] | None = None

    def _new(self) -> int:
        if self.count == len(self.look):
            self.factors, self.look, self.gone, self._extras = (
                np.concatenate([rows, np.zeros_like(rows)])
                for rows in (self.factors, self.look, self.gone, self._extras)
            )
        self.count += 1
        return self.count - 1

    def _number(self, look: Look) -> int:
        number = self._numbers.get(look)
        if number is None:
            number = self._numbers[look] = len(self.looks)
            self.looks.append(look)
        return number

    def own(self, resource: Resource) -> int:
        """The slot of a model's first material as its file has it; the others follow."""
        first = self._own_slots.get(id(resource))
        if first is not None:
            return first
        first = self.count
        for index, factors in enumerate(resource.factors):
            slot = self._new()
            self.factors[slot] = factors
            if index < len(resource.materials):
                material = resource.materials[index]
                variant = Variant.of(material, vertex_color=False, mirrored=False, normal_xy=resource.normal_xy(index))
                look = own_look(variant, int(resource.texture_set[index]))
            else:
                look = own_look(Variant(), NOWHERE)
            self.look[slot] = self._number(look)
        self._own_slots[id(resource)] = first
        return first

    def edited(self, handle: int, resource: Resource, index: int, scene: RenderScene) -> int:
        """The slot of a model's material in the form that the scene gives it."""
        state = scene.entries[handle].own[index]
        key = (handle, index)
        if key not in self._edited_slots:
            self._edited_slots[key] = self._new()
        slot = self._edited_slots[key]
        self._set(slot, _Form(state, resource.materials[index], resource.normal_xy(index)), scene.textures)
        return slot

    def of_scene(self, material: int, scene: RenderScene) -> int:
        """The slot of a material of the scene, or of a model that shares it, or :data:`NOWHERE`."""
        form = _form_of(material, scene)
        if form is None:
            return NOWHERE
        slot = self._scene_slots.get(material)
        if slot is None:
            slot = self._scene_slots[material] = self._new()
            self._set(slot, form, scene.textures)
        return slot

    def refresh(self, material: int, scene: RenderScene) -> None:
        """A material of the scene has changed; one that nothing uses is not looked at."""
        slot, form = self._scene_slots.get(material), _form_of(material, scene)
        if slot is not None and form is not None:
            self._set(slot, form, scene.textures)

    def refresh_texture(self, textures: set[int], scene: RenderScene) -> list[int]:
        """Textures have changed: the slots of materials that name them."""
        found = []
        for slot, form in self._states.items():
            state = form.state
            maps = (
                state.albedo_map,
                state.normal_map,
                state.roughness_map,
                state.metalness_map,
                state.ao_map,
                state.emissive_map,
            )
            if not textures.isdisjoint(maps):
                self._set(slot, form, scene.textures)
                found.append(slot)
        return found

    def _set(self, slot: int, form: _Form, textures: dict[int, TextureResource]) -> None:
        state = form.state
        self._states[slot] = form
        self.factors[slot] = factors_of(state)
        self.look[slot] = self._number(look_of(state, textures, form.own, form.normal_xy, form.handle))
        self.gone[slot] = is_gone(state)
        self._extras[slot] = extras_of(state)
        first, last = self._dirty or (slot, slot)
        self._dirty = (min(first, slot), max(last, slot))

    def extras_group(self) -> Any:
        """The bind group of the extras, brought up to date."""
        size = EXTRAS_DTYPE.itemsize
        if self._buffer is None or self._buffer.size < self.count * size:
            if self._buffer is not None:
                self._buffer.destroy()
            usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST
            self._buffer = self._device.create_buffer(label="materials", size=len(self._extras) * size, usage=usage)
            self._group = self._device.create_bind_group(
                layout=self._pipelines.extras_layout, entries=[{"binding": 0, "resource": {"buffer": self._buffer}}]
            )
            self._dirty = (0, self.count - 1)
        if self._dirty is not None:
            first, last = self._dirty
            self._device.queue.write_buffer(self._buffer, first * size, self._extras[first : last + 1].view(np.uint8))
            self._dirty = None
        return self._group

    def textures(self, look: Look, resource: Resource, scene: RenderScene) -> MaterialTextures:
        """What binds the textures of a look on parts of a model."""
        return MaterialTextures(self._uploader, look, resource, scene)

    def destroy(self) -> None:
        """Free the buffer of extras."""
        if self._buffer is not None:
            self._buffer.destroy()
        self._buffer = self._group = None


@dataclass(frozen=True, slots=True)
class _Form:
    """A material as the scene has it: its state, and what :func:`look_of` needs beside it."""

    state: MaterialState
    own: Material | None = None
    normal_xy: bool = False
    handle: int = 0


def _form_of(material: int, scene: RenderScene) -> _Form | None:
    """Of a material of the scene, or of one that a model shares; ``None`` if there is none."""
    state = scene.materials.get(material)
    if state is not None:
        return _Form(state)
    handle, index = scene.shared.get(material, (0, 0))
    placed = scene.entries.get(handle)
    if placed is None or placed.resource.released or index >= len(placed.resource.materials):
        return None
    resource = placed.resource
    own, parts = resource.materials[index], resource.parts
    state = placed.own.get(index)
    if state is None:
        state = state_of(own, vertex_color=bool(parts.vertex_color[parts.material == index].any()))
    return _Form(state, own, resource.normal_xy(index), handle)


class MaterialTextures:
    """The bind group of textures of which some are the model's, some the scene's or other models'; made anew when one
    has changed."""

    def __init__(self, uploader: Uploader, look: Look, resource: Resource, scene: RenderScene) -> None:
        self._uploader = uploader
        self._slots = look.textures
        self._resource = resource
        self._scene = scene
        self._state: tuple[object, ...] | None = None
        self._group: Any = None

    def group(self) -> Any:
        """The bind group as of now."""
        state: list[object] = []
        for slot in self._slots:
            if slot is None:
                state.append(None)
            elif slot[0] == "scene":
                texture = self._scene.textures.get(slot[1])
                state.append(None if texture is None or texture.released else texture)
            else:
                whose = self._whose(slot)
                state.append(None if whose is None else (id(whose), whose.texture_state(slot[1])))
        if self._group is None or tuple(state) != self._state:
            self._state = tuple(state)
            self._group = self._uploader.texture_group(
                [self._binding(number, there) for number, there in enumerate(state)]
            )
        return self._group

    def _binding(self, number: int, there: object) -> tuple[Any, Any] | None:
        slot = self._slots[number]
        if slot is None or there is None:
            return None
        if slot[0] != "scene":
            whose = self._whose(slot)
            return None if whose is None else whose.texture_binding(self._uploader, slot[1])
        # Base colour and emission are colours; the rest are numbers.
        view = self._scene.textures[slot[1]].view(color=number in (0, 4))
        return view, self._uploader.plain_sampler

    def _whose(self, slot: OwnTexture) -> Resource | None:
        """The resource that has a texture, while it is there."""
        if slot[0] == "own":
            return self._resource
        placed = self._scene.entries.get(slot[2])
        return None if placed is None or placed.resource.released else placed.resource
