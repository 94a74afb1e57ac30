"""Which parts are solid: their surface is closed, so that there is an inside for a cut plane to go through.

Nobody tells: files leave sidedness to chance, and converters make everything double-sided. But the surface itself
does. Over a closed one the oriented areas of all triangles, :math:`\\sum A_i`, add up to nothing, and
:math:`\\sum c_i A_i^T` over their middles to the identity times the volume (Gauss's theorem; exact, for both are linear
over a triangle). A sheet, a bowl or a pipe without ends fails one or the other. Both are taken in a space in which the
part's box is a cube, which changes nothing of the question, so that thin and long parts are judged as others are.

Pure numpy, no GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from farframe.asset.model import Model

ALONE, TOGETHER = 1, 2
"""How a part is solid: by itself, or with others in the same place, as bodies of several materials are; 0: not."""

TOLERANCE = 1e-3
"""How large a hole may be, as a share of the surface."""
LEAST_VOLUME = 1e-4
"""As a share of the surface, in that space: less is a sheet with two sides."""
MOST_TRIANGLES = 1_000_000
"""That are looked at for one model, small parts first; of the others nothing is known."""


def closed(
    positions: NDArray[np.floating[Any]],
    triangles: NDArray[np.integer[Any]],
    group: NDArray[np.integer[Any]],
    count: int,
) -> NDArray[np.bool_]:
    """(count,) which groups of triangles enclose something. ``positions`` (v, 3) metres, ``triangles`` (t, 3) rows of
    it, seen counterclockwise from outside, ``group`` (t,) which of ``count`` groups each is of, ascending."""
    result = np.zeros(count, np.bool_)
    if not len(triangles):
        return result
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    here = group[starts]
    corner = positions[triangles].astype(np.float64)
    with np.errstate(all="ignore"):
        low = np.minimum.reduceat(corner.min(axis=1), starts)
        high = np.maximum.reduceat(corner.max(axis=1), starts)
        half = (high - low) / 2.0
        which = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(group)))
        corner -= ((high + low) / 2.0)[which, None]
        corner /= np.where(half > 0.0, half, 1.0)[which, None]
        area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]) / 2.0
        surface = np.add.reduceat(np.sqrt(np.einsum("ti,ti->t", area, area)), starts)
        total = np.add.reduceat(area, starts)
        moment = np.add.reduceat(corner.mean(axis=1)[:, :, None] * area[:, None, :], starts)
        volume = np.trace(moment, axis1=1, axis2=2) / 3.0
        off = np.abs(moment - volume[:, None, None] * np.eye(3)).max(axis=(1, 2))
        good = (np.abs(total).max(axis=1) <= TOLERANCE * surface) & (off <= TOLERANCE * surface)
        result[here] = good & (volume > LEAST_VOLUME * surface) & np.isfinite(surface)
    return result


def solid_parts(
    positions: NDArray[np.floating[Any]],
    triangles: NDArray[np.integer[Any]],
    part: NDArray[np.integer[Any]],
    instance_part: NDArray[np.integer[Any]],
    instance_matrix: NDArray[np.float64],
    parts: int,
) -> NDArray[np.uint8]:
    """(parts,) how parts are solid: :data:`ALONE`, :data:`TOGETHER` with others that have instances in the same place,
    or not. Triangles as for :func:`closed`, by ``part``; ``instance_matrix`` (n, 3 or 4, 4)."""
    solid = closed(positions, triangles, part, parts).astype(np.uint8)
    some = np.flatnonzero(solid[instance_part] == 0)
    if len(some) < 2:
        return solid
    with np.errstate(all="ignore"):
        places = instance_matrix[some, :3].reshape(len(some), 12)
        _, place = np.unique(places, axis=0, return_inverse=True)
    place = place.reshape(-1)
    member = instance_part[some]
    order = np.lexsort((member, place))
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    together = {tuple(np.unique(group).tolist()) for group in np.split(member[order], starts[1:])}
    first = np.searchsorted(part, np.arange(parts + 1))
    for members in together:
        rows = np.concatenate([np.arange(first[one], first[one + 1]) for one in members])
        if len(members) > 1 and closed(positions, triangles[rows], np.zeros(len(rows), np.int64), 1)[0]:
            solid[list(members)] = TOGETHER
    return solid


def solid_parts_of(model: Model) -> NDArray[np.uint8]:
    """(p,) as :func:`solid_parts`, of a model, by the coarsest levels of its parts. Those that were not looked at
    count as solid if they are drawn with one side, as closed ones are in files that are well made."""
    count = len(model.parts)
    single = [not model.materials[part.material].double_sided for part in model.parts]
    result = np.array(single, np.uint8).reshape(count) * np.uint8(ALONE)
    levels = [part.levels[-1] for part in model.parts]
    sizes = np.array([level.index_count // 3 for level in levels], np.int64)
    small = np.argsort(sizes, kind="stable")
    looked_at = np.sort(small[np.cumsum(sizes[small]) <= MOST_TRIANGLES])
    if not len(looked_at):
        return result
    chosen = looked_at.tolist()
    triangles = np.concatenate(
        [
            model.indices[levels[one].first_index : levels[one].first_index + sizes[one] * 3]
            .reshape(-1, 3)
            .astype(np.int64)
            + model.parts[one].first_vertex
            for one in chosen
        ]
    )
    part = np.repeat(looked_at, sizes[looked_at])
    positions = model.vertices["position"]
    found = solid_parts(positions, triangles, part, model.instance_part, model.instance_matrix, count)
    result[looked_at] = found[looked_at]
    return result
