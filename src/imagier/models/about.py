"""labels.yaml: what there is to say of each class, for people: its title, what it is, what to do.

    notice: Not a diagnosis.
    labels:
      mel: {title: Melanoma, recommendation: Have it seen by a dermatologist.}

`notice` stands on every result. Those that ship are called by their names: skin-lesions, nevi.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml

from imagier.models.model import Model
from imagier.types import ModelError, SettingError, nearest

FOLDER = Path(__file__).parent / "labels"


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One class."""

    title: str = ""
    description: str = ""
    recommendation: str = ""


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a labels.yaml says."""

    notice: str = ""
    """Of every result."""
    labels: dict[str, Label] = {}

    def recommendation(self, label: str) -> str:
        """What to do, and the notice: what stands beside a result."""
        told = self.labels.get(label, Label()).recommendation
        return " ".join(filter(None, [told, self.notice]))


def names() -> list[str]:
    """Those that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(named: str, classes: Sequence[str] = ()) -> tuple[About, bytes]:
    """A file, or one that ships, and its bytes. Raises SettingError for what is none, or speaks of other classes."""
    path = FOLDER / f"{named}.yaml" if named in names() else Path(named)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingError(
            f"{named} is no file of labels ({error.strerror}), and none of these, which ship: {', '.join(names())}"
        ) from error
    try:
        made = parse(data)
    except (ValueError, yaml.YAMLError) as error:
        raise SettingError(f"{path}: {str(error).splitlines()[0]}") from error
    if classes and (others := [each for each in made.labels if each not in classes]):
        raise SettingError(f"{path}: {nearest('class', others[0], classes)}")
    return made, data


def parse(data: bytes) -> About:
    """Raises ValueError, YAMLError."""
    return msgspec.convert(yaml.safe_load(data) or {}, About)


def of_model(model: Model) -> About | None:
    """What a model's folder says of its classes; None where it says nothing. Raises ModelError."""
    if "about" not in model.card.files:
        return None
    path = model.file("about")
    try:
        return parse(path.read_bytes())
    except (ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: {str(error).splitlines()[0]}") from error
