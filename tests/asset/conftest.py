"""A maker of small glTF files, valid or broken on purpose."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

_COMPONENT_TYPES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class GltfBuilder:
    """Collects accessors in one buffer; ``json`` may be changed at will before writing."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "bufferViews": [],
            "accessors": [],
            "meshes": [],
            "nodes": [],
            "scenes": [{"nodes": []}],
            "scene": 0,
        }

    def view(self, data: bytes, **members: Any) -> int:
        self.data += bytes(-len(self.data) % 4)
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **members})
        self.data += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: Any, dtype: str = "f4", **members: Any) -> int:
        array = np.asarray(values, dtype="<" + dtype)
        array = array.reshape(len(array), -1)
        self.json["accessors"].append(
            {
                "bufferView": self.view(array.tobytes()),
                "componentType": _COMPONENT_TYPES[dtype],
                "count": len(array),
                "type": _TYPES[array.shape[1]],
                **members,
            }
        )
        return len(self.json["accessors"]) - 1

    def mesh(self, *primitives: dict[str, Any]) -> int:
        self.json["meshes"].append({"primitives": list(primitives)})
        return len(self.json["meshes"]) - 1

    def node(self, *, root: bool = True, **members: Any) -> int:
        self.json["nodes"].append(members)
        index = len(self.json["nodes"]) - 1
        if root:
            self.json["scenes"][0]["nodes"].append(index)
        return index

    def material(self, **members: Any) -> int:
        self.json.setdefault("materials", []).append(members)
        return len(self.json["materials"]) - 1

    def texture(self, image: bytes, **sampler: Any) -> int:
        self.json.setdefault("images", []).append({"bufferView": self.view(image), "mimeType": "image/png"})
        described: dict[str, Any] = {"source": len(self.json["images"]) - 1}
        if sampler:
            self.json.setdefault("samplers", []).append(sampler)
            described["sampler"] = len(self.json["samplers"]) - 1
        self.json.setdefault("textures", []).append(described)
        return len(self.json["textures"]) - 1

    def quad(self, **attributes: int) -> dict[str, Any]:
        """A unit square in the xy plane that faces +z: two triangles over four vertices."""
        return {
            "attributes": {
                "POSITION": self.accessor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
                "NORMAL": self.accessor([[0, 0, 1]] * 4),
                **attributes,
            },
            "indices": self.accessor([0, 1, 2, 0, 2, 3], "u2"),
        }

    def glb_bytes(self) -> bytes:
        binary = bytes(self.data) + bytes(-len(self.data) % 4)
        document = {**self.json}
        if binary:
            document.setdefault("buffers", [{"byteLength": len(self.data)}])
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        body = struct.pack("<I4s", len(text), b"JSON") + text
        if binary:
            body += struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body

    def write_glb(self, path: Path) -> Path:
        path.write_bytes(self.glb_bytes())
        return path

    def write_gltf(self, path: Path, buffer_uri: str | None = None) -> Path:
        """With ``buffer_uri`` the caller writes the buffer; without, it becomes a data URI."""
        uri = buffer_uri or "data:application/octet-stream;base64," + base64.b64encode(bytes(self.data)).decode()
        document = {"buffers": [{"byteLength": len(self.data), "uri": uri}], **self.json}
        path.write_text(json.dumps(document), encoding="utf-8")
        return path


@pytest.fixture
def gltf() -> GltfBuilder:
    """An empty glTF file in the making."""
    return GltfBuilder()


@pytest.fixture
def new_gltf() -> Callable[[], GltfBuilder]:
    """Makes further ones."""
    return GltfBuilder


def encoded_image(pixels: Any, kind: str = "PNG", mode: str | None = None) -> bytes:
    image = Image.fromarray(np.asarray(pixels))
    if mode is not None:
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@pytest.fixture
def encode_image() -> Callable[..., bytes]:
    """Pixels (an array) to the bytes of a PNG or JPEG file."""
    return encoded_image


@pytest.fixture
def quad_glb(tmp_path: Path, gltf: GltfBuilder) -> Path:
    """A sound GLB: a textured quad under two nodes."""
    uv = gltf.accessor([[0, 1], [1, 1], [1, 0], [0, 0]])
    texture = gltf.texture(encoded_image(np.full((4, 4, 3), 200, dtype=np.uint8)))
    gltf.material(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    mesh = gltf.mesh({**gltf.quad(TEXCOORD_0=uv), "material": 0})
    gltf.node(mesh=mesh, children=[1], name="upper")
    gltf.node(mesh=mesh, root=False, translation=[0, 0, 1], name="lower")
    return gltf.write_glb(tmp_path / "quad.glb")
