"""What an inspector is made of, on arrays whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import beta

from imagier.algorithms import anomaly, judging, localising, posing
from imagier.algorithms.coreset import Coreset, farthest_first

# ---------------------------------------------------------------- coreset


@given(st.integers(0, 100), st.integers(1, 60), st.integers(1, 40))
def test_the_radius_covers_all_that_was_not_chosen(seed, count, size):
    vectors = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    chosen, radius = farthest_first(vectors, size, seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, size)
    assert cdist(vectors, vectors[chosen]).min(1).max() <= radius + 1e-3


def test_copies_are_taken_once():
    chosen, radius = farthest_first(np.ones((20, 4), np.float32), 5)
    assert len(chosen) == 1
    assert radius == 0


def test_a_rare_kind_of_vectors_is_kept_where_random_ones_would_lose_it():
    rng = np.random.default_rng(0)
    made = Coreset(50)
    for at in range(100):
        part = rng.normal(size=(200, 96)).astype(np.float32)
        part[0, :] += 40 if at == 60 else 0
        made.add(part)
    vectors = made.vectors()
    assert vectors.shape == (50, 96)
    assert (vectors.mean(1) > 20).any()


def test_a_stream_of_any_length_is_held_in_three_times_the_size():
    made = Coreset(100)
    rng = np.random.default_rng(0)
    most = 0
    for _ in range(60):
        made.add(rng.normal(size=(500, 8)).astype(np.float32))
        most = max(most, made._held)
    assert most <= 2 * 100
    # As good as the greedy choice from all at once, within the little that is not seen together.
    rng = np.random.default_rng(0)
    every = np.concatenate([rng.normal(size=(500, 8)) for _ in range(60)]).astype(np.float32)
    far = [cdist(every, chosen).min(1).max() for chosen in (made.vectors(), every[farthest_first(every, 100)[0]])]
    assert far[0] < 1.5 * far[1]


def test_fewer_vectors_than_asked_for_are_all_kept():
    made = Coreset(100)
    vectors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    made.add(vectors)
    np.testing.assert_array_equal(made.vectors(), vectors)


# ---------------------------------------------------------------- methods


def learnt(method: str, seed: int = 0) -> dict[str, np.ndarray]:
    """From 60 images in whose places numbers lie around the place's own."""
    rng = np.random.default_rng(seed)
    side = 1 if anomaly.METHODS[method].whole else 5
    places = np.random.default_rng(99).normal(size=(side, side, 12)) * 3
    learner = anomaly.METHODS[method].learner(400, 1.0, 0)
    for _ in range(12):
        learner.add((places + rng.normal(size=(5, side, side, 12))).astype(np.float32))
    return learner.arrays()


@pytest.mark.parametrize("method", anomaly.METHODS)
def test_what_was_never_seen_is_hotter_and_where_it_is(method):
    rng = np.random.default_rng(5)
    side = 1 if anomaly.METHODS[method].whole else 5
    places = np.random.default_rng(99).normal(size=(side, side, 12)) * 3
    shown = (places + rng.normal(size=(2, side, side, 12))).astype(np.float32)
    at = (0, 0) if side == 1 else (3, 1)
    shown[1, at[0], at[1]] += 8
    arrays = learnt(method)
    assert set(arrays) == set(anomaly.METHODS[method].needs)
    heat = anomaly.METHODS[method].score(arrays, 1)(shown)
    assert heat.shape == (2, side, side)
    assert heat.dtype == np.float32
    assert np.unravel_index(heat[1].argmax(), heat[1].shape) == at
    assert heat[1].max() > 1.5 * heat[0].max()


