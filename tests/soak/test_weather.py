"""A device at work under weather that changes for minutes: the stream goes on, and nothing grows in server or client.

Twenty minutes under ``./dev soak``; half a minute of the same in each run of the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.network_proxy import Condition
from farframe.client import RemoteRenderingClient
from farframe.client._media import MediaTransport
from farframe.client.errors import FarframeClientError
from farframe.client.runtime import RuntimeConnection, open_connection
from tests.end_to_end.harness import start_service

SEED = int(os.environ.get("FARFRAME_WEATHER_SEED", "6"))
FULL_SECONDS, SAMPLE_SECONDS = 1200.0, 25.0
POSES_PER_SECOND = 30
SIZES = ((640, 360), (960, 540), (1280, 720))
OUTAGE_SECONDS = 2.0

HOOK = Path(__file__).parent / "task_hook"
"""Makes a render server count its tasks."""

MAX_GROWTH = 0.10
MAX_GROWTH_BYTES = 24 << 20
"""What memory may grow by between the second and the last quarter: allocators keep a little."""


def weather(seed: int, seconds: float) -> list[Condition]:
    """Spells of two to twelve seconds, a third of them fair."""
    choose = random.Random(seed)
    spells, at = [], 0.0
    while at < seconds:
        kind = choose.random()
        if kind < 0.33:
            spells.append(Condition(at, delay_seconds=choose.uniform(0, 0.02)))
        elif kind < 0.42:
            spells.append(Condition(at, down=True))
            at += choose.uniform(0.3, OUTAGE_SECONDS)
            continue
        else:
            spells.append(
                Condition(
                    at,
                    loss=choose.choice([0, 0.01, 0.03, 0.08]),
                    burst=choose.choice([1, 1, 3, 8]),
                    delay_seconds=choose.uniform(0, 0.12),
                    jitter_seconds=choose.choice([0, 0.002, 0.01]),
                    bits_per_second=choose.choice([0, 0, 800_000, 1_500_000, 4_000_000, 20_000_000]),
                    queue_seconds=choose.choice([0.05, 0.2, 0.5]),
                )
            )
        at += choose.uniform(2, 12)
    spells.append(Condition(seconds))
    return spells


class Line:
    """The proxy in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[Line]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.network_proxy",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def ask(self, wish: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")
        await self._process.stdin.drain()
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer


