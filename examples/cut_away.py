"""Look into a model: cut it open, close what is cut through, and colour what is next to the cut.

What is solid shows the plane that goes through it, in its own colour and with lines across, as in a technical drawing.

python examples/cut_away.py builtin://Engine cut.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, cut away the half that faces the camera, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        box = await root.bounds()
        if box is None:
            sys.exit("There is nothing to see in that model.")
        middle = tuple((low + high) / 2 for low, high in zip(box.min, box.max, strict=True))

        # A cut plane hangs on an entity and follows it: moving that one later moves the cut.
        holder = scene.create(name="knife", position=middle)
        holder.add_cut_plane(
            normal="z", fade_color=(1.0, 0.35, 0.0, 0.8), fade_length=0.02 * (box.max[2] - box.min[2]), capped=True
        )
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: cut at z = {middle[2]:.3f} m")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
