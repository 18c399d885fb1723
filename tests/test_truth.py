"""Masks from every format that people have them in, exact to the pixel; what does not fit is told, with both names."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier import images
from imagier.training import shapes, truth
from imagier.types import ImageError, SettingError

SHAPE = (40, 60)


def rectangle(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Two in the folder, one in a subfolder."""
    made = [tmp_path / "images" / name for name in ("a.jpg", "b.jpg", "sub/a.jpg")]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encode(np.zeros((*SHAPE, 3), np.uint8), "jpeg"))
    return made


def put(path: Path, mask: np.ndarray, format: str = "png") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(mask, format))


def root(pictures: list[Path]) -> Path:
    return pictures[0].parent


@pytest.mark.parametrize("format", ["png", "jpeg", "tiff"])
@pytest.mark.parametrize("ending", ["", "_mask"])
def test_mask_folders_by_name_and_subfolder(pictures, tmp_path, format, ending):
    wanted = [rectangle(0, 0, 10, 10), rectangle(5, 5, 20, 30), rectangle(30, 40, 40, 60)]
    suffix = {"jpeg": "jpg", "tiff": "tif"}.get(format, format)
    for picture, mask in zip(pictures, wanted, strict=True):
        place = picture.relative_to(root(pictures)).with_suffix("")
        put(tmp_path / "masks" / f"{place}{ending}.{suffix}", mask.astype(np.uint8) * 255, format)
    made = truth.folders(pictures, root(pictures), {"lesion": tmp_path / "masks"})
    assert made.classes == ("lesion",)
    assert not made.instances
    for picture, mask in zip(pictures, wanted, strict=True):
        np.testing.assert_array_equal(made.draw[picture](*SHAPE).inside[:, :, 0], mask)


@pytest.mark.parametrize("top", [1, 200, 255])
def test_any_bright_value_is_inside(top):
    mask = rectangle(3, 3, 9, 9)
    np.testing.assert_array_equal(truth.bright(mask.astype(np.uint8) * np.uint8(top)), mask)
    np.testing.assert_array_equal(truth.bright(mask.astype(np.uint16) * np.uint16(65535)), mask)
    assert not truth.bright(np.full(SHAPE, 7, np.uint8)).any()  # the haze of a JPEG
    assert not truth.bright(np.zeros(SHAPE, np.float32)).any()


def test_classes_of_their_own_folders_may_overlap(pictures, tmp_path):
    put(tmp_path / "net" / "a.png", rectangle(0, 0, 20, 20).astype(np.uint8) * 255)
    put(tmp_path / "dots" / "a.png", rectangle(10, 10, 30, 30).astype(np.uint8) * 255)
    put(tmp_path / "dots" / "b.png", rectangle(1, 1, 2, 2).astype(np.uint8) * 255)
    made = truth.folders(pictures, root(pictures), {"net": tmp_path / "net", "dots": tmp_path / "dots"})
    first = made.draw[pictures[0]](*SHAPE).inside
    assert (first[15, 15]).all()
    assert not made.draw[pictures[1]](*SHAPE).inside[:, :, 0].any()
    assert pictures[2] not in made.draw


def test_a_mask_of_another_size_names_both(pictures, tmp_path):
    put(tmp_path / "masks" / "a.png", np.zeros((10, 10), np.uint8))
    made = truth.folders(pictures, root(pictures), {"object": tmp_path / "masks"})
    with pytest.raises(ImageError, match=r"a\.png has 10 x 10 pixels, its image 60 x 40"):
        made.draw[pictures[0]](*SHAPE)


def test_label_images_tell_objects_apart(pictures, tmp_path):
    numbers = np.zeros(SHAPE, np.uint16)
    numbers[2:8, 2:8], numbers[2:8, 8:14] = 1, 300
    put(tmp_path / "labels" / "b.png", numbers)
    made = truth.labels(pictures, root(pictures), tmp_path / "labels")
    mask = made.draw[pictures[1]](*SHAPE)
    assert made.instances
    np.testing.assert_array_equal(mask.objects[:, :, 0], numbers)
    np.testing.assert_array_equal(mask.inside[:, :, 0], numbers > 0)
    put(tmp_path / "labels" / "a.png", np.zeros((*SHAPE, 3), np.uint8) + np.arange(3, dtype=np.uint8))
    made = truth.labels(pictures, root(pictures), tmp_path / "labels")
    with pytest.raises(ImageError, match="grey"):
        made.draw[pictures[0]](*SHAPE)


CORNERS = [[4, 6], [30, 6], [30, 25], [4, 25]]
"""x, y of a rectangle: columns 4 to 30, rows 6 to 25."""
DRAWN = rectangle(6, 4, 25, 30)


