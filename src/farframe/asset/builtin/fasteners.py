"""Bolts, screws, nuts, studs, clamps: small parts that an engine has by the hundred.

All stand on the plane y = 0, their heads toward +Y, their shanks below.
"""

from __future__ import annotations

from farframe.asset.builtin.curves import circle, gear_outline
from farframe.asset.builtin.mesh import Mesh, join
from farframe.asset.builtin.primitives import extrude, lathe, ring, rounded_box, thread_profile


def flange_bolt(size: float, shank: float = 0.0) -> Mesh:
    """A hexagon bolt with a flange; ``size`` is the nominal diameter (8 for M8), ``shank`` what shows below."""
    across_corners = size * 0.92
    flange = lathe(
        [(0, 0), (size * 1.12, 0), (size * 1.12, size * 0.14), (size * 0.8, size * 0.32), (0, size * 0.32)], 16
    )
    head = extrude(circle(across_corners, 6), size * 0.26, size * 0.92, bevel=size * 0.09)
    crown = lathe([(0, size * 0.8), (size * 0.62, size * 0.8), (size * 0.5, size * 1.0), (0, size * 1.0)], 8)
    bodies = [flange, head, crown]
    if shank:
        bodies.append(lathe([(0, -shank), (size * 0.5, -shank), (size * 0.5, 0.2), (0, 0.2)], 10))
    return join(bodies)


def washer_bolt(size: float) -> Mesh:
    """A plain hexagon bolt on a washer, its head chamfered."""
    washer = lathe([(0, 0), (size * 1.08, 0), (size * 1.08, size * 0.16), (size, size * 0.2), (0, size * 0.2)], 20)
    head = extrude(circle(size * 0.9, 6), size * 0.2, size * 0.88, bevel=size * 0.1)
    return join([washer, head])


def socket_screw(size: float) -> Mesh:
    """A hexagon socket head cap screw."""
    wall = extrude(circle(size * 0.78, 16), 0, size, holes=[circle(size * 0.44, 6)], bevel=size * 0.08)
    bottom = lathe([(0, 0.05), (size * 0.6, 0.05), (size * 0.6, size * 0.45), (0, size * 0.45)], 6)
    return join([wall, bottom])


def stud_nut(size: float, stick_out: float) -> Mesh:
    """A nut on a washer with the end of its threaded stud standing out."""
    washer = lathe([(0, 0), (size * 1.05, 0), (size * 1.05, size * 0.15), (size, size * 0.18), (0, size * 0.18)], 18)
    nut = extrude(circle(size * 0.92, 6), size * 0.18, size * 0.98, bevel=size * 0.1)
    stud = lathe(
        [
            (0, size * 0.8),
            *thread_profile(size * 0.5, size * 0.9, size + stick_out, size * 0.28, size * 0.07),
            (size * 0.36, size + stick_out + size * 0.12),
            (0, size + stick_out + size * 0.12),
        ],
        10,
    )
    return join([washer, nut, stud])


def hose_clamp(radius: float, width: float = 9.0) -> Mesh:
    """A worm-drive clamp about the y axis: band, housing and screw."""
    band = ring(radius + 0.9, radius - 0.4, -width / 2, width / 2, 32, "y", bevel=0.3)
    housing = rounded_box((13.0, width + 2.5, 7.0), 1.2, 1).moved(z=radius + 3.2)
    screw = lathe([(0, -11), (2.6, -11), (2.6, 9), (0, 9)], 12, "x", bevel=0.6).moved(z=radius + 4.6)
    head = extrude(circle(4.2, 6), 9, 13, "x", bevel=0.5).moved(z=radius + 4.6)
    return join([band, housing, screw, head])


def v_band(radius: float) -> Mesh:
    """A V-band clamp about the y axis with its T-bolt."""
    profile = [(radius - 2, -5), (radius + 3.5, -3.4), (radius + 3.5, 3.4), (radius - 2, 5)]
    band = lathe(profile, 36, closed=True, bevel=0.7)
    lugs = [rounded_box((3.0, 8.0, 10.0), 1.0, 1).moved(x=x, z=radius + 6) for x in (-6.0, 6.0)]
    bolt = lathe([(0, -13), (2.4, -13), (2.4, 10), (0, 10)], 10, "x", bevel=0.4).moved(z=radius + 7)
    nut = extrude(circle(4.4, 6), 7.4, 12, "x", bevel=0.5).moved(z=radius + 7)
    return join([band, *lugs, bolt, nut])


def banjo(size: float) -> Mesh:
    """A banjo fitting: two sealing washers, the ring and its bolt."""
    rings = [
        ring(size * 1.15, size * 0.5, 0, size * 0.2, 20, "y", bevel=0.2),
        ring(size * 1.25, size * 0.5, size * 0.2, size * 1.3, 24, "y", bevel=0.8),
        ring(size * 1.15, size * 0.5, size * 1.3, size * 1.5, 20, "y", bevel=0.2),
    ]
    head = extrude(circle(size * 1.0, 6), size * 1.5, size * 2.2, bevel=size * 0.1)
    return join([*rings, head])


def knurled_cap(radius: float, height: float, teeth: int = 32) -> Mesh:
    """A screw cap with grip ribs and a domed top."""
    grip = extrude(gear_outline(teeth, radius * 0.95, radius), 0, height, bevel=1.2)
    dome = lathe(
        [
            (0, height - 0.5),
            (radius * 0.84, height - 0.5),
            (radius * 0.78, height + 2),
            (radius * 0.4, height + 3.4),
            (0, height + 3.8),
        ],
        32,
    )
    handle = rounded_box((radius * 1.3, 8.0, 7.0), 2.5, 2).moved(y=height + 5.0)
    return join([grip, dome, handle])
