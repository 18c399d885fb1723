"""Regions in numbers: what drawn shapes are known to measure."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier import images
from imagier.algorithms import regions
from imagier.stages.measure import MEASURE
from imagier.types import SettingError


def ellipse(long: float, short: float, turned: float, side: int = 240) -> np.ndarray:
    """turned: of the long axis from the horizontal, counter-clockwise, in degrees."""
    mask = np.zeros((side, side), np.uint8)
    cv2.ellipse(mask, (side // 2, side // 2), (round(long), round(short)), -turned, 0, 360, 1, -1)
    return mask > 0


@pytest.mark.parametrize("turned", [-80, -45, 0, 30, 45, 85])
def test_an_ellipse_measures_what_it_was_drawn_with(turned):
    made = regions.shape(ellipse(80, 40, turned))
    assert made["area"] == pytest.approx(np.pi * 80 * 40, rel=0.02)
    assert made["major_axis"] == pytest.approx(160, rel=0.02)
    assert made["minor_axis"] == pytest.approx(80, rel=0.03)
    assert made["eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), abs=0.01)
    assert made["orientation"] == pytest.approx(turned, abs=1)
    assert made["solidity"] > 0.97
    assert made["asymmetry"] < 0.03
    about = np.pi * (3 * 120 - np.sqrt((3 * 80 + 40) * (80 + 3 * 40)))  # Ramanujan 1914
    assert made["perimeter"] == pytest.approx(about, rel=0.02)


def test_a_circle_is_round_and_a_star_is_not():
    circle = regions.shape(ellipse(60, 60, 0))
    assert circle["irregularity"] == pytest.approx(1, abs=0.12)
    assert circle["eccentricity"] < 0.1
    assert circle["diameter"] == pytest.approx(120, rel=0.02)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    radii = np.where(np.arange(16) % 2, 90, 35)
    corners = np.stack([120 + radii * np.cos(angles), 120 + radii * np.sin(angles)], 1).astype(np.int32)
    star = np.zeros((240, 240), np.uint8)
    cv2.fillPoly(star, [corners], 1)
    told = regions.shape(star > 0)
    assert told["irregularity"] > 2
    assert told["solidity"] < 0.8


def test_half_a_disc_is_not_its_own_mirror_image():
    disc = ellipse(60, 60, 0)
    half = disc.copy()
    half[:, 120:] = False
    assert regions.asymmetry(disc, 0.3) < 0.02
    told = regions.shape(half)["asymmetry"]
    assert 0.02 < told < 0.3  # in one axis it is, in the other not
    corner = disc.copy()
    corner[:120, 120:] = False
    assert regions.shape(corner)["asymmetry"] > 0.1


def test_a_single_pixel_and_a_line_are_measured_too():
    for mask in (np.ones((1, 1), bool), np.ones((1, 7), bool), np.ones((5, 1), bool)):
        made = regions.shape(mask)
        assert made["area"] == mask.size
        assert all(np.isfinite(value) for value in made.values())


def test_colour_and_texture_are_those_inside():
    rng = np.random.default_rng(0)
    image = np.zeros((90, 90, 3), np.uint8)
    mask = np.zeros((90, 90), bool)
    mask[20:70, 20:70] = True
    image[mask] = (200, 100, 50)
    image[..., 0] = np.where(mask, image[..., 0] + rng.integers(-20, 21, mask.shape), 0)
    made = regions.colour(image, mask)
    assert made["red_mean"] == pytest.approx(200, abs=1)
    assert made["red_spread"] == pytest.approx(np.std(np.arange(-20, 21)), rel=0.02)
    assert (made["green_mean"], made["green_spread"], made["blue_mean"]) == (100, 0, 50)
    flat, rough = (
        regions.grey(each, mask)["texture_mean"] for each in (np.full((90, 90), 80, np.uint8), image[..., 0])
    )
    assert flat == 0
    assert rough > 10


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.9))
def test_the_outline_drawn_and_filled_covers_the_largest_part(seed, share):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((40, 50)).astype(np.float32), (0, 0), 3)
    mask = noise > np.quantile(noise, share)
    outline = regions.contour(mask)
    assert outline.dtype == np.int32
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(drawn, [outline], 1)
    parts = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    inside = [np.count_nonzero((parts[1] == at) & (drawn > 0)) for at in range(1, parts[0])]
    at = 1 + int(np.argmax(inside))
    assert (drawn[parts[1] == at] == 1).all()


def columns(mask: np.ndarray | None, **more) -> dict:
    image = np.full((240, 240, 3), (180, 120, 60), np.uint8)
    packed = None if mask is None else images.encode(np.where(mask, np.uint8(255), np.uint8(0)), "png")
    of_image = {"image": [image], "black": [0.0], "white": [255.0], "pixel_size_um": [None]}
    return of_image | {"box": [[10, 20, 250, 260]], "mask": [packed], **more}


def test_lengths_are_in_pixels_and_in_micrometres_where_the_size_of_a_pixel_is_known():
    mask = ellipse(80, 40, 0)
    plain, told = MEASURE.make(), MEASURE.make(pixel_size=0.5)
    one = plain.load()(columns(mask))
    assert set(plain.writes.names) == set(one)
    assert one["area_um2"] == one["major_axis_um"] == [None]
    for made in (told.load()(columns(mask, pixel_size_um=[2.0])), plain.load()(columns(mask, pixel_size_um=[0.5]))):
        assert made["area_um2"][0] == pytest.approx(made["area_px2"][0] / 4)
        assert made["perimeter_um"][0] == pytest.approx(made["perimeter_px"][0] / 2)
        assert made["area_px2"] == one["area_px2"]
        assert made["orientation_deg"] == one["orientation_deg"]
    assert (one["red_mean"][0], one["green_mean"][0]) == (180, 120)
    with pytest.raises(SettingError, match="micrometres a pixel"):
        MEASURE.make(pixel_size=0.0)


def test_attributes_are_told_as_shares_of_the_region():
    mask = ellipse(80, 40, 0)
    there = np.zeros((300, 300), np.uint16)  # of the whole image, in which the region lies at (10, 20)
    there[20 : 20 + 120, :] = 7
    step = MEASURE.make(attributes=["net"])
    made = step.load()(columns(mask, net=[images.encode(there, "png")]))
    assert made["coverage_net"][0] == pytest.approx(mask[:120].sum() / mask.sum())


def test_attributes_of_an_enlarged_image_lie_where_they_did():
    mask = ellipse(80, 40, 0)
    there = np.zeros((300, 300), np.uint16)
    there[20 : 20 + 120, :] = 7
    given = columns(mask, net=[images.encode(there.repeat(3, 0).repeat(3, 1), "png")])
    given["image"] = [given["image"][0].repeat(3, 0).repeat(3, 1)]
    made = MEASURE.make(attributes=["net"]).load()(given)
    assert made["coverage_net"][0] == pytest.approx(mask[:120].sum() / mask.sum())
    assert made["area_px2"][0] == mask.sum()


def test_a_whole_image_has_no_measures():
    made = MEASURE.make().load()(columns(None))
    assert all(values == [None] for values in made.values())
