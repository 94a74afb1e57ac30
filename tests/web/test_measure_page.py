"""The page that measures the way to regions, in Chromium, against two real services and others that are none."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Page, Request, async_playwright

from farframe.auth.certificates import CertificateFiles, ensure_certificates, server_ssl_context
from tests.chromium import CHROMIUM, FLAGS
from tests.faults.harness import Replica
from tests.web.fake_service import BUNDLE

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def fingerprint(certificate: Path) -> str:
    """What Chromium is told to trust: this key and no other."""
    key = x509.load_pem_x509_certificates(certificate.read_bytes())[0].public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return base64.b64encode(digest).decode("ascii")


async def other_server(stack: AsyncExitStack, files: CertificateFiles, status: int, **headers: str) -> str:
    """An https server that answers everything alike, and is no Farframe service."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_ssl_context(files)).start()
    return f"https://localhost:{runner.addresses[0][1]}"


@dataclass
class Places:
    """Where the page is, what Chromium trusts, and the regions' URLs."""

    http_url: str
    trusted: list[str]
    urls: dict[str, str]


@pytest.fixture
async def places(tmp_path: Path) -> AsyncIterator[Places]:
    assert BUNDLE.is_dir(), "the pages are not built: run `npm run build` in web/"
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} does not exist; name one with FARFRAME_TEST_CHROMIUM")
    known, unknown = (ensure_certificates(tmp_path / name, ["localhost"]) for name in ("known", "unknown"))
    async with AsyncExitStack() as stack:
        south = Replica(tmp_path / "south", FARFRAME_REGION="south", FARFRAME_WARM_SERVERS="0")
        stack.callback(south.clean_up)
        await south.start()
        stack.push_async_callback(south.terminate)
        urls = {
            "south": south.connection["endpoint"],
            "behind-a-proxy": await other_server(stack, known, 204),
            "elsewhere": await other_server(stack, known, 404, access_control_allow_origin="*"),
            "stranger": await other_server(stack, unknown, 204, access_control_allow_origin="*"),
            "gone": "https://localhost:1",
        }
        north = Replica(
            tmp_path / "north",
            FARFRAME_REGION="north",
            FARFRAME_WARM_SERVERS="0",
            FARFRAME_REGIONS=",".join(f"{name}={url}" for name, url in urls.items()),
            FARFRAME_REGION_CA_FILES=f"stranger={unknown.ca}",
        )
        stack.callback(north.clean_up)
        await north.start()
        stack.push_async_callback(north.terminate)
        trusted = [fingerprint(south.folder / "certificates" / "server.pem"), fingerprint(known.certificate)]
        yield Places(north.connection["httpUrl"], trusted, urls)


@pytest.fixture
async def page(places: Places) -> AsyncIterator[Page]:
    """A violation of the content policy or an uncaught error fails the test."""
    flags = [*FLAGS, f"--ignore-certificate-errors-spki-list={','.join(places.trusted)}"]
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=60_000)
        page = await chromium.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(60_000)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if "Content Security" in line.text else None)
        yield page
        await chromium.close()
        assert problems == []


async def measured(page: Page) -> dict[str, tuple[str, str]]:
    """State and text of each region when all is done."""
    await page.wait_for_selector("[data-testid=again]:not([disabled])", timeout=60_000)
    result = {}
    for row in await page.query_selector_all("[data-testid=region]"):
        name = await row.get_attribute("data-region")
        result[name or ""] = (await row.get_attribute("data-state") or "", " ".join((await row.inner_text()).split()))
    return result


async def test_every_region_is_measured_and_the_best_is_named(page: Page, places: Places) -> None:
    asked: list[Request] = []
    page.on("request", lambda request: asked.extend((request,)))
    await page.goto(f"{places.http_url}/measure/")
    rows = await measured(page)
    assert set(list(rows)[:2]) == {"north", "south"}
    assert list(rows)[2:] == ["behind-a-proxy", "elsewhere", "gone", "stranger"]
    for name in ("north", "south"):
        state, text = rows[name]
        assert state == "measured"
        assert " ms round trip" in text
        assert "bit/s throughput" in text
    best = [name for name, (_, text) in rows.items() if "Best from here" in text]
    assert len(best) == 1
    assert best[0] == next(iter(rows))
    assert (await page.inner_text("[data-testid=verdict]")).startswith(f"{best[0]} has the shortest round trip")
    assert f"farframe session create --region {best[0]}" in await page.inner_text("[data-testid=advice]")
    # What is not known is not told: neither a closed port nor an unknown authority shows to pages.
    assert rows["gone"][0] == rows["stranger"][0] == "unreachable"
    assert "It is down, or this browser does not trust its certificate." in rows["gone"][1]
    assert "whose authority is its own" in rows["stranger"][1]
    link = await page.get_attribute("[data-region=stranger] a", "href")
    assert link == f"{places.urls['stranger']}/health/live"
    assert rows["behind-a-proxy"][0] == "refused"
    assert "not to this page" in rows["behind-a-proxy"][1]
    assert rows["elsewhere"] == (
        "failed",
        "elsewhere "
        + places.urls["elsewhere"].removeprefix("https://")
        + " Answered with status 404 Something is there, but not a Farframe service, or not one that is well.",
    )
    # Nothing was sent along that says who asks.
    for request in asked:
        headers = await request.all_headers()
        assert not any(headers.get(name) for name in ("authorization", "cookie", "referer"))


async def test_it_can_be_measured_again_and_is_reached_from_the_console(page: Page, places: Places) -> None:
    await page.goto(places.http_url)
    await page.click("[data-testid=regions-link]")
    first = await measured(page)
    await page.click("[data-testid=again]")
    assert (await measured(page)).keys() == first.keys()
    await page.click("a[aria-label='Farframe console']")
    await page.wait_for_selector("[data-testid=regions-link]")


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_is_cut_off(page: Page, places: Places, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await page.goto(f"{places.http_url}/measure/")
    await measured(page)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    wide = await page.evaluate(
        "[...document.querySelectorAll('.value, .label, .trouble')]"
        ".filter((element) => element.scrollWidth > element.clientWidth + 1).length"
    )
    assert wide == 0


async def test_a_service_without_neighbours_says_so(page: Page, tmp_path: Path) -> None:
    alone = Replica(tmp_path / "alone", FARFRAME_REGION="alone", FARFRAME_WARM_SERVERS="0")
    try:
        await alone.start()
        await page.goto(f"{alone.connection['httpUrl']}/measure/")
        assert list(await measured(page)) == ["alone"]
        assert "knows of no other region" in await page.inner_text("[data-testid=verdict]")
        await alone.terminate()
        await page.click("[data-testid=again]")
        await page.wait_for_selector("[data-testid=error]:not([hidden])")
        assert "did not tell its regions" in await page.inner_text("[data-testid=error]")
    finally:
        alone.clean_up()
