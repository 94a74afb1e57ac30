"""Keep surfaces in the same place from flickering through each other. Two instances of a model stand in the same place,
one a hair larger and blue: left it is switched off, right it is there, too. Of each pair of parts one is preferred as a
whole, because the mitigation is on, as it is when a scene begins; ``highlighting`` shows where such surfaces are.

python examples/z_fighting.py builtin://Engine z_fighting.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model`` twice, save a picture of one and one of both, side by side."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=640, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        twin = await scene.load_model(model)
        twin.scale = 1.000_002
        scene.z_fighting.enabled = True
        twin.override(tint=(0.1, 0.35, 1.0, 0.7))
        connection.look_at_model(root.model)
        sheet = Image.new("RGB", (1280, 720))
        for index, both in enumerate((False, True)):
            twin.enabled = both
            await scene.flush()
            frame = await connection.wait_for_still()
            sheet.paste(Image.fromarray(frame.image), (index * 640, 0))
        sheet.save(out)
        print(f"{out}: one instance, and two in the same place")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
