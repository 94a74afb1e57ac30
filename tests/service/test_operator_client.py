"""Operators' client and commands, and devices with a session token, against a running service."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farframe.auth.secrets import hash_account_key, new_operator_token
from farframe.cli._app import run
from farframe.client import (
    AuthenticationError,
    ConflictError,
    ConnectionFileError,
    ConnectionInfo,
    InvalidRequestError,
    NotFoundError,
    OperatorClient,
    OperatorInfo,
    PermissionDeniedError,
    RemoteRenderingClient,
)
from farframe.service.identity import OperatorFile, write_operator_file


@pytest.fixture
async def operator_file(world: Any) -> Path:
    token = new_operator_token()
    await world.store.operators.set_token("here", hash_account_key(token), 1)
    write_operator_file(
        world.folder, OperatorFile(endpoint=world.endpoint, operator_token=token, ca_bundle=str(world.ca))
    )
    path: Path = world.folder / "operator.json"
    return path


def connection(world: Any, **more: str) -> ConnectionInfo:
    return ConnectionInfo(
        endpoint=world.endpoint, sts_endpoint=world.endpoint, account_id=world.account, ca_bundle=world.ca, **more
    )


async def test_the_life_of_an_account(world: Any, operator_file: Path) -> None:
    async with OperatorClient(OperatorInfo.from_file(operator_file)) as client:
        made = await client.create_account("acme")
        assert [account.name async for account in client.list_accounts()] == ["default", "acme"]
        info = ConnectionInfo(
            endpoint=world.endpoint,
            sts_endpoint=world.endpoint,
            account_id=made.account_id,
            account_key=made.keys[0].key or "",
            ca_bundle=world.ca,
        )
        async with RemoteRenderingClient(info) as user:
            assert [session async for session in user.list_sessions()] == []
            key = await client.regenerate_key(made.account_id, 1)
            assert key.generation == 2
            with pytest.raises(AuthenticationError):
                [session async for session in user.list_sessions()]
        await client.revoke_tokens(made.account_id)
        with pytest.raises(ConflictError):
            await client.create_account("twice", made.account_id)
        with pytest.raises(InvalidRequestError):
            await client.create_account("")
        await client.delete_account(made.account_id)
        with pytest.raises(NotFoundError):
            await client.get_account(made.account_id)
        actions = [record.action async for record in client.audit(account_id=made.account_id)]
        assert actions[0] == "account.delete"
        assert actions[-1] == "account.create"
        assert made.keys[0].key not in repr(made)


async def test_a_wrong_operator_s_token(world: Any, operator_file: Path) -> None:
    info = OperatorInfo(world.endpoint, new_operator_token(), world.ca)
    async with OperatorClient(info) as client:
        with pytest.raises(AuthenticationError, match="operator"):
            await client.create_account("x")
    assert "ffo_" not in repr(info)


def test_where_the_operator_file_is(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFileError, match="FARFRAME_OPERATOR"):
        OperatorInfo.find(tmp_path / "connection.json", {})
    file = tmp_path / "operator.json"
    file.write_text('{"endpoint":"http://x","operatorToken":"t"}')
    with pytest.raises(ConnectionFileError, match="https"):
        OperatorInfo.from_file(file)
    file.write_text("{")
    with pytest.raises(ConnectionFileError):
        OperatorInfo.from_file(file)
    file.write_text('{"endpoint":"https://x/","operatorToken":"t","caBundle":"ca.pem"}')
    for environment in ({"FARFRAME_OPERATOR": str(file)}, {"FARFRAME_CONNECTION": str(tmp_path / "connection.json")}):
        info = OperatorInfo.find(None, environment)
        assert (info.endpoint, info.ca_bundle) == ("https://x", tmp_path / "ca.pem")


async def test_the_commands(world: Any, operator_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def farframe(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(run, ["--connection", str(world.folder / "connection.json"), *words])
        return code, capsys.readouterr().out

    code, out = await farframe("account", "create", "acme", "--json")
    assert code == 0
    made = json.loads(out[out.index("{") :])
    account = made["accountId"]
    assert all(key["key"].startswith("ffk_") for key in made["keys"])
    code, out = await farframe("account", "show", account, "--json")
    assert code == 0
    assert "ffk_" not in out
    code, out = await farframe("account", "regenerate-key", account, "2")
    assert code == 0
    assert "ffk_" in out
    assert (await farframe("account", "regenerate-key", account, "3"))[0] == 2
    assert (await farframe("account", "revoke-tokens", account))[0] == 0
    limits = ("sessions.standard=4", "session_minutes=none", "conversions=default")
    code, out = await farframe("account", "quota", "set", account, *limits)
    assert code == 0
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()[1:]}
    assert rows["sessions.standard"] == "4"
    assert rows["session_minutes"] == "none"
    assert rows["conversions"].split(maxsplit=1) == ["20", "the service's default"]
    code, out = await farframe("account", "quota", "show", account, "--json")
    assert json.loads(out[out.index("{") :])["quotas"]["sessions.standard"] == 4
    for wrong in ("nothing=1", "conversions=-3", "conversions", "conversions=many"):
        assert (await farframe("account", "quota", "set", account, wrong))[0] == 1, wrong
    assert (await farframe("account", "quota", "show", "11111111-2222-4333-8444-555555555555"))[0] == 1
    assert (await farframe("account", "delete", account))[0] == 1
    assert (await world.store.accounts.get(account)) is not None
    assert (await farframe("account", "delete", account, "--yes"))[0] == 0
    assert (await world.store.accounts.get(account)) is None
    code, out = await farframe("account", "list")
    assert account not in out
    code, out = await farframe("audit", "--account", account)
    assert code == 0
    for action in ("account.create", "account.regenerate-key", "account.revoke-tokens", "account.delete"):
        assert action in out


async def test_usage_on_the_command_line(world: Any, operator_file: Path) -> None:
    content = {"endpoint": world.endpoint, "stsEndpoint": world.endpoint, "caBundle": str(world.ca)}
    file = world.folder / "connection.json"
    file.write_text(json.dumps({**content, "accountId": world.account, "accountKey": world.key}))

    async def farframe(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "farframe.cli", "--connection", str(file), *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode()

    code, out = await farframe("prices", "add", "session", "0.05", "eur", "--size", "standard", "--from", "2020-01-01")
    assert (code, "0.050000" in out) == (0, True)
    await world.create()
    await world.until_status("Ready")
    begun = datetime.fromtimestamp(world.clock.now() // 1_000_000, UTC).date()
    world.clock.advance(minutes=3)
    await world.call("POST", "/s/:stop")
    period = ("--from", begun.isoformat(), "--to", (begun + timedelta(days=2)).isoformat())
    for who in ((), ("--all-accounts",)):
        code, out = await farframe("usage", *period, "--csv", *who)
        assert code == 0
        (row,) = csv.DictReader(out.splitlines())
        assert (row["day"], row["account_id"], row["size"]) == (begun.isoformat(), world.account, "Standard")
        assert (row["microseconds"], row["minutes"], row["amount"]) == ("180000000", "3.000", "0.150000")
    code, out = await farframe("usage", *period)
    assert "Total 0.150000 EUR" in out
    code, out = await farframe("usage", "--to", begun.isoformat(), "--csv")
    assert (code, len(out.splitlines())) == (0, 1)
    assert (await farframe("usage", "--from", "yesterday"))[0] == 1


async def test_a_device_needs_no_account_key(world: Any) -> None:
    async with RemoteRenderingClient(connection(world, account_key=world.key)) as client:
        session = await client.create_session("Standard", 5, "s")
        other = await client.create_session("Standard", 5, "other")
        token = await session.create_token(minutes=5)
        viewer = await session.create_token("Viewer")
        assert token.token not in repr(token)
        assert (token.session_id, token.role, viewer.role) == ("s", "Client", "Viewer")
    async with RemoteRenderingClient(connection(world, access_token=token.token)) as device:
        mine = await device.get_session("s")
        await mine.extend(30)
        with pytest.raises(PermissionDeniedError):
            await device.get_session(other.id)
        with pytest.raises(PermissionDeniedError):
            await device.create_session()
        world.clock.advance(minutes=6)
        with pytest.raises(AuthenticationError):
            await mine.refresh()
    async with RemoteRenderingClient(connection(world, access_token=viewer.token)) as watcher:
        seen = await watcher.get_session("s")
        with pytest.raises(PermissionDeniedError):
            await seen.stop()
