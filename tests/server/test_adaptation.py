"""The picture's adaptation: down before a picture breaks, and up again with hysteresis; on a clock of its own."""

from __future__ import annotations

import math

import pytest

from farframe.server.adaptation import STEPS, PictureAdaptation


class Scene:
    """An encoder's model: the quantizer is 30 at ``needs`` bits per pixel, and six more for half of that."""

    def __init__(self, *, needs: float = 0.05, tells: bool = True) -> None:
        self.adaptation = PictureAdaptation()
        self.needs = needs
        self.tells = tells
        self.now = 10.0
        self.changes: list[tuple[float, int]] = []
        self.quantizer = 0.0

    def run(self, seconds: float, bitrate: int, *, still: bool = False) -> None:
        end = self.now + seconds
        while self.now < end:
            width, height, rate = self.adaptation.picture(1280, 720, 60)
            pace = min(rate, 40)
            self.now += 1 / pace
            bits = bitrate / pace
            self.quantizer = 30 + 6 * math.log2(self.needs / (bits / (width * height)))
            told = min(max(self.quantizer, 0), 51) if self.tells else None
            if self.adaptation.observe(
                self.now,
                bitrate=bitrate,
                bits=int(bits),
                pixels=width * height,
                quantizer=told,
                keyframe=False,
                still=still,
            ):
                self.changes.append((self.now, self.adaptation.step))


def test_a_rate_that_suffices_changes_nothing() -> None:
    scene = Scene()
    scene.run(30, 2_000_000)
    assert scene.changes == []
    assert scene.adaptation.picture(1280, 720, 60) == (1280, 720, 60)


@pytest.mark.parametrize("tells", [True, False])
def test_a_collapse_goes_as_far_down_as_it_takes_at_once(tells: bool) -> None:
    scene = Scene(needs=0.1 if tells else 0.05, tells=tells)
    scene.run(5, 8_000_000)
    before = scene.now
    scene.run(10, 500_000)
    first_at, first_step = scene.changes[0]
    assert first_at - before < 0.1
    assert first_step >= 2
    assert scene.quantizer < 40
    assert len(scene.changes) <= 2, "few steps: each costs a keyframe"


def test_a_slow_fall_goes_step_by_step_and_a_rise_comes_back_to_the_full_picture() -> None:
    scene = Scene(needs=0.1)
    for rate in range(4_000_000, 300_000, -100_000):
        scene.run(0.5, rate)
    assert scene.adaptation.step >= 3
    down = len(scene.changes)
    assert down <= len(STEPS)
    for rate in range(300_000, 8_000_000, 200_000):
        scene.run(1, rate)
    scene.run(20, 8_000_000)
    assert scene.adaptation.step == 0
    steps = [step for _, step in scene.changes[down:]]
    assert steps == sorted(steps, reverse=True), "no step down on the way up"


def test_a_rate_in_between_does_not_make_it_swing() -> None:
    for rate in range(300_000, 6_000_000, 150_000):
        scene = Scene(needs=0.1)
        scene.run(60, rate)
        assert len([change for change in scene.changes if change[0] > 30]) == 0, f"at {rate}"


def test_a_picture_at_rest_is_drawn_in_full_again() -> None:
    scene = Scene(needs=0.1)
    scene.run(5, 8_000_000)
    scene.run(10, 500_000)
    assert STEPS[scene.adaptation.step].scale < 1
    scene.run(5, 500_000, still=True)
    assert STEPS[scene.adaptation.step].scale == 1


def test_sides_stay_even_and_are_never_tiny() -> None:
    scene = Scene(needs=1.0)
    scene.run(5, 8_000_000)
    scene.run(5, 200_000)
    assert scene.adaptation.step == len(STEPS) - 1
    assert scene.adaptation.picture(1366, 769, 60) == (682, 384, 15)
    assert scene.adaptation.picture(100, 80, 10) == (100, 80, 10)
