"""Exhaust manifold, turbocharger and downpipe."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from farframe.asset.builtin import dimensions as dim
from farframe.asset.builtin.assembly import Assembly
from farframe.asset.builtin.curves import circle, fillet, slot_outline, spline
from farframe.asset.builtin.fasteners import banjo, flange_bolt, hose_clamp, socket_screw, stud_nut, v_band
from farframe.asset.builtin.mesh import Array, Mesh, facing, join, translation
from farframe.asset.builtin.palette import temper
from farframe.asset.builtin.primitives import (
    blades,
    extrude,
    lathe,
    loft,
    ring,
    rod,
    tube,
    web,
)

_PORT = np.array([0.0, 272.0, 84.0])
_PORT_OUT = np.array([0.0, 0.22, 0.975]) / np.hypot(0.22, 0.975)
"""The direction in which the exhaust leaves the head."""
_PIPE = 16.5
_COLLECTOR = np.array([-150.0, 205.0, 128.0])
_TURBO = np.array([-150.0, 142.0, 176.0])
"""Centre of the turbine's scroll; the shaft lies along x, the compressor in front of it."""


def build_exhaust(engine: Assembly, root: int) -> None:
    """Add the exhaust side: manifold, turbocharger, downpipe."""
    group = engine.group("Exhaust", root)
    _manifold(engine, engine.group("Manifold", group))
    _turbocharger(engine, engine.group("Turbocharger", group))
    _downpipe(engine, engine.group("Downpipe", group))


def _runner(points: list[Array], radius: float) -> Array:
    return fillet(np.array(points), radius, closed=False, step=9.0)


def _divided(path: Array, longest: float) -> Array:
    """The path with its long straight pieces divided, so that vertex colours can run along them."""
    pieces = []
    for a, b in pairwise(path):
        count = max(1, int(np.ceil(np.linalg.norm(b - a) / longest)))
        pieces.append(a + (b - a) * (np.arange(count) / count)[:, None])
    return np.concatenate([*pieces, path[-1:]])


def _tinted_pipe(path: Array, radius: Array | float, hot: float, cool: float, segments: int = 20) -> Mesh:
    """A pipe whose temper colours run from ``hot`` at its start to ``cool`` at its end, banded by the welds."""
    line = _divided(path, 22.0)
    pipe = rod(line, radius, segments)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    nearest = np.repeat(along / along[-1], segments)
    part = np.concatenate([nearest, [0.0, 1.0]])  # the two lids' centres come last
    heat = hot + (cool - hot) * part + 0.10 * np.sin(part * 19.0)
    pipe.colors[:, :3] = temper(np.clip(heat, 0.0, 1.0))
    return pipe


def _bead(center: Array, direction: Array, radius: float) -> Mesh:
    """A weld bead around a pipe."""
    bead = lathe([(radius - 1, -2.4), (radius + 1.5, 0.0), (radius - 1, 2.4)], 24, closed=True)
    return bead.transformed(facing(center, direction))


