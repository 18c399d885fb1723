"""The inspector: good parts to a Model folder that tells how unlike them an image is, and where. Without torch.

The line between good and bad is drawn by parts that were not learnt from: of few, each is judged by what was learnt
from the others; of many, some are held out. Where some of what is learnt from may be bad, a first round says which are
least like the others, and these are left out of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from imagier.algorithms import anomaly, posing
from imagier.models.classifying import network_sha, packed
from imagier.models.inspecting import BATCH, Memory, judged, part_of, seer
from imagier.models.model import Card, Inspector, Model, to_write, write_model
from imagier.training import config as configs
from imagier.training.head import views
from imagier.training.samples import Sample, eight_bit
from imagier.types import Image, SettingError

FEW = 500
"""Up to so many every image is judged by what was learnt from the others, in FOLDS; of more a share is held out."""
FOLDS = 5
HELD = 0.2
MOST_HELD = 1000
CACHE = 400_000_000
"""Bytes of features that are kept, so that an image need not be seen again for every fold."""
TURNS = 24
"""Angles that a part is shown at."""


@dataclass(frozen=True)
class InspectorPlan:
    """All that is needed, checked."""

    config: configs.Inspector
    encoder: Model
    samples: Sequence[Sample]
    """What is learnt from: good, but for `config.bad`."""
    joined: np.ndarray
    """(n,) int: images of one number are near copies."""
    bad: Sequence[Path]
    """Images that are known to be bad, for a probability; may be none."""
    into: Path


Tell = Callable[[int], None]
"""Called with how many images were seen."""


def train(plan: InspectorPlan, tell: Tell) -> Model:
    """Learn, draw the line, and write the Model folder. Raises SettingError, ModelError, ImageError."""
    config, told = plan.config, told_of(plan)
    stream = Stream(plan, told, tell)
    fewest = anomaly.METHODS[config.method].fewest
    order = np.random.default_rng(config.seed).permutation(len(plan.samples))
    folds = folds_of(plan.joined, order, len(order) > FEW and not config.bad, fewest)
    if config.bad:
        strange = np.array([each.score for each in across(stream, order, folds).values()])
        left_out = int(np.ceil(config.bad * len(order)))
        told = msgspec.structs.replace(told, left_out=left_out / len(order))
        order = order[np.isin(order, np.argsort(strange)[: len(order) - left_out])]
        folds = folds_of(plan.joined, order, len(order) > FEW, fewest)
    found = across(stream, order, folds)
    learnt = order[folds[order] >= 0]
    arrays = stream.fit(learnt)
    held = list(found.values())
    if min(each.peak for each in held) <= 0 < config.bleed:
        raise SettingError(
            f"bleed={config.bleed:g} takes off all heat that smooth={config.smooth:g} leaves of a good part, so that "
            "no place could be told from others: lower one of them"
        )
    middles = np.array([each.middle for each in held])
    memory = Memory(
        arrays,
        np.array([each.score for each in held]),
        np.array([each.peak for each in held]),
        np.stack([middles.mean(0), middles.std(0)]).astype(np.float32),
        stream.reference,
    )
    calibration = None
    if plan.bad:
        of_bad = stream.judge_files(arrays, plan.bad)
        calibration = logistic(memory.held, of_bad)
    left = f", {len(plan.samples) - len(order)} least like the others left out" if config.bad else ""
    card = Card(
        name=plan.into.name,
        task="inspect",
        architecture=told.method,
        input=plan.encoder.card.input,
        outputs={},
        inspector=told,
        calibration=calibration,
        licence="unknown",
        source=f"imagier train inspector, seed {config.seed}; {len(plan.samples)} images{left}; {len(held)} held out",
        files=to_write(memory="memory.npz", training="training.yaml"),
    )
    files = {"memory": packed(memory.encoded()), "training": msgspec.yaml.encode(config)}
    return write_model(plan.into, card, files, replace=True)  # type: ignore[arg-type]


def told_of(plan: InspectorPlan) -> Inspector:
    """What the card will say."""
    config, encoder = plan.config, plan.encoder
    whole = anomaly.METHODS[config.method].whole
    size = config.size or encoder.card.input.size
    assert size is not None
    if config.turned and size[0] != size[1]:
        raise SettingError(f"turned parts lie on a square, and the encoder takes {size[1]} x {size[0]}: give a size")
    return Inspector(
        encoder=encoder.card.name,
        sha256=network_sha(encoder),
        method=config.method,
        maps=() if whole else config.maps,
        size=size,
        fit=config.fit,
        turned=config.turned,
        around=config.around,
        neighbours=config.neighbours,
        hottest=config.hottest,
        smooth=config.smooth,
        bleed=config.bleed,
    )


def folds_of(joined: np.ndarray, order: np.ndarray, many: bool, fewest: int) -> np.ndarray:
    """Of each image the fold that it is judged in, (n,) int; bundles of near copies stay together.

    many: one fold alone is judged, by all others, and is then not learnt from: it is -1, which none of the rest is.
    Images that are not in `order` are -2. Raises SettingError for fewer bundles than `fewest`.
    """
    made = np.full(len(joined), -2)
    _, which = np.unique(joined[order], return_inverse=True)
    first = np.full(which.max(initial=-1) + 1, -1)
    count = 0
    for each in which:  # in the order of chance
        if first[each] < 0:
            first[each], count = count, count + 1
    if count < fewest:
        raise SettingError(
            f"too few images that differ, {count} among {len(order)} that are left to learn from: {fewest} or more are "
            "needed, to learn from some and to draw the line by the others"
        )
    wanted = min(MOST_HELD, HELD * len(order))
    sums = np.cumsum(np.bincount(first[which]))
    places = int(np.searchsorted(sums, wanted)) + 1
    # Of a few large bundles one may be all there is: those are judged by folds, however many images they hold.
    if many and sums[min(places, count) - 1] <= 2 * wanted:
        made[order] = np.where(first[which] < places, -1, 0)
    else:
        made[order] = first[which] % min(FOLDS, count)
    return made


@dataclass(frozen=True)
class Judged:
    """What is kept of an image that was judged."""

    score: float
    peak: float
    middle: np.ndarray
    """(c,) float32."""


def across(stream: Stream, order: np.ndarray, folds: np.ndarray) -> dict[int, Judged]:
    """Images beside what was learnt from those of other folds, by place, in the order of places."""
    made: dict[int, Judged] = {}
    of = folds[order]
    apart = bool((of == -1).any())
    for each in (-1,) if apart else np.unique(of):
        learnt, held = order[of != each], order[of == each]
        arrays = stream.fit(learnt, 1.0 if apart else len(learnt) / len(order))
        made |= zip(map(int, held), stream.judge(arrays, held), strict=True)
    return dict(sorted(made.items()))


def logistic(good: np.ndarray, bad: np.ndarray) -> dict[str, float]:
    """Slope and intercept of the probability that a part of a score is bad, as if one in two were (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    scores = np.concatenate([good, bad])
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    made = LogisticRegression(class_weight="balanced").fit(
        ((scores - middle) / spread)[:, None], np.repeat([0, 1], [len(good), len(bad)])
    )
    slope = float(made.coef_[0, 0]) / spread
    return {"slope": slope, "intercept": float(made.intercept_[0]) - slope * middle}


@dataclass
class Stream:
    """Features of images, seen a few at a time, and kept where they are few."""

    plan: InspectorPlan
    told: Inspector
    tell: Tell
    reference: np.ndarray | None = None
    kept: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.told.turned:
            self.reference = self._reference()
        self.see = seer(self.plan.encoder, self.told, self.reference)
        self.shown = shown(self.plan.config.views)
        self.room = CACHE

    def fit(self, places: np.ndarray, share: float = 1.0) -> dict[str, np.ndarray]:
        """What is learnt from these images, which are so many of those that will be learnt from in the end.

        From fewer, fewer places are remembered: as many as from all would lie closer, and good parts that are judged by
        them would seem less strange than later ones will.
        """
        config = self.plan.config
        learner = anomaly.METHODS[config.method].learner(config.memory, share, config.seed)
        for at in range(0, len(places), BATCH):
            for features in self._features(places[at : at + BATCH]):
                learner.add(features)
        return learner.arrays()

    def judge(self, arrays: dict[str, np.ndarray], places: np.ndarray) -> list[Judged]:
        """These images beside what was learnt."""
        look = judged(self.told, arrays)
        made: list[Judged] = []
        for at in range(0, len(places), BATCH):
            features = next(iter(self._features(places[at : at + BATCH], 1)))
            found = look(features, [np.eye(2, 3)] * len(features))  # where it lay is not asked for
            made += [Judged(each.score, each.peak, each.middle) for each in found]
        return made

    def judge_files(self, arrays: dict[str, np.ndarray], paths: Sequence[Path]) -> np.ndarray:
        """Scores of other images."""
        look = judged(self.told, arrays)
        made: list[float] = []
        for at in range(0, len(paths), BATCH):
            found = look(*self.see([eight_bit(path.read_bytes()) for path in paths[at : at + BATCH]]))
            made += [each.score for each in found]
            self.tell(len(found))
        return np.array(made)

    def _features(self, places: np.ndarray, count: int | None = None) -> Iterator[np.ndarray]:
        """Of some images, view by view: the first as they are."""
        views_of = self.shown[:count]
        missing = [int(at) for at in places if int(at) not in self.kept]
        needed = missing if len(views_of) == 1 else [int(at) for at in places]
        images = {at: eight_bit(self.plan.samples[at].path.read_bytes()) for at in needed}
        for number, view in enumerate(views_of):
            wanted = [int(at) for at in places] if number else missing
            fresh = self.see([view(images[at]) for at in wanted])[0] if wanted else None
            if number:
                assert fresh is not None
                yield fresh
                continue
            made = dict(zip(wanted, fresh, strict=True)) if fresh is not None else {}
            self.tell(len(made))
            given = [made[int(at)] if int(at) in made else self.kept[int(at)].astype(np.float32) for at in places]
            for at, each in made.items():
                if (half := each.astype(np.float16)).nbytes <= self.room:
                    self.kept[at] = half
                    self.room -= half.nbytes
            yield np.stack(given)

    def _reference(self) -> np.ndarray:
        """The first part unrolled."""
        image = eight_bit(self.plan.samples[0].path.read_bytes())
        return posing.unrolled(image, part_of(image))


def shown(name: str) -> Sequence[Callable[[Image], Image]]:
    """How an image is shown, the first time as it is."""
    if name != "turned":
        return views(name)
    return [lambda image, degrees=360 * at / TURNS: turned(image, degrees) for at in range(TURNS)]  # type: ignore[misc]


def turned(image: Image, degrees: float) -> Image:
    """An image turned about its middle; what comes in at its corners is what lies at its edge."""
    import cv2

    if not degrees:
        return image
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    made: np.ndarray = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return made
