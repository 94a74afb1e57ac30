"""Bands: together they are the whole picture, and they can be given up half way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from farframe.protocol.records import FieldOfView, View
from farframe.render import FULL_QUALITY, FrameInput, Quality, RenderedFrame, RenderScene
from farframe.render.bands import band_rows, band_view, render_in_bands
from farframe.render.frame import VisibleCounts

VIEW = View((0.0, 0.0, 3.0), (0.0, 0.0, 0.0, 1.0), FieldOfView(-0.7, 0.6, 0.5, -0.4))


class Painter:
    """Paints each row with the tangent of the angle that it looks at."""

    def __init__(self) -> None:
        self.heights: list[int] = []
        self.released = 0

    def count_visible(self, frame: FrameInput) -> VisibleCounts:
        return VisibleCounts(triangles=10, draws=2, reduced_parts=1)

    def render(self, frame: FrameInput) -> RenderedFrame:
        self.heights.append(frame.height)
        fov = frame.views[0].fov
        up, down = np.tan(fov.up), np.tan(fov.down)
        rows = up + (down - up) * (np.arange(frame.height) + 0.5) / frame.height
        pixels = np.zeros((frame.height, frame.width, 4), np.uint8)
        pixels[...] = np.round(128 + rows * 100)[:, None, None].astype(np.uint8)

        def release() -> None:
            self.released += 1

        return RenderedFrame(pixels, frame.width, frame.height, None, 0.0, 1.0, 2.0, 10, 2, 1, 4, release)


def frame(height: int = 360, **changes: object) -> FrameInput:
    values: dict[str, object] = {"quality": FULL_QUALITY} | changes
    return FrameInput(views=(VIEW,), width=8, height=height, scene=RenderScene(), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("height", [64, 90, 360, 722])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_bands_are_the_whole_picture(height: int, count: int) -> None:
    painter = Painter()
    whole = Painter().render(frame(height))
    banded = render_in_bands(painter, frame(height), count, lambda: False)
    assert banded is not None
    assert np.array_equal(banded.pixels, whole.pixels)
    assert sum(painter.heights) == height
    assert (banded.triangles, banded.draws) == (10, 2), "parts in several bands count once"
    if len(painter.heights) > 1:
        assert painter.released == len(painter.heights)


def test_a_frame_is_given_up_between_two_bands() -> None:
    painter = Painter()
    assert render_in_bands(painter, frame(), 4, lambda: len(painter.heights) == 2) is None
    assert len(painter.heights) == 2
    assert painter.released == 2


def test_rows_are_even_and_cover_everything() -> None:
    for height in range(2, 2200, 2):
        rows = band_rows(height, 6)
        assert rows[0][0] == 0
        assert rows[-1][1] == height
        assert all(a[1] == b[0] for a, b in itertools.pairwise(rows))
        assert all((last - first) % 2 == 0 and last > first for first, last in rows)


def test_a_band_is_cut_where_the_picture_is() -> None:
    upper, lower = band_view(VIEW, 0.0, 0.5), band_view(VIEW, 0.5, 1.0)
    assert upper.fov.up == pytest.approx(VIEW.fov.up)
    assert lower.fov.down == pytest.approx(VIEW.fov.down)
    assert upper.fov.down == pytest.approx(lower.fov.up)
    assert np.tan(upper.fov.down) == pytest.approx((np.tan(VIEW.fov.up) + np.tan(VIEW.fov.down)) / 2)


@pytest.mark.parametrize("changes", [{"read_depth": True}, {"quality": Quality(scale=0.5)}])
def test_other_frames_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="bands"):
        render_in_bands(Painter(), frame(**changes), 4, lambda: False)
