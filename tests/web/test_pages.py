"""The pages in a real Chromium, against a small service that speaks the protocol and renders nothing.

What the real render server shows is tested end to end; here it is the pages: their policy, their secrets, what they
send, and what they say when something goes wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.chromium import CHROMIUM, FLAGS
from tests.web.fake_service import BUNDLE, TOKEN, FakeService

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Names in place of addresses are looked up by multicast, which test machines rarely have.
PAGE_FLAGS = [*FLAGS, "--disable-features=WebRtcHideLocalIpsWithMdns"]

PATIENCE_SECONDS = 60.0
"""What takes longer does not come. A busy machine may need much of it."""


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    assert BUNDLE.is_dir(), "the pages are not built: run `npm run build` in web/"
    async with FakeService() as fake:
        yield fake


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} does not exist; name one with FARFRAME_TEST_CHROMIUM")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=PAGE_FLAGS, timeout=PATIENCE_SECONDS * 1000
        )
        yield chromium
        await chromium.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page at desktop size. A violation of the content policy or an uncaught error fails the test."""
    page = await browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE_SECONDS * 1000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    yield page
    await page.close()
    assert problems == []


async def until(condition: Callable[[], Awaitable[object] | object], what: str) -> None:
    """Waits for a condition."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                value = condition()
                if await value if asyncio.iscoroutine(value) else value:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(what) from None


async def connect(page: Page, service: FakeService) -> None:
    # This service has no other way; one that was asked for is waited for, also on a busy machine.
    await page.goto(f"{service.url}/viewer/?way=webrtc#link=LINK")
    await page.wait_for_selector("body[data-state=connected]")


async def camera_rests(page: Page) -> bool:
    """Whether nothing moves the camera any more, and its pose was handed over: both happen in animation frames."""
    rests: bool = await page.evaluate(
        """async () => {
            const camera = JSON.stringify(farframeViewer.camera);
            for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
            return JSON.stringify(farframeViewer.camera) === camera;
        }"""
    )
    return rests


async def shown_frames(page: Page) -> int:
    frames: int = await page.evaluate("farframeViewer.connection.ledger.entries.length")
    return frames


async def test_a_link_is_redeemed_and_leaves_no_secret_in_the_page(page: Page, service: FakeService) -> None:
    await connect(page, service)
    assert "LINK" not in page.url
    assert "LINK" not in service.codes
    assert TOKEN not in await page.content()
    assert await page.evaluate("localStorage.length") == 0
    assert await page.evaluate("document.cookie") == ""
    assert TOKEN in await page.evaluate("sessionStorage.getItem('farframe.access')")


async def test_a_reload_comes_back_to_the_same_session(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.reload()
    await page.wait_for_selector("body[data-state=connected]")
    assert await page.evaluate("farframeViewer.sessionId") == "engine-review"


async def test_frames_are_shown_and_matched_with_their_records(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await until(lambda: shown_frames(page), "no frame was matched with its record")
    entry = await page.evaluate("farframeViewer.lastShown")
    assert entry["record"]["rtpTimestamp"] == entry["shown"]["rtpTimestamp"]
    size = await page.evaluate("[video.clientWidth, video.clientHeight]")
    device = service.device
    assert device is not None
    # The picture has the element's proportions, even, within what a server without a GPU draws fluently.
    await until(lambda: abs(device.size[0] / device.size[1] - size[0] / size[1]) < 0.02, "the size was not followed")
    assert device.size[0] % 2 == device.size[1] % 2 == 0


async def test_a_drag_sends_poses_and_rest_sends_none(page: Page, service: FakeService) -> None:
    await connect(page, service)
    device = service.device
    assert device is not None
    await until(lambda: device.poses >= 1, "no pose arrived")
    before = device.pose
    assert before is not None
    await page.mouse.move(640, 400)
    await page.mouse.down()
    await page.mouse.move(840, 430, steps=8)
    await page.mouse.up()
    await until(lambda: device.pose and device.pose.views[0].position != before.views[0].position, "no pose followed")
    # Once the turn has died out, the last pose is the camera's, and no other follows.
    await until(lambda: camera_rests(page), "the turn did not die out")
    last = await page.evaluate("farframeViewer.connection.poseId")
    await until(lambda: device.pose and device.pose.pose_id == last, "the last pose did not arrive")
    arrived = device.poses
    frames = await shown_frames(page)

    async def more() -> bool:
        return await shown_frames(page) > frames + 5

    await until(more, "no more frames")
    assert device.poses == arrived


async def test_the_keyboard_orbits_zooms_and_fits(page: Page, service: FakeService) -> None:
    await connect(page, service)
    start = await page.evaluate("farframeViewer.camera")
    await page.keyboard.press("ArrowRight")
    turned = await page.evaluate("farframeViewer.camera")
    assert turned["yaw"] > start["yaw"]
    await page.keyboard.press("+")
    zoomed = await page.evaluate("farframeViewer.camera")
    assert zoomed["distance"] < turned["distance"]
    await page.keyboard.press("f")
    await until(lambda: camera_rests(page), "the camera flies on and on")
    fitted = await page.evaluate("farframeViewer.camera")
    assert fitted["distance"] != pytest.approx(zoomed["distance"])
    assert fitted["yaw"] == pytest.approx(zoomed["yaw"])


async def test_fingers_orbit_pan_and_zoom(browser: Browser, service: FakeService) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_SECONDS * 1000)
    await connect(page, service)
    await page.wait_for_selector("[data-testid=empty-scene]")
    assert not await page.is_visible("[data-testid=panel]")
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    devtools = await context.new_cdp_session(page)

    async def touch(kind: str, *points: tuple[int, int]) -> None:
        fingers = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
        await devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    async def camera() -> dict[str, Any]:
        state: dict[str, Any] = await page.evaluate("farframeViewer.camera")
        return state

    async def turned() -> bool:
        return (await camera())["yaw"] < start["yaw"]

    async def halved() -> bool:
        return (await camera())["distance"] == pytest.approx(start["distance"] / 2, rel=0.05)

    async def panned() -> bool:
        return (await camera())["target"][1] > after["target"][1] + 0.1

    start = await camera()
    await touch("touchStart", (200, 200))
    await touch("touchMove", (260, 200))
    await until(turned, "one finger did not orbit")
    assert (await camera())["distance"] == start["distance"]
    await touch("touchEnd")
    await touch("touchStart", (150, 250), (250, 250))
    await touch("touchMove", (100, 250), (300, 250))
    await until(halved, "two fingers did not zoom")
    after = await camera()
    await touch("touchMove", (100, 350), (300, 350))
    await until(panned, "two fingers did not pan")
    await touch("touchEnd")
    await context.close()


async def test_the_sample_loads_with_progress_and_is_framed(page: Page, service: FakeService) -> None:
    service.may_load.clear()
    await connect(page, service)
    await page.click("[data-testid=empty-load-sample]")
    stage = page.get_by_test_id("activity-stage")
    await stage.get_by_text("Preparing levels of detail, 70 %").wait_for()
    assert not await page.is_visible("[data-testid=empty-scene]")
    service.may_load.set()
    await page.get_by_role("treeitem", name="Engine").wait_for()
    assert await page.evaluate("farframeViewer.models.map(model => model.uri)") == ["builtin://Engine"]
    assert (await page.evaluate("farframeViewer.camera"))["target"] == [0, 0.4, 0]
    await page.get_by_role("tab", name="Models").click()
    await page.click("[aria-label='Remove Engine']")
    await page.wait_for_selector("[data-testid=empty-scene]")
    assert service.device is not None
    assert service.device.models == {}


async def test_fifty_thousand_parts_scroll_and_are_searched(page: Page, service: FakeService) -> None:
    service.parts = 50_000
    await connect(page, service)
    await page.click("[data-testid=empty-load-sample]")
    tree = page.get_by_role("tree")
    await tree.get_by_role("treeitem", name="Part 1", exact=True).wait_for()
    rows = page.get_by_role("treeitem")
    assert await rows.count() < 100, "only what is in sight is on the page"
    await tree.focus()
    await page.keyboard.press("End")
    last = tree.get_by_role("treeitem", name="Part 50000", exact=True)
    await last.wait_for()
    assert await last.get_attribute("aria-posinset") == await last.get_attribute("aria-setsize") == "50000"
    assert await last.get_attribute("aria-selected") == "true"
    assert await rows.count() < 100
    await page.fill("[data-testid=tree-search]", "part 4321")
    await page.get_by_test_id("tree-count").get_by_text("15 found").wait_for()
    names = await rows.evaluate_all("rows => rows.map(row => row.getAttribute('aria-label'))")
    assert names[:4] == ["Engine", "Part 4321", "Part 14321", "Part 24321"]
    await page.fill("[data-testid=tree-search]", "")
    await tree.get_by_role("treeitem", name="Part 1", exact=True).wait_for()


async def test_what_the_file_says_about_a_part_is_shown_as_text(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.click("[data-testid=empty-load-sample]")
    await page.get_by_role("treeitem", name="Engine").click()
    await page.get_by_role("tab", name="Properties").click()
    facts = page.get_by_test_id("metadata")
    await facts.get_by_text("A-17").wait_for()
    assert "<b>weight</b>" in await facts.inner_text()
    assert "1000 mm × 800.0 mm × 800.0 mm" in await facts.inner_text()


async def test_a_load_can_be_cancelled(page: Page, service: FakeService) -> None:
    service.may_load.clear()
    await connect(page, service)
    await page.click("[data-testid=load-sample]")
    await page.get_by_test_id("activity-stage").get_by_text("Preparing").wait_for()
    await page.get_by_role("button", name="Cancel").click()
    device = service.device
    assert device is not None
    await until(lambda: any(method == "$/cancelRequest" for method, _ in device.requests), "nothing was cancelled")
    service.may_load.set()


async def test_files_are_uploaded_side_by_side_and_the_model_is_loaded(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.set_input_files(
        "[data-testid=file-input]",
        [
            {"name": "Duck0.bin", "mimeType": "application/octet-stream", "buffer": b"b" * 200_000},
            {"name": "Duck.gltf", "mimeType": "model/gltf+json", "buffer": b"{}"},
        ],
    )
    await page.wait_for_selector("[data-testid=model]", state="attached")
    folders = {uri.rsplit("/", 1)[0] for uri in service.uploads}
    assert len(folders) == 1
    assert sorted(service.uploads.values()) == [2, 200_000]
    assert service.device is not None
    assert list(service.device.models.values()) == [f"{folders.pop()}/Duck.gltf"]


async def test_a_failed_load_says_why_and_the_rest_goes_on(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.fill("[data-testid=uri]", "https://example.net/missing.glb")
    await page.click("[data-testid=load]")
    await page.wait_for_selector("[data-testid=activity][data-result=FileNotFound]")
    assert "There is no file at that address. Check it." in await page.inner_text("[data-testid=activities]")
    await page.set_input_files(
        "[data-testid=file-input]", [{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"x"}]
    )
    await page.wait_for_selector("[data-testid=activity][data-result=NotSupported]")
    assert await page.evaluate("farframeViewer.state") == "connected"


@pytest.mark.parametrize("reason", ["SessionStopped", "SessionExpired"])
async def test_the_end_of_a_session_is_told(page: Page, service: FakeService, reason: str) -> None:
    await connect(page, service)
    service.end_session(reason, "That was all.")
    await page.wait_for_selector(f"[data-testid=error][data-result={reason}]")
    assert "That was all." in await page.inner_text("[data-testid=error]")
    assert await page.evaluate("farframeViewer.connection.state") == "closed"


async def test_a_second_device_is_told_and_may_try_again(page: Page, service: FakeService) -> None:
    service.whep_error = (409, "OtherSessionConnected", "Another device is connected to this session.")
    await page.goto(f"{service.url}/viewer/#link=LINK")
    await page.wait_for_selector("[data-testid=error][data-result=OtherSessionConnected]")
    service.whep_error = None
    await page.click("[data-testid=reconnect]")
    await page.wait_for_selector("body[data-state=connected]")


async def test_after_a_lost_connection_the_models_come_back(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.click("[data-testid=load-sample]")
    await page.wait_for_selector("[data-testid=model]", state="attached")
    camera = await page.evaluate("farframeViewer.camera")
    lost = service.device
    assert lost is not None
    await lost.peer.close()
    await page.wait_for_selector("[data-testid=error][data-result=ConnectionLost]")
    await page.click("[data-testid=reconnect]")
    # The list shows the model all the time: what counts is that the new connection loads it.

    def reloaded() -> bool:
        device = service.device
        return device not in (None, lost) and list(device.models.values()) == ["builtin://Engine"]

    await until(reloaded, "the model did not come back")
    assert await page.evaluate("farframeViewer.camera") == camera


@pytest.mark.parametrize(
    ("code", "title"), [("", "A link opens this page"), ("#link=USED", "This link is not valid any more")]
)
async def test_without_a_good_link_the_next_step_is_named(
    page: Page, service: FakeService, code: str, title: str
) -> None:
    await page.goto(f"{service.url}/viewer/{code}")
    await page.wait_for_selector("[data-testid=error][data-result=AuthenticationFailed]")
    told = await page.inner_text("[data-testid=error]")
    assert title in told
    assert "farframe view" in told


async def test_an_expired_token_is_told_and_forgotten(page: Page, service: FakeService) -> None:
    service.token_valid = False
    await page.goto(f"{service.url}/viewer/#link=LINK")
    await page.wait_for_selector("[data-testid=error][data-result=AuthenticationFailed]")
    assert "farframe view" in await page.inner_text("[data-testid=error]")
    assert await page.evaluate("sessionStorage.length") == 0


async def test_another_protocol_version_is_refused(page: Page, service: FakeService) -> None:
    service.protocol = 2
    await page.goto(f"{service.url}/viewer/#link=LINK")
    await page.wait_for_selector("[data-testid=error][data-result=ProtocolVersionMismatch]")
    await asyncio.wait_for(service.deleted.wait(), PATIENCE_SECONDS)


async def test_leaving_the_page_frees_the_session(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.goto("about:blank")
    await asyncio.wait_for(service.deleted.wait(), PATIENCE_SECONDS)


async def test_leaving_the_session_frees_it_and_offers_to_come_back(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.click("[data-testid=leave]")
    await page.wait_for_selector("[data-testid=error][data-result=DisconnectRequest]")
    await asyncio.wait_for(service.deleted.wait(), PATIENCE_SECONDS)
    await page.click("[data-testid=reconnect]")
    await page.wait_for_selector("body[data-state=connected]")


async def test_a_new_session_is_started_from_the_viewer(page: Page, service: FakeService) -> None:
    service.may_start.clear()
    await page.goto(f"{service.url}/viewer/#link=CONSOLE")
    await page.wait_for_selector("[data-testid=open-session]")
    await page.select_option("[data-testid=new-size]", "Premium")
    await page.fill("[data-testid=new-lease]", "5")
    await page.click("[data-testid=new-session]")
    await page.wait_for_selector("body[data-state=starting]")
    service.may_start.set()
    await page.wait_for_selector("body[data-state=connected]")
    created = list(service.sessions.values())[-1]
    assert (created["size"], created["maxLeaseTimeMinutes"]) == ("Premium", 5)


async def test_the_lease_is_extended_from_the_viewer(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.get_by_test_id("lease").get_by_text("27 min left").wait_for()
    await page.click("[data-testid=extend]")
    await page.get_by_test_id("lease").get_by_text("37 min left").wait_for()
    assert service.sessions["engine-review"]["maxLeaseTimeMinutes"] == 40


async def test_statistics_show_the_stages(page: Page, service: FakeService) -> None:
    await connect(page, service)
    await page.click("[data-testid=statistics-toggle]")
    await page.get_by_test_id("stage-readBack").get_by_text("0.9").wait_for()
    text = await page.inner_text("[data-testid=statistics]")
    assert "x264 superfast" in text
    await page.get_by_test_id("late-draw").get_by_text("8.5").wait_for()
    assert await page.inner_text("[data-testid=encoder-reason]") == "h264_nvenc: no device\nh264_amf: no driver"
    assert "llvmpipe" in text


async def test_the_console_lists_starts_extends_and_stops(page: Page, service: FakeService) -> None:
    service.uploads["upload://1/Duck.glb"] = 1234
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(f"{service.url}/#link=CONSOLE")
    row = page.locator("[data-session=engine-review]")
    await row.get_by_text("27 of 30 min left").wait_for()
    await page.get_by_test_id("uploads").get_by_text("upload://1/Duck.glb").wait_for()
    await row.get_by_test_id("extend").click()
    await row.get_by_text("42 of 45 min left").wait_for()
    await page.click("button[data-testid=new-session]")
    await page.locator("[data-testid=session]").nth(1).wait_for()
    await row.get_by_test_id("stop").click()
    await page.wait_for_selector("[data-session=engine-review][data-status=Stopped]")
    assert service.sessions["engine-review"]["status"] == "Stopped"


async def test_the_console_leads_to_the_viewer_in_the_same_tab(page: Page, service: FakeService) -> None:
    await page.goto(f"{service.url}/#link=CONSOLE")
    await page.click("[data-session=engine-review] [data-testid=open-viewer]")
    await page.wait_for_selector("body[data-state=connected]")


async def test_the_inspector_shows_frames_and_filters_the_log(page: Page, service: FakeService) -> None:
    names = ("drawStart", "drawEnd", "readBack", "encodeStart", "encodeEnd", "sent", "serverTime")
    times = {f"{name}Microseconds": 1000 * (index + 1) for index, name in enumerate(names)}
    service.ledger = [
        {"frameId": 41 + index, "poseId": 7, "encodedBytes": 9000, "samples": 4, "triangles": 12, **times}
        for index in range(2)
    ]
    came = {
        f"{name}Microseconds": 6_000 + at for name, at in (("received", 5_000), ("decoded", 8_250), ("shown", 9_000))
    }
    service.ledger += [{"frameId": 41, "missing": True}, {"frameId": 42, "missing": False, **came}]
    service.log = [
        {"timestamp": "2024-05-01T08:00:00Z", "level": "info", "event": "device.connected"},
        {"timestamp": "2024-05-01T08:00:01Z", "level": "error", "event": "model.failed", "uri": "<img src=x>"},
    ]
    await page.goto(f"{service.url}/inspector/#token={TOKEN}")
    await page.locator("[data-testid=frame]").nth(1).wait_for()
    newest, before = page.locator("[data-testid=frame]").first, page.locator("[data-testid=frame]").nth(1)
    await before.get_by_text("never arrived").wait_for()
    assert "42" in await newest.inner_text()
    # How long the device took to decode it: a line of its own, which may come later.
    await newest.get_by_text("3.3", exact=True).wait_for()
    lines = page.locator("[data-testid=log-line]")
    await lines.nth(1).wait_for()
    assert "uri=<img src=x>" in await lines.nth(1).inner_text()
    await page.select_option("[data-testid=level]", "error")

    async def one_line() -> bool:
        return await lines.count() == 1

    await until(one_line, "the log is not filtered")
    assert TOKEN not in page.url
    assert await page.evaluate("document.querySelector('#graph canvas').width") > 0


async def test_the_inspector_without_a_token_says_where_to_get_one(page: Page, service: FakeService) -> None:
    await page.goto(f"{service.url}/inspector/")
    await page.get_by_test_id("error").get_by_text("Open the inspector from the console again").wait_for()
