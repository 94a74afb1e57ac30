"""Materials, textures and meshes as the device holds them. What is set is seen here at once, and soon in the picture.

    red = scene.create_material(albedo_color=(1, 0, 0, 1), roughness=0.3)
    entity.materials[0] = red                                this entity alone
    entity.mesh.materials[0] = red                           all that show the same mesh
    entity.mesh.materials[0].metalness = 1                   the material itself, wherever it is seen
    red.albedo_map = await scene.load_texture("paint.png")

Colours are linear RGB(A). A map multiplies the number or colour of the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from farframe.client._live import Choice, FlagBit, Live, Number, Numbers, Property, Text
from farframe.client.errors import RequestError
from farframe.protocol import appearance as wire
from farframe.protocol.errors import Result

if TYPE_CHECKING:
    from farframe.client.entities import Entity
    from farframe.client.looks import Looks

MaterialKind = Literal["pbr", "color"]
VertexAlphaMode = Literal["occlusion", "lightMask", "opacity"]
ColorTransparency = Literal["opaque", "alphaBlend", "additive"]


class OwnTexture(Enum):
    """In the place of a texture: the map that a model's file has there. Materials of models alone have it."""

    OWN = 0


class Texture:
    """A texture that was loaded, see :meth:`Scene.load_texture`: ``width``, ``height`` in pixels, ``levels``,
    ``size_bytes`` at the server, ``kind`` (``2d`` or ``cube``), ``uri`` without its query."""

    def __init__(self, looks: Looks, info: wire.TextureInfo) -> None:
        self.id = info.id
        self.kind = info.kind
        self.uri = info.uri
        self.width = info.width
        self.height = info.height
        self.levels = info.levels
        self.size_bytes = info.size_bytes
        self._looks = looks
        self._alive = info.wanted

    @property
    def valid(self) -> bool:
        """Whether it may be used."""
        return self._alive

    def destroy(self) -> None:
        """It is not wanted any more. What uses it keeps it; then the server frees it. Twice is fine."""
        if self._alive:
            self._looks.destroy_texture(self)

    def __repr__(self) -> str:
        cube = ", cube" if self.kind == "cube" else ""
        return f"Texture({self.id}, {self.width} x {self.height}{cube}{'' if self._alive else ', destroyed'})"


class Map(Property):
    """A texture, or none."""

    def __init__(self, doc: str, kind: Literal["2d", "cube"] = "2d") -> None:
        super().__init__(doc)
        self._kind = kind

    def __get__(self, owner: Live | None, kind: type | None = None) -> Texture | OwnTexture | None:
        if owner is None:
            return cast("Texture", self)
        number = self._read(owner)
        if number == wire.OWN_MAP:
            return OwnTexture.OWN
        return cast("Any", owner)._looks.textures.get(number) if number else None

    def __set__(self, owner: Live, value: Texture | OwnTexture | None) -> None:
        self._write(owner, value)

    def put(self, owner: Live, values: Any, value: Any) -> None:
        """As of any property. Raises RequestError (InvalidId) for a texture that was destroyed."""
        if value is None:
            number = 0
        elif value is OwnTexture.OWN:
            if not getattr(owner, "is_own", False):
                raise ValueError("only the materials of models have maps of their file")
            number = wire.OWN_MAP
        else:
            number = usable(cast("Any", owner)._looks, value, self._kind).id
        setattr(values, self.name, number)


def usable(looks: Looks, texture: Texture, kind: str) -> Texture:
    """A texture of this scene and kind. Raises RequestError (InvalidId), ValueError, TypeError."""
    if not isinstance(texture, Texture):
        raise TypeError("a texture is what load_texture returned")
    if not texture._alive or texture._looks is not looks:
        raise RequestError(Result.INVALID_ID, f"{texture!r} is none of this scene.")
    if texture.kind != kind:
        raise ValueError(f"a {'cube map' if kind == 'cube' else '2D texture'} is needed here")
    return texture


