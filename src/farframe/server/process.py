"""A render server process from start to end: it gets warm, serves one session, and leaves nothing behind.

    cold ──► warm (Hello) ──► assigned (Assign) ──► ended (Release, signal, or its supervisor disappeared)

The order at the start: ports first (so that a taken range fails at once), then device, pipelines and one frame, then
the encoder, then Hello.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import util
from pathlib import Path

import msgspec
import structlog
import uvicorn
from litestar import Litestar

from farframe.asset.loading import ModelLoader
from farframe.auth.roles import Permission, may
from farframe.auth.tokens import TokenClaims, TokenVerifier, is_revoked
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import (
    HEARTBEAT_INTERVAL_SECONDS,
    Assign,
    DeviceState,
    Failed,
    Heartbeat,
    Hello,
    NewTokenRules,
    Release,
    ServerConfig,
    Superseded,
    TokenRules,
    ToSupervisor,
    decode_to_server,
    encode_line,
)
from farframe.protocol.socket_stream import MAX_DEVICE_MESSAGE_BYTES
from farframe.render import Engine
from farframe.server import log as server_log
from farframe.server.connection import Connection
from farframe.server.device_link import DeviceLink, MakeDevice
from farframe.server.frame_loop import FrameLoop, VideoSettings, microseconds
from farframe.server.ledger import Feed, Ledger
from farframe.server.models import ModelStore
from farframe.server.places import Place, Places, Wishes
from farframe.server.scene_commands import SceneCommands
from farframe.server.spectators import Audience, Spectator
from farframe.server.web import BoundedWebSocket, handshake_app, inspector_app
from farframe.stream.hardware import choose_encoder
from farframe.stream.websocket import limit_unsent

log = structlog.get_logger("farframe.server")

NO_WISHES = Wishes()

PORT_TRIES = 200
MAX_BIND_SECONDS = 5.0


class StartError(Exception):
    """The server cannot start: a stable code and a sentence for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def bind_port(config: ServerConfig, random: secrets.SystemRandom) -> socket.socket:
    """A listening TCP socket on a free port of the configured range. Raises :class:`StartError`."""
    family = socket.AF_INET6 if ":" in config.bind_host else socket.AF_INET
    count = config.port_max - config.port_min + 1
    ports = random.sample(range(config.port_min, config.port_max + 1), min(count, PORT_TRIES))
    for port in ports:
        candidate = socket.socket(family, socket.SOCK_STREAM)
        try:
            candidate.bind((config.bind_host, port))
            candidate.listen(64)
        except OSError:
            candidate.close()
            continue
        candidate.setblocking(False)
        return candidate
    raise StartError(
        "NoPortAvailable",
        f"No free TCP port from {config.port_min} to {config.port_max} on {config.bind_host} was found. "
        "Widen the port range or end other programs that use it.",
    )


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: signals are this process's business."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


