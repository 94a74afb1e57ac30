"""What hangs on the engine: filter, starter, coolant pipes and hoses, mounts, dipstick, senders, lifting eyes."""

from __future__ import annotations

from farframe.asset.builtin import dimensions as dim
from farframe.asset.builtin.assembly import Assembly
from farframe.asset.builtin.curves import circle, fillet, gear_outline, spline
from farframe.asset.builtin.fasteners import flange_bolt, hose_clamp, socket_screw, washer_bolt
from farframe.asset.builtin.mesh import Array, facing, join, translation
from farframe.asset.builtin.primitives import extrude, lathe, ring, rod, rounded_box, web


def build_ancillaries(engine: Assembly, root: int) -> None:
    """Add the small assemblies around the block."""
    group = engine.group("Ancillaries", root)
    _oil_filter(engine, engine.group("Oil filter", group, facing((-66.0, -32.0, 92.0), (0.0, -0.26, 1.0))))
    _dipstick(engine, engine.group("Dipstick", group))
    _starter(engine, engine.group("Starter motor", group, translation(0, 78.0, -134.0)))
    _cooling(engine, engine.group("Cooling", group))
    _mount(engine, engine.group("Engine mount", group))
    _lifting_eyes(engine, engine.group("Lifting eyes", group))
    _senders(engine, engine.group("Senders", group))


def _oil_filter(engine: Assembly, group: int) -> None:
    base = lathe([(0, -8), (42, -8), (42, 8), (38, 12), (0, 12)], 44, bevel=1.6)
    engine.add("Adapter", group, (base, "Cast aluminium"))
    engine.add("Seal", group, (lathe([(0, 11), (36.5, 11), (36.5, 15), (0, 15)], 40, bevel=0.8), "Rubber"))
    can = [(0, 14), (37, 14), (39, 16), (39, 20), (37.5, 22), (37.5, 70), (36, 76), (33, 79)]
    flutes = extrude(gear_outline(14, 33.0, 34.6, 0.3, 0.22), 70.0, 88.0, bevel=3.0)
    end = lathe([(0, 86), (30, 86), (29, 90), (13, 92), (12, 89), (0, 89)], 36)
    engine.add("Can", group, (join([lathe([*can, (0, 79)], 52), flutes, end]), "Black enamel"))
    engine.add("Label", group, (ring(38.5, 36.0, 34.0, 56.0, 52, "y", 0.2), "Red enamel"))
    engine.add("Label line", group, (ring(38.7, 36.0, 29.0, 31.5, 52, "y", 0.2), "White print"))


def _dipstick(engine: Assembly, group: int) -> None:
    x, z = 6.0, -112.0
    pipe = rod(fillet([(x, 24, -88), (x, 70, -108), (x, 300, z), (x, 376, z - 4)], 40, closed=False, step=15), 5.0, 12)
    engine.add("Tube", group, (pipe, "Machined steel"))
    collar = lathe([(0, 372), (7, 372), (9, 378), (9, 388), (6, 392), (0, 392)], 20, bevel=0.8).moved(x, 0, z - 4)
    loop = fillet(
        [(x, 388, z - 4), (x + 13, 402, z - 4), (x + 13, 424, z - 4), (x - 13, 424, z - 4), (x - 13, 402, z - 4)],
        9.0,
        closed=True,
        step=22,
    )
    engine.add("Handle", group, (join([collar, rod(loop, 3.2, 10, closed=True)]), "Yellow plastic"))
    clip = web([(190, -60), (204, -60), (204, z + 4), (190, z + 4)], 8.0, "x", x, bevel=0.8)
    engine.add("Clip", group, (clip, "Black enamel"))


