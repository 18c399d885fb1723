"""Tiles against the whole: geometry to the pixel, for any size, tile, overlap, multiple, factor and batch."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imagier.algorithms.tiling import spans, tiled


def blurred(reach: int, scale: int = 1):
    """A network that looks `reach` pixels far, black beyond its edges, as convolutions are; gives one channel more."""

    def run(batch: np.ndarray) -> np.ndarray:
        size = (1, 2 * reach + 1, 2 * reach + 1, 1)
        seen = ndimage.uniform_filter(batch.astype(np.float64), size, mode="constant")
        seen = np.concatenate([seen, seen[..., :1] ** 2], axis=3)
        return seen.repeat(scale, axis=1).repeat(scale, axis=2)

    return run


def strided(by: int):
    """A network with a stride: every `by` × `by` pixels become their mean. Takes no other sizes."""

    def run(batch: np.ndarray) -> np.ndarray:
        n, h, w, c = batch.shape
        assert (h % by, w % by) == (0, 0)
        means = batch.reshape(n, h // by, by, w // by, by, c).mean(axis=(2, 4))
        return means.repeat(by, axis=1).repeat(by, axis=2)

    return run


SIDES = st.integers(1, 90)


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, st.integers(0, 5), st.integers(0, 4), st.integers(1, 30), st.integers(1, 3), st.integers(1, 5))
def test_tiles_give_what_the_whole_gives(height, width, reach, more, core, scale, batch):
    image = np.random.default_rng(height * 91 + width).uniform(0, 1, (height, width, 2))
    run, overlap = blurred(reach, scale), reach + more
    got = tiled(image, run, scale=scale, tile=2 * overlap + core, overlap=overlap, batch=batch)
    assert got.shape == (height * scale, width * scale, 3)
    assert np.allclose(got, run(image[None])[0], atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(SIDES, SIDES, st.integers(2, 8), st.integers(0, 9), st.integers(1, 40))
def test_tiles_keep_step_with_a_networks_strides(height, width, multiple, overlap, more):
    image = np.random.default_rng(height * 91 + width).uniform(0, 1, (height, width, 1))
    tile = 2 * (-(-overlap // multiple) * multiple) + multiple + more
    got = tiled(image, strided(multiple), tile=tile, overlap=overlap, multiple=multiple)
    filled = np.pad(image, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")
    assert np.allclose(got, strided(multiple)(filled[None])[0, :height, :width], atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(SIDES, SIDES, st.integers(0, 5), st.integers(1, 30), st.integers(1, 5))
def test_fixed_tiles_are_of_that_size_and_fill_up_what_is_smaller(height, width, reach, core, batch):
    tile = 2 * reach + core
    image = np.random.default_rng(height * 91 + width).uniform(0, 1, (height, width, 1))
    seen = []

    def run(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return blurred(reach)(pixels)

    got = tiled(image, run, tile=tile, overlap=reach, batch=batch, fixed=True)
    assert {shape[1:] for shape in seen} == {(tile, tile, 1)}
    below, beside = max(0, tile - height), max(0, tile - width)
    filled = np.pad(image, ((0, below), (0, beside), (0, 0)), mode="reflect")
    assert np.allclose(got, blurred(reach)(filled[None])[0, :height, :width], atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 200), st.integers(0, 60), st.integers(1, 16), st.booleans())
def test_what_tiles_give_joins_without_gap_or_repetition(length, core, overlap, multiple, fixed):
    length, overlap, core = length * multiple, overlap * multiple, core * multiple
    tile = core + 2 * overlap
    found = spans(length, tile, overlap, multiple, fixed=fixed)
    assert [at for span in found for at in (span.first, span.last)][1:-1] == [
        at for span in found[1:] for at in (span.first, span.first)
    ]
    assert (found[0].first, found[-1].last) == (0, length)
    assert len({span.stop - span.start for span in found}) == 1
    for span in found:
        assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        assert span.stop - span.start <= tile
        assert span.start % multiple == span.stop % multiple == 0
        assert span.start == 0 or span.first - span.start >= overlap
        assert span.stop == length or span.stop - span.last >= overlap


def test_no_more_goes_through_at_once_than_was_said():
    seen = []

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.shape)
        return batch

    tiled(np.zeros((1000, 130, 3), np.uint8), run, tile=128, overlap=8, batch=4)
    assert all(n <= 4 and h <= 128 and w <= 128 for n, h, w, _ in seen)
    # 9 tiles down and 2 across; the two share 130 pixels evenly, and do not take 128 each
    assert sum(n for n, *_ in seen) == 18
    assert {w for _, _, w, _ in seen} == {73}


def test_the_result_has_the_dtype_that_run_gives_and_the_image_stays_as_it_was():
    image = np.arange(40 * 50 * 3, dtype=np.float32).reshape(40, 50, 3)
    before = image.copy()
    got = tiled(image, lambda batch: (batch[..., :1] > 100).astype(np.uint8), tile=16, overlap=2, multiple=4)
    assert got.dtype == np.uint8
    assert np.array_equal(got[..., 0], before[..., 0] > 100)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((8, 8), {}),
        ((0, 8, 3), {}),
        ((8, 8, 3), {"tile": 8, "overlap": 4}),
        ((8, 8, 3), {"tile": 3, "overlap": 0, "multiple": 4}),
        ((8, 8, 3), {"overlap": -1}),
        ((8, 8, 3), {"batch": 0}),
        ((8, 8, 3), {"scale": 0}),
        ((8, 8, 3), {"scale": 2}),
    ],
)
def test_what_does_not_fit_is_refused(shape, how):
    with pytest.raises(ValueError, match=r"an image of|tiles of|were due"):
        tiled(np.zeros(shape), lambda batch: batch, **({"tile": 16, "overlap": 2} | how))


@pytest.mark.parametrize("most", [4 * 64**2, 64**2, 40**2])
def test_where_memory_is_short_it_goes_on_with_smaller_tiles(most, caplog):
    image = np.random.default_rng(0).uniform(0, 1, (150, 170, 1))
    run, seen = blurred(5), []
    caplog.set_level(logging.WARNING, logger="imagier.algorithms.tiling")  # whatever else has silenced logs by now

    def short(batch: np.ndarray) -> np.ndarray:
        if batch[..., 0].size > most:
            raise MemoryError("no memory")
        seen.append(batch.shape)
        return run(batch)

    got = tiled(image, short, tile=64, overlap=5, batch=4)
    assert np.allclose(got, run(image[None])[0], atol=1e-12)
    assert all(n * h * w <= most for n, h, w, _ in seen)
    assert ("no memory" in caplog.text) == (most < 4 * 64**2)


@pytest.mark.parametrize("fixed", [False, True])
def test_where_memory_holds_no_useful_tile_it_says_so(fixed):
    def none(batch: np.ndarray) -> np.ndarray:
        raise MemoryError("none at all")

    with pytest.raises(MemoryError, match="none at all"):
        tiled(np.zeros((90, 90, 1)), none, tile=64, overlap=5, batch=3, fixed=fixed)
