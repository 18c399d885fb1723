"""Judge a model on images with their truth: each measure with its spread over images, and a page of pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from imagier import _progress
from imagier.collection import write_whole
from imagier.types import ImageError, SettingError

if TYPE_CHECKING:
    from imagier.models.model import Model
    from imagier.models.segmenting import Cleaning
    from imagier.outputs.evaluation import Row
    from imagier.training.pairs import Way
    from imagier.training.truth import Truth
    from imagier.workflows.train import Masks

WORST = 10
SEED = 0
"""Of the noise that is added; and with it the image's number among those judged."""


@dataclass(frozen=True)
class Judged:
    """An image with what was found in it, for a class."""

    path: Path
    measures: dict[str, Any]
    """Numbers; None for what cannot be measured."""
    counts: dict[str, int]
    """Pixels and objects, found, true and both: of these, pooled measures are made."""


@dataclass(frozen=True)
class Evaluation:
    """How well a segmenter does."""

    model: str
    part: str | None
    classes: Mapping[str, Sequence[Judged]]
    """By class, a judgement an image."""

    @cached_property
    def told(self) -> dict[str, Any]:
        """JSON values: each measure {"mean", "median", "ci95", "n"}; over all classes, and by class."""
        every = [each for judged in self.classes.values() for each in judged]
        made: dict[str, Any] = {
            "model": self.model,
            "part": self.part,
            "images": len({each.path for each in every}),
            **_measures(every),
        }
        if len(self.classes) > 1:
            made["classes"] = {name: _measures(judged) for name, judged in self.classes.items()}
        made["worst"] = [{"file": str(each.path), "class": name, **each.measures} for name, each in self.worst()]
        return made

    def worst(self) -> list[tuple[str, Judged]]:
        """The images of the least Dice, ten at most."""
        every = [(name, each) for name, judged in self.classes.items() for each in judged]
        return sorted(every, key=lambda pair: pair[1].measures["dice"])[:WORST]

    def lines(self) -> list[str]:
        """For a person."""
        told = self.told
        lines = [f"{told['images']} images" + (f" of the part {self.part}" if self.part else "")]
        for of_class, of in [("", told), *told.get("classes", {}).items()]:
            name = f"{of_class}: " if of_class else ""
            for measure in (*MEASURES, *OBJECT_MEASURES):
                if measure in of:
                    each = of[measure]
                    low, high = each["ci95"]
                    lines.append(
                        f"{name}{SHOWN[measure]} {each['mean']:.3f} "
                        f"(95 % interval {low:.3f} to {high:.3f}, median {each['median']:.3f}, n = {each['n']})"
                    )
            lines += [f"{name}{SHOWN[key]} {of[key]:.3f}" for key in POOLED if key in of]
            if "flagged" in of:
                flagged = of["flagged"]
                lines.append(f"{name}found where there is nothing: {flagged['images']} of {flagged['n']} images")
        return lines


MEASURES = ("dice", "iou", "precision", "recall", "hd95")
OBJECT_MEASURES = ("object_f1", "average_precision")
POOLED = ("pooled_dice", "pooled_object_f1")
SHOWN = {
    "dice": "Dice by image", "iou": "IoU by image", "precision": "precision", "recall": "recall",
    "hd95": "HD95 in pixels", "object_f1": "object F1 at IoU 0.5", "average_precision": "average precision",
    "pooled_dice": "Dice of all pixels together", "pooled_object_f1": "object F1 of all objects together",
}  # fmt: skip


