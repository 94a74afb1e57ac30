"""``<farframe-viewer>`` in somebody else's page: another origin, the packed package, a real session, real video."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.async_api import Page

from farframe.client import RemoteRenderingClient, Session
from tests.end_to_end.harness import RunningService, difference, spread, start_service
from tests.end_to_end.test_browser import PATIENCE_MS, chromium, until
from tests.web.package import install_package

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>Somebody's page</title>
    <link rel="icon" href="data:," />
    <meta http-equiv="Content-Security-Policy"
      content="default-src 'self'; connect-src *; require-trusted-types-for 'script'" />
  </head>
  <body><h1>Our engine</h1><div id="place"></div><script type="module" src="/main.ts"></script></body>
</html>
"""
SCRIPT = """
import "@farframe/client/element";
import { type FarframeViewerElement } from "@farframe/client/element";

interface Handed {
  endpoint: string;
  account: string;
  session: string;
  tokens: string[];
  way?: "websocket";
  watch?: boolean;
}
declare global {
  interface Window { show(handed: Handed): void; viewer: FarframeViewerElement; told: string[]; asked: unknown[] }
}

window.told = [];
window.asked = [];
window.show = ({ endpoint, account, session, tokens, way, watch }) => {
  const viewer = document.createElement("farframe-viewer");
  window.viewer = viewer;
  for (const name of ["connected", "disconnected", "error", "statechange"] as const) {
    viewer.addEventListener(name, (event) => {
      const { detail } = event as CustomEvent;
      window.told.push(name + ":" + (typeof detail === "string" ? detail : (detail.reason ?? detail.result ?? "")));
    });
  }
  viewer.tokenProvider = async ({ refused }) => {
    window.asked.push(refused ?? null);
    return tokens.length > 1 ? (tokens.shift() as string) : (tokens[0] as string);
  };
  viewer.endpoint = endpoint;
  viewer.account = account;
  viewer.session = session;
  viewer.label = "The engine";
  if (watch) viewer.watch = true;
  else viewer.model = "builtin://Engine";
  viewer.autoresize = true;
  if (way) viewer.way = way;
  viewer.style.width = "640px";
  viewer.style.height = "400px";
  document.getElementById("place")?.append(viewer);
};
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A web server with the page, on a port of its own; yields the port."""
    package = install_package(tmp_path_factory.mktemp("embedding"))
    package.check_types("page.ts", SCRIPT + "export {};\n", "bundler")
    folder: Path = package.bundle(PAGE, SCRIPT + "export {};\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory, site: int) -> Iterator[RunningService]:
    """A service whose operator lets pages of one other origin in."""
    running = start_service(
        tmp_path_factory.mktemp("open") / "data",
        "--servers",
        "standard=1",
        settings={"FARFRAME_CORS_ORIGINS": f"http://localhost:{site}"},
    )
    yield running
    running.stop()


@asynccontextmanager
async def embedded(
    service: RunningService,
    client: RemoteRenderingClient,
    session: Session,
    origin: str,
    *,
    script: str = "",
    **more: Any,
) -> AsyncIterator[Page]:
    """The page, showing the session; ``script`` runs before it. Errors that the page logs fail the test."""
    link = urlsplit((await client.create_viewer_link(session.id)).url)
    token = await client._http.token()
    async with chromium() as browser:
        # No turn goes on after a drag: where the camera comes to rest would depend on how fast this machine is.
        page = await browser.new_page(viewport={"width": 800, "height": 600}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE_MS)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda text: problems.append(text.text) if "Content Security" in text.text else None)
        await page.add_init_script(script)
        await page.goto(origin)
        await until(page, "() => typeof window.show === 'function'")
        await page.evaluate(
            "(handed) => window.show(handed)",
            {
                "endpoint": f"{link.scheme}://{link.netloc}",
                "account": service.connection["accountId"],
                "session": session.id,
                "tokens": ["no-token-at-all", token],
                **more,
            },
        )
        yield page
        assert not problems


