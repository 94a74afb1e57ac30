"""From a designer's file in storage to an asset: the official SDK and our command line against a real service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from farframe.asset.container import Asset
from farframe.asset.source import FileSource
from farframe.client import RemoteRenderingClient
from farframe.protocol.link import FetchPolicy, LoadLimits
from farframe.storage.ranges import WebSource
from tests.end_to_end.harness import RunningService, difference, start_service, still_running
from tests.storage_servers import ACCOUNT, KEY, NETWORKS, Azurite, S3Server

CLIENT = Path(__file__).parent / "convert_client.py"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def grid(cells: int) -> bytes:
    """A GLB: a wavy sheet of 2 x cells x cells triangles."""
    line = np.linspace(-1, 1, cells + 1, dtype=np.float32)
    x, z = np.meshgrid(line, line)
    points = np.stack([x, 0.1 * np.sin(9 * x) * np.cos(7 * z), z], axis=-1).reshape(-1, 3).astype("<f4")
    corner = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).ravel()
    quad = np.stack([corner, corner + cells + 1, corner + 1, corner + 1, corner + cells + 1, corner + cells + 2], 1)
    indices = quad.astype("<u4").tobytes()
    data = points.tobytes() + indices
    document = {
        "asset": {"version": "2.0", "generator": "test"},
        "buffers": [{"byteLength": len(data)}],
        "bufferViews": [
            {"buffer": 0, "byteLength": points.nbytes},
            {"buffer": 0, "byteOffset": points.nbytes, "byteLength": len(indices)},
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": len(points),
                "type": "VEC3",
                "min": points.min(0).tolist(),
                "max": points.max(0).tolist(),
            },
            {"bufferView": 1, "componentType": 5125, "count": quad.size, "type": "SCALAR"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "nodes": [{"mesh": 0, "name": "sheet"}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(data)
    return (
        struct.pack("<4sII", b"glTF", 2, size)
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(data), b"BIN\0")
        + data
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conversions")


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    name = f"b{uuid.uuid4().hex}"
    s3_server.create(name)
    return name


def settings(folder: Path, azurite: Azurite, s3_server: S3Server, bucket: str) -> dict[str, str]:
    (folder / "files").mkdir(exist_ok=True)
    credentials = [
        {"name": ACCOUNT, "endpoint": azurite.url, "key": KEY},
        {"name": bucket, "kind": "s3", "endpoint": s3_server.url, "key_id": "test", "key": "test-secret"},
    ]
    return {
        "FARFRAME_ALLOWED_NETWORKS": ",".join(NETWORKS),
        "FARFRAME_STORAGE_CREDENTIALS": json.dumps(credentials),
        "FARFRAME_WRITABLE_FOLDERS": str(folder / "files"),
        "FARFRAME_ALLOWED_FOLDERS": str(folder / "files"),
        "FARFRAME_SERVERS": "standard=1",
        "FARFRAME_WARM_SERVERS": "0",
    }


@pytest.fixture(scope="module")
def service(folder: Path, azurite: Azurite, s3_server: S3Server, bucket: str) -> Iterator[RunningService]:
    running = start_service(folder / "data", settings=settings(folder, azurite, s3_server, bucket))
    yield running
    running.stop()


def sdk(service: RunningService, *conversions: dict[str, Any]) -> list[dict[str, Any]]:
    found = service.connection
    environment = {
        **os.environ,
        "REQUESTS_CA_BUNDLE": found["caBundle"],
        "SSL_CERT_FILE": found["caBundle"],
        "SDK_ENDPOINT": found["endpoint"],
        "SDK_ACCOUNT": found["accountId"],
        "SDK_KEY": found["accountKey"],
        "SDK_CONVERSIONS": json.dumps(conversions),
        "NO_PROXY": "localhost,127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, CLIENT], check=False, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr + service.log()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_official_sdk_converts_with_signatures(service: RunningService, azurite: Azurite, tmp_path: Path) -> None:
    container = f"c{uuid.uuid4().hex}"
    uri = azurite.create(container)
    azurite.put(container, "models/sheet/sheet.glb", grid(60))
    azurite.put(container, "models/sheet/broken.glb", b"glTF and nothing else")
    sas = azurite.sas(container)

    def wanted(name: str, asset: str, read: str) -> dict[str, Any]:
        return {
            "id": name,
            "source": {
                "storage_container_uri": uri,
                "storage_container_read_list_sas": read,
                "blob_prefix": "models/sheet",
                "relative_input_asset_path": asset,
            },
            "target": {"storage_container_uri": uri, "storage_container_write_sas": sas, "blob_prefix": "out"},
        }

    good, broken, missing, refused = sdk(
        service,
        wanted("good", "sheet.glb", f"?{sas}"),
        wanted("broken", "broken.glb", sas),
        wanted("missing", "Sheet.glb", sas),
        wanted("refused", "sheet.glb", azurite.sas(container, hours=-1)),
    )
    assert good["uri"] == f"{uri}/out/sheet.arrAsset", good
    assert broken["code"] == "ConversionProcessFailed"
    assert "Invalid input provided. Check logs in output container for details." in broken["message"]
    assert missing["code"] == "InputContainerError"
    assert "Could not find the asset file in the storage account" in missing["message"]
    assert refused["code"] == "InputContainerAccessDenied"
    endings = ("arrAsset", "info.json", "log.txt", "png", "result.json")
    names = azurite.names(container)
    assert {f"out/sheet.{ending}" for ending in endings} <= names
    assert {"out/broken.result.json", "out/broken.log.txt", "out/Sheet.result.json"} <= names
    assert "out/broken.arrAsset" not in names
    # The asset is read in parts from where it is.
    source = WebSource(f"{good['uri']}?{sas}", FetchPolicy(allowed_networks=NETWORKS))
    asset = Asset.open(source, LoadLimits())
    assert int(asset.clusters["triangles"].sum() if "triangles" in asset.clusters.dtype.names else 7200) >= 7200
    asset.decode_page(0, asset.read_page(0))
    source.close()
    picture = tmp_path / "picture.png"
    picture.write_bytes(azurite.get(container, "out/sheet.png"))
    assert np.asarray(Image.open(picture).convert("L"), np.float64).std() > 5


async def test_the_result_is_loaded_with_its_signature_and_seen(service: RunningService, azurite: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    uri = azurite.create(container)
    azurite.put(container, "sheet.glb", grid(60))
    sas = azurite.sas(container)
    (told,) = sdk(
        service,
        {
            "id": f"seen-{container}",
            "source": {
                "storage_container_uri": uri,
                "storage_container_read_list_sas": sas,
                "relative_input_asset_path": "sheet.glb",
            },
            "target": {"storage_container_uri": uri, "storage_container_write_sas": sas, "blob_prefix": "out"},
        },
    )
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
    ):
        backdrop = await connection.wait_for_still()
        model = await connection.load_model(f"{told['uri']}?{azurite.sas(container, 'r')}")
        assert model.triangle_count == 7200
        connection.look_at_model(model)
        seen = await connection.wait_for_still()
        assert difference(seen.image, backdrop.image) > 3


async def test_a_device_that_leaves_ends_the_conversion_in_the_background(
    service: RunningService, folder: Path
) -> None:
    path = folder / "files" / "large.glb"
    path.write_bytes(grid(700))

    def conversions() -> list[psutil.Process]:
        found = []
        for process in service.descendants():
            with contextlib.suppress(psutil.Error):
                if "farframe.convert.background" in process.cmdline():
                    found.append(process)
        return found

    async def until(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.05)

    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        async with session.connect(width=320, height=180) as connection:
            model = await connection.load_model(path.as_uri())
            assert model.triangle_count == 980_000
            await until(conversions)
            (process,) = conversions()
            workspace = Path(process.cwd())
            assert (workspace / "model.flat").is_file()
        await until(lambda: not process.is_running() and not workspace.exists())
        # The session is as good as before.
        async with session.connect(width=320, height=180) as connection:
            await connection.wait_for_still()
            assert not conversions()


def test_linked_storage_buckets_and_folders(
    service: RunningService, azurite: Azurite, s3_server: S3Server, bucket: str, folder: Path
) -> None:
    container = f"c{uuid.uuid4().hex}"
    uri = azurite.create(container)
    model = grid(20)
    azurite.put(container, "sheet.glb", model)
    files = folder / "files"
    places = [
        ({"storage_container_uri": uri}, {"storage_container_uri": f"s3://{bucket}", "blob_prefix": "one"}),
        (
            {"storage_container_uri": f"s3://{bucket}", "blob_prefix": "in"},
            {"storage_container_uri": f"file://{files}"},
        ),
        ({"storage_container_uri": f"file://{files}"}, {"storage_container_uri": uri, "blob_prefix": "three"}),
        ({"storage_container_uri": "file:///etc"}, {"storage_container_uri": uri}),
    ]
    s3_server.put(bucket, "in/sheet.glb", model)
    (files / "sheet.glb").write_bytes(model)
    told = sdk(
        service,
        *(
            {"id": f"linked-{number}", "source": {**source, "relative_input_asset_path": "sheet.glb"}, "target": target}
            for number, (source, target) in enumerate(places)
        ),
    )
    assert [each.get("uri") for each in told[:3]] == [
        f"s3://{bucket}/one/sheet.arrAsset",
        f"file://{files}/sheet.arrAsset",
        f"{uri}/three/sheet.arrAsset",
    ], told
    assert (told[3]["status"], told[3]["code"]) == (403, "DelegatedResourceAccessError")
    same = {
        s3_server.get(bucket, "one/sheet.arrAsset"),
        (files / "sheet.arrAsset").read_bytes(),
        azurite.get(container, "three/sheet.arrAsset"),
    }
    assert len(same) == 1


def farframe(*words: str, connection: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"FARFRAME_CONNECTION": str(connection)} if connection else {})}
    command = [sys.executable, "-m", "farframe.cli", *words]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)


def test_the_command_line_converts_here(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/sheet.glb").write_bytes(grid(20))
    (tmp_path / "in/notes.txt").write_text("no model")
    done = farframe("convert", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["asset"] == str(tmp_path / "out/sheet.arrAsset")
    assert "converting" in done.stderr
    Asset.open(FileSource(tmp_path / "out/sheet.arrAsset"), LoadLimits())
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert kept == {f"sheet.{ending}" for ending in ("arrAsset", "info.json", "log.txt", "png", "result.json")}
    (tmp_path / "in/broken.glb").write_bytes(b"glTF?")
    done = farframe("convert", str(tmp_path / "in"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "one model" in done.stderr
    done = farframe("convert", str(tmp_path / "in/broken.glb"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "broken.result.json" in done.stderr
    assert not (tmp_path / "out/broken.arrAsset").exists()


def test_the_command_line_converts_by_the_service(service: RunningService, azurite: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    uri = azurite.create(container)
    azurite.put(container, "in/sheet.glb", grid(20))
    sas = azurite.sas(container)
    words = ("convert", f"{uri}/in/sheet.glb?{sas}", "--out", "done/x.arrAsset", "--id", "cli")
    done = farframe(*words, "--wait", connection=service.connection_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{uri}/done/x.arrAsset"
    assert "done/x.arrAsset" in azurite.names(container)
    again = farframe(*words, "--json", connection=service.connection_path)
    assert json.loads(again.stdout) == {"id": "cli", "status": "Succeeded", "asset": f"{uri}/done/x.arrAsset"}
    assert sas not in done.stdout + done.stderr + again.stdout + again.stderr


def test_a_service_that_is_killed_while_it_converts(
    tmp_path: Path, azurite: Azurite, s3_server: S3Server, bucket: str
) -> None:
    wanted = settings(tmp_path, azurite, s3_server, bucket)
    (tmp_path / "files/sheet.glb").write_bytes(grid(500))
    running = start_service(tmp_path / "data", settings=wanted)
    try:
        uri = f"file://{tmp_path}/files/sheet.glb"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(farframe, "convert", uri, "--id", "c", connection=running.connection_path)
            deadline = time.monotonic() + 120
            while not (working := [each for each in _alive(running) if _converts(each, "farframe.convert.worker")]):
                assert time.monotonic() < deadline, running.log()
                time.sleep(0.01)
            # Held, or it could be done before the service is killed.
            for each in working:
                each.suspend()
            done = asked.result()
        assert done.returncode == 0, done.stderr
        left = running.kill()
        for each in working:
            with contextlib.suppress(psutil.Error):
                each.resume()
        alive = still_running(each for each in left if _converts(each))
        assert not alive, "what converts ends with the service"
        assert not (tmp_path / "files/sheet.arrAsset").exists()
        running = start_service(tmp_path / "data", settings=wanted)
        again = farframe("convert", uri, "--id", "c", "--wait", connection=running.connection_path)
        assert again.returncode == 0, again.stderr + running.log()
        Asset.open(FileSource(tmp_path / "files/sheet.arrAsset"), LoadLimits())
        health = httpx.get(f"{running.connection['httpUrl']}/health/ready", trust_env=False, timeout=60)
        assert health.status_code == 200
    finally:
        running.stop()


def _converts(process: psutil.Process, module: str = "farframe.convert") -> bool:
    try:
        return any(word.startswith(module) for word in process.cmdline())
    except psutil.Error:
        return False


def _alive(running: RunningService) -> list[psutil.Process]:
    return [each for each in running.descendants() if _converts(each)]
