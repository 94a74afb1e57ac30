"""The rooms of the house know only what lies below them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import farframe

SOURCE = Path(farframe.__file__).parent

KNOWS = {
    "protocol": set(),
    "wire": set(),
    "scene": {"protocol"},
    "auth": {"protocol"},
    "asset": {"protocol"},
    "storage": {"protocol"},
    "convert": {"asset", "storage", "render", "protocol"},
    "store": {"wire", "protocol"},
    "render": {"scene", "asset", "protocol"},
    "stream": {"protocol"},
    "fleet": {"protocol"},
    "server": {"scene", "render", "stream", "asset", "storage", "auth", "protocol"},
    "service": {"store", "fleet", "storage", "auth", "wire", "protocol"},
    "client": {"wire", "protocol", "stream"},
    "cli": {"client", "asset", "wire", "protocol"},
}
"""What each room may import, besides itself and the package's own top."""


def imports(path: Path) -> set[str]:
    """The rooms that a module imports, wherever in it that happens."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom) and node.level > 0:
            raise AssertionError(f"{path}: imports are absolute here")
        for name in names:
            parts = name.split(".")
            if parts[0] == "farframe" and len(parts) > 1 and parts[1] in KNOWS:
                found.add(parts[1])
    return found


def test_every_room_is_listed() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert rooms <= set(KNOWS)


@pytest.mark.parametrize("room", sorted(KNOWS))
def test_arrows_point_down(room: str) -> None:
    for path in (SOURCE / room).rglob("*.py"):
        upward = imports(path) - KNOWS[room] - {room}
        assert not upward, f"{path.relative_to(SOURCE)} imports {sorted(upward)}"


def test_of_the_conversion_only_thumbnails_know_the_renderer() -> None:
    for path in (SOURCE / "convert").rglob("*.py"):
        assert path.name == "thumbnail.py" or "render" not in imports(path), path


def test_only_the_renderer_touches_wgpu_and_only_the_stream_touches_aiortc() -> None:
    owners = {"wgpu": "render", "aiortc": "stream", "aioice": "stream", "sqlalchemy": "store"}
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                owner = owners.get(name.split(".")[0])
                assert owner is None or owner == room, f"{path.relative_to(SOURCE)} imports {name}"