def test_padim_is_the_mahalanobis_distance_at_the_place():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 2, 2, 5)) @ rng.normal(size=(5, 5))
    learner = anomaly.METHODS["padim"].learner(1, 1.0, 0)
    learner.add(images.astype(np.float32))
    shown = rng.normal(size=(1, 2, 2, 5)).astype(np.float32)
    heat = anomaly.METHODS["padim"].score(learner.arrays(), 1)(shown)
    every = [np.cov(images[:, y, x].T, bias=True) for y in range(2) for x in range(2)]
    level = np.mean([np.trace(each) for each in every]) / 5
    away = shown[0, 1, 0] - images[:, 1, 0].mean(0)
    wanted = np.sqrt(away @ np.linalg.inv(every[2] + anomaly.SHRINK * level * np.eye(5)) @ away)
    assert heat[0, 1, 0] == pytest.approx(wanted, rel=1e-3)


def test_a_place_with_what_is_around_it():
    maps = np.zeros((1, 5, 5, 600), np.float32)
    maps[0, 2, 2, 550] = 9
    made = anomaly.around(maps, 3)
    np.testing.assert_allclose(made[0, 1:4, 1:4, 550], 1, rtol=1e-6)
    assert made.sum() == pytest.approx(9)
    fine, coarse = np.zeros((2, 4, 4, 3), np.float32), np.ones((2, 2, 2, 150), np.float32)
    made = anomaly.on_one_grid([fine, coarse])
    assert made.shape == (2, 4, 4, 153)
    np.testing.assert_allclose(made[..., 3:], 1)


def test_the_score_is_the_mean_of_the_hottest():
    heat = np.arange(100, dtype=np.float32).reshape(1, 10, 10)
    assert anomaly.hottest(heat, 0.05) == pytest.approx(np.mean([95, 96, 97, 98, 99]))
    assert anomaly.hottest(heat, 0.001) == pytest.approx(99)
    assert anomaly.hottest(heat, 1) == pytest.approx(heat.mean())


# ---------------------------------------------------------------- the line


def test_the_line_refuses_as_many_good_ones_as_it_says():
    rng = np.random.default_rng(0)
    rates, inside = [], 0
    for _ in range(300):
        line = anomaly.line(rng.normal(size=99), 0.05)
        assert line.rate == pytest.approx(0.05)
        refused = (rng.normal(size=2000) > line.threshold).mean()
        rates.append(refused)
        inside += line.ci95[0] <= refused <= line.ci95[1]
    assert np.mean(rates) == pytest.approx(0.05, abs=0.005)
    assert inside / 300 == pytest.approx(0.95, abs=0.04)


def test_what_was_left_out_widens_the_interval():
    scores = np.random.default_rng(0).normal(size=220)
    plain = anomaly.line(scores, 0.05)
    kept = np.sort(scores)[:198]
    line = anomaly.line(kept, 0.05, left_out=0.1)
    refused = (np.random.default_rng(1).normal(size=20_000) > line.threshold).mean()
    assert refused > plain.ci95[1]
    assert line.ci95[0] < refused < line.ci95[1]


def test_neighbours_are_found_by_cells_too():
    rng = np.random.default_rng(0)
    memory = rng.normal(size=(1200, 8)).astype(np.float32)
    arrays = {"mean": np.zeros(8), "axes": np.eye(8), "memory": memory}
    shown = rng.normal(size=(2, 5, 5, 8)).astype(np.float32)
    for neighbours in (1, 60):
        exact, cells = (
            anomaly.METHODS["patchcore"].score(arrays | {"cells": np.array(each)}, neighbours)(shown)
            for each in (False, True)
        )
        wanted = np.sort(cdist(shown.reshape(-1, 8), memory), axis=1)[:, :neighbours].mean(1)
        np.testing.assert_allclose(exact.ravel(), wanted, rtol=1e-4)
        assert (cells >= exact - 1e-4).all()
        assert cells.mean() < 1.06 * exact.mean()


def test_with_few_good_ones_the_line_lies_at_the_worst():
    line = anomaly.line(np.array([1.0, 5, 2, 3, 4]), 0.05)
    assert line.threshold == 5
    assert line.rate == pytest.approx(1 / 6)
    assert line.ci95 == pytest.approx(tuple(beta.ppf((0.025, 0.975), 1, 5)))


