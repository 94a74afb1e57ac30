"""The scene of ``@farframe/client`` in Chromium, through the packed package, against a real render server.

What the page does is in ``scene_page.ts``; what it saw, in the picture or in answers, is judged here.
"""

from __future__ import annotations

import functools
import http.server
import json
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Page

from farframe.client import RemoteRenderingClient
from tests.end_to_end.harness import RunningService, start_service
from tests.end_to_end.test_browser import chromium, until
from tests.end_to_end.test_looks import two_boxes
from tests.web.package import install_package

pytestmark = [pytest.mark.slow, pytest.mark.browser]

SCRIPT = Path(__file__).with_name("scene_page.ts")
PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>A page</title>
    <link rel="icon" href="data:," />
    <meta http-equiv="Content-Security-Policy" content="default-src 'self'; connect-src *" />
  </head>
  <body><div id="place"></div><script type="module" src="/main.ts"></script></body>
</html>
"""
PATIENCE_MS = 300_000
"""A drive waits for some ten pictures in full quality."""

BLACK = 25
Color = list[float]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service may read: boxes that an animation lifts, points, a red and a green picture."""
    made = tmp_path_factory.mktemp("models")
    moving_boxes(made / "boxes.glb")
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41)), axis=-1).reshape(-1, 2)
    rows = "\n".join(f"{x:.4f} {y:.4f} 0 255 0 0" for x, y in grid)
    names = "".join(f"property float {axis}\n" for axis in "xyz")
    names += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
    (made / "points.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex {len(grid)}\n{names}end_header\n{rows}\n")
    convert = [sys.executable, "-m", "farframe.cli", "convert", made / "points.ply", "--out", made]
    subprocess.run(convert, check=True, capture_output=True, timeout=300)
    Image.new("RGB", (64, 32), (255, 0, 0)).save(made / "red.png")
    Image.new("RGB", (64, 32), (0, 255, 0)).save(made / "green.png")
    return made


def moving_boxes(path: Path) -> None:
    """The boxes of :func:`two_boxes`; an animation lifts the left one by 0.8 m in a second and lets it down again."""
    data = two_boxes(path).read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + length])
    blob = data[28 + length :]
    times = np.array([0, 1, 2], "<f4").tobytes()
    places = np.array([[-1, 0, 0], [-1, 0.8, 0], [-1, 0, 0]], "<f4").tobytes()
    views, accessors = document["bufferViews"], document["accessors"]
    for array, kind in ((times, "SCALAR"), (places, "VEC3")):
        accessors.append({"bufferView": len(views), "componentType": 5126, "count": 3, "type": kind})
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(array)})
        blob += array
    accessors[-2] |= {"min": [0.0], "max": [2.0]}
    document["animations"] = [
        {"name": "lift", "samplers": [{"input": len(accessors) - 2, "output": len(accessors) - 1}],
         "channels": [{"sampler": 0, "target": {"node": 0, "path": "translation"}}]}
    ]  # fmt: skip
    document["nodes"][1]["extras"] = {"material": "steel", "weight": 7.5, "checked": True}
    document["buffers"] = [{"byteLength": len(blob)}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    path.write_bytes(
        struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(blob))
        + struct.pack("<I4s", len(text), b"JSON") + text
        + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a web server with the page."""
    package = install_package(tmp_path_factory.mktemp("scene_page"))
    text = SCRIPT.read_text(encoding="utf-8")
    package.check_types("page.ts", text, "bundler")
    files = package.bundle(PAGE, text)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(files))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory, site: str, folder: Path) -> Iterator[RunningService]:
    """A service whose operator lets the page's origin in."""
    data = tmp_path_factory.mktemp("open") / "data"
    options = ("--servers", "standard=1", "--allow-folder", str(folder))
    running = start_service(data, *options, settings={"FARFRAME_CORS_ORIGINS": site})
    yield running
    running.stop()


@asynccontextmanager
async def page_of(service: RunningService, site: str, **more: Any) -> AsyncIterator[Page]:
    """The page, connected to a session of its own. Errors that it logs fail the test."""
    async with (
        RemoteRenderingClient.from_connection_file(service.connection_path) as client,
        client.leased() as session,
        chromium() as browser,
    ):
        link = urlsplit((await client.create_viewer_link(session.id)).url)
        page = await browser.new_page(viewport={"width": 800, "height": 600})
        page.set_default_timeout(PATIENCE_MS)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"{site}/")
        await until(page, "() => typeof window.show === 'function'")
        handed = {
            "endpoint": f"{link.scheme}://{link.netloc}",
            "account": service.connection["accountId"],
            "session": session.id,
            "token": await client._http.token(),
        }
        await page.evaluate("(handed) => window.show(handed)", handed | more)
        yield page
        assert not problems


