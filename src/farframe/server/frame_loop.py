"""The frame loop: from the newest pose to packets, in two threads beside the event loop.

A frame's way, and the file for each step:

    pose record arrives            server/connection.py    event loop; decoded, stamped, put into the mailbox here
    newest pose is taken           this file               render thread, as late as possible: once the encoder has room
    and led on to when it is seen  server/prediction.py    render thread; for poses that ask for it
    scene changes are applied      this file               render thread, jobs that connection and commands submitted
    quality is chosen              render/quality.py       full when still; on a CPU adapter less while moving
    pages of assets are uploaded   render/streaming.py     render thread; fetched and decoded by threads of its own
    visible set and levels         render/                 render thread
    draw, read back                render/                 render thread; the GIL is free while the adapter works
    colour conversion, encode      stream/encoder.py       encode thread, while the next frame is being drawn
    size and pace for the rate     server/adaptation.py    encode thread; the next frame is drawn so
    packets, pacing                stream/device.py        event loop
    frame record, ledger           this file, ledger.py    event loop
    and back: PLI, rate estimate   stream/device.py        event loop; they only set values that the next frame uses
    at rest: what may come         render/ahead.py         render thread; pipelines that nothing needs yet, one by one

The event loop never waits for either thread. A frame that would be too old is dropped before it is encoded: nothing is
drawn while the encoder or the network still holds the one before. Nothing is drawn or sent twice: without a change
of pose or scene there are only the full-quality picture, drawn once and encoded until it is sharp, and a keep-alive
frame now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import av
import structlog

from farframe.protocol.errors import FarframeError
from farframe.protocol.records import FieldOfView, FrameFlags, FrameRecord, PoseFlags, PoseRecord, View
from farframe.render import Engine, FrameInput, Quality, QualityGovernor, RenderedFrame, RenderScene
from farframe.render.bands import render_in_bands
from farframe.render.frame import on_stage, with_clip_distances
from farframe.server.adaptation import PictureAdaptation
from farframe.server.checkerboard import Checkerboard
from farframe.server.prediction import PosePredictor
from farframe.stream.encoder import EncodedFrame, VideoEncoder
from farframe.stream.hardware import EncoderChoice

log = structlog.get_logger("farframe.frames")

T = TypeVar("T")

RTP_CLOCK_HZ = 90_000
MOTION_FRAME_SECONDS = 1 / 40
"""What a moving frame may take to draw and read back before quality gives way. The rest of the way from the pose to the
decoded picture takes some 20 ms, so that a picture is 45 ms old at most; detail is looked at when the motion ends."""

STILL_BANDS = 6
"""On a CPU the full-quality picture takes a while: it is drawn in so many bands, and given up when the device moves."""

MAX_REFINEMENTS = 24
BLIND_REFINEMENTS = 4
REFINEMENT_SECONDS = 0.1
SHARP_QUANTIZER = 17.0
"""The full-quality picture gets one frame's share of the rate, which on a slow line leaves it coarse: it is encoded
again, so far apart, and each time only what is still missing is sent, until its quantizer is so low (above 42 dB: the
eye sees no difference) or it was encoded so often. Encoders that do not tell their quantizer get a few times only."""

PAGES_SECONDS = 0.4
"""While detail of assets still comes in, a picture at rest is drawn anew this often, and at once when all is there."""

REST_SECONDS = 0.5
"""After so long without anything to do, what may be needed later is prepared, a step at a time."""

BACKLOG_POLL_SECONDS = 0.004
"""How often the render thread looks again while the network holds frames back."""


POSE_GAP_SECONDS = 0.05
"""Poses that come farther apart than this are no steady stream of them."""
POSE_SMOOTHING = 0.2
POSES_KNOWN = 5
OLD_POSE_SHARE = 0.6
LATE_POSE_SECONDS = 0.002
"""A pose that is older than this share of the time between two is not drawn: the next one is awaited, until it should
have come and this much longer. A frame then shows a pose that is younger by an interval; on two cores, where drawing
and encoding share the processor, that costs no frames (pose to decoded 57 -> 49 ms, 34 -> 36 frames a second)."""


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """The picture that a device wants: even pixels, frames and bits per second."""

    width: int
    height: int
    max_frames_per_second: int
    max_bitrate: int


class PoseSpacing:
    """How steadily poses come, and whether the next one is worth waiting for. Times in seconds, of one clock."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._interval = 0.0
        self._count = 0

    def came(self, now: float) -> None:
        """A new pose came."""
        last, self._last = self._last, now
        if last is None or now - last > POSE_GAP_SECONDS:
            self._interval, self._count = 0.0, 0
            return
        self._count += 1
        weight = max(POSE_SMOOTHING, 1 / self._count)
        self._interval += weight * (now - last - self._interval)

    def worth_waiting_until(self, now: float) -> float:
        """When the next pose should have come, if the newest is old and the next one close; else ``now`` or before."""
        if self._last is None or self._count < POSES_KNOWN or now - self._last < OLD_POSE_SHARE * self._interval:
            return now
        return self._last + self._interval + LATE_POSE_SECONDS


