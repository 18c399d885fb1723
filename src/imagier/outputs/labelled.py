"""The labels that people gave, as a table for other programs: an item, its name, its label, who gave it and when."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa

from imagier import labels
from imagier.outputs.tables import flat

if TYPE_CHECKING:
    from imagier.collection import Collection

LABELLED = pa.schema([pa.field(name, pa.string()) for name in ("item", "name", "label", "author", "made")])


def labels_table(collection: Collection) -> pa.Table:
    """The columns of LABELLED, a row for each item of the collection that has a label of a person, sorted by name."""
    rows = labels.current(collection)[labels.LABEL]
    names = {item: row["name"] for item, row in collection.found(list(rows), ["name"]).items()}
    table = pa.Table.from_pylist(
        [
            {
                "item": item,
                "name": name,
                "label": rows[item].value,
                "author": rows[item].author,
                "made": rows[item].made,
            }
            for item, name in names.items()
        ],
        LABELLED,
    )
    return table.sort_by([("name", "ascending"), ("item", "ascending")])


def labels_csv(collection: Collection) -> bytes:
    """`labels_table` as CSV in UTF-8; no cell is one that a spreadsheet would run as a formula."""
    from pyarrow import csv

    data = io.BytesIO()
    csv.write_csv(flat(labels_table(collection)), data)
    return data.getvalue()
