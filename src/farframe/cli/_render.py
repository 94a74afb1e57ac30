"""``farframe render``: from a model to a picture."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farframe.cli._context import CommandError, context, emit, error_console, note, run_async
from farframe.cli._values import Size, Vector

if TYPE_CHECKING:
    from farframe.client import Frame, LoadedModel, RemoteRenderingClient, RuntimeConnection, Session, Way
    from farframe.client.ways import WayChoice

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LEASE_MINUTES = 15
"""Longer than a render may take; the session is stopped as soon as the picture is there."""

NAMES_OF_WAYS = {"webrtc": "WebRTC", "turn": "WebRTC by way of a TURN server", "websocket": "a WebSocket"}

SHARPEN_SECONDS = 10.0
"""How long the picture may get sharper before it is taken as it is; the next keep-alive frame comes within a second."""


def render(
    model: str,
    out: Path,
    *,
    size: Size,
    eye: Vector | None,
    target: Vector | None,
    fov: float,
    session_id: str | None,
    server: str,
    timeout: float,
    way: WayChoice,
) -> None:
    """Render ``model`` into the file ``out``. What can be refused early is refused before a server is leased."""
    if out.suffix.lower() not in FORMATS:
        raise CommandError(f"{out} has no picture's ending. Let --out end in .png, .jpg or .webp.")
    if not out.parent.is_dir():
        raise CommandError(f"There is no folder {out.parent}. Create it, or choose another --out.")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise CommandError(f"{out} cannot be written. Choose another --out.")
    if not 1.0 <= fov <= 170.0:
        raise CommandError(f"A field of view of {fov:g} degrees cannot be drawn. Choose --fov from 1 to 170.")
    if eye is not None and eye == target:
        raise CommandError("--eye and --target are the same point. Move one of them.")
    frame, loaded, taken = run_async(_frame(model, size, eye, target, fov, session_id, server, timeout, way))
    _save(frame, out)
    facts: dict[str, Any] = {
        "out": str(out),
        "width": frame.width,
        "height": frame.height,
        "model": loaded.name,
        "parts": loaded.part_count,
        "triangles": loaded.triangle_count,
        "bounds": {"min": loaded.bounds.min, "max": loaded.bounds.max},
        "way": {
            "kind": taken.kind,
            "relayed": taken.relayed,
            "reason": taken.reason,
            "roundTripMs": taken.round_trip_ms,
        },
        "warnings": list(loaded.warnings),
    }
    text = f"{out}: {frame.width}x{frame.height}, {loaded.part_count:,} parts, {loaded.triangle_count:,} triangles"
    if taken.kind != "webrtc":
        through = ", through the service" if taken.relayed else ""
        note(f"The stream came by {NAMES_OF_WAYS[taken.kind]}{through}. {taken.reason}")
    emit(facts, "\n".join([text, *(f"warning: {warning}" for warning in loaded.warnings)]))


@contextlib.asynccontextmanager
async def _session(client: RemoteRenderingClient, session_id: str | None, server: str) -> AsyncIterator[Session]:
    """The named session, left as it is, or one that lives only for this picture."""
    if session_id is None:
        async with client.leased(server, LEASE_MINUTES) as session:
            yield session
    else:
        session = await client.get_session(session_id)
        await session.wait_until_ready()
        yield session


async def _frame(
    model: str,
    size: Size,
    eye: Vector | None,
    target: Vector | None,
    fov: float,
    session_id: str | None,
    server: str,
    timeout: float,
    way: WayChoice,
) -> tuple[Frame, LoadedModel, Way]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from farframe.client._uploads import is_uri

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = error_console()
    # Into a file or a pipe, bars would only be noise around the one line that counts.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        async with context.client() as client:
            uri = model
            if not is_uri(model):
                # Before the lease: no server waits while a slow line sends gigabytes.
                sending = progress.add_task("Sending the model", total=1.0)
                uri = await client.upload(model, lambda sent: progress.update(sending, completed=sent.fraction))
            leasing = progress.add_task("Leasing a render server", total=None)
            async with _session(client, session_id, server) as session:
                progress.update(leasing, total=1.0, completed=1.0)
                connecting = progress.add_task("Connecting", total=None)
                async with session.connect(*size, way=way) as connection:
                    progress.update(connecting, total=1.0, completed=1.0)
                    loading = progress.add_task("Loading", total=1.0)
                    loaded = await connection.load_model(
                        uri, lambda load: progress.update(loading, completed=load.fraction)
                    )
                    if eye is None:
                        connection.look_at_model(loaded, vertical_fov_degrees=fov)
                    else:
                        low, high = loaded.bounds.min, loaded.bounds.max
                        middle = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
                        connection.look_at(eye, target or (middle[0], middle[1], middle[2]), vertical_fov_degrees=fov)
                    drawing = progress.add_task("Drawing", total=None)
                    frame = await _sharpest(connection, await connection.wait_for_still(timeout))
                    progress.update(drawing, total=1.0, completed=1.0)
                    return frame, loaded, connection.way


async def _sharpest(connection: RuntimeConnection, still: Frame) -> Frame:
    """The last of the frames that sharpen the full-quality picture; the server sends a few, then keep-alives."""
    from farframe.protocol.records import FrameFlags

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SHARPEN_SECONDS):
            async for frame in connection.frames():
                if FrameFlags.KEEP_ALIVE in frame.flags:
                    break
                if frame.is_still and frame.pose_id == still.pose_id:
                    still = frame
    return still


def _save(frame: Frame, out: Path) -> None:
    """Write the picture whole or not at all."""
    from PIL import Image

    picture = Image.fromarray(frame.image, "RGB")
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            picture.save(stream, FORMATS[out.suffix.lower()])
        # A temporary file is private; the picture gets what a plain open would have given it.
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(out)
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror}. Choose another --out.") from error
    finally:
        Path(name).unlink(missing_ok=True)
