"""RTP packets: what is packetized comes out whole; what is malformed is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.stream.packets import (
    build_packet,
    depacketize,
    one_byte_extension,
    packetize,
    parse_packet,
    split_access_unit,
    starts_keyframe,
)

# A NAL unit's payload never holds a start code and never ends in zero: here, no zeros at all.
unit_bodies = st.binary(max_size=5000).map(lambda body: body.replace(b"\0", b"\1"))
units = st.lists(st.tuples(st.sampled_from([1, 5, 6, 7, 8]), unit_bodies), min_size=1, max_size=12)


@given(units, st.booleans())
def test_units_survive_packets(parts: list[tuple[int, bytes]], long_codes: bool) -> None:
    whole = [bytes([0x60 | kind]) + b"\x11" + body for kind, body in parts]
    code = b"\0\0\0\1" if long_codes else b"\0\0\1"
    payloads = packetize(code + code.join(whole), 1000)
    assert max(map(len, payloads)) <= 1000
    joined = b"".join(map(depacketize, payloads))
    assert [bytes(unit) for unit in split_access_unit(joined)] == whole


def test_parameter_sets_share_a_packet_and_mark_a_keyframe() -> None:
    access_unit = b"".join(b"\0\0\0\1" + unit for unit in (b"\x67\x42\x01", b"\x68\x01\x02", b"\x65" + b"\x99" * 3000))
    payloads = packetize(access_unit)
    assert len(payloads) == 4
    assert [starts_keyframe(payload) for payload in payloads] == [True, False, False, False]
    assert not starts_keyframe(packetize(b"\0\0\1\x41" + b"\x99" * 20)[0])


def test_data_without_a_unit_makes_no_packet() -> None:
    assert packetize(b"") == packetize(b"\x12\x34\x56") == packetize(b"\0\0\1") == []


@pytest.mark.parametrize(
    "payload", [b"", b"\x78", b"\x78\x00", b"\x78\x00\x05\x01", b"\x78\0\0", b"\x7f\x01", b"\x60\x01"]
)
def test_malformed_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError):
        depacketize(payload)


@given(st.binary(max_size=80))
def test_hostile_packets_raise_value_error_or_parse(data: bytes) -> None:
    try:
        packet = parse_packet(data, 3)
    except ValueError:
        return
    assert len(packet.payload) <= len(data)


def test_a_packet_survives() -> None:
    extensions = one_byte_extension(5, b"\0\0\0") + one_byte_extension(3, b"\x12\x34\x56")
    packet = parse_packet(build_packet(102, True, 65536 + 7, 1 << 32 | 9, 0xFFFFFFFF, extensions, b"abc"), 3)
    assert (packet.payload_type, packet.marker, packet.sequence_number) == (102, True, 7)
    assert (packet.timestamp, packet.ssrc, packet.payload, packet.abs_send_time) == (9, 0xFFFFFFFF, b"abc", 0x123456)
