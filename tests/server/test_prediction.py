"""Prediction against motions that are known: errors shrink, nothing overshoots, jitter is not amplified."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from farframe.protocol.records import FieldOfView, PoseFlags, PoseRecord, View
from farframe.server.prediction import (
    MAX_HORIZON_SECONDS,
    MAX_TURN_RADIANS,
    STALE_SECONDS,
    PosePredictor,
    conjugate,
    from_rotation_vector,
    multiply,
    rotate,
    to_rotation_vector,
)

FOV = FieldOfView.symmetric(1.0, 1.0)
EYES = 0.064
Motion = Callable[[float], View]


def view(position: tuple[float, float, float], turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> View:
    return View(position, from_rotation_vector(np.array(turn)), FOV)


def pose(identifier: int, at: float, *views: View) -> PoseRecord:
    return PoseRecord(identifier, int(at * 1e6), views, PoseFlags.PREDICT)


def angle(a: View, b: View) -> float:
    return float(np.linalg.norm(to_rotation_vector(multiply(a.orientation, conjugate(b.orientation)))))


def walk(time: float) -> View:
    """Straight on at 1.4 m/s, turning at 1 rad/s."""
    return view((1.4 * time, 1.7, 0.0), (0.0, 1.0 * time, 0.0))


def head(time: float) -> View:
    """A head that looks about: half a metre to and fro and 40 degrees, once in two seconds."""
    phase = math.pi * time
    return view(
        (0.25 * math.sin(phase), 1.7 + 0.02 * math.sin(3 * phase), 0.0),
        (0.1 * math.sin(2 * phase), 0.7 * math.sin(phase), 0.0),
    )


def errors(
    motion: Motion, delay: float, *, rate: float = 60.0, seconds: float = 4.0
) -> tuple[list[float], list[float]]:
    """Degrees and millimetres together, in mm at a metre's distance: with prediction and without."""
    predictor = PosePredictor()
    with_it, without = [], []
    for index in range(int(seconds * rate)):
        now = index / rate
        predictor.observe(pose(index + 1, now, motion(now)))
        if index < 6:
            continue
        (predicted,) = predictor.predict(0.0, delay) or (motion(now),)
        truth = motion(now + delay)
        for found, into in ((predicted, with_it), (motion(now), without)):
            into.append(math.dist(found.position, truth.position) + angle(found, truth))
    return with_it, without


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.09])
def test_constant_motion_is_predicted_exactly(delay: float) -> None:
    with_it, without = errors(walk, delay)
    assert max(with_it) < 1e-5, "times travel as whole microseconds"
    assert min(without) > 0.9 * 2.4 * delay


@pytest.mark.parametrize("delay", [0.03, 0.05, 0.08])
def test_a_heads_motion_is_predicted_to_less_than_half_the_error(delay: float) -> None:
    with_it, without = errors(head, delay)
    assert np.mean(with_it) < 0.5 * np.mean(without)
    assert max(with_it) < max(without)


def test_uneven_poses_do_as_well() -> None:
    chance = random.Random(4)
    predictor = PosePredictor()
    now, index = 0.0, 0
    while now < 3.0:
        index += 1
        now += chance.uniform(0.004, 0.03)
        predictor.observe(pose(index, now, walk(now)))
        if index > 30:
            predicted = predictor.predict(0.0, 0.05)
            assert predicted is not None
            assert math.dist(predicted[0].position, walk(now + 0.05).position) < 1e-4


def test_jitter_of_a_device_at_rest_is_not_amplified() -> None:
    chance = random.Random(5)
    predictor = PosePredictor()
    seen, told = [], []
    for index in range(3000):
        there = view(
            (chance.gauss(0, 1e-3), chance.gauss(0, 1e-3), chance.gauss(0, 1e-3)), (0.0, chance.gauss(0, 1e-3), 0.0)
        )
        predictor.observe(pose(index + 1, index / 60, there))
        predicted = predictor.predict(0.0, 0.05)
        seen.append(there.position)
        told.append((there if predicted is None else predicted[0]).position)
    assert np.std(told) < 1.35 * np.std(seen)


