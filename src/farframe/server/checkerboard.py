"""The checkerboard that takes the place of a picture with more primitives than the session's size may draw.

Azure Remote Rendering showed one on servers of size Standard beyond 20 million primitives. Here it is an option:
without it, such a picture is drawn all the same, only rated *Bad*. It comes after a delay, so that an application that
watches the rating can hide something first, and goes with the first picture that is within the limit again.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from farframe.render import RenderedFrame

DELAY_SECONDS = 3.0
FADE_SECONDS = 1.0
SQUARES_PER_HEIGHT = 18
LIGHT, DARK = 168, 104
"""sRGB values of the squares: neither is mistaken for a model or for the backdrop."""


class Checkerboard:
    """Covers pictures beyond the limit. Lives in the render thread; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._drawn_share = 0.0
        self._board: NDArray[np.uint8] | None = None

    def share(self, now: float) -> float:
        """How much of the board is to be seen at ``now``, from 0 to 1."""
        if self._since is None:
            return 0.0
        return min(max((now - self._since - DELAY_SECONDS) / FADE_SECONDS, 0.0), 1.0)

    def changes(self, now: float) -> bool:
        """Whether a picture of ``now`` would show more or less of it than the last one."""
        return self.share(now) != self._drawn_share

    def cover(self, frame: RenderedFrame, now: float) -> RenderedFrame:
        """The picture as it is to be shown: itself, or a covered copy, for which its own memory is handed back."""
        if not frame.over_limit:
            self._since = None
        elif self._since is None:
            self._since = now
        share = self._drawn_share = self.share(now)
        if not share:
            return frame
        covered = cv2.addWeighted(frame.pixels, 1.0 - share, self._board_for(frame.pixels), share, 0.0)
        frame.release()
        return replace(frame, pixels=np.asarray(covered, np.uint8))

    def _board_for(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._board is None or self._board.shape != pixels.shape:
            height, width = pixels.shape[:2]
            side = max(height // SQUARES_PER_HEIGHT, 1)
            rows, columns = np.arange(height) // side, np.arange(width) // side
            board = np.empty(pixels.shape, np.uint8)
            board[..., :3] = np.where((rows[:, None] + columns[None, :]) % 2, DARK, LIGHT)[..., None]
            board[..., 3] = 255
            self._board = board
        return self._board
