"""How many bits the next frame may have: pure logic, the time comes from the frames' time stamps.

Encoders that count frames, not seconds, spend ``rate / frames_per_second`` on each. Frames come at an uneven pace here:
as fast as they are drawn while something moves, and not at all while nothing does. So the rate that an encoder is told
is scaled by the measured spacing of frames; 24 and 60 frames a second then take the same rate from the line.

Three things are on top:

* A frame of a picture at rest may take what the line carries in :data:`STILL_SECONDS`. There are few of them, and they
  come :data:`farframe.server.frame_loop.REFINEMENT_SECONDS` apart.
* What frames took beyond their share is a debt, which the line still carries while the next ones come. It is paid off
  by smaller frames, within about :data:`REPAY_SECONDS`. Without it the first half second after a still picture takes
  twice the rate, for encoders remember that the picture was simple.
* A frame of a picture that moves gets no more than it takes to look right (:data:`MOVING_QUANTIZER`), however much the
  line carries. More would be seen by nobody, and costs time in the encoder, in every packet, and in the decoder. Once
  the picture rests, it may have all of the rate.
"""

from __future__ import annotations

MIN_BITRATE = 100_000

SLOWEST_FRAMES_PER_SECOND = 12
"""Below this pace a frame does not get a larger share of the rate."""

LONGEST_SPACING_SECONDS = 0.2
"""A longer gap is a pause (nothing moved), and says nothing about the pace of frames."""

STILL_SECONDS = 0.2
REPAY_SECONDS = 0.4
LEAST_SHARE = 0.15
"""A frame gets at least this part of its share, however large the debt: a picture that moves must stay a picture."""

SPACING_SMOOTHING = 0.1
MOVING_QUANTIZER = 22.0
"""About 45 dB of luma in rendered pictures."""

ENOUGH_MARGIN = 1.2
ENOUGH_SMOOTHING = 0.2
QUANTIZER_PER_DOUBLING = 6.0
"""H.264: the quantizer's step doubles every six, and bits halve about as often."""

RATE_TOLERANCE = 0.03
"""Smaller changes are not worth telling an encoder."""


class BitAllowance:
    """Turns a rate in bits per second into the one that an encoder of that nominal pace must be told."""

    def __init__(self, frames_per_second: int, max_bitrate: int) -> None:
        self.frames_per_second = frames_per_second
        self.ceiling = int(max_bitrate * max(1.0, frames_per_second / SLOWEST_FRAMES_PER_SECOND))
        """The highest rate that :meth:`rate` gives."""
        self._spacing_seconds = 1 / frames_per_second
        self._last_seconds: float | None = None
        self._debt_bits = 0.0
        self._enough_bits: float | None = None
        """What a moving frame takes to look right; ``None`` before the first."""
        self._moves = False
        self._told = 0

    @property
    def debt_bits(self) -> float:
        """What was sent beyond the rate and is still on its way."""
        return self._debt_bits

    def rate(self, now_seconds: float, bits_per_second: int, *, still: bool = False) -> int:
        """The rate to tell the encoder for a frame at ``now_seconds``, on a line of ``bits_per_second``."""
        self._moves = False
        if self._last_seconds is not None:
            spacing = now_seconds - self._last_seconds
            self._debt_bits = max(0.0, self._debt_bits - spacing * bits_per_second)
            if spacing <= LONGEST_SPACING_SECONDS:
                self._spacing_seconds += SPACING_SMOOTHING * (spacing - self._spacing_seconds)
                self._moves = not still
        self._last_seconds = now_seconds
        share_seconds = STILL_SECONDS if still else self._spacing_seconds
        wanted = bits_per_second * share_seconds * self.frames_per_second
        wanted *= max(LEAST_SHARE, 1.0 - self._debt_bits / (bits_per_second * REPAY_SECONDS))
        if self._enough_bits is not None and not still:
            wanted = min(wanted, self._enough_bits * self.frames_per_second)
        limited = max(MIN_BITRATE, min(int(wanted), self.ceiling))
        if abs(limited - self._told) > RATE_TOLERANCE * self._told:
            self._told = limited
        return self._told

    def spent(self, bits: int, *, quantizer: float | None = None, keyframe: bool = False) -> None:
        """The frame that :meth:`rate` was asked for last was encoded, and took so much, with that mean ``quantizer``
        (``None`` where the encoder does not tell: then it is not limited by what looks right)."""
        self._debt_bits += bits
        if quantizer is None or keyframe or not self._moves:
            return
        enough = ENOUGH_MARGIN * bits * 2 ** ((quantizer - MOVING_QUANTIZER) / QUANTIZER_PER_DOUBLING)
        if self._enough_bits is None or enough > self._enough_bits:
            self._enough_bits = enough  # a picture that has become richer must not stay coarse
        else:
            self._enough_bits += ENOUGH_SMOOTHING * (enough - self._enough_bits)
