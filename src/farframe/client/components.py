"""Lights and cut planes: what hangs on entities and stands where they do. Made by methods of :class:`Entity`.

A light shines along its entity's own -Z; a point light's tube lies along its X. An entity has at most one light of each
kind and one cut plane; they go with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from farframe.client._live import Axis, Choice, Live, Mask, Number, Numbers, Switch
from farframe.client.errors import RequestError
from farframe.client.materials import Map
from farframe.protocol import appearance as wire
from farframe.protocol.errors import Result

if TYPE_CHECKING:
    from farframe.client.entities import Entity
    from farframe.client.looks import Looks


class Component(Live):
    """Something that hangs on an entity."""

    _word: ClassVar[str] = ""

    def __init__(self, looks: Looks, entity: Entity) -> None:
        self.entity = entity
        self._looks = looks
        self._alive = True

    @property
    def valid(self) -> bool:
        """Whether it is still there."""
        return self._alive and self.entity.valid

    def remove(self) -> None:
        """Take it off its entity. Twice is fine."""
        if self.valid:
            self._looks.remove_component(self)

    def _require(self) -> None:
        if not self.valid:
            raise RequestError(Result.INVALID_ID, f"The {self._word} of {self.entity!r} was removed.")

    def _changed(self, changes: dict[str, Any]) -> None:
        self._looks.edited(self, wire.SetCutPlane if isinstance(self, CutPlane) else wire.SetLight, changes)


class Light(Component):
    """What all lights have. They light PBR materials and cast no shadows."""

    _values: wire.LightValues
    kind: ClassVar[wire.LightKind]

    def __init__(self, looks: Looks, entity: Entity, values: wire.LightValues | None = None) -> None:
        super().__init__(looks, entity)
        self._values = values or wire.LightValues()

    color = Numbers("Linear RGB.", 3, 0.0)
    intensity = Number("Of a directional light irradiance, of others radiant intensity.", 0.0)
    enabled = Switch("Whether it shines.")


class PointLight(Light):
    """Shines to all sides: from a point, a ball (``radius``) or a tube (``length``, too)."""

    _word = "point light"
    kind = "point"
    radius = Number("Metres.", 0.0)
    length = Number("Metres, along the entity's X.", 0.0)
    attenuation_cutoff = Numbers(
        "Nearest and farthest: between them it fades to nothing; (0, 0): by distance only.", 2, 0.0
    )
    projected_texture = Map("A cube map that colours the light.", "cube")

    def _check(self, values: Any) -> None:
        _check_cutoff(values)


class SpotLight(Light):
    """Shines into a cone along its entity's -Z."""

    _word = "spot light"
    kind = "spot"
    radius = Number("Metres.", 0.0)
    attenuation_cutoff = Numbers(
        "Nearest and farthest: between them it fades to nothing; (0, 0): by distance only.", 2, 0.0
    )
    spot_angle_deg = Numbers("Whole angles of the inner cone, fully lit, and of the outer one.", 2, 0.0, 180.0)
    falloff_exponent = Number("Between the two cones; 1 is linear.", 0.01, 100.0)
    projected_texture = Map("A 2D texture that colours the light.")

    def _check(self, values: Any) -> None:
        _check_cutoff(values)
        if values.spot_angle_deg[0] > values.spot_angle_deg[1]:
            raise ValueError("spot_angle_deg is the inner angle and an outer one that is no smaller")


class DirectionalLight(Light):
    """Shines everywhere along its entity's -Z; where that stands does not matter."""

    _word = "directional light"
    kind = "directional"


class CutPlane(Component):
    """Cuts away what lies beyond it: the side that ``normal`` points to, from its entity's place on.

    The first eight that were enabled cut; others wait for their place. Rays and bounds know nothing of it.
    """

    _word = "cut plane"
    _values: wire.CutPlaneValues

    def __init__(self, looks: Looks, entity: Entity, values: wire.CutPlaneValues | None = None) -> None:
        super().__init__(looks, entity)
        self._values = values or wire.CutPlaneValues()

    enabled = Switch("Whether it cuts.")
    normal = Choice[Axis](
        "The direction of the entity's own space that is cut away.",
        ("x", "y", "z", "negativeX", "negativeY", "negativeZ"),
    )
    fade_color = Numbers("Seen on what is left, near the plane: RGB, and how much of it.", 4, 0.0, 1.0)
    fade_length = Number("How near, metres.", 0.0, 1e9)
    filter_mask = Mask("Cuts what shares a bit with it, see ``cut_plane_mask`` of overrides.")
    capped = Switch("Whether what is solid is closed where it is cut, instead of showing its inside.")
    cap_color = Numbers("Mixed into the parts' own colours on caps: RGB, and how much of it.", 4, 0.0, 1.0)
    cap_hatching = Number("How much darker the lines across caps are; 0: none.", 0.0, 1.0)


LIGHTS: dict[str, type[Light]] = {"point": PointLight, "spot": SpotLight, "directional": DirectionalLight}


def _check_cutoff(values: Any) -> None:
    nearest, farthest = cast("tuple[float, float]", values.attenuation_cutoff)
    if nearest > farthest:
        raise ValueError("attenuation_cutoff does not end before it begins")
