"""Answers to questions about where things are; :class:`~farframe.client.scene.Scene` asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from farframe.client.entities import Entity, Vector3
from farframe.protocol import queries
from farframe.protocol import scene as wire


@dataclass(frozen=True, slots=True)
class Overlap:
    """A part that overlaps: which of ``entity``'s parts, from 0."""

    entity: Entity
    sub_part: int


@dataclass(frozen=True, slots=True)
class Overlaps(Sequence[Overlap]):
    """The parts that overlap a shape, by their entities' ids. ``more``: there are others, beyond what was asked for;
    ``complete`` is false when the server could not look at all geometry in time."""

    overlaps: tuple[Overlap, ...]
    more: bool
    complete: bool

    def __len__(self) -> int:
        return len(self.overlaps)

    def __getitem__(self, index: Any) -> Any:
        return self.overlaps[index]

    @property
    def entities(self) -> tuple[Entity, ...]:
        """Those of the parts, each once."""
        return tuple(dict.fromkeys(overlap.entity for overlap in self.overlaps))

    @classmethod
    def of(cls, result: queries.FindOverlapsResult, find: Callable[[int], Entity | None]) -> Overlaps:
        """What the server answered; entities that were destroyed meanwhile are left out. Raises ProtocolError."""
        ids = wire.unpack(result.entities, "u4", 1)
        sub_parts = wire.unpack(result.sub_parts, "u4", 1, len(ids))
        found = tuple(
            Overlap(entity, sub_part)
            for identifier, sub_part in zip(ids.tolist(), sub_parts.tolist(), strict=True)
            if (entity := find(identifier)) is not None
        )
        return cls(found, result.more, result.complete)


def vector(values: ArrayLike) -> Vector3:
    """Three finite numbers. Raises ValueError."""
    array = np.asarray(values, np.float64)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise ValueError(f"a place or a size is three finite numbers, not {values!r}")
    x, y, z = array.tolist()
    return (x, y, z)


def params(shape: queries.Shape, geometry: bool, max_results: int) -> queries.FindOverlapsParams:
    """What is asked."""
    against: Any = "geometry" if geometry else "bounds"
    return queries.FindOverlapsParams(shape=shape, against=against, max_results=max_results)
