"""A model as one flat file: a JSON header and the arrays as they lie in memory, to be mapped and not copied.

The sandboxed worker writes such a file and the server maps it; both are of the same version of the program, so there is
one version of the format and no migration. It is no exchange format.

    offset  what
    0       8 bytes: b"FARFLAT\\0"
    8       u32: version; u32: 0
    16      u64: length of the header in bytes
    24      the header, JSON (:class:`_Header`)
    ...     zeros up to a multiple of 64, then the data: arrays at the offsets that the header names, each aligned to 64

All numbers are little-endian. The reader trusts nothing: every range, shape and index is checked before it is used.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from farframe.asset.animation import decode_animations, encode_animations
from farframe.asset.model import VERTEX_DTYPE, Filter, Material, MetadataValue, Model, Node, Part, Texture, Wrap
from farframe.protocol.errors import FarframeError, Result

VERSION = 1
ALIGNMENT = 64
_MAGIC = b"FARFLAT\0"
_HEAD = struct.Struct("<8sIIQ")


class _Array(msgspec.Struct, frozen=True):
    """Where an array lies, counted from the beginning of the data."""

    offset: int
    shape: tuple[int, ...]


class _FlatTexture(msgspec.Struct, frozen=True):
    """A texture; ``pixels`` is an index into the header's list: textures may share their pixels."""

    pixels: int
    srgb: bool
    wrap_u: Wrap
    wrap_v: Wrap
    mag_filter: Filter
    min_filter: Filter
    mipmaps: bool
    name: str


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a model but its arrays."""

    name: str
    warnings: list[str]
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    parts: list[Part]
    materials: list[Material]
    textures: list[_FlatTexture]
    node_names: list[str]
    vertices: _Array
    indices: _Array
    node_parents: _Array
    node_matrices: _Array
    instance_part: _Array
    instance_node: _Array
    instance_matrix: _Array
    pixels: list[_Array]
    animations: _Array | None = None
    metadata: dict[str, dict[str, MetadataValue]] = {}


_decoder = msgspec.json.Decoder(_Header)


def write_flat(model: Model, path: Path) -> int:
    """Write the model to ``path``, which must not exist. Returns the number of bytes. ``OSError`` as it comes."""
    placed: list[NDArray[Any]] = []
    offset = 0

    def place(array: NDArray[Any], dtype: Any) -> _Array:
        nonlocal offset
        array = np.ascontiguousarray(array, dtype=dtype)
        placed.append(array)
        found = _Array(offset, array.shape)
        offset = _aligned(offset + array.nbytes)
        return found

    pixels: dict[int, int] = {}
    pixel_arrays: list[_Array] = []
    textures = []
    for texture in model.textures:
        key = id(texture.pixels)
        if key not in pixels:
            pixels[key] = len(pixel_arrays)
            pixel_arrays.append(place(texture.pixels, np.uint8))
        textures.append(
            _FlatTexture(
                pixels[key],
                texture.srgb,
                texture.wrap_u,
                texture.wrap_v,
                texture.mag_filter,
                texture.min_filter,
                texture.mipmaps,
                texture.name,
            )
        )
    header = msgspec.json.encode(
        _Header(
            name=model.name,
            warnings=model.warnings,
            bounds_min=model.bounds_min,
            bounds_max=model.bounds_max,
            parts=model.parts,
            materials=model.materials,
            textures=textures,
            node_names=[node.name for node in model.nodes],
            vertices=place(model.vertices, VERTEX_DTYPE),
            indices=place(model.indices, "<u4"),
            node_parents=place(np.array([node.parent for node in model.nodes], dtype="<i4"), "<i4"),
            node_matrices=place(np.array([node.matrix for node in model.nodes]).reshape(-1, 4, 4), "<f8"),
            instance_part=place(model.instance_part, "<i4"),
            instance_node=place(model.instance_node, "<i4"),
            instance_matrix=place(model.instance_matrix, "<f8"),
            pixels=pixel_arrays,
            animations=None
            if model.animations is None
            else place(np.frombuffer(encode_animations(model.animations), np.uint8), np.uint8),
            metadata={str(node): values for node, values in model.metadata.items()},
        )
    )
    with path.open("xb") as file:
        file.write(_HEAD.pack(_MAGIC, VERSION, 0, len(header)))
        file.write(header)
        _pad(file, _HEAD.size + len(header))
        for array in placed:
            # Not ndarray.tofile(): it hides a disk that is full, or a limit that is reached, behind a plain message.
            file.write(array.reshape(-1).view(np.uint8).data)
            _pad(file, array.nbytes)
        return file.tell()


def read_flat(path: Path) -> Model:
    """Map the file at ``path``: the model's arrays are read-only views of it, and stay valid when it is unlinked.

    Raises :class:`FarframeError` with ``FILE_CORRUPT`` for anything that :func:`write_flat` of this version has not
    written, ``FILE_NOT_FOUND`` if there is no such file.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEAD.size:
                _corrupt("it is too short")
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except FileNotFoundError:
        raise FarframeError(Result.FILE_NOT_FOUND, "The flat model file does not exist.") from None
    except OSError:
        raise FarframeError(Result.FAIL, "The flat model file cannot be mapped.", next_step="Try again.") from None
    data = np.frombuffer(mapped, dtype=np.uint8)
    magic, version, _, header_size = _HEAD.unpack_from(mapped)
    if magic != _MAGIC or version != VERSION:
        _corrupt("it is of another version")
    start = _aligned(_HEAD.size + header_size)
    if header_size > size - _HEAD.size or start > size:
        _corrupt("its header is cut off")
    try:
        header: _Header = _decoder.decode(memoryview(mapped)[_HEAD.size : _HEAD.size + header_size])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        _corrupt("its header cannot be read")
    return _model(header, data[start:])


