"""Fitting: what every training shares: the loop with its checkpoints, logs and progress, by Lightning.

The work folder holds all of a run: `config.yaml`, `last.ckpt` (an epoch old at most), `best.ckpt`, `log.csv`,
TensorBoard's files and `curves.png`. The same command in the same folder goes on where it was left.
"""

from __future__ import annotations

import csv
import logging
import math
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tqdm import tqdm

from imagier.models._openvino import capabilities
from imagier.training.config import Config

RISE = 0.05
"""Of all steps: those over which the learning rate rises."""


class Learner(pl.LightningModule, ABC):
    """A network that is learning. What differs is `forward`, `loss_of` and `judged`.

    A batch is (what is shown, what is wanted). The score that chooses the checkpoint is `val_score`, the higher the
    better.
    """

    def __init__(self, network: torch.nn.Module, config: Config, steps: int) -> None:
        super().__init__()
        self.network, self.config, self.steps = network, config, steps

    @abstractmethod
    def loss_of(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The loss of what `forward` made of a batch, a scalar."""

    @abstractmethod
    def judged(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The score of each image of a batch, (n,)."""

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        shown, wanted = batch
        loss = self.loss_of(self(shown), wanted)
        self.log("train_loss", loss, on_step=True, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        shown, wanted = batch
        made, count = self(shown), len(shown)
        self.log("val_loss", self.loss_of(made, wanted), batch_size=count, sync_dist=True)
        self.log("val_score", self.judged(made, wanted).mean(), batch_size=count, sync_dist=True)

    def configure_optimizers(self) -> Any:
        config, rise = self.config, max(1, round(RISE * self.steps))
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=config.rate, weight_decay=config.decay)

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
        self.bar = tqdm(total=learner.steps, initial=done, unit="step", disable=not self.shown, file=sys.stderr)

    def on_train_epoch_start(self, trainer: Any, learner: Any) -> None:
        self.begun = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, learner: Any, outputs: Any, batch: Any, index: int) -> None:
        self.bar.update(trainer.global_step - self.bar.n)
        told = {name: float(value) for name, value in trainer.callback_metrics.items()}
        loss = told.get("train_loss_step", float("nan"))
        self.bar.set_postfix_str(f"loss {loss:.3f}, {self.score} {told.get('val_score', float('nan')):.3f}")

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
    return {name.removeprefix("network."): value for name, value in state.items()}
