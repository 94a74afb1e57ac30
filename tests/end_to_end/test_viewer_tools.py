"""The viewer's tools in a real Chromium, against real render servers: what they change in the picture, and what they
say to people who do not see it."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.async_api import Locator, Page

from farframe.client import RemoteRenderingClient
from tests.end_to_end.harness import RunningService, difference
from tests.end_to_end.test_browser import PATIENCE_MS, chromium, picture, still, until

pytestmark = [pytest.mark.slow, pytest.mark.browser]

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
RED, BLUE = (-0.5, 0.0, 0.0), (0.5, 0.0, 0.0)
HALF = np.array((0.3, 0.4, 0.2))
"""Middles of the two boxes, and half their size, metres."""

HOLD_RAYS = """() => {
    const scene = window.farframeViewer.connection.scene, cast = scene.castRay;
    scene.castRay = async (...ray) => {
        scene.castRay = cast;
        const answer = await scene.castRay(...ray);
        await new Promise((release) => { window.heldRay = release; });
        return answer;
    };
}"""
"""Keeps the answer of the next ray until `heldRay` is called."""

EVEN_STEPS = """() => {
    const { connection } = window.farframeViewer;
    const frame = window.requestAnimationFrame.bind(window), setPose = connection.setPose.bind(connection);
    window.beginEvenSteps = () => {
        let last = performance.now(), told = last;
        window.requestAnimationFrame = (callback) => frame((now) => {
            told += Math.min(40, Math.max(0, now - last));
            last = Math.max(last, now);
            callback(told);
        });
        window.positions = new Set();
    };
    connection.setPose = (...views) => {
        window.positions?.add(views[0].position.join());
        setPose(...views);
    };
}"""
"""From when `beginEvenSteps` is called, no animation frame is told that more than 40 ms have passed since the one
before: a machine that was busy for longer sees all of a movement, too. `positions` are those of the camera since."""


def pair(*, alike: bool = False) -> bytes:
    """A GLB: the group `Pair` with a `Red box` and a `Blue box` beside it. ``alike``: both of the same red material."""
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal, first, second = (np.roll((1.0, 0.0, 0.0), axis + turn) for turn in range(3))
            normal = normal * sign
            first = first * sign
            corners = [normal + a * first + b * second for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            faces.append([np.concatenate((corner * HALF, normal)) for corner in corners])
    vertices = np.array(faces, "<f4").reshape(-1, 6)
    positions, normals = vertices[:, :3].tobytes(), vertices[:, 3:].tobytes()
    indices = (np.arange(6)[:, None] * 4 + np.array((0, 1, 2, 0, 2, 3))).astype("<u2").tobytes()
    lengths = [len(positions), len(normals), len(indices)]
    colors = ((0.75, 0.02, 0.02, 1.0), (0.02, 0.05, 0.8, 1.0))
    made_of = (0, 0 if alike else 1)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"name": "Pair", "children": [1, 2]},
            {"name": "Red box", "mesh": 0, "translation": RED},
            {"name": "Blue box", "mesh": 1, "translation": BLUE},
        ],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "material": material}]}
            for material in made_of
        ],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorFactor": color, "metallicFactor": 0.0, "roughnessFactor": 0.9}}
            for color in colors
        ],
        "accessors": [
            {
                "bufferView": view, "componentType": kind, "count": count, "type": shape,
                **({"min": (-HALF).tolist(), "max": HALF.tolist()} if view == 0 else {}),
            }
            for view, (kind, count, shape) in enumerate(((5126, 24, "VEC3"), (5126, 24, "VEC3"), (5123, 36, "SCALAR")))
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": sum(lengths[:index]), "byteLength": length}
            for index, length in enumerate(lengths)
        ],
        "buffers": [{"byteLength": sum(lengths)}],
    }  # fmt: skip
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    data = positions + normals + indices
    return (
        struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(data), len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(data), 0x004E4942)
        + data
    )


@asynccontextmanager
async def viewer_of_pair(service: RunningService, *, alike: bool = False, **context: Any) -> AsyncIterator[Page]:
    """The viewer with the two boxes loaded, seen from the front. Errors that the page logs fail the test."""
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        chromium() as browser,
    ):
        link = await client.create_viewer_link(session.id)
        options = {"viewport": {"width": 1100, "height": 700}, "reduced_motion": "reduce"} | context
        page = await (await browser.new_context(**options)).new_page()
        page.set_default_timeout(PATIENCE_MS)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(link.url)
        await page.wait_for_selector("body[data-state=connected]")
        await load_pair(page, alike=alike)
        yield page
        assert not problems


async def load_pair(page: Page, *, alike: bool = False) -> None:
    file = {"name": "pair.glb", "mimeType": "model/gltf-binary", "buffer": pair(alike=alike)}
    await page.set_input_files("[data-testid=file-input]", [file])  # type: ignore[list-item]
    await until(page, "() => window.farframeViewer.models.length === 1")
    # The page has asked the same before: it knows by now how far the scene reaches.
    await page.evaluate("() => Promise.all(window.farframeViewer.connection.scene.roots.map((root) => root.bounds()))")
    await page.keyboard.press("1")
    await still(page)


async def view(page: Page) -> dict[str, Any]:
    """The view that the picture on the screen was drawn for."""
    found: dict[str, Any] = await page.evaluate("() => window.farframeViewer.lastShown.record.views[0]")
    return found


async def place(page: Page, point: tuple[float, float, float]) -> tuple[float, float]:
    """Where on the page a point of the world is seen; whole pixels, as a mouse points."""
    seen = await view(page)
    x, y, z, w = seen["orientation"]
    axes = np.array(
        (
            (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)),
            (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)),
            (2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)),
        )
    )
    right, up, back = axes @ (np.array(point) - np.array(seen["position"]))
    angles = seen["fieldOfView"]
    edges = {name: np.tan(angles[name]) for name in angles}
    box = await page.locator("[data-testid=video]").bounding_box()
    assert box is not None
    across = (right / -back - edges["left"]) / (edges["right"] - edges["left"])
    down = (up / -back - edges["up"]) / (edges["down"] - edges["up"])
    return round(box["x"] + box["width"] * across), round(box["y"] + box["height"] * down)


async def on_front(page: Page, at: tuple[float, float]) -> NDArray[np.float64]:
    """The point of the boxes' front, seen from the front, below a place on the page."""
    seen = await view(page)
    box = await page.locator("[data-testid=video]").bounding_box()
    assert box is not None
    angles = seen["fieldOfView"]
    across, down = (at[0] - box["x"]) / box["width"], (at[1] - box["y"]) / box["height"]
    edges = {name: np.tan(angles[name]) for name in angles}
    eye = np.array(seen["position"])
    depth = eye[2] - HALF[2]
    x = edges["left"] + (edges["right"] - edges["left"]) * across
    y = edges["up"] + (edges["down"] - edges["up"]) * down
    return np.array((eye[0] + depth * x, eye[1] + depth * y, HALF[2]))


