"""The binary records of the ``pose`` and ``frames`` data channels.

Both are little-endian, packed without padding, and carry one or two views, so that stereo needs no new layout.
Conventions: metres, microseconds, radians; right-handed world, +Y up, a view looks along its own -Z with
+X to its right. A field of view holds four signed half angles as in OpenXR: ``left`` and ``down`` are negative in
a symmetric view. ``docs/protocol.md`` shows the same tables for people who write a client in another language.

    pose record: 16 bytes + 64 per view          frame record: 80 bytes + 64 per view
    0  u8   type = 1                             0  u8   type = 2
    1  u8   version = 1                          1  u8   version = 1
    2  u8   view count, 1 or 2                   2  u8   view count, 1 or 2
    3  u8   flags, 0                             3  u8   flags, see FrameFlags
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
MAX_VIEWS = 2

_POSE_HEAD = struct.Struct("<BBBBIQ")
_FRAME_HEAD = struct.Struct("<BBBBIIIQQ6II4HBBHII")
_VIEW = struct.Struct("<3d10f")

MAX_POSITION_METERS = 1e9
MAX_CLIP_METERS = 1e9
MAX_HALF_ANGLE_RADIANS = math.radians(89.0)


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """Signed half angles of a view in radians; ``left`` and ``down`` are negative in a symmetric view."""

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


@dataclass(frozen=True, slots=True)
class View:
    """One eye: where it is, where it looks and what it sees. Units and axes as in this module's docstring."""

    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float]
    fov: FieldOfView
    near: float = 0.05
    far: float = 1000.0


@dataclass(frozen=True, slots=True)
class PoseRecord:
    """Where the device is. ``pose_id`` counts up (modulo 2^32), ``client_time_us`` is the device's own clock."""

    pose_id: int
    client_time_us: int
    views: tuple[View, ...]


class FrameFlags(IntFlag):
    """What kind of frame a frame record describes."""

    NONE = 0
    KEYFRAME = 1
    STILL = 2
    """Drawn with full quality: nothing has moved for a while."""
    KEEP_ALIVE = 4
    """The last picture again; neither pose nor scene changed."""


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


def _pack_views(views: tuple[View, ...]) -> bytes:
    if not 1 <= len(views) <= MAX_VIEWS:
        raise ValueError(f"a record carries 1 or {MAX_VIEWS} views, not {len(views)}")
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


def _unpack_view(data: bytes, offset: int) -> View:
    x, y, z, qx, qy, qz, qw, left, right, up, down, near, far = _VIEW.unpack_from(data, offset)
    if not all(map(math.isfinite, (x, y, z, qx, qy, qz, qw, left, right, up, down, near, far))):
        raise _protocol_error("A view holds a number that is not finite.")
    if max(abs(x), abs(y), abs(z)) > MAX_POSITION_METERS:
        raise _protocol_error(f"A view lies farther than {MAX_POSITION_METERS:g} m from the origin.")
    length = math.sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
    if not 0.9 < length < 1.1:
        raise _protocol_error("A view's orientation is not a unit quaternion.")
    if not (left < right and down < up) or max(map(abs, (left, right, up, down))) > MAX_HALF_ANGLE_RADIANS:
        raise _protocol_error("A view's field of view is empty, turned over or wider than 89 degrees to a side.")
    if not (1e-6 <= near < far <= MAX_CLIP_METERS):
        raise _protocol_error("A view's clip distances must satisfy 1e-6 <= near < far <= 1e9 metres.")
    orientation = (qx / length, qy / length, qz / length, qw / length)
    return View((x, y, z), orientation, FieldOfView(left, right, up, down), near, far)


def _unpack_views(data: bytes, offset: int, count: int) -> tuple[View, ...]:
    return tuple(_unpack_view(data, offset + index * _VIEW.size) for index in range(count))


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
    head = _POSE_HEAD.pack(
        POSE_TYPE, RECORD_VERSION, len(record.views), 0, record.pose_id & 0xFFFFFFFF, record.client_time_us
    )
    return head + _pack_views(record.views)


def decode_pose(data: bytes) -> PoseRecord:
    """A pose record from untrusted bytes. Raises :class:`FarframeError` for anything that is none."""
    count = _check_head(data, POSE_TYPE, _POSE_HEAD, "pose")
    _, _, _, _, pose_id, client_time_us = _POSE_HEAD.unpack_from(data)
    return PoseRecord(pose_id, client_time_us, _unpack_views(data, _POSE_HEAD.size, count))


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
    head = _FRAME_HEAD.pack(
        FRAME_TYPE,
        RECORD_VERSION,
        len(record.views),
        int(record.flags),
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
    return head + _pack_views(record.views)


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
        views=_unpack_views(data, _FRAME_HEAD.size, count),
        flags=FrameFlags(flags & 0x7),
    )
