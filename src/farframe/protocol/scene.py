"""What a device and a server say about the entities of a scene. ``docs/protocol.md`` is the same for people.

    scene.apply          ApplyParams           ApplyResult          commands, in order, between two frames
    scene.getEntities    EntitiesParams        EntitiesResult       entities by range of ids, packed
    scene.getBounds      BoundsParams          BoundsResult
    scene.getMetadata    MetadataParams        MetadataResult
    scene.castRay        CastRayParams         CastRayResult

How a scene looks (materials, textures, lights, cut planes, effects) is said in :mod:`farframe.protocol.appearance`.

A *batch* is a list of commands that take effect together: no frame shows one without the others. Each is done whole or
not at all; one that is refused does not keep those after it from being done. A batch that is too long for one message
goes in several, all but the last with ``more``: they are kept until it is whole. Members of many numbers are packed:
bytes, little-endian, as base64 in JSON. The device chooses the ids of what it creates, so nothing it does has to wait.

Transforms that change with every frame go as records over the ``pose`` channel (:func:`encode_transforms`), where they
can be lost or overtaken. Their sequence number, which batches carry as well, lets the later one win in any order.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from farframe.protocol.animations import SetAnimation
from farframe.protocol.appearance import AppearanceCommand
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Bounds, Message, Vector3

FIRST_MODEL_ENTITY = 1 << 31
"""Entities of models have ids from here on, those that devices make below."""
MAX_COMMANDS = 4096
"""In one message."""
MAX_BATCH_COMMANDS = 65_536
MAX_BATCH_BYTES = 48 << 20
"""All messages of a batch."""
MAX_FAILURES = 4096
"""That are told of one batch."""
MAX_RECORD_BYTES = 65_536
MAX_HITS = 1024
MAX_HITS_WITH_CORNERS = 256
"""With the corners of all of them an answer would not fit into a message."""

ENTITY_PAGE = 8192
"""Entities in one answer, at most."""
ENTITY_PAGE_BYTES = 96 * 1024
"""What an answer's data may take, packed, before it is split."""
MAX_UNPACKED_BYTES = 64 << 20

TRANSFORMS_TYPE = 3
TRANSFORMS_VERSION = 1
HAS_POSITION, HAS_ROTATION, HAS_SCALE = 1, 2, 4

IS_MESH, IS_STATIC, IS_CLOUD, IS_DISABLED = 1, 2, 4, 8
"""Flags of an entity: something is drawn at it; it cannot be moved; that is a point cloud; it is not enabled."""

Vector4 = tuple[float, float, float, float]


class Create(Message, tag_field="op", tag="create"):
    """Make an entity. ``id``: 1 to 2^31 - 1, used by none that lives; ``parent`` 0 is none."""

    id: int
    parent: int = 0
    name: str = ""
    position: Vector3 | None = None
    rotation: Vector4 | None = None
    scale: Vector3 | None = None
    enabled: bool = True


class Destroy(Message, tag_field="op", tag="destroy"):
    """Take an entity and all below it out. The root of a model frees the model."""

    id: int


class SetParent(Message, tag_field="op", tag="setParent"):
    """Hang an entity below another one (0: none). Its local transform stays."""

    id: int
    parent: int


class SetName(Message, tag_field="op", tag="setName"):
    """Give an entity a name."""

    id: int
    name: str


class SetEnabled(Message, tag_field="op", tag="setEnabled"):
    """Draw and hit the subtrees of entities, or neither. ``ids``: packed u32, beside or instead of ``id``."""

    enabled: bool
    id: int = 0
    ids: bytes = b""


class SetTransform(Message, tag_field="op", tag="setTransform"):
    """Place an entity anew, relative to its parent; what is absent stays. ``rotation``: quaternion x, y, z, w."""

    id: int
    position: Vector3 | None = None
    rotation: Vector4 | None = None
    scale: Vector3 | None = None


