"""A device's connection to its render server: requests, poses out, frames in.

    state         one line
    ------------  -------------------------------------------------------------------------------
    open          channels and media run; a ping goes out every second
    interrupted   the line was lost and is being made anew; what was asked before has failed
                  (retryable), what is asked now waits
    ended         the server, or the network, ended it: iterators and calls raise why
    closed        ended from here: nothing of it is left; iterators end, calls raise

Everything runs in the event loop of the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from farframe import __version__
from farframe.client import _uploads, camera
from farframe.client._clock import ClockAlignment, now_us
from farframe.client._handshake import Handshake, Wish, give_up, say_goodbye
from farframe.client._pose_pace import PosePace
from farframe.client._reconnection import Reconnection
from farframe.client._reports import REPORT_INTERVAL_SECONDS, FrameReporter
from farframe.client._returning import Line
from farframe.client._rpc import Caller
from farframe.client._transport import Transport, TransportFactory, Unconnected
from farframe.client._ways import find_way, with_round_trip
from farframe.client.errors import (
    ConnectionLostError,
    FarframeClientError,
    HandshakeError,
    RequestError,
    RequestTimeoutError,
    RuntimeConnectionError,
    SessionEndedError,
)
from farframe.client.frame import Frame, FrameStream, Matcher, Picture, StillTracker, timings_of
from farframe.client.performance import FrameMeter, FrameStatistics
from farframe.client.scene import Scene
from farframe.client.ways import Way, WayChoice
from farframe.protocol import messages
from farframe.protocol.appearance import LoadTextureParams, TextureInfo, TextureKind
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import (
    Bounds,
    DescribeParams,
    DriverJoinedParams,
    EndingParams,
    LoadModelParams,
    LoadModelResult,
    LoadProgressParams,
    Message,
    OpenParams,
    OpenResult,
    PingParams,
    PingResult,
    RenderMode,
    RenderModeChoice,
    SceneDescription,
    SceneGraphMode,
    SceneParams,
    SceneResult,
    StatisticsResult,
    UnloadModelParams,
    VideoParams,
    VideoResult,
)
from farframe.protocol.performance import PerformanceAssessment
from farframe.protocol.records import (
    MAX_VIEWS,
    PoseFlags,
    PoseRecord,
    ReportedFrame,
    View,
    decode_frame,
    decode_pose,
    encode_pose,
    encode_report,
)

if TYPE_CHECKING:
    from farframe.client.recording import ProgressCallback, Recording
    from farframe.client.session import Relayed, Session
    from farframe.stream.jitter import AssembledFrame

PING_INTERVAL_SECONDS = 0.9
PING_TIMEOUT_SECONDS = 4.5
FIRST_PINGS = 3
"""Pings at the start, one after the other, that align the clocks before the first frame is judged."""

REQUEST_TIMEOUT_SECONDS = 15.0
RESEND_FIRST_SECONDS = 0.2
RESEND_MAX_SECONDS = 1.0
"""The pose channel may lose records: the newest pose is sent again until a frame shows that it arrived."""

SCATTERED_FACTOR = 10.0
"""Once parts were moved within their models nobody here knows how far: clip distances then hold a box so much larger.
Depth is as precise as a 32-bit float, near or far, so that costs nothing that is seen."""

STATISTICS_WINDOW_US = 1_000_000
ID_RANGE = 1 << 32


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is. ``stage`` is ``send`` (a local file is on its way to the service), ``download``, ``read``,
    ``simplify`` or ``upload`` (to the graphics device); ``fraction`` of the whole, 0 to 1, never falls."""

    stage: str
    fraction: float


