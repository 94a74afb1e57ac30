"""Which material each part instance of each model is drawn with: the file's, the mesh's, or its entity's own.

    override (one entity)   >   replaced (all that show the mesh)   >   the file's

Materials are known by their ids here; 0 stands for "none of it".
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint32]
Numbers = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Clothes:
    """The materials of one model's i instances. ``part`` (i,) the part that each shows; ``own`` (i,) the material of
    that part in the file, -1 for points; ``first_part``, ``first_material``: the ids of part and material 0;
    ``materials``: how many there are; ``replaced``, ``override`` (i,): ids."""

    part: Numbers
    own: Numbers
    first_part: int
    first_material: int
    materials: int
    replaced: Ids
    override: Ids

    def worn(self, numbers: Numbers) -> Ids:
        """(n,) what these instances are drawn with; 0: the file's."""
        override = self.override[numbers]
        return np.asarray(np.where(override != 0, override, self.replaced[numbers]), np.uint32)

    def file_material(self, numbers: Numbers) -> Ids:
        """(n,) the materials that the file puts there; 0 for points."""
        own = self.own[numbers]
        return np.asarray(np.where(own >= 0, self.first_material + own, 0), np.uint32)


class Dressing:
    """The clothes of all models, by handle."""

    def __init__(self, first_material: int) -> None:
        self._models: dict[int, Clothes] = {}
        self._firsts: list[tuple[int, int]] = []
        """First material and handle of each model that has any, ascending."""
        self._worn: set[int] = set()
        """Materials that have been put on something."""
        self.next_material = first_material
        """The id that the next model's first material gets."""
        self._next_part = 1

    def __contains__(self, handle: int) -> bool:
        return handle in self._models

    def __getitem__(self, handle: int) -> Clothes:
        return self._models[handle]

    def all(self) -> list[Clothes]:
        """Of all models, by ascending ids of their materials."""
        return list(self._models.values())

    def add(self, handle: int, part: Numbers, own: Numbers, materials: int) -> Clothes:
        """A model was placed. Its parts and materials get ids that nothing has had before."""
        count = len(part)
        clothes = Clothes(
            part=np.asarray(part, np.int64),
            own=np.asarray(own, np.int64),
            first_part=self._next_part,
            first_material=self.next_material,
            materials=materials,
            replaced=np.zeros(count, np.uint32),
            override=np.zeros(count, np.uint32),
        )
        if materials:
            self._firsts.append((clothes.first_material, handle))
        self._next_part += int(part.max()) + 1 if count else 0
        self.next_material += materials
        self._models[handle] = clothes
        return clothes

    def remove(self, handle: int) -> Clothes | None:
        """A model is gone."""
        clothes = self._models.pop(handle, None)
        if clothes is not None and clothes.materials:
            self._firsts.remove((clothes.first_material, handle))
        return clothes

    def clear(self) -> None:
        """All models are gone. Ids go on."""
        self._models.clear()
        self._firsts.clear()
        self._worn.clear()

    def owner(self, material: int) -> tuple[int, int] | None:
        """The model, by handle, and the index in its file, of a model's material."""
        place = bisect_right(self._firsts, (material, sys.maxsize)) - 1
        if place < 0:
            return None
        first, handle = self._firsts[place]
        return (handle, material - first) if material - first < self._models[handle].materials else None

    def override(self, handle: int, numbers: Numbers, materials: Ids) -> None:
        """Dress single instances; 0: as their meshes."""
        self._models[handle].override[numbers] = materials
        self._worn.update(np.unique(materials).tolist())

    def replace(self, handle: int, number: int, material: int) -> Numbers:
        """Dress all instances that show the same part as ``number``, and are not dressed themselves; which show it."""
        clothes = self._models[handle]
        same = np.flatnonzero(clothes.part == clothes.part[number])
        clothes.replaced[same] = material
        self._worn.add(material)
        return same

    def undress(self, first: int, count: int = 1) -> list[tuple[int, Numbers]]:
        """Materials, with ids in a row, are gone: the instances, by model, that are drawn with others now."""
        gone = {material for material in self._worn if first <= material < first + count}
        changed: list[tuple[int, Numbers]] = []
        if not gone:
            return changed
        self._worn -= gone
        for handle, clothes in self._models.items():
            overridden = (clothes.override >= first) & (clothes.override < first + count)
            replaced = (clothes.replaced >= first) & (clothes.replaced < first + count)
            worn = overridden | replaced
            if worn.any():
                clothes.override[overridden] = 0
                clothes.replaced[replaced] = 0
                changed.append((handle, np.flatnonzero(worn)))
        return changed
