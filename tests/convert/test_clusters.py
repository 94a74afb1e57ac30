"""The graph of clusters: closed on every cut, monotone, and never two of its levels at once."""

from __future__ import annotations

import numpy as np
import pytest

from farframe.asset.format import MAX_CLUSTER_TRIANGLES, NONE
from farframe.asset.gltf import read_gltf
from farframe.convert import build
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits
from tests.convert.surfaces import (
    all_triangles,
    built,
    drawn_clusters,
    good_groups,
    model_of,
    open_edges,
    random_pages,
    sphere,
)

STYLES = {"smooth": {}, "uv": {"uv": True}, "flat": {"flat": True}}


@pytest.fixture(scope="module", params=list(STYLES))
def ball(request, tmp_path_factory):
    """A closed ball of 30,000 triangles, as an asset, and its clusters' triangles."""
    model = model_of(sphere(30_000, **STYLES[request.param]), textured=request.param == "uv")
    asset, report = built(model, tmp_path_factory.mktemp("ball"))
    return model, asset, report, all_triangles(asset)


def test_the_full_surface_is_all_there(ball):
    model, asset, report, triangles = ball
    full = np.flatnonzero(asset.clusters["producer"] == NONE)
    surface = np.concatenate([triangles[i] for i in full])
    assert len(surface) == model.triangle_count == report.triangles == int(asset.parts["triangles"][0])
    source = model.vertices["position"][model.indices].reshape(-1, 3, 3)
    step = float(asset.parts["step"][0])

    def sorted_centers(corners):
        centers = corners.astype(np.float64).mean(axis=1)
        return centers[np.lexsort(np.rint(centers / 1e-3).T)]

    assert abs(sorted_centers(surface).mean(axis=0) - sorted_centers(source).mean(axis=0)).max() < step
    assert open_edges(surface) == 0
    assert (asset.clusters["index_count"] <= 3 * MAX_CLUSTER_TRIANGLES).all()


def test_it_gets_coarse(ball):
    _, asset, report, triangles = ball
    roots = np.flatnonzero(asset.clusters["consumer"] == NONE)
    assert sum(len(triangles[i]) for i in roots) < 0.06 * report.triangles
    assert report.levels > 4
    assert len(asset.groups) == report.groups


def test_errors_and_boxes_hold_those_below(ball):
    _, asset, _, triangles = ball
    clusters, groups = asset.clusters, asset.groups
    inner = (clusters["producer"] != NONE) & (clusters["consumer"] != NONE)
    fine, coarse = groups[clusters["producer"][inner]], groups[clusters["consumer"][inner]]
    assert len(fine) > 10
    assert (fine["error"] <= coarse["error"]).all() and (groups["error"] > 0).all()
    assert (fine["bounds_min"] >= coarse["bounds_min"]).all() and (fine["bounds_max"] <= coarse["bounds_max"]).all()
    for cluster, corners in zip(clusters, triangles, strict=True):
        assert (corners.min(axis=(0, 1)) == cluster["bounds_min"]).all()
        assert (corners.max(axis=(0, 1)) == cluster["bounds_max"]).all()
        for end in ("producer", "consumer"):
            if cluster[end] != NONE:
                group = groups[cluster[end]]
                assert (corners >= group["bounds_min"]).all() and (corners <= group["bounds_max"]).all()


def test_every_cut_is_closed(ball):
    _, asset, _, triangles = ball
    rng = np.random.default_rng(7)
    counts = set()
    for _ in range(25):
        eye = rng.normal(size=3) * rng.uniform(0.2, 1.5)
        cut = drawn_clusters(asset, good_groups(asset, eye, 10 ** rng.uniform(-3.5, -0.5)))
        surface = np.concatenate([triangles[i] for i in cut])
        counts.add(len(surface))
        assert open_edges(surface) == 0
    assert len(counts) > 8


