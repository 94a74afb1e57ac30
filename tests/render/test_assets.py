"""Assets drawn by the cut through their graph: what it costs, what is closed, what is resident."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.asset.container import Asset
from farframe.asset.model import Material, Model, Texture, TextureSlot
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.link import LoadLimits
from farframe.protocol.records import View
from farframe.render import AssetResource, Engine, FrameInput, Quality, RenderedFrame, RenderScene, prepare_asset
from farframe.render.cut import PageState, Rows, Seen, cut, cut_tables, expand
from farframe.render.pools import RangeAllocator
from tests.render.shapes import ModelBuilder, box, look_at, sphere

SIDE = 256
WAIT_SECONDS = 60.0
CUT_ERROR = 0.3
"""The pictures here are small: this is about what a pixel is in a picture of the usual size."""


def bumpy(stacks: int, *, seams: bool = True) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """A closed surface with bumps; with a UV seam and poles, unless told otherwise."""
    vertices, indices = sphere(1.0, 2 * stacks, stacks)
    # The seam's and the poles' vertices are bit for bit where their neighbours are: the file's welding expects it.
    position = np.round(vertices["position"].astype(np.float64), 6)
    height = 1.0 + 0.04 * np.sin(9 * position[:, 0]) * np.sin(8 * position[:, 1]) * np.sin(11 * position[:, 2])
    height += 0.004 * np.sin(50 * position[:, 0]) * np.sin(43 * position[:, 1]) * np.sin(57 * position[:, 2])
    vertices["position"] = position * height[:, None]
    if not seams:
        vertices["uv0"] = vertices["uv1"] = 0
    return vertices, indices


def save(model: Model, path: Path) -> Asset:
    build_asset(model, path, BuildOptions(workers=1))
    return Asset.open(FileSource(path), LoadLimits())


def model_of(mesh: tuple[NDArray[np.void], NDArray[np.uint32]], **material: object) -> Model:
    builder = ModelBuilder()
    look = {"base_color": (0.7, 0.3, 0.2, 1.0), "metallic": 0.0, "roughness": 0.6} | material
    builder.place(builder.part(mesh, Material(**look)))  # type: ignore[arg-type]
    return builder.build()


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(bumpy(210))


@pytest.fixture(scope="module")
def asset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asset") / "bumpy.arrAsset"


@pytest.fixture(scope="module")
def asset(model: Model, asset_path: Path) -> Iterator[Asset]:
    asset = save(model, asset_path)
    yield asset
    asset.close()


def draw(
    engine: Engine,
    scene: RenderScene,
    view: View,
    *,
    cut_error: float = CUT_ERROR,
    side: int = SIDE,
    depth: bool = False,
) -> RenderedFrame:
    """A frame whose arrays are its own, so that it needs no release."""
    quality = Quality(samples=1, cut_error=cut_error)
    frame = engine.render(FrameInput((view,), side, side, quality, scene, read_depth=depth))
    copied = replace(frame, pixels=frame.pixels.copy(), depth=None if frame.depth is None else frame.depth.copy())
    frame.release()
    return copied


def settle(engine: Engine, scene: RenderScene, view: View, *, cut_error: float = CUT_ERROR, side: int = SIDE) -> None:
    """Draw until nothing more is to come for this view."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        draw(engine, scene, view, cut_error=cut_error, side=side)
        if engine.residency.idle:
            return
        while not (engine.residency.pending or engine.residency.idle):
            assert time.monotonic() < deadline, "pages do not come"
            time.sleep(0.001)
        assert time.monotonic() < deadline, "the picture does not come to rest"


@pytest.fixture
def opened(engine: Engine, asset: Asset) -> Iterator[tuple[AssetResource, RenderScene]]:
    resource = engine.open_asset(asset)
    scene = RenderScene()
    scene.background = (0.0, 0.0, 1.0)
    scene.add(resource, np.eye(4))
    yield resource, scene
    engine.release(resource)


def seen(asset: Asset, eye: tuple[float, float, float]) -> Seen:
    """One instance at the origin, all around the eye."""
    everywhere = np.zeros((1, 6, 4), np.float32)
    everywhere[:, :, 3] = 1.0
    one = np.ones(1, np.float32)
    nearest = one * max(0.01, float(np.linalg.norm(eye)) - 2.0)
    return Seen(np.zeros(1, np.int64), np.array([eye], np.float32), everywhere, nearest, one, one, np.zeros(1, bool))


