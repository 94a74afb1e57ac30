"""The frame ledger: what each frame showed and how long each step took, kept for a while and told to who listens."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from farframe.protocol.records import FrameFlags, FrameRecord

KEPT_FRAMES = 600
"""Ten seconds at 60 frames per second: what an inspector sees when it opens."""

LISTENER_BACKLOG = 256
"""Entries that a slow listener may lag behind before it loses the oldest."""


class LedgerEntry(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One frame for the inspector. Times as in :class:`FrameRecord`, microseconds."""

    frame_id: int
    rtp_timestamp: int
    pose_id: int
    client_time_us: int = msgspec.field(name="clientTimeMicroseconds")
    pose_received_us: int = msgspec.field(name="poseReceivedMicroseconds")
    draw_start_us: int = msgspec.field(name="drawStartMicroseconds")
    draw_end_us: int = msgspec.field(name="drawEndMicroseconds")
    read_back_us: int = msgspec.field(name="readBackMicroseconds")
    encode_start_us: int = msgspec.field(name="encodeStartMicroseconds")
    encode_end_us: int = msgspec.field(name="encodeEndMicroseconds")
    sent_us: int = msgspec.field(name="sentMicroseconds")
    server_time_us: int = msgspec.field(name="serverTimeMicroseconds")
    encoded_bytes: int
    width: int
    height: int
    drawn_width: int
    drawn_height: int
    samples: int
    reduced_parts: int
    triangles: int
    draws: int
    keyframe: bool
    still: bool
    keep_alive: bool


def entry_of(record: FrameRecord, server_time_us: int) -> LedgerEntry:
    """The inspector's form of a frame record."""
    return LedgerEntry(
        frame_id=record.frame_id,
        rtp_timestamp=record.rtp_timestamp,
        pose_id=record.pose_id,
        client_time_us=record.client_time_us,
        pose_received_us=record.pose_received_us,
        draw_start_us=record.draw_start_us,
        draw_end_us=record.draw_end_us,
        read_back_us=record.read_back_us,
        encode_start_us=record.encode_start_us,
        encode_end_us=record.encode_end_us,
        sent_us=record.sent_us,
        server_time_us=server_time_us,
        encoded_bytes=record.encoded_bytes,
        width=record.width,
        height=record.height,
        drawn_width=record.drawn_width,
        drawn_height=record.drawn_height,
        samples=record.samples,
        reduced_parts=record.reduced_parts,
        triangles=record.triangles,
        draws=record.draws,
        keyframe=FrameFlags.KEYFRAME in record.flags,
        still=FrameFlags.STILL in record.flags,
        keep_alive=FrameFlags.KEEP_ALIVE in record.flags,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """The last second of frames; times in milliseconds, medians, 0 without frames."""

    frames_per_second: float
    bitrate: int
    draw_ms: float
    read_back_ms: float
    encode_ms: float
    last: LedgerEntry | None


T = TypeVar("T")


class Feed(Generic[T]):
    """A ring of the latest entries and any number of listeners, for use in one event loop."""

    def __init__(self, kept: int) -> None:
        self._entries: deque[T] = deque(maxlen=kept)
        self._listeners: set[asyncio.Queue[T]] = set()

    def add(self, entry: T) -> None:
        """Keep an entry and tell it to all listeners; one that lags loses its oldest."""
        self._entries.append(entry)
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(entry)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._entries))

    async def listen(self) -> AsyncIterator[T]:
        """All kept entries, then each new one as it comes; never ends by itself."""
        queue: asyncio.Queue[T] = asyncio.Queue(LISTENER_BACKLOG)
        kept = tuple(self._entries)
        self._listeners.add(queue)
        try:
            for entry in kept:
                yield entry
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)


class Ledger:
    """The frames of this server. Lives in the event loop; the clock gives microseconds."""

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self.feed: Feed[LedgerEntry] = Feed(KEPT_FRAMES)
        self.keyframes = 0

    def add(self, record: FrameRecord) -> None:
        """Note a frame that was sent."""
        if FrameFlags.KEYFRAME in record.flags:
            self.keyframes += 1
        self.feed.add(entry_of(record, self._clock_us()))

    def summary(self) -> Summary:
        """What the last second was like."""
        since = self._clock_us() - 1_000_000
        kept = list(self.feed)
        recent = [entry for entry in kept if entry.server_time_us >= since]
        drawn = [entry for entry in recent if not entry.keep_alive]

        def median_ms(values: list[int]) -> float:
            return statistics.median(values) / 1000 if values else 0.0

        return Summary(
            frames_per_second=float(len(recent)),
            bitrate=sum(entry.encoded_bytes for entry in recent) * 8,
            draw_ms=median_ms([entry.draw_end_us - entry.draw_start_us for entry in drawn]),
            read_back_ms=median_ms([entry.read_back_us - entry.draw_end_us for entry in drawn]),
            encode_ms=median_ms([entry.encode_end_us - entry.encode_start_us for entry in recent]),
            last=kept[-1] if kept else None,
        )
