"""BC6H blocks (colours of half floats) back to halves, many at a time with numpy.

A block holds 4 x 4 texels in 128 bits: a mode; the ends of one line through colour space, or of two; with two, which
of 32 partitions tells the lines' texels apart; and for each texel where it lies on its line. Ten modes of two lines and
four of one differ in how precise the ends are, and most of them tell ends as differences from the first one. See "BC6H
Format" in the documentation of Direct3D 11, and chapter 20.2 of the Khronos Data Format Specification 1.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 16
CHUNK_BLOCKS = 1 << 14
"""Blocks that are worked on at a time: what lies between takes some 5 KB for each."""

Numbers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Mode:
    """``bits`` of the first end's numbers, and of the others' (red, green, blue); ``differences``: the others are told
    relative to the first; ``layout``: what the bits after the mode's own are, from the lowest: channel, end (w, x of
    the first line, y, z of the second), lowest bit and how many, upwards, or downwards where it is ``-``."""

    bits: int
    others: tuple[int, int, int]
    layout: str
    lines: int = 2
    differences: bool = True


_MODES: dict[int, _Mode] = {
    0x00: _Mode(10, (5, 5, 5), (
        "gy4 by4 bz4 rw0+10 gw0+10 bw0+10 rx0+5 gz4 gy0+4 gx0+5 bz0 gz0+4 bx0+5 bz1 by0+4 ry0+5 bz2 rz0+5 bz3"
    )),
    0x01: _Mode(7, (6, 6, 6), (
        "gy5 gz4 gz5 rw0+7 bz0 bz1 by4 gw0+7 by5 bz2 gy4 bw0+7 bz3 bz5 bz4 rx0+6 gy0+4 gx0+6 gz0+4 bx0+6 by0+4 ry0+6 "
        "rz0+6"
    )),
    0x02: _Mode(11, (5, 4, 4), (
        "rw0+10 gw0+10 bw0+10 rx0+5 rw10 gy0+4 gx0+4 gw10 bz0 gz0+4 bx0+4 bw10 bz1 by0+4 ry0+5 bz2 rz0+5 bz3"
    )),
    0x06: _Mode(11, (4, 5, 4), (
        "rw0+10 gw0+10 bw0+10 rx0+4 rw10 gz4 gy0+4 gx0+5 gw10 gz0+4 bx0+4 bw10 bz1 by0+4 ry0+4 bz0 bz2 rz0+4 gy4 bz3"
    )),
    0x0A: _Mode(11, (4, 4, 5), (
        "rw0+10 gw0+10 bw0+10 rx0+4 rw10 by4 gy0+4 gx0+4 gw10 bz0 gz0+4 bx0+5 bw10 by0+4 ry0+4 bz1 bz2 rz0+4 bz4 bz3"
    )),
    0x0E: _Mode(9, (5, 5, 5), (
        "rw0+9 by4 gw0+9 gy4 bw0+9 bz4 rx0+5 gz4 gy0+4 gx0+5 bz0 gz0+4 bx0+5 bz1 by0+4 ry0+5 bz2 rz0+5 bz3"
    )),
    0x12: _Mode(8, (6, 5, 5), (
        "rw0+8 gz4 by4 gw0+8 bz2 gy4 bw0+8 bz3 bz4 rx0+6 gy0+4 gx0+5 bz0 gz0+4 bx0+5 bz1 by0+4 ry0+6 rz0+6"
    )),
    0x16: _Mode(8, (5, 6, 5), (
        "rw0+8 bz0 by4 gw0+8 gy5 gy4 bw0+8 gz5 bz4 rx0+5 gz4 gy0+4 gx0+6 gz0+4 bx0+5 bz1 by0+4 ry0+5 bz2 rz0+5 bz3"
    )),
    0x1A: _Mode(8, (5, 5, 6), (
        "rw0+8 bz1 by4 gw0+8 by5 gy4 bw0+8 bz5 bz4 rx0+5 gz4 gy0+4 gx0+5 bz0 gz0+4 bx0+6 by0+4 ry0+5 bz2 rz0+5 bz3"
    )),
    0x1E: _Mode(6, (6, 6, 6), (
        "rw0+6 gz4 bz0 bz1 by4 gw0+6 gy5 by5 bz2 gy4 bw0+6 gz5 bz3 bz5 bz4 rx0+6 gy0+4 gx0+6 gz0+4 bx0+6 by0+4 ry0+6 "
        "rz0+6"
    ), differences=False),
    0x03: _Mode(10, (10, 10, 10), "rw0+10 gw0+10 bw0+10 rx0+10 gx0+10 bx0+10", lines=1, differences=False),
    0x07: _Mode(11, (9, 9, 9), "rw0+10 gw0+10 bw0+10 rx0+9 rw10 gx0+9 gw10 bx0+9 bw10", lines=1),
    0x0B: _Mode(12, (8, 8, 8), "rw0+10 gw0+10 bw0+10 rx0+8 rw10-2 gx0+8 gw10-2 bx0+8 bw10-2", lines=1),
    0x0F: _Mode(16, (4, 4, 4), "rw0+10 gw0+10 bw0+10 rx0+4 rw10-6 gx0+4 gw10-6 bx0+4 bw10-6", lines=1),
}  # fmt: skip
"""By the mode's bits: two of them for the first two, five for the others. Those that are missing mean black."""

