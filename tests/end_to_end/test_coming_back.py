"""A device that loses its network finds its scene again; nobody else gets it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from farframe.client import (
    ConnectionLostError,
    HandshakeError,
    RemoteRenderingClient,
    RequestError,
    RuntimeConnection,
)
from farframe.protocol.errors import Result
from tests.end_to_end.harness import RunningService, difference, start_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 60.0


async def until(condition: Callable[..., bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def cut(connection: RuntimeConnection) -> None:
    """Take this device's sockets away without a word, as a network that changes does."""
    transport: Any = connection._transport
    transport._receiver.abandon()


async def test_a_change_of_network_costs_a_moment(
    service: RunningService, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
    ):
        events: list[str] = []
        seen = 0

        def interrupted(error: Exception) -> None:
            # Counted here: whoever looks later may find the first picture after it come already, and no other follows.
            nonlocal seen
            seen = connection._frame_count
            events.append("interrupted")

        connection.on_interrupted(interrupted)
        connection.on_resumed(lambda: events.append("resumed"))
        model = await connection.load_model("builtin://Engine")
        await connection.configure_scene(background=(0.0, 0.2, 0.0))
        connection.look_at_model(model, azimuth_degrees=30)
        before = await connection.wait_for_still()
        costs = []
        for _ in range(3):
            count = len(events)
            cut(connection)
            began = time.monotonic()
            connection.network_changed()
            await until(lambda count=count: len(events) > count)
            pending = asyncio.create_task(connection.statistics())
            await until(lambda: connection._frame_count > seen)
            costs.append(time.monotonic() - began)
            # What is asked meanwhile waits, and is answered.
            assert (await pending).server.models == 1
            assert events[count:] == ["interrupted", "resumed"]
        after = await connection.wait_for_still()
        assert difference(before.image, after.image) < 3, "the scene and the view are as they were"
        assert connection.models == (model,)
        assert connection.info is not None and connection.info.resumed
        # The scene goes on as it would have.
        other = await connection.load_model("builtin://Engine")
        assert other.model_id != model.model_id
        record_property("seconds", costs)
        with capsys.disabled():
            shown = ", ".join(f"{cost:.2f} s" for cost in costs)
            print(f"\na change of network, from the change to the next picture: {shown}")


async def test_a_pending_request_fails_as_retryable_and_its_load_leaves_nothing(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
    ):

        def cut_off(progress: object) -> None:
            # Here, and deaf to what came in with it: however quick the load is, its answer is not heard any more.
            connection.on_control = lambda text: None  # type: ignore[method-assign]
            cut(connection)
            connection.network_changed()

        connection.on_interrupted(lambda error: connection.__dict__.pop("on_control"))
        with pytest.raises(ConnectionLostError) as caught:
            await connection.load_model("builtin://Engine", progress=cut_off)
        assert caught.value.retryable
        assert (await connection.statistics()).server.models == len(connection.models)
        await connection.load_model("builtin://Engine")
        assert (await connection.statistics()).server.models == len(connection.models)


async def test_only_the_secret_opens_what_is_kept(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        client.leased() as elsewhere,
    ):
        async with elsewhere.connect(width=320, height=180) as other:
            assert other.info is not None
            others_secret = other.info.resume_secret
        async with session.connect(width=320, height=180, reconnect=False) as connection:
            await connection.load_model("builtin://Engine")
            assert connection.info is not None
            secret = connection.info.resume_secret
            offering = connection._make_transport(connection)
            offer = await offering.create_offer()
            await offering.close()  # only its words are needed
            url = f"https://{session.properties.hostname}:{session.properties.handshake_port}/whep"
            headers = {
                "Authorization": f"Bearer {await client._http.token()}",
                "Content-Type": "application/sdp",
            }

            async def attempt(resume: str | None) -> httpx.Response:
                extra = {} if resume is None else {"Farframe-Resume": resume}
                return await client._http.http.post(url, content=offer, headers=headers | extra)

            wrong = [None, "", "x", secret[:-1], secret + "A", secret[::-1], others_secret, "a" * 5000]
            for resume in wrong:
                assert (await attempt(resume)).status_code == 409, "while the device is connected"
            # Lost: the sockets are gone, and the server notices.
            cut(connection)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "kept for it until" not in (await attempt(None)).json()["error"]["message"]:
                    await asyncio.sleep(0.1)
            for resume in wrong:
                answer = await attempt(resume)
                assert answer.status_code == 409, "while the scene is kept"
                assert answer.json()["error"]["code"] == "OtherSessionConnected"
                assert "kept for it until" in answer.json()["error"]["message"]
            with pytest.raises(HandshakeError) as caught:
                async with session.connect(width=320, height=180):
                    pass
            assert caught.value.result is Result.OTHER_SESSION_CONNECTED
            assert (await attempt_of_viewer(client, session, offer, url, secret)).status_code == 403
            # Whoever has the account's key ends the wait.
            await session.give_up_scene()
            answer = await attempt(secret)
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "NothingToResume")
            with pytest.raises(HandshakeError) as caught:
                await session.give_up_scene()
            assert caught.value.result is Result.INVALID_ID
            async with session.connect(width=320, height=180) as fresh:
                assert fresh.info is not None and not fresh.info.resumed
                assert (await fresh.statistics()).server.models == 0
        assert secret not in service.log()


async def attempt_of_viewer(client: Any, session: Any, offer: str, url: str, secret: str) -> httpx.Response:
    token = (await session.create_token("Viewer")).token
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp", "Farframe-Resume": secret}
    return await client._http.http.post(url, content=offer, headers=headers)


async def test_without_a_grace_time_a_loss_is_for_good(tmp_path: Path) -> None:
    service = start_service(tmp_path / "data", "--resume-grace", "0")
    try:
        async with (
            RemoteRenderingClient.from_connection_file(service.connection_path) as client,
            client.leased() as session,
            session.connect(width=320, height=180) as connection,
        ):
            assert connection.info is not None and not connection.info.resume_secret
            cut(connection)
            with pytest.raises(ConnectionLostError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    async for _ in connection.frames():
                        pass
            while True:
                try:
                    async with session.connect(width=320, height=180) as fresh:
                        assert (await fresh.statistics()).server.models == 0
                        break
                except HandshakeError as error:
                    assert error.result is Result.OTHER_SESSION_CONNECTED
                    await asyncio.sleep(0.2)
    finally:
        service.stop()


async def test_a_device_that_left_while_interrupted_leaves_nothing_kept(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        async with session.connect(width=320, height=180) as connection:
            interrupted = asyncio.Event()
            connection.on_interrupted(lambda error: interrupted.set())
            cut(connection)
            connection.network_changed()
            await interrupted.wait()
        async with session.connect(width=320, height=180) as fresh:
            with pytest.raises(RequestError):
                await fresh.unload_model(1)


async def test_a_session_that_was_stopped_meanwhile_is_not_waited_for(service: RunningService) -> None:
    from farframe.client import SessionEndedError

    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        session = await client.create_session()
        await session.wait_until_ready()
        async with session.connect(width=320, height=180) as connection:
            cut(connection)
            await session.stop()
            connection.network_changed()
            with pytest.raises(SessionEndedError) as caught:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    async for _ in connection.frames():
                        pass
            assert caught.value.reason is Result.SESSION_STOPPED
