"""Elbows and knees on curves whose bend is known."""

from __future__ import annotations

import numpy as np
import pytest

from imagier.algorithms.knee import CURVE, elbow, k_distance_knees


def test_the_elbow_of_a_bent_line_is_its_bend() -> None:
    ks = np.arange(2, 12)
    inertia = np.where(ks < 5, 1000 - 300 * (ks - 2), 100 - 5.0 * (ks - 5))
    assert elbow(ks, inertia) == 5


@pytest.mark.parametrize("inertia", [np.zeros(8), np.full(8, 3.0), np.linspace(8, 1, 8)])
def test_a_flat_or_straight_curve_has_no_elbow(inertia: np.ndarray) -> None:
    assert elbow(np.arange(2, 10), inertia) is None


def test_two_values_have_no_elbow() -> None:
    assert elbow(np.array([2, 3]), np.array([4.0, 1.0])) is None


@pytest.mark.parametrize("n", [40, 500, 5000])
def test_the_knee_lies_where_the_noise_begins(n: int) -> None:
    rng = np.random.default_rng(0)
    groups = rng.uniform(0.9, 1.0, n)
    noise = rng.uniform(5, 20, n // 10)
    found, *_ = k_distance_knees(rng.permutation(np.concatenate([groups, noise])), 2)
    assert 0.9 <= found.eps <= 3 * 1.0
    assert found.position is not None
    assert found.curve[found.position] == found.eps
    assert len(found.curve) <= CURVE
    assert (np.diff(found.curve) >= 0).all()


@pytest.mark.parametrize("distances", [np.full(30, 2.0), np.array([2.0]), np.array([2.0, 2.0])])
def test_a_flat_curve_gives_its_value_and_says_so(distances: np.ndarray) -> None:
    (found,) = k_distance_knees(distances, 3)
    assert found.eps == 2
    assert found.position is None
    assert "flat" in found.why


def test_a_curve_without_a_knee_falls_back_to_a_quantile_and_says_so() -> None:
    (found,) = k_distance_knees(np.sqrt(np.arange(1, 101)), 3)  # concave: it nowhere turns up
    assert found.position is None
    assert found.eps == pytest.approx(np.quantile(np.sqrt(np.arange(1, 101)), 0.9))
    assert "no knee" in found.why


def test_copies_do_not_make_the_radius_nought() -> None:
    assert all(found.eps > 0 for found in k_distance_knees(np.concatenate([np.zeros(90), np.linspace(1, 2, 10)]), 3))


def test_all_copies_give_nought() -> None:
    assert [found.eps for found in k_distance_knees(np.zeros(20), 3)] == [0]


def test_where_groups_differ_in_density_the_later_bends_come_into_question_too() -> None:
    rng = np.random.default_rng(0)
    stairs = np.concatenate([rng.uniform(0.1, 0.11, 100), rng.uniform(0.5, 0.55, 100), rng.uniform(2, 9, 5)])
    found = k_distance_knees(stairs, 3)
    assert any(0.5 < each.eps < 2 for each in found)
    assert found[-1].eps == stairs.max()
    assert all(each.curve[each.position] == each.eps for each in found if each.position is not None)
