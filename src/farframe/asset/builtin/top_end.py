"""Cylinder head, valves, camshafts, valve cover and ignition coils."""

from __future__ import annotations

import numpy as np

from farframe.asset.builtin import dimensions as dim
from farframe.asset.builtin.assembly import Assembly, Piece
from farframe.asset.builtin.curves import arc, circle, fillet, rounded_rectangle, spline
from farframe.asset.builtin.fasteners import flange_bolt, knurled_cap, socket_screw, washer_bolt
from farframe.asset.builtin.lettering import text
from farframe.asset.builtin.mesh import Array, facing, join, rotation, translation
from farframe.asset.builtin.primitives import capsule, extrude, inset, lathe, ring, rod, rounded_box, spring, web

SIDES = (("exhaust", 1.0), ("intake", -1.0))
_COVER = [(92.0, 322.6), (92.0, 330.0), (80.0, 331.5), (77.0, 349.0), (54.0, 386.0), (28.0, 386.0), (19.0, 369.0)]
"""The valve cover's outside from its rail to the valley, (z, y)."""


def build_top_end(engine: Assembly, root: int) -> None:
    """Add everything from the cylinder head up."""
    group = engine.group("Top end", root)
    _head(engine, engine.group("Cylinder head", group))
    _valves(engine, engine.group("Valvetrain", group))
    _cover(engine, engine.group("Valve cover", group))
    _ignition(engine, engine.group("Ignition", group))


def _head_side(sign: float) -> list[tuple[float, float]]:
    return [
        (dim.HEAD_BOTTOM, sign * 70.0),
        (246.0, sign * 76.0),
        (284.0, sign * 84.0),
        (306.0, sign * 90.0),
        (dim.HEAD_TOP, sign * 90.0),
    ]


def _head(engine: Assembly, group: int) -> None:
    left, right = _head_side(-1.0), _head_side(1.0)
    cavity = [(dim.HEAD_TOP, 76.0), (268.0, 68.0), (268.0, -68.0), (dim.HEAD_TOP, -76.0)]
    tray = fillet([*right, *cavity, *left[::-1]], [3, 12, 12, 3, 0, 0, 10, 10, 0, 0, 3, 12, 12, 3], closed=True)
    body = [extrude(tray, -dim.BLOCK_END, dim.BLOCK_END, "x", bevel=1.8, segments=2)]
    wall = fillet([*right, *left[::-1]], [3, 12, 12, 3, 0, 0, 3, 12, 12, 3], closed=True)
    for low, high in ((-dim.BLOCK_END - 4.0, -188.0), (188.0, dim.BLOCK_END + 4.0)):
        body.append(extrude(wall, low, high, "x", bevel=1.6))
    engine.add("Casting", group, (join(body), "Cast aluminium"))

    ribs = []
    for sign in (1.0, -1.0):
        for x in np.arange(-192.0, 193.0, 48.0):
            shape = [(dim.HEAD_BOTTOM + 6, sign * 66), (dim.HEAD_BOTTOM + 6, sign * 76), (300, sign * 95)]
            ribs.append(web([*shape, (312, sign * 95), (312, sign * 80)], 6.0, "x", float(x), bevel=1.6))
        ribs.append(capsule((-196, 231, sign * 73), (196, 231, sign * 73), 4.0, 10))
    engine.add("Ribs", group, (join(ribs), "Cast aluminium"))

    bolt = engine.piece((washer_bolt(10.0), "Dark steel"))
    count = 0
    for x in dim.JOURNALS[:-1]:
        for sign in (1.0, -1.0):
            count += 1
            engine.place(f"Head bolt {count}", bolt, group, translation(x - 6.0 * (x > 190), 268.0, sign * 20.0))
    collar = ring(11, 6, 0, 1.5, 24, "y", 0.3)
    plug = engine.piece((join([collar, extrude(circle(9.0, 6), 1.5, 6.5, bevel=0.8)]), "Brass"))
    for number, x in enumerate((126.0, 26.0, -74.0, -174.0), start=1):
        engine.place(f"Gallery plug {number}", plug, group, facing((x, 246, -76.5), (0, -0.2, -1)))


def _lobe_angle(cylinder: int, sign: float) -> float:
    """Degrees by which the lobe's nose is past its follower. Exhaust lobes open some 110 crank degrees before top
    dead centre and intake lobes as long after; a camshaft turns at half the crank's speed."""
    cycle = dim.CRANK_ANGLE / 2 + dim.FIRING_OFFSETS[cylinder]
    peak = 180.0 - 52.0 if sign > 0 else 180.0 + 54.0
    return (cycle - peak + 180.0) % 360.0 - 180.0


