"""How well encoders see: K-means and 5 nearest neighbours on real sets, and how fast they are beside one another.

    python benchmarks/encoders.py --data ../shared/data --encoders builtin classical mnv2
    python benchmarks/encoders.py --data ../shared/data --encoders builtin --sets metal_nut clothing --seeds 20
    python benchmarks/encoders.py --encoders builtin timm-mobilenetv2 --speed 5

An encoder is what `--set embed.encoder=` takes: a name, a Model folder, a network file. Each sees images as `imagier
run` shows them to it, and vectors have length 1. NMI: K-means with as many groups as there are kinds, 5 starts, by seed
0, or the mean over --seeds. 5-NN: accuracy by cosine, 5 folds in the files' order. Files are sorted by path, since
K-means depends on the order of its rows.

--speed: images a second of the network alone, on all cores, in turns; the median of so many, and the ratio to the last
one named.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BATCH = 16


def by_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """FOLDER/KIND/FILE."""
    paths = sorted(folder.glob("*/*.jpg"))
    return paths, [path.parent.name for path in paths]


def by_table(folder: Path) -> tuple[list[Path], list[str]]:
    """labels.csv: file, label."""
    with open(folder / "labels.csv", newline="") as table:
        rows = sorted((row["file"], row["label"]) for row in csv.DictReader(table))
    return [folder / "images" / name for name, _ in rows], [label for _, label in rows]


def by_document(folder: Path) -> tuple[list[Path], list[str]]:
    """classification.json in BioFors's format."""
    told = json.loads((folder / "classification.json").read_text())
    rows = sorted((f"{document}/{name}", kind) for document, named in told.items() for name, kind in named.items())
    return [folder / "images" / name for name, _ in rows], [kind for _, kind in rows]


SETS = {
    "metal_nut": ("metal_nut", by_folder),
    "clothing": ("clothing/test", by_folder),
    "figures": ("figures", by_document),
    "ham10000": ("ham10000", by_table),
    "magnetic_tile": ("magnetic_tile/images", by_folder),
}
"""Name -> where it lies in ../shared/data, and how its labels are read."""


def read(data: Path, name: str) -> tuple[list[Path], list[str]]:
    """The files of a set, sorted, and their labels."""
    folder, how = SETS[name]
    paths, labels = how(data / folder)
    if not paths:
        sys.exit(f"{data / folder} holds no images: --data names the folder that holds the sets")
    return paths, labels


def vectors(encoder: str, paths: list[Path]) -> np.ndarray:
    """(n, d) float32 of length 1, by the stage that a run would use."""
    from imagier import images
    from imagier.pipeline import Pipeline

    (bound,) = Pipeline.of([{"embed": {"encoder": encoder}}]).bind()
    apply = bound.step.load()

    def chunk(at: int) -> np.ndarray:
        pages = [images.decode(path.read_bytes(), short_side=bound.step.pixels) for path in paths[at : at + BATCH]]
        columns = {name: [getattr(page, name) for page in pages] for name in ("image", "black", "white")}
        return np.asarray(apply(columns)["embedding"], np.float32)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = np.concatenate(list(pool.map(chunk, range(0, len(paths), BATCH))))
    return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)


def score(made: np.ndarray, labels: list[str], seeds: int = 1) -> tuple[float, float]:
    """NMI of K-means, the mean over seeds; and 5-NN's accuracy. made: (n, d), of length 1."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    kinds = len(set(labels))
    groups = [KMeans(kinds, n_init=5, random_state=seed).fit_predict(made) for seed in range(seeds)]
    shared = statistics.fmean(normalized_mutual_info_score(labels, group) for group in groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a kind of fewer than five images
        right = cross_val_score(KNeighborsClassifier(5, metric="cosine"), made, labels, cv=5)
    return float(shared), float(right.mean())


def table(data: Path, encoders: list[str], sets: list[str], seeds: int) -> None:
    """Print a line an encoder, and the mean."""
    print("| encoder (NMI, 5-NN) | " + " | ".join(sets) + " | mean |\n" + "| --- " * (len(sets) + 2) + "|", flush=True)
    there = {name: read(data, name) for name in sets}
    for encoder in encoders:
        scores = [score(vectors(encoder, paths), labels, seeds) for paths, labels in there.values()]
        cells = [f"{one:.3f}, {other:.3f}" for one, other in [*scores, tuple(np.mean(scores, axis=0))]]
        print(f"| {encoder} | " + " | ".join(cells) + " |", flush=True)


def speed(encoders: list[str], rounds: int) -> None:
    """Print images a second of each network, and its ratio to the last one's."""
    from imagier.models import engines
    from imagier.models.store import find

    runs = {}
    for encoder in encoders:
        model = find(encoder, "embed")
        height, width = model.card.input.size or (224, 224)
        batch = np.random.default_rng(0).integers(0, 256, (BATCH, height, width, 3), np.uint8)
        runs[encoder] = engines.network(model, wanted=model.output("embedding").tensors), batch
    rates: dict[str, list[float]] = {encoder: [] for encoder in encoders}
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        for turn in range(rounds + 1):
            for encoder, (run, batch) in runs.items():
                begun = time.perf_counter()
                list(pool.map(run, [batch] * 8 * cores))
                if turn:  # the first warms up
                    rates[encoder].append(8 * cores * BATCH / (time.perf_counter() - begun))
    for encoder in encoders:
        ratios = [one / other for one, other in zip(rates[encoder], rates[encoders[-1]], strict=True)]
        size = "x".join(map(str, runs[encoder][1].shape[1:3]))
        print(
            f"{encoder} ({size}): {statistics.median(rates[encoder]):.1f} images/s, {statistics.median(ratios):.2f} x"
        )


def main() -> None:
    """Measure what is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="the folder that holds the sets")
    parser.add_argument("--encoders", nargs="+", required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--speed", type=int, default=0, metavar="ROUNDS")
    options = parser.parse_args()
    if options.speed:
        speed(options.encoders, options.speed)
    elif options.data is None:
        parser.error("--data names the folder that holds the sets, or --speed measures networks alone")
    else:
        table(options.data, options.encoders, options.sets, options.seeds)


if __name__ == "__main__":
    main()
