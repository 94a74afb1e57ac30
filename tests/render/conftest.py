from __future__ import annotations

from collections.abc import Iterator

import pytest

from farframe.protocol.errors import FarframeError
from farframe.render import Engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """One engine for all tests, on the CPU adapter where there is one: its pictures are the same on every machine."""
    try:
        engine = Engine.create("cpu")
    except FarframeError:
        engine = Engine.create("auto")
    # Whether culling pays is measured: pictures are the same, but not what is counted. Its own tests turn it on.
    engine.occlusion_culling = False
    yield engine
    engine.close()
