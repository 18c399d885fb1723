"""Inspectors: an encoder's maps beside what is remembered of good parts, as a function on images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from imagier.algorithms import anomaly, novelty, posing
from imagier.algorithms.tiling import Span, spans
from imagier.models import engines
from imagier.models.classifying import arrays_of, encoder_by
from imagier.models.model import MAP_STRIDES, Input, Inspector, Model
from imagier.models.preprocess import in_colour, place
from imagier.types import Image, ImageError, ModelError, SettingError

BATCH = 8
SEEN_AROUND = 32
"""Pixels around a window's part that it sees as well."""
RATE = 0.05
"""Of good parts that may be taken for bad, unless another is asked for."""
ENOUGH = 20
"""Images of a run from which on it can be said to differ as a whole."""
SELDOM = 0.1
"""Share of good ones that are so strange as the middle image of a run that differs."""
Features = tuple[np.ndarray, list[np.ndarray]]
"""(n, h, w, c) float32, and for each image the affine map (2, 3) from it to what was seen of it, between pixels whose
middles are at whole numbers, as OpenCV has it."""


@dataclass(frozen=True)
class Looked:
    """An image beside what is good."""

    score: float
    """How strange it is: a distance in feature space, comparable within one inspector alone."""
    heat: np.ndarray
    """(h, w) float32: how strange each place is, on the grid of features."""
    onto: np.ndarray
    """(2, 3) the affine map from the image to the `canvas`."""
    canvas: tuple[int, int]
    """Height and width of what was seen."""
    middle: np.ndarray
    """(c,) float32: the mean of its features, by which a changed lamp is told."""
    smooth: float
    """Deviation of the Gaussian that heat is smoothed by, in sides of what was seen."""
    bleed: float
    """The share of the score that is taken off all heat: a strong fault warms what lies around it."""

    def heatmap(self, height: int, width: int) -> np.ndarray:
        """Heat at the image's size, (height, width) float32; beyond what was seen it is that of the nearest place."""
        import cv2

        made: np.ndarray = cv2.warpAffine(
            self._seen(), self.onto, (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return made

    @property
    def peak(self) -> float:
        """The greatest value of its heatmap, on the canvas."""
        return float(self._seen().max())

    def _seen(self) -> np.ndarray:
        """Heat at the size of the canvas."""
        import cv2

        tall, wide = self.canvas
        seen = cv2.resize(self.heat, (wide, tall), interpolation=cv2.INTER_LINEAR)
        if self.smooth:
            seen = cv2.GaussianBlur(seen, (0, 0), self.smooth * max(tall, wide))
        return seen - np.float32(self.bleed * self.score)


@dataclass(frozen=True)
class Memory:
    """What an inspector's file holds."""

    arrays: Mapping[str, np.ndarray]
    """As the method learnt them."""
    held: np.ndarray
    """(m,) scores of good parts that were not learnt from."""
    peaks: np.ndarray
    """(m,) the greatest heat of each."""
    middles: np.ndarray
    """(2, c) mean and deviation over them of the mean of an image's features."""
    reference: np.ndarray | None = None
    """The unrolled picture of the part that others are turned to."""

    def encoded(self) -> dict[str, np.ndarray]:
        """As memory.npz has it."""
        made = {f"learnt_{name}": each for name, each in self.arrays.items()}
        made |= {"held": self.held, "peaks": self.peaks, "middles": self.middles}
        return made if self.reference is None else made | {"reference": self.reference}


def memory_of(model: Model) -> Memory:
    """Raises ModelError for a file that lacks what its method needs."""
    told = inspector_of(model)
    arrays = arrays_of(model.file("memory"))
    learnt = {name.removeprefix("learnt_"): each for name, each in arrays.items() if name.startswith("learnt_")}
    needed = [f"learnt_{name}" for name in anomaly.METHODS[told.method].needs] + ["held", "peaks", "middles"]
    needed += ["reference"] if told.turned else []
    if missing := [name for name in needed if name not in arrays]:
        raise ModelError(f"the model {model.card.name}: {model.card.files['memory'].path} has no {missing[0]}")
    return Memory(learnt, arrays["held"], arrays["peaks"], arrays["middles"], arrays.get("reference"))


@dataclass(frozen=True)
class Verdict:
    """What is said of an image."""

    score: float
    bad: bool
    typical: float
    """The share of good parts at least as strange, above 0 to 1."""
    probability: float | None
    """That it is bad; None where no bad ones were shown."""
    heat: np.ndarray
    """(H, W) float32 at the image's size."""
    defects: np.ndarray
    """(H, W) int32: 0, or the number of a place that is stranger than good parts are; all 0 of a good image."""


@dataclass(frozen=True)
class Rule:
    """Where the lines are drawn, at a rate of good parts that may be taken for bad."""

    memory: Memory
    calibration: Mapping[str, float] | None
    line: anomaly.Line
    """On the score."""
    spot: float
    """On heat: a place that is hotter is a defect."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values: where the line lies, and at what rate of good parts taken for bad."""
        false = {"mean": self.line.rate, "ci95": list(self.line.ci95), "n": self.line.held}
        return {"threshold": self.line.threshold, "false_reject": false}

    def likely(self, heat: np.ndarray) -> np.ndarray:
        """The share of good parts whose greatest heat is less than each, of the same shape, float32 in [0, 1]."""
        peaks = np.sort(self.memory.peaks)
        return (np.searchsorted(peaks, heat) / len(peaks)).astype(np.float32)

    def say(self, looked: Looked, height: int, width: int) -> Verdict:
        """Of an image of this size."""
        from scipy.ndimage import label

        heat = looked.heatmap(height, width)
        bad = looked.score > self.line.threshold
        defects = label(heat > self.spot, np.ones((3, 3)))[0] if bad else np.zeros(heat.shape)
        typical = float(novelty.typical(np.array([looked.score]), self.memory.held)[0])
        probability = None
        if self.calibration is not None:
            x = self.calibration["slope"] * looked.score + self.calibration["intercept"]
            probability = float(1 / (1 + np.exp(-np.clip(x, -50, 50))))
        return Verdict(looked.score, bad, typical, probability, heat, defects.astype(np.int32))


def rule_of(model: Model, rate: float) -> Rule:
    """rate: of good parts that may be taken for bad. Raises SettingError for no share, ModelError."""
    if not 0 < rate < 1:
        raise SettingError(f"rate cannot be {rate:g}: it is a share of good parts, above 0 and below 1")
    memory = memory_of(model)
    line = anomaly.line(memory.held, rate, inspector_of(model).left_out)
    return Rule(memory, model.card.calibration, line, anomaly.line(memory.peaks, rate).threshold)


@dataclass(frozen=True)
class Drift:
    """How images of a run differ as a whole from the good ones that the line was drawn by."""

    images: int
    score: float
    """The share of good ones that are less strange than the run's middle one: 0.5 where nothing has changed."""
    features: float
    """How far the mean of their features lies from the good ones', in deviations of one image."""

    @property
    def changed(self) -> bool:
        """Whether most images are as strange as few good ones are: no few bad parts do that."""
        return self.images >= ENOUGH and self.score > 1 - SELDOM

    @property
    def text(self) -> str:
        """For a person; empty where nothing has changed."""
        if not self.changed:
            return ""
        return (
            f"the middle image of this run is stranger than {self.score:.0%} of good parts: no few bad ones do that. "
            "Has the lamp, the camera or the part changed? If it stays so, train again on new good ones"
        )

    def as_dict(self) -> dict[str, float | int | bool | str]:
        """JSON values."""
        numbers = {"images": self.images, "score": round(self.score, 4), "features": round(self.features, 4)}
        return {**numbers, "changed": self.changed, "text": self.text}


def drift(memory: Memory, scores: Sequence[float], middle: np.ndarray) -> Drift:
    """scores: of the run's images; middle: (c,) the mean of theirs."""
    below = float((memory.held < np.median(scores)).mean())
    mean, spread = memory.middles
    away = float(np.sqrt((((middle - mean) / np.maximum(spread, 1e-6)) ** 2).mean()))
    return Drift(len(scores), below, away)


def inspector_of(model: Model) -> Inspector:
    """What the card says of it. Raises ModelError for a model of another task."""
    if model.card.inspector is None:
        raise ModelError(f"the model {model.card.name} is there to {model.card.task}, and inspects nothing")
    return model.card.inspector


def inspect_by(
    model: Model, *, engine: str = "auto", precision: str = "auto", threads: int | None = None
) -> Callable[[Sequence[Image]], list[Looked]]:
    """An inspector as a function of uint8 images. Raises ModelError where its encoder is not on this machine."""
    told, memory = inspector_of(model), memory_of(model)
    encoder, _ = chosen(model, engine, precision)
    see = seer(encoder, told, memory.reference, engine=engine, precision=precision, threads=threads)
    judge = judged(told, memory.arrays)

    def look(images: Sequence[Image]) -> list[Looked]:
        made: list[Looked] = []
        for at in range(0, len(images), BATCH):
            made += judge(*see(images[at : at + BATCH]))
        return made

    return look


def chosen(model: Model, engine: str, precision: str) -> tuple[Model, engines.Choice]:
    """An inspector's encoder, and what runs it. Raises ModelError where it is not on this machine, SettingError."""
    told = inspector_of(model)
    encoder = encoder_by(told.encoder, told.sha256, f"the model {model.card.name}")
    return encoder, engines.choose(encoder, engine, precision)


def judged(
    told: Inspector, arrays: Mapping[str, np.ndarray]
) -> Callable[[np.ndarray, Sequence[np.ndarray]], list[Looked]]:
    """What was learnt, as a function of `Features`."""
    score = anomaly.METHODS[told.method].score(arrays, told.neighbours)

    def judge(features: np.ndarray, onto: Sequence[np.ndarray]) -> list[Looked]:
        heat = score(features)
        scores = anomaly.hottest(heat, told.hottest)
        rows = zip(scores, heat, onto, features.mean((1, 2)), strict=True)
        return [
            Looked(float(each), warm, lies, told.size, middle, told.smooth, told.bleed)
            for each, warm, lies, middle in rows
        ]

    return judge


def seer(
    encoder: Model,
    told: Inspector,
    reference: np.ndarray | None = None,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Callable[[Sequence[Image]], Features]:
    """An encoder as a function of uint8 images to features of their places, as an inspector needs them.

    reference: of `told.turned`, the unrolled picture of the part that others are turned to.
    """
    spec = msgspec.structs.replace(encoder.card.input, size=told.size, fit=told.fit, resize=None)
    names = tuple(encoder.output(name).tensors[0] for name in told.maps) or encoder.output("embedding").tensors
    run = engines.network(encoder, engine=engine, precision=precision, threads=threads, wanted=names)
    assert encoder.card.input.size is not None
    side = encoder.card.input.size
    windows = [(y, x) for y in along(told.size[0], side[0]) for x in along(told.size[1], side[1])]

    def see(images: Sequence[Image]) -> Features:
        canvases, onto = [], []
        for image in images:
            pixels, lies = laid(image, told, spec, reference)
            canvases.append(pixels)
            onto.append(lies)
        batch = np.stack([c[y.start : y.stop, x.start : x.stop] for c in canvases for y, x in windows])
        parts = [run(batch[at : at + BATCH]) for at in range(0, len(batch), BATCH)]
        given = {name: np.concatenate([part[name] for part in parts]) for name in names}
        if not told.maps:
            form = encoder.output("embedding").form
            return novelty.unit(engines.pooled(given[names[0]], form, spec.layout))[:, None, None], onto
        maps = [given[name] if spec.layout == "nhwc" else given[name].transpose(0, 2, 3, 1) for name in names]
        wholes = [
            joined(each, MAP_STRIDES[name], windows, told.size, len(images))
            for name, each in zip(told.maps, maps, strict=True)
        ]
        return anomaly.on_one_grid([anomaly.around(each, told.around) for each in wholes]), onto

    return see


def part_of(image: Image) -> posing.Pose:
    """Where the part lies in an image, (h, w, 3) uint8. Raises ImageError where none is found."""
    pose = posing.found(image)
    if pose is None:
        raise ImageError("no part stands out from the image's border, by which it could be laid upright")
    return pose


def laid(image: Image, told: Inspector, spec: Input, reference: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """An image as it is seen, (H, W, 3) uint8, and the affine map to it. Raises ImageError where no part is found."""
    import cv2

    if told.turned:
        image = in_colour(image, "rgb")
        pose = part_of(image)
        if reference is not None:
            pose = replace(pose, turn=posing.turn(posing.unrolled(image, pose), reference))
        side = told.size[0]
        lies = pose.onto(side)
        shrink = np.sqrt(abs(np.linalg.det(lies[:, :2])))
        if shrink < 1:  # bilinear alone would skip pixels
            image = cv2.GaussianBlur(image, (0, 0), 0.5 / shrink)
        upright = cv2.warpAffine(image, lies, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return in_colour(upright, spec.colour), lies
    pixels, placed = place(image, spec)
    return pixels, np.array(
        [
            [placed.scale_x, 0, placed.left + (placed.scale_x - 1) / 2],
            [0, placed.scale_y, placed.top + (placed.scale_y - 1) / 2],
        ]
    )


def along(length: int, side: int) -> list[Span]:
    """The windows along an axis of what is seen. Raises SettingError for a length that cannot be seen so."""
    if length == side:
        return [Span(0, side, 0, side)]
    if length < side or length % 16 or side <= 2 * SEEN_AROUND:
        more = "and more only in sixteens" if side > 2 * SEEN_AROUND else "too few for windows"
        raise SettingError(f"size cannot be {length}: the encoder takes {side} pixels, {more}")
    return spans(length, side, SEEN_AROUND, 16, fixed=True)


def joined(
    parts: np.ndarray, stride: int, windows: Sequence[tuple[Span, Span]], size: tuple[int, int], count: int
) -> np.ndarray:
    """Maps of windows (count * windows, h, w, c) as maps of whole images, (count, H, W, c) float32."""
    if len(windows) == 1:
        return parts.astype(np.float32)
    made = np.empty((count, size[0] // stride, size[1] // stride, parts.shape[-1]), np.float32)
    for at, (y, x) in enumerate(windows):
        of = parts[at :: len(windows)]
        edges = [edge // stride for edge in (y.first, y.last, x.first, x.last)]
        top, left = (y.first - y.start) // stride, (x.first - x.start) // stride
        tall, wide = edges[1] - edges[0], edges[3] - edges[2]
        made[:, edges[0] : edges[1], edges[2] : edges[3]] = of[:, top : top + tall, left : left + wide]
    return made
