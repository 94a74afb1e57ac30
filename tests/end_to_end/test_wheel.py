"""The wheel: everything is in it, and it runs without the source tree."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.harness import STOP_SECONDS, still_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
START_SECONDS = 120.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built as ``./dev wheel`` does."""
    assert (ROOT / "src/farframe/web_bundle/index.html").is_file(), "run ./dev setup first"
    folder = tmp_path_factory.mktemp("dist")
    words = [UV, "build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--python", sys.executable]
    done = subprocess.run(
        [*words, "--out-dir", folder, ROOT], check=False, capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_that_the_package_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    package = ROOT / "src" / "farframe"
    in_tree = {
        path.relative_to(ROOT / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_tree - names == set()
    # What Python's own packaging would not take along, by name: the tree could lack it as well.
    for name in (
        "py.typed",
        "web_bundle/index.html",
        "web_bundle/viewer/index.html",
        "web_bundle/inspector/index.html",
    ):
        assert f"farframe/{name}" in names
    for folder, ending in (
        ("web_bundle/assets", ".js"),
        ("web_bundle/assets", ".css"),
        ("store/migrations/versions", ".py"),
        ("render/shaders", ".wgsl"),
    ):
        assert any(name.startswith(f"farframe/{folder}/") and name.endswith(ending) for name in names), folder
    assert not [name for name in names if not name.startswith("farframe")], "only the package belongs into it"
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
    assert "License-Expression: Apache-2.0" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "farframe = farframe.cli:main" in scripts


def test_the_wheel_runs_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    target, data, work = tmp_path / "site", tmp_path / "data", tmp_path / "work"
    work.mkdir()
    install = [UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable]
    subprocess.run([*install, "--target", target, wheel], check=True, capture_output=True, timeout=120, cwd=work)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("FARFRAME_", "PYTHON"))},
        "PYTHONPATH": str(target),
    }
    where = subprocess.run(
        [sys.executable, "-c", "import farframe; print(farframe.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=work,
        env=environment,
    ).stdout.strip()
    assert Path(where).is_relative_to(target)

    log_path = tmp_path / "up.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "farframe.cli", "up", "--data", data, "--port", "0", "--http-port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=work,
            env=environment,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (data / "connection.json").exists():
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.05)
        base = json.loads((data / "connection.json").read_text())["httpUrl"]
        with httpx.Client(base_url=base, trust_env=False, timeout=60) as http:
            page = http.get("/viewer/")
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            assert {Path(asset).suffix for asset in assets} >= {".js", ".css"}
            for asset in assets:
                assert http.get(str(page.url.join(asset))).status_code == 200, asset
        # The whole way: the database's tables, a render server with its shaders, the sandboxed reader, the stream.
        render = [sys.executable, "-m", "farframe.cli", "--connection", data / "connection.json", "render"]
        options = ["builtin://Engine", "--out", tmp_path / "engine.png", "--size", "320x180"]
        done = subprocess.run(
            [*render, *options], check=False, capture_output=True, text=True, timeout=120, cwd=work, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "engine.png").stat().st_size > 2000
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, log_path.read_text()
        alive = still_running(children)
        assert not alive
    finally:
        if process.poll() is None:
            process.kill()
    assert not list(work.iterdir()), "it writes nothing but its data folder"
