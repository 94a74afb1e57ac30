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
        {"eye": (1, 0, 0), "target": (0, 0, 0), "vertical_fov_degrees": 0},
        {"eye": (1, 0, 0), "target": (0, 0, 0), "near": 2, "far": 1},
        {"eye": (1, 0, 0), "target": (0, 0, 0), "near": 0},
    ],
)
def test_impossible_views_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|between"):
        camera.look_at(**values, aspect=1)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 16 / 9])
@pytest.mark.parametrize("azimuth", [0, 35, 200])
def test_a_fitted_model_fills_the_picture_and_no_corner_is_cut(aspect: float, azimuth: float) -> None:
    bounds = Bounds(min=(1.0, 0.0, -4.0), max=(3.0, 0.5, 2.0))
    eye, target = camera.fit(bounds, aspect=aspect, azimuth_degrees=azimuth)
    view = camera.look_at(eye, target, aspect=aspect, bounds=bounds)
    back = camera.look_rotation(eye, target)
    corners = [
        np.array([x, y, z])
        for x in (bounds.min[0], bounds.max[0])
        for y in (bounds.min[1], bounds.max[1])
        for z in (bounds.min[2], bounds.max[2])
    ]
    tangent = math.tan(math.radians(camera.DEFAULT_VERTICAL_FOV_DEGREES) / 2)
    reach = 0.0
    for corner in corners:
        x, y, z = (corner - np.array(eye)) @ back
        assert view.near < -z < view.far
        reach = max(reach, abs(x) / (-z * tangent * aspect), abs(y) / (-z * tangent))
    assert reach == pytest.approx(1 / camera.MARGIN, abs=1e-6)


def test_clip_distances_hold_the_model_from_near_and_far() -> None:
    near, far = camera.clip_distances((0, 0, 1000), CUBE)
    assert near < 999 < 1001 < far
    near, far = camera.clip_distances((0, 0, 0), CUBE)
    assert 0 < near < 0.01
    assert far > math.sqrt(3)


def test_boxes_are_united() -> None:
    other = Bounds(min=(0.0, 0.0, 0.0), max=(5.0, 0.5, 0.5))
    both = camera.union([CUBE, other])
    assert both is not None
    assert (both.min, both.max) == ((-1.0, -1.0, -1.0), (5.0, 1.0, 1.0))
    assert camera.union([]) is None
