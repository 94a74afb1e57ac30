"""Converting in the background what was loaded as a plain model: a sandboxed process of low priority for each.

    await convert_in_background(flat, folder / "model.arrAsset", limits)

What it converts is drawn meanwhile, so nothing that goes wrong here is the device's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

COMMAND = (sys.executable, "-m", "farframe.convert.background")

SOFTWARE_TRIANGLES = 20_000
"""Triangles from which on a model is converted where the processor draws: fewer cost no more than choosing among them.
"""

GPU_TRIANGLES = 500_000
"""The same where a graphics adapter draws."""

_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")
"""The environment that the process gets: the server's may hold secrets."""


def worth_converting(triangles: int, adapter_kind: str) -> bool:
    """Whether drawing a model of so many triangles gains what its conversion costs."""
    return triangles >= (SOFTWARE_TRIANGLES if adapter_kind == "CPU" else GPU_TRIANGLES)


async def convert_in_background(
    flat: Path, asset: Path, limits: LoadLimits, *, command: Sequence[str] = COMMAND
) -> None:
    """Convert the flat file ``flat`` to ``asset``, whose folder is the process's own. Cancelling kills the process.

    Raises :class:`FarframeError` when the process does not make it within ``limits``; ``OSError`` when none can start.
    """
    environment: dict[str, str] = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    order: dict[str, Any] = {
        "source": str(flat),
        "asset": str(asset),
        "limits": msgspec.to_builtins(limits),
        "parent": os.getpid(),
    }
    # A task that is cancelled while a process starts would lose it.
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            cwd=asset.parent,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        if not starting.cancelled() and starting.exception() is None:
            await _end(starting.result())
        raise
    try:
        async with asyncio.timeout(limits.max_seconds):
            # One that has ended already shows by its exit code.
            with contextlib.suppress(ConnectionError):
                await process.communicate(msgspec.json.encode(order) + b"\n")
            exit_code = await process.wait()
    except TimeoutError:
        raise _failed(f"took longer than {limits.max_seconds:g} seconds") from None
    finally:
        await _end(process)
    if exit_code != 0:
        raise _failed(f"ended with {exit_code}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the process, which is a group of its own, and see it gone."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    waiting = asyncio.create_task(process.wait())
    await asyncio.wait([waiting])


def _failed(how: str) -> FarframeError:
    return FarframeError(
        Result.FAIL,
        f"The conversion in the background {how}.",
        next_step="The model is drawn as it is; convert it beforehand to draw it faster.",
    )
