"""What a process gives up before it looks at a stranger's file, and how its parent holds it to its limits.

Inside (:func:`confine`): no network, no new privileges, no capabilities but reading others' files, no core dumps,
limits on anonymous memory, processor time and file size, and a file system of which only what programs need can be
read, and only the job's folders written (Landlock, Linux 5.13 and later). What a kernel does not offer is left out.

Outside (:func:`supervise`): the sum of all its processes' memory, the size of its folders, and the time on the clock
are looked at a few times a second; whoever exceeds one is ended with everything that it started.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LOOK_SECONDS = 0.2
FOLDER_LOOK_SECONDS = 1.0
THREADS_BYTES = 512 * 1024**2
"""Memory beyond the limit that the interpreter, its libraries and threads may reserve."""

_MAX_OPEN_FILES = 1024
_MAX_FILES_COUNTED = 200_000
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION = 0x20080522
_KEPT_CAPABILITIES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_MACHINES = frozenset({"x86_64", "aarch64", "riscv64"})
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read files, list folders
_ALL_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_DEVICE = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 15  # write and read files, list, control devices
_FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/opt", "/proc", "/sys", "/nix", "/run/opengl-driver")

Breach = Literal["memory", "disk", "time"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a process and all that it starts may use."""

    memory_bytes: int
    disk_bytes: int
    seconds: float


def die_with(parent: int) -> None:
    """End when the parent does. Call first: the parent may be gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none can hide."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def confine(bounds: Bounds, *, readable: Sequence[Path], writable: Sequence[Path], devices: bool = False) -> None:
    """Give up, for good, what converting a model does not need. ``devices`` keeps those of graphics adapters."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        libc.unshare(_CLONE_NEWNET)
    else:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _restrict_files(libc, readable, writable, devices=devices)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    now = (ctypes.c_uint32 * 6)()
    if libc.capget(header, now) == 0:
        libc.capset(header, (ctypes.c_uint32 * 6)(now[0] & _KEPT_CAPABILITIES, now[1] & _KEPT_CAPABILITIES, 0, 0, 0, 0))
    with contextlib.suppress(OSError):
        # If the machine runs out of memory, this goes first.
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, math.ceil(bounds.seconds * (os.cpu_count() or 1)) + 1),
        (resource.RLIMIT_FSIZE, bounds.disk_bytes),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ]
    if not devices:
        # Anonymous memory, not address space: assets larger than memory are mapped. Drivers of adapters map at will.
        limits.append((resource.RLIMIT_DATA, bounds.memory_bytes + THREADS_BYTES))
    for what, value in limits:
        _, hard = resource.getrlimit(what)
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (lowered, lowered))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _restrict_files(libc: ctypes.CDLL, readable: Sequence[Path], writable: Sequence[Path], *, devices: bool) -> None:
    """Landlock: a rule set of what is allowed; everything else is refused from here on, to children as well."""
    libc.syscall.restype = ctypes.c_long
    if os.uname().machine not in _LANDLOCK_MACHINES:
        return
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    handled = _ALL_BY_VERSION[min(version, 5)]
    # Handled rights on files, then (version 4) on the network: binding and connecting TCP, none of it allowed.
    attribute = struct.pack("=QQ", handled, 3) if version >= 4 else struct.pack("=Q", handled)
    rules = libc.syscall(_LANDLOCK_CREATE, attribute, len(attribute), 0)
    if rules < 0:
        return
    system = [Path(each) for each in _SYSTEM_FOLDERS]
    interpreter = [Path(each) for each in {sys.prefix, sys.base_prefix, sysconfig.get_paths()["purelib"]}]
    package = [Path(__file__).resolve().parents[1]]
    graphics = [*Path("/dev").glob("nvidia*"), Path("/dev/dri"), Path("/dev/kfd"), Path("/dev/shm")] if devices else []  # noqa: S108
    plain = [Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom"), Path("/dev/random"), Path("/dev/shm")]  # noqa: S108
    try:
        for paths, rights in (
            ([*system, *interpreter, *package, *readable], _READ),
            ([*graphics, *plain], _ALL_BY_VERSION[min(version, 5)]),
            (writable, handled & ~(1 << 6 | 1 << 11)),  # neither devices made
        ):
            for path in paths:
                _allow(libc, rules, path, rights & handled)
        libc.syscall(_LANDLOCK_RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _FILE_RIGHTS
        libc.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def supervise(
    process: subprocess.Popen[bytes],
    bounds: Bounds,
    folders: Iterable[Path],
    *,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Breach | None:
    """Wait for a child's end, or end it and all that it started when it exceeds a bound; which one that was."""
    began = clock()
    folders = list(folders)
    breach: Breach | None = None
    next_look = began
    while breach is None and not stopped():
        try:
            process.wait(LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            pass
        if clock() - began > bounds.seconds:
            breach = "time"
        elif sum(_memory(each) for each in descendants(process.pid)) > bounds.memory_bytes:
            breach = "memory"
        elif clock() >= next_look:
            next_look = clock() + FOLDER_LOOK_SECONDS
            if folder_bytes(folders) > bounds.disk_bytes:
                breach = "disk"
    end_descendants()
    process.wait()
    return breach


def descendants(root: int) -> list[int]:
    """A process and everything below it, by what /proc says now."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(entry.path, "stat").read_bytes()
                parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left.extend(children.get(pid, []))
    return found


def end_descendants() -> None:
    """Kill whatever this process has started, directly or not, and wait until it is gone."""
    for _ in range(100):
        below = descendants(os.getpid())[1:]
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        alive = False
        for pid in below:
            with contextlib.suppress(ChildProcessError):
                alive = os.waitpid(pid, os.WNOHANG)[0] == 0 or alive
        if not below or not alive:
            return
        time.sleep(0.01)


def end_leftovers(folder: Path) -> None:
    """Kill processes that work in a folder: what an earlier attempt left behind when its parents were killed."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if Path(entry.path, "cwd").readlink().is_relative_to(folder.resolve()):
                os.kill(int(entry.name), signal.SIGKILL)


def folder_bytes(folders: Iterable[Path]) -> int:
    """What the files below folders occupy on the disk."""
    total = counted = 0
    for folder in folders:
        for root, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(Path(root, name)).st_blocks * 512
                counted += 1
                if counted > _MAX_FILES_COUNTED:
                    return sys.maxsize
    return total


def _memory(pid: int) -> int:
    """Resident memory that is the process's own, mapped files not counted, in bytes."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
