"""farframe asset show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farframe.cli._app import run
from farframe.convert.build import BuildOptions, build_asset
from tests.convert.surfaces import model_of, sphere


@pytest.fixture(scope="module")
def asset_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("show") / "balls.arrAsset"
    model = model_of(sphere(9_000), sphere(300))
    model.nodes[1].name = "up\x1b[31m"
    build_asset(model, path, BuildOptions(workers=1))
    return path


def test_it_shows_levels_and_the_scene(asset_file, capsys):
    assert run(["asset", "show", str(asset_file)]) == 0
    shown = capsys.readouterr().out
    assert "surfaces" in shown and "largest error" in shown
    assert "root" in shown and "up?[31m" in shown and "\x1b[31m" not in shown


def test_numbers_as_json(asset_file, capsys):
    assert run(["asset", "show", str(asset_file), "--json", "--nodes", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parts"] == 2 and found["nodes"] == 3 and found["bytes"]["file"] == asset_file.stat().st_size
    assert found["levels"][0]["primitives"] == found["triangles"] and len(found["levels"]) > 3
    assert [level["primitives"] for level in found["levels"][:3]] == sorted(
        (level["primitives"] for level in found["levels"][:3]), reverse=True
    )
    assert found["tree"][-1]["node"] == "... 1 more nodes"


def test_files_that_are_no_assets(tmp_path, capsys):
    path = tmp_path / "x.arrAsset"
    path.write_bytes(b"no asset at all, but long enough to have a head, which is sixty-four bytes")
    assert run(["asset", "show", str(path)]) == 1
    assert "no sound asset" in capsys.readouterr().err