@dataclass(eq=False)
class _Drawn:
    """A picture on its way to the encoder. ``frame`` is ``None`` when the one before is to be sent again."""

    stream: _Stream
    frame: RenderedFrame | None
    pose: PoseRecord
    views: tuple[View, ...]
    """As drawn, which may be where the pose leads."""
    handed_us: int
    """When the render thread gave it away. The same picture again shows all that was done before that, and nothing of
    what came later, however late it is encoded."""
    pose_received_us: int
    flags: FrameFlags
    keyframe: bool
    quality: Quality


@dataclass(eq=False)
class _Stream:
    """One device's video. Only the fields of a thread's own section are written by that thread."""

    send: Callable[[EncodedFrame], None]
    on_sending: Callable[[FrameRecord], None]
    backlog: Callable[[], int]
    # under the lock
    wish: VideoSettings
    """What the device asked for."""
    video: VideoSettings
    """What is drawn and encoded now: the wish, or less where the rate does not suffice for it."""
    bitrate: int
    adaptation: PictureAdaptation = field(default_factory=PictureAdaptation)
    pose: PoseRecord | None = None
    pose_received_us: int = 0
    keyframe_wanted: bool = True
    pose_spacing: PoseSpacing = field(default_factory=PoseSpacing)
    predictor: PosePredictor = field(default_factory=PosePredictor)
    delays_seconds: tuple[float, float] | None = None
    # render thread
    drawn_views: tuple[View, ...] | None = None
    """The pose's; ``shown_views`` are those that the picture has: they may be predicted, and have other clip distances
    where the scene says so. Both are in the space of poses, wherever that stands in the world."""
    shown_views: tuple[View, ...] = ()
    drawn_version: int = -1
    drawn_video: VideoSettings | None = None
    drawn_full: bool = False
    limit_flag: FrameFlags = FrameFlags.NONE
    drawn_pages: int = -1
    still_sent: bool = False
    handed: RenderedFrame | None = None
    refinements: int = 0
    changed_at: float = 0.0
    last_draw_start: float = -1e9
    last_handed: float = -1e9
    pictures_handed: int = 0
    # encode thread
    encoder: VideoEncoder | None = None
    shown: RenderedFrame | None = None
    encoded: tuple[RenderedFrame, float | None] | None = None
    """The full-quality picture that was encoded last, and its quantizer; the render thread reads it."""
    pictures_encoded: int = 0
    """Of those handed; the render thread reads it."""
    frame_id: int = 0
    origin: float = field(default_factory=time.perf_counter)
    last_pts: int = -1


def _adapted(wish: VideoSettings, adaptation: PictureAdaptation) -> VideoSettings:
    """The picture that the rate suffices for."""
    width, height, frames_per_second = adaptation.picture(wish.width, wish.height, wish.max_frames_per_second)
    return replace(wish, width=width, height=height, max_frames_per_second=frames_per_second)


def default_pose(video: VideoSettings) -> PoseRecord:
    """What is drawn until the device says where it is: three metres in front of the origin, looking at it."""
    fov = FieldOfView.symmetric(0.8, video.width / video.height)
    return PoseRecord(0, 0, (View((0.0, 0.0, 3.0), (0.0, 0.0, 0.0, 1.0), fov),))


