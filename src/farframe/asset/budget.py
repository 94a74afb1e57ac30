"""A count of what reading one model may still cost, so that a hostile file is refused before memory is allocated."""

from __future__ import annotations

import time
from collections.abc import Callable

from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

Progress = Callable[[str, float], None]
"""Called with the stage's name and the fraction (0..1, never falling) of the whole operation that is done."""


class Budget:
    """Bytes, pixels, triangles and seconds left of some :class:`~farframe.protocol.link.LoadLimits`.

    Not safe for several threads: the reader charges from its own thread, before it hands work to others.
    """

    def __init__(self, limits: LoadLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._deadline = clock() + limits.max_seconds
        self._bytes_left = limits.max_memory_bytes
        self._pixels_left = limits.max_total_texture_pixels

    def take_bytes(self, count: int, what: str) -> None:
        """Charge ``count`` bytes that are about to be allocated for ``what``."""
        if count > self._bytes_left:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model needs more than {self.limits.max_memory_bytes:,} bytes of memory ({what}).",
                next_step="Make the model smaller, or ask the operator to raise the limit.",
            )
        self._bytes_left -= count

    def give_bytes(self, count: int) -> None:
        """Return what :meth:`take_bytes` charged, once it is freed."""
        self._bytes_left += count

    def take_image(self, width: int, height: int, what: str) -> None:
        """Charge one image of so many pixels that is about to be decoded to RGBA."""
        pixels = width * height
        if pixels > self.limits.max_texture_pixels:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"{what} claims {width} x {height} pixels; a texture may have {self.limits.max_texture_pixels:,}.",
                next_step="Scale the texture down.",
            )
        if pixels > self._pixels_left:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model's textures have more than {self.limits.max_total_texture_pixels:,} pixels in total.",
                next_step="Scale the textures down.",
            )
        self._pixels_left -= pixels
        self.take_bytes(pixels * 4, what)

    def check_triangles(self, count: int) -> None:
        """Refuse a model with more triangles than allowed."""
        if count > self.limits.max_triangles:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"The model has more than {self.limits.max_triangles:,} triangles.",
                next_step="Simplify or split the model, or ask the operator to raise the limit.",
            )

    def check_time(self) -> None:
        """Refuse to go on when the time is used up."""
        if self._clock() > self._deadline:
            raise FarframeError(
                Result.EXCEEDS_MEMORY_LIMIT,
                f"Reading the model takes longer than the {self.limits.max_seconds:g} seconds allowed.",
                next_step="Simplify or split the model, or ask the operator to raise the limit.",
            )


def no_progress(stage: str, fraction: float) -> None:
    """A :data:`Progress` that tells nobody."""
