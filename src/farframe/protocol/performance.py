"""How well a server does, with ratings and the names of Azure Remote Rendering.

    performance.assess    (none)    PerformanceAssessment

``docs/protocol.md`` is the same for people.
"""

from __future__ import annotations

from typing import Literal

from farframe.protocol.messages import Message

Rating = Literal["Great", "Good", "Mediocre", "Bad"]


class PerformanceInformation(Message):
    """A measured value and what to think of it."""

    value: float
    rating: Rating


class PerformanceAssessment(Message):
    """The server's last second. What this server cannot know is absent: it has no graphics processor, or its driver
    says nothing; no frame was drawn; the device reports nothing.

    ``time_cpu``, ``time_gpu``: milliseconds per frame; ``utilization_*`` and ``memory_*``: percent;
    ``network_latency``: milliseconds there and back; ``polygons_rendered``, ``points_rendered``: in the last picture.
    """

    time_cpu: PerformanceInformation | None = None
    time_gpu: PerformanceInformation | None = None
    utilization_cpu: PerformanceInformation | None = None
    utilization_gpu: PerformanceInformation | None = None
    memory_cpu: PerformanceInformation | None = None
    memory_gpu: PerformanceInformation | None = None
    network_latency: PerformanceInformation | None = None
    polygons_rendered: PerformanceInformation | None = None
    points_rendered: PerformanceInformation | None = None
