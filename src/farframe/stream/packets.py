"""H.264 in RTP packets and back (RFC 6184, packetization mode 1; RFC 4588 for retransmissions). No I/O.

Annex B access units are split at their start codes; a unit that fits goes alone, small ones at the head of a frame
(parameter sets) share a STAP-A, large ones are cut into FU-A fragments of equal size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PAYLOAD_BYTES = 1156
"""RTP payload of one packet. With RTP, its extensions, SRTP, UDP and IPv6 a datagram stays within 1280 bytes, the least
that every IPv6 path carries whole, and so does a parity packet, which has 24 bytes more."""

RTX_OVERHEAD_BYTES = 2

NAL_SPS = 7
NAL_STAP_A = 24
NAL_FU_A = 28

_START_CODE = b"\x00\x00\x01"
_LONG_START_CODE = b"\x00\x00\x00\x01"
_LENGTH = struct.Struct(">H")
_RTP_HEAD = struct.Struct(">BBHII")
_EXTENSION_HEAD = struct.Struct(">HH")

ONE_BYTE_EXTENSIONS = 0xBEDE
"""Profile of RTP header extensions with one-byte heads (RFC 8285)."""


def split_access_unit(data: bytes) -> Iterator[memoryview]:
    """The NAL units of an Annex B access unit, without their start codes and without a copy."""
    view = memoryview(data)
    position = data.find(_START_CODE)
    while position >= 0:
        start = position + len(_START_CODE)
        position = data.find(_START_CODE, start)
        end = len(data) if position < 0 else position
        while end > start and data[end - 1] == 0:  # trailing zeros belong to the next, four-byte start code
            end -= 1
        if end > start:
            yield view[start:end]


def packetize(data: bytes, max_payload: int = MAX_PAYLOAD_BYTES) -> list[bytes]:
    """The RTP payloads, in order, that carry one Annex B access unit. Empty for data without a NAL unit."""
    payloads: list[bytes] = []
    small: list[memoryview] = []
    small_bytes = 1

    def flush() -> None:
        nonlocal small_bytes
        if len(small) == 1:
            payloads.append(bytes(small[0]))
        elif small:
            head = NAL_STAP_A | max(unit[0] & 0x60 for unit in small)
            payloads.append(
                bytes([head]) + b"".join(part for unit in small for part in (_LENGTH.pack(len(unit)), unit))
            )
        small.clear()
        small_bytes = 1

    for unit in split_access_unit(data):
        size = len(unit)
        if small_bytes + _LENGTH.size + size > max_payload:
            flush()
        if size > max_payload:
            payloads.extend(_fragment(unit, max_payload))
        else:
            small.append(unit)
            small_bytes += _LENGTH.size + size
    flush()
    return payloads


def _fragment(unit: memoryview, max_payload: int) -> Iterator[bytes]:
    indicator = (unit[0] & 0xE0) | NAL_FU_A
    kind = unit[0] & 0x1F
    body = unit[1:]
    count = -(-len(body) // (max_payload - 2))
    size = -(-len(body) // count)
    for index in range(count):
        flags = (0x80 if index == 0 else 0) | (0x40 if index == count - 1 else 0)
        yield bytes((indicator, flags | kind)) + body[index * size : (index + 1) * size]


def depacketize(payload: bytes) -> bytes:
    """The piece of an Annex B stream that one payload carries. Raises ``ValueError`` for a malformed one."""
    if len(payload) < 2:
        raise ValueError("an H.264 payload is shorter than two bytes")
    kind = payload[0] & 0x1F
    if 1 <= kind < NAL_STAP_A:
        return _LONG_START_CODE + payload
    if kind == NAL_FU_A:
        if payload[1] & 0x80:
            return _LONG_START_CODE + bytes([(payload[0] & 0xE0) | (payload[1] & 0x1F)]) + payload[2:]
        return payload[2:]
    if kind == NAL_STAP_A:
        pieces = []
        position = 1
        while position < len(payload):
            if position + _LENGTH.size > len(payload):
                raise ValueError("a STAP-A length is truncated")
            (size,) = _LENGTH.unpack_from(payload, position)
            position += _LENGTH.size
            if size == 0 or position + size > len(payload):
                raise ValueError("a STAP-A unit is truncated")
            pieces += [_LONG_START_CODE, payload[position : position + size]]
            position += size
        return b"".join(pieces)
    raise ValueError(f"NAL unit type {kind} is not used in packetization mode 1")


def starts_keyframe(payload: bytes) -> bool:
    """Whether this payload is the first of a keyframe: a sequence parameter set, which our keyframes begin with."""
    if len(payload) < 4:
        return False
    kind = payload[0] & 0x1F
    return kind == NAL_SPS or (kind == NAL_STAP_A and payload[3] & 0x1F == NAL_SPS)


@dataclass(slots=True)
class RtpPacket:
    """One RTP packet as received. ``abs_send_time`` (24 bits) and ``transport_sequence`` (16 bits) are header
    extensions, if there were such."""

    payload_type: int
    marker: bool
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes
    abs_send_time: int | None = None
    transport_sequence: int | None = None


def build_packet(
    payload_type: int,
    marker: bool,
    sequence_number: int,
    timestamp: int,
    ssrc: int,
    extensions: bytes,
    payload: bytes,
) -> bytes:
    """The bytes of an RTP packet. ``extensions`` are one-byte header extension elements, maybe none; they are padded
    here."""
    extensions += bytes(-len(extensions) % 4)
    head = _RTP_HEAD.pack(
        0x90 if extensions else 0x80,
        payload_type | (0x80 if marker else 0),
        sequence_number & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        ssrc,
    )
    if extensions:
        return head + _EXTENSION_HEAD.pack(ONE_BYTE_EXTENSIONS, len(extensions) // 4) + extensions + payload
    return head + payload


def parse_packet(data: bytes, abs_send_time_id: int = 0, transport_sequence_id: int = 0) -> RtpPacket:
    """An RTP packet from untrusted bytes. Raises ``ValueError`` for anything that is none."""
    if len(data) < _RTP_HEAD.size or data[0] >> 6 != 2:
        raise ValueError("not an RTP packet")
    flags, kind, sequence_number, timestamp, ssrc = _RTP_HEAD.unpack_from(data)
    position = _RTP_HEAD.size + 4 * (flags & 0x0F)
    end = len(data)
    abs_send_time: int | None = None
    transport_sequence: int | None = None
    if flags & 0x10:
        if position + 4 > end:
            raise ValueError("an RTP header extension is truncated")
        profile, words = _EXTENSION_HEAD.unpack_from(data, position)
        position += 4
        if position + 4 * words > end:
            raise ValueError("an RTP header extension is truncated")
        if profile == ONE_BYTE_EXTENSIONS:
            end_of_extensions = position + 4 * words
            if abs_send_time_id:
                abs_send_time = _find_extension(data, position, end_of_extensions, abs_send_time_id, 3)
            if transport_sequence_id:
                transport_sequence = _find_extension(data, position, end_of_extensions, transport_sequence_id, 2)
        position += 4 * words
    if flags & 0x20:
        end -= data[-1]
    if position > end:
        raise ValueError("an RTP packet is truncated")
    return RtpPacket(
        kind & 0x7F,
        bool(kind & 0x80),
        sequence_number,
        timestamp,
        ssrc,
        data[position:end],
        abs_send_time,
        transport_sequence,
    )


def blank_extensions(data: bytes, identifiers: tuple[int, ...]) -> bytes:
    """The same packet with these header extension elements zeroed; ``data`` is one that :func:`parse_packet` took."""
    if not data[0] & 0x10:
        return data
    position = _RTP_HEAD.size + 4 * (data[0] & 0x0F)
    profile, words = _EXTENSION_HEAD.unpack_from(data, position)
    if profile != ONE_BYTE_EXTENSIONS:
        return data
    blanked = bytearray(data)
    position += _EXTENSION_HEAD.size
    end = position + 4 * words
    while position < end:
        head = data[position]
        size = (head & 0x0F) + 1
        if head == 0:
            position += 1
            continue
        if head >> 4 in identifiers and position + 1 + size <= end:
            blanked[position + 1 : position + 1 + size] = bytes(size)
        position += 1 + size
    return bytes(blanked)


def original_packet(data: bytes, packet: RtpPacket, payload_type: int, ssrc: int) -> bytes:
    """The packet that a retransmission ``data`` (RFC 4588), parsed as ``packet``, repeats; its extensions are the
    retransmission's. ``packet.payload`` holds the two bytes of the original number at least."""
    head_bytes = len(data) - len(packet.payload) - (data[-1] if data[0] & 0x20 else 0)
    return (
        bytes([data[0] & ~0x20, (data[1] & 0x80) | payload_type])
        + packet.payload[:RTX_OVERHEAD_BYTES]
        + data[4:8]
        + ssrc.to_bytes(4, "big")
        + data[_RTP_HEAD.size : head_bytes]
        + packet.payload[RTX_OVERHEAD_BYTES:]
    )


def _find_extension(data: bytes, position: int, end: int, wanted: int, wanted_size: int) -> int | None:
    """The value of one header extension element of that size, as a number."""
    while position < end:
        head = data[position]
        if head == 0:
            position += 1
            continue
        size = (head & 0x0F) + 1
        if head >> 4 == wanted and size == wanted_size and position + 1 + size <= end:
            return int.from_bytes(data[position + 1 : position + 1 + size], "big")
        position += 1 + size
    return None


def one_byte_extension(identifier: int, value: bytes) -> bytes:
    """One RTP header extension element of 1 to 16 bytes; ``identifier`` is 1 to 14."""
    return bytes([(identifier << 4) | (len(value) - 1)]) + value
