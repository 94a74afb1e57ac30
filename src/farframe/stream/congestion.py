"""How fast to send, from transport-wide feedback: delay, loss, what arrives, and probes. No I/O, the clock is passed
in.

The frame is draft-ietf-rmcat-gcc-02 ("Google Congestion Control"): a delay-based rate, raised additively or
multiplicatively and lowered to 0.85 of what arrives when :mod:`farframe.stream.delay_trend` sees a queue grow, and a
loss-based rate; the smaller one counts. What differs, and why:

* Rises do not wait for 8 % a second: clusters of packets (:mod:`farframe.stream.probing`) show free capacity, about
  once a second while the line limits the stream, and the rate follows at once. A promise that congestion breaks within
  a second is taken back to the rate before it.
* A scene that hardly moves sends little. Then the rate neither grows (the draft's cap of 1.5 times what arrives) nor is
  it lowered to what arrives, for that says nothing about the line; every ten seconds a cluster checks that the line
  still carries it, and three that say otherwise in a row lower it.
* What is on its way is limited (as in RFC 8298): no more than the rate times the loop's least delay, the spacing of
  reports and 150 ms more (40 ms while a queue stands). A line that narrows or vanishes therefore stops the stream by
  itself within a fraction of a second, instead of filling a queue that must drain before anything new arrives.
* A burst of packets that arrives at less than half the rate, its longest pause left out, is congestion at once.
* Loss above 20 % is a collapse: at once 0.85 of what still arrives.
* Bursts: when a frame's packets arrive as fast as they were sent, the pace at which frames go out grows, up to 80
  Mbit/s, and where they spread out it falls to the pace at which they arrived, but not below 2.5 times the rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from farframe.stream.acknowledged import AcknowledgedBitrate
from farframe.stream.delay_trend import STANDING_QUEUE_SECONDS, DelayTrend, Usage
from farframe.stream.feedback import TransportFeedback
from farframe.stream.probing import Probe, Prober, measure_cluster
from farframe.stream.rate import MIN_TARGET_BITRATE
from farframe.stream.transmissions import PacketResult, TransmissionLog

BACK_OFF = 0.85
MILD_BACK_OFF = 0.7
"""The most that one step takes away on a line that makes pauses, and so is not full."""

CLIMB_PER_SECOND = 0.08
ACKNOWLEDGED_FACTOR = 1.5
ACKNOWLEDGED_EXTRA = 10_000
HOLD_SECONDS = 0.3
MIN_DECREASE_SECONDS = 0.2
PACKET_BITS = 1200 * 8
CAPACITY_SMOOTHING = 0.05
CAPACITY_DEVIATIONS = 3.0

LOSS_CALM = 0.02
LOSS_BACK_OFF = 0.10
LOSS_COLLAPSE = 0.20
MIN_LOSS_PACKETS = 20
MIN_LOSS_SECONDS = 0.15

QUIET_SHARE = 0.1
"""Sending less than this share, the stream has no use for more at present."""

SWALLOWING_SECONDS = 0.2
LIMITED_SHARE = 0.65
"""Sending more than this share of the rate, the stream is limited by it."""

SENT_SECONDS = 1.0
MAX_REPAIRS_SHARE = 0.5
"""Of the rate, for what is sent again and for parities; the picture keeps the rest."""

PACE_FACTOR = 2.5
SUSTAINED_FACTOR = 1.1
"""By the rate: what frames may take in the long run. Packets' heads and an encoder that is a little over are in it."""

MIN_SUSTAINED = 300_000
MIN_PACE = 1_500_000
MAX_PACE = 80_000_000
TRAIN_GAP_SECONDS = 0.008
MIN_TRAIN_PACKETS = 6
TRAINS = 8
COLLAPSE_PACKETS = 7
COLLAPSE_SHARE = 0.5
HINT_FACTOR = 1.6
LOOP_WINDOW_SECONDS = 10.0
WINDOW_SECONDS = 0.15
DRAIN_SECONDS = 0.04
"""The same while a queue stands on the line, so that it drains."""

MIN_WINDOW_BYTES = 12_000
PROMISE_SECONDS = 1.0
SILENT_SECONDS = 0.6
"""So long after the oldest unreported packet a line that says nothing has vanished."""