def _model(header: _Header, data: NDArray[np.uint8]) -> Model:
    """The model that a header describes, all of it checked against the data."""
    vertices = _view(data, header.vertices, VERTEX_DTYPE, (-1,))
    indices = _view(data, header.indices, np.dtype("<u4"), (-1,))
    node_count = len(header.node_names)
    parents = _view(data, header.node_parents, np.dtype("<i4"), (node_count,))
    node_matrices = _view(data, header.node_matrices, np.dtype("<f8"), (node_count, 4, 4))
    instance_part = _view(data, header.instance_part, np.dtype("<i4"), (-1,))
    instance_count = len(instance_part)
    instance_node = _view(data, header.instance_node, np.dtype("<i4"), (instance_count,))
    instance_matrix = _view(data, header.instance_matrix, np.dtype("<f8"), (instance_count, 4, 4))
    pixels = [_view(data, each, np.dtype("u1"), (-1, -1, 4)) for each in header.pixels]

    animations = None
    if header.animations is not None:
        coded = _view(data, header.animations, np.dtype("u1"), (-1,)).tobytes()
        try:
            animations = decode_animations(coded, node_count)
        except ValueError as error:
            _corrupt(f"it has {error}")

    _check(bool((parents >= -1).all() and (parents < np.arange(node_count)).all()), "a parent comes after its child")
    _check(_within(instance_part, len(header.parts)), "an instance names a part that does not exist")
    _check(_within(instance_node, node_count), "an instance names a node that does not exist")
    _check(bool(np.isfinite(node_matrices).all() and np.isfinite(instance_matrix).all()), "a matrix is not finite")
    for part in header.parts:
        _check_part(part, len(vertices), indices, len(header.materials))
    for material in header.materials:
        _check_material(material, len(header.textures))
    for key in header.metadata:
        named = key.isascii() and key.isdigit() and len(key) < 10
        _check(named and int(key) < node_count, "its metadata names no node")
    for texture in header.textures:
        _check(0 <= texture.pixels < len(pixels), "a texture names pixels that do not exist")
        _check(pixels[texture.pixels].size > 0, "a texture has no pixels")
    return Model(
        name=header.name,
        vertices=vertices,
        indices=indices,
        parts=header.parts,
        materials=header.materials,
        textures=[
            Texture(
                pixels[each.pixels],
                each.srgb,
                each.wrap_u,
                each.wrap_v,
                each.mag_filter,
                each.min_filter,
                each.mipmaps,
                each.name,
            )
            for each in header.textures
        ],
        nodes=[
            Node(name, parent, matrix)
            for name, parent, matrix in zip(header.node_names, parents.tolist(), node_matrices, strict=True)
        ],
        instance_part=instance_part,
        instance_node=instance_node,
        instance_matrix=instance_matrix,
        bounds_min=header.bounds_min,
        bounds_max=header.bounds_max,
        warnings=header.warnings,
        animations=animations,
        metadata={int(node): values for node, values in header.metadata.items()},
    )


def _check_part(part: Part, vertex_count: int, indices: NDArray[np.uint32], material_count: int) -> None:
    _check(part.first_vertex >= 0 < part.vertex_count, "a part has no vertices")
    _check(part.first_vertex + part.vertex_count <= vertex_count, "a part's vertices do not exist")
    _check(0 <= part.material < material_count, "a part's material does not exist")
    _check(bool(part.levels), "a part has no levels")
    error = 0.0
    for level in part.levels:
        end = level.first_index + level.index_count
        _check(0 <= level.first_index < end <= len(indices), "a level's indices do not exist")
        _check(level.index_count % 3 == 0, "a level ends within a triangle")
        _check(int(indices[level.first_index : end].max()) < part.vertex_count, "an index passes its part's vertices")
        _check(level.error >= error, "a level's error is less than a finer one's")
        error = level.error


def _check_material(material: Material, texture_count: int) -> None:
    for slot in (
        material.base_color_texture,
        material.metallic_roughness_texture,
        material.normal_texture,
        material.occlusion_texture,
        material.emissive_texture,
    ):
        if slot is not None:
            _check(0 <= slot.texture < texture_count, "a material's texture does not exist")
            _check(slot.uv_set in (0, 1), "a texture is read with UVs that do not exist")


def _view(data: NDArray[np.uint8], array: _Array, dtype: np.dtype[Any], shape: Iterable[int]) -> NDArray[Any]:
    """An array in the data; -1 in ``shape`` stands for any length."""
    expected = tuple(shape)
    _check(len(array.shape) == len(expected), "an array has another shape than it should")
    for length, wanted in zip(array.shape, expected, strict=True):
        _check(length >= 0 and wanted in (-1, length), "an array has another shape than it should")
    _check(array.offset >= 0 and array.offset % ALIGNMENT == 0, "an array is not aligned")
    size = math.prod(array.shape) * dtype.itemsize
    _check(array.offset + size <= len(data), "an array passes the end of the file")
    return data[array.offset : array.offset + size].view(dtype).reshape(array.shape)


def _within(values: NDArray[np.int32], count: int) -> bool:
    return bool((values >= 0).all() and (values < count).all())


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        _corrupt(otherwise)


def _corrupt(why: str) -> NoReturn:
    raise FarframeError(
        Result.FILE_CORRUPT, f"The flat model file is broken: {why}.", next_step="Load the model again."
    )


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _pad(file: BinaryIO, written: int) -> None:
    file.write(bytes(_aligned(written) - written))
