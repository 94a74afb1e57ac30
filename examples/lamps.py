"""Light a model by lamps. It is night; a cool tube hangs above it, and a warm spot shines from the side.

python examples/lamps.py builtin://Engine lamps.png
"""

from __future__ import annotations

import asyncio
import math
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, place lamps by the size of it, save the picture."""
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
        x, y, z = ((low + high) / 2 for low, high in zip(box.min, box.max, strict=True))
        size = math.dist(box.min, box.max)

        # At night lamps are what one sees by.
        scene.sky = "builtin://SataraNight"

        # A point light with a length is a tube along its entity's X. Intensity grows with the square of distances.
        tube = scene.create(name="tube", position=(x, y + 0.6 * size, z + 0.2 * size))
        tube.add_point_light(color=(0.55, 0.75, 1.0), intensity=1.2 * size**2, length=1.2 * size, radius=0.02 * size)

        # A spot shines along its entity's -Z: this one is turned a quarter about +Y, to look along -X.
        half = math.sqrt(0.5)
        spot = scene.create(name="spot", position=(x + size, y, z + 0.3 * size), rotation=(0.0, half, 0.0, half))
        spot.add_spot_light(color=(1.0, 0.6, 0.3), intensity=5.0 * size**2, spot_angle_deg=(30.0, 50.0))

        await scene.flush()
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: a tube of {1.2 * size:.1f} m and a spot")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
