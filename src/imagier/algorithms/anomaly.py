"""How unlike all that was learnt from each place of an image is, by features of an encoder.

Three methods, each learnt from a stream of images in memory that does not grow with it. PatchCore (Roth et al., Towards
Total Recall in Industrial Anomaly Detection, 2022): the distance of a place's features to the nearest of a coreset of
all that was seen. PaDiM (Defard et al., PaDiM: a Patch Distribution Modeling Framework, 2021): the Mahalanobis distance
to what was seen at the same place, for parts that always lie alike. k-NN: PatchCore of one vector an image.

Features (n, h, w, c) float32 in, heat (n, h, w) float32 out: the larger, the stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from imagier.algorithms.coreset import Coreset

SAMPLE = 20_000
"""Vectors from which directions are scaled, before the others are seen: so give images in an order of chance."""
SHRINK = 0.01
"""Share of the mean variance added to each direction's, so that those that hardly vary do not decide alone."""
EXACT = 1000
"""Vectors that may be remembered, below which all are compared with."""
PROBED = 4
"""Cells that are looked through; more where so many do not hold as many times the neighbours that are wanted."""
CHANNELS = 64
"""At most, of which PaDiM takes the covariance: so many at random lose little (its section IV.B)."""

MOST = 64
"""Channels that are handed to OpenCV at once, which takes 128 (its version 5) or 512 (4)."""

Arrays = dict[str, np.ndarray]
Score = Callable[[np.ndarray], np.ndarray]


class Learner(Protocol):
    """What learns from a stream."""

    def add(self, features: np.ndarray) -> None:
        """Take in images."""

    def arrays(self) -> Arrays:
        """What was learnt."""


@dataclass(frozen=True)
class Method:
    """One way."""

    learner: Callable[[int, float, int], Learner]
    """Vectors to remember at most, of all images; the share of these that will come; seed."""
    score: Callable[[Mapping[str, np.ndarray], int], Score]
    """Arrays, neighbours -> heat of features."""
    whole: bool = False
    """It goes by one vector an image."""
    fewest: int = 2
    """Images that differ, without which no line can be drawn: so many less one have to have a spread."""
    needs: tuple[str, ...] = ()
    """Of the arrays."""


class Remembering:
    """PatchCore: directions are scaled by how they vary among good ones, and of all vectors a coreset is kept."""

    def __init__(self, size: int, share: float, seed: int) -> None:
        self._coreset = Coreset(max(1, round(size * share)), seed)
        self._cells = size >= EXACT
        self._waiting: list[np.ndarray] = []
        self._mean: np.ndarray | None = None
        self._axes: np.ndarray | None = None

    def add(self, features: np.ndarray) -> None:
        vectors = features.reshape(-1, features.shape[-1]).astype(np.float32)
        if self._axes is not None and self._mean is not None:
            self._coreset.add((vectors - self._mean) @ self._axes)
            return
        self._waiting.append(vectors)
        if sum(map(len, self._waiting)) >= SAMPLE:
            self._scale()

    def arrays(self) -> Arrays:
        if self._axes is None:
            self._scale()
        assert self._mean is not None
        assert self._axes is not None
        return {
            "mean": self._mean,
            "axes": self._axes,
            "memory": self._coreset.vectors(),
            "cells": np.array(self._cells),
        }

    def _scale(self) -> None:
        """Whiten by what waits, so that no direction counts more because it is larger."""
        vectors = np.concatenate(self._waiting)
        self._mean = vectors.mean(0)
        spread = np.atleast_2d(np.cov((vectors - self._mean).T.astype(np.float64), bias=True))
        level = np.trace(spread) / len(spread)
        values, axes = np.linalg.eigh(spread + (SHRINK * level + 1e-12) * np.eye(len(spread)))
        self._axes = (axes / np.sqrt(values)).astype(np.float32)
        self._waiting = []
        self._coreset.add((vectors - self._mean) @ self._axes)


