"""``./dev bench peers``: what Farframe delivers beside trame-rca, rendercanvas and Open3D's WebRTC server.

All are looked at through headless Chromium with the page that they bring along, at 1280x720, while commands turn the
camera 60 degrees a second (``path.py``); ``probe.js`` counts distinct pictures and the time from a command to its
picture. Rounds alternate between all of them, and medians are told. Farframe's render and encode alone run in the same
rounds, with neither network nor browser: the server's own frame loop with a device that takes everything at once.

Bits at equal quality: the pictures of Farframe's orbit, as drawn for the still picture, are encoded by Farframe's
encoder at a moderate rate, and by each peer's JPEG encoder at the quality that gives the same PSNR.
That quality is also what the peers' servers run with. Video peers choose their rate themselves; theirs is told as
delivered. Farframe gives up resolution and detail in motion where peers draw everything at each frame: what that costs
is told as the PSNR of the moving picture against the full one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.async_api import Browser, Page, async_playwright

from benchmarks.peers import environment, models, path
from farframe.client import RemoteRenderingClient, camera
from farframe.protocol.records import View
from tests.chromium import CHROMIUM, FLAGS
from tests.end_to_end.harness import start_service

HERE = Path(__file__).parent
SECONDS = 8.0
WARM_UP_SECONDS = 3.0
ROUNDS = 2
START_SECONDS = 90.0
AIMS = {"engine": 2.0, "million": 8.0, "of_alone": 0.9}
"""Farframe's frame rate by the best peer's, and by that of its own render and encode alone."""

QUALITY_KILOBITS = 120.0
"""A frame at 3.6 Mbit/s and 30 frames a second. Much beyond it, halved chroma limits the PSNR and bits buy nothing."""

QUALITY_PICTURES = 24
QUALITY_STEP_DEGREES = 2
"""60 degrees a second at 30 frames a second."""


@dataclass(frozen=True)
class Peer:
    """A server to compare with. ``selector`` finds what shows the picture, ``target`` what takes pointers."""

    name: str
    script: str
    mode: str
    selector: str
    target: str
    encoder: str | None
    """Which of ``quality.py``'s encoders its pictures go through; ``None`` if it sends video."""
    seconds: float = SECONDS
    every_round: bool = True


PEERS = (
    Peer("trame-rca, JPEG", "serve_trame.py", "jpeg", "img", "img", "pillow"),
    Peer("trame-rca, VP9", "serve_trame.py", "video", "canvas", "canvas", None),
    Peer("rendercanvas, pygfx", "serve_rendercanvas.py", "jpeg", "img", "img", "simplejpeg"),
    Peer("Open3D WebRTC", "serve_open3d.py", "video", "video", "video", None, 3 * SECONDS, False),
)
"""Open3D delivers so few pictures without a GPU that it is watched for longer, once."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(process: psutil.Process) -> float:
    """What a process and all its children have used so far."""
    spent = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = one.cpu_times()
            spent += times.user + times.system
    return spent


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A fresh headless Chromium."""
    async with async_playwright() as playwright:
        # Open3D's own page needs its server's address to be a candidate that can be resolved.
        flags = [*FLAGS, "--disable-features=WebRtcHideLocalIpsWithMdns"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=START_SECONDS * 1000)
        try:
            yield browser
        finally:
            await browser.close()


async def opened(browser: Browser, url: str) -> Page:
    """A page of the picture's size with the probe in it."""
    page = await browser.new_page(viewport={"width": path.WIDTH, "height": path.HEIGHT})
    page.set_default_timeout(START_SECONDS * 1000)
    await page.add_init_script(path=HERE / "probe.js")
    await page.goto(url, wait_until="commit")
    return page


