"""What a report says of an inspection: how many are bad, whether the images changed as a whole, and the strangest."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import images
from imagier.outputs import plots_classes, shown
from imagier.outputs import plots_figures as figures
from imagier.outputs.heat import outlined

if TYPE_CHECKING:
    import pyarrow as pa

    from imagier.collection import Collection

STRANGEST = 24
Picture = dict[str, str | None]


def columns(collection: Collection) -> list[str]:
    """Those that `sections` needs of the items."""
    return [name for each in _inspections(collection) for name in each.columns]


def sections(collection: Collection, table: pa.Table, picture: Callable[[int], Picture]) -> list[dict[str, Any]]:
    """One for each inspection that has run. table: the items, with `columns`; picture: of a row, as pages show it."""
    return [_section(collection, table, each, picture) for each in _inspections(collection)]


def _inspections(collection: Collection) -> list[shown.Judging]:
    return [each for each in shown.judgings(collection) if each.kind == "inspect"]


def _section(
    collection: Collection, table: pa.Table, of: shown.Judging, picture: Callable[[int], Picture]
) -> dict[str, Any]:
    facts, scores, bad = of.receipt.facts, of.scores(table), of.bad(table)
    there = np.flatnonzero(~np.isnan(scores))
    folders = np.array([each or "items" for each in table["label_folder"].to_pylist()], dtype=object)
    strangest = there[np.argsort(-scores[there], kind="stable")[:STRANGEST]]
    strangest = strangest[bad[strangest]]
    return {
        "name": "" if of.receipt.step == "inspect" else of.receipt.step,
        "items": len(there),
        "bad": int(bad[there].sum()),
        "threshold": facts.get("threshold"),
        "false_reject": facts.get("false_reject"),
        "drift": facts.get("drift") or {},
        "plot": figures.plot(partial(plots_classes.scores, scores[there], folders[there].tolist(), facts["threshold"]))
        if facts and len(there)
        else None,
        "strangest": _outlined(collection, of, table, [int(row) for row in strangest], picture),
    }


def _outlined(
    collection: Collection, of: shown.Judging, table: pa.Table, rows: list[int], picture: Callable[[int], Picture]
) -> list[Picture]:
    """Pictures of rows, what is too strange outlined."""
    masks = of.columns[0].removesuffix("anomaly") + "defect_masks"
    ids = [table["id"][row].as_py() for row in rows]
    if not ids:
        return []
    listed = ", ".join(f"'{item}'" for item in ids)
    read = collection.read(["id", masks], where=f"id IN ({listed})")
    by = dict(zip(read["id"].to_pylist(), read[masks].to_pylist(), strict=True))
    made = []
    for row, item in zip(rows, ids, strict=True):
        small = images.decode(table["thumbnail"][row].as_py()).image
        data = images.encode(outlined(small, images.decode(by[item]).image), "jpeg", 85)
        source = "data:image/jpeg;base64," + base64.b64encode(data).decode()
        made.append({**picture(row), "source": source})
    return made
