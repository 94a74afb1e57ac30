"""Dress a model anew. Its red becomes blue, its block copper; its drive glows at the rims, its oil pan shows a picture.

python examples/materials.py builtin://Engine dressed.png
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from farframe.client import RemoteRenderingClient


def stripes() -> bytes:
    """A picture to put on something: diagonal stripes, PNG."""
    y, x = np.mgrid[0:256, 0:256]
    light = ((x + y) // 32 % 2)[..., None]
    image = np.where(light == 1, np.array((245, 200, 40)), np.array((30, 30, 34))).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, edit and replace materials, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        parts = [part for part in root.descendants() if part.mesh is not None]

        # The model's own materials: what is edited changes wherever it is used.
        seen = set()
        for part in parts:
            for material in part.mesh.materials:
                if material is None or material in seen:
                    continue
                seen.add(material)
                red, green, blue, alpha = material.albedo_color
                if red > 0.4 and green < 0.2 and blue < 0.2:
                    material.set(albedo_color=(0.02, 0.10, 0.45, alpha), roughness=0.15)

        # Materials of one's own, on whole groups.
        copper = scene.create_material("pbr", albedo_color=(0.95, 0.45, 0.25, 1.0), metalness=1.0, roughness=0.3)
        rim = scene.create_material(
            "pbr", albedo_color=(0.02, 0.02, 0.02, 1.0), roughness=0.6,
            fresnel_effect=True, fresnel_effect_color=(0.1, 0.9, 0.6), fresnel_effect_exponent=1.5,
        )  # fmt: skip
        for name, material in (("Block", copper), ("Front drive", rim)):
            for group in scene.find_all(name):
                scene.group([part for part in group.descendants() if part.has_mesh]).dress(material)

        # A texture is loaded by the server: from a URI, or like this one uploaded first.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stripes.png"
            path.write_bytes(stripes())
            picture = await scene.load_texture(path)
        poster = scene.create_material("pbr", albedo_map=picture, roughness=0.5, texcoord_scale=(4.0, 4.0))
        for group in scene.find_all("Oil pan"):
            scene.group([part for part in group.descendants() if part.has_mesh]).dress(poster)

        await scene.flush()
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {len(seen)} materials were in the model")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
