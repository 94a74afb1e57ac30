"""A real Chromium against the server's transport: negotiation, pixels, time stamps, channels and the end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Page, async_playwright

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.device import DeviceTransport, TransportConfig
from farframe.stream.encoder import H264Encoder
from tests.chromium import CHROMIUM, FLAGS

pytestmark = pytest.mark.browser

TOLERANCE = 10
"""Levels. Without a GPU Chromium converts by libyuv, whose blue coefficient for BT.709 saturates at 2.0, not 2.11."""

PAGE = """
async ({audio}) => {
  const pc = new RTCPeerConnection();
  const view = {pc, frames: [], records: [], controls: []};
  window.view = view;
  if (audio) pc.addTransceiver('audio', {direction: 'sendrecv'});
  pc.addTransceiver('video', {direction: 'recvonly'});
  view.control = pc.createDataChannel('control');
  view.pose = pc.createDataChannel('pose', {ordered: false, maxRetransmits: 0});
  const records = pc.createDataChannel('frames', {ordered: false, maxRetransmits: 0});
  records.binaryType = 'arraybuffer';
  records.onmessage = event => view.records.push(new TextDecoder().decode(event.data));
  view.control.onmessage = event => view.controls.push(event.data);
  const video = document.createElement('video');
  video.muted = video.autoplay = video.playsInline = true;
  document.body.append(video);
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 3;
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const shown = (now, meta) => {
    context.drawImage(video, 0, 0, video.videoWidth, video.videoHeight, 0, 0, 3, 3);
    view.frames.push({stamp: meta.rtpTimestamp, size: [meta.width, meta.height],
                      pixel: [...context.getImageData(1, 1, 1, 1).data]});
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  pc.ontrack = event => {
    event.receiver.jitterBufferTarget = 0;
    video.srcObject = new MediaStream([event.track]);
  };
  await pc.setLocalDescription();
  const answer = await window.whep(pc.localDescription.sdp);
  await pc.setRemoteDescription({type: 'answer', sdp: answer});
}
"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's Chromium at /usr/bin/chromium")
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=FLAGS
        )
        yield await context.new_page()
        await context.close()


def flat(colour: tuple[int, int, int]) -> Any:
    picture = np.full((180, 320, 4), 255, np.uint8)
    picture[..., :3] = colour
    return picture


@pytest.mark.parametrize("with_audio", [False, True], ids=["video only", "with an audio section to decline"])
async def test_chromium_shows_the_pictures_under_their_time_stamps(
    page: Page, make_handler: Any, eventually: Any, with_audio: bool
) -> None:
    handler = make_handler()
    devices: list[DeviceTransport] = []

    async def whep(offer: str) -> str:
        devices.append(await DeviceTransport.accept(offer, TransportConfig("127.0.0.1"), handler))
        return devices[0].answer_sdp

    await page.expose_function("whep", whep)
    await page.evaluate(PAGE, {"audio": with_audio})
    await asyncio.wait_for(handler.connected.wait(), 60)
    device = devices[0]
    device.send_control('{"from":"server"}')
    encoder = H264Encoder(640, 360, bitrate=2_000_000, max_bitrate=4_000_000)
    colours = [(200, 40, 30), (30, 160, 60), (40, 60, 220)]
    pts = 0
    try:
        for colour in colours:

            async def shown(colour: tuple[int, int, int] = colour) -> None:
                nonlocal pts
                while True:
                    wanted, handler.keyframe_requests = handler.keyframe_requests, 0
                    device.send_video(encoder.encode(flat(colour), pts, keyframe=pts == 0 or wanted > 0))
                    device.send_frame_record(str(pts).encode())
                    pts += 3000
                    await asyncio.sleep(1 / 30)
                    last = await page.evaluate("view.frames.at(-1)")
                    if last and np.abs(np.array(last["pixel"][:3]) - colour).max() <= TOLERANCE:
                        return

            await asyncio.wait_for(shown(), 60)
        frames = await page.evaluate("view.frames")
        assert {tuple(frame["size"]) for frame in frames} == {(640, 360)}
        stamps = [frame["stamp"] for frame in frames]
        assert stamps == sorted(stamps) and set(stamps) <= set(range(0, pts, 3000))

        await page.evaluate('view.control.send(\'{"from":"device"}\'); view.pose.send(new Uint8Array([1, 2, 3]))')
        await eventually(lambda: bool(handler.controls and handler.poses))
        assert (handler.controls, handler.poses) == (['{"from":"device"}'], [b"\1\2\3"])
        # Each channel has a way of its own: what was sent first need not be read first.
        await page.wait_for_function("view.controls.length > 0 && view.records.length > 0", timeout=60_000)
        assert await page.evaluate("view.controls") == ['{"from":"server"}']
        records = await page.evaluate("view.records")
        assert records and set(map(int, records)) <= set(range(0, pts, 3000))

        await page.evaluate("view.pc.close()")
        await eventually(lambda: bool(handler.closed))
        assert handler.closed == [Result.DISCONNECT_REQUEST]
    finally:
        await device.close()
        encoder.close()


