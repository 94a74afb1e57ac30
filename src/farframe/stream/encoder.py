"""RGBA pictures in, H.264 access units out, with no frame of delay: the seam, and x264 behind it.

    VideoEncoder        what the frame loop needs of an encoder; other codecs would fulfil it, too
    H264Encoder         x264 through PyAV; works everywhere
    hardware.py         NVENC, QSV and AMF, used where a probe at the server's start has shown that they work
    allowance.py        how many bits the next frame may have

Why x264 is set up as it is (figures in ``docs/benchmarks.md``):

* ``tune=zerolatency``: every picture comes back as one access unit from the very call that passed it in. It stands for
  ``rc-lookahead=0``, ``sync-lookahead=0``, no B-frames and slices as threads.
* ``preset=superfast`` under ``profile=baseline``: no CABAC and no 8x8 transform, so the stream is Constrained Baseline,
  which every H.264 decoder must take, whatever profile was negotiated; still about 2 dB better than ``ultrafast``. A
  machine with cores to spare takes ``veryfast``: 1 dB more for twice the time.
* ``forced-idr`` and ``repeat-headers``: a keyframe on demand carries its parameter sets, so a decoder can start there.
* Changing the rate must not cost a keyframe. libavcodec passes a new ``bit_rate`` on to a running x264 only while it
  stays below the rate it was opened with, so it is opened at the ceiling and turned down at once. (x264 changes the
  rate of constant-bitrate streams only, and then limits each frame by the new rate.)
* zerolatency's rate control counts frames, not seconds: it spends ``bit_rate / frames_per_second`` on each. Frames come
  at an uneven pace here (nothing is sent while nothing moves), so the rate that x264 is told is scaled by the pace
  (:class:`farframe.stream.allowance.BitAllowance`). Letting x264 do so itself (``force-cfr=0``) costs a frame of delay.
* The buffer is the least that holds a frame at the ceiling, and ``qpstep=16`` lets the quantizer follow a change of
  scene at once: the first frame after a still picture is 16 kB instead of 44 kB at 2 Mbit/s.
* The first keyframe after opening knows nothing about the picture and comes out far too large for a low rate (90 kB,
  and 160 kB more in the next seven frames, at 2 Mbit/s). So x264 encodes it a few times and only the last is kept.
"""

from __future__ import annotations

import contextlib
import fractions
import os
import struct
import time
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.allowance import MIN_BITRATE, BitAllowance

CLOCK_RATE_HZ = 90_000
"""Ticks a second of presentation and RTP time stamps (RFC 6184)."""

PRESET = "superfast"
SPACIOUS_PRESET = "veryfast"
SPACIOUS_CORES = 8
"""From so many cores on, the better preset costs nothing that another step would need."""

MAX_SIDE_PIXELS = 4096
MAX_THREADS = 4

LEAST_QUANTIZER = 16
"""No picture is encoded better than this, above 45 dB: nobody sees more, and on a fast line it costs only packets."""

SETTLING_FRAMES = 3
SETTLED_SECONDS = 0.15
"""A first keyframe is encoded anew, at most so often, while it is larger than what the line carries in that time."""

_QP_TO_LAMBDA = 118
"""libavcodec's ``FF_QP2LAMBDA``: its packets tell the quantizer multiplied by this."""

_TIME_BASE = fractions.Fraction(1, CLOCK_RATE_HZ)


@dataclass(slots=True)
class EncodedFrame:
    """One H.264 access unit.

    ``data`` is in Annex B format (start codes), ``pts`` counts 90 kHz ticks, ``encode_start`` and ``encode_end`` are
    ``time.perf_counter()`` seconds and include the conversion from RGBA. ``quantizer``: the mean QP, 0 (exact) to 51,
    ``None`` where the encoder does not tell.
    """

    data: bytes
    pts: int
    keyframe: bool
    encode_start: float
    encode_end: float
    quantizer: float | None = None


class VideoEncoder(Protocol):
    """A running encoder of fixed picture size. One thread at a time may encode; ``set_bitrate`` may come from any."""

    width: int
    height: int
    name: str
    max_bitrate: int

    def set_bitrate(self, bits_per_second: int) -> None:
        """Aim at another rate from the next frame on; see :meth:`AvEncoder.set_bitrate`."""

    def encode(self, rgba: NDArray[np.uint8], pts: int, *, keyframe: bool = False, still: bool = False) -> EncodedFrame:
        """One picture in, one access unit out; see :meth:`AvEncoder.encode`."""

    def close(self) -> None:
        """Release what it holds. A second call does nothing."""


