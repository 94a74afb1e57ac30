"""Show a model as a drawing. Rays are parallel, so that lengths can be compared, and edges are drawn as lines.

python examples/technical_drawing.py builtin://Engine drawing.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, look at it from the side without perspective, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        root = await connection.scene.load_model(model)
        connection.look_at_model(root.model, azimuth_degrees=0.0, elevation_degrees=0.0, orthographic=True)
        connection.scene.debug.edges = True
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        pose = connection.pose
        if pose is not None:
            left, right, _, _ = pose.views[0].tangents
            print(f"{out}: {(right - left) / 1280 * 1000:.2f} mm a pixel")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
