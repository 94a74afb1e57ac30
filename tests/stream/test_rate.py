"""The rate: congestion lowers it, a quiet scene does not, and retransmissions cannot crowd out the stream."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, pack_remb_fci

from farframe.stream.encoder import EncodedFrame
from farframe.stream.negotiation import OFFERED_CODEC
from farframe.stream.packets import RtpPacket, parse_packet
from farframe.stream.rate import MIN_TARGET_BITRATE, RateController, RetransmissionBudget
from farframe.stream.sender import VideoSender
from tests.stream.simulated_line import SimulatedClock


def send_for(rate: RateController, bits_per_second: int, start: float, seconds: float = 1.0) -> float:
    for step in range(100):
        rate.on_sent(int(bits_per_second * seconds / 800), start + step * seconds / 100)
    return start + seconds


def test_an_estimate_that_sits_above_a_quiet_scene_is_no_limit() -> None:
    rate = RateController(8_000_000)
    now = 0.0
    for _ in range(10):
        now = send_for(rate, 400_000, now)
        rate.on_remb(600_000, now)
        rate.on_loss(0.0, now)
    assert rate.target_bitrate == 8_000_000


def test_a_falling_estimate_is_obeyed_with_a_margin_and_followed_up_again() -> None:
    rate = RateController(8_000_000)
    now = send_for(rate, 6_000_000, 0.0)
    rate.on_remb(6_500_000, now)
    rate.on_remb(2_000_000, now + 0.1)
    assert rate.target_bitrate == 1_700_000
    rate.on_remb(3_000_000, now + 1)
    assert rate.target_bitrate == 2_550_000
    rate.on_remb(20_000_000, now + 2)
    assert rate.target_bitrate == 8_000_000


def test_a_first_estimate_far_below_what_was_sent_is_congestion() -> None:
    rate = RateController(8_000_000)
    now = send_for(rate, 4_000_000, 0.0)
    rate.on_remb(1_000_000, now)
    assert rate.target_bitrate == 850_000


def test_loss_lowers_the_rate_and_its_absence_raises_it_slowly() -> None:
    rate = RateController(8_000_000, start=4_000_000)
    rate.on_loss(0.05, 0.0)
    assert rate.target_bitrate == 4_000_000
    rate.on_loss(0.2, 1.0)
    assert rate.target_bitrate == 3_600_000
    rate.on_loss(0.2, 1.1)
    assert rate.target_bitrate == 3_600_000, "one report at a time"
    rate.on_loss(0.0, 1.5)
    assert rate.target_bitrate == 3_600_000, "not at once after a cut"
    rate.on_loss(0.0, 2.5)
    assert rate.target_bitrate == 3_888_000
    for second in range(40):
        rate.on_loss(0.0, 3.5 + second)
    assert rate.target_bitrate == 8_000_000


def test_a_collapse_lowers_the_rate_at_once_to_what_arrives_and_holds_it_there() -> None:
    rate = RateController(8_000_000, start=4_000_000)
    now = send_for(rate, 4_000_000, 0.0)
    rate.on_loss(0.625, now)
    assert abs(rate.target_bitrate - 0.85 * 1_500_000) < 50_000
    rate.on_remb(1_450_000, now)
    for second in range(20):
        rate.on_loss(0.0, now + 2 + second)
    assert rate.target_bitrate <= 0.86 * 1_500_000, "climbing further would fill the line's queue again"


def test_the_rate_never_falls_below_its_floor() -> None:
    rate = RateController(8_000_000)
    for second in range(60):
        rate.on_loss(1.0, float(second))
    rate.on_remb(1000, 61.0)
    rate.on_remb(10, 62.0)
    assert rate.target_bitrate == MIN_TARGET_BITRATE


def test_a_packet_is_not_sent_again_within_a_tenth_of_a_second() -> None:
    budget = RetransmissionBudget()
    answers = [budget.allows(7, 1200, 4_000_000, now) for now in (1.0, 1.05, 1.099, 1.101)]
    assert answers == [True, False, False, True]


def test_a_short_round_trip_allows_the_next_try_sooner() -> None:
    budget = RetransmissionBudget()
    answers = [budget.allows(7, 1200, 4_000_000, now, 0.04) for now in (1.0, 1.03, 1.06)]
    assert answers == [True, False, True]
    assert not budget.allows(7, 1200, 4_000_000, 1.08, 0.001), "but never within 30 ms"
    assert not budget.allows(7, 1200, 4_000_000, 1.11, 5.0)
    assert budget.allows(7, 1200, 4_000_000, 1.17, 5.0), "nor does a long one delay it beyond 100 ms"


def test_retransmissions_stay_below_their_share() -> None:
    budget = RetransmissionBudget()
    sent = sum(
        1200 * budget.allows(number % 65536, 1200, 1_000_000, number / 2000) for number in range(20_000)
    )  # 10 s of requests for 19 Mbit/s
    assert sent * 8 / 10 < 0.34 * 1_000_000
    assert sent * 8 / 10 > 0.25 * 1_000_000


def test_without_transport_wide_feedback_the_sender_follows_remb() -> None:
    clock = SimulatedClock()
    sent: list[RtpPacket] = []
    rates: list[int] = []
    codec = replace(OFFERED_CODEC, transport_sequence_id=0)
    sender = VideoSender(
        codec,
        max_bitrate=8_000_000,
        start_bitrate=4_000_000,
        send_rtp=lambda data: sent.append(parse_packet(data, codec.abs_send_time_id, 5)),
        send_rtcp=lambda data: None,
        on_keyframe_request=lambda: None,
        on_bitrate=rates.append,
        clock=clock,
        wall_clock=clock,
        chooser=random.Random(1),
    )
    sender.start(clock)
    for index in range(30):
        data = b"\0\0\0\1\x67abcd\0\0\0\1\x65" + b"\1" * 16_000
        sender.send(EncodedFrame(data, index * 3000, index == 0, 0.0, 0.0))
        clock.run(1 / 30)
    assert all(packet.abs_send_time is not None and packet.transport_sequence is None for packet in sent)
    assert sender.congestion is None
    remb = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=pack_remb_fci(1_000_000, [sender.ssrc]))
    sender.handle_rtcp(bytes(remb))
    assert sender.target_bitrate == 850_000
    assert rates == [850_000]
    assert sender.statistics.estimated_bitrate == pytest.approx(1_000_000, rel=0.01)
    sender.stop()
