"""Images and their truth as a network is shown them: brought to size, changed at random, in a fixed order.

What an image looks like in an epoch depends on the seed, the epoch and the image alone: a training that was killed and
taken up again sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from imagier.algorithms.masks import cores
from imagier.algorithms.noise import Noise
from imagier.models.model import Input
from imagier.models.preprocess import place
from imagier.training.pairs import noised
from imagier.training.samples import Sample, eight_bit
from imagier.training.truth import Mask, Truth
from imagier.types import SettingError

KEPT = 1_500_000_000
"""Bytes of prepared images that are kept in memory; beyond that they are read anew each time."""


class Kept:
    """Pairs of arrays by place, prepared once, as long as KEPT bytes hold them."""

    def __init__(self) -> None:
        self.pairs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.held = 0

    def pair(self, at: int, prepare: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """That of a place."""
        if at in self.pairs:
            return self.pairs[at]
        made = prepare(at)
        size = sum(each.nbytes for each in made)
        if self.held + size <= KEPT:
            self.held += size
            self.pairs[at] = made
        return made


@dataclass
class Shown(torch.utils.data.Dataset):
    """The images of a part, as (pixels (3, h, w) uint8, targets (channels, h, w) uint8).

    An entry is (epoch, place): an epoch below 0 shows every image unchanged.
    """

    samples: Sequence[Sample]
    truth: Truth
    spec: Input
    """How an image comes to the network; of no size: in parts."""
    part: int
    with_cores: bool
    changes: Any
    """torchvision's transform of an image and its masks; None: none."""
    noise: Noise | None
    """Added to every image, rounded to 8 bits as a file would be."""
    seed: int
    kept: Kept = field(default_factory=Kept)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, entry: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, at = entry
        pixels, targets = self.kept.pair(at, self.prepared)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self.seed, max(epoch, 0), at)) & 0x7FFFFFFF)
            if self.spec.size is None:
                pixels, targets = self.cut(pixels, targets)
            image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
            masks = tv_tensors.Mask(torch.from_numpy(np.ascontiguousarray(targets.transpose(2, 0, 1))))
            if epoch >= 0 and self.changes is not None:
                image, masks = self.changes(image, masks)
        shown = image.as_subclass(torch.Tensor)
        if self.noise is not None:
            made = noised(shown.permute(1, 2, 0).numpy(), self.noise, (self.seed, epoch + 1, at))
            shown = torch.from_numpy(made).permute(2, 0, 1).contiguous()
        return shown, masks.as_subclass(torch.Tensor)

    def prepared(self, at: int) -> tuple[np.ndarray, np.ndarray]:
        """An image and its targets, (h, w, 3) and (h, w, channels) uint8, at the network's size."""
        sample = self.samples[at]
        eight = eight_bit(sample.path.read_bytes())
        mask = self.truth.draw[sample.path](*eight.shape[:2])
        channels = targets(mask, self.with_cores)
        if self.spec.size is not None:
            eight = place(eight, self.spec)[0]
            channels = brought(channels, self.spec)
        return eight, channels

    def cut(self, pixels: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A random part; an image that is smaller is mirrored first."""
        height, width = pixels.shape[:2]
        more = [(0, max(0, self.part - side)) for side in (height, width)] + [(0, 0)]
        if more[0][1] or more[1][1]:
            pixels, targets = (np.pad(each, more, mode="symmetric") for each in (pixels, targets))
        y, x = (int(torch.randint(side - self.part + 1, ())) for side in pixels.shape[:2])
        return pixels[y : y + self.part, x : x + self.part], targets[y : y + self.part, x : x + self.part]


def targets(mask: Mask, with_cores: bool) -> np.ndarray:
    """(h, w, channels) uint8, 0 or 1: a channel a class, and the objects' cores."""
    if not with_cores:
        return mask.inside.astype(np.uint8)
    if mask.objects is None:
        raise SettingError("cores can be learnt where the truth tells objects apart: label images, COCO, labelme, CVAT")
    inner = np.any([cores(each) for each in np.moveaxis(mask.objects, 2, 0)], axis=0)
    return np.concatenate([mask.inside, inner[:, :, None]], axis=2).astype(np.uint8)


def brought(channels: np.ndarray, spec: Input) -> np.ndarray:
    """Masks brought to a network's size as its images are: (h, w, c) uint8 of 0 and 1; what is half inside is."""
    flat = msgspec.structs.replace(spec, colour="grey", pad_value=0)
    scaled = [place(each * np.uint8(255), flat)[0] for each in np.moveaxis(channels, 2, 0)]
    return (np.concatenate(scaled, axis=2) > 127).astype(np.uint8)


def changes(level: str) -> Any:
    """torchvision's transforms by name."""
    light = [
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
    ]
    strong = [
        v2.RandomAffine(180, translate=(0.1, 0.1), scale=(0.8, 1.25), interpolation=v2.InterpolationMode.BILINEAR),
        v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.5))], p=0.2),
        v2.RandomGrayscale(p=0.1),
    ]
    return {"none": None, "light": v2.Compose(light), "strong": v2.Compose(light + strong)}[level]
