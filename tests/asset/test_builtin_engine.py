"""The generated engine: what it promises to demos and benchmarks, and that every body in it is a sound solid."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.builtin import dimensions as dim
from farframe.asset.builtin.curves import Pulley, belt_run, circle, fillet, gear_outline, signed_area, slot_outline
from farframe.asset.builtin.lettering import text
from farframe.asset.builtin.mesh import Mesh, facing, join, rotation, shade
from farframe.asset.builtin.primitives import extrude, lathe, loft, rod, rounded_box, spring, triangulate, tube
from farframe.asset.builtin_engine import build_engine
from farframe.asset.model import VERTEX_DTYPE, Model, Part


@pytest.fixture(scope="module")
def model() -> Model:
    return build_engine()


def _triangles(model: Model, part: Part) -> NDArray[np.int64]:
    level = part.levels[0]
    return model.indices[level.first_index : level.first_index + level.index_count].reshape(-1, 3).astype(np.int64)


def _block(model: Model, part: Part) -> NDArray[np.void]:
    return model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]


def _open_edges(positions: NDArray[np.floating], faces: NDArray[np.int64]) -> int:
    """How many directed edges have no partner in the other direction, vertices joined by position."""
    _, joined = np.unique(np.asarray(positions, np.float32), axis=0, return_inverse=True)
    t = joined.reshape(-1)[faces]
    t = t[(t[:, 0] != t[:, 1]) & (t[:, 1] != t[:, 2]) & (t[:, 2] != t[:, 0])]
    edges = Counter(map(tuple, np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]]).tolist()))
    return sum(max(0, count - edges.get((b, a), 0)) for (a, b), count in edges.items())


def _bodies(model: Model) -> dict[tuple[int, ...], str]:
    """The distinct sets of parts that nodes carry: a casting and its painted cut faces make one closed body."""
    by_node: dict[int, list[int]] = defaultdict(list)
    for part, node in zip(model.instance_part, model.instance_node, strict=True):
        by_node[int(node)].append(int(part))
    return {tuple(parts): model.nodes[node].name for node, parts in by_node.items()}


def test_size_promised_to_demos_and_benchmarks(model: Model) -> None:
    assert len(model.instance_part) >= 300
    assert 200_000 <= model.triangle_count <= 320_000
    assert len(model.parts) < len(model.instance_part) / 2, "many instances share a part"
    assert model.warnings == []
    assert model.textures == []


def test_about_as_large_as_an_engine_and_centred(model: Model) -> None:
    low, high = np.array(model.bounds_min), np.array(model.bounds_max)
    np.testing.assert_allclose(low, -high, atol=1e-9)
    assert (high - low > 0.4).all() and (high - low < 0.8).all()
    corners_low, corners_high = np.full(3, np.inf), np.full(3, -np.inf)
    for part, matrix in zip(model.instance_part, model.instance_matrix, strict=True):
        points = _block(model, model.parts[part])["position"] @ matrix[:3, :3].T + matrix[:3, 3]
        corners_low = np.minimum(corners_low, points.min(axis=0))
        corners_high = np.maximum(corners_high, points.max(axis=0))
    np.testing.assert_allclose(corners_low, low, atol=1e-6)
    np.testing.assert_allclose(corners_high, high, atol=1e-6)


def test_one_root_and_a_named_hierarchy(model: Model) -> None:
    assert [node.parent for node in model.nodes].count(-1) == 1
    assert model.nodes[0].parent == -1 and model.nodes[0].name == "Engine"
    assert all(node.parent < number for number, node in enumerate(model.nodes))
    assert all(node.name for node in model.nodes)

    def path(number: int) -> str:
        node = model.nodes[number]
        return node.name if node.parent < 0 else f"{path(node.parent)}/{node.name}"

    paths = [path(number) for number in range(len(model.nodes))]
    assert "Engine/Top end/Valvetrain/Intake camshaft/Lobe 3" in paths
    assert "Engine/Bottom end/Pistons and rods/Cylinder 1/Piston" in paths
    assert len({p.split("/")[1] for p in paths if "/" in p}) >= 6
    siblings = Counter((node.parent, node.name) for node in model.nodes)
    repeated = [name for (_, name), count in siblings.items() if count > 1]
    assert repeated == [], "siblings have names of their own"


def test_instances_stand_where_their_nodes_say(model: Model) -> None:
    world: list[NDArray[np.float64]] = []
    for node in model.nodes:
        world.append(node.matrix if node.parent < 0 else world[node.parent] @ node.matrix)
    np.testing.assert_allclose(model.instance_matrix, np.stack(world)[model.instance_node], atol=1e-12)
    linear = model.instance_matrix[:, :3, :3]
    identity = np.broadcast_to(np.eye(3), linear.shape)
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), identity, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(linear), 1.0, atol=1e-9)


def test_arrays_are_whole(model: Model) -> None:
    assert model.vertices.dtype == VERTEX_DTYPE
    assert model.indices.dtype == np.uint32
    next_vertex = next_index = 0
    for part in model.parts:
        assert part.first_vertex == next_vertex
        assert part.levels[0].first_index == next_index
        assert part.levels[0].error == 0.0 and part.levels[0].index_count > 0
        assert 0 <= part.material < len(model.materials)
        used = np.unique(_triangles(model, part))
        assert used[0] == 0 and used[-1] == part.vertex_count - 1 and len(used) == part.vertex_count
        positions = _block(model, part)["position"]
        np.testing.assert_allclose(positions.min(axis=0), part.bounds_min, atol=1e-7)
        np.testing.assert_allclose(positions.max(axis=0), part.bounds_max, atol=1e-7)
        next_vertex += part.vertex_count
        next_index += part.levels[0].index_count
    assert next_vertex == len(model.vertices) and next_index == len(model.indices)
    assert set(range(len(model.parts))) == set(model.instance_part.tolist()), "no part lies unused in stock"
    assert {part.material for part in model.parts} == set(range(len(model.materials)))


def test_every_body_is_closed_and_wound_outward(model: Model) -> None:
    for parts, name in _bodies(model).items():
        offset, positions, faces = 0, [], []
        for number in parts:
            block = _block(model, model.parts[number])
            positions.append(block["position"].astype(np.float64))
            faces.append(_triangles(model, model.parts[number]) + offset)
            offset += len(block)
        p, f = np.concatenate(positions), np.concatenate(faces)
        assert _open_edges(p, f) == 0, f"{name} is not closed"
        a, b, c = (p[f[:, k]] - p.mean(axis=0) for k in range(3))
        assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() > 0, f"{name} is inside out"


def test_normals_and_tangents_are_unit_and_agree_with_the_winding(model: Model) -> None:
    normals = model.vertices["normal"][:, :3].astype(np.float64) / 127
    tangents = model.vertices["tangent"][:, :3].astype(np.float64) / 127
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=0.012)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=1), 1.0, atol=0.012)
    assert np.abs(np.einsum("ij,ij->i", normals, tangents)).max() < 0.02
    assert set(np.unique(model.vertices["tangent"][:, 3]).tolist()) == {127}
    for part in model.parts:
        block, faces = _block(model, part), _triangles(model, part)
        a, b, c = (block["position"][faces[:, k]].astype(np.float64) for k in range(3))
        face = np.cross(b - a, c - a)
        face /= np.linalg.norm(face, axis=1, keepdims=True)
        corner = block["normal"][faces][:, :, :3].astype(np.float64) / 127
        assert np.einsum("ij,ikj->ik", face, corner).min() > 0.0


def test_hardly_a_triangle_is_wasted(model: Model) -> None:
    small = total = 0
    for part, count in Counter(model.instance_part.tolist()).items():
        block, faces = _block(model, model.parts[part]), _triangles(model, model.parts[part])
        a, b, c = (block["position"][faces[:, k]].astype(np.float64) for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        assert area.min() > 0.0
        small += count * int((area < 1e-9).sum())  # a thousandth of a square millimetre
        total += count * len(faces)
    assert small / total < 0.01


def test_materials_are_varied_and_physical(model: Model) -> None:
    assert len(model.materials) >= 15
    for material in model.materials:
        assert material.metallic in (0.0, 1.0)
        assert 0.04 <= material.roughness <= 1.0
        assert all(0.0 <= channel <= 1.0 for channel in material.base_color)
        assert material.alpha_mode == "opaque" and not material.double_sided
    tinted = (model.vertices["color"][:, :3] != 255).any(axis=1)
    assert 0.005 < tinted.mean() < 0.2, "the exhaust's temper colours are vertex colours"
    assert (model.vertices["color"][:, 3] == 255).all()


def test_the_same_bytes_every_time(model: Model) -> None:
    def digest(m: Model) -> str:
        arrays = (m.vertices, m.indices, m.instance_part, m.instance_node, m.instance_matrix)
        return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()

    again = build_engine()
    assert digest(again) == digest(model)
    assert [node.name for node in again.nodes] == [node.name for node in model.nodes]
    assert again.materials == model.materials and again.parts == model.parts


def test_each_call_gives_a_model_of_its_own(model: Model) -> None:
    other = build_engine()
    other.vertices["position"][:] = 0
    other.materials[0].name = "changed"
    assert np.abs(model.vertices["position"]).max() > 0
    assert build_engine().materials[0].name != "changed"


def test_the_mechanism_moves_as_an_engine_does(model: Model) -> None:
    heights = [dim.piston_pin(cylinder)[0] for cylinder in range(4)]
    assert heights[0] == pytest.approx(heights[3]) and heights[1] == pytest.approx(heights[2])
    assert abs(heights[0] - heights[1]) > 40, "the cutaway shows one piston high and one low"
    for cylinder in range(4):
        height, y, z = dim.piston_pin(cylinder)
        assert np.hypot(height - y, z) == pytest.approx(dim.ROD_LENGTH)
        assert height + dim.PISTON_CROWN <= dim.DECK
    assert dim.valve_lift(0.0) == pytest.approx(dim.LOBE_OFFSET + dim.LOBE_NOSE - dim.LOBE_BASE, abs=0.05)
    assert dim.valve_lift(180.0) == pytest.approx(0.0, abs=0.05)

    lifted = 0
    for node in model.nodes:
        if node.name == "Valve":
            depth = -node.matrix[1, 3]
            assert -1e-9 <= depth <= 0.0095
            lifted += depth > 0.001
    assert 2 <= lifted <= 8, "at any time some of the sixteen valves are open, never most"


def _sound(mesh: Mesh, volume: float, tolerance: float) -> None:
    assert _open_edges(mesh.positions, mesh.triangles) == 0
    assert mesh.volume() == pytest.approx(volume, rel=tolerance)


def test_primitives_enclose_the_volume_that_they_should() -> None:
    _sound(lathe([(0, 0), (10, 0), (10, 5), (0, 5)], 64), np.pi * 100 * 5, 0.01)
    _sound(lathe([(10, 0), (10, 5), (6, 5), (6, 0)], 64, "x", closed=True), np.pi * (100 - 36) * 5, 0.01)
    square = [(0, 0), (20, 0), (20, 20), (0, 20)]
    _sound(extrude(square, 0, 10, "z", holes=[circle(5, 48, (10, 10))], bevel=0), (400 - np.pi * 25) * 10, 0.01)
    # A chamfer takes half a square's area off each of the outline's eight edges, less where they meet.
    assert 3900 < extrude(square, 0, 10, "z", bevel=1.0).volume() < 4000 - 8 * 20 * 0.5 + 20
    _sound(rounded_box((10, 20, 30), 0.01, 1), 6000, 0.01)
    _sound(rod(np.array([(0, 0, 0), (0, 0, 50)]), 4.0, 64), np.pi * 16 * 50, 0.01)
    _sound(tube(np.array([(0, 0, 0), (0, 0, 25), (0, 0, 50)]), 5.0, 1.0, 64), np.pi * (25 - 16) * 50, 0.01)
    wire = spring(10, 1, 30, 5, steps=32, segments=24)
    assert _open_edges(wire.positions, wire.triangles) == 0
    assert wire.volume() == pytest.approx(np.pi * 2 * np.pi * 10 * 5, rel=0.03)
    name = text("FARFRAME", 20.0, 3.0, np.eye(4))
    assert _open_edges(name.positions, name.triangles) == 0 and name.volume() > 0


def test_the_axis_does_not_mirror() -> None:
    hooked = np.array([(0, 0), (10, 0), (10, 2), (2, 2), (2, 6), (0, 6)], dtype=np.float64)
    for axis, order in (("z", (0, 1, 2)), ("x", (1, 2, 0)), ("y", (2, 0, 1))):
        mesh = extrude(hooked, 0, 3, axis, bevel=0)
        assert mesh.volume() == pytest.approx(28 * 3)
        np.testing.assert_allclose(mesh.positions.max(axis=0)[list(order)], (10, 6, 3))


@pytest.mark.parametrize("holes", [0, 1, 6])
def test_triangulation_covers_an_outline_with_holes_exactly(holes: int) -> None:
    outline = gear_outline(24, 40, 46)
    inner = [circle(6, 20, (26 * np.cos(a), 26 * np.sin(a)))[::-1] for a in np.arange(holes) * np.pi / 3]
    loops = [outline, *inner]
    points = np.concatenate(loops)
    faces = triangulate(loops)
    a, b, c = (points[faces[:, k]] for k in range(3))
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert (areas > -1e-6).all()
    assert areas.sum() == pytest.approx(sum(signed_area(loop) for loop in loops))
    assert len(faces) == len(points) + 2 * holes - 2


def test_a_mirrored_or_inverted_solid_still_faces_outward() -> None:
    box = rounded_box((10, 20, 30), 1.0, 1)
    mirrored = box.transformed(np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert mirrored.volume() == pytest.approx(box.volume())
    inside_out = Mesh.of(box.positions, box.triangles[:, ::-1])
    assert inside_out.volume() < 0 < inside_out.outward().volume()


def test_shading_keeps_creases_and_smooths_curves() -> None:
    cylinder = lathe([(0, 0), (10, 0), (10, 20), (0, 20)], 48)
    shaded = shade(cylinder, 40.0)
    side = np.abs(shaded.normals[:, 1]) < 0.5
    radial = shaded.positions[side][:, [0, 2]] / 10.0
    np.testing.assert_allclose(shaded.normals[side][:, [0, 2]], radial, atol=0.01)
    np.testing.assert_allclose(np.abs(shaded.normals[~side][:, 1]), 1.0, atol=1e-6)
    faceted = shade(cylinder, 1.0)
    assert len(faceted.positions) > len(shaded.positions)


def test_belt_runs_around_its_pulleys() -> None:
    run = belt_run([Pulley((0.0, 0.0), 10.0), Pulley((100.0, 0.0), 10.0)], step=1.0)
    assert run.length == pytest.approx(200 + 2 * np.pi * 10, rel=1e-3)
    pressed = belt_run([Pulley((0.0, 0.0), 10.0), Pulley((50.0, -15.0), 8.0, back=True), Pulley((100.0, 0.0), 10.0)])
    assert pressed.length > run.length
    distance = np.linalg.norm(pressed.points - (50.0, -15.0), axis=1)
    assert distance.min() == pytest.approx(8.0, abs=1e-6), "the back pulley touches the belt and does not cut it"
    points, normals = run.sampled(100)
    gaps = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    assert gaps.max() / gaps.min() < 1.05
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)


def test_curves_keep_their_measures() -> None:
    assert signed_area(circle(10, 256)) == pytest.approx(np.pi * 100, rel=1e-3)
    assert signed_area(slot_outline(20, 5, 64)) == pytest.approx(20 * 10 + np.pi * 25, rel=1e-3)
    rounded = fillet([(0, 0), (20, 0), (20, 10), (0, 10)], 3.0, closed=True, step=2.0)
    assert signed_area(rounded) == pytest.approx(200 - (4 - np.pi) * 9, rel=1e-3)
    bend = fillet([(0, 0, 0), (50, 0, 0), (50, 50, 0)], 20.0, closed=False, step=1.0)
    length = np.linalg.norm(np.diff(bend, axis=0), axis=1).sum()
    assert length == pytest.approx(60 + np.pi / 2 * 20, rel=1e-3)


def test_placements_turn_the_right_way() -> None:
    np.testing.assert_allclose(rotation("y", 90.0)[:3, :3] @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    for up in ((0, 1, 0), (0, -1, 0), (1, 0, 0), (0, 0, -1), (1, 2, 3)):
        matrix = facing((1, 2, 3), up, 33.0)
        np.testing.assert_allclose(matrix[:3, 1], np.array(up) / np.linalg.norm(up), atol=1e-12)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)
        np.testing.assert_allclose(matrix[:3, 3], (1, 2, 3))


def test_joined_bodies_stay_apart() -> None:
    ring = np.array([(1, 0, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0)], dtype=np.float64)
    prism = loft(np.stack([ring, ring + np.array([0, 0, 2])]))
    both = join([prism, prism.moved(z=5)])
    assert both.volume() == pytest.approx(2 * prism.volume())
    assert len(both.positions) == 2 * len(prism.positions)