_PARTITIONS = np.array(
    [
        0xCCCC,
        0x8888,
        0xEEEE,
        0xECC8,
        0xC880,
        0xFEEC,
        0xFEC8,
        0xEC80,
        0xC800,
        0xFFEC,
        0xFE80,
        0xE800,
        0xFFE8,
        0xFF00,
        0xFFF0,
        0xF000,
        0xF710,
        0x008E,
        0x7100,
        0x08CE,
        0x008C,
        0x7310,
        0x3100,
        0x8CCE,
        0x088C,
        0x3110,
        0x6666,
        0x366C,
        0x17E8,
        0x0FF0,
        0x718E,
        0x399C,
    ],
    np.uint16,
)
"""Bit t: texel t, counted along rows from the top, is of the second line."""

_ANCHORS = np.array(
    [15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 2, 8, 2, 2, 8, 8, 15, 2, 8, 2, 2, 8, 8, 2, 2]
)
"""The texel of the second line whose place is told with a bit less."""

_OF_3_BITS = np.array([0, 9, 18, 27, 37, 46, 55, 64], np.int32)
_OF_4_BITS = np.array([0, 4, 9, 13, 17, 21, 26, 30, 34, 38, 43, 47, 51, 55, 60, 64], np.int32)
_PARTITION_BIT, _PLACES_OF_2, _PLACES_OF_1 = 77, 82, 65


def _weights(mode: _Mode, first: int) -> Numbers:
    """(128, 12) what each bit counts for which number: end by end, red, green and blue of each."""
    weights = np.zeros((128, 12), np.int32)
    place = first
    for word in mode.layout.split():
        number = "wxyz".index(word[1]) * 3 + "rgb".index(word[0])
        low, sign, many = word[2:].partition("+") if "+" in word else word[2:].partition("-")
        count = int(many) if sign else 1
        for step in range(count):
            bit = int(low) + (count - 1 - step if sign == "-" else step)
            weights[place, number] = 1 << bit
            place += 1
    assert place == (_PARTITION_BIT if mode.lines == 2 else _PLACES_OF_1)
    return weights


_WEIGHTS = {number: _weights(mode, 2 if number < 2 else 5) for number, mode in _MODES.items()}