async def drive(page: Page, name: str, *given: Path) -> Any:
    """What the page tells of one of its drives."""
    uris = [path.as_uri() for path in given]
    return await page.evaluate("([name, uris]) => window.drive[name](...uris)", [name, uris])


def is_black(color: Color) -> bool:
    return max(color) < BLACK


def is_grey(color: Color) -> bool:
    return min(color) > 40 and max(color) - min(color) < 30


def is_only(channel: int, color: Color, least: float = 100) -> bool:
    """Whether one of red, green and blue outshines the others."""
    others = [value for index, value in enumerate(color) if index != channel]
    return color[channel] > least and color[channel] > 2 * max(others)


RED, GREEN, BLUE = 0, 1, 2


async def test_entities_are_where_they_are_put(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "entities", folder / "boxes.glb")
    left, right = told["whole"]
    assert is_grey(left) and is_grey(right)
    left, above, right = told["lifted"]
    assert is_black(left) and is_grey(above) and is_grey(right)
    assert told["told"]["world"]["min"] == pytest.approx([-1.5, 0.3, -0.5], abs=1e-5)
    assert told["told"]["world"]["max"] == pytest.approx([-0.5, 1.3, 0.5], abs=1e-5)
    assert told["told"]["local"]["min"] == pytest.approx([-0.5] * 3, abs=1e-5)
    middle, edge = told["small"]
    assert is_grey(middle) and is_black(edge)
    assert told["turned"]["min"] == pytest.approx([-0.5, -0.5, 0.5], abs=1e-5)
    left, right = told["disabled"]
    assert is_grey(left) and is_black(right)
    left, right = told["destroyed"]
    assert is_black(left) and is_grey(right)
    assert told["refusals"] == ["CyclicReference", "StringTooLong", "InvalidParam", "InvalidId"]
    assert told["ofRight"] == {"material": "steel", "weight": 7.5, "checked": True}
    assert told["metadata"].get("material") is None
    assert sorted(told["restored"]["names"]) == sorted(told["names"])
    assert told["restored"] | {"names": 0} == {"size": told["before"], "names": 0, "left": False}


async def test_materials_and_textures_are_seen_where_they_are_put(
    open_service: RunningService, site: str, folder: Path
) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "materials", folder / "boxes.glb", folder / "green.png")
    left, right = told["single"]
    assert is_only(RED, left) and is_grey(right)
    assert all(is_only(RED, color) for color in told["shared"])
    assert all(is_only(BLUE, color) for color in told["edited"])
    assert told["stages"][-1] == "upload"
    assert all(is_only(GREEN, color) for color in told["textured"])
    full, blended, faded = 255, told["blended"][0], told["faded"][0]
    assert is_only(RED, blended) and is_only(RED, faded, 40)
    assert faded[0] < blended[0] < full - 20
    assert told["values"] == {"name": "grey", "color": [0.5, 0.5, 0.5, 1]}
    assert all(is_only(GREEN, color) for color in told["glowing"])
    assert all(is_black(color) for color in told["clipped"])
    lent, other = told["lent"]
    assert is_only(GREEN, lent) and is_grey(other)
    lent, other, name, valid = told["returned"]
    assert is_grey(lent) and is_grey(other) and name == "grey" and valid is False
    assert told["refusals"] == ["InvalidId", "InvalidParam", "InvalidParam", "InvalidUri", "InvalidParam"]


