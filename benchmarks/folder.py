"""How fast a folder becomes a collection, beside the same work written the plain way.

    python benchmarks/folder.py            # everything, some minutes on two cores
    python benchmarks/folder.py pass       # images per second and peak memory, as ratios to a plain PIL loop
    python benchmarks/folder.py cold       # seconds of a whole cold run, by part
    python benchmarks/folder.py growth     # time and memory from 1,000 to 10,000 items

Every measured piece runs in a process of its own, so that its peak memory is its own. The two sides of a ratio take
turns in one run, since a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIECES = ("pass", "cold", "growth")


def draw(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> Path:
    """Photograph-like JPEGs: smooth colour fields, edges and grain. About 90 kB each."""
    import numpy as np
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for at in range(count):
        low = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(low)
        for _ in range(12):
            x, y, w, h = (int(v) for v in rng.integers(0, [*size, size[0] // 3, size[1] // 3]))
            pen.ellipse((x, y, x + w + 1, y + h + 1), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
        pixels = np.asarray(low, np.int16) + rng.normal(0, 6, (size[1], size[0], 3)).astype(np.int16)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"image_{at:05d}.jpg", quality=90)
    return folder


# Run as `folder.py --piece NAME ARGUMENTS`, each in its own process; prints one line of JSON.


def plain(images: str) -> dict:
    """What one would write in ten lines: open, thumbnail, hash, embed, one image after the other."""
    import hashlib

    import numpy as np
    from PIL import Image

    from imagier.algorithms import classical

    rows = []
    begun = time.perf_counter()
    for path in sorted(Path(images).iterdir()):
        data = path.read_bytes()
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        small = image.copy()
        small.thumbnail((160, 160))
        rows.append((hashlib.sha256(data).hexdigest(), small, classical.describe(np.asarray(image))))
    return {"seconds": time.perf_counter() - begun, "images": len(rows)}


def passing(images: str) -> dict:
    """The pass: the same work, and the columns on disk."""
    import imagier
    from imagier.workflows.summary import last_run

    with tempfile.TemporaryDirectory() as out:
        collection = imagier.run(images, into=Path(out) / "c", pipeline=["embed"], report=False)
        summary = last_run(collection)
    return {"seconds": summary.seconds["pass"], "images": summary.decoded}


def whole(images: str) -> dict:
    """A cold run of everything, from the import on."""
    begun = time.perf_counter()
    import imagier
    from imagier.workflows.summary import last_run

    with tempfile.TemporaryDirectory() as out:
        collection = imagier.run(images, into=Path(out) / "c")
        parts = last_run(collection).seconds
    return {"seconds": time.perf_counter() - begun, "parts": parts}


def tables(count: str) -> dict:
    """The table steps alone, on `count` items of 40 drawn groups in 256 dimensions."""
    import numpy as np

    from imagier.pipeline import Pipeline

    rng = np.random.default_rng(0)
    n = int(count)
    centres = rng.normal(0, 1, (40, 256))
    points = centres[rng.integers(0, 40, n)] + rng.normal(0, 0.6, (n, 256))
    columns = {
        "id": [f"{at:08d}" for at in range(n)],
        "embedding": (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32),
        "phash": rng.integers(0, 2**63, n, np.uint64),
    }
    parts = {}
    for bound in Pipeline.of(None).bind():
        if bound.stage.over == "table":
            begun = time.perf_counter()
            fitted = bound.step.load()({name: columns[name] for name in ("id", *bound.step.reads)})
            parts[bound.name] = round(time.perf_counter() - begun, 2)
            columns |= {bound.prefix + name: values for name, values in fitted.columns.items()}
    return {"seconds": sum(parts.values()), "parts": parts}


MEASURED = {"plain": plain, "passing": passing, "whole": whole, "tables": tables}


def piece(name: str, *arguments: str) -> dict:
    """A measured function in a process of its own, with its peak memory in MB."""
    command = [sys.executable, __file__, "--piece", name, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def measure_pass(images: str, rounds: int) -> None:
    """The pass over the plain loop: medians over rounds in which they take turns."""
    ratios, rates, peaks = [], {"plain": [], "passing": []}, {"plain": [], "passing": []}
    for _ in range(rounds):
        both = {name: piece(name, images) for name in rates}
        for name, result in both.items():
            rates[name].append(result["images"] / result["seconds"])
            peaks[name].append(result["peak_mb"])
        ratios.append(both["plain"]["seconds"] / both["passing"]["seconds"])
    for name in rates:
        print(f"{name:8}: {statistics.median(rates[name]):6.0f} images/s, peak {max(peaks[name]):5.0f} MB")
    print(f"ratio   : {statistics.median(ratios):.2f} x  (each round: {', '.join(f'{r:.2f}' for r in ratios)})")


def main() -> None:
    """Run the pieces that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(PIECES)}; all unless given")
    parser.add_argument("--count", type=int, default=1000, help="images of the pass and the cold run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--piece", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.piece:
        import resource

        name, *arguments = options.piece
        result = MEASURED[name](*arguments)
        result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(json.dumps(result))
        return
    wanted = options.what or PIECES
    print(f"{os.cpu_count()} cores, {sys.platform}")
    with tempfile.TemporaryDirectory() as folder:
        if {"pass", "cold"} & set(wanted):
            images = str(draw(Path(folder) / "images", options.count))
            print(f"{options.count} drawn JPEGs of 640 x 480")
        if "pass" in wanted:
            measure_pass(images, options.rounds)
        if "cold" in wanted:
            result = piece("whole", images)
            print(f"cold run: {result['seconds']:.1f} s, peak {result['peak_mb']} MB; by part: {result['parts']}")
        if "growth" in wanted:
            print("  items  seconds  peak MB  by step")
            for count in (1000, 2000, 5000, 10000):
                result = piece("tables", str(count))
                print(f"{count:7} {result['seconds']:8.1f} {result['peak_mb']:8}  {result['parts']}")


if __name__ == "__main__":
    main()