class SetTransforms(Message, tag_field="op", tag="setTransforms"):
    """Place n entities anew. Packed: ``ids`` u32 x n, ``positions`` f64 x 3n, ``rotations`` f32 x 4n, ``scales``
    f32 x 3n; what is absent stays."""

    ids: bytes
    positions: bytes | None = None
    rotations: bytes | None = None
    scales: bytes | None = None


class SetStates(Message, tag_field="op", tag="setStates"):
    """Force states on or off for entities and all below, or let them inherit again; bits of the states' numbers.
    ``tint``: linear RGB and weight, 0 to 1; ``mask``: of cut planes, 0 to 255. ``ids``: packed u32."""

    id: int = 0
    ids: bytes = b""
    on: int = 0
    off: int = 0
    inherit: int = 0
    tint: Vector4 | None = None
    mask: int | None = None


Command = (
    Create
    | Destroy
    | SetParent
    | SetName
    | SetEnabled
    | SetTransform
    | SetTransforms
    | SetStates
    | SetAnimation
    | AppearanceCommand
)


class ApplyParams(Message):
    """``scene.apply``. ``sequence``: orders its transforms among those of records; 0: they simply count. ``more``: the
    batch goes on in the next message; nothing of it is done before the last one has come."""

    commands: list[msgspec.Raw]
    sequence: int = 0
    more: bool = False


class CommandFailure(Message):
    """A command, by its place in the whole batch, that was refused, why (a :class:`Result` name), and a sentence."""

    index: int
    result: str
    message: str


class ApplyResult(Message):
    """How many commands were done, and which were not: of the whole batch, in the answer to its last message. The
    answers to those before hold nothing. Of very many failures the first :data:`MAX_FAILURES` are told."""

    applied: int
    failures: list[CommandFailure] = msgspec.field(default_factory=list)


class EntitiesParams(Message):
    """``scene.getEntities``: those with ids from ``first`` to ``last``."""

    first: int = 1
    last: int = (1 << 32) - 1


class EntitiesResult(Message):
    """As many of them as fit, by ascending id, see :func:`pack_entities`; ``next``: where to go on, 0 at the end."""

    count: int
    data: bytes
    next: int = 0


class BoundsParams(Message):
    """``scene.getBounds``: of an entity and all below it, in the world's space or the entity's own."""

    entity: int
    space: Literal["world", "local"] = "world"


class BoundsResult(Message):
    """The box, metres; absent where nothing hangs on the entity."""

    bounds: Bounds | None = None


class MetadataParams(Message):
    """``scene.getMetadata``: of this entity only; ``after``: the last name of the answer before, to go on."""

    entity: int
    after: str = ""


class MetadataResult(Message):
    """What the model's file says about the entity, sorted by name; ``more``: it did not fit."""

    metadata: dict[str, bool | int | float | str]
    more: bool = False


class CastRayParams(Message):
    """``scene.castRay``: from ``start`` to ``end``, world space, metres. ``policy``: all hits by distance, the closest,
    or any. ``max_hits`` 0 stands for 1024, the most there can be. ``corners``: of the nearest hits, up to
    :data:`MAX_HITS_WITH_CORNERS`, the triangles are wanted, too."""

    start: Vector3
    end: Vector3
    policy: Literal["closestHits", "closestHit", "anyHit"] = "closestHits"
    max_hits: int = 0
    corners: bool = False


class RayHit(Message):
    """Where a ray met something. ``sub_part``: which of the entity's parts, counted from 0; ``normal``: unit, of the
    surface; ``kind``: ``front``, ``back`` (of a triangle) or ``point``; ``corners`` of the triangle, world space,
    counter-clockwise seen from its front, if they were asked for."""

    entity: int
    sub_part: int
    position: Vector3
    normal: Vector3
    distance: float
    kind: Literal["front", "back", "point"]
    corners: tuple[Vector3, Vector3, Vector3] | None = None


class CastRayResult(Message):
    """By distance. ``complete`` is false when not all geometry could be looked at in time."""

    hits: list[RayHit]
    complete: bool = True


# Batches ------------------------------------------------------------------------------------------------------------

_decoder = msgspec.json.Decoder(Command)


