"""Where a device will be when a frame is shown: pure maths, the times come from the poses and from the ledger.

A frame is seen some 50 ms after its pose was taken. A head has moved on by then; drawing for where it will be halves
what a headset has to correct, and more. A mouse stops as suddenly as the hand does, so the device says for each pose
whether it wants this (:class:`farframe.protocol.records.PoseFlags`).

The model is constant velocity and constant angular velocity, each a line fitted by least squares to the poses of the
last :data:`WINDOW_SECONDS`; positions in world space, orientations as rotation vectors from the newest one (the
logarithm of a quaternion, as in Solà, "Quaternion kinematics for the error-state Kalman filter", 2017). Three things
keep it calm:

* Jitter is not motion: a line that explains less than the scatter about it counts little.
* It never looks further than :data:`MAX_HORIZON_SECONDS`, and turns no further than :data:`MAX_TURN_RADIANS`.
* Poses that stop coming mean a device at rest: the older the newest one, the less is added to it. A jump is no motion:
  the history begins anew there.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from farframe.protocol.records import PoseRecord, View

WINDOW_SECONDS = 0.08
MIN_POSES = 3
MAX_HORIZON_SECONDS = 0.1
MAX_TURN_RADIANS = 0.5
MAX_SPEED = 20.0
"""Metres per second from one pose to the next; faster is a jump."""
MAX_TURN_SPEED = 20.0
"""Radians per second, likewise."""
FRESH_SECONDS = 0.05
STALE_SECONDS = 0.12
"""A newest pose up to the first age counts in full, from the second on nothing is added to it."""
SCATTER_WEIGHT = 4.0

Quaternion = tuple[float, float, float, float]
Vector = NDArray[np.float64]


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """The quaternion (xyzw) that turns by ``b`` first, then by ``a``."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def conjugate(q: Quaternion) -> Quaternion:
    """The opposite turn of a unit quaternion."""
    return (-q[0], -q[1], -q[2], q[3])


def to_rotation_vector(q: Quaternion) -> Vector:
    """Axis times angle in radians, the shorter way round, of a unit quaternion xyzw."""
    x, y, z, w = q if q[3] >= 0 else (-q[0], -q[1], -q[2], -q[3])
    length = math.sqrt(x * x + y * y + z * z)
    if length < 1e-12:
        return np.zeros(3)
    return np.array((x, y, z)) * (2.0 * math.atan2(length, w) / length)


def from_rotation_vector(vector: Vector) -> Quaternion:
    """The unit quaternion xyzw that turns by a vector of axis times angle in radians."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return (0.0, 0.0, 0.0, 1.0)
    x, y, z = vector * (math.sin(angle / 2) / angle)
    return (float(x), float(y), float(z), math.cos(angle / 2))


def rotate(q: Quaternion, vector: Vector) -> Vector:
    """A vector turned by a unit quaternion xyzw."""
    axis, w = np.array(q[:3]), q[3]
    across = 2.0 * np.cross(axis, vector)
    return np.asarray(vector + w * across + np.cross(axis, across), np.float64)


def _slope(seconds: Vector, values: Vector) -> Vector:
    """The slope of the lines through (n, 3) ``values`` over (n,) ``seconds``, reduced where they scatter."""
    t = seconds - seconds.mean()
    spread = float(t @ t)
    centred = values - values.mean(axis=0)
    slope: Vector = t @ centred / spread
    residual = centred - np.outer(t, slope)
    scatter = float((residual**2).sum()) / max(len(t) - 2, 1)
    explained = float(slope @ slope) * float(t[-1] - t[0]) ** 2
    if explained <= 0.0:
        return np.zeros(3)
    return slope * (explained / (explained + SCATTER_WEIGHT * scatter))


class PosePredictor:
    """Remembers the latest poses of one device and says where they lead."""

    def __init__(self) -> None:
        self._poses: deque[tuple[float, PoseRecord]] = deque(maxlen=32)

    def observe(self, pose: PoseRecord) -> None:
        """A new pose came, newer than all before."""
        seconds = pose.client_time_us / 1e6
        if self._poses:
            before, last = self._poses[-1]
            elapsed = seconds - before
            if elapsed <= 0.0 or len(last.views) != len(pose.views) or _jumps(last.views[0], pose.views[0], elapsed):
                self._poses.clear()
        self._poses.append((seconds, pose))
        while self._poses[0][0] < seconds - WINDOW_SECONDS:
            self._poses.popleft()

    def predict(self, age_seconds: float, delay_seconds: float) -> tuple[View, ...] | None:
        """The newest pose's views as they will be; ``None`` where nothing can be said, and it should be drawn as it is.

        ``age_seconds``: how long ago it was taken; ``delay_seconds``: how long from now until the frame is seen.
        """
        if len(self._poses) < MIN_POSES or age_seconds >= STALE_SECONDS:
            return None
        trust = min(1.0, (STALE_SECONDS - age_seconds) / (STALE_SECONDS - FRESH_SECONDS))
        horizon = min(max(age_seconds + delay_seconds, 0.0), MAX_HORIZON_SECONDS) * trust
        newest = self._poses[-1][1].views
        base = newest[0]
        seconds = np.array([at for at, _ in self._poses])
        positions = np.array([pose.views[0].position for _, pose in self._poses])
        back = conjugate(base.orientation)
        turns = np.array([to_rotation_vector(multiply(pose.views[0].orientation, back)) for _, pose in self._poses])
        move = _slope(seconds, positions) * horizon
        turn = _slope(seconds, turns) * horizon
        angle = float(np.linalg.norm(turn))
        if angle > MAX_TURN_RADIANS:
            turn *= MAX_TURN_RADIANS / angle
        if not move.any() and not turn.any():
            return None
        rotation = from_rotation_vector(turn)
        pivot = np.array(base.position)
        views = []
        for view in newest:
            x, y, z = pivot + move + rotate(rotation, np.array(view.position) - pivot)
            qx, qy, qz, qw = multiply(rotation, view.orientation)
            length = math.sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
            orientation = (qx / length, qy / length, qz / length, qw / length)
            views.append(replace(view, position=(float(x), float(y), float(z)), orientation=orientation))
        return tuple(views)


def _jumps(a: View, b: View, elapsed_seconds: float) -> bool:
    distance = math.dist(a.position, b.position)
    turn = to_rotation_vector(multiply(b.orientation, conjugate(a.orientation)))
    return distance > MAX_SPEED * elapsed_seconds or float(np.linalg.norm(turn)) > MAX_TURN_SPEED * elapsed_seconds
