"""Broken and hostile files: every reader ends in a model that holds together or in an error that says what is wrong.

Readers in C run in a child process each, whose crash is an error about the file, too.
"""

from __future__ import annotations

import os
import random
import signal
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farframe.asset.budget import Budget, Progress, no_progress
from farframe.asset.model import Model
from farframe.convert.importers import Imported, InputInfo
from farframe.convert.importers.isolation import read_in_child
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.link import LoadLimits
from tests.convert.test_importers import CUBE, FACES, check, cube_triangles, ply_text, read, write_obj, write_stl

LIMITS = LoadLimits(max_memory_bytes=64 * 1024**2, max_seconds=20.0, max_triangles=100_000, max_nodes=10_000)
EXPECTED = {Result.FILE_CORRUPT, Result.EXCEEDS_MEMORY_LIMIT, Result.NOT_SUPPORTED, Result.FILE_NOT_FOUND}


def try_to_read(path: Path) -> None:
    """Read the file; what it gives must hold together, and errors must be of the expected kinds."""
    try:
        model = read(path, limits=LIMITS).model
    except FarframeError as error:
        assert error.result in EXPECTED and error.message and error.next_step
        return
    if not isinstance(model, Model):
        return  # A PLY file without faces is a point cloud; those have tests of their own.
    check(model)
    assert np.isfinite(model.vertices["position"]).all() and np.isfinite(model.instance_matrix).all()


def broken(data: bytes, chance: random.Random) -> bytes:
    """The data with bits flipped, bytes replaced, cut off, doubled or with a number that lies."""
    mutable = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        place = chance.randrange(len(mutable)) if mutable else 0
        match chance.randrange(6):
            case 0:
                mutable[place : place + 1] = bytes([mutable[place] ^ (1 << chance.randrange(8))]) if mutable else b""
            case 1:
                mutable[place : place + 4] = struct.pack("<I", chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 30)))
            case 2:
                del mutable[place:]
            case 3:
                mutable[place : place + 4] = struct.pack("<f", chance.choice((np.nan, np.inf, -np.inf, 3e38, -0.0)))
            case 4:
                mutable[place:place] = mutable[max(0, place - 60) : place]
            case 5:
                mutable[place : place + 1] = chance.choice((b"nan", b"-1", b"99999999999", b"/", b" ", b"\n", b"\0"))
    return bytes(mutable)


def binary_ply() -> bytes:
    data = ply_text("binary_little_endian", list(FACES)) + CUBE.astype("<f8").tobytes()
    return data + b"".join(struct.pack("<B4iB", 4, *face, 0) for face in FACES)


def ascii_ply() -> bytes:
    data = ply_text("ascii", list(FACES)) + "".join(f"{x} {y} {z}\n" for x, y, z in CUBE).encode()
    return data + "".join(f"4 {' '.join(map(str, face))} 9\n" for face in FACES).encode()


def ascii_stl() -> bytes:
    text = "solid cube\n"
    for triangle in cube_triangles():
        text += "facet\nouter loop\n" + "".join(f"vertex {x} {y} {z}\n" for x, y, z in triangle) + "endloop\nendfacet\n"
    return text.encode()