def decode_commands(params: ApplyParams) -> list[Command | FarframeError]:
    """The commands of a batch; an error in the place of one that cannot be read. Raises InvalidParam for too many."""
    if len(params.commands) > MAX_COMMANDS:
        raise FarframeError(
            Result.INVALID_PARAM,
            f"A batch of {len(params.commands)} commands is too large.",
            next_step=f"Send at most {MAX_COMMANDS} at a time.",
        )
    if not 0 <= params.sequence < 1 << 32:
        raise FarframeError(Result.INVALID_PARAM, "sequence is no unsigned 32-bit number.")
    found: list[Command | FarframeError] = []
    for raw in params.commands:
        try:
            found.append(_decoder.decode(raw))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            found.append(FarframeError(Result.INVALID_PARAM, f"{error}."))
    return found


def encode_commands(commands: list[Command]) -> list[msgspec.Raw]:
    """The commands as a batch holds them."""
    return [msgspec.Raw(msgspec.json.encode(command)) for command in commands]


def pack(values: Any, kind: str) -> bytes:
    """Numbers as little-endian bytes; ``kind`` is ``u4``, ``f4`` or ``f8``."""
    return np.ascontiguousarray(values, f"<{kind}").tobytes()


def unpack(data: bytes, kind: str, width: int, count: int | None = None) -> NDArray[Any]:
    """(n, width) numbers from untrusted bytes, (n,) for width 1. Raises InvalidParam for another size."""
    item = np.dtype(f"<{kind}").itemsize * width
    if len(data) % item or (count is not None and len(data) != item * count):
        raise FarframeError(Result.INVALID_PARAM, f"Packed numbers of {len(data)} bytes are not of the size expected.")
    array = np.frombuffer(data, f"<{kind}")
    return array if width == 1 else array.reshape(-1, width)


# Transforms as records ----------------------------------------------------------------------------------------------

_HEAD = struct.Struct("<BBBBIII")


@dataclass(frozen=True, slots=True)
class TransformsRecord:
    """Transforms of n entities, relative to their parents: ``ids`` (n,) uint32; ``positions`` (n, 3) float64,
    ``rotations`` (n, 4) float32 xyzw, ``scales`` (n, 3) float32, ``None`` for what stays."""

    sequence: int
    ids: NDArray[np.uint32]
    positions: NDArray[np.float64] | None = None
    rotations: NDArray[np.float32] | None = None
    scales: NDArray[np.float32] | None = None


def encode_transforms(record: TransformsRecord) -> bytes:
    """The record as bytes. ``ValueError`` for one that is too large."""
    parts = (
        (HAS_POSITION, record.positions, "f8"),
        (HAS_ROTATION, record.rotations, "f4"),
        (HAS_SCALE, record.scales, "f4"),
    )
    has = sum(bit for bit, values, _ in parts if values is not None)
    data = b"".join(
        [
            _HEAD.pack(TRANSFORMS_TYPE, TRANSFORMS_VERSION, has, 0, record.sequence, len(record.ids), 0),
            *(pack(values, kind) for _, values, kind in parts if values is not None),
            pack(record.ids, "u4"),
        ]
    )
    if len(data) > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {len(data)} bytes is too large")
    return data


def transform_bytes(*, position: bool, rotation: bool, scale: bool) -> int:
    """Bytes that each entity of a record takes."""
    return 4 + 24 * position + 16 * rotation + 12 * scale


def transforms_per_record(*, position: bool, rotation: bool, scale: bool) -> int:
    """How many entities fit into a record."""
    return (MAX_RECORD_BYTES - _HEAD.size) // transform_bytes(position=position, rotation=rotation, scale=scale)


