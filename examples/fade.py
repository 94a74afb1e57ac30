"""Fade and see through. The exhaust is half transparent, the drive fades to black, the induction is nearly gone.

python examples/fade.py builtin://Engine faded.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, fade three of its groups in three ways, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)

        # A state: one command on a group, whatever is below it.
        for group in scene.find_all("Exhaust"):
            group.override(see_through=True)

        # Materials: copies, so that others who share them stay as they are.
        for name, changes in (
            ("Front drive", {"fade_to_black": True, "fade_out": 0.15}),
            ("Induction", {"fade_out": 0.2}),
        ):
            copies = {}
            for group in scene.find_all(name):
                for part in group.descendants():
                    if part.mesh is None:
                        continue
                    for index, material in enumerate(part.used_materials):
                        if material is not None:
                            if material not in copies:
                                copies[material] = material.copy(**changes)
                            part.materials[index] = copies[material]
        await scene.flush()
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: three ways to fade")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
