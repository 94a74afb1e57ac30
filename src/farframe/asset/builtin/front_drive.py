"""Timing drive, crankshaft damper and the accessories that the ribbed belt turns."""

from __future__ import annotations

import numpy as np

from farframe.asset.builtin import dimensions as dim
from farframe.asset.builtin.assembly import Assembly
from farframe.asset.builtin.curves import Pulley, belt_run, circle, fillet, gear_outline, rounded_rectangle
from farframe.asset.builtin.fasteners import flange_bolt, socket_screw, washer_bolt
from farframe.asset.builtin.mesh import Mesh, facing, join, rotation, translation
from farframe.asset.builtin.primitives import capsule, extrude, lathe, ribbed_belt, ring, rounded_box, toothed_belt

_CAM_TEETH, _CRANK_TEETH = 36, 18
_CAM_PITCH_RADIUS = 42.0
_TIMING = (212.0, 234.0)
_RIBBED = (250.0, 271.0)
_RIBS = 6

_WATER_PUMP = (150.0, -68.0)
_TENSIONER = (126.0, 50.0)
_ALTERNATOR = (160.0, -148.0)
_IDLER = (123.0, -25.0)
_COMPRESSOR = (-100.0, -152.0)


def build_front_drive(engine: Assembly, root: int) -> None:
    """Add everything in front of the block, and the accessories beside it."""
    group = engine.group("Front drive", root)
    _plates(engine, engine.group("Front plates", group))
    _timing(engine, engine.group("Timing drive", group))
    _ribbed_drive(engine, engine.group("Accessory drive", group))
    _alternator(engine, engine.group("Alternator", group, translation(0, *_ALTERNATOR)))
    _compressor(engine, engine.group("Air conditioning compressor", group, translation(0, *_COMPRESSOR)))


def _plates(engine: Assembly, group: int) -> None:
    pump = fillet(
        [(-58, -88), (-58, 88), (20, 88), (62, 60), (74, 30), (74, -30), (62, -60), (20, -88)], 16.0, closed=True
    )
    body = extrude(pump, 204.0, 211.0, "x", holes=[circle(28.0, 40)], bevel=1.8, segments=2)
    boss = ring(36.0, 27.0, 204.0, 215.0, 44, "x", 2.0)
    rotor = lathe([(0, 203), (34, 203), (34, 213), (30, 215), (0, 215)], 36, "x", bevel=1.0).moved(y=-2, z=-52)
    ribs = [
        capsule((212, 14 + 26 * np.sin(a), 30 * np.cos(a)), (212, 48 * np.sin(a), 74 * np.cos(a)), 2.6, 8)
        for a in np.radians([-50.0, -25.0, 0.0, 25.0, 50.0])
    ]
    engine.add("Oil pump housing", group, (join([body, boss, rotor, *ribs]), "Cast aluminium"))
    engine.add("Crank seal", group, (ring(28.0, 19.4, 208.0, 213.0, 40, "x", 0.8), "Rubber"))
    screw = engine.piece((flange_bolt(6.5), "Yellow zinc"))
    spots = [(-48, -76), (-48, -30), (-48, 30), (-48, 76), (10, 78), (10, -78), (52, 52), (52, -52), (64, 0)]
    for number, (y, z) in enumerate(spots, start=1):
        engine.place(f"Pump bolt {number}", screw, group, facing((211, y, z), (1, 0, 0)))

    backing = fillet(
        [
            (84, -60),
            (84, 30),
            (186, 46),
            (262, 96),
            (340, 100),
            (370, 72),
            (370, -72),
            (340, -100),
            (262, -98),
            (176, -92),
        ],
        [10, 10, 60, 40, 30, 20, 20, 30, 40, 50],
        closed=True,
        step=12.0,
    )
    holes = [circle(24.0, 40, (dim.CAM_Y, sign * dim.CAM_Z)) for sign in (1.0, -1.0)]
    holes += [rounded_rectangle(60.0, 44.0, 14.0) + np.array([232.0, 0.0])]
    plate = extrude(backing, 204.5, 207.5, "x", holes=holes, bevel=0.8)
    lip = extrude(
        backing, 204.5, 211.0, "x", holes=[(backing - backing.mean(axis=0)) * 0.972 + backing.mean(axis=0)], bevel=0.5
    )
    engine.add("Backing plate", group, (join([plate, lip]), "Black plastic"))
    small = engine.piece((flange_bolt(5.2), "Yellow zinc"))
    for number, (y, z) in enumerate(
        [(98, -44), (98, 20), (205, 48), (200, -78), (285, 0), (358, 0), (330, 92), (330, -92)], start=1
    ):
        engine.place(f"Backing bolt {number}", small, group, facing((207.5, y, z), (1, 0, 0)))