def _nearest(arrays: Mapping[str, np.ndarray], neighbours: int) -> Score:
    import faiss

    mean = arrays["mean"]
    # The product is faiss's, whose threads are those of the call: numpy's and OpenCV's BLAS have some of their own, for
    # which the threads of a pass would wait in turn, spinning beside those of the network.
    turn = faiss.LinearTransform(len(mean), len(mean), False)
    faiss.copy_array_to_vector(np.ascontiguousarray(arrays["axes"].T, np.float32).ravel(), turn.A)
    turn.is_trained = True
    memory = np.ascontiguousarray(arrays["memory"], np.float32)
    neighbours = min(neighbours, len(memory))
    index = searched(memory, neighbours, bool(arrays["cells"]))

    def heat(features: np.ndarray) -> np.ndarray:
        """Of an image, (h, w, c) to (h, w)."""
        away = np.ascontiguousarray(features - mean, np.float32).reshape(-1, features.shape[-1])
        vectors = turn.apply(away)
        places = index.search(vectors, neighbours)[1]
        places = np.where(places < 0, places[:, :1], places)  # the cells that were looked through held no more
        # From differences: an image has the same heat whatever came before it, and a copy none at all.
        found = np.zeros(len(vectors), np.float32)
        for each in places.T:
            found += np.sqrt(np.square(vectors - memory[each]).sum(1))
        made: np.ndarray = (found / places.shape[1]).reshape(features.shape[:2])
        return made

    def score(features: np.ndarray) -> np.ndarray:
        faiss.omp_set_num_threads(1)  # of this thread alone: a pass has as many threads as there are cores
        # An image at a time: the last digits of a row depend on where in a product it stands, and what a batch takes
        # is as much memory as threads wait for one another to be given.
        return np.stack([heat(each) for each in features])

    return score


