"""The figures, one function each: arrays and facts in, a matplotlib Figure out.

Figures are made with matplotlib's objects alone, never with pyplot's current figure or with rcParams, so that a web
server may draw them from several threads. A `Theme` gives the few colours that differ between light and dark.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.outputs.shown import GREY, NOISE, UNGROUPED, colours, group_colours, group_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160
DISTINCT = 20
"""Up to here every group has a colour and a legend entry of its own; beyond, a colour scale stands for them."""
PANELS = 24
"""At most so many groups in the cohesion plot, the largest."""
MARKERS = "osD^"


@dataclass(frozen=True)
class Theme:
    """The colours of a figure that are not data."""

    paper: str
    ink: str
    faint: str
    grid: str
    dark: bool

    @property
    def main(self) -> str:
        """The colour of a single curve."""
        return colours(1, dark=self.dark)[0]

    @property
    def accent(self) -> str:
        """The colour of what was chosen."""
        return colours(6, dark=self.dark)[5]


LIGHT = Theme(paper="#ffffff", ink="#1c2430", faint="#5a6472", grid="#e4e7eb", dark=False)
DARK = Theme(paper="#1a1f27", ink="#e7eaee", faint="#a3acb8", grid="#313945", dark=True)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return out.getvalue()


def plot(draw: Callable[[Theme], Figure]) -> dict[str, Any]:
    """A figure as data URIs, one for a light page and one for a dark one, and its width in a page's pixels."""
    light, dark = draw(LIGHT), draw(DARK)
    source = "data:image/png;base64,"
    return {
        "light": source + base64.b64encode(png(light)).decode(),
        "dark": source + base64.b64encode(png(dark)).decode(),
        "width": round(light.get_figwidth() * 80),
    }


def map_2d(
    points: np.ndarray, groups: np.ndarray, axes: Sequence[str], title: str, caption: str = "", theme: Theme = LIGHT
) -> Figure:
    """The first two axes of a map, coloured by group. points: (n, 3) finite; groups: (n,) int."""
    from matplotlib.patheffects import withStroke

    figure = _figure(9.6, 7.2, theme)
    ax = figure.add_subplot()
    _scatter(ax, points[:, :2], groups, theme)
    real = sorted(set(groups[groups >= 0].tolist()))
    for group in real if len(real) <= 60 else []:
        ax.annotate(
            str(group),
            np.median(points[groups == group, :2], axis=0),
            ha="center",
            va="center",
            fontsize=11,
            fontweight="bold",
            color=theme.ink,
            path_effects=[withStroke(linewidth=3, foreground=theme.paper)],
        )
    _style(ax, theme, title, axes[0], axes[1])
    ax.margins(0.06)
    _caption(figure, caption, theme)
    return figure


def map_3d(
    points: np.ndarray, groups: np.ndarray, axes: Sequence[str], title: str, caption: str = "", theme: Theme = LIGHT
) -> Figure:
    """A map in three dimensions, coloured by group. points: (n, 3) finite; groups: (n,) int."""
    figure = _figure(9.6, 7.6, theme)
    ax: Any = figure.add_subplot(projection="3d")
    _scatter(ax, points, groups, theme)
    ax.set_box_aspect((1, 1, 0.9), zoom=1.0)
    ax.view_init(elev=22, azim=-58)
    ax.set_facecolor(theme.paper)
    for axis, name in zip((ax.xaxis, ax.yaxis, ax.zaxis), axes, strict=True):
        axis.set_label_text(name, color=theme.ink, fontsize=10)
        axis.labelpad = 9
        axis.set_pane_color(theme.paper)
        axis._axinfo["grid"].update(color=theme.grid, linewidth=0.8)
        axis.line.set_color(theme.faint)
        axis.set_tick_params(colors=theme.faint, labelsize=8)
    ax.set_title(title, color=theme.ink, fontsize=13, fontweight="bold", loc="left", parse_math=False)
    _caption(figure, caption, theme)
    return figure


