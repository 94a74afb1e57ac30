"""Block, crankcase, oil pan, crankshaft, connecting rods, pistons and flywheel."""

from __future__ import annotations

import numpy as np

from farframe.asset.builtin import dimensions as dim
from farframe.asset.builtin.assembly import Assembly, Piece
from farframe.asset.builtin.curves import arc, circle, fillet, gear_outline, rounded_rectangle
from farframe.asset.builtin.fasteners import flange_bolt, socket_screw, stud_nut, washer_bolt
from farframe.asset.builtin.mesh import Array, Mesh, facing, join, rotation, translation
from farframe.asset.builtin.primitives import along, capsule, extrude, lathe, loft, ring, web

CAST, CUT, BORE = 0, 1, 2
_WALL_Z = 6.0  # the plane in which cylinders 1 and 2 are cut
_CUT_FROM, _CUT_TO = 1.0, 189.0


def build_bottom_end(engine: Assembly, root: int) -> None:
    """Add everything below the cylinder head gasket."""
    group = engine.group("Bottom end", root)
    _block(engine, engine.group("Block", group))
    _crankcase(engine, engine.group("Crankcase", group))
    _oil_pan(engine, engine.group("Oil pan", group))
    _crankshaft(engine, group)
    _pistons(engine, engine.group("Pistons and rods", group))
    _flywheel(engine, engine.group("Flywheel", group))


def _split(mesh: Mesh, cast: str = "Cast iron") -> list[tuple[Mesh, str]]:
    """The bodies of a cut casting: its skin, its painted cut faces, its honed bores."""
    materials = {CAST: cast, CUT: "Cut face", BORE: "Honed steel"}
    return [(mesh.only(tag), name) for tag, name in materials.items() if (mesh.tags == tag).any()]


def _scallops(start: float, stop: float, sign: float) -> Array:
    """The block's side, (z, x) points: a bulge around each cylinder, shallow necks between."""
    x = np.arange(start, stop + np.sign(stop - start) * 0.01, 4.0 * np.sign(stop - start))
    nearest = np.abs(x[:, None] - np.array(dim.CYLINDERS)).min(axis=1)
    bulge = np.sqrt(np.maximum(61.0**2 - nearest**2, 0.0))
    neck = 47.0
    return np.stack([sign * (np.logaddexp(bulge / 3.0, neck / 3.0) * 3.0 - 1.0), x], axis=1)


def _block_outline() -> tuple[Array, Array]:
    """The cylinder block's plan with its cutaway, counter-clockwise in (z, x), and its edges' tags."""
    points: list[Array] = []
    tags: list[int] = []

    def append(piece: Array, tag_inside: int, tag_after: int) -> None:
        points.append(piece)
        tags.extend([tag_inside] * (len(piece) - 1) + [tag_after])

    append(_scallops(-dim.BLOCK_END, _CUT_FROM - 1.0, 1.0), CAST, CAST)
    edge = _scallops(-dim.BLOCK_END, _CUT_FROM - 1.0, 1.0)[-1, 0]
    append(np.array([[edge, _CUT_FROM], [_WALL_Z, _CUT_FROM]]), CUT, CUT)
    opening = float(np.degrees(np.arcsin(_WALL_Z / dim.BORE_RADIUS)))
    for x in (dim.CYLINDERS[1], dim.CYLINDERS[0]):
        # In the (z, x) plane angle 0 is +z: the bore's far wall runs from -x round by -z to +x.
        append(arc((0.0, x), dim.BORE_RADIUS, -90 + opening, -270 - opening, 30), BORE, CUT)
    wall = _scallops(_CUT_TO + 1.0, dim.BLOCK_END, 1.0)
    append(np.array([[_WALL_Z, _CUT_TO], [wall[0, 0], _CUT_TO]]), CUT, CAST)
    append(wall, CAST, CAST)
    append(_scallops(dim.BLOCK_END, -dim.BLOCK_END, -1.0), CAST, CAST)
    return np.concatenate(points), np.array(tags)