async def test_states_are_seen_and_the_nearest_counts(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "overrides", folder / "boxes.glb")
    assert all(is_grey(color) for color in told["plain"])
    left, right = told["tinted"]
    assert is_only(GREEN, left) and is_only(RED, right)
    left, right = told["hidden"]
    assert is_black(left) and is_grey(right)
    assert told["hits"] == [["left front"], []]
    assert told["refusals"] == ["InvalidParam", "InvalidParam"]
    assert all(is_grey(color) for color in told["opaque"])
    for state in ("seenThrough", "shell"):
        left, right = told[state]
        assert left[GREEN] > left[RED] + 20 and is_grey(right), state
    assert told["bare"] == 0
    assert 0.001 < told["outlined"] < 0.1
    assert all(is_grey(color) for color in told["inside"]), "an outline is around a part, not on it"


async def test_questions_are_answered_from_what_was_set(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "queries", folder / "boxes.glb")
    every, nearest, some, limited = told["rays"]
    assert [(hit["name"], hit["kind"], hit["complete"]) for hit in every] == [
        ("left", "front", True),
        ("left", "back", True),
    ]
    assert every[0]["position"] == pytest.approx([-1.1, 0.1, 0.5], abs=1e-4)
    assert every[0]["normal"] == pytest.approx([0, 0, 1], abs=1e-4)
    assert [hit["distance"] for hit in every] == pytest.approx([4.5, 5.5], abs=1e-4)
    assert nearest == limited == every[:1]
    assert len(some) == 1 and some[0]["name"] == "left" and some[0]["subPart"] == 0
    assert len(told["corners"]) == 3 and all(corner[2] == pytest.approx(0.5, abs=1e-5) for corner in told["corners"])
    ways = np.diff(np.array(told["corners"]), axis=0)
    assert np.cross(ways[0], ways[1])[2] > 0, "counter-clockwise, seen from the front"
    assert told["miss"] == 0
    assert told["overlaps"] == {
        "ball": ["left"],
        "hollow": [],
        "skin": ["left"],
        "all": ["left", "right"],
        "straight": [],
        "turned": ["left", "right"],
    }
    assert told["some"] == [1, True]
    assert told["enabled"] == ["left"]
    assert told["picked"] == ["left front"]
    assert told["moved"][0]["position"] == pytest.approx([-1.1, 0.1, -1.5], abs=1e-4)
    assert told["refusals"] == ["Cancelled", "InvalidParam"]


async def test_lights_light_what_they_reach(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "lights", folder / "boxes.glb", folder / "red.png")
    assert all(is_black(color) for color in told["dark"] + told["off"] + told["removed"])
    left, right = told["left"]
    assert is_only(GREEN, left) and is_black(right)
    left, right = told["right"]
    assert is_black(left) and is_only(GREEN, right)
    left, right = told["projected"]
    assert is_only(RED, left) and is_black(right)
    left, right = told["bulb"]
    assert is_only(BLUE, left, 60) and left[BLUE] > right[BLUE] + 20
    assert all(is_black(color) for color in told["cutOff"])
    assert all(is_only(RED, color) for color in told["sunny"]), told["sunny"]
    assert all(is_black(color) for color in told["behind"])
    assert told["kinds"] == ["directional", "spot"]
    assert told["refusals"] == ["InvalidId", "InvalidParam"]


async def test_cut_planes_cut_what_lies_beyond_them(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "cuts", folder / "boxes.glb")
    left, right = told["half"]
    assert is_grey(left) and is_black(right)
    assert all(is_grey(color) for color in told["moved"])
    assert all(is_black(color) for color in told["all"])
    left, right = told["masked"]
    assert is_black(left) and is_grey(right)
    far, near = told["fading"]
    assert is_grey(far) and near[GREEN] > near[RED] + 30
    assert max(told["inside"][0]) > 2 * BLACK and is_black(told["through"][0])
    assert is_grey(told["whole"][0])
    assert told["valid"] is False
    assert told["refusals"] == ["InvalidId", "InvalidParam"]


