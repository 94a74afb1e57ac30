"""Cameras as views: where to look from, and which clip distances fit. Pure maths.

World and views as everywhere in Farframe: right-handed, +Y up, metres, a view looks along its own -Z.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from farframe.protocol.messages import Bounds
from farframe.protocol.records import (
    MAX_CLIP_METERS,
    MAX_EXTENT_METERS,
    MAX_POSITION_METERS,
    MIN_EXTENT_METERS,
    FieldOfView,
    View,
)

Vector3 = tuple[float, float, float]

DEFAULT_VERTICAL_FOV_DEGREES = 45.0
THREE_QUARTER_AZIMUTH_DEGREES = 36.0
THREE_QUARTER_ELEVATION_DEGREES = 20.0
DEFAULT_NEAR_METERS = 0.05
DEFAULT_FAR_METERS = 1000.0
MARGIN = 1.12
"""How much larger than a fitted model the picture is. This, the least distance and the three-quarter view are those of
the TypeScript client's camera: both give the same picture."""

MIN_FIT_DISTANCE = 1.05
"""Even a box without width is looked at from outside its sphere: the least distance, in radii."""

NEAREST_FRACTION = 1.0 / 2000.0
"""The near clip distance is never closer than this part of the far one: depth has finite precision."""

MIN_RADIUS_METERS = 1e-4


