"""What size costs: frame time, memory and first picture of generated assets, beside the same surface drawn in full.

``python -m benchmarks.scale [TRIANGLES ...]``, one million without. A bumpy closed surface of so many triangles is
generated, converted, and drawn at 1280x720, each size in a process of its own, whose resident memory is told. Files go
to a temporary folder. Up to ``FULL_TRIANGLES`` the surface is also drawn without levels of detail.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from farframe.asset.container import Asset
from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.link import LoadLimits
from farframe.render import Engine, FrameInput, Quality, RenderScene, prepare_asset
from tests.render.shapes import look_at

FULL_TRIANGLES = 10_000_000
FRAMES = 8
ROWS_AT_ONCE = 64
VIEWS = {"far": 6.0, "close": 2.2, "distant": 40.0}


def surface(triangles: int, folder: Path) -> Model:
    """A closed bumpy sphere of about so many triangles, its arrays mapped from files."""
    stacks = max(4, round((triangles / 4) ** 0.5))
    slices = 2 * stacks
    count = (stacks + 1) * (slices + 1)
    vertices = np.memmap(folder / "vertices", VERTEX_DTYPE, "w+", shape=(count,))
    indices = np.memmap(folder / "indices", np.uint32, "w+", shape=(stacks * slices * 6,))
    phi = 2 * np.pi * np.arange(slices + 1) / slices
    phi[-1] = 0.0  # both sides of the seam are at the same place
    for first in range(0, stacks + 1, ROWS_AT_ONCE):
        theta = np.pi * np.arange(first, min(first + ROWS_AT_ONCE, stacks + 1))[:, None] / stacks
        unit = np.stack(np.broadcast_arrays(np.sin(theta) * np.cos(phi), np.cos(theta), -np.sin(theta) * np.sin(phi)))
        x, y, z = unit
        bumps = 0.03 * np.sin(20 * x) * np.sin(17 * y) * np.sin(23 * z)
        bumps += 0.002 * np.sin(300 * x) * np.sin(270 * y) * np.sin(330 * z)
        rows = vertices[first * (slices + 1) : (first + len(theta)) * (slices + 1)]
        rows["position"] = (unit * (1.0 + bumps)).reshape(3, -1).T
        rows["normal"][:, :3] = np.rint(unit.reshape(3, -1).T * 127)
        rows["color"] = 255
    for row in range(stacks):
        a = row * (slices + 1) + np.arange(slices)
        b = a + slices + 1
        indices[row * slices * 6 : (row + 1) * slices * 6] = np.stack([a, b, a + 1, a + 1, b, b + 1], -1).reshape(-1)
    low, high = (-1.04, -1.04, -1.04), (1.04, 1.04, 1.04)
    return Model(
        name=f"{triangles} triangles",
        vertices=vertices,
        indices=indices,
        parts=[Part(0, count, (Level(0, len(indices), 0.0),), 0, low, high)],
        materials=[Material(base_color=(0.7, 0.4, 0.3, 1.0), metallic=0.0, roughness=0.6)],
        textures=[],
        nodes=[Node("root", -1, np.eye(4))],
        instance_part=np.zeros(1, np.int32),
        instance_node=np.zeros(1, np.int32),
        instance_matrix=np.eye(4)[None],
        bounds_min=low,
        bounds_max=high,
    )


def resident_bytes() -> int:
    """What this process holds in memory now, mapped files that others could drop left out."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def _frame(engine: Engine, scene: RenderScene, distance: float) -> tuple[float, int]:
    view = look_at((0.0, 0.3 * distance, distance), near=distance * 0.01, far=distance * 10)
    frame = engine.render(FrameInput((view,), 1280, 720, Quality(samples=1), scene))
    result = (frame.read_back - frame.draw_start, frame.triangles)
    frame.release()
    return result


def _measure(engine: Engine, scene: RenderScene) -> dict[str, Any]:
    views = {}
    for name, distance in VIEWS.items():
        while True:
            _frame(engine, scene, distance)
            if engine.residency.idle:
                break
            while not (engine.residency.pending or engine.residency.idle):
                time.sleep(0.001)
        frames = [_frame(engine, scene, distance) for _ in range(FRAMES)]
        views[name] = {"ms": round(min(frames)[0] * 1000, 1), "triangles": frames[0][1]}
    return views


def _draw(path: Path, answers: Any) -> None:
    engine = Engine.create()
    engine.warm_up()
    before = resident_bytes()
    start = time.perf_counter()
    prepared = prepare_asset(Asset.open(FileSource(path), LoadLimits()))
    resource = engine.open_asset(prepared)
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    _frame(engine, scene, VIEWS["far"])
    first = time.perf_counter() - start
    views = _measure(engine, scene)
    answers.put(
        {
            "adapter": engine.adapter_name,
            "first_picture_seconds": round(first, 3),
            "with_lod": views,
            "pages_mb": engine.residency.used_bytes >> 20,
            "resident_mb": resident_bytes() >> 20,
            "resident_before_mb": before >> 20,
        }
    )
    engine.close()


def _draw_full(model: Model, answers: Any) -> None:
    engine = Engine.create()
    engine.warm_up()
    start = time.perf_counter()
    scene = RenderScene()
    scene.add(engine.upload(model), np.eye(4))
    _frame(engine, scene, VIEWS["far"])
    first = time.perf_counter() - start
    views = _measure(engine, scene)
    answers.put({"first_picture_seconds": round(first, 3), "without_lod": views, "resident_mb": resident_bytes() >> 20})
    engine.close()


def _apart(work: Any, argument: Any) -> dict[str, Any]:
    """Run ``work`` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=work, args=(argument, answers))
    process.start()
    found: dict[str, Any] = answers.get(timeout=600)
    process.join()
    return found


def run(*, quick: bool = False, sizes: tuple[int, ...] = (1_000_000,)) -> dict[str, Any]:
    """The figures by number of triangles. ``quick``: a tenth of each size."""
    figures = {}
    for size in sizes:
        triangles = size // 10 if quick else size
        with tempfile.TemporaryDirectory(prefix="farframe-scale-") as name:
            folder = Path(name)
            model = surface(triangles, folder)
            path = folder / "asset.arrAsset"
            start = time.perf_counter()
            report = build_asset(model, path, BuildOptions())
            figures[str(triangles)] = {
                "source_triangles": report.triangles,
                "build_seconds": round(time.perf_counter() - start, 1),
                "file_mb": report.bytes >> 20,
                **_apart(_draw, path),
            }
            if triangles <= FULL_TRIANGLES:
                figures[str(triangles)]["full"] = _apart(_draw_full, model)
        print(json.dumps({str(triangles): figures[str(triangles)]}, indent=2), flush=True)
    return figures


if __name__ == "__main__":
    run(sizes=tuple(int(argument) for argument in sys.argv[1:]) or (1_000_000,))
