"""Pose and frame records: exact bytes, round trips, and nothing but typed errors from hostile ones."""

from __future__ import annotations

import dataclasses
import math
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.records import (
    FieldOfView,
    FrameFlags,
    FrameRecord,
    FrameReport,
    PoseFlags,
    PoseRecord,
    ReportedFrame,
    View,
    decode_frame,
    decode_pose,
    decode_report,
    encode_frame,
    encode_pose,
    encode_report,
)

VIEW = View((1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0), FieldOfView(-0.5, 0.5, 0.25, -0.25), 0.5, 64.0)

u32 = st.integers(0, 2**32 - 1)
angle = st.floats(0.015625, 1.5, width=32)
fields_of_view = st.builds(lambda a, b, c, d: FieldOfView(-a, b, c, -d), angle, angle, angle, angle)
views = st.builds(
    View,
    st.tuples(*[st.floats(-1e6, 1e6)] * 3),
    st.just((0.0, 0.0, 0.0, 1.0)),
    fields_of_view,
    st.floats(0.0009765625, 1.0, width=32),
    st.floats(2.0, 1000.0, width=32),
)
view_tuples = st.lists(views, min_size=1, max_size=2).map(tuple)


def frame(**changes: object) -> FrameRecord:
    values: dict[str, object] = {
        item.name: index for index, item in enumerate(dataclasses.fields(FrameRecord)[:20], start=1)
    }
    values |= {"views": (VIEW,), "flags": FrameFlags.KEYFRAME | FrameFlags.STILL} | changes
    return FrameRecord(**values)  # type: ignore[arg-type]


def test_a_pose_record_has_the_documented_bytes() -> None:
    data = encode_pose(PoseRecord(0x01020304, 0x1122334455667788, (VIEW,)))
    assert data[:16] == bytes.fromhex("01010100 04030201 8877665544332211")
    assert struct.unpack_from("<3d4f4f2f", data, 16) == (1, 2, 3, 0, 0, 0, 1, -0.5, 0.5, 0.25, -0.25, 0.5, 64)
    assert len(data) == 80


def test_a_frame_record_has_the_documented_bytes() -> None:
    data = encode_frame(frame())
    assert data[:4] == bytes([2, 1, 1, 3])
    assert struct.unpack_from("<3I2Q7I4HBBH2I", data, 4) == (*range(1, 18), 0, *range(18, 21))
    assert len(data) == 144


@given(u32, st.integers(0, 2**64 - 1), view_tuples)
def test_poses_survive_the_wire(pose_id: int, time: int, seen: tuple[View, ...]) -> None:
    record = PoseRecord(pose_id, time, seen)
    assert decode_pose(encode_pose(record)) == record


@given(view_tuples, st.sampled_from([FrameFlags.NONE, FrameFlags.KEEP_ALIVE, FrameFlags.STILL]))
def test_frames_survive_the_wire(seen: tuple[View, ...], flags: FrameFlags) -> None:
    record = frame(views=seen, flags=flags)
    assert decode_frame(encode_frame(record)) == record


@given(st.binary(max_size=300))
def test_any_bytes_give_a_record_or_a_typed_error(data: bytes) -> None:
    for decode in (decode_pose, decode_frame, decode_report):
        with pytest.raises(FarframeError) as caught:
            decode(data)
        assert caught.value.result in (Result.PROTOCOL_ERROR, Result.PROTOCOL_VERSION_MISMATCH)


@given(st.integers(0, 79), st.integers(0, 255))
def test_a_changed_byte_gives_a_finite_pose_or_a_typed_error(index: int, value: int) -> None:
    data = bytearray(encode_pose(PoseRecord(1, 2, (VIEW,))))
    data[index] = value
    try:
        record = decode_pose(bytes(data))
    except FarframeError:
        return
    assert all(abs(number) < 1e10 for number in record.views[0].position)


def test_the_flag_for_prediction_survives_the_wire_and_unknown_ones_are_ignored() -> None:
    data = bytearray(encode_pose(PoseRecord(1, 2, (VIEW,), PoseFlags.PREDICT)))
    assert data[3] == 1
    data[3] = 0xFF
    assert decode_pose(bytes(data)).flags is PoseFlags.PREDICT


def test_a_report_has_the_documented_bytes() -> None:
    report = FrameReport((ReportedFrame(0x01020304, 1_000_000, 1_000_007, None),), -2, 0x11)
    data = encode_report(report)
    assert data[:8] == bytes.fromhex("04010101 11000000")
    assert struct.unpack_from("<qQ4I", data, 8) == (-2, 1_000_000, 0x01020304, 0, 7, 2**32 - 1)
    assert len(data) == 40


times = st.none() | st.integers(1 << 40, (1 << 40) + 10**9)
reported_frames = st.builds(ReportedFrame, u32, times, times, times)


