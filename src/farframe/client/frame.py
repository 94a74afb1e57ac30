"""Frames as a program sees them: pixels, what they show, and how long each step took."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farframe.client._clock import ClockAlignment
from farframe.client.errors import RuntimeConnectionError
from farframe.protocol.records import FrameFlags, FrameRecord, View

if TYPE_CHECKING:
    import av

MAX_PENDING_PICTURES = 8
"""Pictures kept while their record has not come. A record leaves with its picture, so that few ever wait."""

MAX_KEPT_RECORDS = 256
VIEW_TOLERANCE = 1e-5
"""Views travel as 32-bit floats and are normalised on both sides: equal ones may differ by this much, relatively."""


@dataclass(frozen=True, slots=True)
class FrameTimings:
    """How long a frame took, step by step, in milliseconds, in the order of the steps.

    ``pose_transit`` (pose sent to pose received) and ``network`` (frame sent to frame received) compare two clocks and
    are ``None`` while these are not aligned; ``total``, from the pose to the decoded frame, uses this device's clock
    alone and is ``None`` before the device has sent a pose.
    """

    pose_transit: float | None
    wait: float
    """From the pose's arrival until drawing began."""
    draw: float
    read_back: float
    """From drawn to in the server's memory."""
    queue: float
    """From there until encoding began."""
    encode: float
    send: float
    """From encoded to handed to the network."""
    network: float | None
    decode: float
    total: float | None


