"""The viewer, the console and the inspector in a real headless Chromium, against real render servers."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

from farframe.client import RemoteRenderingClient, Session
from tests.chromium import CHROMIUM, FLAGS
from tests.end_to_end.harness import RunningService, difference, spread

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PATIENCE_MS = 60_000


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def viewer(service: RunningService, client: RemoteRenderingClient, session: Session) -> AsyncIterator[Page]:
    """The viewer of a session, connected. Errors that the page logs fail the test."""
    link = await client.create_viewer_link(session.id)
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 960, "height": 600}, ignore_https_errors=False)
        page.set_default_timeout(PATIENCE_MS)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(link.url)
        await page.wait_for_selector("body[data-state=connected]")
        assert "link=" not in page.url
        yield page
        assert not problems


async def picture(page: Page) -> NDArray[np.uint8]:
    """The video element's own pixels, (height, width, 3)."""
    data = await page.evaluate(
        """() => {
            const video = document.querySelector('[data-testid=video]');
            const canvas = document.createElement('canvas');
            canvas.width = video.videoWidth;
            canvas.height = video.videoHeight;
            const context = canvas.getContext('2d');
            context.drawImage(video, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
            let text = '';
            for (let i = 0; i < pixels.length; i += 4)
                text += String.fromCharCode(pixels[i], pixels[i + 1], pixels[i + 2]);
            return {width: canvas.width, height: canvas.height, text: btoa(text)};
        }"""
    )
    import base64

    pixels = np.frombuffer(base64.b64decode(data["text"]), np.uint8)
    return pixels.reshape(data["height"], data["width"], 3)


async def until(page: Page, expression: str, argument: Any = None, seconds: float = 60.0) -> Any:
    """Until a JavaScript expression is true; the page's policy allows no evaluated strings inside it."""
    async with asyncio.timeout(seconds):
        while not (value := await page.evaluate(expression, argument)):
            await asyncio.sleep(0.05)
    return value


async def still(page: Page) -> None:
    """Until the camera rests and the full-quality picture of all that was asked for is on the screen, in its size.

    What moves the camera or changes the stage may do so at the next animation frame. What the page has yet to hear
    before it moves the camera, a test waits for by itself.
    """
    await until(
        page,
        """async () => {
            const connection = window.farframeViewer.connection;
            const camera = JSON.stringify(window.farframeViewer.camera);
            for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
            const { record } = await connection.waitForStill({ timeoutMilliseconds: 60000 });
            const { width, height } = connection.video;
            return JSON.stringify(window.farframeViewer.camera) === camera
                && record.width === width && record.height === height;
        }""",
    )


async def test_the_viewer_shows_the_engine_and_follows_a_drag(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        viewer(service, client, session) as page,
    ):
        await page.click("[data-testid=empty-load-sample]")
        await until(page, "() => window.farframeViewer.models.length === 1")
        await still(page)
        before = await picture(page)
        assert spread(before) > 10
        box = await page.locator("[data-testid=video]").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        last = first = await page.evaluate("() => window.farframeViewer.lastFrame.frameId")
        await page.mouse.move(x, y)
        await page.mouse.down()
        step = 0
        async with asyncio.timeout(60):  # frames keep coming while dragging, at whatever rate the machine has left
            while step < 20 or last - first < 5:
                step += 1
                await page.mouse.move(x + min(step, 20) * 12 + step % 2, y + step % 20)
                last = await page.evaluate("() => window.farframeViewer.lastFrame.frameId")
        await page.mouse.up()
        await still(page)
        after = await picture(page)
        assert difference(before, after) > 5
        await until(page, "(last) => window.farframeViewer.lastFrame.frameId > last", last)
        wanted, stages, statistics = {"input", "draw", "encode", "network", "show", "total"}, {}, {}

        def told() -> bool:
            """Whether frames were reported as seen, and as seen later than they take to draw.

            They are those of the last seconds, and reports come a little later: till then some have been drawn only.
            """
            if not wanted <= set(stages) or statistics["framesArrived"] <= 5:
                return False
            return bool(stages["total"]["p50"] >= stages["draw"]["p50"] > 0)

        async with asyncio.timeout(60):
            while not told():
                await page.mouse.down()
                await page.mouse.move(x, y + len(stages), steps=10)
                await page.mouse.up()
                await asyncio.sleep(0.3)
                statistics = await page.evaluate("() => window.farframeViewer.connection.serverStatistics()")
                stages = statistics.get("stages", {})
        assert "h264_nvenc" in statistics["encoderReason"] or statistics["encoder"].startswith("h264_")
        await page.click("[data-testid=statistics-toggle]")
        await page.wait_for_selector("[data-testid=statistics]:not([hidden]) [data-testid=fps]")
        assert "x264" in await page.inner_text("[data-testid=statistics]")
        shot = os.environ.get("FARFRAME_SCREENSHOTS")
        if shot:
            Path(shot).mkdir(parents=True, exist_ok=True)
            await page.screenshot(path=Path(shot) / "viewer.png")


async def test_a_dropped_file_is_uploaded_and_shown(service: RunningService, models_folder: Path) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        viewer(service, client, session) as page,
    ):
        await page.set_input_files("[data-testid=file-input]", models_folder / "Duck.glb")
        await until(page, "() => window.farframeViewer.models.length === 1")
        await still(page)
        assert spread(await picture(page)) > 10
        await page.click("[data-testid=tab-models]")  # the parts of what was loaded are shown by now
        await page.fill("[data-testid=uri]", "file:///etc/passwd")
        await page.click("[data-testid=load]")
        failed = page.locator("[data-testid=activity][data-result]")
        await failed.wait_for()
        assert await failed.get_attribute("data-result") == "InvalidUri"
        assert await page.evaluate("() => window.farframeViewer.models.length") == 1


async def test_the_viewer_says_why_it_ended(service: RunningService) -> None:
    async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
        session = await client.create_session()
        await session.wait_until_ready()
        async with viewer(service, client, session) as page:
            await session.stop()
            told = await page.wait_for_selector("[data-testid=error][data-result=SessionStopped]")
            assert told is not None
            # The link was for this session alone: the page cannot lead to another one, so it says what does.
            assert "farframe view" in await told.inner_text()


async def test_a_second_viewer_is_told_about_the_first(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180),
    ):
        link = await client.create_viewer_link(session.id)
        async with chromium() as browser:
            page = await browser.new_page()
            page.set_default_timeout(PATIENCE_MS)
            await page.goto(link.url)
            await page.wait_for_selector("[data-testid=error][data-result=OtherSessionConnected]")
            # The link works once.
            again = await browser.new_page()
            again.set_default_timeout(PATIENCE_MS)
            await again.goto(link.url)
            await again.wait_for_selector("[data-testid=error]")


async def test_the_inspector_shows_frames_and_log(service: RunningService) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        session.connect(width=320, height=180) as connection,
        chromium() as browser,
    ):
        await connection.wait_for_still()
        token = await client._http.token()
        # The certificate authority is ours; this browser does not know it.
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        properties = session.properties
        await page.goto(f"https://{properties.hostname}:{properties.inspector_port}/#token={token}")
        await page.wait_for_selector("[data-testid=frame]")
        await page.wait_for_selector("[data-testid=log-line]")
        assert "token" not in page.url
        shot = Image.open(io.BytesIO(await page.screenshot())).convert("RGB").resize((64, 64))
        assert len(np.unique(np.asarray(shot).reshape(-1, 3), axis=0)) > 8
