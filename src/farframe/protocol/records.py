"""The binary records of the ``pose`` and ``frames`` data channels.

All are little-endian, packed without padding. Poses and frames carry one or two views, so that stereo needs no new
layout; a report, which goes the way of the poses, says what became of frames.
Conventions: metres, microseconds, radians; right-handed world, +Y up, a view looks along its own -Z with
+X to its right. A field of view holds four signed half angles as in OpenXR: ``left`` and ``down`` are negative in
a symmetric view. In a record with the flag ``ORTHOGRAPHIC`` these four are metres instead: how far the picture reaches
from the view's axis. ``docs/protocol.md`` shows the same tables for people who write a client in another language.

    pose record: 16 bytes + 64 per view          frame record: 80 bytes + 64 per view
    0  u8   type = 1                             0  u8   type = 2
    1  u8   version = 1                          1  u8   version = 1
    2  u8   view count, 1 or 2                   2  u8   view count, 1 or 2
    3  u8   flags, see PoseFlags                 3  u8   flags, see FrameFlags
    4  u32  pose id                              4  u32  frame id, counts encoded frames
    8  u64  client time                          8  u32  RTP timestamp of the frame, 90 kHz
    16 ...  views                                12 u32  pose id that the frame was drawn for
                                                 16 u64  client time of that pose
    view: 64 bytes                               24 u64  server time at which that pose arrived
    0  f64 x 3  position                         32 u32  draw started    \\
    24 f32 x 4  orientation, quaternion xyzw     36 u32  draw finished    |
    40 f32 x 4  left, right, up, down            40 u32  read back        | since the pose
    56 f32      near clip distance               44 u32  encode started   | arrived
    60 f32      far clip distance                48 u32  encode finished  |
                                                 52 u32  sent            /
                                                 56 u32  encoded bytes
                                                 60 u16 x 2  encoded width, height in pixels
                                                 64 u16 x 2  drawn width, height in pixels
                                                 68 u8   samples per pixel
                                                 69 u8   reserved, 0
                                                 70 u16  parts drawn below full detail, saturating
                                                 72 u32  triangles drawn
                                                 76 u32  draws (visible part instances)
                                                 80 ...  views, as drawn

    report record: 24 bytes + 16 per frame
    0  u8   type = 4                             frame: 16 bytes
    1  u8   version = 1                          0  u32  RTP timestamp of the frame
    2  u8   frame count, 1 to 64                 4  u32  received: its last packet came   \
    3  u8   flags, 1: clocks are aligned         8  u32  decoded                           | since base time;
    4  u32  round trip                           12 u32  shown                            /  2^32 - 1: not, or unknown
    8  i64  server's clock minus the device's
    16 u64  base time, the device's clock
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from enum import IntFlag

from farframe.protocol.errors import FarframeError, Result

RECORD_VERSION = 1
POSE_TYPE = 1
FRAME_TYPE = 2
REPORT_TYPE = 4
MAX_VIEWS = 2
MAX_REPORTED_FRAMES = 64
NOT_KNOWN = 0xFFFFFFFF
MAX_CLOCK_US = 1 << 62

_POSE_HEAD = struct.Struct("<BBBBIQ")
_FRAME_HEAD = struct.Struct("<BBBBIIIQQ6II4HBBHII")
_VIEW = struct.Struct("<3d10f")
_REPORT_HEAD = struct.Struct("<BBBBIqQ")
_REPORTED = struct.Struct("<4I")

MAX_POSITION_METERS = 1e9
MAX_CLIP_METERS = 1e9
MAX_HALF_ANGLE_RADIANS = math.radians(89.0)
MAX_EXTENT_METERS = 1e7
MIN_EXTENT_METERS = 1e-6
"""The greatest reach of an orthographic view from its axis, and the least size of its picture."""


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """Signed half angles of a view in radians; ``left`` and ``down`` are negative in a symmetric view.

    Of an orthographic view they are metres from its axis to the edges of the picture.
    """

    left: float
    right: float
    up: float
    down: float

    @staticmethod
    def symmetric(vertical_radians: float, aspect: float) -> FieldOfView:
        """The field of view of a plain camera: ``vertical_radians`` in all, ``aspect`` is width / height."""
        up = vertical_radians / 2
        right = math.atan(math.tan(up) * aspect)
        return FieldOfView(-right, right, up, -up)

    @staticmethod
    def extent(height_meters: float, aspect: float) -> FieldOfView:
        """What a symmetric orthographic view sees: ``height_meters`` in all, ``aspect`` is width / height."""
        up = height_meters / 2
        return FieldOfView(-up * aspect, up * aspect, up, -up)


@dataclass(frozen=True, slots=True)
class View:
    """One eye: where it is, where it looks and what it sees. Units and axes as in this module's docstring."""

    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float]
    fov: FieldOfView
    near: float = 0.05
    far: float = 1000.0
    orthographic: bool = False
    """All rays are parallel; ``fov`` then holds metres. The views of a record agree in this."""

    @property
    def tangents(self) -> tuple[float, float, float, float]:
        """Left, right, up and down edge of the picture in the plane at distance 1: tangents of the half angles; of an
        orthographic view the metres themselves, whatever the distance."""
        edges = (self.fov.left, self.fov.right, self.fov.up, self.fov.down)
        if self.orthographic:
            return edges
        left, right, up, down = map(math.tan, edges)
        return (left, right, up, down)


