"""Watch how well it goes: fly around a model for some seconds and print what device and server measure.

python examples/performance.py builtin://Engine 5
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from farframe.client import RemoteRenderingClient, ServiceStatistics


async def main(model: str, seconds: float) -> None:
    """Lease a server, load ``model``, fly around it, tell each second what the server thinks of itself."""
    async with (
        RemoteRenderingClient.from_connection_file() as client,
        client.leased(lease_minutes=10) as session,
        session.connect(width=1280, height=720) as connection,
    ):
        loaded = await connection.load_model(model)
        loop = asyncio.get_running_loop()

        async def fly() -> None:
            while True:
                connection.look_at_model(loaded, azimuth_degrees=40.0 * loop.time())
                await asyncio.sleep(1 / 60)

        async def show() -> None:
            async for frame in connection.frames():
                connection.presented(frame)  # a program with a window says so when it hands the frame to it

        whole = ServiceStatistics()
        running = [asyncio.create_task(fly()), asyncio.create_task(show())]
        for _ in range(max(1, round(seconds))):
            await asyncio.sleep(1.0)
            frames, server = connection.frame_statistics(), await connection.performance_assessment()
            whole.add(frames, server)
            told = {name: getattr(server, name) for name in server.__struct_fields__}
            known = [f"{name} {item.value:g} ({item.rating})" for name, item in told.items() if item is not None]
            print(f"{frames.video_frames_received} frames received; {', '.join(known)}")
        for task in running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        print(whole)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