# ---------------------------------------------------------------- where


def test_pixel_auroc_and_overlap_are_what_their_definitions_say():
    rng = np.random.default_rng(0)
    pairs = []
    for at in range(12):
        truth = np.zeros((32, 32), bool)
        if at % 2:
            truth[4:10, 4:8] = True
            truth[20:22, 10:30] = True
        pairs.append((rng.normal(size=(32, 32)) + 2 * truth, truth))
    of = localising.histograms(pairs, localising.edges(each for each, _ in pairs))
    heat, inside = (np.concatenate([pair[at].ravel() for pair in pairs]) for at in (0, 1))
    one = np.ones((1, len(pairs)))
    assert localising.pixel_auroc(of, one)[0] == pytest.approx(judging.auroc(heat, inside), abs=2e-3)
    regions = [
        values
        for values, truth in pairs
        if truth.any()
        for values in (values[4:10, 4:8].ravel(), values[20:22, 10:30].ravel())
    ]
    levels = np.sort(heat)[::-1]
    wrong = np.array([0, *((heat[~inside] >= level).mean() for level in levels)])
    overlap = np.array([0, *(np.mean([(values >= level).mean() for values in regions]) for level in levels)])
    grid = np.linspace(0, localising.LIMIT, 3001)
    wanted = np.trapezoid(np.interp(grid, wrong, overlap), grid) / localising.LIMIT
    assert localising.pro(of, one)[0] == pytest.approx(wanted, abs=5e-3)
    told = localising.measured(of)
    assert told["pro"].ci95[0] < told["pro"].mean < told["pro"].ci95[1]
    assert told["pro"].n == 12


def test_average_precision_is_scikit_learns():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 8, 60).astype(float), rng.random(60) < 0.3
    weights = np.stack([np.ones(60), rng.integers(0, 3, 60)])
    made = judging.average_precision(scores, positive, weights)
    for got, weight in zip(made, weights, strict=True):
        assert got == pytest.approx(average_precision_score(positive, scores, sample_weight=weight))


# ---------------------------------------------------------------- pose


def part(angle: float, x: float, y: float, radius: float) -> np.ndarray:
    """A cam: a disc with a nose and a hole beside its middle, (160, 200, 3) uint8."""
    rows, columns = np.mgrid[:160, :200].astype(float)
    away = np.hypot(rows - y, columns - x)
    towards = np.arctan2(rows - y, columns - x) - np.radians(angle)
    inside = away < radius * (1 + 0.25 * np.maximum(0, np.cos(towards)) ** 4)
    hole_x, hole_y = x + 0.4 * radius * np.cos(np.radians(angle)), y + 0.4 * radius * np.sin(np.radians(angle))
    inside &= np.hypot(rows - hole_y, columns - hole_x) > 0.2 * radius
    image = np.full((160, 200, 3), 40, np.uint8)
    image[inside] = (170, 160, 150)
    return image


@given(st.integers(0, 359), st.floats(80, 120), st.floats(70, 90), st.floats(30, 50))
def test_a_part_is_laid_as_the_reference_lies(angle, x, y, radius):
    import cv2

    first = part(0, 100, 80, 40)
    lies = posing.found(first)
    reference = posing.unrolled(first, lies)
    image = part(angle, x, y, radius)
    pose = posing.found(image)
    turn = posing.turn(posing.unrolled(image, pose), reference)
    assert abs((turn + angle + 180) % 360 - 180) <= 2  # turned back
    laid = [
        cv2.warpAffine(each, of.onto(96), (96, 96), borderMode=cv2.BORDER_REPLICATE).astype(float)
        for each, of in ((first, lies), (image, posing.Pose(pose.x, pose.y, pose.radius, turn)))
    ]
    assert np.abs(laid[0] - laid[1]).mean() < 6


def test_an_empty_picture_holds_no_part():
    assert posing.found(np.full((50, 60, 3), 90, np.uint8)) is None
