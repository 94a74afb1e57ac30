from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farframe.client import camera
from farframe.protocol.messages import Bounds
from farframe.protocol.records import PoseRecord, decode_pose, encode_pose

CUBE = Bounds(min=(-1.0, -1.0, -1.0), max=(1.0, 1.0, 1.0))
numbers = st.floats(-100, 100).map(lambda value: round(value, 3))
points = st.tuples(numbers, numbers, numbers)


def rotate(quaternion: tuple[float, float, float, float], vector: tuple[float, float, float]) -> np.ndarray:
    x, y, z, w = quaternion
    axis = np.array([x, y, z])
    value = np.array(vector)
    return value + 2 * np.cross(axis, np.cross(axis, value) + w * value)


@given(points, points)
def test_a_view_looks_along_its_own_minus_z_with_its_x_level(
    eye: tuple[float, float, float], target: tuple[float, float, float]
) -> None:
    direction = np.subtract(target, eye)
    if np.linalg.norm(direction) < 1e-3:
        return
    view = camera.look_at(eye, target, aspect=1.5)
    direction = direction / np.linalg.norm(direction)
    assert np.allclose(rotate(view.orientation, (0, 0, -1)), direction, atol=1e-6)
    if abs(direction[1]) < 0.999:
        assert rotate(view.orientation, (1, 0, 0))[1] == pytest.approx(0, abs=1e-6)
        assert rotate(view.orientation, (0, 1, 0))[1] > 0
    assert decode_pose(encode_pose(PoseRecord(1, 0, (view,)))).views[0].position == view.position


def test_straight_down_has_a_direction() -> None:
    view = camera.look_at((0, 5, 0), (0, 0, 0), aspect=1)
    assert np.allclose(rotate(view.orientation, (0, 0, -1)), (0, -1, 0), atol=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        {"eye": (0, 0, 0), "target": (0, 0, 0)},
        {"eye": (math.nan, 0, 0), "target": (0, 0, 0)},
        {"eye": (1, 0), "target": (0, 0, 0)},
        {"eye": (1e12, 0, 0), "target": (0, 0, 0)},
        {"eye": (1, 0, 0), "target": (0, 0, 0), "vertical_fov_degrees": 0},
        {"eye": (1, 0, 0), "target": (0, 0, 0), "near": 2, "far": 1},
        {"eye": (1, 0, 0), "target": (0, 0, 0), "near": 0},
    ],
)
def test_impossible_views_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|between"):
        camera.look_at(**values, aspect=1)


def corner_projections(bounds: Bounds, eye: camera.Vector3, target: camera.Vector3, aspect: float) -> np.ndarray:
    """(8, 3): where a fitted picture shows the corners, -1 to 1 across and upwards, and their depths in metres."""
    low, high = np.array(bounds.min), np.array(bounds.max)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (high - low) + low
    x, y, z = ((corners - np.array(eye)) @ camera.look_rotation(eye, target)).T
    tangent = math.tan(math.radians(camera.DEFAULT_VERTICAL_FOV_DEGREES) / 2)
    return np.stack([x / (-z * tangent * aspect), y / (-z * tangent), -z], axis=1)


@pytest.mark.parametrize("aspect", [0.4, 1.0, 16 / 9, 3.5])
@pytest.mark.parametrize("azimuth", [0, 36, 90, 200, -75])
@pytest.mark.parametrize("elevation", [-40, 0, 20, 85])
@pytest.mark.parametrize("size", [(2.0, 0.5, 6.0), (1.0, 1.0, 1.0), (0.2, 9.0, 0.3), (4.0, 3.0, 0.0)])
def test_a_fitted_model_fills_the_picture_and_no_corner_is_cut(
    aspect: float, azimuth: float, elevation: float, size: tuple[float, float, float]
) -> None:
    bounds = Bounds(min=(1.0, 0.0, -4.0), max=(1.0 + size[0], size[1], -4.0 + size[2]))
    eye, target = camera.fit(bounds, aspect=aspect, azimuth_degrees=azimuth, elevation_degrees=elevation)
    seen = corner_projections(bounds, eye, target, aspect)
    view = camera.look_at(eye, target, aspect=aspect, bounds=bounds)
    assert ((view.near < seen[:, 2]) & (seen[:, 2] < view.far)).all()
    reach = float(np.abs(seen[:, :2]).max())
    assert reach <= 1 / camera.MARGIN + 1e-6
    assert np.allclose(target, np.add(bounds.min, bounds.max) / 2)
    radius = math.dist(bounds.min, bounds.max) / 2
    at_least_distance = math.dist(eye, target) == pytest.approx(camera.MIN_FIT_DISTANCE * radius, rel=1e-3)
    assert reach > 0.85 or at_least_distance


