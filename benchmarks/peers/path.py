"""The camera path, the mark in the picture, and PSNR: what every part of this comparison has in common.

Needs numpy only, for it is also read in the peers' environment.

A command is a number. The page sends it as the horizontal place of the pointer, ``FIRST_X + number`` in CSS pixels, the
way the peer's own client sends pointers; the server turns the camera to ``number`` degrees around the model and writes
the number into the picture's upper left corner, as squares that are white for 1 and black for 0: a white one, ten bits
with the highest first, a black one. The page reads them back. So the time from a command to a readable picture is
taken with one clock, and two pictures are distinct if their numbers are.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1280, 720
VERTICAL_FOV_DEGREES = 45.0
ELEVATION_DEGREES = 20.0
COMMANDS = 720
"""Two turns, then from the beginning."""

FIRST_X = 64
CELL = 16
"""Side of a mark's square in pixels."""

BITS = 10
CELLS = BITS + 2
BACKGROUND = (0.10, 0.11, 0.13)
"""sRGB."""

LIGHT = (0.4, 0.8, 0.45)
"""Towards the light."""


@dataclass(frozen=True)
class Orbit:
    """A turn around ``centre`` at ``distance``, metres, +Y up."""

    centre: tuple[float, float, float]
    distance: float

    @classmethod
    def around(cls, low: NDArray[np.floating], high: NDArray[np.floating]) -> Orbit:
        """So that a box's sphere touches the picture's upper and lower edge."""
        radius = float(np.linalg.norm(np.asarray(high, float) - np.asarray(low, float))) / 2
        x, y, z = (np.asarray(low, float) + np.asarray(high, float)) / 2
        return cls((float(x), float(y), float(z)), radius / math.sin(math.radians(VERTICAL_FOV_DEGREES) / 2))

    def eye(self, number: int) -> tuple[float, float, float]:
        """Where the camera is for a command."""
        azimuth, elevation = math.radians(number), math.radians(ELEVATION_DEGREES)
        x, y, z = self.centre
        return (
            x + self.distance * math.sin(azimuth) * math.cos(elevation),
            y + self.distance * math.sin(elevation),
            z + self.distance * math.cos(azimuth) * math.cos(elevation),
        )

    def as_json(self) -> str:
        """For another process; ``Orbit(*json.loads(text))``."""
        return json.dumps([self.centre, self.distance])

    @property
    def clip(self) -> tuple[float, float]:
        """Near and far distance."""
        return self.distance * 0.2, self.distance * 2.0


def number_of(x: float) -> int:
    """The command that a pointer's place means."""
    return int(min(max(round(x) - FIRST_X, 0), COMMANDS - 1))


def mark(number: int) -> list[bool]:
    """The squares of a number, left to right; true is white."""
    return [True, *(bool(number >> bit & 1) for bit in reversed(range(BITS))), False]


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """How close two pictures are, over all their channels, dB."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-9))
