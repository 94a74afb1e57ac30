"""What applies to all of a picture: outlines, shells, cut planes, sides, z-fighting, near and far, stage, debugging.

Data only, with names and defaults of Azure Remote Rendering. Colours are linear RGB, lengths metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

Vector3 = tuple[float, float, float]
Vector4 = tuple[float, float, float, float]

MAX_CUT_PLANES = 8
"""Active at a time; enabled planes beyond, in the order in which they were enabled, do nothing."""
MAX_POINT_SIZE = 1000.0


class Axis(IntEnum):
    """A direction of an entity's own space."""

    X = 0
    Y = 1
    Z = 2
    NEGATIVE_X = 3
    NEGATIVE_Y = 4
    NEGATIVE_Z = 5


class SingleSidedMode(IntEnum):
    """How surfaces are drawn that have one side."""

    NORMAL = 0
    """Their backs are not drawn."""
    DYNAMIC_DOUBLE_SIDING = 1
    """Their backs are drawn while a cut plane goes through the part."""
    ALWAYS_DOUBLE_SIDED = 2


class SkyKind(IntEnum):
    """How a sky's texture wraps the world."""

    BUILT_IN = 0
    CUBE_MAP = 1
    EQUIRECTANGULAR = 2


def _finite(settings: Any) -> str | None:
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(value, str) or value is None:
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers):
            return f"{item.name} holds a number that is not finite."
        if max(map(abs, numbers)) > 1e9:
            return f"{item.name} is too large."
    return None


def _shares(settings: Any, *names: str) -> str | None:
    for name in names:
        if not 0.0 <= getattr(settings, name) <= 1.0:
            return f"{name} must be from 0 to 1."
    return None


@dataclass(frozen=True, slots=True)
class CutPlane:
    """Cuts away what lies beyond it: the side that ``normal`` points to, from its entity's place on.

    ``fade_color`` is seen on what is left, within ``fade_length`` of the plane; its fourth number is how much of it,
    0 for none. Parts are cut if ``filter_mask`` and their own mask share a bit.

    A ``capped`` plane closes what is solid and opaque where it goes through: the cap has the parts' own colours, mixed
    with ``cap_color`` by its fourth number, and lines across it, darker by the share ``cap_hatching``.
    """

    enabled: bool = True
    normal: Axis = Axis.X
    fade_color: Vector4 = (1.0, 0.0, 0.0, 0.0)
    fade_length: float = 0.1
    filter_mask: int = 0xFF
    capped: bool = False
    cap_color: Vector4 = (0.0, 0.0, 0.0, 0.0)
    cap_hatching: float = 0.3

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        if problem := _finite(self) or _shares(self, "cap_hatching"):
            return problem
        if not 0.0 <= min(self.cap_color) <= max(self.cap_color) <= 1.0:
            return "cap_color must hold numbers from 0 to 1."
        if not 0.0 <= min(self.fade_color) <= max(self.fade_color) <= 1.0:
            return "fade_color must hold numbers from 0 to 1."
        if self.fade_length < 0:
            return "fade_length must not be negative."
        return None if 0 <= self.filter_mask <= 0xFF else "filter_mask must be from 0 to 255."


@dataclass(frozen=True, slots=True)
class PlacedCutPlane:
    """A cut plane where its entity is: all x of the world with ``normal . x > offset`` is cut away. ``normal`` is
    unit."""

    plane: CutPlane
    normal: Vector3
    offset: float


@dataclass(frozen=True, slots=True)
class OutlineSettings:
    """Outlines of what is selected. With a pulse, opacity goes between 1 and 1 - ``pulse_intensity``."""

    color: Vector3 = (1.0, 1.0, 0.0)
    pulse_rate_hz: float = 0.0
    pulse_intensity: float = 0.0

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        if problem := _finite(self) or _shares(self, "pulse_intensity"):
            return problem
        if not 0.0 <= min(self.color) <= max(self.color) <= 1.0:
            return "color must hold numbers from 0 to 1."
        return None if 0.0 <= self.pulse_rate_hz <= 60.0 else "pulse_rate_hz must be from 0 to 60."


@dataclass(frozen=True, slots=True)
class ShellSettings:
    """How shells look: ``desaturation`` 1 is grey, ``opacity`` 1 hides what is behind."""

    desaturation: float = 0.5
    opacity: float = 0.5

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        return _finite(self) or _shares(self, "desaturation", "opacity")


@dataclass(frozen=True, slots=True)
class ZFightingSettings:
    """Surfaces in the same place no longer flicker; ``highlighting`` shows a moving checkerboard where they lie."""

    enabled: bool = True
    highlighting: bool = False

    def problem(self) -> str | None:
        """Nothing can be wrong here."""
        return None


@dataclass(frozen=True, slots=True)
class SkySettings:
    """What lights PBR materials from all sides; never seen itself. ``uri``: ``builtin://...``, which counts while
    ``texture``, the id of one that was loaded, is 0; ``kind`` is how that wraps the world."""

    uri: str = "builtin://Studio"
    kind: SkyKind = SkyKind.BUILT_IN
    texture: int = 0

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        return None if 0 < len(self.uri) <= 8192 else "uri must have 1 to 8,192 characters."


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """Clip distances, metres, that take the place of those in poses; (0, 0): those of the poses count."""

    near: float = 0.0
    far: float = 0.0

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        if problem := _finite(self):
            return problem
        if (self.near, self.far) == (0.0, 0.0):
            return None
        return None if 1e-6 <= self.near < self.far else "near must be positive and far beyond it."


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Where the space of the device's poses stands in the world."""

    position: Vector3 = (0.0, 0.0, 0.0)
    rotation: Vector4 = (0.0, 0.0, 0.0, 1.0)

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        if problem := _finite(self):
            return problem
        return None if math.hypot(*self.rotation) > 1e-6 else "rotation has no length."


@dataclass(frozen=True, slots=True)
class DebugSettings:
    """Shown in the picture itself: frames per second and their count, primitives, edges of triangles.

    ``edges`` draws the lines where surfaces end or fold over the shaded picture, as designers like it.
    """

    frame_count: bool = False
    polygon_count: bool = False
    wireframe: bool = False
    edges: bool = False

    def problem(self) -> str | None:
        """Nothing can be wrong here."""
        return None


@dataclass(frozen=True, slots=True)
class Effects:
    """All of them; how a scene begins."""

    outline: OutlineSettings = OutlineSettings()
    shell: ShellSettings = ShellSettings()
    single_sided: SingleSidedMode = SingleSidedMode.DYNAMIC_DOUBLE_SIDING
    z_fighting: ZFightingSettings = ZFightingSettings()
    sky: SkySettings = SkySettings()
    camera: CameraSettings = CameraSettings()
    stage: StageSettings = StageSettings()
    debug: DebugSettings = DebugSettings()
    point_size: float = 1.0

    def problem(self) -> str | None:
        """What is wrong with these values, as a sentence, or ``None``."""
        for item in fields(self):
            value = getattr(self, item.name)
            if hasattr(value, "problem") and (problem := value.problem()):
                return f"{item.name}: {problem}"
        return None if 0.0 <= self.point_size <= MAX_POINT_SIZE else "point_size must be from 0 to 1,000."
