"""Encoder and transport alone: milliseconds and dB by preset; from drawn and from encoded to decodable.

``drawn -> X`` counts from the RGBA picture being handed to the encoder, ``encoded -> X`` from its return. ``decoded``
is the Python receiver's decoded picture; ``readable`` is the moment at which a page's ``requestVideoFrameCallback``
runs in headless Chromium, compositing included. Sender, receiver and browser share this machine's cores.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from farframe.stream.device import DeviceTransport, TransportConfig
from farframe.stream.encoder import H264Encoder
from farframe.stream.receiver import DecodedFrame, ReceiverTransport

SIZES = ((960, 540), (1280, 720))
PRESETS = ("ultrafast", "superfast", "veryfast")
BITRATE = 4_000_000
FRAMES_PER_SECOND = 30
CHROMIUM = Path("/usr/bin/chromium")

PAGE = """
async () => {
  const pc = new RTCPeerConnection();
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.createDataChannel('control');
  const video = document.createElement('video');
  video.muted = video.autoplay = true;
  document.body.append(video);
  window.shown = [];
  const callback = (now, meta) => {
    shown.push([meta.rtpTimestamp, performance.timeOrigin + performance.now()]);
    video.requestVideoFrameCallback(callback);
  };
  video.requestVideoFrameCallback(callback);
  pc.ontrack = event => {
    event.receiver.jitterBufferTarget = 0;
    video.srcObject = new MediaStream([event.track]);
  };
  await pc.setLocalDescription();
  const begin = performance.now();
  const connected = new Promise(resolve => {
    pc.onconnectionstatechange = () => pc.connectionState === 'connected' && resolve(performance.now() - begin);
  });
  await pc.setRemoteDescription({type: 'answer', sdp: await window.whep(pc.localDescription.sdp)});
  return await connected;
}
"""


def rendered_like(width: int, height: int, index: int) -> NDArray[np.uint8]:
    """A picture like a renderer's: a smooth background, shaded bodies with sharp edges and fine lines, turning."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.full((height, width, 4), 255, np.uint8)
    for channel, (base, slope) in enumerate(((52, 70), (58, 75), (66, 90))):
        picture[..., channel] = (base + slope * rows / height).astype(np.uint8)
    angle = index * 0.02
    scale = height / 720
    for body in range(40):
        turn = angle + body * 2.4
        radius = (60 + 7 * body) * scale
        x, y = width / 2 + radius * np.cos(turn) * 1.4, height / 2 + radius * np.sin(turn) * 0.9
        size = (24 + body % 7 * 9) * scale
        corners = [(x + size * np.cos(turn + k * np.pi / 3), y + size * np.sin(turn + k * np.pi / 3)) for k in range(6)]
        polygon = np.array(corners, np.float32).round().astype(np.int32)
        left, top = np.maximum(polygon.min(axis=0), 0)
        right, bottom = np.minimum(polygon.max(axis=0) + 1, (width, height))
        if right <= left or bottom <= top:
            continue
        region = picture[top:bottom, left:right]
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillPoly(mask, [polygon - (left, top)], 255, cv2.LINE_AA)
        light = (columns[top:bottom, left:right] - left) / max(size * 2, 1)
        grain = ((rows[top:bottom, left:right] * 7 + columns[top:bottom, left:right] * 13) % 11) * 1.5
        shade = (
            60 + 120 * light + grain + np.array([(body * 37) % 80, (body * 59) % 80, (body * 83) % 80])[:, None, None]
        )
        colour = np.moveaxis(np.clip(shade, 0, 255), 0, -1)
        weight = mask[..., None] / 255
        region[..., :3] = (region[..., :3] * (1 - weight) + colour * weight).astype(np.uint8)
        cv2.polylines(picture, [polygon], True, (20, 22, 26, 255), 1, cv2.LINE_AA)
    return picture