def _scatter(ax: Any, points: np.ndarray, groups: np.ndarray, theme: Theme) -> None:
    """Points by group with their legend; beyond DISTINCT groups with a colour scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    flat = points.shape[1] == 2
    size = float(np.clip(2600 / max(len(points), 1) ** 0.72, 3, 70))
    look: dict[str, Any] = {"linewidths": 0.35 if size > 8 else 0, "edgecolors": theme.paper} | (
        {} if flat else {"depthshade": False}
    )
    for group in (UNGROUPED, NOISE):
        if (at := groups == group).any():
            alpha = 0.55 if group == NOISE else 0.8
            label = f"{group_name(group)} ({at.sum():,})"
            ax.scatter(*points[at].T, s=size * 0.7, c=GREY, alpha=alpha, label=label, **look)
    real = sorted(set(groups[groups >= 0].tolist()))
    if len(real) <= DISTINCT:
        palette = group_colours(real, dark=theme.dark)
        for i, group in enumerate(real):
            at = groups == group
            marker = MARKERS[i // 6]
            label = f"{group_name(group)} ({at.sum():,})"
            ax.scatter(*points[at].T, s=size, c=palette[group], alpha=0.85, marker=marker, label=label, **look)
        if real or (groups == NOISE).any():
            _legend(ax, theme)
        return
    scale = ListedColormap(colours(len(real), dark=theme.dark))
    norm = BoundaryNorm(np.append(np.array(real) - 0.5, real[-1] + 0.5), len(real))
    at = groups >= 0
    ax.scatter(*points[at].T, s=size, c=groups[at], cmap=scale, norm=norm, alpha=0.85, **look)
    ticks = real[:: -(-len(real) // 12)]
    bar = ax.figure.colorbar(
        ScalarMappable(norm, scale), ax=ax, ticks=ticks, shrink=0.8, pad=0.02 if flat else 0.1, spacing="uniform"
    )
    bar.set_label("group" + (f" (noise in grey: {(groups == NOISE).sum():,})" if (groups == NOISE).any() else ""))
    bar.ax.yaxis.label.set_color(theme.ink)
    bar.ax.tick_params(colors=theme.faint, labelsize=8)
    bar.outline.set_visible(False)


def _legend(ax: Any, theme: Theme) -> None:
    legend = ax.figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelcolor=theme.ink)
    for handle in legend.legend_handles:
        handle.set_sizes([42])
        handle.set_alpha(1)


def choice_of_k(choice: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """Inertia (where there is one) and silhouette against k, the chosen k marked, the reason below."""
    k = np.asarray(choice["k"])
    curves = [
        ("inertia", "Elbow", "inertia (sum of squared distances)", choice.get("elbow"), "elbow"),
        ("silhouette", "Silhouette", "mean silhouette (−1 to 1)", choice.get("silhouette_k"), "highest"),
    ]
    drawn = [curve for curve in curves if choice.get(curve[0])]
    figure = _figure(5.2 * max(len(drawn), 1) + 0.4, 4.4, theme)
    chosen = choice.get("chosen")
    for i, (column, title, unit, best, name) in enumerate(drawn):
        ax = figure.add_subplot(1, len(drawn), i + 1)
        values = np.array([np.nan if value is None else value for value in choice[column]], dtype=float)
        ax.plot(k, values, color=theme.main, marker="o", markersize=4.5, linewidth=1.8, zorder=3)
        if column == "silhouette" and (plain := choice.get("without_groups")):
            ax.plot(k, plain, color=theme.faint, linewidth=1.5, linestyle=":", label="of data without groups")
        if chosen is not None:
            ax.axvline(chosen, color=theme.accent, linewidth=1.5, linestyle="--", label=f"chosen: k = {chosen}")
        if best is not None and best in k:
            at = values[k == best]
            hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": theme.accent, "linewidths": 2}
            ax.scatter([best], at, s=110, zorder=4, label=f"{name}: k = {best}", **hollow)
        _style(ax, theme, title, "number of clusters k", unit)
        _whole_ticks(ax)
        ax.set_xlim(k.min() - 0.3, k.max() + 0.3)
        _key(ax, theme)
    _caption(figure, str(choice.get("why") or ""), theme)
    return figure


def k_distance(knee: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """The ascending curve of the distance to the k-th neighbour, with eps and the knee marked."""
    distances = np.asarray(knee["distances"], dtype=float)
    figure = _figure(7.2, 4.8, theme)
    ax = figure.add_subplot()
    share = np.linspace(0, 100, len(distances)) if len(distances) > 1 else np.zeros(len(distances))
    ax.plot(share, distances, color=theme.main, linewidth=2, zorder=3)
    if (eps := knee.get("eps")) is not None:
        ax.axhline(eps, color=theme.accent, linewidth=1.5, linestyle="--", label=f"eps = {eps:.3g}")
    if (position := knee.get("position")) is not None:
        hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": theme.accent, "linewidths": 2}
        ax.scatter([share[position]], [distances[position]], s=110, zorder=4, label="knee", **hollow)
    neighbour = knee.get("neighbour")
    _style(
        ax,
        theme,
        "How close the neighbours are",
        "items, sorted by this distance (%)",
        f"distance to neighbour {neighbour}" if neighbour else "distance to the k-th neighbour",
    )
    _key(ax, theme)
    _caption(figure, str(knee.get("why") or ""), theme)
    return figure


def cluster_sizes(groups: Sequence[Mapping[str, Any]], noise: int, caption: str = "", theme: Theme = LIGHT) -> Figure:
    """A bar per group, its length the number of items, coloured by quality; noise below. groups: facts."""
    from matplotlib.patches import Patch

    high, low = colours(2, dark=theme.dark)
    tint = {"high": high, "low": low}
    rows = [(group_name(g["group"]), int(g["size"]), tint.get(str(g.get("quality")), GREY)) for g in groups]
    rows += [("noise", noise, GREY)] if noise else []
    figure = _figure(8.0, float(np.clip(1.6 + 0.27 * len(rows), 3.2, 40)), theme)
    ax = figure.add_subplot()
    sizes = [size for _, size, _ in rows]
    ax.barh(range(len(rows)), sizes, color=[colour for _, _, colour in rows], height=0.74, zorder=3)
    for i, size in enumerate(sizes):
        ax.annotate(f" {size:,}", (size, i), va="center", fontsize=8.5, color=theme.ink)
    _style(ax, theme, "Items per group", "items", "")
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, max([*sizes, 1]) * 1.1)
    ax.grid(False, axis="y")
    _whole_ticks(ax)
    handles = [Patch(color=tint[q], label=f"{q} quality") for q in tint if any(g.get("quality") == q for g in groups)]
    handles += [Patch(color=GREY, label="noise")] if noise else []
    if handles:
        figure.legend(
            handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize=9, labelcolor=theme.ink
        )
    _caption(figure, caption, theme)
    return figure


def cohesion(
    distances: np.ndarray,
    groups: np.ndarray,
    facts: Sequence[Mapping[str, Any]],
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """A panel per group: histogram and density of the distances to its centroid. At most PANELS, the largest groups.

    distances: (n,) float, NaN where unknown; groups: (n,) int.
    """
    import seaborn

    usable = np.isfinite(distances) & (groups >= 0)
    numbers, counts = np.unique(groups[usable], return_counts=True)
    largest = sorted(numbers[np.argsort(-counts, kind="stable")][:PANELS].tolist())
    said = {group["group"]: group for group in facts}
    palette = group_colours(numbers, dark=theme.dark)
    bins = _bins(distances[usable], int(counts.mean()))
    if len(numbers) > len(largest):
        caption = f"The {len(largest)} largest of {len(numbers)} groups. {caption}"
    columns = min(4, len(largest))
    rows = -(-len(largest) // columns)
    width, height = max(3.1 * columns, 6.2), 2.25 * rows + 1.5
    figure = _figure(width, height, theme)
    figure.set_layout_engine(None)  # with 24 panels the layout engine costs seconds; inches serve as well
    figure.subplots_adjust(0.75 / width, 1.15 / height, 1 - 0.2 / width, 1 - 0.8 / height, 0.2, 0.5)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for ax, group in zip(panels, largest, strict=False):
        own = distances[usable & (groups == group)]
        seaborn.histplot(
            x=own,
            bins=bins,
            ax=ax,
            kde=_has_density(own),
            color=palette[group],
            alpha=0.45,
            linewidth=0,
            element="step",
        )
        cohesive = said.get(group, {}).get("cohesion")
        worth = "" if cohesive is None else f", cohesion {cohesive:.2f}"
        _style(ax, theme, f"{group_name(group)}: {len(own):,} items{worth}", "", "", small=True)
        ax.tick_params(labelbottom=True)
        ax.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    for ax in panels[len(largest) :]:
        ax.set_visible(False)
    for ax in panels[len(largest) - columns : len(largest)]:
        ax.set_xlabel("distance to the centroid", color=theme.ink, fontsize=9, visible=True)
    bold: dict[str, Any] = {"ha": "left", "color": theme.ink, "fontsize": 13, "fontweight": "bold"}
    title = "How close the items of a group are to its centre"
    figure.suptitle(title, x=0.2 / width, y=1 - 0.15 / height, **bold)
    figure.supylabel("items", x=0.15 / width, color=theme.ink, fontsize=10)
    _caption(figure, caption, theme)
    return figure


def _bins(values: np.ndarray, size: int) -> np.ndarray:
    """The edges of bins that all groups, of `size` items on average, share; not empty where all values are one."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-6 * max(abs(high), 1e-12):
        half = max(abs(high) * 0.05, 0.05)
        low, high = low - half, high + half
    return np.linspace(low, high, int(np.clip(2.5 * np.sqrt(size), 8, 40)) + 1)