def _block(engine: Assembly, group: int) -> None:
    outline, tags = _block_outline()
    bores = [circle(dim.BORE_RADIUS, 48, (0.0, x)) for x in dim.CYLINDERS[2:]]
    casting = extrude(outline, dim.SKIRT - 1, dim.DECK, "y", holes=bores, bevel=1.6, tags=tags, lid_tags=(CAST, CAST))
    engine.add("Cylinder block", group, *_split(casting))

    rails = []
    for sign, stop in ((1.0, _CUT_FROM - 1), (-1.0, dim.BLOCK_END)):
        section = [(dim.DECK - 15, sign * 45.0), (dim.DECK - 15, sign * 66.0), (dim.DECK - 11, sign * 69.0)]
        section += [(dim.DECK - 0.5, sign * 69.0), (dim.DECK - 0.5, sign * 45.0)]
        rails.append(extrude(section, -dim.BLOCK_END, stop, "x", bevel=0.7, lid_tags=(CAST, CUT if sign > 0 else CAST)))
        shoulder = [(dim.SKIRT - 1, sign * 46.0), (dim.SKIRT - 1, sign * 89.0), (dim.SKIRT + 6, sign * 88.0)]
        shoulder += [(dim.SKIRT + 40, sign * 62.0), (dim.SKIRT + 40, sign * 46.0)]
        smooth = fillet(shoulder, [0, 3, 10, 14, 0], closed=True)
        rails.append(extrude(smooth, -dim.BLOCK_END, stop, "x", bevel=0.7, lid_tags=(CAST, CUT if sign > 0 else CAST)))
    engine.add("Deck rails and shoulders", group, *_split(join(rails)))

    ribs = []
    for sign, necks in ((1.0, (-96.0,)), (-1.0, (-96.0, 0.0, 96.0))):
        for x in necks:
            ribs.append(capsule((x, dim.SKIRT + 30, sign * 52), (x, dim.DECK - 12, sign * 52), 6.5, 14))
        for x in (*necks, *(neck - 48 for neck in necks)):
            outline_rib = [(dim.SKIRT - 4, sign * 60), (dim.SKIRT - 4, sign * 90), (dim.SKIRT + 70, sign * 60)]
            ribs.append(web(outline_rib, 7.0, "x", x, bevel=2.0))
    for z0, x1 in ((62.5, -4.0), (-62.5, 196.0)):
        ribs.append(capsule((-196, 158, z0 * 0.93), (x1, 158, z0 * 0.93), 4.5, 12))
    engine.add("Ribs", group, (join(ribs), "Cast iron"))

    plug = engine.piece(
        (lathe([(0, 2.2), (12, 2.2), (14.2, 4.4), (16.2, 4.4), (17, 3.4), (17, -3), (0, -3)], 36), "Brass")
    )
    for number, (x, sign) in enumerate([(-48.0, 1), (-144.0, 1), *((x, -1) for x in dim.CYLINDERS)], start=1):
        engine.place(f"Core plug {number}", plug, group, facing((x, 124, sign * 60.6), (0, 0, sign)))

    gasket = rounded_rectangle(142.0, 2 * dim.BLOCK_END + 2, 10.0)
    holes = [circle(dim.BORE_RADIUS + 0.6, 36, (0.0, x)) for x in dim.CYLINDERS]
    engine.add(
        "Head gasket",
        group,
        (extrude(gasket, dim.DECK, dim.HEAD_BOTTOM, "y", holes=holes, bevel=0.2), "Copper"),
    )


