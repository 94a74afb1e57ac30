"""What size costs: frame time, memory and first picture of generated assets, beside the same surface drawn in full.

``python -m benchmarks.scale [TRIANGLES | FILE.arrAsset ...]``, one million without. A bumpy closed surface of so many
triangles is generated, converted, and drawn at 1280x720, each size in a process of its own, whose resident memory is
told. Files go to a temporary folder (100 million take 4 GB and, on two cores with nothing else to do, some five
minutes); an asset that was converted before is drawn as it is. Up to ``FULL_TRIANGLES`` the surface is also drawn
without levels of detail. Sizes are drawn in turns, so that what else the machine does falls on all of them; processor
time, of all threads, says more than wall time on a machine that is busy. ``ratio``: by the smallest size's.
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
FRAMES = 6
ROUNDS = 3
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


def _frame(engine: Engine, scene: RenderScene, distance: float) -> tuple[float, float, int, int]:
    """Wall and processor seconds, triangles drawn, and triangles in view that were left out as hidden."""
    view = look_at((0.0, 0.3 * distance, distance), near=distance * 0.01, far=distance * 10)
    cpu = time.process_time()
    frame = engine.render(FrameInput((view,), 1280, 720, Quality(samples=1), scene))
    cpu = time.process_time() - cpu
    result = (frame.read_back - frame.draw_start, cpu, frame.triangles, frame.hidden_triangles)
    frame.release()
    return result


def _settle(engine: Engine, scene: RenderScene, distance: float) -> None:
    while True:
        _frame(engine, scene, distance)
        if engine.residency.idle:
            return
        while not (engine.residency.pending or engine.residency.idle):
            time.sleep(0.001)


def _measure(engine: Engine, scene: RenderScene, asked: Any, answers: Any) -> None:
    """Frames of a view each time that one is asked for, so that several processes draw in turns."""
    settled = ""
    while (name := asked.get()) is not None:
        if name != settled:
            _settle(engine, scene, VIEWS[name])
            settled = name
        frames = [_frame(engine, scene, VIEWS[name]) for _ in range(FRAMES)]
        answers.put(
            {
                "ms": round(min(frame[0] for frame in frames) * 1000, 1),
                "cpu_ms": round(min(frame[1] for frame in frames) * 1000, 1),
                "triangles": frames[-1][2],
                "hidden": frames[-1][3],
            }
        )


def _draw(path: Path, asked: Any, answers: Any) -> None:
    engine = Engine.create()
    engine.warm_up()
    before = resident_bytes()
    start, cpu = time.perf_counter(), time.process_time()
    prepared = prepare_asset(Asset.open(FileSource(path), LoadLimits()))
    resource = engine.open_asset(prepared)
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    _frame(engine, scene, VIEWS["far"])
    opened = {
        "adapter": engine.adapter_name,
        "first_picture_seconds": round(time.perf_counter() - start, 3),
        "first_picture_cpu_seconds": round(time.process_time() - cpu, 3),
    }
    answers.put(opened)
    _measure(engine, scene, asked, answers)
    answers.put(
        {
            "pages_mb": engine.residency.used_bytes >> 20,
            "resident_mb": resident_bytes() >> 20,
            "resident_before_mb": before >> 20,
        }
    )
    engine.close()


def _draw_full(model: Model, asked: Any, answers: Any) -> None:
    engine = Engine.create()
    engine.warm_up()
    start = time.perf_counter()
    scene = RenderScene()
    scene.add(engine.upload(model), np.eye(4))
    _frame(engine, scene, VIEWS["far"])
    answers.put({"first_picture_seconds": round(time.perf_counter() - start, 3)})
    _measure(engine, scene, asked, answers)
    answers.put({"resident_mb": resident_bytes() >> 20})
    engine.close()


class _Apart:
    """``work`` in a process of its own, which draws when it is told to."""

    def __init__(self, work: Any, argument: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._asked, self._answers = context.Queue(), context.Queue()
        self._process = context.Process(target=work, args=(argument, self._asked, self._answers))
        self._process.start()
        self.figures: dict[str, Any] = self._answer()
        self.views: dict[str, dict[str, Any]] = {}

    def _answer(self) -> dict[str, Any]:
        found: dict[str, Any] = self._answers.get(timeout=600)
        return found

    def view(self, name: str) -> None:
        """Draw a view; the least times of all calls are kept."""
        self._asked.put(name)
        found = self._answer()
        before = self.views.get(name, found)
        self.views[name] = found | {key: min(found[key], before[key]) for key in ("ms", "cpu_ms")}

    def end(self) -> dict[str, Any]:
        """All figures."""
        self._asked.put(None)
        figures = self.figures | {"views": self.views} | self._answer()
        self._process.join()
        return figures


def _in_turns(drawn: dict[str, _Apart]) -> dict[str, dict[str, Any]]:
    for name in VIEWS:
        for _ in range(ROUNDS):
            for each in drawn.values():
                each.view(name)
    return {size: each.end() for size, each in drawn.items()}


def run(*, quick: bool = False, sizes: tuple[int, ...] = (1_000_000,), assets: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The figures by number of triangles, and of ``assets`` that are there. ``quick``: a tenth of each size."""
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="farframe-scale-") as name:
        drawn, full = {}, {}
        for size in sizes:
            triangles = size // 10 if quick else size
            folder = Path(name) / str(triangles)
            folder.mkdir()
            model = surface(triangles, folder)
            path = folder / "asset.arrAsset"
            start = time.perf_counter()
            report = build_asset(model, path, BuildOptions())
            figures[str(triangles)] = {
                "source_triangles": report.triangles,
                "build_seconds": round(time.perf_counter() - start, 1),
                "file_mb": report.bytes >> 20,
            }
            drawn[str(triangles)] = _Apart(_draw, path)
            if triangles <= FULL_TRIANGLES:
                full[str(triangles)] = model
        for path in assets:
            asset = Asset.open(FileSource(path), LoadLimits())
            count = str(int(asset.parts["triangles"].sum()))
            asset.close()
            figures[count] = {"source_triangles": int(count), "file_mb": path.stat().st_size >> 20}
            drawn[count] = _Apart(_draw, path)
        first = next(iter(drawn))
        for size, found in _in_turns(drawn).items():
            figures[size] |= found
            for view, values in found["views"].items():
                values["ratio"] = round(values["cpu_ms"] / figures[first]["views"][view]["cpu_ms"], 2)
        for size, model in full.items():
            figures[size]["full"] = _in_turns({size: _Apart(_draw_full, model)})[size]
    print(json.dumps(figures, indent=2), flush=True)
    return figures


if __name__ == "__main__":
    arguments = sys.argv[1:]
    run(
        sizes=tuple(int(each) for each in arguments if each.isdigit()) or (() if arguments else (1_000_000,)),
        assets=tuple(Path(each) for each in arguments if not each.isdigit()),
    )