def _starter(engine: Assembly, group: int) -> None:
    motor = [(0, -72), (30, -72), (36, -78), (37.5, -84), (37.5, -166), (0, -166)]
    engine.add("Motor", group, (lathe(motor, 44, "x", bevel=1.6), "Black enamel"))
    nose = [(0, -166), (41, -166), (41, -176), (34, -182), (30, -200), (0, -200)]
    ear = extrude(dim.hull_of_circles((0.0, 0.0), 30.0, (48.0, -18.0), 12.0), -200.0, -188.0, "x", bevel=1.6)
    other = extrude(dim.hull_of_circles((0.0, 0.0), 30.0, (-50.0, 14.0), 12.0), -200.0, -188.0, "x", bevel=1.6)
    engine.add("Nose", group, (join([lathe(nose, 44, "x", bevel=1.6), ear, other]), "Cast aluminium"))
    solenoid = [(0, -82), (18, -82), (21, -86), (21, -164), (0, -164)]
    engine.add("Solenoid", group, (lathe(solenoid, 32, "x", bevel=1.2).moved(0, 48, -34), "Machined steel"))
    cap = [(0, -70), (15, -70), (18, -74), (18, -82), (0, -82)]
    engine.add("Solenoid cap", group, (lathe(cap, 28, "x", bevel=1.0).moved(0, 48, -34), "Black plastic"))
    posts = [lathe([(0, -58), (4, -58), (4, -70), (0, -70)], 12, "x").moved(0, 48 + dy, -34) for dy in (8.0, -8.0)]
    nuts = [extrude(circle(7.0, 6), -68, -63, "x", bevel=0.6).moved(0, 48 + dy, -34) for dy in (8.0, -8.0)]
    engine.add("Terminals", group, (join(posts + nuts), "Copper"))
    strap = rod(spline([(-60, 40, -34), (-58, 28, -28), (-66, 18, -24), (-76, 20, -22)], 5), 3.5, 8)
    engine.add("Strap", group, (strap, "Copper"))
    bolt = engine.piece((washer_bolt(10.0), "Yellow zinc"))
    for number, (y, z) in enumerate(((48.0, -18.0), (-50.0, 14.0)), start=1):
        engine.place(f"Bolt {number}", bolt, group, facing((-188, y, z), (1, 0, 0)))
    through = engine.piece((socket_screw(5.0), "Dark steel"))
    for number, (y, z) in enumerate(dim.bolt_circle(24.0, 2, 30.0), start=1):
        engine.place(f"Through screw {number}", through, group, facing((-72, y, z), (1, 0, 0)))


def _hose(engine: Assembly, group: int, name: str, path: Array, radius: float) -> None:
    """A coolant hose with a clamp near each end."""
    engine.add(name, group, (rod(path, radius, 20), "Hose"))
    clamp = engine.piece((hose_clamp(radius, 8.0), "Machined steel"))
    engine.place(f"{name} clamp 1", clamp, group, facing(path[1] * 0.3 + path[2] * 0.7, path[2] - path[1], 40.0))
    engine.place(f"{name} clamp 2", clamp, group, facing(path[-2] * 0.3 + path[-3] * 0.7, path[-3] - path[-2], 40.0))


def _cooling(engine: Assembly, group: int) -> None:
    housing = join(
        [
            rounded_box((34.0, 62.0, 70.0), 10.0, 3).moved(-218, 276, -28),
            lathe([(0, 0), (24, 0), (24, 6), (21, 9), (21, 26), (0, 26)], 32, bevel=1.2).transformed(
                facing((-226, 292, -40), (-0.8, 0.6, 0))
            ),
            lathe([(0, 0), (15, 0), (15, 32), (0, 32)], 28, bevel=1.0).transformed(
                facing((-222, 268, -58), (0, 0, -1))
            ),
        ]
    )
    engine.add("Thermostat housing", group, (housing, "Cast aluminium"))
    bolt = engine.piece((flange_bolt(7.0), "Yellow zinc"))
    for number, (y, z) in enumerate(((300.0, 0.0), (252.0, 0.0), (252.0, -56.0)), start=1):
        engine.place(f"Thermostat bolt {number}", bolt, group, facing((-234.5, y, z + 1), (-1, 0, 0)))
    upper = spline(
        [(-238, 301, -40), (-248, 309, -40), (-262, 318, -42), (-282, 328, -56), (-296, 330, -90), (-300, 322, -128)], 6
    )
    _hose(engine, group, "Upper hose", upper, 19.0)
    rail = rod(
        fillet([(-196, 198, -100), (-150, 198, -84), (110, 198, -84), (176, 184, -92)], 30, closed=False, step=15),
        12.0,
        20,
    )
    engine.add("Coolant pipe", group, (rail, "Machined steel"))
    _hose(
        engine,
        group,
        "Rear hose",
        spline(
            [
                (-190, 198, -98),
                (-204, 200, -103),
                (-222, 214, -108),
                (-230, 240, -104),
                (-224, 262, -98),
                (-222, 268, -90),
                (-222, 268, -76),
            ],
            5,
        ),
        15.0,
    )
    _hose(
        engine,
        group,
        "Front hose",
        spline([(168, 186, -91), (180, 182, -93), (194, 172, -92), (202, 160, -84), (205, 152, -76)], 5),
        14.5,
    )
    clips = [
        web([(192, -58), (204, -58), (216, -84), (204, -99), (190, -99), (186, -84)], 7.0, "x", x, bevel=0.8)
        for x in (-100.0, 60.0)
    ]
    engine.add("Pipe clips", group, (join(clips), "Black enamel"))


