"""Put images through a classifier: what each is, how sure that is, and whether it is anything that the model knows."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier import _progress
from imagier.algorithms.confidence import LEVEL, REFUSED
from imagier.collection import write_whole
from imagier.models import about
from imagier.models.classifying import BATCH, Said, check, confidence_of, looker
from imagier.types import Image, ImageError, SettingError
from imagier.workflows.segment import read

if TYPE_CHECKING:
    from imagier.models.model import Model


@dataclass(frozen=True)
class Outcome:
    """What `classify` did."""

    model: str
    rows: tuple[dict[str, Any], ...]
    """An image each: file, label, confidence, probabilities by label; set, known, typical, title, description and
    recommendation where the model has them."""
    failed: tuple[str, ...]
    """Reasons, each with its file."""
    notice: str
    """What stands on every result."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        told: dict[str, Any] = {"model": self.model}
        told |= {"notice": self.notice} if self.notice else {}
        return told | {"images": list(self.rows), "failed": list(self.failed)}

    def save(self, path: Path) -> None:
        """Write the JSON. Raises CollectionError where it cannot be written."""
        write_whole(path, json.dumps(self.as_dict(), indent=1, ensure_ascii=False).encode() + b"\n")

    def lines(self) -> list[str]:
        """For a person, an image a line."""
        lines = []
        for row in self.rows:
            words = [f"{row['file']}: {row.get('title') or row['label']} {row['confidence']:.3f}"]
            others = [each for each in row.get("set", ()) if each != row["label"]]
            if others:
                words.append(f"or {', '.join(others)}")
            if row.get("known") is False:
                words.append(f"but like nothing it knows (typical {row['typical']:.3f})")
            lines.append(", ".join(words) + (f". {row['recommendation']}" if row.get("recommendation") else ""))
        return lines


def classify(
    sources: Sequence[str | os.PathLike[str]],
    *,
    model: str | os.PathLike[str],
    level: float = LEVEL,
    refused: float = REFUSED,
    by_class: bool = False,
    progress: bool = True,
) -> Outcome:
    """What every image of the sources is. level, refused, by_class: as `Confidence.say` has them.

    A file that is no image is told, and stops nothing. Raises SettingError, ModelError, SourceError.
    """
    from imagier.models.store import find
    from imagier.sources import scan

    check(level, refused)
    listed = scan(sources).files
    if not listed:
        raise SettingError("there are no images in what was named")
    found = find(os.fspath(model), "classify")
    look, trust, texts = looker(found), confidence_of(found), about.of_model(found)
    trust.check(refused)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    with _progress.bar(len(listed), progress) as bar:
        for at in range(0, len(listed), BATCH):
            there: list[tuple[str, Image]] = []
            for each in listed[at : at + BATCH]:
                try:
                    there.append((each.path, read(Path(each.path))))
                except ImageError as error:
                    failed.append(str(error))
                bar.update(1)
            if there:
                said = trust.say(look([image for _, image in there]), level, refused, by_class)
                rows += [row(path, said, number, found, texts) for number, (path, _) in enumerate(there)]
    return Outcome(found.card.name, tuple(rows), tuple(failed), texts.notice if texts else "")


def row(path: str, said: Said, at: int, model: Model, texts: about.About | None) -> dict[str, Any]:
    """What is said of one image, as JSON values."""
    labels, given = model.card.labels, said.shares[at]
    order = np.argsort(-given, kind="stable")
    label = labels[order[0]]
    made: dict[str, Any] = {"file": path, "label": label, "confidence": round(float(given[order[0]]), 4)}
    if said.sets is not None:
        made["set"] = [labels[each] for each in order if said.sets[at, each]]
    if said.known is not None and said.typical is not None:
        made |= {"known": bool(said.known[at]), "typical": round(float(said.typical[at]), 4)}
    if texts is not None:
        one = texts.labels.get(label, about.Label())
        told = {"title": one.title, "description": one.description, "recommendation": texts.recommendation(label)}
        made |= {name: text for name, text in told.items() if text}
    return made | {"probabilities": {labels[each]: round(float(given[each]), 4) for each in order}}
