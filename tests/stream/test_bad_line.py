"""Over a line that loses, delays and is too narrow the stream goes on. Seeded; judged is progress, not speed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from farframe.stream.receiver import DecodedFrame

Connect = Callable[..., Awaitable[Any]]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.mark.slow
async def test_a_line_far_too_narrow_lowers_the_rate_and_frames_go_on(connect: Connect, make_line: Any) -> None:
    frames: list[DecodedFrame] = []
    line = make_line(bits_per_second=1_500_000, seed=4)
    pair = await connect(on_frame=frames.append, line=line)
    pair.encoder.set_bitrate(4_000_000)

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            pair.encoder.set_bitrate(min(pair.device.target_bitrate, 4_000_000))
            await pair.send(1, interval=1 / 30)

    await asyncio.wait_for(until(lambda: pair.device.target_bitrate < 1_500_000), 60)
    adapted = len(frames)
    await asyncio.wait_for(until(lambda: len(frames) >= adapted + 90), 60)
    assert line.dropped > 0, "the line must have been too narrow to test anything"
    assert pair.handler.bitrates
    assert pair.device.statistics.packets_retransmitted < 0.3 * pair.device.statistics.packets_sent
    stamps = [frame.rtp_timestamp for frame in frames]
    assert stamps == sorted(stamps)


@pytest.mark.slow
async def test_a_lossy_line_with_a_round_trip_loses_no_frame(
    connect: Connect, eventually: Eventually, make_line: Any
) -> None:
    frames: list[DecodedFrame] = []
    pair = await connect(on_frame=frames.append, line=make_line(loss=0.03, delay_seconds=0.02, seed=9))
    pair.encoder.set_bitrate(1_000_000)
    await pair.send(1)
    await eventually(lambda: len(frames) == 1)
    await pair.send(90, interval=1 / 30)

    async def rest() -> None:
        while frames[-1].rtp_timestamp < pair.sent[90]:
            await pair.send(1, interval=1 / 30)

    await asyncio.wait_for(rest(), 60)
    arrived = [frame.rtp_timestamp for frame in frames if frame.rtp_timestamp <= pair.sent[90]]
    assert len(arrived) >= 85, "retransmission must make nearly everything good"
    assert arrived == sorted(arrived)
    assert pair.device.statistics.packets_retransmitted > 0
