"""Encoders in hardware, and which encoder to use: probed at a server's start, bounded in time and safe from crashes.

    h264_nvenc    NVIDIA; compute cards (A100, H100) have no such engine, and desktop cards limit how many run at once
    h264_qsv      Intel
    h264_amf      AMD
    x264          always works

A driver that is broken may hang or crash. So the probe runs in a process of its own (``python -m
farframe.stream.hardware``), which encodes a few frames with each candidate and prints a line for each; what it has not
said by its end, or within :data:`PROBE_SECONDS`, does not work. Where the system shows no graphics device at all the
process is not even started. A hardware encoder that fails later is replaced by x264, with a keyframe.

Frames of another codec would come from another class behind :class:`farframe.stream.encoder.VideoEncoder`.
"""

from __future__ import annotations

import contextlib
import fractions
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import av
import numpy as np

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.encoder import AvEncoder, H264Encoder, VideoEncoder

PROBE_SECONDS = 10.0
PROBE_FRAMES = 4
PROBE_SIZE = (640, 360)
REOPEN_RATIO = 1.25
"""Where a codec cannot change its rate it is opened anew, with a keyframe, when the rate is off by this factor."""
REOPEN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class HardwareKind:
    """A hardware encoder of libavcodec: its options, and the device files of which one must exist on Linux."""

    codec: str
    pixel_format: str
    options: dict[str, str]
    devices: tuple[str, ...]
    changes_rate: bool
    """Whether it takes a new rate while it runs."""


KINDS: tuple[HardwareKind, ...] = (
    HardwareKind(
        "h264_nvenc",
        "nv12",
        {
            "preset": "p3",
            "tune": "ull",
            "zerolatency": "1",
            "delay": "0",
            "rc": "cbr",
            "forced-idr": "1",
            "profile": "baseline",
        },
        ("/dev/nvidiactl", "/dev/dxg"),
        changes_rate=True,
    ),
    HardwareKind(
        "h264_qsv",
        "nv12",
        {
            "preset": "veryfast",
            "async_depth": "1",
            "low_delay_brc": "1",
            "look_ahead": "0",
            "forced_idr": "1",
            "bf": "0",
            "profile": "baseline",
        },
        ("/dev/dri/renderD*", "/dev/dxg"),
        changes_rate=True,
    ),
    HardwareKind(
        "h264_amf",
        "nv12",
        {"usage": "ultralowlatency", "rc": "cbr", "forced_idr": "1", "profile": "constrained_baseline"},
        ("/dev/dri/renderD*", "/dev/dxg"),
        changes_rate=False,
    ),
)
"""In the order of preference."""


