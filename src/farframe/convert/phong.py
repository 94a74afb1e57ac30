"""Phong materials, as FBX has them, to metallic-roughness: the formulas of Azure Remote Rendering's material mapping.

All colours are linear. ``D`` is the diffuse colour, ``S`` the specular colour times its factor, ``d`` = 0.04 what
dielectrics reflect:

    SI = 0.2125 S.r + 0.7154 S.g + 0.0721 S.b                 SS = max(S.r, S.g, S.b)
    DB = 0.299 D.r^2 + 0.587 D.g^2 + 0.114 D.b^2              SB likewise for S
    roughness = sqrt(2 / (shininess SI + 2))
    A = d;  B = DB (1 - SS) / (1 - A) + SB - 2 A;  C = A - SB
    metalness M = clamp((-B + sqrt(max(0, B^2 - 4 A C))) / (2 A), 0, 1)
    dielectric = D (1 - SS) / (1 - d) / max(1e-4, 1 - M)
    metal = (S - d (1 - M)) / max(1e-4, M)
    albedo = clamp(lerp(dielectric, metal, M^2), 0, 1)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIELECTRIC = 0.04
AMBIGUOUS_SPECULAR = 0.25
AMBIGUOUS_CHROMA = 0.05
"""A colour whose members differ by more than this is not grey; with a specular strength of more than
:data:`AMBIGUOUS_SPECULAR` the material may be metal or shiny, coloured plastic."""

Array = NDArray[np.float64]

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])


def phong_to_metallic(diffuse: Array, specular: Array, shininess: Array) -> tuple[Array, Array, Array]:
    """(..., 3) linear ``diffuse`` and ``specular`` (with its factor) and (...) ``shininess`` exponents.

    Returns (..., 3) albedo, (...) metalness and (...) roughness.
    """
    diffuse, specular = np.asarray(diffuse, np.float64), np.asarray(specular, np.float64)
    intensity = specular @ _LUMINANCE
    strength = specular.max(axis=-1)
    diffuse_brightness = (diffuse * diffuse) @ _BRIGHTNESS
    specular_brightness = (specular * specular) @ _BRIGHTNESS
    roughness = np.sqrt(2.0 / (np.maximum(shininess, 0.0) * np.maximum(intensity, 0.0) + 2.0))
    a = DIELECTRIC
    b = diffuse_brightness * (1.0 - strength) / (1.0 - a) + specular_brightness - 2.0 * a
    c = a - specular_brightness
    metalness = np.clip((-b + np.sqrt(np.maximum(0.0, b * b - 4.0 * a * c))) / (2.0 * a), 0.0, 1.0)
    m = metalness[..., None]
    dielectric = diffuse * ((1.0 - strength) / (1.0 - DIELECTRIC))[..., None] / np.maximum(1e-4, 1.0 - m)
    metal = (specular - DIELECTRIC * (1.0 - m)) / np.maximum(1e-4, m)
    albedo = np.clip(dielectric + (metal - dielectric) * m * m, 0.0, 1.0)
    return albedo, metalness, roughness


def is_ambiguous(diffuse: Array, specular: Array) -> bool:
    """Whether an untextured material may as well be metal as coloured plastic: strong highlight, not grey."""
    return bool(specular.max() > AMBIGUOUS_SPECULAR and diffuse.max() - diffuse.min() > AMBIGUOUS_CHROMA)


def normals_from_height(height: NDArray[np.uint8], strength: float = 1.0) -> NDArray[np.uint8]:
    """A normal map (h, w, 4), +Y up, from a height map (h, w, 4) whose mean of RGB is the height; it tiles.

    Slopes by Sobel's operator; the whole range of heights is taken for four pixels.
    """
    values = height[..., :3].mean(axis=-1, dtype=np.float32) * np.float32(strength * 4.0 / 255.0)
    right, left = np.roll(values, -1, axis=1), np.roll(values, 1, axis=1)
    along_x = (2.0 * (right - left) + np.roll(right - left, 1, axis=0) + np.roll(right - left, -1, axis=0)) / 8.0
    below, above = np.roll(values, -1, axis=0), np.roll(values, 1, axis=0)
    along_y = (2.0 * (below - above) + np.roll(below - above, 1, axis=1) + np.roll(below - above, -1, axis=1)) / 8.0
    normal = np.stack([-along_x, along_y, np.ones_like(values)], axis=-1)
    normal /= np.sqrt(np.einsum("hwc,hwc->hw", normal, normal))[..., None]
    result = np.full(height.shape, 255, np.uint8)
    result[..., :3] = np.rint(normal * 127.5 + 127.5)
    return result


def looks_like_normals(pixels: NDArray[np.uint8]) -> bool:
    """Whether an image that is connected as a bump map is a normal map: mostly blue, and of unit length."""
    sample = pixels[:: max(1, pixels.shape[0] // 64), :: max(1, pixels.shape[1] // 64), :3].astype(np.float64)
    length = np.sqrt((((sample / 127.5) - 1.0) ** 2).sum(axis=-1))
    colored = np.abs(sample[..., 2] - sample[..., 0]).mean() > 16
    return bool(colored and sample[..., 2].mean() > 150 and np.abs(length - 1.0).mean() < 0.2)
