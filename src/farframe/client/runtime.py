"""A device's connection to its render server: requests, poses out, frames in.

    state         one line
    ------------  -------------------------------------------------------------------------------
    open          channels and media run; a ping goes out every second
    interrupted   the line was lost and is being made anew; what was asked before has failed
                  (retryable), what is asked now waits
    ended         the server, or the network, ended it: iterators and calls raise why
    closed        ended from here: nothing of it is left; iterators end, calls raise

Poses are in ``_posing``, frames and what is measured of them in ``_receiving``, models and their loads in ``loads``.
Everything runs in the event loop of the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from farframe import __version__
from farframe.client import _uploads, camera
from farframe.client._clock import now_us
from farframe.client._handshake import Handshake, Wish, give_up, say_goodbye
from farframe.client._posing import Posing
from farframe.client._receiving import Receiving
from farframe.client._reconnection import Reconnection
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
from farframe.client.frame import Matcher, Picture
from farframe.client.loads import Load, LoadCallback, LoadedModel, LoadProgress, model_of
from farframe.client.scene import Scene
from farframe.client.ways import Way, WayChoice
from farframe.protocol import messages
from farframe.protocol.appearance import LoadTextureParams, TextureInfo, TextureKind
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import (
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
    SceneParams,
    SceneResult,
    UnloadModelParams,
    VideoParams,
    VideoResult,
)
from farframe.protocol.records import (
    decode_frame,
    encode_pose,
)

if TYPE_CHECKING:
    from farframe.client.session import Relayed, Session
    from farframe.stream.jitter import AssembledFrame

PING_INTERVAL_SECONDS = 0.9
PING_TIMEOUT_SECONDS = 4.5
FIRST_PINGS = 3
"""Pings at the start, one after the other, that align the clocks before the first frame is judged."""

REQUEST_TIMEOUT_SECONDS = 15.0


class RuntimeConnection(Posing, Receiving):
    """A connected device. Made by :meth:`Session.connect`, which also closes it.

    Calls raise RequestError when the server refuses or fails them, RequestTimeoutError when it does not answer, and
    SessionEndedError or ConnectionLostError once the connection has ended.
    """

    def __init__(
        self, session: Session, make_transport: TransportFactory, *, watch: bool = False, reconnect: bool = True
    ) -> None:
        super().__init__()
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
        self._last_heard = asyncio.get_running_loop().time()
        self._video = VideoResult(width=1280, height=720, max_frames_per_second=60, max_bitrate=0)
        self._models: dict[int, LoadedModel] = {}
        self._loads: dict[str, Load] = {}
        self._tokens = itertools.count(1)
        self._textures_asked = False
        """Whether an answer to the load of a texture may have been lost with a line."""
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
        found = {model.model_id: self._models.get(model.model_id) or model_of(model) for model in scene.models}
        while scene.more and scene.models:
            scene = await self._caller.call(
                "scene.describe",
                DescribeParams(after_model_id=scene.models[-1].model_id),
                SceneDescription,
                timeout=REQUEST_TIMEOUT_SECONDS,
            )
            found |= {model.model_id: self._models.get(model.model_id) or model_of(model) for model in scene.models}
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

    def _carry_on(self) -> None:
        """Say once more what may have been lost with the line before."""
        if self._pose is not None:
            self._pose_seen.clear()
            self._pose_changed.set()
            self._transport.send_pose(encode_pose(self._pose))
        self._scene_changed()
        self.scene._send_again()
        self._spawn(self._tidy_up(), "farframe tidying")

    async def _tidy_up(self) -> None:
        """A texture may have been there just when the line broke: its caller was told that its load failed."""
        if self._watch or not self._textures_asked:
            return
        self._textures_asked = False
        try:
            await self.scene._discard_unknown_textures()
        except FarframeClientError:
            self._textures_asked = True

    async def close(self) -> None:
        """End the connection and free everything. May be called again; survives the caller's cancellation."""
        if self._close_task is None:
            self._closed = True
            self._close_task = asyncio.create_task(self._close(), name="farframe close")
        await asyncio.shield(self._close_task)

    async def _close(self) -> None:
        told = isinstance(self._error, SessionEndedError)
        closed = ConnectionLostError(Result.DISCONNECT_REQUEST, "The connection was closed by this device.")
        await self.scene.close(self._error or closed)
        self._end(closed)
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
        load = Load(progress or (lambda _: None), before=0.0)
        uri = await self._sent_up(model, load)
        with self._loading(load) as token:
            result = await self._call(
                "scene.loadModel",
                LoadModelParams(uri=uri, progress_token=token, parent=parent),
                LoadModelResult,
                timeout=None,
                on_late_result=self._discard,
            )
        loaded = model_of(result)
        self._models[loaded.model_id] = loaded
        self._scene_changed()
        if load.reached < 1.0:
            load.report("upload", 1.0)
        return loaded

    async def _load_texture(
        self, texture: str | os.PathLike[str], kind: TextureKind, progress: LoadCallback | None
    ) -> TextureInfo:
        """Have the server load a texture; see :meth:`Scene.load_texture`."""
        load = Load(progress or (lambda _: None), before=0.0)
        uri = await self._sent_up(texture, load)
        with self._loading(load) as token:
            params = LoadTextureParams(uri=uri, kind=kind, progress_token=token)
            self._textures_asked = True
            return await self._call(
                "scene.loadTexture", params, TextureInfo, timeout=None, on_late_result=self.scene._discard_texture
            )

    async def _sent_up(self, source: str | os.PathLike[str], load: Load) -> str:
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
    def _loading(self, load: Load) -> Iterator[str]:
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

    def _scene_changed(self) -> None:
        """What is drawn from now on differs: remember since when, and let the clip distances follow."""
        self._tracker.scene_changed(self._caller.answered_us)
        if self._look_at is not None:
            view = self._view(self._look_at)
            if self._pose is None or self._pose.views != (view,):
                self._set_views((view,))

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
