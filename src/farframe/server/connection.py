"""One device's connection: its transport, its scene, its requests. When it ends, nothing of it is left.

    state        one line
    -----------  ----------------------------------------------------------------------------------
    handshake    the answer is out; the place is taken; no packet yet
    open         media and channels run; frames are sent
    closed       transport gone, scene empty, models released: the next device may come

Everything here runs in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from farframe import __version__
from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message
from farframe.protocol.records import FrameRecord, decode_pose, encode_frame
from farframe.scene.scene import Scene
from farframe.server.frame_loop import FrameLoop, VideoSettings, microseconds
from farframe.server.ledger import Ledger
from farframe.stream.device import Device, DeviceHandler, DeviceTransport, TransportConfig

if TYPE_CHECKING:
    from farframe.protocol.link import Assign, ServerConfig
    from farframe.server.models import LoadedModel, ModelStore

log = structlog.get_logger("farframe.connection")

HANDSHAKE_TIMEOUT_SECONDS = 10.0
"""From the answer until media must run; after that the place is free again."""

LIVENESS_INTERVAL_SECONDS = 0.5
MAX_PENDING_REQUESTS = 64
MAX_BAD_MESSAGES = 200
"""Malformed messages and records after which a device is sent away: it speaks something else."""

START_BITRATE = 6_000_000
MIN_EDGE_PIXELS = 64
MIN_BITRATE = 100_000
END_FLUSH_SECONDS = 0.15
"""How long the notice of the end may take to leave before the transport closes."""

Handler = Callable[[Incoming], Awaitable[Message | None]]


class Connection:
    """The device that is connected. Made by :meth:`accept`; ``closed`` is set when it has ended."""

    def __init__(
        self,
        config: ServerConfig,
        assignment: Assign,
        frames: FrameLoop,
        models: ModelStore,
        ledger: Ledger,
        resource_id: str,
        on_state: Callable[[bool, str], None],
    ) -> None:
        self.resource_id = resource_id
        self.closed = asyncio.Event()
        self.scene = Scene()
        self._config = config
        self._assignment = assignment
        self._frames = frames
        self._models = models
        self._ledger = ledger
        self._on_state = on_state
        self._transport: Device | None = None
        self._open = False
        self._closing = False
        self._greeted = False
        self._bad_messages = 0
        self._loaded: dict[int, LoadedModel] = {}
        self._requests: dict[int | str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._video = VideoSettings(1280, 720, 60, config.max_bitrate)
        self._methods: dict[str, Handler] = {
            "connection.open": self._open_connection,
            "connection.ping": self._ping,
            "connection.close": self._close_connection,
            "video.configure": self._configure_video,
            "scene.loadModel": self._load_model,
            "scene.unloadModel": self._unload_model,
            "scene.clear": self._clear_scene,
            "scene.configure": self._configure_scene,
            "statistics.get": self._statistics,
        }

    async def accept(self, offer_sdp: str) -> str:
        """Answer a device's offer. Raises :class:`FarframeError`; then nothing is left and the place is free."""
        config = TransportConfig(
            bind_host=self._config.bind_host,
            public_addresses=self._config.public_addresses,
            port_min=self._config.port_min,
            port_max=self._config.port_max,
            stun_servers=self._config.stun_servers,
        )
        try:
            transport = await DeviceTransport.accept(offer_sdp, config, self, max_bitrate=self._config.max_bitrate)
        except BaseException:
            self.closed.set()
            raise
        self._transport = transport
        self._spawn(self._watch(), "liveness")
        return transport.answer_sdp

    def attach(self, make_device: Callable[[DeviceHandler, int], Device]) -> None:
        """Take a device that came by another way than an offer. ``make_device`` gets the handler and the highest bit
        rate, and may call the handler from its next turn of the event loop on."""
        try:
            self._transport = make_device(self, self._config.max_bitrate)
        except BaseException:
            self.closed.set()
            raise
        self._spawn(self._watch(), "liveness")

    # What the transport tells (DeviceHandler) -------------------------------------------------------------------

    def on_connected(self) -> None:
        """Media runs: start drawing."""
        if self._open or self._closing or self._transport is None:
            return
        self._open = True
        transport = self._transport
        log.info("device.connected")
        self._on_state(True, "")
        self._frames.open(
            self._video,
            min(START_BITRATE, self._config.max_bitrate),
            transport.send_video,
            self._on_sending,
            lambda: transport.backlog,
        )

    def on_control(self, text: str) -> None:
        """A message on the control channel."""
        try:
            message = messages.decode(text)
        except FarframeError as error:
            self._bad(error)
            self._send(messages.encode_error(None, error))
            return
        if message.method is None:
            return  # an answer; this server asks nothing
        if message.method == "$/cancelRequest":
            self._cancel(message)
            return
        if message.id is None:
            return  # an unknown notification is ignored, as JSON-RPC says
        if message.id in self._requests:
            taken = FarframeError(Result.INVALID_PARAM, f"The request id {message.id!r} is still in use.")
            self._send(messages.encode_error(message.id, taken))
            return
        if len(self._requests) >= MAX_PENDING_REQUESTS:
            busy = FarframeError(
                Result.IN_PROGRESS,
                f"{MAX_PENDING_REQUESTS} requests are already being worked on.",
                next_step="Wait for answers before asking more.",
            )
            self._send(messages.encode_error(message.id, busy))
            return
        self._requests[message.id] = self._spawn(self._answer(message, message.id), f"request-{message.method}")

    def on_pose(self, data: bytes) -> None:
        """A record on the pose channel."""
        try:
            pose = decode_pose(data)
        except FarframeError as error:
            self._bad(error)
            return
        self._frames.set_pose(pose, microseconds())

    def on_keyframe_request(self) -> None:
        """The device lost its reference picture."""
        self._frames.request_keyframe()

    def on_bitrate(self, bits_per_second: int) -> None:
        """The transport's estimate of what the network bears."""
        self._frames.set_bitrate(max(MIN_BITRATE, min(bits_per_second, self._video.max_bitrate)))

    def on_closed(self, reason: str) -> None:
        """The device or the network ended it."""
        self.end(reason or Result.DISCONNECT_REQUEST, "The device is gone.", tell=False)

    # Ending -----------------------------------------------------------------------------------------------------

    def end(self, reason: Result | str, message: str, *, tell: bool = True) -> asyncio.Task[None] | None:
        """Begin to end the connection; the device hears why if ``tell``. ``closed`` is set when all is done."""
        if self._closing:
            return None
        self._closing = True
        return self._spawn(self._end(str(reason), message, tell), "end")

    async def _end(self, reason: str, message: str, tell: bool) -> None:
        self._frames.close()
        log.info("device.leaving", reason=reason, message=message)
        transport = self._transport
        if transport is not None:
            if tell:
                params = messages.EndingParams(reason=reason, message=message)
                self._send(messages.encode_notification("session.ending", params))
                await asyncio.sleep(END_FLUSH_SECONDS)
            with contextlib.suppress(Exception):
                await transport.close()
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.scene.clear()
        loaded, self._loaded = list(self._loaded.values()), {}
        try:
            await self._models.remove(loaded)
            await self._models.reset()
        finally:
            self._on_state(False, reason)
            self.closed.set()

    async def _watch(self) -> None:
        """Free the place of a device that never came or has fallen silent."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANDSHAKE_TIMEOUT_SECONDS
        while not self._closing:
            await asyncio.sleep(LIVENESS_INTERVAL_SECONDS)
            transport = self._transport
            if transport is None:
                continue
            if not self._open:
                if loop.time() > deadline:
                    self.end(Result.HANDSHAKE_FAILED, "The device never connected.", tell=False)
            elif loop.time() - transport.last_heard > self._config.device_timeout_seconds:
                self.end(Result.CONNECTION_LOST, "The device has not been heard for too long.", tell=False)

    # Frames -----------------------------------------------------------------------------------------------------

    def _on_sending(self, record: FrameRecord) -> None:
        if self._transport is not None and not self._closing:
            self._transport.send_frame_record(encode_frame(record))
            self._ledger.add(record)

    # Requests ---------------------------------------------------------------------------------------------------

    async def _answer(self, message: Incoming, identifier: int | str) -> None:
        method = message.method or ""
        try:
            handler = self._methods.get(method)
            if handler is None:
                raise FarframeError(Result.NOT_SUPPORTED, f"There is no method {method[:80]!r}.")
            if not self._greeted and method not in ("connection.open", "connection.ping", "connection.close"):
                raise FarframeError(
                    Result.PROTOCOL_ERROR, f"{method} came before connection.open.", next_step="Call that first."
                )
            answer = messages.encode_result(identifier, await handler(message))
        except FarframeError as error:
            if error.result is Result.PROTOCOL_ERROR:
                self._bad(error)
            log.info("request.refused", method=method[:80], result=str(error.result), message=error.message)
            answer = messages.encode_error(identifier, error)
        except asyncio.CancelledError:
            if self._closing:
                raise
            answer = messages.encode_error(identifier, FarframeError(Result.CANCELLED, "The request was cancelled."))
        except Exception:
            log.error("request.failed", method=method[:80], exc_info=True)
            failure = FarframeError(
                Result.FAIL, "Something went wrong in the server.", next_step="See the server's log."
            )
            answer = messages.encode_error(identifier, failure)
        finally:
            self._requests.pop(identifier, None)
        self._send(answer)

    def _cancel(self, message: Incoming) -> None:
        try:
            params = messages.convert_params(message.params, messages.CancelParams)
        except FarframeError as error:
            self._bad(error)
            return
        task = self._requests.get(params.id)
        if task is not None:
            task.cancel()

    async def _open_connection(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.OpenParams)
        if params.protocol != messages.PROTOCOL_VERSION:
            raise FarframeError(
                Result.PROTOCOL_VERSION_MISMATCH,
                f"The device speaks protocol {params.protocol}, this server {messages.PROTOCOL_VERSION}.",
                next_step="Update the older side.",
            )
        self._greeted = True
        video = self._set_video(
            messages.VideoParams(
                width=params.width, height=params.height, max_frames_per_second=params.max_frames_per_second
            )
        )
        engine = await self._frames.engine()
        return messages.OpenResult(
            protocol=messages.PROTOCOL_VERSION,
            session_id=self._assignment.session_id,
            size=self._assignment.size,
            server=messages.ServerInfo(
                version=__version__,
                adapter=engine.adapter_name,
                adapter_kind=engine.adapter_kind,
                encoder=self._models.encoder_name,
            ),
            video=video,
            max_width=self._config.max_width,
            max_height=self._config.max_height,
        )

    async def _ping(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.PingParams)
        return messages.PingResult(client_time_us=params.client_time_us, server_time_us=microseconds())

    async def _close_connection(self, message: Incoming) -> None:
        self.end(Result.DISCONNECT_REQUEST, "The device disconnected.", tell=False)

    async def _configure_video(self, message: Incoming) -> Message:
        return self._set_video(messages.convert_params(message.params, messages.VideoParams))

    def _set_video(self, params: messages.VideoParams) -> messages.VideoResult:
        """Take a wish for the picture: pixels are made even, everything is kept within the server's limits."""
        now = self._video
        width = now.width if params.width is None else params.width
        height = now.height if params.height is None else params.height
        rate = now.max_frames_per_second if params.max_frames_per_second is None else params.max_frames_per_second
        bitrate = now.max_bitrate if params.max_bitrate is None else params.max_bitrate
        if not (MIN_EDGE_PIXELS <= width <= self._config.max_width):
            raise _out_of_range("width", width, MIN_EDGE_PIXELS, self._config.max_width)
        if not (MIN_EDGE_PIXELS <= height <= self._config.max_height):
            raise _out_of_range("height", height, MIN_EDGE_PIXELS, self._config.max_height)
        if not (1 <= rate <= 120):
            raise _out_of_range("maxFramesPerSecond", rate, 1, 120)
        if bitrate < MIN_BITRATE:
            raise _out_of_range("maxBitrate", bitrate, MIN_BITRATE, self._config.max_bitrate)
        self._video = VideoSettings(width & ~1, height & ~1, rate, min(bitrate, self._config.max_bitrate))
        self._frames.set_video(self._video)
        return messages.VideoResult(**asdict(self._video))

    async def _load_model(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.LoadModelParams)

        def progress(stage: str, fraction: float) -> None:
            if params.progress_token and not self._closing:
                note = messages.LoadProgressParams(
                    progress_token=params.progress_token, stage=stage, fraction=min(max(fraction, 0.0), 1.0)
                )
                self._send(messages.encode_notification("scene.loadProgress", note))

        loaded = await self._models.load(params.uri, self._assignment, progress)
        try:
            entry = self.scene.add_model(loaded.model_name, params.uri)
        except OverflowError as error:
            await self._models.remove([loaded])
            raise FarframeError(Result.EXCEEDS_MEMORY_LIMIT, str(error), next_step="Unload a model first.") from None
        self._loaded[entry.model_id] = loaded
        log.info("model.loaded", model=entry.model_id, parts=loaded.part_count, triangles=loaded.triangle_count)
        return loaded.to_result(entry.model_id, params.uri)

    async def _unload_model(self, message: Incoming) -> None:
        params = messages.convert_params(message.params, messages.UnloadModelParams)
        try:
            self.scene.remove_model(params.model_id)
        except KeyError:
            raise FarframeError(Result.INVALID_ID, f"No model has the id {params.model_id}.") from None
        await self._models.remove([self._loaded.pop(params.model_id)])

    async def _clear_scene(self, message: Incoming) -> None:
        self.scene.clear()
        loaded, self._loaded = list(self._loaded.values()), {}
        await self._models.remove(loaded)
        await self._models.apply(self.scene.settings)

    async def _configure_scene(self, message: Incoming) -> Message:
        params = messages.convert_params(message.params, messages.SceneParams)
        changes = {name: value for name in params.__struct_fields__ if (value := getattr(params, name)) is not None}
        try:
            settings = self.scene.configure(**changes)
        except ValueError as error:
            raise FarframeError(Result.INVALID_PARAM, str(error)) from None
        await self._models.apply(settings)
        return messages.SceneResult(**asdict(settings))

    async def _statistics(self, message: Incoming) -> Message:
        summary = self._ledger.summary()
        last = summary.last
        transport = self._transport
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
            encoder=self._models.encoder_name,
            models=len(self._loaded),
            keyframes=self._ledger.keyframes,
            target_bitrate=transport.target_bitrate if transport else 0,
        )

    # Small things -----------------------------------------------------------------------------------------------

    def _send(self, text: str) -> None:
        if self._transport is not None:
            self._transport.send_control(text)

    def _bad(self, error: FarframeError) -> None:
        self._bad_messages += 1
        if self._bad_messages == MAX_BAD_MESSAGES:
            log.warning("device.bad_messages", count=self._bad_messages, last=error.message)
            self.end(Result.PROTOCOL_ERROR, "The device sent too many messages that are not of this protocol.")

    def _spawn(self, coroutine: Awaitable[None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _out_of_range(name: str, value: float, low: float, high: float) -> FarframeError:
    return FarframeError(Result.INVALID_PARAM, f"{name} is {value}.", next_step=f"Choose a value from {low} to {high}.")
