"""crop: what is cut out is what was found, in the original's pixels, at the original's depth; wrong settings are one
message. The detector of these tests finds what is bright, to the pixel."""

from __future__ import annotations

import importlib.util
import json

import drawn
import numpy as np
import pytest
from detectors import LABELS, detector
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.images import decode, encode
from imagier.models.model import Card, Input, Output, to_write, write_model
from imagier.models.store import find
from imagier.stages.crop import BATCH, make
from imagier.types import ModelError, SettingError
from imagier.workflows.run import run

ENGINES = ("openvino", "onnxruntime")
CHANNEL = {"red": 0, "green": 1, "blue": 2}


def black(width, height, depth=np.uint8):
    return np.zeros((height, width, 3), depth)


def lit(image, name, box, value=255):
    """The image with a rectangle of one colour."""
    x0, y0, x1, y1 = box
    image = image.copy()
    image[y0:y1, x0:x1, [CHANNEL[name]] if name in CHANNEL else [0, 1, 2]] = value
    return image


def columns(*images, size=None, boxes=None, white=None):
    """As a pass hands them over; `size`: the (width, height) of the originals, where it is not the images'."""
    sizes = [(image.shape[1], image.shape[0]) if size is None else size for image in images]
    tops = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
    return {
        "image": list(images),
        "black": [0.0] * len(images),
        "white": [tops[str(image.dtype)] if white is None else white for image in images],
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "box": [None] * len(images) if boxes is None else boxes,
    }


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """The path of the detector's Model folder."""
    return str(detector(tmp_path_factory.mktemp("models") / "bright").folder)


@pytest.fixture(scope="module")
def apply_of(bright):
    """`crop` with settings, loaded once for each that are used."""
    made = {}

    def get(**given):
        key = json.dumps(given, sort_keys=True)
        if key not in made:
            made[key] = make(**({"detector": bright, "margin": 0.0} | given)).load()
        return made[key]

    return get


# ---------------------------------------------------------------- what is cut out


@pytest.mark.parametrize("engine", ENGINES)
def test_the_object_is_cut_out_to_the_pixel_with_its_name_and_score(bright, engine):
    if not importlib.util.find_spec(engine):  # imported by itself, openvino would tell of it
        pytest.skip(f"{engine} is not installed")
    image = lit(black(64, 64), "green", (10, 20, 41, 44), 204)
    out = make(detector=bright, margin=0.0, engine=engine).load()(columns(black(64, 64), image))
    assert out["parent"] == [0, 1]
    assert out["box"] == [[0, 0, 64, 64], [10, 20, 41, 44]]
    assert np.array_equal(out["image"][1], image[20:44, 10:41])
    assert out["detection"] == [None, "green"]
    assert out["detection_score"] == [None, pytest.approx(0.8)]


@pytest.mark.parametrize("form", ["yolov10", "yolov8", "detr"])
@pytest.mark.parametrize("fit", [{"fit": "pad"}, {"fit": "pad", "pad_at": "centre"}, {"fit": "squash"}])
def test_every_form_and_fit_finds_the_same_box(tmp_path, form, fit):
    model = detector(tmp_path / "m", size=(64, 96), form=form, **fit)
    image = lit(black(192, 160), "blue", (20, 40, 120, 100))
    out = make(detector=str(model.folder), margin=0.0).load()(columns(image))
    np.testing.assert_allclose(out["box"], [[20, 40, 120, 100]], atol=2)  # a pixel of the network's is 2 to 2.5
    assert out["detection"] == ["blue"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_box_is_the_drawn_one_whatever_the_images_size(apply_of, data):
    width, height = data.draw(st.integers(20, 300)), data.draw(st.integers(20, 300))
    scale = max(width, height) / 64  # original pixels in one of the network's
    least = int(np.ceil(4 * max(scale, 1)))
    if min(width, height) <= least:
        return
    x0, y0 = data.draw(st.integers(0, width - least)), data.draw(st.integers(0, height - least))
    x1, y1 = data.draw(st.integers(x0 + least, width)), data.draw(st.integers(y0 + least, height))
    image = lit(black(width, height), "red", (x0, y0, x1, y1))
    out = apply_of()(columns(image))
    (box,) = out["box"]
    np.testing.assert_allclose(box, [x0, y0, x1, y1], atol=scale + 1)
    bx0, by0, bx1, by1 = map(int, box)
    assert 0 <= bx0 < bx1 <= width
    assert 0 <= by0 < by1 <= height
    assert np.array_equal(out["image"][0], image[by0:by1, bx0:bx1])


@settings(max_examples=40, deadline=None)
@given(
    corner=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    sides=st.tuples(st.integers(4, 64), st.integers(4, 64)),
    margins=st.lists(st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]), min_size=2, max_size=2).map(sorted),
)
def test_a_wider_margin_holds_the_narrower_and_ends_at_the_edge(apply_of, corner, sides, margins):
    (x0, y0), (w, h) = corner, sides
    x1, y1 = min(64, x0 + w), min(64, y0 + h)
    image = lit(black(64, 64), "red", (x0, y0, x1, y1))
    (narrow,), (wide,) = (apply_of(margin=margin)(columns(image))["box"] for margin in margins)
    assert 0 <= wide[0] <= narrow[0] <= x0
    assert 0 <= wide[1] <= narrow[1] <= y0
    assert 64 >= wide[2] >= narrow[2] >= x1
    assert 64 >= wide[3] >= narrow[3] >= y1
    across = margins[1] * (x1 - x0)
    assert wide[0] == max(0, round(x0 - across))
    assert wide[2] == min(64, round(x1 + across))


