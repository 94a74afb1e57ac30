"""Outlines of what is selected: a mask of its silhouette, and a pass that draws a line around that over the picture.

The line goes around all that is selected together, over everything, also where the selected lies behind other parts:
it says where a thing is. The mask is drawn without depth, with as many samples as the picture; how much of a pixel is
covered tells where in it the edge lies, so that the line is as smooth as the picture is. (Four samples in motion, too,
would look better by little and cost a CPU three times as much.) When nothing is selected, nothing of this is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.render.frame import Viewport
from farframe.render.pipelines import Pipelines, Use
from farframe.render.side_picture import SidePicture
from farframe.render.targets import Attachments
from farframe.scene.effects import OutlineSettings

MASK = Use(color_format="r8unorm", depth_compare=None, silhouettes=True)
"""What the mask is drawn for."""

WIDTH_PIXELS = 2.0
"""Of the picture as it is shown; a picture drawn smaller has thinner lines, but none below :data:`LEAST_PIXELS`."""
LEAST_PIXELS = 1.0
REACH = math.ceil(WIDTH_PIXELS)
"""How many pixels away, along an axis, what is covered may be from a pixel of the line."""
MARGIN_ROWS = 4
"""Rows beyond a band's own that must be drawn for its lines to be those of the whole picture; even."""

Bounds = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the target."""


def opacity(settings: OutlineSettings, seconds: float) -> float:
    """How opaque a line is at a time: 1, and with a pulse as low as 1 - ``pulse_intensity``."""
    phase = 2.0 * math.pi * settings.pulse_rate_hz * seconds
    return 1.0 - settings.pulse_intensity * (0.5 - 0.5 * math.cos(phase))


def screen_bounds(boxes: NDArray[np.float32], matrix: NDArray[np.float64], port: Viewport, margin: int) -> Bounds:
    """The pixels of a view within which boxes (n, 2, 3) of centres and half sizes lie, and ``margin`` more.

    ``matrix``: (4, 4), the view projection from the space of the boxes. Empty, with a width of 0, for no boxes.
    """
    if not len(boxes):
        return port.x, port.y, 0, 0
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
    corners = boxes[:, 0, None, :] + boxes[:, 1, None, :] * signs
    clip = corners @ matrix[:, :3].T + matrix[:, 3]
    w = clip[..., 3]
    if w.min() <= 1e-6:
        return port.x, port.y, port.width, port.height
    x = (clip[..., 0] / w + 1.0) * (0.5 * port.width)
    y = (1.0 - clip[..., 1] / w) * (0.5 * port.height)
    left, right = (int(np.clip(v, 0, port.width)) for v in (np.floor(x.min()) - margin, np.ceil(x.max()) + margin))
    top, bottom = (int(np.clip(v, 0, port.height)) for v in (np.floor(y.min()) - margin, np.ceil(y.max()) + margin))
    return port.x + left, port.y + top, right - left, bottom - top


class Outlines:
    """The passes that draw outlines, on a device. Nothing is made before something is selected."""

    def __init__(self, device: Any, pipelines: Pipelines) -> None:
        self._side = SidePicture(device, pipelines, "outline", MASK, {"REACH": str(REACH)}, 32)

    def record(
        self,
        encoder: Any,
        attachments: Attachments,
        bounds: list[Bounds],
        settings: OutlineSettings,
        seconds: float,
        scale: float,
        set_view: Callable[[Any, int], None],
        draw_view: Callable[[Any, int], None],
    ) -> None:
        """Record both passes over the picture in ``attachments``.

        ``bounds``: by view, where there may be lines; ``scale``: of the picture drawn to the one shown. ``set_view``
        binds a view in a pass and its part of the target, ``draw_view`` draws what is selected in it as for
        :data:`MASK`; both get the pass and the view's number.
        """
        width = max(LEAST_PIXELS, WIDTH_PIXELS * scale)
        values = np.array([*settings.color, opacity(settings, seconds), width, 0, 0, 0], np.float32)
        target = self._side.begin(attachments, values)
        passing = encoder.begin_render_pass(color_attachments=[target.color])
        for index in range(len(bounds)):
            set_view(passing, index)
            draw_view(passing, index)
        passing.end()
        passing = self._side.begin_pass_over(encoder, attachments, target)
        for index, area in enumerate(bounds):
            if area[2] > 0 and area[3] > 0:
                set_view(passing, index)
                passing.set_scissor_rect(*area)
                passing.draw(3)
        passing.end()
