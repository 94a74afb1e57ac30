"""How much forward error correction a stream gets, and what of it has served. No I/O, the clock is passed in.

Parities cost their share of the rate all the time; sending a lost packet again costs a round trip, and only when one is
lost. So there are none on a line that loses nothing, none where sending again is quicker than anybody sees, and the
more of them the longer the round trip is. Loss while a queue stands on the line is congestion: that wants fewer bits,
not more.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from farframe.stream.flexfec import MAX_BLOCK_PACKETS, build_parity, coverage, unsolved
from farframe.stream.transmissions import PacketResult

QUICK_SECONDS = 0.02
"""Of round trip: a repair within this and the spacing of frames is not seen."""

SLOW_SECONDS = 0.045
"""From here on a repair shows, and parities are worth all they cost."""

LEAST_LOSS = 0.004
MOST_LOSS = 0.25
"""Beyond this share parities do not help, and what helps is to send less."""

LEAST_LOSSES = 3
WINDOW_SECONDS = 4.0
RECENT_SECONDS = 1.0
RECENT_SHARE = 0.75

BASE_PARITIES = 2.0
PARITIES_PER_LOSS = 3.0
"""Parities for a block in which so many losses are expected: leaves about one block of thirty incomplete, at 2 to 10 %
of loss (by simulation of the code in :mod:`farframe.stream.flexfec`)."""

MAX_SHARE = 0.3
"""Of parities, by the packets that they cover."""

BURST_LENGTH = 1.5
"""Losses that follow each other by more than this on average come in bursts."""

KEPT_BLOCKS = 64


class LossHistory:
    """What the line loses, and how many at once. Seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._results: deque[tuple[float, bool]] = deque()
        self._lost = 0
        self._runs: deque[tuple[float, int]] = deque()
        self._run = 0
        self._last_lost = -2

    def add(self, results: Sequence[PacketResult], now: float, *, congested: bool) -> None:
        """What a report says, in the order of sending. ``congested``: a queue stands, and losses are its overflow."""
        for result in results:
            lost = result.arrived_at is None and not congested
            self._results.append((now, lost))
            self._lost += lost
            if lost:
                self._run = self._run + 1 if result.number == self._last_lost + 1 else 1
                if self._run > 1:
                    self._runs.pop()
                self._runs.append((now, self._run))
                self._last_lost = result.number
        while self._results and self._results[0][0] < now - WINDOW_SECONDS:
            self._lost -= self._results.popleft()[1]
        while self._runs and self._runs[0][0] < now - WINDOW_SECONDS:
            self._runs.popleft()

    @property
    def share(self) -> float:
        """Share of packets lost, 0 to 1; 0 where it is too little to be told from chance."""
        if self._lost < LEAST_LOSSES:
            return 0.0
        share = self._lost / len(self._results)
        since = self._results[-1][0] - RECENT_SECONDS
        count = lost = 0
        for at, was_lost in reversed(self._results):
            if at < since:
                break
            count += 1
            lost += was_lost
        share = max(share, RECENT_SHARE * lost / count if lost >= LEAST_LOSSES else 0.0)
        return share if share >= LEAST_LOSS else 0.0

    @property
    def burst(self) -> int:
        """How many packets a burst takes that three of four do not exceed; 1 where losses are single."""
        lengths = sorted(length for _, length in self._runs)
        if not lengths or sum(lengths) < BURST_LENGTH * len(lengths):
            return 1
        return lengths[(3 * len(lengths)) // 4]


def parities_for(packets: int, loss: float, burst: int, round_trip: float | None) -> int:
    """How many parities a block of so many packets gets. ``loss`` is a share, ``round_trip`` seconds, ``None`` while
    unknown."""
    if round_trip is None or not 0.0 < loss <= MOST_LOSS or round_trip <= QUICK_SECONDS:
        return 0
    worth = min((round_trip - QUICK_SECONDS) / (SLOW_SECONDS - QUICK_SECONDS), 1.0)
    wanted = BASE_PARITIES + PARITIES_PER_LOSS * packets * loss
    if burst > 1:
        wanted = max(wanted, burst + 1.0)
    return min(math.ceil(worth * wanted - 0.5), max(1, int(MAX_SHARE * packets)))


@dataclass(slots=True)
class _Block:
    """Packets under the same parities, and what is known of either."""

    equations: list[frozenset[int]]
    numbers: tuple[int, ...]
    transmissions: list[int] = field(default_factory=list)
    arrived: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)


