"""What a device and a server say about how a scene looks: materials, textures, lights, cut planes, effects.

The commands here go in the batches of ``scene.apply``, see :mod:`farframe.protocol.scene`. What is set comes as
``set``: an object with only those members that change, named as in the ``...Values`` of the same kind, whose defaults
are how a thing begins. :func:`changed` makes the new values of it, all or none.

    scene.loadTexture     LoadTextureParams    TextureInfo          fetches and reads; the id is the server's to give
    scene.getTextures     FirstParams          TexturesResult
    scene.getMaterials    RangeParams          MaterialsResult      the device's, and those of models
    scene.getSubParts     SubPartsParams       SubPartsResult       what entities are made of, packed
    scene.getComponents   FirstParams          ComponentsResult     lights and cut planes
    scene.getEffects      (none)               EffectsValues

Ids of materials: 1 to 2^31 - 1 are the device's to choose, those of models follow. Colours are linear RGB(A), lengths
metres. Words and numbers are those of :mod:`farframe.scene`; ``docs/scene.md`` says what they mean.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Message, Vector3

Vector2 = tuple[float, float]
Vector4 = tuple[float, float, float, float]

OWN_MAP = 0xFFFFFFFF
"""In the place of a texture's id, for a model's own material: the map that the file has there."""
FIRST_MODEL_MATERIAL = 1 << 31
MAX_MATERIALS = 16_384
"""That a device has made."""
MAX_TEXTURES = 1024
"""That a device has loaded."""
MAX_TEXTURE_BYTES = 1 << 30
"""All of them, decoded and with their levels."""
MAX_LIGHTS = 1024
MAX_CUT_PLANES = 1024
"""That stand in a scene. At most 8 of them cut."""
MAX_URI_CHARACTERS = 8192
SUB_PART_PAGE = 65_536
MAX_UNPACKED_BYTES = 64 << 20

MaterialKind = Literal["pbr", "color"]
LightKind = Literal["point", "spot", "directional"]
TextureKind = Literal["2d", "cube"]
Axis = Literal["x", "y", "z", "negativeX", "negativeY", "negativeZ"]

MATERIAL_FLAGS = {
    "transparent": 1,
    "use_vertex_color": 2,
    "double_sided": 4,
    "specular_highlights": 8,
    "alpha_clipped": 16,
    "fade_to_black": 32,
    "fresnel_effect": 64,
    "transparency_writes_depth": 128,
    "fades_reflections": 256,
}
"""What ``flags`` of a material is made of."""
ALL_MATERIAL_FLAGS = sum(MATERIAL_FLAGS.values())

V = TypeVar("V", bound="Message")


# Values -------------------------------------------------------------------------------------------------------------


class MaterialValues(Message):
    """A material. ``..._map`` are ids of textures, 0 for none, :data:`OWN_MAP` for the one in the model's file."""

    name: str = ""
    flags: int = MATERIAL_FLAGS["specular_highlights"]
    albedo_color: Vector4 = (1.0, 1.0, 1.0, 1.0)
    albedo_map: int = 0
    alpha_clip_threshold: float = 0.5
    texcoord_scale: Vector2 = (1.0, 1.0)
    texcoord_offset: Vector2 = (0.0, 0.0)
    fresnel_effect_color: Vector3 = (1.0, 1.0, 1.0)
    fresnel_effect_exponent: float = 1.0
    fade_out: float = 1.0
    normal_map: int = 0
    normal_map_scale: float = 1.0
    roughness: float = 1.0
    roughness_map: int = 0
    metalness: float = 0.0
    metalness_map: int = 0
    ao_map: int = 0
    ao_scale: float = 1.0
    emissive_color: Vector3 = (0.0, 0.0, 0.0)
    emissive_map: int = 0
    vertex_alpha_mode: Literal["occlusion", "lightMask", "opacity"] = "occlusion"
    vertex_mix: float = 1.0
    color_transparency: Literal["opaque", "alphaBlend", "additive"] = "opaque"


MAPS = ("albedo_map", "normal_map", "roughness_map", "metalness_map", "ao_map", "emissive_map")
"""The members of a material that name textures."""


class LightValues(Message):
    """A light. ``projected_texture``: id of a 2D texture for a spot light, of a cube map for a point light, 0: none."""

    color: Vector3 = (1.0, 1.0, 1.0)
    intensity: float = 10.0
    enabled: bool = True
    radius: float = 0.0
    length: float = 0.0
    attenuation_cutoff: Vector2 = (0.0, 0.0)
    spot_angle_deg: Vector2 = (25.0, 35.0)
    falloff_exponent: float = 1.0
    projected_texture: int = 0


class CutPlaneValues(Message):
    """A cut plane: ``normal`` is an axis of its entity."""

    enabled: bool = True
    normal: Axis = "x"
    fade_color: Vector4 = (1.0, 0.0, 0.0, 0.0)
    fade_length: float = 0.1
    filter_mask: int = 0xFF
    capped: bool = False
    cap_color: Vector4 = (0.0, 0.0, 0.0, 0.0)
    cap_hatching: float = 0.3


