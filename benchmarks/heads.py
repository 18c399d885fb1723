"""Heads by cross-validation, beside 5-NN on the same embedding; calibration and sets over all folds together.

    python benchmarks/heads.py --data ../shared/data/metal_nut
    python benchmarks/heads.py --images D/images --labels D/labels.csv:label --groups D/labels.csv:lesion_id

Each fold is judged once; of the other four, one fifth calibrates. Groups and near copies are in one fold.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier

from imagier.algorithms import confidence, judging
from imagier.algorithms.confidence import LEVEL
from imagier.models.classifying import confidence_of, embedder, head_of
from imagier.models.store import find
from imagier.training.config import parse_setting
from imagier.training.labelled import column
from imagier.training.samples import looked_at
from imagier.training.splits import Split, together
from imagier.workflows import train
from imagier.workflows.segment import read

FOLDS = 5


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels")
    parser.add_argument("--groups")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args()
    labels = train.Labels(data=given.data, images=given.images, labels=given.labels)
    settings = dict(parse_setting(each) for each in given.settings)
    root, found = labels.read()
    true = np.array([found.classes.index(each) for each in found.labels])
    groups = None if given.groups is None else column(given.groups, root, found.paths, "--groups")
    samples = looked_at(found.paths, lambda *_: (), lambda _: None)
    small, phash = np.stack([each.small for each in samples]), np.array([each.phash for each in samples], np.uint64)
    hashes = [each.sha256 for each in samples]
    joined = together(hashes, small, phash, groups)
    embed = embedder(find(str(settings.get("model", "builtin")), "embed"))
    vectors = np.concatenate([embed([read(path)]) for path in found.paths])
    shares, sets = np.zeros((len(true), len(found.classes))), np.zeros((len(true), len(found.classes)), bool)
    known, near = np.zeros(len(true), bool), np.zeros(len(true), int)
    fold = np.zeros(len(true), int)
    for at, (_, held) in enumerate(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(true, true, joined)):
        fold[held] = at
    with tempfile.TemporaryDirectory() as folder:
        for at in range(FOLDS):
            rest = np.flatnonzero(fold != at)
            inner = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=1).split(rest, true[rest], joined[rest])
            val = set(rest[next(iter(inner))[1]].tolist())
            part = ["test" if of == at else "val" if place in val else "train" for place, of in enumerate(fold)]
            path = Path(folder) / f"split{at}.json"
            path.write_bytes(Split(dict(zip(hashes, part, strict=True)), (0.64, 0.16, 0.2)).encoded())
            model = train.classifier(
                labels=labels, into=Path(folder) / f"m{at}", settings=settings, split=path, progress=False
            )
            held = fold == at
            said = confidence_of(model).say(head_of(model)(vectors[held]))
            assert said.sets is not None
            shares[held], sets[held] = said.shares, said.sets
            known[held] = True if said.known is None else said.known  # of too few images nothing is refused
            near[held] = KNeighborsClassifier(FOLDS).fit(vectors[~held], true[~held]).predict(vectors[held])
    weights = judging.resampled(len(true))
    for name, told in (("head", shares.argmax(1)), ("5-NN", near)):
        made = judging.measured(
            lambda w, told=told: judging.over_classes(
                judging.recall(judging.counts(true, told, len(found.classes), w))
            ),
            weights,
        )
        print(f"{name}: balanced accuracy {made.mean:.3f} ({made.ci95[0]:.3f} to {made.ci95[1]:.3f})")
    right = shares.argmax(1) == true
    floor = [
        confidence.reliability(shares.max(1), np.random.default_rng(seed).random(len(true)) < shares.max(1)).ece
        for seed in range(200)
    ]
    ece = confidence.reliability(shares.max(1), right).ece
    covered = sets[np.arange(len(true)), true].mean()
    print(
        f"accuracy {right.mean():.3f}; ECE {ece:.3f} ({np.mean(floor):.3f} is as good as exact); sets for "
        f"{LEVEL:.0%} cover {covered:.3f} with {sets.sum(1).mean():.2f} classes; refused {(~known).mean():.3f}"
    )
    for at, label in enumerate(found.classes):
        inside = true == at
        print(
            f"{label}: {inside.sum()} images, right {right[inside].mean():.3f}, covered {sets[inside, at].mean():.3f}, "
            f"{sets[inside].sum(1).mean():.2f} classes a set"
        )


if __name__ == "__main__":
    main()
