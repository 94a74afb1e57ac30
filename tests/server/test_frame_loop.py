"""The frame loop with a fake engine and encoder: what is drawn, what is not, and in which order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from farframe.client.frame import StillTracker
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.records import FieldOfView, FrameFlags, FrameRecord, PoseFlags, PoseRecord, View
from farframe.render import FULL_QUALITY, FrameInput
from farframe.render.frame import VisibleCounts, rotation_matrix
from farframe.scene.effects import CameraSettings, Effects, StageSettings
from farframe.server import checkerboard, frame_loop
from farframe.server.frame_loop import FrameLoop, PoseSpacing, VideoSettings, microseconds
from farframe.stream.encoder import EncodedFrame
from farframe.stream.hardware import EncoderChoice

VIDEO = VideoSettings(64, 36, 120, 1_000_000)
VIEW = View((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), FieldOfView.symmetric(1.0, 16 / 9))


@dataclass
class FakeFrame:
    pixels: Any
    width: int
    height: int
    samples: int
    draw_start: float
    draw_end: float
    read_back: float
    reduced_parts: int = 0
    triangles: int = 1
    draws: int = 1
    points: int = 0
    depth: Any = None
    over_limit: bool = False
    released: bool = field(default=False, init=False)

    def release(self) -> None:
        assert not self.released, "released twice"
        self.released = True


class FakeResidency:
    """Pages of assets: what a test says has come."""

    def __init__(self) -> None:
        self.streamer = SimpleNamespace(on_ready=None)
        self.version = 0
        self.pending = False
        self.idle = True

    def upload(self) -> None:
        self.pending = False
        self.version += 1

    def come(self) -> None:
        """A page was fetched, as a thread of the engine tells it."""
        self.pending = True
        self.streamer.on_ready()


class FakeEngine:
    adapter_name = "fake"
    adapter_kind = "cpu"
    on_render: Callable[[FrameInput], None] | None = None
    over_limit = False

    def __init__(self) -> None:
        self.inputs: list[FrameInput] = []
        self.frames: list[FakeFrame] = []
        self.threads: set[str] = set()
        self.may_draw = threading.Event()
        self.may_draw.set()
        self.closed = False
        self.residency = FakeResidency()
        self.unprepared = 0

    def prepare_ahead(self) -> bool:
        self.threads.add(threading.current_thread().name)
        self.unprepared = max(self.unprepared - 1, 0)
        return self.unprepared > 0

    def render(self, frame: FrameInput) -> FakeFrame:
        self.may_draw.wait(60)
        self.threads.add(threading.current_thread().name)
        self.inputs.append(frame)
        if self.on_render is not None:
            self.on_render(frame)
        now = time.perf_counter()
        pixels = np.zeros((frame.height, frame.width, 4), np.uint8)
        drawn = FakeFrame(pixels, frame.width, frame.height, frame.quality.samples, now, now, now)
        drawn.over_limit = self.over_limit
        self.frames.append(drawn)
        return drawn

    def count_visible(self, frame: FrameInput) -> VisibleCounts:
        return VisibleCounts(triangles=1, draws=1, reduced_parts=0, over_limit=self.over_limit)

    def close(self) -> None:
        self.closed = True
        assert all(frame.released for frame in self.frames), "a picture was never given back"


class FakeEncoder:
    made: list[FakeEncoder]
    quantizers: list[float]
    """What the next frames of all encoders have; afterwards none is told."""
    may_encode = threading.Event()
    """What begins with a keyframe waits for it."""
    may_encode.set()

    def __init__(self, width: int, height: int, **options: Any) -> None:
        self.width, self.height = width, height
        self.keyframes: list[bool] = []
        self.stills: list[bool] = []
        self.rates: list[int] = []
        self.brightest: list[int] = []
        self.closed = False
        FakeEncoder.made.append(self)

    def set_bitrate(self, rate: int) -> None:
        self.rates.append(rate)

    def encode(self, pixels: Any, pts: int, *, keyframe: bool = False, still: bool = False) -> EncodedFrame:
        assert not self.closed
        self.keyframes.append(keyframe)
        if keyframe:
            self.may_encode.wait(60)
        self.stills.append(still)
        self.brightest.append(int(pixels[..., :3].max()))
        now = time.perf_counter()
        quantizers = FakeEncoder.quantizers
        return EncodedFrame(b"\0", pts, keyframe, now, now, quantizers.pop(0) if quantizers else None)

    def close(self) -> None:
        self.closed = True


class Device:
    """Collects what a device would get."""

    def __init__(self, loop: FrameLoop, engine: FakeEngine) -> None:
        self.loop, self.engine = loop, engine
        self.records: list[FrameRecord] = []
        self.sent: list[EncodedFrame] = []
        self.backlog = 0

    def open(self, video: VideoSettings = VIDEO) -> None:
        self.loop.open(video, 500_000, self.sent.append, self.records.append, lambda: self.backlog)

    def pose(self, identifier: int, x: float) -> None:
        view = replace(VIEW, position=(x, 0.0, 1.0))
        self.loop.set_pose(PoseRecord(identifier, 0, (view,)), microseconds())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_flag(self, flag: FrameFlags, after: int = 0, *, pose_id: int | None = None) -> FrameRecord:
        """The first such frame, of a pose if that is given; of still ones the first that does not only keep alive.

        After a still picture more of them follow, until it is sharp: they may be on their way while something changes.
        """

        def found() -> FrameRecord | None:
            others = FrameFlags.KEEP_ALIVE & ~flag
            return next(
                (
                    each
                    for each in self.records[after:]
                    if flag in each.flags and not others & each.flags and pose_id in (None, each.pose_id)
                ),
                None,
            )

        await self.until(lambda: found() is not None)
        record = found()
        assert record is not None
        return record


def fakes() -> EncoderChoice:
    return EncoderChoice("fake", "a test", FakeEncoder)


@pytest_asyncio.fixture
async def device(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Device]:
    FakeEncoder.made, FakeEncoder.quantizers = [], []
    monkeypatch.setattr(frame_loop, "REFINEMENT_SECONDS", 0.01)
    engine = FakeEngine()
    loop = FrameLoop(lambda: engine, encoders=fakes(), still_delay=0.05, keep_alive=0.2)  # type: ignore[arg-type,return-value]
    await loop.engine()
    yield Device(loop, engine)
    await loop.stop()
    assert engine.closed
    assert all(encoder.closed for encoder in FakeEncoder.made)


async def test_without_a_device_nothing_is_drawn(device: Device) -> None:
    await device.loop.run(lambda engine: None)
    assert device.engine.inputs == []


async def test_at_rest_what_may_come_is_prepared(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_loop, "REST_SECONDS", 0.02)

    def load(engine: Any) -> None:
        engine.unprepared = 20

    await device.loop.run(load)
    await device.until(lambda: device.engine.unprepared == 0)
    # The same while a device looks on: a picture that nothing changes is rest as well.
    device.open()
    await device.until_flag(FrameFlags.STILL)
    await device.loop.run(load)
    await device.until(lambda: device.engine.unprepared == 0)
    assert device.engine.threads == {"render"}


async def test_nothing_is_prepared_while_the_full_picture_is_still_to_come(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_loop, "REST_SECONDS", 0.02)
    device.open()
    await device.until_flag(FrameFlags.STILL)
    monkeypatch.setattr(device.loop, "_still_delay", 1e9)
    count = len(device.records)
    device.pose(1, 0.5)
    await device.until(lambda: device.records[count:] != [] and device.records[-1].pose_id == 1)

    def load(engine: Any) -> None:
        engine.unprepared = 5

    await device.loop.run(load)
    rested = time.perf_counter() + 5 * frame_loop.REST_SECONDS
    await device.until(lambda: time.perf_counter() > rested)
    assert device.engine.unprepared == 5


async def test_the_first_frame_is_a_keyframe_then_a_still_then_only_keep_alives(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    assert FrameFlags.KEYFRAME in device.records[0].flags
    qualities = [frame.quality for frame in device.engine.inputs]
    assert len(qualities) == 2, "one while moving, one at full quality, and no more"
    assert qualities[-1].samples == 4
    assert [FrameFlags.STILL in record.flags for record in device.records[:2]] == [False, True]
    assert not any(FrameFlags.KEYFRAME in record.flags for record in device.records[1:])


async def test_a_new_pose_is_drawn_once_and_the_same_again_not_at_all(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)
    count = len(device.engine.inputs)
    device.pose(1, 0.5)
    await device.until_flag(FrameFlags.STILL, pose_id=1)
    assert len(device.engine.inputs) == count + 2
    assert device.records[-1].pose_id == 1
    device.pose(2, 0.5)
    await device.until_flag(FrameFlags.KEEP_ALIVE, len(device.records))
    assert len(device.engine.inputs) == count + 2, "the same views are nothing new"


async def test_the_newest_pose_wins_and_older_ones_are_ignored(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)
    device.engine.may_draw.clear()
    device.pose(5, 1.0)
    await device.until(lambda: True)
    device.pose(7, 3.0)
    device.pose(6, 2.0)
    device.engine.may_draw.set()
    await device.until(lambda: device.records[-1].pose_id == 7)
    await device.until_flag(FrameFlags.KEEP_ALIVE, len(device.records))
    assert device.engine.inputs[-1].views[0].position[0] == 3.0
    assert 2.0 not in [frame.views[0].position[0] for frame in device.engine.inputs]


async def test_the_full_quality_picture_is_given_up_when_the_device_moves(device: Device) -> None:
    video = replace(VIDEO, width=256, height=256)
    moved = False

    def move(frame: FrameInput) -> None:
        nonlocal moved
        if frame.quality.samples == 4 and not moved:
            moved = True
            device.loop.set_pose(PoseRecord(9, 0, (replace(VIEW, position=(9.0, 0.0, 1.0)),)), microseconds())

    device.engine.on_render = move
    device.open(video)
    await device.until_flag(FrameFlags.STILL)
    bands = [frame for frame in device.engine.inputs if frame.quality.samples == 4]
    (first, *others) = bands
    assert first.height < 256
    assert first.views[0].position != others[0].views[0].position, "the second band of the first picture was drawn"
    assert sum(frame.height for frame in others) == 256
    assert next(record for record in device.records if FrameFlags.STILL in record.flags).pose_id == 9


async def test_pictures_beyond_the_limit_are_flagged_until_they_are_within_it(device: Device) -> None:
    device.engine.over_limit = True
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    assert all(FrameFlags.OVER_LIMIT in record.flags for record in device.records)
    device.engine.over_limit = False
    count = len(device.records)
    device.pose(1, 0.5)
    await device.until_flag(FrameFlags.STILL, count)
    assert FrameFlags.OVER_LIMIT not in device.records[-1].flags


async def test_the_checkerboard_comes_without_any_change_and_is_drawn_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeEncoder.made, FakeEncoder.quantizers = [], []
    monkeypatch.setattr(checkerboard, "DELAY_SECONDS", 0.1)
    monkeypatch.setattr(checkerboard, "FADE_SECONDS", 0.2)
    engine = FakeEngine()
    engine.over_limit = True
    loop = FrameLoop(lambda: engine, encoders=fakes(), still_delay=0.05, keep_alive=0.2, checkerboard=True)  # type: ignore[arg-type,return-value]
    try:
        await loop.engine()
        device = Device(loop, engine)
        device.open()

        def covered() -> bool:
            return any(encoder.brightest[-1:] == [checkerboard.LIGHT] for encoder in FakeEncoder.made)

        await device.until(covered)
        (encoder,) = FakeEncoder.made
        await device.until_flag(FrameFlags.STILL, encoder.brightest.index(checkerboard.LIGHT))
        assert encoder.brightest[0] == 0
        assert encoder.brightest == sorted(encoder.brightest), "it only gains, and nothing is drawn without it again"
        drawn = len(engine.inputs)
        await device.until_flag(FrameFlags.KEEP_ALIVE, len(device.records))
        assert len(engine.inputs) == drawn, "once it is there, nothing more is drawn"
    finally:
        await loop.stop()


async def test_pose_ids_wrap_around(device: Device) -> None:
    device.open()
    device.pose(2**32 - 1, 1.0)
    await device.until(lambda: any(r.pose_id == 2**32 - 1 for r in device.records))
    device.pose(3, 2.0)
    await device.until(lambda: device.records[-1].pose_id == 3)


async def test_a_keyframe_request_sends_the_last_picture_again(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)
    drawn, sent = len(device.engine.inputs), len(device.records)
    device.loop.request_keyframe()
    await device.until_flag(FrameFlags.KEYFRAME, sent)
    assert len(device.engine.inputs) == drawn


async def test_a_picture_sent_again_shows_nothing_of_what_came_while_it_waited_for_the_encoder(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    sent, encoder = len(device.records), FakeEncoder.made[0]
    FakeEncoder.may_encode.clear()
    try:
        known = len(encoder.keyframes)
        device.loop.request_keyframe()
        await device.until(lambda: True in encoder.keyframes[known:])

        def change(engine: Any) -> None:
            device.loop.scene.exposure = 2.0

        await device.loop.run(change)
        changed = microseconds()
    finally:
        FakeEncoder.may_encode.set()
    again = await device.until_flag(FrameFlags.KEYFRAME, sent)
    assert again.pose_received_us + again.draw_start_us < changed < again.pose_received_us + again.encode_start_us


async def test_nothing_is_drawn_while_the_network_holds_frames_back(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)
    device.backlog = 3
    drawn = len(device.engine.inputs)
    for index in range(20):
        device.pose(index + 1, float(index + 1))
        await asyncio.sleep(0.005)
    assert len(device.engine.inputs) <= drawn + 1
    device.backlog = 0
    await device.until(lambda: device.records[-1].pose_id == 20)
    assert len(device.engine.inputs) <= drawn + 4, "frames that were too old were never drawn"


async def test_a_new_size_gets_a_new_encoder_and_a_draw(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)
    device.loop.set_video(replace(VIDEO, width=128, height=72))
    await device.until(lambda: device.records[-1].width == 128)
    assert [(encoder.width, encoder.height) for encoder in FakeEncoder.made] == [(64, 36), (128, 72)]
    assert FakeEncoder.made[0].closed


def kinds(records: list[FrameRecord]) -> str:
    """One letter for each frame: K a keyframe, s a still picture, a keep-alive, or m for one that moves."""
    return "".join(
        "K"
        if FrameFlags.KEYFRAME in record.flags
        else "a"
        if FrameFlags.KEEP_ALIVE in record.flags
        else "s"
        if FrameFlags.STILL in record.flags
        else "m"
        for record in records
    )


async def test_the_still_picture_is_refined_until_it_is_sharp_and_no_longer(device: Device) -> None:
    FakeEncoder.quantizers = [30.0, 36.0, 30.0, 24.0, 20.0, 16.0]
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    assert kinds(device.records).rstrip("a") == "Ksssss"
    assert FakeEncoder.made[0].stills[:7] == [False, True, True, True, True, True, False]
    assert len(device.engine.inputs) == 2, "it is drawn once"


async def test_what_repeats_a_full_quality_picture_tells_so_itself(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    # The record of the still picture may be lost, and the browser may have been too busy to show it.
    assert FrameFlags.STILL in device.records[-1].flags
    tracker = StillTracker()
    tracker.add(device.records[0])
    tracker.add(None)
    assert not tracker.shows(None)
    tracker.add(device.records[-1])
    assert tracker.shows(None)
    # What moves is repeated, too, when a keyframe is asked for, and has no full quality.
    device.loop._still_delay = 1e9
    count = len(device.records)
    device.pose(1, 0.5)
    await device.until(lambda: kinds(device.records[count:]).endswith("m"))
    count = len(device.records)
    device.loop.request_keyframe()
    repeated = await device.until_flag(FrameFlags.KEEP_ALIVE, count)
    assert FrameFlags.STILL not in repeated.flags


async def test_an_encoder_that_tells_no_quantizer_refines_a_few_times(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    assert kinds(device.records).rstrip("a") == "K" + "s" * (1 + frame_loop.BLIND_REFINEMENTS)


async def test_refining_ends_even_if_the_picture_never_gets_sharp(device: Device) -> None:
    FakeEncoder.quantizers = [40.0] * 100
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    assert kinds(device.records).rstrip("a") == "K" + "s" * (1 + frame_loop.MAX_REFINEMENTS)


async def test_a_picture_is_not_refined_before_it_is_known_how_sharp_it_is(device: Device) -> None:
    FakeEncoder.quantizers = [30.0, 15.0]
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    encoder, sent = FakeEncoder.made[0], len(device.records)
    FakeEncoder.may_encode.clear()
    try:
        known = len(encoder.keyframes)
        device.loop.request_keyframe()
        await device.until(lambda: True in encoder.keyframes[known:])
        # Time for a dozen of them, and for the render thread to look each time.
        for _ in range(20):
            await asyncio.sleep(frame_loop.REFINEMENT_SECONDS)
            await device.loop.run(lambda engine: None)
        FakeEncoder.quantizers = [15.0]
    finally:
        FakeEncoder.may_encode.set()
    await device.until(lambda: kinds(device.records[sent:]).endswith("a") and "K" in kinds(device.records[sent:]))
    assert kinds(device.records[sent:]).strip("a") == "K"


async def test_a_keyframe_of_a_sharp_picture_is_refined_again(device: Device) -> None:
    FakeEncoder.quantizers = [30.0, 15.0]
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    (encoder,) = FakeEncoder.made
    encode = encoder.encode

    def coarse(pixels: Any, pts: int, *, keyframe: bool = False, still: bool = False) -> EncodedFrame:
        if keyframe:
            FakeEncoder.quantizers = [33.0, 25.0, 15.0]
        return encode(pixels, pts, keyframe=keyframe, still=still)

    encoder.encode = coarse  # type: ignore[method-assign]
    count = len(device.records)
    device.loop.request_keyframe()
    await device.until(lambda: "ssa" in kinds(device.records[count:]))
    assert "Kssa" in kinds(device.records[count:])


async def test_an_encoder_that_fails_is_replaced_by_x264_with_a_keyframe(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)

    def fail(*arguments: Any, **options: Any) -> EncodedFrame:
        raise FarframeError(Result.FAIL, "the driver is gone")

    FakeEncoder.made[0].encode = fail  # type: ignore[method-assign]
    device.pose(1, 1.0)
    await device.until(lambda: device.records[-1].pose_id == 1)
    # That may be one more of the picture before.
    first = next(record for record in device.records if record.encoded_bytes > 1)
    assert FrameFlags.KEYFRAME in first.flags
    assert device.records[-1].encoded_bytes > 1
    assert device.loop.encoders.is_fallback
    assert "the driver is gone" in device.loop.encoders.reason
    assert FakeEncoder.made[0].closed


async def move_a_head(device: Device, *, flags: PoseFlags) -> list[float]:
    """Poses 10 ms apart that go on by 1 cm each; where the frames were drawn beyond their poses, metres."""
    device.open()
    await device.until_flag(FrameFlags.STILL)
    start = microseconds()
    for index in range(1, 30):
        await device.until(lambda: microseconds() >= start + index * 10_000)  # noqa: B023 - awaited at once
        view = replace(VIEW, position=(index * 0.01, 0.0, 1.0))
        device.loop.set_pose(PoseRecord(index, start + index * 10_000, (view,), flags), microseconds())
        device.loop.set_delays(0.0, 0.03)
    await device.until(lambda: device.records[-1].pose_id == 29)
    moved = [record for record in device.records if record.pose_id > 3 and FrameFlags.STILL not in record.flags]
    return [record.views[0].position[0] - record.pose_id * 0.01 for record in moved]


async def test_a_head_is_drawn_where_it_will_be_and_rests_where_it_is(device: Device) -> None:
    ahead = await move_a_head(device, flags=PoseFlags.PREDICT)
    assert max(ahead) > 0.02
    assert max(ahead) <= 0.101, "within the horizon"
    still = await device.until_flag(FrameFlags.STILL, pose_id=29)
    assert still.views[0].position[0] == pytest.approx(0.29), "the still picture shows the pose itself"


async def test_a_mouse_is_drawn_where_it_is(device: Device) -> None:
    ahead = await move_a_head(device, flags=PoseFlags.NONE)
    assert ahead == pytest.approx([0.0] * len(ahead), abs=1e-9)


async def test_clip_distances_and_stage_of_the_scene_go_before_those_of_poses(device: Device) -> None:
    device.open()
    device.pose(1, 0.5)
    await device.until_flag(FrameFlags.KEEP_ALIVE, pose_id=1)
    half = 0.5**0.5
    device.loop.scene.effects = Effects(
        camera=CameraSettings(0.5, 20.0), stage=StageSettings((10.0, 0.0, 0.0), (0.0, 2 * half, 0.0, 2 * half))
    )
    count = len(device.records)
    await device.loop.run(lambda engine: None)
    record = await device.until_flag(FrameFlags.STILL, after=count)
    (drawn,), (told,) = device.engine.inputs[-1].views, record.views
    assert (told.near, told.far) == (drawn.near, drawn.far) == (0.5, 20.0)
    assert told.position == (0.5, 0.0, 1.0), "frames tell poses in the space of poses"
    # A quarter turn about +Y takes (0.5, 0, 1) to (1, 0, -0.5), and the view's -Z to -X.
    assert drawn.position == pytest.approx((11.0, 0.0, -0.5))
    assert rotation_matrix(drawn.orientation)[:, 2] == pytest.approx((1.0, 0.0, 0.0))


def spaced(*times: float) -> PoseSpacing:
    spacing = PoseSpacing()
    for at in times:
        spacing.came(at)
    return spacing


STEADY = tuple(index / 60 for index in range(20))


@pytest.mark.parametrize("age", [0.0, 0.3, 0.55])
def test_a_young_pose_is_drawn_at_once(age: float) -> None:
    now = STEADY[-1] + age / 60
    assert spaced(*STEADY).worth_waiting_until(now) <= now


@pytest.mark.parametrize("age", [0.65, 0.9])
def test_an_old_pose_waits_for_the_next_but_not_for_long(age: float) -> None:
    now = STEADY[-1] + age / 60
    until = spaced(*STEADY).worth_waiting_until(now)
    assert now < until <= STEADY[-1] + 1 / 60 + 0.0021


def test_a_pose_that_does_not_come_is_not_awaited() -> None:
    now = STEADY[-1] + 1.5 / 60
    assert spaced(*STEADY).worth_waiting_until(now) <= now


def test_poses_that_come_now_and_then_are_not_awaited() -> None:
    seldom = tuple(index * 0.1 for index in range(20))
    assert spaced(*seldom).worth_waiting_until(seldom[-1] + 0.09) <= seldom[-1] + 0.09
    assert spaced(*STEADY[:4]).worth_waiting_until(STEADY[3] + 0.015) <= STEADY[3] + 0.015, "too few are known"
    assert PoseSpacing().worth_waiting_until(1.0) <= 1.0
    resumed = (*STEADY, 1.0)
    assert spaced(*resumed).worth_waiting_until(1.015) <= 1.015, "a pause begins anew"


async def test_the_scene_is_drawn_anew_when_it_changes(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)
    drawn = len(device.engine.inputs)

    def change(engine: Any) -> None:
        device.loop.scene.exposure = 2.0

    await device.loop.run(change)
    await device.until(lambda: len(device.engine.inputs) > drawn)


async def test_the_rate_reaches_the_encoder(device: Device) -> None:
    device.open()
    device.loop.set_bitrate(123_456)
    device.pose(1, 1.0)
    await device.until(lambda: any(123_456 in encoder.rates for encoder in FakeEncoder.made))


async def test_after_close_nothing_is_sent_and_pictures_are_given_back(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.STILL)
    device.loop.close()
    await device.until(lambda: all(frame.released for frame in device.engine.frames))
    count = len(device.records)
    device.pose(9, 9.0)
    await device.loop.run(lambda engine: None)
    assert len(device.records) == count
    device.open()
    await device.until(lambda: len(device.records) > count)
    assert FrameFlags.KEYFRAME in device.records[count].flags


async def test_jobs_run_in_the_render_thread_and_their_errors_come_back(device: Device) -> None:
    assert await device.loop.run(lambda engine: threading.current_thread().name) == "render"

    def fail(engine: Any) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        await device.loop.run(fail)
    assert await device.loop.run(lambda engine: 42) == 42


async def test_a_dying_renderer_is_told() -> None:
    engine = FakeEngine()

    def broken(frame: FrameInput) -> FakeFrame:
        raise RuntimeError("device lost")

    engine.render = broken  # type: ignore[method-assign]
    loop = FrameLoop(lambda: engine, encoders=fakes())  # type: ignore[arg-type,return-value]
    failures: list[BaseException] = []
    loop.on_failure = failures.append
    await loop.engine()
    loop.open(VIDEO, 1, lambda frame: None, lambda record: None, lambda: 0)
    async with asyncio.timeout(60):
        while not failures:
            await asyncio.sleep(0.005)
    assert str(failures[0]) == "device lost"
    await loop.stop()


async def test_an_engine_that_cannot_be_made_is_told() -> None:
    def fail() -> Any:
        raise OSError("no adapter")

    loop = FrameLoop(fail)
    with pytest.raises(OSError, match="no adapter"):
        await loop.engine()
    await loop.stop()


async def test_detail_that_comes_later_is_drawn_into_the_picture_at_rest(device: Device) -> None:
    device.open()
    await device.until_flag(FrameFlags.KEEP_ALIVE)
    drawn, sent = len(device.engine.inputs), len(device.records)
    device.engine.residency.come()
    await device.until(lambda: len(device.engine.inputs) > drawn)
    assert all(frame.quality == FULL_QUALITY for frame in device.engine.inputs[drawn:])
    await device.until_flag(FrameFlags.STILL, after=sent)
    await device.until_flag(FrameFlags.KEEP_ALIVE, after=sent)
    drawn = len(device.engine.inputs)
    await device.until_flag(FrameFlags.KEEP_ALIVE, after=len(device.records))
    assert len(device.engine.inputs) == drawn, "nothing came, nothing is drawn"