class AvEncoder:
    """What encoders of libavcodec have in common: checks, colours, pace, one access unit for each picture.

    ``width`` and ``height`` are even, in pixels; ``bitrate`` and ``max_bitrate`` are bits per second, the latter is the
    ceiling for :meth:`set_bitrate`; ``frames_per_second`` is the fastest pace of frames.
    """

    pixel_format: ClassVar[str] = "yuv420p"

    def __init__(
        self, name: str, width: int, height: int, *, frames_per_second: int, bitrate: int, max_bitrate: int
    ) -> None:
        for side, value in (("width", width), ("height", height)):
            if value % 2 or not 16 <= value <= MAX_SIDE_PIXELS:
                raise FarframeError(
                    Result.INVALID_PARAM,
                    f"The video's {side} is {value} pixels; it must be even and from 16 to {MAX_SIDE_PIXELS}.",
                    next_step="Ask for another size.",
                )
        if frames_per_second < 1 or max_bitrate < MIN_BITRATE:
            raise FarframeError(
                Result.INVALID_PARAM, f"Video needs at least one frame and {MIN_BITRATE} bits a second."
            )
        self.width = width
        self.height = height
        self.name = name
        self.frames_per_second = frames_per_second
        self.max_bitrate = max_bitrate
        self._bitrate = 0
        self._last_pts: int | None = None
        self._reformatter = VideoReformatter()
        self._allowance = BitAllowance(frames_per_second, max_bitrate)
        self.set_bitrate(bitrate)
        self._codec: Any = self._open()

    # What kinds of encoders differ in ---------------------------------------------------------------------------

    def _open(self) -> Any:
        """A codec context, open. Raises :class:`FarframeError` (VideoCodecNotAvailable)."""
        raise NotImplementedError

    def _tell_rate(self, bits_per_second: int) -> None:
        """Make the codec spend ``bits_per_second / frames_per_second`` on the next frame."""
        raise NotImplementedError

    # What they share --------------------------------------------------------------------------------------------

    @property
    def bitrate(self) -> int:
        """Bits per second that the stream aims at."""
        return self._bitrate

    def set_bitrate(self, bits_per_second: int) -> None:
        """Aim at another rate from the next frame on, without a keyframe. Any thread may call this.

        The rate is limited to ``MIN_BITRATE`` .. ``max_bitrate``.
        """
        self._bitrate = max(MIN_BITRATE, min(int(bits_per_second), self.max_bitrate))

    def encode(self, rgba: NDArray[np.uint8], pts: int, *, keyframe: bool = False, still: bool = False) -> EncodedFrame:
        """Encode one picture.

        ``rgba`` has the shape (h, w, 4) with sRGB values, the top row first; a picture smaller or larger than the video
        is scaled to it in the same pass that converts it to BT.709 limited-range YUV 4:2:0. Rows may lie apart; pixels
        are read in place, without a copy. ``pts`` counts 90 kHz ticks and must grow from call to call. ``still`` says
        that nothing moves, so that the frame may take a larger share of the rate.
        """
        encode_start = time.perf_counter()
        if rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
            raise ValueError(f"expected an RGBA picture of uint8, not {rgba.shape} of {rgba.dtype}")
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"time stamps must grow: {pts} after {self._last_pts}")
        first, self._last_pts = self._last_pts is None, pts
        rate = self._bitrate
        self._tell_rate(self._allowance.rate(pts / CLOCK_RATE_HZ, rate, still=still))
        picture = self._convert(rgba)
        if first:
            self._settle(picture, rate, pts)
        packet = self._encode_one(picture, pts, keyframe=keyframe or first)
        quantizer, is_keyframe = _quantizer(packet), bool(packet.is_keyframe)
        self._allowance.spent(packet.size * 8, quantizer=quantizer, keyframe=is_keyframe)
        return EncodedFrame(bytes(packet), pts, is_keyframe, encode_start, time.perf_counter(), quantizer)

    def _convert(self, rgba: NDArray[np.uint8]) -> av.VideoFrame:
        if rgba.strides[1:] != (4, 1):
            rgba = np.ascontiguousarray(rgba)
        return self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(rgba, format="rgba"),
            self.width,
            self.height,
            self.pixel_format,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.FAST_BILINEAR,
        )

    def _settle(self, picture: av.VideoFrame, rate: int, pts: int) -> None:
        """Get the codec used to what the first picture is like, where it needs that."""

    def _encode_one(self, picture: av.VideoFrame, pts: int, *, keyframe: bool) -> av.Packet:
        picture.pts = pts
        picture.time_base = _TIME_BASE
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = self._codec.encode(picture)
        if len(packets) != 1:
            raise FarframeError(Result.FAIL, f"The video encoder returned {len(packets)} frames for one picture.")
        packet: av.Packet = packets[0]
        return packet

    def close(self) -> None:
        """Release the codec and its threads. A second call does nothing."""
        codec, self._codec = self._codec, None
        if codec is not None:
            with contextlib.suppress(av.FFmpegError, EOFError):
                codec.encode(None)  # lets it end its threads in order