def test_coco_polygons_and_run_lengths(pictures, tmp_path):
    other = rectangle(30, 50, 38, 58)
    runs = packed_plainly(other)
    told = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "sub/a.jpg"}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 9, "segmentation": [[c for corner in CORNERS for c in corner]]},
            {"image_id": 1, "category_id": 5, "segmentation": {"size": list(SHAPE), "counts": runs}},
            {"image_id": 2, "category_id": 5, "segmentation": {"size": list(SHAPE), "counts": packed(runs)}},
        ],
    }
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(told))
    made = truth.coco(pictures, root(pictures), file)
    assert made.classes == ("cat", "dog")
    first, second = made.draw[pictures[0]](*SHAPE), made.draw[pictures[2]](*SHAPE)
    np.testing.assert_array_equal(first.inside[:, :, 1], DRAWN)
    np.testing.assert_array_equal(first.inside[:, :, 0], other)
    np.testing.assert_array_equal(second.inside[:, :, 0], other)
    np.testing.assert_array_equal(first.objects[:, :, 1], DRAWN * 1)
    np.testing.assert_array_equal(first.objects[:, :, 0], other * 2)
    assert pictures[1] not in made.draw
    with pytest.raises(ImageError, match=r"coco\.json: run lengths are for 60 x 40 pixels"):
        made.draw[pictures[2]](41, 60)


def packed_plainly(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, of 0 first."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def packed(runs: list[int]) -> str:
    """As COCO's own tools write it."""
    text = ""
    for at, run in enumerate(runs):
        left = run - runs[at - 2] if at > 2 else run
        more = True
        while more:
            five = left & 0x1F
            left >>= 5
            more = left != -1 if five & 0x10 else left != 0
            text += chr(48 + (five | 0x20 if more else five))
    return text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=30))
def test_packed_run_lengths_come_back(runs):
    assert shapes.unpacked(packed(runs)) == runs
    with pytest.raises(ValueError, match="break off"):
        shapes.unpacked(packed([*runs, 1_000_000])[:-1])  # a number of several letters, cut


def test_objects_of_classes_that_overlap_stay_whole(pictures, tmp_path):
    shapes = [
        {"label": "lesion", "points": [[0, 0], [30, 30]], "shape_type": "rectangle"},
        {"label": "hair", "points": [[10, 10], [20, 40]], "shape_type": "rectangle"},
    ]
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "a.json").write_text(json.dumps({"shapes": shapes}))
    mask = truth.labelme(pictures, root(pictures), tmp_path / "json").draw[pictures[0]](*SHAPE)
    for at in range(2):
        assert len(np.unique(mask.objects[:, :, at])) == 2
        np.testing.assert_array_equal(mask.objects[:, :, at] > 0, mask.inside[:, :, at])


def test_labelme_shapes(pictures, tmp_path):
    patch = np.array([[0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]], np.uint8)
    encoded = base64.b64encode(images.encode(patch, "png")).decode()
    shapes = [
        {"label": "nut", "points": CORNERS, "shape_type": "polygon"},
        {"label": "bolt", "points": [[40, 10], [50, 20]], "shape_type": "rectangle"},
        {"label": "hole", "points": [[20, 30], [20, 34]], "shape_type": "circle"},
        {"label": "nut", "points": [[1, 1]], "shape_type": "point"},
        {"label": "burr", "points": [[50, 30], [54, 33]], "shape_type": "mask", "mask": encoded},
        {"label": "part", "points": [[0, 36], [2, 38]], "shape_type": "rectangle", "group_id": 3},
        {"label": "part", "points": [[8, 38], [6, 36]], "shape_type": "rectangle", "group_id": 3},
    ]
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "b.json").write_text(json.dumps({"shapes": shapes}))
    made = truth.labelme(pictures, root(pictures), tmp_path / "json")
    mask = made.draw[pictures[1]](*SHAPE)
    assert made.classes == ("bolt", "burr", "hole", "nut", "part")
    assert mask.objects[37, 1, 4] == mask.objects[37, 7, 4] == 5
    np.testing.assert_array_equal(mask.inside[:, :, 3], DRAWN)
    np.testing.assert_array_equal(mask.inside[:, :, 0], rectangle(10, 40, 20, 50))
    np.testing.assert_array_equal(mask.inside[30:34, 50:55, 1], patch > 0)
    assert mask.inside[:, :, 1].sum() == patch.sum()
    assert abs(mask.inside[:, :, 2].sum() - np.pi * 16) < 4
    for bad in ({"label": "nut"}, {"label": "nut", "points": CORNERS, "shape_type": "spline"}):
        (tmp_path / "json" / "a.json").write_text(json.dumps({"shapes": [bad]}))
        with pytest.raises(SettingError, match=r"a\.json"):
            truth.labelme(pictures, root(pictures), tmp_path / "json")


