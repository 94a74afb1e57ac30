"""What is hidden behind what has been drawn: boxes tested against a coarse picture of the depth. Pure numpy, no GPU.

    likely, unlikely = what the depth of an earlier picture says about this view      a guess
    draw what is likely, reduce its depth to a grid                                   GPU, first pass
    of the unlikely draw what that grid does not hide                                 GPU, second pass

The guess may be wrong in both directions and only costs time: what is drawn needlessly changes no pixel, and what was
left out is tested against depth of this very picture. So a picture is the same as without (two-pass occlusion culling:
Greene, "Hierarchical Z-Buffer Visibility", 1993; Karis, "Nanite", 2021), but for what the order of drawing does to any
picture: of surfaces that lie in exactly the same place the one that is drawn first is seen, and with several samples
colours of silhouettes may be off by a few steps of 255.

Depth is reversed-Z, 1 at the near clip distance and 0 at the far one, so the farthest depth is the least number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE = 8
"""Pixels along a side of the grid's finest cells."""

TAPS = 4
"""Cells along a side that a box is compared with, at most: the level of the grid is chosen so."""

ROUNDING = 1e-4
"""By this share a box counts as nearer than it is, for what single precision costs in the shaders."""

FIRST_GUESS = 1e-7
"""Seconds that a triangle costs, before any picture was timed."""
HIDDEN_PRICE = 0.3
"""What a hidden triangle costs in parts of what a picture costs per triangle: it is found to be behind others before
any pixel of it is shaded."""
SMOOTHING = 0.2
"""Weight of the newest picture in what was measured."""
PLAIN_PICTURES = 40
"""Pictures without culling after which it is tried again."""
TRIED_PICTURES = 3
"""Pictures that a trial takes: the first has no good guess to start from."""
LEAST_TRIANGLES = 20_000
"""Fewer are never worth it."""
CERTAINTY = 1.3
"""By which factor the gain must exceed the cost."""


