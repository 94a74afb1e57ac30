"""How well the next frame may be drawn: pure logic, no GPU, no clock of its own.

A GPU draws everything always. A CPU draws the still picture in full, and in motion gives up what is missed least
until frames take no longer than the target: first multisampling, then detail of parts that is smaller than a pixel,
then resolution, at last both. The rungs of that ladder:

    rung   samples   pixel_error   scale
    0      4         0             1
    1      1         0             1
    2      1         0.5           1
    3      1         1             1
    4 - 6  1         1             0.85, 0.7, 0.6
    7      1         1.5           0.5
    8      1         2             0.5

Clusters of assets have an error of their own: 1 pixel on the first rungs, up to 3 on the last.

Errors are in drawn pixels, so parts get coarser with the resolution. Beyond an error of one pixel a smaller picture
costs less than coarser parts do and is closer to the full one: docs/rendering.md has the figures.

Rate comes before detail: beyond rung 5, from where more is hardly seen in motion, a rung has to do with a sixtieth of a
second. What a fast machine has to spare so goes into more frames first, and into detail then.

The governor steps down as soon as a smoothed frame time is over the target, and by as many rungs as it is over; it
steps up one rung only when frames have been well under the target for a while, and waits longer each time that this
turned out to be too much. So it settles instead of flickering. The rung is kept for the next motion.
"""

from __future__ import annotations

from farframe.render.device import AdapterKind
from farframe.render.frame import FULL_QUALITY, Quality

LADDER: tuple[Quality, ...] = (
    FULL_QUALITY,
    Quality(samples=1, scale=1.0, pixel_error=0.0),
    Quality(samples=1, scale=1.0, pixel_error=0.5),
    Quality(samples=1, scale=1.0, pixel_error=1.0, cut_error=1.5),
    Quality(samples=1, scale=0.85, pixel_error=1.0, cut_error=1.5),
    Quality(samples=1, scale=0.7, pixel_error=1.0, cut_error=2.0),
    Quality(samples=1, scale=0.6, pixel_error=1.0, cut_error=2.0),
    Quality(samples=1, scale=0.5, pixel_error=1.5, cut_error=2.5),
    Quality(samples=1, scale=0.5, pixel_error=2.0, cut_error=3.0),
)
"""From the best to the least; see the table above."""

SMOOTHING = 0.35
"""Weight of the newest frame in the smoothed time: three or four frames decide, a single hiccup does not."""
HICCUP_RATIO = 2.0
"""A frame this many times slower than the smoothed time counts as no more than this: another process had the CPU."""
FAR_OVER = 1.6
"""Over the limit by this factor, two rungs are taken at once."""
HEADROOM = 0.6
"""A rung up is tried only below this share of that rung's limit, for the next rung costs up to half as much again."""
SETTLE_FRAMES = 3
"""Frames after a step down whose times decide nothing yet: the smoothed time has to forget the old rung."""
PATIENCE_FRAMES = 20
"""Frames with headroom before a rung up is tried."""
MAX_PATIENCE_FRAMES = 320
RELAPSE_FRAMES = 60
"""A step down so soon after a step up means that the step up was wrong: patience doubles."""
START_RUNG = 5
FLUENT_RUNG = 5
FLUENT_SECONDS = 1 / 60
"""From this rung on a picture in motion is worth the target time; better ones must do with this."""


class QualityGovernor:
    """Chooses the :class:`Quality` of frames. ``target_seconds`` is what drawing and reading back may take, and
    :data:`FLUENT_SECONDS` on the rungs above :data:`FLUENT_RUNG`."""

    def __init__(self, adapter_kind: AdapterKind, target_seconds: float) -> None:
        if not target_seconds > 0.0:
            raise ValueError("a frame's target time must be positive")
        self._gpu = adapter_kind == "gpu"
        self.target_seconds = target_seconds
        self._rung = START_RUNG
        self._smoothed: float | None = None
        self._settling = 0
        self._with_headroom = 0
        self._patience = PATIENCE_FRAMES
        self._since_step_up = RELAPSE_FRAMES

    @property
    def rung(self) -> int:
        """The rung of :data:`LADDER` that motion is drawn with."""
        return 0 if self._gpu else self._rung

    def limit_seconds(self, rung: int) -> float:
        """What a frame may take on a rung."""
        return self.target_seconds if rung >= FLUENT_RUNG else min(self.target_seconds, FLUENT_SECONDS)

    @property
    def full(self) -> Quality:
        """The quality of the still picture."""
        return FULL_QUALITY

    def choose(self, *, moving: bool) -> Quality:
        """What to draw the next frame with. ``moving``: whether the device's pose or the scene is changing."""
        return LADDER[self.rung] if moving else FULL_QUALITY

    def observe(self, quality: Quality, seconds: float, *, moving: bool) -> None:
        """Tell how long drawing and reading back a frame of ``quality`` took.

        Times of still frames, and of frames with another quality than the present one, tell nothing and do not count.
        """
        if self._gpu or not moving or quality != LADDER[self._rung]:
            return
        if self._settling:
            self._settling -= 1
            self._smoothed = None
            return
        if self._smoothed is None:
            self._smoothed = seconds
        else:
            bounded = min(seconds, HICCUP_RATIO * self._smoothed)
            self._smoothed += SMOOTHING * (bounded - self._smoothed)
        self._since_step_up += 1
        limit = self.limit_seconds(self._rung)
        if self._smoothed > limit:
            self._step_down(2 if self._smoothed > FAR_OVER * limit else 1)
        elif self._smoothed < HEADROOM * self.limit_seconds(self._rung - 1):
            self._with_headroom += 1
            if self._with_headroom >= self._patience:
                self._step_up()
        else:
            self._with_headroom = 0

    def _step_down(self, rungs: int) -> None:
        self._with_headroom = 0
        if self._rung == len(LADDER) - 1:
            return
        if self._since_step_up < RELAPSE_FRAMES:
            self._patience = min(MAX_PATIENCE_FRAMES, 2 * self._patience)
        self._rung = min(len(LADDER) - 1, self._rung + rungs)
        self._settling = SETTLE_FRAMES
        self._since_step_up = RELAPSE_FRAMES

    def _step_up(self) -> None:
        self._with_headroom = 0
        # Motion never draws with four samples: the still picture follows soon enough.
        if self._rung <= 1:
            return
        self._rung -= 1
        self._settling = SETTLE_FRAMES
        self._since_step_up = 0
