"""The encoder: colours, sizes, keyframes on demand, and a rate that follows without keyframes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from farframe.protocol.errors import FarframeError, Result
from farframe.stream.encoder import EncodedFrame, H264Encoder
from farframe.stream.packets import split_access_unit

PATCHES = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (128, 64, 200),
    (30, 180, 90),
    (250, 200, 20),
]


@pytest.fixture
def encoder() -> Iterator[H264Encoder]:
    made = H264Encoder(640, 360, bitrate=4_000_000, max_bitrate=8_000_000)
    yield made
    made.close()


class Decoder:
    def __init__(self) -> None:
        self.codec = av.CodecContext.create("h264", "r")
        self.codec.thread_type = "SLICE"

    def decode(self, frame: EncodedFrame) -> av.VideoFrame:
        pictures = self.codec.decode(av.Packet(frame.data))
        assert len(pictures) == 1, "every frame must be decodable at once"
        return pictures[0]


def patches(width: int, height: int) -> NDArray[np.uint8]:
    picture = np.full((height, width, 4), 255, np.uint8)
    for index, colour in enumerate(PATCHES):
        picture[:, index * width // 8 : (index + 1) * width // 8, :3] = colour
    return picture


@pytest.mark.parametrize("size", [(640, 360), (320, 180), (426, 240), (1280, 720)])
def test_flat_colours_survive(encoder: H264Encoder, size: tuple[int, int]) -> None:
    decoder = Decoder()
    for index in range(8):
        decoded = decoder.decode(encoder.encode(patches(*size), index * 3000, keyframe=index == 0))
    assert (decoded.width, decoded.height) == (640, 360)
    rgb = decoded.to_ndarray(format="rgb24").astype(float)
    for index, colour in enumerate(PATCHES):
        centre = int((index + 0.5) * 80)
        patch = rgb[100:260, centre - 16 : centre + 16].reshape(-1, 3)
        assert np.abs(patch - colour).mean() < 2, f"{colour} became {patch.mean(axis=0)}"


def test_the_stream_says_that_it_is_bt709_of_limited_range(encoder: H264Encoder) -> None:
    decoded = Decoder().decode(encoder.encode(patches(640, 360), 0, keyframe=True))
    assert (int(decoded.colorspace), int(decoded.color_range)) == (1, 1)
    assert (int(decoded.color_primaries), int(decoded.color_trc)) == (1, 13), "BT.709 primaries, sRGB transfer"


def test_a_keyframe_comes_on_demand_only_and_carries_parameter_sets(
    encoder: H264Encoder, moving_picture: Callable[[int, int, int], NDArray[np.uint8]]
) -> None:
    frames = [encoder.encode(moving_picture(640, 360, i), i * 1500, keyframe=i == 5) for i in range(40)]
    assert [i for i, frame in enumerate(frames) if frame.keyframe] == [0, 5]
    kinds = [unit[0] & 0x1F for unit in split_access_unit(frames[5].data)]
    assert kinds[:2] == [7, 8], "a keyframe must begin with its parameter sets"
    assert 5 in kinds
    Decoder().decode(frames[5])


def test_the_stream_is_constrained_baseline(encoder: H264Encoder) -> None:
    frame = encoder.encode(patches(640, 360), 0, keyframe=True)
    sps = next(bytes(unit) for unit in split_access_unit(frame.data) if unit[0] & 0x1F == 7)
    assert sps[1] == 0x42
    assert sps[2] & 0x40


@pytest.mark.parametrize("pace", [60, 24])
def test_the_rate_follows_within_a_fifth_and_without_keyframes(pace: int) -> None:
    random = np.random.default_rng(3)
    grain = [random.integers(0, 255, (240, 320, 4), dtype=np.uint8) for _ in range(8)]
    pictures = [np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1) for picture in grain]
    encoder = H264Encoder(640, 480, bitrate=4_000_000, max_bitrate=8_000_000)
    index, keyframes = 0, 0

    def run(seconds: float) -> float:
        nonlocal index, keyframes
        size, count = 0, int(seconds * pace)
        for _ in range(count):
            frame = encoder.encode(pictures[index % 8], index * 90_000 // pace)
            size += len(frame.data)
            keyframes += frame.keyframe
            index += 1
        return size * 8 * pace / count

    run(1)
    for target in (4_000_000, 1_000_000, 6_000_000, 2_000_000):
        encoder.set_bitrate(target)
        run(0.7)
        assert run(2) == pytest.approx(target, rel=0.2)
    assert keyframes == 1
    encoder.close()


def test_the_quantizer_is_told_and_falls_while_a_picture_rests(
    moving_picture: Callable[[int, int, int], NDArray[np.uint8]],
) -> None:
    encoder = H264Encoder(640, 360, bitrate=400_000, max_bitrate=8_000_000)
    for index in range(30):
        last = encoder.encode(moving_picture(640, 360, index), index * 3000)
    resting = [encoder.encode(moving_picture(640, 360, 29), 100_000 + i * 9000, still=True) for i in range(20)]
    quantizers = [frame.quantizer for frame in (last, *resting) if frame.quantizer is not None]
    assert len(quantizers) == 21
    assert min(quantizers) < quantizers[0] - 6
    seconds = 2.0
    assert sum(len(frame.data) for frame in resting) * 8 < 1.5 * 400_000 * seconds, "refining stays within the rate"
    encoder.close()


def test_a_stream_that_begins_on_a_narrow_line_begins_within_its_rate(
    moving_picture: Callable[[int, int, int], NDArray[np.uint8]],
) -> None:
    encoder = H264Encoder(640, 360, bitrate=1_000_000, max_bitrate=12_000_000)
    frames = [encoder.encode(moving_picture(640, 360, index), index * 3000) for index in range(15)]
    assert frames[0].keyframe
    assert [frame.keyframe for frame in frames[1:]] == [False] * 14
    decoder = Decoder()
    for frame in frames:
        decoder.decode(frame)
    half_a_second = 1_000_000 / 2 / 8
    assert sum(len(frame.data) for frame in frames) < 1.4 * half_a_second, "unsettled it takes twice as much"
    encoder.close()


def test_the_rate_stays_within_its_limits(encoder: H264Encoder) -> None:
    encoder.set_bitrate(1 << 40)
    assert encoder.bitrate == 8_000_000
    encoder.set_bitrate(0)
    assert encoder.bitrate == 100_000


@pytest.mark.parametrize("size", [(641, 360), (640, 361), (0, 360), (640, 8192), (-2, 16)])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(FarframeError) as caught:
        H264Encoder(*size, bitrate=1_000_000, max_bitrate=2_000_000)
    assert caught.value.result is Result.INVALID_PARAM


def test_pictures_of_another_kind_and_time_going_back_are_refused(encoder: H264Encoder) -> None:
    encoder.encode(patches(640, 360), 3000)
    with pytest.raises(ValueError, match="grow"):
        encoder.encode(patches(640, 360), 3000)
    with pytest.raises(ValueError, match="RGBA"):
        encoder.encode(np.zeros((360, 640, 3), np.uint8), 6000)


def test_a_picture_with_padded_rows_is_read_right_and_in_place(
    encoder: H264Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(*arguments: object) -> None:
        raise AssertionError("the mapped buffer was copied before it was converted")

    monkeypatch.setattr(np, "ascontiguousarray", copied)
    padded = np.zeros((360, 704, 4), np.uint8)
    padded[:, :640] = patches(640, 360)
    decoded = Decoder().decode(encoder.encode(padded[:, :640], 0, keyframe=True)).to_ndarray(format="rgb24")
    assert np.abs(decoded[180, 40].astype(int) - PATCHES[0]).max() < 12
    assert np.abs(decoded[180, 600].astype(int) - PATCHES[7]).max() < 12


def test_closing_twice_does_no_harm(encoder: H264Encoder) -> None:
    encoder.encode(patches(640, 360), 0)
    encoder.close()
    encoder.close()