def _sprocket(teeth: int, radius: float, spokes: int, hub: float) -> Mesh:
    low, high = _TIMING
    rim_holes = []
    for k in range(spokes):
        angle = np.radians(180.0 / teeth + 360.0 * k / spokes)
        middle = (radius + hub) / 2 - 2.0
        rim_holes.append(
            circle((radius - hub) * 0.30, 18, (middle * float(np.cos(angle)), middle * float(np.sin(angle))))
        )
    outline = gear_outline(teeth, radius - 3.4, radius - 0.9, 0.36, 0.14)
    return extrude(outline, low - 0.5, high + 0.5, "x", holes=rim_holes, bevel=0.6)


def _timing(engine: Assembly, group: int) -> None:
    crank_radius = _CAM_PITCH_RADIUS * _CRANK_TEETH / _CAM_TEETH
    run = belt_run(
        [
            Pulley((0.0, 0.0), crank_radius),
            Pulley(_WATER_PUMP, 25.0, back=True),
            Pulley((dim.CAM_Y, -dim.CAM_Z), _CAM_PITCH_RADIUS),
            Pulley((dim.CAM_Y, dim.CAM_Z), _CAM_PITCH_RADIUS),
            Pulley(_TENSIONER, 22.0, back=True),
        ]
    )
    pitch = 2 * np.pi * _CAM_PITCH_RADIUS / _CAM_TEETH
    teeth = round(run.length / pitch)
    belt = toothed_belt(run, teeth, _TIMING[0] + 1, _TIMING[1] - 1, "x", 1.8, 2.6)
    engine.add("Timing belt", group, (belt, "Rubber"))

    def meshed(pulley: int, count: int, radius: float) -> float:
        """The turn in degrees at which a sprocket's gaps take the belt's teeth."""
        travelled, angle = run.arrivals[pulley]
        actual = run.length / teeth
        first = (np.ceil(travelled / actual - 0.375) + 0.375) * actual
        return angle + float(np.degrees((first - travelled) / radius)) - 180.0 / count

    cam_sprocket = engine.piece((_sprocket(_CAM_TEETH, _CAM_PITCH_RADIUS, 6, 15.0), "Machined aluminium"))
    flange = engine.piece(
        (ring(_CAM_PITCH_RADIUS + 2.2, 30.0, _TIMING[0] - 2.6, _TIMING[0] - 0.4, 64, "x", 0.5), "Dark steel")
    )
    hub = engine.piece(
        (lathe([(0, 230), (15, 230), (15, 240), (12, 242), (0, 242)], 32, "x", bevel=0.6), "Machined steel")
    )
    cam_bolt = engine.piece((washer_bolt(11.0), "Yellow zinc"))
    for pulley, side, sign in ((2, "intake", -1.0), (3, "exhaust", 1.0)):
        unit = engine.group(f"Cam sprocket {side}", group, translation(0, dim.CAM_Y, sign * dim.CAM_Z))
        turn = rotation("x", meshed(pulley, _CAM_TEETH, _CAM_PITCH_RADIUS))
        engine.place("Sprocket", cam_sprocket, unit, turn)
        engine.place("Belt guide", flange, unit)
        engine.place("Hub", hub, unit)
        engine.place("Centre bolt", cam_bolt, unit, facing((242, 0, 0), (1, 0, 0), 12.0))
    crank_outline = gear_outline(_CRANK_TEETH, crank_radius - 3.4, crank_radius - 0.9, 0.36, 0.14)
    crank = extrude(crank_outline, _TIMING[0] - 0.5, _TIMING[1] + 0.5, "x", bevel=0.6)
    guides = [ring(crank_radius + 4.0, 12.0, x, x + 1.8, 48, "x", 0.4) for x in (_TIMING[0] - 3, _TIMING[1] + 1)]
    turn = rotation("x", meshed(0, _CRANK_TEETH, crank_radius))
    engine.add("Crank sprocket", group, (join([crank.transformed(turn), *guides]), "Dark steel"))

    for name, (y, z), radius, size in (("Tensioner", _TENSIONER, 22.0, 10.0), ("Water pump", _WATER_PUMP, 25.0, 9.0)):
        unit = engine.group(name, group, translation(0, y, z))
        r = radius - 1.8
        rim = [(r, 211), (r + 1.6, 210), (r + 1.6, 211.6), (r, 212.4), (r, 233.6), (r + 1.6, 234.4), (r + 1.6, 236)]
        rim += [(r - 3, 236), (r - 5, 228), (12.5, 227), (12.5, 214), (r - 4, 211)]
        engine.add("Roller", unit, (lathe(rim, 48, "x", closed=True), "Machined steel"))
        engine.add("Bearing seal", unit, (ring(13.0, 8.0, 214.0, 229.0, 32, "x", 0.8), "Rubber"))
        engine.add("Bearing race", unit, (ring(8.6, 4.5, 212.0, 230.5, 28, "x", 0.6), "Machined steel"))
        engine.add(
            "Roller bolt", unit, (washer_bolt(size).transformed(facing((230.5, 0, 0), (1, 0, 0))), "Yellow zinc")
        )
        back = lathe([(0, 198), (radius + 9, 198), (radius + 9, 206), (radius, 209), (0, 209)], 44, "x", bevel=1.5)
        engine.add("Housing", unit, (back, "Cast aluminium"))
    arm = extrude(dim.hull_of_circles((0.0, 0.0), 15.0, (52.0, 10.0), 9.0), 207.0, 212.0, "x", bevel=1.2).moved(
        0, *_TENSIONER
    )
    engine.add("Tensioner arm", group, (arm, "Cast aluminium"))
    pivot = socket_screw(9.0).transformed(facing((212, _TENSIONER[0] + 52, _TENSIONER[1] + 10), (1, 0, 0)))
    engine.add("Tensioner pivot", group, (pivot, "Dark steel"))


