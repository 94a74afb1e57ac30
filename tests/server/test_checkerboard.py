"""The checkerboard over pictures beyond the limit: when it comes, how it looks, when it goes."""

from __future__ import annotations

import numpy as np

from farframe.render import RenderedFrame
from farframe.server.checkerboard import DARK, DELAY_SECONDS, FADE_SECONDS, LIGHT, SQUARES_PER_HEIGHT, Checkerboard

HEIGHT, WIDTH = 4 * SQUARES_PER_HEIGHT, 6 * SQUARES_PER_HEIGHT


def picture(*, over_limit: bool) -> tuple[RenderedFrame, list[str]]:
    """A red picture, and what becomes of its memory."""
    said: list[str] = []
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., 0] = pixels[..., 3] = 255
    frame = RenderedFrame(
        pixels, WIDTH, HEIGHT, None, 0.0, 0.0, 0.0, 1, 1, 0, 1, lambda: said.append("released"), over_limit=over_limit
    )
    return frame, said


def test_it_comes_after_a_delay_fades_in_and_goes_at_once() -> None:
    board = Checkerboard()
    frame, said = picture(over_limit=True)
    assert board.cover(frame, 10.0) is frame and not said
    assert not board.changes(10.0 + DELAY_SECONDS)
    assert board.changes(10.0 + DELAY_SECONDS + 0.1)

    half, said = picture(over_limit=True)
    covered = board.cover(half, 10.0 + DELAY_SECONDS + FADE_SECONDS / 2)
    assert said == ["released"], "its own memory is handed back"
    assert set(np.unique(covered.pixels[..., 0])) == {round(255 / 2 + DARK / 2), round(255 / 2 + LIGHT / 2)}
    assert covered.over_limit
    covered.release()
    assert said == ["released"]

    after = 10.0 + DELAY_SECONDS + 2 * FADE_SECONDS
    whole = board.cover(picture(over_limit=True)[0], after)
    assert set(np.unique(whole.pixels[..., :3])) == {DARK, LIGHT} and (whole.pixels[..., 3] == 255).all()
    assert (whole.pixels[0, 0] != whole.pixels[0, 4]).any() and (whole.pixels[0, 0] == whole.pixels[4, 4]).all()
    assert not board.changes(after + 100.0), "nothing is drawn anew once it is there"

    fine, said = picture(over_limit=False)
    assert board.cover(fine, after + 1.0) is fine and not said
    again, _ = picture(over_limit=True)
    assert board.cover(again, after + 2.0) is again, "the delay begins anew"


def test_its_squares_follow_the_size_of_the_picture() -> None:
    board = Checkerboard()
    board.cover(picture(over_limit=True)[0], 0.0)
    frame, _ = picture(over_limit=True)
    frame.pixels = frame.pixels[: HEIGHT // 2, : WIDTH // 2]
    covered = board.cover(frame, 100.0).pixels
    assert covered.shape == (HEIGHT // 2, WIDTH // 2, 4)
    assert (covered[0, 0] != covered[0, 2]).any()
