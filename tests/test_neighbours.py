"""Exact nearest neighbours: equal to brute force, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.algorithms import neighbours


def brute(queries: np.ndarray, points: np.ndarray, k: int, leave_self: bool) -> np.ndarray:
    apart = np.sqrt(((queries[:, None].astype(np.float64) - points[None]) ** 2).sum(axis=2))
    if leave_self:
        np.fill_diagonal(apart, np.inf)
        k = min(k, len(points) - 1)
    return np.sort(apart, axis=1)[:, :k]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 7), st.booleans(), st.integers(0, 1000))
def test_distances_equal_brute_force(n: int, d: int, k: int, leave_self: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (n, d)).astype(np.float32) + 1000  # copies, ties, and far from the origin
    queries = points if leave_self else rng.integers(0, 4, (9, d)).astype(np.float32) + 1000
    index, found = neighbours.nearest(queries, points, k, leave_self=leave_self)
    np.testing.assert_allclose(found, brute(queries, points, k, leave_self), atol=1e-12)
    apart = np.linalg.norm(queries[:, None].astype(np.float64) - points[index], axis=2)
    np.testing.assert_allclose(apart, found, atol=1e-12)
    if leave_self:
        assert not (index == np.arange(n)[:, None]).any()


def test_many_tiles_equal_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", 7)
    monkeypatch.setattr(neighbours, "COLUMNS", 11)
    points = np.random.default_rng(0).normal(size=(100, 5))
    for leave_self in (False, True):
        _, found = neighbours.nearest(points, points, 4, leave_self=leave_self)
        np.testing.assert_allclose(found, brute(points, points, 4, leave_self), atol=1e-12)
    plain = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.testing.assert_allclose(neighbours.distances(points, points), plain, atol=1e-6)


def test_upper_tiles_hold_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", 7)
    monkeypatch.setattr(neighbours, "COLUMNS", 11)
    points = np.random.default_rng(0).normal(size=(60, 2))
    seen = np.zeros((60, 60), bool)
    for rows, columns, tile in neighbours.squared_tiles(points, points, upper=True):
        assert tile.shape == (rows.stop - rows.start, columns.stop - columns.start)
        seen[rows, columns] = True
    assert (seen | seen.T).all()


def test_a_copy_lies_at_exactly_nought() -> None:
    points = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    points[7] = points[3]
    index, found = neighbours.nearest(points, points, 1, leave_self=True)
    assert found[7, 0] == 0
    assert index[7, 0] == 3


def test_no_points_no_queries_and_one_point() -> None:
    none = np.zeros((0, 3), np.float32)
    one = np.ones((1, 3), np.float32)
    assert neighbours.nearest(one, none, 5)[0].shape == (1, 0)
    assert neighbours.nearest(none, one, 5)[0].shape == (0, 1)
    assert neighbours.nearest(one, one, 5, leave_self=True)[0].shape == (1, 0)
    assert neighbours.mean_distances(one, none, 5).tolist() == [0]
    assert neighbours.k_distances(one, 4).tolist() == [0]


def test_k_distances_of_some_rows_equal_those_of_all() -> None:
    points = np.random.default_rng(0).normal(size=(80, 3))
    rows = np.array([3, 40, 79])
    np.testing.assert_allclose(neighbours.k_distances(points, 4, rows), neighbours.k_distances(points, 4)[rows])