def decode_transforms(data: bytes) -> TransformsRecord:
    """A record from untrusted bytes. Raises ProtocolError. Whether numbers are finite is the scene's matter."""
    if len(data) > MAX_RECORD_BYTES or len(data) < _HEAD.size:
        raise _malformed(f"has {len(data)} bytes")
    kind, version, has, flags, sequence, count, reserved = _HEAD.unpack_from(data)
    if kind != TRANSFORMS_TYPE or version != TRANSFORMS_VERSION:
        raise _malformed(f"is of type {kind}, version {version}")
    if not 0 < has <= HAS_POSITION | HAS_ROTATION | HAS_SCALE or flags or reserved:
        raise _malformed("has unknown flags")
    size = transform_bytes(
        position=bool(has & HAS_POSITION), rotation=bool(has & HAS_ROTATION), scale=bool(has & HAS_SCALE)
    )
    if len(data) != _HEAD.size + size * count:
        raise _malformed(f"has {len(data)} bytes for {count} entities")
    offset = _HEAD.size
    columns: list[NDArray[Any] | None] = []
    for bit, code, width in ((HAS_POSITION, "<f8", 3), (HAS_ROTATION, "<f4", 4), (HAS_SCALE, "<f4", 3)):
        if not has & bit:
            columns.append(None)
            continue
        columns.append(np.frombuffer(data, code, width * count, offset).reshape(count, width))
        offset += columns[-1].nbytes  # type: ignore[union-attr]
    return TransformsRecord(sequence, np.frombuffer(data, "<u4", count, offset), *columns)


def _malformed(what: str) -> FarframeError:
    return FarframeError(Result.PROTOCOL_ERROR, f"A record of transforms {what}.")


# Entities as a table ------------------------------------------------------------------------------------------------

_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("position", "f8", 3),
    ("id", "u4", 1),
    ("parent", "u4", 1),
    ("rotation", "f4", 4),
    ("scale", "f4", 3),
    ("tint", "f4", 4),
    ("on", "u2", 1),
    ("off", "u2", 1),
    ("name_bytes", "u2", 1),
    ("flags", "u1", 1),
    ("mask", "u1", 1),
)


@dataclass(slots=True)
class EntityTable:
    """n entities as arrays: ``id``, ``parent`` (0: none), ``position`` (n, 3), ``rotation`` (n, 4), ``scale`` (n, 3),
    forced states ``on``, ``off``, ``tint`` (n, 4), ``mask``, ``flags`` (see :data:`IS_MESH`), ``names``."""

    position: NDArray[Any]
    id: NDArray[Any]
    parent: NDArray[Any]
    rotation: NDArray[Any]
    scale: NDArray[Any]
    tint: NDArray[Any]
    on: NDArray[Any]
    off: NDArray[Any]
    flags: NDArray[Any]
    mask: NDArray[Any]
    names: list[str]


def pack_entities(table: EntityTable) -> bytes:
    """The table as bytes: the columns of :data:`_COLUMNS`, whole, one after the other, then the names as UTF-8, all of
    it compressed by zlib. ``name_bytes`` is each name's length."""
    names = [name.encode("utf-8", "replace") for name in table.names]
    lengths = np.array([len(name) for name in names], "<u2")
    columns = [pack(lengths if key == "name_bytes" else getattr(table, key), kind) for key, kind, _ in _COLUMNS]
    return zlib.compress(b"".join([*columns, *names]), 3)


def unpack_entities(count: int, data: bytes) -> EntityTable:
    """The table from untrusted bytes. Raises ProtocolError."""
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(data, MAX_UNPACKED_BYTES)
        if inflater.unconsumed_tail or not inflater.eof or not 0 <= count <= ENTITY_PAGE:
            raise ValueError("too large, or cut off")
        columns: dict[str, NDArray[Any]] = {}
        offset = 0
        for key, kind, width in _COLUMNS:
            column = np.frombuffer(plain, f"<{kind}", count * width, offset)
            offset += column.nbytes
            columns[key] = column if width == 1 else column.reshape(count, width)
        names: list[str] = []
        for length in columns.pop("name_bytes").tolist():
            if offset + length > len(plain):
                raise ValueError("names are cut off")
            names.append(plain[offset : offset + length].decode())
            offset += length
        return EntityTable(**columns, names=names)
    except (zlib.error, ValueError) as error:
        raise FarframeError(Result.PROTOCOL_ERROR, f"Entities that cannot be read: {error}.") from None
