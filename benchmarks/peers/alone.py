"""Farframe's render and encode alone, in a process of its own; ``compare.py`` starts it and reads the last line.

alone ASSET ORBIT SECONDS                        frames a second of the frame loop with a device that takes all at once
quality ASSET ORBIT PICTURES.npz KILOBITS        draws the orbit in full, encodes it at so many a frame, tells
                                                 bits and PSNR
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import path
from benchmarks.peers.compare import QUALITY_PICTURES, QUALITY_STEP_DEGREES, WARM_UP_SECONDS, views
from farframe.asset.container import Asset
from farframe.asset.source import FileSource
from farframe.protocol.link import LoadLimits
from farframe.protocol.records import FrameRecord, PoseRecord, View
from farframe.render import Engine, FrameInput, Quality, RenderScene, prepare_asset
from farframe.render.quality import LADDER
from farframe.server.frame_loop import FrameLoop, VideoSettings, microseconds
from farframe.stream.encoder import CLOCK_RATE_HZ, EncodedFrame, H264Encoder

BITRATE = 6_000_000
FRAMES_PER_SECOND = 30


async def alone(asset: Path, poses: list[View], seconds: float) -> dict[str, Any]:
    """The server's own frame loop with 60 poses a second, and nobody who has to be waited for."""
    frames = FrameLoop(Engine.create)
    engine = await frames.engine()
    engine.warm_up()
    prepared = prepare_asset(Asset.open(FileSource(asset), LoadLimits()))

    def add(engine: Engine) -> None:
        frames.scene.add(engine.open_asset(prepared), np.eye(4))

    await frames.run(add)
    finished: list[tuple[float, int]] = []
    shown: set[int] = set()

    def sending(record: FrameRecord) -> None:
        shown.add(record.pose_id)

    def send(encoded: EncodedFrame) -> None:
        finished.append((time.perf_counter(), len(encoded.data)))

    video = VideoSettings(path.WIDTH, path.HEIGHT, 60, 4 * BITRATE)
    frames.open(video, BITRATE, send, sending, lambda: 0)
    begin = time.perf_counter()
    count_from, end = begin + WARM_UP_SECONDS, begin + WARM_UP_SECONDS + seconds
    sent = 0
    while (now := time.perf_counter()) < end:
        number = int((now - begin) * 60)
        if number > sent:
            sent = number
            frames.set_pose(PoseRecord(sent, microseconds(), (poses[sent % path.COMMANDS],)), microseconds())
        await asyncio.sleep(0.004)
    frames.close()
    await frames.stop()
    counted = [size for at, size in finished if at >= count_from]
    return {"fps": len(counted) / seconds, "kilobits_per_frame": sum(counted) * 8 / 1000 / max(len(counted), 1)}


def drawn(engine: Engine, scene: RenderScene, poses: list[View], quality: Quality) -> list[NDArray[np.uint8]]:
    """The orbit's pictures, (h, w, 4), with all detail that the quality wants."""
    pictures = []
    for number in range(QUALITY_PICTURES):
        wanted = FrameInput((poses[number * QUALITY_STEP_DEGREES],), path.WIDTH, path.HEIGHT, quality, scene)
        while True:
            frame = engine.render(wanted)
            rgba = frame.pixels.copy()
            frame.release()
            if engine.residency.idle:
                break
            while not (engine.residency.pending or engine.residency.idle):
                time.sleep(0.001)
            engine.residency.upload()
        pictures.append(rgba)
    return pictures


def coded(
    encoder_input: list[NDArray[np.uint8]], references: list[NDArray[np.uint8]], kilobits: float
) -> tuple[float, float]:
    """Encode at a rate and decode: mean bits of a frame, and mean PSNR against the references."""
    rate = int(kilobits * 1000 * FRAMES_PER_SECOND)
    encoder = H264Encoder(
        path.WIDTH, path.HEIGHT, frames_per_second=FRAMES_PER_SECOND, bitrate=rate, max_bitrate=max(2 * rate, BITRATE)
    )
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    bits, reached = [], []
    # Twice around: the first keyframe and the rate control's beginning are not what a stream is.
    for turn in range(2):
        for number, picture in enumerate(encoder_input):
            pts = (turn * len(encoder_input) + number) * CLOCK_RATE_HZ // FRAMES_PER_SECOND
            frame = encoder.encode(picture, pts, keyframe=pts == 0)
            (shown,) = decoder.decode(av.Packet(frame.data))
            if turn == 0 or number == 0:
                continue
            seen = shown.reformat(
                format="rgb24",
                src_colorspace="ITU709",
                dst_colorspace="ITU709",
                src_color_range="MPEG",
                dst_color_range="JPEG",
            ).to_ndarray()
            bits.append(len(frame.data) * 8)
            reached.append(path.psnr(references[number][..., :3], seen))
    encoder.close()
    return float(np.mean(bits)), float(np.mean(reached))


def quality(asset: Path, poses: list[View], target: Path, kilobits: float, width: int) -> dict[str, Any]:
    """What coding costs the full picture, and what is left of it in motion, when it is drawn ``width`` pixels wide.

    Writes ``pictures``: (n, h, w, 3) uint8.
    """
    engine = Engine.create()
    engine.warm_up()
    scene = RenderScene()
    scene.add(engine.open_asset(prepare_asset(Asset.open(FileSource(asset), LoadLimits()))), np.eye(4))
    full = drawn(engine, scene, poses, Quality())
    motion = [step for step in LADDER if abs(step.scale * path.WIDTH - width) < 8][-1]
    moving = drawn(engine, scene, poses, motion)
    engine.close()
    bits, reached = coded(full, full, kilobits)
    _, in_motion = coded(moving, full, kilobits)
    np.savez(target, pictures=np.stack([picture[..., :3] for picture in full]))
    return {
        "psnr_db": round(reached, 2),
        "kilobits_per_frame": round(bits / 1000, 1),
        "in_motion_psnr_db": round(in_motion, 2),
    }


def main(what: str, asset: str, orbit: str, *rest: str) -> None:
    """Do a part and print what came of it."""
    poses = views(path.Orbit(*json.loads(orbit)))
    if what == "alone":
        found = asyncio.run(alone(Path(asset), poses, float(rest[0])))
    else:
        found = quality(Path(asset), poses, Path(rest[0]), float(rest[1]), int(rest[2]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
