"""The pacer: order, pace, and probes; on a clock that the test moves."""

from __future__ import annotations

import pytest

from farframe.stream.pacer import AHEAD_SECONDS, BURST_SECONDS, MIN_AHEAD_BYTES, STEP_SECONDS, Pacer, QueuedPacket
from farframe.stream.probing import Probe

PACE = 4_800_000.0


def frame(pacer: Pacer, count: int, timestamp: int = 0, size: int = 1000) -> None:
    for index in range(count):
        pacer.push(QueuedPacket(bytes(size), timestamp, index == count - 1, index == 0))


def drain(pacer: Pacer, now: float, window: int = 1 << 30, pace: float = PACE) -> list[QueuedPacket]:
    pacer.refill(pace, now)
    out = []
    while (packet := pacer.take(window)) is not None:
        out.append(packet)
        pacer.sent(len(packet.payload))
        window -= len(packet.payload)
    return out


def test_a_large_frame_leaves_at_the_pace_and_a_pause_saves_nothing_up() -> None:
    pacer = Pacer(0.0)
    frame(pacer, 100)
    now, sent, most = 10.0, 0, 0  # after ten idle seconds
    begin = now
    while pacer.queued_frames:
        count = len(drain(pacer, now))
        sent, most = sent + count, max(most, count)
        now += STEP_SECONDS
    assert sent == 100
    assert most <= PACE * BURST_SECONDS / 8 / 1000 + 1
    assert abs((now - begin) - 100_000 * 8 / PACE) < 0.01


@pytest.mark.parametrize("rate", [400_000.0, 1_000_000.0, 4_000_000.0])
def test_many_large_frames_in_a_row_leave_at_the_rate_but_for_a_short_lead(rate: float) -> None:
    """A picture that moves again after a rest: twelve frames of more than twice their share, thirty a second."""
    pacer = Pacer(0.0)
    lead = max(AHEAD_SECONDS * rate / 8, MIN_AHEAD_BYTES)
    share = int(2.3 * rate / 8 / 30 / 500)
    sent: list[tuple[float, int]] = []
    frames = 0
    for step in range(int(3 / STEP_SECONDS)):
        now = step * STEP_SECONDS
        if frames < 12 and now * 30 >= frames:
            frames += 1
            frame(pacer, share, frames, size=500)
        pacer.refill(2.5 * rate, now, rate)
        while (packet := pacer.take(1 << 30)) is not None:
            pacer.sent(len(packet.payload))
            sent.append((now, len(packet.payload)))
    assert pacer.queued_frames == 0
    for first, (begin, _) in enumerate(sent):
        taken = 0
        for end, size in sent[first:]:
            taken += size
            assert taken <= lead + (end - begin + STEP_SECONDS) * rate / 8 + 500


def test_one_keyframe_leaves_at_the_pace_on_a_line_of_that_rate() -> None:
    pacer = Pacer(0.0)
    frame(pacer, int(AHEAD_SECONDS * PACE / 2.5 / 8 / 500), size=500)
    now = 1.0
    while pacer.queued_frames:
        pacer.refill(PACE, now, PACE / 2.5)
        while (packet := pacer.take(1 << 30)) is not None:
            pacer.sent(len(packet.payload))
        now += STEP_SECONDS
    assert now - 1.0 < AHEAD_SECONDS / 2


def test_what_is_sent_again_overtakes_frames() -> None:
    pacer = Pacer(0.0)
    frame(pacer, 5)
    pacer.push_repair(QueuedPacket(bytes(1000), 0, False, again=7))
    assert [packet.again for packet in drain(pacer, 1.0)][:2] == [7, None]


def test_a_closed_window_holds_frames_but_not_repairs() -> None:
    pacer = Pacer(0.0)
    frame(pacer, 2)
    assert drain(pacer, 1.0, window=0) == []
    pacer.push_repair(QueuedPacket(bytes(1000), 0, False, again=7))
    assert [packet.again for packet in drain(pacer, 1.1, window=-5000)] == [7]
    assert pacer.queued_frames == 1 and pacer.waits


def test_counts_and_dropping() -> None:
    pacer = Pacer(0.0)
    frame(pacer, 3)
    frame(pacer, 3, 3000)
    assert (pacer.queued_frames, pacer.queued_bytes) == (2, 6000)
    pacer.refill(PACE, 0.001)
    assert pacer.take(1) is not None
    assert pacer.drop_frames(), "the first was cut off in the middle"
    assert (pacer.queued_frames, pacer.queued_bytes, pacer.waits) == (0, 0, False)
    frame(pacer, 3)
    assert not pacer.drop_frames()


def test_a_probe_takes_frames_first_and_then_asks_for_filling_at_its_own_pace() -> None:
    pacer = Pacer(0.0)
    pacer.begin_probe(Probe(3, 9_600_000.0, 12_000))
    frame(pacer, 4)
    now, media, filling, clusters = 1.0, 0, 0, set()
    begin = now
    while pacer.cluster:
        pacer.refill(PACE, now)
        while pacer.cluster:
            clusters.add(pacer.cluster)
            packet = pacer.take(1 << 30)
            if packet is None and not pacer.needs_filling:
                break
            media += packet is not None
            filling += packet is None
            pacer.sent(1000)
        now += STEP_SECONDS
    assert (media, filling, clusters) == (4, 8, {3})
    assert 0.004 < now - begin < 0.016
