"""The client and the command line against the real control plane; only the fleet is a fake one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farframe.client import (
    AuthenticationError,
    ConflictError,
    ConnectionInfo,
    InvalidRequestError,
    NotFoundError,
    RemoteRenderingClient,
    ServiceUnreachableError,
    SessionFailedError,
)
from farframe.fleet.fake import FakeFleet
from farframe.service.clock import SystemClock
from tests.service.conftest import World, WorldFactory, certificates, make_world, signing_key  # noqa: F401 - fixtures


@pytest.fixture
async def world(make_world: WorldFactory) -> AsyncIterator[World]:  # noqa: F811
    async with make_world(clock=SystemClock(), servers={"standard": 60, "premium": 1}) as made:
        yield made


def connection(world: World, **changes: object) -> dict[str, object]:
    content = {
        "endpoint": world.endpoint,
        "stsEndpoint": world.endpoint,
        "accountId": world.account,
        "accountKey": world.key,
        "caBundle": str(world.ca),
    }
    return {**content, **changes}


def client_of(world: World, folder: Path, **changes: object) -> RemoteRenderingClient:
    path = folder / "client-connection.json"
    path.write_text(json.dumps(connection(world, **changes)))
    return RemoteRenderingClient.from_connection_file(path)


async def test_a_lease_from_beginning_to_end(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        async with client.leased("Premium", 20, "demo") as session:
            assert (session.id, session.status, session.size) == ("demo", "Ready", "Premium")
            assert session.properties.hostname == "localhost"
            assert session.properties.lease_minutes == 20
            assert (await session.extend(30)).lease_minutes == 30
            with pytest.raises(InvalidRequestError):
                await session.extend(30)
            assert [item.id async for item in client.list_sessions()] == ["demo"]
        assert (await client.get_session("demo")).status == "Stopped"
        await session.stop()
        assert [item.id async for item in client.list_sessions()] == []


async def test_the_same_id_with_other_settings_is_a_conflict(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        first = await client.create_session(session_id="demo", lease_minutes=10)
        again = await client.create_session(session_id="demo", lease_minutes=10)
        assert first.properties.creation_time == again.properties.creation_time
        with pytest.raises(ConflictError):
            await client.create_session(session_id="demo", lease_minutes=11)


async def test_mistakes_are_typed(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        with pytest.raises(NotFoundError, match="nobody"):
            await client.get_session("nobody")
        with pytest.raises(InvalidRequestError, match="negative"):
            await client.create_session(lease_minutes=-1)
        with pytest.raises(InvalidRequestError):
            await client.create_session(session_id="not/an id")
    async with client_of(world, tmp_path, accountKey="wrong") as client:
        with pytest.raises(AuthenticationError, match="accountKey"):
            await client.create_session()


async def test_all_pages_are_walked(world: World, tmp_path: Path) -> None:
    async with client_of(world, tmp_path) as client:
        for number in range(53):
            await client.create_session(session_id=f"s{number}")
        assert {item.id async for item in client.list_sessions()} == {f"s{number}" for number in range(53)}


async def test_only_the_services_own_authority_is_trusted(world: World, tmp_path: Path) -> None:
    info = ConnectionInfo(world.endpoint, world.endpoint, world.account, world.key)
    async with RemoteRenderingClient(info) as client:
        with pytest.raises(ServiceUnreachableError, match="not trusted"):
            await client.create_session()


async def test_a_session_whose_server_dies_says_so(make_world: WorldFactory, tmp_path: Path) -> None:  # noqa: F811
    fleet = FakeFleet(default="cold")
    async with make_world(fleet=fleet, clock=SystemClock()) as world, client_of(world, tmp_path) as client:
        session = await client.create_session(session_id="demo")
        waiting = asyncio.create_task(session.wait_until_ready())
        assert fleet.listener is not None
        await fleet.listener.server_lost(fleet.key_of("demo"), "StartFailed", "There is no graphics adapter.")
        with pytest.raises(SessionFailedError, match="no graphics adapter"):
            await waiting


async def farframe(world: World, folder: Path, *words: str) -> tuple[int, str, str]:
    path = folder / "cli-connection.json"
    path.write_text(json.dumps(connection(world)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARFRAME_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "farframe.cli", "--connection", str(path), *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "TERM": "dumb"},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_sessions_from_the_command_line(world: World, tmp_path: Path) -> None:
    code, out, _ = await farframe(world, tmp_path, "session", "list")
    assert (code, out) == (0, "No sessions. `farframe session create` leases one.\n")
    code, out, _ = await farframe(world, tmp_path, "session", "create", "demo", "--size", "premium", "--json")
    made = json.loads(out)
    assert (code, made["id"], made["status"], made["size"]) == (0, "demo", "Ready", "Premium")
    code, out, _ = await farframe(world, tmp_path, "session", "list")
    assert out.splitlines()[0].split() == ["ID", "STATUS", "SIZE", "MINUTES", "CREATED", "HOST"]
    assert out.splitlines()[1].startswith("demo  Ready   Premium  0/10")
    code, out, _ = await farframe(world, tmp_path, "session", "extend", "demo", "25", "--json")
    assert json.loads(out)["leaseMinutes"] == 25
    code, out, err = await farframe(world, tmp_path, "session", "extend", "demo", "25")
    assert (code, out) == (1, "")
    assert err.startswith("farframe: ")
    code, out, _ = await farframe(world, tmp_path, "session", "stop", "demo")
    assert code == 0
    assert "Stopped" in out
    code, out, _ = await farframe(world, tmp_path, "session", "show", "demo", "--json")
    assert json.loads(out)["status"] == "Stopped"
    code, _, err = await farframe(world, tmp_path, "session", "show", "nobody")
    assert (code, err.count("\n")) == (1, 1)
    assert "The session nobody does not exist." in err


async def test_an_interrupted_wait_gives_the_lease_back(make_world: WorldFactory, tmp_path: Path) -> None:  # noqa: F811
    fleet = FakeFleet(default="cold")
    async with make_world(fleet=fleet, clock=SystemClock()) as world, client_of(world, tmp_path) as client:
        (tmp_path / "c.json").write_text(json.dumps(connection(world)))
        for interrupt in ("SIGINT", "SIGTERM"):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "farframe.cli", "--connection", str(tmp_path / "c.json"), "session", "create", interrupt),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(30):
                while not any(made.session_id == interrupt for made in fleet.assigned):
                    await asyncio.sleep(0.02)
            process.send_signal(__import__("signal").Signals[interrupt])
            _, err = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 130, err
            assert b"Traceback" not in err
            assert (await client.get_session(interrupt)).status == "Stopped"
