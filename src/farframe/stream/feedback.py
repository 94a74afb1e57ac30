"""Transport-wide feedback: when each packet arrived, as the device tells it (RTCP format 15). No I/O.

draft-holmer-rmcat-transport-wide-cc-extensions-01: every packet, whatever stream it belongs to, retransmissions and
padding included, carries a 16-bit number in a header extension; the receiver reports, several times a second, which of
them arrived and when, to a quarter of a millisecond. :func:`parse_feedback` reads such reports (hostile input: sizes
are limited before anything is allocated), :class:`FeedbackBuilder` makes them for the Python receiver.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

TRANSPORT_FEEDBACK_FORMAT = 15
RTCP_TRANSPORT_FEEDBACK = 205
MAX_STATUSES = 4096
"""Packets that one report may speak of: more than three seconds of the highest rate."""

MAX_COMPOUND_PACKETS = 64
TICK_SECONDS = 0.00025
REFERENCE_SECONDS = 0.064
REFERENCE_MODULUS = 1 << 24

KEPT_SECONDS = 1.0
"""How long the builder remembers an arrival, to report it again when an older packet comes late."""

_NOT_RECEIVED, _SMALL_DELTA, _LARGE_DELTA = 0, 1, 2
_HEAD = struct.Struct(">BBH")
_BODY = struct.Struct(">IIHH")
_CHUNK = struct.Struct(">H")
_LARGE = struct.Struct(">h")


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """One report. ``arrivals[i]`` belongs to number ``(base_sequence + i) % 65536``: seconds on the receiver's clock
    modulo 2^24 times 64 ms (see :class:`ArrivalClock`), or ``None`` for a packet that has not arrived."""

    base_sequence: int
    count: int
    """Counts the reports, modulo 256."""
    arrivals: tuple[float | None, ...]


def split_compound(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The type, the count or format, and the payload of each packet of a compound RTCP packet.

    Ends silently where the bytes stop to be RTCP.
    """
    position = 0
    for _ in range(MAX_COMPOUND_PACKETS):
        if position + _HEAD.size > len(data):
            return
        flags, kind, words = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + 4 * words
        if flags >> 6 != 2 or end > len(data):
            return
        payload = data[position + _HEAD.size : end]
        if flags & 0x20:
            if not payload or not 0 < payload[-1] <= len(payload):
                return
            payload = payload[: -payload[-1]]
        yield kind, flags & 0x1F, payload
        position = end


def parse_feedback(payload: bytes) -> TransportFeedback:
    """A report from the payload of an RTCP packet of type 205, format 15. Raises ``ValueError`` for anything else."""
    if len(payload) < _BODY.size + 4:
        raise ValueError("a transport feedback is truncated")
    _, _, base, status_count = _BODY.unpack_from(payload)
    if not 0 < status_count <= MAX_STATUSES:
        raise ValueError(f"a transport feedback speaks of {status_count} packets")
    reference = int.from_bytes(payload[12:15], "big")
    count = payload[15]
    position = 16
    symbols: list[int] = []
    while len(symbols) < status_count:
        if position + _CHUNK.size > len(payload):
            raise ValueError("a transport feedback's statuses are truncated")
        (chunk,) = _CHUNK.unpack_from(payload, position)
        position += _CHUNK.size
        if not chunk & 0x8000:
            run = min(chunk & 0x1FFF, status_count - len(symbols))
            if run == 0:
                raise ValueError("a transport feedback holds an empty run")
            symbols += [chunk >> 13] * run
        elif chunk & 0x4000:
            symbols += [(chunk >> shift) & 3 for shift in range(12, -1, -2)]
        else:
            symbols += [(chunk >> shift) & 1 for shift in range(13, -1, -1)]
    del symbols[status_count:]
    arrivals: list[float | None] = []
    ticks = 0
    start = reference * REFERENCE_SECONDS
    for symbol in symbols:
        if symbol == _NOT_RECEIVED:
            arrivals.append(None)
            continue
        if symbol == _SMALL_DELTA:
            if position >= len(payload):
                raise ValueError("a transport feedback's times are truncated")
            ticks += payload[position]
            position += 1
        elif symbol == _LARGE_DELTA:
            if position + _LARGE.size > len(payload):
                raise ValueError("a transport feedback's times are truncated")
            ticks += _LARGE.unpack_from(payload, position)[0]
            position += _LARGE.size
        else:
            raise ValueError("a transport feedback uses a reserved status")
        arrivals.append(start + ticks * TICK_SECONDS)
    return TransportFeedback(base, count, tuple(arrivals))


