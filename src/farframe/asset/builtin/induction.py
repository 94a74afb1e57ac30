"""Intake manifold, throttle, fuel rail and injectors, and the air that the turbocharger moves."""

from __future__ import annotations

import numpy as np

from farframe.asset.builtin import dimensions as dim
from farframe.asset.builtin.assembly import Assembly
from farframe.asset.builtin.curves import circle, fillet, slot_outline, spline
from farframe.asset.builtin.fasteners import flange_bolt, hose_clamp, socket_screw
from farframe.asset.builtin.mesh import facing, join, rotation, translation
from farframe.asset.builtin.primitives import capsule, extrude, lathe, ring, rod, rounded_box, tube, web

_PORT = np.array([0.0, 288.0, -87.0])
_PLENUM = (352.0, -196.0)
_PLENUM_RADIUS = 46.0
_RAIL = (318.0, -122.0)


def build_induction(engine: Assembly, root: int) -> None:
    """Add the intake side: runners, plenum, throttle body, fuel rail."""
    group = engine.group("Induction", root)
    _runners(engine, engine.group("Intake manifold", group))
    _throttle(engine, engine.group("Throttle body", group, translation(0, *_PLENUM)))
    _fuel(engine, engine.group("Fuel rail", group))
    _charge_pipe(engine, engine.group("Charge pipe", group))


def _runners(engine: Assembly, group: int) -> None:
    out = np.array([0.0, -0.10, -0.995])
    path = fillet(
        np.array([_PORT, _PORT + out * 34, (0, 262, -196), (0, _PLENUM[0] - 40, _PLENUM[1] - 2)]),
        [0, 30, 46, 0],
        closed=False,
        step=10,
    )
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    radius = 20.5 - 2.5 * np.sin(np.pi * length / length[-1])
    pipe = rod(path, radius, 22)
    seam = capsule(path[2] + (0, 22.0, 0), path[2] + (0, 22.0, -8), 2.0, 6)
    mouth = lathe([(20, 0), (28, 0), (28, 3), (22.5, 10), (20, 10)], 30, closed=True)
    collar = mouth.transformed(facing(path[-1] + (0, 8.0, 0), (0, -1, 0)))
    runner = engine.piece((join([pipe, seam, collar]), "Satin aluminium"))
    outline = slot_outline(52.0, 14.0, 10)
    tilt = rotation("x", 180.0 - 5.7)
    plate = join([extrude(outline, 0.0, 9.0, "z", bevel=1.3), extrude(circle(26.0, 40), 0.0, 9.0, "z", bevel=1.3)])
    flange = engine.piece((plate, "Machined aluminium"))
    spacer = engine.piece((extrude(circle(24.0, 36), -9.0, 0.0, "z", bevel=0.6), "Gasket"))
    bolt = engine.piece((flange_bolt(7.0), "Yellow zinc"))
    for cylinder, x in enumerate(dim.CYLINDERS):
        unit = engine.group(f"Runner {cylinder + 1}", group, translation(x))
        engine.place("Pipe", runner, unit)
        seat = translation(0, _PORT[1], _PORT[2]) @ tilt
        engine.place("Flange", flange, unit, seat)
        engine.place("Spacer", spacer, unit, seat)
        for side, dx in (("front", 26.0), ("rear", -26.0)):
            engine.place(f"Bolt {side}", bolt, unit, seat @ facing((dx, 0, 9.0), (0, 0, 1)))

    y, z = _PLENUM
    front, rear = _PLENUM_RADIUS, 35.0
    profile = [(0, -204), (rear * 0.6, -202), (rear, -186), (rear, -168), (front - 3, 120), (front, 150), (front, 178)]
    profile += [(39, 192), (37, 204), (0, 204)]
    body = lathe(fillet(profile, [0, 16, 16, 40, 60, 40, 14, 8, 2, 0], closed=False, step=12), 48, "x")

    def radius_at(x: float) -> float:
        return float(np.interp(x, [-168.0, 120.0, 150.0], [rear, front - 3, front]))

    ribs = []
    for x in np.linspace(-160.0, 160.0, 9):
        if abs(x) > 70:
            r = radius_at(float(x))
            ribs.append(
                lathe([(r - 4, x - 4), (r + 2.2, x - 2), (r + 2.2, x + 2), (r - 4, x + 4)], 48, "x", closed=True)
            )
    for angle in (95.0, 74.0, 50.0, 29.0, 8.0, -13.0, -34.0):
        ends = [(x, radius_at(x) - 0.4, 0.0) for x in (-74.0, 74.0)]
        ribs.append(capsule(ends[0], ends[1], 2.6, 6).turned("x", angle - 51.0))
    engine.add("Plenum", group, (join([body, *ribs]).moved(0, y, z), "Satin aluminium"))
    r = radius_at(0.0)
    badge = extrude(slot_outline(112.0, 11.0, 8), -1.0, 2.6, "z", bevel=0.7)
    engine.add(
        "Plenum plate",
        group,
        (
            badge.transformed(
                facing((0, y + (r + 1) * 0.906, z + (r + 1) * 0.42), (0, 0.906, 0.42)) @ rotation("x", -90.0)
            ),
            "Red enamel",
        ),
    )
    for number, x in enumerate((122.0, -122.0), start=1):
        stay = web(
            [
                (y - 10, z + 30),
                (y - 40, z + 62),
                (y - 62, z + 104),
                (y - 50, z + 112),
                (y - 24, z + 76),
                (y + 14, z + 42),
            ],
            5.0,
            "x",
            x,
            bevel=1.2,
        )
        engine.add(f"Stay {number}", group, (stay, "Black enamel"))
    sensor = join([rounded_box((26, 12, 18), 3, 2).moved(0, 6, 0), rounded_box((14, 10, 12), 2, 1).moved(18, 7, 0)])
    engine.add("Pressure sensor", group, (sensor.moved(-122, y + radius_at(-122.0), z), "Black plastic"))
    vacuum = [
        rod(
            spline(
                [
                    (-176, y + rear - 6, z),
                    (-178, y + rear + 14, z + 8),
                    (-190, y + rear + 12, z + 60),
                    (-196, 372, -92),
                    (-184, 392, -70),
                    (-172, 400, -64),
                ],
                6,
            ),
            4.6,
            10,
        )
    ]
    engine.add("Vacuum hose", group, (join(vacuum), "Hose"))


