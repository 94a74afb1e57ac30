"""What this device tells the server about the frames that it got: about ten small records a second.

The channel may lose records, so each frame is told twice, in two records one after the other; the server takes the
first that comes. A device that gets no frames sends nothing.
"""

from __future__ import annotations

from farframe.client._clock import ClockAlignment
from farframe.protocol.records import MAX_REPORTED_FRAMES, FrameReport, ReportedFrame

REPORT_INTERVAL_SECONDS = 0.1


class FrameReporter:
    """Collects frames; :meth:`take` gives the next report."""

    def __init__(self, clock: ClockAlignment) -> None:
        self._clock = clock
        self._new: list[ReportedFrame] = []
        self._told: list[ReportedFrame] = []

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._new)

    def add(self, frame: ReportedFrame) -> None:
        """A frame came. Only the latest are kept."""
        self._new.append(frame)
        if len(self._new) > MAX_REPORTED_FRAMES:
            del self._new[0]

    def take(self) -> FrameReport | None:
        """The frames that are new, and once more those of the report before; ``None`` if none is new."""
        if not self._new:
            return None
        again = self._told[-(MAX_REPORTED_FRAMES - len(self._new)) :] if len(self._new) < MAX_REPORTED_FRAMES else []
        report = FrameReport((*again, *self._new), self._clock.offset_us, self._clock.round_trip_us or 0)
        self._told, self._new = self._new, []
        return report
