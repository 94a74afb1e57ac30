"""RGBA pictures in, H.264 access units out, with no frame of delay.

The encoder is x264 through PyAV. Why it is set up as it is (figures in ``docs/streaming.md``):

* ``tune=zerolatency``: every picture comes back as one access unit from the very call that passed it in.
* ``preset=superfast`` under ``profile=baseline``: no CABAC and no 8x8 transform, so the stream is Constrained Baseline,
  which every H.264 decoder must take, whatever profile was negotiated; still about 2 dB better than ``ultrafast``.
* ``forced-idr`` and ``repeat-headers``: a keyframe on demand carries its parameter sets, so a decoder can start there.
* Changing the rate must not cost a keyframe. libavcodec passes a new ``bit_rate`` on to a running x264 only while it
  stays below the rate it was opened with, so it is opened at the ceiling and turned down at once.
* zerolatency's rate control counts frames, not seconds: it spends ``bit_rate / frames_per_second`` on each. Frames come
  at an uneven pace here (nothing is sent while nothing moves), so the spacing of the time stamps is averaged and the
  rate that x264 is told is scaled by it. Letting x264 do this itself (``force-cfr=0``) costs one frame of delay.
"""

from __future__ import annotations

import contextlib
import fractions
import os
import time
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result

CLOCK_RATE_HZ = 90_000
"""Ticks a second of presentation and RTP time stamps (RFC 6184)."""

PRESET = "superfast"
MAX_SIDE_PIXELS = 4096
MIN_BITRATE = 100_000

_SLOWEST_FRAMES_PER_SECOND = 12
"""Below this pace a frame does not get a larger share of the rate."""

_LONGEST_SPACING_SECONDS = 0.2
"""A longer gap is a pause (nothing moved), and says nothing about the pace of frames."""

_SPACING_SMOOTHING = 0.1
_RATE_TOLERANCE = 0.03
_BUFFER_SECONDS = 0.15
"""How much of the ceiling rate a single frame may take; bounds a keyframe's size and so its time on the wire."""

_TIME_BASE = fractions.Fraction(1, CLOCK_RATE_HZ)


@dataclass(slots=True)
class EncodedFrame:
    """One H.264 access unit.

    ``data`` is in Annex B format (start codes), ``pts`` counts 90 kHz ticks, ``encode_start`` and ``encode_end`` are
    ``time.perf_counter()`` seconds and include the conversion from RGBA.
    """

    data: bytes
    pts: int
    keyframe: bool
    encode_start: float
    encode_end: float


