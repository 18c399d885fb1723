"""Judge an inspector on good and bad images: each measure with its interval, by kind of defect, and the worst shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import _progress
from imagier.algorithms import judging, localising
from imagier.algorithms.overlap import fit
from imagier.models.inspecting import BATCH, RATE, Looked, Rule, inspect_by, rule_of
from imagier.types import Image, ImageError, SettingError
from imagier.workflows.judge import interval, told_of
from imagier.workflows.segment import read
from imagier.workflows.train import pictures

if TYPE_CHECKING:
    from imagier.models.model import Model

WORST = 10
NAMES = {
    "image_auroc": "image AUROC", "average_precision": "average precision", "f1": "F1 at the line",
    "false_reject": "good ones taken for bad", "miss": "bad ones taken for good", "pixel_auroc": "pixel AUROC",
    "pro": "per-region overlap (PRO, to 30 %)", "dice": "Dice of defects, mean over bad images",
}  # fmt: skip
DEFECT = "defect"


@dataclass(frozen=True)
class Inspection:
    """How well an inspector does."""

    model: str
    rule: Rule
    names: Sequence[str]
    """Of the images, below their folders."""
    kinds: Sequence[str]
    """Of defect: the folder that a bad image lies in; "" of good ones."""
    bad: np.ndarray
    """(n,) bool."""
    scores: np.ndarray
    """(n,)"""
    places: Mapping[str, judging.Measured]
    """Measures of where defects are; none without masks."""

    @cached_property
    def told(self) -> dict[str, Any]:
        """JSON values: each measure {"mean", "ci95", "n"}, over all and by kind; None for what cannot be measured."""
        line = self.rule.line
        made: dict[str, Any] = {"model": self.model, "images": len(self.bad), "good": int((~self.bad).sum())}
        made |= {"threshold": line.threshold}
        made |= {"false_reject_expected": {"mean": line.rate, "ci95": list(line.ci95), "n": line.held}}
        made |= {name: told_of(each) for name, each in self._measures(np.ones(len(self.bad), bool)).items()}
        made |= {name: told_of(each) for name, each in self.places.items()}
        kinds = sorted(set(self.kinds) - {""})
        if len(kinds) > 1:
            of = np.array(self.kinds)
            chosen = {kind: ~self.bad | (of == kind) for kind in kinds}
            made["kinds"] = {
                kind: {name: told_of(each) for name, each in self._measures(which).items()
                       if name in ("image_auroc", "average_precision", "miss")}
                for kind, which in chosen.items()
            }  # fmt: skip
        made["misses"] = [self._row(at) for at in self.misses()]
        made["false_alarms"] = [self._row(at) for at in self.false_alarms()]
        return made

    def _measures(self, which: np.ndarray) -> dict[str, judging.Measured]:
        bad, scores = self.bad[which], self.scores[which]
        told = scores > self.rule.line.threshold
        weights = judging.resampled(len(bad))

        def share(of: np.ndarray, among: np.ndarray) -> judging.Measured:
            return judging.measured(lambda w: (w @ (of & among)) / (w @ among), weights, int(among.sum()))

        def f1(w: np.ndarray) -> np.ndarray:
            return np.asarray(2 * (w @ (told & bad)) / (w @ told.astype(float) + w @ bad.astype(float)))

        return {
            "image_auroc": judging.measured(lambda w: judging.weighted_auroc(scores, bad, w), weights),
            "average_precision": judging.measured(lambda w: judging.average_precision(scores, bad, w), weights),
            "f1": judging.measured(f1, weights),
            "false_reject": share(told, ~bad),
            "miss": share(~told, bad),
        }

    def misses(self) -> list[int]:
        """Places of bad ones taken for good, the least strange first."""
        wrong = self.bad & (self.scores <= self.rule.line.threshold)
        return [int(at) for at in np.argsort(self.scores, kind="stable") if wrong[at]][:WORST]

    def false_alarms(self) -> list[int]:
        """Places of good ones taken for bad, the strangest first."""
        wrong = ~self.bad & (self.scores > self.rule.line.threshold)
        return [int(at) for at in np.argsort(-self.scores, kind="stable") if wrong[at]][:WORST]

    def _row(self, at: int) -> dict[str, Any]:
        made: dict[str, Any] = {"file": self.names[at], "score": round(float(self.scores[at]), 4)}
        return made | ({"kind": self.kinds[at]} if self.kinds[at] else {})

    def lines(self) -> list[str]:
        """For a person."""
        told, line = self.told, self.rule.line
        lines = [f"{told['good']} good images, {told['images'] - told['good']} bad ones"]
        for name, words in NAMES.items():
            if name in told and told[name]["mean"] is not None:
                lines.append(f"{words} {told[name]['mean']:.3f} ({interval(told[name])}, n = {told[name]['n']})")
        low, high = line.ci95
        lines.append(
            f"the line at {line.threshold:.3f} was to take {line.rate:.1%} of good ones for bad (95 % interval "
            f"{low:.1%} to {high:.1%}, by {line.held} held-out ones)"
        )
        for kind, of in told.get("kinds", {}).items():
            lines.append(
                f"{kind}: image AUROC {of['image_auroc']['mean']:.3f}, missed {of['miss']['mean']:.3f} "
                f"(n = {of['miss']['n']})"
            )
        return lines


def inspector(
    model: Model,
    *,
    good: Path,
    bad: Path,
    masks: Path | None = None,
    rate: float = RATE,
    page: Path | None = None,
    progress: bool = True,
) -> Inspection:
    """Judge an inspector.

    bad: images, or a folder a kind of defect. masks: of the bad ones, called as they are; one without is not judged by
    where. rate: of good parts that may be taken for bad. page: a file for a page with the worst images. Raises
    SettingError, SourceError, ModelError, ImageError.
    """
    from imagier.training import truth as truths

    rule = rule_of(model, rate)
    roots, listed = zip(*(pictures(each) for each in (good, bad)), strict=True)
    if both := set(listed[0]) & set(listed[1]):
        raise SettingError(f"{min(both)} is among the good ones and the bad ones: name folders that hold one kind each")
    truth = None if masks is None else truths.folders(listed[1], roots[1], {DEFECT: masks})
    paths = [*listed[0], *listed[1]]
    is_bad = np.repeat([False, True], [len(listed[0]), len(listed[1])])
    look = inspect_by(model, threads=os.cpu_count())
    seen: list[Looked] = []
    sizes: list[tuple[int, int]] = []
    with _progress.bar(len(paths), progress, what="judging") as bar:
        for at in range(0, len(paths), BATCH):
            given = [read(path) for path in paths[at : at + BATCH]]
            for path, image in zip(paths[at : at + BATCH], given, strict=True):
                if truth is not None and path in truth.draw:
                    truth.draw[path](*image.shape[:2])  # what does not fit is said now, and not at the end
            seen += _seen(look, paths[at : at + BATCH], given)
            sizes += [image.shape[:2] for image in given]
            bar.update(len(given))

    def inside(at: int) -> np.ndarray | None:
        """What is truly wrong in an image, (h, w) bool; None where nobody said."""
        if not is_bad[at]:
            return np.zeros(sizes[at], bool)
        if truth is None or paths[at] not in truth.draw:
            return None
        return np.asarray(truth.draw[paths[at]](*sizes[at]).inside[:, :, 0])

    names = [path.relative_to(roots[int(of)]).as_posix() for path, of in zip(paths, is_bad, strict=True)]
    kinds = [_kind(path, roots[1]) if of else "" for path, of in zip(paths, is_bad, strict=True)]
    places = {} if truth is None else _places(rule, seen, sizes, is_bad, inside)
    scores = np.array([each.score for each in seen])
    made = Inspection(model.card.name, rule, names, kinds, is_bad, scores, places)
    if page is not None:
        _write_page(page, made, paths, seen, inside)
    return made


def _seen(look: Any, paths: Sequence[Path], given: Sequence[Image]) -> list[Looked]:
    """As `look` has it. Raises ImageError, with the file's name, for one that holds no part."""
    try:
        return list(look(given))
    except ImageError as error:
        if len(paths) == 1:
            raise ImageError(f"{paths[0]}: {error}") from error
        return [seen for at, path in enumerate(paths) for seen in _seen(look, [path], given[at : at + 1])]


