"""Recording what a real render server sends, from Python and from the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.client import RemoteRenderingClient
from tests.end_to_end.harness import RunningService, spread
from tests.end_to_end.test_command_line import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def terminal(service: RunningService, tmp_path: Path) -> Terminal:
    return Terminal(service.connection_path, tmp_path)


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    """The luma of every picture in a file."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray()[: frame.height, : frame.width] for frame in container.decode(video=0)]


async def test_a_recording_holds_the_frames_that_were_shown(service: RunningService, tmp_path: Path) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=640, height=360) as connection,
    ):
        await connection.load_model("builtin://Engine")
        connection.look_at_model()
        await connection.wait_for_still()
        shown: list[NDArray[np.uint8]] = []

        async def watch() -> None:
            async for frame in connection.frames(buffer=400):
                shown.append(frame.planes[0].copy())

        watching = asyncio.create_task(watch())
        async with connection.record(tmp_path / "out.mp4") as recording:
            async with asyncio.timeout(60):
                angle = 0.0
                while recording.progress.frames < 30:
                    angle += 3
                    connection.look_at_model(azimuth_degrees=angle)
                    await asyncio.sleep(1 / 30)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    assert recording.files == [tmp_path / "out.mp4"]
    recorded = pictures(tmp_path / "out.mp4")
    assert len(recorded) >= 30
    assert spread(np.repeat(recorded[-1][..., None], 3, axis=2)) > 10
    # The last pictures may have been recorded before they were decoded.
    recorded = recorded[: len(recorded) - 4]
    begins = [index for index in range(len(shown) - len(recorded) + 1) if np.array_equal(shown[index], recorded[0])]
    assert any(
        all(np.array_equal(one, other) for one, other in zip(shown[begin:], recorded, strict=False)) for begin in begins
    ), "the file must hold the same pictures in the same order"


def test_the_command_records_what_it_drives(terminal: Terminal) -> None:
    session = terminal.json("session", "create", "to-record")
    assert isinstance(session, dict)
    try:
        words = ("record", "to-record", "turn.mp4", "--drive", "builtin://Engine", "--size", "640x360")
        found = terminal.json(*words, "--seconds", "3", "--way", "websocket")
        assert isinstance(found, dict)
        assert (found["files"], found["way"]) == (["turn.mp4"], "websocket")
        recorded = pictures(terminal.folder / "turn.mp4")
        assert len(recorded) == found["frames"] > 1
        assert recorded[0].shape == (360, 640)
        assert not np.array_equal(recorded[0], recorded[-1])
        assert "exists already" in terminal.fails(*words)
        assert "no MP4" in terminal.fails("record", "to-record", "turn.avi")
        # Ctrl-C is how a recording without an end is ended.
        process = terminal.start(*words, "--overwrite", "--json")
        try:
            partial = terminal.folder / "turn.mp4.part"
            for _ in range(600):
                if partial.exists() and partial.stat().st_size > 20_000:
                    break
                assert process.poll() is None, process.communicate()
                with contextlib.suppress(Exception):
                    process.wait(0.1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, err
        again = json.loads(out)
        assert len(pictures(terminal.folder / "turn.mp4")) == again["frames"] > 0
        assert not partial.exists()
    finally:
        terminal.run("session", "stop", "to-record")


async def test_the_command_records_what_another_device_sees(service: RunningService, terminal: Terminal) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=640, height=360) as connection,
    ):
        await connection.load_model("builtin://Engine")
        connection.look_at_model()
        await connection.wait_for_still()

        async def turn() -> None:
            angle = 0.0
            while True:
                angle += 3
                connection.look_at_model(azimuth_degrees=angle)
                await asyncio.sleep(1 / 20)

        turning = asyncio.create_task(turn())
        # Until something has moved in the file: how much comes in a second depends on the machine.
        words, seconds, found = ("record", session.id, "seen.mp4", "--overwrite"), 3, None
        while not isinstance(found, dict) or found["frames"] < 3:
            found = await asyncio.to_thread(terminal.json, *words, "--seconds", str(seconds))
            seconds *= 2
            assert seconds < 100
        turning.cancel()
        await asyncio.wait([turning])
        assert connection.ended is None, "the one who drives notices nothing"
    recorded = pictures(terminal.folder / "seen.mp4")
    assert len(recorded) == found["frames"]
    assert not np.array_equal(recorded[0], recorded[-1])
