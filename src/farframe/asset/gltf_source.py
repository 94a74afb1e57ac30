"""Where the bytes of a glTF file are: the GLB container, files beside it, data URIs, buffer views and accessors.

All offsets and lengths come from the file and are checked here before they touch memory. Files are mapped, not read:
an accessor that is not sparse is a view, nothing is copied.
"""

from __future__ import annotations

import base64
import binascii
import mmap
import os
import stat
import struct
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget
from farframe.asset.gltf_compression import decode_meshopt
from farframe.asset.gltf_schema import Accessor, BufferView, Document, MeshoptView, decode_document
from farframe.protocol.errors import FarframeError, Result

MAX_JSON_BYTES = 256 * 1024**2
"""Decoded JSON takes several times its size: more than this is refused whatever the memory limit."""

_GLB_HEAD = struct.Struct("<4sII")
_CHUNK_HEAD = struct.Struct("<I4s")

_COMPONENT_DTYPES: dict[int, np.dtype[Any]] = {
    5120: np.dtype("<i1"),
    5121: np.dtype("<u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_MATRIX_SIDE = {"MAT2": 2, "MAT3": 3, "MAT4": 4}

Bytes = NDArray[np.uint8]


def corrupt(message: str) -> NoReturn:
    """Refuse the file: ``message`` says what is wrong with it."""
    raise FarframeError(
        Result.FILE_CORRUPT, message, next_step="Export the model again, or check it with the glTF validator."
    )


def not_supported(message: str, next_step: str) -> NoReturn:
    """Refuse the file, which may be sound, because it needs what this reader lacks."""
    raise FarframeError(Result.NOT_SUPPORTED, message, next_step=next_step)


def map_file(path: Path, name: str) -> Bytes:
    """A regular file's bytes, mapped read-only; ``name`` is what to call it in errors.

    Pipes, devices and folders are refused without being waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FarframeError(
            Result.FILE_NOT_FOUND, f"{name} does not exist.", next_step="Check the name and upload what is missing."
        ) from None
    except (OSError, ValueError):
        raise FarframeError(
            Result.FILE_NOT_FOUND, f"{name} cannot be opened.", next_step="Check its name and permissions."
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FarframeError(Result.FILE_NOT_FOUND, f"{name} is not a file.", next_step="Name the model's file.")
        if status.st_size == 0:
            return np.empty(0, dtype=np.uint8)
        try:
            mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"{name} has {status.st_size:,} bytes, more than the memory limit allows to map.",
                next_step="Make the model smaller, or ask the operator to raise the limit.",
            ) from None
    finally:
        os.close(descriptor)
    return np.frombuffer(mapped, dtype=np.uint8)


class GltfSource:
    """A glTF file with everything that it refers to, opened as needed and each file once."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path = path
        self.folder = path.parent
        self._budget = budget
        self._buffers: dict[int, Bytes] = {}
        self._decompressed: dict[int, Bytes] = {}
        data = map_file(path, path.name)
        self._binary_chunk: Bytes | None = None
        if data[:4].tobytes() == b"glTF":
            json_bytes, self._binary_chunk = _split_glb(data)
        else:
            json_bytes = data
            if json_bytes[:3].tobytes() == b"\xef\xbb\xbf":
                json_bytes = json_bytes[3:]
        if len(json_bytes) == 0:
            corrupt("The file is empty.")
        if len(json_bytes) > MAX_JSON_BYTES:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model's JSON has {len(json_bytes):,} bytes; {MAX_JSON_BYTES:,} are allowed.",
                next_step="Keep geometry and images out of the JSON: save the model as .glb.",
            )
        budget.take_bytes(len(json_bytes) * 4, "its JSON")
        try:
            self.document: Document = decode_document(json_bytes.data)
        except ValueError as error:
            corrupt(f"This is not a readable glTF 2.0 file: {error}")

    def uri_bytes(self, uri: str, where: str) -> Bytes:
        """The bytes that a ``uri`` member names: a data URI or a file in the model's folder or below it.

        The name is resolved, symbolic links included, and must still lie in the folder.
        """
        if uri[:5].lower() == "data:":
            return self._data_uri_bytes(uri, where)
        name = unquote(uri, errors="strict") if _is_utf8_escaped(uri) else corrupt(f"{where}.uri is not valid UTF-8.")
        shown = name if len(name) <= 200 else name[:200] + "…"
        if not name or "\0" in name or "://" in name or name.startswith(("/", "\\")) or Path(name).is_absolute():
            corrupt(f"{where}.uri does not name a file beside the model: {shown!r}.")
        try:
            folder = self.folder.resolve()
            resolved = (folder / name).resolve()
        except (OSError, RuntimeError, ValueError):
            corrupt(f"{where}.uri does not name a file beside the model: {shown!r}.")
        if not resolved.is_relative_to(folder):
            corrupt(f"{where}.uri leads out of the model's folder: {shown!r}.")
        return map_file(resolved, shown)

    def buffer(self, index: int) -> Bytes:
        """A buffer's bytes, exactly ``byteLength`` of them."""
        found = self._buffers.get(index)
        if found is not None:
            return found
        buffers = self.document.buffers
        if index >= len(buffers):
            corrupt(f"$.buffers[{index}] does not exist.")
        where = f"$.buffers[{index}]"
        declared = buffers[index]
        if declared.uri is not None:
            data = self.uri_bytes(declared.uri, where)
        elif index == 0 and self._binary_chunk is not None:
            data = self._binary_chunk
        else:
            corrupt(f"{where} has no uri, and the file has no binary chunk for it.")
        if len(data) < declared.byte_length:
            corrupt(f"{where} should have {declared.byte_length:,} bytes, but there are only {len(data):,}.")
        data = data[: declared.byte_length]
        self._buffers[index] = data
        return data

    def view(self, index: int, where: str) -> tuple[Bytes, BufferView]:
        """The bytes of a buffer view."""
        views = self.document.buffer_views
        if index >= len(views):
            corrupt(f"{where} names $.bufferViews[{index}], which does not exist.")
        view = views[index]
        compressed = view.extensions.KHR_meshopt_compression or view.extensions.EXT_meshopt_compression
        if compressed is not None:
            return self._decompress(index, view, compressed), view
        data = self.buffer(view.buffer)
        end = view.byte_offset + view.byte_length
        if end > len(data):
            corrupt(f"$.bufferViews[{index}] ends at byte {end:,} of a buffer of {len(data):,}.")
        return data[view.byte_offset : end], view

    def _decompress(self, index: int, view: BufferView, compressed: MeshoptView) -> Bytes:
        """The bytes of a compressed buffer view, decoded once."""
        found = self._decompressed.get(index)
        if found is not None:
            return found
        where = f"$.bufferViews[{index}]"
        data = self.buffer(compressed.buffer)
        end = compressed.byte_offset + compressed.byte_length
        if end > len(data):
            corrupt(f"{where}'s compressed bytes end at byte {end:,} of a buffer of {len(data):,}.")
        if view.byte_length != compressed.count * compressed.byte_stride:
            corrupt(f"{where}.byteLength is not what its compressed elements have.")
        decoded = decode_meshopt(data[compressed.byte_offset : end], compressed, self._budget, where)
        self._decompressed[index] = decoded
        return decoded

    def accessor(self, index: int) -> Accessor:
        """The description of an accessor."""
        accessors = self.document.accessors
        if index >= len(accessors):
            corrupt(f"$.accessors[{index}] does not exist.")
        return accessors[index]

    def elements(self, index: int) -> NDArray[Any]:
        """An accessor's elements as stored, (count, components), little-endian; matrices row by row of their columns.

        A view of the file where it can be, else a new array that is charged to the budget.
        """
        accessor = self.accessor(index)
        where = f"$.accessors[{index}]"
        dtype = _COMPONENT_DTYPES[accessor.component_type]
        components = _COMPONENTS[accessor.type]
        element_size = _element_size(accessor.type, dtype)
        base: NDArray[Any]
        if accessor.buffer_view is None:
            self._budget.take_bytes(accessor.count * components * dtype.itemsize, f"accessor {index}")
            base = np.zeros((accessor.count, components), dtype=dtype)
        else:
            data, view = self.view(accessor.buffer_view, where)
            stride = view.byte_stride or element_size
            if stride < element_size:
                corrupt(f"$.bufferViews[{accessor.buffer_view}].byteStride is less than an element of {where}.")
            base = _strided(data, accessor.byte_offset, stride, accessor, dtype, where)
        if accessor.sparse is None:
            return base
        sparse = accessor.sparse
        if sparse.count > accessor.count:
            corrupt(f"{where}.sparse.count is more than the accessor's own count.")
        if accessor.buffer_view is not None:
            self._budget.take_bytes(base.nbytes, f"accessor {index}")
            base = np.array(base)
        index_dtype = _COMPONENT_DTYPES[sparse.indices.component_type]
        index_data, _ = self.view(sparse.indices.buffer_view, f"{where}.sparse.indices")
        scalar = Accessor(component_type=sparse.indices.component_type, count=sparse.count, type="SCALAR")
        rows = _strided(
            index_data, sparse.indices.byte_offset, index_dtype.itemsize, scalar, index_dtype, f"{where}.sparse.indices"
        )[:, 0].astype(np.int64)
        value_data, _ = self.view(sparse.values.buffer_view, f"{where}.sparse.values")
        replaced = Accessor(component_type=accessor.component_type, count=sparse.count, type=accessor.type)
        values = _strided(
            value_data, sparse.values.byte_offset, element_size, replaced, dtype, f"{where}.sparse.values"
        )
        if len(rows) and (int(rows.max()) >= accessor.count or bool((np.diff(rows) <= 0).any())):
            corrupt(f"{where}.sparse.indices do not rise, or pass the end of the accessor.")
        base[rows] = values
        return base

    def floats(self, index: int, components: tuple[int, ...], where: str) -> NDArray[np.float32]:
        """An accessor as (count, components) float32, normalised integers decoded (specification, 3.6.2.2).

        A view of the file where it holds floats. May hold NaN and infinity: the caller decides what that means.
        """
        accessor = self.accessor(index)
        if accessor.type not in ("SCALAR", "VEC2", "VEC3", "VEC4") or _COMPONENTS[accessor.type] not in components:
            corrupt(f"{where} names $.accessors[{index}], whose type {accessor.type} is not fit for it.")
        stored = self.elements(index)
        if accessor.component_type == 5126:
            return stored
        if accessor.component_type == 5125:
            corrupt(f"{where} names $.accessors[{index}], whose component type is not fit for it.")
        self._budget.take_bytes(stored.size * 4, f"accessor {index}")
        values = stored.astype(np.float32)
        if accessor.normalized:
            values *= np.float32(1.0 / np.iinfo(stored.dtype).max)
            np.maximum(values, np.float32(-1.0), out=values)
        return values

    def indices(self, index: int, where: str) -> NDArray[np.uint32]:
        """An accessor of vertex indices as (count,) uint32."""
        accessor = self.accessor(index)
        if accessor.type != "SCALAR" or accessor.component_type not in (5121, 5123, 5125):
            corrupt(f"{where} names $.accessors[{index}], which does not hold unsigned integers.")
        stored = self.elements(index)[:, 0]
        self._budget.take_bytes(len(stored) * 4, f"accessor {index}")
        return np.ascontiguousarray(stored, dtype=np.uint32)

    def _data_uri_bytes(self, uri: str, where: str) -> Bytes:
        head, comma, body = uri.partition(",")
        if not comma:
            corrupt(f"{where}.uri is a data URI without data.")
        self._budget.take_bytes(len(body), where)
        try:
            if head.lower().endswith(";base64"):
                decoded = base64.b64decode(unquote_to_bytes(body) if "%" in body else body, validate=True)
            else:
                decoded = unquote_to_bytes(body)
        except (binascii.Error, ValueError):
            corrupt(f"{where}.uri is not valid base64.")
        return np.frombuffer(decoded, dtype=np.uint8)


def _is_utf8_escaped(uri: str) -> bool:
    try:
        unquote(uri, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _split_glb(data: Bytes) -> tuple[Bytes, Bytes | None]:
    """The JSON and the binary chunk of a GLB (specification, chapter 4). Further chunks are skipped."""
    if len(data) < _GLB_HEAD.size:
        corrupt("The GLB ends within its header.")
    _, version, length = _GLB_HEAD.unpack(data[: _GLB_HEAD.size].tobytes())
    if version != 2:
        not_supported(f"The GLB is of version {version}; version 2 is read.", "Export the model as glTF 2.0.")
    if length > len(data):
        corrupt(f"The GLB should have {length:,} bytes, but there are only {len(data):,}: it is truncated.")
    chunks: list[tuple[bytes, Bytes]] = []
    offset = _GLB_HEAD.size
    while offset + _CHUNK_HEAD.size <= length and len(chunks) < 2:
        chunk_length, chunk_type = _CHUNK_HEAD.unpack(data[offset : offset + _CHUNK_HEAD.size].tobytes())
        offset += _CHUNK_HEAD.size
        if offset + chunk_length > length:
            corrupt(f"A chunk of the GLB ends at byte {offset + chunk_length:,} of {length:,}.")
        chunks.append((chunk_type, data[offset : offset + chunk_length]))
        offset += chunk_length
    if not chunks or chunks[0][0] != b"JSON":
        corrupt("The GLB does not begin with a JSON chunk.")
    binary = chunks[1][1] if len(chunks) > 1 and chunks[1][0] == b"BIN\0" else None
    return chunks[0][1], binary


def _element_size(kind: str, dtype: np.dtype[Any]) -> int:
    """Bytes of one element; the columns of small matrices begin at multiples of 4 (specification, 3.6.2.4)."""
    side = _MATRIX_SIDE.get(kind)
    if side is None:
        return _COMPONENTS[kind] * dtype.itemsize
    column = -(-side * dtype.itemsize // 4) * 4
    return side * column


def _strided(
    data: Bytes, offset: int, stride: int, accessor: Accessor, dtype: np.dtype[Any], where: str
) -> NDArray[Any]:
    """Elements in ``data`` from ``offset`` on as (count, components), a view wherever the layout allows."""
    count, components = accessor.count, _COMPONENTS[accessor.type]
    if count == 0:
        return np.empty((0, components), dtype=dtype)
    end = offset + stride * (count - 1) + _element_size(accessor.type, dtype)
    if end > len(data):
        corrupt(f"{where} ends at byte {end:,} of a buffer view of {len(data):,}.")
    side = _MATRIX_SIDE.get(accessor.type)
    if side is None:
        return np.ndarray((count, components), dtype, data.data, offset, (stride, dtype.itemsize))
    column = _element_size(accessor.type, dtype) // side
    columns: NDArray[Any] = np.ndarray((count, side, side), dtype, data.data, offset, (stride, column, dtype.itemsize))
    return columns.reshape(count, components)
