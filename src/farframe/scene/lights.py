"""Lights that stand in a scene, each at an entity. Data only. They light PBR materials and cast no shadows.

Lengths are metres of the world, colours linear RGB, angles degrees where the name says so. A light shines along its
entity's own -Z; a point light's tube lies along its entity's X.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import IntEnum

Vector3 = tuple[float, float, float]

MAX_LIGHTS = 1024
"""In one scene."""


class LightKind(IntEnum):
    """An entity has at most one light of each kind."""

    POINT = 203
    SPOT = 204
    DIRECTIONAL = 205


@dataclass(frozen=True, slots=True)
class Light:
    """One light.

    ``intensity``: of a directional light the irradiance of a surface that faces it; of others the radiant intensity,
    so that irradiance falls with the square of the distance. ``radius`` and ``length`` make a ball or a tube of a
    point light; a spot light knows ``radius`` alone. ``attenuation_cutoff`` (nearest, farthest): between them light
    fades to nothing; (0, 0) lets intensity alone decide. ``spot_angle_deg`` (inner, outer): whole angles of the cones
    of full and of no light; ``falloff_exponent`` shapes what is between. ``projected_texture``: id of a 2D texture
    (spot) or cube map (point) that colours the light; 0 for none.
    """

    kind: LightKind = LightKind.POINT
    color: Vector3 = (1.0, 1.0, 1.0)
    intensity: float = 10.0
    enabled: bool = True
    radius: float = 0.0
    length: float = 0.0
    attenuation_cutoff: tuple[float, float] = (0.0, 0.0)
    spot_angle_deg: tuple[float, float] = (25.0, 35.0)
    falloff_exponent: float = 1.0
    projected_texture: int = 0

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        for item in fields(self):
            value = getattr(self, item.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(number) for number in numbers):
                return f"{item.name} holds a number that is not finite."
            if min(numbers) < 0 or (max(numbers) > 1e6 and item.name != "projected_texture"):
                return f"{item.name} must be from 0 to 1,000,000."
        if self.attenuation_cutoff[0] > self.attenuation_cutoff[1]:
            return "attenuation_cutoff must not end before it begins."
        inner, outer = self.spot_angle_deg
        if not inner <= outer <= 180.0:
            return "spot_angle_deg must be an inner angle and an outer one that is no smaller, up to 180."
        if not 0.01 <= self.falloff_exponent <= 100.0:
            return "falloff_exponent must be from 0.01 to 100."
        return None


@dataclass(frozen=True, slots=True)
class PlacedLight:
    """A light where its entity is. ``axes``: columns x, y, z of the entity's world rotation, each of unit length."""

    light: Light
    position: Vector3
    axes: tuple[Vector3, Vector3, Vector3] = field(default=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
