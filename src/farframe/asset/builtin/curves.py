"""Curves in the plane and in space: the outlines, profiles and paths that solids are made from.

Plane curves are (n, 2) arrays of millimetres; a closed one does not repeat its first point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from farframe.asset.builtin.mesh import Array


def circle(radius: float, segments: int, center: tuple[float, float] = (0.0, 0.0), start: float = 0.0) -> Array:
    """A counter-clockwise circle of ``segments`` points, the first at ``start`` degrees."""
    angle = np.radians(start) + np.arange(segments) * (2 * np.pi / segments)
    return np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], axis=1)


def arc(center: tuple[float, float], radius: float, start: float, stop: float, segments: int) -> Array:
    """``segments`` + 1 points from ``start`` to ``stop`` degrees, both included; clockwise if stop < start."""
    angle = np.radians(np.linspace(start, stop, segments + 1))
    return np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], axis=1)


def signed_area(loop: Array) -> float:
    """Area of a closed plane curve, positive if counter-clockwise (the shoelace formula)."""
    following = np.roll(loop, -1, axis=0)
    return float((loop[:, 0] * following[:, 1] - following[:, 0] * loop[:, 1]).sum() / 2)


def fillet(points: ArrayLike, radii: float | Sequence[float], closed: bool, step: float = 20.0) -> Array:
    """Replace corners by arcs, in the plane or in space.

    ``points``: (n, d). ``radii``: millimetres, one for all corners or one per point (0 keeps the corner); a radius
    that does not fit its edges is made smaller. ``step``: at most so many degrees per segment of an arc.
    """
    p = np.asarray(points, dtype=np.float64)
    count = len(p)
    wanted = np.broadcast_to(np.asarray(radii, dtype=np.float64), (count,))
    result: list[Array] = []
    for i in range(count):
        radius = float(wanted[i])
        if radius <= 0 or (not closed and i in (0, count - 1)):
            result.append(p[i][None])
            continue
        before, after = p[i - 1] - p[i], p[(i + 1) % count] - p[i]
        length_before, length_after = float(np.linalg.norm(before)), float(np.linalg.norm(after))
        u, v = before / length_before, after / length_after
        turn = np.pi - np.arccos(np.clip(u @ v, -1.0, 1.0))
        if turn < 1e-3:
            result.append(p[i][None])
            continue
        reach = min(radius * np.tan(turn / 2), 0.49 * length_before, 0.49 * length_after)
        radius = reach / np.tan(turn / 2)
        bisector = (u + v) / np.linalg.norm(u + v)
        center = p[i] + bisector * (radius / np.cos(turn / 2))
        first, last = p[i] + u * reach - center, p[i] + v * reach - center
        segments = max(1, int(np.ceil(np.degrees(turn) / step - 1e-6)))
        t = np.linspace(0.0, 1.0, segments + 1)[:, None]
        # Spherical interpolation keeps the arc's points on its circle in any dimension.
        points_on_arc = (np.sin((1 - t) * turn) * first + np.sin(t * turn) * last) / np.sin(turn)
        if abs(np.sin(turn)) < 1e-6:
            points_on_arc = (1 - t) * first + t * last
        result.append(center + points_on_arc)
    return np.concatenate(result)


def rounded_rectangle(width: float, height: float, radius: float, step: float = 22.5) -> Array:
    """A counter-clockwise rectangle about the origin with round corners; ``width`` along the first axis."""
    w, h = width / 2, height / 2
    return fillet([(-w, -h), (w, -h), (w, h), (-w, h)], radius, closed=True, step=step)


def gear_outline(teeth: int, root: float, tip: float, land: float = 0.34, flank: float = 0.16) -> Array:
    """A counter-clockwise outline with trapezoid teeth.

    ``root`` and ``tip`` are radii; ``land`` is the tooth's top and ``flank`` each of its sides, as parts of a pitch.
    A tooth is centred on angle 0.
    """
    pitch = 2 * np.pi / teeth
    offsets = np.array([-land / 2 - flank, -land / 2, land / 2, land / 2 + flank]) * pitch
    angle = (np.arange(teeth)[:, None] * pitch + offsets).reshape(-1)
    radius = np.tile([root, tip, tip, root], teeth)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def slot_outline(length: float, radius: float, segments: int = 12) -> Array:
    """A counter-clockwise stadium: two half circles whose centres lie ``length`` apart on the first axis."""
    return np.concatenate(
        [
            arc((length / 2, 0), radius, -90, 90, segments),
            arc((-length / 2, 0), radius, 90, 270, segments),
        ]
    )


@dataclass(frozen=True, slots=True)
class Pulley:
    """A circle that a belt runs around: centre and radius of the belt's line, and whether the belt touches it with
    its back (the pulley then lies outside the loop)."""

    center: tuple[float, float]
    radius: float
    back: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A belt's line: ``points`` (n, 2) and ``normals`` (n, 2) outward, closed and counter-clockwise; ``length`` mm;
    ``arrivals``: for each pulley the travelled length and the angle (degrees) where the belt first touches it."""

    points: Array
    normals: Array
    length: float
    arrivals: list[tuple[float, float]]

    def sampled(self, count: int) -> tuple[Array, Array]:
        """``count`` points at equal distances along the belt and their unit normals."""
        closed = np.concatenate([self.points, self.points[:1]])
        normals = np.concatenate([self.normals, self.normals[:1]])
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
        at = np.arange(count) * (along[-1] / count)
        points = np.stack([np.interp(at, along, closed[:, k]) for k in range(2)], axis=1)
        directions = np.stack([np.interp(at, along, normals[:, k]) for k in range(2)], axis=1)
        return points, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def belt_run(pulleys: Sequence[Pulley], step: float = 3.0) -> Run:
    """The closed line of a belt around pulleys given in counter-clockwise order.

    With radii counted negative for pulleys at the belt's back, the outward normal n of the straight piece between
    pulleys 1 and 2 satisfies (c2 - c1) . n = r1 - r2, which fixes n up to the side the belt runs on. ``step`` is the
    arcs' resolution in degrees.
    """
    centers = np.array([pulley.center for pulley in pulleys])
    radii = np.array([-pulley.radius if pulley.back else pulley.radius for pulley in pulleys])
    count = len(pulleys)
    leaving = np.empty((count, 2))
    for i in range(count):
        j = (i + 1) % count
        between = centers[j] - centers[i]
        length = float(np.linalg.norm(between))
        along = between / length
        cosine = (radii[i] - radii[j]) / length
        leaving[i] = cosine * along + np.sqrt(1 - cosine**2) * np.array([along[1], -along[0]])
    points: list[Array] = []
    normals: list[Array] = []
    marks: list[tuple[int, float]] = []
    total = 0
    for i in range(count):
        begin = np.arctan2(*leaving[i - 1][::-1])
        end = np.arctan2(*leaving[i][::-1])
        turn = (end - begin) % (2 * np.pi) if radii[i] > 0 else -((begin - end) % (2 * np.pi))
        segments = max(2, int(np.ceil(abs(np.degrees(turn)) / step)))
        angle = begin + np.linspace(0.0, 1.0, segments + 1) * turn
        n = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        marks.append((total, float(np.degrees(begin))))
        points.append(centers[i] + radii[i] * n)
        normals.append(n)
        total += segments + 1
    line = np.concatenate(points)
    pieces = np.linalg.norm(np.roll(line, -1, axis=0) - line, axis=1)
    travelled = np.concatenate([[0.0], np.cumsum(pieces)])
    arrivals = [(float(travelled[index]), angle) for index, angle in marks]
    return Run(line, np.concatenate(normals), float(pieces.sum()), arrivals)


def spline(points: ArrayLike, per_segment: int = 8) -> Array:
    """A smooth open curve through (n, d) points: centripetal-like Catmull-Rom with doubled ends."""
    p = np.asarray(points, dtype=np.float64)
    extended = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = (np.arange(per_segment) / per_segment)[:, None]
    pieces = []
    for i in range(len(p) - 1):
        p0, p1, p2, p3 = extended[i : i + 4]
        pieces.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )
    pieces.append(p[-1:])
    return np.concatenate(pieces)