class HardwareEncoder(AvEncoder):
    """An encoder of libavcodec that runs in hardware. Parameters as :class:`AvEncoder`."""

    pixel_format: ClassVar[str] = "nv12"

    def __init__(
        self, kind: HardwareKind, width: int, height: int, *, frames_per_second: int, bitrate: int, max_bitrate: int
    ) -> None:
        self._kind = kind
        self._opened_rate = 0
        self._opened_at = 0.0
        super().__init__(
            kind.codec,
            width,
            height,
            frames_per_second=frames_per_second,
            bitrate=bitrate,
            max_bitrate=max_bitrate,
        )

    def _open(self) -> Any:
        rate = self._allowance.ceiling if self._kind.changes_rate else self._bitrate
        try:
            codec: Any = av.CodecContext.create(self._kind.codec, "w")
            codec.width = self.width
            codec.height = self.height
            codec.pix_fmt = self._kind.pixel_format
            codec.time_base = fractions.Fraction(1, 90_000)
            codec.framerate = fractions.Fraction(self.frames_per_second, 1)
            codec.bit_rate = rate
            codec.gop_size = (1 << 31) - 1
            codec.max_b_frames = 0
            codec.color_range = 1  # limited
            codec.colorspace = 1  # BT.709
            codec.color_primaries = 1
            codec.color_trc = 13  # sRGB
            codec.options = self._kind.options | {"bufsize": str(rate // self.frames_per_second + 1)}
            codec.open()
        except (av.FFmpegError, ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)  # without the list of all options
            raise FarframeError(Result.VIDEO_CODEC_NOT_AVAILABLE, f"{reason}") from error
        self._opened_rate = rate
        self._opened_at = time.monotonic()
        return codec

    def _tell_rate(self, bits_per_second: int) -> None:
        if self._kind.changes_rate:
            if self._codec.bit_rate != bits_per_second:
                self._codec.bit_rate = bits_per_second
            return
        ratio = max(self._bitrate, 1) / max(self._opened_rate, 1)
        off = ratio > REOPEN_RATIO or ratio < 1 / REOPEN_RATIO
        if off and time.monotonic() - self._opened_at > REOPEN_SECONDS:
            self.close()
            self._codec = self._open()


class MakeEncoder(Protocol):
    """What opens an encoder for a size; raises :class:`FarframeError` when it cannot."""

    def __call__(
        self, width: int, height: int, *, frames_per_second: int, bitrate: int, max_bitrate: int
    ) -> VideoEncoder:
        """Parameters as :class:`AvEncoder`."""


def _make_hardware(kind: HardwareKind) -> MakeEncoder:
    def make(width: int, height: int, *, frames_per_second: int, bitrate: int, max_bitrate: int) -> VideoEncoder:
        return HardwareEncoder(
            kind, width, height, frames_per_second=frames_per_second, bitrate=bitrate, max_bitrate=max_bitrate
        )

    return make


@dataclass
class EncoderChoice:
    """Which encoder a server uses, and why. ``make`` opens it; :meth:`give_up` changes to x264 for good."""

    name: str = "x264"
    reason: str = "nothing else was tried"
    make: MakeEncoder = field(default=H264Encoder, repr=False)

    @property
    def is_fallback(self) -> bool:
        """Whether this is x264, after which nothing comes."""
        return self.make is H264Encoder

    def give_up(self, error: Exception) -> None:
        """The encoder failed: use x264 from now on."""
        self.reason = f"{self.name} failed later: {error}"
        self.make = H264Encoder
        self.name = "x264"


def choose_encoder(
    kinds: Sequence[HardwareKind] = KINDS,
    *,
    probe: Callable[[Sequence[HardwareKind]], dict[str, str]] | None = None,
    device_exists: Callable[[str], bool] | None = None,
) -> EncoderChoice:
    """The best encoder that works here; blocks for up to :data:`PROBE_SECONDS`.

    ``probe`` returns for each codec why it does not work, an empty text if it does; ``device_exists`` looks for a
    device file, which may be a pattern.
    """
    exists = device_exists or _device_exists
    without = {
        kind.codec: f"no device {' or '.join(kind.devices)}" for kind in kinds if not any(map(exists, kind.devices))
    }
    candidates = [kind for kind in kinds if kind.codec not in without]
    found = (probe or probe_in_process)(candidates) if candidates else {}
    answers = without | found
    reasons = [f"{kind.codec}: {answers.get(kind.codec, 'not tried')}" for kind in kinds if answers.get(kind.codec)]
    for kind in candidates:
        if found.get(kind.codec) == "":
            earlier = "; ".join(reasons)
            return EncoderChoice(kind.codec, f"it works here{'; ' + earlier if earlier else ''}", _make_hardware(kind))
    choice = EncoderChoice(reason="; ".join(reasons) or "no other encoder is known")
    width, height = PROBE_SIZE
    encoder = choice.make(width, height, frames_per_second=60, bitrate=2_000_000, max_bitrate=4_000_000)
    try:
        encoder.encode(np.zeros((height, width, 4), np.uint8), 0, keyframe=True)
        choice.name = encoder.name
    finally:
        encoder.close()
    return choice


def _device_exists(pattern: str) -> bool:
    if sys.platform != "linux":
        return True  # devices are no files there: the probe tells
    path = Path(pattern)
    with contextlib.suppress(OSError):
        return any(path.parent.glob(path.name))
    return False


def probe_in_process(
    kinds: Iterable[HardwareKind],
    *,
    command: Sequence[str] = (sys.executable, "-m", "farframe.stream.hardware"),
    timeout_seconds: float = PROBE_SECONDS,
) -> dict[str, str]:
    """Try encoders in another process; for each codec why it does not work, or an empty text. Never raises."""
    names = [kind.codec for kind in kinds]
    output, end = "", "it ended early"
    try:
        done = subprocess.run(
            [*command, *names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_seconds,
            check=False,
        )
        output = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            end = f"the probe ended with {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode("utf-8", "replace")
        end = f"no answer within {timeout_seconds:g} s"
    except OSError as error:
        end = f"the probe did not start: {error}"
    answers: dict[str, str] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            said = json.loads(line)
            if said["codec"] in names:
                answers[said["codec"]] = str(said["problem"])[:300]
    return {name: answers.get(name, end) for name in names}


def try_encoder(kind: HardwareKind) -> str:
    """Encode a few frames in this process: why it does not work, or an empty text."""
    width, height = PROBE_SIZE
    try:
        encoder = HardwareEncoder(kind, width, height, frames_per_second=60, bitrate=2_000_000, max_bitrate=4_000_000)
        try:
            for index in range(PROBE_FRAMES):
                picture = np.full((height, width, 4), 40 * index, np.uint8)
                frame = encoder.encode(picture, index * 1500, keyframe=index == 2)
                if frame.keyframe != (index in (0, 2)):
                    return "it gives no keyframes on demand"
        finally:
            encoder.close()
    except Exception as error:  # whatever a driver comes up with
        return f"{error}" or type(error).__name__
    return ""


def main(names: Sequence[str]) -> None:
    """The probe's process: a line of JSON for each codec asked for, as soon as it is known."""
    av.logging.set_level(None)
    for kind in KINDS:
        if kind.codec in names:
            print(json.dumps({"codec": kind.codec, "problem": try_encoder(kind)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
