"""The reduce stage: settings, columns, facts, and new items placed in a fitted map."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from imagier.stages.reduce import REDUCE
from imagier.types import Fitted, SettingError

METHODS = ["pca", "tsne", "umap"]


def drawn(n: int = 60, d: int = 12, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(3, d)) * 5
    return (centres[np.arange(n) % 3] + random.normal(size=(n, d))).astype(np.float32)


def run(columns: dict[str, Any], **settings: Any) -> Fitted:
    step = REDUCE.make(**settings)
    fitted = step.load()(columns)
    n = len(next(iter(columns.values())))
    assert list(fitted.columns) == step.writes.names
    for field in step.writes:
        values = fitted.columns[field.name]
        assert values.dtype == np.float32
        assert values.shape == ((n, field.type.list_size) if field.name == "components" else (n,))
        assert np.isfinite(values).all()
    json.dumps(fitted.facts, allow_nan=False)
    assert fitted.facts["items"] == n
    return fitted


def places(columns: dict[str, Any]) -> np.ndarray:
    return np.stack([columns[axis] for axis in "xyz"], axis=1)


def test_pca_gives_the_first_components_as_the_place():
    vectors = drawn()
    fitted = run({"embedding": vectors}, method="pca", components=8)
    np.testing.assert_array_equal(places(fitted.columns), fitted.columns["components"][:, :3])
    facts = fitted.facts
    assert facts["method"] == "pca"
    assert facts["components"] == len(facts["explained_variance"]) == 8
    np.testing.assert_allclose(facts["explained_variance_total"], sum(facts["explained_variance"]))
    shares = fitted.columns["components"].var(axis=0) / vectors.var(axis=0).sum()
    np.testing.assert_allclose(shares, facts["explained_variance"], rtol=1e-4)


def test_pca_pads_with_zeros_what_the_items_do_not_have():
    fitted = run({"embedding": drawn(4, 3)}, method="pca", components=50)
    assert (fitted.columns["components"][:, 3:] == 0).all()
    assert fitted.facts["components"] == 3
    two = run({"embedding": drawn()}, method="pca", components=1, dimensions=3)
    assert two.columns["components"].shape == (60, 1)
    assert two.columns["z"].any()


def test_pca_whitened_has_standard_deviation_one():
    fitted = run({"embedding": drawn()}, method="pca", components=5, whiten=True)
    np.testing.assert_allclose(fitted.columns["components"].std(axis=0, ddof=1), 1, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_two_dimensions_have_no_z(method):
    fitted = run({"embedding": drawn()}, method=method, dimensions=2)
    assert (fitted.columns["z"] == 0).all()
    assert fitted.columns["y"].any()
    assert fitted.facts["dimensions"] == 2


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_map(method):
    first, again = (run({"embedding": drawn()}, method=method, seed=7) for _ in range(2))
    np.testing.assert_array_equal(places(first.columns), places(again.columns))


@pytest.mark.parametrize("method", METHODS)
def test_fitted_items_placed_again_lie_on_themselves(method):
    columns = {"embedding": drawn()}
    fitted = run(columns, method=method)
    step = REDUCE.make(method=method)
    placed = step.place(columns, Fitted({}, fitted.facts, fitted.arrays))
    assert list(placed.columns) == step.writes.names
    np.testing.assert_allclose(places(placed.columns), places(fitted.columns), atol=1e-5 if method == "pca" else 0)
    assert placed.facts["fitted_items"] == 60
    few = step.place({"embedding": drawn()[:2]}, Fitted({}, fitted.facts, fitted.arrays))
    np.testing.assert_allclose(places(few.columns), places(fitted.columns)[:2], atol=1e-5)
    assert few.facts["items"] == 2


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_a_new_item_is_placed_among_those_like_it(method):
    vectors = drawn(63)
    fitted = run({"embedding": vectors[:60]}, method=method)
    placed = REDUCE.make(method=method).place({"embedding": vectors[60:]}, fitted)
    old = places(fitted.columns)
    centres = np.stack([old[kind::3].mean(axis=0) for kind in range(3)])
    apart = np.linalg.norm(places(placed.columns)[:, None] - centres, axis=2)
    np.testing.assert_array_equal(apart.argmin(axis=1), np.arange(60, 63) % 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 6])
def test_any_number_of_items_has_a_map(method, n):
    columns = {"embedding": drawn(n)}
    fitted = run(columns, method=method)
    assert (fitted.facts["note"] is not None) == (method != "pca" and n < 5)
    placed = REDUCE.make(method=method).place(columns, fitted)
    np.testing.assert_allclose(places(placed.columns), places(fitted.columns), atol=1e-5)
    new = REDUCE.make(method=method).place({"embedding": drawn(3, seed=1)}, fitted)
    assert np.isfinite(places(new.columns)).all()


@pytest.mark.parametrize("method", METHODS)
def test_copies_of_one_item_lie_in_one_place(method):
    fitted = run({"embedding": np.tile(drawn(1), (40, 1))}, method=method)
    assert (places(fitted.columns) == 0).all()
    assert method == "pca" or "copies of one" in fitted.facts["note"]


def test_a_map_says_what_was_used_and_how_far_it_can_be_trusted():
    facts = run({"embedding": drawn(20)}, method="umap", neighbours=50).facts
    assert facts["neighbours"] == 20
    assert facts["min_distance"] == 0.1
    assert facts["explained_variance"] is None
    assert 0.5 < facts["trustworthiness"] <= 1
    facts = run({"embedding": drawn(20)}, method="tsne").facts
    np.testing.assert_allclose(facts["perplexity"], 19 / 3)
    assert facts["kl_divergence"] > 0


def test_number_columns_count_alike_whatever_their_unit():
    random = np.random.default_rng(0)
    area, mean = random.normal(5e4, 1e4, 80), random.normal(0.5, 0.1, 80)
    fitted = run({"area": area, "mean": mean}, method="pca", on=["area", "mean"], components=2)
    scaled = run({"area": area * 1e-6 + 3, "mean": mean}, method="pca", on=["area", "mean"], components=2)
    np.testing.assert_allclose(places(fitted.columns), places(scaled.columns), atol=1e-4)
    np.testing.assert_allclose(fitted.facts["explained_variance"], [0.5, 0.5], atol=0.15)
    placed = REDUCE.make(method="pca", on=["area", "mean"], components=2).place({"area": area, "mean": mean}, fitted)
    np.testing.assert_allclose(places(placed.columns), places(fitted.columns), atol=1e-5)
    run({"count": np.arange(30), "same": np.ones(30)}, on=["count", "same"])


def test_the_columns_handed_over_stay_as_they_are():
    columns = {"embedding": drawn()}
    before = columns["embedding"].copy()
    for method in METHODS:
        run(columns, method=method)
    np.testing.assert_array_equal(columns["embedding"], before)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "umap", "perplexity": 5.0}, "perplexity"),
        ({"method": "pca", "neighbours": 5}, "neighbours"),
        ({"method": "tsne", "components": 5}, "components"),
        ({"method": "pca", "components": 0}, "reduce.components cannot be 0"),
        ({"neighbours": 1}, "reduce.neighbours"),
        ({"min_distance": 1.5}, "reduce.min_distance"),
        ({"method": "tsne", "perplexity": 0.5}, "reduce.perplexity"),
        ({"seed": -1}, "reduce.seed"),
        ({"on": []}, "reduce.on"),
        ({"on": ["area", "area"]}, "reduce.on"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_before_work_starts(given, said):
    with pytest.raises(SettingError, match=said):
        REDUCE.make(**given)


def test_a_column_without_numbers_or_with_gaps_is_refused():
    with pytest.raises(SettingError, match="'name' holds no numbers"):
        run({"name": ["a", "b"]}, on="name")
    vectors = drawn()
    vectors[3, 2] = np.nan
    with pytest.raises(SettingError, match="no finite value for 1 of 60 items"):
        run({"embedding": vectors})


@pytest.mark.parametrize("method", METHODS)
def test_getting_ready_ahead_changes_nothing(method):
    step = REDUCE.make(method=method)
    if step.warm is not None:
        step.warm()
    assert (step.warm is None) == (method == "pca")
    run({"embedding": drawn(10)}, method=method)
