"""Files that no exporter wrote: made from good ones by seeded damage, and by hand where damage has a name."""

from __future__ import annotations

import json
import random
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

NAMES = ("glb", "gltf", "obj", "stl", "ply", "xyz", "fbx", "e57", "las", "laz")


def triangle(**changes: Any) -> dict[str, Any]:
    """A glTF document of one triangle, whose buffer is ``triangle.bin``, with top-level members replaced."""
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": "triangle.bin", "byteLength": 44}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 6}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]},
            {"bufferView": 1, "componentType": 5123, "count": 3, "type": "SCALAR"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    return document | changes


BUFFER = struct.pack("<9f3Hxx", 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 2)


def good(kind: str) -> bytes:
    """A whole file of a kind that can be written by hand."""
    points = "0 0 0 255 0 0\n1 0 0 0 255 0\n0 1 0 0 0 255\n"
    if kind == "glb":
        document = triangle(buffers=[{"byteLength": 44}])
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        size = 28 + len(text) + len(BUFFER)
        head = struct.pack("<4sII", b"glTF", 2, size) + struct.pack("<I4s", len(text), b"JSON")
        return head + text + struct.pack("<I4s", len(BUFFER), b"BIN\0") + BUFFER
    if kind == "gltf":
        return json.dumps(triangle()).encode()
    if kind == "obj":
        return b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 3/1/1\n"
    if kind == "stl":
        return bytes(80) + struct.pack("<I12fH", 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
    if kind == "ply":
        head = (
            "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
            "property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
        )
        return head.encode() + struct.pack("<9fB3i", 0, 0, 0, 1, 0, 0, 0, 1, 0, 3, 0, 1, 2)
    return points.encode()


def named() -> Iterator[tuple[str, str, bytes]]:
    """Damage with a name: its name, the ending, the file."""
    infinity = struct.pack("<9f3Hxx", *[float("inf"), float("nan"), -float("inf")] * 3, 0, 1, 2)
    far = struct.pack("<9f3Hxx", 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 9_999)
    huge = [{"bufferView": 0, "componentType": 5126, "count": 2**31, "type": "VEC3"}, triangle()["accessors"][1]]
    cycle = [{"mesh": 0, "children": [1]}, {"children": [0]}]
    chain: list[dict[str, Any]] = [{"children": [number + 1]} for number in range(20_000)]
    documents: dict[str, dict[str, Any]] = {
        "a cycle of nodes": triangle(nodes=cycle),
        "a node that is its own child": triangle(nodes=[{"mesh": 0, "children": [0]}]),
        "a deep chain of nodes": triangle(nodes=[*chain, {"mesh": 0}]),
        "a lie about a count": triangle(accessors=huge),
        "an absolute buffer": triangle(buffers=[{"uri": "/etc/passwd", "byteLength": 44}]),
        "a buffer outside": triangle(buffers=[{"uri": "../../../../etc/passwd", "byteLength": 44}]),
        "a buffer on the web": triangle(buffers=[{"uri": "http://127.0.0.1/x", "byteLength": 44}]),
        "no buffer": triangle(buffers=[{"uri": "missing.bin", "byteLength": 44}]),
        "a texture outside": triangle(
            images=[{"uri": "../../../etc/passwd"}],
            textures=[{"source": 0}],
            materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
            meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]}],
        ),
    }
    for name, document in documents.items():
        yield name, "gltf", json.dumps(document).encode()
    for name, data in (("infinite positions", infinity), ("indices out of range", far)):
        whole = good("glb")
        yield name, "glb", whole[: -len(BUFFER)] + data
    yield "deep json", "gltf", b"[" * 200_000
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.gltf", bytes(50_000_000))
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(12))
    xml = f'<?xml version="1.0"?><!DOCTYPE e57Root [{entities}]><e57Root>&e11;</e57Root>'.encode()
    header = struct.pack("<8sIIQQQQ", b"ASTM-E57", 1, 0, 48 + len(xml), 48, len(xml), 1024)
    yield "an xml bomb", "e57", header + xml
    for ending in NAMES:
        yield f"nothing ({ending})", ending, b""
        yield f"a zip bomb ({ending})", ending, bomb.getvalue()
        yield f"zeros ({ending})", ending, bytes(4096)
    yield "faces that are not there", "obj", b"v 0 0 0\nf 1 2 3\nf -9 4000000000 99999999999999999999\n"
    yield "a million triangles in no bytes", "stl", bytes(80) + struct.pack("<I", 2**32 - 1)
    yield "a count without vertices", "ply", good("ply").replace(b"vertex 3", b"vertex 4000000000")
    yield "points that are none", "xyz", b"nan inf -inf 1e999 x y\n" * 10


def damaged(seed: int, wholes: dict[str, list[bytes]]) -> tuple[str, str, bytes]:
    """One seeded piece of damage to a good file: bits flipped, cut, doubled, or numbers replaced."""
    dice = random.Random(seed)
    ending = dice.choice(sorted(wholes))
    data = bytearray(dice.choice(wholes[ending]))
    kind = dice.choice(["flip", "cut", "splice", "number", "zero"])
    if kind == "cut":
        del data[dice.randrange(len(data)) :]
    for _ in range(dice.choice([1, 3, 30])):
        if len(data) < 16:
            break
        at = dice.randrange(len(data) - 8)
        if kind == "flip":
            data[at] ^= 1 << dice.randrange(8)
        elif kind == "number":
            data[at : at + 4] = struct.pack("<I", dice.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
        elif kind == "zero":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        elif kind == "splice":
            data[at:at] = data[at : at + dice.randrange(1, 4096)]
    return f"{kind} {seed}", ending, bytes(data)


def wholes(folder: Path | None) -> dict[str, list[bytes]]:
    """Good files by ending: those of this module, and small real ones of a folder."""
    found = {kind: [good(kind)] for kind in ("glb", "gltf", "obj", "stl", "ply", "xyz")}
    for path in sorted(folder.rglob("*")) if folder is not None else []:
        ending = path.suffix.lower().removeprefix(".")
        if ending in NAMES and path.stat().st_size < 3_000_000:
            found.setdefault(ending, []).append(path.read_bytes())
    return found
