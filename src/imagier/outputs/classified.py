"""What a report says of a classification: how sure it is by label and by group, and what deserves a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.outputs import plots_classes, shown
from imagier.outputs import plots_figures as figures

if TYPE_CHECKING:
    import pyarrow as pa

    from imagier.collection import Collection

LEAST_SURE = 24
STRANGEST = 24
Pictures = Callable[[Sequence[int]], list[dict[str, str | None]]]


def columns(collection: Collection) -> list[str]:
    """The columns of its classifications."""
    known = set(collection.columns)
    return [
        name
        for receipt in collection.receipts().values()
        if receipt.stage == "classify"
        for name in receipt.writes
        if name in known
    ]


def sections(
    collection: Collection, table: pa.Table, clustering: shown.Clustering | None, pictures: Pictures
) -> list[dict[str, Any]]:
    """One for each classification. table: the items, with `columns`; pictures: of rows, as pages show them."""
    made = []
    for receipt in collection.receipts().values():
        if receipt.stage != "classify":
            continue
        prefix = "" if receipt.step == "classify" else f"{receipt.step}_"
        if f"{prefix}label" in table.column_names:
            made.append(_section(table, prefix, clustering, pictures))
    return made


def _section(table: pa.Table, prefix: str, clustering: shown.Clustering | None, pictures: Pictures) -> dict[str, Any]:
    labels = np.array(table[f"{prefix}label"].to_pylist(), dtype=object)
    sure = shown.floats(table, f"{prefix}confidence")
    there = np.flatnonzero([each is not None for each in labels])
    names, sure = labels[there], sure[there]
    strange: np.ndarray = np.zeros(0, int)
    has_known = f"{prefix}known" in table.column_names
    if has_known:
        known = np.array(table[f"{prefix}known"].to_pylist(), dtype=object)[there]
        typical = shown.floats(table, f"{prefix}typical")[there]
        strange = np.flatnonzero(known == False)  # noqa: E712 (null is not unknown)
        strange = strange[np.argsort(typical[strange], kind="stable")]
    advice = f"{prefix}recommendation"
    told = (
        dict(zip(labels[there], table.take(there)[advice].to_pylist(), strict=True))
        if advice in table.column_names
        else {}
    )
    counts = Counter(names.tolist())
    groups = shown.group_numbers(table, clustering)[there]
    grouped = [shown.group_name(int(each)) for each in groups]
    return {
        "name": prefix.rstrip("_"),
        "items": len(there),
        "has_known": has_known,
        "unknown": len(strange),
        "advised": any(told.values()),
        "rows": [
            {
                "label": label,
                "count": count,
                "sure": float(sure[names == label].mean()),
                "unknown": int(np.isin(strange, np.flatnonzero(names == label)).sum()),
                "advice": told.get(label) or "",
            }
            for label, count in counts.most_common()
        ],
        "by_label": _drawn(sure, names, "Confidence by label"),
        "by_group": _drawn(sure, grouped, "Confidence by group") if clustering is not None else None,
        "purity": _purity(names, groups) if clustering is not None else None,
        "least": pictures(there[np.argsort(sure, kind="stable")[:LEAST_SURE]].tolist()),
        "strange": pictures(there[strange[:STRANGEST]].tolist()),
    }


def _drawn(sure: np.ndarray, of: Sequence[str] | np.ndarray, title: str) -> dict[str, Any] | None:
    if not len(sure):
        return None
    return figures.plot(partial(plots_classes.sureness, sure, None, list(of), title))


def _purity(names: np.ndarray, groups: np.ndarray) -> dict[str, Any] | None:
    """Of each group its commonest label and the share that bears it; over all groups their mean by items."""
    rows = []
    for group in sorted(set(groups[groups >= 0].tolist())):
        inside = names[groups == group].tolist()
        label, count = Counter(inside).most_common(1)[0]
        rows.append({"group": group, "label": label, "items": len(inside), "share": count / len(inside)})
    if not rows:
        return None
    whole = sum(row["items"] for row in rows)
    return {"rows": rows, "whole": sum(row["share"] * row["items"] for row in rows) / whole}
