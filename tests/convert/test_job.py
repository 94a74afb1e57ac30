"""A conversion from storage to storage, and what hostile ones can do: nothing but fail, with a result file."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farframe.convert.job import ASSET_MISSING, INPUT_DENIED, INPUT_INVALID, OUTPUT_DENIED, TOO_LARGE
from farframe.convert.sandbox import descendants
from farframe.protocol.conversion import (
    ConversionEnd,
    ConversionLimits,
    ConversionNews,
    ConversionOrder,
    ConversionStep,
    StoragePlace,
)
from tests.convert import stand_in
from tests.storage_servers import NETWORKS, Azurite, S3Server

ROOT = Path(__file__).parents[2]
LIMITS = ConversionLimits(memory_bytes=400 * 1024**2, disk_bytes=64 * 1024**2, seconds=60.0, transfer_seconds=60.0)


class Folders:
    """Input and output as folders on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("in", "out", "job"):
            (folder / name).mkdir()

    def order(self, text: str, **changes: Any) -> ConversionOrder:
        (self.folder / "in/model.fbx").write_text(text)
        wanted: dict[str, Any] = {
            "conversion_id": "c",
            "folder": str(self.folder / "job"),
            "source": StoragePlace(kind="file", container=str(self.folder / "in")),
            "target": StoragePlace(kind="file", container=str(self.folder / "out"), prefix="run/"),
            "asset": "model.fbx",
            "base_name": "model",
            "limits": LIMITS,
            "allowed_folders": (str(self.folder / "in"),),
            "writable_folders": (str(self.folder / "out"),),
        }
        return ConversionOrder(**wanted | changes)

    @property
    def names(self) -> set[str]:
        return (
            {path.name for path in (self.folder / "out/run").iterdir()} if (self.folder / "out/run").exists() else set()
        )

    @property
    def result(self) -> list[dict[str, Any]]:
        value: list[dict[str, Any]] = json.loads((self.folder / "out/run/model.result.json").read_text())
        return value


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@contextlib.contextmanager
def started(order: ConversionOrder, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        stand_in.JOB,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def convert(order: ConversionOrder, **environment: str) -> tuple[ConversionEnd, list[ConversionStep]]:
    steps: list[ConversionStep] = []
    with started(order, **environment) as process:
        for line in process.stdout:  # type: ignore[union-attr]
            news: ConversionNews = msgspec.json.decode(line, type=ConversionNews)
            if isinstance(news, ConversionEnd):
                assert process.wait(60) == 0
                return news, steps
            steps.append(news)
    raise AssertionError("the job ended without an end")


def until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_all_results_arrive(folders: Folders) -> None:
    (folders.folder / "in/textures").mkdir()
    (folders.folder / "in/textures/wood & iron.png").write_bytes(b"12345")
    end, steps = convert(folders.order("good model"))
    assert end == ConversionEnd(bytes_read=15)
    assert folders.names == {"model.arrAsset", "model.info.json", "model.log.txt", "model.result.json"}
    assert (folders.folder / "out/run/model.arrAsset").read_bytes() == b"asset of good model"
    assert folders.result == [{"conversionId": "c"}, {"result": "succeeded"}]
    assert steps[0].stage == "listing"
    assert {"downloading", "converting", "building", "uploading"} <= {step.stage for step in steps}
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)
    log = (folders.folder / "out/run/model.log.txt").read_text()
    assert "converted model.fbx" in log
    assert str(folders.folder / "job") not in log


@pytest.mark.parametrize("kind", ["azure", "s3"])
def test_from_storage_to_storage(kind: str, folders: Folders, request: pytest.FixtureRequest) -> None:
    name = f"c{uuid.uuid4().hex}"
    if kind == "azure":
        server: Azurite | S3Server = request.getfixturevalue("azurite")
        server.create(name)
        place = server.place(name, sas=server.sas(name))  # type: ignore[call-arg]
    else:
        server = request.getfixturevalue("s3_server")
        server.create(name)
        place = server.place(name)
    server.put(name, "models/house/model.fbx", b"good one")
    server.put(name, "models/other/large.bin", b"not mine" * 1000)
    order = folders.order(
        "unused",
        source=msgspec.structs.replace(place, prefix="models/house/"),
        target=msgspec.structs.replace(place, prefix="out/1/"),
        allowed_networks=NETWORKS,
    )
    # What the service's own environment holds must not be used.
    end, _ = convert(
        order, AWS_ENDPOINT="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", AZURE_STORAGE_KEY="eA=="
    )
    assert end == ConversionEnd(bytes_read=8)
    assert server.get(name, "out/1/model.arrAsset") == b"asset of good one"
    results = {f"out/1/model.{suffix}" for suffix in ("arrAsset", "info.json", "log.txt", "result.json")}
    assert {each for each in server.names(name) if each.startswith("out")} == results


