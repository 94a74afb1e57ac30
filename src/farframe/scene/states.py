"""States that an entity's subtree can be made to have: what ``HierarchicalStateOverrideComponent`` is in ARR.

Each state of an entity is forced on, forced off, or inherited. What counts for a part is the nearest force on its way
up to the root, for each state on its own; with none it is off. :mod:`farframe.scene.graph` resolves them.
"""

from __future__ import annotations

from enum import IntFlag

ALL_CUT_PLANES = 0xFF
"""The cut-plane mask of what has no other: all planes cut it."""


class State(IntFlag):
    """The states, with the numbers that they have in ARR."""

    NONE = 0
    HIDDEN = 1
    """Not drawn; still hit by ray casts."""
    SELECTED = 2
    """Drawn with an outline."""
    SEE_THROUGH = 4
    """Drawn half transparent."""
    USE_TINT_COLOR = 8
    """Drawn in the tint colour, as far as that colour's alpha says."""
    DISABLE_COLLISION = 16
    """Not hit by ray casts and other queries."""
    USE_CUT_PLANE_FILTER_MASK = 64
    """Cut only by planes whose mask shares a bit with the entity's."""
    SHELL = 128
    """Drawn faintly, the nearest surface only."""
    TRANSPARENCY_WRITES_DEPTH = 256
    """Transparent surfaces count for depth."""


ALL_STATES = int(
    State.HIDDEN
    | State.SELECTED
    | State.SEE_THROUGH
    | State.USE_TINT_COLOR
    | State.DISABLE_COLLISION
    | State.USE_CUT_PLANE_FILTER_MASK
    | State.SHELL
    | State.TRANSPARENCY_WRITES_DEPTH
)
