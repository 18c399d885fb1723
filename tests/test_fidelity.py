"""PSNR and SSIM as papers have them, and the reduction that upscalers are judged by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagier.algorithms.fidelity import MOST, luma, psnr, reduced, ssim, y_psnr


def test_psnr_by_hand():
    true = np.full((4, 4), 100, np.uint8)
    assert psnr(true + 5, true) == pytest.approx(10 * np.log10(255**2 / 25))
    assert psnr(true, true) == MOST
    assert psnr(np.uint8([[0]]), np.uint8([[255]])) == pytest.approx(0)


def test_ssim_is_1_of_equals_and_falls_with_noise():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 256, (32, 40, 3)).astype(np.uint8)
    assert ssim(true, true) == pytest.approx(1)
    values = [ssim((true + rng.normal(0, sigma, true.shape)).clip(0, 255), true) for sigma in (5, 20, 60)]
    assert values == sorted(values, reverse=True)
    assert ssim(true[..., 0], true[..., 0]) == pytest.approx(1)


def test_luma_of_the_primaries():
    """BT.601: 16 for black, 235 for white."""
    colours = np.uint8([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    assert luma(colours).tolist() == [[16, 235, 81, 145, 41]]


def test_the_border_does_not_count():
    true = np.full((20, 20, 3), 100, np.uint8)
    made = true.copy()
    made[:3] = 0
    assert y_psnr(made, true, 3) == MOST
    assert y_psnr(made, true, 2) < 40


def test_the_reduction_is_pillows_bicubic_inside():
    """Both are Keys' kernel, widened; at the border Pillow cuts it off, and MATLAB mirrors the image."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 90, 3)).astype(np.uint8)
    pillow = np.asarray(Image.fromarray(image).resize((30, 20), Image.Resampling.BICUBIC))
    made = reduced(image, 20, 30)
    assert np.abs(made.astype(int) - pillow)[3:-3, 3:-3].max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_a_plain_image_stays_plain_at_any_size(height, width, down, across, value):
    image = np.full((height, width), value, np.uint8)
    made = reduced(image, down, across)
    assert made.shape == (down, across)
    assert (made == value).all()
