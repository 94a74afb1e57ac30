"""Fly around a model for ten seconds and print how long its frames take, step by step.

python examples/orbit.py [builtin://Engine]
"""

from __future__ import annotations

import asyncio
import sys
import time

from farframe.client import RemoteRenderingClient

SECONDS = 10.0
DEGREES_PER_SECOND = 36.0


async def main(model: str) -> None:
    """Send a pose for each frame that comes, and print one line a second."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        loaded = await connection.load_model(model)
        start = printed = time.monotonic()
        connection.look_at_model(loaded)
        async for frame in connection.frames():
            now = time.monotonic()
            if now - start > SECONDS:
                break
            connection.look_at_model(loaded, azimuth_degrees=(now - start) * DEGREES_PER_SECOND)
            if now - printed > 1.0 and frame.timings is not None and frame.timings.total is not None:
                printed = now
                seen = await connection.statistics()
                steps = frame.timings
                print(
                    f"{seen.frames_per_second:.0f} frames/s, pose to picture {steps.total:.0f} ms: "
                    f"draw {steps.draw:.1f}, encode {steps.encode:.1f}, network {steps.network or 0:.1f}, "
                    f"decode {steps.decode:.1f}; {seen.server.bitrate / 1e6:.1f} Mbit/s"
                )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "builtin://Engine"))
