"""crop: the main object of each image, or each that a detector or a segmenter finds, becomes an item of its own.

The whole image stays an item too; what is cut out has it as `parent`, and `box` says where it lay in the original file.
`detector="builtin"` is no detector: it ships with imagier, and finds one object by how it differs from the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from imagier import images
from imagier.algorithms.detections import DECODERS, SUPPRESSING, Detections, How, distinct, main
from imagier.algorithms.regions import contour
from imagier.stages._pixels import eight_bit
from imagier.stages._place import Frame, frame, in_hand, in_original
from imagier.types import (
    BUILTIN,
    Apply,
    Columns,
    Image,
    ModelError,
    NameOrFile,
    Regions,
    SettingError,
    Stage,
    Step,
    nearest,
)

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

FOUND = pa.schema([pa.field("detection", pa.string()), pa.field("detection_score", pa.float32())])
MASKED = pa.schema([*FOUND, pa.field("mask", pa.binary()), pa.field("contour", pa.list_(pa.int32()))])

Find = Callable[[Sequence[Image]], list[Detections]]
"""8-bit images to what was found in each, in its own pixels."""
Cut = Callable[[Columns, list[Detections]], Columns]
"""Rows and what was found in the image of each, to the rows that are cut out of them."""


def make(
    *,
    source: Literal["detector", "mask"] = "detector",
    detector: NameOrFile = BUILTIN,
    keep: Literal["main", "each"] = "main",
    margin: float = 0.05,
    classes: list[str] | None = None,
    threshold: float | None = None,
    overlap: float | None = None,
    fallback: Literal["whole", "none"] | None = None,
    surroundings: Literal["kept", "mean"] = "kept",
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
) -> Step:
    """An item a region, with `detection`, the class's name, and `detection_score`; both null for a whole image.

    source: "detector", or "mask": the objects of a `segment` step before this one. Items of those have `mask` as well,
        a PNG of their own size, 255 inside, and `contour`, its outline in the original's pixels: x0, y0, x1, y1, ...
        Their score is how likely the mask's pixels are inside, the mean.
    detector: "builtin", a model's name, or the path of a Model folder. "builtin" calls what it finds "main object"; its
        score says how sharply that stands out (algorithms/saliency.py), and compares with no detector's.
    margin: what is added on every side, as a share of the box's own.
    fallback: where nothing is found, the "whole" image is the region, as is usual for detectors, or there is "none", as
        is usual for masks.
    keep: "main": the image's subject, by score, area and centrality (algorithms/detections.py says how); all there is
        for "builtin". "each": all there are; a place that two classes of a detector claim is one region, named by the
        better score.
    classes: those that count, by the model's names for them; all unless given.
    surroundings: of masks, "mean": what is around the object becomes the mean colour around it, so that later steps see
        the object alone.

    For detectors alone:
    engine: what runs the network. precision: "auto" is that of the model's file for a detector, so float32: where boxes
        come out of the network in pixels, bfloat16 moved their edges by 1.6 px of 640 in the median, and by up to 6.7.
        For "builtin" it is bfloat16 where the processor has it.
    threshold: the least score that counts; 0.25.
    overlap: for models whose boxes must be thinned out: IoU above which one falls to a better one of its class; 0.45.
    """
    _check(margin, threshold, overlap)
    if source == "mask":
        given = {"detector": None if detector == BUILTIN else detector, "threshold": threshold, "overlap": overlap}
        for name, value in (given | {"engine": engine, "precision": precision}).items():
            if value is not None:
                raise SettingError(f"crop.{name} cannot be given with source=mask: the step segment finds the objects")
        return _mask(keep, margin, classes, fallback or "none", surroundings == "mean")
    if surroundings != "kept":
        raise SettingError("crop.surroundings cannot be mean without masks: it goes with source=mask")
    fallback, engine, precision = fallback or "whole", engine or "auto", precision or "auto"
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
        writes=FOUND,
        load=load,
        passes=("image", "parent", "box"),
        weights=model.keys,
        precision=choice.precision,
        pixels=None,  # what is cut out goes on in full size
    )


def _mask(keep: str, margin: float, classes: list[str] | None, fallback: str, alone: bool) -> Step:
    def apply(columns: Columns) -> Columns:
        out: Columns = {name: [] for name in ("parent", "box", "image", *MASKED.names)}
        rows = (columns[name] for name in ("image", "width", "height", "box", "regions"))
        for at, (image, width, height, box, regions) in enumerate(zip(*rows, strict=True)):
            lies = frame(image, width, height, box)
            cuts = [_of_mask(regions, number, margin, image, lies) for number in _which(regions, keep, classes, image)]
            if not cuts and fallback == "whole":
                whole = (0, 0, image.shape[1], image.shape[0])
                cuts = [(whole, {"detection": None, "detection_score": None, "mask": None, "contour": None})]
            for edges, told in cuts:
                x0, y0, x1, y1 = edges
                pixels = image[y0:y1, x0:x1]
                if alone and told["mask"] is not None:
                    pixels = _alone(pixels, images.decode(told["mask"]).image > 0)
                cut = {"parent": at, "box": in_original(edges, lies), "image": pixels, **told}
                for name, value in cut.items():
                    out[name].append(value)
        return out

    return Step(
        reads=("image", "black", "white", "width", "height", "box", "regions"),
        writes=MASKED,
        load=lambda: apply,
        passes=("image", "parent", "box"),
        pixels=None,
    )


def _alone(pixels: Image, inside: np.ndarray) -> Image:
    """An object on the mean colour of its surroundings; inside: (h, w) bool, of the original's pixels."""
    if inside.shape != pixels.shape[:2]:  # the image was enlarged or reduced on its way
        size = (pixels.shape[1], pixels.shape[0])
        inside = images.resize(inside.astype(np.uint8) * np.uint8(255), size=size) > 127
    made = pixels.copy()
    if not inside.all():
        made[~inside] = pixels[~inside].mean(axis=0).astype(pixels.dtype)
    return made