def all_pages(asset: Asset) -> PageState:
    pages = PageState.empty(len(asset.pages))
    pages.resident[:] = True
    return pages


def random_residency(asset: Asset, random: np.random.Generator, share: float) -> PageState:
    """A random set of pages, with everything that they depend on."""
    pages = PageState.empty(len(asset.pages))
    starts, parents = asset.page_parents
    for page in range(len(asset.pages)):
        there = pages.resident[parents[starts[page] : starts[page + 1]]].all()
        pages.resident[page] = there and (starts[page] == starts[page + 1] or random.random() < share)
    return pages


def welded_edges(asset: Asset, clusters: NDArray[np.int64]) -> int:
    """How many edges of these clusters' surface are not shared by two triangles, once equal positions are one."""
    triangles = []
    for page in np.unique(asset.page_of_cluster[clusters]):
        content = asset.decode_page(int(page), asset.read_page(int(page)))
        first = int(asset.pages[page]["first_cluster"])
        for cluster in clusters[asset.page_of_cluster[clusters] == page]:
            row = asset.clusters[cluster]
            assert cluster >= first
            begin = int(row["first_index"])
            index = content.indices[begin : begin + int(row["index_count"])].astype(np.int64) + int(row["first_vertex"])
            triangles.append(content.vertices["position"][index])
    corners = np.concatenate(triangles)
    _, ids = np.unique(corners, axis=0, return_inverse=True)
    ids = ids.reshape(-1, 3)
    ids = ids[(ids[:, 0] != ids[:, 1]) & (ids[:, 1] != ids[:, 2]) & (ids[:, 2] != ids[:, 0])]
    edges = np.concatenate([ids[:, [0, 1]], ids[:, [1, 2]], ids[:, [2, 0]]])
    direction = np.where(edges[:, 0] < edges[:, 1], 1, -1)
    _, inverse = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    return int(np.count_nonzero(np.bincount(inverse.reshape(-1), direction)))


def test_the_cut_is_the_rule_of_the_format(asset: Asset) -> None:
    tables = cut_tables(asset)
    random = np.random.default_rng(3)
    sizes = set()
    for _ in range(40):
        pages = random_residency(asset, random, random.choice([0.5, 0.9, 1.0]))
        direction = random.normal(size=3)
        eye = tuple(direction / np.linalg.norm(direction) * random.uniform(2.2, 12.0))
        limit = float(random.choice([0.2, 0.5, 1.0, 4.0]))
        view = seen(asset, eye)
        found = cut(
            tables, pages, view, pixels_per_radian=800.0, pixel_error=limit, wanted_error=min(limit, 1.0), picture=1
        )
        low, high = asset.groups["bounds_min"], asset.groups["bounds_max"]
        away = np.maximum(np.maximum(low - view.eye[0], view.eye[0] - high), 0.0)
        distance = np.maximum(np.sqrt((away**2).sum(axis=1)), view.nearest[0])
        refined = (asset.groups["error"] * 800.0 / distance > limit) & pages.resident[asset.groups["page"]]
        producer, consumer = (asset.clusters[name].astype(np.int64) for name in ("producer", "consumer"))
        none = 0xFFFF_FFFF
        fine = np.append(~refined, [True] * 1)
        drawn = ((producer == none) | fine[np.minimum(producer, len(refined))]) & (
            (consumer == none) | ~fine[np.minimum(consumer, len(refined))]
        )
        assert set(found.cluster.tolist()) == set(np.flatnonzero(drawn).tolist())
        assert len(set(found.cluster.tolist())) == len(found.cluster)
        sizes.add(len(found.cluster))
    assert len(sizes) > 10, "the cuts are all alike"


