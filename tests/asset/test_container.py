"""Assets: written and read back, and refused when anything in them is not as it should be."""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farframe.asset.container import Asset, AssetWriter
from farframe.asset.format import (
    CLUSTER_DTYPE,
    GROUP_DTYPE,
    HEAD,
    INSTANCE_DTYPE,
    NODE_DTYPE,
    NONE,
    PAGE_DTYPE,
    PART_DTYPE,
    POINT_DTYPE,
    POINTS,
    AssetIndex,
    Section,
)
from farframe.asset.meshopt import decode_rows, encode_rows
from farframe.asset.model import VERTEX_DTYPE, Material, TextureSlot
from farframe.asset.pages import EncodedPage, PageContent, decode_page, encode_page
from farframe.asset.source import FileSource
from farframe.convert.build import BuildOptions, build_asset
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits
from tests.convert.surfaces import model_of, sphere

TABLES = {
    "parts": PART_DTYPE,
    "groups": GROUP_DTYPE,
    "clusters": CLUSTER_DTYPE,
    "pages": PAGE_DTYPE,
    "instances": INSTANCE_DTYPE,
    "nodes": NODE_DTYPE,
}


class BytesSource:
    """An asset in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.name = data, len(data), "model.arrAsset"

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and length >= 0 and offset + length <= self.size, "read beyond what there is"
        return self.data[offset : offset + length]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("asset") / "model.arrAsset"
    model = model_of(sphere(20_000, uv=True), sphere(300, uv=True), sphere(900, uv=True), textured=True)
    model.warnings.append("a warning")
    options = BuildOptions(
        workers=1, compress_textures=False, metadata={1: {"tag": "P-100", "mass": 2.5}}, recentering_offset=(1, 2, 3)
    )
    build_asset(model, path, options)
    return path.read_bytes()


def opened(data: bytes, limits: LoadLimits | None = None) -> Asset:
    return Asset.open(BytesSource(data), limits or LoadLimits())


def read_all(data: bytes) -> None:
    asset = opened(data)
    for page in range(len(asset.pages)):
        asset.decode_page(page, asset.read_page(page))
    for number, texture in enumerate(asset.index.textures):
        for level in range(len(texture.mips)):
            asset.read_mip(number, level)
    assert len(asset.page_parents[0]) == len(asset.pages) + 1


def taken_apart(data: bytes) -> tuple[AssetIndex, dict[str, np.ndarray]]:
    _, _, _, _, offset, length, _ = HEAD.unpack_from(data)
    index = msgspec.msgpack.decode(data[offset : offset + length], type=AssetIndex)
    tables = {}
    for name, dtype in TABLES.items():
        section = getattr(index, name)
        tables[name] = decode_rows(data[section.offset : section.offset + section.size], section.count, dtype)
    return index, tables


def put_together(data: bytes, index: AssetIndex, tables: dict[str, np.ndarray]) -> bytes:
    """The file with other tables and another index, which go to its end, with right sums."""
    body = bytearray(data)
    for name, rows in tables.items():
        coded = encode_rows(rows)
        section = Section(len(body), len(coded), len(rows), zlib.crc32(coded))
        index = msgspec.structs.replace(index, **{name: section})
        body += coded
    encoded = msgspec.msgpack.encode(index)
    offset = len(body)
    body += encoded
    magic, version, flags, *_ = HEAD.unpack_from(data)
    HEAD.pack_into(body, 0, magic, version, flags, len(body), offset, len(encoded), zlib.crc32(encoded))
    return bytes(body)


def test_what_was_written_is_read(whole):
    asset = opened(whole)
    index = asset.index
    assert index.name == "surfaces" and index.generator.startswith("Farframe")
    assert index.node_names == ["root", "n0", "n1", "n2"] and index.materials[0].name == "paint"
    assert index.materials[0].base_color_texture == TextureSlot(0)
    assert index.metadata == {"1": {"tag": "P-100", "mass": 2.5}} and index.recentering_offset == (1, 2, 3)
    assert index.warnings == ["a warning"] and len(index.content_hash) == 16
    assert asset.nodes["parent"].tolist() == [-1, 0, 0, 0]
    assert asset.instances["part"].tolist() == [0, 1, 2] and asset.instances["node"].tolist() == [1, 2, 3]
    assert (asset.instances["matrix"] == np.eye(4)[:3]).all()
    texture = index.textures[0]
    assert (texture.width, texture.height, texture.format, texture.srgb) == (4, 8, "rgba8unorm", True)
    assert [mip.size for mip in texture.mips] == [128, 32, 8, 4]
    assert set(asset.read_mip(0, 3)) == {200}
    with pytest.raises(ValueError, match="read-only"):
        asset.clusters["part"] = 1
    read_all(whole)


def test_pages_come_coarse_to_fine_and_their_needs_first(whole):
    asset = opened(whole)
    starts, parents = asset.page_parents
    assert len(asset.pages) > 3 and len(parents) > 0
    for page in range(len(asset.pages)):
        assert (parents[starts[page] : starts[page + 1]] < page).all()
    assert (asset.clusters["consumer"][asset.page_of_cluster == 0] == NONE).any()


def test_the_same_model_gives_the_same_bytes(whole, tmp_path):
    path = tmp_path / "again.arrAsset"
    model = model_of(sphere(20_000, uv=True), sphere(300, uv=True), sphere(900, uv=True), textured=True)
    build_asset(model, path, BuildOptions(workers=1, compress_textures=False))
    assert opened(path.read_bytes()).index.content_hash == opened(whole).index.content_hash


def test_vertices_survive_their_coding():
    rng = np.random.default_rng(3)
    vertices = np.zeros(300, VERTEX_DTYPE)
    for name in ("normal", "tangent"):
        vertices[name] = rng.integers(-127, 128, (300, 4))
    vertices["color"] = rng.integers(0, 256, (300, 4))
    vertices["uv0"] = rng.uniform(-3, 3, (300, 2))
    vertices["uv1"] = rng.uniform(-1e6, 1e6, (300, 2))
    grid = rng.integers(-(2**31), 2**31, (300, 3)).astype(np.int32)
    indices = rng.integers(0, 300, 900).astype(np.uint32)
    data = encode_page(PageContent(grid, vertices, indices))
    places, back, corners = decode_page(data, 0, 300, 900)
    assert (places == grid).all()
    for name in ("normal", "tangent", "color", "uv1"):
        assert (back[name] == vertices[name]).all()
    assert np.abs(back["uv0"] - vertices["uv0"]).max() <= 2.0**-18
    rotated = np.stack([np.roll(indices.reshape(-1, 3), turn, axis=1) for turn in range(3)])
    assert (rotated == corners.reshape(-1, 3)).all(axis=2).any(axis=0).all()


def test_points_are_kept(tmp_path):
    rng = np.random.default_rng(4)
    grid = rng.integers(0, 1000, (5000, 3)).astype(np.int32)
    colors = rng.integers(0, 256, (5000, 4)).astype(np.uint8)
    row = np.zeros((), PART_DTYPE)
    row["kind"], row["step"], row["origin"] = POINTS, 0.5, (10, 20, 30)
    row["bounds_min"], row["bounds_max"] = (10, 20, 30), (510, 520, 530)
    row["triangles"] = row["vertices"] = 5000
    clusters = np.zeros(2, CLUSTER_DTYPE)
    clusters["bounds_min"], clusters["bounds_max"] = row["bounds_min"], row["bounds_max"]
    clusters["producer"] = clusters["consumer"] = NONE
    clusters["vertex_count"] = [4000, 1000]
    clusters["cone"] = (0, 0, 0, 127)
    content = PageContent(grid, None, np.empty(0, np.uint32), colors)
    with AssetWriter(tmp_path / "points.arrAsset", generator="test") as writer:
        writer.add_part(row, np.empty(0, GROUP_DTYPE), clusters, content)
        row["triangles"] = row["vertices"] = 4000
        writer.add_part(
            row,
            np.empty(0, GROUP_DTYPE),
            clusters[:1],
            [EncodedPage(encode_page(PageContent(grid[:4000], None, content.indices, colors[:4000])), 4000, 0, 1)],
        )
        writer.finish(
            name="points",
            nodes=np.zeros(0, NODE_DTYPE),
            node_names=[],
            instances=np.zeros(0, INSTANCE_DTYPE),
            materials=[],
            bounds_min=(0, 0, 0),
            bounds_max=(1, 1, 1),
        )
    asset = Asset.open(FileSource(tmp_path / "points.arrAsset"), LoadLimits())
    pages = [asset.decode_page(page, asset.read_page(page)) for page in range(2)]
    joined = max(pages, key=lambda page: len(page.vertices))
    assert joined.vertices.dtype == POINT_DTYPE and len(joined.vertices) == 5000 and len(joined.indices) == 0
    assert (joined.vertices["position"] == grid * 0.5 + (10, 20, 30)).all()
    assert (joined.vertices["color"] == colors).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["points.arrAsset"]


def test_nothing_is_left_of_what_was_not_finished(tmp_path):
    with pytest.raises(RuntimeError, match="enough"), AssetWriter(tmp_path / "x.arrAsset", generator="test") as writer:
        assert writer.page_count == 0
        raise RuntimeError("enough")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(FarframeError) as error:
        FileSource(tmp_path / "none.arrAsset")
    assert error.value.result is Result.FILE_NOT_FOUND
    with pytest.raises(FarframeError) as error:
        FileSource(tmp_path)
    assert error.value.result is Result.FILE_DOWNLOAD_FAILED
    empty = tmp_path / "empty.arrAsset"
    empty.write_bytes(b"")
    with pytest.raises(FarframeError) as error:
        Asset.open(FileSource(empty), LoadLimits())
    assert error.value.result is Result.FILE_CORRUPT
    source = FileSource(empty)
    with pytest.raises(FarframeError):
        source.read(0, 1)
    source.close()
    source.close()


def test_truncated_files_are_refused(whole):
    for length in [*range(0, 200, 7), *np.linspace(200, len(whole) - 1, 50).astype(int)]:
        with pytest.raises(FarframeError) as error:
            opened(whole[:length])
        assert error.value.result is Result.FILE_CORRUPT


def test_newer_versions_are_named(whole):
    data = bytearray(whole)
    data[8] = 9
    with pytest.raises(FarframeError, match="version 9") as error:
        opened(bytes(data))
    assert error.value.result is Result.NOT_SUPPORTED


def test_limits_hold(whole):
    with pytest.raises(FarframeError) as error:
        opened(whole, LoadLimits(max_memory_bytes=1000))
    assert error.value.result is Result.EXCEEDS_MEMORY_LIMIT
    with pytest.raises(FarframeError):
        opened(whole, LoadLimits(max_nodes=3))
    with pytest.raises(FarframeError):
        opened(whole, LoadLimits(max_texture_pixels=31))


def test_the_helper_that_breaks_files_does_not_break_sound_ones(whole):
    read_all(put_together(whole, *taken_apart(whole)))


HOSTILE = [0, 1, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF, -1, np.nan, np.inf, -np.inf, 1e35, -1e35]


@pytest.mark.parametrize("table", list(TABLES))
def test_every_field_of_every_table(whole, table):
    """Whatever a field says, the file is refused by name, or it can be read in full."""
    index, tables = taken_apart(whole)
    rng = np.random.default_rng(5)
    refused = 0
    for field in TABLES[table].names or ():
        dtype, _ = TABLES[table].fields[field]  # type: ignore[index]
        base = dtype.base
        for value in HOSTILE:
            rows = tables[table].copy()
            row = int(rng.integers(len(rows)))
            with np.errstate(all="ignore"):
                if base.kind == "f":
                    new = np.array(value).astype(base)
                elif not np.isfinite(value) or abs(value) > 2**40:
                    continue
                else:
                    new = np.array(int(value) & 0xFFFF_FFFF, np.uint64).astype(base)
            flat = rows[field].reshape(len(rows), -1)
            flat[row, int(rng.integers(flat.shape[1]))] = new
            rows[field] = flat.reshape(rows[field].shape)
            try:
                read_all(put_together(whole, index, {table: rows}))
            except FarframeError as error:
                assert error.result in (Result.FILE_CORRUPT, Result.EXCEEDS_MEMORY_LIMIT)
                assert error.next_step
                refused += 1
    assert refused > 5


@pytest.mark.parametrize("table", ["parts", "groups", "clusters", "pages", "nodes"])
@pytest.mark.parametrize("change", ["last gone", "doubled", "none"])
def test_tables_of_the_wrong_length(whole, table, change):
    index, tables = taken_apart(whole)
    rows = tables[table]
    rows = {"last gone": rows[:-1], "doubled": np.concatenate([rows, rows]), "none": rows[:0]}[change]
    with pytest.raises(FarframeError) as error:
        read_all(put_together(whole, index, {table: rows}))
    assert error.value.result is Result.FILE_CORRUPT


def test_circles_and_falling_errors_are_refused(whole):
    index, tables = taken_apart(whole)
    clusters = tables["clusters"].copy()
    inner = np.flatnonzero((clusters["producer"] != NONE) & (clusters["consumer"] != NONE))[0]
    clusters["producer"][inner] = clusters["consumer"][inner]
    with pytest.raises(FarframeError, match="circle"):
        opened(put_together(whole, index, {"clusters": clusters}))
    groups = tables["groups"].copy()
    groups["error"][int(tables["clusters"]["consumer"][inner])] = 0.0
    with pytest.raises(FarframeError, match="smaller error"):
        opened(put_together(whole, index, {"groups": groups}))
    nodes = tables["nodes"].copy()
    nodes["parent"] = 3
    with pytest.raises(FarframeError, match="circle"):
        opened(put_together(whole, index, {"nodes": nodes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"node_names": []},
        {"bounds_min": (float("nan"), 0, 0)},
        {"metadata": {"77": {}}},
        {"metadata": {"-1": {}}},
        {"materials": []},
        {"materials": [Material(base_color=(float("inf"), 0, 0, 0))]},
        {"materials": [Material(normal_texture=TextureSlot(9))]},
        {"materials": [Material(normal_texture=TextureSlot(0, 7))]},
        {"parts": Section(0, 1 << 60, 1, 0)},
        {"parts": Section(-5, 10, 1, 0)},
        {"pages": Section(64, 10, 0xFFFF_FFFF, 0)},
    ],
)
def test_the_index_is_checked(whole, changes):
    index, _ = taken_apart(whole)
    with pytest.raises(FarframeError):
        opened(put_together(whole, msgspec.structs.replace(index, **changes), {}))


@pytest.mark.parametrize(
    "changes",
    [{"width": 0}, {"width": 1 << 40}, {"height": -4}, {"width": 5}, {"mips": []}, {"format": "bc7-rgba-unorm"}],
)
def test_textures_are_checked(whole, changes):
    index, _ = taken_apart(whole)
    index.textures[0] = msgspec.structs.replace(index.textures[0], **changes)
    with pytest.raises(FarframeError):
        opened(put_together(whole, index, {}))


def test_an_index_of_other_things_is_refused(whole):
    for encoded in (b"", b"\xc0", msgspec.msgpack.encode([1, 2]), b"\x91" * 5000, b"\x81\xa4name\xa1\xff"):
        body = bytearray(whole)
        offset = len(body)
        body += encoded
        magic, version, flags, *_ = HEAD.unpack_from(whole)
        HEAD.pack_into(body, 0, magic, version, flags, len(body), offset, len(encoded), zlib.crc32(encoded))
        with pytest.raises(FarframeError) as error:
            opened(bytes(body))
        assert error.value.result is Result.FILE_CORRUPT


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_flipped_bits_never_get_through(whole, data):
    """Sums catch what is changed by chance: nothing but the gaps between sections may differ unnoticed."""
    body = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read_all(bytes(body))
    except FarframeError as error:
        assert error.result in (Result.FILE_CORRUPT, Result.NOT_SUPPORTED, Result.EXCEEDS_MEMORY_LIMIT)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_pages_with_right_sums_and_wrong_contents(whole, data):
    """Decoders get bytes that somebody made on purpose: refused, or vertices and indices within their bounds."""
    asset = opened(whole)
    page = data.draw(st.integers(0, len(asset.pages) - 1))
    body = bytearray(asset.read_page(page))
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body)))]
    try:
        decoded = asset.decode_page(page, bytes(body))
    except FarframeError as error:
        assert error.result is Result.FILE_CORRUPT
        return
    assert np.isfinite(decoded.vertices["position"]).all()
    for cluster in asset.clusters_of(page):
        first, count = int(cluster["first_index"]), int(cluster["index_count"])
        assert (decoded.indices[first : first + count] < cluster["vertex_count"]).all()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_tables_with_right_sums_and_wrong_contents(whole, data):
    index, tables = taken_apart(whole)
    name = data.draw(st.sampled_from(list(TABLES)))
    rows = tables[name].copy()
    raw = rows.view(np.uint8).reshape(-1)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_all(put_together(whole, index, {name: rows}))
    except FarframeError as error:
        assert error.result in (Result.FILE_CORRUPT, Result.EXCEEDS_MEMORY_LIMIT)
