"""Turn the space in which the viewer stands. The pose is one and the same for all four pictures, as of a headset that
knows nothing of the world: it is the stage that goes around the model. In the last picture the scene's own clip
distances cut off what is nearer than the middle.

python examples/stage.py builtin://Engine stage.png
"""

from __future__ import annotations

import asyncio
import math
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, turn the stage around it, save the pictures as one."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=640, height=360) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model, azimuth_degrees=0)
        bounds = await root.bounds()
        if bounds is None or connection.pose is None:
            sys.exit("There is nothing to see in that model.")
        middle = [(low + high) / 2 for low, high in zip(bounds.min, bounds.max, strict=True)]
        away = math.dist(connection.pose.views[0].position, middle)
        sheet = Image.new("RGB", (1280, 720))
        for index in range(4):
            angle = math.radians(30 + 90 * index)
            # About the middle of the model: a place of the stage turns around the world's origin.
            x, z = middle[0], middle[2]
            turned = (math.cos(angle) * x + math.sin(angle) * z, math.cos(angle) * z - math.sin(angle) * x)
            scene.stage.set(
                position=(x - turned[0], 0.0, z - turned[1]), rotation=(0, math.sin(angle / 2), 0, math.cos(angle / 2))
            )
            if index == 3:
                scene.camera.set(near=away, far=2 * away)
            await scene.flush()
            frame = await connection.wait_for_still()
            sheet.paste(Image.fromarray(frame.image), (index % 2 * 640, index // 2 * 360))
        sheet.save(out)
        print(f"{out}: four places of the stage")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