def _valves(engine: Assembly, group: int) -> None:
    spring_foot, top = 44.0, dim.BUCKET_TOP
    relaxed = spring(11.6, 1.9, top - 10.0 - spring_foot, 4.2, steps=12, segments=5)
    pressed = spring(11.6, 1.9, top - 18.0 - spring_foot, 4.2, steps=12, segments=5)
    seat = lathe([(0, -2.4), (16.5, -2.4), (16.5, -0.6), (15.9, 0), (0, 0)], 18)
    springs = engine.piece((join([relaxed, seat]), "Spring steel"))
    squeezed = engine.piece((join([pressed, seat]), "Spring steel"))
    retainer_profile = [(3.0, top - 12), (9, top - 12), (9, top - 9.5), (14, top - 9.5), (14, top - 7), (3.0, top - 7)]
    retainer = engine.piece((lathe(retainer_profile, 20, closed=True), "Yellow zinc"))
    tappet = engine.piece(
        (lathe([(0, top - 6.6), (14.6, top - 6.6), (14.6, top), (0, top)], 24, bevel=0.9), "Machined steel")
    )
    lobe = engine.piece((extrude(dim.lobe_outline(), -6.5, 6.5, "x", bevel=0.9), "Machined steel"))
    for side, sign in SIDES:
        head_radius = 15.0 if sign > 0 else 17.0
        profile = [(0.0, 0.0), (head_radius - 1, 0.0), (head_radius, 1.2), (head_radius - 1.6, 3.4), (7.0, 7.5)]
        profile += [(3.6, 15.0), (3.0, 22.0), (3.0, top - 6.5), (0.0, top - 6.5)]
        valve = engine.piece((lathe(profile, 18), "Machined steel" if sign < 0 else "Copper"))
        bank = engine.group(f"{side.capitalize()} valves", group)
        tilt = np.radians(dim.VALVE_TILT)
        up = np.array([0.0, np.cos(tilt), sign * np.sin(tilt)])
        for cylinder, x in enumerate(dim.CYLINDERS):
            lift = dim.valve_lift(_lobe_angle(cylinder, sign))
            for letter, offset in (("a", dim.VALVE_PITCH), ("b", -dim.VALVE_PITCH)):
                origin = np.array([x + offset, dim.VALVE_SEAT_Y, sign * dim.VALVE_SPREAD])
                unit = engine.group(f"Cylinder {cylinder + 1}{letter}", bank, facing(origin, up))
                down = translation(y=-lift)
                engine.place("Valve", valve, unit, down)
                engine.place("Spring", squeezed if lift > 4 else springs, unit, translation(y=spring_foot))
                engine.place("Retainer", retainer, unit, down)
                engine.place("Tappet", tappet, unit, down)
        _camshaft(engine, group, side, sign, lobe)


