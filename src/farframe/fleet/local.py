"""Render servers as local processes: started, kept warm, watched and ended by this process.

    state      one line
    ---------  -------------------------------------------------------------------------------------
    starting   the process runs; device, pipelines and ports are being prepared; no Hello yet
    warm       said Hello; serves nobody
    assigned   serves one session (also while starting, if no warm one was left)
    ending     told to end, or found dead; leaves the books when its process group is gone

Each server listens on a Unix socket that this process made and handed over, so that the link exists before the
server's first instruction and can be found again by its path: a later run, or another service on this machine, adopts
the server by connecting there. Beside the socket lies a file that names the process, so that one which does not answer
can be ended all the same. A server whose supervisor disappears and does not come back ends itself (see
``protocol.link``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import structlog

from farframe.fleet.base import Assignment, EndReason, FleetListener, ServerFacts
from farframe.protocol.link import (
    HEARTBEAT_TIMEOUT_SECONDS,
    ORPHAN_TIMEOUT_SECONDS,
    Assign,
    DeviceState,
    Failed,
    FetchPolicy,
    Heartbeat,
    Hello,
    LoadLimits,
    NewTokenRules,
    Release,
    ServerConfig,
    Superseded,
    TokenRules,
    ToServer,
    decode_to_supervisor,
    encode_line,
)

log = structlog.get_logger("farframe.fleet")

MAX_SOCKET_PATH_BYTES = 100
"""A Unix socket's path must fit 108 bytes with its terminator; longer data folders get a short folder instead."""

EXIT_GRACE_SECONDS = 3.0
"""From the order to end until the process group is killed."""

STREAM_END_SECONDS = 1.0
"""How long a release waits for the stream to end before it returns; the rest happens in the background."""

ADOPT_TIMEOUT_SECONDS = 15.0
"""How long a server that may be adopted has to say Hello. A living one does so at once, where the machine has time."""

STALL_SECONDS = 2.0
"""If the watcher itself was held up for longer than that (a stopped process, a sleeping machine), what the servers said
meanwhile has not been read yet: none of them is silent because of it."""

WATCH_INTERVAL_SECONDS = 0.5
MAX_START_BACKOFF_SECONDS = 30.0
LOG_TAIL_BYTES = 2000

END_MESSAGES: Mapping[str, str] = {
    "SessionStopped": "The session was stopped.",
    "SessionExpired": "The session's lease ran out.",
}


@dataclass(frozen=True, kw_only=True)
class LocalFleetConfig:
    """How local render servers are made. Ports, names and files as in :class:`ServerConfig`.

    ``servers`` is how many may run at once by size; ``warm_servers`` how many wait, started, for the next session.
    ``replenish_delay_seconds`` keeps the start of the next warm server out of the first seconds of a new session.
    """

    data_dir: Path
    certificate_file: Path
    key_file: Path
    token_keys: str
    token_issuer: str
    servers: Mapping[str, int] = field(default_factory=lambda: {"standard": 2, "premium": 1})
    warm_servers: int = 1
    bind_host: str = "127.0.0.1"
    public_name: str = "localhost"
    public_addresses: tuple[str, ...] = ()
    port_min: int = 49152
    port_max: int = 65534
    stun_servers: tuple[str, ...] = ()
    adapter: Literal["auto", "gpu", "cpu"] = "auto"
    fetch: FetchPolicy = field(default_factory=FetchPolicy)
    load: LoadLimits = field(default_factory=LoadLimits)
    background_conversion: bool = True
    checkerboard: bool = False
    resume_grace_seconds: float = 30.0
    max_spectators: int = 8
    max_bitrate: int = 12_000_000
    log_level: str = "info"
    start_timeout_seconds: float = 120.0
    orphan_timeout_seconds: float = ORPHAN_TIMEOUT_SECONDS
    replenish_delay_seconds: float = 5.0
    command: tuple[str, ...] = (sys.executable, "-m", "farframe.server")


State = Literal["starting", "warm", "assigned", "ending"]


