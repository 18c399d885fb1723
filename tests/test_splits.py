"""Splits keep together what belongs together, give each part its share, and come back from their file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.training.splits import PARTS, parse_ratios, read_split, split, together
from imagier.types import ModelError, SettingError


def apart(n: int, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """n images that have nothing in common."""
    rng = np.random.default_rng(seed)
    hashes = [f"{at:064x}" for at in range(n)]
    return hashes, rng.integers(0, 256, (n, 32, 32), np.uint8), rng.integers(0, 2**63, n).astype(np.uint64)


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 120), st.integers(1, 6), st.integers(0, 1000))
def test_a_group_lies_on_one_side_and_every_image_on_one(n, size, seed):
    hashes, small, phash = apart(n, seed)
    groups = [f"g{at // size}" for at in range(n)]
    made = split(hashes, together(hashes, small, phash, groups), ["x"] * n, (0.6, 0.2, 0.2), seed)
    parts = made.of(hashes)
    assert set(parts) == set(PARTS)
    for name in set(groups):
        assert len({part for part, group in zip(parts, groups, strict=True) if group == name}) == 1


@pytest.mark.parametrize("ratios", ["70:15:15", "65:15:20", "8:1:1"])
def test_each_part_gets_its_share_of_each_kind(ratios):
    n, wanted = 400, parse_ratios(ratios)
    hashes, small, phash = apart(n)
    kinds = ["rare" if at % 10 == 0 else "usual" for at in range(n)]
    parts = split(hashes, together(hashes, small, phash, None), kinds, wanted, 0).of(hashes)
    for kind in ("rare", "usual"):
        of = [part for part, each in zip(parts, kinds, strict=True) if each == kind]
        for part, share in zip(PARTS, wanted, strict=True):
            assert abs(of.count(part) - share * len(of)) <= 1.5, (kind, part)


def test_near_copies_are_never_parted():
    n = 60
    hashes, small, phash = apart(n)
    small[1::2] = np.clip(small[::2].astype(int) + 2, 0, 255)  # every second is the one before, a little brighter
    phash[1::2] = phash[::2] ^ np.uint64(1)
    for seed in range(20):
        parts = split(hashes, together(hashes, small, phash, None), ["x"] * n, (0.5, 0.25, 0.25), seed).of(hashes)
        assert (parts[::2] == parts[1::2]).all()


def test_plain_images_with_one_hash_are_not_taken_for_copies():
    hashes, small, phash = apart(20)
    phash[:] = 0
    small[:] = np.arange(20)[:, None, None] * 12
    assert len(set(together(hashes, small, phash, None))) == 20


def test_the_same_content_twice_is_one():
    hashes, small, phash = apart(20)
    hashes[7] = hashes[3]
    assert together(hashes, small, phash, None)[7] == together(hashes, small, phash, None)[3]


def test_a_split_comes_back_from_its_file(tmp_path):
    hashes, small, phash = apart(50)
    made = split(hashes, together(hashes, small, phash, None), ["x"] * 50, (0.7, 0.15, 0.15), 3)
    (tmp_path / "split.json").write_bytes(made.encoded())
    read = read_split(tmp_path / "split.json")
    assert dict(read.parts) == dict(made.parts)
    assert read.of([hashes[0], "unknown"]).tolist() == [made.parts[hashes[0]], ""]
    again = split(hashes, together(hashes, small, phash, None), ["x"] * 50, (0.7, 0.15, 0.15), 3)
    assert again.encoded() == made.encoded()


@pytest.mark.parametrize("text", ["70:15", "70:15:15:0", "a:b:c", "0:50:50", "70:0:30", "nan:1:1", ""])
def test_ratios_that_are_none_are_refused(text):
    with pytest.raises(SettingError, match=r"train:val:test"):
        parse_ratios(text)


def test_too_few_images_are_refused():
    hashes, *_ = apart(3)
    with pytest.raises(SettingError, match="leaves no image for"):
        split(hashes, np.zeros(3, int), ["x"] * 3, (0.7, 0.15, 0.15), 0)
    assert set(split(hashes, np.arange(3), ["x"] * 3, (0.7, 0.15, 0.15), 0).of(hashes)) == set(PARTS)


@pytest.mark.parametrize("content", ["", "{}", '{"format": 2, "ratios": [1, 0, 0], "parts": {}}', "[1"])
def test_what_is_no_split_is_refused(tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ModelError, match="no split"):
        read_split(tmp_path / "split.json")