LoadCallback = Callable[[LoadProgress], None]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in the connection's scene. ``bounds``: what its file holds, metres, in the space of its root entity;
    :meth:`Entity.bounds` tells where all of it stands by now. ``warnings`` name what was left out; its entities are
    ``entity_count`` with ids from ``root_entity`` on, see :meth:`Scene.load_model`."""

    model_id: int
    name: str
    uri: str
    bounds: Bounds
    part_count: int
    triangle_count: int
    vertex_count: int
    material_count: int
    texture_count: int
    warnings: tuple[str, ...] = ()
    root_entity: int = 0
    entity_count: int = 0
    scene_graph_mode: SceneGraphMode = "dynamic"


def _loaded(result: LoadModelResult) -> LoadedModel:
    """A model as the server tells of it."""
    return LoadedModel(
        model_id=result.model_id,
        name=result.name,
        uri=result.uri,
        bounds=result.bounds,
        part_count=result.part_count,
        triangle_count=result.triangle_count,
        vertex_count=result.vertex_count,
        material_count=result.material_count,
        texture_count=result.texture_count,
        warnings=tuple(result.warnings),
        root_entity=result.root_entity,
        entity_count=result.entity_count,
        scene_graph_mode=result.scene_graph_mode,
    )


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


@dataclass(slots=True)
class _LookAt:
    """The last :meth:`RuntimeConnection.look_at`, kept so that clip distances follow what is loaded later."""

    eye: camera.Vector3
    target: camera.Vector3
    up: camera.Vector3
    vertical_fov_degrees: float
    near: float | None
    far: float | None
    orthographic: float | None


@dataclass(slots=True)
class _Load:
    """A running load: its callback and how much of the whole came before."""

    callback: LoadCallback
    before: float
    reached: float = 0.0

    def report(self, stage: str, fraction: float) -> None:
        whole = self.before + (1.0 - self.before) * min(max(fraction, 0.0), 1.0)
        self.reached = max(self.reached, whole)
        self.callback(LoadProgress(stage, self.reached))


@dataclass(slots=True)
class _Seen:
    """A frame for the statistics: when it was decoded and how long after its pose, microseconds."""

    decoded_us: int
    latency_us: int | None


class RuntimeConnection:
    """A connected device. Made by :meth:`Session.connect`, which also closes it.

    Calls raise RequestError when the server refuses or fails them, RequestTimeoutError when it does not answer, and
    SessionEndedError or ConnectionLostError once the connection has ended.
    """

    def __init__(
        self, session: Session, make_transport: TransportFactory, *, watch: bool = False, reconnect: bool = True
    ) -> None:
        self.session = session
        self.info: OpenResult | None = None
        """What the server said when the connection was opened."""
        self._make_transport = make_transport
        self._transport: Transport = Unconnected()
        self._handshake: Handshake | None = None
        self._way: Way | None = None
        self._line: Line | None = None
        self._wanted = OpenParams(protocol=messages.PROTOCOL_VERSION)
        self._watch = watch
        self._return = Reconnection(self, wanted=reconnect)
        self._relayed: Relayed = "auto"
        self._way_choice: WayChoice = "auto"
        self._driver = True
        self._caller = Caller(self._send_control, self._on_notification)
        self._closed = False
        self._close_task: asyncio.Task[None] | None = None
        self._error: RuntimeConnectionError | None = None
        self._on_ending: list[Callable[[SessionEndedError], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
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
        self._last_heard = asyncio.get_running_loop().time()
        self._video = VideoResult(width=1280, height=720, max_frames_per_second=60, max_bitrate=0)
        self._models: dict[int, LoadedModel] = {}
        self._loads: dict[str, _Load] = {}
        self._tokens = itertools.count(1)
        self._pose: PoseRecord | None = None
        self._pose_seen = asyncio.Event()
        self._pose_pace = PosePace()
        self._pose_changed = asyncio.Event()
        self._look_at: _LookAt | None = None
        self.scene = Scene(_SceneLink(self))
        """The entities: what is loaded and made, and where and how it is drawn."""

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ended" if self._error else "interrupted" if self.interrupted else "open"
        return f"RuntimeConnection(session={self.session.id!r}, {state})"

    # Opening and closing ----------------------------------------------------------------------------------------

    async def _open(
        self,
        width: int,
        height: int,
        relayed: Relayed,
        max_frames_per_second: int,
        way: WayChoice,
        render_mode: RenderModeChoice,
    ) -> None:
        self._relayed, self._way_choice = relayed, way
        self._wanted = OpenParams(
            protocol=messages.PROTOCOL_VERSION,
            client=f"farframe-python/{__version__}",
            width=width,
            height=height,
            max_frames_per_second=max_frames_per_second,
            render_mode=render_mode,
        )
        await self._make_line(Wish(watch=self._watch))
        self._return.settled.set()
        for _ in range(FIRST_PINGS):
            await self._ping()
        if self._return.possible:
            self._spawn(self._return.watch_route(), "farframe route")
        self._spawn(self._keep_alive(), "farframe ping")
        self._spawn(self._resend_pose(), "farframe pose")
        self._spawn(self._report_frames(), "farframe reports")

    async def _make_line(self, wish: Wish) -> None:
        """Connect and open the connection. What fails leaves a transport that :meth:`close`, or the next line, ends."""
        line = self._line = Line(self)
        caller = self._caller = Caller(self._send_control, self._on_notification)
        found = await find_way(
            self.session.client._http,
            self.session.properties,
            line,
            relayed=self._relayed,
            way=self._way_choice,
            make_transport=self._make_transport,
            wish=wish,
        )
        self._transport, self._handshake, self._way = found.transport, found.handshake, found.way
        info = await caller.call("connection.open", self._wanted, OpenResult, timeout=REQUEST_TIMEOUT_SECONDS)
        if info.protocol != messages.PROTOCOL_VERSION:
            raise HandshakeError(
                Result.PROTOCOL_VERSION_MISMATCH,
                f"The server speaks protocol {info.protocol}, this client {messages.PROTOCOL_VERSION}.",
                next_step="Update the older side.",
            )
        self.info, self._video, self._driver = info, info.video, info.driver
        if info.scene is not None:
            await self._adopt(info.scene)

    async def _adopt(self, scene: SceneDescription) -> None:
        """Know the models that are in the scene already; those that are known stay the objects that they are."""
        found = {model.model_id: self._models.get(model.model_id) or _loaded(model) for model in scene.models}
        while scene.more and scene.models:
            scene = await self._caller.call(
                "scene.describe",
                DescribeParams(after_model_id=scene.models[-1].model_id),
                SceneDescription,
                timeout=REQUEST_TIMEOUT_SECONDS,
            )
            found |= {model.model_id: self._models.get(model.model_id) or _loaded(model) for model in scene.models}
        self._models = found

    # Leaving and coming back ------------------------------------------------------------------------------------

    @property
    def interrupted(self) -> bool:
        """Whether the connection was lost and is being made anew."""
        return self.info is not None and not self._return.settled.is_set()

    @property
    def role(self) -> str:
        """``driver``, or ``viewer`` for a device that watches."""
        return self.info.role if self.info is not None else "viewer" if self._watch else "driver"

    @property
    def render_mode(self) -> RenderMode | None:
        """The render mode of Azure Remote Rendering that this device drives in; ``None`` for one that watches."""
        return self.info.render_mode if self.info is not None else None

    @property
    def driven(self) -> bool:
        """Whether there is a device that drives; for one that watches, without it nothing moves."""
        return self._driver

    def on_interrupted(self, callback: Callable[[RuntimeConnectionError], None]) -> None:
        """Have ``callback`` called, in the event loop, when the connection was lost and is about to be made anew."""
        self._return.on_interrupted.append(callback)

    def on_resumed(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, in the event loop, when it is back, with its scene. What was asked and not answered
        before has failed with ConnectionLostError."""
        self._return.on_resumed.append(callback)

    def network_changed(self) -> None:
        """Say that this machine's network has changed: unless the server answers right away, the connection is made
        anew. Needed only by those who know earlier than this client, which looks at the route by itself."""
        if self._error is None and not self.interrupted:
            self._spawn(self._return.prove(), "farframe proof")

    def is_on(self, line: Line) -> bool:
        """Whether that is the present line."""
        return line is self._line

    def _drop_line(self) -> Transport:
        """Let go of the transport, and hand it to who sees to its end."""
        former, self._transport = self._transport, Unconnected()
        self._line = self._handshake = None
        return former

    def _begin_anew(self) -> None:
        """There is another line: what was known of frames on the one before is void."""
        self._matcher = Matcher()
        self._reporter.take()  # of frames whose time stamps are used again
        self._last_heard = asyncio.get_running_loop().time()

    async def _carry_on(self) -> None:
        """Say once more what may have been lost with the line before."""
        if self._pose is not None:
            self._pose_seen.clear()
            self._pose_changed.set()
            self._transport.send_pose(encode_pose(self._pose))
        self._scene_changed()
        await self.scene.resumed()

    async def close(self) -> None:
        """End the connection and free everything. May be called again; survives the caller's cancellation."""
        if self._close_task is None:
            self._closed = True
            self._close_task = asyncio.create_task(self._close(), name="farframe close")
        await asyncio.shield(self._close_task)

    async def _close(self) -> None:
        await self.scene.close()
        told = isinstance(self._error, SessionEndedError)
        self._end(ConnectionLostError(Result.DISCONNECT_REQUEST, "The connection was closed by this device."))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What goes wrong there is told by whoever stops or waits for the recording.
        await asyncio.gather(*[recording.stop() for recording in self._recordings], return_exceptions=True)
        http = self.session.client._http
        secret = self.info.resume_secret if self.info is not None else ""
        if not told:
            # When this is answered, the place is free for the next device.
            known = self._handshake is not None and await say_goodbye(http, self._handshake)
            if secret and not known:
                # The server has lost this device, noticed here or not, and keeps the scene for nobody.
                with contextlib.suppress(FarframeClientError):
                    await give_up(http, self.session.properties, self._relayed, secret)
        await self._transport.close()
        await self._return.close_former()

    def _end(self, error: RuntimeConnectionError) -> None:
        """Let everybody who waits know that it is over. The first reason stays."""
        if self._error is not None:
            return
        self._error = error
        self._return.settled.set()
        self._caller.end(error)
        for stream in self._streams:
            stream.end(None if self._closed else error)
        for recording in self._recordings:
            recording.connection_ended()
        self._announce_change()
        if isinstance(error, SessionEndedError):
            for callback in self._on_ending:
                callback(error)

    @property
    def ended(self) -> RuntimeConnectionError | None:
        """Why the connection ended, or ``None`` while it is open."""
        return self._error

    @property
    def relayed(self) -> bool:
        """Whether the handshake, or over a WebSocket the whole stream, goes through the service."""
        return self._way is not None and self._way.relayed

    @property
    def way(self) -> Way:
        """By which way the stream travels, why, and the shortest round trip that was measured."""
        if self._way is None:
            raise ConnectionLostError(Result.CONNECTION_LOST, "The connection has not been made.")
        return with_round_trip(self._way, self._clock.round_trip_us)

    def on_ending(self, callback: Callable[[SessionEndedError], None]) -> None:
        """Have ``callback`` called, in the event loop, when the server ends the connection and says why."""
        self._on_ending.append(callback)

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What the transport tells (TransportHandler) ----------------------------------------------------------------

    def on_control(self, text: str) -> None:
        """A message on the control channel."""
        self._last_heard = asyncio.get_running_loop().time()
        self._caller.receive(text)

    def on_frame_record(self, data: bytes) -> None:
        """A record on the frames channel."""
        self._last_heard = asyncio.get_running_loop().time()
        try:
            record = decode_frame(data)
        except FarframeError:
            self._bad_records += 1
            return
        for picture, matched in self._matcher.add_record(record):
            self._deliver(picture, matched)

    def on_picture(self, picture: Picture) -> None:
        """A decoded picture."""
        for complete, record in self._matcher.add_picture(picture):
            self._deliver(complete, record)

    def on_access_unit(self, frame: AssembledFrame) -> None:
        """A coded frame, before it is decoded."""
        for recording in self._recordings:
            recording.add(frame)

    def on_closed(self, reason: str) -> None:
        """The server said goodbye or fell silent."""
        if reason == Result.DISCONNECT_REQUEST:
            self._end(
                SessionEndedError(
                    Result.DISCONNECT_REQUEST,
                    "The render server ended the connection.",
                    next_step="Look whether the session is still ready, then connect again.",
                )
            )
        else:
            self._return.lose(
                ConnectionLostError(
                    Result.CONNECTION_LOST,
                    "The connection to the render server broke.",
                    next_step="Connect again; if that fails, look whether the session is still ready.",
                )
            )

    def _send_control(self, text: str) -> None:
        if len(text.encode()) > messages.MAX_CONTROL_MESSAGE_BYTES:
            raise RequestError(
                Result.INVALID_PARAM,
                f"The request is larger than {messages.MAX_CONTROL_MESSAGE_BYTES} bytes.",
                next_step="Shorten its parameters.",
            )
        self._transport.send_control(text)

    def _on_notification(self, method: str, params: msgspec.Raw) -> None:
        if method == "scene.loadProgress":
            progress = messages.convert_params(params, LoadProgressParams)
            load = self._loads.get(progress.progress_token)
            if load is not None:
                load.report(progress.stage, progress.fraction)
        elif method == "session.ending":
            ending = messages.convert_params(params, EndingParams)
            try:
                reason = Result(ending.reason)
            except ValueError:
                reason = Result.FAIL
            self._end(SessionEndedError(reason, ending.message or "The server ended the connection."))
        elif method in ("driver.joined", "driver.left", "video.changed"):
            self._driver = method != "driver.left" and (self._driver or method == "driver.joined")
            if method == "driver.joined":
                self._video = messages.convert_params(params, DriverJoinedParams).video
            elif method == "video.changed":
                self._video = messages.convert_params(params, VideoResult)
            self._announce_change()

    # Requests ---------------------------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        params: Message | None,
        kind: type[messages.T],
        *,
        timeout: float | None = REQUEST_TIMEOUT_SECONDS,
        on_late_result: Callable[[messages.T], None] | None = None,
    ) -> messages.T:
        if self.interrupted:
            try:
                async with asyncio.timeout(timeout):
                    await self._return.settled.wait()
            except TimeoutError:
                raise RequestTimeoutError(
                    Result.FAIL,
                    f"The connection was not back within {timeout:g} seconds.",
                    next_step="Wait longer, or connect anew.",
                ) from None
        return await self._caller.call(method, params, kind, timeout=timeout, on_late_result=on_late_result)

    async def _ping(self) -> None:
        sent = now_us()
        answer = await self._call(
            "connection.ping", PingParams(client_time_us=sent), PingResult, timeout=PING_TIMEOUT_SECONDS
        )
        if answer.client_time_us == sent:
            self._clock.add(sent, answer.server_time_us, now_us())

    async def _keep_alive(self) -> None:
        """Ping for ever, on time even while an answer is late: the server frees the place of a silent device."""
        loop = asyncio.get_running_loop()
        while self._error is None:
            await asyncio.sleep(PING_INTERVAL_SECONDS)
            if self.interrupted:
                continue
            self._spawn(self._ping_once(), "farframe ping")
            if loop.time() - self._last_heard > PING_TIMEOUT_SECONDS:
                self._return.lose(
                    ConnectionLostError(
                        Result.CONNECTION_LOST,
                        f"The render server has not answered for {PING_TIMEOUT_SECONDS:g} seconds.",
                        next_step="Connect again; if that fails, look whether the session is still ready.",
                    )
                )

    async def _ping_once(self) -> None:
        # A late answer ends the connection in _keep_alive, by what was heard last, not by one lost race.
        with contextlib.suppress(RequestError, RequestTimeoutError, ConnectionLostError, SessionEndedError):
            await self._ping()

    async def load_model(
        self, model: str | os.PathLike[str], progress: LoadCallback | None = None, *, parent: int = 0
    ) -> LoadedModel:
        """Load a model into the scene and wait until it is there. To move, hide or colour its parts, load it by
        :meth:`Scene.load_model` of :attr:`scene`. ``parent``: the id of the entity below which it hangs, 0 for none.

        ``model`` is a URI that the render server reads (``builtin://Engine``, ``upload://``, ``https://``, a
        ``file://`` below the folders that the operator allows) or a path on this machine, which is first uploaded
        (see :meth:`RemoteRenderingClient.upload`). ``progress`` is called with :class:`LoadProgress`. A cancelled
        call leaves no model behind. Raises RequestError (FileNotFound, FileCorrupt, InvalidUri, ...), LocalFileError,
        ServiceError.
        """
        load = _Load(progress or (lambda _: None), before=0.0)
        uri = await self._sent_up(model, load)
        with self._loading(load) as token:
            result = await self._call(
                "scene.loadModel",
                LoadModelParams(uri=uri, progress_token=token, parent=parent),
                LoadModelResult,
                timeout=None,
                on_late_result=self._discard,
            )
        loaded = _loaded(result)
        self._models[loaded.model_id] = loaded
        self._scene_changed()
        if load.reached < 1.0:
            load.report("upload", 1.0)
        return loaded

    async def _load_texture(
        self, texture: str | os.PathLike[str], kind: TextureKind, progress: LoadCallback | None
    ) -> TextureInfo:
        """Have the server load a texture; see :meth:`Scene.load_texture`."""
        load = _Load(progress or (lambda _: None), before=0.0)
        uri = await self._sent_up(texture, load)
        with self._loading(load) as token:
            params = LoadTextureParams(uri=uri, kind=kind, progress_token=token)
            return await self._call(
                "scene.loadTexture", params, TextureInfo, timeout=None, on_late_result=self.scene._looks.discard_texture
            )

    async def _sent_up(self, source: str | os.PathLike[str], load: _Load) -> str:
        """The URI of what is to be loaded; a path on this machine is uploaded first."""
        self._require_open()
        if _uploads.is_uri(source):
            return str(source)
        # Sending counts as the first half: how long the rest takes is not known here.
        sending = load.callback
        uri = await self.session.client.upload(
            Path(source), lambda sent: sending(LoadProgress("send", sent.fraction / 2))
        )
        load.before = load.reached = 0.5
        return uri

    @contextlib.contextmanager
    def _loading(self, load: _Load) -> Iterator[str]:
        """Have the server's progress reported to ``load``, by the token that this is bound to."""
        token = f"load-{next(self._tokens)}"
        self._loads[token] = load
        try:
            yield token
        finally:
            del self._loads[token]

    def _discard(self, result: LoadModelResult) -> None:
        """A load was done although its caller had gone: take the model out again."""

        async def unload() -> None:
            with contextlib.suppress(RuntimeConnectionError):
                await self._call("scene.unloadModel", UnloadModelParams(model_id=result.model_id), Message)

        if self._error is None:
            self._spawn(unload(), "farframe discard")

    async def unload_model(self, model: LoadedModel | int) -> None:
        """Take a model out of the scene. Raises RequestError (InvalidId)."""
        model_id = model.model_id if isinstance(model, LoadedModel) else model
        await self.scene._send_first()
        await self._call("scene.unloadModel", UnloadModelParams(model_id=model_id), Message)
        gone = self._models.pop(model_id, None)
        if gone is not None:
            self.scene._forget_model(gone)
        self._scene_changed()

    async def clear(self) -> None:
        """Take all models and entities out of the scene and reset its settings."""
        await self.scene._send_first()
        self.scene._forget_model(None)
        await self._call("scene.clear", None, Message)
        self._models.clear()
        self._scene_changed()

    async def configure_scene(
        self,
        *,
        light_direction: camera.Vector3 | None = None,
        light_color: camera.Vector3 | None = None,
        light_intensity: float | None = None,
        environment_intensity: float | None = None,
        environment_rotation: float | None = None,
        exposure: float | None = None,
        background: camera.Vector3 | None = None,
    ) -> SceneResult:
        """Change light and backdrop; what is not given stays. Meanings and units as in ``SceneParams``."""
        result = await self._call(
            "scene.configure",
            SceneParams(
                light_direction=light_direction,
                light_color=light_color,
                light_intensity=light_intensity,
                environment_intensity=environment_intensity,
                environment_rotation=environment_rotation,
                exposure=exposure,
                background=background,
            ),
            SceneResult,
        )
        self._scene_changed()
        return result

    async def configure_video(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        max_frames_per_second: int | None = None,
        max_bitrate: int | None = None,
    ) -> VideoResult:
        """Change the picture's size (pixels), the highest frame rate or bitrate (bits/s); what is not given stays."""
        result = await self._call(
            "video.configure",
            VideoParams(
                width=width, height=height, max_frames_per_second=max_frames_per_second, max_bitrate=max_bitrate
            ),
            VideoResult,
        )
        self._video = result
        self._scene_changed()
        return result

    @property
    def video(self) -> VideoResult:
        """The picture as the server last said that it sends it."""
        return self._video

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The models that this connection has loaded, oldest first."""
        return tuple(self._models.values())

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

    # Poses ------------------------------------------------------------------------------------------------------

    def look_at(
        self,
        eye: camera.Vector3,
        target: camera.Vector3,
        up: camera.Vector3 = (0.0, 1.0, 0.0),
        vertical_fov_degrees: float = camera.DEFAULT_VERTICAL_FOV_DEGREES,
        near: float | None = None,
        far: float | None = None,
        *,
        orthographic: float | None = None,
    ) -> int:
        """Look from ``eye`` at ``target`` (world, metres) and return the pose's id.

        With ``orthographic`` rays are parallel, as in a technical drawing, and the picture is that many metres high.
        Clip distances that are not given hold all loaded models, also those that are loaded afterwards, wherever they
        are moved to; with parts moved within them, or animations, they hold ten times as much around.
        Raises ValueError for impossible values.
        """
        wanted = _LookAt(eye, target, up, vertical_fov_degrees, near, far, orthographic)
        pose_id = self._set_views((self._view(wanted),))
        self._look_at = wanted
        return pose_id

    def look_at_model(
        self,
        model: LoadedModel | None = None,
        *,
        azimuth_degrees: float = camera.THREE_QUARTER_AZIMUTH_DEGREES,
        elevation_degrees: float = camera.THREE_QUARTER_ELEVATION_DEGREES,
        vertical_fov_degrees: float = camera.DEFAULT_VERTICAL_FOV_DEGREES,
        orthographic: bool = False,
    ) -> int:
        """Look at a model (all of them, if none is given), where its root is by now, so that it fills the picture;
        returns the pose's id.

        ``azimuth_degrees`` turns from the front (+Z) towards +X, ``elevation_degrees`` lifts the eye.
        Raises ValueError when there is no model.
        """
        bounds = camera.union(self.scene._boxes(self.models if model is None else [model]))
        if bounds is None:
            raise ValueError("there is no model to look at")
        eye, target = camera.fit(
            bounds,
            aspect=self._aspect,
            vertical_fov_degrees=vertical_fov_degrees,
            azimuth_degrees=azimuth_degrees,
            elevation_degrees=elevation_degrees,
        )
        height = camera.fit_height(bounds, eye, target, aspect=self._aspect) if orthographic else None
        return self.look_at(eye, target, vertical_fov_degrees=vertical_fov_degrees, orthographic=height)

    def set_pose(self, views: View | Sequence[View], *, predict: bool = False) -> int:
        """Send a pose of one view, or of two for stereo, and return its id; ``Frame.pose_id`` names it.

        The newest pose counts. With ``predict`` the server draws for where the views will be when the frame is seen, as
        it should for a head, which moves by itself. Raises ValueError for anything but one or two valid views.
        """
        chosen = (views,) if isinstance(views, View) else tuple(views)
        if not 1 <= len(chosen) <= MAX_VIEWS:
            raise ValueError(f"a pose has 1 or {MAX_VIEWS} views")
        pose_id = self._set_views(chosen, PoseFlags.PREDICT if predict else PoseFlags.NONE)
        self._look_at = None
        return pose_id

    @property
    def pose(self) -> PoseRecord | None:
        """The newest pose that was set."""
        return self._pose

    @property
    def _aspect(self) -> float:
        return self._video.width / self._video.height

    def _bounds(self) -> Bounds | None:
        """What clip distances have to hold."""
        bounds = camera.union(self.scene._boxes(self.models))
        return camera.grown(bounds, SCATTERED_FACTOR) if bounds is not None and self.scene._scattered else bounds

    def _view(self, wanted: _LookAt) -> View:
        return camera.look_at(
            wanted.eye,
            wanted.target,
            wanted.up,
            vertical_fov_degrees=wanted.vertical_fov_degrees,
            orthographic=wanted.orthographic,
            aspect=self._aspect,
            near=wanted.near,
            far=wanted.far,
            bounds=self._bounds(),
        )

    def _set_views(self, views: tuple[View, ...], flags: PoseFlags = PoseFlags.NONE) -> int:
        self._require_open()
        if self._watch:
            raise RequestError(
                Result.WATCHING_ONLY,
                "A device that watches has no camera of its own.",
                next_step="Connect to drive, with a token of the role Client.",
            )
        # 0 stands for "no pose yet" on the other side.
        pose_id = 1 if self._pose is None else (self._pose.pose_id + 1) % ID_RANGE or 1
        pose = PoseRecord(pose_id, now_us(), views, flags)
        data = encode_pose(pose)
        try:
            decode_pose(data)
        except FarframeError as error:  # the server would say so, too, but cannot answer a pose
            raise ValueError(error.message) from error
        self._pose = pose
        self._pose_seen.clear()
        self._pose_changed.set()
        if self._pose_pace.allows(now_us() / 1e6):
            self._transport.send_pose(data)
        return pose_id

    async def _resend_pose(self) -> None:
        """Send the newest pose again until a frame shows it: the channel does not repeat what is lost."""
        while True:
            await self._pose_changed.wait()
            self._pose_changed.clear()
            wait = RESEND_FIRST_SECONDS
            while not self._pose_seen.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._pose_seen.wait()
                if self._pose_changed.is_set():
                    # A newer one went out by itself.
                    break
                if not self._pose_seen.is_set() and self._pose is not None:
                    self._transport.send_pose(encode_pose(self._pose))
                    wait = min(wait * 2, RESEND_MAX_SECONDS)

    async def _report_frames(self) -> None:
        """Tell the server, in batches, which frames came, and when."""
        while self._error is None:
            await self._report_due.wait()
            await asyncio.sleep(REPORT_INTERVAL_SECONDS)
            self._report_due.clear()
            report = self._reporter.take()
            if report is not None and not self._watch:
                self._transport.send_pose(encode_report(report))

    def _scene_changed(self) -> None:
        """What is drawn from now on differs: remember since when, and let the clip distances follow."""
        offset = self._clock.offset_us
        if offset is not None:
            self._tracker.scene_changed(now_us() + offset - (self._clock.round_trip_us or 0))
        if self._look_at is not None:
            view = self._view(self._look_at)
            if self._pose is None or self._pose.views != (view,):
                self._set_views((view,))

    # Frames -----------------------------------------------------------------------------------------------------

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

        Raises RequestTimeoutError after ``timeout`` seconds, and why the connection ended.
        """
        try:
            async with asyncio.timeout(timeout):
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

    def _size_fits(self, frame: Frame) -> bool:
        return (frame.width, frame.height) == (self._video.width, self._video.height)

    def _announce_change(self) -> None:
        """Wake all who wait for a frame or for the end; later waiters wait for the next one."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _require_open(self) -> None:
        if self._error is not None:
            raise self._error.again()


class _SceneLink:
    """What the scene needs of its connection."""

    def __init__(self, connection: RuntimeConnection) -> None:
        self._connection = connection

    async def call(self, method: str, params: Message, kind: type[messages.T]) -> messages.T:
        return await self._connection._call(method, params, kind, timeout=None)

    def send_record(self, data: bytes) -> None:
        self._connection._transport.send_pose(data)

    async def load(self, model: str | os.PathLike[str], progress: LoadCallback | None, parent: int) -> LoadedModel:
        return await self._connection.load_model(model, progress, parent=parent)

    async def load_texture(
        self, texture: str | os.PathLike[str], kind: TextureKind, progress: LoadCallback | None
    ) -> TextureInfo:
        return await self._connection._load_texture(texture, kind, progress)

    def changed(self) -> None:
        self._connection._scene_changed()

    def model_gone(self, model: LoadedModel) -> None:
        self._connection._models.pop(model.model_id, None)


async def open_connection(
    session: Session,
    *,
    width: int,
    height: int,
    relayed: Relayed,
    max_frames_per_second: int,
    timeout: float,
    way: WayChoice = "auto",
    watch: bool = False,
    reconnect: bool = True,
    render_mode: RenderModeChoice = "Default",
    make_transport: TransportFactory | None = None,
) -> RuntimeConnection:
    """Connect to a session's render server; see :meth:`Session.connect`. On failure nothing is left."""
    if render_mode not in get_args(RenderModeChoice):
        raise RequestError(
            Result.INVALID_PARAM,
            f"There is no render mode {render_mode!r}.",
            next_step=f"Choose one of {', '.join(get_args(RenderModeChoice))}.",
        )
    if make_transport is None:
        from farframe.client._media import MediaTransport

        make_transport = MediaTransport
    connection = RuntimeConnection(session, make_transport, watch=watch, reconnect=reconnect)
    try:
        async with asyncio.timeout(timeout):
            await connection._open(width, height, relayed, max_frames_per_second, way, render_mode)
    except TimeoutError:
        await connection.close()
        raise HandshakeError(
            Result.HANDSHAKE_FAILED,
            f"The connection to the render server was not made within {timeout:g} seconds.",
            next_step="Check that this machine reaches the service and the render server's ports.",
        ) from None
    except BaseException:
        await connection.close()
        raise
    return connection
