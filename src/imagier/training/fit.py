"""Fitting: what every training shares: the loop with its checkpoints, logs and progress, by Lightning.

The work folder holds all of a run: `config.yaml`, `last.ckpt` (an epoch old at most), `best.ckpt`, `log.csv`,
TensorBoard's files and `curves.png`. The same command in the same folder goes on where it was left.
"""

from __future__ import annotations

import csv
import logging
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from timm.optim.muon import Muon

from imagier import _progress
from imagier.models._openvino import capabilities
from imagier.models.exporting import export
from imagier.models.model import Input, Model, Task
from imagier.training.config import Config
from imagier.training.critic import Critic
from imagier.training.samples import Sample, came_about
from imagier.training.splits import Split

RISE = 0.05
"""Of all steps: those over which the learning rate rises."""


@dataclass(frozen=True)
class Plan:
    """All that a training needs, checked."""

    config: Any
    """Of the class that its kind has in config.py."""
    network: torch.nn.Module
    """With what it begins with."""
    spec: Input
    """How images come to it."""
    samples: Sequence[Sample]
    split: Split
    into: Path
    work: Path

    def of(self, part: str) -> list[Sample]:
        """The images of a part of the split."""
        parts = self.split.of([each.sha256 for each in self.samples])
        return [sample for sample, of in zip(self.samples, parts, strict=True) if of == part]


