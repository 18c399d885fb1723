"""What a detector's raw output says: boxes, scores, classes; which of them are one object, which is the main one.

All boxes here are x0, y0, x1, y1. A decoder gives them in the pixels that the network saw, a Detections an image, the
best first; `models/preprocess.py` takes them back to the image's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

STRIDES = (8, 16, 32)
"""Pixels between the points of YOLOX's three grids."""
GREATEST = 10.0
"""YOLOX gives the logarithm of a side in strides: more than this is garbage, and exp() would leave float32's range."""
FAR = 1e6
"""No box reaches farther, in pixels: what a network gone wrong gives must not overflow on its way to be clipped."""
SAME = 0.8
"""IoU above which two boxes are one object under two names. Where a class is new to a detector it often wavers: of 186
boxes of YOLOX-nano on 100 photos of raccoons, 30 lay upon a better one of another class (25 with IoU above 0.9)."""


@dataclass(frozen=True)
class Detections:
    """What was found in one image; checked when made."""

    boxes: np.ndarray
    """(k, 4) float32: x0, y0, x1, y1."""
    scores: np.ndarray
    """(k,) float32."""
    classes: np.ndarray
    """(k,) int64: places in the labels."""

    def __post_init__(self) -> None:
        k = len(self.boxes)
        if self.boxes.shape != (k, 4) or self.scores.shape != (k,) or self.classes.shape != (k,):
            raise ValueError(f"boxes {self.boxes.shape}, scores {self.scores.shape}, classes {self.classes.shape}")

    def __len__(self) -> int:
        return len(self.boxes)

    def at(self, which: np.ndarray) -> Detections:
        """Those of a mask, or of places, in that order."""
        return Detections(self.boxes[which], self.scores[which], self.classes[which])


@dataclass(frozen=True)
class How:
    """What a decoder needs to know beside the tensors."""

    size: tuple[int, int]
    """(height, width) of the network's input, in pixels."""
    labels: int = 0
    """How many classes the card names; 0: it names none."""
    threshold: float = 0.25
    """The least score that counts."""
    overlap: float = 0.45
    """IoU above which a box of the same class falls to a better one (for decoders that suppress)."""


Decoder = Callable[[Sequence[np.ndarray], How], list[Detections]]


# ---------------------------------------------------------------- decoders


def yolov10(tensors: Sequence[np.ndarray], how: How) -> list[Detections]:
    """YOLOv10's end-to-end output, (n, k, 6) float32: x0, y0, x1, y1, score, class. Nothing is left to suppress.

    Wang et al. 2024, "YOLOv10: Real-Time End-to-End Object Detection", 3.1: one-to-one assignment.
    Raises ValueError for tensors of another shape.
    """
    (rows,) = tensors
    if rows.ndim != 3 or rows.shape[2] != 6:
        raise ValueError(f"an output of the shape {rows.shape}; yolov10 gives (n, k, 6)")
    return [_best(each[:, :4], each[:, 4], each[:, 5], how.threshold) for each in rows]


def yolov8(tensors: Sequence[np.ndarray], how: How) -> list[Detections]:
    """The output of YOLOv8 and YOLO11, (n, 4 + classes, anchors) float32: cx, cy, w, h in pixels, a score a class.

    An anchor has its best class alone; boxes of one class are suppressed. Raises ValueError for tensors of another
    shape.
    """
    (maps,) = tensors
    if maps.ndim != 3 or maps.shape[1] < 5 or (how.labels and maps.shape[1] != 4 + how.labels):
        wanted = 4 + how.labels if how.labels else "4 + classes"
        raise ValueError(f"an output of the shape {maps.shape}; yolov8 gives (n, {wanted}, anchors)")
    scores, classes = maps[:, 4:].max(1), maps[:, 4:].argmax(1)
    found = []
    for each, score, kind in zip(maps, scores, classes, strict=True):
        at = np.flatnonzero(score >= how.threshold)
        boxes = _corners(each[:4, at].T)
        found.append(suppress(_best(boxes, score[at], kind[at], how.threshold), how.overlap))
    return found


def yolox(tensors: Sequence[np.ndarray], how: How) -> list[Detections]:
    """YOLOX's output, (n, anchors, 5 + classes) float32, on grids of stride 8, 16 and 32, one after the other.

    Of each row: centre = (xy + grid point) * stride, sides = exp(wh) * stride, score = objectness * the best class's.
    Boxes of one class are suppressed. Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021", 2.1.
    Raises ValueError for tensors of another shape.
    """
    (rows,) = tensors
    grid, stride = _grids(how.size)
    if rows.ndim != 3 or rows.shape[1] != len(grid) or rows.shape[2] < 6:
        raise ValueError(f"an output of the shape {rows.shape}; yolox gives (n, {len(grid)}, 5 + classes)")
    if how.labels and rows.shape[2] != 5 + how.labels:
        raise ValueError(f"an output of the shape {rows.shape}; with {how.labels} labels the last is {5 + how.labels}")
    chances = rows[:, :, 4:].clip(0, 1)
    scores, classes = chances[:, :, 0] * chances[:, :, 1:].max(2), chances[:, :, 1:].argmax(2)
    found = []
    for each, score, kind in zip(rows, scores, classes, strict=True):
        at = np.flatnonzero(score >= how.threshold)
        centre = (each[at, :2].clip(-FAR, FAR) + grid[at]) * stride[at]
        sides = np.exp(np.minimum(each[at, 2:4], GREATEST)) * stride[at]
        boxes = _corners(np.concatenate([centre, sides], axis=1))
        found.append(suppress(_best(boxes, score[at], kind[at], how.threshold), how.overlap))
    return found