def test_it_looks_no_further_than_its_horizon_and_turns_no_further_than_allowed() -> None:
    predictor = PosePredictor()
    for index in range(20):
        now = index / 60
        predictor.observe(pose(index + 1, now, view((1.4 * now, 0.0, 0.0), (0.0, 0.0, 12.0 * now))))
    far, edge = predictor.predict(0.0, 5.0), predictor.predict(0.0, MAX_HORIZON_SECONDS)
    assert far is not None
    assert far == edge
    newest = view((1.4 * 19 / 60, 0.0, 0.0), (0.0, 0.0, 12.0 * 19 / 60))
    assert math.dist(far[0].position, newest.position) == pytest.approx(1.4 * MAX_HORIZON_SECONDS, rel=1e-3)
    assert angle(far[0], newest) == pytest.approx(MAX_TURN_RADIANS, rel=1e-3)


def test_a_device_that_stops_is_drawn_where_it_is() -> None:
    predictor = PosePredictor()
    for index in range(20):
        predictor.observe(pose(index + 1, index / 60, walk(index / 60)))
    shifts = []
    for age in (0.0, 0.04, 0.07, 0.1, 0.119):
        predicted = predictor.predict(age, 0.0)
        shifts.append(0.0 if predicted is None else math.dist(predicted[0].position, walk(19 / 60).position))
    assert shifts[0] == 0.0, "seen at once it needs no prediction"
    assert shifts[1] > 0.04
    assert max(shifts) <= 1.4 * MAX_HORIZON_SECONDS
    assert shifts[-1] < 0.005
    assert predictor.predict(STALE_SECONDS, 0.05) is None


def test_after_a_stop_that_is_told_nothing_is_added() -> None:
    predictor = PosePredictor()
    for index in range(20):
        predictor.observe(pose(index + 1, index / 60, walk(index / 60)))
    for index in range(20, 27):
        predictor.observe(pose(index + 1, index / 60, walk(19 / 60)))
    (predicted,) = predictor.predict(0.0, 0.05) or (walk(19 / 60),)
    assert math.dist(predicted.position, walk(19 / 60).position) < 1e-9
    assert angle(predicted, walk(19 / 60)) < 1e-9


def test_a_jump_is_no_motion() -> None:
    predictor = PosePredictor()
    for index in range(10):
        predictor.observe(pose(index + 1, index / 60, walk(index / 60)))
    predictor.observe(pose(11, 10 / 60, view((100.0, 0.0, 0.0))))
    assert predictor.predict(0.0, 0.05) is None


def test_two_eyes_move_as_one_head() -> None:
    predictor = PosePredictor()
    for index in range(12):
        now = index / 60
        centre, turn = np.array((0.5 * now, 1.7, 0.0)), (0.0, 2.0 * now, 0.0)
        quaternion = from_rotation_vector(np.array(turn))
        left = centre + rotate(quaternion, np.array((-EYES / 2, 0.0, 0.0)))
        right = centre + rotate(quaternion, np.array((EYES / 2, 0.0, 0.0)))
        eyes = [view((float(p[0]), float(p[1]), float(p[2])), turn) for p in (left, right)]
        predictor.observe(pose(index + 1, now, *eyes))
    predicted = predictor.predict(0.0, 0.05)
    assert predicted is not None
    assert math.dist(predicted[0].position, predicted[1].position) == pytest.approx(EYES, rel=1e-6)
    assert angle(predicted[0], predicted[1]) < 1e-9
    assert predicted[0].fov == FOV
    assert angle(predicted[0], view((0, 0, 0), (0.0, 2.0 * 11 / 60, 0.0))) == pytest.approx(0.1, rel=1e-3)


def test_too_few_poses_and_times_that_go_back_say_nothing() -> None:
    predictor = PosePredictor()
    assert predictor.predict(0.0, 0.05) is None
    for index, at in enumerate((0.0, 0.02, 0.04)):
        assert predictor.predict(0.0, 0.05) is None
        predictor.observe(pose(index + 1, at, walk(at)))
    assert predictor.predict(0.0, 0.05) is not None
    predictor.observe(pose(9, 0.01, walk(0.01)))
    assert predictor.predict(0.0, 0.05) is None


@pytest.mark.parametrize("vector", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.9), (0.0, 3.1, 0.0), (1e-9, 0.0, 0.0)])
def test_rotation_vectors_come_back(vector: tuple[float, float, float]) -> None:
    assert to_rotation_vector(from_rotation_vector(np.array(vector))) == pytest.approx(np.array(vector), abs=1e-8)
    turned = rotate(from_rotation_vector(np.array((0.0, math.pi / 2, 0.0))), np.array((1.0, 0.0, 0.0)))
    assert turned == pytest.approx(np.array((0.0, 0.0, -1.0)), abs=1e-12)
