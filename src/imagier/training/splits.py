"""Splits: which images are learnt from, which choose the checkpoint, and which judge the end.

A split is by content hash, so that it holds wherever the files lie, and is kept in the Model folder as `split.json`.
What belongs together stays together: a group that the user names (a patient, a lesion, a part), and near copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from imagier.types import ModelError, SettingError

PARTS = ("train", "val", "test")
NEAR_BITS = 4
"""Of 64 bits of the perceptual hash: what two near copies may differ by."""
NEAR_GREY = 6.0
"""Of 255, the mean difference of two near copies at 32 x 32 pixels of grey: hashes alone take many a plain image for
another."""


@dataclass(frozen=True)
class Split:
    """The part of each image, by its content's sha256."""

    parts: Mapping[str, str]
    ratios: tuple[float, float, float]
    """Wanted: of train, val and test; they sum to 1."""

    def of(self, hashes: Sequence[str]) -> np.ndarray:
        """The part of each image, (n,) str; "" for one that the split does not know."""
        return np.array([self.parts.get(each, "") for each in hashes], dtype="<U5")

    def encoded(self) -> bytes:
        """As split.json has it."""
        listed = {part: sorted(key for key, of in self.parts.items() if of == part) for part in PARTS}
        return msgspec.json.format(msgspec.json.encode({"format": 1, "ratios": self.ratios, "parts": listed}), indent=1)


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    ratios: tuple[float, float, float]
    parts: dict[str, list[str]]


def read_split(path: Path) -> Split:
    """split.json. Raises ModelError for what is none."""
    try:
        told = msgspec.json.decode(path.read_bytes(), type=_Written)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ModelError(f"{path} is no split: {error}") from error
    if told.format != 1 or set(told.parts) != set(PARTS):
        raise ModelError(f"{path} is no split that this version reads: it takes format 1 and {', '.join(PARTS)}")
    return Split({key: part for part, keys in told.parts.items() for key in keys}, told.ratios)


def parse_ratios(text: str) -> tuple[float, float, float]:
    """ "70:15:15" to shares of train, val and test. Raises SettingError."""
    try:
        train, val, test = (float(each) for each in text.split(":"))
        if not (train > 0 and val > 0 and test >= 0 and np.isfinite(train + val + test)):
            raise ValueError
    except ValueError as error:
        raise SettingError(
            f"split cannot be {text!r}: it takes train:val:test, such as 70:15:15, the first two above 0"
        ) from error
    whole = train + val + test
    return train / whole, val / whole, test / whole


def together(hashes: Sequence[str], small: np.ndarray, phash: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """Which images must not be parted: (n,) int, the same number for images of a group, near copies and equal ones.

    small: (n, 32, 32) uint8 grey; phash: (n,) uint64. groups: the group that each belongs to, "" for none.
    """
    root = np.arange(len(hashes))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = int(root[at])
        return at

    first: dict[str, int] = {}
    for at, key in enumerate(hashes):
        root[find(at)] = find(first.setdefault(f"content {key}", at))
    for at, name in enumerate(groups or ()):
        if name:
            root[find(at)] = find(first.setdefault(f"group {name}", at))
    flat = small.reshape(len(small), -1).astype(np.float32)
    for at in range(len(hashes) - 1):
        near = np.flatnonzero(np.bitwise_count(phash[at + 1 :] ^ phash[at]) <= NEAR_BITS) + at + 1
        if len(near):
            near = near[np.abs(flat[near] - flat[at]).mean(1) <= NEAR_GREY]
        for other in near:
            root[find(int(other))] = find(at)
    return np.unique([find(at) for at in range(len(hashes))], return_inverse=True)[1]


def split(
    hashes: Sequence[str],
    joined: np.ndarray,
    kinds: Sequence[str],
    ratios: tuple[float, float, float],
    seed: int,
) -> Split:
    """Deal images to train, val and test: what is joined goes to one part, and each part gets its share of each kind.

    joined: (n,) int, as `together` gives it. kinds: what an image is, for shares (its class; whether it has a mask).
    Bundles come in random order, large ones first, each to the part that lacks most of what is in it. Raises
    SettingError where a part that has a share would be left empty.
    """
    rng = np.random.default_rng(seed)
    names, kind = np.unique(np.asarray(kinds, dtype=str), return_inverse=True)
    bundles = [np.flatnonzero(joined == each) for each in np.unique(joined)]
    order = rng.permutation(len(bundles))
    order = order[np.argsort([-len(bundles[at]) for at in order], kind="stable")]
    wanted = np.outer(ratios, np.bincount(kind, minlength=len(names)))
    dealt = np.zeros_like(wanted)
    part = np.empty(len(hashes), int)
    for at in order:
        members = bundles[at]
        counts = np.bincount(kind[members], minlength=len(names))
        here = counts > 0
        lacks = ((wanted - dealt) / np.maximum(wanted, 1e-9))[:, here] @ counts[here]
        lacks[np.array(ratios) == 0] = -np.inf
        chosen = int(np.argmax(lacks))
        part[members] = chosen
        dealt[chosen] += counts
    for at, name in enumerate(PARTS):
        if ratios[at] > 0 and not (part == at).any():
            raise SettingError(
                f"the split leaves no image for {name}: {len(hashes)} images in {len(bundles)} bundles of groups and "
                "near copies are too few for it. Give more images, or another split"
            )
    return Split({key: PARTS[where] for key, where in zip(hashes, part, strict=True)}, ratios)
