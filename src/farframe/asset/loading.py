"""Models for the server: read in a sandboxed process (:mod:`farframe.asset.worker`), handed over as a mapped file.

    async with ModelLoader(workspace) as loader:
        model = await loader.load(Path("duck.glb"), LoadLimits(), progress)
        engine = await loader.load("Engine", LoadLimits(), progress)

One warm worker per loader: loads queue. Whatever a model does to the worker, the caller gets a
:class:`~farframe.protocol.errors.FarframeError` and the next load a fresh worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from farframe.asset.budget import Progress as ProgressCallback
from farframe.asset.budget import no_progress
from farframe.asset.flat import read_flat
from farframe.asset.model import Model
from farframe.asset.worker import Ended, Failure, Job, Progress, Ready, Reply
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

START_TIMEOUT_SECONDS = 60.0
GRACE_SECONDS = 5.0
"""What a job may take beyond its own time limit, which it checks itself, before it is killed."""

_BUILTINS = {"engine": "Engine"}
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
"""The environment that the worker gets: the server's may hold secrets."""

_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class ModelLoader:
    """Loads models through one sandboxed worker process.

    ``workspace`` is a folder for files between worker and server, which are unlinked as soon as they are mapped.
    ``cache_folder``, if given, keeps built-in models ready to be mapped; nobody else may be able to write there.
    ``command`` starts the worker.
    """

    def __init__(
        self,
        workspace: Path,
        *,
        cache_folder: Path | None = None,
        command: Sequence[str] = (sys.executable, "-m", "farframe.asset.worker"),
    ) -> None:
        self._workspace = workspace
        self._cache_folder = cache_folder
        self._command = tuple(command)
        self._worker: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> ModelLoader:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the worker now rather than with the first load."""
        async with self._turn:
            await self._warm_worker()

    async def close(self) -> None:
        """End the worker, and the load that it is at if there is one."""
        self._closed = True
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        # The load that is under way sees its worker end and cleans up; what waits for its turn sees the flag.
        self._signal_worker()
        async with self._turn:
            await self._kill_worker()

    @property
    def worker_pid(self) -> int | None:
        """The process id of the warm worker, if there is one."""
        return self._worker.pid if self._worker is not None and self._worker.returncode is None else None

    async def load(
        self,
        source: Path | str,
        limits: LoadLimits,
        progress: ProgressCallback | None = None,
        *,
        keep_as: Path | None = None,
    ) -> Model:
        """Load a file (a ``Path``), as it is, or a built-in model (its name, a ``str``), levels of detail included.

        ``progress`` is called in this event loop with a stage and the fraction done. With ``keep_as`` the flat file of
        a file's model stays there, for the caller to remove. Cancelling the task kills the worker. Raises
        :class:`FarframeError`: what the reader raises; ``EXCEEDS_MEMORY_LIMIT`` when the kernel stopped the worker for
        memory or time; ``FILE_CORRUPT`` when the file made it crash; ``FILE_NOT_FOUND`` for an unknown built-in name.
        """
        report = progress or no_progress
        if isinstance(source, Path):
            return await self._load(Job(kind="file", source=str(source), output="", limits=limits), report, keep_as)
        name = _BUILTINS.get(source.lower())
        if name is None:
            raise FarframeError(
                Result.FILE_NOT_FOUND, "There is no built-in model of that name.", next_step="Use builtin://Engine."
            )
        cached = None
        if self._cache_folder is not None:
            cached = self._cache_folder / f"{name}-{await asyncio.to_thread(_generator_digest)}.flat"
            model = await asyncio.to_thread(_read_cached, cached)
            if model is not None:
                report("reading", 1.0)
                return model
        return await self._load(Job(kind="builtin", source=name, output="", limits=limits), report, cached)

    async def load_texture(
        self,
        source: Path,
        limits: LoadLimits,
        progress: ProgressCallback | None = None,
        *,
        name: str,
        cube: bool,
        decoded: Iterable[str] = (),
    ) -> BinaryIO:
        """Read a texture file, a ``cube`` map or a 2D one, the blocks of formats ``decoded`` made plain.

        The result is an open file of it that is on the disk for nobody else, for
        :func:`~farframe.asset.flat_texture.read_flat_texture`. ``name`` is for messages. Raises as :meth:`load`, and
        InvalidParam for a texture of the other kind.
        """
        output = self._workspace / f"{secrets.token_hex(16)}.texture"
        job = Job(
            kind="texture",
            source=str(source),
            output=str(output),
            limits=limits,
            name=name,
            cube=cube,
            decoded=tuple(sorted(decoded)),
        )
        async with self._turn:
            try:
                await asyncio.to_thread(self._workspace.mkdir, parents=True, exist_ok=True)
                await self._run(job, progress or no_progress)
                return output.open("rb")
            finally:
                output.unlink(missing_ok=True)

    async def _load(self, job: Job, report: ProgressCallback, keep_as: Path | None) -> Model:
        folder = self._workspace if keep_as is None else keep_as.parent
        output = folder / f"{secrets.token_hex(16)}.flat"
        async with self._turn:
            try:
                await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
                await self._run(msgspec.structs.replace(job, output=str(output)), report)
                model = await asyncio.to_thread(read_flat, output)
                if keep_as is not None:
                    output.replace(keep_as)
            finally:
                output.unlink(missing_ok=True)
        report("reading", 1.0)
        return model

    async def _run(self, job: Job, report: ProgressCallback) -> None:
        """Have the worker do a job. Leaves a worker that is fit for the next one, or none."""
        worker = await self._warm_worker()
        assert worker.stdin is not None
        try:
            async with asyncio.timeout(job.limits.max_seconds + GRACE_SECONDS):
                with _translated():
                    worker.stdin.write(msgspec.json.encode(job) + b"\n")
                    await worker.stdin.drain()
                exit_code, failure = await self._follow(worker, report)
        except TimeoutError:
            await self._replace_worker()
            raise _stopped(
                f"Reading the model takes longer than the {job.limits.max_seconds:g} seconds allowed."
            ) from None
        except _WorkerBrokenError:
            await self._replace_worker()
            raise (_ending() if self._closed else _crashed()) from None
        except BaseException:
            # Cancelled, or the caller's callback failed: the job must not go on for nobody.
            await self._replace_worker()
            raise
        if failure is not None:
            raise FarframeError(failure.result, failure.message, next_step=failure.next_step)
        if exit_code in (-signal.SIGXCPU, -signal.SIGKILL):
            raise _stopped("Reading the model took more time or memory than allowed.")
        if exit_code != 0:
            raise _crashed()

    async def _follow(self, worker: asyncio.subprocess.Process, report: ProgressCallback) -> tuple[int, Failure | None]:
        """Pass progress on until the job's process is gone."""
        failure: Failure | None = None
        while True:
            match await _reply(worker):
                case Progress(stage, fraction):
                    report(stage, min(max(fraction, 0.0), 1.0))
                case Failure() as failure:
                    pass
                case Ended(exit_code):
                    return exit_code, failure
                case Ready():
                    raise _WorkerBrokenError

    async def _warm_worker(self) -> asyncio.subprocess.Process:
        """The worker, started if need be. Called by whoever has the turn, or by the task that warms."""
        if self._warming is not None and self._warming is not asyncio.current_task():
            warming, self._warming = self._warming, None
            await asyncio.wait([warming])
        if self._closed:
            raise _ending()
        if self._worker is not None and self._worker.returncode is None:
            return self._worker
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # The work is spread over threads by this program; a library's own pool would only cost start-up and memory.
        environment["OPENBLAS_NUM_THREADS"] = "1"
        self._worker = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                if not isinstance(await _reply(self._worker), Ready):
                    raise _WorkerBrokenError
        except (TimeoutError, _WorkerBrokenError):
            await self._kill_worker()
            raise FarframeError(
                Result.FAIL, "The process that reads models did not start.", next_step="Look at the server's log."
            ) from None
        except BaseException:
            await self._kill_worker()
            raise
        if self._ended():
            await self._kill_worker()
            raise _ending()
        return self._worker

    async def _kill_worker(self) -> None:
        """End the worker and its job at once: they are a process group of their own."""
        self._signal_worker()
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if worker.stdout is not None:
            # A stream that was left full is never seen to end, and the process not to have ended.
            while await worker.stdout.read(65_536):
                pass
        await worker.wait()
        if worker.stdin is not None:
            worker.stdin.close()
            with contextlib.suppress(OSError):
                await worker.stdin.wait_closed()

    def _ended(self) -> bool:
        """Whether the loader was closed, perhaps while the caller waited."""
        return self._closed

    def _signal_worker(self) -> None:
        if self._worker is not None and self._worker.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._worker.pid, signal.SIGKILL)

    async def _replace_worker(self) -> None:
        """Kill the worker, and warm the next one in the background."""
        await asyncio.shield(self._kill_worker())
        if not self._closed:
            self._warming = asyncio.create_task(self._warm_in_background())

    async def _warm_in_background(self) -> None:
        # A failure shows at the next load, which tries again.
        with contextlib.suppress(FarframeError):
            await self._warm_worker()


