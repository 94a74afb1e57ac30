"""Devices that watch: they get the stream that is encoded for the device that drives, and change nothing.

A spectator costs packets, no picture: each frame is encoded once and handed to all, uncopied. What goes wrong on a
spectator's line stays there:

* The rate follows the driving device alone. A spectator whose line carries less than the stream, or whose frames pile
  up, gets none until the next keyframe: a slide show instead of a picture that falls ever further behind.
* Whoever joins, or has lost frames, waits for a keyframe. One that the driving device causes serves everybody; besides,
  spectators cause at most one every :data:`KEYFRAME_INTERVAL_SECONDS`, all of them together, and one that keeps falling
  behind asks ever more rarely.

Time stamps go on when the driving device changes, for a receiver takes a stream that begins anew for an old one.
Everything but :meth:`Audience.send` runs in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import structlog

from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message
from farframe.protocol.records import REPORT_TYPE, FrameRecord, encode_frame
from farframe.scene.scene import SceneSettings
from farframe.server.connection import server_statistics
from farframe.server.device_link import DeviceLink
from farframe.server.frame_loop import RTP_CLOCK_HZ, FrameLoop, VideoSettings

if TYPE_CHECKING:
    from farframe.protocol.link import Assign, ServerConfig
    from farframe.server.ledger import Ledger
    from farframe.server.models import ModelStore
    from farframe.server.scene_commands import SceneCommands
    from farframe.stream.encoder import EncodedFrame

log = structlog.get_logger("farframe.spectators")

KEYFRAME_INTERVAL_SECONDS = 4.0
"""Between two keyframes that spectators cause."""

PATIENCE_MAX_SECONDS = 32.0
"""How rarely a spectator that keeps falling behind asks for a keyframe at last."""

STEADY_SECONDS = 20.0
"""A spectator that has kept up for so long is forgiven."""

MAX_BACKLOG_FRAMES = 4
"""Frames that may wait on a spectator's line: about 0.1 s of a moving picture."""

OVERLOAD = 1.25
"""How far the stream may exceed a spectator's line for a moment before it counts as too much for it."""

RATE_WINDOW_SECONDS = 1.0