def _camshaft(engine: Assembly, group: int, side: str, sign: float, lobe: Piece) -> None:
    shaft_group = engine.group(f"{side.capitalize()} camshaft", group, translation(0, dim.CAM_Y, sign * dim.CAM_Z))
    profile: list[tuple[float, float]] = [(0.0, -194.0), (13.0, -194.0)]
    for x in sorted((*dim.CYLINDERS, 194.0)):
        profile += [(13.0, x + 8.0)] if x < -140 else [(10.5, x - 8.6), (13.0, x - 8.0), (13.0, x + 8.0)]
        if x < 190:
            profile += [(10.5, x + 8.6)]
    profile += [(11.0, 202.5), (11.0, 238.0), (0.0, 238.0)]
    engine.add("Shaft", shaft_group, (lathe(profile, 28, "x"), "Machined steel"))
    for cylinder, x in enumerate(dim.CYLINDERS):
        # A lobe's nose lies along +y of its own; toward the follower is the valve's axis, downward.
        angle = 180.0 + sign * dim.VALVE_TILT + _lobe_angle(cylinder, sign)
        for offset in (dim.VALVE_PITCH, -dim.VALVE_PITCH):
            number = 2 * cylinder + (1 if offset > 0 else 2)
            engine.place(f"Lobe {number}", lobe, shaft_group, translation(x + offset) @ rotation("x", angle))

    caps = engine.group(f"{side.capitalize()} camshaft bearings", group, translation(0, dim.CAM_Y, sign * dim.CAM_Z))
    bottom = 266.0 - dim.CAM_Y
    saddle_outline = np.concatenate([[(bottom, -21.0), (-0.3, -21.0)], arc((0, 0), 13.3, -90, -270, 14)])
    saddle_outline = np.concatenate([saddle_outline, [(-0.3, 21.0), (bottom, 21.0)]])
    arch = np.concatenate(
        [
            [(0.3, -21.0)],
            fillet(
                [(9.0, -21.0), (10.0, -17.0), (20.0, -8.0), (20.0, 8.0), (10.0, 17.0), (9.0, 21.0)],
                [1, 2, 6, 6, 2, 1],
                closed=False,
            ),
            [(0.3, 21.0)],
        ]
    )
    arch = np.concatenate([arch, arc((0, 0), 13.3, 90, -90, 14)])
    saddle = engine.piece((extrude(saddle_outline, -6.0, 6.0, "x", bevel=0.8), "Cast aluminium"))
    cap = engine.piece((extrude(arch, -6.2, 6.2, "x", bevel=1.0), "Machined aluminium"))
    screw = engine.piece((flange_bolt(5.6), "Yellow zinc"))
    for number, x in enumerate(dim.CYLINDERS, start=1):
        engine.place(f"Saddle {number}", saddle, caps, translation(x))
        engine.place(f"Cap {number}", cap, caps, translation(x))
        if x < dim.COVER_CUT - 40:
            continue  # under the closed part of the cover nobody can see them
        for end, z in (("inner", -17.2 * sign), ("outer", 17.2 * sign)):
            engine.place(f"Cap screw {number} {end}", screw, caps, translation(x, 9.2, z))
    housing = ring(22.0, 11.6, 188.0, 207.0, 36, "x", 1.6)
    engine.add("Front seal housing", caps, (housing, "Cast aluminium"))
    engine.add("Front seal", caps, (ring(16.5, 11.0, 206.0, 209.0, 32, "x", 0.6), "Rubber"))


def _cover_outline() -> Array:
    half = [(y, z) for z, y in _COVER]
    mirrored = [(y, -z) for y, z in half[::-1]]
    radii = [0.0, 0.0, 4.0, 14.0, 12.0, 10.0, 10.0]
    return fillet([*half, *mirrored], radii + radii[::-1], closed=False, step=12.0)


def _cover(engine: Assembly, group: int) -> None:
    outside = _cover_outline()
    inside = inset(outside, -4.5)
    inside[[0, -1], 0] = outside[[0, -1], 0]
    shell = np.concatenate([outside, inside[::-1]])
    back, front = -dim.BLOCK_END - 2.0, dim.COVER_CUT
    skin = extrude(shell, back + 2, front, "x", bevel=0.7, lid_tags=(0, 1))
    wall = extrude(outside, back, back + 7, "x", bevel=2.2, segments=2)
    engine.add("Shell", group, (join([skin.only(0), wall]), "Red enamel"), (skin.only(1), "Machined aluminium"))
    rail = extrude(
        rounded_rectangle(186.0, 2 * dim.BLOCK_END + 4, 10.0),
        dim.HEAD_TOP - 0.4,
        dim.HEAD_TOP + 1.6,
        "y",
        holes=[rounded_rectangle(152.0, 2 * dim.BLOCK_END - 26, 12.0)],
        bevel=0.3,
    )
    engine.add("Cover gasket", group, (rail, "Rubber"))

    low, high = np.array([77.0, 349.0]), np.array([54.0, 386.0])
    slope = (high - low) / np.linalg.norm(high - low)
    matrix = np.eye(4)
    matrix[:3, 1], matrix[:3, 2] = (0.0, slope[1], slope[0]), (0.0, -slope[0], slope[1])
    middle = (low + high) / 2
    matrix[:3, 3] = (-86.0, middle[1], middle[0])
    engine.add("Name", group, (text("FARFRAME", 19.0, 2.6, matrix, gap=0.26), "Polished aluminium"))
    frame = extrude(
        rounded_rectangle(206.0, 29.0, 7.0), -0.5, 1.8, "z", holes=[rounded_rectangle(201.0, 24.0, 4.8)], bevel=0.6
    )
    engine.add("Name frame", group, (frame.transformed(matrix), "Polished aluminium"))

    fins = []
    for k in np.linspace(0.14, 0.86, 6):
        z, y = low + (high - low) * k
        fins.append(capsule((back + 22, y, -z), (front - 14, y, -z), 2.4, 10))
    for sign in (1.0, -1.0):
        for z in (34.0, 41.0, 48.0):
            end = front - 14
            start = back + 22 if sign > 0 else back + 82
            fins.append(capsule((start, 386.0, sign * z), (end, 386.0, sign * z), 2.3, 10))
    engine.add("Fins", group, (join(fins), "Red enamel"))

    bosses, seats = [], []
    for x in np.linspace(back + 16, front - 12, 6):
        for sign in (1.0, -1.0):
            bosses.append(
                lathe([(0, 326), (9, 326), (7.6, 334), (0, 334)], 16, bevel=1.0).moved(float(x), 0, sign * 85)
            )
            seats.append((float(x), sign * 85.0))
    engine.add("Bosses", group, (join(bosses), "Red enamel"))
    bolt = engine.piece((flange_bolt(6.2), "Yellow zinc"))
    for number, (x, z) in enumerate(seats, start=1):
        engine.place(f"Cover bolt {number}", bolt, group, facing((x, 334, z), (0, 1, 0), x))
    stud = engine.piece((socket_screw(6.0), "Machined steel"))
    rail_screws = [(x, sign * 85.0) for x in (52.0, 98.0, 144.0, 190.0) for sign in (1.0, -1.0)]
    for number, (x, z) in enumerate(rail_screws, start=1):
        engine.place(f"Rail screw {number}", stud, group, translation(x, dim.HEAD_TOP + 1.4, z))

    neck = lathe([(0, 380), (27, 380), (27, 391), (24, 394), (0, 394)], 36, bevel=1.2).moved(-168, 0, -41)
    engine.add("Filler neck", group, (neck, "Red enamel"))
    engine.add("Filler cap", group, (knurled_cap(23.0, 13.0).moved(-168, 393, -41), "Black plastic"))