@dataclass(frozen=True, slots=True)
class DepthGrid:
    """The farthest depth in squares of pixels of a view. ``levels``: (h, w) float32, each half the one before;
    ``matrix``: the view projection with which it was drawn, relative to the scene's ``origin``; ``corner``: the upper
    left pixel of the view in the picture, ``size``: its width and height in pixels."""

    levels: tuple[NDArray[np.float32], ...]
    matrix: NDArray[np.float64]
    origin: NDArray[np.float64]
    corner: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(
        cls,
        finest: NDArray[np.float32],
        matrix: NDArray[np.float64],
        origin: NDArray[np.float64],
        corner: tuple[int, int],
        size: tuple[int, int],
    ) -> DepthGrid:
        """The grid of a view from the picture's finest level (h, w): the farthest depth of each TILE x TILE pixels."""
        levels = [np.ascontiguousarray(finest, np.float32)]
        while max(levels[-1].shape) > 1:
            level = levels[-1]
            height, width = level.shape
            level = np.pad(level, ((0, height % 2), (0, width % 2)), mode="edge")
            rows = np.minimum(level[0::2], level[1::2])
            levels.append(np.minimum(rows[:, 0::2], rows[:, 1::2]))
        return cls(tuple(levels), matrix, origin.copy(), corner, size)

    def hides(self, center: NDArray[np.float32], extent: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of n boxes, (n, 3) centres and half sizes relative to the grid's origin, lie wholly behind the depth.

        Boxes that reach the eye's plane, or that this view does not see at all, are not hidden.
        """
        answer = np.zeros(len(center), np.bool_)
        if not len(center):
            return answer
        # The eight corners, as sums and differences of what the axes contribute to clip coordinates (x, y, z, w).
        middle = center @ self.matrix[:, :3].T + self.matrix[:, 3]
        clip = middle[:, None, :]
        for axis in range(3):
            side = extent[:, axis, None, None] * self.matrix[None, None, :, axis]
            clip = np.concatenate([clip - side, clip + side], axis=1)
        w = clip[:, :, 3]
        before = np.flatnonzero(w.min(axis=1) > 1e-6)
        clip, w = clip[before], w[before]
        x, y, depth = (clip[:, :, axis] / w for axis in range(3))
        nearest = depth.max(axis=1) * (1.0 + ROUNDING)
        width, height = self.size
        left = np.floor((x.min(axis=1) + 1.0) * (0.5 * width)) - 1.0
        right = np.floor((x.max(axis=1) + 1.0) * (0.5 * width)) + 1.0
        top = np.floor((1.0 - y.max(axis=1)) * (0.5 * height)) - 1.0
        bottom = np.floor((1.0 - y.min(axis=1)) * (0.5 * height)) + 1.0
        within = np.flatnonzero((right >= 0.0) & (left < width) & (bottom >= 0.0) & (top < height) & (nearest < 1.0))
        before, nearest = before[within], nearest[within]
        first_x, last_x = self._cells(left[within], right[within], width, self.corner[0])
        first_y, last_y = self._cells(top[within], bottom[within], height, self.corner[1])
        span = np.maximum(last_x - first_x, last_y - first_y) + 1
        # On level n a span of s cells touches at most (s - 1) / 2 ** n + 1 of them.
        level = np.ceil(np.log2(np.maximum((span - 1) / (TAPS - 1), 1.0))).astype(np.int64)
        level = np.minimum(level, len(self.levels) - 1)
        farthest = np.empty(len(before), np.float32)
        for number in np.unique(level).tolist():
            rows = np.flatnonzero(level == number)
            cells = self.levels[number]
            x0, x1 = first_x[rows] >> number, last_x[rows] >> number
            y0, y1 = first_y[rows] >> number, last_y[rows] >> number
            found = np.full(len(rows), np.inf, np.float32)
            for down in range(int((y1 - y0).max()) + 1):
                row = np.minimum(y0 + down, y1)
                for across in range(int((x1 - x0).max()) + 1):
                    found = np.minimum(found, cells[row, np.minimum(x0 + across, x1)])
            farthest[rows] = found
        answer[before] = nearest < farthest
        return answer

    @staticmethod
    def _cells(
        first: NDArray[np.float64], last: NDArray[np.float64], size: int, corner: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first and last finest cells along an axis that pixels ``first`` to ``last`` of the view lie in."""
        low = (np.clip(first, 0, size - 1).astype(np.int64) + corner) // TILE
        high = (np.clip(last, 0, size - 1).astype(np.int64) + corner) // TILE
        return low, high


class OcclusionGovernor:
    """Decides, from what was measured, whether culling what is hidden pays for the next picture."""

    def __init__(self) -> None:
        self._seconds_per_triangle = FIRST_GUESS
        self._overhead = 0.0
        self._hidden_share = 0.0
        self._tries = TRIED_PICTURES
        self._plain = 0

    @property
    def hidden_share(self) -> float:
        """The share of the triangles in view that was found hidden when last it was looked for."""
        return self._hidden_share

    def wanted(self, triangles: int) -> bool:
        """Whether to cull in a picture with so many triangles in view; sometimes only to see whether it would pay."""
        if triangles < LEAST_TRIANGLES:
            return False
        if self._plain >= PLAIN_PICTURES:
            self._plain, self._tries = 0, TRIED_PICTURES
        if self._tries or self._hidden_share * triangles * self._seconds_per_triangle > CERTAINTY * self._overhead:
            return True
        self._plain += 1
        return False

    def observe_plain(self, triangles: int, seconds: float) -> None:
        """A picture was drawn without culling, in so many seconds."""
        if triangles >= LEAST_TRIANGLES:
            price = HIDDEN_PRICE * seconds / triangles
            self._seconds_per_triangle += SMOOTHING * (price - self._seconds_per_triangle)

    def observe_culled(self, triangles: int, hidden: int, overhead: float) -> None:
        """A picture was drawn with culling: how many triangles were in view, how many of these it left out, and the
        seconds spent on finding out."""
        first = self._overhead == 0.0
        self._overhead += (1.0 if first else SMOOTHING) * (overhead - self._overhead)
        # What is hidden changes with the view at once; how long it takes to tell hardly does.
        self._hidden_share = hidden / max(triangles, 1)
        self._tries = max(self._tries - 1, 0)
