"""The ledger: what devices report is added to the frames that were sent, and to nothing else."""

from __future__ import annotations

import pytest

from farframe.protocol.records import (
    FieldOfView,
    FrameFlags,
    FrameRecord,
    FrameReport,
    ReportedFrame,
    View,
)
from farframe.server.ledger import (
    MISSING_AFTER_SECONDS,
    OPEN_FRAMES,
    STAGE_SECONDS,
    STAGES,
    DeviceEntry,
    Ledger,
)

VIEW = View((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), FieldOfView.symmetric(1.0, 1.5))
OFFSET_US = 5_000_000_000
"""The server's clock minus the device's."""


class Clock:
    def __init__(self) -> None:
        self.now_us = 7_000_000_000

    def __call__(self) -> int:
        return self.now_us


class Place:
    """A ledger, and frames that take known times: pose 4 ms to the server, 2 ms wait, 20 draw, 1 read back, 1 queue,
    6 encode, 1 send, 5 network, 3 decode, 8 show."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock)
        self.count = 0

    def send(self, *, pose_id: int | None = None, flags: FrameFlags = FrameFlags.NONE) -> ReportedFrame:
        self.count += 1
        self.clock.now_us += 33_333
        received = self.clock.now_us - 31_000
        taken = received - 4_000 - OFFSET_US
        self.ledger.add(
            FrameRecord(
                frame_id=self.count,
                rtp_timestamp=self.count * 3000,
                pose_id=self.count if pose_id is None else pose_id,
                client_time_us=taken,
                pose_received_us=received,
                draw_start_us=2_000,
                draw_end_us=22_000,
                read_back_us=23_000,
                encode_start_us=24_000,
                encode_end_us=30_000,
                sent_us=31_000,
                encoded_bytes=1000,
                width=64,
                height=36,
                drawn_width=64,
                drawn_height=36,
                samples=1,
                reduced_parts=0,
                triangles=1,
                draws=1,
                views=(VIEW,),
                flags=flags,
            )
        )
        sent = received + 31_000 - OFFSET_US
        return ReportedFrame(self.count * 3000, sent + 5_000, sent + 8_000, sent + 16_000)

    def report(self, *frames: ReportedFrame, offset_us: int | None = OFFSET_US) -> None:
        self.clock.now_us += 20_000
        self.ledger.report(FrameReport(frames, offset_us, 2_000))

    def told(self) -> list[DeviceEntry]:
        return [entry for entry in self.ledger.feed if isinstance(entry, DeviceEntry)]


def test_stages_add_up_from_the_pose_to_the_eye() -> None:
    place = Place()
    for _ in range(20):
        place.report(place.send())
    stages = place.ledger.stages()
    expected = dict(zip(STAGES, (4, 2, 20, 1, 1, 6, 1, 5, 3, 8, 51), strict=True))
    assert {name: stage.p50 for name, stage in stages.items()} == expected
    assert {name: stage.p99 for name, stage in stages.items()} == expected
    assert sum(stage.p50 for name, stage in stages.items() if name != "total") == stages["total"].p50
    assert all(stage.count == 20 for stage in stages.values())


def test_a_device_that_reports_nothing_leaves_what_the_server_knows() -> None:
    place = Place()
    place.send()
    assert set(place.ledger.stages()) == {"wait", "draw", "read_back", "queue", "encode", "send"}
    assert place.ledger.frames_missing == 0


def test_before_clocks_are_aligned_frames_count_and_times_do_not() -> None:
    place = Place()
    place.report(place.send(), offset_us=None)
    assert place.ledger.frames_arrived == 1
    assert "network" not in place.ledger.stages()
    assert place.told() == []


def test_percentiles_tell_the_slow_ones_from_the_usual() -> None:
    place = Place()
    for index in range(100):
        frame = place.send()
        late = 80_000 if index % 10 == 9 else 0
        assert frame.received_us is not None
        assert frame.decoded_us is not None
        place.clock.now_us += late
        place.report(ReportedFrame(frame.rtp_timestamp, frame.received_us + late, frame.decoded_us + late))
    network = place.ledger.stages()["network"]
    assert (network.p50, network.p95, network.p99) == (5, 85, 85)
    assert "show" not in place.ledger.stages()
    assert place.ledger.stages()["total"].p50 == 43, "up to the decoded picture, where no more is known"


def test_frames_that_never_arrive_are_counted_once_later_ones_did() -> None:
    place = Place()
    lost = [place.send() for _ in range(3)]
    seen = [place.send() for _ in range(200)]
    assert place.clock.now_us > 0
    place.report(*seen[:64])
    assert place.ledger.frames_missing == len(lost)
    place.report(*seen[64:128])
    assert place.ledger.frames_missing == len(lost)
    assert [entry.frame_id for entry in place.told() if entry.missing] == [1, 2, 3]
    place.report(*lost)
    assert place.ledger.frames_missing == len(lost), "their books are closed"


def test_a_frame_is_not_missing_while_its_report_may_still_come() -> None:
    place = Place()
    place.send()
    place.report(place.send())
    assert place.ledger.frames_missing == 0
    place.clock.now_us += int(MISSING_AFTER_SECONDS * 1e6)
    place.report(place.send())
    assert place.ledger.frames_missing == 1


def test_a_report_that_comes_twice_counts_once() -> None:
    place = Place()
    frame = place.send()
    place.report(frame)
    place.report(frame)
    assert place.ledger.frames_arrived == 1
    assert len(place.told()) == 1


def test_still_pictures_and_repeats_of_a_pose_are_no_latency() -> None:
    place = Place()
    place.report(place.send(pose_id=7))
    place.report(place.send(pose_id=7))
    place.report(place.send(pose_id=7, flags=FrameFlags.STILL))
    place.report(place.send(flags=FrameFlags.KEEP_ALIVE))
    assert place.ledger.stages()["total"].count == 1


@pytest.mark.parametrize("lie_us", [-3_000_000, 3_000_000, 1 << 61, -(1 << 61)])
def test_times_that_cannot_be_are_not_believed(lie_us: int) -> None:
    place = Place()
    frame = place.send()
    assert frame.received_us is not None
    place.report(ReportedFrame(frame.rtp_timestamp, frame.received_us + lie_us), ReportedFrame(424242, 1, 2, 3))
    assert place.told() == []
    assert "network" not in place.ledger.stages()


def test_shown_before_decoded_is_not_believed() -> None:
    place = Place()
    frame = place.send()
    place.report(ReportedFrame(frame.rtp_timestamp, frame.shown_us, frame.decoded_us, frame.received_us))
    assert place.told() == []


def test_memory_is_bounded_however_long_a_device_is_silent() -> None:
    place = Place()
    for _ in range(3 * OPEN_FRAMES):
        place.send()
    assert len(place.ledger._open) == OPEN_FRAMES
    assert place.ledger.frames_missing == 0, "a device that reports nothing misses nothing"


def test_old_frames_leave_the_percentiles_and_another_device_begins_anew() -> None:
    place = Place()
    place.report(place.send())
    place.clock.now_us += int(STAGE_SECONDS * 1e6)
    assert place.ledger.stages() == {}
    place.report(place.send())
    place.ledger.begin_device()
    assert place.ledger.stages() == {}
    assert place.ledger.frames_arrived == 0
    assert place.ledger.display_delay_us is None


def test_the_delay_until_a_picture_is_seen_is_learnt() -> None:
    place = Place()
    for _ in range(50):
        place.report(place.send())
    assert place.ledger.display_delay_us == pytest.approx(45_000, abs=10)
    assert place.ledger.input_delay_us == pytest.approx(4_000, abs=10)


def test_a_clock_that_is_off_moves_time_between_the_ways_and_not_the_sum() -> None:
    place = Place()
    place.report(place.send(), offset_us=OFFSET_US + 6_000)
    stages = place.ledger.stages()
    assert stages["input"].p50 == 0
    assert stages["input"].p50 + stages["network"].p50 == 9
    assert stages["total"].p50 == 51
