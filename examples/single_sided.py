"""Choose whether the backs of surfaces are seen. Cut open, a housing shows its inside with the mode that a scene begins
with (right); drawn with fronts alone (left) one looks through the walls from behind.

python examples/single_sided.py builtin://Engine single_sided.png
"""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from PIL import Image

from farframe.client import RemoteRenderingClient

MODES: tuple[Literal["normal", "dynamicDoubleSiding"], ...] = ("normal", "dynamicDoubleSiding")


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, cut it, save a picture with each mode, side by side."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=640, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        bounds = await root.bounds()
        if bounds is None:
            sys.exit("There is nothing to see in that model.")
        low, high = bounds.min, bounds.max
        middle = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        knife = scene.create("knife", position=(middle[0], middle[1], middle[2]))
        knife.add_cut_plane(normal="z")
        connection.look_at_model(root.model, azimuth_degrees=20, elevation_degrees=15)
        sheet = Image.new("RGB", (1280, 720))
        for index, mode in enumerate(MODES):
            scene.single_sided = mode
            await scene.flush()
            frame = await connection.wait_for_still()
            sheet.paste(Image.fromarray(frame.image), (index * 640, 0))
        sheet.save(out)
        print(f"{out}: {' and '.join(MODES)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
