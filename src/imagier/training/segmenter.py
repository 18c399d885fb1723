"""The segmenter: images and masks to a Model folder that tells which pixels are what.

The loss is soft Dice (Milletari et al. 2016, eq. 2) over each class and image, and cross entropy or focal loss (Lin et
al. 2017) over pixels. The score that chooses the checkpoint is Dice by image, the mean over images and classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from imagier.models import architectures
from imagier.models.exporting import read_state
from imagier.models.model import Input, Model
from imagier.models.networks.encoder import Encoder
from imagier.models.networks.unet import UNet
from imagier.models.segmenting import BACKGROUND, CORE
from imagier.models.store import find
from imagier.training.config import Segmenter
from imagier.training.data import Shown, changes
from imagier.training.fit import Learner, Plan, learn, repeated, written
from imagier.training.pairs import noise_of
from imagier.training.splits import PARTS
from imagier.training.truth import Truth
from imagier.types import BUILTIN, SettingError

GAMMA = 2.0
"""Of focal loss."""
PART = 256
"""Pixels of a part's side, unless the config says."""


@dataclass(frozen=True)
class SegmenterPlan(Plan):
    """With the masks."""

    truth: Truth


def channels(config: Segmenter, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of what the network gives."""
    return ((BACKGROUND,) if config.exclusive else ()) + classes + ((CORE,) if config.cores else ())


class Learning(Learner):
    """U-Nets and the like, by Dice and cross entropy."""

    def __init__(self, plan: SegmenterPlan, steps: int) -> None:
        super().__init__(
            plan.network, plan.config, steps, 3 + len(plan.truth.classes) + plan.config.cores, plan.config.adversarial
        )
        self.loss, self.exclusive = plan.config.loss, plan.config.exclusive
        self.classes = len(plan.truth.classes)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        for name in ("mean", "std"):
            values = torch.tensor(getattr(plan.spec, name), dtype=torch.float32).view(1, 3, 1, 1) * 255
            self.register_buffer(name, values, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) uint8 to logits (n, channels, h, w) float32."""
        shown = (pixels.float() - self.mean) / self.std
        logits: torch.Tensor = self.network(shown.contiguous(memory_format=torch.channels_last)).float()
        return logits

    def loss_of(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        wanted = wanted.float()
        if not self.exclusive:
            return self.independent(made, wanted)
        logits, inside = made[:, : 1 + self.classes], wanted[:, : self.classes]
        at = torch.cat([0.5 - inside.amax(1, keepdim=True), inside], 1).argmax(1)  # the background, or the first
        shares = logits.softmax(1)[:, 1:]
        if self.loss == "dice-l1":
            loss = functional.l1_loss(shares, inside)
        else:
            loss = self.weighed(functional.cross_entropy(logits, at, reduction="none"))
        loss = loss + soft_dice(shares, inside)
        cores = made[:, 1 + self.classes :]
        return loss + self.independent(cores, wanted[:, self.classes :]) if cores.shape[1] else loss

    def independent(self, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Of channels that may overlap."""
        if self.loss == "dice-l1":
            return functional.l1_loss(logits.sigmoid(), wanted) + soft_dice(logits.sigmoid(), wanted)
        by_pixel = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return self.weighed(by_pixel) + soft_dice(logits.sigmoid(), wanted)

    def picture(self, made: torch.Tensor) -> torch.Tensor:
        if not self.exclusive:
            return made.sigmoid()
        apart = made[:, : 1 + self.classes].softmax(1)[:, 1:]
        return torch.cat([apart, made[:, 1 + self.classes :].sigmoid()], 1)

    def weighed(self, by_pixel: torch.Tensor) -> torch.Tensor:
        """Cross entropy, or focal loss: what is right already counts less."""
        if self.loss == "dice-focal":
            by_pixel = (1 - (-by_pixel).exp()) ** GAMMA * by_pixel
        return by_pixel.mean()

    def judged(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        wanted = wanted[:, : self.classes].bool()
        if self.exclusive:
            at = made[:, : 1 + self.classes].argmax(1)
            found = torch.stack([at == each for each in range(1, 1 + self.classes)], 1)
        else:
            found = made[:, : self.classes] > 0
        both, sizes = (found & wanted).sum((2, 3)), found.sum((2, 3)) + wanted.sum((2, 3))
        return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).mean(1)


def soft_dice(shares: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 - Dice by image and channel, their mean. Both (n, c, h, w); shares in [0, 1].

    By image, since that is how it is judged: over a batch, large objects would outweigh small ones. Where nothing is
    to be found, a few pixels found cost most of 1.
    """
    both, sizes = (shares * wanted).sum((2, 3)), shares.square().sum((2, 3)) + wanted.square().sum((2, 3))
    return (1 - (2 * both + 1) / (sizes + 1)).mean()


def train(plan: SegmenterPlan, shown: bool) -> Model:
    """Train by a plan, or go on, and write the Model folder. Raises SettingError, ModelError."""
    config, level = plan.config, changes(plan.config.augment)
    train_set, val_set = (
        Shown(
            plan.of(part), plan.truth, plan.spec, config.part or PART, config.cores,
            level if part == "train" else None, noise_of(config.noise) if config.noise else None, config.seed,
        )
        for part in PARTS[:2]
    )  # fmt: skip
    entries = repeated(len(train_set), config.parts or 1)
    state = learn(plan, lambda steps: Learning(plan, steps), train_set, val_set, entries, "dice", shown)
    labels = channels(config, plan.truth.classes)
    return written(
        plan, config.network, state, "segment", plan.into, labels=labels, size=config.size, how=described(config)
    )


def begun(config: Segmenter, classes: tuple[str, ...]) -> tuple[torch.nn.Module, Input]:
    """The network with what it begins with, and how images come to it. Raises SettingError."""
    torch.manual_seed(config.seed)
    network = architectures.build(config.network, classes=len(channels(config, classes)))
    if config.weights is not None:
        fill(network, read_state(Path(config.weights)), config.weights)
    elif isinstance(network, UNet):
        encoder = Encoder()
        encoder.load_state_dict(read_state(find(BUILTIN, "embed").file("weights")))
        network.begin(encoder)
    told = described(config)
    if isinstance(network, UNet):
        known = architectures.unet_input(config.network, config.size, told)
    elif config.network.startswith("smp:"):
        known = architectures.smp_input(config.network, network, config.size, told)
    else:
        raise SettingError(
            f"network cannot be {config.network}: it takes imagier:unet, imagier:unet-small or smp:DECODER/ENCODER"
        )
    spec = Input(**(known | told))
    if spec.size is None and (part := config.part or PART) % spec.multiple:
        raise SettingError(f"part cannot be {part}: {config.network} takes multiples of {spec.multiple} pixels")
    return network.train(), spec


def described(config: Segmenter) -> dict[str, Any]:
    """Fields of the card's Input that the config decides."""
    return {} if config.size is None else {"fit": "squash", "interpolation": "area"}


def fill(network: torch.nn.Module, state: dict[str, Any], source: str) -> None:
    """Take over what fits: all of it, or an encoder alone. Raises SettingError where hardly anything does."""
    own = network.state_dict()
    prefixes = ("", "encoder.")
    best = max(prefixes, key=lambda prefix: sum(prefix + name in own for name in state))
    fits = {best + k: v for k, v in state.items() if best + k in own and own[best + k].shape == v.shape}
    if len(fits) < len(state) / 2:
        raise SettingError(f"weights: {source} is of another network: {len(fits)} of its {len(state)} tensors fit")
    network.load_state_dict(fits, strict=False)
