"""What a person says of a network file, where the file does not: the options of an import, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np

from imagier.models.model import Form, Task
from imagier.types import SettingError, nearest

CHOICES: dict[str, tuple[str, ...]] = {
    "colour": ("rgb", "bgr", "grey"),
    "layout": ("nchw", "nhwc"),
    "fit": ("crop", "squash", "pad", "none"),
    "interpolation": ("bilinear", "bicubic", "lanczos"),
    "form": get_args(Form),
}
TAKEN: Mapping[str, tuple[Task, ...]] = {
    "interpolation": ("embed", "classify", "detect", "segment"),
    "form": ("embed", "detect"),
    "scale": ("upscale",),
    "labels": ("classify", "detect", "segment"),
}
"""The tasks that have a use for an option, where not all have."""
WIDEST = 4096


@dataclass(frozen=True)
class Told:
    """None: nothing was said. Raises SettingError for a value that cannot be."""

    mark: str = "--"
    """What stands before an option's name in messages: "embed." where they are a stage's settings."""
    size: int | tuple[int, int] | None = None
    """The side in pixels, or height and width."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    colour: str | None = None
    layout: str | None = None
    fit: str | None = None
    resize: int | None = None
    interpolation: str | None = None
    output: str | None = None
    form: str | None = None
    scale: int | None = None
    labels: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                self.refuse(name, nearest(name, str(value), known))
        for name, values in (("size", self.sides), ("resize", (self.resize,))):
            if any(value is not None and not 1 <= value <= WIDEST for value in values or ()):
                self.refuse(name, f"cannot be {getattr(self, name)}: it takes 1 to {WIDEST} pixels")
        if self.scale is not None and not 2 <= self.scale <= 8:
            self.refuse("scale", f"cannot be {self.scale}: it takes 2 to 8")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is None:
                continue
            if not np.isfinite(numbers).all() or (name == "std" and min(numbers, default=0.0) <= 0):
                self.refuse(name, f"cannot be {list(numbers)}: it takes finite numbers{', above 0' * (name == 'std')}")
            if max(map(abs, numbers), default=0.0) > 1:
                self.refuse(name, f"cannot be {list(numbers)}: it is of pixels on 0 to 1, so divide it by 255")

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def fits(self, task: Task) -> None:
        """Raises SettingError for what was said and a network of the task has no use for."""
        for option, tasks in TAKEN.items():
            if task not in tasks and getattr(self, option):
                self.refuse(option, f"cannot be given to {task}: it goes with {', '.join(tasks)}")

    def refuse(self, option: str, why: str) -> NoReturn:
        raise SettingError(f"{self.mark}{option}: {why}" if "unknown" in why else f"{self.mark}{option} {why}")


def numbers(values: Sequence[float] | None) -> tuple[float, ...] | None:
    """As a card has them."""
    return None if values is None else tuple(float(value) for value in values)


def labels_of(given: Sequence[str] | str | Path | None) -> tuple[str, ...]:
    """Class names: as they are, or the lines of a text file. Raises SettingError."""
    if given is None:
        return ()
    if isinstance(given, str | Path):
        try:
            given = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"--labels: {given} cannot be read as text: {error}") from error
        while given and not given[-1].strip():
            given.pop()
    names = tuple(name.strip() for name in given)
    if not all(names):
        raise SettingError(f"--labels: line {names.index('') + 1} is empty: it takes one class a line, in order")
    return names


def without_none(**values: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in values.items() if value is not None}
