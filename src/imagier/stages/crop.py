"""crop: the main object of each image, or every object that a detector finds, becomes an item of its own.

The whole image stays an item too; what is cut out has it as `parent`, and `box` says where it lay in the original file.
`detector="builtin"` is no detector: it ships with imagier, and finds one object by how it differs from the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from imagier.algorithms.detections import DECODERS, SUPPRESSING, Detections, How, distinct, main
from imagier.stages._pixels import eight_bit
from imagier.types import BUILTIN, Apply, Columns, Image, ModelError, NameOrFile, SettingError, Stage, Step, nearest

if TYPE_CHECKING:
    from imagier.models.engines import Choice
    from imagier.models.model import Model
    from imagier.models.preprocess import Placed

OBJECT = "main object"
"""What `builtin` calls what it finds."""
BATCH = 16
"""Images that go through the network at once: regions of one image may be many."""
LEAST = 2
"""Pixels, of the original and of the image in hand: a box with a shorter side is dropped."""
THRESHOLD, OVERLAP = 0.25, 0.45
"""Of `make`, where it is not told otherwise."""

Find = Callable[[Sequence[Image]], list[Detections]]
"""8-bit images to what was found in each, in its own pixels."""
Cut = Callable[[Columns, list[Detections]], Columns]
"""Rows and what was found in the image of each, to the rows that are cut out of them."""


def make(
    *,
    detector: NameOrFile = BUILTIN,
    keep: Literal["main", "each"] = "main",
    margin: float = 0.05,
    classes: list[str] | None = None,
    threshold: float | None = None,
    overlap: float | None = None,
    fallback: Literal["whole", "none"] = "whole",
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
) -> Step:
    """An item a region, with `detection`, the class's name, and `detection_score`; both null for a whole image.

    detector: "builtin", a model's name, or the path of a Model folder. "builtin" calls what it finds "main object"; its
        score says how sharply that stands out (algorithms/saliency.py), and compares with no detector's.
    margin: what is added on every side, as a share of the box's own.
    fallback: where nothing is found, the "whole" image is the region, or there is "none".
    engine: what runs the network. precision: "auto" is that of the model's file for a detector, so float32: where boxes
        come out of the network in pixels, bfloat16 moved their edges by 1.6 px of 640 in the median, and by up to 6.7.
        For "builtin" it is bfloat16 where the processor has it.

    For detectors alone:
    keep: "main": the image's subject, by score, area and centrality (algorithms/detections.py says how); all there is
        for "builtin". "each": all there are; a place that two classes claim is one region, named by the better score.
    classes: those that count, by the model's names for them; all unless given.
    threshold: the least score that counts; 0.25.
    overlap: for models whose boxes must be thinned out: IoU above which one falls to a better one of its class; 0.45.
    """
    _check(margin, threshold, overlap)
    if detector != BUILTIN:
        least = THRESHOLD if threshold is None else threshold
        return _detector(detector, keep, margin, classes, least, overlap, fallback, engine, precision)
    _refuse({"keep": None if keep == "main" else keep, "classes": classes, "threshold": threshold, "overlap": overlap})
    return _builtin(margin, fallback, engine, precision)


def _builtin(margin: float, fallback: str, engine: str, precision: str) -> Step:
    from imagier.models import engines
    from imagier.models.store import find

    model = find(BUILTIN, "embed")
    choice = engines.choose(model, engine, precision)

    def cut(columns: Columns, found: list[Detections]) -> Columns:
        return _regions(columns, found, (OBJECT,), "main", margin, None, fallback)

    return _step(model, choice, lambda: _standing_out(model, choice), cut)


def _detector(
    detector: str,
    keep: str,
    margin: float,
    classes: list[str] | None,
    threshold: float,
    overlap: float | None,
    fallback: str,
    engine: str,
    precision: str,
) -> Step:
    from imagier.models import engines
    from imagier.models.store import find

    model = find(detector, "detect", besides=(BUILTIN,))
    how = _how(model, threshold, overlap)
    wanted = _wanted(model, classes)
    if precision == "auto" and model.card.precision == "float32":
        precision = "float32"
    choice = engines.choose(model, engine, precision)

    def cut(columns: Columns, found: list[Detections]) -> Columns:
        return _regions(columns, found, model.card.labels, keep, margin, wanted, fallback)

    def load() -> Find:
        return _seeker(model, how, engines.network(model, engine=choice.engine, precision=choice.precision))

    return _step(model, choice, load, cut)


def _step(model: Model, choice: Choice, find: Callable[[], Find], cut: Cut) -> Step:
    def load() -> Apply:
        seek = find()

        def apply(columns: Columns) -> Columns:
            return cut(columns, [each for part in _parts(eight_bit(columns)) for each in seek(part)])

        return apply

    return Step(
        reads=("image", "black", "white", "width", "height", "box"),
        writes=pa.schema([pa.field("detection", pa.string()), pa.field("detection_score", pa.float32())]),
        load=load,
        passes=("image", "parent", "box"),
        weights=model.keys,
        precision=choice.precision,
        pixels=None,  # what is cut out goes on in full size
    )


# ---------------------------------------------------------------- settings


def _check(margin: float, threshold: float | None, overlap: float | None) -> None:
    if not 0 <= margin <= 1:
        raise SettingError(f"crop.margin cannot be {margin}: it takes 0 to 1, a share of the box's sides")
    for name, value in (("threshold", threshold), ("overlap", overlap)):
        if value is not None and not 0 < value <= 1:
            raise SettingError(f"crop.{name} cannot be {value}: it takes a number above 0, at most 1")


def _refuse(given: dict[str, Any]) -> None:
    """Raises SettingError for what only a detector takes."""
    for name, value in given.items():
        if value is not None:
            told = "crop.keep cannot be each" if name == "keep" else f"crop.{name} cannot be given"
            raise SettingError(
                f"{told} with the detector {BUILTIN!r}, which finds one object and knows no classes: leave it out, or "
                "name a detector ('imagier models list' shows them), such as --set crop.detector=yolox-nano"
            )


def _how(model: Model, threshold: float, overlap: float | None) -> How:
    spec, form = model.card.input, model.output("detections").form
    if spec.size is None or spec.fit == "none":
        raise ModelError(f"the model {model.card.name}: a detector's card needs input.size, and a fit other than none")
    if form == "detr" and not model.card.labels:
        raise ModelError(
            f"the model {model.card.name} names no labels, and only their number tells whether its last class is "
            "'no object': import it with --labels FILE"
        )
    if overlap is not None and form not in SUPPRESSING:
        raise SettingError(
            f"crop.overlap does not go with {model.card.name}: its {form} output is thinned out already. Leave it out."
        )
    return How(spec.size, len(model.card.labels), threshold, OVERLAP if overlap is None else overlap)


def _wanted(model: Model, classes: list[str] | None) -> np.ndarray | None:
    """Places of the classes that count, or None for all."""
    if classes is None:
        return None
    labels = model.card.labels
    if not labels:
        raise SettingError(f"crop.classes: the model {model.card.name} names no labels: import it with --labels FILE")
    if not classes:
        raise SettingError("crop.classes cannot be empty: name one class at least, or leave it out")
    for name in classes:
        if name not in labels:
            raise SettingError("crop.classes: " + nearest("class", name, labels))
    return np.flatnonzero(np.isin(labels, classes))


# ---------------------------------------------------------------- regions


def _regions(
    columns: Columns,
    found: list[Detections],
    labels: Sequence[str],
    keep: str,
    margin: float,
    wanted: np.ndarray | None,
    fallback: str,
) -> Columns:
    """What was found in each image, in its own pixels, to the rows that are cut out of it."""
    out: Columns = {name: [] for name in ("parent", "box", "image", "detection", "detection_score")}
    sizes = zip(columns["width"], columns["height"], columns["box"], strict=True)
    for at, (each, image, size) in enumerate(zip(found, columns["image"], sizes, strict=True)):
        frame = _frame(image, *size)
        each = _chosen(each, image, frame, wanted, keep)
        cuts = [_edges(box, margin, image) for box in each.boxes]
        names: list[str | None] = [labels[k] if k < len(labels) else f"class {k}" for k in each.classes]
        scores: list[float | None] = each.scores.tolist()
        if not cuts and fallback == "whole":
            cuts, names, scores = [(0, 0, image.shape[1], image.shape[0])], [None], [None]
        out["parent"] += [at] * len(cuts)
        out["box"] += [_in_original(cut, frame) for cut in cuts]
        out["image"] += [image[y0:y1, x0:x1] for x0, y0, x1, y1 in cuts]
        out["detection"] += names
        out["detection_score"] += scores
    return out


# ---------------------------------------------------------------- boxes


def _seeker(model: Model, how: How, run: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Find:
    """The model as a function on images. Raises ModelError where its output is not what its card says."""
    from imagier.models.preprocess import prepare

    spec, output = model.card.input, model.output("detections")
    decode = DECODERS[output.form]

    def decoded(batch: np.ndarray) -> list[Detections]:
        given = run(batch)
        return decode([given[name] for name in output.tensors], how)

    def seek(images: Sequence[Image]) -> list[Detections]:
        batch, placed = prepare(images, spec)
        return [_clipped(*each) for each in zip(decoded(batch), placed, images, strict=True)]

    try:
        decoded(prepare([np.zeros((8, 8, 3), np.uint8)], spec)[0])
    except (KeyError, ValueError) as error:
        told = f"it has no output {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"the model {model.card.name} is not what its card says: {told}. Import it again, with --output, --form "
            "or --labels as they are"
        ) from error
    return seek


def _standing_out(model: Model, choice: Choice) -> Find:
    """The built-in encoder as a function on images: what differs from the rest of an image, one box or none."""
    from msgspec.structs import replace

    from imagier.algorithms.saliency import main_object, plain
    from imagier.models import engines
    from imagier.models.preprocess import prepare

    # Of the whole image: a centre crop would cut objects off, and padding would stand out.
    spec = replace(model.card.input, fit="squash", resize=None)
    assert spec.size is not None
    height, width = spec.size
    names = [model.output(meaning).tensors[0] for meaning in ("map8", "map16")]
    run = engines.network(model, engine=choice.engine, precision=choice.precision, wanted=tuple(names))

    def maps(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        given = run(batch)
        return given[names[0]], given[names[1]]

    colours = np.array(list(product((0, 255), repeat=3)), np.uint8)
    nothing = plain(*maps(np.broadcast_to(colours[:, None, None], (len(colours), height, width, 3)).copy()))

    def seek(images: Sequence[Image]) -> list[Detections]:
        batch, placed = prepare(images, spec)
        found = []
        for fine, coarse, place, image in zip(*maps(batch), placed, images, strict=True):
            seen = main_object(fine, coarse, nothing)
            boxes = [] if seen is None else [seen[0] * [width, height, width, height]]
            scores = [] if seen is None else [seen[1]]
            each = Detections(
                np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.zeros(len(boxes), np.int64)
            )
            found.append(_clipped(each, place, image))
        return found

    return seek


def _parts(images: list[Image]) -> list[list[Image]]:
    return [images[at : at + BATCH] for at in range(0, len(images), BATCH)]


def _clipped(found: Detections, placed: Placed, image: Image) -> Detections:
    """In the image's own pixels, none beyond its edge."""
    height, width = image.shape[:2]
    boxes = placed.back(found.boxes).clip(0, np.array([width, height, width, height], np.float32))
    return Detections(boxes, found.scores, found.classes)


