"""Parity packets, from which a receiver restores what was lost without asking (FlexFEC). No I/O.

The format is that of draft-ietf-payload-flexible-fec-scheme-03, section 4.2, with a flexible mask over one stream, for
that is what browsers take under the name ``flexfec-03``; RFC 8627, its successor, moved the stream's identifier to the
list of contributing sources. A parity packet is the exclusive or of the packets it covers: of their flags, marker and
type, of their lengths, time stamps, and of all that follows the fixed header, the shorter ones as if filled with zeros.
Any one of them follows from it and the others, bit by bit.

Header extensions that are written while a packet leaves (its transport-wide number, the time of sending) count as
zeros, as in libwebrtc: a restored packet never had them.

Which packets a parity covers is ours to choose. Against single losses every packet is covered by two parities, a pair
of its own; when all pairs are taken by three, then by one: any two losses come back, and a receiver that restores one
packet gains another equation, and goes on (the decoding of sparse graph codes by peeling). With 40 packets, 8 parities
and 5 % of loss, 3.5 % of the blocks stay incomplete; with the same 8 parities over every eighth packet each it is 23 %.
Those, however, restore any 8 in a row.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

MAX_BLOCK_PACKETS = 46
"""Packets under the same parities: as many as a mask of two words covers. Receivers track four times 48 packets, and 48
parities."""

MAX_SPAN = 109
"""The longest mask of the format."""

MAX_PACKET_BYTES = 1500

_RTP_HEAD_BYTES = 12
_HEAD = struct.Struct(">8sB3sIH")
_MASK_BITS = (15, 46, MAX_SPAN)
_MASK_BYTES = (2, 6, 14)

KEPT_PACKETS = 512
"""What a receiver keeps of the stream, to restore with."""

KEPT_PARITIES = 64


@lru_cache(maxsize=1024)
def coverage(packets: int, parities: int, bursts: bool = False) -> tuple[frozenset[int], ...]:
    """For each parity the places (0 to ``packets`` - 1) of the packets that it covers.

    Against ``bursts``, and where there are only one or two, parities take the packets in turn: as many losses in a row
    as there are parities come back. Else packets differ by what covers them. Raises ``ValueError`` for numbers that
    make no block.
    """
    if not 1 <= packets <= MAX_BLOCK_PACKETS or not 1 <= parities <= packets:
        raise ValueError(f"no block: {packets} packets, {parities} parities")
    covers: list[set[int]] = [set() for _ in range(parities)]
    columns = [(parity,) for parity in range(parities)] if bursts or parities < 3 else _columns(parities)
    for place in range(packets):
        for parity in columns[place % len(columns)]:
            covers[parity].add(place)
    return tuple(frozenset(places) for places in covers if places)


@lru_cache(maxsize=MAX_BLOCK_PACKETS)
def _columns(parities: int) -> list[tuple[int, ...]]:
    """All different choices of two parities, then of three, then of one, each followed by those that it becomes when
    all parities step on: neighbours then share as little as possible, and all parities cover alike."""
    found: dict[frozenset[int], tuple[int, ...]] = {}
    for weight in (2, 3, 1):
        for choice in combinations(range(parities), weight):
            for step in range(parities):
                stepped = tuple((parity + step) % parities for parity in choice)
                found.setdefault(frozenset(stepped), stepped)
        if len(found) >= MAX_BLOCK_PACKETS:
            break
    return list(found.values())


def unsolved(lost: Iterable[int], equations: Iterable[frozenset[int]]) -> set[int]:
    """What of ``lost`` cannot be restored by these parities (each: the packets it covers)."""
    missing = set(lost)
    open_equations = [equation for equation in equations if not missing.isdisjoint(equation)]
    while missing:
        solved = {next(iter(left)) for equation in open_equations if len(left := equation & missing) == 1}
        if not solved:
            break
        missing -= solved
    return missing


def _row(data: bytes) -> int:
    """A packet as a number: what of its fixed header is protected, its length, and what follows. Little-endian, so that
    packets of different lengths line up at their beginnings."""
    size = len(data) - _RTP_HEAD_BYTES
    return int.from_bytes(data[:2] + size.to_bytes(2, "big") + data[4:8] + data[_RTP_HEAD_BYTES:], "little")


def build_parity(packets: Sequence[tuple[int, bytes]], ssrc: int, base: int) -> bytes:
    """The payload of a parity packet over ``packets``: 16-bit sequence numbers from ``base`` on, at most
    :data:`MAX_SPAN` apart, and the packets whole, with changing extensions zeroed. ``ssrc`` is the stream's."""
    row, mask, longest = 0, 0, 0
    for number, data in packets:
        row ^= _row(data)
        longest = max(longest, len(data))
        mask |= 1 << (MAX_SPAN - 1 - ((number - base) & 0xFFFF))
    content = row.to_bytes(8 + longest - _RTP_HEAD_BYTES, "little")
    recovery = bytes([content[0] & 0x3F]) + content[1:8]  # the version's bits are flags here: neither is set
    return _HEAD.pack(recovery, 1, bytes(3), ssrc, base) + _pack_mask(mask) + content[8:]