class H264Encoder:
    """A running x264 of fixed picture size. One thread at a time may encode.

    ``width`` and ``height`` are even, in pixels; ``bitrate`` and ``max_bitrate`` are bits per second, the latter is the
    ceiling for :meth:`set_bitrate`; ``frames_per_second`` is the fastest pace of frames; ``threads`` slices a picture
    (``None``: as many as there are cores, four at most).
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        frames_per_second: int = 60,
        bitrate: int,
        max_bitrate: int,
        threads: int | None = None,
        preset: str = PRESET,
    ) -> None:
        for name, value in (("width", width), ("height", height)):
            if value % 2 or not 16 <= value <= MAX_SIDE_PIXELS:
                raise FarframeError(
                    Result.INVALID_PARAM,
                    f"The video's {name} is {value} pixels; it must be even and from 16 to {MAX_SIDE_PIXELS}.",
                    next_step="Ask for another size.",
                )
        if frames_per_second < 1 or max_bitrate < MIN_BITRATE:
            raise FarframeError(
                Result.INVALID_PARAM, f"Video needs at least one frame and {MIN_BITRATE} bits a second."
            )
        self.width = width
        self.height = height
        self.name = f"x264 {preset}"
        self.frames_per_second = frames_per_second
        self.max_bitrate = max_bitrate
        self._bitrate = 0
        self._spacing_seconds = 1 / frames_per_second
        self._last_pts: int | None = None
        self._reformatter = VideoReformatter()
        headroom = max(1.0, frames_per_second / _SLOWEST_FRAMES_PER_SECOND)
        self._codec = _open_x264(
            width,
            height,
            frames_per_second,
            int(max_bitrate * headroom),
            max(int(max_bitrate * _BUFFER_SECONDS), int(max_bitrate * headroom / frames_per_second)),
            threads if threads is not None else min(4, os.cpu_count() or 1),
            preset,
        )
        self._codec_rate = int(max_bitrate * headroom)
        self._codec_rate_ceiling = self._codec_rate
        self.set_bitrate(bitrate)

    @property
    def bitrate(self) -> int:
        """Bits per second that the stream aims at."""
        return self._bitrate

    def set_bitrate(self, bits_per_second: int) -> None:
        """Aim at another rate from the next frame on, without a keyframe. Any thread may call this.

        The rate is limited to ``MIN_BITRATE`` .. ``max_bitrate``.
        """
        self._bitrate = max(MIN_BITRATE, min(int(bits_per_second), self.max_bitrate))

    def _apply_bitrate(self) -> None:
        wanted = int(self._bitrate * self.frames_per_second * self._spacing_seconds)
        wanted = max(MIN_BITRATE, min(wanted, self._codec_rate_ceiling))
        if abs(wanted - self._codec_rate) > _RATE_TOLERANCE * self._codec_rate:
            self._codec.bit_rate = wanted
            self._codec_rate = wanted

    def _follow_pace(self, pts: int) -> None:
        if self._last_pts is not None:
            spacing = (pts - self._last_pts) / CLOCK_RATE_HZ
            if spacing <= _LONGEST_SPACING_SECONDS:
                self._spacing_seconds += _SPACING_SMOOTHING * (spacing - self._spacing_seconds)
        self._last_pts = pts

    def encode(self, rgba: NDArray[np.uint8], pts: int, *, keyframe: bool = False) -> EncodedFrame:
        """Encode one picture.

        ``rgba`` has the shape (h, w, 4) with sRGB values, the top row first; a picture smaller or larger than the video
        is scaled to it in the same pass that converts it to BT.709 limited-range YUV 4:2:0. Rows that touch each other
        are read in place, without a copy. ``pts`` counts 90 kHz ticks and must grow from call to call.
        """
        encode_start = time.perf_counter()
        if rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
            raise ValueError(f"expected an RGBA picture of uint8, not {rgba.shape} of {rgba.dtype}")
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"time stamps must grow: {pts} after {self._last_pts}")
        self._follow_pace(pts)
        self._apply_bitrate()
        source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgba), format="rgba")
        picture = self._reformatter.reformat(
            source,
            self.width,
            self.height,
            "yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.FAST_BILINEAR,
        )
        picture.pts = pts
        picture.time_base = _TIME_BASE
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = self._codec.encode(picture)
        if len(packets) != 1:
            raise FarframeError(Result.FAIL, f"The video encoder returned {len(packets)} frames for one picture.")
        return EncodedFrame(bytes(packets[0]), pts, bool(packets[0].is_keyframe), encode_start, time.perf_counter())

    def close(self) -> None:
        """Release x264 and its threads. A second call does nothing."""
        codec, self._codec = self._codec, None
        if codec is not None:
            with contextlib.suppress(av.FFmpegError, EOFError):
                codec.encode(None)  # lets x264 end its threads in order


def _open_x264(
    width: int, height: int, frames_per_second: int, rate: int, buffer_bits: int, threads: int, preset: str
) -> Any:
    """A libx264 codec context, opened at ``rate`` bits per second as this module's docstring explains."""
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.width = width
    codec.height = height
    codec.pix_fmt = "yuv420p"
    codec.time_base = _TIME_BASE
    codec.framerate = fractions.Fraction(frames_per_second, 1)
    codec.bit_rate = rate
    codec.thread_count = threads
    codec.gop_size = 1 << 30  # keyframes come on demand only
    codec.options = {
        "preset": preset,
        "tune": "zerolatency",
        "profile": "baseline",
        "forced-idr": "1",
        "maxrate": str(rate),
        "bufsize": str(buffer_bits),
        "x264-params": "repeat-headers=1:scenecut=0:fullrange=off:colorprim=bt709:transfer=bt709:colormatrix=bt709",
    }
    try:
        codec.open()
    except (av.FFmpegError, ValueError) as error:
        raise FarframeError(
            Result.VIDEO_CODEC_NOT_AVAILABLE,
            f"The x264 encoder does not start: {error}.",
            next_step="Install PyAV from its wheel, which carries x264.",
        ) from error
    return codec
