"""Overlaps against brute force by other means: polygons that are clipped, and least distances that are searched for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from farframe.scene.overlaps import Box, Sphere, distances_to_boxes, nearest_on_triangles
from farframe.scene.transforms import compose

Array = Any
CASES = 400


def turned(generator: np.random.Generator, count: int) -> Array:
    return compose(np.zeros((count, 3)), unit(generator.normal(size=(count, 4))), np.ones((count, 3)))[:, :, :3]


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_boxes(generator: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
    """Boxes under rotation, uneven scale, mirroring and shear; some are flat."""
    matrix = np.zeros((count, 3, 4))
    matrix[:, :, :3] = turned(generator, count) * generator.uniform(-2, 2, (count, 1, 3))
    sheared = generator.random(count) < 0.5
    matrix[sheared, :, :3] = turned(generator, int(sheared.sum())) @ matrix[sheared, :, :3]
    matrix[sheared, :, :3] *= generator.uniform(0.3, 2, (int(sheared.sum()), 3, 1))
    matrix[:, :, 3] = generator.uniform(-3, 3, (count, 3))
    extent = generator.uniform(0.05, 1.5, (count, 3))
    extent[generator.random((count, 3)) < 0.1] = 0.0
    return matrix, generator.uniform(-1, 1, (count, 3)), extent


def random_shape(generator: np.random.Generator) -> Box:
    half = generator.uniform(0.1, 2.0, 3)
    half[generator.random(3) < 0.1] = 0.0
    return Box(generator.uniform(-2, 2, 3), half, turned(generator, 1)[0])


def clipped(polygon: list[Array], margin: float) -> list[Array]:
    """What is left of a polygon in the cube from -1 to 1 (Sutherland and Hodgman, 1974)."""
    for axis, side in itertools.product(range(3), (-1.0, 1.0)):
        kept: list[Array] = []
        for first, second in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            before, after = side * first[axis] - 1.0 - margin, side * second[axis] - 1.0 - margin
            if before <= 0:
                kept.append(first)
            if (before < 0) != (after < 0) and before != after:
                kept.append(first + (second - first) * (before / (before - after)))
        polygon = kept
    return polygon


def in_cube(shape: Box, points: Array) -> Array:
    return (points - shape.center) @ shape.axes / np.maximum(shape.half, 1e-9)


def box_meets_box(shape: Box, matrix: Array, center: Array, extent: Array, margin: float) -> bool:
    """By the faces of one, clipped by the other, and the middle of the other, which may lie in the one."""
    for axis, side in itertools.product(range(3), (-1.0, 1.0)):
        first, second = ((axis + 1) % 3, (axis + 2) % 3)
        corners = []
        for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
            place = np.zeros(3)
            place[axis], place[first], place[second] = side, a, b
            corners.append(in_cube(shape, matrix[:, :3] @ (center + place * extent) + matrix[:, 3]))
        if clipped(corners, margin):
            return True
    linear = matrix[:, :3] * np.maximum(extent, 1e-12)
    inside = np.linalg.solve(linear, shape.center - matrix[:, :3] @ center - matrix[:, 3])
    return bool((np.abs(inside) <= 1 + margin).all())


def test_boxes_meet_boxes_as_their_clipped_faces_say() -> None:
    generator = np.random.default_rng(1)
    outcomes = []
    for _ in range(12):
        shape = random_shape(generator)
        matrix, center, extent = random_boxes(generator, 60)
        met = shape.meets_boxes(matrix, center, extent)
        for row in range(60):
            wide = box_meets_box(shape, matrix[row], center[row], extent[row], 1e-6)
            tight = box_meets_box(shape, matrix[row], center[row], extent[row], -1e-6)
            if wide == tight or (shape.half == 0.0).any():
                assert met[row] == wide
            outcomes.append(bool(met[row]))
    assert 100 < sum(outcomes) < 620


def test_triangles_meet_boxes_as_the_clipped_triangle_says() -> None:
    generator = np.random.default_rng(2)
    met_count = 0
    for _ in range(12):
        shape = random_shape(generator)
        corners = shape.center + generator.uniform(-2, 2, (60, 1, 3)) + generator.normal(size=(60, 3, 3))
        corners[:10, 2] = corners[:10, 1]  # without area
        met = shape.meets_triangles(corners)
        for row in range(60):
            polygon = list(in_cube(shape, corners[row]))
            wide, tight = bool(clipped(polygon, 1e-6)), bool(clipped(polygon, -1e-6))
            if wide == tight or (shape.half == 0.0).any():
                assert met[row] == wide
        met_count += int(met.sum())
    assert 60 < met_count < 600


def test_the_distance_to_a_box_is_the_least_that_a_search_finds() -> None:
    generator = np.random.default_rng(3)
    matrix, center, extent = random_boxes(generator, CASES)
    point = np.array([0.3, -0.2, 0.1])
    distance = distances_to_boxes(point, matrix, center, extent)
    # Projected gradient descent, with steps that cannot overshoot.
    linear = matrix[:, :, :3] * extent[:, None, :]
    target = point - np.einsum("nij,nj->ni", matrix[:, :, :3], center) - matrix[:, :, 3]
    step = 1.0 / np.maximum(np.linalg.norm(linear, ord=2, axis=(1, 2)) ** 2, 1e-12)
    place = np.zeros((CASES, 3))
    for _ in range(20_000):
        rest = np.einsum("nij,nj->ni", linear, place) - target
        place = np.clip(place - step[:, None] * np.einsum("nij,ni->nj", linear, rest), -1, 1)
    least = np.linalg.norm(np.einsum("nij,nj->ni", linear, place) - target, axis=1)
    assert (distance <= least + 1e-9).all(), "nothing is nearer"
    np.testing.assert_allclose(distance, least, atol=2e-3)
    assert (distance == 0).any() or (distance < 1e-9).any()
    ball = Sphere(point, 1.0)
    np.testing.assert_array_equal(ball.meets_boxes(matrix, center, extent), distance <= 1.0)


def test_what_a_shape_holds_lies_in_it_by_all_its_corners() -> None:
    generator = np.random.default_rng(4)
    matrix, center, extent = random_boxes(generator, CASES)
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))
    corners = np.einsum("nij,ncj->nci", matrix[:, :, :3], center[:, None] + signs * extent[:, None])
    corners += matrix[:, None, :, 3]
    for shape in (Box(np.zeros(3), np.array([4.0, 3, 5]), turned(generator, 1)[0]), Sphere(np.zeros(3), 4.0)):
        expected = shape.holds_points(corners.reshape(-1, 3)).reshape(CASES, 8).all(axis=1)
        held = shape.holds_boxes(matrix, center, extent)
        np.testing.assert_array_equal(held, expected)
        assert held.any() and not held.all()
        assert shape.meets_boxes(matrix, center, extent)[held].all()


def test_the_nearest_point_of_a_triangle_is_the_nearest_of_many_on_it() -> None:
    generator = np.random.default_rng(5)
    corners = generator.normal(size=(CASES, 3, 3))
    corners[:40, 2] = corners[:40, 0]
    near = nearest_on_triangles(np.zeros(3), corners)
    shares = np.array([(a, b) for a in np.linspace(0, 1, 60) for b in np.linspace(0, 1, 60) if a + b <= 1])
    weights = np.concatenate([1 - shares.sum(axis=1, keepdims=True), shares], axis=1)
    sampled = np.linalg.norm(np.einsum("sk,nki->nsi", weights, corners), axis=2).min(axis=1)
    distance = np.linalg.norm(near, axis=1)
    assert (distance <= sampled + 1e-12).all()
    np.testing.assert_allclose(distance, sampled, atol=0.06)
    ball = Sphere(np.zeros(3), 0.5)
    np.testing.assert_array_equal(ball.meets_triangles(corners), distance <= 0.5)


def test_touching_counts_and_a_hair_apart_does_not() -> None:
    cube = np.eye(4)[None, :3]
    one = np.ones((1, 3))
    for gap, expected in ((0.0, True), (1e-6, False)):
        shape = Box(np.array([2.0 + gap, 0, 0]), np.ones(3), np.eye(3))
        assert shape.meets_boxes(cube, np.zeros((1, 3)), one).tolist() == [expected]
        assert Sphere(np.array([2.0 + gap, 0, 0]), 1.0).meets_boxes(cube, np.zeros((1, 3)), one).tolist() == [expected]
    # Boxes along the same edges in space, which only a pair of edges keeps apart.
    half = np.sqrt(0.5)
    axes = np.array([[half, -half, 0], [half, half, 0], [0, 0, 1.0]])
    tilted = axes @ np.array([[1, 0, 0], [0, half, -half], [0, half, half]])
    apart = Box(np.array([0.0, 3.2, 0.0]), np.ones(3), tilted)
    assert not apart.meets_boxes(cube, np.zeros((1, 3)), one)[0]


@pytest.mark.parametrize("flat", [(1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (2.0, 0.0, 0.0)])
def test_flat_boxes_have_no_ghosts(flat: tuple[float, float, float]) -> None:
    """Rectangles, lines and points in one plane: only directions within the plane keep them apart."""
    shape = Box(np.array([5.0, 0.0, 0.0]), np.array(flat), np.eye(3))
    matrix = np.eye(4)[None, :3]
    assert not shape.meets_boxes(matrix, np.zeros((1, 3)), np.array([[1.0, 1.0, 0.0]]))[0]
    near = Box(np.array([0.5, 0.0, 0.0]), np.array(flat), np.eye(3))
    assert near.meets_boxes(matrix, np.zeros((1, 3)), np.array([[1.0, 1.0, 0.0]]))[0]