class RenderServer:
    """The whole process. :meth:`run` returns its exit code."""

    def __init__(self, config: ServerConfig, link: socket.socket) -> None:
        self._config = config
        self._link = link
        self._verifier = TokenVerifier(config.token_keys, config.token_issuer)
        self._ended = asyncio.Event()
        self._exit_code = 0
        self._assignment: Assign | None = None
        self._token_rules: TokenRules | None = None
        self._places: Places | None = None
        self._audience: Audience | None = None
        self._release: Release | None = None
        self._log_feed: Feed[server_log.LogEvent] = Feed(server_log.KEPT_LINES)
        self._ledger = Ledger(microseconds)
        self._writer: asyncio.StreamWriter | None = None
        self._lonely_since: float | None = time.monotonic()
        self._frames: FrameLoop | None = None
        self._models: ModelStore | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve until the end."""
        loop = asyncio.get_running_loop()

        def tell(event: server_log.LogEvent) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._log_feed.add, event)

        server_log.configure(self._config.log_level, tell, server=self._config.server_id)
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._on_signal)
        link = await asyncio.start_unix_server(self._supervise, sock=self._link)
        orphan = asyncio.create_task(self._watch_supervisor())
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    hello = await self._warm_up(stack)
                except StartError as failure:
                    self._fail(failure.code, failure.message)
                except Exception as error:
                    log.error("start.failed", exc_info=True)
                    self._fail("ServerStartFailed", f"The render server could not start: {error}")
                else:
                    self._hello = hello
                    self._tell(hello)
                    heartbeat = asyncio.create_task(self._beat())
                    await self._ended.wait()
                    heartbeat.cancel()
                    await self._end_connection()
        finally:
            orphan.cancel()
            link.close()
            await self._flush()
        return self._exit_code

    _hello: Hello | None = None

    # Getting warm -----------------------------------------------------------------------------------------------

    async def _warm_up(self, stack: contextlib.AsyncExitStack) -> Hello:
        config = self._config
        random = secrets.SystemRandom()
        handshake_socket = bind_port(config, random)
        limit_unsent(handshake_socket)
        stack.callback(handshake_socket.close)
        inspector_socket = bind_port(config, random)
        stack.callback(inspector_socket.close)

        def make_engine() -> Engine:
            engine = Engine.create(config.adapter)
            engine.warm_up()
            return engine

        frames = FrameLoop(
            make_engine,
            still_delay=config.still_delay_seconds,
            keep_alive=config.keep_alive_seconds,
            checkerboard=config.checkerboard,
        )
        stack.push_async_callback(frames.stop)
        frames.on_failure = lambda error: self._fail("DeviceLost", f"The renderer failed: {error}")
        workspace = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="farframe-server-", dir=config.work_folder or None)
        )
        tempfile.tempdir = workspace  # downloads, too, lie where the supervisor clears up after a crash
        loader = ModelLoader(Path(workspace), cache_folder=Path(config.cache_folder) if config.cache_folder else None)
        stack.push_async_callback(loader.close)
        try:
            engine = await frames.engine()
        except FarframeError as error:
            raise StartError(str(error.result), str(error)) from error
        teraflops = await frames.run(lambda engine: engine.measure_teraflops())
        frames.encoders = await asyncio.to_thread(choose_encoder)
        self._ledger.encoders = frames.encoders
        log.info("encoder.chosen", name=frames.encoders.name, reason=frames.encoders.reason)
        self._frames = frames
        self._models = ModelStore(config, frames, loader, frames.encoders.name)
        await loader.start()
        await stack.enter_async_context(self._serving(handshake_app(self), handshake_socket))
        await stack.enter_async_context(
            self._serving(inspector_app(self, self._ledger, self._log_feed), inspector_socket)
        )
        log.info("server.warm", adapter=engine.adapter_name, kind=engine.adapter_kind, teraflops=round(teraflops, 3))
        return Hello(
            pid=os.getpid(),
            hostname=config.public_name,
            handshake_port=handshake_socket.getsockname()[1],
            inspector_port=inspector_socket.getsockname()[1],
            teraflops=teraflops,
            adapter=engine.adapter_name,
            adapter_kind=engine.adapter_kind,
            encoder=frames.encoders.name,
        )

    @contextlib.asynccontextmanager
    async def _serving(self, app: Litestar, sock: socket.socket) -> AsyncIterator[None]:
        server = _QuietServer(
            uvicorn.Config(
                app,
                http="httptools" if util.find_spec("httptools") else "auto",
                ws=BoundedWebSocket,
                ws_max_size=MAX_DEVICE_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                ssl_certfile=self._config.certificate_file,
                ssl_keyfile=self._config.key_file,
                ssl_version=ssl.PROTOCOL_TLS_SERVER,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=1,
                limit_concurrency=64,
            )
        )
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            while not server.started:
                if task.done():
                    raise StartError("ServerStartFailed", "The handshake listener could not start.")
                await asyncio.sleep(0.005)
            yield
        finally:
            server.should_exit = True
            server.force_exit = True
            with contextlib.suppress(Exception, SystemExit):
                await task

    # Devices (Handshakes) ---------------------------------------------------------------------------------------

    def authorize(self, authorization: str, permission: Permission = Permission.RENDER) -> TokenClaims:
        """Let only tokens of this session's account (and, if they name one, this session) in that may do it.

        A token that may watch and wants to drive hears so (WatchingOnly); all others are AuthenticationFailed.
        """
        scheme, _, token = authorization.partition(" ")
        assignment = self._assignment
        refused = FarframeError(
            Result.AUTHENTICATION_FAILED,
            "The token is missing, wrong, expired or not for this session.",
            next_step="Get a new one from the token endpoint.",
        )
        if scheme.lower() != "bearer" or not token:
            raise refused
        try:
            claims = self._verifier.verify(token.strip())
        except FarframeError:
            raise refused from None
        if assignment is None:
            raise FarframeError(Result.SESSION_NOT_READY, "This server serves no session.")
        if claims.account_id.lower() != assignment.account_id.lower():
            raise refused
        if claims.session_id is not None and claims.session_id != assignment.session_id:
            raise refused
        if self._token_rules is not None and is_revoked(claims, self._token_rules):
            raise refused
        if not may(claims.role, permission):
            if permission is Permission.RENDER and may(claims.role, Permission.WATCH):
                raise FarframeError(
                    Result.WATCHING_ONLY,
                    f"A token of the role {claims.role} may watch, not drive.",
                    next_step="Ask to watch, or get a token of the role Client.",
                )
            raise refused
        return claims

    async def connect(self, offer_sdp: str, wishes: Wishes = NO_WISHES) -> tuple[str, str]:
        """Take a device by its offer, if there is room for it."""
        await self._settle()
        link = self._link_for(wishes)
        return link.resource_id, await link.accept(offer_sdp)

    async def attach(self, make_device: MakeDevice, wishes: Wishes = NO_WISHES) -> None:
        """Take a device that came by a WebSocket, if there is room for it."""
        await self._settle()
        self._link_for(wishes).attach(make_device)

    async def _settle(self) -> None:
        if self._places is not None:
            await self._places.settle()

    def _link_for(self, wishes: Wishes) -> DeviceLink:
        assignment, frames, models = self._assignment, self._frames, self._models
        if assignment is None or self._release is not None or frames is None or models is None:
            raise FarframeError(Result.SESSION_NOT_READY, "This server serves no session.")
        if not wishes.watch:
            return self._seats().take(wishes)
        self._seats()
        assert self._audience is not None
        spectator = Spectator(
            self._config,
            assignment,
            models,
            frames,
            self._ledger,
            self._audience,
            secrets.token_urlsafe(16),
            time.monotonic,
        )
        self._audience.join(spectator)
        return spectator

    def _seats(self) -> Places:
        """The places of the session; there are none before a session is."""
        if self._places is not None:
            return self._places
        assignment, frames, models = self._assignment, self._frames, self._models
        assert assignment is not None and frames is not None and models is not None
        config, ledger = self._config, self._ledger
        audience = self._audience = Audience(config.max_spectators, frames, time.monotonic)

        def make_place() -> Place:
            return Place(SceneCommands(assignment, models), VideoSettings(1280, 720, 60, config.max_bitrate))

        def make_connection(
            place: Place,
            on_left: Callable[[Connection, str, str], Awaitable[None]],
            predecessor: Connection | None,
        ) -> Connection:
            return Connection(
                config,
                assignment,
                frames,
                models,
                ledger,
                audience,
                secrets.token_urlsafe(16),
                place,
                lambda connection: self._on_device(True, ""),
                on_left,
                predecessor,
            )

        self._places = Places(config.resume_grace_seconds, make_place, make_connection, audience, self._on_device)
        return self._places

    async def disconnect(self, resource_id: str) -> None:
        """End a device's connection; returns when its place is free."""
        if self._places is not None and await self._places.leave(resource_id):
            return
        spectator = self._audience.find(resource_id) if self._audience is not None else None
        if spectator is None:
            raise FarframeError(Result.INVALID_ID, "There is no such connection; it may have ended already.")
        spectator.end(Result.DISCONNECT_REQUEST, "The device disconnected.", tell=False)
        await spectator.closed.wait()

    async def give_up(self, claims: TokenClaims, secret: str) -> None:
        """Keep the scene no longer for a device that was lost. For Administrators, and for the device itself."""
        if self._places is None:
            raise FarframeError(Result.INVALID_ID, "Nothing is kept for a device that was lost.")
        boundless = not secret and may(claims.role, Permission.MANAGE_ACCOUNT)
        await self._places.give_up(None if boundless else secret)

    def _on_device(self, connected: bool, reason: str) -> None:
        self._tell(DeviceState(connected=connected, reason=reason))

    async def _end_connection(self) -> None:
        release = self._release
        reason = release.reason if release else str(Result.SESSION_STOPPED)
        message = release.message if release else "The render server is shutting down."
        if self._places is None or self._audience is None:
            self._tell(DeviceState(connected=False, reason=release.reason if release else ""))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await asyncio.gather(self._audience.end(reason, message), self._places.end(reason, message))

    # Supervisor -------------------------------------------------------------------------------------------------

    async def _supervise(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Listen to the supervisor; the newest link counts."""
        former, self._writer = self._writer, writer
        self._lonely_since = None
        if former is not None and not former.is_closing():
            former.write(encode_line(Superseded()))
            former.close()
        if self._hello is not None:
            key = self._assignment.session_key if self._assignment is not None else ""
            self._tell(msgspec.structs.replace(self._hello, session_key=key))
        try:
            while line := await reader.readline():
                message = decode_to_server(line)
                match message:
                    case Assign():
                        self._use_token_rules(message.token_rules)
                        self._assignment = message
                        structlog.contextvars.bind_contextvars(session=message.session_id)
                        log.info("session.assigned", size=message.size)
                    case NewTokenRules():
                        self._use_token_rules(message.token_rules)
                    case Release():
                        self._release = message
                        log.info("session.released", reason=message.reason)
                        self._ended.set()
        except (OSError, ValueError) as error:
            log.warning("link.broken", error=str(error))
        finally:
            writer.close()
            if self._writer is writer:
                self._writer = None
                self._lonely_since = time.monotonic()

    def _use_token_rules(self, rules: TokenRules | None) -> None:
        self._token_rules = rules
        if rules is not None and rules.token_keys:
            self._verifier.use_keys(rules.token_keys)

    async def _watch_supervisor(self) -> None:
        """End when nobody supervises this server any more: it would be forgotten."""
        while True:
            await asyncio.sleep(0.25)
            patience = self._config.orphan_timeout_seconds
            if self._lonely_since is not None and time.monotonic() - self._lonely_since > patience:
                log.warning("server.orphaned")
                self._ended.set()

    async def _beat(self) -> None:
        while True:
            self._tell(
                Heartbeat(
                    connected=self._places is not None and self._places.connected,
                    frames_per_second=self._ledger.summary().frames_per_second,
                    resident_bytes=_resident_bytes(),
                    encoder=self._ledger.encoders.name if self._ledger.encoders else "",
                    stages={name: (stage.p50, stage.p95, stage.p99) for name, stage in self._ledger.stages().items()},
                    frames_arrived=self._ledger.frames_arrived,
                    frames_missing=self._ledger.frames_missing,
                )
            )
            await asyncio.sleep(HEARTBEAT_INTERVAL_SECONDS)

    def _tell(self, message: ToSupervisor) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode_line(message))

    async def _flush(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self._writer.drain(), 0.5)
            self._writer.close()

    def _fail(self, code: str, message: str) -> None:
        log.error("server.failed", code=code, message=message)
        self._tell(Failed(code=code, message=message))
        self._exit_code = 1
        self._ended.set()

    def _on_signal(self) -> None:
        log.info("server.signal")
        self._ended.set()

    def _spawn(self, coroutine: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _resident_bytes() -> int:
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
