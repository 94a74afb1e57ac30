"""The frame ledger: what each frame showed and how long each step took, kept for a while and told to who listens.

A frame's entry is made when it is sent. What became of it on the device comes later, in the device's reports, which may
be lost, come twice, or be made up: they add to the entry of a frame that was sent, once, within bounds, and to nothing
else. Times of a report are put on the server's clock with the offset that it carries.

    stage       from                                     to
    input       the pose was taken on the device         it arrived
    wait        the pose arrived                         drawing began
    draw                                                 drawn
    read_back                                            in the server's memory
    queue                                                encoding began
    encode      conversion included                      encoded
    send                                                 handed to the network
    network                                              its last packet arrived
    decode      waiting for the decoder included         decoded
    show                                                 shown
    total       the pose was taken                       shown, or decoded where that is all that is known

Only the first frame of a pose counts for the stages; keep-alives and still pictures wait for other things than poses.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import numpy as np

from farframe.protocol.records import FrameFlags, FrameRecord, FrameReport, ReportedFrame
from farframe.server.performance import ProcessMeter

KEPT_FRAMES = 600
"""Ten seconds at 60 frames per second: what an inspector sees when it opens."""

LISTENER_BACKLOG = 256
"""Entries that a slow listener may lag behind before it loses the oldest."""


if TYPE_CHECKING:
    from farframe.stream.hardware import EncoderChoice

STAGES = ("input", "wait", "draw", "read_back", "queue", "encode", "send", "network", "decode", "show", "total")
"""See this module's docstring."""

WIRE_STAGES = {stage: "readBack" if stage == "read_back" else stage for stage in STAGES}
"""Their names in messages."""

STAGE_FRAMES = 600
"""Percentiles are over so many of the latest frames at most, and over those of :data:`STAGE_SECONDS`."""
STAGE_SECONDS = 10.0

OPEN_FRAMES = 600
MISSING_AFTER_SECONDS = 3.0
"""A frame that no report has mentioned for so long, while later ones were, never arrived."""

DELAY_SMOOTHING = 0.1

MAX_STAGE_SECONDS = 10.0
"""A report that makes a stage longer than this is not believed."""


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
    over_limit: bool = False


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
        over_limit=FrameFlags.OVER_LIMIT in record.flags,
    )


