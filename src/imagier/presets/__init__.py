"""Presets: a pipeline file for each job that people come with, as YAML with a comment that says for whom and with what.

hybrid.yaml   objects at all sizes: enlarge, cut out, describe, map, group
parts.yaml    one kind of object in named folders: two clusterings against the folders' names
photos.yaml   any photographs: map, groups, near-duplicates, search
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imagier.types import SettingError, nearest

if TYPE_CHECKING:
    from imagier.pipeline import Pipeline

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def text(name: str) -> str:
    """A preset's file as it is written, its comment included. Raises SettingError for a name that is none."""
    if name not in names():
        raise SettingError(nearest("preset", name, names()))
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def about(name: str) -> str:
    """What a preset is for: the first sentence of its comment."""
    comment = []
    for line in text(name).splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        comment.append(words)
    return " ".join(comment).removeprefix(f"{name}: ").partition(". ")[0].removesuffix(".") + "."


def load(name: str) -> Pipeline:
    """A preset as a pipeline. Raises SettingError for a name that is none."""
    from imagier.pipeline import Pipeline

    text(name)
    return Pipeline.of(FOLDER / f"{name}.yaml")
