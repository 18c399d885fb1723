"""Measures of masks and objects, on masks whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imagier.algorithms.masks import cleaned, cores, objects
from imagier.algorithms.overlap import fit, hd95, ious, match, spread

MASKS = arrays(bool, (12, 15))


def square(y: int, x: int, side: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


@settings(max_examples=60, deadline=None)
@given(MASKS, MASKS)
def test_dice_and_iou_agree_with_their_definitions(found, true):
    made = fit(found, true)
    if (found | true).any():
        assert made.iou == pytest.approx((found & true).sum() / (found | true).sum())
    assert made.dice == pytest.approx(2 * made.iou / (1 + made.iou))
    assert fit(true, found).dice == made.dice
    assert fit(true, true).dice == 1


def test_precision_recall_and_edges_of_a_shifted_square():
    made = fit(square(10, 10, 10), square(10, 15, 10))
    assert (made.dice, made.precision, made.recall) == (0.5, 0.5, 0.5)
    assert made.hd95 == pytest.approx(5)
    nothing = np.zeros((40, 60), bool)
    assert fit(nothing, square(1, 1, 3)).precision is None
    assert fit(nothing, nothing).dice == 1
    assert hd95(square(0, 0, 20), square(0, 0, 20)) == 0


def test_objects_are_matched_one_to_one():
    true, found = np.zeros((2, 40, 60), np.int32)
    for number, (y, x) in enumerate([(2, 2), (2, 20), (20, 2)], 1):
        true[square(y, x, 10)] = number
    found[square(2, 2, 10)] = 7  # right
    found[square(2, 25, 10)] = 3  # half off: IoU a third
    found[square(20, 40, 8)] = 9  # where nothing is
    made = match(found, true)
    assert (made.hits, made.found, made.true) == (1, 3, 3)
    assert made.f1 == pytest.approx(2 / 6)
    assert made.average_precision == pytest.approx(1 / 5)
    assert ious(found, true).shape == (3, 3)
    assert ious(found, true).max() == 1
    same = match(true, true)
    assert (same.f1, same.average_precision) == (1, 1)
    empty = np.zeros_like(true)
    assert match(empty, empty).f1 == 1
    assert match(empty, true).f1 == 0


def test_the_interval_of_a_mean_holds_it_and_narrows():
    rng = np.random.default_rng(0)
    few, many = spread(rng.normal(5, 1, 20)), spread(rng.normal(5, 1, 2000))
    for each in (few, many):
        assert each.ci95[0] < each.mean < each.ci95[1]
    assert many.ci95[1] - many.ci95[0] < 0.2 * (few.ci95[1] - few.ci95[0])
    assert spread(np.array([0.5])).ci95 == (0.5, 0.5)


def test_holes_and_specks_go():
    mask = square(5, 5, 20)
    mask[10:12, 10:12] = False
    mask[35, 50] = True
    whole = cleaned(mask, fill=0.01, least=5)
    np.testing.assert_array_equal(whole, square(5, 5, 20))
    np.testing.assert_array_equal(cleaned(mask), mask)


def discs(*middles: tuple[int, int], radius: int = 10, shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.any([(y - a) ** 2 + (x - b) ** 2 <= radius**2 for a, b in middles], axis=0)


def test_touching_objects_are_told_apart_by_distance_and_by_cores():
    mask = discs((25, 20), (25, 37), (25, 75))
    assert objects(mask).max() == 2
    apart = objects(mask, split=True)
    assert apart.max() == 3
    assert len({apart[25, 18], apart[25, 39], apart[25, 75]}) == 3
    np.testing.assert_array_equal(apart > 0, mask)
    cores = discs((25, 20), (25, 37), radius=4)  # the third has none
    told = objects(mask, cores, split=True)
    assert told.max() == 3
    np.testing.assert_array_equal(told > 0, mask)


def test_each_object_has_a_core_and_cores_tell_touching_ones_apart():
    numbers = discs((25, 20)) * 1
    numbers[discs((25, 37))] = 2
    numbers[discs((50, 80), radius=0)] = 3
    inner = cores(numbers)
    assert set(np.unique(numbers[inner])) == {1, 2, 3}
    np.testing.assert_array_equal(objects(numbers > 0, inner, split=True)[[25, 25, 50], [18, 40, 80]], [1, 2, 3])
    assert objects(inner).max() == 3
    assert not cores(np.zeros((5, 5), np.int32)).any()


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, st.booleans())
def test_every_pixel_of_a_mask_is_in_one_object(mask, cores, split):
    for marks in (None, cores):
        made = objects(mask, marks, split=split)
        np.testing.assert_array_equal(made > 0, mask)
        assert set(np.unique(made)) <= set(range(int(made.max()) + 1))
        assert len(np.unique(made[mask])) == made.max()


@settings(max_examples=40, deadline=None)
@given(MASKS, st.floats(0, 0.5), st.integers(0, 20))
def test_small_holes_and_objects_go_as_scikit_image_has_it(mask, fill, least):
    from skimage.morphology import remove_small_holes, remove_small_objects

    wanted = remove_small_holes(mask, max_size=int(fill * mask.size)) if fill else mask
    wanted = remove_small_objects(wanted, max_size=least - 1) if least > 1 else wanted
    np.testing.assert_array_equal(cleaned(mask, fill=fill, least=least), wanted)


@settings(max_examples=30, deadline=None)
@given(MASKS, MASKS, MASKS)
def test_objects_do_not_depend_on_what_lies_elsewhere(one, other, cores):
    """Side by side, with a gap: each is split as it would be alone, and numbered by its first pixel."""
    gap = np.zeros((len(one), 1), bool)
    for marks in (None, np.concatenate([cores, gap, cores[::-1]], 1)):
        both = objects(np.concatenate([one, gap, other], 1), marks, split=True)
        for mask, made, own in ((one, both[:, :15], cores), (other, both[:, 16:], cores[::-1])):
            alone = objects(mask, None if marks is None else own, split=True)
            pairs = {(int(a), int(b)) for a, b in zip(alone[mask], made[mask], strict=True)}
            assert len(pairs) == alone.max() == len({b for _, b in pairs})
        first = [int(np.flatnonzero(both == number)[0]) for number in range(1, both.max() + 1)]
        assert first == sorted(first)
