"""TURN by a real coturn on loopback, over UDP, TCP and TLS: the Python client and Chromium, on relayed paths only.

Skipped where there is no ``turnserver``; coturn has no wheels.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from farframe.auth.certificates import ensure_certificates
from farframe.client import HandshakeError, RemoteRenderingClient
from tests.end_to_end.harness import RunningService, spread, start_service
from tests.end_to_end.test_browser import picture, still, until
from tests.end_to_end.test_ways import connected, shows_the_engine, viewer
from tests.ports import quiet_port

TURNSERVER = shutil.which("turnserver")
SECRET = "a secret of these tests"
START_SECONDS = 60.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(TURNSERVER is None and "CI" not in os.environ, reason="coturn's turnserver is not installed"),
]


@dataclass
class Turn:
    """A running TURN server."""

    port: int
    tls_port: int
    log: Path

    def uri(self, transport: str) -> str:
        if transport == "tls":
            return f"turns:localhost:{self.tls_port}?transport=tcp"
        return f"turn:127.0.0.1:{self.port}?transport={transport}"


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory, service_data: Path) -> Iterator[Turn]:
    """coturn with the certificate of the service under test, for both are ``localhost``."""
    assert TURNSERVER is not None
    folder = tmp_path_factory.mktemp("turn")
    files = ensure_certificates(service_data / "certificates", ["localhost"])
    server = Turn(quiet_port(), quiet_port(), folder / "turn.log")
    relays = random.SystemRandom().randint(33_000, 43_000)  # which of them are taken it finds out
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [
                TURNSERVER,
                "-n",
                "--no-cli",
                "--listening-ip=127.0.0.1",
                "--relay-ip=127.0.0.1",
                f"--listening-port={server.port}",
                f"--tls-listening-port={server.tls_port}",
                f"--min-port={relays}",
                f"--max-port={relays + 400}",
                "--use-auth-secret",
                f"--static-auth-secret={SECRET}",
                "--realm=farframe.test",
                "--allow-loopback-peers",
                f"--cert={files.certificate}",
                f"--pkey={files.key}",
                f"--pidfile={folder / 'turn.pid'}",
                "--log-file=stdout",
                "--simple-log",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        for port in (server.port, server.tls_port):
            while True:
                assert process.poll() is None, server.log.read_text()
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, server.log.read_text()
                    time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def service_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("turned") / "data"


@pytest.fixture(scope="module", params=["udp", "tcp", "tls"])
def turned(request: pytest.FixtureRequest, turn: Turn, service_data: Path) -> Iterator[RunningService]:
    """A service that names the TURN server, by one transport."""
    settings = {"FARFRAME_TURN_SERVERS": turn.uri(request.param), "FARFRAME_TURN_SECRET": SECRET}
    running = start_service(service_data, settings=settings)
    try:
        yield running
    finally:
        running.stop()


async def test_python_by_way_of_turn_only(turned: RunningService, turn: Turn) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(turned.connection_path) as client,
        client.leased() as session,
    ):
        async with connected(session, way="turn") as connection:
            await shows_the_engine(connection)
            assert connection.way.kind == "turn"
        # Where a path without a relay is to be had, it is taken.
        async with connected(session) as connection:
            assert connection.way.kind == "webrtc"


@pytest.mark.browser
async def test_chromium_by_way_of_turn_only(turned: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(turned.connection_path) as client,
        client.leased() as session,
        viewer(turned, client, session, "--ignore-certificate-errors", query="?way=turn") as page,
    ):
        way = await page.evaluate("() => window.farframeViewer.connection.way")
        assert (way["kind"], way["reason"]) == ("turn", "It was asked for.")
        await page.click("[data-testid=empty-load-sample]")
        await until(page, "() => window.farframeViewer.models.length === 1")
        await still(page)
        assert spread(await picture(page)) > 10


async def test_credentials_that_are_wrong_open_nothing(turn: Turn, tmp_path: Path) -> None:
    settings = {"FARFRAME_TURN_SERVERS": turn.uri("udp"), "FARFRAME_TURN_SECRET": "another secret"}
    running = start_service(tmp_path / "data", settings=settings)
    try:
        async with (
            RemoteRenderingClient.from_connection_file(running.connection_path) as client,
            client.leased() as session,
        ):
            with pytest.raises(HandshakeError, match="TURN"):
                async with connected(session, way="turn"):
                    pass
    finally:
        running.stop()


async def test_a_service_without_turn_says_so(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        with pytest.raises(HandshakeError, match="names no TURN server"):
            async with connected(session, way="turn"):
                pass
