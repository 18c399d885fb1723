"""The hand-made embedding: same in, same out; nothing breaks it; and what looks alike lies close together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.feature import local_binary_pattern
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from imagier.algorithms.classical import BLOCKS, SIDE, WIDTH, binary_patterns, block, describe


def colourful(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random RGB image with detail at every scale."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.zeros((height, width, 3))
    for channel, a, b, phase in zip(np.arange(36) % 3, *rng.uniform(-20, 20, (3, 36)), strict=True):
        image[..., channel] += np.sin(2 * np.pi * (a * x + b * y) + phase) / (abs(a) + abs(b) + 1)
    return np.asarray(np.round(255 * (image - image.min()) / np.ptp(image)), np.uint8)


def assert_sound(vector: np.ndarray) -> None:
    assert vector.shape == (WIDTH,)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_blocks_fill_the_vector() -> None:
    assert sum(length for _, length, _ in BLOCKS) == WIDTH
    vector = describe(colourful(200, 300))
    assert_sound(vector)
    lengths = [np.linalg.norm(vector[block(name)]) for name, _, _ in BLOCKS]
    weights = np.array([weight for _, _, weight in BLOCKS])
    assert lengths == pytest.approx(weights / np.linalg.norm(weights), abs=1e-5)
    with pytest.raises(KeyError):
        block("smell")


def test_same_image_same_vector_whatever_its_place_in_memory() -> None:
    image = colourful(190, 240)
    expected = describe(image)
    room = np.empty(image.size + 64, np.uint8)
    for offset in range(0, 40, 7):
        moved = room[offset : offset + image.size].reshape(image.shape)
        moved[:] = image
        assert np.array_equal(describe(moved), expected)
    assert np.array_equal(describe(np.asfortranarray(image)), expected)
    assert np.array_equal(describe(image[::-1][::-1]), expected)


def test_same_vectors_from_several_threads_and_the_input_stays() -> None:
    images = [colourful(150 + 10 * i, 200, seed=i) for i in range(8)] * 3
    copies = [image.copy() for image in images]
    expected = [describe(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(describe, images))
    assert np.array_equal(found, expected)
    assert all(np.array_equal(image, copy) for image, copy in zip(images, copies, strict=True))


@pytest.mark.parametrize("shape", [(64, 80), (128, 128), (300, 517), (1, 1), (3, 900)])
def test_grey_equals_rgb_of_the_same_grey(shape: tuple[int, int]) -> None:
    grey = colourful(*shape)[..., 1] if shape != (1, 1) else np.full((1, 1), 77, np.uint8)
    assert np.array_equal(describe(grey), describe(np.dstack([grey] * 3)))


@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 1, 3), (2, 1), (1, 5000), (5000, 1, 3), (7, 3000, 3), (SIDE, SIDE), (127, 129, 3), (513, 700)]
)
def test_flat_images_of_any_shape_are_sound(shape: tuple[int, ...], value: int) -> None:
    assert_sound(describe(np.full(shape, value, np.uint8)))


def test_very_long_strips_are_sound() -> None:
    strip = np.random.default_rng(0).integers(0, 256, (1, 70_000), dtype=np.uint8)
    assert_sound(describe(strip))
    assert_sound(describe(strip.T))


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.uint8,
        st.one_of(
            st.tuples(st.integers(1, 40), st.integers(1, 40)),
            st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
        ),
    )
)
def test_any_small_image_is_sound(image: np.ndarray) -> None:
    assert_sound(describe(image))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5), np.uint8),
        np.zeros((5, 5), np.uint16),
        np.zeros((5, 5), np.float32),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros(5, np.uint8),
    ],
)
def test_what_is_no_8_bit_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the image"):
        describe(image)


def test_binary_patterns_equal_skimage() -> None:
    # 16-bit noise: no ties, which skimage leaves to rounding
    image = np.random.default_rng(0).integers(0, 65536, (90, 131), dtype=np.uint16)
    skimage_patterns: Any = local_binary_pattern
    theirs = skimage_patterns(image, 8, 1, method="default")[1:-1, 1:-1]
    assert np.array_equal(binary_patterns(image.astype(np.float32)), theirs)


@pytest.mark.parametrize("step", [2, 4])
def test_wider_binary_patterns_are_those_of_every_thinned_image(step: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (61, 54)).astype(np.float32)
    wide = binary_patterns(image, step)
    for y in range(step):
        for x in range(step):
            assert np.array_equal(wide[y::step, x::step], binary_patterns(image[y::step, x::step]))


def test_binary_patterns_of_a_flat_area_are_all_set() -> None:
    for value in (0, 1, 77, 254, 255):
        assert (binary_patterns(np.full((9, 12), value, np.float32)) == 255).all()


def test_size_of_the_file_hardly_matters() -> None:
    image = colourful(512, 640)
    smaller = image.reshape(256, 2, 320, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    assert describe(image) @ describe(smaller) > 0.99


def stripes(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:160, :160]
    return np.asarray(np.sin((x + rng.uniform(0, 99)) * 0.7) * 50 + y * 0)


def blobs(rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.fft2(rng.normal(size=(160, 160)))
    f = np.hypot(np.fft.fftfreq(160)[:, None], np.fft.fftfreq(160)[None])
    field = np.fft.ifft2(spectrum * np.exp(-((f / 0.05) ** 2))).real
    return np.asarray(field / field.std() * 35)


def grain(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 35, (160, 160))


def dots(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:160, :160]
    dx, dy = rng.uniform(0, 16, 2)
    return np.where(np.hypot((x + dx) % 16 - 8, (y + dy) % 16 - 8) < 4, 80.0, -20.0)


TEXTURES: list[Callable[[np.random.Generator], np.ndarray]] = [stripes, blobs, grain, dots]


def drawn(texture: Callable[[np.random.Generator], np.ndarray], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(np.round(128 + texture(rng) + rng.normal(0, 4, (160, 160))), 0, 255).astype(np.uint8)


def test_nearest_image_is_of_the_same_texture() -> None:
    vectors = np.stack([describe(drawn(texture, seed)) for texture in TEXTURES for seed in range(8)])
    kinds = np.repeat(np.arange(len(TEXTURES)), 8)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    assert (kinds[similarity.argsort(axis=1)[:, -5:]] == kinds[:, None]).all()


@pytest.mark.parametrize("texture", TEXTURES)
def test_shifting_a_texture_hardly_moves_its_texture_block(
    texture: Callable[[np.random.Generator], np.ndarray],
) -> None:
    image, part = drawn(texture, 0), block("texture")
    a, b = describe(image[:128, :128])[part], describe(image[31:159, 17:145])[part]
    others = [describe(drawn(other, 0)[:128, :128])[part] for other in TEXTURES if other is not texture]
    moved = np.linalg.norm(a - b)
    # the random textures' windows share but half their pixels: what is left is chance
    assert moved < 0.12 * np.linalg.norm(a)
    assert moved < 0.5 * min(np.linalg.norm(a - other) for other in others)


def faint(kind: str, side: int, rng: np.random.Generator) -> np.ndarray:
    """A structure between 0 and 1, at a random place, angle and scale."""
    y, x = np.mgrid[:side, :side] / side
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    if kind == "disc":
        return np.asarray(np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7)) < rng.uniform(0.15, 0.3))
    if kind == "stripes":
        return np.asarray(np.sin(2 * np.pi * (along * rng.uniform(4, 12) + rng.uniform())) > 0)
    if kind == "gradient":
        return np.asarray((along - along.min()) / np.ptp(along))
    period = rng.uniform(0.08, 0.16)
    return np.asarray(np.hypot((x / period + rng.uniform()) % 1 - 0.5, (y / period + rng.uniform()) % 1 - 0.5) < 0.25)


def shown(levels: np.ndarray) -> np.ndarray:
    """8 bits of 12, stretched from the 0.1 to the 99.9 percentile."""
    low, high = np.percentile(levels, (0.1, 99.9))
    if high <= low:
        return np.zeros(levels.shape, np.uint8)
    return np.asarray(np.clip(np.round((levels - low) * (255 / (high - low))), 0, 255), np.uint8)


KINDS = ("disc", "stripes", "gradient", "spots")


@pytest.mark.parametrize(
    ("kinds", "noise"),
    [(KINDS, 0.0), (KINDS, 0.3), (KINDS, 1.0), (KINDS, 3.0), (KINDS, None), *(((kind,), 3.0) for kind in KINDS)],
)
def test_structure_of_8_levels_of_4096_is_told_from_noise(kinds: tuple[str, ...], noise: float | None) -> None:
    """noise: its standard deviation in levels; None: anything from 0 to 3, another in each image."""
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 2
    vectors = []
    for i, structured in enumerate(labels):
        sigma = rng.uniform(0, 3) if noise is None else noise
        levels = rng.integers(200, 3000) + 8 * structured * faint(kinds[i // 2 % len(kinds)], 256, rng)
        levels = np.clip(np.round(levels + sigma * rng.normal(size=(256, 256))), 0, 4095)
        vectors.append(describe(shown(levels)))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(LogisticRegression(), np.stack(vectors), labels, cv=folds).mean() >= 0.95