def _name_thread(name: str) -> None:
    """Give this thread a name that tools outside Python see (top -H, perf, benchmarks)."""
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def microseconds() -> int:
    """The server's clock: monotonic microseconds."""
    return time.perf_counter_ns() // 1000


class FrameLoop:
    """Owns the engine's thread and the encode thread. All methods but the constructor belong to the event loop.

    ``make_engine`` runs in the render thread, so that everything that touches the graphics device happens there.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        *,
        encoders: EncoderChoice | None = None,
        still_delay: float = 0.3,
        keep_alive: float = 1.0,
        motion_frame_seconds: float = MOTION_FRAME_SECONDS,
        checkerboard: bool = False,
    ) -> None:
        self._make_engine = make_engine
        self._checkerboard = Checkerboard() if checkerboard else None
        self.encoders = encoders or EncoderChoice()
        """Which encoder is used, and why. May be set until the first device comes."""
        self._still_delay = still_delay
        self._keep_alive = keep_alive
        self._motion_frame_seconds = motion_frame_seconds
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._encode_wake = threading.Condition(self._lock)
        self._jobs: deque[Callable[[], None]] = deque()
        self._handoff: _Drawn | None = None
        self._stream: _Stream | None = None
        self._stopping = False
        self._busy_at, self._unprepared = float("-inf"), True
        self._loop = asyncio.get_running_loop()
        self._ready: Future[Engine] = Future()
        self.primitives: tuple[int, int] | None = None
        """Triangles and points of the picture that was drawn last; ``None`` before the first."""
        self.scene = RenderScene()
        """Changed in the render thread only, by jobs."""
        self._render_thread = threading.Thread(target=self._render_main, name="render", daemon=True)
        self._encode_thread = threading.Thread(target=self._encode_main, name="encode", daemon=True)
        self._render_thread.start()
        self._encode_thread.start()

    # Event loop's side ------------------------------------------------------------------------------------------

    async def engine(self) -> Engine:
        """The engine, once it is made. Raises what making it raised."""
        return await asyncio.wrap_future(self._ready)

    async def run(self, job: Callable[[Engine], T]) -> T:
        """Run ``job`` in the render thread between two frames; its result or exception comes back."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job(self._ready.result()))
                except BaseException as error:
                    future.set_exception(error)

        with self._lock:
            if self._stopping:
                raise RuntimeError("the frame loop has ended")
            self._jobs.append(work)
            self._wake.notify()
        return await asyncio.wrap_future(future)

    def open(
        self,
        video: VideoSettings,
        bitrate: int,
        send: Callable[[EncodedFrame], None],
        on_sending: Callable[[FrameRecord], None],
        backlog: Callable[[], int],
    ) -> None:
        """Begin a device's video; the first frame is a keyframe.

        ``send`` is called in the encode thread and must schedule the sending in the event loop; ``on_sending`` comes
        there just before, with the frame's record. ``backlog``, called in the render thread: frames not yet sent.
        """
        stream = _Stream(send=send, on_sending=on_sending, backlog=backlog, wish=video, video=video, bitrate=bitrate)
        with self._lock:
            self._stream = stream
            self._wake.notify()

    def close(self) -> None:
        """End the device's video; nothing is sent after this."""
        with self._lock:
            stream, self._stream = self._stream, None
            if self._handoff is not None and self._handoff.stream is stream:
                self._drop(self._handoff)
                self._handoff = None
            self._wake.notify()
            self._encode_wake.notify()

    def set_pose(self, pose: PoseRecord, received_us: int) -> None:
        """The newest pose. One that it overtook (ids count modulo 2^32), or the same again, is ignored."""
        with self._lock:
            stream = self._stream
            if stream is None:
                return
            if stream.pose is not None and not 0 < (pose.pose_id - stream.pose.pose_id) % 2**32 < 2**31:
                return
            stream.pose = pose
            stream.pose_received_us = received_us
            stream.pose_spacing.came(received_us / 1e6)
            if PoseFlags.PREDICT in pose.flags:
                stream.predictor.observe(pose)
            self._wake.notify()

    def set_delays(self, input_seconds: float, display_seconds: float) -> None:
        """What the device's reports say: how old a pose is when it comes, and how long after drawing began a frame is
        seen. Poses that ask for prediction are drawn as they are before this is known."""
        with self._lock:
            if self._stream is not None:
                self._stream.delays_seconds = (input_seconds, display_seconds)

    def set_video(self, video: VideoSettings) -> None:
        """A new size or rate; a new size begins with a keyframe."""
        with self._lock:
            if self._stream is not None:
                self._stream.wish = video
                self._stream.video = _adapted(video, self._stream.adaptation)
                self._wake.notify()

    def set_bitrate(self, bits_per_second: int) -> None:
        """The rate that the network bears now."""
        with self._lock:
            if self._stream is not None:
                self._stream.bitrate = bits_per_second

    def request_keyframe(self) -> None:
        """The device lost its reference: the next frame is a keyframe, and comes at once."""
        with self._lock:
            if self._stream is not None:
                self._stream.keyframe_wanted = True
                self._wake.notify()

    async def stop(self) -> None:
        """End both threads and the engine."""
        self.close()
        with self._lock:
            self._stopping = True
            self._wake.notify_all()
            self._encode_wake.notify_all()
        await asyncio.to_thread(self._render_thread.join)
        await asyncio.to_thread(self._encode_thread.join)

    # Render thread ----------------------------------------------------------------------------------------------

    def _render_main(self) -> None:
        _name_thread("render")
        try:
            engine = self._make_engine()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(engine)
        governor = QualityGovernor(engine.adapter_kind, target_seconds=self._motion_frame_seconds)
        try:
            engine.residency.streamer.on_ready = self._on_pages
            while self._render_once(engine, governor):
                pass
        except BaseException as error:
            log.error("render.failed", error=str(error), exc_info=True)
            self._loop.call_soon_threadsafe(self._on_failure, error)
        finally:
            with self._lock:
                self._stopping = True
                self._encode_wake.notify_all()
            self._encode_thread.join()
            engine.close()

    def _on_pages(self) -> None:
        """Detail of an asset was fetched; called in a thread of the engine's."""
        with self._lock:
            self._wake.notify()

    on_failure: Callable[[BaseException], None] | None = None
    """Called in the event loop when the render or encode thread died of an error; the server cannot go on."""

    def _on_failure(self, error: BaseException) -> None:
        if self.on_failure is not None:
            self.on_failure(error)

    def _render_once(self, engine: Engine, governor: QualityGovernor) -> bool:
        """Do the jobs, then one frame if one is due; else wait until something may be. False when ended."""
        with self._lock:
            if self._stopping:
                return False
            jobs = list(self._jobs)
            self._jobs.clear()
        for job in jobs:
            job()
        if jobs:
            self._busy_at, self._unprepared = time.perf_counter(), True
        residency = engine.residency
        if residency.pending:
            residency.upload()
        if self._unprepared and residency.idle and self._at_rest():
            self._unprepared = engine.prepare_ahead()
            return True
        with self._lock:
            stream = self._stream
            if stream is None or self._handoff is not None:
                if not self._jobs and not self._stopping:
                    self._wake.wait(REST_SECONDS if self._unprepared else None)
                return True
            video, keyframe = stream.video, stream.keyframe_wanted
            pose = stream.pose or default_pose(video)
            pose_received_us = stream.pose_received_us or microseconds()
        # Looked at before it is decided whether the picture is sharp.
        encoding = stream.pictures_encoded < stream.pictures_handed
        now = time.perf_counter()
        finer = residency.version != stream.drawn_pages
        action, due = self._decide(stream, pose, video, keyframe, now, finer=finer, complete=residency.idle)
        if action == "move" and not keyframe:
            due = max(due, stream.pose_spacing.worth_waiting_until(now))
        if action is not None and due <= now and stream.backlog() > 1:
            action, due = None, now + BACKLOG_POLL_SECONDS
        if action == "repeat" and stream.still_sent and not keyframe and due <= now and encoding:
            # How sharp the one before has become is not known yet.
            action, due = None, now + BACKLOG_POLL_SECONDS
        if action is None or due > now:
            with self._lock:
                # Poses that came meanwhile have already been seen or will notify; a job may have slipped in.
                if not self._jobs and self._stream is stream and not self._stopping and not residency.pending:
                    self._wake.wait(max(due - now, 0.0005))
            return True
        if action == "repeat":
            frame, quality, flags = None, governor.full, FrameFlags.KEEP_ALIVE
            if stream.drawn_full and (keyframe or not stream.still_sent):
                flags, stream.encoded, stream.refinements = FrameFlags.STILL, None, 0
            elif stream.still_sent and not self._sharp(stream):
                flags = FrameFlags.STILL
                stream.refinements += 1
            elif stream.still_sent:
                # Each tells it anew: the frame that told it first may never have been shown, or its record be lost.
                flags |= FrameFlags.STILL
        else:
            moving = action == "move"
            pages = residency.version
            quality = governor.choose(moving=moving)
            views = self._predicted(stream, pose, pose_received_us) if moving else pose.views
            self.scene.advance(now)
            shown = with_clip_distances(views, self.scene.effects.camera)
            placed = on_stage(shown, self.scene.effects.stage)
            wanted = FrameInput(views=placed, width=video.width, height=video.height, quality=quality, scene=self.scene)
            if moving or engine.adapter_kind == "gpu":
                frame = engine.render(wanted)
            else:
                frame = render_in_bands(engine, wanted, STILL_BANDS, lambda: self._interrupted(stream, pose, video))
                if frame is None:
                    return True
            governor.observe(quality, frame.read_back - frame.draw_start, moving=moving)
            if self._checkerboard is not None:
                frame = self._checkerboard.cover(frame, now)
            flags = FrameFlags.NONE if moving else FrameFlags.STILL
            self.primitives = (frame.triangles, frame.points)
            stream.limit_flag = FrameFlags.OVER_LIMIT if frame.over_limit else FrameFlags.NONE
            stream.drawn_views, stream.drawn_video = pose.views, video
            stream.drawn_version = self.scene.version
            # What the picture itself took in may have come between two of its bands: it is looked at once more.
            stream.drawn_pages = residency.version if moving else pages
            stream.still_sent = False
            stream.shown_views = shown
            stream.drawn_full = quality == governor.full and views is pose.views
            stream.last_draw_start = now
            stream.handed, stream.refinements = frame, 0
        stream.still_sent = FrameFlags.STILL in flags or (stream.still_sent and action == "repeat")
        stream.last_handed = now
        flags |= stream.limit_flag
        self._hand_off(
            _Drawn(
                stream=stream,
                frame=frame,
                pose=pose,
                views=stream.shown_views,
                handed_us=microseconds(),
                pose_received_us=pose_received_us,
                flags=flags,
                keyframe=keyframe,
                quality=quality,
            )
        )
        return True

    def _at_rest(self) -> bool:
        """Whether nobody waits for anything, and nobody has for a while."""
        now = time.perf_counter()
        with self._lock:
            if self._jobs or self._stopping or self._handoff is not None or now < self._busy_at + REST_SECONDS:
                return False
            stream = self._stream
            return stream is None or (
                stream.still_sent
                and now >= stream.changed_at + REST_SECONDS
                and not stream.keyframe_wanted
                and (stream.pose is None or stream.pose.views == stream.drawn_views)
                and stream.video == stream.drawn_video
                and stream.drawn_version == self.scene.version
                and not self.scene.moving
            )

    def _decide(
        self,
        stream: _Stream,
        pose: PoseRecord,
        video: VideoSettings,
        keyframe: bool,
        now: float,
        *,
        finer: bool = False,
        complete: bool = True,
    ) -> tuple[str | None, float]:
        """What comes next and when: ``move`` or ``still`` (draw), ``repeat`` (encode again), or nothing yet.

        ``finer``: assets have more detail now than was drawn; ``complete``: no more of it is to come.
        """
        changed = (
            pose.views != stream.drawn_views
            or self.scene.version != stream.drawn_version
            or self.scene.moving
            or video != stream.drawn_video
            or (self._checkerboard is not None and self._checkerboard.changes(now))
        )
        if changed:
            stream.changed_at = now
            return "move", stream.last_draw_start + 1 / video.max_frames_per_second
        if finer and not keyframe:
            if now < stream.changed_at + self._still_delay:
                return "move", stream.last_draw_start + 1 / video.max_frames_per_second
            return "still", stream.last_draw_start + (0.0 if complete else PAGES_SECONDS)
        if not stream.still_sent and now >= stream.changed_at + self._still_delay:
            return ("repeat" if stream.drawn_full else "still"), now
        if keyframe:
            return "repeat", now
        if stream.still_sent:
            wait = self._keep_alive if self._sharp(stream) else REFINEMENT_SECONDS
            return "repeat", stream.last_handed + wait
        return "repeat" if stream.drawn_full else "still", stream.changed_at + self._still_delay

    @staticmethod
    def _sharp(stream: _Stream) -> bool:
        """Whether the full-quality picture has been encoded well enough."""
        encoded = stream.encoded
        if encoded is None or encoded[0] is not stream.handed:
            return False
        quantizer = encoded[1]
        if quantizer is None:
            return stream.refinements >= BLIND_REFINEMENTS
        return quantizer <= SHARP_QUANTIZER or stream.refinements >= MAX_REFINEMENTS

    def _predicted(self, stream: _Stream, pose: PoseRecord, pose_received_us: int) -> tuple[View, ...]:
        """The pose's views as they will be when the frame is seen, if the pose asks for that."""
        if PoseFlags.PREDICT not in pose.flags:
            return pose.views
        with self._lock:
            if stream.delays_seconds is None:
                return pose.views
            input_seconds, display_seconds = stream.delays_seconds
            age_seconds = input_seconds + (microseconds() - pose_received_us) / 1e6
            return stream.predictor.predict(age_seconds, display_seconds) or pose.views

    def _interrupted(self, stream: _Stream, pose: PoseRecord, video: VideoSettings) -> bool:
        """Whether something has come that the full-quality picture must not hold up."""
        with self._lock:
            newest = stream.pose or pose
            return (
                bool(self._jobs)
                or self._stopping
                or self._stream is not stream
                or stream.video != video
                or newest.views != pose.views
            )

    def _hand_off(self, drawn: _Drawn) -> None:
        """Give a picture to the encode thread; there is room, since nothing is drawn otherwise."""
        with self._lock:
            if self._stream is not drawn.stream or self._stopping:
                self._drop(drawn)
                return
            if drawn.keyframe:
                drawn.stream.keyframe_wanted = False
            drawn.stream.pictures_handed += 1
            self._handoff = drawn
            self._encode_wake.notify()

    @staticmethod
    def _drop(drawn: _Drawn) -> None:
        if drawn.frame is not None:
            drawn.frame.release()

    # Encode thread ----------------------------------------------------------------------------------------------

    def _encode_main(self) -> None:
        _name_thread("encode")  # before x264 starts its own threads, which inherit it
        last: _Stream | None = None
        try:
            while True:
                with self._lock:
                    while self._handoff is None and not self._stopping:
                        if last is not None and self._stream is not last:
                            self._forget(last)
                            last = None
                        self._encode_wake.wait()
                    if self._stopping:
                        break
                    drawn, self._handoff = self._handoff, None
                    assert drawn is not None
                    bitrate, video = drawn.stream.bitrate, drawn.stream.video
                    self._wake.notify()  # the next frame may be drawn while this one is encoded
                if last is not None and last is not drawn.stream:
                    self._forget(last)
                last = drawn.stream
                self._encode(drawn, bitrate, video)
                last.pictures_encoded += 1
        except BaseException as error:
            log.error("encode.failed", error=str(error), exc_info=True)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_failure, error)
        finally:
            if last is not None:
                self._forget(last)

    def _encode(self, drawn: _Drawn, bitrate: int, video: VideoSettings) -> None:
        stream = drawn.stream
        if drawn.frame is not None:
            # The picture stays mapped until the next one comes, in case it must be sent again.
            if stream.shown is not None:
                stream.shown.release()
            stream.shown = drawn.frame
        shown = stream.shown
        if shown is None:
            return
        pts = max(int((time.perf_counter() - stream.origin) * RTP_CLOCK_HZ), stream.last_pts + 1)
        stream.last_pts = pts
        kept_alive = FrameFlags.KEEP_ALIVE in drawn.flags
        still = FrameFlags.STILL in drawn.flags and not kept_alive
        try:
            encoder = self._encoder(stream, video, bitrate)
            encoded = encoder.encode(shown.pixels, pts, keyframe=drawn.keyframe, still=still)
        except (FarframeError, av.FFmpegError) as error:
            if self.encoders.is_fallback:
                raise
            self.encoders.give_up(error)
            log.warning("encoder.failed", error=str(error), now=self.encoders.name)
            if stream.encoder is not None:
                stream.encoder.close()
                stream.encoder = None
            encoder = self._encoder(stream, video, bitrate)
            encoded = encoder.encode(shown.pixels, pts, keyframe=True, still=still)
        if still:
            stream.encoded = (shown, encoded.quantizer)
        flags = drawn.flags | (FrameFlags.KEYFRAME if encoded.keyframe else FrameFlags.NONE)
        record = self._record(drawn, shown, encoded, encoder, flags)
        stream.frame_id += 1
        with self._lock:
            if self._stream is not stream:
                return
            if stream.adaptation.observe(
                time.perf_counter(),
                bitrate=bitrate,
                bits=8 * len(encoded.data),
                pixels=encoder.width * encoder.height,
                quantizer=encoded.quantizer,
                keyframe=encoded.keyframe,
                still=still or kept_alive,
            ):
                stream.video = _adapted(stream.wish, stream.adaptation)
                log.info("video.adapted", step=stream.adaptation.step, bitrate=bitrate)
                self._wake.notify()
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            # Stamped right before the packets leave, in the order in which the event loop does the two.
            self._loop.call_soon_threadsafe(self._sending, stream, record)
            stream.send(encoded)

    def _encoder(self, stream: _Stream, video: VideoSettings, bitrate: int) -> VideoEncoder:
        """The stream's encoder, at the rate that holds now; another size gets another encoder."""
        encoder = stream.encoder
        if encoder is None or (encoder.width, encoder.height) != (video.width, video.height):
            if encoder is not None:
                encoder.close()
                stream.encoder = None
            encoder = self.encoders.make(
                video.width,
                video.height,
                frames_per_second=video.max_frames_per_second,
                bitrate=min(bitrate, video.max_bitrate),
                max_bitrate=video.max_bitrate,
            )
            stream.encoder = encoder
        encoder.set_bitrate(bitrate)
        return encoder

    @staticmethod
    def _record(
        drawn: _Drawn, shown: RenderedFrame, encoded: EncodedFrame, encoder: VideoEncoder, flags: FrameFlags
    ) -> FrameRecord:
        base = drawn.pose_received_us

        def since(seconds: float) -> int:
            return int(seconds * 1e6) - base

        fresh = drawn.frame is not None
        handed = drawn.handed_us - base
        return FrameRecord(
            frame_id=drawn.stream.frame_id,
            rtp_timestamp=encoded.pts & 0xFFFFFFFF,
            pose_id=drawn.pose.pose_id,
            client_time_us=drawn.pose.client_time_us,
            pose_received_us=base,
            draw_start_us=since(shown.draw_start) if fresh else handed,
            draw_end_us=since(shown.draw_end) if fresh else handed,
            read_back_us=since(shown.read_back) if fresh else handed,
            encode_start_us=since(encoded.encode_start),
            encode_end_us=since(encoded.encode_end),
            sent_us=0,
            encoded_bytes=len(encoded.data),
            width=encoder.width,
            height=encoder.height,
            drawn_width=shown.width,
            drawn_height=shown.height,
            samples=shown.samples,
            reduced_parts=shown.reduced_parts,
            triangles=shown.triangles,
            draws=shown.draws,
            views=drawn.views,
            flags=flags,
        )

    @staticmethod
    def _forget(stream: _Stream) -> None:
        """Let go of a stream's picture and encoder."""
        if stream.shown is not None:
            stream.shown.release()
            stream.shown = None
        if stream.encoder is not None:
            stream.encoder.close()
            stream.encoder = None

    def _sending(self, stream: _Stream, record: FrameRecord) -> None:
        if self._stream is stream:
            stream.on_sending(replace(record, sent_us=microseconds() - record.pose_received_us))
