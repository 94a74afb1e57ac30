"""Compressed geometry of glTF files: Draco (KHR_draco_mesh_compression) and meshoptimizer's buffer views
(EXT_meshopt_compression, KHR_meshopt_compression).

What a stream claims to hold is looked up in its head and charged to the budget before a decoder allocates anything.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import DracoPy  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget
from farframe.asset.gltf_schema import MeshoptView
from farframe.asset.meshopt import foreign
from farframe.protocol.errors import FarframeError, Result

_DRACO_METADATA_FLAG = 0x8000
_DRACO_EDGEBREAKER = 1
_MAX_METADATA_DEPTH = 16
_DRACO_FACE_BYTES = 150
"""What Draco's connectivity (corner table, traversal, faces) takes for each triangle while it is decoded."""

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_decode_vertices = foreign("meshopt_decodeVertexBuffer", ctypes.c_int, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE)
_decode_triangles = foreign("meshopt_decodeIndexBuffer", ctypes.c_int, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE)
_decode_sequence = foreign("meshopt_decodeIndexSequence", ctypes.c_int, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE)
_filter_octahedral = foreign("meshopt_decodeFilterOct", None, _POINTER, _SIZE, _SIZE)
_filter_quaternion = foreign("meshopt_decodeFilterQuat", None, _POINTER, _SIZE, _SIZE)
_filter_exponential = foreign("meshopt_decodeFilterExp", None, _POINTER, _SIZE, _SIZE)


def _corrupt(message: str) -> FarframeError:
    return FarframeError(
        Result.FILE_CORRUPT, message, next_step="Export the model again, or check it with the glTF validator."
    )


# Draco


@dataclass(frozen=True, slots=True)
class DracoGeometry:
    """A decoded primitive: (3n,) indices, and (count, components) values by Draco's attribute ids."""

    indices: NDArray[np.uint32]
    count: int
    attributes: dict[int, NDArray[Any]]


def decode_draco(data: bytes, attribute_count: int, budget: Budget, where: str) -> DracoGeometry:
    """Decode a Draco mesh. Bitstream 2.2, which glTF asks for.

    ``attribute_count`` is how many attributes the file names. Raises :class:`FarframeError`: ``FILE_CORRUPT``,
    ``NOT_SUPPORTED`` for other bitstreams, ``EXCEEDS_MEMORY_LIMIT`` for what the head claims.
    """
    faces, vertices = _draco_counts(data, where)
    budget.check_triangles(faces)
    # Seams may split a vertex, at most once for each corner.
    working = faces * _DRACO_FACE_BYTES + max(vertices, 3 * faces) * 16 * (attribute_count + 1)
    budget.take_bytes(working, f"{where}, decompressed")
    try:
        decoded = DracoPy.decode(data)
        indices = np.ascontiguousarray(decoded.faces, dtype=np.uint32).reshape(-1)
        attributes = {int(each["unique_id"]): np.asarray(each["data"]) for each in decoded.attributes}
        count = len(decoded.points)
    except MemoryError:
        raise
    except Exception:
        # Whatever a binding may raise for broken bytes: it has no one error of its own.
        raise _corrupt(f"{where} is a broken Draco stream.") from None
    finally:
        budget.give_bytes(working)
    for values in attributes.values():
        if values.ndim != 2 or len(values) != count:
            raise _corrupt(f"{where} is a Draco stream with attributes of different lengths.")
    if len(indices) and int(indices.max()) >= count:
        raise _corrupt(f"{where} is a Draco stream whose triangles name vertices that do not exist.")
    return DracoGeometry(indices, count, attributes)


