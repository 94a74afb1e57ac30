"""Raised letters from outlines drawn on a grid: enough for the name on the valve cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from farframe.asset.builtin.mesh import Mesh, join
from farframe.asset.builtin.primitives import extrude

_Loop = list[tuple[float, float]]

# Each letter: its width, then outlines (the first is the outside, further ones are holes) on a height of 10.
_LETTERS: dict[str, tuple[float, list[_Loop]]] = {
    "F": (7.2, [[(0, 0), (2.2, 0), (2.2, 4), (6.2, 4), (6.2, 6), (2.2, 6), (2.2, 8), (7.2, 8), (7.2, 10), (0, 10)]]),
    "A": (
        9.0,
        [
            [(0, 0), (2.3, 0), (3.0, 2.0), (6.0, 2.0), (6.7, 0), (9, 0), (5.7, 10), (3.3, 10)],
            [(3.65, 3.9), (5.35, 3.9), (4.5, 6.6)],
        ],
    ),
    "R": (
        8.0,
        [
            [
                (0, 0),
                (2.2, 0),
                (2.2, 3.4),
                (3.5, 3.4),
                (5.5, 0),
                (8, 0),
                (5.75, 3.75),
                (7.0, 4.4),
                (7.7, 5.5),
                (7.8, 6.7),
                (7.5, 8.2),
                (6.7, 9.4),
                (5.4, 10),
                (0, 10),
            ],
            [(2.2, 5.3), (4.7, 5.3), (5.4, 5.8), (5.6, 6.7), (5.4, 7.6), (4.7, 8.1), (2.2, 8.1)],
        ],
    ),
    "M": (
        10.0,
        [
            [
                (0, 0),
                (2.2, 0),
                (2.2, 6.3),
                (4.3, 2.6),
                (5.7, 2.6),
                (7.8, 6.3),
                (7.8, 0),
                (10, 0),
                (10, 10),
                (8.0, 10),
                (5, 4.9),
                (2.0, 10),
                (0, 10),
            ]
        ],
    ),
    "E": (
        7.2,
        [
            [
                (0, 0),
                (7.2, 0),
                (7.2, 2),
                (2.2, 2),
                (2.2, 4.1),
                (6.4, 4.1),
                (6.4, 6),
                (2.2, 6),
                (2.2, 8),
                (7.2, 8),
                (7.2, 10),
                (0, 10),
            ]
        ],
    ),
}


def text(word: str, height: float, thickness: float, matrix: ArrayLike, gap: float = 0.22, bevel: float = 0.5) -> Mesh:
    """A word as one mesh of raised letters.

    Built in the x, y plane, centred on the origin, standing out along +Z by ``thickness`` mm, then placed by
    ``matrix``; ``gap`` is the space between letters as a part of their height. Letters: A, E, F, M, R.
    """
    scale = height / 10.0
    width = sum(_LETTERS[letter][0] for letter in word) * scale + gap * height * (len(word) - 1)
    x = -width / 2
    bodies = []
    for letter in word:
        advance, loops = _LETTERS[letter]
        outlines = [np.array(loop, dtype=np.float64) * scale + (x, -height / 2) for loop in loops]
        bodies.append(extrude(outlines[0], 0.0, thickness, "z", holes=outlines[1:], bevel=bevel))
        x += advance * scale + gap * height
    return join(bodies).transformed(matrix)
