"""Turn the casing of the engine into glass. Crankshaft, pistons and rods shine through however many panes lie before
them: transparency does not depend on the order of surfaces, and glass reflects where it is clear.

python examples/glass.py glass.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient

CASING = ("Block", "Crankcase", "Oil pan", "Top end", "Induction", "Exhaust", "Front drive", "Ancillaries")
INSIDE = {"Crankshaft": (0.95, 0.45, 0.1, 1.0), "Pistons and rods": (0.75, 0.78, 0.82, 1.0)}


async def main(out: str) -> None:
    """Lease a server, load the engine, dress its groups, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model("builtin://Engine")
        connection.look_at_model(root.model)

        # One material for all of the casing: changing it later changes everything that has it.
        glass = scene.create_material("pbr", albedo_color=(0.55, 0.75, 0.9, 0.12), roughness=0.12, transparent=True)
        async with scene.batch():
            for name in CASING:
                for group in scene.find_all(name):
                    scene.group([entity for entity in group.descendants() if entity.has_mesh]).dress(glass)
            for name, color in INSIDE.items():
                metal = scene.create_material("pbr", albedo_color=color, metalness=1.0, roughness=0.25)
                for group in scene.find_all(name):
                    scene.group([entity for entity in group.descendants() if entity.has_mesh]).dress(metal)
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: a glass engine")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
