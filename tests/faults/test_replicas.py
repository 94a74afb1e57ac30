"""Two services on one PostgreSQL: either does everything, and one that dies is inherited by the other."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.harness import Load, Replica, check_books, rows_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE = {"FARFRAME_REPLICA_TIMEOUT_SECONDS": "12"}
"""How long a service is silent before it counts as dead. It beats every two seconds: one that is only slow must not."""


async def test_a_dead_replica_is_inherited(postgres_url: str, tmp_path: Path) -> None:
    first = Replica(tmp_path / "first", postgres_url, **PATIENCE)
    second = Replica(tmp_path / "second", postgres_url, **PATIENCE)
    try:
        await first.start()
        second.folder.mkdir()
        shutil.copy(first.folder / "connection.json", second.folder)
        await second.start()
        assert second.connection["accountId"] == first.connection["accountId"]
        base = f"/accounts/{first.connection['accountId']}/sessions"
        load = Load(1)
        async with first.client() as client:
            for name in ("a", "b", "c"):
                answer = await client.put(f"{base}/{name}", json={"maxLeaseTimeMinutes": 60, "size": "Standard"})
                assert answer.status_code == 201, answer.text
                load.tried[name] = {"size": "Standard"}
                load.answered[name] = answer.json()["creationTime"]

        async def ready() -> bool:
            return all(row.status == "Ready" for row in await rows_of(postgres_url))

        await until(ready, 60, "all ready")
        # Stopped by the other one: the server ends all the same.
        async with second.client() as client:
            assert (await client.post(f"{base}/c/:stop")).status_code == 204
        load.stopping.add("c")
        load.stopped.add("c")

        async def two_serve() -> bool:
            return len(first.servers()) == 3  # a, b and the one that waits

        await until(two_serve, 60, "the server of a session that another replica stopped is ended")
        before = {row.key: row.pid for row in await rows_of(postgres_url) if row.status == "Ready"}
        await first.kill()
        mine = (second.folder / "replica-id").read_text().strip()

        async def inherited() -> bool:
            return all(row.replica_id == mine for row in await rows_of(postgres_url) if row.status == "Ready")

        await until(inherited, 90, "the other replica has the sessions")
        await load.check_answers(second)
        assert {row.key: row.pid for row in await rows_of(postgres_url) if row.status == "Ready"} == before
        # The dead one returns: what is no longer its own it leaves alone.
        await first.start()
        await load.check_answers(first)
        assert set(before.values()) <= {process.pid for process in first.servers()}
        await first.terminate()
        await load.check_answers(second)
        assert {process.pid for process in first.servers()} == set(before.values())
        await second.terminate()
        assert first.servers() == second.servers() == []
        await check_books(postgres_url)
    finally:
        first.clean_up()
        second.clean_up()


def _begun(*replicas: Replica) -> Counter[str]:
    """How many times each conversion was begun, by the services' logs."""
    found: Counter[str] = Counter()
    for replica in replicas:
        for line in replica.log_path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "conversion.begins":
                    found[entry["conversion"]] += 1
    return found


def _jobs(replica: Replica) -> list[psutil.Process]:
    """The processes that convert for this replica."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "tests.convert.stand_in" in process.cmdline() and any(
                file.path.startswith(str(replica.folder)) for file in process.open_files()
            ):
                found.append(process)
    return found


async def test_replicas_share_conversions_and_inherit_them(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each conversion is begun once, whichever service was asked; those of a dead one are begun once more."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    (tmp_path / "key").write_bytes(base64.b64encode(b"k" * 32))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    settings = {
        **PATIENCE,
        "FARFRAME_CONVERSION_KEY_FILE": str(tmp_path / "key"),
        "FARFRAME_CONVERSION_WORKERS": "2",
        "FARFRAME_CONVERSION_MEMORY_BYTES": str(400 << 20),
        "FARFRAME_ALLOWED_FOLDERS": str(source),
        "FARFRAME_WRITABLE_FOLDERS": str(target),
        "FARFRAME_TEST_STAND_IN": "1",
    }
    first = Replica(tmp_path / "first", postgres_url, **settings)
    second = Replica(tmp_path / "second", postgres_url, **settings)

    async def put(replica: Replica, name: str, text: str) -> None:
        (source / f"{name}.fbx").write_text(text)
        body = {
            "inputLocation": {"storageContainerUri": f"file://{source}", "relativeInputAssetPath": f"{name}.fbx"},
            "outputLocation": {"storageContainerUri": f"file://{target}"},
        }
        async with replica.client() as client:
            path = f"/accounts/{replica.connection['accountId']}/conversions/{name}"
            answer = await client.put(path, json={"settings": body})
        assert answer.status_code == 201, answer.text

    async def statuses(replica: Replica) -> dict[str, Any]:
        async with replica.client() as client:
            answer = await client.get(f"/accounts/{replica.connection['accountId']}/conversions")
        return {each["id"]: each["status"] for each in answer.json()["conversions"]}

    try:
        await first.start()
        second.folder.mkdir()
        shutil.copy(first.folder / "connection.json", second.folder)
        await second.start()
        names = [f"c{number}" for number in range(12)]
        for number, name in enumerate(names):
            await put((first, second)[number % 2], name, "good model")

        async def all_done() -> bool:
            found = await statuses(second)
            return set(found.values()) == {"Succeeded"} and set(found) == set(names)

        await until(all_done, 120, "every conversion has succeeded")
        assert _begun(first, second) == dict.fromkeys(names, 1)
        assert all((target / f"{name}.arrAsset").read_bytes() == b"asset of good model" for name in names)

        slow = ["slow0", "slow1", "slow2"]
        for name in slow:
            await put(first, name, "slow go")

        async def all_run() -> bool:
            found = await statuses(first)
            return all(found[name] == "Running" for name in slow) and bool(_jobs(first))

        await until(all_run, 60, "all three run, two at a time in each service")
        orphans = _jobs(first)
        before = _begun(first, second)
        mine = set(_begun(first)) & set(slow)
        assert [before[name] for name in slow] == [1, 1, 1] and mine
        await first.kill()

        async def none_left() -> bool:
            return not any(process.is_running() for process in orphans)

        await until(none_left, 60, "the dead service's processes end with it")

        async def done() -> bool:
            for folder in (second.folder / "conversions").iterdir():
                if (folder / "input").is_dir():
                    (folder / "input/go").touch()
            found = await statuses(second)
            return all(found[name] == "Succeeded" for name in slow)

        await until(done, 90, "the other service has done them all")
        assert {name for name in slow if _begun(second)[name]} == set(slow)
        assert _begun(first, second) == {name: 2 if name in mine else 1 for name in names + slow}
        # The dead one comes back and has nothing to do.
        await first.start()
        await put(first, "after", "good model")

        async def after() -> bool:
            return (await statuses(first))["after"] == "Succeeded"

        await until(after, 60, "both go on")
        assert _begun(first, second)["after"] == 1
        assert set((await statuses(first)).values()) == {"Succeeded"}
        await first.terminate()
        await second.terminate()
    finally:
        first.clean_up()
        second.clean_up()