def test_cvat_shapes(pictures, tmp_path):
    points = ";".join(f"{x},{y}" for x, y in CORNERS)
    runs = "2,3,2,3"  # along the rows of a patch of 5 x 2
    file = tmp_path / "annotations.xml"
    file.write_text(
        f"""<annotations><version>1.1</version><image id="0" name="sub/a.jpg" width="60" height="40">
        <polygon label="cell" points="{points}"/><box label="scratch" xtl="40" ytl="10" xbr="50" ybr="20"/>
        <mask label="spot" left="3" top="30" width="5" height="2" rle="{runs}"/><points label="x" points="1,1"/>
        </image></annotations>"""
    )
    made = truth.cvat(pictures, root(pictures), file)
    mask = made.draw[pictures[2]](*SHAPE)
    assert made.classes == ("cell", "scratch", "spot")
    np.testing.assert_array_equal(mask.inside[:, :, 0], DRAWN)
    np.testing.assert_array_equal(mask.inside[:, :, 1], rectangle(10, 40, 20, 50))
    np.testing.assert_array_equal(mask.inside[:, :, 2], rectangle(30, 5, 32, 8))
    for bad, why in (
        ('<box label="x" xtl="1" ytl="1" xbr="5" ybr="5" rotation="30.0"/>', "turned"),
        ('<cuboid label="x"/>', "no area"),
        ('<polygon label="x" points="1,1;2,2"/>', "2 corners"),
        ('<polygon label="x"/>', "points"),
        ('<mask label="x" left="1" top="1" width="2" height="2" rle="3,3"/>', "run lengths of 6 pixels for 2 x 2"),
    ):
        file.write_text(f'<annotations><image name="a.jpg">{bad}</image></annotations>')
        with pytest.raises(SettingError, match=why):
            truth.cvat(pictures, root(pictures), file)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 50), st.integers(1, 10), st.integers(1, 10))
def test_a_polygon_of_whole_pixels_is_exact(y, x, high, wide):
    made = shapes.box(x, y, x + wide, y + high)(*SHAPE)
    np.testing.assert_array_equal(made, rectangle(y, x, y + high, x + wide))


BARE = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": []}],
    }
)
"""An annotation that draws nothing."""


def test_sources_that_fit_nothing_are_refused(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    for call in (
        lambda: truth.folders(pictures, root(pictures), {"x": tmp_path / "empty"}),
        lambda: truth.folders(pictures, root(pictures), {"x": tmp_path / "nowhere"}),
        lambda: truth.labels(pictures, root(pictures), tmp_path / "empty"),
        lambda: truth.labelme(pictures, root(pictures), tmp_path / "empty"),
        lambda: truth.coco(pictures, root(pictures), tmp_path / "no.json"),
        lambda: truth.cvat(pictures, root(pictures), tmp_path / "no.xml"),
    ):
        with pytest.raises(SettingError, match=r"no |none|cannot be read"):
            call()
    for name, text in (("bad.json", "{"), ("list.json", "[]"), ("half.json", '{"images": []}'), ("bare.json", BARE)):
        (tmp_path / name).write_text(text)
        with pytest.raises(SettingError, match=name.replace(".", r"\.")):
            truth.coco(pictures, root(pictures), tmp_path / name)
    (tmp_path / "bad.xml").write_text("<a>")
    with pytest.raises(SettingError, match="no XML"):
        truth.cvat(pictures, root(pictures), tmp_path / "bad.xml")


@pytest.mark.shared
def test_real_masks_are_read(shared):
    data = shared / "data"
    for folder, count in (("ham10000", 2386), ("ph2", 200)):
        found = sorted((data / folder / "images").glob("*.jpg"))
        made = truth.folders(found, data / folder / "images", {"lesion": data / folder / "masks"})
        assert len(made.draw) == count
        image = images.decode(found[0].read_bytes()).image
        inside = made.draw[found[0]](*image.shape[:2]).inside
        assert 0.01 < inside.mean() < 0.99
        mask = cv2.imread(str(data / folder / "masks" / f"{found[0].stem}.png"), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(inside[:, :, 0], mask > 127)


def test_masks_called_after_their_class_share_a_folder(pictures, tmp_path):
    """lesion.png beside lesion.net.png and lesion_dots.png."""
    folder = tmp_path / "masks"
    folder.mkdir()
    name = pictures[0].stem
    for at, ending in enumerate(("", ".net", "_dots")):
        mask = np.zeros(SHAPE, np.uint8)
        mask[at * 5 : at * 5 + 5] = 255
        (folder / f"{name}{ending}.png").write_bytes(images.encode(mask, "png"))
    made = truth.folders(pictures, root(pictures), {"net": folder, "dots": folder})
    mask = made.draw[pictures[0]](*SHAPE)
    assert [np.flatnonzero(mask.inside[:, 0, at]).tolist() for at in range(2)] == [[*range(5, 10)], [*range(10, 15)]]
    whole = truth.folders(pictures, root(pictures), {"lesion": folder}).draw[pictures[0]](*SHAPE)
    assert np.flatnonzero(whole.inside[:, 0, 0]).tolist() == [*range(5)]
