"""Put pictures on things. A texture made here is loaded and repeated over a wall; a normal map bends the light.

python examples/textures.py textures.png
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from farframe.client import RemoteRenderingClient


def wall() -> str:
    """A glTF document of three upright squares with normals, tangents and UVs."""
    positions = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], "<f4")
    normals, tangents = np.tile([0, 0, 1], (4, 1)).astype("<f4"), np.tile([1, 0, 0, 1], (4, 1)).astype("<f4")
    uv, indices = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], "<f4"), np.array([0, 1, 2, 0, 2, 3], "<u2")
    data, views, accessors = b"", [], []
    arrays = ((positions, "VEC3"), (normals, "VEC3"), (tangents, "VEC4"), (uv, "VEC2"), (indices, "SCALAR"))
    for number, (array, kind) in enumerate(arrays):
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        component = 5123 if array.dtype == "<u2" else 5126
        accessors.append({"bufferView": number, "componentType": component, "count": len(array), "type": kind})
        data += array.tobytes()
    accessors[0] |= {"min": [-1, -1, 0], "max": [1, 1, 0]}
    attributes = {"POSITION": 0, "NORMAL": 1, "TANGENT": 2, "TEXCOORD_0": 3}
    places = {"left": -2.2, "middle": 0.0, "right": 2.2}
    return json.dumps(
        {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0, 1, 2]}],
            "nodes": [{"name": name, "mesh": 0, "translation": [x, 0, 0]} for name, x in places.items()],
            "meshes": [{"primitives": [{"attributes": attributes, "indices": 4, "material": 0}]}],
            "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0}, "doubleSided": True}],
            "accessors": accessors,
            "bufferViews": views,
            "buffers": [{"byteLength": len(data), "uri": f"data:;base64,{base64.b64encode(data).decode()}"}],
        }
    )


def pictures(folder: Path) -> None:
    """Bricks, and the normals of round studs."""
    y, x = np.mgrid[0:256, 0:256]
    shifted = (x + 64 * (y // 64 % 2)) % 128
    mortar = (y % 64 < 6) | (shifted < 6)
    bricks = np.where(mortar[..., None], np.array((205, 200, 190)), np.array((150, 62, 45))).astype(np.uint8)
    Image.fromarray(bricks).save(folder / "bricks.png")
    u, v = (x % 64 - 31.5) / 28, (31.5 - y % 64) / 28
    inside = u * u + v * v < 1
    z = np.sqrt(np.maximum(1 - u * u - v * v, 0))
    normal = np.where(inside[..., None], np.stack([u, v, z], axis=-1), np.array((0.0, 0.0, 1.0)))
    Image.fromarray(np.rint(normal * 127.5 + 127.5).astype(np.uint8)).save(folder / "studs.png")


async def main(out: str) -> None:
    """Lease a server, load the squares and the textures, dress each square otherwise, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pictures(folder)
            (folder / "wall.gltf").write_text(wall())
            await scene.load_model(folder / "wall.gltf")
            bricks = await scene.load_texture(folder / "bricks.png")
            studs = await scene.load_texture(folder / "studs.png")
        connection.look_at(eye=(1.5, 0.6, 6.5), target=(0, 0, 0))
        looks = {
            "left": {"albedo_map": bricks, "roughness": 0.9},
            "middle": {"albedo_map": bricks, "roughness": 0.9, "texcoord_scale": (3, 3), "texcoord_offset": (0.1, 0)},
            "right": {"normal_map": studs, "albedo_color": (0.9, 0.7, 0.3, 1), "metalness": 1, "roughness": 0.25},
        }
        for name, look in looks.items():
            square = scene.find(name)
            if square is not None:
                square.materials[0] = scene.create_material("pbr", double_sided=True, **look)
        await scene.flush()
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {bricks.width} x {bricks.height} texels of bricks")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
