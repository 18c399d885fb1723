"""Detections: decoders give back what was put in, and what real networks' own post-processing gives; suppression is the
textbook's; the main object is the one that the rule says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.algorithms.detections import (
    DECODERS,
    SAME,
    STRIDES,
    SUPPRESSING,
    Detections,
    How,
    distinct,
    main,
    suppress,
)
from imagier.models.model import Input
from imagier.models.preprocess import place

SIZE = (64, 96)
HEADS = Path(__file__).parent / "data" / "yolov10_head.npz"


def found(boxes, scores=None, classes=None) -> Detections:
    """The best first, as decoders give them."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(boxes)) if scores is None else scores
    classes = np.zeros(len(boxes)) if classes is None else classes
    return Detections(boxes, np.array(scores, np.float32), np.array(classes, np.int64))


# ---------------------------------------------------------------- real networks


@pytest.mark.parametrize(("form", "overlap"), [("yolov10", 0.45), ("yolov8", 0.7)])
def test_real_heads_give_the_boxes_of_their_own_post_processing(form, overlap):
    """Outputs of YOLOv10n (end-to-end head) and YOLOv8n for four drawn images, and the boxes that their library gives.

    Made apart from the project with ultralytics 8.4.190 (AGPL; nothing of it is kept here), torch 2.15.0 and ONNX
    Runtime 1.31.1: both networks were trained from random weights on 240 drawn squares, discs and triangles at 160 px
    (40 and 25 epochs) and exported to ONNX. The outputs are ONNX Runtime's on the library's own input; the boxes are
    its own predictor's, in the pixels of the original images, with scores from 0.25 and IoU 0.7 for suppression.
    The letterbox is held to it as well: centred on a ground of 114, for images wide, high, odd and square.
    """
    with np.load(HEADS) as kept:
        output, shapes, offsets, boxes, scores, classes = (
            kept[f"{form}_{name}"] for name in ("output", "shapes", "offsets", "boxes", "scores", "classes")
        )
    side = 160
    spec = Input(size=(side, side), fit="pad", pad_value=114, pad_at="centre")
    every = DECODERS[form]([output], How((side, side), labels=3, threshold=0.25, overlap=overlap))
    assert len(boxes) >= 10
    assert len(every) == len(shapes) == 4
    for at, (each, (height, width)) in enumerate(zip(every, shapes, strict=True)):
        own = slice(*offsets[at : at + 2])
        _, placed = place(np.zeros((height, width, 3), np.uint8), spec)
        back = placed.back(each.boxes).clip(0, [width, height, width, height])
        np.testing.assert_allclose(back, boxes[own], atol=1e-3)
        np.testing.assert_allclose(each.scores, scores[own], atol=1e-6)
        assert np.array_equal(each.classes, classes[own])
    if form == "yolov8":
        assert (output[:, 4:].max(1) >= 0.25).sum() > 4 * len(boxes)  # suppression had something to do


# ---------------------------------------------------------------- what is put in comes out


def wanted_boxes(draw, count):
    """Boxes inside SIZE, and their scores and classes of three, the best first."""
    x = draw(st.lists(st.integers(0, 80), min_size=count, max_size=count))
    y = draw(st.lists(st.integers(0, 50), min_size=count, max_size=count))
    w = draw(st.lists(st.integers(2, 14), min_size=count, max_size=count))
    h = draw(st.lists(st.integers(2, 14), min_size=count, max_size=count))
    boxes = np.array([x, y, np.add(x, w), np.add(y, h)], np.float32).T.reshape(-1, 4)
    scores = sorted(draw(st.lists(st.integers(30, 98), min_size=count, max_size=count)), reverse=True)
    classes = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return boxes, np.array(scores, np.float32) / 100, np.array(classes, np.int64)


