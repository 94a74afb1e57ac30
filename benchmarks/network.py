"""The stream in bad weather: a real service and render server, headless Chromium, and a seeded UDP proxy between them.

A page connects over WebRTC through the proxy, loads the converted ``builtin://Engine`` and moves the camera along a
committed path, 60 poses a second, while the weather happens. For each picture the page notes when its decoder gave it
out, and by its RTP time stamp finds the frame record, hence the pose: latency counts from that pose's being sent to the
decoded picture, render, encoder, network and jitter buffer included, with one clock. One picture a second is kept whole
and compared with what the server had rendered for it (luma PSNR).

A *freeze* is a time of more than 200 ms without a new picture while the camera moves. Weather in which the line changes
is judged phase by phase.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from benchmarks.converted import converted_engine
from benchmarks.network_proxy import Condition
from farframe.client import RemoteRenderingClient, Session
from farframe.client._handshake import shake_hands
from farframe.client.camera import look_at
from farframe.protocol.records import PoseRecord, decode_frame, encode_pose
from tests.chromium import CHROMIUM, FLAGS
from tests.end_to_end.harness import RunningService, start_service

MODEL = "builtin://Engine"
WIDTH, HEIGHT = 1280, 720
POSES_PER_SECOND = 60
SETTLE_SECONDS = 3.0
"""Of motion before the weather begins, which are not counted."""

FREEZE_MS = 200.0
HERE = Path(__file__).parent


@dataclass
class Phase:
    """A part of a run that is judged by itself, in seconds after the weather's beginning."""

    name: str
    begin: float
    end: float


@dataclass
class Weather:
    """One run."""

    name: str
    seconds: float
    conditions: list[Condition]
    phases: list[Phase] = field(default_factory=list)
    parities: bool = True
    """Whether forward error correction may be agreed; without, to see what it brings."""


MBIT = 1e6
WEATHERS = (
    Weather("clean", 20, [Condition()]),
    Weather("5 % loss, 50 ms", 30, [Condition(loss=0.05, delay_seconds=0.025)]),
    Weather("5 % loss, 50 ms, no error correction", 30, [Condition(loss=0.05, delay_seconds=0.025)], parities=False),
    Weather("2 % loss in bursts of 6, 30 ms", 20, [Condition(loss=0.02, burst=6, delay_seconds=0.015)]),
    Weather("jitter 8 ms, 40 ms", 20, [Condition(delay_seconds=0.016, jitter_seconds=0.008)]),
    Weather(
        "8 -> 1.5 -> 8 Mbit/s, 20 ms",
        36,
        [
            Condition(at=0, delay_seconds=0.01, bits_per_second=8 * MBIT),
            Condition(at=12, delay_seconds=0.01, bits_per_second=1.5 * MBIT),
            Condition(at=24, delay_seconds=0.01, bits_per_second=8 * MBIT),
        ],
        [
            Phase("8 Mbit/s", 3, 12),
            Phase("the drop", 12, 13.5),
            Phase("1.5 Mbit/s", 13.5, 24),
            Phase("the rise", 24, 29),
            Phase("8 again", 29, 36),
        ],
    ),
    Weather(
        "gone for 3 s, 20 ms",
        18,
        [
            Condition(at=0, delay_seconds=0.01),
            Condition(at=6, delay_seconds=0.01, down=True),
            Condition(at=9, delay_seconds=0.01),
        ],
        [Phase("before", 0, 6), Phase("gone", 6, 9), Phase("back", 9, 10), Phase("after", 10, 18)],
    ),
)

