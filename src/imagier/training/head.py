"""A head: a few layers on the embedding of an encoder that stays as it is. Seconds on a processor, without torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagier.algorithms.confidence import log_loss
from imagier.models.classifying import BATCH, applied, embedder, network_sha, packed
from imagier.models.model import Card, Head, Model, Output, to_write, write_model
from imagier.training import config as configs
from imagier.training.assured import assured, weights_of
from imagier.training.samples import Sample, came_about, eight_bit
from imagier.training.splits import Split

STRENGTHS = tuple(10.0**at for at in (-4, -3, -2, -1, 0, 1))
"""Of the inverse of L2: the one that does best on the validation part is taken."""
ROUNDS = 300
FOLDS = 5
"""Of what was learnt from, to tell how strange known images are."""


@dataclass(frozen=True)
class HeadPlan:
    """All that is needed, checked."""

    config: configs.Head
    encoder: Model
    samples: Sequence[Sample]
    split: Split
    joined: np.ndarray
    """(n,) int: images of one number are copies, or of one group."""
    into: Path
    classes: tuple[str, ...]
    vectors: np.ndarray | None = None
    """(n, d) float32, of the samples, where they are known already; else images are read and embedded."""
    columns: tuple[str, ...] = ()
    """What stands in the vectors after the embedding."""
    about: bytes | None = None


Tell = Callable[[int], None]


def train(plan: HeadPlan, tell: Tell) -> Model:
    """Fit, and write the Model folder. tell: called with how many images were embedded. Raises ModelError."""
    config = plan.config
    shares = np.array([each.shares for each in plan.samples])
    true = shares.argmax(1)
    parts = plan.split.of([each.sha256 for each in plan.samples])
    if plan.vectors is None:
        turned = views(config.views)
        seen = embedded(plan.encoder, plan.samples, turned, tell)
        vectors, more = seen[:, 0], seen[:, 1:]
    else:
        vectors, more = plan.vectors, np.zeros((len(true), 0, plan.vectors.shape[1]), np.float32)
    in_train, in_val = (np.flatnonzero(parts == name) for name in ("train", "val"))
    learnt = np.concatenate([vectors[in_train], more[in_train].reshape(-1, vectors.shape[1])])
    learnt_true = np.concatenate([true[in_train], np.repeat(true[in_train], more.shape[1])])
    arrays = fitted(config, learnt, learnt_true, vectors[in_val], true[in_val], len(plan.classes))
    source, records = came_about(config, plan.split, plan.samples)
    embedding = plan.encoder.card
    card = Card(
        name=plan.into.name,
        task="classify",
        architecture="head",
        input=embedding.input,
        outputs={"logits": Output(tensors=("logits",), form="logits", width=len(plan.classes))},
        labels=plan.classes,
        head=Head(encoder=embedding.name, sha256=network_sha(plan.encoder), columns=plan.columns),
        licence="unknown",
        source=source,
        files=to_write(head="head.npz", split="split.json", training="training.yaml"),
    )
    look = applied(arrays, card.name)
    bundles, which = np.unique(plan.joined[in_train], return_inverse=True)
    folds = np.random.default_rng(config.seed).permutation(len(bundles)) % FOLDS
    card, files = assured(
        card, look(vectors[in_train]), true[in_train], look(vectors[in_val]), true[in_val], config.seed, plan.about,
        folds[which],
    )  # fmt: skip
    return write_model(plan.into, card, {"head": packed(arrays), **records, **files}, replace=True)


def views(name: str) -> Sequence[Callable[[np.ndarray], np.ndarray]]:
    """How an image is shown, the first time as it is."""
    if name == "none":
        return [lambda image: image]
    return [
        lambda image, turns=turns, mirrored=mirrored: np.ascontiguousarray(  # type: ignore[misc]
            np.rot90(image[:, ::-1] if mirrored else image, turns)
        )
        for mirrored in (False, True)
        for turns in range(4)
    ]


def embedded(encoder: Model, samples: Sequence[Sample], turned: Sequence[Any], tell: Tell) -> np.ndarray:
    """(n, views, d) float32."""
    embed = embedder(encoder)
    made = []
    for at in range(0, len(samples), BATCH):
        images = [eight_bit(each.path.read_bytes()) for each in samples[at : at + BATCH]]
        made.append(np.stack([embed([view(image) for image in images]) for view in turned], axis=1))
        tell(len(images))
    return np.concatenate(made)


def fitted(
    config: configs.Head, vectors: np.ndarray, true: np.ndarray, held: np.ndarray, held_true: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """The head's arrays, as its file holds them: the strength of L2 that does best on what is held out is taken."""
    finite = np.where(np.isfinite(vectors), vectors, np.nan)
    mean = np.nan_to_num(np.nanmean(finite, axis=0))
    std = np.nan_to_num(np.nanstd(finite, axis=0))
    std = np.where(std > 1e-6, std, 1.0)
    scaled = np.nan_to_num((finite - mean) / std)
    if config.balance == "oversample":
        counts = np.bincount(true, minlength=classes)
        rng = np.random.default_rng(config.seed)
        extra = [rng.choice(np.flatnonzero(true == at), counts.max() - counts[at]) for at in np.unique(true)]
        places = np.concatenate([np.arange(len(true)), *extra])
        scaled, true = scaled[places], true[places]
    weights = np.ones(len(true))
    if config.balance == "weights":
        weights = weights_of(np.eye(classes)[true])[true]
    best: tuple[tuple[float, float], dict[str, np.ndarray]] | None = None
    for strength in STRENGTHS:
        arrays = {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}
        layers = (_dense if config.hidden else _linear)(config, strength, scaled, true, weights)
        for at, (weight, bias) in enumerate(layers):
            arrays |= {f"weight{at}": weight.astype(np.float32), f"bias{at}": bias.astype(np.float32)}
        logits = applied(arrays, "the head")(held).logits
        score = (_score(config.choose, logits.argmax(1), held_true), -log_loss(logits, held_true))
        if best is None or score > best[0]:
            best = score, arrays
    assert best is not None
    return best[1]


def _score(choose: str, told: np.ndarray, true: np.ndarray) -> float:
    right = told == true
    if choose == "accuracy":
        return float(right.mean())
    return float(np.mean([right[true == each].mean() for each in np.unique(true)]))


Layers = list[tuple[np.ndarray, np.ndarray]]


def _linear(
    config: configs.Head, strength: float, vectors: np.ndarray, true: np.ndarray, weights: np.ndarray
) -> Layers:
    from sklearn.linear_model import LogisticRegression

    made = LogisticRegression(C=strength, max_iter=ROUNDS, random_state=config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the weakest, that more rounds would change the last digits
        made.fit(vectors, true, sample_weight=weights)
    return [_whole(made.coef_.T, made.intercept_)]


def _dense(config: configs.Head, strength: float, vectors: np.ndarray, true: np.ndarray, weights: np.ndarray) -> Layers:
    from sklearn.neural_network import MLPClassifier

    made = MLPClassifier(
        (config.hidden,), alpha=1 / strength, max_iter=100, random_state=config.seed, learning_rate_init=1e-3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.fit(vectors, true, sample_weight=weights)
    first, last = zip(made.coefs_, made.intercepts_, strict=True)
    return [first, _whole(*last)]


def _whole(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A layer with an output a class: of two classes scikit-learn keeps the second one's alone."""
    if weight.shape[1] > 1:
        return weight, bias
    return np.concatenate([-weight / 2, weight / 2], 1), np.concatenate([-bias / 2, bias / 2])
