"""Colours, from the rendered picture to what a device shows: encode, decode, compare with what went in.

The limit is what 8-bit limited-range YUV 4:2:0 can carry: a level of luma stands for 1.16 of RGB, one of chroma for up
to 2.1, and each is rounded.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.async_api import async_playwright

from farframe.client.frame import Frame
from farframe.stream.device import DeviceTransport, TransportConfig
from farframe.stream.encoder import H264Encoder
from tests.chromium import CHROMIUM, FLAGS

WIDTH, HEIGHT = 1280, 720
LEVELS = (0, 51, 102, 153, 204, 255)
CELL_WIDTH, CELL_HEIGHT, COLUMNS = 64, 48, 20
COLOURS = np.array([(r, g, b) for r in LEVELS for g in LEVELS for b in LEVELS])
CENTRES = [
    (index % COLUMNS * CELL_WIDTH + CELL_WIDTH // 2, index // COLUMNS * CELL_HEIGHT + CELL_HEIGHT // 2)
    for index in range(len(COLOURS))
]
STILLS = 12
"""Times that the picture is encoded before it counts: until it is sharp."""


def palette() -> NDArray[np.uint8]:
    """216 flat colours, as a renderer would give them: sRGB."""
    picture = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    for index, colour in enumerate(COLOURS):
        row, column = divmod(index, COLUMNS)
        top, left = row * CELL_HEIGHT, column * CELL_WIDTH
        picture[top : top + CELL_HEIGHT, left : left + CELL_WIDTH, :3] = colour
    return picture


def centres(image: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([image[y, x, :3] for x, y in CENTRES], np.int64)


def sharp(encoder: H264Encoder, decoder: Any, picture: NDArray[np.uint8]) -> av.VideoFrame:
    """The picture decoded after it has rested."""
    for index in range(STILLS):
        encoded = encoder.encode(picture, index * 9000, keyframe=index == 0, still=True)
        (decoded,) = decoder.decode(av.Packet(encoded.data))
    return decoded


@pytest.fixture
def pair() -> Any:
    encoder = H264Encoder(WIDTH, HEIGHT, bitrate=8_000_000, max_bitrate=12_000_000)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    yield encoder, decoder
    encoder.close()


def test_colours_reach_the_python_client_within_the_limit_of_eight_bits(pair: Any) -> None:
    decoded = sharp(*pair, palette())
    image = Frame(decoded, None, received_us=0, decoded_us=0, timings=None, is_still=True).image
    error = centres(image) - COLOURS
    assert np.abs(error).max() <= 2
    assert np.abs(error.mean(axis=0)).max() < 0.3, "rounded, not cut off"


def test_the_decoded_luma_and_chroma_are_those_of_bt709(pair: Any) -> None:
    planes = sharp(*pair, palette()).to_ndarray()
    luma = planes[:HEIGHT]
    blue, red = planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    r, g, b = COLOURS.T / 255
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    expected = np.stack([16 + 219 * y, 128 + 224 * (b - y) / 1.8556, 128 + 224 * (r - y) / 1.5748], axis=1)
    found = np.array([(luma[v, u], blue[v // 2, u // 2], red[v // 2, u // 2]) for u, v in CENTRES], float)
    assert np.abs(found - expected).max() <= 1.6, "half a level of rounding and one of coding"


def test_a_picture_drawn_smaller_keeps_its_colours(pair: Any) -> None:
    small = palette()[::2, ::2].copy()
    image = sharp(*pair, small).to_ndarray(format="rgb24")
    assert np.abs(centres(image) - COLOURS).max() <= 4


def test_a_shaded_picture_comes_through_visually_lossless(pair: Any) -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    for channel, scale in enumerate((90, 120, 150)):
        wave = 128 + 100 * np.sin(columns / scale) * np.cos(rows / (scale * 0.7))
        picture[..., channel] = wave.astype(np.uint8)
    image = sharp(*pair, picture).to_ndarray(format="rgb24")
    error = np.mean((image.astype(float) - picture[..., :3]) ** 2)
    assert 10 * np.log10(255**2 / error) > 42


PAGE = """
async () => {
  const pc = new RTCPeerConnection();
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.createDataChannel('control');
  const video = document.createElement('video');
  video.muted = video.autoplay = video.playsInline = true;
  document.body.append(video);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [1280, 720];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  window.read = points => {
    context.drawImage(video, 0, 0);
    const data = context.getImageData(0, 0, 1280, 720).data;
    return points.map(([x, y]) => [...data.slice((y * 1280 + x) * 4, (y * 1280 + x) * 4 + 3)]);
  };
  window.space = () => {
    const frame = new VideoFrame(video);
    const space = frame.colorSpace.toJSON();
    frame.close();
    return space;
  };
  pc.ontrack = event => { video.srcObject = new MediaStream([event.track]); };
  await pc.setLocalDescription();
  await pc.setRemoteDescription({type: 'answer', sdp: await window.whep(pc.localDescription.sdp)});
}
"""


def as_libyuv_shows(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """What Chromium shows without a GPU: libyuv keeps its coefficients as signed bytes of 1/64, so that the one from
    Cb to blue, 2.112 for limited-range BT.709, becomes 2.0 (``row_common.cc``: ``UB``). All others fit."""
    r, g, b = colours.T / 255
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    shown = colours.astype(float)
    shown[:, 2] = np.clip(255 * y + 2.0 * 224 * (b - y) / 1.8556, 0, 255)
    return shown


@pytest.mark.browser
async def test_chromium_shows_the_colours_but_for_the_blue_that_libyuv_cuts(tmp_path: Path, make_handler: Any) -> None:
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's Chromium at /usr/bin/chromium")
    handler = make_handler()
    devices: list[DeviceTransport] = []

    async def whep(offer: str) -> str:
        devices.append(await DeviceTransport.accept(offer, TransportConfig("127.0.0.1"), handler))
        return devices[0].answer_sdp

    encoder = H264Encoder(WIDTH, HEIGHT, bitrate=8_000_000, max_bitrate=12_000_000)
    picture, off, shown = palette(), np.full(1, 255.0), np.zeros_like(COLOURS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=FLAGS
        )
        page = await browser.new_page()
        await page.expose_function("whep", whep)
        await page.evaluate(PAGE)
        await asyncio.wait_for(handler.connected.wait(), 30)
        pts = 0
        async with asyncio.timeout(60):
            while off.max() > 4:
                for _ in range(10):
                    wanted, handler.keyframe_requests = handler.keyframe_requests, 0
                    devices[0].send_video(encoder.encode(picture, pts, keyframe=wanted > 0, still=True))
                    pts += 9000
                    await asyncio.sleep(0.1)
                shown = np.array(await page.evaluate("points => read(points)", CENTRES))
                off = np.minimum(np.abs(shown - COLOURS), np.abs(shown - as_libyuv_shows(COLOURS)))
        space = await page.evaluate("space()")
        await devices[0].close()
        await browser.close()
    encoder.close()
    assert np.abs(shown - COLOURS)[:, :2].max() <= 3, "red and green are right everywhere"
    assert space == {"fullRange": False, "matrix": "bt709", "primaries": "bt709", "transfer": "iec61966-2-1"}