class Audience:
    """All spectators of a session."""

    def __init__(self, limit: int, frames: FrameLoop, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._frames = frames
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._spectators: list[Spectator] = []
        self._video: VideoSettings | None = None
        self._scene: SceneCommands | None = None
        self._base = 0
        """Added to the stream's time stamps."""
        self._last_pts = -1
        self._last_at = 0.0
        self._record: FrameRecord | None = None
        self._sizes: deque[tuple[float, int]] = deque()
        self._asked_at = -KEYFRAME_INTERVAL_SECONDS
        self._asking: asyncio.TimerHandle | None = None

    @property
    def video(self) -> VideoSettings | None:
        """The picture as the driving device wants it; ``None`` while nobody drives."""
        return self._video

    @property
    def scene(self) -> SceneCommands | None:
        """The scene of the driving device, also while it is kept for it."""
        return self._scene

    @property
    def count(self) -> int:
        """How many watch."""
        return len(self._spectators)

    def join(self, spectator: Spectator) -> None:
        """Take a spectator. Raises :class:`FarframeError` when there are as many as may be."""
        if len(self._spectators) >= self._limit:
            raise FarframeError(
                Result.TOO_MANY_SPECTATORS,
                f"{self._limit} devices watch this session already."
                if self._limit
                else "This service lets nobody watch.",
                next_step="Wait until one of them leaves." if self._limit else "Ask its operator.",
            )
        self._spectators.append(spectator)

    def part(self, spectator: Spectator) -> None:
        """A spectator has gone."""
        with contextlib.suppress(ValueError):
            self._spectators.remove(spectator)

    def find(self, resource_id: str) -> Spectator | None:
        """The spectator with that id."""
        return next((one for one in self._spectators if one.resource_id == resource_id), None)

    async def end(self, reason: str, message: str) -> None:
        """The session is over: tell all, and wait until they are gone."""
        leaving = list(self._spectators)
        for spectator in leaving:
            spectator.end(reason, message)
        await asyncio.gather(*(spectator.closed.wait() for spectator in leaving))

    # The device that drives -----------------------------------------------------------------------------------------

    def begin(self, video: VideoSettings, scene: SceneCommands) -> None:
        """A device drives from now on; its stream begins with a keyframe."""
        self._video, self._scene = video, scene
        if self._last_pts >= 0:
            self._base = self._last_pts + max(1, int((self._clock() - self._last_at) * RTP_CLOCK_HZ))
        self._record = None
        self._sizes.clear()
        for spectator in self._spectators:
            spectator.wait_for_keyframe()
        self._notify("driver.joined", messages.DriverJoinedParams(video=messages.VideoResult(**asdict(video))))

    def show(self, video: VideoSettings) -> None:
        """The driving device wants another picture."""
        if self._video is not None:
            self._video = video
            self._notify("video.changed", messages.VideoResult(**asdict(video)))

    def leave(self, reason: str, message: str, *, may_return: bool) -> None:
        """The driving device has gone. Its last picture stays where it was received."""
        if self._video is None:
            return
        self._video = None
        if not may_return:
            self._scene = None
        self._notify("driver.left", messages.DriverLeftParams(reason=reason, message=message, may_return=may_return))

    def _notify(self, method: str, params: Message) -> None:
        for spectator in list(self._spectators):
            if spectator.requests.opened:
                spectator.notify(method, params)

    # Frames ---------------------------------------------------------------------------------------------------------

    def send(self, frame: EncodedFrame) -> None:
        """Hand a frame to all; called in the encode thread."""
        if self._spectators:
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._spread, frame)

    def on_sending(self, record: FrameRecord) -> None:
        """The record of the frame that comes next. What concerns the driving device's clock is left out."""
        if self._spectators:
            self._record = record

    def _spread(self, frame: EncodedFrame) -> None:
        now = self._clock()
        record, self._record = self._record, None
        self._sizes.append((now, len(frame.data)))
        while self._sizes and self._sizes[0][0] <= now - RATE_WINDOW_SECONDS:
            self._sizes.popleft()
        shifted = replace(frame, pts=frame.pts + self._base)  # holds the same bytes
        self._last_pts, self._last_at = shifted.pts, now
        data = None
        if record is not None and record.rtp_timestamp == frame.pts & 0xFFFFFFFF:
            data = encode_frame(replace(record, rtp_timestamp=shifted.pts & 0xFFFFFFFF, pose_id=0, client_time_us=0))
        if frame.keyframe:
            self._asked_at = max(self._asked_at, now - KEYFRAME_INTERVAL_SECONDS / 2)
        rate = self.bits_per_second
        for spectator in list(self._spectators):
            spectator.take(shifted, data, rate)

    @property
    def bits_per_second(self) -> int:
        """What the stream took in the last second."""
        return sum(size for _, size in self._sizes) * 8

    def want_keyframe(self) -> None:
        """A spectator needs a keyframe: ask for one as soon as the last one that was asked for is long enough ago."""
        if self._asking is not None or self._video is None:
            return
        wait = self._asked_at + KEYFRAME_INTERVAL_SECONDS - self._clock()
        self._asking = self._loop.call_later(max(0.0, wait), self._ask)

    def _ask(self) -> None:
        self._asking = None
        if self._video is not None and any(spectator.wants_keyframe for spectator in self._spectators):
            self._asked_at = self._clock()
            self._frames.request_keyframe()


