"""A maker of small glTF files, valid or broken on purpose."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import DracoPy
import numpy as np
import pytest
from PIL import Image

from farframe.asset.meshopt import encode_rows, encode_triangles

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


@pytest.fixture
def rich_glb(tmp_path: Path) -> Path:
    """A sound GLB that uses every extension that is read: compressed geometry and textures, other materials."""
    gltf = GltfBuilder()
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.uint32)
    draco = DracoPy.encode(positions, faces, tex_coord=positions[:, :2].astype(np.float64))
    ids = {each["attribute_type"]: each["unique_id"] for each in DracoPy.decode(draco).attributes}

    def shape(kind: str, component: int, count: int, **members: Any) -> int:
        gltf.json["accessors"].append({"componentType": component, "count": count, "type": kind, **members})
        return len(gltf.json["accessors"]) - 1

    pictures = [(Path(__file__).parent / "ktx2" / f"{name}.ktx2").read_bytes() for name in ("etc1s", "uastc_zstd")]
    pictures.append(encoded_image(np.full((4, 4, 3), 90, np.uint8), "WEBP"))
    gltf.json["images"] = [{"bufferView": gltf.view(picture)} for picture in pictures]
    gltf.json["textures"] = [
        {"extensions": {"KHR_texture_basisu": {"source": 0}}},
        {"extensions": {"KHR_texture_basisu": {"source": 1}}},
        {"extensions": {"EXT_texture_webp": {"source": 2}}},
    ]
    moved = {"KHR_texture_transform": {"offset": [0.5, 0], "scale": [2, 2]}}
    gltf.material(
        extensions={
            "KHR_materials_pbrSpecularGlossiness": {
                "diffuseTexture": {"index": 0, "extensions": moved},
                "specularGlossinessTexture": {"index": 1, "extensions": moved},
                "glossinessFactor": 0.5,
            },
            "KHR_materials_clearcoat": {"clearcoatFactor": 1},
            "KHR_materials_transmission": {"transmissionFactor": 0.5},
            "KHR_materials_emissive_strength": {"emissiveStrength": 2},
            "MSFT_packing_occlusionRoughnessMetallic": {
                "roughnessMetallicOcclusionTexture": {"index": 2},
                "normalTexture": {"index": 1},
            },
        }
    )
    compressed = {
        "attributes": {"POSITION": shape("VEC3", 5126, 4), "TEXCOORD_0": shape("VEC2", 5126, 4)},
        "indices": shape("SCALAR", 5125, 6),
        "material": 0,
        "extensions": {
            "KHR_draco_mesh_compression": {
                "bufferView": gltf.view(draco),
                "attributes": {"POSITION": ids[0], "TEXCOORD_0": ids[3]},
            }
        },
    }
    views = []
    for data, mode, count, stride in (
        (encode_rows(positions.view("V12").reshape(-1)), "ATTRIBUTES", 4, 12),
        (encode_triangles(faces.reshape(-1)), "TRIANGLES", 6, 4),
    ):
        source = gltf.json["bufferViews"][gltf.view(data)]
        place = {key: source[key] for key in ("buffer", "byteOffset", "byteLength")}
        source.update(byteLength=count * stride, byteOffset=0)
        source["extensions"] = {
            "EXT_meshopt_compression": {**place, "byteStride": stride, "count": count, "mode": mode}
        }
        views.append(len(gltf.json["bufferViews"]) - 1)
    plain = {
        "attributes": {"POSITION": shape("VEC3", 5126, 4, bufferView=views[0])},
        "indices": shape("SCALAR", 5125, 6, bufferView=views[1]),
    }
    moves = {"attributes": {"TRANSLATION": gltf.accessor([[0, 0, 1], [0, 0, 2]])}}
    gltf.node(mesh=gltf.mesh(compressed, plain), extensions={"EXT_mesh_gpu_instancing": moves})
    return gltf.write_glb(tmp_path / "rich.glb")


@pytest.fixture(params=["quad_glb", "rich_glb"])
def sound_glb(request: pytest.FixtureRequest) -> Path:
    """Each of the sound files."""
    path: Path = request.getfixturevalue(request.param)
    return path
