"""Conversions by real workers: restarts, kills, replicas, deleted accounts, hostile jobs, linked storage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from farframe.service import conversion_workers
from farframe.service.clock import SystemClock
from farframe.service.config import ServiceConfig, StorageCredentials
from farframe.service.conversion_secrets import KeyFileError, Sealer, SealError, Signatures
from farframe.service.conversion_workers import INTERRUPTED, SEALED_ELSEWHERE, ConversionWorkers
from farframe.store.conversions import NewConversion
from farframe.store.store import Store
from tests.convert import stand_in
from tests.storage_servers import ACCOUNT, KEY, NETWORKS, Azurite, ReadOnlyS3, S3Server

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {
    "conversion_memory_bytes": 400 * 1024**2,
    "conversion_disk_bytes": 64 * 1024**2,
    "conversion_seconds": 60.0,
    "allowed_networks": NETWORKS,
    "metrics_address": "",
}


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(conversion_workers, "TEND_MICROSECONDS", 100_000)


class Place:
    """Two folders that conversions may use, and a service with workers."""

    def __init__(self, tmp_path: Path, make_world: Any) -> None:
        self.folder = tmp_path
        self.source, self.target = tmp_path / "in", tmp_path / "out"
        self.source.mkdir(exist_ok=True)
        self.target.mkdir(exist_ok=True)
        self._make_world = make_world
        self.sealer = Sealer(b"k" * 32)

    def service(self, **settings: Any) -> Any:
        wanted: dict[str, Any] = {
            **SETTINGS,
            "allowed_folders": (str(self.source),),
            "writable_folders": (str(self.target),),
            **settings,
        }
        config = ServiceConfig(data_dir=str(self.folder / "data"), **wanted)

        def queue(store: Store, replica_id: str) -> ConversionWorkers:
            return ConversionWorkers(config, store, replica_id, self.sealer, job_command=stand_in.JOB)

        return self._make_world(clock=SystemClock(), workers=queue, **wanted)

    def body(self, text: str = "", **changes: Any) -> dict[str, Any]:
        name = f"{uuid.uuid4().hex}.fbx"
        if text:
            (self.source / name).write_text(text)
        source = {"storageContainerUri": f"file://{self.source}", "relativeInputAssetPath": name}
        target = {
            "storageContainerUri": f"file://{self.target}",
            "blobPrefix": "run",
            "outputAssetFilename": "a.arrAsset",
        }
        source.update(changes.get("source", {}))
        target.update(changes.get("target", {}))
        return {"settings": {"inputLocation": source, "outputLocation": target}}

    def result(self, prefix: str = "run") -> list[dict[str, Any]]:
        value: list[dict[str, Any]] = json.loads((self.target / prefix / "a.result.json").read_text())
        return value


@pytest.fixture
def place(tmp_path: Path, make_world: Any) -> Place:
    return Place(tmp_path, make_world)


async def put(world: Any, name: str, body: dict[str, Any], status: int = 201) -> Any:
    answer = await world.http.put(world.path(f"/{name}", kind="conversions"), json=body, headers=world.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def show(world: Any, name: str) -> Any:
    answer = await world.http.get(world.path(f"/{name}", kind="conversions"), headers=world.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(world: Any, name: str, *statuses: str, seconds: float = 60.0) -> Any:
    async with asyncio.timeout(seconds):
        while (value := await show(world, name))["status"] not in statuses:
            await asyncio.sleep(0.05)
    return value


async def ended(world: Any, name: str) -> Any:
    return await until(world, name, "Succeeded", "Failed")


async def until_true(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_conversion_succeeds(place: Place) -> None:
    async with place.service() as world:
        await put(world, "c", place.body("good model"))
        value = await ended(world, "c")
        assert (value["status"], value["error"]) == ("Succeeded", None)
        assert value["output"] == {"outputAssetUri": f"file://{place.target}/run/a.arrAsset"}
        assert (place.target / "run/a.arrAsset").read_bytes() == b"asset of good model"
        assert place.result() == [{"conversionId": "c"}, {"result": "succeeded"}]
        await until_true(lambda: not any((world.folder / "conversions").iterdir()))
        assert await world.store.conversion_jobs.all_keys() == set()


async def test_failures_say_what_the_contract_says(place: Place) -> None:
    async with place.service() as world:
        await put(world, "missing", place.body())
        await put(world, "broken", place.body("broken model", target={"blobPrefix": "broken"}))
        missing, broken = await ended(world, "missing"), await ended(world, "broken")
    assert missing["error"]["code"] == "InputContainerError"
    assert "Could not find the asset file in the storage account" in missing["error"]["message"]
    assert broken["error"]["code"] == "ConversionProcessFailed"
    assert broken["error"]["message"].startswith("Invalid input provided. Check logs in output container for details.")
    assert place.result("broken")[1]["error"] == "2007"


@pytest.mark.slow
async def test_hostile_jobs_leave_the_service_well(place: Place) -> None:
    async with place.service(conversion_workers=2, conversion_seconds=20.0) as world:
        hogs = ("memory", "disk", "crash", "loop")
        for hog in hogs:
            await put(world, hog, place.body(f"{hog} hog", target={"blobPrefix": hog}))
        for hog in hogs:
            assert (await ended(world, hog))["error"]["code"] == "ConversionProcessFailed"
            assert place.result(hog)[-1] == {"result": "failed"}
        await put(world, "after", place.body("good model"))
        assert (await ended(world, "after"))["status"] == "Succeeded"
        assert (await world.http.get("/health/ready")).status_code == 200


async def test_no_more_at_a_time_than_configured_and_progress(place: Place) -> None:
    async with place.service() as world:
        await put(world, "first", place.body("slow go"))
        await put(world, "second", place.body("good model", target={"blobPrefix": "second"}))
        await until(world, "first", "Running")
        url = world.path("/first/progress", version=None, kind="conversions")

        async def progress() -> Any:
            return (await world.http.get(url, headers=world.headers)).json()

        async with asyncio.timeout(60):
            while (value := await progress())["stage"] != "building":
                await asyncio.sleep(0.05)
        assert value["status"] == "Running"
        assert 0.3 < value["fraction"] < 0.9
        assert (await show(world, "second"))["status"] == "NotStarted"
        (place.source / "go").touch()
        await _finish_slow(world, place)
        assert (await ended(world, "first"))["status"] == "Succeeded"
        assert (await ended(world, "second"))["status"] == "Succeeded"
        assert (await progress())["fraction"] == 1.0


async def _finish_slow(world: Any, place: Place) -> None:
    """Let slow jobs end: their flag is looked for in the downloaded input."""
    for folder in (world.folder / "conversions").iterdir():
        (folder / "input/go").touch()


def _forget_attempts(place: Place) -> None:
    for file in (place.folder / "data/conversions").glob("*/output/attempts"):
        file.unlink()


async def test_a_restart_goes_on_once(place: Place) -> None:
    async with place.service() as world:
        await put(world, "c", place.body("slow go"))
        await until_true(lambda: list((world.folder / "conversions").glob("*/output/attempts")))
    # The service has stopped; what ran is on the queue.
    _forget_attempts(place)
    async with place.service() as world:
        assert (await show(world, "c"))["status"] == "Running"
        await until_true(lambda: list((world.folder / "conversions").glob("*/output/attempts")))
        await _finish_slow(world, place)
        assert (await ended(world, "c"))["status"] == "Succeeded"


async def test_a_process_that_is_killed_twice(place: Place) -> None:
    async with place.service() as world:
        await put(world, "c", place.body("slow never"))
        killed: set[int] = set()
        for _ in range(2):

            def running() -> set[int]:
                workers: ConversionWorkers = world.service.conversions._queue
                return {run.process.pid for run in workers._running.values() if run.process is not None} - killed

            await until_true(running)
            for pid in running():
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
        value = await ended(world, "c")
    assert (value["error"]["code"], value["error"]["message"]) == ("ConversionProcessFailed", INTERRUPTED)


async def test_deleting_an_account_cancels(place: Place) -> None:
    async with place.service() as world:
        await put(world, "c", place.body("slow never"))
        await until_true(lambda: list((world.folder / "conversions").glob("*/output/attempts")))
        workers: ConversionWorkers = world.service.conversions._queue
        pids = [run.process.pid for run in workers._running.values() if run.process is not None]
        await world.service.accounts.delete(world.account)
        await until_true(lambda: not workers._running)
        row = await world.store.conversions.get(world.account, "c")
        assert (row.status, row.error_code) == ("Failed", "AccountDeleted")
        assert all(not Path(f"/proc/{pid}").exists() for pid in pids)
        await until_true(lambda: not list((world.folder / "conversions").iterdir()))


async def test_signatures_are_sealed(place: Place, azurite: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    uri = azurite.create(container)
    azurite.put(container, "in/model.fbx", b"slow go")
    sas = azurite.sas(container)
    places = {
        "source": {
            "storageContainerUri": uri,
            "storageContainerReadListSas": f"?{sas}",
            "blobPrefix": "in",
            "relativeInputAssetPath": "model.fbx",
        },
        "target": {"storageContainerUri": uri, "storageContainerWriteSas": sas, "blobPrefix": "out"},
    }
    async with place.service() as world:
        await put(world, "c", place.body(**places))
        await until_true(lambda: list((world.folder / "conversions").glob("*/output/attempts")))
    signature = sas.rpartition("sig=")[2].encode()
    for file in world.folder.rglob("*"):
        assert not file.is_file() or signature not in file.read_bytes(), file
    _forget_attempts(place)
    async with place.service() as world:
        await until_true(lambda: list((world.folder / "conversions").glob("*/output/attempts")))
        await _finish_slow(world, place)
        assert (await ended(world, "c"))["status"] == "Succeeded"
    assert azurite.get(container, "out/a.arrAsset") == b"slow"
    assert {"out/a.result.json", "out/a.log.txt"} <= azurite.names(container)


async def test_signatures_of_another_key(place: Place) -> None:
    async with place.service(conversion_workers=0) as world:
        await put(world, "c", place.body("good model"))
    place.sealer = Sealer(b"o" * 32)
    async with place.service() as world:
        value = await ended(world, "c")
    assert value["error"]["message"] == SEALED_ELSEWHERE


async def test_a_signature_that_storage_refuses(place: Place, azurite: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    uri = azurite.create(container)
    azurite.put(container, "model.fbx", b"good model")
    bad = azurite.sas(container, hours=-1)
    async with place.service() as world:
        source = {"storageContainerUri": uri, "storageContainerReadListSas": bad, "relativeInputAssetPath": "model.fbx"}
        await put(world, "c", place.body(source=source))
        value = await ended(world, "c")
    assert value["error"] == {
        "code": "InputContainerAccessDenied",
        "message": "Access to the input blob container was denied. "
        "Invalid access rights or invalid shared access signature.",
    }


async def test_linked_storage(place: Place, azurite: Azurite, s3_server: S3Server) -> None:
    container, bucket = f"c{uuid.uuid4().hex}", f"b{uuid.uuid4().hex}"
    uri = azurite.create(container)
    azurite.put(container, "model.fbx", b"good model")
    bucket_uri = s3_server.create(bucket)
    linked = (
        StorageCredentials(name=ACCOUNT, endpoint=azurite.url, key=KEY),
        StorageCredentials(
            name=bucket, kind="s3", endpoint=s3_server.url, key_id="test", key="test-secret", region="us-east-1"
        ),
    )
    source = {"storageContainerUri": uri, "relativeInputAssetPath": "model.fbx"}
    async with place.service(storage_credentials=linked) as world:
        await put(world, "c", place.body(source=source, target={"storageContainerUri": bucket_uri}))
        assert (await ended(world, "c"))["status"] == "Succeeded"
        assert s3_server.get(bucket, "run/a.arrAsset") == b"asset of good model"


async def test_linked_storage_that_may_only_be_read(place: Place) -> None:
    server = ReadOnlyS3()
    linked = StorageCredentials(name="shelf", kind="s3", endpoint=server.url, key_id="k", key="s")
    source = {"storageContainerUri": "s3://shelf", "relativeInputAssetPath": "model.fbx"}
    try:
        async with place.service(storage_credentials=(linked,)) as world:
            # As an input it is welcome: what is in it shows later.
            await put(world, "reads", place.body(source=source))
            answer = await put(world, "writes", place.body("good", target={"storageContainerUri": "s3://shelf"}), 403)
    finally:
        server.stop()
    assert answer["error"]["code"] == "DelegatedResourceAccessError"
    assert "PUT" in server.asked


async def test_an_upload_is_an_input(place: Place) -> None:
    """Of the account itself, with what lies beside it; nobody else's, and nothing else of the service's folders."""
    async with place.service() as world:
        for path, text in (("parts/model.fbx", b"good model"), ("parts/wood.png", b"picture")):
            url = f"/accounts/{world.account}/uploads/Engine-1/{path}"
            answer = await world.http.put(url, content=text, headers=world.headers)
            assert answer.status_code == 201, answer.text
        source = {
            "storageContainerUri": "upload://Engine-1",
            "blobPrefix": "parts",
            "relativeInputAssetPath": "model.fbx",
        }
        value = await put(world, "c", place.body(source=source))
        assert value["settings"]["inputLocation"] == {**source, "blobPrefix": "parts/"}
        assert (await ended(world, "c"))["status"] == "Succeeded"
        assert (place.target / "run/a.arrAsset").read_bytes() == b"asset of good model"
        row = await world.store.conversions.get(world.account, "c")
        assert row.bytes_read == len(b"good model" + b"picture")

        folder = world.folder / "uploads" / str(uuid.uuid4()) / "theirs"
        folder.mkdir(parents=True)
        (folder / "model.fbx").write_text("good model")
        for name in ("theirs", "gone"):
            source = {"storageContainerUri": f"upload://{name}", "relativeInputAssetPath": "model.fbx"}
            await put(world, name, place.body(source=source))
            assert (await ended(world, name))["error"]["code"] == "InputContainerError"
        for bad in ("upload://../x", "upload://", "upload://a/b", f"upload://{'a' * 300}", "upload://a%2fb"):
            source = {"storageContainerUri": bad, "relativeInputAssetPath": "model.fbx"}
            await put(world, "bad", place.body(source=source), 400)
        await put(world, "bad", place.body("good", target={"storageContainerUri": "upload://Engine-1"}), 400)


async def test_storage_without_rights(place: Place, azurite: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    uri = azurite.create(container)
    source = {"storageContainerUri": uri, "relativeInputAssetPath": "model.fbx"}
    other = str(uuid.uuid4())

    async def refused(body: dict[str, Any], *credentials: StorageCredentials) -> None:
        async with place.service(storage_credentials=credentials) as world:
            answer = await put(world, "c", body, 403)
            assert answer["error"]["code"] == "DelegatedResourceAccessError"
            assert answer["error"]["message"].startswith(
                "Error accessing connected storage account due to insufficient permissions. "
                "Check if the Mixed Reality resource has correct permissions assigned."
            )
            listed = await world.http.get(world.path(kind="conversions"), headers=world.headers)
            assert listed.json()["conversions"] == []

    def opened(**changes: Any) -> StorageCredentials:
        return StorageCredentials(**{"name": ACCOUNT, "endpoint": azurite.url, "key": KEY, **changes})

    body = place.body(source=source)
    await refused(body)
    await refused(body, opened(accounts=(other,)))
    await refused(body, opened(access="write"))
    await refused(body, opened(key="bm8="))
    await refused(body, opened(endpoint="https://elsewhere.example"))
    await refused(place.body("good", target={"storageContainerUri": f"file://{place.source}"}))
    await refused(place.body("good", source={"storageContainerUri": "file:///etc", "relativeInputAssetPath": "passwd"}))


async def test_replicas_share_the_queue(place: Place, postgres_url: str, tmp_path: Path) -> None:
    """Two services on one database: each job runs once, and what a dead one did the other does."""
    store, other = await Store.open(postgres_url), await Store.open(postgres_url)
    try:
        account = str(uuid.uuid4())
        await store.accounts.create(account, "a", 1)
        for number in range(20):
            new = NewConversion(
                key=f"k{number}", account_id=account, id=f"c{number}", created_at=number, settings_json="{}"
            )
            await store.conversions.create(new, limit=None)
            await store.conversion_jobs.add(new.key, b"sealed", number)
        await store.replicas.announce("one", "https://one.example", 1)
        await store.replicas.announce("two", "https://two.example", 1)

        async def all_of(which: Store, name: str) -> list[str]:
            keys = []
            while job := await which.conversion_jobs.claim(name):
                keys.append(job.key)
                assert job.attempts == 1
            return keys

        mine, theirs = await asyncio.gather(all_of(store, "one"), all_of(other, "two"))
        assert sorted(mine + theirs) == sorted(f"k{number}" for number in range(20))
        assert await store.conversion_jobs.standing("two") == set(theirs)
        assert await store.conversion_jobs.claim("one") is None
        row = next(each for each in await store.replicas.all() if each.id == "two")
        await store.replicas.give_up("two", row.seen_at)
        if theirs:
            job = await store.conversion_jobs.claim("one")
            assert job is not None
            assert (job.key in theirs, job.attempts) == (True, 2)
    finally:
        await store.close()
        await other.close()


async def test_a_conversion_that_is_in_no_queue(place: Place) -> None:
    async with place.service() as world:
        # Old enough to be lost, too young for the history to forget it as soon as it has failed.
        created_at = SystemClock().now() - 2 * conversion_workers.LOST_AFTER_MICROSECONDS
        new = NewConversion(key="lost", account_id=world.account, id="lost", created_at=created_at, settings_json="{}")
        await world.store.conversions.create(new, limit=None)

        async def failed() -> bool:
            row = await world.store.conversions.get(world.account, "lost")
            return row is not None and row.status == "Failed"

        await world.until(failed)


def test_sealing(tmp_path: Path) -> None:
    sealer = Sealer.of_file(tmp_path / "key", create=True)
    again = Sealer.of_file(tmp_path / "key", create=False)
    secret = Signatures("sig=in", "sig=out")
    assert "sig" not in repr(secret)
    sealed = sealer.seal("job", secret)
    assert b"sig=" not in sealed
    assert again.open("job", sealed) == secret
    for key, data in (("other", sealed), ("job", sealed[:-1]), ("job", b""), ("job", sealed[:-1] + b"x")):
        with pytest.raises(SealError):
            again.open(key, data)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    (tmp_path / "bad").write_text("bm8=")
    with pytest.raises(KeyFileError):
        Sealer.of_file(tmp_path / "bad", create=False)
    with pytest.raises(KeyFileError):
        Sealer.of_file(tmp_path / "none", create=False)