async def until(look: Callable[[], Any], what: str) -> Any:
    """Until ``look`` (which may be a coroutine function) gives something true."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        value = look()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{what} did not come within {START_SECONDS:g} s")


async def moved(page: Page, server: psutil.Process, seconds: float = SECONDS) -> dict[str, Any]:
    """Move the camera and take what the probe saw; CPU of the server over the whole time, by its pictures."""
    before, begin = cpu_seconds(server), time.perf_counter()
    seen = await page.evaluate(
        "(settings) => window.peerProbe.run(settings)",
        {"seconds": seconds, "warmUp": WARM_UP_SECONDS, "commands": path.COMMANDS},
    )
    cores = (cpu_seconds(server) - before) / (time.perf_counter() - begin)
    frames = seen["distinct"]
    if not frames:
        raise RuntimeError("no picture followed a command")
    rate = frames / seen["seconds"]
    sent = seen["encoded"] or seen["wire"]
    return {
        "fps": rate,
        "latency_p50_ms": float(np.percentile(seen["latencies"], 50)),
        "latency_p95_ms": float(np.percentile(seen["latencies"], 95)),
        "longest_gap_ms": max(seen["gaps"], default=seconds * 1000),
        "cpu_ms_per_frame": cores * 1000 / rate,
        "kilobits_per_frame": sent * 8 / 1000 / frames,
    }


def probe_settings(peer: Peer) -> dict[str, Any]:
    """What the probe has to know about a peer's page."""
    return {
        "cells": path.CELLS,
        "cell": path.CELL,
        "selector": peer.selector,
        "target": peer.target,
        "firstX": path.FIRST_X,
    }


