"""Scores equal to scikit-learn's; undefined ones are None; a sampled silhouette is near the whole one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from imagier.algorithms import scores
from imagier.algorithms.neighbours import distances


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 40), st.integers(1, 5), st.integers(2, 6), st.integers(0, 1000))
def test_scores_equal_those_of_scikit_learn(n: int, d: int, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)).astype(np.float32)
    labels = rng.integers(-1, groups, n)
    inside = labels >= 0
    found = scores.silhouettes(points, labels, 0)
    assert np.isnan(found.values[~inside]).all()
    kinds = len(np.unique(labels[inside]))
    if not 2 <= kinds < inside.sum():
        assert found.mean is None
        assert scores.davies_bouldin(points, labels) is None
        assert scores.calinski_harabasz(points, labels) is None
        return
    kept, named = points[inside].astype(np.float64), labels[inside]
    np.testing.assert_allclose(found.values[inside], metrics.silhouette_samples(kept, named), atol=1e-6)
    assert scores.matrix_silhouette(distances(kept, kept), named) == pytest.approx(found.mean)
    assert scores.davies_bouldin(points, labels) == pytest.approx(metrics.davies_bouldin_score(kept, named))
    assert scores.calinski_harabasz(points, labels) == pytest.approx(metrics.calinski_harabasz_score(kept, named))


def test_a_sampled_silhouette_is_near_the_whole_one() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 5000, p=[0.9, 0.05, 0.04, 0.01])
    points = rng.normal(size=(5000, 5)) + 3 * np.eye(5)[labels]
    found = scores.silhouettes(points, labels, 0)
    whole = metrics.silhouette_samples(points, labels)
    assert found.sample <= scores.SAMPLE
    assert found.mean == pytest.approx(whole.mean(), abs=0.02)
    for label in range(4):
        assert found.values[labels == label].mean() == pytest.approx(whole[labels == label].mean(), abs=0.05)


def test_groups_that_are_single_places_have_no_calinski_harabasz() -> None:
    points = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    labels = np.repeat([0, 1], 5)
    assert scores.calinski_harabasz(points, labels) is None
    assert scores.davies_bouldin(points, labels) == 0
    assert scores.silhouettes(points, labels, 0).mean == pytest.approx(1)


def test_copies_split_in_two_groups_have_silhouette_nought() -> None:
    found = scores.silhouettes(np.ones((6, 2)), np.array([0, 0, 0, 1, 1, 1]), 0)
    assert found.values.tolist() == [0] * 6


def test_centroids_are_means() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(50, 3)), rng.integers(-1, 3, 50)
    expected = [points[labels == group].mean(axis=0) for group in range(3)]
    np.testing.assert_allclose(scores.centroids(points, labels), expected)
    assert scores.centroids(points, np.full(50, -1)).shape == (0, 3)


def test_adjusted_rand_knows_the_same_groups_by_other_numbers() -> None:
    assert scores.adjusted_rand(np.array([0, 0, 1, 1, -1]), np.array([5, 5, 2, 2, 0])) == 1