class Frame:
    """One decoded frame.

    ``record`` is what the server said about it (``None`` if that was lost), ``received_us`` and ``decoded_us`` are
    this device's monotonic clock in microseconds: the frame's last packet came, the picture was ready.
    """

    def __init__(
        self,
        video_frame: av.VideoFrame,
        record: FrameRecord | None,
        *,
        received_us: int,
        decoded_us: int,
        timings: FrameTimings | None,
        is_still: bool,
    ) -> None:
        self.video_frame = video_frame
        self.record = record
        self.received_us = received_us
        self.decoded_us = decoded_us
        self.timings = timings
        self.is_still = is_still
        """Whether the picture has full quality: nothing has moved for a while."""

    def __repr__(self) -> str:
        return f"Frame({self.width}x{self.height}, pose_id={self.pose_id}, flags={self.flags!r})"

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.video_frame.width)

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.video_frame.height)

    @property
    def pose_id(self) -> int | None:
        """Id of the pose that the frame was drawn for, as :meth:`RuntimeConnection.set_pose` returned it.

        0 before the first pose, ``None`` without a record.
        """
        return None if self.record is None else self.record.pose_id

    @property
    def flags(self) -> FrameFlags:
        """What kind of frame the server says it is."""
        return FrameFlags.NONE if self.record is None else self.record.flags

    @property
    def views(self) -> tuple[View, ...]:
        """The views as drawn; empty without a record."""
        return () if self.record is None else self.record.views

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The pixels as (height, width, 3) uint8 sRGB, row 0 at the top. Converted on first use, then kept."""
        from av.video.reformatter import Interpolation

        # The protocol fixes BT.709, limited range; said here so that an untagged stream looks the same.
        converted: Any = self.video_frame.reformat(
            format="rgb24",
            src_colorspace="ITU709",
            dst_colorspace="ITU709",
            src_color_range="MPEG",
            dst_color_range="JPEG",
            # The quick way cuts off instead of rounding and is a level too dark: 1.3 instead of 4.5 ms at 1280x720.
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
        )
        image: NDArray[np.uint8] = converted.to_ndarray()
        return image

    @property
    def planes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """The decoder's own luma and chroma, without a copy: Y (height, width), U and V of half that, uint8, BT.709
        limited range, read-only. They stay valid as long as they, or the frame, are kept."""
        views = []
        for plane in self.video_frame.planes[:3]:
            # numpy keeps the plane, the plane its frame, and the frame its memory; rows are padded.
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            rows.flags.writeable = False
            views.append(rows)
        return views[0], views[1], views[2]


def timings_of(record: FrameRecord, clock: ClockAlignment, received_us: int, decoded_us: int) -> FrameTimings:
    """The steps of a frame's way in milliseconds."""
    pose_received = clock.to_device(record.pose_received_us)
    sent = clock.to_device(record.pose_received_us + record.sent_us)
    posed = record.client_time_us > 0

    def step(start_us: int, end_us: int) -> float:
        return (end_us - start_us) / 1000

    return FrameTimings(
        pose_transit=step(record.client_time_us, pose_received) if posed and pose_received is not None else None,
        wait=step(0, record.draw_start_us),
        draw=step(record.draw_start_us, record.draw_end_us),
        read_back=step(record.draw_end_us, record.read_back_us),
        queue=step(record.read_back_us, record.encode_start_us),
        encode=step(record.encode_start_us, record.encode_end_us),
        send=step(record.encode_end_us, record.sent_us),
        network=None if sent is None else step(sent, received_us),
        decode=step(received_us, decoded_us),
        total=step(record.client_time_us, decoded_us) if posed else None,
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture before it is known what it shows. Times in microseconds of this device's clock."""

    video_frame: av.VideoFrame
    rtp_timestamp: int
    received_us: int
    decoded_us: int


class Matcher:
    """Brings pictures and records together by RTP timestamp, in the pictures' order.

    Either may come first. A picture waits for its record until a later picture is complete or too many wait; then it
    goes out without.
    """

    def __init__(self) -> None:
        self._pictures: deque[Picture] = deque()
        self._records: dict[int, FrameRecord] = {}
        self.unmatched = 0
        """Pictures that went out without a record."""

    def add_record(self, record: FrameRecord) -> list[tuple[Picture, FrameRecord | None]]:
        """Note a record; returns the pictures that are now complete."""
        self._records.pop(record.rtp_timestamp, None)
        self._records[record.rtp_timestamp] = record
        while len(self._records) > MAX_KEPT_RECORDS:
            self._records.pop(next(iter(self._records)))
        return self._complete()

    def add_picture(self, picture: Picture) -> list[tuple[Picture, FrameRecord | None]]:
        """Note a picture; returns the pictures that are now complete."""
        self._pictures.append(picture)
        return self._complete()

    def _complete(self) -> list[tuple[Picture, FrameRecord | None]]:
        known = [index for index, picture in enumerate(self._pictures) if picture.rtp_timestamp in self._records]
        count = known[-1] + 1 if known else 0
        count = max(count, len(self._pictures) - MAX_PENDING_PICTURES)
        complete = []
        for _ in range(count):
            picture = self._pictures.popleft()
            record = self._records.pop(picture.rtp_timestamp, None)
            self.unmatched += record is None
            complete.append((picture, record))
        return complete


def same_views(some: tuple[View, ...], others: tuple[View, ...], *, clip: bool = True) -> bool:
    """Whether two poses are the same but for how numbers travel; ``clip``: in their clip distances, too."""
    if not clip:
        some, others = (tuple(replace(view, near=0.0, far=0.0) for view in views) for views in (some, others))
    if len(some) != len(others):
        return False
    return all(
        np.allclose(_numbers(one), _numbers(other), rtol=VIEW_TOLERANCE, atol=VIEW_TOLERANCE)
        for one, other in zip(some, others, strict=True)
    )


def _numbers(view: View) -> list[float]:
    fov = view.fov
    return [
        *view.position,
        *view.orientation,
        fov.left,
        fov.right,
        fov.up,
        fov.down,
        view.near,
        view.far,
        view.orthographic,
    ]


class StillTracker:
    """Knows whether the newest picture is the full-quality one of the newest pose and scene.

    A server draws the still picture once, then repeats it as keep-alive frames until something changes: a still frame
    stays valid as long as only keep-alives follow it, and each keep-alive confirms it for a later moment. Scene changes
    count from when the server answered them, by its own clock.
    """

    def __init__(self) -> None:
        self.still = False
        """Whether the newest frame has full quality."""
        self._views: tuple[View, ...] = ()
        self._pose_id = 0
        self._confirmed_us = 0
        self._changed_us: int | None = None

    def scene_changed(self, server_us: int | None) -> None:
        """The scene's last change was known to be done at that server time."""
        self._changed_us = server_us

    def add(self, record: FrameRecord | None) -> None:
        """Note a frame in order."""
        if record is None:
            self.still = False
            return
        if FrameFlags.STILL in record.flags:
            self.still = True
        elif FrameFlags.KEEP_ALIVE not in record.flags:
            self.still = False
        self._views = record.views
        self._pose_id = record.pose_id
        self._confirmed_us = record.pose_received_us + record.draw_start_us

    def shows(self, views: tuple[View, ...] | None, pose_id: int | None = None) -> bool:
        """Whether the newest frame has full quality and shows these views (any, if ``None``) of the newest scene.

        A frame for ``pose_id`` itself may have other clip distances: the scene's go before those of poses.
        """
        if not self.still or (self._changed_us is not None and self._confirmed_us < self._changed_us):
            return False
        return views is None or same_views(self._views, views, clip=pose_id != self._pose_id)


class FrameStream:
    """The frames of a connection as they come: an async iterator.

    It begins with the newest frame there is. ``buffer`` frames wait for a consumer that is slower than the stream,
    then the oldest of them makes room for a newer one; with 1, the usual, the consumer gets the newest frame each
    time. ``dropped`` counts those it never saw. It ends when the connection is closed here, and raises why when the
    server ends it (SessionEndedError, ConnectionLostError). Raises ValueError for a ``buffer`` below 1.
    """

    def __init__(self, first: Frame | None = None, buffer: int = 1) -> None:
        if buffer < 1:
            raise ValueError("at least one frame has to fit into the buffer")
        self.dropped = 0
        self._waiting: deque[Frame] = deque(maxlen=buffer)
        self._ended = False
        self._error: RuntimeConnectionError | None = None
        self._wake = asyncio.Event()
        if first is not None:
            self._waiting.append(first)
            self._wake.set()

    def __aiter__(self) -> FrameStream:
        return self

    async def __anext__(self) -> Frame:
        while True:
            if self._waiting:
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error.again()
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def put(self, frame: Frame) -> None:
        """A new frame came."""
        self.dropped += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(frame)
        self._wake.set()

    def end(self, error: RuntimeConnectionError | None) -> None:
        """No more frames; what is left may still be read unless there is an error to tell."""
        self._ended, self._error = True, error
        if error is not None:
            self._waiting.clear()
        self._wake.set()
