"""meshoptimizer's codecs, called by ctypes: vertex streams, index streams and tables of fixed-size rows.

The package's own wrappers copy their arguments and declare no argument types for some functions. Foreign calls release
the interpreter lock, so pages can be coded on threads. The decoders refuse malformed input with an error code; what
they return for input that is well formed and wrong is checked by whoever knows what the numbers mean.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from meshoptimizer import _loader
from numpy.typing import NDArray

_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_size_t


class CodecError(ValueError):
    """The bytes are not what the encoder wrote."""


def foreign(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the library as our own object, so that the package's declarations are not changed under it."""
    return ctypes.CFUNCTYPE(result, *arguments)((name, _loader.lib))


_encode_vertex_bound = foreign("meshopt_encodeVertexBufferBound", _SIZE, _SIZE, _SIZE)
_encode_vertex = foreign("meshopt_encodeVertexBuffer", _SIZE, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE)
_decode_vertex = foreign("meshopt_decodeVertexBuffer", ctypes.c_int, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE)
_encode_index_bound = foreign("meshopt_encodeIndexBufferBound", _SIZE, _SIZE, _SIZE)
_encode_index = foreign("meshopt_encodeIndexBuffer", _SIZE, _POINTER, _SIZE, _POINTER, _SIZE)
_decode_index = foreign("meshopt_decodeIndexBuffer", ctypes.c_int, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE)


def encode_rows(rows: NDArray[Any]) -> bytes:
    """Code (n,) rows of one dtype, whose itemsize is a multiple of 4 and at most 256 bytes."""
    rows = np.ascontiguousarray(rows)
    if not len(rows):
        return b""
    size = rows.dtype.itemsize
    if size % 4 or size > 256:
        raise ValueError(f"rows of {size} bytes cannot be coded")
    out = np.empty(_encode_vertex_bound(len(rows), size), np.uint8)
    length = _encode_vertex(out.ctypes.data, len(out), rows.ctypes.data, len(rows), size)
    return out[:length].tobytes()


def decode_rows(data: bytes | memoryview, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """What :func:`encode_rows` coded: (count,) of ``dtype``. Raises :class:`CodecError`."""
    rows = np.empty(count, dtype)
    if count == 0:
        if len(data):
            raise CodecError("bytes for no rows")
        return rows
    source = np.frombuffer(data, np.uint8)
    if _decode_vertex(rows.ctypes.data, count, dtype.itemsize, source.ctypes.data, len(source)) != 0:
        raise CodecError("a table cannot be decoded")
    return rows


def encode_triangles(indices: NDArray[np.uint32]) -> bytes:
    """Code (3n,) indices. The decoder gives the same triangles in the same order, perhaps rotated."""
    indices = np.ascontiguousarray(indices, np.uint32)
    if not len(indices):
        return b""
    highest = int(indices.max()) + 1
    out = np.empty(_encode_index_bound(len(indices), highest), np.uint8)
    length = _encode_index(out.ctypes.data, len(out), indices.ctypes.data, len(indices))
    return out[:length].tobytes()


def decode_triangles(data: bytes | memoryview, count: int) -> NDArray[np.uint32]:
    """What :func:`encode_triangles` coded: (count,) uint32, not checked against any vertex count. Raises
    :class:`CodecError`."""
    indices = np.empty(count, np.uint32)
    if count == 0:
        if len(data):
            raise CodecError("bytes for no triangles")
        return indices
    source = np.frombuffer(data, np.uint8)
    if count % 3 or _decode_index(indices.ctypes.data, count, 4, source.ctypes.data, len(source)) != 0:
        raise CodecError("triangles cannot be decoded")
    return indices
