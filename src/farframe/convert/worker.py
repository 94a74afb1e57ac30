"""The sandbox in which a model is converted: ``python -m farframe.convert.worker``, one process a conversion.

Reads one :class:`WorkerOrder` as a JSON line on standard input, confines itself, converts, and writes JSON lines on
standard output: :class:`~farframe.protocol.conversion.ConversionStep` while it works, then one :class:`WorkerEnd`.
Whatever happens to the model, ``N.result.json`` is in the output folder when the process ends on its own; when it is
ended, its parent writes it. Standard error is the log.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from farframe.convert.errors import (
    INPUT_NOT_VALID,
    INTERNAL,
    LIMITS_EXCEEDED,
    OUTPUT_NOT_WRITTEN,
    ConversionFailed,
    from_farframe_error,
)
from farframe.convert.result import write_result
from farframe.convert.sandbox import Bounds, confine, die_with
from farframe.protocol.conversion import ConversionLimits, ConversionStep
from farframe.protocol.errors import FarframeError
from farframe.protocol.link import LoadLimits

PROGRESS_INTERVAL_SECONDS = 0.1

Progress = Callable[[str, float], None]
Convert = Callable[[Path, str, Path, str, LoadLimits, Progress], Any]
"""``convert_model`` of :mod:`farframe.convert.pipeline`, or what a test puts in its place."""


class WorkerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to convert, and where. The scratch folder is the process's working and temporary folder."""

    conversion_id: str
    input_folder: str
    asset: str
    output_folder: str
    base_name: str
    scratch_folder: str
    limits: ConversionLimits
    parent: int


class WorkerEnd(msgspec.Struct, frozen=True, kw_only=True, tag="worker-end"):
    """How it ended; ``code`` is empty after success."""

    code: str = ""
    title: str = ""
    details: dict[str, str] = {}


WorkerNews = ConversionStep | WorkerEnd

_FULL = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
_encoder = msgspec.json.Encoder()


def main(convert: Convert | None = None) -> None:
    """Do the one order on standard input."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerOrder)
    die_with(order.parent)
    os.chdir(order.scratch_folder)
    os.environ["TMPDIR"] = order.scratch_folder
    os.nice(10)
    # What a process writes to standard output by accident belongs into the log.
    news = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        if convert is None:
            # By name: importers of all formats are loaded in the sandbox's process and in no other.
            convert = cast(Convert, importlib.import_module("farframe.convert.pipeline").convert_model)
        bounds = Bounds(order.limits.memory_bytes, order.limits.disk_bytes, order.limits.seconds)
        confine(
            bounds,
            readable=[Path(order.input_folder)],
            writable=[Path(order.output_folder), Path(order.scratch_folder)],
        )
        failure = run(order, convert, _Reporter(news))
        end = (
            WorkerEnd()
            if failure is None
            else WorkerEnd(code=failure.code, title=failure.title, details=failure.details)
        )
        os.write(news, _encoder.encode(end) + b"\n")
    except BaseException:
        _log_exception()
        os._exit(1)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def run(order: WorkerOrder, convert: Convert, progress: Progress) -> ConversionFailed | None:
    """Convert; write the result file. What went wrong, if something did."""
    output = Path(order.output_folder)
    try:
        limits = LoadLimits(max_memory_bytes=order.limits.memory_bytes, max_seconds=order.limits.seconds)
        outcome = convert(Path(order.input_folder), order.asset, output, order.base_name, limits, progress)
        if not (output / f"{order.base_name}.arrAsset").is_file():
            raise ConversionFailed(INTERNAL, details={"error": "The conversion ended without an asset."})
        write_result(output, order.base_name, order.conversion_id, getattr(outcome, "warnings", ()))
    except ConversionFailed as error:
        _log_exception()
        failure = error
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _FULL:
            failure = exceeded("memory" if cause.errno == errno.ENOMEM else "disk")
    except FarframeError as error:
        failure = from_farframe_error(error)
    except MemoryError:
        failure = exceeded("memory")
    except OSError as error:
        _log_exception()
        if error.errno in _FULL:
            failure = exceeded("memory" if error.errno == errno.ENOMEM else "disk")
        else:
            failure = ConversionFailed(OUTPUT_NOT_WRITTEN, details={"error": os.strerror(error.errno or 0)})
    except Exception as error:
        _log_exception()
        failure = ConversionFailed(
            INPUT_NOT_VALID,
            details={
                "import error": "The model could not be read.",
                "next step": "Export it again, or check it with a validator of its format.",
            },
        )
        # How Python says that there is no memory left for a thread's stack.
        if isinstance(error, RuntimeError) and "new thread" in str(error):
            failure = exceeded("memory")
    else:
        return None
    # A traceback holds the arrays that filled the memory; the result file needs some.
    gc.collect()
    write_result(output, order.base_name, order.conversion_id, failure.warnings, failure)
    with contextlib.suppress(OSError):
        print(failure, file=sys.stderr, flush=True)
    return failure


def _log_exception() -> None:
    """The traceback into the log, unless that is what is full."""
    with contextlib.suppress(OSError, MemoryError):
        traceback.print_exc()
        sys.stderr.flush()


def exceeded(what: str) -> ConversionFailed:
    """The failure of a conversion that needed more memory, disk or time than it is allowed."""
    return ConversionFailed(
        LIMITS_EXCEEDED,
        details={
            "limit": what,
            "error": f"The process exceeded its system resources ({what}); the asset is possibly too large.",
            "next step": "Make the model smaller, or ask the operator to raise the limit.",
        },
    )


class _Reporter:
    """Sends progress, but not more often than anybody could see."""

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._stage = ""
        self._sent = -math.inf

    def __call__(self, stage: str, fraction: float) -> None:
        now = self._clock()
        if stage != self._stage or now - self._sent >= PROGRESS_INTERVAL_SECONDS:
            self._stage, self._sent = stage, now
            step = ConversionStep(stage=stage[:80], fraction=min(max(fraction, 0.0), 1.0))
            os.write(self._descriptor, _encoder.encode(step) + b"\n")


if __name__ == "__main__":
    main()
