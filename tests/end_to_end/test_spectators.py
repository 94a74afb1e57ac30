"""Devices that watch, and a browser that comes back: real Chromium, real render servers, and paths that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Browser, Page

from farframe.client import (
    ConnectionInfo,
    HandshakeError,
    RemoteRenderingClient,
    RequestError,
    RuntimeConnection,
    Session,
)
from farframe.protocol.errors import Result
from tests.end_to_end.harness import RunningService, difference, spread
from tests.end_to_end.test_browser import PATIENCE_MS, chromium, picture, still, until
from tests.end_to_end.udp_proxy import Paths

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@contextlib.asynccontextmanager
async def page_of(browser: Browser, url: str) -> AsyncIterator[tuple[Page, Paths]]:
    """A viewer page whose media go over paths that can be cut."""
    context = await browser.new_context(viewport={"width": 640, "height": 400})
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    paths = Paths(page)
    await paths.set_up()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    try:
        await page.goto(url)
        await page.wait_for_selector("body[data-state=connected]")
        yield page, paths
        assert not problems
    finally:
        paths.stop()
        await context.close()


async def turning(connection: RuntimeConnection, stop: asyncio.Event) -> int:
    """Orbit until told to stop; how many frames came meanwhile."""
    before, angle = connection._frame_count, 0.0
    while not stop.is_set():
        angle += 0.05
        connection.look_at((1.6 * math.sin(angle), 0.5, 1.6 * math.cos(angle)), (0.0, 0.2, 0.0))
        await asyncio.sleep(1 / 20)
    return connection._frame_count - before


async def until_(condition: Callable[..., bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def viewers_client(service: RunningService, client: RemoteRenderingClient, session: Session) -> ConnectionInfo:
    """What a person has who may only watch: a token of the role Viewer, and no key."""
    made = await session.create_token("Viewer")
    connection = service.connection
    return ConnectionInfo(
        endpoint=connection["endpoint"],
        sts_endpoint=connection["stsEndpoint"],
        account_id=connection["accountId"],
        access_token=made.token,
        ca_bundle=connection["caBundle"],
    )


async def test_two_browsers_watch_and_a_strangled_one_disturbs_nobody(
    service: RunningService, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=480, height=270) as driver,
        chromium() as browser,
    ):
        await driver.load_model("builtin://Engine")
        driver.look_at_model()
        await driver.wait_for_still()
        links = [(await client.create_viewer_link(session.id, "Viewer")).url for _ in range(2)]
        async with page_of(browser, links[0]) as (good, _), page_of(browser, links[1]) as (poor, poor_paths):
            for page in (good, poor):
                await until(page, "() => document.querySelector('[data-testid=video]').videoWidth === 480")
                assert await page.locator("[data-testid=watching]").is_visible()
                assert not await page.locator("[data-testid=panel-toggle]").is_visible()
            assert "?watch" in poor_paths.urls[0]
            stop = asyncio.Event()
            orbit = asyncio.create_task(turning(driver, stop))
            first = [await picture(page) for page in (good, poor)]
            assert min(spread(shot) for shot in first) > 10
            for page, before in zip((good, poor), first, strict=True):
                await wait_for_another(page, before)
            # From here on one of them gets a line that carries a fraction of the stream.
            poor_paths.proxies[0].bytes_per_second = 6_000
            decoded = "() => window.farframeViewer.statistics?.framesDecoded ?? 0"
            start = [await good.evaluate(decoded), driver._frame_count, await poor.evaluate(decoded)]
            # The time goes from before the first count until after the second one: it may be longer than theirs.
            began = time.monotonic()
            keyframes = (await driver.statistics()).server.keyframes
            await until_(lambda: driver._frame_count >= start[1] + 150)
            await until(good, f"() => window.farframeViewer.statistics.framesDecoded >= {start[0] + 60}")
            poor_paths.proxies[0].bytes_per_second = None
            stop.set()
            await orbit
            caused = (await driver.statistics()).server.keyframes - keyframes
            seconds = time.monotonic() - began
            lost = poor_paths.proxies[0].lost
            assert lost > 0
            assert caused <= seconds / 4 + 2, "those who watch cause a keyframe now and then, no more"
            assert driver.ended is None and not driver.interrupted
            await good.evaluate("() => 0")
            # Once its line is free again it gets a picture again.
            dimmed = await picture(poor)
            stop.clear()
            orbit = asyncio.create_task(turning(driver, stop))
            await wait_for_another(poor, dimmed)
            stop.set()
            await orbit
            with capsys.disabled():
                print(
                    f"\n{lost} packets lost on the narrow line; "
                    f"150 frames to the driver and more in {seconds:.1f} s, {caused} keyframes"
                )


async def wait_for_another(page: Page, before: object) -> None:
    async with asyncio.timeout(60):
        while difference(await picture(page), before) < 2:  # type: ignore[arg-type]
            await asyncio.sleep(0.2)


async def test_who_watches_cannot_drive_and_hears_who_comes_and_goes(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        RemoteRenderingClient(await viewers_client(service, client, session)) as viewer,
    ):
        seen = await viewer.get_session(session.id)
        with pytest.raises(HandshakeError) as caught:
            async with seen.connect():
                pass
        assert caught.value.result is Result.WATCHING_ONLY
        async with seen.watch() as watching:
            assert (watching.role, watching.driven) == ("viewer", False)
            async with session.connect(width=320, height=180) as driver:
                model = await driver.load_model("builtin://Engine")
                driver.look_at_model()
                sharp = await driver.wait_for_still()
                await until_(lambda: watching.driven and watching.video.width == 320)
                await until_(lambda: watching._newest is not None and watching._newest.width == 320)
                await until_(lambda: difference(watching._newest.image, sharp.image) < 3)
                for attempt in (
                    watching.load_model("builtin://Engine"),
                    watching.unload_model(model),
                    watching.clear(),
                    watching.configure_scene(exposure=0.1),
                    watching.configure_video(width=640),
                ):
                    with pytest.raises(RequestError) as refused:
                        await attempt
                    assert refused.value.result is Result.WATCHING_ONLY
                with pytest.raises(RequestError):
                    watching.look_at((0.0, 0.0, 9.0), (0.0, 0.0, 0.0))
                assert (await watching.statistics()).server.models == 1
                # Nothing of that reached the scene.
                assert (await driver.statistics()).server.models == 1
                async with seen.watch() as late:
                    assert [known.model_id for known in late.models] == [model.model_id]
                    await until_(lambda: late._newest is not None)
            # The last picture stays.
            await until_(lambda: not watching.driven)
            assert watching.ended is None and watching._newest is not None
            async with session.connect(width=320, height=180) as driver:
                await until_(lambda: watching.driven)
                count = watching._frame_count
                await driver.load_model("builtin://Engine")
                driver.look_at_model()
                await until_(lambda: watching._frame_count > count)


async def test_only_so_many_may_watch(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(8):
            await stack.enter_async_context(session.watch())
        with pytest.raises(HandshakeError) as caught:
            async with session.watch():
                pass
        assert caught.value.result is Result.TOO_MANY_SPECTATORS
        async with session.connect(width=320, height=180) as driver:
            await driver.wait_for_still()


async def test_a_browser_comes_back_after_a_change_of_network(
    service: RunningService, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        chromium() as browser,
    ):
        link = (await client.create_viewer_link(session.id)).url
        async with page_of(browser, link) as (page, paths):
            await page.click("[data-testid=empty-load-sample]")
            await until(page, "() => window.farframeViewer.models.length === 1")
            await still(page)
            before = await picture(page)
            # Over in a moment: what happened is written down where it happens.
            await page.evaluate(
                """() => {
                    const toast = document.querySelector('[data-testid=interrupted]');
                    window.seen = {interrupted: 0, resumed: 0, shown: 0};
                    new MutationObserver(() => {
                        if (document.body.dataset.state === 'interrupted' && !toast.hidden) window.seen.interrupted++;
                    }).observe(document.body, {attributes: true, attributeFilter: ['data-state']});
                    const connection = window.farframeViewer.connection;
                    connection.on('resumed', () => {
                        window.seen.resumed++;
                        connection.once('frame').then(() => window.seen.shown++);
                    });
                }"""
            )
            costs = []
            for attempt in range(1, 4):
                paths.proxies[-1].cut = True
                began = time.monotonic()
                await page.evaluate("() => window.dispatchEvent(new Event('online'))")
                await until(page, "(attempt) => window.seen.shown === attempt", attempt)
                costs.append(time.monotonic() - began)
                seen = await page.evaluate("() => window.seen")
                assert seen == {"interrupted": attempt, "resumed": attempt, "shown": attempt}
                assert await page.evaluate("() => document.body.dataset.state") == "connected"
            assert [bool(headers.get("farframe-resume")) for headers in paths.handshakes] == [False, True, True, True]
            assert not any("resume" in url.lower() for url in paths.urls)
            assert await page.evaluate("() => window.farframeViewer.models.length") == 1
            models = "async () => (await window.farframeViewer.connection.serverStatistics()).models"
            assert await page.evaluate(models) == 1
            await still(page)
            assert difference(before, await picture(page)) < 4
            with capsys.disabled():
                shown = ", ".join(f"{cost:.2f} s" for cost in costs)
                print(f"\na change of network in Chromium, until the next picture: {shown}")
