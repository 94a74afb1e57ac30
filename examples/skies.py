"""Light a model by another sky. Four of the built-in ones, from the same camera.

python examples/skies.py builtin://Engine skies.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient

SKIES = ("VeniceSunset", "SunnyVondelpark", "Autoshop", "SataraNight")


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, change the sky, save the four pictures as one."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=640, height=360) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        sheet = Image.new("RGB", (1280, 720))
        for index, name in enumerate(SKIES):
            scene.sky = f"builtin://{name}"
            await scene.flush()
            frame = await connection.wait_for_still()
            sheet.paste(Image.fromarray(frame.image), (index % 2 * 640, index // 2 * 360))
        sheet.save(out)
        print(f"{out}: {', '.join(SKIES)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
