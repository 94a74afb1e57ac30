"""What a device measures of its stream, what the server says of itself, and both over a time.

    ConnectionStatistics     of the last second, on this device and on the server
    FrameStatistics          of the last second, on this device, as Azure Remote Rendering tells it
    PerformanceAssessment    of the last second, on the server, with ratings
    ServiceStatistics        averages and maxima of many of both

Names and units are those of Azure Remote Rendering. Times of :class:`FrameStatistics` are seconds.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, fields
from typing import Any

from farframe.protocol.messages import StatisticsResult
from farframe.protocol.performance import PerformanceAssessment, PerformanceInformation, Rating

__all__ = [
    "ConnectionStatistics",
    "FrameMeter",
    "FrameStatistics",
    "PerformanceAssessment",
    "PerformanceInformation",
    "Rating",
    "ServiceStatistics",
    "Summary",
]

WINDOW_US = 1_000_000
KEPT = 1000


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """What this device saw of the stream, and what the server says (``server``).

    Rates are those of the last second. ``latency_ms`` is the median time from a pose to its decoded frame, ``None``
    without frames for a pose. ``frames_received`` counts decoded frames since the connection began,
    ``frames_without_record`` those of them whose record was lost.
    """

    frames_per_second: float
    frames_received: int
    frames_without_record: int
    latency_ms: float | None
    round_trip_ms: float | None
    bad_messages: int
    server: StatisticsResult


@dataclass(frozen=True, slots=True)
class FrameStatistics:
    """The last second of frames on this device. Times are means in seconds, ``None`` where nothing is known.

    What belongs to showing frames needs a program that tells when it does: :meth:`RuntimeConnection.presented`.
    """

    latency_pose_to_receive: float | None = None
    """From taking a pose to the first frame for it, decoded."""
    latency_receive_to_present: float | None = None
    latency_present_to_display: float | None = None
    """Known only where the program knows when a frame is on the display."""
    time_since_last_present: float | None = None
    """Between the last two times."""
    video_frames_received: int = 0
    video_frame_reused_count: int = 0
    """Times that a frame was shown that had been shown before."""
    video_frames_skipped: int = 0
    """Frames that were never shown, for a newer one was."""
    video_frames_discarded: int = 0
    """Frames that belong to no pose that is still of interest: an older one's, or one that was not told."""
    video_frame_min_delta: float | None = None
    """The least time between two frames that came one after the other."""
    video_frame_max_delta: float | None = None


@dataclass(slots=True)
class _Came:
    """A frame that was decoded. Times in microseconds of this device's clock."""

    decoded_us: int
    latency_us: int | None
    discarded: bool
    shown: bool = False


@dataclass(frozen=True, slots=True)
class _Shown:
    at_us: int
    wait_us: int
    display_us: int | None
    again: bool


class FrameMeter:
    """Counts frames that come and are shown. Microseconds of this device's monotonic clock."""

    def __init__(self) -> None:
        self._came: deque[_Came] = deque(maxlen=KEPT)
        self._by_time: dict[int, _Came] = {}
        self._shown: deque[_Shown] = deque(maxlen=KEPT)
        self._skipped: deque[int] = deque(maxlen=KEPT)
        self._newest_pose: int | None = None

    def came(self, decoded_us: int, *, pose_id: int | None, latency_us: int | None) -> None:
        """A frame was decoded; ``pose_id`` ``None``: what it shows is not known. ``latency_us`` since its pose."""
        newest = self._newest_pose
        behind = pose_id is not None and newest is not None and (pose_id - newest) % 2**32 >= 2**31
        fresh = pose_id is not None and pose_id != newest and not behind
        if fresh:
            self._newest_pose = pose_id
        frame = _Came(decoded_us, latency_us if fresh else None, pose_id is None or behind)
        if len(self._came) == self._came.maxlen:
            self._by_time.pop(self._came[0].decoded_us, None)
        self._came.append(frame)
        self._by_time[decoded_us] = frame

    def presented(self, decoded_us: int, at_us: int, displayed_us: int | None = None) -> None:
        """The frame that was decoded then was handed to the display, and perhaps seen there."""
        frame = self._by_time.get(decoded_us)
        again = frame is not None and frame.shown
        if frame is not None and not again:
            for other in reversed(self._came):
                if other.decoded_us >= decoded_us:
                    continue
                if other.shown:
                    break
                if not other.discarded:
                    self._skipped.append(at_us)
                # It is done with: it counts once.
                other.shown = True
            frame.shown = True
        display_us = None if displayed_us is None else max(0, displayed_us - at_us)
        self._shown.append(_Shown(at_us, max(0, at_us - decoded_us), display_us, again))

    def read(self, now_us: int) -> FrameStatistics:
        """The last second."""
        since = now_us - WINDOW_US
        came = [frame for frame in self._came if frame.decoded_us >= since]
        shown = [moment for moment in self._shown if moment.at_us >= since]
        before = [frame.decoded_us for frame in self._came if frame.decoded_us < since][-1:]
        times = [*before, *(frame.decoded_us for frame in came)]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        presents = [moment.at_us for moment in self._shown][-2:]
        return FrameStatistics(
            latency_pose_to_receive=_mean([frame.latency_us for frame in came]),
            latency_receive_to_present=_mean([moment.wait_us for moment in shown if not moment.again]),
            latency_present_to_display=_mean([moment.display_us for moment in shown]),
            time_since_last_present=(presents[1] - presents[0]) / 1e6 if len(presents) == 2 else None,
            video_frames_received=len(came),
            video_frame_reused_count=sum(moment.again for moment in shown),
            video_frames_skipped=sum(at_us >= since for at_us in self._skipped),
            video_frames_discarded=sum(frame.discarded for frame in came),
            video_frame_min_delta=min(gaps) / 1e6 if gaps else None,
            video_frame_max_delta=max(gaps) / 1e6 if gaps else None,
        )


def _mean(values: list[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) / 1e6 if known else None


@dataclass(frozen=True, slots=True)
class Summary:
    """One value over a time: its mean, its greatest, its sum, and of how many samples."""

    average: float
    maximum: float
    total: float
    samples: int


class ServiceStatistics:
    """Averages, maxima and sums of what was added, by field: of :class:`FrameStatistics` and, as ``time_cpu`` and so
    on, of the server's :class:`PerformanceAssessment`. Call :meth:`add` about once a second."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, frames: FrameStatistics, server: PerformanceAssessment | None = None) -> None:
        """One more second."""
        for item in fields(frames):
            self._add(item.name, getattr(frames, item.name))
        for name in server.__struct_fields__ if server is not None else ():
            information: Any = getattr(server, name)
            self._add(name, None if information is None else information.value)

    def _add(self, name: str, value: float | None) -> None:
        if value is not None:
            total = self._values.setdefault(name, [0.0, float("-inf"), 0.0])
            total[0] += value
            total[1] = max(total[1], value)
            total[2] += 1

    def __getitem__(self, name: str) -> Summary:
        """Of a field. Raises KeyError for one of which nothing is known."""
        total, maximum, count = self._values[name]
        return Summary(total / count, maximum, total, int(count))

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __str__(self) -> str:
        """A table of all that is known."""
        rows = [(name, self[name]) for name in self._values]
        return "\n".join(f"{name:<28} avg {row.average:12.4f}  max {row.maximum:12.4f}" for name, row in rows)