def test_the_fit_is_the_typescript_clients() -> None:
    # Yaw 36 and pitch 20 degrees, a vertical field of view of 45: what its camera's frame() gives for the same box.
    bounds = Bounds(min=(-1.0, 0.0, -2.0), max=(3.0, 2.0, 2.0))
    for aspect, distance in ((0.4, 19.642001810), (1.0, 8.311480613), (16 / 9, 7.407473284)):
        eye, target = camera.fit(bounds, aspect=aspect)
        assert target == (1.0, 1.0, 0.0)
        assert math.dist(eye, target) == pytest.approx(distance, abs=1e-6)


def test_clip_distances_hold_the_model_from_near_and_far() -> None:
    near, far = camera.clip_distances((0, 0, 1000), CUBE)
    assert near < 999 < 1001 < far
    near, far = camera.clip_distances((0, 0, 0), CUBE)
    assert 0 < near < 0.01
    assert far > math.sqrt(3)


def test_what_lies_beyond_all_clip_distances_is_not_held_but_no_error() -> None:
    near, far = camera.clip_distances((1e12, 0, 0), CUBE)
    assert 1e-6 <= near < far <= 1e9
    assert (
        camera.look_at((1e8, 0, 0), (0, 0, 0), aspect=1, bounds=Bounds(min=(-1e12,) * 3, max=(-9e11,) * 3)).far == 1e9
    )


def test_a_box_grows_around_its_middle() -> None:
    grown = camera.grown(Bounds(min=(1.0, 0.0, 0.0), max=(3.0, 0.0, 2.0)), 10.0)
    assert (grown.min, grown.max) == ((-8.0, 0.0, -9.0), (12.0, 0.0, 11.0))


def test_boxes_are_united() -> None:
    other = Bounds(min=(0.0, 0.0, 0.0), max=(5.0, 0.5, 0.5))
    both = camera.union([CUBE, other])
    assert both is not None
    assert (both.min, both.max) == ((-1.0, -1.0, -1.0), (5.0, 1.0, 1.0))
    assert camera.union([]) is None


def test_an_orthographic_view_is_as_high_as_was_asked_for() -> None:
    view = camera.look_at((0, 0, 5), (0, 0, 0), aspect=2.0, orthographic=3.0)
    assert view.orthographic and view.tangents == (-3.0, 3.0, 1.5, -1.5)
    for height in (0.0, -1.0, math.nan, 1e9):
        with pytest.raises(ValueError, match="orthographic"):
            camera.look_at((0, 0, 5), (0, 0, 0), aspect=2.0, orthographic=height)


def test_a_fitted_orthographic_picture_holds_all_corners_and_no_more() -> None:
    bounds = Bounds(min=(-4.0, 0.0, -1.0), max=(4.0, 2.0, 1.0))
    eye, target = camera.fit(bounds, aspect=1.5)
    height = camera.fit_height(bounds, eye, target, aspect=1.5)
    low, high = np.array(bounds.min), np.array(bounds.max)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (high - low) + low
    x, y, z = ((corners - np.array(eye)) @ camera.look_rotation(eye, target)).T
    filled = max(np.abs(x).max() / (0.5 * height * 1.5), np.abs(y).max() / (0.5 * height))
    assert filled == pytest.approx(1 / camera.MARGIN)
    assert z.max() < 0, "all of it lies in front of the eye"