class PoseFlags(IntFlag):
    """What a pose is good for."""

    NONE = 0
    PREDICT = 1
    """The device moves by itself, as a head does: draw for where it will be when the frame is shown."""
    ORTHOGRAPHIC = 2
    """On the wire only: the views are orthographic, see :attr:`View.orthographic`."""


@dataclass(frozen=True, slots=True)
class PoseRecord:
    """Where the device is. ``pose_id`` counts up (modulo 2^32), ``client_time_us`` is the device's own clock."""

    pose_id: int
    client_time_us: int
    views: tuple[View, ...]
    flags: PoseFlags = PoseFlags.NONE


class FrameFlags(IntFlag):
    """What kind of frame a frame record describes."""

    NONE = 0
    KEYFRAME = 1
    STILL = 2
    """Drawn with full quality: nothing has moved for a while."""
    KEEP_ALIVE = 4
    """The last picture again; neither pose nor scene changed. With STILL, if that has full quality."""
    OVER_LIMIT = 8
    """More triangles and points than the session's size may draw, drawn as coarsely as may be: rated *Bad*."""
    ORTHOGRAPHIC = 16
    """On the wire only: the views are orthographic, see :attr:`View.orthographic`."""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """What a video frame shows and how long each step took.

    Times named ``*_us`` but ``client_time_us`` and ``pose_received_us`` are microseconds since ``pose_received_us``.
    """

    frame_id: int
    rtp_timestamp: int
    pose_id: int
    client_time_us: int
    pose_received_us: int
    draw_start_us: int
    draw_end_us: int
    read_back_us: int
    encode_start_us: int
    encode_end_us: int
    sent_us: int
    encoded_bytes: int
    width: int
    height: int
    drawn_width: int
    drawn_height: int
    samples: int
    reduced_parts: int
    triangles: int
    draws: int
    views: tuple[View, ...]
    flags: FrameFlags = field(default=FrameFlags.NONE)


@dataclass(frozen=True, slots=True)
class ReportedFrame:
    """What became of a frame: microseconds on the device's clock, ``None`` where it did not happen or is not known."""

    rtp_timestamp: int
    received_us: int | None = None
    decoded_us: int | None = None
    shown_us: int | None = None


@dataclass(frozen=True, slots=True)
class FrameReport:
    """What a device says about the frames of the last moments, up to :data:`MAX_REPORTED_FRAMES`.

    ``clock_offset_us``: the server's clock minus the device's, ``None`` before the clocks are aligned;
    ``round_trip_us``: the shortest round trip, by which half the offset may be off.
    """

    frames: tuple[ReportedFrame, ...]
    clock_offset_us: int | None = None
    round_trip_us: int = 0


def _pack_views(views: tuple[View, ...]) -> bytes:
    if not 1 <= len(views) <= MAX_VIEWS:
        raise ValueError(f"a record carries 1 or {MAX_VIEWS} views, not {len(views)}")
    if any(view.orthographic != views[0].orthographic for view in views):
        raise ValueError("the views of a record are all orthographic or none is")
    return b"".join(
        _VIEW.pack(
            *view.position,
            *view.orientation,
            view.fov.left,
            view.fov.right,
            view.fov.up,
            view.fov.down,
            view.near,
            view.far,
        )
        for view in views
    )


def _protocol_error(message: str) -> FarframeError:
    return FarframeError(Result.PROTOCOL_ERROR, message, next_step="See the record layouts in docs/protocol.md.")


def _check_angles(fov: FieldOfView) -> None:
    left, right, up, down = fov.left, fov.right, fov.up, fov.down
    if not (left < right and down < up) or max(map(abs, (left, right, up, down))) > MAX_HALF_ANGLE_RADIANS:
        raise _protocol_error("A view's field of view is empty, turned over or wider than 89 degrees to a side.")