def _manifold(engine: Assembly, group: int) -> None:
    outline = slot_outline(46.0, 15.0, 10)
    flange = extrude(outline, -3.0, 6.0, "z", holes=[], bevel=1.2)
    mouth = lathe([(0, 0), (21, 0), (21, 6.5), (20, 7.5), (0, 7.5)], 32, "z")
    port = engine.piece((join([flange, extrude(circle(24.0, 36), -3.0, 6.0, "z", bevel=1.2), mouth]), "Machined steel"))
    boss = engine.piece((extrude(slot_outline(48.0, 19.0, 10), -22.0, -3.0, "z", bevel=2.0), "Cast aluminium"))
    nut = engine.piece((stud_nut(7.5, 6.0), "Copper"))
    tilt = np.eye(4)
    tilt[:3, 1], tilt[:3, 2] = (0.0, _PORT_OUT[2], -_PORT_OUT[1]), _PORT_OUT
    # Which of the collector's four mouths (x, z) each cylinder takes, and how high and far out its pipe runs there.
    routes = (
        (292.0, -132.0, 146.0),
        (292.0, -132.0, 110.0),
        (327.0, -168.0, 146.0),
        (292.0, -168.0, 110.0),
    )
    pipes, beads = [], []
    for cylinder, x in enumerate(dim.CYLINDERS):
        matrix = tilt.copy()
        matrix[:3, 3] = _PORT + (x, 0.0, 0.0) + _PORT_OUT * 4.0
        unit = engine.group(f"Port {cylinder + 1}", group, matrix)
        engine.place("Flange", port, unit)
        engine.place("Port boss", boss, unit)
        for side, dx in (("front", 23.0), ("rear", -23.0)):
            engine.place(f"Nut {side}", nut, unit, facing((dx, 0, 6.0), (0, 0, 1)))
        start = matrix[:3, 3] + _PORT_OUT * 4.0
        height, end_x, end_z = routes[cylinder]
        out = np.array([x, height - 4.0, end_z if cylinder != 2 else 134.0])
        corner = np.array([end_x, height, end_z])
        foot = np.array([end_x, _COLLECTOR[1] + 22.0, end_z])
        neck = start + _PORT_OUT * 10.0
        path = (
            [start, neck, out, corner, foot] if cylinder != 3 else [start, neck, np.array([end_x, height, end_z]), foot]
        )
        bend = 30.0 if cylinder != 3 else 20.0
        line = _runner(path, bend)
        pipes.append(_tinted_pipe(line, _PIPE, 0.98 - 0.06 * cylinder, 0.52))
        beads.append(_bead(start + _PORT_OUT * 1.5, _PORT_OUT, _PIPE))
        beads.append(_bead(foot + np.array([0, 2.0, 0]), np.array([0, 1.0, 0]), _PIPE))
    engine.add("Runners", group, (join(pipes), "Heated steel"))
    weld = join(beads).tinted(lambda p: temper(np.full(len(p), 0.6)))
    engine.add("Welds", group, (weld, "Heated steel"))

    # Four mouths draw together to one: a rounded square that becomes a circle.
    rings = []
    for y, half, roundness in ((232.0, 35.5, 17.0), (222.0, 35.0, 17.5), (206.0, 29.0, 22.0), (192.0, 24.0, 23.9)):
        square = _square(half, roundness)
        rings.append(np.stack([_COLLECTOR[0] + square[:, 1], np.full(len(square), y), _COLLECTOR[2] + square[:, 0]], 1))
    rings.append(rings[-1] - (0.0, 8.0, 0.0))
    merge = loft(np.array(rings)).tinted(lambda p: temper(np.clip((p[:, 1] - 150.0) / 150.0, 0, 1)))
    engine.add("Collector", group, (merge, "Heated steel"))
    plate = extrude(_square(36.0, 12.0), 0, 9.0, "y", bevel=1.4)
    for name, y in (("Collector flange", 186.5), ("Turbine flange", 176.5)):
        engine.add(name, group, (plate.moved(_COLLECTOR[0], y, _COLLECTOR[2]), "Turbine iron"))
    flange_nut = engine.piece((stud_nut(7.5, 4.0), "Copper"))
    for number, (dx, dz) in enumerate([(28, 28), (28, -28), (-28, 28), (-28, -28)], start=1):
        engine.place(
            f"Flange nut {number}", flange_nut, group, translation(_COLLECTOR[0] + dx, 195.5, _COLLECTOR[2] + dz)
        )


def _square(half: float, radius: float) -> Array:
    """A rounded square with the same number of points for any radius, counter-clockwise."""
    corners = [(half - radius, half - radius, 0), (radius - half, half - radius, 90)]
    corners += [(radius - half, radius - half, 180), (half - radius, radius - half, 270)]
    points = []
    for u, v, start in corners:
        angle = np.radians(np.linspace(start, start + 90, 8))
        points.append(np.stack([u + radius * np.cos(angle), v + radius * np.sin(angle)], axis=1))
    return np.concatenate(points)


