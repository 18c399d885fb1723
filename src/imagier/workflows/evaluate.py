"""Judge a model on images with their truth: each measure with its spread over images, and a page of pictures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.collection import write_whole
from imagier.types import SettingError

if TYPE_CHECKING:
    from imagier.models.model import Model
    from imagier.training.truth import Truth
    from imagier.workflows.segment import Cleaning
    from imagier.workflows.train import Masks

WORST = 10


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
        for name, of in [("", told), *told.get("classes", {}).items()]:
            for measure in (*MEASURES, *OBJECT_MEASURES):
                if measure in of:
                    each = of[measure]
                    low, high = each["ci95"]
                    lines.append(
                        f"{name + ': ' if name else ''}{SHOWN[measure]} {each['mean']:.3f} "
                        f"(95 % interval {low:.3f} to {high:.3f}, median {each['median']:.3f}, n = {each['n']})"
                    )
            lines += [f"{name + ': ' if name else ''}{SHOWN[key]} {of[key]:.3f}" for key in POOLED if key in of]
            if "flagged" in of:
                flagged = of["flagged"]
                lines.append(f"found where there is nothing: {flagged['images']} of {flagged['n']} images")
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
    model: str | os.PathLike[str],
    *,
    images: Path,
    masks: Masks,
    part: str | None = None,
    how: Cleaning | None = None,
    flips: bool = False,
    unmasked: bool = False,
    page: Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Judge a segmenter at the images' own size.

    part: of the split in the model's folder, "train", "val" or "test"; None: all images. page: a file for a page of
    pictures. Raises SettingError, ModelError, ImageError.
    """
    from tqdm import tqdm

    from imagier.models.preprocess import in_colour
    from imagier.models.segmenting import classes
    from imagier.workflows import segment, train

    how = how or segment.Cleaning()
    chosen, tell = segment.load(model, flips=flips)
    root, found = train.pictures(images)
    truth = train.covering(found, masks.truth(found, root), unmasked)
    pairs = _pairs(classes(chosen), truth, chosen)
    listed = _of_part(chosen, found, part)
    judged: dict[str, list[Judged]] = {name: [] for name, _, _ in pairs}
    shown: list[dict[str, Any]] = []
    for path in tqdm(listed, desc="judging", unit="image", disable=not progress, file=sys.stderr):
        image = segment.read(path)
        true = truth.draw[path](*image.shape[:2])
        made = segment.found(image, chosen, tell, how)
        for name, at, place in pairs:
            each = _judge(path, made.inside[:, :, at], made.objects[:, :, at], true, place, truth.instances)
            judged[name].append(each)
            if page is not None:
                pictures = {"true": true.inside[:, :, place], "found": made.inside[:, :, at]}
                row = {
                    "label": name,
                    "file": str(path),
                    "dice": each.measures["dice"],
                    "image": in_colour(image, "rgb"),
                }
                shown = sorted([*shown, row | pictures], key=lambda row: row["dice"])[:WORST]
    evaluation = Evaluation(chosen.card.name, part, judged)
    if page is not None:
        from imagier.outputs.evaluation import write_page

        write_page(page, evaluation.told, evaluation.lines(), shown)
    return evaluation


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


def _of_part(model: Model, found: Sequence[Path], part: str | None) -> Sequence[Path]:
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


def save(evaluation: Evaluation, path: Path) -> None:
    """Write the JSON. Raises CollectionError where it cannot be written."""
    write_whole(path, json.dumps(evaluation.told, indent=1).encode() + b"\n")
