"""What a collection has to show: its maps and clusterings, found from the receipts, and the colours they are shown in.

Nothing here draws, and nothing here knows a step by name: a pipeline may make several maps and several clusterings,
or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from imagier.collection import Collection, Receipt

NOISE = -1
UNGROUPED = -2
"""Stands for a null group (an item without an embedding) where groups are handled as an array."""

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's colours for every kind of colour vision, less black and yellow, which are lost on one background."""
MORE = (
    *("#332288", "#999933", "#882255", "#44AA99", "#AA4499", "#DDCC77", "#117733"),
    *("#CC6677", "#6699CC", "#8C564B", "#5D3A9B", "#A6BF3F", "#1B9E9E", "#B2182B"),
)
"""From Paul Tol's muted scheme and beyond. No 20 colours are safe for everyone: shapes and numbers go with them."""
PALETTE = OKABE_ITO + MORE
GREY = "#9A9FA6"
VIRIDIS = ("#440154", "#472D7B", "#3B528B", "#2C728E", "#21918C", "#28AE80", "#5EC962", "#ADDC30", "#FDE725")


@dataclass(frozen=True)
class Map:
    """Three columns that give every item a place."""

    receipt: Receipt
    prefix: str
    """What stands before `x`, `y` and `z`; empty for the main map."""

    @property
    def axes(self) -> tuple[str, str, str]:
        """The names of its columns."""
        return (f"{self.prefix}x", f"{self.prefix}y", f"{self.prefix}z")

    @property
    def method(self) -> str:
        """Its method in capitals, as the field writes it: UMAP, PCA; but t-SNE."""
        named = str(self.receipt.facts.get("method") or self.receipt.settings.get("method") or self.receipt.step)
        return {"tsne": "t-SNE", "t-sne": "t-SNE", "opentsne": "t-SNE"}.get(named.lower(), named.upper())

    def axis_titles(self) -> tuple[str, str, str]:
        """What to write at its axes; for PCA with the share of the variance."""
        ratios = self.receipt.facts.get("explained_variance") or []
        if self.method == "PCA" and len(ratios) >= 3:
            return tuple(f"PC {i + 1} ({ratios[i]:.0%} of variance)" for i in range(3))  # type: ignore[return-value]
        return (f"{self.method} 1", f"{self.method} 2", f"{self.method} 3")


@dataclass(frozen=True)
class Clustering:
    """A column of groups, and what its receipt says of them."""

    receipt: Receipt
    prefix: str
    """What stands before `group`, `distance`, `quality` and `far`; empty for the main clustering."""

    @property
    def column(self) -> str:
        """The name of its column of groups."""
        return f"{self.prefix}group"

    @property
    def facts(self) -> dict[str, Any]:
        """The receipt's facts."""
        return self.receipt.facts

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The facts of each group, by number."""
        return sorted(self.facts.get("groups") or [], key=lambda group: group["group"])


@dataclass(frozen=True)
class Judging:
    """Two columns that call each image good or bad: an inspector's, or whether a segmenter found anything."""

    receipt: Receipt
    kind: str
    """inspect or segment."""
    columns: tuple[str, ...]
    """Of an inspector the score and the verdict; of a segmenter how many objects of each class."""

    def scores(self, table: pa.Table) -> np.ndarray:
        """How bad each item is, (n,) float64, NaN where nothing was said."""
        told = self.columns[:1] if self.kind == "inspect" else self.columns
        summed: np.ndarray = np.sum([floats(table, name) for name in told], axis=0)
        return summed

    def bad(self, table: pa.Table) -> np.ndarray:
        """Which items are called bad, (n,) bool; only where `scores` are known."""
        if self.kind == "inspect":
            return np.array([value == "bad" for value in table[self.columns[1]].to_pylist()], bool)
        found: np.ndarray = np.nan_to_num(self.scores(table)) > 0
        return found


Shown = TypeVar("Shown", Map, Clustering)


def maps(collection: Collection) -> list[Map]:
    """The maps of a collection, the main one first: the one without a prefix, else the last."""
    there = set(collection.columns)
    found = []
    for receipt in _of_stage(collection, "reduce"):
        for name in receipt.writes:
            prefix = name.removesuffix("x")
            axes = [f"{prefix}{axis}" for axis in "xyz"]
            if name.endswith("x") and all(axis in receipt.writes and axis in there for axis in axes):
                found.append(Map(receipt, prefix))
    return _main_first(found)


