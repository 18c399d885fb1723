"""The figure of a comparison of clusterings, and how compare.json, which it is drawn from, is read.

Panels: the scores of every clustering; the agreement of every two; the groups of each against what is known to be true.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.outputs.plots_figures import LIGHT, Theme, _caption, _figure
from imagier.outputs.shown import group_name
from imagier.types import CollectionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imagier.collection import Collection

NAME = "compare.json"
PLOT = "compare.png"
FORMAT = 2
"""Raised when compare.json is written otherwise."""

ACROSS = 3
"""Panels side by side."""
TABLES = 6
"""At most so many clusterings have their groups set against the truth, the first."""
ROWS, COLUMNS = 24, 16
"""Of a table of counts, at most so many lines are drawn, the largest."""
NAMED = 18
"""Letters of a name that are drawn."""

SCRIPTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "WenQuanYi Zen Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS", "Nirmala UI"),
)
"""Fonts for names that matplotlib's own font has no letters for, where they are installed."""

SCORES: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("Silhouette", ("silhouette",), True),
    ("Cohesion", ("cohesion",), False),
    ("Stability", ("stability",), True),
    ("Silhouette\n(common)", ("common", "silhouette"), True),
    ("Cohesion\n(common)", ("common", "cohesion"), False),
    ("ARI", ("truth", "all", "ari"), True),
    ("NMI", ("truth", "all", "nmi"), True),
    ("Purity", ("truth", "all", "purity"), True),
    ("ARI\n(in groups)", ("truth", "grouped", "ari"), True),
    ("NMI\n(in groups)", ("truth", "grouped", "nmi"), True),
    ("Purity\n(in groups)", ("truth", "grouped", "purity"), True),
)
"""Name, where it stands in a clustering's facts, and whether higher is better."""


def facts_of(collection: Collection) -> dict[str, Any] | None:
    """What compare.json says of the collection as it is now; None where it is not there, or of another state of it."""
    path = collection.folder / NAME
    if not path.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        fits = (facts["format"], facts["version"]) == (FORMAT, collection.version)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path} cannot be read: {error}. Delete it; nothing depends on it.") from error
    return facts if fits else None


def at(facts: Mapping[str, Any], path: Sequence[str]) -> Any:
    """A value inside nested facts; None where any part of the way is missing."""
    value: Any = facts
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def measured(facts: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], bool]]:
    """The SCORES that any of the clusterings has, and how each lies beside what inspectors say."""
    beside: list[tuple[str, tuple[str, ...], bool]] = []
    for name in (each["name"] for each in facts["verdicts"]):
        beside.append((f"Explains\n({name})", ("verdicts", name, "explained"), True))
        beside.append((f"ARI\n({name})", ("verdicts", name, "verdict", "ari"), True))
    known = [*SCORES, *beside]
    return [each for each in known if any(at(one, each[1]) is not None for one in facts["clusterings"])]