def _scroll(
    around: tuple[float, float],
    start: float,
    sweep_degrees: float,
    mouth: float,
    tongue: float,
    throat: float,
    inlet: float,
    steps: int = 40,
    segments: int = 24,
) -> Mesh:
    """A spiral housing about the x axis, (y, z) plane, with a straight inlet tangent to its widest place.

    The section's radius shrinks from ``mouth`` to ``tongue`` mm while the angle runs from ``start`` by
    ``sweep_degrees``; its inner edge stays ``throat`` mm from the axis. ``inlet`` mm of straight pipe lead in.
    """
    t = np.linspace(0.0, 1.0, steps + 1)
    angle = np.radians(start + sweep_degrees * t)
    radius = mouth + (tongue - mouth) * t**0.9
    reach = throat + radius
    path = np.stack([np.zeros_like(t), around[0] + reach * np.cos(angle), around[1] + reach * np.sin(angle)], axis=1)
    sign = np.sign(sweep_degrees)
    direction = np.array([0.0, -np.sin(angle[0]), np.cos(angle[0])]) * sign
    lead = path[0] - direction * inlet * np.linspace(1.0, 0.12, 4)[:, None]
    return rod(np.concatenate([lead, path]), np.concatenate([np.full(4, mouth), radius]), segments)


def _wheel(hub: float, tip: float, depth: float, count: int, eye: float) -> Mesh:
    """A compressor wheel along +z: a flared hub with swept blades."""
    s = np.linspace(0.0, 1.0, 7)
    hub_radius = hub + (tip - hub) * (1 - s) ** 2.2
    profile = [(0.0, 0.0), *zip(hub_radius.tolist(), (s * depth).tolist(), strict=True), (0.0, depth)]
    body = lathe(profile, 32, "z")
    sections = []
    for k in np.linspace(0.0, 1.0, 4):
        radius = hub_radius * 0.94 + (np.where(s > 0.25, eye, eye + (tip - eye) * (0.25 - s) / 0.25) - hub_radius) * k
        radius = np.maximum(radius, hub_radius * 0.94 + 0.02 * k)
        twist = np.radians(-46.0 * s**1.4 - 14.0 * k * s)
        thick = (0.9 - 0.45 * k) / np.maximum(radius, 1.0)
        sides = []
        for half in (thick, -thick):
            a = twist + half
            sides.append(np.stack([radius * np.cos(a), radius * np.sin(a), s * depth * (1 - 0.04 * k)], axis=1))
        sections.append((sides[0], sides[1]))
    return join([body, blades(sections, count, "z")])