def _crankcase_outline(half: float, web_reach: float, wall: float = 14.0) -> tuple[Array, Array, list[Array]]:
    """A crankcase's plan: a box of half-width ``half`` with a bay per cylinder; bays 1 and 2 are open on +z, the web
    between them reaching out to ``web_reach``. Returns outline, edge tags and the closed bays."""
    inner, end, back = 78.0, 204.0, 8.0
    corners = [
        ((half, -end), CAST),
        ((half, back), CUT),
        ((inner, back), CAST),
        ((-inner, back), CAST),
        ((-inner, 96 - back), CAST),
        ((web_reach, 96 - back), CUT),
        ((web_reach, 96 + back), CAST),
        ((-inner, 96 + back), CAST),
        ((-inner, 192 - back), CAST),
        ((half - wall, 192 - back), CUT),
        ((half, 192 - back), CAST),
        ((half, end), CAST),
        ((-half, end), CAST),
        ((-half, -end), CAST),
    ]
    outline = np.array([corner for corner, _ in corners], dtype=np.float64)
    bays = [
        rounded_rectangle(2 * inner, 96 - 2 * back, 8.0) + np.array([0.0, x])
        for x in (dim.CYLINDERS[2], dim.CYLINDERS[3])
    ]
    return outline, np.array([tag for _, tag in corners]), bays


def _crankcase(engine: Assembly, group: int) -> None:
    outline, tags, bays = _crankcase_outline(92.0, 34.0)
    upper = extrude(outline, 1.0, dim.SKIRT, "y", holes=bays, bevel=2.4, segments=2, tags=tags)
    flange, flange_tags, flange_bays = _crankcase_outline(103.0, 30.0, 24.0)
    upper_flange = extrude(flange, 1.0, 12.0, "y", holes=flange_bays, bevel=1.4, tags=flange_tags)
    engine.add("Crankcase", group, *_split(join([upper, upper_flange])))
    lower = extrude(outline, -62.0, -1.0, "y", holes=bays, bevel=2.4, segments=2, tags=tags)
    lower_flange = extrude(flange, -12.0, -1.0, "y", holes=flange_bays, bevel=1.4, tags=flange_tags)
    pan_flange = extrude(flange, -62.0, -51.0, "y", holes=flange_bays, bevel=1.4, tags=flange_tags)
    engine.add("Bedplate", group, *_split(join([lower, lower_flange, pan_flange]), "Cast aluminium"))
    seal, _, seal_bays = _crankcase_outline(100.0, 28.0, 21.0)
    engine.add("Split seal", group, (extrude(seal, -1.2, 1.2, "y", holes=seal_bays, bevel=0.0), "Gasket"))

    ribs = []
    for x in (-192.0, -144.0, -96.0, -48.0, 0.0, 48.0, 96.0, 144.0, 192.0):
        for sign in (1, -1):
            if sign > 0 and 8 < x < 184:
                continue
            upper_rib = [(6, sign * 88), (6, sign * 101), (dim.SKIRT - 4, sign * 94.5), (dim.SKIRT - 4, sign * 88)]
            ribs.append(web(upper_rib, 7.0, "x", x + 12 * (x == 0) * (sign < 0), bevel=1.6))
    engine.add("Upper ribs", group, (join(ribs), "Cast iron"))
    lower_ribs = []
    for x in np.arange(-192.0, 193.0, 24.0):
        for sign in (1, -1):
            if sign > 0 and 8 < x < 184:
                continue
            lower_ribs.append(capsule((x, -50, sign * 92), (x, -14, sign * 92), 3.0, 6))
    engine.add("Lower ribs", group, (join(lower_ribs), "Cast aluminium"))

    bolt = engine.piece((flange_bolt(9.0), "Yellow zinc"))
    nut = engine.piece((stud_nut(8.0, 6.0), "Machined steel"))
    count = 0
    for x in np.arange(-180.0, 181.0, 48.0):
        for sign in (1, -1):
            if sign > 0 and 4 < x < 186:
                continue
            count += 1
            engine.place(f"Split bolt {count}", bolt, group, facing((x, 12, sign * 97), (0, 1, 0), x))
            engine.place(f"Split nut {count}", nut, group, facing((x, -12, sign * 97), (0, -1, 0), x))

    # The cut web between cylinders 1 and 2 shows its bearing cap's studs.
    shell = ring(31.5, 28.2, -9.0, 9.0, 40, "x", bevel=0.0)
    bearing = engine.piece((shell, "Brass"))
    for number, x in enumerate(dim.JOURNALS, start=1):
        engine.place(f"Main bearing {number}", bearing, group, translation(x))


