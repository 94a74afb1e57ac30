"""Readers of point clouds: every format with files made here, and hostile ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import laspy
import numpy as np
import pye57
import pytest

from farframe.asset.budget import Budget, no_progress
from farframe.convert import points as points_module
from farframe.convert.importers import Imported, import_file
from farframe.convert.importers.points_xyz import _same_width
from farframe.convert.points import ColorMap, PointCloud, PointSpool, srgb_to_linear_table
from farframe.convert.settings import ConversionSettings
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits

POSITIONS = np.array([[1.5, 2.0, -3.25], [0.0, 0.5, 10.0], [-4.0, 8.0, 0.125], [2.0, 2.0, 2.0]])
COLORS = np.array([[255, 0, 0], [0, 128, 0], [10, 20, 30], [255, 255, 255]], np.uint8)


def read(path: Path, **settings: bool) -> Imported:
    return import_file(path, path.parent, ConversionSettings(**settings), Budget(LoadLimits()), no_progress)


def cloud_of(path: Path, **settings: bool) -> PointCloud:
    cloud = read(path, **settings).model
    assert isinstance(cloud, PointCloud)
    return cloud


def positions_of(cloud: PointCloud) -> np.ndarray:
    stored = cloud.points["position"].astype(np.float64)
    return stored @ cloud.matrix[:3, :3].T + cloud.matrix[:3, 3]


def texts_of(imported: Imported) -> str:
    return " ".join(str(warning.details) for warning in imported.warnings)


def refused(path: Path) -> str:
    with pytest.raises(FarframeError) as caught:
        read(path)
    assert caught.value.result is Result.FILE_CORRUPT, caught.value
    assert caught.value.next_step
    return caught.value.message


def write_ply(
    path: Path,
    *,
    form: str = "binary_little_endian",
    names: tuple[str, str, str] = ("red", "green", "blue"),
    kind: str = "uchar",
    claim: int | None = None,
    colors: np.ndarray | None = COLORS,
) -> Path:
    order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "<"}[form]
    fields = [("x", "f4"), ("nx", "f8"), ("y", "f8"), ("z", "f4")]
    if colors is not None:
        fields += [(name, {"uchar": "u1", "ushort": "u2", "float": "f4"}[kind]) for name in names]
    rows = np.zeros(len(POSITIONS), [(name, order + code) for name, code in fields])
    for axis, name in enumerate("xyz"):
        rows[name] = POSITIONS[:, axis]
    if colors is not None:
        for channel, name in enumerate(names):
            rows[name] = colors[:, channel]
    said = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort"}
    header = [f"ply\nformat {form} 1.0\ncomment made by a test\nelement vertex {claim or len(rows)}"]
    header += [f"property {said[code]} {name}" for name, code in fields]
    header.append("end_header\n")
    if form == "ascii":
        body = "\n".join(" ".join(str(value) for value in row) for row in rows.tolist()).encode() + b"\n"
    else:
        body = rows.tobytes()
    path.write_bytes("\n".join(header).encode() + body)
    return path


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
@pytest.mark.parametrize("prefix", ["", "diffuse_", "ambient_"])
def test_ply(tmp_path: Path, form: str, prefix: str) -> None:
    names = (f"{prefix}red", f"{prefix}green", f"{prefix}blue")
    imported = read(write_ply(tmp_path / "a.ply", form=form, names=names), gamma_to_linear_vertex=False)
    np.testing.assert_allclose(positions_of(imported.model), POSITIONS, atol=1e-5)
    np.testing.assert_array_equal(imported.model.points["color"][:, :3], COLORS)
    assert imported.model.generator == "made by a test"
    assert imported.info.vertices == 4
    assert not imported.warnings


def test_ply_colors_of_other_types(tmp_path: Path) -> None:
    words = COLORS.astype(np.uint16) * 257
    cloud = cloud_of(write_ply(tmp_path / "a.ply", kind="ushort", colors=words), gamma_to_linear_vertex=False)
    np.testing.assert_array_equal(cloud.points["color"][:, :3], COLORS)
    units = COLORS / 255.0
    cloud = cloud_of(write_ply(tmp_path / "b.ply", kind="float", colors=units), gamma_to_linear_vertex=False)
    np.testing.assert_array_equal(cloud.points["color"][:, :3], COLORS)


def test_colors_are_srgb_unless_told_otherwise(tmp_path: Path) -> None:
    cloud = cloud_of(write_ply(tmp_path / "a.ply"))
    np.testing.assert_array_equal(cloud.points["color"][:, :3], srgb_to_linear_table(256)[COLORS])
    assert srgb_to_linear_table(256)[[0, 128, 255]].tolist() == [0, 55, 255]


def test_ply_without_colors_is_white_and_says_so(tmp_path: Path) -> None:
    imported = read(write_ply(tmp_path / "a.ply", colors=None))
    assert (imported.model.points["color"] == 255).all()
    assert "white" in texts_of(imported)


def test_ply_that_lies_about_its_count(tmp_path: Path) -> None:
    assert "says that it has 5 points" in refused(write_ply(tmp_path / "a.ply", claim=5))
    assert "1,000,000,000" in refused(write_ply(tmp_path / "b.ply", claim=10**9))
    assert refused(write_ply(tmp_path / "c.ply", claim=10**9, form="ascii"))


def test_pond(models_folder: Path) -> None:
    imported = read(models_folder / "pond.ply")
    assert imported.info.vertices == 70_051
    assert np.ptp(imported.model.points["color"][:, 0]) > 50


@pytest.mark.parametrize("separator", [" ", "\t", ",", " ; "])
def test_xyz(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.xyz"
    rows = np.hstack([POSITIONS, COLORS])
    path.write_text("\n".join(separator.join(f"{value:g}" for value in row) for row in rows) + "\n\n")
    imported = read(path, gamma_to_linear_vertex=False)
    np.testing.assert_allclose(positions_of(imported.model), POSITIONS, atol=1e-5)
    np.testing.assert_array_equal(imported.model.points["color"][:, :3], COLORS)
    assert not imported.warnings


def test_xyz_with_a_header_and_odd_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    lines = [f"{x} {y} {z} {r} {g} {b}" for (x, y, z), (r, g, b) in zip(POSITIONS, COLORS, strict=True)]
    path.write_text("\n".join(["//X Y Z R G B", "4", *lines[:2], "1 2 3", "nan 1 2 3 4 5", *lines[2:]]))
    imported = read(path, gamma_to_linear_vertex=False)
    np.testing.assert_allclose(positions_of(imported.model), POSITIONS, atol=1e-5)
    assert "3 lines are no points" in texts_of(imported)
    assert "1 of 5 points" in texts_of(imported)


def test_xyz_in_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farframe.convert.importers.points_xyz.BLOCK_BYTES", 1000)
    generator = np.random.default_rng(5)
    rows = np.hstack([generator.normal(0, 100, (500, 3)), generator.integers(0, 256, (500, 3))])
    path = tmp_path / "a.xyz"
    np.savetxt(path, rows, "%.6f %.6f %.6f %d %d %d")
    cloud = cloud_of(path, gamma_to_linear_vertex=False)
    np.testing.assert_allclose(positions_of(cloud), rows[:, :3], atol=1e-4)
    np.testing.assert_array_equal(cloud.points["color"][:, :3], rows[:, 3:])


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_xyz_intensity_and_unit_colors(tmp_path: Path, scale: float) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("\n".join(f"{i} 0 0 {i / 99 * scale}" for i in range(100)))
    grey = cloud_of(path, gamma_to_linear_vertex=False).points["color"][:, 0].astype(int)
    assert (np.diff(grey) >= 0).all()
    assert grey[0] == 0
    assert grey[-1] == 255
    path.write_text("0 0 0 0.5 0 1\n1 0 0 0.25 0 1\n")
    assert cloud_of(path, gamma_to_linear_vertex=False).points["color"][0].tolist() == [128, 0, 255, 255]


def test_xyz_that_is_no_list_of_points(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_bytes(b"\0" * 100)
    assert "zero bytes" in refused(path)
    path.write_text("words and more words\n" * 1000)
    assert "no points" in refused(path)
    path.write_text("")
    assert refused(path)
    path.write_text("1 2\n" * 500)
    assert refused(path)


def test_words_of_lines_are_counted() -> None:
    assert _same_width(b"1 2 3\n 4  5 6 ", 3)
    assert not _same_width(b"1 2\n3 4 5 6", 3)
    assert not _same_width(b"1 2 3\n\n4 5 6", 2)
    assert not _same_width(b"\n1 2 3 4 5 6", 3)


def write_las(path: Path, *, point_format: int = 3, version: str = "1.2", bits: int = 16) -> Path:
    header = laspy.LasHeader(point_format=point_format, version=version)
    header.offsets = np.array([500_000.0, 5_000_000.0, 0.0])
    header.scales = np.array([0.001, 0.001, 0.001])
    las = laspy.LasData(header)
    las.x, las.y, las.z = POSITIONS[:, 0] + 500_000.0, POSITIONS[:, 1] + 5_000_000.0, POSITIONS[:, 2]
    las.intensity = np.array([100, 200, 300, 400], np.uint16)
    if point_format in (2, 3, 7):
        scale = 257 if bits == 16 else 1
        las.red, las.green, las.blue = (COLORS[:, i].astype(np.uint16) * scale for i in range(3))
    las.write(path)
    return path


@pytest.mark.parametrize("name", ["a.las", "a.laz"])
@pytest.mark.parametrize(("point_format", "version"), [(3, "1.2"), (7, "1.4")])
@pytest.mark.parametrize("bits", [8, 16])
def test_las(tmp_path: Path, name: str, point_format: int, version: str, bits: int) -> None:
    path = write_las(tmp_path / name, point_format=point_format, version=version, bits=bits)
    cloud = cloud_of(path, gamma_to_linear_vertex=False)
    np.testing.assert_allclose(positions_of(cloud), POSITIONS + np.array([500_000.0, 5_000_000.0, 0.0]), atol=1e-5)
    np.testing.assert_array_equal(cloud.points["color"][:, :3], COLORS)
    assert cloud.source_format == name[2:].upper()
    assert cloud.format_version == version
    assert cloud.metadata["pointFormat"] == point_format


def test_las_colors_that_turn_out_to_be_of_16_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farframe.convert.importers.points_las.BLOCK_POINTS", 1)
    las = laspy.read(write_las(tmp_path / "a.las"))
    las.red, las.green, las.blue = (np.array([200, 200, 65535, 0], np.uint16) for _ in range(3))
    las.write(tmp_path / "b.las")
    cloud = cloud_of(tmp_path / "b.las", gamma_to_linear_vertex=False)
    assert cloud.points["color"][:, 0].tolist() == [1, 1, 255, 0]


def test_las_without_colors_shows_intensity(tmp_path: Path) -> None:
    cloud = cloud_of(write_las(tmp_path / "a.las", point_format=1), gamma_to_linear_vertex=False)
    assert cloud.points["color"][:, 0].tolist() == [0, 85, 170, 255]
    assert cloud.points["color"][:, 3].tolist() == [255] * 4


def test_las_withheld_points_are_left_out(tmp_path: Path) -> None:
    las = laspy.read(write_las(tmp_path / "a.las"))
    las.withheld[:] = np.array([0, 1, 0, 0])
    las.write(tmp_path / "b.las")
    imported = read(tmp_path / "b.las")
    assert imported.info.vertices == 3
    assert "withheld" in texts_of(imported)


def test_las_headers_that_lie(tmp_path: Path) -> None:
    good = write_las(tmp_path / "a.las").read_bytes()
    path = tmp_path / "b.las"
    for offset, value, expected in (
        (107, struct.pack("<I", 10**9), "too short"),
        (96, struct.pack("<I", 10**9), "nothing"),
        (100, struct.pack("<I", 10**9), "do not fit"),
        (107, struct.pack("<I", 0), "no points"),
        (24, b"\x02", "version"),
    ):
        path.write_bytes(good[:offset] + value + good[offset + len(value) :])
        assert expected in refused(path)
    path.write_bytes(good[:100])
    assert "shorter" in refused(path)


def write_e57(path: Path, *, color: bool = True, intensity: bool = False, scans: int = 1) -> Path:
    with pye57.E57(str(path), mode="w") as file:
        for scan in range(scans):
            data = {f"cartesian{axis}": POSITIONS[:, i].copy() for i, axis in enumerate("XYZ")}
            if color:
                data |= {f"color{name}": COLORS[:, i].copy() for i, name in enumerate(("Red", "Green", "Blue"))}
            if intensity:
                data["intensity"] = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
            turn = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
            file.write_scan_raw(data, rotation=turn, translation=np.array([100.0 * scan, 0.0, 0.0]))
    return path


def test_e57(tmp_path: Path) -> None:
    imported = read(write_e57(tmp_path / "a.e57", scans=2), gamma_to_linear_vertex=False)
    turned = np.stack([-POSITIONS[:, 1], POSITIONS[:, 0], POSITIONS[:, 2]], axis=1)
    expected = np.concatenate([turned, turned + np.array([100.0, 0.0, 0.0])])
    np.testing.assert_allclose(positions_of(imported.model), expected, atol=1e-4)
    np.testing.assert_array_equal(imported.model.points["color"][:, :3], np.concatenate([COLORS, COLORS]))
    assert imported.model.metadata["scans"] == 2
    assert imported.model.metadata["scan1.points"] == 4


def test_e57_without_colors_shows_intensity(tmp_path: Path) -> None:
    cloud = cloud_of(write_e57(tmp_path / "a.e57", color=False, intensity=True), gamma_to_linear_vertex=False)
    assert cloud.points["color"][:, 0].tolist() == [0, 64, 128, 255]
    white = cloud_of(write_e57(tmp_path / "b.e57", color=False))
    assert (white.points["color"] == 255).all()


def test_e57_that_defines_entities(tmp_path: Path) -> None:
    data = bytearray(write_e57(tmp_path / "a.e57").read_bytes())
    at = data.index(b"<?xml")
    data[at : at + 21] = b"<!DOCTYPE a [<!ENTITY"
    (tmp_path / "b.e57").write_bytes(data)
    assert "entities" in refused(tmp_path / "b.e57")
    (tmp_path / "c.e57").write_bytes(data[:-1024])
    assert "says that it has" in refused(tmp_path / "c.e57")


def test_metadata_is_kept_by_key(tmp_path: Path) -> None:
    path = write_las(tmp_path / "a.las")
    settings = ConversionSettings(metadata_keys=["point*"])
    imported = import_file(path, tmp_path, settings, Budget(LoadLimits()), no_progress)
    assert imported.node_metadata == {0: {"pointFormat": 3}}


def test_points_that_are_no_numbers_are_left_out() -> None:
    with PointSpool(name="a", budget=Budget(LoadLimits()), colors=ColorMap(gamma=False)) as spool:
        spool.append(np.array([[0.0, 0.0, 0.0], [np.nan, 0.0, 0.0], [0.0, np.inf, 0.0], [1e20, 0.0, 0.0]]))
        cloud = spool.finish()
    assert len(cloud.points) == 1
    assert "3 of 4 points" in cloud.warnings[0]
    with PointSpool(name="a", budget=Budget(LoadLimits()), colors=ColorMap(gamma=False)) as spool:
        spool.append(np.array([[np.nan, 0.0, 0.0]]))
        with pytest.raises(FarframeError, match="no point"):
            spool.finish()


def test_positions_far_from_zero_keep_their_millimetres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "BLOCK_POINTS", 10)
    positions = np.random.default_rng(1).uniform(0, 100, (1000, 3)) + np.array([4_500_000.0, 5_300_000.0, 800.0])
    with PointSpool(name="a", budget=Budget(LoadLimits()), colors=ColorMap(gamma=False)) as spool:
        spool.append(positions)
        cloud = spool.finish()
    np.testing.assert_allclose(positions_of(cloud), positions, atol=1e-5)
    low, high = cloud.world_bounds()
    np.testing.assert_allclose(low, positions.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(high, positions.max(axis=0), atol=1e-5)
    np.testing.assert_array_equal(cloud.block(5, 9), cloud.points[5:9])


def test_slow_scans_are_given_up(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply")
    times = iter([0.0, *[1e9] * 100])
    budget = Budget(LoadLimits(), clock=lambda: next(times))
    with pytest.raises(FarframeError) as caught:
        import_file(path, tmp_path, ConversionSettings(), budget, no_progress)
    assert caught.value.result is Result.EXCEEDS_MEMORY_LIMIT


def _damage(data: bytes, generator: np.random.Generator) -> bytes:
    kind = generator.integers(4)
    if kind == 0:
        return data[: generator.integers(len(data))]
    damaged = bytearray(data)
    for _ in range(generator.integers(1, 8)):
        place = int(generator.integers(min(len(data), 400) if kind == 1 else len(data)))
        damaged[place] = int(generator.choice([0, 1, 127, 128, 255, int(generator.integers(256))]))
    if kind == 3:
        place = int(generator.integers(len(data)))
        damaged[place:place] = generator.bytes(int(generator.integers(1, 64)))
    return bytes(damaged)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.ply", write_ply),
        ("b.ply", lambda path: write_ply(path, form="ascii")),
        ("a.las", write_las),
        ("a.laz", lambda path: write_las(path, point_format=7, version="1.4")),
        ("a.e57", write_e57),
        ("a.xyz", lambda path: path.write_text("1 2 3 4 5 6\n7 8 9 10 11 12\n") and path),
    ],
)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    good = write(tmp_path / name).read_bytes()
    generator = np.random.default_rng(11)
    refusals = 0
    for _ in range(150):
        path = tmp_path / f"damaged{Path(name).suffix}"
        path.write_bytes(_damage(good, generator))
        try:
            cloud = read(path).model
        except FarframeError as error:
            refusals += 1
            assert error.result in (Result.FILE_CORRUPT, Result.NOT_SUPPORTED), error
        else:
            if isinstance(cloud, PointCloud):
                assert np.isfinite(cloud.points["position"]).all()
    assert refusals
