"""STL files, binary and ASCII: triangles and nothing else.

Binary: 80 bytes, a count, then 50 bytes a triangle (normal, three corners, two bytes that some programs use for a
colour), read as one mapped array. ASCII: the numbers after ``vertex`` in one pass. STL has no unit: millimetres are
usual, so lengths are taken as they are and ``scaling`` is there to say otherwise. Facets' own normals are not used:
they are often missing or wrong, and the corners say the same.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.budget import Budget, Progress
from farframe.asset.gltf_source import map_file
from farframe.asset.model import Material
from farframe.convert import meshes
from farframe.convert.errors import ConversionWarning
from farframe.convert.importers import Imported
from farframe.convert.importers.gltf import model_info
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError, Result

HEAD_BYTES = 84
FACET_DTYPE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
DEFAULT_GREY = 0.6
"""Linear grey of surfaces whose format knows no materials."""

_NUMBER = rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?(?:nan|inf(?:inity)?)"
_VERTEX = re.compile(rb"\bvertex\s+(%s)\s+(%s)\s+(%s)" % (_NUMBER, _NUMBER, _NUMBER), re.IGNORECASE)
_SOLID = re.compile(rb"^[ \t]*(?:end)?solid[^\n]*$", re.MULTILINE)
ASCII_BLOCK = 16 * 1024**2


def import_stl(
    path: Path,
    folder: Path,
    settings: ConversionSettings,
    budget: Budget,
    progress: Progress,
    *,
    overrides: MaterialOverrides,
) -> Imported:
    """Read an STL file: one part under one node, equal corners welded, smooth but for creases."""
    data = map_file(path, path.name)
    binary = _is_binary(data)
    assembler = meshes.ModelAssembler(path.stem, budget)
    colors: NDArray[np.uint8] | None = None
    if binary:
        facets = np.frombuffer(data, FACET_DTYPE, int(data[80:84].view("<u4")[0]), HEAD_BYTES)
        budget.check_triangles(len(facets))
        budget.take_bytes(len(facets) * 36, "its triangles")
        corners = np.ascontiguousarray(facets["corners"]).reshape(-1, 3)
        colors = _colors(data[:80].tobytes(), facets["attribute"])
    else:
        corners = _read_ascii(data, budget)
    progress("reading", 0.3)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(corners).max(axis=1, initial=0.0) < meshes.MAX_COORDINATE)
    if bad.any():
        facet_bad = bad.reshape(-1, 3).any(axis=1)
        assembler.warn(f"{int(facet_bad.sum()):,} triangles whose corners are not finite were left out.")
        corners = corners.reshape(-1, 3, 3)[~facet_bad].reshape(-1, 3)
        colors = None if colors is None else colors[~facet_bad]
    part = build_soup(assembler, corners, colors, budget)
    meshes.single_node(assembler, part)
    material = Material(
        name="STL", base_color=(1.0, 1.0, 1.0, 1.0) if colors is not None else grey(), metallic=0.0, roughness=0.6
    )
    model = assembler.finish([material], [])
    progress("geometry", 1.0)
    return Imported(
        model=model,
        info=model_info(model, path, "STL Importer", "binary" if binary else "ascii"),
        warnings=[ConversionWarning.repaired(text) for text in model.warnings],
        gamma_material=False,
        gamma_vertex=True,
    )


def grey() -> tuple[float, float, float, float]:
    """The colour of surfaces that have none."""
    return DEFAULT_GREY, DEFAULT_GREY, DEFAULT_GREY, 1.0


def build_soup(
    assembler: meshes.ModelAssembler,
    corners: NDArray[np.float32],
    facet_colors: NDArray[np.uint8] | None,
    budget: Budget,
) -> int | None:
    """A part from loose triangles, (t * 3, 3) corners, and (t, 4) their colours if they have any."""
    if not len(corners):
        return None
    # Zero has two signs; they are one place.
    corners = corners + np.float32(0.0)
    budget.take_bytes(len(corners) * 40, "its corners")
    welded, count = meshes.weld_rows(corners)
    first = meshes.first_rows(welded, count)
    positions = corners[first]
    return build_welded(
        assembler,
        positions,
        welded.reshape(-1, 3),
        None if facet_colors is None else np.repeat(facet_colors, 3, axis=0),
        budget,
    )


def build_welded(
    assembler: meshes.ModelAssembler,
    positions: NDArray[np.float32],
    triangles: NDArray[Any],
    corner_colors: NDArray[np.uint8] | None,
    budget: Budget,
    material: int = 0,
) -> int | None:
    """A part from welded positions without normals, (t, 3) triangles and (t * 3, 4) colours if there are any."""
    budget.take_bytes(triangles.size * 80, "its normals")
    normals = meshes.crease_normals(positions, triangles)
    packed = (np.rint(normals * 32_767)).astype(np.int16)
    remap, chosen = meshes.weld_corners(positions, triangles.reshape(-1), [packed, corner_colors])
    budget.give_bytes(triangles.size * 80)
    flat = triangles.reshape(-1)
    return assembler.add_part(
        positions[flat[chosen]],
        remap,
        material,
        normals=normals[chosen],
        colors=None if corner_colors is None else corner_colors[chosen],
    )


def _is_binary(data: NDArray[np.uint8]) -> bool:
    """By size: some binary files begin with ``solid``, too."""
    if len(data) >= HEAD_BYTES:
        count = int(data[80:84].view("<u4")[0])
        if len(data) == HEAD_BYTES + count * FACET_DTYPE.itemsize:
            return True
        text = data[:512].tobytes()
        if not (text.lstrip()[:5].lower() == b"solid" and b"\0" not in text):
            expected = HEAD_BYTES + count * FACET_DTYPE.itemsize
            if len(data) > expected and count:
                return True
            raise meshes.corrupt(
                f"The STL claims {count:,} triangles, {expected:,} bytes, but has {len(data):,} bytes."
            )
    if data[:512].tobytes().lstrip()[:5].lower() != b"solid":
        raise meshes.corrupt("The file is neither a binary nor an ASCII STL.")
    return False


def _read_ascii(data: NDArray[np.uint8], budget: Budget) -> NDArray[np.float32]:
    """(t * 3, 3) corners, block by block; a block ends after a line's end."""
    pieces: list[NDArray[np.float32]] = []
    begin = 0
    while begin < len(data):
        end = min(begin + ASCII_BLOCK, len(data))
        text = data[begin:end].tobytes()
        if end < len(data):
            # After a facet, if there is one, so that blocks hold whole ones.
            cut = text.rfind(b"\n", 0, text.rfind(b"endfacet") + 12) + 1 or text.rfind(b"\n") + 1
            if not cut:
                raise meshes.corrupt("The ASCII STL has a line of more than 16 MB.")
            text = text[:cut]
        begin += len(text)
        budget.take_bytes(text.count(b"vertex") * 24, "its triangles")
        plain = _read_plain(text)
        if plain is None:
            found = _VERTEX.findall(text)
            plain = np.array(found, dtype="S40").astype(np.float32).reshape(-1, 3) if found else np.empty((0, 3), "f4")
            if text.lower().count(b"vertex") != len(found):
                raise meshes.corrupt("The ASCII STL has a vertex that is not three numbers.")
        pieces.append(plain)
        budget.check_triangles(sum(map(len, pieces)) // 3)
        budget.check_time()
    corners = np.concatenate(pieces) if pieces else np.empty((0, 3), np.float32)
    if len(corners) % 3:
        raise meshes.corrupt("The ASCII STL ends within a triangle.")
    if not len(corners):
        raise FarframeError(Result.FILE_CORRUPT, "The STL has no triangles.", next_step="Export the model again.")
    return corners


def _read_plain(text: bytes) -> NDArray[np.float32] | None:
    """(n, 3) the vertices of whole facets that are written as nearly all programs do it, or ``None``; several times as
    fast as looking for each vertex."""
    lines = _SOLID.sub(b"", text)
    count = lines.count(b"vertex")
    first, end = lines.find(b"facet normal"), lines.rfind(b"endfacet")
    if count == 0 or lines.count(b"facet normal") * 3 != count or first < 0 or lines[end + 8 :].strip():
        return None
    for word in (b"endfacet", b"facet normal", b"outer loop", b"endloop", b"vertex"):
        lines = lines.replace(word, b" ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            numbers = np.fromstring(lines, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
    if len(numbers) != count * 4:
        return None
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(numbers.reshape(-1, 4, 3)[:, 1:].reshape(-1, 3).astype(np.float32))


def _colors(head: bytes, attribute: NDArray[np.uint16]) -> NDArray[np.uint8] | None:
    """(t, 4) the colours that two conventions put into a facet's spare bytes, or ``None``.

    Materialise Magics writes ``COLOR=`` and four bytes into the head; a facet's bit 15 clear then means its own
    colour, red in the lowest bits. VisCAM and SolidView: bit 15 set means a colour, blue in the lowest bits.
    """
    own = (attribute & 0x8000) != 0
    place = head.find(b"COLOR=")
    magics = place >= 0 and place + 10 <= len(head)
    if magics:
        own = ~own
    if magics and not attribute.any():
        # Nobody has painted single facets.
        own[:] = False
    elif not own.any() and not magics:
        return None
    result = np.full((len(attribute), 4), 255, np.uint8)
    low, middle, high = ((attribute >> shift) & 31 for shift in (0, 5, 10))
    members = (low, middle, high) if magics else (high, middle, low)
    for channel, member in enumerate(members):
        result[:, channel] = np.where(own, (member.astype(np.uint16) * 255 + 15) // 31, 153)
    if magics:
        default = np.frombuffer(head[place + 6 : place + 9], np.uint8)
        result[~own, :3] = default
    return result
