"""segment, crop by mask, and export: objects are found, kept, cut out, and written for other programs."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from restorers import segmenter

import imagier
from imagier import images
from imagier.cli import main
from imagier.collection import Collection
from imagier.outputs.masks import coco, runs
from imagier.stages.crop import CROP
from imagier.stages.segment import SEGMENT, suffixes
from imagier.training.truth import coco as read_coco
from imagier.types import Regions, SettingError

DISCS = [(40, 30, 14), (90, 70, 20), (150, 40, 9)]
"""x, y, radius."""


def drawn(seed: int = 0, colour: tuple[int, int, int] = (220, 210, 230)) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on dark, and their label image, numbered as they come from the top."""
    numbers = np.zeros((110, 180), np.int32)
    for number, (x, y, radius) in enumerate(sorted(DISCS, key=lambda disc: disc[1] - disc[2]), 1):
        cv2.circle(numbers, (x + seed, y), radius, number, -1)
    image = np.random.default_rng(seed).integers(0, 60, (*numbers.shape, 3)).astype(np.uint8)
    image[numbers > 0] = colour
    return image, numbers


def given_to(image: np.ndarray, **more) -> dict:
    told = {
        "image": image,
        "black": 0.0,
        "white": 255.0,
        "width": image.shape[1],
        "height": image.shape[0],
        "box": None,
    }
    return {name: [value] for name, value in (told | more).items()}


def test_objects_are_numbered_and_counted(tmp_path):
    image, numbers = drawn()
    step = SEGMENT.make(model=str(segmenter(tmp_path / "m").folder))
    made = step.load()(given_to(image))
    assert step.writes.names == ["masks", "objects", "coverage"]
    np.testing.assert_array_equal(images.decode(made["masks"][0]).image, numbers)
    assert made["objects"] == [3]
    assert made["coverage"][0] == pytest.approx((numbers > 0).mean())
    (found,) = made["regions"]
    assert found.labels == ("object",) * 3
    for number, (box, mask) in enumerate(zip(found.boxes.astype(int), found.masks, strict=True), 1):
        x0, y0, x1, y1 = box
        np.testing.assert_array_equal(mask, numbers[y0:y1, x0:x1] == number)
    assert found.scores.min() > 0.9


def test_classes_have_columns_of_their_own(tmp_path):
    image, numbers = drawn(colour=(250, 20, 20))
    model = segmenter(tmp_path / "m", labels=("Bright spots", "red"), classes=2)
    step = SEGMENT.make(model=str(model.folder))
    made = step.load()(given_to(image))
    assert set(step.writes.names) == {
        f"{name}_{each}" for name in ("masks", "objects", "coverage") for each in ("bright_spots", "red")
    }
    assert made["objects_bright_spots"] == [0]
    np.testing.assert_array_equal(images.decode(made["masks_red"][0]).image, numbers)
    assert suffixes(("a b", "a-b", "ä")) == ("_a_b", "_a_b_2", "_class")


def test_regions_lie_in_the_original_where_the_image_is_a_part_of_it_or_enlarged(tmp_path):
    image = drawn()[0]
    apply = SEGMENT.make(model=str(segmenter(tmp_path / "m").folder)).load()
    larger = image.repeat(3, 0).repeat(3, 1)
    (found,) = apply(given_to(larger, width=180, height=110))["regions"]
    (wanted,) = apply(given_to(image))["regions"]
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    for one, other in zip(found.masks, wanted.masks, strict=True):
        np.testing.assert_array_equal(one, other)
    (moved,) = apply(given_to(image, box=[1000, 2000, 1180, 2110]))["regions"]
    np.testing.assert_array_equal(moved.boxes, wanted.boxes + np.array([1000, 2000, 1000, 2000]))


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(SettingError, match="imagier train segmenter"):
        SEGMENT.make()
    model = str(segmenter(tmp_path / "m").folder)
    for wrong in ({"threshold": 1.0}, {"fill": -0.1}, {"least": -1}, {"tile": 30}):
        with pytest.raises(SettingError):
            SEGMENT.make(model=model, **wrong)


# ---------------------------------------------------------------- through a run