class _WorkerBrokenError(Exception):
    """The worker is gone, or says something that is not a reply."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turns whatever shows that the worker is broken into :class:`_WorkerBrokenError`."""
    try:
        yield
    except (ConnectionError, msgspec.MsgspecError, UnicodeDecodeError):
        raise _WorkerBrokenError from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise _WorkerBrokenError from None


async def _reply(worker: asyncio.subprocess.Process) -> Reply:
    assert worker.stdout is not None
    with _translated():
        reply: Reply = _decoder.decode(await worker.stdout.readuntil(b"\n"))
    return reply


def _read_cached(path: Path) -> Model | None:
    """A cached model; ``None`` if there is none. A broken file is removed."""
    try:
        return read_flat(path)
    except FarframeError as error:
        if error.result is not Result.FILE_NOT_FOUND:
            path.unlink(missing_ok=True)
        return None


def _generator_digest() -> str:
    """A digest of everything that a built-in model depends on: this package's sources and its libraries' versions."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(path.read_bytes())
    for package in ("numpy", "meshoptimizer"):
        digest.update(f"{package} {metadata.version(package)}\0".encode())
    return digest.hexdigest()[:32]


def _ending() -> FarframeError:
    return FarframeError(Result.CANCELLED, "The server is ending.", next_step="Load the model in another session.")


def _stopped(message: str) -> FarframeError:
    return FarframeError(
        Result.EXCEEDS_MEMORY_LIMIT,
        message,
        next_step="Make the model smaller, or ask the operator to raise the limit.",
    )


def _crashed() -> FarframeError:
    return FarframeError(
        Result.FILE_CORRUPT,
        "The model made its reader crash.",
        next_step="Export the model again, or check it with the glTF validator.",
    )
