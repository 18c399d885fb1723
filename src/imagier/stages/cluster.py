"""cluster: items that are alike get the same group, and the receipt says how good the groups are, or that none are.

A vector column is taken as it is. Number columns, which have units of their own, are each brought to mean 0 and
standard deviation 1 first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa

from imagier.algorithms.clustering import METHODS, Clustering, Linkage
from imagier.stages._choice import chosen
from imagier.stages._points import named, points_of
from imagier.types import Columns, Fitted, SettingError, Stage, Step

if TYPE_CHECKING:
    from imagier.algorithms.groups import Group
    from imagier.algorithms.scores import Silhouettes

FEWEST = 6
"""With fewer items nothing is clustered: all are group 0."""

RANGES = {
    "k": (2, 10_000),
    "k_max": (2, 1000),
    "min_samples": (2, 10_000),
    "min_cluster_size": (2, 1_000_000),
    "resamples": (1, 100),
    "seed": (0, 2**31 - 1),
}
"""The least and the greatest value of a setting that counts."""
POSITIVE = ("eps", "distance_threshold")


def make(
    *,
    method: Literal["kmeans", "dbscan", "hdbscan", "agglomerative"] = "kmeans",
    on: list[str] | str = "embedding",
    embedding: str = "embedding",
    k: int | None = None,
    k_max: int | None = None,
    eps: float | None = None,
    min_samples: int | None = None,
    min_cluster_size: int | None = None,
    linkage: Linkage | None = None,
    distance_threshold: float | None = None,
    resamples: int = 5,
    seed: int = 0,
) -> Step:
    """`group` (-1 noise), `distance` to the group's centroid, `quality` ("high" or "low"), `far` from all others.

    on: a column of vectors, or columns of numbers, which are then each brought to mean 0 and standard deviation 1.
    embedding: the column of vectors in which the groups are scored a second time.
    resamples: how many times the items are clustered again with a fifth left out, to see whether the groups come back.
    seed: the same one gives the same groups.

    For kmeans: k (the number of groups; chosen unless given), k_max (the most that are tried: 15).
    For dbscan: eps (the radius; read off the k-distance curve unless given), min_samples (in that radius, the item
        itself counted; twice the dimensions, between 5 and 10, unless given).
    For hdbscan: min_cluster_size (a fiftieth of the items, at least 5, unless given), min_samples (5).
    For agglomerative: linkage ("ward"), and one of k, distance_threshold (where merging stops) and k_max.
    """
    given = {
        "k": k,
        "k_max": k_max,
        "eps": eps,
        "min_samples": min_samples,
        "min_cluster_size": min_cluster_size,
        "linkage": linkage,
        "distance_threshold": distance_threshold,
    }
    settings = chosen(METHODS, method, given)
    _check(given | {"resamples": resamples, "seed": seed})
    names = named(on, "cluster")
    fields = [("group", pa.int32()), ("distance", pa.float32()), ("quality", pa.string()), ("far", pa.bool_())]
    how: dict[str, Any] = {"method": method, "settings": settings, "names": names, "embedding": embedding}
    return Step(
        reads=tuple(dict.fromkeys(("id", *names, embedding))),
        writes=pa.schema(fields),
        load=lambda: partial(_fit, **how, resamples=resamples, seed=seed),
        place=partial(_place, names=names),
        remembers=("group",),
    )


def _check(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is None:
            continue
        if name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]:
            least, greatest = RANGES[name]
            raise SettingError(f"cluster.{name} cannot be {value}: it takes {least} to {greatest}")
        if name in POSITIVE and not 0 < value < np.inf:
            raise SettingError(f"cluster.{name} cannot be {value}: it takes a distance above 0")
    if given["linkage"] is not None and given["linkage"] not in get_args(Linkage):
        raise SettingError(f"cluster.linkage cannot be {given['linkage']!r}: it takes {', '.join(get_args(Linkage))}")
    told = [name for name in ("k", "k_max", "distance_threshold") if given[name] is not None]
    if len(told) > 1:
        raise SettingError(f"cluster: {' and '.join(told)} each say how many groups there are; give one of them")


def _fit(
    columns: Columns,
    *,
    method: str,
    settings: dict[str, Any],
    names: tuple[str, ...],
    embedding: str,
    resamples: int,
    seed: int,
) -> Fitted:
    from imagier.algorithms import groups, scores

    own = points_of(columns, names, "cluster")
    points = own.values
    enough = len(points) >= FEWEST
    found = METHODS[method](points, seed, **settings) if enough else Clustering(np.zeros(len(points), np.int64))
    labels = groups.numbered(found.labels, _previous(columns))
    judged = _judged(points, labels, method, settings, resamples, seed)
    silhouettes = scores.silhouettes(points, labels, seed)
    described = groups.described(points, labels, silhouettes.values)
    high = {group.number for group in described if judged["verdict"]["good"] and group.tight}
    space = other = _scores(points, labels, silhouettes)
    if names != (embedding,):
        vectors = points_of(columns, (embedding,), "cluster").values
        other = _scores(vectors, labels, scores.silhouettes(vectors, labels, seed))
    bound, far = groups.fence(points)
    facts: dict[str, Any] = {
        "method": method,
        "on": list(names),
        "items": len(points),
        "noise": _r(float((labels < 0).mean())) if len(labels) else 0.0,
        "groups": [_group(group, group.number in high, columns["id"]) for group in described],
        "cohesion_rule": groups.COHESION_RULE,
        "scores": {"space": space, "embedding": other},
        "silhouette_sample": silhouettes.sample,
        **judged,
        "far": {"items": int(far.sum()), "beyond": _r(bound) if np.isfinite(bound) else None, "rule": groups.FAR_RULE},
        "notes": list(found.notes),
    }
    facts |= {"choice": found.choice} if found.choice else {}
    facts |= {"knee": found.knee} if found.knee else {}
    numbers, middles = groups.centroids(points, labels)
    arrays = {
        "points": points,
        "labels": labels.astype(np.int32),
        "numbers": numbers.astype(np.int32),
        "centroids": middles.astype(np.float32),
        "high": np.isin(numbers, sorted(high)),
        "core": np.zeros(len(points), bool) if found.core is None else found.core,
        "eps": np.array(np.nan if found.eps is None else found.eps),
        "fence": np.array(bound),
        "centre": own.centre,
        "spread": own.spread,
    }
    distance = groups.to_centroids(points, labels, numbers, arrays["centroids"])
    return Fitted(_columns(labels, distance, high, far), facts, arrays)


def _judged(
    points: np.ndarray, labels: np.ndarray, method: str, settings: dict[str, Any], resamples: int, seed: int
) -> dict[str, Any]:
    """The facts `verdict`, `stability` and `reference` (null where there is nothing to compare)."""
    from imagier.algorithms import scores, verdict
    from imagier.algorithms.clustering import repeated

    count = len(np.unique(labels[labels >= 0]))
    agreement: list[float] = []
    reference = None
    if len(points) < FEWEST:
        found = verdict.poor(f"too few items ({len(points)}, and at least {FEWEST} are needed). All are in group 0.")
    elif count < 2:
        found = verdict.poor("all items outside noise lie in one group." if count else "all items are noise.")
    elif count > scores.MOST_GROUPS:
        found = verdict.poor(f"{count} groups are more than the {scores.MOST_GROUPS} that can be scored.")
    else:
        again = repeated(method, settings, count)
        agreement = verdict.stability(points, labels, again, resamples, seed)
        own, drawn = verdict.references(points, labels, repeated(method, settings, count, starts=verdict.STARTS), seed)
        found = verdict.judge(labels, own, drawn, agreement)
        reference = {"separation": _r(own), "uniform": _each(drawn[0]), "gaussian": _each(drawn[1])}
    mean = _r(float(np.mean(agreement))) if agreement else None
    return {
        "stability": {"ari": mean, "ari_each": _each(agreement), "resamples": len(agreement)},
        "reference": reference,
        "verdict": {"good": found.good, "text": found.text},
    }


def _group(group: Group, high: bool, ids: Sequence[Any]) -> dict[str, Any]:
    return {
        "group": group.number,
        "size": group.size,
        "cohesion": _r(group.cohesion),
        "silhouette": _r(group.silhouette),
        "quality": "high" if high else "low",
        "central": [str(ids[row]) for row in group.central],
    }


def _place(columns: Columns, fitted: Fitted, *, names: tuple[str, ...]) -> Fitted:
    """New items in the fitted groups.

    dbscan: the group of the nearest core point within eps, else noise. The others: the vote of the 3 nearest fitted
    items. The facts are those of the fitted groups; sizes, central items and what lies far count the new items alone,
    and `fitted_items` those that the groups were made of.
    """
    from imagier.algorithms import groups

    kept = fitted.arrays
    points = points_of(columns, names, "cluster", (kept["centre"], kept["spread"])).values
    labels, numbers = kept["labels"], kept["numbers"]
    eps = float(kept["eps"])
    if np.isnan(eps):
        placed = groups.voted(points, kept["points"], labels)
    else:
        placed = groups.reached(points, kept["points"], labels, kept["core"], eps)
    distance = groups.to_centroids(points, placed, numbers, kept["centroids"])
    far = groups.beyond(points, kept["points"], float(kept["fence"]))
    size = Counter(placed.tolist())
    known = []
    for group in fitted.facts["groups"]:
        rows = np.flatnonzero(placed == group["group"])
        central = rows[np.argsort(distance[rows], kind="stable")[: groups.CENTRAL]]
        ids = [str(columns["id"][row]) for row in central]
        known.append(group | {"size": size[group["group"]], "central": ids})
    facts = fitted.facts | {
        "items": len(points),
        "fitted_items": fitted.facts["items"],
        "noise": _r(size[-1] / len(points)) if len(points) else 0.0,
        "groups": known,
        "far": fitted.facts["far"] | {"items": int(far.sum())},
    }
    high = set(numbers[kept["high"]].tolist())
    return Fitted(_columns(placed, distance, high, far), facts)


def _previous(columns: Columns) -> np.ndarray | None:
    """The groups the items had, (n,) float64, NaN where they had none; None where nothing is remembered."""
    if "previous_group" not in columns:
        return None
    return np.ma.filled(np.ma.asarray(columns["previous_group"]).astype(np.float64), np.nan)


def _columns(labels: np.ndarray, distance: np.ndarray, high: set[int], far: np.ndarray) -> Columns:
    quality = [None if label < 0 else "high" if label in high else "low" for label in labels.tolist()]
    return {
        "group": labels.astype(np.int32),
        "distance": distance.astype(np.float32),
        "quality": quality,
        "far": far.astype(bool),
    }


def _scores(points: np.ndarray, labels: np.ndarray, silhouettes: Silhouettes) -> dict[str, float | None]:
    from imagier.algorithms import scores

    return {
        "silhouette": _r(silhouettes.mean),
        "davies_bouldin": _r(scores.davies_bouldin(points, labels)),
        "calinski_harabasz": _r(scores.calinski_harabasz(points, labels)),
    }


def _r(value: float | None) -> float | None:
    """Rounded to what another number of threads does not change."""
    return None if value is None else round(float(value), 6)


def _each(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]


CLUSTER = Stage(name="cluster", version=1, over="table", make=make)