class H264Encoder(AvEncoder):
    """A running x264. Parameters as :class:`AvEncoder`; ``threads`` slices a picture (``None``: as many as there are
    cores, four at most); ``preset`` is x264's (``None``: by the number of cores)."""

    def __init__(
        self,
        width: int,
        height: int,
        *,
        frames_per_second: int = 60,
        bitrate: int,
        max_bitrate: int,
        threads: int | None = None,
        preset: str | None = None,
    ) -> None:
        cores = os.cpu_count() or 1
        self._preset = preset or (SPACIOUS_PRESET if cores >= SPACIOUS_CORES else PRESET)
        self._threads = threads if threads is not None else min(MAX_THREADS, cores)
        self._told = 0
        super().__init__(
            f"x264 {self._preset}",
            width,
            height,
            frames_per_second=frames_per_second,
            bitrate=bitrate,
            max_bitrate=max_bitrate,
        )

    def _open(self) -> Any:
        ceiling = self._allowance.ceiling
        codec: Any = av.CodecContext.create("libx264", "w")
        codec.width = self.width
        codec.height = self.height
        codec.pix_fmt = self.pixel_format
        codec.time_base = _TIME_BASE
        codec.framerate = fractions.Fraction(self.frames_per_second, 1)
        codec.bit_rate = ceiling
        codec.thread_count = self._threads
        codec.gop_size = 1 << 30  # keyframes come on demand only
        codec.options = {
            "preset": self._preset,
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            "maxrate": str(ceiling),
            "bufsize": str(ceiling // self.frames_per_second + 1),
            "x264-params": f"repeat-headers=1:scenecut=0:qpstep=16:qpmin={LEAST_QUANTIZER}:vbv-init=0.5:"
            "fullrange=off:colorprim=bt709:transfer=iec61966-2-1:colormatrix=bt709",
        }
        try:
            codec.open()
        except (av.FFmpegError, ValueError) as error:
            raise FarframeError(
                Result.VIDEO_CODEC_NOT_AVAILABLE,
                f"The x264 encoder does not start: {error}.",
                next_step="Install PyAV from its wheel, which carries x264.",
            ) from error
        self._told = ceiling
        return codec

    def _tell_rate(self, bits_per_second: int) -> None:
        if bits_per_second != self._told:
            self._codec.bit_rate = self._told = bits_per_second

    def _settle(self, picture: av.VideoFrame, rate: int, pts: int) -> None:
        for step in range(SETTLING_FRAMES, 0, -1):
            packet = self._encode_one(picture, pts - step, keyframe=True)
            if packet.size * 8 <= rate * SETTLED_SECONDS:
                return


def _quantizer(packet: av.Packet) -> float | None:
    """The mean QP of an access unit, which libavcodec attaches to it (``AV_PKT_DATA_QUALITY_STATS``)."""
    if not packet.has_sidedata("quality_stats"):
        return None
    data = bytes(packet.get_sidedata("quality_stats"))
    return float(struct.unpack_from("<I", data)[0] / _QP_TO_LAMBDA) if len(data) >= 4 else None
