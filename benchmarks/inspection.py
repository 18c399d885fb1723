"""How well and how fast inspectors are, on drawn parts or on a folder of good parts and one of bad ones.

    python benchmarks/inspection.py drawn [--kind nuts]              faults found, the rate of good ones refused, a
                                                                      folder with 10 % bad ones beside a clean one
    python benchmarks/inspection.py draws --good DIR --bad DIR       so many good ones learnt from, several times
    python benchmarks/inspection.py scale [--images 10000]           memory, time, and the rate beside embedding alone

--set NAME=VALUE changes a setting of the inspector, repeatable.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from imagier import images, samples
from imagier.models import engines
from imagier.models.inspecting import BATCH, inspect_by
from imagier.models.preprocess import prepare
from imagier.models.store import find
from imagier.training.config import parse_setting
from imagier.training.samples import eight_bit
from imagier.workflows import train
from imagier.workflows.judge_inspector import inspector as judge

FAULTS = ("scratch", "bent", "color")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["drawn", "draws", "scale"])
    parser.add_argument("--kind", default="nuts", choices=["nuts", "washers"])
    parser.add_argument("--good", type=Path)
    parser.add_argument("--bad", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--learn", type=int, help="good ones to learn from: 300 drawn ones, or 5 of a draw")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    settings = dict(parse_setting(each) for each in given.settings)
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "drawn":
            drawn(Path(folder), given.kind, given.learn or 300, settings)
        elif given.what == "draws":
            draws(Path(folder), given, settings)
        else:
            scale(Path(folder), given.images, settings)


def drawn(folder: Path, kind: str, count: int, settings: dict[str, Any]) -> None:
    """So many good parts to learn from; as many more, and 60 of each fault, to judge."""
    single = kind[:-1]
    many(folder / "good", kind, f"{single}_good", count, 0)
    many(folder / "new", kind, f"{single}_good", max(count, 400), 10_000)
    for fault in FAULTS:
        many(folder / "bad" / fault, kind, f"{single}_{fault}", 60, 20_000, folder / "masks" / fault)
    clean = train.inspector(good=folder / "good", into=folder / "clean", settings=settings, progress=False)
    print("clean")
    tell(judge(clean, good=folder / "new", bad=folder / "bad", masks=folder / "masks", progress=False).lines())
    shutil.copytree(folder / "good", folder / "mixed")
    for fault in FAULTS:
        many(folder / "mixed", kind, f"{single}_{fault}", count * 11 // 300, 30_000)
    mixed = train.inspector(unlabelled=folder / "mixed", into=folder / "mixed-model", settings=settings, progress=False)
    print(f"{count} good ones and {count * 11 // 300 * len(FAULTS)} bad ones, unlabelled")
    tell(judge(mixed, good=folder / "new", bad=folder / "bad", masks=folder / "masks", progress=False).lines())
    plain = train.inspector(good=folder / "mixed", into=folder / "plain", settings=settings, progress=False)
    print("the same, taken for good")
    tell(judge(plain, good=folder / "new", bad=folder / "bad", masks=folder / "masks", progress=False).lines()[:4])


def draws(folder: Path, given: argparse.Namespace, settings: dict[str, Any]) -> None:
    """So many good ones at random to learn from; all others, and the bad ones, to judge."""
    listed, learn = train.pictures(given.good)[1], given.learn or 5
    found: dict[str, list[float]] = {}
    for draw in range(given.draws):
        order = np.random.default_rng(draw).permutation(len(listed))
        for name, places in (("learn", order[:learn]), ("rest", order[learn:])):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
            for at in places:
                os.symlink(listed[at], folder / name / listed[at].name)
        model = train.inspector(
            good=folder / "learn", into=folder / "model", settings={"seed": draw} | settings, over=True, progress=False
        )
        told = judge(model, good=folder / "rest", bad=given.bad, masks=given.masks, progress=False).told
        for name in ("image_auroc", "pixel_auroc", "pro", "false_reject", "miss"):
            if name in told:
                found.setdefault(name, []).append(told[name]["mean"])
        for kind, of in told.get("kinds", {}).items():
            found.setdefault(f"image AUROC, {kind}", []).append(of["image_auroc"]["mean"])
    for name, values in found.items():
        print(f"{name}: {np.mean(values):.3f}, spread {np.std(values):.3f}, least {min(values):.3f}")


def scale(folder: Path, count: int, settings: dict[str, Any]) -> None:
    """Drawn parts at 256 pixels: a thousand drawings, each turned and lit anew to make as many as are wanted."""
    rng = np.random.default_rng(0)
    (folder / "good").mkdir()
    base = [samples.draw("nuts", seed, size=256, label="nut_good").image for seed in range(min(count, 1000))]
    for at in range(count):
        image = np.rot90(base[at % len(base)], int(rng.integers(4)))
        lit = np.clip(image * rng.uniform(0.85, 1.15) + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        (folder / "good" / f"{at:05d}.jpg").write_bytes(images.encode(np.ascontiguousarray(lit), "jpeg", 92))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for part in (count // 4, count):
        some = folder / f"first-{part}"
        some.mkdir()
        for path in sorted((folder / "good").iterdir())[:part]:
            os.symlink(path, some / path.name)
        start = time.perf_counter()
        model = train.inspector(good=some, into=folder / "model", settings=settings, over=True, progress=False)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{part} images: {seconds:.1f} s, {1000 * seconds / part:.2f} s a thousand; peak {peak} MB, {before} before"
        )
    given = [eight_bit(path.read_bytes()) for path in sorted((folder / "good").iterdir())[:400]]
    encoder = find("builtin", "embed")
    network, look = engines.network(encoder), inspect_by(model)

    def embed(some: list[Any]) -> Any:
        return network(prepare(some, encoder.card.input)[0])

    batches = [given[at : at + BATCH] for at in range(0, len(given), BATCH)]
    rates: dict[str, list[float]] = {"embedding": [], "scoring": []}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # as a pass does
        for _ in range(7):
            for name, run in (("embedding", embed), ("scoring", look)):
                start = time.perf_counter()
                list(pool.map(run, batches))
                rates[name].append(len(given) / (time.perf_counter() - start))
    best = {name: max(values) for name, values in rates.items()}
    print(f"images a second: {best}; scoring at {best['scoring'] / best['embedding']:.0%} of embedding alone")


def many(folder: Path, kind: str, label: str, count: int, seed: int, masks: Path | None = None) -> None:
    """Drawings of one label, with the masks of their faults."""
    for each in (folder, masks):
        if each is not None:
            each.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        made = samples.draw(kind, seed + at, size=256, label=label)
        name = f"{label}-{seed + at}.png"
        (folder / name).write_bytes(images.encode(made.image, "png"))
        if masks is not None and made.mask is not None:
            (masks / name).write_bytes(images.encode(made.mask.astype(np.uint8) * 255, "png"))


def tell(lines: Sequence[str]) -> None:
    """A line each, indented."""
    for line in lines:
        print(f"  {line}")


if __name__ == "__main__":
    main()
