"""Offers and answers: the codec is chosen explicitly, hostile text becomes one typed error."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.negotiation import (
    LocalCandidate,
    TransportParameters,
    build_answer,
    build_offer,
    h264_profile,
    parse_answer,
    parse_candidate,
    parse_offer,
)

CHROMIUM = (Path(__file__).parent / "data" / "chromium-offer.sdp").read_text()
FINGERPRINT = ":".join(["AB"] * 32)
OURS = TransportParameters("user", "p" * 22, (("sha-256", FINGERPRINT),), "active")
CANDIDATE = LocalCandidate("1", 100, "127.0.0.1", 50001)


def answer_to(offer_text: str) -> str:
    offer = parse_offer(offer_text)
    return build_answer(
        offer,
        OURS,
        (CANDIDATE,),
        video_ssrc=11,
        retransmission_ssrc=12,
        protection_ssrc=13,
        session_id=1,
        max_message_bytes=1000,
    )


def without_h264(text: str) -> str:
    return re.sub(r"(?m)^a=rtpmap:(\d+) H264/90000", r"a=rtpmap:\1 X264/90000", text)


def refused(text: str) -> Result:
    with pytest.raises(FarframeError) as caught:
        parse_offer(text)
    assert caught.value.next_step
    return caught.value.result


def test_chromium_offers_vp8_first_and_gets_h264() -> None:
    assert CHROMIUM.index("VP8/90000") < CHROMIUM.index("H264/90000")
    answer = answer_to(CHROMIUM)
    assert set(re.findall(r"a=rtpmap:\d+ (\S+)", answer)) == {"H264/90000", "rtx/90000", "flexfec-03/90000"}
    offer = parse_offer(CHROMIUM)
    assert offer.codec.profile == "constrained baseline"
    assert "packetization-mode=1;profile-level-id=42e01f" in offer.codec.parameters
    assert f"a=fmtp:{offer.codec.retransmission_type} apt={offer.codec.payload_type}" in CHROMIUM
    assert offer.codec.feedback == ("nack", "nack pli", "ccm fir", "transport-cc")
    assert offer.codec.transport_sequence_id and offer.codec.playout_delay_id
    assert not offer.codec.abs_send_time_id, "of use to REMB only"


def test_without_transport_wide_feedback_remb_is_agreed() -> None:
    for text in (CHROMIUM.replace("transport-cc", "transport-xx"), CHROMIUM.replace("transport-wide-cc", "other")):
        codec = parse_offer(text).codec
        assert codec.feedback == ("nack", "nack pli", "ccm fir", "goog-remb")
        assert codec.abs_send_time_id and not codec.transport_sequence_id
        assert "transport-wide-cc" not in answer_to(text) and "transport-cc" not in answer_to(text)


def test_audio_is_declined_and_sections_keep_their_order() -> None:
    answer = answer_to(CHROMIUM)
    assert re.findall(r"(?m)^m=(\w+) (\d+)", answer) == [("audio", "0"), ("video", "50001"), ("application", "50001")]
    assert "a=group:BUNDLE 1 2\r\n" in answer
    assert "a=sendonly" in answer


def test_names_of_mdns_are_skipped() -> None:
    assert ".local" in CHROMIUM
    assert parse_offer(CHROMIUM).candidates == ()


def test_a_main_profile_is_taken_when_nothing_better_is_offered() -> None:
    text = CHROMIUM.replace("profile-level-id=42e01f", "profile-level-id=4d001f").replace(
        "profile-level-id=42001f", "profile-level-id=64001f"
    )
    assert parse_offer(text).codec.profile == "main"


def test_no_h264_is_a_codec_error() -> None:
    assert refused(without_h264(CHROMIUM)) is Result.VIDEO_CODEC_NOT_AVAILABLE
    assert refused(CHROMIUM.replace("packetization-mode=1", "packetization-mode=0")) is Result.VIDEO_CODEC_NOT_AVAILABLE
    only_444 = re.sub(r"profile-level-id=\w{6}", "profile-level-id=f4001f", CHROMIUM)
    assert refused(only_444) is Result.VIDEO_CODEC_NOT_AVAILABLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "v=0",
        "v=0\r\nm=video\r\n",
        CHROMIUM.replace("a=group:BUNDLE 0 1 2", ""),
        CHROMIUM.replace("a=recvonly", "a=sendonly"),
        CHROMIUM.replace("a=rtcp-mux", ""),
        CHROMIUM.replace("webrtc-datachannel", "something"),
        re.sub("(?m)^a=ice-pwd.*", "", CHROMIUM),
        re.sub("(?m)^a=ice-ufrag.*", "a=ice-ufrag:ab", CHROMIUM),
        re.sub("(?m)^a=ice-ufrag.*", "a=ice-ufrag:ab\u00e9\u00e9", CHROMIUM),
        re.sub("(?m)^a=fingerprint.*", "a=fingerprint:md5 AA", CHROMIUM),
        re.sub("(?m)^a=setup.*", "a=setup:holdconn", CHROMIUM),
        re.sub("(?m)^a=sctp-port.*", "a=sctp-port:99999999999999999999999", CHROMIUM),
        CHROMIUM.replace("a=mid:1", "a=mid:0"),
        CHROMIUM + "a=x\r\n" * 3000,
        CHROMIUM + "a=" + "x" * 70_000,
        CHROMIUM + "m=audio 9 RTP/AVP 0\r\na=mid:x\r\n" * 40,
    ],
)
def test_what_cannot_be_answered_is_a_handshake_error(text: str) -> None:
    assert refused(text) is Result.HANDSHAKE_FAILED


def test_mutated_offers_are_answered_or_refused_but_never_fail() -> None:
    choose = random.Random(20)
    lines = CHROMIUM.splitlines()
    outcomes = set()
    for _ in range(1500):
        mutated = list(lines)
        for _ in range(choose.randint(1, 6)):
            at = choose.randrange(len(mutated))
            kind = choose.randrange(4)
            if kind == 0:
                del mutated[at]
            elif kind == 1:
                mutated.insert(at, choose.choice(lines))
            elif kind == 2:
                characters = list(mutated[at])
                for _ in range(choose.randint(1, 8)):
                    characters.insert(
                        choose.randrange(len(characters) + 1), chr(choose.choice([0, 32, 45, 58, 57, 233, 0x661]))
                    )
                mutated[at] = "".join(characters)
            else:
                mutated[at] = mutated[at][: choose.randrange(len(mutated[at]) + 1)]
        try:
            assert answer_to("\r\n".join(mutated)).startswith("v=0")
            outcomes.add("answered")
        except FarframeError as error:
            assert error.result in (Result.HANDSHAKE_FAILED, Result.VIDEO_CODEC_NOT_AVAILABLE)
            outcomes.add(str(error.result))
    assert {"answered", "HandshakeFailed"} <= outcomes


def test_our_offer_and_answer_understand_each_other() -> None:
    theirs = TransportParameters("them", "q" * 24, (("sha-256", FINGERPRINT),), "actpass")
    offer_text = build_offer(theirs, (CANDIDATE,), session_id=2, max_message_bytes=2000)
    offer = parse_offer(offer_text)
    assert offer.transport == theirs
    assert [(c.host, c.port) for c in offer.candidates] == [("127.0.0.1", 50001)]
    answer = parse_answer(answer_to(offer_text))
    assert answer.transport == OURS
    assert (answer.video_ssrc, answer.retransmission_ssrc, answer.protection_ssrc) == (11, 12, 13)
    assert answer.max_message_bytes == 1000
    assert answer.codec == offer.codec


def test_error_correction_is_agreed_only_with_the_reports_that_say_when_it_is_of_use() -> None:
    assert parse_offer(CHROMIUM).codec.protection_type == 49
    assert "a=ssrc-group:FEC-FR 11 13" in answer_to(CHROMIUM)
    without_reports = re.sub(r"(?m)^a=rtcp-fb:\d+ transport-cc\r?\n", "", CHROMIUM)
    assert parse_offer(without_reports).codec.protection_type is None
    without = re.sub(r"(?m)^a=rtpmap:\d+ flexfec-03/90000\r?\n", "", CHROMIUM)
    answer = answer_to(without)
    assert "FEC-FR" not in answer and "flexfec" not in answer and "ssrc:13" not in answer


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("a=ssrc-group:FEC-FR 11 13\r\na=ssrc-group:FID 11 12", (11, 12, 13)),
        ("a=ssrc-group:FID 11 12", (11, 12, None)),
        ("a=ssrc-group:FID 11 12\r\na=ssrc-group:FEC-FR 99 13", (11, 12, None)),
        ("a=ssrc-group:FEC-FR\r\na=ssrc-group:SIM 11 12 13", (11, None, None)),
    ],
)
def test_the_groups_of_an_answer(groups: str, expected: tuple[int | None, ...]) -> None:
    theirs = TransportParameters("them", "q" * 24, (("sha-256", FINGERPRINT),), "actpass")
    text = answer_to(build_offer(theirs, (CANDIDATE,), session_id=2, max_message_bytes=2000))
    text = re.sub(r"(?m)^a=ssrc-group:FID 11 12\r\na=ssrc-group:FEC-FR 11 13\r$", groups + "\r", text)
    answer = parse_answer(text)
    assert (answer.video_ssrc, answer.retransmission_ssrc, answer.protection_ssrc) == expected


def test_an_answer_that_declines_is_an_error() -> None:
    theirs = TransportParameters("them", "q" * 24, (("sha-256", FINGERPRINT),), "actpass")
    text = answer_to(build_offer(theirs, (), session_id=2, max_message_bytes=2000))
    for bad in (
        text.replace("m=video 50001", "m=video 0"),
        text.replace("a=setup:active", "a=setup:actpass"),
        "v=0",
        "",
    ):
        with pytest.raises(FarframeError):
            parse_answer(bad)


def test_passwords_are_not_shown() -> None:
    assert "pppp" not in repr(OURS)
    assert "vdOSgS7soVHfVDK" not in repr(parse_offer(CHROMIUM))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("1 1 udp 2130706431 192.0.2.1 5000 typ host", "192.0.2.1"),
        ("1 1 UDP 1 2001:db8::1 5000 typ srflx raddr :: rport 1", "2001:db8::1"),
        ("1 1 tcp 1 192.0.2.1 9 typ host tcptype active", None),
        ("1 2 udp 1 192.0.2.1 5000 typ host", None),
        ("1 1 udp 1 abc.local 5000 typ host", None),
        ("1 1 udp 1 0.0.0.0 5000 typ host", None),
        ("1 1 udp 1 224.0.0.1 5000 typ host", None),
        ("1 1 udp 1 192.0.2.1 0 typ host", None),
        ("1 1 udp x 192.0.2.1 5000 typ host", None),
        ("nonsense", None),
    ],
)
def test_candidates(text: str, host: str | None) -> None:
    candidate = parse_candidate(text)
    assert (candidate.host if candidate else None) == host


@pytest.mark.parametrize(
    ("level", "name"),
    [
        ("42e01f", "constrained baseline"),
        ("42001f", "baseline"),
        ("4d001f", "main"),
        ("64001f", "high"),
        ("640c1f", "constrained high"),
        ("f4001f", None),
        ("zz", None),
        ("", None),
    ],
)
def test_profiles(level: str, name: str | None) -> None:
    assert h264_profile(level) == name