def through(line: Line, spells: list[Condition]) -> type[MediaTransport]:
    """A transport whose packets take the line."""

    class LineTransport(MediaTransport):
        async def create_offer(self) -> str:
            return re.sub(r"(?m)^a=candidate:.*\r?\n", "", await super().create_offer())

        async def accept_answer(self, answer_sdp: str) -> None:
            match = re.search(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", answer_sdp)
            assert match, answer_sdp
            wish = {"server": [match[1], int(match[2])], "weather": [asdict(spell) for spell in spells], "seed": SEED}
            port = (await line.ask(wish))["port"]
            await super().accept_answer(answer_sdp.replace(f" {match[1]} {match[2]} ", f" 127.0.0.1 {port} "))

    return LineTransport


@dataclass
class Measured:
    """What may grow, at one moment."""

    at: float
    server_memory: int
    server_files: int
    server_threads: int
    server_tasks: int
    client_memory: int
    client_files: int
    client_threads: int
    client_tasks: int
    frames: int


def private_memory(process: psutil.Process) -> int:
    """Anonymous memory, bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def measure(begin: float, server: psutil.Process, tasks: Path, frames: int) -> Measured:
    gc.collect()
    own = psutil.Process()
    return Measured(
        time.monotonic() - begin,
        private_memory(server),
        server.num_fds(),
        server.num_threads(),
        int((tasks / str(server.pid)).read_text()),
        private_memory(own),
        own.num_fds(),
        own.num_threads(),
        len(asyncio.all_tasks()),
        frames,
    )


async def work(connection: RuntimeConnection, choose: random.Random) -> None:
    """What a user does: turn the camera nearly always, stop now and then, change the window's size."""
    angle = 0.0
    while True:
        if choose.random() < 0.2:
            await asyncio.sleep(choose.uniform(0.2, 2.0))
        elif choose.random() < 0.1:
            width, height = choose.choice(SIZES)
            with contextlib.suppress(FarframeClientError):  # the answer may be lost in an outage
                await connection.configure_video(width=width, height=height)
        for _ in range(choose.randrange(20, 120)):
            angle += 1.5
            with contextlib.suppress(FarframeClientError):
                connection.look_at_model(azimuth_degrees=angle)
            await asyncio.sleep(1 / POSES_PER_SECOND)


async def soak(tmp_path: Path, seconds: float) -> list[Measured]:
    """A device for so long; what was measured, ten times a sample or every ten seconds."""
    choose = random.Random(SEED)
    samples: list[Measured] = []
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    path = os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])])
    service = start_service(tmp_path / "data", settings={"PYTHONPATH": path, "SOAK_TASKS": str(tasks)})
    frames = 0
    try:
        async with (
            RemoteRenderingClient.from_connection_file(service.connection_path) as client,
            client.leased(lease_minutes=60) as session,
            Line.open() as line,
        ):
            connection = await open_connection(
                session,
                width=960,
                height=540,
                relayed="auto",
                max_frames_per_second=30,
                timeout=60,
                way="webrtc",
                make_transport=through(line, weather(SEED, seconds)),
            )
            try:
                await connection.load_model("builtin://Engine")
                server = service.server_of(session.properties.handshake_port)
                await line.ask({"begin": True})

                async def count() -> None:
                    nonlocal frames
                    async for _ in connection.frames():
                        frames += 1

                begin = time.monotonic()
                working = asyncio.create_task(work(connection, choose))
                counting = asyncio.create_task(count())
                while (now := time.monotonic() - begin) < seconds:
                    await asyncio.sleep(min(max(seconds / 120, 1.0), seconds - now))
                    assert connection.ended is None, connection.ended
                    samples.append(measure(begin, server, tasks, frames))
                working.cancel()
                await asyncio.wait([working])
                # The weather is over: all of it comes, in full quality.
                while True:
                    with contextlib.suppress(FarframeClientError):
                        still = await connection.wait_for_still(60)
                        break
                assert (still.width, still.height) == (connection.video.width, connection.video.height)
                counts = await line.ask({"count": True})
                assert counts["lost"] + counts["overflowed"] > 0, "the weather must have been bad to test anything"
                print(f"seed {SEED}: {frames} frames in {seconds:g} s, {counts}")
                counting.cancel()
                await asyncio.wait([counting])
            finally:
                await connection.close()
        after = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not after, after
    finally:
        service.stop()
    return samples


def grown(samples: list[Measured], name: str) -> tuple[float, float]:
    """Medians of the second and of the last quarter."""
    quarter = len(samples) // 4
    early = [getattr(sample, name) for sample in samples[quarter : 2 * quarter]]
    late = [getattr(sample, name) for sample in samples[-quarter:]]
    return statistics.median(early), statistics.median(late)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_half_a_minute_of_weather_is_lived_through(tmp_path: Path) -> None:
    samples = await soak(tmp_path, SAMPLE_SECONDS)
    assert samples[-1].frames > 30
    for name in ("server_files", "client_files", "server_threads", "client_threads"):
        early, late = grown(samples, name)
        assert late <= early + 3, name
    for name in ("server_tasks", "client_tasks"):
        early, late = grown(samples, name)
        assert early > 0
        assert late <= early + 2, name


@pytest.mark.soak
@pytest.mark.timeout(FULL_SECONDS + 900)
async def test_twenty_minutes_of_weather_leave_nothing_behind(tmp_path: Path) -> None:
    samples = await soak(tmp_path, float(os.environ.get("FARFRAME_WEATHER_SECONDS", FULL_SECONDS)))
    report = os.environ.get("FARFRAME_WEATHER_REPORT")
    if report:
        Path(report).write_text(json.dumps([asdict(sample) for sample in samples]) + "\n")
    for name in ("server_files", "client_files", "server_threads", "client_threads", "server_tasks", "client_tasks"):
        early, late = grown(samples, name)
        assert late <= early + 2, f"{name}: {early} -> {late}"
    for name in ("server_memory", "client_memory"):
        early, late = grown(samples, name)
        assert late - early <= max(MAX_GROWTH * early, MAX_GROWTH_BYTES), f"{name}: {early / 1e6} -> {late / 1e6} MB"
    # No minute without pictures.
    per_minute = [sample.frames for sample in samples][:: max(1, len(samples) // max(1, int(samples[-1].at / 60)))]
    assert all(later > earlier for earlier, later in itertools.pairwise(per_minute))