class ArrivalClock:
    """Turns the wrapping times of reports into seconds that grow, with an arbitrary origin."""

    MODULUS_SECONDS = REFERENCE_MODULUS * REFERENCE_SECONDS

    def __init__(self) -> None:
        self._last: float | None = None

    def unwrap(self, seconds: float) -> float:
        """The time congruent to ``seconds`` that is nearest to the newest one seen."""
        if self._last is None:
            self._last = seconds
            return seconds
        delta = (seconds - self._last) % self.MODULUS_SECONDS
        if delta >= self.MODULUS_SECONDS / 2:
            delta -= self.MODULUS_SECONDS
        result = self._last + delta
        self._last = max(self._last, result)
        return result


class FeedbackBuilder:
    """Collects arrivals and reports them. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._arrivals: dict[int, float] = {}
        self._next: int | None = None
        """Unwrapped number of the first packet that no report has covered."""
        self._highest = -1
        self._late: int | None = None
        self._count = 0

    def add(self, sequence: int, now: float) -> None:
        """A packet with this 16-bit number arrived."""
        if self._next is None:
            self._next = self._highest = number = sequence
        else:
            delta = (sequence - self._highest) & 0xFFFF
            number = self._highest + (delta if delta < 0x8000 else delta - 0x10000)
        if number in self._arrivals or number < self._highest - MAX_STATUSES // 2:
            return
        if number > self._highest + MAX_STATUSES // 2:
            self._arrivals.clear()  # a jump that no report can span: begin anew
            self._late, self._next = None, number
        self._arrivals[number] = now
        self._highest = max(self._highest, number)
        if number < self._next and (self._late is None or number < self._late):
            self._late = number

    def build(self, ssrc: int, media_ssrc: int, now: float) -> bytes | None:
        """An RTCP packet that reports all that has arrived since the last; ``None`` when nothing has."""
        if self._next is None or (self._highest < self._next and self._late is None):
            return None
        first = self._next if self._late is None else min(self._late, self._next)
        numbers = range(first, self._highest + 1)
        present = [self._arrivals[number] for number in numbers if number in self._arrivals]
        reference = int(min(present) / REFERENCE_SECONDS)
        previous = round(reference * REFERENCE_SECONDS / TICK_SECONDS)
        symbols: list[int] = []
        deltas = bytearray()
        for number in numbers:
            arrival = self._arrivals.get(number)
            if arrival is None:
                symbols.append(_NOT_RECEIVED)
                continue
            ticks = round(arrival / TICK_SECONDS)
            delta = ticks - previous
            if 0 <= delta <= 0xFF:
                symbols.append(_SMALL_DELTA)
                deltas.append(delta)
            elif -0x8000 <= delta <= 0x7FFF:
                symbols.append(_LARGE_DELTA)
                deltas += _LARGE.pack(delta)
            else:  # eight seconds between two packets: the rest belongs to the next report
                break
            previous = ticks
        end = first + len(symbols)
        body = _BODY.pack(ssrc, media_ssrc, first & 0xFFFF, len(symbols))
        body += (reference % REFERENCE_MODULUS).to_bytes(3, "big") + bytes([self._count])
        body += _chunks(symbols) + bytes(deltas)
        self._count = (self._count + 1) & 0xFF
        self._next, self._late = max(self._next, end), None
        self._arrivals = {number: at for number, at in self._arrivals.items() if now - at < KEPT_SECONDS}
        padding = -len(body) % 4
        flags = 0x80 | TRANSPORT_FEEDBACK_FORMAT
        if padding:
            flags |= 0x20
            body += bytes(padding - 1) + bytes([padding])
        return _HEAD.pack(flags, RTCP_TRANSPORT_FEEDBACK, len(body) // 4) + body


def _chunks(symbols: list[int]) -> bytes:
    """Runs of seven and more equal statuses as a run, all else as vectors of seven."""
    out = bytearray()
    position = 0
    while position < len(symbols):
        symbol = symbols[position]
        end = position
        while end < len(symbols) and symbols[end] == symbol and end - position < 0x1FFF:
            end += 1
        if end - position >= 7 or end == len(symbols):
            out += _CHUNK.pack((symbol << 13) | (end - position))
            position = end
        else:
            vector = symbols[position : position + 7]
            chunk = 0xC000
            for index, entry in enumerate(vector):
                chunk |= entry << (12 - 2 * index)
            out += _CHUNK.pack(chunk)
            position += len(vector)
    return bytes(out)
