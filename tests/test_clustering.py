"""The four methods on drawn groups; numbers that stay with their groups; verdicts on groups and on noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_rand_score

from imagier.algorithms import clustering, groups, verdict

METHODS = tuple(clustering.METHODS)


def drawn(n: int, d: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three Gaussian groups, their centres `apart` standard deviations from a corner: points (n, d), truth (n,)."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((3, d))
    centres[1, 0] = centres[2, 1] = apart
    truth = np.arange(n) % 3
    return (centres[truth] + rng.normal(size=(n, d))).astype(np.float32), truth


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d", "apart"), [(60, 2, 12), (150, 3, 12), (300, 10, 14), (200, 50, 24)])
def test_three_groups_well_apart_are_found(method: str, n: int, d: int, apart: float) -> None:
    points, truth = drawn(n, d, apart)
    labels = clustering.METHODS[method](points, 0).labels
    assert adjusted_rand_score(truth, labels) >= 0.95
    assert len(np.unique(labels[labels >= 0])) == 3


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_k_is_chosen_and_the_choice_explained(method: str) -> None:
    points, _ = drawn(90, 3, 12)
    choice = clustering.METHODS[method](points, 0, k_max=6).choice
    assert choice is not None
    assert choice["k"] == [2, 3, 4, 5, 6]
    assert choice["chosen"] == choice["silhouette_k"] == 3
    assert max(choice["silhouette"]) == choice["silhouette"][1]
    assert "3 groups" in choice["why"]
    assert ("inertia" in choice) == (method == "kmeans")
    if method == "kmeans":
        assert choice["elbow"] == 3
        assert "they agree" in choice["why"]


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_k_is_what_was_asked_for(method: str) -> None:
    points, _ = drawn(90, 3, 12)
    found = clustering.METHODS[method](points, 0, k=5)
    assert len(np.unique(found.labels)) == 5
    assert found.choice is None


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 80), st.floats(0.1, 2), st.integers(2, 8), st.integers(0, 1000))
def test_dbscan_has_the_core_points_and_groups_of_scikit_learn(n: int, eps: float, least: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, 2)) * 2
    ours = clustering.dbscan(points, 0, eps=eps, min_samples=least)
    theirs = DBSCAN(eps=eps, min_samples=least).fit(points)
    if clustering.different(points, 2) < 2:
        return
    core = np.zeros(n, bool)
    core[theirs.core_sample_indices_] = True
    assert ours.core is not None
    np.testing.assert_array_equal(ours.core, core)
    np.testing.assert_array_equal(ours.labels < 0, theirs.labels_ < 0)
    if core.any():
        assert adjusted_rand_score(ours.labels[core], theirs.labels_[core]) == 1


def test_dbscan_over_many_tiles_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = drawn(120, 2, 8)
    whole = clustering.dbscan(points, 0).labels
    monkeypatch.setattr("imagier.algorithms.neighbours.ROWS", 7)
    monkeypatch.setattr("imagier.algorithms.neighbours.COLUMNS", 11)
    assert adjusted_rand_score(whole, clustering.dbscan(points, 0).labels) == 1


def test_dbscan_parts_groups_from_noise_between_them() -> None:
    rng = np.random.default_rng(0)
    points, truth = drawn(300, 2, 20)
    noise = rng.uniform(-8, 28, (30, 2))
    labels = clustering.dbscan(np.concatenate([points, noise]), 0).labels
    assert adjusted_rand_score(truth, labels[:300]) >= 0.95
    assert (labels[300:] < 0).mean() > 0.5


@pytest.mark.parametrize("method", ["agglomerative", "hdbscan", "kmeans"])
def test_past_the_stated_sizes_the_groups_are_the_same_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    for name in ("TREE", "CENTRES", "DENSITY", "K_SAMPLE"):
        monkeypatch.setattr(clustering, name, 150)
    points, truth = drawn(600, 3, 15)
    found = clustering.METHODS[method](points, 0)
    assert adjusted_rand_score(truth, found.labels) >= 0.95
    assert any("150" in note for note in found.notes)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_groups(method: str) -> None:
    points = np.random.default_rng(0).normal(size=(80, 4))
    first, second = (clustering.METHODS[method](points, 3).labels for _ in range(2))
    np.testing.assert_array_equal(first, second)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 4), max_size=30))
def test_groups_are_numbered_by_size(labels: list[int]) -> None:
    numbers = groups.numbered(np.array(labels, np.int64))
    sizes = np.bincount(numbers[numbers >= 0])
    assert (np.diff(sizes) <= 0).all()
    assert (sizes > 0).all()
    np.testing.assert_array_equal(numbers < 0, np.array(labels, np.int64) < 0)
    assert len(set(zip(labels, numbers.tolist(), strict=True))) == len(set(labels))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=30), st.permutations(range(10)))
def test_the_same_groups_keep_their_numbers(labels: list[int], order: list[int]) -> None:
    old = np.array([order[label] if label >= 0 else -1 for label in labels], np.float64)
    np.testing.assert_array_equal(groups.numbered(np.array(labels, np.int64), old), old)


def test_a_new_group_gets_a_number_never_used_and_a_lost_one_is_not_given_again() -> None:
    old = np.array([7.0] * 10 + [3.0] * 5 + [9.0] * 4 + [np.nan] * 6)
    new = np.array([1] * 10 + [0] * 5 + [0, 1, -1, -1] + [2] * 6)
    numbers = groups.numbered(new, old)
    assert numbers[0] == 7
    assert numbers[10] == 3
    assert set(numbers[-6:]) == {10}


def test_unrelated_halves_do_not_inherit_numbers() -> None:
    old = np.array([0.0, 0, 1, 1] * 10)
    assert set(groups.numbered(np.array([0, 1, 0, 1] * 10), old)) == {2, 3}


def test_noise_is_no_group_to_inherit_from() -> None:
    assert set(groups.numbered(np.zeros(4, int), np.full(4, -1.0))) == {0}


def test_far_items_lie_beyond_the_fence_and_copies_do_not_move_it() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-1, 1, (100, 3)), [[40.0, 0, 0]]])
    bound, far = groups.fence(points)
    assert far.nonzero()[0].tolist() == [100]
    assert groups.beyond(np.array([[0.0, 0, 0], [30, 30, 30]]), points, bound).tolist() == [False, True]
    copies = np.concatenate([points, np.repeat(points[:1], 400, axis=0)])
    assert groups.fence(copies)[1].nonzero()[0].tolist() == [100]
    assert groups.fence(points[:3])[0] == np.inf
    assert groups.fence(np.ones((20, 3)))[1].sum() == 0


def test_the_vote_is_weighted_by_distance_and_a_copy_decides() -> None:
    points = np.array([[0.0], [3], [4], [10]])
    labels = np.array([5, 1, 1, -1])
    assert groups.voted(np.array([[0.0], [1], [3.5], [100]]), points, labels).tolist() == [5, 5, 1, 1]
    assert groups.voted(np.array([[9.9]]), points, labels).tolist() == [-1]
    assert groups.voted(np.array([[1.0]]), points[:0], labels[:0]).tolist() == [-1]


def test_groups_are_described_by_what_they_are() -> None:
    points = np.array([[0.0, 0], [0, 2], [10, 0], [10, 2], [10, 1]])
    labels = np.array([1, 1, 0, 0, 0])
    first, second = groups.described(points, labels, np.array([0.5, 0.7, np.nan, np.nan, np.nan]))
    assert (first.number, first.size, first.silhouette) == (0, 3, None)
    assert first.central.tolist() == [4, 2, 3]
    spread = np.linalg.norm(points - points.mean(axis=0), axis=1).mean()
    assert second.cohesion == pytest.approx(1 / spread)
    assert second.silhouette == pytest.approx(0.6)


def judged(points: np.ndarray, method: str, seed: int = 0) -> verdict.Verdict:
    labels = groups.numbered(clustering.METHODS[method](points, seed).labels)
    count = len(np.unique(labels[labels >= 0]))
    if count < 2:
        return verdict.poor("fewer than two groups")
    held: dict[str, int | None] = {"k": count} if method in ("kmeans", "agglomerative") else {}
    again = clustering.repeated(method, held, count, starts=2)
    agreement = verdict.stability(points, labels, again, 3, seed)
    return verdict.judge(labels, *verdict.references(points, labels, again, seed), agreement)


NOISE: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "uniform in 2": lambda rng: rng.uniform(size=(80, 2)),
    "uniform in 3": lambda rng: rng.uniform(size=(80, 3)),
    "uniform in 10": lambda rng: rng.uniform(size=(80, 10)),
    "uniform in 50": lambda rng: rng.uniform(size=(80, 50)),
    "one Gaussian": lambda rng: rng.normal(size=(80, 5)),
    "one long Gaussian": lambda rng: rng.normal(size=(80, 10)) * 20 * 0.5 ** np.arange(10),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", NOISE)
def test_noise_has_no_good_clustering(method: str, kind: str) -> None:
    found = judged(NOISE[kind](np.random.default_rng(1)).astype(np.float32), method)
    assert not found.good
    assert found.text.startswith("no good clustering found")


@pytest.mark.parametrize("method", METHODS)
def test_groups_well_apart_are_a_good_clustering(method: str) -> None:
    found = judged(drawn(90, 3, 12)[0], method)
    assert found.good, found.text


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_overlapping_groups_of_unequal_size_are_a_good_clustering(method: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 200, p=[0.6, 0.25, 0.15])
    points = rng.normal(size=(200, 10)) + 5 * np.eye(10)[truth]
    assert judged(points, method).good


def test_mostly_noise_is_no_good_clustering() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [-1] * 30)
    found = verdict.judge(labels, 0.9, np.zeros((2, 20)), [1.0])
    assert not found.good
    assert "60% of the items are noise" in found.text


def test_one_group_and_a_few_others_is_no_good_clustering() -> None:
    found = verdict.judge(np.array([0] * 98 + [1] * 2), 0.9, np.zeros((2, 20)), [1.0])
    assert not found.good
    assert "all but 2.0% are in one" in found.text