def _throttle(engine: Assembly, group: int) -> None:
    flange = extrude(
        fillet([(-42, -42), (42, -42), (42, 42), (-42, 42)], 12.0, closed=True),
        203.0,
        213.0,
        "x",
        holes=[circle(31.0, 40)],
        bevel=1.4,
    )
    body = lathe(
        [(31, 212), (37, 212), (37, 246), (40, 248), (40, 254), (36, 256), (36, 276), (38, 278), (38, 282), (31, 282)],
        48,
        "x",
        closed=True,
        bevel=0.8,
    )
    motor = lathe([(0, -30), (18, -30), (21, -26), (21, 24), (18, 28), (0, 28)], 32, "x", bevel=1.5)
    gearbox = rounded_box((30.0, 78.0, 18.0), 6.0, 2).moved(230, 0, 44)
    engine.add("Body", group, (join([flange, body, motor.moved(232, -40, 8)]), "Satin aluminium"))
    engine.add(
        "Actuator cover", group, (join([gearbox, rounded_box((16, 20, 12), 2, 1).moved(230, 30, 56)]), "Black plastic")
    )
    plate = extrude(circle(30.8, 44), -1.2, 1.2, "x", bevel=0.4).turned("z", -58.0).moved(232)
    spindle = lathe([(0, -36), (4, -36), (4, 40), (0, 40)], 14, "z").moved(232)
    engine.add("Throttle plate", group, (join([plate, spindle]), "Brass"))
    back = extrude(circle(31.5, 36), 204.0, 205.5, "x", bevel=0.2)
    engine.add("Bore end", group, (back, "Black enamel"))
    screw = engine.piece((socket_screw(7.0), "Dark steel"))
    for number, (y, z) in enumerate([(34, 34), (34, -34), (-34, 34), (-34, -34)], start=1):
        engine.place(f"Flange screw {number}", screw, group, facing((213, y, z), (1, 0, 0)))


