"""How well the server does: what its process, its machine and its frames say, and a rating for each.

    value                       from                                            Great   Good    Mediocre, else Bad
    time, CPU                   processor time of this process, per frame       50 %    80 %    100 % of the time
                                                                                between frames, times the cores
    time, GPU                   drawing until the picture is in memory          50 %    80 %    100 % of that time
    utilization, CPU and GPU    share of the cores; the driver                  50 %    75 %    90 %
    memory, CPU and GPU         the limit of the container, or the machine's    60 %    80 %    95 %
    network latency             the device's reports, or its pings              30 ms   60 ms   100 ms
    polygons and points         of what the session's size may draw             50 %    90 %    100 %

What cannot be known is left out. On a CPU adapter there is no graphics processor, and drawing is part of its time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farframe.protocol.performance import PerformanceAssessment, PerformanceInformation, Rating

if TYPE_CHECKING:
    from farframe.server.frame_loop import FrameLoop
    from farframe.server.ledger import Ledger

WINDOW_SECONDS = 1.0
"""Over so long, at least, processor time is taken."""
NOTE_SECONDS = 0.1
KEPT_NOTES = 32

TIME_SHARES = (0.5, 0.8, 1.0)
UTILIZATION_PERCENT = (50.0, 75.0, 90.0)
MEMORY_PERCENT = (60.0, 80.0, 95.0)
LATENCY_MILLISECONDS = (30.0, 60.0, 100.0)
PRIMITIVE_SHARES = (0.5, 0.9, 1.0)
RATINGS: tuple[Rating, Rating, Rating, Rating] = ("Great", "Good", "Mediocre", "Bad")


def rate(value: float, limits: tuple[float, float, float]) -> Rating:
    """The rating of a value of which less is better."""
    return RATINGS[sum(value > limit for limit in limits)]


def cores() -> float:
    """Processor cores that this process may use, by its affinity and its container's quota."""
    count = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, int(quota) / int(period))
    return count


