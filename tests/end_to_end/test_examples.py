"""What README, docs and examples show in Python, run as it stands there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farframe.client import RemoteRenderingClient
from tests.end_to_end.harness import RunningService, spread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SHOWN = [
    pytest.param(block, id=f"{path.relative_to(ROOT).as_posix()}:{number}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S))
]


@pytest.fixture(autouse=True)
def default_connection(service: RunningService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Examples name no connection file: theirs is the default one. What they write goes to a folder of their own."""
    monkeypatch.setenv("FARFRAME_CONNECTION", str(service.connection_path))
    monkeypatch.chdir(tmp_path)


async def live_sessions(service: RunningService) -> set[str]:
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        return {session.id async for session in client.list_sessions()}


@pytest.mark.parametrize("source", SHOWN)
def test_python_in_the_documents_runs(service: RunningService, source: str) -> None:
    before = asyncio.run(live_sessions(service))
    code = compile(source, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, object] = {"__name__": "__main__"}
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
        assert names.keys() & {"frame", "shared"}, "an example has a result"
        if frame := names.get("frame"):  # its last line says what that is
            assert frame.image.shape == (720, 1280, 3)
            assert frame.is_still
            assert spread(frame.image) > 15
    else:
        exec(code, names)
    assert asyncio.run(live_sessions(service)) == before


def test_the_example_that_saves_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "engine.png"
    words = [sys.executable, ROOT / "examples" / "render_picture.py"]
    done = subprocess.run(
        [*words, "builtin://Engine", out], check=False, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "upload: 100%" in done.stdout
    assert f"{out}: " in done.stdout
    with Image.open(out) as picture:
        assert picture.size == (1280, 720)
    assert subprocess.run(words, check=False, capture_output=True, timeout=60).returncode == 1


async def test_the_example_that_flies_around(capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(ROOT / "examples" / "orbit.py"))
    names["main"].__globals__["SECONDS"] = 4.0
    await names["main"]("builtin://Engine")
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.match(r"\d+ frames/s, pose to picture \d+ ms: draw [\d.]+, encode [\d.]+, ", line) for line in lines)


def test_the_example_that_takes_a_model_apart(service: RunningService, tmp_path: Path) -> None:
    pictures = []
    for name in ("render_picture.py", "explode.py"):
        out = tmp_path / f"{name}.png"
        words = [sys.executable, ROOT / "examples" / name, "builtin://Engine", out]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=180, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with Image.open(out) as picture:
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
    assert re.search(r"in front: '.+' of \d{2,} entities, \d", done.stdout)
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 24).mean() > 0.05
    orange = (pictures[1][..., 0] > 180) & (pictures[1][..., 2] < 90)
    assert orange.mean() > 0.0005, "the tinted part is seen"


def run_example(name: str, tmp_path: Path) -> tuple[np.ndarray, str]:
    """The picture that an example makes of the built-in engine, and what it says."""
    out = tmp_path / f"{name}.png"
    words = [sys.executable, ROOT / "examples" / name, "builtin://Engine", out]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=180, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(out) as picture:
        return np.asarray(picture.convert("RGB")).astype(int), done.stdout


def test_the_example_that_cuts_a_model_open(tmp_path: Path) -> None:
    pixels, said = run_example("cut_away.py", tmp_path)
    assert re.search(r"cut at z = -?\d\.\d{3} m", said)
    orange = (pixels[..., 0] > 200) & (np.abs(pixels[..., 1] - 140) < 50) & (pixels[..., 2] < 110)
    # Caps are not coloured: they take the place of backs that were.
    assert 0.002 < orange.mean() < 0.005, "what is next to the cut has its colour, and only that"


def test_the_example_that_points_a_part_out(tmp_path: Path) -> None:
    pixels, said = run_example("point_out.py", tmp_path)
    assert re.search(r"Crankshaft, of \d+ parts", said)
    green = (pixels[..., 1] > 180) & (pixels[..., 0] < 140) & (pixels[..., 2] < 170)
    assert 0.0005 < green.mean() < 0.05, "a line around it"
    colorful = pixels.max(axis=2) - pixels.min(axis=2) > 60
    assert (colorful & ~green).mean() < 0.02, "all else is pale"


def test_the_example_that_plays_an_animation(tmp_path: Path) -> None:
    """That the picture shows the moment that was asked for is the gallery's to test."""
    out = tmp_path / "mill.png"
    words = [sys.executable, ROOT / "examples" / "play_animation.py", out]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert "20 frames while they were played" in done.stdout, "pictures come although nobody moves anything"
    assert "the cap is still at (0.0, 0.0, 0.0, 1.0)" in done.stdout


def test_the_example_that_watches_how_well_it_goes(tmp_path: Path) -> None:
    words = [sys.executable, ROOT / "examples" / "performance.py", "builtin://Engine", "2"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    for name in ("time_cpu", "utilization_cpu", "memory_cpu", "network_latency", "polygons_rendered",
                 "latency_pose_to_receive", "latency_receive_to_present", "video_frames_received"):  # fmt: skip
        assert name in done.stdout, name
    assert re.search(r"polygons_rendered [1-9]\d* \((Great|Good|Mediocre|Bad)\)", done.stdout)