class _Process:
    """A render server's process, whether this process started it or found it. The exit code of a found one is unknown.

    Not asyncio's own kind: that kills a child whose transport is discarded, and a server can outlive its service.
    """

    _running: ClassVar[set[_Process]] = set()
    """Holds each until it has ended, so that children which were left are reaped as well."""

    def __init__(self, pid: int, descriptor: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._child = child
        self._gone = asyncio.Event()
        self._exit_code: int | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._on_end)
        self._running.add(self)

    @classmethod
    def of_child(cls, child: subprocess.Popen[bytes]) -> _Process:
        """A process that was just started. It cannot vanish before it is waited for."""
        return cls(child.pid, os.pidfd_open(child.pid), child)

    @classmethod
    def find(cls, pid_path: Path) -> _Process | None:
        """The process that the file names, if it lives."""
        try:
            pid, started = (int(part) for part in pid_path.read_text("ascii").split())
            descriptor = os.pidfd_open(pid)
        except (OSError, ValueError):
            return None
        # A number that was given to another process since is told by that one's start.
        if _start_time(pid) != started:
            os.close(descriptor)
            return None
        return cls(pid, descriptor)

    def _on_end(self) -> None:
        if self._child is not None:
            self._exit_code = self._child.wait()
        self.forget()

    def forget(self) -> None:
        """Watch no longer."""
        if not self._gone.is_set():
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._running.discard(self)
            self._gone.set()

    async def wait(self) -> int | None:
        """Return when the process has ended, with its exit code if it is known."""
        await self._gone.wait()
        return self._exit_code

    @property
    def is_child(self) -> bool:
        """Whether this process started it."""
        return self._child is not None


@dataclass(eq=False)
class _Server:
    server_id: str
    link_path: Path
    log_path: Path
    process: _Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    started: float
    state: State = "starting"
    assignment: Assignment | None = None
    hello: Hello | None = None
    heartbeat: Heartbeat | None = None
    heard: float = 0.0
    failure: Failed | None = None
    announced: bool = False
    """Whether the caller or the listener already knows the facts."""
    device_gone: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    left: bool = False
    """Whether it lives on without us: another service supervises it, or the next run of this one will."""

    def send(self, message: ToServer) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.writer.write(encode_line(message))