class _Reader:
    """Numbers at the head of a Draco stream."""

    def __init__(self, data: bytes, offset: int, where: str) -> None:
        self._data = data
        self._offset = offset
        self._where = where

    def byte(self) -> int:
        if self._offset >= len(self._data):
            raise _corrupt(f"{self._where} is a truncated Draco stream.")
        self._offset += 1
        return self._data[self._offset - 1]

    def varint(self) -> int:
        """Seven bits a byte, lowest first; at most 35 bits."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _corrupt(f"{self._where} is a broken Draco stream.")

    def skip(self, count: int) -> None:
        self._offset += count
        if self._offset > len(self._data):
            raise _corrupt(f"{self._where} is a truncated Draco stream.")

    def skip_metadata(self, depth: int = 0) -> None:
        """Entries of names and values, then nested metadata with names."""
        if depth > _MAX_METADATA_DEPTH:
            raise _corrupt(f"{self._where} is a Draco stream with metadata nested too deeply.")
        for _ in range(self.varint()):
            self.skip(self.byte())
            self.skip(self.varint())
        for _ in range(self.varint()):
            self.skip(self.byte())
            self.skip_metadata(depth + 1)


def _draco_counts(data: bytes, where: str) -> tuple[int, int]:
    """How many faces and vertices a stream claims to have (Draco bitstream specification, 2 to 5)."""
    if data[:5] != b"DRACO" or len(data) < 11:
        raise _corrupt(f"{where} is no Draco stream.")
    version, kind, method = (data[5], data[6]), data[7], data[8]
    if version != (2, 2):
        raise FarframeError(
            Result.NOT_SUPPORTED,
            f"{where} is a Draco stream of version {version[0]}.{version[1]}; 2.2 is read.",
            next_step="Export the model with a newer Draco encoder.",
        )
    if kind != 1 or method > _DRACO_EDGEBREAKER:
        raise _corrupt(f"{where} is a Draco stream without triangles.")
    reader = _Reader(data, 11, where)
    if int.from_bytes(data[9:11], "little") & _DRACO_METADATA_FLAG:
        for _ in range(reader.varint()):
            reader.varint()
            reader.skip_metadata()
        reader.skip_metadata()
    if method == _DRACO_EDGEBREAKER:
        reader.skip(1)
        vertices = reader.varint()
        return reader.varint(), vertices
    faces = reader.varint()
    return faces, reader.varint()


# meshoptimizer


def decode_meshopt(data: NDArray[np.uint8], view: MeshoptView, budget: Budget, where: str) -> NDArray[np.uint8]:
    """The bytes of a compressed buffer view, ``count * byteStride`` of them, filters undone.

    Charged to the budget: the caller keeps them. Raises :class:`FarframeError`.
    """
    count, stride = view.count, view.byte_stride
    if view.mode == "ATTRIBUTES":
        fits = stride % 4 == 0
    else:
        fits = stride in (2, 4) and view.filter == "NONE" and (view.mode == "INDICES" or count % 3 == 0)
    fits &= {
        "NONE": True,
        "OCTAHEDRAL": stride in (4, 8),
        "QUATERNION": stride == 8,
        "EXPONENTIAL": stride % 4 == 0,
        "COLOR": stride in (4, 8),
    }[view.filter]
    if not fits:
        raise _corrupt(f"{where} has a stride, count or filter that does not go with its mode.")
    budget.take_bytes(count * stride, f"{where}, decompressed")
    result = np.empty(count * stride, np.uint8)
    if count == 0:
        return result
    source = np.ascontiguousarray(data)
    decode = {"ATTRIBUTES": _decode_vertices, "TRIANGLES": _decode_triangles, "INDICES": _decode_sequence}[view.mode]
    if decode(result.ctypes.data, count, stride, source.ctypes.data, len(source)) != 0:
        raise _corrupt(f"{where} is a broken meshopt stream.")
    if view.filter == "OCTAHEDRAL":
        _filter_octahedral(result.ctypes.data, count, stride)
    elif view.filter == "QUATERNION":
        _filter_quaternion(result.ctypes.data, count, stride)
    elif view.filter == "EXPONENTIAL":
        _filter_exponential(result.ctypes.data, count, stride)
    elif view.filter == "COLOR":
        _filter_color(result, stride)
    return result


def _filter_color(data: NDArray[np.uint8], stride: int) -> None:
    """Undo the colour filter in place: luma and two chroma differences to RGB; the highest bit of alpha's channel says
    in how many bits all of them are (KHR_meshopt_compression, filter COLOR)."""
    unsigned, signed = (np.dtype("<u1"), np.dtype("<i1")) if stride == 4 else (np.dtype("<u2"), np.dtype("<i2"))
    rows = data.view(unsigned).reshape(-1, 4)
    chroma = data.view(signed).reshape(-1, 4)
    bits = rows[:, 3].astype(np.int32)
    scale = bits.copy()
    for shift in (1, 2, 4, 8):
        scale |= scale >> shift
    luma = rows[:, 0].astype(np.int32)
    orange, green = chroma[:, 1].astype(np.int32), chroma[:, 2].astype(np.int32)
    alpha = ((bits << 1) & scale) | (bits & 1)
    values = np.stack([luma + orange - green, luma + green, luma - orange - green, alpha], axis=1)
    factor = np.float64(np.iinfo(unsigned).max) / np.maximum(scale, 1)
    rows[:] = np.clip(values * factor[:, None] + 0.5, 0, np.iinfo(unsigned).max).astype(unsigned)
