"""Recordings are read back with a decoder and compared, picture by picture, with what the stream itself decodes to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.client.errors import LocalFileError
from farframe.client.recording import Recording, RecordingProgress, is_keyframe, picture_size, start_recording
from farframe.stream.encoder import CLOCK_RATE_HZ, H264Encoder
from farframe.stream.jitter import AssembledFrame


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A gradient that moves, with a square that says which picture it is."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rgba = np.stack([(x + 3 * number) % 256, (y * 2) % 256, (x + y) % 256, np.full_like(x, 255)], -1)
    rgba[8:40, 8:40] = (number * 29) % 256
    return rgba.astype(np.uint8)


class Source:
    """A stream as a connection delivers it: access units with time stamps, a keyframe when one was asked for."""

    def __init__(self, width: int = 160, height: int = 96, *, first_timestamp: int = 0) -> None:
        self.timestamp = first_timestamp
        self.keyframes_asked_for = 0
        self._wanted = False
        self._number = 0
        self.encoder = H264Encoder(width, height, bitrate=2_000_000, max_bitrate=4_000_000, threads=1)

    def ask(self) -> None:
        self.keyframes_asked_for += 1
        self._wanted = True

    def frame(self, ticks: int = 3000) -> AssembledFrame:
        self.timestamp += ticks
        rgba = picture(self._number, self.encoder.width, self.encoder.height)
        coded = self.encoder.encode(rgba, self.timestamp, keyframe=self._wanted)
        self._wanted = False
        self._number += 1
        return AssembledFrame(coded.data, self.timestamp, 0.0)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def decoded(frames: list[AssembledFrame]) -> list[NDArray[np.uint8]]:
    """What a device sees: the access units through a decoder."""
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    return [shown.to_ndarray() for frame in frames for shown in decoder.decode(av.Packet(frame.data))]


def read_back(path: Path) -> tuple[list[NDArray[np.uint8]], list[float], list[bool], float]:
    """A file's pictures, their times in seconds, which are keyframes, and how long the track is."""
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        keys = [bool(packet.is_keyframe) for packet in packets]
        end = max(float((packet.pts + packet.duration) * packet.time_base) for packet in packets)
    with av.open(str(path)) as container:
        shown = list(container.decode(video=0))
    return [one.to_ndarray() for one in shown], [float(one.time) for one in shown], keys, end


def recorder(source: Source, path: Path, clock: Clock | None = None, **options: Any) -> Recording:
    return Recording(
        path, request_keyframe=source.ask, on_stopped=lambda _: None, clock=clock or time.monotonic, **options
    )


async def test_a_recording_decodes_to_the_very_same_pictures_at_the_same_times(tmp_path: Path) -> None:
    clock, source = Clock(), Source()
    recording = recorder(source, tmp_path / "out.mp4", clock)
    assert source.keyframes_asked_for == 1
    frames = []
    # A still scene sends nothing for a second; frames come at an uneven pace.
    for ticks in (3000, 3000, 1500, 90_000, 4500, 3000, 45_000, 3000):
        clock.now += ticks / CLOCK_RATE_HZ
        frames.append(source.frame(ticks))
        recording.add(frames[-1])
    clock.now += 0.5
    (path,) = await recording.stop()
    pictures, times, keys, end = read_back(path)
    expected = decoded(frames)
    assert len(pictures) == len(expected) == 8
    for one, other in zip(pictures, expected, strict=True):
        assert np.array_equal(one, other)
    since_first = [(frame.timestamp - frames[0].timestamp) / CLOCK_RATE_HZ for frame in frames]
    assert times == pytest.approx(since_first, abs=1e-4)
    assert keys == [True] + [False] * 7
    assert end == pytest.approx(since_first[-1] + 0.5, abs=1e-3), "the last picture stays until the recording stopped"
    assert not list(tmp_path.glob("*.part"))


async def test_it_begins_at_a_keyframe_and_asks_again_until_one_comes(tmp_path: Path) -> None:
    clock, source = Clock(), Source()
    source.frame()  # the stream runs already, and its keyframe was before
    recording = recorder(source, tmp_path / "out.mp4", clock)
    source._wanted = False  # the request is lost
    for _ in range(40):
        clock.now += 1 / 30
        recording.add(source.frame())
        if source.keyframes_asked_for == 2:
            break
    assert source.keyframes_asked_for == 2
    kept = [source.frame() for _ in range(3)]
    assert is_keyframe(kept[0].data)
    for frame in kept:
        recording.add(frame)
    (path,) = await recording.stop()
    pictures, times, _, _ = read_back(path)
    assert np.array_equal(pictures[0], decoded(kept)[0])
    assert len(pictures) == 3
    assert times[0] == 0.0


async def test_keyframes_come_every_few_seconds_so_that_players_can_seek(tmp_path: Path) -> None:
    clock, source = Clock(), Source()
    recording = recorder(source, tmp_path / "out.mp4", clock, keyframe_seconds=1.0)
    for _ in range(100):
        clock.now += 1 / 30
        recording.add(source.frame())
    (path,) = await recording.stop()
    keys = read_back(path)[2]
    assert 3 <= sum(keys) <= 4


