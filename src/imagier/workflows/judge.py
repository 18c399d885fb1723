"""Judge a classifier on labelled images: each measure with its interval, its confidence, and a page of the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import _progress
from imagier.algorithms import confidence as measures
from imagier.algorithms import judging
from imagier.algorithms.confidence import LEVEL, REFUSED
from imagier.models.classifying import (
    BATCH,
    Said,
    Seen,
    check,
    confidence_of,
    head_of,
    joined,
    looker,
)
from imagier.types import Image, SettingError, nearest

if TYPE_CHECKING:
    from imagier.models.model import Model
    from imagier.workflows.train import Labels

WORST = 10
NAMES = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "precision": "precision, mean over classes",
    "recall": "recall, mean over classes", "f1": "F1, mean over classes", "auroc": "AUROC, one against the rest",
    "ece": "calibration error (ECE)", "ece_before": "calibration error before temperature scaling",
    "coverage": "sets that hold the true class", "set_size": "classes in a set", "refused": "taken for unknown",
}  # fmt: skip


@dataclass(frozen=True)
class Classification:
    """How well a classifier does."""

    model: str
    labels: tuple[str, ...]
    part: str | None
    level: float
    refused: float
    names: Sequence[str]
    """Of the images, below their folder; of items the file's, and the beginning of their id."""
    true: np.ndarray
    """(n,) int."""
    said: Said
    raw: np.ndarray
    """(n, k) shares before calibration."""
    left: int = 0
    """Items of labels that it does not know, left out."""

    @cached_property
    def told(self) -> dict[str, Any]:
        """JSON values: each measure {"mean", "ci95", "n"}, over all and by class; None for what cannot be measured."""
        weights = judging.resampled(len(self.true))
        made: dict[str, Any] = {"model": self.model, "part": self.part, "images": len(self.true)}
        made |= {"level": self.level} if self.said.sets is not None else {}
        made |= {"refused_rate": self.refused} if self.said.known is not None else {}
        made |= {name: told_of(each) for name, each in self._measures(weights).items()}
        made["classes"] = {
            label: {name: told_of(each) for name, each in self._of_class(at, weights).items()}
            for at, label in enumerate(self.labels)
        }
        counts = judging.confusion(self.true, self.said.best, len(self.labels))
        made["confusion"] = {"labels": list(self.labels), "counts": counts.tolist()}
        after = self.reliability(self.said.shares)
        made["reliability"] = [
            {
                "from": round(low, 4),
                "to": round(high, 4),
                "images": int(n),
                "confidence": _number(c),
                "right": _number(r),
            }
            for low, high, n, c, r in zip(
                after.edges[:-1], after.edges[1:], after.counts, after.confidence, after.right, strict=True
            )
        ]
        made["surely_wrong"] = [self.row(at) for at in self.surely_wrong()]
        made["least_sure"] = [self.row(at) for at in self.least_sure()]
        return made

    def _measures(self, weights: np.ndarray) -> dict[str, judging.Measured]:
        k, true, said = len(self.labels), self.true, self.said
        right = (said.best == true).astype(float)

        def mean_of(values: np.ndarray) -> judging.Measured:
            return judging.measured(lambda w: w @ values / w.sum(1), weights)

        def by_class(of: Any) -> judging.Measured:
            return judging.measured(lambda w: judging.over_classes(of(judging.counts(true, said.best, k, w))), weights)

        def aurocs(w: np.ndarray) -> np.ndarray:
            each = [judging.weighted_auroc(said.shares[:, at], true == at, w) for at in range(k)]
            return judging.over_classes(np.stack(each, axis=1))

        made = {
            "accuracy": mean_of(right),
            "balanced_accuracy": by_class(judging.recall),
            "precision": by_class(judging.precision),
            "recall": by_class(judging.recall),
            "f1": by_class(judging.f1),
            "auroc": judging.measured(aurocs, weights),
        }
        for name, shares in (("ece", said.shares), ("ece_before", self.raw)):
            sure, hit = shares.max(1), (shares.argmax(1) == true).astype(float)
            made[name] = judging.measured(partial(judging.weighted_ece, sure, hit), weights)
        if said.sets is not None:
            made["coverage"] = mean_of(said.sets[np.arange(len(true)), true].astype(float))
            made["set_size"] = mean_of(said.sets.sum(1).astype(float))
        if said.known is not None:
            made["refused"] = mean_of((~said.known).astype(float))
        return made

    def _of_class(self, at: int, weights: np.ndarray) -> dict[str, judging.Measured]:
        said, inside = self.said, self.true == at

        def counted(of: Callable[[judging.Counts], np.ndarray], w: np.ndarray) -> np.ndarray:
            return of(judging.counts(self.true, said.best, len(self.labels), w))[:, at]

        def mean(values: np.ndarray, w: np.ndarray) -> np.ndarray:
            made: np.ndarray = (w * inside) @ values / (w * inside).sum(1)
            return made

        of: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "precision": partial(counted, judging.precision),
            "recall": partial(counted, judging.recall),
            "f1": partial(counted, judging.f1),
            "auroc": partial(judging.weighted_auroc, said.shares[:, at], inside),
        }
        if said.sets is not None:
            of["coverage"] = partial(mean, said.sets[:, at].astype(float))
            of["set_size"] = partial(mean, said.sets.sum(1).astype(float))
        counts = dict.fromkeys(of, int(inside.sum())) | {"precision": int((said.best == at).sum())}
        return {name: judging.measured(each, weights, counts[name]) for name, each in of.items()}

    def reliability(self, shares: np.ndarray) -> measures.Reliability:
        """Of shares (n, k), calibrated or not."""
        return measures.reliability(shares.max(1), shares.argmax(1) == self.true)

    def surely_wrong(self) -> list[int]:
        """Places of those that are wrong, the surest first."""
        sure = np.where(self.said.best != self.true, self.said.shares.max(1), -1)
        return [int(at) for at in np.argsort(-sure, kind="stable")[:WORST] if sure[at] >= 0]

    def least_sure(self) -> list[int]:
        """Places of those of the least confidence."""
        return [int(at) for at in np.argsort(self.said.shares.max(1), kind="stable")[:WORST]]

    def row(self, at: int) -> dict[str, Any]:
        """An image with what was told of it."""
        return {
            "file": self.names[at],
            "true": self.labels[self.true[at]],
            "told": self.labels[self.said.best[at]],
            "confidence": round(float(self.said.shares[at].max()), 4),
        }

    def lines(self) -> list[str]:
        """For a person."""
        told = self.told
        lines = [f"{told['images']} images" + (f" of the part {self.part}" if self.part else "")]
        for name, words in NAMES.items():
            if name in told and told[name]["mean"] is not None:
                each = told[name]
                lines.append(f"{words} {each['mean']:.3f} ({interval(each)}, n = {each['n']})")
        if self.said.sets is not None:
            lines.append(f"sets are to hold the true class in {self.level:.0%} of images".replace("%", " %"))
        if self.said.known is not None:
            lines.append(f"of known images {self.refused:.0%} may be taken for unknown".replace("%", " %"))
        for label, of in told["classes"].items():
            parts = [f"{name} {of[name]['mean']:.3f}" for name in ("recall", "precision", "f1", "auroc", "coverage")
                     if name in of and of[name]["mean"] is not None]  # fmt: skip
            lines.append(f"{label}: {', '.join(parts)} (n = {of['recall']['n']})")
        return lines


