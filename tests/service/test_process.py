"""The service as a process of its own: connection file, lock, signals, restart after being killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from farframe.auth.secrets import account_key_matches
from farframe.service.clock import ManualClock
from farframe.service.identity import DataFolderLock, StartError, ensure_account, read_connection_file
from farframe.store.store import Store

VERSION = {"api-version": "2021-01-01"}


def environment(folder: Path, **more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FARFRAME_")}
    return {
        **own,
        "FARFRAME_DATA_DIR": str(folder),
        "FARFRAME_PORT": "0",
        "FARFRAME_HTTP_PORT": "0",
        "FARFRAME_WARM_SERVERS": "0",
        "FARFRAME_LOG_FORMAT": "json",
        **more,
    }


async def launch(folder: Path, **more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "farframe.service",
        env=environment(folder, **more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def serving(folder: Path, **more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str], str]]:
    process = await launch(folder, **more)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("Console: "):
            assert process.stderr is not None
            raise AssertionError((await process.stderr.read()).decode())
        yield process, json.loads((folder / "connection.json").read_text()), line.removeprefix("Console: ").strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def authorize(client: httpx.AsyncClient, connection: dict[str, str]) -> dict[str, str]:
    account, key = connection["accountId"], connection["accountKey"]
    answer = await client.get(f"/Accounts/{account}/token", headers={"Authorization": f"Bearer {account}:{key}"})
    assert answer.status_code == 200
    return {"Authorization": f"Bearer {answer.json()['AccessToken']}"}


def client_of(connection: dict[str, str]) -> httpx.AsyncClient:
    tls = ssl.create_default_context(cafile=connection["caBundle"])
    return httpx.AsyncClient(base_url=connection["endpoint"], verify=tls, trust_env=False, timeout=60)


@pytest.mark.slow
async def test_from_start_to_end_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with serving(folder, FARFRAME_REGION="cellar") as (process, connection, console):
        assert set(connection) == {
            "endpoint",
            "stsEndpoint",
            "httpUrl",
            "consoleUrl",
            "accountId",
            "accountKey",
            "accountDomain",
            "caBundle",
            "region",
        }
        assert connection["region"] == "cellar"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for name in ("connection.json", "farframe.db", "certificates/ca-key.pem"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        async with client_of(connection) as client:
            headers = await authorize(client, connection)
            sessions = await client.get(
                f"/accounts/{connection['accountId']}/sessions", params=VERSION, headers=headers
            )
            assert sessions.json() == {"sessions": []}
        assert console.startswith(connection["httpUrl"] + "/#link=")
        async with httpx.AsyncClient(base_url=connection["httpUrl"], trust_env=False, timeout=60) as client:
            redeemed = await client.post("/viewer-links/redeem", json={"code": console.split("link=")[1]})
            assert redeemed.json()["accountId"] == connection["accountId"]
            assert redeemed.json()["endpoint"] == connection["httpUrl"]

        second = await launch(folder)
        output, errors = await second.communicate()
        assert second.returncode == 1
        assert output == b""
        assert errors.decode().startswith(f"farframe: Another service (process {process.pid}) is running")
        assert errors.decode().count("\n") == 1

        process.send_signal(signal.SIGTERM)
        _, log = await process.communicate()
        assert process.returncode == 0, log.decode()
        assert connection["accountKey"].encode() not in log
        assert console.split("link=")[1].encode() not in log
    async with serving(folder) as (process, again, _):
        assert (again["accountId"], again["accountKey"]) == (connection["accountId"], connection["accountKey"])
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 0


@pytest.mark.slow
async def test_a_session_that_was_answered_gets_its_server_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with serving(folder) as (process, connection, _):
        url = f"/accounts/{connection['accountId']}/sessions/s"
        async with client_of(connection) as client:
            headers = await authorize(client, connection)
            settings = {"maxLeaseTimeMinutes": 5, "size": "Standard"}
            created = await client.put(url, params=VERSION, headers=headers, json=settings)
            assert created.json()["status"] == "Starting"
        process.kill()
        await process.wait()
    async with serving(folder) as (process, connection, _), client_of(connection) as client:
        session: dict[str, Any] = {"status": "Starting"}
        async with asyncio.timeout(120):
            while session["status"] == "Starting":
                session = (await client.get(url, params=VERSION, headers=headers)).json()
                await asyncio.sleep(0.2)
        assert session["status"] == "Ready"
        process.send_signal(signal.SIGTERM)
        await process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"FARFRAME_PORTT": "1"}, 2, "Did you mean FARFRAME_PORT?"),
        ({"FARFRAME_HOST": "192.0.2.1"}, 1, "Name an address of this machine"),
        ({"FARFRAME_DATA_DIR": "/proc/nothing"}, 1, "--data"),
    ],
)
async def test_what_keeps_it_from_starting_is_one_sentence(
    tmp_path: Path, more: dict[str, str], status: int, words: str
) -> None:
    process = await launch(tmp_path / "data", **more)
    _, errors = await process.communicate()
    assert process.returncode == status
    assert words in errors.decode()
    assert "Traceback" not in errors.decode()
    assert not (tmp_path / "data" / "connection.json").exists()


async def test_the_key_lives_in_the_connection_file(tmp_path: Path) -> None:
    from farframe.service.identity import ConnectionFile, write_connection_file

    def write(account: str, key: str) -> None:
        content = dict.fromkeys(ConnectionFile.__struct_fields__, "x")
        write_connection_file(tmp_path, ConnectionFile(**{**content, "account_id": account, "account_key": key}))

    store = await Store.open(tmp_path / "x.db")
    clock = ManualClock()
    account, key = await ensure_account(store, tmp_path, clock)
    write(account, key)
    assert stat.S_IMODE((tmp_path / "connection.json").stat().st_mode) == 0o600
    assert await ensure_account(store, tmp_path, clock) == (account, key)
    (tmp_path / "connection.json").unlink()
    same, fresh = await ensure_account(store, tmp_path, clock)
    assert same == account
    assert fresh != key
    assert len(await store.accounts.key_hashes(account)) == 1, "the lost key is no longer good"
    for wrong in ("{", "{}"):
        (tmp_path / "connection.json").write_text(wrong)
        assert read_connection_file(tmp_path) is None
    write(account, key)
    assert (await ensure_account(store, tmp_path, clock))[1] not in (key, fresh)
    await store.close()


def test_the_lock_is_free_again(tmp_path: Path) -> None:
    lock = DataFolderLock(tmp_path)
    with pytest.raises(StartError, match="Another service"):
        DataFolderLock(tmp_path)
    lock.release()
    DataFolderLock(tmp_path).release()


@pytest.mark.slow
async def test_a_further_service_leaves_the_keys_of_a_shared_database_alone(postgres_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    store = await Store.open(postgres_url)
    try:
        account, key = await ensure_account(store, first, clock)
        other, _ = await ensure_account(store, second, clock)
        assert other != account
        # Not even with a connection file of some other installation in its folder.
        (second / "connection.json").write_text(
            json.dumps(
                {
                    "endpoint": "https://localhost:1",
                    "stsEndpoint": "https://localhost:1",
                    "httpUrl": "",
                    "consoleUrl": "",
                    "accountId": "11111111-2222-4333-8444-555555555555",
                    "accountKey": "of another installation",
                    "accountDomain": "",
                    "caBundle": "",
                    "region": "",
                }
            )
        )
        assert (await ensure_account(store, second, clock))[0] not in (account, other)
        assert [account_key_matches(key, kept) for kept in await store.accounts.key_hashes(account)] == [True]
    finally:
        await store.close()
