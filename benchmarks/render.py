"""The renderer alone: milliseconds per frame by size and quality, for a model on an orbit around it.

``python -m benchmarks.render [MODEL.glb] [--quick] [--adapter cpu|gpu|auto]`` measures a file instead of
``builtin://Engine``. Wall time is what a device waits for; CPU time is of the whole process, all threads, and is the
figure to compare on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from farframe.asset.builtin_engine import build_engine
from farframe.asset.gltf import read_gltf
from farframe.asset.lod import build_levels
from farframe.asset.model import Model
from farframe.protocol.link import LoadLimits
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.quality import LADDER
from tests.render.shapes import look_at

SIZES = ((960, 540), (1280, 720))
ORBIT_STEP_RADIANS = 0.05
ELEVATION = 0.35
DISTANCE_IN_DIAGONALS = 1.7


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Least and median."""
    return {"min": round(min(seconds) * 1000, 1), "median": round(float(np.median(seconds)) * 1000, 1)}


def measure(
    engine: Engine, scene: RenderScene, model: Model, quality: Quality, size: tuple[int, int], frames: int
) -> Any:
    """Draw ``frames`` frames on an orbit."""
    low, high = np.array(model.bounds_min), np.array(model.bounds_max)
    center, distance = (low + high) / 2, float(np.linalg.norm(high - low)) * DISTANCE_IN_DIAGONALS
    wall, cpu, counts = [], [], (0, 0, 0)
    for index in range(frames + 2):
        angle = 0.8 + index * ORBIT_STEP_RADIANS
        eye = center + distance * np.array([np.sin(angle), ELEVATION, np.cos(angle)])
        view = look_at(eye, center, near=distance * 0.01, far=distance * 10)
        cpu_start = time.process_time()
        frame = engine.render(FrameInput((view,), *size, quality, scene))
        if index >= 2:  # the first two make attachments and readback buffers
            wall.append(frame.read_back - frame.draw_start)
            cpu.append(time.process_time() - cpu_start)
            counts = (frame.triangles, frame.draws, frame.reduced_parts)
        frame.release()
    return {
        "samples": quality.samples,
        "scale": quality.scale,
        "pixel_error": quality.pixel_error,
        "size": f"{size[0]}x{size[1]}",
        "wall_ms": milliseconds(wall),
        "cpu_ms": milliseconds(cpu),
        "triangles": counts[0],
        "draws": counts[1],
        "reduced_parts": counts[2],
    }


def run(quick: bool, model: Model | None = None, adapter: Any = "auto") -> dict[str, Any]:
    """Print and return the figures."""
    start = time.perf_counter()
    engine = Engine.create(adapter)
    created = time.perf_counter()
    engine.warm_up()
    warmed = time.perf_counter()
    figures: dict[str, Any] = {
        "adapter": engine.adapter_name,
        "kind": engine.adapter_kind,
        "create_ms": round((created - start) * 1000),
        "warm_up_ms": round((warmed - created) * 1000),
        "teraflops": round(engine.measure_teraflops(), 4),
    }
    if model is None:
        model = build_levels(build_engine())
    start = time.perf_counter()
    resource = engine.upload(model)
    figures |= {
        "model": model.name,
        "model_triangles": model.triangle_count,
        "model_parts": len(model.instance_part),
        "upload_ms": round((time.perf_counter() - start) * 1000),
    }
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    print(json.dumps(figures))
    print("samples  error  scale  size      wall min / median   cpu median   triangles  reduced")
    rows = []
    for quality in LADDER:
        for size in SIZES:
            row = measure(engine, scene, model, quality, size, 8 if quick else 30)
            rows.append(row)
            print(
                f"{row['samples']:7}  {row['pixel_error']:5}  {row['scale']:5}  {row['size']:8}"
                f"  {row['wall_ms']['min']:7.1f} / {row['wall_ms']['median']:6.1f} ms"
                f"  {row['cpu_ms']['median']:7.1f} ms  {row['triangles']:9,}  {row['reduced_parts']:7}",
                flush=True,
            )
    engine.close()
    return figures | {"frames": rows}


def main() -> None:
    """Command line of this benchmark alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--adapter", default="auto", choices=["auto", "cpu", "gpu"])
    arguments = parser.parse_args()
    model = build_levels(read_gltf(arguments.model, LoadLimits())) if arguments.model else None
    run(arguments.quick, model, arguments.adapter)


if __name__ == "__main__":
    main()
