"""A frame drawn in horizontal bands, so that a long one can be given up when something more urgent comes.

A band is the same view with a part of its field of view. In the plane of the picture the projection is linear, so
the bands together are the pixels of the whole frame; what lies outside a band is culled, so they cost little more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from farframe.protocol.records import View
from farframe.render.frame import FrameInput, RenderedFrame, VisibleCounts
from farframe.render.outlines import MARGIN_ROWS
from farframe.scene.states import State

MIN_BAND_ROWS = 32
"""Thinner bands would draw parts on their borders more than is saved."""


class Renderer(Protocol):
    """What draws a frame: :class:`farframe.render.Engine`."""

    def render(self, frame: FrameInput) -> RenderedFrame:
        """See :meth:`farframe.render.Engine.render`."""

    def count_visible(self, frame: FrameInput) -> VisibleCounts:
        """See :meth:`farframe.render.Engine.count_visible`."""


def band_view(view: View, top: float, bottom: float) -> View:
    """The part of a view between two heights of its picture, given from 0 (upper edge) to 1 (lower edge)."""
    _, _, up, down = view.tangents
    edges = (up + (down - up) * top, up + (down - up) * bottom)
    if not view.orthographic:
        edges = (math.atan(edges[0]), math.atan(edges[1]))
    return replace(view, fov=replace(view.fov, up=edges[0], down=edges[1]))


def band_rows(height: int, count: int) -> list[tuple[int, int]]:
    """First and last row (exclusive) of about ``count`` bands of an even height; all have even heights."""
    count = max(1, min(count, height // MIN_BAND_ROWS))
    edges = [round(height * index / count / 2) * 2 for index in range(count)] + [height]
    return list(itertools.pairwise(edges))


def render_in_bands(
    renderer: Renderer, frame: FrameInput, count: int, abandon: Callable[[], bool]
) -> RenderedFrame | None:
    """Draw ``frame`` at full scale in about ``count`` bands; ``None`` as soon as ``abandon()`` says so between two.

    The pixels of the result are memory of its own; its counts are those of the whole frame. Raises ``ValueError`` for
    a frame with depth or of reduced scale: these are not worth splitting.
    """
    if frame.read_depth or frame.quality.scale != 1.0:
        raise ValueError("only full-scale frames without depth are drawn in bands")
    rows = band_rows(frame.height, count)
    if len(rows) == 1:
        return renderer.render(frame)
    # A line around what lies in the next band reaches into this one, and edges are found from neighbouring pixels.
    margin = MARGIN_ROWS if frame.scene.has(State.SELECTED) or frame.scene.effects.debug.edges else 0
    visible = renderer.count_visible(frame)  # first, for it settles how coarse the whole picture must be
    pixels = np.empty((frame.height, frame.width, 4), np.uint8)
    drawn: list[RenderedFrame] = []
    for first, last in rows:
        if drawn and abandon():
            return None
        top, bottom = max(first - margin, 0), min(last + margin, frame.height)
        views = tuple(band_view(view, top / frame.height, bottom / frame.height) for view in frame.views)
        height = bottom - top
        band = renderer.render(replace(frame, views=views, height=height, first_row=top, full_height=frame.height))
        pixels[first:last] = band.pixels[first - top : last - top]
        band.release()
        drawn.append(band)
    waited = sum(band.draw_end - band.draw_start for band in drawn)
    return RenderedFrame(
        pixels=pixels,
        width=frame.width,
        height=frame.height,
        depth=None,
        draw_start=drawn[0].draw_start,
        draw_end=drawn[0].draw_start + waited,
        read_back=drawn[-1].read_back,
        triangles=visible.triangles,
        draws=visible.draws,
        reduced_parts=visible.reduced_parts,
        samples=drawn[0].samples,
        points=visible.points,
        over_limit=visible.over_limit,
    )