def interval(each: dict[str, Any]) -> str:
    """The interval of a measure, in words."""
    low, high = each["ci95"]
    return f"95 % interval {low:.3f} to {high:.3f}" if low is not None else "no interval"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def told_of(each: judging.Measured) -> dict[str, Any]:
    """A measure as JSON values."""
    made = asdict(each)
    return {"mean": _number(made["mean"]), "ci95": [_number(end) for end in made["ci95"]], "n": made["n"]}


def classifier(
    model: Model,
    *,
    labels: Labels,
    part: str | None = None,
    level: float = LEVEL,
    refused: float = REFUSED,
    by_class: bool = False,
    others: bool = False,
    page: Path | None = None,
    progress: bool = True,
) -> Classification:
    """Judge a classifier on labelled images.

    others: items of labels that it does not know are left out, and counted; else they are refused.

    part: of the split in the model's folder; None: all images. level, refused, by_class: as `Confidence.say` has them.
    page: a file for a page with figures and the worst images. Raises SettingError, ModelError, ImageError.
    """
    check(level, refused)
    labels.check()
    trial = (
        _of_items(model, labels, part, others, progress)
        if labels.collection is not None
        else _of_files(model, labels, part, progress)
    )
    trust = confidence_of(model)
    trust.check(refused)
    evaluation = Classification(
        model.card.name, model.card.labels, part, level, refused, trial.names,
        np.array([model.card.labels.index(each) for each in trial.labels]),
        trust.say(trial.seen, level, refused, by_class), measures.shares(trial.seen.logits), trial.left,
    )  # fmt: skip
    if page is not None:
        _write_page(page, evaluation, trial.pixels)
    return evaluation


@dataclass(frozen=True)
class _Trial:
    """What is judged."""

    names: Sequence[str]
    labels: Sequence[str]
    seen: Seen
    pixels: Callable[[int], Image]
    left: int = 0
    """Items of labels that the model does not know, left out."""