async def test_settings_of_the_whole_picture_are_seen(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "effects", folder / "boxes.glb")
        points = await drive(page, "points", folder / "points.arrAsset")
    left, right = told["plain"]
    assert is_grey(left) and is_only(GREEN, right)
    left, right = told["stage"]
    assert is_only(GREEN, left) and is_black(right)
    assert all(is_black(color) for color in told["near"])
    assert told["alone"] < 0.001 and told["quiet"] < 0.001 and told["fighting"] > 0.02
    for name, different in told["pictures"].items():
        assert different > 0.0005, name
    assert told["refusals"] == ["InvalidParam", "InvalidParam"]

    assert points["clouds"] == 1 and points["kinds"] == ["point"] and points["parts"] == [True]
    assert points["small"] > 0 and points["large"] > 2 * points["small"]


async def test_animations_play_and_leave_entities_alone(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "animations", folder / "boxes.glb")
    assert told["told"] == {"name": "lift", "duration": 2, "nodes": 1, "state": "stopped"}
    assert told["others"] == 0
    down, up = [is_grey, is_black], [is_black, is_grey]
    for name, expected in (("resting", down), ("lifted", up), ("held", down), ("reclaimed", up), ("stopped", down)):
        assert [check(color) for check, color in zip(expected, told[name], strict=True)] == [True, True], name
    assert told["bounds"]["min"][1] == pytest.approx(0.3, abs=1e-4)
    assert told["halfway"]["min"][1] == pytest.approx(-0.1, abs=1e-4)
    assert told["own"] == [-1, 0, 0] and told["hit"] == ["left front"]
    assert told["heights"] >= 5 and told["records"] >= 5
    assert told["paused"][0] == told["paused"][1]
    assert told["again"] == {"state": "paused", "speed": 0.5, "loop": "pingPong", "weight": 1}
    assert told["refusals"] == ["InvalidParam", "InvalidParam", "InvalidId"]


async def test_transforms_go_with_every_frame(open_service: RunningService, site: str, folder: Path) -> None:
    async with page_of(open_service, site) as page:
        told = await drive(page, "streaming", folder / "boxes.glb")
    assert told["heights"] >= 5
    old_left, left, old_right, right = told["last"]
    assert is_black(old_left) and is_grey(left) and is_black(old_right) and is_grey(right)
    assert told["local"] == [pytest.approx([-1, 0.8, 0]), pytest.approx([1, -0.8, 0])]
    assert told["told"]["min"] == pytest.approx([0.5, -1.3, -0.5], abs=1e-5)
    diagonal = 0.5**0.5
    assert told["turned"]["min"] == pytest.approx([1 - diagonal, -0.8 - diagonal, -0.5], abs=1e-4)
    assert told["refusals"] == ["InvalidParam", "InvalidParam"]


@pytest.mark.parametrize("mode", ["Default", "TileBasedComposition"])
async def test_both_sides_tell_how_it_goes_in_either_render_mode(
    open_service: RunningService, site: str, folder: Path, mode: str
) -> None:
    async with page_of(open_service, site, renderMode=mode) as page:
        told = await drive(page, "performance", folder / "boxes.glb")
    here, assessed, server = told["here"], told["assessed"], told["server"]
    assert here["videoFramesReceived"] > 2 and here["latencyPoseToReceive"] > 0
    assert here["latencyReceiveToPresent"] >= 0 and here["videoFrameMaxDelta"] >= here["videoFrameMinDelta"] >= 0
    assert here["videoFramesSkipped"] >= 0 and here["videoFramesDiscarded"] >= 0
    for name in ("timeCpu", "utilizationCpu", "memoryCpu", "networkLatency", "polygonsRendered"):
        assert assessed[name]["value"] > 0, name
        assert assessed[name]["rating"] in ("Great", "Good", "Mediocre", "Bad"), name
    assert assessed["polygonsRendered"] == {"value": 24, "rating": "Great"}
    assert server["triangles"] == 24 and server["models"] == 1 and server["framesArrived"] > 0
    assert told["way"]["kind"] == "webrtc"
    expected = "TileBasedComposition" if mode == "TileBasedComposition" else "DepthBasedComposition"
    assert told["renderMode"] == told["info"]["renderMode"] == server["renderMode"] == expected