def test_main_is_one_and_each_is_all_of_them_the_best_first(apply_of):
    image = lit(
        lit(lit(black(64, 64), "red", (4, 4, 12, 12)), "green", (16, 16, 48, 48), 250), "blue", (50, 50, 60, 60)
    )
    image[50:60, 50:60, 2] = 150
    main, each = apply_of()(columns(image)), apply_of(keep="each")(columns(image))
    assert main["detection"] == ["green"]
    assert each["detection"] == ["red", "green", "blue"]
    assert each["box"] == [[4, 4, 12, 12], [16, 16, 48, 48], [50, 50, 60, 60]]
    assert each["parent"] == [0, 0, 0]
    assert each["detection_score"] == sorted(each["detection_score"], reverse=True)


def test_one_object_under_three_names_is_cut_out_once(apply_of):
    grey = lit(black(64, 64), "all", (8, 8, 40, 30))
    grey[8:30, 8:40, 1] = 200
    assert apply_of(keep="each")(columns(grey))["detection"] == ["red"]
    assert apply_of(keep="each", classes=["green"])(columns(grey))["detection"] == ["green"]


@settings(max_examples=30, deadline=None)
@given(which=st.lists(st.sets(st.sampled_from(LABELS)), min_size=1, max_size=2 * BATCH + 3))
def test_counts_are_those_of_the_objects_over_any_number_of_images(apply_of, which):
    places = {"red": (2, 2, 20, 20), "green": (24, 24, 40, 40), "blue": (44, 4, 60, 60)}
    images = []
    for names in which:
        image = black(64, 64)
        for name in names:
            image = lit(image, name, places[name])
        images.append(image)
    each = apply_of(keep="each", fallback="none")(columns(*images))
    assert [each["parent"].count(at) for at in range(len(which))] == [len(names) for names in which]
    assert {(at, name) for at, name in zip(each["parent"], each["detection"], strict=True)} == {
        (at, name) for at, names in enumerate(which) for name in names
    }
    main = apply_of(fallback="none")(columns(*images))
    assert main["parent"] == [at for at, names in enumerate(which) if names]
    whole = apply_of()(columns(*images))
    assert whole["parent"] == list(range(len(which)))
    assert [name is None for name in whole["detection"]] == [not names for names in which]


def test_only_the_named_classes_count(apply_of):
    image = lit(lit(black(64, 64), "red", (4, 4, 60, 40)), "blue", (10, 44, 20, 54))
    assert apply_of()(columns(image))["detection"] == ["red"]
    assert apply_of(classes=["blue", "green"])(columns(image))["box"] == [[10, 44, 20, 54]]
    assert apply_of(classes=["green"], fallback="none")(columns(image))["parent"] == []


def test_what_scores_below_the_threshold_or_is_too_small_is_not_there(apply_of):
    faint, speck = lit(black(64, 64), "red", (4, 4, 30, 30), 140), lit(black(64, 64), "red", (4, 4, 5, 40))
    assert apply_of(fallback="none")(columns(faint, speck))["parent"] == [0]
    assert apply_of(fallback="none", threshold=0.6)(columns(faint, speck))["parent"] == []


# ---------------------------------------------------------------- depth, scale, regions of regions


def test_a_deep_image_is_found_by_its_levels_and_cut_out_at_its_depth(apply_of):
    deep = lit(black(64, 64, np.uint16), "red", (10, 20, 40, 44), 900)
    unit = lit(black(64, 64, np.float32), "red", (10, 20, 40, 44), 0.01)
    for image, white in ((deep, 1000.0), (unit, 0.01)):
        out = apply_of()(columns(image, white=white))
        assert out["box"] == [[10, 20, 40, 44]]
        assert out["image"][0].dtype == image.dtype
        assert np.array_equal(out["image"][0], image[20:44, 10:40])