def _pan_ring(y: float, half_z: float, back: float, front: float, radius: float) -> Array:
    outline = rounded_rectangle(2 * half_z, front - back, radius, step=15.0) + np.array([0.0, (front + back) / 2])
    return along("y", outline, y)


def _oil_pan(engine: Assembly, group: int) -> None:
    rows = [
        # inside, from its floor up, then outside down again
        (-94.0, 74.0, -186.0, 172.0, 14.0),
        (-70.0, 81.0, -192.0, 188.0, 14.0),
        (-63.4, 82.0, -194.0, 190.0, 14.0),
        (-63.4, 101.0, -202.5, 202.5, 10.0),
        (-64.2, 102.5, -203.6, 203.6, 10.0),
        (-72.0, 102.5, -203.6, 203.6, 10.0),
        (-73.2, 101.0, -202.5, 202.5, 10.0),
        (-74.5, 92.0, -198.0, 198.0, 16.0),
        (-78.0, 90.0, -196.0, 196.0, 16.0),
        (-112.0, 84.0, -190.0, 176.0, 22.0),
        (-122.0, 80.0, -188.0, 150.0, 26.0),
        (-130.0, 77.0, -186.0, 90.0, 28.0),
        (-176.0, 70.0, -178.0, 66.0, 28.0),
        (-182.5, 66.0, -174.0, 62.0, 25.0),
        (-185.0, 60.0, -168.0, 56.0, 20.0),
    ]
    pan = loft([_pan_ring(*row) for row in rows])
    engine.add("Sump", group, (pan, "Cast aluminium"), crease=30.0)
    oil = extrude(rounded_rectangle(150.0, 366.0, 12.0) + np.array([0.0, -6.0]), -93.0, -84.0, "y", bevel=0.0)
    engine.add("Oil", group, (oil, "Engine oil"))
    ribs = []
    for x in np.arange(-150.0, 50.0, 18.0):
        for sign in (1, -1):
            ribs.append(capsule((x, -172, sign * 70.0), (x, -84, sign * 88.5), 2.6, 6))
    for x in np.arange(66.0, 180.0, 18.0):
        for sign in (1, -1):
            ribs.append(capsule((x, -110, sign * 83.5), (x, -84, sign * 88.5), 2.6, 6))
    for z in np.arange(-48.0, 49.0, 16.0):
        ribs.append(capsule((-160, -185, z), (48, -185, z), 2.6, 6))
    engine.add("Cooling ribs", group, (join(ribs), "Cast aluminium"))
    bolt = engine.piece((flange_bolt(6.5), "Yellow zinc"))
    count = 0
    for x in np.arange(-186.0, 187.0, 31.0):
        for sign in (1, -1):
            count += 1
            engine.place(f"Pan bolt {count}", bolt, group, facing((x, -73.4, sign * 97), (0, -1, 0), x))
    drain = join([ring(13, 5, 0, 2, 28, "y", 0.3), extrude(circle(10.5, 6), 2, 10, bevel=1.0)])
    engine.add("Drain plug", group, (drain.transformed(facing((-150, -165, 73.5), (0, -0.15, 1))), "Brass"))


def _web_outline() -> Array:
    """A crank web with counterweight in (y, z), the throw toward +y."""
    pin = arc((dim.CRANK_RADIUS, 0.0), 32.0, -80, 80, 14)
    weight = arc((0.0, 0.0), 72.0, 122, 238, 26)
    points = np.concatenate([pin, [(4.0, 36.0)], weight, [(4.0, -36.0)]])
    radii = [0.0] * len(pin) + [14.0] + [3.0] + [0.0] * (len(weight) - 2) + [3.0] + [14.0]
    return fillet(points, radii, closed=True, step=15.0)


