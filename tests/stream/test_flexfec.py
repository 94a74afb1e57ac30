"""Parities: what is lost comes back bit by bit, whatever is lost, and hostile ones bring nothing to pass."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.stream.flexfec import (
    KEPT_PACKETS,
    KEPT_PARITIES,
    MAX_BLOCK_PACKETS,
    FlexFecDecoder,
    build_parity,
    coverage,
    parse_parity,
    unsolved,
)
from farframe.stream.packets import (
    blank_extensions,
    build_packet,
    one_byte_extension,
    original_packet,
    parse_packet,
)

SSRC = 0x01020304
EXTENSION = 5


def packet(number: int, payload: bytes, *, marker: bool = False, transport: int = 0) -> bytes:
    extension = one_byte_extension(EXTENSION, transport.to_bytes(2, "big")) + one_byte_extension(6, b"\0\0\0")
    return build_packet(102, marker, number, 90_000 + number, SSRC, extension, payload)


def blank(data: bytes) -> bytes:
    return blank_extensions(data, (EXTENSION,))


def block(
    first: int, count: int, parities: int, seed: int = 1, bursts: bool = False
) -> tuple[list[tuple[int, bytes]], list[bytes]]:
    """Packets of random lengths as they leave, and the payloads of their parities."""
    chance = random.Random(seed)
    packets = []
    for place in range(count):
        number = (first + place) & 0xFFFF
        payload = chance.randbytes(chance.choice([2, 3, 700, 1159, 1160]))
        packets.append((number, packet(number, payload, marker=place == count - 1, transport=chance.randrange(65536))))
    blanked = [(number, blank(data)) for number, data in packets]
    covers = coverage(count, parities, bursts)
    return packets, [build_parity([blanked[place] for place in sorted(places)], SSRC, first) for places in covers]


def receive(
    packets: list[tuple[int, bytes]], parities: list[bytes], lost: set[int], order: random.Random | None = None
) -> dict[int, bytes]:
    """What a decoder restores when the packets at these places do not come."""
    decoder = FlexFecDecoder(SSRC, blank)
    arrivals: list[tuple[str, int, bytes]] = [
        ("packet", number, data) for place, (number, data) in enumerate(packets) if place not in lost
    ]
    arrivals += [("parity", index, payload) for index, payload in enumerate(parities)]
    if order is not None:
        order.shuffle(arrivals)
    found: dict[int, bytes] = {}
    for kind, number, data in arrivals:
        for restored, content in (decoder.add_packet if kind == "packet" else decoder.add_parity)(number, data):
            assert restored not in found
            found[restored] = content
    return found


@given(st.integers(1, MAX_BLOCK_PACKETS), st.data())
def test_what_can_be_solved_comes_back_bit_by_bit_in_any_order(count: int, data: st.DataObject) -> None:
    parities = data.draw(st.integers(1, min(count, 14)))
    first = data.draw(st.sampled_from([0, 1, 65_530, 30_000]))
    lost = data.draw(st.sets(st.integers(0, count - 1), max_size=8))
    packets, payloads = block(first, count, parities)
    covers = coverage(count, parities)
    expected = lost - unsolved(lost, covers)
    found = receive(packets, payloads, lost, random.Random(data.draw(st.integers(0, 9))))
    whole = {number: blank(content) for number, content in packets}
    assert found == {number: whole[number] for number in found}, "some come back before they come themselves"
    assert {packets[place][0] for place in expected} == set(found) & {packets[place][0] for place in lost}


@pytest.mark.parametrize("place", [0, 1, 20, 38, 39], ids=lambda place: f"packet {place}")
def test_any_single_packet_the_first_and_the_last_too_comes_back(place: int) -> None:
    for parities in range(1, 13):
        packets, payloads = block(65_520, 40, parities)
        assert set(receive(packets, payloads, {place})) == {packets[place][0]}


@pytest.mark.parametrize(("count", "parities"), [(6, 3), (13, 4), (24, 5), (35, 6), (46, 7), (46, 12)])
def test_any_two_losses_come_back_while_the_choices_of_parities_differ(count: int, parities: int) -> None:
    covers = coverage(count, parities)
    for pair in itertools.combinations(range(count), 2):
        assert not unsolved(pair, covers), pair


@pytest.mark.parametrize("length", [2, 3, 6, 12])
def test_a_burst_comes_back_wherever_it_hits(length: int) -> None:
    packets, payloads = block(100, 40, length, bursts=True)
    for begin in range(40 - length + 1):
        lost = set(range(begin, begin + length))
        assert len(receive(packets, payloads, lost)) == length, begin


def test_most_patterns_of_five_percent_come_back_with_a_fifth_of_parities() -> None:
    chance = random.Random(4)
    covers = coverage(40, 8)
    failed = 0
    for _ in range(2000):
        lost = {place for place in range(40) if chance.random() < 0.05}
        failed += bool(unsolved(lost, [places for places in covers if chance.random() >= 0.05]))
    assert failed < 0.05 * 2000


def test_parities_that_are_lost_leave_the_others_of_use() -> None:
    packets, payloads = block(7, 20, 5)
    found = receive(packets, payloads[1:], {3})
    assert found == {packets[3][0]: blank(packets[3][1])}


@pytest.mark.parametrize(
    ("places", "size"), [((0, 14), 2), ((0, 15), 6), ((1, 45), 6), ((0, 46), 14), ((0, 62, 63, 108), 14)]
)
def test_the_mask_is_as_long_as_it_has_to_be(places: tuple[int, ...], size: int) -> None:
    base = 65_500
    packets = [((base + place) & 0xFFFF, packet((base + place) & 0xFFFF, b"abc")) for place in places]
    payload = build_parity(packets, SSRC, base)
    assert len(payload) == 18 + size + len(packets[0][1]) - 12
    assert parse_parity(payload).numbers == tuple(number for number, _ in packets)


def test_the_bytes_are_those_of_the_draft() -> None:
    """Written out by hand from section 4.2 of draft-ietf-payload-flexible-fec-scheme-03."""
    one = struct.pack(">BBHII", 0x80, 0x66, 10, 0x100, SSRC) + b"\x0f\xf0"
    two = struct.pack(">BBHII", 0x80, 0xE6, 12, 0x100, SSRC) + b"\x01"
    expected = bytes.fromhex("00800003000000000100000001020304000ad0000ef0")
    assert build_parity([(10, one), (12, two)], SSRC, 10) == expected


def test_a_retransmission_serves_as_the_packet_that_it_repeats() -> None:
    packets, payloads = block(50, 6, 1)
    decoder = FlexFecDecoder(SSRC, blank)
    for number, data in packets[2:]:
        decoder.add_packet(number, data)
    assert decoder.add_parity(0, payloads[0]) == []
    original = parse_packet(packets[0][1])
    extension = one_byte_extension(EXTENSION, b"\x77\x77") + one_byte_extension(6, b"\0\0\0")
    repeated = build_packet(
        103, original.marker, 9, original.timestamp, SSRC + 1, extension, (50).to_bytes(2, "big") + original.payload
    )
    whole = original_packet(repeated, parse_packet(repeated), 102, SSRC)
    assert blank(whole) == blank(packets[0][1])
    assert decoder.add_packet(50, whole) == [(51, blank(packets[1][1]))]


# Hostile


@given(st.binary(max_size=200))
def test_noise_is_no_parity_or_a_harmless_one(noise: bytes) -> None:
    try:
        parity = parse_parity(noise)
    except ValueError:
        return
    assert 1 <= len(parity.numbers) <= 109


@given(st.integers(0, 400), st.integers(0, 255), st.integers(0, 5))
def test_a_changed_parity_restores_no_packet_longer_than_it_is(at: int, value: int, lost: int) -> None:
    packets, payloads = block(50, 6, 1)
    changed = bytearray(payloads[0])
    changed[at % len(changed)] ^= value
    decoder = FlexFecDecoder(SSRC, blank)
    for place, (number, data) in enumerate(packets):
        if place != lost:
            decoder.add_packet(number, data)
    try:
        found = decoder.add_parity(0, bytes(changed))
    except ValueError:
        return
    for _, data in found:
        assert len(data) <= 12 + len(changed)
        with contextlib.suppress(ValueError):  # which the receiver expects
            parse_packet(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload[:17],
        lambda payload: payload[:19],
        lambda payload: b"\x80" + payload[1:],
        lambda payload: b"\x40" + payload[1:],
        lambda payload: payload[:8] + b"\2" + payload[9:],
        lambda payload: payload[:18] + b"\x80\0" + payload[20:],
        lambda payload: payload[:18] + b"\0\1",
        lambda payload: payload[:18] + b"\0\1" + b"\0\0\0\1" + b"\0" * 8 + b"x",
        lambda payload: payload + bytes(2000),
    ],
    ids=[
        "cut in the head",
        "cut in the mask",
        "retransmission",
        "fixed pattern",
        "two streams",
        "covers nothing",
        "mask without a second part",
        "mask without an end",
        "too long",
    ],
)
def test_what_is_not_used_is_refused(change: object) -> None:
    payload = block(50, 6, 1)[1][0]
    with pytest.raises(ValueError):
        parse_parity(change(payload))  # type: ignore[operator]


def test_a_parity_of_another_stream_is_refused() -> None:
    with pytest.raises(ValueError):
        FlexFecDecoder(SSRC + 1, blank).add_parity(0, block(50, 6, 1)[1][0])


def test_a_flood_is_kept_within_bounds() -> None:
    decoder = FlexFecDecoder(SSRC, blank)
    chance = random.Random(2)
    for number in range(3000):
        base = chance.randrange(65536)
        payload = build_parity([(base, packet(base, b"a")), (base + 1, packet(base + 1, b"b"))], SSRC, base)
        decoder.add_parity(number, payload)
        decoder.add_packet(number, packet(number, b"c"))
    assert len(decoder._parities) <= KEPT_PARITIES
    assert len(decoder._packets) <= KEPT_PACKETS


@pytest.mark.parametrize(("packets", "parities"), [(0, 1), (47, 3), (5, 6), (5, 0)])
def test_what_makes_no_block_is_an_error(packets: int, parities: int) -> None:
    with pytest.raises(ValueError):
        coverage(packets, parities)