def _measures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Over images that hold something; those that hold nothing tell how often something is found where nothing is."""
    from imagier.algorithms.overlap import spread

    made: dict[str, Any] = {}
    there = [each for each in judged if each.counts["true"]]
    for name in (*MEASURES, *OBJECT_MEASURES):
        values = [value for each in there if (value := each.measures.get(name)) is not None]
        if values:
            made[name] = asdict(spread(np.array(values)))
    for name, keys in (("pooled_dice", ("both", "found", "true")), ("pooled_object_f1", ("hits", "objects", "wanted"))):
        both, found, true = (sum(each.counts.get(key, 0) for each in judged) for key in keys)
        if true:
            made[name] = 2 * both / (found + true)
    if empty := [each for each in judged if not each.counts["true"]]:
        flagged = sum(each.counts["found"] > 0 for each in empty)
        made["flagged"] = {"images": flagged, "n": len(empty), "share": flagged / len(empty)}
    return made


def segmenter(
    model: Model,
    *,
    images: Path,
    masks: Masks,
    part: str | None = None,
    how: Cleaning | None = None,
    flips: bool = False,
    noise: str | None = None,
    unmasked: bool = False,
    page: Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Judge a segmenter at the images' own size.

    part: of the split in the model's folder, "train", "val" or "test"; None: all images. noise: added to them first
    (algorithms/noise.py), rounded to 8 bits, by a seed of its own for each image. page: a file for a page of pictures.
    Raises SettingError, ModelError, ImageError.
    """
    from imagier.models.preprocess import in_colour
    from imagier.models.segmenting import Cleaning, classes, teller
    from imagier.models.segmenting import found as find
    from imagier.training.pairs import noise_of, noised
    from imagier.workflows import segment, train

    how, added = how or Cleaning(), noise_of(noise) if noise else None
    tell = teller(model, flips=flips)
    root, found = train.pictures(images)
    truth = train.covering(found, masks.truth(found, root), unmasked)
    pairs = _pairs(classes(model), truth, model)
    listed = of_part(model, found, part)
    judged: dict[str, list[Judged]] = {name: [] for name, _, _ in pairs}
    rows: list[tuple[float, Row]] = []
    for number, path in enumerate(_progress.bar(len(listed), progress, what="judging").over(listed)):
        image = segment.read(path)
        if added is not None:
            image = noised(image, added, (SEED, number))
        true = truth.draw[path](*image.shape[:2])
        made = find(image, model, tell, how)
        for name, at, place in pairs:
            each = _judge(path, made.inside[:, :, at], made.objects[:, :, at], true, place, truth.instances)
            judged[name].append(each)
            if page is not None:
                from imagier.outputs.evaluation import Row
                from imagier.outputs.evaluation import masks as tinted

                dice = each.measures["dice"]
                pictures = tinted(in_colour(image, "rgb"), true.inside[:, :, place], made.inside[:, :, at])
                rows = _worst(rows, dice, Row(path.relative_to(root).as_posix(), f"{dice:.3f} Dice · {name}", pictures))
    evaluation = Evaluation(model.card.name, part, judged)
    if page is not None:
        from imagier.outputs.evaluation import write_page

        write_page(page, evaluation.told, evaluation.lines(), [row for _, row in rows], tinted=True)
    return evaluation


def _worst(rows: list[tuple[float, Row]], value: float, row: Row) -> list[tuple[float, Row]]:
    return sorted([*rows, (value, row)], key=lambda each: each[0])[:WORST]


def _pairs(names: Sequence[str], truth: Truth, model: Model) -> list[tuple[str, int, int]]:
    """Which class of the model is which of the truth; by name, or the only ones there are."""
    if len(names) == 1 == len(truth.classes):
        return [(names[0], 0, 0)]
    both = [(name, at, truth.classes.index(name)) for at, name in enumerate(names) if name in truth.classes]
    if not both:
        raise SettingError(
            f"the model {model.card.name} finds {', '.join(names)}, the truth is of {', '.join(truth.classes)}: "
            "name the folders so that they meet, --masks NAME=DIR"
        )
    return both


def of_part(model: Model, found: Sequence[Path], part: str | None) -> Sequence[Path]:
    """The images of a part of the model's split; all for None."""
    from imagier.images import content_hash
    from imagier.training.splits import read_split

    if part is None:
        return found
    if "split" not in model.card.files:
        raise SettingError(f"the model {model.card.name} has no split in its folder: leave out --part")
    parts = read_split(model.file("split")).parts
    chosen = [path for path in found if parts.get(content_hash(path.read_bytes())) == part]
    if not chosen:
        raise SettingError(f"none of the {len(found)} images is of the part {part} of the model's split")
    return chosen