class Learner(pl.LightningModule, ABC):
    """A network that is learning. What differs is `forward`, `loss_of` and `judged`.

    A batch is (what is shown, what is wanted). The score that chooses the checkpoint is `val_score`, the higher the
    better. critic_sees: channels of what is shown and of what is made, where a critic has a say of weight adversarial.
    """

    betas = (0.9, 0.999)
    """AdamW's, as of those weights that Muon leaves to it."""

    def __init__(
        self, network: torch.nn.Module, config: Config, steps: int, critic_sees: int = 0, adversarial: float = 0.0
    ) -> None:
        super().__init__()
        self.network, self.config, self.steps = network.to(memory_format=torch.channels_last), config, steps
        self.adversarial = adversarial
        self.critic = Critic(critic_sees) if adversarial else None

    @abstractmethod
    def loss_of(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The loss of what `forward` made of a batch, a scalar."""

    @abstractmethod
    def judged(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The score of each image of a batch, (n,)."""

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        shown, wanted = batch
        made = self(shown)
        loss = self.loss_of(made, wanted)
        self.log("train_loss", loss, on_step=True, on_epoch=True, sync_dist=True)
        if self.critic is not None:
            given, picture, true = self.seen(shown), self.picture(made), wanted.float()
            mistaken = self.critic.mistaken(given, picture, true)
            self.log("critic_loss", mistaken, on_step=False, on_epoch=True, sync_dist=True)
            loss = loss + self.adversarial * self.critic.fooled(given, picture) + mistaken
        return loss

    def seen(self, shown: torch.Tensor) -> torch.Tensor:
        """What is shown, on [0, 1], for the critic."""
        return shown.float() / 255 if shown.dtype == torch.uint8 else shown

    def picture(self, made: torch.Tensor) -> torch.Tensor:
        """What `forward` made, as what is wanted is."""
        return made

    def validation_step(self, batch: Any, _: int) -> None:
        shown, wanted = batch
        made, count = self(shown), len(shown)
        self.log("val_loss", self.loss_of(made, wanted), batch_size=count, sync_dist=True)
        self.log("val_score", self.judged(made, wanted).mean(), batch_size=count, sync_dist=True)

    def rates(self) -> Any:
        """Parameters, or groups of them with rates of their own."""
        return self.parameters()

    def configure_optimizers(self) -> Any:
        config, rise = self.config, max(1, round(RISE * self.steps))
        how: dict[str, Any] = {"lr": config.rate, "betas": self.betas, "weight_decay": config.decay}
        if config.optimiser == "muon":
            optimiser: torch.optim.Optimizer = Muon(self.rates(), nesterov=True, **how)
        else:
            optimiser = torch.optim.AdamW(self.rates(), **how)

        def share(step: int) -> float:
            done = min(1.0, step / self.steps)
            return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * done))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Told(Callback):
    """A line of progress with rate and time left; log.csv with a row an epoch; curves.png."""

    def __init__(self, work: Path, score: str, shown: bool) -> None:
        self.work, self.score, self.shown = work, score, shown
        self.bar: Any = None
        self.begun = 0.0

    def on_train_start(self, trainer: Any, learner: Any) -> None:
        done = trainer.global_step
        self.bar = _progress.bar(learner.steps, self.shown, unit="step", initial=done)

    def on_train_epoch_start(self, trainer: Any, learner: Any) -> None:
        self.begun = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, learner: Any, outputs: Any, batch: Any, index: int) -> None:
        told = {name: float(value) for name, value in trainer.callback_metrics.items()}
        loss = told.get("train_loss_step", float("nan"))
        score = told.get("val_score", float("nan"))
        facts = {"epoch": trainer.current_epoch, "epochs": trainer.max_epochs, "loss": loss, self.score: score}
        self.bar.note(
            f"loss {loss:.3f}, {self.score} {score:.3f}",
            **{name: value if math.isfinite(value) else None for name, value in facts.items()},
        )
        self.bar.update(trainer.global_step - self.bar.done)

    def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
        told = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "train_loss": told.get("train_loss_epoch", told.get("train_loss")),
            "val_loss": told.get("val_loss"),
            self.score: told.get("val_score"),
            "rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": time.perf_counter() - self.begun,
        }
        if trainer.is_global_zero:
            path = self.work / "log.csv"
            # A killed epoch is trained again, so its row may be there already.
            rows = [each for each in read_log(path) if each["epoch"] < row["epoch"]] + [row]
            part = path.with_suffix(".part")
            with open(part, "w", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
                writer.writerows(rows)
            part.replace(path)
            curves(rows, self.score, self.work / "curves.png")

    def on_train_end(self, trainer: Any, learner: Any) -> None:
        if self.bar is not None:  # of a training that was over already, nothing began
            self.bar.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """log.csv; nothing where there is none."""
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def curves(rows: list[dict[str, Any]], score: str, path: Path) -> None:
    """The losses and the score by epoch, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] + 1 for row in rows]
    for name, label in (("train_loss", "learnt from"), ("val_loss", "validation")):
        left.plot(epochs, [row[name] for row in rows], marker=".", label=label)
    left.set(xlabel="epoch", ylabel="loss")
    left.legend(frameon=False)
    right.plot(epochs, [row[score] for row in rows], marker=".", color="tab:green")
    best = max(rows, key=lambda row: row[score])
    right.axvline(best["epoch"] + 1, color="0.7", linewidth=1, zorder=0)
    right.set(xlabel="epoch", ylabel=score, title=f"best {best[score]:.3f}, epoch {best['epoch'] + 1:.0f}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=120)


def precision(asked: str) -> Literal["32-true", "bf16-mixed"]:
    """Lightning's word for what is computed in."""
    if asked == "auto":
        card = torch.cuda.is_available()
        able = torch.cuda.is_bf16_supported(including_emulation=False) if card else "BF16" in capabilities()
        asked = "bfloat16" if able else "float32"
    return "bf16-mixed" if asked == "bfloat16" else "32-true"


def fit(learner: Learner, train: Any, val: Any, work: Path, score: str, shown: bool) -> Mapping[str, Any]:
    """Train, or go on, until the epochs are over or no better checkpoint comes. Gives the best checkpoint's state."""
    config = learner.config
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it advertises
    best = ModelCheckpoint(work, "best", monitor="val_score", mode="max", enable_version_counter=False)
    last = ModelCheckpoint(work, "last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False)
    stop = EarlyStopping("val_score", patience=config.patience, mode="max")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Lightning advises of workers and versions
        trainer = pl.Trainer(
            max_epochs=config.epochs,
            precision=precision(config.precision),
            callbacks=[best, last, stop, Told(work, score, shown)],
            logger=TensorBoardLogger(work, name="", version="tensorboard"),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            gradient_clip_val=5.0,
            deterministic="warn",
        )
        resumed = work / "last.ckpt"
        try:
            trainer.fit(learner, train, val, ckpt_path=resumed if resumed.is_file() else None, weights_only=True)
        except SystemExit as stopped:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from stopped
        state: Mapping[str, Any] = torch.load(work / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


Entries = Sequence[tuple[int, int]]
"""What is shown in an epoch: (which time this is, place of the image)."""


def repeated(count: int, times: int = 1) -> Entries:
    """Every image so many times."""
    return [(time, at) for time in range(times) for at in range(count)]


def learn(
    plan: Plan, learner: Callable[[int], Learner], train: Any, val: Any, entries: Entries, score: str, shown: bool
) -> Mapping[str, Any]:
    """Train on one data set, choose by another: both have a length, and entries (epoch, place), as `Order` gives them.

    learner: for so many steps. entries: of the first. Gives the best checkpoint's state of the network.
    """
    config = plan.config
    whole = len(entries) >= config.batch
    made = learner(max(1, len(entries) // config.batch) * config.epochs)
    order = Order(entries, config.seed, lambda: made.current_epoch)
    train_from, val_from = (
        torch.utils.data.DataLoader(
            each, config.batch, sampler=sampler, num_workers=config.workers, drop_last=drop_last
        )
        for each, sampler, drop_last in ((train, order, whole), (val, Unchanged(len(val)), False))
    )  # fmt: skip
    return fit(made, train_from, val_from, plan.work, score, shown)


class Order(torch.utils.data.Sampler):
    """The entries of an epoch, in an order that the seed and the epoch alone decide."""

    def __init__(self, entries: Entries, seed: int, epoch: Callable[[], int]) -> None:
        self.entries, self.seed, self.epoch = entries, seed, epoch
        self.times = 1 + max(time for time, _ in entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch()
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
        return iter([(epoch * self.times + self.entries[at][0], self.entries[at][1]) for at in order])


class Unchanged(torch.utils.data.Sampler):
    """Every image once, as it is, in order."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(-1, at) for at in range(self.count)])


def written(plan: Plan, architecture: str, state: Mapping[str, Any], task: Task, into: Path, **how: Any) -> Model:
    """The Model folder of the best checkpoint, with its split and its config. how: as `export` takes it."""
    from safetensors.torch import save_file

    config = plan.config
    path = plan.work / "best.safetensors"
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path)
    source, records = came_about(config, plan.split, plan.samples)
    return export(
        architecture,
        state=path,
        name=plan.into.name,
        task=task,
        folder=into,
        source=source,
        besides=records,
        half=config.half,
        replace=True,
        **how,
    )