def searched(memory: np.ndarray, neighbours: int, cells: bool) -> Any:
    """An index of what is remembered, (m, d) float32: exact, or by cells (Sivic & Zisserman 2003).

    Whoever draws the line has to look as those do who are judged by it: so `cells` is said. Of 4,000 vectors the
    nearest is found for 81 % of places, and for the others one 5 % farther in the mean, in a quarter of the time.
    """
    import faiss

    index: Any
    if not cells:
        index = faiss.IndexFlatL2(memory.shape[1])
    else:
        count = min(len(memory), 2 * int(np.sqrt(len(memory))))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(memory.shape[1]), memory.shape[1], count)
        index.nprobe = min(count, max(PROBED, -(-PROBED * neighbours * count // len(memory))))
        index.cp.seed, index.cp.min_points_per_centroid = 0, 1
        index.train(memory)
    index.add(memory)
    return index


class Spread:
    """PaDiM: mean and covariance of every place."""

    def __init__(self, _: int, __: float, seed: int) -> None:
        self.seed = seed
        self._channels = np.zeros(0, np.int64)
        self._count = 0
        self._sum = self._squares = np.zeros(0)

    def add(self, features: np.ndarray) -> None:
        _, height, width, channels = features.shape
        if not self._count:
            drawn = np.random.default_rng(self.seed).permutation(channels)[:CHANNELS]
            self._channels = np.sort(drawn)
            kept = len(self._channels)
            self._sum, self._squares = np.zeros((height, width, kept)), np.zeros((height, width, kept, kept))
        for each in features[..., self._channels].astype(np.float64):
            self._sum += each
            self._squares += each[..., :, None] * each[..., None, :]
            self._count += 1

    def arrays(self) -> Arrays:
        mean = self._sum / self._count
        spread = self._squares / self._count - mean[..., :, None] * mean[..., None, :]
        level = np.trace(spread, axis1=-2, axis2=-1).mean() / spread.shape[-1]
        spread += (SHRINK * level + 1e-12) * np.eye(spread.shape[-1])
        # x' C^-1 x is the squared length of inverse(L) x, where C = L L'.
        roots = np.linalg.inv(np.linalg.cholesky(spread))
        return {
            "channels": self._channels,
            "mean": mean.astype(np.float32),
            "roots": roots.astype(np.float32),
        }


def _placed(arrays: Mapping[str, np.ndarray], _: int) -> Score:
    channels, mean, roots = arrays["channels"], arrays["mean"], arrays["roots"]

    def score(features: np.ndarray) -> np.ndarray:
        away = features[..., channels] - mean
        found: np.ndarray = np.linalg.norm(np.matmul(roots, away[..., None])[..., 0], axis=-1).astype(np.float32)
        return found

    return score


METHODS: dict[str, Method] = {
    "patchcore": Method(Remembering, _nearest, needs=("mean", "axes", "memory", "cells")),
    "padim": Method(Spread, _placed, fewest=3, needs=("channels", "mean", "roots")),
    "knn": Method(Remembering, _nearest, whole=True, fewest=3, needs=("mean", "axes", "memory", "cells")),
}


def around(maps: np.ndarray, side: int) -> np.ndarray:
    """Features of places with what is around them: maps (n, h, w, c) float32, each place the mean of side x side."""
    import cv2

    if side == 1:
        return maps
    return _each(maps, lambda image: cv2.blur(image, (side, side), borderType=cv2.BORDER_REFLECT))


def on_one_grid(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Maps of several strides, each (n, h, w, c), on the finest one's grid, a place's channels in a row."""
    import cv2

    tall, wide = max(each.shape[1:3] for each in maps)

    def larger(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)

    return np.concatenate([each if each.shape[1:3] == (tall, wide) else _each(each, larger) for each in maps], axis=-1)


def _each(maps: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What a function of OpenCV makes of each map, (n, h, w, c), given no more channels at once than it takes."""
    channels = maps.shape[-1]
    made = []
    for each in maps:
        blocks = [of(np.ascontiguousarray(each[..., at : at + MOST])) for at in range(0, channels, MOST)]
        made.append(np.concatenate([block.reshape(*block.shape[:2], -1) for block in blocks], axis=-1))
    return np.stack(made)


def hottest(heat: np.ndarray, share: float) -> np.ndarray:
    """The score of images by their heat (n, h, w): the mean over this share of it, the hottest, (n,) float64."""
    flat = heat.reshape(len(heat), -1)
    count = max(1, round(share * flat.shape[1]))
    made: np.ndarray = -np.partition(-flat, count - 1, axis=1)[:, :count].mean(1, dtype=np.float64)
    return made


# ---------------------------------------------------------------- where the line is drawn


@dataclass(frozen=True)
class Line:
    """A threshold on the score, by good parts that were not learnt from."""

    threshold: float
    """What scores more is bad."""
    rate: float
    """Of good parts that are taken for bad, expected: never more than was asked for, where there are enough."""
    ci95: tuple[float, float]
    """In which that rate lies, over draws of the held-out parts, and whatever those were that were left out."""
    held: int


def line(scores: np.ndarray, rate: float, left_out: float = 0.0) -> Line:
    """Where to draw the line so that this rate of good parts is refused: scores (m,) of good ones, held out.

    left_out: share of all parts that were the strangest, and are not among these: had they been good, they would all be
    refused, and the interval reaches as far.

    The k-th largest of m scores is exceeded by a further one with a chance that is distributed as Beta(k, m + 1 - k)
    (order statistics; the mean is conformal prediction's guarantee). With too few parts to show the rate, k is 1: the
    line lies at the worst of them.
    """
    from scipy.stats import beta

    count = len(scores)
    place = min(count, max(1, int(np.floor(rate * (count + 1) + 1e-9))))
    threshold = float(np.partition(scores, count - place)[count - place])
    low, high = beta.ppf((0.025, 0.975), place, count + 1 - place)
    return Line(threshold, place / (count + 1), (float(low), float(high * (1 - left_out) + left_out)), count)
