"""Regions are checked when they are made; a name that does not exist is told with the nearest that does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.types import Regions, nearest

corner = st.integers(-50, 500)
side = st.integers(1, 40)
boxes = st.lists(st.tuples(corner, corner, side, side), max_size=5).map(
    lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows], np.float32).reshape(-1, 4)
)


def masks_of(made: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ones((int(y1 - y0), int(x1 - x0)), bool) for x0, y0, x1, y1 in made)


@settings(max_examples=50, deadline=None)
@given(boxes)
def test_sound_regions_are_taken(made):
    n = len(made)
    regions = Regions(made, masks_of(made), np.linspace(0, 1, n, dtype=np.float32), ("cell",) * n)
    assert len(regions) == n
    assert len(Regions(made)) == n


@settings(max_examples=50, deadline=None)
@given(boxes.filter(len), st.data())
def test_a_box_that_is_none_is_refused(made, data):
    row, edge = data.draw(st.integers(0, len(made) - 1)), data.draw(st.integers(0, 3))
    bad = made.copy()
    opposite = bad[row, (edge + 2) % 4]
    bad[row, edge] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, opposite]))
    with pytest.raises(ValueError, match="box"):
        Regions(bad)


@settings(max_examples=50, deadline=None)
@given(boxes.filter(len), st.data())
def test_a_mask_that_is_not_its_boxs_size_is_refused(made, data):
    masks = list(masks_of(made))
    row = data.draw(st.integers(0, len(made) - 1))
    other = data.draw(st.sampled_from(["taller", "wider", "bytes", "flat"]))
    mask = masks[row]
    masks[row] = {
        "taller": np.ones((mask.shape[0] + 1, mask.shape[1]), bool),
        "wider": np.ones((mask.shape[0], mask.shape[1] + 1), bool),
        "bytes": mask.astype(np.uint8),
        "flat": mask.ravel(),
    }[other]
    with pytest.raises(ValueError, match="mask"):
        Regions(made, tuple(masks))


@settings(max_examples=30, deadline=None)
@given(boxes.filter(len), st.sampled_from([-0.01, 1.01, np.nan, np.inf]))
def test_a_score_outside_zero_to_one_is_refused(made, score):
    scores = np.full(len(made), 0.5, np.float32)
    scores[-1] = score
    with pytest.raises(ValueError, match="scores"):
        Regions(made, scores=scores)


@settings(max_examples=20, deadline=None)
@given(boxes.filter(lambda made: len(made) > 1))
def test_one_too_few_of_anything_is_refused(made):
    n = len(made)
    for more in ({"masks": masks_of(made)[1:]}, {"scores": np.ones(n - 1, np.float32)}, {"labels": ("a",) * (n - 1)}):
        with pytest.raises(ValueError, match=str(n)):
            Regions(made, **more)


@pytest.mark.parametrize(
    "made", [np.zeros((0, 4)), np.zeros(4, np.float32), np.zeros((2, 3), np.float32), np.array([[0, 0, 1, 1]])]
)
def test_boxes_of_another_shape_or_kind_are_refused(made):
    with pytest.raises(ValueError, match="float32"):
        Regions(made)


def test_scores_of_another_kind_are_refused():
    box = np.array([[0, 0, 2, 2]], np.float32)
    for scores in (np.ones(1), np.ones((1, 1), np.float32)):
        with pytest.raises(ValueError, match="scores"):
            Regions(box, scores=scores)


def test_regions_do_not_change():
    regions = Regions(np.array([[0, 0, 2, 2]], np.float32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        regions.labels = ("a",)


def test_a_mask_of_a_box_with_fractions_is_its_rounded_size():
    assert len(Regions(np.array([[0.4, 0.4, 3.2, 2.9]], np.float32), (np.ones((2, 3), bool),))) == 1


def test_the_nearest_name_is_told():
    assert nearest("stage", "clustr", ["cluster", "reduce"]) == "unknown stage 'clustr'. Did you mean cluster?"
    assert nearest("stage", "qqq", ["cluster", "reduce"]) == "unknown stage 'qqq'. There are: cluster, reduce."
    assert nearest("stage", "", []).startswith("unknown stage ''")
