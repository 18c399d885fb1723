"""compare: every clustering of a collection side by side, against each other, against what inspectors say of the
images, and against what is known to be true.

What a receipt holds (scores in the clustering's own space, stability) is read off it. What makes clusterings on
different spaces comparable is measured once more in one space that all share. The outcome is kept as compare.json in
the collection's folder; plots and the report read that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imagier.algorithms import agreement
from imagier.algorithms.judging import auroc
from imagier.collection import Collection, write_whole
from imagier.outputs import shown
from imagier.outputs.plots_compare import FORMAT, NAME, PLOT
from imagier.types import CollectionError, SettingError

FOLDER = "label_folder"
MOST = 40
"""At most so many groups, and so many true values, the largest, have a line of their own in a table of counts."""
SPACE_RULE = (
    "Every clustering is scored once more in one space, the column that most of them name as their embedding (of "
    "equals, the first). Silhouette counts items in groups only, in either space. Cohesion is the mean distance of the "
    "groups' items to their own centroid, over that of all items to the centroid of all: lower is tighter, and more "
    "groups are always tighter."
)
TRUTH_RULE = (
    "ARI, NMI and purity against the truth, over the items that have a true value: once with noise counted as one more "
    "group, once over the items in groups alone. Purity grows with the number of groups."
)
AGREEMENT_RULE = (
    "The adjusted Rand index of every two clusterings: 1 the same, about 0 by chance. Once over all items that both "
    "know, with noise counted as one more group; once over the items that both have in a group."
)
VERDICT_RULE = (
    "What an inspector says, or whether a segmenter found anything, beside the groups: the share of the score's "
    "variance that the groups account for (epsilon squared, about 0 by chance), and ARI, NMI and purity against good "
    "and bad. A region of which nothing was said counts with its image. Beside the truth each value's AUROC is how "
    "well the score tells what bears it from all else."
)


@dataclass(frozen=True)
class Beside:
    """A clustering beside what is said of the images."""

    explained: float | None
    """Epsilon squared: the share of the score's variance that the groups account for; of an inspector alone."""
    verdict: agreement.Agreement
    """With good and bad; noise is one more group."""


@dataclass(frozen=True)
class Compared:
    """One clustering."""

    name: str
    """The step's."""
    column: str
    method: str
    on: list[str]
    items: int
    absent: int
    """Items of the collection that it knows nothing of."""
    groups: int
    noise: float
    """The share of its items."""
    good: bool | None
    """The verdict."""
    placed: bool
    """Its groups were fitted on another collection: what its receipt measured, it measured there."""
    silhouette: float | None
    """In the space it was made in, off the receipt; so are the next two."""
    cohesion: float | None
    stability: float | None
    common: dict[str, float | None]
    """silhouette and cohesion in the space that all clusterings share."""
    truth: dict[str, agreement.Agreement] | None
    """"all": noise is one more group. "grouped": the items in groups alone."""
    verdicts: dict[str, Beside]
    """By the name of the step."""
    counts: dict[str, Any] | None
    """groups, values, and the table of counts: a row per group (the largest; null is all others), a column per true
    value (the commonest; null is all others)."""


@dataclass(frozen=True)
class Judged:
    """What one inspector, or segmenter beside it, says of the images."""

    name: str
    """The step's."""
    kind: str
    """inspect or segment."""
    items: int
    bad: float
    """The share of them."""
    truth: agreement.Agreement | None
    values: list[dict[str, Any]]
    """Of each true value (at most MOST, the commonest): value, items, bad (their share), median of the score, and
    auroc, how well that tells them from all others."""
    alike: dict[str, list[int]]
    """By the name of each other: how many images both call bad, this one alone, that one alone, and neither."""


