"""report.html: one page that tells what was found, in which groups, how good they are, and how it all came about.

The page holds everything it shows (pictures, plots, the interactive map); it fetches nothing, and its content security
policy forbids it to. What it says is read off the receipts; nothing is measured here.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.collection import write_whole
from imagier.outputs import classified, inspected, map3d, pages, plots_compare, shown
from imagier.outputs import plots_figures as figures

if TYPE_CHECKING:
    import pyarrow as pa

    from imagier.collection import Collection, Receipt

CARDS = 60
"""At most so many groups get a card, the largest; every one stands in the table."""
TWINS = 24
"""At most so many groups of near-duplicates are shown, and TWINS_EACH pictures of each."""
TWINS_EACH = 8
FAR = 24
FAILED = 200
"""At most so many failed files are listed."""

SCORES = (
    ("silhouette", "Silhouette", "−1 to 1, higher is better"),
    ("davies_bouldin", "Davies–Bouldin", "from 0, lower is better"),
    ("calinski_harabasz", "Calinski–Harabasz", "from 0, higher is better"),
)


def write_report(collection: Collection, path: str | Path | None = None) -> Path:
    """Write the report as one self-contained HTML file (default: `report.html` in the collection's folder).

    Raises CollectionError when it cannot be written.
    """
    target = collection.folder / "report.html" if path is None else Path(path)
    write_whole(target, report_html(collection).encode())
    return target


def report_html(collection: Collection) -> str:
    """The report as text."""
    parts = map3d.map_parts(collection)
    receipts = list(collection.receipts().values())
    clusterings = shown.clusterings(collection)
    table = collection.read(_columns(collection, clusterings))
    pictures = Pictures(table)
    sections = [_clustering(table, clustering, pictures) for clustering in clusterings]
    template = pages.environment().get_template("report.html")
    return template.render(
        title=collection.folder.name,
        policy=pages.policy(parts.get("map_script", "")),
        map=parts,
        **parts,
        head=_headline(collection, table, sections),
        clusterings=sections,
        classified=classified.sections(
            collection, table, clusterings[0] if clusterings else None, lambda rows: [pictures.at(row) for row in rows]
        ),
        inspected=inspected.sections(collection, table, pictures.at),
        compared=_compared(plots_compare.facts_of(collection), pictures),
        variances=[
            {"step": receipt.step, "plot": figures.plot(partial(figures.explained_variance, ratios)), "ratios": ratios}
            for receipt in receipts
            if (ratios := receipt.facts.get("explained_variance"))
        ],
        twins=_twins(receipts, pictures),
        failed=_failed(collection.files()),
        steps=[_step(receipt) for receipt in receipts],
    )


class Pictures:
    """Items by id, as a page shows them."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._row = {item: row for row, item in enumerate(table["id"].to_pylist())}

    def of(self, ids: Iterable[str]) -> list[dict[str, str | None]]:
        """Name and thumbnail (a data URI, or None) of each item that is there."""
        return [self.at(self._row[item]) for item in ids if item in self._row]

    def at(self, row: int) -> dict[str, str | None]:
        """Name and thumbnail of the item in a row of the table."""
        data = self._table["thumbnail"][row].as_py()
        source = None if data is None else "data:image/jpeg;base64," + base64.b64encode(data).decode()
        return {"name": self._table["name"][row].as_py() or self._table["id"][row].as_py(), "source": source}


def _columns(collection: Collection, clusterings: Sequence[shown.Clustering]) -> list[str]:
    known = set(collection.columns)
    wanted = [f"{each.prefix}{name}" for each in clusterings for name in ("group", "distance", "far")]
    wanted += [*classified.columns(collection), *inspected.columns(collection)]
    return ["id", "name", "label_folder", "thumbnail", *(name for name in wanted if name in known)]


def _headline(collection: Collection, table: pa.Table, sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    outcomes = Counter(collection.files()["outcome"].to_pylist())
    made = [receipt.made for receipt in collection.receipts().values()]
    main = sections[0] if sections else None
    return {
        "items": table.num_rows,
        "ok": outcomes.get("ok", 0),
        "failed": outcomes.get("failed", 0),
        "groups": len(main["groups"]) if main else None,
        "noise": main["noise"] if main else None,
        "verdict": main["verdict"] if main else None,
        "made": max(made, default=""),
    }


def _clustering(table: pa.Table, clustering: shown.Clustering, pictures: Pictures) -> dict[str, Any]:
    facts = clustering.facts
    numbers = shown.group_numbers(table, clustering)
    labels = np.array(table["label_folder"].to_pylist(), dtype=object)
    known = [group["group"] for group in clustering.groups]
    light, dark = shown.group_colours(known), shown.group_colours(known, dark=True)
    groups = [
        {
            **group,
            "name": shown.group_name(group["group"]),
            "light": light[group["group"]],
            "dark": dark[group["group"]],
            "labels": _composition(labels[numbers == group["group"]].tolist()),
        }
        for group in clustering.groups
    ]
    largest = sorted(groups, key=lambda group: -group["size"])[:CARDS]
    cards = [{**group, "pictures": pictures.of(group.get("central") or [])} for group in groups if group in largest]
    noise = np.flatnonzero(numbers == shown.NOISE)
    choice, knee = facts.get("choice") or {}, facts.get("knee") or {}
    return {
        "name": clustering.column.removesuffix("group").rstrip("_"),
        "method": str(facts.get("method") or clustering.receipt.step),
        "on": ", ".join(facts.get("on") or []),
        "verdict": facts.get("verdict") or {},
        "groups": groups,
        "cards": cards,
        "noise": len(noise),
        "items": facts.get("items", table.num_rows),
        "noise_pictures": [pictures.at(int(row)) for row in noise[map3d.evenly(len(noise), 9)]],
        "ungrouped": int((numbers == shown.UNGROUPED).sum()),
        "cohesion_rule": facts.get("cohesion_rule") or "",
        "choice": choice,
        "choice_plot": figures.plot(partial(figures.choice_of_k, {**choice, "why": ""})) if choice.get("k") else None,
        "knee": knee,
        "knee_plot": figures.plot(partial(figures.k_distance, {**knee, "why": ""})) if knee.get("distances") else None,
        "scores": _scores(facts.get("scores") or {}),
        "stability": facts.get("stability") or {},
        **_far(table, clustering, pictures),
    }


def _composition(labels: Sequence[str | None], most: int = 4) -> list[dict[str, Any]]:
    """The commonest labels of a group with their counts and shares, the rest summed up; empty without labels."""
    counts = Counter(label for label in labels if label is not None)
    found: list[tuple[str, int]] = counts.most_common(most)
    if found and (rest := len(labels) - sum(count for _, count in found)):
        found.append(("others", rest))
    return [{"label": label, "count": count, "share": count / len(labels)} for label, count in found]


def _scores(scores: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    space, embedding = scores.get("space") or {}, scores.get("embedding") or {}
    return [
        {"name": name, "meaning": meaning, "space": space.get(key), "embedding": embedding.get(key)}
        for key, name, meaning in SCORES
        if key in space or key in embedding
    ]


def _far(table: pa.Table, clustering: shown.Clustering, pictures: Pictures) -> dict[str, Any]:
    """Items flagged far from their group, the farthest first."""
    if (column := f"{clustering.prefix}far") not in table.column_names:
        return {"far": 0, "far_pictures": []}
    rows = np.flatnonzero(np.array(table[column].to_pylist(), dtype=object) == True)  # noqa: E712 (null is not far)
    distances = shown.floats(table, f"{clustering.prefix}distance")[rows]
    farthest = rows[np.argsort(-distances, kind="stable")][:FAR]
    return {"far": len(rows), "far_pictures": [pictures.at(int(row)) for row in farthest]}


def _compared(facts: dict[str, Any] | None, pictures: Pictures) -> dict[str, Any] | None:
    """The clusterings side by side; None where nobody compared them."""
    if facts is None:
        return None
    found, truth, pairs = facts["clusterings"], facts["truth"], facts["agreement"]
    kept = plots_compare.measured(facts)
    return {
        "why": facts["why"],
        "space": facts["space"]["column"],
        "space_rule": facts["space"]["rule"],
        "truth_rule": truth["rule"] if truth else "",
        "pairs": bool(pairs),
        "suspect_rule": facts["suspect_rule"],
        "verdicts": [{**each, "by": {own["value"]: own for own in each["values"]}} for each in facts["verdicts"]],
        "valued": plots_compare.valued(facts["verdicts"]),
        "verdict_rule": facts["verdict_rule"],
        "names": [name.replace("\n", " ") for name, _, _ in kept],
        "rows": [
            {
                **{key: one[key] for key in ("name", "method", "groups", "noise", "placed")},
                "on": ", ".join(one["on"]),
                "scores": [plots_compare.at(one, path) for _, path, _ in kept],
            }
            for one in found
        ],
        "plot": figures.plot(partial(plots_compare.matrices, facts)) if plots_compare.panels(facts) else None,
        "plot_text": "Tables: "
        + " and ".join(
            ["the agreement of every two clusterings"] * bool(pairs)
            + ["the groups of each against the truth"] * bool(truth)
        ),
        "suspects": [
            {"picture": picture, "reason": each["reason"]}
            for each in facts["suspects"]
            for picture in pictures.of([each["id"]])
        ],
    }


def _twins(receipts: Sequence[Receipt], pictures: Pictures) -> dict[str, Any] | None:
    """Near-duplicates side by side; None where nobody looked for them."""
    facts = next((receipt.facts for receipt in reversed(receipts) if receipt.stage == "duplicates"), None)
    if facts is None:
        return None
    groups = sorted(facts.get("groups") or [], key=len, reverse=True)
    found = [
        {"pictures": pictures.of(group[:TWINS_EACH]), "more": max(len(group) - TWINS_EACH, 0)}
        for group in groups[:TWINS]
    ]
    return {"groups": len(groups), "items": sum(len(group) for group in groups), "shown": found}


def _failed(files: pa.Table) -> list[dict[str, str]]:
    rows = zip(*(files[column].to_pylist() for column in ("name", "outcome", "reason")), strict=True)
    return [
        {"name": name, "reason": reason or "no reason was recorded"}
        for name, outcome, reason in rows
        if outcome == "failed"
    ]


def _step(receipt: Receipt) -> dict[str, Any]:
    settings = ", ".join(f"{name}: {value}" for name, value in receipt.settings.items())
    return {
        "step": receipt.step,
        "stage": f"{receipt.stage} {receipt.version}",
        "settings": settings,
        "items": receipt.items,
        "failed": receipt.failed,
        "seconds": receipt.seconds,
        "precision": receipt.precision,
        "weights": ", ".join(weight[:12] for weight in receipt.weights),
        "key": receipt.key[:12],
        "made": receipt.made[:19].replace("T", " "),
    }
