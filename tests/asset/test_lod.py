"""Levels of detail: fewer triangles, honest and rising errors, the part's own vertices first, fitting normals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from farframe.asset import geometry, lod
from farframe.asset.gltf import read_gltf
from farframe.asset.model import VERTEX_DTYPE, Level, Material, Model, Node, Part, Texture, TextureSlot
from farframe.protocol.link import LoadLimits


def sphere(rings: int):
    """A unit sphere with a seam and without pole caps: (n, 3) positions and indices, counter-clockwise."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 2 * rings + 1), np.linspace(0.05, np.pi - 0.05, rings + 1))
    places = np.stack([np.cos(u) * np.sin(v), np.cos(v), -np.sin(u) * np.sin(v)], axis=-1).reshape(-1, 3)
    across = 2 * rings + 1
    # Bit-equal along the seam, as a sound exporter writes it.
    places = places.reshape(-1, across, 3)
    places[:, -1] = places[:, 0]
    places = places.reshape(-1, 3).astype(np.float32)
    first = (np.arange(rings)[:, None] * across + np.arange(2 * rings)).ravel()
    corners = [first, first + across, first + 1, first + 1, first + across, first + across + 1]
    return places, np.stack(corners, axis=1).ravel().astype(np.uint32)


def one_part(places, indices, *, flat=False, material=None, textures=(), colors=255) -> Model:
    if flat:
        places, indices = places[indices], np.arange(len(indices), dtype=np.uint32)
        normals = np.repeat(geometry.normalized_rows(geometry.face_normals(places, indices)), 3, axis=0)
    else:
        normals = geometry.smooth_normals(places, indices)
    vertices = np.zeros(len(places), dtype=VERTEX_DTYPE)
    vertices["position"] = places
    vertices["normal"] = geometry.pack_directions(normals)
    vertices["color"] = colors
    low, high = tuple(places.min(axis=0).tolist()), tuple(places.max(axis=0).tolist())
    return Model(
        name="one",
        vertices=vertices,
        indices=indices,
        parts=[Part(0, len(vertices), (Level(0, len(indices), 0.0),), 0, low, high)],
        materials=[material or Material()],
        textures=list(textures),
        nodes=[Node("node", -1, np.eye(4))],
        instance_part=np.zeros(1, dtype=np.int32),
        instance_node=np.zeros(1, dtype=np.int32),
        instance_matrix=np.eye(4)[None],
        bounds_min=low,
        bounds_max=high,
    )


def chamfered_disc(segments: int, radius=1.0, height=0.2, chamfer=0.02, inner=0.0):
    """A disc (or a ring) of flat faces with a chamfered edge: each band has normals, and so vertices, of its own."""
    profile = [(inner, height), (radius - chamfer, height), (radius, height - chamfer), (radius, chamfer)]
    profile += [(radius - chamfer, 0.0), (inner, 0.0)]
    if inner:
        profile.append((inner, height))
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    angle[-1] = 0.0
    around = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    places, normals, indices = [], [], []
    for (r0, y0), (r1, y1) in itertools.pairwise(profile):
        across = np.array([y0 - y1, r1 - r0]) / np.hypot(r1 - r0, y1 - y0)
        first = sum(len(each) for each in places)
        for radius_here, y in ((r0, y0), (r1, y1)):
            places.append(np.stack([around[:, 0] * radius_here, np.full(len(angle), y), around[:, 1] * radius_here], 1))
            outward = np.stack([around[:, 0] * across[0], np.full(len(angle), across[1]), around[:, 1] * across[0]], 1)
            normals.append(outward)
        a = first + np.arange(segments)
        b = a + len(angle)
        bands = np.stack([a, b, b + 1, a, b + 1, a + 1], axis=1).reshape(-1, 3)
        indices.append(bands)
    found = np.concatenate(places).astype(np.float32)
    corners = np.concatenate(indices)
    distinct = found[corners]
    flat = (distinct[:, 0] == distinct[:, 1]).all(1) | (distinct[:, 1] == distinct[:, 2]).all(1)
    flat |= (distinct[:, 2] == distinct[:, 0]).all(1)
    model = one_part(found, corners[~flat].ravel().astype(np.uint32))
    model.vertices["normal"] = geometry.pack_directions(np.concatenate(normals).astype(np.float32))
    return model


