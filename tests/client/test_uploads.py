from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from farframe.client import InvalidRequestError, LocalFileError, RemoteRenderingClient, UploadProgress
from farframe.client._uploads import collect, is_uri
from farframe.client.conversions import StorageLocation
from tests.client.conftest import FakeService, error


def gltf(folder: Path, *uris: str, name: str = "model.gltf") -> Path:
    path = folder / name
    path.write_text(json.dumps({"buffers": [{"uri": uri} for uri in uris], "images": [{"bufferView": 0}]}))
    return path


async def test_one_file_is_sent_whole_with_progress(
    client: RemoteRenderingClient, service: FakeService, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "a model.glb").write_bytes(data)
    seen: list[UploadProgress] = []
    uri = await client.upload(tmp_path / "a model.glb", seen.append)
    ((name, sent),) = service.uploads.items()
    assert uri == f"upload://{name}"
    assert name.endswith("/a model.glb")
    assert sent == data
    assert [item.sent_bytes for item in seen] == sorted(item.sent_bytes for item in seen)
    assert seen[0].fraction == 0
    assert seen[-1].fraction == 1
    assert len(seen) >= 4


async def test_a_gltf_takes_its_files_along_and_comes_last(
    client: RemoteRenderingClient, service: FakeService, tmp_path: Path
) -> None:
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures" / "ä b.png").write_bytes(b"png")
    (tmp_path / "mesh.bin").write_bytes(b"")
    (tmp_path / "private.txt").write_text("not part of it")
    path = gltf(tmp_path, "mesh.bin", "textures/%C3%A4%20b.png", "data:application/octet-stream;base64,AA==")
    uri = await client.upload(path)
    names = [name.partition("/")[2] for name in service.uploads]
    assert names == ["mesh.bin", "textures/ä b.png", "model.gltf"]
    assert uri.endswith("/model.gltf")
    assert len({name.partition("/")[0] for name in service.uploads}) == 1


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.txt",
        "/etc/passwd",
        "file:///etc/passwd",
        "//host/share",
        "a/../../secret.txt",
        "%2e%2e/secret.txt",
        "link.txt",
        "https://example.org/x.bin",
        "http://[x",
        "x%00.bin",
    ],
)
def test_a_gltf_cannot_take_files_from_elsewhere(tmp_path: Path, uri: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(LocalFileError, match="not in its folder"):
        collect(gltf(folder, uri))


def test_a_missing_side_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match=r"mesh\.bin"):
        collect(gltf(tmp_path, "mesh.bin"))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"buffers": 3}'])
def test_a_broken_gltf_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.gltf").write_text(text)
    with pytest.raises(LocalFileError, match="not a glTF file"):
        collect(tmp_path / "model.gltf")


def test_a_folder_is_taken_whole_but_for_hidden_files_and_links_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "maps").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("scene.gltf", "maps/a.png", ".hidden", ".git/config"):
        (folder / name).write_text("{}")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    model = collect(folder)
    assert model.main == "scene.gltf"
    assert sorted(model.files) == ["maps/a.png", "scene.gltf"]


def test_a_folder_needs_one_model(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="holds no"):
        collect(tmp_path)
    for name in ("a.glb", "b.gltf"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(LocalFileError, match=r"several models: a\.glb, b\.gltf"):
        collect(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="There is no file"):
        collect(tmp_path / "nothing.glb")


def test_uris_are_told_from_paths() -> None:
    assert is_uri("builtin://Engine")
    assert is_uri("https://example.org/a.glb")
    assert not is_uri("models/a.glb")
    assert not is_uri(r"C:\models\a.glb")
    assert not is_uri(Path("builtin:/Engine"))


async def test_an_interrupted_upload_starts_again(
    client: RemoteRenderingClient, service: FakeService, tmp_path: Path
) -> None:
    (tmp_path / "model.glb").write_bytes(b"x" * 3_000_000)
    plain, failed = service.handle, []

    async def fail_once(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT" and not failed:
            failed.append(await request.aread())
            raise httpx.ReadError("gone")
        return await plain(request)

    client._http.http._transport.handler = fail_once
    await client.upload(tmp_path / "model.glb")
    assert [len(data) for data in service.uploads.values()] == [3_000_000]


async def test_a_file_that_grows_meanwhile_is_not_sent_half(
    client: RemoteRenderingClient, service: FakeService, tmp_path: Path
) -> None:
    path = tmp_path / "model.glb"
    path.write_bytes(b"x" * 2_000_000)

    def grow(progress: UploadProgress) -> None:
        if progress.sent_bytes == 0:
            with path.open("ab") as stream:
                stream.write(b"more")

    with pytest.raises(LocalFileError, match="changed"):
        await client.upload(path, grow)
    assert not service.uploads


async def test_a_full_quota_is_told(client: RemoteRenderingClient, service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "model.glb").write_bytes(b"x")
    plain = service.handle

    async def refuse(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            await request.aread()
            return error(413, "UploadQuotaExceeded", "The account's uploads would take more than 5 GB.")
        return await plain(request)

    client._http.http._transport.handler = refuse
    with pytest.raises(InvalidRequestError, match="5 GB") as caught:
        await client.upload(tmp_path / "model.glb")
    assert caught.value.code == "UploadQuotaExceeded"


async def test_a_uri_is_not_uploaded(client: RemoteRenderingClient) -> None:
    with pytest.raises(LocalFileError, match="is a URI"):
        await client.upload("builtin://Engine")


@pytest.mark.parametrize(
    ("uri", "container", "path", "sas"),
    [
        ("upload://Engine-1/parts/a%20b.fbx", "upload://Engine-1", "parts/a b.fbx", ""),
        ("s3://designs/house/house.fbx", "s3://designs", "house/house.fbx", ""),
        ("file:///models/a%20b/house.fbx", "file:///models/a%20b", "house.fbx", ""),
        ("https://a.example.net/in/x/house.fbx?sv=1&sig=2", "https://a.example.net/in", "x/house.fbx", "sv=1&sig=2"),
        ("http://127.0.0.1:1/account/in/house.fbx", "http://127.0.0.1:1/account/in", "house.fbx", ""),
    ],
)
def test_places_of_conversions(uri: str, container: str, path: str, sas: str) -> None:
    assert StorageLocation.parse(uri) == StorageLocation(container, path, sas)


@pytest.mark.parametrize("uri", ["ftp://a/b", "file:///", "https://a.example.net/", "upload:///x"])
def test_what_is_no_place_for_conversions(uri: str) -> None:
    with pytest.raises(LocalFileError):
        StorageLocation.parse(uri)