def _has_density(values: np.ndarray) -> bool:
    """Whether a kernel density can be estimated: three values or more that are not all one."""
    return len(values) >= 3 and float(np.std(values)) > 1e-6 * max(float(np.abs(values).max()), 1e-12)


def explained_variance(ratios: Sequence[float], theme: Theme = LIGHT) -> Figure:
    """The share of the variance that each principal component carries, and their running sum."""
    shares = np.asarray(ratios, dtype=float) * 100
    number = np.arange(1, len(shares) + 1)
    figure = _figure(7.2, 4.6, theme)
    ax = figure.add_subplot()
    first, second = colours(2, dark=theme.dark)
    ax.bar(number, shares, color=first, width=0.8, label="each component", zorder=3)
    total = np.cumsum(shares)
    ax.plot(number, total, color=second, linewidth=2, marker="o", markersize=3, label="all up to it", zorder=4)
    note = f"{len(shares)} components: {total[-1]:.0f} %"
    ax.annotate(note, (number[-1], total[-1]), (0, 8), textcoords="offset points", ha="right", color=theme.ink)
    _style(ax, theme, "Variance that the principal components carry", "component", "share of the variance (%)")
    ax.set_ylim(0, max(float(total.max()) * 1.15, 1))
    _whole_ticks(ax)
    ax.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc="center right")
    return figure


