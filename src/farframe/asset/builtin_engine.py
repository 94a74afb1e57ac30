"""``builtin://Engine``: a four-cylinder turbocharged engine in cutaway, generated from code.

The model for demonstrations, benchmarks and tests: hundreds of part instances in a real hierarchy, no file, no
download, no licence but ours, and the same bytes on every machine.
"""

from __future__ import annotations

from farframe.asset.builtin.ancillaries import build_ancillaries
from farframe.asset.builtin.assembly import Assembly
from farframe.asset.builtin.bottom_end import build_bottom_end
from farframe.asset.builtin.exhaust import build_exhaust
from farframe.asset.builtin.front_drive import build_front_drive
from farframe.asset.builtin.induction import build_induction
from farframe.asset.builtin.top_end import build_top_end
from farframe.asset.model import Model

ROOMS = (
    build_bottom_end,
    build_top_end,
    build_front_drive,
    build_induction,
    build_exhaust,
    build_ancillaries,
)


def build_engine() -> Model:
    """Build the engine: metres, +Y up, crankshaft along X with the front toward +X, centred on the origin.

    At least 300 part instances and 200,000 triangles at full detail, one root node. Deterministic: no randomness, no
    clock, no environment. Each call builds a model of its own, which the caller may change.
    """
    engine = Assembly("Engine")
    for build in ROOMS:
        build(engine, 0)
    return engine.build()