@pytest.fixture
def collection(tmp_path) -> Collection:
    """Three images with three objects each, one without any, and one that is no image."""
    for at in range(3):
        path = tmp_path / "images" / "a" / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encode(drawn(at)[0], "png"))
    (tmp_path / "images" / "dark.png").write_bytes(images.encode(np.zeros((40, 60), np.uint8), "png"))
    (tmp_path / "images" / "none.png").write_bytes(b"no image at all")
    pipeline = [
        {"segment": {"model": str(segmenter(tmp_path / "m").folder)}},
        {"crop": {"source": "mask", "keep": "each", "margin": 0.2}},
        "measure",
    ]
    return imagier.run(tmp_path / "images", into=tmp_path / "out", pipeline=pipeline, report=False)


def test_every_object_is_an_item_with_box_mask_and_contour(collection):
    rows = collection.read().to_pylist()
    wholes = {row["id"]: row for row in rows if row["parent"] is None}
    parts = [row for row in rows if row["parent"] is not None]
    assert (len(wholes), len(parts)) == (4, 9)
    assert sorted(row["objects"] for row in wholes.values()) == [0, 3, 3, 3]
    for row in parts:
        whole = wholes[row["parent"]]
        numbers = images.decode(whole["masks"]).image
        x0, y0, x1, y1 = (round(edge) for edge in row["box"])
        mask = images.decode(row["mask"]).image > 0
        assert mask.shape == (row["height"], row["width"]) == (y1 - y0, x1 - x0)
        number = np.median(numbers[y0:y1, x0:x1][mask])
        np.testing.assert_array_equal(numbers[y0:y1, x0:x1] == number, mask)
        assert row["area_px2"] == mask.sum() == (numbers == number).sum()
        outline = np.array(row["contour"]).reshape(-1, 2)
        filled = cv2.fillPoly(np.zeros(numbers.shape, np.uint8), [outline], 1)
        np.testing.assert_array_equal(filled > 0, numbers == number)
        np.testing.assert_array_equal(collection.pixels(row["id"]).shape[:2], mask.shape)
        assert row["objects"] is None
        assert row["detection_score"] > 0.9
    assert all(row["area_px2"] is None for row in wholes.values())


def test_the_main_object_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(images.encode(drawn()[0], "png"))
    model = str(segmenter(tmp_path / "m").folder)
    pipeline = [{"segment": {"model": model}}, {"crop": {"source": "mask", "margin": 0.0}}]
    made = imagier.run(tmp_path / "a.png", into=tmp_path / "out", pipeline=pipeline, report=False)
    (row,) = made.read(["box", "mask"], where="parent is not null").to_pylist()
    assert row["box"] == [70, 50, 111, 91]  # the largest and the most central
    with pytest.raises(SettingError, match="a column that no step before it makes"):
        imagier.run(tmp_path / "a.png", into=tmp_path / "o2", pipeline=[{"crop": {"source": "mask"}}], report=False)
    for wrong in ({"threshold": 0.5}, {"detector": "x"}, {"engine": "torch"}):
        with pytest.raises(SettingError, match="cannot be given with source=mask"):
            imagier.run(
                tmp_path / "a.png",
                into=tmp_path / "o3",
                pipeline=[{"segment": {"model": model}}, {"crop": {"source": "mask", **wrong}}],
                report=False,
            )


