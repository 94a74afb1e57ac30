"""Solids: lofts, lathes, sweeps, bevelled extrusions, belts, springs. All closed, all wound outward, millimetres.

Solids with an axis are built along "x", "y" or "z"; the plane's first and second coordinate then lie along the two
axes that follow it cyclically: (x, y) for "z", (y, z) for "x", (z, x) for "y".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from farframe.asset.builtin.curves import Run, circle, fillet, rounded_rectangle, signed_area
from farframe.asset.builtin.mesh import BEVEL_WEIGHT, FLAT_WEIGHT, Array, Integers, Mesh, join


def along(axis: str, plane: Array, height: Array | float) -> Array:
    """Points (..., 3) from plane coordinates (..., 2) and a height along ``axis``."""
    u, v = plane[..., 0], plane[..., 1]
    w = np.broadcast_to(np.asarray(height, dtype=np.float64), u.shape)
    parts = {"z": (u, v, w), "x": (w, u, v), "y": (v, w, u)}[axis]
    return np.stack(parts, axis=-1)


def loft(rings: ArrayLike, closed: bool = False) -> Mesh:
    """A skin over rings (k, n, 3) of equally many points, with a fan as lid at both ends, or ``closed`` to a torus."""
    r = np.asarray(rings, dtype=np.float64)
    k, n = r.shape[:2]
    bands = k if closed else k - 1
    i, j = (grid.reshape(-1) for grid in np.meshgrid(np.arange(bands), np.arange(n), indexing="ij"))
    next_i, next_j = (i + 1) % k, (j + 1) % n
    a, b, c, d = i * n + j, i * n + next_j, next_i * n + next_j, next_i * n + j
    faces = np.stack([a, b, c, a, c, d], axis=1).reshape(-1, 3)
    mesh = Mesh.of(r.reshape(-1, 3), faces)
    if closed:
        return mesh.outward()
    here, there = np.arange(n), (np.arange(n) + 1) % n
    start, stop = k * n, k * n + 1
    lids = np.concatenate(
        [
            np.stack([np.full(n, start), there, here], axis=1),
            np.stack([np.full(n, stop), (k - 1) * n + here, (k - 1) * n + there], axis=1),
        ]
    )
    capped = Mesh.of(
        np.concatenate([mesh.positions, r[0].mean(axis=0)[None], r[-1].mean(axis=0)[None]]),
        np.concatenate([mesh.triangles, lids]),
        np.concatenate([mesh.weights, np.full(len(lids), FLAT_WEIGHT)]),
    )
    return capped.outward()


def lathe(profile: ArrayLike, segments: int, axis: str = "y", closed: bool = False, bevel: float = 0.0) -> Mesh:
    """Turn a profile (n, 2) of (radius, height) about ``axis``.

    An open profile is closed by flat lids where it does not end on the axis; a ``closed`` one makes a ring. ``bevel``
    chamfers the profile's corners off the axis by so many millimetres.
    """
    p = np.asarray(profile, dtype=np.float64).copy()
    if bevel > 0:
        radii = np.where(p[:, 0] > 1e-9, bevel, 0.0)
        p = fillet(p, list(radii), closed=closed, step=90.0)
    angle = np.arange(segments) * (2 * np.pi / segments)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rings = along(axis, p[:, None, :1] * around[None], np.broadcast_to(p[:, 1][:, None], (len(p), segments)))
    mesh = loft(rings, closed=closed)
    return mesh.welded().outward()


def ring(outer: float, inner: float, low: float, high: float, segments: int, axis: str, bevel: float = 0.8) -> Mesh:
    """A hollow cylinder, bevelled outside."""
    section = fillet([(outer, low), (outer, high), (inner, high), (inner, low)], [bevel, bevel, 0, 0], True, 90.0)
    return lathe(section, segments, axis, closed=True)


def frames(path: Array, closed: bool = False, up: ArrayLike | None = None) -> tuple[Array, Array, Array]:
    """Tangents and two normals, each (n, 3), of a path, turned as little as possible from point to point.

    Parallel transport by double reflection (Wang et al. 2008, "Computation of rotation minimizing frames"). ``up``
    chooses the first normal as near to it as the tangent allows.
    """
    step = np.roll(path, -1, axis=0) - path if closed else np.diff(path, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    if closed:
        tangents = step + np.roll(step, 1, axis=0)
    else:
        tangents = np.concatenate([step[:1], step[:-1] + step[1:], step[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    first = np.asarray(up if up is not None else np.eye(3)[np.argmin(np.abs(tangents[0]))], dtype=np.float64)
    first = first - tangents[0] * (first @ tangents[0])
    normals = np.empty_like(path)
    normals[0] = first / np.linalg.norm(first)
    for i in range(len(path) - 1):
        v = path[i + 1] - path[i]
        scale = 2.0 / (v @ v)
        normal = normals[i] - scale * (v @ normals[i]) * v
        tangent = tangents[i] - scale * (v @ tangents[i]) * v
        w = tangents[i + 1] - tangent
        size = w @ w
        normals[i + 1] = normal if size < 1e-18 else normal - (2.0 / size) * (w @ normal) * w
    return tangents, normals, np.cross(tangents, normals)


def sweep(path: ArrayLike, section: ArrayLike, closed: bool = False, up: ArrayLike | None = None) -> Mesh:
    """Move a plane section along a path (n, 3).

    ``section``: (m, 2) for the whole path, or (n, m, 2) one per point; its first axis lies along the first normal
    (near ``up``), the second completes it to a right-handed frame with the path's direction.
    """
    p = np.asarray(path, dtype=np.float64)
    s = np.asarray(section, dtype=np.float64)
    s = np.broadcast_to(s, (len(p), *s.shape[-2:]))
    _, normals, binormals = frames(p, closed, up)
    rings = p[:, None] + s[..., :1] * normals[:, None] + s[..., 1:] * binormals[:, None]
    return loft(rings, closed=closed)


def rod(path: ArrayLike, radius: ArrayLike | float, segments: int = 16, closed: bool = False) -> Mesh:
    """A round bar along a path; ``radius`` is one number or one per point."""
    p = np.asarray(path, dtype=np.float64)
    r = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(p),))
    return sweep(p, r[:, None, None] * circle(1.0, segments)[None], closed)


def tube(path: ArrayLike, outer: ArrayLike | float, wall: float, segments: int = 24, depth: int | None = None) -> Mesh:
    """An open pipe with a wall: outside there, inside back.

    ``depth``: how many of the path's points the inside follows from each end before a blank wall closes it; None
    hollows the whole length. What nobody can look into need not be drawn.
    """
    p = np.asarray(path, dtype=np.float64)
    r = np.broadcast_to(np.asarray(outer, dtype=np.float64), (len(p),))
    _, normals, binormals = frames(p)
    around = circle(1.0, segments)
    spokes = around[None, :, :1] * normals[:, None] + around[None, :, 1:] * binormals[:, None]
    outside = p[:, None] + r[:, None, None] * spokes
    inside = p[:, None] + (r - wall)[:, None, None] * spokes
    if depth is None or 2 * depth >= len(p):
        return loft(np.concatenate([outside, inside[::-1]]), closed=True)
    return loft(np.concatenate([inside[:depth][::-1], outside, inside[-depth:][::-1]]))


def inset(loop: Array, distance: float) -> Array:
    """Move a closed curve to its left by ``distance`` (inward if counter-clockwise), corners mitred."""
    edges = np.roll(loop, -1, axis=0) - loop
    length = np.linalg.norm(edges, axis=1, keepdims=True)
    edges = edges / np.maximum(length, 1e-12)
    left = np.stack([-edges[:, 1], edges[:, 0]], axis=1)
    before = np.roll(left, 1, axis=0)
    dot = np.einsum("ij,ij->i", left, before)[:, None]
    moved: Array = loop + distance * (left + before) / np.maximum(1.0 + dot, 0.3)
    return moved


def extrude(
    outline: ArrayLike,
    low: float,
    high: float,
    axis: str = "y",
    holes: Sequence[ArrayLike] = (),
    bevel: float = 1.0,
    segments: int = 1,
    tags: ArrayLike | None = None,
    lid_tags: tuple[int, int] = (0, 0),
) -> Mesh:
    """A prism over an outline with holes, its edges bevelled.

    ``bevel``: how far, in millimetres, faces keep from the sharp edges; ``segments`` of it make a round edge, 1 a
    chamfer (which :func:`~farframe.asset.builtin.mesh.shade` makes look round). ``tags``: one per edge of the outline
    (edge i runs from point i to the next), for its wall and bevels; ``lid_tags`` for the low and high end. Outline
    and holes may be given in either direction.
    """
    outer = np.asarray(outline, dtype=np.float64)
    edge_tags = np.zeros(len(outer), dtype=np.int64) if tags is None else np.asarray(tags, dtype=np.int64)
    if signed_area(outer) < 0:
        outer, edge_tags = outer[::-1], np.roll(edge_tags[::-1], -1)
    loops = [outer]
    for hole in holes:
        points = np.asarray(hole, dtype=np.float64)
        loops.append(points[::-1] if signed_area(points) > 0 else points)
    edge_tags = np.concatenate([edge_tags, *(np.zeros(len(loop), dtype=np.int64) for loop in loops[1:])])

    turn = np.linspace(0.0, np.pi / 2, segments + 1)
    if bevel > 0:
        insets = np.concatenate([bevel * (1 - np.sin(turn)), bevel * (1 - np.cos(turn))])
        heights = np.concatenate([low + bevel * (1 - np.cos(turn)), high - bevel * (1 - np.sin(turn))])
        weights = [BEVEL_WEIGHT] * segments + [1.0] + [BEVEL_WEIGHT] * segments
    else:
        insets, heights, weights = np.zeros(2), np.array([low, high]), [1.0]

    count = sum(len(loop) for loop in loops)
    levels = np.stack([np.concatenate([inset(loop, float(d)) for loop in loops]) for d in insets])
    following = np.concatenate(
        [begin + (np.arange(len(loop)) + 1) % len(loop) for begin, loop in zip(_begins(loops), loops, strict=True)]
    )
    here = np.arange(count)
    faces: list[Integers] = []
    face_weights: list[Array] = []
    for level, weight in enumerate(weights):
        a, b = level * count + here, level * count + following
        faces.append(np.stack([a, b, b + count, a, b + count, a + count], axis=1).reshape(-1, 3))
        face_weights.append(np.full(2 * count, weight))
    wall_tags = np.tile(np.repeat(edge_tags, 2), len(weights))
    lid = triangulate([inset(loop, float(insets[0])) for loop in loops])
    faces += [lid[:, ::-1], lid + (len(heights) - 1) * count]
    face_weights.append(np.full(2 * len(lid), FLAT_WEIGHT))
    positions = along(axis, levels, np.broadcast_to(heights[:, None], levels.shape[:2]))
    mesh = Mesh.of(positions.reshape(-1, 3), np.concatenate(faces), np.concatenate(face_weights))
    mesh.tags = np.concatenate([wall_tags, np.repeat(np.asarray(lid_tags, dtype=np.int64), len(lid))])
    return mesh.outward()


def _begins(loops: Sequence[Array]) -> list[int]:
    return [0, *np.cumsum([len(loop) for loop in loops])[:-1].tolist()]


def rounded_box(size: tuple[float, float, float], radius: float, segments: int = 2, axis: str = "y") -> Mesh:
    """A box (x, y, z millimetres) about the origin with all edges rounded."""
    x, y, z = size
    width, height, depth = {"z": (x, y, z), "x": (y, z, x), "y": (z, x, y)}[axis]
    outline = rounded_rectangle(width, height, radius, step=90.0 / (segments + 1))
    return extrude(outline, -depth / 2, depth / 2, axis, bevel=radius * 0.8, segments=segments)


def spring(radius: float, wire: float, height: float, turns: float, steps: int = 18, segments: int = 8) -> Mesh:
    """A helical compression spring standing on y = 0, its end turns closed as on ground ends."""
    t = np.linspace(0.0, 1.0, int(turns * steps) + 1)
    angle = 2 * np.pi * turns * t
    # The pitch is small in the first and last turn and constant between them.
    end = 0.8 / turns
    rise = np.interp(t, [0.0, end, 1 - end, 1.0], [0.0, wire * 0.9, height - wire * 2.9, height - wire * 2.0])
    path = np.stack([radius * np.cos(angle), wire + rise, -radius * np.sin(angle)], axis=1)
    return rod(path, wire, segments)


def toothed_belt(run: Run, teeth: int, low: float, high: float, axis: str, back: float, tooth: float) -> Mesh:
    """A timing belt along a run: ``back`` mm of rubber outside its line, trapezoid teeth of ``tooth`` mm inside."""
    points, normals = run.sampled(teeth * 4)
    height = np.tile([0.0, tooth, tooth, 0.0], teeth) + 0.8
    return _band(axis, points + normals * back, points - normals * height[:, None], low, high)


def ribbed_belt(run: Run, ribs: int, low: float, high: float, axis: str, back: float, depth: float) -> Mesh:
    """A poly-V belt: ribs along its running side."""
    points, normals = run.sampled(max(96, int(run.length / 9)))
    width = np.linspace(low, high, 2 * ribs + 1)
    inner = np.where(np.arange(2 * ribs + 1) % 2 == 1, depth, 0.6)
    edge = 0.6
    section = [(low, back - edge), (low + edge, back), (high - edge, back), (high, back - edge)]
    section += [(float(w), float(-d)) for w, d in zip(width[::-1], inner[::-1], strict=True)]
    s = np.array(section)
    plane = points[:, None] + normals[:, None] * s[None, :, 1:]
    return loft(along(axis, plane, np.broadcast_to(s[None, :, 0], plane.shape[:2])), closed=True)


def _band(axis: str, outside: Array, inside: Array, low: float, high: float, edge: float = 0.7) -> Mesh:
    middle = (outside + inside) / 2
    shrink = outside - middle
    shrink = edge * shrink / np.linalg.norm(shrink, axis=1, keepdims=True)
    rows = [
        along(axis, outside - shrink, low),
        along(axis, outside, low + edge),
        along(axis, outside, high - edge),
        along(axis, outside - shrink, high),
        along(axis, inside, high),
        along(axis, inside, low),
    ]
    return loft(np.stack(rows, axis=1), closed=True)


def thread_profile(radius: float, low: float, high: float, pitch: float, depth: float) -> list[tuple[float, float]]:
    """Points (radius, height) of a zigzag that suggests a thread on a lathe's profile, from ``low`` to ``high``."""
    count = max(1, round((high - low) / pitch))
    heights = np.linspace(low, high, 2 * count + 1)
    return [(radius - (depth if k % 2 == 0 else 0.0), float(h)) for k, h in enumerate(heights)]


