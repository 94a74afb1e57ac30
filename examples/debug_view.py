"""See what is really drawn. The edges of all triangles and counters of primitives, in the picture itself.

python examples/debug_view.py builtin://Engine debug.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, look at its triangles, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        scene.debug.set(wireframe=True, polygon_count=True)
        await scene.flush()
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: the triangles of {len(scene)} entities")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
