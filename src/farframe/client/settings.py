"""Settings of the whole picture: outlines, shells, sides, z-fighting, clip distances, stage, debugging.

    scene.outline.color = (1, 0.5, 0)
    scene.outline.set(pulse_rate_hz=1, pulse_intensity=0.6)
    with scene.debug.overridden(wireframe=True):
        ...

They belong to the scene, are the same for all that is in it, and begin as the defaults say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farframe.client._live import Live, Number, Numbers, Rotation, Switch
from farframe.protocol import appearance as wire
from farframe.protocol.messages import Message

if TYPE_CHECKING:
    from farframe.client.looks import Looks


class Settings(Live):
    """One group of them."""

    _member = ""
    """Its name on the wire."""
    _begins: type[Message]

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._values = self._begins()

    def reset(self) -> None:
        """As it was in the beginning."""
        beginning = type(self)(self._looks)
        self.set(**{name: getattr(beginning, name) for name in self._properties})

    def _changed(self, changes: dict[str, Any]) -> None:
        self._looks.set_effects({self._member: changes})


class OutlineSettings(Settings):
    """Outlines of what is selected. With a pulse, opacity goes between 1 and 1 - ``pulse_intensity``."""

    _member, _begins = "outline", wire.OutlineValues
    color = Numbers("Linear RGB.", 3, 0.0, 1.0)
    pulse_rate_hz = Number("0: no pulse.", 0.0, 60.0)
    pulse_intensity = Number("How far it fades.", 0.0, 1.0)


class ShellSettings(Settings):
    """How shells look."""

    _member, _begins = "shell", wire.ShellValues
    desaturation = Number("1 is grey.", 0.0, 1.0)
    opacity = Number("1 hides what is behind.", 0.0, 1.0)


class ZFightingSettings(Settings):
    """What is done against the flicker of surfaces in the same place."""

    _member, _begins = "zFighting", wire.ZFightingValues
    enabled = Switch("Whether anything is done.")
    highlighting = Switch("A moving checkerboard where such surfaces are.")


class CameraSettings(Settings):
    """Clip distances, metres, in the place of those of poses; both 0: those of the poses count. Set both at once."""

    _member, _begins = "camera", wire.CameraValues
    near = Number("Nearer than this nothing is drawn.", 0.0, 1e9)
    far = Number("Farther than this nothing is drawn.", 0.0, 1e9)

    def _check(self, values: Any) -> None:
        if (values.near, values.far) != (0.0, 0.0) and not 1e-6 <= values.near < values.far:
            raise ValueError("near is positive and far beyond it")


class StageSettings(Settings):
    """Where the space of the device's poses stands in the world."""

    _member, _begins = "stage", wire.StageValues
    position = Numbers("Metres.", 3, -1e9, 1e9)
    rotation = Rotation("Unit quaternion x, y, z, w.")


class DebugSettings(Settings):
    """What is shown in the picture itself."""

    _member, _begins = "debug", wire.DebugValues
    frame_count = Switch("Frames per second, and how many there have been.")
    polygon_count = Switch("Triangles and points in the picture.")
    wireframe = Switch("Edges of triangles instead of surfaces.")
    edges = Switch("Lines where surfaces end or fold, over the shaded picture.")


class PlainSettings(Live):
    """Those that are no group."""

    _values: wire.EffectsValues

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._values = wire.EffectsValues()

    point_size = Number("Factor on the size of points.", 0.0, 1000.0)

    def _changed(self, changes: dict[str, Any]) -> None:
        self._looks.set_effects(changes)
