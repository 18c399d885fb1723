"""Put images through an inspector: verdicts, heatmaps, masks and boxes of defects, as files; and whether the run as a
whole differs from the good parts that the line was drawn by."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagier import _progress, images
from imagier._names import distinct_paths
from imagier.collection import write_whole
from imagier.models.inspecting import BATCH, RATE, Drift, Rule, Verdict, drift, inspect_by, rule_of
from imagier.outputs.heat import overlay
from imagier.types import Image, ImageError, SettingError
from imagier.workflows.segment import objects_of, read

COLUMNS = ("file", "verdict", "score", "typical", "probability", "defects", "defect_share")
"""Of verdicts.csv."""


@dataclass(frozen=True)
class Outcome:
    """What `inspect` did."""

    model: str
    rule: Rule
    rows: tuple[dict[str, Any], ...]
    """An image each: file, verdict, score, typical, defects with boxes; probability where the model tells one."""
    failed: tuple[str, ...]
    """Reasons, each with its file."""
    drift: Drift | None
    """None where no image could be read."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        told: dict[str, Any] = {"model": self.model, **self.rule.as_dict()}
        told |= {"drift": None if self.drift is None else self.drift.as_dict()}
        return told | {"images": list(self.rows), "failed": list(self.failed)}

    def lines(self) -> list[str]:
        """For a person."""
        lines = []
        for row in self.rows:
            if row["verdict"] == "bad":
                sure = f", bad with probability {row['probability']:.2f}" if "probability" in row else ""
                count = len(row["defects"])
                places = "no place alone is too strange" if not count else f"{count} defect{'s' * (count > 1)}"
                lines.append(f"{row['file']}: bad, score {row['score']:.3f}{sure}, {places}")
        bad = len(lines)
        line = self.rule.line
        low, high = line.ci95
        lines.append(
            f"{len(self.rows)} images: {bad} bad, {len(self.rows) - bad} good; the line at {line.threshold:.3f} takes "
            f"{line.rate:.1%} of good parts for bad (95 % interval {low:.1%} to {high:.1%}, by {line.held} of them)"
        )
        return lines + ([self.drift.text] if self.drift is not None and self.drift.changed else [])


def inspect(
    sources: Sequence[str | os.PathLike[str]],
    *,
    model: str | os.PathLike[str],
    into: Path,
    rate: float = RATE,
    progress: bool = True,
) -> Outcome:
    """Write `verdicts.json`, `verdicts.csv`, `heatmaps/NAME.jpg` of every image of the sources, and `masks/NAME.png` of
    each with a place that is too strange.

    rate: of good parts that may be taken for bad. A file that is no image is told, and stops nothing. Raises
    SettingError, ModelError, SourceError, CollectionError.
    """
    from imagier.models.store import find
    from imagier.sources import scan

    listed = scan(sources).files
    if not listed:
        raise SettingError("there are no images in what was named")
    found = find(os.fspath(model), "inspect")
    rule, look = rule_of(found, rate), inspect_by(found, threads=os.cpu_count())
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    middles: list[np.ndarray] = []
    named = list(zip(listed, distinct_paths([each.name for each in listed]), strict=True))
    with _progress.bar(len(named), progress) as bar:
        for at in range(0, len(named), BATCH):
            there: list[tuple[str, str, Image]] = []
            for each, name in named[at : at + BATCH]:
                try:
                    there.append((each.path, name, read(Path(each.path))))
                except ImageError as error:
                    failed.append(str(error))
                bar.update(1)
            for (path, name, image), looked in _seen(look, there, failed):
                told = rule.say(looked, *image.shape[:2])
                middles.append(looked.middle)
                rows.append({"file": path, **_written(told, rule, image, into, name)})
    away = drift(rule.memory, [row["score"] for row in rows], np.mean(middles, axis=0)) if rows else None
    made = Outcome(found.card.name, rule, tuple(rows), tuple(failed), away)
    write_whole(into / "verdicts.json", json.dumps(made.as_dict(), indent=1, ensure_ascii=False).encode() + b"\n")
    write_whole(into / "verdicts.csv", _table(rows))
    return made


def _seen(look: Any, there: Sequence[tuple[str, str, Image]], failed: list[str]) -> list[tuple[Any, Any]]:
    """Images with what was seen of them; where one of a batch has no part, the others still are."""
    try:
        return list(zip(there, look([image for _, _, image in there]), strict=True))
    except ImageError as error:
        if len(there) == 1:
            failed.append(f"{there[0][0]}: {error}")
            return []
        return [pair for each in there for pair in _seen(look, [each], failed)]


def _written(told: Verdict, rule: Rule, image: Image, into: Path, name: str) -> dict[str, Any]:
    path = into / "heatmaps" / f"{name}.jpg"
    write_whole(path, images.encode(overlay(image, told.heat / max(rule.spot, 1e-12), told.defects), "jpeg", 90))
    made: dict[str, Any] = {
        "verdict": "bad" if told.bad else "good",
        "score": round(told.score, 5),
        "typical": round(told.typical, 5),
    }
    if told.probability is not None:
        made["probability"] = round(told.probability, 5)
    made |= {"defects": objects_of(told.defects, rule.likely(told.heat))}
    made |= {"defect_share": round(float((told.defects > 0).mean()), 6)}
    made |= {"heatmap": path.relative_to(into).as_posix()}
    path = into / "masks" / f"{name}.png"
    path.unlink(missing_ok=True)  # of an earlier run, by which it may have been bad
    if told.defects.any():
        write_whole(path, images.encode(np.where(told.defects, 255, 0).astype(np.uint8), "png"))
        made["mask"] = path.relative_to(into).as_posix()
    return made


def _table(rows: Sequence[dict[str, Any]]) -> bytes:
    """A line an image."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "defects": len(row["defects"])})
    return text.getvalue().encode()
