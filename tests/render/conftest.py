from __future__ import annotations

from collections.abc import Iterator

import pytest

from farframe.protocol.errors import FarframeError
from farframe.render import Engine


def _engine() -> Engine:
    """On the CPU adapter where there is one: its pictures are the same on every machine."""
    try:
        engine = Engine.create("cpu")
    except FarframeError:
        engine = Engine.create("auto")
    # Whether culling pays is measured: pictures are the same, but not what is counted. Its own tests turn it on.
    engine.occlusion_culling = False
    return engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """One engine for all tests."""
    engine = _engine()
    yield engine
    engine.close()


@pytest.fixture
def fresh() -> Iterator[Engine]:
    """An engine that has drawn nothing yet: in the one of all tests everything has been made long ago."""
    engine = _engine()
    yield engine
    engine.close()


@pytest.fixture(params=["model", "asset"])
def kind(request: pytest.FixtureRequest) -> str:
    """As what a model is drawn."""
    return str(request.param)


@pytest.fixture(params=["clipped", "thrown away"])
def way(request: pytest.FixtureRequest, engine: Engine) -> Iterator[str]:
    """Both ways of cutting: by the device, and by fragments where it cannot."""
    before = engine.pipelines.clips
    if request.param == "clipped" and not before:
        pytest.skip("this device does not clip triangles at planes")
    engine.pipelines.clips = request.param == "clipped"
    made, engine.pipelines._surfaces = engine.pipelines._surfaces, {}
    counted, engine._passes.caps._counting = engine._passes.caps._counting, {}
    yield request.param
    engine.pipelines.clips, engine.pipelines._surfaces, engine._passes.caps._counting = before, made, counted