def test_a_broken_model(folders: Folders) -> None:
    end, _ = convert(folders.order("broken model"))
    assert end.code == "ConversionProcessFailed"
    assert end.message == f"{INPUT_INVALID} The input asset is not valid. (2007)"
    assert folders.names == {"model.log.txt", "model.result.json"}
    assert folders.result[1]["error"] == "2007"
    assert folders.result[1]["details"] == {"import error": "It is broken."}


def test_an_asset_that_is_not_there(folders: Folders) -> None:
    end, _ = convert(folders.order("good model", asset="Model.fbx"))
    assert (end.code, end.message) == ("InputContainerError", ASSET_MISSING)
    assert folders.result[1]["error"] == "2003"


def test_signatures_that_storage_refuses(azurite: Azurite, folders: Folders) -> None:
    azurite.create("refused")
    azurite.put("refused", "model.fbx", b"good model")
    good = azurite.place("refused", sas=azurite.sas("refused"))
    bad = azurite.place("refused", sas=azurite.sas("refused", hours=-1))
    end, _ = convert(folders.order("good model", source=bad, allowed_networks=NETWORKS))
    assert end == INPUT_DENIED
    assert folders.result[-1] == {"result": "failed"}
    end, _ = convert(folders.order("good model", source=good, target=bad, allowed_networks=NETWORKS))
    assert end == msgspec.structs.replace(OUTPUT_DENIED, bytes_read=10)


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["memory", "memory-in-children", "disk", "files", "log", "loop"])
def test_hogs(behaviour: str, folders: Folders) -> None:
    seconds = 3.0 if behaviour == "loop" else 60.0
    end, _ = convert(folders.order(f"{behaviour} hog", limits=msgspec.structs.replace(LIMITS, seconds=seconds)))
    assert (end.code, end.message) == ("ConversionProcessFailed", TOO_LARGE)
    assert folders.names == {"model.log.txt", "model.result.json"}
    assert folders.result[1]["error"] == "2006"
    limit = {"memory": "memory", "memory-in-children": "memory", "loop": "time"}.get(behaviour, "disk")
    assert folders.result[1]["details"]["limit"] == limit


@pytest.mark.parametrize("behaviour", ["crash", "exit"])
def test_processes_that_vanish(behaviour: str, folders: Folders) -> None:
    end, _ = convert(folders.order(f"{behaviour} now"))
    assert end.code == "ConversionProcessFailed"
    assert folders.result[1]["internal error"] == "2009"


def test_what_the_sandbox_cannot_reach(folders: Folders) -> None:
    secret = folders.folder / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        convert(folders.order(f"reach {secret / 'key'}"), FARFRAME_TEST_PORT=str(port))
    assert (folders.folder / "out/run/model.arrAsset").read_text().split()[:4] == ["refused"] * 4


def test_a_link_is_not_uploaded(folders: Folders) -> None:
    secret = folders.folder / "secret"
    secret.write_text("secret")
    end, _ = convert(folders.order(f"link {secret}"))
    assert end.code
    assert not (folders.folder / "out/run/model.arrAsset").exists()


def test_a_job_that_is_killed_goes_on(folders: Folders) -> None:
    order = folders.order("slow go")
    job = folders.folder / "job"
    with started(order) as process:
        until((job / "output/attempts").exists)
        below = descendants(process.pid)
        process.kill()
        process.wait()
        until(lambda: all(not Path(f"/proc/{pid}").exists() or _dead(pid) for pid in below))
    (folders.folder / "in/go").touch()
    end, _ = convert(order)
    assert end.code == ""
    assert (folders.folder / "out/run/model.arrAsset").read_bytes() == b"slow"
    # What is converted is not converted again, only put where it belongs.
    (folders.folder / "out/run/model.arrAsset").unlink()
    (folders.folder / "in/go").unlink()
    end, _ = convert(order)
    assert end.code == ""
    assert (folders.folder / "out/run/model.arrAsset").read_bytes() == b"slow"


def test_closing_its_input_ends_it(folders: Folders) -> None:
    with started(folders.order("slow never")) as process:
        until((folders.folder / "job/output/attempts").exists)
        below = descendants(process.pid)
        assert len(below) > 1
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        until(lambda: all(not Path(f"/proc/{pid}").exists() or _dead(pid) for pid in below[1:]))


def _dead(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