class DeviceEntry(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What became of a frame on the device, for the inspector: microseconds since its pose arrived, on the server's
    clock; absent where it did not happen or is not known. ``missing``: it never arrived."""

    frame_id: int
    received_us: int | None = msgspec.field(name="receivedMicroseconds", default=None)
    decoded_us: int | None = msgspec.field(name="decodedMicroseconds", default=None)
    shown_us: int | None = msgspec.field(name="shownMicroseconds", default=None)
    missing: bool = False


def server_stages(entry: LedgerEntry) -> dict[str, float]:
    """Milliseconds of the stages that the server knows by itself."""
    steps = (
        ("wait", 0, entry.draw_start_us),
        ("draw", entry.draw_start_us, entry.draw_end_us),
        ("read_back", entry.draw_end_us, entry.read_back_us),
        ("queue", entry.read_back_us, entry.encode_start_us),
        ("encode", entry.encode_start_us, entry.encode_end_us),
        ("send", entry.encode_end_us, entry.sent_us),
    )
    return {stage: max(0, end - start) / 1000 for stage, start, end in steps}


def device_stages(entry: LedgerEntry, reported: ReportedFrame, times: DeviceEntry) -> dict[str, float]:
    """Milliseconds of the stages that need the device's report.

    ``input`` and ``network`` compare two clocks and carry their misalignment with opposite signs: where one would be
    negative it becomes 0 and the other takes it, so that the sum holds. ``total`` needs the device's clock alone.
    """
    stages: dict[str, float] = {}
    offset_us = (
        0
        if times.received_us is None or reported.received_us is None
        else (entry.pose_received_us + times.received_us - reported.received_us)
    )
    if times.received_us is not None:
        path = float(times.received_us - entry.sent_us)
        pose = float(entry.pose_received_us - (entry.client_time_us + offset_us))
        if pose < 0:
            path, pose = max(0.0, path + pose), 0.0
        elif path < 0:
            path, pose = 0.0, max(0.0, pose + path)
        stages["input"], stages["network"] = pose / 1000, path / 1000
        if times.decoded_us is not None:
            stages["decode"] = max(0, times.decoded_us - times.received_us) / 1000
    if times.shown_us is not None and times.decoded_us is not None:
        stages["show"] = max(0, times.shown_us - times.decoded_us) / 1000
    seen = reported.shown_us if times.shown_us is not None else reported.decoded_us
    if seen is not None and 0 <= seen - entry.client_time_us <= MAX_STAGE_SECONDS * 1e6:
        stages["total"] = (seen - entry.client_time_us) / 1000
    return stages


def _device_times(entry: LedgerEntry, reported: ReportedFrame, offset_us: int, now_us: int) -> DeviceEntry | None:
    """A report's times relative to the pose's arrival; ``None`` if they cannot be true.

    They must lie in order, not much before the frame was sent, and not after now, give or take the clocks' error.
    """
    slack_us = 1_000_000
    earliest = entry.pose_received_us + entry.sent_us - slack_us
    relative: list[int | None] = []
    for at_us in (reported.received_us, reported.decoded_us, reported.shown_us):
        if at_us is None:
            relative.append(None)
            continue
        server_us = at_us + offset_us
        if not earliest <= server_us <= now_us + slack_us:
            return None
        earliest = server_us
        relative.append(server_us - entry.pose_received_us)
    received_us, decoded_us, shown_us = relative
    if received_us is None and decoded_us is None and shown_us is None:
        return None
    return DeviceEntry(frame_id=entry.frame_id, received_us=received_us, decoded_us=decoded_us, shown_us=shown_us)


def _smoothed(known: float | None, newest: float) -> float:
    return newest if known is None else known + DELAY_SMOOTHING * (newest - known)


def _is_newer(one: int, other: int) -> bool:
    """Whether a frame id comes after another, both modulo 2^32."""
    return 0 < (one - other) % 2**32 < 2**31


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one stage, in milliseconds, over ``count`` frames."""

    p50: float
    p95: float
    p99: float
    count: int


@dataclass(slots=True)
class _Open:
    """A frame that was sent and of which the device has not said everything yet."""

    entry: LedgerEntry
    stages: dict[str, float] | None
    """Its milliseconds by stage, if it is the first frame of a pose."""
    reported: bool = False
    known: ReportedFrame | None = None


@dataclass(slots=True)
class _Stages:
    """The stages of the latest frames: when each was sent, and milliseconds by stage."""

    samples: deque[tuple[int, dict[str, float]]] = field(default_factory=lambda: deque(maxlen=STAGE_FRAMES))

    def percentiles(self, since_us: int) -> dict[str, Percentiles]:
        """Of all stages of which something is known."""
        found: dict[str, Percentiles] = {}
        recent = [stages for at_us, stages in self.samples if at_us >= since_us]
        for stage in STAGES:
            values = [stages[stage] for stages in recent if stage in stages]
            if values:
                middle, high, highest = np.percentile(values, (50, 95, 99))
                found[stage] = Percentiles(
                    round(float(middle), 2), round(float(high), 2), round(float(highest), 2), len(values)
                )
        return found


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
        self.feed: Feed[LedgerEntry | DeviceEntry] = Feed(2 * KEPT_FRAMES)
        self.keyframes = 0
        self.process = ProcessMeter()
        """Processor time, by frames."""
        self.encoders: EncoderChoice | None = None
        """Which encoder the frames come from, and why."""
        self.begin_device()

    def begin_device(self) -> None:
        """Another device is there: what the one before it did says nothing about it."""
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._stages = _Stages()
        self._last_pose: int | None = None
        self._newest_reported: int | None = None
        self.frames_missing = 0
        """Frames that were sent to this device and never arrived there."""
        self.frames_arrived = 0
        """Frames of which this device has said that they were decoded, or shown."""
        self.round_trip_us: int | None = None
        """The shortest round trip that the device has measured lately."""
        self.display_delay_us: float | None = None
        """Smoothed time from when a frame's drawing began until it was shown, on this device."""
        self.input_delay_us: float | None = None
        """Smoothed time that a pose takes from this device to here."""

    def add(self, record: FrameRecord) -> None:
        """Note a frame that was sent."""
        self.process.frame()
        if FrameFlags.KEYFRAME in record.flags:
            self.keyframes += 1
        entry = entry_of(record, self._clock_us())
        fresh = not record.flags & (FrameFlags.STILL | FrameFlags.KEEP_ALIVE)
        counts = fresh and record.client_time_us > 0 and record.pose_id != self._last_pose
        self._last_pose = record.pose_id
        stages = server_stages(entry) if counts else None
        self._open[entry.rtp_timestamp] = _Open(entry, stages)
        if len(self._open) > OPEN_FRAMES:
            self._settle(self._open.popitem(last=False)[1])
        if stages is not None:
            self._stages.samples.append((entry.server_time_us, stages))
        self.feed.add(entry)

    def report(self, report: FrameReport) -> None:
        """Take a device's word about frames that it got. What is impossible is left out without a word."""
        now_us = self._clock_us()
        offset_us = report.clock_offset_us
        if offset_us is not None:
            self.round_trip_us = report.round_trip_us
        for reported in report.frames:
            sent = self._open.get(reported.rtp_timestamp)
            if sent is None or sent.known == reported:
                continue
            first = sent.known is None
            sent.known, sent.reported = reported, True
            entry = sent.entry
            if self._newest_reported is None or _is_newer(entry.frame_id, self._newest_reported):
                self._newest_reported = entry.frame_id
            arrived = reported.received_us is not None or reported.decoded_us is not None
            self.frames_arrived += first and arrived
            if offset_us is None:
                continue
            times = _device_times(entry, reported, offset_us, now_us)
            if times is None:
                continue
            self.feed.add(times)
            self._learn_delays(entry, times, offset_us)
            if sent.stages is not None:
                sent.stages |= device_stages(entry, reported, times)
        self._find_missing(now_us)

    def _learn_delays(self, entry: LedgerEntry, times: DeviceEntry, offset_us: int) -> None:
        """How old poses are when they come, and how long after drawing began frames are seen: see ``prediction``."""
        seen = times.shown_us if times.shown_us is not None else times.decoded_us
        if seen is None or entry.still or entry.keep_alive:
            return
        self.display_delay_us = _smoothed(self.display_delay_us, float(seen - entry.draw_start_us))
        taken = float(entry.pose_received_us - entry.client_time_us - offset_us)
        if entry.client_time_us > 0 and taken <= MAX_STAGE_SECONDS * 1e6:
            self.input_delay_us = _smoothed(self.input_delay_us, max(0.0, taken))

    def _find_missing(self, now_us: int) -> None:
        """Close the books on frames that are old enough; a report may be lost, but its frames come in the next, too."""
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.entry.server_time_us > now_us - MISSING_AFTER_SECONDS * 1e6:
                return
            self._open.popitem(last=False)
            self._settle(oldest)

    def _settle(self, sent: _Open) -> None:
        newest = self._newest_reported
        if not sent.reported and newest is not None and _is_newer(newest, sent.entry.frame_id):
            self.frames_missing += 1
            self.feed.add(DeviceEntry(frame_id=sent.entry.frame_id, missing=True))

    def stages(self) -> dict[str, Percentiles]:
        """Percentiles by stage over the frames of the last seconds that were the first of their pose."""
        return self._stages.percentiles(self._clock_us() - int(STAGE_SECONDS * 1e6))

    def summary(self) -> Summary:
        """What the last second was like."""
        since = self._clock_us() - 1_000_000
        kept = [entry for entry in self.feed if isinstance(entry, LedgerEntry)]
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
