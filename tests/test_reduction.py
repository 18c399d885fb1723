"""Principal components, UMAP and t-SNE on drawn points whose structure is known."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.algorithms import reduction, umap
from imagier.algorithms.neighbours import nearest


def blobs(n: int = 200, groups: int = 4, d: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Well-parted Gaussian groups: points (n, d) float32, and the group of each."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(groups, d)) * 6
    which = np.arange(n) % groups
    return (centres[which] + random.normal(size=(n, d))).astype(np.float32), which


def test_components_find_the_axes_and_variances_that_points_were_drawn_along():
    random = np.random.default_rng(0)
    true_axes, _ = np.linalg.qr(random.normal(size=(8, 8)))
    spreads = np.array([9.0, 4.0, 1.0])
    along = random.normal(size=(5000, 3))
    along = (along - along.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(along.T))).T  # exactly white
    points = (along * spreads) @ true_axes[:3] + 100

    found = reduction.principal_components(points, 5)

    assert found.axes.shape == (3, 8)
    np.testing.assert_allclose(found.variance, spreads**2, rtol=1e-6)
    np.testing.assert_allclose(np.abs(found.axes @ true_axes[:3].T), np.eye(3), atol=1e-6)
    np.testing.assert_allclose(found.ratios, spreads**2 / (spreads**2).sum(), rtol=1e-6)
    assert (found.axes.max(axis=1) == np.abs(found.axes).max(axis=1)).all()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 12), d=st.integers(1, 12), count=st.integers(1, 20), seed=st.integers(0, 99))
def test_components_are_orthonormal_and_lose_nothing_when_all_are_kept(n, d, count, seed):
    points = np.random.default_rng(seed).normal(size=(n, d))
    found = reduction.principal_components(points, count)
    assert len(found.axes) == min(count, d, max(n - 1, 0))
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(len(found.axes)), atol=1e-8)
    assert found.ratios.sum() <= 1 + 1e-9
    if count >= min(n, d) and n:
        values = reduction.project(points, found.mean, found.axes)
        np.testing.assert_allclose(values @ found.axes + found.mean, points, atol=1e-4)


def test_components_are_those_of_sklearn():
    from sklearn.decomposition import PCA

    for shape in ((60, 10), (10, 60)):
        points = np.random.default_rng(1).normal(size=shape)
        found, theirs = reduction.principal_components(points, 5), PCA(5, svd_solver="full").fit(points)
        np.testing.assert_allclose(found.variance, theirs.explained_variance_, rtol=1e-8)
        np.testing.assert_allclose(found.ratios, theirs.explained_variance_ratio_, rtol=1e-8)
        np.testing.assert_allclose(np.abs(np.sum(found.axes * theirs.components_, axis=1)), 1, rtol=1e-8)


def test_copies_far_from_the_origin_have_no_components():
    found = reduction.principal_components(np.full((50, 7), 1234.567, np.float32), 3)
    assert len(found.axes) == 0
    assert len(found.ratios) == 0


def test_memberships_of_a_point_add_up_to_the_logarithm_of_its_neighbours():
    points, _ = blobs()
    index, distances = nearest(points, points, 14, leave_self=True)
    rho = distances[:, :1]
    sigma = umap._widths(distances - rho, np.log2(15))
    np.testing.assert_allclose(np.exp(-(distances - rho) / sigma[:, None]).sum(axis=1), np.log2(15), atol=1e-4)

    graph = umap.fuzzy_graph(index, distances)
    assert abs(graph - graph.T).max() == 0
    assert graph.diagonal().max() == 0
    np.testing.assert_allclose(graph.max(axis=1).toarray(), 1)  # each point is surely tied to its nearest
    assert graph.data.min() > 0
    assert graph.data.max() <= 1


def test_a_pair_of_memberships_is_joined_as_a_plus_b_minus_ab():
    points = np.array([[0.0], [1.0], [3.0], [7.0], [15.0]])
    index, distances = nearest(points, points, 3, leave_self=True)
    rho = distances[:, :1]
    sigma = umap._widths(distances - rho, 2.0)
    one_way = np.zeros((5, 5))
    np.put_along_axis(one_way, index, np.exp(-(distances - rho) / sigma[:, None]), axis=1)
    wanted = one_way + one_way.T - one_way * one_way.T
    np.testing.assert_allclose(umap.fuzzy_graph(index, distances).toarray(), wanted, atol=1e-12)


@pytest.mark.parametrize("min_distance", [0.0, 0.1, 0.5, 1.0])
def test_the_curve_is_near_what_it_was_fitted_to(min_distance):
    a, b = umap.curve(min_distance)
    d = np.linspace(0, 3, 50)
    wanted = np.where(d < min_distance, 1, np.exp(-(d - min_distance)))
    assert np.abs(1 / (1 + a * d ** (2 * b)) - wanted).max() < 0.12
    if min_distance == 0.1:
        np.testing.assert_allclose([a, b], [1.5769, 0.8951], atol=1e-3)  # the values that the paper's defaults give


@pytest.mark.parametrize("dimensions", [2, 3])
def test_umap_keeps_groups_apart_and_neighbours_together(dimensions):
    points, which = blobs()
    made = reduction.umap_map(points, dimensions=dimensions, neighbours=15, min_distance=0.1, seed=0)
    assert made.places.shape == (200, dimensions)
    assert made.places.dtype == np.float32
    index, _ = nearest(made.places, made.places, 5, leave_self=True)
    assert (which[index] == which[:, None]).all()
    assert reduction.trustworthiness(points, made.places) > 0.85


def test_the_seed_alone_decides_a_umap():
    points, _ = blobs(100)
    first, again, other = (
        reduction.umap_map(points, dimensions=2, neighbours=10, min_distance=0.1, seed=seed).places
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_tsne_keeps_groups_apart_and_comes_out_the_same_twice(dimensions):
    points, which = blobs(60, 3)
    first, again = (
        reduction.tsne_map(points, dimensions=dimensions, perplexity=8, exaggeration=1, seed=1) for _ in range(2)
    )
    np.testing.assert_array_equal(first.places, again.places)
    index, _ = nearest(first.places, first.places, 3, leave_self=True)
    assert (which[index] == which[:, None]).all()
    assert 0 < first.divergence < 1


@pytest.mark.parametrize("n", [5, 6, 7, 10])
@pytest.mark.parametrize("copies", [False, True])
def test_few_points_and_copies_have_a_finite_map(n, copies):
    points = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)
    if copies:
        points[1:] = points[0]
        points[-1] += 1
    made = reduction.umap_map(points, dimensions=3, neighbours=15, min_distance=0.1, seed=0)
    assert np.isfinite(made.places).all()
    assert made.neighbours == min(n, 15)
    made = reduction.tsne_map(points, dimensions=3, perplexity=(n - 1) / 3, exaggeration=1, seed=0)
    assert np.isfinite(made.places).all()


def test_many_points_find_nearly_all_their_neighbours_without_comparing_all_pairs(monkeypatch):
    points, _ = blobs(600)
    exact, _ = reduction._neighbours(points, 10, 0)
    monkeypatch.setattr(reduction, "EXACT", 100)
    index, distances = reduction._neighbours(points, 10, 0)
    again, _ = reduction._neighbours(points, 10, 0)
    np.testing.assert_array_equal(index, again)
    assert (np.diff(distances, axis=1) >= 0).all()
    assert (index != np.arange(600)[:, None]).all()
    assert np.mean([len(set(a) & set(b)) for a, b in zip(exact, index, strict=True)]) > 9.5


def test_trustworthiness_is_one_for_a_copy_and_lower_for_chance():
    points, _ = blobs(150, d=3)
    assert reduction.trustworthiness(points, points) == 1
    chance = np.random.default_rng(0).normal(size=(150, 2))
    assert reduction.trustworthiness(points, chance) < 0.7
    assert reduction.trustworthiness(points, points, sample=40) == 1
    assert reduction.trustworthiness(points[:4], points[:4]) is None


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 20), dims=st.sampled_from([2, 3]), seed=st.integers(0, 99))
def test_a_fitted_point_is_placed_on_itself_and_others_within_the_map(n, dims, seed):
    random = np.random.default_rng(seed)
    points, places = random.normal(size=(n, 6)).astype(np.float32), random.normal(size=(n, dims)).astype(np.float32)
    np.testing.assert_array_equal(reduction.place_among(points, points, places), places)
    new = reduction.place_among(random.normal(size=(4, 6)), points, places)
    assert (new >= places.min(axis=0) - 1e-5).all()
    assert (new <= places.max(axis=0) + 1e-5).all()


def test_a_point_halfway_between_two_is_placed_halfway():
    fitted, places = np.array([[0.0], [1.0]]), np.array([[0, 0], [4, 8]], np.float32)
    np.testing.assert_allclose(reduction.place_among(np.array([[0.5], [0.25]]), fitted, places), [[2, 4], [1, 2]])
    none = reduction.place_among(fitted, np.zeros((0, 1)), np.zeros((0, 2), np.float32))
    np.testing.assert_array_equal(none, np.zeros((2, 2)))


def test_threads_that_ask_at_once_are_given_one_compiled_loop():
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(umap.compiled_descent())) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    assert len({id(each) for each in found}) == 1


def test_the_loop_is_kept_on_disk_and_does_without_where_nothing_can_be_written(tmp_path):
    """A process of its own: what is compiled in this one says nothing of the disk."""
    code = (
        "import numba, sys\n"
        "from numba.core import caching\n"
        "from imagier.algorithms import umap\n"
        "if sys.argv[1] == 'nowhere': caching.FunctionCache._impl_class._locator_classes = []\n"
        "f = umap.compiled_descent(); print(sum(f.stats.cache_hits.values()), f.stats.cache_path is None)"
    )

    def said(how: str) -> str:
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, how],
            capture_output=True, text=True, check=True, env=_env(NUMBA_CACHE_DIR=str(tmp_path)),
        )  # fmt: skip
        return run.stdout.strip()

    assert said("disk") == "0 False"
    assert list(tmp_path.rglob("*.nbc"))
    assert said("disk") == "1 False"
    assert said("nowhere") == "0 True"


def _env(**more: str) -> dict[str, str]:
    import os
    from pathlib import Path

    import imagier

    paths = [str(Path(imagier.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | more