Frame = tuple[float, float, float, float]
"""Where an image in hand lies in its original file: left, top, and original pixels per pixel, across and down."""


def _frame(image: Image, width: int, height: int, box: Any) -> Frame:
    """The image may be larger than the original (upscaled) or smaller, and itself a region, of `box`."""
    h, w = image.shape[:2]
    if box is None:
        return 0.0, 0.0, width / w, height / h
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return x0, y0, (x1 - x0) / w, (y1 - y0) / h


def _chosen(found: Detections, image: Image, frame: Frame, wanted: np.ndarray | None, keep: str) -> Detections:
    """What is to be cut out: of the wanted classes, not too small; the main one, or each."""
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    good = (sides * np.minimum(1.0, frame[2:]) >= LEAST).all(1)
    if wanted is not None:
        good &= np.isin(found.classes, wanted)
    found = found.at(good)
    if keep == "each":
        return distinct(found)
    return found.at(np.array([main(found, image.shape[:2])])) if len(found) else found


def _edges(box: np.ndarray, margin: float, image: Image) -> tuple[int, int, int, int]:
    """The box with its margin, in whole pixels of the image."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    across, down = margin * (x1 - x0), margin * (y1 - y0)
    height, width = image.shape[:2]
    return (
        max(0, round(x0 - across)),
        max(0, round(y0 - down)),
        min(width, round(x1 + across)),
        min(height, round(y1 + down)),
    )


def _in_original(cut: tuple[int, int, int, int], frame: Frame) -> list[float]:
    left, top, across, down = frame
    x0, y0, x1, y1 = cut
    return [left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down]


CROP = Stage(name="crop", version=1, over="rows", make=make)
