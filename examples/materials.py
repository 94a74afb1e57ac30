"""Dress a model anew. Its red becomes blue, its block copper, and its drive glows at the rims.

python examples/materials.py builtin://Engine dressed.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


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

        await scene.flush()
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {len(seen)} materials were in the model")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
