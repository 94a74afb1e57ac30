"""How often poses are sent while nothing comes back. No I/O, the clock is passed in.

Poses go over SCTP, unordered and never sent again. Even so they wait when a line was gone: what was sent into the
silence counts as on its way until SCTP's timer runs out, and from then on only one packet's worth may be so until the
timer runs out again, after a second here and up to three in browsers. Poses at their usual pace use that up at once,
and when the line is back the next one waits for the timer.

So while nothing is heard poses are sent farther and farther apart, by a fixed part of the silence. One packet's worth
is then never used up, and the first pose that finds a line passes at once. The browser client does the same.
"""

from __future__ import annotations

SILENT_SECONDS = 0.25
"""Nothing need come back for so long after a pose: a long line, and a picture that takes a while to draw."""

SILENCE_PART = 1 / 6
MAX_SPACING_SECONDS = 0.3


class PosePace:
    """Whether a pose may be sent now. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._unheard_since: float | None = None
        self._sent_at = float("-inf")

    def heard(self) -> None:
        """A frame came back: poses are sent as they come."""
        self._unheard_since = None

    def allows(self, now: float) -> bool:
        """Whether the newest pose may be sent; if so, it counts as sent."""
        if self._unheard_since is None:
            self._unheard_since = now
        silence = now - self._unheard_since - SILENT_SECONDS
        if silence > 0 and now - self._sent_at < min(silence * SILENCE_PART, MAX_SPACING_SECONDS):
            return False
        self._sent_at = now
        return True