def test_every_state_of_loading_is_closed(ball):
    _, asset, _, triangles = ball
    rng = np.random.default_rng(8)
    counts = set()
    for _ in range(25):
        resident = random_pages(asset, rng, rng.uniform(0, 0.5))
        good = good_groups(asset, rng.normal(size=3) * 3, 10 ** rng.uniform(-6, -2))
        cut = drawn_clusters(asset, good, resident)
        assert resident[asset.page_of_cluster[cut]].all()
        surface = np.concatenate([triangles[i] for i in cut])
        counts.add(len(surface))
        assert open_edges(surface) == 0
    assert len(asset.pages) < 4 or len(counts) > 3


def test_cuts_that_break_the_rule_are_not_closed(ball):
    _, asset, _, triangles = ball
    rng = np.random.default_rng(9)
    broken = 0
    for _ in range(10):
        good = rng.random(len(asset.groups)) < 0.5
        cut = drawn_clusters(asset, good)
        broken += len(cut) > 0 and open_edges(np.concatenate([triangles[i] for i in cut])) > 0
    assert broken > 0


def test_exactly_one_of_all_ways_is_drawn(ball):
    _, asset, _, _ = ball
    rng = np.random.default_rng(10)
    clusters = asset.clusters
    leaves = np.flatnonzero(clusters["producer"] == NONE)
    for _ in range(20):
        drawn = np.zeros(len(clusters), bool)
        drawn[drawn_clusters(asset, good_groups(asset, rng.normal(size=3) * 3, 10 ** rng.uniform(-5, 0)))] = True
        for leaf in rng.choice(leaves, 10):
            cluster, seen = leaf, int(drawn[leaf])
            while clusters["consumer"][cluster] != NONE:
                cluster = rng.choice(np.flatnonzero(clusters["producer"] == clusters["consumer"][cluster]))
                seen += int(drawn[cluster])
            assert seen == 1


def test_cones_cull_nothing_that_faces_the_eye(ball):
    _, asset, _, triangles = ball
    rng = np.random.default_rng(11)
    culled = 0
    for _ in range(20):
        eye = rng.normal(size=3) * 4
        for cluster, corners in zip(asset.clusters, triangles, strict=True):
            cone = cluster["cone"].astype(np.float64)
            if cone[3] == 127:
                continue
            low, high = cluster["bounds_min"].astype(np.float64), cluster["bounds_max"].astype(np.float64)
            center, radius = (low + high) / 2, np.linalg.norm(high - low) / 2
            distance = np.linalg.norm(center - eye)
            if (center - eye) @ cone[:3] / 127 / distance >= cone[3] / 127 + radius / distance:
                culled += 1
                p = corners.astype(np.float64)
                normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
                assert (np.einsum("ij,ij->i", normal, p[:, 0] - eye) >= -1e-12).all()
    assert culled > 5


def test_normals_follow_the_surface_on_every_level(ball):
    _, asset, _, _ = ball
    right = total = 0
    for page in range(len(asset.pages)):
        decoded = asset.decode_page(page, asset.read_page(page))
        for cluster in asset.clusters_of(page):
            first, count = int(cluster["first_index"]), int(cluster["index_count"])
            corners = decoded.vertices[decoded.indices[first : first + count] + cluster["first_vertex"]].reshape(-1, 3)
            p = corners["position"].astype(np.float64)
            face = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
            normal = corners["normal"][..., :3].astype(np.float64).sum(axis=1)
            agree = np.einsum("ij,ij->i", face, normal) > 0
            right, total = right + int(agree.sum()), total + len(agree)
    assert right > 0.98 * total