class Material(Live):
    """How a surface looks. Made by :meth:`Scene.create_material`, or come with a model; shared by all that have it.

    ``kind`` ``pbr`` is lit, metallic-roughness; ``color`` is seen as it is. Which properties count for which is told in
    ``docs/scene.md``.
    """

    _values: wire.MaterialValues

    def __init__(self, looks: Looks, identifier: int, kind: MaterialKind, values: wire.MaterialValues) -> None:
        self.id = identifier
        self.kind = kind
        self._looks = looks
        self._values = values
        self._alive = True

    name = Text("For people.")
    albedo_color = Numbers("The surface's own colour, RGBA; alpha is opacity where it is transparent.", 4, 0.0)
    albedo_map = Map("Multiplies ``albedo_color``.")
    alpha_clip_threshold = Number("Where alpha is lower nothing is drawn, if ``alpha_clipped``.", 0.0, 1.0)
    texcoord_scale = Numbers("Of all maps: uv * scale + offset.", 2)
    texcoord_offset = Numbers("Of all maps.", 2)
    fresnel_effect_color = Numbers("Of the glow that grows towards the silhouette, if ``fresnel_effect``.", 3, 0.0)
    fresnel_effect_exponent = Number("How fast it grows.", 0.01, 10.0)
    fade_out = Number("1: fully there, 0: gone, or black with ``fade_to_black``. Needs no flag.", 0.0, 1.0)
    normal_map = Map("Directions of the surface, tangent space.")
    normal_map_scale = Number("1: as it is, 0: flat.")
    roughness = Number("0: a mirror, 1: dull.", 0.0, 1.0)
    roughness_map = Map("Grey; multiplies ``roughness``.")
    metalness = Number("0: no metal, 1: a metal.", 0.0, 1.0)
    metalness_map = Map("Grey; multiplies ``metalness``.")
    ao_map = Map("Grey; what of the sky's light reaches the surface.")
    ao_scale = Number("How much of it counts.", 0.0)
    emissive_color = Numbers("What it shines by itself, RGB.", 3, 0.0)
    emissive_map = Map("Multiplies ``emissive_color``.")
    vertex_alpha_mode = Choice[VertexAlphaMode](
        "What the alpha of vertex colours does.", ("occlusion", "lightMask", "opacity")
    )
    vertex_mix = Number("How much of the vertex colour counts (colour materials).", 0.0, 1.0)
    color_transparency = Choice[ColorTransparency](
        "How a colour material covers what is behind it.", ("opaque", "alphaBlend", "additive")
    )
    transparent = FlagBit("Seen through by its alpha, in any order of surfaces.", wire.MATERIAL_FLAGS["transparent"])
    use_vertex_color = FlagBit("Vertex colours multiply the colour.", wire.MATERIAL_FLAGS["use_vertex_color"])
    double_sided = FlagBit("Seen from both sides.", wire.MATERIAL_FLAGS["double_sided"])
    specular_highlights = FlagBit("Lights make highlights.", wire.MATERIAL_FLAGS["specular_highlights"])
    alpha_clipped = FlagBit("Not drawn where alpha is low.", wire.MATERIAL_FLAGS["alpha_clipped"])
    fade_to_black = FlagBit("``fade_out`` darkens.", wire.MATERIAL_FLAGS["fade_to_black"])
    fresnel_effect = FlagBit("A glow towards the silhouette.", wire.MATERIAL_FLAGS["fresnel_effect"])
    transparency_writes_depth = FlagBit(
        "The nearest transparent layer counts for depth.", wire.MATERIAL_FLAGS["transparency_writes_depth"]
    )
    fades_reflections = FlagBit(
        "Where it is fully transparent it does not even reflect.", wire.MATERIAL_FLAGS["fades_reflections"]
    )

    @property
    def is_own(self) -> bool:
        """Whether it came with a model, and goes with it."""
        return self.id >= wire.FIRST_MODEL_MATERIAL

    @property
    def valid(self) -> bool:
        """Whether it is still there."""
        return self._alive

    def destroy(self) -> None:
        """Take it out: what it was seen on has the mesh's own material again. Twice is fine.

        Raises RequestError (NotSupported) for a model's.
        """
        if not self._alive:
            return
        if self.is_own:
            raise RequestError(
                Result.NOT_SUPPORTED,
                f"{self!r} goes with its model.",
                next_step="Put another one in its place.",
            )
        self._looks.destroy_material(self)

    def copy(self, **changes: Any) -> Material:
        """Another material with the same values, but for ``changes``. Maps that are the file's are left out."""
        values = {name: value for name in self._properties if not isinstance(value := getattr(self, name), OwnTexture)}
        return self._looks.create_material(self.kind, {**values, **changes})

    def _require(self) -> None:
        if not self._alive:
            raise RequestError(Result.INVALID_ID, f"{self!r} is no more.")

    def _changed(self, changes: dict[str, Any]) -> None:
        self._looks.edited(self, wire.SetMaterial, changes)

    def __repr__(self) -> str:
        return f"Material({self.id}, {self._values.name!r}{'' if self._alive else ', destroyed'})"