@dataclass(frozen=True)
class Suspect:
    """An item far from every group."""

    id: str
    path: str | None
    quantile: float
    """The smallest over the clusterings."""
    quantiles: dict[str, float | None]
    """In each clustering."""
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Every clustering of a collection side by side. What `compare.json` holds."""

    format: int
    version: str
    """The collection's, at the time."""
    items: int
    space: dict[str, Any]
    """column, width, items and rule."""
    truth: dict[str, Any] | None
    """column, values, items and rule."""
    why: str
    """Why that truth, or why none."""
    asked: str | None
    """The truth that was asked for by name."""
    clusterings: list[Compared]
    verdicts: list[Judged]
    """Empty without an inspector."""
    verdict_rule: str
    agreement: dict[str, Any] | None
    """The matrices all and grouped, in the order of `clusterings`, and rule; None of a single clustering."""
    suspects: list[Suspect]
    suspect_rule: str

    def to_json(self) -> dict[str, Any]:
        """JSON values only; numbers rounded to what another number of threads does not change."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return rounded


@dataclass(frozen=True)
class _Truth:
    """What is known to be true of the items."""

    values: np.ndarray
    """(n,) int64: the true value's number, 0 the commonest; -1 for none."""
    names: list[str]
    column: str | None
    """None: nothing is known."""
    why: str

    @property
    def said(self) -> dict[str, Any] | None:
        if self.column is None:
            return None
        known = int((self.values >= 0).sum())
        return {"column": self.column, "values": len(self.names), "items": known, "rule": TRUTH_RULE}


@dataclass(frozen=True)
class _Said:
    """What is said of each item of a table."""

    of: shown.Judging
    scores: np.ndarray
    """(n,) float64, NaN where nothing was said."""
    bad: np.ndarray
    """(n,) bool."""
    parents: np.ndarray
    """(n,) int64: the row of what each item was cut out of, -1 of an image."""

    def beside(self, numbers: np.ndarray) -> Beside:
        """A clustering (n,) int64, each item with what was said of it, or else of what it was cut out of."""
        own = ~np.isnan(self.scores)
        rows = np.arange(len(own))
        while (further := ~own[rows] & (self.parents[rows] >= 0)).any():
            rows[further] = self.parents[rows[further]]
        there = (numbers != shown.UNGROUPED) & own[rows]
        of = self.of.kind == "inspect"
        explained = agreement.explained(numbers[there], self.scores[rows][there]) if of else None
        return Beside(explained, agreement.agreement(numbers[there], self.bad[rows][there].astype(int)))


def compare(collection: Collection, *, truth: str | None = None) -> Comparison:
    """Compare every clustering of the collection. Writes nothing.

    truth: a column of names, whole numbers or true/false that says what belongs together; "folder" is `label_folder`.
    None takes `label_folder` where at least half of the items have one and it has between 2 and half as many values.

    Raises CollectionError where there is no clustering, SettingError for a truth that cannot serve as one.
    """
    found = _clusterings(collection)
    space = _space(found)
    judgings = shown.judgings(collection)
    said = [name for each in judgings for name in each.columns]
    table = collection.read(["id", "path", "parent", FOLDER, *(each.column for each in found), *said])
    labels = [shown.group_numbers(table, each) for each in found]
    verdicts = [_Said(each, each.scores(table), each.bad(table), _parents(table)) for each in judgings]
    counted = [*(each != shown.UNGROUPED for each in labels), *(~np.isnan(each.scores) for each in verdicts)]
    true = _truth(collection, table, truth, np.any(counted, axis=0))
    points, has_point = _points(collection, space)
    compared, outside = [], []
    for each, numbers in zip(found, labels, strict=True):
        inside = (numbers != shown.UNGROUPED) & has_point
        common = _in_common(each, space, points[inside[has_point]], numbers[inside])
        compared.append(_compared(each, numbers, common, true, verdicts))
        distance = np.full(len(numbers), np.nan)
        distance[inside] = agreement.nearest_centroid(points[inside[has_point]], numbers[inside])
        outside.append(agreement.quantiles(distance))
    return Comparison(
        format=FORMAT,
        version=collection.version,
        items=table.num_rows,
        space={"column": space, "width": points.shape[1], "items": len(points), "rule": SPACE_RULE},
        truth=true.said,
        why=true.why,
        asked=truth,
        clusterings=compared,
        verdicts=[_judged(each, verdicts, true) for each in verdicts],
        verdict_rule=VERDICT_RULE if verdicts else "",
        agreement=_pairwise(labels) if len(found) > 1 else None,
        suspects=_suspects(table, found, labels, outside),
        suspect_rule=agreement.SUSPECT_RULE,
    )


