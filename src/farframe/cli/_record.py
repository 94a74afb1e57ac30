"""``farframe record``: a session's video into an MP4 file, as it comes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farframe.cli._context import CommandError, context, emit, error_console, run_async
from farframe.cli._values import Size

if TYPE_CHECKING:
    from farframe.client import RuntimeConnection, Session
    from farframe.client.recording import RecordingProgress
    from farframe.client.ways import WayChoice

POSES_PER_SECOND = 60


def record(
    session_id: str,
    out: Path,
    *,
    seconds: float | None,
    drive: str | None,
    size: Size,
    degrees_per_second: float,
    overwrite: bool,
    way: WayChoice,
) -> None:
    """Record a session into ``out`` for ``seconds``, or until it is interrupted or ends."""
    if out.suffix.lower() != ".mp4":
        raise CommandError(f"{out} is no MP4 file's name. Let it end in .mp4.")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise CommandError(f"Nothing can be written in {out.parent}. Create the folder, or choose another.")
    if out.exists() and not overwrite:
        raise CommandError(f"{out} exists already. Choose another name, or give --overwrite.")
    if seconds is not None and not seconds > 0:
        raise CommandError("A recording takes more than 0 seconds. Choose another --seconds.")
    files, reached, taken = run_async(
        _record(session_id, out, seconds, drive, size, degrees_per_second, overwrite, way)
    )
    if not files:
        raise CommandError("No picture came, so nothing was recorded. Look whether the session shows something.")
    facts: dict[str, Any] = {
        "files": [str(path) for path in files],
        "frames": reached.frames,
        "seconds": round(reached.seconds, 3),
        "bytes": reached.bytes,
        "way": taken,
    }
    emit(facts, "\n".join([*map(str, files), f"{reached.frames} frames, {reached.seconds:.1f} s, {_size(reached)}"]))


def _size(reached: RecordingProgress) -> str:
    return f"{reached.bytes / 1e6:.1f} MB"


@asynccontextmanager
async def _connected(
    session: Session, drive: str | None, size: Size, way: WayChoice
) -> AsyncIterator[RuntimeConnection]:
    """As a spectator, or as the device that drives."""
    if drive is None:
        async with session.watch(way=way) as connection:
            yield connection
    else:
        async with session.connect(*size, way=way) as connection:
            yield connection


async def _record(
    session_id: str,
    out: Path,
    seconds: float | None,
    drive: str | None,
    size: Size,
    degrees_per_second: float,
    overwrite: bool,
    way: WayChoice,
) -> tuple[tuple[Path, ...], RecordingProgress, str]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = error_console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    async with context.client() as client:
        session = await client.get_session(session_id)
        await session.wait_until_ready()
        async with _connected(session, drive, size, way) as connection:
            turning = None
            if drive is not None:
                await connection.load_model(drive)
                connection.look_at_model()
                await anext(aiter(connection.frames()))
                turning = asyncio.create_task(_turn(connection, degrees_per_second))
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("Waiting for a keyframe", total=seconds)

                def came(reached: RecordingProgress) -> None:
                    said = f"{reached.frames} frames, {_size(reached)}"
                    progress.update(task, completed=reached.seconds, description=said)

                recording = connection.record(out, overwrite=overwrite, progress=came)
                try:
                    await recording.wait(seconds)
                except asyncio.CancelledError:
                    # Ctrl-C is how a recording without an end is ended: what there is gets its name.
                    current = asyncio.current_task()
                    if current is not None:
                        current.uncancel()
                finally:
                    if turning is not None:
                        turning.cancel()
                files = await recording.stop()
            return files, recording.progress, connection.way.kind


async def _turn(connection: RuntimeConnection, degrees_per_second: float) -> None:
    """Turn around everything that is loaded, for as long as this runs."""
    start = time.monotonic()
    while connection.ended is None:
        connection.look_at_model(azimuth_degrees=36.0 + (time.monotonic() - start) * degrees_per_second)
        await asyncio.sleep(1 / POSES_PER_SECOND)
