"""The device that drives a session: its poses, its requests, the picture that is made for it.

What it drives, the scene above all, belongs to its :class:`~farframe.server.places.Place`, which may outlive the
connection. Everything here runs in the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import structlog

from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message
from farframe.protocol.records import (
    POSE_TYPE,
    REPORT_TYPE,
    FrameRecord,
    decode_pose,
    decode_report,
    encode_frame,
)
from farframe.server.device_link import DeviceLink
from farframe.server.frame_loop import FrameLoop, VideoSettings, microseconds
from farframe.server.ledger import WIRE_STAGES, Ledger
from farframe.stream.encoder import EncodedFrame

if TYPE_CHECKING:
    from farframe.protocol.link import Assign, ServerConfig
    from farframe.server.models import ModelStore
    from farframe.server.places import Place
    from farframe.server.spectators import Audience

log = structlog.get_logger("farframe.connection")

START_BITRATE = 6_000_000
MIN_EDGE_PIXELS = 64
MIN_BITRATE = 100_000


class Connection(DeviceLink):
    """The driving device's connection to its place. Made for each handshake, also for that of a device that comes back.

    ``on_left(connection, reason, message)`` is awaited last, and sees to the place; ``predecessor`` is the connection
    that this one takes over from.
    """

    def __init__(
        self,
        config: ServerConfig,
        assignment: Assign,
        frames: FrameLoop,
        models: ModelStore,
        ledger: Ledger,
        audience: Audience,
        resource_id: str,
        place: Place,
        on_opened: Callable[[Connection], None],
        on_left: Callable[[Connection, str, str], Awaitable[None]],
        predecessor: Connection | None = None,
    ) -> None:
        super().__init__(config, resource_id)
        self.place = place
        self._assignment = assignment
        self._frames = frames
        self._models = models
        self._ledger = ledger
        self._audience = audience
        self._on_opened = on_opened
        self._on_left = on_left
        self._predecessor = predecessor
        self._resumes = place.used
        self.requests.register({"connection.open": self._open_connection}, before_opening=True)
        self.requests.register({"video.configure": self._configure_video, "statistics.get": self._statistics})
        self.requests.register({"performance.assess": self._assess})
        self.requests.register(place.scene.methods)

    # What the transport tells ---------------------------------------------------------------------------------------

    def opened(self) -> None:
        """Media runs: start drawing."""
        transport = self.transport
        assert transport is not None
        log.info("device.connected", resumed=self._resumes)
        place = self.place
        place.used = True
        place.scene.notify = self.notify
        self._ledger.begin_device()
        self._on_opened(self)
        self._audience.begin(place.video, place.scene)

        def send(frame: EncodedFrame) -> None:
            transport.send_video(frame)
            self._audience.send(frame)

        self._frames.open(
            place.video,
            min(START_BITRATE, self.config.max_bitrate),
            send,
            self._on_sending,
            lambda: transport.backlog,
        )
        if place.pose is not None:
            # Its id is that of the connection before; this one counts its own.
            self._frames.set_pose(replace(place.pose, pose_id=0, client_time_us=0), microseconds())

    def on_pose(self, data: bytes) -> None:
        """A record on the pose channel: a pose, a report of frames, or a change of entities."""
        try:
            if data and data[0] == REPORT_TYPE:
                self._ledger.report(decode_report(data))
                if self._ledger.display_delay_us is not None:
                    self._frames.set_delays(
                        (self._ledger.input_delay_us or 0.0) / 1e6, self._ledger.display_delay_us / 1e6
                    )
                return
            if data and data[0] != POSE_TYPE:
                self.place.scene.on_record(data)
                return
            pose = decode_pose(data)
        except FarframeError as error:
            self.requests.bad(error)
            return
        if not self.ending:
            self.place.pose = pose
            self._frames.set_pose(pose, microseconds())

    def on_keyframe_request(self) -> None:
        """The device lost its reference picture."""
        self._frames.request_keyframe()

    def on_bitrate(self, bits_per_second: int) -> None:
        """The transport's estimate of what the network bears."""
        self._frames.set_bitrate(max(MIN_BITRATE, min(bits_per_second, self.place.video.max_bitrate)))

    # Ending ---------------------------------------------------------------------------------------------------------

    def stopped(self) -> None:
        """Nothing is drawn for this device any more."""
        if self.open:
            self._frames.close()
            self.place.scene.disconnect()

    async def left(self, reason: str, message: str) -> None:
        """Hand the place back."""
        await self._on_left(self, reason, message)

    # Frames ---------------------------------------------------------------------------------------------------------

    def _on_sending(self, record: FrameRecord) -> None:
        if self.transport is not None and not self.ending:
            self.transport.send_frame_record(encode_frame(record))
            self._ledger.add(record)
            self._audience.on_sending(record)

    # Requests -------------------------------------------------------------------------------------------------------

    async def _open_connection(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.OpenParams)
        self.check_version(params)
        if self._predecessor is not None:
            # What it was still working on is broken off: what this device is told of the scene stays true.
            await self._predecessor.quiet.wait()
        self._set_video(
            messages.VideoParams(
                width=params.width, height=params.height, max_frames_per_second=params.max_frames_per_second
            )
        )
        self.place.render_mode = messages.DEFAULT_RENDER_MODE if params.render_mode == "Default" else params.render_mode
        told = await self.describe(self._assignment, self._frames, self._models.encoder_name, self.place.video)
        told.render_mode = self.place.render_mode
        told.resume_grace_seconds = self.config.resume_grace_seconds
        told.resume_secret = self.place.secret if told.resume_grace_seconds > 0 else ""
        told.resumed = self._resumes
        told.scene = self.place.scene.describe() if self._resumes else None
        return told

    async def _configure_video(self, message: Incoming) -> Message:
        return self._set_video(messages.convert_params(message.params, messages.VideoParams))

    def _set_video(self, params: messages.VideoParams) -> messages.VideoResult:
        """Take a wish for the picture: pixels are made even, everything is kept within the server's limits."""
        now = self.place.video
        width = now.width if params.width is None else params.width
        height = now.height if params.height is None else params.height
        rate = now.max_frames_per_second if params.max_frames_per_second is None else params.max_frames_per_second
        bitrate = now.max_bitrate if params.max_bitrate is None else params.max_bitrate
        if not (MIN_EDGE_PIXELS <= width <= self.config.max_width):
            raise _out_of_range("width", width, MIN_EDGE_PIXELS, self.config.max_width)
        if not (MIN_EDGE_PIXELS <= height <= self.config.max_height):
            raise _out_of_range("height", height, MIN_EDGE_PIXELS, self.config.max_height)
        if not (1 <= rate <= 120):
            raise _out_of_range("maxFramesPerSecond", rate, 1, 120)
        if bitrate < MIN_BITRATE:
            raise _out_of_range("maxBitrate", bitrate, MIN_BITRATE, self.config.max_bitrate)
        video = VideoSettings(width & ~1, height & ~1, rate, min(bitrate, self.config.max_bitrate))
        if video != now:
            self.place.video = video
            self._frames.set_video(video)
            self._audience.show(video)
        return messages.VideoResult(**asdict(video))

    async def _statistics(self, message: Incoming) -> Message:
        transport = self.transport
        told = server_statistics(
            self._ledger,
            self._models.encoder_name,
            self.place.scene.model_count,
            transport.target_bitrate if transport else 0,
        )
        told.render_mode = self.place.render_mode
        return told

    async def _assess(self, message: Incoming) -> Message:
        return await self._models.assess(self._assignment, self._ledger, self.place.video.max_frames_per_second)