def write(collection: Collection, comparison: Comparison) -> list[Path]:
    """compare.json, plots/compare.png and the report, which has a section of it; the paths written."""
    from imagier.outputs.plots import write_plots
    from imagier.outputs.report import write_report

    kept = save(collection, comparison)
    return [kept, *write_plots(collection, only=[PLOT]), write_report(collection)]


def save(collection: Collection, comparison: Comparison, path: Path | None = None) -> Path:
    """Keep it as compare.json in the collection's folder, where plots and the report find it, or write it to `path`."""
    path = collection.folder / NAME if path is None else path
    write_whole(path, json.dumps(comparison.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode())
    return path


def refresh(collection: Collection) -> Comparison | None:
    """compare.json as the collection is now, before plots and pages are written.

    It is made where there are two clusterings or more, or one and an inspector, and made again where it was asked for;
    the truth that was asked for stays, as long as it can serve. Where there is nothing to compare, an old one goes.
    """
    path = collection.folder / NAME
    asked = _asked(path)
    count = len(shown.clusterings(collection))
    alone = count == 1 and not shown.judgings(collection)
    if not len(collection) or count == 0 or (alone and not path.is_file()):
        path.unlink(missing_ok=True)
        return None
    try:
        made = compare(collection, truth=asked)
    except SettingError:  # the column that was asked for is gone, or says nothing any more
        made = compare(collection)
    save(collection, made)
    return made


def _asked(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        asked = json.loads(path.read_bytes())["asked"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path} cannot be read: {error}. Delete it; nothing depends on it.") from error
    return asked if isinstance(asked, str) else None


def _clusterings(collection: Collection) -> list[shown.Clustering]:
    """In the order of the pipeline."""
    order = list(collection.receipts())
    found = sorted(shown.clusterings(collection), key=lambda each: order.index(each.receipt.step))
    if not len(collection):
        raise CollectionError(
            f"{collection.folder} has no items to compare: 'imagier show' says what became of its files"
        )
    if not found:
        raise CollectionError(
            f"{collection.folder} has no clustering to compare: give its pipeline a cluster step, such as "
            "'- cluster: {method: kmeans}', and run it"
        )
    return found


def _space(found: Sequence[shown.Clustering]) -> str:
    """The column in which all are scored."""
    named = Counter(str(each.receipt.settings.get("embedding", "embedding")) for each in found)
    return named.most_common(1)[0][0]


def _points(collection: Collection, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the items that have one (m, d) float32, and which items those are (n,) bool."""
    from imagier.stages._points import points_of

    values = collection.read([column])[column].combine_chunks()
    known = np.asarray(values.is_valid().to_numpy(zero_copy_only=False), bool)
    whole = values.drop_null()
    if pa.types.is_fixed_size_list(values.type):
        flat = whole.flatten().to_numpy(zero_copy_only=False)
        array = flat.reshape(len(whole), values.type.list_size)
    else:
        array = whole.to_numpy(zero_copy_only=False)
    return points_of({column: array}, (column,), "compare").values, known


def _in_common(each: shown.Clustering, space: str, points: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Silhouette and cohesion in the common space; off the receipt where it was scored there, on these very items."""
    from imagier.algorithms import groups, scores

    facts = each.facts
    own = not _placed(each) and facts.get("items") == len(labels)
    told = facts.get("scores", {}).get("embedding", {}) if each.receipt.settings.get("embedding") == space else {}
    if own and "silhouette" in told:
        silhouette = told["silhouette"]
    else:
        silhouette = scores.silhouettes(points, labels, int(each.receipt.settings.get("seed", 0))).mean
    if own and facts.get("on") == [space]:
        return {"silhouette": silhouette, "cohesion": _cohesion(each.groups)}
    undefined = np.full(len(labels), np.nan)
    described = groups.described(points, labels, undefined)
    return {"silhouette": silhouette, "cohesion": _cohesion([asdict(group) for group in described])}


def _cohesion(groups: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean of the groups' cohesion, each counted as often as it has items."""
    known = [(group["size"], group["cohesion"]) for group in groups if group.get("cohesion") is not None]
    total = sum(size for size, _ in known)
    return sum(size * cohesion for size, cohesion in known) / total if total else None


def _placed(each: shown.Clustering) -> bool:
    return "fitted_items" in each.facts


def _compared(
    each: shown.Clustering,
    numbers: np.ndarray,
    common: dict[str, float | None],
    true: _Truth,
    verdicts: Sequence[_Said],
) -> Compared:
    facts, receipt = each.facts, each.receipt
    known = numbers != shown.UNGROUPED
    judged = {"all": known & (true.values >= 0), "grouped": (numbers >= 0) & (true.values >= 0)}
    against = {name: agreement.agreement(numbers[rows], true.values[rows]) for name, rows in judged.items()}
    verdict = facts.get("verdict") or {}
    return Compared(
        name=receipt.step,
        column=each.column,
        method=str(facts.get("method") or receipt.stage),
        on=list(facts.get("on") or []),
        items=int(known.sum()),
        absent=int((~known).sum()),
        groups=len(np.unique(numbers[numbers >= 0])),
        noise=float((numbers == shown.NOISE).sum() / max(known.sum(), 1)),
        good=verdict.get("good"),
        placed=_placed(each),
        silhouette=((facts.get("scores") or {}).get("space") or {}).get("silhouette"),
        cohesion=_cohesion(each.groups),
        stability=(facts.get("stability") or {}).get("ari"),
        common=common,
        truth=against if true.column else None,
        verdicts={each.of.receipt.step: each.beside(numbers) for each in verdicts},
        counts=_counts(numbers[judged["all"]], true.values[judged["all"]], true.names) if true.column else None,
    )


def _parents(table: pa.Table) -> np.ndarray:
    """The row of what each item was cut out of, -1 of an image: (n,) int64."""
    row = {item: at for at, item in enumerate(table["id"].to_pylist())}
    return np.array([row.get(parent, -1) for parent in table["parent"].to_pylist()], np.int64)


def _judged(one: _Said, every: Sequence[_Said], true: _Truth) -> Judged:
    own = ~np.isnan(one.scores)
    rows = own & (true.values >= 0)
    scores, bad, values = one.scores[rows], one.bad[rows], true.values[rows]
    alike = {}
    for other in every:
        both = own & ~np.isnan(other.scores)
        if other is not one and both.any():
            first, second = one.bad[both], other.bad[both]
            cells = (first & second, first & ~second, ~first & second, ~first & ~second)
            alike[other.of.receipt.step] = [int(each.sum()) for each in cells]
    return Judged(
        name=one.of.receipt.step,
        kind=one.of.kind,
        items=int(own.sum()),
        bad=float(one.bad[own].mean()) if own.any() else 0.0,
        truth=agreement.agreement(bad.astype(int), values) if true.column else None,
        values=[
            {
                "value": true.names[value],
                "items": int((values == value).sum()),
                "bad": float(bad[values == value].mean()),
                "median": float(np.median(scores[values == value])),
                "auroc": auroc(scores, values == value),
            }
            for value in np.unique(values)[:MOST]
        ],
        alike=alike,
    )


def _counts(numbers: np.ndarray, true: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The table of groups by true values; beyond MOST lines either way, the smallest are summed up under null."""
    groups, row, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    order = np.lexsort((groups, -sizes))
    order = np.concatenate([order[groups[order] >= 0], order[groups[order] < 0]])  # noise last
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    shape = (min(len(groups), MOST), min(len(names), MOST))
    table = agreement.contingency(np.minimum(place[row], MOST - 1), np.minimum(true, MOST - 1), shape)
    more_groups, more_names = len(groups) > MOST, len(names) > MOST
    rows: list[int | None] = [int(group) for group in groups[order][: MOST - more_groups]]
    columns: list[str | None] = list(names[: MOST - more_names])
    return {
        "groups": rows + [None] * more_groups,
        "values": columns + [None] * more_names,
        "table": table.tolist(),
    }


def _truth(collection: Collection, table: pa.Table, asked: str | None, counted: np.ndarray) -> _Truth:
    """What was asked for, or what the folders say where that can serve. counted: (n,) bool, items that were clustered;
    or are judged; an image whose regions were cut out, and of which nothing was said, is none."""
    column = FOLDER if asked in (None, "folder") else str(asked)
    values = (table if column == FOLDER else collection.read([column]))[column]
    kind = values.type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise SettingError(f"{column!r} cannot be the truth: it holds {kind}. Name a column of names or whole numbers.")
    said = zip(values.to_pylist(), counted.tolist(), strict=True)
    texts = [str(value) if value is not None and clustered else None for value, clustered in said]
    counts = Counter(text for text in texts if text is not None)
    known = counts.total()
    names = sorted(counts, key=lambda name: (-counts[name], name))
    items = int(counted.sum())
    told = f"{len(names)} different values for {known} of {items} items"
    if asked is None and not (2 <= len(names) <= known / 2 and known >= items / 2):
        why = f"no truth ({column} has {told}; --truth COLUMN names another)"
        return _Truth(np.full(len(texts), -1), [], None, why)
    if asked is not None and not 2 <= len(names) < known:
        raise SettingError(f"{column!r} cannot be the truth: {told}. It takes two or more, and fewer than items.")
    number = {name: at for at, name in enumerate(names)}
    true = np.array([-1 if text is None else number[text] for text in texts], np.int64)
    return _Truth(true, names, column, f"the truth is {column}: {told}")


def _pairwise(labels: Sequence[np.ndarray]) -> dict[str, Any]:
    every = agreement.pairwise(labels, [each != shown.UNGROUPED for each in labels])
    grouped = agreement.pairwise(labels, [each >= 0 for each in labels])
    return {"all": every.tolist(), "grouped": grouped.tolist(), "rule": AGREEMENT_RULE}


def _suspects(
    table: pa.Table, found: Sequence[shown.Clustering], labels: Sequence[np.ndarray], outside: Sequence[np.ndarray]
) -> list[Suspect]:
    made = []
    for row in agreement.farthest(outside).tolist():
        quantiles = {each.receipt.step: float(far[row]) for each, far in zip(found, outside, strict=True)}
        least = min(value for value in quantiles.values() if not np.isnan(value))
        every = "every clustering" if len(found) > 1 else found[0].receipt.step
        reason = f"farther from the nearest group than {_percent(least)} of the items, in {every}"
        noise = [each.receipt.step for each, own in zip(found, labels, strict=True) if own[row] == shown.NOISE]
        alone = [
            each.receipt.step
            for each, own in zip(found, labels, strict=True)
            if own[row] >= 0 and (own == own[row]).sum() == 1
        ]
        reason += f"; noise in {', '.join(noise)}" if noise else ""
        reason += f"; a group of its own in {', '.join(alone)}" if alone else ""
        made.append(Suspect(table["id"][row].as_py(), table["path"][row].as_py(), least, dict(quantiles), reason))
    return made


def _percent(share: float) -> str:
    """Rounded down: 100 % is for the farthest of all."""
    return f"{int(share * 1000 + 1e-9) / 10:.1f}".removesuffix(".0") + " %"


def _rounded(value: Any) -> Any:
    """Floats to six digits, NaN as None, all through."""
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