@given(st.lists(reported_frames, min_size=1, max_size=64).map(tuple), st.none() | st.integers(-(2**62), 2**62), u32)
def test_reports_survive_the_wire(frames: tuple[ReportedFrame, ...], offset_us: int | None, round_trip_us: int) -> None:
    report = FrameReport(frames, offset_us, round_trip_us)
    assert decode_report(encode_report(report)) == report


@given(st.integers(0, 55), st.integers(0, 255))
def test_a_changed_byte_gives_a_bounded_report_or_a_typed_error(index: int, value: int) -> None:
    data = bytearray(encode_report(FrameReport((ReportedFrame(1, 5, 6, 7), ReportedFrame(2, 8, 9, None)), 3, 4)))
    data[index] = value
    try:
        report = decode_report(bytes(data))
    except FarframeError:
        return
    assert len(report.frames) == 2
    assert all(0 <= (frame.received_us or 0) < 2**63 for frame in report.frames)


@pytest.mark.parametrize("count", [0, 65])
def test_a_report_of_no_or_too_many_frames_is_not_made(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        encode_report(FrameReport((ReportedFrame(1),) * count))


def test_another_version_is_named() -> None:
    data = bytearray(encode_pose(PoseRecord(1, 2, (VIEW,))))
    data[1] = 9
    with pytest.raises(FarframeError, match="version 9") as caught:
        decode_pose(bytes(data))
    assert caught.value.result is Result.PROTOCOL_VERSION_MISMATCH


@pytest.mark.parametrize(
    "view",
    [
        View((float("nan"), 0, 0), (0, 0, 0, 1), VIEW.fov),
        View((0, 0, 0), (0, 0, 0, 0), VIEW.fov),
        View((0, 0, 0), (0, 0, 0, 1), FieldOfView(0.5, -0.5, 0.5, -0.5)),
        View((0, 0, 0), (0, 0, 0, 1), FieldOfView(-3, 3, 0.5, -0.5)),
        View((0, 0, 0), (0, 0, 0, 1), VIEW.fov, 1.0, 0.5),
        View((0, 0, 0), (0, 0, 0, 1), VIEW.fov, 0.0, 0.5),
        View((1e12, 0, 0), (0, 0, 0, 1), VIEW.fov),
    ],
)
def test_impossible_views_are_refused(view: View) -> None:
    with pytest.raises(FarframeError):
        decode_pose(encode_pose(PoseRecord(1, 2, (view,))))


def test_times_beyond_an_hour_saturate() -> None:
    assert decode_frame(encode_frame(frame(sent_us=2**40, draw_start_us=-5))).sent_us == 2**32 - 1


EXTENT = replace(VIEW, fov=FieldOfView(-3.0, 5.0, 2.0, -250.0), orthographic=True)


def test_orthographic_views_survive_the_wire_in_the_same_layout() -> None:
    data = encode_pose(PoseRecord(1, 2, (EXTENT, EXTENT), PoseFlags.PREDICT))
    assert data[1] == 1 and data[3] == 3 and len(data) == 16 + 2 * 64
    assert struct.unpack_from("<4f", data, 16 + 40) == (-3.0, 5.0, 2.0, -250.0)
    assert decode_pose(data) == PoseRecord(1, 2, (EXTENT, EXTENT), PoseFlags.PREDICT)
    drawn = frame(views=(EXTENT,), flags=FrameFlags.STILL | FrameFlags.OVER_LIMIT)
    assert encode_frame(drawn)[3] == 2 | 8 | 16
    assert decode_frame(encode_frame(drawn)) == drawn


def test_views_of_both_kinds_do_not_mix() -> None:
    with pytest.raises(ValueError, match="orthographic"):
        encode_pose(PoseRecord(1, 2, (VIEW, EXTENT)))


@pytest.mark.parametrize(
    "edges",
    [(1.0, 1.0, 1.0, -1.0), (-1.0, 1.0, -1.0, 1.0), (-2e7, 1.0, 1.0, -1.0), (-1.0, math.inf, 1.0, -1.0)],
)
def test_impossible_extents_are_refused(edges: tuple[float, float, float, float]) -> None:
    data = encode_pose(PoseRecord(1, 2, (replace(EXTENT, fov=FieldOfView(*edges)),)))
    with pytest.raises(FarframeError) as caught:
        decode_pose(data)
    assert caught.value.result is Result.PROTOCOL_ERROR


def test_edges_are_tangents_of_angles_or_metres() -> None:
    turned = replace(VIEW, fov=FieldOfView(-math.atan(2.0), math.atan(1.0), math.atan(0.5), -math.atan(0.25)))
    assert turned.tangents == pytest.approx((-2.0, 1.0, 0.5, -0.25))
    assert EXTENT.tangents == (-3.0, 5.0, 2.0, -250.0)
    assert FieldOfView.extent(4.0, 1.5) == FieldOfView(-3.0, 3.0, 2.0, -2.0)
