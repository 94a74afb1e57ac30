"""A reader in a process of its own, whose result comes back as a mapped file.

For readers whose libraries may crash: on broken files, or because a binding is careless with its objects (ufbx 0.0.5
is; see :mod:`farframe.convert.importers.ufbx_scene`). The child is a fork and inherits every confinement of its parent;
it is no sandbox beyond that, and parent and child trust each other as far as the sandbox around both reaches.

    child -> parent   JSON lines on a pipe: {"stage", "fraction"}*, then {"done"} or {"error", "message", "next_step"}
                      and a temporary file: a pickle whose arrays lie behind it, mapped by the parent, copied on write
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import json
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

from farframe.asset.budget import Budget, Progress
from farframe.convert.importers import Imported
from farframe.convert.overrides import MaterialOverrides
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError, Result

POLL_SECONDS = 0.5
MAX_LINE_BYTES = 1 << 20
ALIGNMENT = 64
_HEAD = struct.Struct("<QQ")
_PR_SET_PDEATHSIG = 1

Work = Callable[[Progress], Imported]
Read = Callable[[Path, Path, ConversionSettings, Budget, Progress, MaterialOverrides], Imported]


class Reader(Protocol):
    """What :func:`in_child` makes: a reader as :func:`~farframe.convert.importers.import_file` calls it."""

    def __call__(
        self,
        path: Path,
        folder: Path,
        settings: ConversionSettings,
        budget: Budget,
        progress: Progress,
        *,
        overrides: MaterialOverrides,
    ) -> Imported:
        """Read a file."""


def in_child(read: Read) -> Reader:
    """The reader with the same arguments, the last by name, that does the work in a process of its own."""

    @functools.wraps(read)
    def importer(
        path: Path,
        folder: Path,
        settings: ConversionSettings,
        budget: Budget,
        progress: Progress,
        *,
        overrides: MaterialOverrides,
    ) -> Imported:
        def work(report: Progress) -> Imported:
            return read(path, folder, settings, budget, report, overrides)

        return read_in_child(work, path.name, budget, progress)

    return importer


def read_in_child(work: Work, name: str, budget: Budget, progress: Progress) -> Imported:
    """What ``work`` returns, made in a fork. ``name`` is the file's, for errors.

    Raises what ``work`` raises, if it is a :class:`FarframeError`; ``FILE_CORRUPT`` when the child crashes. An
    exception from ``progress`` ends the child.
    """
    receiver, sender = os.pipe()
    with tempfile.TemporaryFile() as file:
        parent = os.getpid()
        with warnings.catch_warnings():
            # Newer Pythons warn of threads: the child touches none of them, and ends without their cleaning up.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.close(receiver)
            _run_and_exit(work, file, sender, parent)
        os.close(sender)
        try:
            last = _follow(receiver, budget, progress)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.close(receiver)
            _, status = os.waitpid(child, 0)
        if "error" in last:
            raise FarframeError(Result(last["error"]), last["message"], next_step=last["next_step"])
        if "done" not in last or os.waitstatus_to_exitcode(status) != 0:
            raise FarframeError(
                Result.FILE_CORRUPT,
                f"{ascii(name)[:200]} made its reader crash: it is broken in a way that the reader does not name.",
                next_step="Export the model again, as another version of the format or as glTF.",
            )
        return _mapped(file)


def _run_and_exit(work: Work, file: BinaryIO, sender: int, parent: int) -> NoReturn:
    """The whole life of the child."""
    # A collection would walk through wrappers that a careless binding has left pointing nowhere.
    gc.disable()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)

    def send(line: dict[str, Any]) -> None:
        os.write(sender, json.dumps(line).encode() + b"\n")

    try:
        _dump(work(lambda stage, fraction: send({"stage": stage, "fraction": fraction})), file)
        send({"done": True})
    except FarframeError as error:
        send({"error": error.result.value, "message": error.message, "next_step": error.next_step})
    except (MemoryError, OSError):
        text = "The model does not fit into the memory or space that is allowed."
        step = "Make the model smaller, or ask the operator to raise the limit."
        send({"error": Result.EXCEEDS_MEMORY_LIMIT.value, "message": text, "next_step": step})
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os._exit(0)


def _follow(receiver: int, budget: Budget, progress: Progress) -> dict[str, Any]:
    """Pass progress on until the child closes its end; its last line."""
    pending = b""
    last: dict[str, Any] = {}
    while True:
        budget.check_time()
        if not select.select([receiver], [], [], POLL_SECONDS)[0]:
            continue
        data = os.read(receiver, 1 << 16)
        if not data:
            return last
        *lines, pending = (pending + data).split(b"\n")
        if len(pending) > MAX_LINE_BYTES:
            return {}
        for line in lines:
            last = json.loads(line)
            if "stage" in last:
                progress(str(last["stage"]), float(last["fraction"]))


def _dump(imported: Imported, file: BinaryIO) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(imported, protocol=5, buffer_callback=buffers.append)
    views = [each.raw() for each in buffers]
    file.write(_HEAD.pack(len(head), len(views)) + b"".join(struct.pack("<Q", view.nbytes) for view in views) + head)
    for view in views:
        file.write(bytes(-file.tell() % ALIGNMENT))
        file.write(view)
    file.flush()


def _mapped(file: BinaryIO) -> Imported:
    memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    head_size, count = _HEAD.unpack(memory[: _HEAD.size])
    sizes = struct.unpack(f"<{count}Q", memory[_HEAD.size : _HEAD.size + 8 * count])
    place = _HEAD.size + 8 * count + head_size
    head = memory[place - head_size : place]
    buffers = []
    for size in sizes:
        place += -place % ALIGNMENT
        buffers.append(memory[place : place + size])
        place += size
    # Made by a fork of this very process, inside the same confinement: not data from elsewhere.
    found: Imported = pickle.loads(head, buffers=buffers)  # noqa: S301
    return found
