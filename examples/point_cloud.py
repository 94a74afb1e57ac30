"""Show a point cloud. Two million points are converted to an asset, streamed as the view needs them, and picked.

python examples/point_cloud.py cloud.png
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from farframe.client import RemoteRenderingClient

POINTS = 2_000_000


def terrain(path: Path) -> None:
    """Write hills as a binary PLY file of points with colours."""
    random = np.random.default_rng(7)
    x, z = random.uniform(-10.0, 10.0, (2, POINTS))
    y = np.zeros(POINTS)
    for size in (0.25, 0.6, 1.4, 3.0):
        angle = random.uniform(0.0, 2.0 * np.pi)
        y += 0.9 / size * np.sin(size * (x * np.cos(angle) + z * np.sin(angle))) * np.cos(0.7 * size * x) * 0.6
    height = (y - y.min()) / np.ptp(y)
    steps = np.array([(38, 84, 124), (201, 182, 130), (96, 132, 62), (110, 98, 84), (245, 245, 245)])
    color = np.stack([np.interp(height, np.linspace(0, 1, 5), steps[:, channel]) for channel in range(3)], axis=1)
    points = np.zeros(POINTS, [("position", "<f4", 3), ("color", "u1", 3)])
    points["position"], points["color"] = np.stack([x, y, z], axis=1), color
    names = "".join(f"property float {axis}\n" for axis in "xyz")
    names += "".join(f"property uchar {channel}\n" for channel in ("red", "green", "blue"))
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {POINTS}\n{names}end_header\n"
    path.write_bytes(head.encode() + points.tobytes())


async def main(out: str) -> None:
    """Convert the points here, lease a server, load them, ask what a ray meets, save the picture."""
    with tempfile.TemporaryDirectory() as folder:
        terrain(Path(folder) / "terrain.ply")
        convert = [sys.executable, "-m", "farframe.cli", "convert", f"{folder}/terrain.ply", "--out", folder]
        await asyncio.to_thread(subprocess.run, convert, check=True, stdout=subprocess.DEVNULL)
        async with (
            RemoteRenderingClient.from_connection_file() as client,
            client.leased(lease_minutes=10) as session,
            session.connect(width=1280, height=720) as connection,
        ):
            scene = connection.scene
            root = await scene.load_model(Path(folder) / "terrain.arrAsset")
            connection.look_at(eye=(0.0, 6.0, 13.0), target=(0.0, -1.0, 0.0))
            scene.point_size = 1.3
            hits = await scene.cast_ray((0.0, 50.0, 0.0), (0.0, -50.0, 0.0), policy="closestHit")
            for hit in hits:
                print(f"the ground in the middle is at {hit.position[1]:.3f} m ({hit.kind})")
            frame = await connection.wait_for_still()
            Image.fromarray(frame.image).save(out)
            print(f"{out}: {POINTS} points, a cloud: {root.is_point_cloud or any(e.is_point_cloud for e in scene)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