TAIL_SECONDS = 0.05
RESUME_SHARE = 0.7
STALE_SHARE = 0.8
DOUBTS = 3
"""So many clusters in a row must say that a line, of which little is asked, carries less than was thought."""


class CongestionController:
    """The rate, the pace and the allowance of one stream. Bits per second, bytes, seconds of one monotonic clock."""

    def __init__(self, ceiling: int, *, start: int | None = None, floor: int = MIN_TARGET_BITRATE) -> None:
        self._ceiling = float(ceiling)
        self._floor = float(min(floor, ceiling))
        self._target = float(min(start or ceiling, ceiling))
        self._loss_target = self._ceiling
        self.log = TransmissionLog()
        self._trend = DelayTrend()
        self._acknowledged = AcknowledgedBitrate()
        self._prober = Prober(self._ceiling)
        self._prober.start(self._target)
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_bytes = 0
        self._repaired: deque[tuple[float, int]] = deque()
        self._repaired_bytes = 0
        self._last_update: float | None = None
        self._last_decrease = float("-inf")
        self._hold_until = float("-inf")
        self._capacity: float | None = None
        self._capacity_deviation = 0.1
        self._promise: tuple[float, float] | None = None
        self._doubts: list[float] = []
        self._losses: deque[tuple[float, bool]] = deque()
        self._loss_checked = float("-inf")
        self._loss_counts_from = float("-inf")
        self._loops: deque[tuple[float, float]] = deque()
        self._spacing = 0.1
        self._last_feedback: float | None = None
        self._burst_pace = 0.0
        self._trains: deque[float] = deque(maxlen=TRAINS)
        self._train_rate = float("inf")
        self.loss = 0.0
        """Share of packets lost, 0 to 1, over the newest reports."""
        self.silent = False
        """The line has vanished: packets are on their way and nothing is reported."""
        self.decreases = 0
        self.feedbacks = 0

    # What the sender reads

    @property
    def total_bitrate(self) -> int:
        """Bits per second for all that is sent."""
        return int(self._bounded(min(self._target, self._loss_target)))

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the encoder should aim at: the total without what is sent again and without parities."""
        total = self.total_bitrate
        repairs = min(self._repaired_bytes * 8 / SENT_SECONDS, MAX_REPAIRS_SHARE * total)
        return int(max(total - repairs, self._floor))

    @property
    def pacing_bitrate(self) -> float:
        """Bits per second at which the packets of a frame leave."""
        if self.queue_seconds > STANDING_QUEUE_SECONDS:
            return float(self.total_bitrate)  # what comes faster than a full queue drains is lost
        return max(PACE_FACTOR * self.total_bitrate, MIN_PACE, min(self._burst_pace, MAX_PACE))

    @property
    def sustained_bitrate(self) -> float:
        """Bits per second that frames may take in the long run, whatever their pace."""
        return max(SUSTAINED_FACTOR * self.total_bitrate, MIN_SUSTAINED)

    @property
    def queue_seconds(self) -> float:
        """How long the queue on the line is, as far as the newest report shows."""
        return self._trend.queue_seconds

    @property
    def loop_seconds(self) -> float | None:
        """The least time of late from sending a packet to hearing of it."""
        return self._loops[0][1] if self._loops else None

    @property
    def window_bytes(self) -> int:
        """How many more bytes may be on their way now; may be negative."""
        seconds = 1.0  # while nothing is known yet
        if self.feedbacks:
            spare = WINDOW_SECONDS if self.queue_seconds < STANDING_QUEUE_SECONDS else DRAIN_SECONDS
            seconds = (self.loop_seconds or 0.0) + min(self._spacing, 0.25) + spare
        allowed = max(self.total_bitrate / 8 * seconds, MIN_WINDOW_BYTES)
        return int(allowed) - self.log.in_flight_bytes

    def limited(self, now: float) -> bool:
        """Whether the stream would send more if it were allowed to."""
        self._forget(now)
        return self._sent_rate > LIMITED_SHARE * self.total_bitrate

    @property
    def _sent_rate(self) -> float:
        return self._sent_bytes * 8 / SENT_SECONDS

    def _bounded(self, rate: float) -> float:
        return max(self._floor, min(rate, self._ceiling))

    # What the sender tells

    def on_sent(
        self, size: int, now: float, *, cluster: int = 0, repair: bool = False, media: int | None = None
    ) -> None:
        """A packet of ``size`` bytes left with the log's next number.

        ``repair``: it was sent before, and lost, or it is a parity. ``media`` comes back with what became of it;
        ``None`` for parities and filling.
        """
        self.log.add(size, now, cluster, media)
        if media is not None or repair:  # what fills a probe tells nothing of how much there is to send
            self._sent.append((now, size))
            self._sent_bytes += size
        if repair:
            self._repaired.append((now, size))
            self._repaired_bytes += size
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0][0] < now - SENT_SECONDS:
            self._sent_bytes -= self._sent.popleft()[1]
        while self._repaired and self._repaired[0][0] < now - SENT_SECONDS:
            self._repaired_bytes -= self._repaired.popleft()[1]

    def tail_is_due(self, now: float) -> bool:
        """Whether what was sent last may have been lost without anyone noticing: it should be sent once more."""
        oldest = self.log.oldest_unreported
        if oldest is None:
            return False
        return now - oldest > (self.loop_seconds or 0.1) + 1.5 * min(self._spacing, 0.25) + TAIL_SECONDS

    def check_silence(self, now: float) -> bool:
        """Notice a vanished line; whether it has vanished."""
        oldest = self.log.oldest_unreported
        heard = self._last_feedback
        if (
            oldest is not None
            and heard is not None
            and now - max(oldest, heard) > SILENT_SECONDS + (self.loop_seconds or 0.0)
        ):
            self.silent = True
        return self.silent

    def take_probe(self, now: float) -> Probe | None:
        """The cluster of packets to send now, if one is due."""
        if self.silent or self.feedbacks == 0 or self.loss > LOSS_BACK_OFF or now < self._hold_until:
            return None
        limited = self.limited(now)
        rate = self.total_bitrate
        if not limited and rate >= self._ceiling / 1.1:
            return self._prober.check(now, rate)
        quiet = self._sent_rate < QUIET_SHARE * rate
        return self._prober.next(now, rate, quiet=quiet)

    def on_feedback(self, feedback: TransportFeedback, now: float) -> list[PacketResult]:
        """Take a report; returns what was new in it."""
        results = self.log.report(feedback)
        arrivals = [(result.sent_at, result.arrived_at, result.size) for result in results if result.arrived_at]
        if not arrivals:
            return results
        self.feedbacks += 1
        if self._last_feedback is not None:
            self._spacing += 0.1 * (min(now - self._last_feedback, 0.5) - self._spacing)
        self._last_feedback = now
        if self.silent:
            self._resume(now)
        self._follow_loop(now - max(sent for sent, _, _ in arrivals), now)
        for _, arrived_at, size in sorted(arrivals, key=lambda arrival: arrival[1]):
            self._acknowledged.add(arrived_at, size)
        times = [(sent, arrived) for sent, arrived, _ in arrivals]
        usage = self._trend.update(times, now, busy=self._acknowledged.continuous)
        collapsed = self._follow_trains(results) and (self.limited(now) or self._train_rate < 0.8 * self._sent_rate)
        if collapsed:
            usage = Usage.OVERUSED
        shown = self._prober.take(results, now, self._trend.base_delay)
        self._update_loss(results, now)
        if usage is Usage.OVERUSED:
            self._lower(now, collapsed=collapsed)
        elif shown is not None:
            self._follow_probe(shown, now)
        else:
            if usage is Usage.UNDERUSED:
                self._hold_until = max(self._hold_until, now + 0.1)
            self._climb(now)
        self._last_update = now
        return results

    # Following

    def _resume(self, now: float) -> None:
        """The line is back: begin carefully, and look at once how much it carries."""
        self.silent = False
        self._loss_counts_from = now
        self._losses.clear()
        self._acknowledged = AcknowledgedBitrate()
        self._prober.start(self._target / 2)
        self._target = self._bounded(RESUME_SHARE * self._target)
        self._hold_until = now + HOLD_SECONDS

    def _follow_loop(self, loop: float, now: float) -> None:
        while self._loops and self._loops[0][0] < now - LOOP_WINDOW_SECONDS:
            self._loops.popleft()
        while self._loops and self._loops[-1][1] >= loop:
            self._loops.pop()
        self._loops.append((now, loop))

    def _follow_trains(self, results: Sequence[PacketResult]) -> bool:
        """Look at each burst of packets; whether the newest arrived far slower than the rate: a line that collapsed."""
        train: list[PacketResult] = []
        collapsed = False
        for result in results:
            if train and result.sent_at - train[-1].sent_at > TRAIN_GAP_SECONDS:
                collapsed = self._follow_train(train) or (collapsed and len(train) < MIN_TRAIN_PACKETS)
                train = []
            train.append(result)
        return self._follow_train(train) or (collapsed and len(train) < MIN_TRAIN_PACKETS)

    def _follow_train(self, train: list[PacketResult]) -> bool:
        arrived = [result for result in train if result.arrived_at is not None]
        if len(arrived) < MIN_TRAIN_PACKETS:
            return False
        sent_seconds = arrived[-1].sent_at - arrived[0].sent_at
        shown = measure_cluster(arrived)
        if sent_seconds <= 0 or shown is None:
            return False
        sent_rate = sum(result.size for result in arrived[:-1]) * 8 / sent_seconds
        self._trains.append(shown)
        if len(arrived) == len(train) and shown >= 0.8 * sent_rate:
            self._burst_pace = max(self._burst_pace, min(1.25 * sent_rate, MAX_PACE))
        else:
            self._burst_pace = min(self._burst_pace, shown)
        self._train_rate = _rate_without_pause(arrived)
        return len(arrived) >= COLLAPSE_PACKETS and self._train_rate < COLLAPSE_SHARE * self.total_bitrate

    def _update_loss(self, results: Sequence[PacketResult], now: float) -> None:
        for result in results:
            if result.sent_at >= self._loss_counts_from:
                self._losses.append((now, result.arrived_at is None))
        while len(self._losses) > MIN_LOSS_PACKETS and self._losses[0][0] < now - 2 * MIN_LOSS_SECONDS:
            self._losses.popleft()
        if len(self._losses) < MIN_LOSS_PACKETS:
            return
        self.loss = sum(lost for _, lost in self._losses) / len(self._losses)
        elapsed = now - self._loss_checked
        if elapsed < MIN_LOSS_SECONDS and self.loss <= LOSS_COLLAPSE:
            return
        self._loss_checked = now
        if self.loss > LOSS_BACK_OFF:
            rate = min(self._loss_target, self._target) * (1 - 0.5 * self.loss)
            recent = self._acknowledged.recent
            full = self.limited(now) or self.queue_seconds > STANDING_QUEUE_SECONDS
            if self.loss > LOSS_COLLAPSE and recent is not None and full:
                rate = min(rate, BACK_OFF * recent)
                self._target = min(self._target, self._bounded(rate))
            self._loss_target = self._bounded(rate)
            self._decreased(now)
        else:
            per_second = CLIMB_PER_SECOND if self.loss < LOSS_CALM else CLIMB_PER_SECOND / 2
            self._loss_target = min(self._loss_target * (1 + per_second * min(elapsed, 1.0)), self._ceiling)

    def _lower(self, now: float, *, collapsed: bool = False) -> None:
        """A queue grows: 0.85 of what arrives. ``collapsed``: a burst has shown that less arrives than is sent."""
        spacing = max(MIN_DECREASE_SECONDS, min(1.2 * (self.loop_seconds or 0.0), 0.5))
        recent = self._acknowledged.recent
        if not self.limited(now) and not collapsed and not self._swallows(now):
            return  # little is sent, and it arrives: whatever is late, this stream is not what fills the line
        if recent is not None and self._train_rate < COLLAPSE_SHARE * self._target:
            recent = min(recent, self._train_rate)
        elif recent is not None and not self._acknowledged.continuous:
            # Only while the line is busy all the time is a short look enough.
            recent = max(recent, self._acknowledged.steady or 0.0)
        if now - self._last_decrease < spacing and not (recent is not None and recent < 0.5 * self._target):
            return
        if self._promise is not None and now - self._promise[0] < PROMISE_SECONDS:
            before = self._promise[1]
            self._promise = None
            self._prober.failed(now)
            target = max(before, BACK_OFF * recent) if recent is not None else before
        elif recent is not None:
            target = BACK_OFF * recent
            if not collapsed and not self._acknowledged.continuous:
                target = max(target, MILD_BACK_OFF * self._target)
            self._learn_capacity(recent)
        else:
            target = BACK_OFF * self._target
        self._target = self._bounded(min(self._target, target))
        self._decreased(now)

    def _swallows(self, now: float) -> bool:
        """Whether a queue stands although little is sent: a line that is narrower than even this."""
        since = self._trend.standing_since
        return since is not None and now - since > SWALLOWING_SECONDS

    def _decreased(self, now: float) -> None:
        self._last_decrease = now
        self._loss_counts_from = now  # what was sent before is lost for a reason that has been answered
        self._losses.clear()
        self._hold_until = max(self._hold_until, now + HOLD_SECONDS)
        self._prober.congested(now)
        self._doubts.clear()
        self.decreases += 1

    def _learn_capacity(self, recent: float) -> None:
        """Follow the rate at which congestion began (draft, section 5.5: the average and its variance)."""
        if self._capacity is None or abs(recent - self._capacity) > CAPACITY_DEVIATIONS * self._spread():
            self._capacity = recent
        else:
            error = recent - self._capacity
            self._capacity += CAPACITY_SMOOTHING * error
            relative = abs(error) / max(self._capacity, 1.0)
            self._capacity_deviation += CAPACITY_SMOOTHING * (relative - self._capacity_deviation)
            self._capacity_deviation = min(max(self._capacity_deviation, 0.03), 0.2)

    def _spread(self) -> float:
        return self._capacity_deviation * (self._capacity or 0.0)

    def _follow_probe(self, shown: float, now: float) -> None:
        rate = self.total_bitrate
        if shown > 1.05 * rate:
            self._promise = (now, self._target)
            self._target = self._bounded(shown)
            self._loss_target = max(self._loss_target, self._target)
            self._capacity = None
            self._doubts.clear()
        elif shown < STALE_SHARE * rate and self._sent_rate < QUIET_SHARE * rate:
            self._doubts.append(shown)
            if len(self._doubts) == DOUBTS:
                self._target = self._bounded(max(self._doubts))
                self._doubts.clear()
            else:
                self._prober.again(now)
        else:
            self._doubts.clear()

    def _climb(self, now: float) -> None:
        if self._last_update is None or now < self._hold_until:
            return
        elapsed = min(now - self._last_update, 0.5)
        recent = self._acknowledged.steady
        if self._capacity is not None and self._target > self._capacity + CAPACITY_DEVIATIONS * self._spread():
            self._capacity = None
        if self._capacity is not None and self._target > self._capacity - CAPACITY_DEVIATIONS * self._spread():
            # Near the limit: about half a packet more for every response time.
            response = (self.loop_seconds or 0.05) + 0.1
            target = self._target + max(0.5 * PACKET_BITS / response, 4_000) * elapsed
        else:
            target = self._target * (1 + CLIMB_PER_SECOND * elapsed)
        if recent is not None:
            target = min(target, max(self._target, ACKNOWLEDGED_FACTOR * recent + ACKNOWLEDGED_EXTRA))
        self._target = self._bounded(target)
        room = self._target < self._ceiling / 1.1
        if room and len(self._trains) == TRAINS and sorted(self._trains)[TRAINS // 3] > HINT_FACTOR * self._target:
            self._trains.clear()
            self._prober.hint(now)


def _rate_without_pause(arrived: list[PacketResult]) -> float:
    """Bits per second at which a burst arrived, its longest pause left out: that may be the receiver's own."""
    times = sorted(result.arrived_at or 0.0 for result in arrived)
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    size = sum(result.size for result in arrived) / len(arrived)
    return (len(gaps) - 1) * size * 8 / max(sum(gaps[:-1]), 1e-4)