@pytest.mark.parametrize("half", [False, True])
def test_an_object_on_the_mean_of_its_surroundings(half):
    """As later steps see it; also where the image was brought to half its size on the way."""
    image = np.full((60, 80, 3), (10, 20, 30), np.uint8)
    image[:, 40:] = (30, 40, 50)
    inside = np.zeros((60, 80), bool)
    inside[20:40, 30:50] = True
    image[inside] = (200, 100, 50)
    shown = images.resize(image, size=(40, 30)) if half else image
    mask = np.ones((20, 20), bool)
    regions = Regions(np.array([[30, 20, 50, 40]], np.float32), (mask,), np.ones(1, np.float32), ("object",))
    given = {"image": [shown], "black": [0.0], "white": [255.0], "width": [80], "height": [60], "box": [None]}
    step = CROP.make(source="mask", margin=0.3, surroundings="mean")
    (cut,) = step.load()(given | {"regions": [regions]})["image"]
    scale = 2 if half else 1
    assert cut.shape == (32 // scale, 32 // scale, 3)
    edge = 6 // scale + half
    np.testing.assert_array_equal(
        cut[edge:-edge, edge:-edge], np.broadcast_to((200, 100, 50), cut[edge:-edge, edge:-edge].shape)
    )
    corner = cut[0, 0].astype(int)
    assert (cut[0] == cut[0, 0]).all()
    assert (cut[-1] == cut[0, 0]).all()
    assert np.abs(corner - (20, 30, 40)).max() <= 2 + 8 * half
    plain = CROP.make(source="mask", margin=0.3).load()(given | {"regions": [regions]})["image"][0]
    assert (plain[0, 0] == (10, 20, 30)).all()
    with pytest.raises(SettingError, match=r"crop\.surroundings cannot be mean without masks"):
        CROP.make(surroundings="mean")


def test_coco_comes_back_as_the_same_masks(collection, tmp_path):
    path = tmp_path / "c.json"
    told = CliRunner().invoke(main, ["export", str(collection.folder), str(path), "--to", "coco"])
    assert told.exit_code == 0, told.output
    made = json.loads(path.read_text())
    assert len(made["images"]) == 4
    assert len(made["annotations"]) == 9
    assert [each["name"] for each in made["categories"]] == ["object"]
    for each in made["annotations"]:
        assert each["area"] == sum(each["segmentation"]["counts"][1::2])
        assert sum(each["segmentation"]["counts"]) == np.prod(each["segmentation"]["size"])
    root = tmp_path / "images"
    pictures = sorted(root.rglob("?.png"))
    truth = read_coco(pictures, root, path)
    for at, picture in enumerate(pictures):
        numbers = drawn(at)[1]
        mask = truth.draw[picture](*numbers.shape)
        np.testing.assert_array_equal(mask.inside[:, :, 0], numbers > 0)
        assert len(np.unique(mask.objects)) == 4
    assert made == coco(collection)


def test_label_images_and_overlays_are_written_as_files(collection, tmp_path):
    for to in ("masks", "overlays"):
        told = CliRunner().invoke(main, ["export", str(collection.folder), str(tmp_path / to), "--to", to])
        assert told.exit_code == 0, told.output
    for at in range(3):
        image, numbers = drawn(at)
        written = images.decode((tmp_path / "masks" / "object" / "a" / f"{at}.png").read_bytes()).image
        assert written.dtype == np.uint16
        np.testing.assert_array_equal(written, numbers)
        shown = images.decode((tmp_path / "overlays" / "a" / f"{at}.png").read_bytes()).image
        assert shown.shape == image.shape
        np.testing.assert_array_equal((shown != image).any(2), numbers > 0)
    assert (tmp_path / "masks" / "object" / "dark.png").is_file()


def test_a_collection_without_masks_says_so(tmp_path):
    (tmp_path / "a.png").write_bytes(images.encode(drawn()[0], "png"))
    imagier.run(tmp_path / "a.png", into=tmp_path / "out", pipeline=["embed"], report=False)
    for to in ("coco", "masks", "overlays"):
        told = CliRunner().invoke(main, ["export", str(tmp_path / "out"), str(tmp_path / to), "--to", to])
        assert told.exit_code == 1
        assert "no masks" in told.stderr


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_run_lengths_are_those_of_the_whole_mask(data):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - y0)), data.draw(st.integers(1, width - x0))
    bits = data.draw(st.lists(st.booleans(), min_size=h * w, max_size=h * w))
    inside = np.array(bits).reshape(h, w)
    whole = np.zeros((height, width), bool)
    whole[y0 : y0 + h, x0 : x0 + w] = inside
    counts = runs(inside, x0, y0, (height, width))
    assert sum(counts) == height * width
    assert all(count > 0 for count in counts[1:])
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    np.testing.assert_array_equal(values.reshape(width, height).T, whole)