def capsule(start: ArrayLike, stop: ArrayLike, radius: float, segments: int = 8) -> Mesh:
    """A bar with hemispherical ends between two points: a cast rib."""
    a, b = np.asarray(start, dtype=np.float64), np.asarray(stop, dtype=np.float64)
    direction = (b - a) / np.linalg.norm(b - a)
    angle = np.radians([75.0, 38.0, 0.0])
    near = [(a - direction * radius * np.sin(t), radius * np.cos(t)) for t in angle]
    far = [(b + direction * radius * np.sin(t), radius * np.cos(t)) for t in angle[::-1]]
    path = np.array([point for point, _ in near + far])
    radii = np.array([size for _, size in near + far])
    return rod(path, radii, segments)


def web(points: ArrayLike, thickness: float, axis: str, at: float, bevel: float = 1.0) -> Mesh:
    """A flat rib: a polygon of the plane across ``axis``, ``thickness`` wide and centred on ``at``."""
    return extrude(points, at - thickness / 2, at + thickness / 2, axis, bevel=bevel)


def triangulate(loops: Sequence[Array]) -> Integers:
    """Triangles (m, 3) over an outline (counter-clockwise) with holes (clockwise), indices into all loops in order.

    Ear clipping after joining each hole to the outline by a bridge at its rightmost point (D. Eberly, "Triangulation
    by Ear Clipping"). A convex outline without holes is a zigzag, which has fewer slivers than a fan.
    """
    points = np.concatenate(loops)
    polygon = list(range(len(loops[0])))
    if len(loops) == 1 and _is_convex(loops[0]):
        return _zigzag(len(polygon))
    begins = _begins(loops)
    order = sorted(range(1, len(loops)), key=lambda k: -float(loops[k][:, 0].max()))
    for k in order:
        start = int(np.argmax(loops[k][:, 0]))
        size = len(loops[k])
        hole = [begins[k] + (start + i) % size for i in range(size)]
        position = _bridge(points, polygon, hole[0])
        polygon = polygon[: position + 1] + hole + [hole[0]] + polygon[position:]
    return _clip_ears(points, polygon)