def clusterings(collection: Collection) -> list[Clustering]:
    """The clusterings of a collection, the main one first: the one without a prefix, else the last."""
    there = set(collection.columns)
    found = [
        Clustering(receipt, name.removesuffix("group"))
        for receipt in _of_stage(collection, "cluster")
        for name in receipt.writes
        if name in there and (name == "group" or name.endswith("_group"))
    ]
    return _main_first(found)


def judgings(collection: Collection) -> list[Judging]:
    """The inspectors of a collection and, where there is one, its segmenters, in the order of the pipeline."""
    there = set(collection.columns)
    found = []
    for receipt in collection.receipts().values():
        known = [name for name in receipt.writes if name in there]
        if receipt.stage == "inspect":
            score = next(name for name in known if name == "anomaly" or name.endswith("_anomaly"))
            found.append(Judging(receipt, "inspect", (score, score.removesuffix("anomaly") + "verdict")))
        elif receipt.stage == "segment":
            prefix = "" if receipt.step == "segment" else f"{receipt.step}_"
            found.append(Judging(receipt, "segment", tuple(n for n in known if n.startswith(f"{prefix}objects"))))
    return found if any(each.kind == "inspect" for each in found) else []


def _of_stage(collection: Collection, stage: str) -> list[Receipt]:
    return [receipt for receipt in collection.receipts().values() if receipt.stage == stage]


def _main_first(found: list[Shown]) -> list[Shown]:
    main = next((each for each in found if not each.prefix), found[-1] if found else None)
    return [each for each in found if each is main] + [each for each in found if each is not main]


def coordinates(table: pa.Table, shown: Map) -> np.ndarray:
    """The places of the items of `table`: (n, 3) float64, a row of NaN where the item has none."""
    points = np.stack([floats(table, axis) for axis in shown.axes], axis=1)
    points[~np.isfinite(points).all(axis=1)] = np.nan
    return points


def floats(table: pa.Table, column: str) -> np.ndarray:
    """A numeric column as (n,) float64, NaN for null; all NaN where the table has no such column."""
    if column not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.array(table[column].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def group_numbers(table: pa.Table, clustering: Clustering | None) -> np.ndarray:
    """The groups of the items of `table`: (n,) int64, NOISE for noise, UNGROUPED for null or without a clustering."""
    if clustering is None:
        return np.full(table.num_rows, UNGROUPED, dtype=np.int64)
    numbers = floats(table, clustering.column)
    return np.where(np.isnan(numbers), UNGROUPED, numbers).astype(np.int64)


def group_name(group: int) -> str:
    """How a group is called in every plot and page."""
    return {NOISE: "noise", UNGROUPED: "no group"}.get(group, f"group {group}")


def colours(n: int, *, dark: bool = False) -> list[str]:
    """n colours as #rrggbb: up to 20 distinct ones, beyond that from one end of viridis to the other.

    `dark` asks for those to be seen on a dark background.
    """
    if n <= len(PALETTE):
        chosen = list(PALETTE[:n])
    else:
        stops = np.array([_rgb(colour) for colour in VIRIDIS])
        at = np.linspace(0, len(stops) - 1, n)
        mixed = np.stack([np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=1)
        chosen = [_hex(rgb) for rgb in mixed]
    return [_readable(colour, dark=dark) for colour in chosen]


def group_colours(groups: Iterable[int], *, dark: bool = False) -> dict[int, str]:
    """A colour for each group that occurs; grey for noise and for no group."""
    real = sorted({int(group) for group in groups if group >= 0})
    found = dict(zip(real, colours(len(real), dark=dark), strict=True))
    return {**found, NOISE: GREY, UNGROUPED: GREY}


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _hex(rgb: Sequence[float] | np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(round(float(value)) for value in rgb))


def _readable(colour: str, *, dark: bool) -> str:
    """The colour mixed with white or black until it stands out from its background."""
    rgb = np.array(_rgb(colour), dtype=float)
    luminance = float(rgb @ (0.2126, 0.7152, 0.0722)) / 255
    if dark and luminance < 0.45:
        rgb += (255 - rgb) * (0.45 - luminance) / (1 - luminance)
    if not dark and luminance > 0.78:
        rgb *= 0.78 / luminance
    return _hex(rgb)
