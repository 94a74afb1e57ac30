"""The frames of a connected device, and what is measured of them. A part of
:class:`~farframe.client.runtime.RuntimeConnection`."""

from __future__ import annotations

import asyncio
import os
import statistics
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farframe.client._clock import ClockAlignment, now_us
from farframe.client._reports import REPORT_INTERVAL_SECONDS, FrameReporter
from farframe.client.errors import RequestTimeoutError, RuntimeConnectionError
from farframe.client.frame import Frame, FrameStream, Matcher, Picture, StillTracker, timings_of
from farframe.client.performance import ConnectionStatistics, FrameMeter, FrameStatistics
from farframe.protocol.errors import Result
from farframe.protocol.messages import Message, StatisticsResult, T, VideoResult
from farframe.protocol.performance import PerformanceAssessment
from farframe.protocol.records import PoseRecord, ReportedFrame, encode_report

if TYPE_CHECKING:
    from farframe.client._pose_pace import PosePace
    from farframe.client._reconnection import Reconnection
    from farframe.client._rpc import Caller
    from farframe.client._transport import Transport
    from farframe.client.recording import ProgressCallback, Recording
    from farframe.client.scene import Scene

STATISTICS_WINDOW_US = 1_000_000


@dataclass(slots=True)
class _Seen:
    """A frame for the statistics: when it was decoded and how long after its pose, microseconds."""

    decoded_us: int
    latency_us: int | None


