"""``./dev bench [NAME ...]``: run benchmarks, print their figures, write them to ``out/bench/NAME.json``.

    first_light   create -> Ready, connect -> first frame, pose -> frame, frame rate, CPU by stage
    render        the renderer alone: milliseconds per frame by size and quality
    scene         what commands on 50,000 parts cost, and each feature of a scene per frame
    reference     material spheres and models beside a path tracer: differences in levels, pictures
    control_plane  requests per second with up to a million sessions, beside a bare route
    conversion    source triangles per second and core, memory and size, beside gltfpack
    scale         frame time, memory and first picture of generated assets, beside full detail
    peers         beside trame-rca, rendercanvas and Open3D: frames, latency, bits and CPU (installs them apart)
    network       the stream in bad weather: latency, freezes, quality and rate in Chromium behind a seeded UDP proxy
    relay         WebRTC, a WebSocket, and one through the service: latency, rate, processor time of each
    encoders      x264's settings on rendered pictures: milliseconds, dB and keyframes; what hardware would do
    stream        encoder and transport alone: milliseconds and dB by preset, encoded -> decodable

Timings depend on the machine and on what else it does; compare figures of one run, not of two.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

NAMES = (
    "first_light",
    "render",
    "scene",
    "reference",
    "stream",
    "encoders",
    "network",
    "relay",
    "control_plane",
    "conversion",
    "scale",
    "peers",
)
OUTPUT = Path("out/bench")


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        model = platform.processor()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def main() -> int:
    """Run what was asked for; 0 unless a benchmark failed."""
    parser = argparse.ArgumentParser(
        prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which benchmarks; all without")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    arguments = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or NAMES:
        print(f"\n== {name}", flush=True)
        figures = importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick)
        report = {"benchmark": name, "taken": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
        path = OUTPUT / f"{name}.json"
        path.write_text(json.dumps(report | {"figures": figures}, indent=2) + "\n")
        print(f"-> {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