def _figure(width: float, height: float, theme: Theme) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.12)
    return Figure(figsize=(width, height), layout=engine, facecolor=theme.paper)


def _style(ax: Axes, theme: Theme, title: str, x: str, y: str, *, small: bool = False) -> None:
    ax.set_facecolor(theme.paper)
    ax.set_axisbelow(True)
    ax.grid(True, color=theme.grid, linewidth=0.8)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)
    ax.tick_params(colors=theme.faint, labelsize=9, length=3)
    size, weight = (9.5, "normal") if small else (13, "bold")
    ax.set_title(title, color=theme.ink, fontsize=size, fontweight=weight, loc="left", parse_math=False)
    ax.set_xlabel(x, color=theme.ink, fontsize=10, parse_math=False)
    ax.set_ylabel(y, color=theme.ink, fontsize=10, parse_math=False)


def _key(ax: Axes, theme: Theme) -> None:
    """A legend inside the axes, where there is anything to explain."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9, labelcolor=theme.ink)


def _whole_ticks(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))


def _caption(figure: Figure, text: str, theme: Theme) -> None:
    """A sentence below the figure, wrapped to its width."""
    if text:
        lines = textwrap.fill(text, int(figure.get_figwidth() * 13))
        figure.supxlabel(lines, color=theme.faint, fontsize=9.5, parse_math=False)
