"""What lies in deploy/ fits the program: its modules, its settings, the files that are copied."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from farframe.service.config import CONFIG_KEYS, CONFIG_VARIABLE, environment_name, load_config

ROOT = Path(__file__).resolve().parents[2]
UNIT = (ROOT / "deploy" / "farframe.service").read_text()
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
KNOWN = {environment_name(key) for key in CONFIG_KEYS} | {CONFIG_VARIABLE}

each_file = pytest.mark.parametrize("text", [UNIT, CONTAINERFILE], ids=["unit", "container"])


@each_file
def test_modules_and_variables_exist(text: str) -> None:
    modules = set(re.findall(r'-m"?,? "?(farframe[\w.]+)', text))
    assert "farframe.service" in modules
    assert all(importlib.util.find_spec(module) for module in modules)
    variables = dict(re.findall(r"(FARFRAME_[A-Z_]+)=(\S+)", text))
    assert variables
    assert set(variables) <= KNOWN
    load_config({name: value for name, value in variables.items() if name != CONFIG_VARIABLE})


@each_file
def test_commands_in_the_remarks_exist(text: str) -> None:
    commands = set(re.findall(r"^  ([a-z]+)\)", (ROOT / "dev").read_text(), re.M))
    assert set(re.findall(r"\./dev ([a-z]+)", text)) <= commands
    named = set(re.findall(r"deploy/\w[\w.]*", text))
    assert named
    assert all((ROOT / name).exists() for name in named)


def test_settings_that_the_remarks_name_exist() -> None:
    named = set(re.findall(r"\b(keep_sessions|\w+_seconds|port_m\w+|public_\w+)\b", UNIT + CONTAINERFILE))
    assert named
    assert named <= set(CONFIG_KEYS)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "farframe.service"
    unit.write_text(UNIT.replace("/opt/farframe/bin/python", sys.executable))
    done = subprocess.run([program, "verify", unit], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_container_copies_exists_and_is_all_that_a_wheel_needs() -> None:
    sources = [name for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.M) for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in sources)
    project = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r'(?:readme|license-files|file) = \[?"([\w.]+)"', project):
        assert name in sources
    # Signals must reach the service, not a shell.
    assert re.search(r"^ENTRYPOINT \[", CONTAINERFILE, re.M)
    assert re.search(r"^USER (?!root|0)\w+$", CONTAINERFILE, re.M)
