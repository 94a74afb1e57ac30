from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace

import av
import numpy as np
import pytest

from farframe.client import ConnectionLostError, FieldOfView, Frame, FrameFlags, FrameStream, Result, View
from farframe.client._clock import ClockAlignment
from farframe.client.frame import Matcher, Picture, StillTracker, same_views, timings_of
from farframe.protocol.records import FrameRecord, decode_frame, encode_frame

VIEW = View((0.1, 0.2, 3.3), (0.0, 0.6, 0.0, 0.8), FieldOfView.symmetric(0.8, 16 / 9))


def record(**changes: object) -> FrameRecord:
    values = {
        "frame_id": 1,
        "rtp_timestamp": 3000,
        "pose_id": 7,
        "client_time_us": 1_000_000,
        "pose_received_us": 5_002_000,
        "draw_start_us": 1_000,
        "draw_end_us": 11_000,
        "read_back_us": 13_000,
        "encode_start_us": 14_000,
        "encode_end_us": 19_000,
        "sent_us": 19_500,
        "encoded_bytes": 1000,
        "width": 64,
        "height": 48,
        "drawn_width": 64,
        "drawn_height": 48,
        "samples": 4,
        "reduced_parts": 0,
        "triangles": 12,
        "draws": 1,
        "views": (VIEW,),
    }
    return FrameRecord(**{**values, **changes})


def picture(timestamp: int) -> Picture:
    return Picture(av.VideoFrame(64, 48, "yuv420p"), timestamp, 0, 0)


def frame(name: int) -> Frame:
    taken = record(pose_id=name)
    return Frame(av.VideoFrame(64, 48, "yuv420p"), taken, received_us=0, decoded_us=0, timings=None, is_still=False)