class Receiving:
    """Frames as they come, each with its record, to whoever iterates, records or waits for them."""

    if TYPE_CHECKING:
        _transport: Transport
        _caller: Caller
        _video: VideoResult
        _watch: bool
        _closed: bool
        _error: RuntimeConnectionError | None
        _pose: PoseRecord | None
        _pose_seen: asyncio.Event
        scene: Scene
        _pose_pace: PosePace
        _return: Reconnection

        def _require_open(self) -> None: ...

        async def _call(self, method: str, params: Message | None, kind: type[T]) -> T: ...

    def __init__(self) -> None:
        super().__init__()
        self._clock = ClockAlignment()
        self._reporter = FrameReporter(self._clock)
        self._report_due = asyncio.Event()
        self._matcher = Matcher()
        self._tracker = StillTracker()
        self._streams: weakref.WeakSet[FrameStream] = weakref.WeakSet()
        self._recordings: list[Recording] = []
        self._newest: Frame | None = None
        self._changed = asyncio.Event()
        self._seen: deque[_Seen] = deque(maxlen=1000)
        self._frame_count = 0
        self._meter = FrameMeter()
        self._bad_records = 0

    async def statistics(self) -> ConnectionStatistics:
        """What this device and the server measured over the last second."""
        server = await self._call("statistics.get", None, StatisticsResult)
        since = now_us() - STATISTICS_WINDOW_US
        recent = [seen for seen in self._seen if seen.decoded_us >= since]
        latencies = [seen.latency_us for seen in recent if seen.latency_us is not None]
        round_trip = self._clock.round_trip_us
        return ConnectionStatistics(
            frames_per_second=float(len(recent)),
            frames_received=self._frame_count,
            frames_without_record=self._matcher.unmatched,
            latency_ms=statistics.median(latencies) / 1000 if latencies else None,
            round_trip_ms=None if round_trip is None else round_trip / 1000,
            bad_messages=self._bad_records + self._caller.bad_messages,
            server=server,
        )

    def frame_statistics(self) -> FrameStatistics:
        """What this device saw of the stream in the last second, with the names and units (seconds) of Azure Remote
        Rendering. Asks nobody. What belongs to showing frames needs :meth:`presented`."""
        return self._meter.read(now_us())

    def presented(self, frame: Frame, displayed_us: int | None = None) -> None:
        """Say that ``frame`` is handed to the display now, again if it was before; ``displayed_us``: when it was seen
        there, microseconds of the monotonic clock, if that is known."""
        self._meter.presented(frame.decoded_us, now_us(), displayed_us)

    async def performance_assessment(self) -> PerformanceAssessment:
        """What the server says of its last second: values with a rating each, absent where it cannot know."""
        return await self._call("performance.assess", None, PerformanceAssessment)

    async def _report_frames(self) -> None:
        """Tell the server, in batches, which frames came, and when."""
        while self._error is None:
            await self._report_due.wait()
            await asyncio.sleep(REPORT_INTERVAL_SECONDS)
            self._report_due.clear()
            report = self._reporter.take()
            if report is not None and not self._watch:
                self._transport.send_pose(encode_report(report))

    def _deliver(self, picture: Picture, record: Any) -> None:
        self._reporter.add(ReportedFrame(picture.rtp_timestamp, picture.received_us, picture.decoded_us))
        self._report_due.set()
        self._tracker.add(record)
        self._pose_pace.heard()
        frame = Frame(
            picture.video_frame,
            record,
            received_us=picture.received_us,
            decoded_us=picture.decoded_us,
            timings=None
            if record is None
            else timings_of(record, self._clock, picture.received_us, picture.decoded_us),
            is_still=self._tracker.still,
        )
        self._newest = frame
        self._frame_count += 1
        latency = frame.timings.total if frame.timings else None
        self._meter.came(
            picture.decoded_us,
            pose_id=None if record is None else record.pose_id,
            latency_us=None if latency is None else int(latency * 1000),
        )
        self._seen.append(_Seen(picture.decoded_us, None if latency is None else int(latency * 1000)))
        if record is not None and self._pose is not None and record.pose_id == self._pose.pose_id:
            self._pose_seen.set()
        for stream in self._streams:
            stream.put(frame)
        self._announce_change()

    def frames(self, *, buffer: int = 1) -> FrameStream:
        """The frames as they come; see :class:`FrameStream`. Any number may be iterated at once.

        A reader that is slower than the stream gets the newest frame each time, unless ``buffer`` lets more of them
        wait: whoever needs every frame asks for as many as come while it is busy. Raises ValueError for less than 1.
        """
        stream = FrameStream(self._newest, buffer)
        if self._error is not None:
            stream.end(None if self._closed else self._error)
        self._streams.add(stream)
        return stream

    def _request_keyframe(self) -> None:
        if self._error is None:
            self._transport.request_keyframe()

    def record(
        self,
        path: str | os.PathLike[str],
        *,
        keyframe_seconds: float = 10.0,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Recording:
        """Write the video as it comes to an MP4 file, without encoding it again, until the recording is stopped.

        ``async with connection.record("out.mp4") as recording: await recording.wait(30)``. A keyframe is asked for
        at the beginning and then every ``keyframe_seconds``. ``progress`` is called with each frame. See
        :mod:`farframe.client.recording` for what the files are. Raises LocalFileError when the folder does not exist
        or a file is there already, unless ``overwrite``; ValueError for a name that does not end in ``.mp4``.
        """
        from farframe.client.recording import start_recording

        self._require_open()
        recording = start_recording(
            Path(path),
            request_keyframe=self._request_keyframe,
            on_stopped=self._recordings.remove,
            keyframe_seconds=keyframe_seconds,
            overwrite=overwrite,
            progress=progress,
        )
        self._recordings.append(recording)
        return recording

    async def wait_for_still(self, timeout: float = 30.0) -> Frame:
        """The first full-quality frame that shows the newest pose and everything that was loaded or changed so far.

        Raises RequestError for a change that was refused, as :meth:`~farframe.client.Scene.flush` does,
        RequestTimeoutError after ``timeout`` seconds, and why the connection ended.
        """
        self._require_open()
        try:
            async with asyncio.timeout(timeout):
                await self._changes_done()
                while True:
                    self._require_open()
                    views, pose = (None, None) if self._pose is None else (self._pose.views, self._pose.pose_id)
                    if self._newest is not None and self._size_fits(self._newest) and self._tracker.shows(views, pose):
                        return self._newest
                    await self._changed.wait()
        except TimeoutError:
            raise RequestTimeoutError(
                Result.FAIL,
                f"No full-quality picture came within {timeout:g} seconds.",
                next_step="Wait longer, or ask for a smaller picture.",
            ) from None

    async def _changes_done(self) -> None:
        """Wait until the server has done what was set so far; where the line breaks meanwhile, over the next one."""
        while True:
            await self._return.settled.wait()
            try:
                return await self.scene.flush()
            except RuntimeConnectionError:
                self._require_open()
                if self._return.settled.is_set():
                    raise

    def _size_fits(self, frame: Frame) -> bool:
        return (frame.width, frame.height) == (self._video.width, self._video.height)

    def _announce_change(self) -> None:
        """Wake all who wait for a frame or for the end; later waiters wait for the next one."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