def _turbocharger(engine: Assembly, parent: int) -> None:
    group = engine.group("Turbine", parent)
    x, y, z = _TURBO
    # The inlet comes down at z = 128, which is the scroll's inner side: the flow turns under the shaft to the outside.
    scroll = _scroll((y, z), 270.0, -330.0, 22.0, 9.0, 26.0, 36.0)
    # Angles run from +y toward +z; 270 degrees is -z, and going down means the angle shrinks.
    scroll = scroll.moved(x)
    hub = lathe([(0, -26), (40, -26), (44, -18), (44, 14), (38, 20), (0, 20)], 48, "x", bevel=3.0).moved(x, y, z)
    engine.add("Housing", group, (join([scroll, hub]), "Turbine iron"))
    outlet = tube(np.array([(x - 22, y, z), (x - 30, y, z), (x - 44, y, z), (x - 46, y, z)]), 30.0, 3.0, 36)
    engine.add("Outlet", group, (outlet, "Turbine iron"))
    shield = ring(47.0, 40.0, 0, 3.0, 52, "x", 0.8).moved(x + 21, y, z)
    engine.add("Back plate", group, (shield, "Machined steel"))
    bolt = engine.piece((flange_bolt(6.0), "Copper"))
    for number, (dy, dz) in enumerate(dim.bolt_circle(43.0, 8, 11.0), start=1):
        engine.place(f"Housing bolt {number}", bolt, group, facing((x + 24, y + dy, z + dz), (1, 0, 0)))

    center = engine.group("Centre housing", parent)
    core = [(0, 20), (34, 20), (34, 26), (24, 30), (21, 38), (21, 52), (26, 58), (40, 61), (40, 66), (0, 66)]
    ports = [lathe([(0, 0), (11, 0), (11, 30), (0, 30)], 24, bevel=1.5).moved(42)]
    ports.append(lathe([(0, 0), (12, 0), (12, 30), (0, 30)], 24, bevel=1.5).transformed(facing((42, 0, 0), (0, -1, 0))))
    engine.add("Housing", center, (join([lathe(core, 44, "x", bevel=1.6), *ports]).moved(x, y, z), "Cast iron"))
    engine.add("Oil feed banjo", center, (banjo(8.0).moved(x + 42, y + 30, z), "Brass"))
    feed = rod(
        spline(
            [
                (x + 42, y + 36, z - 10),
                (x + 46, y + 40, z - 30),
                (x + 60, y + 30, z - 62),
                (x + 62, y - 4, z - 94),
                (x + 62, y - 20, z - 112),
            ],
            7,
        ),
        3.4,
        10,
    )
    engine.add("Oil feed pipe", center, (feed, "Copper"))
    drain = tube(
        fillet([(x + 42, y - 28, z), (x + 42, y - 80, z), (x + 42, y - 122, z - 74)], 24, closed=False, step=15),
        9.5,
        2.0,
        18,
    )
    engine.add("Oil drain", center, (drain, "Hose"))
    clamp = engine.piece((hose_clamp(9.5), "Machined steel"))
    engine.place("Drain clamp top", clamp, center, facing((x + 42, y - 36, z), (0, -1, 0), 70.0))
    engine.place("Drain clamp bottom", clamp, center, facing((x + 42, y - 112, z - 56), (0, -0.53, -0.85), 20.0))

    compressor = engine.group("Compressor", parent)
    cx = x + 88.0
    spiral = _scroll((0.0, 0.0), 90.0, -330.0, 23.0, 10.0, 30.0, 46.0, 48).moved(cx, y, z)
    body = lathe(
        [
            (36.5, -18),
            (52, -14),
            (52, 6),
            (44, 14),
            (39, 22),
            (39, 46),
            (43, 48),
            (43, 53),
            (36, 53),
            (33.5, 44),
            (29.5, 30),
            (29.5, 16),
            (36.5, 10),
        ],
        56,
        "x",
        closed=True,
    ).moved(cx, y, z)
    engine.add("Housing", compressor, (join([spiral, body]), "Satin aluminium"))
    plate = lathe([(0, -24), (50, -24), (54, -21), (54, -16), (0, -16)], 52, "x", bevel=0.8).moved(cx, y, z)
    engine.add("Back plate", compressor, (plate, "Machined aluminium"))
    wheel = _wheel(7.0, 33.0, 32.0, 11, 28.0).turned("y", 90.0).moved(cx + 6, y, z)
    engine.add("Compressor wheel", compressor, (wheel, "Polished aluminium"), crease=30.0)
    tip = join(
        [
            extrude(circle(6.0, 6), 37.0, 43.0, "x", bevel=0.8),
            lathe([(0, 24), (3, 24), (3, 46), (0, 46)], 12, "x", bevel=0.5),
        ]
    ).moved(cx, y, z)
    engine.add("Shaft nut", compressor, (tip, "Yellow zinc"))
    screw = engine.piece((socket_screw(5.0), "Dark steel"))
    for number, (dy, dz) in enumerate(dim.bolt_circle(50.0, 6, 20.0), start=1):
        engine.place(f"Plate screw {number}", screw, compressor, facing((cx - 24, y + dy, z + dz), (-1, 0, 0)))
    engine.add(
        "Clamp ring", compressor, (v_band(51.0).transformed(facing((cx - 19, y, z), (1, 0, 0), 150)), "Machined steel")
    )
    actuator = engine.group("Wastegate actuator", parent)
    can = [
        (0, 0),
        (25, 0),
        (27, 3),
        (27, 10),
        (29, 11),
        (29, 14),
        (27, 15),
        (27, 22),
        (22, 28),
        (8, 30),
        (8, 36),
        (0, 36),
    ]
    high, far = y + 84.0, z + 26.0
    at = facing((x + 70, high, far), (1.0, 0.0, 0.0))
    engine.add("Canister", actuator, (lathe(can, 36, bevel=1.0).transformed(at), "Yellow zinc"))
    arm = join(
        [
            rod(np.array([(x + 72, high, far), (x - 16, high, far)]), 3.0, 12),
            extrude(circle(5.5, 6), x + 30, x + 42, "x", bevel=0.8).moved(0, high, far),
            extrude(circle(5.5, 6), x + 24, x + 28, "x", bevel=0.8).moved(0, high, far),
        ]
    )
    engine.add("Rod", actuator, (arm, "Machined steel"))
    lever = extrude(dim.hull_of_circles((84.0, 26.0), 7.0, (36.0, 30.0), 10.0), -19.0, -14.0, "x", bevel=1.0)
    pivot = lathe([(0, -24), (7, -24), (7, -8), (0, -8)], 18, "x", bevel=0.8).moved(0, 36, 30)
    engine.add("Lever", actuator, (join([lever, pivot]).moved(x, y, z), "Turbine iron"))
    bracket = web([(52, 4), (108, 8), (108, 44), (96, 46), (44, 30)], 4.0, "x", 68.0, bevel=1.0).moved(x, y, z)
    engine.add("Bracket", actuator, (bracket, "Black enamel"))
    nut = engine.piece((socket_screw(5.0), "Dark steel"))
    for number, (dy, dz) in enumerate(((103.0, 14.0), (103.0, 38.0)), start=1):
        engine.place(f"Bracket screw {number}", nut, actuator, facing((x + 70, y + dy, z + dz), (1, 0, 0)))
    line = rod(
        spline(
            [
                (x + 105, high, far),
                (x + 122, high - 2, far),
                (x + 130, high - 22, far - 4),
                (x + 122, high - 38, far - 10),
                (x + 112, high - 42, far - 14),
            ],
            6,
        ),
        3.6,
        10,
    )
    engine.add("Pressure line", actuator, (line, "Hose"))


