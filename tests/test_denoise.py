"""denoise: noise goes out of images of any depth and size, and how much is written down."""

from __future__ import annotations

import numpy as np
import pytest
from restorers import denoiser

from imagier.images import levels
from imagier.models.restoring import LEAST, restorer
from imagier.models.store import built_in, find
from imagier.stages.denoise import DENOISE, difference, plain
from imagier.types import Columns, SettingError

SIZES = [(24, 31), (200, 333)]


def columns(*images: np.ndarray) -> Columns:
    black, white = zip(*map(levels, images), strict=True)
    return {"image": list(images), "black": list(black), "white": list(white)}


def smooth(height: int, width: int, dtype: str, colour: bool) -> np.ndarray:
    values = np.add.outer(np.linspace(0.2, 0.5, height), np.linspace(0.0, 0.3, width))
    values = np.stack([values, values * 0.9, values * 0.7], 2) if colour else values
    return values.astype(np.float32) if dtype == "float32" else np.rint(values * np.iinfo(dtype).max).astype(dtype)


def noisy(image: np.ndarray, share: float = 0.05) -> np.ndarray:
    top = 1.0 if image.dtype == np.float32 else np.iinfo(image.dtype).max
    made = image + np.random.default_rng(0).normal(0, share * top, image.shape)
    return made.clip(0, top).astype(image.dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_goes_and_the_depth_stays(tmp_path, dtype, colour, channels):
    model = denoiser(tmp_path / "m", 1.0, channels=channels)
    for size in SIZES:
        clean = smooth(*size, dtype, colour)
        given = noisy(clean)
        made = DENOISE.make(model=str(model.folder)).load()(columns(given))
        image, noise = made["image"][0], made["noise"][0]
        assert image.dtype == clean.dtype
        assert image.shape == clean.shape
        inner = (slice(2, -2), slice(2, -2))  # outside the network sees black
        assert difference(image[inner], clean[inner]) < 0.5 * difference(given[inner], clean[inner])
        (black,), (white,) = (columns(given)[name] for name in ("black", "white"))
        assert noise == pytest.approx(difference(given, image) * 255 / (white - black), rel=1e-4)


def test_strength_is_the_share_that_is_taken_away(tmp_path):
    model = str(denoiser(tmp_path / "m", 1.0).folder)
    given = noisy(smooth(40, 50, "float32", True))
    whole, half = (DENOISE.make(model=model, strength=s).load()(columns(given)) for s in (1.0, 0.5))
    np.testing.assert_allclose(half["image"][0], (given + whole["image"][0]) / 2, atol=1e-6)
    assert half["noise"][0] == pytest.approx(whole["noise"][0] / 2, rel=1e-3)


def test_flips_are_the_mean_of_four(tmp_path):
    """A network that is its own mirror image gives the same."""
    model = str(denoiser(tmp_path / "m", 1.0).folder)
    given = noisy(smooth(40, 50, "uint8", True))
    one, four = (DENOISE.make(model=model, flips=flips).load()(columns(given))["image"][0] for flips in (False, True))
    assert np.abs(one.astype(int) - four).max() <= 1


def test_tiles_give_what_the_whole_gives(tmp_path):
    model = str(denoiser(tmp_path / "m", 1.0).folder)
    given = noisy(smooth(300, 420, "uint16", True))
    small, large = (DENOISE.make(model=model, tile=tile).load()(columns(given))["image"][0] for tile in (96, 1024))
    assert np.abs(small.astype(int) - large).max() <= 1


def test_grey_in_three_channels_is_grey():
    image = np.random.default_rng(0).integers(0, 255, (5, 6)).astype(np.uint8)
    np.testing.assert_array_equal(plain(np.repeat(image[:, :, None], 3, 2)), image)
    other = np.repeat(image[:, :, None], 3, 2)
    other[0, 0, 1] ^= 1
    assert plain(other) is other


def test_a_network_that_is_told_sees_noise_of_one_strength_alone(tmp_path):
    """What smooths is the same at any gain: told or not, the result is; and what it saw says the noise was brought."""
    plain, told = (denoiser(tmp_path / name, 1.0, sigma=sigma) for name, sigma in (("a", None), ("b", 25.0)))
    given = noisy(smooth(60, 80, "uint16", True), 0.04)
    one, other, third, half = (
        DENOISE.make(model=str(model.folder), **how).load()(columns(given))["image"][0]
        for model, how in ((plain, {}), (told, {}), (told, {"sigma": 12.0}), (told, {"sigma": LEAST / 2}))
    )
    inner = (slice(2, -2), slice(2, -2))  # outside, the network sees black, whatever the gain
    assert np.abs(one.astype(int) - other)[inner].max() <= 1
    assert np.abs(one.astype(int) - third)[inner].max() <= 1
    # Where there is hardly any noise, as much less is taken away.
    assert np.abs((one.astype(int) + given) / 2 - half)[inner].max() <= 1
    seen: list[np.ndarray] = []

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(pixels)
        return {"y": np.moveaxis(pixels, 3, 1) / 255}

    flat = np.full((100, 140, 3), 90, np.uint8) + np.random.default_rng(0).integers(-12, 13, (100, 140, 3)).astype(
        np.uint8
    )
    made = restorer(told, run, 256)(flat, 0.0, 255.0)
    np.testing.assert_array_equal(made, flat)
    assert np.std(seen[0][:100, :140]) == pytest.approx(25, rel=0.05)
    restorer(told, run, 256)(flat, 0.0, 255.0, 50.0)
    assert np.std(seen[1][:100, :140]) == pytest.approx(np.std(flat) / 2, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"sigma": 5.0}, "is not told how much noise"),
        ({"sigma": -1.0}, "above 0"),
        ({"strength": 0.0}, "strength cannot be 0"),
        ({"strength": 1.5}, "strength cannot be 1.5"),
        ({"tile": 20}, "tile cannot be 20"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, settings, why):
    with pytest.raises(SettingError, match=why):
        DENOISE.make(model=str(denoiser(tmp_path / "m").folder), **settings)


@pytest.mark.parametrize("colour", [False, True])
def test_those_that_ship_take_noise_out(colour):
    """Discs on a slope, noise of deviation 25: half of its power goes at the least."""
    y, x = np.mgrid[:160, :200]
    values = 60 + 0.4 * x + 80 * ((x // 40 + y // 40) % 2)
    clean = np.stack([values, values * 0.8, 255 - values], 2) if colour else values
    given = (clean + np.random.default_rng(0).normal(0, 25, clean.shape)).clip(0, 255).astype(np.uint8)
    made = DENOISE.make().load()(columns(given))["image"][0]
    assert difference(made, clean) < 0.4 * difference(given, clean)
    assert DENOISE.make().load()(columns(given))["noise"][0] == pytest.approx(24, abs=3)


def test_grey_and_colour_have_a_network_each():
    colour = noisy(smooth(60, 80, "float32", True), 0.1)
    for given, name in ((colour, "denoise-colour"), (colour[:, :, 0], "denoise")):
        one, other = (DENOISE.make(model=model).load()(columns(given))["image"][0] for model in ("builtin", name))
        np.testing.assert_array_equal(one, other)


def test_those_that_ship_are_small():
    for name in ("denoise", "denoise-colour", "upscale", "nuclei"):
        folder = built_in()[name]
        assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    assert sum(p.stat().st_size for folder in built_in().values() for p in folder.iterdir()) < 20_000_000
    for name in ("denoise", "upscale"):
        assert find("builtin", name).card == find(name, name).card
    assert find("nuclei", "segment").card.labels == ("object", "core")
