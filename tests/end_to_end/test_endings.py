"""How sessions and connections end, on purpose and by accident."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx
import pytest

from farframe.client import (
    HandshakeError,
    RemoteRenderingClient,
    RuntimeConnection,
    SessionEndedError,
    SessionFailedError,
)
from farframe.protocol.errors import Result
from tests.end_to_end.harness import STOP_SECONDS, RunningService, start_service, still_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENT = {"FARFRAME_ORPHAN_TIMEOUT_SECONDS": "300"}
"""Render servers that wait for their service however slowly it starts again."""


async def how_it_ends(connection: RuntimeConnection) -> SessionEndedError:
    with pytest.raises(SessionEndedError) as caught:
        async for _ in connection.frames():
            pass
    return caught.value


async def test_stop_ends_the_stream_and_the_device_learns_why(service: RunningService) -> None:
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        session = await client.create_session()
        await session.wait_until_ready()
        async with session.connect(width=320, height=180) as connection:
            await connection.wait_for_still()
            ending = asyncio.create_task(how_it_ends(connection))
            await session.stop()
            async with asyncio.timeout(60):
                error = await ending
        assert error.reason is Result.SESSION_STOPPED
        assert (await client.get_session(session.id)).status == "Stopped"


async def test_expiry_ends_the_stream_and_the_device_learns_why(tmp_path: Path) -> None:
    service = start_service(tmp_path / "data")
    try:
        async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
            session = await client.create_session(lease_minutes=1)
            await session.wait_until_ready()
            async with session.connect(width=320, height=180) as connection:
                async with asyncio.timeout(120):
                    error = await how_it_ends(connection)
            assert error.reason is Result.SESSION_EXPIRED
            assert (await client.get_session(session.id)).status == "Expired"
    finally:
        service.stop()


async def test_a_second_device_is_refused_and_told_why(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
    ):
        for relayed in (False, True):
            with pytest.raises(HandshakeError) as caught:
                async with session.connect(width=320, height=180, relayed=relayed):
                    pass
            assert caught.value.result is Result.OTHER_SESSION_CONNECTED
        await connection.wait_for_still()


async def test_a_device_that_vanishes_frees_its_place(service: RunningService) -> None:
    script = """
import asyncio, sys
from farframe.client import RemoteRenderingClient
async def main():
    async with RemoteRenderingClient.from_connection_file(sys.argv[1]) as client:
        session = await client.get_session(sys.argv[2])
        async with session.connect(width=320, height=180) as connection:
            await connection.wait_for_still()
            print("connected", flush=True)
            await asyncio.sleep(600)
asyncio.run(main())
"""
    import sys

    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        device = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(service.connection_path), session.id, stdout=asyncio.subprocess.PIPE
        )
        assert device.stdout is not None
        async with asyncio.timeout(60):
            assert await device.stdout.readline() == b"connected\n"
        device.send_signal(signal.SIGKILL)
        await device.wait()
        gone = time.monotonic()
        while True:
            try:
                await session.give_up_scene()
                break
            except HandshakeError as error:
                assert error.result is Result.OTHER_SESSION_CONNECTED
                assert time.monotonic() - gone < 60
                await asyncio.sleep(0.2)
        async with session.connect(width=320, height=180) as connection:
            await connection.wait_for_still()


async def test_a_killed_render_server_turns_the_session_into_error(service: RunningService) -> None:
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        session = await client.create_session()
        await session.wait_until_ready()
        victim = service.server_of(session.properties.handshake_port)
        victim.kill()
        killed = time.monotonic()
        while (properties := await session.refresh()).status == "Ready":
            assert time.monotonic() - killed < 60
            await asyncio.sleep(0.1)
        assert properties.status == "Error"
        assert properties.error is not None
        assert properties.error.code == "ServerDied"
        with pytest.raises(SessionFailedError):
            await session.wait_until_ready()


async def test_after_the_service_was_killed_living_servers_are_adopted(tmp_path: Path) -> None:
    service = start_service(tmp_path / "data", settings=PATIENT)
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        lives = await client.create_session(lease_minutes=60)
        gone = await client.create_session(lease_minutes=60)
        for session in (lives, gone):
            await session.wait_until_ready()
        victim = service.server_of(gone.properties.handshake_port)
        survivor = service.server_of(lives.properties.handshake_port)
        async with lives.connect(width=320, height=180) as connection:
            await connection.wait_for_still()
            left = service.kill()
            victim.kill()
            # In a thread, so that the device goes on living meanwhile.
            service = await asyncio.to_thread(start_service, tmp_path / "data")
            try:
                # The device has not noticed anything.
                assert not connection.interrupted
                await connection.wait_for_still()
                assert (await how_they_stand(service, lives.id, gone.id)) == ("Ready", "Error")
            except BaseException:
                service.stop()
                raise
    try:
        async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
            assert [item.id async for item in client.list_sessions()] == [lives.id]
            session = await client.get_session(lives.id)
            async with session.connect(width=320, height=180) as connection:
                await connection.wait_for_still()
            await session.stop()
            assert not still_running([survivor])
            async with client.leased() as another:
                assert another.status == "Ready"
        assert not still_running(left), "servers that were left behind are ended"
    finally:
        service.stop()


async def how_they_stand(service: RunningService, *ids: str) -> tuple[str, ...]:
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        found = [await client.get_session(identifier) for identifier in ids]
        for session in found:
            if session.status == "Error":
                assert session.properties.error is not None
                assert session.properties.error.code == "ServerLost"
        return tuple(session.status for session in found)


async def test_servers_of_a_killed_service_that_does_not_return_end_themselves(tmp_path: Path) -> None:
    service = start_service(tmp_path / "data", settings={"FARFRAME_ORPHAN_TIMEOUT_SECONDS": "2"})
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        session = await client.create_session(lease_minutes=60)
        await session.wait_until_ready()
    left = service.kill()
    assert not still_running(left), "render servers outlive a killed service"


async def test_sessions_can_be_kept_while_the_service_is_replaced(tmp_path: Path) -> None:
    service = start_service(tmp_path / "data", settings={"FARFRAME_KEEP_SESSIONS": "true", **PATIENT})
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        session = await client.create_session(lease_minutes=60)
        await session.wait_until_ready()
        server = service.server_of(session.properties.handshake_port)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(STOP_SECONDS) == 0, service.log()
    assert server.is_running()
    service = start_service(tmp_path / "data")
    try:
        assert (await how_they_stand(service, session.id)) == ("Ready",)
    finally:
        service.stop()
    assert not still_running([server])


async def test_the_inspector_shows_frames_and_log_to_whoever_has_a_token(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
    ):
        await connection.wait_for_still()
        properties = session.properties
        base = f"https://{properties.hostname}:{properties.inspector_port}"
        token = await client._http.token()
        async with httpx.AsyncClient(verify=client.connection.ssl_context(), timeout=60) as http:
            page = await http.get(f"{base}/")
            assert page.status_code == 200
            assert "<html" in page.text.lower()
            assert (await http.get(f"{base}/ledger")).status_code == 401
            assert (await http.get(f"{base}/log", headers={"Authorization": "Bearer no.such.token"})).status_code == 401
            headers = {"Authorization": f"Bearer {token}"}
            async with asyncio.timeout(60):
                for path, member in (("ledger", "frameId"), ("log", "event")):
                    async with http.stream("GET", f"{base}/{path}", headers=headers) as response:
                        assert response.status_code == 200
                        async for line in response.aiter_lines():
                            assert member in json.loads(line)
                            assert token not in line
                            break