def _mount(engine: Assembly, group: int) -> None:
    plate = (
        extrude(fillet([(20, -20), (150, -20), (150, 70), (20, 70)], 14.0, closed=True), -72.0, -60.0, "z", bevel=1.8)
        .turned("z", 90.0)
        .moved(70, 0, -22)
    )
    arms = []
    for x in (32.0, 66.0):
        shape = [(40, -84), (136, -84), (136, -96), (86, -168), (66, -172), (60, -150)]
        arms.append(web(fillet(shape, [4, 4, 4, 14, 8, 20], closed=True), 10.0, "x", x, bevel=2.0))
    head = lathe([(0, 62), (30, 62), (30, 88), (0, 88)], 36, bevel=2.2).moved(49, 0, -158)
    engine.add("Bracket", group, (join([plate, *arms, head]), "Cast aluminium"))
    engine.add(
        "Rubber",
        group,
        (lathe([(0, 24), (26, 24), (34, 34), (34, 50), (27, 62), (0, 62)], 36, bevel=2.0).moved(49, 0, -158), "Rubber"),
    )
    engine.add(
        "Foot",
        group,
        (lathe([(0, 16), (38, 16), (38, 22), (30, 26), (0, 26)], 36, bevel=1.2).moved(49, 0, -158), "Black enamel"),
    )
    engine.add("Mount bolt", group, (washer_bolt(13.0).moved(49, 88, -158), "Yellow zinc"))
    bolt = engine.piece((flange_bolt(8.0), "Yellow zinc"))
    for number, (x, y) in enumerate(((14.0, 34.0), (84.0, 34.0), (14.0, 136.0), (84.0, 136.0)), start=1):
        engine.place(f"Bracket bolt {number}", bolt, group, facing((x, y, -94.0), (0, 0, -1)))


def _lifting_eyes(engine: Assembly, group: int) -> None:
    outline = fillet([(-22, 0), (22, 0), (22, 26), (16, 54), (-16, 54), (-22, 26)], [4, 4, 8, 15, 15, 8], closed=True)
    # Extruded along z the outline stands upright in the x, y plane.
    plate = extrude(outline, 0.0, 5.0, "z", holes=[circle(9.0, 24, (0.0, 38.0))], bevel=1.0)
    eye = engine.piece((plate, "Yellow zinc"))
    bolt = engine.piece((flange_bolt(7.5), "Dark steel"))
    for name, matrix in (
        ("Rear", facing((-209.0, 296.0, 50.0), (0, 1, 0), 90.0)),
        ("Front", facing((120.0, 292.0, -91.0), (0, 1, 0), 180.0)),
    ):
        unit = engine.group(name, group, matrix)
        engine.place("Eye", eye, unit)
        for number, x in enumerate((-12.0, 12.0), start=1):
            engine.place(f"Bolt {number}", bolt, unit, facing((x, 12, 5), (0, 0, 1)))


def _senders(engine: Assembly, group: int) -> None:
    hexagon = extrude(circle(12.5, 6), 0.0, 9.0, bevel=1.0)
    stem = lathe([(0, 8), (9, 8), (9, 26), (6, 29), (0, 29)], 22, bevel=0.8)
    sender = engine.piece((hexagon, "Brass"), (stem, "Black plastic"))
    for name, origin, up in (
        ("Oil pressure", (-26.0, 36.0, 92.0), (0.0, 0.3, 1.0)),
        ("Coolant temperature", (-222.0, 306.0, -12.0), (0.0, 1.0, 0.0)),
        ("Knock", (0.0, 150.0, -62.0), (0.0, 0.0, -1.0)),
    ):
        engine.place(name, sender, group, facing(origin, up))
    pickup = join(
        [rounded_box((14, 26, 16), 3.0, 2).moved(236, 92, 0), rounded_box((18, 10, 40), 2.5, 1).moved(228, 96, 8)]
    )
    engine.add("Crank position", group, (pickup, "Black plastic"))
    cable = rod(spline([(228, 98, 26), (222, 104, 36), (212, 118, 30), (204, 150, 22), (202, 170, 10)], 6), 2.6, 8)
    engine.add("Crank position cable", group, (cable, "Hose"))
    loom = rod(spline([(-26, 50, 122), (-30, 66, 128), (-44, 84, 112), (-60, 96, 86), (-90, 104, 72)], 6), 2.6, 8)
    engine.add("Oil pressure cable", group, (loom, "Hose"))
