"""Which encoder is chosen, and that a broken driver harms nobody. x264 stands in for encoders that need a device."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

import av
import numpy as np
import pytest

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.hardware import (
    KINDS,
    HardwareEncoder,
    HardwareKind,
    choose_encoder,
    probe_in_process,
    try_encoder,
)

STAND_IN = HardwareKind(
    "libx264",
    "nv12",
    {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "forced-idr": "1"},
    ("/dev/null",),
    changes_rate=False,
)
BROKEN = replace(STAND_IN, codec="h264_that_nobody_has")


def works(*codecs: str) -> object:
    def probe(kinds: Sequence[HardwareKind]) -> dict[str, str]:
        return {kind.codec: "" if kind.codec in codecs else "no such engine" for kind in kinds}

    return probe


def test_without_a_device_nothing_is_probed_and_the_reason_is_told() -> None:
    def never(kinds: Sequence[HardwareKind]) -> dict[str, str]:
        raise AssertionError("probed without a device")

    choice = choose_encoder(probe=never, device_exists=lambda pattern: False)
    assert choice.name.startswith("x264 ")
    assert choice.is_fallback
    assert all(kind.codec in choice.reason for kind in KINDS)
    assert "/dev/nvidiactl" in choice.reason


def test_the_first_that_works_is_taken_and_the_reason_tells_of_those_before() -> None:
    choice = choose_encoder(probe=works("h264_qsv", "h264_amf"), device_exists=lambda pattern: True)  # type: ignore[arg-type]
    assert choice.name == "h264_qsv"
    assert not choice.is_fallback
    assert "h264_nvenc: no such engine" in choice.reason
    assert "h264_amf" not in choice.reason


def test_a_probe_that_says_nothing_leaves_x264() -> None:
    choice = choose_encoder(probe=lambda kinds: {}, device_exists=lambda pattern: True)
    assert choice.is_fallback
    encoder = choice.make(320, 180, frames_per_second=30, bitrate=500_000, max_bitrate=1_000_000)
    assert encoder.encode(np.zeros((180, 320, 4), np.uint8), 0).keyframe
    encoder.close()


def test_what_gave_up_is_replaced_for_good() -> None:
    choice = choose_encoder(probe=works("h264_nvenc"), device_exists=lambda pattern: True)  # type: ignore[arg-type]
    choice.give_up(RuntimeError("too many sessions"))
    assert choice.is_fallback
    assert choice.reason == "h264_nvenc failed later: too many sessions"


def answering(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import json, os, sys, time\n{script}")


def test_a_driver_that_crashes_takes_only_the_probe_with_it() -> None:
    line = json.dumps({"codec": KINDS[0].codec, "problem": ""})
    script = f"print({line!r}, flush=True); os._exit(139)"
    answers = probe_in_process(KINDS, command=answering(script))
    assert answers[KINDS[0].codec] == "", "what was said before counts"
    assert answers[KINDS[1].codec] == "the probe ended with 139"


def test_a_driver_that_hangs_is_left_behind() -> None:
    script = "print('no JSON'); print('[]'); print(json.dumps({'codec': 'x'}), flush=True); time.sleep(600)"
    answers = probe_in_process(KINDS, command=answering(script), timeout_seconds=1.5)
    assert set(answers.values()) == {"no answer within 1.5 s"}


def test_a_probe_that_cannot_start_is_told() -> None:
    answers = probe_in_process(KINDS, command=("/nowhere/python",))
    assert all("did not start" in answer for answer in answers.values())


def test_the_real_probe_answers_for_all() -> None:
    answers = probe_in_process(KINDS, timeout_seconds=120)
    assert set(answers) == {kind.codec for kind in KINDS}
    for codec, problem in answers.items():
        assert "ended" not in problem
        assert "answer" not in problem, f"{codec}: {problem}"


def test_an_encoder_is_tried_with_a_keyframe_on_demand() -> None:
    assert try_encoder(STAND_IN) == ""
    assert "h264_that_nobody_has" in try_encoder(BROKEN)
    without = {key: value for key, value in STAND_IN.options.items() if key != "tune"}
    assert "returned 0 frames" in try_encoder(replace(STAND_IN, options=without)), "one that holds frames back"


def test_a_codec_that_cannot_change_its_rate_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farframe.stream.hardware.REOPEN_SECONDS", 0.0)
    encoder = HardwareEncoder(STAND_IN, 640, 360, frames_per_second=30, bitrate=4_000_000, max_bitrate=8_000_000)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    random = np.random.default_rng(5)
    pictures = [random.integers(0, 255, (360, 640, 4), dtype=np.uint8) for _ in range(4)]
    keyframes = []
    for index in range(12):
        if index == 4:
            encoder.set_bitrate(3_800_000)
        if index == 8:
            encoder.set_bitrate(1_000_000)
        frame = encoder.encode(pictures[index % 4], index * 3000)
        keyframes.append(frame.keyframe)
        assert len(decoder.decode(av.Packet(frame.data))) == 1
    assert [index for index, keyframe in enumerate(keyframes) if keyframe] == [0, 8]
    encoder.close()


def test_an_encoder_that_does_not_start_says_so() -> None:
    with pytest.raises(FarframeError) as caught:
        HardwareEncoder(BROKEN, 640, 360, frames_per_second=30, bitrate=1_000_000, max_bitrate=2_000_000)
    assert caught.value.result is Result.VIDEO_CODEC_NOT_AVAILABLE