class OutlineValues(Message):
    """Outlines of what is selected."""

    color: Vector3 = (1.0, 1.0, 0.0)
    pulse_rate_hz: float = 0.0
    pulse_intensity: float = 0.0


class ShellValues(Message):
    """How shells look."""

    desaturation: float = 0.5
    opacity: float = 0.5


class ZFightingValues(Message):
    """Surfaces in the same place."""

    enabled: bool = True
    highlighting: bool = False


class SkyValues(Message):
    """``texture``: id of a cube map, or of a 2D texture in spherical layout; 0: the built-in sky that ``uri`` names."""

    uri: str = "builtin://Studio"
    texture: int = 0


class CameraValues(Message):
    """Clip distances in the place of those of poses; 0 and 0: those of the poses count."""

    near: float = 0.0
    far: float = 0.0


class StageValues(Message):
    """Where the space of the device's poses stands in the world."""

    position: Vector3 = (0.0, 0.0, 0.0)
    rotation: Vector4 = (0.0, 0.0, 0.0, 1.0)


class DebugValues(Message):
    """What is shown in the picture itself."""

    frame_count: bool = False
    polygon_count: bool = False
    wireframe: bool = False
    edges: bool = False


class EffectsValues(Message):
    """All settings of the whole picture but those of ``scene.configure``."""

    outline: OutlineValues = msgspec.field(default_factory=OutlineValues)
    shell: ShellValues = msgspec.field(default_factory=ShellValues)
    single_sided: Literal["normal", "dynamicDoubleSiding", "alwaysDoubleSided"] = "dynamicDoubleSiding"
    z_fighting: ZFightingValues = msgspec.field(default_factory=ZFightingValues)
    sky: SkyValues = msgspec.field(default_factory=SkyValues)
    camera: CameraValues = msgspec.field(default_factory=CameraValues)
    stage: StageValues = msgspec.field(default_factory=StageValues)
    debug: DebugValues = msgspec.field(default_factory=DebugValues)
    point_size: float = 1.0


def changed(values: V, changes: dict[str, Any]) -> V:
    """``values`` with the members that ``changes`` (as on the wire) names; members that are objects are changed in the
    same way. Members that are not known are passed over. Raises InvalidParam for a value of another type."""
    plain = msgspec.to_builtins(values)
    for name, value in changes.items():
        before = plain.get(name, {})
        plain[name] = {**before, **value} if isinstance(value, dict) and isinstance(before, dict) else value
    try:
        return msgspec.convert(plain, type(values))
    except (msgspec.ValidationError, RecursionError) as error:
        raise FarframeError(Result.INVALID_PARAM, f"{error}.") from None


def difference(before: V, after: V) -> dict[str, Any]:
    """What :func:`changed` needs to make ``after`` of ``before``."""
    found: dict[str, Any] = {}
    for item in msgspec.structs.fields(type(after)):
        old, new = getattr(before, item.name), getattr(after, item.name)
        if old != new:
            found[item.encode_name] = difference(old, new) if isinstance(new, Message) else new
    return found


# Commands -----------------------------------------------------------------------------------------------------------


class CreateMaterial(Message, tag_field="op", tag="createMaterial"):
    """Make a material. ``id``: 1 to 2^31 - 1, used by none that lives. ``kind`` stays for good."""

    id: int
    kind: MaterialKind = "pbr"
    set: dict[str, Any] = msgspec.field(default_factory=dict)


class SetMaterial(Message, tag_field="op", tag="setMaterial"):
    """Change members of a material, the device's or a model's, for all that it is seen on."""

    id: int
    set: dict[str, Any]


class DestroyMaterial(Message, tag_field="op", tag="destroyMaterial"):
    """Take a material that the device has made out; what it was seen on has the model's own again."""

    id: int


class OverrideMaterials(Message, tag_field="op", tag="overrideMaterials"):
    """Draw sub-parts of entities with other materials, on these entities only; material 0: with the mesh's own again.
    ``id``, ``sub_part``, ``material``, or packed u32 x n: ``ids``, ``sub_parts``, ``materials``."""

    id: int = 0
    sub_part: int = 0
    material: int = 0
    ids: bytes = b""
    sub_parts: bytes = b""
    materials: bytes = b""


class SetMeshMaterial(Message, tag_field="op", tag="setMeshMaterial"):
    """Put another material into a mesh, for all entities that show it; ``id`` is one of them. 0: the file's again."""

    id: int
    sub_part: int = 0
    material: int = 0


class DestroyTexture(Message, tag_field="op", tag="destroyTexture"):
    """The device wants a texture no more. It is freed when nothing uses it any more, either."""

    id: int


class SetLight(Message, tag_field="op", tag="setLight"):
    """Change an entity's light of a kind; it is made if there is none."""

    id: int
    kind: LightKind
    set: dict[str, Any] = msgspec.field(default_factory=dict)