CONNECT = """
async ({width, height, model}) => {
  const pc = new RTCPeerConnection();
  const {receiver} = pc.addTransceiver('video', {direction: 'recvonly'});
  const control = pc.createDataChannel('control');
  const pose = pc.createDataChannel('pose', {ordered: false, maxRetransmits: 0});
  const frames = pc.createDataChannel('frames', {ordered: false, maxRetransmits: 0});
  frames.binaryType = 'arraybuffer';
  const state = window.state = {decoded: [], records: [], pictures: [], keeps: false, pc, pose};
  if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
  const video = document.createElement('video');
  video.muted = video.autoplay = true;
  document.body.append(video);
  pc.ontrack = async event => {
    video.srcObject = new MediaStream([event.track]);
    const reader = new MediaStreamTrackProcessor({track: event.track}).readable.getReader();
    let second = -1;
    for (;;) {
      const {value: picture, done} = await reader.read();
      if (done) return;
      const at = performance.now();
      const stamp = picture.metadata().rtpTimestamp;
      state.decoded.push([stamp, at, picture.codedWidth, picture.codedHeight]);
      if (state.keeps && Math.floor(stamp / 90000) !== second) {
        const data = new Uint8Array(picture.allocationSize());
        const entry = {stamp, width: picture.codedWidth, height: picture.codedHeight, format: picture.format, data};
        picture.copyTo(data).then(layout => {
          entry.stride = layout[0].stride;
          entry.offset = layout[0].offset;
          state.pictures.push(entry);
          picture.close();
        });
      } else picture.close();
      second = Math.floor(stamp / 90000);
    }
  };
  frames.onmessage = event => state.records.push(event.data);
  const waiting = new Map();
  let next = 1;
  const call = (method, params) => new Promise((resolve, reject) => {
    waiting.set(next, {resolve, reject});
    control.send(JSON.stringify({jsonrpc: '2.0', id: next++, method, params}));
  });
  state.call = call;
  control.onmessage = event => {
    const message = JSON.parse(event.data);
    const entry = waiting.get(message.id);
    if (!entry) return;
    waiting.delete(message.id);
    if (message.error) entry.reject(new Error(JSON.stringify(message.error)));
    else entry.resolve(message.result);
  };
  const opened = new Promise(resolve => { control.onopen = resolve; });
  await pc.setLocalDescription();
  await pc.setRemoteDescription({type: 'answer', sdp: await window.whep(pc.localDescription.sdp)});
  await opened;
  await call('connection.open', {protocol: 1, client: 'benchmark', width, height, maxFramesPerSecond: 60});
  return await call('scene.loadModel', {uri: model});
}
"""

MOVE = """
({poses, size, perSecond}) => {
  const bytes = Uint8Array.from(atob(poses), c => c.charCodeAt(0));
  const count = bytes.length / size;
  const state = window.state;
  state.targets = [];
  state.watch = setInterval(async () => {
    const {targetBitrate} = await state.call('statistics.get', {});
    state.targets.push([performance.now(), targetBitrate]);
  }, 500);
  const began = performance.now();
  let sent = 0, last = -1, sentAt = 0, unheardSince, seen = state.records.length;
  // As the client's PoseSender does it: ever fewer poses while nothing comes back.
  const heldBack = now => {
    if (state.records.length !== seen) unheardSince = undefined;
    seen = state.records.length;
    unheardSince ??= now;
    const silence = now - unheardSince - 250;
    return silence > 0 && now - sentAt < Math.min(silence / 6, 300);
  };
  const step = () => {
    const now = performance.now();
    const place = Math.floor((now - began) / 1000 * perSecond);
    if (place !== last && state.pose.readyState === 'open' && state.pose.bufferedAmount < 4096 && !heldBack(now)) {
      last = place;
      sentAt = now;
      const record = bytes.slice((place % count) * size, (place % count + 1) * size);
      const view = new DataView(record.buffer);
      view.setUint32(4, ++sent, true);
      view.setBigUint64(8, BigInt(Math.floor(now * 1000)), true);
      state.pose.send(record);
    }
    state.timer = setTimeout(step, 4);
  };
  step();
}
"""

MARK = "() => { window.state.keeps = true; return performance.now(); }"

FINISH = """
async () => {
  const state = window.state;
  clearTimeout(state.timer);
  clearInterval(state.watch);
  const stats = {};
  for (const report of (await state.pc.getStats()).values())
    if (report.type === 'inbound-rtp') Object.assign(stats, report);
  const encode = buffer => {
    let text = '';
    const bytes = new Uint8Array(buffer);
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  };
  return {
    decoded: state.decoded,
    targets: state.targets,
    records: state.records.map(encode),
    pictures: state.pictures.map(({data, stride, offset, height, ...rest}) =>
      ({...rest, height, stride, luma: encode(data.subarray(offset, offset + stride * height))})),
    stats: {
      freezes: stats.freezeCount, dropped: stats.framesDropped, nacks: stats.nackCount, plis: stats.pliCount,
      parities: stats.fecPacketsReceived || 0,
      lost: stats.packetsLost, retransmitted: stats.retransmittedPacketsReceived, fec: stats.fecPacketsReceived,
      jitterBufferMs: 1000 * stats.jitterBufferDelay / stats.jitterBufferEmittedCount,
      decodeMs: 1000 * stats.totalDecodeTime / stats.framesDecoded, keyframes: stats.keyFramesDecoded,
    },
  };
}
"""


