"""No background between clusters where normals or texture coordinates jump: there simplification would tear first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from farframe.asset.container import Asset
from farframe.render import AssetResource, Engine, RenderScene
from tests.convert import surfaces
from tests.render.shapes import look_at
from tests.render.test_assets import draw, random_residency, settle

PICTURES = 16


@pytest.fixture(params=["normals", "texture coordinates"])
def opened(
    engine: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Asset, AssetResource, RenderScene]]:
    """A closed, dented ball: every triangle with normals of its own, or with a textured chart that ends in a seam."""
    flat = request.param == "normals"
    model = surfaces.model_of(surfaces.sphere(30_000, flat=flat, uv=not flat), textured=not flat)
    asset, _ = surfaces.built(model, tmp_path)
    resource = engine.open_asset(asset)
    scene = RenderScene()
    scene.background = (0.0, 0.0, 1.0)
    scene.add(resource, np.eye(4))
    yield asset, resource, scene
    engine.release(resource)
    asset.close()


def test_no_background_shows_through_seams(
    engine: Engine, opened: tuple[Asset, AssetResource, RenderScene], monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, resource, scene = opened
    random = np.random.default_rng(11)
    resident = resource.pages.resident
    settle(engine, scene, look_at((0, 0, 2.2), aspect=1.0, degrees=20.0), cut_error=0.3)
    loaded = resident.copy()
    monkeypatch.setattr(engine.residency.streamer, "want", lambda requests: None)
    counts = set()
    for number in range(PICTURES):
        direction = random.normal(size=3)
        if number % 2:
            # Where the seam of the texture coordinates runs, from pole to pole on the side of +x.
            direction = np.array([1.0, random.uniform(-1.5, 1.5), random.uniform(-0.1, 0.1)])
        eye = direction / np.linalg.norm(direction) * random.uniform(1.5, 2.4)
        half = float(np.degrees(np.arcsin(0.55 / np.linalg.norm(eye))))
        resident[:] = loaded & random_residency(asset, random, float(random.uniform(0.7, 1.0))).resident
        error = float(random.choice([0.3, 1.0, 5.0, 40.0]))
        frame = draw(engine, scene, look_at(tuple(eye), aspect=1.0, degrees=half), cut_error=error)
        resident[:] = loaded
        counts.add(frame.triangles)
        blue = np.count_nonzero((frame.pixels[..., 2] > 200) & (frame.pixels[..., 0] < 50))
        assert blue == 0, f"{blue} pixels of background in picture {number}"
    assert len(counts) > PICTURES // 3
    # The check sees the background where there is nothing else.
    beside = draw(engine, scene, look_at((0, 0, 5.0), (3.0, 0, 0), aspect=1.0, degrees=20.0))
    assert np.count_nonzero((beside.pixels[..., 2] > 200) & (beside.pixels[..., 0] < 50)) > 1000
