"""Take a model apart: ask what a ray meets and colour that, hide a part, move all groups outwards.

python examples/explode.py builtin://Engine exploded.png
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from PIL import Image

from farframe.client import RemoteRenderingClient

SPREAD = 0.6


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, set its parts apart, save the picture."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        whole = await root.bounds()
        if whole is None:
            sys.exit("There is nothing to see in that model.")
        middle = (np.array(whole.min) + np.array(whole.max)) / 2

        # What is in front of the camera? Rays meet the full geometry, whatever is drawn.
        eye = np.array(connection.pose.views[0].position)
        hits = await scene.cast_ray(eye, middle, policy="closestHit")
        for hit in hits:
            print(f"in front: {hit.entity.name!r} of {len(scene)} entities, {hit.distance:.2f} m away")
            hit.entity.override(tint=(1.0, 0.35, 0.0, 0.8))

        # The groups at the top: files often have one node around everything.
        top = root
        while len(top.children) == 1:
            top = top.children[0]
        boxes = [await group.bounds() for group in top.children]
        away = [(np.array(box.min) + np.array(box.max)) / 2 - middle if box else np.zeros(3) for box in boxes]

        # Everything set in a batch is seen in one frame.
        parts = [entity for entity in root.descendants() if entity.has_mesh]
        async with scene.batch():
            groups = scene.group(top.children)
            groups.positions = groups.positions + SPREAD * np.array(away)
            parts[-1].override(hidden=True)
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {len(parts)} parts")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