class LocalFleet:
    """A :class:`farframe.fleet.base.Fleet` of processes on this machine."""

    def __init__(self, config: LocalFleetConfig) -> None:
        self._config = config
        self._servers: dict[str, _Server] = {}
        self._by_session: dict[str, _Server] = {}
        self._wanted: set[str] = set()
        """Keys of sessions whose server is only just being started."""
        self._listener: FleetListener | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._replenish_at = 0.0
        self._failed_starts = 0
        self._stopping = False
        self._starting = 0
        self._left_behind: set[Path] = set()

    # The seam ---------------------------------------------------------------------------------------------------

    async def start(self, listener: FleetListener) -> None:
        """Begin; the first warm server is started at once, in the background."""
        self._listener = listener
        for folder in (self._config.data_dir / "run", self._config.data_dir / "logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._left_behind = set(self._socket_folder().glob("*.sock"))
        self._watcher = asyncio.create_task(self._watch(), name="fleet-watch")

    @property
    def alive(self) -> bool:
        """Whether the servers are being watched."""
        return self._watcher is not None and not self._watcher.done()

    async def assign(self, assignment: Assignment) -> ServerFacts | None:
        """Give the session a warm server, or one that is being started; see the seam."""
        warm = self._unassigned("warm")
        server = warm or self._unassigned("starting")
        if server is not None:
            self._bind(server, assignment)
            self._replenish_at = _now() + self._config.replenish_delay_seconds
        else:
            self._wanted.add(assignment.session_key)
            self._spawn_task(self._start_for(assignment), f"start-for-{assignment.session_key}")
        if warm is None or warm.hello is None:
            return None
        warm.announced = True
        return self._facts(warm)

    async def release(self, session_key: str, reason: EndReason) -> None:
        """End the session's server; the device hears ``reason`` first. Returns after a second at the latest."""
        self._wanted.discard(session_key)
        server = self._by_session.pop(session_key, None)
        if server is None:
            return
        server.assignment = None
        self._end(server, Release(reason=reason, message=END_MESSAGES[reason]))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.device_gone.wait(), STREAM_END_SECONDS)

    def facts(self, session_key: str) -> ServerFacts | None:
        """The facts of a session's server if that is up."""
        server = self._by_session.get(session_key)
        return self._facts(server) if server is not None and server.hello is not None else None

    def heartbeat(self, session_key: str) -> Heartbeat | None:
        """What a session's server last said."""
        server = self._by_session.get(session_key)
        return None if server is None else server.heartbeat

    def session_keys(self) -> list[str]:
        """The sessions that have a server or wait for one that is being started."""
        return [*self._by_session, *(key for key in self._wanted if key not in self._by_session)]

    def account_ids(self) -> set[str]:
        """The accounts whose sessions have a server here."""
        return {server.assignment.account_id for server in self._by_session.values() if server.assignment is not None}

    def set_token_rules(self, account_id: str, rules: TokenRules) -> None:
        """Tell the account's servers which tokens are good now; those that know already are not told again."""
        for server in self._by_session.values():
            assignment = server.assignment
            if assignment is None or assignment.account_id != account_id or assignment.token_rules == rules:
                continue
            # A server that is not warm yet gets them with its assignment.
            server.assignment = replace(assignment, token_rules=rules)
            if server.state == "assigned":
                server.send(NewTokenRules(token_rules=rules))

    def can_reach(self, link_path: str) -> bool:
        """Whether there is a socket of that path on this machine."""
        try:
            return Path(link_path).is_socket()
        except OSError:
            return False

    async def adopt(self, assignment: Assignment, link_path: str) -> ServerFacts | None:
        """Take over a living server; see the seam."""
        path = Path(link_path)
        process = _Process.find(_pid_path(path))
        if process is None:
            return None
        writer = None
        try:
            async with asyncio.timeout(ADOPT_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(link_path)
                while not isinstance(message := decode_to_supervisor(await reader.readline()), Hello):
                    pass
        except (OSError, TimeoutError, ValueError, msgspec.DecodeError) as error:
            log.warning("server.not_adopted", link=link_path, error=str(error) or type(error).__name__)
            message = None
        if message is None or writer is None or message.session_key not in ("", assignment.session_key):
            if writer is not None:
                writer.close()
            process.forget()
            return None
        server = _Server(
            server_id=path.stem,
            link_path=path,
            log_path=self._config.data_dir / "logs" / f"server-{path.stem}.log",
            process=process,
            reader=reader,
            writer=writer,
            started=_now(),
            heard=_now(),
            state="warm",
            hello=message,
            announced=True,
        )
        self._left_behind.discard(path)
        self._servers[server.server_id] = server
        server.assignment = assignment
        self._by_session[assignment.session_key] = server
        if message.session_key:
            server.state = "assigned"
        else:
            self._hand_over(server)
        server.task = self._spawn_task(self._follow(server), f"server-{server.server_id}")
        log.info("server.adopted", server=server.server_id, pid=process.pid)
        return self._facts(server)

    def leave(self, session_key: str) -> None:
        """Forget a server without ending it."""
        self._wanted.discard(session_key)
        server = self._by_session.pop(session_key, None)
        if server is not None:
            self._leave(server)

    async def clear_left_behind(self, keep: Collection[str]) -> None:
        """End the servers of an earlier run that nobody adopted; see the seam."""
        paths, self._left_behind = self._left_behind, set()
        await asyncio.gather(*(self._end_left_behind(path) for path in paths if str(path) not in keep))

    async def stop(self, *, keep_sessions: bool = False) -> None:
        """End all servers, waiting for each; none is left when this returns but, if so wished, those that serve."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        self._by_session.clear()
        for server in list(self._servers.values()):
            if keep_sessions and server.state == "assigned":
                self._leave(server)
                continue
            server.assignment = None
            self._end(server, Release(reason="SessionStopped", message="The service is shutting down."))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        folder = self._socket_folder()
        if folder != self._config.data_dir / "run":
            with contextlib.suppress(OSError):
                folder.rmdir()

    # Books ------------------------------------------------------------------------------------------------------

    @property
    def warm_count(self) -> int:
        """How many servers are warm and wait for a session."""
        return sum(server.state == "warm" for server in self._servers.values())

    def process_ids(self) -> list[int]:
        """The process ids of all servers that are not yet gone."""
        return [server.process.pid for server in self._servers.values()]

    def _unassigned(self, state: State) -> _Server | None:
        candidates = (s for s in self._servers.values() if s.state == state and s.assignment is None)
        return min(candidates, key=lambda server: server.started, default=None)

    def _bind(self, server: _Server, assignment: Assignment) -> None:
        server.assignment = assignment
        self._by_session[assignment.session_key] = server
        if server.state == "warm":
            self._hand_over(server)

    def _hand_over(self, server: _Server) -> None:
        assignment = server.assignment
        assert assignment is not None
        server.state = "assigned"
        server.send(
            Assign(
                session_key=assignment.session_key,
                session_id=assignment.session_id,
                account_id=assignment.account_id,
                size=assignment.size,
                uploads_folder=assignment.uploads_folder,
                token_rules=assignment.token_rules,
            )
        )

    def _facts(self, server: _Server) -> ServerFacts:
        hello = server.hello
        assert hello is not None
        relay_host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._config.bind_host, self._config.bind_host)  # noqa: S104
        relay_host = f"[{relay_host}]" if ":" in relay_host else relay_host
        return ServerFacts(
            server_id=server.server_id,
            pid=server.process.pid,
            hostname=hello.hostname,
            handshake_port=hello.handshake_port,
            inspector_port=hello.inspector_port,
            teraflops=hello.teraflops,
            adapter=hello.adapter,
            adapter_kind=hello.adapter_kind,
            encoder=hello.encoder,
            relay_url=f"https://{relay_host}:{hello.handshake_port}",
            link_path=str(server.link_path),
        )

    # Life of a server -------------------------------------------------------------------------------------------

    def _socket_folder(self) -> Path:
        """Where link sockets live: the data folder, unless its path is too long for one."""
        folder = self._config.data_dir / "run"
        if len(os.fsencode(folder)) + 40 <= MAX_SOCKET_PATH_BYTES:
            return folder
        # Always the same one, so that a later run finds what this one left.
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:20]
        short = Path(tempfile.gettempdir()) / f"farframe-{os.geteuid()}-{digest}"
        short.mkdir(mode=0o700, exist_ok=True)
        status = short.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{short} is not a folder of this user's only")
        return short

    async def _start_server(self) -> _Server:
        server_id = secrets.token_hex(8)
        link_path = self._socket_folder() / f"{server_id}.sock"
        log_path = self._config.data_dir / "logs" / f"server-{server_id}.log"
        config = self._config
        server_config = ServerConfig(
            server_id=server_id,
            link_path=str(link_path),
            bind_host=config.bind_host,
            public_name=config.public_name,
            public_addresses=config.public_addresses,
            port_min=config.port_min,
            port_max=config.port_max,
            stun_servers=config.stun_servers,
            certificate_file=str(config.certificate_file),
            key_file=str(config.key_file),
            token_keys=config.token_keys,
            token_issuer=config.token_issuer,
            adapter=config.adapter,
            max_bitrate=config.max_bitrate,
            cache_folder=str(config.data_dir / "cache"),
            work_folder=str(_work_folder(link_path)),
            fetch=config.fetch,
            load=config.load,
            background_conversion=config.background_conversion,
            checkerboard=config.checkerboard,
            resume_grace_seconds=config.resume_grace_seconds,
            max_spectators=config.max_spectators,
            log_level=config.log_level,
            orphan_timeout_seconds=config.orphan_timeout_seconds,
        )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(link_path))
            link_path.chmod(0o600)
            listener.listen(4)
            child = await asyncio.to_thread(self._spawn_process, listener.fileno(), log_path)
            process = _Process.of_child(child)
            # Before it gets its configuration: without that it ends by itself, so there is never a server that runs and
            # is not written down.
            _work_folder(link_path).mkdir(mode=0o700)
            _pid_path(link_path).write_text(f"{child.pid} {_start_time(child.pid)}", "ascii")
        except BaseException:
            _unlink(link_path)
            raise
        finally:
            listener.close()
        assert child.stdin is not None
        with contextlib.suppress(OSError), child.stdin:
            child.stdin.write(msgspec.json.encode(server_config))
        reader, writer = await asyncio.open_unix_connection(str(link_path))
        server = _Server(server_id, link_path, log_path, process, reader, writer, started=_now(), heard=_now())
        self._servers[server_id] = server
        server.task = self._spawn_task(self._follow(server), f"server-{server_id}")
        log.info("server.starting", server=server_id, pid=process.pid)
        if self._stopping:
            self._end(server, None)
        return server

    def _spawn_process(self, link_descriptor: int, log_path: Path) -> subprocess.Popen[bytes]:
        with log_path.open("wb") as log_file:
            return subprocess.Popen(
                [*self._config.command, "--link-fd", str(link_descriptor)],
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                pass_fds=(link_descriptor,),
                start_new_session=True,
            )

    async def _start_for(self, assignment: Assignment) -> None:
        """Start a server for a session that found none."""
        try:
            server = await self._start_server()
        except OSError as error:
            if assignment.session_key in self._wanted:
                self._wanted.discard(assignment.session_key)
                message = f"The render server could not be started: {error}."
                await self._tell_lost(assignment, "ServerStartFailed", message)
            return
        if assignment.session_key in self._wanted:  # it may have been stopped meanwhile; then the server is a spare
            self._wanted.discard(assignment.session_key)
            self._bind(server, assignment)

    async def _start_spare(self) -> None:
        self._starting += 1
        try:
            await self._start_server()
        except OSError as error:
            self._note_failed_start(str(error))
        finally:
            self._starting -= 1

    async def _follow(self, server: _Server) -> None:
        """Read a server's link until it ends, then clear it away and say so."""
        try:
            while line := await server.reader.readline():
                self._heard(server, line)
                if server.hello is not None and server.assignment is not None and not server.announced:
                    server.announced = True
                    await self._tell_ready(server)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("server.link_broken", server=server.server_id, error=str(error))
        server.device_gone.set()
        await self._clear_away(server)

    def _heard(self, server: _Server, line: bytes) -> None:
        message = decode_to_supervisor(line)
        server.heard = _now()
        match message:
            case Hello():
                server.hello = message
                self._failed_starts = 0
                if server.state == "starting":
                    server.state = "warm"
                    log.info("server.warm", server=server.server_id, seconds=round(_now() - server.started, 2))
                    if server.assignment is not None:
                        self._hand_over(server)
            case Failed():
                server.failure = message
            case DeviceState():
                if not message.connected and server.state == "ending":
                    server.device_gone.set()
                log.info("server.device", server=server.server_id, connected=message.connected, reason=message.reason)
            case Superseded():
                log.info("server.superseded", server=server.server_id)
                self._leave(server)
            case Heartbeat():
                server.heartbeat = message

    def _end(self, server: _Server, release: Release | None) -> None:
        """Tell a server to end and see that it does."""
        if server.state == "ending":
            return
        if server.hello is None or release is None:
            # It does not read its link yet, or does not deserve a word.
            server.device_gone.set()
            _kill_group(server.process.pid, signal.SIGKILL)
        else:
            server.send(release)
        server.state = "ending"
        self._spawn_task(self._see_off(server), f"end-{server.server_id}")

    def _leave(self, server: _Server) -> None:
        """Close the link to a server that goes on without us; its reader then clears the books."""
        server.left = True
        server.writer.close()

    async def _end_left_behind(self, path: Path) -> None:
        process = _Process.find(_pid_path(path))
        if process is not None:
            log.info("server.left_behind", server=path.stem, pid=process.pid)
            writer = None
            try:
                async with asyncio.timeout(EXIT_GRACE_SECONDS):
                    with contextlib.suppress(OSError):
                        # Kept open until the end: a server that is left alone waits for somebody to take it over.
                        _, writer = await asyncio.open_unix_connection(str(path))
                        writer.write(
                            encode_line(Release(reason="SessionStopped", message=END_MESSAGES["SessionStopped"]))
                        )
                    await process.wait()
            except TimeoutError:
                log.warning("server.killed", server=path.stem, why="did not end in time")
            _kill_group(process.pid, signal.SIGKILL)
            await process.wait()
            if writer is not None:
                writer.close()
        _unlink(path)

    async def _see_off(self, server: _Server) -> None:
        try:
            await asyncio.wait_for(server.process.wait(), EXIT_GRACE_SECONDS)
        except TimeoutError:
            log.warning("server.killed", server=server.server_id, why="did not end in time")
        _kill_group(server.process.pid, signal.SIGKILL)

    async def _clear_away(self, server: _Server) -> None:
        """The link is gone: make sure that the whole process group is, and tell who needs to know."""
        if server.left:
            self._servers.pop(server.server_id, None)
            if server.assignment is not None and self._by_session.get(server.assignment.session_key) is server:
                del self._by_session[server.assignment.session_key]
            if not server.process.is_child:
                server.process.forget()
            return
        expected = server.state == "ending"
        if not expected:
            server.state = "ending"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.process.wait(), 1.0)
        try:
            await asyncio.wait_for(server.process.wait(), EXIT_GRACE_SECONDS + 1.0)
        except TimeoutError:
            log.warning("server.killed", server=server.server_id, why="link closed but the process lived on")
        _kill_group(server.process.pid, signal.SIGKILL)
        exit_code = await server.process.wait()
        server.writer.close()
        with contextlib.suppress(OSError):
            await server.writer.wait_closed()
        _unlink(server.link_path)
        self._servers.pop(server.server_id, None)
        log.info("server.gone", server=server.server_id, exit_code=exit_code, expected=expected)
        if expected and server.failure is None:
            server.log_path.unlink(missing_ok=True)
        elif server.hello is None:
            self._note_failed_start(self._last_words(server))
        assignment, server.assignment = server.assignment, None
        if assignment is not None and self._by_session.get(assignment.session_key) is server:
            del self._by_session[assignment.session_key]
            code, message = self._why(server, exit_code)
            await self._tell_lost(assignment, code, message)

    def _why(self, server: _Server, exit_code: int | None) -> tuple[str, str]:
        if server.failure is not None:
            return server.failure.code, server.failure.message
        if exit_code is None:
            return "ServerDied", "The render server died. Create another session."
        how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        if server.hello is None:
            return "ServerStartFailed", f"The render server ended before it was ready ({how}). Create another session."
        return "ServerDied", f"The render server died ({how}). Create another session."

    @staticmethod
    def _last_words(server: _Server) -> str:
        if server.failure is not None:
            return server.failure.message
        with contextlib.suppress(OSError):
            return server.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return ""

    def _note_failed_start(self, words: str) -> None:
        self._failed_starts += 1
        backoff = min(2.0 ** (self._failed_starts - 1), MAX_START_BACKOFF_SECONDS)
        self._replenish_at = max(self._replenish_at, _now() + backoff)
        log.error("server.start_failed", attempts=self._failed_starts, retry_in_seconds=backoff, last_words=words)

    async def _tell_ready(self, server: _Server) -> None:
        if self._listener is not None and server.assignment is not None:
            await self._listener.server_ready(server.assignment.session_key, self._facts(server))

    async def _tell_lost(self, assignment: Assignment, code: str, message: str) -> None:
        if self._listener is not None and not self._stopping:
            await self._listener.server_lost(assignment.session_key, code, message)

    # Watching ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """One task for all servers: silent ones are ended, missing warm ones started."""
        looked, resumed = _now(), 0.0
        while True:
            now = _now()
            if now - looked > WATCH_INTERVAL_SECONDS + STALL_SECONDS:
                resumed = now
            looked = now
            for server in list(self._servers.values()):
                if server.state == "ending":
                    continue
                if server.hello is None:
                    if now - server.started > self._config.start_timeout_seconds:
                        server.failure = Failed(
                            code="ServerStartFailed",
                            message=f"The render server was not ready within "
                            f"{self._config.start_timeout_seconds:g} s. Create another session.",
                        )
                        self._end_unresponsive(server)
                elif now - max(server.heard, resumed) > HEARTBEAT_TIMEOUT_SECONDS:
                    server.failure = Failed(
                        code="ServerUnresponsive",
                        message="The render server stopped answering. Create another session.",
                    )
                    self._end_unresponsive(server)
            if self._wants_spare(now):
                self._spawn_task(self._start_spare(), "start-spare")
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    def _end_unresponsive(self, server: _Server) -> None:
        log.error("server.unresponsive", server=server.server_id)
        self._end(server, None)

    def _wants_spare(self, now: float) -> bool:
        alive = [server for server in self._servers.values() if server.state != "ending"]
        spare = sum(server.assignment is None for server in alive) + self._starting
        capacity = sum(self._config.servers.values())
        assigned = sum(server.assignment is not None for server in alive)
        wanted = min(self._config.warm_servers, capacity - assigned)
        return not self._stopping and spare < wanted and now >= self._replenish_at

    def _spawn_task(self, coroutine: object, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _now() -> float:
    return asyncio.get_running_loop().time()


def _kill_group(pid: int, sign: signal.Signals) -> None:
    """Signal a server and everything it started; it leads its own process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, sign)


def _pid_path(link_path: Path) -> Path:
    """The file beside a link socket that names the process: its number, and when it started in the kernel's ticks."""
    return link_path.with_suffix(".pid")


def _work_folder(link_path: Path) -> Path:
    """The folder of a server's temporary files."""
    return link_path.with_suffix(".work")


def _unlink(link_path: Path) -> None:
    """Remove what a server that is gone leaves in the file system."""
    shutil.rmtree(_work_folder(link_path), ignore_errors=True)
    _pid_path(link_path).unlink(missing_ok=True)
    link_path.unlink(missing_ok=True)


def _start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; ``None`` if it is gone. See proc(5), stat, 22."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
