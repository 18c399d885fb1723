"""Resizing as Pillow does it: no pixel may differ, whatever the sides, the part that is kept and what is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagier.algorithms.resampling import FILTERS, resample

SIDES = st.integers(1, 400) | st.sampled_from([1, 2, 3, 5])


def by_pillow(image: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
    made = np.asarray(picture.resize(size, getattr(Image.Resampling, how.upper())))
    return made if made.ndim == 3 else made[:, :, None]


@given(
    given=st.tuples(SIDES, SIDES), size=st.tuples(SIDES, SIDES), how=st.sampled_from(list(FILTERS)),
    channels=st.sampled_from([1, 3]), hard=st.booleans(), seed=st.integers(0, 99), data=st.data(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_every_part_is_pillows(given, size, how, channels, hard, seed, data):
    """`hard`: black and white alone, where a filter overshoots most."""
    image = np.random.default_rng(seed).integers(0, 256, (*given, channels), np.uint8)
    image = np.where(image > 127, np.uint8(255), np.uint8(0)) if hard else image
    before = image.copy()
    wanted = by_pillow(image, size, how)
    np.testing.assert_array_equal(resample(image, size, how), wanted)
    x0, y0 = (data.draw(st.integers(0, side - 1)) for side in size)
    x1, y1 = (data.draw(st.integers(low + 1, side)) for low, side in zip((x0, y0), size, strict=True))
    np.testing.assert_array_equal(resample(image, size, how, (x0, y0, x1, y1)), wanted[y0:y1, x0:x1])
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("how", list(FILTERS))
@pytest.mark.parametrize(("given", "size"), [((6000, 12), (224, 22400)), ((12, 6000), (22400, 224))])
def test_the_middle_of_a_strip_is_pillows(how, given, size):
    """The whole would be 5 million pixels."""
    image = np.random.default_rng(0).integers(0, 256, (*given[::-1], 3), np.uint8)
    middle = tuple((side - 224) // 2 for side in size)
    box = (*middle, middle[0] + 224, middle[1] + 224)
    np.testing.assert_array_equal(
        resample(image, size, how, box), by_pillow(image, size, how)[box[1] : box[3], box[0] : box[2]]
    )


def test_what_is_kept_in_memory_in_another_order_is_the_same():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    for other in (image[::-1], image[:, ::-1], np.asfortranarray(image), image[::2, ::3]):
        np.testing.assert_array_equal(
            resample(other, (33, 21), "bicubic"), by_pillow(np.ascontiguousarray(other), (33, 21), "bicubic")
        )
