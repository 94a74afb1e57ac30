"""Materials of glTF extensions in terms of metallic-roughness, which is what is drawn.

KHR_materials_pbrSpecularGlossiness is converted by the formulas of the extension's own appendix and examples:
``F0 = specular``, ``diffuse colour = diffuse * (1 - max(specular))``, ``roughness = 1 - glossiness``; metalness is what
explains both colours with a dielectric reflectance of 0.04.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from farframe.asset.srgb import linear_of_srgb, srgb_of_linear

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

DIELECTRIC = 0.04
"""Reflectance at normal incidence of everything that is no metal."""

_TINY = 1e-6
_BAND_ROWS = 256


def metallic_of(diffuse: Floats, specular: Floats) -> tuple[Floats, Floats]:
    """Base colour (..., 3) and metalness (...) for linear diffuse and specular colours, both (..., 3)."""
    strength = specular.max(axis=-1)
    remaining = 1.0 - strength
    metallic = _solve_metallic(_brightness(diffuse), _brightness(specular), remaining)
    share = metallic[..., None]
    from_diffuse = diffuse * (remaining / (1.0 - DIELECTRIC) / np.maximum(1.0 - metallic, _TINY))[..., None]
    from_specular = (specular - DIELECTRIC * (1.0 - share)) / np.maximum(share, _TINY)
    blend = share * share
    return np.clip(from_diffuse * (1.0 - blend) + from_specular * blend, 0.0, 1.0), metallic


def _brightness(color: Floats) -> Floats:
    """Perceived brightness of a colour."""
    return np.sqrt(color * color @ np.array([0.299, 0.587, 0.114], color.dtype))


def _solve_metallic(diffuse: Floats, specular: Floats, remaining: Floats) -> Floats:
    """The metalness m of the quadratic that follows from ``diffuse = base (1 - 0.04) (1 - m) / remaining`` and
    ``specular = 0.04 (1 - m) + base m``."""
    b = diffuse * remaining / (1.0 - DIELECTRIC) + specular - 2.0 * DIELECTRIC
    c = DIELECTRIC - specular
    root = np.sqrt(np.maximum(b * b - 4.0 * DIELECTRIC * c, 0.0))
    solved = np.clip((root - b) / (2.0 * DIELECTRIC), 0.0, 1.0)
    return np.where(specular < DIELECTRIC, 0.0, solved)


def bake_specular_glossiness(
    diffuse: Pixels | None,
    specular_glossiness: Pixels | None,
    diffuse_factor: tuple[float, float, float],
    specular_factor: tuple[float, float, float],
    glossiness: float,
) -> tuple[Pixels, Pixels]:
    """The sRGB base colour and the linear metallic-roughness texture, both (height, width, 4), of a material.

    Either texture may be missing, not both: RGB of both are sRGB, alpha is opacity in ``diffuse`` and glossiness in
    ``specular_glossiness``. The smaller is scaled to the larger. Factors of RGB and glossiness are worked in; alpha is
    left as it is.
    """
    shapes = [each.shape[:2] for each in (diffuse, specular_glossiness) if each is not None]
    height, width = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    base = np.full((height, width, 4), 255, np.uint8)
    metallic_roughness = np.full((height, width, 4), 255, np.uint8)
    diffuse = None if diffuse is None else _scaled(diffuse, width, height)
    specular_glossiness = None if specular_glossiness is None else _scaled(specular_glossiness, width, height)
    for first in range(0, height, _BAND_ROWS):
        rows = slice(first, min(first + _BAND_ROWS, height))
        shape = (rows.stop - first, width, 3)
        diffuse_color: Floats = np.broadcast_to(np.array(diffuse_factor, np.float32), shape)
        if diffuse is not None:
            diffuse_color = diffuse_color * linear_of_srgb(diffuse[rows, :, :3])
            base[rows, :, 3] = diffuse[rows, :, 3]
        specular: Floats = np.broadcast_to(np.array(specular_factor, np.float32), shape)
        gloss: Floats = np.full(shape[:2], glossiness, np.float32)
        if specular_glossiness is not None:
            specular = specular * linear_of_srgb(specular_glossiness[rows, :, :3])
            gloss = gloss * (specular_glossiness[rows, :, 3] * np.float32(1 / 255))
        color, metallic = metallic_of(diffuse_color, specular)
        base[rows, :, :3] = srgb_of_linear(color)
        metallic_roughness[rows, :, 1] = np.rint((1.0 - gloss) * 255.0)
        metallic_roughness[rows, :, 2] = np.rint(metallic * 255.0)
    return base, metallic_roughness


def _scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def unpack_roughness_metallic_occlusion(pixels: Pixels) -> Pixels:
    """Roughness, metalness, occlusion in R, G, B (MSFT_packing_occlusionRoughnessMetallic) to occlusion, roughness,
    metalness."""
    return np.ascontiguousarray(pixels[..., [2, 0, 1, 3]])


def normals_with_z(pixels: Pixels) -> Pixels:
    """A normal texture with x and y alone, made whole: ``z = sqrt(1 - x² - y²)``."""
    result = np.array(pixels)
    plane = pixels[..., :2].astype(np.float32) * np.float32(2 / 255) - np.float32(1.0)
    z = np.sqrt(np.maximum(1.0 - (plane * plane).sum(axis=2), 0.0))
    result[..., 2] = np.rint((z + 1.0) * 127.5)
    return result
