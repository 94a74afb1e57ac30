"""PLY meshes: ASCII and binary of both byte orders, polygons of any number of corners.

Elements are read as arrays: records are looked at as runs in which all lists are equally long, so that a file of
triangles is one mapped array. Vertex positions, normals, colours (``red`` or ``diffuse_red``...) and texture
coordinates (``s t``, ``u v``, ``texture_u texture_v``) are used; colours and coordinates of faces are not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset import geometry
from farframe.asset.budget import Budget, Progress
from farframe.asset.gltf_source import map_file
from farframe.asset.model import Material, Texture, TextureSlot
from farframe.convert import meshes
from farframe.convert.errors import ConversionWarning
from farframe.convert.importers import Imported
from farframe.convert.importers.gltf import model_info
from farframe.convert.importers.stl import build_welded, grey
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings
from farframe.convert.textures_lookup import TextureFiles

MAX_HEADER_BYTES = 64 * 1024
MAX_PROPERTIES = 1_000
MAX_LIST = 1 << 20
"""Items of one list: what is longer is a broken count."""

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_LISTS_OF_CORNERS = ("vertex_indices", "vertex_index")


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an element: the types of its value and, if it is a list, of its count (NumPy codes)."""

    name: str
    kind: str
    count_kind: str = ""


@dataclass(slots=True)
class Element:
    """So many records of the same properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


@dataclass(slots=True)
class Header:
    """A file's head: ``order`` is ``<``, ``>`` or ``""`` for ASCII; ``size`` is the head's length in bytes."""

    order: str
    elements: list[Element]
    comments: list[str]
    size: int

    @property
    def is_mesh(self) -> bool:
        """Whether there are polygons: what has none is a point cloud."""
        return any(each.name in ("face", "tristrips") and each.count for each in self.elements)


def read_header(path: Path) -> Header:
    """The head of a PLY file. Raises :class:`FarframeError` ``FILE_CORRUPT``."""
    with path.open("rb") as file:
        data = file.read(MAX_HEADER_BYTES)
    end = data.find(b"end_header")
    newline = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or newline < 0:
        raise meshes.corrupt("The file has no PLY header, or one of more than 64 KB.")
    order: str | None = None
    elements: list[Element] = []
    comments: list[str] = []
    for line in data[:end].decode("utf-8", "replace").splitlines()[1:]:
        words = line.split()
        try:
            match words:
                case ["format", name, "1.0"]:
                    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[name]
                case ["comment" | "obj_info", *_]:
                    comments.append(line.strip())
                case ["element", name, count]:
                    elements.append(Element(name, int(count)))
                    if not 0 <= elements[-1].count < 2**40:
                        raise ValueError
                case ["property", "list", count_kind, kind, name]:
                    count_kind = _TYPES[count_kind]
                    if count_kind[0] == "f":
                        raise ValueError
                    elements[-1].properties.append(Property(name, _TYPES[kind], count_kind))
                case ["property", kind, name]:
                    elements[-1].properties.append(Property(name, _TYPES[kind]))
                case []:
                    pass
                case _:
                    raise ValueError
        except (KeyError, ValueError, IndexError):
            raise meshes.corrupt(f"The PLY header has a line that is not understood: {line[:80]!a}.") from None
    names = [each.name for each in elements]
    if order is None or len(set(names)) != len(names) or sum(len(e.properties) for e in elements) > MAX_PROPERTIES:
        raise meshes.corrupt("The PLY header names no format, an element twice, or too many properties.")
    for each in elements:
        if len({one.name for one in each.properties}) != len(each.properties):
            raise meshes.corrupt(f"The PLY header names a property of {each.name!a} twice.")
    return Header(order, elements, comments, newline + 1)


def import_ply(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides,
) -> Imported:
    """Read a PLY file that has polygons: one part under one node."""
    header = read_header(path)
    tables = _read_elements(map_file(path, path.name), header, budget)
    progress("reading", 0.4)
    assembler = meshes.ModelAssembler(path.stem, budget)
    vertex = tables.get("vertex")
    if vertex is None or not {"x", "y", "z"} <= set(vertex.columns):
        raise meshes.corrupt("The PLY file has no vertices with x, y and z.")
    positions = _columns(vertex, ("x", "y", "z"), np.float32)
    if "tristrips" in tables:
        assembler.warn("Triangle strips are left out.")
    face = tables.get("face")
    corner_vertex, counts = _corners(face, len(positions))
    _check_finite(positions, corner_vertex)
    begins = np.cumsum(counts) - counts
    triangle_corners, _, inexact = meshes.triangulate(positions, corner_vertex, begins, counts)
    if inexact:
        assembler.warn(f"{inexact:,} polygons that cross themselves were cut as they came.")
    budget.check_triangles(len(triangle_corners))
    indices = corner_vertex[triangle_corners].astype(np.uint32)
    progress("triangles", 0.6)

    uvs = _uvs(vertex)
    colors = _colors(vertex)
    textures: list[Texture] = []
    files = TextureFiles(path.parent, folder, budget)
    material = Material(name="PLY", base_color=grey() if colors is None else (1.0, 1.0, 1.0, 1.0), metallic=0.0)
    material.roughness = 0.6
    named = [each.split(maxsplit=2)[2] for each in header.comments if each.startswith("comment TextureFile ")]
    if named and uvs is not None and not {"AlbedoMap", "DiffuseMap"} & overrides.ignored_maps(material.name):
        pixels = files.read(named[0], material.name)
        if pixels is not None:
            textures.append(Texture(pixels, srgb=True, name=Path(named[0].replace("\\", "/")).name))
            material.base_color_texture = TextureSlot(0)
            material.base_color = (1.0, 1.0, 1.0, 1.0)
    if face is not None and face.columns.keys() & {"red", "diffuse_red"}:
        assembler.warn("Colours of faces are left out.")
    if face is not None and "texcoord" in face.lists:
        assembler.warn("Texture coordinates of faces are left out.")

    normals = _columns(vertex, ("nx", "ny", "nz"), np.float32) if {"nx", "ny", "nz"} <= set(vertex.columns) else None
    if normals is not None:
        with np.errstate(all="ignore"):
            bad = ~(np.abs(normals).max(axis=1, initial=0.0) > 1e-12) | ~np.isfinite(normals).all(axis=1)
        unit = geometry.normalized_rows(normals)
        if bad.any():
            assembler.warn("Normals without a direction were computed from the triangles.")
            unit[bad] = geometry.smooth_normals(positions, indices.reshape(-1))[bad]
        part = assembler.add_part(positions, indices.reshape(-1), 0, normals=unit, uv0=uvs, colors=colors)
    elif uvs is None and len(indices):
        corner_colors = None if colors is None else colors[indices.reshape(-1)]
        welded, count = meshes.weld_rows(positions + np.float32(0.0))
        first = meshes.first_rows(welded, count)
        part = build_welded(assembler, positions[first], welded[indices], corner_colors, budget)
    elif len(indices):
        smooth = meshes.crease_normals(positions, indices)
        packed = np.rint(smooth * 32_767).astype(np.int16)
        remap, chosen = meshes.weld_corners(positions, indices.reshape(-1), [packed])
        source = indices.reshape(-1)[chosen]
        part = assembler.add_part(
            positions[source],
            remap,
            0,
            normals=smooth[chosen],
            uv0=None if uvs is None else uvs[source],
            colors=None if colors is None else colors[source],
        )
    else:
        part = None
    meshes.single_node(assembler, part)
    model = assembler.finish([material], textures)
    info = model_info(model, path, "PLY Importer", "1.0")
    info.faces, info.vertices = len(triangle_corners), len(positions)
    progress("geometry", 1.0)
    return Imported(
        model=model,
        info=info,
        warnings=[*(ConversionWarning.left_out(text) for text in model.warnings), *files.warnings],
        gamma_material=False,
        gamma_vertex=True,
        maps_ignored=True,
    )


def _check_finite(positions: NDArray[np.float32], used: NDArray[np.int64]) -> None:
    with np.errstate(invalid="ignore"):
        if len(used) and not np.abs(positions[used]).max() < meshes.MAX_COORDINATE:
            raise meshes.corrupt("The file holds coordinates that are infinite, not numbers or beyond reach.")


@dataclass(slots=True)
class _Table:
    """An element's values: columns (n,), and lists as (flat values, lengths (n,))."""

    columns: dict[str, NDArray[Any]]
    lists: dict[str, tuple[NDArray[Any], NDArray[np.int64]]]