def _kind(path: Path, root: Path) -> str:
    """The folder below `root` that a bad image lies in."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else DEFECT


def _places(
    rule: Rule,
    seen: Sequence[Looked],
    sizes: Sequence[tuple[int, int]],
    is_bad: np.ndarray,
    inside: Callable[[int], np.ndarray | None],
) -> dict[str, judging.Measured]:
    """How well defects are placed."""
    dices: list[float] = []

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at, (looked, size) in enumerate(zip(seen, sizes, strict=True)):
            true = inside(at)
            if true is None:
                continue
            told = rule.say(looked, *size)
            if is_bad[at] and true.any():
                dices.append(fit(told.defects > 0, true).dice)
            yield told.heat, true

    made = localising.measured(localising.histograms(pairs(), localising.edges(each.heat for each in seen)))
    values = np.array(dices)
    if len(values):
        weights = judging.resampled(len(values))
        made["dice"] = judging.measured(lambda w: w @ values / w.sum(1), weights)
    return made


def _write_page(
    page: Path,
    of: Inspection,
    paths: Sequence[Path],
    seen: Sequence[Looked],
    inside: Callable[[int], np.ndarray | None],
) -> None:
    from imagier.models.preprocess import in_colour
    from imagier.outputs import plots_classes as plots
    from imagier.outputs.evaluation import BOTH, Row, tinted, write_page
    from imagier.outputs.heat import overlay

    def row(at: int) -> Row:
        image: Image = in_colour(read(paths[at]), "rgb")
        told = of.rule.say(seen[at], *image.shape[:2])
        shown: dict[str, Image] = {"image": image}
        true = inside(at)
        if true is not None and true.any():
            shown["truth"] = tinted(image, true, BOTH)
        shown["heat"] = overlay(image, told.heat / max(of.rule.spot, 1e-12), told.defects)
        what = of.kinds[at] or "good"
        return Row(of.names[at], f"{what}, taken for {'bad' if told.bad else 'good'}, score {told.score:.3f}", shown)

    rows = [row(at) for at in (*of.misses(), *of.false_alarms())]
    figures = [
        (
            "Scores, and the line",
            lambda theme: plots.scores(of.scores, [kind or "good" for kind in of.kinds], of.rule.line.threshold, theme),
        )
    ]
    write_page(page, of.told, of.lines(), rows, figures=figures)