class PartTable:
    """What a model's entities are made of, n sub-parts, as :class:`~farframe.protocol.appearance.SubPartTable`."""

    def __init__(self, table: wire.SubPartTable) -> None:
        self.entity: NDArray[np.uint32] = table.entity
        self.part: NDArray[np.uint32] = table.part
        self.material: NDArray[np.uint32] = table.material
        self.replaced: NDArray[np.uint32] = np.array(table.replaced)
        self.override: NDArray[np.uint32] = np.array(table.override)

    def mesh_material(self, row: int) -> int:
        """The material of the mesh, by id."""
        return int(self.replaced[row]) or int(self.material[row])


class _Slots(Sequence[Any]):
    """The sub-parts of an entity, in a table of its model."""

    def __init__(self, looks: Looks, entity: Entity) -> None:
        self._looks = looks
        self._entity = entity

    def _place(self) -> tuple[PartTable | None, int, int]:
        return self._looks.parts_of(self._entity)

    def __len__(self) -> int:
        _, start, stop = self._place()
        return stop - start

    def _row(self, index: int) -> tuple[PartTable, int]:
        table, start, stop = self._place()
        count = stop - start
        if not -count <= index < count or table is None:
            raise IndexError(f"{self._entity!r} has {count} sub-parts")
        return table, start + index % count

    def _get(self, index: int) -> Any:
        raise NotImplementedError

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self._get(number) for number in range(*index.indices(len(self))))
        return self._get(index)

    def __repr__(self) -> str:
        return repr(list(self))


class EntityMaterials(_Slots, Sequence["Material | None"]):
    """The materials that one entity's sub-parts are drawn with in place of their mesh's; ``None`` where that counts."""

    @overload
    def __getitem__(self, index: int) -> Material | None: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Material | None, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return super().__getitem__(index)

    def __setitem__(self, index: int | slice, material: Material | None) -> None:
        """Draw a sub-part, or several, with ``material``, on this entity only. Raises RequestError: InvalidId,
        NotSupported (a model's material, or points)."""
        numbers = (
            range(*index.indices(len(self))) if isinstance(index, slice) else [self._row(index)[1] - self._place()[1]]
        )
        self._looks.override_materials(self._entity, list(numbers), material)

    def _get(self, index: int) -> Material | None:
        table, row = self._row(index)
        return self._looks.materials.get(int(table.override[row]))


class MeshMaterials(_Slots, Sequence["Material | None"]):
    """The materials of a mesh, one for each sub-part; ``None`` for points. Setting ``None`` puts the file's back."""

    @overload
    def __getitem__(self, index: int) -> Material | None: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Material | None, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return super().__getitem__(index)

    def __setitem__(self, index: int, material: Material | None) -> None:
        """Put ``material`` into the mesh, for all that show it. Raises as :class:`EntityMaterials`."""
        table, row = self._row(index)
        self._looks.set_mesh_material(self._entity, table, row, row - self._place()[1], material)

    def _get(self, index: int) -> Material | None:
        table, row = self._row(index)
        return self._looks.materials.get(table.mesh_material(row))


class Mesh:
    """What an entity shows, with others perhaps: two are equal that are the same in the file."""

    def __init__(self, looks: Looks, entity: Entity) -> None:
        self._looks = looks
        self._entity = entity
        table, start, stop = looks.parts_of(entity)
        self._key = () if table is None else tuple(table.part[start:stop].tolist())

    @property
    def materials(self) -> MeshMaterials:
        """One for each sub-part. Setting one changes it for all entities that show the mesh."""
        return MeshMaterials(self._looks, self._entity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and self._key == other._key and self._looks is other._looks

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Mesh({len(self._key)} sub-parts)"
