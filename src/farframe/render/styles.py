"""How instances are drawn beyond their material: cut by planes, as shells, half transparent.

Each instance of a scene has a *style*, a few bits. Within a batch, instances of one style are drawn by one call, with
the batch's pipeline changed as the style says; so what nothing concerns is drawn as ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.render.cut_planes import CutPlanes
from farframe.render.pipelines import Use, Variant
from farframe.render.scene import RenderScene
from farframe.render.visibility import CUT, SEE_THROUGH, SHELL, Placement
from farframe.scene.effects import MAX_CUT_PLANES, Effects, SingleSidedMode
from farframe.scene.states import State

STYLE_DTYPE = np.dtype(
    [
        ("planes", "<f4", (MAX_CUT_PLANES, 4)),
        ("fades", "<f4", (MAX_CUT_PLANES, 4)),
        ("ranges", "<f4", (MAX_CUT_PLANES, 4)),
        ("shell", "<f4", 4),
    ]
)
"""The uniform ``Styles`` of ``shaders/styles.wgsl``."""

SHELL_DEPTH = Use(write_mask=0, silhouettes=True)
SHELL_COLOR = Use(blending="over", depth_compare="equal", depth_write=False)
"""A shell is drawn twice: only the surface that its first drawing found to be the nearest is blended over what is
there, however many lie behind each other."""

NOWHERE = 1e9
"""The offset of planes that cut nothing."""


class Styles:
    """The styles of a scene's instances, brought up to date for every frame in which anything has changed."""

    def __init__(self) -> None:
        self.planes = CutPlanes.of((), np.zeros(3))
        self._mode = SingleSidedMode.NORMAL
        self._shell = Effects().shell
        self._key: tuple[Any, ...] | None = None

    def update(
        self,
        scene: RenderScene,
        table: Placement | None,
        origin: NDArray[np.float64],
        flags: NDArray[np.uint32],
        present: int,
    ) -> bool:
        """Find the styles of ``table``'s n instances; ``flags`` (n, 2 or more) holds their states and masks,
        ``present`` all states that any of them has. Returns whether :meth:`uniform` may be another one than before.
        """
        self._mode, self._shell = scene.effects.single_sided, scene.effects.shell
        if not scene.cut_planes and not present & (State.SHELL | State.SEE_THROUGH):
            if self._key is not None:
                self._key, self.planes = None, CutPlanes.of((), origin)
            if table is not None and table.style is not None:
                table.style = table.gone = table.mask = table.cuts = table.capped = None
            return False
        key = (scene.version, scene.placement_version, id(table), tuple(origin))
        if key == self._key and table is not None and table.style is not None:
            return False
        self._key = key
        self.planes = CutPlanes.of(scene.cut_planes, origin)
        if table is None:
            return True
        states = flags[:, 0]
        style = np.zeros(len(states), np.uint8)
        style[states & np.uint32(int(State.SEE_THROUGH)) != 0] = SEE_THROUGH
        style[states & np.uint32(int(State.SHELL)) != 0] = SHELL
        table.gone = table.mask = table.cuts = table.capped = None
        if len(self.planes):
            table.mask = flags[:, 1].copy()
            table.cuts = self.planes
            table.gone, touched = self.planes.test(table.center, table.extent, table.mask)
            style[touched] |= CUT
            table.capped = self._capped(table, style)
        table.style = style
        return True

    def _capped(self, table: Placement, style: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
        """(n,) which instances of ``table`` planes close: solid ones that hide what is behind them."""
        if not self.planes.capped.any() or table.solid is None or table.mask is None:
            return None
        capped = self.planes.opens(table.center, table.extent, table.mask)
        capped &= (table.solid != 0) & ~table.blended[table.batch] & (style & (SHELL | SEE_THROUGH) == 0)
        return capped if capped.any() else None

    @property
    def active(self) -> bool:
        """Whether there is any style, so that :meth:`uniform` is read."""
        return self._key is not None

    def uniform(self) -> NDArray[np.void]:
        """What the shaders read, one row of :data:`STYLE_DTYPE`."""
        record = np.zeros(1, STYLE_DTYPE)
        count = len(self.planes)
        record["planes"][0, :, 3] = NOWHERE
        record["planes"][0, :count, :3], record["planes"][0, :count, 3] = self.planes.normal, self.planes.offset
        record["fades"][0, :count] = self.planes.color
        record["ranges"][0, :count, 0] = 1.0 / np.maximum(self.planes.length, 1e-9)
        record["ranges"][0, :count, 1] = self.planes.mask
        record["shell"][0, :2] = self._shell.desaturation, self._shell.opacity
        return record

    def variant(self, variant: Variant, style: int) -> Variant:
        """What draws instances of ``style`` of a batch whose pipeline is ``variant``."""
        always = self._mode == SingleSidedMode.ALWAYS_DOUBLE_SIDED
        if not style and not always:
            return variant
        cut = bool(style & CUT)
        opened = always or (cut and self._mode == SingleSidedMode.DYNAMIC_DOUBLE_SIDING)
        shell = bool(style & SHELL)
        return replace(
            variant,
            # One, two, four or eight: another plane need not be another pipeline.
            cut=1 << max(len(self.planes) - 1, 0).bit_length() if cut else 0,
            cut_fade=cut and self.planes.fades,
            double_sided=variant.double_sided or opened,
            shell=shell,
            see_through=bool(style & SEE_THROUGH),
            alpha_mode="opaque" if shell and variant.alpha_mode == "blend" else variant.alpha_mode,
        )

    def opened(self, table: Placement, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of which instances backs are drawn for another reason than their material's."""
        if self._mode == SingleSidedMode.ALWAYS_DOUBLE_SIDED:
            return np.ones(len(rows), np.bool_)
        if table.style is None:
            return np.zeros(len(rows), np.bool_)
        if self._mode == SingleSidedMode.NORMAL:
            # Caps are made of backs, whether they are seen or not.
            return np.zeros(len(rows), np.bool_) if table.capped is None else table.capped[rows]
        return np.asarray(table.style[rows] & CUT != 0, np.bool_)
