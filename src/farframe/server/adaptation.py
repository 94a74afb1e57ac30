"""A smaller or slower picture where the rate is too low for the one that was asked for. No I/O, the clock is passed in.

The encoder's own quantizer says when: above ``COARSE_QUANTIZER`` a picture breaks into blocks. Six more halve the bits
(H.264: the step doubles every six), so what a quantizer would be at another rate, size or pace is known well enough
beforehand. Encoders that do not tell their quantizer are judged by bits per pixel.

    step   sides   frames a second
    0      1       as asked for
    1      1       30
    2      3/4     30
    3      1/2     30
    4      1/2     15

A new size costs a keyframe and is seen, so steps are few and rare: down after ``PATIENCE_SECONDS`` of coarse pictures,
or at once, and as far as it takes, when the rate collapses; up after ``RISE_SECONDS`` in which the finer step would
have looked good, one at a time. A picture at rest is drawn in full again: it has all the time it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

COARSE_QUANTIZER = 38.0
GOOD_QUANTIZER = 32.0
QUANTIZER_PER_DOUBLING = 6.0
COARSE_BITS_PER_PIXEL = 0.02
"""Of the moving picture, where the encoder does not tell its quantizer; taken for ``COARSE_QUANTIZER``."""

PATIENCE_SECONDS = 0.7
RISE_SECONDS = 2.5
REST_SECONDS = 1.5
COLLAPSE_FACTOR = 1.6
"""A rate that falls by so much between two frames is looked at without patience."""

SMOOTHING_SECONDS = 0.4
MIN_SIDE_PIXELS = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One stage: a factor of both sides, and the most frames a second."""

    scale: float
    frames_per_second: int


STEPS = (Step(1.0, 1000), Step(1.0, 30), Step(0.75, 30), Step(0.5, 30), Step(0.5, 15))


class PictureAdaptation:
    """Which step one stream is on. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._index = 0
        self._quantizer: float | None = None
        self._spacing: float | None = None
        self._last_at: float | None = None
        self._last_bitrate: int | None = None
        self._coarse_since: float | None = None
        self._fine_since: float | None = None
        self._rest_since: float | None = None
        self._changed_at = float("-inf")

    @property
    def step(self) -> int:
        """0 for the picture as asked for; each one further is smaller or slower."""
        return self._index

    def picture(self, width: int, height: int, frames_per_second: int) -> tuple[int, int, int]:
        """The picture to draw and encode instead of the one that was asked for: even pixels, frames a second."""
        step = STEPS[self._index]
        if min(width, height) * step.scale < MIN_SIDE_PIXELS:
            return width, height, min(frames_per_second, step.frames_per_second)
        return (
            int(width * step.scale) & ~1,
            int(height * step.scale) & ~1,
            min(frames_per_second, step.frames_per_second),
        )

    def observe(
        self, now: float, *, bitrate: int, bits: int, pixels: int, quantizer: float | None, keyframe: bool, still: bool
    ) -> bool:
        """A frame was encoded: ``bits`` for ``pixels``, while ``bitrate`` (bits per second) was the aim. Whether the
        step has changed, so that :meth:`picture` says something else now."""
        if still:
            return self._rest(now)
        self._rest_since = None
        factor = self._last_bitrate / bitrate if self._last_bitrate is not None else 1.0
        self._last_bitrate = bitrate
        elapsed = now - self._last_at if self._last_at is not None else None
        self._last_at = now
        if elapsed is not None and elapsed < 1.0:
            share = min(elapsed / SMOOTHING_SECONDS, 1.0)
            self._spacing = elapsed if self._spacing is None else self._spacing + share * (elapsed - self._spacing)
        else:
            share = 1.0  # after a pause, what was before says nothing
        collapsed = factor > COLLAPSE_FACTOR and self._quantizer is not None
        if collapsed and self._quantizer is not None:
            self._quantizer += QUANTIZER_PER_DOUBLING * math.log2(factor)
        elif not keyframe:
            value = quantizer if quantizer is not None else _quantizer_of(bits / max(pixels, 1))
            self._quantizer = value if self._quantizer is None else self._quantizer + share * (value - self._quantizer)
        if self._quantizer is None:
            return False
        return self._descend(self._quantizer, now, at_once=collapsed) or self._ascend(self._quantizer, now)

    def _rest(self, now: float) -> bool:
        self._last_at = None
        self._coarse_since = self._fine_since = None
        if self._rest_since is None:
            self._rest_since = now
        sides = STEPS[self._index].scale < 1
        if sides and now - self._rest_since >= REST_SECONDS and now - self._changed_at >= RISE_SECONDS:
            return self._go(1, now, keeps=False)
        return False

    def _descend(self, quantizer: float, now: float, *, at_once: bool) -> bool:
        if quantizer <= COARSE_QUANTIZER:
            self._coarse_since = None
            return False
        if self._coarse_since is None:
            self._coarse_since = now
        if not at_once and now - self._coarse_since < PATIENCE_SECONDS:
            return False
        index = self._index
        while index + 1 < len(STEPS) and quantizer - self._relief(index) > COARSE_QUANTIZER:
            index += 1
        return self._go(index, now)

    def _ascend(self, quantizer: float, now: float) -> bool:
        if self._index == 0 or quantizer + self._burden(self._index - 1) > GOOD_QUANTIZER:
            self._fine_since = None
            return False
        if self._fine_since is None:
            self._fine_since = now
        if now - self._fine_since < RISE_SECONDS or now - self._changed_at < RISE_SECONDS:
            return False
        return self._go(self._index - 1, now)

    def _go(self, index: int, now: float, *, keeps: bool = True) -> bool:
        if index == self._index:
            return False
        if keeps and self._quantizer is not None:
            self._quantizer -= self._relief(index)
        else:
            self._quantizer = None
        self._index = index
        self._changed_at = now
        self._coarse_since = self._fine_since = self._rest_since = None
        return True

    def _relief(self, index: int) -> float:
        """How much lower the quantizer would be on another step."""
        here, there = STEPS[self._index], STEPS[index]
        pace = 1 / self._spacing if self._spacing else 30.0
        pixels = (here.scale / there.scale) ** 2
        frames = max(pace / there.frames_per_second, 1.0)
        return QUANTIZER_PER_DOUBLING * math.log2(pixels * frames)

    def _burden(self, index: int) -> float:
        """How much higher it would be on a finer one."""
        here, there = STEPS[self._index], STEPS[index]
        pixels = (there.scale / here.scale) ** 2
        frames = min(there.frames_per_second, 60) / here.frames_per_second
        return QUANTIZER_PER_DOUBLING * math.log2(pixels * max(frames, 1.0))


def _quantizer_of(bits_per_pixel: float) -> float:
    """What the quantizer probably is."""
    return COARSE_QUANTIZER - QUANTIZER_PER_DOUBLING * math.log2(max(bits_per_pixel, 1e-5) / COARSE_BITS_PER_PIXEL)