async def test_chromium_restores_by_parities_what_is_lost_and_never_repeated(
    page: Page, make_handler: Any, make_line: Any, moving_picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One packet of twenty is lost, and nothing is sent again: only forward error correction can bring it back."""
    handler = make_handler()
    devices: list[DeviceTransport] = []
    seen_and_lost = [0, 0]

    def loses(data: bytes) -> bool:
        if len(data) < 12 or not 0x80 <= data[0] < 0xC0 or not devices:
            return False
        if data[1] & 0x7F != devices[0]._offer.codec.payload_type:
            return False
        seen_and_lost[0] += 1
        seen_and_lost[1] += seen_and_lost[0] % 20 == 0
        return seen_and_lost[0] % 20 == 0

    line = make_line(delay_seconds=0.03, loses=loses)

    async def whep(offer: str) -> str:
        without = re.sub(r"(?m)^a=candidate:.*\r?\n", "", offer)  # the only way is through the line
        devices.append(await DeviceTransport.accept(without, TransportConfig("127.0.0.1"), handler))
        for repeats in ("_repair", "_resend_newest", "_look_for_capacity"):
            monkeypatch.setattr(devices[0]._sender, repeats, lambda *_: None)
        answer: str = await line.open(devices[0].answer_sdp)
        return answer

    async def inbound() -> dict[str, Any]:
        report: dict[str, Any] = await page.evaluate(
            "async () => [...(await view.pc.getStats()).values()].find(report => report.type === 'inbound-rtp') || {}"
        )
        return report

    await page.expose_function("whep", whep)
    await page.evaluate(PAGE, {"audio": False})
    await asyncio.wait_for(handler.connected.wait(), 60)
    device = devices[0]
    encoder = H264Encoder(640, 360, bitrate=2_000_000, max_bitrate=4_000_000)
    index = 0

    async def send(frames: int) -> None:
        nonlocal index
        for _ in range(frames):
            wanted, handler.keyframe_requests = handler.keyframe_requests, 0
            picture = moving_picture(640, 360, index)
            device.send_video(encoder.encode(picture, 3000 * index, keyframe=index == 0 or wanted > 0))
            index += 1
            await asyncio.sleep(1 / 30)

    try:
        async with asyncio.timeout(60):
            while (await inbound()).get("fecPacketsReceived", 0) < 20:
                await send(10)
            keyframes = (await inbound())["keyFramesDecoded"]
            while (await inbound())["keyFramesDecoded"] == keyframes:
                await send(10)  # what was lost before the first parities costs a keyframe
        before, lost_before = await inbound(), seen_and_lost[1]
        await send(90)
        assert seen_and_lost[1] - lost_before >= 10
        after = await inbound()
        async with asyncio.timeout(60):
            while after["framesDecoded"] - before["framesDecoded"] < 75:  # the decoder may be behind
                await asyncio.sleep(0.05)
                after = await inbound()
        assert after["fecPacketsReceived"] > before["fecPacketsReceived"]
        assert after.get("retransmittedPacketsReceived", 0) == 0
    finally:
        await device.close()
        line.close()
        encoder.close()


async def test_a_chromium_without_h264_is_refused(page: Page, make_handler: Any) -> None:
    offer = await page.evaluate(
        """async () => {
          const pc = new RTCPeerConnection();
          const video = pc.addTransceiver('video', {direction: 'recvonly'});
          const codecs = RTCRtpReceiver.getCapabilities('video').codecs;
          video.setCodecPreferences(codecs.filter(codec => codec.mimeType === 'video/VP8'));
          pc.createDataChannel('control');
          await pc.setLocalDescription();
          return pc.localDescription.sdp;
        }"""
    )
    with pytest.raises(FarframeError) as caught:
        await DeviceTransport.accept(offer, TransportConfig("127.0.0.1"), make_handler())
    assert caught.value.result is Result.VIDEO_CODEC_NOT_AVAILABLE
