"""A picture of a converted asset, rendered by our own engine in a sandbox: ``python -m farframe.convert.thumbnail``.

Reads one :class:`~farframe.protocol.conversion.ThumbnailOrder` as a JSON line on standard input. Exit status 0 means
that the picture is there: a square PNG of the asset from the front right and slightly above.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from farframe.convert.sandbox import Bounds, confine, die_with
from farframe.protocol.conversion import ThumbnailOrder
from farframe.protocol.records import FieldOfView, View

PIXELS = 512
FIELD_OF_VIEW_DEGREES = 30.0
DIRECTION = (0.62, 0.42, 1.0)
"""From the asset's middle to the eye."""

SECONDS = 100.0
MEMORY_BYTES = 4 * 1024**3
MAX_PICTURE_BYTES = 1024**3
MAX_FRAMES = 400
"""Frames after which what has been streamed in by then is good enough."""

_PAUSE_SECONDS = 0.02


def main() -> None:
    """Do the one order on standard input."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=ThumbnailOrder)
    die_with(order.parent)
    os.chdir(order.scratch_folder)
    os.environ["TMPDIR"] = order.scratch_folder
    os.environ["XDG_CACHE_HOME"] = order.scratch_folder
    os.nice(10)
    try:
        confine(
            Bounds(MEMORY_BYTES, MAX_PICTURE_BYTES, SECONDS),
            readable=[],
            writable=[Path(order.picture).parent, Path(order.scratch_folder)],
            devices=True,
        )
        draw(Path(order.asset), Path(order.picture), order.adapter)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def draw(path: Path, picture: Path, adapter: Literal["auto", "gpu", "cpu"]) -> None:
    """Render an asset and write a PNG. Raises FarframeError for an asset or a device that cannot be used."""
    from PIL import Image

    from farframe.asset.container import Asset
    from farframe.asset.source import FileSource
    from farframe.protocol.link import LoadLimits
    from farframe.render.engine import Engine
    from farframe.render.frame import FULL_QUALITY, FrameInput
    from farframe.render.scene import RenderScene

    asset = Asset.open(FileSource(path), LoadLimits())
    engine = Engine.create(adapter)
    resource = engine.open_asset(asset)
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    view = whole_view(asset.index.bounds_min, asset.index.bounds_max)
    wanted = FrameInput((view,), PIXELS, PIXELS, FULL_QUALITY, scene)
    pixels: NDArray[np.uint8] | None = None
    for _ in range(MAX_FRAMES):
        frame = engine.render(wanted)
        complete = engine.residency.idle
        pixels = frame.pixels.copy() if complete else pixels
        frame.release()
        if complete:
            break
        # What a frame asks for is read by other threads.
        time.sleep(_PAUSE_SECONDS)
    if pixels is None:
        frame = engine.render(wanted)
        pixels = frame.pixels.copy()
        frame.release()
    partial = picture.with_name(f".{picture.name}.part")
    Image.fromarray(pixels, "RGBA").save(partial, "PNG", optimize=True)
    partial.replace(picture)


def whole_view(low: Sequence[float], high: Sequence[float]) -> View:
    """A view in which a box, given by two corners in metres, fills a square picture."""
    least, most = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if not (np.isfinite(least).all() and np.isfinite(most).all() and (least <= most).all()):
        least, most = np.full(3, -0.5), np.full(3, 0.5)
    middle, radius = (least + most) / 2, max(float(np.linalg.norm(most - least)) / 2, 1e-3)
    backward = np.asarray(DIRECTION) / np.linalg.norm(DIRECTION)
    distance = radius / np.sin(np.radians(FIELD_OF_VIEW_DEGREES / 2))
    eye = middle + backward * distance
    right = np.cross([0.0, 1.0, 0.0], backward)
    right /= np.linalg.norm(right)
    up = np.cross(backward, right)
    m = np.stack([right, up, backward], axis=1)
    w = np.sqrt(max(0.0, 1 + m[0, 0] + m[1, 1] + m[2, 2])) / 2
    x, y, z = (m[2, 1] - m[1, 2]) / (4 * w), (m[0, 2] - m[2, 0]) / (4 * w), (m[1, 0] - m[0, 1]) / (4 * w)
    near, far = max(distance - radius * 1.1, distance * 1e-3), distance + radius * 1.1
    return View(
        (float(eye[0]), float(eye[1]), float(eye[2])),
        (float(x), float(y), float(z), float(w)),
        FieldOfView.symmetric(float(np.radians(FIELD_OF_VIEW_DEGREES)), 1.0),
        near,
        far,
    )


if __name__ == "__main__":
    main()
