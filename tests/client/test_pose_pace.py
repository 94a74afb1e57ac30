"""Poses into a line that says nothing: ever fewer, and all of them again once a frame comes."""

from __future__ import annotations

from itertools import pairwise

from farframe.client._pose_pace import MAX_SPACING_SECONDS, SILENT_SECONDS, PosePace

POSES_PER_SECOND = 60
ONE_PACKET_OF_POSES = 11
"""A packet's worth (1,191 bytes) of poses of one view, with their heads."""


def sent(pace: PosePace, begin: float, end: float) -> list[float]:
    """When poses went out, of sixty a second."""
    times = (begin + index / POSES_PER_SECOND for index in range(round((end - begin) * POSES_PER_SECOND)))
    return [at for at in times if pace.allows(at)]


def test_poses_are_sent_as_they_come_while_frames_come_back() -> None:
    pace = PosePace()
    for second in range(5):
        assert len(sent(pace, second, second + SILENT_SECONDS)) == SILENT_SECONDS * POSES_PER_SECOND
        pace.heard()


def test_a_silence_never_takes_more_than_a_packet_of_poses_from_one_timer_to_the_next() -> None:
    pace = PosePace()
    times = sent(pace, 0.0, 10.0)
    for begin, end in ((0.4, 1.2), (1.2, 2.8), (2.8, 5.8), (1.0, 2.0), (2.0, 3.0)):
        assert 2 < sum(begin <= at < end for at in times) <= ONE_PACKET_OF_POSES
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) < MAX_SPACING_SECONDS + 1.5 / POSES_PER_SECOND, "a line that is back is soon found"


def test_all_of_them_are_sent_again_once_a_frame_comes() -> None:
    pace = PosePace()
    sent(pace, 0.0, 5.0)
    pace.heard()
    assert len(sent(pace, 5.0, 5.2)) == 0.2 * POSES_PER_SECOND


def test_a_pose_after_a_long_rest_is_no_pose_into_a_silence() -> None:
    pace = PosePace()
    assert pace.allows(0.0)
    pace.heard()
    assert len(sent(pace, 100.0, 100.2)) == 0.2 * POSES_PER_SECOND