async def test_another_size_begins_another_file(tmp_path: Path) -> None:
    clock, small = Clock(), Source(160, 96)
    recording = recorder(small, tmp_path / "out.mp4", clock)
    for _ in range(5):
        clock.now += 1 / 30
        recording.add(small.frame())
    large = Source(320, 192, first_timestamp=small.timestamp)
    large.ask()
    for _ in range(4):
        clock.now += 1 / 30
        recording.add(large.frame())
    same = Source(320, 192, first_timestamp=large.timestamp)  # a new encoder of the same size goes on in the same file
    same.ask()
    for _ in range(3):
        clock.now += 1 / 30
        recording.add(same.frame())
    files = await recording.stop()
    assert [path.name for path in files] == ["out.mp4", "out-2.mp4"]
    first, second = read_back(files[0]), read_back(files[1])
    assert [one.shape for one in first[0]] == [(144, 160)] * 5
    assert [one.shape for one in second[0]] == [(288, 320)] * 7
    assert first[3] == pytest.approx(5 / 30, abs=1e-3), "its last picture is shown until the new size came"


async def test_a_stream_that_starts_over_after_a_loss_goes_on_in_real_time(tmp_path: Path) -> None:
    clock, before = Clock(), Source(first_timestamp=9_000_000)
    recording = recorder(before, tmp_path / "out.mp4", clock)
    for _ in range(3):
        clock.now += 1 / 30
        recording.add(before.frame())
    clock.now += 2.0
    after = Source(first_timestamp=0)
    after.ask()
    for _ in range(2):
        recording.add(after.frame())
        clock.now += 1 / 30
    (path,) = await recording.stop()
    times = read_back(path)[1]
    assert times == pytest.approx([0, 1 / 30, 2 / 30, 2 / 30 + 2.0, 3 / 30 + 2.0], abs=1e-3)


async def test_progress_counts_what_came(tmp_path: Path) -> None:
    seen: list[RecordingProgress] = []
    clock, source = Clock(), Source()
    recording = recorder(source, tmp_path / "out.mp4", clock, progress=seen.append)
    frames = []
    for _ in range(4):
        clock.now += 1 / 30
        frames.append(source.frame())
        recording.add(frames[-1])
    await recording.stop()
    assert seen[-1] == RecordingProgress(4, pytest.approx(3 / 30), sum(len(frame.data) for frame in frames))


async def test_nothing_is_written_when_no_keyframe_came(tmp_path: Path) -> None:
    source = Source()
    source.frame()
    recording = recorder(source, tmp_path / "out.mp4")
    source._wanted = False
    recording.add(source.frame())
    assert await recording.stop() == ()
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_cannot_be_written_is_told_by_wait_and_stop(tmp_path: Path) -> None:
    source = Source()
    (tmp_path / "out.mp4.part").mkdir()  # what cannot be opened for writing
    recording = recorder(source, tmp_path / "out.mp4")
    recording.add(source.frame())
    with pytest.raises(LocalFileError, match=r"cannot be written to .*out\.mp4"):
        await recording.wait(30)
    recording.add(source.frame())
    with pytest.raises(LocalFileError):
        await recording.stop()


async def test_wait_comes_back_when_the_connection_ends(tmp_path: Path) -> None:
    source = Source()
    recording = recorder(source, tmp_path / "out.mp4")
    recording.add(source.frame())
    waiting = asyncio.create_task(recording.wait(600))
    await asyncio.sleep(0)
    recording.connection_ended()
    await asyncio.wait_for(waiting, 60)
    assert [path.name for path in await recording.stop()] == ["out.mp4"]


async def test_names_are_checked_before_anything_begins(tmp_path: Path) -> None:
    options: dict[str, Any] = {"request_keyframe": lambda: None, "on_stopped": lambda _: None}
    with pytest.raises(ValueError, match=r"\.mp4"):
        start_recording(tmp_path / "out.mkv", **options)
    with pytest.raises(LocalFileError, match="does not exist"):
        start_recording(tmp_path / "nowhere" / "out.mp4", **options)
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(LocalFileError, match="exists already"):
        start_recording(tmp_path / "out.mp4", **options)
    source = Source()
    recording = start_recording(
        tmp_path / "out.mp4", request_keyframe=source.ask, on_stopped=lambda _: None, overwrite=True
    )
    recording.add(source.frame())
    assert (tmp_path / "out.mp4").read_text() == "precious", "the old file stays until the new one is whole"
    await recording.stop()
    assert len(read_back(tmp_path / "out.mp4")[0]) == 1


async def test_a_second_file_does_not_overwrite_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "out-2.mp4").write_text("precious")
    small, large = Source(160, 96), Source(320, 192, first_timestamp=3000)
    recording = recorder(small, tmp_path / "out.mp4")
    recording.add(small.frame())
    large.ask()
    recording.add(large.frame())
    assert [path.name for path in await recording.stop()] == ["out.mp4", "out-3.mp4"]
    assert (tmp_path / "out-2.mp4").read_text() == "precious"


def test_what_is_no_keyframe_has_no_size() -> None:
    with pytest.raises(ValueError, match="keyframe"):
        picture_size(b"\x00\x00\x01\x65" + bytes(40))


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.client.test_recording import Source, recorder

async def main():
    source = Source()
    recording = recorder(source, Path(sys.argv[1]))
    number = 0
    while True:
        number += 1
        recording.add(source.frame(9000))
        if number == 60:
            print("far enough", flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_after_a_kill_the_partial_file_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, path],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"far enough"
        # The writing thread may be behind: until two of the six seconds are in the file.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (tmp_path / "out.mp4.part").stat().st_size < 2000:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not path.exists(), "what is not whole has not the final name"
    pictures, times, _, _ = read_back(tmp_path / "out.mp4.part")
    assert len(pictures) >= 10
    assert times == pytest.approx([number * 0.1 for number in range(len(times))], abs=1e-3)