def _check_extents(fov: FieldOfView) -> None:
    if min(fov.right - fov.left, fov.up - fov.down) < MIN_EXTENT_METERS:
        raise _protocol_error("An orthographic view is empty, turned over or less than a micrometre in size.")
    if max(map(abs, (fov.left, fov.right, fov.up, fov.down))) > MAX_EXTENT_METERS:
        raise _protocol_error(f"An orthographic view reaches farther than {MAX_EXTENT_METERS:g} m from its axis.")


def _unpack_view(data: bytes, offset: int, orthographic: bool) -> View:
    x, y, z, qx, qy, qz, qw, left, right, up, down, near, far = _VIEW.unpack_from(data, offset)
    if not all(map(math.isfinite, (x, y, z, qx, qy, qz, qw, left, right, up, down, near, far))):
        raise _protocol_error("A view holds a number that is not finite.")
    if max(abs(x), abs(y), abs(z)) > MAX_POSITION_METERS:
        raise _protocol_error(f"A view lies farther than {MAX_POSITION_METERS:g} m from the origin.")
    length = math.sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
    if not 0.9 < length < 1.1:
        raise _protocol_error("A view's orientation is not a unit quaternion.")
    fov = FieldOfView(left, right, up, down)
    if orthographic:
        _check_extents(fov)
    else:
        _check_angles(fov)
    if not (1e-6 <= near < far <= MAX_CLIP_METERS):
        raise _protocol_error("A view's clip distances must satisfy 1e-6 <= near < far <= 1e9 metres.")
    orientation = (qx / length, qy / length, qz / length, qw / length)
    return View((x, y, z), orientation, fov, near, far, orthographic)


def _unpack_views(data: bytes, offset: int, count: int, orthographic: bool) -> tuple[View, ...]:
    return tuple(_unpack_view(data, offset + index * _VIEW.size, orthographic) for index in range(count))


def _check_head(data: bytes, kind: int, head: struct.Struct, name: str) -> int:
    """The view count of a record whose type, version and exact length are right."""
    if len(data) < head.size or data[0] != kind:
        raise _protocol_error(f"Not a {name} record.")
    if data[1] != RECORD_VERSION:
        raise FarframeError(
            Result.PROTOCOL_VERSION_MISMATCH,
            f"The {name} record has version {data[1]}; this side speaks version {RECORD_VERSION}.",
            next_step="Update the older side.",
        )
    count = data[2]
    if not 1 <= count <= MAX_VIEWS or len(data) != head.size + count * _VIEW.size:
        raise _protocol_error(f"The {name} record's length does not fit its view count.")
    return count


def encode_pose(record: PoseRecord) -> bytes:
    """The bytes of a pose record. Raises ``ValueError`` unless it has one or two views."""
    views = _pack_views(record.views)
    head = _POSE_HEAD.pack(
        POSE_TYPE,
        RECORD_VERSION,
        len(record.views),
        int(record.flags | PoseFlags.ORTHOGRAPHIC if record.views[0].orthographic else record.flags),
        record.pose_id & 0xFFFFFFFF,
        record.client_time_us,
    )
    return head + views


def decode_pose(data: bytes) -> PoseRecord:
    """A pose record from untrusted bytes. Raises :class:`FarframeError` for anything that is none."""
    count = _check_head(data, POSE_TYPE, _POSE_HEAD, "pose")
    _, _, _, flags, pose_id, client_time_us = _POSE_HEAD.unpack_from(data)
    views = _unpack_views(data, _POSE_HEAD.size, count, bool(flags & PoseFlags.ORTHOGRAPHIC))
    return PoseRecord(pose_id, client_time_us, views, PoseFlags(flags & PoseFlags.PREDICT))


def encode_frame(record: FrameRecord) -> bytes:
    """The bytes of a frame record. Raises ``ValueError`` unless it has one or two views."""
    offsets = (
        record.draw_start_us,
        record.draw_end_us,
        record.read_back_us,
        record.encode_start_us,
        record.encode_end_us,
        record.sent_us,
    )
    views = _pack_views(record.views)
    head = _FRAME_HEAD.pack(
        FRAME_TYPE,
        RECORD_VERSION,
        len(record.views),
        int(record.flags | FrameFlags.ORTHOGRAPHIC if record.views[0].orthographic else record.flags),
        record.frame_id & 0xFFFFFFFF,
        record.rtp_timestamp & 0xFFFFFFFF,
        record.pose_id & 0xFFFFFFFF,
        record.client_time_us,
        record.pose_received_us,
        *(min(max(offset, 0), 0xFFFFFFFF) for offset in offsets),
        record.encoded_bytes,
        record.width,
        record.height,
        record.drawn_width,
        record.drawn_height,
        record.samples,
        0,
        min(record.reduced_parts, 0xFFFF),
        min(record.triangles, 0xFFFFFFFF),
        min(record.draws, 0xFFFFFFFF),
    )
    return head + views


