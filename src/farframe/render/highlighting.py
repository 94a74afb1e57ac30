"""Where surfaces of different parts lie in nearly the same place, a checkerboard moves over the picture.

Once the picture's depth is there, all opaque surfaces are drawn again, a little nearer than they are, and all that are
not behind it count: those that are seen, and those that lie right below. Each part has a number; where more than one
number is found, surfaces would fight for the pixel. This costs about as much as the picture's own geometry and is done
only while somebody wants to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from farframe.render.pipelines import Pipelines, Use
from farframe.render.side_picture import SidePicture
from farframe.render.targets import Attachments

NUMBERS = Use(
    color_format="rgba8unorm",
    blending="most",
    depth_compare="greater-equal",
    depth_write=False,
    silhouettes=True,
    numbers=True,
)
"""What the parts' numbers are drawn for."""
TOLERANCE = 2.5 / 255
"""Steps of a number by which two must differ to be two."""
CELL_PIXELS = 8.0
"""Of the picture as it is shown."""
CELLS_PER_SECOND = 3.0
OPACITY = 0.8


class Highlighting:
    """The passes that find and show such places, on a device. Nothing is made before somebody wants to see them."""

    def __init__(self, device: Any, pipelines: Pipelines) -> None:
        flags = {"TOLERANCE": str(TOLERANCE), "OPACITY": str(OPACITY)}
        self._side = SidePicture(device, pipelines, "highlighting", NUMBERS, flags, 16)

    def record(
        self,
        encoder: Any,
        attachments: Attachments,
        views: int,
        seconds: float,
        scale: float,
        set_view: Callable[[Any, int], None],
        draw_view: Callable[[Any, int], None],
    ) -> None:
        """Record both passes over the picture in ``attachments``, whose depth must have been kept.

        ``scale``: of the picture drawn to the one shown. ``set_view`` binds one of the ``views`` in a pass,
        ``draw_view`` draws what is opaque in it as for :data:`NUMBERS`; both get the pass and the view's number.
        """
        moved = seconds * CELLS_PER_SECOND % 2.0
        target = self._side.begin(attachments, np.array([CELL_PIXELS * scale, moved, 0, 0], np.float32))
        passing = encoder.begin_render_pass(
            color_attachments=[target.color], depth_stencil_attachment=attachments.kept_depth()
        )
        for index in range(views):
            set_view(passing, index)
            draw_view(passing, index)
        passing.end()
        passing = self._side.begin_pass_over(encoder, attachments, target)
        for index in range(views):
            set_view(passing, index)
            passing.draw(3)
        passing.end()