def percentiles(values: list[float]) -> dict[str, float]:
    """The median and the 95th percentile, rounded to 0.1 ms."""
    middle, high = np.percentile(values, [50, 95])
    return {"p50_ms": round(float(middle), 1), "p95_ms": round(float(high), 1)}


def measure_encoder(pictures: list[NDArray[np.uint8]], preset: str) -> dict[str, Any]:
    """Milliseconds per frame, conversion included, and luma PSNR at :data:`BITRATE`."""
    height, width = pictures[0].shape[:2]
    encoder = H264Encoder(width, height, bitrate=BITRATE, max_bitrate=12_000_000, preset=preset)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    times, ratios, size = [], [], 0
    count = 3 * len(pictures)
    for index in range(count):
        picture = pictures[_pendulum(index, len(pictures))]
        frame = encoder.encode(picture, index * 3000)
        times.append((frame.encode_end - frame.encode_start) * 1e3)
        size += len(frame.data)
        decoded = decoder.decode(av.Packet(frame.data))[0]
        if index > 15 and index % 4 == 0:
            rgb = picture[..., :3].astype(float)
            luma = 16 + (rgb @ (0.2126, 0.7152, 0.0722)) * 219 / 255
            error = np.mean((decoded.to_ndarray()[:height].astype(float) - luma) ** 2)
            ratios.append(10 * np.log10(255**2 / error))
    encoder.close()
    return percentiles(times[5:]) | {
        "psnr_db": round(float(np.mean(ratios)), 1),
        "mbit_per_s": round(size * 8 * FRAMES_PER_SECOND / count / 1e6, 2),
    }


def _pendulum(index: int, count: int) -> int:
    """There and back again, so that the picture never jumps."""
    return min(index % (2 * count - 2), 2 * count - 2 - index % (2 * count - 2))


class _Handler:
    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.keyframe = True

    def on_control(self, text: str) -> None: ...

    def on_pose(self, data: bytes) -> None: ...

    def on_connected(self) -> None:
        self.connected.set()

    def on_keyframe_request(self) -> None:
        self.keyframe = True

    def on_bitrate(self, bits_per_second: int) -> None: ...

    def on_closed(self, reason: str) -> None: ...


async def stream(
    device: DeviceTransport,
    handler: _Handler,
    pictures: list[NDArray[np.uint8]],
    count: int,
    clock: Callable[[], float],
) -> tuple[dict[int, tuple[float, float]], float]:
    """Send ``count`` frames; when each was drawn and encoded, by ``clock``, and the sender's CPU ms per frame."""
    height, width = pictures[0].shape[:2]
    encoder = H264Encoder(width, height, bitrate=BITRATE, max_bitrate=12_000_000)
    times: dict[int, tuple[float, float]] = {}
    sending = 0.0
    begin = time.monotonic()
    for index in range(count):
        keyframe, handler.keyframe = handler.keyframe, False
        drawn = clock()
        picture = pictures[_pendulum(index, len(pictures))]
        frame = await asyncio.to_thread(encoder.encode, picture, index * 3000, keyframe=keyframe)
        times[frame.pts] = (drawn, clock())
        before = time.thread_time()
        device._send_frame(frame)
        sending += time.thread_time() - before
        await asyncio.sleep(max(0.0, begin + (index + 1) / FRAMES_PER_SECOND - time.monotonic()))
    await asyncio.sleep(0.3)
    encoder.close()
    return times, sending / count * 1e3