def _is_convex(loop: Array) -> bool:
    edge = np.roll(loop, -1, axis=0) - loop
    following = np.roll(edge, -1, axis=0)
    return bool(np.all(edge[:, 0] * following[:, 1] - edge[:, 1] * following[:, 0] > -1e-9))


def _zigzag(count: int) -> Integers:
    left, right = 0, count - 1
    faces = []
    while right - left > 1:
        faces.append((left, left + 1, right))
        left += 1
        if right - left > 1:
            faces.append((left, right - 1, right))
            right -= 1
    return np.array(faces, dtype=np.int64)


def _bridge(points: Array, polygon: list[int], start: int) -> int:
    """Position in ``polygon`` of a corner that sees the hole's rightmost point ``start``."""
    p = points[start]
    a = points[polygon]
    b = np.roll(a, -1, axis=0)
    spans = (a[:, 1] <= p[1]) & (b[:, 1] > p[1])
    rise = np.where(spans, b[:, 1] - a[:, 1], 1.0)
    x = a[:, 0] + (p[1] - a[:, 1]) / rise * (b[:, 0] - a[:, 0])
    x = np.where(spans & (x >= p[0] - 1e-9), x, np.inf)
    edge = int(np.argmin(x))
    hit = np.array([x[edge], p[1]])
    following = (edge + 1) % len(polygon)
    chosen = edge if a[edge, 0] > a[following, 0] else following
    corner = a[chosen]
    if np.abs(corner - hit).max() < 1e-9:
        return chosen
    # Corners inside the triangle p, hit, corner could hide it; of those the one nearest in angle is surely seen.
    inside = _inside(a, p, hit, corner) if corner[1] < p[1] else _inside(a, p, corner, hit)
    inside &= np.any(np.abs(a - corner) > 1e-9, axis=1) & (a[:, 0] > p[0])
    if inside.any():
        candidates = np.flatnonzero(inside)
        offset = a[candidates] - p
        slope = np.abs(offset[:, 1]) / np.maximum(offset[:, 0], 1e-12)
        chosen = int(candidates[np.lexsort((np.linalg.norm(offset, axis=1), slope))[0]])
    return chosen


