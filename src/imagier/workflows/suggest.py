"""Which items of a collection to label next, and which labels to look at again.

`suggest` names items that a classifier is unsure of and that differ from one another. `gained` tells, on a collection
whose labels are known, what that is worth beside labelling at random. `doubtful` names labels that are likely wrong, by
confident learning (Northcutt et al., Confident Learning: Estimating Uncertainty in Dataset Labels, 2021; cleanlab).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.algorithms import active
from imagier.algorithms import confidence as measures
from imagier.algorithms.novelty import unit
from imagier.collection import write_whole
from imagier.types import SettingError
from imagier.workflows._items import EMBEDDING, bundled, check_encoder, vectors_of

if TYPE_CHECKING:
    from imagier.collection import Collection

FOLDS = 5
STARTS = 2
"""Items of each class that are labelled before the first suggestion, where `gained` tries it."""
HELD = 2
"""Of the folds, those that `gained` judges by."""


@dataclass(frozen=True)
class Suggested:
    """An item that is worth a person's look."""

    id: str
    path: str
    told: Mapping[str, Any]
    """What is said of it: label and confidence; for a doubtful one the label that it has, and the likelier one."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"id": self.id, "path": self.path, **self.told}


def write_json(told: Any, path: Path | None) -> None:
    """Write JSON values, where a file is named. Raises CollectionError where it cannot be written."""
    if path is not None:
        write_whole(path, json.dumps(told, indent=1, ensure_ascii=False).encode() + b"\n")


def suggest(
    collection: Collection, *, model: str | os.PathLike[str], n: int = 50, labelled: str | None = None
) -> list[Suggested]:
    """Which items to label next, the worthiest first; items that are labelled already are left out.

    model: a classifier that goes by this collection's embedding, a head. labelled: the column of labels that count.
    Raises SettingError, ModelError.
    """
    from imagier.models.classifying import confidence_of, head_of
    from imagier.models.store import find

    found = find(os.fspath(model), "classify")
    if found.card.head is None or found.card.head.columns:
        raise SettingError(f"{os.fspath(model)} is no head on an embedding alone: imagier train classifier makes one")
    check_encoder(collection, found.card.head.sha256, found.card.head.encoder)
    ids, paths, vectors, labels = _items(collection, labelled)
    free = np.flatnonzero([not each for each in labels])
    if not len(free):
        raise SettingError(f"every item has a label in {labelled}: there is nothing to suggest")
    known = np.array([bool(each) for each in labels])
    shares = measures.shares(head_of(found)(vectors).logits, confidence_of(found).temperature)
    unsure = active.uncertainty(shares)
    chosen = free[active.choose(vectors[free], unsure[free], n, vectors[known])]
    return [
        Suggested(
            ids[at],
            paths[at],
            {
                "label": found.card.labels[int(shares[at].argmax())],
                "confidence": round(float(shares[at].max()), 4),
                "uncertainty": round(float(unsure[at]), 4),
            },
        )
        for at in chosen
    ]


def doubtful(collection: Collection, *, by: str, n: int = 50) -> list[Suggested]:
    """Which labels are likely wrong, the most likely first: of each item what the others' labels say of it.

    by: the column of labels. Raises SettingError where it tells no two classes apart, each of FOLDS items or more.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    ids, paths, vectors, labels = _items(collection, by)
    names, true, rows = _classes(labels, by)
    bundles = bundled(collection, [ids[at] for at in rows])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rounds
        shares = cross_val_predict(_head(), vectors[rows], true, groups=bundles, cv=folds, method="predict_proba")
    wrong = find_label_issues(true, shares, n_jobs=1)
    quality = get_label_quality_scores(true, shares)
    order = [int(at) for at in np.argsort(quality, kind="stable") if wrong[at]][:n]
    return [
        Suggested(
            ids[rows[at]],
            paths[rows[at]],
            {
                by: names[true[at]],
                "likelier": names[int(shares[at].argmax())],
                "quality": round(float(quality[at]), 4),
            },
        )
        for at in order
    ]


