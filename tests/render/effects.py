"""What tests of effects share: models and assets of them, and views in which pixels can be counted."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.model import Model
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.convert.points import PointCloud
from farframe.protocol.link import LoadLimits
from farframe.protocol.records import FieldOfView, View
from farframe.render import Engine, FrameInput, Quality, RenderScene
from farframe.render.placement import Resource
from tests.render.shapes import look_at


@contextlib.contextmanager
def opened(
    engine: Engine, model: Model | PointCloud, kind: str = "model", folder: Path | None = None
) -> Iterator[Resource]:
    """A model on the device, plainly or as an asset; gone at the end."""
    if kind == "model":
        assert isinstance(model, Model)
        plain = engine.upload(model)
        yield plain
        engine.release(plain)
        return
    assert folder is not None
    path = folder / "model.arrAsset"
    build_asset(model, path, BuildOptions(workers=1))
    asset = Asset.open(FileSource(path), LoadLimits())
    resource = engine.open_asset(asset)
    yield resource
    engine.release(resource)
    asset.close()


def black_scene() -> RenderScene:
    """A scene before black."""
    scene = RenderScene()
    scene.background = (0.0, 0.0, 0.0)
    return scene


def square_on(width: float, distance: float = 10.0, aspect: float = 1.0) -> View:
    """A view along -Z from (0, 0, ``distance``) in which ``width`` metres at z = 0 fill the picture's height."""
    degrees = 2.0 * math.degrees(math.atan(width / (2.0 * distance)))
    return look_at((0, 0, distance), degrees=degrees, aspect=aspect)


def parallel(width: float, distance: float = 10.0) -> View:
    """As :func:`square_on`, by parallel rays."""
    edge = width / 2.0
    sides = FieldOfView(-edge, edge, edge, -edge)
    return replace(square_on(width, distance), fov=sides, orthographic=True)


def draw(
    engine: Engine,
    scene: RenderScene,
    view: View,
    height: int,
    *,
    width: int | None = None,
    samples: int = 4,
    scale: float = 1.0,
    cut_error: float = 1.0,
) -> NDArray[np.uint8]:
    """The picture, once everything of it is on the device; as wide as high, unless it says so."""
    quality = Quality(samples=samples, scale=scale, cut_error=cut_error)
    for _ in range(200):
        frame = engine.render(FrameInput((view,), width or height, height, quality, scene))
        pixels = frame.pixels.copy()
        frame.release()
        if engine.residency.idle:
            return pixels
        engine.residency.upload()
    raise AssertionError("pages do not come")


def draw_with_depth(
    engine: Engine, scene: RenderScene, view: View, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A square picture of one sample, as it is now, and its depth in metres."""
    frame = engine.render(FrameInput((view,), height, height, Quality(samples=1), scene, read_depth=True))
    assert frame.depth is not None
    copies = frame.pixels.copy(), frame.depth.copy()
    frame.release()
    return copies
