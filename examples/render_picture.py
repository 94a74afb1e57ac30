"""Save one full-quality picture of a model.

python examples/render_picture.py builtin://Engine engine.png
python examples/render_picture.py chair.glb chair.png
"""

from __future__ import annotations

import asyncio
import sys

from PIL import Image

from farframe.client import RemoteRenderingClient


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model`` (a URI or a local path), save the picture, give the server back."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        loaded = await connection.load_model(model, lambda load: print(f"{load.stage}: {load.fraction:.0%}"))
        connection.look_at_model(loaded)
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {loaded.part_count} parts, {loaded.triangle_count} triangles")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