def valued(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The true values that any of the verdicts are told of, in their order."""
    return list(dict.fromkeys(each["value"] for verdict in verdicts for each in verdict["values"]))


def panels(facts: Mapping[str, Any]) -> int:
    """How many matrices there are to draw."""
    return bool(facts["agreement"]) + len(_tables(facts))


def _tables(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in facts["clusterings"] if each["counts"]][:TABLES]


def matrices(facts: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """The figure without the table of scores, for a page that has that as text; only where there are `panels`."""
    return compared(facts, theme, scores=False)


def compared(facts: Mapping[str, Any], theme: Theme = LIGHT, *, scores: bool = True) -> Figure:
    """compare.json as a figure."""
    found, tables, pairs = facts["clusterings"], _tables(facts), facts["agreement"]
    count = panels(facts)
    lines = max([len(found) if pairs else 0, *(min(len(each["counts"]["groups"]), ROWS) for each in tables)], default=0)
    above = 1.3 + 0.42 * len(found) if scores else 0.0
    rows = -(-count // ACROSS)
    below = 1.5 + 0.3 * max(lines, 5)
    figure = _figure(4.2 * min(max(count, 2), ACROSS) if not scores else 12.6, above + rows * below + 0.5, theme)
    grid = figure.add_gridspec(rows + scores, 1, height_ratios=[above] * scores + [below] * rows)
    if scores:
        _scores(figure.add_subplot(grid[0]), facts, theme)
    across = min(max(count, 1), ACROSS)
    inner = [grid[row + scores].subgridspec(1, across) for row in range(rows)]
    for panel in range(count):
        ax = figure.add_subplot(inner[panel // across][panel % across])
        if pairs and panel == 0:
            _pairs(ax, [each["name"] for each in found], pairs["all"], theme)
        else:
            _counts(ax, tables[panel - bool(pairs)], facts["truth"]["column"], theme)
    _caption(figure, _words(facts, len(tables), scores), theme)
    return figure


def _words(facts: Mapping[str, Any], tables: int, scores: bool) -> str:
    said = []
    if scores:
        said.append(
            f"Stronger colour is better. Common: scored in {facts['space']['column']}, the same for all; silhouette "
            "leaves noise out, lower cohesion is tighter."
        )
    except_said = ", unless 'in groups' is said" if scores and facts.get("truth") else ""
    said.append(f"Noise counts as one more group{except_said}.")
    if tables:
        said.append("Groups against the truth: items; the colour is the share of the group.")
    if tables and tables < len(facts["clusterings"]):
        said.append(f"The first {tables} clusterings are drawn.")
    return " ".join(said)


def _scores(ax: Axes, facts: Mapping[str, Any], theme: Theme) -> None:
    found = facts["clusterings"]
    kept = measured(facts)
    names = ["Groups", "Noise", *(name for name, _, _ in kept)]
    values = np.full((len(found), len(names)), np.nan)
    texts = []
    for row, one in enumerate(found):
        numbers = [at(one, path) for _, path, _ in kept]
        for column, (number, (_, _, higher)) in enumerate(zip(numbers, kept, strict=True), 2):
            if number is not None:
                values[row, column] = np.clip(number if higher else 1 - number, 0, 1)
        noise = f"{one['noise']:.1%}".replace("%", " %")
        texts.append([f"{one['groups']:,}", noise, *("–" if n is None else f"{n:.2f}" for n in numbers)])
    on = [", ".join(one["on"]) or one["method"] for one in found]
    labels = [f"{short(one['name'])}\n{short(where)}" for one, where in zip(found, on, strict=True)]
    heat(ax, values, texts, labels, names, f"Clusterings of {facts['items']:,} items", theme)


def _pairs(ax: Axes, names: Sequence[str], matrix: Sequence[Sequence[float | None]], theme: Theme) -> None:
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix], float)
    texts = [["–" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]
    shown = [short(name) for name in names]
    heat(ax, np.clip(values, 0, 1), texts, shown, shown, "Agreement (ARI)", theme)


def _counts(ax: Axes, one: Mapping[str, Any], truth: str, theme: Theme) -> None:
    counts = one["counts"]
    table = np.asarray(counts["table"], float).reshape(len(counts["groups"]), len(counts["values"]))
    rows = ["others" if group is None else group_name(group) for group in counts["groups"]]
    columns = ["others" if value is None else short(value) for value in counts["values"]]
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    texts = [[f"{count:,.0f}" if count else "" for count in row] for row in table]
    title = f"{short(one['name'])} against {truth}"
    if len(rows) > ROWS or len(columns) > COLUMNS:
        title += " (the largest)"
    heat(
        ax,
        share[:ROWS, :COLUMNS],
        [row[:COLUMNS] for row in texts[:ROWS]],
        rows[:ROWS],
        columns[:COLUMNS],
        title,
        theme,
    )


def heat(
    ax: Axes,
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    theme: Theme,
) -> None:
    """A table of coloured cells with their texts: values (r, c) in [0, 1], NaN for a cell without colour."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("paper to main", [theme.paper, theme.main]).with_extremes(
        bad=theme.paper
    )
    ax.imshow(np.ma.masked_invalid(values), cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    size = float(np.clip(10.5 - 0.12 * max(len(columns) - 6, 0) * 2, 6, 10))
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            strong = np.isfinite(values[row, column]) and values[row, column] > 0.55
            colour = theme.paper if strong else theme.ink
            ax.text(column, row, text, ha="center", va="center", fontsize=size, color=colour, parse_math=False)
    ax.set_facecolor(theme.paper)
    fonts = list(_fonts()[0])
    turned = len(columns) * max(map(len, columns), default=0) > 40 and not any("\n" in name for name in columns)
    ax.set_xticks(range(len(columns)), columns, rotation=40 if turned else 0, ha="right" if turned else "center")
    ax.set_yticks(range(len(rows)), rows)
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set(parse_math=False, fontfamily=fonts)
    ax.tick_params(colors=theme.ink, labelsize=8.5, length=0)
    for spine in ax.spines.values():
        spine.set_color(theme.grid)
    for row in range(1, len(rows)):
        ax.axhline(row - 0.5, color=theme.grid, linewidth=0.8)
    bold: dict[str, Any] = {"fontsize": 12, "fontweight": "bold", "fontfamily": fonts}
    ax.set_title(title, color=theme.ink, loc="left", parse_math=False, **bold)


def short(text: str) -> str:
    """A name as it can be drawn: not too long, and a box for a letter that no font at hand has."""
    text = text if len(text) <= NAMED else text[: NAMED - 1] + "…"
    _, letters = _fonts()
    return "".join(letter if ord(letter) in letters or letter == "\n" else "□" for letter in text)


@cache
def _fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    """The first font and those of other scripts that this machine has, and the letters they have between them."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    installed = set(fontManager.get_font_names())
    families = ("DejaVu Sans", *(name for name in SCRIPTS if name in installed))
    return families, frozenset().union(*(get_font(findfont(name)).get_charmap() for name in families))