def _inside(q: Array, a: Array, b: Array, c: Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    def side(u: Array, v: Array) -> Array:
        result: Array = (v[0] - u[0]) * (q[:, 1] - u[1]) - (v[1] - u[1]) * (q[:, 0] - u[0])
        return result

    s, t, r = side(a, b), side(b, c), side(c, a)
    forward: np.ndarray[tuple[int], np.dtype[np.bool_]] = (s >= -1e-9) & (t >= -1e-9) & (r >= -1e-9)
    backward: np.ndarray[tuple[int], np.dtype[np.bool_]] = (s <= 1e-9) & (t <= 1e-9) & (r <= 1e-9)
    return forward | backward


def _clip_ears(points: Array, polygon: list[int]) -> Integers:
    xy = points.tolist()
    remaining = polygon.copy()
    faces: list[tuple[int, int, int]] = []

    def turn(i: int, j: int, k: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = xy[i], xy[j], xy[k]
        return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))

    def is_ear(position: int, slack: float) -> bool:
        size = len(remaining)
        i, j, k = remaining[position - 1], remaining[position], remaining[(position + 1) % size]
        if turn(i, j, k) <= slack:
            return False
        (ax, ay), (bx, by), (cx, cy) = xy[i], xy[j], xy[k]
        low_x, high_x = min(ax, bx, cx), max(ax, bx, cx)
        low_y, high_y = min(ay, by, cy), max(ay, by, cy)
        for q in remaining:
            x, y = xy[q]
            if x < low_x or x > high_x or y < low_y or y > high_y or q in (i, j, k):
                continue
            if (x, y) in ((ax, ay), (bx, by), (cx, cy)):
                continue
            if (
                (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
                and (cx - bx) * (y - by) - (cy - by) * (x - bx) >= 0
                and (ax - cx) * (y - cy) - (ay - cy) * (x - cx) >= 0
            ):
                return False
        return True

    position, misses, slack = 0, 0, 1e-9
    while len(remaining) > 3:
        position %= len(remaining)
        if is_ear(position, slack):
            faces.append((remaining[position - 1], remaining[position], remaining[(position + 1) % len(remaining)]))
            del remaining[position]
            position += 1  # taking every other corner keeps triangles from fanning out of one
            misses = 0
            continue
        position += 1
        misses += 1
        if misses > len(remaining):
            if slack < 0:
                break  # an outline that crosses itself; the tests hold every solid to being closed
            slack, misses = -1e-6, 0
    faces.append((remaining[0], remaining[1], remaining[2]))
    return np.array(faces, dtype=np.int64)


def blades(sections: Sequence[tuple[Array, Array]], count: int, axis: str) -> Mesh:
    """``count`` copies about ``axis`` of a blade lofted between (front edge, back edge) curve pairs.

    ``sections``: two or more pairs of (n, 3) curves from hub to tip, the blade's two faces at each station, built
    about "z"; the copies are turned about it before the solid is laid along ``axis``.
    """
    rings = np.stack([np.concatenate([front, back[::-1]]) for front, back in sections])
    blade = loft(rings)
    angles = np.arange(count) * (360.0 / count)
    body = join(blade.turned("z", float(angle)) for angle in angles)
    body.positions = along(axis, body.positions[:, :2], body.positions[:, 2])
    return body
