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

from imagier.algorithms.near_duplicates import near_groups
from imagier.types import ModelError, SettingError

PARTS = ("train", "val", "test")
NEAR_BITS = 4
"""Of 64 bits of the perceptual hash: what two near copies may differ by."""
NEAR_COSINE = 3e-4
"""Between two near copies at 32 x 32 pixels of grey, some 6 of 255 root mean square: hashes alone take many a plain
image for another."""


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
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(hashes)
    flat = small.reshape(n, -1).astype(np.float32) - 128
    # With a long last entry angles are differences of grey; without it all plain images would be copies.
    vectors = np.concatenate([flat, np.full((n, 1), 256 * np.sqrt(flat.shape[1]), np.float32)], axis=1)
    links = [near_groups(phash, vectors, cosine=NEAR_COSINE, hamming=NEAR_BITS), _first(hashes)]
    if groups is not None:
        links.append(_first([f"group {name}" if name else f"alone {at}" for at, name in enumerate(groups)]))
    pairs = np.tile(np.arange(n), len(links)), np.concatenate(links)
    joined: np.ndarray = connected_components(coo_matrix((np.ones(len(pairs[0])), pairs), (n, n)), directed=False)[1]
    return joined


def _first(names: Sequence[str]) -> np.ndarray:
    """Where each name stands first, (n,) int."""
    _, first, which = np.unique(np.asarray(names), return_index=True, return_inverse=True)
    return first[which]


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
