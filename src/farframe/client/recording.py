"""Recording a connection's video as it came: MP4, without decoding or encoding anything again.

    connection ── access unit (H.264, Annex B, 90 kHz time stamp) ──> Recording ──> thread ──> Mp4Segment ──> file

* A recording starts at a keyframe; one is asked for, and again every few seconds, so that players can seek.
* Time stamps are the stream's own. Nothing is sent while nothing moves, so frames have very different durations.
* The file is a fragmented MP4 (ISO/IEC 14496-12, 8.8) that is written below ``NAME.part`` a second at a time and gets
  its name when the recording ends in order. After a crash the ``.part`` file plays up to its last whole second.
* An MP4 track has one picture size. When the picture changes its size, the recording goes on in the next file:
  ``NAME.mp4``, ``NAME-2.mp4``, and so on, each beginning with a keyframe.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av

from farframe.client.errors import LocalFileError

if TYPE_CHECKING:
    from farframe.stream.jitter import AssembledFrame

CLOCK_RATE_HZ = 90_000
TIME_BASE = Fraction(1, CLOCK_RATE_HZ)

FRAGMENT_MICROSECONDS = 1_000_000
"""A fragment is what a crash may cost."""

DEFAULT_KEYFRAME_SECONDS = 10.0
FIRST_FRAME_SECONDS = 10.0
"""How long a recording of so many seconds waits for its first frame: who watches shares keyframes with others."""

KEYFRAME_PATIENCE_SECONDS = 1.0
"""A keyframe that was asked for and did not come is asked for again after this long."""

LAST_FRAME_SECONDS = 1 / 60
"""How long the last frame is shown at least: nobody knows when the next would have come."""

MAX_QUEUED_FRAMES = 600
"""A disk that is further behind than this ends the recording instead of filling the memory."""

MAX_STREAM_JUMP_SECONDS = 5.0
"""Time stamps that run ahead of the clock by more are those of another stream."""

_KEYFRAME, _SEQUENCE_PARAMETERS = 5, 7
"""Types of H.264 NAL units (ITU-T H.264, table 7-1)."""


def nal_types(data: bytes) -> set[int]:
    """The types of the NAL units of an access unit in Annex B format."""
    found = set()
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        found.add(data[at + 3] & 0x1F)
        at = data.find(b"\x00\x00\x01", at + 3)
    return found


def is_keyframe(data: bytes) -> bool:
    """Whether a decoder can begin here: an IDR picture that brings its parameter sets."""
    types = nal_types(data)
    return _KEYFRAME in types and _SEQUENCE_PARAMETERS in types


def sequence_parameters(data: bytes) -> bytes:
    """The sequence parameter set of a keyframe, which holds the picture's size among others; empty if it has none."""
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        end = data.find(b"\x00\x00\x01", at + 3)
        if data[at + 3] & 0x1F == _SEQUENCE_PARAMETERS:
            return data[at + 3 : end if end >= 0 else len(data)].rstrip(b"\x00")
        at = end
    return b""


def _opened(keyframe: bytes) -> Any:
    """The keyframe as a demuxer sees it: the one way to a track's parameters without an encoder."""
    try:
        return av.open(io.BytesIO(keyframe), format="h264")
    except av.FFmpegError as error:
        raise ValueError(f"the keyframe cannot be read: {error}") from error


def picture_size(keyframe: bytes) -> tuple[int, int]:
    """Width and height in pixels. Raises ValueError for what is no keyframe."""
    with _opened(keyframe) as demuxer:
        context = demuxer.streams.video[0].codec_context
        if not context.width or not context.height:
            raise ValueError("the keyframe has no picture size")
        return int(context.width), int(context.height)


