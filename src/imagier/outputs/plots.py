"""The plots of a collection as PNG files: maps, the choice of k or eps, sizes, cohesion, variance, contact sheets.

    map_2d.png  map_3d.png           every map, coloured by group
    choice_of_k.png  k_distance.png  why there are so many groups
    cluster_sizes.png  cohesion.png  explained_variance.png
    contact_sheet_003.png            the pictures of group 3; contact_sheet_noise.png
    compare.png                      where clusterings were compared: their scores, against each other and the truth

What stems from a map or a clustering with a prefix bears it at its end: `map_2d_pca.png`, `cohesion_night.png`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from imagier.collection import write_whole
from imagier.outputs import plots_compare, shown
from imagier.outputs import plots_figures as figures
from imagier.outputs import plots_sheets as sheets
from imagier.outputs.shown import NOISE, Clustering, Map

if TYPE_CHECKING:
    from imagier.collection import Collection

LIST = ".plots.json"
"""Names of the plots that the last run wrote: the next one removes those that it does not write, and nothing else."""

Draw = Callable[[], bytes]


def write_plots(
    collection: Collection, folder: str | Path | None = None, *, only: Sequence[str] | None = None
) -> list[Path]:
    """Write every plot that the collection has facts for as PNG (160 dpi) to `folder` (default: `plots` in its folder).

    Returns the files written. Plots of an earlier run that no longer stand for anything are removed. `only`: those of
    these names, all others left as they are. Raises CollectionError when the folder cannot be written.
    """
    target = collection.folder / "plots" if folder is None else Path(folder)
    plots = {name: draw for name, draw in _plots(collection) if only is None or name in only}
    before = _listed(target)
    write_whole(target / LIST, json.dumps(sorted({*before, *plots})).encode())  # before the first: a killed run leaves
    for name, draw in plots.items():  # nothing that the next one does not know
        write_whole(target / name, draw())
    if only is not None:
        return [target / name for name in plots]
    for name in before - plots.keys():
        (target / name).unlink(missing_ok=True)
    write_whole(target / LIST, json.dumps(sorted(plots)).encode())
    return [target / name for name in plots]


def _listed(folder: Path) -> set[str]:
    """The plots that the last run wrote to `folder`; only bare names of PNG files, whatever the list says."""
    path = folder / LIST
    if not path.is_file():
        return set()
    try:
        names = json.loads(path.read_bytes())
    except ValueError:  # not our list: nothing of it is touched
        return set()
    return {name for name in names if isinstance(name, str) and name.endswith(".png") and Path(name).name == name}


def _plots(collection: Collection) -> Iterator[tuple[str, Draw]]:
    """Name and how to draw it, for every plot of the collection."""
    maps, clusterings = shown.maps(collection), shown.clusterings(collection)
    table = collection.read(_columns(collection, maps, clusterings))
    main = clusterings[0] if clusterings else None
    pairs = [(a_map, main) for a_map in maps] + [(maps[0], other) for other in clusterings[1:] if maps]
    for a_map, clustering in pairs:
        tag = _tag(a_map.prefix) + (_tag(f"by_{clustering.prefix}") if clustering and clustering is not main else "")
        yield from _map_plots(table, a_map, clustering, tag)
    for receipt in collection.receipts().values():
        if ratios := receipt.facts.get("explained_variance"):
            name = next((a_map.prefix for a_map in maps if a_map.receipt is receipt), f"{receipt.step}_")
            yield f"explained_variance{_tag(name)}.png", partial(_figure, figures.explained_variance, ratios)
    for clustering in clusterings:
        yield from _clustering_plots(table, clustering)
    if compared := plots_compare.facts_of(collection):
        yield plots_compare.PLOT, partial(_figure, plots_compare.compared, compared)


def _columns(collection: Collection, maps: list[Map], clusterings: list[Clustering]) -> list[str]:
    wanted = [axis for a_map in maps for axis in a_map.axes]
    wanted += [f"{c.prefix}{name}" for c in clusterings for name in ("group", "distance")]
    known = set(collection.columns)
    return ["id", "thumbnail", "label_folder", *(name for name in wanted if name in known)]


def _tag(prefix: str) -> str:
    """The end of a file name for a prefix: letters and digits only."""
    safe = "".join(letter if letter.isalnum() else "_" for letter in prefix).strip("_")
    return f"_{safe}" if safe else ""


def _figure(draw: Callable[..., Any], *arguments: Any) -> bytes:
    return figures.png(draw(*arguments))


def _map_plots(table: pa.Table, a_map: Map, clustering: Clustering | None, tag: str) -> Iterator[tuple[str, Draw]]:
    points = shown.coordinates(table, a_map)
    placed = np.isfinite(points).all(axis=1)
    if not placed.any():
        return
    points, groups = points[placed], shown.group_numbers(table, clustering)[placed]
    title = f"{len(points):,} items by {a_map.method}"
    found = len(set(groups[groups >= 0].tolist()))
    if clustering is not None:
        title += f", {found} group{'' if found == 1 else 's'}"
    missing = int((~placed).sum())
    caption = f"Without a place here, for want of an embedding: {missing:,}." if missing else ""
    axes = a_map.axis_titles()
    yield f"map_2d{tag}.png", partial(_figure, figures.map_2d, points, groups, axes, title, caption)
    if np.ptp(points[:, 2]) > 0:
        yield f"map_3d{tag}.png", partial(_figure, figures.map_3d, points, groups, axes, title, caption)


def _clustering_plots(table: pa.Table, clustering: Clustering) -> Iterator[tuple[str, Draw]]:
    tag, facts = _tag(clustering.prefix), clustering.facts
    if (choice := facts.get("choice")) and choice.get("k"):
        yield f"choice_of_k{tag}.png", partial(_figure, figures.choice_of_k, choice)
    if (knee := facts.get("knee")) and knee.get("distances"):
        yield f"k_distance{tag}.png", partial(_figure, figures.k_distance, knee)
    groups = shown.group_numbers(table, clustering)
    distances = shown.floats(table, f"{clustering.prefix}distance")
    noise = int((groups == NOISE).sum())
    if clustering.groups or noise:
        caption = str((facts.get("verdict") or {}).get("text") or "")
        yield f"cluster_sizes{tag}.png", partial(_figure, figures.cluster_sizes, clustering.groups, noise, caption)
    if (np.isfinite(distances) & (groups >= 0)).any():
        rule = str(facts.get("cohesion_rule") or "")
        arguments = (distances, groups, clustering.groups, rule)
        yield f"cohesion{tag}.png", partial(_figure, figures.cohesion, *arguments)
    row_of = {item: row for row, item in enumerate(table["id"].to_pylist())}
    palette = shown.group_colours(groups)
    for group in sorted(set(groups[groups >= NOISE].tolist())):
        name = "noise" if group == NOISE else f"{group:03d}"
        said = next((each for each in clustering.groups if each["group"] == group), {})
        central = [row_of[item] for item in said.get("central") or [] if item in row_of]
        rows = np.flatnonzero(groups == group)
        others = rows[np.argsort(distances[rows], kind="stable")].tolist()  # NaN last
        draw = partial(_sheet, table, group, said, central, others, palette[group])
        yield f"contact_sheet{tag}_{name}.png", draw


def _sheet(
    table: pa.Table, group: int, said: dict[str, Any], central: list[int], others: list[int], colour: str
) -> bytes:
    shown_rows = sheets.chosen(central, others)
    title = f"{shown.group_name(group).capitalize()}: {len(others):,} item{'' if len(others) == 1 else 's'}"
    if quality := said.get("quality"):
        title += f", {quality} quality"
    if (cohesion := said.get("cohesion")) is not None:
        title += f", cohesion {cohesion:.2f}"
    subtitle = _subtitle(len(central), len(shown_rows), len(others))
    if labels := _commonest(table.take(others)["label_folder"].to_pylist()):
        subtitle += f" Folders: {labels}."
    thumbnails = table["thumbnail"].take(pa.array(shown_rows, pa.int64())).to_pylist()
    return sheets.contact_sheet(thumbnails, title, subtitle, framed=len(central), colour=colour)


def _subtitle(central: int, pictures: int, items: int) -> str:
    """Which items a sheet shows, in a sentence."""
    everything = pictures == items
    if not central:
        return "" if everything else f"{pictures} of {items:,} items, evenly from all."
    first = f"Framed: the {central} most central."
    if pictures == central:
        return first
    rest = f"the other {items - central}" if everything else f"{pictures - central} of the other {items - central:,}"
    return f"{first} Then {rest}, near to far."


def _commonest(labels: list[str | None], most: int = 3) -> str:
    """The most frequent labels with their shares, in words; empty where there is none."""
    from collections import Counter

    counts = Counter(label for label in labels if label is not None)
    return ", ".join(f"{label} {count / len(labels):.0%}" for label, count in counts.most_common(most))