def test_a_grey_image_stays_grey(apply_of):
    grey = lit(black(64, 64), "all", (10, 20, 40, 44))[..., 0]
    out = apply_of()(columns(grey))
    assert np.array_equal(out["image"][0], grey[20:44, 10:40])


@pytest.mark.parametrize("times", [3, 0.5])
def test_boxes_are_the_originals_where_the_image_in_hand_is_of_another_size(apply_of, times):
    box = (12, 24, 48, 60)
    in_hand = lit(black(round(96 * times), round(72 * times)), "red", [round(edge * times) for edge in box])
    out = apply_of()(columns(in_hand, size=(96, 72)))
    np.testing.assert_allclose(out["box"], [box], atol=1.5)
    shape = [edge / times for edge in out["image"][0].shape[1::-1]]
    np.testing.assert_allclose(shape, [out["box"][0][2] - out["box"][0][0], out["box"][0][3] - out["box"][0][1]])


def test_a_speck_of_an_enlarged_image_is_not_cut_out(apply_of):
    speck = lit(black(64, 64), "red", (10, 10, 14, 40))
    assert apply_of(fallback="none")(columns(speck))["parent"] == [0]
    assert apply_of(fallback="none")(columns(speck, size=(16, 16)))["parent"] == []  # there it is one pixel wide


def test_a_region_of_a_region_has_its_box_in_the_original(apply_of):
    region = lit(black(64, 32), "red", (10, 4, 30, 20))
    at = [[100.0, 50.0, 164.0, 82.0]]
    assert apply_of()(columns(region, size=(64, 32), boxes=at))["box"] == [[110, 54, 130, 70]]
    empty = apply_of()(columns(black(64, 32), size=(64, 32), boxes=at))
    assert empty["box"] == at
    doubled = apply_of()(columns(region, size=(32, 16), boxes=[[100.0, 50.0, 132.0, 66.0]]))
    assert doubled["box"] == [[105, 52, 115, 60]]


def test_through_a_run_regions_are_items_whose_pixels_are_those_of_the_file(tmp_path, bright):
    image = lit(lit(black(128, 128), "red", (16, 16, 80, 80)), "blue", (30, 40, 60, 64))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encode(image, "png"))
    deep = lit(black(64, 64, np.uint16), "red", (10, 20, 40, 44), 60000)
    (tmp_path / "in" / "b.png").write_bytes(encode(deep, "png"))
    (tmp_path / "in" / "nothing.png").write_bytes(encode(drawn.plain((9, 9, 9)), "png"))
    steps = [
        {"crop": {"detector": bright, "margin": 0.0, "classes": ["red"], "fallback": "none"}},
        {"crop": {"detector": bright, "margin": 0.0, "classes": ["blue"], "fallback": "none"}, "as": "inner"},
    ]
    collection = run(tmp_path / "in", into=tmp_path / "out", pipeline=steps, report=False)
    rows = collection.read(
        ["id", "parent", "box", "width", "height", "depth", "detection", "inner_detection"]
    ).to_pylist()
    assert len(rows) == 3 + 2 + 1
    (red,) = [row for row in rows if row["detection"] == "red" and row["width"] == 64]
    assert red["box"] == [16, 16, 80, 80]
    assert np.array_equal(collection.pixels(red["id"]), image[16:80, 16:80])
    (blue,) = [row for row in rows if row["inner_detection"] == "blue"]
    assert (blue["box"], blue["parent"]) == ([30, 40, 60, 64], red["id"])
    assert np.array_equal(collection.pixels(blue["id"]), image[40:64, 30:60])
    (dark,) = [row for row in rows if row["depth"] == "uint16" and row["parent"]]
    assert collection.pixels(dark["id"]).dtype == np.uint16
    assert np.array_equal(collection.pixels(dark["id"]), decode(encode(deep, "png")).image[20:44, 10:40])


# ---------------------------------------------------------------- without a detector