class Mp4Segment:
    """One file of one picture size. Used by one thread at a time.

    ``keyframe`` is the first access unit; size and parameter sets are read from it. Raises ValueError when it cannot
    be read, OSError when the file cannot be written.
    """

    def __init__(self, path: Path, keyframe: bytes) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".part")
        self.frames = 0
        self._first: int | None = None
        self._held: tuple[bytes, int] | None = None
        self.size = picture_size(keyframe)
        self.parameters = sequence_parameters(keyframe)
        self._container: Any = av.open(
            str(self.partial),
            "w",
            format="mp4",
            options={
                "movflags": "empty_moov+default_base_moof",
                "frag_duration": str(FRAGMENT_MICROSECONDS),
                "flush_packets": "1",
                "video_track_timescale": str(CLOCK_RATE_HZ),
            },
        )
        try:
            with _opened(keyframe) as demuxer:
                self._stream = self._container.add_stream_from_template(demuxer.streams.video[0])
            self._stream.time_base = TIME_BASE
            self._container.start_encoding()  # writes the header, so that what cannot be written is known now
        except BaseException:
            self._release()
            raise

    def add(self, data: bytes, timestamp: int) -> bool:
        """Write an access unit; ``timestamp`` counts 90 kHz ticks. False if it does not come after the one before."""
        if self._held is not None:
            if timestamp <= self._held[1]:
                return False
            self._write(timestamp - self._held[1])
        if self._first is None:
            self._first = timestamp
        self._held = (data, timestamp)
        return True

    def until(self, timestamp: int) -> float:
        """Seconds from the last frame to a later time stamp."""
        return 0.0 if self._held is None else (timestamp - self._held[1]) / CLOCK_RATE_HZ

    def _write(self, duration: int) -> None:
        assert self._held is not None and self._first is not None  # add() comes first
        data, timestamp = self._held
        packet = av.Packet(data)
        packet.stream = self._stream
        packet.time_base = TIME_BASE
        packet.pts = packet.dts = timestamp - self._first
        packet.duration = duration
        packet.is_keyframe = is_keyframe(data)
        self._container.mux(packet)
        self.frames += 1

    def close(self, last_frame_seconds: float = LAST_FRAME_SECONDS) -> None:
        """Write the last frame, which is shown for so long, and give the file its name. Raises OSError."""
        try:
            if self._held is not None:
                self._write(max(1, round(last_frame_seconds * CLOCK_RATE_HZ)))
                self._held = None
        finally:
            self._release()
        self.partial.replace(self.path)

    def _release(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def follows(self, keyframe: bytes) -> bool:
        """Whether this file can go on with that keyframe: its picture has the same size."""
        return sequence_parameters(keyframe) == self.parameters or picture_size(keyframe) == self.size


@dataclass(frozen=True, slots=True)
class RecordingProgress:
    """How far a recording is: frames and bytes of video that came, and seconds from the first to the newest."""

    frames: int
    seconds: float
    bytes: int


ProgressCallback = Callable[[RecordingProgress], None]


class Recording:
    """A recording that runs. Made by :meth:`RuntimeConnection.record`; an async context manager that ends it.

    ``files`` are the finished files, in order. What goes wrong while writing (a full disk) is raised by
    :meth:`stop` and :meth:`wait` as LocalFileError; what was written until then is kept.
    """

    def __init__(
        self,
        path: Path,
        *,
        request_keyframe: Callable[[], None],
        on_stopped: Callable[[Recording], None],
        keyframe_seconds: float = DEFAULT_KEYFRAME_SECONDS,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.files: list[Path] = []
        self.progress = RecordingProgress(0, 0.0, 0)
        self._request_keyframe = request_keyframe
        self._on_stopped = on_stopped
        self._keyframe_seconds = keyframe_seconds
        self._overwrite = overwrite
        self._on_progress = progress
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._asked_at = self._keyframe_at = float("-inf")
        self._started = False
        self._ticks = 0
        self._timestamp = 0
        self._received_at = 0.0
        self._queue: queue.SimpleQueue[tuple[bytes, int] | float] = queue.SimpleQueue()
        self._error: LocalFileError | None = None
        self._ended = asyncio.Event()
        self._begun = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="farframe-recording", daemon=True)
        self._thread.start()
        self._ask()

    def add(self, frame: AssembledFrame) -> None:
        """The connection's next access unit; called in the event loop."""
        if self._stopping is not None or self._ended.is_set():
            return
        now = self._clock()
        keyframe = is_keyframe(frame.data)
        if keyframe:
            self._keyframe_at = now
        elif not self._started or now - self._keyframe_at > self._keyframe_seconds:
            if now - self._asked_at > KEYFRAME_PATIENCE_SECONDS:
                self._ask()
            if not self._started:
                return
        if self._queue.qsize() >= MAX_QUEUED_FRAMES:
            self._fail(LocalFileError("The disk does not keep up with the video.", next_step="Record somewhere else."))
            return
        if self._started:
            self._ticks += self._since_last(frame.timestamp, now)
        self._started = True
        self._begun.set()
        self._timestamp, self._received_at = frame.timestamp, now
        self._queue.put((frame.data, self._ticks))
        self.progress = RecordingProgress(
            self.progress.frames + 1, self._ticks / CLOCK_RATE_HZ, self.progress.bytes + len(frame.data)
        )
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def _since_last(self, timestamp: int, now: float) -> int:
        """Ticks since the frame before. A device that came back has a new clock for its stream; then ours counts."""
        ticks = timestamp - self._timestamp
        passed = now - self._received_at
        if 0 < ticks < (passed + MAX_STREAM_JUMP_SECONDS) * CLOCK_RATE_HZ:
            return ticks
        return max(1, round(passed * CLOCK_RATE_HZ))

    def _ask(self) -> None:
        self._asked_at = self._clock()
        self._request_keyframe()

    async def wait(self, seconds: float | None = None) -> None:
        """Record for so long from the first frame on, by the clock, or until the connection ends, which also ends a
        shorter wait early. Without a first frame it is given up after some seconds.

        Raises LocalFileError as soon as writing fails.
        """
        with contextlib.suppress(TimeoutError):
            if seconds is not None:
                async with asyncio.timeout(FIRST_FRAME_SECONDS):
                    await self._begun.wait()
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        if self._error is not None:
            raise self._error

    async def stop(self) -> tuple[Path, ...]:
        """End the recording and return its files; none if no keyframe ever came. May be called again.

        Raises LocalFileError when something could not be written.
        """
        if self._stopping is None:
            self._on_stopped(self)
            shown = self._clock() - self._received_at if self._started else 0.0
            self._stopping = asyncio.create_task(self._stop(max(shown, LAST_FRAME_SECONDS)), name="farframe recording")
        await asyncio.shield(self._stopping)
        if self._error is not None:
            raise self._error
        return tuple(self.files)

    async def _stop(self, shown: float) -> None:
        self._queue.put(shown)
        await asyncio.to_thread(self._thread.join)
        self._ended.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.stop()
        else:
            with contextlib.suppress(LocalFileError):
                await self.stop()

    def connection_ended(self) -> None:
        """No more frames will come; :meth:`wait` comes back."""
        self._end()

    def _end(self) -> None:
        self._begun.set()
        self._ended.set()

    def _fail(self, error: LocalFileError) -> None:
        if self._error is None:
            self._error = error
        self._end()

    # The writing thread

    def _run(self) -> None:
        segment: Mp4Segment | None = None
        failed = False
        while True:
            item = self._queue.get()
            try:
                if isinstance(item, float):
                    if segment is not None:
                        self._finish(segment, item)
                    return
                if not failed:
                    segment = self._put(segment, *item)
            except (OSError, ValueError, av.FFmpegError) as problem:
                failed, segment = True, None
                reason = getattr(problem, "strerror", None) or str(problem)
                error = LocalFileError(
                    f"The recording cannot be written to {self.path}: {reason}.",
                    next_step="Make room or choose another place; what was recorded so far is kept.",
                )
                self._error = self._error or error
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._fail, error)
                if isinstance(item, float):
                    return

    def _put(self, segment: Mp4Segment | None, data: bytes, timestamp: int) -> Mp4Segment:
        if segment is None:
            return self._begin(data, timestamp)
        if is_keyframe(data) and not segment.follows(data):
            self._finish(segment, segment.until(timestamp))
            return self._begin(data, timestamp)
        segment.add(data, timestamp)
        return segment

    def _begin(self, data: bytes, timestamp: int) -> Mp4Segment:
        path, number = self.path, 1
        while path in self.files or (path.exists() and not self._overwrite):
            number += 1
            path = self.path.with_stem(f"{self.path.stem}-{number}")
        segment = Mp4Segment(path, data)
        segment.add(data, timestamp)
        return segment

    def _finish(self, segment: Mp4Segment, shown: float) -> None:
        segment.close(shown)
        self.files.append(segment.path)


def start_recording(
    path: Path,
    *,
    request_keyframe: Callable[[], None],
    on_stopped: Callable[[Recording], None],
    keyframe_seconds: float = DEFAULT_KEYFRAME_SECONDS,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Recording:
    """A recording to ``path``, for :meth:`RuntimeConnection.record`, which says what is raised."""
    if path.suffix.lower() != ".mp4":
        raise ValueError("a recording's name ends in .mp4")
    if not keyframe_seconds > 0:
        raise ValueError("keyframe_seconds must be positive")
    if not path.parent.is_dir():
        raise LocalFileError(f"The folder {path.parent} does not exist.", next_step="Make it, or choose another.")
    if path.exists() and not overwrite:
        raise LocalFileError(f"{path} exists already.", next_step="Choose another name, or allow to overwrite it.")
    return Recording(
        path,
        request_keyframe=request_keyframe,
        on_stopped=on_stopped,
        keyframe_seconds=keyframe_seconds,
        overwrite=overwrite,
        progress=progress,
    )
