"""Vertex arithmetic against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest

from farframe.asset import geometry
from farframe.asset.model import VERTEX_DTYPE
from farframe.asset.rows import gathered, stacked


def test_compact_keeps_the_triangles():
    random = np.random.default_rng(1)
    places = random.random((1_000, 3)).astype(np.float32)
    for count in (30, 900, 6_000):
        indices = random.integers(0, 700, count).astype(np.uint32)
        compacted, kept = geometry.compact(indices, len(places))
        assert kept is not None
        np.testing.assert_array_equal(places[kept][compacted], places[indices])
        assert (np.bincount(compacted) > 0).all()


def test_compact_says_when_all_are_used():
    indices = np.array([2, 1, 0], dtype=np.uint32)
    compacted, kept = geometry.compact(indices, 3)
    assert kept is None
    np.testing.assert_array_equal(compacted, indices)


def test_normalized_rows_keep_tiny_and_huge_directions():
    rows = geometry.normalized_rows(
        np.array([[1e-30, 0, 0], [0, 1e30, 0], [0, 0, 0], [np.nan, 0, 0]], dtype=np.float32)
    )
    np.testing.assert_allclose(rows, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])


def test_any_perpendicular():
    normals = geometry.normalized_rows(np.random.default_rng(1).normal(size=(500, 3)))
    normals[:2] = [[0, 0, -1], [0, 0, 1]]
    found = geometry.any_perpendicular(normals)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((found * normals).sum(axis=1), 0, atol=1e-5)


def test_tangents_follow_a_sphere():
    u, v = np.meshgrid(np.linspace(0, 1, 33), np.linspace(0.05, 0.95, 17))
    around, down = u.ravel() * 2 * np.pi, v.ravel() * np.pi
    normals = np.stack([np.cos(around) * np.sin(down), np.cos(down), -np.sin(around) * np.sin(down)], axis=1)
    first = (np.arange(16)[:, None] * 33 + np.arange(32)).ravel()
    indices = np.stack([first, first + 33, first + 1, first + 1, first + 33, first + 34], axis=1).ravel()
    tangents, used, source = geometry.generate_tangents(
        normals.astype(np.float32),
        normals.astype(np.float32),
        np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float32),
        indices.astype(np.uint32),
    )
    assert source is None
    np.testing.assert_array_equal(used, indices)
    expected = np.stack([-np.sin(around), np.zeros_like(around), -np.cos(around)], axis=1)
    assert (np.einsum("ij,ij->i", tangents[:, :3], expected) > 0.99).all()
    assert (tangents[:, 3] == 1).all()


def test_tangents_where_the_uvs_say_nothing():
    places = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (3, 1))
    tangents, _, source = geometry.generate_tangents(
        places, normals, np.zeros((3, 2), dtype=np.float32), np.arange(3, dtype=np.uint32)
    )
    assert source is None
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(tangents[:, 2], 0, atol=1e-6)


@pytest.mark.parametrize("limit", [1_000, 5])
def test_instance_bounds_hold_every_vertex(monkeypatch, limit):
    monkeypatch.setattr(geometry, "MAX_EXACT_INSTANCES", limit)
    random = np.random.default_rng(1)
    positions = [random.random((50, 3)).astype(np.float32) - 0.5 for _ in range(4)]
    low = np.array([each.min(axis=0) for each in positions], dtype=np.float64)
    high = np.array([each.max(axis=0) for each in positions], dtype=np.float64)
    part = random.integers(0, 4, 200).astype(np.int32)
    matrices = np.tile(np.eye(4), (200, 1, 1))
    matrices[:, :3, :3] = np.linalg.qr(random.normal(size=(200, 3, 3)))[0]
    matrices[:, :3, 3] = random.normal(size=(200, 3)) * 5
    found_low, found_high = geometry.instance_bounds(positions, low, high, part, matrices)
    moved = np.concatenate([positions[p] @ m[:3, :3].T + m[:3, 3] for p, m in zip(part, matrices, strict=True)])
    assert (np.array(found_low) <= moved.min(axis=0) + 1e-9).all()
    assert (np.array(found_high) >= moved.max(axis=0) - 1e-9).all()
    if limit == 1_000:
        np.testing.assert_allclose(found_low, moved.min(axis=0), atol=1e-6)
        np.testing.assert_allclose(found_high, moved.max(axis=0), atol=1e-6)


def test_bounds_of_parts_that_are_turned_by_right_angles():
    """Their boxes are exact, so they need no look at vertices; negative scales turn boxes over."""
    corners = np.array([[0, 0, 0], [1, 2, 3]], np.float32)
    turn = np.array([[0, 0, -2.0, 10], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    mirror = np.diag([-1.0, 1, 1, 1])
    low, high = np.zeros((1, 3)), np.array([[1.0, 2.0, 3.0]])
    for matrices in (turn[None], np.stack([turn, mirror])):
        found = geometry.instance_bounds([corners], low, high, np.zeros(len(matrices), np.int32), matrices)
        moved = np.concatenate([corners @ matrix[:3, :3].T + matrix[:3, 3] for matrix in matrices])
        assert found == (tuple(moved.min(axis=0)), tuple(moved.max(axis=0)))
        # No vertices are looked at: what is not there is not missed.
        assert geometry.instance_bounds([], low, high, np.zeros(len(matrices), np.int32), matrices) == found


def test_numbers_are_sorted_as_they_come():
    random = np.random.default_rng(3)
    for count in (1, 7, 70_000):
        numbers = random.integers(0, count, 5_000).astype(np.uint32)
        order, starts = geometry.by_number(numbers, count)
        assert (order == np.argsort(numbers, kind="stable")).all()
        assert all((numbers[order[starts[n] : starts[n + 1]]] == n).all() for n in random.integers(0, count, 50))
        assert starts[0] == 0 and starts[-1] == len(numbers)


def test_rows_are_moved_as_bytes():
    random = np.random.default_rng(4)
    rows = np.zeros(100, VERTEX_DTYPE)
    rows.view(np.uint8)[:] = random.integers(0, 255, rows.nbytes, dtype=np.uint8)
    which = random.integers(0, 100, 1_000).astype(np.uint32)
    assert gathered(rows, which).tobytes() == rows[which].tobytes()
    joined = stacked([rows[:10], rows[40:], rows[:0]], VERTEX_DTYPE)
    assert joined.tobytes() == rows[:10].tobytes() + rows[40:].tobytes() and joined.flags.writeable
    assert len(stacked([], VERTEX_DTYPE)) == 0 and stacked([rows], VERTEX_DTYPE) is rows
