"""The sandbox in which models are read: ``python -m farframe.asset.worker``.

The process imports everything once, then serves jobs, one at a time: a JSON line (:class:`Job`) on standard input, JSON
lines (:data:`Reply`) on standard output. Each job runs in a fork of the warm process, which gives up what it does not
need before it looks at the file, and whose memory, time and output size the kernel limits:

    Ready                                   once
    Job  ->  Progress*  [Failure]  Ended    for each; Ended with exit code 0 means that the output file is complete

The fork is gone before ``Ended`` is sent: nobody can change the output file any more. When standard input ends, so does
everything here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from farframe.asset.flat import write_flat
from farframe.asset.gltf import read_gltf
from farframe.asset.lod import build_levels
from farframe.asset.model import Model
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

PROGRESS_INTERVAL_SECONDS = 0.05
EXIT_REFUSED = 3
"""The job has sent a :class:`Failure`."""

LEVELS_SHARE = 0.5
"""How much of the time may go into levels of detail; what is not reached by then goes without."""

THREADS_BYTES = 256 * 1024**2
"""Address space, hardly ever touched, that threads reserve for stacks and heaps."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1 << 1
_CAP_DAC_READ_SEARCH = 1 << 2
_MAX_OPEN_FILES = 256


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to read (the model or texture at ``source``, or the built-in model of that name) and where to write the flat
    file. A texture: ``name`` for messages, whether it is to be a ``cube`` map, which formats are to be ``decoded``."""

    kind: Literal["file", "builtin", "texture"]
    source: str
    output: str
    limits: LoadLimits
    name: str = ""
    cube: bool = False
    decoded: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """What a person calls that which is read."""
        return "texture" if self.kind == "texture" else "model"


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Everything is imported: jobs start at once."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a job is, 0 to 1."""

    stage: str
    fraction: float


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """Why the model was refused, as the parts of a :class:`FarframeError`."""

    result: Result
    message: str
    next_step: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The job's process is gone: its exit code, or the negative number of the signal that ended it."""

    exit_code: int


Reply = Ready | Progress | Failure | Ended

_encoder = msgspec.json.Encoder()


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _send(Ready())
    decoder = msgspec.json.Decoder(Job)
    for line in sys.stdin.buffer:
        _send(Ended(_run_in_fork(decoder.decode(line))))


def _run_in_fork(job: Job) -> int:
    """Run a job in a child; its exit code or negative signal. Ends itself with the child if standard input closes."""
    alive, held = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(alive)
        _run_and_exit(job, parent)
    os.close(held)
    # The child holds the other end of this pipe until it is gone, however it ends.
    poll = select.poll()
    poll.register(alive, select.POLLIN)
    poll.register(sys.stdin.fileno(), 0)
    gone = False
    while not gone:
        for descriptor, _ in poll.poll():
            if descriptor == alive:
                gone = True
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                sys.exit(0)
    os.close(alive)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run_and_exit(job: Job, parent: int) -> NoReturn:
    """The whole life of a job's process."""
    try:
        confine(job.limits, parent)
        run(job)
    except FarframeError as error:
        failure = Failure(error.result, error.message, error.next_step)
    except MemoryError:
        failure = _too_large(f"The {job.word} does not fit into the memory that is allowed.")
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
            failure = _too_large(
                f"The {job.word}, made ready to be drawn, does not fit into the space that is allowed."
            )
        else:
            traceback.print_exc()
            failure = Failure(Result.FAIL, f"The server could not read or write the {job.word}'s files.", "Try again.")
    except BaseException as error:
        traceback.print_exc()
        failure = Failure(
            Result.FILE_CORRUPT,
            f"The {job.word} could not be read.",
            "Save it again." if job.kind == "texture" else "Export it again, or check it with the glTF validator.",
        )
        # How Python says that there is no address space left for a thread's stack.
        if isinstance(error, RuntimeError) and "new thread" in str(error):
            failure = _too_large(f"The {job.word} does not fit into the memory that is allowed.")
    else:
        os._exit(0)
    with contextlib.suppress(OSError, MemoryError):
        _send(failure)
    os._exit(EXIT_REFUSED)


