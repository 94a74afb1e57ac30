"""What was sent and what became of it: every packet by its transport-wide number, joined with the device's reports.

No I/O, the clock is passed in. Times of sending are seconds of the sender's clock, times of arrival seconds of the
receiver's, whose origin is arbitrary: only differences of arrivals mean anything.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from farframe.stream.feedback import ArrivalClock, TransportFeedback

KEPT_PACKETS = 8192
REORDERING_SECONDS = 0.02
"""A packet that is reported missing counts as lost only when one sent so much later has arrived."""


@dataclass(slots=True)
class SentPacket:
    """One packet on its way. ``cluster`` is the probe it belongs to, 0 for none; ``media`` the sequence number of the
    stream's packet that it carries, ``None`` where nobody needs it."""

    number: int
    size: int
    sent_at: float
    cluster: int
    media: int | None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class PacketResult:
    """A packet that arrived, or (``arrived_at`` is ``None``) is taken for lost."""

    number: int
    size: int
    sent_at: float
    cluster: int
    arrived_at: float | None
    media: int | None = None


class TransmissionLog:
    """Numbers packets, and tells for each report what is new in it."""

    def __init__(self, first_number: int = 0) -> None:
        self._next = first_number
        self._packets: OrderedDict[int, SentPacket] = OrderedDict()
        self._clock = ArrivalClock()
        self._highest_reported = first_number - 1
        self._missing: dict[int, SentPacket] = {}
        self._newest_arrived = float("-inf")
        self.in_flight_bytes = 0
        """Sent, and newer than all that was reported."""

    @property
    def next_number(self) -> int:
        """The number of the next packet, 16 bits."""
        return self._next & 0xFFFF

    @property
    def oldest_unreported(self) -> float | None:
        """When the oldest packet was sent that no report has reached; ``None`` when there is none."""
        packet = self._packets.get(self._highest_reported + 1)
        return packet.sent_at if packet is not None else None

    def add(self, size: int, now: float, cluster: int = 0, media: int | None = None) -> None:
        """A packet of ``size`` bytes leaves with :attr:`next_number`."""
        self._packets[self._next] = SentPacket(self._next, size, now, cluster, media)
        self._next += 1
        self.in_flight_bytes += size
        while len(self._packets) > KEPT_PACKETS:
            number, packet = self._packets.popitem(last=False)
            self._missing.pop(number, None)
            if number > self._highest_reported:
                self._highest_reported = number
                self.in_flight_bytes -= packet.size

    def report(self, feedback: TransportFeedback) -> list[PacketResult]:
        """What this report says that no earlier one did, in the order of sending.

        Numbers that were never sent, or so long ago that nothing is known of them, are ignored.
        """
        newest = self._next - 1
        delta = (feedback.base_sequence - newest) & 0xFFFF
        base = newest + (delta if delta < 0x8000 else delta - 0x10000)
        results: list[PacketResult] = []
        for offset, wrapped in enumerate(feedback.arrivals):
            number = base + offset
            if number > newest:
                break
            packet = self._packets.get(number)
            if packet is None:
                continue
            if wrapped is None:
                if not packet.lost:
                    self._missing[number] = packet
                continue
            self._reach(number)
            del self._packets[number]
            self._missing.pop(number, None)
            self._newest_arrived = max(self._newest_arrived, packet.sent_at)
            arrived = self._clock.unwrap(wrapped)
            results.append(PacketResult(number, packet.size, packet.sent_at, packet.cluster, arrived, packet.media))
        for number, packet in list(self._missing.items()):
            if packet.sent_at <= self._newest_arrived - REORDERING_SECONDS:
                packet.lost = True
                del self._missing[number]
                results.append(PacketResult(number, packet.size, packet.sent_at, packet.cluster, None, packet.media))
        results.sort(key=lambda result: result.number)
        return results

    def _reach(self, number: int) -> None:
        """Nothing up to ``number`` is in flight any more, whether it was reported or its report was lost."""
        if number <= self._highest_reported:
            return
        for reached in range(self._highest_reported + 1, number + 1):
            packet = self._packets.get(reached)
            if packet is not None:
                self.in_flight_bytes -= packet.size
        self._highest_reported = number
