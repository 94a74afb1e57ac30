"""By which way the stream travels: Chromium and the Python client against real render servers, with and without UDP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from farframe.client import HandshakeError, RemoteRenderingClient, RequestError, Result, Session
from farframe.client._media import MediaTransport
from farframe.client.runtime import RuntimeConnection, open_connection
from farframe.client.ways import WayChoice
from farframe.protocol.messages import RenderModeChoice
from tests.chromium import CHROMIUM, FLAGS
from tests.end_to_end.harness import RunningService, difference, spread
from tests.end_to_end.test_browser import PATIENCE_MS, picture, still, until

pytestmark = pytest.mark.slow

NO_UDP = "--webrtc-ip-handling-policy=disable_non_proxied_udp"
CANDIDATES = re.compile(r"(?m)^a=candidate:.*\r?\n")


class WithoutUdp(MediaTransport):
    """WebRTC in a network that carries none of its packets: neither side hears of the other's addresses."""

    async def create_offer(self) -> str:
        return CANDIDATES.sub("", await super().create_offer())

    async def accept_answer(self, answer_sdp: str) -> None:
        await super().accept_answer(CANDIDATES.sub("", answer_sdp))


@asynccontextmanager
async def connected(
    session: Session,
    *,
    way: WayChoice = "auto",
    relayed: object = "auto",
    render_mode: RenderModeChoice = "Default",
    transport: type = MediaTransport,
) -> AsyncIterator[RuntimeConnection]:
    connection = await open_connection(
        session,
        width=320,
        height=200,
        relayed=relayed,  # type: ignore[arg-type]
        max_frames_per_second=30,
        timeout=60.0,
        way=way,
        render_mode=render_mode,
        make_transport=transport,
    )
    try:
        yield connection
    finally:
        await connection.close()