def _which(regions: Regions, keep: str, classes: list[str] | None, image: Image) -> list[int]:
    """The numbers of the regions that become items."""
    numbers = [at for at in range(len(regions)) if classes is None or regions.labels[at] in classes]
    if keep == "each" or not numbers:
        return numbers
    assert regions.scores is not None
    some = np.array(numbers)
    found = Detections(regions.boxes[some], regions.scores[some], np.zeros(len(some), np.int64))
    return [numbers[main(found, image.shape[:2])]]


def _of_mask(
    regions: Regions, number: int, margin: float, image: Image, lies: Frame
) -> tuple[tuple[int, int, int, int], dict[str, Any]]:
    """Where a region is cut out of the image in hand, and what is kept of it."""
    assert regions.scores is not None
    edges = _edges(np.array(in_hand(regions.boxes[number], lies)), margin, image)
    x0, y0, x1, y1 = (float(edge) for edge in np.array(in_original(edges, lies), np.float32))
    inside = np.zeros((round(y1 - y0), round(x1 - x0)), bool)
    left, top = (round(float(regions.boxes[number][at]) - first) for at, first in ((0, x0), (1, y0)))
    mask = regions.masks[number][: inside.shape[0] - top, : inside.shape[1] - left]
    inside[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    outline = contour(inside) + np.array([round(x0), round(y0)])
    return edges, {
        "detection": regions.labels[number],
        "detection_score": float(regions.scores[number]),
        "mask": images.encode(np.where(inside, np.uint8(255), np.uint8(0)), "png"),
        "contour": outline.reshape(-1).tolist(),
    }


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
        lies = frame(image, *size)
        each = _chosen(each, image, lies, wanted, keep)
        cuts = [_edges(box, margin, image) for box in each.boxes]
        names: list[str | None] = [labels[k] if k < len(labels) else f"class {k}" for k in each.classes]
        scores: list[float | None] = each.scores.tolist()
        if not cuts and fallback == "whole":
            cuts, names, scores = [(0, 0, image.shape[1], image.shape[0])], [None], [None]
        out["parent"] += [at] * len(cuts)
        out["box"] += [in_original(cut, lies) for cut in cuts]
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

    def seek(given: Sequence[Image]) -> list[Detections]:
        batch, placed = prepare(given, spec)
        return [_clipped(*each) for each in zip(decoded(batch), placed, given, strict=True)]

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

    def seek(given: Sequence[Image]) -> list[Detections]:
        batch, placed = prepare(given, spec)
        found = []
        for fine, coarse, place, image in zip(*maps(batch), placed, given, strict=True):
            seen = main_object(fine, coarse, nothing)
            boxes = [] if seen is None else [seen[0] * [width, height, width, height]]
            scores = [] if seen is None else [seen[1]]
            each = Detections(
                np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.zeros(len(boxes), np.int64)
            )
            found.append(_clipped(each, place, image))
        return found

    return seek


def _parts(given: list[Image]) -> list[list[Image]]:
    return [given[at : at + BATCH] for at in range(0, len(given), BATCH)]


def _clipped(found: Detections, placed: Placed, image: Image) -> Detections:
    """In the image's own pixels, none beyond its edge."""
    height, width = image.shape[:2]
    boxes = placed.back(found.boxes).clip(0, np.array([width, height, width, height], np.float32))
    return Detections(boxes, found.scores, found.classes)


def _chosen(found: Detections, image: Image, lies: Frame, wanted: np.ndarray | None, keep: str) -> Detections:
    """What is to be cut out: of the wanted classes, not too small; the main one, or each."""
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    good = (sides * np.minimum(1.0, lies[2:]) >= LEAST).all(1)
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


CROP = Stage(name="crop", version=1, over="rows", make=make)
