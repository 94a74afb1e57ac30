"""Point something out: outline it, and show all that is around it only faintly.

python examples/point_out.py builtin://Engine pointed_out.png
python examples/point_out.py builtin://Engine pointed_out.png Turbocharger
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str, name: str = "Crankshaft") -> None:
    """Lease a server, load ``model``, point out the part or group called ``name``, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        chosen = scene.find(name)
        if chosen is None:
            sys.exit(f"Nothing in that model is called {name!r}.")

        # What is set on the root counts for all below it, until a nearer entity says otherwise.
        async with scene.batch():
            scene.shell.set(desaturation=0.8, opacity=0.25)
            scene.outline.set(color=(0.0, 1.0, 0.2))
            root.override(shell=True)  # noqa: S604
            chosen.override(shell=False, selected=True)
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        parts = sum(entity.has_mesh for entity in chosen.descendants())
        print(f"{out}: {name}, of {parts} parts")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
