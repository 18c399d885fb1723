"""Noise: each kind is what it says, a text is read as a person means it, and what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.algorithms.noise import KINDS, deviation, parse

GROUND = np.full((128, 128, 3), 100, np.float32)


def added(text: str, image: np.ndarray = GROUND, seed: int = 0) -> np.ndarray:
    return parse(text).add(image, np.random.default_rng(seed))


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    made = added("gaussian:25")
    assert made.dtype == np.float32
    assert np.std(made - GROUND) == pytest.approx(25, rel=0.02)
    assert abs(np.mean(made - GROUND)) < 0.5
    dark = added("gaussian:25", np.zeros_like(GROUND))
    assert dark.min() < -50
    assert not np.array_equal(made[..., 0], made[..., 1])


def test_a_range_is_drawn_from_evenly_an_image():
    sigmas = [np.std(added("gaussian:10-40", seed=seed) - GROUND) for seed in range(60)]
    assert 9 < min(sigmas) < 16
    assert 34 < max(sigmas) < 41
    assert np.mean(sigmas) == pytest.approx(25, abs=4)


def test_shot_noise_grows_with_the_light():
    """The variance of a count is its mean: 255 / photons * value, in steps of 255."""
    for level in (20.0, 100.0, 240.0):
        made = added("poisson-gaussian:50,0", np.full_like(GROUND, level))
        assert np.var(made) == pytest.approx(level * 255 / 50, rel=0.05)
        assert np.mean(made) == pytest.approx(level, rel=0.02)
    both = added("poisson-gaussian:50,10", np.full_like(GROUND, 100.0))
    assert np.var(both) == pytest.approx(100 * 255 / 50 + 100, rel=0.05)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_worse_the_lower_its_quality(channels):
    slopes = np.add.outer(np.linspace(0, 150, 40), 50 * (1 + np.sin(np.linspace(0, 9, 56))))
    image = np.repeat(slopes[:, :, None], channels, 2).astype(np.float32)
    errors = [np.abs(added(f"jpeg:{quality}", image) - image).mean() for quality in (95, 60, 10)]
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 2
    assert added("jpeg:50", image).shape == image.shape
    if channels == 3:  # colours keep their places
        red = np.zeros((32, 32, 3), np.float32)
        red[..., 0] = 200
        assert added("jpeg:95", red)[..., 0].mean() > 150


def test_salt_and_pepper_falls_on_its_share_of_the_pixels():
    made = added("salt-pepper:0.1")
    assert (made != GROUND).any(2).mean() == pytest.approx(0.1, abs=0.01)
    assert set(np.unique(made)) == {0.0, 100.0, 255.0}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gausian:25", "There are: gaussian"),
        ("gaussian", "it takes gaussian:DEVIATION"),
        ("gaussian:25,3", "it takes gaussian:DEVIATION"),
        ("gaussian:many", "deviation cannot be 'many'"),
        ("gaussian:50-10", "the less one first"),
        ("gaussian:300", "0 to 255"),
        ("jpeg:0", "quality takes 1 to 100"),
        ("gaussian:nan", "deviation takes"),
        ("poisson-gaussian:30", "PHOTONS,DEVIATION"),
    ],
)
def test_what_cannot_be_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse(text)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_level_in_range_keeps_shape_and_type(kind, data):
    levels = []
    for each in KINDS[kind][1]:
        low, high = sorted(data.draw(st.tuples(*[st.floats(each.least, min(each.most, 1e4))] * 2)))
        levels.append(f"{low:f}-{high:f}")
    image = np.random.default_rng(1).uniform(0, 255, (17, 23, 1)).astype(np.float32)
    made = added(f"{kind}:{','.join(levels)}", image.copy())
    assert made.shape == image.shape
    assert made.dtype == np.float32
    assert np.isfinite(made).all()


@pytest.mark.parametrize("sigma", [1, 5, 25, 80])
@pytest.mark.parametrize("size", [(300, 400), (40, 1500), (20, 18)])
def test_the_deviation_of_noise_is_found_under_a_slope_and_edges(sigma, size):
    y, x = np.mgrid[: size[0], : size[1]]
    image = (0.3 * x + 0.2 * y + 60 * ((x // 50 + y // 50) % 2)).astype(np.float32)[:, :, None]
    made = deviation(added(f"gaussian:{sigma}", image))
    assert made == pytest.approx(sigma, rel=0.2 if min(size) < 32 else 0.08)


@pytest.mark.parametrize("ground", [0, 255])
def test_noise_that_is_cut_off_at_black_and_white_is_no_smaller(ground):
    """A page: most of it is white, where half of the noise lies beyond what 8 bits hold; or black."""
    page = np.full((320, 320, 1), ground, np.float32)
    page[40:160, 30:290], page[200:280, 30:290] = 90, 150
    for sigma in (10, 25):
        made = np.rint(added(f"gaussian:{sigma}", page)).clip(0, 255).astype(np.uint8)
        assert deviation(made) == pytest.approx(sigma, rel=0.1)
    all_cut = np.rint(added("gaussian:25", np.full((320, 320, 1), ground, np.float32))).clip(0, 255).astype(np.uint8)
    assert 10 < deviation(all_cut) < 25  # nothing says more


def test_the_deviation_of_a_large_image_is_looked_for_in_parts():
    noise = np.random.default_rng(0).normal(100, 12, (5000, 300, 1)).astype(np.float32)
    assert deviation(noise) == pytest.approx(12, rel=0.05)
    assert deviation(np.zeros((1, 1, 1))) == 0
    assert deviation(np.zeros((40, 2, 1))) == 0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.floats(-200, 200))
def test_the_deviation_is_on_the_images_own_scale(gain, shift):
    image = np.random.default_rng(3).normal(0, 10, (64, 64, 1)).astype(np.float64)
    assert deviation(image * gain + shift) == pytest.approx(deviation(image) * gain, rel=1e-2)


def test_levels_are_drawn_once():
    rng = np.random.default_rng(0)
    drawn = parse("gaussian:5-40").draw(rng)
    ((low, high),) = drawn.ranges
    assert low == high
    assert 5 <= low <= 40
    assert np.std(drawn.add(GROUND, rng) - GROUND) == pytest.approx(low, rel=0.03)
