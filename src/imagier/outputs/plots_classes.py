"""How a classifier does, in figures: what it confuses, confidence against correctness, how sure it is by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.algorithms.confidence import Reliability
from imagier.outputs.plots_compare import heat, short
from imagier.outputs.plots_figures import LIGHT, Theme, _figure, _key, _style
from imagier.outputs.shown import colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = np.linspace(0, 1, 201)
LEAST = 5
"""Images from which a density is drawn over the histogram."""
PANELS = 12
"""At most so many classes or groups, the largest."""
BINS = 20


def confusion(counts: np.ndarray, labels: Sequence[str], theme: Theme = LIGHT) -> Figure:
    """counts (k, k) int: row the true class, column the one told; shaded by the share of the true class."""
    side = 2.6 + 0.75 * len(labels)
    figure = _figure(min(14, side + 1.2), min(12, side * 0.8 + 0.6), theme)
    values = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    texts = [[f"{count:,}" if count else "" for count in row] for row in counts.tolist()]
    names = [short(label) for label in labels]
    ax = figure.add_subplot()
    heat(ax, values, texts, names, names, "What is true (rows), what was told (columns)", theme)
    return figure


def reliability(parts: Sequence[tuple[str, Reliability]], theme: Theme = LIGHT) -> Figure:
    """Confidence against how often it is right; parts: such as before and after calibration."""
    figure = _figure(4.6 * len(parts), 4.2, theme)
    for ax, (name, found) in zip(np.atleast_1d(figure.subplots(1, len(parts))), parts, strict=True):
        there = found.counts > 0
        width = np.diff(found.edges)
        middles = found.edges[:-1] + width / 2
        ax.bar(middles[there], found.right[there], width[there] * 0.92, color=theme.main, label="right")
        ax.plot([0, 1], [0, 1], color=theme.faint, linewidth=1, linestyle="--", label="as sure as right")
        ax.plot(found.confidence[there], found.right[there], color=theme.accent, marker="o", markersize=4, linewidth=0)
        _style(ax, theme, f"{name}: ECE {found.ece:.3f}", "confidence", "share that is right")
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        _key(ax, theme)
    return figure


def sureness(
    confidence: np.ndarray, right: np.ndarray | None, of: Sequence[str], title: str, theme: Theme = LIGHT
) -> Figure:
    """Histograms of confidence with their density (KDE), a panel for each name; right and wrong apart where known.

    confidence (n,) in [0, 1]; right (n,) bool, or None; of: the class or group of each.
    """
    names, counts = np.unique(np.asarray(of, dtype=str), return_counts=True)
    chosen = [str(each) for each in names[np.argsort(-counts, kind="stable")][:PANELS]]
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = _figure(3.2 * columns + 0.4, 2.5 * rows + 0.5, theme)
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True)).ravel()
    good, bad = colours(6, dark=theme.dark)[2], theme.accent
    place = np.asarray(of, dtype=str)
    for at, (ax, name) in enumerate(zip(axes, chosen, strict=False)):
        inside = place == name
        kinds = [("", inside, theme.main)]
        if right is not None:
            kinds = [("right", inside & right, good), ("wrong", inside & ~right, bad)]
        for label, which, colour in kinds:
            _histogram(ax, confidence[which], label, colour)
        _style(ax, theme, f"{short(name)} ({int(inside.sum()):,})", "confidence" if at >= len(chosen) - columns else "",
               "images" if at % columns == 0 else "", small=True)  # fmt: skip
        ax.set_xlim(0, 1)
        if at == 0 and right is not None:
            _key(ax, theme)
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    figure.suptitle(title, color=theme.ink, fontsize=13, fontweight="bold", x=0.01, ha="left")
    return figure


def _histogram(ax: Axes, values: np.ndarray, label: str, colour: str) -> None:
    if not len(values):
        return
    ax.hist(values, BINS, range=(0, 1), color=colour, alpha=0.45, label=label or None)
    density = _density(values)
    if density is not None:
        ax.plot(GRID, density * len(values) / BINS, color=colour, linewidth=1.6)


def _density(values: np.ndarray) -> np.ndarray | None:
    """Gaussian KDE on GRID, mirrored at 0 and 1, beyond which there is nothing; None of too few or of one value."""
    from scipy.stats import gaussian_kde

    if len(values) < LEAST or np.ptp(values) < 1e-6:
        return None
    kernel: Any = gaussian_kde(values)
    made: np.ndarray = kernel(GRID) + kernel(-GRID) + kernel(2 - GRID)
    return made


def gained(told: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """Balanced accuracy by labels, by suggestion and at random. told: as `Gained.as_dict` gives it."""
    figure = _figure(6.4, 4.2, theme)
    ax = figure.add_subplot()
    for name, colour in (("suggested", theme.main), ("random", theme.accent)):
        ax.plot(told["labels"], told[name], color=colour, marker="o", markersize=4, label=name)
    ax.axhline(told["random"][-1], color=theme.faint, linewidth=1, linestyle="--")
    needed = told["share_needed"]
    title = "What suggestions gain" if needed is None else f"As good as random with {needed:.0%} of the labels"
    _style(ax, theme, title.replace("%", " %"), "labels", "balanced accuracy")
    _key(ax, theme)
    return figure


def scores(values: np.ndarray, of: Sequence[str], line: float, theme: Theme = LIGHT) -> Figure:
    """Scores of good parts and of each kind of bad ones, a dot an image, and the line between.

    values (n,); of: "good", or the kind. Dots lie apart at random, which says nothing.
    """
    place = np.asarray(of, dtype=str)
    kinds = sorted(set(of), key=lambda kind: (kind != "good", kind))[: PANELS + 1]
    figure = _figure(7.2, 0.9 + 0.5 * len(kinds), theme)
    ax = figure.add_subplot()
    rng = np.random.default_rng(0)
    for at, kind in enumerate(kinds):
        own = values[place == kind]
        colour = theme.main if kind == "good" else theme.accent
        ax.scatter(own, at + rng.uniform(-0.28, 0.28, len(own)), s=12, color=colour, alpha=0.55, linewidths=0)
    ax.axvline(line, color=theme.ink, linewidth=1.2, linestyle="--")
    ax.set_yticks(range(len(kinds)), [f"{short(kind)} ({int((place == kind).sum()):,})" for kind in kinds])
    ax.invert_yaxis()
    _style(ax, theme, "Right of the line is bad", "score", "")
    return figure