async def measure_peer(peer: Peer, mesh: Path, quality: int, log: Path) -> dict[str, Any]:
    """One round of a peer: server and browser from the start, so that nothing of a round is left for the next."""
    port = free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop yet
            [environment.python(), HERE / peer.script, mesh, str(port), peer.mode, str(quality)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment.variables(port),
        )
    server = psutil.Process(process.pid)
    try:

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{peer.script} ended: {log.read_text(errors='replace')[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        await until(answers, f"{peer.name}'s port")
        async with chromium() as browser:
            page = await opened(browser, f"http://127.0.0.1:{port}/")
            if "rendercanvas" in peer.script:
                # Its page shows a heading and a resizable canvas of 640x480; both are the page's, not the server's.
                await page.wait_for_selector("#canvas img")
                await page.evaluate(
                    """() => {
                        const view = document.querySelector("#canvas");
                        document.body.replaceChildren(view);
                        document.body.style.margin = "0";
                        view.style.cssText = "position:fixed;left:0;top:0;width:1280px;height:720px;border:0;margin:0";
                    }"""
                )
            elif "open3d" in peer.script:
                await page.wait_for_selector("video")
                await page.evaluate(
                    """() => {
                        const style = document.querySelector("video").style;
                        style.cssText = "position:fixed;left:0;top:0;width:1280px;height:720px;z-index:9;margin:0";
                    }"""
                )
            await page.wait_for_selector(peer.selector)
            await page.evaluate("(settings) => window.peerProbe.prepare(settings)", probe_settings(peer))

            async def answered() -> bool:
                await page.evaluate("() => window.peerProbe.send(7)")
                return bool(await page.evaluate("() => window.peerProbe.seen() === 7"))

            await until(answered, f"{peer.name}'s answer to a command")
            return await moved(page, server, peer.seconds)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def views(orbit: path.Orbit) -> list[View]:
    """Farframe's poses for all commands."""
    near, far = orbit.clip
    return [
        camera.look_at(
            orbit.eye(number),
            orbit.centre,
            vertical_fov_degrees=path.VERTICAL_FOV_DEGREES,
            aspect=path.WIDTH / path.HEIGHT,
            near=near,
            far=far,
        )
        for number in range(path.COMMANDS)
    ]


def for_page(view: View) -> dict[str, Any]:
    """A view as the browser client has it."""
    fov = view.fov
    return {
        "position": list(view.position),
        "orientation": list(view.orientation),
        "fieldOfView": {"left": fov.left, "right": fov.right, "up": fov.up, "down": fov.down},
        "near": view.near,
        "far": view.far,
    }


async def measure_farframe(asset: Path, orbit: path.Orbit, folder: Path) -> dict[str, Any]:
    """One round of Farframe: a service with its render server from the start, the viewer in Chromium."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        service = start_service(Path(name) / "data")
        try:
            async with RemoteRenderingClient.from_connection_file(service.connection_path) as client:
                uri = await client.upload(asset)
                async with client.leased() as session, chromium() as browser:
                    link = await client.create_viewer_link(session.id)
                    page = await opened(browser, link.url)
                    await page.wait_for_selector("body[data-state=connected]")
                    await page.evaluate(
                        """async ([uri, width, height]) => {
                            const connection = window.farframeViewer.connection;
                            await connection.configureVideo({ width, height });
                            await connection.loadModel(uri);
                        }""",
                        [uri, path.WIDTH, path.HEIGHT],
                    )
                    await page.evaluate(
                        "(settings) => window.peerProbe.prepare(settings)",
                        {"farframe": True, "views": [for_page(view) for view in views(orbit)]},
                    )

                    async def answered() -> bool:
                        await page.evaluate("() => window.peerProbe.send(7)")
                        return bool(await page.evaluate("() => window.peerProbe.seen() === 7"))

                    await until(answered, "Farframe's answer to a command")
                    # The page fits the picture to its stage, a little after that changes; the last word is ours.
                    await asyncio.sleep(1)
                    await page.evaluate(
                        "(size) => window.farframeViewer.connection.configureVideo(size)",
                        {"width": path.WIDTH, "height": path.HEIGHT},
                    )
                    found = await moved(page, psutil.Process(service.process.pid))
                    size = await page.evaluate(
                        "() => { const video = document.querySelector('video'); "
                        "return [video.videoWidth, video.videoHeight]; }"
                    )
                    if size != [path.WIDTH, path.HEIGHT]:
                        raise RuntimeError(f"the picture was {size[0]}x{size[1]}")
                    entry = await page.evaluate(
                        """() => {
                            const entries = window.farframeViewer.connection.ledger.entries;
                            const moving = entries.map((entry) => entry.record).filter((record) => !record.still);
                            const middle = moving[Math.floor(moving.length / 2)];
                            return [middle.drawnWidth, middle.drawnHeight, middle.triangles];
                        }"""
                    )
                    found |= {"drawn": entry[:2], "triangles": entry[2]}
                    return found
        finally:
            service.stop()


def in_own_process(*arguments: str) -> dict[str, Any]:
    """Run a part of this benchmark that draws in a process of its own; its last line is its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.alone", *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def median_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Each figure's median, and each round's frame rate."""
    merged: dict[str, Any] = {}
    for key, value in rounds[0].items():
        numbers = [one[key] for one in rounds]
        merged[key] = round(statistics.median(numbers), 2) if isinstance(value, float) else value
    return merged | {"fps_by_round": [round(one["fps"], 2) for one in rounds]}


def equal_quality(asset: Path, orbit: path.Orbit, trial: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Farframe's PSNR and bits on its own pictures, and what JPEG needs for the same."""
    pictures = folder / "pictures.npz"
    rate, width = str(min(QUALITY_KILOBITS, trial["kilobits_per_frame"])), str(trial["drawn"][0])
    ours = in_own_process("quality", str(asset), orbit.as_json(), str(pictures), rate, width)
    theirs = subprocess.run(
        [environment.python(), HERE / "quality.py", pictures, str(ours["psnr_db"])],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=environment.variables(0),
    )
    return {"farframe": ours} | json.loads(theirs.stdout.splitlines()[-1])


async def compare(name: str, mesh: Path, asset: Path, rounds: int, folder: Path) -> dict[str, Any]:
    """All figures for one model."""
    positions = np.load(mesh)["positions"]
    orbit = path.Orbit.around(positions.min(axis=0), positions.max(axis=0))
    trial = await measure_farframe(asset, orbit, folder)
    quality = equal_quality(asset, orbit, trial, folder)
    found: dict[str, list[dict[str, Any]]] = {"farframe": []}
    alone: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for turn in range(rounds):
        for peer in PEERS:
            if peer.name in failures or (turn and not peer.every_round):
                continue
            jpeg = quality[peer.encoder]["quality"] if peer.encoder else 0
            log = folder / f"{name}-{Path(peer.script).stem}-{peer.mode}.log"
            try:
                figures = await measure_peer(peer, mesh, jpeg, log)
            except Exception as error:
                failures[peer.name] = f"{type(error).__name__}: {error}"[:500]
                print(f"   {peer.name}: {failures[peer.name]}", flush=True)
                continue
            found.setdefault(peer.name, []).append(figures)
            print(f"   round {turn + 1}, {peer.name}: {figures['fps']:.1f} fps", flush=True)
        found["farframe"].append(await measure_farframe(asset, orbit, folder))
        alone.append(in_own_process("alone", str(asset), orbit.as_json(), str(SECONDS)))
        print(
            f"   round {turn + 1}, farframe: {found['farframe'][-1]['fps']:.1f} fps, alone {alone[-1]['fps']:.1f}",
            flush=True,
        )
    figures = {who: median_of(values) for who, values in found.items() if values}
    best = max((value["fps"], who) for who, value in figures.items() if who != "farframe")
    ours = figures["farframe"]
    ratios = {
        "best_peer": best[1],
        "fps_by_best_peer": round(ours["fps"] / best[0], 2),
        "fps_by_alone": round(ours["fps"] / statistics.median(one["fps"] for one in alone), 2),
    }
    return {
        "by": figures,
        "alone": median_of(alone),
        "equal_quality": quality,
        "ratios": ratios,
        "not_measured": failures,
    }


def show(name: str, figures: dict[str, Any]) -> None:
    """A table."""
    ours = figures["by"]["farframe"]
    print(f"\n{name}:")
    print(f"{'':22} {'fps':>6} {'ours by it':>10} {'p50 ms':>7} {'p95 ms':>7} {'CPU ms':>7} {'kbit':>7}")
    for who, value in sorted(figures["by"].items(), key=lambda item: -item[1]["fps"]):
        print(
            f"{who:22} {value['fps']:6.1f} {ours['fps'] / value['fps']:10.1f} {value['latency_p50_ms']:7.0f} "
            f"{value['latency_p95_ms']:7.0f} {value['cpu_ms_per_frame']:7.0f} {value['kilobits_per_frame']:7.0f}"
        )
    quality = figures["equal_quality"]
    print(f"render and encode alone: {figures['alone']['fps']} fps; {figures['ratios']}")
    print(
        f"at {quality['farframe']['psnr_db']} dB: "
        + ", ".join(f"{who} {value['kilobits_per_frame']} kbit" for who, value in quality.items())
    )


def run(quick: bool = False) -> dict[str, Any]:
    """Both models; ``quick`` one round each."""
    environment.python()
    figures: dict[str, Any] = {"aims": AIMS, "width": path.WIDTH, "height": path.HEIGHT}
    with tempfile.TemporaryDirectory(prefix="farframe-peers-") as name:
        folder = Path(name)
        for model_name, model in (("engine", models.cad_engine()), ("million", models.one_million(folder))):
            mesh, asset = models.write(model, folder, model_name)
            figures[model_name] = {"triangles": model.triangle_count, "instances": len(model.instance_part)}
            figures[model_name] |= asyncio.run(compare(model_name, mesh, asset, 1 if quick else ROUNDS, folder))
            show(model_name, figures[model_name])
    return figures
