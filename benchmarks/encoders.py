"""x264's settings on rendered pictures: milliseconds, quality, keyframes; and what this machine's own choice gives.

The pictures are those of the engine itself, of ``builtin://Engine`` in an orbit. CPU time is of the whole process, all
threads, and is what to compare on a machine that does other things, too. PSNR and SSIM are of luma, against the
picture that went into the encoder; conversion from RGBA is timed by itself.
"""

from __future__ import annotations

import fractions
import time
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from farframe.asset.builtin_engine import build_engine
from farframe.asset.lod import build_levels
from farframe.render import FULL_QUALITY, Engine, FrameInput, Quality, RenderScene
from farframe.server.frame_loop import SHARP_QUANTIZER
from farframe.stream.encoder import H264Encoder
from farframe.stream.hardware import KINDS, choose_encoder, probe_in_process
from tests.render.shapes import look_at

WIDTH, HEIGHT = 1280, 720
FRAMES_PER_SECOND = 30
NOMINAL_FRAMES_PER_SECOND = 60
"""What the encoder is opened for; it is told twice the rate for half as many frames, see ``stream/allowance.py``."""
CEILING = 60_000_000
"""Bits per second that the encoder is opened at for streams of up to 12 Mbit/s."""
STEP_DEGREES = 1.5
RATES = (2_000_000, 4_000_000, 8_000_000)
PRESETS = ("ultrafast", "superfast", "veryfast", "faster")
OPTIONS: dict[str, dict[str, str]] = {
    "1 thread": {"threads": "1"},
    "main profile, CABAC": {"profile": "main"},
    "high profile, CABAC": {"profile": "high"},
    "aq-mode=0": {"x264": "aq-mode=0"},
    "aq-mode=3": {"x264": "aq-mode=3"},
    "no deblocking": {"x264": "no-deblock=1"},
    "deblock=-2": {"x264": "deblock=-2,-2"},
    "intra refresh": {"x264": "intra-refresh=1:keyint=30"},
    "partitions=all": {"x264": "partitions=all"},
    "ref=2": {"x264": "ref=2"},
    "me=hex subme=2": {"x264": "me=hex:subme=2"},
}
"""Changes to the preset that is used, each by itself."""

Picture = NDArray[np.uint8]


def orbit(count: int) -> tuple[list[Picture], Picture]:
    """Pictures of a turn at one sample a pixel, and the first of them as the still picture is drawn."""
    engine = Engine.create("auto")
    try:
        engine.warm_up()
        model = build_levels(build_engine())
        scene = RenderScene()
        scene.add(engine.upload(model), np.eye(4))
        low, high = np.array(model.bounds_min), np.array(model.bounds_max)
        centre, distance = (low + high) / 2, float(np.linalg.norm(high - low)) * 1.1

        def draw(index: int, quality: Quality) -> Picture:
            angle = np.radians(20 + index * STEP_DEGREES)
            eye = centre + distance * np.array([np.sin(angle), 0.35, np.cos(angle)])
            view = look_at(eye, centre, near=distance * 0.01, far=distance * 10)
            frame = engine.render(FrameInput((view,), WIDTH, HEIGHT, quality, scene))
            pixels = frame.pixels.copy()
            frame.release()
            return pixels

        return [draw(index, Quality(samples=1)) for index in range(count)], draw(count - 1, FULL_QUALITY)
    finally:
        engine.close()


def psnr(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Decibels of luma."""
    error = float(np.mean((found[:HEIGHT].astype(np.float32) - wanted[:HEIGHT]) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Structural similarity of luma (Wang et al. 2004), with its Gaussian window."""
    a, b = found[:HEIGHT].astype(np.float32), wanted[:HEIGHT].astype(np.float32)

    def blur(plane: NDArray[np.float32]) -> Any:
        return cv2.GaussianBlur(plane, (11, 11), 1.5)

    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a * mean_a, blur(b * b) - mean_b * mean_b
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 6.5025, 58.5225
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(similarity / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))))


def converted(pictures: list[Picture]) -> list[NDArray[np.uint8]]:
    """The pictures as the encoder gets them."""
    encoder = H264Encoder(WIDTH, HEIGHT, bitrate=1_000_000, max_bitrate=2_000_000)
    planes = [encoder._convert(picture).to_ndarray() for picture in pictures]
    encoder.close()
    return planes


