"""The governor, with frame costs that are made up: no GPU, no clock."""

from __future__ import annotations

import itertools

import pytest

from farframe.render.quality import FLUENT_RUNG, FLUENT_SECONDS, LADDER, QualityGovernor

TARGET = 0.033


def run(governor: QualityGovernor, costs: list[float], frames: int) -> list[int]:
    """Draw moving frames whose time depends on the rung; the rungs taken."""
    rungs = []
    for _ in range(frames):
        quality = governor.choose(moving=True)
        rungs.append(governor.rung)
        governor.observe(quality, costs[governor.rung], moving=True)
    return rungs


def scaled(seconds: float) -> list[float]:
    """Plausible costs by rung for a model whose frame costs ``seconds`` at rung 1."""
    return [seconds * share for share in (3.5, 1.0, 0.85, 0.7, 0.55, 0.45, 0.38, 0.32, 0.27)]


def test_the_ladder_gives_up_samples_then_detail_then_resolution() -> None:
    for better, worse in itertools.pairwise(LADDER):
        assert worse != better
        assert worse.samples <= better.samples
        assert worse.pixel_error >= better.pixel_error
        assert worse.scale <= better.scale
    first_coarse = next(i for i, q in enumerate(LADDER) if q.pixel_error > 0)
    first_small = next(i for i, q in enumerate(LADDER) if q.scale < 1)
    assert LADDER[first_coarse].samples == 1
    assert first_small > first_coarse
    assert LADDER[first_small - 1].pixel_error == 1.0
    assert max(q.pixel_error for q in LADDER) == 2.0
    assert [q.scale for q in LADDER if q.scale < 1] == [0.85, 0.7, 0.6, 0.5, 0.5]


def test_a_gpu_draws_everything_always() -> None:
    governor = QualityGovernor("gpu", TARGET)
    assert set(run(governor, [10.0] * len(LADDER), 50)) == {0}
    assert governor.choose(moving=True) == governor.choose(moving=False) == governor.full


def test_a_still_picture_is_full_and_its_time_changes_nothing() -> None:
    governor = QualityGovernor("cpu", TARGET)
    rung = governor.rung
    for _ in range(50):
        quality = governor.choose(moving=False)
        assert quality == governor.full == LADDER[0]
        governor.observe(quality, 1.0, moving=False)
    assert governor.rung == rung


def test_motion_never_draws_with_four_samples() -> None:
    governor = QualityGovernor("cpu", TARGET)
    assert min(run(governor, scaled(0.001), 1000)) == 1


@pytest.mark.parametrize("heavy", [0.02, 0.04, 0.06, 0.09, 0.11])
def test_it_meets_the_target_and_settles(heavy: float) -> None:
    governor = QualityGovernor("cpu", TARGET)
    costs = scaled(heavy)
    run(governor, costs, 400)
    rungs = run(governor, costs, 600)
    assert max(costs[rung] for rung in rungs[-100:]) <= TARGET
    assert all(costs[rung] <= FLUENT_SECONDS for rung in rungs[-100:] if rung < FLUENT_RUNG)
    # An attempt at a better rung now and then is fine; flicker is not.
    changes = sum(a != b for a, b in itertools.pairwise(rungs))
    assert changes <= 6


def test_it_reaches_the_last_rung_quickly_and_stays_there_when_nothing_helps() -> None:
    governor = QualityGovernor("cpu", TARGET)
    rungs = run(governor, [1.0] * len(LADDER), 40)
    assert rungs[12:] == [len(LADDER) - 1] * 28


def test_one_hiccup_does_not_lower_the_quality() -> None:
    governor = QualityGovernor("cpu", TARGET)
    costs = [0.015] * len(LADDER)
    before = run(governor, costs, 10)[-1]
    governor.observe(governor.choose(moving=True), 0.25, moving=True)
    assert run(governor, costs, 10)[-1] == before


def test_it_climbs_back_when_the_load_has_gone() -> None:
    governor = QualityGovernor("cpu", TARGET)
    low = run(governor, [0.2] * len(LADDER), 40)[-1]
    high = run(governor, [0.004] * len(LADDER), 400)[-1]
    assert low == len(LADDER) - 1
    assert high == 1


def test_more_frames_come_before_detail_that_is_hardly_seen_in_motion() -> None:
    # The better rung would meet the target, but not sixty frames a second.
    costs = [0.1, 0.05, 0.04, 0.03, 0.022, 0.009, 0.008, 0.007, 0.006]
    rungs = run(QualityGovernor("cpu", TARGET), costs, 600)
    assert rungs[-50:].count(FLUENT_RUNG) >= 45
    # Coarser than that nothing becomes for it.
    slow = [0.2, 0.1, 0.08, 0.06, 0.05, 0.03, 0.025, 0.02, 0.015]
    assert set(run(QualityGovernor("cpu", TARGET), slow, 600)) == {FLUENT_RUNG}
    # Where that is met, detail comes, too.
    assert run(QualityGovernor("cpu", TARGET), [0.008] * len(LADDER), 600)[-1] == 1


def test_it_remembers_its_rung_for_the_next_motion() -> None:
    governor = QualityGovernor("cpu", TARGET)
    rung = run(governor, scaled(0.07), 300)[-1]
    for _ in range(30):
        governor.observe(governor.choose(moving=False), 0.4, moving=False)
    assert governor.choose(moving=True) == LADDER[rung]


def test_a_target_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        QualityGovernor("cpu", 0.0)