def test_no_triangle_reaches_across_the_charts(tmp_path):
    asset, _ = built(model_of(sphere(20_000, uv=True), textured=True), tmp_path)
    widest = 0.0
    for page in range(len(asset.pages)):
        decoded = asset.decode_page(page, asset.read_page(page))
        for cluster in asset.clusters_of(page):
            first, count = int(cluster["first_index"]), int(cluster["index_count"])
            indices = decoded.indices[first : first + count] + cluster["first_vertex"]
            uv = decoded.vertices["uv0"][indices].reshape(-1, 3, 2)
            # At the poles all meridians meet.
            uv = uv[(np.abs(uv[..., 1] - 0.5) < 0.35).all(axis=1)]
            if len(uv):
                widest = max(widest, float((uv[..., 0].max(axis=1) - uv[..., 0].min(axis=1)).max()))
    # Across the seam it would be nearly 1.
    assert 0.05 < widest < 0.6


def test_small_parts_share_pages(tmp_path):
    asset, report = built(model_of(*(sphere(200) for _ in range(60))), tmp_path)
    assert len(asset.parts) == 60 and len(asset.pages) < 12
    triangles = all_triangles(asset)
    for part in range(60):
        full = (asset.clusters["part"] == part) & (asset.clusters["producer"] == NONE)
        assert open_edges(np.concatenate([triangles[i] for i in np.flatnonzero(full)])) == 0
    assert report.triangles == int(asset.parts["triangles"].sum())


@pytest.fixture
def small_blocks(monkeypatch):
    """Parts are built in blocks of 6,000 triangles."""
    monkeypatch.setattr(build, "MIN_BLOCK_TRIANGLES", 6_000)
    monkeypatch.setattr(build, "SMALL_MODEL", 0)
    return {"memory_bytes": 1}


