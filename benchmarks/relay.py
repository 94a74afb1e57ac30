"""What the ways in cost: the same orbit over WebRTC, over a WebSocket, and over one that the service relays.

``pose_to_decoded_ms`` is the device's latency; ``round_trip_ms`` the shortest ping; ``service_cpu_ms_per_mb`` what the
control plane's process spent while it relayed, by megabyte of video (its own idle work is in it: see ``webrtc``);
``client_cpu_ms_per_frame`` what this process spent, decoding included. All run on this machine, one after the other.

``fallback`` is how long ``connect`` takes where no UDP gets through and the client has to find that out, and how long
the next time, when it remembers.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.first_light import measure_motion
from farframe.client import RemoteRenderingClient, Session
from tests.end_to_end.harness import start_service
from tests.end_to_end.test_ways import WithoutUdp, connected

SIZE = (1280, 720)
MODEL = "builtin://Engine"
WAYS: tuple[tuple[str, str, bool], ...] = (
    ("webrtc", "webrtc", False),
    ("websocket, direct", "websocket", False),
    ("websocket, relayed", "websocket", True),
)


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time of one process, without its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(quick: bool) -> dict[str, Any]:
    """All ways, one after the other, in one session."""
    seconds = 5.0 if quick else 20.0
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        service = start_service(Path(folder) / "data")
        own, control_plane = psutil.Process(), psutil.Process(service.process.pid)
        try:
            async with (
                RemoteRenderingClient.from_connection_file(service.connection_path) as client,
                client.leased() as session,
            ):
                for name, way, relayed in WAYS:
                    began = time.perf_counter()
                    async with session.connect(*SIZE, way=way, relayed=relayed) as connection:  # type: ignore[arg-type]
                        connected = time.perf_counter() - began
                        await connection.load_model(MODEL)
                        before = cpu_seconds(own), cpu_seconds(control_plane)
                        motion = await measure_motion(service, connection, *SIZE, seconds)
                        spent = cpu_seconds(own) - before[0], cpu_seconds(control_plane) - before[1]
                        megabytes = max(motion["mbps"] * seconds / 8, 1e-6)
                        frames = max(motion["fps"] * seconds, 1)
                        figures[name] = {
                            "connect_ms": round(connected * 1000),
                            "round_trip_ms": round(connection.way.round_trip_ms or 0.0, 2),
                            "fps": motion["fps"],
                            "mbps": motion["mbps"],
                            "pose_to_decoded_ms": motion["pose_to_decoded_ms"],
                            "network_p50_ms": motion["stages_p50_ms"]["network"],
                            "client_cpu_ms_per_frame": round(spent[0] * 1000 / frames, 2),
                            "service_cpu_ms_per_mb": round(spent[1] * 1000 / megabytes, 1),
                            "service_cores": round(spent[1] / seconds, 3),
                        }
                figures["fallback"] = await fallback(session)
        finally:
            service.stop()
    direct, relayed_figures = figures["websocket, direct"], figures["websocket, relayed"]
    figures["relayed / direct"] = {
        "pose_to_decoded_p50": round(
            relayed_figures["pose_to_decoded_ms"]["p50"] / direct["pose_to_decoded_ms"]["p50"], 2
        ),
        "fps": round(relayed_figures["fps"] / max(direct["fps"], 0.1), 2),
    }
    return figures


async def fallback(session: Session) -> dict[str, int]:
    """Milliseconds to a connection over a WebSocket in a network without UDP: at first, and from then on."""
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        async with connected(session, transport=WithoutUdp) as connection:
            taken.append(round((time.perf_counter() - began) * 1000))
            assert connection.way.kind == "websocket"
    return {"first_ms": taken[0], "remembered_ms": taken[1]}


def run(quick: bool = False) -> dict[str, Any]:
    """Measure and print."""
    figures = asyncio.run(measure(quick))
    for name, values in figures.items():
        print(f"{name:20} {values}", flush=True)
    return figures
