"""sRGB bytes to linear light and back, by tables (IEC 61966-2-1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = 1 << 16


def _to_linear() -> NDArray[np.float32]:
    encoded = np.arange(256) / 255.0
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _to_srgb() -> NDArray[np.uint8]:
    """In steps of 1/65536: fine enough that no value is off by more than its rounding."""
    linear = np.arange(_STEPS + 1) / _STEPS
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255.0).astype(np.uint8)


_SRGB_TO_LINEAR = _to_linear()
_LINEAR_TO_SRGB = _to_srgb()


def linear_of_srgb(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Linear light, 0 to 1, of sRGB bytes."""
    result: NDArray[np.float32] = _SRGB_TO_LINEAR[codes]
    return result


def srgb_of_linear(light: NDArray[Any]) -> NDArray[np.uint8]:
    """sRGB bytes of linear light, which is clipped to 0 to 1 and must be finite."""
    result: NDArray[np.uint8] = _LINEAR_TO_SRGB[(light.clip(0.0, 1.0) * _STEPS + 0.5).astype(np.int32)]
    return result