def camera_poses(bounds: dict[str, Any]) -> bytes:
    """Pose records along the committed path, once around; ids and times are filled in by the page."""
    path = json.loads((HERE / "network_path.json").read_text())
    low, high = np.array(bounds["min"]), np.array(bounds["max"])
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    points = path["points"]
    count = int(path["seconds"] * POSES_PER_SECOND)
    records = []
    for step in range(count):
        place = step / count * (len(points) - 1)
        index, share = int(place), place - int(place)
        share = share * share * (3 - 2 * share) * 0.5 + share * 0.5
        a, b = points[index], points[index + 1]

        def between(name: str, a: dict[str, Any] = a, b: dict[str, Any] = b, share: float = share) -> float:
            return float(a[name] + (b[name] - a[name]) * share)

        azimuth, elevation = math.radians(between("azimuth_degrees")), math.radians(between("elevation_degrees"))
        direction = np.array(
            [
                math.sin(azimuth) * math.cos(elevation),
                math.sin(elevation),
                math.cos(azimuth) * math.cos(elevation),
            ]
        )
        target = centre + radius * (np.array(a["target"]) * (1 - share) + np.array(b["target"]) * share)
        eye = target + radius * between("distance") * direction
        view = look_at(
            tuple(map(float, eye)),
            tuple(map(float, target)),
            aspect=WIDTH / HEIGHT,
            vertical_fov_degrees=path["vertical_fov_degrees"],
            near=radius * 0.02,
            far=radius * 20,
        )
        records.append(encode_pose(PoseRecord(0, 0, (view,))))
    return b"".join(records)


class ProxyProcess:
    """The proxy, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.network_proxy"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **wish: Any) -> dict[str, Any]:
        """Say something; returns the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(5)


def percentiles(values: list[float]) -> dict[str, float | None]:
    """p50, p95 and p99, rounded to 0.1; ``None`` for nothing."""
    if not values:
        return {"p50": None, "p95": None, "p99": None}
    return {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 95, 99)}


def luma_of(rgba: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    """Luma of a rendered picture, converted and scaled to the video's size as the encoder does it."""
    picture = VideoReformatter().reformat(
        av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgba), format="rgba"),
        width,
        height,
        "yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.FAST_BILINEAR,
    )
    return picture.to_ndarray()[:height].astype(np.float32)


