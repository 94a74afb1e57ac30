"""Overrides of states, as programs say them and as they go over the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from farframe.client.entities import NO_OVERRIDES, STATES, Overrides


def check_overrides(changes: dict[str, Any]) -> None:
    """Bring what a program says of states into the form in which it is kept. Raises ValueError."""
    tint = changes.get("tint")
    if tint is not None and tint is not False:
        changes["tint"] = tint = tuple(float(number) for number in tint)
        if len(tint) != 4 or not all(0.0 <= number <= 1.0 for number in tint):
            raise ValueError("a tint has four numbers between 0 and 1")
    elif tint is None and "tint" in changes:
        changes["tint"] = None
    mask = changes.get("cut_plane_mask")
    if mask is not None and mask is not False and (isinstance(mask, bool) or not 0 <= mask <= 255):
        raise ValueError("a cut-plane mask lies between 0 and 255")


def bits_of(overrides: Overrides) -> tuple[int, int]:
    """The states that are forced on, and off, as bits."""
    on = off = 0
    for name, bit in STATES.items():
        value = getattr(overrides, name)
        if value is None:
            continue
        if value is False:
            off |= bit
        else:
            on |= bit
    return on, off


def overrides_of(on: int, off: int, tint: list[float], mask: int) -> Overrides:
    """The overrides that a server tells of."""
    values: dict[str, Any] = {}
    for name, bit in STATES.items():
        if off & bit:
            values[name] = False
        elif on & bit:
            values[name] = tuple(tint) if name == "tint" else mask if name == "cut_plane_mask" else True
    return replace(NO_OVERRIDES, **values)
