"""Confidence: what a classifier's Model folder holds beside its network, fitted on images that were not learnt from."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from imagier.algorithms import confidence as measures
from imagier.algorithms import novelty
from imagier.algorithms.confidence import REFUSED
from imagier.models.classifying import Confidence, Seen
from imagier.models.model import Card, File, Role, to_write

Shares = np.ndarray
"""(n, k) float: 1 for an image's own class."""


def weights_of(shares: Shares) -> np.ndarray:
    """What an image of each class counts, (k,), so that classes count alike and the mean over images is 1."""
    counts = shares.sum(0)
    made: np.ndarray = len(shares) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return made


def assured(
    card: Card,
    learnt: Seen,
    classes: np.ndarray,
    held: Seen,
    held_classes: np.ndarray,
    seed: int,
    about: bytes | None,
    folds: np.ndarray | None = None,
) -> tuple[Card, Mapping[Role, bytes]]:
    """The card with its calibration, and the files that go with it.

    learnt, classes (n,) int: of images that were learnt from. held, held_classes: of those that were not.
    folds (n,) int: where the features are an encoder's that has not learnt from these images, they tell as well how
    strange known images are, each fold's beside the distribution of the others.
    """
    temperature = measures.fit_temperature(held.logits, held_classes)
    shares = measures.shares(held.logits, temperature)
    distribution, found = novelty.choose(
        learnt.features, classes, held.features, held_classes, held.logits / temperature, seed
    )
    known = distribution.strangeness(held.features, held.logits / temperature)
    if folds is not None and distribution.arrays:  # energy has none: it is of logits, which were learnt
        known = np.concatenate([known, *_crossed(distribution.method, learnt.features, classes, folds, seed)])
    covering = measures.covering(shares, held_classes)
    told = "AUROC of classes left out, on the validation part: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items())
    if enough := REFUSED * (len(known) + 1) >= 1:
        trust = Confidence(temperature, covering, distribution, known.astype(np.float32))
    else:
        trust = Confidence(temperature, covering)
        told = f"{len(known)} images are too few to tell what is unknown by"
    files: dict[Role, bytes] = {"confidence": trust.encoded()}
    names = {"confidence": "confidence.npz"}
    if about is not None:
        files["about"], names["about"] = about, "labels.yaml"
    entries: dict[Role, File] = card.files | to_write(**names)
    made = msgspec.structs.replace(
        card,
        calibration={"temperature": temperature},
        novelty=distribution.method if enough else None,
        notes=" ".join(filter(None, [card.notes, f"{told}."])),
        files=entries,
    )
    return made, files


def _crossed(method: str, features: np.ndarray, classes: np.ndarray, folds: np.ndarray, seed: int) -> list[np.ndarray]:
    """How strange the items of each fold are beside those of the others; of a fold whose classes they lack, nothing."""
    made = []
    for each in np.unique(folds):
        inside = folds == each
        there = np.isin(classes[inside], classes[~inside])
        if there.any():
            arrays = novelty.METHODS[method].fit(features[~inside], classes[~inside], seed)
            held = features[inside][there]
            made.append(novelty.Distribution(method, arrays).strangeness(held, np.zeros((len(held), 1))))
    return made