def test_pixels_follow_bt_709_limited_range() -> None:
    def shown(y: int, u: int, v: int) -> list[int]:
        video = av.VideoFrame(64, 48, "yuv420p")
        for plane, value in zip(video.planes, (y, u, v), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        made = Frame(video, None, received_us=0, decoded_us=0, timings=None, is_still=False)
        assert made.image.shape == (48, 64, 3)
        assert made.image is made.image
        return made.image[24, 32].tolist()

    assert shown(235, 128, 128) == [255, 255, 255]
    assert shown(16, 128, 128) == [0, 0, 0]
    # Pure red, green and blue by the standard's matrix.
    for yuv, rgb in (((63, 102, 240), (255, 0, 0)), ((173, 42, 26), (0, 255, 0)), ((32, 240, 118), (0, 0, 255))):
        assert np.abs(np.subtract(shown(*yuv), rgb)).max() <= 3


def test_steps_are_milliseconds_on_aligned_clocks() -> None:
    clock = ClockAlignment()
    clock.add(sent_us=900_000, server_us=4_901_000, received_us=902_000)
    assert (clock.offset_us, clock.round_trip_us) == (4_000_000, 2_000)
    timings = timings_of(record(), clock, received_us=1_025_000, decoded_us=1_028_000)
    assert (timings.pose_transit, timings.wait, timings.draw, timings.read_back) == (2.0, 1.0, 10.0, 2.0)
    assert (timings.queue, timings.encode, timings.send) == (1.0, 5.0, 0.5)
    assert timings.network == pytest.approx(3.5)
    assert (timings.decode, timings.total) == (3.0, 28.0)
    steps = [getattr(timings, name) for name in timings.__dataclass_fields__ if name != "total"]
    assert sum(steps) == pytest.approx(timings.total)


def test_without_alignment_or_pose_nothing_is_invented() -> None:
    timings = timings_of(record(client_time_us=0), ClockAlignment(), 1, 2)
    assert (timings.pose_transit, timings.network, timings.total) == (None, None, None)


def test_the_shortest_round_trip_aligns() -> None:
    clock = ClockAlignment()
    assert clock.to_device(1) is None
    clock.add(0, 1_000_000, 50_000)
    clock.add(100_000, 1_101_000, 102_000)
    clock.add(200_000, 1_260_000, 280_000)
    assert clock.offset_us == 1_000_000


def test_pictures_and_records_meet_in_any_order() -> None:
    matcher = Matcher()
    assert matcher.add_record(record(rtp_timestamp=1)) == []
    assert [(p.rtp_timestamp, r.rtp_timestamp) for p, r in matcher.add_picture(picture(1))] == [(1, 1)]
    assert matcher.add_picture(picture(2)) == []
    assert [(p.rtp_timestamp, r.rtp_timestamp) for p, r in matcher.add_record(record(rtp_timestamp=2))] == [(2, 2)]
    assert matcher.unmatched == 0


def test_a_picture_whose_record_is_lost_goes_out_with_the_next() -> None:
    matcher = Matcher()
    matcher.add_record(record(rtp_timestamp=2))
    assert matcher.add_picture(picture(1)) == []
    assert [(p.rtp_timestamp, r is None) for p, r in matcher.add_picture(picture(2))] == [(1, True), (2, False)]
    assert matcher.unmatched == 1


def test_pictures_without_any_record_are_not_kept_for_ever() -> None:
    matcher = Matcher()
    out = [item for number in range(100) for item in matcher.add_picture(picture(number))]
    assert len(out) == 100 - 8
    for number in range(1000, 3000):
        matcher.add_record(record(rtp_timestamp=number))
    assert len(matcher._records) == 256


def test_views_are_the_same_after_a_journey() -> None:
    there_and_back = decode_frame(encode_frame(record())).views
    assert there_and_back != (VIEW,)
    assert same_views(there_and_back, (VIEW,))
    assert not same_views(there_and_back, (replace(VIEW, position=(0.1, 0.2, 3.31)),))
    assert not same_views((), (VIEW,))


def test_a_still_shows_what_is_newest_until_something_moves() -> None:
    tracker = StillTracker()
    assert not tracker.shows(None)
    tracker.add(record(flags=FrameFlags.STILL))
    assert tracker.shows(None)
    assert tracker.shows((VIEW,))
    assert not tracker.shows((replace(VIEW, near=0.2),))
    tracker.add(record(flags=FrameFlags.KEEP_ALIVE))
    assert tracker.shows((VIEW,))
    tracker.add(record())
    assert not tracker.shows(None)
    tracker.add(record(flags=FrameFlags.KEEP_ALIVE))
    assert not tracker.shows(None), "a repeated picture is as good as what it repeats"
    tracker.add(record(flags=FrameFlags.STILL))
    tracker.add(None)
    assert not tracker.shows(None)


def test_a_still_of_this_very_pose_may_have_the_clip_distances_of_the_scene() -> None:
    tracker = StillTracker()
    tracker.add(record(flags=FrameFlags.STILL, pose_id=7, views=(replace(VIEW, near=0.5, far=9.0),)))
    assert not tracker.shows((VIEW,))
    assert tracker.shows((VIEW,), 7)
    assert not tracker.shows((VIEW,), 8)
    assert not tracker.shows((replace(VIEW, position=(0.0, 0.0, 0.0)),), 7)


def test_a_still_from_before_a_change_does_not_show_it() -> None:
    tracker = StillTracker()
    tracker.add(record(flags=FrameFlags.STILL, pose_received_us=1_000_000, draw_start_us=500_000))
    tracker.scene_changed(1_600_000)
    assert not tracker.shows((VIEW,))
    tracker.add(record(flags=FrameFlags.KEEP_ALIVE, pose_received_us=1_000_000, draw_start_us=700_000))
    assert tracker.shows((VIEW,)), "what is only repeated long after the change has it"


async def test_a_slow_reader_gets_the_newest_and_knows_what_it_missed() -> None:
    stream = FrameStream(frame(0))
    assert (await anext(stream)).pose_id == 0
    for name in range(1, 5):
        stream.put(frame(name))
    assert (await anext(stream)).pose_id == 4
    assert stream.dropped == 3
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    stream.put(frame(5))
    assert (await waiting).pose_id == 5


async def test_a_stream_ends_quietly_here_and_loudly_there() -> None:
    quiet, loud = FrameStream(frame(1)), FrameStream(frame(1))
    quiet.end(None)
    assert [item.pose_id async for item in quiet] == [1]
    loud.end(ConnectionLostError(Result.CONNECTION_LOST, "Gone."))
    for _ in range(2):
        with pytest.raises(ConnectionLostError):
            await anext(loud)


async def test_a_dropped_stream_is_forgotten() -> None:
    streams: weakref.WeakSet[FrameStream] = weakref.WeakSet()
    stream = FrameStream()
    streams.add(stream)
    del stream
    gc.collect()
    assert not streams


def test_planes_are_the_decoders_own_memory_and_outlive_the_frame() -> None:
    video = av.VideoFrame(62, 48, "yuv420p")  # a width that the decoder pads
    for plane, value in zip(video.planes, (20, 90, 160), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    taken = Frame(video, None, received_us=0, decoded_us=0, timings=None, is_still=False)
    planes = taken.planes
    assert [plane.shape for plane in planes] == [(48, 62), (24, 31), (24, 31)]
    assert [set(plane.ravel().tolist()) for plane in planes] == [{20}, {90}, {160}]
    video.planes[0].update(bytes([21]) * video.planes[0].buffer_size)
    assert set(planes[0].ravel().tolist()) == {21}, "no copy was made"
    with pytest.raises(ValueError, match="read-only"):
        planes[0][0, 0] = 0
    del video, taken
    gc.collect()
    assert set(planes[2].ravel().tolist()) == {160}


async def test_a_buffer_lets_a_slow_reader_have_every_frame() -> None:
    stream = FrameStream(frame(0), buffer=3)
    for name in range(1, 6):
        stream.put(frame(name))
    stream.end(None)
    assert [seen.pose_id async for seen in stream] == [3, 4, 5]
    assert stream.dropped == 3
    with pytest.raises(ValueError, match="at least one"):
        FrameStream(buffer=0)
