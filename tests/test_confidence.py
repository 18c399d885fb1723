"""Confidence: temperatures are found again, sets cover what they say, and measures are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from imagier.algorithms import confidence, judging


def drawn(n: int = 4000, k: int = 5, seed: int = 0, sharp: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are calibrated as they are: the true class is drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharp, (n, k))
    shares = confidence.shares(logits)
    true = (shares.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=k - 1)
    return logits, true


@pytest.mark.parametrize("sharper", [0.3, 1.0, 4.0])
def test_the_temperature_of_logits_that_were_sharpened_is_found(sharper):
    logits, true = drawn()
    found = confidence.fit_temperature(sharper * logits, true)
    assert found == pytest.approx(sharper, rel=0.08)
    before, after = (
        confidence.reliability(shares.max(1), shares.argmax(1) == true).ece
        for shares in (confidence.shares(sharper * logits), confidence.shares(sharper * logits, found))
    )
    assert after < 0.03
    assert after <= before + 3e-3


def test_the_calibration_error_is_that_of_its_definition():
    confident, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, False, True, True])
    found = confidence.reliability(confident, right, bins=10)
    assert found.ece == pytest.approx(0.5 * 0.45 + 0.5 * 0.45)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert confidence.reliability(np.array([0.0, 1.0]), np.array([False, True])).ece == 0


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("by_class", [False, True])
def test_sets_cover_as_often_as_they_say(level, by_class):
    logits, true = drawn(12000)
    shares = confidence.shares(logits)
    made = confidence.covering(shares[:6000], true[:6000]).sets(shares[6000:], level, by_class)
    held = made[np.arange(6000), true[6000:]]
    assert abs(held.mean() - level) < 0.015
    if by_class:
        assert min(held[true[6000:] == at].mean() for at in range(5)) > level - 0.04
    assert made[np.arange(6000), shares[6000:].argmax(1)].all()
    assert made.sum(1).mean() < 4.5


def test_sets_grow_with_their_level_and_of_too_few_images_hold_everything():
    logits, true = drawn(300)
    covering = confidence.covering(confidence.shares(logits), true)
    given_ = confidence.shares(drawn(100, seed=1)[0])
    small, large = covering.sets(given_, 0.6), covering.sets(given_, 0.95)
    assert (large | ~small).all()
    assert large.sum() > small.sum()
    few = confidence.covering(confidence.shares(logits[:5]), true[:5])
    assert few.sets(given_, 0.9).all()


@given(st.integers(2, 6), st.integers(3, 40), st.integers(0, 10_000))
def test_what_is_before_a_class_is_the_sum_of_the_likelier(k, n, seed):
    shares = confidence.shares(np.random.default_rng(seed).normal(0, 2, (n, k)))
    made = confidence.before(shares)
    truth = np.array([[row[row > value].sum() for value in row] for row in shares])
    np.testing.assert_allclose(made, truth, atol=1e-9)


@given(st.integers(20, 60), st.integers(0, 10_000))
def test_measures_are_those_of_scikit_learn(n, seed):
    rng = np.random.default_rng(seed)
    k = 3
    true, told = (np.concatenate([np.arange(k), rng.integers(0, k, n)]) for _ in range(2))
    scores = rng.integers(0, 5, len(true)) / 4  # with ties
    one = np.ones((1, len(true)))
    counts = judging.counts(true, told, k, one)
    of = {"average": "macro", "zero_division": 0}
    assert judging.over_classes(judging.recall(counts))[0] == pytest.approx(metrics.balanced_accuracy_score(true, told))
    assert judging.over_classes(judging.f1(counts))[0] == pytest.approx(metrics.f1_score(true, told, **of))
    assert judging.over_classes(judging.precision(counts))[0] == pytest.approx(
        metrics.precision_score(true, told, **of)
    )
    truth = metrics.roc_auc_score(true == 1, scores)
    assert judging.auroc(scores, true == 1) == pytest.approx(truth)
    assert judging.weighted_auroc(scores, true == 1, one)[0] == pytest.approx(truth)
    assert judging.confusion(true, told, k).tolist() == metrics.confusion_matrix(true, told).tolist()


@given(st.integers(0, 1000))
def test_a_weighted_measure_is_that_of_the_images_repeated(seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (1, 40)).astype(float)
    weights[0, :2] = 1
    positive = np.concatenate([[True, False], rng.random(38) < 0.5])
    scores = rng.random(40).round(1)
    many = np.repeat(np.arange(40), weights[0].astype(int))
    assert judging.weighted_auroc(scores, positive, weights)[0] == pytest.approx(
        judging.auroc(scores[many], positive[many])
    )
    right = rng.random(40) < scores
    assert judging.weighted_ece(scores, right, weights)[0] == pytest.approx(
        confidence.reliability(scores[many], right[many]).ece
    )


def test_an_interval_holds_the_mean_and_shrinks_with_more_images():
    rng = np.random.default_rng(0)
    widths = []
    for n in (50, 800):
        right = (rng.random(n) < 0.7).astype(float)
        made = judging.measured(lambda w, right=right: w @ right / w.sum(1), judging.resampled(n))
        assert made.ci95[0] <= made.mean <= made.ci95[1]
        assert made.n == n
        widths.append(made.ci95[1] - made.ci95[0])
    assert widths[1] < widths[0] / 2.5
