"""Packets in any order in, whole frames in order out, and what is missing. No I/O, the clock is passed in.

A frame is complete as soon as every packet up to the one with the marker bit is there; waiting for the next frame's
first packet instead, as is often done, costs one frame of delay. A packet that does not come is asked for again (NACK)
a few times; when that fails, the rest up to the next keyframe is thrown away and a keyframe is asked for (PLI), for
frames that refer to a missing one cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from farframe.stream.packets import RtpPacket, depacketize, starts_keyframe

MAX_WAITING_PACKETS = 2048
NACK_INTERVAL_SECONDS = 0.11
"""Time between two requests for the same packet while the round trip is unknown: a little more than that in which a
sender answers only once."""

MIN_NACK_INTERVAL_SECONDS = 0.04
NACK_ROUND_TRIPS = 1.5

GIVE_UP_SECONDS = 0.5
"""A packet that is missing for so long is given up."""


@dataclass(slots=True)
class AssembledFrame:
    """One access unit in Annex B format, with the RTP time stamp unwrapped to a count that never wraps."""

    data: bytes
    timestamp: int
    received_at: float


@dataclass(slots=True)
class Assembly:
    """What one packet, or the passing of time, brought about."""

    frames: list[AssembledFrame] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    """Sequence numbers (16 bits) to ask for again now."""
    keyframe_needed: bool = False


class FrameAssembler:
    """Reassembles the frames of one H.264 stream. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._packets: dict[int, RtpPacket] = {}
        self._next: int | None = None
        self._highest = 0
        self._missing: dict[int, tuple[float, float]] = {}
        self._timestamp: int | None = None
        self._waits_for_keyframe = True
        self._keyframe_asked_at = float("-inf")
        self.round_trip_seconds = 0.0
        """As measured by whoever owns this assembler; 0 while unknown."""

    @property
    def waits(self) -> bool:
        """Whether something is missing, so that :meth:`poll` has to be called now and then."""
        return bool(self._missing) or self._waits_for_keyframe

    def push(self, packet: RtpPacket, now: float) -> Assembly:
        """Take a packet of the stream; a retransmitted one in its original form."""
        if self._next is None:
            self._next = self._highest = packet.sequence_number
            number = packet.sequence_number
            if starts_keyframe(packet.payload):
                self._keyframe_asked_at = now  # it is on its way
        else:
            number = _unwrap(packet.sequence_number, self._highest, 1 << 16)
            if number < self._next or number in self._packets:
                return Assembly()
        result = Assembly()
        if number > self._highest:
            if number - self._highest > MAX_WAITING_PACKETS:
                self._restart(number)
            else:
                for lost in range(self._highest + 1, number):
                    self._missing[lost] = (now, now)
                    result.missing.append(lost & 0xFFFF)
            self._highest = number
        self._missing.pop(number, None)
        self._packets[number] = packet
        if self._missing:
            self._skip_to_keyframe(number)
        self._collect(result, now)
        self._ask_for_keyframe(result, now)
        return result

    def poll(self, now: float) -> Assembly:
        """What is to be done because time has passed: repeat requests, or give up."""
        result = Assembly()
        interval = NACK_INTERVAL_SECONDS
        if self.round_trip_seconds > 0:
            interval = max(NACK_ROUND_TRIPS * self.round_trip_seconds, MIN_NACK_INTERVAL_SECONDS)
        for number, (since, asked) in list(self._missing.items()):
            if now - since > max(GIVE_UP_SECONDS, 3 * self.round_trip_seconds):
                self._give_up()
                self._collect(result, now)
                break
            if now - asked >= interval:
                self._missing[number] = (since, now)
                result.missing.append(number & 0xFFFF)
        self._ask_for_keyframe(result, now)
        return result

    def stood_still(self, seconds: float) -> None:
        """The program itself has not run for so long. What came meanwhile is unread: that time does not count."""
        self._missing = {number: (since + seconds, asked) for number, (since, asked) in self._missing.items()}

    def decoder_failed(self) -> None:
        """A frame could not be decoded: nothing is of use before the next keyframe."""
        self._waits_for_keyframe = True

    def _ask_for_keyframe(self, result: Assembly, now: float) -> None:
        if self._waits_for_keyframe and now - self._keyframe_asked_at >= max(0.25, 1.5 * self.round_trip_seconds):
            self._keyframe_asked_at = now
            result.keyframe_needed = True

    def _restart(self, number: int) -> None:
        self._packets.clear()
        self._missing.clear()
        self._next = number
        self._waits_for_keyframe = True

    def _skip_to_keyframe(self, number: int) -> None:
        """Forget the gaps before a keyframe that is whole: nothing before it is needed any more."""
        timestamp = self._packets[number].timestamp
        begin = number
        while (packet := self._packets.get(begin - 1)) is not None and packet.timestamp == timestamp:
            begin -= 1
        if not starts_keyframe(self._packets[begin].payload):
            return
        end = number
        while not self._packets[end].marker:
            end += 1
            if end not in self._packets:
                return
        for lost in [lost for lost in self._missing if lost < begin]:
            del self._missing[lost]
        for older in [older for older in self._packets if older < begin]:
            del self._packets[older]
        self._next = begin

    def _give_up(self) -> None:
        """Go on behind the gaps, at the first packet from which a frame can begin."""
        last_lost = max(self._missing)
        self._missing.clear()
        for number in [number for number in self._packets if number < last_lost]:
            del self._packets[number]
        number = last_lost + 1
        while number in self._packets and not starts_keyframe(self._packets[number].payload):
            del self._packets[number]
            number += 1
        self._next = number
        self._highest = max(self._highest, number - 1)
        self._waits_for_keyframe = True

    def _collect(self, result: Assembly, now: float) -> None:
        assert self._next is not None  # set by the first packet
        begin = number = self._next
        while number in self._packets:
            last = self._packets[number].marker
            number += 1
            if last:
                self._complete([self._packets.pop(index) for index in range(begin, number)], result, now)
                self._next = begin = number

    def _complete(self, packets: list[RtpPacket], result: Assembly, now: float) -> None:
        first = packets[0]
        if self._waits_for_keyframe:
            if not starts_keyframe(first.payload):
                return
            self._waits_for_keyframe = False
        data = _join(packet.payload for packet in packets)
        if data is None:
            self._waits_for_keyframe = True
            return
        if self._timestamp is None:
            self._timestamp = first.timestamp
        self._timestamp = _unwrap(first.timestamp, self._timestamp, 1 << 32)
        result.frames.append(AssembledFrame(data, self._timestamp, now))


def _join(payloads: Iterable[bytes]) -> bytes | None:
    try:
        return b"".join(depacketize(payload) for payload in payloads)
    except ValueError:
        return None


def _unwrap(value: int, reference: int, modulus: int) -> int:
    """The number congruent to ``value`` that is nearest to ``reference``."""
    delta = (value - reference) % modulus
    if delta >= modulus // 2:
        delta -= modulus
    return reference + delta