async def screenshot(page: Page) -> NDArray[np.uint8]:
    """What the element's own method makes, (height, width, 3)."""
    text = await page.evaluate(
        """async () => {
            const blob = await window.viewer.screenshot({ patienceMilliseconds: 60000 });
            const bytes = new Uint8Array(await blob.arrayBuffer());
            let text = '';
            for (const byte of bytes) text += String.fromCharCode(byte);
            return btoa(text);
        }"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


@pytest.mark.parametrize("way", ["auto", "websocket"])
async def test_a_page_of_an_allowed_origin_shows_a_session(open_service: RunningService, site: int, way: str) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(open_service.connection_path) as client,
        client.leased() as session,
        embedded(open_service, client, session, f"http://localhost:{site}/", way=way) as page,
    ):
        await until(page, "() => window.told.includes('connected:')")
        assert await page.evaluate("() => window.viewer.state") == "connected"
        # The first token was refused, and the page asked for another.
        assert await page.evaluate("() => window.asked") == [None, "no-token-at-all"]
        wanted = "websocket" if way == "websocket" else "webrtc"
        assert await page.evaluate("() => window.viewer.connection.way.kind") == wanted
        await until(page, "() => [...window.viewer.scene].some((entity) => entity.hasMesh)")
        await until(page, "() => window.viewer.shadowRoot.querySelector('[part=status]').hidden")
        before = await screenshot(page)
        assert before.shape == (400, 640, 3)
        assert spread(before) > 10

        view = page.get_by_role("application", name="The engine")
        await view.focus()
        for _ in range(6):
            await page.keyboard.press("ArrowRight")
        # Who uses the keyboard sees where the focus is, over the picture.
        seen = np.asarray(Image.open(io.BytesIO(await view.screenshot())).convert("RGB")).astype(int)
        assert np.abs(seen[200, 1] - (138, 180, 255)).max() < 8
        assert np.abs(seen[1, 320] - (138, 180, 255)).max() < 8
        turned = await screenshot(page)
        assert difference(before, turned) > 3
        box = await view.bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + 320, box["y"] + 200)
        await page.mouse.down()
        await page.mouse.move(box["x"] + 420, box["y"] + 220, steps=8)
        await page.mouse.up()
        dragged = await screenshot(page)
        assert difference(turned, dragged) > 3
        hit = await page.evaluate(
            """async ([x, y]) => {
                const { hits } = await window.viewer.pick({ clientX: x, clientY: y });
                hits[0]?.entity.override({ tint: [1, 0, 0, 1] });
                return hits.length;
            }""",
            [box["x"] + 320, box["y"] + 200],
        )
        assert hit == 1
        tinted = await screenshot(page)

        def red(image: NDArray[np.uint8]) -> float:
            middle = image[190:210, 310:330].astype(int)
            return float((middle[..., 0] - middle[..., 1] > 120).mean())

        assert red(tinted) > red(dragged) + 0.4

        # A page that comes back over WebRTC names its secret in a header: the browser has to be told that it may.
        status = await page.evaluate(
            """async () => {
                const { endpoint, account, session } = window.viewer;
                const headers = { Authorization: 'Bearer nonsense', 'Farframe-Resume': 'nonsense' };
                const url = `${endpoint}/accounts/${account}/sessions/${session}/whep`;
                return (await fetch(url, { method: 'DELETE', headers })).status;
            }"""
        )
        assert status == 401

        # Taken out of the page it leaves, and the session is free for the next device.
        await page.evaluate("() => window.viewer.remove()")
        await until(page, "() => window.told.includes('disconnected:DisconnectRequest')")
        async with session.connect(width=320, height=180) as connection:
            await connection.wait_for_still()


async def test_a_page_of_any_other_origin_gets_nothing(open_service: RunningService, site: int) -> None:
    async with (
        RemoteRenderingClient.from_connection_file(open_service.connection_path) as client,
        client.leased() as session,
        embedded(open_service, client, session, f"http://127.0.0.1:{site}/") as page,
    ):
        await until(page, "() => window.told.includes('disconnected:ConnectionLost')")
        assert await page.evaluate("() => window.viewer.connection") is None
        alert = page.get_by_role("alert")
        assert "could not be reached" in await alert.inner_text()
        assert await page.get_by_role("button", name="Connect again").is_visible()


KEEP_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    window.sockets.push(this);
  }
};
"""
"""The page's WebSockets can be cut."""


async def test_a_page_comes_back_over_a_websocket_and_another_watches(open_service: RunningService, site: int) -> None:
    origin = f"http://localhost:{site}/"
    async with (
        RemoteRenderingClient.from_connection_file(open_service.connection_path) as client,
        client.leased() as session,
        embedded(open_service, client, session, origin, way="websocket", script=KEEP_SOCKETS) as page,
    ):
        await until(page, "() => window.viewer.scene && [...window.viewer.scene].some((entity) => entity.hasMesh)")
        await until(page, "() => window.viewer.shadowRoot.querySelector('[part=status]').hidden")
        await page.evaluate("() => window.viewer.scene.roots[0].override({ tint: [0, 0, 1, 0.8] })")
        before = await screenshot(page)
        async with embedded(
            open_service, client, session, origin, way="websocket", watch=True, script=KEEP_SOCKETS
        ) as watching:
            await until(watching, "() => window.told.includes('connected:')")
            assert await watching.evaluate("() => window.viewer.connection.watching")
            seen = await screenshot(watching)
            assert seen.shape == before.shape
            assert difference(before, seen) < 3
            for attempt in (1, 2):
                # Any code but those of leaving is a loss.
                await page.evaluate("() => window.sockets.at(-1).close(4999)")
                await until(
                    page,
                    "(count) => window.told.filter((each) => each.endsWith('interrupted')).length === count",
                    attempt,
                )
                await until(page, "() => window.viewer.state === 'connected'")
                # What is set goes over the new line, and shows.
                await page.evaluate("(hidden) => window.viewer.scene.roots[0].override({ hidden })", attempt == 1)
                after = await screenshot(page)
                assert (difference(before, after) > 3) == (attempt == 1)
            assert await page.evaluate("() => window.sockets.length") == 3
            await until(watching, "() => window.viewer.state === 'connected'")
            assert difference(before, await screenshot(watching)) < 3
            await watching.evaluate("() => window.sockets.at(-1).close(4999)")
            await until(watching, "() => window.told.filter((each) => each.endsWith('interrupted')).length === 1")
            await until(watching, "() => window.viewer.state === 'connected'")
            assert difference(before, await screenshot(watching)) < 3
