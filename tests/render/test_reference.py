"""Materials beside a path tracer's, under light that was measured: what ``./dev bench reference`` keeps, but small.

The tolerance of each row stands with the row and says why. The path tracer's own noise is part of the difference here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import reference
from farframe.render import Engine

pytestmark = pytest.mark.slow

SIZE, SAMPLES = 36, 144
EYE = (0.0, 0.0, 4.6)


@pytest.mark.parametrize("row", reference.rows(), ids=lambda row: row.name)
def test_materials_look_like_the_path_tracers(
    engine: Engine, models_folder: Path, row: reference.Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "rows", lambda: [row])
    figures = reference.compare_rows(engine, models_folder, SIZE, SAMPLES, None)[row.name]
    assert [round(sample["mean"], 1) for sample in figures["samples"] if sample["mean"] > row.tolerance] == []


def test_another_material_is_told_from_the_path_tracers(engine: Engine, models_folder: Path) -> None:
    """The comparison sees what it is to see: a wrong roughness, metalness or alpha is beyond each row's tolerance."""
    mi = reference.mitsuba()
    environment = reference.garden(models_folder)
    rows = {row.name: row for row in reference.rows()}
    for name, index, wrong in (
        ("roughness-metal", 4, {"roughness": 0.0}),
        ("metalness", 0, {"metallic": 1.0}),
        ("alpha-modes", 2, {"base_color": (0.75, 0.06, 0.05, 0.4)}),
        ("normal-map", 2, {"normal_scale": -1.0}),
    ):
        sample = rows[name].samples[index]
        other = replace(sample, material=replace(sample.material, **wrong))
        ours = reference.draw(engine, reference.model_of(other), environment, EYE, (0, 0, 0), (SIZE, SIZE))
        model = reference.model_of(sample)
        traced = reference.trace(
            mi, model, models_folder / reference.GARDEN, EYE, (0, 0, 0), (SIZE, SIZE), SAMPLES
        )  # fmt: skip
        covered = reference.interior(SIZE) if sample.flat else traced.covered
        difference = reference.compare(ours, traced.picture(), covered)
        assert difference.mean > rows[name].tolerance, name
