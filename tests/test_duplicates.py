"""Groups of near-duplicates: of drawn hashes and vectors against all pairs, and of drawn images."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.algorithms import near_duplicates
from imagier.stages.duplicates import DUPLICATES
from imagier.types import Fitted, SettingError


def table(hashes: list[int] | np.ndarray, vectors: np.ndarray, first: int = 0) -> dict[str, Any]:
    ids = [f"i{first + at:03d}" for at in range(len(hashes))]
    return {"id": ids, "embedding": np.asarray(vectors, np.float32), "phash": np.asarray(hashes, np.uint64)}


def fit(columns: dict[str, Any], **settings: Any) -> Fitted:
    fitted = DUPLICATES.make(**settings).load()(columns)
    json.dumps(fitted.facts, allow_nan=False)
    assert fitted.facts["items"] == len(columns["id"]) == len(fitted.columns["duplicate"])
    named = {item: number for number, items in enumerate(fitted.facts["groups"]) for item in items}
    assert [named.get(item) for item in columns["id"]] == fitted.columns["duplicate"]
    return fitted


def angle(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def by_all_pairs(hashes: np.ndarray, vectors: np.ndarray, cosine: float, hamming: int) -> list[set[int]]:
    """The definition, word for word."""
    groups = [{at} for at in range(len(hashes))]
    for a in range(len(hashes)):
        for b in range(a):
            product = float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))
            if int(hashes[a] ^ hashes[b]).bit_count() <= hamming and 1 - product <= cosine:
                one, other = (next(g for g in groups if x in g) for x in (a, b))
                if one is not other:
                    groups.remove(other)
                    one |= other
    return groups


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 40), hamming=st.integers(0, 6), seed=st.integers(0, 999), tile=st.sampled_from([1, 50, 4000]))
def test_groups_are_those_of_all_pairs_whatever_the_tile(n, hamming, seed, tile):
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 64, n).astype(np.uint64) << np.uint64(40)
    vectors = angle(*random.uniform(0, 90, n)) if n else np.zeros((0, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "TILE", tile)
        root = near_duplicates.near_groups(hashes, vectors, cosine=0.01, hamming=hamming)
    wanted = by_all_pairs(hashes, vectors, 0.01, hamming)
    assert sorted(min(group) for group in wanted) == sorted(set(root.tolist()))
    assert all(root[item] == min(group) for group in wanted for item in group)


def test_a_pair_must_be_near_in_both():
    vectors = angle(0, 1, 0, 60)
    found = fit(table([0, 0b11, 0xFFFF, 0], vectors), cosine=0.01, hamming=2)
    assert found.columns["duplicate"] == [0, 0, None, None]
    assert found.facts["groups"] == [["i000", "i001"]]


def test_a_chain_is_one_group_though_its_ends_are_far_apart():
    found = fit(table([0, 0, 0, 0], angle(0, 5, 10, 15)), cosine=0.005, hamming=0)
    assert found.columns["duplicate"] == [0, 0, 0, 0]


def test_the_largest_group_is_number_0_and_ties_go_by_the_first_item():
    hashes = [2 << 20, 1 << 40, 2 << 20, 5, 1 << 40, 3 << 50, 5, 5]
    found = fit(table(hashes, np.ones((8, 3))), cosine=0.1, hamming=0)
    assert found.columns["duplicate"] == [1, 2, 1, 0, 2, None, 0, 0]


def test_vectors_of_zeros_are_copies_of_one_another_alone():
    found = fit(table([0, 0, 0], np.array([[0, 0], [0, 0], [1, 0]])), hamming=0)
    assert found.columns["duplicate"] == [0, 0, None]


def test_hashes_of_all_64_bits_are_compared():
    top = 1 << 63
    assert fit(table([top, 0], np.ones((2, 2))), hamming=0).columns["duplicate"] == [None, None]
    assert fit(table([top, 0], np.ones((2, 2))), hamming=1).columns["duplicate"] == [0, 0]
    assert fit(table([2**64 - 1, 0], np.ones((2, 2))), hamming=64).columns["duplicate"] == [0, 0]


@pytest.mark.parametrize("same", [True, False])
def test_thousands_of_equal_hashes_need_no_memory_for_their_pairs(same):
    n = 6000
    vectors = np.ones((n, 16)) if same else np.random.default_rng(0).normal(size=(n, 16))
    hashes = np.zeros(n, np.uint64)
    tracemalloc.start()
    try:
        root = near_duplicates.near_groups(hashes, vectors, cosine=1e-4, hamming=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(np.unique(root)) == (1 if same else n)
    assert peak < 300e6  # all pairs as two indices would be 576 MB


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_items_have_few_groups(n):
    found = fit(table([1] * n, np.ones((n, 2))))
    assert found.columns["duplicate"] == ([0, 0] if n == 2 else [None] * n)
    placed = DUPLICATES.make().place(table([1, 1], np.ones((2, 2)), 10), found)
    assert placed.columns["duplicate"] == [0, 0]


def test_a_new_item_takes_the_number_of_what_it_is_near_to():
    fitted = fit(table([0, 0, 0xFF, 0xFF, 0xFF, 0xFFFF00], np.ones((6, 2))), hamming=0)
    assert fitted.columns["duplicate"] == [1, 1, 0, 0, 0, None]
    new = table([0, 0xFF, 0xFFFF00, 7 << 30, 7 << 30, 9 << 50], np.ones((6, 2)), 10)
    step = DUPLICATES.make(hamming=0)
    placed = step.place(new, Fitted({}, fitted.facts, fitted.arrays))
    assert placed.columns["duplicate"] == [1, 0, 2, 3, 3, None]
    assert placed.facts["numbers"] == [0, 1, 2, 3]
    assert placed.facts["groups"] == [["i011"], ["i010"], ["i012"], ["i013", "i014"]]
    assert placed.facts["fitted"] == ["i002", "i000", "i005", None]


def test_a_new_item_between_two_groups_takes_the_lower_number_and_the_groups_stay():
    fitted = fit(table([0b000, 0b000, 0b111, 0b111, 0b111], np.ones((5, 2))), hamming=0)
    placed = DUPLICATES.make(hamming=2).place(table([0b001], np.ones((1, 2)), 10), fitted)
    assert placed.columns["duplicate"] == [0]
    assert fitted.columns["duplicate"] == [1, 1, 0, 0, 0]


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 30), seed=st.integers(0, 99))
def test_fitted_items_placed_again_join_their_own_groups(n, seed):
    random = np.random.default_rng(seed)
    columns = table(random.integers(0, 8, n), np.ones((n, 2)))
    fitted = fit(columns, hamming=0)
    placed = DUPLICATES.make(hamming=0).place(columns, fitted)
    for was, now in zip(fitted.columns["duplicate"], placed.columns["duplicate"], strict=True):
        assert now == was if was is not None else now is not None


@pytest.mark.parametrize("given", [{"cosine": -0.1}, {"cosine": 2.1}, {"hamming": -1}, {"hamming": 65}])
def test_thresholds_outside_their_range_are_refused(given):
    with pytest.raises(SettingError, match=f"duplicates.{next(iter(given))} cannot be"):
        DUPLICATES.make(**given)


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(SettingError, match="not finite"):
        fit(table([0], np.array([[np.nan, 1]])))


def test_another_column_can_be_compared():
    columns = table([0, 0], angle(0, 0)) | {"features": np.array([[0, 1], [1, 0]], np.float32)}
    assert DUPLICATES.make(embedding="features").reads == ("id", "features", "phash")
    assert DUPLICATES.make(embedding="features").load()(columns).columns["duplicate"] == [None, None]


def test_reencoded_resized_and_brightened_images_are_found_and_different_ones_are_not(shared):
    from imagier import images
    from imagier.stages import embed

    paths = [path for kind in sorted((shared / "data/clothing/train").iterdir()) for path in sorted(kind.iterdir())[:3]]
    originals = [images.decode(path.read_bytes()).image for path in paths]
    changed = []
    for image in originals:
        changed.append(images.decode(images.encode(image, "jpeg", 60)).image)
        changed.append(images.resize(image, short_side=min(image.shape[:2]) // 2))
        changed.append(np.clip(image * 1.1, 0, 255).astype(np.uint8))
    every = originals + changed
    columns = {"image": every, "black": [0.0] * len(every), "white": [255.0] * len(every)}
    vectors = embed.make().load()(columns)["embedding"]
    found = fit(table([images.perceptual_hash(i) for i in every], vectors))
    group = found.columns["duplicate"]
    own = [group[len(originals) + at] == group[at // 3] is not None for at in range(len(changed))]
    assert np.mean(own) >= 0.97
    numbers = [number for number in group[: len(originals)] if number is not None]
    assert len(set(numbers)) == len(numbers)