def server_statistics(ledger: Ledger, encoder: str, models: int, target_bitrate: int) -> messages.StatisticsResult:
    """The server's last second, for one device: ``target_bitrate`` is what its line carries, bits per second."""
    summary = ledger.summary()
    last = summary.last
    return messages.StatisticsResult(
        frames_per_second=summary.frames_per_second,
        bitrate=summary.bitrate,
        draw_ms=summary.draw_ms,
        read_back_ms=summary.read_back_ms,
        encode_ms=summary.encode_ms,
        triangles=last.triangles if last else 0,
        draws=last.draws if last else 0,
        samples=last.samples if last else 0,
        drawn_width=last.drawn_width if last else 0,
        drawn_height=last.drawn_height if last else 0,
        encoder=ledger.encoders.name if ledger.encoders else encoder,
        models=models,
        keyframes=ledger.keyframes,
        target_bitrate=target_bitrate,
        encoder_reason=ledger.encoders.reason if ledger.encoders else "",
        stages={
            WIRE_STAGES[name]: messages.StageStatistics(p50=stage.p50, p95=stage.p95, p99=stage.p99, frames=stage.count)
            for name, stage in ledger.stages().items()
        },
        frames_arrived=ledger.frames_arrived,
        frames_missing=ledger.frames_missing,
        primitives_rating="Bad" if last and last.over_limit else "Good",
    )


def _out_of_range(name: str, value: float, low: float, high: float) -> FarframeError:
    return FarframeError(Result.INVALID_PARAM, f"{name} is {value}.", next_step=f"Choose a value from {low} to {high}.")