def _read_elements(data: NDArray[np.uint8], header: Header, budget: Budget) -> dict[str, _Table]:
    """All elements, one after the other."""
    if header.order:
        source, order = data[header.size :], header.order
    else:
        budget.take_bytes((len(data) - header.size) * 5, "its numbers")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                numbers = np.fromstring(data[header.size :].tobytes(), dtype="<f8", sep=" ")
            except (DeprecationWarning, ValueError):
                raise meshes.corrupt("The ASCII PLY holds something that is not a number.") from None
        source, order = numbers.view(np.uint8), ""
    tables: dict[str, _Table] = {}
    offset = 0
    for element in header.elements:
        tables[element.name], offset = _read_element(source, offset, element, order, budget)
    return tables


def _read_element(
    source: NDArray[np.uint8], offset: int, element: Element, order: str, budget: Budget
) -> tuple[_Table, int]:
    """One element from ``offset`` on, and where it ends. An ASCII file's ``source`` is all of doubles."""

    def kind(code: str) -> str:
        return order + code if order else "<f8"

    def size(code: str) -> int:
        return np.dtype(kind(code)).itemsize

    least = sum(size(each.count_kind or each.kind) for each in element.properties)
    if element.count * least > len(source) - offset:
        raise meshes.corrupt(f"The PLY claims {element.count:,} of {element.name!a}, more than the file holds.")
    runs: list[NDArray[Any]] = []
    left, step = element.count, 1 << 16
    if not element.properties:
        return _Table({}, {}), offset
    while left:
        layout: list[tuple[str, str] | tuple[str, str, int]] = []
        lengths: dict[str, int] = {}
        place = offset
        for each in element.properties:
            if each.count_kind:
                unit = size(each.count_kind)
                if place + unit > len(source):
                    raise meshes.corrupt(f"The PLY ends within {element.name!a}.")
                length = float(source[place : place + unit].view(kind(each.count_kind))[0])
                if not 0 <= length <= MAX_LIST or length != int(length):
                    raise meshes.corrupt(f"The PLY has a list of {length:g} items in {element.name!a}.")
                lengths[each.name] = int(length)
                layout += [(f"{each.name}#", kind(each.count_kind)), (each.name, kind(each.kind), int(length))]
                place += unit + int(length) * size(each.kind)
            else:
                layout.append((each.name, kind(each.kind)))
                place += size(each.kind)
        dtype = np.dtype(layout)
        fit = (len(source) - offset) // dtype.itemsize
        if not fit:
            raise meshes.corrupt(f"The PLY ends within {element.name!a}.")
        count = min(left, fit, step if lengths else left)
        run = np.frombuffer(source, dtype, count, offset)
        same = count
        for name, length in lengths.items():
            differs = run[f"{name}#"] != length
            same = min(same, int(np.argmax(differs)) if differs.any() else count)
        # Runs are looked at in steps that follow their lengths, so that short ones do not cost a long look each.
        step = min(step * 4, 1 << 22) if same == count else max(64, 2 * same)
        runs.append(run[:same])
        budget.take_bytes(200, "its runs")
        if len(runs) % 4096 == 0:
            budget.check_time()
        offset += same * dtype.itemsize
        left -= same
    columns: dict[str, NDArray[Any]] = {}
    lists: dict[str, tuple[NDArray[Any], NDArray[np.int64]]] = {}
    for each in element.properties:
        pieces = [run[each.name] for run in runs]
        if each.count_kind:
            if not pieces:
                lists[each.name] = np.empty(0), np.empty(0, np.int64)
                continue
            flat = [np.ascontiguousarray(piece).reshape(-1) for piece in pieces]
            budget.take_bytes(sum(piece.nbytes for piece in flat), "its lists")
            sizes = np.repeat([piece.shape[1] for piece in pieces], [len(piece) for piece in pieces])
            lists[each.name] = np.concatenate(flat), sizes.astype(np.int64)
        else:
            columns[each.name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces) if pieces else np.empty(0)
    return _Table(columns, lists), offset