def centred(boxes):
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def as_yolov10(boxes, scores, classes):
    rows = np.concatenate([boxes, scores[:, None], classes[:, None]], axis=1)
    rest = np.zeros((3, 6))  # a network fills up with what scores near 0
    return [np.concatenate([rest, rows[::-1]])[None].astype(np.float32)]


def as_yolov8(boxes, scores, classes):
    maps = np.zeros((1, 7, 20 + len(boxes)), np.float32)
    maps[0, :4, 10 : 10 + len(boxes)] = centred(boxes).T
    maps[0, 4 + classes, 10 + np.arange(len(boxes))] = scores
    return [maps]


def as_yolox(boxes, scores, classes):
    """Each box at an anchor of its own, of any of the grids."""
    points = [(s, x, y) for s in STRIDES for y in range(SIZE[0] // s) for x in range(SIZE[1] // s)]
    rows = np.zeros((1, len(points), 8), np.float32)
    for n, (box, score, kind) in enumerate(zip(centred(boxes), scores, classes, strict=True)):
        at = (7 * n + 90 * (n % 2)) % len(points)
        stride, x, y = points[at]
        rows[0, at, :4] = [box[0] / stride - x, box[1] / stride - y, *np.log(box[2:] / stride)]
        rows[0, at, 4], rows[0, at, 5 + kind] = 0.99, score / np.float32(0.99)
    return [rows]


def as_rtdetr(boxes, scores, classes):
    logits = np.full((1, len(boxes) + 4, 3), -9, np.float32)
    logits[0, 2 + np.arange(len(boxes)), classes] = np.log(scores / (1 - scores))
    return [logits, as_queries(boxes)]


def as_detr(boxes, scores, classes):
    """A fourth class, "no object", takes the rest."""
    chances = np.full((1, len(boxes) + 4, 4), 0.005, np.float32)
    chances[:, :, 3] = 0.985
    rows = 2 + np.arange(len(boxes))
    chances[0, rows, :] = (1 - scores[:, None]) / 2 * [1e-3, 1e-3, 1e-3, 2 - 2e-3]
    chances[0, rows, classes] = scores
    return [np.log(chances) + 3, as_queries(boxes)]


def as_queries(boxes):
    queries = np.full((1, len(boxes) + 4, 4), 0.5, np.float32)
    queries[0, 2 : 2 + len(boxes)] = centred(boxes) / [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    return queries


ENCODERS = {
    "yolov10": ("yolov10", as_yolov10),
    "yolov8": ("yolov8", as_yolov8),
    "yolox": ("yolox", as_yolox),
    "rtdetr": ("detr", as_rtdetr),
    "detr": ("detr", as_detr),
}


def test_every_decoder_is_tried_here():
    assert {form for form, _ in ENCODERS.values()} == set(DECODERS)
    assert set(SUPPRESSING) < set(DECODERS)


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_decoder_gives_back_the_boxes_that_were_put_in(name, data):
    form, encode = ENCODERS[name]
    boxes, scores, classes = wanted_boxes(data.draw, data.draw(st.integers(0, 6)))
    (made,) = DECODERS[form](encode(boxes, scores, classes), How(SIZE, labels=3, threshold=0.25, overlap=1.0))
    assert len(made) == len(boxes)
    np.testing.assert_allclose(made.scores, scores, atol=2e-3)
    assert (np.diff(made.scores) <= 0).all()
    for which in set(scores.tolist()):  # of equals the order is the network's own
        ours, theirs = np.abs(made.scores - which) < 2e-3, scores == np.float32(which)
        rows, wanted = (
            np.column_stack(each) for each in ((made.boxes[ours], made.classes[ours]), (boxes[theirs], classes[theirs]))
        )
        order, expected = (np.lexsort(each.round().T) for each in (rows, wanted))
        np.testing.assert_allclose(rows[order], wanted[expected], atol=2e-3)
    assert (made.boxes.dtype, made.scores.dtype, made.classes.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_batch_is_its_images_one_by_one(name):
    form, encode = ENCODERS[name]
    some = [
        (np.float32([[4, 4, 20, 20], [30, 10, 60, 40]]), np.float32([0.8, 0.6]), np.array([1, 2])),
        (np.float32([[8, 4, 20, 30], [30, 10, 60, 44]]), np.float32([0.2, 0.1]), np.array([0, 2])),
    ]
    each = [encode(*one) for one in some]
    together = [np.concatenate(parts) for parts in zip(*each, strict=True)]
    first, second = DECODERS[form](together, How(SIZE, labels=3))
    assert (len(first), len(second)) == (2, 0)
    np.testing.assert_allclose(first.boxes, some[0][0], atol=1e-3)


@pytest.mark.parametrize("name", ["yolov8", "yolox"])
def test_only_boxes_of_one_class_fall_to_a_better_one(name):
    form, encode = ENCODERS[name]
    boxes = np.float32([[10, 10, 30, 30], [11, 10, 31, 30], [10, 11, 30, 31], [50, 40, 60, 50]])
    (made,) = DECODERS[form](encode(boxes, np.float32([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 1, 0])), How(SIZE, 3))
    np.testing.assert_allclose(made.boxes, boxes[[0, 2, 3]], atol=1e-3)


@pytest.mark.parametrize(
    ("form", "shapes", "labels"),
    [
        ("yolov10", [(1, 6, 300)], 0),
        ("yolov10", [(300, 6)], 0),
        ("yolov8", [(1, 100, 7)], 3),
        ("yolov8", [(1, 4, 100)], 0),
        ("yolox", [(1, 125, 8)], 3),
        ("yolox", [(1, 126, 9)], 3),
        ("yolox", [(1, 126, 5)], 0),
        ("detr", [(1, 10, 3), (1, 9, 4)], 3),
        ("detr", [(1, 10, 5), (1, 10, 4)], 3),
        ("detr", [(1, 10, 2), (1, 10, 4)], 3),
        ("detr", [(1, 10, 1), (1, 10, 4)], 0),
    ],
)
def test_tensors_of_another_shape_are_refused(form, shapes, labels):
    with pytest.raises(ValueError, match=r"gives|labels"):
        DECODERS[form]([np.zeros(shape, np.float32) for shape in shapes], How(SIZE, labels))


@pytest.mark.parametrize("form", DECODERS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_garbage_gives_no_box_that_is_none_and_no_warning(form, seed):
    random = np.random.default_rng(seed)
    shapes = {"yolov10": [(2, 30, 6)], "yolov8": [(2, 7, 30)], "yolox": [(2, 126, 8)], "detr": [(2, 30, 3), (2, 30, 4)]}
    tensors = [random.normal(0, 10, shape).astype(np.float32) for shape in shapes[form]]
    for tensor in tensors:
        odd = random.random(tensor.shape) < 0.2
        tensor[odd] = random.choice(np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 0]), odd.sum())
    with np.errstate(all="raise", under="ignore"):
        for made in DECODERS[form](tensors, How(SIZE, labels=3)):
            assert np.isfinite(made.boxes).all()
            assert (made.boxes[:, 2:] > made.boxes[:, :2]).all()
            assert (made.scores >= 0.25).all()


def test_a_score_at_the_threshold_counts():
    rows = np.float32([[[0, 0, 9, 9, 0.5, 1], [0, 0, 9, 9, 0.4999, 1]]])
    assert len(DECODERS["yolov10"]([rows], How(SIZE, threshold=0.5))[0]) == 1


def test_detections_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="scores"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(2, np.int64))


# ---------------------------------------------------------------- suppression


def iou(one, other) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def by_the_book(boxes, classes, overlap) -> list[int]:
    kept: list[int] = []
    for at, box in enumerate(boxes):
        if all(classes[at] != classes[other] or iou(box, boxes[other]) <= overlap for other in kept):
            kept.append(at)
    return kept


BOXES = st.lists(
    st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 25), st.integers(1, 25), st.integers(0, 2)),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(rows=BOXES, overlap=st.sampled_from([0.1234, 0.3123, 0.4512, 0.7011, 0.9501]), equal=st.booleans())
def test_suppression_is_that_of_the_book(rows, overlap, equal):
    boxes = [[float(x), float(y), float(x + w), float(y + h)] for x, y, w, h, _ in rows]
    classes = [row[4] for row in rows]
    given_ = found(boxes, np.full(len(rows), 0.5) if equal else None, classes)
    kept = by_the_book(boxes, classes, overlap)
    made = suppress(given_, overlap)
    assert np.array_equal(made.boxes, given_.boxes[kept])
    assert np.array_equal(made.scores, given_.scores[kept])
    assert np.array_equal(made.classes, given_.classes[kept])
    whole = distinct(given_)
    assert np.array_equal(whole.boxes, given_.boxes[by_the_book(boxes, [0] * len(rows), SAME + 1e-4)])


def test_all_stay_where_nothing_may_overlap_too_much():
    same = found([[0, 0, 9, 9]] * 3)
    assert len(suppress(same, 1.0)) == 3
    assert len(suppress(same, 0.99)) == 1


# ---------------------------------------------------------------- the main object

HEIGHT, WIDTH = 200, 300


def at(x, y, w, h):
    """A box by its centre and sides."""
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


@pytest.mark.parametrize(
    ("boxes", "scores", "best"),
    [
        ([at(150, 100, 50, 50), at(150, 100, 50, 50)], [0.6, 0.7], 1),
        ([at(150, 100, 40, 40), at(150, 100, 60, 60)], [0.6, 0.6], 1),
        ([at(60, 50, 50, 50), at(140, 100, 50, 50)], [0.6, 0.6], 1),
        ([at(150, 100, 20, 20), at(150, 100, 80, 80)], [0.8, 0.3], 1),  # four times as long outweighs the score
        ([at(150, 100, 20, 20), at(150, 100, 30, 30)], [0.8, 0.3], 0),
        ([at(20, 20, 40, 40), at(150, 100, 40, 40)], [0.9, 0.5], 1),  # in a corner against the middle
        ([at(150, 100, 50, 50), at(150, 100, 50, 50)], [0.6, 0.6], 0),
        ([at(20, 100, 40, 60), at(150, 20, 60, 40)], [0.6, 0.6], 1),  # 0.87 and 0.8 of the way to the edge
    ],
)
def test_the_main_object_by_score_area_and_centrality(boxes, scores, best):
    assert main(found(boxes, scores), (HEIGHT, WIDTH)) == best


@settings(max_examples=100, deadline=None)
@given(data=st.data(), times=st.sampled_from([0.5, 2.0, 4.0]))
def test_the_main_object_is_the_greatest_of_the_formula_at_any_scale(data, times):
    boxes, scores, _ = wanted_boxes(data.draw, data.draw(st.integers(1, 8)))
    values = []
    for (x0, y0, x1, y1), score in zip(boxes.tolist(), scores.tolist(), strict=True):
        area = (x1 - x0) * (y1 - y0) / (SIZE[0] * SIZE[1])
        across, down = (x0 + x1) / SIZE[1] - 1, (y0 + y1) / SIZE[0] - 1  # -1 to 1 from edge to edge
        values.append(score * area**0.5 * (1 - ((across**2 + down**2) / 2) ** 0.5))
    chosen = main(found(boxes, scores), SIZE)
    assert values[chosen] == pytest.approx(max(values))
    larger = main(found(boxes * times, scores), (int(SIZE[0] * times), int(SIZE[1] * times)))
    assert values[larger] == pytest.approx(max(values))


def test_nothing_found_has_no_main_object():
    with pytest.raises(ValueError, match="empty"):
        main(found([]), SIZE)