def misfit(model, level, part=0):
    """The share of a level's area, a third of it for each corner, whose normal is over 30 degrees off its triangle."""
    vertices = vertices_of(model, model.parts[part])
    corners = level_triangles(model, level, part)
    faces = geometry.face_normals(vertices["position"], corners.ravel().astype(np.uint32))
    normals = vertices["normal"][corners][..., :3].astype(np.float64) / 127
    fit = np.einsum("tki,ti->tk", normals, geometry.normalized_rows(faces))
    area = np.linalg.norm(faces, axis=1)
    return float((area[:, None] * (fit < np.cos(np.radians(30)))).sum() / (3 * area.sum()))


def vertices_of(model, part):
    return model.vertices[part.first_vertex : part.first_vertex + part.vertex_count]


def level_triangles(model, level, part=0):
    """(triangles, 3) vertex numbers of a part's level, each triangle turned so that its least number is first."""
    found = model.indices[level.first_index : level.first_index + level.index_count].reshape(-1, 3)
    turns = found.argmin(axis=1)
    return np.stack([found[np.arange(len(found)), (turns + k) % 3] for k in range(3)], axis=1)


def check_levels(model):
    end = 0
    for part in model.parts:
        for level in part.levels:
            assert level.first_index == end
            end += level.index_count
            assert level.index_count % 3 == 0
            assert level.index_count > 0
            indices = model.indices[level.first_index : end]
            assert int(indices.max()) < part.vertex_count
        for finer, coarser in itertools.pairwise(part.levels):
            assert coarser.index_count < finer.index_count
            assert coarser.error > finer.error
        assert part.levels[0].error == 0.0
    assert end == len(model.indices)


def test_a_real_model(models_folder):
    model = read_gltf(models_folder / "2CylinderEngine.glb", LoadLimits())
    seen = []
    built = lod.build_levels(model, lambda stage, fraction: seen.append(fraction))
    check_levels(built)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    first_vertex = 0
    for before, part in zip(model.parts, built.parts, strict=True):
        assert part.first_vertex == first_vertex
        first_vertex += part.vertex_count
        own = slice(part.first_vertex, part.first_vertex + before.vertex_count)
        assert (built.vertices[own] == vertices_of(model, before)).all()
        full = part.levels[0]
        indices = built.indices[full.first_index : full.first_index + full.index_count]
        assert int(indices.max()) < before.vertex_count
    assert first_vertex == len(built.vertices)
    assert built.triangle_count == model.triangle_count
    for part in built.parts:
        if part.levels[0].index_count >= 1_000 * 3:
            assert len(part.levels) >= 3
        if part.levels[0].index_count < 64 * 3:
            assert len(part.levels) == 1
    finest = sum(part.levels[0].index_count for part in built.parts)
    coarsest = sum(part.levels[-1].index_count for part in built.parts)
    assert coarsest < finest / 8


def test_the_full_level_keeps_its_triangles(models_folder):
    model = read_gltf(models_folder / "Duck.glb", LoadLimits())
    built = lod.build_levels(model)
    before = level_triangles(model, model.parts[0].levels[0])
    after = level_triangles(built, built.parts[0].levels[0])
    assert sorted(before.tolist()) == sorted(after.tolist())


@pytest.mark.parametrize("flat", [False, True])
def test_errors_are_distances_to_the_full_surface(flat):
    built = lod.build_levels(one_part(*sphere(60), flat=flat))
    check_levels(built)
    levels = built.parts[0].levels
    assert levels[-1].index_count <= 3 * 100
    assert len(levels) >= 5
    for level in levels[1:]:
        corners = built.vertices["position"][level_triangles(built, level)].astype(np.float64)
        # A sphere: a flat triangle is farthest from it at its middle, but for the two open caps.
        middle = np.linalg.norm(corners.mean(axis=1), axis=1)
        inner = np.abs(corners[:, :, 1]).max(axis=1) < 0.8
        assert (1.0 - middle[inner]).max(initial=0.0) <= 2.0 * level.error + 2e-3


def test_flat_parts_keep_fitting_normals():
    built = lod.build_levels(one_part(*sphere(40), flat=True))
    level = built.parts[0].levels[2]
    corners = level_triangles(built, level)
    faces = geometry.normalized_rows(
        geometry.face_normals(built.vertices["position"], corners.ravel().astype(np.uint32))
    )
    normals = built.vertices["normal"][corners][..., :3].astype(np.float64) / 127
    assert (np.einsum("tki,ti->tk", normals, faces) > 0.7).mean() > 0.98


