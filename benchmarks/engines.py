"""How fast images are embedded by a network, beside the same work written the plain way.

    python benchmarks/engines.py --photos ../shared/data/raccoon ../shared/data/clothing/train
    python benchmarks/engines.py --networks resnet50 --precision float32 --rounds 5
    python benchmarks/engines.py --quantised           # also in int8, by images of the same folders
    python benchmarks/engines.py --engine torch        # where torch sees a graphics card

plain: open with PIL, the network's own timm transform, torch in float32, eager, one image at a time, all cores.
pass: `imagier run` with that network, from files to vectors on disk, less the seconds in which the network is loaded.
decode and inference: each alone, on all cores. The pass can be no faster than 1 / (1 / decode + 1 / inference).
ready: decode, and the network's own resize and crop after it. The rest of the pass is hash, thumbnail and writing.

Photos are brought to 500 x 375 pixels; weights are random, which changes no speed. The sides of a ratio take turns in
processes of their own, since a machine's speed drifts. Needs the extra `train`.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NETWORKS = {"resnet50": "resnet50", "vit-b-32": "vit_base_patch32_224", "mobilenetv3-large": "mobilenetv3_large_100"}
SIZE = (500, 375)
BATCH = 16


def photos(sources: list[str], into: Path, count: int) -> Path:
    """JPEGs of 500 x 375 pixels, quality 90: those of the folders, or drawn ones where none is named."""
    from PIL import Image

    if not sources:
        from folder import draw

        return draw(into, count, SIZE)
    into.mkdir(parents=True)
    found = sorted(path for source in sources for path in Path(source).rglob("*.jpg"))
    if not found:
        sys.exit(f"no .jpg in {', '.join(sources)}")
    for at in range(count):
        with Image.open(found[at % len(found)]) as opened:
            picture = opened.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
        # A pixel of its own makes each file another content, also where the folders hold fewer than are wanted.
        picture.putpixel((0, 0), (at % 256, at // 256 % 256, 0))
        picture.save(into / f"photo_{at:05d}.jpg", quality=90)
    return into


# Run as `engines.py --piece NAME ARGUMENTS`, each in its own process; prints one line of JSON.


def plain(images: str, network: str, count: str) -> dict:
    """What one would write in ten lines."""
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    torch.manual_seed(0)
    model = timm.create_model(network, pretrained=False, num_classes=0).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    paths = sorted(Path(images).iterdir())[: int(count)]
    with torch.inference_mode():
        for path in paths[:3]:
            model(transform(Image.open(path).convert("RGB"))[None])
        begun = time.perf_counter()
        for path in paths:
            model(transform(Image.open(path).convert("RGB"))[None]).numpy()
    return {"rate": len(paths) / (time.perf_counter() - begun)}


def passing(images: str, folder: str, engine: str, precision: str) -> dict:
    """The pass, and how long of it the network took to load."""
    import imagier
    from imagier.execute import Pass
    from imagier.pipeline import Pipeline
    from imagier.workflows.summary import last_run

    steps = [{"embed": {"encoder": folder, "engine": engine, "precision": precision}}]
    bound = Pipeline.of(steps).bind()
    Pass(bound).load()  # the packages are imported
    begun = time.perf_counter()
    Pass(bound).load()
    loading = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as out:
        collection = imagier.run(images, into=Path(out) / "c", pipeline=steps, report=False)
        summary = last_run(collection)
    seconds = summary.seconds["pass"]
    whole = summary.decoded / seconds
    return {"rate": summary.decoded / (seconds - loading), "with_loading": whole, "used": bound[0].step.precision}


def decode(images: str, folder: str) -> dict:
    """Files to pixels at the scale that the network needs, on all cores; and to the very pixels that it takes."""
    from imagier import images as reading
    from imagier.models.model import read_model
    from imagier.models.preprocess import place, short_side

    spec = read_model(folder).card.input
    side = short_side(spec)
    files = [path.read_bytes() for path in sorted(Path(images).iterdir())]
    rate = _rate(lambda data: reading.decode(data, short_side=side), files)
    return {"rate": rate, "ready": _rate(lambda data: place(reading.decode(data, short_side=side).image, spec), files)}


def inference(images: str, folder: str, engine: str, precision: str) -> dict:
    """The network alone, on pixels that are ready, on all cores."""
    import numpy as np

    from imagier import images as reading
    from imagier.models import engines
    from imagier.models.model import read_model
    from imagier.models.preprocess import prepare

    model = read_model(folder)
    files = sorted(Path(images).iterdir())[:BATCH]
    batch, _ = prepare([reading.decode(path.read_bytes()).image for path in files], model.card.input)
    run = engines.network(model, engine=engine, precision=precision)
    run(batch)
    rounds = max(4, len(list(Path(images).iterdir())) // BATCH)
    return {"rate": BATCH * _rate(run, [np.roll(batch, at, axis=0) for at in range(rounds)])}


def _rate(work, over: list) -> float:
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, over[:cores]))
        begun = time.perf_counter()
        list(pool.map(work, over))
    return len(over) / (time.perf_counter() - begun)


PIECES = {"plain": plain, "pass": passing, "decode": decode, "inference": inference}


def piece(name: str, *arguments: object) -> dict:
    """One piece in a process of its own."""
    command = [sys.executable, __file__, "--piece", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def export(name: str, network: str, into: Path) -> Path:
    """The Model folder of a timm network with random weights."""
    from imagier.models.exporting import export as work

    work(f"timm:{network}", state=None, seed=0, name=name, task="embed", folder=into / name)
    return into / name


def quantised(folder: Path, images: Path) -> Path:
    """The same in int8."""
    from imagier import images as reading
    from imagier.models.model import read_model
    from imagier.models.quantise import quantise

    pictures = (reading.decode(path.read_bytes()).image for path in sorted(images.iterdir())[:100])
    # Random weights leave all features nearly parallel, and MobileNetV3's come out worse in int8 than real ones.
    return quantise(read_model(folder), pictures, name=f"{folder.name}-int8", least=0.5, replace=True).folder


def compare(name: str, network: str, folder: Path, images: Path, options: argparse.Namespace) -> None:
    """Print the ratios of one network."""
    engine, precision = options.engine, options.precision
    ratios, shares, readied, rates = [], [], [], []
    for _ in range(options.rounds):
        slow = piece("plain", images, network, options.plain)["rate"]
        fast = piece("pass", images, folder, engine, precision)
        pixels = piece("decode", images, folder)
        bare = piece("inference", images, folder, engine, precision)["rate"]
        ratios.append(fast["rate"] / slow)
        shares.append(fast["rate"] * (1 / pixels["rate"] + 1 / bare))
        readied.append(fast["rate"] * (1 / pixels["ready"] + 1 / bare))
        rates.append((slow, fast["rate"], fast["with_loading"], pixels["rate"], pixels["ready"], bare))
    slow, rate, whole, decoded, ready, bare = (statistics.median(each) for each in zip(*rates, strict=True))
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(
        f"{name} ({fast['used']}): pass {rate:.1f} images/s, plain {slow:.1f}: ratio {statistics.median(ratios):.2f} "
        f"({told}); decode {decoded:.0f}, inference {bare:.1f}: the pass is at {statistics.median(shares):.0%} of both "
        f"together; ready {ready:.0f}: {statistics.median(readied):.0%}; with loading {whole:.1f}",
        flush=True,
    )


def main() -> None:
    """Measure what is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", nargs="*", default=[], help="folders of .jpg files; drawn pictures if not given")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--quantised", action="store_true", help="in int8 as well")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=256, help="photos of a pass")
    parser.add_argument("--plain", type=int, default=64, help="photos of the plain loop")
    parser.add_argument("--piece", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.piece:
        name, *arguments = options.piece
        print(json.dumps(PIECES[name](*arguments)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["IMAGIER_MODELS"] = str(Path(scratch) / "models")
        images = photos(options.photos, Path(scratch) / "photos", options.count)
        for name in options.networks:
            folder = export(name, NETWORKS[name], Path(scratch) / "models")
            compare(name, NETWORKS[name], folder, images, options)
            if options.quantised:
                compare(f"{name} int8", NETWORKS[name], quantised(folder, images), images, options)


if __name__ == "__main__":
    main()
