"""Screenshot tests: a drawn picture against a committed reference.

Tolerance: the mean absolute error over all channels is at most ``MEAN_ERROR`` (of 255), and at most ``BAD_SHARE`` of
the pixels differ by more than ``BAD_DIFFERENCE`` in any channel. That lets drivers round and move an edge by a
subpixel, and nothing else. ``FARFRAME_UPDATE_REFERENCES=1`` rewrites the references instead.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REFERENCES = Path(__file__).parent / "references"
FAILURES = Path(__file__).parent / "failures"
MEAN_ERROR = 0.8
BAD_DIFFERENCE = 24
BAD_SHARE = 0.004


def assert_picture(name: str, actual: NDArray[np.uint8]) -> None:
    """Fail unless ``actual`` (h, w, 3 or 4) looks like ``references/NAME.png``."""
    actual = np.ascontiguousarray(actual[..., :3])
    path = REFERENCES / f"{name}.png"
    if os.environ.get("FARFRAME_UPDATE_REFERENCES") == "1":
        REFERENCES.mkdir(exist_ok=True)
        Image.fromarray(actual).save(path, optimize=True)
        return
    assert path.exists(), f"{path} is missing; FARFRAME_UPDATE_REFERENCES=1 makes it, then look at it"
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert actual.shape == expected.shape, f"{name}: drawn {actual.shape}, the reference is {expected.shape}"
    difference = np.abs(actual.astype(np.int16) - expected.astype(np.int16))
    mean = float(difference.mean())
    share = float((difference.max(axis=2) > BAD_DIFFERENCE).mean())
    if mean <= MEAN_ERROR and share <= BAD_SHARE:
        return
    FAILURES.mkdir(exist_ok=True)
    Image.fromarray(actual).save(FAILURES / f"{name}.actual.png")
    Image.fromarray(np.clip(difference * 4, 0, 255).astype(np.uint8)).save(FAILURES / f"{name}.difference.png")
    raise AssertionError(
        f"{name}: mean error {mean:.2f} (at most {MEAN_ERROR}), {share:.2%} of the pixels are off (at most "
        f"{BAD_SHARE:.2%}). Compare {FAILURES / name}.actual.png and .difference.png with {path}."
    )