def red(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    r, g, b = (image[..., channel].astype(int) for channel in range(3))
    return (r > 90) & (r > 2 * g) & (r > 2 * b)


def blue(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    r, g, b = (image[..., channel].astype(int) for channel in range(3))
    return (b > 90) & (b > 2 * r) & (b > g + 50)


def yellow(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The outline."""
    r, g, b = (image[..., channel].astype(int) for channel in range(3))
    return (r > 150) & (g > 150) & (b < 0.6 * r)


async def picks_answered(page: Page) -> None:
    """Until the page has the answers to all clicks into the picture."""
    await page.wait_for_selector("[data-testid=video]:not([data-picking])")


async def seen_as(page: Page, condition: Any, what: str, seconds: float = 60) -> NDArray[np.uint8]:
    """The first picture that is as it should be, in the size that was asked for: a slow line gets smaller ones, too."""
    import asyncio

    async def right(image: NDArray[np.uint8]) -> bool:
        video = await page.evaluate("() => window.farframeViewer.connection.video")
        return (video["height"], video["width"]) == image.shape[:2] and bool(condition(image))

    try:
        async with asyncio.timeout(seconds):
            while not await right(image := await picture(page)):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(what) from None
    return image


def item(page: Page, name: str) -> Locator:
    return page.get_by_role("treeitem", name=name, exact=True)


async def selected_in_tree(page: Page, name: str) -> None:
    """Until the tree, which is drawn anew with the next animation frame, shows this part as selected, and no other."""
    await item(page, name).and_(page.locator("[aria-selected=true]")).wait_for()
    assert await page.locator("[role=treeitem][aria-selected=true]").count() == 1


async def test_a_click_selects_outlines_and_tells_about_a_part(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = await picture(page)
        assert red(before).sum() > 2000
        assert blue(before).sum() > 2000
        assert yellow(before).sum() == 0
        await page.mouse.click(*await place(page, (RED[0], 0.1, HALF[2])))
        await selected_in_tree(page, "Red box")
        assert await item(page, "Blue box").get_attribute("aria-selected") == "false"
        await page.get_by_test_id("announcer").get_by_text("Red box selected").wait_for(state="attached")
        outlined = await seen_as(page, lambda image: yellow(image).sum() > 100, "no outline")
        columns = np.nonzero(yellow(outlined))[1]
        assert columns.max() < outlined.shape[1] / 2, "only the red box is outlined"

        await page.keyboard.press("r")
        panel = page.get_by_test_id("properties")
        await panel.get_by_text("600.0 mm × 800.0 mm × 400.0 mm").wait_for()
        assert await panel.get_by_role("heading", name="Red box").is_visible()
        assert await panel.get_by_label("Position X").input_value() == "-0.5"

        await panel.get_by_label("Position Y").fill("0,25")
        await panel.get_by_label("Position Y").press("Enter")
        rows = np.nonzero(red(before))[0].mean()
        await seen_as(page, lambda image: np.nonzero(red(image))[0].mean() < rows - 20, "the box did not go up")
        await panel.get_by_label("Position Y").fill("high")
        await panel.get_by_label("Position Y").press("Enter")
        await panel.get_by_role("alert").get_by_text("not a number").wait_for()
        assert await panel.get_by_label("Position Y").input_value() == "0.25"

        await still(page)
        untinted = await picture(page)
        await panel.get_by_label("Tint", exact=True).check()
        await seen_as(page, lambda image: difference(image, untinted) > 1, "not tinted")
        await panel.get_by_label("Tint", exact=True).uncheck()
        await page.get_by_test_id("video").focus()
        await page.keyboard.press("Escape")
        await seen_as(page, lambda image: yellow(image).sum() == 0, "the outline stays")
        assert await page.evaluate("() => window.farframeViewer.selection") == []
        await page.locator("[role=treeitem][aria-selected=true]").wait_for(state="detached")


async def test_parts_are_hidden_isolated_and_shown(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = await picture(page)
        await item(page, "Red box").click()
        await page.keyboard.press("h")
        await seen_as(page, lambda image: red(image).sum() == 0 and blue(image).any(), "still there")
        await item(page, "Red box, hidden").wait_for()
        # What is not seen is not clicked either.
        await page.keyboard.press("Escape")
        await page.mouse.click(*await place(page, (RED[0], 0.0, HALF[2])))
        await picks_answered(page)
        await page.get_by_test_id("show-all").click()
        await seen_as(page, lambda image: red(image).sum() > 0.9 * red(before).sum(), "not shown again")
        assert await page.evaluate("() => window.farframeViewer.selection") == []
        await item(page, "Red box").click()
        await page.get_by_test_id("isolate").click()
        await seen_as(page, lambda image: red(image).any() and blue(image).sum() == 0, "not alone")
        await item(page, "Blue box, hidden").locator(".eye").click()
        await seen_as(page, lambda image: blue(image).sum() > 0.9 * blue(before).sum(), "one may be shown beside it")
        await page.keyboard.press("a")
        await item(page, "Pair").nth(0).wait_for()
        assert await page.get_by_role("treeitem", name=re.compile("hidden")).count() == 0


async def test_the_tree_is_searched(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        await page.keyboard.press("/")
        await page.keyboard.type("BOX blue")
        await page.get_by_test_id("tree-count").get_by_text("1 found").wait_for()
        assert await item(page, "Red box").count() == 0
        await page.keyboard.press("Enter")
        await until(page, "() => window.farframeViewer.selection.length === 1")
        await selected_in_tree(page, "Blue box")
        await page.keyboard.press("Escape")
        await item(page, "Red box").wait_for()


async def test_two_points_are_measured(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = await page.screenshot()
        await page.get_by_role("button", name="Measure").click()
        await page.get_by_test_id("measure-hint").get_by_text("Pick two points").wait_for()
        spots = [
            await place(page, (RED[0] - 0.1, 0.2, HALF[2])),
            await place(page, (BLUE[0] + 0.15, -0.25, HALF[2])),
        ]
        points = [await on_front(page, spot) for spot in spots]
        await page.mouse.click(*spots[0])
        await page.get_by_test_id("measure-hint").get_by_text("second point").wait_for()
        await page.mouse.click(*spots[1])
        away = points[1] - points[0]
        wanted = [float(np.linalg.norm(away)), *away.tolist()]
        await page.get_by_test_id("measure-distance").get_by_text("mm").wait_for()
        for name, metres in zip(("distance", "x", "y", "z"), wanted, strict=True):
            text = await page.get_by_test_id(f"measure-{name}").inner_text()
            assert text.endswith(" mm")
            assert float(text.removesuffix(" mm")) == pytest.approx(metres * 1000, abs=1.0), name
        assert 1300 < wanted[0] * 1000 < 1400
        await page.select_option("[data-testid=measure-unit]", "in")
        inches = await page.get_by_test_id("measure-distance").inner_text()
        assert float(inches.removesuffix(" in")) == pytest.approx(wanted[0] / 0.0254, rel=1e-3)
        label = page.locator("[data-testid=overlay] .label")
        assert await label.text_content() == inches
        # The line is where the points are, and stays with them when the camera turns.
        marks = page.locator("[data-testid=overlay] circle")
        for index in range(2):
            box = await marks.nth(index).bounding_box()
            assert box is not None
            middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            assert middle == pytest.approx(spots[index], abs=1.5)
        assert difference(pixels(before), pixels(await page.screenshot())) > 0.2
        await page.get_by_test_id("video").focus()
        for _ in range(4):
            await page.keyboard.press("ArrowRight")
        await still(page)
        where = await place(page, tuple(points[1]))  # type: ignore[arg-type]
        box = await marks.nth(1).bounding_box()
        assert box is not None
        assert (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) == pytest.approx(where, abs=1.5)
        # A second one is kept beside it, numbered; each is removed by itself. Leaving the tool leaves them.
        await page.keyboard.press("1")
        await still(page)
        for spot in spots:
            await page.mouse.click(*spot)
            await picks_answered(page)
        rows = page.get_by_test_id("measure-row")
        assert await rows.count() == 2
        assert (await label.all_text_contents()) == [f"1: {inches}", f"2: {inches}"]
        await page.get_by_test_id("video").focus()
        await page.keyboard.press("Escape")
        assert await page.get_by_test_id("tool-options").is_hidden()
        assert await marks.count() == 4
        assert await page.get_by_test_id("measure").get_attribute("data-on") == ""
        await page.keyboard.press("m")
        await page.get_by_role("button", name="Remove measure 1").click()
        assert await label.all_text_contents() == [inches]
        await page.get_by_role("button", name="Remove all", exact=True).click()
        assert await marks.count() == 0
        # What is begun is given up by Escape, and the tool stays.
        await page.mouse.click(*spots[0])
        await page.get_by_test_id("measure-hint").get_by_text("second point").wait_for()
        await page.keyboard.press("Escape")
        await page.get_by_test_id("measure-hint").get_by_text("two points").wait_for()
        assert await marks.count() == 0
        # The angle between two faces: the boxes' fronts and, from a corner, a front and a top.
        await page.get_by_role("button", name="Angle").click()
        for spot in reversed(spots):  # the one that was clicked last would be a double click
            await page.mouse.click(*spot)
            await picks_answered(page)
        assert await page.get_by_test_id("measure-angle").inner_text() == "0.0°"
        await page.keyboard.press("7")
        await still(page)
        for point in ((RED[0], 0.1, HALF[2]), (RED[0], HALF[1], 0.0)):
            await page.mouse.click(*await place(page, point))
            await picks_answered(page)
        assert await page.get_by_test_id("measure-angle").all_inner_texts() == ["0.0°", "90.0°"]
        # What was measured does not hold for parts that have moved since.
        await page.keyboard.press("e")
        await page.get_by_role("slider", name="How far apart").fill("20")
        await page.get_by_test_id("announcer").get_by_text("Parts were moved").wait_for(state="attached")
        assert await marks.count() == 0


async def test_points_snap_to_corners_and_edges(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        left, right = [await place(page, (RED[0] + side * HALF[0], HALF[1], HALF[2])) for side in (-1, 1)]
        middle = await place(page, (RED[0], HALF[1], HALF[2]))
        await page.keyboard.press("m")
        # Beside the corner, on the box and off it; the answer is the corner itself.
        await page.mouse.click(left[0] + 3, left[1] + 3)
        await picks_answered(page)
        await page.get_by_test_id("announcer").get_by_text("First point on a corner").wait_for(state="attached")
        await page.mouse.click(right[0] + 3, right[1] - 3)
        await picks_answered(page)
        assert await page.get_by_test_id("measure-distance").inner_text() == "600.0 mm"
        assert await page.get_by_test_id("measure-y").inner_text() == "0 mm"
        assert await page.get_by_test_id("measure-z").inner_text() == "0 mm"
        # From an edge to a corner: along that edge.
        await page.mouse.click(middle[0], middle[1] + 2)
        await picks_answered(page)
        await page.get_by_test_id("announcer").get_by_text("First point on an edge").wait_for(state="attached")
        await page.mouse.click(right[0] - 3, right[1] + 3)
        await picks_answered(page)
        row = page.get_by_test_id("measure-row").nth(1)
        assert float((await row.get_by_test_id("measure-y").inner_text()).removesuffix(" mm")) == pytest.approx(
            0, abs=1e-3
        )
        assert float((await row.get_by_test_id("measure-x").inner_text()).removesuffix(" mm")) == pytest.approx(
            300, abs=3
        )
        # Without it points are where one clicks.
        await page.get_by_label("Snap to corners and edges").uncheck()
        await page.mouse.click(left[0] + 4, left[1] + 4)
        await picks_answered(page)
        await page.mouse.click(right[0] - 4, right[1] + 4)
        await picks_answered(page)
        last = page.get_by_test_id("measure-row").nth(2)
        assert float((await last.get_by_test_id("measure-x").inner_text()).removesuffix(" mm")) < 599


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


async def test_standard_views_and_parallel_rays(service: RunningService) -> None:
    async with viewer_of_pair(service, reduced_motion="no-preference") as page:
        await page.evaluate(EVEN_STEPS)

        async def look(key: str, yaw: float, pitch: float) -> None:
            await page.evaluate("() => window.beginEvenSteps()")
            await page.keyboard.press(key)
            await until(
                page,
                """([yaw, pitch]) => {
                    const camera = window.farframeViewer.camera, degrees = Math.PI / 180;
                    const near = (value, wanted) => Math.abs(value - wanted * degrees) < 1e-4;
                    return near(camera.yaw, yaw) && near(camera.pitch, pitch);
                }""",
                (yaw, pitch),
            )

        pictures = {}
        directions = {"front": ("1", 0, 0), "right": ("4", 90, 0), "top": ("5", 0, 90), "isometric": ("7", 45, 35.264)}
        for name, direction in directions.items():
            await look(*direction)
            await still(page)
            pictures[name] = await picture(page)
            turned = await page.evaluate("() => window.positions.size")
            assert name == "front" or turned >= 3, "the camera jumped"
        assert difference(pictures["front"], pictures["top"]) > 3
        assert difference(pictures["front"], pictures["isometric"]) > 3
        assert blue(pictures["right"]).any()
        assert not red(pictures["right"]).any(), "the blue box stands before the red one"

        await look(*directions["front"])
        await page.get_by_role("button", name="View", exact=True).click()
        await page.get_by_label("Orthographic").check()
        await until(page, "() => window.farframeViewer.lastShown.record.views[0].orthographic === true")
        await page.keyboard.press("Escape")
        assert await page.get_by_test_id("view-menu").is_hidden()
        await still(page)
        edges = (await view(page))["fieldOfView"]
        image = await picture(page)
        columns = np.nonzero(red(image))[1]
        width = 2 * HALF[0] / (edges["right"] - edges["left"]) * image.shape[1]
        assert columns.max() - columns.min() + 1 == pytest.approx(width, abs=4), "a box is as wide as it is"


async def test_a_section_cuts_what_is_seen_and_what_is_clicked(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = await picture(page)
        inside = await place(page, (RED[0], 0.1, HALF[2]))
        await page.get_by_role("button", name="Section").click()
        # Through the middle, across X: the blue box is gone.
        cut = await seen_as(page, lambda image: not blue(image).any(), "nothing was cut")
        assert red(cut).sum() > 0.9 * red(before).sum()
        await page.get_by_role("button", name="Cut the other side of plane X").click()
        await seen_as(page, lambda image: blue(image).any() and not red(image).any(), "the other side was not cut")
        # The answer comes late, when the plane is elsewhere: what counts is what was seen at the click.
        await page.evaluate(HOLD_RAYS)
        await page.mouse.click(*inside)
        await until(page, "() => window.heldRay !== undefined")
        await page.get_by_role("slider", name="Where plane X is").fill("0")
        await page.evaluate("() => window.heldRay()")
        await seen_as(page, lambda image: red(image).sum() > 0.9 * red(before).sum(), "the plane did not move")
        await picks_answered(page)
        assert await page.evaluate("() => window.farframeViewer.selection") == [], "what is cut away is not clicked"
        await page.mouse.click(inside[0], inside[1] + 30)  # there again it might be a double click
        await until(page, "() => window.farframeViewer.selection.length === 1")
        await page.keyboard.press("x")
        assert await page.get_by_test_id("tool-options").is_hidden()
        assert await page.get_by_test_id("section").get_attribute("data-on") == "", "the section stays, and says so"
        assert await page.get_by_role("treeitem", name="Section plane").count() == 0
        await page.keyboard.press("x")
        await page.get_by_role("button", name="Across Y").click()
        await page.get_by_role("button", name="Across X").click()
        await seen_as(page, lambda image: 0.3 < red(image).sum() / red(before).sum() < 0.7, "not cut in half")
        await page.get_by_role("button", name="Remove all", exact=True).click()
        await seen_as(page, lambda image: red(image).sum() > 0.9 * red(before).sum(), "the section is still there")


async def test_several_planes_cut_and_one_lies_on_a_face(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = await picture(page)
        top, bottom = [await place(page, (RED[0], height, HALF[2])) for height in (0.2, -0.2)]
        await page.keyboard.press("x")
        await seen_as(page, lambda image: not blue(image).any(), "nothing was cut")
        # Another one across Y: a quarter of what was there is left, the lower half of the red box.
        await page.get_by_role("button", name="Across Y").click()
        await page.get_by_test_id("announcer").get_by_text("Section plane Y added, 2 of").wait_for(state="attached")
        cut = await seen_as(page, lambda image: 0.3 < red(image).sum() / red(before).sum() < 0.7, "not cut twice")
        assert not blue(cut).any()
        planes = page.get_by_test_id("section-plane")
        assert await planes.count() == 2
        assert await page.get_by_role("slider", name="Where plane Y is").get_attribute("aria-valuetext") == "0 mm"
        await page.mouse.click(*top)
        await picks_answered(page)
        assert await page.evaluate("() => window.farframeViewer.selection") == [], "what Y cut away is not clicked"
        await page.mouse.click(*bottom)
        await until(page, "() => window.farframeViewer.selection.length === 1")
        await page.get_by_test_id("section-note").get_by_text("Cut by X, Y").wait_for()

        # What is cut goes with a view, and comes back with it.
        await page.keyboard.press("b")
        await page.get_by_role("button", name="Remove plane X").click()
        await seen_as(page, lambda image: blue(image).any(), "X still cuts")
        assert await page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Remove plane Y"
        await page.get_by_role("button", name="Remove all", exact=True).click()
        await seen_as(page, lambda image: red(image).sum() > 0.9 * red(before).sum(), "Y still cuts")
        assert await page.get_by_test_id("section-note").is_hidden()
        await page.keyboard.press("Alt+1")
        await seen_as(page, lambda image: 0.3 < red(image).sum() / red(before).sum() < 0.7, "the view does not cut")
        assert await planes.count() == 2
        await page.get_by_test_id("section-clear").click()
        await seen_as(page, lambda image: red(image).sum() > 0.9 * red(before).sum(), "still cut")

        # On the front of the red box, moved through its whole depth: all is gone.
        await page.get_by_role("button", name="On a face").click()
        assert await page.get_by_role("button", name="On a face").get_attribute("aria-pressed") == "true"
        await page.mouse.click(*top)
        slider = page.get_by_role("slider", name="Where plane Face 1 is")
        await slider.wait_for()
        assert await page.get_by_role("button", name="On a face").get_attribute("aria-pressed") == "false"
        plane = await page.evaluate(
            """() => {
                const {position, rotation} = window.farframeViewer.connection.scene.find("Section plane Face 1");
                return [...position, ...rotation];
            }"""
        )
        assert plane[2] == pytest.approx(HALF[2], abs=0.01)
        assert plane[3:] == pytest.approx((0.0, -(0.5**0.5), 0.0, 0.5**0.5), abs=1e-6), "X points out of the front"
        # From above one sees how far it has gone in.
        await page.keyboard.press("5")
        await still(page)
        above = await picture(page)
        await slider.fill("500")
        back = await seen_as(page, lambda image: 0.3 < red(image).sum() / red(above).sum() < 0.7, "not cut in half")
        await page.get_by_role("button", name="Cut the other side of plane Face 1").click()
        middle = np.nonzero(red(back))[0].mean()
        await seen_as(page, lambda image: np.nonzero(red(image))[0].mean() > middle + 20, "not the other side")
        await page.keyboard.press("1")
        await still(page)
        # Eight cut at most, and the page says so instead of adding one that does not.
        for _ in range(7):
            count = await planes.count()
            await page.get_by_role("button", name="On a face").click()
            await page.mouse.click(*top)
            # Turned over it leaves the face, for the next one.
            await planes.nth(count).get_by_test_id("section-flip").click()
        assert await page.get_by_role("button", name="On a face").is_disabled()
        assert await page.get_by_role("button", name="Across X").is_disabled()
        await page.get_by_role("button", name="Remove all", exact=True).click()
        assert await page.get_by_role("button", name="On a face").is_enabled()
        # By keyboard, and given up again.
        await page.get_by_role("button", name="On a face").press("Enter")
        await page.keyboard.press("Escape")
        assert await page.get_by_role("button", name="On a face").get_attribute("aria-pressed") == "false"
        assert await page.get_by_test_id("tool-options").is_visible()


async def test_clicks_count_in_their_order_and_for_what_they_were_for(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        on_red, on_blue = [await place(page, (middle[0], 0.1, HALF[2])) for middle in (RED, BLUE)]
        # The first point's answer comes after the second's: still they are the first and the second.
        await page.keyboard.press("m")
        await page.evaluate(HOLD_RAYS)
        await page.mouse.click(*on_red)
        await until(page, "() => window.heldRay !== undefined")
        await page.mouse.click(*on_blue)
        await page.evaluate("() => window.heldRay()")
        await page.get_by_test_id("measure-x").get_by_text("mm").wait_for()
        assert float((await page.get_by_test_id("measure-x").inner_text()).removesuffix(" mm")) > 900
        # A point that was given up before its answer came does not come back.
        await page.evaluate("() => { window.heldRay = undefined; }")
        await page.evaluate(HOLD_RAYS)
        await page.mouse.click(*on_red)
        await until(page, "() => window.heldRay !== undefined")
        await page.keyboard.press("m")
        await page.evaluate("() => window.heldRay()")
        await picks_answered(page)
        assert await page.locator("[data-testid=overlay] circle").count() == 2, "those of the first measure"
        assert await page.evaluate("() => window.farframeViewer.selection") == []
        # Who chose in the tree since the click wants that.
        await page.evaluate("() => { window.heldRay = undefined; }")
        await page.evaluate(HOLD_RAYS)
        await page.mouse.click(on_red[0], on_red[1] + 30)  # there again it would be a double click
        await until(page, "() => window.heldRay !== undefined")
        await item(page, "Blue box").click()
        await page.evaluate("() => window.heldRay()")
        await picks_answered(page)
        await selected_in_tree(page, "Blue box")
        assert len(await page.evaluate("() => window.farframeViewer.selection")) == 1


async def test_the_edges_of_surfaces_are_drawn(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = (await picture(page)).mean(axis=2)
        await page.get_by_role("button", name="View", exact=True).click()
        await page.get_by_label("Shaded with edges").check()
        # Lines along the boxes: much darker than what was there, and few.
        share = await seen_as(page, lambda image: (before - image.mean(axis=2) > 25).mean() > 0.002, "no edges")
        assert (before - share.mean(axis=2) > 25).mean() < 0.1


async def test_a_material_is_edited(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = await picture(page)
        await item(page, "Red box").click()
        await page.keyboard.press("r")
        color = page.get_by_test_id("materials").get_by_test_id("material-color")
        assert await color.input_value() == "#e12727"
        await color.fill("#2030e0")
        await seen_as(page, lambda image: not red(image).any() and blue(image).sum() > 1.5 * blue(before).sum(), "red")


async def test_a_material_is_edited_for_one_part_or_for_all(service: RunningService) -> None:
    async with viewer_of_pair(service, alike=True) as page:
        before = await picture(page)
        half = before.shape[1] // 2
        assert red(before)[:, :half].any()
        assert red(before)[:, half:].any()
        await item(page, "Red box").click()
        await page.keyboard.press("r")
        section = page.get_by_test_id("materials")
        color = section.get_by_test_id("material-color")
        await section.get_by_text("Changes all 2 parts that are made of it.").wait_for()
        await section.get_by_role("button", name="This part only").click()
        await section.get_by_text("Changes this part. The other one stays as it is.").wait_for()
        await color.fill("#2030e0")
        one = await seen_as(page, lambda image: blue(image)[:, :half].any(), "the part stays red")
        assert red(one)[:, half:].sum() > 0.9 * red(before)[:, half:].sum(), "the other part changed, too"
        assert not blue(one)[:, half:].any()
        # It has a material of its own now, which the other part does not know.
        await page.get_by_test_id("tab-parts").click()
        await item(page, "Blue box").click()
        await page.keyboard.press("r")
        assert await color.input_value() == "#e12727"
        assert await section.get_by_test_id("material-part").count() == 0, "nothing else is made of it any more"
        await page.get_by_test_id("tab-parts").click()
        await item(page, "Red box").click()
        await page.keyboard.press("r")
        assert await color.input_value() == "#2030e0"
        await section.get_by_role("button", name="Use the model's").click()
        await seen_as(page, lambda image: not blue(image).any(), "it has its own material still")
        assert await color.input_value() == "#e12727"
        await section.get_by_role("button", name="Everywhere").click()
        await color.fill("#2030e0")
        await seen_as(page, lambda image: not red(image).any() and blue(image)[:, half:].any(), "not everywhere")


async def test_a_model_is_taken_apart_and_put_together(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        before = await picture(page)
        at = np.nonzero(red(before))[1].mean()
        await page.get_by_role("button", name="Explode").click()
        slider = page.get_by_role("slider", name="How far apart")
        await slider.fill("40")
        await seen_as(page, lambda image: np.nonzero(red(image))[1].mean() < at - 20, "nothing moved")
        await page.get_by_test_id("explode-reset").click()
        await seen_as(page, lambda image: difference(image, before) < 0.7, "not put together")
        position = await page.evaluate("() => window.farframeViewer.connection.scene.find('Red box').position")
        assert position == list(RED)


async def test_a_picture_of_full_quality_is_saved(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Save a picture").click()
        download = await waiting.value
        assert download.suggested_filename == "pair.png"
        saved = Image.open(await download.path())
        assert saved.format == "PNG"
        shown = await picture(page)
        assert saved.size == (shown.shape[1], shown.shape[0])
        assert difference(np.asarray(saved.convert("RGB")), shown) < 0.5
        assert red(np.asarray(saved.convert("RGB"))).sum() > 2000


async def test_views_are_kept_restored_and_passed_on(service: RunningService, tmp_path: Path) -> None:
    async with viewer_of_pair(service) as page:
        await page.keyboard.press("7")
        await item(page, "Blue box").click()
        await page.keyboard.press("h")
        await page.get_by_role("tab", name="Views").click()
        await page.get_by_label("Name of the view").fill("Corner, red only")
        await page.keyboard.press("Enter")
        await page.get_by_test_id("view-go").get_by_text("Corner, red only").wait_for()
        kept = await page.evaluate("() => window.farframeViewer.camera")
        await page.get_by_test_id("video").focus()
        await page.keyboard.press("a")
        await page.keyboard.press("1")
        await seen_as(page, lambda image: blue(image).any(), "not shown again")
        await page.keyboard.press("Alt+1")
        assert await page.evaluate("() => window.farframeViewer.camera") == kept
        await seen_as(page, lambda image: red(image).any() and not blue(image).any(), "the view was not restored")

        async with page.expect_download() as waiting:
            await page.get_by_test_id("view-export").click()
        file = tmp_path / "views.json"
        await (await waiting.value).save_as(file)
        assert json.loads(file.read_text())["views"][0]["camera"] == kept

        # Kept for the model: after a reload it has its views again, and another file of views is taken in.
        await page.reload()
        await page.wait_for_selector("body[data-state=connected]")
        assert await page.get_by_test_id("view").count() == 0
        await load_pair(page)
        await page.get_by_role("tab", name="Views").click()
        await page.get_by_test_id("view-go").get_by_text("Corner, red only").wait_for()
        file.write_text(file.read_text().replace("Corner, red only", "From elsewhere"))
        await page.set_input_files("[data-testid=view-file]", file)
        await page.get_by_test_id("view-go").get_by_text("From elsewhere").wait_for()
        file.write_text("{}")
        await page.set_input_files("[data-testid=view-file]", file)
        await page.get_by_role("alert").get_by_text("This file holds no views.").wait_for()

        # A link brings model and view with it.
        await page.evaluate(
            "() => { navigator.clipboard.writeText = async (text) => { document.body.dataset.copied = text; }; }"
        )
        await page.get_by_role("button", name="Copy a link to Corner, red only").click()
        link = await page.evaluate("() => document.body.dataset.copied")
        assert "view=" in link
        await page.goto("about:blank")
        await page.goto(link)
        await until(page, "() => window.farframeViewer?.models.length === 1")
        await seen_as(page, lambda image: red(image).any() and not blue(image).any(), "the link's view was not shown")
        assert await page.evaluate("() => window.farframeViewer.camera") == kept
        assert "view=" not in page.url


async def test_the_keyboard_alone_is_enough(service: RunningService) -> None:
    async with viewer_of_pair(service) as page:
        # Everything that takes the focus says what it is, and the tab key gets round.
        seen = []
        await page.get_by_test_id("video").focus()
        for _ in range(40):
            await page.keyboard.press("Tab")
            name = await page.evaluate(
                """() => {
                    const element = document.activeElement;
                    return element === document.body ? "" : [element.id || element.dataset.testid || element.tagName,
                        element.ariaLabel || element.labels?.[0]?.textContent || element.textContent.trim()].join(": ");
                }"""
            )
            if name:
                assert not name.endswith(": "), f"{name} has no name"
                seen.append(name.split(": ")[0])
            if name.startswith("video"):
                break
        for stop in ("fit", "extend", "panel-toggle", "leave", "tab-parts", "tree-search", "tree"):
            assert stop in seen, f"{stop} is not reached: {seen}"
        assert len(set(seen)) == len(seen)

        # The tree: down to the blue box, hide it, show everything.
        await page.get_by_test_id("tree").focus()
        await page.keyboard.press("End")
        await until(page, "() => window.farframeViewer.selection.length === 1")
        tree = page.get_by_test_id("tree")
        active = await tree.get_attribute("aria-activedescendant")
        assert await page.locator(f"#{active}").get_attribute("aria-label") == "Blue box"
        await page.keyboard.press("Shift+ArrowUp")
        assert len(await page.evaluate("() => window.farframeViewer.selection")) == 2
        await page.keyboard.press("ArrowLeft")
        assert await page.locator("[role=treeitem].active").get_attribute("aria-label") == "Pair"
        await page.keyboard.press("ArrowLeft")
        assert await page.locator("[role=treeitem].active").get_attribute("aria-expanded") == "false"
        assert await item(page, "Blue box").count() == 0
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("End")
        await page.keyboard.press("h")
        await seen_as(page, lambda image: not blue(image).any(), "not hidden by key")
        await page.keyboard.press("a")

        # The picture: pick what is in the middle, after the red box was brought there.
        await item(page, "Red box").click()
        await page.keyboard.press("f")
        await until(page, "() => Math.abs(window.farframeViewer.camera.target[0] + 0.5) < 1e-3")
        await page.keyboard.press("Escape")
        await page.get_by_test_id("video").focus()
        await still(page)
        await page.keyboard.press("Enter")
        await item(page, "Red box").and_(page.locator("[aria-selected=true]")).wait_for()

        # The toolbar is one stop; arrows move in it.
        await page.get_by_role("button", name="Fit").focus()
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("Enter")
        assert await page.get_by_role("button", name="Measure").get_attribute("aria-pressed") == "true"
        await page.keyboard.press("m")
        assert await page.get_by_role("button", name="Measure").get_attribute("aria-pressed") == "false"
        await page.keyboard.press("e")
        await page.keyboard.press("ArrowRight")
        assert await page.get_by_role("slider", name="How far apart").input_value() == "1"
        await page.keyboard.press("Escape")
        assert await page.evaluate("() => document.activeElement.id") == "explode"

        await page.keyboard.press("?")
        dialog = page.get_by_role("dialog", name="Keys")
        await dialog.get_by_text("Isolate the selection").wait_for()
        await page.keyboard.press("Escape")
        await dialog.wait_for(state="hidden")


async def cut_off(page: Page) -> list[str]:
    """What lies beyond the page's right edge, and the page itself where it can be scrolled that way."""
    assert page.viewport_size is not None
    # Not `innerWidth`: on a phone that grows with what is too wide.
    found: list[str] = await page.evaluate(
        """(width) => [
            ...[...document.querySelectorAll("#panel *, #dock *")].filter(
                (element) => element.checkVisibility() && element.getBoundingClientRect().right > width + 1
            ).map((element) => element.outerHTML.slice(0, 80)),
            ...(document.documentElement.scrollWidth > width ? ["the page"] : []),
        ]""",
        page.viewport_size["width"],
    )
    return found


async def test_on_a_phone_everything_fits_and_fingers_hit(service: RunningService) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    async with viewer_of_pair(service, **phone) as page:
        assert await page.get_by_test_id("panel").is_hidden()
        await page.touchscreen.tap(*await place(page, (RED[0], 0.1, HALF[2])))
        await until(page, "() => window.farframeViewer.selection.length === 1")
        await page.get_by_test_id("panel-toggle").tap()
        for tab in ("Models", "Parts", "Properties", "Views"):
            await page.get_by_role("tab", name=tab).tap()
            assert await cut_off(page) == []
        small = await page.evaluate(
            """() => [...document.querySelectorAll("#toolbar button, #tabs button, #tree [role=treeitem]")].filter(
                (element) => element.checkVisibility()).map((element) => element.getBoundingClientRect()).filter(
                (box) => box.height < 44 || box.width < 40).length"""
        )
        assert small == 0
        await page.get_by_role("button", name="Measure").tap()
        for point in ((RED[0], 0.0, HALF[2]), (BLUE[0], 0.1, HALF[2])):
            await still(page)
            await page.touchscreen.tap(*await place(page, point))
        await page.get_by_test_id("measure-distance").wait_for()
        assert await cut_off(page) == []
        await page.get_by_role("button", name="Section").tap()
        await page.get_by_role("slider").first.wait_for()
        assert await cut_off(page) == []
        # A tool takes the sheet's place.
        await page.get_by_role("button", name="Explode").tap()
        assert await page.get_by_test_id("panel").is_hidden()
        assert await page.get_by_role("slider", name="How far apart").is_visible()
        assert await cut_off(page) == []


async def audit(page: Page, where: str) -> None:
    """No serious violation of the rules of WCAG 2.2, A and AA, by axe-core, in the dark and in the light."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        found = await page.evaluate(
            """async () => (await axe.run(document, {
                runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
            })).violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(
                ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`
            )"""
        )
        assert found == [], f"{where}, {scheme}"


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["desktop", "phone"])
async def test_no_serious_fault_of_accessibility(service: RunningService, size: tuple[int, int]) -> None:
    assert AXE.exists(), "axe-core is not installed: run `npm ci` in web/"
    viewport = {"width": size[0], "height": size[1]}
    async with viewer_of_pair(service, viewport=viewport, has_touch=size[0] < 720) as page:
        await page.evaluate(AXE.read_text() + "; undefined")
        await audit(page, "after a load")
        await page.keyboard.press("/")
        await page.keyboard.press("Escape")
        await item(page, "Red box").click()
        for tab in ("Models", "Parts", "Properties", "Views"):
            await page.get_by_role("tab", name=tab).click()
            if tab == "Views":
                await page.get_by_test_id("view-save").click()
            if tab == "Properties":
                await page.get_by_text("600.0 mm").wait_for()
            await audit(page, tab)
        await page.get_by_role("button", name="View", exact=True).click()
        await audit(page, "the menu of views")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Measure").click()
        for point in ((RED[0], 0.0, HALF[2]), (BLUE[0], 0.1, HALF[2])):
            await still(page)
            await page.mouse.click(*await place(page, point))
        await page.get_by_test_id("measure-distance").wait_for()
        await audit(page, "a measure")
        await page.get_by_role("button", name="Section").click()
        await page.get_by_role("button", name="Across Z").click()
        await audit(page, "section planes")
        await page.get_by_role("button", name="On a face").click()
        await audit(page, "a face is to be picked")
        await page.get_by_role("button", name="Remove all", exact=True).click()
        await page.get_by_role("button", name="Explode").click()
        await page.get_by_role("button", name="Statistics").click()
        await audit(page, "statistics and the slider")
        await page.get_by_role("slider", name="How far apart").blur()
        await page.keyboard.press("?")
        await audit(page, "the sheet of keys")
