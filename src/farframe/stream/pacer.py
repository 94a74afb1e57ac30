"""The order and the pace in which packets leave: retransmissions, parities of what has just left, frames, filling of
probes. No I/O.

Packets leave at a given pace, in steps of the owner's timer; so many bytes at once as that pace carries within
``BURST_SECONDS``, so that neither a keyframe nor a pause's saved-up allowance becomes a burst on the wire. During a
probe the pace is the probe's, and where nothing else waits, filling is asked for until the probe is full.

The pace is faster than the rate that the line is believed to carry, so that one frame is there soon. Several large ones
in a row, as when a picture moves again after a rest, must not make use of that: what frames and parities took ahead of
the rate is limited (``AHEAD_SECONDS``), and beyond it they leave at the rate.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from farframe.stream.probing import Probe

BURST_SECONDS = 0.005
STEP_SECONDS = 0.002

AHEAD_SECONDS = 0.1
MIN_AHEAD_BYTES = 12_000
"""Frames may be ahead of the rate by what it carries in so long, or by so much: a keyframe on a very slow line."""


@dataclass(slots=True)
class QueuedPacket:
    """A packet's payload before it gets its numbers. ``again`` is the sequence number under which it was sent first,
    for a packet that is sent once more."""

    payload: bytes
    timestamp: int
    marker: bool
    first: bool = False
    keyframe: bool = False
    again: int | None = None
    filling: bool = False
    """Sent again to fill a probe, not because it was lost."""
    copy: int = -1
    """The transport-wide number under which it was sent last."""
    closes: bool = False
    """The last packet of a block that parities cover together."""
    parity: tuple[int, int] | None = None
    """For a parity packet its name in :class:`farframe.stream.protection.ProtectedBlocks`."""


class Pacer:
    """A queue of packets. Times are seconds of one monotonic clock."""

    def __init__(self, now: float) -> None:
        self._frames: deque[QueuedPacket] = deque()
        self._repairs: deque[QueuedPacket] = deque()
        self._parities: deque[QueuedPacket] = deque()
        self._allowance = 0.0
        self._ahead = float("inf")
        """Bytes that frames may still be ahead of the rate; below zero while they have to wait for it."""
        self._filled_at = now
        self._probe: Probe | None = None
        self._probe_left = 0
        self.queued_frames = 0
        """Frames whose last packet still waits."""
        self.queued_bytes = 0
        """Payload bytes of frames that wait."""

    @property
    def waits(self) -> bool:
        """Whether anything is left to send."""
        return bool(self._frames or self._repairs or self._parities or self._probe)

    @property
    def cluster(self) -> int:
        """The probe that packets belong to which leave now; 0 for none."""
        return self._probe.cluster if self._probe is not None else 0

    def push(self, packet: QueuedPacket) -> None:
        """Queue a packet of a frame."""
        self._frames.append(packet)
        self.queued_frames += packet.marker
        self.queued_bytes += len(packet.payload)

    def push_repair(self, packet: QueuedPacket) -> None:
        """Queue a packet that is sent again; it overtakes all frames."""
        self._repairs.append(packet)

    def push_parity(self, packet: QueuedPacket) -> None:
        """Queue a parity packet of the block that has just left; the next frame waits for it."""
        self._parities.append(packet)

    def begin_probe(self, probe: Probe) -> None:
        """Send the next bytes at the probe's rate."""
        self._probe = probe
        self._probe_left = probe.size
        self._allowance = max(self._allowance, 1.0)

    def drop_frames(self) -> bool:
        """Forget all frames that wait; whether one of them was cut off in the middle."""
        torn = bool(self._frames) and not self._frames[0].first
        self._frames.clear()
        self._repairs.clear()
        self._parities.clear()
        self.queued_frames = 0
        self.queued_bytes = 0
        return torn

    def refill(self, pace: float, now: float, rate: float | None = None) -> None:
        """Let the allowance grow; ``pace`` in bits per second, and ``rate`` likewise: what frames may take in the long
        run, ``None`` where only the pace counts."""
        if self._probe is not None:
            pace = self._probe.bitrate
        elapsed = max(now - self._filled_at, 0.0)
        self._filled_at = now
        burst = max(pace * BURST_SECONDS / 8, 1.0)
        self._allowance = min(burst, self._allowance + elapsed * pace / 8)
        if rate is None:
            self._ahead = float("inf")
        else:
            most = max(rate * AHEAD_SECONDS / 8, MIN_AHEAD_BYTES)
            self._ahead = min(most, self._ahead + elapsed * rate / 8)

    def take(self, window: int) -> QueuedPacket | None:
        """The packet to send now; ``None`` when the pace, the rate or the ``window`` (bytes that may still be on their
        way) allows none, or nothing waits. :attr:`needs_filling` then tells whether a probe wants more."""
        if self._allowance <= 0:
            return None
        if self._repairs:
            return self._repairs.popleft()
        if window <= 0 or (self._ahead <= 0 and self._probe is None):
            return None
        if self._parities:
            return self._parities.popleft()
        if self._frames:
            packet = self._frames.popleft()
            self.queued_frames -= packet.marker
            self.queued_bytes -= len(packet.payload)
            return packet
        return None

    @property
    def needs_filling(self) -> bool:
        """Whether a probe goes on, its pace allows a packet now, and no frame is there to fill it."""
        return self._probe is not None and self._allowance > 0

    def sent(self, size: int) -> None:
        """A packet of ``size`` bytes has left."""
        self._allowance -= size
        self._ahead -= size
        if self._probe is not None:
            self._probe_left -= size
            if self._probe_left <= 0:
                self._probe = None

    def end_probe(self) -> None:
        """There is nothing to fill it with."""
        self._probe = None