def measure_settings(
    planes: list[NDArray[np.uint8]], rate: int, preset: str, options: dict[str, str]
) -> dict[str, Any]:
    """One setting of x264 at one rate, there and back along the orbit."""
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.time_base = fractions.Fraction(1, 90_000)
    codec.framerate = fractions.Fraction(NOMINAL_FRAMES_PER_SECOND, 1)
    codec.bit_rate = CEILING
    codec.thread_count = int(options.get("threads", "2"))
    codec.gop_size = 1 << 30
    extra = f":{options['x264']}" if "x264" in options else ""
    codec.options = {
        "preset": preset,
        "tune": "zerolatency",
        "profile": options.get("profile", "baseline"),
        "forced-idr": "1",
        "maxrate": str(CEILING),
        "bufsize": str(CEILING // NOMINAL_FRAMES_PER_SECOND + 1),
        "x264-params": f"repeat-headers=1:scenecut=0:qpstep=16:vbv-init=0.5{extra}",
    }
    codec.open()
    codec.bit_rate = rate * NOMINAL_FRAMES_PER_SECOND // FRAMES_PER_SECOND
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    wall, cpu, sizes, ratios, similar = [], [], [], [], []
    keyframe_at = len(planes)
    for index in range(2 * len(planes) - 2):
        plane = planes[index if index < len(planes) else 2 * len(planes) - 2 - index]
        frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
        frame.pts, frame.time_base = index * 90_000 // FRAMES_PER_SECOND, codec.time_base
        frame.pict_type = PictureType.I if index in (0, keyframe_at) else PictureType.NONE
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        (packet,) = codec.encode(frame)
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
        sizes.append(packet.size)
        decoded = decoder.decode(packet)[0].to_ndarray()
        if index >= 20 and index % 6 == 0:
            ratios.append(psnr(decoded, plane))
            similar.append(ssim(decoded, plane))
    return {
        "cpu_ms": round(float(np.mean(cpu[5:])) * 1e3, 1),
        "wall_ms": round(float(np.median(wall)) * 1e3, 1),
        "psnr_db": round(float(np.mean(ratios)), 1),
        "ssim": round(float(np.mean(similar)), 4),
        "keyframe_kb": round(sizes[keyframe_at] / 1e3, 1),
        "mbit_per_s": round(sum(sizes[10:]) * 8 * FRAMES_PER_SECOND / len(sizes[10:]) / 1e6, 2),
    }


def measure_course(pictures: list[Picture], still: Picture, rate: int) -> dict[str, Any]:
    """The encoder as the server uses it: open, orbit, rest, move again."""
    encoder = H264Encoder(WIDTH, HEIGHT, bitrate=rate, max_bitrate=12_000_000)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    (wanted,) = converted([still])
    now = 0.0

    def send(picture: Picture, elapsed: float, *, at_rest: bool = False) -> tuple[int, float | None, Any]:
        nonlocal now
        now += elapsed
        frame = encoder.encode(picture, int(now * 90_000), still=at_rest)
        return len(frame.data), frame.quantizer, decoder.decode(av.Packet(frame.data))[0].to_ndarray()

    spacing = 1 / FRAMES_PER_SECOND
    begin = [send(picture, spacing)[0] for picture in pictures]
    refinements, sharp_after = [], None
    for step in range(24):
        size, quantizer, decoded = send(still, 0.3 if step == 0 else 0.1, at_rest=True)
        refinements.append((round(size / 1e3, 1), round(psnr(decoded, wanted), 1)))
        if sharp_after is None and refinements[-1][1] > 42:
            sharp_after = round(step * 0.1, 1)
        if quantizer is not None and quantizer <= SHARP_QUANTIZER:
            break
    again = [send(picture, spacing)[0] for picture in pictures[::-1]]
    encoder.close()
    share = rate / 8 * spacing
    return {
        "first_10_frames_by_rate": round(sum(begin[:10]) / (10 * share), 2),
        "above_42_db_after_s": sharp_after,
        "still_db": refinements[-1][1],
        "still_kb": round(sum(size for size, _ in refinements), 1),
        "moving_again_12_frames_by_rate": round(sum(again[:12]) / (12 * share), 2),
    }


def measure_conversion(pictures: list[Picture]) -> float:
    """CPU milliseconds from RGBA to what the encoder gets."""
    encoder = H264Encoder(WIDTH, HEIGHT, bitrate=1_000_000, max_bitrate=2_000_000)
    start = time.process_time()
    for picture in pictures:
        encoder._convert(picture)
    spent = time.process_time() - start
    encoder.close()
    return round(spent / len(pictures) * 1e3, 2)


def run(quick: bool = False) -> dict[str, Any]:
    """Measure and print."""
    pictures, still = orbit(24 if quick else 40)
    planes = converted(pictures)
    choice = choose_encoder()
    figures: dict[str, Any] = {
        "size": f"{WIDTH}x{HEIGHT}",
        "choice": {"name": choice.name, "reason": choice.reason},
        "probe": probe_in_process(KINDS),
        "conversion_cpu_ms": measure_conversion(pictures),
        "presets": [],
        "options": [],
        "course": {},
    }
    print(f"chosen: {choice.name} ({choice.reason}); conversion {figures['conversion_cpu_ms']} ms")
    for codec, problem in figures["probe"].items():
        print(f"  {codec}: {problem or 'works'}")
    for preset in PRESETS:
        for rate in RATES:
            row = {"preset": preset, "rate": rate} | measure_settings(planes, rate, preset, {})
            figures["presets"].append(row)
            print(row, flush=True)
    for name, options in OPTIONS.items():
        row = {"option": name} | measure_settings(planes, RATES[1], "superfast", options)
        figures["options"].append(row)
        print(row, flush=True)
    for rate in (1_000_000, *RATES):
        figures["course"][str(rate)] = measure_course(pictures, still, rate)
        print(rate, figures["course"][str(rate)], flush=True)
    return figures