def _too_large(message: str) -> Failure:
    return Failure(Result.EXCEEDS_MEMORY_LIMIT, message, "Make it smaller, or ask the operator to raise the limit.")


def run(job: Job, clock: Callable[[], float] = time.monotonic) -> None:
    """Read the model or texture, write the flat file. Sends progress; raises what goes wrong.

    A file is left as it is, so that it is drawn soon: whoever draws it converts it afterwards. A built-in model is kept
    for later sessions, so its levels are built here and once.
    """
    report = _Reporter(clock)
    if job.kind == "texture":
        _read_texture(job, report)
        return
    began = clock()
    if job.kind == "builtin":
        model = _builtin(job.source)
        left = job.limits.max_seconds - (clock() - began)
        model = build_levels(model, report.part(0.45, 0.95), max_seconds=left * LEVELS_SHARE, clock=clock)
    else:
        model = read_gltf(Path(job.source), job.limits, report.part(0.0, 0.95))
    report("writing", 0.95)
    write_flat(model, Path(job.output))


def _read_texture(job: Job, report: Callable[[str, float], None]) -> None:
    """Imported here: most jobs read models."""
    from farframe.asset.flat_texture import write_flat_texture
    from farframe.asset.textures_file import read_texture

    report("reading", 0.0)
    source = Path(job.source)
    if source.stat().st_size > job.limits.max_memory_bytes:
        raise FarframeError(Result.EXCEEDS_MEMORY_LIMIT, f"{job.name} is too large.", next_step="Scale it down.")
    texture = read_texture(source.read_bytes(), job.name, cube=job.cube, limits=job.limits)
    report("reading", 0.5)
    write_flat_texture(texture.decoded(job.decoded), Path(job.output))


def _builtin(name: str) -> Model:
    """A model that is generated. Imported here: most jobs need no generator."""
    if name.lower() != "engine":
        raise FarframeError(
            Result.FILE_NOT_FOUND, "There is no built-in model of that name.", next_step="Use builtin://Engine."
        )
    from farframe.asset.builtin_engine import build_engine

    return build_engine()


class _Reporter:
    """Sends progress, but not more often than anybody could see."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stage = ""
        self._sent = -math.inf

    def __call__(self, stage: str, fraction: float) -> None:
        now = self._clock()
        if stage != self._stage or now - self._sent >= PROGRESS_INTERVAL_SECONDS:
            self._stage, self._sent = stage, now
            _send(Progress(stage, fraction))

    def part(self, begin: float, end: float) -> Callable[[str, float], None]:
        """A callback for work that is the given share of the whole."""
        return lambda stage, fraction: self(stage, begin + (end - begin) * fraction)


def confine(limits: LoadLimits, parent: int) -> None:
    """Give up, for good, what reading a model does not need; what the kernel does not allow to give up is kept.

    Address space is limited to what the process has now plus ``max_memory_bytes`` and its threads' needs, processor
    time to ``max_seconds`` on every processor, files to ``max_memory_bytes`` each; no core dumps, no new privileges, no
    network, no input, and no capabilities but those by which root reads others' files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        libc.unshare(_CLONE_NEWNET)
        _drop_capabilities(libc)
    else:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())
    os.close(null)
    size_now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    seconds = math.ceil(limits.max_seconds * (os.cpu_count() or 1)) + 1
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.max_memory_bytes),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_AS, size_now + THREADS_BYTES + limits.max_memory_bytes),
    ):
        _, hard = resource.getrlimit(what)
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (lowered, lowered))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keep only what lets root read the models of other users (capset(2), version 3)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    kept = _CAP_DAC_OVERRIDE | _CAP_DAC_READ_SEARCH
    now = (ctypes.c_uint32 * 6)()
    if libc.capget(header, now) == 0:
        # Effective and permitted of the lower 32 capabilities, then nothing; a set can only shrink.
        libc.capset(header, (ctypes.c_uint32 * 6)(now[0] & kept, now[1] & kept, 0, 0, 0, 0))


def _send(reply: Reply) -> None:
    # One write of less than a pipe's atomic size: lines of the job and of its parent cannot mix.
    os.write(sys.stdout.fileno(), _encoder.encode(reply) + b"\n")


if __name__ == "__main__":
    main()
