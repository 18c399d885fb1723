"""What every engine is told, and what it gives back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from imagier.models.model import Card, Input, Role
from imagier.types import SettingError

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""(n, ...) in, output name -> (n, ...) float32 out. May be called from several threads at once."""

Pixels = Literal["uint8", "float32"]


@dataclass(frozen=True)
class Ports:
    """What a network takes and gives: name -> shape, None where a dimension is free."""

    inputs: dict[str, tuple[int | None, ...]]
    outputs: dict[str, tuple[int | None, ...]]
    dtypes: dict[str, str]
    """Of the inputs: "float32", "uint8", "int64", ..."""


@dataclass(frozen=True)
class Job:
    """A network to be made ready."""

    path: Path
    spec: Input | None = None
    """How pixels become what the network takes; None: it is handed just that (tokens; numbers of any kind)."""
    pixels: Pixels = "uint8"
    """The dtype of the pixels it will be handed, on 0 to 255."""
    precision: str = "float32"
    threads: int | None = None
    """At most so many for one call; None: as many calls at once as there are cores, a thread each."""
    card: Card | None = None
    role: Role = "network"
    """Card and role: for an engine that builds the network itself."""
    wanted: tuple[str, ...] = ()
    """The outputs that are asked for, by tensor name: others are not computed, or not handed over. Empty: all."""


NO_MEMORY = re.compile(r"alloc|out of memory|not enough memory", re.IGNORECASE)
"""What engines' messages have in common where they found none: bad_alloc, "Failed to allocate", CUDA's."""


def in_parts(
    engine: Callable[[np.ndarray], list[np.ndarray]], names: list[str], fixed: int | None, most: int | None = None
) -> Run:
    """`engine` for any number of images, also where the file was exported for a `fixed` number of them.

    most: of images at a time, where fewer serve better. Where the engine finds no memory, it raises MemoryError.
    """
    size = fixed or most

    def infer(batch: np.ndarray) -> list[np.ndarray]:
        try:
            return engine(batch)
        except Exception as error:  # each engine has exceptions of its own: the message tells
            if NO_MEMORY.search(str(error)):
                raise MemoryError(f"no memory for {' x '.join(map(str, batch.shape))} pixels") from error
            raise

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        n = len(batch)
        if size is None or (n <= size and fixed is None):
            return dict(zip(names, infer(batch), strict=True))
        short = -n % size if fixed else 0  # the last part is filled up with its own images, and cut again below
        batch = np.concatenate([batch, np.repeat(batch[-1:], short, axis=0)]) if short else batch
        parts = [infer(batch[at : at + size]) for at in range(0, len(batch), size)]
        return {name: np.concatenate([part[at] for part in parts])[:n] for at, name in enumerate(names)}

    return run


def asked_for(names: Sequence[str], job: Job) -> list[str]:
    """Of a network's outputs, those that the job wants."""
    return [name for name in names if not job.wanted or name in job.wanted]


def only(path: Path, inputs: list[str]) -> None:
    """Raises SettingError for a network that takes more than an image, or a text."""
    if len(inputs) != 1:
        raise SettingError(f"{path} takes {len(inputs)} inputs ({', '.join(inputs)}); imagier runs networks of one")


def fits(job: Job, shape: tuple[int | None, ...], dtype: str) -> None:
    """Raises SettingError where the network in the file takes no such pixels as the card says. `shape`: its input's."""
    spec = job.spec
    if spec is None:
        return
    channels = 1 if spec.colour == "grey" else 3
    height, width = spec.size or (None, None)
    said = (height, width, channels) if spec.layout == "nhwc" else (channels, height, width)
    alike = len(shape) == 4 and all(a is None or b is None or a == b for a, b in zip(shape[1:], said, strict=True))
    wants_uint8 = spec.dtype == "uint8"
    if not alike or (dtype == "uint8") != wants_uint8:
        told = " x ".join("any" if each is None else str(each) for each in ("n", *said))
        found = " x ".join("any" if each is None else str(each) for each in shape)
        raise SettingError(
            f"{job.path} takes {dtype} {found}, but its card says {spec.dtype} {told} ({spec.layout}). "
            "Import the network again, with its true size and layout."
        )


def whole(batch: np.ndarray) -> np.ndarray:
    """Pixels of any dtype as uint8, rounded: for a network that takes no others."""
    return batch if batch.dtype == np.uint8 else np.rint(batch).clip(0, 255).astype(np.uint8)