def _columns(table: _Table, names: tuple[str, ...], dtype: Any) -> NDArray[Any]:
    with np.errstate(all="ignore"):
        return np.stack([table.columns[name].astype(dtype) for name in names], axis=1)


def _corners(face: _Table | None, vertex_count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each corner's vertex, checked, and each polygon's number of corners."""
    found = next((face.lists[name] for name in _LISTS_OF_CORNERS if name in face.lists), None) if face else None
    if found is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    with np.errstate(invalid="ignore"):
        corners = found[0].astype(np.int64)
    if len(corners) and not (int(corners.min()) >= 0 and int(corners.max()) < vertex_count):
        raise meshes.corrupt(f"The PLY has a face with a vertex that is not among the {vertex_count:,} there are.")
    return corners, found[1]


def _uvs(vertex: _Table) -> NDArray[np.float32] | None:
    """(n, 2), with v running down the image as everywhere here."""
    for names in (("s", "t"), ("u", "v"), ("texture_u", "texture_v")):
        if set(names) <= set(vertex.columns):
            uvs: NDArray[np.float32] = _columns(vertex, names, np.float32)
            uvs[:, 1] = 1.0 - uvs[:, 1]
            return uvs
    return None


def _colors(vertex: _Table) -> NDArray[np.uint8] | None:
    """(n, 4) bytes as in the file: integers by their type's range, floats from 0 to 1."""
    for prefix in ("", "diffuse_", "ambient_"):
        names = [f"{prefix}{each}" for each in ("red", "green", "blue")]
        if set(names) <= set(vertex.columns):
            if (alpha := f"{prefix}alpha") in vertex.columns:
                names.append(alpha)
            result = np.full((len(vertex.columns[names[0]]), 4), 255, np.uint8)
            for channel, name in enumerate(names):
                values = vertex.columns[name]
                if values.dtype.kind == "f":
                    # An ASCII file's integers have come as floats.
                    with np.errstate(invalid="ignore"):
                        top = 255.0 if float(np.nanmax(values, initial=0.0)) > 1.0 else 1.0
                        scaled = np.nan_to_num(values.astype(np.float64), nan=0.0) * (255.0 / top)
                elif values.dtype.itemsize == 1:
                    scaled = values.astype(np.float64)
                else:
                    scaled = values * (255.0 / np.iinfo(values.dtype).max)
                result[:, channel] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
            return result
    return None