def _crankshaft(engine: Assembly, parent: int) -> None:
    group = engine.group("Crankshaft", parent, rotation("x", dim.CRANK_ANGLE))
    journal = engine.piece((lathe([(0, -18), (28, -18), (28, 18), (0, 18)], 40, "x"), "Machined steel"))
    for number, x in enumerate(dim.JOURNALS, start=1):
        engine.place(f"Main journal {number}", journal, group, translation(x))
    cheek = engine.piece((extrude(_web_outline(), -8.5, 8.5, "x", bevel=2.2, segments=2), "Dark steel"))
    crank_pin = engine.piece((lathe([(0, -16), (24, -16), (24, 16), (0, 16)], 36, "x"), "Machined steel"))
    for number, (x, throw) in enumerate(zip(dim.CYLINDERS, dim.CRANK_THROWS, strict=True), start=1):
        turn = rotation("x", throw)
        engine.place(f"Crank pin {number}", crank_pin, group, translation(x) @ turn @ translation(y=dim.CRANK_RADIUS))
        for side, offset in (("front", 22.0), ("rear", -22.0)):
            engine.place(f"Web {number} {side}", cheek, group, translation(x + offset) @ turn)
    snout = lathe([(0, 200), (24, 200), (24, 212), (19, 214), (19, 272), (0, 272)], 36, "x", bevel=1.0)
    engine.add("Snout", group, (snout, "Machined steel"))
    flange = lathe([(0, -222), (44, -222), (44, -206), (36, -200), (0, -200)], 44, "x", bevel=1.2)
    engine.add("Rear flange", group, (flange, "Machined steel"))


def _rod_piece(engine: Assembly) -> tuple[Piece, Piece]:
    big = ring(36.0, 25.0, -10.5, 10.5, 34, "x", bevel=1.0)
    small = ring(17.5, 11.2, -10.5, 10.5, 24, "x", bevel=0.9).moved(y=dim.ROD_LENGTH)
    beam_edge = [(30.0, -15.0), (60, -11.5), (dim.ROD_LENGTH - 14, -8.5)]
    mirrored = [(y, -z) for y, z in beam_edge[::-1]]
    beam = extrude([*beam_edge, *mirrored], -3.2, 3.2, "x", bevel=0.6)
    flanges = []
    for sign in (1, -1):
        rail = [(y, sign * abs(z)) for y, z in beam_edge]
        inner = [(y, sign * (abs(z) - 4.0)) for y, z in beam_edge[::-1]]
        flanges.append(extrude([*rail, *inner], -8.0, 8.0, "x", bevel=0.9))
    ears = [
        extrude(rounded_rectangle(46.0, 16.0, 4.0) + np.array([0.0, sign * 37.0]), -10.0, 10.0, "x", bevel=1.2)
        for sign in (1, -1)
    ]
    body = join([big, small, beam, *flanges, *ears])
    shells = join(
        [
            ring(25.2, 23.9, -10.8, 10.8, 36, "x", 0.0),
            ring(11.4, 10.4, -10.8, 10.8, 24, "x", 0.0).moved(y=dim.ROD_LENGTH),
        ]
    )
    split = join(
        [
            extrude(rounded_rectangle(0.9, 13.0, 0.3) + np.array([0.0, sign * 38.2]), -10.4, 10.4, "x", bevel=0.1)
            for sign in (1, -1)
        ]
    )
    return (
        engine.piece((body, "Machined steel"), (shells, "Brass"), (split, "Dark steel")),
        engine.piece((socket_screw(9.0), "Dark steel")),
    )


def _piston_body() -> Mesh:
    """The piston about its pin: crown up, three ring grooves, a hollow skirt."""
    radius = dim.BORE_RADIUS - 0.45
    profile: list[tuple[float, float]] = [(0.0, 18.0), (33.0, 18.0), (38.5, 12.0), (38.5, -24.0), (radius - 0.4, -24.0)]
    profile += [(radius, -22.0), (radius, 5.0)]
    for groove in (6.5, 14.0, 20.8):
        profile += [(radius, groove), (radius - 3.2, groove), (radius - 3.2, groove + 2.6), (radius, groove + 2.6)]
    profile += [(radius, 29.4), (radius - 1.6, dim.PISTON_CROWN), (29.0, dim.PISTON_CROWN)]
    profile += [(26.0, dim.PISTON_CROWN - 3.0), (0.0, dim.PISTON_CROWN - 3.6)]
    return lathe(profile, 46)