def disc(width, height, centre, radius):
    """A light disc on a dark ground."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(x - centre[0], y - centre[1]) < radius
    return lit(black(width, height) + np.uint8(30), "all", (0, 0, width, height), np.where(inside, 230, 30)[..., None])


@pytest.fixture(scope="module")
def builtin():
    """`crop` as it is when nothing is set, but for the margin."""
    return make(margin=0.0).load()


@pytest.fixture
def no_models(tmp_path, monkeypatch):
    """A machine on which no model was ever installed."""
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "no_models"))


def test_with_nothing_installed_and_nothing_set_the_main_object_becomes_an_item(tmp_path, no_models):
    (tmp_path / "in").mkdir()
    image = disc(300, 200, (150, 100), 70)
    (tmp_path / "in" / "a.png").write_bytes(encode(image, "png"))
    (tmp_path / "in" / "plain.png").write_bytes(encode(drawn.plain((9, 90, 9)), "png"))
    collection = run(tmp_path / "in", into=tmp_path / "out", pipeline=[{"crop": {"fallback": "none"}}], report=False)
    rows = collection.read(["id", "parent", "box", "detection", "detection_score"]).to_pylist()
    assert len(rows) == 2 + 1
    (region,) = [row for row in rows if row["parent"]]
    assert region["detection"] == "main object"
    assert 0 < region["detection_score"] <= 1
    assert iou(region["box"], [80, 30, 220, 170]) > 0.5
    x0, y0, x1, y1 = map(int, region["box"])
    assert np.array_equal(collection.pixels(region["id"]), image[y0:y1, x0:x1])
    assert [row["detection"] for row in rows if not row["parent"]] == [None, None]


def test_the_step_is_keyed_by_the_encoder(no_models):
    model = find("builtin", "embed")
    step = make()
    assert model.card.files["network"].sha256 in step.weights
    assert step.weights == model.keys
    assert step.precision in ("float32", "bfloat16")
    assert make(precision="float32").precision == "float32"


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (30, 160, 60), (0, 255, 255)])
def test_in_a_plain_image_nothing_stands_out(builtin, colour):
    out = builtin(columns(np.full((90, 120, 3), colour, np.uint8)))
    assert (out["box"], out["detection"], out["detection_score"]) == ([[0, 0, 120, 90]], [None], [None])
    assert make(fallback="none").load()(columns(np.full((90, 120, 3), colour, np.uint8)))["parent"] == []


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (160, 160), (600, 150)])
def test_of_an_image_of_any_shape_the_whole_is_seen(builtin, width, height):
    radius = 0.3 * min(width, height)
    boxes = [
        builtin(columns(disc(width, height, (at * width, height / 2), radius)))["box"][0] for at in (0.25, 0.5, 0.75)
    ]
    middles = [(x0 + x1) / 2 / width for x0, _, x1, _ in boxes]
    np.testing.assert_allclose(middles, [0.25, 0.5, 0.75], atol=0.12)
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def test_images_do_not_change_what_is_found_in_one_another(builtin):
    images = [disc(300, 200, (60 + 9 * at, 100), 50) for at in range(BATCH + 2)]
    together = builtin(columns(*images))
    assert together["parent"] == list(range(len(images)))
    for at in (0, 5, BATCH + 1):
        np.testing.assert_allclose(builtin(columns(images[at]))["box"][0], together["box"][at], atol=1)


def test_a_deep_image_and_a_region_are_cut_out_as_with_a_detector(builtin):
    image = disc(300, 200, (150, 100), 60)
    (box,) = builtin(columns(image))["box"]
    deep = builtin(columns(image.astype(np.uint16) * 4, white=1020.0))
    assert (deep["box"], deep["image"][0].dtype) == ([box], np.uint16)
    inner = builtin(columns(image, size=(150, 100), boxes=[[1000.0, 500.0, 1150.0, 600.0]]))
    np.testing.assert_allclose(inner["box"], [np.add(np.divide(box, 2), [1000, 500, 1000, 500])])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("classes", ["red"]), ("threshold", 0.25), ("overlap", 0.45), ("keep", "each")],
)
def test_what_only_a_detector_takes_is_refused_without_one(setting, value):
    with pytest.raises(SettingError, match=rf"crop\.{setting} cannot .* leave it out, or name a detector .*yolox-nano"):
        make(**{setting: value})
    with pytest.raises(SettingError, match=rf"crop\.{setting} cannot"):
        make(detector="builtin", **{setting: value})


# ---------------------------------------------------------------- settings and models that do not fit


def test_a_model_for_something_else_is_refused(tmp_path):
    encoder = detector(
        tmp_path / "m", task="embed", outputs={"embedding": Output(tensors=("found",), form="vector", width=3)}
    )
    with pytest.raises(SettingError, match="not to detect"):
        make(detector=str(encoder.folder))


def test_a_model_that_is_not_here_is_refused(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        make(detector=str(tmp_path / "nowhere"))


def test_an_unknown_class_is_refused_with_the_nearest(bright):
    with pytest.raises(SettingError, match=r"unknown class 'gren'\. Did you mean green\?"):
        make(detector=bright, classes=["red", "gren"])
    with pytest.raises(SettingError, match="cannot be empty"):
        make(detector=bright, classes=[])


def test_a_model_without_labels_numbers_its_classes_and_filters_none(tmp_path):
    model = str(detector(tmp_path / "m", labels=()).folder)
    with pytest.raises(SettingError, match="names no labels: import it with --labels"):
        make(detector=model, classes=["red"])
    out = make(detector=model).load()(columns(lit(black(64, 64), "blue", (4, 4, 30, 30))))
    assert out["detection"] == ["class 2"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("margin", -0.1), ("margin", 1.5), ("threshold", 0.0), ("threshold", 1.1), ("overlap", 0.0), ("overlap", 2.0)],
)
def test_settings_out_of_range_are_refused(bright, setting, value):
    with pytest.raises(SettingError, match=rf"crop\.{setting} cannot be"):
        make(detector=bright, **{setting: value})


def test_overlap_counts_where_boxes_are_thinned_out_and_is_refused_elsewhere(bright, tmp_path):
    with pytest.raises(SettingError, match=r"crop\.overlap does not go with bright"):
        make(detector=bright, overlap=0.5)
    thinned = str(detector(tmp_path / "m", form="yolov8").folder)
    assert make(detector=thinned, overlap=0.5).load()(columns(lit(black(64, 64), "red", (4, 4, 9, 9))))["parent"] == [0]


def test_a_card_that_does_not_fit_is_said_before_any_image_is_read(tmp_path):
    with pytest.raises(ModelError, match="names no labels, and only their number"):
        make(detector=str(detector(tmp_path / "a", form="detr", labels=()).folder))
    fewer = detector(tmp_path / "b", form="yolov8", labels=("red", "green"))
    with pytest.raises(ModelError, match=r"not what its card says: .*yolov8 gives \(n, 6, anchors\)"):
        make(detector=str(fewer.folder)).load()
    outputs = {"detections": Output(tensors=("lost",), form="yolov10")}
    with pytest.raises(ModelError, match="it has no output 'lost'"):
        make(detector=str(detector(tmp_path / "c", outputs=outputs).folder)).load()
    outputs = {"detections": Output(tensors=("found",), form="yolox")}
    with pytest.raises(ModelError, match="yolox gives"):
        make(detector=str(detector(tmp_path / "d", outputs=outputs).folder)).load()


def test_the_key_holds_the_network_and_how_it_is_used(bright, tmp_path):
    other = detector(tmp_path / "m", fit="squash")
    assert make(detector=bright).weights != make(detector=str(other.folder)).weights
    assert len(make(detector=bright).weights) == 2


# ---------------------------------------------------------------- the bar


def iou(one, other):
    one, other = np.asarray(one), np.asarray(other)
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = np.prod((high - low).clip(0))
    return both / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - both)


@pytest.mark.shared
def test_yolox_nano_finds_the_main_object_of_a_photo(shared, tmp_path):
    """The truth is the largest box of a photo (8 of 100 have several). The whole image's mean IoU with it is 0.515."""
    card = Card(
        name="yolox-nano",
        task="detect",
        architecture="onnx",
        input=Input(size=(416, 416), colour="bgr", std=(1 / 255,) * 3, fit="pad", pad_value=114, pad_at="corner"),
        outputs={"detections": Output(tensors=("output",), form="yolox")},
        files=to_write(network="yolox_nano.onnx"),
    )
    write_model(tmp_path / "yolox-nano", card, {"network": shared / "weights" / "yolox_nano.onnx"})
    overlaps, whole = raccoons(shared, make(detector=str(tmp_path / "yolox-nano")).load(), [0, 0, 1, 1])
    assert whole == pytest.approx(0.515, abs=0.001)
    assert overlaps >= 0.70  # the bar is 0.67


def raccoons(shared, apply, same):
    """Mean IoU with the largest true box of each of 100 photos: of what `apply` cuts out; of a box `same` for all."""
    folder = shared / "data" / "raccoon"
    truth = json.loads((folder / "boxes.json").read_text())
    found = []
    for name, boxes in truth.items():
        image = decode((folder / name).read_bytes()).image
        height, width = image.shape[:2]
        largest = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        (box,) = apply(columns(image))["box"]
        found.append((iou(np.divide(box, [width, height] * 2), largest), iou(same, largest)))
    assert len(found) == 100
    return np.mean(found, axis=0)
