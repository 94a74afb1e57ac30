"""Overrides of states, as programs say them and as they go over the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from farframe.client.entities import NO_OVERRIDES, STATES, Overrides


def check_overrides(changes: dict[str, Any]) -> None:
    """Bring what a program says of states into the form in which it is kept. Raises ValueError."""
    for name, told in changes.items():
        # Comparing arrays gives another False than the object that Python's is.
        value = changes[name] = bool(told) if isinstance(told, np.bool_) else told
        if value is None or value is False:
            continue
        if name == "tint":
            changes[name] = _tint(value)
        elif name == "cut_plane_mask":
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= 255:
                raise ValueError("a cut-plane mask is an integer from 0 to 255, or False")
            changes[name] = int(value)
        elif value is not True:
            raise ValueError(f"{name} is True, False or None")


def _tint(value: Any) -> tuple[float, ...]:
    try:
        tint = tuple(float(number) for number in value)
    except TypeError:
        tint = ()
    if len(tint) != 4 or not all(0.0 <= number <= 1.0 for number in tint):
        raise ValueError("a tint has four numbers from 0 to 1, or is False")
    return tint


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