@pytest.mark.parametrize("style", list(STYLES))
def test_blocks_meet(style, small_blocks, tmp_path):
    model = model_of(sphere(40_000, **STYLES[style]), sphere(1_000, **STYLES[style]), textured=style == "uv")
    asset, report = built(model, tmp_path, **small_blocks)
    assert report.triangles == model.triangle_count
    assert sorted(asset.parts["triangles"][asset.instances["part"]].tolist()) == sorted(asset.parts["triangles"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.arrAsset"]
    triangles = all_triangles(asset)
    large = int(asset.instances["part"][0])
    mine = asset.clusters["part"] == large
    assert int(asset.parts["triangles"][large]) > 30_000
    rng = np.random.default_rng(13)
    counts = set()
    for turn in range(30):
        resident = random_pages(asset, rng, rng.uniform(0, 0.7)) if turn % 2 else None
        eye = rng.normal(size=3) * rng.uniform(0.2, 1.5)
        cut = drawn_clusters(asset, good_groups(asset, eye, 10 ** rng.uniform(-3.5, -0.5)), resident)
        surface = np.concatenate([triangles[i] for i in cut[mine[cut]]])
        counts.add(len(surface))
        assert open_edges(surface) == 0
    assert len(counts) > 8
    roots = np.flatnonzero(mine & (asset.clusters["consumer"] == NONE))
    assert sum(len(triangles[i]) for i in roots) < 0.05 * 40_000


def test_many_processes_build_the_same(small_blocks, tmp_path):
    model = model_of(sphere(20_000), *(sphere(2_000) for _ in range(10)))
    for name, workers in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        built(model, tmp_path / name, workers=workers, **small_blocks)
    assert (tmp_path / "one/model.arrAsset").read_bytes() == (tmp_path / "two/model.arrAsset").read_bytes()


def test_errors_of_workers_arrive(small_blocks, tmp_path):
    model = model_of(*(sphere(2_000) for _ in range(10)))
    model.vertices["position"][model.parts[7].first_vertex] = np.nan
    with pytest.raises(FarframeError) as error:
        built(model, tmp_path, workers=2, **small_blocks)
    assert error.value.result is Result.FILE_CORRUPT
    assert list(tmp_path.iterdir()) == []


def test_broken_and_empty_triangles_do_no_harm(tmp_path):
    vertices, indices = sphere(2_000)
    indices = np.concatenate([indices, np.zeros(30, np.uint32), indices[:9]])
    asset, _ = built(model_of((vertices, indices), (sphere(8)[0], np.zeros(3, np.uint32))), tmp_path)
    assert int(asset.parts["triangles"][1]) == 0 and int(asset.parts["triangles"][0]) > 1_800


def test_loose_pieces_are_left_out_in_the_end(tmp_path):
    # A cloud of 6,000 tetrahedra, none of which can be simplified.
    rng = np.random.default_rng(14)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    count = 6_000
    middles = rng.uniform(-10, 10, (count, 3))
    sizes = rng.uniform(0.01, 0.1, count)
    vertices = np.repeat(sphere(8)[0][:4], count)[: 4 * count].copy()
    vertices["position"] = (middles[:, None] + corners * sizes[:, None, None]).reshape(-1, 3)
    indices = (faces[None] + 4 * np.arange(count)[:, None, None]).reshape(-1).astype(np.uint32)
    asset, report = built(model_of((vertices, indices)), tmp_path)
    triangles = all_triangles(asset)
    roots = np.flatnonzero(asset.clusters["consumer"] == NONE)
    assert sum(len(triangles[i]) for i in roots) < 0.1 * report.triangles
    assert (asset.groups["error"] > 0.02).all()
    for limit in 10 ** rng.uniform(-3, 0, 10):
        cut = drawn_clusters(asset, good_groups(asset, rng.normal(size=3) * 20, limit))
        surface = np.concatenate([triangles[i] for i in cut])
        assert open_edges(surface) == 0


def test_thin_plates_stay_in_full_until_they_are_small(tmp_path):
    # A disk of 2 m, 5 mm thick, with a fine rim.
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    vertices, _ = sphere(2 * 121**2)
    vertices = vertices[:242].copy()
    ring = np.stack([np.cos(turn), np.zeros(120), np.sin(turn)], axis=1)
    up = np.array([0, 0.0025, 0])
    vertices["position"][:120], vertices["position"][120:240] = ring + up, ring - up
    vertices["position"][240], vertices["position"][241] = (0, 0.0025, 0), (0, -0.0025, 0)
    i, j = np.arange(120), (np.arange(120) + 1) % 120
    hub = np.zeros(120, int)
    faces = np.concatenate(
        [
            np.stack([hub + 240, j, i], 1),
            np.stack([hub + 241, i + 120, j + 120], 1),
            np.stack([i, j, i + 120], 1),
            np.stack([j, j + 120, i + 120], 1),
        ]
    )
    asset, _ = built(model_of((vertices, faces.reshape(-1).astype(np.uint32))), tmp_path)
    errors = asset.groups["error"]
    assert len(errors) > 0
    # Beyond a tenth of its thickness a level claims what shows: a sixteenth of its size.
    assert ((errors <= 0.0005 + 1e-6) | (errors >= 2 / 16 - 1e-6)).all() and (errors >= 2 / 16 - 1e-6).any()


@pytest.mark.parametrize("name", ["Duck.glb", "2CylinderEngine.glb"])
def test_real_models_keep_their_edges_closed(name, models_folder, tmp_path):
    model = read_gltf(models_folder / name, LoadLimits())
    asset, _ = built(model, tmp_path)
    triangles = all_triangles(asset)
    rng = np.random.default_rng(12)
    box = asset.parts["bounds_max"].max(axis=0) - asset.parts["bounds_min"].min(axis=0)
    clusters = asset.clusters
    closed = 0
    for part in range(len(asset.parts)):
        mine = clusters["part"] == part
        full = np.flatnonzero(mine & (clusters["producer"] == NONE))
        before = open_edges(np.concatenate([triangles[i] for i in full]))
        if before:
            continue
        closed += 1
        for _ in range(4):
            eye = asset.parts["bounds_min"][part] + rng.normal(size=3) * box
            cut = drawn_clusters(asset, good_groups(asset, eye, 10 ** rng.uniform(-4, -1)))
            cut = cut[mine[cut]]
            if len(cut):
                assert open_edges(np.concatenate([triangles[i] for i in cut])) == 0
    assert closed > 0 or name == "Duck.glb"
