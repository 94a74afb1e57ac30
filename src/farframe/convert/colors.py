"""Between sRGB, in which designers' programs store most colours, and linear light, in which all here computes."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Color = TypeVar("Color", tuple[float, float, float], tuple[float, float, float, float])


def linear_from_srgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1: members in 0..1 (beyond 1 the curve is continued), negative ones become 0."""
    values = np.maximum(values, 0.0)
    result: NDArray[np.float64] = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return result


def srgb_from_linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of :func:`linear_from_srgb` for members in 0..1."""
    values = np.clip(values, 0.0, 1.0)
    result: NDArray[np.float64] = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1.0 / 2.4) - 0.055)
    return result


LINEAR_BYTES = np.rint(linear_from_srgb(np.arange(256) / 255.0) * 255.0).astype(np.uint8)
"""For each sRGB byte the nearest linear one."""


def linear_color(color: Color) -> Color:
    """A colour's first three members from sRGB to linear; alpha stays."""
    red, green, blue = (float(each) for each in linear_from_srgb(np.array(color[:3], dtype=np.float64)))
    return (red, green, blue, *color[3:])