def _pistons(engine: Assembly, group: int) -> None:
    rod_piece, rod_bolt = _rod_piece(engine)
    bosses = join([ring(15.0, 10.4, x - 9, x + 9, 24, "x", 0.0) for x in (-25.0, 25.0)])
    piston = engine.piece((join([_piston_body(), bosses]), "Machined aluminium"))
    radius = dim.BORE_RADIUS - 0.1
    compression = engine.piece((ring(radius, radius - 3.0, 0.15, 2.3, 46, "y", 0.0), "Dark steel"))
    oil = engine.piece(
        (join([ring(radius, radius - 3.0, 0.1 + k, 0.75 + k, 40, "y", 0.0) for k in (0.0, 1.6)]), "Brass")
    )
    pin = engine.piece((ring(10.3, 6.0, -36.0, 36.0, 24, "x", 0.0), "Polished aluminium"))
    for cylinder, x in enumerate(dim.CYLINDERS):
        height, y, z = dim.piston_pin(cylinder)
        number = cylinder + 1
        unit = engine.group(f"Cylinder {number}", group)
        placed = translation(x, height)
        engine.place("Piston", piston, unit, placed)
        engine.place("Oil ring", oil, unit, placed @ translation(y=6.5))
        engine.place("Second ring", compression, unit, placed @ translation(y=14.0))
        engine.place("Top ring", compression, unit, placed @ translation(y=20.8))
        engine.place("Piston pin", pin, unit, placed)
        frame = facing((x, y, z), (0.0, height - y, -z))
        engine.place("Connecting rod", rod_piece, unit, frame)
        for side, offset in (("left", -38.5), ("right", 38.5)):
            turned = frame @ facing((0.0, -23.0, offset), (0.0, -1.0, 0.0))
            engine.place(f"Rod bolt {side}", rod_bolt, unit, turned)


def _flywheel(engine: Assembly, group: int) -> None:
    body = lathe(
        [
            (44.0, -222),
            (44, -232),
            (118, -232),
            (126, -226),
            (126, -222),
            (136, -222),
            (136, -246),
            (128, -250),
            (60, -250),
            (52, -244),
            (30, -244),
            (30, -222),
        ],
        72,
        "x",
        closed=True,
        bevel=0.8,
    )
    engine.add("Flywheel", group, (body, "Machined steel"))
    teeth = extrude(
        gear_outline(104, 137.0, 142.0, 0.3, 0.2), -240.0, -226.0, "x", holes=[circle(134.0, 64)], bevel=0.0
    )
    engine.add("Ring gear", group, (teeth, "Dark steel"))
    bolt = engine.piece((washer_bolt(9.0), "Yellow zinc"))
    for number, (y, z) in enumerate(dim.bolt_circle(41.0, 8), start=1):
        engine.place(f"Flywheel bolt {number}", bolt, group, facing((-244, y, z), (-1, 0, 0)))
    small = engine.piece((socket_screw(7.0), "Dark steel"))
    for number, (y, z) in enumerate(dim.bolt_circle(112.0, 12), start=1):
        engine.place(f"Clutch dowel {number}", small, group, facing((-249.5, y, z), (-1, 0, 0)))
    plate = extrude(
        fillet([(-60, -112), (-60, 112), (90, 112), (170, 70), (170, -70), (90, -112)], 24, closed=True),
        -209.0,
        -200.0,
        "x",
        holes=[circle(48.0, 48)],
        bevel=1.4,
    )
    engine.add("Rear plate", group, (plate, "Cast aluminium"))
    seal = ring(50.0, 37.0, -212.0, -206.0, 48, "x", 1.0)
    engine.add("Rear seal", group, (seal, "Rubber"))
    edge = engine.piece((flange_bolt(8.0), "Yellow zinc"))
    for number, (y, z) in enumerate([(-45, 98), (-45, -98), (20, 102), (20, -102), (80, 102), (80, -102)], start=1):
        engine.place(f"Rear plate bolt {number}", edge, group, facing((-209, y, z), (-1, 0, 0)))