def decode_frame(data: bytes) -> FrameRecord:
    """A frame record from untrusted bytes. Raises :class:`FarframeError` for anything that is none."""
    count = _check_head(data, FRAME_TYPE, _FRAME_HEAD, "frame")
    fields = _FRAME_HEAD.unpack_from(data)
    (flags, frame_id, rtp_timestamp, pose_id, client_time_us, pose_received_us) = fields[3:9]
    (draw_start, draw_end, read_back, encode_start, encode_end, sent, encoded_bytes) = fields[9:16]
    (width, height, drawn_width, drawn_height, samples, _, reduced_parts, triangles, draws) = fields[16:25]
    return FrameRecord(
        frame_id=frame_id,
        rtp_timestamp=rtp_timestamp,
        pose_id=pose_id,
        client_time_us=client_time_us,
        pose_received_us=pose_received_us,
        draw_start_us=draw_start,
        draw_end_us=draw_end,
        read_back_us=read_back,
        encode_start_us=encode_start,
        encode_end_us=encode_end,
        sent_us=sent,
        encoded_bytes=encoded_bytes,
        width=width,
        height=height,
        drawn_width=drawn_width,
        drawn_height=drawn_height,
        samples=samples,
        reduced_parts=reduced_parts,
        triangles=triangles,
        draws=draws,
        views=_unpack_views(data, _FRAME_HEAD.size, count, bool(flags & FrameFlags.ORTHOGRAPHIC)),
        flags=FrameFlags(flags & 0xF),
    )


def encode_report(report: FrameReport) -> bytes:
    """The bytes of a report. Raises ``ValueError`` for none or too many frames."""
    if not 1 <= len(report.frames) <= MAX_REPORTED_FRAMES:
        raise ValueError(f"a report carries 1 to {MAX_REPORTED_FRAMES} frames, not {len(report.frames)}")
    times = [
        time
        for frame in report.frames
        for time in (frame.received_us, frame.decoded_us, frame.shown_us)
        if time is not None
    ]
    base = max(min(times, default=0), 0)

    def since(time: int | None) -> int:
        return NOT_KNOWN if time is None or not 0 <= time - base < NOT_KNOWN else time - base

    head = _REPORT_HEAD.pack(
        REPORT_TYPE,
        RECORD_VERSION,
        len(report.frames),
        report.clock_offset_us is not None,
        min(max(report.round_trip_us, 0), 0xFFFFFFFF),
        report.clock_offset_us or 0,
        base,
    )
    return head + b"".join(
        _REPORTED.pack(
            frame.rtp_timestamp & 0xFFFFFFFF, since(frame.received_us), since(frame.decoded_us), since(frame.shown_us)
        )
        for frame in report.frames
    )


def decode_report(data: bytes) -> FrameReport:
    """A report from untrusted bytes. Raises :class:`FarframeError` for anything that is none."""
    if len(data) < _REPORT_HEAD.size or data[0] != REPORT_TYPE:
        raise _protocol_error("Not a report record.")
    _, version, count, flags, round_trip_us, offset_us, base_us = _REPORT_HEAD.unpack_from(data)
    if version != RECORD_VERSION:
        raise FarframeError(
            Result.PROTOCOL_VERSION_MISMATCH,
            f"The report record has version {version}; this side speaks version {RECORD_VERSION}.",
            next_step="Update the older side.",
        )
    if not 1 <= count <= MAX_REPORTED_FRAMES or len(data) != _REPORT_HEAD.size + count * _REPORTED.size:
        raise _protocol_error("The report record's length does not fit its frame count.")
    if base_us > MAX_CLOCK_US or abs(offset_us) > MAX_CLOCK_US:
        raise _protocol_error("The report's clock is out of range.")

    def at(since_us: int) -> int | None:
        return None if since_us == NOT_KNOWN else base_us + since_us

    frames = tuple(
        ReportedFrame(stamp, at(received), at(decoded), at(shown))
        for stamp, received, decoded, shown in _REPORTED.iter_unpack(data[_REPORT_HEAD.size :])
    )
    return FrameReport(frames, offset_us if flags & 1 else None, round_trip_us)