def _grooved(radius: float, inner: float, low: float, high: float) -> list[tuple[float, float]]:
    """The outside of a poly-V pulley between two flanges, then its inner side back to the start."""
    profile = [(radius + 2.4, low - 2.4), (radius + 2.4, low - 0.8)]
    step = (high - low) / _RIBS
    for k in range(_RIBS):
        profile += [(radius - 0.4, low + k * step), (radius - 3.2, low + (k + 0.5) * step)]
    profile += [(radius - 0.4, high), (radius + 2.4, high + 0.8), (radius + 2.4, high + 2.4)]
    return [*profile, (inner, high + 2.4), (inner, low - 2.4)]


def _ribbed_drive(engine: Assembly, group: int) -> None:
    low, high = _RIBBED
    run = belt_run(
        [
            Pulley((0.0, 0.0), 68.0),
            Pulley(_COMPRESSOR, 54.0),
            Pulley(_ALTERNATOR, 27.0),
            Pulley(_IDLER, 26.0, back=True),
        ]
    )
    engine.add("Ribbed belt", group, (ribbed_belt(run, _RIBS, low, high, "x", 2.2, 2.6), "Rubber"))

    damper = engine.group("Crank damper", group)
    engine.add("Rim", damper, (lathe(_grooved(68.0, 56.0, low, high), 72, "x", closed=True), "Dark steel"))
    engine.add("Damping ring", damper, (ring(56.2, 51.0, low - 1.0, high + 1.0, 72, "x", 1.2), "Rubber"))
    face = [(51.2, low - 1), (51.2, high + 1.6), (46, high + 1.6), (43, high - 5), (26, high - 5), (24, high + 4)]
    face += [(19.0, high + 4), (19.0, low - 14), (30, low - 14), (34, low - 1)]
    engine.add("Hub", damper, (lathe(face, 64, "x", closed=True, bevel=0.8), "Machined steel"))
    screw = engine.piece((socket_screw(8.0), "Dark steel"))
    for number, (y, z) in enumerate(dim.bolt_circle(34.5, 6), start=1):
        engine.place(f"Hub screw {number}", screw, damper, facing((high - 5, y, z), (1, 0, 0)))
    engine.add(
        "Crank bolt", damper, (washer_bolt(19.0).transformed(facing((high + 3, 0, 0), (1, 0, 0))), "Yellow zinc")
    )
    marks = [rounded_box((3.0, 5.0, 1.4), 0.4, 1).moved(high + 2.2, 61.0, 0).turned("x", a) for a in (0.0, 12.0, 24.0)]
    engine.add("Timing marks", damper, (join(marks), "White print"))

    idler = engine.group("Idler", group, translation(0, *_IDLER))
    engine.add("Roller", idler, (lathe(_grooved(27.0, 20.0, low, high), 44, "x", closed=True), "Black plastic"))
    engine.add("Bearing", idler, (ring(20.3, 6.0, low + 2, high - 3, 36, "x", 1.0), "Machined steel"))
    engine.add(
        "Dust cap", idler, (lathe([(0, high - 4), (13, high - 4), (12, high - 1), (0, high)], 28, "x"), "Rubber")
    )
    engine.add("Idler bolt", idler, (washer_bolt(9.0).transformed(facing((high - 1, 0, 0), (1, 0, 0))), "Yellow zinc"))
    post = lathe([(0, 207), (16, 207), (13, 222), (11, low + 3), (0, low + 3)], 28, "x", bevel=1.0)
    engine.add("Post", idler, (post, "Cast aluminium"))