class RemoveLight(Message, tag_field="op", tag="removeLight"):
    """Take an entity's light of a kind off it."""

    id: int
    kind: LightKind


class SetCutPlane(Message, tag_field="op", tag="setCutPlane"):
    """Change an entity's cut plane; it is made if there is none."""

    id: int
    set: dict[str, Any] = msgspec.field(default_factory=dict)


class RemoveCutPlane(Message, tag_field="op", tag="removeCutPlane"):
    """Take an entity's cut plane off it."""

    id: int


class SetEffects(Message, tag_field="op", tag="setEffects"):
    """Change members of :class:`EffectsValues`, and members of these."""

    set: dict[str, Any]


AppearanceCommand = (
    CreateMaterial
    | SetMaterial
    | DestroyMaterial
    | OverrideMaterials
    | SetMeshMaterial
    | DestroyTexture
    | SetLight
    | RemoveLight
    | SetCutPlane
    | RemoveCutPlane
    | SetEffects
)


# Requests -----------------------------------------------------------------------------------------------------------


class LoadTextureParams(Message):
    """``scene.loadTexture``. The same URI gives the same texture while it lives. ``progress_token`` comes back in
    ``scene.loadProgress``."""

    uri: str
    kind: TextureKind = "2d"
    progress_token: str = ""


class TextureInfo(Message):
    """A texture: its size in pixels, how many levels it has, the bytes that it takes; ``uri`` without the query.
    ``wanted`` is false for one that the device has destroyed, and that something still names."""

    id: int
    kind: TextureKind
    uri: str
    width: int
    height: int
    levels: int
    size_bytes: int
    wanted: bool = True


class FirstParams(Message):
    """From which id on is asked."""

    first: int = 1


class RangeParams(Message):
    """Ids from ``first`` to ``last``."""

    first: int = 1
    last: int = (1 << 32) - 1


class TexturesResult(Message):
    """By ascending id, as many as fit; ``next``: where to go on, 0 at the end."""

    textures: list[TextureInfo]
    next: int = 0


class MaterialInfo(Message):
    """A material and its id; those of models have ids from 2^31 on."""

    id: int
    kind: MaterialKind
    values: MaterialValues


class MaterialsResult(Message):
    """By ascending id, as many as fit; ``next``: where to go on, 0 at the end."""

    materials: list[MaterialInfo]
    next: int = 0


class SubPartsParams(RangeParams):
    """Of entities with ids from ``first`` to ``last``; ``skip``: how many of the first one's are known already."""

    skip: int = 0


class SubPartsResult(Message):
    """Sub-parts of entities, as many as fit, by entity and then in order, see :func:`pack_sub_parts`. ``next``: the
    entity to go on with, 0 at the end; ``skip``: how many of that one's were told."""

    count: int
    data: bytes
    next: int = 0
    skip: int = 0


class LightInfo(Message):
    """An entity's light."""

    entity: int
    kind: LightKind
    values: LightValues


class CutPlaneInfo(Message):
    """An entity's cut plane."""

    entity: int
    values: CutPlaneValues


class ComponentsResult(Message):
    """Of entities by ascending id, as many as fit; ``next``: the entity to go on with, 0 at the end."""

    lights: list[LightInfo] = msgspec.field(default_factory=list)
    cut_planes: list[CutPlaneInfo] = msgspec.field(default_factory=list)
    next: int = 0


# Sub-parts as a table -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SubPartTable:
    """n sub-parts, (n,) uint32 each: the ``entity``; the ``part`` of the mesh, the same number where the mesh is the
    same; the ``material`` that the file puts there, 0 for points, which have none; what ``replaced`` it in the mesh, 0
    for nothing; the ``override`` of this entity, 0 for none."""

    entity: NDArray[np.uint32]
    part: NDArray[np.uint32]
    material: NDArray[np.uint32]
    replaced: NDArray[np.uint32]
    override: NDArray[np.uint32]


SUB_PART_COLUMNS = ("entity", "part", "material", "replaced", "override")


def pack_sub_parts(table: SubPartTable) -> bytes:
    """The table as bytes: its columns, whole, one after the other, compressed by zlib."""
    columns = [np.ascontiguousarray(getattr(table, name), "<u4").tobytes() for name in SUB_PART_COLUMNS]
    return zlib.compress(b"".join(columns), 3)


def unpack_sub_parts(count: int, data: bytes) -> SubPartTable:
    """The table from untrusted bytes. Raises ProtocolError."""
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(data, MAX_UNPACKED_BYTES)
        if inflater.unconsumed_tail or not inflater.eof or count < 0 or len(plain) != 20 * count:
            raise ValueError("too large, or cut off")
    except (zlib.error, ValueError) as error:
        raise FarframeError(Result.PROTOCOL_ERROR, f"Sub-parts that cannot be read: {error}.") from None
    return SubPartTable(*(np.frombuffer(plain, "<u4", count, 4 * count * column) for column in range(5)))
