"""Playing clips: every value against a plain reading of the glTF specification, one channel and key at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from farframe.asset.animation import Animations, Clip
from farframe.protocol.errors import FarframeError, Result
from farframe.scene.animation import CUBIC, LINEAR, ROTATION, STEP, Playback, Sampler, Track
from farframe.scene.graph import Graph


def random_clip(generator: np.random.Generator, channels: int) -> Clip:
    counts = generator.integers(1, 8, channels)
    path = generator.integers(0, 3, channels).astype(np.uint8)
    mode = generator.integers(0, 3, channels).astype(np.uint8)
    times = [np.cumsum(generator.uniform(0.05, 1.0, count)) for count in counts]
    total = int((counts * np.where(mode == CUBIC, 3, 1)).sum())
    return Clip(
        name="random",
        duration=float(max(each[-1] for each in times)),
        row=np.arange(channels, dtype=np.int32),
        path=path,
        mode=mode,
        first_key=np.concatenate([[0], np.cumsum(counts)]),
        times=np.concatenate(times).astype(np.float32),
        values=generator.normal(size=(total, 4)).astype(np.float32),
    )


def plain(clip: Clip, channel: int, seconds: float) -> Any:
    """What the specification says (glTF 2.0, appendix C), in words of its own."""
    first, last = int(clip.first_key[channel]), int(clip.first_key[channel + 1])
    times = clip.times[first:last].astype(np.float64)
    begin, mode, turns = int(clip.first_value[channel]), clip.mode[channel], clip.path[channel] == ROTATION
    values = clip.values[begin : int(clip.first_value[channel + 1])].astype(np.float64)
    keys = values.reshape(len(times), -1, 4)
    middle = keys[:, 1 if mode == CUBIC else 0]
    if seconds <= times[0]:
        found = middle[0]
    elif seconds >= times[-1]:
        found = middle[-1]
    else:
        k = int(np.searchsorted(times, seconds, side="right")) - 1
        length = times[k + 1] - times[k]
        t = (seconds - times[k]) / length
        if mode == STEP:
            found = middle[k]
        elif mode == LINEAR and turns:
            a, b = middle[k] / np.linalg.norm(middle[k]), middle[k + 1] / np.linalg.norm(middle[k + 1])
            dot = float(a @ b)
            angle = np.arccos(min(abs(dot), 1.0))
            if angle < 1e-6:
                found = a
            else:
                found = (np.sin(angle * (1 - t)) * a + np.sign(dot) * np.sin(angle * t) * b) / np.sin(angle)
        elif mode == LINEAR:
            found = (1 - t) * middle[k] + t * middle[k + 1]
        else:
            found = (
                (2 * t**3 - 3 * t**2 + 1) * middle[k]
                + length * (t**3 - 2 * t**2 + t) * keys[k, 2]
                + (-2 * t**3 + 3 * t**2) * middle[k + 1]
                + length * (t**3 - t**2) * keys[k + 1, 0]
            )
    return found / np.linalg.norm(found) if turns else found


def test_values_at_any_time_are_those_of_the_specification() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        clip = random_clip(generator, 12)
        sampler = Sampler(clip)
        keys = clip.times.astype(np.float64).tolist()
        for seconds in [0.0, *keys, *generator.uniform(0, clip.duration, 20).tolist(), clip.duration, 99.0]:
            found = sampler.at(seconds)
            for channel in range(12):
                expected = plain(clip, channel, seconds)
                width = 4 if clip.path[channel] == ROTATION else 3
                if width == 4 and found[channel] @ expected < 0.0:
                    expected = -expected  # the same turn
                np.testing.assert_allclose(found[channel, :width], expected[:width], atol=2e-4, err_msg=str(seconds))


def turning(seconds: float = 2.0) -> Animations:
    """Node 0 goes from 0 to 10 along x, and node 1 below it from 0 to 2 along y."""

    def clip(row: int, end: list[float]) -> Clip:
        return Clip(f"clip {row}", seconds, np.array([row], np.int32), np.zeros(1, np.uint8),
                    np.array([LINEAR], np.uint8), np.array([0, 2]), np.array([0.0, seconds], np.float32),
                    np.array([[0, 0, 0, 0], [*end, 0]], np.float32))  # fmt: skip

    rest = np.tile([0.0, 0, 0, 0, 0, 0, 1, 1, 1, 1], (2, 1))
    rest[1, 2] = 7.0
    return Animations(np.array([0, 1], np.int32), rest, [clip(0, [10, 0, 0]), clip(1, [0, 2, 0])])


class Place:
    """A model of a root and two nodes, one below the other, as the server has it."""

    def __init__(self) -> None:
        self.graph = Graph()
        identity = np.tile([0.0, 0, 0, 1], (3, 1))
        position = np.zeros((3, 3))
        position[2, 2] = 7.0
        self.first = self.graph.add_tree(np.array([-1, 0, 1]), ["", "", ""], position, identity, np.ones((3, 3)))
        self.playback = Playback(self.graph, self.follow)
        self.playback.add_model(5, turning(), self.first + 1)
        self.followed = 0
        self.follow()

    def follow(self) -> None:
        self.followed += 1
        self.playback.pose()
        self.graph.update()

    def set(self, clip: int = 0, **options: Any) -> None:
        self.playback.set(5, clip, **options)
        self.follow()

    def run(self, *times: float) -> None:
        for time in times:
            if self.playback.moving:
                self.playback.advance(time)

    def world(self, node: int) -> list[float]:
        return [round(float(x), 6) for x in self.graph.world[self.graph.slot(self.first + 1 + node)][:, 3]]

    def own(self, node: int) -> list[float]:
        return self.graph.position[self.graph.slot(self.first + 1 + node)].tolist()

    def place(self, node: int, position: Any) -> None:
        self.graph.set_transforms(np.array([self.graph.slot(self.first + 1 + node)]), position=[position])
        self.follow()


def test_playing_moves_what_is_drawn_and_not_what_the_device_has() -> None:
    place = Place()
    assert not place.playback.moving
    place.set(state="playing")
    place.run(100.0, 100.5)
    assert place.world(0) == [2.5, 0, 0] and place.world(1) == [2.5, 0, 7], "what hangs below goes along"
    assert place.own(0) == [0, 0, 0]
    place.set(state="paused")
    place.run(101.0)
    assert place.world(0) == [2.5, 0, 0] and not place.playback.moving
    place.set(state="playing")
    place.run(200.0, 200.25)
    assert place.world(0) == [3.75, 0, 0], "no time has passed while it was paused"
    place.set(state="stopped")
    assert place.world(0) == [0, 0, 0] and not place.playback.moving


def test_what_the_device_sets_is_the_devices_until_it_gives_it_back() -> None:
    place = Place()
    place.set(state="paused", time=1.0)
    assert place.world(0) == [5, 0, 0]
    place.place(0, (0, 0, 50))
    assert place.world(0) == [0, 0, 50]
    place.set(time=2.0)
    assert place.world(0) == [0, 0, 50]
    place.set(reclaim=True)
    assert place.world(0) == [10, 0, 0] and place.own(0) == [0, 0, 50]
    place.set(state="stopped")
    assert place.world(0) == [0, 0, 50]


def test_moving_what_is_above_takes_the_played_along() -> None:
    place = Place()
    place.set(state="paused", time=1.0)
    place.place(-1, (0, 3, 0))
    assert place.world(0) == [5, 3, 0]


@pytest.mark.parametrize(
    ("loop", "speed", "seconds", "expected"),
    [
        ("repeat", 1.0, 2.5, 0.5), ("repeat", -1.0, 0.5, 1.5), ("repeat", 2.0, 1.5, 1.0),
        ("pingPong", 1.0, 2.5, 1.5), ("pingPong", 1.0, 4.5, 0.5), ("pingPong", -1.0, 0.5, 0.5),
        ("once", 1.0, 2.5, 2.0), ("once", 1.0, 0.5, 0.5), ("once", 0.0, 0.5, 0.0),
    ],
)  # fmt: skip
def test_loops(loop: Any, speed: float, seconds: float, expected: float) -> None:
    place = Place()
    place.set(state="playing", loop=loop, speed=speed)
    place.run(0.0, seconds)
    (track, _) = place.playback.tracks(5)
    assert track.shown_time == pytest.approx(expected)
    assert track.state == ("paused" if (loop, seconds) == ("once", 2.5) else "playing")
    assert place.world(0)[0] == pytest.approx(5 * expected)


def test_what_came_to_its_end_begins_anew() -> None:
    place = Place()
    place.set(state="playing", loop="once")
    place.run(0.0, 5.0)
    assert place.world(0) == [10, 0, 0] and not place.playback.moving
    place.set(state="playing")
    place.run(6.0, 6.5)
    assert place.world(0) == [2.5, 0, 0]


def test_weights_mix_clips_with_each_other_and_with_the_file() -> None:
    place = Place()
    place.set(0, state="paused", time=2.0, weight=0.25)
    assert place.world(0) == [2.5, 0, 0]
    place.set(1, state="paused", time=2.0, weight=0.5)
    assert place.world(1) == [2.5, 1, 3.5], "half of the file's place is left"
    place.set(0, weight=0.0)
    assert place.world(0) == [0, 0, 0]


def test_what_is_mixed_beyond_one_is_shared_out() -> None:
    data = turning()
    data.clips[1].row[:] = 0
    place = Place()
    place.playback.clear()
    place.playback.add_model(5, data, place.first + 1)
    place.set(0, state="paused", time=2.0)
    place.set(1, state="paused", time=2.0)
    assert place.world(0) == [5, 1, 0]


def test_paused_costs_no_update() -> None:
    place = Place()
    place.set(state="paused", time=1.0)
    evaluations = []
    player = place.playback._players[5]
    original = player.tracks[0].sampler.at
    player.tracks[0].sampler = SimpleNamespace(at=lambda t: evaluations.append(t) or original(t),
                                               clip=player.tracks[0].sampler.clip)  # fmt: skip
    for _ in range(5):
        place.follow()
    assert not evaluations
    place.place(0, (1, 1, 1))
    assert len(evaluations) == 1


def test_entities_that_are_destroyed_are_left_alone() -> None:
    place = Place()
    place.set(state="playing")
    place.set(1, state="playing")
    place.graph.destroy(place.first + 2)
    place.graph.create(9, position=(1, 2, 3))
    place.follow()
    place.run(0.0, 1.0)
    assert place.graph.world[place.graph.slot(9)][:, 3].tolist() == [1, 2, 3], "it may have the row of the other"
    assert place.world(0) == [5, 0, 0]


@pytest.mark.parametrize(
    "options",
    [{"time": -0.1}, {"time": 2.1}, {"time": float("nan")}, {"speed": 1001.0}, {"speed": float("inf")},
     {"weight": 1.5}, {"weight": -1.0}, {"clip": 2}, {"clip": -1}],
)  # fmt: skip
def test_what_cannot_be_played_is_refused_whole(options: dict[str, Any]) -> None:
    place = Place()
    with pytest.raises(FarframeError) as caught:
        place.set(**{"state": "playing", **options})
    assert caught.value.result is Result.INVALID_PARAM
    assert not place.playback.moving


def test_a_clip_without_length_stands_still() -> None:
    clip = Clip("pose", 0.0, np.zeros(1, np.int32), np.zeros(1, np.uint8), np.zeros(1, np.uint8), np.array([0, 1]),
                np.zeros(1, np.float32), np.array([[3, 2, 1, 0]], np.float32))  # fmt: skip
    track = Track(Sampler(clip), state="playing")
    track.advance(5.0)
    assert track.time == 0.0 and track.sampler.at(0.0)[0, :3].tolist() == [3, 2, 1]