def test_a_flat_face_stays_flat_when_its_chamfer_is_gone():
    built = lod.build_levels(chamfered_disc(200))
    check_levels(built)
    assert misfit(built, built.parts[0].levels[0]) == 0.0
    assert len(built.parts[0].levels) >= 3
    for level in built.parts[0].levels[1:]:
        assert misfit(built, level) < 0.01
    added = built.vertices[len(chamfered_disc(200).vertices) :]
    assert 0 < len(added) < built.parts[0].levels[1].index_count
    assert (np.abs(np.linalg.norm(added["normal"][:, :3] / 127.0, axis=1) - 1.0) < 0.02).all()


def test_normals_stay_on_their_side_of_triangles_that_face_inwards():
    model = chamfered_disc(200)
    model.indices = np.ascontiguousarray(model.indices.reshape(-1, 3)[:, ::-1]).reshape(-1)
    built = lod.build_levels(model)
    assert len(built.vertices) > len(model.vertices)
    level = built.parts[0].levels[2]
    assert misfit(built, level) > 0.99
    built.indices = np.ascontiguousarray(built.indices.reshape(-1, 3)[:, ::-1]).reshape(-1)
    assert misfit(built, level) < 0.01


def test_normals_that_do_not_follow_the_surface_are_left_alone():
    model = one_part(*sphere(40))
    model.vertices["normal"] = (0, 127, 0, 0)
    built = lod.build_levels(model)
    assert len(built.parts[0].levels) > 3
    assert (built.vertices == model.vertices).all()


def test_a_place_where_very_many_triangles_meet():
    model = chamfered_disc(3_000, inner=0.0)
    # A steep cone: its tip is one place with a normal for each triangle, none of which fits another.
    tip = np.linalg.norm(model.vertices["position"][:, ::2], axis=1) == 0.0
    model.vertices["position"][tip, 1] *= 20
    corners = model.indices.reshape(-1, 3)
    faces = geometry.normalized_rows(geometry.face_normals(model.vertices["position"], model.indices))
    model.vertices["normal"][corners] = geometry.pack_directions(faces)[:, None]
    built = lod.build_levels(model)
    check_levels(built)
    assert misfit(built, built.parts[0].levels[1]) < 0.02


def test_thin_parts_stay_in_full_until_they_are_small_as_a_whole():
    thin = chamfered_disc(80, height=0.02, chamfer=0.002, inner=0.9)
    assert thin.parts[0].levels[0].index_count <= lod.THIN_TRIANGLES * 3
    levels = lod.build_levels(thin).parts[0].levels
    assert len(levels) > 1
    assert levels[1].error >= 2.0 * lod.THIN_EXTENT_ERROR
    check_levels(lod.build_levels(thin))

    for other in (
        chamfered_disc(80, height=0.2, chamfer=0.002, inner=0.5),  # thick
        chamfered_disc(400, height=0.02, chamfer=0.002, inner=0.9),  # worth simplifying
    ):
        assert lod.build_levels(other).parts[0].levels[1].error < 0.5 * lod.THIN_EXTENT_ERROR


def test_textures_and_colors_are_not_torn_by_welding():
    textured = Material(base_color_texture=TextureSlot(0))
    texture = Texture(np.zeros((1, 1, 4), dtype=np.uint8), srgb=True)
    places, indices = sphere(20)
    plain = lod.build_levels(one_part(places, indices, flat=True))
    with_texture = lod.build_levels(one_part(places, indices, flat=True, material=textured, textures=[texture]))
    colors = np.random.default_rng(1).integers(0, 255, (len(indices), 4), dtype=np.uint8)
    with_colors = lod.build_levels(one_part(places, indices, flat=True, colors=colors))
    assert len(plain.parts[0].levels) > 2
    assert len(with_texture.parts[0].levels) == 1
    assert len(with_colors.parts[0].levels) == 1


def test_a_part_without_extent_gets_no_levels():
    built = lod.build_levels(one_part(np.zeros((300, 3), dtype=np.float32), np.arange(300, dtype=np.uint32)))
    assert len(built.parts[0].levels) == 1


def test_when_time_is_up_the_rest_goes_without(models_folder):
    model = read_gltf(models_folder / "2CylinderEngine.glb", LoadLimits())
    clock = iter(range(10_000_000))
    built = lod.build_levels(model, max_seconds=5, clock=lambda: next(clock))
    check_levels(built)
    assert built.triangle_count == model.triangle_count
    assert any("took too long" in each for each in built.warnings)
    assert model.warnings == ["1 camera left out."]
    assert any(len(part.levels) == 1 for part in built.parts if part.levels[0].index_count >= 3_000)


def test_an_empty_model():
    model = one_part(*sphere(4))
    model.parts, model.instance_part, model.indices = [], model.instance_part[:0], model.indices[:0]
    assert lod.build_levels(model).parts == []
