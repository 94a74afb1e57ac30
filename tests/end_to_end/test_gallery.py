"""Every example that makes a picture makes the one in the gallery.

Pictures have gone through a video encoder and come back at a quality that depends on the machine's speed only while
something moves; still, encoders differ from version to version. So they are compared at half their size: at most
``MEAN_ERROR`` of 255 on average, and at most ``BAD_SHARE`` of the pixels off by more than ``BAD_DIFFERENCE``.
``FARFRAME_UPDATE_GALLERY=1`` writes the gallery anew instead: look at it before it is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.gallery import Example, examples, main

from tests.end_to_end.harness import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SIZE = (640, 360)
MEAN_ERROR = 2.0
BAD_DIFFERENCE = 40
BAD_SHARE = 0.01


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.path.stem)
def test_an_example_draws_its_picture(
    service: RunningService, example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARFRAME_CONNECTION", str(service.connection_path))
    out = tmp_path / "out.png"
    done = subprocess.run(
        [sys.executable, example.path, *example.arguments, out],
        check=False, capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Image.open(out) as picture:
        actual = picture.convert("RGB").resize(SIZE, Image.Resampling.BOX)
    if os.environ.get("FARFRAME_UPDATE_GALLERY") == "1":
        example.picture.parent.mkdir(parents=True, exist_ok=True)
        actual.save(example.picture, quality=92, subsampling=0)
        return
    with Image.open(example.picture) as picture:
        expected = np.asarray(picture.convert("RGB")).astype(int)
    difference = np.abs(np.asarray(actual).astype(int) - expected)
    failed = (
        f"{example.path.name}: mean {difference.mean():.2f}, off {(difference.max(axis=2) > BAD_DIFFERENCE).mean():.2%}"
    )
    assert difference.mean() <= MEAN_ERROR, failed
    assert (difference.max(axis=2) > BAD_DIFFERENCE).mean() <= BAD_SHARE, failed


def test_no_two_pictures_show_the_same() -> None:
    """A feature that does nothing would draw what another example draws."""
    pictures = {}
    for example in examples():
        with Image.open(example.picture) as picture:
            pictures[example.path.stem] = np.asarray(picture.convert("RGB")).astype(int)
    names = sorted(pictures)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            difference = np.abs(pictures[name] - pictures[other]).max(axis=2)
            assert (difference > BAD_DIFFERENCE).mean() > BAD_SHARE, f"{name} and {other} look alike"


def test_the_gallery_shows_what_the_examples_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--check"])
    assert main() == 0
