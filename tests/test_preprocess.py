"""Geometry before a network: what torchvision's transforms give, pixel by pixel, and boxes that find their way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagier.images import resize
from imagier.models.model import Input
from imagier.models.preprocess import in_colour, place, prepare, short_side

SIDES = st.integers(20, 300)


def smooth(h: int, w: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 9, 3), np.uint8)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)


@settings(max_examples=60, deadline=None)
@given(h=SIDES, w=SIDES, resize=st.sampled_from([None, 64, 73, 80]), how=st.sampled_from(["bilinear", "bicubic"]))
def test_crop_is_torchvisions_resize_and_centre_crop(h, w, resize, how):
    transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is not installed")
    image = smooth(h, w, h * w)
    made, _ = place(image, Input(size=(64, 64), resize=resize, interpolation=how))
    mode = transforms.InterpolationMode(how)
    whole = transforms.Compose([transforms.Resize(resize or 64, mode), transforms.CenterCrop(64)])
    wanted = np.asarray(whole(Image.fromarray(image)))
    np.testing.assert_array_equal(made, wanted)


@given(h=SIDES, w=SIDES, how=st.sampled_from(["bilinear", "bicubic", "lanczos"]))
@settings(max_examples=30, deadline=None)
def test_squash_is_pillows_resize(h, w, how):
    image = smooth(h, w)
    made, _ = place(image, Input(size=(40, 50), fit="squash", interpolation=how))
    wanted = Image.fromarray(image).resize((50, 40), getattr(Image.Resampling, how.upper()))
    np.testing.assert_array_equal(made, np.asarray(wanted))


@given(h=st.integers(1, 300), w=st.integers(1, 300), at=st.sampled_from(["corner", "centre"]))
@settings(max_examples=60, deadline=None)
def test_pad_keeps_the_shape_and_the_rest_is_ground(h, w, at):
    image = np.full((h, w, 3), 200, np.uint8)
    made, placed = place(image, Input(size=(48, 64), fit="pad", pad_value=7, pad_at=at))
    inner = (made == 200).all(axis=2)
    y, x = np.nonzero(inner)
    assert ((made == 7).all(axis=2) | inner).all()
    assert (x.min(), y.min()) == (placed.left, placed.top)
    assert x.max() + 1 - x.min() == pytest.approx(placed.scale_x * w)
    assert max((x.max() + 1 - x.min()) / 64, (y.max() + 1 - y.min()) / 48) == 1
    if at == "corner":
        assert (x.min(), y.min()) == (0, 0)


@given(
    h=SIDES,
    w=SIDES,
    fit=st.sampled_from(["crop", "squash", "pad"]),
    at=st.sampled_from(["corner", "centre"]),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=100, deadline=None)
def test_a_box_in_the_networks_pixels_finds_its_way_back(h, w, fit, at, corner):
    _, placed = place(np.zeros((h, w, 3), np.uint8), Input(size=(64, 96), fit=fit, pad_at=at))
    x, y = corner[0] * w, corner[1] * h
    there = np.array([[x, y, x + 10, y + 5]])
    seen = there.copy()
    seen[:, 0::2] = there[:, 0::2] * placed.scale_x + placed.left
    seen[:, 1::2] = there[:, 1::2] * placed.scale_y + placed.top
    np.testing.assert_allclose(placed.back(seen), there, atol=1e-3)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_what_is_marked_in_an_image_is_where_it_is_said_to_be(fit):
    """A white square of 40 pixels in the middle of black: its centre of mass, taken back, is the middle."""
    image = np.zeros((200, 320, 3), np.uint8)
    image[70:110, 150:190] = 255
    made, placed = place(image, Input(size=(96, 96), fit=fit, pad_value=0, pad_at="centre"))
    y, x = np.nonzero(made[..., 0] > 127)
    box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]])
    np.testing.assert_allclose(placed.back(box), [[150, 70, 190, 110]], atol=3)


def test_a_batch_of_mixed_images_is_one_array():
    images = [smooth(30, 50), smooth(90, 20)[..., 0], smooth(64, 64)]
    batch, placed = prepare(images, Input(size=(64, 64)))
    assert batch.shape == (3, 64, 64, 3)
    assert batch.dtype == np.uint8
    assert len(placed) == 3
    assert (batch[1][..., 0] == batch[1][..., 2]).all()


def test_the_same_size_is_the_same_pixels():
    image = smooth(64, 64)
    for fit in ("crop", "squash", "pad"):
        np.testing.assert_array_equal(place(image, Input(size=(64, 64), fit=fit))[0], image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colour_and_grey_keep_the_depth(dtype):
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    white = np.full((4, 5, 3), top, dtype)
    grey = in_colour(white, "grey")
    assert (grey.shape, grey.dtype) == ((4, 5, 1), dtype)
    np.testing.assert_allclose(grey, top, rtol=1e-6)
    assert in_colour(grey[..., 0], "rgb").shape == (4, 5, 3)


def test_the_short_side_that_is_needed():
    assert short_side(Input(size=(224, 224), resize=256)) == 256
    assert short_side(Input(size=(224, 200))) == 200
    assert short_side(Input(size=(224, 320), fit="pad")) == 320
    assert short_side(Input(fit="none")) is None


def test_a_strip_costs_no_more_than_its_middle():
    """The whole at 176 pixels wide would be 17 GB."""
    strip = np.full((200_000, 1, 3), 7, np.uint8)
    strip[99_000:101_000] = 90
    pixels, placed = place(strip, Input(size=(176, 176), interpolation="area"))
    assert pixels.shape == (176, 176, 3)
    assert (pixels == 90).all()
    assert placed.back(np.array([[0, 0, 176, 176]])) == pytest.approx(np.array([[0, 99_999.5, 1, 100_000.5]]), abs=0.01)


def test_a_strips_middle_is_what_the_whole_would_give():
    """Within what rounding changes."""
    image = np.random.default_rng(0).integers(0, 256, (9000, 8, 3), np.uint8)
    middle = resize(image, size=(64, 72_000))[35_968:36_032]
    assert np.abs(place(image, Input(size=(64, 64), interpolation="area"))[0].astype(int) - middle).max() <= 1
