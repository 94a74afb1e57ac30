"""Find what is near a place. A ball is put into the model: the parts whose boxes it overlaps become blue, and those of
them whose surfaces it really touches orange.

python examples/overlap.py builtin://Engine overlap.png
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from PIL import Image

from farframe.client import RemoteRenderingClient

BLUE, ORANGE = (0.1, 0.35, 1.0, 0.75), (1.0, 0.35, 0.0, 0.9)


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, ask which parts are near its upper right corner, save the picture."""
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
        low, high = np.array(box.min), np.array(box.max)
        center, radius = low + (0.75, 0.75, 0.75) * (high - low), float(0.22 * np.linalg.norm(high - low))

        near = await scene.overlap_sphere(center, radius)
        touched = await scene.overlap_sphere(center, radius, geometry=True)
        async with scene.batch():
            scene.group(near.entities).override(tint=BLUE)
            scene.group(touched.entities).override(tint=ORANGE)
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {len(near)} parts have boxes there, {len(touched)} of them surfaces")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
