"""Cut planes, as selection sees them: which boxes lie wholly beyond one, and which a plane goes through.

What is cut away wholly is not drawn at all; what no plane touches is drawn as if there were none. Only the rest pays
for planes, in its shaders, see ``shaders/styles.wgsl``. Pure numpy, no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.scene.effects import MAX_CUT_PLANES, PlacedCutPlane

ROUNDING = 1e-5
"""By this share of its distance a box counts as larger than it is, for what single precision costs."""


@dataclass(frozen=True, slots=True, eq=False)
class CutPlanes:
    """k planes that cut. Away is where ``normal . x > offset``, both relative to the scene's origin on the device.

    ``normal`` (k, 3), ``offset`` (k,), ``length`` (k,) of what is coloured next to the plane, 0 where nothing is: all
    float32; ``mask`` (k,) uint32; ``color`` (k, 4) float32, linear RGB and how much of it is seen. ``capped`` (k,)
    which close what they go through, see ``caps``; ``cap_color`` (k, 4) likewise, and ``hatching`` (k,) of these.
    """

    normal: NDArray[np.float32]
    offset: NDArray[np.float32]
    mask: NDArray[np.uint32]
    length: NDArray[np.float32]
    color: NDArray[np.float32]
    capped: NDArray[np.bool_]
    cap_color: NDArray[np.float32]
    hatching: NDArray[np.float32]

    @classmethod
    def of(cls, planes: Sequence[PlacedCutPlane], origin: NDArray[np.float64]) -> CutPlanes:
        """The first :data:`~farframe.scene.effects.MAX_CUT_PLANES` of those that are enabled and concern anything."""
        active = [item for item in planes if item.plane.enabled and item.plane.filter_mask][:MAX_CUT_PLANES]
        normal = np.array([item.normal for item in active], np.float64).reshape(-1, 3)
        color = np.array([item.plane.fade_color for item in active], np.float32).reshape(-1, 4)
        length = np.array([item.plane.fade_length for item in active], np.float32)
        color[length <= 0.0, 3] = 0.0
        return cls(
            normal.astype(np.float32),
            (np.array([item.offset for item in active], np.float64) - normal @ origin).astype(np.float32),
            np.array([item.plane.filter_mask for item in active], np.uint32),
            np.where(color[:, 3] > 0.0, length, np.float32(0.0)),
            color,
            np.array([item.plane.capped for item in active], np.bool_),
            np.array([item.plane.cap_color for item in active], np.float32).reshape(-1, 4),
            np.array([item.plane.cap_hatching for item in active], np.float32),
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.offset)

    @property
    def fades(self) -> bool:
        """Whether any colours what is next to it."""
        return bool((self.length > 0.0).any())

    def test(
        self, center: NDArray[np.float32], extent: NDArray[np.float32], mask: NDArray[np.unsignedinteger[Any]]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of n boxes, (n, 3) centres and half sizes with masks (n,): which are cut away wholly, and which of the others
        are touched, by a plane or by the colour next to one."""
        gone, touched = np.zeros(len(center), np.bool_), np.zeros(len(center), np.bool_)
        # Plane by plane and axis by axis: a product of matrices so thin is given to threads that cost more than it.
        for normal, offset, length, bits in zip(self.normal, self.offset, self.length, self.mask, strict=True):
            beyond = center[:, 0] * normal[0] + center[:, 1] * normal[1] + center[:, 2] * normal[2] - offset
            reach = extent[:, 0] * abs(normal[0]) + extent[:, 1] * abs(normal[1]) + extent[:, 2] * abs(normal[2])
            reach += np.float32(ROUNDING) * (np.abs(beyond) + abs(offset) + reach)
            concerned = mask & bits != 0
            gone |= concerned & (beyond > reach)
            touched |= concerned & (beyond + reach > -length)
        return gone, touched & ~gone

    def opens(
        self, center: NDArray[np.float32], extent: NDArray[np.float32], mask: NDArray[np.unsignedinteger[Any]]
    ) -> NDArray[np.bool_]:
        """(n,) through which boxes any plane goes that is capped. Boxes and masks as in :meth:`test`."""
        through = np.zeros(len(center), np.bool_)
        for index in np.flatnonzero(self.capped).tolist():
            normal, offset, bits = self.normal[index], self.offset[index], self.mask[index]
            beyond = center[:, 0] * normal[0] + center[:, 1] * normal[1] + center[:, 2] * normal[2] - offset
            reach = extent[:, 0] * abs(normal[0]) + extent[:, 1] * abs(normal[1]) + extent[:, 2] * abs(normal[2])
            through |= (mask & bits != 0) & (np.abs(beyond) <= reach)
        return through