class Spectator(DeviceLink):
    """One device that watches. Counts what it was given and what it was spared: ``frames_sent``, ``frames_skipped``."""

    def __init__(
        self,
        config: ServerConfig,
        assignment: Assign,
        models: ModelStore,
        frames: FrameLoop,
        ledger: Ledger,
        audience: Audience,
        resource_id: str,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(config, resource_id)
        self.frames_sent = 0
        self.frames_skipped = 0
        self._assignment = assignment
        self._models = models
        self._frames = frames
        self._ledger = ledger
        self._audience = audience
        self._clock = clock
        self._waiting = True
        self._asked = False
        self._patience = 0.0
        """Seconds that it waits before it asks for a keyframe."""
        self._fell_behind_at = -STEADY_SECONDS
        self._resumed_at = 0.0
        self.requests.register({"connection.open": self._open_connection}, before_opening=True)
        self.requests.register({"statistics.get": self._statistics, "scene.describe": self._describe})
        self.requests.register({"performance.assess": self._assess})
        self.requests.otherwise = self._refuse

    @property
    def wants_keyframe(self) -> bool:
        """Whether it needs a keyframe and could take one now."""
        if not self.open or self.ending or self.transport is None or not (self._waiting or self._asked):
            return False
        return self.transport.backlog == 0 and self._clock() >= self._fell_behind_at + self._patience

    # What the transport tells ---------------------------------------------------------------------------------------

    def opened(self) -> None:
        """Media runs: the next keyframe is its first frame."""
        log.info("spectator.connected", watching=self._audience.count)
        self._audience.want_keyframe()

    def on_pose(self, data: bytes) -> None:
        """A pose of a device that only watches means nothing."""
        if data[:1] == bytes([REPORT_TYPE]):
            return  # what becomes of frames is asked of the device that drives
        refused = FarframeError(Result.WATCHING_ONLY, "A device that watches sends no poses.")
        self.requests.bad(refused)

    def on_keyframe_request(self) -> None:
        """It lost frames that later ones refer to, or records and wants to begin. It goes on getting what comes: only
        the device knows whether it can use that, and the keyframe may have to wait for others."""
        self._asked = True
        self._audience.want_keyframe()

    def on_bitrate(self, bits_per_second: int) -> None:
        """What its line carries is looked at with each frame, and concerns nobody else."""

    # Ending ---------------------------------------------------------------------------------------------------------

    def stopped(self) -> None:
        """It gets no further frames."""
        self._audience.part(self)

    async def left(self, reason: str, message: str) -> None:
        """Nothing was its own."""
        log.info("spectator.left", sent=self.frames_sent, skipped=self.frames_skipped)

    # Frames ---------------------------------------------------------------------------------------------------------

    def wait_for_keyframe(self) -> None:
        """What comes next refers to nothing that it has."""
        self._waiting = True

    def take(self, frame: EncodedFrame, record: bytes | None, stream_bits_per_second: int) -> None:
        """A frame of the stream, and its record: send it, unless the spectator's line is better spared."""
        transport = self.transport
        if transport is None or not self.open or self.ending:
            return
        backlog = transport.backlog
        if self._waiting:
            if not frame.keyframe or backlog > 0:
                self.frames_skipped += 1
                if backlog == 0:
                    self._audience.want_keyframe()
                return
            self._waiting = False
            self._resumed_at = self._clock()
        elif backlog >= MAX_BACKLOG_FRAMES or (
            # A line that nothing was sent on for a while has to show first what it carries.
            self._clock() >= self._resumed_at + RATE_WINDOW_SECONDS
            and stream_bits_per_second > OVERLOAD * transport.target_bitrate
        ):
            self._fall_behind()
            self.frames_skipped += 1
            return
        self.frames_sent += 1
        if frame.keyframe:
            self._asked = False
        if record is not None:
            transport.send_frame_record(record)
        transport.send_video(frame)

    def _fall_behind(self) -> None:
        now = self._clock()
        steady = now - self._fell_behind_at >= self._patience + STEADY_SECONDS
        self._patience = (
            KEYFRAME_INTERVAL_SECONDS
            if steady
            else min(max(self._patience, KEYFRAME_INTERVAL_SECONDS / 2) * 2, PATIENCE_MAX_SECONDS)
        )
        self._fell_behind_at = now
        self._waiting = True

    # Requests -------------------------------------------------------------------------------------------------------

    async def _open_connection(self, message: Incoming) -> Message:
        self.check_version(messages.convert_params(message.params, messages.OpenParams))
        video = self._audience.video
        told = await self.describe(
            self._assignment,
            self._frames,
            self._models.encoder_name,
            video or VideoSettings(1280, 720, 60, self.config.max_bitrate),
        )
        told.role = "viewer"
        told.driver = video is not None
        told.scene = self._scene_now(0)
        return told

    async def _statistics(self, message: Incoming) -> Message:
        scene, transport = self._audience.scene, self.transport
        return server_statistics(
            self._ledger,
            self._models.encoder_name,
            scene.model_count if scene is not None else 0,
            transport.target_bitrate if transport else 0,
        )

    async def _assess(self, message: Incoming) -> Message:
        video = self._audience.video
        rate = video.max_frames_per_second if video is not None else 60
        return await self._models.assess(self._assignment, self._ledger, rate)

    async def _describe(self, message: Incoming) -> Message:
        return self._scene_now(messages.convert_params(message.params, messages.DescribeParams).after_model_id)

    def _scene_now(self, after_model_id: int) -> messages.SceneDescription:
        scene = self._audience.scene
        if scene is None:
            return messages.SceneDescription(models=[], settings=messages.SceneResult(**asdict(SceneSettings())))
        return scene.describe(after_model_id)

    @staticmethod
    def _refuse(method: str) -> FarframeError:
        return FarframeError(
            Result.WATCHING_ONLY,
            f"{method[:80]} is for the device that drives; this one watches.",
            next_step="Connect to drive, with a token of the role Client.",
        )