def quality_of(pictures: list[dict[str, Any]], folder: Path) -> list[tuple[int, float]]:
    """Time stamp and luma PSNR in dB of each kept picture that the server's own picture is known for."""
    found = []
    for picture in pictures:
        path = folder / f"{picture['stamp']}.npy"
        if not path.exists() or not picture["format"].startswith(("I420", "NV12")):
            continue
        width, height, stride = picture["width"], picture["height"], picture["stride"]
        luma = np.frombuffer(base64.b64decode(picture["luma"]), np.uint8).reshape(height, stride)[:, :width]
        rendered = luma_of(np.load(path), WIDTH, HEIGHT)
        if (height, width) != rendered.shape:
            luma = cv2.resize(luma, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        error = float(np.mean((luma.astype(np.float32) - rendered) ** 2))
        found.append((picture["stamp"], 10 * math.log10(255**2 / max(error, 1e-3))))
    return found


def judge(
    result: dict[str, Any], quality: list[tuple[int, float]], mark: float, begin: float, end: float
) -> dict[str, Any]:
    """Figures of one phase; ``begin`` and ``end`` in seconds after ``mark``, a time of the page in milliseconds."""
    records = {}
    for text in result["records"]:
        record = decode_frame(base64.b64decode(text))
        records[record.rtp_timestamp] = record
    low, high = mark + begin * 1e3, mark + end * 1e3
    times = sorted(at for _, at, _, _ in result["decoded"])
    inside = [at for at in times if low <= at <= high]
    before = max((at for at in times if at < low), default=low)
    gaps = [later - earlier for earlier, later in itertools.pairwise([before, *inside, high])]
    # Server and browser are on one machine and read the same clock, from different origins.
    origin = min(record.pose_received_us / 1e3 - record.client_time_us / 1e3 for record in records.values())
    latencies, server, carried, sizes, shown_bytes = [], [], [], [], 0
    stamps = set()
    for stamp, at, _, _ in result["decoded"]:
        record = records.get(stamp)
        if record is None or not low <= at <= high:
            continue
        stamps.add(stamp)
        latencies.append(at - record.client_time_us / 1e3)
        server.append(record.sent_us / 1e3)
        carried.append(at - ((record.pose_received_us + record.sent_us) / 1e3 - origin))
        sizes.append((record.width, record.height))
        shown_bytes += record.encoded_bytes
    decibels = [value for stamp, value in quality if stamp in stamps]
    return {
        "frames_per_second": round(len(inside) / (end - begin), 1),
        "latency_ms": percentiles(latencies),
        "server_ms": percentiles(server),
        "sent_to_decoded_ms": percentiles(carried) | {"max": round(max(carried), 1) if carried else None},
        "longest_gap_ms": round(max(gaps), 0),
        "freezes": sum(gap > FREEZE_MS for gap in gaps),
        "video_mbit_per_s": round(shown_bytes * 8 / (end - begin) / 1e6, 2),
        "target_mbit_per_s": mean_target(result["targets"], low, high),
        "psnr_db": round(float(np.mean(decibels)), 1) if decibels else None,
        "psnr_worst_db": round(min(decibels), 1) if decibels else None,
        "sizes": sorted({f"{width}x{height}" for width, height in sizes}),
        "latencies": len(latencies),
    }


def mean_target(targets: list[tuple[float, int]], low: float, high: float) -> float | None:
    """The mean of what the server aimed at between two times, Mbit/s."""
    values = [rate for at, rate in targets if low <= at <= high]
    return round(float(np.mean(values)) / 1e6, 2) if values else None


async def run_weather(
    browser: Any,
    client: RemoteRenderingClient,
    session: Session,
    proxy: ProxyProcess,
    weather: Weather,
    folder: Path,
    uri: str,
) -> dict[str, Any]:
    """One run on a page of its own."""
    for old in folder.glob("*.npy"):
        old.unlink()
    resources: list[str] = []

    async def whep(offer: str) -> str:
        without = re.sub(r"(?m)^a=candidate:.*\r?\n", "", offer)  # the only way is through the proxy
        if not weather.parities:
            without = re.sub(r"(?m)^a=rtpmap:\d+ flexfec-03/90000\r?\n", "", without)
        handshake = await shake_hands(client._http, session.properties, without, False)
        resources.append(handshake.resource_url)
        answer = handshake.answer_sdp
        match = re.search(r"(?m)^a=candidate:\S+ 1 udp \d+ ([\d.]+) (\d+) typ host", answer)
        assert match, answer
        weather_lines = [asdict(condition) for condition in weather.conditions]
        port = proxy.ask(server=[match[1], int(match[2])], weather=weather_lines, seed=7)["port"]
        candidate = f"a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host\r\n"
        head, _, rest = answer.partition(match[0])
        rest = rest[rest.index("\r\n") + 2 :]
        return re.sub(r"(?m)^a=candidate:.*\r?\n", "", head) + candidate + re.sub(r"(?m)^a=candidate:.*\r?\n", "", rest)

    page = await browser.new_page()
    try:
        await page.expose_function("whep", whep)
        model = await page.evaluate(CONNECT, {"width": WIDTH, "height": HEIGHT, "model": uri})
        poses = camera_poses(model["bounds"])
        size = len(poses) // int(len(poses) / len(encode_pose_of_one_view()))
        move = {"poses": base64.b64encode(poses).decode(), "size": size, "perSecond": POSES_PER_SECOND}
        await asyncio.sleep(1.0)
        await page.evaluate(MOVE, move)
        await asyncio.sleep(SETTLE_SECONDS)
        mark = await page.evaluate(MARK)
        proxy.ask(begin=True)
        begun = time.monotonic()
        await asyncio.sleep(weather.seconds)
        counts = proxy.ask(count=True)
        elapsed = time.monotonic() - begun
        result = await page.evaluate(FINISH)
        statistics = await page.evaluate("() => window.state.call('statistics.get', {}).catch(error => String(error))")
    finally:
        for url in resources:
            await client._http.request("DELETE", url, idempotent=False, accept_errors=True)
        await page.close()
    quality = await asyncio.to_thread(quality_of, result["pictures"], folder)
    phases = weather.phases or [Phase("all", 0, weather.seconds)]
    return {
        "conditions": [asdict(condition) for condition in weather.conditions],
        "phases": {phase.name: judge(result, quality, mark, phase.begin, phase.end) for phase in phases},
        "wire_mbit_per_s": round(counts["carried_bytes"] * 8 / elapsed / 1e6, 2),
        "proxy": counts,
        "browser": result["stats"],
        "targets": [(round((at - mark) / 1e3, 1), rate) for at, rate in result["targets"] if at >= mark],
        "statistics": statistics,
        "steady_after_s": steady_after(result, mark, weather),
        "load_average": round(os.getloadavg()[0], 1),
    }


def encode_pose_of_one_view() -> bytes:
    """A record as long as each of the path's."""
    view = look_at((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), aspect=1.0, near=0.1, far=10.0)
    return encode_pose(PoseRecord(0, 0, (view,)))


def steady_after(result: dict[str, Any], mark: float, weather: Weather) -> dict[str, float]:
    """For each change of the line: seconds until no gap is longer than 200 ms any more (for the three that follow)."""
    times = sorted(at for _, at, _, _ in result["decoded"])
    found = {}
    for condition in weather.conditions[1:]:
        begin = mark + condition.at * 1e3
        last = begin
        for earlier, later in itertools.pairwise(times):
            if begin <= later <= begin + 5000 and later - earlier > FREEZE_MS:
                last = later
        found[f"{condition.at:g}"] = round((last - begin) / 1e3, 2)
    return found


async def measure(names: list[str] | None, quick: bool) -> dict[str, Any]:
    """All weathers, one after the other, with one service."""
    from playwright.async_api import async_playwright

    figures: dict[str, Any] = {"model": f"{MODEL}, converted", "width": WIDTH, "height": HEIGHT, "weathers": {}}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as profile:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        path = os.pathsep.join([str(HERE / "network_hook"), *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = {"PYTHONPATH": path, "NETWORK_BENCHMARK_PICTURES": str(pictures)}
        service: RunningService = start_service(Path(folder) / "data", settings=settings)
        proxy = ProxyProcess()
        try:
            async with (
                RemoteRenderingClient.from_connection_file(service.connection_path) as client,
                async_playwright() as playwright,
            ):
                uri = await client.upload(await asyncio.to_thread(converted_engine))
                session = await client.create_session(lease_minutes=30)
                await session.wait_until_ready()
                browser = await playwright.chromium.launch_persistent_context(
                    profile, executable_path=CHROMIUM, headless=True, args=FLAGS
                )
                for weather in WEATHERS:
                    if names and not any(name in weather.name for name in names):
                        continue
                    if quick and not weather.phases:
                        weather.seconds = min(weather.seconds, 10)
                    run = await run_weather(browser, client, session, proxy, weather, pictures, uri)
                    figures["weathers"][weather.name] = run
                    show(weather.name, run)
                await browser.close()
                await session.stop()
        finally:
            proxy.close()
            service.stop()
    return figures


def show(name: str, run: dict[str, Any]) -> None:
    """Print one run."""
    browser = run["browser"]
    print(
        f"{name}: {run['wire_mbit_per_s']} Mbit/s on the wire, {run['proxy']['lost']} lost, "
        f"{run['proxy']['overflowed']} overflowed, queue p95 {run['proxy']['queue_p95_ms']} ms, "
        f"{browser['nacks']} asked again, {browser['plis']} PLI, {browser['parities']} parities, "
        f"jitter buffer {browser['jitterBufferMs']:.1f} ms, "
        f"load {run['load_average']}, steady after {run['steady_after_s']}"
    )
    for phase, figures in run["phases"].items():
        latency, server, carried = figures["latency_ms"], figures["server_ms"], figures["sent_to_decoded_ms"]
        print(
            f"   {phase:<12} {figures['frames_per_second']:5.1f} fps  pose -> decoded p50 {latency['p50']} "
            f"p95 {latency['p95']} p99 {latency['p99']} ms (in the server p50 {server['p50']}; sent -> "
            f"decoded p50 {carried['p50']} p95 {carried['p95']} max {carried['max']})  "
            f"longest gap {figures['longest_gap_ms']:.0f} ms, {figures['freezes']} freezes  "
            f"{figures['video_mbit_per_s']} of {figures['target_mbit_per_s']} Mbit/s  "
            f"{figures['psnr_db']} dB (worst {figures['psnr_worst_db']})  {' '.join(figures['sizes'])}",
            flush=True,
        )


def run(quick: bool = False, names: list[str] | None = None) -> dict[str, Any]:
    """Measure and print."""
    figures = asyncio.run(measure(names, quick))
    clean = figures["weathers"].get("clean", {}).get("phases", {}).get("all")
    if clean and clean["latency_ms"]["p50"]:
        for name, weather in figures["weathers"].items():
            for phase, entry in weather["phases"].items():
                if entry["latency_ms"]["p50"]:
                    ratio = entry["latency_ms"]["p50"] / clean["latency_ms"]["p50"]
                    print(f"latency against clean: {ratio:.2f}  {name}, {phase}")
    return figures


if __name__ == "__main__":
    print(json.dumps(run(names=sys.argv[1:])))
