"""How fast to send: a target from what the device reports (REMB and loss). No I/O, the clock is passed in.

Congestion is what a report *shows*, not what it allows: REMB only counts what arrives, so on a fast line it sits a
little above whatever was sent, and obeying it as an upper limit would keep the rate low for ever after a quiet scene.
Hence

* a REMB that *falls* (the receiver's delay gradient says that a queue grows), or a first one far below what was sent,
  is congestion: the target becomes 0.85 of it, and follows 0.85 of it upwards afterwards;
* loss above 10 % lowers the target by half of the lost share (draft-ietf-rmcat-gcc-02), loss above 20 % at once to 0.85
  of what still arrived, and what REMB says is a limit from then on;
* without either the target climbs by 8 % a second back to the ceiling.

Retransmissions answer to :class:`RetransmissionBudget`: a packet is not sent again within 100 ms (1.2 round trips where
that is less, 30 ms at least), and all of them together stay below 30 % of the rate. Without these limits a narrow line
collapses: lost packets are asked for again and again and crowd out the new ones (measured: 22,706 retransmissions in
24 s).
"""

from __future__ import annotations

from collections import deque

MIN_TARGET_BITRATE = 250_000
REMB_SHARE = 0.85
LOSS_BACK_OFF = 0.10
LOSS_CALM = 0.02
LOSS_COLLAPSE = 0.20
CLIMB_PER_SECOND = 0.08
LOSS_REPORT_INTERVAL_SECONDS = 0.3

RETRANSMIT_INTERVAL_SECONDS = 0.1
MIN_RETRANSMIT_INTERVAL_SECONDS = 0.03
RETRANSMIT_ROUND_TRIPS = 1.2
RETRANSMIT_SHARE = 0.3

_SENT_WINDOW_SECONDS = 1.0
_FALLING = 0.97
_FIRST_REMB_SHARE = 0.6
_HOLD_AFTER_CONGESTION_SECONDS = 1.0


class RateController:
    """The target bitrate of one stream, in bits per second. Times are seconds of one monotonic clock."""

    def __init__(self, ceiling: int, *, start: int | None = None) -> None:
        self._ceiling = ceiling
        self._target = float(min(start or ceiling, ceiling))
        self._remb: int | None = None
        self._constrained = False
        self._last_cut = float("-inf")
        self._last_loss_report = float("-inf")
        self._last_climb: float | None = None
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_bytes = 0

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the encoder should aim at."""
        return int(self._target)

    @property
    def last_remb(self) -> int | None:
        """The device's newest estimate in bits per second."""
        return self._remb

    def on_sent(self, size_bytes: int, now: float) -> None:
        """Count a packet that was sent."""
        self._sent.append((now, size_bytes))
        self._sent_bytes += size_bytes
        self._forget(now)

    def sent_bitrate(self, now: float) -> float:
        """Bits per second sent during the last second."""
        self._forget(now)
        return self._sent_bytes * 8 / _SENT_WINDOW_SECONDS

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0][0] < now - _SENT_WINDOW_SECONDS:
            self._sent_bytes -= self._sent.popleft()[1]

    def on_remb(self, bitrate: int, now: float) -> None:
        """The device estimates that it can receive ``bitrate`` bits per second."""
        previous, self._remb = self._remb, bitrate
        if previous is None:
            congested = bitrate < _FIRST_REMB_SHARE * min(self.sent_bitrate(now), self._target)
        else:
            congested = bitrate < _FALLING * previous
        if congested:
            self._constrained = True
            self._cut(REMB_SHARE * bitrate, now)
        elif self._constrained:
            allowed = REMB_SHARE * bitrate
            if allowed >= self._ceiling:
                self._constrained = False
            self._target = min(max(self._target, allowed), self._ceiling)

    def on_loss(self, share: float, now: float) -> None:
        """A receiver report: ``share`` (0 to 1) of the packets since the last one was lost."""
        if share > LOSS_BACK_OFF:
            if now - self._last_loss_report >= LOSS_REPORT_INTERVAL_SECONDS:
                target = self._target * (1 - 0.5 * share)
                if share > LOSS_COLLAPSE:
                    self._constrained = True
                    target = min(target, REMB_SHARE * (1 - share) * self.sent_bitrate(now))
                self._cut(target, now)
        elif share < LOSS_CALM and now - self._last_cut > _HOLD_AFTER_CONGESTION_SECONDS:
            elapsed = min(now - self._last_climb, 2.0) if self._last_climb is not None else 0.0
            self._climb(elapsed)
        self._last_loss_report = now
        self._last_climb = now

    def _climb(self, elapsed_seconds: float) -> None:
        limit = float(self._ceiling)
        if self._constrained and self._remb is not None:
            limit = max(self._target, REMB_SHARE * self._remb)
        self._target = min(self._target * (1 + CLIMB_PER_SECOND * elapsed_seconds), limit)

    def _cut(self, target: float, now: float) -> None:
        self._target = max(MIN_TARGET_BITRATE, min(self._target, target))
        self._last_cut = now


class RetransmissionBudget:
    """Decides whether a packet that the device asks for is sent again."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}
        self._allowance_bytes = 0.0
        self._filled_at: float | None = None

    def allows(
        self, sequence_number: int, size_bytes: int, target_bitrate: int, now: float, round_trip: float | None = None
    ) -> bool:
        """Whether to send that packet again now; a yes is charged to the budget.

        ``now`` and ``round_trip`` (``None`` while unknown) in seconds.
        """
        interval = RETRANSMIT_INTERVAL_SECONDS
        if round_trip is not None:
            interval = min(interval, max(RETRANSMIT_ROUND_TRIPS * round_trip, MIN_RETRANSMIT_INTERVAL_SECONDS))
        capacity = max(RETRANSMIT_SHARE * target_bitrate / 8, 4 * size_bytes)  # a second's worth
        if self._filled_at is None:
            self._allowance_bytes = capacity
        else:
            refill = (now - self._filled_at) * RETRANSMIT_SHARE * target_bitrate / 8
            self._allowance_bytes = min(capacity, self._allowance_bytes + refill)
        self._filled_at = now
        if now - self._last.get(sequence_number, float("-inf")) < interval:
            return False
        if self._allowance_bytes < size_bytes:
            return False
        self._allowance_bytes -= size_bytes
        self._last[sequence_number] = now
        if len(self._last) > 4096:
            self._last = {key: at for key, at in self._last.items() if now - at < RETRANSMIT_INTERVAL_SECONDS}
        return True
