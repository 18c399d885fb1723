"""The classifier: labelled images to a Model folder that says what it sees, how sure it is, and when it does not know.

Three ways: a head on an encoder's embedding (head.py), a network of timm's or the encoder that ships, made fit
(finetune), and a plain one from nothing (scratch). All end in the same folder, with what its confidence is made of,
fitted on the part that chose the best.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.optim._param_groups import param_groups_layer_decay
from torch.nn import functional
from torchvision import tv_tensors

from imagier.models import architectures
from imagier.models.classifying import joined, network_of
from imagier.models.exporting import read_state
from imagier.models.model import Input, Model, Role, write_model
from imagier.models.networks.encoder import Classifier
from imagier.models.preprocess import place
from imagier.models.store import find
from imagier.training.assured import Shares, assured, weights_of
from imagier.training.config import Network
from imagier.training.data import Kept, changes
from imagier.training.fit import Entries, Learner, Plan, learn, repeated, written
from imagier.training.samples import Sample, eight_bit
from imagier.training.segmenter import fill
from imagier.training.splits import PARTS
from imagier.types import BUILTIN, SettingError

OWN = "imagier:classifier"


@dataclass(frozen=True)
class ClassifierPlan(Plan):
    """With the classes, which a sample's shares tell: 1 for its own."""

    classes: tuple[str, ...]
    about: bytes | None = None
    """A labels.yaml."""


@dataclass
class Shown(torch.utils.data.Dataset):
    """The images of a part, as (pixels (3, h, w) uint8, shares of classes (k,) float32).

    An entry is (epoch, place): an epoch below 0 shows every image unchanged.
    """

    samples: Sequence[Sample]
    spec: Input
    changes: Any
    """torchvision's transform of an image; None: none."""
    seed: int
    kept: Kept = field(default_factory=Kept)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, entry: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, at = entry
        pixels, shares = self.kept.pair(at, self.prepared)
        image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
        if epoch >= 0 and self.changes is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(hash((self.seed, epoch, at)) & 0x7FFFFFFF)
                image = self.changes(image)
        return image.as_subclass(torch.Tensor), torch.from_numpy(shares)

    def prepared(self, at: int) -> tuple[np.ndarray, np.ndarray]:
        """An image at the network's size, (h, w, 3) uint8, and its class's share."""
        sample = self.samples[at]
        return place(eight_bit(sample.path.read_bytes()), self.spec)[0], np.array(sample.shares, np.float32)


