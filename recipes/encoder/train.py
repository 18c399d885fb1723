"""Train imagier's built-in encoder, and write its Model folder.

    python recipes/encoder/train.py --pack ../shared/data/pretrain --work work/encoder \\
        --teacher ../shared/weights/mobilenet_v2_1.0_224_quant.tflite --into src/imagier/models/builtin/embed
    ... --probe ../shared/data        also says every 300 steps what benchmarks/encoders.py would

The student begins as the teacher, in real numbers, and learns to give at 176 pixels what the teacher gives at 224: its
features, how they lie to one another (Park et al. 2019), its classes (Hinton et al. 2015) and its inner maps; and to
give it whatever the light, and turned. In a last, short phase it learns the pack's own labels too, and, where --alike
is above 0, that small crops of an image are like the whole. Then what it gives on the pack is centred, whitened by a
quarter and cut to 512 numbers. Stopped at any time, the same command goes on from the last checkpoint. Runs on a GPU
where torch sees one.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import queue
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from teacher import SIDE as LARGE
from teacher import Teacher, begin
from torch.nn import functional
from views import Changes, Pack, Views, batch, opened, packs

from imagier.models.model import Input
from imagier.models.networks.encoder import SIDE, WIDTH, Encoder
from imagier.models.preprocess import place

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

STEPS, BATCH, RATE, WARM = 1600, 64, 3e-4, 40
LAST, LAST_RATE = 250, 1e-4
"""Steps and rate of the last phase. The moving mean is longer than it, so what ships lies between the two phases: the
weights at its end by themselves see worse (LOG.md)."""
CROPS = 2
"""Small crops of each view, where their loss counts."""
KEPT = 0.998
"""Of the moving mean of the weights, which is what ships."""
EACH = 100
TOLD = ("seed", "steps", "last", "batch", "light", "turned", "labels", "alike")
"""Options that a checkpoint must have been begun with, beside the side of what the student sees."""
PROBED = 300
WHITENED = 0.25
"""How far directions are made equally long: 0 as they are, 1 all the way."""
SAMPLED = 6000
"""Images of the pack by which the embedding is centred and whitened."""


def main() -> None:
    """Train, or go on, and write the Model folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pack", type=Path, required=True, help="folder of the two .parquet files")
    parser.add_argument("--teacher", type=Path, required=True, help="mobilenet_v2_1.0_224_quant.tflite")
    parser.add_argument("--work", type=Path, required=True, help="where the checkpoint and the log are")
    parser.add_argument("--into", type=Path, help="the Model folder to write")
    parser.add_argument("--probe", type=Path, help="the folder of the sets that benchmarks/encoders.py measures on")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--last", type=int, default=LAST, help="steps of the last phase, by the pack's labels too")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--each", type=int, default=EACH, help="steps from checkpoint to checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--light", type=float, default=Changes.light)
    parser.add_argument("--turned", type=float, default=Changes.turned)
    parser.add_argument("--labels", type=float, default=0.3, help="what the labels' loss counts, in the last phase")
    parser.add_argument("--alike", type=float, default=0.0, help="what the small crops' loss counts, in the last phase")
    parser.add_argument("--cache", type=Path, help="what the teacher said; teacher.bin in --work unless given")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    images = packs(options.pack)
    run = Run(options, images)
    run.train()
    fit_head(run.kept, images, options.seed, run.device)
    if options.probe:
        run.say({"step": run.step, "shipped": probe(run.kept, options.probe, run.device, whole=True)})
    if options.into:
        write(run.kept, options)