def _ignition(engine: Assembly, group: int) -> None:
    tube = engine.piece((ring(15.5, 12.5, 266.0, 366.0, 30, "y", 0.0), "Machined aluminium"))
    seal = engine.piece((ring(18.5, 12.5, 365.0, 371.0, 32, "y", 1.4), "Rubber"))
    body = join(
        [
            rounded_box((40.0, 17.0, 30.0), 4.0, 2).moved(0, 380.0, 0),
            rounded_box((24.0, 8.0, 20.0), 2.5, 1).moved(0, 391.0, 0),
            rounded_box((18.0, 12.0, 14.0), 2.0, 1).moved(0, 380.0, -20.0),
            lathe([(0, 368), (12.0, 368), (13.0, 373), (0, 373)], 24),
            rounded_box((12.0, 10.0, 16.0), 2.0, 1).moved(24.0, 376.0, 0),
        ]
    )
    lines = join([rounded_box((1.6, 1.2, 17.0), 0.4, 1).moved(x, 395.2, 0) for x in (-7.0, -2.4, 2.4, 7.0)])
    coil = engine.piece((body, "Black plastic"), (lines, "White print"))
    plug = engine.piece((join([rounded_box((15.0, 9.0, 12.0), 1.6, 1).moved(0, 380.0, -30.0)]), "Yellow plastic"))
    bolt = engine.piece((flange_bolt(5.2), "Yellow zinc"))
    drops = []
    for number, x in enumerate(dim.CYLINDERS, start=1):
        unit = engine.group(f"Coil {number}", group, translation(x))
        engine.place("Plug tube", tube, unit)
        engine.place("Tube seal", seal, unit)
        engine.place("Coil body", coil, unit)
        engine.place("Connector", plug, unit)
        engine.place("Coil bolt", bolt, unit, translation(25.5, 381.0, 0))
        drops.append(rod(spline([(x, 380, -35), (x - 2, 381, -43), (x - 12, 388, -52), (x - 30, 395, -57)], 5), 2.6, 8))
    trunk = spline(
        [
            (152, 392, -56),
            (110, 395, -57),
            (20, 395.5, -57),
            (-80, 395, -57),
            (-150, 396, -62),
            (-196, 388, -74),
            (-214, 350, -86),
            (-216, 290, -92),
        ],
        7,
    )
    engine.add("Harness", group, (join([rod(trunk, 5.2, 10), *drops]), "Hose"))
    plug_end = join([rounded_box((22.0, 18.0, 24.0), 2.5, 1), rounded_box((8.0, 13.0, 19.0), 2.0, 1).moved(13.0)])
    engine.add("Harness plug", group, (plug_end.moved(158.0, 392.0, -56.0), "Black plastic"))
    clip = engine.piece((rounded_box((9.0, 13.0, 13.0), 2.0, 1), "Black plastic"))
    for number, x in enumerate((118.0, 20.0, -70.0, -140.0), start=1):
        engine.place(f"Harness clip {number}", clip, group, translation(x, 394.5, -57.0))
