"""Restorers, from images to images: the denoiser and the upscaler, by PSNR, and with a critic if one is asked for.

What a network is shown is made of the true image: noise is added anew each time, or it was reduced; or both are files.
The score that chooses the checkpoint is PSNR, the mean over the middles of the images that are kept apart for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from imagier.models import architectures
from imagier.models.exporting import read_state
from imagier.models.model import Input, Model, Task
from imagier.models.networks import describe
from imagier.models.restoring import LEAST, MIDDLE
from imagier.training.config import Restorer
from imagier.training.data import Kept
from imagier.training.fit import Learner, Plan, learn, repeated, written
from imagier.training.pairs import Way
from imagier.training.samples import Sample
from imagier.types import SettingError

SEEN = 3
"""Of an image that chooses the checkpoint, the middle is seen, so many parts a side."""


@dataclass
class Pairs(torch.utils.data.Dataset):
    """Parts of images as (shown, wanted), (c, part, part) float32 on [0, 1].

    An entry is (epoch, place). What is shown depends on the seed, the epoch and the place alone; below epoch 0 it is
    the middle of the image.
    """

    samples: Sequence[Sample]
    way: Way
    part: int
    seed: int
    kept: Kept = field(default_factory=Kept)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, entry: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, at = entry
        rng = np.random.default_rng((self.seed, epoch + 1, at))
        side = self.part * (SEEN if epoch < 0 else 1)
        shown, wanted = self.pair(at, side)
        down, across = (extent - side for extent in shown.shape[:2])
        y, x = (down // 2, across // 2) if epoch < 0 else (int(rng.integers(down + 1)), int(rng.integers(across + 1)))
        by = self.way.factor
        shown = shown[y : y + side, x : x + side]
        wanted = wanted[y * by : (y + side) * by, x * by : (x + side) * by]
        if epoch >= 0:
            turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            shown, wanted = (np.rot90(each[:, ::-1] if mirrored else each, turns) for each in (shown, wanted))
        given, wanted = shown.astype(np.float32), wanted.astype(np.float32)
        if self.way.noise is not None:
            noise = self.way.noise.draw(rng)
            given = noise.add(given, rng)
            if self.way.sigma is not None:
                gain = np.float32(self.way.sigma / max(noise.ranges[0][0], LEAST))
                given, wanted = ((each - MIDDLE) * gain + MIDDLE for each in (given, wanted))
        return tensor(given), tensor(wanted)

    def pair(self, at: int, least: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a place, mirrored to so many pixels at the right and the bottom where it is smaller."""
        shown, wanted = self.kept.pair(at, lambda place: self.way.whole(self.samples[place].path))
        more = [max(0, least - side) for side in shown.shape[:2]]
        if any(more):
            shown, wanted = (
                np.pad(each, [(0, more[0] * by), (0, more[1] * by), (0, 0)], mode="symmetric")
                for each, by in ((shown, 1), (wanted, self.way.factor))
            )
        return shown, wanted


def tensor(image: np.ndarray) -> torch.Tensor:
    """(h, w, c) float32 on 0 to 255 to (c, h, w) on [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, 2, 0))) / 255


@dataclass(frozen=True)
class RestorerPlan(Plan):
    """With how images are made worse."""

    way: Way


class Learning(Learner):
    """Networks from images to images."""

    betas = (0.9, 0.99)

    def __init__(self, plan: RestorerPlan, steps: int) -> None:
        super().__init__(plan.network, plan.config, steps, 2 * len(plan.spec.mean), plan.config.adversarial)
        self.factor = plan.way.factor
        self.difference = functional.l1_loss if plan.config.loss == "l1" else functional.mse_loss

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) on [0, 1] to the same, restored."""
        made: torch.Tensor = self.network(shown.contiguous(memory_format=torch.channels_last)).float()
        return made

    def loss_of(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return self.difference(made, wanted)

    def seen(self, shown: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(shown, scale_factor=float(self.factor)) if self.factor > 1 else shown

    def judged(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        error = (made - wanted).square().mean((1, 2, 3))
        return -10 * error.clamp(min=1e-10).log10()


def begun(config: Restorer, task: Task) -> tuple[torch.nn.Module, Input, int]:
    """The network with what it begins with, how images come to it, and its factor. Raises SettingError, ModelError."""
    torch.manual_seed(config.seed)
    architectures.ports(config.network, task)
    spec, _, factor = describe(config.network)
    if config.part % spec.multiple:
        raise SettingError(f"part cannot be {config.part}: {config.network} takes multiples of {spec.multiple} pixels")
    network = architectures.build(config.network)
    if config.weights is not None:
        network.load_state_dict(read_state(Path(config.weights)))
    return network.train(), spec, factor or 1


def train(plan: RestorerPlan, task: Task, shown: bool) -> Model:
    """Train by a plan, or go on, and write the Model folder. Raises SettingError, ModelError."""
    train_set, val_set = (
        Pairs(plan.of(part), plan.way, plan.config.part, plan.config.seed) for part in ("train", "val")
    )
    entries = repeated(len(train_set), plan.config.parts)
    state = learn(plan, lambda steps: Learning(plan, steps), train_set, val_set, entries, "psnr", shown)
    return written(plan, plan.config.network, state, task, plan.into, sigma=plan.way.sigma)
