"""Move parts with every frame. Two seconds long the parts of a model swirl around its middle, sent 60 times a second
over the channel of poses: what is lost on the way is not sent again, and no frame shows an older place after a newer
one. The picture shows where they came to rest.

python examples/animate.py builtin://Engine animate.png
"""

from __future__ import annotations

import asyncio
import sys
import time

import numpy as np
from PIL import Image

from farframe.client import RemoteRenderingClient

SECONDS, RATE = 2.0, 60


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, let its groups swirl, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        top = root
        while len(top.children) == 1:
            top = top.children[0]
        boxes = [await child.bounds() for child in top.children]
        whole = await root.bounds()
        if whole is None:
            sys.exit("There is nothing to see in that model.")
        size = float(np.linalg.norm(np.array(whole.max) - np.array(whole.min)))
        moved = scene.group([child for child, box in zip(top.children, boxes, strict=True) if box])
        rest, phase = moved.positions, 2 * np.pi * np.arange(len(moved)) / max(len(moved), 1)

        begin = time.monotonic()
        stream = connection.frames()
        for step in range(int(SECONDS * RATE) + 1):
            turn = np.pi * step / (SECONDS * RATE)
            ring = np.stack([np.cos(phase + turn), np.zeros(len(phase)), np.sin(phase + turn)], axis=1)
            moved.set(positions=rest + 0.25 * size * np.sin(turn / 2) * ring, streaming=True)
            await asyncio.sleep(max(0.0, begin + step / RATE - time.monotonic()))
        await scene.flush()
        frames = connection.frame_statistics().video_frames_received
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {len(moved)} groups moved, {frames} frames in the last second, {stream.dropped + 1} in all")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
