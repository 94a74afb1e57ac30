"""The main job as a device sees it: how long until there is a server, a first picture, and each further one."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from farframe.client import RemoteRenderingClient, RuntimeConnection, Session
from tests.end_to_end.harness import RunningService, start_service

SIZES = ((960, 540), (1280, 720))
MODEL = "builtin://Engine"
AIMS = {
    "warm_ready_ms": 150,
    "first_frame_ms": 1000,
    "overhead_p50_ms": 25,
    "fps_960x540": 30,
    "fps_1280x720": 20,
}
"""What this machine class (two cores, no GPU) should reach."""


def quantiles(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile, rounded."""
    if not values:
        return {"p50": float("nan"), "p95": float("nan"), "count": 0}
    return {
        "p50": round(float(np.percentile(values, 50)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "count": len(values),
    }


def cpu_by_stage(pid: int) -> dict[str, float]:
    """Processor seconds that a render server has used, by what its threads do.

    ``draw``: the render thread and the software rasterizer's threads; ``encode``: conversion and x264; ``network``: the
    event loop with ICE, DTLS, SRTP and messages; ``other``: the rest.
    """
    names = {"render": "draw", "llvmpipe": "draw", "encode": "encode"}
    spent = {"draw": 0.0, "encode": 0.0, "network": 0.0, "other": 0.0}
    ticks = os.sysconf("SC_CLK_TCK")
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        stage = "network" if int(task.name) == pid else names.get(name.partition("-")[0], "other")
        spent[stage] += (int(fields[11]) + int(fields[12])) / ticks
    return spent


async def ready_ms(client: RemoteRenderingClient) -> tuple[Session, float]:
    """Create a session and poll as fast as the network allows until it is Ready."""
    start = time.perf_counter()
    session = await client.create_session()
    while session.status == "Starting":
        await session.refresh()
        await asyncio.sleep(0.01)
    return session, (time.perf_counter() - start) * 1000


async def measure_motion(
    service: RunningService, connection: RuntimeConnection, width: int, height: int, seconds: float
) -> dict[str, Any]:
    """Orbit for a while at one size; latency from pose to decoded frame, frame rate, stages, CPU."""
    await connection.configure_video(width=width, height=height)
    connection.look_at_model(azimuth_degrees=0)
    await connection.wait_for_still()
    server = service.server_of(connection.session.properties.handshake_port)
    cpu_before = cpu_by_stage(server.pid)
    frames = aiter(connection.frames())
    stages: dict[str, list[float]] = {
        name: [] for name in ("wait", "draw", "read_back", "queue", "encode", "send", "network", "decode", "total")
    }
    overhead: list[float] = []
    sizes: list[tuple[int, int]] = []
    triangles: list[int] = []
    bytes_sent = 0
    start = time.perf_counter()
    stop = start + seconds
    step = asyncio.create_task(_orbit(connection, stop))
    count = 0
    while time.perf_counter() < stop:
        try:
            async with asyncio.timeout(max(0.01, stop - time.perf_counter())):
                frame = await anext(frames)
        except TimeoutError:
            break
        count += 1
        if frame.timings is None or frame.record is None or frame.timings.total is None:
            continue
        for name, values in stages.items():
            value = getattr(frame.timings, name)
            if value is not None:
                values.append(value)
        after_draw = (frame.timings.read_back, frame.timings.queue, frame.timings.encode, frame.timings.send)
        overhead.append(sum(after_draw) + (frame.timings.network or 0.0))
        sizes.append((frame.record.drawn_width, frame.record.drawn_height))
        triangles.append(frame.record.triangles)
        bytes_sent += frame.record.encoded_bytes
    elapsed = time.perf_counter() - start
    await step
    cpu_after = cpu_by_stage(server.pid)
    spent = {stage: cpu_after[stage] - cpu_before[stage] for stage in cpu_after}
    cpu = sum(spent.values())
    return {
        "fps": round(count / elapsed, 1),
        "pose_to_decoded_ms": quantiles(stages["total"]),
        "drawn_to_decodable_ms": quantiles(overhead),
        "stages_p50_ms": {name: quantiles(values)["p50"] for name, values in stages.items() if name != "total"},
        "cpu_ms_per_frame": {stage: round(seconds * 1000 / max(count, 1), 1) for stage, seconds in spent.items()},
        "server_cores": round(cpu / elapsed, 2),
        "drawn_size_median": list(sorted(sizes)[len(sizes) // 2]) if sizes else None,
        "triangles_median": int(statistics.median(triangles)) if triangles else None,
        "mbps": round(bytes_sent * 8 / elapsed / 1e6, 2),
    }


async def _orbit(connection: RuntimeConnection, stop: float) -> None:
    """Turn around the model as a hand would: a new pose 60 times a second."""
    start = time.perf_counter()
    while (now := time.perf_counter()) < stop:
        connection.look_at_model(azimuth_degrees=(now - start) * 60.0)
        await asyncio.sleep(1 / 60)


async def measure(quick: bool) -> dict[str, Any]:
    """All figures, with one service in a fresh data folder."""
    figures: dict[str, Any] = {"aims": AIMS}
    with tempfile.TemporaryDirectory() as folder:
        service = start_service(Path(folder) / "data")
        try:
            async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
                # The service has only just started: its first render server is still getting ready.
                session, figures["cold_ready_ms"] = await ready_ms(client)
                await session.stop()
                warm = []
                for _ in range(2 if quick else 5):
                    await _wait_for_warm(service)
                    session, milliseconds = await ready_ms(client)
                    warm.append(milliseconds)
                    await session.stop()
                figures["warm_ready_ms"] = quantiles(warm)
                await _wait_for_warm(service)
                session, _ = await ready_ms(client)
                first = []
                for _ in range(2 if quick else 5):
                    start = time.perf_counter()
                    async with session.connect(width=1280, height=720) as connection:
                        await anext(aiter(connection.frames()))
                        first.append((time.perf_counter() - start) * 1000)
                figures["first_frame_ms"] = quantiles(first)
                async with session.connect(width=1280, height=720) as connection:
                    start = time.perf_counter()
                    model = await connection.load_model(MODEL)
                    figures["load_engine_ms"] = round((time.perf_counter() - start) * 1000, 1)
                    figures["model"] = {"parts": model.part_count, "triangles": model.triangle_count}
                    for width, height in SIZES:
                        figures[f"motion_{width}x{height}"] = await measure_motion(
                            service, connection, width, height, 4.0 if quick else 12.0
                        )
                    if connection.info is not None:
                        server = connection.info.server
                        figures["server"] = {"adapter": server.adapter, "encoder": server.encoder}
                await session.stop()
        finally:
            service.stop()
    return figures


async def _wait_for_warm(service: RunningService) -> None:
    """Until a server that serves nobody is ready: its log says so."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        logs = [path.read_text(errors="replace") for path in (service.data_dir / "logs").glob("server-*.log")]
        if service.servers() and any("server.warm" in text and "session.assigned" not in text for text in logs):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("no server became warm")


def run(quick: bool = False) -> dict[str, Any]:
    """Measure and print."""
    figures = asyncio.run(measure(quick))
    print(
        f"create -> Ready      cold {figures['cold_ready_ms']:.0f} ms, warm {figures['warm_ready_ms']['p50']} ms "
        f"(aim {AIMS['warm_ready_ms']})"
    )
    print(f"connect -> 1st frame {figures['first_frame_ms']['p50']} ms (aim {AIMS['first_frame_ms']})")
    print(f"load {MODEL}    {figures['load_engine_ms']} ms, {figures['model']}")
    for width, height in SIZES:
        motion = figures[f"motion_{width}x{height}"]
        print(
            f"{width}x{height} in motion: {motion['fps']} fps (aim {AIMS[f'fps_{width}x{height}']}), "
            f"pose -> decoded p50 {motion['pose_to_decoded_ms']['p50']} ms, "
            f"p95 {motion['pose_to_decoded_ms']['p95']} ms, "
            f"drawn -> decodable p50 {motion['drawn_to_decodable_ms']['p50']} ms (aim {AIMS['overhead_p50_ms']}), "
            f"drawn at {motion['drawn_size_median']}, {motion['triangles_median']} triangles, "
            f"{motion['server_cores']} cores"
        )
        print(f"   wall, p50 ms: {motion['stages_p50_ms']}")
        print(f"   CPU ms a frame: {motion['cpu_ms_per_frame']}")
    return figures
