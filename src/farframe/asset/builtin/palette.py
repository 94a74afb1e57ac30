"""The engine's materials: metals, paints, rubber and plastic as metallic-roughness factors, without images.

Base colours are linear. Metals take measured-like reflectances; paints are dielectrics. Where a material is to vary
over a surface (heat tint, graphite dust) the mesh carries vertex colours and the material stays near white.
"""

from __future__ import annotations

import numpy as np

from farframe.asset.builtin.mesh import Array
from farframe.asset.model import Material

Color = tuple[float, float, float]


def _metal(name: str, color: Color, roughness: float) -> Material:
    return Material(name=name, base_color=(*color, 1.0), metallic=1.0, roughness=roughness)


def _paint(name: str, color: Color, roughness: float) -> Material:
    return Material(name=name, base_color=(*color, 1.0), metallic=0.0, roughness=roughness)


MATERIALS: dict[str, Material] = {
    material.name: material
    for material in (
        _metal("Cast aluminium", (0.47, 0.48, 0.49), 0.46),
        _metal("Satin aluminium", (0.66, 0.67, 0.68), 0.31),
        _metal("Machined aluminium", (0.80, 0.81, 0.82), 0.24),
        _metal("Polished aluminium", (0.86, 0.87, 0.88), 0.12),
        _metal("Machined steel", (0.56, 0.56, 0.57), 0.24),
        _metal("Honed steel", (0.42, 0.42, 0.43), 0.33),
        _metal("Dark steel", (0.16, 0.16, 0.17), 0.36),
        _metal("Spring steel", (0.23, 0.24, 0.27), 0.28),
        _metal("Cast iron", (0.13, 0.134, 0.142), 0.48),
        _metal("Turbine iron", (0.20, 0.165, 0.14), 0.55),
        _metal("Yellow zinc", (0.83, 0.62, 0.27), 0.30),
        _metal("Brass", (0.87, 0.68, 0.33), 0.25),
        _metal("Copper", (0.93, 0.52, 0.36), 0.24),
        _metal("Heated steel", (1.0, 1.0, 1.0), 0.27),
        _paint("Red enamel", (0.43, 0.016, 0.012), 0.30),
        _paint("Cut face", (0.60, 0.045, 0.012), 0.42),
        _paint("Black enamel", (0.016, 0.017, 0.019), 0.34),
        _paint("Rubber", (0.022, 0.022, 0.023), 0.66),
        _paint("Hose", (0.020, 0.020, 0.022), 0.48),
        _paint("Black plastic", (0.030, 0.031, 0.034), 0.42),
        _paint("Gasket", (0.03, 0.034, 0.042), 0.80),
        _paint("Yellow plastic", (0.75, 0.40, 0.015), 0.40),
        _paint("Engine oil", (0.11, 0.038, 0.003), 0.07),
        _paint("White print", (0.75, 0.75, 0.73), 0.55),
    )
}
"""All materials by name."""

_TEMPER = np.array(
    [
        # heat, r, g, b: the oxide colours of stainless steel from cool to hot
        (0.00, 0.60, 0.59, 0.57),
        (0.22, 0.64, 0.57, 0.44),
        (0.40, 0.68, 0.47, 0.22),
        (0.55, 0.50, 0.23, 0.17),
        (0.68, 0.29, 0.15, 0.33),
        (0.82, 0.12, 0.17, 0.42),
        (1.00, 0.20, 0.30, 0.42),
    ]
)


def temper(heat: Array) -> Array:
    """Linear RGB (n, 3) of heat-tinted stainless steel for a heat (n,) between 0 (bright) and 1 (blue)."""
    return np.stack([np.interp(heat, _TEMPER[:, 0], _TEMPER[:, k]) for k in (1, 2, 3)], axis=1)