def _alternator(engine: Assembly, group: int) -> None:
    low, high = _RIBBED
    pulley = lathe(_grooved(27.0, 9.0, low, high), 40, "x", closed=True)
    engine.add("Pulley", group, (pulley, "Machined steel"))
    nut = extrude(circle(12.0, 6), high + 2.0, high + 11, "x", bevel=1.2)
    shaft = lathe([(0, 226), (9.2, 226), (9.2, high + 13), (8, high + 14), (0, high + 14)], 24, "x")
    engine.add("Shaft nut", group, (join([nut, shaft]), "Yellow zinc"))
    bell = [(0, 236), (20, 236), (26, 232), (52, 226), (57, 220), (57, 196), (0, 196)]
    rear = [(0, 130), (44, 130), (52, 136), (57, 144), (57, 172), (0, 172)]
    bodies = [lathe(bell, 52, "x", bevel=2.0), lathe(rear, 48, "x", bevel=2.0)]
    for k in range(18):
        angle = 20.0 * k
        bodies.append(capsule((229, 24, 0), (224.6, 54, 0), 2.2, 6).turned("x", angle))
        bodies.append(capsule((199, 57.4, 0), (217, 57.4, 0), 2.0, 6).turned("x", angle))
        bodies.append(capsule((146, 57.4, 0), (169, 57.4, 0), 2.0, 6).turned("x", angle))
    engine.add("Housings", group, (join(bodies), "Cast aluminium"))
    stack = gear_outline(72, 54.0, 55.4, 0.4, 0.1)
    engine.add("Stator", group, (extrude(stack, 172.0, 196.0, "x", bevel=0.0), "Dark steel"))
    windings = [capsule((197.0, 45, 0), (199.5, 51, 0), 2.4, 5).turned("x", 20.0 * k) for k in range(18)]
    engine.add("Windings", group, (join(windings), "Copper"))
    through = engine.piece((socket_screw(6.0), "Dark steel"))
    for number, (y, z) in enumerate(dim.bolt_circle(50.0, 4, 45.0), start=1):
        engine.place(f"Through bolt {number}", through, group, facing((225, y, z), (1, 0, 0)))
    ears = []
    for angle, length in ((120.0, 26.0), (-40.0, 20.0)):
        ear = extrude(
            dim.hull_of_circles((44.0, 0.0), 16.0, (56.0 + length / 2, 0.0), 10.0), 198.0, 216.0, "x", bevel=1.5
        )
        ears.append(ear.turned("x", angle))
    engine.add("Ears", group, (join(ears), "Cast aluminium"))
    bracket = fillet([(0, 30), (-40, 44), (-40, 92), (20, 92), (34, 50)], 10.0, closed=True)
    engine.add("Bracket", group, (extrude(bracket, 180.0, 196.0, "x", bevel=2.0), "Cast iron"))
    cover = join(
        [
            rounded_box((20.0, 40.0, 60.0), 6.0, 2).moved(124, 0, 0),
            lathe([(0, 106), (7, 106), (7, 116), (0, 116)], 16, "x", bevel=0.6).moved(0, 14, 18),
        ]
    )
    engine.add("Regulator", group, (cover, "Black plastic"))


