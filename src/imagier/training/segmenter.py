"""The segmenter: images and masks to a Model folder that tells which pixels are what.

The loss is soft Dice (Milletari et al. 2016, eq. 2) over each class and batch, and cross entropy or focal loss (Lin et
al. 2017) over pixels. The score that chooses the checkpoint is Dice by image, the mean over images and classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from imagier.models import architectures
from imagier.models.exporting import export, read_state
from imagier.models.model import Input, Model
from imagier.models.networks.encoder import Encoder
from imagier.models.networks.unet import UNet
from imagier.models.segmenting import BACKGROUND, CORE
from imagier.models.store import find
from imagier.training.config import Segmenter
from imagier.training.data import Order, Sample, Shown, changes
from imagier.training.fit import Learner, fit
from imagier.training.splits import PARTS, Split
from imagier.training.truth import Truth
from imagier.types import BUILTIN, SettingError

UNET = "imagier:unet"
GAMMA = 2.0
"""Of focal loss."""


@dataclass(frozen=True)
class Plan:
    """All that a training needs, checked."""

    config: Segmenter
    samples: Sequence[Sample]
    truth: Truth
    split: Split
    into: Path
    work: Path

    @property
    def channels(self) -> tuple[str, ...]:
        """Labels of what the network gives."""
        first = (BACKGROUND,) if self.config.exclusive else ()
        return first + self.truth.classes + ((CORE,) if self.config.cores else ())


class Learning(Learner):
    """U-Nets and the like, by Dice and cross entropy."""

    def __init__(self, network: torch.nn.Module, plan: Plan, spec: Input, steps: int) -> None:
        super().__init__(network, plan.config, steps)
        self.loss, self.exclusive = plan.config.loss, plan.config.exclusive
        self.classes = len(plan.truth.classes)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        for name in ("mean", "std"):
            values = torch.tensor(getattr(spec, name), dtype=torch.float32).view(1, 3, 1, 1) * 255
            self.register_buffer(name, values, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) uint8 to logits (n, channels, h, w) float32."""
        shown = (pixels.float() - self.mean) / self.std
        logits: torch.Tensor = self.network(shown.contiguous(memory_format=torch.channels_last)).float()
        return logits

    def loss_of(self, batch: Any) -> torch.Tensor:
        logits, wanted = self(batch[0]), batch[1].float()
        if self.exclusive:
            inside = wanted[:, : self.classes]
            at = torch.cat([0.5 - inside.amax(1, keepdim=True), inside], 1).argmax(1)  # the background, or the first
            by_pixel = functional.cross_entropy(logits[:, : 1 + self.classes], at, reduction="none")
            shares = logits[:, : 1 + self.classes].softmax(1)[:, 1:]
            loss = self.weighed(by_pixel) + soft_dice(shares, inside)
            rest, wanted = logits[:, 1 + self.classes :], wanted[:, self.classes :]
            return loss if not rest.shape[1] else loss + self.independent(rest, wanted)
        return self.independent(logits, wanted)

    def independent(self, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Of channels that may overlap."""
        by_pixel = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return self.weighed(by_pixel) + soft_dice(logits.sigmoid(), wanted)

    def weighed(self, by_pixel: torch.Tensor) -> torch.Tensor:
        """Cross entropy, or focal loss: what is right already counts less."""
        if self.loss == "dice-focal":
            by_pixel = (1 - (-by_pixel).exp()) ** GAMMA * by_pixel
        return by_pixel.mean()

    def judged(self, batch: Any) -> torch.Tensor:
        logits, wanted = self(batch[0]), batch[1][:, : self.classes].bool()
        if self.exclusive:
            at = logits[:, : 1 + self.classes].argmax(1)
            found = torch.stack([at == each for each in range(1, 1 + self.classes)], 1)
        else:
            found = logits[:, : self.classes] > 0
        both, sizes = (found & wanted).sum((2, 3)), found.sum((2, 3)) + wanted.sum((2, 3))
        return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).mean(1)


def soft_dice(shares: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 - Dice of each channel over the batch, their mean. Both (n, c, h, w); shares in [0, 1]."""
    both = (shares * wanted).sum((0, 2, 3))
    return (1 - (2 * both + 1) / (shares.square().sum((0, 2, 3)) + wanted.square().sum((0, 2, 3)) + 1)).mean()


def train(plan: Plan, shown: bool) -> Model:
    """Train by a plan, or go on, and write the Model folder. Raises SettingError, ModelError."""
    config = plan.config
    torch.manual_seed(config.seed)
    network, spec = begun(config, len(plan.channels))
    parts = plan.split.of([each.sha256 for each in plan.samples])
    level = changes(config.augment)
    train_set, val_set = (
        Shown(
            [sample for sample, of in zip(plan.samples, parts, strict=True) if of == part],
            plan.truth, spec, config.part, config.cores, level if part == "train" else None, config.seed,
        )
        for part in PARTS[:2]
    )  # fmt: skip
    times = 1 if config.size is not None else config.parts
    batches = max(1, len(train_set) * times // config.batch)
    learner = Learning(network.to(memory_format=torch.channels_last), plan, spec, batches * config.epochs)
    order = Order(len(train_set), times, config.seed, lambda: learner.current_epoch)
    whole = len(train_set) * times >= config.batch
    train_from, val_from = (
        torch.utils.data.DataLoader(
            each, config.batch, sampler=sampler, num_workers=config.workers, drop_last=drop_last
        )
        for each, sampler, drop_last in ((train_set, order, whole), (val_set, Unchanged(len(val_set)), False))
    )
    state = fit(learner, train_from, val_from, plan.work, "dice", shown)
    return written(plan, state, spec)


class Unchanged(torch.utils.data.Sampler):
    """Every image once, as it is, in order."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        return iter([(-1, at) for at in range(self.count)])


def begun(config: Segmenter, channels: int) -> tuple[torch.nn.Module, Input]:
    """The network with what it begins with, and how images come to it. Raises SettingError."""
    network = architectures.build(config.network, classes=channels)
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
        raise SettingError(f"network cannot be {config.network}: it takes imagier:unet or smp:DECODER/ENCODER")
    return network.train(), Input(**(known | told))


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


def written(plan: Plan, state: Any, spec: Input) -> Model:
    """The Model folder of the best checkpoint, with its split and its config."""
    import msgspec
    from safetensors.torch import save_file

    config = plan.config
    path = plan.work / "best.safetensors"
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path)
    counts = np.unique(plan.split.of([each.sha256 for each in plan.samples]), return_counts=True)
    told = ", ".join(f"{count} {part}" for part, count in zip(*counts, strict=True))
    return export(
        config.network,
        state=path,
        name=plan.into.name,
        task="segment",
        folder=plan.into,
        labels=plan.channels,
        source=f"imagier train segmenter, seed {config.seed}; images: {told}",
        size=config.size,
        how=described(config),
        besides={"split": plan.split.encoded(), "training": msgspec.yaml.encode(config)},
        replace=True,
    )
