"""Broken files in the real sandbox: whatever they hold, the conversion ends with a result file that names the fault.

The fast tests run the named damage of some endings and a seeded sample; ``./dev soak`` runs everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from farframe.protocol.conversion import ConversionEnd, ConversionLimits, ConversionOrder, StoragePlace
from tests.convert import broken_files

SOAK = os.environ.get("FARFRAME_SOAK", "") not in ("", "0")
SAMPLE = range(6)
ALL = range(2_000)
LIMITS = ConversionLimits(memory_bytes=1024**3, disk_bytes=256 * 1024**2, seconds=60.0)
NAMED = list(broken_files.named())
SAMPLED = ("a cycle of nodes", "a buffer outside", "a lie about a count", "indices out of range", "deep json")


@contextlib.contextmanager
def in_folders(tmp_path: Path, ending: str, data: bytes) -> Iterator[ConversionOrder]:
    for name in ("in", "out", "job"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / f"in/model.{ending}").write_bytes(data)
    (tmp_path / "in/triangle.bin").write_bytes(broken_files.BUFFER)
    yield ConversionOrder(
        conversion_id="broken",
        folder=str(tmp_path / "job"),
        source=StoragePlace(kind="file", container=str(tmp_path / "in")),
        target=StoragePlace(kind="file", container=str(tmp_path / "out")),
        asset=f"model.{ending}",
        base_name="model",
        limits=LIMITS,
        allowed_folders=(str(tmp_path / "in"),),
        writable_folders=(str(tmp_path / "out"),),
        thumbnail=False,
    )


def check(tmp_path: Path, name: str, ending: str, data: bytes) -> ConversionEnd:
    """Convert; whatever came of it must be told, and must be all that is there."""
    with in_folders(tmp_path, ending, data) as order:
        done = subprocess.run(
            [sys.executable, "-c", _RUN],
            input=msgspec.json.encode(order) + b"\n",
            capture_output=True,
            timeout=170,
            check=False,
        )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (name, done.stderr[-2000:])
    end = msgspec.json.decode(lines[-1], type=ConversionEnd)
    result = json.loads((tmp_path / "out/model.result.json").read_bytes())
    told = [entry for entry in result if "error" in entry or "internal error" in entry]
    if end.code:
        assert end.code == "ConversionProcessFailed", (name, end)
        assert result[-1] == {"result": "failed"}, (name, result)
        assert len(told) == 1, (name, result)
        assert told[0]["title"], (name, result)
        assert told[0]["details"], (name, result)
        assert not (tmp_path / "out/model.arrAsset").exists(), name
    else:
        assert result[-1]["result"].startswith("succeeded"), (name, result)
        assert (tmp_path / "out/model.arrAsset").exists(), name
        assert told == [], (name, result)
    text = (tmp_path / "out/model.result.json").read_text()
    assert "root:" not in text, name
    return end


# The order comes through a pipe that stays open until the job has ended, as the service keeps it.
_RUN = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-m", "farframe.convert.job"], stdin=subprocess.PIPE)
process.stdin.write(sys.stdin.buffer.readline())
process.stdin.flush()
sys.exit(process.wait())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ending", "data"), [each for each in NAMED if each[0] in SAMPLED], ids=lambda value: str(value)[:40]
)
def test_named_damage(tmp_path: Path, name: str, ending: str, data: bytes) -> None:
    assert check(tmp_path, name, ending, data).code == "ConversionProcessFailed"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SAMPLE)
def test_a_sample_of_damage(tmp_path: Path, seed: int) -> None:
    check(tmp_path, *broken_files.damaged(seed, broken_files.wholes(None)))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_everything(tmp_path: Path) -> None:
    """All of the named damage, and two thousand seeds over small real files as well."""
    models = os.environ.get("FARFRAME_TEST_MODELS")
    wholes = broken_files.wholes(Path(models) if models else None)
    count = ALL if SOAK else SAMPLE
    cases = [*NAMED, *(broken_files.damaged(seed, wholes) for seed in count)]
    for number, (name, ending, data) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        check(folder, name, ending, data)
