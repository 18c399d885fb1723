"""Samples: every image looked at once before a training, and what is remembered of it. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np

from imagier import images
from imagier.models.model import Role
from imagier.models.preprocess import in_colour
from imagier.training.config import Told
from imagier.training.splits import Split
from imagier.types import ImageError, SettingError


@dataclass(frozen=True)
class Sample:
    """An image with its truth."""

    path: Path
    sha256: str
    small: np.ndarray
    """(32, 32) uint8 grey."""
    phash: int
    shares: tuple[float, ...]
    """Of its pixels that are inside, by class; empty where there are none."""


def looked_at(
    paths: Sequence[Path], check: Callable[[Path, np.ndarray], tuple[float, ...]], tell: Callable[[int], None]
) -> list[Sample]:
    """Read every image and its truth once. Raises SettingError for those that cannot be, all in one message.

    check: of a path and its pixels, (h, w, 3) uint8, reads the truth, gives the share of pixels inside each class, and
    raises ImageError for what does not fit. tell: called with 1 for every image that was read.
    """
    problems: list[str] = []

    def look(path: Path) -> Sample | None:
        try:
            data = path.read_bytes()
            eight = eight_bit(data)
            shares = check(path, eight)
        except (OSError, ImageError) as error:
            problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            return None
        finally:
            tell(1)
        grey = cv2.cvtColor(eight, cv2.COLOR_RGB2GRAY)
        return Sample(
            path,
            images.content_hash(data),
            images.resize(grey, size=(32, 32)),
            images.perceptual_hash(eight),
            shares,
        )

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(look, paths))
    if problems:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise SettingError(
            f"{len(problems)} of {len(paths)} images cannot be learnt from:\n  "
            + "\n  ".join(sorted(problems)[:10])
            + more
        )
    return [each for each in found if each is not None]


def eight_bit(data: bytes) -> np.ndarray:
    """(h, w, 3) uint8 RGB of an encoded image."""
    decoded = images.decode(data)
    return in_colour(images.to_uint8(decoded.image, decoded.black, decoded.white), "rgb")


def came_about(config: Told, split: Split, samples: Sequence[Sample]) -> tuple[str, dict[Role, bytes]]:
    """What a card says of where a model came from, and the files that tell it whole: its split and its config."""
    counts = np.unique(split.of([each.sha256 for each in samples]), return_counts=True)
    told = ", ".join(f"{count} {part}" for part, count in zip(*counts, strict=True))
    source = f"imagier train {config.verb}, seed {config.seed}; images: {told}"
    return source, {"split": split.encoded(), "training": msgspec.yaml.encode(config)}