def _pack_mask(mask: int) -> bytes:
    """109 bits, the first packet's the highest, in one, two or three parts that each begin with whether it is the
    last."""
    first, second, third = mask >> 94, (mask >> 63) & 0x7FFFFFFF, mask & ((1 << 63) - 1)
    if not (second or third):
        return (0x8000 | first).to_bytes(2, "big")
    if not third:
        return first.to_bytes(2, "big") + (0x80000000 | second).to_bytes(4, "big")
    return first.to_bytes(2, "big") + second.to_bytes(4, "big") + ((1 << 63) | third).to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class Parity:
    """A parity packet's content: the 16-bit numbers of the packets that it covers, and their exclusive or."""

    ssrc: int
    numbers: tuple[int, ...]
    row: int
    size: int
    """Bytes that follow the fixed header of the longest of them."""


def parse_parity(payload: bytes) -> Parity:
    """A parity from untrusted bytes. Raises ``ValueError`` for what is none, or of a kind that is not used here:
    retransmissions, fixed patterns, several streams."""
    if len(payload) < _HEAD.size + _MASK_BYTES[0] or len(payload) > MAX_PACKET_BYTES:
        raise ValueError("a parity packet is too short or too long")
    recovery, streams, _, ssrc, base = _HEAD.unpack_from(payload)
    if recovery[0] & 0xC0 or streams != 1:
        raise ValueError("a parity packet of a kind that is not used")
    mask, covered, position = 0, 0, _HEAD.size
    for end, previous in zip(_MASK_BYTES, (0, *_MASK_BYTES), strict=False):
        part = payload[position : _HEAD.size + end]
        if len(part) != end - previous:
            raise ValueError("the mask of a parity packet is truncated")
        position = _HEAD.size + end
        width = 8 * len(part) - 1
        value = int.from_bytes(part, "big")
        mask = (mask << width) | (value & ((1 << width) - 1))
        covered += width
        if value >> width:
            break
    else:
        raise ValueError("the mask of a parity packet has no end")
    numbers = tuple((base + place) & 0xFFFF for place in range(covered) if mask >> (covered - 1 - place) & 1)
    if not numbers:
        raise ValueError("a parity packet covers nothing")
    body = payload[position:]
    return Parity(ssrc, numbers, int.from_bytes(recovery + body, "little"), len(body))


class FlexFecDecoder:
    """Restores lost packets of one stream. ``blank`` zeroes the extensions that changed while a packet left."""

    def __init__(self, ssrc: int, blank: Callable[[bytes], bytes]) -> None:
        self._ssrc = ssrc
        self._blank = blank
        self._packets: OrderedDict[int, bytes] = OrderedDict()
        self._parities: OrderedDict[int, Parity] = OrderedDict()
        self.restored = 0
        """Packets that came back."""

    def add_packet(self, number: int, data: bytes) -> list[tuple[int, bytes]]:
        """Take a packet of the stream as it came, with its 16-bit number; what follows from it, as
        :meth:`add_parity`."""
        if number in self._packets:
            return []
        self._keep(number, data)
        if not self._parities:
            return []
        return self._restore([key for key, parity in self._parities.items() if number in parity.numbers])

    def add_parity(self, number: int, payload: bytes) -> list[tuple[int, bytes]]:
        """Take a parity packet with its own 16-bit number; numbers and bytes of the packets that follow from it.

        Raises ``ValueError`` for one that is none.
        """
        parity = parse_parity(payload)
        if parity.ssrc != self._ssrc:
            raise ValueError("a parity packet of another stream")
        self._parities[number] = parity
        while len(self._parities) > KEPT_PARITIES:
            self._parities.popitem(last=False)
        return self._restore([number])

    def _keep(self, number: int, data: bytes) -> None:
        self._packets[number] = data
        while len(self._packets) > KEPT_PACKETS:
            self._packets.popitem(last=False)

    def _restore(self, candidates: list[int]) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        while candidates:
            key = candidates.pop()
            parity = self._parities.get(key)
            if parity is None:
                continue
            missing = [number for number in parity.numbers if number not in self._packets]
            if len(missing) > 1:
                continue
            del self._parities[key]
            if not missing:
                continue
            data = self._solve(parity, missing[0])
            if data is None:
                continue
            self._keep(missing[0], data)
            self.restored += 1
            found.append((missing[0], data))
            candidates += [other for other, entry in self._parities.items() if missing[0] in entry.numbers]
        return found

    def _solve(self, parity: Parity, number: int) -> bytes | None:
        """The packet ``number``, all others of the parity being there; ``None`` when the outcome is no packet."""
        row = parity.row
        for other in parity.numbers:
            if other != number:
                row ^= _row(self._blank(self._packets[other]))
        if row.bit_length() > 8 * (8 + parity.size):
            return None  # one of the others is longer than any that the parity covers
        content = row.to_bytes(8 + parity.size, "little")
        size = int.from_bytes(content[2:4], "big")
        if size > parity.size or any(content[8 + size :]):
            return None
        head = bytes([0x80 | (content[0] & 0x3F), content[1]]) + number.to_bytes(2, "big") + content[4:8]
        return head + self._ssrc.to_bytes(4, "big") + content[8 : 8 + size]