class Run:
    """A training that can be left and taken up again."""

    def __init__(self, options: argparse.Namespace, images: list[Pack]) -> None:
        self.options, self.images = options, images
        self.told = {name: getattr(options, name) for name in TOLD} | {"side": SIDE}
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.teacher = Teacher(options.teacher, options.cache or options.work / "teacher.bin", os.cpu_count() or 1)
        torch.manual_seed(options.seed)
        student, head = begin(options.teacher)
        self.student = student.to(self.device, memory_format=torch.channels_last).train()
        self.head, self.kept = head.to(self.device), copy.deepcopy(self.student).eval()
        self.learnt = [p for n, p in self.student.named_parameters() if not n.startswith(("inner", "project"))]
        self.optimiser = torch.optim.AdamW(self.learnt, lr=RATE, weight_decay=0.0)
        self.middle: torch.Tensor | None = None
        self.step = 0
        self.checkpoint = options.work / "checkpoint.pt"
        if self.checkpoint.is_file():
            self.take_up(torch.load(self.checkpoint, map_location=self.device, weights_only=True))

    def take_up(self, state: dict) -> None:
        """Go on from a checkpoint."""
        if state["told"] != self.told:
            sys.exit(f"{self.checkpoint} was begun with {state['told']}, not {self.told}: choose another --work")
        self.student.load_state_dict(state["student"])
        self.kept.load_state_dict(state["kept"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.middle, self.step = state["middle"], state["step"]

    def leave(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {"student": self.student.state_dict(), "kept": self.kept.state_dict(), "step": self.step}
        state |= {"optimiser": self.optimiser.state_dict(), "middle": self.middle, "told": self.told}
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def say(self, told: dict) -> None:
        """To the screen and the log."""
        print(json.dumps(told), flush=True)
        with open(self.options.work / "log.jsonl", "a") as log:
            log.write(json.dumps(told) + "\n")

    def train(self) -> None:
        """All steps that are left."""
        ready: queue.Queue = queue.Queue(4)
        options = self.options
        left = range(self.step, options.steps + options.last)

        def feed() -> None:
            try:
                for step in left:
                    crops = CROPS if step >= options.steps and options.alike else 0
                    changes = Changes(options.light, options.turned, crops)
                    shown = batch(self.images, options.batch, options.seed, step, changes, (LARGE, SIDE))
                    ready.put((shown, self.teacher(shown.large)))
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                ready.put(error)

        threading.Thread(target=feed, daemon=True).start()
        begun, parts = time.perf_counter(), []
        for step in left:
            shown = ready.get()
            if isinstance(shown, Exception):
                raise shown
            parts.append(self.learn(*shown))
            self.step = step + 1
            if self.step % options.each == 0 or self.step in (options.steps, options.steps + options.last):
                self.leave()
                mean = {name: round(float(np.mean([each[name] for each in parts])), 5) for name in parts[0]}
                rate = len(parts) * options.batch / (time.perf_counter() - begun)
                self.say({"step": self.step, "images/s": round(rate, 1)} | mean)
                begun, parts = time.perf_counter(), []
            if options.probe and self.step % PROBED == 0:
                self.say({"step": self.step, "probe": probe(self.kept, options.probe, self.device)})
                begun, parts = time.perf_counter(), []

    def rate(self) -> float:
        """Each phase warms up and goes down to nothing."""
        options = self.options
        last = self.step >= options.steps
        step, steps = (self.step - options.steps, options.last) if last else (self.step, options.steps)
        most = LAST_RATE if last else RATE
        return most * min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))

    def learn(self, shown: Views, told: dict[str, np.ndarray]) -> dict[str, float]:
        """One step; gives the parts of the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        wanted = {name: torch.from_numpy(each).to(self.device) for name, each in told.items()}
        features, map8, map16 = self.student.features(entered(shown.small, self.device))
        now = wanted["features"].mean(0)
        self.middle = now if self.middle is None else 0.98 * self.middle + 0.02 * now
        mine = functional.normalize(features - self.middle, dim=1)
        theirs = functional.normalize(wanted["features"] - self.middle, dim=1)
        logits = self.head(features)
        soft = functional.log_softmax(logits / 2, 1), functional.softmax(wanted["logits"] / 2, 1)
        upright = torch.from_numpy(~shown.turned).to(self.device)
        losses = {
            "features": 1 - (mine * theirs).sum(1).mean(),
            "relations": (mine @ mine.T - theirs @ theirs.T).square().mean(),
            "classes": 4 * functional.kl_div(*soft, reduction="batchmean"),
            "maps": apart(map8[upright], wanted["map8"][upright]) + apart(map16[upright], wanted["map16"][upright]),
        }
        if self.step >= self.options.steps:
            losses |= self.last(shown, logits)
        weights = {"features": 1.0, "relations": 10.0, "classes": 0.1, "maps": 0.5}
        weights |= {"labels": self.options.labels, "alike": self.options.alike}
        loss = sum(weights[name] * each for name, each in losses.items())
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learnt, 5.0)
        self.optimiser.step()
        share = min(KEPT, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, learnt in zip(self.kept.parameters(), self.student.parameters(), strict=True):
                kept.lerp_(learnt, 1 - share)
        return {name: float(each.detach()) for name, each in losses.items()}

    def last(self, shown: Views, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the last phase adds: the labels; and small crops' features, to be those that the whole view has by the
        moving mean of the weights (as in multi-crop, Caron et al. 2020)."""
        losses = {}
        if self.options.labels:
            classes = torch.from_numpy(shown.classes).to(self.device)
            losses["labels"] = functional.cross_entropy(logits, classes, ignore_index=-1)
        if len(shown.crops):
            with torch.no_grad():
                whole = self.kept.features(entered(shown.small, self.device))[0] - self.middle
            crops = self.student.features(entered(shown.crops, self.device))[0] - self.middle
            each = whole.repeat_interleave(len(shown.crops) // len(whole), 0)
            losses["alike"] = 1 - functional.cosine_similarity(crops, each, dim=1).mean()
        return losses


def entered(images: np.ndarray, device: str) -> torch.Tensor:
    """(n, h, w, 3) uint8 as the network takes it."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return ((pixels.permute(0, 3, 1, 2).float() - 128) / 128).contiguous(memory_format=torch.channels_last)


def apart(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """1 - cosine over the channels, the mean over places. theirs: (n, h, w, c), larger."""
    smaller = functional.interpolate(theirs.permute(0, 3, 1, 2), mine.shape[2:], mode="area")
    return (1 - functional.cosine_similarity(mine, smaller, dim=1)).mean()


# ---------------------------------------------------------------- the embedding


def fit_head(network: Encoder, images: list[Pack], seed: int, device: str) -> None:
    """Centre, whiten and cut what the network gives, by a sample of the pack: half of it from each."""
    rng = np.random.default_rng(seed)
    chosen = [pack.images[at] for pack in images for at in rng.permutation(len(pack.images))[: SAMPLED // 2]]
    pooled, inner = [], []
    with torch.inference_mode():
        for at in range(0, len(chosen), 64):
            views = np.stack([seen(opened(data)) for data in chosen[at : at + 64]])
            features, _, map16 = network.features(entered(views, device))
            pooled.append(features)
            inner.append(map16.mean((2, 3)))
        within = torch.cat(inner)
        spread = within.std(0)
        network.inner.weight.copy_(torch.diag(1 / spread))
        network.inner.bias.copy_(-within.mean(0) / spread)
        both = network.together(torch.cat(pooled), within).cpu().double()
        values, vectors = torch.linalg.eigh(torch.cov(both.T))
        values, vectors = values.flip(0)[:WIDTH], vectors.flip(1)[:, :WIDTH]
        turned = (vectors * (values + 1e-6) ** (-WHITENED / 2)).T
        network.project.weight.copy_(turned.float())
        network.project.bias.copy_(-(turned @ both.mean(0)).float())


def seen(image: np.ndarray) -> np.ndarray:
    """An image as `embed` shows it to the network: (SIDE, SIDE, 3) uint8."""
    return place(image, Input(size=(SIDE, SIDE), interpolation="area"))[0]


def probe(network: Encoder, data: Path, device: str, whole: bool = False) -> dict[str, list[float]]:
    """NMI and 5-NN by set, and their mean; of the pooled features, or of the embedding. No large set on the way."""
    import encoders

    from imagier import images

    found = {}
    for name in encoders.SETS:
        if name == "ham10000" and not whole:
            continue
        paths, labels = encoders.read(data, name)
        made = []
        with torch.inference_mode():
            for at in range(0, len(paths), 64):
                decoded = [images.decode(path.read_bytes(), short_side=SIDE) for path in paths[at : at + 64]]
                eight = [images.to_uint8(each.image, each.black, each.white) for each in decoded]
                views = np.stack([seen(each) for each in eight])
                given = entered(views, device)
                made.append((network(given)[0] if whole else network.features(given)[0]).cpu())
        found[name] = encoders.score(functional.normalize(torch.cat(made), dim=1).numpy(), labels, seeds=1)
    found["mean"] = tuple(np.mean(list(found.values()), axis=0))
    return {name: [round(float(each), 4) for each in both] for name, both in found.items()}


def write(network: Encoder, options: argparse.Namespace) -> None:
    """The Model folder."""
    from safetensors.torch import save_file

    from imagier.models.exporting import export

    state = options.work / "encoder.safetensors"
    save_file({name: value.cpu().contiguous() for name, value in network.state_dict().items()}, state)
    export(
        "imagier:encoder",
        state=state,
        name="builtin",
        task="embed",
        folder=options.into,
        licence="Apache-2.0",
        source=f"recipes/encoder, seed {options.seed}, {options.steps} and {options.last} steps; "
        "begun with MobileNetV2 1.0 224 quant",
        half=True,
        replace=True,
    )
    print(f"written: {options.into}")


if __name__ == "__main__":
    main()
