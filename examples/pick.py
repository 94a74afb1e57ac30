"""Pick parts in the picture. Rays go through many of its places, as if each were clicked on: what they meet first takes
a colour from orange, near, to blue, far. Rays meet the full geometry, whatever level of detail is drawn.

python examples/pick.py builtin://Engine pick.png
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from PIL import Image

from farframe.client import RemoteRenderingClient

COLUMNS, ROWS = 24, 14
NEAR, FAR = np.array([1.0, 0.3, 0.0]), np.array([0.0, 0.25, 1.0])


def turned(direction: np.ndarray, orientation: tuple[float, float, float, float]) -> np.ndarray:
    """A direction of the camera's space in the world's."""
    axis, w = np.array(orientation[:3]), orientation[3]
    return direction + 2 * np.cross(axis, np.cross(axis, direction) + w * direction)


async def main(model: str, out: str) -> None:
    """Lease a server, load ``model``, cast rays through the picture, colour what they meet, save it."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        scene = connection.scene
        root = await scene.load_model(model)
        connection.look_at_model(root.model)
        view = connection.pose.views[0]
        eye, fov = np.array(view.position), view.fov
        distances = {}
        for down in np.linspace(np.tan(fov.up), np.tan(fov.down), ROWS):
            directions = [
                turned(np.array([across, down, -1.0]), view.orientation)
                for across in np.linspace(np.tan(fov.left), np.tan(fov.right), COLUMNS)
            ]
            rays = [scene.cast_ray(eye, eye + view.far * way, policy="closestHit") for way in directions]
            for hits in await asyncio.gather(*rays):
                for hit in hits:
                    distances[hit.entity] = min(hit.distance, distances.get(hit.entity, hit.distance))
        if not distances:
            sys.exit("There is nothing to see in that model.")
        nearest, farthest = min(distances.values()), max(distances.values())
        async with scene.batch():
            for entity, distance in distances.items():
                share = (distance - nearest) / max(farthest - nearest, 1e-9)
                entity.override(tint=(*((1 - share) * NEAR + share * FAR).tolist(), 0.8))
        frame = await connection.wait_for_still()
        Image.fromarray(frame.image).save(out)
        print(f"{out}: {len(distances)} parts from {nearest:.2f} to {farthest:.2f} m away")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