async def measure_python(pictures: list[NDArray[np.uint8]], count: int) -> dict[str, Any]:
    """To the Python receiver."""
    handler = _Handler()
    frames: list[DecodedFrame] = []
    receiver = ReceiverTransport(bind_host="127.0.0.1", on_frame=frames.append)
    begin = time.monotonic()
    device = await DeviceTransport.accept(await receiver.create_offer(), TransportConfig(), handler)
    await receiver.accept_answer(device.answer_sdp)
    await handler.connected.wait()
    connect = (time.monotonic() - begin) * 1e3
    times, sending = await stream(device, handler, pictures, count, time.monotonic)
    await receiver.close()
    await device.close()
    seen = [(frame.decoded_at, *times[frame.rtp_timestamp]) for frame in frames[10:]]
    return {
        "connect_ms": round(connect, 1),
        "frames": len(frames),
        "drawn_to_decoded": percentiles([(at - drawn) * 1e3 for at, drawn, _ in seen]),
        "encoded_to_decoded": percentiles([(at - encoded) * 1e3 for at, _, encoded in seen]),
        "send_cpu_ms_per_frame": round(sending, 2),
    }


async def measure_chromium(pictures: list[NDArray[np.uint8]], count: int) -> dict[str, Any]:
    """To headless Chromium."""
    from playwright.async_api import async_playwright

    handler = _Handler()
    devices: list[DeviceTransport] = []

    async def whep(offer: str) -> str:
        devices.append(await DeviceTransport.accept(offer, TransportConfig(), handler))
        return devices[0].answer_sdp

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
    async with async_playwright() as playwright:
        with tempfile.TemporaryDirectory() as profile:
            browser = await playwright.chromium.launch_persistent_context(
                profile, executable_path=CHROMIUM, headless=True, args=flags
            )
            page = await browser.new_page()
            await page.expose_function("whep", whep)
            connect = await page.evaluate(PAGE)
            await asyncio.wait_for(handler.connected.wait(), 15)
            times, sending = await stream(devices[0], handler, pictures, count, time.time)
            shown = await page.evaluate("shown")
            await devices[0].close()
            await browser.close()
    seen = [(at / 1e3, *times[stamp]) for stamp, at in shown[10:]]
    return {
        "connect_ms": round(connect, 1),
        "frames": len(shown),
        "drawn_to_readable": percentiles([(at - drawn) * 1e3 for at, drawn, _ in seen]),
        "encoded_to_readable": percentiles([(at - encoded) * 1e3 for at, _, encoded in seen]),
        "send_cpu_ms_per_frame": round(sending, 2),
    }


def run(quick: bool) -> dict[str, Any]:
    """Measure everything, print it, and return it."""
    count = 90 if quick else 300
    figures: dict[str, Any] = {"bitrate": BITRATE, "frames_per_second": FRAMES_PER_SECOND, "encoder": {}, "path": {}}
    for width, height in SIZES:
        size = f"{width}x{height}"
        pictures = [rendered_like(width, height, index) for index in range(16 if quick else 40)]
        figures["encoder"][size] = {}
        for preset in PRESETS:
            result = measure_encoder(pictures, preset)
            figures["encoder"][size][preset] = result
            print(
                f"{size}  x264 {preset:<10} {result['p50_ms']:5.1f} ms (p95 {result['p95_ms']:.1f})  "
                f"{result['psnr_db']:.1f} dB at {result['mbit_per_s']} Mbit/s",
                flush=True,
            )
        paths = {"python": asyncio.run(measure_python(pictures, count))}
        if CHROMIUM.exists():
            paths["chromium"] = asyncio.run(measure_chromium(pictures, count))
        else:
            print(f"{size}  no Chromium at {CHROMIUM}: left out")
        figures["path"][size] = paths
        for name, result in paths.items():
            spans = {key: value for key, value in result.items() if isinstance(value, dict)}
            for span, value in spans.items():
                label = span.replace("_to_", " -> ")
                print(f"{size}  {name:<9} {label:<20} p50 {value['p50_ms']:5.1f} ms  p95 {value['p95_ms']:5.1f} ms")
            print(
                f"{size}  {name:<9} connected in {result['connect_ms']} ms; {result['frames']} of {count} frames; "
                f"{result['send_cpu_ms_per_frame']} ms CPU to send a frame",
                flush=True,
            )
    return figures