def quaternion_of(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The unit quaternion (x, y, z, w) of a 3x3 rotation matrix whose columns are the turned axes.

    After Shepperd, "Quaternion from rotation matrix" (1978): divide by the largest of the four components.
    """
    m = rotation
    trace = float(np.trace(m))
    candidates = np.array([m[0, 0], m[1, 1], m[2, 2], trace])
    choice = int(np.argmax(candidates))
    if choice == 3:
        q = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1.0 + trace])
    else:
        i, j, k = choice, (choice + 1) % 3, (choice + 2) % 3
        q = np.empty(4)
        q[i] = 1.0 - trace + 2.0 * m[i, i]
        q[j] = m[j, i] + m[i, j]
        q[k] = m[k, i] + m[i, k]
        q[3] = m[k, j] - m[j, k]
    q /= np.linalg.norm(q)
    return float(q[0]), float(q[1]), float(q[2]), float(q[3])


def look_rotation(eye: Vector3, target: Vector3, up: Vector3 = (0.0, 1.0, 0.0)) -> NDArray[np.float64]:
    """The 3x3 rotation of a view at ``eye`` that looks at ``target``: columns are its +X, +Y and +Z in the world.

    When the line of sight is along ``up``, another direction is taken for up. Raises ValueError when eye and target
    coincide or a number is not finite.
    """
    start, end, above = (np.asarray(vector, dtype=np.float64) for vector in (eye, target, up))
    if not all(vector.shape == (3,) and np.isfinite(vector).all() for vector in (start, end, above)):
        raise ValueError("eye, target and up must be three finite numbers each")
    backward = start - end
    distance = float(np.linalg.norm(backward))
    if distance < 1e-12:
        raise ValueError("eye and target must be different points")
    backward /= distance
    right = np.cross(above, backward)
    if float(np.linalg.norm(right)) <= 1e-6 * max(float(np.linalg.norm(above)), 1e-12):
        right = np.cross((0.0, 0.0, 1.0) if abs(backward[2]) < 0.9 else (1.0, 0.0, 0.0), backward)
    right /= np.linalg.norm(right)
    return np.column_stack((right, np.cross(backward, right), backward))


def clip_distances(eye: Vector3, bounds: Bounds | None) -> tuple[float, float]:
    """Near and far clip distances, metres, that hold everything inside ``bounds`` seen from ``eye``.

    Without bounds: the defaults.
    """
    if bounds is None:
        return DEFAULT_NEAR_METERS, DEFAULT_FAR_METERS
    low, high = np.asarray(bounds.min), np.asarray(bounds.max)
    radius = max(float(np.linalg.norm(high - low)) / 2, MIN_RADIUS_METERS)
    distance = float(np.linalg.norm(np.asarray(eye) - (low + high) / 2))
    far = min((distance + radius) * 1.05, MAX_CLIP_METERS)
    # What lies wholly beyond the farthest distance that there is cannot be held.
    near = min(max((distance - radius) * 0.9, far * NEAREST_FRACTION), far / 2)
    return near, far


def look_at(
    eye: Vector3,
    target: Vector3,
    up: Vector3 = (0.0, 1.0, 0.0),
    *,
    vertical_fov_degrees: float = DEFAULT_VERTICAL_FOV_DEGREES,
    orthographic: float | None = None,
    aspect: float,
    near: float | None = None,
    far: float | None = None,
    bounds: Bounds | None = None,
) -> View:
    """A symmetric view at ``eye`` that looks at ``target``; ``aspect`` is width / height.

    ``orthographic``: rays are parallel and the picture is that many metres high, whatever the field of view.
    ``near`` and ``far`` in metres, chosen to hold ``bounds`` where not given. Raises ValueError.
    """
    rotation = look_rotation(eye, target, up)
    if not 1.0 <= vertical_fov_degrees <= 170.0:
        raise ValueError("vertical_fov_degrees must be between 1 and 170")
    fitting_near, fitting_far = clip_distances(eye, bounds)
    near = fitting_near if near is None else near
    if far is None:
        far = fitting_far if fitting_far > near else near * 2
    if not 1e-6 <= near < far <= MAX_CLIP_METERS:
        raise ValueError("clip distances must satisfy 1e-6 <= near < far <= 1e9 metres")
    x, y, z = (float(value) for value in eye)
    if max(abs(x), abs(y), abs(z)) > MAX_POSITION_METERS:
        raise ValueError(f"eye must be within {MAX_POSITION_METERS:g} m of the origin")
    if orthographic is None:
        fov = FieldOfView.symmetric(math.radians(vertical_fov_degrees), aspect)
    elif MIN_EXTENT_METERS <= orthographic <= 2 * MAX_EXTENT_METERS / max(aspect, 1.0):
        fov = FieldOfView.extent(orthographic, aspect)
    else:
        raise ValueError("orthographic must be a height in metres that can be drawn")
    return View((x, y, z), quaternion_of(rotation), fov, near, far, orthographic is not None)


def fit(
    bounds: Bounds,
    *,
    aspect: float,
    vertical_fov_degrees: float = DEFAULT_VERTICAL_FOV_DEGREES,
    azimuth_degrees: float = THREE_QUARTER_AZIMUTH_DEGREES,
    elevation_degrees: float = THREE_QUARTER_ELEVATION_DEGREES,
) -> tuple[Vector3, Vector3]:
    """Eye and target from which ``bounds`` just fill the picture.

    ``azimuth_degrees`` turns from +Z towards +X, ``elevation_degrees`` lifts the eye above the horizon. The eye is as
    near as all eight corners allow; the picture's middle is the middle of the bounds.
    """
    azimuth, elevation = math.radians(azimuth_degrees), math.radians(elevation_degrees)
    direction = np.array(
        [math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation)]
    )
    low, high = np.asarray(bounds.min, dtype=np.float64), np.asarray(bounds.max, dtype=np.float64)
    center = (low + high) / 2
    half = np.maximum((high - low) / 2, MIN_RADIUS_METERS)
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], dtype=np.float64)
    rotation = look_rotation(_vector(direction), (0.0, 0.0, 0.0))
    corners = (signs * half) @ rotation
    # A corner lies on the edge of the picture where its offset is the tangent times its depth. The middle stays in the
    # middle, although perspective makes the near corners reach further: few models fill their near corners, and what
    # is looked at sits better in the picture, and turns better, than the tightest fit of its box does.
    tangent = math.tan(math.radians(vertical_fov_degrees) / 2) / MARGIN
    needed = corners[:, 2] + np.maximum(np.abs(corners[:, 0]) / (tangent * aspect), np.abs(corners[:, 1]) / tangent)
    distance = max(float(needed.max()), MIN_FIT_DISTANCE * float(np.linalg.norm(half)))
    return _vector(center + direction * distance), _vector(center)


def fit_height(bounds: Bounds, eye: Vector3, target: Vector3, *, aspect: float) -> float:
    """How high an orthographic picture is, in metres, that ``bounds`` just fill, from :func:`fit`'s eye and target.

    The margin is that of a picture with perspective.
    """
    low, high = np.asarray(bounds.min, dtype=np.float64), np.asarray(bounds.max, dtype=np.float64)
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], dtype=np.float64)
    half = np.maximum((high - low) / 2, MIN_RADIUS_METERS)
    reach = np.abs((signs * half) @ look_rotation(eye, target)).max(axis=0)
    return float(2.0 * MARGIN * max(reach[1], reach[0] / aspect))


def union(boxes: list[Bounds]) -> Bounds | None:
    """The smallest box around all boxes, or ``None`` without any."""
    if not boxes:
        return None
    low = np.min([box.min for box in boxes], axis=0)
    high = np.max([box.max for box in boxes], axis=0)
    return Bounds(min=_vector(low), max=_vector(high))


def grown(bounds: Bounds, factor: float) -> Bounds:
    """A box ``factor`` times as large in each direction, around the same middle."""
    low, high = np.asarray(bounds.min), np.asarray(bounds.max)
    middle, half = (low + high) / 2, (high - low) / 2 * factor
    return Bounds(min=_vector(middle - half), max=_vector(middle + half))


def _vector(values: NDArray[np.float64]) -> Vector3:
    return float(values[0]), float(values[1]), float(values[2])
