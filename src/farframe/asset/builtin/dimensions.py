"""The engine's leading dimensions and how it moves: an inline four with two overhead camshafts and a turbocharger.

Millimetres and degrees. The crankshaft lies on the x axis with its pulley toward +X; +Y is up; the exhaust side is
+Z and the intake side -Z. A museum's cutaway opens cylinders 1 and 2 on the exhaust side and the front of the valve
cover.
"""

from __future__ import annotations

import numpy as np

from farframe.asset.builtin.curves import Pulley, belt_run, circle
from farframe.asset.builtin.mesh import Array

CYLINDERS = (144.0, 48.0, -48.0, -144.0)
"""The cylinders' x, number 1 first."""
JOURNALS = (192.0, 96.0, 0.0, -96.0, -192.0)
"""The main bearings' x."""
BORE_RADIUS = 43.0
CRANK_RADIUS = 43.0
ROD_LENGTH = 146.0
PISTON_CROWN = 31.0
"""From the piston pin to the crown."""

DECK = 222.0
"""Top of the block."""
SKIRT = 60.0
"""Top of the crankcase."""
HEAD_BOTTOM, HEAD_TOP = 224.0, 322.0
BLOCK_END = 200.0
"""Half the block's length."""
COVER_CUT = 30.0
"""The valve cover is cut away in front of this x."""

CRANK_ANGLE = 38.0
"""Degrees after top dead centre of cylinder 1."""
CRANK_THROWS = (0.0, 180.0, 180.0, 0.0)
FIRING_OFFSETS = (0.0, 270.0, 90.0, 180.0)
"""Camshaft degrees by which each cylinder's cycle runs ahead of cylinder 1's (firing order 1-3-4-2)."""

VALVE_TILT = 16.5
"""Angle between valves and cylinders."""
VALVE_SPREAD = 19.0
"""The valve heads' distance in z from the cylinders' axes."""
VALVE_PITCH = 19.5
"""Half the distance along x between a cylinder's two equal valves."""
VALVE_SEAT_Y = 223.5
BUCKET_TOP = 84.0
"""From the valve's face to the top of its bucket when shut."""
LOBE_BASE, LOBE_NOSE, LOBE_OFFSET = 16.0, 7.0, 18.0
"""A lobe is the hull of the base circle and a nose circle; offset is between their centres."""

CAM_Y = VALVE_SEAT_Y + (BUCKET_TOP + LOBE_BASE) * float(np.cos(np.radians(VALVE_TILT)))
CAM_Z = VALVE_SPREAD + (BUCKET_TOP + LOBE_BASE) * float(np.sin(np.radians(VALVE_TILT)))
"""The camshafts' axes lie at (CAM_Y, +-CAM_Z)."""


def lobe_outline(segments: int = 40) -> Array:
    """The cam lobe, counter-clockwise, its nose toward the first axis."""
    run = belt_run([Pulley((0.0, 0.0), LOBE_BASE), Pulley((LOBE_OFFSET, 0.0), LOBE_NOSE)])
    return run.sampled(segments)[0]


def valve_lift(lobe_angle: float) -> float:
    """How far a flat follower is pushed by a lobe whose nose points ``lobe_angle`` degrees away from it."""
    outline = lobe_outline(240)
    toward = np.array([np.cos(np.radians(lobe_angle)), -np.sin(np.radians(lobe_angle))])
    return max(0.0, float((outline @ toward).max()) - LOBE_BASE)


def piston_pin(cylinder: int) -> tuple[float, float, float]:
    """Height of a cylinder's piston pin, then y and z of its crank pin, at :data:`CRANK_ANGLE`."""
    angle = np.radians(CRANK_ANGLE + CRANK_THROWS[cylinder])
    y, z = CRANK_RADIUS * float(np.cos(angle)), CRANK_RADIUS * float(np.sin(angle))
    return y + float(np.sqrt(ROD_LENGTH**2 - z**2)), y, z


def hull_of_circles(first: tuple[float, float], r1: float, second: tuple[float, float], r2: float) -> Array:
    """The outline around two circles, as points about 6 degrees apart."""
    return belt_run([Pulley(first, r1), Pulley(second, r2)], step=9.0).points


def bolt_circle(radius: float, count: int, start: float = 0.0) -> Array:
    """Centres (count, 2) of holes or bolts on a circle."""
    return circle(radius, count, start=start)