def detr(tensors: Sequence[np.ndarray], how: How) -> list[Detections]:
    """DETR's and RT-DETR's output: logits (n, q, c) and boxes (n, q, 4), cx, cy, w, h as shares of the input's sides.

    The count of classes tells the two apart. c = labels: each class has its own sigmoid (RT-DETR; Zhao et al. 2023,
    "DETRs Beat YOLOs on Real-time Object Detection"). c = labels + 1: softmax, the last class being "no object" (DETR;
    Carion et al. 2020, "End-to-End Object Detection with Transformers", 3). A query has its best class alone, and
    nothing is suppressed. Raises ValueError for any other count, and for tensors of another shape.
    """
    logits, boxes = tensors
    if logits.ndim != 3 or boxes.shape != (*logits.shape[:2], 4):
        raise ValueError(f"outputs of the shapes {logits.shape} and {boxes.shape}; detr gives (n, q, c) and (n, q, 4)")
    count = logits.shape[2]
    if not how.labels or count - how.labels not in (0, 1):
        raise ValueError(f"{count} classes and {how.labels} labels; detr gives as many, or one more for 'no object'")
    if count == how.labels:
        chances = 0.5 + 0.5 * np.tanh(logits / 2)  # the sigmoid, and no overflow
    else:
        raised = np.exp(logits - logits.max(2, keepdims=True))
        chances = (raised / raised.sum(2, keepdims=True))[:, :, :-1]
    height, width = how.size
    corners = _corners(boxes.reshape(-1, 4)).reshape(boxes.shape) * np.array([width, height, width, height], np.float32)
    return [
        _best(box, chance.max(1), chance.argmax(1), how.threshold) for box, chance in zip(corners, chances, strict=True)
    ]


DECODERS: dict[str, Decoder] = {"yolov10": yolov10, "yolov8": yolov8, "yolox": yolox, "detr": detr}
"""By the form that a card gives `detections`."""

SUPPRESSING = ("yolov8", "yolox")
"""The decoders that read `How.overlap`."""


def _best(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> Detections:
    """Those of the score and more, the best first; what is no score, no class and no box with an area is left out."""
    good = (scores >= threshold) & np.isfinite(scores) & (classes >= 0) & (classes < 2**31)
    good &= np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    at = np.flatnonzero(good)
    at = at[np.argsort(-scores[at], kind="stable")]
    return Detections(boxes[at].astype(np.float32), scores[at].astype(np.float32), classes[at].astype(np.int64))


def _corners(boxes: np.ndarray) -> np.ndarray:
    """(k, 4) cx, cy, w, h to x0, y0, x1, y1."""
    boxes = boxes.clip(-FAR, FAR)
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


@lru_cache(maxsize=8)
def _grids(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """YOLOX's grid points (anchors, 2) x, y, and their strides (anchors, 1), float32."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        points.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)


# ---------------------------------------------------------------- one object, one box


def suppress(found: Detections, overlap: float) -> Detections:
    """Greedy non-maximum suppression within each class: of boxes whose IoU is above `overlap` the better scored stays.

    `found` and the result: the best first. OpenCV's loop: on 20 to 400 boxes 14 to 40 times as fast as one in numpy.
    """
    kinds = [np.flatnonzero(found.classes == kind) for kind in np.unique(found.classes)]
    kept = [at[_greedy(found.at(at), overlap)] for at in kinds]
    return found.at(np.sort(np.concatenate(kept))) if kept else found


def distinct(found: Detections) -> Detections:
    """One box an object: of boxes of any class that are the SAME place, the better scored stays."""
    return found.at(np.sort(_greedy(found, SAME))) if len(found) else found


def _greedy(found: Detections, overlap: float) -> np.ndarray:
    """Places of the boxes that stay, whatever their class. `found` is not empty."""
    import cv2

    boxes: Any = found.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    # By rank, not by score: what is equal stays in order, and no score is below OpenCV's own threshold.
    ranks: Any = np.arange(len(boxes), 0, -1, dtype=np.float32)
    return np.asarray(cv2.dnn.NMSBoxes(boxes, ranks, 0.0, overlap), np.int64).reshape(-1)


# ---------------------------------------------------------------- the main object


def main(found: Detections, size: tuple[int, int]) -> int:
    """Which box is the photo's subject: the one with the greatest

        m = score · sqrt(area) · (1 - distance)

    area: the box's share of the image's; its root, so that it counts as a length does. distance: from the box's centre
    to the image's, each axis as a share of its side, 0 in the middle and 1 in a corner. `size`: (height, width) of the
    image, in the pixels of the boxes. Of equals the first. Raises ValueError where nothing was found.

    No factor was fitted. On 100 photos of raccoons (YOLOX-nano, scores from 0.25, boxes as they are) mean IoU with the
    truth is 0.690; by score alone 0.661, score · sqrt(area) 0.676, score · area 0.690, score · (1 - distance) 0.673,
    area alone 0.686. From scores of 0.05, where more boxes compete, 0.708 against 0.661, 0.682, 0.702, 0.679, 0.662.
    """
    height, width = size
    boxes = found.boxes.astype(np.float64) / [width, height, width, height]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5
    distance = np.sqrt(2 * (offset**2).sum(1))
    return int(np.argmax(found.scores * np.sqrt(area) * (1 - distance)))