def decode_bc6h(data: bytes, width: int, height: int, *, signed: bool) -> NDArray[np.float16]:
    """(height, width, 3) linear RGB of a level, row 0 at the top; ``signed`` blocks may hold negative numbers.

    All bytes are some picture, without infinities. ``ValueError`` where there are too few or too many of them. About
    a second for 3 million texels.
    """
    columns, rows = (width + 3) // 4, (height + 3) // 4
    if width < 1 or height < 1 or len(data) != columns * rows * BLOCK_BYTES:
        raise ValueError(f"{len(data)} bytes are no BC6H level of {width} x {height} texels")
    blocks = np.frombuffer(data, np.uint8).reshape(-1, BLOCK_BYTES)
    halves = np.empty((len(blocks), 16, 3), np.uint16)
    for begin in range(0, len(blocks), CHUNK_BLOCKS):
        halves[begin : begin + CHUNK_BLOCKS] = _decode(blocks[begin : begin + CHUNK_BLOCKS], signed)
    texels = halves.view(np.float16).reshape(rows, columns, 4, 4, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(texels.reshape(rows * 4, columns * 4, 3)[:height, :width])


def _decode(blocks: NDArray[np.uint8], signed: bool) -> NDArray[np.uint16]:
    """(n, 16, 3) the bits of halves."""
    bits = np.unpackbits(blocks, axis=1, bitorder="little")
    number = np.where(blocks[:, 0] & 3 < 2, blocks[:, 0] & 3, blocks[:, 0] & 31)
    found = np.zeros((len(blocks), 16, 3), np.uint16)
    for key in np.unique(number).tolist():
        mode = _MODES.get(key)
        if mode is not None:
            chosen = np.flatnonzero(number == key)
            found[chosen] = _decode_mode(bits[chosen], mode, _WEIGHTS[key], signed)
    return found


def _decode_mode(bits: NDArray[np.uint8], mode: _Mode, weights: Numbers, signed: bool) -> NDArray[np.uint16]:
    # As whole numbers: floats would be multiplied by a library with threads of its own, which a sandbox may not have.
    ends = (bits.astype(np.int32) @ weights).reshape(-1, 4, 3)
    if signed:
        ends[:, 0] = _extended(ends[:, 0], np.int32(mode.bits))
    if signed or mode.differences:
        ends[:, 1:] = _extended(ends[:, 1:], np.array(mode.others, np.int32))
    if mode.differences:
        ends[:, 1:] = (ends[:, 1:] + ends[:, :1]) & ((1 << mode.bits) - 1)
        if signed:
            ends[:, 1:] = _extended(ends[:, 1:], np.int32(mode.bits))
    ends = _unquantized(ends, mode.bits, signed)
    texel = np.arange(16)
    if mode.lines == 2:
        partition = bits[:, _PARTITION_BIT:_PLACES_OF_2] @ (1 << np.arange(5))
        anchor = _ANCHORS[partition][:, None]
        place = _PLACES_OF_2 + 3 * texel - (texel > 0) - (texel > anchor)
        short = (texel == 0) | (texel == anchor)
        weight = _OF_3_BITS[_told(bits, place, short, 3)]
        second = (_PARTITIONS[partition][:, None] >> texel & 1).astype(np.int64)
    else:
        place = np.broadcast_to(_PLACES_OF_1 + 4 * texel - (texel > 0), (len(bits), 16))
        weight = _OF_4_BITS[_told(bits, place, np.broadcast_to(texel == 0, place.shape), 4)]
        second = np.zeros((len(bits), 16), np.int64)
    block = np.arange(len(bits))[:, None]
    begin, end, weight = ends[block, 2 * second], ends[block, 2 * second + 1], weight[..., None]
    mixed = (begin * (64 - weight) + end * weight + 32) >> 6
    if not signed:
        return np.asarray((mixed * 31) >> 6, np.uint16)
    size = (np.abs(mixed) * 31) >> 5
    return np.asarray(np.where(mixed < 0, size | 0x8000, size), np.uint16)


def _told(bits: NDArray[np.uint8], place: NDArray[np.int64], short: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Numbers of ``count`` bits, or of one less, from the lowest at ``place``."""
    told = np.zeros(place.shape, np.int64)
    for step in range(count):
        bit = np.take_along_axis(bits, np.minimum(place + step, 127), axis=1).astype(np.int64)
        told += np.where(short & (step == count - 1), 0, bit << step)
    return told


def _extended(values: Numbers, bits: NDArray[np.int32] | np.int32) -> Numbers:
    """Numbers of so many bits, the highest of which is their sign."""
    half = np.left_shift(np.int32(1), bits - np.int32(1))
    return ((values ^ half) - half).astype(np.int32)


def _unquantized(values: Numbers, bits: int, signed: bool) -> Numbers:
    """Ends as numbers of 16 bits (17 with their sign)."""
    if not signed:
        if bits >= 15:
            return values
        wide = ((values << 16) + 0x8000) >> bits
        return np.where(values == 0, 0, np.where(values == (1 << bits) - 1, 0xFFFF, wide)).astype(np.int32)
    if bits >= 16:
        return values
    size = np.abs(values)
    wide = ((size << 15) + 0x4000) >> (bits - 1)
    wide = np.where(size == 0, 0, np.where(size >= (1 << (bits - 1)) - 1, 0x7FFF, wide))
    return np.where(values < 0, -wide, wide).astype(np.int32)
