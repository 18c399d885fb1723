"""A comparison of clusterings as lines of aligned text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imagier.outputs.plots_compare import valued

if TYPE_CHECKING:
    from imagier.workflows.compare import Comparison


def lines(comparison: Comparison) -> list[str]:
    """The comparison as lines of aligned text."""
    told = [f"{comparison.items} items; {comparison.why}", ""]
    told += _aligned(_score_rows(comparison), left=3)
    told += ["", f"common: scored in {comparison.space['column']}, the same for all. Silhouette leaves noise out."]
    if any(each.placed for each in comparison.clusterings):
        told.append("own, stability: of the collection whose groups these items were placed in.")
    if comparison.truth:
        told.append("truth: noise counts as one more group; grouped: without the noise, over that share of the items.")
    if comparison.verdicts:
        told += ["explains: the share of the score's variance that lies between groups; about 0 by chance.", ""]
        told += _aligned(_verdict_rows(comparison), left=1)
    for each in comparison.verdicts:
        for other, (both, own, their, neither) in each.alike.items():
            if each.kind == "inspect":
                told.append(
                    f"{each.name} beside {other}: both bad {both}, {each.name} alone {own}, {other} alone {their}, "
                    f"both good {neither}"
                )
    if pairs := comparison.agreement:
        names = [each.name for each in comparison.clusterings]
        rows = [["agreement (ARI)", *names]]
        rows += [[name, *map(_number, row)] for name, row in zip(names, pairs["all"], strict=True)]
        told += ["", *_aligned(rows, left=1)]
    if comparison.suspects:
        told += ["", "farthest from every group (suspects):"]
        told += [f"  {each.path or each.id}: {each.reason}" for each in comparison.suspects]
    return told


def _score_rows(comparison: Comparison) -> list[list[str]]:
    with_truth = comparison.truth is not None
    above = ["", "", "", "", "", "own", "own", "", "common", "common"]
    below = ["clustering", "method", "on", "groups", "noise", "silh.", "coh.", "stability", "silh.", "coh."]
    if with_truth:
        above += ["truth"] * 3 + ["grouped"] * 4
        below += ["ARI", "NMI", "purity", "ARI", "NMI", "purity", "items"]
    for judged in comparison.verdicts:
        above += [judged.name] * (3 if judged.kind == "inspect" else 2)
        below += ["explains"] * (judged.kind == "inspect") + ["ARI", "purity"]
    rows = [above, below]
    for each in comparison.clusterings:
        numbers = [each.silhouette, each.cohesion, each.stability, each.common["silhouette"], each.common["cohesion"]]
        row = [
            each.name,
            each.method,
            ", ".join(each.on),
            str(each.groups),
            f"{each.noise:.1%}",
            *map(_number, numbers),
        ]
        if each.truth is not None:
            every, grouped = each.truth["all"], each.truth["grouped"]
            row += map(_number, (every.ari, every.nmi, every.purity, grouped.ari, grouped.nmi, grouped.purity))
            row.append(f"{grouped.items / max(every.items, 1):.0%}")
        for judged in comparison.verdicts:
            beside = each.verdicts[judged.name]
            row += [_number(beside.explained)] * (judged.kind == "inspect")
            row += map(_number, (beside.verdict.ari, beside.verdict.purity))
        rows.append(row)
    return rows


def _verdict_rows(comparison: Comparison) -> list[list[str]]:
    """What each inspector says of the images of each true value."""
    names = valued([{"values": judged.values} for judged in comparison.verdicts])
    above, below = ["", "", "", ""], ["said by", "of", "bad", "ARI"]
    for name in names:
        above += [name, ""]
        below += ["bad", "AUROC"]
    rows = [above, below]
    for judged in comparison.verdicts:
        by = {each["value"]: each for each in judged.values}
        row = [judged.name, str(judged.items), f"{judged.bad:.1%}", _number(judged.truth.ari if judged.truth else None)]
        for name in names:
            row += [f"{by[name]['bad']:.0%}", _number(by[name]["auroc"])] if name in by else ["–", "–"]
        rows.append(row)
    return rows


def _number(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns side by side, the first `left` of them from the left, the others from the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    told = []
    for row in rows:
        cells = list(zip(row, widths, strict=True))
        first = [f"{cell:<{width}}" for cell, width in cells[:left]]
        told.append("  ".join([*first, *(f"{cell:>{width}}" for cell, width in cells[left:])]).rstrip())
    return told