@pytest.mark.parametrize("name", ["binary.ply", "ascii.ply", "binary.stl", "ascii.stl"])
def test_mutations_of_our_own_readers_formats(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "binary.stl":
        data = write_stl(path, cube_triangles()).read_bytes()
    else:
        data = {"binary.ply": binary_ply, "ascii.ply": ascii_ply, "ascii.stl": ascii_stl}[name]()
    path.write_bytes(data)
    assert read(path).model.triangle_count == 12
    chance = random.Random(name)
    for _ in range(300):
        path.write_bytes(broken(data, chance))
        try_to_read(path)


@pytest.mark.parametrize("name", ["phong_cube.fbx", "spider.fbx"])
def test_mutations_of_fbx(tmp_path: Path, models_folder: Path, name: str) -> None:
    data = (models_folder / name).read_bytes()
    chance = random.Random(name)
    path = tmp_path / "a.fbx"
    for _ in range(60):
        path.write_bytes(broken(data, chance))
        try_to_read(path)


def test_mutations_of_obj(tmp_path: Path) -> None:
    path = write_obj(tmp_path, "Kd 0.5 0.25 1\nNs 98\nmap_Kd a.png\n")
    library = tmp_path / "lib" / "some materials.mtl"
    data, text = path.read_bytes(), library.read_bytes()
    chance = random.Random("obj")
    for _ in range(80):
        path.write_bytes(broken(data, chance))
        library.write_bytes(broken(text, chance))
        try_to_read(path)


def imported() -> Imported:
    """Something that a reader could have made."""
    info = InputInfo(extension=".x", format="X")
    return Imported(model={"large": np.arange(100_000), "small": np.arange(3, dtype="<u2")}, info=info)


def test_what_a_child_reads_comes_back_mapped_and_writable() -> None:
    stages: list[tuple[str, float]] = []

    def work(progress: Progress) -> Imported:
        progress("half", 0.5)
        return imported()

    found = read_in_child(work, "a.x", Budget(LIMITS), lambda stage, fraction: stages.append((stage, fraction)))
    assert found.model["large"].tolist() == list(range(100_000)) and found.info.format == "X"
    found.model["small"][1] = 9
    assert found.model["small"].tolist() == [0, 9, 2] and stages == [("half", 0.5)]


def test_a_child_that_crashes_or_fails_is_an_error_about_the_file() -> None:
    def crash(progress: Progress) -> Imported:
        os.kill(os.getpid(), signal.SIGKILL)
        return imported()

    def refuse(progress: Progress) -> Imported:
        raise FarframeError(Result.NOT_SUPPORTED, "Not this.", next_step="That.")

    def exhaust(progress: Progress) -> Imported:
        raise MemoryError

    for work, result in (
        (crash, Result.FILE_CORRUPT),
        (refuse, Result.NOT_SUPPORTED),
        (exhaust, Result.EXCEEDS_MEMORY_LIMIT),
    ):
        with pytest.raises(FarframeError) as caught:
            read_in_child(work, "a.x", Budget(LIMITS), no_progress)
        assert caught.value.result is result and caught.value.next_step


def test_a_child_ends_when_its_time_is_up_or_nobody_wants_it() -> None:
    def hang(progress: Progress) -> Imported:
        progress(str(os.getpid()), 0.1)
        signal.pause()
        return imported()

    pids: list[int] = []

    def give_up(stage: str, fraction: float) -> None:
        pids.append(int(stage))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_in_child(hang, "a.x", Budget(LIMITS), give_up)
    times = iter([0.0, 0.0, 0.0, *[1e9] * 100])
    with pytest.raises(FarframeError):
        read_in_child(hang, "a.x", Budget(LIMITS, lambda: next(times)), lambda stage, _: pids.append(int(stage)))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    header=st.lists(
        st.sampled_from(
            [
                "format ascii 1.0",
                "format binary_little_endian 1.0",
                "format binary_big_endian 1.0",
                "element vertex 3",
                "element vertex 99999999999",
                "element face 1",
                "element face -1",
                "element other 2",
                "property float x",
                "property float y",
                "property double z",
                "property uchar red",
                "property list uchar int vertex_indices",
                "property list int double vertex_index",
                "property list float int vertex_indices",
                "property half x",
                "comment TextureFile ../../etc/passwd",
                "",
            ]
        ),
        max_size=12,
    ),
    body=st.binary(max_size=80) | st.text("0123456789 .-einfa\n", max_size=80).map(str.encode),
)
def test_any_ply_header(tmp_path: Path, header: list[str], body: bytes) -> None:
    path = tmp_path / "a.ply"
    lines = ["ply", *header, "element face 1", "property list uchar int v", "end_header\n"]
    path.write_bytes("\n".join(lines).encode() + body)
    try_to_read(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(head=st.binary(max_size=90), body=st.binary(max_size=160))
def test_any_stl(tmp_path: Path, head: bytes, body: bytes) -> None:
    path = tmp_path / "a.stl"
    for data in (head + body, head.ljust(80, b" ")[:80] + struct.pack("<I", len(body) // 50) + body):
        path.write_bytes(data)
        try_to_read(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.stl", b"solid x\nfacet\nvertex 1 2 nonsense\n"),
        ("a.stl", b"solid x\n" + b"vertex 1 2 3\n" * 4),
        ("a.stl", bytes(80) + struct.pack("<I", 0xFFFFFFFF) + bytes(50)),
        ("a.stl", b"vertex" * 100),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int vertex_indices\nelement face 1\n"),
        ("a.ply", ply_text("ascii", [(0, 1, 2)]) + b"0 0 0\n" * 8 + b"3 0 1 8 0\n"),
        ("a.ply", ply_text("ascii", [(0, 1, 2)]) + b"0 0 0\n" * 8 + b"3 0 1 -2 0\n"),
        ("a.ply", ply_text("ascii", [(0, 1, 2)]) + b"0 0 0\n" * 8 + b"2.5 0 1 2 0\n"),
        ("a.ply", ply_text("binary_little_endian", [(0, 1, 2)]) + bytes(192) + b"\xff\0\0\0"),
        ("a.ply", ply_text("ascii", [(0, 1, 2)]) + b"nan 0 0\n" * 8 + b"3 0 1 2 0\n"),
        ("a.fbx", b"Kaydara FBX Binary  \0\x1a\0" + bytes(1_000)),
        ("a.fbx", b"; FBX 7.4.0 project file\nObjects: {"),
        ("a.fbx", b""),
    ],
)
def test_lies_are_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FarframeError) as caught:
        read(tmp_path / name, limits=LIMITS)
    assert caught.value.result in EXPECTED and caught.value.message