class Learning(Learner):
    """Classifiers, by cross entropy."""

    def __init__(self, plan: ClassifierPlan, train: Shares, val: Shares, steps: int) -> None:
        super().__init__(plan.network, plan.config, steps)
        self.told: Network = plan.config
        weights = weights_of(train) if self.told.balance == "weights" else np.ones(train.shape[1])
        judged = weights_of(val) if self.told.choose == "balanced" else np.ones(val.shape[1])
        constants = {"mean": plan.spec.mean, "std": plan.spec.std, "weights": weights, "counts": judged}
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.weights: torch.Tensor
        self.counts: torch.Tensor
        for name, values in constants.items():
            tensor = torch.tensor(np.array(values), dtype=torch.float32)
            self.register_buffer(
                name, tensor.view(1, 3, 1, 1) * 255 if name in ("mean", "std") else tensor, persistent=False
            )
        self.mixing = np.random.default_rng(self.told.seed)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) on 0 to 255 to logits (n, k) float32."""
        shown = (pixels.float() - self.mean) / self.std
        logits: torch.Tensor = self.network(shown.contiguous(memory_format=torch.channels_last)).float()
        return logits

    def on_train_epoch_start(self) -> None:
        """For the first epochs the last layer learns alone, and batch norms stay as they are."""
        still = self.current_epoch < self.told.frozen
        last = {id(each) for each in last_layer(self.network).parameters()}
        for parameter in self.network.parameters():
            parameter.requires_grad_(not still or id(parameter) in last)
        self.network.train(not still)
        last_layer(self.network).train()
        self.mixing = np.random.default_rng((self.told.seed, self.current_epoch))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        shown, wanted = batch
        if self.told.mixup:
            share = float(self.mixing.beta(self.told.mixup, self.told.mixup))
            order = torch.from_numpy(self.mixing.permutation(len(shown)))
            shown, wanted = (share * each.float() + (1 - share) * each[order].float() for each in (shown, wanted))
        return super().training_step((shown, wanted), index)

    def loss_of(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        weighed = wanted * self.weights
        loss = -(weighed * functional.log_softmax(made, 1)).sum() / weighed.sum().clamp(min=1e-6)
        if self.told.l2 and self.training:
            dense = [each for each in self.network.modules() if isinstance(each, torch.nn.Linear)]
            loss = loss + self.told.l2 * torch.stack([each.weight.square().sum() for each in dense]).sum()
        return loss

    def judged(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """1 where it is right; weighed by class, so that the mean over images is that over classes."""
        true = wanted.argmax(1)
        return (made.argmax(1) == true) * self.counts[true]

    def rates(self) -> Any:
        if self.told.falloff == 1:
            return self.parameters()
        groups = param_groups_layer_decay(self.network, self.told.decay, layer_decay=self.told.falloff)
        return [
            {"params": each["params"], "weight_decay": each["weight_decay"], "lr": self.told.rate * each["lr_scale"]}
            for each in groups
        ]


def last_layer(network: torch.nn.Module) -> torch.nn.Module:
    """What tells classes apart."""
    last: torch.nn.Module = network.get_classifier() if hasattr(network, "get_classifier") else network.head  # type: ignore[operator, assignment]
    return last


def architecture_of(config: Network) -> str:
    """As a card writes it."""
    if config.model == BUILTIN:
        return OWN
    if config.model.startswith("cnn:"):
        return config.model if "@" in config.model else f"{config.model}@{(config.size or (96, 96))[0]}"
    return config.model if ":" in config.model else f"timm:{config.model}"


def begun(config: Network, classes: int) -> tuple[torch.nn.Module, Input]:
    """The network with what it begins with, and how images come to it. Raises SettingError, ModelError."""
    architecture = architecture_of(config)
    torch.manual_seed(config.seed)
    architectures.ports(architecture, "classify")
    network = architectures.build(architecture, classes=classes, size=config.size)
    if config.weights is not None:
        fill(network, read_state(Path(config.weights)), config.weights)
    elif isinstance(network, Classifier):
        network.encoder.load_state_dict(read_state(find(BUILTIN, "embed").file("weights")))
        torch.nn.init.zeros_(network.head.weight)
    told = described(config)
    if architecture.startswith("timm:"):
        known = architectures.timm_input(architecture, network.pretrained_cfg, config.size, config.fit)  # type: ignore[arg-type]
    else:
        known = architectures.classifier_input(architecture, config.size)
    spec = Input(**(known | told))
    assert spec.size is not None
    if not architectures.gives_features(network, spec.size):
        raise SettingError(
            f"model cannot be {config.model}: what its last layer sees cannot be had, at {spec.size} pixels"
        )
    return network.train(), spec


def described(config: Network) -> dict[str, Any]:
    """Fields of the card's Input that the config decides."""
    return {"fit": config.fit} | ({} if config.fit == "crop" else {"interpolation": "area"})


def entries_of(config: Network, shares: Shares) -> Entries:
    """What an epoch shows: every image once; or, to oversample, of each class as many as of the largest."""
    if config.balance != "oversample":
        return repeated(len(shares))
    true = shares.argmax(1)
    most = np.bincount(true).max()
    shown: list[tuple[int, int]] = []
    for each in np.unique(true):
        places = np.flatnonzero(true == each)
        shown += [(time // len(places), int(places[time % len(places)])) for time in range(most)]
    return sorted(shown)


def train(plan: ClassifierPlan, shown: bool) -> Model:
    """Train by a plan, or go on, and write the Model folder. Raises SettingError, ModelError."""
    config: Network = plan.config
    train_set, val_set = (
        Shown(plan.of(part), plan.spec, changes(config.augment) if part == "train" else None, config.seed)
        for part in PARTS[:2]
    )
    train_shares, val_shares = (np.array([each.shares for each in of.samples]) for of in (train_set, val_set))
    entries = entries_of(config, train_shares)
    score = "balanced accuracy" if config.choose == "balanced" else "accuracy"

    def learner(steps: int) -> Learning:
        return Learning(plan, train_shares, val_shares, steps)

    state = learn(plan, learner, train_set, val_set, entries, score, shown)
    drawn = written(
        plan, architecture_of(config), state, "classify", plan.work / "network",
        labels=plan.classes, size=plan.spec.size, how=described(config), features=True,
    )  # fmt: skip
    look = network_of(drawn, precision="float32", threads=os.cpu_count())
    learnt, held = (
        joined([look([eight_bit(each.path.read_bytes())]) for each in of.samples]) for of in (train_set, val_set)
    )
    card, files = assured(
        drawn.card, learnt, train_shares.argmax(1), held, val_shares.argmax(1), config.seed, plan.about
    )
    kept: dict[Role, Path | bytes] = {role: drawn.folder / entry.path for role, entry in drawn.card.files.items()}
    kept.update(files)
    return write_model(plan.into, card, kept, replace=True)
