"""Containers of real servers: Azurite, an S3 server, folders."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farframe.protocol.conversion import StoragePlace
from farframe.storage import blobs
from farframe.storage.blobs import StorageError, open_container
from tests.storage_servers import KEY, NETWORKS, Azurite, ReadOnlyS3, S3Server

LIMITS: dict[str, Any] = {"max_files": 100, "max_bytes": 10**9}
ODD_NAME = "x&y #1%20ü+(a)/ä b.bin"


class Opened:
    """One kind of storage: where it is, and how it is opened."""

    def __init__(self, place: StoragePlace, **options: Any) -> None:
        self.place = place
        self.options = options

    def __call__(self, *, write: bool = False) -> Any:
        return open_container(self.place, write=write, **self.options)


@pytest.fixture(params=["azure sas", "azure key", "s3", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    name = f"c{uuid.uuid4().hex}"
    if request.param == "file":
        place = StoragePlace(kind="file", container=str(tmp_path / "store"), prefix="a b/")
        return Opened(place, allowed_folders=(str(tmp_path / "store"),))
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        server.create(name)
        return Opened(server.place(name, "a b/"), allowed_networks=NETWORKS)
    azurite: Azurite = request.getfixturevalue("azurite")
    azurite.create(name)
    if request.param == "azure key":
        return Opened(azurite.place(name, key=KEY, prefix="a b/"), allowed_networks=NETWORKS)
    return Opened(azurite.place(name, sas=azurite.sas(name), prefix="a b/"), allowed_networks=NETWORKS)


async def test_what_goes_up_comes_down(storage: Opened, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"hello")
    large.write_bytes(os.urandom(2 * blobs.RANGE_BYTES + 12345))
    seen: list[tuple[int, int]] = []
    async with storage(write=True) as container:
        await container.upload(small, ODD_NAME)
        await container.upload(large, "model.bin", lambda done, total: seen.append((done, total)))
        await container.upload(small, "empty.bin")
        small.write_bytes(b"")
        await container.upload(small, "empty.bin")
        listed = await container.list(**LIMITS)
        assert [blob.path for blob in listed] == ["empty.bin", "model.bin", ODD_NAME]
        fetched = await container.download(listed, tmp_path / "in", tmp_path / "journal")
    size = large.stat().st_size
    assert seen[-1] == (size, size)
    assert fetched == size + 5
    assert (tmp_path / "in" / ODD_NAME).read_bytes() == b"hello"
    assert (tmp_path / "in/model.bin").read_bytes() == large.read_bytes()
    assert (tmp_path / "in/empty.bin").read_bytes() == b""


async def test_only_what_the_prefix_names(storage: Opened, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    async with storage(write=True) as container:
        await container.upload(tmp_path / "one", "deep/one.txt")
    place = storage.place
    for prefix, expected in (("a b/", ["deep/one.txt"]), ("a b/deep/", ["one.txt"]), ("a b/de/", []), ("a/", [])):
        async with open_container(msgspec.structs.replace(place, prefix=prefix), **storage.options) as container:
            assert [blob.path for blob in await container.list(**LIMITS)] == expected


async def test_a_second_attempt_fetches_only_the_rest(
    storage: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3 * blobs.RANGE_BYTES))
    real = blobs.Container._fetch
    fetched: list[int] = []

    async def failing(self: Any, blob: Any, start: int, end: int, path: Path) -> None:
        if start == blobs.RANGE_BYTES and not fetched.count(start):
            fetched.append(start)
            raise StorageError("denied", "for once")
        await real(self, blob, start, end, path)
        fetched.append(start)

    monkeypatch.setattr(blobs.Container, "_fetch", failing)
    monkeypatch.setattr(blobs, "AT_ONCE", 1)
    async with storage(write=True) as container:
        await container.upload(large, "large.bin")
        listed = await container.list(**LIMITS)
        with pytest.raises(StorageError):
            await container.download(listed, tmp_path / "in", tmp_path / "journal")
        first, fetched[:] = list(fetched), [blobs.RANGE_BYTES]
        await container.download(listed, tmp_path / "in", tmp_path / "journal")
    assert 0 in first
    assert 0 not in fetched
    assert (tmp_path / "in/large.bin").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("later", [b"afterwards", b"after!"], ids=["another size", "the same size"])
async def test_a_blob_that_changes_is_an_error(storage: Opened, tmp_path: Path, later: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    async with storage(write=True) as container:
        await container.upload(file, "file.bin")
        listed = await container.list(**LIMITS)
        file.write_bytes(later)
        await container.upload(file, "file.bin")
        with pytest.raises(StorageError) as caught:
            await container.download(listed, tmp_path / "in", tmp_path / "journal")
    assert caught.value.reason == "changed"


async def test_limits_and_names(storage: Opened, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    async with storage(write=True) as container:
        await container.upload(file, "one")
        await container.upload(file, "two")
        for limits in ({"max_files": 1, "max_bytes": 100}, {"max_files": 9, "max_bytes": 9}):
            with pytest.raises(StorageError) as caught:
                await container.list(**limits)
            assert caught.value.reason == "too large"
        assert [blob.path for blob in await container.list(**LIMITS, only=frozenset({"two", "three"}))] == ["two"]
        await container.upload(file, "n" * (blobs.MAX_NAME_LENGTH - 4))
        await container.list(**LIMITS)
        await container.upload(file, "m" * (blobs.MAX_NAME_LENGTH - 3))
        with pytest.raises(StorageError, match="179 characters") as caught:
            await container.list(**LIMITS)
        assert caught.value.reason == "name"


async def test_a_file_and_a_folder_of_one_name(azurite: Azurite, tmp_path: Path) -> None:
    azurite.create("samename")
    azurite.put("samename", "a", b"1")
    azurite.put("samename", "a/b", b"1")
    async with open_container(azurite.place("samename", key=KEY), allowed_networks=NETWORKS) as container:
        with pytest.raises(StorageError, match="same name"):
            await container.list(**LIMITS)


async def test_what_storage_refuses(azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "ATTEMPTS", 1)
    azurite.create("refusing")
    azurite.put("refusing", "one", b"1")
    (tmp_path / "file").write_bytes(b"1")

    async def outcome(**place: Any) -> str:
        try:
            async with open_container(azurite.place(**place), allowed_networks=NETWORKS) as container:
                listed = await container.list(**LIMITS)
                await container.download(listed, tmp_path / "in", tmp_path / "journal")
                await container.upload(tmp_path / "file", "two")
        except StorageError as error:
            assert "sig=" not in str(error)
            assert "http" not in str(error)
            return error.reason
        return ""

    expired = azurite.sas("refusing", hours=-1)
    assert await outcome(container="refusing", sas=expired) == "denied"
    assert await outcome(container="refusing", sas="sv=1&sig=nonsense") == "denied"
    assert await outcome(container="refusing", sas=azurite.sas("refusing", "w")) == "denied"
    assert await outcome(container="refusing", sas=azurite.sas("refusing", "rl")) == "denied"
    assert await outcome(container="missing", key=KEY) == "missing"
    assert await outcome(container="refusing", key="bm9uc2Vuc2U=") == "denied"
    assert await outcome(container="refusing", sas=azurite.sas("refusing", "rwl")) == ""


async def test_asking_leaves_nothing(storage: Opened) -> None:
    async with storage(write=True) as container:
        await container.probe_reading()
        await container.probe_writing()
        assert await container.list(**LIMITS) == []


async def test_asking_those_who_may_only_read_or_only_write(azurite: Azurite) -> None:
    azurite.create("asking")
    azurite.put("asking", "one", b"1")
    for rights, readable, writable in (("rl", True, False), ("w", False, True), ("rwl", True, True)):
        place = azurite.place("asking", sas=azurite.sas("asking", rights))
        async with open_container(place, allowed_networks=NETWORKS) as container:
            for probe, good in ((container.probe_reading, readable), (container.probe_writing, writable)):
                if good:
                    await probe()
                else:
                    with pytest.raises(StorageError) as caught:
                        await probe()
                    assert caught.value.reason == "denied"
    assert azurite.names("asking") == {"one"}


async def test_asking_a_bucket_whose_policy_denies_writing() -> None:
    server = ReadOnlyS3()
    try:
        place = StoragePlace(kind="s3", endpoint=server.url, container="b", key_id="k", key="s")
        async with open_container(place, allowed_networks=NETWORKS) as container:
            await container.probe_reading()
            with pytest.raises(StorageError) as caught:
                await container.probe_writing()
        assert caught.value.reason == "denied"
    finally:
        server.stop()


async def test_networks_that_are_not_listed(azurite: Azurite) -> None:
    place = azurite.place("input", sas=azurite.sas("input"))
    async with open_container(place) as container:
        with pytest.raises(StorageError) as caught:
            await container.list(**LIMITS)
    assert caught.value.reason == "refused"
    for answer in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "fd00::1"):

        async def resolver(host: str, port: int, answer: str = answer) -> list[str]:
            return [answer]

        named = StoragePlace(kind="azure", endpoint="https://contoso.example", account="contoso", container="input")
        async with open_container(named, resolver=resolver) as container:
            with pytest.raises(StorageError) as caught:
                await container.list(**LIMITS)
        assert caught.value.reason == "refused"


async def test_folders_that_are_not_allowed(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret"
    allowed.mkdir()
    secret.mkdir()
    (secret / "key").write_bytes(b"secret")
    for folder in (secret, tmp_path, allowed / ".." / "secret"):
        with pytest.raises(StorageError) as caught:
            async with open_container(
                StoragePlace(kind="file", container=str(folder)), allowed_folders=(str(allowed),)
            ):
                pass
        assert caught.value.reason == "refused"
    (allowed / "link").symlink_to(secret)
    (allowed / "file").symlink_to(secret / "key")
    async with open_container(
        StoragePlace(kind="file", container=str(allowed)), write=True, allowed_folders=(str(allowed),)
    ) as container:
        with pytest.raises(StorageError) as caught:
            await container.list(**LIMITS)
        assert caught.value.reason == "refused"
        with pytest.raises(StorageError) as caught:
            await container.upload(secret / "key", "link/key2")
        assert caught.value.reason == "refused"
        with pytest.raises(StorageError):
            await container.upload(allowed / "file", "copy")
    assert not (secret / "key2").exists()
    assert not (allowed / "copy").exists()


async def test_credentials_are_not_shown() -> None:
    place = StoragePlace(kind="azure", endpoint="https://a.example", container="c", sas="sig=hidden", key="hidden")
    assert "hidden" not in repr(place)
    assert "hidden" not in str({"place": place})
