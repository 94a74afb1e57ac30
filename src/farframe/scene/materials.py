"""What a material is, as a device edits it. Data only: who draws it and who sends it look here for names and ranges.

Colours are linear RGB(A); a map multiplies the number or colour beside it. Properties and their defaults are those of
Azure Remote Rendering's PBR and colour materials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag

Color3 = tuple[float, float, float]
Color4 = tuple[float, float, float, float]
Pair = tuple[float, float]


class MaterialKind(IntEnum):
    """How a material meets light. Chosen when it is made, for good."""

    PBR = 0
    """Metallic-roughness, lit by sky and lights."""
    COLOR = 1
    """Unlit: what it is, is what is seen."""


class MaterialFlag(IntFlag):
    """What a material does beyond its numbers."""

    NONE = 0
    TRANSPARENT = 1
    """PBR only: opacity is the albedo's alpha, independent of the order of surfaces."""
    USE_VERTEX_COLOR = 2
    DOUBLE_SIDED = 4
    SPECULAR_HIGHLIGHTS = 8
    """PBR only: lights make highlights. On by default."""
    ALPHA_CLIPPED = 16
    """Where alpha is below the threshold nothing is drawn."""
    FADE_TO_BLACK = 32
    """``fade_out`` darkens the surface instead of letting it vanish."""
    FRESNEL_EFFECT = 64
    """A glow that grows towards the silhouette."""
    TRANSPARENCY_WRITES_DEPTH = 128
    """The nearest transparent layer counts for depth."""
    FADES_REFLECTIONS = 256
    """PBR only: where a transparent surface is fully transparent it does not even reflect, as glTF's alpha mode "blend"
    has it. Azure Remote Rendering knows no such flag."""


class VertexAlphaMode(IntEnum):
    """What the alpha of vertex colours does to a PBR material that uses them."""

    OCCLUSION = 0
    """Dims the light of the sky."""
    LIGHT_MASK = 1
    """Dims all light."""
    OPACITY = 2
    """Multiplies opacity; seen only if the material is transparent."""


class ColorTransparency(IntEnum):
    """How a colour material covers what is behind it."""

    OPAQUE = 0
    ALPHA_BLEND = 1
    ADDITIVE = 2


DEFAULT_FLAGS = MaterialFlag.SPECULAR_HIGHLIGHTS
MAX_NUMBER = 1e6
OWN_MAP = 0xFFFF_FFFF
"""In place of a texture's id, in a state that a model's own material is given: the map that the file has there."""


@dataclass(frozen=True, slots=True)
class MaterialState:
    """One material, all of it; ``..._map`` are ids of textures, 0 for none.

    ``texcoord_scale`` and ``texcoord_offset`` apply to all maps: uv * scale + offset. ``fade_out`` is 1 for what is
    fully there, 0 for what is gone. ``vertex_mix`` is how much of the vertex colour a colour material takes.
    """

    kind: MaterialKind = MaterialKind.PBR
    name: str = ""
    flags: MaterialFlag = DEFAULT_FLAGS
    albedo_color: Color4 = (1.0, 1.0, 1.0, 1.0)
    albedo_map: int = 0
    alpha_clip_threshold: float = 0.5
    texcoord_scale: Pair = (1.0, 1.0)
    texcoord_offset: Pair = (0.0, 0.0)
    fresnel_effect_color: Color3 = (1.0, 1.0, 1.0)
    fresnel_effect_exponent: float = 1.0
    fade_out: float = 1.0
    normal_map: int = 0
    normal_map_scale: float = 1.0
    roughness: float = 1.0
    roughness_map: int = 0
    metalness: float = 0.0
    metalness_map: int = 0
    ao_map: int = 0
    ao_scale: float = 1.0
    emissive_color: Color3 = (0.0, 0.0, 0.0)
    emissive_map: int = 0
    vertex_alpha_mode: VertexAlphaMode = VertexAlphaMode.OCCLUSION
    vertex_mix: float = 1.0
    color_transparency: ColorTransparency = ColorTransparency.OPAQUE

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str):
                continue
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(number) for number in numbers):
                return f"{item.name} holds a number that is not finite."
            if any(abs(number) > MAX_NUMBER for number in numbers) and not item.name.endswith("_map"):
                return f"{item.name} is larger than 1,000,000."
            if min(numbers) < 0 and item.name not in _SIGNED:
                return f"{item.name} must not be negative."
        for name in _SHARES:
            if getattr(self, name) > 1.0:
                return f"{name} must be from 0 to 1."
        if not 0.01 <= self.fresnel_effect_exponent <= 10.0:
            return "fresnel_effect_exponent must be from 0.01 to 10."
        return None


_SIGNED = {"texcoord_scale", "texcoord_offset", "normal_map_scale"}
_SHARES = ("alpha_clip_threshold", "fade_out", "roughness", "metalness", "vertex_mix")
