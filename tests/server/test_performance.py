"""Performance: values with their ratings, and nothing that is not known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from farframe.server.ledger import Ledger
from farframe.server.performance import (
    LATENCY_MILLISECONDS,
    GraphicsLoad,
    Nvidia,
    ProcessMeter,
    assess,
    cores,
    memory_percent,
    rate,
)
from tests.server.test_ledger import Place


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.spent = 5.0

    def wall(self) -> float:
        return self.now

    def processor(self) -> float:
        return self.spent


def test_ratings_fall_as_values_rise() -> None:
    values = (0.0, 30.0, 30.1, 60.0, 99.0, 100.0, 101.0, float("inf"))
    assert [rate(value, LATENCY_MILLISECONDS) for value in values] == [
        "Great", "Great", "Good", "Good", "Mediocre", "Mediocre", "Bad", "Bad",
    ]  # fmt: skip


def test_processor_time_is_that_of_the_last_second() -> None:
    clock = Clock()
    meter = ProcessMeter(wall=clock.wall, processor=clock.processor)
    for _ in range(300):
        clock.now += 1 / 60
        clock.spent += 0.005
        meter.frame()
    seconds, spent, frames = meter.read()
    assert 1.0 <= seconds < 1.2
    assert spent / seconds == pytest.approx(0.3, rel=0.05) and frames / seconds == pytest.approx(60, rel=0.05)
    clock.now += 10.0
    seconds, spent, frames = meter.read()
    assert seconds >= 10.0 and spent == pytest.approx(0, abs=0.1) and frames <= 6


def test_memory_is_of_the_containers_limit_if_there_is_one(tmp_path: Path) -> None:
    cgroup, proc = tmp_path / "cgroup", tmp_path / "proc"
    cgroup.mkdir()
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n")
    assert memory_percent(cgroup, proc) == pytest.approx(75)
    (cgroup / "memory.max").write_text("max\n")
    assert memory_percent(cgroup, proc) == pytest.approx(75)
    (cgroup / "memory.max").write_text("2000\n")
    (cgroup / "memory.current").write_text("1500\n")
    (cgroup / "memory.stat").write_text("anon 400\ninactive_file 500\n")
    assert memory_percent(cgroup, proc) == pytest.approx(50)
    assert memory_percent(tmp_path, tmp_path) is None
    assert cores() > 0


def assessed(ledger: Ledger, primitives: Any = None, **options: Any) -> Any:
    values: dict[str, Any] = {"graphics": None, "on_gpu": False, "frames_per_second": 60, "primitive_limit": None}
    return assess(ledger, SimpleNamespace(primitives=primitives), **{**values, **options})  # type: ignore[arg-type]


def test_what_is_not_known_is_not_told() -> None:
    ledger = Ledger(lambda: 0)
    clock = Clock()
    ledger.process = ProcessMeter(wall=clock.wall, processor=clock.processor)
    found = assessed(ledger)
    for name in ("time_cpu", "time_gpu", "utilization_cpu", "utilization_gpu", "memory_gpu", "network_latency",
                 "polygons_rendered", "points_rendered"):  # fmt: skip
        assert getattr(found, name) is None, name


def test_every_value_comes_from_where_it_is_measured() -> None:
    place = Place()
    ledger = place.ledger
    clock = Clock()
    ledger.process = ProcessMeter(wall=clock.wall, processor=clock.processor)
    for _ in range(60):
        clock.now += 1 / 30
        clock.spent += 0.020
        frame = place.send()
    ledger.round_trip_us = 42_000
    assert assessed(ledger).network_latency.value == 42.0, "by pings, while there are no reports"
    place.report(frame)
    found = assessed(
        ledger, (18_000_000, 500_000), graphics=GraphicsLoad(95.0, 65.0), on_gpu=True, primitive_limit=20_000_000
    )
    assert found.time_cpu.value == pytest.approx(20, rel=0.05)
    assert found.utilization_cpu.value == pytest.approx(60 / cores(), rel=0.05)
    assert (found.utilization_gpu.value, found.utilization_gpu.rating) == (95.0, "Bad")
    assert (found.memory_gpu.value, found.memory_gpu.rating) == (65.0, "Good")
    assert (found.network_latency.value, found.network_latency.rating) == (9.0, "Great")
    assert (found.polygons_rendered.value, found.points_rendered.value) == (18_000_000, 500_000)
    assert found.polygons_rendered.rating == found.points_rendered.rating == "Mediocre"
    assert found.time_gpu.value == pytest.approx(21)
    assert found.time_gpu.rating == "Bad", "a 60th of a second has 16.7 ms"
    assert assessed(ledger, (30_000_000, 0), primitive_limit=20_000_000).polygons_rendered.rating == "Bad"
    assert assessed(ledger, (30_000_000, 0)).polygons_rendered.rating == "Great"


def test_a_machine_without_the_driver_says_nothing() -> None:
    assert Nvidia("no such adapter").load() is None