@dataclass(frozen=True)
class Gained:
    """Accuracy on held-out items by how many are labelled: by suggestion, and at random."""

    counts: tuple[int, ...]
    suggested: np.ndarray
    """(rounds, seeds) balanced accuracy."""
    random: np.ndarray

    def needed(self) -> float | None:
        """The share of its labels with which suggestions reach what random choice ends with; None: they do not."""
        end = self.random.mean(1)[-1]
        there = np.flatnonzero(self.suggested.mean(1) >= end)
        return self.counts[there[0]] / self.counts[-1] if len(there) else None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "labels": list(self.counts),
            "suggested": [round(float(each), 4) for each in self.suggested.mean(1)],
            "random": [round(float(each), 4) for each in self.random.mean(1)],
            "share_needed": self.needed(),
        }


def gained(collection: Collection, *, by: str, n: int = 10, rounds: int = 15, seeds: int = 5) -> Gained:
    """What suggestions gain over random choice on this collection, whose labels are known.

    A part of the items judges. Of the others STARTS of each class are labelled; then, `rounds` times, n more, by
    suggestion or at random, and a head learns anew. by: the column of labels. Raises SettingError.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    ids, _, vectors, labels = _items(collection, by)
    names, true, rows = _classes(labels, by)
    vectors, bundles = vectors[rows], bundled(collection, [ids[at] for at in rows])
    rounds = min(rounds, (int(len(true) * (1 - HELD / FOLDS)) - STARTS * len(names)) // n)
    if rounds < 1:
        raise SettingError(f"{by}: {len(true)} labelled items are too few to try {n} at a time: give a smaller -n")
    curves: dict[str, list[list[float]]] = {"suggested": [], "random": []}
    counts: list[int] = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(true, true, bundles)
        held = np.concatenate([test for _, test in list(folds)[:HELD]])
        pool = np.setdiff1d(np.arange(len(true)), held)
        start = [int(at) for each in range(len(names)) for at in rng.choice(pool[true[pool] == each], STARTS, False)]
        for way, curve in curves.items():
            chosen, scores, counts = list(start), [], []
            for round_ in range(rounds + 1):
                head = _head()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    head.fit(vectors[chosen], true[chosen])
                scores.append(float(balanced_accuracy_score(true[held], head.predict(vectors[held]))))
                counts.append(len(chosen))
                if round_ == rounds:
                    break
                left = np.setdiff1d(pool, chosen)
                if way == "random":
                    more = rng.permutation(left)[:n]
                else:
                    unsure = active.uncertainty(head.predict_proba(vectors[left]))
                    more = left[active.choose(vectors[left], unsure, n, vectors[chosen])]
                chosen += [int(at) for at in more]
            curve.append(scores)
    made = {way: np.array(curve).T for way, curve in curves.items()}
    return Gained(tuple(counts), made["suggested"], made["random"])


def _head() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=300))


def _items(collection: Collection, labels: str | None) -> tuple[list[str], list[str], np.ndarray, list[str]]:
    """Ids, paths, vectors (n, d) and labels ("" for none) of the items that have an embedding."""
    own = [] if labels is None else [labels]
    table, vectors = vectors_of(collection.read(list(dict.fromkeys(["id", "path", EMBEDDING, *own]))))
    if not table.num_rows:
        raise SettingError(f"{collection.folder} has no item with an embedding")
    ids, paths = (table[name].to_pylist() for name in ("id", "path"))
    told = [""] * len(ids)
    if labels is not None:
        told = ["" if each is None else str(each) for each in table[labels].to_pylist()]
    named = [path or item for path, item in zip(paths, ids, strict=True)]
    return ids, named, unit(vectors), told


def _classes(labels: Sequence[str], by: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, classes (m,) int, and rows of those that are labelled. Raises SettingError for too few."""
    given = np.array(labels, dtype=str)
    rows = np.flatnonzero(given != "")
    names, true = np.unique(given[rows], return_inverse=True)
    if len(names) < 2:
        raise SettingError(f"{by} tells no two classes apart")
    counts = np.bincount(true)
    if counts.min() < FOLDS:
        raise SettingError(f"{by}: {names[counts.argmin()]!r} has {counts.min()} items, and {FOLDS} or more are needed")
    return [str(each) for each in names], true, rows
