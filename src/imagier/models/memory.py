"""How large the tiles of a network may be, so that it stays within so much memory.

What a network holds at once is read off its graph: every tensor is there from the operation that makes it to the last
that reads it. The sum is counted twice, for what engines take beside it (measured: 0.8 to 1.7 times the sum). So the
tile is the same on every machine, and so are results.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from imagier.models._openvino import package
from imagier.models.model import Model
from imagier.types import SettingError

MEGABYTES = 500
"""Of a worker, unless it is told otherwise."""
BESIDE = 2.0
"""Times the sum."""
LARGEST = 1024
"""Pixels of a tile's side: beyond, little is gained."""
STEP = 32


def tile_of(model: Model, stage: str, tile: int | None, megabytes: int | None, least: int) -> int:
    """The side of a stage's tiles: that of a network of one size, what was given, or what fits into `megabytes`.

    Raises SettingError for settings that do not fit.
    """
    size = model.card.input.size
    if tile is not None and megabytes is not None:
        raise SettingError(f"{stage}.tile and {stage}.memory say the same: leave one of them out")
    if size is not None:
        if tile not in (None, size[0]) or megabytes is not None:
            given = "tile" if tile is not None else "memory"
            raise SettingError(f"{stage}.{given} cannot be given: the model {model.card.name} takes {size} pixels")
        return size[0]
    if tile is None:
        return tile_for(model, MEGABYTES if megabytes is None else megabytes, least, stage)
    if not least <= tile <= 4096:
        raise SettingError(f"{stage}.tile cannot be {tile}: it takes {least} to 4096 pixels")
    return tile


def tile_for(model: Model, megabytes: int, least: int, stage: str) -> int:
    """The side of the largest tile whose activations fit, a multiple of 32 of at most 1,024 pixels.

    Raises SettingError where `least` pixels do not fit, and says how much they need.
    """
    if "network" not in model.card.files:
        raise SettingError(
            f"{stage}.memory needs the model {model.card.name} as a network file: give {stage}.tile instead"
        )
    a_pixel = bytes_per_pixel(model) * BESIDE
    side = int((megabytes * 2**20 / a_pixel) ** 0.5) // STEP * STEP
    least = -(-least // STEP) * STEP
    if side < least:
        need = -(-int(a_pixel * least**2) // 2**20)
        raise SettingError(
            f"{stage}.memory cannot be {megabytes}: {model.card.name} needs {need} MB for the least tile"
        )
    return min(side, LARGEST)


def bytes_per_pixel(model: Model) -> float:
    """Bytes of activations that live at once, for each pixel that goes in."""
    spec = model.card.input
    return _per_pixel(model.file("network"), 1 if spec.colour == "grey" else 3, spec.layout)


TRIAL = 256
"""Pixels of the side at which it is counted."""


@lru_cache(32)
def _per_pixel(path: Path, channels: int, layout: str) -> float:
    net = package().Core().read_model(path)
    net.reshape([1, channels, TRIAL, TRIAL] if layout == "nchw" else [1, TRIAL, TRIAL, channels])
    return _peak(net.get_ordered_ops()) / TRIAL**2


def _peak(ops: list[Any]) -> float:
    """Bytes of float32 that live at once, when operations run in this order."""
    fixed: set[str] = set()
    last: dict[tuple[str, int], int] = {}
    for at, op in enumerate(ops):
        sources = [given.get_source_output() for given in op.inputs()]
        if op.get_type_name() == "Constant" or (
            sources and all(each.get_node().get_friendly_name() in fixed for each in sources)
        ):
            fixed.add(op.get_friendly_name())
        for each in sources:
            last[each.get_node().get_friendly_name(), each.get_index()] = at
    live, most = 0.0, 0.0
    ending: dict[int, float] = {}
    for at, op in enumerate(ops):
        name = op.get_friendly_name()
        for place, given in enumerate(op.outputs()):
            if name not in fixed:
                size = 4.0 * float(np.prod(list(given.get_shape())))
                live += size
                end = last.get((name, place), len(ops))
                ending[end] = ending.get(end, 0.0) + size
        most = max(most, live)
        live -= ending.pop(at, 0.0)
    return most