def test_every_cut_is_closed_whatever_is_resident(asset: Asset) -> None:
    tables = cut_tables(asset)
    random = np.random.default_rng(5)
    counts = set()
    for _ in range(12):
        pages = random_residency(asset, random, 0.85)
        eye = tuple(random.normal(size=3) * 2.0 + np.array([0.0, 0.0, 2.5]))
        limit = float(random.choice([0.3, 1.0, 3.0]))
        found = cut(
            tables, pages, seen(asset, eye), pixels_per_radian=900.0, pixel_error=limit, wanted_error=limit, picture=1
        )
        counts.add(len(found.cluster))
        assert welded_edges(asset, found.cluster) == 0
    assert len(counts) > 5
    # And the check itself sees a cluster that is missing.
    assert welded_edges(asset, found.cluster[1:]) > 0


def test_no_background_shows_through_any_cut(
    engine: Engine, asset: Asset, opened: tuple[AssetResource, RenderScene], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource, scene = opened
    random = np.random.default_rng(7)
    full = resource.pages.resident
    settle(engine, scene, look_at((0, 0, 2.2), aspect=1.0, degrees=20.0), cut_error=0.3)
    loaded = full.copy()
    triangles = set()
    # What is taken away below is not fetched again.
    monkeypatch.setattr(engine.residency.streamer, "want", lambda requests: None)
    for number in range(40):
        direction = random.normal(size=3)
        eye = direction / np.linalg.norm(direction) * random.uniform(1.6, 2.6)
        # All rays of this view meet the model: its bumps stay outside of 0.9 around the middle.
        half = np.degrees(np.arcsin(0.55 / np.linalg.norm(eye)))
        view = look_at(tuple(eye), aspect=1.0, degrees=float(half))
        full[:] = loaded & random_residency(asset, random, float(random.uniform(0.7, 1.0))).resident
        frame = draw(engine, scene, view, cut_error=float(random.choice([0.3, 1.0, 5.0, 40.0])))
        blue = np.count_nonzero((frame.pixels[..., 2] > 200) & (frame.pixels[..., 0] < 50))
        triangles.add(frame.triangles)
        full[:] = loaded
        assert blue == 0, f"{blue} pixels of background in picture {number}"
    assert len(triangles) > 15


def test_the_picture_is_close_to_the_full_models(
    engine: Engine, model: Model, opened: tuple[AssetResource, RenderScene]
) -> None:
    _, scene = opened
    whole = RenderScene()
    whole.background = scene.background
    uploaded = engine.upload(model)
    whole.add(uploaded, np.eye(4))
    for eye in ((0.0, 0.4, 3.0), (2.5, -1.0, 7.0)):
        view = look_at(eye, aspect=1.0)
        settle(engine, scene, view)
        cut_frame, full_frame = draw(engine, scene, view, depth=True), draw(engine, whole, view, depth=True)
        assert cut_frame.triangles < 0.4 * full_frame.triangles
        color = np.abs(cut_frame.pixels.astype(int) - full_frame.pixels)[..., :3].max(axis=2)
        assert cut_frame.depth is not None and full_frame.depth is not None
        both = np.isfinite(cut_frame.depth) & np.isfinite(full_frame.depth)
        one = np.isfinite(cut_frame.depth) != np.isfinite(full_frame.depth)
        pixel = float(np.linalg.norm(eye)) * 2 * np.tan(np.radians(35.0)) / SIDE
        off = np.abs(cut_frame.depth[both] - full_frame.depth[both])
        # One pixel of error sideways is more along the ray where the surface is seen at a slant.
        assert np.percentile(off, 90) < pixel and np.percentile(off, 99) < 4 * pixel
        assert np.count_nonzero(one) < 0.004 * both.sum() + 20
        assert np.percentile(color[both], 95) <= 4 and color[both].mean() < 1.5
    engine.release(uploaded)


def test_distance_and_error_bring_triangles_down(engine: Engine, opened: tuple[AssetResource, RenderScene]) -> None:
    _, scene = opened
    counts = []
    for distance, error in ((3.0, 0.3), (3.0, 1.2), (12.0, 0.3), (100.0, 0.3)):
        view = look_at((0.0, 0.0, distance), aspect=1.0, far=1000.0)
        settle(engine, scene, view, cut_error=error)
        frame = draw(engine, scene, view, cut_error=error)
        counts.append(frame.triangles)
    assert counts[0] > 2 * counts[1] and counts[0] > 4 * counts[2] and counts[2] > counts[3] > 0


def test_what_is_outside_of_the_view_is_not_drawn(engine: Engine, opened: tuple[AssetResource, RenderScene]) -> None:
    resource, scene = opened
    whole, part = look_at((0, 0, 4), aspect=1.0), look_at((0, 0, 4), (0.9, 0.9, 0.0), aspect=1.0, degrees=5.0)
    settle(engine, scene, whole)
    settle(engine, scene, part)
    frames = [draw(engine, scene, view) for view in (whole, part, look_at((0, 0, 4), (0, 0, 8), aspect=1.0))]
    assert frames[1].draws < 0.7 * frames[0].draws
    assert frames[2].draws == frames[2].triangles == 0
    tables = resource.tables
    far = replace(seen(resource.asset, (0.0, 0.0, 4.0)), nearest=np.full(1, 1e6, np.float32))
    found = cut(tables, resource.pages, far, pixels_per_radian=800.0, pixel_error=1.0, wanted_error=1.0, picture=1)
    assert found.visited == 0, "a distant instance looks at no group"


def test_backs_of_one_sided_surfaces_are_culled_by_cluster(engine: Engine, tmp_path: Path) -> None:
    smooth = sphere(1.0, 200, 100)
    resource = engine.open_asset(save(model_of(smooth), tmp_path / "smooth.arrAsset"))
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    view = look_at((0, 0, 6), aspect=1.0)
    settle(engine, scene, view, cut_error=0.01)
    one = draw(engine, scene, view, cut_error=0.01)
    resource.tables.cutoff, cutoff = np.ones_like(resource.tables.cutoff), resource.tables.cutoff
    both = draw(engine, scene, view, cut_error=0.01)
    resource.tables.cutoff = cutoff
    engine.release(resource)
    assert one.triangles < 0.8 * both.triangles
    assert np.array_equal(one.pixels, both.pixels), "what was culled could not be seen"


def test_a_small_budget_evicts_and_stays_closed(engine: Engine, asset: Asset) -> None:
    residency = engine.residency
    before = residency.budget_bytes
    assert residency.used_bytes == 0
    residency.budget_bytes = 4 << 20
    scene = RenderScene()
    scene.background = (0.0, 0.0, 1.0)
    both = [engine.open_asset(asset) for _ in range(2)]
    try:
        for resource, place in zip(both, (-10.0, 10.0), strict=True):
            matrix = np.eye(4)
            matrix[0, 3] = place
            scene.add(resource, matrix)
        start = residency.evicted
        counts = []
        for number in range(6):
            x = -10.0 if number % 2 else 10.0
            view = look_at((x, 0.3, 2.0), (x, 0.0, 0.0), aspect=1.0, degrees=12.0)
            settle(engine, scene, view, cut_error=0.2)
            assert residency.used_bytes <= 4 << 20
            frame = draw(engine, scene, view, cut_error=0.2)
            counts.append(frame.triangles)
            blue = (frame.pixels[..., 2] > 200) & (frame.pixels[..., 0] < 50)
            assert not blue.any()
            for resource in both:
                _check_closure(resource)
        assert residency.evicted - start > 10
        assert min(counts[1:]) > 0.8 * max(counts[1:]), "what is looked at gets the room"
    finally:
        residency.budget_bytes = before
        for resource in both:
            engine.release(resource)
    assert residency.used_bytes == 0


def _check_closure(resource: AssetResource) -> None:
    dependants = np.zeros(len(resource.pages.resident), int)
    for page in np.flatnonzero(resource.pages.resident):
        parents = resource.parents_of(int(page))
        assert resource.pages.resident[parents].all(), "a page without what it depends on"
        dependants[parents] += 1
    assert np.array_equal(dependants, resource.dependants)


def test_pages_come_while_frames_are_drawn_and_wake_who_rests(engine: Engine, asset: Asset) -> None:
    woken = []
    engine.residency.streamer.on_ready = lambda: woken.append(True)
    resource = engine.open_asset(prepare_asset(asset))
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    created = engine.pipelines.created
    view = look_at((0, 0, 2.5), aspect=1.0)
    first = draw(engine, scene, view)
    assert 0 < first.triangles < 10_000, "the roots are there at once"
    settle(engine, scene, view)
    last = draw(engine, scene, view)
    uploaded = engine.residency.uploaded
    again = draw(engine, scene, view)
    assert last.triangles > 3 * first.triangles and woken
    assert np.array_equal(again.pixels, last.pixels) and engine.residency.uploaded == uploaded
    assert engine.pipelines.created == created
    engine.residency.streamer.on_ready = None
    engine.release(resource)


def test_a_page_that_cannot_be_read_leaves_the_coarser_surface(engine: Engine, asset: Asset, asset_path: Path) -> None:
    class Broken(FileSource):
        def read(self, offset: int, length: int) -> bytes:
            data = super().read(offset, length)
            return data if intact or length < 100 else data[:-1] + bytes([data[-1] ^ 1])

    intact = True
    broken = Asset.open(Broken(asset_path), LoadLimits())
    resource = engine.open_asset(broken)
    intact = False
    scene = RenderScene()
    scene.add(resource, np.eye(4))
    view = look_at((0, 0, 2.5), aspect=1.0)
    settle(engine, scene, view)
    frame = draw(engine, scene, view)
    assert frame.triangles > 0 and resource.failures
    engine.release(resource)


def test_standard_stays_below_its_limit_by_a_coarser_cut(
    engine: Engine, opened: tuple[AssetResource, RenderScene]
) -> None:
    _, scene = opened
    view = look_at((0, 0, 2.5), aspect=1.0)
    settle(engine, scene, view, cut_error=0.5)
    free = draw(engine, scene, view, cut_error=0.5)
    scene.primitive_limit = free.triangles // 3
    kept = draw(engine, scene, view, cut_error=0.5)
    assert 0 < kept.triangles <= free.triangles // 3 and not kept.over_limit
    scene.primitive_limit = 10
    over = draw(engine, scene, view, cut_error=0.5)
    assert over.over_limit
    scene.primitive_limit = None
    again = draw(engine, scene, view, cut_error=0.5)
    assert again.triangles == free.triangles and not again.over_limit


def test_no_jitter_ten_kilometres_from_the_origin(engine: Engine, asset: Asset) -> None:
    resource = engine.open_asset(asset)
    pictures = []
    for place in ((0.0, 0.0, 0.0), (10_000.0, 300.0, -10_000.0)):
        scene = RenderScene()
        scene.background = (0.0, 0.0, 1.0)
        matrix = np.eye(4)
        matrix[:3, 3] = place
        scene.add(resource, matrix)
        eye = np.array([0.3, 0.2, 2.5])
        view = look_at(tuple(eye), aspect=1.0)
        view = replace(view, position=tuple(eye + place))
        settle(engine, scene, view)
        frame = draw(engine, scene, view)
        pictures.append(frame.pixels.copy())
    off = np.abs(pictures[0].astype(int) - pictures[1])
    assert off.mean() < 0.05 and np.count_nonzero(off.max(axis=2) > 8) < SIDE
    engine.release(resource)


def test_instances_scales_mirrors_and_models_stand_side_by_side(engine: Engine, tmp_path: Path) -> None:
    builder = ModelBuilder()
    ball = builder.part(bumpy(60), Material(base_color=(0.2, 0.6, 0.3, 1.0), metallic=0.0))
    cube = builder.part(box(0.5), Material(base_color=(0.3, 0.3, 0.8, 1.0), metallic=0.0, double_sided=True))
    builder.place(ball, (-1.2, 0.0, 0.0), 0.8)
    builder.place(ball, (1.2, 0.0, 0.0), (-0.5, 0.9, 0.6))
    builder.place(cube, (0.0, 1.4, 0.0), (0.6, 0.3, 0.6))
    model = builder.build()
    resource = engine.open_asset(save(model, tmp_path / "several.arrAsset"))
    uploaded = engine.upload(model)
    pictures = []
    for either in (resource, uploaded):
        scene = RenderScene()
        scene.add(either, np.eye(4))
        view = look_at((0.0, 0.6, 5.0), aspect=1.0)
        settle(engine, scene, view, cut_error=0.2)
        frame = draw(engine, scene, view, cut_error=0.2)
        pictures.append(frame.pixels.copy())
    off = np.abs(pictures[0].astype(int) - pictures[1]).max(axis=2)
    assert (off > 12).mean() < 0.003 and off.mean() < 0.5
    # Both in one scene: the model hides in the asset, so the picture is still much the same.
    scene.add(resource, np.eye(4))
    settle(engine, scene, view, cut_error=0.2)
    frame = draw(engine, scene, view, cut_error=0.2)
    assert np.abs(frame.pixels.astype(int) - pictures[1]).mean() < 1.0
    engine.release(resource)
    engine.release(uploaded)


def test_textures_come_small_levels_first_and_match(engine: Engine, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    coarse = random.integers(40, 220, (16, 16, 3))
    pixels = np.full((512, 512, 4), 255, np.uint8)
    pixels[..., :3] = np.kron(coarse, np.ones((32, 32, 1)))
    builder = ModelBuilder(textures=[Texture(pixels, srgb=True)])
    look = Material(base_color_texture=TextureSlot(0), metallic=0.0, roughness=0.8)
    builder.place(builder.part(bumpy(60), look))
    model = builder.build()
    resource = engine.open_asset(save(model, tmp_path / "textured.arrAsset"))
    texture = resource.textures[0]
    assert 0 < texture.first < len(texture.entry.mips), "the small levels are there, the large ones are not"
    uploaded = engine.upload(model)
    view = look_at((0.0, 0.6, 2.6), aspect=1.0)
    pictures = []
    for either in (resource, uploaded):
        scene = RenderScene()
        scene.add(either, np.eye(4))
        settle(engine, scene, view, cut_error=0.3)
        frame = draw(engine, scene, view, cut_error=0.3)
        pictures.append(frame.pixels.copy())
    assert texture.first == 0
    off = np.abs(pictures[0].astype(int) - pictures[1])[..., :3]
    assert off.mean() < 4.0
    engine.release(resource)
    engine.release(uploaded)


def test_bands_show_what_the_whole_picture_shows(engine: Engine, opened: tuple[AssetResource, RenderScene]) -> None:
    from farframe.render.bands import render_in_bands

    _, scene = opened
    view = look_at((0, 0, 2.5), aspect=1.0)
    settle(engine, scene, view)
    whole = draw(engine, scene, view)
    wanted = FrameInput((view,), SIDE, SIDE, Quality(samples=1), scene)
    banded = render_in_bands(engine, wanted, 4, lambda: False)
    assert banded is not None
    off = np.abs(banded.pixels.astype(int) - whole.pixels).max(axis=2)
    assert np.count_nonzero(off > 2) < 0.001 * off.size


def test_ranges_are_given_and_taken_back() -> None:
    random = np.random.default_rng(2)
    ranges = RangeAllocator(1000)
    held: dict[int, int] = {}
    for _ in range(2000):
        if held and random.random() < 0.5:
            first = int(random.choice(list(held)))
            ranges.free(first, held.pop(first))
        else:
            count = int(random.integers(1, 60))
            first_or_none = ranges.allocate(count)
            if first_or_none is not None:
                taken = np.zeros(ranges.capacity, int)
                for start, length in [*held.items(), (first_or_none, count)]:
                    taken[start : start + length] += 1
                assert taken.max() == 1
                held[first_or_none] = count
        assert ranges.free_rows == ranges.capacity - sum(held.values())
    for first, count in held.items():
        ranges.free(first, count)
    assert ranges.allocate(1000) == 0
    with pytest.raises(ValueError, match="free already"):
        ranges.free(0, 1001) if ranges.allocate(1) else ranges.free(10, 5) or ranges.free(10, 5)


def test_lists_of_lists() -> None:
    rows = Rows.by(np.array([1, 0, -1, 1, 3]), 3)
    assert [rows.items[a:b].tolist() for a, b in zip(rows.start[:-1], rows.start[1:], strict=True)] == [[1], [0, 3], []]
    items, origin = rows.expand(np.array([2, 1, 1]))
    assert items.tolist() == [0, 3, 0, 3] and origin.tolist() == [1, 1, 2, 2]
    assert expand(np.array([5, 7]), np.array([7, 8]))[0].tolist() == [5, 6, 7]