def _fuel(engine: Assembly, group: int) -> None:
    y, z = _RAIL
    rail = lathe([(0, -178), (8, -178), (11, -174), (11, 174), (8, 178), (0, 178)], 28, "x", bevel=1.0)
    cups = [lathe([(0, -16), (10.5, -16), (10.5, 2), (0, 2)], 24, bevel=1.0).moved(x) for x in dim.CYLINDERS]
    tilt = rotation("x", -38.0)
    engine.add(
        "Rail", group, (join([rail, *[cup.transformed(tilt) for cup in cups]]).moved(0, y, z), "Machined aluminium")
    )
    body = engine.piece(
        (
            join(
                [
                    lathe([(0, -44), (5, -44), (5, -38), (9, -36), (9, -24), (0, -24)], 24, bevel=0.8),
                    lathe([(0, -18), (6, -18), (6, -13), (0, -13)], 18),
                ]
            ),
            "Machined steel",
        ),
        (
            join(
                [
                    lathe([(0, -25), (8.4, -25), (8.4, -17), (0, -17)], 22, bevel=0.6),
                    rounded_box((12.0, 9.0, 20.0), 2.0, 1).moved(0, -21, -12),
                ]
            ),
            "Yellow plastic",
        ),
    )
    for number, x in enumerate(dim.CYLINDERS, start=1):
        engine.place(f"Injector {number}", body, group, translation(x, y, z) @ tilt)
    regulator = join(
        [
            lathe(
                [(0, 176), (15, 176), (17, 179), (17, 190), (19, 191), (19, 194), (15, 195), (12, 208), (0, 210)],
                32,
                "x",
                bevel=0.8,
            )
        ]
    )
    engine.add("Pressure regulator", group, (regulator.moved(0, y, z), "Brass"))
    feed = rod(
        spline([(-178, y, z), (-204, y, z), (-224, y - 20, z + 4), (-226, y - 90, z + 8), (-216, y - 150, z + 2)], 7),
        4.4,
        12,
    )
    union = join(
        [extrude(circle(9.5, 6), -192, -180, "x", bevel=0.9), extrude(circle(8.0, 6), -202, -193, "x", bevel=0.8)]
    ).moved(0, y, z)
    engine.add("Feed line", group, (feed, "Machined steel"))
    engine.add("Feed union", group, (union, "Brass"))
    for number, x in enumerate((96.0, -96.0), start=1):
        bracket = web(
            [(y - 6, z - 6), (y - 6, z + 6), (y - 26, z + 34), (y - 30, z + 34), (y - 30, z + 24)],
            12.0,
            "x",
            x,
            bevel=1.0,
        )
        engine.add(f"Rail bracket {number}", group, (bracket, "Cast aluminium"))
        engine.add(f"Bracket screw {number}", group, (socket_screw(6.0).moved(x, y + 9.5, z), "Dark steel"))


def _charge_pipe(engine: Assembly, group: int) -> None:
    """From the compressor's outlet down beside the sump; the intercooler would come next."""
    start = np.array([-62.0, 96.0, 229.0])
    drop = np.array([0.0, 1.0, 0.0])
    hose = rod(
        np.array([start + drop * k for k in (14, 11, 10, -40, -41, -44)]), np.array([25, 26, 27, 27, 26, 25]), 32
    )
    engine.add("Coupling", group, (hose, "Hose"))
    clamp = engine.piece((hose_clamp(27.0), "Machined steel"))
    for number, k in enumerate((3.0, -33.0), start=1):
        engine.place(f"Clamp {number}", clamp, group, facing(start + drop * k, (0, -1, 0), 60.0))
    path = np.array([start + drop * k for k in (-34.0, -60.0, -80.0, -97.0)])
    pipe = tube(path, 24.0, 2.0, 32)
    bead = ring(25.8, 22.5, -3.0, 3.0, 36, "y", 1.2).moved(*(start + drop * -89))
    engine.add("Pipe", group, (join([pipe, bead]), "Polished aluminium"))