def _of_files(model: Model, labels: Labels, part: str | None, progress: bool) -> _Trial:
    from imagier.workflows import segment
    from imagier.workflows.evaluate import of_part

    root, truth = labels.read()
    _known(model, truth.labels)
    look = looker(model)
    of = dict(zip(truth.paths, truth.labels, strict=True))
    listed = list(of_part(model, truth.paths, part))
    made: list[Seen] = []
    with _progress.bar(len(listed), progress, what="judging") as bar:
        for at in range(0, len(listed), BATCH):
            made.append(look([segment.read(path) for path in listed[at : at + BATCH]]))
            bar.update(len(made[-1].logits))
    names = [path.relative_to(root).as_posix() for path in listed]
    return _Trial(names, [of[path] for path in listed], joined(made), lambda at: segment.read(listed[at]))


def _of_items(model: Model, labels: Labels, part: str | None, others: bool, progress: bool) -> _Trial:
    from imagier import images
    from imagier.training.splits import read_split
    from imagier.workflows import _items

    head = model.card.head
    assert labels.collection is not None
    assert labels.labels is not None
    if head is None:
        items = _items.read(labels.collection, labels.labels, None)
    else:
        items = _items.read(labels.collection, labels.labels, head.sha256, head.columns)
    told = [items.classes[each.shares.index(1.0)] for each in items.samples]
    known = np.array([each in model.card.labels for each in told])
    if not others or not known.any():
        _known(model, items.classes)
    chosen = np.flatnonzero(known)
    if part is not None:
        parts = read_split(model.file("split")).of([each.sha256 for each in items.samples])
        chosen = np.flatnonzero((parts == part) & known)
        if not len(chosen):
            raise SettingError(f"none of the {len(items.samples)} items is of the part {part} of the model's split")
    kept = [items.samples[int(at)] for at in chosen]

    def pixels(at: int) -> Image:
        image = items.pixels(kept[at].sha256)
        return (
            image
            if image.dtype == np.uint8
            else images.to_uint8(image, float(image.min()), max(float(image.max()), float(image.min()) + 1))
        )

    names = [f"{each.path.name} {each.sha256[:8]}" for each in kept]
    if head is None:
        ids = [each.sha256 for each in kept]
        seen = _shown(model, ids, _items.pictures(labels.collection, ids, progress))
    else:
        seen = head_of(model)(items.vectors[chosen])
    return _Trial(names, [told[int(at)] for at in chosen], seen, pixels, int((~known).sum()))


def _shown(model: Model, ids: Sequence[str], pictures: Iterator[tuple[str, Image]]) -> Seen:
    """What a network sees in pictures that come in any order, in that of the ids."""
    from imagier.models.preprocess import in_colour

    look = looker(model)
    came: list[str] = []
    made: list[Seen] = []
    while batch := list(islice(pictures, BATCH)):
        came += [item for item, _ in batch]
        made.append(look([in_colour(image, "rgb") for _, image in batch]))
    at = {item: place for place, item in enumerate(came)}
    return joined(made).at([at[item] for item in ids])


def _known(model: Model, labels: Sequence[str]) -> None:
    """Raises SettingError for a label that the model does not tell."""
    if others := sorted(set(labels) - set(model.card.labels)):
        raise SettingError(f"the model {model.card.name}: {nearest('class', others[0], model.card.labels)}")


def _write_page(page: Path, of: Classification, pixels: Callable[[int], Image]) -> None:
    from imagier.models.preprocess import in_colour
    from imagier.outputs import plots_classes as plots
    from imagier.outputs.evaluation import Row, write_page

    def rows(places: Sequence[int]) -> list[Row]:
        made = []
        for at in places:
            one = of.row(at)
            words = f"told {one['told']} ({one['confidence']:.2f}), true {one['true']}"
            made.append(Row(of.names[at], words, {"": in_colour(pixels(at), "rgb")}))
        return made

    right = of.said.best == of.true
    figures = [
        (
            "The confusion matrix",
            lambda theme: plots.confusion(np.array(of.told["confusion"]["counts"]), of.labels, theme),
        ),
        (
            "Confidence against correctness",
            lambda theme: plots.reliability(
                [("before", of.reliability(of.raw)), ("calibrated", of.reliability(of.said.shares))], theme
            ),
        ),
        (
            "How sure, by class",
            lambda theme: plots.sureness(
                of.said.shares.max(1), right, [of.labels[at] for at in of.true], "Confidence by true class", theme
            ),
        ),
    ]
    sheets = [("Surely wrong", rows(of.surely_wrong())), ("Least sure", rows(of.least_sure()))]
    write_page(page, of.told, of.lines(), [], figures=figures, sheets=sheets)
