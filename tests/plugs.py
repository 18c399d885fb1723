"""Stages for the tests, found through a real entry point (see the fixture `plugs`)."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from imagier.types import Fitted, SettingError, Stage, Step

SIDE = 16
DARK = 71
"""Between the mean brightness of the drawn discs and that of the other two kinds."""


def _is(image: np.ndarray, channel: int) -> bool:
    """Whether an image is plainly of one primary colour."""
    means = image.reshape(-1, image.shape[-1]).mean(0) if image.ndim == 3 else np.full(3, image.mean())
    others = [means[at] for at in range(3) if at != channel]
    return bool(means[channel] > 200 and max(others) < 50)


def tint(*, gain: float = 1.0, sleep: float = 0.0) -> Step:
    """`tint`: the mean of each channel, times gain."""

    def load():
        def apply(columns):
            time.sleep(sleep * len(columns["image"]))
            rgb = [image if image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in columns["image"]]
            return {"tint": np.array([each.reshape(-1, 3).mean(0) * gain for each in rgb], np.float32)}

        return apply

    return Step(("image",), pa.schema([pa.field("tint", pa.list_(pa.float32(), 3))]), load, pixels=SIDE)


def killer(*, how: Literal["exit", "segv"] = "exit") -> Step:
    """`fine`: 1; the process dies over a plain red image."""

    def load():
        def apply(columns):
            for image in columns["image"]:
                if _is(image, 0):
                    if how == "segv":
                        os.kill(os.getpid(), signal.SIGSEGV)
                    os._exit(9)
            return {"fine": np.ones(len(columns["image"]), np.int32)}

        return apply

    return Step(("image",), pa.schema([pa.field("fine", pa.int32())]), load, pixels=SIDE)


def picky() -> Step:
    """`fine`: 1; raises over a batch with a plain green image in it."""

    def load():
        def apply(columns):
            if any(_is(image, 1) for image in columns["image"]):
                raise ValueError("no green, please")
            return {"fine": np.ones(len(columns["image"]), np.int32)}

        return apply

    return Step(("image",), pa.schema([pa.field("fine", pa.int32())]), load, pixels=SIDE)


def halves(*, repeat: int = 1) -> Step:
    """Cuts the left and the right half out of each image, but nothing out of a plain blue one; `share` of the width."""

    def load():
        def apply(columns):
            out: dict[str, list] = {"parent": [], "box": [], "image": [], "share": []}
            for at, image in enumerate(columns["image"]):
                if image.ndim == 3 and _is(image, 2):
                    continue
                height, width = image.shape[:2]
                for x0, x1 in [(0, width // 2), (width // 2, width)] * repeat:
                    out["parent"].append(at)
                    out["box"].append([x0, 0, x1, height])
                    out["image"].append(image[:, x0:x1])
                    out["share"].append((x1 - x0) / width)
            return out

        return apply

    return Step(
        ("image",), pa.schema([pa.field("share", pa.float32())]), load, passes=("parent", "box", "image"), pixels=SIDE
    )


def short() -> Step:
    """`fine`, but one value too few."""

    def load():
        return lambda columns: {"fine": np.ones(len(columns["image"]) - 1, np.int32)}

    return Step(("image",), pa.schema([pa.field("fine", pa.int32())]), load, pixels=SIDE)


def double(*, times: int = 2) -> Step:
    """`double`: the column `tint`, times `times`; a row step that reads what another one keeps."""

    def load():
        return lambda columns: {"double": np.stack(columns["tint"]) * np.float32(times)}

    return Step(("tint",), pa.schema([pa.field("double", pa.list_(pa.float32(), 3))]), load, pixels=SIDE)


def choosy() -> Step:
    """`chosen`: 1; raises over rows of which one's `tint` is dark."""

    def load():
        def apply(columns):
            tints = np.stack(columns["tint"])
            if (tints.mean(1) < DARK).any():
                raise ValueError("no dark ones, please")
            return {"chosen": np.ones(len(tints), np.int32)}

        return apply

    return Step(("tint",), pa.schema([pa.field("chosen", pa.int32())]), load, pixels=SIDE)


def invert() -> Step:
    """Hands on the negative of each image, keeps nothing."""

    def load():
        return lambda columns: {"image": [255 - image for image in columns["image"]]}

    return Step(("image",), pa.schema([]), load, passes=("image",), pixels=SIDE)


def rank(*, on: str = "tint", least: int = 0, direction: Literal["up", "down"] = "up") -> Step:
    """Over the table: `rank` by the sum of a column, and `share` of the items. Refuses fewer than `least` items."""

    def sums(columns):
        values = np.asarray(columns[on], np.float64)
        return values if values.ndim == 1 else values.sum(1)

    def fit(columns):
        ids = columns["id"]
        if len(ids) < least:
            raise SettingError(f"rank needs {least} items, not {len(ids)}")
        assert ids == sorted(ids), "a table step is handed its rows sorted by id"
        values = sums(columns)
        order = np.argsort(values if direction == "up" else -values, kind="stable")
        ranks = np.empty(len(ids), np.int32)
        ranks[order] = np.arange(len(ids))
        seen = {"items": len(ids), "ids": ids, "previous": [float(v) for v in columns.get("previous_rank", [])]}
        log = os.environ.get("RANK_LOG")
        if log:
            with Path(log).open("a") as out:
                out.write(json.dumps(seen) + "\n")
        seen["previous"] = [None if np.isnan(v) else v for v in seen["previous"]]
        return Fitted({"rank": ranks}, seen, {"sums": np.sort(values)})

    def place(columns, fitted):
        return Fitted({"rank": np.searchsorted(fitted.arrays["sums"], sums(columns)).astype(np.int32)}, fitted.facts)

    return Step(
        ("id", on),
        pa.schema([pa.field("rank", pa.int32())]),
        lambda: fit,
        place=place,
        remembers=("rank",),
    )


TINT = Stage("tint", 1, "rows", tint)
KILLER = Stage("killer", 1, "rows", killer)
PICKY = Stage("picky", 1, "rows", picky)
HALVES = Stage("halves", 1, "rows", halves)
SHORT = Stage("short", 1, "rows", short)
DOUBLE = Stage("double", 1, "rows", double)
CHOOSY = Stage("choosy", 1, "rows", choosy)
INVERT = Stage("invert", 1, "rows", invert)
RANK = Stage("rank", 1, "table", rank)
STAGES = ("tint", "killer", "picky", "halves", "short", "double", "choosy", "invert", "rank")