def _compressor(engine: Assembly, group: int) -> None:
    low, high = _RIBBED
    rim = lathe(_grooved(54.0, 34.0, low, high), 60, "x", closed=True)
    engine.add("Pulley", group, (rim, "Dark steel"))
    engine.add("Clutch gap", group, (ring(34.5, 30.0, low + 2, high - 2, 52, "x", 0.6), "Black enamel"))
    plate = [(0, high - 1), (50, high - 1), (51.5, high + 0.5), (51.5, high + 3.4), (46, high + 4.4), (40, high + 3.0)]
    plate += [(18, high + 3.0), (16, high + 6.5), (0, high + 6.5)]
    engine.add("Clutch plate", group, (lathe(plate, 64, "x", bevel=0.6), "Machined steel"))
    rivet = engine.piece((lathe([(0, 0), (4, 0), (3.6, 2), (2, 3), (0, 3.2)], 16), "Brass"))
    for number, (y, z) in enumerate(dim.bolt_circle(29.0, 3, 90.0), start=1):
        engine.place(f"Rivet {number}", rivet, group, facing((high + 3, y, z), (1, 0, 0)))
    straps = [
        extrude(
            rounded_rectangle(12.0, 30.0, 5.0) + np.array([33.0, 0.0]), high + 2.8, high + 4.6, "x", bevel=0.4
        ).turned("x", a + 60)
        for a in (0.0, 120.0, 240.0)
    ]
    engine.add("Clutch straps", group, (join(straps), "Spring steel"))
    engine.add("Centre nut", group, (washer_bolt(9.0).transformed(facing((high + 6, 0, 0), (1, 0, 0))), "Yellow zinc"))
    body = [(0, 92), (38, 92), (44, 98), (44, 126), (47, 129), (47, 140), (44, 143), (44, 196), (47, 199), (47, 210)]
    body += [(44, 213), (42, 236), (30, 242), (30, 248), (0, 248)]
    engine.add("Body", group, (lathe(body, 48, "x", bevel=1.6), "Cast aluminium"))
    ribs = [capsule((147, 44, 0), (192, 44, 0), 2.6, 6).turned("x", 20.0 * k) for k in range(18)]
    engine.add("Ribs", group, (join(ribs), "Cast aluminium"))
    bolt = engine.piece((socket_screw(6.5), "Dark steel"))
    for number, (y, z) in enumerate(dim.bolt_circle(40.0, 6, 30.0), start=1):
        engine.place(f"Case screw {number}", bolt, group, facing((92.5, y * 0.9, z * 0.9), (-1, 0, 0)))
    feet = []
    for x in (134.0, 205.0):
        for y in (30.0, -30.0):
            foot = extrude(dim.hull_of_circles((y * 0.7, 20.0), 13.0, (y, 66.0), 10.0), x - 7, x + 7, "x", bevel=1.6)
            feet.append(foot)
    engine.add("Mounts", group, (join(feet), "Cast aluminium"))