async def shows_the_engine(connection: RuntimeConnection) -> None:
    await connection.load_model("builtin://Engine")
    connection.look_at((2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    frame = await connection.wait_for_still(60.0)
    assert spread(frame.image) > 5


@pytest.mark.parametrize("relayed", [False, True])
async def test_the_python_client_over_a_websocket(service: RunningService, relayed: bool) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        connected(session, way="websocket", relayed=relayed) as connection,
    ):
        await shows_the_engine(connection)
        way = connection.way
        assert (way.kind, way.relayed, way.reason) == ("websocket", relayed, "It was asked for.")
        assert way.round_trip_ms is not None


async def test_a_render_mode_is_taken_by_every_way_in_and_told_back(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        ways: tuple[WayChoice, ...] = ("webrtc", "websocket")
        for way in ways:
            for relayed in (False, True):
                async with connected(session, way=way, relayed=relayed, render_mode="TileBasedComposition") as one:
                    assert one.relayed == relayed
                    assert one.render_mode == "TileBasedComposition"
                    assert (await one.statistics()).server.render_mode == "TileBasedComposition"
        async with connected(session) as connection:
            assert connection.render_mode == "DepthBasedComposition"
            assert (await connection.statistics()).server.render_mode == "DepthBasedComposition"
            async with session.watch() as watching:
                assert watching.render_mode is None


async def test_the_python_client_without_udp(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        async with connected(session, transport=WithoutUdp) as connection:
            await shows_the_engine(connection)
            assert (connection.way.kind, connection.way.relayed) == ("websocket", False)
            assert connection.way.reason.startswith("WebRTC failed: No UDP path")
        # What failed a moment ago is not waited for again.
        async with connected(session) as connection:
            assert connection.way.kind == "websocket"
            assert "some minutes ago" in connection.way.reason
        async with connected(session, way="webrtc") as connection:
            assert connection.way.kind == "webrtc"


async def test_one_device_at_a_time_whatever_the_way(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        for first, second in (("webrtc", "websocket"), ("websocket", "webrtc"), ("websocket", "websocket")):
            async with connected(session, way=first) as connection:  # type: ignore[arg-type]
                with pytest.raises(HandshakeError) as caught:
                    async with connected(session, way=second):  # type: ignore[arg-type]
                        pass
                assert caught.value.result is Result.OTHER_SESSION_CONNECTED
                assert connection.ended is None


Way = tuple[WayChoice, object]
ALL_WAYS = pytest.mark.parametrize(
    "way", [("webrtc", False), ("websocket", False), ("websocket", True)], ids=["webrtc", "websocket", "relayed"]
)


def cut(connection: RuntimeConnection) -> None:
    """Take this device's connection away without a word, as a network that changes does."""
    transport: Any = connection._transport
    if connection.way.kind == "webrtc":
        transport._receiver.abandon()
    else:
        transport._socket.transport.abort()


async def until_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@ALL_WAYS
async def test_a_device_that_was_cut_off_finds_its_scene_again_the_same_way(service: RunningService, way: Way) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        connected(session, way=way[0], relayed=way[1], render_mode="TileBasedComposition") as connection,
    ):
        model = await connection.load_model("builtin://Engine")
        resumed: list[bool] = []
        connection.on_resumed(lambda: resumed.append(True))
        cut(connection)
        connection.network_changed()
        await until_true(lambda: bool(resumed))
        assert connection.info is not None and connection.info.resumed
        assert connection.render_mode == "TileBasedComposition"
        assert connection.models == (model,)
        assert (await connection.statistics()).server.models == 1
        assert (connection.way.kind, connection.way.relayed) == (way[0], bool(way[1]))
        connection.look_at_model(azimuth_degrees=50)
        assert spread((await connection.wait_for_still(60.0)).image) > 5


@ALL_WAYS
async def test_leaving_empties_the_scene_at_once_whatever_the_way(service: RunningService, way: Way) -> None:
    """The next device comes right after, and finds nothing: no grace time, no wait."""
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
    ):
        async with connected(session, way=way[0], relayed=way[1]) as connection:
            await connection.load_model("builtin://Engine")
            assert connection.info is not None
            secret = connection.info.resume_secret
        async with connected(session, way=way[0], relayed=way[1]) as connection:
            assert connection.info is not None and not connection.info.resumed
            assert connection.info.resume_secret != secret
            assert (await connection.statistics()).server.models == 0


@ALL_WAYS
async def test_watching_whatever_the_way(service: RunningService, way: Way) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        connected(session) as driver,
    ):
        model = await driver.load_model("builtin://Engine")
        async with session.watch(way=way[0], relayed=way[1], timeout=60.0) as watching:  # type: ignore[arg-type]
            assert (watching.role, watching.driven) == ("viewer", True)
            assert (watching.way.kind, watching.way.relayed) == (way[0], bool(way[1]))
            assert [seen.name for seen in watching.models] == [model.name]
            for azimuth in (20, 80):
                driver.look_at_model(azimuth_degrees=azimuth)
                shown = await driver.wait_for_still(60.0)
                async with asyncio.timeout(60):
                    async for frame in watching.frames():
                        if difference(frame.image, shown.image) < 3:
                            break
            with pytest.raises(RequestError) as caught:
                watching.look_at((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
            assert caught.value.result is Result.WATCHING_ONLY
            resumed: list[bool] = []
            watching.on_resumed(lambda: resumed.append(True))
            cut(watching)
            watching.network_changed()
            await until_true(lambda: bool(resumed))
            driver.look_at_model(azimuth_degrees=140)
            shown = await driver.wait_for_still(60.0)
            async with asyncio.timeout(60):
                async for frame in watching.frames():
                    if difference(frame.image, shown.image) < 3:
                        break


@asynccontextmanager
async def viewer(
    service: RunningService,
    client: RemoteRenderingClient,
    session: Session,
    *flags: str,
    query: str = "",
    script: str = "",
) -> AsyncIterator[Page]:
    link = (await client.create_viewer_link(session.id)).url.replace("/viewer/#", f"/viewer/{query}#")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags], timeout=PATIENCE_MS)
        try:
            page = await browser.new_page(viewport={"width": 640, "height": 400})
            page.set_default_timeout(PATIENCE_MS)
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            if script:
                await page.add_init_script(script)
            await page.goto(link)
            await page.wait_for_selector("body[data-state=connected]")
            yield page
            assert not problems
        finally:
            await browser.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("flags", "query", "reason"),
    [((), "?way=websocket", "It was asked for."), ((NO_UDP,), "", "WebRTC failed: No network path")],
    ids=["asked for", "without UDP"],
)
async def test_chromium_over_a_websocket(
    service: RunningService, flags: tuple[str, ...], query: str, reason: str
) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        viewer(service, client, session, *flags, query=query) as page,
    ):
        way = await page.evaluate("() => window.farframeViewer.connection.way")
        assert (way["kind"], way["relayed"]) == ("websocket", True)
        assert way["reason"].startswith(reason)
        await page.click("[data-testid=empty-load-sample]")
        await until(page, "() => window.farframeViewer.models.length === 1")
        await still(page)
        assert spread(await picture(page)) > 10
        await page.click("[data-testid=statistics-toggle]")
        await page.wait_for_selector("[data-testid=statistics]:not([hidden]) [data-testid=way]")
        await until(page, "() => document.querySelector('[data-testid=way]').textContent.includes('WebSocket')")
        statistics = await until(page, "() => window.farframeViewer.statistics")
        assert statistics["framesDecoded"] > 0


@pytest.mark.browser
async def test_chromium_draws_on_a_canvas_where_no_tracks_can_be_made(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        viewer(
            service, client, session, query="?way=websocket", script="delete window.MediaStreamTrackGenerator"
        ) as page,
    ):
        await page.click("[data-testid=empty-load-sample]")
        await until(page, "() => window.farframeViewer.models.length === 1")
        await still(page)
        shades = await page.evaluate(
            """() => {
                const canvas = document.querySelector('[data-testid=video] + canvas');
                const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
                return new Set(pixels.filter((_, index) => index % 4 === 0)).size;
            }"""
        )
        assert shades > 20
        await page.click("[data-testid=leave]")
        await until(page, "() => document.querySelector('[data-testid=video] + canvas') === null")


@pytest.mark.browser
async def test_chromium_over_webrtc_says_so(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        viewer(service, client, session) as page,
    ):
        way = await page.evaluate("() => window.farframeViewer.connection.way")
        assert (way["kind"], way["reason"]) == ("webrtc", "UDP gets through.")
