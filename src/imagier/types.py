"""The words every part of imagier speaks: images, columns, regions, stages, and the errors a person can meet.

A *stage* is a function that takes settings and returns a function on columns. `Stage.make` binds the settings and
gives a `Step`; `Step.load` gives the function itself, so that what is heavy is loaded once per worker, and never
before all settings of a run were found good.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa

Image = np.ndarray
"""(H, W, 3) RGB or (H, W) grey; uint8, uint16 or float32 in [0, 1]."""

Columns = dict[str, Any]
"""Column name -> n values: a list of Image, Regions or str, or an (n, ...) array."""

Apply = Callable[[Columns], Columns]
"""A row step at work: columns in, the columns it writes out. Pure: what it is handed stays as it was."""


class ImagierError(Exception):
    """Something a person can put right. The message says what is wrong, where, and what to do; it is shown bare."""


class SettingError(ImagierError):
    """A stage, step, setting, preset or column that does not exist or does not fit."""


class ImageError(ImagierError):
    """A file that is no image, is damaged, or is larger than the limit. The message is the recorded reason."""


class SourceError(ImagierError):
    """A folder, file or glob that was named and is not there."""


class ModelError(ImagierError):
    """A model that is not on this machine, is damaged, or cannot do what is asked of it."""


class CollectionError(ImagierError):
    """A collection that is missing, in use by another writer, of another format, or cannot be written."""


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist: what it is not, and the nearest that is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(names)}."
    return f"unknown {kind} {name!r}. {hint}"


class AFile:
    """Marks a setting that may be the path of a file or of a Model folder."""


BUILTIN = "builtin"
"""The name of the models that ship in the package, one to a task."""

NameOrFile = Annotated[str, AFile]
"""A name, or the path of a file or Model folder. A path is kept absolute, so that the collection can be brought up to
date from anywhere; in keys the content stands for it (`Step.weights`), so that it can be moved."""


@dataclass(frozen=True)
class Regions:
    """The n regions of one image, in the ORIGINAL file's pixels; checked when made."""

    boxes: np.ndarray
    """(n, 4) float32: x0, y0, x1, y1, with x0 < x1 and y0 < y1."""
    masks: tuple[np.ndarray, ...] = ()
    """n bool arrays, each the size of its own box: 500 nuclei cost what they cover."""
    scores: np.ndarray | None = None
    """(n,) float32 in [0, 1]."""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        boxes, n = self.boxes, len(self.boxes)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != np.float32:
            raise ValueError(f"boxes are {boxes.dtype} {boxes.shape}; they must be float32 (n, 4)")
        if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
            raise ValueError("a box must be finite, with x0 < x1 and y0 < y1")
        if self.masks and len(self.masks) != n:
            raise ValueError(f"{len(self.masks)} masks for {n} boxes")
        for mask, (x0, y0, x1, y1) in zip(self.masks, boxes, strict=False):
            shape = (round(float(y1 - y0)), round(float(x1 - x0)))
            if mask.dtype != bool or mask.shape != shape:
                raise ValueError(f"a mask is {mask.dtype} {mask.shape}; its box asks for bool {shape}")
        if self.scores is not None and (
            self.scores.shape != (n,)
            or self.scores.dtype != np.float32
            or not ((self.scores >= 0) & (self.scores <= 1)).all()
        ):
            raise ValueError(f"scores must be float32 ({n},) in [0, 1]")
        if self.labels and len(self.labels) != n:
            raise ValueError(f"{len(self.labels)} labels for {n} boxes")

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Fitted:
    """What a table step made of all its items."""

    columns: Columns
    """The columns it writes, a value per row it was handed, in the same order."""
    facts: dict[str, Any]
    """What is no column (curves, choices, scores, the verdict): JSON values only. Plots and pages read nothing else."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """What `Step.place` needs to put tomorrow's items in the same map and groups. Saved as .npz without pickle."""


@dataclass(frozen=True)
class Step:
    """A stage bound to its settings.

    Column names here are the stage's own; `as:` in a pipeline puts a prefix before those it writes.
    """

    reads: tuple[str, ...]
    writes: pa.Schema
    """The columns that are kept. Depends on the settings: an encoder's width, an attribute's name."""
    load: Callable[[], Callable[[Columns], Any]]
    """Over rows: gives an `Apply`. Over a table: gives a function from Columns to `Fitted`."""
    place: Callable[[Columns, Fitted], Fitted] | None = None
    """Over a table: new rows placed in what was fitted (handed over with no columns); gives their columns and facts."""
    passes: tuple[str, ...] = ()
    """Over rows: columns that are handed on to later row steps without being kept: `image`, `regions`, `parent` ..."""
    remembers: tuple[str, ...] = ()
    """Over a table: columns of its own last result that it is handed back as `previous_<column>`, null for new rows."""
    weights: tuple[str, ...] = ()
    """sha256 of each network."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Column it reads -> sha256 of a network that the step which made the column must have: the same encoder's vectors,
    not another's of the same width."""
    precision: str = "float32"
    pixels: int | None = None
    """The short side, in pixels, that a row step needs: the decoder may go no smaller. None: full size."""
    facts: Callable[[Columns], dict[str, Any]] | None = None
    """Over rows: what many items tell together, for the receipt, as JSON values. It is handed what the step wrote of
    the items of a run, less what is binary, without items that lack any of it."""
    warm: Callable[[], None] | None = None
    """Started in the background while the pass runs, where getting ready takes seconds."""


@dataclass(frozen=True)
class Stage:
    """A kind of work, by name."""

    name: str
    version: int
    """Raised when its results change: what an older version made is then made again."""
    over: Literal["rows", "table"]
    make: Callable[..., Step]
    """Keyword-only, typed settings, each with its default; cheap. Raises SettingError."""