def memory_percent(cgroup: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> float | None:
    """Memory in use, percent of the container's limit, or of the machine's memory where there is none."""
    with contextlib.suppress(OSError, ValueError):
        limit = (cgroup / "memory.max").read_text().strip()
        if limit != "max":
            used = int((cgroup / "memory.current").read_text())
            told = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
            # Files that were read and can be dropped at once are not in use.
            return 100.0 * max(0, used - int(told.get("inactive_file", "0"))) / int(limit)
    with contextlib.suppress(OSError, ValueError, KeyError):
        rows = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
        total, free = (int(rows[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
        return 100.0 * (1.0 - free / total)
    return None


@dataclass(frozen=True, slots=True)
class GraphicsLoad:
    """Percent of a graphics processor's time and memory that are in use, by anybody."""

    utilization: float
    memory: float


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Nvidia:
    """NVIDIA's management library, by ctypes. Answers nothing where it is not there, or where it cannot be told which
    of several graphics processors is meant."""

    def __init__(self, adapter_name: str) -> None:
        self._library: Any = None
        self._device = ctypes.c_void_p()
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL("libnvidia-ml.so.1")
            if library.nvmlInit_v2() == 0 and self._find(library, adapter_name):
                self._library = library

    def _find(self, library: Any, adapter_name: str) -> bool:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return False
        alike = []
        for index in range(count.value):
            device, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
            if (
                library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0
                and library.nvmlDeviceGetName(device, name, len(name)) == 0
                and name.value.decode(errors="replace") in adapter_name
            ):
                alike.append(device)
        if len(alike) != 1:
            return False
        self._device = alike[0]
        return True

    def load(self) -> GraphicsLoad | None:
        """What is in use now."""
        rates, memory = _Rates(), _Memory()
        if (
            self._library is None
            or self._library.nvmlDeviceGetUtilizationRates(self._device, ctypes.byref(rates)) != 0
            or self._library.nvmlDeviceGetMemoryInfo(self._device, ctypes.byref(memory)) != 0
            or not memory.total
        ):
            return None
        return GraphicsLoad(float(rates.gpu), 100.0 * memory.used / memory.total)


class ProcessMeter:
    """Processor time and frames of the last moments. ``wall`` and ``processor`` are clocks in seconds."""

    def __init__(
        self, *, wall: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.process_time
    ) -> None:
        self._wall = wall
        self._processor = processor
        self._frames = 0
        self._notes: deque[tuple[float, float, int]] = deque([(wall(), processor(), 0)], maxlen=KEPT_NOTES)

    def frame(self) -> None:
        """A frame was sent."""
        self._frames += 1
        now = self._wall()
        if now - self._notes[-1][0] >= NOTE_SECONDS:
            self._notes.append((now, self._processor(), self._frames))

    def read(self) -> tuple[float, float, int]:
        """Seconds, processor seconds and frames since a moment that lies at least :data:`WINDOW_SECONDS` back, if there
        is one."""
        now = (self._wall(), self._processor(), self._frames)
        old = [note for note in self._notes if now[0] - note[0] >= WINDOW_SECONDS]
        since = old[-1] if old else self._notes[0]
        if now[0] - self._notes[-1][0] >= NOTE_SECONDS:
            self._notes.append(now)
        return now[0] - since[0], now[1] - since[1], now[2] - since[2]


def assess(
    ledger: Ledger,
    frames: FrameLoop,
    *,
    graphics: GraphicsLoad | None,
    on_gpu: bool,
    frames_per_second: int,
    primitive_limit: int | None,
) -> PerformanceAssessment:
    """The server's last second, for a device that wants so many ``frames_per_second``."""
    interval_ms = 1000.0 / frames_per_second
    count = cores()
    seconds, processor_seconds, drawn = ledger.process.read()
    summary = ledger.summary()

    def told(value: float, rating: Rating) -> PerformanceInformation:
        return PerformanceInformation(value=round(value, 3), rating=rating)

    def percent(value: float, limits: tuple[float, float, float]) -> PerformanceInformation:
        return told(value, rate(value, limits))

    answer = PerformanceAssessment()
    if drawn > 0:
        per_frame = processor_seconds * 1000.0 / drawn
        answer.time_cpu = told(per_frame, rate(per_frame / (interval_ms * count), TIME_SHARES))
    if seconds > 0.0:
        share = 100.0 * processor_seconds / (seconds * count)
        answer.utilization_cpu = percent(min(share, 100.0), UTILIZATION_PERCENT)
    if on_gpu and summary.frames_per_second > 0.0:
        spent = summary.draw_ms + summary.read_back_ms
        answer.time_gpu = told(spent, rate(spent / interval_ms, TIME_SHARES))
    if graphics is not None:
        answer.utilization_gpu = percent(graphics.utilization, UTILIZATION_PERCENT)
        answer.memory_gpu = percent(graphics.memory, MEMORY_PERCENT)
    memory = memory_percent()
    if memory is not None:
        answer.memory_cpu = percent(memory, MEMORY_PERCENT)
    latency = _network_latency_ms(ledger)
    if latency is not None:
        answer.network_latency = told(latency, rate(latency, LATENCY_MILLISECONDS))
    if frames.primitives is not None:
        triangles, points = frames.primitives
        rating = rate((triangles + points) / primitive_limit, PRIMITIVE_SHARES) if primitive_limit else "Great"
        answer.polygons_rendered, answer.points_rendered = told(triangles, rating), told(points, rating)
    return answer


def _network_latency_ms(ledger: Ledger) -> float | None:
    """The pose's way here and the frame's way there, medians; or the device's round trip while no report tells them."""
    stages = ledger.stages()
    if "input" in stages and "network" in stages:
        return stages["input"].p50 + stages["network"].p50
    return None if ledger.round_trip_us is None else ledger.round_trip_us / 1000.0