def _judge(path: Path, inside: np.ndarray, objects: np.ndarray, true: Any, place: int, instances: bool) -> Judged:
    from imagier.algorithms.overlap import fit, match

    wanted = true.inside[:, :, place]
    one = fit(inside, wanted)
    measures: dict[str, Any] = {name: getattr(one, name) for name in MEASURES}
    counts = {"both": one.both, "found": one.found, "true": one.true}
    if instances:
        fits = match(objects, true.objects[:, :, place])
        measures |= {"object_f1": fits.f1, "average_precision": fits.average_precision}
        counts |= {"hits": fits.hits, "objects": fits.found, "wanted": fits.true}
    return Judged(path, measures, counts)


@dataclass(frozen=True)
class Restoration:
    """How well a denoiser or an upscaler does."""

    model: str
    part: str | None
    protocol: str
    """What was done, in words: figures of another protocol do not compare."""
    judged: Sequence[tuple[Path, dict[str, float]]]
    """Each image with "psnr", "ssim", and the same "before" the model."""

    @cached_property
    def told(self) -> dict[str, Any]:
        """JSON values: each measure {"mean", "median", "ci95", "n"}."""
        from imagier.algorithms.overlap import spread

        names = list(self.judged[0][1])
        made: dict[str, Any] = {
            "model": self.model,
            "part": self.part,
            "protocol": self.protocol,
            "images": len(self.judged),
        }
        made |= {name: asdict(spread(np.array([each[name] for _, each in self.judged]))) for name in names}
        made["worst"] = [{"file": str(path), **each} for path, each in self.worst()]
        return made

    def worst(self) -> list[tuple[Path, dict[str, float]]]:
        """The images of the least PSNR, ten at most."""
        return sorted(self.judged, key=lambda pair: pair[1]["psnr"])[:WORST]

    def lines(self) -> list[str]:
        """For a person."""
        lines = [
            f"{len(self.judged)} images" + (f" of the part {self.part}" if self.part else ""),
            self.protocol,
        ]
        for name, shown, digits in (("psnr", "PSNR in dB", 2), ("ssim", "SSIM", 4)):
            each, before = self.told[name], self.told[f"{name}_before"]
            low, high = each["ci95"]
            lines.append(
                f"{shown} {each['mean']:.{digits}f} (95 % interval {low:.{digits}f} to {high:.{digits}f}, median "
                f"{each['median']:.{digits}f}, n = {each['n']}; before {before['mean']:.{digits}f})"
            )
        return lines


