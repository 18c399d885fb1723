"""The stage `cluster`: columns in, groups and facts out; new items placed; settings refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_rand_score

from imagier.stages.cluster import CLUSTER
from imagier.types import Columns, Fitted, SettingError, Step

METHODS = ("kmeans", "dbscan", "hdbscan", "agglomerative")


def columns(points: np.ndarray, **more: Any) -> Columns:
    return {"id": [f"item{row:03d}" for row in range(len(points))], "embedding": points.astype(np.float32), **more}


def groups_of(n: int = 90, d: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.sort(np.arange(n) % 3)
    return rng.normal(size=(n, d)) + 12 * np.eye(d)[truth], truth


def fit(points: np.ndarray, **settings: Any) -> tuple[Step, Fitted]:
    step = CLUSTER.make(resamples=2, **settings)
    return step, step.load()(columns(points))


@pytest.mark.parametrize("method", METHODS)
def test_groups_columns_and_facts_are_those_promised(method: str) -> None:
    points, truth = groups_of()
    step, fitted = fit(points, method=method)
    made, facts = fitted.columns, fitted.facts
    assert step.reads == ("id", "embedding")
    assert step.remembers == ("group",)
    for field in step.writes:
        assert len(pa.array(made[field.name], field.type)) == len(points)
    assert adjusted_rand_score(truth, made["group"]) >= 0.95
    assert facts["verdict"]["good"], facts["verdict"]["text"]
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert [group["size"] for group in facts["groups"]] == np.bincount(made["group"][made["group"] >= 0]).tolist()
    for group in facts["groups"]:
        assert group["quality"] == "high"
        rows = [int(each[4:]) for each in group["central"]]
        assert (np.diff(made["distance"][rows]) >= 0).all()
        assert set(made["group"][rows]) == {group["group"]}
        assert made["distance"][rows[0]] == made["distance"][made["group"] == group["group"]].min()
    assert facts["scores"]["space"] == facts["scores"]["embedding"]
    assert facts["scores"]["space"]["silhouette"] > 0.5
    assert len(facts["stability"]["ari_each"]) == facts["stability"]["resamples"] == 2
    assert ("choice" in facts) == (method in ("kmeans", "agglomerative"))
    assert ("knee" in facts) == (method == "dbscan")
    if method == "dbscan":
        knee = facts["knee"]
        assert knee["distances"][knee["position"]] == pytest.approx(knee["eps"], rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("same", [False, True])
def test_few_or_equal_items_are_no_good_clustering_and_raise_nothing(method: str, n: int, same: bool) -> None:
    points = np.ones((n, 3)) if same else np.random.default_rng(0).uniform(size=(n, 3))
    step, fitted = fit(points, method=method)
    assert not fitted.facts["verdict"]["good"]
    assert fitted.facts["verdict"]["text"].startswith("no good clustering found")
    if n < 6:
        assert "too few items" in fitted.facts["verdict"]["text"]
        assert fitted.columns["group"].tolist() == [0] * n
    assert set(fitted.columns["quality"]) <= {"low", None}
    assert not fitted.columns["far"].any()
    assert step.place is not None
    placed = step.place(columns(np.ones((2, 3))), fitted)
    assert len(placed.columns["group"]) == 2
    json.dumps([fitted.facts, placed.facts], allow_nan=False)


def test_noise_is_said_to_have_no_groups_and_all_are_of_low_quality() -> None:
    _, fitted = fit(np.random.default_rng(0).uniform(size=(100, 2)))
    assert fitted.facts["verdict"]["text"].startswith("no good clustering found")
    assert set(fitted.columns["quality"]) == {"low"}
    assert len(fitted.facts["groups"]) >= 2


@pytest.mark.parametrize("method", METHODS)
def test_new_items_join_those_among_whom_they_lie(method: str) -> None:
    points, truth = groups_of()
    step, fitted = fit(points, method=method)
    new = np.concatenate([12 * np.eye(4)[:3], points[:5], [[300.0, 0, 0, 0]]])
    assert step.place is not None
    saved = {name: np.asarray(values) for name, values in fitted.arrays.items()}
    assert all(values.dtype.kind != "O" for values in saved.values())
    placed = step.place(columns(new), Fitted({}, json.loads(json.dumps(fitted.facts)), saved))
    made = placed.columns
    of = {kind: np.bincount(fitted.columns["group"][truth == kind] + 1).argmax() - 1 for kind in range(3)}
    assert made["group"][:3].tolist() == [of[0], of[1], of[2]]
    np.testing.assert_array_equal(made["group"][3:8], fitted.columns["group"][:5])
    np.testing.assert_allclose(made["distance"][3:8], fitted.columns["distance"][:5], rtol=1e-5)
    assert made["quality"][:3] == ["high"] * 3
    assert made["far"].tolist() == [False] * 8 + [True]
    if method == "dbscan":
        assert made["group"][8] == -1
        assert made["quality"][8] is None
    assert placed.facts["items"] == 9
    assert placed.facts["fitted_items"] == 90
    assert sum(group["size"] for group in placed.facts["groups"]) == (made["group"] >= 0).sum()


def test_groups_keep_their_numbers_when_items_are_added() -> None:
    points, truth = groups_of()
    step = CLUSTER.make(k=3, resamples=1)
    old = np.array([{0: 4.0, 1: 9.0, 2: 2.0}[kind] for kind in truth])
    old[::7] = np.nan
    made = step.load()(columns(points, previous_group=old)).columns["group"]
    assert [set(made[truth == kind]) for kind in range(3)] == [{4}, {9}, {2}]
    masked = np.ma.masked_array(np.nan_to_num(old), np.isnan(old))
    np.testing.assert_array_equal(step.load()(columns(points, previous_group=masked)).columns["group"], made)


def test_number_columns_count_alike_whatever_their_units() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    area = 1e6 * (1 + (truth == 1)) + rng.normal(size=90) * 5e4
    shade = 0.2 + 0.1 * (truth == 2) + rng.normal(size=90) * 0.005
    step = CLUSTER.make(on=["area", "shade"], resamples=2)
    assert step.reads == ("id", "area", "shade", "embedding")
    given = columns(rng.normal(size=(90, 5)), area=area, shade=shade)
    fitted = step.load()(given)
    assert adjusted_rand_score(truth, fitted.columns["group"]) == 1
    assert fitted.facts["scores"]["space"]["silhouette"] > 0.7
    assert fitted.facts["scores"]["embedding"]["silhouette"] < 0.1
    assert step.place is not None
    np.testing.assert_array_equal(step.place(given, fitted).columns["group"], fitted.columns["group"])


def test_the_same_seed_gives_the_same_facts() -> None:
    points = np.random.default_rng(0).normal(size=(60, 5))
    first, second = (fit(points, seed=3)[1] for _ in range(2))
    assert first.facts == second.facts
    np.testing.assert_array_equal(first.columns["group"], second.columns["group"])


def test_columns_handed_in_stay_as_they_were() -> None:
    given = columns(groups_of()[0])
    before = given["embedding"].copy()
    CLUSTER.make(resamples=1).load()(given)
    np.testing.assert_array_equal(given["embedding"], before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "kmean"}, "kmeans"),
        ({"method": "kmeans", "eps": 0.5}, "belongs to dbscan"),
        ({"method": "dbscan", "k": 3}, "belongs to kmeans, agglomerative"),
        ({"method": "hdbscan", "linkage": "ward"}, "belongs to agglomerative"),
        ({"k": 1}, "cluster.k"),
        ({"k_max": 1}, "cluster.k_max"),
        ({"method": "dbscan", "eps": 0.0}, "above 0"),
        ({"method": "dbscan", "eps": float("nan")}, "above 0"),
        ({"method": "dbscan", "min_samples": 0}, "min_samples"),
        ({"method": "hdbscan", "min_cluster_size": 1}, "min_cluster_size"),
        ({"method": "agglomerative", "distance_threshold": -1.0}, "above 0"),
        ({"method": "agglomerative", "linkage": "centroid"}, "ward, average"),
        ({"method": "agglomerative", "k": 3, "distance_threshold": 1.0}, "give one of them"),
        ({"k": 3, "k_max": 9}, "give one of them"),
        ({"resamples": 0}, "resamples"),
        ({"seed": -1}, "seed"),
        ({"on": []}, "one column"),
        ({"on": ["a", "a"]}, "one column"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        CLUSTER.make(**settings)


@pytest.mark.parametrize("bad", [["a"] * 9, np.full(9, np.nan)])
def test_columns_without_numbers_are_refused(bad: Any) -> None:
    step = CLUSTER.make(on=["kind"])
    with pytest.raises(SettingError, match="'kind'"):
        step.load()(columns(np.ones((9, 2)), kind=bad))


def test_settings_of_each_method_are_taken() -> None:
    points, truth = groups_of()
    for settings in (
        {"method": "dbscan", "eps": 3.0, "min_samples": 4},
        {"method": "hdbscan", "min_cluster_size": 10, "min_samples": 3},
        {"method": "agglomerative", "linkage": "average", "distance_threshold": 8.0},
        {"method": "agglomerative", "linkage": "complete", "k": 3},
    ):
        facts = fit(points, **settings)[1].facts
        assert len(facts["groups"]) == 3, settings
        assert facts["verdict"]["good"], facts["verdict"]["text"]
        assert "choice" not in facts
        assert "knee" not in facts
    _, few = fit(points, method="hdbscan", min_cluster_size=1000)
    assert few.columns["group"].tolist() == [-1] * len(truth)
    assert "all items are noise" in few.facts["verdict"]["text"]
    np.testing.assert_allclose(few.columns["distance"], np.linalg.norm(points - points.mean(axis=0), axis=1), rtol=1e-4)


def test_ten_real_images_are_placed_with_their_nearest(shared) -> None:
    from PIL import Image

    from imagier.algorithms import classical

    files = sorted((shared / "data" / "metal_nut").glob("*/*.jpg"))[::2]
    vectors = []
    for file in files:
        with Image.open(file) as image:
            vectors.append(classical.describe(np.asarray(image.convert("RGB").resize((128, 128)))))
    points = np.stack(vectors)
    out = np.zeros(len(points), bool)
    out[np.random.default_rng(0).choice(len(points), 10, replace=False)] = True
    step, fitted = fit(points[~out])
    assert step.place is not None
    placed = step.place(columns(points[out]), fitted).columns["group"]
    closest = np.linalg.norm(points[out][:, None] - points[~out][None], axis=2).argmin(axis=1)
    assert (placed == fitted.columns["group"][closest]).sum() >= 9
