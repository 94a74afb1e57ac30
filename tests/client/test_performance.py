"""Statistics of frames on the device: every field, by a sequence whose numbers are known."""

from __future__ import annotations

import pytest

from farframe.client.performance import FrameMeter, FrameStatistics, ServiceStatistics
from farframe.protocol.performance import PerformanceAssessment, PerformanceInformation


def test_nothing_is_known_before_anything_comes() -> None:
    assert FrameMeter().read(10_000_000) == FrameStatistics()


def test_every_field_of_a_second() -> None:
    meter = FrameMeter()
    meter.came(500_000, pose_id=1, latency_us=900_000)  # before the second that is looked at
    meter.came(1_600_000, pose_id=2, latency_us=40_000)
    meter.presented(1_600_000, 1_610_000, 1_620_000)
    meter.came(1_620_000, pose_id=3, latency_us=60_000)
    meter.came(1_660_000, pose_id=4, latency_us=80_000)
    meter.presented(1_660_000, 1_690_000)  # the one before was skipped
    meter.presented(1_660_000, 1_706_000)  # again
    meter.came(1_700_000, pose_id=4, latency_us=999_000)  # the same pose once more
    meter.came(1_710_000, pose_id=3, latency_us=999_000)  # an older pose
    meter.came(1_720_000, pose_id=None, latency_us=None)
    found = meter.read(2_000_000)
    assert found.latency_pose_to_receive == pytest.approx(0.060)
    assert found.latency_receive_to_present == pytest.approx(0.020)
    assert found.latency_present_to_display == pytest.approx(0.010)
    assert found.time_since_last_present == pytest.approx(0.016)
    assert found.video_frames_received == 6
    assert found.video_frame_reused_count == 1
    assert found.video_frames_skipped == 2, "one long ago, and one now"
    assert found.video_frames_discarded == 2
    assert found.video_frame_min_delta == pytest.approx(0.010)
    assert found.video_frame_max_delta == pytest.approx(1.1)


def test_pose_ids_go_round() -> None:
    meter = FrameMeter()
    meter.came(1_000, pose_id=2**32 - 1, latency_us=10)
    meter.came(2_000, pose_id=1, latency_us=10)
    assert meter.read(3_000).video_frames_discarded == 0


def test_many_seconds_are_summed_up() -> None:
    statistics = ServiceStatistics()
    server = PerformanceAssessment(time_cpu=PerformanceInformation(value=4.0, rating="Great"))
    statistics.add(FrameStatistics(video_frames_received=30), server)
    statistics.add(FrameStatistics(video_frames_received=60), PerformanceAssessment())
    frames = statistics["video_frames_received"]
    assert (frames.average, frames.maximum, frames.total, frames.samples) == (45.0, 60.0, 90.0, 2)
    assert statistics["time_cpu"].samples == 1 and "time_gpu" not in statistics
    assert "video_frames_received" in str(statistics)
    with pytest.raises(KeyError):
        statistics["time_gpu"]