def restorer(
    model: Model,
    *,
    images: Path,
    noise: str | None = None,
    noisy: Path | None = None,
    estimate: bool = False,
    part: str | None = None,
    flips: bool = False,
    page: Path | None = None,
    progress: bool = True,
) -> Restoration:
    """Judge a denoiser or an upscaler on clean images.

    A denoiser is shown them with `noise` (algorithms/noise.py), neither rounded nor clipped, as papers have it; or it
    is shown those of the folder `noisy` that are called as they are. One that wants to be told how much Gaussian noise
    there is, is told; `estimate` leaves it to estimate that, as it does in a run. An upscaler is shown their bicubic
    reduction. What comes out is rounded to 8 bits; of an upscaler, Y alone counts, and the border is cropped by the
    factor. Raises SettingError, ModelError, ImageError.
    """
    from imagier.models import restoring
    from imagier.training.pairs import Way, noise_of
    from imagier.workflows import train

    spec, factor = model.card.input, model.card.scale or 1
    if model.card.task == "upscale" and (noise or noisy):
        raise SettingError("an upscaler is judged by images and their reductions: leave out --noise and --noisy")
    if model.card.task == "denoise" and (noise is None) == (noisy is None):
        raise SettingError("say what a denoiser is to take out: --noise, such as gaussian:25, or --noisy with a folder")
    root, found = train.pictures(images)
    beside = None if noisy is None else train.pairs(found, root, noisy)
    way = Way("grey" if spec.colour == "grey" else "rgb", factor, noise_of(noise) if noise else None, noisy=beside)
    told = model.card.sigma is not None and way.noise is not None and way.noise.kind == "gaussian" and not estimate
    if estimate and model.card.sigma is None:
        raise SettingError(f"{model.card.name} is never told how much noise there is: leave out --estimate")
    tile = restoring.tile_of(model, model.card.task, None, None)
    restore = restoring.load(model, tile, flips=flips)
    judged: list[tuple[Path, dict[str, float]]] = []
    rows: list[tuple[float, Row]] = []
    listed = of_part(model, found, part)
    for number, path in enumerate(_progress.bar(len(listed), progress, what="judging").over(listed)):
        given, true, sigma = _trial(way, path, number)
        shown = given[:, :, 0] if given.shape[2] == 1 else given
        made = _eight(np.atleast_3d(restore(shown / np.float32(255), 0.0, 1.0, sigma if told else None)) * 255)
        before = _before(given, factor)
        measures = _fidelity(made, true, factor)
        measures |= {f"{name}_before": value for name, value in _fidelity(before, true, factor).items()}
        judged.append((path, measures))
        if page is not None:
            from imagier.outputs.evaluation import Row

            pictures = {"shown": before, "true": true, "made": made}
            flat = {what: each[:, :, 0] if each.shape[2] == 1 else each for what, each in pictures.items()}
            words = f"{measures['psnr']:.2f} dB, before {measures['psnr_before']:.2f}"
            rows = _worst(rows, measures["psnr"], Row(path.relative_to(root).as_posix(), words, flat))
    made_of = f"reduced {factor} times (bicubic)" if factor > 1 else f"with noise {noise}" if noise else f"of {noisy}"
    how = f"Y of BT.601, {factor} pixels of border cropped" if factor > 1 else "all pixels and channels"
    if model.card.sigma is not None:
        made_of += ", its deviation told" if told else ", its deviation estimated"
    protocol = f"{way.colour} images, {made_of}; {how}, rounded to 8 bits" + ("; mean over flips" if flips else "")
    restoration = Restoration(model.card.name, part, protocol, judged)
    if page is not None:
        from imagier.outputs.evaluation import write_page

        write_page(page, restoration.told, restoration.lines(), [row for _, row in rows])
    return restoration


def _trial(way: Way, path: Path, number: int) -> tuple[np.ndarray, np.ndarray, float | None]:
    """What is shown of an image, (h, w, c) float32 on 0 to 255, what is true, uint8, and the noise's first level.

    Raises ImageError for an image that is too small to be judged.
    """
    from imagier.algorithms.fidelity import LEAST

    given, true = way.whole(path)
    least = LEAST + (2 * way.factor if way.factor > 1 else 0)
    if least > min(true.shape[:2]):
        raise ImageError(f"{path} is too small to be judged: SSIM takes {least} pixels a side or more")
    given, true = given.astype(np.float32), _eight(true)
    if way.noise is None:
        return given, true, None
    rng = np.random.default_rng((SEED, number))
    drawn = way.noise.draw(rng)
    return drawn.add(given, rng), true, drawn.ranges[0][0]


def _eight(image: np.ndarray) -> np.ndarray:
    made: np.ndarray = np.rint(image).clip(0, 255).astype(np.uint8)
    return made


def _before(given: np.ndarray, factor: int) -> np.ndarray:
    """What there is without a model: the image as it is, or enlarged by bicubic interpolation."""
    from imagier.algorithms.fidelity import reduced

    if factor == 1:
        return _eight(given)
    return reduced(_eight(given), given.shape[0] * factor, given.shape[1] * factor)


def _fidelity(made: np.ndarray, true: np.ndarray, factor: int) -> dict[str, float]:
    from imagier.algorithms.fidelity import luma, psnr, ssim

    if factor > 1:
        inside = (slice(factor, -factor), slice(factor, -factor))
        made, true = (luma(each)[inside] if each.shape[2] == 3 else each[inside] for each in (made, true))
    return {"psnr": psnr(made, true), "ssim": ssim(made, true)}


class Judgement(Protocol):
    """How well a model does, whatever it is there to do."""

    @property
    def told(self) -> dict[str, Any]:
        """JSON values."""

    def lines(self) -> list[str]:
        """For a person."""


def save(evaluation: Judgement, path: Path) -> None:
    """Write the JSON. Raises CollectionError where it cannot be written."""
    write_whole(path, json.dumps(evaluation.told, indent=1).encode() + b"\n")