def _downpipe(engine: Assembly, group: int) -> None:
    x, y, z = _TURBO
    engine.add("V-band", group, (v_band(33.0).transformed(facing((x - 46, y, z), (-1, 0, 0), 40)), "Machined steel"))
    path = fillet(
        [(x - 42, y, z), (x - 80, y, z), (x - 98, y - 60, z - 8), (x - 104, y - 205, z - 14)], 52, closed=False, step=9
    )
    line = _divided(path, 12.0)
    heat = np.linspace(0.95, 0.15, len(line))
    pipe = tube(line, 30.0, 2.5, 28, depth=3)
    tint = temper(np.clip(heat + 0.05 * np.sin(np.arange(len(line)) * 0.9), 0, 1))
    rows = np.concatenate([tint[:3][::-1] * 0.3, tint, tint[-3:][::-1] * 0.3])
    pipe.colors[:, :3] = np.concatenate([np.repeat(rows, 28, axis=0), np.full((2, 3), 0.02)])
    engine.add("Pipe", group, (pipe, "Heated steel"))
    end = line[-1]
    down = line[-1] - line[-2]
    flange = ring(46.0, 30.5, -10.0, 0.0, 44, "y", 1.2).transformed(facing(end, -down))
    engine.add("Flange", group, (flange, "Machined steel"))
    nut = engine.piece((stud_nut(8.0, 4.0), "Copper"))
    seat = facing(end, -down)
    for number, (u, v) in enumerate(dim.bolt_circle(38.5, 3, 30.0), start=1):
        engine.place(f"Flange nut {number}", nut, group, seat @ translation(u, 0, v))
    sensor = join(
        [
            extrude(circle(11.0, 6), 0, 9, bevel=1.0),
            lathe([(0, 8), (7.5, 8), (7.5, 30), (5.5, 34), (0, 34)], 20, bevel=0.8),
        ]
    ).transformed(facing((x - 98, y - 70, z + 18), (-0.45, 0.15, 0.88)))
    engine.add("Oxygen sensor", group, (sensor, "Yellow zinc"))
    cable = rod(
        spline(
            [
                (x - 112, y - 65, z + 46),
                (x - 120, y - 62, z + 60),
                (x - 134, y - 40, z + 54),
                (x - 136, y - 6, z + 14),
                (x - 118, y + 34, z - 40),
                (x - 84, y + 62, z - 92),
                (x - 62, y + 92, z - 106),
            ],
            6,
        ),
        2.6,
        8,
    )
    engine.add("Sensor cable", group, (cable, "Hose"))