class ProtectedBlocks:
    """Collects a stream's packets, makes parities of them, and remembers which of what was lost they restore.

    Packets are named by their 16-bit sequence numbers.
    """

    def __init__(self, ssrc: int) -> None:
        self._ssrc = ssrc
        self._open: list[tuple[int, bytes]] = []
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._of_packet: dict[int, int] = {}
        self._of_transmission: dict[int, tuple[int, int]] = {}
        self._count = 0

    def begin(self) -> None:
        """A frame begins: what is left of one that was cut off is forgotten."""
        self._open.clear()

    def add(self, number: int, data: bytes) -> None:
        """A packet leaves; ``data`` is the whole of it, changing extensions zeroed."""
        self._open.append((number, data))

    @property
    def size(self) -> int:
        """Packets in the block that is being collected."""
        return len(self._open)

    def close(self, parities: int, bursts: bool = False) -> list[tuple[tuple[int, int], bytes]]:
        """End the block: a name and the payload of each parity packet. The name goes to :meth:`sent`.

        ``bursts``: losses are expected to follow each other.
        """
        packets, self._open = self._open, []
        parities = min(parities, len(packets))
        if parities < 1 or len(packets) > MAX_BLOCK_PACKETS:
            return []
        covers = coverage(len(packets), parities, bursts)
        self._count += 1
        block = _Block(
            [frozenset(packets[place][0] for place in places) for places in covers],
            tuple(number for number, _ in packets),
        )
        self._blocks[self._count] = block
        self._of_packet.update(dict.fromkeys(block.numbers, self._count))
        while len(self._blocks) > KEPT_BLOCKS:
            self._forget()
        base = packets[0][0]
        return [
            ((self._count, index), build_parity([packets[place] for place in sorted(places)], self._ssrc, base))
            for index, places in enumerate(covers)
        ]

    def _forget(self) -> None:
        count, block = self._blocks.popitem(last=False)
        for number in block.numbers:
            if self._of_packet.get(number) == count:
                del self._of_packet[number]
        for transmission in block.transmissions:
            if self._of_transmission.get(transmission, (0, 0))[0] == count:
                del self._of_transmission[transmission]

    def sent(self, name: tuple[int, int], transmission: int) -> None:
        """A parity packet left under this transport-wide number, 16 bits."""
        block = self._blocks.get(name[0])
        if block is not None:
            block.transmissions.append(transmission)
            self._of_transmission[transmission] = name

    def report(self, transmission: int, arrived: bool) -> None:
        """A packet with this transport-wide number arrived or did not; nothing happens if it was no parity."""
        name = self._of_transmission.get(transmission)
        if name is not None:
            block = self._blocks[name[0]]
            (block.arrived if arrived else block.failed).add(name[1])

    def lost(self, number: int) -> None:
        """A packet of the stream was lost on its first way."""
        block = self._block_of(number)
        if block is not None:
            block.lost.add(number)

    def _block_of(self, number: int) -> _Block | None:
        return self._blocks.get(self._of_packet.get(number, 0))

    def restored(self, number: int) -> bool:
        """Whether the device has this lost packet back for certain: by parities that are known to have arrived."""
        block = self._block_of(number)
        if block is None or not block.arrived:
            return False
        return number not in unsolved(block.lost, (block.equations[index] for index in block.arrived))

    def hopeless(self, number: int) -> bool:
        """Whether no parity can bring this lost packet back, as far as is known."""
        block = self._block_of(number)
        if block is None:
            return True
        equations = (equation for index, equation in enumerate(block.equations) if index not in block.failed)
        return number in unsolved(block.lost, equations)
